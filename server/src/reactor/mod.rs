//! The reactor: one thread's loop between a driver and a shard.
//!
//! A turn: reap what happened, feed it to the shard, let the shard run, flush what it has to say,
//! wait. Nothing is done in direct reaction to an event beyond feeding it; batching and fairness
//! come from that. Lives on a pinned shard thread; static dispatch over the driver. Deliberately
//! absent: protocol and channel logic (the shard's), socket details (the driver's). Tested through
//! the integration tests, on both drivers.

mod clock;
pub mod listeners;

pub use clock::Clock;

use crate::control::{ControlCommand, ControlPort, Readiness, State};
use crate::driver::{Completion, Driver, Waker};
use crate::log;
use crate::mesh::{HandOver, ShardId};
use crate::metrics::{ShardSnapshot, SnapshotSlot};
use crate::shard::{Command, Shard};
use crossbeam_queue::ArrayQueue;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// The longest sleep: snapshots and the sweep of histories want to run.
const SLEEP_MAX_MS: u64 = 500;
/// How often a snapshot is published.
const SNAPSHOT_MS: u64 = 500;
/// A shard hands a fresh connection on when it holds this many more than the emptiest one, and a
/// quarter more: a few heavy publishers may hash onto one core, but nothing is gained by evening
/// out small differences.
const IMBALANCE_MIN: u32 = 8;

/// What a shard thread shares with the others.
pub struct Shared {
    /// How to wake each shard, by index.
    pub wakers: Vec<std::sync::OnceLock<Arc<dyn Waker>>>,
    /// Connections that are handed to each shard.
    pub hand_overs: Vec<ArrayQueue<HandOver>>,
    /// Connections each shard holds, as of its last turn.
    pub loads: Vec<AtomicU32>,
    /// Set once: every shard ends its loop when it has nothing left.
    pub stopping: AtomicBool,
    /// Shards that need nobody any more, one bit each.
    done: AtomicU64,
    /// What `/health/ready` says.
    pub readiness: Arc<Readiness>,
}

impl Shared {
    /// For a number of shards.
    pub fn new(shards: usize, readiness: Arc<Readiness>) -> Self {
        Self {
            wakers: (0..shards).map(|_| std::sync::OnceLock::new()).collect(),
            hand_overs: (0..shards).map(|_| ArrayQueue::new(256)).collect(),
            loads: (0..shards).map(|_| AtomicU32::new(0)).collect(),
            stopping: AtomicBool::new(false),
            done: AtomicU64::new(0),
            readiness,
        }
    }

    /// Says whether a shard still needs the others; `true` once none of them does. Until then every
    /// shard stays, because the channels of the others' requests may live on it.
    pub fn all_done(&self, shard: ShardId, done: bool) -> bool {
        let bit = 1 << shard.0;
        if !done {
            self.done.fetch_and(!bit, Ordering::AcqRel);
            return false;
        }
        let before = self.done.fetch_or(bit, Ordering::AcqRel);
        let all = u64::MAX >> (u64::BITS as usize - self.wakers.len());
        if before | bit == all && before != all {
            self.wake_all();
        }
        before | bit == all
    }

    /// Wakes a shard, if it runs already.
    pub fn wake(&self, shard: usize) {
        if let Some(waker) = self.wakers.get(shard).and_then(|waker| waker.get()) {
            waker.wake();
        }
    }

    /// Wakes every shard.
    pub fn wake_all(&self) {
        (0..self.wakers.len()).for_each(|shard| self.wake(shard));
    }
}

/// One shard thread's loop.
pub struct Reactor<D: Driver> {
    driver: D,
    shard: Shard,
    clock: Clock,
    shared: Arc<Shared>,
    port: Arc<ControlPort>,
    slot: Arc<SnapshotSlot<ShardSnapshot>>,
    drain_time_ms: u64,
    snapshot_at_ms: u64,
    drain_until_ms: Option<u64>,
    accepting: bool,
}

/// How a shard's loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Connections that had to be cut because the drain time was over.
    pub remaining: usize,
}

