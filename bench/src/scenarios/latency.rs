//! Latency at a fixed rate, open loop: messages go out at their times whatever comes back, and
//! latency counts from the intended time, so a stall of the server (or of the client) is charged to
//! every message it held up (no coordinated omission).

use super::{Common, Meter};
use crate::report::{Report, count};
use crate::server_child::ServerChild;
use crate::swarm::SwarmHandle;
use anyhow::Result;
use clap::Args;

/// Flags.
#[derive(Debug, Clone, Args)]
pub struct LatencyArgs {
    /// Subscribers of the channel.
    #[arg(long, default_value_t = 1_000)]
    connections: usize,
    /// Messages per second.
    #[arg(long, default_value_t = 100)]
    rate: u64,
    /// How long.
    #[arg(long, default_value_t = 15)]
    seconds: u64,
}

impl LatencyArgs {
    /// For `all`.
    pub fn sized(quick: bool) -> Self {
        if quick {
            Self { connections: 100, rate: 50, seconds: 1 }
        } else {
            Self { connections: 1_000, rate: 100, seconds: 15 }
        }
    }
}

/// Runs the scenario.
pub fn run(common: &Common, args: &LatencyArgs) -> Result<()> {
    let mut report = Report::new(&format!(
        "latency: {} messages a second to {} subscribers, open loop",
        args.rate,
        count(args.connections as u64)
    ));
    let scratch = common.scratch()?;
    let server = ServerChild::start(common, &scratch.path().join("data"), &[])?;
    let mut swarm = SwarmHandle::start(common.client_core, server.address, args.connections, &[])?;
    swarm.ask("rounds 20 1")?;
    let meter = Meter::start(server.pid(), swarm.pid());
    let tally = swarm.ask(&format!("rate {} {}", args.rate, args.seconds))?;
    let used = meter.stop();
    let latency = tally.latency;
    report.row("engine", common.engine.name(), "");
    report.row("p50", format!("{:.0} us", latency.p50_us), "intended send to read, each delivery");
    report.row("p99", format!("{:.0} us", latency.p99_us), "");
    report.row("p99.9", format!("{:.0} us", latency.p999_us), "");
    report.row("most", format!("{:.0} us", latency.max_us), "");
    report.row("deliveries", count(tally.received), tally.integrity());
    let cost = used.server_ns as f64 / tally.received.max(1) as f64 / 1_000.0;
    report.row("server CPU per delivery", format!("{cost:.3} us"), "");
    report.row("saturated", "", used.saturation());
    report.print();
    Ok(())
}
