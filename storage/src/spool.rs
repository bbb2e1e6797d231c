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

use crate::catalog::{ActiveView, Catalog, SegmentInfo};
use crate::channels::Channels;
use crate::files::{FileIo, Files, Trouble, write_full};
use crate::format::{HEADER_BYTES, Header, MARK_BYTES, Mark, NEXT_NAME, index_name, segment_name};
use crate::index::{Index, IndexBuilder, channel_hash};
use crate::meta::{CLEAN_NAME, Clean};
use crate::notice::Notice;
use crate::read::{ReadError, Reader};
use crate::ring::{StorageState, StoreBatch};
use crate::round::Round;
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
    blocked: bool,
    retry_at_us: Option<i64>,
    pub(crate) retain_at_us: Option<i64>,
    pub(crate) unsaved_bytes: u64,
    checkpoint_bytes: u64,
    /// Bytes of the sealed segments.
    pub(crate) sealed_bytes: u64,
    pub(crate) sinks: Vec<u64>,
    pub(crate) counters: SpoolCounters,
    notices: Vec<Notice>,
    _lock: F::Lock,
}

#[derive(Debug)]
pub(crate) struct Active<T> {
    pub(crate) first_seq: u64,
    pub(crate) created_us: i64,
    salt: u64,
    file: Arc<T>,
    /// Length of the file, preallocated.
    pub(crate) room: u64,
    /// End of the synced records.
    pub(crate) end: u64,
    index: IndexBuilder,
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
            counters: SpoolCounters::default(),
            notices: Vec::new(),
            _lock: start.lock,
        };
        // A full disk at start is a state, not an error: everything but publishing works.
        let _ = spool.roll(0, now_us);
        spool
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
        let mut last: (&str, u32) = ("", 0);
        for (i, event) in self.round.events.iter().enumerate() {
            end += Round::cost(event);
            let name = event.channel();
            if last.0 != name {
                last = (name, channel_hash(name));
            }
            active.index.add_raw(last.1, event.time_us(), event.offset(), end);
            let seq = self.end_seq + i as u64;
            self.channels.apply(name, event.position(), seq, self.options.channels_max);
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
    }

    /// Begins a segment with room for `bytes` and seals the active one (which is synced).
    pub(crate) fn roll(&mut self, bytes: u64, now_us: i64) -> Result<(), Halt> {
        let room = self.options.segment_bytes.max(HEADER_BYTES + bytes.max(MARK_BYTES));
        for attempt in 0..2 {
            match self.begin_segment(room, now_us) {
                Ok(Some(active)) => {
                    self.seal_active();
                    self.show_active(active);
                    self.has_room();
                    return Ok(());
                }
                Ok(None) => return Err(Halt),
                Err(e) if Trouble::of(&e) == Trouble::Wait => {
                    self.no_room(StorageState::DiskFull, &e, now_us);
                    return Err(Halt);
                }
                // A new file on the same disk may work: the first one's blocks may be bad.
                Err(e) if attempt == 0 => self.notice(Notice::Rewriting {
                    file: segment_name(self.end_seq),
                    error: e.to_string(),
                }),
                Err(e) => self.fail(&e),
            }
        }
        Err(Halt)
    }

    /// Header, sync, name, directory sync: a segment that has its name is whole.
    fn begin_segment(&mut self, room: u64, now_us: i64) -> io::Result<Option<Active<F::File>>> {
        if self.next.as_ref().is_none_or(|(_, length)| *length < room) {
            self.next = None;
            if !self.prepare(room, now_us)? {
                return Ok(None);
            }
        }
        let Some((file, room)) = self.next.take() else { return Ok(None) };
        let salt = self.files.random();
        let first_seq = self.end_seq;
        let header = Header { lineage: self.lineage, first_seq, created_us: now_us, salt };
        write_full(&file, &header.encode(), 0)?;
        file.sync_data()?;
        self.files.rename(NEXT_NAME, &segment_name(first_seq))?;
        self.files.sync_dir()?;
        let index = IndexBuilder::new(first_seq, HEADER_BYTES);
        let file = Arc::new(file);
        let end = HEADER_BYTES;
        Ok(Some(Active { first_seq, created_us: now_us, salt, file, room, end, index }))
    }

    /// Preallocates the next segment. `false`: not now, the state says why.
    fn prepare(&mut self, room: u64, now_us: i64) -> io::Result<bool> {
        if self.retry_at_us.is_some_and(|at| now_us.abs_diff(at) < RETRY_US as u64) {
            return Ok(false);
        }
        self.make_way(room);
        if self.disk_bytes() + room > self.options.retention.hard_bytes_max {
            let error = io::Error::other(format!(
                "the spool is at its cap of {} bytes and a sink has not confirmed its oldest \
                 segment; restore the sink or raise the cap",
                self.options.retention.hard_bytes_max
            ));
            self.no_room(StorageState::SpoolFull, &error, now_us);
            return Ok(false);
        }
        self.next = Some((self.files.create(NEXT_NAME, room)?, room));
        Ok(true)
    }

    fn show_active(&mut self, active: Active<F::File>) {
        let view = ActiveView {
            first_seq: active.first_seq,
            count: 0,
            end: active.end,
            file: active.file.clone(),
            blocks: Vec::new(),
        };
        self.catalog.update(|snapshot| snapshot.active = Some(view));
        self.active = Some(active);
    }

    /// Ends the active segment at its last synced byte. What fails here is only comfort: an
    /// unused tail that stays long, an index that is missing.
    fn seal_active(&mut self) {
        let Some(active) = self.active.take() else { return };
        let Index { summary, blocks } = active.index.finish();
        if summary.count == 0 {
            // The next segment has the same name and has replaced it, or will.
            return self.catalog.update(|snapshot| snapshot.active = None);
        }
        let cut = active.file.set_len(active.end).is_ok();
        let index = Index { summary, blocks };
        let _ = write_index(&self.files, &index);
        let info = Arc::new(SegmentInfo {
            first_seq: active.first_seq,
            count: index.summary.count,
            created_us: active.created_us,
            bytes: if cut { active.end } else { active.room },
            summary: Some(index.summary),
        });
        self.sealed_bytes += info.bytes;
        self.catalog.update(|snapshot| {
            snapshot.active = None;
            Arc::make_mut(&mut snapshot.sealed).push(info);
        });
    }

    fn give_up_active(&mut self, error: &io::Error) {
        if let Some(active) = &self.active {
            let file = segment_name(active.first_seq);
            self.notice(Notice::Rewriting { file, error: error.to_string() });
        }
        self.seal_active();
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

    /// Has a segment to write to, and from its half on the one after it.
    fn look_ahead(&mut self, now_us: i64) {
        if self.blocked {
            return;
        }
        let half_used = |active: &Active<F::File>| active.end * 2 > active.room;
        match &self.active {
            None => {
                let _ = self.roll(0, now_us); // a halt is in the state
            }
            Some(active) if self.next.is_none() && half_used(active) => {
                match self.prepare(self.options.segment_bytes, now_us) {
                    Ok(true) => self.has_room(),
                    Ok(false) => {}
                    Err(e) => self.no_room(StorageState::DiskFull, &e, now_us),
                }
            }
            Some(_) => self.has_room(),
        }
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

    fn no_room(&mut self, state: StorageState, error: &io::Error, now_us: i64) {
        self.retry_at_us = Some(now_us);
        if self.full.replace(state).is_none() {
            self.counters.full += 1;
            self.notice(Notice::Full { error: error.to_string() });
        }
    }

    fn has_room(&mut self) {
        self.retry_at_us = None;
        if self.full.take().is_some() {
            self.notice(Notice::Healed);
        }
    }

    fn fail(&mut self, error: &io::Error) {
        self.failed = true;
        self.notice(Notice::Failed { error: error.to_string() });
    }
}

pub(crate) fn write_index<F: Files>(files: &F, index: &Index) -> io::Result<()> {
    let file = files.create(&index_name(index.summary.first_seq), 0)?;
    write_full(&file, &index.encode(), 0)
}
