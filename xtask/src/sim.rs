//! `cargo xtask sim`: the simulated world, the program `sim` of the package `tests`.
//!
//! The contract with it: `sim --seeds N` runs every seed recorded in `tests/sim/seeds.txt`, then N
//! fresh ones; it prints each failing seed with the line that reruns it, and exits with 0 only if
//! every run kept every promise. Other arguments are its own.

use crate::run::{self, cargo, command, root, target_dir};
use anyhow::{Result, bail};
use std::fs;

/// Fresh seeds when nobody asks for a number.
const SEEDS: &str = "100";

/// What became of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Every seed held.
    Held,
    /// There is no simulated world in this tree.
    Absent,
}

/// Builds and runs it.
pub fn run(arguments: &[String]) -> Result<Outcome> {
    if !exists()? {
        println!("there is no simulated world in this tree: tests/Cargo.toml has no binary `sim`");
        return Ok(Outcome::Absent);
    }
    run::run(&mut cargo(["build", "--package", "tests", "--bin", "sim"]))?;
    run_built(arguments)
}

/// Runs the one that is already built.
pub fn run_built(arguments: &[String]) -> Result<Outcome> {
    if !exists()? {
        return Ok(Outcome::Absent);
    }
    let program = target_dir().join("debug/sim");
    let mut sim = command(&program.to_string_lossy(), &[]);
    match arguments {
        [] => run::run(sim.args(["--seeds", SEEDS]))?,
        own => run::run(sim.args(own))?,
    }
    Ok(Outcome::Held)
}

/// A recorded seed without a world to run it in is a mistake, not a reason to skip.
fn exists() -> Result<bool> {
    let manifest = fs::read_to_string(root().join("tests/Cargo.toml"))?;
    let declared = manifest.lines().any(|line| line.trim() == "name = \"sim\"");
    let program = declared || root().join("tests/src/bin/sim.rs").is_file();
    if !program && root().join("tests/sim/seeds.txt").is_file() {
        bail!("tests/sim/seeds.txt records seeds, but the package `tests` has no binary `sim`");
    }
    Ok(program)
}
