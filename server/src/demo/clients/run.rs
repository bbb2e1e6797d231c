//! Sockets and time for the clients: one epoll set, one thread.

use super::ClientsArgs;
use super::client::{Client, Surroundings};
use super::latency::Window;
use super::message::Messages;
use super::report::{Order, PeerReport, Report, Round, Totals};
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A client and its socket.
struct Slot {
    client: Client,
    fd: Option<OwnedFd>,
    /// The socket connects.
    connecting: bool,
    /// When the connection was begun.
    since_ms: u64,
    /// Attempts in a row that brought no subscription.
    failures: u32,
}

/// Everything.
pub(super) struct Run {
    server: SocketAddr,
    host: String,
    /// The clients' channels; the last one is that of the two peers.
    channels: Vec<String>,
    /// The clients, then the fast peer, then the slow one.
    slots: Vec<Slot>,
    clients: usize,
    epoll: OwnedFd,
    /// Who connects when.
    due: BinaryHeap<Reverse<(u64, usize)>>,
    messages: Messages,
    window: Window,
    latency_us: [Option<u64>; 2],
    round: u32,
    round_of: u32,
    round_began: Totals,
    expected: BTreeMap<String, u64>,
    orders: Vec<u8>,
    slow_bytes_per_s: u32,
    slow_read_ms: u64,
    buffer: Vec<u8>,
    scratch: Vec<u8>,
    random: RandomState,
    drawn: u64,
    started: Instant,
}

impl Run {
    pub(super) fn new(args: &ClientsArgs) -> io::Result<Self> {
        raise_descriptors();
        let mut channels = args.channels.clone();
        channels.push(args.peers.clone());
        let clients = args.clients as usize;
        let peer = channels.len() as u16 - 1;
        let spread = |index: usize| (index % args.channels.len()) as u16;
        let of = (0..clients).map(spread).chain([peer, peer]);
        let slots = of.map(|channel| Slot {
            client: Client::new(channel),
            fd: None,
            connecting: false,
            since_ms: 0,
            failures: 0,
        });
        let slots: Vec<_> = slots.collect();
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let input = epoll::EventData::new_u64(INPUT);
        epoll::add(&epoll, io::stdin(), input, epoll::EventFlags::IN)?;
        let due = (0..slots.len()).map(|at| Reverse((at as u64 * 1_000 / RAMP_PER_S, at)));
        Ok(Self {
            server: args.server,
            host: args.server.to_string(),
            due: due.collect(),
            messages: Messages::new(channels.len()),
            channels,
            slots,
            clients,
            epoll,
            window: Window::new(0),
            latency_us: [None; 2],
            round: 0,
            round_of: 0,
            round_began: Totals::default(),
            expected: BTreeMap::new(),
            orders: Vec::new(),
            slow_bytes_per_s: args.slow_bytes_per_s,
            slow_read_ms: 0,
            buffer: vec![0; 64 << 10],
            scratch: Vec::new(),
            random: RandomState::new(),
            drawn: 0,
            started: Instant::now(),
        })
    }

