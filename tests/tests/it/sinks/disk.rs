//! The disk of the server is full, or loses its power, while a store takes what it has.

use super::{CHANNELS, connected, plan_of, publish, same_as_history, settled, sink, value};
use crate::durability::load::Load;
use crate::rig::clickhouse::ClickHouse;
use crate::rig::disk::Disk;
use crate::rig::fault_proxy::{FaultProxy, Mode};
use crate::rig::process::Plan;
use crate::rig::{Cell, until};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The same as [`super::plan`], with the data on a disk.
fn plan_on(disk: &Disk, url: &str) -> Plan {
    plan_of(Cell::EPOLL_1, disk.beside(), url)
        .data_dir(&disk.path().join("data"))
        .set("spool.segment_bytes=2097152")
        .set("limits.message_bytes_max=100000")
}

/// Takes everything that is left of a disk.
fn fill(disk: &Path) -> PathBuf {
    let path = disk.join("filler");
    let mut file = File::create(&path).expect("a file");
    let mut piece = 16 << 20;
    while piece > 0 {
        // As large pieces as still fit, then bytes.
        let written = file.write(&vec![7; piece]).unwrap_or(0);
        if written == 0 {
            piece /= 4;
        }
    }
    file.sync_all().expect("it is on the disk");
    path
}

fn says(server: &crate::rig::Process, what: &str) -> bool {
    sink(server)["error"].as_str().is_some_and(|error| error.contains(what))
}

#[test]
fn a_cursor_that_cannot_be_written_sends_nothing_and_heals() {
    let store = ClickHouse::start();
    let proxy = FaultProxy::start(store.address());
    let disk = Disk::new(64);
    let server = plan_on(&disk, &proxy.url()).start();
    publish(&server, "a", 0..10);
    settled(&server);
    let filler = fill(&disk.path());
    publish(&server, "a", 10..20); // the segment has room
    until("the sink to say so", || says(&server, "cursor"));
    assert_eq!(value(&store, "SELECT count() FROM shardcast.events"), "10");
    let health = server.get_admin("/health/storage");
    assert!(health.status == 503 && health.text().contains("cursor"), "{health:?}");
    std::fs::remove_file(filler).expect("it is there");
    same_as_history(&server, &store, &["a"]);
    // It was sent before the disk was full; only that it was cannot be written.
    proxy.set(Mode::status(503, ""));
    publish(&server, "a", 20..30);
    until("the insert to be refused", || sink(&server)["health"] == "retrying");
    let filler = fill(&disk.path());
    proxy.set(Mode::Pass);
    until("the sink to say so", || sink(&server)["behind"] == 0 && says(&server, "cursor"));
    std::fs::remove_file(filler).expect("it is there");
    // Nothing is left to send, and yet it must not complain for ever about what is over.
    until("the health to be good", || server.get_admin("/health/storage").status == 200);
}

#[test]
fn a_division_that_cannot_be_written_is_not_sent() {
    let store = ClickHouse::start();
    let proxy = FaultProxy::start(store.address());
    let disk = Disk::new(64);
    let plan = plan_on(&disk, &proxy.url());
    let server = plan.start();
    connected(&server);
    proxy.set(Mode::status(503, ""));
    publish(&server, "a", 0..100);
    until("the insert to be refused", || sink(&server)["health"] == "retrying");
    let filler = fill(&disk.path());
    let memory = Mode::exception(241, "MEMORY_LIMIT_EXCEEDED", "Query memory limit exceeded");
    let refused = proxy.seen().status;
    // The probe, the insert, the question whether it is there; then everything is taken.
    proxy.script(&[Mode::Pass, memory], Mode::Pass);
    until("the division to be kept back", || {
        proxy.seen().status > refused && says(&server, "cursor")
    });
    // Whatever it tries now is tried before the division is on the disk.
    let passed = proxy.seen().pass;
    until("further tries", || proxy.seen().pass >= passed + 2);
    server.kill();
    std::fs::remove_file(filler).expect("it is there");
    let server = plan.start();
    same_as_history(&server, &store, &["a"]);
}

