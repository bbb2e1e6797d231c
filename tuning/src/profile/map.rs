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

/// CPUs that are kept from the shards.
#[derive(Debug, Default)]
struct Kept {
    irqs: Vec<u32>,
    control: Vec<u32>,
    storage: Vec<u32>,
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
        // Under a quota time is what is short, not cores.
        let is_whole = machine.cpu_quota_cores.is_none_or(|quota| quota >= total as f64);
        let reserve = self.cores.reserve_from != 0 && total >= self.cores.reserve_from as usize;
        let kept = match reserve && is_whole {
            true => self.keep(&mut cores, near, total),
            false => Kept::default(),
        };
        let (on, mut free) = self.shard_cpus(&cores, topology.is_hybrid());
        let count = shards_placed(on.len(), machine, shards);
        free.extend(on.iter().skip(count).copied());
        free.sort_unstable();
        let shards: Vec<u32> = on.iter().cycle().take(count).copied().collect();
        let or = |own: Vec<u32>, other: &[u32]| if own.is_empty() { other.to_vec() } else { own };
        CoreMap {
            profile: self.name.clone(),
            irqs: or(kept.irqs, &shards),
            control: or(kept.control, &whole),
            storage: or(kept.storage, &whole),
            shards,
            free,
        }
    }

    /// Takes the cores that shards do not get.
    fn keep(&self, cores: &mut Vec<Core>, near: u32, total: usize) -> Kept {
        let mut kept = Kept::default();
        if self.cores.irq_one_in != 0 {
            let wanted = (total / self.cores.irq_one_in as usize).max(1);
            kept.irqs = take_near(cores, near, wanted);
        }
        let control = self.cores.control as usize;
        kept.control = take_last(cores, control.saturating_add(self.cores.storage as usize));
        kept.storage = kept.control.split_off(control.min(kept.control.len()));
        if self.cores.storage == 0 {
            kept.storage.clone_from(&kept.control);
        }
        kept
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

/// How many shards there are on so many CPUs: as many as were asked for, up to [`SHARDS_MAX`], or
/// as fit.
fn shards_placed(cpus: usize, machine: &Machine, asked: Option<u32>) -> usize {
    let count = match asked {
        Some(count) => count.min(SHARDS_MAX) as usize,
        None => machine.cpu_quota_cores.map_or(cpus, |quota| cpus.min(quota.ceil() as usize)),
    };
    count.max(1)
}

/// No server has more than a sixteenth of it; more is an accident, and its list is not made.
const SHARDS_MAX: u32 = 1_024;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Cores;

    /// Four cores of two CPUs.
    fn topology() -> Topology {
        let dir = tempfile::tempdir().unwrap();
        let cpu = dir.path().join("sys/devices/system/cpu");
        let put = |path: &str, text: String| {
            let path = cpu.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put("online", "0-7\n".to_owned());
        for id in 0..8 {
            put(&format!("cpu{id}/topology/core_id"), format!("{}\n", id / 2));
            let first = id / 2 * 2;
            let siblings = format!("{first}-{}\n", first + 1);
            put(&format!("cpu{id}/topology/thread_siblings_list"), siblings);
        }
        Topology::read(&crate::root::Root::at(dir.path())).unwrap()
    }

    /// A profile is a file that anybody may write.
    #[test]
    fn no_number_of_a_profile_is_too_large() {
        let topology = topology();
        let mut machine = Machine::read();
        machine.cores_allowed = (0..8).collect();
        machine.cpu_quota_cores = None;
        for large in [0, 1, 3, u32::MAX] {
            for (reserve_from, control, storage, irq_one_in) in
                [(1, large, large, 1), (large, 1, large, large), (1, large, 1, u32::MAX)]
            {
                let cores = Cores {
                    reserve_from,
                    whole_cores: large == 3,
                    fast_only: true,
                    control,
                    storage,
                    irq_one_in,
                };
                let profile = Profile { cores, ..Profile::named("small").unwrap() };
                for asked in [None, Some(0), Some(large)] {
                    let map = profile.place_shards(&topology, &machine, Some(large), asked);
                    assert!(!map.shards.is_empty() && map.shards.len() <= SHARDS_MAX as usize);
                    assert!(map.shards.iter().all(|cpu| *cpu < 8), "{map:?}");
                    assert!(!map.control.is_empty() && !map.storage.is_empty(), "{map:?}");
                }
            }
        }
    }
}
