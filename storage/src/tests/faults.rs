//! Disks that fail, from seeds: power cuts at any operation, full disks, failing syncs, short
//! writes. The oracle: what was acknowledged is there once and in order, no position names two
//! events, everything acknowledged before the cut survives it, and a disk that works again drains.

use super::*;
use crate::sim_files::{Rng, SimFiles};
use std::collections::BTreeMap;

const CHANNELS: u64 = 4;

/// Everything that was ever handed over, and what is promised of it.
#[derive(Default)]
struct Oracle {
    /// By position: the event that it named. A position never names two.
    named: BTreeMap<(String, Epoch, u64), Event>,
    /// Acknowledged, per channel, in order.
    acknowledged: BTreeMap<String, Vec<Event>>,
    /// Handed over in this run, not acknowledged: (batch, events).
    open: BTreeMap<u64, Vec<Event>>,
    /// The next offset per channel.
    next: BTreeMap<String, u64>,
}

impl Oracle {
    fn batch(&mut self, seq: u64, lineage: u32, random: &mut Rng) -> StoreBatch {
        let events: Vec<Event> = (0..random.below(6))
            .map(|_| {
                let name = format!("c{}", random.below(CHANNELS));
                let offset = self.next.entry(name.clone()).or_insert(1);
                let large = random.one_in(40);
                let size = if large { random.below(9_000) } else { random.below(300) };
                let event = event(&name, lineage, *offset, size as usize);
                *offset += 1;
                event
            })
            .collect();
        for event in &events {
            let key = (event.channel().to_owned(), event.position().epoch, event.offset());
            let before = self.named.insert(key, event.clone());
            assert_eq!(before, None, "a position names two events");
        }
        self.open.insert(seq, events.clone());
        StoreBatch { seq, events }
    }

    fn acknowledge(&mut self, acked: &[Ack]) {
        for ack in acked {
            let (seq, events) = self.open.pop_first().expect("acknowledged twice");
            assert_eq!(seq, ack.seq, "acknowledged out of order");
            for event in events {
                let list = self.acknowledged.entry(event.channel().to_owned()).or_default();
                list.push(event);
            }
        }
    }

    /// Compares with what a restart found and goes on from it.
    fn recover(&mut self, recovered: &Recovered, stored: &[Event]) {
        self.open.clear();
        let mut by_channel: BTreeMap<String, Vec<Event>> = BTreeMap::new();
        for event in stored {
            by_channel.entry(event.channel().to_owned()).or_default().push(event.clone());
        }
        for (name, acknowledged) in &self.acknowledged {
            let found = by_channel.get(name).map_or(&[][..], Vec::as_slice);
            assert!(found.len() >= acknowledged.len(), "{name}: acknowledged events are lost");
            assert_eq!(found[..acknowledged.len()], acknowledged[..], "{name}");
        }
        for (name, found) in &by_channel {
            for (event, offset) in found.iter().zip(1..) {
                assert_eq!(event.offset(), offset, "{name}: a hole or a double");
                let key = (name.clone(), event.position().epoch, event.offset());
                assert_eq!(self.named.get(&key), Some(event), "{name}: never handed over");
            }
            let known = recovered.channels.iter().find(|channel| channel.name.as_str() == name);
            let known = known.expect("a channel with events is not known");
            assert_eq!(known.last_offset, found.len() as u64, "{name}");
            for (lineage, top) in &known.tops {
                let last = found.iter().rfind(|e| e.position().epoch.lineage() == *lineage);
                assert_eq!(last.map(Event::offset), Some(*top), "{name}: a wrong top");
            }
        }
        self.next =
            by_channel.iter().map(|(n, found)| (n.clone(), found.len() as u64 + 1)).collect();
        self.acknowledged = by_channel;
    }
}

