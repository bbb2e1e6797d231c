//! One channel's events in memory: a contiguous run of offsets, oldest first.
//!
//! Invariant: the offsets rise by exactly one from front to back, so that finding an offset is a
//! subtraction and "every offset in between was found" is a fact about the two ends. Times of
//! admission never fall from front to back. The events are references to the images that frames
//! and the spool share.
//!
//! The images of one batch stand several in one allocation, and it lives as long as the last of
//! them. So it is charged as a whole, and given back with the newest of its events: what is charged
//! is never less than what is held.

use super::PageLimit;
use proto::event::{Event, ImageRoom, Unplaced};
use proto::position::Position;
use std::collections::VecDeque;

/// What an allocation of images costs beyond them: the shared-ownership header that `Bytes` makes
/// (24 to 40 bytes) and the two allocations' own rounding and headers.
pub(super) const EVENT_OVERHEAD_BYTES: usize = 48;

struct Kept {
    event: Event,
    admitted_ms: i64,
    /// Bytes that go when this event goes; 0 if a later event holds the same allocation.
    held_bytes: usize,
}

/// Where the images of one batch and channel go.
#[derive(Debug)]
pub struct Room {
    /// `None`: a single event, whose image stays where it is.
    images: Option<ImageRoom>,
}

/// What an event keeps alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    /// An allocation of so many bytes.
    New(usize),
    /// The same allocation as the channel's event before it.
    Shared(usize),
}

impl Room {
    /// For one event.
    pub fn alone() -> Self {
        Self { images: None }
    }

    /// For several events of so many bytes together.
    pub fn of(events: u32, bytes: usize) -> Self {
        Self { images: (events > 1).then(|| ImageRoom::new(bytes)) }
    }

