use super::*;
use crate::http1;
use crate::ws::{Decoder, FrameError, Limits, Message, Opcode, Role, write_frame_with};
use proptest::prelude::*;
use zlib_rs::{Deflate, DeflateFlush};

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const LIMITS: Limits = Limits { message_bytes_max: 1000, fragments_max: 64, deflate: true };
const RSV1: u8 = 0x40;

/// A client's frame; the first of a compressed message has RSV1.
fn frame(opcode: Opcode, fin: bool, rsv1: bool, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write_frame_with(&mut out, opcode, fin, Some(KEY), payload);
    out[0] |= if rsv1 { RSV1 } else { 0 };
    out
}

fn compressed(payload: &[u8]) -> Vec<u8> {
    frame(Opcode::Text, true, true, payload)
}

/// What a usual sender makes of a message: flushed, the tail taken off.
fn deflate(payload: &[u8], level: i32) -> Vec<u8> {
    let mut out = vec![0; payload.len() + payload.len() / 10 + 100];
    let mut stream = Deflate::new(level, false, 15);
    stream.compress(payload, &mut out, DeflateFlush::SyncFlush).unwrap();
    assert_eq!(stream.total_in() as usize, payload.len());
    out.truncate(stream.total_out() as usize);
    assert!(out.ends_with(b"\0\0\xff\xff"));
    out.truncate(out.len() - 4);
    out
}

type Outcome = (Vec<(Opcode, Vec<u8>)>, Result<(), FrameError>);

fn decode(limits: Limits, pieces: &[&[u8]], inflater: &mut Inflater) -> Outcome {
    let mut decoder = Decoder::new(Role::Server, limits);
    let (mut scratch, mut messages) = (Vec::new(), Vec::new());
    let mut received = 0;
    for piece in pieces {
        let mut rest = *piece;
        received += piece.len();
        while !rest.is_empty() {
            let (taken, message) = match decoder.feed_inflating(rest, &mut scratch, inflater) {
                Ok(step) => step,
                Err(error) => return (messages, Err(error)),
            };
            rest = &rest[taken..];
            messages.extend(message.map(|message| match message {
                Message::Text(text) => (Opcode::Text, text.as_bytes().to_vec()),
                Message::Binary(bytes) => (Opcode::Binary, bytes.to_vec()),
                Message::Ping(bytes) => (Opcode::Ping, bytes.to_vec()),
                Message::Pong(bytes) => (Opcode::Pong, bytes.to_vec()),
                Message::Close { .. } => (Opcode::Close, Vec::new()),
            }));
            assert!(decoder.buffered_bytes() <= 2 * received + 200, "more than arrived is kept");
            assert!(!decoder.is_idle() || decoder.buffered_bytes() == 0);
        }
    }
    (messages, Ok(()))
}

/// The outcome of the whole, after every split gave the same.
fn check(input: &[u8]) -> Outcome {
    let mut inflater = Inflater::default();
    let whole = decode(LIMITS, &[input], &mut inflater);
    for split in 1..input.len() {
        let (a, b) = input.split_at(split);
        assert_eq!(decode(LIMITS, &[a, b], &mut inflater), whole, "split at {split}");
    }
    let bytes: Vec<_> = input.chunks(1).collect();
    assert_eq!(decode(LIMITS, &bytes, &mut inflater), whole);
    let mut alone = Inflater::default();
    assert_eq!(decode(LIMITS, &bytes, &mut alone), whole, "what came before does not matter");
    whole
}

fn text(text: &str) -> (Opcode, Vec<u8>) {
    (Opcode::Text, text.as_bytes().to_vec())
}

