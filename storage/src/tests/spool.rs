//! The spool on a disk that works: rolling, restarting, retention, refusals.

use super::*;
use crate::sim_files::SimFiles;

fn events(lineage: u32, offsets: std::ops::RangeInclusive<u64>) -> Vec<Event> {
    offsets.map(|offset| event("a", lineage, offset, 100)).collect()
}

#[test]
fn what_was_synced_is_there_after_a_clean_stop_and_the_lineage_goes_on() {
    let files = SimFiles::new(1);
    let (mut spool, first, notices) = reopen(&files, small());
    assert_eq!((first.clean, first.lineages.len()), (false, 1));
    assert_eq!(notices, [], "a first start is nothing to talk about");
    let stored = events(first.current_lineage, 1..=100);
    let (acked, state) = store(&mut spool, 1, stored.clone(), 0);
    assert_eq!(acked.iter().map(|ack| ack.seq).collect::<Vec<_>>(), [1]);
    assert_eq!(state, StorageState::Accepting);
    assert_eq!(replayed(&spool), stored);
    assert!(spool.counters().segments > 3, "it rolled");
    spool.close(77).unwrap();

    let (spool, second, notices) = reopen(&files, small());
    assert!(second.clean);
    assert_eq!(second.lineages, first.lineages);
    assert_eq!(second.incarnation_max, 77, "incarnations that stored nothing are not reused");
    assert_eq!(second.channels.len(), 1);
    assert_eq!(second.channels[0].last_offset, 100);
    assert_eq!(second.channels[0].tops, [(first.current_lineage, 100)]);
    assert_eq!(replayed(&spool), stored);
    let scanned = notices.iter().filter(|notice| matches!(notice, Notice::Scanning { .. }));
    assert_eq!(scanned.count(), 1, "only the last segment is read: {notices:?}");
}

#[test]
fn a_killed_run_keeps_its_top_and_the_next_has_another_lineage() {
    let files = SimFiles::new(2);
    let mut lineages = Vec::new();
    let mut stored = Vec::new();
    for run in 0..5_u64 {
        let (mut spool, recovered, _) = reopen(&files, small());
        assert!(!recovered.clean);
        lineages.push(recovered.current_lineage);
        assert_eq!(recovered.lineages, lineages);
        if run > 0 {
            let tops: Vec<_> =
                lineages[..run as usize].iter().zip(1..).map(|(l, i)| (*l, i * 10)).collect();
            assert_eq!(recovered.channels[0].tops, tops);
        }
        let batch = events(recovered.current_lineage, run * 10 + 1..=run * 10 + 10);
        stored.extend(batch.clone());
        store(&mut spool, 1, batch, 0);
        assert_eq!(replayed(&spool), stored);
        // Dropped without `close`: a kill.
    }
    lineages.sort_unstable();
    lineages.dedup();
    assert_eq!(lineages.len(), 5);
}

#[test]
fn an_event_larger_than_a_segment_gets_its_own() {
    let files = SimFiles::new(3);
    let (mut spool, recovered, _) = reopen(&files, small());
    let lineage = recovered.current_lineage;
    let sizes = [10, 50_000, 10, 3_900, 4_096, 10];
    let stored: Vec<Event> =
        sizes.iter().zip(1..).map(|(size, i)| event("a", lineage, i, *size)).collect();
    let (acked, _) = store(&mut spool, 1, stored.clone(), 0);
    assert_eq!(acked.len(), 1);
    assert_eq!(replayed(&spool), stored);
    drop(spool);
    let (spool, _, _) = reopen(&files, small());
    assert_eq!(replayed(&spool), stored);
}

#[test]
fn batches_of_all_shards_are_acknowledged_once_each_and_in_order() {
    let files = SimFiles::new(4);
    let (mut spool, recovered, _) = reopen(&files, small());
    for seq in 1..=50 {
        for shard in 0..3_u16 {
            let name = format!("c{shard}");
            let count = (seq + u64::from(shard)) % 4; // empty batches too
            let batch = (0..count).map(|i| {
                event(&name, recovered.current_lineage, seq * 10 + i, (seq * 37 % 900) as usize)
            });
            spool.append(shard, StoreBatch { seq, events: batch.collect() });
        }
    }
    let (acked, _) = drain(&mut spool, 0);
    for shard in 0..3 {
        let seqs: Vec<u64> =
            acked.iter().filter(|ack| ack.shard == shard).map(|ack| ack.seq).collect();
        assert_eq!(seqs, (1..=50).collect::<Vec<_>>());
    }
    assert_eq!(spool.waiting_bytes(), 0);
}

#[test]
fn a_second_server_on_the_directory_is_refused_until_the_first_is_gone() {
    let files = SimFiles::new(5);
    let (spool, _, _) = reopen(&files, small());
    let refused = refusal(&files, small());
    assert!(matches!(refused, OpenError::Locked { .. }), "{refused}");
    drop(spool);
    reopen(&files, small());
}

