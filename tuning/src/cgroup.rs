//! Where a process's cgroup limits are, in version 1, version 2 and the hybrid of both.
//!
//! Limits hold along the whole path, so every level up to the mount is read and the smallest
//! counts. Inside a container the path in `/proc/self/cgroup` is often the host's and does not
//! exist under the container's mount, which is then itself the container's cgroup: a missing
//! directory is skipped, and the walk ends at the mount.

use crate::parse;
use std::fs;
use std::path::{Path, PathBuf};

/// What the cgroups allow.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct CgroupLimits {
    pub(crate) cpu_quota_cores: Option<f64>,
    pub(crate) memory_bytes: Option<u64>,
}

/// `process` is its folder below `/proc`: a number, or `self`.
pub(crate) fn read(proc_root: &Path, process: &str, cgroup_root: &Path) -> CgroupLimits {
    let file = proc_root.join(process).join("cgroup");
    let text = fs::read_to_string(file).unwrap_or_default();
    let mut limits = CgroupLimits::default();
    for line in parse::cgroup_lines(&text) {
        // Another process outside of the cgroups that are seen from here: these are not its limits.
        if process != "self" && is_outside(line.path) {
            continue;
        }
        if line.controllers.is_empty() {
            // Version 2 alone is mounted at the root, beside version 1 it is in `unified`.
            for mount in [cgroup_root.to_path_buf(), cgroup_root.join("unified")] {
                walk(&mount, line.path, |dir| limits.take_v2(dir));
            }
        }
        for controller in line.controllers.split(',') {
            // `cpu` is usually a link to the directory `cpu,cpuacct`.
            for mount in [cgroup_root.join(controller), cgroup_root.join(line.controllers)] {
                match controller {
                    "cpu" => walk(&mount, line.path, |dir| limits.take_v1_cpu(dir)),
                    "memory" => walk(&mount, line.path, |dir| limits.take_v1_memory(dir)),
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
        self.quota(read_file(dir, "cpu.max").and_then(|text| parse::cpu_max(&text)));
        // `memory.high` throttles before `memory.max` kills; planning above it is a slow server.
        for name in ["memory.max", "memory.high"] {
            self.memory(read_file(dir, name).and_then(|text| parse::memory_limit(&text)));
        }
    }

    fn take_v1_cpu(&mut self, dir: &Path) {
        let quota = read_file(dir, "cpu.cfs_quota_us");
        let period = read_file(dir, "cpu.cfs_period_us");
        self.quota(quota.zip(period).and_then(|(quota, period)| parse::cfs_quota(&quota, &period)));
    }

    fn take_v1_memory(&mut self, dir: &Path) {
        let limit = read_file(dir, "memory.limit_in_bytes");
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
}

/// Calls `visit` for the cgroup at `path` and each of its parents, the mount included.
fn walk(mount: &Path, path: &str, mut visit: impl FnMut(&Path)) {
    if !mount.is_dir() {
        return;
    }
    let relative: PathBuf = Path::new(path)
        .components()
        .filter(|part| matches!(part, std::path::Component::Normal(_)))
        .collect();
    for part in relative.ancestors() {
        let dir = mount.join(part);
        if dir.is_dir() {
            visit(&dir);
        }
    }
}

fn read_file(dir: &Path, name: &str) -> Option<String> {
    fs::read_to_string(dir.join(name)).ok()
}
