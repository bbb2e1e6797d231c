//! The ids seen lately: one pool for the shard, one first-in-first-out window per channel.
//!
//! An id is remembered as a 128-bit keyed hash of (channel, source, id), never as text: a pooled
//! node of 48 bytes, linked into its channel's window, and four bytes (a tag and the node's number)
//! in a hash table whose buckets are cache lines. Looking up a new id reads one line and, but for
//! one tag in 256, no node. The table grows one bucket at a time (linear hashing): no rehash pause
//! at any size and no capacity that jumps under the budget. Nothing is allocated per id: nodes and
//! buckets come in blocks, which are kept once allocated (counted at their high-water mark).
//!
//! Two ids with equal hashes would silently lose an event. The halves are two SipHash-1-3 with
//! different secret states, so against anyone who does not know the seed they behave as random:
//! with 2.3 million ids in a shard (128 MiB) an event meets a wrong one with a chance of 2^-106;
//! at a million events a second that is once in 10^18 years.
//!
//! Full means: the channel with (about) the most ids forgets its oldest, see [`super::ranks`].
//! Deliberately absent: the policy (ages, window sizes), which is the channel's.

use hashbrown::HashTable;

/// A 128-bit keyed hash.
pub(super) type IdHash = [u64; 2];

const NIL: u32 = u32::MAX;
/// Nodes per block.
const BLOCK: usize = 64;
/// Node numbers have 24 bits, the tags beside them eight; the last number means none.
const NODE_BITS: u32 = 24;
/// Ids per bucket before one more is opened. Buckets that wait for their split hold up to twice
/// what split ones hold, eight on average, and a bucket has room for 16: at worst one id in about
/// a thousand goes to the overflow table.
const LOAD: usize = 6;
/// Buckets allocated at once.
const LINES: usize = 8;

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
}

const EMPTY: Node =
    Node { seen: Seen { hash: [0; 2], offset: 0, store_seq: 0, admitted_ms: 0 }, newer: NIL };

type Block = [Node; BLOCK];

/// A bucket: entries (tag, node number) without holes, then `NIL`.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line([u32; 16]);

/// What 64 ids cost: nodes, their share of the buckets, the pointers to both, and a byte each for
/// the overflow table.
pub(super) const BLOCK_BYTES: usize = size_of::<Block>() + BLOCK.div_ceil(LOAD) * 64 + 16 + BLOCK;

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
    #[expect(clippy::vec_box, reason = "as above")]
    lines: Vec<Box<[Line; LINES]>>,
    /// Node numbers that found their bucket full.
    overflow: HashTable<u32>,
    blocks_max: usize,
    free: u32,
    len: usize,
    /// Buckets in use.
    buckets: usize,
}

impl Ids {
    pub(super) fn new(bytes_max: u64) -> Self {
        // What the last lines allocated may stand idle, and the smallest overflow table.
        let fixed = (size_of::<[Line; LINES]>() + 128) as u64;
        let blocks_max = bytes_max.saturating_sub(fixed) / BLOCK_BYTES as u64;
        let blocks_max = blocks_max.min(((1 << NODE_BITS) - 1) / BLOCK as u64) as usize;
        Self {
            blocks: Vec::new(),
            lines: Vec::new(),
            overflow: HashTable::new(),
            blocks_max,
            free: NIL,
            len: 0,
            buckets: 0,
        }
    }

    /// True if another id needs an old one to go first.
    pub(super) fn is_full(&self) -> bool {
        self.free == NIL && self.blocks.len() >= self.blocks_max
    }

