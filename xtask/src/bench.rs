//! `cargo xtask bench`: the benchmark, built the way its figures are meant to be read.

use crate::run::{self, cargo};
use anyhow::Result;

/// Builds for release and passes every argument on.
pub fn run(arguments: &[String]) -> Result<()> {
    run::run(cargo(["run", "--release", "--package", "bench", "--"]).args(arguments))
}
