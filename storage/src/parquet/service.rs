//! The loop: plan a range, save it, put its files, confirm; and what each failure leads to.
//!
//! It works on what the spool has sealed, one range at a time, so its memory is one range and the
//! file made of it. Nothing hurries: `ack=stored` does not wait for it, and what it has not put
//! stays in the spool.
//!
//! Invariants: a range is in the cursor file before the first of its files is put, and leaves it
//! when all of them are; a file that is there with the same events counts as put. Threads: its own,
//! with a small tokio runtime, since the store's client is asynchronous. Making a file (about a
//! second of CPU for 128 MiB of events) is not interrupted by a stop. Deliberately absent:
//! `ack=stored`, dead letters (a folder takes everything). Tests: `tests`, and the integration
//! tests with a folder, an object store and kills.

use super::NAME;
use super::client::{Store, runtime};
use super::config::ParquetConfig;
use super::encode::encode;
use super::failure::Failure;
use super::layout::{Hour, Range, split_hours};
use super::planner::{Limits, Planner, Ready};
use crate::files::Files;
use crate::sink::cursor::{Cursor, Planned, checksum, file_name};
use crate::sink::standing::Standing;
use crate::sink::{Health, OnSinkNotice, Progress, SinkHandle, SinkNotice, Source};
use proto::event::Event;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::runtime::Runtime;

/// Between two looks at an idle spool.
const IDLE: Duration = Duration::from_secs(1);
/// Between two looks at files that may be too old.
const EXPIRE_EVERY: Duration = Duration::from_secs(3_600);
/// Files deleted before anything else is looked at.
const EXPIRE_FILES_MAX: usize = 500;

/// The sink; see the module.
pub struct ParquetSink<F: Files> {
    config: ParquetConfig,
    files: F,
    source: Source<F>,
    /// Once it was reached.
    store: Option<Store>,
    cursor: Cursor,
    /// The cursor file says less than `cursor`.
    unsaved: bool,
    planner: Planner,
    /// The files of the plan's range that are not put yet; empty: its events are not read yet.
    left: VecDeque<(Hour, Vec<Event>)>,
    expire_at: Instant,
    /// When an event that waits was accepted, by its number.
    oldest: Option<(u64, i64)>,
    standing: Standing,
}

impl<F: Files> ParquetSink<F> {
    /// Prepares the sink; its thread is started by [`ParquetSink::start`]. Its files are named
    /// after the cursor, so several servers can share a folder or bucket.
    pub fn new(
        config: ParquetConfig,
        files: F,
        source: Source<F>,
        cursor: Option<Cursor>,
        on_notice: OnSinkNotice,
    ) -> Self {
        let is_new = cursor.is_none();
        let fresh = || Cursor::new(files.random(), source.first_seq()).aimed_at(&config.location);
        let cursor = cursor.unwrap_or_else(fresh);
        let durable = if is_new { 0 } else { cursor.confirmed };
        Self {
            config: ParquetConfig { node: format!("{:016x}", cursor.id), ..config },
            files,
            source,
            store: None,
            planner: Planner::begin(cursor.planned_end()),
            cursor,
            unsaved: is_new,
            left: VecDeque::new(),
            expire_at: Instant::now(),
            oldest: None,
            standing: Standing::new(NAME, durable, on_notice),
        }
    }

