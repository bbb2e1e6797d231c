//! HTTP/2 server session without I/O: bytes and the time go in, events and bytes come out.
//!
//! The `h2` crate does the protocol. It wants a socket and an executor: [`pipe`] is the socket, and
//! [`H2Session::poll`] is the executor, with wakers of its own ([`ready`]) so that a poll costs
//! what is ready and not what is open. [`guard`] judges the frames that `h2` does not bound.
//!
//! Invariants, each with a test:
//! - DATA leaves `h2` at once and becomes an event; flow-control credit goes back only by
//!   [`H2Session::release`], so a caller that does not release stalls the peer within its windows.
//! - Response bytes wait in the stream's queue here, visible and bounded, and go to `h2` only as
//!   far as the peer's windows allow: a peer that opens no window costs at most
//!   [`H2Limits::queued_bytes_max`].
//! - Output over [`H2Limits::output_bytes_max`] stops everything, reading included: the caller sees
//!   [`H2Session::wants_input`] turn false and must stop receiving.
//! - An event is never delivered for a stream that the caller has ended, except that a `Request`
//!   already queued still comes.
//!
//! The caller's turn: `feed` what came, `poll`, handle every `next_event`, `poll` again while
//! [`H2Session::needs_poll`], then take the output; when the socket took all of it and
//! `needs_poll` holds, go on.
//!
//! Deliberately absent: server push, extended CONNECT (RFC 8441), response trailers, upgrade from
//! HTTP/1.1, deadlines (the caller's timers decide, [`H2Session::backlog`] gives them what they
//! need). `h2` reads the clock in one place, to forget streams it has reset; nothing depends on it.
//! Lives on one shard thread and is not `Send`. Tested against `h2`'s own client and raw frames
//! over an in-memory pipe, and fuzzed (`tests/fuzz`, target `h2`).

mod drive;
mod guard;
mod limits;
mod pipe;
mod ready;
mod stream;
#[cfg(test)]
mod tests;

pub use ::h2::Reason;
pub use limits::H2Limits;

use ::h2::PingPong;
use ::h2::server::{Builder, Connection, Handshake};
use bytes::Bytes;
use guard::{Abuse, Guard};
use pipe::Pipe;
use ready::ReadyList;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use stream::{FRAME_BYTES_MAX, Pumped, Stream, Streams};

/// Names a stream of one session. Slots are dense and reused, so a caller may index a `Vec` by
/// them; the generation tells a slot's streams apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamKey {
    /// Below the most streams that were ever open at once.
    pub slot: u32,
    /// Differs for every stream in a slot.
    pub generation: u32,
}

/// What happened, in order.
#[derive(Debug)]
pub enum H2Event {
    /// A request head is complete and valid.
    Request {
        /// The new stream.
        stream: StreamKey,
        /// Method, URI, fields.
        head: http::request::Parts,
        /// No body follows: there will be no `Data` and no `End`.
        end_stream: bool,
    },
    /// A piece of the body, never empty. The bytes share the receive buffer of `h2`: copy what is
    /// kept, and give the credit back with [`H2Session::release`].
    Data {
        /// Its stream.
        stream: StreamKey,
        /// The piece.
        bytes: Bytes,
    },
    /// The body is complete (trailers, if any, were read and dropped).
    End {
        /// Its stream.
        stream: StreamKey,
    },
    /// The stream is gone before its response was complete: the peer reset it, its queue went over
    /// the budget, or the connection ended. What was queued is dropped, credit is given back.
    Reset {
        /// Its stream.
        stream: StreamKey,
        /// The code, when one was given.
        reason: Option<Reason>,
    },
    /// The answer to [`H2Session::ping`].
    Pong,
    /// The session is over; said once and last. Send what output is left, then close.
    Closed {
        /// `None` after a graceful end.
        error: Option<H2Error>,
    },
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum H2Error {
    /// The first bytes are not the HTTP/2 connection preface.
    #[error("the connection preface is not HTTP/2's")]
    BadPreface,
    /// The peer broke the protocol, or a bound inside `h2`; the code went out in GOAWAY.
    #[error("http/2 connection error: {0}")]
    Protocol(Reason),
    /// The peer ended the connection with an error code.
    #[error("the peer sent GOAWAY: {0}")]
    PeerGoaway(Reason),
    /// The peer's bytes ended in the middle of something.
    #[error("the peer closed the connection while streams or a frame were open")]
    PeerClosed,
    /// More RST_STREAM frames than [`H2Limits::resets_per_s_max`].
    #[error("the peer resets streams too often; see the limit on resets per second")]
    TooManyResets,
    /// More frames without use than [`H2Limits::control_frames_per_s_max`].
    #[error("the peer sends too many control frames; see the limit on control frames per second")]
    TooManyControlFrames,
    /// [`H2Session::abort`] was called.
    #[error("the server ended the connection: {0}")]
    Aborted(Reason),
}

/// Why bytes or a head were not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The stream does not exist (any more): finished, reset, or never was.
    #[error("the stream is gone")]
    Gone,
    /// The queue budget is used up; the stream has been reset and is gone.
    #[error("the response does not fit the queue budget of the connection; the stream was reset")]
    Full,
    /// `send_data` before `respond`, `respond` twice, or data after the end.
    #[error("out of order: respond once, then data, then nothing after the end")]
    Order,
    /// HTTP/2 forbids a field of the head (`connection`, `transfer-encoding`, ...); remove it.
    #[error("a response field is forbidden in HTTP/2; the stream was reset")]
    BadHead,
}

