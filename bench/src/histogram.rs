//! Latencies in nanoseconds, from 1 us to 100 s, two digits.
//!
//! A client records millions of them on the core that is to read quickly, and neighbours are mostly
//! alike: deliveries of one message come a few microseconds apart, those of one read at once. So
//! latencies that the histogram does not tell apart are counted here, and go into it together.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

const LEAST_NS: u64 = 1_000;
const MOST_NS: u64 = 100_000_000_000;

/// Records latencies.
#[derive(Debug)]
pub struct Latencies {
    histogram: Histogram<u64>,
    /// Latencies that are all the same to the histogram, and how many came since another did.
    alike: RangeInclusive<u64>,
    run: u64,
}

/// What is said about them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
}

impl Latencies {
    /// Nothing recorded.
    pub fn new() -> Self {
        let histogram = Histogram::new_with_bounds(LEAST_NS, MOST_NS, 2).expect("constant bounds");
        // No latency is 0 once it is within the bounds.
        Self { histogram, alike: 0..=0, run: 0 }
    }

    /// One latency; out of range counts as the nearest bound.
    pub fn record(&mut self, ns: u64) {
        let ns = ns.clamp(LEAST_NS, MOST_NS);
        if self.alike.contains(&ns) {
            self.run += 1;
            return;
        }
        self.flush();
        let [first, last] =
            [self.histogram.lowest_equivalent(ns), self.histogram.highest_equivalent(ns)];
        (self.alike, self.run) = (first..=last, 1);
    }

    fn flush(&mut self) {
        let run = std::mem::take(&mut self.run);
        if run > 0 {
            self.histogram.saturating_record_n(*self.alike.end(), run);
        }
    }

    /// The quantiles.
    pub fn quantiles(mut self) -> Quantiles {
        self.flush();
        let at = |quantile| self.histogram.value_at_quantile(quantile) as f64 / 1_000.0;
        let max_us = self.histogram.max() as f64 / 1_000.0;
        Quantiles { p50_us: at(0.5), p99_us: at(0.99), p999_us: at(0.999), max_us }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rising, falling, repeated, and out of both bounds.
    fn latencies() -> Vec<u64> {
        let rising = (0..20_000).map(|at| 900 + at * 7_919);
        let falling = (0..3_000).rev().map(|at| at * 333);
        let repeated = [5_000_000, 7_000, 5_000_000].into_iter().cycle().take(2_000);
        rising.chain(falling).chain(repeated).chain([0, u64::MAX, MOST_NS, 1]).collect()
    }

    #[test]
    fn counting_together_what_is_alike_changes_no_quantile() {
        for count in [1, 2, 3, 1_000, 22_500, 25_004] {
            let mut each = Histogram::<u64>::new_with_bounds(LEAST_NS, MOST_NS, 2).unwrap();
            let mut together = Latencies::new();
            for ns in latencies().into_iter().take(count) {
                each.saturating_record(ns.clamp(LEAST_NS, MOST_NS));
                together.record(ns);
            }
            let at = |quantile| each.value_at_quantile(quantile) as f64 / 1_000.0;
            let expected = Quantiles {
                p50_us: at(0.5),
                p99_us: at(0.99),
                p999_us: at(0.999),
                max_us: each.max() as f64 / 1_000.0,
            };
            assert_eq!(together.quantiles(), expected, "the first {count}");
        }
    }

    #[test]
    fn nothing_recorded_is_zero() {
        assert_eq!(Latencies::new().quantiles(), Quantiles::default());
    }
}
