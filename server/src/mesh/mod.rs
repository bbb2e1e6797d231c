//! The mesh: bounded queues between shards, one set of lanes for each ordered pair.
//!
//! | lane | carries | when it is full |
//! | --- | --- | --- |
//! | publish | batches to the channel's home shard | the request is parked, 503 after a bound |
//! | control | joins, leaves, reads, members, commands of clients | the ask waits at its asker |
//! | deliver | events and history to interested shards | the home shard stops taking publishes |
//! | answer | results of publish batches to the ingress shard | cannot: one slot for each batch |
//!
//! A shard never blocks on a lane. Deliver and answer lanes are always drained by their reader,
//! since the outbox policy always decides what to do with an event: so no cycle of full lanes
//! exists. A shard's lanes to itself are lanes like the others, so one shard and many behave alike.
//!
//! Lanes live between threads (the queues are lock-free), but nothing here blocks, sleeps or reads
//! a clock, so the simulated world runs the same mesh on one thread. Waking the other side is the
//! caller's: each push is remembered in [`MeshEnd::take_wakes`].

mod member;
mod message;

pub use member::{Identity, Member, Presence, Shown};
pub use message::*;

use crossbeam_queue::ArrayQueue;
use std::sync::Arc;

/// Batches one publish lane holds: as many as an ingress shard may have under way, so that a
/// hundred requests of one event each that come in one receive need not wait for a turn each.
pub const PUBLISH_LANE_BATCHES: usize = BATCH_SLOTS;
/// Behind so many batches only small ones are taken: with at most 256 events and 64 KiB a batch
/// that is about 4 MiB a lane.
const PUBLISH_LANE_LARGE: usize = 64;
/// What is small, in bytes of images.
const SMALL_BATCH_BYTES: usize = 1_024;
/// Asks one control lane holds.
pub const CONTROL_LANE_ASKS: usize = 1_024;
/// Messages one deliver lane holds.
pub const DELIVER_LANE_MESSAGES: usize = 256;
/// Batches an ingress shard may have under way, over all home shards: also the answer lane's size,
/// which is why an answer always finds room.
pub const BATCH_SLOTS: usize = 256;

/// Most shards of one process: interest is a bit mask.
pub const SHARDS_MAX: usize = 64;

/// Index of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u16);

impl ShardId {
    /// The index, for arrays.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// The four queues from one shard to another.
struct Lanes {
    publish: ArrayQueue<PublishBatch>,
    control: ArrayQueue<Ask>,
    deliver: ArrayQueue<Deliver>,
    answer: ArrayQueue<Answer>,
}

impl Lanes {
    fn new() -> Self {
        Self {
            publish: ArrayQueue::new(PUBLISH_LANE_BATCHES),
            control: ArrayQueue::new(CONTROL_LANE_ASKS),
            deliver: ArrayQueue::new(DELIVER_LANE_MESSAGES),
            answer: ArrayQueue::new(BATCH_SLOTS),
        }
    }
}

/// All lanes of a process, shared by its shards.
pub struct Mesh {
    shards: usize,
    /// Row-major: from * shards + to.
    lanes: Vec<Lanes>,
}

impl Mesh {
    /// Builds every lane.
    pub fn new(shards: usize) -> Arc<Self> {
        assert!((1..=SHARDS_MAX).contains(&shards), "1 to {SHARDS_MAX} shards");
        Arc::new(Self { shards, lanes: (0..shards * shards).map(|_| Lanes::new()).collect() })
    }

    /// One shard's end.
    pub fn end(self: &Arc<Self>, shard: ShardId) -> MeshEnd {
        assert!(shard.index() < self.shards);
        MeshEnd { mesh: Arc::clone(self), shard, wakes: 0 }
    }

    /// Bytes of one shard's outgoing lanes when empty, for the memory budget.
    pub fn lane_bytes_per_shard(shards: usize) -> usize {
        let pair = PUBLISH_LANE_BATCHES * size_of::<PublishBatch>()
            + CONTROL_LANE_ASKS * size_of::<Ask>()
            + DELIVER_LANE_MESSAGES * size_of::<Deliver>()
            + BATCH_SLOTS * size_of::<Answer>();
        pair * shards
    }

    fn lanes(&self, from: ShardId, to: ShardId) -> &Lanes {
        &self.lanes[from.index() * self.shards + to.index()]
    }
}

/// What one shard sees of the mesh.
pub struct MeshEnd {
    mesh: Arc<Mesh>,
    shard: ShardId,
    /// Shards something was pushed to since the last `take_wakes`.
    wakes: u64,
}

impl MeshEnd {
    /// Number of shards.
    pub fn shards(&self) -> usize {
        self.mesh.shards
    }

    /// Every shard, this one included.
    pub fn peers(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.mesh.shards as u16).map(ShardId)
    }

    /// Hands a batch to a home shard; full gives it back.
    pub fn publish(&mut self, to: ShardId, batch: PublishBatch) -> Result<(), PublishBatch> {
        self.mesh.lanes(self.shard, to).publish.push(batch)?;
        self.note(to);
        Ok(())
    }

