//! Late events: marked, left out of the minutes, and put right by reconciliation.

use super::{plan, settled, value};
use crate::rig::clickhouse::ClickHouse;
use crate::rig::until;

/// Publishes an event for each time, as given or "now".
fn lines(prefix: &str, times: &[&str]) -> String {
    let line = |(n, time): (usize, &&str)| {
        let time = match *time {
            "now" => String::new(),
            time => format!(r#","time":"{time}""#),
        };
        format!(
            "{{\"channel\":\"shop\",\"type\":\"order\",\"id\":\"{prefix}{n}\"{time},\"data\":1}}\n"
        )
    };
    times.iter().enumerate().map(line).collect()
}

const SHOWN: &str = "SELECT sum(events), uniqExact(minute) FROM shardcast.events_by_minute";

#[test]
fn a_late_event_is_counted_after_reconciliation_and_a_second_run_changes_nothing() {
    let store = ClickHouse::start();
    let folder = tempfile::tempdir().expect("a folder");
    let plan = plan(folder.path(), &store.url()).set("storage.clickhouse.reconcile_s=1");
    let server = plan.start();
    let reconciled = |server: &crate::rig::process::Process| {
        let runs = || server.get_admin("/admin/storage").json()["reconcile"]["runs"].as_u64();
        let before = runs();
        until("two more runs", || runs() >= before.map(|runs| runs + 2));
    };
    let old = "2026-01-02T03:04:05Z";
    let body = lines("a", &["now", "now", old, old, "0001-01-01T00:00:00Z"]);
    assert_eq!(server.post("/v1/events", "application/x-ndjson", body).status, 202);
    settled(&server);
    assert_eq!(value(&store, "SELECT count() FROM shardcast.events_late"), "3");
    reconciled(&server);
    assert_eq!(value(&store, SHOWN).split('\t').next(), Some("5"));
    let minute = "SELECT events FROM shardcast.events_by_minute WHERE minute = \
                  toDateTime('2026-01-02 03:04:00', 'UTC')";
    assert_eq!(value(&store, minute), "2");
    assert_eq!(server.metric("shardcast_reconcile_difference_events_total"), 3.0);
    let rows = value(&store, "SELECT count() FROM shardcast.minute_corrections");
    reconciled(&server);
    assert_eq!(value(&store, "SELECT count() FROM shardcast.minute_corrections"), rows);
    assert_eq!(server.metric("shardcast_reconcile_difference_events_total"), 3.0);
    // Another late one for the same minute, and one that came in time.
    let body = lines("b", &[old, "now"]);
    assert_eq!(server.post("/v1/events", "application/x-ndjson", body).status, 202);
    settled(&server);
    reconciled(&server);
    assert_eq!(value(&store, minute), "3");
    assert_eq!(value(&store, SHOWN).split('\t').next(), Some("7"));
    assert_eq!(server.metric("shardcast_reconcile_difference_events_total"), 4.0);
}
