//! Which threads run on which cores, where a core profile says so.
//!
//! Shards pin themselves; storage and control threads inherit the affinity of the thread that
//! starts them, which is moved for so long and moved back ([`Pinned`]). Without a profile shards
//! take the allowed cores in order and everything else runs anywhere.

use super::BootError;
use crate::config::Config;
use crate::log;
use crate::mesh::SHARDS_MAX;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tuning::Machine;
use tuning::nic::Nics;
use tuning::profile::{CoreMap, Profile};
use tuning::root::Root;
use tuning::topology::{Topology, show};

/// The map of the profile that is configured, if one is. The number of shards comes from it unless
/// it is configured, too.
pub fn place(config: &mut Config, machine: &Machine) -> Result<Option<CoreMap>, BootError> {
    if config.profile.is_empty() {
        return Ok(None);
    }
    let remedy = "see `shardcast tune profile list`, or start without --profile";
    let profile = Profile::load(&config.profile).map_err(|error| BootError::new(error, remedy))?;
    let root = Root::system();
    let topology = Topology::read(&root).map_err(|absent| {
        BootError::new(
            format!("the profile {} needs to know the CPUs: {absent}", profile.name),
            remedy,
        )
    })?;
    let node = Nics::read(&root).ok().and_then(|nics| nics.real.first()?.node);
    let asked = (config.shards != 0).then_some(config.shards);
    let mut map = profile.place_shards(&topology, machine, node, asked);
    map.shards.truncate(SHARDS_MAX);
    config.shards = map.shards.len() as u32;
    Ok(Some(map))
}

/// The core of each shard.
pub(super) fn of_shards(machine: &Machine, map: Option<&CoreMap>) -> Vec<usize> {
    let cores = match map {
        Some(map) => {
            log::info(
                "cores",
                &[
                    ("profile", &map.profile),
                    ("shards", &show(&map.shards)),
                    ("control", &show(&map.control)),
                    ("storage", &show(&map.storage)),
                ],
            );
            &map.shards
        }
        None => &machine.cores_allowed,
    };
    cores.iter().map(|core| *core as usize).collect()
}

/// The calling thread is on other CPUs while this lives, and so is every thread it starts.
pub(super) struct Pinned(Option<CpuSet>);

impl Pinned {
    /// Moves the calling thread; without CPUs it stays where it is.
    pub(super) fn to(cpus: Option<&[u32]>) -> Self {
        let Some(cpus) = cpus else { return Self(None) };
        let moved = sched_getaffinity(None).and_then(|before| {
            let mut set = CpuSet::new();
            let known = cpus.iter().filter(|cpu| (**cpu as usize) < CpuSet::MAX_CPU);
            known.for_each(|cpu| set.set(*cpu as usize));
            sched_setaffinity(None, &set).map(|()| before)
        });
        match moved {
            Ok(before) => Self(Some(before)),
            Err(error) => {
                log::warn(
                    "threads could not be pinned",
                    &[("cpus", &show(cpus)), ("error", &error)],
                );
                Self(None)
            }
        }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if let Some(before) = &self.0
            && let Err(error) = sched_setaffinity(None, before)
        {
            log::warn("a thread stays pinned", &[("error", &error)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_elsewhere_only_as_long_as_it_should_be() {
        let before = sched_getaffinity(None).unwrap();
        let first = (0..CpuSet::MAX_CPU).find(|cpu| before.is_set(*cpu)).unwrap();
        let pinned = Pinned::to(Some(&[first as u32]));
        let child = std::thread::spawn(|| sched_getaffinity(None).unwrap().count());
        assert_eq!(child.join().unwrap(), 1);
        drop(pinned);
        assert_eq!(sched_getaffinity(None).unwrap(), before);
        // A CPU that nobody has changes nothing.
        drop(Pinned::to(Some(&[u32::MAX])));
        assert_eq!(sched_getaffinity(None).unwrap(), before);
    }

    #[test]
    fn a_profile_places_as_many_shards_as_were_asked_for_or_as_fit() {
        let machine = Machine::read();
        let mut config = Config { profile: "small".into(), ..Config::default() };
        let map = place(&mut config, &machine).unwrap().unwrap();
        assert_eq!(config.shards as usize, map.shards.len());
        assert_eq!(map.shards.len(), machine.shards());
        assert!(map.shards.iter().all(|cpu| machine.cores_allowed.contains(cpu)));
        let mut config = Config { profile: "small".into(), shards: 3, ..Config::default() };
        assert_eq!(place(&mut config, &machine).unwrap().unwrap().shards.len(), 3);
        assert_eq!(place(&mut Config::default(), &machine), Ok(None));
    }
}
