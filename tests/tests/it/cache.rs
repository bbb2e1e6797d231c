//! What a client gets that comes back: all, the newest event, or nothing, as the namespace says.

use crate::client::{CONNECT, check_with, connected, converse};
use crate::rig::{Cell, Site};
use serde_json::{Value, json};
use server::config::RecoveryMode;

cells!(in_cache_mode_the_newest_event_stands_for_all, a_snapshot_comes_with_a_first_subscribe);

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
        false,
        |site, _| {
            for _ in 0..3 {
                count.set(count.get() + 1);
                publish(site, "last:a", &json!(count.get()));
            }
        },
    );
}
