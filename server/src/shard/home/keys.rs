//! Keyed hashing of what clients choose: channel names and event ids.
//!
//! SipHash-1-3 as the standard library has it, from states that have swallowed a secret: without
//! the seed nobody can choose names or ids that meet in a bucket, or two ids with one hash. A
//! faster unkeyed-quality hash (foldhash with its fixed tables) saves some 40 ns an event and
//! gives that up. The seed is random per process and fixed in the simulated world.

use super::dedupe::IdHash;
use super::directory::ChannelIndex;
use std::hash::{DefaultHasher, Hasher};

/// See the module.
pub(super) struct Keys {
    names: DefaultHasher,
    ids: [DefaultHasher; 2],
}

impl Keys {
    pub(super) fn new(seed: u64) -> Self {
        let keyed = |purpose: u64| {
            let mut hasher = DefaultHasher::new();
            hasher.write_u64(seed);
            hasher.write_u64(purpose);
            hasher
        };
        Self { names: keyed(1), ids: [keyed(2), keyed(3)] }
    }

    pub(super) fn name(&self, name: &str) -> u32 {
        let mut hasher = self.names.clone();
        hasher.write(name.as_bytes());
        hasher.finish() as u32
    }

    /// The hash of (channel, source, id). The length of the id keeps the two texts apart.
    pub(super) fn id(&self, channel: ChannelIndex, id: &str, source: &str) -> IdHash {
        let hash = |keyed: &DefaultHasher| {
            let mut hasher = keyed.clone();
            hasher.write_u64(u64::from(channel.slot) << 32 | u64::from(channel.generation));
            hasher.write_u64(id.len() as u64);
            hasher.write(id.as_bytes());
            hasher.write(source.as_bytes());
            hasher.finish()
        };
        [hash(&self.ids[0]), hash(&self.ids[1])]
    }
}
