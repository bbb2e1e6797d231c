//! `sim`: recorded seeds, then fresh ones; every failing seed is printed with the line that reruns
//! it, and the exit code is 1 if there was any.

use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tests::sim::{self, TICKS};

const USAGE: &str = "usage: sim [--seeds N] [--seed S] [--ticks T] [--trace]";

struct Arguments {
    seeds: u64,
    seed: Option<u64>,
    ticks: u64,
    trace: bool,
}

fn main() -> ExitCode {
    let arguments = match parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("{error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    quiet();
    let began = Instant::now();
    let mut seeds: Vec<u64> = Vec::new();
    match arguments.seed {
        Some(first) => seeds.extend(first..first + arguments.seeds.max(1)),
        None => {
            seeds.extend(sim::recorded().map(|(seed, _)| seed));
            // Fresh ones: the clock decides which, the output names them.
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |at| at.as_secs());
            let first = now.wrapping_mul(1_000_003) % 1_000_000_000_000;
            seeds.extend(first..first + arguments.seeds);
        }
    }
    let mut failed = Vec::new();
    for seed in &seeds {
        if !run(*seed, &arguments) {
            failed.push(*seed);
        }
    }
    // The first one again: the same seed must give the same trace.
    if let Some(seed) = seeds.first().filter(|seed| !failed.contains(seed)) {
        let hash = |()| sim::run(*seed, arguments.ticks, false).map(|outcome| outcome.hash).ok();
        if hash(()) != hash(()) {
            println!("seed {seed} gave two different traces");
            failed.push(*seed);
        }
    }
    println!(
        "{} seeds in {:.1} s, {} failed {failed:?}",
        seeds.len(),
        began.elapsed().as_secs_f64(),
        failed.len()
    );
    ExitCode::from(u8::from(!failed.is_empty()))
}

fn run(seed: u64, arguments: &Arguments) -> bool {
    let ticks = arguments.ticks;
    let began = Instant::now();
    match sim::run(seed, ticks, arguments.trace) {
        Ok(outcome) => {
            println!(
                "seed {seed} ok {:016x}: {} events, {} durable, {} delivered, {}/{} recovered, \
                 {} boots, {} s in {:.2} s",
                outcome.hash,
                outcome.events,
                outcome.durable,
                outcome.delivered,
                outcome.recoveries.0,
                outcome.recoveries.0 + outcome.recoveries.1,
                outcome.boots,
                outcome.virtual_ms / 1_000,
                began.elapsed().as_secs_f64(),
            );
            if arguments.seed.is_some() {
                println!("  {}", sim::options(seed, ticks));
            }
            true
        }
        Err(failure) => {
            println!("seed {seed} FAILED: {}", failure.what);
            println!("  {}", sim::options(seed, ticks));
            for line in failure.tail {
                println!("  {line}");
            }
            println!("  again: cargo run -p tests --bin sim -- --seed {seed} --ticks {ticks}");
            false
        }
    }
}

fn parse() -> Result<Arguments, String> {
    let mut parsed = Arguments { seeds: 0, seed: None, ticks: TICKS, trace: false };
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        if flag == "--trace" {
            parsed.trace = true;
            continue;
        }
        let value = arguments.next().and_then(|text| text.parse().ok());
        let value: u64 = value.ok_or_else(|| format!("`{flag}` needs a number"))?;
        match flag.as_str() {
            "--seeds" => parsed.seeds = value,
            "--seed" => parsed.seed = Some(value),
            "--ticks" => parsed.ticks = value,
            _ => return Err(format!("unknown argument `{flag}`")),
        }
    }
    Ok(parsed)
}

/// The server's log has nothing to say here, and a panic is reported with its seed.
fn quiet() {
    let mut log = server::config::Config::default().log;
    log.level = server::config::LogLevel::Error;
    server::log::init(&log);
    std::panic::set_hook(Box::new(|info| eprintln!("{info}")));
}
