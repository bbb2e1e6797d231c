//! Bytes to meaning and back, without a shard: what each decoder and encoder of `proto` costs.

use crate::bed::client_frame;
use crate::measured;
use proto::decode::{Context, IdSource, Item, NdjsonDecoder, decode_envelope};
use proto::envelope::write_envelope;
use proto::event::Event;
use proto::http1::{Limits as HeadLimits, RequestParser};
use proto::position::{Epoch, Position};
use proto::ws::{self, Decoder, Limits, Message, Opcode, Role};
use std::hint::black_box;
use std::ops::ControlFlow;

const RUNS: u64 = 1_000;

/// An upgrade as Chromium sends it.
pub fn http1() -> u64 {
    let head = b"GET /v1/channels/orders:eu/ws?format=envelope HTTP/1.1\r\n\
        Host: stream.example.org\r\nConnection: Upgrade\r\nPragma: no-cache\r\n\
        Cache-Control: no-cache\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 \
        (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\nUpgrade: websocket\r\n\
        Origin: https://example.org\r\nSec-WebSocket-Version: 13\r\n\
        Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-US,en;q=0.9\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";
    for _ in 0..RUNS {
        let mut parser = RequestParser::new(HeadLimits::default());
        let parsed = measured(|| parser.feed(black_box(head)));
        let (used, request) = parsed.expect("a legal head");
        assert_eq!((used, request.is_some()), (head.len(), true));
    }
    RUNS
}

/// Masked text frames of 128 bytes, as many as a receive buffer holds.
pub fn web_socket() -> u64 {
    let frame = client_frame(Opcode::Text, "x".repeat(128).as_bytes());
    let input = frame.repeat(100);
    let mut decoder = Decoder::new(Role::Server, Limits::default());
    let mut scratch = Vec::new();
    let mut frames = 0;
    for _ in 0..RUNS / 100 {
        measured(|| {
            let mut rest = black_box(input.as_slice());
            while !rest.is_empty() {
                let (used, message) = decoder.feed(rest, &mut scratch).expect("legal frames");
                rest = &rest[used..];
                frames +=
                    u64::from(matches!(message, Some(Message::Text(text)) if text.len() == 128));
            }
        });
    }
    assert_eq!(frames, RUNS);
    frames
}

/// Lines of 300 bytes in pieces of a receive buffer's size.
pub fn ndjson() -> u64 {
    let body: String = (0..RUNS).map(|n| line(n) + "\n").collect();
    let mut ids = IdSource::new([1, 2]);
    let mut context = context(&mut ids);
    let mut decoder = NdjsonDecoder::new();
    let mut events = 0;
    measured(|| {
        for part in body.as_bytes().chunks(16 << 10) {
            decoder.feed(&mut context, part, |item: Item| {
                drop(black_box(item.result.expect("a legal line")));
                events += 1;
                ControlFlow::Continue(())
            });
        }
    });
    assert_eq!(events, RUNS);
    events
}

/// One envelope in one body.
pub fn json() -> u64 {
    let mut ids = IdSource::new([1, 2]);
    let mut context = context(&mut ids);
    for n in 0..RUNS {
        let text = line(n);
        let event = measured(|| decode_envelope(&mut context, black_box(text.as_bytes())));
        assert!(event.is_ok());
    }
    RUNS
}

/// A frame to be shared.
pub fn encode_ws() -> u64 {
    let payload = "x".repeat(128);
    for _ in 0..RUNS {
        let frame = measured(|| ws::encode_frame(Opcode::Text, black_box(payload.as_bytes())));
        assert_eq!(frame.len(), 4 + 128);
    }
    RUNS
}

/// A server-sent event with an id.
pub fn encode_sse() -> u64 {
    let event = event();
    let mut out = Vec::with_capacity(1_024);
    for _ in 0..RUNS {
        out.clear();
        let written = measured(|| {
            proto::sse::write_event(&mut out, Some("1-1:1"), None, black_box(event.data()))
        });
        assert!(written.is_ok() && out.ends_with(b"\n\n"));
    }
    RUNS
}

/// The JSON envelope around an event.
pub fn encode_envelope() -> u64 {
    let event = event();
    let mut out = Vec::with_capacity(1_024);
    for _ in 0..RUNS {
        out.clear();
        measured(|| write_envelope(&mut out, black_box(&event)));
        assert!(out.starts_with(b"{") && out.ends_with(b"}"));
    }
    RUNS
}

fn context(ids: &mut IdSource) -> Context<'_> {
    Context { channel: None, traceparent: "", author: "", data_bytes_max: 1 << 20, ids }
}

fn line(n: u64) -> String {
    format!(
        r#"{{"channel":"orders:eu","type":"order","id":"01929c4e-{n:04}-7abc-9def-0123456789ab","data":{{"order_id":{},"customer":"c-{n:06}","items":[{{"sku":"A-1001","quantity":2,"price":19.95}},{{"sku":"B-77","quantity":1,"price":5.5}}],"total":45.4,"currency":"EUR","paid":true,"note":null}}}}"#,
        n * 7_919
    )
}

fn event() -> Event {
    let mut ids = IdSource::new([1, 2]);
    let unplaced = decode_envelope(&mut context(&mut ids), line(7).as_bytes());
    let position = Position { epoch: Epoch(1), offset: 1 };
    unplaced.expect("legal").place(position, 1_700_000_000_000_000)
}
