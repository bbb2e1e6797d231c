//! Channels by name and by slot.
//!
//! A slab in chunks (so that growing never copies a million channels) under a table of (hash,
//! slot) pairs (so that growing the table reads no channel). Names are chosen by clients: the hash
//! is keyed. A slot's generation rises when its channel is forgotten, so a stale
//! [`ChannelIndex`] is a failed lookup.

use super::channel::Channel;
use super::keys::Keys;
use hashbrown::HashTable;

const CHUNK: usize = 128;

/// Names a channel of one home shard while it is remembered; good as an index of side tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelIndex {
    /// Index into the shard's slab of channels.
    pub slot: u32,
    /// Counts the uses of the slot.
    pub generation: u32,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    channel: Option<Channel>,
}

#[derive(Clone, Copy)]
struct Named {
    hash: u32,
    slot: u32,
}

/// See the module.
pub(super) struct Directory {
    chunks: Vec<Box<[Slot]>>,
    table: HashTable<Named>,
    free: Vec<u32>,
    slots: u32,
    names_bytes: usize,
}

impl Directory {
    pub(super) fn new() -> Self {
        Self {
            chunks: Vec::new(),
            table: HashTable::new(),
            free: Vec::new(),
            slots: 0,
            names_bytes: 0,
        }
    }

    pub(super) fn find(&self, keys: &Keys, name: &str) -> Option<ChannelIndex> {
        let hash = keys.name(name);
        let named = self.table.find(spread(hash), |named| {
            named.hash == hash && self.at(named.slot).is_some_and(|c| c.name.as_str() == name)
        })?;
        Some(self.index(named.slot))
    }

    /// Adds a channel whose name is not there yet.
    pub(super) fn insert(&mut self, keys: &Keys, channel: Channel) -> ChannelIndex {
        let hash = keys.name(channel.name.as_str());
        self.names_bytes += name_bytes(&channel);
        let number = self.free.pop().unwrap_or_else(|| {
            if self.slots as usize == self.chunks.len() * CHUNK {
                self.chunks.push((0..CHUNK).map(|_| Slot::default()).collect());
            }
            self.slots += 1;
            self.slots - 1
        });
        self.slot_mut(number).channel = Some(channel);
        self.table.insert_unique(spread(hash), Named { hash, slot: number }, |n| spread(n.hash));
        self.index(number)
    }

    pub(super) fn remove(&mut self, keys: &Keys, number: u32) -> Option<Channel> {
        let slot = self.slot_mut(number);
        let channel = slot.channel.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(number);
        self.names_bytes -= name_bytes(&channel);
        let hash = keys.name(channel.name.as_str());
        if let Ok(entry) = self.table.find_entry(spread(hash), |named| named.slot == number) {
            entry.remove();
        }
        Some(channel)
    }

    pub(super) fn get(&self, index: ChannelIndex) -> Option<&Channel> {
        let slot =
            self.chunks.get(index.slot as usize / CHUNK)?.get(index.slot as usize % CHUNK)?;
        slot.channel.as_ref().filter(|_| slot.generation == index.generation)
    }

    pub(super) fn get_mut(&mut self, index: ChannelIndex) -> Option<&mut Channel> {
        let slot = self.chunks.get_mut(index.slot as usize / CHUNK)?;
        let slot = slot.get_mut(index.slot as usize % CHUNK)?;
        slot.channel.as_mut().filter(|_| slot.generation == index.generation)
    }

    /// The channel in a slot, if there is one.
    pub(super) fn at(&self, slot: u32) -> Option<&Channel> {
        self.chunks.get(slot as usize / CHUNK)?.get(slot as usize % CHUNK)?.channel.as_ref()
    }

    /// The channel in a slot, if there is one.
    pub(super) fn at_mut(&mut self, slot: u32) -> Option<&mut Channel> {
        self.chunks.get_mut(slot as usize / CHUNK)?.get_mut(slot as usize % CHUNK)?.channel.as_mut()
    }

    /// The handle of a slot as it is now.
    pub(super) fn index(&self, slot: u32) -> ChannelIndex {
        let generation = self.chunks[slot as usize / CHUNK][slot as usize % CHUNK].generation;
        ChannelIndex { slot, generation }
    }

    /// Slots ever used: the range of a sweep.
    pub(super) fn slots(&self) -> u32 {
        self.slots
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn memory(&self) -> usize {
        self.chunks.len() * CHUNK * size_of::<Slot>()
            + self.chunks.capacity() * size_of::<Box<[Slot]>>()
            + self.free.capacity() * size_of::<u32>()
            + self.table.allocation_size()
            + self.names_bytes
    }

    fn slot_mut(&mut self, slot: u32) -> &mut Slot {
        &mut self.chunks[slot as usize / CHUNK][slot as usize % CHUNK]
    }
}

/// The name's text, its two reference counts, and what an allocator rounds up to.
fn name_bytes(channel: &Channel) -> usize {
    (channel.name.as_str().len() + 16).next_multiple_of(16)
}

/// hashbrown takes the bucket from the low bits and the tag from the top seven: both come from
/// the 32 bits that are kept.
fn spread(hash: u32) -> u64 {
    u64::from(hash) | u64::from(hash) << 32
}
