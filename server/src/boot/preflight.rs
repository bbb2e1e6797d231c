//! The checks of `shardcast tune` before a start, in the same words.
//!
//! Refused is only what would certainly end badly ([`REFUSED`]). What keeps the server from what
//! its configuration asks for is one warning each; what could be better is one line that says where
//! to look. Checks that only a probe or a measurement can answer are left to `tune`.

use super::{BootError, REFUSAL_SLOTS};
use crate::config::budget::{Budget, Facts, descriptors_reserved};
use crate::config::{Config, Engine};
use crate::driver::DriverSizes;
use crate::log;
use crate::uring::{UringDriver, UringUnavailable};
use std::path::{Path, PathBuf};
use tuning::check::{self, Context, Finding, Severity};
use tuning::profile::Profile;
use tuning::root::Root;
use tuning::target::{EngineWanted, Measured, Target};

/// Findings that end a start when they are fatal: planning with memory that is not there ends with
/// the kernel killing the server, at the worst moment.
const REFUSED: &[&str] = &["memory.planned"];

/// Checks that are not about this start: the probe of io_uring comes right after, the others are
/// about what is in front of the server.
const NOT_NOW: &[&str] = &["net.heartbeat", "memory.connections", "disk.sync"];

/// Looks, says what there is to say, and refuses where there is no use in starting. Gives why not
/// every shard could have a ring, if that is so.
pub(super) fn run(
    config: &Config,
    budget: &Budget,
    sizes: &DriverSizes,
) -> Result<Option<UringUnavailable>, BootError> {
    let mut findings = findings(config, budget, sizes, &Root::system());
    refuse(&findings)?;
    let locked = findings.iter().find(|finding| finding.id == MEMLOCK);
    let locked = locked.filter(|finding| finding.severity >= Severity::Warning).map(|finding| {
        let Finding { current, required, fix, .. } = finding;
        let cause = format!("memory that may be locked: {current}, required: {required}");
        UringUnavailable { cause, remedy: fix.clone() }
    });
    // The engine is chosen next, and speaks for itself.
    findings.retain(|finding| !finding.id.starts_with("uring."));
    for finding in findings.iter().filter(|finding| finding.severity == Severity::Fatal) {
        log::warn(
            "the machine does not allow what is configured",
            &[
                ("check", &finding.id),
                ("current", &finding.current),
                ("required", &finding.required),
                ("fix", &finding.fix),
            ],
        );
    }
    let better: Vec<&str> = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Warning)
        .map(|finding| finding.id)
        .collect();
    if !better.is_empty() {
        let ids = better.join(" ");
        log::info("`shardcast tune` has advice for this machine", &[("checks", &ids)]);
    }
    Ok(locked)
}

const MEMLOCK: &str = "uring.memlock";

fn findings(config: &Config, budget: &Budget, sizes: &DriverSizes, root: &Root) -> Vec<Finding> {
    let connections = match config.limits.connections_max {
        // Derived from what there is, so it fits.
        0 => budget.connections_max,
        asked => asked,
    };
    let mut target = target(config, u64::from(connections), budget.facts.shards);
    target.ring_bytes = UringDriver::locked_bytes(sizes);
    let mut measured = Measured::nothing("not tried at start");
    measured.space = tuning::measure::space(&target.data_dir);
    let profile = Profile::load(&config.profile).ok();
    let mut findings = check::run(&Context::read(root, &target, &measured, profile.as_ref()));
    findings.retain(|finding| !NOT_NOW.iter().any(|id| finding.id.starts_with(id)));
    findings
}

fn refuse(findings: &[Finding]) -> Result<(), BootError> {
    let certain =
        |finding: &&Finding| finding.severity == Severity::Fatal && REFUSED.contains(&finding.id);
    findings.iter().find(certain).map_or(Ok(()), |finding| {
        let Finding { id, current, required, why, fix, .. } = finding;
        Err(BootError::new(format!("{id}: {current}, required: {required}; {why}"), fix.clone()))
    })
}

/// What a configuration asks of a machine.
pub fn target(config: &Config, connections: u64, shards: u32) -> Target {
    let limits = &config.limits;
    let mut target = Target::new(connections, shards);
    target.memory_planned_bytes = (limits.memory_bytes_max != 0).then_some(limits.memory_bytes_max);
    target.heartbeat_s = limits.heartbeat_s;
    target.engine = match config.engine {
        Engine::Auto => EngineWanted::Auto,
        Engine::Uring => EngineWanted::Uring,
        Engine::Epoll => EngineWanted::Epoll,
    };
    target.unsent_bytes_max = u64::from(match limits.unsent_bytes_max {
        // What the kernel takes by itself, `tcp_wmem`'s last figure.
        0 => 4 << 20,
        bytes => bytes,
    });
    target.spool_bytes_max = config.spool.bytes_max;
    target.data_dir = absolute(&config.data_dir);
    target.listen_ports = config.listen.iter().map(std::net::SocketAddr::port).collect();
    target.listen_ports.push(config.admin_listen.port());
    target.descriptors_reserved = descriptors_reserved(config, shards);
    let per_shard = connections.div_ceil(u64::from(target.shards)) + u64::from(REFUSAL_SLOTS);
    target.ring_bytes = UringDriver::locked_bytes(&DriverSizes {
        connections: u32::try_from(per_shard).unwrap_or(u32::MAX),
        receive_buffers: limits.receive_buffers_max,
        receive_buffer_bytes: 0,
        receive_bytes_per_turn: 0,
    });
    target.page_bytes = rustix::param::page_size() as u64;
    target
}

