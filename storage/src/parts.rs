//! The segments as readers see them: which there are, their files, and the runs of records in them
//! that an index does not rule out.
//!
//! Invariant: a run begins at a record and holds whole records. Where there is no readable index a
//! segment is one run. Deliberately absent: what is looked for (see `walk`). Any thread.

use crate::catalog::{ActiveView, SegmentInfo, Snapshot};
use crate::files::{FileIo, Files, read_small};
use crate::format::{HEADER_BYTES, index_name, segment_name};
use crate::index::{Block, Index};
use crate::read::{ReadError, Reader};
use crate::scan::{Scanner, Step};
use std::collections::VecDeque;
use std::io;
use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError};

/// Longest index file read: 16 bytes of payload per event and still an index.
const INDEX_BYTES_MAX: u64 = 256 << 20;
const INDEXES_CACHED: usize = 4;

/// The indexes read last, by segment.
pub(crate) type Indexes = VecDeque<(u64, Arc<Index>)>;

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
    pub(crate) fn end(&self) -> u64 {
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

/// Records that stand one after the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    /// File offset of the first record.
    pub(crate) at: u64,
    /// File offset after the last.
    pub(crate) end: u64,
    /// Sequence number of the first event.
    pub(crate) seq: u64,
    /// The sequence number after the last event.
    pub(crate) end_seq: u64,
}

/// One event record, as a walk meets it.
pub(crate) struct Met<'a> {
    pub(crate) seq: u64,
    pub(crate) at: u64,
    pub(crate) end: u64,
    pub(crate) image: &'a [u8],
}

impl<F: Files> Reader<F> {
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

    /// The records of the blocks that `wanted` does not rule out. Neighbours are one run.
    pub(crate) fn runs(&self, part: &Part<F::File>, wanted: impl Fn(&Block) -> bool) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        for block in self.blocks(part).iter().filter(|block| wanted(block)) {
            let end_seq = block.first_seq + u64::from(block.count);
            match runs.last_mut() {
                Some(run) if run.end == block.at && run.end_seq == block.first_seq => {
                    (run.end, run.end_seq) = (block.end, end_seq);
                }
                _ => {
                    let (at, end, seq) = (block.at, block.end, block.first_seq);
                    runs.push(Run { at, end, seq, end_seq });
                }
            }
        }
        runs
    }

    /// The blocks of a segment; one that spans everything where there is no index.
    fn blocks(&self, part: &Part<F::File>) -> Vec<Arc<Block>> {
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

/// Meets the events of a run one by one.
pub(crate) fn meet<T: FileIo>(
    part: &Part<T>,
    file: &T,
    run: Run,
    mut each: impl FnMut(Met<'_>) -> Result<ControlFlow<()>, ReadError>,
) -> Result<ControlFlow<()>, ReadError> {
    let mut scanner = Scanner::new(file, run.at, run.end.min(part.end()));
    let mut seq = run.seq;
    let name = || segment_name(part.first_seq());
    while seq < run.end_seq {
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