/// What waits for one stream's windows, for the caller's drain-rate timers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backlog {
    /// Bytes waiting now.
    pub queued_bytes: usize,
    /// When bytes last left the queue, or the first came.
    pub moved_ms: u64,
}

/// One HTTP/2 connection, server side. See the module's documentation for the turn.
#[derive(Debug)]
pub struct H2Session {
    limits: H2Limits,
    stage: Stage,
    pipe: Pipe,
    guard: Guard,
    streams: Streams,
    ready: Arc<ReadyList>,
    /// Scratch for [`ReadyList::take_slots`].
    ready_slots: Vec<u32>,
    waker: Waker,
    /// Slots with something to pump, first come first served.
    pump_slots: VecDeque<u32>,
    events: VecDeque<H2Event>,
    now_ms: u64,
    queued_bytes_total: usize,
    /// Why we are ending the connection; said in `Closed`.
    ending: Option<H2Error>,
    goaway: bool,
    said_closed: bool,
}

#[derive(Debug)]
enum Stage {
    Handshake(Box<Handshake<Pipe, Bytes>>),
    Open(Box<Open>),
    Closed,
}

#[derive(Debug)]
struct Open {
    connection: Connection<Pipe, Bytes>,
    ping_pong: PingPongState,
}

/// `h2`'s handle exists once per connection and has no `Debug`.
struct PingPongState(Option<PingPong>);

impl std::fmt::Debug for PingPongState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PingPong")
    }
}

impl H2Session {
    /// A session that has said nothing yet: poll once for the server's SETTINGS.
    ///
    /// # Panics
    /// When the limits contradict the protocol; see [`H2Limits::check`].
    pub fn new(limits: H2Limits) -> Self {
        limits.check();
        let pipe = Pipe::new(limits.output_bytes_max);
        let ready = Arc::new(ReadyList::default());
        let handshake = builder(&limits).handshake(pipe.clone());
        Self {
            guard: Guard::new(limits.resets_per_s_max, limits.control_frames_per_s_max),
            stage: Stage::Handshake(Box::new(handshake)),
            pipe,
            streams: Streams::new(Arc::clone(&ready)),
            waker: Waker::from(Arc::clone(&ready)),
            ready,
            ready_slots: Vec::new(),
            pump_slots: VecDeque::new(),
            events: VecDeque::new(),
            now_ms: 0,
            queued_bytes_total: 0,
            ending: None,
            goaway: false,
            said_closed: false,
            limits,
        }
    }

    /// Takes bytes from the peer. Nothing happens before [`Self::poll`]. Check
    /// [`Self::wants_input`] before receiving more: what is fed beyond it is kept all the same.
    pub fn feed(&mut self, now_ms: u64, input: &[u8]) {
        self.now_ms = now_ms;
        if self.ending.is_some() || matches!(self.stage, Stage::Closed) {
            return;
        }
        match self.guard.check(now_ms, input) {
            Ok(()) => self.pipe.push_input(input),
            Err(Abuse::Resets) => self.end(H2Error::TooManyResets),
            Err(Abuse::ControlFrames) => self.end(H2Error::TooManyControlFrames),
        }
    }

    /// The peer will send nothing more.
    pub fn end_input(&mut self) {
        self.pipe.end_input();
    }

    /// False while the output is full: what is fed now waits unread.
    pub fn wants_input(&self) -> bool {
        self.pipe.input_len() == 0 || self.pipe.has_room()
    }

    /// Runs until nothing moves without more input, more output room or the caller.
    pub fn poll(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        loop {
            self.drive();
            self.poll_ready_streams();
            if matches!(self.stage, Stage::Closed) {
                return self.finish();
            }
            if self.pipe.is_blocked() {
                return;
            }
            let pumped = self.pump();
            if !pumped && !self.ready.has_any() {
                return;
            }
        }
    }

