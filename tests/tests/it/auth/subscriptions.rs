//! Tokens of single subscriptions: what they let into, what they show, how they end.

use super::*;
use crate::client::{Python, check_with};
use crate::rig::ws::Socket;

/// A client that spoke its first words; pushes that come before an answer are kept.
pub struct Guest {
    pub socket: Socket,
    pub id: u32,
    pub pushes: Vec<Value>,
}

impl Guest {
    pub fn connect(site: &Site, token: &str) -> Self {
        let (guest, reply) = Self::try_connect(site, json!({ "token": token }));
        assert!(reply["connect"].is_object(), "{reply}");
        guest
    }

    pub fn try_connect(site: &Site, request: Value) -> (Self, Value) {
        let socket = Socket::open(site.address(), "/connection/websocket");
        let mut guest = Self { socket, id: 0, pushes: Vec::new() };
        let reply = guest.call("connect", request);
        (guest, reply)
    }

    fn send(&mut self, method: &str, request: Value) {
        self.id += 1;
        self.socket.send_text(&json!({"id": self.id, method: request}).to_string());
    }

    pub fn call(&mut self, method: &str, request: Value) -> Value {
        self.send(method, request);
        loop {
            let reply = self.next();
            match reply.get("push") {
                Some(push) => self.pushes.push(push.clone()),
                None if reply == json!({}) => self.socket.send_text("{}"),
                None => {
                    assert_eq!(reply["id"], self.id, "{reply}");
                    return reply;
                }
            }
        }
    }

    fn next(&mut self) -> Value {
        serde_json::from_str(&self.socket.next_text()).expect("JSON")
    }

    /// The code of the error that a command is answered with.
    pub fn refused(&mut self, method: &str, request: Value) -> u64 {
        let reply = self.call(method, request);
        let error = &reply["error"];
        assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{reply}");
        error["code"].as_u64().expect("an error")
    }

    /// The code of the close that a command is answered with.
    pub fn closed_by(mut self, method: &str, request: Value) -> u16 {
        self.send(method, request);
        self.closed()
    }

    pub fn closed(self) -> u16 {
        let (code, reason) = self.socket.closed();
        assert!(!reason.is_empty() && serde_json::from_str::<Value>(&reason).is_err(), "{reason}");
        code
    }

    pub fn push(&mut self) -> Value {
        if !self.pushes.is_empty() {
            return self.pushes.remove(0);
        }
        loop {
            let reply = self.next();
            match reply.get("push") {
                Some(push) => return push.clone(),
                None => self.socket.send_text("{}"),
            }
        }
    }
}

fn grant(user: &str, channel: &str, mut more: Value) -> String {
    more["sub"] = json!(user);
    more["channel"] = json!(channel);
    token(&more)
}

/// Its own token, with which a client of this user subscribes to this channel.
fn wanted(user: &str, channel: &str, seconds: i64) -> Value {
    let token = grant(user, channel, json!({"exp": now_s() + seconds}));
    json!({"channel": channel, "token": token})
}

pub fn of(user: &str) -> String {
    token(&json!({"sub": user, "exp": now_s() + 600}))
}

