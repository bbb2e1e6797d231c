//! One request and its answer, and the slab they live in.

use super::ready::{ReadyList, SlotWaker};
use super::{H2Event, StreamKey};
use ::h2::server::SendResponse;
use ::h2::{Reason, RecvStream, SendStream};
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

/// A stream that is not finished.
#[derive(Debug)]
pub(super) struct Stream {
    body: RecvStream,
    /// The request is complete.
    pub(super) body_ended: bool,
    /// Body bytes handed up and not released.
    pub(super) unreleased_bytes: usize,
    answer: Answer,
    queue: VecDeque<Bytes>,
    pub(super) queued_bytes: usize,
    /// The response ends after `queue`.
    pub(super) end_queued: bool,
    /// Listed for the pump.
    pub(super) pump_listed: bool,
    /// When bytes last left the queue, or the first came.
    pub(super) moved_ms: u64,
}

/// Where the answer stands; `h2` has one handle before the head and another one after it.
#[derive(Debug)]
enum Answer {
    Awaited(SendResponse<Bytes>),
    Body(SendStream<Bytes>),
}

/// What one pump of a stream did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pumped {
    /// Bytes went to `h2`; `cut` when the peer's window made the frame smaller than it could be.
    Sent { bytes: usize, cut: bool },
    /// The peer's windows are used up; the waker says when to go on.
    Waiting,
    /// Nothing is queued.
    Empty,
    /// The response is complete.
    Finished,
    /// `h2` does not take more: the stream is gone.
    Gone,
}

impl Stream {
    pub(super) fn new(body: RecvStream, respond: SendResponse<Bytes>, body_ended: bool) -> Self {
        Self {
            body,
            body_ended,
            unreleased_bytes: 0,
            answer: Answer::Awaited(respond),
            queue: VecDeque::new(),
            queued_bytes: 0,
            end_queued: false,
            pump_listed: false,
            moved_ms: 0,
        }
    }

    pub(super) fn is_answered(&self) -> bool {
        matches!(self.answer, Answer::Body(_))
    }

    /// Takes what arrived out of `h2`. `Err` is the peer's reset, or the connection's end.
    pub(super) fn receive(
        &mut self,
        key: StreamKey,
        cx: &mut Context<'_>,
        events: &mut VecDeque<H2Event>,
    ) -> Result<(), Option<Reason>> {
        while !self.body_ended {
            match self.body.poll_data(cx) {
                Poll::Ready(Some(Ok(bytes))) if bytes.is_empty() => {}
                Poll::Ready(Some(Ok(bytes))) => {
                    self.unreleased_bytes += bytes.len();
                    events.push_back(H2Event::Data { stream: key, bytes });
                }
                Poll::Ready(Some(Err(error))) => return Err(error.reason()),
                Poll::Ready(None) => match self.body.poll_trailers(cx) {
                    // Trailers carry nothing that publishers use; they are read and dropped.
                    Poll::Ready(Ok(_)) => {
                        self.body_ended = true;
                        events.push_back(H2Event::End { stream: key });
                    }
                    Poll::Ready(Err(error)) => return Err(error.reason()),
                    Poll::Pending => break,
                },
                Poll::Pending => break,
            }
        }
        let reset = match &mut self.answer {
            Answer::Awaited(respond) => respond.poll_reset(cx),
            Answer::Body(send) => send.poll_reset(cx),
        };
        match reset {
            Poll::Ready(Ok(reason)) => Err(Some(reason)),
            Poll::Ready(Err(error)) => Err(error.reason()),
            Poll::Pending => Ok(()),
        }
    }

    /// Gives flow-control credit back, at most what is outstanding.
    pub(super) fn release(&mut self, bytes: usize) -> usize {
        let bytes = bytes.min(self.unreleased_bytes);
        self.unreleased_bytes -= bytes;
        // Fails only for more than is outstanding, or when the stream is gone, where h2 has
        // released everything itself.
        let _ = self.body.flow_control().release_capacity(bytes);
        bytes
    }

    /// Sends the head. `Err` when `h2` refuses it: the stream is gone, or a field is forbidden.
    pub(super) fn respond(
        &mut self,
        head: http::Response<()>,
        end: bool,
    ) -> Result<(), ::h2::Error> {
        if let Answer::Awaited(respond) = &mut self.answer {
            let send = respond.send_response(head, end)?;
            self.answer = Answer::Body(send);
        }
        Ok(())
    }

    pub(super) fn reset(&mut self, reason: Reason) {
        match &mut self.answer {
            Answer::Awaited(respond) => respond.send_reset(reason),
            Answer::Body(send) => send.send_reset(reason),
        }
    }

    pub(super) fn enqueue(&mut self, now_ms: u64, bytes: Bytes, end: bool) {
        if self.queue.is_empty() {
            self.moved_ms = now_ms;
        }
        self.end_queued |= end;
        if !bytes.is_empty() {
            self.queued_bytes += bytes.len();
            self.queue.push_back(bytes);
        }
    }

