//! Recovery of the client protocol where memory does not reach back far enough: from the spool,
//! with bytes of our own and with the SDKs, under cuts and while others publish.

use crate::client::{CONNECT, Python, check, connected, converse};
use crate::rig::http::Wire;
use crate::rig::process::Plan;
use crate::rig::ws::Socket;
use crate::rig::{Cell, Site, until};
use serde_json::{Value, json};
use server::config::namespace::Access;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};

const PATH: &str = "/connection/websocket";

/// A site whose histories hold so many events.
fn forgetful(cell: Cell, history: u32) -> Site {
    Site::with(cell, |config| {
        config.namespaces.get_mut("default").expect("it is there").history_size = history;
    })
}

/// Publishes numbers, each its own offset.
fn publish(address: SocketAddr, channel: &str, numbers: RangeInclusive<u64>) {
    let mut wire = Wire::connect(address);
    let target = format!("/v1/channels/{channel}/events");
    let numbers: Vec<u64> = numbers.collect();
    for part in numbers.chunks(500) {
        let lines: Vec<String> = part.iter().map(|n| format!("{{\"data\":{n}}}")).collect();
        let answer = wire.post(&target, "application/x-ndjson", lines.join("\n").as_bytes());
        assert_eq!(answer.status, 202, "{}", answer.text());
    }
}

/// The answer to a subscribe, on a connection of its own.
fn subscribe(address: SocketAddr, request: &Value) -> (Socket, Value) {
    let mut socket = Socket::open(address, PATH);
    socket.send_text(CONNECT);
    socket.next_text();
    socket.send_text(&json!({"id": 2, "subscribe": request}).to_string());
    loop {
        let reply: Value = serde_json::from_str(&socket.next_text()).expect("JSON");
        if reply["id"] == 2 {
            return (socket, reply);
        }
    }
}

fn epoch(address: SocketAddr, channel: &str) -> String {
    let (_, reply) = subscribe(address, &json!({"channel": channel}));
    reply["subscribe"]["epoch"].as_str().expect("an epoch").to_owned()
}

/// Offsets and data of what an answer carries; they are the same.
fn found(reply: &Value) -> Vec<u64> {
    let publications = reply["subscribe"]["publications"].as_array().cloned().unwrap_or_default();
    let offset = |publication: &Value| {
        assert_eq!(publication["data"], publication["offset"], "{publication}");
        publication["offset"].as_u64().expect("an offset")
    };
    publications.iter().map(offset).collect()
}

/// The next push is this one.
fn expect_live(socket: &mut Socket, number: u64) {
    let push: Value = serde_json::from_str(&socket.next_text()).expect("JSON");
    assert_eq!(push["push"]["pub"], json!({"data": number, "offset": number}));
}

/// Waits until so many recoveries have come to an outcome.
fn wait_for(site: &Site, outcome: &str, count: f64) {
    let series = format!("shardcast_recoveries_total{{outcome=\"{outcome}\"}}");
    until(&format!("{count} {outcome}"), || site.metric(&series) >= count);
}

cells!(
    what_memory_has_forgotten_comes_from_the_spool_whole_and_in_order,
    who_may_not_read_history_gets_nothing_from_the_spool,
    sdks_get_everything_once_and_in_order_whatever_is_cut,
);

fn who_may_not_read_history_gets_nothing_from_the_spool(cell: Cell) {
    let site = Site::with(cell, |config| {
        let namespace = config.namespaces.get_mut("default").expect("it is there");
        namespace.history_size = 3;
        namespace.history = Access::Nobody;
    });
    let address = site.address();
    publish(address, "a", 1..=20);
    let epoch = epoch(address, "a");
    for (offset, expected) in [(18, vec![19, 20]), (2, vec![])] {
        let request = json!({"channel": "a", "recover": true, "epoch": epoch, "offset": offset});
        let (_, reply) = subscribe(address, &request);
        assert_eq!(found(&reply), expected, "{reply}");
        let recovered = reply["subscribe"]["recovered"].as_bool().unwrap_or(false);
        assert_eq!(recovered, !expected.is_empty(), "{reply}");
    }
}