    /// Asks a home shard; full gives it back.
    pub fn ask(&mut self, to: ShardId, ask: Ask) -> Result<(), Ask> {
        self.mesh.lanes(self.shard, to).control.push(ask)?;
        self.note(to);
        Ok(())
    }

    /// Delivers to an interested shard. The caller has checked [`Self::deliver_room`].
    pub fn deliver(&mut self, to: ShardId, message: Deliver) {
        let pushed = self.mesh.lanes(self.shard, to).deliver.push(message);
        assert!(pushed.is_ok(), "deliver lane overran: room was not checked");
        self.note(to);
    }

    /// Answers a batch. Always finds room: the asker owns a slot for it.
    pub fn answer(&mut self, to: ShardId, answer: Answer) {
        let pushed = self.mesh.lanes(self.shard, to).answer.push(answer);
        assert!(pushed.is_ok(), "answer lane overran: more answers than batch slots");
        self.note(to);
    }

    /// Free places in the deliver lane to a shard.
    pub fn deliver_room(&self, to: ShardId) -> usize {
        let lane = &self.mesh.lanes(self.shard, to).deliver;
        lane.capacity() - lane.len()
    }

    /// Free places in the fullest deliver lane.
    pub fn deliver_room_min(&self) -> usize {
        self.peers().map(|to| self.deliver_room(to)).min().unwrap_or(0)
    }

    /// True if the publish lane to a shard takes another batch of so many bytes.
    pub fn publish_room(&self, to: ShardId, bytes: usize) -> bool {
        let lane = &self.mesh.lanes(self.shard, to).publish;
        let places = if bytes <= SMALL_BATCH_BYTES { lane.capacity() } else { PUBLISH_LANE_LARGE };
        lane.len() < places
    }

    /// True if a batch of a shard waits.
    pub fn has_publish(&self, from: ShardId) -> bool {
        !self.mesh.lanes(from, self.shard).publish.is_empty()
    }

    /// Takes the next publish batch from a shard.
    pub fn next_publish(&mut self, from: ShardId) -> Option<PublishBatch> {
        let batch = self.mesh.lanes(from, self.shard).publish.pop();
        if batch.is_some() {
            // Room again: the other side may have parked requests.
            self.note(from);
        }
        batch
    }

    /// Takes the next ask from a shard.
    pub fn next_ask(&mut self, from: ShardId) -> Option<Ask> {
        self.mesh.lanes(from, self.shard).control.pop()
    }

    /// Takes the next delivery from a shard.
    pub fn next_deliver(&mut self, from: ShardId) -> Option<Deliver> {
        let lane = &self.mesh.lanes(from, self.shard).deliver;
        let was_full = lane.is_full();
        let message = lane.pop();
        if was_full {
            // The home shard waits for this room before it takes publishes.
            self.note(from);
        }
        message
    }

    /// Takes the next answer from a shard.
    pub fn next_answer(&mut self, from: ShardId) -> Option<Answer> {
        self.mesh.lanes(from, self.shard).answer.pop()
    }

    /// True if something waits for this shard: it must not sleep.
    pub fn has_input(&self) -> bool {
        self.peers().any(|from| {
            let lanes = self.mesh.lanes(from, self.shard);
            !lanes.publish.is_empty()
                || !lanes.control.is_empty()
                || !lanes.deliver.is_empty()
                || !lanes.answer.is_empty()
        })
    }

    /// True if anything but a publish waits: only publishes may have to wait for room.
    pub fn has_other_input(&self) -> bool {
        self.peers().any(|from| {
            let lanes = self.mesh.lanes(from, self.shard);
            !lanes.deliver.is_empty() || !lanes.answer.is_empty() || !lanes.control.is_empty()
        })
    }

    /// Messages that wait for this shard, all lanes together (a gauge).
    pub fn depth(&self) -> usize {
        self.peers()
            .map(|from| {
                let lanes = self.mesh.lanes(from, self.shard);
                lanes.publish.len() + lanes.control.len() + lanes.deliver.len() + lanes.answer.len()
            })
            .sum()
    }

    /// The shards to wake for what was pushed since the last call, as a bit mask without this one.
    pub fn take_wakes(&mut self) -> u64 {
        std::mem::take(&mut self.wakes) & !(1 << self.shard.0)
    }

    fn note(&mut self, to: ShardId) {
        self.wakes |= 1 << to.0;
    }
}

/// The shard that orders a channel. The hash is fixed: it must be the same on every shard of a run,
/// and nothing else depends on it, so that a restart may use another number of shards.
pub fn home_of(channel: &str, shards: usize) -> ShardId {
    if shards == 1 {
        return ShardId(0);
    }
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in channel.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    // FNV's low bits are weak for short names; fold the high ones in before the modulo.
    ShardId(((hash ^ (hash >> 32)) % shards as u64) as u16)
}
