//! Each parser against streams as its server writes them, cut at every place.

use super::*;
use proto::http1::{Limits, ResponseParser};

/// Notes what a parser hands on.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Notes(pub Vec<String>);

impl Reader for Notes {
    fn message(&mut self, payload: &[u8]) {
        self.0.push(format!("message {}", String::from_utf8_lossy(payload)));
    }
    fn notice(&mut self, text: &str) {
        self.0.push(format!("notice {text}"));
    }
    fn opened(&mut self) {
        self.0.push("opened".to_owned());
    }
    fn stream(&mut self, at: usize) {
        self.0.push(format!("stream {at}"));
    }
    fn send(&mut self, bytes: &[u8]) {
        self.0.push(format!("send {}", bytes.len()));
    }
    fn reply(&mut self, opcode: Opcode, payload: &[u8]) {
        self.0.push(format!("reply {opcode:?} {}", String::from_utf8_lossy(payload)));
    }
    fn closed(&mut self, why: &[u8]) {
        self.0.push(format!("closed {}", String::from_utf8_lossy(why)));
    }
}

fn response(head: &str) -> Response {
    ResponseParser::new(Limits::default()).feed(head.as_bytes()).unwrap().1.unwrap()
}

fn upgraded() -> Response {
    response("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n")
}

fn frame(opcode: Opcode, payload: &str) -> Vec<u8> {
    let mut out = Vec::new();
    proto::ws::write_frame_with(&mut out, opcode, true, None, payload.as_bytes());
    out
}

/// The stream in pieces of every size gives the same notes.
fn check(dialect: Dialect, head: &Response, stream: &[u8], expected: &[&str]) {
    for size in 1..=stream.len() {
        let mut parser = Parser::new(dialect, 1, head).unwrap();
        let mut notes = Notes::default();
        let fed = stream.chunks(size).try_for_each(|piece| parser.feed(&[5], piece, &mut notes));
        assert_eq!(notes.0, expected, "pieces of {size}");
        let ends = expected.last().is_some_and(|last| last.starts_with("closed"));
        assert_eq!(fed.is_err(), ends, "pieces of {size}");
    }
}

#[test]
fn a_plain_websocket_hands_on_messages_and_answers_pings() {
    let mut stream = frame(Opcode::Text, "one");
    stream.extend(frame(Opcode::Ping, "p"));
    stream.extend(frame(Opcode::Binary, "two"));
    stream.extend(frame(Opcode::Close, "xxbye"));
    let expected = ["message one", "reply Pong p", "message two", "closed xxbye"];
    check(Dialect::Plain, &upgraded(), &stream, &expected);
}

#[test]
fn an_envelope_hands_on_its_data_and_the_whole_for_its_position() {
    let event = r#"{"channel":"c","epoch":"ab","offset":9,"class":"normal","data":"x"}"#;
    let gap = r#"{"shardcast":"gap","channel":"c","position":"ab:12"}"#;
    let mut stream = frame(Opcode::Text, event);
    stream.extend(frame(Opcode::Text, gap));
    let expected = [format!("notice {event}"), "message x".to_owned(), format!("notice {gap}")];
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    check(Dialect::Envelope, &upgraded(), &stream, &expected);
}

#[test]
fn socket_io_is_greeted_and_its_heartbeat_answered() {
    let mut stream = Vec::new();
    for packet in ["0{\"sid\":\"a\"}", "40{\"sid\":\"b\"}", "42[\"m\",\"data\"]", "2", "41"] {
        stream.extend(frame(Opcode::Text, packet));
    }
    let expected = ["reply Text 40", "opened", "message data", "reply Text 3", "closed 41"];
    check(Dialect::SocketIo, &upgraded(), &stream, &expected);
    let mut sent = Vec::new();
    Dialect::SocketIo.publish(&mut sent, 0, b"data");
    assert_eq!(sent.len(), 2 + 4 + "42[\"m\",\"data\"]".len());
}

