//! What another process used: CPU of all its threads, and memory.

use std::collections::BTreeMap;
use std::fs;
use std::sync::OnceLock;

/// CPU nanoseconds of all threads that live, as the scheduler counted them (not sampled).
pub fn cpu_ns(pid: u32) -> u64 {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    let of = |path: std::path::PathBuf| -> Option<u64> {
        let text = fs::read_to_string(path.join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse().ok()
    };
    tasks.flatten().filter_map(|task| of(task.path())).sum()
}

/// CPU nanoseconds of the kernel's thread that does a core's soft interrupts, 0 if it is not to be
/// seen from here. Packets that a long system call could not deliver itself are delivered there:
/// the work of who sends, on nobody's bill.
pub fn softirq_ns(core: usize) -> u64 {
    static THREADS: OnceLock<BTreeMap<String, u32>> = OnceLock::new();
    let threads = THREADS.get_or_init(|| {
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let name = |pid| Some((fs::read_to_string(format!("/proc/{pid}/comm")).ok()?, pid));
        let named = pids.filter_map(name).map(|(name, pid)| (name.trim().to_owned(), pid));
        named.filter(|(name, _)| name.starts_with("ksoftirqd/")).collect()
    });
    threads.get(&format!("ksoftirqd/{core}")).map_or(0, |pid| cpu_ns(*pid))
}

/// CPU nanoseconds by thread name, for seeing who did the work.
pub fn cpu_by_thread(pid: u32) -> Vec<(String, u64)> {
    let mut found: Vec<(String, u64)> = Vec::new();
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return found };
    for task in tasks.flatten() {
        let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        let ns = text.split_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or(0);
        match found.iter_mut().find(|(known, _)| known == name.trim()) {
            Some((_, sum)) => *sum += ns,
            None => found.push((name.trim().to_owned(), ns)),
        }
    }
    found
}

/// Resident user memory in bytes.
pub fn rss_bytes(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or(0_u64) * 1024
}
