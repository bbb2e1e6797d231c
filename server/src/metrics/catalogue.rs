//! The one list of metric families. A name that is not here does not exist: the exposition walks
//! this list, and a test compares it with the fields that feed it.
//!
//! Names that start with `realtime_` are per server; those that start with `shardcast_` carry the
//! label `shard` where a shard counts them. Everything carries `server`.

use super::drops::DROP_REASONS;

/// The Prometheus type of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Buckets, sum and count.
    Histogram,
}

impl Kind {
    /// As the text format says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// The buckets of a histogram.
#[derive(Debug, PartialEq, Eq)]
pub struct Scale {
    /// Upper bounds in ticks, ascending.
    pub bounds: &'static [u64],
    /// Ticks in one unit of the metric.
    pub ticks_per_unit: u64,
}

/// One family of metrics.
#[derive(Debug, Clone, Copy)]
pub struct Family {
    /// The name.
    pub name: &'static str,
    /// The type.
    pub kind: Kind,
    /// The unit, for the reference page; empty for plain counts.
    pub unit: &'static str,
    /// Labels besides `server`.
    pub labels: &'static [&'static str],
    /// What it says and, where that helps, what to do when it grows.
    pub help: &'static str,
    /// Buckets of a histogram.
    pub scale: Option<&'static Scale>,
}

impl Family {
    /// True if each shard has its own series.
    pub fn per_shard(&self) -> bool {
        self.labels.contains(&"shard")
    }
}

/// Milliseconds counted, seconds shown.
pub static CONNECTION_SECONDS: Scale = Scale {
    bounds: &[1_000, 10_000, 60_000, 300_000, 600_000, 1_800_000, 3_600_000, 7_200_000],
    ticks_per_unit: 1_000,
};
/// Microseconds counted, milliseconds shown.
pub static DELIVERY_MS: Scale = Scale {
    bounds: &[1_000, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000],
    ticks_per_unit: 1_000,
};
/// Microseconds counted, seconds shown.
pub static DELIVERY_SECONDS: Scale = Scale {
    bounds: &[
        50, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, 102_400, 204_800,
        409_600, 819_200, 1_638_400,
    ],
    ticks_per_unit: 1_000_000,
};
/// Recipients.
pub static FANOUT: Scale =
    Scale { bounds: &[1, 5, 10, 25, 50, 100, 500, 1_000, 5_000], ticks_per_unit: 1 };

