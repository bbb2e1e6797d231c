//! The loop and the planner over a spool in memory and a folder: hours, ages, crashes, what was
//! missed, what changed behind the cursor's back.

use super::{HOUR_US, event};
use crate::feed::Feed;
use crate::parquet::encode::read;
use crate::parquet::planner::{Limits, Planner};
use crate::parquet::{NAME, ParquetConfig, ParquetSink};
use crate::sim_files::SimFiles;
use crate::sink::cursor::{Cursor, checksum};
use crate::sink::{Health, Progress, SinkNotice, Source};
use crate::spool::{Options, Retention, Spool};
use crate::tests::{reopen, small, store as append};
use bytes::Bytes;
use proto::event::{Draft, Event};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// 2025-11-22T07:00:00Z: an hour that is over by any clock.
const LONG_AGO_US: i64 = super::SEVEN_US - 365 * 24 * HOUR_US;

/// Events of one channel accepted at these times; the first has offset 1.
fn events(times: &[i64]) -> Vec<Event> {
    let at = |(offset, received_us): (u64, &i64)| {
        let id = format!("id-{offset}");
        event(
            Draft { channel: "a", id: &id, data: b"{}", ..Draft::default() },
            offset,
            *received_us,
        )
    };
    (1..).zip(times).map(at).collect()
}

/// A spool with these events, each in a round of its own, all of them sealed; the next start
/// seals what a crash left.
fn spool(files: &SimFiles, events: &[Event], options: Options) -> Spool<SimFiles> {
    let (mut spool, ..) = reopen(files, options);
    for (seq, event) in (1..).zip(events) {
        append(&mut spool, seq, vec![event.clone()], 0);
    }
    drop(spool);
    files.power_cut();
    reopen(files, options).0
}

fn source(spool: &Spool<SimFiles>) -> Source<SimFiles> {
    Source::new(Arc::new(Feed::new(spool.end_seq(), 0)), spool.reader())
}

type Said = Arc<Mutex<Vec<SinkNotice>>>;

struct Rig {
    root: tempfile::TempDir,
    config: ParquetConfig,
    said: Said,
}

impl Rig {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let location = root.path().to_str().unwrap().to_owned();
        let config = ParquetConfig { location, seal_age_s: 1, ..ParquetConfig::default() };
        Self { root, config, said: Arc::default() }
    }

    fn sink(&self, files: &SimFiles, spool: &Spool<SimFiles>) -> ParquetSink<SimFiles> {
        let cursor = Cursor::load(files, NAME).unwrap();
        let said = Arc::clone(&self.said);
        let on_notice = Box::new(move |_, notice| said.lock().unwrap().push(notice));
        ParquetSink::new(self.config.clone(), files.clone(), source(spool), cursor, on_notice)
    }

    /// Runs the sink until its figures are as wanted.
    fn run_until(
        &self,
        files: &SimFiles,
        spool: &Spool<SimFiles>,
        wanted: impl Fn(&Progress) -> bool,
    ) -> Arc<Progress> {
        let sink = self.sink(files, spool);
        let progress = sink.progress();
        let handle = sink.start().unwrap();
        let began = Instant::now();
        while !wanted(&progress) {
            assert!(began.elapsed() < Duration::from_secs(60), "{:?}", progress.stats());
            std::thread::sleep(Duration::from_millis(2));
        }
        handle.stop(Duration::ZERO);
        assert!(handle.join());
        progress
    }

    fn run(&self, files: &SimFiles, spool: &Spool<SimFiles>) -> Arc<Progress> {
        let end_seq = spool.end_seq();
        self.run_until(files, spool, |progress| progress.durable() == end_seq)
    }

    /// The files below the root with their content.
    fn found(&self) -> BTreeMap<String, Vec<u8>> {
        fn walk(root: &Path, at: PathBuf, found: &mut BTreeMap<String, Vec<u8>>) {
            for entry in std::fs::read_dir(at).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(root, path, found);
                } else {
                    let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                    found.insert(name, std::fs::read(&path).unwrap());
                }
            }
        }
        let mut found = BTreeMap::new();
        walk(self.root.path(), self.root.path().to_owned(), &mut found);
        found
    }

    /// The ids in each folder, file by file.
    fn ids(&self) -> Vec<(String, Vec<String>)> {
        let of_file = |(name, file): (String, Vec<u8>)| {
            let mut ids = Vec::new();
            read(Bytes::from(file), &mut |row| ids.push(row.id.to_owned())).unwrap();
            ids.sort_by_key(|id| id[3..].parse::<u64>().unwrap());
            (name.rsplit_once('/').unwrap().0.to_owned(), ids)
        };
        self.found().into_iter().map(of_file).collect()
    }
}

