//! The goals that stand beside the figures. A missed goal is printed, not hidden; no exit code says
//! so, because a benchmark prints and tests judge.

use super::{BARE, OURS, Outcome};
use serde::{Deserialize, Serialize};

/// What a figure of ours is held against.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Against {
    /// Nothing: the figure itself.
    Itself,
    /// One side, by name; the figure is the median of the paired ratios.
    Side(String),
    /// Whichever other server does best; the bare loop is none.
    BestPeer,
}

/// Which way is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Bound {
    AtMost,
    AtLeast,
}

/// One goal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Goal {
    pub measure: String,
    /// Whose figure.
    pub of: String,
    pub against: Against,
    pub bound: Bound,
    pub limit: f64,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// What was asked, in words.
    pub asked: String,
    /// The figure, or why there is none.
    pub figure: Option<f64>,
    pub met: bool,
}

impl Goal {
    /// Our figure is at most so much.
    pub fn at_most(measure: &str, against: Against, limit: f64) -> Self {
        Self {
            measure: measure.to_owned(),
            of: OURS.to_owned(),
            against,
            bound: Bound::AtMost,
            limit,
        }
    }

    /// Our figure is at least so much.
    pub fn at_least(measure: &str, against: Against, limit: f64) -> Self {
        Self { bound: Bound::AtLeast, ..Self::at_most(measure, against, limit) }
    }

    /// The same for another side of ours.
    pub fn of(self, side: &str) -> Self {
        Self { of: side.to_owned(), ..self }
    }

    /// Holds it against what was found.
    pub fn judge(&self, outcome: &Outcome) -> Verdict {
        let (figure, other) = match self.figure(outcome) {
            Some((figure, other)) => (Some(figure), other),
            None => (None, String::new()),
        };
        let bound = match self.bound {
            Bound::AtMost => "at most",
            Bound::AtLeast => "at least",
        };
        let Self { measure, of, limit, .. } = self;
        let unit = outcome.measure(measure).map_or("", |it| it.unit.as_str());
        let asked = match &self.against {
            Against::Itself => format!("{of}: {measure} {bound} {limit} {unit}"),
            Against::Side(side) => format!("{of}: {measure} {bound} {limit} of {side}"),
            Against::BestPeer => {
                format!("{of}: {measure} {bound} {limit} of the best peer ({other})")
            }
        };
        let met = figure.is_some_and(|figure| match self.bound {
            Bound::AtMost => figure <= *limit,
            Bound::AtLeast => figure >= *limit,
        });
        Verdict { asked, figure, met }
    }

    /// The figure, and the name of the side it is held against.
    fn figure(&self, outcome: &Outcome) -> Option<(f64, String)> {
        let measure = outcome.measure(&self.measure)?;
        let ours = outcome.side(&self.of)?;
        let ratio = |side: usize| measure.ratio(ours, side).map(|spread| spread.median);
        match &self.against {
            Against::Itself => {
                super::Spread::of(measure.of(ours)).map(|it| (it.median, String::new()))
            }
            Against::Side(name) => Some((ratio(outcome.side(name)?)?, name.clone())),
            Against::BestPeer => {
                let peers = outcome.sides.iter().enumerate().filter(|(_, side)| {
                    !side.name.starts_with(OURS) && !side.name.starts_with(BARE)
                });
                let ratios = peers.filter_map(|(at, side)| Some((ratio(at)?, side.name.clone())));
                // The best peer is the one that leaves us the worst ratio.
                ratios.reduce(|worst, it| match self.bound {
                    Bound::AtMost if it.0 > worst.0 => it,
                    Bound::AtLeast if it.0 < worst.0 => it,
                    _ => worst,
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::outcome;

    #[test]
    fn a_goal_is_held_against_itself_a_side_or_the_best_peer() {
        let outcome = outcome();
        let judge = |goal: Goal| {
            let verdict = goal.judge(&outcome);
            (verdict.figure, verdict.met)
        };
        let at_most = |against, limit| Goal::at_most("cost", against, limit);
        assert_eq!(judge(at_most(Against::Itself, 3.9)), (Some(4.0), false));
        assert_eq!(judge(at_most(Against::Side("a".to_owned()), 1.0)), (Some(1.0), true));
        // `b` costs less than `a`; the bare loop costs least and is no peer.
        assert_eq!(judge(at_most(Against::BestPeer, 1.9)), (Some(2.0), false));
        assert_eq!(judge(at_most(Against::Side("gone".to_owned()), 9.0)), (None, false));
        let at_least = Goal::at_least("cost", Against::BestPeer, 1.0);
        assert_eq!(at_least.judge(&outcome).figure, Some(1.0));
        assert!(at_least.judge(&outcome).asked.contains("(a)"));
    }
}
