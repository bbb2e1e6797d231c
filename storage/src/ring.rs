//! The ring between the shards and the writer: one bounded lane per shard, and what comes back.
//!
//! A shard pushes whole batches, asks for room first, and reads two atomics: how far its batches
//! are synced, and the state. A full lane means: do not take publishes now (the home shard leaves
//! them in their lanes). The bytes of batches that are not synced are bounded per shard; an empty
//! lane takes one batch of any size. Nothing here blocks, and the writer is asked to wake only if
//! it sleeps. Shards never see files or errors.

use crossbeam_queue::ArrayQueue;
use proto::event::Event;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering, fence};
use std::thread::Thread;
use std::time::Duration;

/// A shard's events, in order.
#[derive(Debug)]
pub struct StoreBatch {
    /// 1, 2, 3 ... per shard; the acknowledgement names it.
    pub seq: u64,
    /// What to store.
    pub events: Vec<Event>,
}

impl StoreBatch {
    /// Bytes of the events.
    pub fn bytes(&self) -> u64 {
        self.events.iter().map(|event| event.size() as u64).sum()
    }
}

/// The writer runs, or was woken.
const AWAKE: u8 = 0;
/// It sleeps until anything is pushed.
const IDLE: u8 = 1;
/// It sleeps until its time is over or somebody is in a hurry.
const PACED: u8 = 2;

/// Whether events can be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum StorageState {
    /// Yes.
    #[default]
    Accepting = 0,
    /// The disk is full (or descriptors are): refuse publishes to stored namespaces; it heals by
    /// itself.
    DiskFull = 1,
    /// The spool is at its hard cap and a sink has not confirmed: the same.
    SpoolFull = 2,
    /// Writing failed twice: refuse, and be not ready, until a restart.
    Failed = 3,
}

impl StorageState {
    fn from_u8(value: u8) -> Self {
        match value {
            0 => Self::Accepting,
            1 => Self::DiskFull,
            2 => Self::SpoolFull,
            _ => Self::Failed,
        }
    }
}

/// One shard's lane; aligned so that shards do not share a cache line.
#[derive(Debug)]
#[repr(align(128))]
struct Lane {
    batches: ArrayQueue<StoreBatch>,
    /// Bytes pushed and not yet synced.
    bytes: AtomicU64,
    synced_seq: AtomicU64,
    /// With a primary store: 0 while it lacks events of earlier runs, then one more than the
    /// newest batch it has.
    stored: AtomicU64,
}

/// See the module.
#[derive(Debug)]
pub struct StorageRing {
    lanes: Box<[Lane]>,
    lane_bytes_max: u64,
    state: AtomicU8,
    incarnation_max: AtomicU32,
    /// How the writer sleeps: [`AWAKE`], [`IDLE`] or [`PACED`].
    sleeping: AtomicU8,
    /// Somebody waits for what was pushed to be synced.
    hurry: AtomicBool,
    /// A store beside the spool is the one that `ack=stored` means.
    primary: AtomicBool,
    writer: OnceLock<Thread>,
}

impl StorageRing {
    /// A ring for `shards` shards with `batches` slots each; `unsynced_bytes_max` is shared out
    /// evenly.
    pub fn new(shards: u16, batches: usize, unsynced_bytes_max: u64) -> Self {
        let lane = |_| Lane {
            batches: ArrayQueue::new(batches.max(1)),
            bytes: AtomicU64::new(0),
            synced_seq: AtomicU64::new(0),
            stored: AtomicU64::new(0),
        };
        let shards = shards.max(1);
        Self {
            lanes: (0..shards).map(lane).collect(),
            lane_bytes_max: unsynced_bytes_max / u64::from(shards),
            state: AtomicU8::new(StorageState::Accepting as u8),
            incarnation_max: AtomicU32::new(0),
            sleeping: AtomicU8::new(AWAKE),
            hurry: AtomicBool::new(false),
            primary: AtomicBool::new(false),
            writer: OnceLock::new(),
        }
    }

    /// True if the shard's lane takes one batch of any size now.
    pub fn room(&self, shard: u16) -> bool {
        let lane = self.lane(shard);
        let bytes = lane.bytes.load(Ordering::Acquire);
        !lane.batches.is_full() && (bytes == 0 || bytes < self.lane_bytes_max)
    }

