//! `storage.read = "clickhouse"`: the same events read both ways give the same bytes.
//!
//! A server writes and answers from its spool; then it is started again on the same folder and
//! answers from ClickHouse. Every time in a query is given, so nothing hangs on the clock.

mod away;
mod same;

use crate::rig::clickhouse::ClickHouse;
use crate::rig::process::{Plan, Process};
use crate::rig::{Cell, until};
use std::fmt::Write;
use std::path::Path;

/// A server that stores in the ClickHouse at `url`, quickly.
fn plan(folder: &Path, url: &str) -> Plan {
    Plan::new(Cell::URING_2, folder)
        .set(&format!("storage.clickhouse.url={url}"))
        .set("storage.clickhouse.batch_ms=50")
}

/// The same, reading from there.
fn remote(folder: &Path, url: &str) -> Plan {
    plan(folder, url).set("storage.read=clickhouse")
}

fn publish(server: &Process, path: &str, kind: &str, body: impl AsRef<[u8]>) {
    let answer = server.post(path, kind, body);
    assert_eq!(answer.status, 202, "{path}: {}", answer.text());
    assert!(!answer.text().contains("\"rejected\":1"), "{path}: {}", answer.text());
}

/// Waits until ClickHouse has everything that is in the spool, and stops.
fn settle(mut server: Process) {
    until("ClickHouse to have everything", || {
        server.get_admin("/admin/storage").json()["sinks"][0]["behind"] == 0
    });
    server.terminate();
    assert!(server.wait().success());
}

/// Everything in a query's value that is not plain, percent-encoded.
fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// Asks both ways, and compares status and body.
fn compare(folder: &Path, store: &ClickHouse, paths: &[String]) -> Vec<String> {
    let ask = |plan: Plan| -> Vec<(u16, String)> {
        let server = plan.start();
        let mut wire = server.wire();
        let answers = paths.iter().map(|path| {
            let answer = wire.get(path);
            (answer.status, answer.text())
        });
        answers.collect()
    };
    let embedded = ask(plan(folder, &store.url()));
    let remote = ask(remote(folder, &store.url()));
    let mut different = String::new();
    for (path, (embedded, remote)) in paths.iter().zip(embedded.iter().zip(&remote)) {
        if embedded != remote {
            let cut = |text: &str| text.chars().take(700).collect::<String>();
            let _ = write!(
                different,
                "\n{path}\n  embedded   {} {}\n  clickhouse {} {}\n",
                embedded.0,
                cut(&embedded.1),
                remote.0,
                cut(&remote.1)
            );
        }
    }
    assert!(different.is_empty(), "{different}\n{}", store.log());
    remote.into_iter().map(|(status, text)| format!("{status} {text}")).collect()
}
