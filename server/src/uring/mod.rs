//! The io_uring driver: every socket operation of a shard through one ring.
//!
//! - **Sends.** `send_now` is SEND with MSG_DONTWAIT | MSG_WAITALL | MSG_NOSIGNAL and
//!   CQE_SKIP_SUCCESS: the attempt runs inline during submission, a full one is silent, a short one
//!   posts its count (WAITALL makes the kernel fail the retry and keep the count), a full socket
//!   posts EAGAIN. So its bytes are needed only until the submitting enter has returned.
//!   `send_armed` leaves out DONTWAIT: the kernel polls for room, and the bytes are owned here
//!   until the terminal completion.
//! - **Receives.** `receive.rs` decides; buffers are chosen by the kernel (`buffers.rs`).
//! - **Accepts.** Multishot, into plain descriptors: direct ones cannot be handed to another shard
//!   or inspected, obey the same RLIMIT_NOFILE, and save about 1 % of a send.
//! - **Lifetime.** Completions name slot, generation and operation (`token.rs`). A slot is retired
//!   and its descriptor closed only when nothing of it is in flight and nothing of it waits in the
//!   submission queue. The ring is dropped before the memory it may touch, and only after its
//!   operations ended; otherwise that memory is leaked on purpose.
//!
//! User memory per connection: a 40-byte slot, 4 bytes of free list, 8 while listed; the ring, its
//! queues and the buffers are shared.
//!
//! Deliberately absent: SQPOLL (wants spare cores), send bundles (misdeliver under fan-out),
//! SEND_ZC (loopback copies; a size threshold is to be measured on a NIC), file I/O, direct
//! descriptors.
//!
//! Threads: the shard's own only, by construction (`!Send`, SINGLE_ISSUER). Tested by
//! `driver/tests.rs` on real sockets; the pure parts here with models.
#![allow(unsafe_code)] // The one directory that talks to the kernel by raw memory.

mod buffers;
mod complete;
pub mod floor;
mod probe;
mod receive;
mod ring;
mod submit;
mod token;

#[cfg(test)]
mod tests;

pub use probe::{UringUnavailable, probe};

use crate::driver::{
    AcceptPause, Armed, ArmedSends, Completion, ConnId, Driver, DriverCounters, DriverSizes,
    EventWaker, ReceiveMode, Received, Slots, Waker,
};
use buffers::Buffers;
use bytes::Bytes;
use io_uring::types::{CancelBuilder, Fd};
use io_uring::{opcode, squeue};
use receive::Receive;
use ring::Ring;
use rustix::net::Shutdown;
use std::collections::VecDeque;
use std::io;
use std::mem::ManuallyDrop;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;
use token::Op;

/// Submission queue: a broadcast enters the kernel once per so many sends, which makes the entry's
/// cost vanish, while 64 KiB of entries still fit the second-level cache.
const SQ_ENTRIES: u32 = 1024;
/// What stands before the completions in their mapping.
const HEADS_BYTES: u64 = 256;
/// Completions handed up per turn, stops of sends aside.
const COMPLETIONS_PER_TURN: usize = 1024;
/// Within a turn, readiness found is followed by its receives at once, so many times. Four buffers
/// for a connection that just woke up, without holding up the others' turn.
const PASSES_PER_TURN: usize = 4;

/// One connection.
struct Conn {
    fd: OwnedFd,
    armed: Armed,
    /// Turn of the last `send_now`, for the rule that there is one per turn.
    sent_turn: u32,
    /// Turn that `received_bytes` counts for.
    received_turn: u32,
    received_bytes: u32,
    /// Operations whose terminal completion is outstanding.
    in_flight: u16,
    receive: Receive,
    closing: bool,
    /// Something was armed or sent: not to be released any more.
    used: bool,
    /// A FIN follows the armed send.
    shutdown_after: bool,
}

struct Listener {
    socket: Option<OwnedFd>,
    armed: bool,
    stopping: bool,
}

