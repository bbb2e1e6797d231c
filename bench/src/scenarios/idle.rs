//! What an idle, subscribed connection costs: user memory of the server's process, memory of the
//! kernel, and the CPU of keeping it alive, with clients that answer heartbeats.
//!
//! User memory is a slope: what the process grew from a third of the connections to all of them, so
//! that buffers and tables that everybody shares are not in it; the whole growth stands beside it.
//! Memory of the kernel is slab objects of sockets and the pages they hold, both ends of the
//! loopback connection included, and what a bare socket costs (the send loop's process, connected
//! in the same run and doing nothing) is taken off, so that only the engine's part remains. CPU is
//! measured with everybody connected at once, over two heartbeats.

use super::Common;
use super::broadcast::usual;
use super::lineup::{Lineup, Setting, Side, Who};
use crate::machine::kernel_bytes;
use crate::peers::{Peer, Wire};
use crate::process::{cpu_ns, rss_bytes};
use crate::results::Outcome;
use crate::results::goals::{Against, Goal};
use crate::results::text::count;
use anyhow::Result;
use clap::Args;
use std::time::{Duration, Instant};

const RSS: &str = "user memory per connection";
const KERNEL: &str = "kernel memory over a bare socket";
const KERNEL_BOTH: &str = "kernel memory per connection, both ends";
const CPU: &str = "CPU per second and connection";

/// No package of it is to be had; what its makers published is theirs, not measured here.
const CENTRIFUGO_SAYS: &str = "Centrifugo's own figures for 200,000 idle connections: 27.0 KB each and \
    4.7 us of CPU per second and connection; with options of its paid edition 10.9 KB and 2.2 us";

/// Two heartbeats: in less time their CPU is not seen.
const HEARTBEATS_S: u64 = 50;

/// Flags.
#[derive(Debug, Clone, Args)]
pub struct IdleArgs {
    /// Subscribers.
    #[arg(long, default_value_t = 15_000, value_parser = super::positive::<usize>)]
    connections: usize,
    /// Seconds to hold them: two heartbeats at least, or their CPU is not in it.
    #[arg(long, default_value_t = 50)]
    seconds: u64,
    /// What they are subscribed over.
    #[arg(long, value_enum, default_value_t = Wire::Ws)]
    wire: Wire,
    /// Over TLS.
    #[arg(long)]
    tls: bool,
}

impl IdleArgs {
    /// For `all`.
    pub fn sized() -> Self {
        Self { connections: 15_000, seconds: 50, wire: Wire::Ws, tls: false }
    }
}

/// What we are asked over WebSocket: plain, with envelopes, and as clients with compression.
const OURS_OVER_WEBSOCKET: [Who; 3] = [Who::Ours, Who::OursEnvelope, Who::OursDeflate];

/// Bytes of user memory that a connection may cost.
fn limit(args: &IdleArgs, who: Who) -> f64 {
    match (args.wire, who) {
        _ if args.tls => 6_144.0,
        (Wire::Ws, Who::OursDeflate) => 1_024.0,
        (Wire::Ws, _) => 400.0,
        (Wire::Sse | Wire::SseH2, _) => 300.0,
    }
}

/// Memory at one moment.
#[derive(Debug, Clone, Copy)]
struct Memory {
    rss: f64,
    kernel: f64,
}

fn look(pid: u32) -> Memory {
    Memory { rss: rss_bytes(pid) as f64, kernel: kernel_bytes() as f64 }
}