#[test]
fn the_messages_of_the_specification_expand() {
    // RFC 7692 section 7.2.3, each without context takeover.
    let hello = b"\xf2\x48\xcd\xc9\xc9\x07\x00";
    for payload in [
        &hello[..],
        b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00",
        b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00",
        b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00",
        // A last block and nothing behind it.
        b"\xf3\x48\xcd\xc9\xc9\x07\x00",
    ] {
        assert_eq!(check(&compressed(payload)), (vec![text("Hello")], Ok(())), "{payload:x?}");
    }
    let fragments = [
        frame(Opcode::Text, false, true, &hello[..3]),
        frame(Opcode::Continuation, true, false, &hello[3..]),
    ];
    assert_eq!(check(&fragments.concat()).0, [text("Hello")]);
    let mut deflater = Deflater::default();
    let long = "Hello".repeat(20);
    let sent = deflater.encode_frame(Window::Full, Opcode::Text, long.as_bytes()).unwrap();
    assert_eq!(sent[0], 0xc1);
    assert_eq!(usize::from(sent[1]), sent.len() - 2);
    let mut masked = Vec::new();
    write_frame_with(&mut masked, Opcode::Text, true, Some(KEY), &sent[2..]);
    masked[0] |= RSV1;
    assert_eq!(check(&masked).0, [text(&long)]);
}

#[test]
fn control_frames_pass_between_the_fragments_of_a_compressed_message() {
    let payload = deflate("öffentlich ".repeat(30).as_bytes(), 6);
    let (a, rest) = payload.split_at(3);
    let (b, c) = rest.split_at(rest.len() / 2);
    let outcome = check(
        &[
            frame(Opcode::Text, false, true, a),
            frame(Opcode::Ping, true, false, b"p1"),
            frame(Opcode::Continuation, false, false, b),
            frame(Opcode::Continuation, false, false, b""),
            frame(Opcode::Pong, true, false, b""),
            frame(Opcode::Continuation, true, false, c),
            frame(Opcode::Text, true, false, b"as it is"),
            frame(Opcode::Binary, false, true, b""),
            frame(Opcode::Continuation, true, false, b""),
            frame(Opcode::Binary, true, true, &deflate(b"", 6)),
            frame(Opcode::Text, true, true, b"\x00"),
            frame(Opcode::Text, true, false, b""),
        ]
        .concat(),
    );
    let expected = vec![
        (Opcode::Ping, b"p1".to_vec()),
        (Opcode::Pong, Vec::new()),
        text(&"öffentlich ".repeat(30)),
        text("as it is"),
        (Opcode::Binary, Vec::new()),
        (Opcode::Binary, Vec::new()),
        text(""),
        text(""),
    ];
    assert_eq!(outcome, (expected, Ok(())));
}

#[test]
fn a_reserved_bit_is_legal_only_where_a_compressed_message_begins() {
    let hello = b"\xf2\x48\xcd\xc9\xc9\x07\x00";
    let open = frame(Opcode::Text, false, true, hello);
    for input in [
        [&open[..], &frame(Opcode::Continuation, true, true, b"")].concat(),
        frame(Opcode::Ping, true, true, b""),
        frame(Opcode::Pong, true, true, b""),
        frame(Opcode::Close, true, true, b""),
    ] {
        assert_eq!(check(&input), (vec![], Err(FrameError::ReservedBit)), "{input:x?}");
    }
    for bit in [0x20, 0x10] {
        let mut input = compressed(hello);
        input[0] |= bit;
        assert_eq!(check(&input).1, Err(FrameError::ReservedBit));
    }
    let plain = Limits { deflate: false, ..LIMITS };
    let outcome = decode(plain, &[&compressed(hello)], &mut Inflater::default());
    assert_eq!(outcome, (vec![], Err(FrameError::ReservedBit)), "not negotiated");
}

#[test]
fn damaged_messages_fail_and_leave_the_inflater_usable() {
    let good = deflate("abcdefgh".repeat(40).as_bytes(), 6);
    let mut inflater = Inflater::default();
    for payload in [
        b"\x07".to_vec(),
        b"\xff\xff\xff".to_vec(),
        // Refers to what never was: a distance beyond the start.
        b"\x4b\x02\x11\x00\x00".to_vec(),
        good[..good.len() - 1].to_vec(),
        good[..good.len() / 2].to_vec(),
        b"\x00\x05\x00\xfa\xff\x48\x65".to_vec(),
        // Ends and ends again.
        b"\x03\x00".repeat(40),
    ] {
        let mut message = payload.clone();
        assert_eq!(inflater.inflate(&mut message, 1000), Err(FrameError::Deflate), "{payload:x?}");
        let mut message = good.clone();
        assert_eq!(inflater.inflate(&mut message, 1000), Ok(()));
        assert_eq!(message, "abcdefgh".repeat(40).as_bytes());
    }
    assert_eq!(check(&compressed(&good[..good.len() / 2])).1, Err(FrameError::Deflate));
    // What expands to text that is none.
    assert_eq!(check(&compressed(&deflate(b"\xff", 6))).1, Err(FrameError::Utf8));
}