    /// The newest entry with this hash.
    pub(super) fn find(&self, hash: IdHash) -> Option<&Seen> {
        if self.len == 0 {
            return None;
        }
        let mut found: Option<&Seen> = None;
        let mut check = |index: u32| {
            let seen = &self.node(index).seen;
            // An aged id may wait here for its turn to go while the same id is used again.
            if seen.hash == hash && found.is_none_or(|found| found.offset < seen.offset) {
                found = Some(seen);
            }
        };
        let tag = tag(hash);
        for &entry in &self.line(self.bucket_of(hash)).0 {
            if entry == NIL {
                break;
            }
            if entry >> NODE_BITS == tag {
                check(entry & ((1 << NODE_BITS) - 1));
            }
        }
        if !self.overflow.is_empty() {
            self.overflow.iter_hash(hash[0]).for_each(|index| check(*index));
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
        if self.len > self.buckets * LOAD {
            self.split();
        }
        *self.node_mut(index) = Node { seen, newer: NIL };
        self.enter(index, seen.hash);
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
        let Node { seen, newer } = *self.node(index);
        self.leave(index, seen.hash);
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
        self.blocks.len() * size_of::<Block>()
            + self.lines.len() * size_of::<[Line; LINES]>()
            + self.blocks.capacity() * size_of::<Box<Block>>()
            + self.lines.capacity() * size_of::<Box<[Line; LINES]>>()
            + self.overflow.allocation_size()
    }

    /// Adds a block of free nodes.
    fn allocate(&mut self) {
        assert!(self.blocks.len() < self.blocks_max, "the caller makes room first");
        let base = (self.blocks.len() * BLOCK) as u32;
        let mut block = Box::new([EMPTY; BLOCK]);
        for (at, node) in block.iter_mut().enumerate() {
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
        if new == self.lines.len() * LINES {
            if self.lines.len() == self.lines.capacity() {
                self.lines.reserve_exact((self.lines.len() / 8).max(1));
            }
            self.lines.push(Box::new([Line([NIL; 16]); LINES]));
        }
        self.buckets += 1;
        if new == 0 {
            return;
        }
        let sibling = new - (1 << new.ilog2());
        let entries = std::mem::replace(self.line_mut(sibling), Line([NIL; 16])).0;
        for entry in entries.into_iter().take_while(|entry| *entry != NIL) {
            let index = entry & ((1 << NODE_BITS) - 1);
            let hash = self.node(index).seen.hash;
            self.enter(index, hash);
        }
    }

    /// Puts a node into its bucket.
    fn enter(&mut self, index: u32, hash: IdHash) {
        let line = self.line_mut(self.bucket_of(hash));
        match line.0.iter_mut().find(|entry| **entry == NIL) {
            Some(entry) => *entry = tag(hash) << NODE_BITS | index,
            None => {
                let blocks = &self.blocks;
                let hash_of = |index: &u32| node(blocks, *index).seen.hash[0];
                self.overflow.insert_unique(hash[0], index, hash_of);
            }
        }
    }

    /// Takes a node out of its bucket.
    fn leave(&mut self, index: u32, hash: IdHash) {
        let line = self.line_mut(self.bucket_of(hash));
        let entry = tag(hash) << NODE_BITS | index;
        if let Some(at) = line.0.iter().position(|known| *known == entry) {
            let end = line.0.iter().position(|known| *known == NIL).unwrap_or(line.0.len());
            line.0[at] = line.0[end - 1];
            line.0[end - 1] = NIL;
            return;
        }
        let entry = self.overflow.find_entry(hash[0], |known| *known == index);
        entry.expect("every node is in its bucket or in the overflow").remove();
    }

    fn bucket_of(&self, hash: IdHash) -> usize {
        let mask = self.buckets.next_power_of_two() - 1;
        let bucket = hash[0] as usize & mask;
        if bucket < self.buckets { bucket } else { hash[0] as usize & (mask >> 1) }
    }

    fn line(&self, bucket: usize) -> &Line {
        &self.lines[bucket / LINES][bucket % LINES]
    }

    fn line_mut(&mut self, bucket: usize) -> &mut Line {
        &mut self.lines[bucket / LINES][bucket % LINES]
    }

    fn node(&self, index: u32) -> &Node {
        node(&self.blocks, index)
    }

    fn node_mut(&mut self, index: u32) -> &mut Node {
        &mut self.blocks[index as usize / BLOCK][index as usize % BLOCK]
    }
}

fn node(blocks: &[Box<Block>], index: u32) -> &Node {
    &blocks[index as usize / BLOCK][index as usize % BLOCK]
}

fn tag(hash: IdHash) -> u32 {
    (hash[1] >> 56) as u32
}
