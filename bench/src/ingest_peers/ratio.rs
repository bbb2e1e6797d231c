//! The ratio of two sides measured in turns: the median of the pairs' ratios and its spread.

/// Pairs are neighbours in time, so what the machine does to both cancels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio {
    /// The middle of the pairs' ratios.
    pub median: f64,
    /// The quartiles.
    pub quartiles: (f64, f64),
    /// How many pairs.
    pub pairs: usize,
}

impl Ratio {
    /// Of `ours` to `theirs`, pair by pair.
    pub fn of(ours: &[f64], theirs: &[f64]) -> Self {
        let mut ratios: Vec<f64> = ours.iter().zip(theirs).map(|(a, b)| a / b).collect();
        ratios.sort_by(f64::total_cmp);
        let quartiles = (quantile(&ratios, 0.25), quantile(&ratios, 0.75));
        Self { median: quantile(&ratios, 0.5), quartiles, pairs: ratios.len() }
    }
}

impl std::fmt::Display for Ratio {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (low, high) = self.quartiles;
        write!(f, "{:.3} (IQR {low:.3}-{high:.3}, {} pairs)", self.median, self.pairs)
    }
}

/// Between the two nearest values, in proportion.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let place = share * last as f64;
    let (below, rest) = (place.floor() as usize, place.fract());
    let above = (below + 1).min(last);
    sorted[below] + (sorted[above] - sorted[below]) * rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_the_median_of_the_pairs_and_not_of_the_sides() {
        let ratio = Ratio::of(&[1.0, 10.0, 100.0], &[2.0, 10.0, 50.0]);
        assert_eq!((ratio.median, ratio.quartiles), (1.0, (0.75, 1.5)));
        assert_eq!(Ratio::of(&[], &[]).pairs, 0);
    }
}