/// See the module.
pub struct UringDriver {
    // The ring goes before the buffers and the bytes that the kernel uses: see `Drop`.
    ring: Ring,
    buffers: ManuallyDrop<Buffers>,
    armed: ArmedSends,
    /// Bytes of this turn's `send_now`s, until they are submitted.
    held: Vec<Bytes>,
    waker: Arc<EventWaker>,
    conns: Slots<Conn>,
    listeners: Vec<Listener>,
    pause: AcceptPause,
    /// Who waits for a buffer or for the next turn; the first got nothing at its last try.
    starved: VecDeque<ConnId>,
    later: VecDeque<ConnId>,
    /// To be finished when this turn's submissions are through.
    shutdowns: Vec<ConnId>,
    closing: Vec<ConnId>,
    /// All operations whose terminal completion is outstanding, connections' or not.
    in_flight: usize,
    turn: u32,
    sizes: DriverSizes,
    counters: DriverCounters,
}

impl UringDriver {
    /// Builds the ring on the calling thread, which must be the one that uses it.
    pub fn new(sizes: DriverSizes) -> Result<Self, UringUnavailable> {
        // A completion for every connection at once; beyond that they overflow into the kernel,
        // which costs time but loses nothing. 16 bytes a connection.
        let cq_entries = sizes.connections.clamp(4096, 1 << 16);
        Self::with_queues(sizes, SQ_ENTRIES, cq_entries.next_power_of_two())
    }

    /// Memory of a ring of these sizes that kernels may count as locked: both queues with their
    /// heads, and the ring of receive buffers, in whole pages. Measured to the page on 6.18.
    pub fn locked_bytes(sizes: &DriverSizes) -> u64 {
        let cq_entries = u64::from(sizes.connections.clamp(4096, 1 << 16).next_power_of_two());
        let page = rustix::param::page_size() as u64;
        let parts = [
            u64::from(SQ_ENTRIES) * size_of::<io_uring::squeue::Entry>() as u64,
            cq_entries * size_of::<io_uring::cqueue::Entry>() as u64 + HEADS_BYTES,
            u64::from(sizes.receive_buffers) * size_of::<io_uring::types::BufRingEntry>() as u64,
        ];
        parts.iter().map(|bytes| bytes.next_multiple_of(page)).sum()
    }

    fn with_queues(sizes: DriverSizes, sq: u32, cq: u32) -> Result<Self, UringUnavailable> {
        let ring = Ring::new(sq, cq).map_err(UringUnavailable::at_setup)?;
        let waker = EventWaker::new().map_err(UringUnavailable::at_setup)?;
        let buffers = Buffers::new(ring.uring(), sizes.receive_buffers, sizes.receive_buffer_bytes)
            .map_err(UringUnavailable::at_buffers)?;
        let mut driver = Self {
            ring,
            buffers: ManuallyDrop::new(buffers),
            armed: ArmedSends::default(),
            held: Vec::new(),
            waker: Arc::new(waker),
            conns: Slots::new(sizes.connections),
            listeners: Vec::new(),
            pause: AcceptPause::default(),
            starved: VecDeque::new(),
            later: VecDeque::new(),
            shutdowns: Vec::new(),
            closing: Vec::new(),
            in_flight: 0,
            turn: 1,
            sizes,
            counters: DriverCounters::default(),
        };
        driver.arm_wake();
        Ok(driver)
    }

    /// How long this turn may sleep, if at all.
    fn may_wait(&self, timeout: Duration) -> Option<Duration> {
        let listed = !self.starved.is_empty() || !self.later.is_empty();
        let work = self.ring.has_reaped()
            || (listed && self.buffers.free() > 0)
            || !self.closing.is_empty()
            || !self.shutdowns.is_empty();
        (!work && !timeout.is_zero()).then(|| self.pause.limit(timeout))
    }

