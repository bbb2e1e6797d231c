//! What the machine has, and how to get what it lacks.
//!
//! Only [`install_for_tests`] installs system packages, and only those whose program is missing.

use crate::clickhouse;
use crate::run::{command, root, run, target_dir};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A program from a Debian package.
struct Tool {
    program: &'static str,
    package: &'static str,
    purpose: &'static str,
}

const fn tool(program: &'static str, package: &'static str, purpose: &'static str) -> Tool {
    Tool { program, package, purpose }
}

/// What the tests run besides Rust and Node.
const TOOLS: &[Tool] = &[
    tool("c++", "g++", "the fuzz targets' libFuzzer"),
    tool("cc", "gcc", "the crypto under TLS"),
    tool("chromium", "chromium", "the tests with a real browser"),
    tool("curl", "curl", "the tests with curl over HTTP/1.1 and HTTP/2"),
    tool("fsfreeze", "util-linux", "the test with a disk that hangs"),
    tool("h2load", "nghttp2-client", "the tests with h2load"),
    tool("losetup", "mount", "the tests that cut the power of a disk"),
    tool("mkfs.ext4", "e2fsprogs", "the tests that cut the power of a disk"),
    tool("strace", "strace", "the test in which the system calls of a shard fail"),
    tool("systemd-analyze", "systemd", "the test of the systemd unit"),
    tool("unshare", "util-linux", "the test that tunes a network namespace"),
    tool("python3", "python3", "the tests with Python clients"),
    tool("pip", "python3-pip", "the Python packages of those tests"),
    tool("valgrind", "valgrind", "counting instructions"),
];

/// Installs the Debian packages whose program is missing, the test clients of npm and of pip, and
/// ClickHouse; says which.
pub fn install_for_tests() -> Result<()> {
    install_packages(TOOLS.iter())?;
    require_node()?;
    let clients = root().join("tests/clients");
    if clients.join("package.json").is_file() {
        npm_ci(&clients)?;
    }
    install_python(&clients)?;
    clickhouse::install().map(|_| ())
}

/// Installs the package of one program, if that is missing.
pub fn install_for(program: &str) -> Result<()> {
    install_packages(TOOLS.iter().filter(|tool| tool.program == program))
}

fn install_packages<'a>(tools: impl Iterator<Item = &'a Tool>) -> Result<()> {
    let missing: Vec<&Tool> = tools.filter(|tool| find(tool.program).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    for tool in &missing {
        println!("installing the package {}: {} needs it", tool.package, tool.purpose);
    }
    let packages: Vec<&str> = missing.iter().map(|tool| tool.package).collect();
    let by_hand = format!("apt-get install --yes {}", packages.join(" "));
    if find("apt-get").is_none() {
        bail!("this system has no apt-get; install what Debian calls {}", packages.join(", "));
    }
    let mut install =
        as_root(&["apt-get", "install", "--yes", "--no-install-recommends"], &by_hand)?;
    install.args(&packages).env("DEBIAN_FRONTEND", "noninteractive");
    run(&mut as_root(&["apt-get", "update", "--quiet"], &by_hand)?)?;
    run(&mut install).with_context(|| format!("install by hand: {by_hand}"))
}

/// The command itself for root, with sudo for others.
fn as_root(words: &[&str], by_hand: &str) -> Result<Command> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    if status.lines().any(|line| line.starts_with("Uid:\t0\t")) {
        return Ok(command(words[0], &words[1..]));
    }
    if find("sudo").is_none() {
        bail!("installing needs root; run as root: {by_hand}");
    }
    Ok(command("sudo", words))
}

/// Where Python finds the test clients' packages.
pub fn python_packages() -> PathBuf {
    target_dir().join("python")
}

/// Installs into a folder of its own: no virtual environment, which some systems cannot make, and
/// nothing outside the target folder. Older versions stand in `older` in it.
fn install_python(clients: &Path) -> Result<()> {
    let newest = clients.join("requirements.txt");
    let older = clients.join("requirements-older.txt");
    let Ok(wanted) = fs::read_to_string(&newest) else { return Ok(()) };
    let version = crate::run::capture(&mut command("python3", &["--version"]))?;
    let wanted = format!("{version}{wanted}{}", fs::read_to_string(&older)?);
    let folder = python_packages();
    let stamp = folder.join("installed.txt");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    println!(
        "installing Python packages into {}: the tests with Python clients need them",
        folder.display()
    );
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    pip_install(&folder, &newest, &[])?;
    pip_install(&folder.join("older"), &older, &["--no-deps"])?;
    fs::write(&stamp, wanted).context("cannot note what was installed")
}

fn pip_install(folder: &Path, requirements: &Path, options: &[&str]) -> Result<()> {
    let mut pip = command("python3", &["-m", "pip", "install", "--quiet", "--target"]);
    pip.args([folder, Path::new("-r"), requirements].map(Path::as_os_str)).args(options);
    run(pip.args(["--disable-pip-version-check", "--no-warn-script-location"]))
}

/// Node, new enough to build the page.
pub fn require_node() -> Result<()> {
    let remedy = "install Node.js 20.19 or newer, with npm: https://nodejs.org/en/download";
    let Some((major, minor)) = node_version() else {
        bail!("there is no Node.js on this machine; {remedy}");
    };
    if (major, minor) < NODE_VERSION_MIN {
        bail!("Node.js {major}.{minor} is too old to build the page; {remedy}");
    }
    if find("npm").is_none() {
        bail!("there is Node.js but no npm; {remedy}");
    }
    Ok(())
}

/// The oldest Node.js that Vite 8 runs on.
const NODE_VERSION_MIN: (u32, u32) = (20, 19);

fn node_version() -> Option<(u32, u32)> {
    let output = Command::new("node").arg("--version").stderr(Stdio::null()).output().ok()?;
    version(&String::from_utf8_lossy(&output.stdout))
}

/// Reads `v20.11.1`.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.trim().strip_prefix('v')?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// `npm ci`, unless what is installed is what the lock file says.
pub fn npm_ci(folder: &Path) -> Result<()> {
    let lock = folder.join("package-lock.json");
    // npm leaves this file behind when it is done, so a half installation does not count.
    let installed = folder.join("node_modules/.package-lock.json");
    if modified(&installed).is_some_and(|at| modified(&lock).is_some_and(|lock| lock <= at)) {
        return Ok(());
    }
    let name = folder.strip_prefix(root()).unwrap_or(folder).display().to_string();
    println!("installing the npm packages of {name} into {name}/node_modules");
    run(command("npm", &["ci", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(folder))
}

/// When a file was written.
pub fn modified(path: &Path) -> Option<std::time::SystemTime> {
    fs::metadata(path).and_then(|data| data.modified()).ok()
}

/// The program's path, looked up as a shell does. Some tools of the system live in `sbin`, which
/// not every user's path has.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let mut candidates = std::env::split_paths(&path).chain(system).map(|dir| dir.join(program));
    candidates.find(|candidate| candidate.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_from_what_node_prints() {
        assert_eq!(version("v20.11.1\n"), Some((20, 11)));
        assert_eq!(version("20"), None);
        assert_eq!(version(""), None);
    }

    #[test]
    fn programs_are_found_on_the_path_and_only_there() {
        assert!(find("sh").is_some());
        assert!(find("no-such-program-anywhere").is_none());
    }
}
