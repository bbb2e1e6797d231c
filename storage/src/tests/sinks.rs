//! What every sink stands on: reading by number, confirming, and what a confirmation releases.

use super::*;
use crate::feed::Feed;
use crate::sim_files::SimFiles;
use crate::sink::{Progress, Source};
use crate::{Pump, StorageRing};
use std::sync::{Arc, Mutex};

fn batch(seq: u64, offsets: std::ops::Range<u64>) -> StoreBatch {
    StoreBatch { seq, events: offsets.map(|offset| event("a", 1, offset, 100)).collect() }
}

/// Every event from `from` on, in runs of at most `rows`.
fn read_all<F: Files>(source: &Source<F>, from: u64, rows: usize, bytes: u64) -> Vec<Event> {
    let mut all = Vec::new();
    loop {
        let run = source.read(from + all.len() as u64, rows, bytes).unwrap();
        assert_eq!(run.from, from + all.len() as u64);
        if run.events.is_empty() {
            return all;
        }
        all.extend(run.events);
    }
}

#[test]
fn a_sink_reads_the_same_from_memory_and_from_segments_wherever_it_begins() {
    let files = SimFiles::new(3);
    let (mut spool, _, _) = reopen(&files, small());
    let feed = spool.feed(1_000);
    for seq in 1..=40 {
        store(&mut spool, seq, batch(seq, seq * 5..seq * 5 + 5).events, 0);
    }
    let everything = replayed(&spool);
    assert_eq!(everything.len(), 200);
    assert!(spool.counters().segments > 3, "several segments, the last one active");
    let from_spool = Source::new(Arc::new(Feed::new(201, 0)), spool.reader());
    let mixed = Source::new(feed, spool.reader());
    assert_eq!((mixed.first_seq(), mixed.end_seq()), (1, 201));
    for (rows, bytes) in [(1, u64::MAX), (7, u64::MAX), (1_000, 1), (1_000, 900), (1_000, 1 << 20)]
    {
        assert_eq!(read_all(&mixed, 1, rows, bytes), everything, "{rows} rows, {bytes} bytes");
    }
    for from in 0..200 {
        let run = from_spool.read(from + 1, 3, u64::MAX).unwrap();
        let end = (from as usize + 3).min(200);
        assert_eq!(run.events, everything[from as usize..end], "from {from}");
    }
    assert!(mixed.sealed_end_seq() < 200 && mixed.sealed_end_seq() > 100);
}

#[test]
fn nobody_is_told_stored_before_the_primary_store_confirmed() {
    let (mut spool, _, _) = reopen(&SimFiles::new(4), small());
    store(&mut spool, 1, batch(1, 1..11).events, 0);
    let base = spool.end_seq();
    let ring = Arc::new(StorageRing::new(2, 16, 1 << 20));
    let told = Arc::new(Mutex::new(Vec::new()));
    let notify = Arc::clone(&told);
    let notify = Arc::new(move |shard| notify.lock().unwrap().push(shard));
    let mut pump = Pump::new(spool, ring.clone(), notify, Box::new(|_| {}));
    assert_eq!(ring.stored_seq(0), Some(0), "the spool is the store while there is no other");
    let progress = Arc::new(Progress::new(3));
    pump.add_sink(Arc::clone(&progress));
    pump.set_primary(Arc::clone(&progress));
    let mut turn = |expected: [Option<u64>; 2]| {
        pump.take();
        pump.round(0);
        pump.maintain(0);
        assert_eq!([ring.stored_seq(0), ring.stored_seq(1)], expected);
    };
    ring.push(0, batch(1, 11..16)).unwrap();
    turn([None, None]);
    assert_eq!(ring.synced_seq(0), 1);
    progress.set_confirmed(base - 1);
    turn([None, None]);
    progress.set_confirmed(base);
    told.lock().unwrap().clear();
    turn([Some(0), Some(0)]);
    assert_eq!(*told.lock().unwrap(), [0, 1], "a publisher may wait on either shard");
    ring.push(1, batch(1, 16..21)).unwrap();
    ring.push(0, batch(2, 21..26)).unwrap();
    turn([Some(0), Some(0)]);
    progress.set_confirmed(base + 5);
    turn([Some(1), Some(0)]);
    progress.set_confirmed(base + 15);
    turn([Some(2), Some(1)]);
}

#[test]
fn segments_stay_until_the_cursor_file_has_what_was_confirmed() {
    let options = Options {
        retention: Retention { age_s: None, bytes: 9_000, hard_bytes_max: 40_000 },
        ..small()
    };
    let files = SimFiles::new(5);
    let (spool, _, _) = reopen(&files, options);
    let ring = Arc::new(StorageRing::new(1, 16, 1 << 20));
    let mut pump = Pump::new(spool, ring.clone(), Arc::new(|_| ()), Box::new(|_| {}));
    let progress = Arc::new(Progress::new(0));
    pump.add_sink(Arc::clone(&progress));
    let mut now_us = 0;
    let mut turn = |pump: &mut Pump<SimFiles>, seq: u64| {
        let _ = ring.push(0, batch(seq, seq * 10..seq * 10 + 10)); // refused while it is full
        now_us += 2_000_000;
        pump.take();
        pump.round(now_us);
        pump.maintain(now_us)
    };
    let mut seq = 1;
    while turn(&mut pump, seq) == StorageState::Accepting {
        progress.set_confirmed(pump.spool().end_seq());
        seq += 1;
        assert!(seq < 100, "the hard cap is never met");
    }
    assert_eq!(pump.spool().state(), StorageState::SpoolFull);
    assert_eq!(pump.spool().counters().segments_removed, 0, "confirmed, but not durably");
    progress.set_durable(pump.spool().end_seq());
    turn(&mut pump, seq + 1);
    turn(&mut pump, seq + 2);
    assert_eq!(pump.spool().state(), StorageState::Accepting);
    assert!(pump.spool().counters().segments_removed > 0);
}

#[test]
fn a_quiet_segment_is_sealed_when_its_first_event_is_old_enough() {
    let second = 1_000_000;
    let sealed_at = |seal_age_s: Option<u64>, now_us: i64| {
        let options = Options { seal_age_s, ..small() };
        let (mut spool, ..) = reopen(&SimFiles::new(6), options);
        let source = Source::new(spool.feed(0), spool.reader());
        spool.maintain(100 * second);
        let at = |offset, time_us| event_at("a", Epoch::new(1, 1), offset, time_us, 10);
        store(&mut spool, 1, vec![at(1, 100 * second)], 100 * second);
        store(&mut spool, 2, vec![at(2, 105 * second)], 105 * second);
        spool.maintain(now_us);
        let segments = spool.counters().segments;
        spool.maintain(now_us + 1_000 * second);
        assert_eq!(spool.counters().segments, if seal_age_s.is_some() { 2 } else { 1 });
        (segments, source.sealed_end_seq())
    };
    assert_eq!(sealed_at(Some(10), 110 * second).0, 1);
    assert_eq!(sealed_at(Some(10), 112 * second), (2, 3));
    assert_eq!(sealed_at(None, 112 * second), (1, 0), "nobody waits");
    assert_eq!(sealed_at(Some(10), 50 * second), (2, 3), "the clock was set back");
}
