//! The writer thread: pulls batches out of the ring, drives the spool, publishes what is synced.
//!
//! Group commit: while one round is being synced the next one gathers in the ring; an idle writer
//! syncs the first batch at once. When nobody waits for the disk, rounds that would follow on each
//! other's heels are [`ROUND_GAP`] apart (ADR 0008). It takes only as much out of the ring as one
//! round holds, so that the ring's bounds are the bounds. While there is no room it tries again
//! every 250 ms. After a panic of the spool the state is `Failed`: nothing is ever acknowledged by
//! accident.

use crate::files::Files;
use crate::notice::Notice;
use crate::retention::SinkId;
use crate::ring::{StorageRing, StorageState};
use crate::sink::Progress;
use crate::spool::{Ack, RETRY_US, Spool, SpoolCounters};
use crate::stored::Endings;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Told which shard has something new to read in the ring: its synced number or the state.
pub type Notify = Arc<dyn Fn(u16) + Send + Sync>;
/// Takes what people should know; called on the writer thread.
pub type OnNotice = Box<dyn FnMut(Notice) + Send>;

/// How a stop went.
#[derive(Debug)]
pub struct StopReport {
    /// Everything is synced and the next start goes on with the same lineage.
    pub clean: bool,
    /// Why not.
    pub error: Option<String>,
    /// Bytes of events that could not be synced.
    pub lost_bytes: u64,
}

/// Figures of the writer, for metrics.
#[derive(Debug, Clone, Copy, Default)]
pub struct WriterStats {
    /// Counters of the spool.
    pub spool: SpoolCounters,
    /// Time in rounds, microseconds.
    pub round_us: u64,
    /// The longest round, microseconds.
    pub round_us_max: u64,
}

/// The running storage.
#[derive(Debug)]
pub struct StorageHandle {
    ring: Arc<StorageRing>,
    stop: Arc<AtomicBool>,
    stats: Arc<Mutex<WriterStats>>,
    thread: JoinHandle<StopReport>,
}

/// How long a stop waits for a full disk to heal.
const STOP_WAIT: Duration = Duration::from_secs(5);
/// Between the end of a round and the next one that nobody waits for. Single posts of 200 bytes
/// spent a fifth of the process in the thousands of rounds a second that a fast disk allows.
const ROUND_GAP: Duration = Duration::from_millis(2);
/// Between two looks at retention when idle.
const IDLE: Duration = Duration::from_secs(1);

