//! The only place of the data path that reads a clock.

use crate::shard::Now;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Reads both clocks. Monotonic time counts from the process's start, so that it fits anything.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// The time.
    pub fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { ms: self.start.elapsed().as_millis() as u64, wall_us: wall.as_micros() as i64 }
    }
}
