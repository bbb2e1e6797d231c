//! Subscriptions that the server makes: by the claims of a token, and by the server API.

use super::subscriptions::{Guest, of};
use super::*;
use crate::client::{Python, check_with};
use crate::rig::ws::Socket;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

const KEY: &str = "a-service-that-may-do-everything";

pub fn served(cell: Cell, change: impl FnOnce(&mut Config)) -> Site {
    guarded(cell, |config| {
        let mut key = service("backend", KEY, &["*"], &[Right::Publish, Right::History]);
        key.admin = true;
        config.api_keys.push(key);
        change(config);
    })
}

fn api(site: &Site, method: &str, body: Value) -> Value {
    let fields = format!("X-API-Key: {KEY}\r\nContent-Type: application/json\r\n");
    let body = body.to_string();
    let path = format!("/api/{method}");
    let answer = site.wire().request("POST", &path, &fields, body.as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn done(site: &Site, method: &str, body: Value) {
    let answer = api(site, method, body.clone());
    assert!(answer["result"].is_object(), "{method} {body}: {answer}");
}

pub fn say(site: &Site, channel: &str, data: impl Into<Value>) {
    done(site, "publish", json!({"channel": channel, "data": data.into()}));
}

pub fn with_subs(user: &str, claims: Value) -> String {
    let mut claims = claims;
    claims["sub"] = json!(user);
    claims["exp"] = json!(now_s() + 600);
    token(&claims)
}

fn a_token_brings_its_subscriptions_and_a_reconnect_what_they_missed(cell: Cell) {
    let site = served(cell, |config| {
        let mut room = config.namespaces["open"].clone();
        room.join_leave = true;
        config.namespaces.insert("room".into(), room);
    });
    say(&site, "users:a", 1);
    let subs = json!({
        "room:c": {"data": {"hello": "ü"}, "info": {"role": "x"}},
        "named:d": {"b64data": "AAE="},
    });
    let token = with_subs("ann", json!({"channels": ["users:a", "users:b"], "subs": subs}));
    let mut watcher = Guest::connect(&site, &of("bob"));
    watcher.call("subscribe", json!({"channel": "room:c", "join_leave": true}));
    watcher.push();
    let (mut ann, reply) = Guest::try_connect(&site, json!({ "token": token }));
    let subs = reply["connect"]["subs"].as_object().expect("subscriptions").clone();
    assert_eq!(subs.keys().collect::<Vec<_>>(), ["named:d", "room:c", "users:a", "users:b"]);
    let a = &subs["users:a"];
    let epoch = a["epoch"].as_str().expect("an epoch").to_owned();
    let live = json!({"recoverable": true, "positioned": true, "epoch": epoch, "offset": 1});
    assert_eq!(*a, live);
    assert_eq!(subs["room:c"]["data"], json!({"hello": "ü"}));
    assert_eq!(subs["named:d"]["data"], json!("AAE="));
    let join = watcher.push();
    assert_eq!(join["join"]["info"]["chan_info"], json!({"role": "x"}), "{join}");
    // They are there once, and live.
    assert_eq!(ann.refused("subscribe", json!({"channel": "users:a"})), 105);
    for (channel, data) in [("users:a", 2), ("users:b", 1), ("named:d", 1)] {
        say(&site, channel, data);
        let push = ann.push();
        assert_eq!((&push["channel"], &push["pub"]["offset"]), (&json!(channel), &json!(data)));
    }
    // Back again, it names what it holds; what is not its any more is not told.
    drop(ann);
    say(&site, "users:a", 3);
    let held = json!({"recover": true, "epoch": epoch, "offset": 1});
    let lost = json!({"recover": true, "epoch": "_", "offset": 1});
    let request = json!({"token": token,
        "subs": {"users:a": held, "users:b": lost, "users:z": held}});
    let (mut ann, reply) = Guest::try_connect(&site, request);
    let subs = reply["connect"]["subs"].as_object().expect("subscriptions");
    assert_eq!(subs.len(), 4, "{reply}");
    let missed = json!([{"data": 2, "offset": 2}, {"data": 3, "offset": 3}]);
    assert_eq!(subs["users:a"]["publications"], missed, "{reply}");
    assert_eq!(subs["users:a"]["recovered"], json!(true));
    assert_eq!(subs["users:a"]["offset"], json!(1));
    assert_eq!(subs["users:b"].get("recovered"), None);
    assert_eq!(subs["users:b"]["was_recovering"], json!(true));
    say(&site, "users:a", 4);
    assert_eq!(ann.push()["pub"]["offset"], json!(4));
    // It may leave them.
    ann.call("unsubscribe", json!({"channel": "users:a"}));
    say(&site, "users:a", 5);
    say(&site, "users:b", 2);
    assert_eq!(ann.push()["channel"], json!("users:b"));
}

fn what_follows_a_connect_in_its_frame_waits_for_its_subscriptions(cell: Cell) {
    let site = served(cell, |_| {});
    let channels: Vec<String> = (0..20).map(|n| format!("users:{n}")).collect();
    let token = with_subs("ann", json!({ "channels": channels }));
    let mut socket = Socket::open(site.address(), "/connection/websocket");
    socket.send_text(&format!(
        "{}\n{}\n{}",
        json!({"id": 1, "connect": {"token": token}}),
        json!({"id": 2, "subscribe": {"channel": "users:7"}}),
        json!({"id": 3, "ping": {}}),
    ));
    socket.send_text(r#"{"id":4,"ping":{}}"#);
    let replies: Vec<Value> =
        (0..4).map(|_| serde_json::from_str(&socket.next_text()).expect("JSON")).collect();
    assert_eq!(replies[0]["connect"]["subs"].as_object().map(|subs| subs.len()), Some(20));
    assert_eq!(replies[1]["error"]["code"], json!(105), "{replies:?}");
    assert_eq!((&replies[2]["id"], &replies[3]["id"]), (&json!(3), &json!(4)));
}

fn nothing_is_lost_or_doubled_between_a_connects_answer_and_what_comes(cell: Cell) {
    let site = served(cell, |config| {
        // Small pages: much of it follows the answer.
        config.limits.outbox_bytes_max = 64 << 10;
        config.limits.message_bytes_max = 8 << 10;
    });
    let channels: Vec<String> = (0..8).map(|n| format!("users:{n}")).collect();
    let text = "x".repeat(500);
    let publish = || {
        let data = json!({"channels": channels, "data": text});
        done(&site, "broadcast", data);
    };
    (0..20).for_each(|_| publish());
    let subs: serde_json::Map<String, Value> =
        channels.iter().map(|name| (name.clone(), json!({"recover": true}))).collect();
    let request = json!({"token": with_subs("ann", json!({"channels": channels})), "subs": subs});
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                publish();
            }
        });
        for _ in 0..20 {
            let (mut ann, reply) = Guest::try_connect(&site, request.clone());
            let mut reached: BTreeMap<String, u64> = BTreeMap::new();
            for (name, sub) in reply["connect"]["subs"].as_object().expect("subscriptions") {
                assert_eq!(sub["recovered"], json!(true), "{reply}");
                let found = sub["publications"].as_array().cloned().unwrap_or_default();
                for (publication, offset) in found.iter().zip(1..) {
                    assert_eq!(publication["offset"], json!(offset), "{name}");
                }
                reached.insert(name.clone(), found.len() as u64);
            }
            assert_eq!(reached.len(), channels.len());
            while reached.values().any(|offset| *offset < 30) {
                let push = ann.push();
                let name = push["channel"].as_str().expect("a channel");
                let offset = reached.get_mut(name).expect("one of them");
                *offset += 1;
                assert_eq!(push["pub"]["offset"], json!(*offset), "{name}");
            }
        }
    });
}

