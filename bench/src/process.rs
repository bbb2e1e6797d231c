//! What another process used: CPU of all its threads, and memory.

use std::fs;

/// CPU nanoseconds of all threads that live, as the scheduler counted them (not sampled).
pub fn cpu_ns(pid: u32) -> u64 {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    let of = |path: std::path::PathBuf| -> Option<u64> {
        let text = fs::read_to_string(path.join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse().ok()
    };
    tasks.flatten().filter_map(|task| of(task.path())).sum()
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
