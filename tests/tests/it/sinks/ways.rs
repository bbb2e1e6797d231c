//! The ways to the store: TLS that is checked, and another endpoint when one is dead.

use super::{connected, plan, plan_of, publish, same_as_history, settled, sink};
use crate::rig::clickhouse::ClickHouse;
use crate::rig::fault_proxy::{FaultProxy, Mode};
use crate::rig::{Cell, until};
use std::io::Read;
use std::net::TcpListener;

#[test]
fn a_store_over_tls_is_trusted_by_its_authority_only() {
    let store = ClickHouse::start();
    let (own, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir());
    let other = other.expect("a folder");
    let proxy = FaultProxy::start_tls(store.address(), own.path());
    let _other = FaultProxy::start_tls(store.address(), other.path());
    let folder = tempfile::tempdir().expect("a folder");
    let with = |ca: &tempfile::TempDir| {
        let path = ca.path().join("cert.pem");
        plan(folder.path(), &proxy.url())
            .set(&format!("storage.clickhouse.ca_file={}", path.display()))
    };
    let server = with(&other).start();
    publish(&server, "a", 0..10);
    let says = |what: &str| sink(&server)["error"].as_str().is_some_and(|e| e.contains(what));
    until("the certificate to be refused", || says("certificate"));
    until("it to be tried again", || proxy.seen() == Default::default() && says("certificate"));
    assert_eq!(server.get_admin("/health/storage").status, 503);
    server.kill();
    let server = with(&own).start();
    settled(&server);
    same_as_history(&server, &store, &["a"]);
    assert!(proxy.seen().pass > 0, "over TLS");
}

/// Whoever asks for TLS never speaks in clear, also not to a port that does.
#[test]
fn nothing_is_said_in_clear_to_an_endpoint_that_should_speak_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it listens");
    let own = tempfile::tempdir().expect("a folder");
    let store = ClickHouse::start();
    let _tls = FaultProxy::start_tls(store.address(), own.path());
    let folder = tempfile::tempdir().expect("a folder");
    let password = folder.path().join("password");
    std::fs::write(&password, "canary-9d2e").expect("a file");
    let heard = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the sink connects");
        let mut heard = [0; 4_096];
        let count = stream.read(&mut heard).expect("it says something");
        heard[..count].to_vec()
    });
    let server = plan(folder.path(), &format!("https://{address}"))
        .set(&format!("storage.clickhouse.ca_file={}", own.path().join("cert.pem").display()))
        .set("storage.clickhouse.user=writer")
        .set(&format!("storage.clickhouse.password_file={}", password.display()))
        .start();
    let heard = heard.join().expect("it heard something");
    assert_eq!(heard[..2], [22, 3], "a TLS handshake");
    assert!(!String::from_utf8_lossy(&heard).contains("canary"));
    drop(server);
}

#[test]
fn a_dead_endpoint_is_passed_over_and_taken_again() {
    let store = ClickHouse::start();
    let (first, second) = (FaultProxy::start(store.address()), FaultProxy::start(store.address()));
    first.set(Mode::Refuse);
    let folder = tempfile::tempdir().expect("a folder");
    let server =
        plan_of(Cell::EPOLL_1, folder.path(), &format!("{},{}", first.url(), second.url())).start();
    publish(&server, "a", 0..10);
    settled(&server);
    assert!(second.seen().pass > 0 && first.seen().pass == 0);
    // The first comes back, and the second dies, after it has taken what it did not confirm.
    connected(&server);
    first.set(Mode::Pass);
    second.script(&[Mode::DropAnswer], Mode::Refuse);
    publish(&server, "a", 10..20);
    settled(&server);
    assert!(first.seen().pass > 0);
    // Both are gone for a while.
    first.set(Mode::Refuse);
    publish(&server, "a", 20..30);
    until("the sink to say so", || sink(&server)["health"] == "retrying");
    second.set(Mode::Pass);
    settled(&server);
    same_as_history(&server, &store, &["a"]);
}
