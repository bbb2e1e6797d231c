//! The client protocol over streams of HTTP, with commands beside them: with centrifuge-js, in
//! Chromium, and with bytes of our own over both versions of HTTP.

use crate::client::{self, CONNECT, matches};
use crate::rig::child::{client as program, run};
use crate::rig::h2::{self, Connection};
use crate::rig::{Answer, Cell, Site, Wire, until};
use serde_json::{Value, json};
use std::net::SocketAddr;

/// The SDKs with the endpoints that they are given.
const SDKS: [(&str, &[&str]); 6] = [
    ("/connection/http_stream", &["json", "centrifuge"]),
    ("/connection/http_stream", &["protobuf", "centrifuge"]),
    ("/connection/http_stream", &["json", "centrifuge-5-7-1"]),
    ("/connection/http_stream", &["protobuf", "centrifuge-5-7-1"]),
    ("/connection/sse", &["json", "centrifuge"]),
    ("/connection/sse", &["json", "centrifuge-5-7-1"]),
];

/// Where a stream comes from.
pub const STREAMS: [(u8, &str); 4] = [
    (1, "/connection/http_stream"),
    (2, "/connection/http_stream"),
    (1, "/connection/sse"),
    (2, "/connection/sse"),
];

enum Source {
    One(Wire),
    Two(Connection),
}

/// A client over a stream.
pub struct Stream {
    source: Source,
    events: bool,
    ended: bool,
    input: Vec<u8>,
    session: String,
    node: String,
}

impl Stream {
    /// Opens a stream with these first commands.
    pub fn open(address: SocketAddr, (version, path): (u8, &str), commands: &str) -> Self {
        Self::open_with(address, (version, path), "", commands)
    }

    /// The same with header fields over HTTP/1.1.
    fn open_with(
        address: SocketAddr,
        (version, path): (u8, &str),
        fields: &str,
        commands: &str,
    ) -> Self {
        let events = path.ends_with("sse");
        let source = if version == 1 {
            let mut wire = Wire::connect(address);
            let length = commands.len();
            wire.send(format!(
                "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n{fields}\r\n\
                 {commands}"
            ));
            let head = wire.head();
            assert_eq!(head.status, 200, "{head:?}");
            assert_eq!(head.header("x-accel-buffering"), "no");
            assert_eq!(head.header("cache-control"), "no-store, no-transform");
            Source::One(wire)
        } else {
            let mut two = Connection::open(address, &[]);
            let request = h2::request("POST", path);
            two.wire.send(h2::frame(h2::HEADERS, h2::END_HEADERS, 1, &request));
            two.wire.send(h2::frame(h2::DATA, h2::END_STREAM, 1, commands.as_bytes()));
            assert_eq!(two.status(1), 200);
            Source::Two(two)
        };
        Self::over(source, events)
    }

    /// An event stream over HTTP/1.1 whose head was read.
    pub fn of(wire: Wire) -> Self {
        Self::over(Source::One(wire), true)
    }

    fn over(source: Source, events: bool) -> Self {
        Self {
            source,
            events,
            ended: false,
            input: Vec::new(),
            session: String::new(),
            node: String::new(),
        }
    }

    /// A client that is let in.
    fn connected(address: SocketAddr, how: (u8, &str)) -> Self {
        let mut stream = Self::open(address, how, CONNECT);
        stream.let_in();
        stream
    }

    pub fn let_in(&mut self) -> Value {
        let reply = self.next().expect("an answer");
        let result = &reply["connect"];
        self.session = result["session"].as_str().expect("a session").to_owned();
        self.node = result["node"].as_str().expect("a node").to_owned();
        reply
    }

