//! WebSocket with clients that others wrote. A script of steps is played by npm `ws`, Python
//! `websockets`, Python `aiohttp` and tungstenite alike; `expect_*` steps wait for what must come.

use crate::rig::child::{client, run};
use crate::rig::ws::{Socket, frame, frame_head, handshake};
use crate::rig::{Cell, Site};
use serde_json::{Value, json};
use server::config::Access;
use std::net::TcpStream;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame, Frame};
use tungstenite::{Message, WebSocket};

/// Who plays a script.
const CLIENTS: [&str; 4] = ["ws.mjs", "ws_websockets.py", "ws_aiohttp.py", "tungstenite"];

/// Lets every client that can play the script play it against a server of its own.
fn check(cell: Cell, path: &str, script: &Value, prepare: impl Fn(&Site)) {
    check_with(cell, path, script, false, prepare);
}

/// The same with every message compressed by both sides; tungstenite has no permessage-deflate.
pub fn check_with(cell: Cell, path: &str, script: &Value, deflate: bool, prepare: impl Fn(&Site)) {
    let fragments = script.as_array().is_some_and(|s| s.iter().any(|s| s[0] == "fragments"));
    for name in CLIENTS {
        if fragments && name == "ws_aiohttp.py" || deflate && name == "tungstenite" {
            continue;
        }
        let site = Site::with(cell, |config| {
            config.limits.message_bytes_max = 16 << 20;
            config.limits.body_bytes_max = 16 << 20;
            config.spool.segment_bytes = 64 << 20;
            config.limits.ws_deflate_bytes_min = 1;
        });
        prepare(&site);
        if name == "tungstenite" {
            play(&site, path, script);
        } else {
            let url = format!("ws://{}{path}", site.address());
            run(client(name).arg(url).arg(script.to_string()).args(deflate.then_some("deflate")));
        }
    }
}

/// tungstenite's part.
fn play(site: &Site, path: &str, script: &Value) {
    let stream = TcpStream::connect(site.address()).expect("the server listens");
    let url = format!("ws://{}{path}", site.address());
    let (mut socket, _) = tungstenite::client(url, stream).expect("a handshake");
    for step in script.as_array().expect("steps") {
        play_step(&mut socket, step[0].as_str().expect("a name"), &step[1]);
    }
}

fn play_step(socket: &mut WebSocket<TcpStream>, name: &str, argument: &Value) {
    let text = || argument.as_str().expect("text").to_owned();
    let fill = || "x".repeat(argument.as_u64().expect("a count") as usize);
    match name {
        "text" => socket.send(Message::text(text())).expect("sent"),
        "binary" => socket.send(Message::binary(unhex(&text()))).expect("sent"),
        "fill_text" => socket.send(Message::text(fill())).expect("sent"),
        "fill_binary" => socket.send(Message::binary(fill())).expect("sent"),
        "fragments" => {
            let parts = argument.as_array().expect("parts");
            for (at, part) in parts.iter().enumerate() {
                let data = if at == 0 { Data::Text } else { Data::Continue };
                let part = part.as_str().expect("text").to_owned();
                let last = at + 1 == parts.len();
                let frame = Frame::message(part.into_bytes(), OpCode::Data(data), last);
                socket.send(Message::Frame(frame)).expect("sent");
            }
        }
        "ping" => {
            socket.send(Message::Ping(text().into_bytes().into())).expect("sent");
            assert_eq!(socket.read().expect("a pong"), Message::Pong(text().into_bytes().into()));
        }
        "expect_text" => assert_eq!(socket.read().expect("a message"), Message::text(text())),
        "expect_binary" => {
            assert_eq!(socket.read().expect("a message"), Message::binary(unhex(&text())));
        }
        "expect_fill_text" => assert!(socket.read().expect("a message") == Message::text(fill())),
        "expect_fill_binary" => {
            assert!(socket.read().expect("a message") == Message::binary(fill()));
        }
        "expect_event" => {
            let got = socket.read().expect("a message").into_text().expect("text");
            let event: Value = serde_json::from_str(&got).expect("JSON");
            for (member, value) in argument.as_object().expect("members") {
                assert_eq!(&event[member], value, "{event}");
            }
        }
        "close" => {
            let code = (argument.as_u64().expect("a code") as u16).into();
            socket.close(Some(CloseFrame { code, reason: "".into() })).expect("sent");
        }
        "expect_close" => {
            let Message::Close(Some(frame)) = socket.read().expect("a close frame") else {
                panic!("no close frame");
            };
            assert_eq!(json!(u16::from(frame.code)), argument[0], "{frame:?}");
            assert!(frame.reason.starts_with(argument[1].as_str().expect("a reason")), "{frame:?}");
        }
        _ => panic!("unknown step {name}"),
    }
}

