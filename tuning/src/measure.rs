//! What no file says: room on a disk, the time of a sync, what `ethtool` prints.
//!
//! Everything here is bounded: so many syncs of a small file of our own, which is removed; programs
//! that print a page. Runs on the caller's thread, only when asked.

use crate::nic::Nics;
use crate::target::{Space, SyncTime};
use rustix::fs::{Mode, OFlags};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Free space where `folder` is or will be, and what files in it take already.
pub fn space(folder: &Path) -> Result<Space, String> {
    let there = existing(folder)?;
    let stat = rustix::fs::statvfs(&there).map_err(|e| format!("{}: {e}", there.display()))?;
    let spool_bytes = if there == folder { bytes_in(folder, 0) } else { 0 };
    Ok(Space { free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize), spool_bytes })
}

/// The folder itself, or the nearest above it that is there.
fn existing(folder: &Path) -> Result<PathBuf, String> {
    let all = folder.ancestors().filter(|path| !path.as_os_str().is_empty());
    let found = all.into_iter().find(|path| path.is_dir());
    found.map(Path::to_path_buf).ok_or_else(|| format!("{} is nowhere", folder.display()))
}

fn bytes_in(folder: &Path, depth: u32) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let sizes = entries.flatten().take(FILES_MAX).map(|entry| match entry.metadata() {
        Ok(data) if data.is_file() => data.len(),
        Ok(data) if data.is_dir() && depth < 3 => bytes_in(&entry.path(), depth + 1),
        _ => 0,
    });
    sizes.sum()
}

const FILES_MAX: usize = 100_000;

/// Writes and syncs a small file a few times where `folder` is or will be.
pub fn sync_time(folder: &Path) -> Result<SyncTime, String> {
    let there = existing(folder)?;
    let path = there.join(format!(".shardcast-sync-{}", std::process::id()));
    let said = |error: rustix::io::Errno| format!("{}: {error}", there.display());
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR).map_err(said)?;
    // Gone with this process, whatever happens to it.
    rustix::fs::unlink(&path).map_err(said)?;
    let block = [0x5a_u8; SYNC_BYTES];
    let mut times = Vec::new();
    for round in 0..SYNCS {
        let start = Instant::now();
        rustix::io::pwrite(&file, &block, u64::from(round) * SYNC_BYTES as u64).map_err(said)?;
        rustix::fs::fdatasync(&file).map_err(said)?;
        times.push(start.elapsed().as_secs_f64() * 1_000.0);
    }
    times.sort_by(f64::total_cmp);
    let median_ms = times[times.len() / 2];
    let worst_ms = times[times.len() - 1];
    Ok(SyncTime { tries: SYNCS, median_ms, worst_ms })
}

const SYNC_BYTES: usize = 4_096;
const SYNCS: u32 = 33;

/// Asks `ethtool` about each interface, where it is installed.
pub fn ethtool(nics: &Nics) -> BTreeMap<String, Result<String, String>> {
    let mut all = BTreeMap::new();
    for nic in &nics.real {
        for flag in ["-g", "-k", "-x"] {
            all.insert(format!("{flag} {}", nic.name), run_ethtool(flag, &nic.name));
        }
    }
    all
}

fn run_ethtool(flag: &str, name: &str) -> Result<String, String> {
    let mut command = Command::new("ethtool");
    command.args([flag, name]).stdin(Stdio::null()).env("LC_ALL", "C");
    let output = command.output().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            format!("ethtool is not installed; install it to see `ethtool {flag} {name}`")
        }
        _ => format!("ethtool cannot be run: {error}"),
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let line = said.lines().next().unwrap_or("it failed").trim().to_owned();
        return Err(format!("ethtool {flag} {name}: {line}"));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_not_there_yet_is_measured_where_it_will_be() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), [0_u8; 1000]).unwrap();
        let there = space(dir.path()).unwrap();
        assert_eq!(there.spool_bytes, 1000);
        let later = dir.path().join("x/y");
        assert_eq!(space(&later).unwrap().spool_bytes, 0);
        let time = sync_time(&later).unwrap();
        assert!(time.median_ms > 0.0 && time.worst_ms >= time.median_ms);
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }
}
