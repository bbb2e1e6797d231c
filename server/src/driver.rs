//! The I/O seam: one trait, two drivers (`uring/`, `epoll/`), static dispatch, one per shard.
//!
//! A driver owns sockets and receive buffers and nothing else; what the bytes mean is the shard's
//! business. Both drivers give the same meaning to every operation, so that one state machine in
//! the reactor serves both and the same integration tests run on both.
//!
//! Rules that every caller keeps, and drivers assert:
//! - at most one `send_now` per connection between two calls of `turn`;
//! - no `send_now` while a `send_armed` of the same connection is under way, and never two
//!   `send_armed` at once;
//! - a `ConnId` is dead after [`Completion::Closed`]; operations on a dead id are ignored.
//! - after `close`, `Closed` is the only completion of that connection that still comes.
//!
//! Receiving is fair in both: a connection hands up at most `receive_bytes_per_turn` (rounded up
//! to whole buffers) in a turn and then waits its turn; when no buffer is free, the connections
//! that got nothing go first as soon as buffers are recycled.
//!
//! Deliberately absent: time (the reactor owns the timer wheel and passes a timeout; a driver looks
//! at a clock only while accepting is paused), protocol state, file I/O, any queue of bytes to send
//! (the shard's outboxes are that queue).
//!
//! Threads: a driver lives on its shard's thread; only its [`Waker`] is shared. Tested by
//! `driver/tests.rs`, the same cases on both drivers, over real sockets.

mod accept;
mod armed;
pub mod engine;
mod slots;
mod touched;
mod wake;

#[cfg(test)]
pub(crate) mod tests;

pub(crate) use accept::{AcceptFailure, AcceptPause};
pub(crate) use armed::{Armed, ArmedSends};
pub(crate) use slots::{GENERATION_MASK, Slots};
pub(crate) use touched::Touched;
pub(crate) use wake::EventWaker;

use bytes::Bytes;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Names a socket slot of one shard. The generation makes a stale id a failed lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId {
    /// Index into the shard's connection slab.
    pub slot: u32,
    /// Counts the uses of the slot.
    pub generation: u32,
}

/// How a connection's receive side waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReceiveMode {
    /// Quiet connections: multishot poll (256 B of kernel memory), then one-shot receives until
    /// the socket is empty.
    Poll,
    /// Chatty connections (publishers): multishot receive (864 B of kernel memory).
    Multishot,
}

/// Bytes that arrived, still in the driver's shared buffer. Read with [`Driver::received`], give
/// back with [`Driver::recycle`], exactly once each.
#[derive(Debug)]
pub struct Received {
    /// Which buffer.
    pub buffer: u16,
    /// How many bytes of it are filled.
    pub len: u32,
}

/// Why a send stopped short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendStop {
    /// The socket is full: go on with `send_armed` from here.
    Full,
    /// The peer is gone (reset, broken pipe, time-out); the errno.
    Gone(i32),
}

/// What a turn found.
#[derive(Debug)]
pub enum Completion {
    /// A new connection; `listener` is the index in order of [`Driver::listen`] calls. Receiving is
    /// not armed yet.
    Accepted { conn: ConnId, listener: usize, peer: Option<SocketAddr> },
    /// Every slot is taken: the connection was accepted and closed at once. Counted.
    Refused,
    /// The process is out of descriptors; accepting pauses and is retried by the driver after a
    /// back-off, without spinning. Said once per pause.
    AcceptPaused { errno: i32 },
    /// Bytes from the peer.
    Received { conn: ConnId, bytes: Received },
    /// The peer closed its sending side (`None`), or receiving failed (errno). Said once.
    ReceiveEnded { conn: ConnId, errno: Option<i32> },
    /// A `send_now` did not take everything: `sent` bytes beyond `from` were taken. Silent on
    /// success. All stops of a turn's sends are reported by the next `turn`.
    SendStopped { conn: ConnId, sent: u32, stop: SendStop },
    /// A `send_armed` ended; `Ok` when every byte was taken. The buffer has been released.
    SendArmedDone { conn: ConnId, result: Result<(), i32> },
    /// A `close` is complete: nothing of the connection is in flight, the slot may be reused.
    Closed { conn: ConnId },
    /// Somebody woke this shard (see [`Waker`]).
    Woken,
}