    /// Turns until standard input ends.
    pub(super) fn run(&mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(EVENTS_PER_TURN);
        let mut report_ms = 0;
        loop {
            let now = self.now_ms();
            self.connect_due(now);
            self.read_slowly(now);
            if now >= report_ms {
                report_ms = now + REPORT_MS;
                self.drop_stuck(now);
                self.window.advance(now);
                if !self.say() {
                    return Ok(());
                }
            }
            let next = self.due.peek().map_or(report_ms, |Reverse((at, _))| *at);
            let wait = next.min(now + SLOW_TICK_MS).min(report_ms).saturating_sub(now);
            let wait = Timespec { tv_sec: 0, tv_nsec: (wait * 1_000_000) as _ };
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&wait))
            {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in events.drain(..) {
                match { event.data }.u64() {
                    INPUT if !self.read_orders()? => return Ok(()),
                    INPUT => {}
                    slot => self.ready(slot as usize),
                }
            }
        }
    }

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        self.random.hash_one(self.drawn)
    }

    fn connect_due(&mut self, now: u64) {
        for _ in 0..CONNECTS_PER_TURN {
            match self.due.peek() {
                Some(Reverse((at, _))) if *at <= now => {}
                _ => return,
            }
            let Some(Reverse((_, slot))) = self.due.pop() else { return };
            if self.connect(slot, now).is_err() {
                self.again(slot);
            }
        }
    }

    fn connect(&mut self, slot: usize, now: u64) -> rustix::io::Result<()> {
        let family = match self.server {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let fd = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        if self.server.ip().is_loopback() && self.server.is_ipv4() {
            // One address has about 28,000 ports: many addresses make room for many clients.
            let host = 2 + (slot % SOURCE_ADDRESSES) as u8;
            rustix::net::bind(&fd, &SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, host), 0))?;
        }
        if self.is_slow(slot) {
            // What the kernel would read ahead is not read slowly.
            sockopt::set_socket_recv_buffer_size(&fd, SLOW_SOCKET_BYTES)?;
        }
        match rustix::net::connect(&fd, &self.server) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error),
        }
        let data = epoll::EventData::new_u64(slot as u64);
        epoll::add(&self.epoll, &fd, data, epoll::EventFlags::OUT)?;
        let slot = &mut self.slots[slot];
        slot.fd = Some(fd);
        slot.connecting = true;
        slot.since_ms = now;
        Ok(())
    }

    fn is_slow(&self, slot: usize) -> bool {
        slot == self.clients + 1
    }

    fn ready(&mut self, at: usize) {
        let outcome = match self.slots[at].connecting {
            true => self.connected(at),
            false => self.receive(at, usize::MAX),
        };
        if outcome.is_err() {
            self.cut(at);
        }
    }

    /// The socket connected, or not: sends the request.
    fn connected(&mut self, at: usize) -> rustix::io::Result<()> {
        let mut request = Vec::with_capacity(512);
        let (high, low) = (self.draw().to_le_bytes(), self.draw().to_le_bytes());
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&high);
        nonce[8..].copy_from_slice(&low);
        let slow = self.is_slow(at);
        let slot = &mut self.slots[at];
        let Some(fd) = &slot.fd else { return Ok(()) };
        sockopt::socket_error(fd)??;
        slot.connecting = false;
        let channel = &self.channels[usize::from(slot.client.channel)];
        slot.client.open(&self.host, channel, nonce, &mut request);
        if rustix::net::send(fd, &request, SendFlags::NOSIGNAL)? < request.len() {
            return Err(Errno::AGAIN);
        }
        // The slow one is read on a timer, never because there is something to read.
        let wanted = if slow { epoll::EventFlags::empty() } else { epoll::EventFlags::IN };
        epoll::modify(&self.epoll, fd, epoll::EventData::new_u64(at as u64), wanted)
    }

    fn receive(&mut self, at: usize, bytes_max: usize) -> rustix::io::Result<()> {
        let mask = (self.draw() as u32).to_le_bytes();
        let slot = &mut self.slots[at];
        let Some(fd) = &slot.fd else { return Ok(()) };
        let room = bytes_max.min(self.buffer.len());
        let (count, _) = match rustix::net::recv(fd, &mut self.buffer[..room], RecvFlags::empty()) {
            Ok((0, _)) => return Err(Errno::PIPE),
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            outcome => outcome?,
        };
        let now_us =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as i64);
        let peer = at.checked_sub(self.clients);
        let (window, latency_us) = (&mut self.window, &mut self.latency_us);
        let mut out = Vec::new();
        let mut around = Surroundings {
            messages: &mut self.messages,
            scratch: &mut self.scratch,
            out: &mut out,
            mask,
            on_event: &mut |made_us| {
                let took_us = (now_us - made_us).max(0) as u64;
                match peer {
                    None => window.add(took_us),
                    Some(peer) => latency_us[peer] = Some(took_us),
                }
            },
        };
        let taken = slot.client.receive(&self.buffer[..count], &mut around);
        taken.map_err(|_| Errno::PIPE)?;
        if slot.client.is_subscribed() {
            slot.failures = 0;
        }
        // A pong is a few bytes; a socket that cannot take them belongs to a server that is stuck.
        if !out.is_empty() && rustix::net::send(fd, &out, SendFlags::NOSIGNAL)? < out.len() {
            return Err(Errno::AGAIN);
        }
        Ok(())
    }

    /// Reads for the slow client what it is allowed, however much there is.
    fn read_slowly(&mut self, now: u64) {
        let allowed = (now - self.slow_read_ms) * u64::from(self.slow_bytes_per_s) / 1_000;
        if allowed == 0 || now - self.slow_read_ms < SLOW_TICK_MS {
            return;
        }
        self.slow_read_ms = now;
        let slow = self.clients + 1;
        if !self.slots[slow].connecting && self.receive(slow, allowed as usize).is_err() {
            self.cut(slow);
        }
    }

    fn cut(&mut self, at: usize) {
        let slot = &mut self.slots[at];
        slot.fd = None;
        slot.connecting = false;
        slot.client.cut();
        self.again(at);
        // The kernel would feed the slow client for minutes from a server that is gone; like any
        // client that checks its connection, it notices when the others do.
        if at == self.clients && self.slots[self.clients + 1].fd.is_some() {
            self.cut(self.clients + 1);
        }
    }

    /// Comes back later, at a random time, so that not everybody comes at once.
    fn again(&mut self, at: usize) {
        let random = self.draw();
        let slot = &mut self.slots[at];
        let spread = BACK_MS << slot.failures.min(2);
        slot.failures += 1;
        self.due.push(Reverse((self.now_ms() + BACK_MS_MIN + random % spread, at)));
    }

    /// Cuts connections that got no subscription in time.
    fn drop_stuck(&mut self, now: u64) {
        for at in 0..self.slots.len() {
            let slot = &self.slots[at];
            let stuck = slot.fd.is_some() && !slot.client.is_subscribed();
            if stuck && now - slot.since_ms > STUCK_MS && !self.is_slow(at) {
                self.cut(at);
            }
        }
    }

    /// Takes orders; false at the end of the input.
    fn read_orders(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 4_096];
        let count = match rustix::io::read(io::stdin(), &mut buffer) {
            Err(Errno::INTR) => return Ok(true),
            outcome => outcome?,
        };
        self.orders.extend_from_slice(&buffer[..count]);
        while let Some(end) = self.orders.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.orders.drain(..=end).collect();
            match serde_json::from_slice(&line).map_err(io::Error::other)? {
                Order::Round(number) => self.begin_round(number),
                Order::Expect(expected) => self.expected = expected,
            }
        }
        Ok(count > 0)
    }

    fn begin_round(&mut self, number: u32) {
        self.round = number;
        self.expected.clear();
        let clients = self.slots[..self.clients].iter_mut();
        self.round_of = clients.map(|slot| u32::from(slot.client.begin_round())).sum();
        self.round_began = self.totals();
    }

    fn totals(&self) -> Totals {
        self.slots[..self.clients].iter().fold(Totals::default(), |sum, slot| {
            let own = slot.client.totals;
            Totals {
                delivered: sum.delivered + own.delivered,
                lost: sum.lost + own.lost,
                doubled: sum.doubled + own.doubled,
                gaps: sum.gaps + own.gaps,
                cuts: sum.cuts + own.cuts,
            }
        })
    }

    /// Says where everything stands; false if nobody listens.
    fn say(&self) -> bool {
        let slots = &self.slots[..self.clients];
        let count =
            |is: &dyn Fn(&Slot) -> bool| slots.iter().filter(|slot| is(slot)).count() as u32;
        let expected: Vec<u64> = self
            .channels
            .iter()
            .map(|name| self.expected.get(name).copied().unwrap_or(0))
            .collect();
        let is_behind = |slot: &Slot| {
            let client = &slot.client;
            client.is_in_round() && client.offset() < expected[usize::from(client.channel)]
        };
        let totals = self.totals();
        let report = Report {
            connected: count(&|slot| slot.client.is_subscribed()),
            totals,
            latency: self.window.latency(),
            round: Round {
                number: self.round,
                of: self.round_of,
                resumed: count(&|slot| slot.client.has_resumed()),
                behind: (!self.expected.is_empty()).then(|| count(&is_behind)),
                totals: totals.since(self.round_began),
            },
            fast: self.peer(0),
            slow: self.peer(1),
        };
        let Ok(mut line) = serde_json::to_vec(&report) else { return false };
        line.push(b'\n');
        io::stdout().lock().write_all(&line).is_ok()
    }

    fn peer(&self, which: usize) -> PeerReport {
        let slot = &self.slots[self.clients + which];
        let address = slot.fd.as_ref().and_then(|fd| rustix::net::getsockname(fd).ok());
        let address = address.and_then(|address| SocketAddr::try_from(address).ok());
        PeerReport {
            connected: slot.client.is_subscribed(),
            address: address.map(|address| address.to_string()),
            channel: self.channels[usize::from(slot.client.channel)].clone(),
            offset: slot.client.offset(),
            latency_us: self.latency_us[which],
            totals: slot.client.totals,
        }
    }
}

/// Takes as many descriptors as the system gives.
fn raise_descriptors() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}

/// Standard input among the slots.
const INPUT: u64 = u64::MAX;
const EVENTS_PER_TURN: usize = 1_024;
const CONNECTS_PER_TURN: usize = 128;
/// First connections per second: below what a listener's queue of 4,096 and two cores take easily.
const RAMP_PER_S: u64 = 3_000;
const REPORT_MS: u64 = 500;
const SLOW_TICK_MS: u64 = 100;
/// Doubled by the kernel.
const SLOW_SOCKET_BYTES: usize = 2_048;
const SOURCE_ADDRESSES: usize = 200;
/// A client that was cut comes back after this and a random part of [`BACK_MS`], which doubles
/// twice while the server does not answer.
const BACK_MS_MIN: u64 = 150;
const BACK_MS: u64 = 1_200;
const STUCK_MS: u64 = 15_000;