fn a_subscription_token_lets_its_user_into_its_channel_and_nobody_else(cell: Cell) {
    let site = guarded(cell, |config| {
        config.namespaces.entry("users".to_owned()).or_default().user_channels = true;
    });
    let mut ann = Guest::connect(&site, &of("ann"));
    assert_eq!(ann.refused("subscribe", json!({"channel": "named:c"})), 103);
    let reply = ann.call("subscribe", wanted("ann", "named:c", 600));
    assert_eq!(reply["subscribe"]["expires"], json!(true), "{reply}");
    assert!((580..600).contains(&reply["subscribe"]["ttl"].as_u64().unwrap()), "{reply}");
    let never = grant("ann", "named:d", json!({}));
    let reply = ann.call("subscribe", json!({"channel": "named:d", "token": never}));
    assert_eq!(reply["subscribe"]["expires"], Value::Null, "{reply}");
    // What the namespace or the channel's name forbids, no token permits.
    assert_eq!(ann.refused("subscribe", wanted("ann", "shut:c", 600)), 103);
    assert_eq!(ann.refused("subscribe", wanted("ann", "users:c#bob", 600)), 103);
    // A new one may help, or not.
    assert_eq!(ann.refused("subscribe", wanted("ann", "named:e", -60)), 109);
    let good = grant("ann", "named:e", json!({}));
    for bad in ["x", "a.b.c", &good[..good.len() - 2], &of("ann")] {
        let request = json!({"channel": "named:e", "token": bad});
        assert_eq!(ann.refused("subscribe", request.clone()), 103, "{bad}");
        let mut other = Guest::connect(&site, &of("ann"));
        other.call("subscribe", wanted("ann", "named:e", 600));
        assert_eq!(other.closed_by("sub_refresh", request), 3500, "{bad}");
    }
    // A token of somebody else, or for something else.
    for (method, request) in [
        ("subscribe", wanted("bob", "named:e", 600)),
        ("subscribe", json!({"channel": "named:f", "token": good})),
        ("sub_refresh", wanted("bob", "named:c", 600)),
        ("sub_refresh", json!({"channel": "named:f", "token": good})),
    ] {
        let mut other = Guest::connect(&site, &of("ann"));
        other.call("subscribe", wanted("ann", "named:c", 600));
        assert_eq!(other.closed_by(method, request.clone()), 3500, "{request}");
    }
    // Nobody in particular has a token of nobody in particular.
    let mut nobody = Guest::connect(&site, "");
    assert!(nobody.call("subscribe", wanted("", "named:c", 600))["subscribe"].is_object());
    // And it opens no connection.
    let socket = Socket::open(site.address(), "/connection/websocket");
    let guest = Guest { socket, id: 0, pushes: Vec::new() };
    assert_eq!(guest.closed_by("connect", json!({ "token": good })), 3500);
}

fn a_subscription_is_refreshed_or_ends_and_its_connection_goes_on(cell: Cell) {
    let site = guarded(cell, |config| {
        config.auth.clock_skew_s = 0;
        config.limits.heartbeat_s = 3_600;
    });
    let mut ann = Guest::connect(&site, &of("ann"));
    for channel in ["named:a", "named:b", "named:c", "named:d"] {
        let reply = ann.call("subscribe", wanted("ann", channel, 4));
        assert!((1..4).contains(&reply["subscribe"]["ttl"].as_u64().unwrap()), "{reply}");
    }
    let reply = ann.call("sub_refresh", wanted("ann", "named:b", 600));
    assert_eq!(reply["sub_refresh"]["expires"], json!(true), "{reply}");
    assert!((580..600).contains(&reply["sub_refresh"]["ttl"].as_u64().unwrap()), "{reply}");
    // Without the channel: the token names it. And for ever.
    let never = json!({"token": grant("ann", "named:c", json!({}))});
    assert_eq!(ann.call("sub_refresh", never)["sub_refresh"], json!({}));
    // It brings the wrong ones.
    assert_eq!(ann.refused("sub_refresh", wanted("ann", "named:a", -5)), 109);
    assert_eq!(ann.refused("sub_refresh", wanted("ann", "named:e", 600)), 103);
    assert_eq!(ann.refused("sub_refresh", json!({"channel": "named:a"})), 107);
    let mut ended = [ann.push(), ann.push()];
    ended.sort_by_key(|push| push["channel"].to_string());
    for (push, channel) in ended.iter().zip(["named:a", "named:d"]) {
        let unsubscribe = json!({"code": 2501, "reason": "subscription expired"});
        assert_eq!(*push, json!({"channel": channel, "unsubscribe": unsubscribe}));
    }
    // What is refreshed is there, what is not gets nothing, and can be subscribed again.
    for channel in ["named:a", "named:b", "named:c"] {
        let caps = json!([{"channels": [channel], "allow": ["pub"]}]);
        let writer = bearer(&token(&json!({"sub": "bob", "caps": caps})));
        assert_eq!(publish(&site, channel, &writer).status, 202);
    }
    for channel in ["named:b", "named:c"] {
        assert_eq!(ann.push()["channel"], json!(channel));
    }
    let again = ann.call("subscribe", wanted("ann", "named:a", 600));
    assert_eq!(again["subscribe"]["offset"], json!(1), "{again}");
    assert!(ann.pushes.is_empty(), "{:?}", ann.pushes);
}