/// Whatever happens, the other thread ends too.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn what_only_the_spool_has_is_recovered_whole_or_said_not_to_be() {
    let site = served(Cell::URING_2, |config| {
        config.limits.outbox_bytes_max = 64 << 10;
        config.limits.message_bytes_max = 8 << 10;
        let users = config.namespaces.get_mut("users").expect("there");
        users.history_size = 2;
    });
    let channels: Vec<String> = (0..6).map(|n| format!("users:{n}")).collect();
    let text = "x".repeat(800);
    for _ in 0..20 {
        done(&site, "broadcast", json!({"channels": channels, "data": text}));
    }
    let subs: serde_json::Map<String, Value> =
        channels.iter().map(|name| (name.clone(), json!({"recover": true}))).collect();
    let request = json!({"token": with_subs("ann", json!({"channels": channels})), "subs": subs});
    for _ in 0..5 {
        let (mut ann, reply) = Guest::try_connect(&site, request.clone());
        let subs = reply["connect"]["subs"].as_object().expect("subscriptions");
        let count = |recovered: bool| {
            let is = |sub: &&Value| (sub["recovered"] == json!(true)) == recovered;
            subs.values().filter(is).count()
        };
        assert!(count(true) > 0 && count(false) > 0, "one fits and six do not: {reply}");
        for (name, sub) in subs {
            let found = sub["publications"].as_array().map_or(0, Vec::len);
            let (all, at) = if sub["recovered"] == json!(true) { (20, 0) } else { (0, 20) };
            assert_eq!((found, sub["offset"].as_u64().unwrap_or(0)), (all, at), "{name}");
        }
        // And the connection goes on.
        assert_eq!(ann.call("ping", json!({}))["ping"], json!({}));
        assert!(ann.pushes.is_empty(), "{:?}", ann.pushes);
    }
}

