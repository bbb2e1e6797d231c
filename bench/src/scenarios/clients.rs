//! What the client protocol costs over the plain WebSocket: the same messages to the same number of
//! subscribers, as they are and in each encoding, one at a time and several on their way.
//!
//! An event is encoded once for each encoding and compressed once for each window, so at many
//! subscribers only the longer frames remain. All sides are our server, in processes of their own.

use super::Common;
use super::broadcast::COST;
use super::lineup::{Lineup, Setting, Who};
use crate::results::goals::{Against, Goal};
use crate::results::text::count;
use crate::results::{OURS, Outcome};
use anyhow::Result;
use clap::Args;

/// Messages of the bench are shorter than what is worth compressing.
const SETTINGS: &[&str] = &["limits.ws_deflate_bytes_min=16"];

/// Flags.
#[derive(Debug, Clone, Args)]
pub struct ClientsArgs {
    /// Subscribers of the channel.
    #[arg(long, default_value_t = 1_000, value_parser = super::positive::<u32>)]
    connections: u32,
    /// Messages that are published together.
    #[arg(long, default_value_t = 1, value_parser = super::positive::<u32>)]
    together: u32,
}

impl ClientsArgs {
    /// For `all`.
    pub fn sized(together: u32) -> Self {
        Self { connections: 1_000, together }
    }
}

/// Runs the scenario.
pub fn run(common: &Common, args: &ClientsArgs) -> Result<()> {
    let connections = if common.quick { args.connections.min(200) } else { args.connections };
    let (n, together) = (u64::from(connections), u64::from(args.together));
    let wanted = if common.quick { 2_000 } else { 60_000 };
    let rounds = (wanted / n / together).clamp(2, 1_000);
    let setting = Setting { ours: SETTINGS, ..Setting::room(connections as usize) };
    let all = [Who::Ours, Who::OursJson, Who::OursProtobuf, Who::OursDeflate];
    let mut lineup = Lineup::start(common, &setting, &all)?;
    let mut outcome = Outcome::new(
        &format!("clients-{n}-{together}"),
        format!("client protocol: {together} message(s) at a time to {} subscribers", count(n)),
        "Messages of 128 bytes; the next goes out when everybody has read the one before.",
        crate::machine::look(common),
    );
    let order = format!("rounds {rounds} {together}");
    for side in &mut lineup.sides {
        side.swarm().ask(&format!("rounds 3 {together}"))?;
    }
    lineup.rounds(common.rounds(11), |at, side| {
        let block = side.block(&order)?;
        outcome.record(at, COST, "us", 3, block.cost_us());
        Ok(())
    })?;
    outcome.compare(&[COST]);
    let limits = [(Who::OursJson, 1.1), (Who::OursProtobuf, 1.1), (Who::OursDeflate, 1.2)];
    for (who, limit) in limits {
        let plain = Against::Side(OURS.to_owned());
        outcome.goals.push(Goal::at_most(COST, plain, limit).of(who.name()));
    }
    lineup.describe(common, &mut outcome);
    super::publish(common, &outcome)
}
