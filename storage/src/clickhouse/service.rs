//! The loop: plan, save, send, confirm; and what each class of failure leads to.
//!
//! One insert is under way at a time: the server is the limit (about 4 us a row with merges, our
//! encoding a tenth of a microsecond), and order is kept for nothing. A batch never crosses a day
//! of `received`, so it is one partition and therefore in the table as a whole or not at all.

use super::client::{Class, Failure, Store};
use super::config::ClickHouseConfig;
use super::database::{contains, migrate};
use super::schema::{DEAD_LETTERS, EVENTS, Table};
use super::{NAME, encode};
use crate::feed::Woken;
use crate::files::Files;
use crate::sink::breaker::{Breaker, Circuit};
use crate::sink::cursor::{Cursor, Planned, checksum};
use crate::sink::{Health, OnSinkNotice, Progress, SinkHandle, SinkNotice, Source, Stop};
use proto::event::Event;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a sink that needs a person waits before it looks again.
const STUCK_WAIT: Duration = Duration::from_secs(30);
/// How long an idle sink waits for events before it looks around.
const IDLE: Duration = Duration::from_secs(1);
/// Unknown failures of one range before it is treated as rejected.
const UNKNOWN_MAX: u32 = 3;
/// The number of a spool's very first event.
const FIRST_SEQ: u64 = 1;
/// Between two notices about dead letters, or about views.
const DEAD_NOTICE: Duration = Duration::from_secs(60);
/// A day of `received`, in microseconds: a partition.
const DAY_US: i64 = 86_400_000_000;

/// The sink; see the module.
pub struct ClickHouseSink<F: Files> {
    config: ClickHouseConfig,
    files: F,
    source: Source<F>,
    store: Store,
    cursor: Cursor,
    /// The cursor file says less than `cursor`.
    unsaved: bool,
    /// It also has another plan: nothing may be sent before it is written.
    plan_unsaved: bool,
    /// Events of the plan's beginning, in memory.
    held: Vec<Event>,
    held_from: u64,
    breaker: Breaker,
    /// Endpoints tried since the last success.
    tried: usize,
    /// Failures of unknown kind of the first range.
    unknown: u32,
    /// Ranges that begin before this are parts of one that failed so for too long: they are divided
    /// at once.
    suspect_before: u64,
    /// Ranges that begin before this may have been sent although nobody heard of it.
    uncertain_before: u64,
    dead_told: Option<Instant>,
    view_told: Option<Instant>,
    progress: Arc<Progress>,
    stop: Arc<Stop>,
    on_notice: OnSinkNotice,
    began: Instant,
}

impl<F: Files> ClickHouseSink<F> {
    /// Prepares the sink; its thread is started by [`ClickHouseSink::start`].
    pub fn new(
        config: ClickHouseConfig,
        files: F,
        source: Source<F>,
        cursor: Option<Cursor>,
        on_notice: OnSinkNotice,
    ) -> Result<Self, String> {
        let store = Store::new(&config)?;
        let is_new = cursor.is_none();
        let target = &config.database;
        let fresh = || Cursor::new(files.random(), FIRST_SEQ).aimed_at(target);
        if let Some(wrong) = cursor.as_ref().and_then(|cursor| cursor.other_target(NAME, target)) {
            return Err(wrong);
        }
        let cursor = cursor.unwrap_or_else(fresh);
        if cursor.planned_end() > source.end_seq() {
            return Err(format!(
                "{dir}/{file} says that events up to {} were sent, but the spool ends at {}: was \
                 the data directory restored from a backup? Restore both from the same one; or \
                 remove {file}, and everything in the spool is sent",
                cursor.planned_end() - 1,
                source.end_seq() - 1,
                dir = files.describe(),
                file = crate::sink::cursor::file_name(NAME),
            ));
        }
        let durable = if is_new { 0 } else { cursor.confirmed };
        Ok(Self {
            uncertain_before: cursor.planned_end(),
            progress: Arc::new(Progress::new(durable)),
            config,
            files,
            source,
            store,
            unsaved: is_new,
            plan_unsaved: false,
            cursor,
            held: Vec::new(),
            held_from: 0,
            breaker: Breaker::default(),
            tried: 0,
            unknown: 0,
            suspect_before: 0,
            dead_told: None,
            view_told: None,
            stop: Arc::default(),
            on_notice,
            began: Instant::now(),
        })
    }

    /// How far it is.
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// Reaches the store once and checks its schema: what a start wants to know. Not reaching it
    /// is no reason not to start.
    pub fn check(&mut self, within: Duration) -> Result<(), Failure> {
        let runtime = runtime().map_err(|e| Failure::new(Class::Stuck, e.to_string()))?;
        runtime.block_on(async {
            let migrated = tokio::time::timeout(within, migrate(&self.store, &self.config)).await;
            migrated.unwrap_or_else(|_| {
                let text = format!("{}: no answer", self.store.url());
                Err(Failure::new(Class::Unavailable, text))
            })
        })
    }

