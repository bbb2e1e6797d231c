//! Tokens in the client protocol over streams of HTTP: expiry, refresh, what a token brings.

use super::server_side::{say, served, with_subs};
use super::*;
use crate::emulation::{STREAMS, Stream};

fn connect(token: &str, more: Value) -> String {
    let mut request = more;
    request["token"] = json!(token);
    json!({"id": 1, "connect": request}).to_string()
}

fn until_s(seconds: i64) -> String {
    token(&json!({"sub": "ann", "exp": now_s() + seconds}))
}

fn a_stream_is_refreshed_or_ends_resumably(cell: Cell) {
    let site = guarded(cell, |config| {
        config.auth.clock_skew_s = 0;
        config.limits.heartbeat_s = 3_600;
    });
    let subscribe = r#"{"id":2,"subscribe":{"channel":"users:c"}}"#;
    let open = |how| {
        let commands = format!("{}\n{subscribe}", connect(&until_s(6), json!({})));
        let mut stream = Stream::open(site.address(), how, &commands);
        let reply = stream.let_in();
        assert_eq!(reply["connect"]["expires"], json!(true), "{reply}");
        assert!(stream.next().expect("subscribed")["subscribe"].is_object());
        stream
    };
    let pairs: Vec<[Stream; 2]> = STREAMS.into_iter().map(|how| [open(how), open(how)]).collect();
    for (at, [mut stays, mut ends]) in pairs.into_iter().enumerate() {
        let refresh = json!({"id": 3, "refresh": {"token": until_s(600)}});
        if at == 0 {
            stays.say(&site, &refresh.to_string());
            assert_eq!(stays.next().expect("an answer")["refresh"]["expires"], json!(true));
        }
        assert_eq!(ends.sent_away(), (3005, "connection expired".to_owned(), true));
        if at == 0 {
            assert_eq!(publish(&site, "users:c", &user("bob")).status, 202);
            let push = stays.next().expect("an event");
            assert_eq!(push["push"]["pub"]["data"], json!("hello"), "{push}");
        } else {
            assert_eq!(stays.sent_away().0, 3005);
        }
    }
}

fn a_bad_token_ends_a_stream_for_good(cell: Cell) {
    let site = guarded(cell, |_| {});
    for how in STREAMS {
        let mut bad = Stream::open(site.address(), how, &connect("a.b.c", json!({})));
        assert_eq!(bad.sent_away(), (3500, "invalid token".to_owned(), false));
        // An expired one may be followed by a better one, but a stream has only its first commands
        // until it is connected.
        let mut late = Stream::open(site.address(), how, &connect(&until_s(-60), json!({})));
        assert_eq!(late.next().expect("an answer")["error"]["code"], json!(109));
    }
}

fn a_token_brings_its_subscriptions_over_each_stream(cell: Cell) {
    let site = served(cell, |_| {});
    for (at, how) in STREAMS.into_iter().enumerate() {
        let channel = format!("users:{at}");
        let token = with_subs("ann", json!({ "channels": [channel, "users:other"] }));
        let mut ann = Stream::open(site.address(), how, &connect(&token, json!({})));
        let reply = ann.let_in();
        let subs = reply["connect"]["subs"].as_object().expect("subscriptions");
        assert_eq!(subs.len(), 2, "{reply}");
        let epoch = subs[&channel]["epoch"].clone();
        say(&site, &channel, 1);
        let push = ann.next().expect("an event");
        assert_eq!(
            (&push["push"]["channel"], &push["push"]["pub"]["offset"]),
            (&json!(channel), &json!(1))
        );
        drop(ann);
        say(&site, &channel, 2);
        let held =
            json!({"subs": {channel.as_str(): {"recover": true, "epoch": epoch, "offset": 1}}});
        let mut ann = Stream::open(site.address(), how, &connect(&token, held));
        let reply = ann.let_in();
        let back = &reply["connect"]["subs"][&channel];
        assert_eq!(back["recovered"], json!(true), "{reply}");
        assert_eq!(back["publications"], json!([{"data": 2, "offset": 2}]));
        ann.say(&site, &json!({"id": 2, "unsubscribe": {"channel": channel}}).to_string());
        assert_eq!(ann.next().expect("an answer")["unsubscribe"], json!({}));
    }
}

cells!(
    a_stream_is_refreshed_or_ends_resumably,
    a_bad_token_ends_a_stream_for_good,
    a_token_brings_its_subscriptions_over_each_stream,
);
