//! What keeps a home within its bounds: sizes, ages, budgets.

use super::dedupe::{IdHash, Seen};
use super::history::Held;
use super::{Expiry, Home};
use proto::event::Event;

impl Home {
    /// Appends to the history within the namespace's bounds and the shard's budget.
    pub(super) fn keep(&mut self, slot: u32, event: Event, admitted_ms: i64, held: Held) {
        let Some(channel) = self.directory.at_mut(slot) else { return };
        let len_max = channel.history_size as usize;
        if len_max == 0 {
            channel.history.clear();
        } else {
            while channel.history.len() >= len_max {
                channel.history.pop();
                self.counters.history_dropped_size += 1;
            }
            channel.history.push(event, admitted_ms, len_max, held);
        }
        self.history_ranks.set(slot, channel.history.bytes());
        while self.history_ranks.total() > self.config.history_bytes_max {
            let Some(slot) = self.history_ranks.largest() else { break };
            let Some(channel) = self.directory.at_mut(slot) else { break };
            channel.history.pop();
            self.counters.history_dropped_budget += 1;
            self.history_ranks.set(slot, channel.history.bytes());
        }
    }

    /// The original of an event with this id, if it is still remembered.
    pub(super) fn original(&self, hash: IdHash, now_ms: i64) -> Option<Seen> {
        let seen = self.ids.find(hash)?;
        (now_ms - seen.admitted_ms < self.config.dedupe_age_ms as i64).then_some(*seen)
    }

    /// Remembers an id within the window's bounds and the shard's budget.
    pub(super) fn remember(&mut self, slot: u32, seen: Seen) {
        let ids_max = self.config.dedupe_ids_max;
        if ids_max == 0 {
            return;
        }
        if let Some(channel) = self.directory.at_mut(slot)
            && channel.ids.len() >= ids_max
        {
            self.ids.pop(&mut channel.ids);
            self.counters.ids_dropped_size += 1;
        } else if self.ids.is_full() {
            // The pool may be full without holding anything only if it has no block at all.
            let Some(largest) = self.ids_ranks.largest() else { return };
            if let Some(channel) = self.directory.at_mut(largest) {
                self.ids.pop(&mut channel.ids);
                self.ids_ranks.set(largest, u64::from(channel.ids.len()));
                self.counters.ids_dropped_budget += 1;
            }
        }
        if let Some(channel) = self.directory.at_mut(slot) {
            self.ids.push(&mut channel.ids, seen);
            self.ids_ranks.set(slot, u64::from(channel.ids.len()));
        }
    }

    /// Drops up to `work_max` aged events and ids of one channel. Returns how many it dropped.
    pub(super) fn age(
        &mut self,
        slot: u32,
        now_ms: i64,
        work_max: u32,
        expiry: &mut Expiry,
    ) -> u32 {
        let Some(channel) = self.directory.at_mut(slot) else { return 0 };
        let age_ms = channel.history_age_ms;
        let mut events = 0;
        while events < work_max && channel.history.front_aged(now_ms, age_ms) {
            channel.history.pop();
            events += 1;
        }
        let age_ms = self.config.dedupe_age_ms as i64;
        let aged = |seen: &Seen| now_ms - seen.admitted_ms >= age_ms;
        let mut ids = 0;
        while events + ids < work_max && self.ids.oldest(&channel.ids).is_some_and(aged) {
            self.ids.pop(&mut channel.ids);
            ids += 1;
        }
        if events > 0 {
            self.history_ranks.set(slot, channel.history.bytes());
            self.counters.history_dropped_age += u64::from(events);
        }
        if ids > 0 {
            self.ids_ranks.set(slot, u64::from(channel.ids.len()));
            self.counters.ids_dropped_age += u64::from(ids);
        }
        expiry.events += events;
        expiry.ids += ids;
        events + ids
    }

    /// See [`super::Orderer::expire`]. `pressed`: channels are wanted, so those that were never
    /// published to go at once; they lose nothing but an epoch.
    pub(super) fn sweep(&mut self, now_ms: i64, mut work_max: u32, pressed: bool) -> Expiry {
        let mut expiry = Expiry::default();
        for _ in 0..self.directory.slots() {
            if work_max == 0 {
                return expiry;
            }
            if self.sweep_at >= self.directory.slots() {
                self.sweep_at = 0;
            }
            let slot = self.sweep_at;
            let dropped = self.age(slot, now_ms, work_max, &mut expiry);
            if dropped >= work_max {
                // Perhaps not done with this one: the next call comes back to it.
                return expiry;
            }
            work_max -= dropped.max(1);
            if let Some(channel) = self.directory.at(slot) {
                let unused = pressed && channel.last == 0;
                let idle_ms = if unused { 0 } else { self.config.idle_forget_ms as i64 };
                if channel.is_forgettable(now_ms, idle_ms) {
                    self.forget(slot);
                    expiry.channels += 1;
                }
            }
            self.sweep_at += 1;
        }
        expiry.complete = true;
        expiry
    }
}
