//! One client connection: connect, handshake, messages, and back again after a cut.

use super::Tally;
use crate::histogram::Latencies;
use crate::machine::now_ns;
use anyhow::Result;
use proto::http1::{self, ResponseParser};
use proto::ws::handshake::{ClientKey, write_request};
use proto::ws::{Decoder, Limits, Message, Opcode, Role};
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrV4, SocketFlags, SocketType, recv, send,
};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

/// What all connections of a swarm have in common.
#[derive(Debug)]
pub struct Plan {
    pub target: SocketAddr,
    pub path: String,
    pub envelope: bool,
    /// No WebSocket: so many bytes are a message.
    pub raw_frame_bytes: Option<usize>,
}

/// What became of a readiness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Nothing,
    Opened,
    Closed { was_open: bool },
}

#[derive(Debug)]
enum Phase {
    Connecting,
    Handshake(Box<(ResponseParser, ClientKey)>),
    Open,
    Closed,
}

/// See the module.
#[derive(Debug)]
pub struct Connection {
    socket: Option<OwnedFd>,
    phase: Phase,
    decoder: Decoder,
    /// Number of the message that should come next.
    pub next: u64,
    /// Where the stream stands, as the server writes it.
    position: String,
    /// Bytes of an unfinished message, without WebSocket.
    partial: usize,
}

/// Source addresses that are used in turn: each has its own ports.
const SOURCES: usize = 32;

fn decoder() -> Decoder {
    Decoder::new(Role::Client, Limits { message_bytes_max: 1 << 20, fragments_max: 16 })
}

impl Connection {
    /// Begins to connect.
    pub fn open(plan: &Plan, index: usize, epoll: &OwnedFd) -> Result<Self> {
        let mut connection = Self {
            socket: None,
            phase: Phase::Closed,
            decoder: decoder(),
            next: 0,
            position: String::new(),
            partial: 0,
        };
        connection.reopen(plan, index, epoll)?;
        Ok(connection)
    }

    /// Begins to connect again, to go on where it was cut.
    pub fn reopen(&mut self, plan: &Plan, index: usize, epoll: &OwnedFd) -> Result<()> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket =
            rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        let source = Ipv4Addr::new(127, 0, 0, 2 + (index % SOURCES) as u8);
        rustix::net::bind(&socket, &SocketAddrV4::new(source, 0))?;
        match rustix::net::connect(&socket, &plan.target) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(errno) => return Err(errno.into()),
        }
        let data = epoll::EventData::new_u64(index as u64);
        epoll::add(epoll, &socket, data, epoll::EventFlags::OUT)?;
        self.socket = Some(socket);
        self.phase = Phase::Connecting;
        self.decoder = decoder();
        self.partial = 0;
        Ok(())
    }

    /// The socket, while it is not closed.
    pub fn socket(&self) -> Option<&OwnedFd> {
        self.socket.as_ref()
    }

    /// Handles a readiness.
    #[allow(clippy::too_many_arguments)] // The swarm's parts, borrowed apart.
    pub fn ready(
        &mut self,
        plan: &Plan,
        index: usize,
        epoll: &OwnedFd,
        buffer: &mut [u8],
        scratch: &mut Vec<u8>,
        tally: &mut Tally,
        latencies: &mut Latencies,
    ) -> Outcome {
        let Some(socket) = &self.socket else { return Outcome::Nothing };
        if matches!(self.phase, Phase::Connecting) {
            return self.connected(plan, index, epoll);
        }
        let received = match recv(socket, &mut buffer[..], RecvFlags::empty()) {
            Ok((0, _)) => return self.close(),
            Ok((bytes, _)) => bytes,
            Err(Errno::AGAIN | Errno::INTR) => return Outcome::Nothing,
            Err(_) => return self.close(),
        };
        let mut input = &buffer[..received];
        let mut outcome = Outcome::Nothing;
        if let Phase::Handshake(handshake) = &mut self.phase {
            match handshake.0.feed(input) {
                Ok((used, Some(response))) if handshake.1.is_accepted(&response) => {
                    input = &input[used..];
                    self.phase = Phase::Open;
                    outcome = Outcome::Opened;
                }
                Ok((_, None)) => return Outcome::Nothing,
                Ok((_, Some(_))) | Err(_) => return self.close(),
            }
        }
        if let Some(frame_bytes) = plan.raw_frame_bytes {
            let bytes = self.partial + input.len();
            tally.received += (bytes / frame_bytes) as u64;
            self.partial = bytes % frame_bytes;
            return outcome;
        }
        match self.messages(plan, input, scratch, tally, latencies) {
            Ok(()) => outcome,
            Err(()) => self.close(),
        }
    }

    fn connected(&mut self, plan: &Plan, index: usize, epoll: &OwnedFd) -> Outcome {
        let Some(socket) = &self.socket else { return Outcome::Nothing };
        let failed = rustix::net::sockopt::socket_error(socket);
        if !matches!(failed, Ok(Ok(()))) {
            return self.close();
        }
        let data = epoll::EventData::new_u64(index as u64);
        if epoll::modify(epoll, socket, data, epoll::EventFlags::IN).is_err() {
            return self.close();
        }
        if plan.raw_frame_bytes.is_some() {
            self.phase = Phase::Open;
            return Outcome::Opened;
        }
        let mut path = plan.path.clone();
        if plan.envelope {
            path.push_str("?format=envelope");
            if !self.position.is_empty() {
                path.push_str("&since=");
                path.push_str(&self.position);
            }
        }
        let mut request = Vec::new();
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&(index as u64).to_le_bytes());
        let host = plan.target.to_string();
        let written = write_request(&mut request, &host, &path, nonce, &[]);
        let sent = send(socket, &request, SendFlags::NOSIGNAL);
        match (written, sent) {
            (Ok(key), Ok(sent)) if sent == request.len() => {
                let parser = ResponseParser::new(http1::Limits::default());
                self.phase = Phase::Handshake(Box::new((parser, key)));
                Outcome::Nothing
            }
            _ => self.close(),
        }
    }

    fn messages(
        &mut self,
        plan: &Plan,
        mut input: &[u8],
        scratch: &mut Vec<u8>,
        tally: &mut Tally,
        latencies: &mut Latencies,
    ) -> Result<(), ()> {
        while !input.is_empty() {
            let (used, message) = self.decoder.feed(input, scratch).map_err(|_| ())?;
            input = &input[used..];
            match message {
                None => {}
                Some(Message::Text(text)) if plan.envelope => {
                    envelope(text, &mut self.next, &mut self.position, tally);
                }
                Some(Message::Text(text)) => {
                    let (number, stamp) = (hex(text, 0), hex(text, 16));
                    latencies.record(now_ns().saturating_sub(stamp));
                    count(number, &mut self.next, tally);
                }
                Some(Message::Ping(payload)) => {
                    let mut pong = Vec::new();
                    let mask = Some([1, 2, 3, 4]);
                    let opcode = Opcode::Pong;
                    proto::ws::write_frame_with(&mut pong, opcode, true, mask, payload);
                    let socket = self.socket.as_ref().ok_or(())?;
                    send(socket, &pong, SendFlags::NOSIGNAL).map_err(|_| ())?;
                }
                Some(Message::Close { code, reason }) => {
                    if tally.closed == 0 && !plan.envelope {
                        eprintln!("bench: the server closed a connection: {code:?} {reason}");
                    }
                    return Err(());
                }
                Some(Message::Binary(_) | Message::Pong(_)) => {}
            }
        }
        Ok(())
    }

    fn close(&mut self) -> Outcome {
        let was_open = matches!(self.phase, Phase::Open);
        // Closing takes it out of the epoll.
        self.socket = None;
        self.phase = Phase::Closed;
        Outcome::Closed { was_open }
    }
}

