//! The benchmark: what a connection, a delivery and an ingested event cost the server.
//!
//! The program measured is the release build of `shardcast serve` in a process of its own, pinned
//! to one core; the load comes from another process on another core (`swarm`, many WebSocket
//! connections on one epoll), so that "server CPU" is the server's and nobody else's. Where a
//! figure is judged against a floor, the floor runs in the same run, in turns with the server,
//! because machines drift by more than what is to be seen.
//!
//! Deliberately absent: verdicts by exit code (a benchmark prints, tests judge), more than one
//! machine. `scenarios/` says what each figure means; docs/internals/benchmarks.md keeps results.

mod child;
mod cli;
mod engines;
mod floor;
mod histogram;
mod http2;
mod ingest_peers;
mod machine;
mod peers;
mod process;
mod results;
mod scenarios;
mod server_child;
mod steering;
mod swarm;

use clap::Parser;
use std::process::ExitCode;

// The engines are compared with the server, which uses it, too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match cli::run(cli::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
