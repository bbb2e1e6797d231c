//! Cost against size: one message at a time to more and more subscribers, ours and the bare send
//! loop. The ratio should stay flat; the loop itself costs more as sockets fall out of the caches.
//!
//! A process here has some 20,000 descriptors at most, so beyond 15,000 connections there are
//! several server processes on the server's core, behind one shared port (SO_REUSEPORT): the kernel
//! deals the connections out. A message reaches the subscribers of one process only, so each
//! process of clients, which has a channel of its own, finds one connection to every server process
//! and publishes over all of them; the next goes out when everybody has read it. What all server
//! processes use meanwhile is counted, answering the heartbeats of all connections included, which
//! the bare loop has none of. Its processes have ports of their own, since each waits for so many
//! connections and not for as many as it gets.

use super::Common;
use super::broadcast::COST;
use super::lineup::{Lineup, Setting, Who};
use crate::process::cpu_ns;
use crate::results::goals::{Against, Goal};
use crate::results::text::count;
use crate::results::{BARE, OURS, Outcome};
use crate::scenarios::Used;
use crate::server_child::free_address;
use crate::swarm::Tally;
use anyhow::{Result, bail};
use clap::Args;

const FLAT: &str = "ratio to the bare loop, largest over smallest";

const SIDES: [Who; 2] = [Who::Ours, Who::Bare];

/// Flags.
#[derive(Debug, Clone, Args)]
pub struct SizeArgs {
    /// Subscribers, in several sizes.
    #[arg(long, value_delimiter = ',', default_value = "1000,5000,15000,60000")]
    connections: Vec<usize>,
    /// Connections of one server process; more are shared by several.
    #[arg(long, default_value_t = 15_000)]
    per_process: usize,
}

impl SizeArgs {
    /// For `all`.
    pub fn sized() -> Self {
        Self { connections: vec![1_000, 5_000, 15_000, 60_000], per_process: 15_000 }
    }
}

/// Both sides over all sizes.
#[derive(Default)]
struct Sums {
    used: [Used; 2],
    tally: [Tally; 2],
}

/// Runs the scenario.
pub fn run(common: &Common, args: &SizeArgs) -> Result<()> {
    let quick = SizeArgs { connections: vec![100, 300], per_process: 200 };
    let args = if common.quick { &quick } else { args };
    let mut outcome = Outcome::new(
        "size",
        "size: one message at a time to more and more subscribers".to_owned(),
        "Messages of 128 bytes; the next goes out when everybody has read the one before.",
        crate::machine::look(common),
    );
    let (mut ratios, mut sums) = (Vec::new(), Sums::default());
    for size in &args.connections {
        let processes = size.div_ceil(args.per_process.max(1)).max(1);
        let measure = format!("{COST}, {} subscribers", count(*size as u64));
        one(common, size / processes, processes, &measure, &mut outcome, &mut sums)?;
        if processes > 1 {
            outcome.notes.push(format!(
                "{} subscribers: {processes} server processes behind one port, each message \
                 published to each of them",
                count(*size as u64)
            ));
        }
        outcome.compare(&[&measure]);
        let ratio = outcome.measure(&measure).and_then(|it| {
            it.ratio(outcome.side(OURS)?, outcome.side(BARE)?).map(|spread| spread.median)
        });
        ratios.extend(ratio);
        outcome.goals.push(Goal::at_most(&measure, Against::Side(BARE.to_owned()), 1.05));
    }
    for (at, side) in outcome.sides.iter_mut().enumerate() {
        side.integrity = sums.tally[at].integrity();
        side.saturation = sums.used[at].saturation();
    }
    let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let most = ratios.iter().copied().fold(0.0, f64::max);
    // One size alone is always flat.
    if ratios.len() > 1 {
        outcome.record(0, FLAT, "%", 1, (most / least - 1.0) * 100.0);
    }
    outcome.goals.push(Goal::at_most(FLAT, Against::Itself, 10.0));
    super::publish(common, &outcome)
}

/// One size: so many users for each of so many processes.
fn one(
    common: &Common,
    users: usize,
    processes: usize,
    measure: &str,
    outcome: &mut Outcome,
    sums: &mut Sums,
) -> Result<()> {
    let mut lineups = start(common, users, processes)?;
    let rounds = (30_000 / users.max(1) as u64).clamp(2, 30);
    let order = format!("rounds {rounds} 1");
    for side in lineups.iter_mut().flat_map(|lineup| &mut lineup.sides) {
        side.swarm().ask("rounds 2 1")?;
    }
    let sides = lineups[0].sides.len();
    for round in 0..common.rounds(11) {
        for turn in 0..sides {
            let at = (round + turn) % sides;
            // One message costs the sum of what it costs every process, over all deliveries.
            let (mut cpu_ns, mut received) = (0, 0);
            for own in 0..processes {
                let before = others_ns(&lineups, own, at);
                let mut block = lineups[own].sides[at].block(&order)?;
                let others_ns = others_ns(&lineups, own, at).saturating_sub(before);
                block.used.server_ns += others_ns;
                block.used.others_ns = block.used.others_ns.saturating_sub(others_ns);
                cpu_ns += block.used.server_ns;
                received += block.tally.received;
                sums.used[at].add(block.used);
                sums.tally[at].add(&block.tally);
            }
            let cost_us = cpu_ns as f64 / received.max(1) as f64 / 1_000.0;
            outcome.record(at, measure, "us", 3, cost_us);
        }
    }
    outcome.skipped.clear();
    lineups[0].describe(common, outcome);
    Ok(())
}

/// CPU of a side's server processes but that of its own clients' lineup, which a block counts.
fn others_ns(lineups: &[Lineup], own: usize, at: usize) -> u64 {
    let others = lineups.iter().enumerate().filter(|(other, _)| *other != own);
    others.map(|(_, lineup)| cpu_ns(lineup.sides[at].pid())).sum()
}

/// Starts all server processes, and only then their clients: the kernel deals these out among all
/// that listen.
fn start(common: &Common, users: usize, processes: usize) -> Result<Vec<Lineup>> {
    let address = free_address()?;
    let mut lineups = Vec::new();
    for first_room in 0..processes as u32 {
        let setting = if processes == 1 {
            Setting::room(users)
        } else {
            let ours = &["share_port=true"];
            Setting { ours, address: Some(address), first_room, ..Setting::room(users) }
        };
        let mut lineup = Lineup::empty(common, &setting)?;
        for who in SIDES {
            lineup.join(common, &setting, who, |_| Ok(()))?;
        }
        lineups.push(lineup);
    }
    if lineups.iter().any(|lineup| lineup.sides.len() != lineups[0].sides.len()) {
        bail!("the bare loop started for some of {processes} processes only; its error is above");
    }
    for side in lineups.iter_mut().flat_map(|lineup| &mut lineup.sides) {
        side.connect(users)?;
    }
    for side in lineups.iter_mut().flat_map(|lineup| &mut lineup.sides) {
        if processes > 1 && side.who == Who::Ours {
            side.swarm().ask(&format!("scout {processes}"))?;
        }
    }
    Ok(lineups)
}
