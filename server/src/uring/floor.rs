//! The floor of a broadcast: the barest loop that sends one frame to every connection with the
//! driver's ring and flags. The benchmark runs it beside the server, in the same run, so that what
//! our own code adds per delivery is a difference of two measured figures and not a belief.
//!
//! Deliberately absent: receiving, slots, back-pressure. A short send is counted and forgotten, so
//! the readers must keep up. Runs on one thread.

use super::ring::Ring;
use crate::driver::thread_cpu;
use io_uring::types::Fd;
use io_uring::{opcode, squeue};
use rustix::net::{SocketFlags, accept_with};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

/// See the module.
pub struct Floor {
    ring: Ring,
    listener: OwnedFd,
    connections: usize,
    sockets: Vec<OwnedFd>,
    short: u64,
}

impl Floor {
    /// Will accept so many connections from a listening socket. Builds the ring on this thread.
    pub fn new(listener: OwnedFd, connections: usize) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&listener, false)?;
        let ring = Ring::new(super::SQ_ENTRIES, 1 << 16)?;
        Ok(Self { ring, listener, connections, sockets: Vec::new(), short: 0 })
    }

    /// Blocks until all connections are there.
    pub fn accept_all(&mut self) -> io::Result<()> {
        while self.sockets.len() < self.connections {
            self.sockets.push(accept_with(&self.listener, SocketFlags::CLOEXEC)?);
        }
        Ok(())
    }

    /// Sends the frame once to every connection; returns the CPU time that took this thread.
    pub fn round(&mut self, frame: &[u8]) -> io::Result<Duration> {
        let began = thread_cpu();
        for socket in &self.sockets {
            let fd = Fd(socket.as_raw_fd());
            let entry = opcode::Send::new(fd, frame.as_ptr(), frame.len() as u32)
                .flags(libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
                .build()
                .flags(squeue::Flags::SKIP_SUCCESS);
            // SAFETY: the attempts are made inline (MSG_DONTWAIT), all of them before this function
            // returns, and `frame` is borrowed that long.
            unsafe { self.ring.push(&entry) };
        }
        self.ring.enter(None)?;
        self.short += self.ring.reaped.drain(..).count() as u64;
        Ok(thread_cpu() - began)
    }

    /// Sends that fell short: the figure is only good when there were none.
    pub fn short(&self) -> u64 {
        self.short
    }
}
