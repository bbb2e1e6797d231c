//! A hierarchical timer wheel: pings, idle limits and heartbeats of one shard's connections.
//!
//! One timer per key; keys are small dense numbers (connection slots), and a timer is a 16-byte
//! link in a list, so scheduling, moving and cancelling are a few stores and nothing is allocated
//! once the highest key has been seen. Time is cut into ticks of [`TICK_MS`]; four levels of 256
//! lists cover every `u32` tick (8.7 years of uptime), so there is no overflow list. A timer waits
//! in the level of the highest byte in which its tick differs from the current one and moves down
//! at most three times: advancing is O(1) per timer, and empty stretches are skipped by bitmap.
//!
//! Invariants: a timer never fires early, and fires in the first `advance` whose time is at least
//! one tick past its deadline; the lists of level L > 0 lie strictly ahead of the current tick.
//!
//! Deliberately absent: a clock (the caller passes milliseconds that never go backwards), more
//! than one timer per key (the caller schedules the nearest), order within a tick, a bound on how
//! many timers fire at once (the caller bounds what it does with them). Lives on its shard's
//! thread. Tested against a `BTreeMap` under seeded scripts.

/// The resolution: coarse enough that the idle timers of 100,000 connections share lists, fine
/// enough for anything counted in seconds.
pub const TICK_MS: u64 = 64;

const LEVELS: usize = 4;
const SLOTS: usize = 256;
/// The extra list of timers whose deadline had passed when they were scheduled.
const OVERDUE: u16 = (LEVELS * SLOTS) as u16;
const NIL: u32 = u32::MAX;
const UNSCHEDULED: u16 = u16::MAX;

/// One timer, intrusive by key: 16 bytes.
#[derive(Clone, Copy)]
struct Link {
    prev: u32,
    next: u32,
    tick: u32,
    list: u16,
}

const UNLINKED: Link = Link { prev: NIL, next: NIL, tick: 0, list: UNSCHEDULED };

/// See the module.
pub struct Wheel {
    base_ms: u64,
    current: u32,
    links: Vec<Link>,
    heads: Box<[u32; LEVELS * SLOTS + 1]>,
    occupied: [[u64; SLOTS / 64]; LEVELS],
    scheduled: usize,
}

impl Wheel {
    /// An empty wheel; no later call may carry a time before `now_ms`.
    pub fn new(now_ms: u64) -> Self {
        Self {
            base_ms: now_ms,
            current: 0,
            links: Vec::new(),
            heads: Box::new([NIL; LEVELS * SLOTS + 1]),
            occupied: [[0; SLOTS / 64]; LEVELS],
            scheduled: 0,
        }
    }

    /// Sets the key's timer, moving it if it was set. A deadline in the past fires at the next
    /// [`Wheel::advance`].
    pub fn schedule(&mut self, key: u32, deadline_ms: u64) {
        assert!(key != NIL, "key {NIL} is reserved");
        if key as usize >= self.links.len() {
            self.links.resize(key as usize + 1, UNLINKED);
        }
        self.unlink(key);
        // Rounded up: never early.
        let ticks = deadline_ms.saturating_sub(self.base_ms).div_ceil(TICK_MS);
        let tick = u32::try_from(ticks).unwrap_or(u32::MAX);
        self.links[key as usize].tick = tick;
        let list = if tick <= self.current { OVERDUE } else { self.list_for(tick) };
        self.link(key, list);
    }

    /// Clears the key's timer. True if it was set.
    pub fn cancel(&mut self, key: u32) -> bool {
        (key as usize) < self.links.len() && self.unlink(key)
    }

    /// Moves time to `now_ms` and appends the key of every timer that is due. A time before the
    /// last one is taken as the last one.
    pub fn advance(&mut self, now_ms: u64, due: &mut Vec<u32>) {
        let ticks = now_ms.saturating_sub(self.base_ms) / TICK_MS;
        let target = u32::try_from(ticks).unwrap_or(u32::MAX);
        self.fire(OVERDUE, due);
        while let Some((tick, list)) = self.next_list() {
            if tick > target {
                break;
            }
            self.current = tick;
            if usize::from(list) < SLOTS {
                self.fire(list, due);
            } else {
                self.cascade(list, due);
            }
        }
        // Nothing waits at or before the target, so no list is jumped over.
        self.current = self.current.max(target);
    }

