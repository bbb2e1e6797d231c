//! The home against a naive model: every event ever placed is remembered, crashes drop the
//! un-synced tails, and each answer is compared with what can be worked out from that list alone.

use super::*;
use proto::event::Draft;
use proto::position::Epoch;
use std::collections::{HashMap, HashSet};

const CHANNELS: usize = 5;
const ALL: PageLimit = PageLimit { events_max: usize::MAX, bytes_max: usize::MAX };

/// The newest event that a channel retains.
fn newest_of(home: &Home, channel: ChannelIndex) -> Option<Event> {
    home.newest(channel, u64::MAX, PageLimit { events_max: 1, bytes_max: 0 }).pop()
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

fn config() -> HomeConfig {
    HomeConfig {
        lineage: 1_000,
        lineages_old: Vec::new(),
        incarnation_first: 3,
        incarnation_stride: 2,
        channels_max: 100,
        history_bytes_max: 1 << 30,
        dedupe_bytes_max: 1 << 30,
        dedupe_ids_max: 12,
        dedupe_age_ms: 4_000,
        idle_forget_ms: 3_000,
        seed: 7,
    }
}

fn namespace() -> Namespace {
    Namespace { history_size: 20, history_age_s: 5, ..Namespace::default() }
}

fn home(config: HomeConfig) -> Home {
    let mut home = Home::new(config);
    home.finish_restore();
    home
}

fn draft(channel: &str, id: &str, data: &str) -> Unplaced {
    Draft { channel, id, id_generated: id.is_empty(), data: data.as_bytes(), ..Draft::default() }
        .build()
        .unwrap()
}

fn at(now_ms: u64) -> Moment {
    Moment { now_ms, wall_us: now_ms as i64 * 1_000 }
}

fn publish(home: &mut Home, now_ms: u64, channel: &str, id: &str, ns: &Namespace) -> Published {
    home.publish(at(now_ms), draft(channel, id, "1"), ns, now_ms + 1).unwrap()
}

fn placed(published: Published) -> Placed {
    match published {
        Published::Placed(placed) => placed,
        Published::Duplicate(duplicate) => panic!("{duplicate:?}"),
    }
}

fn offsets(events: &[Event]) -> Vec<u64> {
    events.iter().map(Event::offset).collect()
}

/// One event that survived so far, of a channel's present incarnation.
#[derive(Clone)]
struct Alive {
    event: Event,
    wall_ms: u64,
    store_seq: u64,
}

#[derive(Default)]
struct Model {
    incarnation: Option<u32>,
    alive: Vec<Alive>,
    /// Offsets up to here are in the spool.
    synced: u64,
    /// Offsets below were not read back at the last start.
    readable_from: u64,
    /// (id, offset) in order, since the last start.
    ids: Vec<(String, u64)>,
    interest: u64,
    touched_ms: u64,
}

/// The server around the home, reduced to what the home sees of it.
struct World {
    random: Random,
    home: Home,
    config: HomeConfig,
    namespace: Namespace,
    /// Budgets are tight: what is retained is the home's choice, and read from it.
    tight: bool,
    wall_ms: u64,
    /// The monotonic clock restarts with the process.
    boot_ms: u64,
    models: Vec<Model>,
    spools: Vec<Vec<Event>>,
    /// What every position ever handed out stands for: the event's data, or nothing at offset 0.
    named: HashMap<(usize, Position), String>,
    positions: Vec<(usize, Position)>,
    epochs: HashSet<(usize, Epoch)>,
    serial: u64,
}

impl World {
    fn new(seed: u64, namespace: Namespace, config: HomeConfig, tight: bool) -> Self {
        Self {
            random: Random(seed),
            home: home(config.clone()),
            config,
            namespace,
            tight,
            wall_ms: 1_000_000,
            boot_ms: 1_000_000,
            models: (0..CHANNELS).map(|_| Model::default()).collect(),
            spools: vec![Vec::new(); CHANNELS],
            named: HashMap::new(),
            positions: Vec::new(),
            epochs: HashSet::new(),
            serial: 0,
        }
    }

    fn now_ms(&self) -> u64 {
        self.wall_ms - self.boot_ms
    }

    fn moment(&self) -> Moment {
        Moment { now_ms: self.now_ms(), wall_us: self.wall_ms as i64 * 1_000 }
    }

    fn visible(&self, c: usize) -> u64 {
        let model = &self.models[c];
        match self.namespace.deliver {
            crate::config::namespace::Deliver::Live => model.alive.len() as u64,
            crate::config::namespace::Deliver::Durable => model.synced,
        }
    }

    /// A position was handed out: it must go on standing for this data.
    fn name(&mut self, c: usize, position: Position) {
        let data = match position.offset {
            0 => String::new(),
            n => text(&self.models[c].alive[n as usize - 1].event),
        };
        let before = self.named.insert((c, position), data.clone());
        assert!(before.is_none_or(|before| before == data), "{position} names two events");
        self.positions.push((c, position));
    }

    /// The channel exists now: if it did not before, its epoch must be new.
    fn entered(&mut self, c: usize, epoch: Epoch) {
        if self.models[c].incarnation.is_none() {
            assert!(self.epochs.insert((c, epoch)), "epoch {epoch} given twice");
            self.models[c].incarnation = Some(epoch.incarnation());
        }
        assert_eq!(self.models[c].incarnation, Some(epoch.incarnation()));
    }

    fn publish(&mut self, c: usize) {
        self.serial += 1;
        let id = match self.random.below(4) {
            0 => String::new(),
            _ => format!("id{}", self.random.below(25)),
        };
        let data = self.serial.to_string();
        let expected = self.remembered(c, &id);
        let event = draft(&channel(c), &id, &data);
        match self.home.publish(self.moment(), event, &self.namespace, self.serial).unwrap() {
            Published::Duplicate(duplicate) => {
                let offset = expected.expect("no event with this id is in the window");
                let original = &self.models[c].alive[offset as usize - 1];
                assert_eq!(duplicate.position, original.event.position());
                assert_eq!(duplicate.store_seq, original.store_seq);
            }
            Published::Placed(placed) => {
                assert!(self.tight || expected.is_none(), "{id} was not recognised");
                self.entered(c, placed.event.position().epoch);
                assert_eq!(placed.interest, self.models[c].interest);
                let (wall_ms, now_ms, store_seq) = (self.wall_ms, self.now_ms(), self.serial);
                let model = &mut self.models[c];
                assert_eq!(placed.event.offset(), model.alive.len() as u64 + 1);
                model.touched_ms = now_ms;
                if !id.is_empty() {
                    model.ids.push((id, placed.event.offset()));
                }
                let position = placed.event.position();
                model.alive.push(Alive { event: placed.event, wall_ms, store_seq });
                self.name(c, position);
            }
        }
    }

    /// The offset of the original, if the window still holds the id.
    fn remembered(&self, c: usize, id: &str) -> Option<u64> {
        let model = &self.models[c];
        let window = model.ids.iter().rev().take(self.config.dedupe_ids_max as usize);
        let offset = window.filter(|(known, _)| known == id).map(|(_, offset)| *offset).next()?;
        let age_ms = self.wall_ms - model.alive[offset as usize - 1].wall_ms;
        (age_ms < self.config.dedupe_age_ms).then_some(offset)
    }

    /// The lowest retained offset (one above the last if nothing is retained), after a full sweep.
    fn retained_from(&self, c: usize) -> u64 {
        let model = &self.models[c];
        let last = model.alive.len() as u64;
        let young = |alive: &&Alive| {
            self.wall_ms - alive.wall_ms < u64::from(self.namespace.history_age_s) * 1_000
        };
        let young = model.alive.iter().rev().take_while(young).count() as u64;
        let count = young.min(u64::from(self.namespace.history_size));
        (last - count + 1).max(model.readable_from)
    }

    fn sweep(&mut self) {
        let work_max = 1 + self.random.below(40) as u32;
        while !self.home.expire(self.now_ms(), work_max).complete {
            if work_max < 20 {
                // Small bounds never see a whole round: only check that they make progress.
                while !self.home.expire(self.now_ms(), 10_000).complete {}
                break;
            }
        }
        for c in 0..CHANNELS {
            let (found, model) = (self.home.find(&channel(c)), &self.models[c]);
            if model.incarnation.is_none() {
                continue;
            }
            let empty = self.retained_from(c) > model.alive.len() as u64;
            let remembered = model.ids.iter().any(|(id, _)| self.remembered(c, id).is_some());
            let idle = self.now_ms() - model.touched_ms >= self.config.idle_forget_ms;
            let synced = self.visible(c) == model.alive.len() as u64;
            let forgettable = empty && !remembered && idle && synced && model.interest == 0;
            if self.tight {
                assert!(found.is_some() || (idle && synced && model.interest == 0));
            } else {
                let why = (empty, remembered, idle, synced, model.interest);
                assert_eq!(found.is_none(), forgettable, "channel {c}: {why:?}");
            }
            if found.is_none() {
                // What was on its way to the spool still gets there.
                let model = std::mem::take(&mut self.models[c]);
                if self.namespace.store {
                    let rest = model.alive.into_iter().skip(model.synced as usize);
                    self.spools[c].extend(rest.map(|alive| alive.event));
                }
            }
        }
    }

    fn subscribe(&mut self, c: usize) {
        let shard = self.random.below(64) as u8;
        let now_ms = self.now_ms();
        let channel = channel(c);
        let index = self.home.subscribe(now_ms, &channel, shard, &self.namespace).unwrap();
        let top = self.home.top(index).unwrap();
        self.entered(c, top.epoch);
        self.models[c].interest |= 1 << shard;
        self.models[c].touched_ms = now_ms;
        assert_eq!(self.home.interest(index), self.models[c].interest);
        self.name(c, top);
    }

    fn unsubscribe(&mut self, c: usize) {
        let Some(index) = self.home.find(&channel(c)) else { return };
        while self.models[c].interest != 0 {
            self.models[c].touched_ms = self.now_ms();
            let shard = self.models[c].interest.trailing_zeros() as u8;
            self.models[c].interest &= !(1 << shard);
            self.home.unsubscribe(self.now_ms(), index, shard);
        }
    }

    fn sync(&mut self, c: usize) {
        let model = &mut self.models[c];
        let behind = model.alive.len() as u64 - model.synced;
        if behind == 0 || !self.namespace.store {
            return;
        }
        let up_to = model.synced + 1 + self.random.below(behind);
        let new = &model.alive[model.synced as usize..up_to as usize];
        self.spools[c].extend(new.iter().map(|alive| alive.event.clone()));
        model.synced = up_to;
        self.home.mark_synced(self.home.find(&channel(c)).unwrap(), up_to);
    }

    /// What can be said to a client at this position, from the surviving events alone.
    fn expected(&self, c: usize, since: Position, from: u64) -> Outcome {
        let model = &self.models[c];
        let rank = |lineage: u32| match lineage == self.config.lineage {
            true => Some(usize::MAX),
            false => self.config.lineages_old.iter().position(|old| *old == lineage),
        };
        let (Some(incarnation), Some(since_rank)) =
            (model.incarnation, rank(since.epoch.lineage()))
        else {
            return Outcome::Gap(GapReason::Unknown);
        };
        // The surviving events of that lineage and those before it.
        let given_rank = |alive: &Alive| rank(alive.event.position().epoch.lineage());
        let then = model.alive.iter().filter(|alive| given_rank(alive) <= Some(since_rank)).count();
        let current = since_rank == usize::MAX;
        if incarnation != since.epoch.incarnation() || (then == 0 && !current) {
            Outcome::Gap(GapReason::Unknown)
        } else if since.offset > then as u64 {
            let reason = if current { GapReason::Unknown } else { GapReason::RolledBack };
            Outcome::Gap(reason)
        } else if since.offset >= self.visible(c) || from <= since.offset + 1 {
            Outcome::Recovered
        } else {
            Outcome::Gap(GapReason::Expired)
        }
    }

    fn resume(&mut self) {
        self.sweep();
        let (c, mut since) = match self.positions.len() as u64 {
            0 => return,
            n if self.random.below(3) == 0 => self.positions[self.random.below(n) as usize],
            n => self.positions[(n - 1 - self.random.below(n.min(30))) as usize],
        };
        match self.random.below(12) {
            0 => since.offset += 1 + self.random.below(5),
            1 => since.epoch.0 ^= 1 << self.random.below(64),
            _ => {}
        }
        let Some(index) = self.home.find(&channel(c)) else { return };
        let limit = PageLimit {
            events_max: 1 + self.random.below(9) as usize,
            bytes_max: self.random.below(900) as usize,
        };
        let resumed = self.home.resume(index, Since::After(since), limit).unwrap();
        let events = self.all_pages(index, &resumed, limit);
        let (last, visible) = (self.models[c].alive.len() as u64, self.visible(c));
        let from = if self.tight { self.front(index, last) } else { self.retained_from(c) };
        assert!(from >= self.retained_from(c), "more than the namespace allows is retained");
        assert_eq!(resumed.outcome, self.expected(c, since, from), "{c} {since}");
        let first = match resumed.outcome {
            Outcome::Recovered => since.offset + 1,
            _ => from,
        };
        let expected: Vec<u64> = (first..=visible).collect();
        assert_eq!(offsets(&events), expected, "{c} {since} {:?}", resumed.outcome);
        for event in &events {
            assert_eq!(*event, self.models[c].alive[event.offset() as usize - 1].event);
        }
        if resumed.outcome == Outcome::Recovered {
            // Independent of how epochs work: what the client saw last is what stands there now.
            if let Some(seen) = self.named.get(&(c, since))
                && since.offset > 0
            {
                let stands = &self.models[c].alive[since.offset as usize - 1].event;
                assert_eq!(*seen, text(stands), "recovered from a lost event");
            }
            assert_eq!(resumed.top.offset, visible.max(since.offset));
        } else {
            assert_eq!(resumed.top.offset, visible);
        }
        self.name(c, resumed.top);
        let newest = (from <= visible && visible > 0).then_some(visible);
        assert_eq!(newest_of(&self.home, index).map(|event| event.offset()), newest);
    }

    fn all_pages(&self, index: ChannelIndex, resumed: &Resumed, limit: PageLimit) -> Vec<Event> {
        let (mut events, mut next) = (resumed.events.clone(), resumed.next);
        assert!(events.len() <= limit.events_max);
        while let Some(after) = next {
            let page = self.home.history_after(index, after, limit).unwrap();
            assert!(page.contiguous && !page.events.is_empty());
            let bytes: usize = page.events.iter().map(Event::size).sum();
            assert!(page.events.len() == 1 || bytes <= limit.bytes_max);
            events.extend(page.events);
            next = page.next;
        }
        events
    }

    /// The lowest offset in the history, by asking for all of it. Of a durable namespace only
    /// what is visible can be asked for, so what is not counts as retained.
    fn front(&self, index: ChannelIndex, last: u64) -> u64 {
        let page = self.home.history_after(index, 0, ALL).unwrap();
        match page.events.first() {
            Some(first) => first.offset(),
            None => self.home.top(index).map_or(last, |top| top.offset) + 1,
        }
    }

    /// Stops and starts. Unclean: un-synced events are lost and the lineage changes.
    fn restart(&mut self, clean: bool) {
        if clean {
            for c in 0..CHANNELS {
                while self.namespace.store
                    && self.models[c].synced < self.models[c].alive.len() as u64
                {
                    self.sync(c);
                }
            }
            self.config.incarnation_first = self.home.incarnation_next() as u32;
        } else {
            self.config.lineages_old.push(self.config.lineage);
            // Random lineages: their order is not that of their numbers.
            self.config.lineage = self.random.below(1 << 32) as u32;
            self.config.incarnation_first = 3;
        }
        self.wall_ms += self.random.below(1_500);
        self.boot_ms = self.wall_ms - self.random.below(2);
        self.home = Home::new(self.config.clone());
        let tail =
            if self.random.below(2) == 0 { usize::MAX } else { self.random.below(30) as usize };
        for c in 0..CHANNELS {
            self.restore(c, tail);
        }
        self.home.finish_restore();
    }

    /// Reads one channel back: a checkpoint if the tail is not everything, then the tail.
    fn restore(&mut self, c: usize, tail: usize) {
        self.models[c] = Model::default();
        let spool = self.spools[c].clone();
        let Some(newest) = spool.last().map(|event| event.position().epoch.incarnation()) else {
            return;
        };
        let alive: Vec<Event> = spool
            .iter()
            .filter(|event| event.position().epoch.incarnation() == newest)
            .cloned()
            .collect();
        let skipped = spool.len().saturating_sub(tail);
        let now_ms = self.now_ms();
        if skipped > 0 {
            let mut tops: Vec<(u32, u64)> = Vec::new();
            for event in &alive {
                tops.retain(|(lineage, _)| *lineage != event.position().epoch.lineage());
                tops.push((event.position().epoch.lineage(), event.offset()));
            }
            let (name, last) = (channel(c), alive.len() as u64);
            let ns = &self.namespace;
            self.home.restore_channel(now_ms, &name, newest, last, &tops, ns).unwrap().unwrap();
        }
        for event in &spool[skipped..] {
            self.home.restore_event(self.moment(), event.clone(), &self.namespace);
        }
        let read = alive.len().min(spool.len() - skipped) as u64;
        let readable_from = alive.len() as u64 - read + 1;
        let ids = alive[readable_from as usize - 1..].iter();
        let ids = ids.filter(|event| event.dedupe_key().is_some());
        self.models[c] = Model {
            incarnation: Some(newest),
            synced: alive.len() as u64,
            readable_from,
            ids: ids.map(|event| (event.id().to_owned(), event.offset())).collect(),
            interest: 0,
            touched_ms: now_ms,
            alive: Vec::new(),
        };
        let alive = alive.into_iter().map(|event| {
            let wall_ms = event.accepted_us() as u64 / 1_000;
            Alive { event, wall_ms, store_seq: 0 }
        });
        self.models[c].alive = alive.collect();
    }

    fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            let c = self.random.below(CHANNELS as u64) as usize;
            match self.random.below(1_000) {
                0..=499 => self.publish(c),
                500..=599 => self.sync(c),
                600..=699 => self.wall_ms += self.random.below(300),
                700..=709 => self.wall_ms += self.random.below(9_000),
                710..=769 => self.sweep(),
                770..=799 => self.subscribe(c),
                800..=829 => self.unsubscribe(c),
                830..=832 => self.restart(false),
                833..=835 => self.restart(true),
                _ => self.resume(),
            }
            let memory = self.home.memory();
            assert!(memory.history_bytes <= self.config.history_bytes_max, "{memory:?}");
            assert!(memory.dedupe_bytes <= self.config.dedupe_bytes_max, "{memory:?}");
        }
    }
}

