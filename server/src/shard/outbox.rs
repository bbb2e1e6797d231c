//! The outbox: what waits for one endpoint, bounded in bytes, with a policy for when it is over.
//!
//! An endpoint is a connection or one HTTP/2 stream on it. Usually nothing waits: a turn's run goes
//! out in one attempt and the outbox is empty again. Only when the socket is full does a
//! [`Backlog`] exist; it holds references to shared frames, each counted with all its bytes, and is
//! freed when it drains. Invariants: a frame that was partly sent is never dropped; control frames
//! are never dropped and bypass the budget; an empty backlog takes one frame of any size.

use super::frames::{Frame, Mark, Run};
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;

/// Most bytes that are flattened into one send when a backlog drains.
pub const DRAIN_BYTES: usize = 64 << 10;

/// Where an endpoint's sending stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SendState {
    /// Nothing is under way.
    #[default]
    Idle,
    /// The socket was full; a `send_armed` is under way or about to be.
    Blocked,
}

/// One endpoint's outgoing side. 24 bytes, and no heap while nothing waits.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Frames gathered this turn.
    pub run: Run,
    /// Place of its last attempt in the list of sends of the turn that made it; whether that is the
    /// present list, the list itself says: an entry there names its connection.
    pub attempt: u32,
    /// See [`SendState`].
    pub state: SendState,
    /// What waits.
    pub backlog: Option<Box<Backlog>>,
}

impl Outbox {
    /// The socket is full; the driver sends the rest of this turn's attempt.
    pub fn block(&mut self, armed: usize, now_ms: u64) {
        let mut backlog = Box::new(Backlog::new(now_ms));
        backlog.set_armed(armed);
        self.state = SendState::Blocked;
        self.backlog = Some(backlog);
    }

    /// Bytes that wait here.
    pub fn queued_bytes(&self) -> usize {
        self.backlog.as_ref().map_or(0, |backlog| backlog.bytes)
    }
}

/// One entry of a backlog.
#[derive(Debug)]
pub enum Entry {
    /// What goes on the wire.
    Frame(Frame),
    /// Events of a channel were dropped here.
    Dropped(DroppedRun),
}

/// A run of dropped events, to be said in the stream where it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DroppedRun {
    /// The local channel.
    pub channel: u32,
    /// First dropped offset.
    pub first: u64,
    /// Last dropped offset.
    pub last: u64,
}

/// Frames that wait for room in the socket.
#[derive(Debug, Default)]
pub struct Backlog {
    queue: VecDeque<Entry>,
    /// Bytes of the queue and of what the driver holds.
    bytes: usize,
    /// Bytes the driver's `send_armed` owns.
    armed: usize,
    /// Frames of the queue that carry events: what a policy may drop.
    events: usize,
    /// Since when it has been blocked, milliseconds.
    pub since_ms: u64,
}

impl Backlog {
    /// Nothing waits yet.
    pub fn new(now_ms: u64) -> Self {
        Self { since_ms: now_ms, ..Self::default() }
    }

    /// Frames that carry events.
    pub fn events(&self) -> usize {
        self.events
    }

    /// Bytes of the frames that no policy drops, without what the driver holds.
    pub fn control_bytes(&self) -> usize {
        let control = |entry: &Entry| match entry {
            Entry::Frame(frame) if !frame.mark.is_event() => frame.bytes.len(),
            Entry::Frame(_) | Entry::Dropped(_) => 0,
        };
        self.queue.iter().map(control).sum()
    }

    /// Appends a frame.
    pub fn push(&mut self, frame: Frame) {
        self.bytes += frame.bytes.len();
        self.events += usize::from(frame.mark.is_event());
        self.queue.push_back(Entry::Frame(frame));
    }

    /// Bytes that wait, the driver's included.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// True if the budget is exceeded. What the driver holds alone never is: an empty outbox takes
    /// one item of any legal size.
    pub fn is_over(&self, budget: usize) -> bool {
        self.bytes > budget && self.events > 1
    }