fn roomy() -> Options {
    Options { segment_bytes: 1 << 20, ..small() }
}

#[test]
fn events_around_a_full_hour_are_in_the_folder_of_their_hour_once() {
    let (files, rig) = (SimFiles::new(1), Rig::new());
    let eight = LONG_AGO_US + HOUR_US;
    // Two shards accept at the same time: what was accepted before the hour comes after it.
    let times = [eight - 9, eight - 1, eight, eight - 2, eight + 1, eight - 1, eight + HOUR_US];
    let spool = spool(&files, &events(&times), roomy());
    let progress = rig.run(&files, &spool);
    let ids = |numbers: &[u32]| numbers.iter().map(|n| format!("id-{n}")).collect::<Vec<_>>();
    let expected = [
        ("day=2025-11-22/hour=07", ids(&[1, 2])),
        ("day=2025-11-22/hour=07", ids(&[4, 6])),
        ("day=2025-11-22/hour=08", ids(&[3, 5])),
        ("day=2025-11-22/hour=09", ids(&[7])),
    ];
    assert_eq!(rig.ids(), expected.map(|(folder, ids)| (folder.to_owned(), ids)));
    let stats = progress.stats();
    assert_eq!((stats.events, stats.batches, stats.health), (7, 4, Health::Healthy));
    assert_eq!(stats.oldest_waiting_us, None);
}

#[test]
fn a_range_that_was_planned_gives_the_same_files_whatever_was_put_before_the_crash() {
    let (files, rig) = (SimFiles::new(2), Rig::new());
    let eight = LONG_AGO_US + HOUR_US;
    let all = events(&[eight, eight - 1, eight + 5, eight - 7, eight + 1]);
    let first = spool(&files, &all, roomy());
    let mut planned = Cursor::new(77, first.end_seq() - 5);
    planned.plan.push(crate::sink::cursor::Planned {
        from: first.end_seq() - 5,
        end: first.end_seq(),
        crc: checksum(&all),
        dead: None,
    });
    planned.save(&files, NAME).unwrap();
    rig.run(&files, &first);
    let whole = rig.found();
    assert_eq!(whole.len(), 2);
    assert!(whole.keys().all(|name| name.contains("/000000000000004d-")), "{whole:?}");
    // Every state that a crash can leave: none, some or all of the files, and the plan unconfirmed.
    for left in 0..4 {
        for (index, name) in whole.keys().enumerate() {
            if left & (1 << index) == 0 {
                std::fs::remove_file(rig.root.path().join(name)).unwrap();
            }
        }
        planned.save(&files, NAME).unwrap();
        let again = rig.run(&files, &first);
        assert_eq!(rig.found(), whole);
        assert_eq!(again.stats().events, 5);
    }
    assert_eq!(Cursor::load(&files, NAME).unwrap().unwrap().plan, []);
}

#[test]
fn what_is_not_what_was_planned_is_never_put() {
    let (files, rig) = (SimFiles::new(3), Rig::new());
    let all = events(&[LONG_AGO_US, LONG_AGO_US + 1]);
    let spool = spool(&files, &all, roomy());
    let mut cursor = Cursor::new(1, spool.end_seq() - 2);
    let (from, end) = (cursor.confirmed, spool.end_seq());
    let crc = checksum(&all) ^ 1;
    cursor.plan.push(crate::sink::cursor::Planned { from, end, crc, dead: None });
    cursor.save(&files, NAME).unwrap();
    let progress = rig.run_until(&files, &spool, |of| of.stats().health == Health::Stuck);
    let error = progress.stats().error.unwrap();
    assert!(error.contains("not those that parquet.cursor has planned"), "{error}");
    assert!(error.contains("restore the data directory"), "{error}");
    assert!(rig.found().is_empty());
    assert_eq!(progress.confirmed(), from);
}

