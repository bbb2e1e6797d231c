//! Which threads run on which cores, where a core profile says so.
//!
//! Shards pin themselves; storage and control threads inherit the affinity of the thread that
//! starts them, which is moved for so long and moved back ([`Pinned`]). Where shards go is decided
//! by `tuning`, which advises on the same map; without a profile everything else stays as it is.

use super::BootError;
use crate::config::Config;
use crate::log;
use crate::mesh::SHARDS_MAX;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tuning::Machine;
use tuning::profile::{self, CoreMap, Profile};
use tuning::root::Root;
use tuning::topology::show;

/// Where every thread runs. With a profile the number of shards comes from it unless it is
/// configured, too.
pub fn place(config: &mut Config, machine: &Machine) -> Result<CoreMap, BootError> {
    place_at(&Root::system(), config, machine)
}

fn place_at(root: &Root, config: &mut Config, machine: &Machine) -> Result<CoreMap, BootError> {
    let remedy = "see `shardcast tune profile list`, or start without --profile";
    let profile = match config.profile.as_str() {
        "" => None,
        name => Some(Profile::load(name).map_err(|error| BootError::new(error, remedy))?),
    };
    let asked = (config.shards != 0).then_some(config.shards);
    let mut map = profile::place_at(root, profile.as_ref(), machine, asked).map_err(|absent| {
        let error = format!("the profile {} needs to know the CPUs: {absent}", config.profile);
        BootError::new(error, remedy)
    })?;
    map.shards.truncate(SHARDS_MAX);
    if profile.is_some() {
        config.shards = map.shards.len() as u32;
    }
    Ok(map)
}

/// The core of each shard.
pub(super) fn of_shards(config: &Config, map: &CoreMap) -> Vec<usize> {
    if !config.profile.is_empty() {
        log::info(
            "cores",
            &[
                ("profile", &map.profile),
                ("shards", &show(&map.shards)),
                ("control", &show(&map.control)),
                ("storage", &show(&map.storage)),
            ],
        );
    }
    map.shards.iter().map(|core| *core as usize).collect()
}

/// What the threads besides the shards are moved to. Without a profile they stay as they are, so
/// that a cpuset that is widened later is theirs, too.
pub(super) fn others<'a>(config: &Config, cpus: &'a [u32]) -> Option<&'a [u32]> {
    (!config.profile.is_empty()).then_some(cpus)
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
        let map = place(&mut config, &machine).unwrap();
        assert_eq!(config.shards as usize, map.shards.len());
        assert_eq!(map.shards.len(), machine.shards());
        assert!(map.shards.iter().all(|cpu| machine.cores_allowed.contains(cpu)));
        let mut config = Config { profile: "small".into(), shards: 3, ..Config::default() };
        assert_eq!(place(&mut config, &machine).unwrap().shards.len(), 3);
    }

    /// Eight cores with two threads each, numbered as most machines do: 0 and 8 are siblings.
    fn two_threads_a_core() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put("proc/self/status", "Cpus_allowed_list:\t0-15\n");
        put("sys/devices/system/cpu/online", "0-15\n");
        for cpu in 0..16 {
            let siblings = format!("{},{}\n", cpu % 8, cpu % 8 + 8);
            let path = format!("sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
            put(&path, &siblings);
        }
        let root = Root::at(dir.path());
        (dir, root)
    }

    #[test]
    fn shards_run_where_tune_says_they_do_with_and_without_a_profile() {
        let (_dir, root) = two_threads_a_core();
        let machine = Machine::read_from(&tuning::Roots::below(&root));
        for name in std::iter::once("").chain(Profile::names()) {
            for shards in [0, 1, 2, 8, 16, 20] {
                let mut config = Config { profile: name.into(), shards, ..Config::default() };
                let map = place_at(&root, &mut config, &machine).unwrap();
                let target = tuning::target::Target::new(1_000, map.shards.len() as u32);
                let measured = tuning::target::Measured::nothing("not measured");
                let profile = Profile::named(name);
                let context =
                    tuning::check::Context::read(&root, &target, &measured, profile.as_ref());
                let said = context.map.unwrap();
                assert_eq!(map, said, "{name} {shards}");
                let pinned: Vec<u32> =
                    of_shards(&config, &map).iter().map(|core| *core as u32).collect();
                assert_eq!(pinned, said.shards);
                assert_eq!(others(&config, &map.control).is_none(), name.is_empty());
            }
        }
        let mut config = Config { shards: 2, ..Config::default() };
        assert_eq!(place_at(&root, &mut config, &machine).unwrap().shards, [0, 1]);
    }
}
