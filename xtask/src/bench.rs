//! `cargo xtask bench`: the benchmark, built the way its figures are meant to be read.

use crate::run::{self, cargo};
use anyhow::Result;

/// Builds for release and passes every argument on.
pub fn run(arguments: &[String]) -> Result<()> {
    // The benchmark starts the server's program, which stands beside its own.
    run::run(&mut cargo(["build", "--release", "--package", "server"]))?;
    run::run(cargo(["run", "--release", "--package", "bench", "--"]).args(arguments))
}