    /// When to call [`Wheel::advance`] next: at or before the first time at which a timer is due,
    /// `None` without timers. Earlier when timers have to move down a level first; advancing to
    /// this time always makes progress.
    pub fn next_deadline(&self) -> Option<u64> {
        if self.heads[usize::from(OVERDUE)] != NIL {
            return Some(self.base_ms + u64::from(self.current) * TICK_MS);
        }
        self.next_list().map(|(tick, _)| self.base_ms + u64::from(tick) * TICK_MS)
    }

    /// Timers that are set.
    pub fn len(&self) -> usize {
        self.scheduled
    }

    /// True if no timer is set.
    pub fn is_empty(&self) -> bool {
        self.scheduled == 0
    }

    /// Bytes held, for the ledger.
    pub fn memory(&self) -> usize {
        size_of::<Self>() + size_of_val(&*self.heads) + self.links.capacity() * size_of::<Link>()
    }

    /// The list for a tick ahead of the current one.
    fn list_for(&self, tick: u32) -> u16 {
        debug_assert!(tick > self.current);
        let level = (31 - (tick ^ self.current).leading_zeros()) as usize / 8;
        let slot = (tick >> (level * 8)) as usize & (SLOTS - 1);
        (level * SLOTS + slot) as u16
    }

    /// The nearest list that holds timers, and the tick at which it is opened. Lower levels are
    /// always nearer: they share the current tick's higher bytes.
    fn next_list(&self) -> Option<(u32, u16)> {
        for level in 0..LEVELS {
            let shift = level * 8;
            let here = (self.current >> shift) as usize & (SLOTS - 1);
            let Some(slot) = self.next_occupied(level, here + 1) else { continue };
            let above = u64::from(self.current) >> (shift + 8) << (shift + 8);
            let tick = above as u32 | (slot as u32) << shift;
            return Some((tick, (level * SLOTS + slot) as u16));
        }
        None
    }

    fn next_occupied(&self, level: usize, from: usize) -> Option<usize> {
        let words = &self.occupied[level];
        let mut word = from / 64;
        let mut bits = words.get(word)? & (u64::MAX << (from % 64));
        while bits == 0 {
            word += 1;
            bits = *words.get(word)?;
        }
        Some(word * 64 + bits.trailing_zeros() as usize)
    }

    /// Empties a list whose timers are all due.
    fn fire(&mut self, list: u16, due: &mut Vec<u32>) {
        let mut key = self.take(list);
        while key != NIL {
            let next = self.links[key as usize].next;
            self.links[key as usize] = UNLINKED;
            self.scheduled -= 1;
            due.push(key);
            key = next;
        }
    }

    /// Spreads a list of a higher level over the levels below, firing what is due now.
    fn cascade(&mut self, list: u16, due: &mut Vec<u32>) {
        let mut key = self.take(list);
        while key != NIL {
            let Link { next, tick, .. } = self.links[key as usize];
            self.links[key as usize].list = UNSCHEDULED;
            self.scheduled -= 1;
            if tick <= self.current {
                self.links[key as usize] = UNLINKED;
                due.push(key);
            } else {
                let list = self.list_for(tick);
                self.link(key, list);
            }
            key = next;
        }
    }

    /// Detaches a list and returns its first key.
    fn take(&mut self, list: u16) -> u32 {
        self.mark(list, false);
        std::mem::replace(&mut self.heads[usize::from(list)], NIL)
    }

    fn link(&mut self, key: u32, list: u16) {
        let head = std::mem::replace(&mut self.heads[usize::from(list)], key);
        if head == NIL {
            self.mark(list, true);
        } else {
            self.links[head as usize].prev = key;
        }
        let link = &mut self.links[key as usize];
        (link.prev, link.next, link.list) = (NIL, head, list);
        self.scheduled += 1;
    }

    fn unlink(&mut self, key: u32) -> bool {
        let Link { prev, next, list, .. } = self.links[key as usize];
        if list == UNSCHEDULED {
            return false;
        }
        if next != NIL {
            self.links[next as usize].prev = prev;
        }
        if prev != NIL {
            self.links[prev as usize].next = next;
        } else {
            self.heads[usize::from(list)] = next;
            if next == NIL {
                self.mark(list, false);
            }
        }
        self.links[key as usize] = UNLINKED;
        self.scheduled -= 1;
        true
    }

