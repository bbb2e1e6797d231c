//! `cargo xtask ci`: what CI runs, in the order in which failing is cheapest.
//!
//! One profile (dev) serves checks, tests, generated pages and the simulated world, so that the
//! workspace is compiled once for clippy, once for running; the shards are compiled once more,
//! optimised, for counting their instructions, and the parsers with coverage for fuzzing. Both
//! leave out what makes the workspace large: the control plane and the stores' clients. The first
//! failure ends it and names the command to run again.

use crate::run::{self, Counts, cargo, seconds};
use crate::{counts, docs, fuzz, sim, test, tidy};
use anyhow::Result;
use std::time::{Duration, Instant};

/// Fresh seeds of the simulated world in a CI run.
const SEEDS: u64 = 100;
/// Seconds for each fuzz target in a CI run.
const FUZZ_SECONDS: u64 = 5;

/// What a step has to say in the totals.
type Note = String;

/// One step.
struct Step {
    name: &'static str,
    /// What to type to run it again, and alone.
    again: &'static str,
    run: fn(&mut Counts) -> Result<Note>,
}

const STEPS: &[Step] = &[
    Step { name: "format", again: "cargo fmt --all", run: |_| format() },
    Step {
        name: "clippy",
        again: "cargo clippy --workspace --all-targets -- -D warnings",
        run: |_| clippy(),
    },
    Step { name: "tidy", again: "cargo xtask tidy", run: |_| tidy::run(false) },
    Step {
        name: "rustdoc",
        again: "RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links' cargo doc --workspace \
                --no-deps --document-private-items",
        run: |_| rustdoc(),
    },
    Step { name: "tests", again: "cargo xtask test", run: tests },
    Step { name: "reference pages", again: "cargo xtask docs", run: |_| reference() },
    Step { name: "simulation", again: "cargo xtask sim", run: simulation },
    Step { name: "counts", again: "cargo xtask counts", run: |_| instructions() },
    Step { name: "fuzzing", again: "cargo xtask fuzz --seconds 5", run: |_| fuzzing() },
];

/// Runs every step and prints the totals.
pub fn run() -> Result<()> {
    let start = Instant::now();
    let mut counts = Counts::default();
    let mut done: Vec<(&str, Duration, Note)> = Vec::new();
    for (index, step) in STEPS.iter().enumerate() {
        println!(
            "\n[{}/{}] {} ({} so far)",
            index + 1,
            STEPS.len(),
            step.name,
            seconds(start.elapsed())
        );
        let began = Instant::now();
        match (step.run)(&mut counts) {
            Ok(note) => done.push((step.name, began.elapsed(), note)),
            Err(error) => {
                print_totals(&done);
                let took = seconds(began.elapsed());
                return Err(error.context(format!(
                    "step {} of {}, {}, failed after {took}; run it again with `{}`",
                    index + 1,
                    STEPS.len(),
                    step.name,
                    step.again
                )));
            }
        }
    }
    print_totals(&done);
    println!(
        "ci: {} steps passed in {}; {} tests run, {} skipped",
        STEPS.len(),
        seconds(start.elapsed()),
        counts.run,
        counts.skipped
    );
    Ok(())
}

fn print_totals(done: &[(&str, Duration, Note)]) {
    println!();
    for (name, took, note) in done {
        println!("{name:<16} {:>13}  {note}", seconds(*took));
    }
}

fn format() -> Result<Note> {
    run::run(&mut cargo(["fmt", "--all", "--", "--check"]))?;
    Ok(String::new())
}

fn clippy() -> Result<Note> {
    let arguments = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
    run::run(&mut cargo(arguments))?;
    Ok(String::new())
}

fn rustdoc() -> Result<Note> {
    // For people who change the crates: nothing here is published, so private items are shown, and
    // links to them are welcome.
    let mut doc = cargo(["doc", "--workspace", "--no-deps", "--document-private-items"]);
    run::run(doc.env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links"))?;
    Ok(String::new())
}

fn tests(counts: &mut Counts) -> Result<Note> {
    let own = test::run()?;
    *counts += own;
    Ok(format!("{} run, {} skipped", own.run, own.skipped))
}

fn reference() -> Result<Note> {
    // Built by the tests a moment ago.
    docs::compare(docs::Mode::Check)?;
    Ok(String::new())
}

fn simulation(counts: &mut Counts) -> Result<Note> {
    Ok(match sim::run_built(&["--seeds".to_owned(), SEEDS.to_string()])? {
        sim::Outcome::Held => format!("recorded seeds and {SEEDS} fresh ones"),
        sim::Outcome::Absent => {
            counts.skipped += 1;
            "skipped: the tree has no simulated world".to_owned()
        }
    })
}

fn instructions() -> Result<Note> {
    let compared = counts::run(&counts::Request::default())?;
    Ok(format!("{} programs within {} %", compared.programs, compared.tolerance_percent))
}

fn fuzzing() -> Result<Note> {
    let request = fuzz::Request { target: None, seconds: FUZZ_SECONDS, rest: Vec::new() };
    let totals = fuzz::run(&request)?;
    Ok(format!("{} targets, {} inputs", totals.targets, totals.executions))
}
