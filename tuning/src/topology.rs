//! Which CPUs there are, and what they share: cores, memory nodes, speed.

use crate::parse;
use crate::root::{Absent, Root};
use std::collections::BTreeMap;

/// A CPU that is online, as the scheduler sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cpu {
    /// Its number.
    pub id: u32,
    /// The memory node it is near.
    pub node: u32,
    /// The lowest CPU of its physical core; siblings have the same.
    pub core: u32,
    /// On a machine with two kinds of cores, true for the efficient ones.
    pub slow: bool,
}

/// What is online, what is not, and how it hangs together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// Online, by number.
    pub cpus: Vec<Cpu>,
    /// Present but switched off.
    pub offline: Vec<u32>,
    /// Kept from the scheduler (`isolcpus`).
    pub isolated: Vec<u32>,
    /// Without a timer tick (`nohz_full`).
    pub nohz_full: Vec<u32>,
    /// What of it the kernel did not say.
    pub known: Known,
}

/// Of each part whether the kernel said it, or why not. What it did not say has a plain value (a
/// core for each CPU, one node, one speed, none), good enough to place threads by; a check that
/// depends on it is unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    pub cores: Result<(), Absent>,
    pub nodes: Result<(), Absent>,
    pub speeds: Result<(), Absent>,
    pub offline: Result<(), Absent>,
    pub isolation: Result<(), Absent>,
}

impl Topology {
    /// Reads it. Without the list of CPUs online nothing is known.
    pub fn read(root: &Root) -> Result<Self, Absent> {
        let path = cpu_path("online");
        let online = root.cpus(&path)?;
        if online.is_empty() {
            return Err(Absent::Odd { path, text: String::new() });
        }
        let (cores, known_cores) = split(cores(root, &online));
        let (nodes, known_nodes) = split(nodes(root, &online));
        let (slow, known_speeds) = split(slow_cpus(root, &online));
        let (mut offline, known_offline) = split(root.cpus(&cpu_path("present")));
        offline.retain(|id| !online.contains(id));
        let isolation = isolation(root);
        let (isolated, nohz_full) = isolation.clone().unwrap_or_default();
        let cpus = online.iter().map(|&id| {
            let core = cores.get(&id).copied().unwrap_or(id);
            let node = nodes.get(&id).copied().unwrap_or(0);
            Cpu { id, node, core, slow: slow.contains(&id) }
        });
        Ok(Self {
            cpus: cpus.collect(),
            offline,
            isolated,
            nohz_full,
            known: Known {
                cores: known_cores,
                nodes: known_nodes,
                speeds: known_speeds,
                offline: known_offline,
                isolation: isolation.map(drop),
            },
        })
    }

    /// A CPU by its number.
    pub fn cpu(&self, id: u32) -> Option<&Cpu> {
        self.cpus.iter().find(|cpu| cpu.id == id)
    }

