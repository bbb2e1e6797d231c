//! permessage-deflate on bare sockets: what is agreed on, what is compressed, what is refused.
//! Other people's clients compress in `ws`.

use crate::rig::http::Wire;
use crate::rig::ws::{Socket, frame, frame_head, handshake};
use crate::rig::{Cell, Site, until};
use proto::ws::deflate::{Deflater, Inflater, Window};
use std::net::SocketAddr;

const TAKEOVER: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// Connects with an offer; gives the answer to it.
fn open(address: SocketAddr, path: &str, offer: &str) -> (Socket, Option<String>) {
    let mut wire = Wire::connect(address);
    wire.send(format!("{}Sec-WebSocket-Extensions: {offer}\r\n\r\n", handshake(path)));
    let head = wire.head();
    assert_eq!(head.status, 101, "{head:?}");
    let answer = head.headers.iter().find(|(name, _)| name == "sec-websocket-extensions");
    let answer = answer.map(|(_, value)| value.clone());
    (Socket { wire }, answer)
}

/// The next frame: was it compressed, and what did it say?
fn next(socket: &mut Socket) -> (bool, Vec<u8>) {
    let (first, mut payload) = socket.next_raw();
    assert!(matches!(first, 0x81 | 0x82 | 0xc1 | 0xc2), "{first:x}");
    let compressed = first & 0x40 != 0;
    if compressed {
        Inflater::default().inflate(&mut payload, 1 << 20).expect("a deflate stream");
    }
    (compressed, payload)
}

fn deflate(payload: &[u8]) -> Vec<u8> {
    Deflater::default().compress(Window::Full, payload).expect("shorter").to_vec()
}

fn offers_are_answered_with_what_is_kept_to(cell: Cell) {
    let site = Site::start(cell);
    let path = "/v1/channels/offers/ws";
    for (offer, answer) in [
        ("permessage-deflate; client_max_window_bits", Some(TAKEOVER.to_owned())),
        (
            "permessage-deflate; server_max_window_bits=10",
            Some(format!("{TAKEOVER}; server_max_window_bits=9")),
        ),
        ("permessage-deflate; server_max_window_bits=8", None),
        ("permessage-bzip2", None),
    ] {
        assert_eq!(open(site.address(), path, offer).1, answer, "{offer}");
    }
    let mut wire = site.wire();
    wire.send(format!("{}Sec-WebSocket-Extensions: a b\r\n\r\n", handshake(path)));
    assert_eq!(wire.answer().status, 400);
    let off = Site::with(cell, |config| config.limits.ws_deflate_bytes_min = 0);
    assert_eq!(open(off.address(), path, "permessage-deflate").1, None);
}

fn long_messages_are_compressed_for_those_who_asked(cell: Cell) {
    let site = Site::start(cell);
    let path = "/v1/channels/mixed/ws";
    let (mut full, _) = open(site.address(), path, "permessage-deflate");
    let (mut medium, _) =
        open(site.address(), path, "permessage-deflate; server_max_window_bits=12");
    let (mut envelope, _) =
        open(site.address(), &format!("{path}?format=envelope"), "permessage-deflate");
    let mut plain = Socket::open(site.address(), path);
    site.wait_for_subscriptions(4);
    assert!(!next(&mut envelope).0, "how it starts is short");
    for body in ["short".to_owned(), "a long text, ".repeat(100)] {
        site.publish("mixed", &body);
        let long = body.len() >= 256;
        for socket in [&mut full, &mut medium] {
            assert_eq!(next(socket), (long, body.clone().into_bytes()));
        }
        assert_eq!(next(&mut plain), (false, body.clone().into_bytes()));
        let (compressed, text) = next(&mut envelope);
        assert_eq!(compressed, long);
        let event: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
        assert_eq!(event["data"], body);
    }
    // Who reads it from the history gets it as it is; what follows is compressed again.
    let since = site.publish("mixed", "x");
    site.publish("mixed", &"a long text, ".repeat(100));
    let target = format!("{path}?format=envelope&since={since}");
    let (mut late, _) = open(site.address(), &target, "permessage-deflate");
    assert!(!next(&mut late).0, "recovered");
    assert!(!next(&mut late).0, "a page of history is encoded for one alone");
    site.publish("mixed", &"a long text, ".repeat(100));
    assert!(next(&mut late).0);
    // What it saves is counted for each window and format, whoever listens.
    let bytes = |side: &str| {
        let labels = format!("method=\"deflate\",side=\"{side}\"");
        site.metric(&format!("shardcast_compression_bytes_total{{{labels}}}"))
    };
    until("it to be counted", || bytes("in") >= 1_300.0 * 9.0);
    assert!(bytes("out") * 10.0 < bytes("in"), "{} of {}", bytes("out"), bytes("in"));
}