#[test]
fn retention_by_bytes_removes_the_oldest_and_forgets_silent_channels() {
    let files = SimFiles::new(6);
    let mut options = small();
    options.retention.bytes = 20_000;
    let (mut spool, recovered, _) = reopen(&files, options);
    let lineage = recovered.current_lineage;
    store(&mut spool, 1, vec![event("once", lineage, 1, 10)], 0);
    for i in 0..20 {
        store(&mut spool, i + 2, events(lineage, i * 10 + 1..=i * 10 + 10), 0);
        assert!(files.used_bytes() < 20_000 + 4_096 + 6_000, "{}", files.used_bytes());
    }
    assert!(spool.counters().segments_removed > 3);
    let left = replayed(&spool);
    assert_eq!(left.last().map(Event::offset), Some(200));
    assert!(left.windows(2).all(|pair| pair[0].offset() + 1 == pair[1].offset()));
    drop(spool);
    let (_, recovered, _) = reopen(&files, options);
    let names: Vec<&str> = recovered.channels.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["a"], "a channel without events is forgotten");
}

#[test]
fn retention_by_age_counts_from_a_segments_last_event_and_waits_for_sinks() {
    const SECOND: i64 = 1_000_000;
    let files = SimFiles::new(7);
    let mut options = small();
    options.retention.age_s = Some(100);
    let (mut spool, recovered, _) = reopen(&files, options);
    let lineage = recovered.current_lineage;
    let sink = spool.register_sink(0);
    store(&mut spool, 1, events(lineage, 1..=60), 10 * SECOND);
    assert!(spool.counters().segments > 2);
    spool.maintain(109 * SECOND);
    assert_eq!(replayed(&spool).len(), 60, "not old enough");
    // A quiet segment is ended too: with time alone everything goes.
    spool.maintain(300 * SECOND);
    assert_eq!(replayed(&spool).len(), 60, "past its age, but not confirmed");
    spool.confirm(sink, 45);
    spool.maintain(302 * SECOND);
    let left = replayed(&spool).len();
    assert!((16..60).contains(&left), "{left}: confirmed segments went");
    spool.confirm(sink, 61);
    spool.maintain(304 * SECOND);
    spool.maintain(500 * SECOND);
    assert_eq!(replayed(&spool).len(), 0);
    drop(spool);
    let (spool, recovered, _) = reopen(&files, options);
    assert_eq!(recovered.channels, []);
    assert_eq!(spool.end_seq(), 61, "numbers go on");
}

#[test]
fn at_the_hard_cap_with_unconfirmed_segments_publishing_stops_until_the_sink_confirms() {
    let files = SimFiles::new(8);
    let mut options = small();
    options.retention.bytes = 12_000;
    options.retention.hard_bytes_max = 20_000;
    let (mut spool, recovered, _) = reopen(&files, options);
    let lineage = recovered.current_lineage;
    let sink = spool.register_sink(0);
    let stored = events(lineage, 1..=200);
    let (acked, state) = store(&mut spool, 1, stored.clone(), 0);
    assert_eq!((acked.len(), state), (0, StorageState::SpoolFull));
    assert!(files.used_bytes() <= 20_000 + 2_000, "{}", files.used_bytes());
    let mut now_us = 0;
    let mut acked = Vec::new();
    for _ in 0..100 {
        spool.confirm(sink, spool.end_seq());
        now_us += 300_000;
        acked.extend(drain(&mut spool, now_us).0);
    }
    assert_eq!(acked.len(), 1, "what waited was written");
    assert_eq!(spool.maintain(now_us + 2_000_000), StorageState::Accepting);
    assert_eq!(replayed(&spool).last(), stored.last());
}

#[test]
fn replay_is_bounded_and_gives_the_newest() {
    let files = SimFiles::new(9);
    let (mut spool, recovered, _) = reopen(&files, small());
    let stored = events(recovered.current_lineage, 1..=100);
    store(&mut spool, 1, stored.clone(), 0);
    for bytes_max in [0, 1, 500, 5_000, 10_000] {
        let mut newest = Vec::new();
        let count = spool.replay_tail(bytes_max, &mut |event| newest.push(event)).unwrap();
        assert_eq!(count, newest.len() as u64);
        assert!(newest.iter().map(|event| event.size() as u64).sum::<u64>() <= bytes_max);
        assert_eq!(newest, stored[100 - newest.len()..], "{bytes_max}");
        assert!(bytes_max < 500 || !newest.is_empty());
    }
}

#[test]
fn a_channel_table_that_is_full_lets_the_quietest_go_and_says_so() {
    let files = SimFiles::new(10);
    let options = Options { channels_max: 16, ..small() };
    let (mut spool, recovered, _) = reopen(&files, options);
    let lineage = recovered.current_lineage;
    let batch = (0..100).map(|i| event(&format!("c{i}"), lineage, 1, 10)).collect();
    store(&mut spool, 1, batch, 0);
    let counters = spool.counters();
    assert!(counters.channels <= 16 && counters.channels_evicted >= 84);
    let memory = counters.memory_bytes;
    assert!((1_000..200_000).contains(&memory), "bounded and said: {memory}");
}
