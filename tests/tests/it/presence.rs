//! Presence of the client protocol: who is in a channel, who comes and who goes, with the SDKs and
//! with bytes of our own.

use crate::client::{CONNECT, Python, check, connected, converse};
use crate::rig::ws::Socket;
use crate::rig::{Cell, Site, until};
use serde_json::{Value, json};
use server::config::{Access, Config};
use std::cell::RefCell;

cells!(an_sdk_sees_who_comes_and_goes, members_come_and_go_with_their_subscriptions);

fn an_sdk_sees_who_comes_and_goes(cell: Cell) {
    let one = json!({"numClients": 1, "numUsers": 1});
    let two = json!({"numClients": 2, "numUsers": 1});
    let none = json!({"joinLeave": false});
    let script = json!([
        ["connect", null],
        ["expect", {"connecting": 0}],
        ["expect", {"connected": true}],
        ["subscribe", ["news"]],
        ["expect", {"channel": "news"}],
        ["presence_fails", ["news", 108]],
        ["presence_fails", ["room:a", 103]],
        ["subscribe", ["room:a", {"joinLeave": true}]],
        ["expect", {"channel": "room:a"}],
        ["expect", {"channel": "room:a", "join": ""}],
        ["presence", ["room:a", 1]],
        ["presence_stats", ["room:a", one]],
        // Does not ask for it, and hears nothing: not of itself, either.
        ["subscribe", ["room:b", none]],
        ["expect", {"channel": "room:b"}],
        ["say", "come"],
        ["expect", {"channel": "room:a", "join": ""}],
        ["presence", ["room:a", 2]],
        ["presence_stats", ["room:a", two]],
        ["presence_stats", ["room:b", two]],
        ["say", "go"],
        ["expect", {"channel": "room:a", "leave": ""}],
        ["presence", ["room:a", 1]],
        ["unsubscribe", "room:a"],
        ["expect", {"channel": "room:a", "unsubscribed": 0}],
        ["presence_fails", ["room:a", 103]],
        ["disconnect", null],
        ["expect", {"disconnected": 0}],
    ]);
    let other = RefCell::new(None);
    check(cell, &script, Python::All, |site, line| match line {
        "come" => {
            let mut socket = Visitor::open(site);
            socket.subscribe("room:b", false);
            // Behind its own entry.
            assert_eq!(socket.counts("room:b"), (2, 1));
            socket.subscribe("room:a", false);
            *other.borrow_mut() = Some(socket);
        }
        _ => drop(other.borrow_mut().take()),
    });
}

/// A client made of bytes.
struct Visitor {
    socket: Socket,
    id: u32,
    /// Pushes that came while an answer was waited for.
    pushes: Vec<Value>,
    name: String,
}

impl Visitor {
    fn open(site: &Site) -> Self {
        let mut socket = Socket::open(site.address(), "/connection/websocket");
        socket.send_text(CONNECT);
        let reply: Value = serde_json::from_str(&socket.next_text()).expect("JSON");
        let name = reply["connect"]["client"].as_str().expect("a name").to_owned();
        Self { socket, id: 1, pushes: Vec::new(), name }
    }

    fn call(&mut self, method: &str, request: Value) -> Value {
        self.id += 1;
        self.socket.send_text(&json!({"id": self.id, method: request}).to_string());
        loop {
            let reply: Value = serde_json::from_str(&self.socket.next_text()).expect("JSON");
            match reply.get("push") {
                Some(push) => self.pushes.push(push.clone()),
                None => {
                    assert_eq!(reply["id"], self.id, "{reply}");
                    return reply;
                }
            }
        }
    }

    fn subscribe(&mut self, channel: &str, watch: bool) {
        let reply = self.call("subscribe", json!({"channel": channel, "join_leave": watch}));
        assert!(reply["subscribe"].is_object(), "{reply}");
    }

    fn unsubscribe(&mut self, channel: &str) {
        self.call("unsubscribe", json!({"channel": channel}));
    }

    fn push(&mut self) -> Value {
        if !self.pushes.is_empty() {
            return self.pushes.remove(0);
        }
        let reply: Value = serde_json::from_str(&self.socket.next_text()).expect("JSON");
        reply["push"].clone()
    }

    fn hears(&mut self, what: &str, channel: &str, name: &str) {
        let info = json!({"client": name});
        assert_eq!(self.push(), json!({"channel": channel, what: {"info": info}}));
    }

    fn counts(&mut self, channel: &str) -> (u64, u64) {
        let reply = self.call("presence_stats", json!({"channel": channel}));
        let count = |name: &str| reply["presence_stats"][name].as_u64().unwrap_or(0);
        assert!(reply["presence_stats"].is_object(), "{reply}");
        (count("num_clients"), count("num_users"))
    }

