//! How a sink stands with its store: what it says, how long it waits, whether it should end.
//!
//! A change is said once, however often it is tried; the reason of the newest failure is in the
//! figures. Threads: the sink's. Deliberately absent: what failed and why (see each sink).

use super::breaker::Breaker;
use super::{Health, OnSinkNotice, Progress, SinkNotice, Stop};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a sink that needs a person waits before it looks again.
const STUCK_WAIT: Duration = Duration::from_secs(30);

/// See the module.
pub(crate) struct Standing {
    name: &'static str,
    pub(crate) progress: Arc<Progress>,
    pub(crate) stop: Arc<Stop>,
    on_notice: OnSinkNotice,
    breaker: Breaker,
    began: Instant,
}

impl Standing {
    /// Of a sink whose cursor file says `durable`.
    pub(crate) fn new(name: &'static str, durable: u64, on_notice: OnSinkNotice) -> Self {
        Self {
            name,
            progress: Arc::new(Progress::new(durable)),
            stop: Arc::default(),
            on_notice,
            breaker: Breaker::default(),
            began: Instant::now(),
        }
    }

    fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// How long nothing may be sent yet.
    pub(crate) fn wait(&self) -> Duration {
        Duration::from_millis(self.breaker.wait_ms(self.now_ms()))
    }

    /// True if what came before the last success failed.
    pub(crate) fn is_failing(&self) -> bool {
        self.breaker.failures() > 0
    }

    /// The store took nothing, and wants to be left alone for `floor`. `random`: any number.
    pub(crate) fn failed(
        &mut self,
        health: Health,
        error: String,
        floor: Option<Duration>,
        random: u64,
    ) {
        if self.progress.stats().health != health {
            let error = error.clone();
            self.say(match health {
                Health::Stuck => SinkNotice::Stuck { error },
                _ => SinkNotice::Unavailable { error },
            });
        }
        self.back_off(health, error, floor, random);
    }

    /// The same, where the people who should know have been told.
    pub(crate) fn back_off(
        &mut self,
        health: Health,
        error: String,
        floor: Option<Duration>,
        random: u64,
    ) {
        let stuck = health == Health::Stuck;
        let floor = floor.unwrap_or_default().max(if stuck { STUCK_WAIT } else { Duration::ZERO });
        self.breaker.failed(self.now_ms(), floor.as_millis() as u64, random);
        self.progress.update(|stats| {
            stats.health = health;
            stats.error = Some(error);
        });
    }

    /// The store took something; so many events wait for it.
    pub(crate) fn well(&mut self, behind: u64) {
        self.breaker.succeeded();
        if matches!(self.progress.stats().health, Health::Retrying | Health::Stuck) {
            self.say(SinkNotice::Healed { behind });
        }
        self.progress.update(|stats| {
            stats.health = Health::Healthy;
            stats.error = None;
        });
    }

    /// Tells people.
    pub(crate) fn say(&mut self, notice: SinkNotice) {
        (self.on_notice)(self.name, notice);
    }
}