pub fn unhex(text: &str) -> Vec<u8> {
    let digits = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hex");
    (0..text.len()).step_by(2).map(digits).collect()
}

fn messages_come_back_as_they_were_sent(cell: Cell) {
    let script = json!([
        ["text", "hello"],
        ["expect_text", "hello"],
        ["binary", "00ff10"],
        ["expect_binary", "00ff10"],
        ["text", ""],
        ["expect_text", ""],
        ["binary", ""],
        ["expect_binary", ""],
        ["text", "grün \u{1F600} \u{0}"],
        ["expect_text", "grün \u{1F600} \u{0}"],
        ["ping", "are you there"],
        ["ping", ""],
        ["fill_text", 70_000],
        ["expect_fill_text", 70_000],
        ["text", "{\"looks\":\"like json\"}"],
        ["expect_text", "{\"looks\":\"like json\"}"],
        ["close", 1000],
        ["expect_close", [1000, ""]],
    ]);
    check(cell, "/v1/channels/echo/ws", &script, |_| {});
    check_with(cell, "/v1/channels/echo/ws", &script, true, |_| {});
}

fn fragments_become_one_message(cell: Cell) {
    let script = json!([
        ["fragments", ["one ", "two ", "three"]],
        ["expect_text", "one two three"],
        ["fragments", ["", "", "x"]],
        ["expect_text", "x"],
    ]);
    check(cell, "/v1/channels/parts/ws", &script, |_| {});
    check_with(cell, "/v1/channels/parts/ws", &script, true, |_| {});
}

fn a_message_of_16_mib_passes_where_it_is_allowed(cell: Cell) {
    let script = json!([
        ["fill_binary", 16 << 20],
        ["expect_fill_binary", 16 << 20],
        ["fill_text", 16 << 20],
        ["expect_fill_text", 16 << 20],
        ["fill_text", (16 << 20) + 1],
        ["expect_close", [1009, ""]],
    ]);
    check(cell, "/v1/channels/huge/ws", &script, |_| {});
}

fn envelopes_carry_positions_and_resume_after_them(cell: Cell) {
    let script = json!([
        ["expect_event", {"shardcast": "gap", "reason": "malformed"}],
        ["expect_event", {"offset": 1, "data": "one", "channel": "log"}],
        ["expect_event", {"offset": 2, "data": "two", "content_type": "text/plain"}],
        ["binary", "ff"],
        ["expect_event", {"offset": 3, "data_base64": "/w=="}],
    ]);
    let two = |site: &Site| {
        site.publish("log", "one");
        site.publish("log", "two");
    };
    check(cell, "/v1/channels/log/ws?format=envelope&since=nonsense", &script, two);
    // A real position: exactly what follows it.
    let site = Site::start(cell);
    let first = site.publish("log", "one");
    site.publish("log", "two");
    for _ in 0..2 {
        let path = format!("/v1/channels/log/ws?format=envelope&since={first}");
        let mut socket = Socket::open(site.address(), &path);
        let start: Value = serde_json::from_str(&socket.next_text()).expect("JSON");
        assert_eq!(start["shardcast"], "recovered", "{start}");
        let event: Value = serde_json::from_str(&socket.next_text()).expect("JSON");
        assert_eq!((&event["offset"], &event["data"]), (&json!(2), &json!("two")));
    }
    // No position: it says where it starts.
    let mut socket = Socket::open(site.address(), "/v1/channels/log/ws?format=envelope");
    let start: Value = serde_json::from_str(&socket.next_text()).expect("JSON");
    assert_eq!(start["shardcast"], "subscribed", "{start}");
    let top = site.get("/v1/channels/log/events").json()["position"].clone();
    assert_eq!(start["position"], top);
}

