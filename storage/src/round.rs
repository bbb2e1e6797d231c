//! One round of group commit: the bytes that are written and synced together.
//!
//! The buffer is reused; it begins with room for the mark, which is filled in when the place is
//! known (a round that is rewritten gets another place). Events stay referenced until the sync,
//! because only then do the index and the channel table learn of them.

use crate::format::{MARK_BYTES, Mark, RECORD_HEADER_BYTES, push_record};
use crate::spool::Ack;
use proto::event::Event;

#[derive(Debug, Default)]
pub(crate) struct Round {
    buffer: Vec<u8>,
    pub(crate) events: Vec<Event>,
    /// Batches that end in this round.
    pub(crate) acks: Vec<Ack>,
    /// Bytes already handed to the file.
    pub(crate) written: usize,
    /// The round has already lost one segment under it.
    pub(crate) rewritten: bool,
}

/// Capacity kept between rounds; one huge event does not keep its memory for ever.
const BUFFER_KEPT_BYTES: usize = 8 << 20;

impl Round {
    /// Bytes a record of this event takes.
    pub(crate) fn cost(event: &Event) -> u64 {
        RECORD_HEADER_BYTES + event.size() as u64
    }

    pub(crate) fn push(&mut self, event: Event) {
        if self.buffer.is_empty() {
            self.buffer.resize(MARK_BYTES as usize, 0);
        }
        push_record(&mut self.buffer, event.as_bytes());
        self.events.push(event);
    }

    /// Bytes the round takes in a segment, mark included.
    pub(crate) fn bytes(&self) -> u64 {
        (self.buffer.len() as u64).max(MARK_BYTES)
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        (self.buffer.capacity() + self.events.capacity() * size_of::<Event>()) as u64
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.acks.is_empty()
    }

    /// Fills in the mark: the round goes to this place.
    pub(crate) fn stamp(&mut self, mark: Mark) {
        debug_assert_eq!(self.written, 0);
        self.buffer[..MARK_BYTES as usize].copy_from_slice(&mark.encode());
    }

    /// What is still to be written.
    pub(crate) fn unwritten(&self) -> &[u8] {
        &self.buffer[self.written..]
    }

    pub(crate) fn clear(&mut self) {
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_KEPT_BYTES);
        self.events.clear();
        self.events.shrink_to(BUFFER_KEPT_BYTES / 64);
        self.acks.clear();
        self.written = 0;
        self.rewritten = false;
    }
}
