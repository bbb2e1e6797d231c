//! A socket of the swarm: plain or TLS, with what could not be sent yet.

use anyhow::Result;
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrV4, SocketFlags, SocketType, recv, send, sockopt,
};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// Source addresses that are used in turn: each has its own ports.
const SOURCES: usize = 32;

/// Receive buffer of a reader that stalls: little, so that the server's limits decide.
const STALLED_BYTES: usize = 4_096;

/// How a link comes to be.
#[derive(Debug, Clone)]
pub struct Route {
    pub target: SocketAddr,
    pub tls: Option<Arc<ClientConfig>>,
}

/// The other end is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

impl std::fmt::Display for Gone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the server closed a connection")
    }
}

impl std::error::Error for Gone {}

/// See the module.
#[derive(Debug)]
pub struct Link {
    socket: OwnedFd,
    tls: Option<Box<ClientConnection>>,
    unsent: Vec<u8>,
    token: u64,
    /// Interested in room for sending, not only in bytes.
    wants_out: bool,
}

impl Link {
    /// Begins to connect; readiness comes under `token`.
    pub fn open(route: &Route, token: u64, epoll: &OwnedFd, stalled: bool) -> Result<Self> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket =
            rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        let source = Ipv4Addr::new(127, 0, 0, 2 + (token as usize % SOURCES) as u8);
        rustix::net::bind(&socket, &SocketAddrV4::new(source, 0))?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        if stalled {
            sockopt::set_socket_recv_buffer_size(&socket, STALLED_BYTES)?;
        }
        match rustix::net::connect(&socket, &route.target) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(errno) => return Err(errno.into()),
        }
        let data = epoll::EventData::new_u64(token);
        epoll::add(epoll, &socket, data, epoll::EventFlags::OUT)?;
        let tls = match &route.tls {
            Some(config) => {
                let name = ServerName::try_from("localhost")?;
                Some(Box::new(ClientConnection::new(Arc::clone(config), name)?))
            }
            None => None,
        };
        Ok(Self { socket, tls, unsent: Vec::new(), token, wants_out: true })
    }

    /// The connect is over: is there somebody?
    pub fn connected(&mut self, epoll: &OwnedFd) -> Result<(), Gone> {
        match sockopt::socket_error(&self.socket) {
            Ok(Ok(())) => {}
            _ => return Err(Gone),
        }
        self.flush_tls()?;
        self.settle(epoll)
    }

    /// Hands what there is to `each`, in pieces.
    pub fn receive<E>(
        &mut self,
        buffer: &mut [u8],
        mut each: impl FnMut(&mut Self, &[u8]) -> Result<(), E>,
    ) -> Result<(), E>
    where
        E: From<Gone>,
    {
        let bytes = match recv(&self.socket, &mut buffer[..], RecvFlags::empty()) {
            Ok((0, _)) => return Err(Gone.into()),
            Ok((bytes, _)) => bytes,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(_) => return Err(Gone.into()),
        };
        if self.tls.is_none() {
            return each(self, &buffer[..bytes]);
        }
        let mut input = &buffer[..bytes];
        let mut plain = [0; 16 << 10];
        while !input.is_empty() {
            let Some(tls) = &mut self.tls else { return Err(Gone.into()) };
            tls.read_tls(&mut input).map_err(|_| Gone)?;
            tls.process_new_packets().map_err(|_| Gone)?;
            loop {
                let Some(tls) = &mut self.tls else { return Err(Gone.into()) };
                match tls.reader().read(&mut plain) {
                    Ok(0) => return Err(Gone.into()),
                    Ok(read) => each(self, &plain[..read])?,
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                    Err(_) => return Err(Gone.into()),
                }
            }
        }
        Ok(self.flush_tls()?)
    }

    /// Sends, or keeps what does not fit.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        if let Some(tls) = &mut self.tls {
            tls.writer().write_all(bytes).map_err(|_| Gone)?;
            return self.flush_tls();
        }
        self.send_raw(bytes)
    }

    fn flush_tls(&mut self) -> Result<(), Gone> {
        let mut records = Vec::new();
        while let Some(tls) = &mut self.tls
            && tls.wants_write()
        {
            tls.write_tls(&mut records).map_err(|_| Gone)?;
        }
        if records.is_empty() { Ok(()) } else { self.send_raw(&records) }
    }

    fn send_raw(&mut self, mut bytes: &[u8]) -> Result<(), Gone> {
        if self.unsent.is_empty() {
            match send(&self.socket, bytes, SendFlags::NOSIGNAL) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => return Err(Gone),
            }
        }
        self.unsent.extend_from_slice(bytes);
        Ok(())
    }

    /// Sends what was kept, as far as it goes.
    pub fn flush(&mut self) -> Result<(), Gone> {
        while !self.unsent.is_empty() {
            match send(&self.socket, &self.unsent, SendFlags::NOSIGNAL) {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(Errno::AGAIN | Errno::INTR) => break,
                Err(_) => return Err(Gone),
            }
        }
        Ok(())
    }

    /// Bytes that wait for room.
    pub fn unsent_bytes(&self) -> usize {
        self.unsent.len()
    }

    /// Asks for the readiness that is needed now.
    pub fn settle(&mut self, epoll: &OwnedFd) -> Result<(), Gone> {
        let wants_out = !self.unsent.is_empty();
        if wants_out == self.wants_out {
            return Ok(());
        }
        self.wants_out = wants_out;
        let out = if wants_out { epoll::EventFlags::OUT } else { epoll::EventFlags::empty() };
        let data = epoll::EventData::new_u64(self.token);
        epoll::modify(epoll, &self.socket, data, epoll::EventFlags::IN | out).map_err(|_| Gone)
    }

    /// Never looks again: a reader that stalls.
    pub fn stall(&self, epoll: &OwnedFd) {
        // It is in the epoll, and staying there would cost only the client.
        let _ = epoll::delete(epoll, &self.socket);
    }

    /// Closes without waiting for the other end, and without a port that stays taken for a minute.
    pub fn reset(self) {
        let _ = sockopt::set_socket_linger(&self.socket, Some(Duration::ZERO));
    }
}