    fn submit_and_wait(&mut self, timeout: Duration) -> io::Result<()> {
        if !self.held.is_empty() {
            // Bytes to send are not to be held through a sleep.
            self.ring.enter(None)?;
            self.held.clear();
        }
        match self.may_wait(timeout) {
            None => self.ring.enter(None),
            Some(timeout) => {
                let wait = self.waker.may_sleep().then_some(timeout);
                let entered = self.ring.enter(wait);
                self.waker.awake();
                entered
            }
        }
    }

    /// What had to wait until the sends before it were submitted.
    fn after_submission(&mut self, out: &mut Vec<Completion>) {
        self.held.clear();
        for completed in std::mem::take(&mut self.ring.stopped) {
            self.report_stop(completed, out);
        }
        while let Some(id) = self.shutdowns.pop() {
            if let Some(conn) = self.conns.get_mut(id) {
                // ENOTCONN: the peer was faster. Its reset is told by the receive side.
                let _ = rustix::net::shutdown(&conn.fd, Shutdown::Write);
            }
        }
        while let Some(id) = self.closing.pop() {
            self.retire_if_quiet(id, out);
        }
    }

    /// Closes a connection of which nothing is in flight any more.
    fn retire_if_quiet(&mut self, id: ConnId, out: &mut Vec<Completion>) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if !conn.closing || conn.in_flight > 0 {
            return;
        }
        assert!(!conn.armed.is_some(), "an armed send is in flight");
        self.conns.remove(id);
        out.push(Completion::Closed { conn: id });
    }
}

impl Driver for UringDriver {
    const NAME: &'static str = "uring";

    fn listen(&mut self, socket: OwnedFd) {
        // On a non-blocking listener a multishot accept ends with EAGAIN.
        let _ = rustix::io::ioctl_fionbio(&socket, false);
        self.listeners.push(Listener { socket: Some(socket), armed: false, stopping: false });
        self.arm_accept(self.listeners.len() - 1);
    }

    fn stop_listening(&mut self) {
        for index in 0..self.listeners.len() {
            let listener = &mut self.listeners[index];
            listener.stopping = true;
            if listener.armed {
                let token = token::pack(listener_id(index), Op::Accept);
                self.cancel(CancelBuilder::user_data(token));
            } else {
                listener.socket = None;
            }
        }
    }

    fn adopt(&mut self, socket: OwnedFd) -> Option<ConnId> {
        // See `arm_accept` for why.
        rustix::io::ioctl_fionbio(&socket, false).ok()?;
        self.conns.insert(Conn::new(socket)).ok()
    }

    fn peer(&mut self, conn: ConnId) -> Option<SocketAddr> {
        let fd = &self.conns.get_mut(conn)?.fd;
        SocketAddr::try_from(rustix::net::getpeername(fd).ok()??).ok()
    }

    fn release(&mut self, conn: ConnId) -> Option<OwnedFd> {
        if self.conns.get_mut(conn)?.used {
            return None;
        }
        self.conns.remove(conn).map(|conn| conn.fd)
    }

