//! ClickHouse is away or hangs: queries say so, everything else goes on.

use super::{publish, remote, settle};
use crate::rig::clickhouse::ClickHouse;
use crate::rig::until;
use std::time::Instant;

const RANGE: &str = "from=2026-01-01T00:00:00Z&to=2026-01-02T00:00:00Z";

fn questions() -> [String; 3] {
    [
        "/v1/history?channel=a".to_owned(),
        format!("/v1/channels/a/counts?{RANGE}"),
        format!("/v1/channels/a/top?field=type&{RANGE}"),
    ]
}

#[test]
fn a_store_that_is_away_is_said_so_while_events_go_on() {
    let mut store = ClickHouse::start();
    let folder = tempfile::tempdir().expect("a folder");
    let plan = remote(folder.path(), &store.url());
    let server = plan.start();
    publish(&server, "/v1/channels/a/events?ack=stored", "text/plain", "one");
    for path in questions() {
        assert_eq!(server.get(&path).status, 200, "{path}");
    }
    store.kill();
    for path in questions() {
        // A cached answer is a second old at most; each shard has its own.
        let mut answer = server.get(&path);
        until("an answer that says so", || {
            answer = server.get(&path);
            answer.status == 503
        });
        assert_eq!(
            (answer.code().as_str(), answer.header("retry-after")),
            ("store_unavailable", "1")
        );
        let port = store.address().port().to_string();
        assert!(!answer.text().contains(&port), "clients learn nothing of it: {}", answer.text());
    }
    publish(&server, "/v1/channels/a/events?ack=durable", "text/plain", "two");
    let events = server.get("/v1/channels/a/last");
    assert_eq!(events.json()["data"], "two");
    assert!(server.log().contains("ClickHouse did not answer a query"), "{}", server.log());
    store.restart();
    until("the second event in the store", || {
        let answer = server.get(&questions()[0]);
        answer.status == 200 && answer.json()["events"].as_array().map(Vec::len) == Some(2)
    });
    settle(server);
}

#[test]
fn a_store_that_hangs_costs_a_query_its_time_and_nobody_else() {
    let store = ClickHouse::start();
    let folder = tempfile::tempdir().expect("a folder");
    let server = remote(folder.path(), &store.url()).set("limits.query_time_s=1").start();
    publish(&server, "/v1/channels/a/events?ack=stored", "text/plain", "one");
    store.pause();
    let began = Instant::now();
    // More than run at once: those behind wait out their time, too, and not one after the other.
    let mut wires: Vec<_> = (0..30).map(|_| server.wire()).collect();
    for (i, wire) in wires.iter_mut().enumerate() {
        let [history, counts, top] = questions();
        let path = match i % 3 {
            0 => history,
            1 => format!("{counts}&bucket={}", 60 + i),
            _ => format!("{top}&limit={}", 1 + i),
        };
        wire.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    }
    publish(&server, "/v1/channels/a/events?ack=durable", "text/plain", "two");
    assert_eq!(server.get("/v1/channels/a/last").json()["data"], "two");
    for wire in &mut wires {
        let answer = wire.answer();
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (503, "query_too_long"),
            "{}",
            answer.text()
        );
    }
    assert!(began.elapsed().as_secs() < 30, "{:?}", began.elapsed());
    store.resume();
    until("answers again", || server.get(&questions()[0]).status == 200);
    settle(server);
}
