//! Tokens in the client protocol: connect, permissions, refresh, expiry.

use super::*;
use crate::rig::ws::Socket;

fn open(site: &Site) -> Socket {
    Socket::open(site.address(), "/connection/websocket")
}

fn ask_client(socket: &mut Socket, command: Value) -> Value {
    socket.send_text(&command.to_string());
    serde_json::from_str(&socket.next_text()).expect("a reply is JSON")
}

/// Connects; gives the reply.
fn connect(socket: &mut Socket, token: &str) -> Value {
    ask_client(socket, json!({"id": 1, "connect": {"token": token}}))
}

fn subscribe(socket: &mut Socket, channel: &str) -> Value {
    ask_client(socket, json!({"id": 2, "subscribe": {"channel": channel}}))
}

fn until_s(seconds: i64) -> String {
    token(&json!({"sub": "ann", "exp": now_s() + seconds}))
}

fn a_client_shows_its_token_when_it_connects(cell: Cell) {
    let site = guarded(cell, |_| {});
    let mut ann = open(&site);
    let reply = connect(&mut ann, &until_s(600));
    assert_eq!(reply["connect"]["expires"], json!(true), "{reply}");
    let ttl = reply["connect"]["ttl"].as_u64().expect("seconds");
    assert!((580..600).contains(&ttl), "{reply}");
    assert!(subscribe(&mut ann, "users:c")["subscribe"].is_object());
    for (channel, command) in [
        ("named:c", json!({"subscribe": {"channel": "named:c"}})),
        ("shut:c", json!({"subscribe": {"channel": "shut:c"}})),
        ("named:c", json!({"history": {"channel": "named:c", "limit": 1}})),
        ("named:c", json!({"publish": {"channel": "named:c", "data": 1}})),
    ] {
        let mut command = command;
        command["id"] = json!(3);
        let reply = ask_client(&mut ann, command);
        assert_eq!(reply["error"]["code"], json!(103), "{channel}: {reply}");
    }
    let caps = json!([{"channels": ["named:c"], "allow": ["sub", "pub", "hst"]}]);
    let mut named = open(&site);
    let reply = connect(&mut named, &token(&json!({"sub": "", "caps": caps})));
    assert_eq!(reply["connect"]["expires"], Value::Null, "{reply}");
    assert!(subscribe(&mut named, "named:c")["subscribe"].is_object());
    assert_eq!(subscribe(&mut named, "users:c")["error"]["code"], json!(103));
    // Who shows nothing may do what is for everybody.
    let mut nobody = open(&site);
    assert!(connect(&mut nobody, "")["connect"].is_object());
    assert!(subscribe(&mut nobody, "open:c")["subscribe"].is_object());
    assert_eq!(subscribe(&mut nobody, "users:c")["error"]["code"], json!(103));
    // Other SDKs than a browser's may send the header instead.
    let (head, wire) = shake(&site, "/connection/websocket", &user("bob"));
    assert_eq!(head.status, 101);
    let mut bob = Socket { wire };
    assert!(connect(&mut bob, "")["connect"].is_object());
    assert!(subscribe(&mut bob, "users:c")["subscribe"].is_object());
    let (head, _) = shake(&site, "/connection/websocket", &bearer("a.b.c"));
    assert_eq!(head.status, 401);
}

fn a_bad_token_ends_the_connection_for_good_and_an_expired_one_does_not(cell: Cell) {
    let site = guarded(cell, |_| {});
    let mut late = open(&site);
    let reply = connect(&mut late, &until_s(-60));
    assert_eq!(reply["error"]["code"], json!(109), "{reply}");
    // It may try again with another, and nothing before that.
    assert!(connect(&mut late, &until_s(60))["connect"].is_object());
    let good = until_s(60);
    for bad in ["a.b.c", "x", &good[..good.len() - 2]] {
        let mut socket = open(&site);
        socket.send_text(&json!({"id": 1, "connect": {"token": bad}}).to_string());
        let (code, reason) = socket.closed();
        assert_eq!(code, 3500);
        // In an SDK that is all that its developer sees.
        assert!(reason.starts_with("invalid token: the token"), "{reason}");
    }
    let mut early = open(&site);
    early.send_text(&json!({"id": 1, "connect": {"token": until_s(-60)}}).to_string());
    early.send_text(&json!({"id": 2, "subscribe": {"channel": "open:c"}}).to_string());
    assert_eq!(early.closed().0, 3501);
}

fn a_client_refreshes_its_token_or_ends_resumably(cell: Cell) {
    let site = guarded(cell, |config| {
        config.auth.clock_skew_s = 0;
        config.limits.heartbeat_s = 3_600;
    });
    let (mut stays, mut ends) = (open(&site), open(&site));
    for socket in [&mut stays, &mut ends] {
        let reply = connect(socket, &until_s(4));
        let ttl = reply["connect"]["ttl"].as_u64().expect("seconds");
        assert!((1..4).contains(&ttl), "{reply}");
        assert!(subscribe(socket, "users:c")["subscribe"].is_object());
    }
    let reply = ask_client(&mut stays, json!({"id": 3, "refresh": {"token": until_s(600)}}));
    assert_eq!(reply["refresh"]["expires"], json!(true), "{reply}");
    let reply = ask_client(&mut stays, json!({"id": 4, "refresh": {"token": until_s(-5)}}));
    assert_eq!(reply["error"]["code"], json!(109), "{reply}");
    let (code, reason) = ends.closed();
    assert_eq!((code, reason.as_str()), (3005, "connection expired"));
    assert_eq!(publish(&site, "users:c", &user("bob")).status, 202);
    assert!(stays.next_text().contains("hello"));
    // Nobody becomes somebody else on the way.
    let other = token(&json!({"sub": "eve", "exp": now_s() + 600}));
    stays.send_text(&json!({"id": 5, "refresh": {"token": other}}).to_string());
    assert_eq!(stays.closed().0, 3500);
}

cells!(
    a_client_shows_its_token_when_it_connects,
    a_bad_token_ends_the_connection_for_good_and_an_expired_one_does_not,
    a_client_refreshes_its_token_or_ends_resumably,
);
