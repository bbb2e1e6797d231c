//! The ids seen lately: one pool for the shard, one first-in-first-out window per channel.
//!
//! An id is remembered as a 128-bit keyed hash of (channel, source, id), never as text: 48 bytes
//! in a pooled node, linked into its channel's window and into a chain of a hash table that grows
//! one bucket at a time (linear hashing). So there is no rehash pause at any size, no capacity
//! that jumps under the budget, and nothing is allocated per id: nodes and buckets come in blocks,
//! which are kept once allocated (the ledger counts them at their high-water mark).
//!
//! Two ids with equal hashes would silently lose an event. The halves are two SipHash-1-3 with
//! different secret states, so against anyone who does not know the seed they behave as random:
//! with 2.6 million ids in a shard (128 MiB) an event meets a wrong one with a chance of 2^-106;
//! at a million events a second that is one in 10^18 years.
//!
//! Full means: the channel with (about) the most ids forgets its oldest, see [`super::ranks`].
//! Deliberately absent: the policy (ages, window sizes), which is the channel's.

/// A 128-bit keyed hash.
pub(super) type IdHash = [u64; 2];

const NIL: u32 = u32::MAX;
/// Nodes and buckets per block.
const BLOCK: usize = 64;

/// What is remembered of one id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) hash: IdHash,
    pub(super) offset: u64,
    pub(super) store_seq: u64,
    pub(super) admitted_ms: i64,
}

#[derive(Clone, Copy)]
struct Node {
    seen: Seen,
    /// The next newer id of the same channel, or the next free node.
    newer: u32,
    /// The next id of the same bucket.
    chain: u32,
}

struct Block {
    nodes: [Node; BLOCK],
    buckets: [u32; BLOCK],
}

/// Bytes of one block: what the budget is counted in.
pub(super) const BLOCK_BYTES: usize = size_of::<Block>();

/// One channel's ids, oldest first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    oldest: u32,
    newest: u32,
    len: u32,
}

impl Default for Window {
    fn default() -> Self {
        Self { oldest: NIL, newest: NIL, len: 0 }
    }
}

impl Window {
    pub(super) fn len(&self) -> u32 {
        self.len
    }
}

/// See the module.
pub(super) struct Ids {
    #[expect(clippy::vec_box, reason = "a block never moves; only pointers do as the pool grows")]
    blocks: Vec<Box<Block>>,
    blocks_max: usize,
    free: u32,
    len: usize,
    /// Buckets in use; always at least `len` once there is a block, and never more than nodes.
    buckets: usize,
}

impl Ids {
    pub(super) fn new(bytes_max: u64) -> Self {
        let blocks_max = bytes_max / (BLOCK_BYTES + size_of::<Box<Block>>()) as u64;
        // Node indices are `u32`, and the last one means none.
        let blocks_max = blocks_max.min((u32::MAX as usize / BLOCK) as u64) as usize;
        Self { blocks: Vec::new(), blocks_max, free: NIL, len: 0, buckets: 0 }
    }

    /// True if another id needs an old one to go first.
    pub(super) fn is_full(&self) -> bool {
        self.free == NIL && self.blocks.len() >= self.blocks_max
    }

    /// The newest entry with this hash.
    pub(super) fn find(&self, hash: IdHash) -> Option<&Seen> {
        if self.buckets == 0 {
            return None;
        }
        let mut index = *self.bucket(self.bucket_of(hash));
        let mut found: Option<&Seen> = None;
        while index != NIL {
            let node = self.node(index);
            // An aged id may wait here for its turn to go while the same id is used again.
            if node.seen.hash == hash && found.is_none_or(|seen| seen.offset < node.seen.offset) {
                found = Some(&node.seen);
            }
            index = node.chain;
        }
        found
    }

