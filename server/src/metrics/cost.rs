//! What a connection and a message cost at the moment, in bytes, CPU and money, and how far that is
//! from the calibrated model.
//!
//! Pure: [`CostWatch::observe`] is given a [`Sample`] every few seconds and keeps the last minute
//! of them; figures are differences between the newest and the oldest. A figure that is not known
//! (no price, no connection, no calibration, too little load to judge) is 0. Drift beyond
//! [`DRIFT_LIMIT`] is a warning for each figure: at once, then again after ten minutes, and each
//! time twice as late, up to a day; being back within the limit for as long as a window starts
//! afresh.
//!
//! Deliberately absent: clocks, `/proc`, log lines (see `control/cost.rs`, which has all three).

use crate::config::Cost;
use std::collections::VecDeque;
use tuning::capacity::{Activity, Calibration, DRIFT_LIMIT, Drift, billed_bytes};

/// What the server had done at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Sample {
    /// When, in seconds on any clock that only goes forward.
    pub at_s: f64,
    /// CPU of the process.
    pub cpu_s: f64,
    /// Connections open.
    pub connections: u64,
    /// Bytes that the ledger has for them.
    pub connection_bytes: u64,
    /// Messages delivered.
    pub messages: u64,
    /// Sends.
    pub sends: u64,
    /// Events published.
    pub ingested: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Bytes sent.
    pub bytes_sent: u64,
}

/// What is known now; 0 where nothing is.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LiveCost {
    /// Money for a connection and 30 days.
    pub per_connection: f64,
    /// Money for a message delivered.
    pub per_message: f64,
    /// User memory of a connection.
    pub connection_bytes: f64,
    /// CPU of the process for a message delivered, everything included.
    pub message_cpu_seconds: f64,
    /// Memory of a connection against the model, as a share.
    pub drift_memory: f64,
    /// CPU against the model, as a share.
    pub drift_cpu: f64,
}

/// A figure that is off.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Warning {
    /// Which.
    pub figure: &'static str,
    /// What was measured.
    pub measured: f64,
    /// What the model says.
    pub predicted: f64,
    /// The difference, as a share.
    pub drift: f64,
}

/// Watches one server.
#[derive(Debug)]
pub struct CostWatch {
    cost: Cost,
    calibration: Option<Calibration>,
    heartbeat_s: f64,
    tls: bool,
    samples: VecDeque<Sample>,
    memory: Backoff,
    cpu: Backoff,
    live: LiveCost,
}

impl CostWatch {
    /// Nothing was seen yet.
    pub fn new(cost: Cost, calibration: Option<Calibration>, heartbeat_s: u32, tls: bool) -> Self {
        Self {
            cost,
            calibration,
            heartbeat_s: f64::from(heartbeat_s),
            tls,
            samples: VecDeque::new(),
            memory: Backoff::default(),
            cpu: Backoff::default(),
            live: LiveCost::default(),
        }
    }

    /// The figures of the last observation.
    pub fn live(&self) -> LiveCost {
        self.live
    }

    /// Takes a sample; what somebody should be told.
    pub fn observe(&mut self, sample: Sample) -> Vec<Warning> {
        while self.samples.front().is_some_and(|old| sample.at_s - old.at_s > WINDOW_S) {
            self.samples.pop_front();
        }
        self.samples.truncate(SAMPLES_MAX);
        self.samples.push_back(sample);
        let old = self.samples.front().copied().unwrap_or(sample);
        let span = Span { old, new: sample, held: self.connection_seconds() };
        self.live = self.money(&span);
        self.live.connection_bytes =
            share(sample.connection_bytes as f64, sample.connections as f64);
        self.live.message_cpu_seconds = share(span.cpu_s(), span.messages());
        self.compare(&span)
    }

    /// Connections over time, as a sum of trapezes.
    fn connection_seconds(&self) -> f64 {
        let pairs = self.samples.iter().zip(self.samples.iter().skip(1));
        let held = |(one, next): (&Sample, &Sample)| {
            (one.connections + next.connections) as f64 / 2.0 * (next.at_s - one.at_s)
        };
        pairs.map(held).sum()
    }

    fn money(&self, span: &Span) -> LiveCost {
        let spent = self.cost.server_hour.amount() / 3_600.0 * span.seconds()
            + self.cost.per_gb.amount() / 1e9 * billed_bytes(span.of(|it| it.sends), span.bytes());
        let month = share(spent, span.seconds()) * MONTH_S;
        LiveCost {
            per_connection: share(month, span.new.connections as f64),
            per_message: share(spent, span.messages()),
            ..LiveCost::default()
        }
    }