    /// Hands a batch over; gives it back if there is no [`StorageRing::room`]. Only the shard
    /// itself pushes to its lane.
    pub fn push(&self, shard: u16, batch: StoreBatch) -> Result<(), StoreBatch> {
        if !self.room(shard) {
            return Err(batch);
        }
        let lane = self.lane(shard);
        let bytes = batch.bytes();
        lane.bytes.fetch_add(bytes, Ordering::AcqRel);
        if let Err(batch) = lane.batches.push(batch) {
            lane.bytes.fetch_sub(bytes, Ordering::AcqRel);
            return Err(batch);
        }
        if lane.batches.len() * 2 > lane.batches.capacity() || self.is_half_full(lane) {
            self.hurry();
        } else {
            self.wake();
        }
        Ok(())
    }

    fn is_half_full(&self, lane: &Lane) -> bool {
        lane.bytes.load(Ordering::Acquire) * 2 > self.lane_bytes_max
    }

    /// Somebody waits for what was pushed so far to be synced: the writer does not put it off.
    pub fn hurry(&self) {
        self.hurry.store(true, Ordering::Release);
        self.rouse(PACED);
    }

    /// True once after [`Self::hurry`].
    pub(crate) fn take_hurry(&self) -> bool {
        self.hurry.swap(false, Ordering::AcqRel)
    }

    /// The shard's batches up to this one are synced.
    pub fn synced_seq(&self, shard: u16) -> u64 {
        self.lane(shard).synced_seq.load(Ordering::Acquire)
    }

    /// The primary store has the shard's batches up to this one; `None`: not even everything that
    /// earlier runs left. Without a primary store the spool is the store.
    pub fn stored_seq(&self, shard: u16) -> Option<u64> {
        if !self.primary.load(Ordering::Relaxed) {
            return Some(self.synced_seq(shard));
        }
        self.lane(shard).stored.load(Ordering::Acquire).checked_sub(1)
    }

    /// See [`StorageState`].
    pub fn state(&self) -> StorageState {
        StorageState::from_u8(self.state.load(Ordering::Acquire))
    }

