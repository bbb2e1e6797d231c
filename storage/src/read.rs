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

use crate::catalog::{ActiveView, Catalog, SegmentInfo, Snapshot};
use crate::files::{FileIo, Files, read_small};
use crate::format::{HEADER_BYTES, index_name, segment_name};
use crate::index::{Block, Index, channel_hash};
use crate::scan::{Scanner, Step};
use bytes::Bytes;
use proto::channel::ChannelName;
use proto::event::{self, Event};
use proto::position::Position;
use std::collections::VecDeque;
use std::io;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

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
}

#[derive(Debug, Clone, Copy)]
struct Cursor {
    /// The next event to look at.
    seq: u64,
    /// The segment that holds it and where its record begins, if known.
    place: Option<(u64, u64)>,
    /// What was synced when the read began.
    end_seq: u64,
    /// An event was given.
    begun: bool,
    newest: Option<Position>,
}

/// Most events of one read.
pub const LIMIT_MAX: u32 = 100_000;
/// Bytes of events in a block, unless one event alone is larger.
pub const BLOCK_BYTES_MAX: usize = 256 * 1024;
/// Bytes looked at in one step (about 10 ms): a reader thread is shared.
pub const STEP_BYTES_MAX: u64 = 16 << 20;
/// Longest index file read: 16 bytes of payload per event and still an index.
const INDEX_BYTES_MAX: u64 = 256 << 20;
const INDEXES_CACHED: usize = 4;

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
        Self { channel, incarnation, from, to, limit: limit.min(LIMIT_MAX), cursor: None }
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
    /// The operating system refused.
    #[error("cannot read {file}: {source}")]
    Io {
        /// The segment.
        file: String,
        /// The reason.
        source: io::Error,
    },
}

/// The indexes read last, by segment.
type Indexes = VecDeque<(u64, Arc<Index>)>;

/// Reads one spool. Cheap to clone; clones share a few cached indexes.
#[derive(Debug)]
pub struct Reader<F: Files> {
    files: F,
    pub(crate) catalog: Catalog<F::File>,
    indexes: Arc<Mutex<Indexes>>,
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

/// A segment as a read sees it.
pub(crate) enum Part<T> {
    Sealed(Arc<SegmentInfo>),
    Active(ActiveView<T>),
}

impl<T> Part<T> {
    pub(crate) fn first_seq(&self) -> u64 {
        match self {
            Self::Sealed(info) => info.first_seq,
            Self::Active(view) => view.first_seq,
        }
    }

    pub(crate) fn end_seq(&self) -> u64 {
        match self {
            Self::Sealed(info) => info.first_seq + info.count,
            Self::Active(view) => view.first_seq + view.count,
        }
    }

    /// Where its records end, at the latest.
    fn end(&self) -> u64 {
        match self {
            Self::Sealed(info) => {
                info.summary.as_ref().map_or(info.bytes, |summary| summary.end.min(info.bytes))
            }
            Self::Active(view) => view.end,
        }
    }
}

pub(crate) fn parts<T>(snapshot: Snapshot<T>) -> Vec<Part<T>> {
    let sealed = snapshot.sealed.iter().cloned().map(Part::Sealed);
    sealed.chain(snapshot.active.map(Part::Active)).collect()
}

/// One event record, as a walk meets it.
pub(crate) struct Met<'a> {
    pub(crate) seq: u64,
    pub(crate) at: u64,
    pub(crate) end: u64,
    pub(crate) image: &'a [u8],
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
    pub fn step(&self, read: HistoryRead) -> Result<HistoryBlock, ReadError> {
        let snapshot = self.catalog.snapshot();
        let cursor = read.cursor.unwrap_or(Cursor {
            seq: 0,
            place: None,
            end_seq: snapshot.end_seq,
            begun: false,
            newest: None,
        });
        let hash = channel_hash(read.channel.as_str());
        let mut stepping =
            Stepping { read, cursor, hash, events: Vec::new(), bytes: 0, looked: 0, full: false };
        for part in parts(snapshot) {
            let cursor = &stepping.cursor;
            if part.end_seq() <= cursor.seq {
                continue;
            }
            if part.first_seq() >= cursor.end_seq {
                break;
            }
            if part.first_seq() > cursor.seq && cursor.begun {
                return Err(ReadError::Expired);
            }
            self.step_part(&part, &mut stepping)?;
            if stepping.full {
                return Ok(stepping.pause());
            }
            stepping.cursor.seq = part.end_seq();
        }
        Ok(stepping.end())
    }

