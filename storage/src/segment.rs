//! The life of the active segment: prepared under another name, begun, filled, sealed or given up.
//!
//! Invariants: a segment has its name only when its header is synced, and events only when its
//! name is; the one before it is synced to its end by then. Room is reserved before it is needed,
//! so that a full disk is met here, where waiting loses nothing.

use crate::catalog::{ActiveView, SegmentInfo};
use crate::files::{FileIo, Files, Trouble, write_full};
use crate::format::{HEADER_BYTES, Header, MARK_BYTES, NEXT_NAME, index_name, segment_name};
use crate::index::{Index, IndexBuilder};
use crate::notice::Notice;
use crate::ring::StorageState;
use crate::spool::{Halt, RETRY_US, Spool};
use std::io;
use std::sync::Arc;

#[derive(Debug)]
pub(crate) struct Active<T> {
    pub(crate) first_seq: u64,
    pub(crate) created_us: i64,
    /// When its first event was accepted; `None`: it is empty.
    pub(crate) first_us: Option<i64>,
    pub(crate) salt: u64,
    pub(crate) file: Arc<T>,
    /// Length of the file, preallocated.
    pub(crate) room: u64,
    /// End of the synced records.
    pub(crate) end: u64,
    pub(crate) index: IndexBuilder,
}

/// How many sealed segments stay in the page cache besides the active one. Older ones are given
/// back, because the pages of a segment given back are the ones the next segment fills: measured
/// on a 2-core virtual machine, where fresh pages are what costs, 300 instead of 880 ns of CPU per
/// 300-byte event and a third of the elapsed time. The newest stay, so that a restart after a kill
/// and reads of the last minutes do not wait for the disk.
const CACHED_SEGMENTS: usize = 1;

impl<F: Files> Spool<F> {
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
        let (created_us, first_us) = (now_us, None);
        Ok(Some(Active { first_seq, created_us, first_us, salt, file, room, end, index }))
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
    pub(crate) fn seal_active(&mut self) {
        let Some(active) = self.active.take() else { return };
        let Index { summary, blocks } = active.index.finish();
        if summary.count == 0 {
            // The next segment has the same name and has replaced it, or will.
            return self.catalog.update(|snapshot| snapshot.active = None);
        }
        let cut = active.file.set_len(active.end).is_ok();
        self.cached.push_back((active.file.clone(), active.end));
        if self.cached.len() > CACHED_SEGMENTS
            && let Some((file, end)) = self.cached.pop_front()
        {
            file.forget(0..end);
        }
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

    pub(crate) fn give_up_active(&mut self, error: &io::Error) {
        if let Some(active) = &self.active {
            let file = segment_name(active.first_seq);
            self.notice(Notice::Rewriting { file, error: error.to_string() });
        }
        self.seal_active();
    }

    /// Has a segment to write to, and from its half on the one after it.
    pub(crate) fn look_ahead(&mut self, now_us: i64) {
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

    pub(crate) fn no_room(&mut self, state: StorageState, error: &io::Error, now_us: i64) {
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
}

pub(crate) fn write_index<F: Files>(files: &F, index: &Index) -> io::Result<()> {
    let file = files.create(&index_name(index.summary.first_seq), 0)?;
    write_full(&file, &index.encode(), 0)
}
