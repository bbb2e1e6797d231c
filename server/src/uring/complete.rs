//! What each completion means. Every path recycles the buffer it does not hand up, counts the
//! terminal completion of what was in flight, and retires a closing connection at the last one.

use super::receive::{Outcome, Queue};
use super::ring::Completed;
use super::token::{self, Op};
use super::{Conn, UringDriver};
use crate::driver::{AcceptFailure, Armed, Completion, ConnId, Received, SendStop};
use io_uring::cqueue;
use io_uring::types::CancelBuilder;
use rustix::io::Errno;
use rustix::net::Shutdown;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

impl UringDriver {
    /// Processes what was reaped, as far as `left` allows.
    pub(super) fn process(&mut self, left: &mut usize, out: &mut Vec<Completion>) {
        while *left > 0 {
            let Some(completed) = self.ring.reaped.pop_front() else {
                return self.ring.shrink();
            };
            *left -= 1;
            self.complete(completed, out);
        }
    }

    fn complete(&mut self, completed: Completed, out: &mut Vec<Completion>) {
        let Some((id, op)) = token::unpack(completed.token) else {
            self.counters.stale += 1;
            return;
        };
        match op {
            Op::Poll => self.polled(id, completed, out),
            Op::Receive | Op::ReceiveMulti => self.received_some(id, op, completed, out),
            Op::SendArmed => self.armed_sent(id, completed, out),
            Op::Accept => self.accepted(id.slot as usize, completed, out),
            Op::Wake => self.woken(completed),
            Op::Cancel => {}
            Op::SendNow => self.report_stop(completed, out),
        }
    }

    /// Counts a completion; true if it is the operation's last.
    fn is_terminal(&mut self, completed: Completed) -> bool {
        let terminal = !cqueue::more(completed.flags);
        self.in_flight -= usize::from(terminal);
        terminal
    }

    fn polled(&mut self, id: ConnId, completed: Completed, out: &mut Vec<Completion>) {
        let terminal = self.is_terminal(completed);
        let Some(conn) = self.conns.get_mut(id) else {
            self.counters.stale += 1;
            return;
        };
        conn.in_flight -= u16::from(terminal);
        // A failed poll says nothing about the socket: the receive that follows finds out.
        let gone = (libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR) as i32;
        let hung_up = completed.result >= 0 && completed.result & gone != 0;
        conn.receive.polled(hung_up, terminal);
        self.go_on(id, out);
    }

    fn received_some(
        &mut self,
        id: ConnId,
        op: Op,
        completed: Completed,
        out: &mut Vec<Completion>,
    ) {
        let Completed { result, flags, .. } = completed;
        let terminal = self.is_terminal(completed);
        let filled = cqueue::buffer_select(flags)
            .map(|buffer| self.buffers.take(buffer, result.max(0) as u32));
        let Some(conn) = self.conns.get_mut(id) else {
            self.counters.stale += 1;
            self.recycle_unread(filled);
            return;
        };
        conn.in_flight -= u16::from(terminal);
        let outcome = match result {
            1.. => Outcome::Bytes { more: cqueue::sock_nonempty(flags) },
            0 => Outcome::Ended,
            _ => match -result {
                libc::ENOBUFS => Outcome::Starved,
                libc::EAGAIN | libc::EINTR | libc::ECANCELED => Outcome::Empty,
                _ => Outcome::Ended,
            },
        };
        let queue = match op {
            Op::Receive => conn.receive.received(outcome),
            _ => conn.receive.received_multi(outcome, terminal),
        };
        if conn.received_turn != self.turn {
            (conn.received_turn, conn.received_bytes) = (self.turn, 0);
        }
        conn.received_bytes = conn.received_bytes.saturating_add(result.max(0) as u32);
        if outcome == Outcome::Starved {
            self.counters.receive_buffers_exhausted += 1;
        }
        match queue {
            Some(Queue::First) => self.starved.push_back(id),
            Some(Queue::Last) => self.later.push_back(id),
            None => {}
        }
        if conn.closing {
            self.recycle_unread(filled);
        } else {
            match (outcome, filled) {
                (Outcome::Bytes { .. }, Some(bytes)) => {
                    out.push(Completion::Received { conn: id, bytes });
                }
                (Outcome::Ended, filled) => {
                    self.recycle_unread(filled);
                    let errno = (result < 0).then_some(-result);
                    out.push(Completion::ReceiveEnded { conn: id, errno });
                }
                (_, filled) => self.recycle_unread(filled),
            }
        }
        self.go_on(id, out);
    }

    fn recycle_unread(&mut self, filled: Option<Received>) {
        if let Some(bytes) = filled {
            self.buffers.recycle(bytes);
        }
    }

    /// The next receive step, or the end of a closing connection.
    fn go_on(&mut self, id: ConnId, out: &mut Vec<Completion>) {
        self.advance(id);
        self.retire_if_quiet(id, out);
    }