fn compressed_messages_are_events_like_others(cell: Cell) {
    let site = Site::start(cell);
    let (mut socket, _) = open(site.address(), "/v1/channels/in/ws", "permessage-deflate");
    let text = "grün ".repeat(60);
    let payload = deflate(text.as_bytes());
    let (a, rest) = payload.split_at(4);
    let (b, c) = rest.split_at(3);
    socket.wire.send(
        [
            frame(0x41, a),
            frame(0x89, b"between"),
            frame(0x00, b),
            frame(0x80, c),
            frame(0x81, b"as it is"),
            frame(0xc1, b""),
        ]
        .concat(),
    );
    let pong = socket.next();
    assert_eq!((pong.opcode, &pong.payload[..]), (10, &b"between"[..]));
    for expected in [text.as_str(), "as it is", ""] {
        assert_eq!(next(&mut socket).1, expected.as_bytes());
    }
}

fn what_may_not_be_compressed_closes_with_its_code(cell: Cell) {
    let site = Site::start(cell);
    let check = |what: &str, input: &[u8], code: u16| {
        let (mut socket, _) = open(site.address(), "/v1/channels/bad/ws", "permessage-deflate");
        socket.wire.send(input);
        assert_eq!(socket.closed().0, code, "{what}");
    };
    let good = deflate(&b"abcdefgh".repeat(50));
    check("on a ping", &frame(0xc9, b""), 1002);
    check("on a close", &frame(0xc8, b""), 1002);
    check("on a continuation", &[frame(0x41, &good), frame(0xc0, b"")].concat(), 1002);
    check("another reserved bit", &frame(0xe1, &good), 1002);
    check("no deflate", &frame(0xc2, b"\xff\xff\xff"), 1002);
    check("cut short", &frame(0xc2, &good[..good.len() - 2]), 1002);
    check("not UTF-8", &frame(0xc1, &deflate(&[0xff; 400])), 1007);
    check("too big as it is", &frame_head(0xc2, 2 << 20), 1009);
    let zeros = vec![0; 1 << 20];
    check("a byte too big expanded", &frame(0xc2, &deflate(&[&zeros[..], b"x"].concat())), 1009);
    assert_eq!(site.get("/v1/channels/bad/last").status, 404, "nothing was published");
    let (mut socket, _) = open(site.address(), "/v1/channels/good/ws", "permessage-deflate");
    socket.send(0xc2, &deflate(&zeros));
    assert!(next(&mut socket).1 == zeros, "up to the limit it is an event");
}

fn a_bomb_is_stopped_while_it_expands(cell: Cell) {
    let site = Site::start(cell);
    // Each mebibyte of zeros in a kilobyte, and a gibibyte of them in a message of legal length.
    let block = [&deflate(&vec![0; 1 << 20])[..], b"\0\0\xff\xff"].concat();
    let bomb = block.repeat((900 << 10) / block.len());
    assert!(bomb.len() < 1 << 20, "{}", bomb.len());
    for _ in 0..8 {
        let (mut socket, _) = open(site.address(), "/v1/channels/bomb/ws", "permessage-deflate");
        let parts: Vec<_> = bomb.chunks(100_000).collect();
        for (at, part) in parts.iter().enumerate() {
            let fin = if at + 1 == parts.len() { 0x80 } else { 0 };
            socket.wire.send(frame(fin | if at == 0 { 0x42 } else { 0 }, part));
        }
        assert_eq!(socket.closed().0, 1009);
    }
    let mut socket = Socket::open(site.address(), "/v1/channels/fine/ws");
    socket.send_text("fine");
    assert_eq!(socket.next_text(), "fine");
}

cells!(
    a_bomb_is_stopped_while_it_expands,
    compressed_messages_are_events_like_others,
    long_messages_are_compressed_for_those_who_asked,
    offers_are_answered_with_what_is_kept_to,
    what_may_not_be_compressed_closes_with_its_code,
);