fn what_memory_has_forgotten_comes_from_the_spool_whole_and_in_order(cell: Cell) {
    for history in [0, 3] {
        let site = forgetful(cell, history);
        let address = site.address();
        publish(address, "other", 1..=400);
        publish(address, "a", 1..=700);
        let epoch = epoch(address, "a");
        for (since, offset) in [
            (json!({"epoch": epoch, "offset": 1}), 1),
            (json!({"epoch": epoch, "offset": 690}), 690),
            (json!({"epoch": epoch}), 0),
            // Any epoch will do.
            (json!({"offset": 5}), 5),
            (json!({"epoch": epoch, "offset": 1, "flag": 2}), 1),
        ] {
            let mut request = json!({"channel": "a", "recover": true});
            request.as_object_mut().unwrap().extend(since.as_object().unwrap().clone());
            let (mut socket, reply) = subscribe(address, &request);
            let result = &reply["subscribe"];
            assert_eq!(found(&reply), (offset + 1..=700).collect::<Vec<_>>(), "{request}");
            assert_eq!(
                (&result["recovered"], &result["was_recovering"]),
                (&true.into(), &true.into())
            );
            assert_eq!(result["offset"].as_u64().unwrap_or(0), offset, "as it was asked");
            assert_eq!(result["epoch"], epoch.as_str());
            socket.send_text(r#"{"id":3,"ping":{}}"#);
            assert_eq!(socket.next_text(), r#"{"id":3,"ping":{}}"#);
        }
        wait_for(&site, "recovered", 5.0);
        // One that is none of ours never recovers.
        let none = json!({"channel": "a", "recover": true, "epoch": "_", "offset": 1});
        let (mut socket, reply) = subscribe(address, &none);
        assert_eq!((&reply["subscribe"]["recovered"], found(&reply).len()), (&Value::Null, 0));
        publish(address, "a", 701..=702);
        expect_live(&mut socket, 701);
        expect_live(&mut socket, 702);
    }
}

#[test]
fn more_than_an_answer_may_carry_is_lost_as_a_whole_and_said() {
    let site = Site::with(Cell::URING_2, |config| {
        config.namespaces.get_mut("default").expect("it is there").history_size = 3;
        config.limits.recovery_events_max = 100;
        config.limits.recovery_bytes_max = 12 << 10;
    });
    let address = site.address();
    publish(address, "a", 1..=200);
    let large = json!({"data": "x".repeat(1 << 10)}).to_string();
    for _ in 0..20 {
        assert_eq!(site.post("/v1/channels/b/events", "application/json", &large).status, 202);
    }
    let ask = |channel: &str, offset: u64, flag: u64| {
        let request = json!({"channel": channel, "recover": true, "offset": offset, "flag": flag});
        subscribe(address, &request)
    };
    // 97 of them are not in memory, then 98, and so on; all of them, or none.
    assert_eq!(found(&ask("a", 100, 0).1), (101..=200).collect::<Vec<_>>());
    for (channel, offset, top) in [("a", 96, 200), ("a", 0, 200), ("b", 0, 20)] {
        let (mut socket, reply) = ask(channel, offset, 0);
        let mut result = reply["subscribe"].clone();
        assert!(result["epoch"].take().is_string());
        let lost = json!({"recoverable": true, "positioned": true, "offset": top, "epoch": null,
            "was_recovering": true});
        assert_eq!(result, lost, "{channel} after {offset}");
        if channel == "b" {
            continue;
        }
        let (_, refused) = ask(channel, offset, 2);
        assert_eq!(refused["error"]["code"], 112, "{refused}");
        socket.send_text(r#"{"id":3,"ping":{}}"#);
        assert_eq!(socket.next_text(), r#"{"id":3,"ping":{}}"#);
    }
    wait_for(&site, "lost", 5.0);
}

#[test]
fn a_restarted_server_recovers_what_it_never_had_in_memory() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let plan = Plan::new(Cell::URING_2, folder.path()).set("namespaces.default.history_size=2");
    let server = plan.start();
    publish(server.address, "a", 1..=300);
    let first = epoch(server.address, "a");
    server.terminate();
    let mut server = server;
    assert!(server.wait().success());
    // The same run as far as positions go, then another one.
    let server = plan.start();
    let since = |epoch: &str, offset: u64| json!({"channel": "a", "recover": true, "epoch": epoch, "offset": offset});
    let (_, reply) = subscribe(server.address, &since(&first, 10));
    assert_eq!(reply["subscribe"]["recovered"], true, "{reply}");
    assert_eq!(found(&reply), (11..=300).collect::<Vec<_>>());
    let wire = &mut Wire::connect(server.address);
    for number in 301..=310 {
        let body = json!({"data": number}).to_string();
        let target = "/v1/channels/a/events?ack=durable";
        assert_eq!(wire.post(target, "application/json", body.as_bytes()).status, 202);
    }
    server.kill();
    let server = plan.start();
    let (mut socket, reply) = subscribe(server.address, &since(&first, 10));
    assert_eq!(found(&reply), (11..=310).collect::<Vec<_>>());
    assert_ne!(reply["subscribe"]["epoch"], first.as_str(), "it did not stop cleanly");
    publish(server.address, "a", 311..=311);
    expect_live(&mut socket, 311);
}

#[test]
fn in_cache_mode_a_crash_does_not_repeat_what_a_client_holds() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let plan = Plan::new(Cell::URING_2, folder.path());
    let plan = plan.set("namespaces.last.recovery_mode=cache");
    let server = plan.start();
    let body = |n: u64| json!({"data": {"n": n, "text": "x".repeat(100)}}).to_string();
    let target = "/v1/channels/last:a/events?ack=durable";
    assert_eq!(server.post(target, "application/json", body(1)).status, 202);
    let first = epoch(server.address, "last:a");
    server.kill();
    let server = plan.start();
    let request = json!({"channel": "last:a", "recover": true, "epoch": first, "offset": 1,
        "delta": "fossil"});
    let (mut socket, reply) = subscribe(server.address, &request);
    assert_eq!(reply["subscribe"]["recovered"], true, "{reply}");
    assert_eq!(reply["subscribe"].get("publications"), None, "{reply}");
    assert_ne!(reply["subscribe"]["epoch"], first.as_str(), "it did not stop cleanly");
    // Whether it still has what a delta would start from nobody knows.
    assert_eq!(server.post(target, "application/json", body(2)).status, 202);
    let push: Value = serde_json::from_str(&socket.next_text()).expect("JSON");
    assert_eq!(push["push"]["pub"]["offset"], 2, "{push}");
    assert!(push["push"]["pub"].get("delta").is_none(), "{push}");
}

#[test]
fn more_recoveries_than_run_at_once_take_their_turn() {
    let site = forgetful(Cell::URING_2, 1);
    let names: Vec<String> = (0..100).map(|at| format!("c{at}")).collect();
    for name in &names {
        publish(site.address(), name, 1..=20);
    }
    let mut socket = converse(&site, &[(CONNECT, &[connected()])]);
    let subscribe = |(id, name): (usize, &String)| {
        let request = json!({"channel": name, "recover": true, "offset": 0});
        json!({"id": id, "subscribe": request}).to_string()
    };
    let frame: Vec<String> = (2..).zip(&names).map(subscribe).collect();
    socket.send_text(&frame.join("\n"));
    let mut ids = Vec::new();
    for _ in &names {
        let reply: Value = serde_json::from_str(&socket.next_text()).expect("JSON");
        assert_eq!(found(&reply), (1..=20).collect::<Vec<_>>(), "{reply}");
        ids.push(reply["id"].as_u64().expect("an id"));
    }
    ids.sort_unstable();
    assert_eq!(ids, (2..102).collect::<Vec<_>>());
}

#[test]
fn nothing_is_lost_or_doubled_between_the_spool_and_what_is_published_meanwhile() {
    let site = forgetful(Cell::EPOLL_2, 20);
    let address = site.address();
    publish(address, "a", 1..=100);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            let mut next = 101;
            while !over.load(Ordering::Relaxed) {
                publish(address, "a", next..=next + 9);
                next += 10;
            }
            next - 1
        });
        let mut at = 0;
        for round in 0..60_u64 {
            let request = json!({"channel": "a", "recover": true, "offset": at});
            let (mut socket, reply) = subscribe(address, &request);
            assert_eq!(reply["subscribe"]["recovered"], true, "round {round}: {reply}");
            let found = found(&reply);
            assert!(found.iter().copied().eq(at + 1..=at + found.len() as u64), "{reply}");
            at += found.len() as u64;
            for _ in 0..round % 7 * 5 {
                expect_live(&mut socket, at + 1);
                at += 1;
            }
        }
        over.store(true, Ordering::Relaxed);
        let top = publisher.join().expect("it published");
        let (_, reply) =
            subscribe(address, &json!({"channel": "a", "recover": true, "offset": at}));
        assert_eq!(found(&reply), (at + 1..=top).collect::<Vec<_>>());
    });
    wait_for(&site, "recovered", 1.0);
}