#[test]
fn a_token_with_too_many_channels_or_forbidden_ones_opens_nothing() {
    let site = served(Cell::URING_2, |config| config.limits.channels_per_connection_max = 3);
    let connect = |channels: &[&str]| {
        let token = with_subs("ann", json!({ "channels": channels }));
        (Socket::open(site.address(), "/connection/websocket"), json!({ "token": token }))
    };
    let (socket, request) = connect(&["users:a", "users:b", "users:c", "users:d"]);
    let guest = Guest { socket, id: 0, pushes: Vec::new() };
    assert_eq!(guest.closed_by("connect", request), 3505);
    let (socket, request) = connect(&["users:a", "shut:b"]);
    let mut guest = Guest { socket, id: 0, pushes: Vec::new() };
    assert_eq!(guest.refused("connect", request), 103);
    let (socket, request) = connect(&["users:a", "users:b"]);
    let mut guest = Guest { socket, id: 0, pushes: Vec::new() };
    guest.call("connect", request);
    assert!(guest.call("subscribe", json!({"channel": "users:c"}))["subscribe"].is_object());
    assert_eq!(guest.refused("subscribe", json!({"channel": "users:d"})), 106);
    let order = json!({"user": "ann", "channel": "users:e"});
    let answer = api(&site, "subscribe", order);
    assert_eq!(answer["error"]["code"], json!(106), "{answer}");
}

fn the_server_api_subscribes_every_connection_of_a_user(cell: Cell) {
    let site = served(cell, |_| {});
    for n in 1..=3 {
        say(&site, "named:a", n);
    }
    let mut anns: Vec<Guest> = (0..6).map(|_| Guest::connect(&site, &of("ann"))).collect();
    let mut bob = Guest::connect(&site, &of("bob"));
    let order = json!({"user": "ann", "channel": "named:a", "data": {"hello": 1}});
    for _ in 0..2 {
        // Again changes nothing.
        done(&site, "subscribe", order.clone());
    }
    say(&site, "named:a", 4);
    let mut epoch = String::new();
    for ann in &mut anns {
        let push = ann.push();
        let subscribe = &push["subscribe"];
        epoch = subscribe["epoch"].as_str().expect("an epoch").to_owned();
        let expected = json!({"recoverable": true, "positioned": true, "epoch": epoch, "offset": 3,
            "data": {"hello": 1}});
        assert_eq!((&push["channel"], subscribe), (&json!("named:a"), &expected));
        assert_eq!(ann.push()["pub"], json!({"data": 4, "offset": 4}));
    }
    done(&site, "unsubscribe", json!({"user": "ann", "channel": "named:a"}));
    for ann in &mut anns {
        assert_eq!(ann.push()["unsubscribe"]["code"], json!(2000));
    }
    // What was missed since a position comes behind the push.
    for (since, offset, found) in [(2, 2, &[3, 4][..]), (4, 4, &[]), (9, 4, &[])] {
        let since = json!({"offset": since, "epoch": epoch});
        let order = json!({"user": "ann", "channel": "named:a", "recover_since": since});
        done(&site, "subscribe", order);
        for ann in &mut anns {
            assert_eq!(ann.push()["subscribe"]["offset"], json!(offset));
            for offset in found {
                assert_eq!(ann.push()["pub"]["offset"], json!(offset));
            }
        }
        done(&site, "unsubscribe", json!({"user": "ann", "channel": "named:a"}));
        anns.iter_mut().for_each(|ann| drop(ann.push()));
    }
    // One connection; then nobody that is there.
    let reply = anns[0].call("ping", json!({}));
    assert_eq!(reply["ping"], json!({}));
    done(&site, "subscribe", json!({"user": "nobody", "channel": "named:a"}));
    for (body, code) in [
        (json!({"user": "ann", "channel": "shut:a"}), 103),
        (json!({"user": "ann", "channel": "a b"}), 107),
        (json!({"channel": "named:a"}), 107),
        (json!({"user": "ann"}), 107),
        (json!({"user": "ann", "channel": "named:a", "b64info": "?"}), 107),
        (json!({"user": "ann", "channel": "named:a", "info": 1, "b64info": "AA=="}), 107),
        (json!({"user": "ann", "channel": "named:a", "expire_at": 7}), 107),
        (json!({"user": "ann", "channel": "named:a", "override": {"presence": 1}}), 107),
        (
            json!({"user": "ann", "channel": "named:a", "override": {"presnce": {"value": false}}}),
            107,
        ),
        (json!({"user": "ann", "channel": "named:a", "what": 1}), 107),
    ] {
        let answer = api(&site, "subscribe", body.clone());
        assert_eq!(answer["error"]["code"], json!(code), "{body}: {answer}");
    }
    say(&site, "open:x", 1);
    bob.call("ping", json!({}));
    assert!(bob.pushes.is_empty() && anns.iter().all(|ann| ann.pushes.is_empty()));
}