fn others_see_what_a_subscription_token_says_of_its_user(cell: Cell) {
    let site = guarded(cell, |config| {
        let mut room = config.namespaces["open"].clone();
        room.join_leave = true;
        config.namespaces.insert("room".into(), room.clone());
        (room.join_leave, room.presence) = (false, Access::Nobody);
        config.namespaces.insert("quiet".into(), room);
    });
    let connection = |user: &str| token(&json!({"sub": user, "info": {"name": user}}));
    let mut watcher = Guest::connect(&site, &connection("bob"));
    watcher.call("subscribe", json!({"channel": "room:a", "join_leave": true}));
    assert_eq!(watcher.push()["join"]["info"]["user"], json!("bob"));
    let mut ann = Guest::connect(&site, &connection("ann"));
    let shown = grant("ann", "room:a", json!({"info": {"role": "ü"}}));
    // Also where it could have failed, and is told later.
    for more in [json!({}), json!({"recover": true, "flag": 2, "offset": 0})] {
        let mut request = json!({"channel": "room:a", "token": shown});
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let reply = ann.call("subscribe", request);
        assert!(reply["subscribe"].is_object(), "{reply}");
        let join = watcher.push();
        let info = &join["join"]["info"];
        assert_eq!(info["chan_info"], json!({"role": "ü"}), "{join}");
        assert_eq!(info["conn_info"], json!({"name": "ann"}), "{join}");
        let listed = watcher.call("presence", json!({"channel": "room:a"}));
        let members = listed["presence"]["presence"].as_object().expect("a map");
        assert!(members.values().any(|member| member == info), "{listed}");
        // A refreshed token has the newest word on it, and nobody is told that it came again.
        let newer = grant("ann", "room:a", json!({"info": {"role": "newer"}}));
        let reply = ann.call("sub_refresh", json!({"channel": "room:a", "token": newer}));
        assert!(reply["sub_refresh"].is_object(), "{reply}");
        let mut info = info.clone();
        info["chan_info"] = json!({"role": "newer"});
        crate::rig::until("the newer word", || {
            let listed = watcher.call("presence", json!({"channel": "room:a"}));
            let members = listed["presence"]["presence"].as_object().expect("a map");
            assert_eq!(members.len(), 2, "{listed}");
            members.values().any(|member| *member == info)
        });
        ann.call("unsubscribe", json!({"channel": "room:a"}));
        assert_eq!(watcher.push()["leave"]["info"], info);
    }
    // Bytes that are no JSON are not shown.
    let bytes = grant("ann", "room:a", json!({"b64info": "AAE="}));
    ann.call("subscribe", json!({"channel": "room:a", "token": bytes}));
    assert_eq!(watcher.push()["join"]["info"].get("chan_info"), None);
    ann.call("unsubscribe", json!({"channel": "room:a"}));
    watcher.push();
    // The token changes where it shows up: not in the list, not in joins, both where the namespace
    // has neither.
    let counts = |guest: &mut Guest| {
        let reply = guest.call("presence_stats", json!({"channel": "room:a"}));
        reply["presence_stats"]["num_clients"].as_u64().expect("a number")
    };
    let with = |user: &str, channel: &str, overrides: Value| {
        let shown = grant(user, channel, json!({ "override": overrides }));
        json!({"channel": channel, "token": shown})
    };
    ann.call("subscribe", with("ann", "room:a", json!({"presence": {"value": false}})));
    assert_eq!(watcher.push()["join"]["info"]["user"], json!("ann"));
    assert_eq!((counts(&mut watcher), counts(&mut ann)), (1, 1));
    ann.call("unsubscribe", json!({"channel": "room:a"}));
    assert_eq!(watcher.push()["leave"]["info"]["user"], json!("ann"));
    ann.call("subscribe", with("ann", "room:a", json!({"join_leave": {"value": false}})));
    assert_eq!((counts(&mut ann), counts(&mut watcher)), (2, 2));
    ann.call("unsubscribe", json!({"channel": "room:a"}));
    crate::rig::until("its exit", || counts(&mut watcher) == 1);
    assert!(watcher.pushes.is_empty() && ann.pushes.is_empty(), "{:?}", watcher.pushes);
    let told = json!({"join_leave": {"value": true}, "force_push_join_leave": {"value": true}});
    ann.call("subscribe", with("ann", "quiet:a", told));
    assert_eq!(ann.push()["join"]["info"]["user"], json!("ann"));
}

