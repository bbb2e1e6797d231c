//! Hostile peers, frame by frame. Each ends in a GOAWAY or in bounded memory.

use super::wire::*;
use super::*;

const ENHANCE_YOUR_CALM: u32 = 11;
const PROTOCOL_ERROR: u32 = 1;

/// What became of a session after `wire` was fed in pieces of 16 KiB, `now_ms` standing still.
struct Outcome {
    output: Vec<u8>,
    events: Vec<H2Event>,
    session: H2Session,
    /// The most the session held.
    memory_bytes_top: usize,
}

impl Outcome {
    fn error(&self) -> Option<H2Error> {
        closed(&self.events).flatten()
    }
}

fn check(limits: H2Limits, wire: &[u8]) -> Outcome {
    check_with(limits, wire, |_, _| {})
}

fn check_with(
    limits: H2Limits,
    wire: &[u8],
    mut app: impl FnMut(&mut H2Session, &H2Event),
) -> Outcome {
    let mut session = H2Session::new(limits);
    let (mut output, mut seen, mut memory_bytes_top) = (Vec::new(), Vec::new(), 0);
    for part in wire.chunks(16 << 10) {
        session.feed(0, part);
        session.poll(0);
        while let Some(event) = session.next_event() {
            app(&mut session, &event);
            seen.push(event);
        }
        session.poll(0);
        memory_bytes_top = memory_bytes_top.max(session.memory_bytes());
        session.drain_output(&mut output);
    }
    while session.needs_poll() {
        session.poll(0);
        session.drain_output(&mut output);
    }
    seen.extend(events(&mut session));
    Outcome { output, events: seen, session, memory_bytes_top }
}

