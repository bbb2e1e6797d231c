//! `cargo xtask test`: everything that is a test, after installing what the tests need.
//!
//! The page is built first, because the server embeds it; then the workspace is built once, with
//! all targets, so that tests that start the server find it beside themselves in the target folder.

use crate::run::{self, Counts, cargo, command, root, run_counted, target_dir};
use crate::{demo, tools};
use anyhow::Result;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Installs, builds, runs; gives how many tests ran.
pub fn run() -> Result<Counts> {
    tools::install_for_tests()?;
    demo::build_page()?;
    build_workspace()?;
    let mut counts = run_counted(&mut runner()?)?;
    counts += test_in_node()?;
    counts += test_page()?;
    println!("{} tests run, {} skipped", counts.run, counts.skipped);
    Ok(counts)
}

/// Builds every target of every package in one call: asked for one by one, packages would agree on
/// other features of what they share, and cargo would build that again.
pub fn build_workspace() -> Result<()> {
    run::run(&mut cargo(["build", "--workspace", "--all-targets"]))
}

/// nextest if it is there; `cargo test` runs the same tests, only slower.
fn runner() -> Result<Command> {
    let mut probe = cargo(["nextest", "--version"]);
    let found = probe.stdout(Stdio::null()).stderr(Stdio::null()).status()?.success();
    let mut tests = if found {
        cargo(["nextest", "run", "--workspace", "--all-targets", "--no-fail-fast"])
    } else {
        println!(
            "cargo-nextest is not installed: `cargo test` does it, with fewer tests at a time"
        );
        cargo(["test", "--workspace", "--all-targets"])
    };
    if std::io::IsTerminal::is_terminal(&std::io::stderr()) {
        tests.arg("--color=always");
    }
    let mut python = vec![tools::python_packages()];
    python.extend(std::env::var_os("PYTHONPATH").map(PathBuf::from));
    tests.env("PYTHONPATH", std::env::join_paths(python)?);
    Ok(tests)
}

/// What is driven from JavaScript alone: files named `*.test.mjs` among the clients.
fn test_in_node() -> Result<Counts> {
    let folder = root().join("tests/clients");
    let Ok(entries) = std::fs::read_dir(&folder) else { return Ok(Counts::default()) };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut files: Vec<String> = names.filter(|name| name.ends_with(".test.mjs")).collect();
    if files.is_empty() {
        return Ok(Counts::default());
    }
    files.sort();
    let mut node = command("node", &["--test", "--test-reporter=spec"]);
    // Where they find the programs that were just built.
    node.args(&files).current_dir(folder).env("CARGO_TARGET_DIR", target_dir());
    run_counted(&mut node)
}

fn test_page() -> Result<Counts> {
    let folder = root().join("dashboard");
    if !folder.join("package.json").is_file() {
        return Ok(Counts::default());
    }
    run_counted(command("npm", &["test"]).current_dir(folder))
}
