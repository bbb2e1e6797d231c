//! What a connect costs: all clients connect at once, at most 256 handshakes at a time, until the
//! last is subscribed; then they leave, and the next server has its turn.

use super::Common;
use super::broadcast::usual;
use super::lineup::{Lineup, Setting, Who};
use crate::peers::{Peer, Wire};
use crate::process::cpu_ns;
use crate::results::Outcome;
use crate::results::goals::{Against, Goal};
use crate::results::text::count;
use anyhow::Result;
use clap::Args;
use std::time::Duration;

const RATE: &str = "connects per CPU-second";

/// Flags.
#[derive(Debug, Clone, Args)]
pub struct ConnectsArgs {
    /// Connections that are made in each block.
    #[arg(long, default_value_t = 5_000, value_parser = super::positive::<usize>)]
    connections: usize,
    /// What they subscribe over.
    #[arg(long, value_enum, default_value_t = Wire::Ws)]
    wire: Wire,
    /// Over TLS: a full handshake each.
    #[arg(long)]
    tls: bool,
}

impl ConnectsArgs {
    /// For `all`.
    pub fn sized() -> Self {
        Self { connections: 5_000, wire: Wire::Ws, tls: false }
    }
}

/// Runs the scenario.
pub fn run(common: &Common, args: &ConnectsArgs) -> Result<()> {
    let connections = if common.quick { args.connections.min(100) } else { args.connections };
    let setting = Setting { wire: args.wire, tls: args.tls, ..Setting::room(connections) };
    let mut all = vec![Who::Ours];
    if args.wire == Wire::Ws {
        all.push(Who::OursEnvelope);
    }
    all.extend(common.peers(usual(args.wire))?.into_iter().map(Who::Peer));
    let tls = if args.tls { ", TLS" } else { "" };
    let mut outcome = Outcome::new(
        &format!("connects-{}{}", args.wire.slug(), if args.tls { "-tls" } else { "" }),
        format!(
            "connects: {} clients subscribe, {}{tls}",
            count(connections as u64),
            args.wire.name()
        ),
        "At most 256 handshakes at a time; from the first connect to the last subscription.",
        crate::machine::look(common),
    );
    let mut lineup = Lineup::start(common, &setting, &all)?;
    lineup.sides.iter_mut().try_for_each(|side| side.swarm().ask("leave").map(drop))?;
    lineup.rounds(common.rounds(11), |at, side| {
        rest(side.pid());
        let block = side.block("connect")?;
        let per_s = |ns: u64| connections as f64 / (ns.max(1) as f64 / 1e9);
        outcome.record(at, RATE, "1/s", 0, per_s(block.used.server_ns));
        outcome.record(at, "connects per second", "1/s", 0, per_s(block.tally.wall_ns));
        side.swarm().ask("leave")?;
        rest(side.pid());
        Ok(())
    })?;
    outcome.compare(&[RATE]);
    let uws = Against::Side(Peer::Uws.name().to_owned());
    outcome.goals.push(Goal::at_least(RATE, uws, 1.0));
    lineup.describe(common, &mut outcome);
    super::publish(common, &outcome)
}

/// Waits until a server has nothing left to do, such as forgetting its clients.
fn rest(pid: u32) {
    for _ in 0..40 {
        let before = cpu_ns(pid);
        std::thread::sleep(Duration::from_millis(50));
        if cpu_ns(pid) - before < 1_000_000 {
            return;
        }
    }
}