    /// More bytes; `false` at the end of the stream.
    fn fill(&mut self) -> bool {
        match &mut self.source {
            Source::One(wire) => {
                let byte = wire.byte();
                self.input.extend(byte);
                byte.is_some()
            }
            Source::Two(two) => {
                while !self.ended
                    && let Some(frame) = two.next()
                {
                    match frame.kind {
                        h2::DATA if frame.stream == 1 => {
                            self.input.extend(frame.payload);
                            self.ended = frame.flags & h2::END_STREAM != 0;
                            return true;
                        }
                        h2::RST_STREAM if frame.stream == 1 => self.ended = true,
                        h2::PING if frame.flags & h2::ACK == 0 => {
                            two.wire.send(h2::frame(h2::PING, h2::ACK, 0, &frame.payload));
                        }
                        _ => {}
                    }
                }
                false
            }
        }
    }

    fn line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.input.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.input.drain(..=at).collect();
                return Some(String::from_utf8(line).expect("UTF-8").trim_end().to_owned());
            }
            if !self.fill() {
                assert!(self.input.is_empty(), "half a line at the end");
                return None;
            }
        }
    }

    /// The next message; `None` at the end.
    pub fn next(&mut self) -> Option<Value> {
        let mut line = self.line()?;
        while self.events && line.is_empty() {
            line = self.line()?;
        }
        let text = if self.events { line.strip_prefix("data: ").expect("an event") } else { &line };
        Some(serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {line:?}")))
    }

    fn expect(&mut self, expected: &Value) {
        let got = self.next().expect("a message");
        assert!(matches(&got, expected), "expected {expected}\ngot {got}");
    }

    /// The last message, which sends the client away, and the end.
    pub fn sent_away(&mut self) -> (u64, String, bool) {
        let last = self.next().expect("a reason");
        let disconnect = &last["push"]["disconnect"];
        let code = disconnect["code"].as_u64().unwrap_or_else(|| panic!("{last}"));
        assert_eq!(self.next(), None, "something came behind the last word");
        let reason = disconnect["reason"].as_str().expect("never empty").to_owned();
        (code, reason, disconnect["reconnect"].as_bool().unwrap_or(false))
    }

    /// Sends commands on a connection of their own.
    pub fn say(&self, site: &Site, commands: &str) {
        let answer = emulate(site, &self.session, &self.node, commands);
        assert_eq!((answer.status, answer.body.len()), (204, 0), "{answer:?}");
    }
}

fn emulate(site: &Site, session: &str, node: &str, commands: &str) -> Answer {
    let body = json!({"session": session, "node": node, "data": commands}).to_string();
    site.post("/emulation", "application/json", body)
}

fn counted(site: &Site, outcome: &str) -> f64 {
    site.metric(&format!("shardcast_emulation_requests_total{{outcome=\"{outcome}\"}}"))
}

cells!(
    an_sdk_does_over_a_stream_what_it_does_over_a_web_socket,
    a_session_goes_its_way_over_each_stream_and_version,
    a_name_opens_one_session_and_only_while_it_lives,
    commands_reach_their_session_over_both_versions_and_in_order,
    a_client_that_is_sent_away_hears_why_before_its_stream_ends,
);

fn an_sdk_does_over_a_stream_what_it_does_over_a_web_socket(cell: Cell) {
    let room = "room:news";
    let more = [
        json!(["presence", [room, 1]]),
        json!(["presence_stats", [room, {"numClients": 1, "numUsers": 1}]]),
        json!(["rpc_fails", ["none", 104]]),
    ];
    let script = client::tour(room, &more);
    for (path, arguments) in SDKS {
        let site = client::site_of_rooms(cell);
        let sdk = ("centrifuge.mjs", arguments);
        client::play(&site, sdk, &site.url(path), &script, |site, line| {
            client::publish_missed(site, room, line);
        });
    }
}

