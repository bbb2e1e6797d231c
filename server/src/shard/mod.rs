//! The shard: everything a thread owns, as a pure state machine.
//!
//! A turn is: `begin(now)`, any number of inputs (`accepted`, `received`, `receive_ended`,
//! `send_stopped`, `send_armed_done`, `closed`), `run`, `flush`. The flush leaves [`Command`]s and
//! [`Send`]s for the reactor and a mask of shards to wake; nothing else comes out. Inside there is
//! no I/O, clock, thread or log, so the same code runs under a ring, under epoll and in the
//! simulated world, and every fault has a replay.
//!
//! Where things are: `session*` bytes to meaning, `http/` routes, `publish` requests that bring
//! events, `homeside` + `home/` ordering and history, `presence` + `members` who is there,
//! `delivery` + `channels` subscriptions, `frames` + `outbox` + `flush` what goes out, `ending` how
//! connections end, `timers` deadlines, `snapshot` counters and the ledger.
//!
//! Invariants: one `Send` per connection and turn, none while a `SendArmed` is under way; every
//! queue here is bounded by a limit of `config::limits` or a constant that says what full means.

mod access;
mod aggregates;
pub mod api;
mod channels;
pub mod client;
mod coders;
mod connection;
mod cursor;
mod delivery;
mod doing;
mod ending;
mod fanout;
pub mod floods;
mod flush;
mod format;
mod frames;
pub mod home;
mod homeside;
pub mod http;
mod members;
mod notices;
mod outbox;
mod presence;
mod publish;
mod reads;
mod report;
mod session;
mod session_http1;
mod session_http2;
mod session_ws;
mod settings;
mod snapshot;
mod store;
mod streams;
#[cfg(test)]
mod tests;
mod timers;
pub mod wheel;

pub use report::ConnectionReport;
pub use settings::{Page, PageFile, Settings};
pub use store::QueryStore;

use crate::driver::{ConnId, ReceiveMode, SendStop};
use crate::mesh::{Ask, MeshEnd, Place, ShardId, SubscriptionToken};
use crate::metrics::{DropReason, ShardSnapshot};
use bytes::Bytes;
use channels::LocalChannels;
use connection::{Connection, Connections, EndpointId, Stamp, Tls};
use frames::TurnFrames;
use home::Home;
use homeside::HomeSide;
use members::Members;
use proto::decode::IdSource;
use proto::reason::CloseReason;
use proto::ws::deflate::Inflater;
use publish::Publishes;
use session::Session;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use storage::StorageRing;
use streams::Streams;
use wheel::Wheel;

/// The time of a turn. Both are given from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Monotonic milliseconds.
    pub ms: u64,
    /// Microseconds since the Unix epoch; may jump.
    pub wall_us: i64,
}

/// What the reactor does for the shard, in order, before the sends.
#[derive(Debug)]
pub enum Command {
    /// Start receiving in a mode.
    Arm(ConnId, ReceiveMode),
    /// Stop receiving.
    Disarm(ConnId),
    /// Send completely, however long it takes.
    SendArmed(ConnId, Bytes),
    /// Half-close.
    ShutdownSend(ConnId),
    /// Close.
    Close(ConnId),
}

/// One connection's bytes of a turn.
#[derive(Debug, Clone)]
pub struct Send {
    /// To whom.
    pub conn: ConnId,
    /// What.
    pub bytes: Bytes,
}

/// What a shard needs from outside when it is built.
pub struct Parts {
    /// Which one it is.
    pub id: ShardId,
    /// The distilled configuration.
    pub settings: Arc<Settings>,
    /// Its end of the mesh.
    pub mesh: MeshEnd,
    /// Its channels, restored.
    pub home: Home,
    /// The way to the spool and back.
    pub ring: Arc<StorageRing>,
    /// What answers queries over stored events.
    pub store: Option<Arc<dyn QueryStore>>,
    /// Seeds hashing and ids.
    pub seed: u64,
    /// Where secrets come from.
    pub secrets: Secrets,
}

/// Random bits that nobody guesses: the system's.
pub type Secrets = Box<dyn FnMut() -> u128 + std::marker::Send>;