impl StorageHandle {
    /// Starts the writer thread.
    pub fn start<F: Files>(pump: Pump<F>) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stats = Arc::new(Mutex::new(WriterStats::default()));
        let ring = pump.ring.clone();
        let (stop_asked, stats_kept) = (stop.clone(), stats.clone());
        let run = move || {
            let ring = pump.ring.clone();
            let notify = pump.notify.clone();
            let measured = WriterStats::default();
            let writer =
                Writer { pump, stop: stop_asked, stats: stats_kept, measured, last_round: None };
            std::panic::catch_unwind(AssertUnwindSafe(move || writer.run())).unwrap_or_else(|_| {
                ring.set_state(StorageState::Failed);
                (0..ring.shards()).for_each(|shard| notify(shard));
                let error = Some("the storage thread panicked".to_owned());
                StopReport { clean: false, error, lost_bytes: ring.unsynced_bytes() }
            })
        };
        let thread = std::thread::Builder::new().name("storage".into()).spawn(run)?;
        ring.set_writer(thread.thread().clone());
        Ok(Self { ring, stop, stats, thread })
    }

    /// See [`WriterStats`]; as of the last round.
    pub fn stats(&self) -> WriterStats {
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same figures for whoever outlives a borrow of this handle.
    pub fn stats_view(&self) -> impl Fn() -> WriterStats + Send + Sync + 'static {
        let stats = Arc::clone(&self.stats);
        move || *stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if the writer thread has ended although nobody stopped it.
    pub fn is_dead(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits until everything pushed is synced, as far as the disk takes it; at most as long as a
    /// stop would. Call it when no shard pushes any more.
    pub fn settle(&self) {
        let until = Instant::now() + STOP_WAIT;
        while self.ring.unsynced_bytes() > 0
            && self.ring.state() == StorageState::Accepting
            && !self.is_dead()
            && Instant::now() < until
        {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Stops cleanly: everything in the ring is synced first. Call it when no shard pushes any
    /// more.
    pub fn stop(self) -> StopReport {
        self.stop.store(true, Ordering::Release);
        self.thread.thread().unpark();
        self.thread.join().unwrap_or_else(|_| StopReport {
            clean: false,
            error: Some("the storage thread panicked".into()),
            lost_bytes: self.ring.unsynced_bytes(),
        })
    }
}

/// What the writer does with a spool, step by step and without a thread, a clock or a sleep: the
/// thread drives it, and so does the simulated world.
pub struct Pump<F: Files> {
    spool: Spool<F>,
    ring: Arc<StorageRing>,
    notify: Notify,
    on_notice: OnNotice,
    acked: Vec<Ack>,
    sinks: Vec<(SinkId, Arc<Progress>)>,
    primary: Option<Primary>,
}

/// The store that `ack=stored` waits for.
struct Primary {
    progress: Arc<Progress>,
    endings: Endings,
    /// Where the spool ended when this run began.
    base_seq: u64,
    /// What was told to the shards; `None`: nothing yet.
    told: Option<u64>,
}

impl<F: Files> Pump<F> {
    /// Joins a spool and a ring. `notify` must not block.
    pub fn new(
        spool: Spool<F>,
        ring: Arc<StorageRing>,
        notify: Notify,
        on_notice: OnNotice,
    ) -> Self {
        let (acked, sinks) = (Vec::new(), Vec::new());
        let pump = Self { spool, ring, notify, on_notice, acked, sinks, primary: None };
        pump.publish_state(pump.spool.state());
        pump
    }

    /// Adds a sink: segments stay until it has them. Before the first round.
    pub fn add_sink(&mut self, progress: Arc<Progress>) {
        let id = self.spool.register_sink(progress.durable());
        self.sinks.push((id, progress));
    }

    /// Makes a sink the one that `ack=stored` waits for. Before the first round.
    pub fn set_primary(&mut self, progress: Arc<Progress>) {
        self.ring.set_primary();
        let base_seq = self.spool.end_seq();
        self.primary =
            Some(Primary { progress, endings: Endings::default(), base_seq, told: None });
    }

    /// Moves one round's worth from the ring to the spool, shard by shard in turn.
    pub fn take(&mut self) {
        let bytes_max = self.spool.options.round_bytes_max as u64;
        let mut found = true;
        while found {
            found = false;
            for shard in 0..self.ring.shards() {
                if self.spool.waiting_bytes() >= bytes_max {
                    return;
                }
                if let Some(batch) = self.ring.pop(shard) {
                    self.spool.append(shard, batch);
                    found = true;
                }
            }
        }
    }

    /// Makes one round durable and tells the shards.
    pub fn round(&mut self, now_us: i64) -> StorageState {
        let state = self.spool.sync(now_us, &mut self.acked);
        let end_seq = self.spool.end_seq();
        for ack in &self.acked {
            self.ring.acknowledge(ack.shard, ack.seq, ack.bytes);
            if let Some(primary) = &mut self.primary {
                primary.endings.push(end_seq, ack.shard, ack.seq);
            }
        }
        let mut shards: Vec<u16> = self.acked.drain(..).map(|ack| ack.shard).collect();
        shards.sort_unstable();
        shards.dedup();
        for shard in shards {
            (self.notify)(shard);
        }
        self.publish_state(state);
        state
    }

    /// What can wait, and what people should know.
    pub fn maintain(&mut self, now_us: i64) -> StorageState {
        self.follow_sinks();
        let state = self.spool.maintain(now_us);
        self.publish_state(state);
        self.say();
        state
    }

    /// What the sinks have: segments may go, and publishers hear that theirs is stored.
    fn follow_sinks(&mut self) {
        for (id, progress) in &self.sinks {
            self.spool.confirm(*id, progress.durable());
        }
        let Some(primary) = &mut self.primary else { return };
        let confirmed = primary.progress.confirmed();
        if confirmed < primary.base_seq || primary.told == Some(confirmed) {
            return;
        }
        if primary.told.is_none() {
            (0..self.ring.shards()).for_each(|shard| self.ring.set_stored(shard, 0));
        }
        primary.told = Some(confirmed);
        primary.endings.release(confirmed, |shard, batch| self.ring.set_stored(shard, batch));
        // Any shard may hold a publisher whose events are at home on another.
        (0..self.ring.shards()).for_each(|shard| (self.notify)(shard));
    }

    /// True if the primary store has more than the shards were told.
    fn sinks_moved(&self) -> bool {
        self.primary.as_ref().is_some_and(|primary| {
            let confirmed = primary.progress.confirmed();
            confirmed >= primary.base_seq && primary.told != Some(confirmed)
        })
    }

    /// True if everything that came is synced.
    pub fn is_done(&self) -> bool {
        self.ring.is_empty() && !self.spool.has_work()
    }

    /// The spool, for reading and counting.
    pub fn spool(&self) -> &Spool<F> {
        &self.spool
    }

    /// The end: clean if everything is synced.
    pub fn finish(mut self) -> StopReport {
        let lost_bytes = self.ring.unsynced_bytes();
        self.say();
        if lost_bytes > 0 || self.spool.has_work() {
            // Not a clean stop: events with positions are lost, so the lineage must not go on.
            let error = Some("events are left that could not be synced".to_owned());
            return StopReport { clean: false, error, lost_bytes };
        }
        let closed = self.spool.close(self.ring.incarnation_max());
        let error = closed.err().map(|e| e.to_string());
        StopReport { clean: error.is_none(), error, lost_bytes }
    }

    fn say(&mut self) {
        for notice in self.spool.take_notices() {
            (self.on_notice)(notice);
        }
    }

    fn publish_state(&self, state: StorageState) {
        if self.ring.set_state(state) {
            (0..self.ring.shards()).for_each(|shard| (self.notify)(shard));
        }
    }
}

/// The thread around a [`Pump`]: time, sleep and the stop.
struct Writer<F: Files> {
    pump: Pump<F>,
    stop: Arc<AtomicBool>,
    stats: Arc<Mutex<WriterStats>>,
    measured: WriterStats,
    /// When the last round ended.
    last_round: Option<Instant>,
}

impl<F: Files> Writer<F> {
    fn run(mut self) -> StopReport {
        let mut stop_by = None;
        loop {
            self.pace();
            self.pump.take();
            if self.pump.spool.has_work() {
                let began = Instant::now();
                self.pump.round(now_us());
                let took_us = began.elapsed().as_micros() as u64;
                self.measured.round_us += took_us;
                self.measured.round_us_max = self.measured.round_us_max.max(took_us);
                self.last_round = Some(Instant::now());
            }
            let state = self.pump.maintain(now_us());
            self.measured.spool = self.pump.spool.counters();
            *self.stats.lock().unwrap_or_else(PoisonError::into_inner) = self.measured;
            if self.stop.load(Ordering::Acquire) {
                let stop_by = *stop_by.get_or_insert_with(|| Instant::now() + STOP_WAIT);
                let failed = state == StorageState::Failed;
                if self.pump.is_done() || failed || Instant::now() > stop_by {
                    return self.pump.finish();
                }
            }
            self.wait(state);
        }
    }

    /// Lets a round gather more when nobody waits for it and the last one has only just ended.
    fn pace(&self) {
        let ring = &self.pump.ring;
        // Whoever is in a hurry has pushed before saying so: this round has it.
        if ring.take_hurry() || self.pump.spool.state() != StorageState::Accepting {
            return;
        }
        let rest = self.last_round.and_then(|last| ROUND_GAP.checked_sub(last.elapsed()));
        if let Some(rest) = rest {
            ring.pace(rest, || self.stop.load(Ordering::Acquire));
            ring.take_hurry();
        }
    }

    fn wait(&self, state: StorageState) {
        let (ring, spool) = (&self.pump.ring, &self.pump.spool);
        let stop = || self.stop.load(Ordering::Acquire);
        match state {
            // Only a restart helps; stay for the stop.
            StorageState::Failed => ring.sleep(IDLE, stop),
            StorageState::Accepting => {
                if !spool.has_work() {
                    ring.sleep(IDLE, || stop() || !ring.is_empty() || self.pump.sinks_moved());
                }
            }
            StorageState::DiskFull | StorageState::SpoolFull => {
                // The active segment may still have room: then go on.
                let stuck = spool.is_blocked();
                let busy = || !stuck && (spool.has_work() || !ring.is_empty());
                ring.sleep(Duration::from_micros(RETRY_US as u64), busy);
            }
        }
    }
}

fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
