//! What a client gets that comes back: all, the newest event, or nothing, as the namespace says.

use crate::client::{CONNECT, Python, check_with, connected, converse};
use crate::rig::{Cell, Site};
use serde_json::{Value, json};
use server::config::RecoveryMode;

cells!(
    in_cache_mode_the_newest_event_stands_for_all,
    a_snapshot_comes_with_a_first_subscribe,
    the_newest_events_come_once_more_when_they_are_asked_for,
);

fn site(cell: Cell) -> Site {
    Site::with(cell, |config| {
        for (name, mode) in [("last", RecoveryMode::Cache), ("none", RecoveryMode::Off)] {
            let mut namespace = config.namespaces["default"].clone();
            namespace.recovery_mode = mode;
            config.namespaces.insert(name.into(), namespace);
        }
    })
}

fn publish(site: &Site, channel: &str, data: &Value) {
    let body = json!({"channel": channel, "data": data}).to_string();
    let answer = site.post("/api/publish", "application/json", body);
    assert!(answer.json()["result"].is_object(), "{}", answer.text());
}

/// The answer to a subscribe on a connection of its own.
fn subscribe(site: &Site, request: &Value) -> (Value, crate::rig::ws::Socket) {
    let mut socket = converse(site, &[(CONNECT, &[connected()])]);
    socket.send_text(&json!({"id": 2, "subscribe": request}).to_string());
    let reply: Value = serde_json::from_str(&socket.next_text()).expect("JSON");
    (reply, socket)
}

fn with(channel: &str, position: &Value) -> Value {
    let mut request = json!({"channel": channel, "recover": true});
    request.as_object_mut().unwrap().extend(position.as_object().unwrap().clone());
    request
}

