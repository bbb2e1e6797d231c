//! What an HTTP/2 request costs others: servers that take a publish, keep nothing and say 202.
//!
//! Each answers with the very fields and body that our server gave to the same request a moment
//! ago ([`Answer`]), so that bytes on the wire are alike; nobody here orders, keeps, stores or
//! checks anything, so what they cost is the price of HTTP/2 alone.
//!
//! - `h2`: the bare `h2` crate on tokio's current-thread runtime, the whole body read, credit given
//!   back: what our own session is built on, hence the floor.
//! - `axum`: a handler that takes the whole body, on hyper over cleartext HTTP/2.
//! - `nginx`: `return 202` over cleartext HTTP/2. It takes the body off the wire and throws it away
//!   without a buffer ("discards" it), so it does less than the others. Debian's package; the
//!   program is found on the path or named by `--nginx`.
//!
//! Each is one process with one thread, on the server's core, with our allocator where it is ours
//! to choose. Deliberately absent: TLS, limits, timeouts.

mod axum_peer;
mod h2_peer;
mod nginx;

use crate::child::LineChild;
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use nginx::Nginx;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::Path;

/// Who.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    H2,
    Axum,
    Nginx,
}

impl Kind {
    /// As reports name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::H2 => "h2",
            Self::Axum => "axum",
            Self::Nginx => "nginx",
        }
    }

    /// What it is.
    pub fn version(self) -> &'static str {
        match self {
            Self::H2 => "the bare h2 crate on tokio, body read",
            Self::Axum => "axum on hyper, body read",
            Self::Nginx => "nginx's `return 202`, body discarded",
        }
    }
}

/// What a peer answers to every request.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Answer {
    /// Names and values, `content-length` included.
    pub fields: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Answer {
    fn head(&self) -> Result<http::Response<()>> {
        let mut head = http::Response::builder().status(202);
        for (name, value) in &self.fields {
            head = head.header(name, value);
        }
        Ok(head.body(())?)
    }
}

/// Arguments of the process of a peer that is ours to write.
#[derive(Debug, Clone, Args)]
pub struct PeerArgs {
    #[arg(long, value_enum)]
    kind: Kind,
}

#[derive(Debug, Serialize, Deserialize)]
struct Listening {
    address: SocketAddr,
}

/// A peer that runs. Killed when dropped.
#[derive(Debug)]
pub enum Peer {
    Ours(LineChild, SocketAddr),
    Nginx(Nginx),
}

impl Peer {
    /// Starts one on a core.
    pub fn start(
        core: usize,
        kind: Kind,
        nginx: &Path,
        scratch: &Path,
        answer: &Answer,
    ) -> Result<Self> {
        if kind == Kind::Nginx {
            return Ok(Self::Nginx(Nginx::start(core, nginx, scratch, answer)?));
        }
        let flag = kind.to_possible_value().context("a peer without a name")?;
        let arguments = ["ingest-peer".to_owned(), format!("--kind={}", flag.get_name())];
        let mut child = LineChild::start(core, &arguments)?;
        let Listening { address } = child.ask(&serde_json::to_string(answer)?)?;
        Ok(Self::Ours(child, address))
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        match self {
            Self::Ours(child, _) => child.pid(),
            Self::Nginx(nginx) => nginx.pid(),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        match self {
            Self::Ours(_, address) => *address,
            Self::Nginx(nginx) => nginx.address,
        }
    }
}

/// The process of a peer that is ours to write: its answer comes in a line on stdin.
pub fn run(args: &PeerArgs) -> Result<()> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    let answer: Answer = serde_json::from_str(&line).context("the answer to give")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        crate::swarm::order::say(&Listening { address: listener.local_addr()? })?;
        match args.kind {
            Kind::H2 => h2_peer::serve(listener, answer).await,
            Kind::Axum => axum_peer::serve(listener, answer).await,
            Kind::Nginx => anyhow::bail!("nginx is a program of its own"),
        }
    })
}
