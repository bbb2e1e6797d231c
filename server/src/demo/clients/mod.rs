//! Thousands of WebSocket clients in one process and one thread: `shardcast demo-clients`, which
//! the demo's supervisor starts. Each is a real TCP connection that checks every event it gets.
//!
//! A process of its own, so that what the server costs can be told from what its clients cost, and
//! so that killing the server kills no client. It speaks in lines of JSON, see `report.rs`, and
//! ends when its standard input does: no orphan stays behind a supervisor that died.
//!
//! Deliberately absent: TLS, publishing, pings of its own (a killed server's kernel closes the
//! sockets). `client.rs` is the machine, `run.rs` has sockets, clock and threads (one).

mod client;
mod latency;
mod message;
pub mod report;
mod run;

use clap::Args;
use std::net::SocketAddr;

/// Hold many WebSocket connections and check what they receive (started by `demo`).
#[derive(Debug, Clone, Args)]
pub struct ClientsArgs {
    /// The server.
    #[arg(long, value_name = "IP:PORT")]
    pub server: SocketAddr,
    /// How many.
    #[arg(long, value_name = "N")]
    pub clients: u32,
    /// Channels to follow; the clients are spread over them evenly.
    #[arg(long, required = true, value_delimiter = ',', value_name = "CHANNEL")]
    pub channels: Vec<String>,
    /// Channel of the slow client and of the fast one beside it.
    #[arg(long, value_name = "CHANNEL")]
    pub peers: String,
    /// What the slow client reads.
    #[arg(long, value_name = "BYTES", default_value_t = 2_048)]
    pub slow_bytes_per_s: u32,
}

/// Runs until standard input ends; gives the exit code.
pub fn run(args: &ClientsArgs) -> u8 {
    let outcome = run::Run::new(args).and_then(|mut run| run.run());
    match outcome {
        Ok(()) => crate::cli::exit::OK,
        Err(error) => {
            crate::log::error("the clients cannot go on", &[("error", &error)]);
            crate::cli::exit::INTERNAL
        }
    }
}
