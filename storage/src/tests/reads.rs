//! Reads against brute force: whatever was stored and synced, filtered one by one.

use super::*;
use crate::format::segment_name;
use crate::read::{Bound, HistoryRead, ReadError};
use crate::sim_files::{Rng, SimFiles};
use crate::{Answer, Busy, Pump, Query, ReadPool, StorageHandle, StorageRing};
use proto::channel::ChannelName;
use std::ops::ControlFlow;
use std::sync::{Arc, mpsc};

/// A spool with several channels, two incarnations of one of them, and unordered event times.
fn filled(files: &SimFiles, seed: u64, count: u64) -> (Spool<SimFiles>, Vec<Event>) {
    let (mut spool, recovered, _) = reopen(files, Options { segment_bytes: 30_000, ..small() });
    let mut random = Rng::new(seed);
    let mut next = [1_u64; 5];
    let mut all = Vec::new();
    for seq in 1..=count {
        let channel = random.below(5) as usize;
        if channel == 2 && seq == count / 2 {
            next[2] = 1;
        }
        let incarnation = if channel == 2 && seq >= count / 2 { 2 } else { 1 };
        if incarnation == 2 && all.iter().all(|e: &Event| e.position().epoch.incarnation() == 1) {
            next[2] = 1;
        }
        let epoch = Epoch::new(recovered.current_lineage, incarnation);
        let time_us = (seq * 10 + random.below(200)) as i64;
        let size = random.below(60) as usize;
        let event = event_at(&format!("c{channel}"), epoch, next[channel], time_us, size);
        next[channel] += 1;
        all.push(event.clone());
        store(&mut spool, seq, vec![event], 0);
    }
    (spool, all)
}

fn brute(
    all: &[Event],
    channel: &str,
    incarnation: Option<u32>,
    from: Bound,
    to: Bound,
    limit: usize,
) -> Vec<Event> {
    let inside = |event: &&Event| {
        let from = match from {
            Bound::Open => true,
            Bound::Offset(offset) => event.offset() >= offset,
            Bound::TimeUs(time) => event.time_us() >= time,
        };
        let to = match to {
            Bound::Open => true,
            Bound::Offset(offset) => event.offset() <= offset,
            Bound::TimeUs(time) => event.time_us() <= time,
        };
        let of = incarnation.is_none_or(|i| event.position().epoch.incarnation() == i);
        event.channel() == channel && from && to && of
    };
    all.iter().filter(inside).take(limit).cloned().collect()
}

fn read(spool: &Spool<SimFiles>, read: HistoryRead) -> Vec<Event> {
    let mut events = Vec::new();
    let reader = spool.reader();
    let each = &mut |block: Vec<Event>| {
        events.extend(block);
        ControlFlow::Continue(())
    };
    reader.history(read, each).unwrap();
    events
}

fn bound(random: &mut Rng, end: u64) -> Bound {
    match random.below(3) {
        0 => Bound::Open,
        1 => Bound::Offset(random.below(end)),
        _ => Bound::TimeUs(random.below(end * 10) as i64),
    }
}

#[test]
fn every_read_gives_what_brute_force_gives() {
    let files = SimFiles::new(1);
    let (spool, all) = filled(&files, 1, 3_000);
    assert!(spool.counters().segments > 5);
    let check = |spool: &Spool<SimFiles>, all: &[Event], seed| {
        let mut random = Rng::new(seed);
        for _ in 0..150 {
            let name = format!("c{}", random.below(6)); // c5 does not exist
            let incarnation = [None, Some(1), Some(2)][random.below(3) as usize];
            let (from, to) = (bound(&mut random, 3_000), bound(&mut random, 3_000));
            let limit = [0, 1, 10, 100_000][random.below(4) as usize];
            let channel = ChannelName::new(&name).unwrap();
            let request = HistoryRead::new(channel, incarnation, from, to, limit);
            let expected = brute(all, &name, incarnation, from, to, limit as usize);
            assert_eq!(read(spool, request.clone()), expected, "{request:?}");
        }
    };
    check(&spool, &all, 1);
    drop(spool);
    // Again from the side files, and again without them.
    let options = Options { segment_bytes: 30_000, ..small() };
    let (spool, _, _) = reopen(&files, options);
    check(&spool, &all, 2);
    drop(spool);
    for (name, _) in files.list().unwrap() {
        if name.ends_with(".idx") {
            files.edit(&name, |bytes| bytes.truncate(10));
        }
    }
    let (spool, _, _) = reopen(&files, options);
    check(&spool, &all, 3);
}