/// Where the connections of an SDK are cut: a few offsets of those that it gets.
fn cuts(seed: u64, last: u64) -> Vec<u64> {
    let mut state = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    let mut at = 0;
    let mut cuts = Vec::new();
    loop {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        at += 1 + (state >> 40) % (last / 5);
        if at >= last {
            return cuts;
        }
        cuts.push(at);
    }
}

fn sdks_get_everything_once_and_in_order_whatever_is_cut(cell: Cell) {
    const LAST: u64 = 400;
    let cuts = cuts(u64::from(cell.shards) + 7, LAST);
    let script = json!([
        ["connect", null],
        ["expect", {"connecting": 0}],
        ["expect", {"connected": true}],
        ["subscribe", ["few:a"]],
        ["expect", {"channel": "few:a"}],
        ["say", "publish"],
        ["follow", {"channel": "few:a", "last": LAST, "cuts": cuts}],
        ["say", "check"],
    ]);
    check(cell, &script, Python::All, |site, line| {
        if line == "check" {
            // Or the spool was not needed.
            return wait_for(site, "recovered", 1.0);
        }
        let address = site.address();
        std::thread::spawn(move || {
            for first in (1..LAST).step_by(4) {
                publish(address, "few:a", first..=first + 3);
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        });
    });
}
