//! Other people's runtimes under the same protocol core, for judging our own engine (ADR 0001).
//!
//! Each engine is a small broadcast server: a task (or two) per connection, and [`core`] for
//! everything above bytes: the handshake by `proto::http1` and `proto::ws`, the list of
//! subscribers, frames encoded once and shared, what gathered for one connection sent in one piece.
//! So they do less than the server does (no channels, positions, history, budgets, spool), and what
//! they cost is a lower bound for a product on them.
//!
//! Deliberately absent: back-pressure and timeouts. Each runs in a process of its own, on one
//! thread, with the server's allocator.

mod core;
mod monoio_engine;
mod tokio_engine;
mod tokio_uring_engine;

use crate::child::LineChild;
use anyhow::Result;
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// The runtimes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    Monoio,
    TokioUring,
    Tokio,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Monoio, Self::TokioUring, Self::Tokio];

    /// As reports name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Monoio => "monoio 0.2.4",
            Self::TokioUring => "tokio-uring 0.5",
            Self::Tokio => "tokio current_thread",
        }
    }

    fn flag(self) -> &'static str {
        match self {
            Self::Monoio => "monoio",
            Self::TokioUring => "tokio-uring",
            Self::Tokio => "tokio",
        }
    }
}

/// Arguments of the process.
#[derive(Debug, Clone, Args)]
pub struct EngineArgs {
    #[arg(long, value_enum)]
    kind: Kind,
}

#[derive(Debug, Serialize, Deserialize)]
struct Listening {
    address: SocketAddr,
}

/// Starts an engine on a core; where it listens.
pub fn start(core: usize, kind: Kind) -> Result<(LineChild, SocketAddr)> {
    let arguments = ["engine".to_owned(), format!("--kind={}", kind.flag())];
    let mut child = LineChild::start(core, &arguments)?;
    let Listening { address } = child.answer()?;
    Ok((child, address))
}

/// The process.
pub fn run(args: &EngineArgs) -> Result<()> {
    crate::machine::raise_descriptors();
    match args.kind {
        Kind::Monoio => monoio_engine::run(),
        Kind::TokioUring => tokio_uring_engine::run(),
        Kind::Tokio => tokio_engine::run(),
    }
}

/// A listening socket like the server's: a long queue, TCP_NODELAY for what it accepts.
fn listen() -> Result<std::net::TcpListener> {
    let (socket, port) = crate::floor::listen()?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    crate::swarm::order::say(&Listening { address })?;
    Ok(std::net::TcpListener::from(socket))
}
