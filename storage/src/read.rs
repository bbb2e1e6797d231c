//! Reads: the spool as the embedded store.
//!
//! A read is a row of steps. Each step takes a [`HistoryRead`], looks at a bounded number of bytes
//! and gives a bounded block of events and the read to go on with; between steps nothing is held,
//! neither a thread nor a file nor a lock, so a slow client costs nothing. Only synced events are
//! seen, and only those that were synced when the read began. Segments and blocks that cannot
//! match are skipped by their index. Retention may remove segments meanwhile: before the first
//! event was given that only moves the beginning, afterwards the read ends with `Expired`, never
//! with a silent hole.
//!
//! Threads: any; `read_pool` brings its own. Deliberately absent: JSON, HTTP, joining live.

use crate::catalog::Catalog;
use crate::files::Files;
use crate::format::HEADER_BYTES;
use crate::parts::{Indexes, meet, parts};
use crate::walk::{Cursor, Found, Gather, Target, damaged};
use bytes::Bytes;
use proto::channel::ChannelName;
use proto::event::{Event, EventError};
use proto::position::Position;
use std::io;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

/// One end of a range. Both ends are inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// No bound.
    Open,
    /// An offset.
    Offset(u64),
    /// An event time, microseconds since the Unix epoch.
    TimeUs(i64),
}

/// A read, or the rest of one.
#[derive(Debug, Clone)]
pub struct HistoryRead {
    channel: ChannelName,
    incarnation: Option<u32>,
    from: Bound,
    to: Bound,
    /// Events still wanted.
    limit: u32,
    cursor: Option<Cursor>,
    newest: Option<Position>,
}

/// Most events of one read.
pub const LIMIT_MAX: u32 = 100_000;
/// Bytes of events in a block, unless one event alone is larger.
pub const BLOCK_BYTES_MAX: usize = 256 * 1024;
/// Bytes looked at in one step (about 10 ms): a reader thread is shared.
pub const STEP_BYTES_MAX: u64 = 16 << 20;

impl HistoryRead {
    /// The events of `channel` from `from` to `to`, ascending, at most `limit` (capped at
    /// [`LIMIT_MAX`]). With an incarnation, only its events: offsets are then unambiguous.
    pub fn new(
        channel: ChannelName,
        incarnation: Option<u32>,
        from: Bound,
        to: Bound,
        limit: u32,
    ) -> Self {
        let limit = limit.min(LIMIT_MAX);
        Self { channel, incarnation, from, to, limit, cursor: None, newest: None }
    }

    /// The channel.
    pub fn channel(&self) -> &ChannelName {
        &self.channel
    }

    /// With one, only its events are wanted.
    pub fn incarnation(&self) -> Option<u32> {
        self.incarnation
    }

    /// Where the range begins and where it ends.
    pub fn range(&self) -> (Bound, Bound) {
        (self.from, self.to)
    }

    /// Events still wanted.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// The newest event that was passed so far; a store without a cursor of its own goes on behind
    /// it.
    pub fn passed(&self) -> Option<Position> {
        self.newest
    }

    /// The rest of this read for a store that goes on by position, after a block of `given` events
    /// that ended at `passed`. The embedded store goes on by what it gave itself.
    #[must_use]
    pub fn rest(mut self, passed: Position, given: u32) -> Self {
        self.newest = Some(passed);
        self.limit = self.limit.saturating_sub(given);
        self
    }
}

/// The answer of one step.
#[derive(Debug)]
pub struct HistoryBlock {
    /// In order; may be empty although there is more.
    pub events: Vec<Event>,
    /// How to go on; `None`: the read is complete.
    pub next: Option<HistoryRead>,
    /// The newest event of the channel that the read has passed, given or not.
    pub newest: Option<Position>,
}

/// Why a read ended early.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Retention removed what the read had not reached yet.
    #[error("retention removed the next events while they were being read; read again from there")]
    Expired,
    /// The disk did not return what was written.
    #[error("{file} is damaged at byte {at}: {what}; restore it from a backup")]
    Damaged {
        /// The segment.
        file: String,
        /// The file offset.
        at: u64,
        /// What is wrong.
        what: String,
    },
    /// The answer would not fit its limit.
    #[error("the answer is too long; {remedy}")]
    TooLarge {
        /// What to ask instead.
        remedy: &'static str,
    },
    /// It took more time than it may.
    #[error("this took longer than {seconds} s; narrow `from` and `to`")]
    TooLong {
        /// The limit.
        seconds: u64,
    },
    /// A store outside this process gave no answer; another try may help.
    #[error("the store does not answer: {what}")]
    Unavailable {
        /// What it or the way to it said.
        what: String,
    },
    /// The operating system refused.
    #[error("cannot read {file}: {source}")]
    Io {
        /// The segment.
        file: String,
        /// The reason.
        source: io::Error,
    },
}