#[test]
fn a_stream_that_ends_inside_a_message_is_followed_by_another() {
    let finished = |payload: &[u8]| {
        let mut out = vec![0; 200];
        let mut stream = Deflate::new(6, false, 15);
        stream.compress(payload, &mut out, DeflateFlush::Finish).unwrap();
        out.truncate(stream.total_out() as usize);
        out
    };
    // The second stream refers to the first: "abcabc" at a distance of six.
    let reference = b"\x4b\x02\x11\x00";
    let mut message = [finished(b"abcabc"), deflate(b"def", 6)].concat();
    Inflater::default().inflate(&mut message, 9).unwrap();
    assert_eq!(message, b"abcabcdef");
    let mut message = [&finished(b"abcabc")[..], reference].concat();
    let outcome = Inflater::default().inflate(&mut message, 100);
    assert!(outcome.is_ok() || outcome == Err(FrameError::Deflate));
}

#[test]
fn the_limit_holds_to_the_byte_while_expanding() {
    for level in [0, 1, 6] {
        for (bytes, fits) in [(999, true), (1000, true), (1001, false)] {
            // Noise, which does not shrink, and zeros.
            let noise: Vec<u8> = (0..bytes as u32).map(|n| ((n * n * 31) >> 3) as u8).collect();
            for payload in [noise, vec![0; bytes]] {
                let input = frame(Opcode::Binary, true, true, &deflate(&payload, level));
                let outcome = decode(LIMITS, &[&input], &mut Inflater::default());
                if fits {
                    assert_eq!(outcome, (vec![(Opcode::Binary, payload)], Ok(())));
                } else {
                    assert_eq!(outcome, (vec![], Err(FrameError::MessageTooBig)));
                }
            }
        }
    }
    // Longer than a message may be even before it is expanded: refused at the head.
    let mut decoder = Decoder::new(Role::Server, LIMITS);
    let head = b"\xc2\xfe\x10\x00";
    assert_eq!(decoder.feed(head, &mut Vec::new()), Err(FrameError::MessageTooBig));
}

#[test]
fn a_bomb_costs_what_its_limit_costs() {
    // 4 GiB of zeros in 4 MiB: blocks of the same 1 MiB of zeros, one behind the other.
    let block = {
        let mut out = vec![0; 4096];
        let mut stream = Deflate::new(9, false, 15);
        stream.compress(&vec![0; 1 << 20], &mut out, DeflateFlush::FullFlush).unwrap();
        out.truncate(stream.total_out() as usize);
        out
    };
    let bomb = block.repeat(4096);
    assert!(bomb.len() < 8 << 20);
    let mut inflater = Inflater::default();
    for limit in [1 << 20, 16 << 20] {
        let limits = Limits { message_bytes_max: limit, fragments_max: 1000, deflate: true };
        // Whole, and in fragments; no step holds more than arrived plus the limit.
        let mut decoder = Decoder::new(Role::Server, limits);
        let (mut scratch, mut failed) = (Vec::new(), None);
        for (at, part) in bomb.chunks(64 << 10).enumerate() {
            let last = (at + 1) * (64 << 10) >= bomb.len();
            let opcode = if at == 0 { Opcode::Binary } else { Opcode::Continuation };
            let input = frame(opcode, last, at == 0, part);
            let outcome = decoder.feed_inflating(&input, &mut scratch, &mut inflater);
            assert!(decoder.buffered_bytes() <= 2 * limit as usize + (1 << 17));
            if let Err(error) = outcome {
                failed = Some(error);
                break;
            }
        }
        assert_eq!(failed, Some(FrameError::MessageTooBig));
        assert_eq!(failed.map(FrameError::close_code), Some(1009));
        assert_eq!(decoder.buffered_bytes(), 0);
        let mut message = bomb.clone();
        assert_eq!(inflater.inflate(&mut message, limit), Err(FrameError::MessageTooBig));
        assert!(message.len() <= limit as usize);
        assert!(message.capacity() <= 2 * limit as usize + CHUNK_BYTES);
        assert!(inflater.memory_bytes() <= 128 << 10, "{}", inflater.memory_bytes());
    }
}