#[test]
fn what_retention_took_before_the_sink_came_is_told() {
    let (files, rig) = (SimFiles::new(4), Rig::new());
    let times: Vec<i64> = (0..300).map(|n| LONG_AGO_US + n).collect();
    let retention = Retention { age_s: None, bytes: 12_000, hard_bytes_max: 40_000 };
    let spool = spool(&files, &events(&times), Options { retention, ..small() });
    Cursor::new(5, 1).save(&files, NAME).unwrap();
    let progress = rig.run(&files, &spool);
    let stats = progress.stats();
    assert!(stats.missed > 0, "{stats:?}");
    assert_eq!(stats.missed + stats.events, 300);
    let missed = SinkNotice::Missed { events: stats.missed };
    assert!(rig.said.lock().unwrap().contains(&missed));
}

#[test]
fn nothing_is_put_before_the_plan_is_on_the_disk() {
    let (files, rig) = (SimFiles::new(6), Rig::new());
    let spool = spool(&files, &events(&[LONG_AGO_US]), roomy());
    Cursor::new(5, spool.end_seq() - 1).save(&files, NAME).unwrap();
    files.faults(|faults| faults.fail_every_sync = true);
    let progress = rig.run_until(&files, &spool, |of| of.stats().health == Health::Retrying);
    assert!(rig.found().is_empty());
    assert!(progress.stats().error.unwrap().contains("the cursor cannot be saved"));
    files.faults(|faults| faults.fail_every_sync = false);
    rig.run(&files, &spool);
    assert_eq!(rig.found().len(), 1);
}

/// The ranges that looks at growing parts of a spool end with.
fn ranges(spool: &Spool<SimFiles>, limits: Limits, now_us: i64) -> Vec<(u64, u64, u32)> {
    let source = source(spool);
    let mut planner = Planner::begin(source.first_seq());
    let mut ranges = Vec::new();
    while let Some(ready) = planner.look(&source, limits, now_us).unwrap() {
        let events = ready.events.expect("found in one look");
        assert_eq!(checksum(&events), ready.range.crc);
        ranges.push((ready.range.from, ready.range.end, ready.range.crc));
    }
    ranges
}

#[test]
fn a_range_that_grows_with_the_spool_ends_where_one_look_would_end_it() {
    let files = SimFiles::new(7);
    let all = events(&(0..200).map(|n| LONG_AGO_US + n).collect::<Vec<_>>());
    let limits = Limits { file_bytes: 6_000, age_us: i64::MAX };
    let (mut growing, ..) = reopen(&files, small());
    let source_of_growing = Source::new(growing.feed(0), growing.reader());
    let mut planner = Planner::begin(growing.end_seq());
    let (mut found, mut held) = (Vec::new(), 0);
    for (seq, event) in (1..).zip(&all) {
        append(&mut growing, seq, vec![event.clone()], 0);
        while let Some(ready) = planner.look(&source_of_growing, limits, LONG_AGO_US).unwrap() {
            held += usize::from(ready.events.is_some());
            found.push((ready.range.from, ready.range.end, ready.range.crc));
        }
    }
    assert!(found.len() > 2 && held == 0, "{found:?}: each waited for another segment");
    drop(growing);
    files.power_cut();
    let whole = ranges(&reopen(&files, small()).0, limits, LONG_AGO_US);
    assert!(whole.starts_with(&found), "{whole:?}\n{found:?}");
}

#[test]
fn a_quiet_range_ends_when_its_hour_or_its_patience_is_over() {
    let files = SimFiles::new(8);
    let spool = spool(&files, &events(&[LONG_AGO_US, LONG_AGO_US + 60_000_000]), roomy());
    let limits = |age_s: i64| Limits { file_bytes: 1 << 30, age_us: age_s * 1_000_000 };
    let after = |s: i64| LONG_AGO_US + s * 1_000_000;
    let ends = |age_s, now_us| ranges(&spool, limits(age_s), now_us).len();
    assert_eq!([ends(90, after(89)), ends(90, after(90))], [0, 1]);
    assert_eq!([ends(9_999, after(3_659)), ends(9_999, after(3_660))], [0, 1]);
    // A clock that was set back must not hold them for as long as it was ahead.
    assert_eq!([ends(90, after(-89)), ends(90, after(-90))], [0, 1]);
}
