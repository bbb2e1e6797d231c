//! Listening sockets: one per shard and address, spread by SO_REUSEPORT.

use crate::log;
use rustix::net::sockopt;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use socket2::SockRef;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};
use tuning::target::LISTEN_BACKLOG;

/// How long a port that is taken may take to get free. The kernel closes the sockets that a killed
/// process had in an io_uring after it reported the process's end, so who restarts a server at once
/// finds its port still taken for some milliseconds.
const PORT_FREE_AFTER: Duration = Duration::from_secs(2);

/// What the kernel may hold for one connection that reads slowly; 0 leaves it to the kernel.
#[derive(Debug, Clone, Copy, Default)]
pub struct Held {
    /// Sent or not: SO_SNDBUF.
    pub bytes: u32,
    /// Not sent yet, which costs no throughput: TCP_NOTSENT_LOWAT.
    pub unsent_bytes: u32,
}

/// Binds one address for every shard. Without `share` a port that another process listens on is
/// refused: SO_REUSEPORT would silently split its traffic.
pub fn bind(
    address: SocketAddr,
    shards: usize,
    share: bool,
    held: Held,
) -> io::Result<Vec<OwnedFd>> {
    if !share && address.port() != 0 {
        wait_until_free(address)?;
    }
    let first = open(address, true, held)?;
    let bound = SocketAddr::try_from(rustix::net::getsockname(&first)?)?;
    let mut sockets = vec![first];
    for _ in 1..shards {
        sockets.push(open(bound, true, held)?);
    }
    Ok(sockets)
}

/// Without SO_REUSEPORT binding fails if anybody listens there, whatever their options.
fn wait_until_free(address: SocketAddr) -> io::Result<()> {
    let start = Instant::now();
    let mut said = false;
    loop {
        match open(address, false, Held::default()) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                if !std::mem::replace(&mut said, true) {
                    let seconds = PORT_FREE_AFTER.as_secs();
                    let fields: [log::Field<'_>; 2] =
                        [("address", &address), ("seconds", &seconds)];
                    log::info("the port is taken; waiting for it to get free", &fields);
                }
                if start.elapsed() >= PORT_FREE_AFTER {
                    return Err(error);
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            outcome => return outcome.map(drop),
        }
    }
}

/// Where a socket listens.
pub fn address_of(socket: &OwnedFd) -> io::Result<SocketAddr> {
    Ok(SocketAddr::try_from(rustix::net::getsockname(socket)?)?)
}

fn open(address: SocketAddr, reuse_port: bool, held: Held) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, reuse_port)?;
    // Accepted sockets inherit it on Linux: small frames must not wait for more.
    sockopt::set_tcp_nodelay(&socket, true)?;
    // Inherited, too.
    if held.bytes > 0 {
        // The kernel doubles what it is asked for, for its own overhead.
        sockopt::set_socket_send_buffer_size(&socket, held.bytes as usize)?;
    }
    if held.unsent_bytes > 0 {
        SockRef::from(&socket).set_tcp_notsent_lowat(held.unsent_bytes)?;
    }
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, i32::from(LISTEN_BACKLOG))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_port_that_somebody_keeps_is_refused_and_one_that_gets_free_is_taken() {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = other.local_addr().unwrap();
        let refused = bind(address, 1, false, Held::default()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        let waiting = std::thread::spawn(move || bind(address, 2, false, Held::default()));
        drop(other);
        assert_eq!(waiting.join().unwrap().unwrap().len(), 2);
    }

    #[test]
    fn what_the_kernel_holds_for_a_connection_is_bounded_when_asked_for() {
        let held = Held { bytes: 16 << 10, unsent_bytes: 8 << 10 };
        let listeners = bind("127.0.0.1:0".parse().unwrap(), 1, false, held).unwrap();
        let client = TcpStream::connect(address_of(&listeners[0]).unwrap()).unwrap();
        // The handshake is done, but accept does not wait for it here.
        let accepted = loop {
            match rustix::net::accept(&listeners[0]) {
                Err(rustix::io::Errno::AGAIN) => std::thread::yield_now(),
                outcome => break outcome.unwrap(),
            }
        };
        assert_eq!(sockopt::socket_send_buffer_size(&accepted).unwrap(), 32 << 10);
        assert_eq!(SockRef::from(&accepted).tcp_notsent_lowat().unwrap(), 8 << 10);
        drop(client);
    }
}