#[test]
fn floods_of_frames_that_cost_and_carry_nothing_end_the_connection() {
    type Write = fn(&mut Vec<u8>, u32);
    let calm = H2Error::Protocol(Reason::ENHANCE_YOUR_CALM);
    let floods: [(&str, Write, H2Error); 11] = [
        ("SETTINGS", |w, _| setting(w, 3, 100), H2Error::TooManyControlFrames),
        ("empty SETTINGS", |w, _| frame(w, SETTINGS, 0, 0, &[]), H2Error::TooManyControlFrames),
        ("PING", |w, _| frame(w, PING, 0, 0, &[0; 8]), H2Error::TooManyControlFrames),
        ("PING acks", |w, _| frame(w, PING, 1, 0, &[0; 8]), H2Error::TooManyControlFrames),
        (
            "PRIORITY",
            |w, i| frame(w, PRIORITY, 0, i * 2 + 1, &[0; 5]),
            H2Error::TooManyControlFrames,
        ),
        (
            "WINDOW_UPDATE",
            |w, _| frame(w, WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
            H2Error::TooManyControlFrames,
        ),
        ("unknown type", |w, _| frame(w, 0xbb, 0, 0, &[]), H2Error::TooManyControlFrames),
        (
            "empty DATA",
            |w, i| match i {
                0 => frame(w, HEADERS, END_HEADERS, 1, POST),
                _ => frame(w, DATA, 0, 1, &[]),
            },
            H2Error::TooManyControlFrames,
        ),
        (
            "rapid reset",
            |w, i| {
                frame(w, HEADERS, END_HEADERS | END_STREAM, i * 2 + 1, GET);
                frame(w, RST_STREAM, 0, i * 2 + 1, &[0, 0, 0, 8]);
            },
            H2Error::TooManyResets,
        ),
        // The peer makes us reset: a window over 2^31-1 is a stream error.
        (
            "made you reset",
            |w, i| {
                frame(w, HEADERS, END_HEADERS, i * 2 + 1, POST);
                frame(w, WINDOW_UPDATE, 0, i * 2 + 1, &[0x7f, 255, 255, 255]);
            },
            calm,
        ),
        ("refused streams", |w, i| frame(w, HEADERS, END_HEADERS, i * 2 + 1, POST), calm),
    ];
    for (name, write, expected) in floods {
        let limits =
            H2Limits { control_frames_per_s_max: 50, resets_per_s_max: 50, ..H2Limits::default() };
        let mut wire = preface();
        for i in 0..100_000 {
            write(&mut wire, i);
        }
        let outcome = check(limits, &wire);
        assert_eq!(outcome.error(), Some(expected), "{name}");
        assert_eq!(goaway_code(&outcome.output), Some(ENHANCE_YOUR_CALM), "{name}");
        assert!(outcome.session.is_finished(), "{name}");
        assert!(outcome.memory_bytes_top < 3 << 20, "{name}: {}", outcome.memory_bytes_top);
        assert!(outcome.output.len() < 64 << 10, "{name}: {}", outcome.output.len());
    }
}

#[test]
fn honest_control_frames_at_the_rate_pass() {
    let mut session =
        H2Session::new(H2Limits { control_frames_per_s_max: 50, ..H2Limits::default() });
    session.feed(0, &preface());
    for second in 1..20u64 {
        let mut wire = Vec::new();
        for _ in 0..49 {
            frame(&mut wire, PING, 0, 0, &[0; 8]);
        }
        session.feed(second * 1_000, &wire);
        session.poll(second * 1_000);
        session.take_output();
    }
    assert_eq!(closed(&events(&mut session)), None);
}

#[test]
fn closing_many_streaming_responses_at_once_is_no_rapid_reset() {
    let mut wire = preface();
    for i in 0..500 {
        frame(&mut wire, HEADERS, END_HEADERS | END_STREAM, i * 2 + 1, GET);
    }
    // The cancels come in later pieces than the requests.
    wire.resize(wire.len().next_multiple_of(16 << 10) - 9, 0xee);
    wire = pad(wire, 500 * 15 + 33);
    for i in 0..500 {
        frame(&mut wire, RST_STREAM, 0, i * 2 + 1, &[0, 0, 0, 8]);
    }
    let limits = H2Limits { resets_per_s_max: 50, ..H2Limits::default() };
    let outcome = check_with(limits, &wire, |session, event| {
        if let H2Event::Request { stream, .. } = event {
            session.respond(*stream, ok(), false).unwrap();
        }
    });
    assert_eq!(closed(&outcome.events), None, "{:?}", outcome.error());
    let is_reset = |event: &&H2Event| matches!(event, H2Event::Reset { .. });
    assert_eq!(outcome.events.iter().filter(is_reset).count(), 500);
    assert_eq!(outcome.session.stream_count(), 0);
}

/// Cuts `wire` to `used` bytes and fills up to the next piece with one ignored frame.
fn pad(mut wire: Vec<u8>, used: usize) -> Vec<u8> {
    wire.truncate(used);
    let whole = (used + 9).next_multiple_of(16 << 10);
    frame(&mut wire, 0xbb, 0, 0, &vec![0; whole - used - 9]);
    wire
}

#[test]
fn header_bombs_and_endless_continuation_are_refused() {
    // A literal field of 4,000 bytes, indexed, then referred to again and again.
    let mut bomb = GET.to_vec();
    bomb.extend_from_slice(&[0x40, 1, b'x', 0x7f, 0xa1, 0x1e]);
    bomb.extend(std::iter::repeat_n(b'v', 4_000));
    bomb.extend(std::iter::repeat_n(0xbe, 10_000));
    let mut wire = preface();
    frame(&mut wire, HEADERS, END_HEADERS | END_STREAM, 1, &bomb);
    let outcome = check(H2Limits::default(), &wire);
    assert!(!outcome.events.iter().any(|event| matches!(event, H2Event::Request { .. })));
    assert!(outcome.memory_bytes_top < 1 << 20);

    let mut wire = preface();
    frame(&mut wire, HEADERS, END_STREAM, 1, GET);
    for _ in 0..1_000 {
        frame(&mut wire, CONTINUATION, 0, 1, &[0, 1, b'a', 1, b'b'].repeat(100));
    }
    let outcome = check(H2Limits::default(), &wire);
    assert!(outcome.session.is_finished());
    assert!(matches!(outcome.error(), Some(H2Error::Protocol(_))), "{:?}", outcome.error());

    // Empty ones add no bytes and must not go on for ever either.
    let mut wire = preface();
    frame(&mut wire, HEADERS, END_STREAM, 1, GET);
    for _ in 0..100_000 {
        frame(&mut wire, CONTINUATION, 0, 1, &[]);
    }
    let outcome = check(H2Limits::default(), &wire);
    assert!(outcome.session.is_finished());
}

#[test]
fn an_oversized_head_does_not_reach_the_application() {
    let mut block = GET.to_vec();
    for i in 0..20u8 {
        block.extend_from_slice(&[0, 1, b'a' + i, 0x7f, 0xe9, 0x06]);
        block.extend(std::iter::repeat_n(b'v', 1_000));
    }
    let mut wire = preface();
    frame(&mut wire, HEADERS, END_STREAM, 1, &block[..10_000]);
    frame(&mut wire, CONTINUATION, END_HEADERS, 1, &block[10_000..]);
    frame(&mut wire, HEADERS, END_STREAM | END_HEADERS, 3, GET);
    let outcome = check(H2Limits::default(), &wire);
    let requests =
        outcome.events.iter().filter(|event| matches!(event, H2Event::Request { .. })).count();
    assert!(requests <= 1);
    let answered = frames(&outcome.output).iter().any(|f| f.kind == HEADERS && f.stream == 1);
    assert!(answered || outcome.session.is_finished(), "431 or the end");
}

#[test]
fn a_peer_with_closed_windows_costs_at_most_the_queue_budget() {
    let limits = H2Limits { queued_bytes_max: 100_000, ..H2Limits::default() };
    let mut wire = preface();
    setting(&mut wire, 4, 0);
    for i in 0..900 {
        frame(&mut wire, HEADERS, END_HEADERS | END_STREAM, i * 2 + 1, GET);
    }
    let mut refused = 0;
    let outcome = check_with(limits, &wire, |session, event| {
        if let H2Event::Request { stream, .. } = event {
            session.respond(*stream, ok(), false).unwrap();
            match session.send_data(*stream, Bytes::from(vec![0; 2_000]), true) {
                Ok(queued) => assert_eq!(queued, 2_000),
                Err(error) => {
                    assert_eq!(error, SendError::Full);
                    refused += 1;
                }
            }
        }
    });
    assert_eq!(outcome.session.queued_bytes_total(), 100_000);
    assert_eq!((refused, outcome.session.stream_count()), (850, 50));
    let is_calm = |f: &&Frame| f.kind == RST_STREAM && f.payload == [0, 0, 0, 11];
    assert_eq!(frames(&outcome.output).iter().filter(is_calm).count(), 850);
    assert!(!frames(&outcome.output).iter().any(|f| f.kind == DATA));
}

#[test]
fn one_byte_windows_end_at_the_control_rate() {
    let limits = H2Limits { control_frames_per_s_max: 50, ..H2Limits::default() };
    let mut wire = preface();
    setting(&mut wire, 4, 0);
    frame(&mut wire, HEADERS, END_HEADERS | END_STREAM, 1, GET);
    let mut session = H2Session::new(limits);
    session.feed(0, &wire);
    session.poll(0);
    let seen = events(&mut session);
    let [H2Event::Request { stream, .. }] = seen[..] else { panic!("{seen:?}") };
    session.respond(stream, ok(), false).unwrap();
    session.send_data(stream, Bytes::from(vec![0; 1 << 20]), true).unwrap();
    let mut output = Vec::new();
    for _ in 0..1_000 {
        let mut update = Vec::new();
        frame(&mut update, WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]);
        session.feed(0, &update);
        session.poll(0);
        session.drain_output(&mut output);
    }
    assert_eq!(closed(&events(&mut session)), Some(Some(H2Error::TooManyControlFrames)));
    assert_eq!(goaway_code(&output), Some(ENHANCE_YOUR_CALM));
    let data = frames(&output).iter().filter(|f| f.kind == DATA).count();
    assert!((1..=60).contains(&data), "{data}");
}

