//! The store is away for longer than the spool has room, or comes when the spool has already
//! forgotten: nothing is lost in silence.

use super::{connected, plan, publish, settled, sink, value};
use crate::rig::clickhouse::ClickHouse;
use crate::rig::fault_proxy::{FaultProxy, Mode};
use crate::rig::process::Plan;
use crate::rig::{Cell, Process, until};

const MIB: u64 = 1 << 20;

/// Small segments, and room for a few of them.
fn small(plan: Plan) -> Plan {
    plan.set("spool.segment_bytes=1048576")
        .set("limits.message_bytes_max=100000")
        .set("spool.retention_bytes=4194304")
        .set("spool.checkpoint_bytes=1048576")
}

/// Publishes about 400 KB in one request; gives how many events were accepted, and the status.
fn publish_much(server: &Process) -> (u64, u16) {
    let body = format!("{{\"data\":\"{}\"}}\n", "x".repeat(4_000)).repeat(100);
    let answer = server.post("/v1/channels/a/events?ack=durable", "application/x-ndjson", body);
    if answer.status == 503 {
        assert!(!answer.header("retry-after").is_empty(), "{answer:?}");
    }
    (answer.json()["accepted"].as_u64().expect("a count"), answer.status)
}

/// The store has offsets 1 to `count` of the channel, once each.
fn has_all(store: &ClickHouse, count: u64) {
    let rows = "SELECT count(), uniqExact(offset), max(offset) FROM shardcast.events";
    assert_eq!(value(store, rows), format!("{count}\t{count}\t{count}"));
}

#[test]
fn a_spool_full_of_what_the_store_lacks_refuses_and_heals() {
    let store = ClickHouse::start();
    let proxy = FaultProxy::start(store.address());
    let folder = tempfile::tempdir().expect("a folder");
    let plan = small(plan(folder.path(), &proxy.url())).set("spool.bytes_max=8388608");
    // The feed is memory on purpose; it must not be all that grows.
    let server = plan.set("storage.feed_bytes_max=1048576").start();
    connected(&server);
    let (mut accepted, mut grew) = (0, Vec::new());
    for round in 0..2 {
        proxy.set(Mode::Refuse);
        let before = server.resident_bytes();
        until("the spool to be full", || {
            let (taken, status) = publish_much(&server);
            accepted += taken;
            status == 503
        });
        // Whoever insists is refused again and again, and nothing piles up.
        for _ in 0..50 {
            accepted += publish_much(&server).0;
        }
        grew.push(server.resident_bytes().saturating_sub(before));
        let health = server.get_admin("/health/storage");
        let text = health.text();
        assert!(health.status == 503 && text.contains("clickhouse takes nothing"), "{text}");
        assert!(text.contains("it is full of events that a store has not confirmed"), "{text}");
        assert_eq!(server.metric("shardcast_spool_refusing"), 1.0);
        proxy.set(Mode::Pass);
        settled(&server);
        until("events to be taken again", || {
            let (taken, status) = publish_much(&server);
            accepted += taken;
            status == 202
        });
        settled(&server);
        has_all(&store, accepted);
        assert_eq!(server.get_admin("/health/storage").status, 200, "in round {round}");
    }
    // 20 MB were refused in each round. The first one also warms everything up.
    assert!(grew[1] < 24 * MIB, "the resident set grew by {grew:?}");
}

#[test]
fn what_left_the_spool_before_the_store_was_named_is_counted_and_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let alone = small(Plan::new(Cell::EPOLL_1, folder.path()));
    let mut server = alone.start();
    let mut accepted = 0;
    until("segments to be removed", || {
        accepted += publish_much(&server).0;
        server.metric("shardcast_spool_segments_deleted_total") >= 2.0
    });
    server.terminate();
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    let store = ClickHouse::start();
    let with_store = small(plan(folder.path(), &store.url()));
    let server = with_store.start();
    accepted += publish_much(&server).0;
    settled(&server);
    let missed = sink(&server)["missed"].as_u64().expect("a count");
    assert!(missed > 0, "{}", server.log());
    assert_eq!(server.metric("shardcast_sink_missed_events_total"), missed as f64);
    let told = format!("{missed} events had left the spool before");
    assert!(server.log().contains(&told), "{}", server.log());
    let rows = "SELECT count(), min(offset), max(offset) FROM shardcast.events";
    assert_eq!(value(&store, rows), format!("{}\t{}\t{accepted}", accepted - missed, missed + 1));
    // The same again, with a cursor: the store was not configured for a while.
    server.kill();
    let server = alone.start();
    let before = server.metric("shardcast_spool_segments_deleted_total");
    let kept_back = accepted;
    until("what the store lacks to be removed", || {
        accepted += publish_much(&server).0;
        let removed = server.metric("shardcast_spool_segments_deleted_total") - before;
        removed >= 6.0 && accepted > kept_back + 2_000
    });
    server.kill();
    let server = with_store.start();
    accepted += publish_much(&server).0;
    settled(&server);
    let missed_now = sink(&server)["missed"].as_u64().expect("a count");
    assert!(missed_now > 0);
    let rows = value(&store, "SELECT count(), uniqExact(epoch, offset) FROM shardcast.events");
    let stored = accepted - missed - missed_now;
    assert_eq!(rows, format!("{stored}\t{stored}"));
}

/// A store that was named when everything had already left, or while nothing is there.
#[test]
fn an_empty_spool_that_once_had_events_holds_up_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Plan::new(Cell::EPOLL_1, folder.path()).set("spool.retention_age_s=1").start();
    publish(&server, "a", 0..10);
    until("everything to be removed", || {
        server.metric("shardcast_spool_segments_deleted_total") >= 1.0
    });
    server.kill();
    let store = ClickHouse::start();
    let server = plan(folder.path(), &store.url()).start();
    settled(&server);
    assert_eq!(sink(&server)["missed"], 10);
    publish(&server, "a", 10..20);
    settled(&server);
    assert_eq!(
        value(
            &store,
            "SELECT groupArray(id) = arrayMap(n -> toString(n), range(10, 20)) \
                              FROM (SELECT id FROM shardcast.events ORDER BY id)"
        ),
        "1"
    );
    assert_eq!(server.get_admin("/health/storage").status, 200);
}

#[test]
fn an_insert_that_hangs_is_seen_while_it_hangs() {
    let store = ClickHouse::start();
    let folder = tempfile::tempdir().expect("a folder");
    let server = plan(folder.path(), &store.url())
        .set("storage.lag_s_max=1")
        .set("storage.clickhouse.insert_timeout_s=10")
        .start();
    connected(&server);
    store.pause();
    let answer = server.post("/v1/channels/a/events?ack=durable", "text/plain", "hello");
    assert_eq!(answer.status, 202, "{}", answer.text());
    until("the health to say so", || server.get_admin("/health/storage").status == 503);
    let said = server.get_admin("/health/storage").text();
    assert!(said.contains(" s behind, 1 events wait"), "{said}");
    store.resume();
    until("the health to be good again", || server.get_admin("/health/storage").status == 200);
}
