//! The spool: a pure state machine that turns batches of events into synced segments.
//!
//! `append` queues, `sync` makes one round durable (fill a buffer, one write, one fdatasync) and
//! says which batches are thereby complete, `maintain` does what can wait (the next segment,
//! retention, the checkpoint). The real writer thread and the simulated world drive the same code.
//!
//! Invariants:
//! - A batch is acknowledged only after every byte of it was synced, in the order of arrival.
//! - Nothing is skipped: what was appended stays in memory until it is synced.
//! - A round is written only when the one before it is synced (see [`crate::format`]).
//! - After a failed write or sync nothing more goes to that segment: its synced part is sealed and
//!   the round, still in memory, is written to a new one. If that fails too, the state is `Failed`.
//! - No room is not a failure: the state says so, `sync` retries, publishes are refused upstream.
//!
//! Deliberately absent: time (an argument), threads, waiting, reads (see `read`). Dropping a spool
//! does nothing: only [`Spool::close`] is a clean stop. Tested in `tests/` with seeded faults.

use crate::catalog::{Catalog, SegmentInfo};
use crate::channels::Channels;
use crate::feed::Feed;
use crate::files::{FileIo, Files, Trouble};
use crate::format::{HEADER_BYTES, MARK_BYTES, Mark, NEXT_NAME, segment_name};
use crate::meta::{CLEAN_NAME, Clean};
use crate::notice::Notice;
use crate::read::{ReadError, Reader};
use crate::ring::{StorageState, StoreBatch};
use crate::round::Round;
use crate::segment::Active;
use crate::{checkpoint, files};
use proto::event::Event;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

/// How long segments are kept.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// A segment whose events are all older than this may go; `None`: age does not matter.
    pub age_s: Option<u64>,
    /// While the spool is larger than this, the oldest segment may go.
    pub bytes: u64,
    /// The spool never grows beyond this, even if sinks have not confirmed.
    pub hard_bytes_max: u64,
}

/// How a spool works.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Bytes of a segment; a larger event gets a segment of its own size.
    pub segment_bytes: u64,
    /// Most bytes written between two syncs, unless one event alone is larger.
    pub round_bytes_max: usize,
    /// Bytes of events between two checkpoints, at least (a large checkpoint is written less
    /// often, so that it never costs more than a quarter of the writing).
    pub checkpoint_bytes: u64,
    /// Channels whose positions are remembered.
    pub channels_max: usize,
    /// A segment is ended when its first event is so old, for sinks that read only whole segments;
    /// `None`: nobody waits for that.
    pub seal_age_s: Option<u64>,
    /// See [`Retention`].
    pub retention: Retention,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            round_bytes_max: 4 << 20,
            checkpoint_bytes: 64 << 20,
            channels_max: 2_000_000,
            seal_age_s: None,
            retention: Retention {
                age_s: Some(7 * 24 * 3600),
                bytes: 10 << 30,
                hard_bytes_max: 20 << 30,
            },
        }
    }
}

/// A batch that is synced as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// Whose.
    pub shard: u16,
    /// Which.
    pub seq: u64,
    /// Bytes of its events, which the budget gets back.
    pub bytes: u64,
}

/// Plain counters, for snapshots.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpoolCounters {
    /// Events synced.
    pub events: u64,
    /// Bytes synced, marks included.
    pub bytes: u64,
    /// Successful rounds, which is successful syncs of events.
    pub rounds: u64,
    /// Segments given up because a write or sync failed.
    pub rewrites: u64,
    /// Times there was no room.
    pub full: u64,
    /// Segments removed by retention.
    pub segments_removed: u64,
    /// Checkpoints written.
    pub checkpoints: u64,
    /// Segments on disk.
    pub segments: u64,
    /// Bytes they take.
    pub disk_bytes: u64,
    /// Channels in the table.
    pub channels: u64,
    /// Channels that left a full table.
    pub channels_evicted: u64,
    /// Memory held, about: the round, the channel table, the active segment's index. Queued
    /// events are counted by the ring.
    pub memory_bytes: u64,
    /// Events whose offset did not grow within their incarnation: a bug upstream.
    pub out_of_order: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Spool<F: Files> {
    pub(crate) files: F,
    pub(crate) options: Options,
    pub(crate) lineage: u32,
    pub(crate) channels: Channels,
    pub(crate) catalog: Catalog<F::File>,
    pub(crate) active: Option<Active<F::File>>,
    /// The newest sealed segments and their lengths; see `segment`.
    pub(crate) cached: VecDeque<(Arc<F::File>, u64)>,
    /// The next segment, preallocated, and its length.
    pub(crate) next: Option<(F::File, u64)>,
    waiting: VecDeque<Waiting>,
    waiting_bytes: u64,
    round: Round,
    /// The sequence number after the last synced event.
    pub(crate) end_seq: u64,
    pub(crate) full: Option<StorageState>,
    failed: bool,
    /// The last round could not be written; only a round that can says that there is room again.
    pub(crate) blocked: bool,
    pub(crate) retry_at_us: Option<i64>,
    pub(crate) retain_at_us: Option<i64>,
    pub(crate) unsaved_bytes: u64,
    checkpoint_bytes: u64,
    /// Bytes of the sealed segments.
    pub(crate) sealed_bytes: u64,
    pub(crate) sinks: Vec<u64>,
    feed: Option<Arc<Feed>>,
    pub(crate) counters: SpoolCounters,
    notices: Vec<Notice>,
    _lock: F::Lock,
}

