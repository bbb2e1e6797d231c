//! What the admin listener answers. Errors are JSON: `{"error":{"code","message"}}`.

use super::port::{ControlCommand, DrainOrder, Reply};
use super::storage;
use super::{AdminAccess, Context, REPLY_TIMEOUT};
use crate::config::ledger::{self, HOLDERS};
use crate::metrics::process::ProcessStats;
use crate::metrics::{Exposition, View};
use crate::shard::ConnectionReport;
use crate::shard::http::guard;
use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// What handlers share.
pub(super) struct Shared {
    pub(super) context: Context,
    exposition: Exposition,
}

pub(super) type SharedState = State<Arc<Shared>>;

/// All routes behind the guards.
pub(super) fn router(context: Context) -> Router {
    let exposition = Exposition::new(&context.config.server_label());
    let shared = Arc::new(Shared { context, exposition });
    Router::new()
        .route("/", get(index))
        .route("/metrics", get(metrics))
        .route("/debug/memory", get(memory))
        .route("/debug/connections", get(connections))
        .route("/admin/drain", post(drain))
        .route("/admin/storage", get(storage::status))
        .route("/health/storage", get(storage::health))
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(shared.clone(), guarded))
        .with_state(shared)
}

/// Names and origins first, then a time limit for the whole request.
async fn guarded(State(shared): SharedState, request: Request, next: Next) -> Response {
    let loopback = guard::is_loopback(shared.context.config.admin_listen.ip());
    let refused = refusal(loopback, request.uri(), request.headers())
        .or_else(|| locked(&shared.context.admin, request.uri(), request.headers()));
    let mut response = match refused {
        Some(refused) => refused,
        None => timeout(REQUEST_TIMEOUT, next.run(request)).await.unwrap_or_else(|_| {
            let message = format!("the request took longer than {REQUEST_TIMEOUT:?}");
            error(StatusCode::REQUEST_TIMEOUT, "timeout", &message)
        }),
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// See [`guard`]. A server that is meant to be reached remotely may have any name; browsers of
/// foreign origins are refused in every case.
fn refusal(loopback: bool, uri: &Uri, headers: &HeaderMap) -> Option<Response> {
    //= rfc9112#3.2 a request without exactly one Host is answered with 400
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        let message = "send exactly one Host field";
        return Some(error(StatusCode::BAD_REQUEST, "bad_host", message));
    };
    let host = host.to_str().unwrap_or_default();
    let named = uri.authority().map_or(host, |authority| authority.as_str());
    if loopback && !(guard::is_loopback_host(host) && guard::is_loopback_host(named)) {
        let message = "the admin listener answers on loopback names only; use `localhost` or \
                       `127.0.0.1`";
        return Some(error(StatusCode::MISDIRECTED_REQUEST, "bad_host", message));
    }
    let origin = headers.get(header::ORIGIN)?.to_str().unwrap_or_default();
    if guard::is_loopback_origin(origin) {
        return None;
    }
    let message = "web pages of other origins may not use the admin listener";
    Some(error(StatusCode::FORBIDDEN, "bad_origin", message))
}

/// Without the token, where there is one. That the process lives and wants traffic is no secret.
fn locked(access: &AdminAccess, uri: &Uri, headers: &HeaderMap) -> Option<Response> {
    if !access.is_closed() || matches!(uri.path(), "/health/live" | "/health/ready") {
        return None;
    }
    let field = headers.get(header::AUTHORIZATION).and_then(|field| field.to_str().ok());
    let shown = field.and_then(|field| field.split_once(' '));
    let shown = shown.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    if shown.is_some_and(|(_, token)| access.opens(token.trim())) {
        return None;
    }
    let message = "send the token of `admin_token` or an API key with `admin = true` as \
                   `Authorization: Bearer`";
    let mut response = error(StatusCode::UNAUTHORIZED, "unauthenticated", message);
    let challenge = HeaderValue::from_static("Bearer realm=\"shardcast-admin\"");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    Some(response)
}

async fn index() -> Response {
    axum::Json(json!({
        "GET /metrics": "Prometheus text format",
        "GET /debug/memory": "who holds memory, per shard, beside the plan",
        "GET /debug/connections?limit=20": "who is slow and why",
        "POST /admin/drain": "send clients away, optionally {\"rate\": clients per second}",
        "GET /admin/storage": "the stores: how far each is, what it lacks and why",
        "GET /health/live": "the process answers",
        "GET /health/storage": "every store takes events and is not far behind",
        "GET /health/ready": "the server wants traffic",
    }))
    .into_response()
}

async fn metrics(State(shared): SharedState) -> Response {
    let context = &shared.context;
    let view = View {
        shards: context.shards.iter().map(|shard| shard.snapshot.read()).collect(),
        storage: context.storage.read(),
        process: ProcessStats::read(),
        connections_max: u64::from(context.budget.connections_max),
        ready: context.readiness.is_ready(),
        log_lines_suppressed: crate::log::suppressed_lines(),
        cost: context.cost.live(),
    };
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], shared.exposition.render(&view)).into_response()
}