fn who_published_is_told_and_cannot_be_forged(cell: Cell) {
    let site = guarded(cell, |config| {
        config.api_keys.push(service(
            "all",
            "key-of-all",
            &["*"],
            &[Right::Publish, Right::History],
        ));
    });
    let mut bob = Guest::connect(&site, &of("bob"));
    bob.call("subscribe", json!({"channel": "users:a"}));
    let ann = token(&json!({"sub": "ann", "info": {"name": "Ann \"ü\""}, "exp": now_s() + 600}));
    let mut ann = Guest::connect(&site, &ann);
    let shown = grant("ann", "users:a", json!({"info": {"role": "x"}}));
    ann.call("subscribe", json!({"channel": "users:a", "token": shown}));
    let mut nobody = Guest::connect(&site, "");
    for data in [json!({"text": "hi"}), json!("hi")] {
        ann.call("publish", json!({"channel": "users:a", "data": data}));
        let publication = bob.push()["pub"].clone();
        let info = &publication["info"];
        assert_eq!(info["user"], json!("ann"), "{publication}");
        assert_eq!(info["conn_info"], json!({"name": "Ann \"ü\""}), "{publication}");
        assert_eq!(info["chan_info"], json!({"role": "x"}), "{publication}");
        assert_eq!(info["client"].as_str().map(str::len), Some(36), "{publication}");
        assert_eq!(publication.get("tags"), None, "{publication}");
        // In the history it stands as it came.
        let found = bob.call("history", json!({"channel": "users:a", "limit": 1, "reverse": true}));
        assert_eq!(found["history"]["publications"], json!([publication]), "{found}");
    }
    // Nobody's user is empty; a service is no client, whatever it says.
    nobody.call("subscribe", json!({"channel": "open:a"}));
    nobody.call("publish", json!({"channel": "open:a", "data": 1}));
    let info = nobody.push()["pub"]["info"].clone();
    assert_eq!((info.get("user"), info["client"].is_string()), (None, true), "{info}");
    let forged = r#"{"data":2,"attributes":{"info":{"user":"root","client":"1"}}}"#;
    let fields = format!("{}Content-Type: application/json\r\n", bearer("key-of-all"));
    let wire = &mut site.wire();
    let answer = wire.request("POST", "/v1/channels/open:a/events", &fields, forged.as_bytes());
    assert_eq!(answer.status, 202, "{}", answer.text());
    let publication = nobody.push()["pub"].clone();
    assert_eq!((&publication["data"], publication.get("info")), (&json!(2), None));
}

#[test]
fn an_sdk_refreshes_its_subscription_in_time() {
    let site = || guarded(Cell::URING_2, |config| config.auth.clock_skew_s = 0);
    let script = || {
        let short = grant("", "named:c", json!({"exp": now_s() + 5}));
        let long = grant("", "named:c", json!({"exp": now_s() + 600}));
        let event = json!({"offset": 1, "data": "hello"});
        json!([
            ["connect", null],
            ["expect", {"connecting": 0}],
            ["expect", {"connected": true}],
            ["subscribe", ["named:c", {"tokens": [short, long]}]],
            ["expect", {"channel": "named:c", "token": 0}],
            ["expect", {"channel": "named:c"}],
            ["expect", {"channel": "named:c", "token": 1}],
            ["say", "refreshed"],
            ["expect", {"channel": "named:c", "publication": event}],
            ["disconnect", null],
        ])
    };
    check_with(site, script, Python::All, |site, _| {
        // It ends, and with its end the first token would have ended the other.
        let mut other = Guest::connect(site, "");
        other.call("subscribe", wanted("", "named:c", 6));
        assert_eq!(other.push()["unsubscribe"]["code"], json!(2501));
        let caps = json!([{"channels": ["named:c"], "allow": ["pub"]}]);
        let writer = bearer(&token(&json!({"sub": "bob", "caps": caps})));
        let fields = format!("{writer}Content-Type: application/json\r\n");
        let path = "/v1/channels/named:c/events";
        let answer = site.wire().request("POST", path, &fields, br#"{"data":"hello"}"#);
        assert_eq!(answer.status, 202, "{}", answer.text());
    });
}

#[test]
fn without_authentication_a_token_says_nothing() {
    let site = Site::start(Cell::EPOLL_1);
    let mut guest = Guest::connect(&site, "");
    let request = json!({"channel": "a", "token": "x"});
    assert!(guest.call("subscribe", request.clone())["subscribe"].is_object());
    assert_eq!(guest.refused("sub_refresh", request), 108);
}

cells!(
    a_subscription_token_lets_its_user_into_its_channel_and_nobody_else,
    a_subscription_is_refreshed_or_ends_and_its_connection_goes_on,
    others_see_what_a_subscription_token_says_of_its_user,
    who_published_is_told_and_cannot_be_forged,
);