    fn step_part(&self, part: &Part<F::File>, stepping: &mut Stepping) -> Result<(), ReadError> {
        if let Part::Sealed(info) = part
            && let Some(summary) = &info.summary
            && !stepping.may_match(summary.channels.as_deref(), summary.time_us)
        {
            return Ok(());
        }
        let Some(file) = self.open(part)? else {
            return if stepping.cursor.begun { Err(ReadError::Expired) } else { Ok(()) };
        };
        for block in self.blocks(part) {
            let block_end_seq = block.first_seq + u64::from(block.count);
            let channels = (!block.channels.is_empty()).then_some(&*block.channels);
            if block_end_seq <= stepping.cursor.seq || !stepping.may_match(channels, block.time_us)
            {
                continue;
            }
            let cursor = &stepping.cursor;
            let place = cursor.place.filter(|(segment, at)| {
                *segment == part.first_seq() && (block.at..block.end).contains(at)
            });
            let from = place.map_or((block.first_seq, block.at), |(_, at)| (cursor.seq, at));
            let flow =
                walk(part, &file, &block, from, &mut |met| stepping.meet(part.first_seq(), met))?;
            if flow.is_break() {
                return Ok(());
            }
        }
        Ok(())
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
            for block in self.blocks(part).iter().filter(|block| block.end > from) {
                let from_block = (block.first_seq, block.at);
                let flow = walk(part, &file, block, from_block, &mut |met| {
                    if met.at >= from {
                        each(decode(part.first_seq(), &met)?);
                        replayed += 1;
                    }
                    Ok(ControlFlow::Continue(()))
                })?;
                debug_assert!(flow.is_continue());
            }
        }
        Ok(replayed)
    }

    /// `None`: retention has removed it.
    pub(crate) fn open(&self, part: &Part<F::File>) -> Result<Option<Arc<F::File>>, ReadError> {
        let info = match part {
            Part::Active(view) => return Ok(Some(view.file.clone())),
            Part::Sealed(info) => info,
        };
        let file = segment_name(info.first_seq);
        match self.files.open(&file) {
            Ok(file) => Ok(Some(Arc::new(file))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ReadError::Io { file, source }),
        }
    }

    /// The blocks of a segment; one that spans everything where there is no index.
    pub(crate) fn blocks(&self, part: &Part<F::File>) -> Vec<Arc<Block>> {
        let mut blocks = match part {
            Part::Sealed(info) => {
                info.summary.as_ref().and_then(|_| self.index(info)).unwrap_or_default()
            }
            Part::Active(view) => view.blocks.clone(),
        };
        let (at, first_seq) = blocks.last().map_or((HEADER_BYTES, part.first_seq()), |block| {
            (block.end, block.first_seq + u64::from(block.count))
        });
        if first_seq < part.end_seq() {
            blocks.push(Arc::new(Block {
                at,
                end: part.end(),
                first_seq,
                count: u32::try_from(part.end_seq() - first_seq).unwrap_or(u32::MAX),
                time_us: (i64::MIN, i64::MAX),
                offset: (0, u64::MAX),
                channels: Box::default(),
            }));
        }
        blocks
    }

    fn index(&self, info: &SegmentInfo) -> Option<Vec<Arc<Block>>> {
        let mut cached = self.indexes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, index)) = cached.iter().find(|(first_seq, _)| *first_seq == info.first_seq)
        {
            return Some(index.blocks.clone());
        }
        drop(cached);
        let bytes = read_small(&self.files, &index_name(info.first_seq), INDEX_BYTES_MAX).ok()?;
        let index = Index::decode(&bytes, info.first_seq)?;
        let fits =
            index.summary.count == info.count && Some(&index.summary) == info.summary.as_ref();
        if !fits {
            return None;
        }
        let index = Arc::new(index);
        cached = self.indexes.lock().unwrap_or_else(PoisonError::into_inner);
        cached.truncate(INDEXES_CACHED - 1);
        cached.push_front((info.first_seq, index.clone()));
        Some(index.blocks.clone())
    }
}

/// What one step has gathered.
struct Stepping {
    read: HistoryRead,
    cursor: Cursor,
    hash: u32,
    events: Vec<Event>,
    bytes: usize,
    /// Bytes looked at.
    looked: u64,
    /// The step is over although the read is not.
    full: bool,
}