    /// Starts its thread.
    pub fn start(self) -> std::io::Result<SinkHandle> {
        let (stop, progress) = (Arc::clone(&self.stop), Arc::clone(&self.progress));
        let runtime = runtime()?;
        SinkHandle::start(NAME, stop, progress, move || self.run(&runtime))
    }

    fn run(mut self, runtime: &tokio::runtime::Runtime) {
        let mut connected = false;
        while !self.stop.is_due() {
            if !self.wait_for_circuit() {
                break;
            }
            if !connected {
                connected = self.connect(runtime);
                continue;
            }
            if self.cursor.plan.is_empty() && !self.plan() {
                if self.stop.is_asked() {
                    break;
                }
                continue;
            }
            if self.breaker.circuit(self.now_ms()) == Circuit::HalfOpen {
                match self.unless_due(runtime, self.store.execute("SELECT 1")) {
                    None => break,
                    Some(Ok(())) => {}
                    Some(Err(failure)) => {
                        self.failed(&failure);
                        continue;
                    }
                }
            }
            connected = self.send(runtime);
        }
        self.save();
    }

    fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// `false`: asked to stop while nothing can be sent.
    fn wait_for_circuit(&mut self) -> bool {
        loop {
            let wait_ms = self.breaker.wait_ms(self.now_ms());
            if wait_ms == 0 {
                return true;
            }
            if self.stop.is_asked() {
                return false;
            }
            self.note_backlog();
            self.stop.sleep(Duration::from_millis(wait_ms.min(1_000)));
        }
    }

    /// Does some work; `None`: given up, the time to stop is over.
    fn unless_due<T>(
        &self,
        runtime: &tokio::runtime::Runtime,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        runtime.block_on(async {
            tokio::select! {
                done = work => Some(done),
                () = self.stop.until_due() => None,
            }
        })
    }

    fn connect(&mut self, runtime: &tokio::runtime::Runtime) -> bool {
        match self.unless_due(runtime, migrate(&self.store, &self.config)) {
            None => false,
            Some(Ok(())) => {
                let behind = self.source.end_seq().saturating_sub(self.cursor.confirmed);
                let store = self.store.url().to_owned();
                (self.on_notice)(NAME, SinkNotice::Connected { store, behind });
                self.well();
                true
            }
            Some(Err(failure)) => {
                self.failed(&failure);
                false
            }
        }
    }

    /// Plans the next batch when there is one; `false`: not now.
    fn plan(&mut self) -> bool {
        let from = self.cursor.planned_end();
        if self.source.end_seq() <= from {
            if self.unsaved && self.save() && self.breaker.failures() > 0 {
                self.well(); // the cursor was what failed: there is nothing to send
            }
            self.note_backlog();
            self.source.wait(from + 1, if self.stop.is_asked() { Duration::ZERO } else { IDLE });
            return false;
        }
        self.gather(from);
        let run = self.source.read(from, self.config.batch_rows, self.config.batch_bytes);
        let run = match run {
            Ok(run) if run.events.is_empty() => {
                let first = self.source.first_seq();
                if first > from {
                    self.miss(first); // all of it, up to the newest
                }
                return false;
            }
            Ok(run) => run,
            Err(error) => {
                self.failed(&Failure::new(Class::Stuck, error.to_string()));
                return false;
            }
        };
        if run.from > from {
            self.miss(run.from);
        }
        self.held = run.events;
        self.held_from = run.from;
        let first_day = self.held.first().map(day);
        let one_day = self.held.iter().take_while(|event| Some(day(event)) == first_day).count();
        self.held.truncate(one_day);
        let end = run.from + one_day as u64;
        let crc = checksum(&self.held);
        self.cursor.plan.push(Planned { from: run.from, end, crc, dead: None });
        self.unsaved = true;
        if self.save() {
            self.note_backlog(); // an insert that hangs must show while it does
            return true;
        }
        self.cursor.plan.clear(); // not synced, so it must not be sent
        false
    }

    /// Retention removed what is before `to` while no sink kept it.
    fn miss(&mut self, to: u64) {
        let events = to - self.cursor.confirmed;
        self.progress.update(|stats| stats.missed += events);
        (self.on_notice)(NAME, SinkNotice::Missed { events });
        self.cursor.confirmed = to;
        self.unsaved = true;
        self.progress.set_confirmed(to);
        self.source.confirmed();
    }