fn channel(c: usize) -> String {
    format!("room:{c}")
}

fn text(event: &Event) -> String {
    String::from_utf8(event.data().to_vec()).unwrap()
}

fn check(
    seeds: std::ops::Range<u64>,
    change: impl Fn(&mut Namespace, &mut HomeConfig),
    tight: bool,
) {
    for seed in seeds {
        let (mut namespace, mut config) = (namespace(), config());
        change(&mut namespace, &mut config);
        let mut world = World::new(seed, namespace, config, tight);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.run(3_000)));
        assert!(result.is_ok(), "seed {seed}");
    }
}

#[test]
fn live_channels_answer_as_the_model_through_crashes_and_clean_stops() {
    check(0..40, |_, _| {}, false);
}

#[test]
fn durable_channels_show_nothing_above_what_is_synced() {
    let durable = |ns: &mut Namespace, _: &mut HomeConfig| {
        ns.deliver = crate::config::namespace::Deliver::Durable;
    };
    check(100..140, durable, false);
}

#[test]
fn channels_that_are_not_stored_begin_anew_after_every_stop() {
    check(200..220, |ns, _| ns.store = false, false);
}

#[test]
fn tight_budgets_are_kept_and_never_make_a_wrong_answer() {
    let tight = |ns: &mut Namespace, config: &mut HomeConfig| {
        ns.history_age_s = 60;
        config.history_bytes_max = 6_000;
        config.dedupe_bytes_max = 2 * dedupe::BLOCK_BYTES as u64 + 100;
        config.dedupe_ids_max = 100;
        config.dedupe_age_ms = 60_000;
    };
    check(300..340, tight, true);
}