#[derive(Debug)]
struct Waiting {
    ack: Ack,
    events: std::vec::IntoIter<Event>,
}

/// The step cannot go on now; the state says why.
#[derive(Debug)]
pub(crate) struct Halt;

/// Between two tries to get room.
pub const RETRY_US: i64 = 250_000;
const NOTICES_MAX: usize = 64;

/// What `open` found, as the spool needs it.
pub(crate) struct Start<F: Files> {
    pub(crate) files: F,
    pub(crate) lock: F::Lock,
    pub(crate) options: Options,
    pub(crate) lineage: u32,
    pub(crate) channels: Channels,
    pub(crate) sealed: Vec<Arc<SegmentInfo>>,
    pub(crate) end_seq: u64,
    pub(crate) unsaved_bytes: u64,
}

impl<F: Files> Spool<F> {
    pub(crate) fn start(start: Start<F>, now_us: i64) -> Self {
        let mut spool = Self {
            sealed_bytes: start.sealed.iter().map(|info| info.bytes).sum(),
            catalog: Catalog::new(start.sealed, start.end_seq),
            files: start.files,
            options: start.options,
            lineage: start.lineage,
            channels: start.channels,
            active: None,
            cached: VecDeque::new(),
            next: None,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            round: Round::default(),
            end_seq: start.end_seq,
            full: None,
            failed: false,
            blocked: false,
            retry_at_us: None,
            retain_at_us: None,
            unsaved_bytes: start.unsaved_bytes,
            checkpoint_bytes: 0,
            sinks: Vec::new(),
            feed: None,
            counters: SpoolCounters::default(),
            notices: Vec::new(),
            _lock: start.lock,
        };
        // A full disk at start is a state, not an error: everything but publishing works.
        let _ = spool.roll(0, now_us);
        spool
    }

    /// A feed of what is synced from now on, for sinks; every caller gets the same.
    pub fn feed(&mut self, bytes_max: u64) -> Arc<Feed> {
        let feed = || Arc::new(Feed::new(self.end_seq, bytes_max));
        Arc::clone(self.feed.get_or_insert_with(feed))
    }

    /// Queues a batch. Events of one shard are written in the order of the calls.
    pub fn append(&mut self, shard: u16, batch: StoreBatch) {
        let bytes = batch.bytes();
        self.waiting_bytes += bytes;
        let ack = Ack { shard, seq: batch.seq, bytes };
        self.waiting.push_back(Waiting { ack, events: batch.events.into_iter() });
    }

    /// Bytes queued and not yet in a round.
    pub fn waiting_bytes(&self) -> u64 {
        self.waiting_bytes
    }

    /// True if a `sync` would have something to do.
    pub fn has_work(&self) -> bool {
        !self.round.is_empty() || !self.waiting.is_empty()
    }

    /// The state as of the last step.
    pub fn state(&self) -> StorageState {
        if self.failed { StorageState::Failed } else { self.full.unwrap_or_default() }
    }

    /// One round: writes and syncs what was queued, up to the bound. Appends the batches that are
    /// complete thereby to `acked`.
    pub fn sync(&mut self, now_us: i64, acked: &mut Vec<Ack>) -> StorageState {
        if !self.failed && self.has_work() {
            self.blocked = self.sync_round(now_us, acked).is_err();
        }
        self.state()
    }

