//! One client connection: connect, handshake, messages, and back again after a cut.

use super::book::{Book, Label};
use super::dialect::h2::Streams;
use super::dialect::{Dialect, Parser, Reader, between};
use super::frames;
use super::link::{Gone, Link, Route};
use anyhow::Result;
use proto::http1::{self, ResponseParser};
use proto::ws::Opcode;
use proto::ws::handshake::{ClientKey, write_request};
use std::os::fd::OwnedFd;

/// What all connections of a swarm have in common.
#[derive(Debug)]
pub struct Plan {
    pub route: Route,
    pub dialect: Dialect,
    /// Bytes of a message without a protocol.
    pub raw_frame_bytes: usize,
    /// Streams of a connection over HTTP/2.
    pub streams: usize,
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
    Handshake(Box<Handshake>),
    /// The WebSocket is there, the subscription is not.
    Greeting(Parser),
    Open(Parser),
    /// Without a protocol; bytes of an unfinished message.
    Raw(usize),
    Closed,
}

#[derive(Debug)]
struct Handshake {
    parser: ResponseParser,
    /// `None` for server-sent events.
    key: Option<ClientKey>,
}

/// See the module.
#[derive(Debug)]
pub struct Connection {
    link: Option<Link>,
    phase: Phase,
    pub rooms: Vec<u32>,
    /// For each room, or each stream, the number of the message that should come next.
    pub next: Vec<u64>,
    /// Where the stream stands, as the server writes it.
    position: String,
    /// When it was cut, until the server says that nothing is missing.
    cut_ns: u64,
    /// Never reads once it is open.
    pub stalls: bool,
}

/// What a parser's words do to the connection.
struct Ear<'a> {
    book: &'a mut Book,
    rooms: &'a [u32],
    next: &'a mut [u64],
    /// The stream that speaks, over HTTP/2.
    stream: Option<usize>,
    position: &'a mut String,
    cut_ns: &'a mut u64,
    replies: Vec<u8>,
    opened: bool,
}

impl Reader for Ear<'_> {
    fn message(&mut self, payload: &[u8]) {
        let Some(label) = Label::read(payload) else {
            self.book.tally.foreign += 1;
            return;
        };
        let room = usize::from(self.rooms.first() != Some(&label.room));
        match self.next.get_mut(self.stream.unwrap_or(room)) {
            Some(next) => self.book.arrive(label, next),
            None => self.book.tally.foreign += 1,
        }
    }

    fn notice(&mut self, text: &str) {
        if text.starts_with("{\"shardcast\"") {
            self.book.tally.gaps += u64::from(text.starts_with("{\"shardcast\":\"gap\""));
            if let Some(at) = between(text, "\"position\":\"", '"') {
                self.position.clear();
                self.position.push_str(at);
            }
            if text.starts_with("{\"shardcast\":\"recovered\"") && *self.cut_ns > 0 {
                self.book.recoveries.push((*self.cut_ns, self.book.now_ns));
                *self.cut_ns = 0;
            }
            return;
        }
        let epoch = between(text, "\"epoch\":\"", '"');
        if let (Some(epoch), Some(offset)) = (epoch, between(text, "\"offset\":", ',')) {
            self.position.clear();
            self.position.push_str(epoch);
            self.position.push(':');
            self.position.push_str(offset);
        }
    }

    fn opened(&mut self) {
        self.opened = true;
    }

    fn stream(&mut self, at: usize) {
        self.stream = Some(at);
    }

    fn send(&mut self, bytes: &[u8]) {
        self.replies.extend_from_slice(bytes);
    }

    fn reply(&mut self, opcode: Opcode, payload: &[u8]) {
        self.book.tally.replies += 1;
        frames::write(&mut self.replies, opcode, payload);
    }

    fn closed(&mut self, why: &[u8]) {
        if self.book.tally.closed + self.book.tally.cuts == 0 {
            let why = String::from_utf8_lossy(why);
            eprintln!("bench: the server closed a connection: {why:?}");
        }
    }
}

impl Connection {
    /// Not connected yet.
    pub fn new(rooms: Vec<u32>, streams: usize, stalls: bool) -> Self {
        Self {
            next: vec![0; rooms.len().max(streams)],
            link: None,
            phase: Phase::Closed,
            rooms,
            position: String::new(),
            cut_ns: 0,
            stalls,
        }
    }

    /// Begins to connect again, to go on where it was cut.
    pub fn reopen(&mut self, plan: &Plan, index: usize, epoll: &OwnedFd) -> Result<()> {
        self.link = Some(Link::open(&plan.route, index as u64, epoll, self.stalls)?);
        self.phase = Phase::Connecting;
        Ok(())
    }

    /// Handles a readiness.
    pub fn ready(
        &mut self,
        plan: &Plan,
        index: usize,
        epoll: &OwnedFd,
        buffer: &mut [u8],
        book: &mut Book,
    ) -> Outcome {
        let was_open = self.is_open();
        match self.advance(plan, index, epoll, buffer, book) {
            Ok(()) if self.is_open() && !was_open => {
                if self.stalls
                    && let Some(link) = &self.link
                {
                    link.stall(epoll);
                }
                Outcome::Opened
            }
            Ok(()) => Outcome::Nothing,
            Err(Gone) => self.close(book.now_ns),
        }
    }

    fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open(_) | Phase::Raw(_))
    }

    fn advance(
        &mut self,
        plan: &Plan,
        index: usize,
        epoll: &OwnedFd,
        buffer: &mut [u8],
        book: &mut Book,
    ) -> Result<(), Gone> {
        if matches!(self.phase, Phase::Connecting) {
            return self.connected(plan, index, epoll);
        }
        let Self { link, phase, rooms, next, position, cut_ns, .. } = self;
        let Some(link) = link else { return Ok(()) };
        link.receive(buffer, |link, bytes| {
            if let Phase::Raw(partial) = phase {
                let bytes = *partial + bytes.len();
                book.tally.received += (bytes / plan.raw_frame_bytes) as u64;
                *partial = bytes % plan.raw_frame_bytes;
                return Ok(());
            }
            let rest = match phase {
                Phase::Handshake(_) => upgrade(phase, link, plan.dialect, rooms, bytes)?,
                _ => bytes,
            };
            let (Phase::Greeting(parser) | Phase::Open(parser)) = phase else { return Ok(()) };
            let (stream, replies, opened) = (None, Vec::new(), false);
            let mut ear = Ear { book, rooms, next, stream, position, cut_ns, replies, opened };
            let fed = parser.feed(rooms, rest, &mut ear);
            let Ear { replies, opened, .. } = ear;
            if !replies.is_empty() {
                link.send(&replies)?;
            }
            if opened && let Phase::Greeting(parser) = std::mem::replace(phase, Phase::Closed) {
                *phase = Phase::Open(parser);
            }
            fed.map_err(|_| Gone)
        })?;
        link.flush()?;
        link.settle(epoll)
    }

    fn connected(&mut self, plan: &Plan, index: usize, epoll: &OwnedFd) -> Result<(), Gone> {
        let Some(link) = &mut self.link else { return Ok(()) };
        link.connected(epoll)?;
        if plan.dialect == Dialect::Raw {
            self.phase = Phase::Raw(0);
            return Ok(());
        }
        let host = plan.route.target.to_string();
        if plan.dialect.is_h2() {
            let tls = plan.route.tls.is_some();
            let (parser, said) = Streams::open(plan.dialect, &self.rooms, plan.streams, &host, tls);
            link.send(&said)?;
            self.phase = Phase::Greeting(Parser::H2(parser));
            return link.settle(epoll);
        }
        let target = plan.dialect.target(&self.rooms, &self.position);
        let mut request = Vec::new();
        let key = if plan.dialect.is_sse() {
            request = format!(
                "GET {target} HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n\r\n"
            )
            .into_bytes();
            None
        } else {
            let mut nonce = [0; 16];
            nonce[..8].copy_from_slice(&(index as u64).to_le_bytes());
            let headers = plan.dialect.headers();
            let key = write_request(&mut request, &host, &target, nonce, headers);
            let key = key.map_err(|_| Gone)?;
            Some(key)
        };
        link.send(&request)?;
        link.settle(epoll)?;
        let parser = ResponseParser::new(http1::Limits::default());
        self.phase = Phase::Handshake(Box::new(Handshake { parser, key }));
        Ok(())
    }

    /// Sends a publish. What finds no room waits in the link.
    pub fn send(&mut self, bytes: &[u8], epoll: &OwnedFd) -> Result<(), Gone> {
        let link = self.link.as_mut().ok_or(Gone)?;
        link.send(bytes)?;
        link.settle(epoll)
    }

    /// Bytes of publishes that wait for room.
    pub fn unsent_bytes(&self) -> usize {
        self.link.as_ref().map_or(0, Link::unsent_bytes)
    }

    /// Leaves without ceremony, to come again as new.
    pub fn reset(&mut self) {
        if let Some(link) = self.link.take() {
            link.reset();
        }
        (self.phase, self.cut_ns) = (Phase::Closed, 0);
        self.position.clear();
    }

    fn close(&mut self, now_ns: u64) -> Outcome {
        let was_open = self.is_open();
        if was_open {
            self.cut_ns = now_ns;
        }
        // Closing takes it out of the epoll.
        self.link = None;
        self.phase = Phase::Closed;
        Outcome::Closed { was_open }
    }
}

/// Reads the response head; gives what follows it.
fn upgrade<'a>(
    phase: &mut Phase,
    link: &mut Link,
    dialect: Dialect,
    rooms: &[u32],
    bytes: &'a [u8],
) -> Result<&'a [u8], Gone> {
    let Phase::Handshake(handshake) = phase else { return Ok(bytes) };
    let (used, response) = handshake.parser.feed(bytes).map_err(|_| Gone)?;
    let Some(response) = response else { return Ok(&[]) };
    if handshake.key.as_ref().is_some_and(|key| !key.is_accepted(&response)) {
        return Err(Gone);
    }
    let parser = Parser::new(dialect, rooms.len(), &response).ok_or(Gone)?;
    *phase = if parser.is_open_at_once() { Phase::Open(parser) } else { Phase::Greeting(parser) };
    if let Some(greeting) = dialect.greeting(rooms) {
        link.send(&greeting)?;
    }
    Ok(&bytes[used..])
}
