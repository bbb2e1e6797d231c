//! What a delivery costs: messages of 128 bytes to N subscribers of one channel, one turn at a
//! time, in turns with the bare send loop of the same engine and with other servers.
//!
//! A round publishes over the first subscriber's own connection (over HTTP where subscribers cannot
//! send) and ends when everybody has read the message, so nothing is ever queued and each round is
//! one turn of the server. The floor sends equally many bytes to equally many connections of a
//! swarm of its own and parses nothing.

use super::Common;
use super::lineup::{Lineup, Setting, Who};
use crate::peers::{Peer, Wire};
use crate::results::goals::{Against, Goal};
use crate::results::text::count;
use crate::results::{BARE, Outcome};
use anyhow::Result;
use clap::Args;

/// The measure that is compared.
pub const COST: &str = "server CPU per delivery";

/// Flags.
#[derive(Debug, Clone, Args)]
pub struct BroadcastArgs {
    /// Subscribers of the channel.
    #[arg(long, default_value_t = 15_000, value_parser = super::positive::<usize>)]
    connections: usize,
    /// Messages in each block. [default: as many as make some 60,000 deliveries]
    #[arg(long)]
    rounds: Option<u64>,
    /// What carries the messages.
    #[arg(long, value_enum, default_value_t = Wire::Ws)]
    wire: Wire,
    /// Over TLS.
    #[arg(long)]
    tls: bool,
}

impl BroadcastArgs {
    /// For `all`.
    pub fn sized(quick: bool) -> Self {
        let connections = if quick { 200 } else { 15_000 };
        Self { connections, rounds: None, wire: Wire::Ws, tls: false }
    }
}

/// Who is compared over a wire, unless told.
pub fn usual(wire: Wire) -> &'static [Peer] {
    match wire {
        Wire::Ws => &[
            Peer::Uws,
            Peer::Ws,
            Peer::SocketIo,
            Peer::Nats,
            Peer::Axum,
            Peer::AxumTuned,
            Peer::AxumBatched,
            Peer::Nchan,
        ],
        Wire::Sse => &[Peer::Uws, Peer::Ws, Peer::Axum, Peer::Nchan],
        Wire::SseH2 => &[Peer::Axum],
    }
}

/// Runs the scenario with so many messages per turn.
pub fn run(common: &Common, args: &BroadcastArgs, burst: u64) -> Result<()> {
    let connections = if common.quick { args.connections.min(200) } else { args.connections };
    let n = connections as u64;
    let wanted = if common.quick { 2_000 } else { 60_000 };
    let rounds = args.rounds.unwrap_or((wanted / n / burst).clamp(2, 1_000));
    let setting = Setting { wire: args.wire, tls: args.tls, burst, ..Setting::room(connections) };
    let mut all = vec![Who::Ours, Who::Bare];
    all.extend(common.peers(usual(args.wire))?.into_iter().map(Who::Peer));
    let mut lineup = Lineup::start(common, &setting, &all)?;

    let tls = if args.tls { ", TLS" } else { "" };
    let mut outcome = Outcome::new(
        &format!(
            "broadcast-{}-{n}-{burst}{}",
            args.wire.slug(),
            if args.tls { "-tls" } else { "" }
        ),
        format!(
            "broadcast: {burst} message(s) at a time to {} subscribers, {}{tls}",
            count(n),
            args.wire.name()
        ),
        "Messages of 128 bytes; the next goes out when everybody has read the one before.",
        crate::machine::look(common),
    );
    let order = format!("rounds {rounds} {burst}");
    for side in &mut lineup.sides {
        // The first rounds touch memory for the first time.
        side.swarm().ask(&format!("rounds 3 {burst}"))?;
    }
    lineup.rounds(common.rounds(11), |at, side| {
        let block = side.block(&order)?;
        outcome.record(at, COST, "us", 3, block.cost_us());
        if side.who != Who::Bare {
            outcome.record(at, "publish to last read, p50", "us", 0, block.tally.completion.p50_us);
        }
        Ok(())
    })?;
    outcome.compare(&[COST]);
    let uws = Against::Side(Peer::Uws.name().to_owned());
    if burst == 1 && n >= 15_000 {
        outcome.goals.push(Goal::at_most(COST, uws, 0.90));
        outcome.goals.push(Goal::at_most(COST, Against::Side(BARE.to_owned()), 1.05));
    } else {
        outcome.goals.push(Goal::at_most(COST, Against::BestPeer, 0.90));
    }
    lineup.describe(common, &mut outcome);
    super::publish(common, &outcome)
}