#[test]
fn a_wrong_preface_is_answered_with_goaway() {
    for wire in [
        &b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX",
        &[0; 100],
        &[0x16, 3, 1, 2, 0],
    ] {
        let outcome = check(H2Limits::default(), wire);
        assert_eq!(outcome.error(), Some(H2Error::BadPreface));
        assert_eq!(goaway_code(&outcome.output), Some(PROTOCOL_ERROR));
        assert!(outcome.session.is_finished());
    }
}

#[test]
fn broken_frames_end_the_connection_with_a_code() {
    type Write = fn(&mut Vec<u8>);
    let broken: [(&str, Write); 8] = [
        ("an upper-case name", |w| {
            frame(w, HEADERS, END_HEADERS, 1, &[0x82, 0x86, 0x84, 0, 1, b'X', 1, b'y']);
        }),
        ("DATA on stream 0", |w| frame(w, DATA, 0, 0, &[1])),
        ("HEADERS on an even stream", |w| frame(w, HEADERS, END_HEADERS, 2, GET)),
        ("a frame over the size", |w| frame(w, DATA, 0, 1, &[0; 20_000])),
        ("a PING of 7 bytes", |w| frame(w, PING, 0, 0, &[0; 7])),
        ("a window over 2^31-1", |w| frame(w, WINDOW_UPDATE, 0, 0, &[0x7f, 255, 255, 255])),
        ("PUSH_PROMISE", |w| frame(w, 5, END_HEADERS, 1, GET)),
        ("broken HPACK", |w| frame(w, HEADERS, END_HEADERS, 1, &[0xff, 0xff, 0xff, 0xff, 0xff])),
    ];
    for (name, write) in broken {
        let mut wire = preface();
        write(&mut wire);
        let outcome = check(H2Limits::default(), &wire);
        assert!(matches!(outcome.error(), Some(H2Error::Protocol(_))), "{name}");
        assert!(goaway_code(&outcome.output).is_some_and(|code| code != 0), "{name}");
    }
}