/// One shard.
pub struct Shard {
    id: ShardId,
    settings: Arc<Settings>,
    now: Now,
    /// When it was made, monotonic milliseconds.
    started_ms: u64,
    connections: Connections,
    streams: Streams,
    callers: access::Callers,
    local: LocalChannels,
    home: Home,
    homeside: HomeSide,
    members: Members,
    mesh: MeshEnd,
    ring: Arc<StorageRing>,
    store: Option<Arc<dyn QueryStore>>,
    reads: reads::Reads,
    calls: api::Calls,
    surveys: api::survey::Surveys,
    emulations: client::Emulations,
    secrets: Secrets,
    aggregates: aggregates::Aggregates,
    recoveries: client::Recoveries,
    /// Answers to reads that must not be given while their session is at work.
    deferred: Vec<(u64, http::Response)>,
    publishes: Publishes,
    ids: IdSource,
    frames: TurnFrames,
    /// Connections and streams with something to flush. Repeats are harmless.
    dirty: Vec<u32>,
    dirty_streams: Vec<u32>,
    /// Acceptance times and recipients of the events delivered this turn.
    delivered: Vec<(i64, u64)>,
    sends: Vec<Send>,
    commands: Vec<Command>,
    /// Asks that found their lane full.
    asks: VecDeque<(ShardId, Ask)>,
    /// Events of a delivery that were too many for the turn, and where to go on.
    undelivered: Option<(Vec<proto::event::Event>, usize)>,
    /// What was taken off the lane behind them.
    postponed: Option<crate::mesh::Deliver>,
    /// What the last flush copied, see `flush`.
    copied_bytes: usize,
    /// Whose deliver lane is looked at first next turn.
    deliver_peer: usize,
    catching_up: Vec<SubscriptionToken>,
    /// HTTP/1.1 connections and clients that can go on with what they had received already.
    resumable: Vec<Place>,
    /// Connections whose last bytes were sent this turn.
    flushing: Vec<ConnId>,
    /// Connections whose HTTP/2 session has ended.
    http2_over: Vec<ConnId>,
    /// Connections to flush again next turn.
    again: Vec<u32>,
    /// Frames that came after their connection's attempt of the turn, or found no room in it.
    carried: Vec<(EndpointId, u32, frames::Frame)>,
    /// Who found no room in the turn's copies.
    kept: flush::Kept,
    h2_connections: u32,
    /// Unfinished input of all connections.
    partial_bytes: usize,
    /// When the sum of all outboxes is looked at next, milliseconds.
    shed_at_ms: u64,
    /// The outboxes hold more than their pool: no new subscribers until they do not.
    overloaded: bool,
    wheel: Wheel,
    due: Vec<u32>,
    plain: Vec<u8>,
    /// Scratch of the WebSocket decoder.
    plain_ws: Vec<u8>,
    /// Expands compressed WebSocket messages, of whichever connection.
    inflater: Inflater,
    random: u64,
    drain: Option<ending::Drain>,
    ready: bool,
    stats: ShardSnapshot,
}

impl Shard {
    /// A shard without connections.
    pub fn new(parts: Parts, now: Now) -> Self {
        let Parts { id, settings, mesh, home, ring, store, seed, secrets } = parts;
        Self {
            id,
            now,
            connections: Connections::default(),
            streams: Streams::default(),
            callers: access::Callers::default(),
            local: LocalChannels::new(seed),
            home,
            homeside: HomeSide::new(),
            members: Members::new(
                seed,
                settings.limits.presence_members_max,
                settings.presence_pool_bytes,
            ),
            publishes: Publishes::default(),
            ids: IdSource::new([seed ^ u64::from(id.0), seed.rotate_left(32)]),
            mesh,
            ring,
            store,
            reads: reads::Reads::default(),
            calls: api::Calls::default(),
            surveys: api::survey::Surveys::default(),
            emulations: client::Emulations::default(),
            secrets,
            started_ms: now.ms,
            aggregates: aggregates::Aggregates::default(),
            recoveries: client::Recoveries::default(),
            deferred: Vec::new(),
            frames: TurnFrames::new(coders::Coders::new(
                settings.limits.ws_deflate_bytes_min,
                settings.limits.message_bytes_max,
            )),
            dirty: Vec::new(),
            dirty_streams: Vec::new(),
            delivered: Vec::new(),
            sends: Vec::new(),
            commands: Vec::new(),
            asks: VecDeque::new(),
            undelivered: None,
            postponed: None,
            copied_bytes: 0,
            deliver_peer: 0,
            catching_up: Vec::new(),
            resumable: Vec::new(),
            flushing: Vec::new(),
            http2_over: Vec::new(),
            again: Vec::new(),
            carried: Vec::new(),
            kept: flush::Kept::default(),
            h2_connections: 0,
            partial_bytes: 0,
            shed_at_ms: 0,
            overloaded: false,
            wheel: Wheel::new(now.ms),
            due: Vec::new(),
            plain: Vec::new(),
            plain_ws: Vec::new(),
            inflater: Inflater::default(),
            random: seed | 1,
            drain: None,
            ready: false,
            stats: ShardSnapshot::default(),
            settings,
        }
    }

    /// Begins a turn.
    pub fn begin(&mut self, now: Now) {
        self.now = now;
        self.publishes.begin_turn();
        self.ids.set_now_ms((now.wall_us / 1_000).max(0) as u64);
    }

