//! The same on a real directory, with the real writer thread.

use super::*;
use crate::files::FileIo;
use crate::real_files::RealFiles;
use crate::sim_files::SimFiles;
use crate::{Pump, StorageHandle, StorageRing};
use std::sync::{Arc, Mutex, mpsc};

type Told = mpsc::Receiver<u16>;

fn start<F: Files>(spool: Spool<F>, shards: u16) -> (StorageHandle, Arc<StorageRing>, Told) {
    let ring = Arc::new(StorageRing::new(shards, 16, 1 << 20));
    let (told, tell) = mpsc::channel();
    let notify = Arc::new(move |shard| told.send(shard).unwrap_or_default());
    let handle =
        StorageHandle::start(Pump::new(spool, ring.clone(), notify, Box::new(|_| {}))).unwrap();
    (handle, ring, tell)
}

#[test]
fn many_shards_store_through_the_thread_and_a_restart_finds_everything() {
    let directory = tempfile::tempdir().unwrap();
    let files = RealFiles::open(directory.path()).unwrap();
    let options = Options { segment_bytes: 1 << 16, ..small() };
    let (spool, recovered, _) = reopen(&files, options);
    let lineage = recovered.current_lineage;
    let (handle, ring, _tell) = start(spool, 3);
    let threads: Vec<_> = (0..3_u16)
        .map(|shard| {
            let ring = ring.clone();
            std::thread::spawn(move || {
                let name = format!("c{shard}");
                for seq in 1..=200_u64 {
                    let events = (1..=10)
                        .map(|i| event(&name, lineage, (seq - 1) * 10 + i, 50 + i as usize))
                        .collect();
                    let mut batch = StoreBatch { seq, events };
                    while let Err(back) = ring.push(shard, batch) {
                        batch = back;
                        std::thread::yield_now();
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let report = handle.stop();
    assert!(report.clean, "{report:?}");
    assert_eq!((0..3).map(|shard| ring.synced_seq(shard)).collect::<Vec<_>>(), [200; 3]);
    let (spool, recovered, _) = reopen(&files, options);
    assert!(recovered.clean);
    assert_eq!(recovered.current_lineage, lineage);
    let events = replayed(&spool);
    for shard in 0..3 {
        let name = format!("c{shard}");
        let of = events.iter().filter(|event| event.channel() == name).map(Event::offset);
        assert_eq!(of.collect::<Vec<_>>(), (1..=2_000).collect::<Vec<_>>());
    }
}

#[test]
fn an_idle_writer_syncs_one_event_at_once_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let files = RealFiles::open(directory.path()).unwrap();
    let (spool, recovered, _) = reopen(&files, small());
    let (handle, ring, tell) = start(spool, 1);
    for seq in 1..=20 {
        let events = vec![event("a", recovered.current_lineage, seq, 10)];
        ring.push(0, StoreBatch { seq, events }).unwrap();
        while ring.synced_seq(0) < seq {
            assert_eq!(tell.recv().unwrap(), 0);
        }
    }
    assert!(handle.stop().clean);
}

#[test]
fn a_killed_process_leaves_a_directory_that_opens_with_what_was_synced() {
    let directory = tempfile::tempdir().unwrap();
    let files = RealFiles::open(directory.path()).unwrap();
    let (mut spool, recovered, _) = reopen(&files, small());
    let lineage = recovered.current_lineage;
    let stored: Vec<Event> = (1..=50).map(|offset| event("a", lineage, offset, 100)).collect();
    store(&mut spool, 1, stored.clone(), 0);
    drop(spool);
    let last = files.list().unwrap().into_iter().filter(|(name, _)| name.ends_with(".seg"));
    let (last, _) = last.max().unwrap();
    // A torn round after what was synced.
    let file = files.open(&last).unwrap();
    let content = std::fs::read(directory.path().join(&last)).unwrap();
    let end = content.iter().rposition(|b| *b != 0).unwrap() as u64 + 1;
    FileIo::write_at(&file, &[200, 0, 0, 0, 1, 2, 3, 4, 5, 6], end).unwrap();
    let (spool, recovered, notices) = reopen(&files, small());
    assert!(notices.iter().any(|notice| matches!(notice, Notice::TornTail { .. })), "{notices:?}");
    assert_eq!(recovered.channels[0].tops, [(lineage, 50)]);
    assert_eq!(replayed(&spool), stored);
}

#[test]
fn a_second_server_is_told_who_holds_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    let files = RealFiles::open(directory.path()).unwrap();
    let _spool = reopen(&files, small());
    let again = RealFiles::open(directory.path()).unwrap();
    let text = refusal(&again, small()).to_string();
    assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
    assert!(text.contains("--data-dir"), "{text}");
}

#[test]
fn a_full_disk_is_seen_by_the_shards_and_heals_without_a_restart() {
    let files = SimFiles::new(1);
    let (spool, recovered, _) = reopen(&files, small());
    let lineage = recovered.current_lineage;
    let ring = Arc::new(StorageRing::new(2, 16, 1 << 20));
    let (told, tell) = mpsc::channel();
    let notify = Arc::new(move |shard| told.send(shard).unwrap_or_default());
    let said = Arc::new(Mutex::new(Vec::new()));
    let log = said.clone();
    let on_notice = Box::new(move |notice| log.lock().unwrap().push(notice));
    let handle = StorageHandle::start(Pump::new(spool, ring.clone(), notify, on_notice)).unwrap();
    files.faults(|faults| faults.capacity_bytes = Some(0));
    let mut seq = 0;
    while ring.state() == StorageState::Accepting {
        seq += 1;
        let events = vec![event("a", lineage, seq, 300)];
        let mut batch = StoreBatch { seq, events };
        while let Err(back) = ring.push(0, batch) {
            batch = back;
            std::thread::yield_now();
        }
    }
    assert_eq!(ring.state(), StorageState::DiskFull);
    let told: Vec<u16> = std::iter::from_fn(|| tell.try_recv().ok()).collect();
    assert!(told.contains(&1) || tell.iter().any(|shard| shard == 1), "every shard is told");
    // What was handed over before is kept, and written when there is room.
    files.faults(|faults| faults.capacity_bytes = None);
    while ring.state() != StorageState::Accepting || ring.synced_seq(0) < seq {
        tell.recv().unwrap();
    }
    let report = handle.stop();
    assert!(report.clean, "{report:?}");
    let said = said.lock().unwrap();
    assert!(said.iter().any(|notice| matches!(notice, Notice::Full { .. })), "{said:?}");
    assert!(said.contains(&Notice::Healed), "{said:?}");
    let (spool, _, _) = reopen(&files, small());
    assert_eq!(replayed(&spool).len() as u64, seq);
}

#[test]
fn a_stop_that_cannot_sync_is_not_clean_and_the_lineage_ends() {
    let files = SimFiles::new(2);
    let (spool, recovered, _) = reopen(&files, small());
    let lineage = recovered.current_lineage;
    let (handle, ring, _tell) = start(spool, 1);
    files.faults(|faults| faults.fail_every_sync = true);
    ring.push(0, StoreBatch { seq: 1, events: vec![event("a", lineage, 1, 10)] }).unwrap();
    let report = handle.stop();
    assert!(!report.clean && report.lost_bytes > 0, "{report:?}");
    assert_eq!((ring.state(), ring.synced_seq(0)), (StorageState::Failed, 0));
    files.faults(|faults| faults.fail_every_sync = false);
    let (_, recovered, _) = reopen(&files, small());
    assert!(!recovered.clean);
    assert_ne!(recovered.current_lineage, lineage);
}

#[test]
fn a_panicking_notice_handler_ends_in_failed_and_not_in_silence() {
    let files = SimFiles::new(3);
    let (spool, recovered, _) = reopen(&files, small());
    let lineage = recovered.current_lineage;
    let ring = Arc::new(StorageRing::new(1, 16, 1 << 20));
    let notify = Arc::new(|_| ());
    let on_notice = Box::new(|notice| panic!("on purpose: {notice}"));
    let handle = StorageHandle::start(Pump::new(spool, ring.clone(), notify, on_notice)).unwrap();
    files.faults(|faults| faults.fail_every_sync = true);
    ring.push(0, StoreBatch { seq: 1, events: vec![event("a", lineage, 1, 10)] }).unwrap();
    while !handle.is_dead() {
        std::thread::yield_now();
    }
    assert_eq!(ring.state(), StorageState::Failed);
    assert!(!handle.stop().clean);
}
