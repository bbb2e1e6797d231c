//! Admission: what happens to an item while its request's decoder runs.
//!
//! Permissions are checked, the item joins the batch of its home shard, and a full batch is handed
//! over. `Break` tells the decoder to stop: there is no room, and the request is parked.

use super::table::{InFlight, PublishId};
use crate::auth::{Action, Caller, allows};
use crate::mesh::{
    AckMode, BATCH_BYTES_MAX, BATCH_EVENTS_MAX, BATCH_SLOTS, BatchChannels, MeshEnd, PublishBatch,
    ShardId, home_of,
};
use crate::metrics::Counters;
use crate::shard::access::denial;
use crate::shard::settings::Settings;
use proto::answer::PublishAnswer;
use proto::decode::{Item, RejectCode, Rejection};
use proto::event::Unplaced;
use std::ops::ControlFlow;

/// Batches of one request that may be under way: enough to fill the pipe, few enough that one
/// publisher cannot take every slot.
const BATCHES_PER_REQUEST_MAX: u32 = 16;

/// A batch that is being filled.
#[derive(Debug)]
pub(super) struct Building {
    pub(super) home: ShardId,
    pub(super) items: Vec<Unplaced>,
    pub(super) indices: Vec<u64>,
    pub(super) channels: BatchChannels,
    pub(super) bytes: usize,
}

/// Where in the batches being filled an item's channel probably stands: a table of guesses by a
/// cheap hash of the name. Every guess is compared with the name, so a wrong one costs a search and
/// nothing else, whoever chose the names.
#[derive(Debug)]
pub(super) struct Recent([(u16, u16); RECENT]);

const RECENT: usize = 256;

impl Default for Recent {
    fn default() -> Self {
        Self([(0, 0); RECENT])
    }
}

impl Recent {
    fn guess(&mut self, name: &[u8]) -> &mut (u16, u16) {
        let word = |chunk: &[u8; 8]| u64::from_le_bytes(*chunk);
        let ends = match (name.first_chunk(), name.last_chunk()) {
            (Some(first), Some(last)) => word(first) ^ word(last).rotate_left(27),
            _ => name.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        };
        let hash = (ends ^ name.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        &mut self.0[(hash >> 56) as usize]
    }
}

/// What admits an item while its request's decoder runs.
pub(super) struct Admission<'a> {
    pub(super) settings: &'a Settings,
    pub(super) mesh: &'a mut MeshEnd,
    pub(super) in_flight: &'a mut Vec<Option<InFlight>>,
    pub(super) in_flight_free: &'a mut Vec<u32>,
    pub(super) id: PublishId,
    /// Which of the request's lines says what became of the items.
    pub(super) round: u64,
    pub(super) ack: AckMode,
    pub(super) caller: &'a Caller,
    pub(super) action: Action,
    pub(super) now_ms: u64,
    /// The caller went over its rate: nothing more of the request is taken, and it may come back
    /// after so many milliseconds.
    pub(super) over_ms: Option<u64>,
    pub(super) batches: &'a mut Vec<Building>,
    pub(super) under_way: &'a mut u32,
    pub(super) handed: &'a mut u64,
    pub(super) answer: &'a mut PublishAnswer,
    pub(super) recent: &'a mut Recent,
    pub(super) counters: &'a mut Counters,
}

