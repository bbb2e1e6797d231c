//! One shard against two: CPU per delivery at the same load, below saturation. The two shards have
//! both cores, and the clients one of them, too: there are no more here, so wall time says nothing
//! and only CPU is compared.

use super::Common;
use super::broadcast::COST;
use super::lineup::{Lineup, Setting, Who};
use crate::results::Outcome;
use crate::results::goals::{Against, Goal};
use crate::results::text::count;
use anyhow::Result;
use clap::Args;

/// Flags.
#[derive(Debug, Clone, Args)]
pub struct ShardsArgs {
    /// Subscribers of the channel.
    #[arg(long, default_value_t = 1_000, value_parser = super::positive::<usize>)]
    connections: usize,
    /// Messages per second.
    #[arg(long, default_value_t = 40)]
    rate: u64,
    /// Seconds of each block.
    #[arg(long, default_value_t = 2)]
    seconds: u64,
}

impl ShardsArgs {
    /// For `all`.
    pub fn sized() -> Self {
        Self { connections: 1_000, rate: 40, seconds: 2 }
    }
}

/// Runs the scenario.
pub fn run(common: &Common, args: &ShardsArgs) -> Result<()> {
    let connections = if common.quick { 100 } else { args.connections };
    let seconds = if common.quick { 1 } else { args.seconds };
    let setting = Setting::room(connections);
    let mut outcome = Outcome::new(
        "shards",
        format!(
            "shards: one and two, {} messages a second to {} subscribers",
            args.rate,
            count(connections as u64)
        ),
        "Open loop, messages of 128 bytes; the second shard shares its core with the clients.",
        crate::machine::look(common),
    );
    let mut lineup = Lineup::start(common, &setting, &[Who::Ours, Who::OursTwoShards])?;
    for side in &mut lineup.sides {
        side.swarm().ask("rounds 20 1")?;
    }
    let order = format!("rate {} {seconds}", args.rate);
    lineup.rounds(common.rounds(11), |at, side| {
        let block = side.block(&order)?;
        outcome.record(at, COST, "us", 3, block.cost_us());
        outcome.record(at, "last read, p99", "us", 0, block.tally.completion.p99_us);
        Ok(())
    })?;
    outcome.compare(&[COST]);
    let one = Against::Side(Who::Ours.name().to_owned());
    outcome.goals.push(Goal::at_most(COST, one, 1.1).of(Who::OursTwoShards.name()));
    lineup.describe(common, &mut outcome);
    super::publish(common, &outcome)
}