    /// How many memory nodes have CPUs.
    pub fn nodes(&self) -> usize {
        let mut nodes: Vec<u32> = self.cpus.iter().map(|cpu| cpu.node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes.len()
    }

    /// True if there are two kinds of cores.
    pub fn is_hybrid(&self) -> bool {
        self.cpus.iter().any(|cpu| cpu.slow) && self.cpus.iter().any(|cpu| !cpu.slow)
    }

    /// True if cores have more than one CPU each.
    pub fn has_siblings(&self) -> bool {
        self.cpus.iter().any(|cpu| cpu.core != cpu.id)
    }
}

fn cpu_path(name: &str) -> String {
    format!("/sys/devices/system/cpu/{name}")
}

/// What was read, or a plain value and why.
fn split<T: Default>(read: Result<T, Absent>) -> (T, Result<(), Absent>) {
    match read {
        Ok(value) => (value, Ok(())),
        Err(absent) => (T::default(), Err(absent)),
    }
}

/// The lowest CPU of the core of each CPU.
fn cores(root: &Root, online: &[u32]) -> Result<BTreeMap<u32, u32>, Absent> {
    // One CPU has no siblings, and with SMT off or not there nobody has.
    let alone = || root.number::<u32>(&cpu_path("smt/active")) == Ok(0);
    let mut cores = BTreeMap::new();
    for &id in online {
        match root.cpus(&cpu_path(&format!("cpu{id}/topology/thread_siblings_list"))) {
            Ok(list) => cores.extend(list.into_iter().min().map(|core| (id, core))),
            Err(Absent::Missing { .. }) if online.len() == 1 || alone() => {}
            Err(absent) => return Err(absent),
        }
    }
    Ok(cores)
}

/// The node of each CPU.
fn nodes(root: &Root, online: &[u32]) -> Result<BTreeMap<u32, u32>, Absent> {
    let mut nodes = BTreeMap::new();
    let folder = "/sys/devices/system/node";
    let names = match root.list(folder) {
        Ok(names) => names,
        // A kernel without memory nodes has no such folder; its memory then is in one.
        Err(Absent::Missing { .. }) if one_node(root) => return Ok(nodes),
        Err(absent) => return Err(absent),
    };
    for name in names {
        let Some(node) = name.strip_prefix("node").and_then(|n| n.parse::<u32>().ok()) else {
            continue;
        };
        let cpus = root.cpus(&format!("{folder}/{name}/cpulist"))?;
        nodes.extend(cpus.into_iter().map(|cpu| (cpu, node)));
    }
    match online.iter().find(|cpu| !nodes.contains_key(cpu)) {
        Some(cpu) => Err(Absent::Other(format!("no node in {folder} has CPU {cpu}"))),
        None => Ok(nodes),
    }
}

/// Whether all memory is in one node, by another file.
fn one_node(root: &Root) -> bool {
    let zones = root.text("/proc/zoneinfo").unwrap_or_default();
    let mut nodes = zones.lines().filter(|line| line.starts_with("Node ")).peekable();
    nodes.peek().is_some() && nodes.all(|line| line.starts_with("Node 0,"))
}

/// Efficient cores: Intel says which they are, others by a capacity well below the largest.
fn slow_cpus(root: &Root, online: &[u32]) -> Result<Vec<u32>, Absent> {
    // A machine with one kind of cores has no such folder, if folders are shown at all.
    if let Some(atoms) = root.optional(root.cpus("/sys/devices/cpu_atom/cpus"), "/sys/devices")? {
        return Ok(atoms);
    }
    let mut capacities: Vec<(u32, u64)> = Vec::new();
    for &id in online {
        let path = cpu_path(&format!("cpu{id}/cpu_capacity"));
        // Not every architecture has it.
        let capacity = root.optional(root.number(&path), &cpu_path(&format!("cpu{id}")))?;
        capacities.extend(capacity.map(|capacity| (id, capacity)));
    }
    if !capacities.is_empty() && capacities.len() < online.len() {
        return Err(Absent::Other("not every CPU has a cpu_capacity".to_owned()));
    }
    let most = capacities.iter().map(|(_, capacity)| *capacity).max().unwrap_or(0);
    let slow = capacities.iter().filter(|(_, capacity)| *capacity < most - most / 4);
    Ok(slow.map(|(id, _)| *id).collect())
}

/// What is kept from the scheduler, and what has no timer tick.
fn isolation(root: &Root) -> Result<(Vec<u32>, Vec<u32>), Absent> {
    let all = cpu_path("");
    let list = |name: &str| root.optional(root.cpus(&cpu_path(name)), &all);
    // Kernels without the feature have no such file.
    let nohz_full = list("nohz_full")?.unwrap_or_default();
    match list("isolated")? {
        Some(isolated) => Ok((isolated, nohz_full)),
        // Linux before 4.2 isolates without telling; it was asked to at its start.
        None => match root.text("/proc/cmdline") {
            Ok(line) if !line.contains("isolcpus=") => Ok((Vec::new(), nohz_full)),
            Ok(_) => Err(Absent::Missing { path: cpu_path("isolated") }),
            Err(absent) => {
                Err(Absent::Other(format!("{} is not there, and {absent}", cpu_path("isolated"))))
            }
        },
    }
}

/// The numbers as the kernel writes them: `0-3,8`.
pub fn show(cpus: &[u32]) -> String {
    if cpus.is_empty() {
        return "none".to_owned();
    }
    parse::show_cpu_list(cpus)
}
