//! From a profile and a topology to CPUs for every thread.

use super::Profile;
use crate::machine::Machine;
use crate::topology::{Cpu, Topology};
use serde::Serialize;

/// Who runs where. Every list is of CPU numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CoreMap {
    /// The profile.
    pub profile: String,
    /// The CPU of each shard, by the shard's number.
    pub shards: Vec<u32>,
    /// Where interrupts of the network arrive; queue by queue, in this order.
    pub irqs: Vec<u32>,
    /// The control thread.
    pub control: Vec<u32>,
    /// The spool's writer, its readers, the sinks.
    pub storage: Vec<u32>,
    /// Kept free: the other threads of the shards' cores, or cores too slow for shards.
    pub free: Vec<u32>,
}

/// A physical core: its CPUs that we may use.
type Core = Vec<Cpu>;

impl Profile {
    /// Places the threads. `nic_node` is where the network is near, `shards` how many were asked
    /// for.
    pub fn place_shards(
        &self,
        topology: &Topology,
        machine: &Machine,
        nic_node: Option<u32>,
        shards: Option<u32>,
    ) -> CoreMap {
        let mut cores = usable(topology, machine);
        let near = nic_node.unwrap_or(0);
        // Best first: fast, then near the network.
        cores.sort_by_key(|core| (core[0].slow, core[0].node != near, core[0].node, core[0].id));
        let total = cores.iter().map(Vec::len).sum::<usize>();
        let whole: Vec<u32> = ids(&cores);
        let reserve = self.cores.reserve_from != 0
            && total >= self.cores.reserve_from as usize
            // Under a quota time is what is short, not cores.
            && machine.cpu_quota_cores.is_none_or(|quota| quota >= total as f64);
        let mut irqs = Vec::new();
        let (mut control, mut storage) = (Vec::new(), Vec::new());
        if reserve {
            if self.cores.irq_one_in != 0 {
                let wanted = (total / self.cores.irq_one_in as usize).max(1);
                irqs = take_near(&mut cores, near, wanted);
            }
            let wanted = (self.cores.control + self.cores.storage) as usize;
            let mut taken = take_last(&mut cores, wanted);
            let rest = taken.split_off((self.cores.control as usize).min(taken.len()));
            (control, storage) = (taken, rest);
            if self.cores.storage == 0 {
                storage.clone_from(&control);
            }
        }
        let (on, mut free) = self.shard_cpus(&cores, topology.is_hybrid());
        let count = match shards {
            Some(count) => count as usize,
            None => machine.cpu_quota_cores.map_or(on.len(), |q| on.len().min(q.ceil() as usize)),
        };
        let count = count.max(1);
        free.extend(on.iter().skip(count).copied());
        free.sort_unstable();
        let shards: Vec<u32> = on.iter().cycle().take(count).copied().collect();
        let or = |own: Vec<u32>, other: &[u32]| if own.is_empty() { other.to_vec() } else { own };
        CoreMap {
            profile: self.name.clone(),
            irqs: or(irqs, &shards),
            control: or(control, &whole),
            storage: or(storage, &whole),
            shards,
            free,
        }
    }

    /// The CPUs that shards may have, and those that stay free for it.
    fn shard_cpus(&self, cores: &[Core], hybrid: bool) -> (Vec<u32>, Vec<u32>) {
        let slow_too = !self.cores.fast_only || !hybrid || cores.iter().all(|core| core[0].slow);
        let (fast, slow): (Vec<&Core>, Vec<&Core>) =
            cores.iter().partition(|core| slow_too || !core[0].slow);
        let mut on = Vec::new();
        let mut free: Vec<u32> = slow.into_iter().flatten().map(|cpu| cpu.id).collect();
        for core in fast {
            on.push(core[0].id);
            let others = core[1..].iter().map(|cpu| cpu.id);
            if self.cores.whole_cores { free.extend(others) } else { on.extend(others) }
        }
        (on, free)
    }
}

/// The physical cores with the CPUs that this process may use and that are online.
fn usable(topology: &Topology, machine: &Machine) -> Vec<Core> {
    let allowed = |cpu: &&Cpu| machine.cores_allowed.contains(&cpu.id);
    let mut cpus: Vec<Cpu> = topology.cpus.iter().filter(allowed).cloned().collect();
    if cpus.is_empty() {
        cpus.clone_from(&topology.cpus);
    }
    cpus.sort_by_key(|cpu| (cpu.core, cpu.id));
    cpus.chunk_by(|one, next| one.core == next.core).map(<[Cpu]>::to_vec).collect()
}

fn ids(cores: &[Core]) -> Vec<u32> {
    let mut ids: Vec<u32> = cores.iter().flatten().map(|cpu| cpu.id).collect();
    ids.sort_unstable();
    ids
}

/// Takes whole cores from the end, which are the least good ones, until there are so many CPUs; at
/// least one core stays.
fn take_last(cores: &mut Vec<Core>, cpus: usize) -> Vec<u32> {
    let mut taken = Vec::new();
    while taken.len() < cpus && cores.len() > 1 {
        taken.extend(cores.pop().into_iter().flatten().map(|cpu| cpu.id));
    }
    taken
}

/// The same, of the cores near the network.
fn take_near(cores: &mut Vec<Core>, node: u32, cpus: usize) -> Vec<u32> {
    let mut taken = Vec::new();
    while taken.len() < cpus && cores.len() > 1 {
        let near = cores.iter().rposition(|core| core[0].node == node && !core[0].slow);
        let core = cores.remove(near.unwrap_or(cores.len() - 1));
        taken.extend(core.iter().map(|cpu| cpu.id));
    }
    taken.sort_unstable();
    taken
}
