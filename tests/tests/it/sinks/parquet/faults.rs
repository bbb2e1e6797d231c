//! An object store that is slow, busy, away, or has something else in the way.

use super::{Place, files_below, health, plan, publish, s3_plan, same_as_history, settled, sink};
use crate::rig::fault_proxy::{FaultProxy, Mode};
use crate::rig::until;
use std::fs;

/// As S3 says that it wants less.
fn slow_down() -> Mode {
    let body = "<?xml version=\"1.0\"?><Error><Code>SlowDown</Code>\
                <Message>Please reduce your request rate.</Message></Error>";
    let headers = "Content-Type: application/xml\r\nRetry-After: 1\r\n".to_owned();
    Mode::Status { status: 503, headers, body: body.to_owned() }
}

#[test]
fn a_bucket_that_is_busy_slow_or_away_has_everything_once_in_the_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = Place::bucket();
    let Place::Bucket(store) = &place else { unreachable!() };
    let proxy = FaultProxy::start(store.address());
    let plan = s3_plan(folder.path(), &proxy.url()).set("storage.parquet.request_timeout_s=1");
    let server = plan.start();
    for (round, mode) in
        [slow_down(), Mode::Hang, Mode::DropAnswer, Mode::Refuse].into_iter().enumerate()
    {
        proxy.set(mode);
        publish(&server, "a", round * 100..round * 100 + 100);
        let error = health(&server, "retrying");
        assert!(error.starts_with("s3://cold/events: "), "{error}");
        let behind = server.get_admin("/health/storage");
        assert_eq!(behind.status, 503, "{}", behind.text());
        // Nobody waits for it, and nothing is lost meanwhile.
        publish(&server, "b", round * 100..round * 100 + 100);
        proxy.set(Mode::Pass);
        settled(&server);
        assert_eq!(sink(&server)["health"], "healthy");
    }
    assert!(server.metric("shardcast_sink_retries_total") >= 3.0);
    same_as_history(&server, &place.rows("pyarrow"), &["a", "b"]);
}

#[test]
fn a_bucket_that_is_away_at_the_start_gets_everything_when_it_is_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = Place::bucket();
    let Place::Bucket(store) = &place else { unreachable!() };
    let proxy = FaultProxy::start(store.address());
    proxy.set(Mode::Refuse);
    let server = s3_plan(folder.path(), &proxy.url()).start();
    publish(&server, "a", 0..10);
    health(&server, "retrying");
    let log = server.log();
    assert!(log.contains("not reached yet; events wait in the spool"), "{log}");
    proxy.set(Mode::Pass);
    settled(&server);
    same_as_history(&server, &place.rows("pyarrow"), &["a"]);
}

#[test]
fn a_bucket_behind_tls_is_trusted_only_with_its_authority() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = Place::bucket();
    let Place::Bucket(store) = &place else { unreachable!() };
    let proxy = FaultProxy::start_tls(store.address(), folder.path());
    let plan = s3_plan(folder.path(), &proxy.url());
    let server = plan.start();
    publish(&server, "a", 0..10);
    let error = health(&server, "retrying");
    assert!(error.contains("certificate"), "{error}");
    server.kill();
    let ca_file = folder.path().join("cert.pem");
    let server = plan.set(&format!("storage.parquet.ca_file={}", ca_file.display())).start();
    settled(&server);
    same_as_history(&server, &place.rows("pyarrow"), &["a"]);
}

#[test]
fn other_content_in_the_way_is_left_alone_and_a_person_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let cold = folder.path().join("cold");
    let place = Place::Folder(cold.clone());
    let plan = plan(folder.path(), cold.to_str().expect("UTF-8"));
    let server = plan.start();
    publish(&server, "a", 0..1);
    settled(&server);
    let first = files_below(&cold).pop().expect("a file");
    let next_seq = sink(&server)["confirmed_seq"].as_u64().expect("a number");
    // The next event is a range of its own, in this hour or, at its very end, in the next.
    let name = first.file_name().and_then(|name| name.to_str()).expect("UTF-8");
    let node = name.split('-').next().expect("a node");
    let name = format!("{node}-{next_seq:020}-{:020}.parquet", next_seq + 1);
    for hour in 0..24 {
        let hour = first
            .parent()
            .and_then(|hour| hour.parent())
            .map(|day| day.join(format!("hour={hour:02}")));
        let hour = hour.expect("a day");
        fs::create_dir_all(&hour).expect("a folder");
        fs::write(hour.join(&name), "somebody else's").expect("a file");
    }
    publish(&server, "a", 1..2);
    let error = health(&server, "stuck");
    assert!(error.contains(&name) && error.contains("move the file away"), "{error}");
    assert_eq!(server.metric("shardcast_sink_healthy"), 0.0);
    let mine = files_below(&cold).into_iter().filter(|path| path.ends_with(&name));
    let mine: Vec<_> = mine.collect();
    assert!(mine.iter().all(|path| fs::read(path).is_ok_and(|is| is == b"somebody else's")));
    // Publishing goes on, and a start looks at once whether it has been put right.
    publish(&server, "a", 2..3);
    server.kill();
    mine.iter().for_each(|path| fs::remove_file(path).expect("a file"));
    let server = plan.start();
    settled(&server);
    same_as_history(&server, &place.rows("pyarrow"), &["a"]);
}

#[test]
fn a_quiet_server_does_not_keep_its_events_to_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = Place::Folder(folder.path().join("cold"));
    let server = place.plan(folder.path()).start();
    for n in 0..3 {
        publish(&server, "a", n..n + 1);
        until("the only event to be in a file", || place.rows("pyarrow").len() == n + 1);
    }
    settled(&server);
    same_as_history(&server, &place.rows("pyarrow"), &["a"]);
}