/// Reads one spool. Cheap to clone; clones share a few cached indexes.
#[derive(Debug)]
pub struct Reader<F: Files> {
    pub(crate) files: F,
    pub(crate) catalog: Catalog<F::File>,
    pub(crate) indexes: Arc<Mutex<Indexes>>,
}

impl<F: Files> Clone for Reader<F> {
    fn clone(&self) -> Self {
        Self {
            files: self.files.clone(),
            catalog: self.catalog.clone(),
            indexes: self.indexes.clone(),
        }
    }
}

impl<F: Files> Reader<F> {
    pub(crate) fn new(files: F, catalog: Catalog<F::File>) -> Self {
        Self { files, catalog, indexes: Arc::default() }
    }

    /// The whole read at once, block by block, for callers that may take their time.
    pub fn history(
        &self,
        read: HistoryRead,
        each: &mut dyn FnMut(Vec<Event>) -> ControlFlow<()>,
    ) -> Result<Option<Position>, ReadError> {
        let mut read = read;
        loop {
            let block = self.step(read)?;
            let stop = !block.events.is_empty() && each(block.events).is_break();
            match block.next {
                Some(next) if !stop => read = next,
                _ => return Ok(block.newest),
            }
        }
    }

    /// One step of a read.
    pub fn step(&self, mut read: HistoryRead) -> Result<HistoryBlock, ReadError> {
        let target = Target {
            channel: &read.channel,
            incarnation: read.incarnation,
            from: read.from,
            to: read.to,
        };
        let (limit, newest) = (read.limit, read.newest);
        let mut gather = Gathered { limit, newest, events: Vec::new(), bytes: 0 };
        let cursor = self.walk(target, read.cursor, &mut gather)?;
        (read.limit, read.newest) = (gather.limit, gather.newest);
        read.cursor = cursor.filter(|_| gather.limit > 0);
        let next = read.cursor.is_some().then_some(read);
        Ok(HistoryBlock { events: gather.events, newest: gather.newest, next })
    }

    /// The newest events of all channels in the order they were stored, at most `bytes_max` bytes
    /// of records, for rebuilding histories and dedupe windows.
    pub(crate) fn replay(
        &self,
        bytes_max: u64,
        each: &mut dyn FnMut(Event),
    ) -> Result<u64, ReadError> {
        let parts = parts(self.catalog.snapshot());
        let total: u64 = parts.iter().map(|part| part.end() - HEADER_BYTES).sum();
        let mut skip = total.saturating_sub(bytes_max);
        let mut replayed = 0;
        for part in &parts {
            let bytes = part.end() - HEADER_BYTES;
            if skip >= bytes {
                skip -= bytes;
                continue;
            }
            let from = HEADER_BYTES + std::mem::take(&mut skip);
            let file = self.open(part)?.ok_or(ReadError::Expired)?;
            for run in self.runs(part, |block| block.end > from) {
                let flow = meet(part, &*file, run, |met| {
                    if met.at >= from {
                        let event = decode(met.image);
                        each(event.map_err(|e| damaged((part.first_seq(), met.at), &e))?);
                        replayed += 1;
                    }
                    Ok(ControlFlow::Continue(()))
                })?;
                debug_assert!(flow.is_continue());
            }
        }
        Ok(replayed)
    }
}

/// What one step of a history read has gathered.
struct Gathered {
    /// Events still wanted.
    limit: u32,
    newest: Option<Position>,
    events: Vec<Event>,
    bytes: usize,
}

impl Gather for Gathered {
    fn is_full(&self) -> bool {
        self.limit == 0 || self.bytes >= BLOCK_BYTES_MAX
    }

    fn take(&mut self, found: Found<'_>) -> Result<(), ReadError> {
        self.newest = Some(found.view.position());
        if found.in_range {
            let event = decode(found.image).map_err(|e| damaged(found.place, &e))?;
            self.limit -= 1;
            self.bytes += event.size();
            self.events.push(event);
        }
        Ok(())
    }
}

pub(crate) fn decode(image: &[u8]) -> Result<Event, EventError> {
    // A copy of its own: a slice would keep the whole read buffer alive.
    Event::decode(Bytes::copy_from_slice(image))
}
