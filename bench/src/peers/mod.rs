//! Other people's servers, run beside ours: one process on the server's core, killed when dropped.
//!
//! What `cargo xtask bench` installs (`bench/peers/` names the versions) is found in one folder;
//! what is not there is skipped with the reason, so that a report never shows fewer peers in
//! silence. Every peer carries the same small application: rooms named in the URL, a message goes
//! to the room that it names, heartbeats every 25 seconds, no compression.

pub mod axum_server;
mod commands;
mod program;
mod tls_listener;

pub use commands::on_path;
pub use program::Program;

use crate::scenarios::Common;
use crate::swarm::Dialect;
use anyhow::Result;
use clap::ValueEnum;
use std::path::{Path, PathBuf};

/// A server to compare with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub enum Peer {
    /// uWebSockets (C++), through the C interface of the library in PyPI's socketify
    Uws,
    /// npm ws; its server-sent events are Node's own http
    Ws,
    /// Socket.IO over WebSocket
    SocketIo,
    /// nats-server with its WebSocket listener
    Nats,
    /// axum with tungstenite, buffers as they come
    Axum,
    /// The same with buffers tuned by hand
    AxumTuned,
    /// The same, writing everything that waits before it flushes
    AxumBatched,
    /// Nchan in nginx
    Nchan,
    /// Centrifugo, if there is a program of that name
    Centrifugo,
}

/// What carries the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Wire {
    /// WebSocket
    Ws,
    /// Server-sent events over HTTP/1.1
    Sse,
    /// Server-sent events over HTTP/2, several streams on a connection
    SseH2,
}

impl Wire {
    /// In file names.
    pub fn slug(self) -> &'static str {
        match self {
            Self::Ws => "ws",
            Self::Sse => "sse",
            Self::SseH2 => "sse-h2",
        }
    }

    /// As reports name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ws => "WebSocket",
            Self::Sse => "SSE over HTTP/1.1",
            Self::SseH2 => "SSE over HTTP/2",
        }
    }
}

/// Certificate and key for a run with TLS.
#[derive(Debug, Clone)]
pub struct Identity {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Peer {
    /// As the flag and reports name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uws => "uws",
            Self::Ws => "ws",
            Self::SocketIo => "socket-io",
            Self::Nats => "nats",
            Self::Axum => "axum",
            Self::AxumTuned => "axum-tuned",
            Self::AxumBatched => "axum-batched",
            Self::Nchan => "nchan",
            Self::Centrifugo => "centrifugo",
        }
    }

    /// How it is spoken to over that wire, if it can be.
    pub fn dialect(self, wire: Wire) -> Option<Dialect> {
        match (wire, self) {
            (Wire::Ws, Self::SocketIo) => Some(Dialect::SocketIo),
            (Wire::Ws, Self::Nats) => Some(Dialect::Nats),
            (Wire::Ws, Self::Nchan) => Some(Dialect::Nchan),
            (Wire::Ws, Self::Centrifugo) => Some(Dialect::Centrifugo),
            (Wire::Ws, _) => Some(Dialect::Plain),
            (Wire::Sse, Self::Nchan) => Some(Dialect::NchanSse),
            (Wire::Sse, Self::Uws | Self::Ws | Self::Axum) => Some(Dialect::Sse),
            (Wire::SseH2, Self::Axum) => Some(Dialect::SseH2),
            _ => None,
        }
    }

    /// Starts it on the server's core; returns when it accepts connections.
    pub fn start(
        self,
        common: &Common,
        folder: &Path,
        identity: Option<&Identity>,
    ) -> Result<Program> {
        let port = crate::server_child::free_address()?.port();
        let command = commands::command(self, common, folder, port, identity)?;
        let log = folder.join(format!("{}.log", self.name()));
        Program::start(common.server_core, command, port, &log)
    }

    /// What it is and how it is set, for the report.
    pub fn version(self, common: &Common) -> String {
        commands::version(self, common)
    }
}