    /// Hands at most one frame's worth to `h2`, never more than the peer's windows allow, so that
    /// nothing piles up inside `h2`.
    pub(super) fn pump(&mut self, now_ms: u64, cx: &mut Context<'_>) -> Pumped {
        let Answer::Body(send) = &mut self.answer else { return Pumped::Empty };
        if self.queued_bytes == 0 {
            if !self.end_queued {
                return Pumped::Empty;
            }
            return match send.send_data(Bytes::new(), true) {
                Ok(()) => Pumped::Finished,
                Err(_) => Pumped::Gone,
            };
        }
        let wanted = self.queued_bytes.min(FRAME_BYTES_MAX);
        send.reserve_capacity(wanted);
        let mut room = send.capacity();
        while room == 0 {
            match send.poll_capacity(cx) {
                Poll::Ready(Some(Ok(n))) => room = n,
                Poll::Ready(_) => return Pumped::Gone,
                Poll::Pending => return Pumped::Waiting,
            }
        }
        let chunk = take_chunk(&mut self.queue, room.min(wanted));
        let bytes = chunk.len();
        self.queued_bytes -= bytes;
        self.moved_ms = now_ms;
        let last = self.end_queued && self.queued_bytes == 0;
        match send.send_data(chunk, last) {
            Err(_) => Pumped::Gone,
            Ok(()) if last => Pumped::Finished,
            Ok(()) => Pumped::Sent {
                bytes,
                cut: bytes == room && room < wanted && bytes < FRAME_BYTES_WHOLE_MIN,
            },
        }
    }
}

/// The frame size every peer accepts (`rfc9113#4.2`).
pub(super) const FRAME_BYTES_MAX: usize = 16 << 10;
/// A frame of this size is no sign of a peer that plays with its window.
const FRAME_BYTES_WHOLE_MIN: usize = 256;
/// Pieces below this are gathered into one frame: a frame costs `h2` more than the copy.
const GATHER_BYTES_MAX: usize = 4 << 10;

/// Takes up to `room` bytes (not zero) from the front of a queue that is not empty.
fn take_chunk(queue: &mut VecDeque<Bytes>, room: usize) -> Bytes {
    let Some(front) = queue.front_mut() else { return Bytes::new() };
    if front.len() > room {
        return front.split_to(room);
    }
    let first = queue.pop_front().unwrap_or_default();
    let Some(second) = queue.front() else { return first };
    if first.len() + second.len().min(GATHER_BYTES_MAX) > room.min(GATHER_BYTES_MAX) {
        return first;
    }
    let mut chunk = BytesMut::with_capacity(room);
    chunk.extend_from_slice(&first);
    while let Some(next) = queue.pop_front() {
        let left = room - chunk.len();
        if next.len() > left {
            queue.push_front(next);
            break;
        }
        chunk.extend_from_slice(&next);
    }
    chunk.freeze()
}

/// All streams of a session. Slots are reused, generations tell their streams apart.
#[derive(Debug)]
pub(super) struct Streams {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Counts inserts.
    generation: u32,
    /// The most streams that were ever open at once.
    top: usize,
    list: Arc<ReadyList>,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    waker: SlotWaker,
    stream: Option<Stream>,
}

impl Streams {
    pub(super) fn new(list: Arc<ReadyList>) -> Self {
        Self { slots: Vec::new(), free: Vec::new(), generation: 0, top: 0, list }
    }

    pub(super) fn insert(&mut self, stream: Stream) -> StreamKey {
        let index = self.free.pop().unwrap_or_else(|| {
            let index = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
            let waker = SlotWaker::new(index, &self.list);
            self.slots.push(Slot { generation: 0, waker, stream: None });
            index
        });
        self.generation = self.generation.wrapping_add(1);
        self.top = self.top.max(self.len());
        if let Some(slot) = self.slots.get_mut(index as usize) {
            slot.generation = self.generation;
            slot.stream = Some(stream);
        }
        StreamKey { slot: index, generation: self.generation }
    }

    pub(super) fn get(&self, key: StreamKey) -> Option<&Stream> {
        let slot = self.slots.get(key.slot as usize)?;
        slot.stream.as_ref().filter(|_| slot.generation == key.generation)
    }

    pub(super) fn get_mut(&mut self, key: StreamKey) -> Option<&mut Stream> {
        let slot = self.slots.get_mut(key.slot as usize)?;
        slot.stream.as_mut().filter(|_| slot.generation == key.generation)
    }

    /// The stream in a slot, with its key and waker.
    pub(super) fn at(&mut self, slot: u32) -> Option<(StreamKey, &SlotWaker, &mut Stream)> {
        let Slot { generation, waker, stream } = self.slots.get_mut(slot as usize)?;
        let key = StreamKey { slot, generation: *generation };
        stream.as_mut().map(|stream| (key, &*waker, stream))
    }

    pub(super) fn rearm(&self, slot: u32) {
        if let Some(slot) = self.slots.get(slot as usize) {
            slot.waker.rearm();
        }
    }

    /// Ends a stream. Dropping its handles makes `h2` reset what is not complete.
    pub(super) fn remove(&mut self, key: StreamKey) -> Option<Stream> {
        let slot = self.slots.get_mut(key.slot as usize)?;
        if slot.generation != key.generation {
            return None;
        }
        let stream = slot.stream.take()?;
        self.free.push(key.slot);
        // A burst of streams leaves no slots behind.
        if self.free.len() == self.slots.len() && self.slots.len() > SLOTS_KEPT_MAX {
            self.slots = Vec::new();
            self.free = Vec::new();
        }
        Some(stream)
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn top(&self) -> usize {
        self.top
    }

    pub(super) fn slot_count(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (StreamKey, &Stream)> {
        (0u32..).zip(&self.slots).filter_map(|(index, slot)| {
            let key = StreamKey { slot: index, generation: slot.generation };
            slot.stream.as_ref().map(|stream| (key, stream))
        })
    }
}

const SLOTS_KEPT_MAX: usize = 64;
