//! The floor of a broadcast without io_uring: one `send` per connection and nothing else. See
//! `uring::floor`; the same shape, so that the benchmark can run either.

use crate::driver::thread_cpu;
use rustix::net::{SendFlags, SocketFlags, accept_with, send};
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// See the module.
pub struct Floor {
    listener: OwnedFd,
    connections: usize,
    sockets: Vec<OwnedFd>,
    short: u64,
}

impl Floor {
    /// Will accept so many connections from a listening socket.
    pub fn new(listener: OwnedFd, connections: usize) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&listener, false)?;
        Ok(Self { listener, connections, sockets: Vec::new(), short: 0 })
    }

    /// Blocks until all connections are there.
    pub fn accept_all(&mut self) -> io::Result<()> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        while self.sockets.len() < self.connections {
            self.sockets.push(accept_with(&self.listener, flags)?);
        }
        Ok(())
    }

    /// Sends the frame once to every connection; returns the CPU time that took this thread.
    pub fn round(&mut self, frame: &[u8]) -> io::Result<Duration> {
        let began = thread_cpu();
        for socket in &self.sockets {
            let sent = send(socket, frame, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
            self.short += u64::from(sent != Ok(frame.len()));
        }
        Ok(thread_cpu() - began)
    }

    /// Sends that fell short: the figure is only good when there were none.
    pub fn short(&self) -> u64 {
        self.short
    }
}
