//! Sinks: what carries the spool's events to another store. Every sink has the same shape.
//!
//! A sink is a folder with five files: `config` (what a user sets), `schema` (tables or columns),
//! `encode` (events to rows), `service` (the loop, its errors by what is done next) and `tests`.
//! Here is what they share: [`Source`] (events by sequence number, from memory or the spool),
//! [`cursor`] (what was sent under which token, synced before it is sent), [`breaker`] (waiting),
//! and [`Progress`], through which the spool's writer learns what may be removed and which
//! publishers of `ack=stored` may be answered.
//!
//! Invariants: a sink confirms in the order of the spool and never skips; what it says is
//! *durable* is in its cursor file; a segment goes only when every sink's durable number is past
//! it. Threads: each sink has its own; the writer reads its [`Progress`].

pub mod breaker;
pub mod cursor;
#[cfg(feature = "sinks")]
mod handle;
mod notice;
mod source;
#[cfg(feature = "sinks")]
pub(crate) mod standing;
#[cfg(feature = "sinks")]
mod stop;
#[cfg(feature = "sinks")]
pub mod tls;

#[cfg(feature = "sinks")]
pub use handle::SinkHandle;
pub use notice::{OnSinkNotice, SinkNotice};
pub use source::{Run, Source};
#[cfg(feature = "sinks")]
pub use stop::Stop;

use proto::event::Event;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// An event that was this much older than its acceptance is late, microseconds: minutes that were
/// counted on the way do not have it.
pub const LATE_US: i64 = 30_000_000;

/// See [`LATE_US`]. The same for the same event, for ever.
pub fn is_late(event: &Event) -> bool {
    event.accepted_us().saturating_sub(event.time_us()) > LATE_US
}

/// How a sink fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Health {
    /// Not yet connected.
    #[default]
    Starting,
    /// Takes what comes.
    Healthy,
    /// The store does not take it now; it is tried again.
    Retrying,
    /// Somebody must look: the error says what to do. Tried again, slowly.
    Stuck,
}

impl Health {
    /// The name in answers and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Retrying => "retrying",
            Self::Stuck => "stuck",
        }
    }
}

/// Figures of a sink, for metrics and `shardcast storage status`.
#[derive(Debug, Clone, Default)]
pub struct SinkStats {
    /// See [`Health`].
    pub health: Health,
    /// The last error, while it lasts.
    pub error: Option<String>,
    /// Events the store has confirmed.
    pub events: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Inserts confirmed (or files written).
    pub batches: u64,
    /// Inserts that failed and were or are tried again.
    pub retries: u64,
    /// Ranges divided because the store wanted less at once, or to find a row it rejects.
    pub splits: u64,
    /// Rows the store rejected, kept as dead letters.
    pub dead_letters: u64,
    /// Events that retention had removed before this sink was configured, or while it was not.
    pub missed: u64,
    /// Files deleted because they were older than the sink keeps.
    pub expired: u64,
    /// When the oldest event that is not confirmed was accepted, microseconds since the epoch;
    /// `None`: everything is.
    pub oldest_waiting_us: Option<i64>,
}

/// How far a sink is; shared by its thread, the spool's writer and whoever counts.
#[derive(Debug, Default)]
pub struct Progress {
    confirmed: AtomicU64,
    durable: AtomicU64,
    stats: Mutex<SinkStats>,
}

impl Progress {
    /// A sink whose cursor file says `seq`.
    pub fn new(seq: u64) -> Self {
        let progress = Self::default();
        progress.set_durable(seq);
        progress
    }

    /// The store has everything before this number.
    pub fn confirmed(&self) -> u64 {
        self.confirmed.load(Ordering::Acquire)
    }

    /// The cursor file says that the store has everything before this number.
    pub fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// The store has everything before `seq`.
    pub fn set_confirmed(&self, seq: u64) {
        self.confirmed.fetch_max(seq, Ordering::AcqRel);
    }

    /// And the cursor file says so.
    pub fn set_durable(&self, seq: u64) {
        self.set_confirmed(seq);
        self.durable.fetch_max(seq, Ordering::AcqRel);
    }

    /// A copy of the figures.
    pub fn stats(&self) -> SinkStats {
        self.lock().clone()
    }

    /// Changes the figures.
    pub fn update(&self, change: impl FnOnce(&mut SinkStats)) {
        change(&mut self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, SinkStats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