    fn compare(&mut self, span: &Span) -> Vec<Warning> {
        let Some(calibration) = &self.calibration else { return Vec::new() };
        let activity = Activity {
            sends: span.of(|it| it.sends),
            messages: span.messages(),
            ingested: span.of(|it| it.ingested),
            accepted: span.of(|it| it.accepted),
            connection_seconds: span.held,
            heartbeat_s: self.heartbeat_s,
            tls: self.tls,
        };
        let predicted = calibration.predict(&activity);
        let (at_s, mut warnings) = (span.new.at_s, Vec::new());
        let mut judge = |figure, measured, predicted, known: bool, backoff: &mut Backoff| {
            let drift = Drift::of(measured, predicted).filter(|_| known);
            let large = drift.filter(|drift| drift.is_large());
            if let Some(drift) = large.filter(|_| backoff.is_due(at_s)) {
                warnings.push(Warning { figure, measured, predicted, drift: drift.0 });
            }
            if large.is_none() && drift.is_some() {
                backoff.calm(at_s);
            }
            drift.map_or(0.0, |drift| drift.0)
        };
        let enough = span.new.connections >= CONNECTIONS_MIN;
        let bytes = (self.live.connection_bytes, predicted.connection_bytes);
        self.live.drift_memory = judge(MEMORY, bytes.0, bytes.1, enough, &mut self.memory);
        // Below that, what the process does anyway is more than what is compared.
        let busy = span.seconds() >= WINDOW_S / 2.0
            && predicted.cpu_seconds >= span.seconds() * CPU_SHARE_MIN;
        let cpu = (span.cpu_s(), predicted.cpu_seconds);
        self.live.drift_cpu = judge(CPU, cpu.0, cpu.1, busy, &mut self.cpu);
        warnings
    }
}

/// Between two samples.
#[derive(Debug)]
struct Span {
    old: Sample,
    new: Sample,
    held: f64,
}

impl Span {
    fn of(&self, pick: fn(&Sample) -> u64) -> f64 {
        // Counters only grow, but a shard whose slot was busy may be a second behind.
        pick(&self.new).saturating_sub(pick(&self.old)) as f64
    }

    fn seconds(&self) -> f64 {
        self.new.at_s - self.old.at_s
    }

    fn messages(&self) -> f64 {
        self.of(|it| it.messages)
    }

    fn bytes(&self) -> f64 {
        self.of(|it| it.bytes_sent)
    }

    fn cpu_s(&self) -> f64 {
        (self.new.cpu_s - self.old.cpu_s).max(0.0)
    }
}

/// 0 where there is nothing to divide by.
fn share(amount: f64, among: f64) -> f64 {
    if among > 0.0 { amount / among } else { 0.0 }
}

/// When to warn again.
#[derive(Debug, Default)]
struct Backoff {
    next_s: Option<f64>,
    wait_s: f64,
    calm_since_s: Option<f64>,
}

impl Backoff {
    fn is_due(&mut self, now_s: f64) -> bool {
        self.calm_since_s = None;
        if self.next_s.is_some_and(|next| now_s < next) {
            return false;
        }
        self.wait_s = (self.wait_s * 2.0).clamp(BACKOFF_S_MIN, BACKOFF_S_MAX);
        self.next_s = Some(now_s + self.wait_s);
        true
    }

    /// A value that swings around the limit must not warn each time it swings.
    fn calm(&mut self, now_s: f64) {
        let since = *self.calm_since_s.get_or_insert(now_s);
        if now_s - since >= WINDOW_S {
            *self = Self::default();
        }
    }
}

/// The names of the figures: label values of the drift, too.
pub const MEMORY: &str = "connection_bytes";
pub const CPU: &str = "cpu";

const MONTH_S: f64 = 2_592_000.0;
const WINDOW_S: f64 = 60.0;
/// More never come in a window, unless a clock stands still.
const SAMPLES_MAX: usize = 64;
const BACKOFF_S_MIN: f64 = 600.0;
const BACKOFF_S_MAX: f64 = 86_400.0;
/// With fewer, what the table of connections has room for shows.
const CONNECTIONS_MIN: u64 = 1_000;
/// Of one core.
const CPU_SHARE_MIN: f64 = 0.05;
const _: () = assert!(DRIFT_LIMIT == 0.25, "the reference page says 25 %");

#[cfg(test)]
mod tests;
