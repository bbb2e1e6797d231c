//! What readers may see: the sealed segments and the synced part of the active one.
//!
//! The writer updates it after every sync, roll and removal; a reader takes a [`Snapshot`] and
//! goes on without locks. A snapshot's files may be removed meanwhile: an open one stays readable,
//! an unopened one is expired.

use crate::index::{Block, Summary};
use std::sync::{Arc, Mutex, PoisonError};

/// A segment that gets no more events.
#[derive(Debug)]
pub(crate) struct SegmentInfo {
    pub(crate) first_seq: u64,
    pub(crate) count: u64,
    pub(crate) created_us: i64,
    /// Length of the file.
    pub(crate) bytes: u64,
    /// `None`: no readable index.
    pub(crate) summary: Option<Summary>,
}

/// The synced part of the segment being written.
#[derive(Debug)]
pub(crate) struct ActiveView<T> {
    pub(crate) first_seq: u64,
    pub(crate) count: u64,
    pub(crate) end: u64,
    pub(crate) file: Arc<T>,
    pub(crate) blocks: Vec<Arc<Block>>,
}

impl<T> Clone for ActiveView<T> {
    fn clone(&self) -> Self {
        Self { file: self.file.clone(), blocks: self.blocks.clone(), ..*self }
    }
}

#[derive(Debug)]
pub(crate) struct Snapshot<T> {
    pub(crate) sealed: Arc<Vec<Arc<SegmentInfo>>>,
    pub(crate) active: Option<ActiveView<T>>,
    /// The sequence number after the last synced event.
    pub(crate) end_seq: u64,
}

impl<T> Clone for Snapshot<T> {
    fn clone(&self) -> Self {
        Self { sealed: self.sealed.clone(), active: self.active.clone(), end_seq: self.end_seq }
    }
}

/// Shared between the writer and the readers.
#[derive(Debug)]
pub(crate) struct Catalog<T>(Arc<Mutex<Snapshot<T>>>);

impl<T> Clone for Catalog<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Catalog<T> {
    pub(crate) fn new(sealed: Vec<Arc<SegmentInfo>>, end_seq: u64) -> Self {
        Self(Arc::new(Mutex::new(Snapshot { sealed: Arc::new(sealed), active: None, end_seq })))
    }

    pub(crate) fn snapshot(&self) -> Snapshot<T> {
        self.update(|snapshot| snapshot.clone())
    }

    pub(crate) fn update<R>(&self, change: impl FnOnce(&mut Snapshot<T>) -> R) -> R {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