    fn sync_round(&mut self, now_us: i64, acked: &mut Vec<Ack>) -> Result<(), Halt> {
        if self.round.is_empty() {
            self.fill(now_us)?;
        }
        if !self.round.events.is_empty() {
            self.commit(now_us)?;
            self.take_note();
        }
        acked.append(&mut self.round.acks);
        self.round.clear();
        Ok(())
    }

    /// Moves queued events into the round, as many as the bound and the active segment allow.
    fn fill(&mut self, now_us: i64) -> Result<(), Halt> {
        while let Some(front) = self.waiting.front_mut() {
            let Some(event) = front.events.as_slice().first() else {
                self.round.acks.push(front.ack);
                self.waiting.pop_front();
                continue;
            };
            let cost = Round::cost(event);
            let bytes = self.round.bytes() + cost;
            let room = self.active.as_ref().map_or(0, |active| active.room - active.end);
            if bytes > room {
                if !self.round.events.is_empty() {
                    break; // the next round rolls; until then the segment must be synced
                }
                // Batches that were complete already are acknowledged even if there is no room.
                if self.roll(bytes, now_us).is_err() {
                    break;
                }
                continue;
            }
            if bytes > self.options.round_bytes_max as u64 && !self.round.events.is_empty() {
                break;
            }
            if let Some(event) = front.events.next() {
                self.waiting_bytes -= event.size() as u64;
                self.round.push(event);
            }
        }
        if self.round.is_empty() { Err(Halt) } else { Ok(()) }
    }

    /// Writes and syncs the round, on a new segment if the active one fails under it.
    fn commit(&mut self, now_us: i64) -> Result<(), Halt> {
        loop {
            if self.active.is_none() {
                self.roll(self.round.bytes(), now_us)?;
            }
            let Some(error) = self.write_round() else { return Ok(()) };
            let waits = Trouble::of(&error) == Trouble::Wait;
            if waits && self.round.written < self.round.bytes() as usize {
                self.no_room(StorageState::DiskFull, &error, now_us);
                return Err(Halt); // the same bytes go to the same place at the next try
            }
            if self.round.rewritten && !waits {
                self.fail(&error);
                return Err(Halt);
            }
            self.round.rewritten |= !waits;
            self.round.written = 0;
            self.counters.rewrites += 1;
            self.give_up_active(&error);
            if waits {
                self.no_room(StorageState::DiskFull, &error, now_us);
                return Err(Halt);
            }
        }
    }

