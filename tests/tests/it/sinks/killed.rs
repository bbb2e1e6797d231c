//! The server, the store, or both are killed, stopped and started again under ingest: every event
//! is one row in the end.

use super::tool::tool;
use super::{CHANNELS, connected, plan, plan_of, same_as_history, sink};
use crate::durability::load::Load;
use crate::rig::clickhouse::ClickHouse;
use crate::rig::{Cell, until};

/// One publisher of each channel waits for the disk, the other for the store.
const ACKS: [&str; 2] = ["durable", "stored"];

#[test]
fn a_server_killed_twenty_times_stores_everything_once() {
    let store = ClickHouse::start();
    let folder = tempfile::tempdir().expect("a folder");
    let cold = folder.path().join("cold");
    let location = format!("storage.parquet.location={}", cold.display());
    let plan = plan(folder.path(), &store.url())
        .set("spool.segment_bytes=1048576")
        .set("limits.message_bytes_max=100000")
        .set("limits.stored_wait_s=5")
        .set("storage.parquet.seal_s=1")
        .set("storage.parquet.file_bytes=1048576")
        .set(&location);
    let load = Load::with_acks(ACKS);
    for round in 0..20 {
        let mut server = plan.start();
        load.aim(Some(&server));
        // At another point each time: before the first insert, during it, after some.
        let goal = load.acknowledged() + 20 + round * 37 % 200;
        until(&format!("acknowledgements in round {round}"), || load.acknowledged() >= goal);
        if round % 5 == 4 {
            server.terminate();
            assert_eq!(server.wait().code(), Some(0), "{}", server.log());
        } else {
            server.kill();
        }
        load.aim(None);
    }
    let server = plan.start();
    load.aim(Some(&server));
    load.finish(&server);
    same_as_history(&server, &store, &CHANNELS);
    until("both stores to have everything, and their cursors to say so", || {
        let status = server.get_admin("/admin/storage").json();
        let sinks = status["sinks"].as_array().expect("sinks").clone();
        sinks.len() == 2
            && sinks
                .iter()
                .all(|sink| sink["behind"] == 0 && sink["cursor_seq"] == sink["confirmed_seq"])
    });
    let (code, text) = tool(folder.path(), &server, &store, &["verify", "--set", &location]);
    assert!(code == 0 && text.contains("spool and parquet"), "{text}");
    let once = format!(
        "SELECT count() = uniqExact(channel, epoch, offset) AND count() = uniqExact(channel, id) FROM \
         file('{}/**/*.parquet')",
        cold.display()
    );
    assert_eq!(store.query(&once).as_deref(), Ok("1\n"), "an event is in two files");
}

#[test]
fn a_store_killed_while_it_inserts_has_everything_once() {
    let mut store = ClickHouse::start();
    let folder = tempfile::tempdir().expect("a folder");
    let plan = plan(folder.path(), &store.url()).set("limits.stored_wait_s=1");
    let server = plan.start();
    let load = Load::with_acks(ACKS);
    load.aim(Some(&server));
    for round in 0..4 {
        connected(&server);
        let goal = load.acknowledged() + 100 + round * 50;
        until("acknowledgements", || load.acknowledged() >= goal);
        store.kill();
        let goal = load.acknowledged() + 50;
        until("acknowledgements without a store", || load.acknowledged() >= goal);
        store.restart();
    }
    load.finish(&server);
    same_as_history(&server, &store, &CHANNELS);
}

#[test]
fn a_store_that_stands_still_longer_than_an_insert_may_take_has_everything_once() {
    let store = ClickHouse::start();
    let folder = tempfile::tempdir().expect("a folder");
    let plan = plan_of(Cell::EPOLL_1, folder.path(), &store.url())
        .set("limits.stored_wait_s=1")
        .set("storage.clickhouse.insert_timeout_s=1");
    let mut server = plan.start();
    let load = Load::with_acks(ACKS);
    load.aim(Some(&server));
    for round in 0..3 {
        let goal = load.acknowledged() + 100;
        until("acknowledgements", || load.acknowledged() >= goal);
        connected(&server);
        store.pause();
        until("an insert to be given up", || sink(&server)["health"] == "retrying");
        if round == 1 {
            // The next process repeats an insert of which nobody knows what became of it.
            server.kill();
            load.aim(None);
            store.resume();
            server = plan.start();
            load.aim(Some(&server));
        } else {
            store.resume();
        }
    }
    load.finish(&server);
    same_as_history(&server, &store, &CHANNELS);
}
