//! Automation: everything a contributor or CI runs, as `cargo xtask COMMAND`.
//!
//! One file per command; [`run`] starts programs and counts what they report, [`tidy`] reads the
//! sources. CI is `cargo xtask ci` and nothing else, so what fails there fails here with the same
//! line.
//!
//! Deliberately absent: dependencies (this is compiled before anything else, on every machine),
//! anything that the product needs at run time. Runs on one thread, apart from those that copy a
//! child's output. Tested by unit tests of its parsers; the commands are tested by being CI.

mod bench;
mod ci;
mod clickhouse;
mod counts;
mod demo;
mod docs;
mod fuzz;
mod run;
mod sim;
mod test;
mod tidy;
mod tools;

use anyhow::{Result, bail};
use std::process::ExitCode;

const HELP: &str = "\
usage: cargo xtask COMMAND

  test                       install what the tests need, then run all of them
  demo [ARGS]                build the page and the server, start the demo; never installs
                             system packages; ARGS go to `shardcast demo`
  ci                         exactly what CI runs: the checks, the tests, seeds, fuzzing
  tidy [--citations]         check layers, sizes, comments and links in seconds
  docs [--check]             regenerate docs/reference from the program
  fuzz [TARGET] [--seconds N] [-- ARGS]
                             fuzz one parser or all; ARGS go to libFuzzer
  sim [--seeds N] [ARGS]     run the simulated world: recorded seeds, then N fresh ones; see
                             `cargo xtask sim --help`
  counts [--accept] [NAME...]
                             count the instructions of the hot paths and compare them with
                             bench/counts.toml; --accept writes it
  bench [ARGS]               build for release and run the benchmark
  clickhouse [--port N] [--path DIR]
                             a real ClickHouse on 127.0.0.1:8123, until Ctrl-C; installs it once

CARGO_TARGET_DIR is respected.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[String]) -> Result<()> {
    let Some((command, rest)) = arguments.split_first() else {
        bail!("a command is missing\n\n{HELP}");
    };
    match command.as_str() {
        "ci" => no_arguments(rest).and_then(|()| ci::run()),
        "test" => no_arguments(rest).and_then(|()| test::run().map(|_| ())),
        "demo" => demo::run(rest),
        "tidy" => tidy::run(switch(rest, "--citations")?).map(|_| ()),
        "docs" => {
            docs::run(if switch(rest, "--check")? { docs::Mode::Check } else { docs::Mode::Write })
        }
        "fuzz" => fuzz::run(&fuzz::Request::parse(rest)?).map(|_| ()),
        "sim" => sim::run(rest).map(|_| ()),
        "counts" => counts::run(&counts::Request::parse(rest)?).map(|_| ()),
        "bench" => bench::run(rest),
        "clickhouse" => clickhouse::serve(&clickhouse::Request::parse(rest)?),
        "help" | "--help" | "-h" => {
            println!("{HELP}");
            Ok(())
        }
        other => bail!("there is no command `{other}`\n\n{HELP}"),
    }
}

fn no_arguments(rest: &[String]) -> Result<()> {
    match rest.first() {
        None => Ok(()),
        Some(extra) => bail!("`{extra}` is not expected here\n\n{HELP}"),
    }
}

/// True if the only argument is `name`, false if there is none.
fn switch(rest: &[String], name: &str) -> Result<bool> {
    match rest {
        [] => Ok(false),
        [only] if only == name => Ok(true),
        [other, ..] => bail!("`{other}` is not expected here; did you mean `{name}`?\n\n{HELP}"),
    }
}
