//! What readiness leads to: accepting, receiving and going on with armed sends, each bounded per
//! turn.

use super::{Conn, EpollDriver, LISTENER_SLOTS, WAKER_SLOT};
use crate::driver::{AcceptFailure, Armed, Completion, ConnId};
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, SocketFlags};

/// Accepts per listener and turn, so that a stampede does not hold up those already served.
const ACCEPTS_PER_TURN: usize = 128;
/// What one armed send may push per turn to a reader that keeps up.
const ARMED_BYTES_PER_TURN: usize = 1 << 20;

impl EpollDriver {
    pub(super) fn handle_events(&mut self, left: &mut usize, out: &mut Vec<Completion>) {
        let events = std::mem::take(&mut self.events);
        self.counters.completions += events.len() as u64;
        for event in &events {
            let (flags, token) = (event.flags, event.data.u64());
            let id = ConnId { slot: (token >> 32) as u32, generation: token as u32 };
            match id.slot {
                WAKER_SLOT => {}
                LISTENER_SLOTS.. => self.accept((id.slot - LISTENER_SLOTS) as usize, left, out),
                _ => self.ready(id, flags),
            }
        }
        self.events = events;
    }

    pub(super) fn ready(&mut self, id: ConnId, flags: epoll::EventFlags) {
        let Some(conn) = self.conns.get_mut(id) else {
            self.counters.stale += 1;
            return;
        };
        let gone = epoll::EventFlags::ERR | epoll::EventFlags::HUP;
        conn.hung_up |= flags.intersects(gone | epoll::EventFlags::RDHUP);
        conn.readable |= flags.intersects(gone | epoll::EventFlags::IN | epoll::EventFlags::RDHUP);
        let writable = flags.intersects(gone | epoll::EventFlags::OUT);
        if conn.armed.is_some() && writable {
            self.send_rest(id);
        }
        self.list(id);
    }

    /// Queues a connection for its buffer, if it wants bytes and may have some.
    pub(super) fn list(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id)
            && conn.wanted
            && conn.readable
            && !conn.ended
            && !std::mem::replace(&mut conn.listed, true)
        {
            self.ready.push_back(id);
        }
    }

    pub(super) fn serve_ready(&mut self, left: &mut usize, out: &mut Vec<Completion>) {
        for _ in 0..self.ready.len() {
            if *left == 0 {
                return;
            }
            if self.buffers.free() == 0 {
                // Who is first now is first when buffers come back.
                self.counters.receive_buffers_exhausted += 1;
                return;
            }
            let Some(id) = self.ready.pop_front() else { return };
            let Some(conn) = self.conns.get_mut(id) else { continue };
            conn.listed = false;
            if conn.wanted && !conn.ended {
                self.receive(id, left, out);
                self.list(id);
            }
        }
    }

    /// Receives until the socket is empty, its share of the turn is used, or buffers run out.
    pub(super) fn receive(&mut self, id: ConnId, left: &mut usize, out: &mut Vec<Completion>) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let mut taken = 0;
        while *left > 0 && taken < self.sizes.receive_bytes_per_turn as usize {
            let Some(buffer) = self.buffers.next() else { return };
            let room = buffer.len();
            match rustix::net::recv(&conn.fd, buffer, RecvFlags::DONTWAIT) {
                Ok((_, 0)) => {
                    conn.ended = true;
                    out.push(Completion::ReceiveEnded { conn: id, errno: None });
                    return;
                }
                Ok((_, len)) => {
                    let bytes = self.buffers.take(len);
                    out.push(Completion::Received { conn: id, bytes });
                    *left -= 1;
                    taken += len;
                    // What comes after a short read raises a new edge, except an end that was
                    // announced before.
                    conn.readable = len == room || conn.hung_up;
                    if !conn.readable {
                        return;
                    }
                }
                Err(Errno::AGAIN) => {
                    conn.readable = false;
                    return;
                }
                Err(Errno::INTR) => {}
                Err(errno) => {
                    conn.ended = true;
                    let errno = Some(errno.raw_os_error());
                    out.push(Completion::ReceiveEnded { conn: id, errno });
                    return;
                }
            }
        }
    }

    pub(super) fn accept(&mut self, index: usize, left: &mut usize, out: &mut Vec<Completion>) {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(listener) = &self.listeners[index] else { return };
            if *left == 0 {
                return;
            }
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            match rustix::net::acceptfrom_with(listener, flags) {
                Ok((socket, peer)) => {
                    *left -= 1;
                    self.pause.succeeded();
                    let peer = peer.and_then(|peer| peer.try_into().ok());
                    match self.conns.insert(Conn::new(socket)) {
                        Ok(conn) => {
                            out.push(Completion::Accepted { conn, listener: index, peer });
                        }
                        Err(_closed_by_drop) => {
                            self.counters.refused += 1;
                            out.push(Completion::Refused);
                        }
                    }
                }
                Err(Errno::AGAIN) => return,
                Err(errno) => match AcceptFailure::of(errno) {
                    AcceptFailure::Passing => {}
                    AcceptFailure::Exhausted => {
                        self.pause_accept(errno);
                        return;
                    }
                },
            }
        }
    }

    /// Hands up what was noted, except what was noted of a connection before it was closed.
    pub(super) fn report(&mut self, out: &mut Vec<Completion>) {
        for completion in self.reported.drain(..) {
            let stale = match &completion {
                Completion::SendStopped { conn, .. }
                | Completion::SendArmedDone { conn, .. }
                | Completion::ReceiveEnded { conn, .. } => self.conns.get_mut(*conn).is_none(),
                _ => false,
            };
            if !stale {
                out.push(completion);
            }
        }
    }

    /// Goes on with an armed send until the socket is full or its share of the turn is used.
    pub(super) fn send_rest(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if !conn.armed.is_some() {
            return;
        }
        let mut share = ARMED_BYTES_PER_TURN;
        let result = loop {
            let send = self.armed.get_mut(conn.armed);
            let rest = send.rest();
            if rest.is_empty() {
                break Ok(());
            }
            if share == 0 {
                if !std::mem::replace(&mut conn.sending, true) {
                    self.sending.push_back(id);
                }
                return;
            }
            let piece = &rest[..rest.len().min(share)];
            match rustix::net::send(&conn.fd, piece, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(sent) => {
                    send.from += sent as u32;
                    share -= sent;
                }
                // The full socket raises an edge when there is room.
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                Err(errno) => break Err(errno.raw_os_error()),
            }
        };
        self.armed.remove(std::mem::replace(&mut conn.armed, Armed::NONE));
        if std::mem::take(&mut conn.shutdown_after) {
            let _ = rustix::net::shutdown(&conn.fd, Shutdown::Write);
        }
        self.reported.push(Completion::SendArmedDone { conn: id, result });
    }
}
