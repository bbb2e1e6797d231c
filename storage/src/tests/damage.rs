//! Directories that are not as they were left: torn tails are cut, damage to synced data is
//! refused with file, offset and remedy, lost helpers are rebuilt.

use super::*;
use crate::format::{HEADER_BYTES, index_name, segment_name};
use crate::sim_files::SimFiles;

/// Three rounds of two events in one segment, killed. Returns the disk, the segment's bytes up to
/// the last record, the events and the offset where the last round begins.
fn killed() -> (SimFiles, usize, Vec<Event>, usize) {
    let files = SimFiles::new(1);
    let (mut spool, recovered, _) = reopen(&files, small());
    let mut stored = Vec::new();
    for round in 0..3_u64 {
        let batch: Vec<Event> = (1..=2)
            .map(|i| event("a", recovered.current_lineage, round * 2 + i, 20 + i as usize * 13))
            .collect();
        stored.extend(batch.clone());
        store(&mut spool, round + 1, batch, 0);
    }
    drop(spool);
    let content = files.content(&segment_name(1)).unwrap();
    let end = content.iter().rposition(|b| *b != 0).unwrap() + 1;
    let last_round: usize = stored[4..].iter().map(|event| event.size() + 8).sum::<usize>() + 40;
    (files, end, stored, end - last_round)
}

/// Where each event's record ends.
fn ends(stored: &[Event]) -> Vec<usize> {
    let mut at = HEADER_BYTES as usize;
    let end = |(i, event): (usize, &Event)| {
        at += event.size() + 8 + if i % 2 == 0 { 40 } else { 0 };
        at
    };
    stored.iter().enumerate().map(end).collect()
}

#[test]
fn a_tail_torn_at_any_byte_of_the_last_round_keeps_every_whole_event_before_it() {
    let (files, end, stored, round) = killed();
    let ends = ends(&stored);
    assert_eq!(ends.last(), Some(&end));
    for cut in round..=end {
        for zeroed in [false, true] {
            let files = files.fork(cut as u64);
            files.edit(&segment_name(1), |bytes| match zeroed {
                true => bytes[cut..].fill(0),
                false => bytes.truncate(cut),
            });
            let (mut spool, recovered, notices) = reopen(&files, small());
            let whole = ends.iter().filter(|end| **end <= cut).count();
            assert!(whole >= 4);
            assert_eq!(replayed(&spool), stored[..whole], "cut at {cut}");
            assert_eq!(recovered.channels[0].last_offset, whole as u64);
            let torn = notices.iter().any(|notice| matches!(notice, Notice::TornTail { .. }));
            let boundary = cut == round || cut == round + 40 || ends.contains(&cut);
            assert!(torn || boundary || zeroed, "cut at {cut}: {notices:?}");
            // And the directory is whole again.
            let next = event("a", recovered.current_lineage, whole as u64 + 1, 5);
            store(&mut spool, 1, vec![next.clone()], 0);
            drop(spool);
            let (spool, _, notices) = reopen(&files, small());
            assert_eq!(replayed(&spool)[whole..], [next], "{notices:?}");
        }
    }
}

#[test]
fn a_damaged_byte_in_the_last_round_cuts_there_and_before_it_is_refused() {
    let (files, end, stored, round) = killed();
    let ends = ends(&stored);
    for at in HEADER_BYTES as usize..end {
        let files = files.fork(at as u64);
        files.edit(&segment_name(1), |bytes| bytes[at] ^= 0x55);
        // What a later mark proves to be synced is refused; the mark of the last round itself
        // proves it for everything before that round, unless it is what was damaged.
        if at < round {
            let error = refusal(&files, small());
            let OpenError::Damaged { file, at: place, remedy, .. } = &error else {
                panic!("{error}")
            };
            assert_eq!(*file, segment_name(1));
            let record = ends.iter().rposition(|end| *end <= at).map_or(64, |i| ends[i]);
            assert!((*place as usize) <= at && *place as usize >= record, "{at}: {error}");
            assert!(remedy.contains("truncate -s") && remedy.contains("backup"), "{remedy}");
            // The remedy works.
            let cut = *place as usize;
            files.edit(file, |bytes| bytes.truncate(cut));
            let (spool, _, _) = reopen(&files, small());
            let kept = replayed(&spool);
            assert_eq!(kept, stored[..kept.len()]);
        } else {
            let (spool, _, _) = reopen(&files, small());
            let whole = ends.iter().filter(|end| **end <= at).count();
            assert_eq!(replayed(&spool), stored[..whole], "damaged at {at}");
        }
    }
}