struct World {
    files: SimFiles,
    random: Rng,
    oracle: Oracle,
    now_us: i64,
    seq: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            files: SimFiles::new(seed),
            random: Rng::new(seed ^ 0xfeed),
            oracle: Oracle::default(),
            now_us: 0,
            seq: 0,
        }
    }

    /// Appends and syncs for some steps; the state may be anything.
    fn work(&mut self, spool: &mut Spool<SimFiles>, steps: u64) {
        for _ in 0..steps {
            self.now_us += self.random.below(400_000) as i64;
            for _ in 0..self.random.below(4) {
                if spool.state() == StorageState::Accepting {
                    self.seq += 1;
                    let batch = self.oracle.batch(self.seq, spool.lineage(), &mut self.random);
                    spool.append(0, batch);
                }
            }
            let mut acked = Vec::new();
            spool.sync(self.now_us, &mut acked);
            self.oracle.acknowledge(&acked);
            if !self.random.one_in(3) {
                spool.maintain(self.now_us);
            }
        }
    }

    /// Everything works again: all that was handed over is acknowledged.
    fn drain(&mut self, spool: &mut Spool<SimFiles>) {
        for _ in 0..2_000 {
            self.now_us += 300_000;
            let mut acked = Vec::new();
            spool.sync(self.now_us, &mut acked);
            self.oracle.acknowledge(&acked);
            if spool.maintain(self.now_us) == StorageState::Accepting && !spool.has_work() {
                assert!(self.oracle.open.is_empty(), "drained, but not acknowledged");
                return;
            }
        }
        panic!("does not drain: {:?}", spool.state());
    }

    fn start(&mut self) -> Spool<SimFiles> {
        let (spool, recovered, notices) = reopen(&self.files, small());
        let damaged = |notice| matches!(notice, &Notice::CheckpointDamaged | &Notice::MetaDamaged);
        assert!(!notices.iter().any(damaged), "small files are replaced whole: {notices:?}");
        self.oracle.recover(&recovered, &replayed(&spool));
        spool
    }
}

#[test]
fn a_power_cut_at_any_operation_loses_nothing_acknowledged_and_names_nothing_twice() {
    for seed in 0..150 {
        let mut world = World::new(seed);
        if seed % 3 == 0 {
            world.files.faults(|faults| faults.short_write_one_in = 3);
        }
        for _ in 0..6 {
            let cut_in = world.random.below(120);
            world.files.faults(|faults| faults.power_off_in = Some(cut_in));
            // The power may go while it opens, works or closes.
            let opened = open(world.files.clone(), small(), world.now_us, &mut |_| {});
            if let Ok(Opened { mut spool, .. }) = opened {
                let stored = spool.replay_tail(u64::MAX, &mut |_| {});
                if stored.is_ok() {
                    let steps = world.random.below(30);
                    // Positions need what was recovered; with the power off nothing comes of it.
                    if world.adopt(&spool) {
                        world.work(&mut spool, steps);
                    }
                    if world.random.one_in(4) {
                        let _ = spool.close(0);
                    }
                }
            }
            if world.random.one_in(3) {
                // A kill in the same place: what a start finds in the page cache it makes last.
                world.files.faults(|faults| faults.power_off_in = None);
                drop(world.start());
            }
            world.files.power_cut();
            let spool = world.start();
            drop(spool); // a kill on top
            if world.random.one_in(2) {
                world.files.power_cut();
                drop(world.start());
            }
        }
    }
}

impl World {
    /// Takes over what a spool that was opened with the power about to go has recovered.
    fn adopt(&mut self, spool: &Spool<SimFiles>) -> bool {
        let mut stored = Vec::new();
        if spool.replay_tail(u64::MAX, &mut |event| stored.push(event)).is_err() {
            return false;
        }
        let mut next: BTreeMap<String, u64> = BTreeMap::new();
        for event in &stored {
            next.insert(event.channel().to_owned(), event.offset() + 1);
        }
        self.oracle.open.clear();
        self.oracle.next = next;
        true
    }
}

#[test]
fn a_failed_sync_is_never_followed_by_an_acknowledgement_of_what_it_lost() {
    let mut rewrites = 0;
    for seed in 0..150 {
        let mut world = World::new(seed);
        let mut spool = world.start();
        for _ in 0..4 {
            let fail_in = 1 + world.random.below(12);
            world.files.faults(|faults| faults.fail_syncs_in = vec![fail_in]);
            world.work(&mut spool, 12);
        }
        world.files.faults(|faults| faults.fail_syncs_in.clear());
        if spool.state() != StorageState::Failed {
            world.drain(&mut spool);
        }
        rewrites += spool.counters().rewrites;
        drop(spool);
        if seed % 2 == 0 {
            world.files.power_cut();
        }
        drop(world.start());
    }
    assert!(rewrites > 100, "{rewrites}");
}

