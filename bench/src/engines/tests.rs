//! Every engine passes the same round trip and the same resume, over real sockets.

use super::*;
use proto::ws::{Decoder, Limits, Message, Opcode, Role, write_frame_with};
use server::reactor::listeners::Held;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

/// A WebSocket client that blocks.
struct Client {
    stream: TcpStream,
    decoder: Decoder,
    input: Vec<u8>,
}

impl Client {
    fn open(address: SocketAddr, query: &str) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let head = format!(
            "GET /v1/channels/c/ws{query} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut input = Vec::new();
        let end = loop {
            if let Some(at) = input.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            input.push(byte[0]);
        };
        let head = String::from_utf8(input.drain(..end).collect()).unwrap();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        Self { stream, decoder: Decoder::new(Role::Client, Limits::default()), input }
    }

    fn publish(&mut self, text: &str) {
        let mut frame = Vec::new();
        let mask = Some([1, 2, 3, 4]);
        write_frame_with(&mut frame, Opcode::Text, true, mask, text.as_bytes());
        self.stream.write_all(&frame).unwrap();
    }

    /// The next text message; control frames are passed over.
    fn next(&mut self) -> String {
        let mut scratch = Vec::new();
        loop {
            if !self.input.is_empty() {
                let input = std::mem::take(&mut self.input);
                let (used, message) = self.decoder.feed(&input, &mut scratch).unwrap();
                let text = match message {
                    Some(Message::Text(text)) => Some(text.to_owned()),
                    Some(Message::Close { .. }) => panic!("closed"),
                    _ => None,
                };
                self.input = input[used..].to_vec();
                if let Some(text) = text {
                    return text;
                }
                continue;
            }
            let mut bytes = [0; 65_536];
            let count = self.stream.read(&mut bytes).unwrap();
            assert!(count > 0, "the server ended the connection");
            self.input.extend_from_slice(&bytes[..count]);
        }
    }

    /// The next envelope that carries an event: its position and its data.
    fn event(&mut self) -> (String, String) {
        loop {
            let text = self.next();
            let envelope: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert!(!text.contains("gap"), "{text}");
            if let Some(data) = envelope["data"].as_str() {
                let epoch = envelope["epoch"].as_str().unwrap();
                return (format!("{epoch}:{}", envelope["offset"]), data.to_owned());
            }
        }
    }
}

/// Starts an engine on a thread, runs a client's story, stops it.
fn with(kind: Kind, story: impl FnOnce(SocketAddr)) {
    // Little room in the kernel, so that large messages fall short and are finished later.
    let host = Host::holding(Held { bytes: 32 << 10, unsent_bytes: 0 }).unwrap();
    let (address, handle) = (host.address, host.handle.clone());
    let engine = std::thread::spawn(move || serve(kind, host));
    story(address);
    handle.stop();
    engine.join().unwrap().unwrap();
}

fn a_message_reaches_everybody_in_order_and_whole(kind: Kind) {
    with(kind, |address| {
        let mut publisher = Client::open(address, "");
        let mut clients: Vec<_> = (0..50).map(|_| Client::open(address, "")).collect();
        // From one byte to far more than any read buffer.
        let messages: Vec<String> =
            [1, 125, 126, 5_000, 60_000].iter().map(|len| "m".repeat(*len)).collect();
        for message in &messages {
            publisher.publish(message);
        }
        for client in &mut clients {
            for message in &messages {
                assert_eq!(&client.next(), message);
            }
        }
        drop(publisher);
        let (last, others) = clients.split_last_mut().unwrap();
        last.publish("still here");
        assert_eq!(others[0].next(), "still here");
    });
}

fn who_was_cut_comes_back_and_gets_what_was_missed(kind: Kind) {
    with(kind, |address| {
        let mut publisher = Client::open(address, "");
        let mut client = Client::open(address, "?format=envelope");
        publisher.publish("one");
        publisher.publish("two");
        assert_eq!(client.event().1, "one");
        let (position, data) = client.event();
        assert_eq!(data, "two");
        client.stream.shutdown(Shutdown::Both).unwrap();
        drop(client);
        for n in 3..100 {
            publisher.publish(&n.to_string());
        }
        // The publisher hears its own last message: all are ordered.
        while publisher.next() != "99" {}
        let mut client = Client::open(address, &format!("?format=envelope&since={position}"));
        for n in 3..100 {
            assert_eq!(client.event().1, n.to_string());
        }
        publisher.publish("live again");
        assert_eq!(client.event().1, "live again");
    });
}

fn a_reader_that_stalls_gets_everything_when_it_goes_on(kind: Kind) {
    with(kind, |address| {
        let mut publisher = Client::open(address, "");
        let mut slow = Client::open(address, "?format=envelope");
        // More than the sockets hold, less than the budget of an outbox.
        let message = "s".repeat(60_000);
        for _ in 0..10 {
            publisher.publish(&message);
            assert_eq!(publisher.next(), message);
        }
        for _ in 0..10 {
            assert_eq!(slow.event().1, message);
        }
    });
}

macro_rules! on_every_engine {
    ($($engine:ident = $kind:ident),*) => {
        $(mod $engine {
            use super::super::Kind;
            #[test]
            fn a_message_reaches_everybody_in_order_and_whole() {
                super::a_message_reaches_everybody_in_order_and_whole(Kind::$kind);
            }
            #[test]
            fn who_was_cut_comes_back_and_gets_what_was_missed() {
                super::who_was_cut_comes_back_and_gets_what_was_missed(Kind::$kind);
            }
            #[test]
            fn a_reader_that_stalls_gets_everything_when_it_goes_on() {
                super::a_reader_that_stalls_gets_everything_when_it_goes_on(Kind::$kind);
            }
        })*
    };
}

on_every_engine!(
    uring = Uring,
    epoll = Epoll,
    monoio = Monoio,
    tokio_uring = TokioUring,
    tokio = Tokio
);
