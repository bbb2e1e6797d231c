//! The demo as a whole: the page in Chromium, real events, the button, the verdict.

use crate::rig::clickhouse::ClickHouse;
use crate::rig::process::PROGRAM;
use crate::rig::{child, until};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

/// Enough to see that everybody comes back, and little enough for a debug build.
const CLIENTS: &str = "500";

#[test]
fn a_kill_by_the_button_on_the_page_loses_and_doubles_nothing() {
    let chromium = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
    let chromium = chromium.into_iter().find(|path| Path::new(path).is_file());
    let chromium =
        chromium.expect("there is no Chromium: run `cargo xtask test`, which installs it");
    let mut script = child::client("demo.mjs");
    script.arg(PROGRAM).arg(CLIENTS).arg(child::target().join("page")).env("CHROMIUM", chromium);
    let printed = child::run(&mut script);
    let verdict = format!("kill 1: resumed {CLIENTS} of {CLIENTS}, lost 0, doubled 0");
    assert!(printed.contains(&verdict), "{printed}");
}

#[test]
fn a_demo_with_a_store_brings_its_events_there() {
    let store = ClickHouse::start();
    let port = || {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        free.expect("a free port").to_string()
    };
    let mut command = Command::new(PROGRAM);
    command.args(["demo", "--clients", "20", "--listen", &port(), "--admin-listen", &port()]);
    command.args(["--store", &format!("clickhouse={}", store.url())]);
    let mut demo = child::Watch::start(&mut command);
    let rows = "SELECT count() FROM shardcast_demo.events WHERE startsWith(channel, 'system:')";
    until("the first rows", || store.query(rows).is_ok_and(|count| count.trim() != "0"));
    while !demo.line().contains("store     ClickHouse at") {}
}
