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
    let pairs = STREAMS.map(|how| {
        let mut stays = open(how);
        stays.say(&site, &json!({"id": 3, "refresh": {"token": until_s(600)}}).to_string());
        assert_eq!(stays.next().expect("an answer")["refresh"]["expires"], json!(true));
        (stays, open(how))
    });
    // When the second has ended, the time of the first one's first token is over, too.
    for (mut stays, mut ends) in pairs {
        assert_eq!(ends.sent_away(), (3005, "connection expired".to_owned(), true));
        assert_eq!(publish(&site, "users:c", &user("bob")).status, 202);
        let push = stays.next().expect("an event");
        assert_eq!(push["push"]["pub"]["data"], json!("hello"), "{push}");
    }
}

fn a_bad_token_ends_a_stream_for_good(cell: Cell) {
    let site = guarded(cell, |_| {});
    for how in STREAMS {
        let mut bad = Stream::open(site.address(), how, &connect("a.b.c", json!({})));
        let (code, reason, back) = bad.sent_away();
        assert_eq!((code, back), (3500, false), "{reason}");
        assert!(reason.starts_with("invalid token: the token is malformed"), "{reason}");
        // An expired one may be followed by a better one, but a stream has only its first commands
        // until it is connected.
        let mut late = Stream::open(site.address(), how, &connect(&until_s(-60), json!({})));
        assert_eq!(late.next().expect("an answer")["error"]["code"], json!(109));
    }
}

fn a_token_in_the_url_of_an_event_stream_ends_it_with_a_word_that_a_browser_shows(cell: Cell) {
    let closed = guarded(cell, |_| {});
    let open = guarded(cell, |config| config.auth.token_in_url = true);
    let ann = until_s(600);
    let get = |site: &Site, commands: &str| {
        let commands: String = commands.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let mut wire = site.wire();
        let target = format!("/connection/sse?cf_connect={commands}");
        wire.send(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        let head = wire.head();
        assert_eq!((head.status, head.header("content-type")), (200, "text/event-stream"));
        Stream::of(wire)
    };
    let mut sent_away = get(&closed, &connect(&ann, json!({})));
    let (code, reason, back) = sent_away.sent_away();
    assert_eq!((code, back), (3500, false), "{reason}");
    assert!(reason.contains("auth.token_in_url") && !reason.contains(&ann[..20]), "{reason}");
    assert!(get(&closed, r#"{"id":1,"connect":{}}"#).let_in()["connect"].is_object());
    assert!(get(&open, &connect(&ann, json!({}))).let_in()["connect"].is_object());
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
    a_token_in_the_url_of_an_event_stream_ends_it_with_a_word_that_a_browser_shows,
    a_token_brings_its_subscriptions_over_each_stream,
);