async fn memory(State(shared): SharedState) -> Response {
    let budget = &shared.context.budget;
    let stats = ProcessStats::read();
    let resident = stats.resident_bytes;
    let storage = shared.context.storage.read().gauges;
    let (spool_writer, feed) = (storage.memory_bytes, storage.feed_bytes);
    let mut accounted = stats.program_bytes + spool_writer + feed;
    let mut shards = Vec::new();
    for (index, shard) in shared.context.shards.iter().enumerate() {
        let ledger = shard.snapshot.read().ledger;
        accounted += ledger.resident_bytes();
        let holders = HOLDERS.iter().map(|row| {
            let line = budget.shard_lines.iter().find(|line| line.name == row.name);
            let planned = line.map_or(0, |line| line.bytes());
            let bytes = ledger.get(row.holder);
            let entry = json!({
                "bytes": bytes, "planned_bytes": planned, "resident": row.resident, "is": row.help,
            });
            (row.name.to_owned(), entry)
        });
        shards.push(json!({
            "shard": index,
            "resident_bytes": ledger.resident_bytes(),
            "holders": holders.collect::<Map<_, _>>(),
        }));
    }
    let process = budget.process_lines.iter().map(|line| {
        let bytes = match line.name {
            ledger::PROGRAM => Some(stats.program_bytes),
            ledger::SPOOL_WRITER => Some(spool_writer),
            ledger::SINKS => Some(feed),
            // Not counted as it goes: part of what is not accounted for.
            _ => None,
        };
        (line.name.to_owned(), json!({ "bytes": bytes, "planned_bytes": line.bytes() }))
    });
    axum::Json(json!({
        "process_resident_bytes": resident,
        "ledger_bytes": accounted,
        "unaccounted_bytes": resident as i64 - accounted as i64,
        "planned_bytes": budget.total_bytes(),
        "memory_bytes_max": budget.memory_bytes,
        "process": process.collect::<Map<_, _>>(),
        "shards": shards,
    }))
    .into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConnectionsQuery {
    #[serde(default = "connections_limit_default")]
    limit: usize,
}

async fn connections(
    State(shared): SharedState,
    query: Result<Query<ConnectionsQuery>, QueryRejection>,
) -> Response {
    let limit = match query {
        Ok(Query(query)) if (1..=CONNECTIONS_LIMIT_MAX).contains(&query.limit) => query.limit,
        Ok(_) => {
            let message = format!("`limit` must be from 1 to {CONNECTIONS_LIMIT_MAX}");
            return error(StatusCode::BAD_REQUEST, "bad_limit", &message);
        }
        Err(rejection) => {
            return error(StatusCode::BAD_REQUEST, "bad_query", &rejection.body_text());
        }
    };
    let (mut found, silent) = ask_shards(&shared.context, limit).await;
    // The slowest first: by what waits for them, then by how long they have been blocked.
    found.sort_by_key(|(_, report)| {
        std::cmp::Reverse((report.queued_bytes, report.blocked_ms.unwrap_or(0)))
    });
    found.truncate(limit);
    let connections = found.into_iter().map(|(shard, report)| {
        let mut entry = serde_json::to_value(report).unwrap_or_default();
        entry["shard"] = json!(shard);
        entry
    });
    let connections: Vec<Value> = connections.collect();
    axum::Json(json!({ "connections": connections, "shards_without_answer": silent }))
        .into_response()
}

/// Asks every shard at once and waits for all together. Those that do not answer are named.
async fn ask_shards(
    context: &Context,
    limit: usize,
) -> (Vec<(usize, ConnectionReport)>, Vec<usize>) {
    let deadline = Instant::now() + REPLY_TIMEOUT;
    let mut waiting = Vec::new();
    let mut silent = Vec::new();
    for (index, shard) in context.shards.iter().enumerate() {
        let (reply, answer) = Reply::channel();
        match shard.port.send(ControlCommand::Connections { limit, reply }) {
            Ok(()) => waiting.push((index, answer)),
            Err(_) => silent.push(index),
        }
    }
    let mut found = Vec::new();
    for (index, answer) in waiting {
        match timeout_at(deadline, answer).await {
            Ok(Ok(reports)) => found.extend(reports.into_iter().map(|report| (index, report))),
            Ok(Err(_)) | Err(_) => silent.push(index),
        }
    }
    silent.sort_unstable();
    (found, silent)
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct DrainBody {
    rate: Option<u32>,
}

async fn drain(State(shared): SharedState, body: Result<Bytes, BytesRejection>) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(rejection) => {
            return error(rejection.status(), "bad_body", &rejection.body_text());
        }
    };
    let body = match body.trim_ascii() {
        b"" => DrainBody::default(),
        text => match serde_json::from_slice(text) {
            Ok(body) => body,
            Err(reason) => {
                let message = format!("expected {{\"rate\": clients per second}}: {reason}");
                return error(StatusCode::BAD_REQUEST, "bad_body", &message);
            }
        },
    };
    if body.rate == Some(0) {
        let message = "`rate` must be at least 1; leave it out to spread over drain_time_s";
        return error(StatusCode::BAD_REQUEST, "bad_rate", message);
    }
    let context = &shared.context;
    let started = context.operator.drain(DrainOrder { rate_per_s: body.rate });
    let shards = context.shards.iter();
    let remaining: u64 = shards.map(|shard| shard.snapshot.read().gauges.connections).sum();
    let status = if started { StatusCode::ACCEPTED } else { StatusCode::OK };
    let answer = json!({
        "draining": true,
        "started": started,
        "remaining": remaining,
        "rate": body.rate,
        "drain_time_s": context.config.drain_time_s,
    });
    (status, axum::Json(answer)).into_response()
}

async fn live() -> Response {
    axum::Json(json!({ "status": "live" })).into_response()
}

async fn ready(State(shared): SharedState) -> Response {
    let readiness = &shared.context.readiness;
    let status = match readiness.is_ready() {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, axum::Json(json!({ "status": readiness.state().reason() }))).into_response()
}

async fn not_found(uri: Uri) -> Response {
    let message = format!("there is no {}; GET / lists what there is", uri.path());
    error(StatusCode::NOT_FOUND, "not_found", &message)
}

async fn method_not_allowed(method: Method, uri: Uri) -> Response {
    let message = format!("{} does not take {method}; GET / lists what there is", uri.path());
    error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &message)
}

fn error(status: StatusCode, code: &str, message: &str) -> Response {
    (status, axum::Json(json!({ "error": { "code": code, "message": message } }))).into_response()
}

fn connections_limit_default() -> usize {
    20
}

const CONNECTIONS_LIMIT_MAX: usize = 1_000;
const BODY_BYTES_MAX: usize = 16 << 10;
/// From the end of the head to the start of the answer; more than a shard may take to reply.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
