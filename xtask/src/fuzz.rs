//! `cargo xtask fuzz`: libFuzzer on stable Rust.
//!
//! The compiler's own coverage pass is turned on by flags, so neither nightly nor cargo-fuzz is
//! needed; a C++ compiler is, for libFuzzer itself. The targets are the `[[bin]]`s of
//! `tests/fuzz/Cargo.toml`. New inputs are kept under the target folder, `tests/fuzz/seeds/TARGET`
//! is only read: an input worth keeping is copied there by hand, under a name that says what it is.

use crate::run::{self, capture, cargo, command, root, seconds, target_dir};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

/// What to fuzz.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// One target, or all.
    pub target: Option<String>,
    /// Seconds for each.
    pub seconds: u64,
    /// Passed to libFuzzer as they are.
    pub rest: Vec<String>,
}

impl Request {
    /// `[TARGET] [--seconds N] [-- ARGS]`.
    pub fn parse(arguments: &[String]) -> Result<Self> {
        let mut request = Self { target: None, seconds: 30, rest: Vec::new() };
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--" => request.rest = words.by_ref().cloned().collect(),
                "--seconds" => {
                    let count = words.next().context("--seconds wants a number")?;
                    request.seconds =
                        count.parse().with_context(|| format!("`{count}` is not a number"))?;
                }
                name if request.target.is_none() && !name.starts_with('-') => {
                    request.target = Some(name.to_owned());
                }
                other => bail!(
                    "usage: cargo xtask fuzz [TARGET] [--seconds N] [-- ARGS]; what is `{other}`?"
                ),
            }
        }
        Ok(request)
    }
}

/// What was done, for the totals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    pub targets: u64,
    pub executions: u64,
}

/// Builds the targets and runs each for the time given.
pub fn run(request: &Request) -> Result<Totals> {
    let manifest = fs::read_to_string(root().join("tests/fuzz/Cargo.toml"))?;
    let mut names = targets(&manifest);
    if let Some(wanted) = &request.target {
        if !names.contains(wanted) {
            bail!("there is no fuzz target `{wanted}`; there are: {}", names.join(", "));
        }
        names = vec![wanted.clone()];
    }
    let folder = build(request.target.as_deref())?;
    let mut totals = Totals::default();
    for name in &names {
        totals.executions += run_one(&folder, name, request)?;
        totals.targets += 1;
    }
    Ok(totals)
}

/// Gives the folder of the programs.
fn build(target: Option<&str>) -> Result<PathBuf> {
    let version = capture(&mut command("rustc", &["-vV"]))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("`rustc -vV` does not name the host")?;
    let folder = target_dir().join("fuzz");
    // An explicit target keeps the flags away from build scripts, which have no libFuzzer to link.
    let mut cargo = cargo(["build", "--package", "fuzz", "--profile", "fuzz", "--target", host]);
    match target {
        Some(name) => cargo.args(["--bin", name]),
        None => cargo.arg("--bins"),
    };
    cargo.env("CARGO_TARGET_DIR", &folder).env("RUSTFLAGS", FLAGS.join(" "));
    run::run(&mut cargo)?;
    Ok(folder.join(host).join("fuzz"))
}

/// Gives the number of inputs that were tried.
fn run_one(folder: &std::path::Path, name: &str, request: &Request) -> Result<u64> {
    let kept = target_dir().join("fuzz").join("corpus").join(name);
    let artifacts = target_dir().join("fuzz").join("artifacts").join(name);
    for folder in [&kept, &artifacts] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let mut fuzzer = Command::new(folder.join(name));
    fuzzer.current_dir(root()).arg(format!("-artifact_prefix={}/", artifacts.display()));
    if request.rest.is_empty() {
        fuzzer.arg(format!("-max_total_time={}", request.seconds));
        fuzzer.args(["-timeout=10", "-rss_limit_mb=2048"]).arg(&kept);
        let seeds = root().join("tests/fuzz/seeds").join(name);
        if seeds.is_dir() {
            fuzzer.arg(seeds);
        }
    } else {
        fuzzer.args(&request.rest);
    }
    print!("fuzz {name}: ");
    let _ = std::io::Write::flush(&mut std::io::stdout());
    let start = Instant::now();
    let output = fuzzer.stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        println!("failed");
        eprintln!("{said}");
        bail!(
            "the fuzz target `{name}` failed; the input is in {}; rerun it with \
             `cargo xtask fuzz {name} -- FILE`",
            artifacts.display()
        );
    }
    let executions = said.lines().find_map(executions_in).unwrap_or(0);
    println!("{executions} inputs in {}", seconds(start.elapsed()));
    Ok(executions)
}

/// Reads `Done 1234 runs in 5 second(s)`.
fn executions_in(line: &str) -> Option<u64> {
    line.strip_prefix("Done ")?.split_once(" runs")?.0.parse().ok()
}

/// The names of the `[[bin]]`s of a manifest.
fn targets(manifest: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut inside = false;
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line == "[[bin]]";
        } else if let Some(name) = line.strip_prefix("name = \"").filter(|_| inside) {
            names.push(name.trim_end_matches('"').to_owned());
        }
    }
    names
}

/// What cargo-fuzz passes, without the sanitizer that needs nightly.
const FLAGS: [&str; 6] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "--cfg fuzzing",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_the_binaries_and_not_the_package() {
        let manifest = "[package]\nname = \"fuzz\"\n[[bin]]\nname = \"ws\"\npath = \"a.rs\"\n\n\
                        [[bin]]\nname = \"sse\"\n[lib]\nname = \"shared\"\n";
        assert_eq!(targets(manifest), ["ws", "sse"]);
    }

    #[test]
    fn arguments_after_two_dashes_are_the_fuzzers_own() {
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let request = Request::parse(&words("ws --seconds 5 -- crash-1 -runs=1")).unwrap();
        let rest = words("crash-1 -runs=1");
        assert_eq!(request, Request { target: Some("ws".to_owned()), seconds: 5, rest });
        assert!(Request::parse(&words("ws sse")).is_err());
        assert!(Request::parse(&words("--second 5")).is_err());
    }

    #[test]
    fn the_number_of_inputs_is_read_from_the_closing_line() {
        assert_eq!(executions_in("Done 1291 runs in 6 second(s)"), Some(1291));
        assert_eq!(executions_in("#2 INITED cov: 12"), None);
    }
}