fn in_cache_mode_the_newest_event_stands_for_all(cell: Cell) {
    let site = site(cell);
    // Nothing there yet, so nothing is found.
    let (reply, _) = subscribe(&site, &with("last:a", &json!({})));
    let result = &reply["subscribe"];
    assert_eq!(result["was_recovering"], json!(true), "{reply}");
    assert_eq!((result.get("recovered"), result.get("publications")), (None, None));
    let (reply, _) = subscribe(&site, &with("last:a", &json!({"flag": 2})));
    assert_eq!(reply["error"]["code"], json!(112), "{reply}");
    (1..=3).for_each(|n| publish(&site, "last:a", &json!(n)));
    let (reply, _) = subscribe(&site, &json!({"channel": "last:a"}));
    let epoch = reply["subscribe"]["epoch"].as_str().expect("an epoch").to_owned();
    let first = json!({"recoverable": true, "positioned": true, "epoch": epoch, "offset": 3});
    assert_eq!(reply["subscribe"], first);
    let newest = json!([{"data": 3, "offset": 3}]);
    let cases = [
        (json!({}), Some(&newest)),
        (json!({"offset": 3}), Some(&newest)),
        (json!({"epoch": epoch, "offset": 1}), Some(&newest)),
        (json!({"epoch": "_", "offset": 3}), Some(&newest)),
        (json!({"epoch": epoch, "offset": 9}), Some(&newest)),
        (json!({"epoch": epoch, "offset": 3}), None),
    ];
    // Where the shard knows the channel, and where it has to ask.
    for known in [true, false] {
        let held = known.then(|| subscribe(&site, &json!({"channel": "last:a"})));
        for (position, found) in &cases {
            let (reply, mut socket) = subscribe(&site, &with("last:a", position));
            let result = &reply["subscribe"];
            assert_eq!(result["recovered"], json!(true), "{position} {known}: {reply}");
            assert_eq!(result.get("publications"), *found, "{position} {known}: {reply}");
            assert_eq!(result["epoch"], json!(epoch));
            // And live from there.
            publish(&site, "other", &json!(0));
            socket.send_text(r#"{"id":3,"ping":{}}"#);
            assert_eq!(socket.next_text(), r#"{"id":3,"ping":{}}"#);
        }
        drop(held);
    }
    let (_, mut socket) = subscribe(&site, &with("last:a", &json!({"delta": "fossil"})));
    publish(&site, "last:a", &json!(4));
    let push: Value = serde_json::from_str(&socket.next_text()).expect("JSON");
    assert_eq!(push["push"]["pub"]["offset"], json!(4));
    // What is gone from memory is not found.
    let remove = r#"{"channel":"last:a"}"#;
    site.post("/api/history_remove", "application/json", remove);
    let (reply, _) = subscribe(&site, &with("last:a", &json!({"epoch": epoch, "offset": 1})));
    assert_eq!(reply["subscribe"].get("recovered"), None, "{reply}");
    assert_eq!(reply["subscribe"]["offset"], json!(4), "{reply}");
}

fn a_snapshot_comes_with_a_first_subscribe(cell: Cell) {
    let site = site(cell);
    (1..=3).for_each(|n| publish(&site, "a", &json!(n)));
    let wants = json!({"channel": "a", "data": {"snapshot": true}});
    for _ in 0..2 {
        let (reply, mut socket) = subscribe(&site, &wants);
        let result = &reply["subscribe"];
        assert_eq!(result["publications"][0]["data"], json!(3), "{reply}");
        assert_eq!(result["publications"].as_array().map(Vec::len), Some(1), "{reply}");
        assert_eq!((result.get("recovered"), result.get("was_recovering")), (None, None));
        assert_eq!(result["offset"], json!(3));
        let second = subscribe(&site, &wants);
        drop(second);
        socket.send_text(r#"{"id":3,"ping":{}}"#);
        assert_eq!(socket.next_text(), r#"{"id":3,"ping":{}}"#);
    }
    // Who recovers gets all.
    let (reply, _) =
        subscribe(&site, &with("a", &json!({"offset": 1, "data": {"snapshot": true}})));
    assert_eq!(reply["subscribe"]["publications"].as_array().map(Vec::len), Some(2), "{reply}");
    let (reply, _) = subscribe(&site, &json!({"channel": "empty", "data": {"snapshot": true}}));
    assert_eq!(reply["subscribe"].get("publications"), None, "{reply}");
    // The application's own data means nothing here; an option of ours that is none is refused.
    for data in [json!({"room": 1}), json!([1]), json!("x")] {
        let (reply, _) = subscribe(&site, &json!({"channel": "a", "data": data}));
        assert_eq!(reply["subscribe"].get("publications"), None, "{reply}");
    }
    let (reply, _) = subscribe(&site, &json!({"channel": "a", "data": {"snapshot": 1}}));
    assert_eq!(reply["error"]["code"], json!(107), "{reply}");
}

fn the_newest_events_come_once_more_when_they_are_asked_for(cell: Cell) {
    let site = site(cell);
    let mut socket = converse(&site, &[(CONNECT, &[connected()])]);
    let mut id = 1;
    let mut call = |socket: &mut crate::rig::ws::Socket, method: &str, request: Value| -> Value {
        id += 1;
        socket.send_text(&json!({"id": id, method: request}).to_string());
        let reply: Value = serde_json::from_str(&socket.next_text()).expect("JSON");
        assert_eq!(reply["id"], json!(id), "{reply}");
        reply
    };
    let push = |socket: &mut crate::rig::ws::Socket| -> Value {
        let reply: Value = serde_json::from_str(&socket.next_text()).expect("JSON");
        reply["push"].clone()
    };
    (1..=3).for_each(|n| publish(&site, "a", &json!(n)));
    for channel in ["a", "b", "empty"] {
        call(&mut socket, "subscribe", json!({"channel": channel}));
    }
    publish(&site, "b", &json!("x"));
    let b = json!({"channel": "b", "pub": {"data": "x", "offset": 1}});
    assert_eq!(push(&mut socket), b);
    let a = json!({"channel": "a", "pub": {"data": 3, "offset": 3}});
    let ask = |channels: Value| json!({"method": "snapshot", "data": {"channels": channels}});
    let reply = call(&mut socket, "rpc", json!({"method": "snapshot", "data": {}}));
    assert_eq!(reply["rpc"], json!({}), "{reply}");
    let mut got = [push(&mut socket), push(&mut socket)];
    got.sort_by_key(|push| push["channel"].to_string());
    assert_eq!(got, [a.clone(), b]);
    for _ in 0..3 {
        call(&mut socket, "rpc", ask(json!(["a"])));
        assert_eq!(push(&mut socket), a);
    }
    // It changes nothing of what comes.
    publish(&site, "a", &json!(4));
    assert_eq!(push(&mut socket)["pub"]["offset"], json!(4));
    for (channels, code) in [(json!(["a", "none"]), 103), (json!("a"), 107), (json!([1]), 107)] {
        let reply = call(&mut socket, "rpc", ask(channels.clone()));
        assert_eq!(reply["error"]["code"], json!(code), "{channels}: {reply}");
    }
    let many: Vec<String> = (0..300).map(|n| format!("c{n}")).collect();
    assert_eq!(call(&mut socket, "rpc", ask(json!(many)))["error"]["code"], json!(107));
    // Deltas go on from it.
    let (reply, mut socket) = subscribe(&site, &json!({"channel": "d", "delta": "fossil"}));
    assert_eq!(reply["subscribe"]["delta"], json!(true), "{reply}");
    let text = |n: u64| json!({"n": n, "text": "x".repeat(200)});
    let mut held = String::new();
    let mut apply = |publication: &Value| {
        let data = publication["data"].as_str().expect("always a string");
        held = if publication["delta"] == json!(true) {
            let applied = proto::delta::apply(held.as_bytes(), data.as_bytes(), 1 << 20);
            String::from_utf8(applied.expect("it applies")).expect("UTF-8")
        } else {
            data.to_owned()
        };
        let value: Value = serde_json::from_str(&held).expect("JSON");
        value["n"].as_u64().expect("a number")
    };
    for n in 1..=3 {
        publish(&site, "d", &text(n));
        assert_eq!(apply(&push(&mut socket)["pub"]), n);
        let asked = json!({"id": 9, "rpc": {"method": "snapshot"}}).to_string();
        socket.send_text(&asked);
        assert_eq!(socket.next_text(), r#"{"id":9,"rpc":{}}"#);
        assert_eq!(apply(&push(&mut socket)["pub"]), n);
    }
}

#[test]
fn where_nothing_is_recovered_the_position_is_still_told() {
    let site = site(Cell::URING_2);
    publish(&site, "none:a", &json!(1));
    let position = json!({"offset": 0, "recoverable": true, "positioned": true});
    for request in [json!({"channel": "none:a"}), with("none:a", &position)] {
        let (reply, mut socket) = subscribe(&site, &request);
        let epoch = reply["subscribe"]["epoch"].clone();
        let expected = json!({"positioned": true, "epoch": epoch, "offset": 1});
        assert_eq!(reply["subscribe"], expected);
        assert!(epoch.is_string());
        publish(&site, "other", &json!(1));
        socket.send_text(r#"{"id":3,"ping":{}}"#);
        assert_eq!(socket.next_text(), r#"{"id":3,"ping":{}}"#);
    }
}

#[test]
fn an_sdk_begins_with_the_newest_event_and_comes_back_to_it() {
    let newest = |offset: u64| json!({"publication": {"offset": offset, "data": offset}});
    let since = json!({"since": {"offset": 0, "epoch": ""}});
    let found = json!({"wasRecovering": true, "recovered": true, "recoverable": true});
    let script = json!([
        ["connect", null],
        ["expect", {"connecting": 0}],
        ["expect", {"connected": true}],
        ["say", "three"],
        ["subscribe", ["last:a", since]],
        ["expect", {"channel": "last:a", "subscribed": found}],
        ["expect", newest(3)],
        ["cut", null],
        ["expect", {"connecting": 1}],
        ["say", "three"],
        ["expect", {"connected": true}],
        ["expect", {"channel": "last:a", "subscribed": found}],
        ["expect", newest(6)],
        ["cut", null],
        ["expect", {"connecting": 1}],
        ["expect", {"connected": true}],
        ["expect", {"channel": "last:a", "subscribed": found}],
        ["say", "three"],
        ["expect", newest(7)],
    ]);
    let count = std::cell::Cell::new(0_u64);
    let start = || {
        count.set(0);
        site(Cell::URING_2)
    };
    check_with(
        start,
        || script.clone(),
        Python::None,
        |site, _| {
            for _ in 0..3 {
                count.set(count.get() + 1);
                publish(site, "last:a", &json!(count.get()));
            }
        },
    );
}