#[test]
fn nats_lines_are_found_across_frames() {
    let text = "INFO {\"a\":1}\r\nPONG\r\nMSG r.00000005 1 6\r\na\nb\r\nc\r\nPING\r\n-ERR 'x'\r\n";
    let hello = "reply Binary CONNECT {\"verbose\":false,\"pedantic\":false,\"echo\":true,\
                 \"lang\":\"bench\",\"version\":\"0\",\"protocol\":1}\r\nSUB r.00000005 1\r\nPING\r\n";
    let expected =
        [hello, "opened", "message a\nb\r\nc", "reply Binary PONG\r\n", "closed -ERR 'x'"];
    for cut in 1..text.len() {
        let mut stream = frame(Opcode::Binary, &text[..cut]);
        stream.extend(frame(Opcode::Binary, &text[cut..]));
        let mut parser = Parser::new(Dialect::Nats, 1, &upgraded()).unwrap();
        let mut notes = Notes::default();
        let _ = parser.feed(&[5], &stream, &mut notes);
        assert_eq!(notes.0, expected, "cut at {cut}");
    }
    check(Dialect::Nats, &upgraded(), &frame(Opcode::Binary, text), &expected);
}

#[test]
fn centrifugo_is_open_when_connect_and_every_subscribe_are_answered() {
    let mut stream = frame(Opcode::Text, "{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{}}");
    stream.extend(frame(Opcode::Text, "{}"));
    let push = "{\"push\":{\"channel\":\"a\",\"pub\":{\"data\":\"x\"}}}";
    stream.extend(frame(Opcode::Text, push));
    let expected = ["opened", "reply Text {}", "message x"];
    check(Dialect::Centrifugo, &upgraded(), &stream, &expected);
}

#[test]
fn centrifugo_is_understood_in_protobuf_and_compressed() {
    use proto::centrifuge::{
        ConnectResult, Data, Publication, Push, PushBody, Reply, ReplyBody, SubscribeResult,
        write_reply,
    };
    let replies = |encoding| {
        let body = PushBody::Publication(Publication {
            data: Data::Text("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"),
            ..Default::default()
        });
        let push = Push { channel: "a".into(), body: Some(body) };
        [
            (1, Some(ReplyBody::Connect(ConnectResult::default()))),
            (2, Some(ReplyBody::Subscribe(SubscribeResult::default()))),
            (0, None),
            (0, Some(ReplyBody::Push(push))),
        ]
        .map(|(id, body)| {
            let mut out = Vec::new();
            write_reply(&mut out, encoding, &Reply { id, body });
            out
        })
    };
    let message = "message xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";
    let mut stream = Vec::new();
    for reply in replies(Encoding::Protobuf) {
        proto::ws::write_frame_with(&mut stream, Opcode::Binary, true, None, &reply);
    }
    let expected = ["opened", "reply Binary \0", message];
    check(Dialect::CentrifugoProtobuf, &upgraded(), &stream, &expected);
    let mut deflater = proto::ws::deflate::Deflater::default();
    let mut stream = Vec::new();
    for reply in replies(Encoding::Json) {
        let window = proto::ws::deflate::Window::Full;
        match deflater.encode_frame(window, Opcode::Text, &reply) {
            Some(frame) => stream.extend_from_slice(&frame),
            None => proto::ws::write_frame_with(&mut stream, Opcode::Text, true, None, &reply),
        }
    }
    let expected = ["opened", "reply Text {}", message];
    check(Dialect::CentrifugoDeflate, &upgraded(), &stream, &expected);
}

#[test]
fn events_are_found_in_chunks_and_in_bodies_without_end() {
    let text =
        ": hello\r\nretry: 5\n\nid: ab:1\ndata: one\n\ndata:two\r\n\ndata: {\"data\":\"3\"}\n\n";
    let expected = ["message one", "message two", "message 3"];
    let endless = response("HTTP/1.1 200 OK\r\n\r\n");
    check(Dialect::Sse, &endless, text.as_bytes(), &expected);
    let mut chunked = Vec::new();
    for piece in text.as_bytes().chunks(11) {
        proto::http1::write_chunk(&mut chunked, piece);
    }
    let head = response("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
    check(Dialect::Sse, &head, &chunked, &expected);
    proto::http1::write_last_chunk(&mut chunked);
    let ended = ["message one", "message two", "message 3", "closed the stream ended"];
    check(Dialect::ShardcastSse, &head, &chunked, &ended);
}

#[test]
fn a_refused_stream_is_no_stream() {
    let head = response("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
    assert!(Parser::new(Dialect::Sse, 1, &head).is_none());
}
