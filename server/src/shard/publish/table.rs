//! The publish requests of a shard and its batch slots.
//!
//! A slot belongs to a batch from the moment it is handed over until its answer comes, also when
//! the request is gone meanwhile; so a home shard's answer always finds its slot, and the answer
//! lane always has room.

use super::Publish;
use super::admission::Recent;
use super::expand::EXPAND_BYTES_PER_TURN;
use super::stored::Storing;
use super::stream::Lingering;
use bytes::Bytes;
use proto::answer::ChannelNumber;
use std::collections::VecDeque;

/// Names a publish request of this shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublishId {
    index: u32,
    generation: u32,
}

/// A batch that is under way.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) publish: PublishId,
    pub(super) round: u64,
    pub(super) indices: Vec<u64>,
}

/// All publish requests of a shard, and its batch slots.
#[derive(Debug, Default)]
pub struct Publishes {
    pub(super) slots: Vec<(u32, Option<Box<Publish>>)>,
    pub(super) free: Vec<u32>,
    pub(super) in_flight: Vec<Option<InFlight>>,
    pub(super) in_flight_free: Vec<u32>,
    /// Where channels stood lately in the batches being filled.
    pub(super) recent: Recent,
    /// Scratch of an answer: its channels as the request's answer numbers them.
    pub(super) numbers: Vec<Option<ChannelNumber>>,
    pub(super) parked: VecDeque<PublishId>,
    /// Requests that may have become complete.
    pub(super) touched: Vec<PublishId>,
    /// Bytes of bodies held by all requests.
    pub(super) charged: usize,
    /// Requests that wait for the store.
    pub(super) storing: Storing,
    /// Streams whose peer has not taken the lines that were said.
    pub(super) held_back: Vec<PublishId>,
    /// Streams that wait for the end of their requests, first due first.
    pub(super) lingering: VecDeque<Lingering>,
    /// Where bodies are expanded to before they are decoded.
    pub(super) scratch: Vec<u8>,
    /// What compressed bodies may still expand to in this turn.
    pub(super) expand_left: usize,
    /// Somebody is parked only because the turn's work was done.
    pub(super) yielded: bool,
}

impl Publishes {
    pub(super) fn insert(&mut self, publish: Publish) -> PublishId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        slot.1 = Some(Box::new(publish));
        PublishId { index, generation: slot.0 }
    }

    /// The request, unless it is gone.
    pub fn get(&mut self, id: PublishId) -> Option<&mut Publish> {
        let slot = self.slots.get_mut(id.index as usize)?;
        if slot.0 == id.generation { slot.1.as_deref_mut() } else { None }
    }

    pub(super) fn take(&mut self, id: PublishId) -> Option<Box<Publish>> {
        let slot = self.slots.get_mut(id.index as usize)?;
        if slot.0 == id.generation { slot.1.take() } else { None }
    }

    pub(super) fn put_back(&mut self, id: PublishId, publish: Box<Publish>) {
        self.slots[id.index as usize].1 = Some(publish);
    }

    /// Forgets a request; batches under way are answered to nobody.
    pub fn remove(&mut self, id: PublishId) -> Option<Box<Publish>> {
        let publish = self.take(id)?;
        self.slots[id.index as usize].0 = id.generation.wrapping_add(1);
        self.free.push(id.index);
        self.charged -= publish.charged;
        Some(publish)
    }

    /// True if a request waits for room.
    pub fn has_parked(&self) -> bool {
        !self.parked.is_empty()
    }

    /// When somebody has waited for the store long enough, milliseconds.
    pub fn storing_deadline_ms(&self) -> Option<u64> {
        self.storing.deadline_ms()
    }

    /// When the first stream has waited long enough for the end of its request, milliseconds.
    pub fn lingering_deadline_ms(&self) -> Option<u64> {
        self.lingering.front().map(|first| first.due_ms)
    }

    /// A new turn begins.
    pub fn begin_turn(&mut self) {
        self.expand_left = EXPAND_BYTES_PER_TURN;
    }

    /// True if a request can go on at once, in the next turn.
    pub fn has_yielded(&self) -> bool {
        self.yielded
    }

    /// How many wait for room.
    pub fn parked_len(&self) -> usize {
        self.parked.len()
    }

    /// Bytes of bodies and batches held here, for the ledger.
    pub fn memory_bytes(&self) -> usize {
        let held = |publish: &Publish| {
            let body = publish.charged;
            let batches: usize = publish.batches.iter().map(|batch| batch.bytes).sum();
            let waiting: usize = publish.waiting.iter().map(Bytes::len).sum();
            size_of::<Publish>() + body + batches + waiting
        };
        self.slots.iter().filter_map(|slot| slot.1.as_deref()).map(held).sum::<usize>()
            + self.slots.capacity() * size_of::<(u32, Option<Box<Publish>>)>()
            + self.in_flight.capacity() * size_of::<Option<InFlight>>()
            + self.scratch.capacity()
    }
}