/// A client may send bytes, in pieces; the server closes with a code.
fn broken_frames_close_with_their_code(cell: Cell) {
    let site = Site::start(cell);
    let check = |what: &str, input: &[u8], code: u16| {
        let mut socket = Socket::open(site.address(), "/v1/channels/broken/ws");
        socket.wire.send(input);
        assert_eq!(socket.closed().0, code, "{what}");
    };
    check("unmasked", &[0x81, 0x02, b'h', b'i'], 1002);
    check("reserved bit", &frame(0xc1, b"x"), 1002);
    check("reserved opcode", &frame(0x83, b"x"), 1002);
    check("reserved control opcode", &frame(0x8b, b""), 1002);
    check("fragmented ping", &frame(0x09, b""), 1002);
    check("long ping", &frame(0x89, &[b'x'; 126]), 1002);
    check("nothing to continue", &frame(0x80, b"x"), 1002);
    check("message in a message", &[frame(0x01, b"a"), frame(0x81, b"b")].concat(), 1002);
    check("close of one byte", &frame(0x88, b"\x03"), 1002);
    check("illegal close code", &frame(0x88, &1005_u16.to_be_bytes()), 1002);
    check("close reason not UTF-8", &frame(0x88, b"\x03\xe8\xff"), 1007);
    check("text not UTF-8", &frame(0x81, b"\xff"), 1007);
    check("half a character", &frame(0x81, b"\xe2\x82"), 1007);
    let split = [frame(0x01, b"\xe2\x82"), frame(0x80, b"x")].concat();
    check("broken over fragments", &split, 1007);
    check("too big", &frame_head(0x82, (1 << 20) + 1), 1009);
    check("absurdly big", &frame_head(0x82, 1 << 62), 1009);
    check("length with the highest bit", &frame_head(0x82, 1 << 63), 1002);
    let halves = [frame(0x02, &vec![0; 600_000]), frame(0x80, &vec![0; 600_000])].concat();
    check("too big in fragments", &halves, 1009);
    let mut tiny = frame(0x01, b"x");
    (0..2_000).for_each(|_| tiny.extend(frame(0x00, b"")));
    check("too many fragments", &tiny, 1008);
    let pings: Vec<u8> = (0..10_000).flat_map(|_| frame(0x89, b"")).collect();
    check("ping flood", &pings, 1008);
    check("close", &frame(0x88, &4321_u16.to_be_bytes()), 4321);
    check("close without code", &frame(0x88, b""), 1000);
    // Whatever they did, a well-behaved neighbour is served.
    let mut socket = Socket::open(site.address(), "/v1/channels/fine/ws");
    socket.send_text("fine");
    assert_eq!(socket.next_text(), "fine");
    assert_eq!(site.get("/v1/channels/broken/last").status, 404, "nothing was published");
}

fn a_frame_may_come_in_any_pieces(cell: Cell) {
    let site = Site::start(cell);
    let mut socket = Socket::open(site.address(), "/v1/channels/pieces/ws");
    let input = [frame(0x01, "gr\u{fc}".as_bytes()), frame(0x89, b"p"), frame(0x80, b"n")].concat();
    for byte in input {
        socket.wire.send([byte]);
    }
    let pong = socket.next();
    assert_eq!((pong.opcode, &pong.payload[..]), (10, &b"p"[..]));
    assert_eq!(socket.next_text(), "gr\u{fc}n");
}

