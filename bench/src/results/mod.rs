//! What a run found: every sample of every side, so that all that is said can be computed again.
//!
//! Sides are run in turns, one block each per round, so sample `n` of one side and sample `n` of
//! another belong together: ratios are taken within a round and summed up by their median and
//! quartiles ([`stats`]). [`text`], [`markdown`] and [`svg`] only show what is in here.

pub mod files;
pub mod goals;
mod markdown;
pub mod stats;
mod svg;
pub mod text;

use crate::machine::Machine;
use goals::Goal;
use serde::{Deserialize, Serialize};
use stats::Spread;

/// Name of our own side.
pub const OURS: &str = "shardcast";
/// Name of the bare send loop.
pub const BARE: &str = "bare loop";

/// One scenario's outcome.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outcome {
    /// File name without ending.
    pub name: String,
    pub title: String,
    /// What was done, a sentence or two.
    pub about: String,
    pub machine: Machine,
    pub sides: Vec<SideInfo>,
    /// Who did not take part, and why.
    pub skipped: Vec<(String, String)>,
    pub measures: Vec<Measure>,
    pub goals: Vec<Goal>,
    /// What a reader must know to judge the figures.
    pub notes: Vec<String>,
}

/// Who took part.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SideInfo {
    pub name: String,
    /// What it is and how it is set.
    pub version: String,
    /// Lost, out of order, doubled, closed.
    pub integrity: String,
    /// Who was at the limit.
    pub saturation: String,
}

/// What is measured of every side, once a round.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Measure {
    pub name: String,
    pub unit: String,
    pub digits: usize,
    /// Ratios to ours are shown beside it.
    pub compared: bool,
    /// By side, in the order of the sides; a side without this measure has no samples.
    pub samples: Vec<Vec<f64>>,
}

impl Outcome {
    /// Nothing found yet.
    pub fn new(name: &str, title: String, about: &str, machine: Machine) -> Self {
        Self {
            name: name.to_owned(),
            title,
            about: about.to_owned(),
            machine,
            sides: Vec::new(),
            skipped: Vec::new(),
            measures: Vec::new(),
            goals: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Where a side stands.
    pub fn side(&self, name: &str) -> Option<usize> {
        self.sides.iter().position(|side| side.name == name)
    }

    /// A measure by name.
    pub fn measure(&self, name: &str) -> Option<&Measure> {
        self.measures.iter().find(|measure| measure.name == name)
    }

    /// The measure of that name, made if it is new.
    fn measure_mut(&mut self, name: &str, unit: &str, digits: usize) -> &mut Measure {
        let at = self.measures.iter().position(|measure| measure.name == name);
        let at = at.unwrap_or_else(|| {
            self.measures.push(Measure {
                name: name.to_owned(),
                unit: unit.to_owned(),
                digits,
                compared: false,
                samples: Vec::new(),
            });
            self.measures.len() - 1
        });
        &mut self.measures[at]
    }

    /// Adds a sample of a side.
    pub fn record(&mut self, side: usize, name: &str, unit: &str, digits: usize, value: f64) {
        let measure = self.measure_mut(name, unit, digits);
        if measure.samples.len() <= side {
            measure.samples.resize(side + 1, Vec::new());
        }
        measure.samples[side].push(value);
    }

    /// Shows ratios for these measures.
    pub fn compare(&mut self, names: &[&str]) {
        for measure in &mut self.measures {
            measure.compared |= names.contains(&measure.name.as_str());
        }
    }
}

impl Measure {
    /// Samples of a side.
    pub fn of(&self, side: usize) -> &[f64] {
        self.samples.get(side).map_or(&[], Vec::as_slice)
    }

    /// One side's samples over another's, round by round.
    pub fn ratios(&self, over: usize, under: usize) -> Vec<f64> {
        stats::ratios(self.of(over), self.of(under))
    }

    /// The same, summed up.
    pub fn ratio(&self, over: usize, under: usize) -> Option<Spread> {
        Spread::of(&self.ratios(over, under))
    }
}

#[cfg(test)]
mod tests {
    use super::goals::{Against, Goal};
    use super::*;

    /// Ours, the bare loop and two others in three rounds.
    pub fn outcome() -> Outcome {
        let mut outcome = Outcome::new("x", "X".to_owned(), "About.", Machine::default());
        let sides = [
            (OURS, [2.0, 4.0, 6.0]),
            (BARE, [1.0; 3]),
            ("a", [4.0, 4.0, 4.0]),
            ("b", [2.0, 2.0, 2.0]),
        ];
        for (at, (name, samples)) in sides.into_iter().enumerate() {
            outcome.sides.push(SideInfo {
                name: name.to_owned(),
                version: String::new(),
                integrity: String::new(),
                saturation: String::new(),
            });
            samples.iter().for_each(|value| outcome.record(at, "cost", "us", 2, *value));
        }
        outcome.compare(&["cost"]);
        outcome.skipped.push(("gone".to_owned(), "no reason".to_owned()));
        outcome.goals.push(Goal::at_most("cost", Against::BestPeer, 1.5));
        outcome
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        let outcome = outcome();
        let measure = outcome.measure("cost").unwrap();
        assert_eq!(measure.ratios(0, 2), [0.5, 1.0, 1.5]);
        assert!(measure.ratios(0, 9).is_empty(), "who has no samples has no ratio");
    }
}
