//! Cost against size: one message at a time to more and more subscribers, ours and the bare send
//! loop. The ratio should stay flat; the loop itself costs more as sockets fall out of the caches.
//!
//! A process here has some 20,000 descriptors at most, so beyond 15,000 connections there are
//! several server processes on the server's core, with clients of their own; each gets the same
//! message. They listen on ports of their own: behind one shared port (SO_REUSEPORT) the kernel
//! would spread connections unevenly, and a message reaches the subscribers of one process only.

use super::Common;
use super::broadcast::COST;
use super::lineup::{Lineup, Setting, Who};
use crate::report::count;
use crate::results::goals::{Against, Goal};
use crate::results::{BARE, OURS, Outcome};
use anyhow::Result;
use clap::Args;

/// Connections of one process.
const PROCESS_MAX: usize = 15_000;

/// Flags.
#[derive(Debug, Clone, Args)]
pub struct SizeArgs {
    /// Subscribers, in several sizes.
    #[arg(long, value_delimiter = ',', default_value = "1000,5000,15000,60000")]
    connections: Vec<usize>,
}

impl SizeArgs {
    /// For `all`.
    pub fn sized() -> Self {
        Self { connections: vec![1_000, 5_000, 15_000, 60_000] }
    }
}

/// Runs the scenario.
pub fn run(common: &Common, args: &SizeArgs) -> Result<()> {
    let sizes = if common.quick { vec![100, 300] } else { args.connections.clone() };
    let mut outcome = Outcome::new(
        "size",
        "size: one message at a time to more and more subscribers".to_owned(),
        "Messages of 128 bytes; the next goes out when everybody has read the one before.",
        crate::machine::look(common),
    );
    let mut ratios = Vec::new();
    for size in sizes {
        let measure = format!("{COST}, {} subscribers", count(size as u64));
        one(common, size, &measure, &mut outcome)?;
        outcome.compare(&[&measure]);
        let ratio = outcome.measure(&measure).and_then(|it| {
            it.ratio(outcome.side(OURS)?, outcome.side(BARE)?).map(|spread| spread.median)
        });
        ratios.extend(ratio);
        outcome.goals.push(Goal::at_most(&measure, Against::Side(BARE.to_owned()), 1.05));
    }
    let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let most = ratios.iter().copied().fold(0.0, f64::max);
    let spread = if ratios.is_empty() { 0.0 } else { (most / least - 1.0) * 100.0 };
    outcome.record(0, "ratio to the bare loop, largest over smallest", "%", 1, spread);
    let flat = "ratio to the bare loop, largest over smallest";
    outcome.goals.push(Goal::at_most(flat, Against::Itself, 10.0));
    super::publish(common, &outcome)
}

fn one(common: &Common, size: usize, measure: &str, outcome: &mut Outcome) -> Result<()> {
    let processes = size.div_ceil(PROCESS_MAX);
    let setting = Setting::room(size / processes);
    let mut lineups = Vec::new();
    for _ in 0..processes {
        lineups.push(Lineup::start(common, &setting, &[Who::Ours, Who::Bare])?);
    }
    let rounds = (30_000 / setting.users as u64).clamp(2, 30);
    let order = format!("rounds {rounds} 1");
    for side in lineups.iter_mut().flat_map(|lineup| &mut lineup.sides) {
        side.swarm().ask("rounds 2 1")?;
    }
    for round in 0..common.rounds(11) {
        for turn in 0..2 {
            let at = (round + turn) % 2;
            // One message costs the sum of what it costs every process, over all deliveries.
            let (mut cpu_ns, mut received) = (0, 0);
            for lineup in &mut lineups {
                let block = lineup.sides[at].block(&order)?;
                cpu_ns += block.used.server_ns;
                received += block.tally.received;
            }
            let cost_us = cpu_ns as f64 / received.max(1) as f64 / 1_000.0;
            outcome.record(at, measure, "us", 3, cost_us);
        }
    }
    lineups[0].describe(common, outcome);
    Ok(())
}
