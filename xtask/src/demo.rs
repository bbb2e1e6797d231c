//! `cargo xtask demo`: from a fresh clone to the first event, with Rust, Node and pip only.
//!
//! Builds the page if it is missing or older than its sources, builds the server in a profile made
//! for a short build, then becomes `shardcast demo`. Never installs system packages.

use crate::run::{self, cargo, command, root, seconds, target_dir};
use crate::tools;
use anyhow::{Result, bail};
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Instant, SystemTime};

/// Builds what is stale and replaces this process with the demo.
pub fn run(arguments: &[String]) -> Result<()> {
    let start = Instant::now();
    tools::require_node()?;
    if tools::find("pip").is_none() && tools::find("pip3").is_none() {
        println!("there is no pip: the demo runs without the feed of orders, which comes with it");
    }
    step(start, "building the page");
    build_page()?;
    step(start, "building the server; the first time this takes minutes");
    run::run(&mut cargo(["build", "--profile", "demo", "--package", "server"]))?;
    step(start, "starting the demo");
    let mut demo = Command::new(target_dir().join("demo/shardcast"));
    demo.arg("demo").args(arguments).current_dir(root());
    bail!("cannot start the demo: {}", demo.exec())
}

/// Says what comes, and how long it took to get there.
fn step(start: Instant, what: &str) {
    println!("[{:>7}] {what}", seconds(start.elapsed()));
}

/// Installs the page's packages and builds it, unless what is there is newer than its sources.
pub fn build_page() -> Result<()> {
    let folder = root().join("dashboard");
    if !folder.join("package.json").is_file() {
        println!("there is no page in this tree (dashboard/package.json); the server runs without");
        return Ok(());
    }
    tools::npm_ci(&folder)?;
    let built = tools::modified(&folder.join("dist/index.html"));
    if built.is_some_and(|built| newest_source(&folder).is_some_and(|source| source <= built)) {
        return Ok(());
    }
    run::run(command("npm", &["run", "build"]).current_dir(&folder))
}

/// When the youngest file was written that the page is made from.
fn newest_source(folder: &Path) -> Option<SystemTime> {
    let entries = fs::read_dir(folder).ok()?;
    let times = entries.flatten().filter_map(|entry| {
        let path = entry.path();
        match entry.file_name().to_str() {
            Some("dist" | "node_modules") => None,
            Some(name) if name.starts_with('.') => None,
            _ if path.is_dir() => newest_source(&path),
            _ => tools::modified(&path),
        }
    });
    times.max()
}
