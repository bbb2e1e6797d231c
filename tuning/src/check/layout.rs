//! Who runs where: shards, cores, memory nodes.

use super::{Check, Context, Outcome, Scope, Severity};
use crate::root::Absent;
use crate::topology::{Topology, show};
use std::collections::BTreeSet;

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "cores.shards",
        looks_at: "shards against the CPUs this process may use (affinity, cpuset)",
        why: "two shards on one CPU take turns, and each waits for the other",
        scope: Scope::Process,
        run: shards,
    },
    Check {
        id: "cores.quota",
        looks_at: "the CPU quota of the cgroup",
        why: "when a quota is used up every shard stops for the rest of the period (100 ms)",
        scope: Scope::Process,
        run: quota,
    },
    Check {
        id: "cores.siblings",
        looks_at: "whether shards share physical cores (SMT)",
        why: "two shards on one core do about as much as one and a third; latency is less even",
        scope: Scope::Configuration,
        run: siblings,
    },
    Check {
        id: "cores.hybrid",
        looks_at: "whether shards run on cores of two kinds",
        why: "the kernel spreads clients evenly, so the slowest shard sets the pace",
        scope: Scope::Configuration,
        run: hybrid,
    },
    Check {
        id: "cores.numa",
        looks_at: "the memory nodes of shards and of the network interface",
        why: "packets that cross to the other node cost memory bandwidth and latency",
        scope: Scope::Configuration,
        run: numa,
    },
];

fn shards(context: &Context) -> Result<Outcome, Absent> {
    let cpus = context.shard_cpus()?;
    let mut different = cpus.to_vec();
    different.sort_unstable();
    different.dedup();
    let wanted = context.target.shards as usize;
    let shown = format!("{} CPUs ({})", different.len(), show(&different));
    let required = format!("{wanted}, one a shard");
    Ok(Outcome::when(different.len() >= wanted, Severity::Warning, shown, required)
        .fix("fewer --shards, or a wider cpuset (AllowedCPUs=, --cpuset-cpus)"))
}

fn quota(context: &Context) -> Result<Outcome, Absent> {
    let required = format!("none, or {} cores (the shards)", context.target.shards);
    context.cgroup_read()?;
    let Some(quota) = context.machine.cpu_quota_cores else {
        context.cgroup_seen()?;
        return Ok(Outcome::ok("none", required));
    };
    let shards = f64::from(context.target.shards);
    // A fraction is rounded up by the server itself: a core that is used for a part of the time is
    // better than none.
    let severity = if shards <= quota.ceil() { Severity::Info } else { Severity::Warning };
    Ok(Outcome::when(quota >= shards, severity, format!("{quota} cores"), required).fix(
        "whole CPUs by cpuset instead of a quota (Kubernetes: the static CPU manager and equal \
         requests and limits), a larger quota, or fewer --shards",
    ))
}

fn siblings(context: &Context) -> Result<Outcome, Absent> {
    let topology = context.topology.as_ref().map_err(Clone::clone)?;
    let cpus = context.shard_cpus()?;
    topology.known.cores.clone()?;
    if !topology.has_siblings() {
        return Ok(Outcome::ok("one CPU a core", "a core for each shard"));
    }
    let cores = cores_of(topology, cpus);
    let shown = format!("{} shards on {cores} cores", cpus.len());
    let met = cores >= cpus.len();
    let required = "a core for each shard, for the evenest latency";
    // Shards in the order of the CPUs, with cores left over, is nobody's wish.
    let there = cores_of(topology, &context.machine.cores_allowed);
    if !context.has_profile && there >= cpus.len() {
        return Ok(Outcome::when(met, Severity::Warning, shown, required).fix(
            "--profile large: a core for each shard; without a profile shards take the CPUs in order",
        ));
    }
    Ok(Outcome::when(met, Severity::Info, shown, required)
        .fix("--profile large takes whole cores; edge and ingest-heavy share them on purpose"))
}

/// On how many physical cores these CPUs are.
fn cores_of(topology: &Topology, cpus: &[u32]) -> usize {
    let cores = cpus.iter().filter_map(|cpu| topology.cpu(*cpu)).map(|cpu| cpu.core);
    cores.collect::<BTreeSet<_>>().len()
}

fn hybrid(context: &Context) -> Result<Outcome, Absent> {
    let topology = context.topology.as_ref().map_err(Clone::clone)?;
    topology.known.speeds.clone()?;
    if !topology.is_hybrid() {
        return Ok(Outcome::ok("one kind of core", "one kind under all shards"));
    }
    let cpus = context.shard_cpus()?;
    let slow: Vec<u32> = cpus
        .iter()
        .filter(|cpu| topology.cpu(**cpu).is_some_and(|cpu| cpu.slow))
        .copied()
        .collect();
    let met = slow.is_empty() || slow.len() == cpus.len();
    let shown = format!("{} of {} shards on slow cores ({})", slow.len(), cpus.len(), show(&slow));
    Ok(Outcome::when(met, Severity::Warning, shown, "one kind under all shards")
        .fix("--profile standard keeps shards on the fast ones, or fewer --shards"))
}

fn numa(context: &Context) -> Result<Outcome, Absent> {
    let topology = context.topology.as_ref().map_err(Clone::clone)?;
    topology.known.nodes.clone()?;
    if topology.nodes() <= 1 {
        return Ok(Outcome::ok("one node", "shards near the network interface"));
    }
    let cpus = context.shard_cpus()?;
    let nics = context.nics.as_ref().map_err(Clone::clone)?;
    let Some(nic) = nics.real.first() else {
        let required = "shards near the network interface";
        return Ok(Outcome::unknown("no interface with a device is up", required));
    };
    let Some(node) = nic.node else {
        return Ok(Outcome::unknown(
            format!("{} does not say which node it is near", nic.name),
            "shards near the network interface",
        ));
    };
    let near = topology.cpus.iter().filter(|cpu| cpu.node == node).count();
    let far: Vec<u32> = cpus
        .iter()
        .filter(|cpu| topology.cpu(**cpu).is_some_and(|cpu| cpu.node != node))
        .copied()
        .collect();
    let shown =
        format!("{} of {} shards not on node {node} of {}", far.len(), cpus.len(), nic.name);
    // More shards than the node has CPUs: some are far, whatever one does.
    let required = format!("node {node} first ({near} CPUs)");
    let severity = if cpus.len() <= near { Severity::Warning } else { Severity::Info };
    let fix = match context.has_profile {
        true => "",
        false => "a profile (`shardcast tune profile list`) takes the near CPUs first; else ",
    };
    Ok(Outcome::when(far.is_empty(), severity, shown, required).fix(format!(
        "{fix}a server for each node, each with its own network interface, or fewer shards; at this \
         size the cost is a few per cent"
    )))
}