fn a_session_goes_its_way_over_each_stream_and_version(cell: Cell) {
    let site = Site::start(cell);
    let subscribed =
        json!({"id": 2, "subscribe": {"recoverable": true, "epoch": null, "positioned": true}});
    for (at, how) in STREAMS.into_iter().enumerate() {
        let channel = format!("c{at}");
        let subscribe = format!(r#"{{"id":2,"subscribe":{{"channel":"{channel}"}}}}"#);
        let mut stream = Stream::open(site.address(), how, &format!("{CONNECT}\n{subscribe}\n"));
        let reply = stream.let_in();
        let named = json!({"client": null, "version": null, "ping": 25, "pong": true,
            "session": null, "node": null});
        assert!(matches(&reply, &json!({"id": 1, "connect": named})), "{reply}");
        stream.expect(&subscribed);
        // White space as a publisher may write it: an event is one line all the same.
        let raw = "{\"data\":{\"a\":\r\n [1,\r2]}}";
        client::publish(&site, &channel, raw);
        let pushed = |data: Value, offset: u64| {
            let publication = json!({"data": data, "offset": offset});
            json!({"push": {"channel": channel, "pub": publication}})
        };
        stream.expect(&pushed(json!({"a": [1, 2]}), 1));
        stream.say(&site, &format!(r#"{{"id":3,"publish":{{"channel":"{channel}","data":"x"}}}}"#));
        let mut both = [stream.next().expect("one"), stream.next().expect("another")];
        both.sort_by_key(|message| message["id"].is_null());
        let publication = both[1]["push"]["pub"].as_object_mut().expect("an event");
        let author = publication.remove("info").expect("who published");
        assert_eq!(author["client"], reply["connect"]["client"]);
        assert_eq!(both, [json!({"id": 3, "publish": {}}), pushed(json!("x"), 2)]);
        stream.say(&site, "{\"id\":4,\"ping\":{}}\n{\"id\":5,\"rpc\":{\"method\":\"none\"}}");
        stream.expect(&json!({"id": 4, "ping": {}}));
        stream.expect(&json!({"id": 5, "error": {"code": 104, "message": null}}));
    }
}

fn a_name_opens_one_session_and_only_while_it_lives(cell: Cell) {
    let site = Site::start(cell);
    for how in STREAMS {
        let mut stream = Stream::connected(site.address(), how);
        let mut other = Stream::connected(site.address(), how);
        assert_ne!(stream.session, other.session);
        let (session, node) = (stream.session.clone(), stream.node.clone());
        let ping = r#"{"id":7,"ping":{}}"#;
        let before = counted(&site, "gone");
        let mut tried = 0.0;
        for at in 0..session.len() {
            let mut wrong = session.clone().into_bytes();
            wrong[at] = if wrong[at] == b'0' { b'1' } else { b'0' };
            let wrong = String::from_utf8(wrong).expect("ASCII");
            let answer = emulate(&site, &wrong, &node, ping);
            assert_eq!((answer.status, answer.body.len()), (204, 0), "{answer:?}");
            tried += 1.0;
        }
        // The place of one with the secret of the other.
        let mixed = format!("{}{}", &session[..12], &other.session[12..]);
        for wrong in ["", "x", &session[1..], &format!("{session}0"), &mixed] {
            assert_eq!(emulate(&site, wrong, &node, ping).status, 204);
            tried += 1.0;
        }
        let upper = session.to_uppercase();
        if upper != session {
            assert_eq!(emulate(&site, &upper, &node, ping).status, 204);
            tried += 1.0;
        }
        until("the gone to be counted", || counted(&site, "gone") >= before + tried);
        for node in ["", "0", &node[1..]] {
            let answer = emulate(&site, &session, node, ping);
            assert_eq!((answer.status, answer.code().as_str()), (404, "unknown_node"));
        }
        // Nothing of that was heard.
        stream.say(&site, r#"{"id":8,"ping":{}}"#);
        stream.expect(&json!({"id": 8, "ping": {}}));
        other.say(&site, r#"{"id":9,"ping":{}}"#);
        other.expect(&json!({"id": 9, "ping": {}}));
        // It ends; whoever gets its slot has another secret.
        let before = counted(&site, "gone");
        drop(stream);
        until("the session to be gone", || {
            assert_eq!(emulate(&site, &session, &node, "{\"id\":1,\"send\":{}}").status, 204);
            counted(&site, "gone") > before
        });
        let heirs: Vec<Stream> = (0..4).map(|_| Stream::connected(site.address(), how)).collect();
        let before = counted(&site, "gone");
        assert_eq!(emulate(&site, &session, &node, "nonsense").status, 204);
        until("it to be counted", || counted(&site, "gone") > before);
        for mut heir in heirs {
            heir.say(&site, ping);
            heir.expect(&json!({"id": 7, "ping": {}}));
        }
    }
}

fn commands_reach_their_session_over_both_versions_and_in_order(cell: Cell) {
    let site = Site::start(cell);
    let how = (2, "/connection/http_stream");
    let subscribe = r#"{"id":2,"subscribe":{"channel":"a"}}"#;
    let mut stream = Stream::open(site.address(), how, &format!("{CONNECT}\n{subscribe}"));
    stream.let_in();
    stream.next().expect("subscribed");
    let body = |commands: &str| {
        json!({"session": stream.session, "node": stream.node, "data": commands}).to_string()
    };
    let publish =
        |n: u32| format!(r#"{{"id":{},"publish":{{"channel":"a","data":{n}}}}}"#, n + 100);
    let mut wire = site.wire();
    let mut two = Connection::open(site.address(), &[]);
    for n in 0..60 {
        if n % 2 == 0 {
            // Byte by byte, wherever it is cut.
            let body = body(&publish(n));
            let length = body.len();
            let head = format!(
                "POST /emulation HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"
            );
            let cut = (n as usize * 7) % length;
            wire.send(head);
            wire.send(&body[..cut]);
            wire.send(&body[cut..]);
            assert_eq!(wire.answer().status, 204);
        } else {
            let request = h2::request("POST", "/emulation");
            let id = n * 2 + 1;
            two.wire.send(h2::frame(h2::HEADERS, h2::END_HEADERS, id, &request));
            two.wire.send(h2::frame(h2::DATA, h2::END_STREAM, id, body(&publish(n)).as_bytes()));
            assert_eq!(two.status(id), 204);
        }
    }
    let (mut pushed, mut answered) = (Vec::new(), 0);
    while pushed.len() < 60 || answered < 60 {
        let message = stream.next().expect("all of them");
        match message["push"]["pub"]["data"].as_u64() {
            Some(n) => pushed.push(n),
            None => {
                assert_eq!(message["publish"], json!({}), "{message}");
                answered += 1;
            }
        }
    }
    assert_eq!(pushed, (0..60).collect::<Vec<u64>>());
}

fn a_client_that_is_sent_away_hears_why_before_its_stream_ends(cell: Cell) {
    let site = Site::start(cell);
    for how in STREAMS {
        for (commands, expected) in [
            ("{", "bad request"),
            ("", "bad request"),
            (r#"{"id":1,"subscribe":{"channel":"a"}}"#, "connect first"),
        ] {
            if commands.is_empty() && how.1.ends_with("sse") {
                continue;
            }
            let mut stream = Stream::open(site.address(), how, commands);
            let (code, reason, reconnect) = stream.sent_away();
            assert_eq!((code, reconnect), (3501, false), "{reason}");
            assert!(reason.contains(expected), "{reason}");
        }
        // What was answered before comes first.
        let both = format!("{CONNECT}\n{CONNECT}");
        let mut stream = Stream::open(site.address(), how, &both);
        stream.let_in();
        assert_eq!(stream.sent_away().0, 3501);
        // Beside the stream.
        let mut stream = Stream::connected(site.address(), how);
        stream.say(&site, "{}");
        assert_eq!(stream.sent_away().0, 3501);
        // By the server API.
        let mut stream = Stream::open(site.address(), how, CONNECT);
        let reply = stream.let_in();
        let body = json!({"client": reply["connect"]["client"], "user": "",
            "disconnect": {"code": 4321, "reason": "go"}});
        let answer = site.post("/api/disconnect", "application/json", body.to_string());
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(stream.sent_away(), (4321, "go".to_owned(), true));
        assert_eq!(emulate(&site, &stream.session, &stream.node, "{}").status, 204);
    }
    let streams = STREAMS.map(|how| Stream::connected(site.address(), how));
    let ends = streams.map(|mut stream| std::thread::spawn(move || stream.sent_away()));
    site.stop();
    for end in ends {
        assert_eq!(end.join().expect("told"), (3001, "shutdown".to_owned(), true));
    }
}

#[test]
fn a_stream_is_pinged_and_ends_when_nobody_answers() {
    let site = Site::with(Cell::URING_2, |config| {
        config.limits.heartbeat_s = 2;
        config.limits.pong_timeout_s = 1;
    });
    for how in STREAMS {
        let mut silent = Stream::connected(site.address(), how);
        let mut stream = Stream::connected(site.address(), how);
        for _ in 0..3 {
            assert_eq!(stream.next(), Some(json!({})));
            stream.say(&site, "{}");
        }
        assert_eq!(silent.next(), Some(json!({})));
        while let Some(message) = silent.next() {
            if message == json!({}) {
                continue;
            }
            assert_eq!(message["push"]["disconnect"]["code"], 3012, "{message}");
        }
        stream.say(&site, r#"{"id":5,"ping":{}}"#);
        while stream.next().expect("it lives") != json!({"id": 5, "ping": {}}) {}
    }
}

#[test]
fn who_does_not_connect_in_time_is_sent_away() {
    let site = Site::with(Cell::URING_1, |config| config.limits.head_timeout_s = 1);
    let expired = r#"{"id":1,"send":{}}"#;
    assert_eq!(
        Stream::open(site.address(), (1, "/connection/http_stream"), expired).sent_away().0,
        3501
    );
}

#[test]
fn a_request_that_is_none_is_refused_and_costs_nothing() {
    let site = Site::with(Cell::URING_2, |config| {
        config.limits.message_bytes_max = 4_096;
        config.limits.body_bytes_max = 1 << 20;
    });
    let long = "x".repeat(4_097);
    for path in ["/emulation", "/connection/http_stream", "/connection/sse"] {
        let answer = site.post(path, "application/json", &long);
        assert_eq!((answer.status, answer.code().as_str()), (413, "body_too_large"), "{path}");
        let gzip = "Content-Encoding: gzip\r\n";
        assert_eq!(site.wire().request("POST", path, gzip, b"x").status, 415, "{path}");
        assert_eq!(site.wire().request("DELETE", path, "", b"").status, 405, "{path}");
    }
    assert_eq!(site.get("/emulation").status, 405);
    assert_eq!(site.get("/connection/http_stream").status, 405);
    assert_eq!(site.get("/connection/sse").code(), "bad_parameter");
    assert_eq!(site.get("/connection/sse?cf_connect=").code(), "bad_parameter");
    assert_eq!(site.get("/connection/sse?cf_connect=a&cf_connect=b").code(), "bad_parameter");
    assert_eq!(site.get("/connection/none").status, 404);
    for body in ["", "{", "[]", "{}x", "{\"session\":1}", "\u{0}"] {
        let answer = site.post("/emulation", "application/json", body);
        assert_eq!((answer.status, answer.code().as_str()), (400, "bad_request"), "{body}");
    }
    for body in [&b"\x12\xff"[..], b"\x08"] {
        let answer = site.post("/emulation", "application/octet-stream", body);
        assert_eq!((answer.status, answer.code().as_str()), (400, "bad_request"), "{body:?}");
    }
    until("they are counted", || counted(&site, "invalid") == 8.0);
    let body = "GET /connection/sse?cf_connect=%7B HTTP/1.1\r\nHost: localhost\r\n\
                Content-Length: 1\r\n\r\nx";
    let mut wire = site.wire();
    wire.send(body);
    assert_eq!(wire.answer().code(), "unexpected_body");
    let forged = "Origin: https://evil.example\r\n";
    for path in ["/emulation", "/connection/http_stream", "/connection/sse"] {
        let answer = site.wire().request("POST", path, forged, CONNECT.as_bytes());
        assert_eq!((answer.status, answer.code().as_str()), (403, "origin_not_allowed"), "{path}");
    }
}

#[test]
fn a_page_of_an_allowed_origin_gets_its_leave_on_every_answer() {
    let origin = "https://app.example";
    let site = Site::with(Cell::URING_1, |config| config.allowed_origins = vec![origin.to_owned()]);
    let field = format!("Origin: {origin}\r\n");
    for path in ["/connection/http_stream", "/connection/sse"] {
        let mut wire = site.wire();
        let length = CONNECT.len();
        wire.send(format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n{field}\r\n{CONNECT}"
        ));
        assert_eq!(wire.head().header("access-control-allow-origin"), origin);
        let mut stream = Stream::open_with(site.address(), (1, path), &field, CONNECT);
        stream.let_in();
        let body = json!({"session": stream.session, "node": stream.node,
            "data": "{\"id\":2,\"ping\":{}}"});
        let answer = site.wire().request("POST", "/emulation", &field, body.to_string().as_bytes());
        assert_eq!(answer.status, 204);
        assert_eq!(answer.header("access-control-allow-origin"), origin);
        assert_eq!(answer.header("access-control-allow-credentials"), "");
        stream.expect(&json!({"id": 2, "ping": {}}));
        let asked = format!(
            "{field}Access-Control-Request-Method: POST\r\n\
             Access-Control-Request-Headers: content-type\r\n"
        );
        for path in [path, "/emulation"] {
            let answer = site.wire().request("OPTIONS", path, &asked, b"");
            assert_eq!(answer.status, 204);
            assert!(answer.header("access-control-allow-headers").contains("content-type"));
        }
    }
}

#[test]
fn a_filter_deltas_and_recovery_work_on_a_stream_as_on_a_web_socket() {
    let site = Site::start(Cell::URING_2);
    for (at, how) in STREAMS.into_iter().enumerate() {
        let channel = format!("c{at}");
        let mut stream = Stream::connected(site.address(), how);
        let tf = r#"{"key":"kind","cmp":"eq","val":"trade"}"#;
        stream
            .say(&site, &format!(r#"{{"id":2,"subscribe":{{"channel":"{channel}","tf":{tf}}}}}"#));
        let joined = stream.next().expect("subscribed");
        let epoch = joined["subscribe"]["epoch"].as_str().expect("an epoch").to_owned();
        let mut deltas = Stream::connected(site.address(), how);
        deltas.say(
            &site,
            &format!(r#"{{"id":2,"subscribe":{{"channel":"{channel}","delta":"fossil"}}}}"#),
        );
        assert_eq!(deltas.next().expect("subscribed")["subscribe"]["delta"], true);
        let long = "lorem ipsum dolor sit amet ".repeat(20);
        for (n, kind) in ["trade", "quote", "trade"].iter().enumerate() {
            let body = json!({"channel": channel, "data": {"n": n, "text": long},
                "tags": {"kind": kind}});
            let answer = site.post("/api/publish", "application/json", body.to_string());
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
        for n in [0, 2] {
            let push = stream.next().expect("what passes");
            assert_eq!(push["push"]["pub"]["data"]["n"], n, "{push}");
        }
        let sizes: Vec<usize> = (0..3)
            .map(|_| deltas.next().expect("each")["push"]["pub"]["data"].to_string().len())
            .collect();
        assert!(sizes[0] > 500 && sizes[1] < 100 && sizes[2] < 100, "{sizes:?}");
        let mut back = Stream::connected(site.address(), how);
        back.say(&site, &format!(
            r#"{{"id":2,"subscribe":{{"channel":"{channel}","recover":true,"epoch":"{epoch}","offset":1}}}}"#
        ));
        let recovered = back.next().expect("recovered");
        assert_eq!(recovered["subscribe"]["recovered"], true, "{recovered}");
        assert_eq!(recovered["subscribe"]["publications"].as_array().map(Vec::len), Some(2));
    }
}

#[test]
fn one_connection_of_http_2_carries_many_clients_each_of_its_own() {
    let site = Site::with(Cell::URING_2, |config| {
        config.limits.channels_per_connection_max = 3;
        let mut room = config.namespaces["default"].clone();
        room.presence = server::config::Access::Anonymous;
        room.join_leave = true;
        config.namespaces.insert("room".into(), room);
    });
    let mut two = Connection::open(site.address(), &[]);
    let commands = format!("{CONNECT}\n{{\"id\":2,\"subscribe\":{{\"channel\":\"room:a\"}}}}");
    for id in [1, 3, 5, 7] {
        let request = h2::request("POST", "/connection/http_stream");
        two.wire.send(h2::frame(h2::HEADERS, h2::END_HEADERS, id, &request));
        two.wire.send(h2::frame(h2::DATA, h2::END_STREAM, id, commands.as_bytes()));
    }
    // Three of them fit; the fourth hears that the connection has no room.
    let mut lines: std::collections::BTreeMap<u32, Vec<u8>> = Default::default();
    let whole = |lines: &std::collections::BTreeMap<u32, Vec<u8>>| {
        let count = |text: &Vec<u8>| text.iter().filter(|byte| **byte == b'\n').count();
        lines.len() == 4 && lines.values().all(|text| count(text) >= 2)
    };
    while !whole(&lines) {
        let frame = two.next().expect("open");
        if frame.kind == h2::DATA {
            lines.entry(frame.stream).or_default().extend(frame.payload);
        }
    }
    let second = |text: &Vec<u8>| -> Value {
        let text = String::from_utf8(text.clone()).expect("UTF-8");
        serde_json::from_str(text.lines().nth(1).expect("two lines")).expect("JSON")
    };
    let refused = lines.values().filter(|text| second(text)["error"]["code"] == 106).count();
    assert_eq!(refused, 1, "{lines:?}");
    let mut watcher = Stream::connected(site.address(), (1, "/connection/http_stream"));
    watcher.say(&site, r#"{"id":2,"subscribe":{"channel":"room:a"}}"#);
    watcher.next().expect("subscribed");
    let mut members = |expected: usize| {
        until("presence", || {
            watcher.say(&site, r#"{"id":3,"presence":{"channel":"room:a"}}"#);
            loop {
                let message = watcher.next().expect("an answer");
                if message["id"] == 3 {
                    let presence = message["presence"]["presence"].as_object();
                    return presence.map_or(0, serde_json::Map::len) == expected;
                }
            }
        });
    };
    members(4);
    // One stream ends: its member goes, the others stay.
    let first = *lines.iter().find(|(_, text)| second(text)["error"].is_null()).expect("one").0;
    two.wire.send(h2::frame(h2::RST_STREAM, 0, first, &8_u32.to_be_bytes()));
    members(3);
    drop(two);
    members(1);
}

#[test]
fn who_reads_too_slowly_on_a_stream_of_http_2_is_sent_away_and_its_neighbour_is_not() {
    let site = Site::with(Cell::URING_2, |config| {
        config.limits.outbox_bytes_max = 64 << 10;
        config.namespaces.get_mut("default").expect("default").history_size = 100_000;
    });
    const INITIAL_WINDOW: u16 = 4;
    let mut two = Connection::open(site.address(), &[(INITIAL_WINDOW, 2_000)]);
    let wide = (1_u32 << 30).to_be_bytes();
    two.wire.send(h2::frame(h2::WINDOW_UPDATE, 0, 0, &wide));
    let commands = format!("{CONNECT}\n{{\"id\":2,\"subscribe\":{{\"channel\":\"c\"}}}}");
    for id in [1, 3] {
        let request = h2::request("POST", "/connection/http_stream");
        two.wire.send(h2::frame(h2::HEADERS, h2::END_HEADERS, id, &request));
        two.wire.send(h2::frame(h2::DATA, h2::END_STREAM, id, commands.as_bytes()));
    }
    two.wire.send(h2::frame(h2::WINDOW_UPDATE, 0, 3, &wide));
    site.wait_for_subscriptions(2);
    let body = format!("{{\"data\":\"{}\"}}\n", "x".repeat(8_000)).repeat(10);
    let (mut slow, mut fast, mut reset, mut published) = (Vec::new(), Vec::new(), None, 0);
    let lines = |text: &[u8]| text.iter().filter(|byte| **byte == b'\n').count();
    // What the slow one has not taken goes with its stream; it comes back for it.
    while reset.is_none() {
        let answer = site.post("/v1/channels/c/events", "application/x-ndjson", &body);
        assert_eq!(answer.status, 202, "{answer:?}");
        published += 10;
        while lines(&fast) < published + 2 {
            let frame = two.next().expect("open");
            match (frame.kind, frame.stream) {
                (h2::DATA, 1) => slow.extend(frame.payload),
                (h2::RST_STREAM, 1) => reset = Some(frame.payload),
                (h2::DATA, 3) => fast.extend(frame.payload),
                _ => assert!(!matches!(frame.kind, h2::RST_STREAM | h2::GOAWAY), "{frame:?}"),
            }
        }
    }
    let offsets = |text: &[u8]| -> Vec<u64> {
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let text = std::str::from_utf8(&text[..whole]).expect("UTF-8");
        let messages = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        messages.filter_map(|message| message["push"]["pub"]["offset"].as_u64()).collect()
    };
    const CANCEL: u32 = 8;
    assert_eq!(reset, Some(CANCEL.to_be_bytes().to_vec()));
    assert!(slow.len() <= 2_000, "its window is {}", slow.len());
    assert_eq!(offsets(&fast), (1..=published as u64).collect::<Vec<_>>());
    assert_eq!(offsets(&slow), (1..=offsets(&slow).len() as u64).collect::<Vec<_>>());
    // Another one on the same connection recovers all of it.
    let request = h2::request("POST", "/connection/http_stream");
    let commands = format!(
        "{CONNECT}\n{}",
        json!({"id": 2, "subscribe": {"channel": "c", "recover": true, "epoch": "", "offset": 0}})
    );
    two.wire.send(h2::frame(h2::HEADERS, h2::END_HEADERS, 5, &request));
    two.wire.send(h2::frame(h2::DATA, h2::END_STREAM, 5, commands.as_bytes()));
    two.wire.send(h2::frame(h2::WINDOW_UPDATE, 0, 5, &wide));
    let mut back = Vec::new();
    while lines(&back) < 2 {
        let frame = two.next().expect("open");
        if (frame.kind, frame.stream) == (h2::DATA, 5) {
            back.extend(frame.payload);
        }
    }
    let reply: Value =
        serde_json::from_slice(back.split(|byte| *byte == b'\n').nth(1).expect("two"))
            .expect("JSON");
    assert_eq!(reply["subscribe"]["recovered"], json!(true), "{reply}");
}

#[test]
fn a_browser_speaks_over_both_streams() {
    let site = Site::start(Cell::URING_2);
    let out = run(program("emulation.mjs").arg(site.url("")));
    assert!(out.contains("http_stream ok") && out.contains("sse ok"), "{out}");
}
