//! Whatever the store answers, or does not: every event is one row in the end.

use super::{connected, plan, publish, same_as_history, settled, sink, value};
use crate::rig::clickhouse::ClickHouse;
use crate::rig::fault_proxy::{FaultProxy, Mode};
use crate::rig::{Process, until};

fn too_much_memory() -> Mode {
    Mode::exception(241, "MEMORY_LIMIT_EXCEEDED", "Query memory limit exceeded: would use 9 GiB")
}

fn too_many_partitions() -> Mode {
    let text = "Too many partitions for single INSERT block (more than 100)";
    Mode::exception(252, "TOO_MANY_PARTS", text)
}

/// Requests that met anything but a pass.
fn faults(proxy: &FaultProxy) -> u64 {
    let seen = proxy.seen();
    seen.refuse + seen.status + seen.drop_answer + seen.hang
}

fn splits(server: &Process) -> f64 {
    server.metric("shardcast_sink_splits_total")
}

#[test]
fn an_answer_that_asks_for_patience_gets_it_and_divides_nothing() {
    let store = ClickHouse::start();
    let proxy = FaultProxy::start(store.address());
    let folder = tempfile::tempdir().expect("a folder");
    let server =
        plan(folder.path(), &proxy.url()).set("storage.clickhouse.insert_timeout_s=1").start();
    let parts = "Too many parts (3001) in all partitions in total in table 'shardcast.events'";
    let modes = [
        Mode::status(500, "Internal Server Error"),
        Mode::status(503, ""),
        Mode::exception(252, "TOO_MANY_PARTS", parts),
        Mode::exception(31_337, "SOMETHING_NEW", "Nobody knows"),
        Mode::DropAnswer,
        Mode::Hang,
        Mode::Refuse,
    ];
    connected(&server);
    for (n, mode) in modes.into_iter().enumerate() {
        let before = faults(&proxy);
        proxy.set(mode.clone());
        publish(&server, "a", n * 10..n * 10 + 10);
        until(&format!("{mode:?} to be met"), || faults(&proxy) > before);
        until("the sink to say so", || sink(&server)["health"] == "retrying");
        assert_eq!(server.get_admin("/health/storage").status, 503);
        proxy.set(Mode::Pass);
        settled(&server);
        assert_eq!(sink(&server)["error"], serde_json::Value::Null, "{mode:?}");
        assert_eq!(server.get_admin("/health/storage").status, 200);
    }
    assert_eq!(splits(&server), 0.0);
    same_as_history(&server, &store, &["a"]);
}

#[test]
fn an_insert_whose_answer_is_lost_is_repeated_by_the_next_process_under_its_token() {
    let store = ClickHouse::start();
    let proxy = FaultProxy::start(store.address());
    let folder = tempfile::tempdir().expect("a folder");
    let plan = plan(folder.path(), &proxy.url());
    let mut server = plan.start();
    for round in 0..3 {
        connected(&server);
        proxy.script(&[Mode::DropAnswer], Mode::Refuse);
        publish(&server, "a", round * 100..round * 100 + 100);
        until("the answer to be lost", || proxy.seen().drop_answer > round as u64);
        let stored = (round + 1) * 100;
        let count = || value(&store, "SELECT countIf(channel = 'a') FROM shardcast.events");
        assert_eq!(count(), stored.to_string(), "committed, though nobody heard");
        server.kill();
        proxy.set(Mode::Pass);
        server = plan.start();
        publish(&server, "b", round..round + 1);
        settled(&server);
    }
    same_as_history(&server, &store, &["a", "b"]);
}

#[test]
fn what_is_too_much_at_once_is_divided_and_stored_once() {
    let store = ClickHouse::start();
    let proxy = FaultProxy::start(store.address());
    let folder = tempfile::tempdir().expect("a folder");
    let plan = plan(folder.path(), &proxy.url()).set("storage.clickhouse.batch_ms=500");
    let server = plan.start();
    connected(&server);
    // Before every division it asks whether the rows are there already.
    let asked = |mode| [mode, Mode::Pass];
    let script = [too_many_partitions(), too_much_memory(), too_much_memory()].map(asked);
    proxy.script(&script.concat(), Mode::Pass);
    publish(&server, "a", 0..100);
    settled(&server);
    assert_eq!(splits(&server), 3.0);
    // The second half of the first split is committed, but nobody hears; then it is killed.
    let script = [too_much_memory(), Mode::Pass, Mode::Pass, Mode::DropAnswer];
    proxy.script(&script, Mode::Refuse);
    publish(&server, "a", 100..200);
    until("the half that nobody heard of", || proxy.seen().drop_answer == 1);
    server.kill();
    proxy.set(Mode::Pass);
    let server = plan.start();
    same_as_history(&server, &store, &["a"]);
    connected(&server);
    // Committed, but nobody hears; and the repetition is too much: it must not be divided.
    proxy.script(&[Mode::DropAnswer, Mode::Pass, too_much_memory()], Mode::Pass);
    publish(&server, "a", 200..300);
    same_as_history(&server, &store, &["a"]);
    assert_eq!(splits(&server), 0.0);
    // The same, and the process ends in between.
    proxy.script(&[Mode::DropAnswer], Mode::Refuse);
    publish(&server, "a", 300..400);
    until("the answer to be lost", || proxy.seen().drop_answer == 3);
    server.kill();
    proxy.set(Mode::Pass);
    // A start has statements of its own: the fault is for the insert.
    let server = plan.start();
    same_as_history(&server, &store, &["a"]);
}