    /// A connection was accepted; without its peer's address it counts for none.
    pub fn accepted(&mut self, conn: ConnId, peer: Option<IpAddr>) {
        self.stats.counters.connections_established += 1;
        let address = self.settings.addresses.key(peer);
        let tls = self.settings.tls.as_ref().map(|config| {
            Box::new(Tls { session: proto::tls::TlsSession::new(config), pending: Vec::new() })
        });
        let deadline_ms = self.now.ms + u64::from(self.settings.limits.head_timeout_s) * 1_000;
        let now = Stamp::at(self.now.ms);
        self.connections.insert(Connection {
            id: conn,
            address,
            outbox: outbox::Outbox::default(),
            session: Session::fresh(&self.settings),
            tls,
            subscriber: None,
            heard: now,
            said: now,
            accepted: now,
            closing: None,
            end: connection::End::Open,
            receive_paused: false,
            sent_bytes: 0,
            dropped_events: 0,
            partial_bytes: 0,
            peer_done: false,
            chatty: false,
        });
        self.wheel.schedule(conn.slot, deadline_ms);
        self.commands.push(Command::Arm(conn, ReceiveMode::Poll));
        if self.connections.len() > self.settings.connections_max as usize {
            self.stats.counters.connections_rejected += 1;
            let text = "the server holds as many connections as it may; try again later";
            let response = http::Response::error(503, "too_many_connections", text);
            self.refuse_connection(conn, &response);
            return;
        }
        let connects_max = self.settings.limits.address_connects_per_s_max;
        if !self.settings.addresses.connects(address, self.now.ms, connects_max) {
            self.stats.counters.connections_rejected += 1;
            self.stats.counters.floods_connects += 1;
            let text = "too many connections from this address; come back in a few seconds";
            let response = http::Response::error(429, "too_many_connects", text);
            self.refuse_connection(conn, &response);
        }
    }

    /// Bytes arrived.
    pub fn received(&mut self, conn: ConnId, bytes: &[u8]) {
        self.stats.counters.bytes_received += bytes.len() as u64;
        let Some(connection) = self.connections.get(conn) else { return };
        connection.heard = Stamp::at(self.now.ms);
        if connection.tls.is_none() {
            self.process(conn, bytes);
            return;
        }
        let mut plain = std::mem::take(&mut self.plain);
        plain.clear();
        let outcome = self.decrypt(conn, bytes, &mut plain);
        self.process(conn, &plain);
        plain.shrink_to(256 << 10);
        self.plain = plain;
        match outcome {
            Ok(false) => {}
            Ok(true) => self.receive_ended(conn, None),
            Err(()) => self.end_connection(conn, CloseReason::ProtocolError),
        }
    }

    /// Decrypts; `Ok(true)` when the peer said it will send no more.
    fn decrypt(&mut self, conn: ConnId, bytes: &[u8], plain: &mut Vec<u8>) -> Result<bool, ()> {
        let Some(connection) = self.connections.get(conn) else { return Ok(false) };
        let Some(tls) = &mut connection.tls else { return Ok(false) };
        let progress = tls.session.feed(bytes, plain, &mut tls.pending);
        if !tls.pending.is_empty() {
            self.dirty.push(conn.slot);
        }
        match progress {
            Ok(progress) => Ok(progress.peer_closed),
            Err(_) => {
                self.stats.counters.connections_failed += 1;
                self.stats.counters.tls_errors += 1;
                Err(())
            }
        }
    }

    /// The peer sends no more, or receiving failed.
    pub fn receive_ended(&mut self, conn: ConnId, errno: Option<i32>) {
        let Some(connection) = self.connections.get(conn) else { return };
        connection.peer_done = true;
        if errno.is_some() || connection.end == connection::End::Lingering {
            self.close_now(conn);
            return;
        }
        self.peer_finished(conn);
    }

    /// An attempt of the last flush stopped short.
    pub fn send_stopped(&mut self, conn: ConnId, sent: u32, stop: SendStop) {
        let now = self.now.ms;
        let Some(connection) = self.connections.get(conn) else { return };
        let send = self.sends.get(connection.outbox.attempt as usize);
        let send = send.filter(|send| send.conn == conn);
        let send = send.expect("a send stopped that was not attempted this turn");
        match stop {
            SendStop::Gone(_) => {
                self.stats.dropped(DropReason::PeerGone, 1);
                self.close_now(conn);
            }
            SendStop::Full => {
                let rest = send.bytes.slice(sent as usize..);
                connection.outbox.block(rest.len(), now);
                self.stats.counters.sends_blocked += 1;
                self.commands.push(Command::SendArmed(conn, rest));
            }
        }
    }

