//! `/metrics`: snapshots in, Prometheus text out. Lives on the control thread.

use super::catalogue::{FAMILIES, Family, Kind};
use super::cost::{self, LiveCost};
use super::drops::DROP_REASONS;
use super::process::ProcessStats;
use super::snapshot::{
    Counters, Gauges, Histogram, Row, ShardSnapshot, SinkSnapshot, StorageCounters, StorageGauges,
    StorageSnapshot,
};
use crate::config::ledger::HOLDERS;
use metrics::{Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use proto::reason::REASONS;
use std::fmt::Write;
use storage::clickhouse::corrections::JobStats;
use storage::sink::Health;

/// Everything a scrape is made from.
#[derive(Debug, Clone)]
pub struct View {
    /// One per shard, in order.
    pub shards: Vec<ShardSnapshot>,
    /// The storage thread.
    pub storage: StorageSnapshot,
    /// The process.
    pub process: ProcessStats,
    /// Connections taken at most.
    pub connections_max: u64,
    /// `/health/ready` answers 200.
    pub ready: bool,
    /// See [`crate::log`].
    pub log_lines_suppressed: u64,
    /// What things cost at the moment.
    pub cost: LiveCost,
}

/// The recorder behind `/metrics`.
pub struct Exposition {
    server: String,
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
}

impl Exposition {
    /// A recorder of its own; `server` is the value of that label on every series.
    pub fn new(server: &str) -> Self {
        let recorder = PrometheusBuilder::new().add_global_label("server", server).build_recorder();
        for family in FAMILIES {
            match family.kind {
                Kind::Counter if family.name != CPU_SECONDS => {
                    recorder.describe_counter(family.name.into(), None, family.help.into());
                }
                Kind::Gauge => {
                    recorder.describe_gauge(family.name.into(), None, family.help.into());
                }
                Kind::Counter | Kind::Histogram => {}
            }
        }
        let handle = recorder.handle();
        Self { server: server.to_owned(), recorder, handle }
    }

    /// The text of one scrape.
    pub fn render(&self, view: &View) -> String {
        self.feed_process(view);
        self.feed_shards(&view.shards);
        let storage = &view.storage;
        for (row, value) in StorageCounters::ROWS.iter().zip(storage.counters.values()) {
            self.counter(row.family, row.labels, None, value);
        }
        for (row, value) in StorageGauges::ROWS.iter().zip(storage.gauges.values()) {
            self.gauge(row.family, row.labels, None, value as f64);
        }
        storage.sinks.iter().for_each(|sink| self.feed_sink(sink));
        self.feed_reconcile(&storage.reconcile.clone().unwrap_or_default());
        let mut out = self.handle.render();
        self.render_cpu_seconds(view.process.cpu_seconds, &mut out);
        self.render_histograms(&view.shards, &mut out);
        out
    }

    fn feed_reconcile(&self, job: &JobStats) {
        for (result, runs) in [("ok", job.runs), ("error", job.failures)] {
            self.counter("shardcast_reconcile_runs_total", &[("result", result)], None, runs);
        }
        let corrected = "shardcast_reconcile_corrected_minutes_total";
        self.counter(corrected, &[], None, job.corrected);
        let difference = "shardcast_reconcile_difference_events_total";
        self.counter(difference, &[], None, job.difference);
    }

    fn feed_sink(&self, sink: &SinkSnapshot) {
        let (labels, stats) = ([("sink", sink.sink)], &sink.stats);
        for (family, value) in [
            ("shardcast_sink_events_total", stats.events),
            ("shardcast_sink_bytes_total", stats.bytes),
            ("shardcast_sink_batches_total", stats.batches),
            ("shardcast_sink_retries_total", stats.retries),
            ("shardcast_sink_splits_total", stats.splits),
            ("shardcast_sink_dead_letters_total", stats.dead_letters),
            ("shardcast_sink_missed_events_total", stats.missed),
            ("shardcast_sink_expired_files_total", stats.expired),
        ] {
            self.counter(family, &labels, None, value);
        }
        let healthy = f64::from(u8::from(stats.health == Health::Healthy));
        self.gauge("shardcast_sink_healthy", &labels, None, healthy);
        self.gauge("shardcast_sink_lag_events", &labels, None, sink.behind as f64);
        self.gauge("shardcast_sink_lag_seconds", &labels, None, sink.lag_ms as f64 / 1_000.0);
    }

    fn feed_process(&self, view: &View) {
        let process = &view.process;
        let gauge = |name, value| self.gauge(name, &[], None, value);
        gauge("realtime_connection_capacity", view.connections_max as f64);
        gauge("shardcast_ready", f64::from(u8::from(view.ready)));
        let suppressed = view.log_lines_suppressed;
        self.counter("shardcast_log_lines_suppressed_total", &[], None, suppressed);
        let live = &view.cost;
        gauge("realtime_cost_per_connection", live.per_connection);
        gauge("realtime_cost_per_message", live.per_message);
        gauge("shardcast_connection_memory_bytes", live.connection_bytes);
        gauge("shardcast_message_cpu_seconds", live.message_cpu_seconds);
        for (figure, drift) in [(cost::MEMORY, live.drift_memory), (cost::CPU, live.drift_cpu)] {
            self.gauge("shardcast_model_drift_ratio", &[("figure", figure)], None, drift);
        }
        gauge("process_resident_memory_bytes", process.resident_bytes as f64);
        gauge("process_open_fds", process.fds_open as f64);
        gauge("process_max_fds", process.fds_max as f64);
        gauge("process_start_time_seconds", process.start_seconds);
    }

    fn feed_shards(&self, shards: &[ShardSnapshot]) {
        let (mut counters, mut gauges) = (Counters::default(), Gauges::default());
        for (index, shard) in shards.iter().enumerate() {
            counters.add(&shard.counters);
            gauges.add(&shard.gauges);
            self.feed_shard(&index.to_string(), shard);
        }
        for (row, value) in rows_of_server(Counters::ROWS, counters.values()) {
            self.counter(row.family, row.labels, None, value);
        }
        for (row, value) in rows_of_server(Gauges::ROWS, gauges.values()) {
            self.gauge(row.family, row.labels, None, value as f64);
        }
    }

    fn feed_shard(&self, index: &str, shard: &ShardSnapshot) {
        let own = Some(index);
        for (row, value) in rows_of_shard(Counters::ROWS, shard.counters.values()) {
            self.counter(row.family, row.labels, own, value);
        }
        for (row, value) in rows_of_shard(Gauges::ROWS, shard.gauges.values()) {
            self.gauge(row.family, row.labels, own, value as f64);
        }
        for row in DROP_REASONS {
            let dropped = shard.drops(row.reason);
            self.counter("shardcast_drops_total", &[("reason", row.name)], own, dropped);
        }
        for row in REASONS {
            let closed = shard.closes(row.reason);
            self.counter("shardcast_closes_total", &[("reason", row.name)], own, closed);
        }
        for row in HOLDERS {
            let bytes = shard.ledger.get(row.holder) as f64;
            self.gauge("shardcast_memory_bytes", &[("holder", row.name)], own, bytes);
        }
        let driver = &shard.driver;
        for (event, value) in [
            ("enters", driver.enters),
            ("completions", driver.completions),
            ("receive_buffers_exhausted", driver.receive_buffers_exhausted),
            ("cq_overflows", driver.cq_overflows),
            ("stale", driver.stale),
            ("refused", driver.refused),
            ("accept_pauses", driver.accept_pauses),
        ] {
            self.counter("shardcast_driver_events_total", &[("event", event)], own, value);
        }
        if !shard.engine.is_empty() {
            let labels = [("version", env!("CARGO_PKG_VERSION")), ("engine", shard.engine)];
            self.gauge("shardcast_info", &labels, own, 1.0);
        }
    }

    fn counter(
        &self,
        name: &'static str,
        labels: &[(&'static str, &'static str)],
        shard: Option<&str>,
        value: u64,
    ) {
        self.recorder.register_counter(&key(name, labels, shard), &METADATA).absolute(value);
    }

    fn gauge(
        &self,
        name: &'static str,
        labels: &[(&'static str, &'static str)],
        shard: Option<&str>,
        value: f64,
    ) {
        self.recorder.register_gauge(&key(name, labels, shard), &METADATA).set(value);
    }

    /// Counters are whole numbers in the facade, and whole seconds are too coarse here.
    fn render_cpu_seconds(&self, seconds: f64, out: &mut String) {
        let family = FAMILIES.iter().find(|family| family.name == CPU_SECONDS);
        let help = family.map_or("", |family| family.help);
        let server = escape(&self.server);
        let _ = writeln!(out, "# HELP {CPU_SECONDS} {help}\n# TYPE {CPU_SECONDS} counter");
        let _ = writeln!(out, "{CPU_SECONDS}{{server=\"{server}\"}} {seconds}\n");
    }

    fn render_histograms(&self, shards: &[ShardSnapshot], out: &mut String) {
        for family in FAMILIES.iter().filter(|family| family.kind == Kind::Histogram) {
            let Some(pick) = histogram_of(family) else { continue };
            let mut sum = pick(&ShardSnapshot::default());
            for shard in shards {
                sum.add(&pick(shard));
            }
            self.render_histogram(family, &sum, out);
        }
    }

    fn render_histogram(&self, family: &Family, histogram: &Histogram, out: &mut String) {
        let (name, server) = (family.name, escape(&self.server));
        let _ = writeln!(out, "# HELP {name} {}", family.help);
        let _ = writeln!(out, "# TYPE {name} histogram");
        let scale = histogram.scale();
        let counts = histogram.cumulative();
        for (bound, count) in scale.bounds.iter().zip(&counts) {
            let le = *bound as f64 / scale.ticks_per_unit as f64;
            let _ = writeln!(out, "{name}_bucket{{server=\"{server}\",le=\"{le}\"}} {count}");
        }
        let all = counts.last().copied().unwrap_or_default();
        let _ = writeln!(out, "{name}_bucket{{server=\"{server}\",le=\"+Inf\"}} {all}");
        let _ = writeln!(out, "{name}_sum{{server=\"{server}\"}} {}", histogram.sum());
        let _ = writeln!(out, "{name}_count{{server=\"{server}\"}} {all}\n");
    }
}

fn key(name: &'static str, labels: &[(&'static str, &'static str)], shard: Option<&str>) -> Key {
    let mut all: Vec<Label> =
        labels.iter().map(|(name, value)| Label::from_static_parts(name, value)).collect();
    all.extend(shard.map(|shard| Label::new("shard", shard.to_owned())));
    Key::from_parts(name, all)
}

/// Which field of a snapshot a histogram family shows.
fn histogram_of(family: &Family) -> Option<fn(&ShardSnapshot) -> Histogram> {
    Some(match family.name {
        "realtime_connection_duration_seconds" => |shard| shard.connection_duration,
        "realtime_message_delivery_latency_ms" => |shard| shard.delivery_latency_ms,
        "shardcast_message_delivery_latency_seconds" => |shard| shard.delivery_latency_s,
        "realtime_fanout_recipients" => |shard| shard.fanout,
        _ => return None,
    })
}

fn per_shard(row: &Row) -> bool {
    FAMILIES.iter().any(|family| family.name == row.family && family.per_shard())
}

fn rows_of_server(rows: &'static [Row], values: Vec<u64>) -> impl Iterator<Item = (Row, u64)> {
    rows.iter().copied().zip(values).filter(|(row, _)| !per_shard(row))
}

fn rows_of_shard(rows: &'static [Row], values: Vec<u64>) -> impl Iterator<Item = (Row, u64)> {
    rows.iter().copied().zip(values).filter(|(row, _)| per_shard(row))
}

/// A label value in the text format.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

const CPU_SECONDS: &str = "process_cpu_seconds_total";

static METADATA: Metadata<'static> = Metadata::new("shardcast", Level::INFO, None);

#[cfg(test)]
mod tests;
