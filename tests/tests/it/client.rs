//! The client protocol, with the SDKs that others wrote and with bytes of our own. A script of
//! steps is played by centrifuge-js (the newest and 5.7.1) and centrifuge-python (the newest and
//! 0.6.0), in JSON and in Protobuf.

use crate::rig::child::client;
use crate::rig::http::Wire;
use crate::rig::ws::Socket;
use crate::rig::{Cell, Site};
use serde_json::{Value, json};
use server::config::{Access, Namespace};
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

const PATH: &str = "/connection/websocket";

/// The SDKs: a script, and what it gets before the steps.
const SDKS: [(&str, &[&str]); 8] = [
    ("centrifuge.mjs", &["json", "centrifuge"]),
    ("centrifuge.mjs", &["protobuf", "centrifuge"]),
    ("centrifuge.mjs", &["json", "centrifuge-5-7-1"]),
    ("centrifuge.mjs", &["protobuf", "centrifuge-5-7-1"]),
    ("centrifuge_python.py", &["json", "0.7.0"]),
    ("centrifuge_python.py", &["protobuf", "0.7.0"]),
    ("centrifuge_python.py", &["json", "0.6.0"]),
    ("centrifuge_python.py", &["protobuf", "0.6.0"]),
];

/// Which versions of centrifuge-python know the steps of a script.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Python {
    None,
    Newest,
    All,
}

/// Lets every SDK that knows the steps play them against a server of its own; `meanwhile` is called
/// with what a `say` step says.
pub fn check(cell: Cell, script: &Value, python: Python, meanwhile: impl Fn(&Site, &str)) {
    check_with(|| site_of_rooms(cell), || script.clone(), python, meanwhile);
}

/// A server with namespaces that tell who is there, take no publishes, or let nobody in.
pub fn site_of_rooms(cell: Cell) -> Site {
    Site::with(cell, |config| {
        let mut quiet = config.namespaces["default"].clone();
        let mut room = quiet.clone();
        (room.presence, room.join_leave) = (Access::Anonymous, true);
        config.namespaces.insert("room".into(), room);
        quiet.client_publish = Access::Nobody;
        config.namespaces.insert("quiet".into(), quiet.clone());
        let few = Namespace { history_size: 4, ..Namespace::default() };
        config.namespaces.insert("few".into(), few);
        quiet.subscribe = Access::Nobody;
        quiet.history = Access::Nobody;
        config.namespaces.insert("closed".into(), quiet);
    })
}

/// The same against servers and with scripts that are made anew for each.
pub fn check_with(
    start: impl Fn() -> Site,
    script: impl Fn() -> Value,
    python: Python,
    meanwhile: impl Fn(&Site, &str),
) {
    for (name, arguments) in SDKS {
        let of = if arguments[1] == "0.6.0" { Python::All } else { Python::Newest };
        if name.ends_with(".py") && python != Python::All && python != of {
            continue;
        }
        let (site, script) = (start(), script());
        let url = format!("ws://{}{PATH}", site.address());
        play(&site, (name, arguments), &url, &script, &meanwhile);
    }
}

/// Lets one SDK play against a server.
pub fn play(
    site: &Site,
    (name, arguments): (&str, &[&str]),
    url: &str,
    script: &Value,
    meanwhile: impl Fn(&Site, &str),
) {
    let mut sdk = client(name);
    sdk.arg(url).args(arguments).arg(script.to_string());
    let mut child = sdk.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("started");
    let mut stdin = child.stdin.take().expect("piped");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    while let Some(Ok(line)) = lines.next() {
        meanwhile(site, &line);
        writeln!(stdin).expect("it listens");
    }
    let status = child.wait().expect("it ends");
    assert!(status.success(), "{name} {arguments:?} {url}: {status}");
}

/// Sends frames and compares what comes, message by message; `null` stands for anything.
pub fn converse(site: &Site, steps: &[(&str, &[Value])]) -> Socket {
    let mut socket = Socket::open(site.address(), PATH);
    for (sent, expected) in steps {
        socket.send_text(sent);
        for expected in *expected {
            let got: Value = serde_json::from_str(&socket.next_text()).expect("JSON");
            assert!(matches(&got, expected), "sent {sent}\nexpected {expected}\ngot {got}");
        }
    }
    socket
}

