//! Local channels: the subscriber side of the channels this shard is interested in.
//!
//! The home shard orders a channel; here stands who on this shard listens to it and which offset
//! each of them gets next. Invariants: a channel exists here exactly while it has a subscription;
//! `entries[i]` of a channel and the subscriber's key point at each other; a live subscription's
//! `next` only grows. Deliberately absent: encoding and outboxes (`delivery`), history (`home`).

use super::connection::EndpointId;
use super::format::Format;
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use proto::channel::ChannelName;
use proto::event::Event;
use proto::position::{Epoch, Position};
use std::hash::BuildHasher;

/// Where a subscription stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Takes live events.
    Live,
    /// Takes history pages; live events are left out until it has caught up.
    CatchingUp,
    /// Waits for the home shard's answer to its join.
    Joining,
}

/// One subscription in a channel's list. 16 bytes, read in sequence by delivery.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// Whose it is.
    pub endpoint: EndpointId,
    /// Index among the subscriber's subscriptions.
    pub index: u16,
    /// How it wants its events.
    pub format: Format,
    /// The phase in the low bits, and flags.
    state: u8,
    /// The next offset it gets: lower is skipped, higher is a gap.
    pub next: u64,
}

const _: () = assert!(size_of::<Entry>() == 16, "four subscriptions to a cache line");

impl Entry {
    const PHASE: u8 = 3;
    const WATCHES: u8 = 4;
    const MEMBER: u8 = 8;

    /// A subscription that is in a phase and gets this offset next.
    pub fn new(endpoint: EndpointId, index: u16, format: Format, phase: Phase, next: u64) -> Self {
        Self { endpoint, index, format, state: phase as u8, next }
    }

    /// True if it takes live events.
    #[inline]
    pub fn is_live(&self) -> bool {
        self.state & Self::PHASE == Phase::Live as u8
    }

    /// Where it stands.
    pub fn phase(&self) -> Phase {
        match self.state & Self::PHASE {
            0 => Phase::Live,
            1 => Phase::CatchingUp,
            _ => Phase::Joining,
        }
    }

    /// It stands there now.
    pub fn set_phase(&mut self, phase: Phase) {
        self.state = self.state & !Self::PHASE | phase as u8;
    }

    /// It gets joins and leaves.
    pub fn set_watches(&mut self) {
        self.state |= Self::WATCHES;
    }

    /// True if it gets joins and leaves.
    pub fn watches(&self) -> bool {
        self.state & Self::WATCHES != 0
    }

    /// The home shard was told that it is there, and is to be told when it leaves.
    pub fn set_member(&mut self) {
        self.state |= Self::MEMBER;
    }

    /// True if the home shard was told that it is there.
    pub fn is_member(&self) -> bool {
        self.state & Self::MEMBER != 0
    }
}

/// A channel with subscriptions on this shard.
#[derive(Debug)]
pub struct LocalChannel {
    /// Its name.
    pub name: ChannelName,
    /// The namespace's index in the settings.
    pub namespace: u16,
    /// The newest position that came through the deliver lane; `None` until the first join was
    /// answered.
    pub top: Option<Position>,
    /// The subscriptions.
    pub entries: Vec<Entry>,
    /// How many of them take deltas.
    deltas: u32,
    /// The newest event, as long as somebody takes deltas: what the next one's is taken from.
    pub newest: Option<Event>,
}

impl LocalChannel {
    /// Keeps what the next event's delta is taken from, if anybody takes deltas.
    pub fn keep(&mut self, event: &Event) {
        if self.deltas > 0 {
            self.newest = Some(event.clone());
        }
    }

    /// The current epoch, if known.
    pub fn epoch(&self) -> Option<Epoch> {
        self.top.map(|top| top.epoch)
    }
}

/// The channels of this shard that have subscriptions, by index and by name.
pub struct LocalChannels {
    slots: Vec<Option<LocalChannel>>,
    free: Vec<u32>,
    names: HashTable<u32>,
    hasher: FixedState,
    subscriptions: usize,
}