    /// Bytes pushed and not yet synced, over all shards.
    pub fn unsynced_bytes(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.bytes.load(Ordering::Relaxed)).sum()
    }

    /// A channel uses this incarnation. Incarnations of channels that store nothing are known only
    /// by this, and a clean stop must not give them out again.
    pub fn incarnation_used(&self, incarnation: u32) {
        self.incarnation_max.fetch_max(incarnation, Ordering::Relaxed);
    }

    /// How many shards it was made for.
    pub fn shards(&self) -> u16 {
        self.lanes.len() as u16
    }

    fn lane(&self, shard: u16) -> &Lane {
        &self.lanes[usize::from(shard)]
    }

    // The writer's side.

    pub(crate) fn incarnation_max(&self) -> u32 {
        self.incarnation_max.load(Ordering::Relaxed)
    }

    pub(crate) fn pop(&self, shard: u16) -> Option<StoreBatch> {
        self.lane(shard).batches.pop()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lanes.iter().all(|lane| lane.batches.is_empty())
    }

    pub(crate) fn acknowledge(&self, shard: u16, seq: u64, bytes: u64) {
        let lane = self.lane(shard);
        lane.bytes.fetch_sub(bytes, Ordering::AcqRel);
        lane.synced_seq.fetch_max(seq, Ordering::AcqRel);
    }

    /// Before any shard runs: `stored_seq` follows a store and not the spool.
    pub(crate) fn set_primary(&self) {
        self.primary.store(true, Ordering::Relaxed);
    }

    /// The primary store has the shard's batches up to `seq`, and everything of earlier runs.
    pub(crate) fn set_stored(&self, shard: u16, seq: u64) {
        self.lane(shard).stored.fetch_max(seq + 1, Ordering::AcqRel);
    }

    /// Returns true if the state is another than before.
    pub(crate) fn set_state(&self, state: StorageState) -> bool {
        self.state.swap(state as u8, Ordering::AcqRel) != state as u8
    }

    pub(crate) fn set_writer(&self, writer: Thread) {
        let _ = self.writer.set(writer);
    }

    /// Wakes the writer if it has nothing to do.
    pub fn wake(&self) {
        self.rouse(IDLE);
    }

    fn rouse(&self, deepest: u8) {
        // Pairs with the fence in `sleep_as`: either the writer sees the batch or the hurry, or we
        // see it asleep.
        fence(Ordering::SeqCst);
        let sleeping = self.sleeping.load(Ordering::Relaxed);
        if sleeping != AWAKE
            && sleeping <= deepest
            && self.sleeping.swap(AWAKE, Ordering::AcqRel) != AWAKE
            && let Some(writer) = self.writer.get()
        {
            writer.unpark();
        }
    }

    /// Sleeps unless `busy` says otherwise once everybody can see that we do.
    pub(crate) fn sleep(&self, time: Duration, busy: impl Fn() -> bool) {
        self.sleep_as(IDLE, time, busy);
    }

    /// Sleeps although batches may wait, unless somebody is in a hurry.
    pub(crate) fn pace(&self, time: Duration, busy: impl Fn() -> bool) {
        self.sleep_as(PACED, time, || busy() || self.hurry.load(Ordering::Acquire));
    }

    fn sleep_as(&self, how: u8, time: Duration, busy: impl Fn() -> bool) {
        self.sleeping.store(how, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if !busy() {
            std::thread::park_timeout(time);
        }
        self.sleeping.store(AWAKE, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::event;

    #[test]
    fn an_empty_lane_takes_one_batch_of_any_size_and_a_full_one_none() {
        let ring = StorageRing::new(2, 4, 200);
        let batch = |seq| StoreBatch { seq, events: vec![event("a", 1, seq, 500)] };
        assert!(ring.room(0));
        let bytes = batch(1).bytes();
        ring.push(0, batch(1)).unwrap();
        assert!(!ring.room(0) && ring.room(1), "over the budget of its own lane only");
        assert_eq!(ring.push(0, batch(2)).unwrap_err().seq, 2);
        assert_eq!(ring.unsynced_bytes(), bytes);
        assert_eq!(ring.pop(0).unwrap().seq, 1);
        assert!(!ring.room(0), "popped is not synced");
        ring.acknowledge(0, 1, bytes);
        assert_eq!((ring.synced_seq(0), ring.synced_seq(1)), (1, 0));
        assert!(ring.room(0));
    }

    #[test]
    fn a_push_wakes_a_sleeping_writer_and_none_is_missed() {
        let ring = std::sync::Arc::new(StorageRing::new(1, 2, 1 << 20));
        let writer = std::thread::spawn({
            let ring = ring.clone();
            move || {
                for seq in 1..=2_000 {
                    let batch = loop {
                        match ring.pop(0) {
                            Some(batch) => break batch,
                            None => {
                                ring.set_writer(std::thread::current());
                                ring.sleep(std::time::Duration::MAX, || !ring.is_empty());
                            }
                        }
                    };
                    assert_eq!(batch.seq, seq);
                    ring.acknowledge(0, seq, batch.bytes());
                }
            }
        });
        for seq in 1..=2_000 {
            let mut batch = StoreBatch { seq, events: Vec::new() };
            while let Err(back) = ring.push(0, batch) {
                batch = back;
                std::thread::yield_now();
            }
        }
        writer.join().unwrap();
        assert_eq!(ring.synced_seq(0), 2_000);
    }

    #[test]
    fn slots_bound_a_lane_of_empty_batches() {
        let ring = StorageRing::new(1, 2, 1 << 20);
        for seq in 1..=2 {
            ring.push(0, StoreBatch { seq, events: Vec::new() }).unwrap();
        }
        assert!(!ring.room(0));
        assert!(ring.push(0, StoreBatch { seq: 3, events: Vec::new() }).is_err());
    }

    /// Whether the writer's pause of a minute goes on after a call.
    fn goes_on(how: u8, call: impl FnOnce(&StorageRing)) -> bool {
        let ring = StorageRing::new(1, 8, 1 << 20);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                ring.set_writer(std::thread::current());
                ring.sleep_as(how, Duration::from_secs(60), || ring.hurry.load(Ordering::Acquire));
            });
            while ring.sleeping.load(Ordering::Acquire) == AWAKE {
                std::thread::yield_now();
            }
            call(&ring);
            let goes_on = ring.sleeping.load(Ordering::Acquire) == how;
            ring.hurry();
            goes_on
        })
    }

    #[test]
    fn a_round_that_is_put_off_waits_for_a_hurry_and_not_for_more_batches() {
        let push = |ring: &StorageRing| {
            let events = vec![event("a", 1, 1, 10)];
            ring.push(0, StoreBatch { seq: 1, events }).unwrap();
        };
        assert!(goes_on(PACED, push), "a batch ended the pause");
        assert!(!goes_on(PACED, StorageRing::hurry), "a hurry did not");
        assert!(!goes_on(IDLE, push), "a batch did not wake an idle writer");
    }
}