/// Wakes a shard that sleeps in `turn` from any thread. Cheap when the shard is awake: a flag says
/// whether it sleeps, and only then is the kernel asked.
pub trait Waker: Send + Sync + 'static {
    /// Wakes the shard.
    fn wake(&self);
}

/// Counters of one driver, for snapshots.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DriverCounters {
    /// Kernel entries (`io_uring_enter`, `epoll_wait`).
    pub enters: u64,
    /// Completions or readiness events reaped.
    pub completions: u64,
    /// Times no receive buffer was free (ENOBUFS).
    pub receive_buffers_exhausted: u64,
    /// Completion-queue overflows seen (uring only).
    pub cq_overflows: u64,
    /// Completions whose generation was stale.
    pub stale: u64,
    /// Connections refused because every slot was taken.
    pub refused: u64,
    /// Pauses of accept for want of descriptors.
    pub accept_pauses: u64,
}

/// One shard's I/O. Not `Send`: it lives and dies on its thread.
pub trait Driver: Sized {
    /// `uring` or `epoll`, as metrics and logs name it.
    const NAME: &'static str;

    /// Starts accepting on a listening socket (already bound and listening). Set TCP_NODELAY on it:
    /// on Linux accepted sockets inherit it, which saves a system call per connection.
    fn listen(&mut self, socket: OwnedFd);

    /// Stops accepting on every listener and closes the listening sockets. Connections already in
    /// the accept queue that were reported stay.
    fn stop_listening(&mut self);

    /// Takes over an already accepted descriptor (handed on by another shard). `None`: no slot.
    fn adopt(&mut self, socket: OwnedFd) -> Option<ConnId>;

    /// The peer's address, asked of the kernel: for reports, not for turns.
    fn peer(&mut self, conn: ConnId) -> Option<SocketAddr>;

    /// Gives up a connection that nothing was armed on yet, so that another shard adopts it.
    fn release(&mut self, conn: ConnId) -> Option<OwnedFd>;

    /// Starts (or switches) receiving.
    fn arm_receive(&mut self, conn: ConnId, mode: ReceiveMode);

    /// Stops receiving: back-pressure. Bytes that the kernel had already put into a buffer are
    /// still reported, possibly by the next turn; nothing is lost. While disarmed, nothing is said
    /// about the receive side, not even its end.
    fn disarm_receive(&mut self, conn: ConnId);

    /// Tries to send `bytes[from..]` without blocking, batched with all others of this turn.
    /// Takes its own reference until the attempt has been made (by the end of the next `turn`).
    fn send_now(&mut self, conn: ConnId, bytes: &Bytes, from: u32);

    /// Sends `bytes[from..]` completely, waiting for room as long as it takes; owns its reference
    /// until the completion.
    fn send_armed(&mut self, conn: ConnId, bytes: Bytes, from: u32);

    /// Half-closes the sending side (FIN) after what was sent, a `send_armed` under way included;
    /// receiving goes on.
    fn shutdown_send(&mut self, conn: ConnId);

    /// Cancels what is in flight and closes the socket. `Closed` follows.
    fn close(&mut self, conn: ConnId);

    /// The handle with which others wake this shard.
    fn waker(&self) -> std::sync::Arc<dyn Waker>;

    /// Submits everything, waits up to `timeout` for something to happen (zero: only reaps), and
    /// appends what happened. A bounded number of completions per call.
    fn turn(&mut self, timeout: Duration, out: &mut Vec<Completion>) -> std::io::Result<()>;

    /// The bytes of a `Received`.
    fn received(&self, bytes: &Received) -> &[u8];

    /// Gives a receive buffer back to the kernel.
    fn recycle(&mut self, bytes: Received);

    /// User memory this driver holds, by name, for the ledger (bytes).
    fn memory(&self) -> Vec<(&'static str, usize)>;

    /// See [`DriverCounters`].
    fn counters(&self) -> DriverCounters;
}

/// Sizes a driver is built with; the values come from `config::limits`.
#[derive(Debug, Clone, Copy)]
pub struct DriverSizes {
    /// Slots for connections on this shard.
    pub connections: u32,
    /// Shared receive buffers (a power of two for uring).
    pub receive_buffers: u16,
    /// Bytes in each of them.
    pub receive_buffer_bytes: u32,
    /// Most bytes one connection may hand up per turn, so that one sender cannot take every buffer.
    pub receive_bytes_per_turn: u32,
}

/// CPU time of the calling thread, kernel and user: what the floors measure with.
pub fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
