//! Waiting after failures: exponential with jitter, and a circuit breaker on top.
//!
//! Closed: everything is sent. After a failure: open, nothing is sent until the wait is over; then
//! half open: one cheap probe decides, and only what is sent after a good probe closes it. Pure:
//! the caller brings the time and the random numbers.

/// Where the breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Circuit {
    /// Works.
    Closed,
    /// Waits.
    Open,
    /// May probe.
    HalfOpen,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Breaker {
    /// Failures in a row.
    failures: u32,
    /// Until when nothing is sent, milliseconds.
    open_until_ms: Option<u64>,
}

/// The first wait, in milliseconds.
pub const WAIT_MS_MIN: u64 = 1_000;
/// The longest wait, in milliseconds.
pub const WAIT_MS_MAX: u64 = 30_000;

impl Breaker {
    /// Where it stands.
    pub fn circuit(&self, now_ms: u64) -> Circuit {
        match self.open_until_ms {
            None => Circuit::Closed,
            Some(until) if now_ms < until => Circuit::Open,
            Some(_) => Circuit::HalfOpen,
        }
    }

    /// How long it stays open, milliseconds.
    pub fn wait_ms(&self, now_ms: u64) -> u64 {
        self.open_until_ms.map_or(0, |until| until.saturating_sub(now_ms))
    }

    /// Something failed. `random` is any number; the wait is between half and all of a time that
    /// doubles with every failure, and at least `floor_ms` (what a server asked for).
    pub fn failed(&mut self, now_ms: u64, floor_ms: u64, random: u64) {
        let doubled = WAIT_MS_MIN << self.failures.min(5);
        let whole = doubled.clamp(WAIT_MS_MIN, WAIT_MS_MAX).max(floor_ms);
        let wait = (whole / 2 + random % (whole / 2 + 1)).max(floor_ms);
        self.failures = self.failures.saturating_add(1);
        self.open_until_ms = Some(now_ms + wait);
    }

    /// Something was taken.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// Failures since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_bound_and_a_success_forgets_them() {
        let mut breaker = Breaker::default();
        let mut longest = Vec::new();
        for _ in 0..8 {
            breaker.failed(0, 0, u64::MAX);
            longest.push(breaker.wait_ms(0));
            assert_eq!(breaker.circuit(0), Circuit::Open);
        }
        assert!(longest.iter().all(|wait| (WAIT_MS_MIN / 2..=WAIT_MS_MAX).contains(wait)));
        assert!(longest.is_sorted() && longest[7] > 10_000, "{longest:?}");
        assert_eq!(breaker.circuit(WAIT_MS_MAX), Circuit::HalfOpen);
        breaker.succeeded();
        assert_eq!((breaker.circuit(0), breaker.failures()), (Circuit::Closed, 0));
    }

    #[test]
    fn a_server_that_asks_for_a_longer_wait_gets_it() {
        let mut breaker = Breaker::default();
        breaker.failed(5, 60_000, 1);
        assert!(breaker.wait_ms(5) >= 60_000);
    }
}
