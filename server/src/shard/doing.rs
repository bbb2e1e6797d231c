//! What every open stream of an HTTP/2 session is about, by the session's own stream keys.
//!
//! Slots are dense and reused, so this is an array; the generation tells a slot's streams apart,
//! and a stale key finds nothing. An array that has emptied is given back, so a burst of streams
//! leaves nothing behind.

use proto::h2::StreamKey;

/// See the module.
#[derive(Debug)]
pub struct ByStream<T> {
    slots: Vec<Option<(u32, T)>>,
    len: usize,
}

/// An empty array up to this size is kept for the next request.
const SLOTS_KEPT_MAX: usize = 256;

impl<T> ByStream<T> {
    /// Nothing.
    pub fn new() -> Self {
        Self { slots: Vec::new(), len: 0 }
    }

    /// What a stream is about.
    pub fn get(&self, stream: &StreamKey) -> Option<&T> {
        let (generation, value) = self.slots.get(stream.slot as usize)?.as_ref()?;
        (*generation == stream.generation).then_some(value)
    }

    /// Takes note of a stream. What an earlier one in its slot was about is gone.
    pub fn insert(&mut self, stream: StreamKey, value: T) {
        let slot = stream.slot as usize;
        if slot >= self.slots.len() {
            self.slots.resize_with(slot + 1, || None);
        }
        let before = self.slots[slot].replace((stream.generation, value));
        self.len += usize::from(before.is_none());
    }

    /// Forgets a stream.
    pub fn remove(&mut self, stream: &StreamKey) -> Option<T> {
        self.get(stream)?;
        let (_, value) = self.slots[stream.slot as usize].take()?;
        self.len -= 1;
        if self.len == 0 && self.slots.len() > SLOTS_KEPT_MAX {
            self.slots = Vec::new();
        }
        Some(value)
    }

    /// Every stream, by slot.
    pub fn iter(&self) -> impl Iterator<Item = (StreamKey, &T)> {
        (0u32..).zip(&self.slots).filter_map(|(slot, held)| {
            let (generation, value) = held.as_ref()?;
            Some((StreamKey { slot, generation: *generation }, value))
        })
    }

    /// True if no stream is open.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Heap held.
    pub fn memory_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Option<(u32, T)>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn it_says_what_a_map_would_say_and_a_stale_key_finds_nothing() {
        let (mut streams, mut model) = (ByStream::new(), BTreeMap::new());
        let mut state = 1_u64;
        for step in 0..20_000_u32 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let slot = (state >> 33) as u32 % 400;
            match model.keys().find(|key: &&StreamKey| key.slot == slot).copied() {
                Some(key) => {
                    let stale = StreamKey { generation: key.generation ^ 1, ..key };
                    assert_eq!(streams.get(&stale), None);
                    assert_eq!(streams.remove(&stale), None);
                    assert_eq!(streams.remove(&key), model.remove(&key));
                }
                None => {
                    let key = StreamKey { slot, generation: step * 2 };
                    streams.insert(key, step);
                    model.insert(key, step);
                }
            }
            assert_eq!(streams.is_empty(), model.is_empty());
        }
        let held: Vec<_> = streams.iter().map(|(key, value)| (key, *value)).collect();
        assert_eq!(held, model.into_iter().collect::<Vec<_>>());
        for (key, value) in held {
            assert_eq!(streams.remove(&key), Some(value));
        }
        assert_eq!(streams.memory_bytes(), 0);
    }
}