#[test]
fn when_the_second_segment_fails_too_nothing_is_acknowledged_until_a_restart() {
    let mut world = World::new(1);
    let mut spool = world.start();
    world.work(&mut spool, 5);
    world.files.faults(|faults| faults.fail_every_sync = true);
    let acknowledged = world.oracle.acknowledged.clone();
    while spool.state() == StorageState::Accepting {
        world.work(&mut spool, 1);
    }
    assert_eq!(spool.state(), StorageState::Failed);
    assert!(spool.take_notices().iter().any(|notice| matches!(notice, Notice::Failed { .. })));
    world.files.faults(|faults| faults.fail_every_sync = false);
    world.work(&mut spool, 20);
    assert_eq!(spool.state(), StorageState::Failed, "for good");
    assert_eq!(world.oracle.acknowledged, acknowledged);
    assert!(spool.close(0).is_err());
    world.files.power_cut();
    let mut spool = world.start();
    world.work(&mut spool, 20);
    world.drain(&mut spool);
}

#[test]
fn a_full_disk_stops_publishing_heals_by_itself_and_skips_nothing() {
    for seed in 0..150 {
        for sparse in [false, true] {
            let mut world = World::new(seed);
            world.files.faults(|faults| faults.sparse = sparse);
            let mut spool = world.start();
            world.work(&mut spool, 10);
            let mut full = 0;
            for _ in 0..3 {
                let capacity = world.files.used_bytes() + world.random.below(9_000);
                world.files.faults(|faults| faults.capacity_bytes = Some(capacity));
                world.work(&mut spool, 40);
                full += u32::from(spool.state() == StorageState::DiskFull);
                if world.random.one_in(3) {
                    drop(spool); // a restart on the full disk, if it has room for its own files
                    world.files.faults(|faults| faults.capacity_bytes = None);
                    world.files.power_cut();
                    spool = world.start();
                }
                world.files.faults(|faults| faults.capacity_bytes = None);
                world.drain(&mut spool);
            }
            assert!(full > 0, "seed {seed}: the disk never filled");
            spool.close(0).unwrap();
            let (spool, recovered, _) = reopen(&world.files, small());
            assert!(recovered.clean);
            world.oracle.recover(&recovered, &replayed(&spool));
        }
    }
}

#[test]
fn a_start_on_a_full_disk_serves_what_is_there_and_takes_events_when_there_is_room() {
    let mut world = World::new(5);
    let mut spool = world.start();
    world.work(&mut spool, 30);
    world.drain(&mut spool);
    drop(spool);
    // Room for META, not for a segment: what a start leaves, less the segment it begins.
    let trial = world.files.fork(1);
    drop(reopen(&trial, small()));
    let capacity = trial.used_bytes() - 4_096 + 500;
    world.files.faults(|faults| faults.capacity_bytes = Some(capacity));
    let mut spool = world.start();
    assert_eq!(spool.state(), StorageState::DiskFull);
    world.files.faults(|faults| faults.capacity_bytes = None);
    world.drain(&mut spool);
    world.work(&mut spool, 10);
    world.drain(&mut spool);
    drop(spool);
    drop(world.start());
}

#[test]
fn a_failed_sync_leaves_its_segment_for_a_new_one() {
    let files = SimFiles::new(1);
    let (mut spool, recovered, _) = reopen(&files, small());
    let lineage = recovered.current_lineage;
    store(&mut spool, 1, vec![event("a", lineage, 1, 50)], 0);
    files.faults(|faults| faults.fail_syncs_in = vec![1]);
    let (acked, state) = store(&mut spool, 2, vec![event("a", lineage, 2, 50)], 0);
    assert_eq!((acked.len(), state), (1, StorageState::Accepting));
    let old = files.content(&crate::format::segment_name(1)).unwrap();
    assert_eq!(
        old.len(),
        64 + 40 + event("a", lineage, 1, 50).size() + 8,
        "ends where it was synced"
    );
    assert!(files.content(&crate::format::segment_name(2)).is_some());
    let notices = spool.take_notices();
    assert!(matches!(notices[..], [Notice::Rewriting { .. }]), "{notices:?}");
    // The new one's header syncs, its first round does not: that is for good.
    files.faults(|faults| faults.fail_syncs_in = vec![1, 3]);
    let (acked, state) = store(&mut spool, 3, vec![event("a", lineage, 3, 50)], 0);
    assert_eq!((acked.len(), state), (0, StorageState::Failed));
}