    /// One write (repeated while short) and one sync; the error if something failed.
    fn write_round(&mut self) -> Option<io::Error> {
        let active = self.active.as_ref()?;
        if self.round.written == 0 {
            self.round.stamp(Mark { salt: active.salt, at: active.end, seq: self.end_seq });
        }
        while !self.round.unwritten().is_empty() {
            let at = active.end + self.round.written as u64;
            match active.file.write_at(self.round.unwritten(), at) {
                Ok(0) => return Some(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.round.written += count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Some(e),
            }
        }
        active.file.sync_data().err()
    }

    /// The round is on disk: index, channel table and readers learn of it.
    fn take_note(&mut self) {
        let Some(active) = self.active.as_mut() else { return };
        let bytes = self.round.bytes();
        let mut end = active.end + MARK_BYTES;
        if let Some(first) = self.round.events.first() {
            active.first_us.get_or_insert(first.accepted_us());
        }
        for note in &self.round.notes {
            end += note.cost;
            active.index.add_raw(note.channel_hash, note.time_us, note.offset, end);
        }
        for run in &self.round.runs {
            let Some(event) = self.round.events.get(run.first as usize) else { continue };
            self.channels.apply_run(event.channel(), run, self.end_seq, self.options.channels_max);
        }
        debug_assert_eq!(end, active.end + bytes);
        active.end = end;
        let count = self.round.events.len() as u64;
        self.end_seq += count;
        self.unsaved_bytes += bytes;
        self.counters.events += count;
        self.counters.bytes += bytes;
        self.counters.rounds += 1;
        let closed = active.index.closed();
        let (end_seq, end) = (self.end_seq, active.end);
        self.catalog.update(|snapshot| {
            snapshot.end_seq = end_seq;
            if let Some(view) = &mut snapshot.active {
                view.end = end;
                view.count = end_seq - view.first_seq;
                view.blocks.extend_from_slice(&closed[view.blocks.len()..]);
            }
        });
        // After the catalog: what a sink hears of, it can also read.
        if let Some(feed) = &self.feed {
            feed.publish(&self.round.events, end_seq);
        }
    }

    /// What can wait: retention, the next segment, the checkpoint. Call it after every `sync` and
    /// about once a second when idle.
    pub fn maintain(&mut self, now_us: i64) -> StorageState {
        if self.failed {
            return self.state();
        }
        self.retain(now_us);
        self.look_ahead(now_us);
        let due = self.options.checkpoint_bytes.max(self.checkpoint_bytes.saturating_mul(4));
        if self.unsaved_bytes >= due
            && let Err(e) = self.write_checkpoint()
        {
            self.notice(Notice::CheckpointFailed { error: e.to_string() });
        }
        self.state()
    }

    /// True if the last round could not be written for want of room.
    pub fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// True while a round waits in memory for its place.
    pub(crate) fn in_round(&self) -> bool {
        !self.round.is_empty()
    }

    fn write_checkpoint(&mut self) -> io::Result<u32> {
        self.unsaved_bytes = 0; // also after a failure: the next try comes with new bytes
        let (bytes, crc) = checkpoint::encode(self.lineage, self.end_seq, &self.channels);
        files::replace(&self.files, checkpoint::NAME, &bytes)?;
        self.checkpoint_bytes = bytes.len() as u64;
        self.counters.checkpoints += 1;
        Ok(crc)
    }

    /// A clean stop: the lineage goes on at the next start. `incarnation_max` covers channels that
    /// store nothing. Refused while anything is not synced; the next start then recovers.
    pub fn close(mut self, incarnation_max: u32) -> io::Result<()> {
        if self.failed || self.has_work() {
            return Err(io::Error::other("events are left that could not be synced"));
        }
        if self.next.take().is_some() {
            self.files.remove(NEXT_NAME)?;
        }
        if let Some(active) = &self.active {
            let (file, name) = (active.file.clone(), segment_name(active.first_seq));
            if active.end == HEADER_BYTES {
                self.files.remove(&name)?;
            } else {
                self.seal_active();
                file.sync_data()?;
            }
        }
        self.channels.incarnation_max = self.channels.incarnation_max.max(incarnation_max);
        let checkpoint_crc = self.write_checkpoint()?;
        let clean = Clean { lineage: self.lineage, next_seq: self.end_seq, checkpoint_crc };
        files::replace(&self.files, CLEAN_NAME, &clean.encode())
    }

    /// The newest events of all channels in the order they were stored, at most `bytes_max` bytes
    /// of records: what rebuilds histories and dedupe windows. Returns how many there were.
    pub fn replay_tail(
        &self,
        bytes_max: u64,
        each: &mut dyn FnMut(Event),
    ) -> Result<u64, ReadError> {
        self.reader().replay(bytes_max, each)
    }

    /// For reading; as many as wanted, from any thread.
    pub fn reader(&self) -> Reader<F> {
        Reader::new(self.files.clone(), self.catalog.clone())
    }

    /// The sequence number after the last synced event.
    pub fn end_seq(&self) -> u64 {
        self.end_seq
    }

    /// The current run lineage.
    pub fn lineage(&self) -> u32 {
        self.lineage
    }

    /// See [`SpoolCounters`].
    pub fn counters(&self) -> SpoolCounters {
        SpoolCounters {
            segments: self.catalog.update(|snapshot| snapshot.sealed.len() as u64)
                + u64::from(self.active.is_some()),
            disk_bytes: self.disk_bytes(),
            channels: self.channels.len() as u64,
            channels_evicted: self.channels.evicted,
            out_of_order: self.channels.out_of_order,
            memory_bytes: self.round.memory_bytes()
                + self.channels.memory_bytes()
                + self.active.as_ref().map_or(0, |active| active.index.memory_bytes()),
            ..self.counters
        }
    }

    /// What happened since the last call that people should know.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    pub(crate) fn notice(&mut self, notice: Notice) {
        if self.notices.len() < NOTICES_MAX {
            self.notices.push(notice);
        }
    }

    pub(crate) fn fail(&mut self, error: &io::Error) {
        self.failed = true;
        self.notice(Notice::Failed { error: error.to_string() });
    }
}