    /// Waits for more of a batch that begins at `from`, in steps, so that a stop is seen.
    fn gather(&self, from: u64) {
        let until = Instant::now() + self.config.batch_age;
        let seq = from + self.config.batch_rows as u64;
        while !self.stop.is_asked() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.source.wait(seq, left.min(IDLE)) == Woken::Arrived {
                return;
            }
        }
    }

    /// Writes the cursor file; `false`: it could not be written.
    fn save(&mut self) -> bool {
        match self.cursor.save(&self.files, NAME) {
            Ok(()) => {
                (self.unsaved, self.plan_unsaved) = (false, false);
                self.progress.set_durable(self.cursor.confirmed);
                true
            }
            Err(error) => {
                let error = error.to_string();
                let text = format!("the cursor cannot be saved: {error}");
                if self.breaker.failures() == 0 {
                    (self.on_notice)(NAME, SinkNotice::CursorNotSaved { error });
                }
                self.back_off(Health::Retrying, text);
                false
            }
        }
    }

    /// Sends the first range of the plan. `false`: look at the schema before going on.
    fn send(&mut self, runtime: &tokio::runtime::Runtime) -> bool {
        if self.plan_unsaved && !self.save() {
            return true;
        }
        let Some(range) = self.cursor.plan.first().cloned() else { return true };
        let events = match self.events_of(&range) {
            Ok(events) => events,
            Err(failure) => {
                self.failed(&failure);
                return true;
            }
        };
        let token = self.cursor.token(&range);
        let table: Table = if range.dead.is_some() { DEAD_LETTERS } else { EVENTS };
        let path = table.path(&self.config);
        let rows = encode::native(&events, range.dead.as_deref());
        let sent = self.unless_due(runtime, self.store.insert(&path, &token, rows));
        match sent {
            None => true,
            Some(Ok(())) => {
                self.confirm(&events);
                true
            }
            Some(Err(failure)) => {
                self.on_failure(runtime, &range, &events, &failure);
                failure.class != Class::Stuck
            }
        }
    }

    /// The events of a range: those in memory, or from the spool after a restart or a split.
    fn events_of(&mut self, range: &Planned) -> Result<Vec<Event>, Failure> {
        let rows = (range.end - range.from) as usize;
        let held_end = self.held_from + self.held.len() as u64;
        if range.from < self.held_from || range.end > held_end {
            let stuck = |text: String| Failure::new(Class::Stuck, text);
            let run = self.source.read(range.from, rows, u64::MAX);
            let run = run.map_err(|error| stuck(error.to_string()))?;
            if run.from != range.from || run.events.len() != rows {
                return Err(stuck(format!(
                    "the spool no longer has events {} to {}, which were being sent; restore the \
                     data directory, or remove {} in it to go on without them",
                    range.from,
                    range.end,
                    crate::sink::cursor::file_name(NAME)
                )));
            }
            if checksum(&run.events) != range.crc {
                return Err(stuck(format!(
                    "events {} to {} in the spool are not those that were being sent: was the data \
                     directory restored from a backup? Remove {} in it to send the spool anew",
                    range.from,
                    range.end,
                    crate::sink::cursor::file_name(NAME)
                )));
            }
            self.held = run.events;
            self.held_from = range.from;
        }
        // What is held was planned from these very events, or checked when it was read.
        let skip = (range.from - self.held_from) as usize;
        Ok(self.held[skip..skip + rows].to_vec())
    }

    /// The store has the first range.
    fn confirm(&mut self, events: &[Event]) {
        let range = self.cursor.confirm_first();
        self.unsaved = true;
        self.progress.set_confirmed(self.cursor.confirmed);
        let bytes: u64 = events.iter().map(|event| event.size() as u64).sum();
        let dead = range.dead.is_some();
        self.progress.update(|stats| {
            stats.batches += 1;
            if dead {
                stats.dead_letters += 1;
            } else {
                stats.events += events.len() as u64;
                stats.bytes += bytes;
            }
        });
        self.well();
        self.source.confirmed();
        if let Some(reason) = range.dead {
            self.tell_dead(reason);
        }
    }

    fn tell_dead(&mut self, reason: String) {
        if self.dead_told.is_none_or(|told| told.elapsed() > DEAD_NOTICE) {
            self.dead_told = Some(Instant::now());
            let total = self.progress.stats().dead_letters;
            (self.on_notice)(NAME, SinkNotice::DeadLetters { total, reason });
        }
    }

    fn tell_view(&mut self, error: &str) {
        if self.view_told.is_none_or(|told| told.elapsed() > DEAD_NOTICE) {
            self.view_told = Some(Instant::now());
            (self.on_notice)(NAME, SinkNotice::ViewFailed { error: error.to_owned() });
        }
    }

    fn on_failure(
        &mut self,
        runtime: &tokio::runtime::Runtime,
        range: &Planned,
        events: &[Event],
        failure: &Failure,
    ) {
        self.progress.update(|stats| stats.retries += 1);
        let mut class = failure.class;
        let whole = events.len() > 1;
        if class == Class::Unknown {
            self.unknown += 1;
            if self.unknown > UNKNOWN_MAX || (whole && range.from < self.suspect_before) {
                class = Class::Rejected;
                self.suspect_before = self.suspect_before.max(range.end);
            }
        }
        match class {
            Class::TooLarge | Class::Rejected if range.dead.is_none() => {
                // The table may have the rows all the same: of an insert whose answer was lost, or
                // of this one, if a view behind the table failed. Parts of them have other tokens
                // and would be there twice.
                let held = contains(&self.store, &self.config, &events[0]);
                match self.unless_due(runtime, held) {
                    None => return,
                    Some(Ok(false)) => {}
                    Some(Ok(true)) => {
                        if range.from >= self.uncertain_before {
                            self.tell_view(&failure.text);
                        }
                        return self.confirm(events);
                    }
                    Some(Err(failure)) => return self.failed(&failure),
                }
                if whole {
                    self.split(range, events);
                } else if class == Class::Rejected || self.unknown > UNKNOWN_MAX {
                    self.cursor.condemn_first(&failure.text);
                    self.replanned();
                } else {
                    // One row that is too large: wait, then give it up. But if the whole server is
                    // short of memory, it is not the row's fault.
                    self.unknown += u32::from(!failure.is_of_the_server());
                    self.failed(failure);
                }
            }
            _ => {
                // It may have been taken although the answer was lost.
                self.uncertain_before = self.uncertain_before.max(range.end);
                self.failed(failure);
            }
        }
    }

    fn split(&mut self, range: &Planned, events: &[Event]) {
        let (first, second) = events.split_at(events.len() / 2);
        let crcs = (checksum(first), checksum(second));
        self.cursor.split_first(range.from + first.len() as u64, crcs);
        self.unknown = 0;
        self.progress.update(|stats| stats.splits += 1);
        self.replanned();
    }

    /// The plan's ranges have other tokens than before. If they cannot be written, `send` waits.
    fn replanned(&mut self) {
        (self.unsaved, self.plan_unsaved) = (true, true);
        self.save();
    }

    /// Nothing could be sent: the next endpoint, or a wait.
    fn failed(&mut self, failure: &Failure) {
        if failure.class == Class::Unavailable && self.tried + 1 < self.store.endpoints() {
            self.tried += 1;
            self.store.rotate();
            return;
        }
        self.tried = 0;
        self.store.rotate();
        let stuck = failure.class == Class::Stuck;
        let error = failure.text.clone();
        let before = self.progress.stats().health;
        let health = if stuck { Health::Stuck } else { Health::Retrying };
        if before != health {
            let error = error.clone();
            let notice =
                if stuck { SinkNotice::Stuck { error } } else { SinkNotice::Unavailable { error } };
            (self.on_notice)(NAME, notice);
        }
        self.back_off(health, error);
    }

    fn back_off(&mut self, health: Health, error: String) {
        let floor = if health == Health::Stuck { STUCK_WAIT } else { Duration::ZERO };
        self.breaker.failed(self.now_ms(), floor.as_millis() as u64, self.files.random());
        self.progress.update(|stats| {
            stats.health = health;
            stats.error = Some(error);
        });
        self.note_backlog();
    }

    /// The store took something.
    fn well(&mut self) {
        self.breaker.succeeded();
        (self.tried, self.unknown) = (0, 0);
        let before = self.progress.stats().health;
        if matches!(before, Health::Retrying | Health::Stuck) {
            let behind = self.source.end_seq().saturating_sub(self.cursor.confirmed);
            (self.on_notice)(NAME, SinkNotice::Healed { behind });
        }
        self.progress.update(|stats| {
            stats.health = Health::Healthy;
            stats.error = None;
        });
        self.note_backlog();
    }

    /// How old the oldest event is that waits, for the metric and the health.
    fn note_backlog(&mut self) {
        let confirmed = self.cursor.confirmed;
        let oldest = if self.source.end_seq() <= confirmed {
            None
        } else if let Some(skip) = confirmed.checked_sub(self.held_from)
            && let Some(event) = self.held.get(skip as usize)
        {
            Some(event.accepted_us())
        } else {
            let run = self.source.read(confirmed, 1, 1).ok();
            run.and_then(|run| run.events.first().map(Event::accepted_us))
        };
        self.progress.update(|stats| stats.oldest_waiting_us = oldest);
    }
}

/// The partition of an event.
pub(super) fn day(event: &Event) -> i64 {
    event.accepted_us().div_euclid(DAY_US)
}

pub(super) fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