#[test]
fn a_repeat_gets_the_originals_position_and_number_until_its_window_is_over() {
    let (mut home, ns) = (home(config()), namespace());
    let original = placed(publish(&mut home, 10, "a", "x", &ns));
    let Published::Duplicate(duplicate) = publish(&mut home, 20, "a", "x", &ns) else { panic!() };
    assert_eq!(duplicate.position, original.event.position());
    assert_eq!(duplicate.store_seq, 11);
    placed(publish(&mut home, 20, "b", "x", &ns));
    placed(publish(&mut home, 4_010, "a", "x", &ns));
    for id in 0..12 {
        placed(publish(&mut home, 4_020, "a", &id.to_string(), &ns));
    }
    placed(publish(&mut home, 4_030, "a", "x", &ns));
}

#[test]
fn the_source_is_part_of_the_identity_and_cannot_be_shifted_into_the_id() {
    let (mut home, ns) = (home(config()), namespace());
    for (id, source) in [("ab", "c"), ("a", "bc"), ("abc", ""), ("ab", "")] {
        let event = Draft { channel: "a", id, source, ..Draft::default() }.build().unwrap();
        placed(home.publish(at(1), event, &ns, 1).unwrap());
    }
}

#[test]
fn channels_are_refused_when_full_and_idle_ones_make_room() {
    let (mut home, ns) = (home(HomeConfig { channels_max: 2, ..config() }), namespace());
    placed(publish(&mut home, 0, "a", "", &ns));
    let unused = home.subscribe(0, "b", 1, &ns).unwrap();
    let full = Refusal::ChannelsFull(2);
    assert_eq!(home.publish(at(1), draft("c", "", ""), &ns, 1), Err(full));
    // Never published to and nobody there: goes at once.
    home.unsubscribe(1, unused, 1);
    placed(publish(&mut home, 1, "c", "", &ns));
    assert_eq!(home.find("b"), None);
    assert_eq!(home.open(4_999, "d", &ns), Err(full));
    // The history of `a` and `c` is over, and so is their idle time.
    home.open(6_000, "d", &ns).unwrap();
    assert_eq!(home.counters().refused_channels_full, 2);
    assert!(home.memory().channels <= 2);
}

