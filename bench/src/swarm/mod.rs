//! The clients: many subscribers in one process on one epoll, driven by orders.
//!
//! Orders are lines on standard input, answers lines of JSON (see [`order`]). Between orders the
//! process goes on serving its connections: it answers pings and, when asked to watch, reconnects
//! what was closed. Publishing is done here, too (over the first member's own connection, or over
//! HTTP where subscribers cannot send), so that publishing and receiving share a clock and a
//! thread, and nothing else of the client side runs on this core.
//!
//! [`dialect`] speaks to each server, [`link`] moves bytes, [`book`] counts, `orders.rs` carries
//! out. Deliberately absent: CPU accounting (the coordinator reads it from outside) and judging.
//! One thread. Tested by the scenarios: a client that miscounts shows as loss.

pub mod book;
mod connection;
pub mod dialect;
mod frames;
mod link;
pub mod order;
mod orders;
mod publisher;
mod rooms;
mod tls;

pub use book::{Label, MESSAGE_BYTES, UNTRACKED};
pub use dialect::{Dialect, room_name};
pub use order::{SwarmHandle, Tally};

use crate::machine::now_ns;
use anyhow::{Context, Result, bail};
use book::Book;
use clap::Args;
use connection::{Connection, Outcome, Plan};
use link::Route;
use publisher::Publishers;
use rooms::Rooms;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use std::io::{BufRead, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;

/// Head of an unmasked frame of such a message, whose length takes two bytes more.
pub const FRAME_BYTES: usize = MESSAGE_BYTES + 4;

/// Connections that are being opened at a time: the server's accept queue must not overflow.
const OPENING_MAX: usize = 256;
/// How long all may take to be subscribed.
const CONNECT_TIMEOUT_NS: u64 = 120_000_000_000;
/// A publisher waits when it has so much unsent.
const UNSENT_BYTES_MAX: usize = 1 << 20;

const STDIN: u64 = u64::MAX;

/// Arguments of the process.
#[derive(Debug, Clone, Args)]
pub struct SwarmArgs {
    /// Where to connect.
    #[arg(long)]
    target: SocketAddr,
    /// How many users; a user is one connection unless rooms need two.
    #[arg(long)]
    connections: usize,
    /// Whom it speaks to.
    #[arg(long, value_enum, default_value_t = Dialect::Shardcast)]
    dialect: Dialect,
    /// Rooms altogether; with more than one, every user is in two of them.
    #[arg(long, default_value_t = 1)]
    rooms: usize,
    /// Number of the first room.
    #[arg(long, default_value_t = 0)]
    first_room: u32,
    /// Streams of a connection over HTTP/2; each is a user.
    #[arg(long, default_value_t = 10)]
    streams: usize,
    /// Over TLS, whatever the certificate.
    #[arg(long)]
    tls: bool,
    /// So many of a hundred connections never read once they are subscribed.
    #[arg(long, default_value_t = 0)]
    stalled_percent: usize,
    /// With the dialect `raw`: messages are ordered over this control address.
    #[arg(long)]
    trigger: Option<SocketAddr>,
    /// Bytes of a message with the dialect `raw`.
    #[arg(long, default_value_t = FRAME_BYTES)]
    frame_bytes: usize,
}

struct Swarm {
    plan: Plan,
    rooms: Rooms,
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
    connections: Vec<Connection>,
    publishers: Option<Publishers>,
    /// A connection to every server process behind a shared port; empty without one.
    heads: Vec<usize>,
    opening: usize,
    open: usize,
    /// Closed connections that come back, and when.
    returning: Vec<(u64, usize)>,
    trigger: Option<TcpStream>,
    buffer: Vec<u8>,
    frames: Vec<u8>,
    book: Book,
    /// Number of the next message over all rooms, and in each.
    next_id: u64,
    next: Vec<u64>,
    watching: bool,
    jitter: u64,
    stdin_ready: bool,
}

/// The process.
pub fn run(args: &SwarmArgs) -> Result<()> {
    crate::machine::raise_descriptors();
    let mut swarm = Swarm::new(args)?;
    let wall_ns = swarm.connect_all()?;
    let stdin = std::io::stdin();
    epoll::add(&swarm.epoll, &stdin, epoll::EventData::new_u64(STDIN), epoll::EventFlags::IN)?;
    order::say(&order::Ready { connections: swarm.open, wall_ns })?;
    let mut lines = stdin.lock();
    loop {
        while !swarm.stdin_ready {
            swarm.pump(1_000_000_000)?;
        }
        swarm.stdin_ready = false;
        let mut line = String::new();
        if lines.read_line(&mut line)? == 0 {
            return Ok(());
        }
        swarm.carry_out(line.trim())?;
    }
}

impl Swarm {
    fn new(args: &SwarmArgs) -> Result<Self> {
        let trigger = args.trigger.map(TcpStream::connect).transpose()?;
        if let Some(trigger) = &trigger {
            trigger.set_nodelay(true)?;
        }
        let dialect = if trigger.is_some() { Dialect::Raw } else { args.dialect };
        let share = args.stalled_percent;
        let stalled = |at: usize| (at * share / 100) != ((at + 1) * share / 100);
        let streams = if dialect.is_h2() { args.streams.clamp(1, args.connections) } else { 1 };
        let rooms = Rooms::new(dialect, args.connections, args.rooms, streams, stalled);
        let rooms = rooms.starting_at(args.first_room);
        let users = args.connections.div_ceil(streams);
        let connections = (0..rooms.connections(users))
            .map(|at| Connection::new(rooms.of(at, users), streams, stalled(at)))
            .collect();
        let alpn: &[&str] = if dialect.is_h2() { &["h2"] } else { &[] };
        let route = Route { target: args.target, tls: args.tls.then(|| tls::config(alpn)) };
        Ok(Self {
            plan: Plan { route, dialect, raw_frame_bytes: args.frame_bytes, streams },
            next: vec![0; rooms.count()],
            rooms,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(1_024),
            connections,
            publishers: None,
            heads: Vec::new(),
            opening: 0,
            open: 0,
            returning: Vec::new(),
            trigger,
            buffer: vec![0; 256 << 10],
            frames: Vec::new(),
            book: Book::new(),
            next_id: 0,
            watching: false,
            jitter: 0x9e37_79b9_7f4a_7c15,
            stdin_ready: false,
        })
    }

    /// Opens every connection; how long it took until the last was subscribed.
    fn connect_all(&mut self) -> Result<u64> {
        let start = now_ns();
        let mut begun = 0;
        while self.open < self.connections.len() {
            while begun < self.connections.len() && self.opening < OPENING_MAX {
                self.connections[begun]
                    .reopen(&self.plan, begun, &self.epoll)
                    .context("cannot connect; are there descriptors and ports left?")?;
                begun += 1;
                self.opening += 1;
            }
            self.pump(100_000_000)?;
            if self.book.tally.closed > 0 || now_ns() - start > CONNECT_TIMEOUT_NS {
                let (all, closed) = (self.connections.len(), self.book.tally.closed);
                bail!("{} of {all} connected, {closed} were closed", self.open);
            }
        }
        let wall_ns = now_ns() - start;
        if self.plan.dialect.is_sse() && self.publishers.is_none() {
            let Plan { dialect, route, .. } = &self.plan;
            let tls = route.tls.is_some().then(|| tls::config(&["http/1.1"]));
            let route = Route { target: route.target, tls };
            self.publishers = Some(Publishers::new(*dialect, route));
        }
        Ok(wall_ns)
    }

    /// Waits for something to happen, at most that long, and handles it.
    fn pump(&mut self, wait_ns: u64) -> Result<()> {
        self.events.clear();
        let timeout = Timespec {
            tv_sec: (wait_ns / 1_000_000_000) as i64,
            tv_nsec: (wait_ns % 1_000_000_000) as i64,
        };
        let spare = rustix::buffer::spare_capacity(&mut self.events);
        match epoll::wait(&self.epoll, spare, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        for at in 0..self.events.len() {
            let event = self.events[at];
            match event.data.u64() {
                STDIN => self.stdin_ready = true,
                token if token >= publisher::TOKENS => {
                    if let Some(publishers) = &mut self.publishers {
                        publishers.ready(token, &self.epoll, &mut self.buffer)?;
                    }
                }
                index => self.ready(index as usize),
            }
        }
        if !self.returning.is_empty() {
            self.return_closed()?;
        }
        Ok(())
    }

    fn ready(&mut self, index: usize) {
        let Self { connections, plan, epoll, buffer, book, .. } = self;
        book.now_ns = now_ns();
        match connections[index].ready(plan, index, epoll, buffer, book) {
            Outcome::Nothing => {}
            Outcome::Opened => {
                self.opening -= 1;
                self.open += 1;
            }
            Outcome::Closed { was_open } => {
                if was_open {
                    self.open -= 1;
                } else {
                    self.opening -= 1;
                }
                if self.watching {
                    self.book.tally.cuts += u64::from(was_open);
                    let wait_ns = 50_000_000 + self.random() % 400_000_000;
                    self.returning.push((now_ns() + wait_ns, index));
                } else {
                    self.book.tally.closed += 1;
                }
            }
        }
    }

    fn return_closed(&mut self) -> Result<()> {
        let now = now_ns();
        for at in (0..self.returning.len()).rev() {
            let (due, index) = self.returning[at];
            if due <= now && self.opening < OPENING_MAX {
                self.returning.swap_remove(at);
                self.connections[index].reopen(&self.plan, index, &self.epoll)?;
                self.opening += 1;
            }
        }
        Ok(())
    }

    fn random(&mut self) -> u64 {
        self.jitter ^= self.jitter << 13;
        self.jitter ^= self.jitter >> 7;
        self.jitter ^= self.jitter << 17;
        self.jitter
    }

    /// Publishes so many messages, room after room, in as few sends as there are publishers.
    fn publish(&mut self, count: u64, due_ns: u64) -> Result<()> {
        self.book.tally.published += count;
        if let Some(trigger) = &mut self.trigger {
            self.book.tally.expected += count * self.connections.len() as u64;
            trigger.write_all(&[1])?;
            return Ok(());
        }
        let mut left = count;
        while left > 0 {
            let room = self.rooms.at((self.next_id % self.rooms.count() as u64) as usize);
            let run = if self.rooms.count() == 1 { left } else { 1 };
            self.frames.clear();
            for _ in 0..run {
                self.write_message(room, due_ns)?;
            }
            left -= run;
            if self.publishers.is_some() {
                continue;
            }
            if self.heads.is_empty() {
                self.send(self.rooms.publisher(room))?;
            }
            for at in 0..self.heads.len() {
                self.send(self.heads[at])?;
            }
        }
        Ok(())
    }

    /// Appends the next message of a room to the frames to send, or posts it.
    fn write_message(&mut self, room: u32, due_ns: u64) -> Result<()> {
        let number = &mut self.next[self.rooms.index(room)];
        let label = Label { number: *number, id: self.next_id, room };
        *number += 1;
        self.next_id += 1;
        self.book.depart(label.id, due_ns, self.rooms.members(room));
        let mut payload = [0; MESSAGE_BYTES];
        label.write(&mut payload);
        if let Some(publishers) = &mut self.publishers {
            return publishers.publish(&self.epoll, room, &payload);
        }
        self.plan.dialect.publish(&mut self.frames, room, &payload);
        Ok(())
    }

    fn send(&mut self, publisher: usize) -> Result<()> {
        while self.connections[publisher].unsent_bytes() > UNSENT_BYTES_MAX {
            self.pump(1_000_000)?;
        }
        let Self { connections, frames, epoll, .. } = self;
        connections[publisher].send(frames, epoll).context("the publishing connection")
    }
}
