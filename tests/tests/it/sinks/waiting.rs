//! Publishers that wait for the store: they hold up nobody, and each is answered in the end.

use super::{connected, plan, plan_of, publish, settled, value};
use crate::rig::clickhouse::ClickHouse;
use crate::rig::fault_proxy::{FaultProxy, Mode};
use crate::rig::h2::{self, Connection, DATA, END_HEADERS, END_STREAM, HEADERS};
use crate::rig::process::Plan;
use crate::rig::{Cell, Process, Wire, until};
use std::path::Path;

const STORED: &str = "/v1/channels/a/events?ack=stored";

fn post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Publishers that wait, on connections of their own.
fn wait_many(server: &Process, count: usize) -> Vec<Wire> {
    let wait = |n: usize| {
        let mut wire = server.wire();
        wire.send(post(STORED, &n.to_string()));
        wire
    };
    (0..count).map(wait).collect()
}

fn taken(server: &Process) -> u64 {
    let status = server.get_admin("/admin/storage").json();
    status["spool"]["events"].as_u64().expect("a count")
}

#[test]
fn whoever_waits_for_the_store_holds_up_nobody_else() {
    let store = ClickHouse::start();
    let proxy = FaultProxy::start(store.address());
    let folder = tempfile::tempdir().expect("a folder");
    let server = plan(folder.path(), &proxy.url()).set("limits.stored_wait_s=600").start();
    connected(&server);
    proxy.set(Mode::Refuse);
    // More than there are slots for batches.
    let mut waiting = wait_many(&server, 400);
    // And a hundred streams of one connection.
    let mut connection = Connection::open(server.address, &[]);
    for n in 0..100 {
        let stream = 2 * n + 1;
        let head = h2::request("POST", STORED);
        let head = [head, h2::block(&[("content-type", "text/plain")])].concat();
        connection.wire.send(h2::frame(HEADERS, END_HEADERS, stream, &head));
        connection.wire.send(h2::frame(DATA, END_STREAM, stream, b"streamed"));
    }
    until("all of them to be in the spool", || taken(&server) == 500);
    for n in 0..50 {
        let answer = server.post("/v1/channels/a/events?ack=accepted", "text/plain", "quick");
        assert_eq!(answer.status, 202, "{n}: {answer:?}");
    }
    publish(&server, "b", 0..10);
    // On the connection whose streams wait, too.
    connection.get(201, "/health/live");
    assert_eq!(connection.status(201), 200);
    proxy.set(Mode::Pass);
    for wire in &mut waiting {
        let answer = wire.answer();
        assert_eq!(answer.status, 202, "{answer:?}");
    }
    let mut answered = 0;
    while answered < 100 {
        let frame = connection.next().expect("answers");
        if frame.kind == DATA && frame.stream < 201 && !frame.payload.is_empty() {
            let text = String::from_utf8_lossy(&frame.payload);
            assert!(text.contains("\"accepted\":1"), "{text}");
            answered += 1;
        }
    }
    settled(&server);
    assert_eq!(value(&store, "SELECT count() FROM shardcast.events"), "560");
}

/// Stops a server while publishers wait; gives what each of them was told.
fn stop_while_waiting(plan: &Plan, proxy: &FaultProxy, mode: Mode) -> Vec<(u16, String)> {
    let mut server = plan.start();
    connected(&server);
    proxy.set(Mode::status(503, ""));
    let mut waiting = wait_many(&server, 20);
    until("all of them to be in the spool", || taken(&server) == 20);
    until("the store to refuse", || super::sink(&server)["health"] == "retrying");
    // What is asked next is asked while it stops.
    proxy.set(mode);
    server.terminate();
    let told = waiting.iter_mut().map(|wire| {
        let answer = wire.answer();
        (answer.status, if answer.status == 202 { String::new() } else { answer.code() })
    });
    let told = told.collect();
    drop(waiting);
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    told
}

fn waiting_plan(folder: &Path, proxy: &FaultProxy) -> Plan {
    let plan = plan_of(Cell::EPOLL_1, folder, &proxy.url());
    plan.set("limits.stored_wait_s=600").set("drain_time_s=3")
}

#[test]
fn whoever_waits_is_answered_before_the_server_stops() {
    let store = ClickHouse::start();
    let proxy = FaultProxy::start(store.address());
    let folder = tempfile::tempdir().expect("a folder");
    let plan = waiting_plan(folder.path(), &proxy);
    for (status, code) in stop_while_waiting(&plan, &proxy, Mode::Refuse) {
        assert_eq!((status, code.as_str()), (503, "not_stored"));
    }
    // They are stored by the next process all the same.
    proxy.set(Mode::Pass);
    let server = plan.start();
    settled(&server);
    assert_eq!(value(&store, "SELECT count() FROM shardcast.events"), "20");
}

/// A store that hangs holds up neither the answers nor the stop, whatever it was asked last; the
/// time that an insert may take is a minute.
#[test]
fn a_store_that_hangs_does_not_hold_up_the_stop() {
    let store = ClickHouse::start();
    let proxy = FaultProxy::start(store.address());
    let folder = tempfile::tempdir().expect("a folder");
    let plan = waiting_plan(folder.path(), &proxy).set("storage.clickhouse.batch_ms=60000");
    let mut server = plan.start();
    connected(&server);
    // Nobody waits for a batch to be full at the stop.
    publish(&server, "a", 0..10);
    server.terminate();
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    assert_eq!(value(&store, "SELECT count() FROM shardcast.events"), "10", "sent at the stop");
    let plan = waiting_plan(folder.path(), &proxy).set("storage.clickhouse.insert_timeout_s=600");
    for (status, code) in stop_while_waiting(&plan, &proxy, Mode::Hang) {
        assert_eq!((status, code.as_str()), (503, "not_stored"));
    }
    proxy.set(Mode::Pass);
    let server = plan.start();
    settled(&server);
    assert_eq!(value(&store, "SELECT count() FROM shardcast.events"), "30");
}
