//! `CDNOW_master.txt`, out of the Python package `lifetimes` 0.11.3 (MIT), by pip: downloaded when
//! first needed, never copied into this repository, and kept in the user's cache folder.

use super::orders::{ORDERS, Replay};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const PACKAGE: &str = "lifetimes==0.11.3";
const INSIDE: &str = "lifetimes/datasets/CDNOW_master.txt";

/// The orders, from the cache or by pip. The error says why there are none.
pub fn load() -> Result<Replay, String> {
    let cache = cache_folder().ok_or("there is neither XDG_CACHE_HOME nor HOME to keep them in")?;
    let file = cache.join("CDNOW_master.txt");
    if let Some(replay) = fs::read_to_string(&file).ok().and_then(|text| whole(&text).ok()) {
        return Ok(replay);
    }
    fs::create_dir_all(&cache).map_err(|error| format!("{}: {error}", cache.display()))?;
    let folder = cache.join(format!("download-{}", std::process::id()));
    let outcome = download(&folder).and_then(|text| {
        let replay = whole(&text)?;
        // By renaming, so that nobody ever finds half a file.
        let part = folder.join("whole");
        fs::write(&part, &text)
            .and_then(|()| fs::rename(&part, &file))
            .map_err(|e| e.to_string())?;
        Ok(replay)
    });
    let _ = fs::remove_dir_all(&folder);
    outcome
}

fn cache_folder() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))?;
    Some(base.join("shardcast"))
}

fn download(folder: &Path) -> Result<String, String> {
    let target = folder.to_string_lossy();
    let pip = ["-m", "pip", "download", PACKAGE, "--no-deps", "--quiet", "--no-input"];
    let limits = ["--disable-pip-version-check", "--retries", "1", "--timeout", "15", "--dest"];
    python(&[&pip[..], &limits[..], &[&target]].concat())?;
    let entries = fs::read_dir(folder).map_err(|error| error.to_string())?;
    let mut files = entries.flatten().map(|entry| entry.path());
    let wheel = files.find(|path| path.extension().is_some_and(|kind| kind == "whl"));
    let wheel = wheel.ok_or("pip downloaded no wheel")?;
    python(&["-m", "zipfile", "-e", &wheel.to_string_lossy(), &target])?;
    fs::read_to_string(folder.join(INSIDE)).map_err(|error| format!("{INSIDE}: {error}"))
}

fn python(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("python3")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("python3 cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    // The last line is the one that says why.
    let text = String::from_utf8_lossy(&output.stderr);
    let last = text.trim().lines().last().unwrap_or("no reason given");
    Err(format!("python3 {}: {last}", arguments[..3.min(arguments.len())].join(" ")))
}

fn whole(text: &str) -> Result<Replay, String> {
    let replay = Replay::parse(text)?;
    match replay.len() {
        ORDERS => Ok(replay),
        other => Err(format!("the file has {other} orders, not {ORDERS}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_file_is_not_taken_for_the_whole() {
        let error = whole("head\n1 19970101 1 1.00\n").unwrap_err();
        assert_eq!(error, "the file has 1 orders, not 69659");
    }

    #[test]
    fn a_python_that_fails_says_why() {
        let error = python(&["-c", "raise SystemExit('no network')"]).unwrap_err();
        assert!(error.ends_with("no network"), "{error}");
    }
}
