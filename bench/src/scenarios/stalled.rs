//! Readers that stall: a share of the clients never reads, the others get messages as fast as they
//! take them. What waits for the stalled ones must stay within the server's budget, and what is
//! dropped must be counted.
//!
//! Ours runs twice: closing who is too slow (the default, to be resumed) and dropping the oldest.

use super::Common;
use super::lineup::{Lineup, Setting, Side, Who};
use crate::peers::Peer;
use crate::process::rss_bytes;
use crate::results::goals::{Against, Goal};
use crate::results::text::count;
use crate::results::{OURS, Outcome};
use anyhow::Result;
use clap::Args;

const PEAK: &str = "most memory over the start";
/// Blocks after each of which memory is looked at.
const BLOCKS: u64 = 8;
const DEPTH: u64 = 16;

/// Flags.
#[derive(Debug, Clone, Args)]
pub struct StalledArgs {
    /// Subscribers of the channel.
    #[arg(long, default_value_t = 200, value_parser = super::positive::<usize>)]
    connections: usize,
    /// So many of a hundred never read.
    #[arg(long, default_value_t = 10)]
    percent: usize,
    /// Messages of 128 bytes: more than budget and kernel hold for one connection.
    #[arg(long, default_value_t = 48_000)]
    messages: u64,
}

impl StalledArgs {
    /// For `all`.
    pub fn sized() -> Self {
        Self { connections: 200, percent: 10, messages: 48_000 }
    }
}

/// Runs the scenario.
pub fn run(common: &Common, args: &StalledArgs) -> Result<()> {
    let messages = if common.quick { 800 } else { args.messages };
    let setting = Setting { stalled_percent: args.percent, ..Setting::room(args.connections) };
    let stalled = args.connections * args.percent / 100;
    let mut outcome = Outcome::new(
        "stalled",
        format!("stalled: {stalled} of {} subscribers never read", count(args.connections as u64)),
        "The others get 128-byte messages with 16 on their way; memory of the process is looked at \
         eight times.",
        crate::machine::look(common),
    );
    let mut lineup = Lineup::empty(common, &setting)?;
    let connect = |side: &mut Side| side.connect(setting.users);
    lineup.join(common, &setting, Who::Ours, connect)?;
    let dropping = Setting { ours: &["namespaces.default.outbox_policy=drop_oldest"], ..setting };
    lineup.join(common, &dropping, Who::OursEnvelope, connect)?;
    let usual = [Peer::Uws, Peer::Ws, Peer::SocketIo, Peer::Nats, Peer::AxumTuned, Peer::Nchan];
    for peer in common.peers(&usual)? {
        lineup.join(common, &setting, Who::Peer(peer), connect)?;
    }
    for at in 0..lineup.sides.len() {
        let side = &mut lineup.sides[at];
        let start = rss_bytes(side.pid());
        let mut most = 0.0;
        for _ in 0..BLOCKS {
            let block = side.block(&format!("outstanding {DEPTH} {}", messages / BLOCKS))?;
            let grown = rss_bytes(side.pid()).saturating_sub(start) as f64 / f64::from(1 << 20);
            most = f64::max(most, grown);
            outcome.record(at, "memory over the start", "MiB", 1, grown);
            outcome.record(at, "server CPU per delivery", "us", 3, block.cost_us());
        }
        outcome.record(at, PEAK, "MiB", 1, most);
        if let Some(server) = side.ours() {
            let dropped = dropped(&server.get("/metrics")?);
            outcome.notes.push(format!("{}, dropped and counted: {dropped}", side.who.name()));
        }
    }
    // The budget of one subscriber is a mebibyte; half as much again for what is around it.
    let budget = stalled as f64 * 1.5;
    outcome.goals.push(Goal::at_most(PEAK, Against::Itself, budget));
    outcome.goals.push(Goal::at_most(PEAK, Against::Itself, budget).of(Who::OursEnvelope.name()));
    lineup.describe(common, &mut outcome);
    if let Some(at) = outcome.side(Who::OursEnvelope.name()) {
        outcome.sides[at].version = format!("{OURS} with envelopes and outbox_policy=drop_oldest");
    }
    super::publish(common, &outcome)
}

/// The drops that the server counted, by reason.
fn dropped(metrics: &str) -> String {
    let lines = metrics.lines().filter_map(|line| line.strip_prefix("shardcast_drops_total{"));
    let said = lines.filter_map(|line| {
        let (labels, value) = line.split_once("} ")?;
        let reason = labels.split("reason=\"").nth(1)?.split('"').next()?;
        (value != "0").then(|| format!("{reason} {value}"))
    });
    let said: Vec<String> = said.collect();
    if said.is_empty() { "nothing".to_owned() } else { said.join(", ") }
}

#[cfg(test)]
mod tests {
    #[test]
    fn drops_are_read_by_reason_and_none_is_said() {
        let metrics = "# TYPE shardcast_drops_total counter\n\
                       shardcast_drops_total{reason=\"slow\",shard=\"0\"} 12\n\
                       shardcast_drops_total{reason=\"drop_oldest\",shard=\"0\"} 0\n";
        assert_eq!(super::dropped(metrics), "slow 12");
        assert_eq!(super::dropped("other 1"), "nothing");
    }
}