/// Sixteen hexadecimal digits of a payload.
fn hex(text: &str, at: usize) -> u64 {
    text.get(at..at + 16).and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or(0)
}

fn count(number: u64, next: &mut u64, tally: &mut Tally) {
    tally.received += 1;
    if number == *next {
        *next += 1;
    } else if number < *next {
        tally.repeated += 1;
    } else {
        tally.skipped += number - *next;
        *next = number + 1;
    }
}

/// An event or a control message in its envelope; keeps the position to come back with.
fn envelope(text: &str, next: &mut u64, position: &mut String, tally: &mut Tally) {
    if text.starts_with("{\"shardcast\"") {
        tally.gaps += u64::from(text.starts_with("{\"shardcast\":\"gap\""));
        if let Some(at) = between(text, "\"position\":\"", '"') {
            position.clear();
            position.push_str(at);
        }
        return;
    }
    let (Some(epoch), Some(offset), Some(data)) = (
        between(text, "\"epoch\":\"", '"'),
        between(text, "\"offset\":", ','),
        between(text, "\"data\":\"", '"'),
    ) else {
        return;
    };
    position.clear();
    position.push_str(epoch);
    position.push(':');
    position.push_str(offset);
    count(hex(data, 0), next, tally);
}

fn between<'a>(text: &'a str, before: &str, after: char) -> Option<&'a str> {
    let start = text.find(before)? + before.len();
    text[start..].split(after).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_skipped_and_what_comes_twice_is_counted() {
        let (mut next, mut tally) = (0, Tally::default());
        for number in [0, 1, 3, 2, 3, 4] {
            count(number, &mut next, &mut tally);
        }
        assert_eq!((tally.received, tally.skipped, tally.repeated, next), (6, 1, 2, 5));
    }

    #[test]
    fn an_envelope_gives_number_and_position() {
        let (mut next, mut position, mut tally) = (7, String::new(), Tally::default());
        let text = r#"{"channel":"c","epoch":"00000000000000ab","offset":9,"id":"x","time":"t","class":"normal","data":"0000000000000007..."}"#;
        envelope(text, &mut next, &mut position, &mut tally);
        assert_eq!((next, &position[..], tally.repeated), (8, "00000000000000ab:9", 0));
        let gap = r#"{"shardcast":"gap","channel":"c","position":"00000000000000ab:12"}"#;
        envelope(gap, &mut next, &mut position, &mut tally);
        assert_eq!((&position[..], tally.gaps), ("00000000000000ab:12", 1));
    }
}
