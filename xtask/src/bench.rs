//! `cargo xtask bench`: the benchmark, built the way its figures are meant to be read, with the
//! servers it compares ours with.
//!
//! Those go into `target/peers`, in the versions that `bench/peers/` names; Debian's packages are
//! installed only as root. What cannot be installed is said, and the benchmark then skips that peer
//! and says so again beside its figures. `--peers none` installs nothing.

use crate::run::{self, cargo, command, root, target_dir};
use crate::tools;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// Builds for release and passes every argument on. What is mistyped is refused before anything is
/// installed.
pub fn run(arguments: &[String]) -> Result<()> {
    if wants_peers(arguments) {
        let parse = ["run", "--release", "--quiet", "--package", "bench", "--", "--only-parse"];
        run::run(cargo(parse).args(arguments))?;
        install_peers();
    }
    // The benchmark starts the server's program, which stands beside its own.
    run::run(&mut cargo(["build", "--release", "--package", "server"]))?;
    run::run(cargo(["run", "--release", "--package", "bench", "--"]).args(arguments))
}

fn wants_peers(arguments: &[String]) -> bool {
    let help = |word: &String| matches!(word.as_str(), "--help" | "-h" | "help" | "report");
    let calibrates = |word: &String| word.starts_with("--calibrate");
    let none = arguments.windows(2).any(|pair| pair[0] == "--peers" && pair[1] == "none");
    !(arguments.is_empty()
        || none
        || arguments.iter().any(|word| word == "--peers=none" || help(word) || calibrates(word)))
}

/// Puts something into the folder, unless it is there.
type Step = fn(&Path) -> Result<()>;

/// Installs what is missing; what fails is said and left out.
fn install_peers() {
    let folder = target_dir().join("peers");
    let steps: [(&str, Step); 4] = [
        ("libuv and nginx with Nchan", debian),
        ("uWebSockets and nats-server", python),
        ("the uWebSockets server", build_uws),
        ("ws and Socket.IO", node),
    ];
    for (what, step) in steps {
        if let Err(error) = step(&folder) {
            eprintln!("bench: without {what}: {error:#}");
        }
    }
}

/// A library of Debian's that has no program, or a module of one.
const DEBIAN: &[(&str, &str)] =
    &[("libuv1", "libuv.so.1"), ("libnginx-mod-nchan", "nginx/modules/ngx_nchan_module.so")];

fn debian(_: &Path) -> Result<()> {
    let folders = ["/usr/lib", "/usr/lib64", "/usr/lib/x86_64-linux-gnu"];
    let is_there = |file: &str| folders.iter().any(|dir| Path::new(dir).join(file).exists());
    let missing = DEBIAN.iter().filter(|(_, file)| !is_there(file)).map(|(package, _)| *package);
    let missing: Vec<&str> = missing.collect();
    if missing.is_empty() {
        return Ok(());
    }
    let by_hand = format!("apt-get install --yes --no-install-recommends {}", missing.join(" "));
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    if tools::find("apt-get").is_none() || !status.lines().any(|line| line.starts_with("Uid:\t0\t"))
    {
        bail!("that needs root; run as root: {by_hand}");
    }
    run::run(&mut command("apt-get", &["update", "--quiet"]))?;
    let mut install =
        command("apt-get", &["install", "--yes", "--quiet", "--no-install-recommends"]);
    // In runlevel 1 Debian's packages do not start the services they bring.
    install.args(&missing).env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1");
    run::run(&mut install).with_context(|| format!("install by hand: {by_hand}"))
}

fn python(folder: &Path) -> Result<()> {
    let requirements = root().join("bench/peers/requirements.txt");
    let target = folder.join("python");
    let stamp = target.join("installed.txt");
    let wanted = fs::read_to_string(&requirements)?;
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    if target.exists() {
        fs::remove_dir_all(&target)?;
    }
    // Nothing of it runs in Python, so its dependencies are not needed.
    let mut pip = command("python3", &["-m", "pip", "install", "--quiet", "--no-deps"]);
    pip.args(["--disable-pip-version-check", "--root-user-action=ignore", "--target"]);
    run::run(pip.arg(&target).arg("-r").arg(&requirements))?;
    Ok(fs::write(stamp, wanted)?)
}

fn build_uws(folder: &Path) -> Result<()> {
    let source = root().join("bench/peers/uws.c");
    let library_folder = folder.join("python/socketify");
    let library = library_folder.join("libsocketify_linux_amd64.so");
    if !cfg!(target_arch = "x86_64") || !library.exists() {
        bail!("socketify brings no library for this machine (no {})", library.display());
    }
    let program = folder.join("bin/uws");
    let newer = tools::modified(&program).is_some_and(|built| {
        [&source, &library].iter().all(|file| tools::modified(file).is_some_and(|at| at <= built))
    });
    if newer {
        return Ok(());
    }
    fs::create_dir_all(folder.join("bin"))?;
    let mut cc = command("cc", &["-O2", "-o"]);
    cc.arg(&program).arg(&source).arg("-Wl,--allow-shlib-undefined");
    // By name, and beside the program: the folder may be moved.
    cc.arg("-L").arg(&library_folder).arg("-l:libsocketify_linux_amd64.so");
    run::run(cc.arg("-Wl,-rpath,$ORIGIN/../python/socketify"))
}

fn node(folder: &Path) -> Result<()> {
    tools::require_node()?;
    let target = folder.join("node");
    fs::create_dir_all(&target)?;
    for name in ["package.json", "package-lock.json", "ws.mjs", "socketio.mjs"] {
        copy_if_other(&root().join("bench/peers").join(name), &target.join(name))?;
    }
    tools::npm_ci(&target)
}

/// Leaves what is the same untouched: its time says what was installed last.
fn copy_if_other(from: &PathBuf, to: &PathBuf) -> Result<()> {
    let wanted = fs::read(from).with_context(|| format!("no {}", from.display()))?;
    if fs::read(to).is_ok_and(|there| there == wanted) {
        return Ok(());
    }
    Ok(fs::write(to, wanted)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_installed_for_help_or_without_peers() {
        let wants = |line: &str| {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            wants_peers(&words)
        };
        assert!(wants("broadcast --connections 10"));
        assert!(wants("all --quick --peers uws,ws"));
        assert!(!wants("broadcast --peers none"));
        assert!(!wants("broadcast --peers=none"));
        assert!(!wants("--help"));
        assert!(!wants("--calibrate here.json"));
        assert!(!wants("report target/bench"));
        assert!(!wants(""));
    }
}
