//! The machine: pinning, what stands in the head of every report, and how busy others keep it.

use crate::scenarios::Common;
use anyhow::{Context, Result};
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::{Deserialize, Serialize};
use std::fs;

/// Pins the calling thread; children started from it inherit that.
pub fn pin(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).with_context(|| format!("core {core} is not available"))
}

/// The cores a process may run on, none if it has gone.
pub fn cores_of(pid: u32) -> Vec<usize> {
    let Some(pid) = Pid::from_raw(pid as i32) else { return Vec::new() };
    let set = sched_getaffinity(Some(pid)).unwrap_or_default();
    (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect()
}

/// Runs something pinned to a core, as for starting a child there, and comes back to where it was.
pub fn on_core<T>(core: usize, run: impl FnOnce() -> Result<T>) -> Result<T> {
    let before = sched_getaffinity(None)?;
    pin(core)?;
    let result = run();
    sched_setaffinity(None, &before)?;
    result
}

/// Nanoseconds of the clock that all processes share.
pub fn now_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Raises the soft limit of descriptors to the hard one.
pub fn raise_descriptors() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // Whatever is left is said when connecting fails.
    let _ = setrlimit(Resource::Nofile, raised);
    limit.maximum.unwrap_or(u64::MAX)
}

/// CPU time all cores spent on anything, and steal, in nanoseconds since boot.
pub fn busy_ns() -> u64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let fields: Vec<u64> = line.split_whitespace().skip(1).filter_map(|f| f.parse().ok()).collect();
    let idle: u64 = fields.iter().skip(3).take(2).sum();
    let all: u64 = fields.iter().take(8).sum();
    (all - idle) * (1_000_000_000 / rustix::param::clock_ticks_per_second())
}

/// Slab caches of sockets and of what waits for them. Each socket also has a dentry, a bare one
/// too; those are left out because every look into `/proc` makes some.
const SOCKET_CACHES: &[&str] = &[
    "TCP",
    "sock_inode_cache",
    "filp",
    "eventpoll_",
    "ep_head",
    "io_kiocb",
    "request_sock_TCP",
    "tw_sock_TCP",
    "skbuff_",
    "kmalloc-",
    "lsm_file_cache",
];

/// Kernel memory that grows with connections, in bytes: slab objects in use by sockets, and the
/// pages that sockets hold. Who may not read `/proc/slabinfo` gets all slab pages, which is
/// coarser: pages that others left half empty are filled first.
pub fn kernel_bytes() -> u64 {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let slab = socket_slab_bytes(&read("/proc/slabinfo")).unwrap_or_else(|| {
        let text = read("/proc/meminfo");
        let line = text.lines().find_map(|line| line.strip_prefix("Slab:")).unwrap_or_default();
        let kib = line.split_whitespace().next().and_then(|kib| kib.parse().ok());
        kib.unwrap_or(0_u64) * 1024
    });
    let text = read("/proc/net/sockstat");
    let line = text.lines().find(|line| line.starts_with("TCP:")).unwrap_or_default();
    let pages = line.split_whitespace().skip_while(|word| *word != "mem").nth(1);
    let pages: u64 = pages.and_then(|pages| pages.parse().ok()).unwrap_or(0);
    slab + pages * rustix::param::page_size() as u64
}

/// Objects in use times their size, over the caches above; `None` without the file.
fn socket_slab_bytes(slabinfo: &str) -> Option<u64> {
    let caches = slabinfo.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let name = fields.next()?;
        let (used, size) =
            (fields.next()?.parse::<u64>().ok()?, fields.nth(1)?.parse::<u64>().ok()?);
        Some((name, used * size))
    });
    let mut sum = None;
    for (name, bytes) in caches {
        let ours = SOCKET_CACHES.iter().any(|cache| match cache.strip_suffix(['_', '-']) {
            Some(_) => name.starts_with(cache),
            None => name == *cache,
        });
        sum = Some(sum.unwrap_or(0) + if ours { bytes } else { 0 });
    }
    sum
}

/// What stands in the head of every report.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    pub kernel: String,
    pub model: String,
    pub cores: usize,
    pub memory_mib: u64,
    pub server_core: usize,
    pub client_core: usize,
    pub engine: String,
    /// Of our own server.
    pub version: String,
    /// Measures against speculation that are not "Not affected".
    pub mitigations: Vec<String>,
    pub load_average: String,
    /// What TCP does: every send pays for it, whoever sends.
    #[serde(default)]
    pub congestion_control: String,
    /// Cores, as a mask, that take received packets from the core that sent them; 0: nobody does,
    /// and the sender's core receives for its clients.
    #[serde(default)]
    pub loopback_receive: String,
    /// When, as seconds since 1970.
    pub unix_s: u64,
}

/// Looks at the machine.
pub fn look(common: &Common) -> Machine {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
    let memory = read("/proc/meminfo");
    let memory = memory.lines().next().unwrap_or_default().split_whitespace().nth(1);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Machine {
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        model: model.unwrap_or("?").trim_start_matches(['\t', ' ', ':']).to_owned(),
        cores: cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
        memory_mib: memory.and_then(|kib| kib.parse().ok()).unwrap_or(0_u64) / 1024,
        server_core: common.server_core,
        client_core: common.client_core,
        engine: common.engine.name().to_owned(),
        version: common.server_version(),
        mitigations: mitigations(),
        load_average: read("/proc/loadavg").split(' ').next().unwrap_or("?").to_owned(),
        congestion_control: read("/proc/sys/net/ipv4/tcp_congestion_control").trim().to_owned(),
        loopback_receive: read("/sys/class/net/lo/queues/rx-0/rps_cpus").trim().to_owned(),
        unix_s: now.map_or(0, |since| since.as_secs()),
    }
}

fn mitigations() -> Vec<String> {
    let Ok(files) = fs::read_dir("/sys/devices/system/cpu/vulnerabilities") else {
        return Vec::new();
    };
    let said = files.flatten().filter_map(|file| {
        let text = fs::read_to_string(file.path()).ok()?;
        let text = text.trim();
        let name = file.file_name();
        (text != "Not affected").then(|| format!("{}: {text}", name.to_string_lossy()))
    });
    let mut said: Vec<String> = said.collect();
    said.sort();
    said
}

/// The line that names the machine.
pub fn print_header(common: &Common) -> Result<()> {
    let machine = look(common);
    println!(
        "machine: Linux {}, {}, {} cores, {} MiB; server on core {}, clients on core {}; TCP {}, \
         loopback's receive mask {}; load average at start {}",
        machine.kernel,
        machine.model,
        machine.cores,
        machine.memory_mib,
        common.server_core,
        common.client_core,
        machine.congestion_control,
        machine.loopback_receive,
        machine.load_average
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn slab_objects_in_use_are_counted_for_sockets_only() {
        let text = "slabinfo - version: 2.1\n\
                    # name <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab>\n\
                    TCP 10 13 2368 13 8 : tunables 0 0 0\n\
                    TCPv6 7 7 2560 12 8 : tunables 0 0 0\n\
                    io_kiocb 3 32 256 16 1 : tunables 0 0 0\n\
                    dentry 900 900 192 21 1 : tunables 0 0 0\n\
                    kmalloc-128 2 32 128 32 1 : tunables 0 0 0\n";
        assert_eq!(super::socket_slab_bytes(text), Some(10 * 2368 + 3 * 256 + 2 * 128));
        assert_eq!(super::socket_slab_bytes(""), None);
    }
}