    fn mark(&mut self, list: u16, occupied: bool) {
        let (level, slot) = (usize::from(list) / SLOTS, usize::from(list) % SLOTS);
        if let Some(words) = self.occupied.get_mut(level) {
            if occupied {
                words[slot / 64] |= 1 << (slot % 64);
            } else {
                words[slot / 64] &= !(1 << (slot % 64));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// The model: a deadline per key, due once the tick it rounds up to has been reached.
    #[derive(Default)]
    struct Model(BTreeMap<u32, u64>);

    impl Model {
        fn due(&mut self, base: u64, now: u64) -> Vec<u32> {
            let tick = |deadline: u64| deadline.saturating_sub(base).div_ceil(TICK_MS);
            let reached = (now - base) / TICK_MS;
            let due: Vec<u32> =
                self.0.iter().filter(|(_, d)| tick(**d) <= reached).map(|(k, _)| *k).collect();
            due.iter().for_each(|key| {
                self.0.remove(key);
            });
            due
        }
    }

    fn random(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    #[test]
    fn a_random_script_fires_exactly_what_the_model_fires() {
        for seed in 1..=60_u64 {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let base = random(&mut state) % 1_000_000;
            let (mut now, mut wheel, mut model) = (base, Wheel::new(base), Model::default());
            for _ in 0..2_000 {
                let key = (random(&mut state) % 200) as u32;
                // Distances of every magnitude up to 12 days, so that every level is used.
                let magnitude = random(&mut state) % 31;
                let distance = random(&mut state) % (1 << magnitude);
                match random(&mut state) % 10 {
                    0..=5 => {
                        wheel.schedule(key, now + distance);
                        model.0.insert(key, now + distance);
                    }
                    6 => {
                        wheel.schedule(key, now.saturating_sub(distance));
                        model.0.insert(key, now.saturating_sub(distance));
                    }
                    7 => assert_eq!(wheel.cancel(key), model.0.remove(&key).is_some()),
                    _ => {
                        now += distance / 8;
                        let mut due = Vec::new();
                        wheel.advance(now, &mut due);
                        due.sort_unstable();
                        assert_eq!(due, model.due(base, now), "seed {seed}");
                    }
                }
                assert_eq!(wheel.len(), model.0.len());
                let earliest = model.0.values().min().copied();
                match (wheel.next_deadline(), earliest) {
                    (Some(at), Some(earliest)) => assert!(at < earliest.max(now) + TICK_MS),
                    (None, None) => {}
                    other => panic!("seed {seed}: {other:?}"),
                }
            }
        }
    }

    #[test]
    fn sleeping_until_the_next_deadline_each_time_fires_everything_in_few_steps() {
        let mut wheel = Wheel::new(5);
        let mut state = 7;
        for key in 0..1_000 {
            wheel.schedule(key, 5 + random(&mut state) % (1 << 36));
        }
        let (mut due, mut steps) = (Vec::new(), 0);
        while let Some(at) = wheel.next_deadline() {
            wheel.advance(at, &mut due);
            steps += 1;
            assert!(steps <= 4_000, "a cascade made no progress");
        }
        assert_eq!(due.len(), 1_000);
    }

    #[test]
    fn a_timer_is_never_early_and_at_most_a_tick_late() {
        for deadline in [1, 63, 64, 65, 16_383, 16_384, 16_385, 4_194_304, 1_073_741_824] {
            let mut wheel = Wheel::new(0);
            let mut due = Vec::new();
            wheel.schedule(3, deadline);
            wheel.advance(deadline - 1, &mut due);
            assert!(due.is_empty(), "early at {deadline}");
            wheel.advance(deadline + TICK_MS - 1, &mut due);
            assert_eq!(due, [3], "late at {deadline}");
            assert_eq!(wheel.next_deadline(), None);
        }
    }

    #[test]
    fn a_hundred_thousand_timers_take_sixteen_bytes_each() {
        let mut wheel = Wheel::new(0);
        wheel.links.reserve_exact(100_000);
        for key in 0..100_000 {
            wheel.schedule(key, 25_000 + u64::from(key));
        }
        assert!(wheel.memory() < 100_000 * 16 + 8_192, "{}", wheel.memory());
    }

    #[test]
    fn time_that_stands_still_or_goes_back_fires_nothing_twice() {
        let mut wheel = Wheel::new(1_000);
        let mut due = Vec::new();
        wheel.schedule(1, 2_000);
        wheel.advance(3_000, &mut due);
        wheel.advance(3_000, &mut due);
        wheel.advance(1_500, &mut due);
        assert_eq!(due, [1]);
        wheel.schedule(1, 1_200);
        wheel.advance(1_500, &mut due);
        assert_eq!(due, [1, 1]);
    }
}