#[test]
fn an_event_that_looks_like_a_mark_does_not_turn_a_torn_tail_into_damage() {
    let files = SimFiles::new(2);
    let (mut spool, recovered, _) = reopen(&files, small());
    let mark = crate::format::Mark { salt: 0, at: 64 + 40 + 300, seq: 2 }.encode();
    let data = mark.repeat(20);
    let draft = Draft {
        channel: "a",
        id: "x",
        data: &data,
        data_kind: proto::event::DataKind::Binary,
        ..Draft::default()
    };
    let position = Position { epoch: Epoch::new(recovered.current_lineage, 1), offset: 1 };
    let fake = draft.build().unwrap().place(position, 1);
    store(&mut spool, 1, vec![fake], 0);
    drop(spool);
    files.edit(&segment_name(1), |bytes| bytes[70] ^= 1);
    let (spool, _, _) = reopen(&files, small());
    assert_eq!(replayed(&spool), []);
}

/// Several segments, stopped cleanly or killed.
fn several(clean: bool) -> (SimFiles, Vec<Event>, u32) {
    let files = SimFiles::new(3);
    let (mut spool, recovered, _) = reopen(&files, small());
    let lineage = recovered.current_lineage;
    let stored: Vec<Event> = (1..=100).map(|offset| event("a", lineage, offset, 100)).collect();
    store(&mut spool, 1, stored.clone(), 0);
    if clean {
        spool.close(0).unwrap();
    }
    (files, stored, lineage)
}

fn segments(files: &SimFiles) -> Vec<String> {
    let names = files.list().unwrap().into_iter().map(|(name, _)| name);
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".seg")).collect();
    names.sort();
    names
}

#[test]
fn damage_in_a_sealed_segment_is_refused_where_it_is_read_and_the_remedy_works() {
    let (files, stored, _) = several(true);
    let names = segments(&files);
    assert!(names.len() > 3);
    files.edit(&names[1], |bytes| bytes[500] ^= 1);
    // The checkpoint covers it: the start does not read it, but replay says it and never skips.
    let (spool, _, _) = reopen(&files, small());
    let error = spool.replay_tail(u64::MAX, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains(&names[1]), "{error}");
    drop(spool);
    // Without the checkpoint it is read.
    files.remove(crate::checkpoint::NAME).unwrap();
    let error = refusal(&files, small()).to_string();
    assert!(error.contains(&names[1]) && error.contains("at byte"), "{error}");
    for name in &names[..2] {
        files.remove(name).unwrap();
    }
    let (spool, recovered, _) = reopen(&files, small());
    let kept = replayed(&spool);
    assert!(!recovered.clean && !kept.is_empty());
    assert_eq!(kept, stored[100 - kept.len()..]);
}

#[test]
fn a_missing_segment_is_refused() {
    let (files, _, _) = several(true);
    let names = segments(&files);
    let middle = files.fork(1);
    middle.remove(&names[1]).unwrap();
    middle.remove(crate::checkpoint::NAME).unwrap();
    let error = refusal(&middle, small()).to_string();
    assert!(error.contains(&names[0]) && error.contains("are not there"), "{error}");
    let last = files.fork(2);
    last.remove(names.last().unwrap()).unwrap();
    let error = refusal(&last, small());
    assert!(matches!(error, OpenError::Lost { expected: 101, .. }), "{error}");
    let error = refusal(&last, small());
    assert!(matches!(error, OpenError::Lost { .. }), "a refusal changes nothing: {error}");
}

#[test]
fn a_damaged_checkpoint_means_a_full_scan_a_new_lineage_and_a_new_checkpoint() {
    let (files, stored, lineage) = several(true);
    files.edit(crate::checkpoint::NAME, |bytes| bytes[30] ^= 1);
    let (mut spool, recovered, notices) = reopen(&files, small());
    assert!(notices.contains(&Notice::CheckpointDamaged));
    let scanned = notices.iter().filter(|notice| matches!(notice, Notice::Scanning { .. })).count();
    assert_eq!(scanned, segments(&files).len() - 1, "all but the new one");
    assert!(!recovered.clean && recovered.current_lineage != lineage);
    assert_eq!(recovered.channels[0].tops, [(lineage, 100)]);
    assert_eq!(replayed(&spool), stored);
    spool.maintain(0);
    drop(spool);
    let (_, _, notices) = reopen(&files, small());
    assert!(!notices.contains(&Notice::CheckpointDamaged));
}