    /// True if [`Self::poll`] would do something without more input.
    pub fn needs_poll(&self) -> bool {
        match self.stage {
            Stage::Closed => false,
            _ if !self.pipe.has_room() => false,
            _ => {
                self.ready.has_any()
                    || !self.pump_slots.is_empty()
                    || self.pipe.is_blocked()
                    || self.pipe.input_len() > 0
            }
        }
    }

    /// The next event, in order.
    pub fn next_event(&mut self) -> Option<H2Event> {
        loop {
            let event = self.events.pop_front()?;
            match &event {
                // The caller ended the stream while this was queued.
                H2Event::Data { stream, .. } | H2Event::End { stream }
                    if self.streams.get(*stream).is_none() => {}
                _ => return Some(event),
            }
        }
    }

    /// Gives `bytes` of flow-control credit back to the peer, for its stream and the connection
    /// together; at most what is outstanding. Returns what was given.
    pub fn release(&mut self, stream: StreamKey, bytes: usize) -> usize {
        self.streams.get_mut(stream).map_or(0, |stream| stream.release(bytes))
    }

    /// Sends the response head; with `end` the response is complete and the stream is over (a
    /// request body that still flows is reset with NO_ERROR, rfc9113#8.1).
    pub fn respond(
        &mut self,
        stream: StreamKey,
        head: http::Response<()>,
        end: bool,
    ) -> Result<(), SendError> {
        let found = self.streams.get_mut(stream).ok_or(SendError::Gone)?;
        if found.is_answered() {
            return Err(SendError::Order);
        }
        if let Err(error) = found.respond(head, end) {
            let gone = error.reason().is_some() || error.is_io();
            if !gone {
                found.reset(Reason::INTERNAL_ERROR);
                self.remove(stream);
                return Err(SendError::BadHead);
            }
            return Err(SendError::Gone);
        }
        if end {
            self.remove(stream);
        } else {
            self.guard.streaming_response_started();
        }
        Ok(())
    }

    /// Queues a piece of the response; with `end` it is the last. Returns how many bytes of this
    /// stream wait now. An empty queue takes one piece of any size; otherwise a piece that takes
    /// the connection over its budget resets the stream.
    pub fn send_data(
        &mut self,
        stream: StreamKey,
        bytes: Bytes,
        end: bool,
    ) -> Result<usize, SendError> {
        let queued_bytes_max = self.limits.queued_bytes_max;
        let found = self.streams.get_mut(stream).ok_or(SendError::Gone)?;
        if !found.is_answered() || found.end_queued {
            return Err(SendError::Order);
        }
        let total = self.queued_bytes_total + bytes.len();
        if total > queued_bytes_max && self.queued_bytes_total > 0 && !bytes.is_empty() {
            self.reset(stream, Reason::ENHANCE_YOUR_CALM);
            self.events.push_back(H2Event::Reset { stream, reason: None });
            return Err(SendError::Full);
        }
        found.enqueue(self.now_ms, bytes, end);
        self.queued_bytes_total = total;
        if !found.pump_listed {
            found.pump_listed = true;
            self.pump_slots.push_back(stream.slot);
        }
        Ok(found.queued_bytes)
    }

    /// Bytes that [`Self::send_data`] takes on this stream now without passing the budget; zero if
    /// the stream is gone or its earlier bytes still wait for the peer.
    pub fn send_capacity(&self, stream: StreamKey) -> usize {
        match self.streams.get(stream) {
            Some(found) if found.queued_bytes == 0 => {
                self.limits.queued_bytes_max.saturating_sub(self.queued_bytes_total)
            }
            _ => 0,
        }
    }

    /// Response bytes of one stream that wait for the peer's windows or for output room.
    pub fn queued_bytes(&self, stream: StreamKey) -> usize {
        self.streams.get(stream).map_or(0, |stream| stream.queued_bytes)
    }

    /// The same over all streams; the shard charges them to its outbox budget.
    pub fn queued_bytes_total(&self) -> usize {
        self.queued_bytes_total
    }

    /// What waits on a stream and how fast it moves; `None` when nothing waits.
    pub fn backlog(&self, stream: StreamKey) -> Option<Backlog> {
        self.streams.get(stream).and_then(backlog_of)
    }

    /// Every stream with a backlog. Costs what is open: for timers, not for turns.
    pub fn backlogs(&self) -> impl Iterator<Item = (StreamKey, Backlog)> {
        self.streams.iter().filter_map(|(key, stream)| backlog_of(stream).map(|b| (key, b)))
    }