#[test]
fn a_stale_index_finds_nothing() {
    let (mut home, ns) = (home(config()), namespace());
    let old = placed(publish(&mut home, 0, "a", "", &ns)).channel;
    while !home.expire(60_000, 100).complete {}
    let new = placed(publish(&mut home, 60_000, "a", "", &ns));
    assert_eq!((old.slot, new.event.offset()), (new.channel.slot, 1));
    assert_eq!(home.resume(old, Since::Beginning, ALL), None);
    assert_eq!(home.history_after(old, 0, ALL), None);
    assert_eq!(home.top(old), None);
    home.unsubscribe(60_000, old, 1);
    home.mark_synced(old, 9);
}

#[test]
fn one_call_of_expire_is_bounded_and_calls_of_any_size_get_everywhere() {
    for work_max in [1, 2, 7, 1_000] {
        let (mut home, ns) = (home(config()), namespace());
        for n in 0..50 {
            publish(&mut home, 0, &format!("c{}", n % 10), &n.to_string(), &ns);
        }
        // Fifty events, fifty ids, ten channels, and a look at each.
        let (mut calls, mut forgotten) = (0, 0);
        while home.memory().channels > 0 {
            let expiry = home.expire(60_000, work_max);
            assert!(expiry.events + expiry.ids <= work_max);
            assert!(expiry.channels <= work_max);
            forgotten += expiry.channels;
            calls += 1;
            assert!(calls <= 200, "no progress with {work_max}");
        }
        assert_eq!(forgotten, 10);
        assert!(calls >= 100 / work_max);
        let counters = home.counters();
        assert_eq!((counters.history_dropped_age, counters.ids_dropped_age), (50, 50));
    }
}