impl Stepping {
    fn may_match(&self, channels: Option<&[u32]>, time_us: (i64, i64)) -> bool {
        let from = !matches!(self.read.from, Bound::TimeUs(from) if time_us.1 < from);
        let to = !matches!(self.read.to, Bound::TimeUs(to) if time_us.0 > to);
        let channel = channels.is_none_or(|channels| channels.binary_search(&self.hash).is_ok());
        from && to && channel
    }

    fn meet(&mut self, segment: u64, met: Met<'_>) -> Result<ControlFlow<()>, ReadError> {
        if met.seq < self.cursor.seq {
            return Ok(ControlFlow::Continue(()));
        }
        if met.seq >= self.cursor.end_seq {
            return Ok(ControlFlow::Break(()));
        }
        let over = self.bytes >= BLOCK_BYTES_MAX || self.looked >= STEP_BYTES_MAX;
        if over || self.read.limit == 0 {
            self.full = true;
            self.cursor.seq = met.seq;
            self.cursor.place = Some((segment, met.at));
            return Ok(ControlFlow::Break(()));
        }
        self.looked += met.end - met.at;
        // The name is the first field of an image: most events are passed by without decoding.
        let name = self.read.channel.as_str().as_bytes();
        let front = met.image.get(event::HEADER_BYTES..event::HEADER_BYTES + name.len());
        if front != Some(name) {
            return Ok(ControlFlow::Continue(()));
        }
        let event = decode(segment, &met)?;
        let incarnation = event.position().epoch.incarnation();
        let other = self.read.incarnation.is_some_and(|wanted| wanted != incarnation);
        if event.channel().as_bytes() != name || other {
            return Ok(ControlFlow::Continue(()));
        }
        self.cursor.newest = Some(event.position());
        if self.wanted(&event) {
            self.cursor.begun = true;
            self.read.limit -= 1;
            self.bytes += event.size();
            self.events.push(event);
        }
        Ok(ControlFlow::Continue(()))
    }

    fn wanted(&self, event: &Event) -> bool {
        let from = match self.read.from {
            Bound::Open => true,
            Bound::Offset(from) => event.offset() >= from,
            Bound::TimeUs(from) => event.time_us() >= from,
        };
        let to = match self.read.to {
            Bound::Open => true,
            Bound::Offset(to) => event.offset() <= to,
            Bound::TimeUs(to) => event.time_us() <= to,
        };
        from && to
    }

    fn pause(mut self) -> HistoryBlock {
        if self.read.limit == 0 {
            return self.end();
        }
        self.read.cursor = Some(self.cursor);
        HistoryBlock { events: self.events, newest: self.cursor.newest, next: Some(self.read) }
    }

    fn end(self) -> HistoryBlock {
        HistoryBlock { events: self.events, newest: self.cursor.newest, next: None }
    }
}

pub(crate) fn decode(segment: u64, met: &Met<'_>) -> Result<Event, ReadError> {
    // A copy of its own: a slice would keep the whole read buffer alive.
    Event::decode(Bytes::copy_from_slice(met.image)).map_err(|e| ReadError::Damaged {
        file: segment_name(segment),
        at: met.at,
        what: e.to_string(),
    })
}

/// Walks the events of a block from event `seq`, whose record (or a mark before it) is at `at`.
pub(crate) fn walk<T: FileIo>(
    part: &Part<T>,
    file: &T,
    block: &Block,
    (mut seq, at): (u64, u64),
    each: &mut dyn FnMut(Met<'_>) -> Result<ControlFlow<()>, ReadError>,
) -> Result<ControlFlow<()>, ReadError> {
    let end = block.end.min(part.end());
    let end_seq = block.first_seq + u64::from(block.count);
    let mut scanner = Scanner::new(file, at, end);
    while seq < end_seq {
        let name = || segment_name(part.first_seq());
        match scanner.step().map_err(|source| ReadError::Io { file: name(), source })? {
            Step::Mark(_) => {}
            Step::Event { at, end } => {
                let met = Met { seq, at, end, image: scanner.body() };
                if each(met)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                seq += 1;
            }
            Step::End { at, found } => {
                let what = format!("event {seq} is not there ({found:?})");
                return Err(ReadError::Damaged { file: name(), at, what });
            }
        }
    }
    Ok(ControlFlow::Continue(()))
}
