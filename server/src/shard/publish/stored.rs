//! `ack=stored`: a request is answered when the primary store has every event of it.
//!
//! The home shards answer at once and name the store batch to wait for; this shard waits by itself,
//! so that a slow store keeps no batch slot from other publishers. What waits is bounded by the
//! connections and streams that wait for an answer. After `stored_wait_s` the publisher is told
//! that its events are ordered and will be stored, but are not yet: sending them again with their
//! ids waits again and stores nothing twice.

use super::{Publish, PublishId};
use crate::mesh::{AckMode, ShardId};
use crate::shard::Shard;
use crate::shard::http::Response;
use storage::StorageState;

/// How long a request waits while the server drains, milliseconds; not to the drain's very end.
const DRAIN_WAIT_MS: u64 = 5_000;

/// Requests that wait for the store.
#[derive(Debug, Default)]
pub struct Storing {
    waiting: Vec<PublishId>,
    /// What the shards' stores had when it was last looked.
    seen: u64,
    /// When the first of them has waited long enough, milliseconds.
    due_ms: u64,
    /// How often the list was gone through.
    rounds: u64,
}

impl Storing {
    /// When it must be looked at again.
    pub fn deadline_ms(&self) -> Option<u64> {
        (!self.waiting.is_empty()).then_some(self.due_ms)
    }
}

/// What a request waits for, per home shard.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    batches: Vec<(ShardId, u64)>,
    since_ms: Option<u64>,
    /// In which round of [`Storing`] it was put on the list.
    listed: Option<u64>,
}

impl Wanted {
    /// Store batch `seq` of shard `home`.
    pub(super) fn add(&mut self, home: ShardId, seq: u64) {
        match self.batches.iter_mut().find(|(shard, _)| *shard == home) {
            Some((_, newest)) => *newest = seq.max(*newest),
            None => self.batches.push((home, seq)),
        }
    }
}

impl Shard {
    /// Looks again at who waits, if the store has more or somebody has waited long enough.
    pub(in crate::shard) fn run_storing(&mut self) {
        if self.publishes.storing.waiting.is_empty() {
            return;
        }
        let shards = 0..self.ring.shards();
        let seen: u64 =
            shards.map(|shard| self.ring.stored_seq(shard).map_or(0, |seq| seq + 1)).sum();
        let failed = self.ring.state() == StorageState::Failed;
        let storing = &mut self.publishes.storing;
        let draining = self.drain.is_some();
        if seen == storing.seen && self.now.ms < storing.due_ms && !failed && !draining {
            return;
        }
        storing.seen = seen;
        storing.due_ms = u64::MAX;
        storing.rounds += 1;
        let waiting = std::mem::take(&mut storing.waiting);
        self.publishes.touched.extend(waiting);
        self.run_touched();
    }

    /// True if a complete request has to wait for the store.
    pub(super) fn waits_for_store(&mut self, id: PublishId) -> bool {
        let Some(publish) = self.publishes.get(id) else { return false };
        if publish.ack != AckMode::Stored {
            return false;
        }
        let mut wanted = std::mem::take(&mut publish.wanted);
        let has = self.look_at_store(id, &mut wanted);
        let failed = self.ring.state() == StorageState::Failed;
        let Some(publish) = self.publishes.get(id) else { return false };
        publish.wanted = wanted;
        if has == Some(false) {
            publish.not_stored = Some(not_stored(publish, failed));
        }
        has.is_none()
    }

    /// Whether the store has what a request waits for: `Some(false)` if it was waited for long
    /// enough, `None` if the request has to wait on, and is looked at again.
    pub(super) fn look_at_store(&mut self, id: PublishId, wanted: &mut Wanted) -> Option<bool> {
        let ring = &self.ring;
        let missing = |(home, seq): &(ShardId, u64)| ring.stored_seq(home.0) < Some(*seq);
        if !wanted.batches.iter().any(missing) {
            return Some(true);
        }
        let wait_ms = u64::from(self.settings.limits.stored_wait_s) * 1_000;
        let now_ms = self.now.ms;
        let since_ms = *wanted.since_ms.get_or_insert(now_ms);
        let due_ms = match self.drain.map(|drain| drain.answer_by_ms()) {
            None => since_ms + wait_ms,
            Some(by_ms) => (since_ms + wait_ms.min(DRAIN_WAIT_MS)).min(by_ms),
        };
        if now_ms >= due_ms || ring.state() == StorageState::Failed {
            return Some(false);
        }
        let storing = &mut self.publishes.storing;
        storing.due_ms =
            if storing.waiting.is_empty() { due_ms } else { storing.due_ms.min(due_ms) };
        // A stream is looked at again and again; a request only when it is complete.
        if wanted.listed.is_none_or(|round| round != storing.rounds) {
            wanted.listed = Some(storing.rounds);
            storing.waiting.push(id);
        }
        None
    }
}

fn not_stored(publish: &Publish, failed: bool) -> Response {
    let count = publish.answer.accepted();
    let what = if failed {
        "the spool failed before they were synced: send them again, with their ids, once the server \
         is ready"
    } else {
        "the store has not confirmed them yet. They stay in the spool and are stored when it takes \
         them; send them again, with their ids, to wait for that"
    };
    let text = format!("{count} events were accepted, but {what}");
    Response::error(503, "not_stored", &text)
}
