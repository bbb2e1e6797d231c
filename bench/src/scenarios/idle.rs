//! What an idle, subscribed WebSocket costs: user memory of the server's process, and memory of the
//! kernel. The kernel's figure counts both ends of a loopback connection, since both are here.

use super::Common;
use crate::machine::slab_bytes;
use crate::process::{cpu_ns, rss_bytes};
use crate::report::{Report, count};
use crate::server_child::ServerChild;
use crate::swarm::SwarmHandle;
use anyhow::Result;
use clap::Args;
use std::time::Duration;

/// Flags.
#[derive(Debug, Clone, Args)]
pub struct IdleArgs {
    /// Subscribers.
    #[arg(long, default_value_t = 15_000)]
    connections: usize,
    /// Seconds to hold them, for the CPU of doing nothing.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
}

impl IdleArgs {
    /// For `all`.
    pub fn sized(quick: bool) -> Self {
        if quick {
            Self { connections: 200, seconds: 1 }
        } else {
            Self { connections: 15_000, seconds: 10 }
        }
    }
}

/// Runs the scenario.
pub fn run(common: &Common, args: &IdleArgs) -> Result<()> {
    let mut report =
        Report::new(&format!("idle: {} WebSocket subscribers", count(args.connections as u64)));
    let scratch = common.scratch()?;
    let server = ServerChild::start(common, &scratch.path().join("data"), &[])?;
    std::thread::sleep(Duration::from_secs(1));
    let (rss_before, slab_before) = (rss_bytes(server.pid()), slab_bytes());
    let connections = args.connections;
    let (core, address) = (common.client_core, server.address);
    let first = SwarmHandle::start(core, address, connections / 10, &[])?;
    std::thread::sleep(Duration::from_secs(1));
    let rss_first = rss_bytes(server.pid());
    let rest = SwarmHandle::start(core, address, connections - connections / 10, &[])?;
    std::thread::sleep(Duration::from_secs(2));
    let (rss_after, slab_after) = (rss_bytes(server.pid()), slab_bytes());
    let cpu = cpu_ns(server.pid());
    std::thread::sleep(Duration::from_secs(args.seconds));
    let cpu = cpu_ns(server.pid()) - cpu;
    let each = |after: u64, before: u64| (after as f64 - before as f64) / connections as f64;
    report.row("engine", common.engine.name(), "");
    report.row(
        "user RSS per connection",
        format!("{:.0} B", each(rss_after, rss_before)),
        format!(
            "whole process {} KiB before, {} KiB with all; goal: at most 1,024 B",
            count(rss_before / 1024),
            count(rss_after / 1024)
        ),
    );
    let marginal = (rss_after as f64 - rss_first as f64) / (connections as f64 * 0.9);
    report.row(
        "user RSS of one more",
        format!("{marginal:.0} B"),
        "beyond the first tenth, which also touches what all share (buffers, tables)",
    );
    report.row(
        "kernel slab per connection",
        format!("{:.0} B", each(slab_after, slab_before)),
        "both ends of the loopback connection, epoll of the clients included",
    );
    report.row(
        "CPU of holding them",
        format!("{:.2} %", cpu as f64 / (args.seconds as f64 * 1e7)),
        format!("of one core, over {} s", args.seconds),
    );
    report.print();
    drop((first, rest));
    Ok(())
}