#[test]
fn malformed_requests_are_reset_and_the_next_one_is_served() {
    let bad: [(&str, &[u8]); 4] = [
        ("no path", &[0x82, 0x86, 0x41, 1, b'a']),
        ("two methods", &[0x82, 0x83, 0x86, 0x84, 0x41, 1, b'a']),
        ("a pseudo-header last", &[0x82, 0x86, 0, 1, b'x', 1, b'y', 0x84]),
        ("a connection field", b"\x82\x86\x84\x00\x0aconnection\x05close"),
    ];
    for (name, block) in bad {
        let mut wire = preface();
        frame(&mut wire, HEADERS, END_HEADERS | END_STREAM, 1, block);
        frame(&mut wire, HEADERS, END_HEADERS | END_STREAM, 3, GET);
        let outcome = check(H2Limits::default(), &wire);
        let requests = outcome
            .events
            .iter()
            .filter(
                |event| matches!(event, H2Event::Request { head, .. } if head.uri.path() == "/"),
            )
            .count();
        assert_eq!(requests, 1, "{name}");
        assert!(!outcome.session.is_finished(), "{name}");
        let is_reset = |f: &Frame| f.kind == RST_STREAM && f.stream == 1;
        assert!(frames(&outcome.output).iter().any(is_reset), "{name}");
    }
}

#[test]
fn streams_beyond_the_limit_are_refused() {
    let limits = H2Limits { streams_max: 10, ..H2Limits::default() };
    let mut wire = preface();
    frame(&mut wire, SETTINGS, 1, 0, &[]);
    for i in 0..20 {
        frame(&mut wire, HEADERS, END_HEADERS, i * 2 + 1, POST);
    }
    let outcome = check(limits, &wire);
    assert_eq!(outcome.session.stream_count(), 10);
    let refused = |f: &&Frame| f.kind == RST_STREAM && f.payload == [0, 0, 0, 7];
    assert_eq!(frames(&outcome.output).iter().filter(refused).count(), 10);
}
