//! The simulated world: the server's own shards, mesh, restore and spool under a seeded clock,
//! network, scheduler and disk, with clients that speak real bytes and an oracle outside the code.
//!
//! Reading order: `world` (what happens), `host` and `driver` (the server without threads and
//! sockets), `net`, the clients (`publisher`, `subscriber`, `client`, `sub`, `stream`, `track`,
//! `http2`, `lurker`), `oracle` (what must be true), `options` (what a seed draws).
//!
//! Invariant: the same seed gives the same trace, line for line. So nothing here or below may look
//! at a clock, a thread, an address or the order of a randomly keyed table.
//! Deliberately absent: real drivers and sockets (the integration tests have them), TLS.

mod chance;
mod client;
mod driver;
mod host;
mod http2;
mod lurker;
mod net;
mod options;
mod oracle;
mod pipe;
mod publisher;
mod request;
mod stream;
mod sub;
mod subscriber;
mod trace;
mod track;
mod wire;
mod world;

pub use options::Options;
pub use world::Outcome;

use chance::Chance;
use std::panic::AssertUnwindSafe;
use world::World;

/// Steps of the safety phase unless somebody says otherwise.
pub const TICKS: u64 = 6_000;

/// Worlds of lower seeds have no clients of the client protocol.
const CLIENTS_FROM_SEED: u64 = 1_000;

/// The seeds that found something once.
const RECORDED: &str = include_str!("../../sim/seeds.txt");

/// A promise that a run broke.
#[derive(Debug)]
pub struct Failure {
    /// What is wrong.
    pub what: String,
    /// The last lines of the trace.
    pub tail: Vec<String>,
}

/// What a seed draws.
pub fn options(seed: u64, ticks: u64) -> Options {
    let mut options = Options::draw(&mut Chance::new(seed, 1), ticks);
    // The first seeds were recorded before there were any, and run as they did then.
    if seed < CLIENTS_FROM_SEED {
        options.clients = 0;
    }
    options
}

/// Runs one seed.
pub fn run(seed: u64, ticks: u64, loud: bool) -> Result<Outcome, Failure> {
    let mut world = World::new(seed, &options(seed, ticks), loud);
    let ran = std::panic::catch_unwind(AssertUnwindSafe(|| world.run()));
    let what = match ran {
        Ok(Ok(outcome)) => return Ok(outcome),
        Ok(Err(what)) => what,
        Err(panic) => format!("panic: {}", text_of(&*panic)),
    };
    Err(Failure { what, tail: world.trace().tail().map(str::to_owned).collect() })
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<String>() {
        return text.clone();
    }
    panic.downcast_ref::<&str>().map_or_else(String::new, |text| (*text).to_owned())
}

/// The recorded seeds, each with what it found.
pub fn recorded() -> impl Iterator<Item = (u64, &'static str)> {
    RECORDED.lines().filter_map(|line| {
        let (seed, comment) = line.split_once('#').unwrap_or((line, ""));
        Some((seed.trim().parse().ok()?, comment.trim()))
    })
}

#[cfg(test)]
mod tests;
