//! Latency at a fixed rate, open loop: messages go out at their times whatever comes back, and
//! latency counts from the intended time, so a stall of the server (or of the client) is charged to
//! every message it held up (no coordinated omission).
//!
//! Rates are shares of what uWebSockets does with sixteen messages on their way, measured first in
//! the same run; or one rate is given. Who cannot keep up with a rate is left out of it, and named.
//! A message's latency is that of its last subscriber; that of each delivery stands beside it.

use super::Common;
use super::broadcast::usual;
use super::lineup::{Lineup, Setting, Who};
use crate::histogram::Quantiles;
use crate::peers::{Peer, Wire};
use crate::results::Outcome;
use crate::results::goals::{Against, Goal};
use crate::results::stats::Spread;
use crate::results::text::count;
use anyhow::Result;
use clap::Args;

/// Messages on their way while the saturation is measured.
const DEPTH: u64 = 16;

/// Flags.
#[derive(Debug, Clone, Args)]
pub struct LatencyArgs {
    /// Subscribers of the channel.
    #[arg(long, default_value_t = 1_000, value_parser = super::positive::<usize>)]
    connections: usize,
    /// Messages per second, instead of shares of the saturation.
    #[arg(long)]
    rate: Option<u64>,
    /// Shares of uWebSockets' saturation, in percent (ours, if that does not take part).
    #[arg(long, value_delimiter = ',', default_value = "10,50,80", conflicts_with = "rate")]
    percent: Vec<u64>,
    /// Seconds of each block.
    #[arg(long, default_value_t = 1)]
    seconds: u64,
    /// What carries the messages.
    #[arg(long, value_enum, default_value_t = Wire::Ws)]
    wire: Wire,
}

impl LatencyArgs {
    /// For `all`.
    pub fn sized() -> Self {
        let percent = vec![10, 50, 80];
        Self { connections: 1_000, rate: None, percent, seconds: 1, wire: Wire::Ws }
    }
}

/// Runs the scenario.
pub fn run(common: &Common, args: &LatencyArgs) -> Result<()> {
    let connections = if common.quick { args.connections.min(100) } else { args.connections };
    let setting = Setting { wire: args.wire, ..Setting::room(connections) };
    let mut all = vec![Who::Ours];
    all.extend(common.peers(usual(args.wire))?.into_iter().map(Who::Peer));
    let mut outcome = Outcome::new(
        &format!("latency-{}-{connections}", args.wire.slug()),
        format!(
            "latency: open loop to {} subscribers, {}",
            count(connections as u64),
            args.wire.name()
        ),
        "From the time a message was to be sent until its last subscriber has read it.",
        crate::machine::look(common),
    );
    let mut lineup = Lineup::start(common, &setting, &all)?;
    for side in &mut lineup.sides {
        side.swarm().ask("rounds 20 1")?;
    }
    let most = saturations(common, &mut lineup)?;
    let rates = match args.rate {
        Some(rate) => vec![(format!("{rate} a second"), rate)],
        None => shares(args, &lineup, &most, &mut outcome),
    };
    for (label, rate) in rates {
        let order = format!("rate {rate} {}", args.seconds);
        // A queue that only grows has no latency.
        let keeps_up = |at: usize| most[at] > rate as f64;
        for (at, side) in lineup.sides.iter().enumerate().filter(|(at, _)| !keeps_up(*at)) {
            outcome.notes.push(format!(
                "{label}: {} did not take part: {rate} messages a second are more than its {:.0}",
                side.who.name(),
                most[at]
            ));
        }
        lineup.rounds(common.rounds(11), |at, side| {
            if !keeps_up(at) {
                return Ok(());
            }
            let block = side.block(&order)?;
            record(&mut outcome, at, &label, &block.tally.completion, "last read");
            record(&mut outcome, at, &label, &block.tally.latency, "each read");
            let cost = format!("{label}: server CPU per delivery");
            outcome.record(at, &cost, "us", 3, block.cost_us());
            let busy = |ns: u64| ns as f64 / block.used.wall_ns as f64 * 100.0;
            let (server, client) = (busy(block.used.server_ns), busy(block.used.client_ns));
            outcome.record(at, &format!("{label}: server's core busy"), "%", 0, server);
            outcome.record(at, &format!("{label}: clients' core busy"), "%", 0, client);
            Ok(())
        })?;
        for quantile in ["p50", "p99", "p99.9"] {
            let measure = format!("{label}: last read, {quantile}");
            outcome.compare(&[&measure]);
            if label.starts_with("50 %") {
                outcome.goals.push(Goal::at_most(&measure, Against::BestPeer, 1.0));
            }
        }
    }
    lineup.describe(common, &mut outcome);
    super::publish(common, &outcome)
}

fn record(outcome: &mut Outcome, at: usize, label: &str, latency: &Quantiles, what: &str) {
    for (name, value) in
        [("p50", latency.p50_us), ("p99", latency.p99_us), ("p99.9", latency.p999_us)]
    {
        outcome.record(at, &format!("{label}: {what}, {name}"), "us", 0, value);
    }
}

/// Messages a second of every side with [`DEPTH`] on their way, the median of three.
fn saturations(common: &Common, lineup: &mut Lineup) -> Result<Vec<f64>> {
    let messages = if common.quick { 64 } else { 320 };
    let mut rates = vec![Vec::new(); lineup.sides.len()];
    lineup.rounds(3, |at, side| {
        let tally = side.swarm().ask(&format!("outstanding {DEPTH} {messages}"))?;
        rates[at].push(messages as f64 / (tally.wall_ns.max(1) as f64 / 1e9));
        Ok(())
    })?;
    let median = |rates: &Vec<f64>| Spread::of(rates).map_or(0.0, |spread| spread.median);
    Ok(rates.iter().map(median).collect())
}

/// The rates that are shares of uWebSockets' saturation.
fn shares(
    args: &LatencyArgs,
    lineup: &Lineup,
    most: &[f64],
    outcome: &mut Outcome,
) -> Vec<(String, u64)> {
    let uws = lineup.sides.iter().position(|side| side.who == Who::Peer(Peer::Uws)).unwrap_or(0);
    let saturation = most[uws];
    outcome.notes.push(format!(
        "100 % is what {} does with {DEPTH} messages on their way: {} messages a second",
        lineup.sides[uws].who.name(),
        count(saturation as u64)
    ));
    let rate = |percent: u64| ((saturation * percent as f64 / 100.0) as u64).max(1);
    args.percent.iter().map(|percent| (format!("{percent} %"), rate(*percent))).collect()
}