#[test]
fn a_sweep_over_idle_channels_looks_at_no_more_than_it_may() {
    let (mut home, ns) = (home(config()), namespace());
    for n in 0..50 {
        home.open(0, &format!("c{n}"), &ns).unwrap();
    }
    assert_eq!(home.expire(60_000, 10).channels, 10);
    assert_eq!(home.expire(60_000, 10).channels, 10);
}

#[test]
fn a_loud_channel_pays_for_itself_and_not_the_quiet_ones() {
    let config = HomeConfig { history_bytes_max: 20_000, ..config() };
    let (mut home, ns) = (home(config), Namespace { history_size: 1_000, ..namespace() });
    let quiet = placed(publish(&mut home, 0, "quiet", "", &ns)).channel;
    for _ in 0..2_000 {
        publish(&mut home, 1, "loud", "", &ns);
    }
    assert!(newest_of(&home, quiet).is_some());
    assert!(home.counters().history_dropped_budget > 1_000);
}

#[test]
fn a_namespace_that_is_no_longer_stored_gets_a_new_epoch() {
    let (mut home, ns) = (home(config()), namespace());
    let index = home.subscribe(0, "a", 5, &ns).unwrap();
    let stored = placed(publish(&mut home, 0, "a", "x", &ns)).event;
    let unstored = Namespace { store: false, ..ns };
    let after = placed(publish(&mut home, 0, "a", "x", &unstored));
    assert_ne!(after.event.position().epoch, stored.position().epoch);
    assert_eq!((after.event.offset(), after.channel, after.interest), (1, index, 1 << 5));
    let resumed = home.resume(index, Since::After(stored.position()), ALL).unwrap();
    assert_eq!(resumed.outcome, Outcome::Gap(GapReason::Unknown));
}

