//! The bare send loop as a process: accepts N connections on one port, and for each byte that comes
//! over a control connection sends one flat frame to all of them.
//!
//! The frame is as long as what the server sends, so that the work in the kernel is equal. The
//! loops themselves are the server's (`uring::floor`, `epoll::floor`): same ring, same flags.

use crate::child::LineChild;
use crate::scenarios::EngineName;
use anyhow::{Context, Result};
use clap::Args;
use rustix::net::sockopt;
use rustix::net::{AddressFamily, SocketAddrV4, SocketFlags, SocketType};
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;

/// Arguments of the process.
#[derive(Debug, Clone, Args)]
pub struct FloorArgs {
    #[arg(long)]
    engine: EngineName,
    #[arg(long)]
    connections: usize,
    #[arg(long)]
    frame_bytes: usize,
}

/// Where the process listens.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Ports {
    pub port: u16,
    pub trigger: u16,
}

/// Sends that did not take the whole frame: then the figure is void.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Short {
    pub short: u64,
}

enum Loop {
    Uring(Box<server::uring::floor::Floor>),
    Epoll(server::epoll::floor::Floor),
}

impl Loop {
    fn round(&mut self, frame: &[u8]) -> std::io::Result<u64> {
        match self {
            Self::Uring(floor) => floor.round(frame).map(|_| floor.short()),
            Self::Epoll(floor) => floor.round(frame).map(|_| floor.short()),
        }
    }
}

/// Starts the process on a core.
pub fn start(
    core: usize,
    engine: EngineName,
    connections: usize,
    frame_bytes: usize,
) -> Result<(LineChild, Ports)> {
    let arguments = [
        "floor".to_owned(),
        format!("--engine={}", engine.name()),
        format!("--connections={connections}"),
        format!("--frame-bytes={frame_bytes}"),
    ];
    let mut child = LineChild::start(core, &arguments)?;
    let ports = child.answer()?;
    Ok((child, ports))
}

/// The process.
pub fn run(args: &FloorArgs) -> Result<()> {
    crate::machine::raise_descriptors();
    let (socket, port) = listen()?;
    let control = TcpListener::bind("127.0.0.1:0")?;
    crate::swarm::order::say(&Ports { port, trigger: control.local_addr()?.port() })?;
    let mut floor = match args.engine {
        EngineName::Uring => {
            let mut floor = server::uring::floor::Floor::new(socket, args.connections)?;
            floor.accept_all()?;
            Loop::Uring(Box::new(floor))
        }
        EngineName::Epoll => {
            let mut floor = server::epoll::floor::Floor::new(socket, args.connections)?;
            floor.accept_all()?;
            Loop::Epoll(floor)
        }
    };
    let (mut trigger, _) = control.accept().context("no control connection")?;
    let frame = vec![b'f'; args.frame_bytes];
    let mut order = [0];
    let mut short = 0;
    while trigger.read(&mut order)? == 1 {
        let now = floor.round(&frame)?;
        if now != short {
            short = now;
            crate::swarm::order::say(&Short { short })?;
        }
    }
    Ok(())
}

/// A listening socket whose accepted ones send at once.
pub fn listen() -> Result<(OwnedFd, u16)> {
    let socket = listen_at(0)?;
    let address = std::net::SocketAddr::try_from(rustix::net::getsockname(&socket)?)?;
    Ok((socket, address.port()))
}

/// The same on a given port, which several processes may share.
pub fn listen_at(port: u16) -> Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, port != 0)?;
    rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
    rustix::net::listen(&socket, 65_535)?;
    Ok(socket)
}