pub fn publish(site: &Site, channel: &str, body: &str) {
    let answer = site.post(&format!("/v1/channels/{channel}/events"), "application/json", body);
    assert_eq!(answer.status, 202, "{}", answer.text());
}

pub fn matches(got: &Value, expected: &Value) -> bool {
    match (got, expected) {
        (_, Value::Null) => true,
        (Value::Object(got), Value::Object(expected)) => {
            got.len() == expected.len()
                && expected
                    .iter()
                    .all(|(name, value)| got.get(name).is_some_and(|got| matches(got, value)))
        }
        _ => got == expected,
    }
}

pub const CONNECT: &str = r#"{"id":1,"connect":{}}"#;

pub fn connected() -> Value {
    json!({"id": 1, "connect": {"client": null, "version": null, "ping": 25, "pong": true}})
}

cells!(
    what_the_server_api_publishes_reaches_an_sdk_with_its_tags,
    an_sdk_publishes_reads_history_and_gets_what_it_missed,
    a_drain_sends_clients_away_politely,
    a_subscribe_that_is_overtaken_is_answered,
);

fn a_subscribe_that_is_overtaken_is_answered(cell: Cell) {
    let site = Site::start(cell);
    let mut socket = converse(&site, &[(CONNECT, &[connected()])]);
    let frame = [
        r#"{"id":2,"subscribe":{"channel":"overtaken"}}"#,
        r#"{"id":3,"unsubscribe":{"channel":"overtaken"}}"#,
        r#"{"id":4,"ping":{}}"#,
    ];
    socket.send_text(&frame.join("\n"));
    let mut replies: Vec<Value> =
        (0..3).map(|_| serde_json::from_str(&socket.next_text()).expect("JSON")).collect();
    replies.sort_by_key(|reply| reply["id"].as_u64());
    let ids: Vec<u64> = replies.iter().filter_map(|reply| reply["id"].as_u64()).collect();
    assert_eq!(ids, [2, 3, 4], "{replies:?}");
    assert_eq!(replies[0]["error"]["code"], 108, "{replies:?}");
    // It can be asked for again.
    socket.send_text(r#"{"id":5,"subscribe":{"channel":"overtaken"}}"#);
    let again: Value = serde_json::from_str(&socket.next_text()).expect("JSON");
    assert!(again["subscribe"].is_object(), "{again}");
}

fn what_the_server_api_publishes_reaches_an_sdk_with_its_tags(cell: Cell) {
    let tags = json!({"kind": "trade", "symbol": "ü\n"});
    let first = json!({"offset": 1, "data": {"price": 1.5}, "tags": tags});
    let script = json!([
        ["connect", null],
        ["expect", {"connecting": 0}],
        ["expect", {"connected": true}],
        ["subscribe", ["news"]],
        ["expect", {"channel": "news"}],
        ["say", "publish"],
        ["expect", {"channel": "news", "publication": first}],
        ["expect", {"publication": {"offset": 2, "data": null}}],
        ["history", ["news", {"limit": 1}, {"publications": [first], "offset": 2}]],
        ["say", "count"],
        ["disconnect", null],
    ]);
    check(cell, &script, Python::All, |site, line| {
        let call = |method: &str, body: Value| {
            let answer = site.post(&format!("/api/{method}"), "application/json", body.to_string());
            assert_eq!(answer.status, 200, "{}", answer.text());
            answer.json()["result"].clone()
        };
        if line == "publish" {
            let publish = json!({"channel": "news", "data": {"price": 1.5}, "tags": tags});
            assert_eq!(call("publish", publish)["offset"], 1);
            assert_eq!(call("publish", json!({"channel": "news", "data": null}))["offset"], 2);
        }
        if line == "count" {
            let channels = call("channels", json!({"pattern": "n*"}));
            assert_eq!(channels, json!({"channels": {"news": {"num_clients": 1}}}));
        }
    });
}

/// What an SDK does in a channel over any transport: it publishes, is cut, gets what it missed, and
/// reads history. It does `more` before the cut.
pub fn tour(channel: &str, more: &[Value]) -> Value {
    let fresh = json!({"wasRecovering": false, "recovered": false, "recoverable": true});
    let back = json!({"wasRecovering": true, "recovered": true, "recoverable": true});
    let all = json!([
        {"offset": 1, "data": {"v": 1}}, {"offset": 2, "data": [1, "ü\n"]},
        {"offset": 3, "data": {"missed": true}}, {"offset": 4, "data": null},
    ]);
    let before = [
        json!(["connect", null]),
        json!(["expect", {"connecting": 0}]),
        json!(["expect", {"connected": true}]),
        json!(["subscribe", [channel]]),
        json!(["expect", {"channel": channel, "subscribed": fresh}]),
        json!(["publish", [channel, {"v": 1}]]),
        json!(["expect", {"channel": channel, "publication": {"offset": 1, "data": {"v": 1}}}]),
        json!(["publish", [channel, [1, "ü\n"]]]),
        json!(["expect", {"publication": {"offset": 2, "data": [1, "ü\n"]}}]),
        json!(["publish_fails", ["quiet:news", {}, 103]]),
        json!(["subscribe", ["closed:news"]]),
        json!(["expect", {"channel": "closed:news", "unsubscribed": 103}]),
    ];
    let after = [
        json!(["say", "hold"]),
        json!(["cut", null]),
        json!(["expect", {"connecting": 1}]),
        json!(["say", "publish"]),
        json!(["expect", {"connected": true}]),
        json!(["expect", {"channel": channel, "subscribed": back}]),
        json!(["expect", {"publication": {"offset": 3, "data": {"missed": true}}}]),
        json!(["expect", {"publication": {"offset": 4, "data": null}}]),
        json!(["history", [channel, {"limit": 10}, {"publications": all, "offset": 4}]]),
        json!(["history", [channel, {"limit": 1}, {"publications": [all[0]], "offset": 4}]]),
        json!(["history", [channel, {"limit": 0}, {"publications": [], "offset": 4}]]),
        json!(["unsubscribe", channel]),
        json!(["expect", {"channel": channel, "unsubscribed": 0}]),
        json!(["disconnect", null]),
        json!(["expect", {"disconnected": 0}]),
    ];
    Value::Array([&before[..], more, &after].concat())
}

/// What is published on such a tour while the SDK is away.
pub fn publish_missed(site: &Site, channel: &str, line: &str) {
    if line == "publish" {
        publish(site, channel, r#"{"data":{"missed":true}}"#);
        publish(site, channel, r#"{"data":null}"#);
    }
}

fn an_sdk_publishes_reads_history_and_gets_what_it_missed(cell: Cell) {
    let script = tour("news", &[]);
    check(cell, &script, Python::All, |site, line| publish_missed(site, "news", line));
}

fn a_drain_sends_clients_away_politely(cell: Cell) {
    let site = Site::start(cell);
    let socket = converse(&site, &[(CONNECT, &[connected()])]);
    let closed = std::thread::spawn(move || socket.closed());
    site.stop();
    assert_eq!(closed.join().expect("it was told"), (3001, "shutdown".to_owned()));
}

#[test]
fn commands_of_one_frame_are_answered_in_order_and_subscribes_wait_behind_connect() {
    let site = Site::start(Cell::URING_2);
    let subscribed = |id: u32| {
        let result = json!({"recoverable": true, "epoch": null, "positioned": true});
        json!({"id": id, "subscribe": result})
    };
    let first = "{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{\"channel\":\"a\"}}\n\
                 {\"id\":3,\"ping\":{}}\n";
    let mut socket = Socket::open(site.address(), PATH);
    socket.send_text(first);
    let mut got: Vec<Value> =
        (0..3).map(|_| serde_json::from_str(&socket.next_text()).expect("JSON")).collect();
    assert!(matches(&got.remove(0), &connected()));
    got.sort_by_key(|reply| reply["id"].as_u64());
    assert!(matches(&got[0], &subscribed(2)), "{got:?}");
    assert_eq!(got[1], json!({"id": 3, "ping": {}}));
}

#[test]
fn what_a_client_must_not_do_ends_it_with_the_protocols_code() {
    let site = Site::start(Cell::URING_1);
    let cases: &[(&[&str], u16)] = &[
        (&[r#"{"id":1,"subscribe":{"channel":"a"}}"#], 3501),
        (&[r#"{"id":1,"nonsense":{}}"#], 3501),
        (&[CONNECT, r#"{"id":2,"connect":{}}"#], 3501),
        (&[CONNECT, "{}"], 3501),
        (&[CONNECT, "{"], 3501),
        (&[CONNECT, r#"{"subscribe":{"channel":"a"}}"#], 3501),
        (&[CONNECT, "\u{0}"], 3501),
        (&[""], 3501),
    ];
    for (frames, code) in cases {
        let mut socket = Socket::open(site.address(), PATH);
        for frame in *frames {
            socket.send_text(frame);
        }
        if frames[0] == CONNECT {
            socket.next_text();
        }
        let (got, reason) = socket.closed();
        assert_eq!(got, *code, "{frames:?}: {reason}");
        assert!(!reason.is_empty() && serde_json::from_str::<Value>(&reason).is_err(), "{reason}");
    }
}

#[test]
fn a_command_that_cannot_be_carried_out_is_answered_and_the_connection_goes_on() {
    let site = Site::with(Cell::URING_2, |config| config.limits.channels_per_connection_max = 2);
    let error = |id: u32, code: u32| json!({"id": id, "error": {"code": code, "message": null}});
    let temporary = json!({"recoverable": true, "epoch": null, "positioned": true});
    converse(
        &site,
        &[
            (CONNECT, &[connected()]),
            (r#"{"id":2,"subscribe":{"channel":""}}"#, &[error(2, 107)]),
            (r#"{"id":3,"subscribe":{"channel":"a b"}}"#, &[error(3, 107)]),
            (r#"{"id":4,"what":{}}"#, &[error(4, 104)]),
            (r#"{"id":5,"rpc":{"method":"none","data":{}}}"#, &[error(5, 104)]),
            (r#"{"id":6,"publish":{"channel":"a"}}"#, &[error(6, 107)]),
            (
                r#"{"id":7,"subscribe":{"channel":"a"}}"#,
                &[json!({"id": 7, "subscribe": temporary})],
            ),
            (r#"{"id":8,"subscribe":{"channel":"a"}}"#, &[error(8, 105)]),
            (
                r#"{"id":9,"subscribe":{"channel":"b"}}"#,
                &[json!({"id": 9, "subscribe": temporary})],
            ),
            (r#"{"id":10,"subscribe":{"channel":"c"}}"#, &[error(10, 106)]),
            (r#"{"id":11,"unsubscribe":{"channel":"b"}}"#, &[json!({"id": 11, "unsubscribe": {}})]),
            (r#"{"id":12,"unsubscribe":{"channel":"b"}}"#, &[json!({"id": 12, "unsubscribe": {}})]),
            (r#"{"id":13,"subscribe":{"channel":"c"}}"#, &[json!({"id": 13, "subscribe": null})]),
            (
                r#"{"id":14,"history":{"channel":"none","limit":1}}"#,
                &[json!({"id": 14, "history": {}})],
            ),
        ],
    );
}

#[test]
fn recovery_says_exactly_what_it_found() {
    let site = Site::start(Cell::URING_2);
    for data in 1..=3 {
        publish(&site, "a", &format!("{{\"data\":{data}}}"));
    }
    let mut probe = converse(&site, &[(CONNECT, &[connected()])]);
    probe.send_text(r#"{"id":2,"subscribe":{"channel":"a"}}"#);
    let reply: Value = serde_json::from_str(&probe.next_text()).expect("JSON");
    assert_eq!(reply["subscribe"]["offset"], 3);
    let epoch = reply["subscribe"]["epoch"].as_str().expect("an epoch").to_owned();
    let pubs = |offsets: std::ops::RangeInclusive<u64>| -> Vec<Value> {
        offsets.map(|offset| json!({"data": offset, "offset": offset})).collect()
    };
    let recovered = |offset: u64, found: Vec<Value>| {
        let mut result = json!({"recoverable": true, "positioned": true, "epoch": epoch,
            "recovered": true, "was_recovering": true});
        if offset > 0 {
            result["offset"] = offset.into();
        }
        if !found.is_empty() {
            result["publications"] = found.into();
        }
        result
    };
    let lost = json!({"recoverable": true, "positioned": true, "epoch": epoch, "offset": 3,
        "was_recovering": true});
    let cases = [
        (json!({"epoch": epoch, "offset": 1}), recovered(1, pubs(2..=3))),
        (json!({"epoch": epoch, "offset": 3}), recovered(3, vec![])),
        (json!({"epoch": epoch, "offset": 0}), recovered(0, pubs(1..=3))),
        // Any epoch will do; one that is none of ours never does.
        (json!({"offset": 2}), recovered(2, pubs(3..=3))),
        (json!({"epoch": "_", "offset": 2}), lost.clone()),
        (json!({"epoch": "ffffffffffffffff", "offset": 2}), lost.clone()),
        (json!({"epoch": epoch, "offset": 4}), lost),
    ];
    for (position, expected) in cases {
        // Where the shard knows the channel already, and where it has to ask.
        for known in [true, false] {
            let site_socket = if known { Some(()) } else { None };
            let mut socket = converse(&site, &[(CONNECT, &[connected()])]);
            let mut request = json!({"channel": "a", "recover": true});
            request.as_object_mut().unwrap().extend(position.as_object().unwrap().clone());
            socket.send_text(&json!({"id": 2, "subscribe": request}).to_string());
            let got: Value = serde_json::from_str(&socket.next_text()).expect("JSON");
            assert_eq!(got, json!({"id": 2, "subscribe": expected}), "{position} {site_socket:?}");
            // And live from there.
        }
    }
    let strict = r#"{"id":3,"subscribe":{"channel":"a","recover":true,"epoch":"_","flag":2}}"#;
    let mut socket = converse(&site, &[(CONNECT, &[connected()])]);
    socket.send_text(strict);
    let got: Value = serde_json::from_str(&socket.next_text()).expect("JSON");
    assert_eq!(got["error"]["code"], 112);
}

#[test]
fn more_than_fits_an_answer_follows_it_in_order() {
    let site = Site::with(Cell::URING_2, |config| {
        config.limits.outbox_bytes_max = 64 << 10;
        config.limits.message_bytes_max = 8 << 10;
    });
    let text = "x".repeat(4 << 10);
    for _ in 0..40 {
        publish(&site, "a", &json!({"data": text}).to_string());
    }
    let mut socket = converse(&site, &[(CONNECT, &[connected()])]);
    socket.send_text(r#"{"id":2,"subscribe":{"channel":"a","recover":true,"offset":0}}"#);
    let reply: Value = serde_json::from_str(&socket.next_text()).expect("JSON");
    assert_eq!(reply["subscribe"]["recovered"], true);
    let first = reply["subscribe"]["publications"].as_array().expect("publications").len() as u64;
    assert!(0 < first && first < 40, "{first} in the answer");
    for offset in first + 1..=40 {
        let push: Value = serde_json::from_str(&socket.next_text()).expect("JSON");
        assert_eq!(push["push"]["pub"]["offset"], offset);
    }
    publish(&site, "a", r#"{"data":"live"}"#);
    let push: Value = serde_json::from_str(&socket.next_text()).expect("JSON");
    assert_eq!(push, json!({"push": {"channel": "a", "pub": {"data": "live", "offset": 41}}}));
}

#[test]
fn a_subscription_that_went_while_it_joined_is_not_mistaken_for_the_next() {
    let site = Site::start(Cell::URING_2);
    publish(&site, "a", r#"{"data":1}"#);
    let mut socket = converse(&site, &[(CONNECT, &[connected()])]);
    socket.send_text(
        "{\"id\":2,\"subscribe\":{\"channel\":\"a\",\"recover\":true,\"offset\":0}}\n\
         {\"id\":3,\"unsubscribe\":{\"channel\":\"a\"}}\n\
         {\"id\":4,\"subscribe\":{\"channel\":\"a\"}}",
    );
    loop {
        let reply: Value = serde_json::from_str(&socket.next_text()).expect("JSON");
        if reply["id"] == 4 {
            assert_eq!(reply["subscribe"]["offset"], 1);
            assert!(reply["subscribe"].get("publications").is_none(), "{reply}");
            break;
        }
    }
}

#[test]
fn a_ping_goes_out_at_its_pace_and_whoever_does_not_answer_is_closed() {
    let site = Site::with(Cell::URING_1, |config| {
        (config.limits.heartbeat_s, config.limits.pong_timeout_s) = (1, 1);
    });
    let mut socket = Socket::open(site.address(), PATH);
    socket.send_text(CONNECT);
    let reply: Value = serde_json::from_str(&socket.next_text()).expect("JSON");
    assert_eq!(reply["connect"]["ping"], 1);
    for _ in 0..3 {
        assert_eq!(socket.next_text(), "{}");
        socket.send_text("{}");
    }
    assert_eq!(socket.next_text(), "{}");
    assert_eq!(socket.closed(), (3012, "no pong".to_owned()));
}

#[test]
fn a_client_that_never_connects_is_sent_away() {
    let site = Site::with(Cell::URING_1, |config| config.limits.head_timeout_s = 1);
    let (code, reason) = Socket::open(site.address(), PATH).closed();
    assert!(code == 3502 || code == 3011, "{code} {reason}");
}

#[test]
fn the_subprotocol_is_echoed_and_chooses_the_encoding() {
    let site = Site::start(Cell::URING_1);
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
    for (offer, expected) in [
        ("centrifuge-json", "centrifuge-json"),
        ("centrifuge-protobuf", "centrifuge-protobuf"),
        ("other, centrifuge-protobuf", "centrifuge-protobuf"),
        ("other", ""),
    ] {
        let mut wire = Wire::connect(site.address());
        wire.send(format!(
            "GET {PATH} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{key}\
             Sec-WebSocket-Protocol: {offer}\r\n\r\n"
        ));
        let head = wire.head();
        assert_eq!(head.status, 101);
        assert_eq!(head.header("sec-websocket-protocol"), expected, "{offer}");
    }
}

/// Publishes a CloudEvent with one extension attribute, which subscribers see as a tag.
fn publish_tagged(site: &Site, region: &str, data: u32) {
    let event = json!({"specversion": "1.0", "type": "t", "source": "s", "id": data.to_string(),
        "region": region, "data": data});
    let kind = "application/cloudevents+json";
    let answer = site.post("/v1/channels/a/events", kind, event.to_string());
    assert_eq!(answer.status, 202, "{}", answer.text());
}

#[test]
fn a_subscriber_with_a_filter_gets_what_passes_and_nothing_else() {
    let site = Site::start(Cell::URING_2);
    publish_tagged(&site, "eu", 1);
    publish_tagged(&site, "us", 2);
    let filter = json!({"key": "region", "cmp": "eq", "val": "eu"});
    let subscribe = |offset: u64| {
        let request = json!({"channel": "a", "recover": true, "offset": offset, "tf": filter,
            "delta": "fossil"});
        json!({"id": 2, "subscribe": request}).to_string()
    };
    let mut socket = converse(&site, &[(CONNECT, &[connected()])]);
    socket.send_text(&subscribe(0));
    let reply: Value = serde_json::from_str(&socket.next_text()).expect("JSON");
    let passed = |offset: u64| json!({"data": offset, "offset": offset, "tags": {"region": "eu"}});
    assert_eq!(reply["subscribe"]["publications"], json!([passed(1)]), "{reply}");
    assert!(reply["subscribe"].get("delta").is_none(), "a filter excludes deltas: {reply}");
    for (region, data) in [("us", 3), ("eu", 4), ("us", 5), ("eu", 6)] {
        publish_tagged(&site, region, data);
    }
    for offset in [4, 6] {
        let push: Value = serde_json::from_str(&socket.next_text()).expect("JSON");
        assert_eq!(push["push"]["pub"], passed(offset));
    }
    // Offsets go on over what was left out.
    let mut socket = converse(&site, &[(CONNECT, &[connected()])]);
    socket.send_text(&subscribe(4));
    let reply: Value = serde_json::from_str(&socket.next_text()).expect("JSON");
    assert_eq!(reply["subscribe"]["recovered"], true);
    assert_eq!(reply["subscribe"]["publications"], json!([passed(6)]), "{reply}");
}

/// A feed like those that deltas are for: much stays, little changes.
fn feed(step: u64) -> Value {
    let level = |at: u64| json!({"price": 100 + at, "size": 1000 + at, "venue": "XÜTRA"});
    let mut book: Vec<Value> = (0..20).map(level).collect();
    book[(step % 20) as usize]["size"] = (5000 + step).into();
    json!({"symbol": "ABC", "seq": step, "book": book})
}

#[test]
fn a_delta_subscriber_downloads_a_quarter_and_sees_the_same() {
    let site = Site::start(Cell::URING_2);
    let publish_step = |step| publish(&site, "a", &json!({"data": feed(step)}).to_string());
    (1..=3).for_each(publish_step);
    let mut socket = converse(&site, &[(CONNECT, &[connected()])]);
    let request = json!({"channel": "a", "recover": true, "offset": 1, "delta": "fossil"});
    socket.send_text(&json!({"id": 2, "subscribe": request}).to_string());
    let reply: Value = serde_json::from_str(&socket.next_text()).expect("JSON");
    assert_eq!(reply["subscribe"]["delta"], true, "{reply}");
    let mut held = String::new();
    let mut apply = |publication: &Value, step: u64| {
        let data = publication["data"].as_str().expect("always a string");
        let delta = publication["delta"] == true;
        held = if delta {
            let applied = proto::delta::apply(held.as_bytes(), data.as_bytes(), 1 << 20);
            String::from_utf8(applied.expect("it applies")).expect("UTF-8")
        } else {
            data.to_owned()
        };
        assert_eq!(serde_json::from_str::<Value>(&held).expect("JSON"), feed(step));
        delta
    };
    let found = reply["subscribe"]["publications"].as_array().expect("publications");
    let deltas: Vec<bool> = found.iter().zip(2..).map(|(p, step)| apply(p, step)).collect();
    assert_eq!(deltas, [false, true], "first whole, then what changed");
    let (mut bytes, mut whole) = (0, 0);
    for step in 4..=20 {
        publish_step(step);
        let text = socket.next_text();
        let push: Value = serde_json::from_str(&text).expect("JSON");
        assert!(apply(&push["push"]["pub"], step), "{text}");
        bytes += text.len();
        whole += feed(step).to_string().len();
    }
    assert!(bytes * 4 <= whole, "{bytes} of {whole} bytes");
    // One that comes later begins with a whole one, while the first goes on.
    let mut late = converse(&site, &[(CONNECT, &[connected()])]);
    late.send_text(r#"{"id":2,"subscribe":{"channel":"a","delta":"fossil"}}"#);
    late.next_text();
    publish_step(21);
    let push: Value = serde_json::from_str(&late.next_text()).expect("JSON");
    assert!(push["push"]["pub"].get("delta").is_none(), "{push}");
    let push: Value = serde_json::from_str(&socket.next_text()).expect("JSON");
    assert!(apply(&push["push"]["pub"], 21));
    let bytes = |side: &str| {
        let labels = format!("method=\"delta\",side=\"{side}\"");
        site.metric(&format!("shardcast_compression_bytes_total{{{labels}}}"))
    };
    crate::rig::until("it to be counted", || bytes("in") >= whole as f64);
    assert!(bytes("out") * 4.0 <= bytes("in"), "{} of {}", bytes("out"), bytes("in"));
}

#[test]
fn an_sdk_applies_our_deltas_and_filters() {
    let whole: Vec<Value> =
        (1..=6).map(|step| json!({"offset": step, "data": feed(step)})).collect();
    let script = json!([
        ["connect", null],
        ["expect", {"connecting": 0}],
        ["expect", {"connected": true}],
        ["subscribe", ["a", {"delta": "fossil", "since": {"offset": 0, "epoch": ""}}]],
        ["expect", {"channel": "a"}],
        ["say", "three"],
        ["expect", {"publication": whole[0]}],
        ["expect", {"publication": whole[1]}],
        ["expect", {"publication": whole[2]}],
        ["cut", null],
        ["expect", {"connecting": 1}],
        ["say", "three more"],
        ["expect", {"connected": true}],
        ["expect", {"channel": "a"}],
        ["expect", {"publication": whole[3]}],
        ["expect", {"publication": whole[4]}],
        ["expect", {"publication": whole[5]}],
    ]);
    check(Cell::URING_2, &script, Python::None, |site, line| {
        let steps = if line == "three" { 1..=3 } else { 4..=6 };
        for step in steps {
            publish(site, "a", &json!({"data": feed(step)}).to_string());
        }
    });
}
