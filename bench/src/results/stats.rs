//! Median and quartiles.

use serde::{Deserialize, Serialize};

/// What is said of a list of samples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    pub median: f64,
    /// The interquartile range.
    pub low: f64,
    pub high: f64,
    pub count: usize,
}

impl Spread {
    /// `None` without samples.
    pub fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted: Vec<f64> = samples.iter().copied().filter(|it| it.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        (!sorted.is_empty()).then(|| Self {
            median: quantile(&sorted, 0.5),
            low: quantile(&sorted, 0.25),
            high: quantile(&sorted, 0.75),
            count: sorted.len(),
        })
    }
}

/// Of samples taken in turns, round by round: what the machine does to both cancels.
pub fn ratios(over: &[f64], under: &[f64]) -> Vec<f64> {
    let pairs = over.iter().zip(under);
    pairs.filter(|(_, under)| **under > 0.0).map(|(over, under)| over / under).collect()
}

/// Between neighbours by weight, as most programs do it (type 7).
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (below, weight) = (place.floor() as usize, place.fract());
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] * (1.0 - weight) + sorted[above] * weight
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_lie_between_neighbours_and_do_not_need_order() {
        let spread = Spread::of(&[4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!((spread.low, spread.median, spread.high), (1.75, 2.5, 3.25));
        let one = Spread::of(&[7.0]).unwrap();
        assert_eq!((one.low, one.median, one.high, one.count), (7.0, 7.0, 7.0, 1));
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[f64::NAN, 1.0]).unwrap().count, 1);
    }
}
