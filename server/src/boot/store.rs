//! The storage side of a server: the spool's writer thread, the readers, and the way to both.

use super::BootError;
use super::reads::Reads;
use super::restore;
use super::sinks::{RunningSinks, Sinks, SinksView};
use crate::config::Config;
use crate::config::budget::Budget;
use crate::control::{State, StorageView};
use crate::log;
use crate::metrics::StorageSnapshot;
use crate::reactor::{Clock, Shared};
use crate::shard::Settings;
use crate::shard::home::Home;
use std::sync::Arc;
use storage::{
    Notice, Options, Pump, RealFiles, Retention, StopReport, StorageHandle, StorageRing,
    StorageState,
};

/// Batches one shard's lane to the writer holds.
pub const RING_BATCHES: usize = 256;

/// The running storage side.
pub struct Store {
    /// The way to the spool and back.
    pub ring: Arc<StorageRing>,
    /// The way to the readers and back.
    pub reads: Arc<Reads>,
    /// Random; keys hashes and ids.
    pub seed: u64,
    writer: StorageHandle,
    sinks: RunningSinks,
    sinks_view: SinksView,
}

/// The storage side as the admin listener sees it.
struct View<S> {
    ring: Arc<StorageRing>,
    stats: S,
    sinks: SinksView,
    clock: Clock,
}

impl<S: Fn() -> storage::WriterStats + Send + Sync + 'static> StorageView for View<S> {
    fn read(&self) -> StorageSnapshot {
        let spool = (self.stats)().spool;
        let mut snapshot = StorageSnapshot::default();
        snapshot.counters.events_appended = spool.events;
        snapshot.counters.bytes_appended = spool.bytes;
        snapshot.counters.syncs = spool.rounds;
        snapshot.counters.syncs_failed = spool.rewrites;
        snapshot.counters.segments_deleted = spool.segments_removed;
        snapshot.gauges.lag_bytes = self.ring.unsynced_bytes();
        snapshot.gauges.memory_bytes = spool.memory_bytes;
        snapshot.gauges.feed_bytes = self.sinks.memory_bytes();
        snapshot.sinks = self.sinks.read(self.clock.now().wall_us);
        snapshot.reconcile = self.sinks.reconcile();
        snapshot.gauges.bytes = spool.disk_bytes;
        snapshot.gauges.segments = spool.segments;
        snapshot.refusal = refusal(self.ring.state());
        snapshot.gauges.refusing = u64::from(snapshot.refusal.is_some());
        snapshot
    }
}

impl Store {
    /// Opens the data directory, rebuilds the homes and starts the threads.
    pub fn open(
        config: &Config,
        budget: &Budget,
        settings: &Settings,
        shared: &Arc<Shared>,
        clock: Clock,
    ) -> Result<(Self, Vec<Home>), BootError> {
        let now = clock.now();
        let dir = &config.data_dir;
        let at = |what: &str| format!("{what} in {}", dir.display());
        let files = RealFiles::open(dir).map_err(|error| {
            let message = format!("{}: {error}", at("cannot use the data directory"));
            BootError::new(message, "choose another with --data-dir, or check its permissions")
        })?;
        let options = spool_options(config, budget);
        let opened = storage::open(files.clone(), options, now.wall_us, &mut |n| say(&n));
        let mut opened = opened
            .map_err(|error| BootError::new(error.to_string(), "choose another --data-dir"))?;
        let mut seed = [0; 8];
        rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty())
            .map_err(|e| BootError::new(format!("no random numbers: {e}"), "check /dev/urandom"))?;
        let seed = u64::from_le_bytes(seed);
        let homes =
            restore::homes(config, budget, settings, &opened.spool, &opened.recovered, seed, now)
                .map_err(|e| BootError::new(e, "raise `limits.channels_max`, or move the data"))?;
        let shards = budget.facts.shards as usize;
        let unsynced_max = budget.shard.storage_ring_bytes * shards as u64;
        let ring = Arc::new(StorageRing::new(shards as u16, RING_BATCHES, unsynced_max));
        let sinks = Sinks::open(config, &files, &mut opened.spool, &ring)?;
        let thread = |e: std::io::Error| {
            BootError::new(format!("cannot start a storage thread: {e}"), "raise `ulimit -u`")
        };
        let reader = opened.spool.reader();
        let reads = Reads::start(config, shards, &reader, shared)?;
        let wake = Arc::clone(shared);
        let failed = Arc::clone(shared);
        let mut pump = Pump::new(
            opened.spool,
            Arc::clone(&ring),
            Arc::new(move |shard| wake.wake(usize::from(shard))),
            Box::new(move |notice| {
                if matches!(notice, Notice::Failed { .. }) {
                    failed.readiness.advance(State::StorageFailed);
                }
                say(&notice);
            }),
        );
        sinks.join(&mut pump);
        let writer = StorageHandle::start(pump).map_err(thread)?;
        let (running, sinks_view) = sinks.start().map_err(thread)?;
        let store = Self { ring, reads: Arc::new(reads), seed, writer, sinks: running, sinks_view };
        Ok((store, homes))
    }

    /// The storage's figures for the admin listener.
    pub fn view(&self, clock: Clock) -> Arc<dyn StorageView> {
        let (stats, sinks) = (self.writer.stats_view(), self.sinks_view.clone());
        Arc::new(View { ring: Arc::clone(&self.ring), stats, sinks, clock })
    }

    /// Syncs everything and stops the writer. Every shard has ended.
    pub fn stop(self) -> StopReport {
        self.writer.settle();
        self.sinks.stop();
        let report = self.writer.stop();
        if let Some(error) = &report.error {
            log::error(
                "the spool did not stop cleanly",
                &[("error", error), ("lost_bytes", &report.lost_bytes)],
            );
        }
        report
    }
}

/// How the spool works under this configuration.
pub fn spool_options(config: &Config, budget: &Budget) -> Options {
    let spool = &config.spool;
    let age_s = (spool.retention_age_s > 0).then_some(spool.retention_age_s);
    let parquet = &config.storage.parquet;
    Options {
        segment_bytes: spool.segment_bytes,
        checkpoint_bytes: spool.checkpoint_bytes,
        channels_max: budget.shard.channels_max as usize * budget.facts.shards as usize,
        seal_age_s: parquet.is_on().then(|| u64::from(parquet.seal_s)),
        retention: Retention {
            age_s,
            bytes: spool.retention_bytes,
            hard_bytes_max: spool.bytes_max,
        },
        ..Options::default()
    }
}

/// Why the spool takes no events, for people.
fn refusal(state: StorageState) -> Option<&'static str> {
    match state {
        StorageState::Accepting => None,
        StorageState::DiskFull => Some("the spool takes no events: its disk is full"),
        StorageState::SpoolFull => Some(
            "the spool takes no events: it is full of events that a store has not confirmed; \
             repair the store, or raise `spool.bytes_max`",
        ),
        StorageState::Failed => {
            Some("the spool takes no events: its disk failed; repair it and start again")
        }
    }
}

fn say(notice: &Notice) {
    let text = notice.to_string();
    match notice {
        Notice::Failed { .. } => log::error(&text, &[]),
        Notice::Scanning { .. } | Notice::Healed => log::info(&text, &[]),
        _ => log::warn(&text, &[]),
    }
}
