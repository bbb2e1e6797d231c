//! The facts about the machine, read once at start on the main thread.

use crate::root::Root;
use crate::{cgroup, parse};
use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;

/// Where the kernel's files are; tests point it at a directory of their own.
#[derive(Debug, Clone)]
pub struct Roots {
    /// `/proc`
    pub proc: PathBuf,
    /// `/sys/fs/cgroup`
    pub cgroup: PathBuf,
    /// Whose limits: a process by its number, or this one.
    pub process: Option<u32>,
}

impl Default for Roots {
    fn default() -> Self {
        Self { proc: "/proc".into(), cgroup: "/sys/fs/cgroup".into(), process: None }
    }
}

/// What the machine, the container and the user's limits allow this process.
#[derive(Debug, Clone, PartialEq)]
pub struct Machine {
    /// The CPU ids this process may run on: its affinity, which the kernel keeps within the
    /// cpuset. Never empty.
    pub cores_allowed: Vec<u32>,
    /// CPU time the cgroup allows, in cores; may be a fraction.
    pub cpu_quota_cores: Option<f64>,
    /// All of the machine's memory.
    pub memory_total_bytes: Option<u64>,
    /// What the kernel thinks can be had without swapping.
    pub memory_available_bytes: Option<u64>,
    /// The smallest limit among this process's cgroups.
    pub memory_limit_bytes: Option<u64>,
    /// What of the cgroups is there and cannot be read, and why: there may be limits beside these.
    pub cgroup_unread: Option<String>,
    /// Open descriptors.
    pub nofile: NofileLimit,
    /// The highest descriptor limit that root could set (`fs.nr_open`).
    pub nr_open: Option<u64>,
    /// The running kernel.
    pub kernel: Option<KernelVersion>,
    /// `kernel.io_uring_disabled`: 0 allowed, 1 only for a group, 2 for nobody.
    pub io_uring_disabled: Option<u32>,
    /// `net.core.somaxconn`: the longest accept queue.
    pub somaxconn: Option<u32>,
}

/// The soft limit is in force, the hard one is as far as a process may raise it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NofileLimit {
    /// In force.
    pub soft: u64,
    /// The ceiling for an unprivileged process.
    pub hard: u64,
}

/// A kernel version, ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion {
    /// 6 in 6.18.44.
    pub major: u32,
    /// 18 in 6.18.44.
    pub minor: u32,
    /// 44 in 6.18.44.
    pub patch: u32,
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl Roots {
    /// Where they are below `root`.
    pub fn below(root: &Root) -> Self {
        Self { proc: root.path("/proc"), cgroup: root.path("/sys/fs/cgroup"), process: None }
    }

    /// The same for a process.
    pub fn of(self, process: Option<u32>) -> Self {
        Self { process, ..self }
    }
}

impl Machine {
    /// Reads this machine. The descriptor limit is as it is now: call [`raise_nofile`] first.
    pub fn read() -> Self {
        Self::read_from(&Roots::default())
    }

    /// Reads a machine described by files under other roots.
    pub fn read_from(roots: &Roots) -> Self {
        let file = |path: &str| fs::read_to_string(roots.proc.join(path)).ok();
        let number = |path: &str| file(path)?.trim().parse::<u64>().ok();
        let meminfo = file("meminfo").unwrap_or_default();
        let own = match roots.process {
            Some(process) => process.to_string(),
            None => "self".to_owned(),
        };
        let limits = cgroup::read(&roots.proc, &own, &roots.cgroup);
        let cores_allowed = file(&format!("{own}/status"))
            .and_then(|status| parse::cpu_list(parse::field(&status, "Cpus_allowed_list")?))
            .filter(|cores| !cores.is_empty())
            .unwrap_or_else(affinity);
        let nofile = file(&format!("{own}/limits"))
            .and_then(|text| parse::nofile(&text))
            .map_or_else(current_nofile, |(soft, hard)| NofileLimit { soft, hard });
        Self {
            cores_allowed,
            cpu_quota_cores: limits.cpu_quota_cores,
            memory_total_bytes: parse::meminfo_bytes(&meminfo, "MemTotal"),
            memory_available_bytes: parse::meminfo_bytes(&meminfo, "MemAvailable"),
            memory_limit_bytes: limits.memory_bytes,
            cgroup_unread: limits.unread,
            nofile,
            nr_open: number("sys/fs/nr_open"),
            kernel: file("sys/kernel/osrelease").and_then(|text| {
                let (major, minor, patch) = parse::kernel_release(&text)?;
                Some(KernelVersion { major, minor, patch })
            }),
            io_uring_disabled: number("sys/kernel/io_uring_disabled").map(|value| value as u32),
            somaxconn: number("sys/net/core/somaxconn").map(|value| value as u32),
        }
    }

