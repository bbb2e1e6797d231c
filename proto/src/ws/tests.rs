use super::*;
use crate::http1;
use proptest::prelude::*;
use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::rc::Rc;

/// A [`Message`] that outlives the scratch, and comparable with tungstenite's.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Owned {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
}

impl From<Message<'_>> for Owned {
    fn from(message: Message<'_>) -> Self {
        match message {
            Message::Text(text) => Self::Text(text.to_owned()),
            Message::Binary(bytes) => Self::Binary(bytes.to_vec()),
            Message::Ping(bytes) => Self::Ping(bytes.to_vec()),
            Message::Pong(bytes) => Self::Pong(bytes.to_vec()),
            Message::Close { code, reason } => Self::Close(code, reason.to_owned()),
        }
    }
}

/// What came out of a stream: the messages, and how it ended.
type Outcome = (Vec<Owned>, Result<(), FrameError>);

fn decode(role: Role, limits: Limits, pieces: &[&[u8]]) -> (Outcome, Decoder) {
    let mut decoder = Decoder::new(role, limits);
    let (mut scratch, mut messages) = (Vec::new(), Vec::new());
    let mut received = 0;
    for piece in pieces {
        let mut rest = *piece;
        received += piece.len();
        while !rest.is_empty() {
            match decoder.feed(rest, &mut scratch) {
                Ok((taken, message)) => {
                    assert!(taken > 0, "a call with input makes progress");
                    assert!(message.is_some() || taken == rest.len());
                    messages.extend(message.map(Owned::from));
                    rest = &rest[taken..];
                }
                Err(error) => {
                    assert!(decoder.is_idle() && decoder.buffered_bytes() == 0);
                    assert_eq!(decoder.feed(b"\x81", &mut scratch), Ok((1, None)));
                    return ((messages, Err(error)), decoder);
                }
            }
            assert!(decoder.buffered_bytes() <= 2 * received + CONTROL_BYTES_MAX + 8);
            assert!(!decoder.is_idle() || decoder.buffered_bytes() == 0);
        }
    }
    ((messages, Ok(())), decoder)
}

/// The outcome for the whole input, after checking that every split gives the same.
fn check_with(role: Role, limits: Limits, input: &[u8]) -> Outcome {
    let (whole, _) = decode(role, limits, &[input]);
    for split in (1..input.len()).take(300) {
        let (a, b) = input.split_at(split);
        assert_eq!(decode(role, limits, &[a, b]).0, whole, "split at {split}: {input:x?}");
    }
    let bytes: Vec<_> = input.chunks(1).collect();
    assert_eq!(decode(role, limits, &bytes).0, whole, "byte by byte: {input:x?}");
    whole
}

fn check(frames: &[&[u8]]) -> Outcome {
    check_with(Role::Server, Limits::default(), &frames.concat())
}

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A client's frame.
fn frame(opcode: Opcode, fin: bool, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write_frame_with(&mut out, opcode, fin, Some(KEY), payload);
    out
}

fn text(payload: &[u8]) -> Vec<u8> {
    frame(Opcode::Text, true, payload)
}

/// A client's frame made of raw first bytes and a payload of that many bytes.
fn raw(head: &[u8], payload_bytes: usize) -> Vec<u8> {
    [head, &KEY, &vec![b'x'; payload_bytes]].concat()
}

#[test]
fn the_frames_of_the_specification_decode() {
    // RFC 6455 section 5.7.
    let masked_hello = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
    assert_eq!(check(&[masked_hello]), (vec![Owned::Text("Hello".into())], Ok(())));
    let client = |input: &[u8]| check_with(Role::Client, Limits::default(), input);
    assert_eq!(client(b"\x81\x05Hello").0, [Owned::Text("Hello".into())]);
    assert_eq!(client(b"\x01\x03Hel\x80\x02lo").0, [Owned::Text("Hello".into())]);
    assert_eq!(client(b"\x89\x05Hello").0, [Owned::Ping(b"Hello".into())]);
    let long = [b"\x82\x7e\x01\x00", &[7; 256][..]].concat();
    assert_eq!(client(&long).0, [Owned::Binary(vec![7; 256])]);
    assert_eq!(encode_frame(Opcode::Text, b"Hello"), &b"\x81\x05Hello"[..]);
    assert_eq!(encode_frame(Opcode::Binary, &[7; 256]), long);
}

