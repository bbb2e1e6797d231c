//! What a delivery costs: messages of 128 bytes to N subscribers of one channel, one turn at a
//! time, in turns with the bare send loop of the same engine on the same core.
//!
//! A round publishes over the first subscriber's own connection and ends when everybody has read
//! the message, so nothing is ever queued and each round is one turn of the server. The floor sends
//! equally many bytes to equally many connections of a second swarm and parses nothing.

use super::{Common, Meter, Used};
use crate::floor;
use crate::report::{Report, count, median, range};
use crate::server_child::ServerChild;
use crate::swarm::{FRAME_BYTES, SwarmHandle, Tally};
use anyhow::Result;
use clap::Args;
use std::net::SocketAddr;

/// Flags.
#[derive(Debug, Clone, Args)]
pub struct BroadcastArgs {
    /// Subscribers of the channel.
    #[arg(long, default_value_t = 15_000)]
    connections: usize,
    /// Rounds in each block.
    #[arg(long, default_value_t = 20)]
    rounds: u64,
    /// Blocks of the server, each followed by one of the floor.
    #[arg(long, default_value_t = 7)]
    blocks: usize,
}

impl BroadcastArgs {
    /// For `all`.
    pub fn sized(quick: bool) -> Self {
        if quick {
            Self { connections: 200, rounds: 3, blocks: 2 }
        } else {
            Self { connections: 15_000, rounds: 20, blocks: 7 }
        }
    }
}

/// What the blocks of one side gave.
#[derive(Default)]
struct Side {
    /// Microseconds of CPU per message delivered, one figure a block.
    cost_us: Vec<f64>,
    used: Used,
    tally: Tally,
}

impl Side {
    fn block(&mut self, swarm: &mut SwarmHandle, pid: u32, order: &str) -> Result<()> {
        let meter = Meter::start(pid, swarm.pid());
        let tally = swarm.ask(order)?;
        let used = meter.stop();
        self.cost_us.push(used.server_ns as f64 / tally.received.max(1) as f64 / 1_000.0);
        self.used.add(used);
        self.tally.add(&tally);
        if tally.latency.max_us > 0.0 {
            self.tally.latency = tally.latency;
        }
        Ok(())
    }
}

/// Runs the scenario with so many messages per turn.
pub fn run(common: &Common, args: &BroadcastArgs, burst: u64) -> Result<()> {
    let n = args.connections;
    let mut report = Report::new(&format!(
        "broadcast: {burst} message(s) of 128 bytes per turn to {} subscribers",
        count(n as u64)
    ));
    let scratch = common.scratch()?;
    let server = ServerChild::start(common, &scratch.path().join("data"), &[])?;
    let mut clients = SwarmHandle::start(common.client_core, server.address, n, &[])?;
    let frame_bytes = FRAME_BYTES * burst as usize;
    let (floor, ports) = floor::start(common.server_core, common.engine, n, frame_bytes)?;
    let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let raw = [format!("--trigger={}", at(ports.trigger)), format!("--frame-bytes={FRAME_BYTES}")];
    let mut raw = SwarmHandle::start(common.client_core, at(ports.port), n, &raw)?;

    let order = format!("rounds {} {burst}", args.rounds);
    // The first rounds touch memory for the first time.
    clients.ask(&format!("rounds 3 {burst}"))?;
    raw.ask(&format!("rounds 3 {burst}"))?;
    let (mut ours, mut bare) = (Side::default(), Side::default());
    for _ in 0..args.blocks {
        ours.block(&mut clients, server.pid(), &order)?;
        bare.block(&mut raw, floor.pid(), &order)?;
    }
    print(&mut report, common, &ours, &bare);
    report.print();
    Ok(())
}

fn print(report: &mut Report, common: &Common, ours: &Side, bare: &Side) {
    let ratios: Vec<f64> =
        ours.cost_us.iter().zip(&bare.cost_us).map(|(ours, bare)| ours / bare).collect();
    let blocks = ours.cost_us.len();
    report.row("engine", common.engine.name(), "");
    report.row(
        "server CPU per delivery",
        format!("{:.3} us", median(&ours.cost_us)),
        format!("median of {blocks} blocks, {}", range(&ours.cost_us, 3)),
    );
    report.row(
        "bare send loop per delivery",
        format!("{:.3} us", median(&bare.cost_us)),
        format!("in turns with it, {}", range(&bare.cost_us, 3)),
    );
    report.row(
        "ratio",
        format!("{:.3}", median(&ratios)),
        format!("median of pairs, {}; goal: at most 1.15", range(&ratios, 3)),
    );
    let latency = ours.tally.latency;
    report.row(
        "latency, publish to read",
        format!("{:.0} us", latency.p50_us),
        format!(
            "p50; p99 {:.0}, p99.9 {:.0}, most {:.0} us (a round takes as long as all its sends)",
            latency.p99_us, latency.p999_us, latency.max_us
        ),
    );
    report.row("deliveries", count(ours.tally.received), ours.tally.integrity());
    report.row("floor", count(bare.tally.received), format!("lost {}", bare.tally.lost()));
    report.row("saturated", "", ours.used.saturation());
}
