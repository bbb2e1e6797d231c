//! The server's own core on other people's runtimes, for judging our engine (ADR 0001).
//!
//! Every engine, ours included, is the same process: one shard of the server (`Shard`: sessions,
//! channels, positions, history, budgets, resume) driven by the server's `Reactor`, on one thread,
//! with the same allocator and the same listening socket; events are kept in memory only. What
//! differs is who implements `Driver`: our io_uring, our epoll, or [`driver::RuntimeDriver`] on
//! monoio, tokio-uring and tokio (`runtime`: what it asks of them; one file each).
//!
//! Deliberately absent: the control plane and the spool (equal for all, and not what is compared),
//! handing connections on (there is one shard). Tested by `tests`: every engine passes the same
//! round trip and the same resume.

mod connection;
mod driver;
mod host;
mod monoio_engine;
mod runtime;
mod tokio_engine;
mod tokio_uring_engine;

#[cfg(test)]
mod tests;

use crate::child::LineChild;
use anyhow::Result;
use clap::{Args, ValueEnum};
use driver::RuntimeDriver;
use host::Host;
use serde::{Deserialize, Serialize};
use server::epoll::EpollDriver;
use server::uring::UringDriver;
use std::net::SocketAddr;

/// The engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    Uring,
    Epoll,
    Monoio,
    TokioUring,
    Tokio,
}

impl Kind {
    /// All of them; the first is what the others are compared with.
    pub const ALL: [Self; 5] =
        [Self::Uring, Self::Epoll, Self::Monoio, Self::TokioUring, Self::Tokio];

    /// As reports name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uring => crate::results::OURS,
            Self::Epoll => "shardcast epoll",
            Self::Monoio => "monoio",
            Self::TokioUring => "tokio-uring",
            Self::Tokio => "tokio",
        }
    }

    /// What it is.
    pub fn version(self) -> &'static str {
        match self {
            Self::Uring => "our driver on io_uring",
            Self::Epoll => "our driver on epoll",
            Self::Monoio => "monoio 0.2.4 on io_uring, a task for each connection and each send",
            Self::TokioUring => {
                "tokio-uring 0.5.0 on io_uring, a task for each connection and each send"
            }
            Self::Tokio => "tokio, current_thread, a task for each connection",
        }
    }

    fn flag(self) -> &'static str {
        match self {
            Self::Uring => "uring",
            Self::Epoll => "epoll",
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
    let host = Host::new()?;
    crate::swarm::order::say(&Listening { address: host.address })?;
    serve(args.kind, host)
}

/// Runs an engine until it is told to stop.
fn serve(kind: Kind, host: Host) -> Result<()> {
    match kind {
        Kind::Uring => {
            let driver = UringDriver::new(host::SIZES).map_err(|e| {
                anyhow::anyhow!("io_uring is not available: {}; {}", e.cause, e.remedy)
            })?;
            host.serve(driver)
        }
        Kind::Epoll => host.serve(EpollDriver::new(host::SIZES)?),
        Kind::Monoio => host.serve(RuntimeDriver::<monoio_engine::Monoio>::new(host::SIZES)?),
        Kind::TokioUring => {
            host.serve(RuntimeDriver::<tokio_uring_engine::TokioUring>::new(host::SIZES)?)
        }
        Kind::Tokio => host.serve(RuntimeDriver::<tokio_engine::Tokio>::new(host::SIZES)?),
    }
}