#[test]
fn holes_in_what_is_read_back_are_expired_and_never_recovered() {
    let ns = namespace();
    let mut first = home(config());
    let events: Vec<Event> =
        (0..6).map(|_| placed(publish(&mut first, 10, "a", "", &ns)).event).collect();
    let check = |read: &[usize], last: u64, since: usize, outcome: Outcome, after: &[u64]| {
        let mut home = Home::new(HomeConfig { incarnation_first: 50, ..config() });
        home.restore_channel(20, "a", 3, last, &[], &ns).unwrap();
        for &n in read {
            home.restore_event(at(20), events[n - 1].clone(), &ns);
        }
        home.finish_restore();
        let since = Since::After(events[since - 1].position());
        let resumed = home.resume(home.find("a").unwrap(), since, ALL).unwrap();
        assert_eq!((resumed.outcome, &*offsets(&resumed.events)), (outcome, after), "{read:?}");
    };
    let expired = Outcome::Gap(GapReason::Expired);
    check(&[1, 2, 3, 4, 5, 6], 6, 2, Outcome::Recovered, &[3, 4, 5, 6]);
    check(&[1, 2, 4, 5, 6], 6, 2, expired, &[4, 5, 6]);
    check(&[1, 2, 4, 5, 6], 6, 3, Outcome::Recovered, &[4, 5, 6]);
    check(&[1, 2, 3], 6, 2, expired, &[]);
    check(&[1, 2, 3, 3, 2, 4], 4, 2, Outcome::Recovered, &[3, 4]);
}