impl Admission<'_> {
    /// Takes an item. `Break` when the request has to be parked.
    pub(super) fn item(&mut self, item: Item) -> ControlFlow<()> {
        if self.over_ms.is_some() {
            return ControlFlow::Continue(());
        }
        self.counters.messages_received += 1;
        let unplaced = match item.result {
            Ok(unplaced) => unplaced,
            Err(rejection) => {
                self.answer.reject(rejection);
                return ControlFlow::Continue(());
            }
        };
        let (at, channel) = match self.place_of(&unplaced) {
            Ok(place) => place,
            Err(refusal) => {
                self.answer.reject(refusal.at(item.index));
                return ControlFlow::Continue(());
            }
        };
        if let Caller::Service(key) = self.caller
            && let Err(over) = key.take(self.now_ms, unplaced.size() as u64)
        {
            self.counters.auth_rate += 1;
            self.over_ms = Some(over.wait_ms);
            let detail = format!(
                "over the rate of the API key `{}`: this item and all after it were not taken; send \
                 them again in {} ms",
                key.name(),
                over.wait_ms
            );
            self.answer.stop(Rejection::new(RejectCode::RateLimited, detail).at(item.index));
            return ControlFlow::Continue(());
        }
        let batch = &mut self.batches[at];
        if *self.handed > 0 && batch.items.capacity() == 0 {
            // It will be about as full as the ones before it.
            batch.items.reserve(BATCH_EVENTS_MAX);
            batch.indices.reserve(BATCH_EVENTS_MAX);
        }
        batch.bytes += unplaced.size();
        batch.channels.push(channel, unplaced.size());
        batch.items.push(unplaced);
        batch.indices.push(item.index);
        if batch.items.len() >= BATCH_EVENTS_MAX || batch.bytes >= BATCH_BYTES_MAX {
            return self.hand_over(at);
        }
        ControlFlow::Continue(())
    }

    /// The batch of an item and its channel's index there, or why it is refused. Only channels
    /// that may be published to are ever entered, so one that is found there needs no look again.
    fn place_of(&mut self, unplaced: &Unplaced) -> Result<(usize, u16), Rejection> {
        let name = unplaced.channel_bytes();
        let (at, index) = *self.recent.guess(name);
        if self.batches.get(usize::from(at)).is_some_and(|batch| batch.channels.is(index, name)) {
            return Ok((usize::from(at), index));
        }
        let channel = unplaced.channel();
        if let Some(refusal) = self.refusal(channel) {
            return Err(refusal);
        }
        let at = self.batch_for(home_of(channel, self.mesh.shards()));
        let index = self.batches[at].channels.enter(channel);
        // There are at most as many batches as shards.
        *self.recent.guess(name) = (at as u16, index);
        Ok((at, index))
    }

    fn refusal(&mut self, channel: &str) -> Option<Rejection> {
        let namespace = self.settings.namespace(channel);
        if let Err(denied) = allows(self.caller, namespace, channel, self.action) {
            self.counters.auth_forbidden += 1;
            let detail = denial(denied, self.settings.namespace_name(channel), self.action);
            return Some(Rejection::new(RejectCode::Forbidden, detail));
        }
        if self.ack != AckMode::Accepted && !namespace.store {
            let detail =
                "this namespace has `store = false`: nothing of it is stored; use ack=accepted";
            return Some(Rejection::new(RejectCode::Forbidden, detail));
        }
        None
    }

    pub(super) fn batch_for(&mut self, home: ShardId) -> usize {
        if let Some(at) = self.batches.iter().position(|batch| batch.home == home) {
            return at;
        }
        let (items, indices, channels) = Default::default();
        self.batches.push(Building { home, items, indices, channels, bytes: 0 });
        self.batches.len() - 1
    }

    /// Pushes one batch on its lane. `Break`: no room, the batch stays.
    pub(super) fn hand_over(&mut self, at: usize) -> ControlFlow<()> {
        if self.batches[at].items.is_empty() {
            return ControlFlow::Continue(());
        }
        let home = self.batches[at].home;
        let used = self.in_flight.len() - self.in_flight_free.len();
        let slots_full = used >= BATCH_SLOTS || *self.under_way >= BATCHES_PER_REQUEST_MAX;
        let lane_full = !self.mesh.publish_room(home, self.batches[at].bytes);
        if slots_full || lane_full {
            self.counters.publish_lane_full += u64::from(lane_full);
            return ControlFlow::Break(());
        }
        let batch = &mut self.batches[at];
        let items = std::mem::take(&mut batch.items);
        let indices = std::mem::take(&mut batch.indices);
        let channels = std::mem::take(&mut batch.channels);
        batch.bytes = 0;
        let slot = self.in_flight_free.pop().unwrap_or_else(|| {
            self.in_flight.push(None);
            (self.in_flight.len() - 1) as u32
        });
        self.in_flight[slot as usize] =
            Some(InFlight { publish: self.id, round: self.round, indices });
        *self.under_way += 1;
        *self.handed += 1;
        let batch = PublishBatch { slot, ack: self.ack, items, channels };
        let pushed = self.mesh.publish(home, batch);
        assert!(pushed.is_ok(), "the lane had room a moment ago and this shard is its only writer");
        ControlFlow::Continue(())
    }

    /// True if a batch takes no further item.
    pub(super) fn has_full(&self) -> bool {
        let full = |batch: &Building| {
            batch.items.len() >= BATCH_EVENTS_MAX || batch.bytes >= BATCH_BYTES_MAX
        };
        self.batches.iter().any(full)
    }

    /// Hands over everything that is being filled.
    pub(super) fn hand_over_all(&mut self) -> ControlFlow<()> {
        for at in 0..self.batches.len() {
            self.hand_over(at)?;
        }
        ControlFlow::Continue(())
    }
}
