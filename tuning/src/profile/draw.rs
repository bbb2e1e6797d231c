//! The map of cores as text.

use super::CoreMap;
use crate::nic::Nics;
use crate::topology::{Topology, show};
use std::fmt::Write;

/// Draws who runs where: a cell for each physical core, a letter for each of its CPUs.
pub fn draw(map: &CoreMap, topology: &Topology, nics: Option<&Nics>) -> String {
    let mut out = String::new();
    let cpus = topology.cpus.len();
    let (nodes, cores) = (topology.nodes(), physical(topology).len());
    let _ = writeln!(out, "profile {}; CPUs: {cpus}, cores: {cores}, nodes: {nodes}", map.profile);
    let mut last = None;
    for row in rows(topology) {
        let node = row[0][0].1;
        if last != Some(node) {
            let near = nics.map_or_else(String::new, |nics| near(nics, node, nodes));
            let _ = writeln!(out, "\nnode {node}{near}");
            last = Some(node);
        }
        let first: Vec<u32> = row.iter().map(|core| core[0].0).collect();
        let _ = write!(out, "  CPU {:<12}", show(&first));
        for core in &row {
            let letters: String = core.iter().map(|(cpu, _)| letter(map, *cpu)).collect();
            let _ = write!(out, " {letters}");
        }
        out.push('\n');
    }
    if !topology.offline.is_empty() {
        let _ = writeln!(out, "\noffline: CPU {}", show(&topology.offline));
    }
    let _ = write!(
        out,
        "\nS shard   I interrupts   C control   W storage   . kept free   - not ours\n\n"
    );
    let shared = |own: &[u32]| {
        if own.iter().any(|cpu| map.shards.contains(cpu)) { ", shared with shards" } else { "" }
    };
    let _ = writeln!(out, "shards       {} on CPU {}", map.shards.len(), show(&map.shards));
    for (name, own) in
        [("interrupts", &map.irqs), ("control", &map.control), ("storage", &map.storage)]
    {
        let _ = writeln!(out, "{name:<12} CPU {}{}", show(own), shared(own));
    }
    let _ = writeln!(out, "kept free    CPU {}", show(&map.free));
    out
}

fn letter(map: &CoreMap, cpu: u32) -> char {
    let roles = [(&map.shards, 'S'), (&map.irqs, 'I'), (&map.control, 'C'), (&map.storage, 'W')];
    let role = roles.iter().find(|(cpus, _)| cpus.contains(&cpu)).map(|(_, letter)| *letter);
    role.unwrap_or(if map.free.contains(&cpu) { '.' } else { '-' })
}

/// The interfaces near a node, where there is more than one node.
fn near(nics: &Nics, node: u32, nodes: usize) -> String {
    let here = |nic: &&crate::nic::Nic| nodes > 1 && nic.node == Some(node);
    let names: Vec<&str> = nics.real.iter().filter(here).map(|nic| nic.name.as_str()).collect();
    if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) }
}

/// Each physical core as its CPUs with their node.
fn physical(topology: &Topology) -> Vec<Vec<(u32, u32)>> {
    let mut cpus: Vec<_> = topology.cpus.iter().collect();
    cpus.sort_by_key(|cpu| (cpu.node, cpu.core, cpu.id));
    let cores = cpus.chunk_by(|one, next| (one.node, one.core) == (next.node, next.core));
    cores.map(|core| core.iter().map(|cpu| (cpu.id, cpu.node)).collect()).collect()
}

/// Cores in rows of one node each.
fn rows(topology: &Topology) -> Vec<Vec<Vec<(u32, u32)>>> {
    let cores = physical(topology);
    let by_node = cores.chunk_by(|one, next| one[0].1 == next[0].1);
    by_node.flat_map(|node| node.chunks(CORES_PER_ROW)).map(<[_]>::to_vec).collect()
}

const CORES_PER_ROW: usize = 16;