    fn armed_sent(&mut self, id: ConnId, completed: Completed, out: &mut Vec<Completion>) {
        self.in_flight -= 1;
        let Some(conn) = self.conns.get_mut(id) else {
            self.counters.stale += 1;
            return;
        };
        conn.in_flight -= 1;
        let send = self.armed.get_mut(conn.armed);
        send.from += completed.result.max(0) as u32;
        let done = send.rest().is_empty();
        // A piece that ended short met a failure after its bytes; the next piece will name it.
        let passing = matches!(-completed.result, libc::EAGAIN | libc::EINTR);
        if !done && !conn.closing && (completed.result > 0 || passing) {
            self.submit_armed_piece(id);
            return;
        }
        let result = match completed.result {
            1.. if done => Ok(()),
            0.. => Err(libc::EPIPE),
            errno => Err(-errno),
        };
        self.armed.remove(std::mem::replace(&mut conn.armed, Armed::NONE));
        if std::mem::take(&mut conn.shutdown_after) {
            // Nothing of it waits in the submission queue: a connection with an armed send has no
            // other.
            let _ = rustix::net::shutdown(&conn.fd, Shutdown::Write);
        }
        if conn.closing {
            self.retire_if_quiet(id, out);
        } else {
            out.push(Completion::SendArmedDone { conn: id, result });
        }
    }

    /// A `send_now` that did not take everything.
    pub(super) fn report_stop(&mut self, completed: Completed, out: &mut Vec<Completion>) {
        let conn = token::unpack(completed.token)
            .and_then(|(id, _)| self.conns.get_mut(id).map(|conn| (id, conn)));
        let Some((id, conn)) = conn else {
            self.counters.stale += 1;
            return;
        };
        if conn.closing {
            return;
        }
        let stop = match completed.result {
            0.. => SendStop::Full,
            errno if matches!(-errno, libc::EAGAIN | libc::EINTR) => SendStop::Full,
            errno => SendStop::Gone(-errno),
        };
        let sent = completed.result.max(0) as u32;
        out.push(Completion::SendStopped { conn: id, sent, stop });
    }

    fn woken(&mut self, completed: Completed) {
        if self.is_terminal(completed) {
            self.arm_wake();
        }
    }

    fn accepted(&mut self, index: usize, completed: Completed, out: &mut Vec<Completion>) {
        if self.is_terminal(completed) {
            self.listeners[index].armed = false;
            if self.listeners[index].stopping {
                self.listeners[index].socket = None;
            }
        }
        if completed.result >= 0 {
            self.admit(index, completed.result, out);
        } else if completed.result != -libc::ECANCELED {
            let errno = -completed.result;
            let failure = AcceptFailure::of(Errno::from_raw_os_error(errno));
            if failure == AcceptFailure::Exhausted && self.pause.begin() {
                self.counters.accept_pauses += 1;
                out.push(Completion::AcceptPaused { errno });
            }
        }
        // Does nothing while it is armed, stopping or paused.
        self.arm_accept(index);
    }

    fn admit(&mut self, listener: usize, fd: i32, out: &mut Vec<Completion>) {
        // SAFETY: only asked whether it is a socket, and for nothing longer than that.
        let peer = peer_of(unsafe { BorrowedFd::borrow_raw(fd) });
        if matches!(peer, Err(Errno::BADF | Errno::NOTSOCK)) {
            // Kernels before 6.8 may name a descriptor that is not there after an overflow
            // (liburing #1062).
            self.counters.stale += 1;
            return;
        }
        // SAFETY: the kernel made this descriptor for us in this completion; nobody else has it.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        self.pause.succeeded();
        match self.conns.insert(Conn::new(socket)) {
            Ok(conn) => {
                out.push(Completion::Accepted { conn, listener, peer: peer.ok().flatten() });
            }
            Err(_closed_by_drop) => {
                self.counters.refused += 1;
                out.push(Completion::Refused);
            }
        }
    }

    /// Ends every operation before the memory goes. False: some would not end.
    pub(super) fn quiesce(&mut self) -> bool {
        self.cancel(CancelBuilder::any().all());
        for _ in 0..QUIESCE_ENTERS_MAX {
            let wait = self.ring.reaped.is_empty().then_some(QUIESCE_WAIT);
            if self.ring.enter(wait).is_err() {
                return false;
            }
            while let Some(completed) = self.ring.reaped.pop_front() {
                match token::unpack(completed.token) {
                    Some((_, Op::Cancel)) | None => continue,
                    Some((_, Op::Accept)) if completed.result >= 0 => {
                        self.admit(0, completed.result, &mut Vec::new());
                    }
                    Some(_) => {}
                }
                self.is_terminal(completed);
            }
            if self.in_flight == 0 {
                return true;
            }
        }
        false
    }
}

/// Cancelled operations end within an enter or two; a send in a kernel worker may take a signal.
const QUIESCE_ENTERS_MAX: usize = 100;
const QUIESCE_WAIT: Duration = Duration::from_millis(10);

fn peer_of(socket: BorrowedFd<'_>) -> Result<Option<SocketAddr>, Errno> {
    let peer = rustix::net::getpeername(socket.as_fd())?;
    Ok(peer.and_then(|peer| peer.try_into().ok()))
}
