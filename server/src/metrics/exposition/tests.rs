use super::*;
use crate::config::ledger::Holder;
use crate::metrics::DropReason;
use std::collections::{BTreeMap, BTreeSet};
use storage::sink::SinkStats;

/// A strict reader of the text format: every line is a comment of a known form or a sample of the
/// family announced last, each family comes once, no series twice.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let mut series = BTreeMap::new();
    let (mut families, mut current) = (BTreeSet::new(), (String::new(), String::new()));
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            assert!(rest.contains(' '), "help without text: {line}");
            continue;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(families.insert(name.to_owned()), "family {name} comes twice");
            current = (name.to_owned(), kind.to_owned());
            continue;
        }
        assert!(!line.starts_with('#'), "unknown comment: {line}");
        let (id, value) = line.rsplit_once(' ').unwrap();
        let name = id.split('{').next().unwrap();
        let base = match current.1.as_str() {
            "histogram" => ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| name.strip_suffix(suffix))
                .unwrap_or(name),
            _ => name,
        };
        assert_eq!(base, current.0, "sample outside of its family: {line}");
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
        assert!(series.insert(id.to_owned(), value).is_none(), "series twice: {line}");
        assert!(id.contains("server=\"s1\""), "no server label: {line}");
    }
    for family in FAMILIES {
        assert!(families.contains(family.name), "{} is never exported", family.name);
    }
    assert_eq!(families.len(), FAMILIES.len(), "a family is exported and not in the catalogue");
    series
}

fn sink() -> SinkSnapshot {
    let stats = SinkStats { dead_letters: 6, health: Health::Healthy, ..SinkStats::default() };
    let (confirmed, durable, patience_s) = (3, 2, 0);
    SinkSnapshot { sink: "one", behind: 12, lag_ms: 1_500, confirmed, durable, patience_s, stats }
}

fn view() -> View {
    let mut one = ShardSnapshot::default();
    one.engine = "uring";
    one.counters.messages_sent = 5;
    one.counters.publishes_accepted = 3;
    one.gauges.connections = 2;
    one.delivered(1_500, 7);
    one.dropped(DropReason::Slow, 4);
    one.ledger.set(Holder::Outboxes, 99);
    let mut other = one;
    other.engine = "epoll";
    other.counters.messages_sent = 10;
    other.delivered(900, 1);
    View {
        shards: vec![one, other],
        storage: StorageSnapshot { sinks: vec![sink()], ..StorageSnapshot::default() },
        process: ProcessStats::read(),
        connections_max: 1_000,
        ready: true,
        log_lines_suppressed: 8,
        cost: LiveCost { per_message: 0.25, drift_cpu: -0.5, ..LiveCost::default() },
    }
}

#[test]
fn every_family_is_exported_once_and_strictly_formed() {
    let series = parse(&Exposition::new("s1").render(&view()));
    let find = |parts: &[&str]| {
        let all: Vec<_> =
            series.iter().filter(|(id, _)| parts.iter().all(|part| id.contains(part))).collect();
        assert_eq!(all.len(), 1, "{parts:?} matches {all:?}");
        *all[0].1
    };
    assert_eq!(find(&["realtime_messages_sent_total"]), 15.0);
    assert_eq!(find(&["realtime_active_connections"]), 4.0);
    assert_eq!(find(&["realtime_connection_capacity"]), 1_000.0);
    assert_eq!(find(&["log_lines_suppressed"]), 8.0);
    assert_eq!(find(&["realtime_cost_per_message"]), 0.25);
    assert_eq!(find(&["model_drift_ratio", "figure=\"cpu\""]), -0.5);
    assert_eq!(find(&["sink_dead_letters_total", "sink=\"one\""]), 6.0);
    assert_eq!(find(&["sink_lag_seconds"]), 1.5);
    assert_eq!((find(&["sink_healthy"]), find(&["sink_lag_events"])), (1.0, 12.0));
    assert_eq!(find(&["publishes_total", "accepted", "shard=\"1\""]), 3.0);
    assert_eq!(find(&["drops_total", "reason=\"slow\"", "shard=\"0\""]), 4.0);
    assert_eq!(find(&["shardcast_info", "engine=\"epoll\"", "shard=\"1\""]), 1.0);
    assert_eq!(find(&["memory_bytes", "holder=\"outboxes\"", "shard=\"0\""]), 99.0);
    // 1.5 ms, 1.5 ms (copied) and 0.9 ms.
    assert_eq!(find(&["latency_ms_bucket", "le=\"1\""]), 1.0);
    assert_eq!(find(&["latency_ms_bucket", "le=\"5\""]), 3.0);
    assert_eq!(find(&["latency_ms_bucket", "le=\"+Inf\""]), 3.0);
    assert_eq!(find(&["latency_ms_count"]), 3.0);
    assert!((find(&["latency_ms_sum"]) - 3.9).abs() < 1e-9);
}

#[test]
fn rendering_again_replaces_and_does_not_add() {
    let exposition = Exposition::new("s1");
    let mut view = view();
    exposition.render(&view);
    view.shards[0].counters.messages_sent = 6;
    view.shards[0].gauges.connections = 0;
    let series = parse(&exposition.render(&view));
    assert_eq!(series["realtime_messages_sent_total{server=\"s1\"}"], 16.0);
    assert_eq!(series["realtime_active_connections{server=\"s1\"}"], 2.0);
}

#[test]
fn every_counted_field_has_a_family_with_its_labels_and_kind() {
    let check = |rows: &[Row], kind: Kind| {
        for row in rows {
            let family = FAMILIES.iter().find(|family| family.name == row.family);
            let family = family.unwrap_or_else(|| panic!("{} is not in the catalogue", row.family));
            assert_eq!(family.kind, kind, "{}", row.family);
            let labels: Vec<_> = row.labels.iter().map(|(name, _)| *name).collect();
            let expected: Vec<_> =
                family.labels.iter().copied().filter(|label| *label != "shard").collect();
            assert_eq!(labels, expected, "{}", row.family);
        }
    };
    check(Counters::ROWS, Kind::Counter);
    check(Gauges::ROWS, Kind::Gauge);
    check(StorageCounters::ROWS, Kind::Counter);
    check(StorageGauges::ROWS, Kind::Gauge);
}

#[test]
fn a_hostile_server_name_stays_inside_its_quotes() {
    let exposition = Exposition::new("a\"b\\c\nd");
    for line in exposition.render(&view()).lines().filter(|line| !line.starts_with('#')) {
        assert!(line.is_empty() || line.contains(r#"server="a\"b\\c\nd""#), "{line}");
    }
}
