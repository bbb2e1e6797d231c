//! Rows that the store will not take: each is one dead letter, its neighbours are stored once,
//! whatever interrupts the search for it.

use super::{connected, plan, plan_of, settled, sink, value};
use crate::rig::clickhouse::ClickHouse;
use crate::rig::fault_proxy::{FaultProxy, Mode};
use crate::rig::{Cell, Process, until};
use std::ops::Range;

/// Publishes so many events to a channel in one request, those in `bad` with a telling id.
fn publish(server: &Process, channel: &str, count: usize, bad: Range<usize>) {
    let lines: String = (0..count)
        .map(|n| {
            let kind = if bad.contains(&n) { "bad" } else { "good" };
            format!("{{\"id\":\"{kind}-{n}\",\"data\":{n}}}\n")
        })
        .collect();
    let path = format!("/v1/channels/{channel}/events?ack=durable");
    let answer = server.post(&path, "application/x-ndjson", lines);
    assert_eq!(answer.json()["accepted"], count, "{answer:?}");
}

fn refuse_bad(store: &ClickHouse, check: &str) {
    let sql = format!("ALTER TABLE shardcast.events ADD CONSTRAINT sane CHECK {check}");
    store.query(&sql).expect("a constraint");
}

const GOOD: &str = "NOT startsWith(id, 'bad')";
const STORED: &str = "SELECT count(), uniqExact(channel, id), countIf(id LIKE 'bad%') FROM \
                      shardcast.events";
const DEAD: &str = "SELECT count(), uniqExact(channel, id), countIf(id LIKE 'bad%') FROM \
                    shardcast.dead_letters";

#[test]
fn a_search_for_a_rejected_row_goes_on_in_the_next_process() {
    let store = ClickHouse::start();
    let proxy = FaultProxy::start(store.address());
    let folder = tempfile::tempdir().expect("a folder");
    let plan =
        plan_of(Cell::EPOLL_1, folder.path(), &proxy.url()).set("storage.clickhouse.batch_ms=300");
    let mut server = plan.start();
    connected(&server);
    refuse_bad(&store, GOOD);
    // The search takes 21 requests, then comes the dead letter. It is killed after a few, in the
    // middle, before the dead letter, and when that was taken but nobody heard.
    for (round, requests) in [1, 7, 13, 20, 21].into_iter().enumerate() {
        let mut script = vec![Mode::Pass; requests];
        script.push(Mode::DropAnswer);
        let lost = proxy.seen().drop_answer;
        proxy.script(&script, Mode::Refuse);
        publish(&server, &format!("c{round}"), 100, 70..71);
        until("an answer to be lost", || proxy.seen().drop_answer > lost);
        server.kill();
        proxy.set(Mode::Pass);
        server = plan.start();
        settled(&server);
        let rounds = round + 1;
        assert_eq!(value(&store, STORED), format!("{0}\t{0}\t0", rounds * 99));
        assert_eq!(value(&store, DEAD), format!("{rounds}\t{rounds}\t{rounds}"));
        connected(&server);
    }
    let minutes = "SELECT sum(events) FROM shardcast.events_by_minute";
    assert_eq!(value(&store, minutes), "495");
}

#[test]
fn a_dead_letter_that_is_refused_too_is_kept_until_it_is_taken() {
    let store = ClickHouse::start();
    let folder = tempfile::tempdir().expect("a folder");
    let plan = plan(folder.path(), &store.url());
    let server = plan.start();
    connected(&server);
    refuse_bad(&store, GOOD);
    let never = "ALTER TABLE shardcast.dead_letters ADD CONSTRAINT never CHECK length(id) = 0";
    store.query(never).expect("a constraint");
    publish(&server, "a", 20, 3..5);
    until("the dead letter to be refused", || {
        sink(&server)["error"].as_str().is_some_and(|error| error.contains("never"))
    });
    assert_eq!(server.get_admin("/health/storage").status, 503);
    server.kill();
    let server = plan.start();
    store.query("ALTER TABLE shardcast.dead_letters DROP CONSTRAINT never").expect("gone");
    settled(&server);
    assert_eq!(value(&store, STORED), "18\t18\t0");
    assert_eq!(value(&store, DEAD), "2\t2\t2");
}

#[test]
fn a_row_that_fails_in_a_way_nobody_knows_holds_up_the_others_for_a_while_only() {
    let store = ClickHouse::start();
    let folder = tempfile::tempdir().expect("a folder");
    let server = plan(folder.path(), &store.url()).set("storage.clickhouse.batch_ms=300").start();
    connected(&server);
    // ILLEGAL_DIVISION: none of the errors that are known to mean a bad row.
    refuse_bad(&store, "intDiv(1, NOT startsWith(id, 'bad')) = 1");
    publish(&server, "a", 100, 70..71);
    settled(&server);
    assert_eq!(value(&store, STORED), "99\t99\t0");
    assert_eq!(value(&store, DEAD), "1\t1\t1");
}

/// A view of the user's own fails after the rows are in the table: dividing them then would store
/// them a second time.
#[test]
fn a_view_that_fails_behind_the_table_stores_nothing_twice() {
    let store = ClickHouse::start();
    let folder = tempfile::tempdir().expect("a folder");
    let plan = plan(folder.path(), &store.url()).set("storage.clickhouse.batch_ms=300");
    let server = plan.start();
    connected(&server);
    for sql in [
        "CREATE TABLE shardcast.mine (n UInt8) ENGINE = MergeTree ORDER BY ()",
        "CREATE MATERIALIZED VIEW shardcast.mine_view TO shardcast.mine AS SELECT \
         throwIf(startsWith(id, 'bad')) AS n FROM shardcast.events",
    ] {
        store.query(sql).expect("a view");
    }
    publish(&server, "a", 100, 70..71);
    settled(&server);
    let count = "SELECT count(), uniqExact(channel, id) FROM (SELECT channel, id FROM \
                 shardcast.events UNION ALL SELECT channel, id FROM shardcast.dead_letters)";
    assert_eq!(value(&store, count), "100\t100");
    assert!(server.log().contains("Repair or drop that view"), "{}", server.log());
}