#[test]
fn every_length_reads_back_in_both_directions() {
    let limits = Limits { message_bytes_max: 1 << 20, ..Limits::default() };
    for bytes in [0, 1, 124, 125, 126, 127, 128, 65_534, 65_535, 65_536, 65_537, 1 << 20] {
        let payload: Vec<u8> = (0..bytes).map(|i| i as u8).collect();
        let (outcome, decoder) =
            decode(Role::Server, limits, &[&frame(Opcode::Binary, true, &payload)]);
        assert_eq!(outcome, (vec![Owned::Binary(payload.clone())], Ok(())));
        assert!(decoder.is_idle());
        let sent = encode_frame(Opcode::Binary, &payload);
        let mut headed = Vec::new();
        write_frame_head(&mut headed, Opcode::Binary, payload.len());
        headed.extend_from_slice(&payload);
        assert_eq!(sent, headed);
        let (outcome, _) = decode(Role::Client, limits, &[&sent]);
        assert_eq!(outcome, (vec![Owned::Binary(payload)], Ok(())));
    }
}

#[test]
fn control_frames_pass_between_the_fragments_of_a_message() {
    let outcome = check(&[
        &frame(Opcode::Text, false, b"a"),
        &frame(Opcode::Ping, true, b"p1"),
        &frame(Opcode::Continuation, false, b""),
        &frame(Opcode::Pong, true, &[9; 125]),
        &frame(Opcode::Ping, true, b""),
        &frame(Opcode::Continuation, true, b"b"),
        &frame(Opcode::Binary, false, b""),
        &frame(Opcode::Continuation, true, b""),
        &text(b""),
    ]);
    let expected = vec![
        Owned::Ping(b"p1".into()),
        Owned::Pong(vec![9; 125]),
        Owned::Ping(vec![]),
        Owned::Text("ab".into()),
        Owned::Binary(vec![]),
        Owned::Text(String::new()),
    ];
    assert_eq!(outcome, (expected, Ok(())));
}