#[test]
fn a_clean_stop_survives_a_power_cut_right_after_it() {
    for seed in 0..40 {
        let mut world = World::new(seed);
        let mut spool = world.start();
        world.work(&mut spool, 20);
        world.drain(&mut spool);
        let lineage = spool.lineage();
        spool.close(0).unwrap();
        world.files.power_cut();
        let (spool, recovered, _) = reopen(&world.files, small());
        assert!(recovered.clean && recovered.current_lineage == lineage, "seed {seed}");
        world.oracle.recover(&recovered, &replayed(&spool));
    }
}

#[test]
fn a_consumed_clean_marker_does_not_come_back_with_a_power_cut() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        let mut spool = world.start();
        world.work(&mut spool, 20);
        world.drain(&mut spool);
        spool.close(0).unwrap();
        // No room for a segment: nothing after the removal syncs the directory.
        let used = world.files.used_bytes();
        world.files.faults(|faults| faults.capacity_bytes = Some(used));
        let (spool, recovered, _) = reopen(&world.files, small());
        assert!(recovered.clean);
        drop(spool);
        world.files.power_cut();
        world.files.faults(|faults| faults.capacity_bytes = None);
        let (_, recovered, _) = reopen(&world.files, small());
        assert!(!recovered.clean, "seed {seed}");
    }
}

#[test]
fn power_cuts_during_retention_leave_a_row_of_segments_without_holes() {
    let mut options = small();
    options.retention.age_s = Some(1_000);
    let mut removed = 0;
    for seed in 0..60 {
        let files = SimFiles::new(seed);
        let (mut spool, recovered, _) = reopen(&files, options);
        let lineage = recovered.current_lineage;
        let stored: Vec<Event> = (1..=200).map(|i| event("a", lineage, i, 150)).collect();
        store(&mut spool, 1, stored.clone(), 0);
        let cut_in = 1 + Rng::new(seed).below(40);
        files.faults(|faults| faults.power_off_in = Some(cut_in));
        spool.maintain(2_000_000_000);
        drop(spool);
        files.power_cut();
        let (spool, _, _) = reopen(&files, options);
        let left = replayed(&spool);
        assert_eq!(left, stored[200 - left.len()..], "seed {seed}");
        removed += 200 - left.len();
    }
    assert!(removed > 1_000);
}

#[test]
fn a_full_disk_is_not_tried_again_before_its_time() {
    let world = World::new(1);
    let (mut spool, _, _) = reopen(&world.files, small());
    world.files.faults(|faults| faults.capacity_bytes = Some(0));
    while !spool.is_blocked() {
        let (lineage, offset) = (spool.lineage(), spool.end_seq());
        store(&mut spool, offset, vec![event("a", lineage, offset, 500)], 0);
    }
    let operations = world.files.operations();
    for _ in 0..100 {
        spool.sync(crate::spool::RETRY_US - 1, &mut Vec::new());
        spool.maintain(crate::spool::RETRY_US - 1);
    }
    assert_eq!(world.files.operations(), operations);
    spool.sync(crate::spool::RETRY_US, &mut Vec::new());
    assert!(world.files.operations() > operations);
}

#[test]
fn the_same_seed_gives_the_same_disk() {
    let run = |seed| {
        let mut world = World::new(seed);
        let mut spool = world.start();
        world.work(&mut spool, 50);
        world.files.power_cut();
        // The checkpoint's order of channels is a hash table's, and means nothing.
        let names = world.files.list().unwrap().into_iter().map(|(name, _)| name);
        let names = names.filter(|name| name != crate::checkpoint::NAME);
        let crc = |name: &String| crc32c::crc32c(&world.files.content(name).unwrap());
        names.map(|name| (crc(&name), name)).collect::<Vec<_>>()
    };
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4));
}
