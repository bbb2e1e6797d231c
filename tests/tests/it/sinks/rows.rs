//! What a row says, when `ack=stored` answers, and what becomes of a row that is refused.

use super::{plan, settled, sink, value};
use crate::rig::clickhouse::ClickHouse;
use crate::rig::fault_proxy::{FaultProxy, Mode};
use crate::rig::until;

#[test]
fn every_event_is_a_row_that_says_what_was_published() {
    let store = ClickHouse::start();
    let folder = tempfile::tempdir().expect("a folder");
    let server = plan(folder.path(), &store.url()).start();
    let odd = concat!(
        r#"{"channel":"orders:eu","id":"a1","type":"order","source":"shop","key":"k","#,
        r#""time":"2026-11-22T07:00:00.123456Z","data":{"n":1,"grün":"✓"}}"#,
        "\n",
        r#"{"channel":"orders:eu","id":"a2","time":"0001-01-01T00:00:00Z","data":null}"#,
        "\n",
        r#"{"channel":"orders:eu","id":"a3","time":"9999-12-31T23:59:59Z","data":""}"#,
        "\n",
    );
    let answer = server.post("/v1/events?ack=stored", "application/x-ndjson", odd);
    assert_eq!(answer.status, 202, "{}", answer.text());
    // Stored means stored: no waiting here.
    let rows = "SELECT id, channel, offset, type, source, key, toUnixTimestamp64Micro(ts), \
                content_type, kind, class, late, payload FROM shardcast.events ORDER BY offset \
                FORMAT TSV";
    let expected = [
        "a1\torders:eu\t1\torder\tshop\tk\t1795330800123456\t\tjson\tnormal\t",
        "a2\torders:eu\t2\t\t\t\t-62135596800000000\t\tjson\tnormal\ttrue\tnull",
        "a3\torders:eu\t3\t\t\t\t253402300799000000\t\tjson\tnormal\tfalse\t\"\"",
    ];
    let found = value(&store, rows);
    let found: Vec<&str> = found.lines().collect();
    assert_eq!(found.len(), 3, "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}\n{expected}");
    }
    assert!(found[0].ends_with(r#"{"n":1,"grün":"✓"}"#), "{}", found[0]);
    let binary = server.post("/v1/channels/raw/events?ack=stored", "image/png", [0_u8, 255, 9, 10]);
    assert_eq!(binary.status, 202, "{}", binary.text());
    let row = "SELECT kind, content_type, hex(payload), length(id) FROM shardcast.events \
               WHERE channel = 'raw' FORMAT TSV";
    assert_eq!(value(&store, row), "binary\timage/png\t00FF090A\t36");
    let received = "SELECT max(abs(dateDiff('second', received, now64(6)))) < 60 FROM \
                    shardcast.events";
    assert_eq!(value(&store, received), "1");
}

#[test]
fn stored_is_said_only_when_the_store_has_confirmed() {
    let store = ClickHouse::start();
    let proxy = FaultProxy::start(store.address());
    let folder = tempfile::tempdir().expect("a folder");
    let plan = plan(folder.path(), &proxy.url()).set("limits.stored_wait_s=1");
    let server = plan.start();
    proxy.set(Mode::status(503, "down for maintenance"));
    let event = r#"{"channel":"a","id":"1","data":1}"#;
    let answer = server.post("/v1/events?ack=stored", "application/json", event);
    assert_eq!((answer.status, answer.code().as_str()), (503, "not_stored"), "{}", answer.text());
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(server.post("/v1/events?ack=durable", "application/json", event).status, 202);
    proxy.set(Mode::Pass);
    until("the store to be tried again", || {
        let answer = server.post("/v1/events?ack=stored", "application/json", event);
        answer.status == 202 && answer.json()["duplicates"] == 1
    });
    assert_eq!(value(&store, "SELECT count() FROM shardcast.events"), "1");
    // What an earlier run left counts too, as far as the cursor file says so.
    until("the cursor to be written", || {
        let sink = sink(&server);
        sink["behind"] == 0 && sink["cursor_seq"] == sink["confirmed_seq"]
    });
    server.kill();
    proxy.set(Mode::Refuse);
    let server = plan.start();
    let answer = server.post("/v1/events?ack=stored", "application/json", event);
    assert_eq!(answer.status, 202, "the cursor says that it is stored: {}", answer.text());
}

#[test]
fn a_poisoned_row_becomes_a_dead_letter_and_its_neighbours_are_stored() {
    let store = ClickHouse::start();
    let folder = tempfile::tempdir().expect("a folder");
    let server = plan(folder.path(), &store.url()).set("storage.clickhouse.batch_ms=1000").start();
    store
        .query("ALTER TABLE shardcast.events ADD CONSTRAINT sane CHECK NOT startsWith(id, 'bad')")
        .expect("a constraint");
    let lines: String = (0..200)
        .map(|n| {
            let id = if n == 77 || n == 150 { format!("bad-{n}") } else { format!("good-{n}") };
            format!("{{\"channel\":\"a\",\"id\":\"{id}\",\"data\":{n}}}\n")
        })
        .collect();
    let answer = server.post("/v1/events?ack=durable", "application/x-ndjson", lines);
    assert_eq!(answer.json()["accepted"], 200);
    settled(&server);
    assert_eq!(value(&store, "SELECT count(), uniqExact(id) FROM shardcast.events"), "198\t198");
    let dead = "SELECT id, offset, payload, reason LIKE '%sane%' FROM shardcast.dead_letters \
                ORDER BY offset FORMAT TSV";
    assert_eq!(value(&store, dead), "bad-77\t78\t77\t1\nbad-150\t151\t150\t1");
    assert_eq!(server.metric("shardcast_sink_dead_letters_total"), 2.0);
    let minutes = "SELECT sum(events) FROM shardcast.events_by_minute";
    assert_eq!(value(&store, minutes), "198", "the view counts what the table has");
}

#[test]
fn what_has_become_old_moves_to_the_cold_volume() {
    let store = ClickHouse::with_volumes();
    let folder = tempfile::tempdir().expect("a folder");
    let server = plan(folder.path(), &store.url())
        .set("storage.clickhouse.storage_policy=tiered")
        .set("storage.clickhouse.cold_volume=cold")
        .set("storage.clickhouse.cold_after_days=7")
        .start();
    let answer = server.post("/v1/channels/a/events?ack=stored", "text/plain", "hello");
    assert_eq!(answer.status, 202, "{}", answer.text());
    let older = "INSERT INTO shardcast.events SELECT * REPLACE (received - toIntervalDay(10) AS \
                 received) FROM shardcast.events";
    store.query(older).expect("an older row");
    let disk = |age: &str| {
        let sql = format!(
            "SELECT DISTINCT disk_name FROM system.parts WHERE database = 'shardcast' AND active \
             AND table = 'events' AND partition = toString(toDate(now('UTC')) - {age})"
        );
        store.query(&sql).unwrap_or_default().trim().to_owned()
    };
    until("the old row to be on the cold volume", || disk("10") == "cold");
    assert_eq!(value(&store, "SELECT count() FROM shardcast.events"), "2");
    let hot = "SELECT count() FROM system.parts WHERE database = 'shardcast' AND active AND \
               table = 'events' AND disk_name = 'hot'";
    assert_ne!(value(&store, hot), "0", "what is new stays");
}