    /// How far it is.
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.standing.progress)
    }

    /// Reaches the folder or bucket once: what a start wants to know. Not reaching it is no reason
    /// not to start; [`Failure::Fatal`] is.
    pub fn check(&self, within: Duration) -> Result<(), Failure> {
        let runtime = runtime().map_err(|e| Failure::retry(e.to_string()))?;
        let reached = runtime.block_on(async {
            let reached = tokio::time::timeout(within, reach(&self.config)).await;
            let late = || Failure::retry(format!("{}: no answer", self.config.location));
            reached.unwrap_or_else(|_| Err(late()))
        });
        reached.map(drop)
    }

    /// Starts its thread.
    pub fn start(self) -> io::Result<SinkHandle> {
        let (stop, progress) = (Arc::clone(&self.standing.stop), self.progress());
        let runtime = runtime()?;
        SinkHandle::start(NAME, stop, progress, move || self.run(&runtime))
    }

    fn run(mut self, runtime: &Runtime) {
        while !self.standing.stop.is_due() && self.wait_until_it_may() {
            if self.unsaved && !self.save() {
                continue;
            }
            if self.store.is_none() {
                self.connect(runtime);
                continue;
            }
            if self.cursor.plan.is_empty() {
                if self.standing.stop.is_asked() {
                    break; // what is not planned stays in the spool for the next start
                }
                self.expire(runtime);
                if !self.plan() {
                    continue;
                }
            }
            self.send(runtime);
        }
        if self.unsaved {
            self.save();
        }
    }

    /// Waits after failures. `false`: asked to stop while nothing can be put.
    fn wait_until_it_may(&mut self) -> bool {
        loop {
            let wait = self.standing.wait();
            if wait.is_zero() {
                return true;
            }
            if self.standing.stop.is_asked() {
                return false;
            }
            self.note_backlog();
            self.standing.stop.sleep(wait.min(IDLE));
        }
    }

    fn connect(&mut self, runtime: &Runtime) {
        match self.unless_due(runtime, reach(&self.config)) {
            None => {}
            Some(Ok(store)) => {
                self.store = Some(store);
                let behind = self.behind();
                let store = self.config.location.clone();
                self.standing.say(SinkNotice::Connected { store, behind });
                self.standing.well(behind);
                self.note_backlog();
            }
            Some(Err(failure)) => self.failed(&failure),
        }
    }

    /// Does some work; `None`: given up, the time to stop is over.
    fn unless_due<T>(&self, runtime: &Runtime, work: impl Future<Output = T>) -> Option<T> {
        runtime.block_on(async {
            tokio::select! {
                done = work => Some(done),
                () = self.standing.stop.until_due() => None,
            }
        })
    }

    /// Plans the next range when there is one; `false`: not now.
    fn plan(&mut self) -> bool {
        let age_us = i64::try_from(self.config.seal_age_s).unwrap_or(i64::MAX);
        let age_us = age_us.saturating_mul(1_000_000);
        let limits = Limits { file_bytes: self.config.file_bytes, age_us };
        let looked = self.planner.look(&self.source, limits, now_us());
        let missed = std::mem::take(&mut self.planner.missed);
        if missed > 0 {
            self.standing.progress.update(|stats| stats.missed += missed);
            self.standing.say(SinkNotice::Missed { events: missed });
        }
        let Ready { range, events } = match looked {
            Ok(Some(ready)) => ready,
            Ok(None) => {
                self.note_backlog();
                self.standing.stop.sleep(IDLE);
                return false;
            }
            Err(error) => {
                self.planner = Planner::begin(self.cursor.confirmed);
                self.failed(&unreadable(error.to_string()));
                return false;
            }
        };
        self.cursor.confirmed = range.from; // further than it was only where events were missed
        self.cursor.plan.push(range);
        self.left = events.map(|events| split_hours(events).into()).unwrap_or_default();
        self.unsaved = true;
        if self.save() {
            return true;
        }
        // Not synced, so nothing may be put.
        self.cursor.plan.clear();
        self.left.clear();
        self.planner = Planner::begin(self.cursor.confirmed);
        false
    }

    /// Writes the cursor file; `false`: it could not be written.
    fn save(&mut self) -> bool {
        match self.cursor.save(&self.files, NAME) {
            Ok(()) => {
                self.unsaved = false;
                self.standing.progress.set_durable(self.cursor.confirmed);
                true
            }
            Err(error) => {
                let error = error.to_string();
                let text = format!("the cursor cannot be saved: {error}");
                if !self.standing.is_failing() {
                    self.standing.say(SinkNotice::CursorNotSaved { error });
                }
                let random = self.files.random();
                self.standing.back_off(Health::Retrying, text, None, random);
                self.note_backlog();
                false
            }
        }
    }

    /// Puts the files of the plan's range, one after the other.
    fn send(&mut self, runtime: &Runtime) {
        let Some(planned) = self.cursor.plan.first().cloned() else { return };
        let (first_seq, end_seq) = (planned.from, planned.end);
        let range = Range { node: self.config.node.clone(), first_seq, end_seq };
        if self.left.is_empty() {
            match self.events_of(&planned) {
                Ok(events) => self.left = split_hours(events).into(),
                Err(failure) => return self.failed(&failure),
            }
        }
        while let Some((hour, events)) = self.left.front() {
            let put = match encode(&range, events) {
                Ok(file) => self.unless_due(runtime, async {
                    let store = self.store.as_ref().expect("it is reached before anything is sent");
                    store.put_whole(&range.path(*hour), file.into()).await
                }),
                Err(error) => Some(Err(Failure::fatal(error.to_string(), "report this"))),
            };
            match put {
                None => return,
                Some(Ok(_)) => self.note_put(),
                Some(Err(failure)) => {
                    self.standing.progress.update(|stats| stats.retries += 1);
                    return self.failed(&failure);
                }
            }
        }
        self.confirm();
    }

    /// The events of a range, from the spool.
    fn events_of(&self, planned: &Planned) -> Result<Vec<Event>, Failure> {
        let rows = (planned.end - planned.from) as usize;
        let run = self.source.read(planned.from, rows, u64::MAX);
        let run = run.map_err(|error| unreadable(error.to_string()))?;
        let whole = run.from == planned.from && run.events.len() == rows;
        if whole && checksum(&run.events) == planned.crc {
            return Ok(run.events);
        }
        let Planned { from, end, .. } = planned;
        let name = file_name(NAME);
        Err(Failure::fatal(
            match whole {
                true => format!(
                    "events {from} to {end} in the spool are not those that {name} has planned"
                ),
                false => format!(
                    "the spool no longer has events {from} to {end}, which {name} has \
                                  planned"
                ),
            },
            "restore the data directory; or remove the cursor file in it, and everything in the \
             spool is put once more under other names",
        ))
    }

    /// The first file that was left is there.
    fn note_put(&mut self) {
        let Some((_, events)) = self.left.pop_front() else { return };
        let bytes: u64 = events.iter().map(|event| event.size() as u64).sum();
        self.standing.progress.update(|stats| {
            stats.batches += 1;
            stats.events += events.len() as u64;
            stats.bytes += bytes;
        });
    }

    /// All files of the first range are there.
    fn confirm(&mut self) {
        self.cursor.confirm_first();
        self.unsaved = true;
        self.standing.progress.set_confirmed(self.cursor.confirmed);
        let behind = self.behind();
        self.standing.well(behind);
        self.note_backlog();
        if self.save() {
            self.source.confirmed();
        }
    }

    /// Deletes what is older than the configuration keeps, now and then.
    fn expire(&mut self, runtime: &Runtime) {
        let (Some(age_s), Some(store)) = (self.config.retention_age_s, &self.store) else { return };
        if Instant::now() < self.expire_at {
            return;
        }
        let work = store.expire(now_us(), age_s, EXPIRE_FILES_MAX);
        let Some(done) = self.unless_due(runtime, work) else { return };
        let more = done.as_ref().is_ok_and(|expired| expired.more);
        if !more {
            self.expire_at = Instant::now() + EXPIRE_EVERY;
        }
        match done {
            Ok(expired) => self.standing.progress.update(|stats| stats.expired += expired.files),
            Err(failure) => {
                self.standing.say(SinkNotice::NotExpired { error: failure.to_string() })
            }
        }
    }

    fn failed(&mut self, failure: &Failure) {
        let (health, floor) = match failure {
            Failure::Retry { after, .. } => (Health::Retrying, *after),
            Failure::Fatal { .. } => (Health::Stuck, None),
        };
        let random = self.files.random();
        self.standing.failed(health, failure.to_string(), floor, random);
        self.note_backlog();
    }

    fn behind(&self) -> u64 {
        self.source.end_seq().saturating_sub(self.cursor.confirmed)
    }

    /// How old the oldest event is that waits, for the metric and the health.
    fn note_backlog(&mut self) {
        let confirmed = self.cursor.confirmed;
        if self.oldest.is_none_or(|(seq, _)| seq != confirmed) {
            self.oldest = None;
            if self.behind() > 0
                && let Ok(run) = self.source.read(confirmed, 1, 1)
                && let Some(event) = run.events.first()
            {
                self.oldest = Some((confirmed, event.accepted_us()));
            }
        }
        let oldest_us = self.oldest.map(|(_, accepted_us)| accepted_us);
        self.standing.progress.update(|stats| stats.oldest_waiting_us = oldest_us);
    }
}

async fn reach(config: &ParquetConfig) -> Result<Store, Failure> {
    let store = Store::open(config)?;
    store.days().await?;
    Ok(store)
}

fn unreadable(text: String) -> Failure {
    Failure::fatal(text, "the spool cannot be read: check the disk of the data directory")
}

fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