#[test]
fn incarnations_are_never_given_twice_not_even_those_read_back() {
    let ns = namespace();
    let mut home =
        Home::new(HomeConfig { incarnation_first: 1, incarnation_stride: 4, ..config() });
    home.restore_channel(0, "a", 42, 1, &[], &ns).unwrap();
    let unstored = Namespace { store: false, ..namespace() };
    assert_eq!(home.restore_channel(0, "b", 50, 1, &[], &unstored), Ok(None));
    home.finish_restore();
    let given = placed(publish(&mut home, 0, "c", "", &ns)).event.position().epoch.incarnation();
    assert_eq!(given, 53);
    assert_eq!(home.incarnation_next(), 57);
}

#[test]
fn what_an_older_incarnation_left_in_the_spool_changes_nothing() {
    let ns = namespace();
    let mut first = home(config());
    let old = placed(publish(&mut first, 0, "a", "x", &ns)).event;
    while !first.expire(60_000, 100).complete {}
    let new = placed(publish(&mut first, 60_000, "a", "y", &ns)).event;
    assert!(new.position().epoch > old.position().epoch);
    let mut second = Home::new(HomeConfig { incarnation_first: 50, ..config() });
    assert_eq!(second.restore_event(at(60_000), new.clone(), &ns), Restored::Kept);
    assert_eq!(second.restore_event(at(60_000), old, &ns), Restored::Stale);
    second.finish_restore();
    let index = second.find("a").unwrap();
    assert_eq!(newest_of(&second, index), Some(new.clone()));
    assert_eq!(second.top(index), Some(new.position()));
}