#[test]
fn each_window_is_kept_to() {
    // Repeats at a distance of 400, 3,000 and 20,000: only a window that reaches so far uses them.
    let mut state = 7_u64;
    let mut noise = |bytes: usize| -> Vec<u8> {
        let next = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        (0..bytes).map(next).collect()
    };
    let mut deflater = Deflater::default();
    for (distance, reaching) in
        [(400, [true, true, false]), (3_000, [true, true, false]), (20_000, [true, false, false])]
    {
        let once = noise(distance);
        let payload = once.repeat(2);
        for (window, reaches) in Window::ALL.into_iter().zip(reaching) {
            let made = deflater.compress(window, &payload).map(<[u8]>::len);
            // 9 bits reach 250 bytes back in this compressor; that is within the 512.
            assert_eq!(made.is_some_and(|made| made < payload.len() * 3 / 4), reaches);
            let Some(compressed) = deflater.compress(window, &payload) else { continue };
            let mut stream = zlib_rs::Inflate::new(false, window.bits());
            let mut out = vec![0; payload.len() + 1];
            let input = [compressed, b"\0\0\xff\xff"].concat();
            stream.decompress(&input, &mut out, zlib_rs::InflateFlush::SyncFlush).unwrap();
            assert_eq!(&out[..stream.total_out() as usize], &payload[..]);
        }
    }
    assert!(deflater.memory_bytes() > 0);
}

#[test]
fn what_does_not_shrink_is_not_compressed() {
    let mut deflater = Deflater::default();
    for payload in [&b""[..], b"a", b"abc", &[1, 200, 30, 77, 250, 9, 118, 201, 56]] {
        assert_eq!(deflater.compress(Window::Full, payload), None, "{payload:x?}");
    }
    // Large once, small afterwards: the memory goes.
    let large = b"abcdefgh".repeat(1 << 18);
    assert!(deflater.compress(Window::Full, &large).is_some_and(|made| made.len() < 1 << 16));
    assert!(deflater.compress(Window::Full, &[b'a'; 100]).is_some());
    assert!(deflater.memory_bytes() <= 1 << 20, "{}", deflater.memory_bytes());
}

fn request(extensions: &[&str]) -> http1::Request {
    let mut head = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        .to_owned();
    for extensions in extensions {
        head += &format!("Sec-WebSocket-Extensions: {extensions}\r\n");
    }
    head += "\r\n";
    let mut parser = http1::RequestParser::new(http1::Limits::default());
    parser.feed(head.as_bytes()).unwrap().1.unwrap()
}

