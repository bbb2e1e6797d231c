//! Our server beside other runtimes under the same protocol core, in turns in one run: CPU per
//! delivery and user memory per idle connection. See `engines/` for what they leave out.

use super::{Common, Meter};
use crate::child::LineChild;
use crate::engines::{self, Kind};
use crate::process::rss_bytes;
use crate::report::{Report, count, median, range};
use crate::server_child::ServerChild;
use crate::swarm::{SwarmHandle, Tally};
use anyhow::Result;
use clap::Args;
use std::net::SocketAddr;
use std::time::Duration;

/// Flags.
#[derive(Debug, Clone, Args)]
pub struct EnginesArgs {
    /// Subscribers of each engine.
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// Rounds in each block.
    #[arg(long, default_value_t = 20)]
    rounds: u64,
    /// Blocks of each engine.
    #[arg(long, default_value_t = 5)]
    blocks: usize,
}

impl EnginesArgs {
    /// For `all`.
    pub fn sized(quick: bool) -> Self {
        let (connections, rounds, blocks) = if quick { (200, 3, 2) } else { (10_000, 20, 5) };
        Self { connections, rounds, blocks }
    }
}

/// One engine with its clients.
struct Side {
    name: String,
    pid: u32,
    rss_each: f64,
    swarm: SwarmHandle,
    cost_us: Vec<f64>,
    tally: Tally,
}

impl Side {
    fn start(
        common: &Common,
        name: String,
        pid: u32,
        address: SocketAddr,
        connections: usize,
    ) -> Result<Self> {
        // What the first connections allocate once is not what one more costs.
        let first = SwarmHandle::start(common.client_core, address, connections / 10, &[])?;
        std::thread::sleep(Duration::from_secs(1));
        let before = rss_bytes(pid);
        let swarm = SwarmHandle::start(common.client_core, address, connections, &[])?;
        std::thread::sleep(Duration::from_secs(1));
        let rss_each = (rss_bytes(pid) as f64 - before as f64) / connections as f64;
        drop(first);
        let (cost_us, tally) = (Vec::new(), Tally::default());
        Ok(Self { name, pid, rss_each, swarm, cost_us, tally })
    }
}

/// Runs the scenario.
pub fn run(common: &Common, args: &EnginesArgs) -> Result<()> {
    let n = args.connections;
    let mut report = Report::new(&format!(
        "engines: 1 message of 128 bytes per turn to {} subscribers each, in turns",
        count(n as u64)
    ));
    let scratch = common.scratch()?;
    let server = ServerChild::start(common, &scratch.path().join("data"), &[])?;
    let name = format!("shardcast, {}", common.engine.name());
    let mut sides = vec![Side::start(common, name, server.pid(), server.address, n)?];
    let mut children: Vec<LineChild> = Vec::new();
    for kind in Kind::ALL {
        let (child, address) = engines::start(common.server_core, kind)?;
        sides.push(Side::start(common, kind.name().to_owned(), child.pid(), address, n)?);
        children.push(child);
    }
    for side in &mut sides {
        side.swarm.ask("rounds 3 1")?;
    }
    for _ in 0..args.blocks {
        for side in &mut sides {
            let meter = Meter::start(side.pid, side.swarm.pid());
            let tally = side.swarm.ask(&format!("rounds {} 1", args.rounds))?;
            let used = meter.stop();
            side.cost_us.push(used.server_ns as f64 / tally.received.max(1) as f64 / 1_000.0);
            side.tally.add(&tally);
        }
    }
    let ours = sides[0].cost_us.clone();
    for side in &sides {
        let ratios: Vec<f64> =
            side.cost_us.iter().zip(&ours).map(|(cost, ours)| cost / ours).collect();
        report.row(
            &side.name,
            format!("{:.3} us", median(&side.cost_us)),
            format!(
                "CPU per delivery, {}; {:.2} of ours; {:.0} B of user RSS for one more idle connection; {}",
                range(&side.cost_us, 3),
                median(&ratios),
                side.rss_each,
                side.tally.integrity()
            ),
        );
    }
    report.print();
    Ok(())
}
