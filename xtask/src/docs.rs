//! `cargo xtask docs`: the pages under `docs/reference/` come from the program itself.
//!
//! A test in `server` compares them too; this is the command that its message asks for.

use crate::run::{self, capture, cargo, root, target_dir};
use anyhow::{Context, Result, bail};
use std::fs;
use std::process::Command;

/// What to do about a page that differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Fail.
    Check,
    /// Write it.
    Write,
}

/// Builds the server and brings the pages up to date, or says which are not.
pub fn run(mode: Mode) -> Result<()> {
    run::run(&mut cargo(["build", "--package", "server", "--bin", "shardcast"]))?;
    compare(mode)
}

/// Compares the pages with what an already built server says.
pub fn compare(mode: Mode) -> Result<()> {
    let program = target_dir().join("debug/shardcast");
    let mut stale = Vec::new();
    for page in PAGES {
        let text = capture(Command::new(&program).args(["config", "--reference", page]))?;
        let name = format!("docs/reference/{page}.md");
        let path = root().join(&name);
        if fs::read_to_string(&path).unwrap_or_default() == text {
            continue;
        }
        if mode == Mode::Write {
            fs::write(&path, text).with_context(|| format!("cannot write {name}"))?;
            println!("wrote {name}");
        }
        stale.push(name);
    }
    if mode == Mode::Check && !stale.is_empty() {
        bail!("{} differ from what the program says; run `cargo xtask docs`", stale.join(", "));
    }
    if stale.is_empty() {
        println!("docs/reference: {} pages are what the program says", PAGES.len());
    }
    Ok(())
}

/// The values of the hidden flag `--reference`.
const PAGES: [&str; 4] = ["configuration", "metrics", "close-reasons", "tuning-checks"];
