//! The clients: many WebSocket subscribers in one process on one epoll, driven by orders.
//!
//! Orders are lines on standard input, answers lines of JSON (see [`order`]). Between orders the
//! process goes on serving its connections: it answers pings and, when asked to watch, reconnects
//! what was closed. The first connection also publishes, so that publishing and receiving share a
//! clock and a thread, and nothing else of the client side runs on this core.
//!
//! Deliberately absent: CPU accounting (the coordinator reads it from outside) and judging. One
//! thread. Tested by the scenarios: a client that miscounts shows as loss.

mod connection;
pub mod order;

pub use order::{SwarmHandle, Tally};

use crate::histogram::Latencies;
use crate::machine::now_ns;
use anyhow::{Context, Result, bail};
use clap::Args;
use connection::{Connection, Outcome, Plan};
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use std::io::{BufRead, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;

/// Bytes of a message, with its number and time in front.
pub const MESSAGE_BYTES: usize = 128;
/// Head of an unmasked frame of such a message, whose length takes two bytes more.
pub const FRAME_BYTES: usize = MESSAGE_BYTES + 4;

/// Connections that are being opened at a time: the server's accept queue must not overflow.
const OPENING_MAX: usize = 256;
/// How long a round may take before what is missing counts as lost.
const ROUND_TIMEOUT_NS: u64 = 30_000_000_000;

const STDIN: u64 = u64::MAX;

/// Arguments of the process.
#[derive(Debug, Clone, Args)]
pub struct SwarmArgs {
    /// Where to connect.
    #[arg(long)]
    target: SocketAddr,
    /// How many connections.
    #[arg(long)]
    connections: usize,
    /// The channel to subscribe to and to publish on.
    #[arg(long, default_value = "bench")]
    channel: String,
    /// Messages in envelopes, with positions, so that a cut connection resumes.
    #[arg(long)]
    envelope: bool,
    /// No WebSocket: bytes of this many per message, ordered over this control address.
    #[arg(long)]
    trigger: Option<SocketAddr>,
    /// Frame bytes per message without WebSocket.
    #[arg(long, default_value_t = FRAME_BYTES)]
    frame_bytes: usize,
}

struct Swarm {
    plan: Plan,
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
    connections: Vec<Connection>,
    /// Connections that subscribe or are done opening; the rest is opened by and by.
    opening: usize,
    open: usize,
    /// Closed connections that come back, and when.
    returning: Vec<(u64, usize)>,
    trigger: Option<TcpStream>,
    buffer: Vec<u8>,
    scratch: Vec<u8>,
    tally: Tally,
    latencies: Latencies,
    /// Number of the next message.
    next: u64,
    watching: bool,
    jitter: u64,
    stdin_ready: bool,
}

/// The process.
pub fn run(args: &SwarmArgs) -> Result<()> {
    crate::machine::raise_descriptors();
    let mut swarm = Swarm::new(args)?;
    swarm.connect_all(args.connections)?;
    let stdin = std::io::stdin();
    epoll::add(&swarm.epoll, &stdin, epoll::EventData::new_u64(STDIN), epoll::EventFlags::IN)?;
    order::say(&order::Ready { connections: swarm.open })?;
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
        Ok(Self {
            plan: Plan {
                target: args.target,
                path: format!("/v1/channels/{}/ws", args.channel),
                envelope: args.envelope,
                raw_frame_bytes: trigger.is_some().then_some(args.frame_bytes),
            },
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(1_024),
            connections: Vec::with_capacity(args.connections),
            opening: 0,
            open: 0,
            returning: Vec::new(),
            trigger,
            buffer: vec![0; 256 << 10],
            scratch: Vec::new(),
            tally: Tally::default(),
            latencies: Latencies::new(),
            next: 0,
            watching: false,
            jitter: 0x9e37_79b9_7f4a_7c15,
            stdin_ready: false,
        })
    }

    fn connect_all(&mut self, count: usize) -> Result<()> {
        let start = now_ns();
        while self.open < count {
            while self.connections.len() < count && self.opening < OPENING_MAX {
                let index = self.connections.len();
                let connection = Connection::open(&self.plan, index, &self.epoll)
                    .context("cannot connect; are there descriptors and ports left?")?;
                self.connections.push(connection);
                self.opening += 1;
            }
            self.pump(100_000_000)?;
            if self.tally.closed > 0 || now_ns() - start > 120_000_000_000 {
                bail!("{} of {count} connected, {} were closed", self.open, self.tally.closed);
            }
        }
        Ok(())
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
                index => self.ready(index as usize),
            }
        }
        if !self.returning.is_empty() {
            self.return_closed()?;
        }
        Ok(())
    }

    fn ready(&mut self, index: usize) {
        let Self { connections, plan, epoll, buffer, scratch, tally, latencies, .. } = self;
        let connection = &mut connections[index];
        match connection.ready(plan, index, epoll, buffer, scratch, tally, latencies) {
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
                    self.tally.cuts += u64::from(was_open);
                    let wait_ns = 50_000_000 + self.random() % 400_000_000;
                    self.returning.push((now_ns() + wait_ns, index));
                } else {
                    self.tally.closed += 1;
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

    fn carry_out(&mut self, line: &str) -> Result<()> {
        let mut words = line.split(' ');
        let name = words.next().unwrap_or_default();
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok());
        match (name, number(), number()) {
            ("rounds", Some(rounds), Some(burst)) => self.rounds(rounds, burst)?,
            ("rate", Some(per_s), Some(seconds)) => self.rate(per_s, seconds)?,
            ("watch", _, _) => {
                self.watching = true;
                return order::say(&order::Ready { connections: self.open });
            }
            ("until", Some(last), _) => self.until(last)?,
            _ => bail!("no such order: {line}"),
        }
        let mut tally = std::mem::take(&mut self.tally);
        tally.latency = std::mem::replace(&mut self.latencies, Latencies::new()).quantiles();
        tally.open = self.open as u64;
        order::say(&tally)
    }

    /// Publishes, waits until everybody has it, and again.
    fn rounds(&mut self, rounds: u64, burst: u64) -> Result<()> {
        let start = now_ns();
        for _ in 0..rounds {
            self.publish(burst, now_ns())?;
            self.tally.expected += burst * self.connections.len() as u64;
            let began = now_ns();
            while self.tally.received < self.tally.expected && self.tally.closed == 0 {
                self.pump(100_000_000)?;
                if now_ns() - began > ROUND_TIMEOUT_NS {
                    self.tally.wall_ns = now_ns() - start;
                    return Ok(());
                }
            }
        }
        self.tally.wall_ns = now_ns() - start;
        Ok(())
    }

    /// Publishes at a fixed rate, whatever comes back; latency counts from the intended time.
    fn rate(&mut self, per_s: u64, seconds: u64) -> Result<()> {
        let interval = 1_000_000_000 / per_s.max(1);
        let start = now_ns();
        for message in 0..per_s * seconds {
            let due = start + message * interval;
            loop {
                let now = now_ns();
                if now >= due {
                    break;
                }
                self.pump(due - now)?;
            }
            self.publish(1, due)?;
            self.tally.expected += self.connections.len() as u64;
            self.pump(0)?;
        }
        self.tally.wall_ns = now_ns() - start;
        let end = now_ns();
        while self.tally.received < self.tally.expected && now_ns() - end < 5_000_000_000 {
            self.pump(100_000_000)?;
        }
        Ok(())
    }

    /// Serves until everybody has had the message of that number.
    fn until(&mut self, last: u64) -> Result<()> {
        let start = now_ns();
        let waits = |connection: &Connection| connection.next <= last;
        while self.connections.iter().any(waits) && now_ns() - start < 60_000_000_000 {
            self.pump(50_000_000)?;
        }
        // What would be doubled comes right behind.
        let end = now_ns();
        while now_ns() - end < 500_000_000 {
            self.pump(100_000_000)?;
        }
        self.tally.expected = (last + 1) * self.connections.len() as u64;
        self.tally.behind = self.connections.iter().filter(|c| waits(c)).count() as u64;
        Ok(())
    }

    fn publish(&mut self, burst: u64, stamp_ns: u64) -> Result<()> {
        if let Some(trigger) = &mut self.trigger {
            self.next += burst;
            trigger.write_all(&[1])?;
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(256 * burst as usize);
        for _ in 0..burst {
            let payload = message(self.next, stamp_ns);
            self.next += 1;
            let mask = Some([0x5a, 0xc3, 0x17, 0x88]);
            proto::ws::write_frame_with(&mut bytes, proto::ws::Opcode::Text, true, mask, &payload);
        }
        let mut at = 0;
        while at < bytes.len() {
            let Some(socket) = self.connections[0].socket() else {
                bail!("the publisher was closed")
            };
            match send(socket, &bytes[at..], SendFlags::NOSIGNAL) {
                Ok(sent) => at += sent,
                Err(Errno::AGAIN) => self.pump(1_000_000)?,
                Err(errno) => return Err(errno).context("the publishing connection"),
            }
        }
        Ok(())
    }
}

/// The payload of a message: number, time, filling.
pub fn message(number: u64, stamp_ns: u64) -> Vec<u8> {
    let mut payload = format!("{number:016x}{stamp_ns:016x}").into_bytes();
    payload.resize(MESSAGE_BYTES, b'.');
    payload
}