    /// Their names, in order.
    fn present(&mut self, channel: &str) -> Vec<String> {
        let reply = self.call("presence", json!({"channel": channel}));
        let Some(listed) = reply["presence"].get("presence") else {
            assert!(reply["presence"].is_object(), "{reply}");
            return Vec::new();
        };
        let listed = listed.as_object().expect("a map");
        assert!(listed.iter().all(|(name, info)| *info == json!({"client": name})), "{reply}");
        let mut names: Vec<String> = listed.keys().cloned().collect();
        names.sort();
        names
    }
}

fn rooms(config: &mut Config) {
    let mut room = config.namespaces["default"].clone();
    (room.presence, room.join_leave) = (Access::Anonymous, true);
    config.namespaces.insert("room".into(), room.clone());
    room.force_push_join_leave = true;
    config.namespaces.insert("loud".into(), room.clone());
    (room.presence, room.join_leave) = (Access::Anonymous, false);
    config.namespaces.insert("listed".into(), room.clone());
    (room.presence, room.join_leave) = (Access::Nobody, true);
    config.namespaces.insert("told".into(), room);
}

fn members_come_and_go_with_their_subscriptions(cell: Cell) {
    let site = Site::with(cell, rooms);
    let mut watcher = Visitor::open(&site);
    let own = watcher.name.clone();
    watcher.subscribe("room:a", true);
    watcher.hears("join", "room:a", &own);
    let (mut one, mut two) = (Visitor::open(&site), Visitor::open(&site));
    one.subscribe("room:a", false);
    watcher.hears("join", "room:a", &one.name);
    two.subscribe("room:a", false);
    watcher.hears("join", "room:a", &two.name);
    let mut all = vec![own.clone(), one.name.clone(), two.name.clone()];
    all.sort();
    assert_eq!(watcher.present("room:a"), all);
    assert_eq!(one.counts("room:a"), (3, 1));

    // At unsubscribe, once; and again when it comes back, which does not make two of it.
    for _ in 0..3 {
        one.unsubscribe("room:a");
        watcher.hears("leave", "room:a", &one.name);
        one.unsubscribe("room:a");
        one.subscribe("room:a", false);
        watcher.hears("join", "room:a", &one.name);
    }
    assert_eq!(watcher.present("room:a"), all);
    assert_eq!(watcher.counts("room:a"), (3, 1));

    // When its connection ends, however it ends: with a word, for a reason, or without one.
    one.socket.send(0x88, &1000_u16.to_be_bytes());
    watcher.hears("leave", "room:a", &one.name);
    two.socket.send_text("{");
    watcher.hears("leave", "room:a", &two.name);
    let mut three = Visitor::open(&site);
    three.subscribe("room:a", false);
    watcher.hears("join", "room:a", &three.name);
    let gone = three.name.clone();
    drop(three);
    watcher.hears("leave", "room:a", &gone);
    assert_eq!(watcher.present("room:a"), [own]);
    assert!(one.pushes.is_empty() && two.pushes.is_empty(), "they did not ask");
}

#[test]
fn a_namespace_says_what_is_told() {
    let site = Site::with(Cell::URING_2, rooms);
    let mut one = Visitor::open(&site);
    let name = one.name.clone();
    let refused = |reply: Value| reply["error"]["code"].as_u64().expect("an error");
    // Without having asked.
    one.subscribe("loud:a", false);
    one.hears("join", "loud:a", &name);
    // Listed, but nobody is told; then the other way round.
    one.subscribe("listed:a", true);
    assert_eq!(one.present("listed:a"), std::slice::from_ref(&name));
    one.subscribe("told:a", true);
    one.hears("join", "told:a", &name);
    assert_eq!(refused(one.call("presence", json!({"channel": "told:a"}))), 108);
    assert_eq!(refused(one.call("presence_stats", json!({"channel": "told:a"}))), 108);
    // Off unless configured.
    one.subscribe("plain", true);
    assert_eq!(refused(one.call("presence", json!({"channel": "plain"}))), 108);
    // Only what one subscribes to, and only what can be a channel.
    assert_eq!(refused(one.call("presence", json!({"channel": "room:b"}))), 103);
    assert_eq!(refused(one.call("presence_stats", json!({"channel": "room:b"}))), 103);
    assert_eq!(refused(one.call("presence", json!({"channel": ""}))), 107);
    assert!(one.pushes.is_empty(), "{:?}", one.pushes);
}