    /// A complete send ended.
    pub fn send_armed_done(&mut self, conn: ConnId, result: Result<(), i32>) {
        let Some(connection) = self.connections.get(conn) else { return };
        if let Some(backlog) = &mut connection.outbox.backlog {
            backlog.armed_done();
        }
        match result {
            Ok(()) => self.drain_backlog(conn),
            Err(_) => {
                self.stats.dropped(DropReason::PeerGone, 1);
                self.close_now(conn);
            }
        }
    }

    /// The driver is done with a connection.
    pub fn closed(&mut self, conn: ConnId) {
        // Whatever closed it, its subscriptions and requests must not outlive it.
        self.detach(conn);
        self.wheel.cancel(conn.slot);
        if let Some(connection) = self.connections.remove(conn) {
            let unsent = connection.outbox.queued_bytes() > 0;
            if unsent && connection.closing == Some(CloseReason::Shutdown) {
                self.stats.dropped(DropReason::ShutdownUnsent, 1);
            }
            self.partial_bytes -= connection.partial_bytes as usize;
            self.stats.counters.connections_closed += 1;
            let lived_ms = self.now.ms.saturating_sub(connection.accepted.ms());
            self.stats.connection_duration.observe(lived_ms);
        }
    }

    /// Lanes, timers, storage acknowledgements, parked requests. Bounded work; call again next
    /// turn.
    pub fn run(&mut self) {
        self.run_timers();
        self.finish_flushed();
        self.run_http2_over();
        self.run_acks();
        self.run_home();
        self.run_surveys();
        self.run_deliveries();
        self.run_answers();
        self.run_history();
        self.run_parked();
        self.run_storing();
        self.run_resumable();
        self.run_asks();
        self.run_catching_up();
        self.run_drain();
        self.run_shedding();
    }

    /// True if there is work that no input announces: the reactor must not sleep.
    pub fn has_work(&self) -> bool {
        self.lanes_have_work()
            || self.undelivered.is_some()
            || !self.resumable.is_empty()
            || !self.flushing.is_empty()
            || !self.dirty.is_empty()
            || !self.dirty_streams.is_empty()
            || !self.http2_over.is_empty()
            || self.publishes.has_yielded()
            || !self.deferred.is_empty()
            || self.surveys.has_work()
            || self.homeside.has_releases(self.ring.synced_seq(self.id.0), self.ring.state())
    }

    /// When the shard wants to run at the latest, monotonic milliseconds.
    pub fn deadline_ms(&self) -> Option<u64> {
        let mut deadline = self.wheel.next_deadline();
        let mut sooner = |at: u64| deadline = Some(deadline.map_or(at, |other| other.min(at)));
        if let Some(deadline_ms) = self.aggregates.deadline_ms() {
            sooner(deadline_ms);
        }
        if let Some(at) = self.recoveries.deadline_ms() {
            sooner(at);
        }
        if self.publishes.has_parked() || !self.asks.is_empty() || self.reads.refused {
            sooner(self.now.ms + 5);
        }
        if let Some(at) = self.publishes.storing_deadline_ms() {
            sooner(at);
        }
        if let Some(at) = self.publishes.lingering_deadline_ms() {
            sooner(at);
        }
        if let Some(drain) = &self.drain {
            sooner(drain.next_ms());
        }
        deadline
    }

    /// The sends of this turn. They stay until the next flush: a stopped one is looked up here.
    pub fn sends(&self) -> &[Send] {
        &self.sends
    }

    /// The commands since the last call, in order.
    pub fn take_commands(&mut self) -> Vec<Command> {
        std::mem::take(&mut self.commands)
    }

    /// Gives the emptied list back, so that its memory is reused.
    pub fn return_commands(&mut self, mut commands: Vec<Command>) {
        if self.commands.is_empty() {
            commands.clear();
            commands.shrink_to(1_024);
            self.commands = commands;
        }
    }

    /// Shards to wake, as a bit mask.
    pub fn take_wakes(&mut self) -> u64 {
        self.mesh.take_wakes()
    }

    /// Connections held.
    pub fn connection_count(&self) -> usize {
        self.connections.len()
    }

    /// Which shard this is.
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// A connection was closed at accept because every slot was taken.
    pub fn refused(&mut self) {
        self.stats.counters.connections_rejected += 1;
    }

    /// A connection was given to another shard.
    pub fn handed_on(&mut self) {
        self.stats.counters.connections_handed_on += 1;
    }

    /// From here on `/health/ready` says so.
    pub fn set_ready(&mut self, ready: bool) {
        self.ready = ready;
    }

    /// A number for jitter; not for secrets (xorshift64).
    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    /// Gathers bytes that no policy may drop.
    fn say(&mut self, endpoint: EndpointId, bytes: impl Into<Bytes>) {
        let frame = self.frames.add(bytes.into(), frames::Mark::Control);
        self.gather(endpoint, frame);
    }
}