#[test]
fn a_large_read_comes_in_bounded_blocks_and_new_events_do_not_lengthen_it() {
    let files = SimFiles::new(2);
    let options = Options { segment_bytes: 1 << 20, round_bytes_max: 100_000, ..small() };
    let (mut spool, recovered, _) = reopen(&files, options);
    let lineage = recovered.current_lineage;
    let all: Vec<Event> = (1..=3_000).map(|offset| event("a", lineage, offset, 1_000)).collect();
    store(&mut spool, 1, all.clone(), 0);
    let reader = spool.reader();
    let channel = ChannelName::new("a").unwrap();
    let mut next = Some(HistoryRead::new(channel, None, Bound::Open, Bound::Open, u32::MAX));
    let (mut events, mut blocks) = (Vec::new(), 0);
    while let Some(read) = next {
        let block = reader.step(read).unwrap();
        let bytes: usize = block.events.iter().map(Event::size).sum();
        assert!(bytes <= crate::read::BLOCK_BYTES_MAX + 1_100);
        events.extend(block.events);
        assert_eq!(block.newest, events.last().map(Event::position));
        (next, blocks) = (block.next, blocks + 1);
        let late = event("a", lineage, 3_000 + blocks, 1_000);
        store(&mut spool, blocks + 1, vec![late], 0);
    }
    assert_eq!(events, all);
    assert!(blocks > 10);
}

#[test]
fn only_synced_events_are_read() {
    let files = SimFiles::new(3);
    let (mut spool, recovered, _) = reopen(&files, small());
    files.faults(|faults| faults.capacity_bytes = Some(0));
    let stored: Vec<Event> =
        (1..=60).map(|offset| event("a", recovered.current_lineage, offset, 100)).collect();
    store(&mut spool, 1, stored.clone(), 0);
    let channel = ChannelName::new("a").unwrap();
    let request = HistoryRead::new(channel, None, Bound::Open, Bound::Open, 1_000);
    let found = read(&spool, request);
    assert_eq!(found.len() as u64, spool.end_seq() - 1);
    assert!(!found.is_empty() && found.len() < 60);
    assert_eq!(found, stored[..found.len()]);
}

#[test]
fn retention_before_the_first_event_moves_the_beginning_and_later_ends_the_read() {
    let files = SimFiles::new(4);
    let mut options = Options { segment_bytes: 400_000, round_bytes_max: 100_000, ..small() };
    options.retention.bytes = 1_700_000;
    let (mut spool, recovered, _) = reopen(&files, options);
    let lineage = recovered.current_lineage;
    let batch = |from: u64| (from..from + 500).map(|i| event("a", lineage, i, 1_000)).collect();
    store(&mut spool, 1, batch(1), 0);
    let reader = spool.reader();
    let channel = ChannelName::new("a").unwrap();
    let request = HistoryRead::new(channel, None, Bound::Open, Bound::Open, 100_000);
    let first = reader.step(request.clone()).unwrap();
    assert_eq!(first.events[0].offset(), 1);
    store(&mut spool, 2, batch(501), 0);
    store(&mut spool, 3, batch(1_001), 0);
    assert!(spool.counters().segments_removed > 0);
    let error = reader.step(first.next.unwrap()).unwrap_err();
    assert!(matches!(error, ReadError::Expired), "{error}");
    let mut offsets = Vec::new();
    let each = &mut |events: Vec<Event>| {
        offsets.extend(events.iter().map(Event::offset));
        ControlFlow::Continue(())
    };
    reader.history(request, each).unwrap();
    assert!(offsets[0] > 1 && offsets.last() == Some(&1_500));
    assert!(offsets.windows(2).all(|pair| pair[0] + 1 == pair[1]));
}

#[test]
fn retention_of_all_that_a_read_had_left_is_not_taken_for_its_end() {
    let files = SimFiles::new(8);
    let mut options = Options { segment_bytes: 400_000, round_bytes_max: 100_000, ..small() };
    options.retention.bytes = 900_000;
    let (mut spool, recovered, _) = reopen(&files, options);
    let lineage = recovered.current_lineage;
    let batch = |from: u64| (from..from + 500).map(|i| event("a", lineage, i, 1_000)).collect();
    store(&mut spool, 1, batch(1), 0);
    let reader = spool.reader();
    let channel = ChannelName::new("a").unwrap();
    let request = HistoryRead::new(channel, None, Bound::Open, Bound::Open, 100_000);
    let first = reader.step(request).unwrap();
    assert!(first.events.last().unwrap().offset() < 500);
    for seq in 2..6 {
        store(&mut spool, seq, batch(seq * 500 - 499), 0);
    }
    let error = reader.step(first.next.unwrap()).unwrap_err();
    assert!(matches!(error, ReadError::Expired), "{error}");
}

