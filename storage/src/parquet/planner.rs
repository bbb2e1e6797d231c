//! Where the next range ends: looks at the sealed segments, and at the clock.
//!
//! A range ends where [`Plan`] says; or, when there is nothing more to look at, once its hour is
//! over or its first event has waited long enough. The clock decides only here: the range is in
//! the cursor file before anything is put, and a retry takes it from there.
//!
//! Memory: a range that is found in one look is handed over with its events, as they were read; of
//! one that waits for more only its end and its checksum are kept. Threads: the sink's. Tests:
//! `tests::planner`.

use super::layout::Plan;
use crate::files::Files;
use crate::read::ReadError;
use crate::sink::Source;
use crate::sink::cursor::Planned;
use proto::event::Event;

/// Events looked at in one read of the spool.
const ROWS: u64 = 16_384;
/// Their bytes, about: small enough that the writer never waits long for the feed's lock.
const BYTES: u64 = 4 << 20;
/// What an event costs in memory beside its image: its place in a list, its allocation's slack and
/// reference count. So a range of small events is not larger in memory than one of large events.
const EVENT_BYTES: u64 = 64;
/// An hour is over when the clock is so far beyond it: a shard may still hand over events that it
/// accepted before.
const GRACE_US: i64 = 60_000_000;

/// When a range ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Bytes of its events, each with [`EVENT_BYTES`].
    pub file_bytes: u64,
    /// How long its first event waits for more, microseconds.
    pub age_us: i64,
}

/// A range that has ended.
#[derive(Debug)]
pub(super) struct Ready {
    /// What goes into the cursor file.
    pub range: Planned,
    /// Its events; `None`: read them.
    pub events: Option<Vec<Event>>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Planner {
    plan: Plan,
    /// Over the images of what the plan has taken.
    crc: u32,
    /// When its first event was accepted.
    first_us: Option<i64>,
    /// Events that were gone before a range began; whoever counts them sets it back.
    pub missed: u64,
}

impl Planner {
    /// Goes on at `seq`.
    pub fn begin(seq: u64) -> Self {
        Self { plan: Plan::begin(seq), crc: 0, first_us: None, missed: 0 }
    }

    /// Looks at what has been sealed since the last time. `None`: the range takes more.
    pub fn look<F: Files>(
        &mut self,
        source: &Source<F>,
        limits: Limits,
        now_us: i64,
    ) -> Result<Option<Ready>, ReadError> {
        let sealed = source.sealed_end_seq();
        let mut held = self.first_us.is_none().then(Vec::new);
        while self.plan.end_seq() < sealed {
            let from = self.plan.end_seq();
            let rows = (sealed - from).min(ROWS) as usize;
            let run = source.read(from, rows, BYTES)?;
            if run.events.is_empty() {
                break;
            }
            if run.from > from {
                if self.first_us.is_some() {
                    return Ok(Some(self.end(held)));
                }
                self.missed += run.from - from;
                self.plan = Plan::begin(run.from);
            }
            let ended = self.take(&run.events, limits);
            if let Some(held) = &mut held {
                let taken = self.plan.end_seq() - run.from;
                held.extend(run.events.into_iter().take(taken as usize));
            }
            if ended {
                return Ok(Some(self.end(held)));
            }
        }
        Ok(self.is_over(limits, now_us).then(|| self.end(held)))
    }

    /// `true`: the range ends among these events, or with them.
    fn take(&mut self, events: &[Event], limits: Limits) -> bool {
        let from = self.plan.end_seq();
        let facts = events.iter().zip(from..);
        let bytes = |event: &Event| event.size() as u64 + EVENT_BYTES;
        let facts = facts.map(|(event, seq)| (seq, event.accepted_us(), bytes(event)));
        let ended = self.plan.grow(facts, limits.file_bytes).is_some();
        let taken = (self.plan.end_seq() - from) as usize;
        for event in events.iter().take(taken) {
            self.first_us.get_or_insert(event.accepted_us());
            self.crc = crc32c::crc32c_append(self.crc, event.as_bytes());
        }
        ended
    }

    /// True if it has waited long enough for more.
    fn is_over(&self, limits: Limits, now_us: i64) -> bool {
        let (Some(hour), Some(first_us)) = (self.plan.hour(), self.first_us) else { return false };
        let hour_is_over = now_us.saturating_sub(hour.end_us()) >= GRACE_US;
        // A clock that was set back must not hold events for as long as it was ahead.
        hour_is_over || now_us.abs_diff(first_us) >= limits.age_us.unsigned_abs()
    }

    fn end(&mut self, events: Option<Vec<Event>>) -> Ready {
        let (from, end) = (self.plan.first_seq(), self.plan.end_seq());
        let range = Planned { from, end, crc: self.crc, dead: None };
        *self = Self { missed: self.missed, ..Self::begin(end) };
        Ready { range, events }
    }
}
