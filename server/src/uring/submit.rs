//! What the driver asks of the kernel: every operation but the sends of the hot path.
//!
//! Each one counts as in flight until its terminal completion; cancels are silent and do not count.

use super::buffers::GROUP;
use super::receive::Step;
use super::token::{self, Op};
use super::{UringDriver, listener_id};
use crate::driver::ConnId;
use io_uring::types::{CancelBuilder, Fd};
use io_uring::{opcode, squeue};
use std::os::fd::{AsFd, AsRawFd};

/// The most one armed SEND carries. The kernel re-polls a send at most 128 times before it gives it
/// to a worker thread (APOLL_MAX_RETRY in io_uring/poll.h, 6.18); with pieces of this size and
/// progress of 2 KiB per wake-up that is not reached.
const ARMED_PIECE_BYTES: usize = 256 << 10;

impl UringDriver {
    /// Queues an operation that ends with a terminal completion.
    pub(super) fn submit(&mut self, entry: squeue::Entry, id: ConnId, op: Op) {
        self.in_flight += 1;
        let entry = entry.user_data(token::pack(id, op));
        // SAFETY: of these operations only SEND points to memory: `self.armed` owns those bytes
        // until the terminal completion. Received bytes go to `self.buffers`, which outlives the
        // ring.
        unsafe { self.ring.push(&entry) };
    }

    /// Queues a cancel; what it cancels ends with its own completion, whatever the cancel answers.
    pub(super) fn cancel(&mut self, builder: CancelBuilder) {
        let token = token::pack(ConnId { slot: 0, generation: 0 }, Op::Cancel);
        let entry = opcode::AsyncCancel2::new(builder).build().user_data(token);
        // SAFETY: a cancel points to no memory.
        unsafe { self.ring.push(&entry.flags(squeue::Flags::SKIP_SUCCESS)) };
    }

    /// A multishot poll of the eventfd: each write wakes it, so nobody has to read the counter.
    pub(super) fn arm_wake(&mut self) {
        let fd = Fd(self.waker.as_fd().as_raw_fd());
        let entry = opcode::PollAdd::new(fd, libc::POLLIN as u32).multi(true).build();
        self.submit(entry, ConnId { slot: 0, generation: 0 }, Op::Wake);
    }

    pub(super) fn arm_accept(&mut self, index: usize) {
        let listener = &mut self.listeners[index];
        let Some(socket) = &listener.socket else { return };
        if listener.armed || listener.stopping || self.pause.is_paused() {
            return;
        }
        listener.armed = true;
        let fd = Fd(socket.as_raw_fd());
        // Not SOCK_NONBLOCK: on such a socket io_uring answers EAGAIN instead of waiting for room.
        let entry = opcode::AcceptMulti::new(fd).flags(libc::SOCK_CLOEXEC).build();
        self.submit(entry, listener_id(index), Op::Accept);
    }

    /// Does what the connection's receive machine asks for. True: a receive was queued.
    pub(super) fn advance(&mut self, id: ConnId) -> bool {
        let mut receives = false;
        loop {
            let Some(conn) = self.conns.get_mut(id) else { return receives };
            if conn.closing {
                return receives;
            }
            let used_up = conn.received_turn == self.turn
                && conn.received_bytes >= self.sizes.receive_bytes_per_turn;
            let Some(step) = conn.receive.step(!used_up) else { return receives };
            let fd = Fd(conn.fd.as_raw_fd());
            let (entry, op) = match step {
                Step::ArmPoll => {
                    let events = (libc::POLLIN | libc::POLLRDHUP) as u32;
                    (opcode::PollAdd::new(fd, events).multi(true).build(), Op::Poll)
                }
                Step::Receive => {
                    let receive = opcode::Recv::new(fd, std::ptr::null_mut(), 0)
                        .buf_group(GROUP)
                        .flags(libc::MSG_DONTWAIT)
                        .build();
                    (receive.flags(squeue::Flags::BUFFER_SELECT), Op::Receive)
                }
                Step::ReceiveMulti => (opcode::RecvMulti::new(fd, GROUP).build(), Op::ReceiveMulti),
                Step::CancelPoll => {
                    self.cancel(CancelBuilder::user_data(token::pack(id, Op::Poll)));
                    continue;
                }
                Step::CancelMulti => {
                    self.cancel(CancelBuilder::user_data(token::pack(id, Op::ReceiveMulti)));
                    continue;
                }
                Step::Later => {
                    self.later.push_back(id);
                    continue;
                }
            };
            receives |= op != Op::Poll;
            conn.in_flight += 1;
            self.submit(entry, id, op);
        }
    }

    /// Lets the listed connections try again: no more of them than there are buffers, and those
    /// that got nothing last time first.
    pub(super) fn serve_lists(&mut self) {
        let mut buffers = self.buffers.free();
        for starved in [true, false] {
            let listed = if starved { self.starved.len() } else { self.later.len() };
            for _ in 0..listed {
                if buffers == 0 {
                    return;
                }
                let list = if starved { &mut self.starved } else { &mut self.later };
                let Some(id) = list.pop_front() else { break };
                if let Some(conn) = self.conns.get_mut(id) {
                    conn.receive.unlist();
                }
                buffers -= u16::from(self.advance(id));
            }
        }
    }

    pub(super) fn submit_armed_piece(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.in_flight += 1;
        let rest = self.armed.get_mut(conn.armed).rest();
        let len = rest.len().min(ARMED_PIECE_BYTES) as u32;
        let entry = opcode::Send::new(Fd(conn.fd.as_raw_fd()), rest.as_ptr(), len)
            .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build();
        self.submit(entry, id, Op::SendArmed);
    }
}