#[test]
fn what_follows_a_subscribe_in_its_frame_finds_the_client_there() {
    let site = Site::with(Cell::URING_2, rooms);
    let subscribed = json!({"recoverable": true, "epoch": null, "positioned": true});
    let stats = json!({"num_clients": 1, "num_users": 1});
    converse(
        &site,
        &[
            (CONNECT, &[connected()]),
            (
                "{\"id\":2,\"subscribe\":{\"channel\":\"room:a\"}}\n\
                 {\"id\":3,\"presence_stats\":{\"channel\":\"room:a\"}}\n",
                &[
                    json!({"id": 2, "subscribe": subscribed}),
                    json!({"id": 3, "presence_stats": stats}),
                ],
            ),
        ],
    );
}

#[test]
fn a_subscribe_that_fails_makes_no_member() {
    let site = Site::with(Cell::URING_2, rooms);
    let mut watcher = Visitor::open(&site);
    let own = watcher.name.clone();
    watcher.subscribe("room:a", true);
    watcher.hears("join", "room:a", &own);
    let mut one = Visitor::open(&site);
    let strict =
        json!({"channel": "room:a", "recover": true, "epoch": "_", "offset": 2, "flag": 2});
    assert_eq!(one.call("subscribe", strict)["error"]["code"], 112);
    let position = json!({"channel": "room:a", "recover": true, "offset": 0, "flag": 2});
    let reply = one.call("subscribe", position);
    assert_eq!(reply["subscribe"]["recovered"], true, "{reply}");
    watcher.hears("join", "room:a", &one.name);
    assert_eq!(watcher.counts("room:a"), (2, 1));
    assert!(watcher.pushes.is_empty(), "{:?}", watcher.pushes);
    // Where the shard knows nothing of the channel yet.
    let position = json!({"channel": "room:b", "recover": true, "offset": 0, "flag": 2});
    assert!(one.call("subscribe", position)["subscribe"].is_object());
    assert_eq!(one.counts("room:b"), (1, 1));
}

#[test]
fn over_a_bound_a_client_is_subscribed_but_not_listed() {
    let site = Site::with(Cell::URING_2, |config| {
        rooms(config);
        config.limits.presence_members_max = 2;
    });
    let mut visitors: Vec<Visitor> = (0..3).map(|_| Visitor::open(&site)).collect();
    for visitor in &mut visitors {
        visitor.subscribe("room:a", false);
        // Behind its own entry.
        visitor.counts("room:a");
    }
    let mut listed = vec![visitors[0].name.clone(), visitors[1].name.clone()];
    listed.sort();
    let last = &mut visitors[2];
    assert_eq!(last.present("room:a"), listed);
    assert_eq!(last.counts("room:a"), (2, 1));
    until("the drop to be counted", || {
        let metrics = site.admin_get("/metrics").text();
        let of = |line: &&str| line.starts_with("shardcast_drops_total");
        let mut lines = metrics.lines().filter(of);
        lines.any(|line| line.contains("presence_full") && line.ends_with(" 1"))
    });
    let answer =
        site.post("/v1/channels/room:a/events", "application/json", r#"{"data":"for all"}"#);
    assert_eq!(answer.status, 202);
    assert_eq!(last.push()["pub"]["data"], "for all");
    // It leaves as quietly as it came, and room is for whoever comes next.
    last.unsubscribe("room:a");
    visitors[0].unsubscribe("room:a");
    until("the room it leaves", || visitors[1].counts("room:a") == (1, 1));
    visitors[2].subscribe("room:a", true);
    let name = visitors[2].name.clone();
    visitors[2].hears("join", "room:a", &name);
    assert_eq!(visitors[1].counts("room:a"), (2, 1));
}

#[test]
fn a_list_that_is_too_long_for_an_answer_is_an_error_and_the_counts_go_on() {
    let site = Site::with(Cell::URING_1, |config| {
        rooms(config);
        config.limits.message_bytes_max = 1 << 10;
    });
    let mut visitors: Vec<Visitor> = (0..20).map(|_| Visitor::open(&site)).collect();
    let mut answers = Vec::new();
    for visitor in &mut visitors {
        visitor.subscribe("room:a", false);
        let reply = visitor.call("presence", json!({"channel": "room:a"}));
        answers.push(reply["error"]["code"].as_u64());
    }
    let first = answers.iter().position(|code| *code == Some(106)).expect("too long at last");
    assert!(first > 0 && answers[..first].iter().all(Option::is_none), "{answers:?}");
    assert!(answers[first..].iter().all(|code| *code == Some(106)), "{answers:?}");
    assert_eq!(visitors[0].counts("room:a"), (20, 1));
}