    fn arm_receive(&mut self, id: ConnId, mode: ReceiveMode) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.used = true;
        conn.receive.wish(Some(mode));
        self.advance(id);
    }

    fn disarm_receive(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.receive.wish(None);
        self.advance(id);
    }

    fn send_now(&mut self, id: ConnId, bytes: &Bytes, from: u32) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let rest = &bytes[from as usize..];
        if conn.closing || rest.is_empty() {
            return;
        }
        assert!(conn.sent_turn != self.turn, "one send_now per connection and turn");
        assert!(!conn.armed.is_some(), "no send_now while a send_armed is under way");
        conn.sent_turn = self.turn;
        conn.used = true;
        let entry = opcode::Send::new(Fd(conn.fd.as_raw_fd()), rest.as_ptr(), rest.len() as u32)
            .flags(libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(token::pack(id, Op::SendNow));
        // A broadcast sends the same bytes again and again: one reference serves the whole run.
        let same = |held: &Bytes| held.as_ptr() == bytes.as_ptr() && held.len() == bytes.len();
        if !self.held.last().is_some_and(same) {
            self.held.push(bytes.clone());
        }
        // SAFETY: the attempt is made inline during submission and never again (MSG_DONTWAIT);
        // `held` keeps the bytes until the enter that submits it has returned.
        unsafe { self.ring.push(&entry) };
    }

    fn send_armed(&mut self, id: ConnId, bytes: Bytes, from: u32) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if conn.closing {
            return;
        }
        assert!(!conn.armed.is_some(), "one send_armed at a time");
        assert!((from as usize) < bytes.len(), "send_armed of nothing");
        conn.used = true;
        conn.armed = self.armed.insert(bytes, from);
        self.submit_armed_piece(id);
    }

    fn shutdown_send(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.used = true;
        if conn.armed.is_some() {
            conn.shutdown_after = true;
        } else {
            // A system call after this turn's submissions: IORING_OP_SHUTDOWN always goes to a
            // kernel worker thread.
            self.shutdowns.push(id);
        }
    }

    fn close(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if std::mem::replace(&mut conn.closing, true) {
            return;
        }
        if conn.in_flight == 0 {
            self.closing.push(id);
        } else {
            let fd = Fd(conn.fd.as_raw_fd());
            self.cancel(CancelBuilder::fd(fd).all());
        }
    }

    fn waker(&self) -> Arc<dyn Waker> {
        self.waker.clone()
    }

    fn turn(&mut self, timeout: Duration, out: &mut Vec<Completion>) -> io::Result<()> {
        if self.pause.due() {
            for index in 0..self.listeners.len() {
                self.arm_accept(index);
            }
        }
        self.turn = self.turn.wrapping_add(1);
        self.serve_lists();
        self.submit_and_wait(timeout)?;
        self.after_submission(out);
        let mut left = COMPLETIONS_PER_TURN;
        self.process(&mut left, out);
        for _ in 1..PASSES_PER_TURN {
            if left == 0 || !self.ring.has_queued() {
                break;
            }
            self.ring.enter(None)?;
            self.process(&mut left, out);
        }
        if self.waker.take() {
            out.push(Completion::Woken);
        }
        Ok(())
    }

    fn received(&self, bytes: &Received) -> &[u8] {
        self.buffers.bytes(bytes)
    }

    fn recycle(&mut self, bytes: Received) {
        self.buffers.recycle(bytes);
    }

    fn memory(&self) -> Vec<(&'static str, usize)> {
        let lists = self.starved.capacity()
            + self.later.capacity()
            + self.shutdowns.capacity()
            + self.closing.capacity();
        vec![
            ("driver slots", self.conns.bytes()),
            ("driver receive buffers", self.buffers.memory()),
            ("driver queues", self.ring.bytes()),
            (
                "driver lists",
                lists * size_of::<ConnId>()
                    + self.held.capacity() * size_of::<Bytes>()
                    + self.armed.bytes(),
            ),
        ]
    }

    fn counters(&self) -> DriverCounters {
        DriverCounters {
            enters: self.ring.enters,
            completions: self.ring.completions,
            cq_overflows: self.ring.overflows,
            ..self.counters
        }
    }
}

impl Conn {
    fn new(fd: OwnedFd) -> Self {
        Self {
            fd,
            armed: Armed::NONE,
            // Turns count from 1: never the current one.
            sent_turn: 0,
            received_turn: 0,
            received_bytes: 0,
            in_flight: 0,
            receive: Receive::default(),
            closing: false,
            used: false,
            shutdown_after: false,
        }
    }
}

fn listener_id(index: usize) -> ConnId {
    ConnId { slot: index as u32, generation: 0 }
}

impl Drop for UringDriver {
    fn drop(&mut self) {
        // SAFETY: taken once, here; nothing uses the field afterwards.
        let buffers = unsafe { ManuallyDrop::take(&mut self.buffers) };
        if self.quiesce() {
            // The kernel holds no operation that could touch them any more.
            drop(buffers);
        } else {
            buffers.leak();
            std::mem::forget(std::mem::take(&mut self.armed));
            std::mem::forget(std::mem::take(&mut self.held));
        }
    }
}
