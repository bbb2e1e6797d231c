//! The ClickHouse and the proxy that storage is tested with do what those tests believe of them:
//! the engine is the real one, and the faults are those that they are named for.

use crate::rig::child::curl;
use crate::rig::clickhouse::{ClickHouse, query};
use crate::rig::fault_proxy::{FaultProxy, Mode};
use crate::rig::until;
use std::net::SocketAddr;

/// A table that knows a batch again.
const TABLE: &str = "CREATE TABLE t (a Int64) ENGINE = MergeTree ORDER BY a \
                     SETTINGS non_replicated_deduplication_window = 100";

fn insert(address: SocketAddr, token: &str) -> Result<String, String> {
    let settings = format!("async_insert = 0, insert_deduplication_token = '{token}'");
    query(address, "default", "", &format!("INSERT INTO t SETTINGS {settings} VALUES (1), (2)"))
}

fn count(server: &ClickHouse) -> String {
    server.query("SELECT count() FROM t").expect("a count").trim().to_owned()
}

#[test]
fn the_engine_is_the_pinned_one() {
    let server = ClickHouse::start();
    assert_eq!(server.query("SELECT version()").as_deref(), Ok("26.7.2.1\n"), "{}", server.log());
}

#[test]
fn a_query_that_fails_late_is_an_error_all_the_same() {
    let server = ClickHouse::start();
    let late = "SELECT throwIf(number = 999999, 'late') FROM numbers(1000000) FORMAT TSV";
    let error = server.query(late).expect_err("it throws");
    assert!(error.starts_with("Code: 395. DB::Exception: late"), "{error}");
}

#[test]
fn a_batch_sent_again_under_its_token_is_there_once() {
    let server = ClickHouse::start();
    server.query(TABLE).expect("a table");
    for (token, rows) in [("one", "2"), ("one", "2"), ("two", "4")] {
        insert(server.address(), token).expect("inserted");
        assert_eq!(count(&server), rows, "after {token}");
    }
}

#[test]
fn a_kill_keeps_what_was_acknowledged_and_the_tokens() {
    let mut server = ClickHouse::start();
    server.query(TABLE).expect("a table");
    insert(server.address(), "one").expect("inserted");
    let url = server.url();
    server.kill();
    let error = server.query("SELECT 1").expect_err("nobody listens");
    assert!(error.contains("refused"), "{error}");
    server.restart();
    assert_eq!(server.url(), url);
    insert(server.address(), "one").expect("inserted");
    assert_eq!(count(&server), "2");
}

#[test]
fn a_paused_engine_answers_after_the_pause() {
    let server = ClickHouse::start();
    server.pause();
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| server.query("SELECT 1"));
        assert!(!asked.is_finished());
        server.resume();
        assert_eq!(asked.join().expect("no panic").as_deref(), Ok("1\n"));
    });
}

#[test]
fn a_wrong_password_is_refused_and_the_right_one_is_not() {
    let server = ClickHouse::with_users(&[("writer", "s&cret<1>")]);
    let me = "SELECT currentUser()";
    assert_eq!(server.query_as("writer", "s&cret<1>", me).as_deref(), Ok("writer\n"));
    let error = server.query_as("writer", "wrong", me).expect_err("refused");
    assert!(error.contains("(AUTHENTICATION_FAILED)"), "{error}");
}

#[test]
fn an_answer_that_is_dropped_was_committed() {
    let server = ClickHouse::start();
    server.query(TABLE).expect("a table");
    let proxy = FaultProxy::start(server.address());
    proxy.set(Mode::DropAnswer);
    let error = insert(proxy.address(), "one").expect_err("no answer");
    assert!(error.contains("ended"), "{error}");
    assert_eq!((proxy.seen().drop_answer, count(&server)), (1, "2".to_owned()));
    // The retry that every client makes then.
    proxy.set(Mode::Pass);
    insert(proxy.address(), "one").expect("inserted");
    assert_eq!((proxy.seen().pass, count(&server)), (1, "2".to_owned()));
}

#[test]
fn a_fault_reaches_the_client_and_not_the_table() {
    let mut server = ClickHouse::start();
    server.query(TABLE).expect("a table");
    let proxy = FaultProxy::start(server.address());
    proxy.set(Mode::exception(252, "TOO_MANY_PARTS", "Too many parts (3000)"));
    let error = insert(proxy.address(), "one").expect_err("refused");
    assert!(error.starts_with("Code: 252. DB::Exception: Too many parts"), "{error}");
    proxy.set(Mode::status(500, ""));
    assert_eq!(insert(proxy.address(), "one"), Err(String::new()));
    proxy.set(Mode::Refuse);
    assert!(insert(proxy.address(), "one").is_err());
    proxy.set(Mode::Hang);
    let address = proxy.address();
    let hanging = std::thread::spawn(move || insert(address, "one"));
    until("the request that hangs", || proxy.seen().hang == 1);
    assert!(!hanging.is_finished());
    let seen = proxy.seen();
    assert_eq!((seen.pass, seen.status, seen.refuse, seen.drop_answer), (0, 2, 1, 0));
    drop(proxy);
    assert!(hanging.join().expect("no panic").is_err());
    assert_eq!(count(&server), "0");
    // With nobody behind it, a proxy looks like a server that went away.
    let proxy = FaultProxy::start(server.address());
    server.kill();
    assert!(insert(proxy.address(), "one").is_err());
    server.restart();
    insert(proxy.address(), "one").expect("inserted");
    assert_eq!(count(&server), "2");
}

#[test]
fn curl_keeps_its_connection_to_the_proxy_and_trusts_its_certificate() {
    let server = ClickHouse::start();
    let proxy = FaultProxy::start_tls(server.address(), server.folder());
    let cert = server.folder().join("cert.pem").display().to_string();
    let url = format!("{}/?query=SELECT+7", proxy.url());
    let written = ["--write-out", "%{num_connects}\n", "--cacert", &cert];
    let body = ["--data-binary", "", "--header", "Transfer-Encoding: chunked"];
    let printed = curl(&[&written[..], &body[..], &[&url, &url]].concat());
    assert_eq!(printed, "7\n1\n7\n0\n");
    assert_eq!(proxy.seen().pass, 2);
}