fn what_the_server_api_gives_it_lets_end(cell: Cell) {
    let site = served(cell, |config| {
        config.auth.clock_skew_s = 0;
        config.limits.heartbeat_s = 3_600;
    });
    // A subscription of the server cannot be refreshed by its client.
    let mut ann = Guest::connect(&site, &of("ann"));
    let order = json!({"user": "ann", "channel": "named:a", "expire_at": now_s() + 2});
    done(&site, "subscribe", order);
    assert!(ann.push()["subscribe"].is_object());
    assert_eq!(ann.closed(), 3006);
    // A connection's end is moved, both ways.
    let mut soon = Guest::connect(&site, &of("ann"));
    let mut nobody = Guest::connect(&site, "");
    done(&site, "refresh", json!({"user": "ann", "expire_at": now_s() + 1_000}));
    let refresh = soon.push();
    assert_eq!(refresh["refresh"]["expires"], json!(true), "{refresh}");
    assert!((980..1_000).contains(&refresh["refresh"]["ttl"].as_u64().unwrap()), "{refresh}");
    done(&site, "refresh", json!({"user": "ann"}));
    assert_eq!(soon.push()["refresh"], json!({}));
    done(&site, "refresh", json!({"user": "ann", "expire_at": now_s() + 2}));
    soon.push();
    assert_eq!(soon.closed(), 3005);
    let late = Guest::connect(&site, &of("ann"));
    done(&site, "refresh", json!({"user": "ann", "expired": true}));
    assert_eq!(late.closed(), 3005);
    assert_eq!(nobody.call("ping", json!({}))["ping"], json!({}));
    for body in [json!({"user": "ann", "expire_at": 5}), json!({}), json!({"user": "a", "x": 1})] {
        assert_eq!(api(&site, "refresh", body.clone())["error"]["code"], json!(107), "{body}");
    }
}

#[test]
fn an_sdk_is_subscribed_by_its_token_and_by_the_server() {
    let script = || {
        let token = with_subs("ann", json!({"subs": {"users:a": {"data": {"n": 1}}}}));
        let event = |offset: u64| json!({"offset": offset, "data": offset});
        json!([
            ["connect", {"token": token}],
            ["expect", {"connecting": 0}],
            ["expect", {"connected": true}],
            ["expect", {"server": "users:a", "recovered": false, "data": {"n": 1}}],
            ["say", "publish"],
            ["expect", {"server": "users:a", "publication": event(1)}],
            ["say", "hold"],
            ["cut", null],
            ["expect", {"connecting": 1}],
            ["say", "publish"],
            ["expect", {"connected": true}],
            ["expect", {"server": "users:a", "recovered": true, "wasRecovering": true}],
            ["expect", {"server": "users:a", "publication": event(2)}],
            ["say", "publish"],
            ["expect", {"server": "users:a", "publication": event(3)}],
            ["say", "subscribe"],
            ["expect", {"server": "named:b", "data": {"n": 2}}],
            ["say", "unsubscribe"],
            ["expect", {"server": "named:b", "unsubscribed": true}],
            ["disconnect", null],
        ])
    };
    let order = json!({"user": "ann", "channel": "named:b", "data": {"n": 2}});
    check_with(
        || served(Cell::URING_2, |_| {}),
        script,
        // The older one knows no push that subscribes.
        Python::Newest,
        |site, line| match line {
            "publish" => {
                let history = json!({"channel": "users:a"});
                let top = api(site, "history", history)["result"]["offset"].as_u64();
                say(site, "users:a", top.unwrap_or(0) + 1);
            }
            "subscribe" => done(site, "subscribe", order.clone()),
            "unsubscribe" => {
                done(site, "unsubscribe", json!({"user": "ann", "channel": "named:b"}));
            }
            _ => {}
        },
    );
}

cells!(
    a_token_brings_its_subscriptions_and_a_reconnect_what_they_missed,
    what_follows_a_connect_in_its_frame_waits_for_its_subscriptions,
    nothing_is_lost_or_doubled_between_a_connects_answer_and_what_comes,
    the_server_api_subscribes_every_connection_of_a_user,
    what_the_server_api_gives_it_lets_end,
);
