//! A rate with a burst, shared by all shards: one number, the time at which everything taken so far
//! will have been paid for (the generic cell rate algorithm: a bucket without a timer).
//!
//! A full bucket takes one thing of any size, so that nothing legal can never be sent.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// See the module.
#[derive(Debug)]
pub struct Rate {
    per_s: u64,
    burst_ns: u64,
    paid_at_ns: AtomicU64,
}

/// The bucket lacks so much time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Over {
    /// How long until it would do, milliseconds, rounded up.
    pub wait_ms: u64,
}

impl Rate {
    /// `per_s` a second, and what `burst_s` seconds give at once. Neither may be 0.
    pub fn new(per_s: u64, burst_s: u32) -> Self {
        assert!(per_s > 0 && burst_s > 0, "a rate of nothing is not a rate");
        let burst_ns = u64::from(burst_s) * NS_PER_S;
        Self { per_s, burst_ns, paid_at_ns: AtomicU64::new(0) }
    }

    /// Takes `count` at a time on the monotonic clock.
    pub fn take(&self, now_ms: u64, count: u64) -> Result<(), Over> {
        let now_ns = now_ms.saturating_mul(NS_PER_MS);
        let cost_ns = self.cost_ns(count);
        let mut paid_at = self.paid_at_ns.load(Relaxed);
        loop {
            let next = match pay(paid_at, now_ns, cost_ns, self.burst_ns) {
                Ok(next) => next,
                Err(wait_ns) => return Err(Over { wait_ms: wait_ns.div_ceil(NS_PER_MS) }),
            };
            match self.paid_at_ns.compare_exchange_weak(paid_at, next, Relaxed, Relaxed) {
                Ok(_) => return Ok(()),
                Err(other) => paid_at = other,
            }
        }
    }

    /// Gives back what was taken and not used.
    pub fn give_back(&self, count: u64) {
        let cost_ns = self.cost_ns(count);
        let _ = self
            .paid_at_ns
            .fetch_update(Relaxed, Relaxed, |paid_at| Some(paid_at.saturating_sub(cost_ns)));
    }

    fn cost_ns(&self, count: u64) -> u64 {
        let ns = u128::from(count) * u128::from(NS_PER_S) / u128::from(self.per_s);
        u64::try_from(ns).unwrap_or(u64::MAX)
    }
}

/// When everything is paid for once something that costs so much is taken, too. `Err`: that is more
/// than the burst ahead, by so many nanoseconds.
pub fn pay(paid_at_ns: u64, now_ns: u64, cost_ns: u64, burst_ns: u64) -> Result<u64, u64> {
    let base = paid_at_ns.max(now_ns);
    let next = base.saturating_add(cost_ns);
    let owed = next - now_ns;
    if base > now_ns && owed > burst_ns { Err(owed - burst_ns) } else { Ok(next) }
}

const NS_PER_S: u64 = 1_000_000_000;
const NS_PER_MS: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_burst_is_at_once_and_the_rate_over_time() {
        let rate = Rate::new(10, 2);
        let taken = (0..100).filter(|_| rate.take(1_000, 1).is_ok()).count();
        assert_eq!(taken, 20);
        assert_eq!(rate.take(1_000, 1), Err(Over { wait_ms: 100 }));
        let later = (0..100).filter(|_| rate.take(1_500, 1).is_ok()).count();
        assert_eq!(later, 5);
        // Over a minute of trying 100 times a second, as many as the rate says.
        let sum = (0..6_000).filter(|step| rate.take(2_000 + step * 10, 1).is_ok()).count();
        assert!((599..=606).contains(&sum), "{sum}");
    }

    #[test]
    fn a_full_bucket_takes_anything_and_then_pays_for_it() {
        let rate = Rate::new(1_000, 1);
        assert_eq!(rate.take(5_000, 60_000), Ok(()));
        let Err(over) = rate.take(5_001, 1) else { panic!("it owes a minute") };
        assert!((59_000..=60_000).contains(&over.wait_ms), "{over:?}");
        assert_eq!(rate.take(65_001, 1), Ok(()));
    }

    #[test]
    fn what_is_given_back_can_be_taken_again_and_extremes_do_not_overflow() {
        let rate = Rate::new(1, 1);
        assert_eq!(rate.take(0, 1), Ok(()));
        rate.give_back(1);
        assert_eq!(rate.take(0, 1), Ok(()));
        let _ = rate.take(u64::MAX, u64::MAX);
        let _ = rate.take(0, u64::MAX);
        rate.give_back(u64::MAX);
    }
}