impl<D: Driver> Reactor<D> {
    /// Puts a shard on a driver.
    pub fn new(
        driver: D,
        shard: Shard,
        clock: Clock,
        shared: Arc<Shared>,
        port: Arc<ControlPort>,
        slot: Arc<SnapshotSlot<ShardSnapshot>>,
        drain_time_ms: u64,
    ) -> Self {
        let waker = driver.waker();
        port.attach(Arc::clone(&waker));
        let _ = shared.wakers[shard.id().index()].set(waker);
        Self {
            driver,
            shard,
            clock,
            shared,
            port,
            slot,
            drain_time_ms,
            snapshot_at_ms: 0,
            drain_until_ms: None,
            accepting: true,
        }
    }

    /// Starts accepting.
    pub fn listen(&mut self, sockets: Vec<OwnedFd>) {
        for socket in sockets {
            self.driver.listen(socket);
        }
    }

    /// Runs until the process stops and nothing is left, or the drain time is over.
    pub fn run(&mut self) -> io::Result<Ended> {
        let mut completions = Vec::with_capacity(1_024);
        loop {
            let timeout = self.timeout();
            self.driver.turn(timeout, &mut completions)?;
            let now = self.clock.now();
            self.shard.begin(now);
            for completion in completions.drain(..) {
                self.feed(completion);
            }
            self.take_hand_overs();
            self.take_commands(now.ms);
            self.shard.set_ready(self.shared.readiness.is_ready());
            self.shard.run();
            self.shard.flush();
            self.apply();
            self.publish_snapshot(now.ms);
            if let Some(ended) = self.ended(now.ms) {
                return Ok(ended);
            }
        }
    }

    fn timeout(&mut self) -> Duration {
        if self.shard.has_work() {
            return Duration::ZERO;
        }
        let now_ms = self.clock.now().ms;
        let wait = self.shard.deadline_ms().map_or(SLEEP_MAX_MS, |at| at.saturating_sub(now_ms));
        Duration::from_millis(wait.min(SLEEP_MAX_MS))
    }

    fn feed(&mut self, completion: Completion) {
        match completion {
            Completion::Accepted { conn, listener, peer } => {
                if !self.hand_on(conn, listener) {
                    self.shard.accepted(conn, peer.map(|peer| peer.ip()));
                }
            }
            Completion::Refused => self.shard.refused(),
            Completion::AcceptPaused { errno } => {
                static LIMIT: log::Limit = log::Limit::new(1);
                LIMIT.warn(
                    "accepting pauses: out of descriptors; raise `ulimit -n` or lower \
                     `limits.connections_max`",
                    &[("shard", &self.shard.id().0), ("errno", &errno)],
                );
            }
            Completion::Received { conn, bytes } => {
                self.shard.received(conn, self.driver.received(&bytes));
                self.driver.recycle(bytes);
            }
            Completion::ReceiveEnded { conn, errno } => self.shard.receive_ended(conn, errno),
            Completion::SendStopped { conn, sent, stop } => {
                self.shard.send_stopped(conn, sent, stop);
            }
            Completion::SendArmedDone { conn, result } => self.shard.send_armed_done(conn, result),
            Completion::Closed { conn } => self.shard.closed(conn),
            Completion::Woken => {}
        }
    }

    /// Gives a fresh connection to the emptiest shard if this one holds clearly more. Placed once,
    /// before its first byte; no migration after that.
    fn hand_on(&mut self, conn: crate::driver::ConnId, listener: usize) -> bool {
        let own = self.shard.connection_count() as u32;
        let loads = self.shared.loads.iter().map(|load| load.load(Ordering::Relaxed));
        let Some((to, least)) = loads.enumerate().min_by_key(|(_, load)| *load) else {
            return false;
        };
        let from = self.shard.id();
        if to == from.index() || own < least + IMBALANCE_MIN || own < least + least / 4 {
            return false;
        }
        let queue = &self.shared.hand_overs[to];
        if queue.is_full() {
            return false;
        }
        let Some(socket) = self.driver.release(conn) else { return false };
        if let Err(back) = queue.push(HandOver { socket, listener, from }) {
            // Another shard was faster: keep it after all.
            if let Some(conn) = self.driver.adopt(back.socket) {
                self.accept_handed(conn);
            }
            return true;
        }
        self.shard.handed_on();
        // Counted at once, so that a burst does not all go to the same shard.
        self.shared.loads[to].fetch_add(1, Ordering::Relaxed);
        self.shared.wake(to);
        true
    }

