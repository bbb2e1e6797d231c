//! The server's own shard on our drivers and on other people's runtimes, in turns in one run: CPU
//! per delivery, and what one more idle connection takes of user memory. The work is equal: see
//! `engines/`. This is the table that decides ADR 0001.

use super::{Common, Meter, Used};
use crate::child::LineChild;
use crate::engines::{self, Kind};
use crate::process::rss_bytes;
use crate::results::text::count;
use crate::results::{Outcome, SideInfo};
use crate::swarm::{SwarmHandle, Tally};
use anyhow::Result;
use clap::Args;
use std::time::Duration;

const COST: &str = "server CPU per delivery";
const MEMORY: &str = "user RSS of one more idle connection";

/// Flags.
#[derive(Debug, Clone, Args)]
pub struct EnginesArgs {
    /// Subscribers of each engine.
    #[arg(long, default_value_t = 10_000, value_parser = super::positive::<usize>)]
    connections: usize,
    /// Messages in each block.
    #[arg(long, default_value_t = 6)]
    rounds: u64,
    /// Messages at a time.
    #[arg(long, default_value_t = 1)]
    burst: u64,
}

impl EnginesArgs {
    /// For `all`.
    pub fn sized() -> Self {
        Self { connections: 10_000, rounds: 6, burst: 1 }
    }
}

/// One engine with its clients.
struct Side {
    kind: Kind,
    child: LineChild,
    rss_each: f64,
    swarm: SwarmHandle,
    used: Used,
    tally: Tally,
}

impl Side {
    fn start(common: &Common, kind: Kind, connections: usize) -> Result<Self> {
        let (child, address) = engines::start(common.server_core, kind)?;
        // What the first connections allocate once is not what one more costs, so the memory is a
        // slope: half as many stand already.
        let first = SwarmHandle::start(common.client_core, address, connections / 2, &[])?;
        std::thread::sleep(SETTLE);
        let before = rss_bytes(child.pid());
        let swarm = SwarmHandle::start(common.client_core, address, connections, &[])?;
        std::thread::sleep(SETTLE);
        let rss_each = (rss_bytes(child.pid()) as f64 - before as f64) / connections as f64;
        drop(first);
        Ok(Self { kind, child, rss_each, swarm, used: Used::default(), tally: Tally::default() })
    }

    /// Microseconds of CPU per delivery.
    fn block(&mut self, order: &str) -> Result<f64> {
        let meter = Meter::start(self.child.pid(), self.swarm.pid());
        let tally = self.swarm.ask(order)?;
        let used = meter.stop();
        self.used.add(used);
        self.tally.add(&tally);
        Ok(used.server_ns as f64 / tally.received.max(1) as f64 / 1_000.0)
    }
}

/// How long a process gets to come to rest before its memory is read.
const SETTLE: Duration = Duration::from_secs(1);

/// Runs the scenario.
pub fn run(common: &Common, args: &EnginesArgs) -> Result<()> {
    let connections = if common.quick { args.connections.min(200) } else { args.connections };
    let (n, burst) = (connections as u64, args.burst);
    let mut outcome = Outcome::new(
        &format!("engines-{n}-{burst}"),
        format!("engines: {burst} message(s) at a time to {} subscribers each", count(n)),
        "One shard of the server, events in memory, carried by different drivers. Messages of 128 \
         bytes; the next goes out when everybody has read the one before.",
        crate::machine::look(common),
    );
    let mut sides = Vec::new();
    for kind in Kind::ALL {
        sides.push(Side::start(common, kind, connections)?);
    }
    for (at, side) in sides.iter_mut().enumerate() {
        outcome.record(at, MEMORY, "B", 0, side.rss_each);
        // The first rounds touch memory for the first time.
        side.swarm.ask(&format!("rounds 3 {burst}"))?;
    }
    let order = format!("rounds {} {burst}", args.rounds);
    for round in 0..common.rounds(11) {
        for turn in 0..sides.len() {
            let at = (round + turn) % sides.len();
            let cost_us = sides[at].block(&order)?;
            outcome.record(at, COST, "us", 3, cost_us);
        }
    }
    outcome.compare(&[COST, MEMORY]);
    outcome.sides = sides
        .iter()
        .map(|side| SideInfo {
            name: side.kind.name().to_owned(),
            version: side.kind.version().to_owned(),
            integrity: side.tally.integrity(),
            saturation: side.used.saturation(),
        })
        .collect();
    outcome.notes.push(format!(
        "memory is a slope, from {} to {} connections; all sides live at once, one has work",
        count(n / 2),
        count(n + n / 2)
    ));
    super::publish(common, &outcome)
}