fn nothing_is_a_frame_before_the_handshake_and_everything_after(cell: Cell) {
    let site = Site::start(cell);
    let good = handshake("/v1/channels/hs/ws");
    let check = |request: String, status: u16| {
        let mut wire = site.wire();
        wire.send(&request);
        let head = wire.head();
        assert_eq!(head.status, status, "{request}");
        head
    };
    check(format!("{}\r\n", good.replace("Key: dGhlIHNhbXBsZSBub25jZQ==", "Key: short")), 400);
    check(format!("{}\r\n", good.replace("Upgrade: websocket\r\n", "")), 426);
    let version = check(format!("{}\r\n", good.replace("Version: 13", "Version: 12")), 426);
    assert_eq!(version.header("sec-websocket-version"), "13");
    check(format!("{}\r\n", good.replace("GET", "POST")), 405);
    check(format!("{good}Origin: https://evil.example\r\n\r\n"), 403);
    // A frame in the same packet as the handshake is not lost.
    let mut wire = site.wire();
    wire.send([format!("{good}\r\n").as_bytes(), &frame(0x81, b"early")].concat());
    assert_eq!(wire.head().status, 101);
    assert_eq!(Socket { wire }.next_text(), "early");
}

fn a_namespace_may_forbid_to_publish_and_to_subscribe(cell: Cell) {
    let site = Site::with(cell, |config| {
        let mut quiet = config.namespaces["default"].clone();
        quiet.client_publish = Access::Nobody;
        config.namespaces.insert("quiet".to_owned(), quiet.clone());
        (quiet.subscribe, quiet.history) = (Access::Nobody, Access::Nobody);
        quiet.publish = false;
        config.namespaces.insert("closed".to_owned(), quiet);
    });
    let mut socket = Socket::open(site.address(), "/v1/channels/quiet:a/ws");
    site.wait_for_subscriptions(1);
    site.publish("quiet:a", "from a service");
    assert_eq!(socket.next_text(), "from a service");
    socket.send_text("from a client");
    assert_eq!(socket.closed().0, 1008);
    let mut wire = site.wire();
    wire.send(format!("{}\r\n", handshake("/v1/channels/closed:a/ws")));
    assert_eq!(wire.answer().status, 403);
    assert_eq!(site.get("/v1/sse?channel=closed:a").status, 403);
    assert_eq!(site.get("/v1/history?channel=closed:a").status, 403);
    assert_eq!(site.get("/v1/channels/closed:a/last").status, 403);
    assert_eq!(site.post("/v1/channels/closed:a/events", "text/plain", "x").status, 403);
}

fn everybody_gets_every_message_in_order(cell: Cell) {
    let site = Site::start(cell);
    let path = "/v1/channels/crowd/ws";
    let mut sockets: Vec<_> = (0..50).map(|_| Socket::open(site.address(), path)).collect();
    site.wait_for_subscriptions(sockets.len());
    let body: String = (0..500).map(|n| format!("{{\"data\":{n}}}\n")).collect();
    let answer = site.post("/v1/channels/crowd/events", "application/x-ndjson", body);
    assert_eq!(answer.status, 202, "{answer:?}");
    for socket in &mut sockets {
        for number in 0..500 {
            assert_eq!(socket.next_text(), number.to_string());
        }
    }
}

/// The next words of the server's own or events, by channel and what they say.
fn heard(socket: &mut Socket, count: usize) -> Vec<String> {
    let mut said: Vec<String> = (0..count)
        .map(|_| {
            let got: Value = serde_json::from_str(&socket.next_text()).expect("JSON");
            let what = if got["shardcast"].is_null() { &got["data"] } else { &got["shardcast"] };
            format!("{} {what}", got["channel"].as_str().expect("a channel"))
        })
        .collect();
    // Channels may live on different shards: between them there is no order.
    said.sort();
    said
}