/// Runs the scenario.
pub fn run(common: &Common, args: &IdleArgs) -> Result<()> {
    let connections = if common.quick { args.connections.min(300) } else { args.connections };
    let seconds = if common.quick { 1 } else { args.seconds };
    let settle = Duration::from_millis(if common.quick { 100 } else { 1_000 });
    let setting = Setting { wire: args.wire, tls: args.tls, ..Setting::room(connections) };
    let ours: &[Who] = if args.wire == Wire::Ws { &OURS_OVER_WEBSOCKET } else { &[Who::Ours] };
    let peers = common.peers(usual(args.wire))?.into_iter().map(Who::Peer);
    // The bare socket first: what everybody else's kernel memory is held against.
    let all: Vec<Who> = [Who::Bare].into_iter().chain(ours.iter().copied()).chain(peers).collect();
    let tls = if args.tls { ", TLS" } else { "" };
    let mut outcome = Outcome::new(
        &format!("idle-{}{}", args.wire.slug(), if args.tls { "-tls" } else { "" }),
        format!("idle: {} subscribers, {}{tls}", count(connections as u64), args.wire.name()),
        "Subscribed and silent; heartbeats every 25 seconds, which the clients answer.",
        crate::machine::look(common),
    );
    for _ in 0..common.rounds(1) {
        round(common, &setting, &all, (seconds, settle), &mut outcome)?;
    }
    outcome.compare(&[RSS, "total per connection", CPU]);
    for who in ours {
        let (of, limit) = (who.name(), limit(args, *who));
        let goals = [(RSS, limit), (KERNEL, 300.0), (CPU, 0.6)];
        let seen = goals.iter().filter(|(name, _)| *name != CPU || seconds >= HEARTBEATS_S);
        let seen = seen.map(|(name, limit)| Goal::at_most(name, Against::Itself, *limit).of(of));
        outcome.goals.extend(seen);
    }
    if seconds < HEARTBEATS_S {
        outcome.notes.push(format!(
            "{seconds} seconds are fewer than two heartbeats: their CPU is not all in it"
        ));
    }
    if outcome.side(Peer::Centrifugo.name()).is_none() && args.wire == Wire::Ws {
        outcome.notes.push(CENTRIFUGO_SAYS.to_owned());
    }
    super::publish(common, &outcome)
}

fn round(
    common: &Common,
    setting: &Setting,
    all: &[Who],
    (seconds, settle): (u64, Duration),
    outcome: &mut Outcome,
) -> Result<()> {
    let users = setting.users;
    let mut lineup = Lineup::empty(common, setting)?;
    let mut bare_kernel = None;
    // A bare socket has no TLS: what that adds is the engine's part.
    let bare = Setting { tls: false, ..*setting };
    for who in all {
        // Slab is given back by and by: what the one before did must be over.
        std::thread::sleep(settle);
        let setting = if *who == Who::Bare { &bare } else { setting };
        let Some(memory) = lineup.join(common, setting, *who, |side| grow(side, users, settle))?
        else {
            continue;
        };
        let [before, third, after] = memory;
        let at = lineup.sides.len() - 1;
        let kernel = (after.kernel - before.kernel) / users as f64;
        if *who == Who::Bare {
            bare_kernel = Some(kernel);
            outcome.record(at, KERNEL_BOTH, "B", 0, kernel);
            continue;
        }
        let slope = (after.rss - third.rss) / (users - users / 3) as f64;
        let growth = (after.rss - before.rss) / users as f64;
        outcome.record(at, RSS, "B", 0, slope);
        outcome.record(at, "the same, whole growth of the process", "B", 0, growth);
        outcome.record(at, KERNEL_BOTH, "B", 0, kernel);
        if let Some(bare) = bare_kernel {
            outcome.record(at, KERNEL, "B", 0, kernel - bare);
        }
        outcome.record(at, "total per connection", "B", 0, slope + kernel);
    }
    let start = Instant::now();
    let before: Vec<u64> = lineup.sides.iter().map(|side| cpu_ns(side.pid())).collect();
    std::thread::sleep(Duration::from_secs(seconds));
    let elapsed = start.elapsed().as_secs_f64();
    for (at, before) in before.into_iter().enumerate() {
        let side = &mut lineup.sides[at];
        let used_us = (cpu_ns(side.pid()) - before) as f64 / 1_000.0;
        if side.who != Who::Bare {
            outcome.record(at, CPU, "us", 3, used_us / elapsed / users as f64);
        }
        // How many heartbeats were answered, and whether anybody was sent away.
        side.ask_all("hold 0")?;
    }
    outcome.skipped.clear();
    lineup.describe(common, outcome);
    for (info, side) in outcome.sides.iter_mut().zip(&lineup.sides) {
        info.saturation = format!(
            "{} heartbeats answered in {elapsed:.0} s and while connecting",
            side.tally.replies
        );
    }
    Ok(())
}

/// Connects a third, then the rest; memory before, between and after.
fn grow(side: &mut Side, users: usize, settle: Duration) -> Result<[Memory; 3]> {
    let pid = side.pid();
    std::thread::sleep(settle);
    let before = look(pid);
    side.connect(users / 3)?;
    std::thread::sleep(settle);
    let third = look(pid);
    side.connect(users - users / 3)?;
    std::thread::sleep(settle);
    Ok([before, third, look(pid)])
}