#[test]
fn damaged_small_files_cost_a_lineage_and_nothing_else() {
    for name in ["META", "CLEAN"] {
        for remove in [false, true] {
            let (files, stored, lineage) = several(true);
            match remove {
                true => files.remove(name).unwrap(),
                false => assert!(files.edit(name, |bytes| bytes[5] ^= 1)),
            }
            let (spool, recovered, _) = reopen(&files, small());
            assert!(!recovered.clean, "{name}");
            assert_eq!(recovered.lineages[..], [lineage, recovered.current_lineage], "{name}");
            assert_ne!(recovered.current_lineage, lineage);
            assert_eq!(replayed(&spool), stored);
        }
    }
}

#[test]
fn a_checkpoint_of_another_time_is_not_taken_for_the_clean_stops() {
    let (files, stored, lineage) = several(true);
    let older = files.fork(9);
    let (spool, recovered, _) = reopen(&older, small());
    assert!(recovered.clean);
    spool.close(50).unwrap(); // the same events, another highest incarnation
    let checkpoint = older.content(crate::checkpoint::NAME).unwrap();
    files.edit(crate::checkpoint::NAME, |bytes| *bytes = checkpoint);
    let (spool, recovered, _) = reopen(&files, small());
    assert!(!recovered.clean && recovered.current_lineage != lineage);
    assert_eq!(replayed(&spool), stored);
}

#[test]
fn a_mark_that_counts_otherwise_is_damage() {
    let (files, _, _, round) = killed();
    files.edit(&segment_name(1), |bytes| {
        let mark = crate::format::Mark::decode(&bytes[round + 8..round + 40]).unwrap();
        let mark = crate::format::Mark { seq: mark.seq + 1, ..mark };
        bytes[round..round + 40].copy_from_slice(&mark.encode());
    });
    let error = refusal(&files, small()).to_string();
    assert!(error.contains("event 5 is missing") && error.contains(&round.to_string()), "{error}");
}

#[test]
fn what_follows_a_sealed_segment_never_comes_back_as_events() {
    let (files, _, stored, _) = killed();
    // A run that stores nothing leaves an empty segment 7; then bytes appear behind segment 1,
    // as after a failed sync whose truncation was lost.
    let (spool, recovered, _) = reopen(&files, small());
    drop(spool);
    let record = {
        let mut record = Vec::new();
        let ghost = event("a", recovered.lineages[0], 6, 40);
        crate::format::push_record(&mut record, ghost.as_bytes());
        record
    };
    assert!(files.edit(&segment_name(1), |bytes| bytes.extend_from_slice(&record)));
    let (spool, _, _) = reopen(&files, small());
    assert_eq!(replayed(&spool), stored);
    spool.close(0).unwrap(); // segment 7 is empty and goes
    let (spool, recovered, notices) = reopen(&files, small());
    assert!(recovered.clean, "{notices:?}");
    assert_eq!(replayed(&spool), stored);
}

#[test]
fn a_clean_marker_is_used_once() {
    let (files, _, lineage) = several(true);
    let (spool, recovered, _) = reopen(&files, small());
    assert!(recovered.clean);
    drop(spool); // a kill, before anything was stored
    let (_, recovered, _) = reopen(&files, small());
    assert!(!recovered.clean && recovered.current_lineage != lineage);
}

#[test]
fn missing_or_damaged_indexes_change_no_answer() {
    let (files, stored, _) = several(true);
    for name in segments(&files) {
        let first_seq = crate::format::parse_name(&name, "seg").unwrap();
        let index = index_name(first_seq);
        if first_seq.is_multiple_of(2) {
            let _ = files.remove(&index);
        } else {
            files.edit(&index, |bytes| bytes[40] ^= 1);
        }
    }
    let (spool, _, _) = reopen(&files, small());
    assert_eq!(replayed(&spool), stored);
}

#[test]
fn a_newer_format_is_refused_as_such() {
    let (files, _, _) = several(false);
    let name = segments(&files)[0].clone();
    files.edit(&name, |bytes| {
        bytes[8] = 2;
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    });
    let error = refusal(&files, small());
    assert!(matches!(error, OpenError::Newer { .. }), "{error}");
}