#[test]
fn a_full_disk_refuses_and_what_was_acknowledged_is_stored() {
    let store = ClickHouse::start();
    let disk = Disk::new(64);
    let server = plan_on(&disk, &store.url()).start();
    publish(&server, "a", 0..10);
    let filler = fill(&disk.path());
    let body = format!("{{\"data\":\"{}\"}}\n", "x".repeat(4_000)).repeat(100);
    let mut accepted = 10;
    until("the disk to be full", || {
        let path = "/v1/channels/a/events?ack=durable";
        let answer = server.post(path, "application/x-ndjson", &body);
        accepted += answer.json()["accepted"].as_u64().expect("a count");
        if answer.status == 503 {
            assert!(!answer.header("retry-after").is_empty(), "{answer:?}");
        }
        answer.status == 503
    });
    let health = server.get_admin("/health/storage");
    assert!(health.status == 503 && health.text().contains("disk"), "{health:?}");
    std::fs::remove_file(filler).expect("it is there");
    until("events to be taken again", || {
        let answer = server.post(
            "/v1/channels/a/events?ack=stored",
            "application/x-ndjson",
            "{\"data\":1}\n",
        );
        accepted += u64::from(answer.status == 202);
        answer.status == 202
    });
    same_as_history(&server, &store, &["a"]);
    let count = value(&store, "SELECT count() FROM shardcast.events");
    assert_eq!(count, accepted.to_string());
}

#[test]
fn a_power_cut_between_spool_and_store_loses_and_doubles_nothing() {
    let store = ClickHouse::start();
    let disk = Disk::new(256);
    let plan = plan_on(&disk, &store.url()).set("limits.stored_wait_s=5");
    let load = Load::with_acks(["durable", "stored"]);
    for round in 0..3 {
        let server = plan.start();
        load.aim(Some(&server));
        let goal = load.acknowledged() + 200 + round * 77;
        until(&format!("acknowledgements in round {round}"), || load.acknowledged() >= goal);
        // The machine stops as a whole: nothing is said after the cut.
        server.pause();
        load.cut();
        disk.cut_power();
        load.aim(None);
        server.kill();
        disk.restore_power();
    }
    let server = plan.start();
    load.aim(Some(&server));
    load.finish(&server);
    same_as_history(&server, &store, &CHANNELS);
}

#[test]
fn whoever_waits_for_the_store_hears_when_the_spool_fails_for_good() {
    let store = ClickHouse::start();
    let proxy = FaultProxy::start(store.address());
    let disk = Disk::new(256);
    let plan = plan_on(&disk, &proxy.url()).set("limits.stored_wait_s=600");
    let server = plan.start();
    connected(&server);
    proxy.set(Mode::Refuse);
    publish(&server, "a", 0..10);
    let mut waiting = server.wire();
    waiting.send(
        "POST /v1/channels/a/events?ack=stored HTTP/1.1\r\nHost: localhost\r\n\
         Content-Type: text/plain\r\nContent-Length: 4\r\n\r\nlast",
    );
    until("it to be in the spool", || {
        server.get_admin("/admin/storage").json()["spool"]["events"] == 11
    });
    disk.cut_power();
    until("the spool to fail", || {
        server.post("/v1/channels/a/events", "text/plain", "more");
        server.get("/health/ready").status == 503
    });
    let answer = waiting.answer();
    assert_eq!((answer.status, answer.code().as_str()), (503, "not_stored"), "{answer:?}");
    let health = server.get_admin("/health/storage").text();
    assert!(health.contains("its disk failed"), "{health}");
    server.kill();
    disk.restore_power();
    proxy.set(Mode::Pass);
    let server = plan.start();
    settled(&server);
    let ids = "SELECT count() FROM shardcast.events WHERE toUInt64OrNull(id) < 10";
    assert_eq!(value(&store, ids), "10", "what was synced is there");
}
