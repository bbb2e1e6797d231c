//! Asking a sink to end: at once, or when it has sent what is there, but not later than a moment.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Shared by a sink's thread and whoever stops it.
#[derive(Debug, Default)]
pub struct Stop {
    asked: Mutex<Option<Instant>>,
    changed: Condvar,
    due: Notify,
}

impl Stop {
    /// Asks: it ends when everything is sent, at the latest after `within`.
    pub fn ask(&self, within: Duration) {
        *self.lock() = Some(Instant::now() + within);
        self.changed.notify_all();
        self.due.notify_one();
    }

    /// True once it was asked.
    pub fn is_asked(&self) -> bool {
        self.lock().is_some()
    }

    /// True if the time is over.
    pub fn is_due(&self) -> bool {
        self.lock().is_some_and(|by| Instant::now() >= by)
    }

    /// Sleeps, unless or until it is asked.
    pub fn sleep(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut asked = self.lock();
        while asked.is_none() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let woken = self.changed.wait_timeout(asked, left);
            asked = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Ends when the time is over: what is under way is then given up.
    pub async fn until_due(&self) {
        loop {
            let by = *self.lock();
            match by {
                Some(by) => return tokio::time::sleep_until(by.into()).await,
                None => self.due.notified().await,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