#[test]
fn when_incarnations_run_out_new_channels_are_refused() {
    let mut home = home(HomeConfig { incarnation_first: u32::MAX, ..config() });
    placed(publish(&mut home, 0, "a", "", &namespace()));
    let refused = home.publish(at(0), draft("b", "", ""), &namespace(), 1);
    assert_eq!(refused, Err(Refusal::IncarnationsExhausted));
    placed(publish(&mut home, 0, "a", "", &namespace()));
}

#[test]
fn numbers_at_their_ends_do_not_overflow() {
    let (mut home, ns) = (home(config()), namespace());
    let event = placed(publish(&mut home, 0, "a", "", &ns)).event;
    let index = home.find("a").unwrap();
    for offset in [0, 1, 2, u64::MAX - 1, u64::MAX] {
        home.history_after(index, offset, ALL).unwrap();
        for epoch in [event.position().epoch, Epoch(0), Epoch(u64::MAX)] {
            let since = Since::After(Position { epoch, offset });
            home.resume(index, since, ALL).unwrap();
        }
    }
}

#[test]
fn ids_in_one_pool_grow_shrink_and_keep_their_channels_apart() {
    let mut ids = Ids::new(1 << 20);
    let mut windows = [dedupe::Window::default(); 3];
    let mut model: Vec<Vec<Seen>> = vec![Vec::new(); 3];
    let mut random = Random(9);
    for n in 0..60_000 {
        let w = random.below(3) as usize;
        // Phases of growth and of shrinking.
        if random.below(100) < if n / 10_000 % 2 == 0 { 70 } else { 30 } && !ids.is_full() {
            // One window's hashes meet in few buckets, so that these overflow.
            let buckets = if w == 0 { 40 } else { 1 << 50 };
            let hash = [random.below(buckets), random.below(u64::MAX)];
            let seen = Seen { hash, offset: n, store_seq: n, admitted_ms: 0 };
            ids.push(&mut windows[w], seen);
            model[w].push(seen);
        } else {
            assert_eq!(ids.pop(&mut windows[w]), !model[w].is_empty());
            if !model[w].is_empty() {
                let gone = model[w].remove(0);
                assert_eq!(ids.find(gone.hash), None);
            }
        }
        assert_eq!(windows[w].len() as usize, model[w].len());
        assert_eq!(ids.oldest(&windows[w]), model[w].first());
        if let Some(newest) = model[w].last() {
            assert_eq!(ids.find(newest.hash), Some(newest));
        }
        assert!(ids.memory() <= 1 << 20);
    }
}