    fn take_hand_overs(&mut self) {
        while let Some(hand_over) = self.shared.hand_overs[self.shard.id().index()].pop() {
            match self.driver.adopt(hand_over.socket) {
                Some(conn) => self.accept_handed(conn),
                None => self.shard.refused(),
            }
        }
    }

    fn accept_handed(&mut self, conn: crate::driver::ConnId) {
        let peer = self.driver.peer(conn).map(|peer| peer.ip());
        self.shard.accepted(conn, peer);
    }

    fn take_commands(&mut self, now_ms: u64) {
        while let Some(command) = self.port.take() {
            match command {
                ControlCommand::Connections { limit, reply } => {
                    let mut reports = self.shard.report_connections(limit);
                    for (conn, report) in &mut reports {
                        report.peer = self.driver.peer(*conn);
                    }
                    reply.send(reports.into_iter().map(|(_, report)| report).collect());
                }
                ControlCommand::Drain(order) => self.start_drain(now_ms, order.rate_per_s),
            }
        }
        let state = self.shared.readiness.state();
        if state == State::ShardFailed && self.drain_until_ms.is_none() {
            self.start_drain(now_ms, None);
        }
    }

    fn start_drain(&mut self, now_ms: u64, rate_per_s: Option<u32>) {
        if self.accepting {
            self.accepting = false;
            self.driver.stop_listening();
        }
        let connections = self.shard.connection_count() as u64;
        let time_ms = match rate_per_s {
            Some(rate) => (connections * 1_000 / u64::from(rate.max(1))).min(3_600_000),
            None => self.drain_time_ms,
        };
        self.drain_until_ms = Some(now_ms + time_ms);
        self.shard.start_drain(time_ms);
    }

    fn apply(&mut self) {
        let commands = self.shard.take_commands();
        for command in &commands {
            match command {
                Command::Arm(conn, mode) => self.driver.arm_receive(*conn, *mode),
                Command::Disarm(conn) => self.driver.disarm_receive(*conn),
                Command::SendArmed(conn, bytes) => self.driver.send_armed(*conn, bytes.clone(), 0),
                Command::ShutdownSend(conn) => self.driver.shutdown_send(*conn),
                Command::Close(conn) => self.driver.close(*conn),
            }
        }
        self.shard.return_commands(commands);
        for send in self.shard.sends() {
            self.driver.send_now(send.conn, &send.bytes, 0);
        }
        let mut wakes = self.shard.take_wakes();
        while wakes != 0 {
            let shard = wakes.trailing_zeros() as usize;
            wakes &= wakes - 1;
            self.shared.wake(shard);
        }
        let load = &self.shared.loads[self.shard.id().index()];
        load.store(self.shard.connection_count() as u32, Ordering::Relaxed);
    }

    fn publish_snapshot(&mut self, now_ms: u64) {
        if now_ms < self.snapshot_at_ms {
            return;
        }
        self.snapshot_at_ms = now_ms + SNAPSHOT_MS;
        let mut snapshot = self.shard.snapshot(D::NAME, &self.driver.memory());
        snapshot.driver = self.driver.counters();
        self.slot.publish(&snapshot);
    }

    fn ended(&mut self, now_ms: u64) -> Option<Ended> {
        let until = self.drain_until_ms?;
        if !self.shared.stopping.load(Ordering::Acquire) {
            return None;
        }
        let remaining = self.shard.connection_count();
        let over = now_ms >= until + FINISH_MS;
        let alone = remaining == 0 && self.shared.hand_overs[self.id().index()].is_empty();
        if !self.shared.all_done(self.id(), over || (alone && !self.shard.has_work())) {
            return None;
        }
        // Looked at again: another shard may have left something here before it was done itself.
        if !over && self.shard.has_work() {
            return None;
        }
        self.snapshot_at_ms = 0;
        self.publish_snapshot(now_ms);
        Some(Ended { remaining })
    }

    /// The shard's id, for logs.
    pub fn id(&self) -> ShardId {
        self.shard.id()
    }
}

/// After the drain time, how long what was closed last may take to end.
const FINISH_MS: u64 = 3_000;
