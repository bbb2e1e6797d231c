//! Where sinks read: the feed while it reaches back far enough, the spool otherwise.

use crate::feed::{Feed, Woken};
use crate::files::Files;
use crate::index::Block;
use crate::parts::{meet, parts};
use crate::read::{ReadError, Reader, decode};
use crate::ring::StorageRing;
use crate::walk::damaged;
use proto::event::Event;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

/// The synced events in the order of the spool. Each sink has its own.
#[derive(Debug, Clone)]
pub struct Source<F: Files> {
    feed: Arc<Feed>,
    reader: Reader<F>,
    ring: Option<Arc<StorageRing>>,
}

/// A run of events in the order of the spool.
#[derive(Debug)]
pub struct Run {
    /// The number of the first one. Later than asked for: retention removed what was before, which
    /// happens only while no sink is registered for it.
    pub from: u64,
    /// The events; empty: nothing is synced there yet.
    pub events: Vec<Event>,
}

impl<F: Files> Source<F> {
    /// Reads from both.
    pub fn new(feed: Arc<Feed>, reader: Reader<F>) -> Self {
        Self { feed, reader, ring: None }
    }

    /// Whose writer is woken when a sink confirms: somebody may wait for that.
    pub fn waking(self, ring: Arc<StorageRing>) -> Self {
        Self { ring: Some(ring), ..self }
    }

    /// The sink has confirmed something.
    pub fn confirmed(&self) {
        if let Some(ring) = &self.ring {
            ring.wake();
        }
    }

    /// The sequence number after the newest synced event.
    pub fn end_seq(&self) -> u64 {
        self.feed.end_seq()
    }

    /// The sequence number after the last event of the sealed segments.
    pub fn sealed_end_seq(&self) -> u64 {
        let snapshot = self.reader.catalog.snapshot();
        snapshot.sealed.last().map_or(0, |info| info.first_seq + info.count)
    }

    /// The oldest event there still is, or the number the next one gets.
    pub fn first_seq(&self) -> u64 {
        let snapshot = self.reader.catalog.snapshot();
        let end_seq = snapshot.end_seq;
        parts(snapshot).first().map_or(end_seq, |part| part.first_seq())
    }

    /// See [`Feed::wait`].
    pub fn wait(&self, seq: u64, time: Duration) -> Woken {
        self.feed.wait(seq, time)
    }

    /// Events from number `from` on, at most `rows_max` and about `bytes_max`, at least one if
    /// there is one.
    pub fn read(&self, from: u64, rows_max: usize, bytes_max: u64) -> Result<Run, ReadError> {
        match self.feed.take(from, rows_max, bytes_max) {
            Some(events) => Ok(Run { from, events }),
            None => self.read_spool(from, rows_max, bytes_max),
        }
    }

    fn read_spool(&self, from: u64, rows_max: usize, bytes_max: u64) -> Result<Run, ReadError> {
        let snapshot = self.reader.catalog.snapshot();
        let end_seq = snapshot.end_seq;
        let mut run = Run { from, events: Vec::new() };
        let mut bytes = 0;
        for part in parts(snapshot) {
            if part.end_seq() <= from {
                continue;
            }
            let file = self.reader.open(&part)?.ok_or(ReadError::Expired)?;
            for records in self.reader.runs(&part, |block| block_end(block) > from) {
                let flow = meet(&part, &*file, records, |met| {
                    if met.seq < from {
                        return Ok(ControlFlow::Continue(()));
                    }
                    let full =
                        run.events.len() >= rows_max || bytes + met.image.len() as u64 > bytes_max;
                    if met.seq >= end_seq || (full && !run.events.is_empty()) {
                        return Ok(ControlFlow::Break(()));
                    }
                    if run.events.is_empty() {
                        run.from = met.seq;
                    }
                    bytes += met.image.len() as u64;
                    let place = (part.first_seq(), met.at);
                    run.events.push(decode(met.image).map_err(|e| damaged(place, &e))?);
                    Ok(ControlFlow::Continue(()))
                })?;
                if flow.is_break() {
                    return Ok(run);
                }
            }
        }
        Ok(run)
    }
}

/// The sequence number after a block's last event.
fn block_end(block: &Block) -> u64 {
    block.first_seq + u64::from(block.count)
}
