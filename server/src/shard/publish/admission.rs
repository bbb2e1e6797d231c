//! Admission: what happens to an item while its request's decoder runs.
//!
//! Permissions are checked, the item joins the batch of its home shard, and a full batch is handed
//! over. `Break` tells the decoder to stop: there is no room, and the request is parked.

use super::table::{InFlight, PublishId};
use crate::mesh::{
    AckMode, BATCH_BYTES_MAX, BATCH_EVENTS_MAX, BATCH_SLOTS, MeshEnd, PublishBatch, ShardId,
    home_of,
};
use crate::shard::settings::Settings;
use proto::answer::PublishAnswer;
use proto::channel::ChannelName;
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
    pub(super) bytes: usize,
}

/// What admits an item while its request's decoder runs.
pub(super) struct Admission<'a> {
    pub(super) settings: &'a Settings,
    pub(super) mesh: &'a mut MeshEnd,
    pub(super) in_flight: &'a mut Vec<Option<InFlight>>,
    pub(super) in_flight_free: &'a mut Vec<u32>,
    pub(super) id: PublishId,
    pub(super) ack: AckMode,
    pub(super) client: bool,
    pub(super) batches: &'a mut Vec<Building>,
    pub(super) under_way: &'a mut u32,
    pub(super) handed: &'a mut u64,
    pub(super) answer: &'a mut PublishAnswer,
    /// Items of all publishers, valid or not.
    pub(super) received: &'a mut u64,
}

impl Admission<'_> {
    /// Takes an item. `Break` when the request has to be parked.
    pub(super) fn item(&mut self, item: Item) -> ControlFlow<()> {
        *self.received += 1;
        let unplaced = match item.result {
            Ok(unplaced) => unplaced,
            Err(rejection) => {
                self.answer.reject(rejection);
                return ControlFlow::Continue(());
            }
        };
        if let Some(refusal) = self.refusal(&unplaced) {
            self.answer.reject(refusal.at(item.index));
            return ControlFlow::Continue(());
        }
        let home = home_of(unplaced.channel(), self.mesh.shards());
        let at = self.batch_for(home);
        let batch = &mut self.batches[at];
        batch.bytes += unplaced.size();
        batch.items.push(unplaced);
        batch.indices.push(item.index);
        if batch.items.len() >= BATCH_EVENTS_MAX || batch.bytes >= BATCH_BYTES_MAX {
            return self.hand_over(at);
        }
        ControlFlow::Continue(())
    }

    pub(super) fn refusal(&self, unplaced: &Unplaced) -> Option<Rejection> {
        let namespace = self.settings.namespace(unplaced.channel());
        let allowed = if self.client { namespace.client_publish } else { namespace.publish };
        if !allowed {
            let name = self.settings.namespace_name(unplaced.channel());
            let detail = format!("namespace `{name}` does not permit publishing");
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
        self.batches.push(Building { home, items: Vec::new(), indices: Vec::new(), bytes: 0 });
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
        if slots_full || !self.mesh.publish_room(home) {
            return ControlFlow::Break(());
        }
        let batch = &mut self.batches[at];
        let items = std::mem::take(&mut batch.items);
        let indices = std::mem::take(&mut batch.indices);
        batch.bytes = 0;
        let slot = self.in_flight_free.pop().unwrap_or_else(|| {
            self.in_flight.push(None);
            (self.in_flight.len() - 1) as u32
        });
        let (channels, channel_of) = channels_of(&items);
        self.in_flight[slot as usize] =
            Some(InFlight { publish: self.id, indices, channels, channel_of });
        *self.under_way += 1;
        *self.handed += 1;
        let pushed = self.mesh.publish(home, PublishBatch { slot, ack: self.ack, items });
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

/// The distinct channels of a batch and, per item, which it is. Runs of one channel are the rule.
pub(super) fn channels_of(items: &[Unplaced]) -> (Vec<ChannelName>, Vec<u16>) {
    let mut channels: Vec<ChannelName> = Vec::new();
    let mut channel_of = Vec::with_capacity(items.len());
    let mut last = 0_u16;
    for item in items {
        let name = item.channel();
        let known = channels.get(usize::from(last)).is_some_and(|known| known.as_str() == name);
        if !known {
            let found = channels.iter().position(|known| known.as_str() == name);
            last = found.unwrap_or_else(|| {
                // `build` checked the name.
                channels.extend(ChannelName::new(name));
                channels.len() - 1
            }) as u16;
        }
        channel_of.push(last);
    }
    (channels, channel_of)
}