#[test]
fn a_store_that_goes_on_by_position_finds_what_it_needs_in_the_read() {
    let channel = ChannelName::new("a").unwrap();
    let read = HistoryRead::new(channel, Some(3), Bound::Offset(1), Bound::TimeUs(9), 10);
    assert_eq!((read.channel().as_str(), read.incarnation(), read.passed()), ("a", Some(3), None));
    let passed = Position { epoch: Epoch::new(1, 3), offset: 4 };
    let rest = read.rest(passed, 4);
    assert_eq!((rest.passed(), rest.limit()), (Some(passed), 6));
    assert_eq!(rest.range(), (Bound::Offset(1), Bound::TimeUs(9)));
}

#[test]
fn damage_is_said_with_its_place_and_never_skipped() {
    let files = SimFiles::new(5);
    let (spool, all) = filled(&files, 5, 500);
    files.edit(&segment_name(1), |bytes| bytes[1_000] ^= 4);
    let channel = ChannelName::new(all[0].channel()).unwrap();
    let request = HistoryRead::new(channel, None, Bound::Open, Bound::Open, 100_000);
    let each = &mut |_| ControlFlow::Continue(());
    let error = spool.reader().history(request, each).unwrap_err();
    let ReadError::Damaged { file, at, .. } = error else { panic!("{error}") };
    assert_eq!(file, segment_name(1));
    assert!((64..1_000).contains(&at));
}

#[test]
fn the_pool_refuses_when_its_queue_is_full_and_answers_everything_it_took() {
    let files = SimFiles::new(6);
    let (spool, all) = filled(&files, 6, 500);
    let pool = ReadPool::start(&spool.reader(), 1, 2).unwrap();
    let channel = ChannelName::new("c0").unwrap();
    let request = HistoryRead::new(channel, None, Bound::Open, Bound::Open, 10);
    let (started, has_started) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let hold = Box::new(move |_| {
        started.send(()).unwrap();
        let _ = released.recv();
    });
    let query = || Query::History(request.clone());
    pool.submit(query(), hold).unwrap();
    has_started.recv().unwrap();
    let (answers, answered) = mpsc::channel();
    let submit = || {
        let answers = answers.clone();
        let reply = Box::new(move |answer: Result<Answer, ReadError>| {
            let Ok(Answer::History(block)) = answer else { panic!("{answer:?}") };
            answers.send(block.events).unwrap();
        });
        pool.submit(query(), reply)
            .map_err(|Busy(query)| assert!(matches!(*query, Query::History(_))))
    };
    assert_eq!([submit(), submit(), submit()], [Ok(()), Ok(()), Err(())]);
    release.send(()).unwrap();
    let expected = brute(&all, "c0", None, Bound::Open, Bound::Open, 10);
    assert_eq!(answered.recv().unwrap(), expected);
    assert_eq!(answered.recv().unwrap(), expected);
}

#[test]
fn readers_and_the_writer_thread_work_at_the_same_time() {
    let files = SimFiles::new(7);
    let mut options = small();
    options.retention.bytes = 60_000;
    let (spool, recovered, _) = reopen(&files, options);
    let lineage = recovered.current_lineage;
    let reader = spool.reader();
    let ring = Arc::new(StorageRing::new(1, 64, 1 << 20));
    let (told, tell) = mpsc::channel();
    let notify = Arc::new(move |shard| told.send(shard).unwrap_or_default());
    let handle =
        StorageHandle::start(Pump::new(spool, ring.clone(), notify, Box::new(|_| {}))).unwrap();
    let reading = std::thread::spawn(move || {
        let channel = ChannelName::new("a").unwrap();
        let mut newest = 0;
        while newest < 2_000 {
            let request =
                HistoryRead::new(channel.clone(), None, Bound::Open, Bound::Open, 100_000);
            let mut last = None;
            let each = &mut |events: Vec<Event>| {
                for event in events {
                    assert!(last.is_none_or(|last| event.offset() == last + 1), "a hole");
                    last = Some(event.offset());
                }
                ControlFlow::Continue(())
            };
            match reader.history(request, each) {
                Ok(_) => {
                    assert!(last.unwrap_or(0) >= newest, "went back");
                    newest = last.unwrap_or(0);
                }
                Err(ReadError::Expired) => {}
                Err(e) => panic!("{e}"),
            }
        }
    });
    for seq in 1..=400_u64 {
        let events = (0..5).map(|i| event("a", lineage, (seq - 1) * 5 + i + 1, 100)).collect();
        let mut batch = StoreBatch { seq, events };
        while let Err(back) = ring.push(0, batch) {
            batch = back;
            tell.recv().unwrap();
        }
    }
    reading.join().unwrap();
    while ring.synced_seq(0) < 400 {
        tell.recv().unwrap();
    }
    assert_eq!(ring.unsynced_bytes(), 0);
    let report = handle.stop();
    assert!(report.clean, "{report:?}");
    let (_, recovered, _) = reopen(&files, options);
    assert!(recovered.clean);
    assert_eq!(recovered.channels[0].last_offset, 2_000);
}
