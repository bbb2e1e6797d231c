//! `shardcast storage` beside a running server: it sees every difference, and sends only what is
//! missing.

use super::{plan, settled, value};
use crate::rig::Cell;
use crate::rig::clickhouse::ClickHouse;
use crate::rig::process::{PROGRAM, Plan, Process};
use crate::rig::until;
use std::path::Path;
use std::process::Command;

/// Runs `shardcast storage ...` with the configuration of the server; exit code and output.
pub(super) fn tool(
    folder: &Path,
    server: &Process,
    store: &ClickHouse,
    words: &[&str],
) -> (i32, String) {
    let mut command = Command::new(PROGRAM);
    command.arg("storage").args(words);
    command.arg("--data-dir").arg(folder.join("data"));
    command.args(["--admin-listen", &server.admin.to_string()]);
    command.args(["--set", &format!("storage.clickhouse.url={}", store.url())]);
    let output = command.output().expect("the program runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().expect("an exit code"), String::from_utf8_lossy(&text).into_owned())
}

fn publish(server: &Process, ids: std::ops::Range<u32>) {
    let line = |n| format!("{{\"channel\":\"a\",\"id\":\"id-{n}\",\"data\":{{\"n\":{n}}}}}\n");
    let body: String = ids.map(line).collect();
    let answer = server.post("/v1/events?ack=stored", "application/x-ndjson", body);
    assert_eq!(answer.status, 202, "{}", answer.text());
}

/// The cursor file says what the store has.
fn saved(server: &Process) {
    until("the cursor to be saved", || {
        let status = server.get_admin("/admin/storage").json();
        status["sinks"][0]["cursor_seq"] == status["sinks"][0]["confirmed_seq"]
    });
}

const FORGET: &str = "ALTER TABLE shardcast.events DELETE WHERE id IN ('id-7', 'id-450') \
                      SETTINGS mutations_sync = 2";

#[test]
fn verify_sees_what_is_missing_doubled_or_changed_and_replay_sends_only_what_is_missing() {
    let store = ClickHouse::start();
    let folder = tempfile::tempdir().expect("a folder");
    let server = plan(folder.path(), &store.url()).start();
    let tool = |words: &[&str]| tool(folder.path(), &server, &store, words);
    publish(&server, 0..500);
    saved(&server);
    let (code, text) = tool(&["verify"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("no differences") && text.contains(" 500 "), "{text}");
    store.query(FORGET).expect("rows go");
    let (code, text) = tool(&["verify"]);
    assert!(code == 1 && text.contains("498  MISSING"), "{text}");
    let (code, text) = tool(&["replay", "--from", "1h"]);
    assert!(code == 0 && text.contains("500 events looked at, 2 were missing"), "{text}");
    let (code, text) = tool(&["replay", "--from", "1h"]);
    assert!(code == 0 && text.contains("0 were missing"), "{text}");
    assert_eq!(tool(&["verify"]).0, 0);
    assert_eq!(value(&store, "SELECT count(), uniqExact(id) FROM shardcast.events"), "500\t500");
    let double = "INSERT INTO shardcast.events SELECT * FROM shardcast.events WHERE id = 'id-9'";
    store.query(double).expect("a row comes again");
    let (code, text) = tool(&["verify"]);
    assert!(code == 1 && text.contains("501  TOO MANY"), "{text}");
    let change = "ALTER TABLE shardcast.events DELETE WHERE id = 'id-9' SETTINGS mutations_sync=2";
    store.query(change).expect("rows go");
    tool(&["replay", "--from", "1h"]);
    let change = "ALTER TABLE shardcast.events UPDATE payload = 'x' WHERE id = 'id-9' \
                  SETTINGS mutations_sync = 2";
    store.query(change).expect("a row changes");
    let (code, text) = tool(&["verify", "--json"]);
    assert_eq!(code, 1, "{text}");
    let report: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let difference = &report[0]["differences"][0];
    assert_eq!(difference["spool"]["rows"], difference["clickhouse"]["rows"]);
    assert_ne!(difference["spool"]["checksum"], difference["clickhouse"]["checksum"]);
}

#[test]
fn dead_letters_come_alive_once_their_cause_is_gone_and_status_names_it_meanwhile() {
    let store = ClickHouse::start();
    let folder = tempfile::tempdir().expect("a folder");
    let server = plan(folder.path(), &store.url()).start();
    let tool = |words: &[&str]| tool(folder.path(), &server, &store, words);
    let add = "ALTER TABLE shardcast.events ADD CONSTRAINT sane CHECK NOT endsWith(id, '3')";
    store.query(add).expect("a constraint");
    publish(&server, 0..20);
    settled(&server);
    let (code, text) = tool(&["status"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("sane") && text.contains("healthy, 0 events behind"), "{text}");
    let (code, text) = tool(&["replay", "--dead-letters"]);
    assert!(code == 1 && text.contains("0 moved into events, 2 still rejected"), "{text}");
    store.query("ALTER TABLE shardcast.events DROP CONSTRAINT sane").expect("gone");
    let (code, text) = tool(&["replay", "--dead-letters", "--reason", "nothing like it"]);
    assert!(code == 0 && text.contains("0 dead letters"), "{text}");
    let (code, text) = tool(&["replay", "--dead-letters", "--reason", "sane"]);
    assert!(code == 0 && text.contains("2 moved into events, 0 still rejected"), "{text}");
    assert_eq!(value(&store, "SELECT count(), uniqExact(id) FROM shardcast.events"), "20\t20");
    assert_eq!(value(&store, "SELECT count() FROM shardcast.dead_letters"), "0");
    saved(&server);
    let (code, text) = tool(&["verify"]);
    assert_eq!(code, 0, "{text}");
    let (code, text) = tool(&["status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((code, &status["dead_letters"]), (0, &serde_json::json!([])), "{text}");
}

#[test]
fn an_export_is_every_event_of_the_spool_beside_a_running_server() {
    let store = ClickHouse::start();
    let folder = tempfile::tempdir().expect("a folder");
    let server = plan(folder.path(), &store.url()).start();
    publish(&server, 0..300);
    let other = server.post("/v1/channels/b/events?ack=durable", "text/plain", "hello");
    assert_eq!(other.status, 202);
    let export = |words: &[&str]| {
        let mut all = vec!["export"];
        all.extend(words);
        tool(folder.path(), &server, &store, &all)
    };
    let (code, text) = export(&[]);
    assert!(code == 0 && text.ends_with("301 events\n"), "{}", &text[text.len() - 200..]);
    let ids = text.lines().filter(|line| line.contains("\"id\":\"id-")).count();
    assert_eq!(ids, 300);
    let (_, text) = export(&["--channel", "b"]);
    assert!(text.contains("\"data\":\"hello\"") && text.ends_with("1 events\n"), "{text}");
    let (_, text) = export(&["--to", "1h"]);
    assert_eq!(text, "0 events\n");
    let (code, text) = export(&["--from", "soon"]);
    assert!(code == 64 && text.contains("such as 90s, 30m, 24h or 7d"), "{text}");
}

#[test]
fn verify_sees_a_parquet_file_that_is_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    let cold = folder.path().join("cold");
    let location = format!("storage.parquet.location={}", cold.display());
    let plan = Plan::new(Cell::EPOLL_1, folder.path()).set(&location);
    let server = plan.set("storage.parquet.seal_s=1").start();
    let answer = server.post("/v1/channels/a/events?ack=durable", "text/plain", "hello");
    assert_eq!(answer.status, 202, "{}", answer.text());
    settled(&server);
    saved(&server);
    let verify = || {
        let mut command = Command::new(PROGRAM);
        command.args(["storage", "verify", "--set", &location, "--data-dir"]);
        let output = command.arg(folder.path().join("data")).output().expect("the program runs");
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    };
    let (code, text) = verify();
    assert!(code == Some(0) && text.contains("spool and parquet"), "{text}");
    assert!(text.contains(" 1              1  equal"), "{text}");
    std::fs::remove_dir_all(&cold).expect("gone");
    let (code, text) = verify();
    assert!(code == Some(1) && text.contains(" 1              0  MISSING"), "{text}");
}

#[test]
fn a_row_that_is_rejected_does_not_keep_the_others_from_being_sent_again() {
    let store = ClickHouse::start();
    let folder = tempfile::tempdir().expect("a folder");
    let server = plan(folder.path(), &store.url()).start();
    let tool = |words: &[&str]| tool(folder.path(), &server, &store, words);
    let add = "ALTER TABLE shardcast.events ADD CONSTRAINT sane CHECK id != 'id-5'";
    store.query(add).expect("a constraint");
    publish(&server, 0..40);
    saved(&server);
    let (code, text) = tool(&["verify"]);
    assert!(code == 0, "a dead letter is not missing: {text}");
    store.query("TRUNCATE TABLE shardcast.events").expect("rows go");
    let (code, text) = tool(&["replay", "--from", "1h"]);
    assert!(code == 1 && text.contains("39 were missing and have been sent, 1 are"), "{text}");
    assert_eq!(value(&store, "SELECT count(), uniqExact(id) FROM shardcast.events"), "39\t39");
    assert_eq!(tool(&["verify"]).0, 0);
    // The view has counted them twice now.
    let minutes = "SELECT sum(events) FROM shardcast.events_by_minute";
    assert_eq!(value(&store, minutes), "78");
    let (code, text) = tool(&["reconcile", "--from", "1h"]);
    assert!(code == 0 && text.contains("by 39 of 39 events"), "{text}");
    assert_eq!(value(&store, minutes), "39");
    let (_, text) = tool(&["reconcile", "--from", "1h"]);
    assert!(text.contains(" 0 were wrong"), "{text}");
}

#[test]
fn status_says_what_the_server_says_although_the_store_hangs() {
    let store = ClickHouse::start();
    let folder = tempfile::tempdir().expect("a folder");
    let server = plan(folder.path(), &store.url()).start();
    publish(&server, 0..3);
    store.pause();
    let (code, text) = tool(folder.path(), &server, &store, &["status"]);
    store.resume();
    assert!(code == 69 && text.contains("clickhouse  healthy"), "{text}");
    assert!(text.contains("dead letters: ClickHouse:"), "{text}");
}

#[test]
fn another_database_is_not_taken_for_the_one_that_was_filled() {
    let store = ClickHouse::start();
    let folder = tempfile::tempdir().expect("a folder");
    let first = plan(folder.path(), &store.url());
    let server = first.start();
    publish(&server, 0..3);
    saved(&server);
    server.kill();
    let mut other =
        plan(folder.path(), &store.url()).set("storage.clickhouse.database=other").command();
    let output = other.output().expect("the program runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{text}");
    assert!(text.contains("remove clickhouse.cursor"), "{text}");
    let mut secret = plan(folder.path(), "http://me:canary@127.0.0.1:1").command();
    let output = secret.output().expect("the program runs");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("canary"));
    first.start();
}
