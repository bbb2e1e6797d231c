//! Latencies in nanoseconds, from 1 us to 100 s, two digits.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Records latencies.
#[derive(Debug)]
pub struct Latencies(Histogram<u64>);

/// What is said about them.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Quantiles {
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
}

impl Latencies {
    /// Nothing recorded.
    pub fn new() -> Self {
        Self(Histogram::new_with_bounds(1_000, 100_000_000_000, 2).expect("constant bounds"))
    }

    /// One latency; out of range counts as the nearest bound.
    pub fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns.max(1_000));
    }

    /// The quantiles.
    pub fn quantiles(&self) -> Quantiles {
        let at = |quantile| self.0.value_at_quantile(quantile) as f64 / 1_000.0;
        let max_us = self.0.max() as f64 / 1_000.0;
        Quantiles { p50_us: at(0.5), p99_us: at(0.99), p999_us: at(0.999), max_us }
    }
}
