//! The network: sockets as two byte queues with a kernel buffer each, stalls and cuts.
//!
//! How much moves at once is drawn by whoever reads or writes, so bytes are split anywhere.
//! Invariant: what one side wrote arrives in order, whole up to a cut, or not at all.

use std::collections::{BTreeMap, VecDeque};

/// ECONNRESET.
pub const RESET: i32 = 104;

/// Bytes of a usual kernel buffer.
pub const CAP_USUAL: usize = 200 << 10;

/// Names a socket for the whole run.
pub type SocketId = u64;

/// A connection as both sides see it.
#[derive(Debug, Default)]
struct Socket {
    up: VecDeque<u8>,
    up_cap: usize,
    /// The client sends no more.
    up_ended: bool,
    down: VecDeque<u8>,
    down_cap: usize,
    /// The server sends no more.
    down_ended: bool,
    reset: bool,
    client_gone: bool,
    server_gone: bool,
    up_stalled_until: u64,
    down_stalled_until: u64,
}

/// What a reader finds.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    /// Bytes.
    Bytes(Vec<u8>),
    /// Nothing now.
    Nothing,
    /// The other side sends no more.
    End,
    /// The connection is gone.
    Reset,
}

/// Every socket there is.
#[derive(Debug, Default)]
pub struct Net {
    sockets: BTreeMap<SocketId, Socket>,
    next: SocketId,
    now_ms: u64,
}

impl Net {
    /// Time goes on.
    pub fn set_now(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
    }

    /// A new socket with kernel buffers of these sizes.
    pub fn open(&mut self, up_cap: usize, down_cap: usize) -> SocketId {
        self.next += 1;
        self.sockets.insert(self.next, Socket { up_cap, down_cap, ..Socket::default() });
        self.next
    }

    /// Every socket that has not been cut.
    pub fn live(&self) -> Vec<SocketId> {
        self.sockets.iter().filter(|(_, s)| !s.reset).map(|(id, _)| *id).collect()
    }

    /// Nothing moves in a direction until then.
    pub fn stall(&mut self, id: SocketId, up: bool, until_ms: u64) {
        if let Some(socket) = self.sockets.get_mut(&id) {
            if up {
                socket.up_stalled_until = until_ms;
            } else {
                socket.down_stalled_until = until_ms;
            }
        }
    }

    /// Everything moves again, through buffers of a usual size.
    pub fn heal(&mut self) {
        for socket in self.sockets.values_mut() {
            (socket.up_stalled_until, socket.down_stalled_until) = (0, 0);
            if !socket.server_gone {
                (socket.up_cap, socket.down_cap) = (CAP_USUAL, CAP_USUAL);
            }
        }
    }

    /// Cuts a connection: what was on its way is lost, but for `down_kept` bytes to the client.
    pub fn cut(&mut self, id: SocketId, down_kept: usize) {
        if let Some(socket) = self.sockets.get_mut(&id) {
            socket.reset = true;
            socket.up.clear();
            socket.down.truncate(down_kept);
        }
    }

    /// The client writes; returns how much was taken.
    pub fn client_write(&mut self, id: SocketId, bytes: &[u8]) -> usize {
        let Some(socket) = self.sockets.get_mut(&id) else { return 0 };
        if socket.reset || socket.up_ended {
            return 0;
        }
        let taken = bytes.len().min(socket.up_cap.saturating_sub(socket.up.len()));
        socket.up.extend(&bytes[..taken]);
        taken
    }

    /// The client reads at most `max` bytes.
    pub fn client_read(&mut self, id: SocketId, max: usize) -> Read {
        let now_ms = self.now_ms;
        let Some(socket) = self.sockets.get_mut(&id) else { return Read::Reset };
        if socket.down_stalled_until > now_ms && !socket.reset {
            return Read::Nothing;
        }
        if !socket.down.is_empty() {
            let taken = max.min(socket.down.len());
            return Read::Bytes(socket.down.drain(..taken).collect());
        }
        match (socket.reset, socket.down_ended) {
            (true, _) => Read::Reset,
            (false, true) => Read::End,
            (false, false) => Read::Nothing,
        }
    }

    /// The client sends no more.
    pub fn client_end(&mut self, id: SocketId) {
        if let Some(socket) = self.sockets.get_mut(&id) {
            socket.up_ended = true;
        }
    }

    /// The client closes; unread bytes make that a reset.
    pub fn client_close(&mut self, id: SocketId) {
        if let Some(socket) = self.sockets.get_mut(&id) {
            socket.client_gone = true;
            socket.up_ended = true;
            if !socket.down.is_empty() || !socket.down_ended {
                socket.reset |= !socket.down.is_empty();
                socket.down.clear();
            }
        }
        self.sweep(id);
    }

    /// The server reads at most `max` bytes.
    pub fn server_read(&mut self, id: SocketId, max: usize) -> Read {
        let now_ms = self.now_ms;
        let Some(socket) = self.sockets.get_mut(&id) else { return Read::Reset };
        if socket.reset {
            return Read::Reset;
        }
        if socket.up_stalled_until > now_ms {
            return Read::Nothing;
        }
        if socket.up.is_empty() {
            return if socket.up_ended { Read::End } else { Read::Nothing };
        }
        let taken = max.min(socket.up.len());
        Read::Bytes(socket.up.drain(..taken).collect())
    }

    /// True if a server read would find something.
    pub fn server_readable(&self, id: SocketId) -> bool {
        self.sockets.get(&id).is_none_or(|socket| {
            socket.reset
                || socket.up_stalled_until <= self.now_ms
                    && (socket.up_ended || !socket.up.is_empty())
        })
    }

    /// The server writes what the kernel buffer takes; the errno if the peer is gone.
    pub fn server_write(&mut self, id: SocketId, bytes: &[u8]) -> Result<usize, i32> {
        let Some(socket) = self.sockets.get_mut(&id) else { return Err(RESET) };
        if socket.reset {
            return Err(RESET);
        }
        if socket.client_gone {
            // The peer answers the first bytes after its close with a reset.
            socket.reset = true;
            return Ok(bytes.len());
        }
        let taken = bytes.len().min(socket.down_cap.saturating_sub(socket.down.len()));
        socket.down.extend(&bytes[..taken]);
        Ok(taken)
    }

    /// The server half-closes.
    pub fn server_end(&mut self, id: SocketId) {
        if let Some(socket) = self.sockets.get_mut(&id) {
            socket.down_ended = true;
        }
    }

    /// The server closes; unread bytes make that a reset that may destroy what it said last.
    pub fn server_close(&mut self, id: SocketId, down_kept: usize) {
        if let Some(socket) = self.sockets.get_mut(&id) {
            socket.server_gone = true;
            if !socket.up.is_empty() {
                socket.down.truncate(down_kept);
                socket.reset = true;
            }
            socket.up.clear();
            socket.down_ended = true;
            // Whatever the client writes now is answered with a reset.
            socket.up_cap = 0;
        }
        self.sweep(id);
    }

    /// The server process is gone: every one of its sockets is reset.
    pub fn server_died(&mut self) {
        for socket in self.sockets.values_mut() {
            socket.server_gone = true;
            socket.reset = true;
            socket.up.clear();
        }
        self.sockets.retain(|_, socket| !socket.client_gone);
    }

    fn sweep(&mut self, id: SocketId) {
        if self.sockets.get(&id).is_some_and(|socket| socket.client_gone && socket.server_gone) {
            self.sockets.remove(&id);
        }
    }
}
