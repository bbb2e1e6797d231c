//! Which segments may go, and when.
//!
//! Only the oldest goes, one at a time, each removal synced: after a power cut the segments are
//! still a row without holes. It goes when it is past retention *and* every sink has confirmed it.

use crate::files::Files;
use crate::format::{index_name, segment_name};
use crate::notice::Notice;
use crate::spool::{Options, Spool};
use std::sync::Arc;

/// Names a sink that must confirm segments before they go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SinkId(usize);

/// Between two looks at the ages.
const RETAIN_US: u64 = 1_000_000;

impl<F: Files> Spool<F> {
    /// Registers a sink that has confirmed everything before `seq`.
    pub fn register_sink(&mut self, seq: u64) -> SinkId {
        self.sinks.push(seq);
        SinkId(self.sinks.len() - 1)
    }

    /// A sink has everything before `seq`.
    pub fn confirm(&mut self, sink: SinkId, seq: u64) {
        if let Some(confirmed) = self.sinks.get_mut(sink.0) {
            *confirmed = seq.max(*confirmed);
        }
    }

    /// Removes what is past retention; looks at most once a second.
    pub(crate) fn retain(&mut self, now_us: i64) {
        if self.retain_at_us.is_some_and(|at| now_us.abs_diff(at) < RETAIN_US) {
            return;
        }
        self.retain_at_us = Some(now_us);
        while self.oldest_is_past(now_us) && self.remove_oldest() {}
        self.roll_by_age(now_us);
    }

    /// Removes the oldest segments so that `room` more bytes stay within the retention.
    pub(crate) fn make_way(&mut self, room: u64) {
        let bytes = self.options.retention.bytes.min(self.options.retention.hard_bytes_max);
        while self.disk_bytes() + room > bytes && self.remove_oldest() {}
    }

    /// Bytes of all segments, the prepared one included.
    pub(crate) fn disk_bytes(&self) -> u64 {
        let active = self.active.as_ref().map_or(0, |active| active.room);
        self.sealed_bytes + active + self.next.as_ref().map_or(0, |(_, room)| *room)
    }

    fn oldest_is_past(&self, now_us: i64) -> bool {
        if self.disk_bytes() > self.options.retention.bytes {
            return true;
        }
        let Some(age_s) = self.options.retention.age_s else { return false };
        // The start of the segment after it is when it got its last event, at the latest.
        let ended_us = self.catalog.update(|snapshot| {
            let second = snapshot.sealed.get(1).map(|info| info.created_us);
            second.or(self.active.as_ref().map(|active| active.created_us))
        });
        ended_us.is_some_and(|ended_us| {
            now_us.saturating_sub(ended_us) > age_us(age_s) // a clock set back keeps segments
        })
    }

    /// Removes the oldest sealed segment if every sink has it. `false`: it stays.
    fn remove_oldest(&mut self) -> bool {
        let oldest = self.catalog.update(|snapshot| snapshot.sealed.first().cloned());
        let Some(oldest) = oldest else { return false };
        let next_seq = oldest.first_seq + oldest.count;
        if self.sinks.iter().any(|confirmed| *confirmed < next_seq) {
            return false;
        }
        let name = segment_name(oldest.first_seq);
        if let Err(e) = self.files.remove(&name)
            && e.kind() != std::io::ErrorKind::NotFound
        {
            self.notice(Notice::RemoveFailed { file: name, error: e.to_string() });
            return false;
        }
        let _ = self.files.remove(&index_name(oldest.first_seq)); // may never have been written
        self.catalog.update(|snapshot| {
            Arc::make_mut(&mut snapshot.sealed).remove(0);
        });
        self.sealed_bytes -= oldest.bytes;
        self.channels.forget_before(next_seq);
        self.counters.segments_removed += 1;
        if let Err(e) = self.files.sync_dir() {
            self.notice(Notice::RemoveFailed { file: name, error: e.to_string() });
            return false;
        }
        true
    }

    /// A quiet segment is ended after a quarter of the retention age, or it would never go; and
    /// earlier if somebody waits for its first event.
    fn roll_by_age(&mut self, now_us: i64) {
        let Options { retention, seal_age_s, .. } = self.options;
        let old = self.active.as_ref().is_some_and(|active| {
            let Some(first_us) = active.first_us else { return false };
            let quiet = |age_s| {
                now_us.saturating_sub(active.created_us) > (age_us(age_s) / 4).max(1_000_000)
            };
            // Also if the clock was set back: somebody waits.
            let ripe = |age_s| now_us.abs_diff(first_us) > age_us(age_s).unsigned_abs();
            retention.age_s.is_some_and(quiet) || seal_age_s.is_some_and(ripe)
        });
        if old && !self.in_round() {
            let _ = self.roll(0, now_us); // a halt is in the state
        }
    }
}

fn age_us(age_s: u64) -> i64 {
    i64::try_from(age_s.saturating_mul(1_000_000)).unwrap_or(i64::MAX)
}
