//! Who holds most: the shard's ledger of one resource, by channel.
//!
//! A channel's share is kept with its power-of-two class, and every class is an intrusive list of
//! slots. So the total, and *a* channel that holds at least half of what the largest holds, are
//! known in O(1), and a share is changed in O(1). When a budget is exceeded, the oldest items of
//! such a channel go: one loud channel pays for itself and cannot empty the histories of quiet
//! ones, which a first-in-first-out order over the shard would do.

const NIL: u32 = u32::MAX;
const CLASSES: usize = 65;

#[derive(Clone, Copy)]
struct Share {
    size: u64,
    prev: u32,
    next: u32,
}

/// See the module.
pub(super) struct Ranks {
    shares: Vec<Share>,
    heads: [u32; CLASSES],
    /// Bit c: class c has members. Class 0 (nothing held) has no list.
    occupied: u128,
    total: u64,
}

impl Ranks {
    pub(super) fn new() -> Self {
        Self { shares: Vec::new(), heads: [NIL; CLASSES], occupied: 0, total: 0 }
    }

    /// The sum over all channels.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// A slot of the largest class.
    pub(super) fn largest(&self) -> Option<u32> {
        let class = 127_u32.checked_sub(self.occupied.leading_zeros())?;
        Some(self.heads[class as usize])
    }

    /// Changes what the slot holds.
    pub(super) fn set(&mut self, slot: u32, size: u64) {
        let at = slot as usize;
        if at >= self.shares.len() {
            self.shares.resize(at + 1, Share { size: 0, prev: NIL, next: NIL });
        }
        let before = std::mem::replace(&mut self.shares[at].size, size);
        self.total = self.total - before + size;
        let (from, to) = (class(before), class(size));
        if from != to {
            self.unlink(slot, from);
            self.link(slot, to);
        }
    }

    pub(super) fn memory(&self) -> usize {
        self.shares.capacity() * size_of::<Share>()
    }

    fn link(&mut self, slot: u32, class: usize) {
        if class == 0 {
            return;
        }
        let head = std::mem::replace(&mut self.heads[class], slot);
        self.occupied |= 1 << class;
        if head != NIL {
            self.shares[head as usize].prev = slot;
        }
        let share = &mut self.shares[slot as usize];
        (share.prev, share.next) = (NIL, head);
    }

    fn unlink(&mut self, slot: u32, class: usize) {
        if class == 0 {
            return;
        }
        let Share { prev, next, .. } = self.shares[slot as usize];
        if next != NIL {
            self.shares[next as usize].prev = prev;
        }
        if prev != NIL {
            self.shares[prev as usize].next = next;
        } else {
            self.heads[class] = next;
            if next == NIL {
                self.occupied &= !(1 << class);
            }
        }
    }
}

fn class(size: u64) -> usize {
    (u64::BITS - size.leading_zeros()) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_is_within_a_factor_of_two_and_the_total_is_the_sum() {
        let mut ranks = Ranks::new();
        let mut model = vec![0_u64; 50];
        let mut state = 1_u64;
        for _ in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let slot = (state >> 33) as usize % model.len();
            let size = if state >> 60 == 0 { 0 } else { (state >> 20) % (1 << (state >> 59)) };
            model[slot] = size;
            ranks.set(slot as u32, size);
            assert_eq!(ranks.total(), model.iter().sum::<u64>());
            let most = *model.iter().max().unwrap();
            match ranks.largest() {
                None => assert_eq!(most, 0),
                Some(slot) => assert!(model[slot as usize] > most / 2),
            }
        }
    }
}
