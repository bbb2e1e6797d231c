//! What the admin listener says about the stores.

use super::routes::SharedState;
use crate::metrics::SinkSnapshot;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use storage::clickhouse::corrections::JobStats;
use storage::sink::Health;

/// `GET /admin/storage`.
pub(super) async fn status(State(shared): SharedState) -> Response {
    let storage = shared.context.storage.read();
    let (counters, gauges) = (storage.counters, storage.gauges);
    axum::Json(json!({
        "read": shared.context.config.storage.read,
        "spool": {
            "events": counters.events_appended,
            "bytes_on_disk": gauges.bytes,
            "segments": gauges.segments,
            "unsynced_bytes": gauges.lag_bytes,
            "refusing": gauges.refusing == 1,
        },
        "sinks": storage.sinks.iter().map(sink).collect::<Vec<_>>(),
        "reconcile": storage.reconcile.as_ref().map(reconcile),
    }))
    .into_response()
}

/// `GET /health/storage`: 503 while a store takes nothing or is too far behind.
pub(super) async fn health(State(shared): SharedState) -> Response {
    let lag_s_max = u64::from(shared.context.config.storage.lag_s_max);
    let storage = shared.context.storage.read();
    let mut reasons: Vec<String> =
        storage.sinks.iter().filter_map(|sink| complaint(sink, lag_s_max)).collect();
    reasons.extend(storage.refusal.map(str::to_owned));
    let status = match reasons.is_empty() {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    let text = if reasons.is_empty() { "healthy" } else { "behind" };
    (status, axum::Json(json!({ "status": text, "reasons": reasons }))).into_response()
}

fn reconcile(job: &JobStats) -> Value {
    json!({
        "runs": job.runs,
        "failures": job.failures,
        "corrected_minutes": job.corrected,
        "difference_events": job.difference,
        "last": { "minutes": job.last.minutes, "corrected": job.last.corrected,
                  "difference": job.last.difference, "events": job.last.events },
        "error": job.error,
    })
}

fn complaint(sink: &SinkSnapshot, lag_s_max: u64) -> Option<String> {
    let (name, lag_s) = (sink.sink, sink.lag_ms / 1_000);
    match sink.stats.health {
        Health::Stuck | Health::Retrying => {
            let error = sink.stats.error.as_deref().unwrap_or("no reason is known");
            Some(format!("{name} takes nothing, {} events wait: {error}", sink.behind))
        }
        _ if lag_s > lag_s_max + sink.patience_s => Some(format!(
            "{name} is {lag_s} s behind, {} events wait (`storage.lag_s_max` is {lag_s_max})",
            sink.behind
        )),
        _ => None,
    }
}

fn sink(sink: &SinkSnapshot) -> Value {
    let stats = &sink.stats;
    json!({
        "sink": sink.sink,
        "health": stats.health.as_str(),
        "error": stats.error,
        "confirmed_seq": sink.confirmed,
        "cursor_seq": sink.durable,
        "behind": sink.behind,
        "lag_ms": sink.lag_ms,
        "events": stats.events,
        "bytes": stats.bytes,
        "batches": stats.batches,
        "retries": stats.retries,
        "splits": stats.splits,
        "dead_letters": stats.dead_letters,
        "missed": stats.missed,
        "expired": stats.expired,
    })
}
