//! The file that says what the store already has: damaged, or of another spool.

use super::{connected, plan, plan_of, publish, same_as_history, settled, sink, value};
use crate::rig::child::output;
use crate::rig::clickhouse::ClickHouse;
use crate::rig::fault_proxy::{FaultProxy, Mode};
use crate::rig::process::Plan;
use crate::rig::{Cell, until};
use std::fs;
use std::path::Path;

fn refusal(plan: &Plan) -> String {
    let ended = output(&mut plan.command());
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.code().is_some_and(|code| code != 0), "{}: {said}", ended.status);
    said
}

#[test]
fn a_cursor_with_one_wrong_byte_is_refused() {
    let store = ClickHouse::start();
    let folder = tempfile::tempdir().expect("a folder");
    let plan = plan(folder.path(), &store.url());
    let server = plan.start();
    publish(&server, "a", 0..50);
    settled(&server);
    server.kill();
    let file = folder.path().join("data/clickhouse.cursor");
    let good = fs::read(&file).expect("a cursor");
    for at in [good.len() / 3, good.len() / 2, good.len() - 2] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&file, bad).expect("a file");
        let said = refusal(&plan);
        assert!(said.contains("clickhouse.cursor is damaged"), "{said}");
        assert!(said.contains("Restore it from a backup; or remove it"), "{said}");
    }
    fs::write(&file, &good[..good.len() - 5]).expect("a file");
    assert!(refusal(&plan).contains("is damaged"));
    fs::write(&file, &good).expect("a file");
    let server = plan.start();
    publish(&server, "a", 50..60);
    same_as_history(&server, &store, &["a"]);
}

/// Everything in a folder but what is said.
fn copy(from: &Path, to: &Path, except: &str) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").flatten() {
        if entry.file_name() != except {
            fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
        }
    }
}

#[test]
fn a_cursor_of_another_spool_sends_nothing_and_says_what_to_do() {
    let store = ClickHouse::start();
    let proxy = FaultProxy::start(store.address());
    let folder = tempfile::tempdir().expect("a folder");
    let plan = plan_of(Cell::EPOLL_1, folder.path(), &proxy.url());
    let (data, backup) = (folder.path().join("data"), folder.path().join("backup"));
    let mut server = plan.start();
    publish(&server, "a", 0..10);
    settled(&server);
    server.terminate();
    server.wait();
    copy(&data, &backup, "lock");

    // Ten more are planned, but not sent. Then the spool of before comes back, with other events.
    let server = plan.start();
    connected(&server);
    proxy.set(Mode::Refuse);
    publish(&server, "a", 10..20);
    until("the insert to be refused", || sink(&server)["health"] == "retrying");
    server.kill();
    let cursor = fs::read(data.join("clickhouse.cursor")).expect("a cursor");
    fs::remove_dir_all(&data).expect("gone");
    copy(&backup, &data, "clickhouse.cursor");
    // Its end is before what the cursor says is under way: no event of it is skipped in silence.
    fs::write(data.join("clickhouse.cursor"), &cursor).expect("a file");
    let said = refusal(&plan);
    assert!(said.contains("clickhouse.cursor") && said.contains("backup"), "{said}");

    // With as many other events as were planned, only their checksum tells.
    fs::remove_file(data.join("clickhouse.cursor")).expect("gone");
    let alone = Plan::new(Cell::EPOLL_1, folder.path());
    let server = alone.start();
    publish(&server, "a", 30..45);
    server.kill();
    fs::write(data.join("clickhouse.cursor"), &cursor).expect("a file");
    proxy.set(Mode::Pass);
    let server = plan.start();
    until("the sink to be stuck", || sink(&server)["health"] == "stuck");
    let error = sink(&server)["error"].as_str().unwrap_or_default().to_owned();
    assert!(error.contains("are not those that were being sent"), "{error}");
    assert!(error.contains("Remove clickhouse.cursor"), "{error}");
    assert_eq!(server.get_admin("/health/storage").status, 503);
    assert_eq!(value(&store, "SELECT count() FROM shardcast.events"), "10", "nothing was sent");
    // What it says to do works.
    server.kill();
    fs::remove_file(data.join("clickhouse.cursor")).expect("gone");
    let server = plan.start();
    settled(&server);
    let ids = "SELECT uniqExact(id) FROM shardcast.events";
    assert_eq!(value(&store, ids), "25");
}