#[test]
fn the_first_offer_that_can_be_kept_to_is_taken() {
    let full = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    let bounded = |bits: u8| format!("{full}; server_max_window_bits={bits}");
    let some = |text: &str| Some(text.to_owned());
    for (offers, expected) in [
        (&["permessage-deflate"][..], some(full)),
        // As Chromium, npm `ws` and Python `websockets` offer.
        (&["permessage-deflate; client_max_window_bits"], some(full)),
        (
            &["permessage-deflate; server_max_window_bits=12; client_max_window_bits=12"],
            Some(bounded(12)),
        ),
        (
            &["permessage-deflate;server_no_context_takeover ; client_no_context_takeover"],
            some(full),
        ),
        (&["PerMessage-Deflate; server_max_window_bits=15"], Some(bounded(15))),
        (&["permessage-deflate; server_max_window_bits=14"], Some(bounded(12))),
        (&["permessage-deflate; server_max_window_bits=\"11\""], Some(bounded(9))),
        (&["permessage-deflate; server_max_window_bits=9"], Some(bounded(9))),
        (&["permessage-deflate; client_max_window_bits=8"], some(full)),
        // What cannot be kept to, or is no offer, is declined; a later offer may do.
        (&["permessage-deflate; server_max_window_bits=8"], None),
        (&["permessage-deflate; server_max_window_bits=8, permessage-deflate"], some(full)),
        (&["permessage-deflate; server_max_window_bits=8", "permessage-deflate"], some(full)),
        (&["permessage-deflate; server_max_window_bits"], None),
        (&["permessage-deflate; server_max_window_bits=16"], None),
        (&["permessage-deflate; server_max_window_bits=7"], None),
        (&["permessage-deflate; server_max_window_bits=09"], None),
        (&["permessage-deflate; server_max_window_bits=+9"], None),
        (&["permessage-deflate; client_max_window_bits=16"], None),
        (&["permessage-deflate; server_no_context_takeover=1"], None),
        (&["permessage-deflate; client_no_context_takeover=\"\\1\""], None),
        (&["permessage-deflate; client_max_window_bits; client_max_window_bits"], None),
        (&["permessage-deflate; unknown"], None),
        (&["x-webkit-deflate-frame"], None),
        (&["foo; x=\"a,b\"; y, permessage-deflate"], some(full)),
        (&["foo; x=\"a, permessage-deflate\""], None),
        (&["foo; x=\"a\\b\", , permessage-deflate"], some(full)),
        (&[""], None),
        (&[], None),
    ] {
        let agreed = negotiate(&request(offers));
        assert_eq!(agreed.map(|agreed| agreed.response().to_owned()), expected, "{offers:?}");
    }
    let windows = [(15, Window::Full), (13, Window::Medium), (10, Window::Small)];
    for (bits, window) in windows {
        let offer = format!("permessage-deflate; server_max_window_bits={bits}");
        assert_eq!(negotiate(&request(&[&offer])).map(|agreed| agreed.window), Some(window));
    }
}

#[test]
fn a_list_of_extensions_that_cannot_be_read_fails_the_handshake() {
    use crate::ws::handshake::{HandshakeError, validate};
    for legal in ["", "a", "a;b", "a; b=c, d", "a; b=\"c\"", ", a,"] {
        assert!(validate(&request(&[legal])).is_ok(), "{legal:?}");
    }
    for illegal in ["a b", "a;", ";a", "a;b=", "a;=b", "a;b=\"c", "a;b=\"c d\"", "a=b", "a;b=\"\""]
    {
        let refused = validate(&request(&["a", illegal]));
        assert_eq!(refused, Err(HandshakeError::Extensions), "{illegal:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn messages_come_back_in_any_pieces(
        payload in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..900),
            prop::collection::vec(0..3_u8, 0..900),
        ],
        level in 0..=9_i32, cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
        step in 1..200_usize,
    ) {
        let deflated = deflate(&payload, level);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(deflated.len() + 1)).collect();
        cuts.extend([0, deflated.len()]);
        cuts.sort_unstable();
        let mut input = Vec::new();
        for (at, pair) in cuts.windows(2).enumerate() {
            let opcode = if at == 0 { Opcode::Binary } else { Opcode::Continuation };
            let last = at + 2 == cuts.len();
            input.extend(frame(opcode, last, at == 0, &deflated[pair[0]..pair[1]]));
            if !last {
                input.extend(frame(Opcode::Ping, true, false, b"between"));
            }
        }
        let mut inflater = Inflater::default();
        let pieces: Vec<_> = input.chunks(step).collect();
        let (messages, ended) = decode(LIMITS, &pieces, &mut inflater);
        prop_assert_eq!(ended, Ok(()));
        prop_assert_eq!(messages.last(), Some(&(Opcode::Binary, payload)));
    }

    #[test]
    fn what_is_compressed_expands(
        payload in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..2_000),
            "[a-e{}\":, ]{0,3000}".prop_map(String::into_bytes),
        ],
        at in 0..3_usize,
    ) {
        let mut deflater = Deflater::default();
        if let Some(compressed) = deflater.compress(Window::ALL[at], &payload) {
            prop_assert!(compressed.len() < payload.len());
            let mut message = compressed.to_vec();
            Inflater::default().inflate(&mut message, 3_000).unwrap();
            prop_assert_eq!(message, payload);
        }
    }
}