    /// Remembers an id as the newest of its window. The pool must not be full.
    pub(super) fn push(&mut self, window: &mut Window, seen: Seen) {
        if self.free == NIL {
            self.allocate();
        }
        let index = self.free;
        self.free = self.node(index).newer;
        self.len += 1;
        if self.len > self.buckets {
            self.split();
        }
        let bucket = self.bucket_of(seen.hash);
        let chain = std::mem::replace(self.bucket_mut(bucket), index);
        *self.node_mut(index) = Node { seen, newer: NIL, chain };
        if window.newest == NIL {
            window.oldest = index;
        } else {
            self.node_mut(window.newest).newer = index;
        }
        window.newest = index;
        window.len += 1;
    }

    /// The window's oldest id.
    pub(super) fn oldest(&self, window: &Window) -> Option<&Seen> {
        (window.oldest != NIL).then(|| &self.node(window.oldest).seen)
    }

    /// Forgets the window's oldest id. False if there was none.
    pub(super) fn pop(&mut self, window: &mut Window) -> bool {
        let index = window.oldest;
        if index == NIL {
            return false;
        }
        let Node { seen, newer, chain } = *self.node(index);
        let bucket = self.bucket_of(seen.hash);
        let mut before = *self.bucket(bucket);
        if before == index {
            *self.bucket_mut(bucket) = chain;
        } else {
            while self.node(before).chain != index {
                before = self.node(before).chain;
            }
            self.node_mut(before).chain = chain;
        }
        window.oldest = newer;
        if newer == NIL {
            window.newest = NIL;
        }
        window.len -= 1;
        self.len -= 1;
        self.node_mut(index).newer = std::mem::replace(&mut self.free, index);
        true
    }

    /// Bytes held.
    pub(super) fn memory(&self) -> usize {
        self.blocks.len() * BLOCK_BYTES + self.blocks.capacity() * size_of::<Box<Block>>()
    }

    /// Adds a block of free nodes (and room for as many buckets).
    fn allocate(&mut self) {
        assert!(self.blocks.len() < self.blocks_max, "the caller makes room first");
        let base = (self.blocks.len() * BLOCK) as u32;
        let seen = Seen { hash: [0; 2], offset: 0, store_seq: 0, admitted_ms: 0 };
        let mut block = Box::new(Block {
            nodes: [Node { seen, newer: NIL, chain: NIL }; BLOCK],
            buckets: [NIL; BLOCK],
        });
        for (at, node) in block.nodes.iter_mut().enumerate() {
            node.newer = if at + 1 == BLOCK { self.free } else { base + at as u32 + 1 };
        }
        self.free = base;
        if self.blocks.len() == self.blocks.capacity() {
            let room = self.blocks_max - self.blocks.len();
            self.blocks.reserve_exact(self.blocks.len().max(16).min(room));
        }
        self.blocks.push(block);
    }

    /// Opens one more bucket and moves to it what now belongs there from its one sibling.
    fn split(&mut self) {
        let new = self.buckets;
        self.buckets += 1;
        if new == 0 {
            return;
        }
        let sibling = new - (1 << new.ilog2());
        let mut index = std::mem::replace(self.bucket_mut(sibling), NIL);
        while index != NIL {
            let Node { seen, chain, .. } = *self.node(index);
            let bucket = self.bucket_of(seen.hash);
            debug_assert!(bucket == new || bucket == sibling);
            self.node_mut(index).chain = std::mem::replace(self.bucket_mut(bucket), index);
            index = chain;
        }
    }

    fn bucket_of(&self, hash: IdHash) -> usize {
        let mask = self.buckets.next_power_of_two() - 1;
        let bucket = hash[0] as usize & mask;
        if bucket < self.buckets { bucket } else { hash[0] as usize & (mask >> 1) }
    }

    fn bucket(&self, bucket: usize) -> &u32 {
        &self.blocks[bucket / BLOCK].buckets[bucket % BLOCK]
    }

    fn bucket_mut(&mut self, bucket: usize) -> &mut u32 {
        &mut self.blocks[bucket / BLOCK].buckets[bucket % BLOCK]
    }

    fn node(&self, index: u32) -> &Node {
        &self.blocks[index as usize / BLOCK].nodes[index as usize % BLOCK]
    }

    fn node_mut(&mut self, index: u32) -> &mut Node {
        &mut self.blocks[index as usize / BLOCK].nodes[index as usize % BLOCK]
    }
}