fn several_channels_share_a_socket_and_each_resumes_where_it_was(cell: Cell) {
    let site = Site::start(cell);
    let first = site.publish("a", "old");
    site.publish("a", "missed");
    let path = format!("/v1/ws?channel=a&channel=b&since={first}&since=");
    let mut socket = Socket::open(site.address(), &path);
    assert_eq!(heard(&mut socket, 3), [r#"a "missed""#, r#"a "recovered""#, r#"b "subscribed""#]);
    // What a client sends says where it goes.
    socket.send_text(r#"{"channel":"b","data":{"n":1}}"#);
    assert_eq!(heard(&mut socket, 1), [r#"b {"n":1}"#]);
    site.publish("a", "live");
    assert_eq!(heard(&mut socket, 1), [r#"a "live""#]);
    for (message, code) in [("plain", 1008), (r#"[{"channel":"a","data":1}]"#, 1008), ("{}", 1008)]
    {
        let mut socket = Socket::open(site.address(), "/v1/ws?channel=a");
        assert_eq!(heard(&mut socket, 1), [r#"a "subscribed""#]);
        socket.send_text(message);
        assert_eq!(socket.closed().0, code, "{message}");
    }
    for path in [
        "/v1/ws",
        "/v1/ws?channel=a&channel=a",
        "/v1/ws?channel=a&channel=b&since=x",
        "/v1/ws?channel=a&format=raw",
        "/v1/ws?channel=a%20b",
        "/v1/ws?channel=a&last=1",
    ] {
        let mut wire = site.wire();
        wire.send(format!("{}\r\n", handshake(path)));
        assert_eq!(wire.answer().status, 400, "{path}");
    }
}

/// Leaving moves others in the channels' lists: everybody's places must stay true.
fn who_leaves_several_channels_takes_nobody_elses_place(cell: Cell) {
    let site = Site::start(cell);
    let paths = ["/v1/ws?channel=a&channel=b", "/v1/ws?channel=b&channel=a", "/v1/ws?channel=b"];
    let open = |at: usize| Socket::open(site.address(), paths[at % paths.len()]);
    let mut sockets: Vec<Option<Socket>> = (0..9).map(|at| Some(open(at))).collect();
    let count = |sockets: &[Option<Socket>]| -> usize {
        sockets
            .iter()
            .enumerate()
            .map(|(at, s)| s.iter().count() * if at % 3 < 2 { 2 } else { 1 })
            .sum()
    };
    site.wait_for_subscriptions(count(&sockets));
    for (at, socket) in sockets.iter_mut().enumerate() {
        heard(socket.as_mut().expect("open"), if at % 3 < 2 { 2 } else { 1 });
    }
    for (round, leaves) in [0, 7, 3, 2, 4].into_iter().enumerate() {
        sockets[leaves] = None;
        site.wait_for_subscriptions(count(&sockets));
        site.publish("a", &format!("a{round}"));
        site.publish("b", &format!("b{round}"));
        for (at, socket) in sockets.iter_mut().enumerate() {
            let Some(socket) = socket else { continue };
            let both = [format!("a \"a{round}\""), format!("b \"b{round}\"")];
            let wanted = if at % 3 < 2 { &both[..] } else { &both[1..] };
            assert_eq!(heard(socket, wanted.len()), wanted, "socket {at} in round {round}");
        }
    }
}

cells!(
    a_frame_may_come_in_any_pieces,
    a_message_of_16_mib_passes_where_it_is_allowed,
    a_namespace_may_forbid_to_publish_and_to_subscribe,
    broken_frames_close_with_their_code,
    envelopes_carry_positions_and_resume_after_them,
    everybody_gets_every_message_in_order,
    fragments_become_one_message,
    messages_come_back_as_they_were_sent,
    nothing_is_a_frame_before_the_handshake_and_everything_after,
    several_channels_share_a_socket_and_each_resumes_where_it_was,
    who_leaves_several_channels_takes_nobody_elses_place,
);
