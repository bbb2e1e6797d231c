//! Draws from one seeded stream: every choice of the world comes from here and from nowhere else.

use storage::sim_files::Rng;

/// See the module.
#[derive(Debug, Clone)]
pub struct Chance(Rng);

impl Chance {
    /// The stream of a seed. `purpose` keeps streams of one seed apart.
    pub fn new(seed: u64, purpose: u64) -> Self {
        let mut rng = Rng::new(seed ^ purpose.wrapping_mul(0xa076_1d64_78bd_642f));
        rng.next_u64();
        Self(rng)
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// From `low` up to and without `end`.
    pub fn range(&mut self, low: u64, end: u64) -> u64 {
        if end <= low + 1 { low } else { low + self.0.below(end - low) }
    }

    /// An index below `len`, which is not 0.
    pub fn index(&mut self, len: usize) -> usize {
        self.0.below(len as u64) as usize
    }

    /// True so many times in a thousand.
    pub fn per_mille(&mut self, times: u64) -> bool {
        self.0.below(1_000) < times
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.index(of.len())]
    }

    /// A size: small ones often, the largest possible.
    pub fn size(&mut self, max: u64) -> u64 {
        let bits = 64 - max.leading_zeros() as u64;
        let top = 1 << self.range(0, bits + 1).min(62);
        self.range(1, top.min(max) + 1)
    }

    /// Puts a list in random order.
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for at in (1..list.len()).rev() {
            list.swap(at, self.index(at + 1));
        }
    }
}
