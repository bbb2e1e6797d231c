//! Listening sockets: one per shard and address, spread by SO_REUSEPORT.

use rustix::net::sockopt;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

/// Pending connections the kernel keeps; it clamps this to `net.core.somaxconn`.
const BACKLOG: i32 = 65_535;

/// Binds one address for every shard. Without `share` a port that another process listens on is
/// refused: SO_REUSEPORT would silently split its traffic.
pub fn bind(address: SocketAddr, shards: usize, share: bool) -> io::Result<Vec<OwnedFd>> {
    if !share && address.port() != 0 {
        // Without SO_REUSEPORT this fails if anybody listens there, whatever their options.
        drop(open(address, false)?);
    }
    let first = open(address, true)?;
    let bound = SocketAddr::try_from(rustix::net::getsockname(&first)?)?;
    let mut sockets = vec![first];
    for _ in 1..shards {
        sockets.push(open(bound, true)?);
    }
    Ok(sockets)
}

/// Where a socket listens.
pub fn address_of(socket: &OwnedFd) -> io::Result<SocketAddr> {
    Ok(SocketAddr::try_from(rustix::net::getsockname(socket)?)?)
}

fn open(address: SocketAddr, reuse_port: bool) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, reuse_port)?;
    // Accepted sockets inherit it on Linux: small frames must not wait for more.
    sockopt::set_tcp_nodelay(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}