#[test]
fn frames_that_break_the_protocol_fail_with_their_reason() {
    use FrameError::*;
    let open = frame(Opcode::Text, false, b"a");
    for (input, expected) in [
        (raw(b"\xc1\x81", 1), ReservedBit),
        (raw(b"\xa1\x81", 1), ReservedBit),
        (raw(b"\x91\x81", 1), ReservedBit),
        (raw(b"\xc9\x80", 0), ReservedBit),
        (raw(b"\x83\x80", 0), ReservedOpcode),
        (raw(b"\x87\x80", 0), ReservedOpcode),
        (raw(b"\x8b\x80", 0), ReservedOpcode),
        (raw(b"\x8f\x80", 0), ReservedOpcode),
        (b"\x81\x01x".to_vec(), Masking),
        (b"\x89\x00".to_vec(), Masking),
        (raw(b"\x09\x80", 0), ControlFragmented),
        (raw(b"\x08\x80", 0), ControlFragmented),
        (raw(b"\x89\xfe\x00\x7e", 126), ControlTooLong),
        (raw(b"\x88\xff\x00\x00\x00\x00\x00\x00\x00\x7e", 126), ControlTooLong),
        (raw(b"\x80\x80", 0), NothingToContinue),
        (raw(b"\x00\x80", 0), NothingToContinue),
        ([text(b"a"), raw(b"\x80\x80", 0)].concat(), NothingToContinue),
        ([open.clone(), text(b"b")].concat(), MessageOpen),
        ([open.clone(), frame(Opcode::Binary, false, b"b")].concat(), MessageOpen),
        (raw(b"\x82\xfe\x00\x7d", 125), LengthEncoding),
        (raw(b"\x82\xfe\x00\x00", 0), LengthEncoding),
        (raw(b"\x82\xff\x00\x00\x00\x00\x00\x00\xff\xff", 0), LengthEncoding),
        (raw(b"\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00", 0), LengthEncoding),
        (raw(b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff", 0), LengthEncoding),
        (raw(b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff", 0), MessageTooBig),
        (raw(b"\x82\xff\x00\x00\x00\x01\x00\x00\x00\x00", 0), MessageTooBig),
        (frame(Opcode::Close, true, b"\x03"), CloseTooShort),
    ] {
        let (_, ended) = check(&[&input]);
        assert_eq!(ended, Err(expected), "{input:x?}");
    }
    let masked = check_with(Role::Client, Limits::default(), &text(b"a"));
    assert_eq!(masked, (vec![], Err(Masking)));
}

#[test]
fn an_offence_is_reported_with_the_byte_that_commits_it() {
    for (input, expected) in [
        (&b"\xc1"[..], FrameError::ReservedBit),
        (b"\x83", FrameError::ReservedOpcode),
        (b"\x80", FrameError::NothingToContinue),
        (b"\x81\x05", FrameError::Masking),
        (b"\x89\xfe", FrameError::ControlTooLong),
        (b"\x82\xff\x00\x00\x00\x00\x00\x01\x00\x01", FrameError::MessageTooBig),
        (b"\x88\x81", FrameError::CloseTooShort),
        (b"\x81\x85\0\0\0\0\xff", FrameError::Utf8),
    ] {
        assert_eq!(check(&[input]), (vec![], Err(expected)), "{input:x?}");
        assert_eq!(check(&[&input[..input.len() - 1]]), (vec![], Ok(())), "{input:x?}");
    }
}

#[test]
fn text_is_checked_over_frames_and_pieces() {
    let valid = "κόσμε \u{0}\u{7f}\u{80}\u{7ff}\u{800}\u{ffff}\u{10000}\u{10ffff}".as_bytes();
    assert_eq!(check(&[&text(valid)]).1, Ok(()));
    for split in 0..=valid.len() {
        let (a, b) = valid.split_at(split);
        let frames = [frame(Opcode::Text, false, a), frame(Opcode::Continuation, true, b)].concat();
        let expected = String::from_utf8(valid.to_vec()).unwrap();
        assert_eq!(check(&[&frames]), (vec![Owned::Text(expected)], Ok(())), "split at {split}");
    }
    for bad in [
        &b"\xff"[..],
        b"\xc0\x80",
        b"\xc1\xbf",
        b"\xe0\x9f\xbf",
        b"\xed\xa0\x80",
        b"\xf0\x8f\xbf\xbf",
        b"\xf4\x90\x80\x80",
        b"\xf5\x80\x80\x80",
        b"\x80",
        b"\xce\xba\xe1",
        b"\xf0\x9f\x98",
        b"\xe2\x82",
        b"ok\xc3(",
    ] {
        assert_eq!(check(&[&text(bad)]), (vec![], Err(FrameError::Utf8)), "{bad:x?}");
        let fragments =
            [frame(Opcode::Text, false, bad), frame(Opcode::Continuation, true, b"")].concat();
        assert_eq!(check(&[&fragments]), (vec![], Err(FrameError::Utf8)), "{bad:x?}");
        let binary = frame(Opcode::Binary, true, bad);
        assert_eq!(check(&[&binary]), (vec![Owned::Binary(bad.to_vec())], Ok(())));
    }
}

#[test]
fn invalid_text_fails_before_its_message_is_complete() {
    // Autobahn 6.4: the offending byte is in an unfinished message, in an unfinished frame.
    let unfinished = [frame(Opcode::Text, false, b"\xce\xba\xf4\x90")].concat();
    assert_eq!(check(&[&unfinished]), (vec![], Err(FrameError::Utf8)));
    let mut endless = text(&[b'a'; 100]);
    endless[6 + 50] = 0xff ^ KEY[50 % 4];
    assert_eq!(check(&[&endless[..60]]), (vec![], Err(FrameError::Utf8)));
}

#[test]
fn a_close_is_the_last_message_and_its_code_is_legal() {
    let close = |payload: &[u8]| {
        let after = [frame(Opcode::Close, true, payload), text(b"ignored"), vec![0xff; 9]].concat();
        check(&[&after])
    };
    let with = |code: u16, reason: &[u8]| close(&[&code.to_be_bytes(), reason].concat());
    assert_eq!(close(b""), (vec![Owned::Close(None, String::new())], Ok(())));
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1011, 1012, 1013, 1014, 3000, 3999, 4999] {
        assert_eq!(with(code, b"bye").0, [Owned::Close(Some(code), "bye".into())]);
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        assert_eq!(with(code, b""), (vec![], Err(FrameError::CloseCode)), "{code}");
    }
    assert_eq!(with(1000, b"\xff"), (vec![], Err(FrameError::Utf8)));
    assert_eq!(with(1000, &[b'r'; 123]).0, [Owned::Close(Some(1000), "r".repeat(123))]);
}

#[test]
fn a_close_reason_is_cut_at_a_character() {
    let check = |code, reason: &str, expected: Owned| {
        let sent = close_frame(code, reason);
        assert!(sent.len() <= 2 + CONTROL_BYTES_MAX);
        assert_eq!(check_with(Role::Client, Limits::default(), &sent), (vec![expected], Ok(())));
    };
    check(3001, "shutdown", Owned::Close(Some(3001), "shutdown".into()));
    check(1000, &"r".repeat(200), Owned::Close(Some(1000), "r".repeat(123)));
    check(1000, &"€".repeat(42), Owned::Close(Some(1000), "€".repeat(41)));
    check(
        1000,
        &format!("a{}", "€".repeat(42)),
        Owned::Close(Some(1000), format!("a{}", "€".repeat(40))),
    );
    for illegal in [1005, 1006, 1015, 0] {
        check(illegal, "gone", Owned::Close(None, String::new()));
    }
}

#[test]
fn each_limit_holds_to_the_byte_and_before_buffering() {
    let limits = Limits { message_bytes_max: 10, fragments_max: 3, ..Limits::default() };
    let check = |frames: &[Vec<u8>]| check_with(Role::Server, limits, &frames.concat());
    let more = |fin, payload: &[u8]| frame(Opcode::Continuation, fin, payload);
    assert_eq!(check(&[text(&[b'a'; 10])]).1, Ok(()));
    assert_eq!(check(&[text(&[b'a'; 11])[..6].to_vec()]).1, Err(FrameError::MessageTooBig));
    let start = frame(Opcode::Text, false, b"12345678");
    assert_eq!(check(&[start.clone(), more(true, b"90")]).1, Ok(()));
    assert_eq!(check(&[start.clone(), more(true, b"901")]).1, Err(FrameError::MessageTooBig));
    let long_ping = frame(Opcode::Ping, true, &[0; 125]);
    assert_eq!(check(&[start, long_ping, more(true, b"90")]).1, Ok(()));
    let three = [frame(Opcode::Binary, false, b"1"), more(false, b""), more(true, b"")];
    assert_eq!(check(&three).0, [Owned::Binary(b"1".into())]);
    assert_eq!(check(&[three.concat(), three.concat()]).0.len(), 2, "counted per message");
    let four =
        [frame(Opcode::Text, false, b""), more(false, b""), more(false, b""), more(true, b"")];
    assert_eq!(check(&four), (vec![], Err(FrameError::TooManyFragments)));
}

#[test]
fn memory_follows_the_bytes_received_and_goes_with_the_message() {
    let limits = Limits { message_bytes_max: 1 << 30, ..Limits::default() };
    let mut decoder = Decoder::new(Role::Server, limits);
    let mut scratch = Vec::new();
    // Announces a gigabyte, sends ten bytes.
    let head = raw(b"\x82\xff\x00\x00\x00\x00\x40\x00\x00\x00", 10);
    assert_eq!(decoder.feed(&head, &mut scratch), Ok((head.len(), None)));
    assert!(decoder.buffered_bytes() < 100 && !decoder.is_idle());

    let mut decoder = Decoder::new(Role::Server, limits);
    let whole = text(&[b'a'; 1000]);
    for input in [&whole[..500], &whole[500..]] {
        assert!(decoder.buffered_bytes() < 1100);
        decoder.feed(input, &mut scratch).unwrap();
    }
    assert_eq!(scratch.len(), 1000);
    assert!(decoder.is_idle() && decoder.buffered_bytes() == 0);
    decoder.feed(&whole, &mut scratch).unwrap();
    assert_eq!(decoder.buffered_bytes(), 0, "a whole frame is not stored");
    assert!(size_of::<Decoder>() <= 64);
}

#[test]
fn every_error_has_a_code_and_a_reason_that_agree() {
    use FrameError::*;
    for error in [
        ReservedBit,
        ReservedOpcode,
        Masking,
        ControlFragmented,
        ControlTooLong,
        NothingToContinue,
        MessageOpen,
        LengthEncoding,
        CloseTooShort,
        CloseCode,
        Utf8,
        Deflate,
        MessageTooBig,
        TooManyFragments,
    ] {
        assert_eq!(error.reason().row().ws_code, error.close_code());
        // One SDK parses the text as JSON and loses the code if that succeeds.
        let text = error.to_string();
        assert!(text.len() <= CLOSE_REASON_BYTES_MAX);
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_err());
    }
}

// --- The handshake ---

fn request(head: &str) -> http1::Request {
    let mut parser = http1::RequestParser::new(http1::Limits::default());
    parser.feed(head.as_bytes()).unwrap().1.unwrap()
}

#[test]
fn the_handshake_of_the_specification_is_accepted() {
    // RFC 6455 section 1.3.
    let request = request(
        "GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Origin: http://example.com\r\nSec-WebSocket-Protocol: chat, superchat\r\n\
         Sec-WebSocket-Version: 13\r\n\r\n",
    );
    assert!(request.upgrade_websocket);
    let accept = handshake::validate(&request).unwrap();
    assert_eq!(accept.key, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    let protocol = handshake::choose_protocol(&request, &["x", "superchat", "chat"]);
    assert_eq!(protocol, Some("superchat"));
    assert_eq!(handshake::choose_protocol(&request, &["Chat"]), None);
    let mut out = Vec::new();
    accept.write_response(&mut out, protocol, &[("x", "y")]).unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
         sec-websocket-protocol: superchat\r\nx: y\r\n\r\n"
    );
    let mut out = b"before".to_vec();
    assert!(accept.write_response(&mut out, Some("a\r\nb"), &[]).is_err());
    assert_eq!(out, b"before");
}

#[test]
fn a_handshake_that_lacks_something_is_refused_with_what_it_lacks() {
    use handshake::HandshakeError::*;
    let check = |from: &str, to: &str| {
        let good = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
        assert!(handshake::validate(&request(good)).is_ok());
        let changed = good.replace(from, to);
        assert_ne!(good, changed);
        handshake::validate(&request(&changed)).unwrap_err()
    };
    let key = "dGhlIHNhbXBsZSBub25jZQ==";
    for (from, to, expected, status) in [
        ("GET", "POST", Method, 405),
        ("GET", "get", Method, 405),
        ("HTTP/1.1", "HTTP/1.0", Http10, 400),
        ("websocket\r\n", "h2c\r\n", NotUpgrade, 426),
        ("Upgrade: websocket\r\n", "", NotUpgrade, 426),
        ("Connection: Upgrade", "Connection: keep-alive", Connection, 400),
        ("Connection: Upgrade\r\n", "", Connection, 400),
        ("Version: 13", "Version: 8", Version, 426),
        ("Version: 13", "Version: 13, 8", Version, 426),
        ("Version: 13", "Version: 013", Version, 426),
        ("Sec-WebSocket-Version: 13\r\n", "", Version, 426),
        (key, "", Key, 400),
        (key, "dGhlIHNhbXBsZSBub25jZQ", Key, 400),
        (key, "dGhlIHNhbXBsZSBub25j", Key, 400),
        (key, "dGhlIHNhbXBsZSBub25jZWU=", Key, 400),
        (key, "!GhlIHNhbXBsZSBub25jZQ==", Key, 400),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", Key, 400),
        ("Host: a", "Host: a\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", Key, 400),
        ("Host: a", "Host: a\r\nContent-Length: 1", Body, 400),
        ("Host: a", "Host: a\r\nTransfer-Encoding: chunked", Body, 400),
        ("Host: a", "Host: a\r\nSec-WebSocket-Protocol: a b", Protocol, 400),
    ] {
        let error = check(from, to);
        assert_eq!((error, error.status()), (expected, status), "{from:?} -> {to:?}");
    }
    assert!(Version.headers().contains(&("sec-websocket-version", "13")));
    assert!(NotUpgrade.headers().contains(&("upgrade", "websocket")));
    assert!(Method.headers().contains(&("allow", "GET")));
}

// --- tungstenite as the other side ---

/// A socket in memory: reads what was put in, would block when that is used up, keeps writes.
#[derive(Default, Clone)]
struct Pipe(Rc<RefCell<(Vec<u8>, Vec<u8>)>>);

impl Pipe {
    fn put(&self, bytes: &[u8]) {
        self.0.borrow_mut().0.extend_from_slice(bytes);
    }

    fn written(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.borrow_mut().1)
    }
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let input = &mut self.0.borrow_mut().0;
        if input.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = buffer.len().min(input.len());
        buffer[..count].copy_from_slice(&input[..count]);
        input.drain(..count);
        Ok(count)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().1.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn owned(message: tungstenite::Message) -> Owned {
    use tungstenite::Message::*;
    match message {
        Text(text) => Owned::Text(text.to_string()),
        Binary(bytes) => Owned::Binary(bytes.to_vec()),
        Ping(bytes) => Owned::Ping(bytes.to_vec()),
        Pong(bytes) => Owned::Pong(bytes.to_vec()),
        Close(None) => Owned::Close(None, String::new()),
        Close(Some(close)) => Owned::Close(Some(close.code.into()), close.reason.to_string()),
        Frame(frame) => panic!("raw frame {frame:?}"),
    }
}

/// What tungstenite makes of a stream: the messages and the close code of its error, if any.
fn tungstenite_reads(role: Role, limits: Limits, input: &[u8]) -> (Vec<Owned>, Option<u16>) {
    use tungstenite::Error;
    let bytes_max = usize::try_from(limits.message_bytes_max).unwrap();
    let config = tungstenite::protocol::WebSocketConfig::default()
        .max_message_size(Some(bytes_max))
        .max_frame_size(Some(bytes_max));
    let role = match role {
        Role::Server => tungstenite::protocol::Role::Server,
        Role::Client => tungstenite::protocol::Role::Client,
    };
    let pipe = Pipe::default();
    pipe.put(input);
    let mut socket = tungstenite::WebSocket::from_raw_socket(pipe, role, Some(config));
    let mut messages = Vec::new();
    loop {
        match socket.read() {
            // What tungstenite makes of an illegal close code, for its caller and in its answer.
            Ok(tungstenite::Message::Close(Some(close)))
                if close.reason == "Protocol violation" =>
            {
                return (messages, Some(u16::from(close.code)));
            }
            Ok(message) => {
                let closed = message.is_close();
                messages.push(owned(message));
                // As a client it would still object to what follows; both roles of ours ignore it.
                if closed {
                    return (messages, None);
                }
            }
            Err(Error::Io(_) | Error::ConnectionClosed | Error::AlreadyClosed) => {
                return (messages, None);
            }
            Err(Error::Capacity(_)) => return (messages, Some(1009)),
            Err(Error::Utf8(_)) => return (messages, Some(1007)),
            Err(Error::Protocol(_)) => return (messages, Some(1002)),
            Err(other) => panic!("{other}"),
        }
    }
}

#[derive(Debug, Clone)]
struct Sent {
    opcode: u8,
    reserved: u8,
    fin: bool,
    masked: bool,
    payload: Vec<u8>,
}

impl Sent {
    fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let key = self.masked.then_some(KEY);
        write_frame_with(out, Opcode::Binary, self.fin, key, &self.payload);
        out[start] = out[start] & 0x80 | self.reserved << 4 | self.opcode;
    }
}

/// Frames as clients send them, one in some with a fault.
fn frames(masked: bool) -> impl Strategy<Value = Vec<Sent>> {
    let payload = prop_oneof![
        8 => prop::collection::vec(b' '..=b'~', 0..140),
        2 => "[\u{80}-\u{ffff}]{0,20}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..20),
        1 => prop::collection::vec(b'a'..=b'z', 290..320),
    ];
    let close =
        (prop::sample::select(vec![1000u16, 1001, 1005, 1011, 3000, 4999, 5000, 0]), "[a-é]{0,40}")
            .prop_map(|(code, reason)| [&code.to_be_bytes(), reason.as_bytes()].concat());
    let opcode = prop::sample::select(vec![0u8, 0, 0, 0, 1, 1, 1, 2, 2, 2, 9, 9, 10, 8, 3, 11]);
    let rare = |usual: bool| prop::bool::weighted(if usual { 0.98 } else { 0.02 });
    let sent = (opcode, any::<bool>(), rare(masked), rare(false), payload, close).prop_map(
        |(opcode, fin, masked, reserved, payload, close)| Sent {
            opcode,
            reserved: u8::from(reserved),
            fin: fin || opcode >= 8 && !payload.len().is_multiple_of(13),
            masked,
            payload: if opcode == 8 { close } else { payload },
        },
    );
    prop::collection::vec(sent, 1..12)
}

fn check_against_tungstenite(role: Role, sent: &[Sent]) {
    let limits = Limits { message_bytes_max: 300, fragments_max: 64, ..Limits::default() };
    let mut input = Vec::new();
    sent.iter().for_each(|sent| sent.write(&mut input));
    let (ours, ended) = check_with(role, limits, &input);
    let (theirs, their_code) = tungstenite_reads(role, limits, &input);
    assert_eq!(ours, theirs, "{sent:x?}");
    let our_code = ended.err().map(FrameError::close_code);
    // tungstenite looks at the size of a frame before anything else in it.
    if their_code == Some(1009) && sent.iter().any(|sent| sent.payload.len() > 300) {
        assert!(our_code.is_some(), "{sent:x?}");
    } else {
        assert_eq!(our_code, their_code, "{sent:x?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_server_reads_what_tungstenite_reads(sent in frames(true)) {
        check_against_tungstenite(Role::Server, &sent);
    }

    #[test]
    fn a_client_reads_what_tungstenite_reads(sent in frames(false)) {
        check_against_tungstenite(Role::Client, &sent);
    }

    #[test]
    fn tungstenite_reads_what_we_write(
        payloads in prop::collection::vec(("[ -\u{2000}]{0,200}", any::<bool>(), any::<[u8; 4]>()), 0..8),
        code in 3000u16..5000, reason in "[a-é]{0,200}",
    ) {
        let (mut server, mut client, mut expected) = (Vec::new(), Vec::new(), Vec::new());
        for (payload, is_text, key) in &payloads {
            let opcode = if *is_text { Opcode::Text } else { Opcode::Binary };
            write_frame(&mut server, opcode, payload.as_bytes());
            write_frame_with(&mut client, opcode, true, Some(*key), payload.as_bytes());
            expected.push(if *is_text {
                Owned::Text(payload.clone())
            } else {
                Owned::Binary(payload.clone().into_bytes())
            });
        }
        write_close(&mut server, code, &reason, None);
        write_close(&mut client, code, &reason, Some(KEY));
        let cut = reason.floor_char_boundary(CLOSE_REASON_BYTES_MAX);
        expected.push(Owned::Close(Some(code), reason[..cut].to_owned()));
        let limits = Limits::default();
        prop_assert_eq!(tungstenite_reads(Role::Client, limits, &server), (expected.clone(), None));
        prop_assert_eq!(tungstenite_reads(Role::Server, limits, &client), (expected.clone(), None));
        prop_assert_eq!(decode(Role::Client, limits, &[&server]).0, (expected.clone(), Ok(())));
        prop_assert_eq!(decode(Role::Server, limits, &[&client]).0, (expected, Ok(())));
    }
}

#[test]
fn tungstenite_shakes_hands_with_our_server() {
    use tungstenite::client::IntoClientRequest as _;
    let pipe = Pipe::default();
    let mut request = "ws://localhost:8000/v1/channels/a/ws?since=1".into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "a, b".parse().unwrap());
    let Err(tungstenite::HandshakeError::Interrupted(waiting)) =
        tungstenite::client::client(request, pipe.clone())
    else {
        panic!("the client must wait for the answer");
    };
    let mut parser = http1::RequestParser::new(http1::Limits::default());
    let request = parser.feed(&pipe.written()).unwrap().1.unwrap();
    assert_eq!((request.path(), request.query()), ("/v1/channels/a/ws", Some("since=1")));
    let protocol = handshake::choose_protocol(&request, &["b"]);
    let mut out = Vec::new();
    handshake::validate(&request).unwrap().write_response(&mut out, protocol, &[]).unwrap();
    write_frame(&mut out, Opcode::Text, b"first");
    pipe.put(&out);
    let (mut socket, response) = waiting.handshake().unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "b");
    assert_eq!(socket.read().unwrap(), tungstenite::Message::text("first"));
    socket.send(tungstenite::Message::text("answer")).unwrap();
    let outcome = check_with(Role::Server, Limits::default(), &pipe.written());
    assert_eq!(outcome, (vec![Owned::Text("answer".into())], Ok(())));
}

#[test]
fn our_client_shakes_hands_with_tungstenite() {
    let pipe = Pipe::default();
    let mut out = Vec::new();
    let key = handshake::write_request(&mut out, "localhost", "/ws?a", [7; 16], &[]).unwrap();
    pipe.put(&out);
    let mut socket = tungstenite::accept(pipe.clone()).unwrap();
    socket.send(tungstenite::Message::text("hi")).unwrap();
    let sent = pipe.written();
    let (taken, response) =
        http1::ResponseParser::new(http1::Limits::default()).feed(&sent).unwrap();
    let response = response.unwrap();
    assert!(key.is_accepted(&response));
    let outcome = check_with(Role::Client, Limits::default(), &sent[taken..]);
    assert_eq!(outcome, (vec![Owned::Text("hi".into())], Ok(())));
    let other = handshake::write_request(&mut Vec::new(), "a", "/", [8; 16], &[]).unwrap();
    assert!(!other.is_accepted(&response), "the answer to another key");
    assert!(
        handshake::write_request(&mut Vec::new(), "a", "/ HTTP/1.1\r\n", [8; 16], &[]).is_err()
    );
}
