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
}

impl Topology {
    /// Reads it. Without the list of CPUs online nothing is known; all else has a plain default.
    pub fn read(root: &Root) -> Result<Self, Absent> {
        let online = root.cpus(&cpu_path("online"))?;
        let nodes = nodes(root);
        let slow = slow_cpus(root, &online);
        let cpus = online.iter().map(|&id| {
            let siblings = root.cpus(&cpu_path(&format!("cpu{id}/topology/thread_siblings_list")));
            let core = siblings.ok().and_then(|list| list.into_iter().min()).unwrap_or(id);
            let node = nodes.get(&id).copied().unwrap_or(0);
            Cpu { id, node, core, slow: slow.contains(&id) }
        });
        let list = |name: &str| root.cpus(&cpu_path(name)).unwrap_or_default();
        // `offline` also lists CPUs that the kernel has room for but the machine does not have.
        let present = list("present");
        let offline = list("offline").into_iter().filter(|id| present.contains(id)).collect();
        Ok(Self {
            cpus: cpus.collect(),
            offline,
            isolated: list("isolated"),
            nohz_full: list("nohz_full"),
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

/// The node of each CPU.
fn nodes(root: &Root) -> BTreeMap<u32, u32> {
    let mut nodes = BTreeMap::new();
    let folder = "/sys/devices/system/node";
    for name in root.list(folder).unwrap_or_default() {
        let Some(node) = name.strip_prefix("node").and_then(|n| n.parse::<u32>().ok()) else {
            continue;
        };
        let cpus = root.cpus(&format!("{folder}/{name}/cpulist")).unwrap_or_default();
        nodes.extend(cpus.into_iter().map(|cpu| (cpu, node)));
    }
    nodes
}

/// Efficient cores: Intel says which they are, others by a capacity well below the largest.
fn slow_cpus(root: &Root, online: &[u32]) -> Vec<u32> {
    if let Ok(atoms) = root.cpus("/sys/devices/cpu_atom/cpus") {
        return atoms;
    }
    let capacity = |id: &u32| {
        root.number::<u64>(&cpu_path(&format!("cpu{id}/cpu_capacity"))).ok().map(|c| (*id, c))
    };
    let capacities: Vec<(u32, u64)> = online.iter().filter_map(capacity).collect();
    let most = capacities.iter().map(|(_, capacity)| *capacity).max().unwrap_or(0);
    let slow = capacities.iter().filter(|(_, capacity)| capacity * 4 < most * 3);
    slow.map(|(id, _)| *id).collect()
}

/// The numbers as the kernel writes them: `0-3,8`.
pub fn show(cpus: &[u32]) -> String {
    if cpus.is_empty() {
        return "none".to_owned();
    }
    parse::show_cpu_list(cpus)
}
