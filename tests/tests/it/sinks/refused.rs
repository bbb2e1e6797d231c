//! A store that is reached and does not fit is refused at the start with a remedy; one that is not
//! reached is waited for. And its password is nowhere to be seen.

use super::{connected, plan, publish, settled, sink, value};
use crate::rig::child::output;
use crate::rig::clickhouse::ClickHouse;
use crate::rig::process::{PROGRAM, Plan};
use std::path::Path;
use std::process::Command;

/// Starts a server that must refuse to; gives what it says.
fn refusal(plan: &Plan) -> String {
    let ended = output(&mut plan.command());
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.code().is_some_and(|code| code != 0), "{}: {said}", ended.status);
    said
}

fn contains_all(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "no {word:?} in: {text}");
    }
}

#[test]
fn a_database_that_does_not_fit_is_refused_by_table_and_column() {
    let store = ClickHouse::start();
    let folder = tempfile::tempdir().expect("a folder");
    for sql in [
        "CREATE DATABASE foreign_one",
        "CREATE TABLE foreign_one.events (id String, offset UInt32) ENGINE = MergeTree ORDER BY id",
        "CREATE DATABASE later",
    ] {
        store.query(sql).expect("a table");
    }
    let with = |database: &str| {
        let database = format!("storage.clickhouse.database={database}");
        plan(folder.path(), &store.url()).set(&database)
    };
    let said = refusal(&with("foreign_one"));
    let names = ["foreign_one.events", "`offset`", "UInt32", "UInt64", "rename that table"];
    contains_all(&said, &names);
    let columns = "SELECT count() FROM system.columns WHERE database = 'foreign_one' AND table = \
                   'events'";
    assert_eq!(value(&store, columns), "2", "what is not ours is left alone");

    let server = with("later").start();
    publish(&server, "a", 0..3);
    settled(&server);
    server.kill();
    let comment = "ALTER TABLE later.events MODIFY COMMENT 'shardcast schema 7'";
    store.query(comment).expect("a comment");
    let said = refusal(&with("later"));
    contains_all(&said, &["later", "schema 7", "run the newer server"]);
    assert_eq!(value(&store, "SELECT count() FROM later.events"), "3");
    store.query("ALTER TABLE later.events MODIFY COMMENT 'shardcast schema 1'").expect("back");
    let server = with("later").start();
    publish(&server, "a", 3..5);
    settled(&server);
    assert_eq!(value(&store, "SELECT count() FROM later.events"), "5");
}

#[test]
fn a_password_opens_the_store_and_is_seen_nowhere() {
    const CANARY: &str = "canary-7c1f-password";
    let store = ClickHouse::with_users(&[("writer", CANARY)]);
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path
    };
    let with = |password: &Path| {
        plan(folder.path(), &store.url())
            .set("storage.clickhouse.user=writer")
            .set(&format!("storage.clickhouse.password_file={}", password.display()))
    };
    let mut seen = String::new();
    let said = refusal(&with(&file("wrong", "wrong-canary-7c1f-password\n")));
    contains_all(&said, &["Authentication failed", "[storage.clickhouse]"]);
    seen.push_str(&said);
    let said = refusal(&with(&folder.path().join("missing")));
    contains_all(&said, &["storage.clickhouse.password_file", "missing", "No such file"]);
    let said = refusal(&with(&file("empty", "\n")));
    contains_all(&said, &["storage.clickhouse.password_file", "on one line"]);
    // What no header can carry would fail for ever and say nothing that helps.
    let said = refusal(&with(&file("odd", "gr\u{fc}n\u{1}\n")));
    contains_all(&said, &["storage.clickhouse.password_file"]);

    let right = file("right", &format!("{CANARY}\n"));
    let server = with(&right).start();
    publish(&server, "a", 0..10);
    settled(&server);
    assert_eq!(value(&store, "SELECT count() FROM shardcast.events"), "10");
    // It is taken away while the server runs, which then says why, and not with what.
    store.query("DETACH TABLE shardcast.events").expect("away");
    publish(&server, "a", 10..12);
    crate::rig::until("the sink to complain", || sink(&server)["health"] != "healthy");
    for path in ["/admin/storage", "/health/storage", "/metrics", "/admin/config", "/admin/status"]
    {
        seen.push_str(&server.get_admin(path).text());
    }
    let mut config = Command::new(PROGRAM);
    config.arg("config").env("SHARDCAST_STORAGE__CLICKHOUSE__USER", "writer");
    config.args(["--set", &format!("storage.clickhouse.password_file={}", right.display())]);
    config.args(["--set", &format!("storage.clickhouse.url={}", store.url())]);
    let config = output(&mut config);
    seen.push_str(&String::from_utf8_lossy(&[config.stdout, config.stderr].concat()));
    seen.push_str(&server.log());
    assert!(seen.contains("writer") && !seen.contains("canary-7c1f"), "{seen}");
}

#[test]
fn a_store_that_is_not_there_yet_is_waited_for() {
    let mut store = ClickHouse::start();
    store.kill();
    let folder = tempfile::tempdir().expect("a folder");
    let server = plan(folder.path(), &store.url()).start();
    publish(&server, "a", 0..10);
    assert_eq!(server.get("/health/ready").status, 200);
    let health = server.get_admin("/health/storage");
    contains_all(&health.text(), &["clickhouse takes nothing", &store.url()]);
    store.restart();
    connected(&server);
    settled(&server);
    assert_eq!(value(&store, "SELECT count() FROM shardcast.events"), "10");
}