impl LocalChannels {
    /// An empty table; `seed` keys the hash, since clients choose the names.
    pub fn new(seed: u64) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            names: HashTable::new(),
            hasher: FixedState::with_seed(seed),
            subscriptions: 0,
        }
    }

    /// The index of a channel that exists here.
    #[inline]
    pub fn find(&self, name: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(name);
        self.names.find(hash, |index| self.name_at(*index) == Some(name)).copied()
    }

    /// Finds or adds a channel. True if it is new.
    pub fn enter(&mut self, name: &ChannelName, namespace: u16) -> (u32, bool) {
        if let Some(index) = self.find(name.as_str()) {
            return (index, false);
        }
        let channel = LocalChannel {
            name: name.clone(),
            namespace,
            top: None,
            entries: Vec::new(),
            deltas: 0,
            newest: None,
        };
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            (self.slots.len() - 1) as u32
        });
        self.slots[index as usize] = Some(channel);
        let hash = self.hasher.hash_one(name.as_str());
        let Self { names, slots, hasher, .. } = self;
        names.insert_unique(hash, index, |index| {
            let name = slots[*index as usize].as_ref().map_or("", |channel| channel.name.as_str());
            hasher.hash_one(name)
        });
        (index, true)
    }

    /// The channel at an index.
    #[inline]
    pub fn get(&mut self, index: u32) -> Option<&mut LocalChannel> {
        self.slots.get_mut(index as usize)?.as_mut()
    }

    /// The channel at an index, shared.
    #[inline]
    pub fn peek(&self, index: u32) -> Option<&LocalChannel> {
        self.slots.get(index as usize)?.as_ref()
    }

    /// Adds a subscription; returns its place in the channel's list.
    pub fn add(&mut self, index: u32, entry: Entry) -> u32 {
        let channel = self.slots[index as usize].as_mut().expect("subscribed to a dead channel");
        channel.entries.push(entry);
        channel.deltas += u32::from(entry.format.is_delta());
        self.subscriptions += 1;
        (channel.entries.len() - 1) as u32
    }

    /// Removes the subscription at a place. Returns what moved into that place, if anything did,
    /// and the channel's name if nobody is left: the channel is gone then.
    pub fn remove(&mut self, index: u32, at: u32) -> (Option<Entry>, Option<ChannelName>) {
        let channel = self.slots[index as usize].as_mut().expect("left a dead channel");
        let gone = channel.entries.swap_remove(at as usize);
        channel.deltas -= u32::from(gone.format.is_delta());
        if channel.deltas == 0 {
            channel.newest = None;
        }
        self.subscriptions -= 1;
        let moved = channel.entries.get(at as usize).copied();
        if !channel.entries.is_empty() {
            return (moved, None);
        }
        let name = channel.name.clone();
        let hash = self.hasher.hash_one(name.as_str());
        if let Ok(entry) = self.names.find_entry(hash, |candidate| *candidate == index) {
            entry.remove();
        }
        self.slots[index as usize] = None;
        self.free.push(index);
        (None, Some(name))
    }

    /// Indices there may be channels at, from 0.
    pub fn slots(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Subscriptions on this shard.
    pub fn subscriptions(&self) -> usize {
        self.subscriptions
    }

    /// Bytes held, for the ledger.
    pub fn memory_bytes(&self) -> usize {
        let entries: usize =
            self.slots.iter().flatten().map(|channel| channel.entries.capacity()).sum();
        let newest: usize =
            self.slots.iter().flatten().filter_map(|c| c.newest.as_ref()).map(Event::size).sum();
        newest
            + entries * size_of::<Entry>()
            + self.slots.capacity() * size_of::<Option<LocalChannel>>()
            + self.names.capacity() * size_of::<u32>()
    }

    fn name_at(&self, index: u32) -> Option<&str> {
        self.slots.get(index as usize)?.as_ref().map(|channel| channel.name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(slot: u32) -> Entry {
        Entry::new(EndpointId::connection(slot), 0, Format::default(), Phase::Live, 1)
    }

    #[test]
    fn phase_and_flags_do_not_touch_each_other() {
        for phase in [Phase::Joining, Phase::CatchingUp, Phase::Live] {
            let mut own = entry(1);
            own.set_phase(phase);
            assert!(!own.watches() && !own.is_member());
            own.set_watches();
            assert!(own.watches() && !own.is_member() && own.phase() == phase);
            own.set_member();
            for next in [Phase::CatchingUp, Phase::Joining, Phase::Live] {
                own.set_phase(next);
                assert!(own.watches() && own.is_member() && own.phase() == next);
                assert_eq!(own.is_live(), next == Phase::Live);
            }
        }
    }

    #[test]
    fn a_channel_lives_exactly_as_long_as_it_has_a_subscription() {
        let mut channels = LocalChannels::new(1);
        let name = ChannelName::new("a").unwrap();
        let (index, new) = channels.enter(&name, 0);
        assert!(new);
        assert_eq!(channels.enter(&name, 0), (index, false));
        let places: Vec<u32> = (0..3).map(|slot| channels.add(index, entry(slot))).collect();
        assert_eq!(places, [0, 1, 2]);
        let (moved, gone) = channels.remove(index, 0);
        assert_eq!(moved.map(|entry| entry.endpoint), Some(EndpointId::connection(2)));
        assert_eq!(gone, None);
        channels.remove(index, 0);
        let (moved, gone) = channels.remove(index, 0);
        assert!(moved.is_none());
        assert_eq!(gone, Some(name.clone()));
        assert_eq!((channels.find("a"), channels.subscriptions()), (None, 0));
        assert_eq!(channels.enter(&name, 0), (index, true));
    }
}
