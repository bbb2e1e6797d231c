//! Answers kept for a second: what many pages ask at once is counted once.
//!
//! The key is the exact, normalised query. Invariants: nothing is given that is older than
//! [`AGE_MS_MAX`]; at most [`ENTRIES_MAX`] answers of [`BYTES_MAX`] in sum are kept, the oldest go
//! first. Deliberately absent: errors, refreshing ahead. One per shard, on its thread. Tested here.

use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use storage::Aggregate;

/// How long an answer may be given again, milliseconds.
const AGE_MS_MAX: u64 = 1_000;
/// Most answers.
const ENTRIES_MAX: usize = 256;
/// Most bytes of answers.
const BYTES_MAX: usize = 4 << 20;

/// See the module.
#[derive(Debug, Default)]
pub struct Cache {
    answers: BTreeMap<Aggregate, (u64, Bytes)>,
    /// In the order in which they came, which is the order in which they expire.
    order: VecDeque<(u64, Aggregate)>,
    bytes: usize,
}

impl Cache {
    /// An answer that is fresh enough.
    pub fn get(&self, query: &Aggregate, now_ms: u64) -> Option<Bytes> {
        let (at_ms, body) = self.answers.get(query)?;
        (now_ms < at_ms + AGE_MS_MAX).then(|| body.clone())
    }

    /// Keeps an answer, if it is not too large.
    pub fn put(&mut self, query: &Aggregate, body: Bytes, now_ms: u64) {
        if body.len() > BYTES_MAX {
            return;
        }
        self.bytes += body.len();
        if let Some((_, old)) = self.answers.insert(query.clone(), (now_ms, body)) {
            self.bytes -= old.len();
        }
        self.order.push_back((now_ms, query.clone()));
        while self.order.len() > ENTRIES_MAX || self.bytes > BYTES_MAX {
            self.drop_oldest();
        }
    }

    /// Drops what is too old.
    pub fn expire(&mut self, now_ms: u64) {
        while self.order.front().is_some_and(|(at_ms, _)| now_ms >= at_ms + AGE_MS_MAX) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some((at_ms, query)) = self.order.pop_front() else { return };
        // A later answer to the same query has its own place in the order.
        if self.answers.get(&query).is_some_and(|(of_ms, _)| *of_ms == at_ms)
            && !self.order.iter().any(|(of_ms, other)| *of_ms == at_ms && *other == query)
            && let Some((_, body)) = self.answers.remove(&query)
        {
            self.bytes -= body.len();
        }
    }

    /// Bytes kept.
    pub fn memory_bytes(&self) -> usize {
        self.bytes + self.order.len() * size_of::<(u64, Aggregate)>() * 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::channel::ChannelName;
    use storage::CountsQuery;

    fn query(from_us: i64) -> Aggregate {
        let channel = ChannelName::new("c").unwrap();
        Aggregate::Counts(CountsQuery { channel, from_us, to_us: 9, bucket_s: 1, kind: None })
    }

    fn body(bytes: usize) -> Bytes {
        vec![b'x'; bytes].into()
    }

    #[test]
    fn an_answer_is_given_for_a_second_and_then_never() {
        let mut cache = Cache::default();
        cache.put(&query(1), body(3), 10);
        assert_eq!(cache.get(&query(1), 1_009), Some(body(3)));
        assert_eq!(cache.get(&query(1), 1_010), None);
        assert_eq!(cache.get(&query(2), 10), None);
        cache.put(&query(1), body(5), 500);
        cache.expire(1_100);
        assert_eq!(cache.get(&query(1), 1_100), Some(body(5)), "the later one stays");
        cache.expire(1_500);
        assert_eq!((cache.memory_bytes(), cache.answers.len()), (0, 0));
    }

    #[test]
    fn a_flood_of_queries_keeps_the_newest_within_the_bounds() {
        let mut cache = Cache::default();
        for i in 0..1_000 {
            cache.put(&query(i), body(1), 5);
        }
        assert_eq!((cache.answers.len(), cache.order.len(), cache.bytes), (256, 256, 256));
        assert!(cache.get(&query(999), 5).is_some() && cache.get(&query(743), 5).is_none());
        for i in 0..10 {
            cache.put(&query(i), body(1 << 20), 6);
        }
        assert!(cache.bytes <= BYTES_MAX && cache.get(&query(9), 6).is_some());
        cache.put(&query(50), body(BYTES_MAX + 1), 6);
        assert!(cache.get(&query(50), 6).is_none());
        for _ in 0..600 {
            cache.put(&query(1), body(2), 7);
        }
        assert!(cache.order.len() <= ENTRIES_MAX && cache.get(&query(1), 7).is_some());
    }
}
