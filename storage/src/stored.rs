//! Which batches the primary store has: turns "everything before event n" into "shard s up to
//! batch b", which is what publishers of `ack=stored` wait for.
//!
//! Bounded: when the store is away for long the list is thinned, every second entry of a shard at
//! a time. An answer may then wait for a later event than its own, never for an earlier one.

use std::collections::VecDeque;

/// Where a batch ends in the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ending {
    end_seq: u64,
    shard: u16,
    batch: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Endings {
    /// Ascending in `end_seq`, and per shard in `batch`.
    queue: VecDeque<Ending>,
}

/// Most entries: 1.5 MiB.
const ENDINGS_MAX: usize = 65_536;

impl Endings {
    /// The shard's batch is synced, and ends before event `end_seq`.
    pub(crate) fn push(&mut self, end_seq: u64, shard: u16, batch: u64) {
        if let Some(last) = self.queue.back_mut()
            && (last.end_seq, last.shard) == (end_seq, shard)
        {
            last.batch = batch;
            return;
        }
        self.queue.push_back(Ending { end_seq, shard, batch });
        if self.queue.len() > ENDINGS_MAX {
            self.thin();
        }
    }

    /// The batches that are stored when everything before `confirmed` is.
    pub(crate) fn release(&mut self, confirmed: u64, mut each: impl FnMut(u16, u64)) {
        while let Some(first) = self.queue.front()
            && first.end_seq <= confirmed
        {
            each(first.shard, first.batch);
            self.queue.pop_front();
        }
    }

    /// Drops every second entry of each shard, never its newest.
    fn thin(&mut self) {
        let shards = self.queue.iter().map(|ending| ending.shard).max().unwrap_or(0);
        let mut keep = vec![true; usize::from(shards) + 1];
        let mut kept: VecDeque<Ending> = VecDeque::with_capacity(self.queue.len());
        for ending in self.queue.drain(..).rev() {
            let keep = &mut keep[usize::from(ending.shard)];
            if std::mem::replace(keep, !*keep) {
                kept.push_front(ending);
            }
        }
        self.queue = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_outage_thins_the_list_and_releases_nothing_early() {
        let mut endings = Endings::default();
        let total = 3 * ENDINGS_MAX as u64;
        for n in 1..=total {
            endings.push(n, (n % 3) as u16, n);
        }
        assert!(endings.queue.len() <= ENDINGS_MAX);
        for confirmed in [1_000, total - 1, total] {
            let mut newest = [0; 3];
            endings.release(confirmed, |shard, batch| newest[usize::from(shard)] = batch);
            assert!(newest.iter().all(|batch| *batch <= confirmed), "{newest:?} at {confirmed}");
            if confirmed == total {
                assert_eq!(newest[(total % 3) as usize], total, "the newest is never dropped");
            }
        }
        assert!(endings.queue.is_empty());
    }
}
