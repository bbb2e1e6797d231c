//! One channel's events in memory: a contiguous run of offsets, oldest first.
//!
//! Invariant: the offsets rise by exactly one from front to back, so that finding an offset is a
//! subtraction and "every offset in between was found" is a fact about the two ends. Times of
//! admission never fall from front to back. The events are references to the images that frames
//! and the spool share.

use super::PageLimit;
use proto::event::Event;
use std::collections::VecDeque;

/// What an event costs beyond its image: the shared-ownership header that `Bytes` allocates (24
/// bytes) and the two allocations' own rounding and headers.
pub(super) const EVENT_OVERHEAD_BYTES: usize = 48;

struct Kept {
    event: Event,
    admitted_ms: i64,
}

/// See the module.
#[derive(Default)]
pub(super) struct History {
    kept: VecDeque<Kept>,
    images_bytes: usize,
}

impl History {
    /// Appends the event that follows the newest one.
    pub(super) fn push(&mut self, event: Event, admitted_ms: i64, len_max: usize) {
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
        self.images_bytes += event_bytes(&event);
        self.kept.push_back(Kept { event, admitted_ms });
    }

    /// Drops the oldest event. False if there was none.
    pub(super) fn pop(&mut self) -> bool {
        let Some(kept) = self.kept.pop_front() else { return false };
        self.images_bytes -= event_bytes(&kept.event);
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

    /// The event at an offset.
    pub(super) fn get(&self, offset: u64) -> Option<&Event> {
        let index = offset.checked_sub(self.first()?)?;
        self.kept.get(usize::try_from(index).ok()?).map(|kept| &kept.event)
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

    /// What the ledger counts: images, their overhead, and the capacity of the deque.
    pub(super) fn bytes(&self) -> u64 {
        (self.images_bytes + self.kept.capacity() * size_of::<Kept>()) as u64
    }
}

fn event_bytes(event: &Event) -> usize {
    event.size() + EVENT_OVERHEAD_BYTES
}
