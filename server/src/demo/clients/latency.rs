//! Quantiles over the last seconds, in a fixed 8 KiB: log-linear buckets, two halves that take
//! turns.

use super::report::Latency;

/// Each power of two is split in so many buckets: quantiles are exact to 6 %.
const STEPS: usize = 16;
const STEPS_LOG: u32 = STEPS.ilog2();
/// Up to 2^32 us, more than an hour.
const BUCKETS: usize = (32 - STEPS_LOG as usize + 1) * STEPS;
/// How long a half is filled.
const HALF_MS: u64 = 5_000;

/// Latencies of the last 5 to 10 seconds.
pub struct Window {
    halves: [Box<[u32; BUCKETS]>; 2],
    began_ms: u64,
}

impl Window {
    /// An empty window.
    pub fn new(now_ms: u64) -> Self {
        let empty = || Box::new([0; BUCKETS]);
        Self { halves: [empty(), empty()], began_ms: now_ms }
    }

    /// Counts a latency.
    pub fn add(&mut self, us: u64) {
        let bucket = &mut self.halves[0][index(us)];
        *bucket = bucket.saturating_add(1);
    }

    /// Forgets what is too old.
    pub fn advance(&mut self, now_ms: u64) {
        if now_ms - self.began_ms >= HALF_MS {
            self.began_ms = now_ms;
            self.halves.swap(0, 1);
            self.halves[0].fill(0);
        }
    }

    /// The quantiles.
    pub fn latency(&self) -> Latency {
        Latency { p50_us: self.quantile(50), p99_us: self.quantile(99) }
    }

    fn quantile(&self, percent: u64) -> Option<u64> {
        let both = || self.halves[0].iter().zip(self.halves[1].iter());
        let total: u64 = both().map(|(a, b)| u64::from(*a) + u64::from(*b)).sum();
        let rank = (total * percent).div_ceil(100);
        let mut seen = 0;
        let at = both().position(|(a, b)| {
            seen += u64::from(*a) + u64::from(*b);
            seen >= rank && total > 0
        });
        at.map(upper)
    }
}

fn index(us: u64) -> usize {
    let us = us.min(u64::from(u32::MAX));
    if us < STEPS as u64 {
        return us as usize;
    }
    let shift = us.ilog2() - STEPS_LOG;
    ((shift + 1) as usize) * STEPS + (us >> shift) as usize - STEPS
}

/// The largest value of a bucket: a quantile is never said too low.
fn upper(index: usize) -> u64 {
    if index < STEPS {
        return index as u64;
    }
    let shift = index / STEPS - 1;
    (((index % STEPS + STEPS + 1) as u64) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_what_it_says() {
        for us in (0..2_000).chain([65_535, 65_536, 1 << 31, u64::from(u32::MAX)]) {
            let top = upper(index(us));
            assert!(top >= us && top <= us + us / STEPS as u64, "{us} is counted as {top}");
        }
        assert_eq!(index(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_of_the_last_seconds_only() {
        let mut window = Window::new(0);
        assert_eq!(window.latency(), Latency::default());
        (0..98).for_each(|_| window.add(10));
        (0..2).for_each(|_| window.add(1_000));
        let latency = window.latency();
        assert_eq!(latency.p50_us, Some(10));
        assert_eq!(latency.p99_us, Some(upper(index(1_000))));
        window.advance(HALF_MS);
        window.add(20);
        assert_eq!(window.latency().p50_us, Some(10));
        window.advance(2 * HALF_MS);
        assert_eq!(window.latency(), Latency { p50_us: Some(21).map(|_| 20), p99_us: Some(20) });
        window.advance(3 * HALF_MS);
        assert_eq!(window.latency(), Latency::default());
    }
}
