//! Generational slots for connections: a stale id is a failed lookup, never somebody else's
//! connection.
//!
//! Grows on demand up to its limit and never shrinks (a slot keeps its generation for ever).
//! Absent: any iteration order promise. Pure; lives on the shard's thread.

use super::ConnId;

/// Generations have 24 bits, so that slot, generation and operation fit a completion's 64-bit
/// token. An id is mistaken for a later one only if a slot is reused 16 million times in between.
pub(crate) const GENERATION_MASK: u32 = (1 << 24) - 1;

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    slots_max: u32,
}

impl<T> Slots<T> {
    pub(crate) fn new(slots_max: u32) -> Self {
        Self { slots: Vec::new(), free: Vec::new(), slots_max }
    }

    /// Takes a slot; gives the value back when all are taken.
    pub(crate) fn insert(&mut self, value: T) -> Result<ConnId, T> {
        if let Some(slot) = self.free.pop() {
            let entry = &mut self.slots[slot as usize];
            assert!(entry.value.is_none(), "a free slot holds nothing");
            entry.value = Some(value);
            return Ok(ConnId { slot, generation: entry.generation });
        }
        if self.slots.len() >= self.slots_max as usize {
            return Err(value);
        }
        let slot = self.slots.len() as u32;
        self.slots.push(Slot { generation: 0, value: Some(value) });
        Ok(ConnId { slot, generation: 0 })
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, id: ConnId) -> Option<&mut T> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        if slot.generation != id.generation {
            return None;
        }
        slot.value.as_mut()
    }

    /// Empties the slot; the id is stale from now on.
    pub(crate) fn remove(&mut self, id: ConnId) -> Option<T> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        if slot.generation != id.generation {
            return None;
        }
        let value = slot.value.take()?;
        slot.generation = (slot.generation + 1) & GENERATION_MASK;
        self.free.push(id.slot);
        Some(value)
    }

    /// Bytes of user memory held.
    pub(crate) fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot<T>>() + self.free.capacity() * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_slot_refuses_the_old_id() {
        let mut slots = Slots::new(1);
        let old = slots.insert("a").unwrap();
        assert_eq!(slots.insert("b"), Err("b"), "full");
        assert_eq!(slots.remove(old), Some("a"));
        assert_eq!(slots.remove(old), None, "removed once");
        let new = slots.insert("c").unwrap();
        assert_eq!(new.slot, old.slot);
        assert_ne!(new.generation, old.generation);
        assert_eq!(slots.get_mut(old), None);
        assert_eq!(slots.get_mut(new), Some(&mut "c"));
        assert_eq!(slots.get_mut(ConnId { slot: 9, generation: 0 }), None, "never existed");
    }

    #[test]
    fn the_generation_wraps_within_its_bits() {
        let mut slots = Slots::new(1);
        slots.slots.push(Slot { generation: GENERATION_MASK, value: Some(()) });
        slots.remove(ConnId { slot: 0, generation: GENERATION_MASK }).unwrap();
        assert_eq!(slots.insert(()), Ok(ConnId { slot: 0, generation: 0 }));
    }
}