    /// Drops the oldest events until the budget holds again, leaving a mark where they were.
    /// Returns how many events went. The newest event always stays.
    pub fn drop_oldest(&mut self, budget: usize) -> u64 {
        let mut dropped = 0;
        let mut at = 0;
        while self.bytes > budget && self.events > 1 {
            let Some(Entry::Frame(Frame { mark: Mark::Event { channel, offset }, .. })) =
                self.queue.get(at)
            else {
                at += 1;
                continue;
            };
            let run = DroppedRun { channel: *channel, first: *offset, last: *offset };
            if self.merge_into_runs(at, run) {
                self.remove_frame(at);
            } else {
                self.replace_by_run(at, run);
                at += 1;
            }
            dropped += 1;
            self.events -= 1;
        }
        dropped
    }

    /// The offset of the first event that still waits: a client that is closed now has seen what is
    /// before it.
    pub fn first_waiting(&self) -> Option<u64> {
        self.queue.iter().find_map(|entry| match entry {
            Entry::Frame(Frame { mark: Mark::Event { offset, .. }, .. }) => Some(*offset),
            Entry::Frame(_) => None,
            Entry::Dropped(run) => Some(run.first),
        })
    }

    /// Throws away everything the driver does not hold; returns how many events went.
    pub fn discard(&mut self) -> u64 {
        self.queue.clear();
        self.bytes = self.armed;
        std::mem::take(&mut self.events) as u64
    }

    /// The driver owns these bytes now.
    pub fn set_armed(&mut self, bytes: usize) {
        debug_assert_eq!(self.armed, 0);
        self.armed = bytes;
        self.bytes += bytes;
    }

    /// The driver's send ended.
    pub fn armed_done(&mut self) {
        self.bytes -= self.armed;
        self.armed = 0;
    }

    /// Takes the next entry, to be sent on its own terms.
    pub fn pop(&mut self) -> Option<Entry> {
        let entry = self.queue.pop_front()?;
        if let Entry::Frame(frame) = &entry {
            self.bytes -= frame.bytes.len();
            self.events -= usize::from(frame.mark.is_event());
        }
        Some(entry)
    }

    /// Takes the next piece to send, up to `bytes_max` flattened (one frame of any size alone),
    /// with notices written by `notice`. `None` when nothing waits.
    pub fn take(&mut self, notice: &mut dyn FnMut(DroppedRun, &mut Vec<u8>)) -> Option<Bytes> {
        let single = self.queue.len() == 1;
        match self.queue.front()? {
            Entry::Frame(frame) if single || frame.bytes.len() >= DRAIN_BYTES => {
                let bytes = frame.bytes.clone();
                self.events -= usize::from(frame.mark.is_event());
                self.queue.pop_front();
                self.bytes -= bytes.len();
                return Some(bytes);
            }
            _ => {}
        }
        let mut flat = BytesMut::new();
        let mut text = Vec::new();
        while let Some(entry) = self.queue.front() {
            match entry {
                Entry::Frame(frame) => {
                    if !flat.is_empty() && flat.len() + frame.bytes.len() > DRAIN_BYTES {
                        break;
                    }
                    self.bytes -= frame.bytes.len();
                    self.events -= usize::from(frame.mark.is_event());
                    flat.extend_from_slice(&frame.bytes);
                }
                Entry::Dropped(run) => {
                    text.clear();
                    notice(*run, &mut text);
                    flat.extend_from_slice(&text);
                }
            }
            self.queue.pop_front();
        }
        Some(flat.freeze())
    }

    /// Writes every notice now: soon nobody knows any more whose channels these were.
    pub fn write_notices(&mut self, notice: &mut dyn FnMut(DroppedRun, &mut Vec<u8>)) {
        for entry in &mut self.queue {
            if let Entry::Dropped(run) = entry {
                let mut text = Vec::new();
                notice(*run, &mut text);
                self.bytes += text.len();
                *entry = Entry::Frame(Frame { bytes: text.into(), mark: Mark::Control });
            }
        }
    }

    /// Extends a run of the same channel that stands directly before `at` (among runs only).
    fn merge_into_runs(&mut self, at: usize, run: DroppedRun) -> bool {
        for before in (0..at).rev() {
            match self.queue.get_mut(before) {
                Some(Entry::Dropped(held)) if held.channel == run.channel => {
                    held.last = run.last;
                    return true;
                }
                Some(Entry::Dropped(_)) => {}
                _ => return false,
            }
        }
        false
    }

