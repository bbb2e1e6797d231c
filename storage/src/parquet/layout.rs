//! Which events go into which file: hours, file names, and where a range of the spool ends.
//!
//! A range is `[first_seq, end_seq)` of one node's spool. It ends where it has enough bytes, or
//! before the first event of a later hour of acceptance, whichever comes first. Each hour that
//! occurs in a range gets one file; as several shards accept at the same time, the minutes around
//! a full hour leave a few stragglers, and each gives a small file of its own.
//!
//! Invariants: a range depends on nothing but the events and the limit, so a retry after a crash
//! cuts the same; every event of a range is in exactly one of its files. Pure. Deliberately
//! absent: reading the spool, writing files. Tests: `tests`.

use proto::event::Event;
use proto::rfc3339::{TIME_US_MAX, TIME_US_MIN, parse_rfc3339, write_rfc3339};
use std::fmt;

const HOUR_US: i64 = 3_600_000_000;

/// One hour of acceptance in UTC: a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hour(i64);

impl Hour {
    /// The hour of a time in microseconds since the Unix epoch, held within the years 0 to 9999.
    pub fn of(received_us: i64) -> Self {
        Self(received_us.clamp(TIME_US_MIN, TIME_US_MAX).div_euclid(HOUR_US))
    }

    /// Its first microsecond.
    pub fn begin_us(self) -> i64 {
        self.0 * HOUR_US
    }

    /// The first microsecond after it.
    pub fn end_us(self) -> i64 {
        (self.0 + 1) * HOUR_US
    }

    /// Reads `day=2026-11-22/hour=07`, exactly as it is printed.
    pub fn parse(path: &str) -> Option<Self> {
        let (day, hour) = path.strip_prefix("day=")?.split_once("/hour=")?;
        let read = Self::of(parse_rfc3339(&format!("{day}T{hour}:00:00Z"))?);
        (read.to_string() == path).then_some(read)
    }
}

impl fmt::Display for Hour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Vec::with_capacity(32);
        write_rfc3339(&mut text, self.begin_us());
        let text = std::str::from_utf8(&text).unwrap_or_default();
        let day = text.get(..10).unwrap_or_default();
        let hour = text.get(11..13).unwrap_or_default();
        write!(f, "day={day}/hour={hour}")
    }
}

/// Which part of which spool: what a file's name and its metadata say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// The node whose spool it is; see `Config::node`.
    pub node: String,
    /// The first event.
    pub first_seq: u64,
    /// The first event after it.
    pub end_seq: u64,
}

impl Range {
    /// The file's name without its folders. Twenty digits hold every number, so names sort.
    pub fn file_name(&self) -> String {
        format!("{}-{:020}-{:020}.parquet", self.node, self.first_seq, self.end_seq)
    }

    /// The file's path below the root.
    pub fn path(&self, hour: Hour) -> String {
        format!("{hour}/{}", self.file_name())
    }

    /// Reads a file name; `None` if we did not write it.
    pub fn parse(file_name: &str) -> Option<Self> {
        let mut parts = file_name.strip_suffix(".parquet")?.rsplitn(3, '-');
        let end_seq = number(parts.next()?)?;
        let first_seq = number(parts.next()?)?;
        let node = parts.next().filter(|node| !node.is_empty())?.to_owned();
        (first_seq < end_seq).then_some(Self { node, first_seq, end_seq })
    }
}

fn number(text: &str) -> Option<u64> {
    let digits = text.len() == 20 && text.bytes().all(|b| b.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

/// A range that is still growing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    first_seq: u64,
    end_seq: u64,
    hour: Option<Hour>,
    bytes: u64,
}

impl Plan {
    /// An empty range that begins at `first_seq`.
    pub fn begin(first_seq: u64) -> Self {
        Self { first_seq, end_seq: first_seq, hour: None, bytes: 0 }
    }

    /// Where it begins.
    pub fn first_seq(&self) -> u64 {
        self.first_seq
    }

    /// The first event that it has not seen.
    pub fn end_seq(&self) -> u64 {
        self.end_seq
    }

    /// The latest hour in it; `None`: it is empty.
    pub fn hour(&self) -> Option<Hour> {
        self.hour
    }

    /// Bytes of its events, as they were given.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Goes on over `(seq, received_us, bytes)` of further events, in spool order. `Some`:
    /// the range is `[first_seq, end)`, and the event `end`, taken or not, belongs to the next
    /// one. `None`: it takes more. An event that is older than the range stays in it: a clock that
    /// was set back must not cut a range at every event.
    pub fn grow(
        &mut self,
        events: impl IntoIterator<Item = (u64, i64, u64)>,
        file_bytes: u64,
    ) -> Option<u64> {
        for (seq, received_us, bytes) in events {
            let hour = Hour::of(received_us);
            if self.hour.is_some_and(|of_range| hour > of_range) {
                return Some(seq);
            }
            self.hour = Some(self.hour.unwrap_or(hour));
            self.bytes += bytes;
            self.end_seq = seq + 1;
            if self.bytes >= file_bytes {
                return Some(self.end_seq);
            }
        }
        None
    }
}

/// The events of a range by hour, each hour in spool order; hours in the order of their first
/// events.
pub fn split_hours(events: impl IntoIterator<Item = Event>) -> Vec<(Hour, Vec<Event>)> {
    let mut hours: Vec<(Hour, Vec<Event>)> = Vec::new();
    let mut last = 0;
    for event in events {
        let hour = Hour::of(event.accepted_us());
        if hours.get(last).is_none_or(|(of_last, _)| *of_last != hour) {
            last = hours.iter().position(|(known, _)| *known == hour).unwrap_or(hours.len());
        }
        match hours.get_mut(last) {
            Some((_, events)) => events.push(event),
            None => hours.push((hour, vec![event])),
        }
    }
    hours
}