/// How many clients the memory budget has room for, descriptors aside.
pub fn connections_by_memory(config: &Config, facts: Facts) -> Result<u64, String> {
    let mut config = config.clone();
    config.limits.connections_max = 0;
    let facts = Facts { descriptors: u64::from(u32::MAX), ..facts };
    let budget = Budget::derive(&config, facts).map_err(|error| error.to_string())?;
    Ok(u64::from(budget.connections_max))
}

/// The least memory of a machine or a cgroup whose budget has room for so many clients, in whole
/// mebibytes; `None` if no memory does, or if the configuration says how much is planned with.
pub fn memory_for(config: &Config, shards: u32, connections: u64) -> Option<u64> {
    if config.limits.memory_bytes_max != 0 {
        return None;
    }
    let fits = |mebibytes: u64| {
        let facts = Facts { shards, descriptors: 0, memory_bytes: mebibytes << 20 };
        connections_by_memory(config, facts).is_ok_and(|room| room >= connections)
    };
    let (mut few, mut enough) = (0, MEBIBYTES_MAX);
    if !fits(enough) {
        return None;
    }
    while enough - few > 1 {
        let half = few + (enough - few) / 2;
        *(if fits(half) { &mut enough } else { &mut few }) = half;
    }
    Some(enough << 20)
}

/// A pebibyte.
const MEBIBYTES_MAX: u64 = 1 << 30;

/// From the root, with links followed as far as the path is there.
fn absolute(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    path.canonicalize().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(config: &Config) -> Budget {
        let facts = Facts { shards: 2, descriptors: 10_000, memory_bytes: 4 << 30 };
        Budget::derive(config, facts).unwrap()
    }

    fn looked(config: &Config, root: &Root) -> Vec<Finding> {
        let sizes = DriverSizes {
            connections: 4_096,
            receive_buffers: 256,
            receive_buffer_bytes: 16_384,
            receive_bytes_per_turn: 65_536,
        };
        findings(config, &budget(config), &sizes, root)
    }

    /// A machine of 4 GiB with 10,000 descriptors.
    fn machine() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put("proc/meminfo", "MemTotal:        4194304 kB\n");
        put("proc/self/limits", "Max open files            1024       10000       files\n");
        let root = Root::at(dir.path());
        (dir, root)
    }

    #[test]
    fn memory_that_is_not_there_is_refused_with_the_words_of_the_check() {
        let (_dir, root) = machine();
        let mut config = Config::default();
        assert_eq!(refuse(&looked(&config, &root)), Ok(()));
        config.limits.memory_bytes_max = 5 << 30;
        let error = refuse(&looked(&config, &root)).unwrap_err();
        assert!(error.message.starts_with("memory.planned: 5.0 GiB"), "{error}");
        assert!(error.remedy.contains("limits.memory_bytes_max = 3221225472"), "{error}");
    }

    #[test]
    fn more_clients_than_descriptors_are_said_and_not_refused() {
        let (_dir, root) = machine();
        let mut config = Config::default();
        let fatal = |config: &Config| {
            let all = looked(config, &root);
            assert_eq!(refuse(&all), Ok(()));
            all.into_iter()
                .filter(|f| f.severity == Severity::Fatal)
                .map(|f| f.id)
                .collect::<Vec<_>>()
        };
        assert_eq!(fatal(&config), [""; 0]);
        config.limits.connections_max = 50_000;
        assert_eq!(fatal(&config), ["files.nofile_hard"]);
    }

    #[test]
    fn the_least_memory_for_so_many_clients_has_room_for_them() {
        let config = Config::default();
        let room = |memory_bytes| {
            let facts = Facts { shards: 4, descriptors: 0, memory_bytes };
            connections_by_memory(&config, facts).unwrap_or(0)
        };
        let mut last = 0;
        for connections in [1, 10_000, 400_000, 1 << 30] {
            let bytes = memory_for(&config, 4, connections).unwrap();
            assert!(bytes >= last, "{bytes} for {connections}");
            assert!(room(bytes) >= connections);
            assert!(room(bytes - (1 << 20)) < connections, "{bytes} for {connections}");
            last = bytes;
        }
        assert_eq!(memory_for(&config, 4, u64::MAX), None);
        let mut planned = config.clone();
        planned.limits.memory_bytes_max = 1 << 30;
        assert_eq!(memory_for(&planned, 4, 10), None);
    }

    #[test]
    fn memory_alone_says_how_many_fit() {
        let facts = Facts { shards: 2, descriptors: 100, memory_bytes: 4 << 30 };
        let mut config = Config::default();
        let room = connections_by_memory(&config, facts).unwrap();
        config.limits.connections_max = 10;
        assert_eq!(connections_by_memory(&config, facts), Ok(room));
        assert!(room > 50_000, "{room}");
        let tiny = Facts { memory_bytes: 64 << 20, ..facts };
        assert!(connections_by_memory(&config, tiny).is_err());
    }
}
