//! Which CPUs each thread has: decided here and nowhere else.
//!
//! `serve` pins its shards to what [`place`] says; `check`, `plan`, `apply` and `render` reckon
//! with it. So a mask, an interrupt or a governor that is set is that of a CPU of a shard.
//!
//! Without a profile shards take the allowed CPUs in order, which is what affinity and a cpuset ask
//! for and needs no knowledge of the machine. Where that is bad (two shards on one core, a shard
//! far from the network), the checks of `cores` say which profile does better. Pure; tested there
//! and against the server's own map.

use super::{CoreMap, Profile};
use crate::machine::Machine;
use crate::nic::Nics;
use crate::root::{Absent, Root};
use crate::topology::Topology;

/// Places the threads as the server does. `shards` is how many were asked for.
pub fn place(
    profile: Option<&Profile>,
    topology: &Result<Topology, Absent>,
    machine: &Machine,
    nics: &Result<Nics, Absent>,
    shards: Option<u32>,
) -> Result<CoreMap, Absent> {
    let Some(profile) = profile else { return Ok(CoreMap::in_order(machine, shards)) };
    let topology = topology.as_ref().map_err(Clone::clone)?;
    let node = nics.as_ref().ok().and_then(|nics| nics.real.first()?.node);
    Ok(profile.place_shards(topology, machine, node, shards))
}

/// The same, with the machine's own CPUs and interfaces.
pub fn place_at(
    root: &Root,
    profile: Option<&Profile>,
    machine: &Machine,
    shards: Option<u32>,
) -> Result<CoreMap, Absent> {
    place(profile, &Topology::read(root), machine, &Nics::read(root), shards)
}

impl CoreMap {
    /// Without a profile: shards on the allowed CPUs in order, and again from the first one where
    /// there are more shards than CPUs; interrupts on theirs, everything else on all of them.
    fn in_order(machine: &Machine, shards: Option<u32>) -> Self {
        let allowed = &machine.cores_allowed;
        let count = shards.map_or_else(|| machine.shards(), |shards| shards as usize).max(1);
        let on: Vec<u32> = allowed.iter().cycle().take(count).copied().collect();
        Self {
            profile: "none".to_owned(),
            irqs: on[..count.min(allowed.len())].to_vec(),
            control: allowed.clone(),
            storage: allowed.clone(),
            free: allowed.iter().skip(count).copied().collect(),
            shards: on,
        }
    }
}
