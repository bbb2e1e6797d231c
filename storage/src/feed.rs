//! The newest synced events in memory, for sinks that keep up with the spool.
//!
//! The writer publishes every round after its sync; a sink takes by sequence number and reads the
//! spool where the feed no longer reaches back. So a sink that keeps up never touches the disk, and
//! one that does not costs no memory: the feed holds at most `bytes_max` bytes of events (but at
//! least the newest round, which the spool's round bound limits), oldest out first. Nothing is lost
//! by that, because what leaves the feed is in the spool.
//!
//! Threads: the writer publishes, each sink waits in its own thread. Deliberately absent: cursors
//! (see `sink`) and any way to slow the writer down.

use proto::event::Event;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// See the module.
#[derive(Debug)]
pub struct Feed {
    tail: Mutex<Tail>,
    arrived: Condvar,
    bytes_max: u64,
}

#[derive(Debug)]
struct Tail {
    events: VecDeque<Event>,
    bytes: u64,
    /// The sequence number after the newest event.
    end_seq: u64,
    /// The smallest number somebody waits for: rounds below it wake nobody.
    wanted: u64,
}

/// What a wait saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// The number waited for is there.
    Arrived,
    /// It is not, and the time is over.
    Elapsed,
}

impl Feed {
    /// An empty feed behind the event `end_seq - 1`.
    pub fn new(end_seq: u64, bytes_max: u64) -> Self {
        let tail = Tail { events: VecDeque::new(), bytes: 0, end_seq, wanted: u64::MAX };
        Self { tail: Mutex::new(tail), arrived: Condvar::new(), bytes_max }
    }

    /// Adds synced events; the last of them is `end_seq - 1`.
    pub fn publish(&self, events: &[Event], end_seq: u64) {
        let mut tail = self.tail();
        debug_assert_eq!(tail.end_seq + events.len() as u64, end_seq);
        tail.bytes += events.iter().map(|event| event.size() as u64).sum::<u64>();
        tail.events.extend(events.iter().cloned());
        tail.end_seq = end_seq;
        while tail.bytes > self.bytes_max && tail.events.len() > events.len() {
            let gone = tail.events.pop_front().map_or(0, |event| event.size() as u64);
            tail.bytes -= gone;
        }
        if end_seq >= tail.wanted {
            tail.wanted = u64::MAX; // who still waits says so again
            drop(tail);
            self.arrived.notify_all();
        }
    }

    /// The sequence number after the newest synced event.
    pub fn end_seq(&self) -> u64 {
        self.tail().end_seq
    }

    /// Bytes of events held.
    pub fn bytes(&self) -> u64 {
        self.tail().bytes
    }

    /// Events from number `from` on, at most `rows_max` and about `bytes_max` (the first one
    /// always). `None`: they have left the feed, read the spool.
    pub fn take(&self, from: u64, rows_max: usize, bytes_max: u64) -> Option<Vec<Event>> {
        let tail = self.tail();
        let first = tail.end_seq - tail.events.len() as u64;
        let skip = usize::try_from(from.checked_sub(first)?).ok()?;
        let mut bytes = 0;
        let fits = |event: &&Event| {
            let before = bytes;
            bytes += event.size() as u64;
            before == 0 || bytes <= bytes_max
        };
        Some(tail.events.iter().skip(skip).take(rows_max).take_while(fits).cloned().collect())
    }

    /// Waits until event `seq - 1` is synced, at most for `time`.
    pub fn wait(&self, seq: u64, time: Duration) -> Woken {
        let until = Instant::now() + time;
        let mut tail = self.tail();
        loop {
            if tail.end_seq >= seq {
                return Woken::Arrived;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Woken::Elapsed;
            }
            tail.wanted = tail.wanted.min(seq);
            let woken = self.arrived.wait_timeout(tail, left);
            tail = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::event;
    use std::sync::Arc;

    fn events(range: std::ops::Range<u64>) -> Vec<Event> {
        range.map(|offset| event("a", 1, offset + 1, 100)).collect()
    }

    fn offsets(events: &[Event]) -> Vec<u64> {
        events.iter().map(Event::offset).collect()
    }

    #[test]
    fn what_left_the_feed_is_refused_and_what_is_there_comes_in_order() {
        let size = events(0..1)[0].size() as u64;
        let feed = Feed::new(0, size * 4);
        feed.publish(&events(0..3), 3);
        feed.publish(&events(3..6), 6);
        assert_eq!(feed.bytes(), size * 4);
        assert!(feed.take(1, 10, u64::MAX).is_none(), "0 and 1 are out");
        assert_eq!(offsets(&feed.take(2, 10, u64::MAX).unwrap()), [3, 4, 5, 6]);
        assert_eq!(offsets(&feed.take(2, 2, u64::MAX).unwrap()), [3, 4]);
        assert_eq!(offsets(&feed.take(2, 10, 1).unwrap()), [3], "the first one always");
        assert_eq!(offsets(&feed.take(2, 10, size * 2).unwrap()), [3, 4]);
        assert_eq!(feed.take(6, 10, u64::MAX), Some(Vec::new()), "nothing new");
    }

    #[test]
    fn a_round_larger_than_the_feed_stays_until_the_next() {
        let feed = Feed::new(7, 10);
        feed.publish(&events(7..9), 9);
        assert_eq!(feed.take(7, 10, u64::MAX).unwrap().len(), 2);
        feed.publish(&events(9..10), 10);
        assert!(feed.take(8, 10, u64::MAX).is_none());
        assert_eq!(feed.take(9, 10, u64::MAX).unwrap().len(), 1);
    }

    #[test]
    fn no_waiter_is_forgotten_when_several_wait_for_different_numbers() {
        let feed = Arc::new(Feed::new(0, 1 << 20));
        let waiters: Vec<_> = [5, 1, 3]
            .into_iter()
            .map(|seq| {
                let feed = Arc::clone(&feed);
                std::thread::spawn(move || feed.wait(seq, Duration::from_secs(60)))
            })
            .collect();
        for seq in 0..5 {
            feed.publish(&events(seq..seq + 1), seq + 1);
        }
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), Woken::Arrived);
        }
        assert_eq!(feed.wait(6, Duration::ZERO), Woken::Elapsed);
    }
}
