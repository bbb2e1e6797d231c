//! Where a process's cgroup limits are, in version 1, version 2 and the hybrid of both.
//!
//! Limits hold along the whole path, so every level up to the mount is read and the smallest
//! counts. Inside a container the path in `/proc/self/cgroup` is often the host's and does not
//! exist under the container's mount, which is then itself the container's cgroup: a missing
//! directory is skipped, and the walk ends at the mount. What is there and cannot be read may hold
//! a limit: it is named, so that nobody takes it for none.

use crate::parse;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What the cgroups allow.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct CgroupLimits {
    pub(crate) cpu_quota_cores: Option<f64>,
    pub(crate) memory_bytes: Option<u64>,
    /// The first that is there and cannot be read, and why.
    pub(crate) unread: Option<String>,
}

/// `process` is its folder below `/proc`: a number, or `self`.
pub(crate) fn read(proc_root: &Path, process: &str, cgroup_root: &Path) -> CgroupLimits {
    let file = proc_root.join(process).join("cgroup");
    let mut limits = CgroupLimits::default();
    let text = limits.text(&file).unwrap_or_default();
    for line in parse::cgroup_lines(&text) {
        // Another process outside of the cgroups that are seen from here: these are not its limits.
        if process != "self" && is_outside(line.path) {
            continue;
        }
        if line.controllers.is_empty() {
            // Version 2 alone is mounted at the root, beside version 1 it is in `unified`.
            for mount in [cgroup_root.to_path_buf(), cgroup_root.join("unified")] {
                limits.walk(&mount, line.path, CgroupLimits::take_v2);
            }
        }
        for controller in line.controllers.split(',') {
            // `cpu` is usually a link to the directory `cpu,cpuacct`.
            for mount in [cgroup_root.join(controller), cgroup_root.join(line.controllers)] {
                match controller {
                    "cpu" => limits.walk(&mount, line.path, CgroupLimits::take_v1_cpu),
                    "memory" => limits.walk(&mount, line.path, CgroupLimits::take_v1_memory),
                    _ => {}
                }
            }
        }
    }
    limits
}

/// True for a path that leads out of this process's cgroup namespace.
pub(crate) fn is_outside(path: &str) -> bool {
    Path::new(path).components().any(|part| part == std::path::Component::ParentDir)
}

impl CgroupLimits {
    fn take_v2(&mut self, dir: &Path) {
        let quota = self.text(&dir.join("cpu.max"));
        self.quota(quota.and_then(|text| parse::cpu_max(&text)));
        // `memory.high` throttles before `memory.max` kills; planning above it is a slow server.
        for name in ["memory.max", "memory.high"] {
            let limit = self.text(&dir.join(name));
            self.memory(limit.and_then(|text| parse::memory_limit(&text)));
        }
    }

    fn take_v1_cpu(&mut self, dir: &Path) {
        let quota = self.text(&dir.join("cpu.cfs_quota_us"));
        let period = self.text(&dir.join("cpu.cfs_period_us"));
        self.quota(quota.zip(period).and_then(|(quota, period)| parse::cfs_quota(&quota, &period)));
    }

    fn take_v1_memory(&mut self, dir: &Path) {
        let limit = self.text(&dir.join("memory.limit_in_bytes"));
        self.memory(limit.and_then(|text| parse::memory_limit(&text)));
    }

    fn quota(&mut self, cores: Option<f64>) {
        if let Some(cores) = cores {
            self.cpu_quota_cores = Some(self.cpu_quota_cores.map_or(cores, |own| own.min(cores)));
        }
    }

    fn memory(&mut self, bytes: Option<u64>) {
        if let Some(bytes) = bytes {
            self.memory_bytes = Some(self.memory_bytes.map_or(bytes, |own| own.min(bytes)));
        }
    }

    /// Calls `take` for the cgroup at `path` and each of its parents, the mount included.
    fn walk(&mut self, mount: &Path, path: &str, take: fn(&mut Self, &Path)) {
        if !self.is_folder(mount) {
            return;
        }
        let relative: PathBuf = Path::new(path)
            .components()
            .filter(|part| matches!(part, std::path::Component::Normal(_)))
            .collect();
        for part in relative.ancestors() {
            let dir = mount.join(part);
            if self.is_folder(&dir) {
                take(self, &dir);
            }
        }
    }

    fn is_folder(&mut self, path: &Path) -> bool {
        let found = fs::metadata(path).map(|found| found.is_dir());
        self.seen(path, found).unwrap_or(false)
    }

    fn text(&mut self, path: &Path) -> Option<String> {
        let text = fs::read_to_string(path);
        self.seen(path, text)
    }

    /// What is not there is not: anything else is noted.
    fn seen<T>(&mut self, path: &Path, result: io::Result<T>) -> Option<T> {
        result
            .map_err(|error| {
                if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) {
                    let why = format!("{} cannot be read: {error}", path.display());
                    self.unread.get_or_insert(why);
                }
            })
            .ok()
    }
}