const fn family(
    name: &'static str,
    kind: Kind,
    unit: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Family {
    Family { name, kind, unit, labels, help, scale: None }
}

const fn histogram(
    name: &'static str,
    unit: &'static str,
    scale: &'static Scale,
    help: &'static str,
) -> Family {
    Family { name, kind: Kind::Histogram, unit, labels: &[], help, scale: Some(scale) }
}

use Kind::{Counter, Gauge};

/// Every family, in the order of the reference page.
pub static FAMILIES: &[Family] = &[
    family("realtime_active_connections", Gauge, "", &[], "Connections that are open."),
    family(
        "realtime_connection_capacity",
        Gauge,
        "",
        &[],
        "Connections this server takes at most; alert at 90 %.",
    ),
    family(
        "realtime_cost_per_connection",
        Gauge,
        "",
        &[],
        "What the server costs in 30 days (`cost.server_hour`, and `cost.per_gb` at the rate of the \
         last minute) for each open connection; 0 without prices or connections.",
    ),
    family(
        "realtime_cost_per_message",
        Gauge,
        "",
        &[],
        "What the server cost over the last minute for each message delivered; 0 without prices or \
         messages.",
    ),
    family(
        "shardcast_connection_memory_bytes",
        Gauge,
        "bytes",
        &[],
        "Memory of a connection and its TLS, by the ledger, on average.",
    ),
    family(
        "shardcast_message_cpu_seconds",
        Gauge,
        "seconds",
        &[],
        "CPU of the whole process over the last minute for each message delivered.",
    ),
    family(
        "shardcast_model_drift_ratio",
        Gauge,
        "",
        &["figure"],
        "How far live figures are from `cost.calibration`: 0.3 is 30 % more. connection_bytes from \
         1,000 connections on, cpu from 5 % of a core on, otherwise 0. Beyond 0.25 either way \
         the log warns: the machine, the version or the load is not what was calibrated.",
    ),
    family(
        "realtime_connections_total",
        Counter,
        "",
        &["status"],
        "Connections by what became of them: established, closed, rejected (over a limit or not \
         allowed), error (the peer or the network broke it).",
    ),
    histogram(
        "realtime_connection_duration_seconds",
        "seconds",
        &CONNECTION_SECONDS,
        "How long closed connections had lived.",
    ),
    family(
        "realtime_messages_received_total",
        Counter,
        "",
        &[],
        "Events received from publishers, valid or not.",
    ),
    family("realtime_messages_sent_total", Counter, "", &[], "Events sent to subscribers."),
    histogram(
        "realtime_message_delivery_latency_ms",
        "milliseconds",
        &DELIVERY_MS,
        "From receipt of an event to the send to its last recipient on a shard.",
    ),
    histogram(
        "shardcast_message_delivery_latency_seconds",
        "seconds",
        &DELIVERY_SECONDS,
        "The same latency in finer buckets.",
    ),
    histogram(
        "realtime_fanout_recipients",
        "",
        &FANOUT,
        "Recipients of one event on one shard that has any.",
    ),
    family(
        "realtime_message_queue_depth",
        Gauge,
        "",
        &[],
        "Events that wait in subscribers' outboxes.",
    ),
    family(
        "realtime_delivery_errors_total",
        Counter,
        "",
        &["error_type"],
        "Deliveries that did not happen on this connection: slow (closed), dropped (drop_oldest), \
         connection_lost. shardcast_drops_total says what each means.",
    ),
    family(
        "shardcast_info",
        Gauge,
        "",
        &["version", "engine", "shard"],
        "Always 1; the labels say the version and which engine a shard runs on.",
    ),
    family("shardcast_ready", Gauge, "", &[], "1 while /health/ready answers 200."),
    family(
        "shardcast_drops_total",
        Counter,
        "",
        &["reason", "shard"],
        "What was dropped, by reason; the reference page says which are recovered.",
    ),
    family(
        "shardcast_closes_total",
        Counter,
        "",
        &["reason", "shard"],
        "Connections closed by the server, by close reason.",
    ),
    family("shardcast_bytes_total", Counter, "bytes", &["direction", "shard"], "Bytes on sockets."),
    family("shardcast_requests_total", Counter, "", &["protocol", "shard"], "HTTP requests."),
    family("shardcast_answers_total", Counter, "", &["class", "shard"], "HTTP answers by status."),
    family(
        "shardcast_publishes_total",
        Counter,
        "",
        &["outcome", "shard"],
        "Published events: accepted, duplicate (answered with the first one's position), rejected \
         (invalid or not allowed), overloaded (refused for want of room).",
    ),
    family(
        "shardcast_publishes_parked_total",
        Counter,
        "",
        &["shard"],
        "Publish requests that had to wait for a full lane.",
    ),
    family("shardcast_publishes_waiting", Gauge, "", &["shard"], "Publish requests that wait now."),
    family(
        "shardcast_lane_full_total",
        Counter,
        "",
        &["lane", "shard"],
        "Times a lane to another shard or the storage ring had no room.",
    ),
    family(
        "shardcast_resumes_total",
        Counter,
        "",
        &["outcome", "shard"],
        "Resumes: recovered without loss, or a gap told to the client with its reason.",
    ),
    family(
        "shardcast_recoveries_total",
        Counter,
        "",
        &["outcome", "shard"],
        "Clients whose missed events were looked for in the spool: recovered, lost (too many, too old \
         or incomplete; they were told), refused (too many at once, or the spool could not be read; \
         they try again).",
    ),
    family(
        "shardcast_resumed_events_total",
        Counter,
        "",
        &["shard"],
        "Events sent from history to subscribers that resumed.",
    ),
    family(
        "shardcast_floods_total",
        Counter,
        "",
        &["reason", "shard"],
        "What was refused for its rate: commands of a client (commands_ended: the client that went on \
         was sent away), commands and connects of an address, control_frames of a WebSocket, which \
         ends. The client was told; limits.client_* and limits.address_* say how much may come.",
    ),
    family(
        "shardcast_tls_errors_total",
        Counter,
        "",
        &["shard"],
        "TLS connections that failed, handshakes included.",
    ),
    family(
        "shardcast_auth_refusals_total",
        Counter,
        "",
        &["reason", "shard"],
        "Requests and events refused: missing (no token or key), invalid (or unknown), expired, \
         keys_pending (the key set is being fetched; the client tries again), forbidden (not permitted \
         in the channel), rate (over the rate of an API key).",
    ),
    family(
        "shardcast_emulation_requests_total",
        Counter,
        "",
        &["outcome", "shard"],
        "Requests that brought commands for a client on a stream: taken, gone (no such session, or not \
         any more), unknown_node (of another run or server), full (too much waits), invalid (cannot be \
         read).",
    ),
    family("shardcast_connections", Gauge, "", &["protocol", "shard"], "Connections by protocol."),
    family(
        "shardcast_connections_blocked",
        Gauge,
        "",
        &["shard"],
        "Connections whose socket is full; /debug/connections says which.",
    ),
    family("shardcast_subscriptions", Gauge, "", &["shard"], "Subscriptions to channels."),
    family("shardcast_channels", Gauge, "", &["shard"], "Channels whose home is the shard."),
    family("shardcast_outbox_bytes", Gauge, "bytes", &["shard"], "Bytes that outboxes refer to."),
    family(
        "shardcast_frames_encoded_total",
        Counter,
        "",
        &["shard"],
        "Frames encoded: one per event and wire format, whatever the number of recipients.",
    ),
    family(
        "shardcast_flat_runs_total",
        Counter,
        "",
        &["shard"],
        "Runs of frames that were joined once and shared by several connections.",
    ),
    family(
        "shardcast_compression_bytes_total",
        Counter,
        "bytes",
        &["method", "side", "shard"],
        "Bytes of messages before (in) and after (out) compression (deflate) and deltas, once per \
         event and wire format, whatever the number of recipients; out over in is what it leaves.",
    ),
    family("shardcast_sends_total", Counter, "", &["shard"], "Sends to sockets."),
    family(
        "shardcast_sends_blocked_total",
        Counter,
        "",
        &["shard"],
        "Sends that a full socket stopped short.",
    ),
    family("shardcast_turns_total", Counter, "", &["shard"], "Turns of the shard's loop."),
    family(
        "shardcast_connections_handed_on_total",
        Counter,
        "",
        &["shard"],
        "Connections given to a shard that holds fewer, right after accept.",
    ),
    family(
        "shardcast_driver_events_total",
        Counter,
        "",
        &["event", "shard"],
        "What the I/O engine counts: enters, completions, receive_buffers_exhausted, cq_overflows, \
         stale, refused (every slot taken), accept_pauses (out of descriptors).",
    ),
    family(
        "shardcast_memory_bytes",
        Gauge,
        "bytes",
        &["holder", "shard"],
        "The ledger: bytes by holder, as in `shardcast config --limits`.",
    ),
    family(
        "shardcast_log_lines_suppressed_total",
        Counter,
        "",
        &[],
        "Log lines over the rate that clients may cause; final.",
    ),
    family("shardcast_spool_events_total", Counter, "", &[], "Events appended to the spool."),
    family("shardcast_spool_written_bytes_total", Counter, "bytes", &[], "Bytes appended to it."),
    family(
        "shardcast_spool_syncs_total",
        Counter,
        "",
        &["result"],
        "Syncs of the spool. An error is never retried on the same segment; look at the disk.",
    ),
    family("shardcast_spool_segments_deleted_total", Counter, "", &[], "Segments past retention."),
    family("shardcast_spool_lag_bytes", Gauge, "bytes", &[], "Events accepted and not yet synced."),
    family(
        "shardcast_spool_memory_bytes",
        Gauge,
        "bytes",
        &[],
        "Buffers and tables of the writer.",
    ),
    family("shardcast_spool_bytes", Gauge, "bytes", &[], "Size of the spool on disk."),
    family("shardcast_spool_segments", Gauge, "", &[], "Segment files."),
    family(
        "shardcast_spool_refusing",
        Gauge,
        "",
        &[],
        "1 while publishes to stored namespaces are refused because the disk or the spool is full, or broken.",
    ),
    family(
        "shardcast_sink_events_total",
        Counter,
        "",
        &["sink"],
        "Events a store beside the spool has confirmed.",
    ),
    family("shardcast_sink_bytes_total", Counter, "bytes", &["sink"], "Bytes of those events."),
    family(
        "shardcast_sink_batches_total",
        Counter,
        "",
        &["sink"],
        "Inserts confirmed, or files written.",
    ),
    family(
        "shardcast_sink_retries_total",
        Counter,
        "",
        &["sink"],
        "Inserts or files that failed and are tried again; nothing is lost. The log and \
         `shardcast storage status` say why.",
    ),
    family(
        "shardcast_sink_splits_total",
        Counter,
        "",
        &["sink"],
        "Inserts divided because the store wanted less at once, or to find a row it rejects.",
    ),
    family(
        "shardcast_sink_dead_letters_total",
        Counter,
        "",
        &["sink"],
        "Events the store rejected; kept as dead letters, `shardcast storage replay` sends them again.",
    ),
    family(
        "shardcast_sink_missed_events_total",
        Counter,
        "",
        &["sink"],
        "Events that had left the spool before the store was configured; it does not have them.",
    ),
    family(
        "shardcast_sink_expired_files_total",
        Counter,
        "",
        &["sink"],
        "Parquet files deleted because they were older than `storage.parquet.retention_days`.",
    ),
    family(
        "shardcast_sink_lag_events",
        Gauge,
        "",
        &["sink"],
        "Events in the spool that the store has not confirmed.",
    ),
    family(
        "shardcast_sink_lag_seconds",
        Gauge,
        "seconds",
        &["sink"],
        "Age of the oldest of them; alert above 10, for `parquet` above `storage.parquet.seal_s` and a \
         minute.",
    ),
    family(
        "shardcast_sink_healthy",
        Gauge,
        "",
        &["sink"],
        "1 while the store takes events, 0 while it is retried or needs a person.",
    ),
    family(
        "shardcast_sink_feed_bytes",
        Gauge,
        "bytes",
        &[],
        "Events in memory for the stores beside the spool.",
    ),
    family(
        "shardcast_reconcile_runs_total",
        Counter,
        "",
        &["result"],
        "Looks at the minutes that late events belong to. An error is tried again; see the log.",
    ),
    family(
        "shardcast_reconcile_corrected_minutes_total",
        Counter,
        "",
        &[],
        "Minutes of a channel and type whose count was wrong and has been put right.",
    ),
    family(
        "shardcast_reconcile_difference_events_total",
        Counter,
        "",
        &[],
        "Events by which those counts were wrong: what arrived more than 30 s late.",
    ),
    family("process_resident_memory_bytes", Gauge, "bytes", &[], "Resident set of the process."),
    family("process_cpu_seconds_total", Counter, "seconds", &[], "CPU time, user and system."),
    family("process_open_fds", Gauge, "", &[], "Open descriptors."),
    family("process_max_fds", Gauge, "", &[], "Descriptors the process may open."),
    family("process_start_time_seconds", Gauge, "seconds", &[], "When it started, in Unix time."),
];

/// `docs/reference/metrics.md`.
pub fn page() -> String {
    use std::fmt::Write;
    let mut out = String::from(
        "<!-- Generated by `shardcast config --reference metrics`; edit \
         server/src/metrics/catalogue.rs. -->\n# Metrics\n\n`GET /metrics` on the admin listener, \
         Prometheus text format. Every series has the label `server`\n(`server_name` in the \
         configuration, otherwise the host's name).\n\n| metric | type | labels | meaning |\n\
         |---|---|---|---|\n",
    );
    for family in FAMILIES {
        let labels = family.labels.iter().map(|label| format!("`{label}`"));
        let labels = labels.collect::<Vec<_>>().join(", ");
        let mut help = family.help.to_owned();
        if let Some(scale) = family.scale {
            let bounds = scale
                .bounds
                .iter()
                .map(|bound| (*bound as f64 / scale.ticks_per_unit as f64).to_string());
            help += &format!(" Buckets: {}.", bounds.collect::<Vec<_>>().join(" "));
        }
        let (name, kind) = (family.name, family.kind.name());
        let _ = writeln!(out, "| `{name}` | {kind} | {labels} | {help} |");
    }
    out += "\n## Reasons of `shardcast_drops_total`\n\n| reason | meaning |\n|---|---|\n";
    for row in DROP_REASONS {
        let _ = writeln!(out, "| `{}` | {} |", row.name, row.help);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_follow_the_rules() {
        let mut names = BTreeSet::new();
        for family in FAMILIES {
            assert!(names.insert(family.name), "{} is there twice", family.name);
            let total = family.name.ends_with("_total");
            assert_eq!(total, family.kind == Kind::Counter, "{}", family.name);
            assert_eq!(family.scale.is_some(), family.kind == Kind::Histogram);
            assert!(family.help.ends_with('.'), "{}", family.name);
            assert!(page().contains(&format!("| `{}` |", family.name)));
        }
        for (index, row) in DROP_REASONS.iter().enumerate() {
            assert_eq!(row.reason as usize, index);
        }
    }

    #[test]
    fn bounds_ascend() {
        for scale in FAMILIES.iter().filter_map(|family| family.scale) {
            assert!(scale.bounds.is_sorted_by(|a, b| a < b));
        }
    }
}