    /// Body bytes handed up and not released: what stands between the peer and its windows.
    pub fn unreleased_bytes(&self, stream: StreamKey) -> usize {
        self.streams.get(stream).map_or(0, |stream| stream.unreleased_bytes)
    }

    /// Ends a stream at once with RST_STREAM. No `Reset` event follows.
    pub fn reset(&mut self, stream: StreamKey, reason: Reason) {
        if let Some(found) = self.streams.get_mut(stream) {
            found.reset(reason);
            self.remove(stream);
        }
    }

    /// Begins a graceful end: GOAWAY now, a second one after a round trip, open streams run on,
    /// and `Closed` when the last is done (rfc9113#6.8).
    pub fn goaway(&mut self) {
        if !self.goaway {
            self.goaway = true;
            if let Stage::Open(open) = &mut self.stage {
                open.connection.graceful_shutdown();
                self.ready.wake_connection();
            }
        }
    }

    /// Ends the connection: GOAWAY with a code, every stream is over. Poll, send, close.
    pub fn abort(&mut self, reason: Reason) {
        self.end(H2Error::Aborted(reason));
    }

    /// Asks whether the peer is there. False if a ping is under way or the session is not open;
    /// `Pong` comes at most once per ping.
    pub fn ping(&mut self) -> bool {
        match &mut self.stage {
            Stage::Open(open) => {
                let PingPongState(Some(ping_pong)) = &mut open.ping_pong else { return false };
                ping_pong.send_ping(::h2::Ping::opaque()).is_ok()
            }
            _ => false,
        }
    }

    /// Everything is said: after the output is taken the socket may be closed.
    pub fn is_finished(&self) -> bool {
        matches!(self.stage, Stage::Closed)
    }

    /// True once the peer's preface was read, until the end.
    pub fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open(_))
    }

    /// Streams that are open.
    pub fn stream_count(&self) -> usize {
        self.streams.len()
    }

    /// Bytes for the socket, in order, or `None`.
    pub fn take_output(&mut self) -> Option<Bytes> {
        self.pipe.take_output()
    }

    /// Appends the bytes for the socket to `into`, where they are encrypted next, say.
    pub fn drain_output(&mut self, into: &mut Vec<u8>) -> usize {
        self.pipe.drain_output(into)
    }

    /// Bytes that wait to be taken.
    pub fn output_bytes(&self) -> usize {
        self.pipe.output_len()
    }

    /// What this session holds, for the ledger; an estimate where `h2` does not tell. Request heads
    /// and bodies that were handed up are the caller's.
    pub fn memory_bytes(&self) -> usize {
        IDLE_BYTES
            + self.pipe.memory_bytes()
            + self.queued_bytes_total
            + self.streams.top() * STREAM_IN_H2_BYTES
            + self.streams.slot_count() * SLOT_BYTES
            + self.events.len() * size_of::<H2Event>()
    }
}

/// An idle session (h2 0.4.20): 30,938 bytes of heap, of which 24 KiB are two buffers of `h2`, and
/// the session itself; counted by an allocator.
pub const IDLE_BYTES: usize = 31_300;
/// What a stream costs inside `h2`, for as long as the connection lives: its tables grow to the
/// most streams that were ever open at once and never shrink. 1,104 to 1,231 bytes a stream counted
/// with a thousand streams, ours included.
pub const STREAM_IN_H2_BYTES: usize = 1_100;
/// A slot, its stream and its waker.
const SLOT_BYTES: usize = 300;
/// Bytes handed to `h2` before it is polled again: what it may hold when the output blocks.
const PUMP_BYTES_MAX: usize = 4 * FRAME_BYTES_MAX;

fn backlog_of(stream: &Stream) -> Option<Backlog> {
    (stream.queued_bytes > 0)
        .then_some(Backlog { queued_bytes: stream.queued_bytes, moved_ms: stream.moved_ms })
}

fn builder(limits: &H2Limits) -> Builder {
    let streams_max = limits.streams_max as usize;
    let mut builder = Builder::new();
    builder
        .initial_window_size(limits.stream_window_bytes)
        .initial_connection_window_size(limits.connection_window_bytes)
        .max_concurrent_streams(limits.streams_max)
        .max_header_list_size(limits.head_list_bytes_max)
        .max_send_buffer_size(FRAME_BYTES_MAX)
        // Streams we reset are remembered a while, so that what the peer had already sent on them
        // is ignored; a forgotten one is a stream error each time, and those are bounded.
        .max_concurrent_reset_streams(streams_max)
        // Ours counts every RST_STREAM; theirs only those that arrive before a poll, in one go.
        .max_pending_accept_reset_streams(streams_max + limits.resets_per_s_max as usize);
    builder
}