    pub(super) fn place(
        &mut self,
        event: Unplaced,
        position: Position,
        accepted_us: i64,
    ) -> (Event, Held) {
        match &mut self.images {
            None => {
                let event = event.place(position, accepted_us);
                let bytes = event_bytes(&event);
                (event, Held::New(bytes))
            }
            Some(images) => {
                let event = event.place_in(images, position, accepted_us);
                let (bytes, is_new) = images.piece();
                let bytes = bytes + EVENT_OVERHEAD_BYTES;
                (event, if is_new { Held::New(bytes) } else { Held::Shared(bytes) })
            }
        }
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct History {
    kept: VecDeque<Kept>,
    images_bytes: usize,
}

impl History {
    /// Appends the event that follows the newest one.
    pub(super) fn push(&mut self, event: Event, admitted_ms: i64, len_max: usize, held: Held) {
        let held_bytes = match (held, self.kept.back_mut()) {
            // The charge moves on to the newest.
            (Held::Shared(_), Some(back)) => std::mem::take(&mut back.held_bytes),
            (Held::New(bytes) | Held::Shared(bytes), _) => {
                self.images_bytes += bytes;
                bytes
            }
        };
        let admitted_ms = match self.kept.back() {
            None => admitted_ms,
            Some(back) => {
                assert_eq!(back.event.offset() + 1, event.offset(), "a hole in the history");
                admitted_ms.max(back.admitted_ms)
            }
        };
        if self.kept.len() == self.kept.capacity() {
            // Doubles as a deque does, but never beyond what the namespace allows.
            let room = len_max.saturating_sub(self.kept.len()).max(1);
            self.kept.reserve_exact(self.kept.len().clamp(4, 1 << 20).min(room));
        }
        self.kept.push_back(Kept { event, admitted_ms, held_bytes });
    }

    /// Drops the oldest event. False if there was none.
    pub(super) fn pop(&mut self) -> bool {
        let Some(kept) = self.kept.pop_front() else { return false };
        self.images_bytes -= kept.held_bytes;
        let len = self.kept.len();
        if len == 0 {
            self.kept = VecDeque::new();
        } else if self.kept.capacity() >= 16 && len < self.kept.capacity() / 4 {
            self.kept.shrink_to(len * 2);
        }
        true
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    /// The oldest retained offset.
    pub(super) fn first(&self) -> Option<u64> {
        self.kept.front().map(|kept| kept.event.offset())
    }

    /// The newest retained offset.
    pub(super) fn last(&self) -> Option<u64> {
        self.kept.back().map(|kept| kept.event.offset())
    }

    /// True if the oldest event was admitted `age_ms` ago or earlier.
    pub(super) fn front_aged(&self, now_ms: i64, age_ms: i64) -> bool {
        self.kept.front().is_some_and(|kept| now_ms - kept.admitted_ms >= age_ms)
    }

    /// Events with offsets above `after` and up to `visible`, within the limit but at least one,
    /// and the offset to go on after if there are more.
    pub(super) fn after(
        &self,
        after: u64,
        visible: u64,
        limit: PageLimit,
    ) -> (Vec<Event>, Option<u64>) {
        let mut events = Vec::new();
        let Some(first) = self.first() else { return (events, None) };
        let start =
            usize::try_from(after.saturating_add(1).saturating_sub(first)).unwrap_or(usize::MAX);
        let mut bytes = 0;
        for kept in self.kept.range(start.min(self.kept.len())..) {
            if kept.event.offset() > visible {
                break;
            }
            bytes += kept.event.size();
            if let Some(last) = events.last()
                && (events.len() >= limit.events_max || bytes > limit.bytes_max)
            {
                let last: &Event = last;
                let next = last.offset();
                return (events, Some(next));
            }
            events.push(kept.event.clone());
        }
        (events, None)
    }

    /// Events with offsets below `below`, the newest first, within the limit but at least one.
    pub(super) fn newest(&self, below: u64, limit: PageLimit) -> Vec<Event> {
        let mut events = Vec::new();
        let Some(first) = self.first() else { return events };
        let end = usize::try_from(below.saturating_sub(first)).unwrap_or(usize::MAX);
        let mut bytes = 0;
        for kept in self.kept.range(..end.min(self.kept.len())).rev() {
            bytes += kept.event.size();
            let full = events.len() >= limit.events_max || bytes > limit.bytes_max;
            if full && !events.is_empty() {
                break;
            }
            events.push(kept.event.clone());
        }
        events
    }

    /// What the ledger counts: images, their overhead, and the capacity of the deque.
    pub(super) fn bytes(&self) -> u64 {
        (self.images_bytes + self.kept.capacity() * size_of::<Kept>()) as u64
    }
}

pub(super) fn event_bytes(event: &Event) -> usize {
    event.size() + EVENT_OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::event::Draft;
    use proto::position::Epoch;
    use std::collections::BTreeMap;

    /// Whatever comes and goes, the charge is the sum of the allocations that are still held.
    #[test]
    fn an_allocation_is_charged_until_its_last_event_goes() {
        let mut history = History::default();
        let (mut offset, mut state) = (0, 3_u64);
        // By offset: which allocation, and its bytes.
        let mut held: BTreeMap<u64, (u64, usize)> = BTreeMap::new();
        for batch in 0..2_000_u64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let events = 1 + (state >> 40) % 5;
            let draft = Draft { channel: "c", data: &[7; 100], ..Draft::default() };
            let size = draft.build().unwrap().size();
            let mut room = Room::of(events as u32, size * events as usize);
            for _ in 0..events {
                offset += 1;
                let position = Position { epoch: Epoch(1), offset };
                let (event, charge) = room.place(draft.build().unwrap(), position, 0);
                history.push(event, 0, 1_000, charge);
                let bytes = size * events as usize + EVENT_OVERHEAD_BYTES;
                held.insert(offset, (batch, bytes));
            }
            for _ in 0..(state >> 20) % 7 {
                assert_eq!(history.pop(), held.pop_first().is_some());
            }
            let allocations: BTreeMap<u64, usize> = held.values().copied().collect();
            assert_eq!(history.images_bytes, allocations.values().sum::<usize>());
            assert_eq!(history.first(), held.keys().next().copied());
        }
        while history.pop() {}
        assert_eq!((history.images_bytes, history.bytes()), (0, 0));
    }
}