    /// How many shards the machine can run: one per allowed core, fewer under a CPU quota. A quota
    /// is rounded up: 1.5 cores are used better by two threads than by one.
    pub fn shards(&self) -> usize {
        let cores = self.cores_allowed.len();
        let quota = self.cpu_quota_cores.map_or(cores, |quota| quota.ceil() as usize);
        cores.min(quota).max(1)
    }

    /// The memory to plan with: the machine's, or the cgroup's limit where that is smaller.
    pub fn memory_bytes(&self) -> Option<u64> {
        match (self.memory_total_bytes, self.memory_limit_bytes) {
            (Some(total), Some(limit)) => Some(total.min(limit)),
            (one, other) => one.or(other),
        }
    }
}

/// Raises the soft descriptor limit to the hard one and says what is in force now. A soft limit of
/// 1,024 is a default for programs that use `select`; a server needs one descriptor per client.
pub fn raise_nofile() -> io::Result<NofileLimit> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        setrlimit(Resource::Nofile, raised)?;
    }
    Ok(current_nofile())
}

fn current_nofile() -> NofileLimit {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    NofileLimit { soft: limit.current.unwrap_or(u64::MAX), hard: limit.maximum.unwrap_or(u64::MAX) }
}

/// Without `/proc`: the affinity mask by system call; without that, one core.
fn affinity() -> Vec<u32> {
    let cores: Vec<u32> = rustix::thread::sched_getaffinity(None)
        .map(|set| {
            (0..rustix::thread::CpuSet::MAX_CPU)
                .filter(|&cpu| set.is_set(cpu))
                .map(|cpu| cpu as u32)
                .collect()
        })
        .unwrap_or_default();
    if cores.is_empty() { vec![0] } else { cores }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// A tree of files that stands for a machine.
    struct Tree(tempfile::TempDir);

    impl Tree {
        fn new(files: &[(&str, &str)]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            for (path, text) in files {
                let path = dir.path().join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            Self(dir)
        }

        fn read(&self) -> Machine {
            let root: &Path = self.0.path();
            self.read_of(None, root)
        }

        fn read_of(&self, process: Option<u32>, root: &Path) -> Machine {
            let (proc, cgroup) = (root.join("proc"), root.join("cgroup"));
            Machine::read_from(&Roots { proc, cgroup, process })
        }
    }

    const STATUS: (&str, &str) =
        ("proc/self/status", "Name:\tx\nCpus_allowed:\tff\nCpus_allowed_list:\t0-3,6\n");
    const MEMINFO: (&str, &str) =
        ("proc/meminfo", "MemTotal:    1048576 kB\nMemAvailable: 524288 kB\n");

    fn check(files: &[(&str, &str)], shards: usize, memory_bytes: Option<u64>) {
        let machine = Tree::new(files).read();
        assert_eq!(machine.shards(), shards, "{files:?}");
        assert_eq!(machine.memory_bytes(), memory_bytes, "{files:?}");
    }

    #[test]
    fn a_cgroup_limits_what_the_machine_would_allow() {
        // No cgroup at all.
        check(&[STATUS, MEMINFO], 5, Some(1 << 30));
        // Version 2, limits on the process's own group.
        let v2 = ("proc/self/cgroup", "0::/app\n");
        check(
            &[
                STATUS,
                MEMINFO,
                v2,
                ("cgroup/app/cpu.max", "150000 100000"),
                ("cgroup/app/memory.max", "1000"),
            ],
            2,
            Some(1000),
        );
        // A parent is stricter, and `memory.high` is below `memory.max`.
        check(
            &[
                STATUS,
                MEMINFO,
                ("proc/self/cgroup", "0::/a/b\n"),
                ("cgroup/a/cpu.max", "100000 100000"),
                ("cgroup/a/b/cpu.max", "max 100000"),
                ("cgroup/a/b/memory.max", "max"),
                ("cgroup/a/memory.max", "9000"),
                ("cgroup/a/memory.high", "8000"),
            ],
            1,
            Some(8000),
        );
        // In a container without a cgroup namespace the path is the host's; the mount is ours.
        check(
            &[
                STATUS,
                MEMINFO,
                ("proc/self/cgroup", "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n"),
                ("cgroup/memory/memory.limit_in_bytes", "536870912"),
                ("cgroup/cpu,cpuacct/cpu.cfs_quota_us", "250000"),
                ("cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000"),
            ],
            3,
            Some(512 << 20),
        );
        // Hybrid: version 1 controllers, version 2 without any.
        check(
            &[
                STATUS,
                MEMINFO,
                ("proc/self/cgroup", "1:cpu:/\n4:memory:/p/q\n0::/\n"),
                ("cgroup/memory/p/q/memory.limit_in_bytes", "9223372036854771712"),
                ("cgroup/memory/p/memory.limit_in_bytes", "777"),
                ("cgroup/cpu/cpu.cfs_quota_us", "-1"),
                ("cgroup/cpu/cpu.cfs_period_us", "100000"),
                ("cgroup/unified/cgroup.procs", ""),
            ],
            5,
            Some(777),
        );
    }

    /// A service's limits are its own, and not those of the shell that looks.
    #[test]
    fn another_process_has_its_own_cgroup_affinity_and_limits() {
        let tree = Tree::new(&[
            STATUS,
            MEMINFO,
            ("proc/self/cgroup", "0::/shell\n"),
            ("proc/self/limits", "Max open files            1024       4096       files\n"),
            ("cgroup/shell/memory.max", "max"),
            ("proc/77/status", "Cpus_allowed_list:\t2-3\n"),
            ("proc/77/cgroup", "0::/system.slice/shardcast.service\n"),
            ("proc/77/limits", "Max open files            9000       9000       files\n"),
            ("cgroup/system.slice/shardcast.service/memory.max", "4096"),
            ("cgroup/system.slice/shardcast.service/cpu.max", "100000 100000"),
        ]);
        let (own, other) = (tree.read(), tree.read_of(Some(77), tree.0.path()));
        assert_eq!((own.memory_limit_bytes, own.shards()), (None, 5));
        assert_eq!((other.memory_limit_bytes, other.shards()), (Some(4096), 1));
        assert_eq!(other.cores_allowed, [2, 3]);
        assert_eq!(other.nofile, NofileLimit { soft: 9000, hard: 9000 });
    }

    #[test]
    fn a_path_with_dots_does_not_leave_the_mount() {
        check(&[STATUS, ("proc/self/cgroup", "0::/../../out\n"), ("out/memory.max", "5")], 5, None);
    }

    #[test]
    fn the_other_facts_are_read_or_absent() {
        let machine = Tree::new(&[
            STATUS,
            ("proc/self/limits", "Max open files            1024       4096       files\n"),
            ("proc/sys/fs/nr_open", "1048576\n"),
            ("proc/sys/kernel/osrelease", "6.1.0-13-amd64\n"),
            ("proc/sys/kernel/io_uring_disabled", "2\n"),
            ("proc/sys/net/core/somaxconn", "4096\n"),
        ])
        .read();
        assert_eq!(machine.nofile, NofileLimit { soft: 1024, hard: 4096 });
        assert_eq!(machine.nr_open, Some(1 << 20));
        assert!(machine.kernel >= Some(KernelVersion { major: 6, minor: 1, patch: 0 }));
        assert_eq!(machine.io_uring_disabled, Some(2));
        assert_eq!(machine.somaxconn, Some(4096));
        assert_eq!(Tree::new(&[STATUS]).read().kernel, None);
    }

    #[test]
    fn this_machine_is_read_and_the_descriptor_limit_is_raised() {
        let raised = raise_nofile().unwrap();
        assert_eq!(raised.soft, raised.hard);
        let machine = Machine::read();
        assert_eq!(machine.nofile, raised);
        assert!(machine.memory_bytes().unwrap() > 0);
        assert!(machine.cores_allowed.len() >= machine.shards());
        assert!(machine.kernel.is_some());
    }
}