    fn remove_frame(&mut self, at: usize) {
        if let Some(Entry::Frame(frame)) = self.queue.remove(at) {
            self.bytes -= frame.bytes.len();
        }
    }

    fn replace_by_run(&mut self, at: usize, run: DroppedRun) {
        if let Some(entry) = self.queue.get_mut(at)
            && let Entry::Frame(frame) = std::mem::replace(entry, Entry::Dropped(run))
        {
            self.bytes -= frame.bytes.len();
        }
    }

    /// User memory beyond the shared frames, for the ledger.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.queue.capacity() * size_of::<Entry>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(channel: u32, offset: u64, bytes: usize) -> Frame {
        Frame { bytes: vec![b'e'; bytes].into(), mark: Mark::Event { channel, offset } }
    }

    fn control(bytes: &'static [u8]) -> Frame {
        Frame { bytes: Bytes::from_static(bytes), mark: Mark::Control }
    }

    /// Everything that would be sent, notices as `[channel:first-last]`.
    fn sent(backlog: &mut Backlog) -> String {
        let mut text = String::new();
        while let Some(bytes) = backlog.take(&mut |run, out| {
            out.extend_from_slice(
                format!("[{}:{}-{}]", run.channel, run.first, run.last).as_bytes(),
            );
        }) {
            text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
        text
    }

    #[test]
    fn dropping_the_oldest_says_what_went_and_where() {
        let mut backlog = Backlog::default();
        for offset in 1..=10 {
            backlog.push(event(7, offset, 3));
        }
        assert!(backlog.is_over(12));
        assert_eq!(backlog.drop_oldest(12), 6);
        assert_eq!(sent(&mut backlog), format!("[7:1-6]{}", "e".repeat(12)));
        assert_eq!(backlog.bytes(), 0);
    }

    #[test]
    fn runs_of_several_channels_are_said_apart() {
        let mut backlog = Backlog::default();
        for offset in 1..=3 {
            backlog.push(event(1, offset, 2));
            backlog.push(event(2, offset, 2));
        }
        assert_eq!(backlog.drop_oldest(4), 4);
        assert_eq!(sent(&mut backlog), "[1:1-2][2:1-2]eeee");
    }

    #[test]
    fn control_frames_survive_and_keep_their_place() {
        let mut backlog = Backlog::default();
        backlog.push(event(1, 1, 4));
        backlog.push(control(b"PONG"));
        backlog.push(event(1, 2, 4));
        backlog.push(event(1, 3, 4));
        assert_eq!(backlog.drop_oldest(8), 2);
        assert_eq!(sent(&mut backlog), "[1:1-1]PONG[1:2-2]eeee");
    }

    #[test]
    fn a_notice_written_early_says_the_same() {
        let (mut late, mut early) = (Backlog::default(), Backlog::default());
        for backlog in [&mut late, &mut early] {
            for offset in 1..=4 {
                backlog.push(event(3, offset, 3));
            }
            assert_eq!(backlog.drop_oldest(6), 2);
        }
        early.write_notices(&mut |run, out| {
            out.extend_from_slice(
                format!("[{}:{}-{}]", run.channel, run.first, run.last).as_bytes(),
            );
        });
        assert_eq!(sent(&mut early), sent(&mut late));
        assert_eq!(early.bytes(), 0);
    }

    #[test]
    fn the_newest_event_stays_however_large() {
        let mut backlog = Backlog::default();
        backlog.push(event(1, 1, 100));
        assert!(!backlog.is_over(10));
        assert_eq!(backlog.drop_oldest(10), 0);
        backlog.push(event(1, 2, 100));
        assert!(backlog.is_over(10));
        assert_eq!(backlog.drop_oldest(10), 1);
        assert_eq!(sent(&mut backlog), format!("[1:1-1]{}", "e".repeat(100)));
    }

    #[test]
    fn the_drivers_share_counts_until_it_is_done() {
        let mut backlog = Backlog::default();
        backlog.set_armed(50);
        backlog.push(event(1, 1, 5));
        assert_eq!((backlog.bytes(), backlog.discard()), (55, 1));
        assert_eq!(backlog.bytes(), 50);
        backlog.armed_done();
        assert_eq!(backlog.bytes(), 0);
    }
}
