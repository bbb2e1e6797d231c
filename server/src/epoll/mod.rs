//! The epoll driver: the same operations where io_uring is refused (Docker's default seccomp
//! profile, a sysctl, an old kernel). A product feature, not a fallback of lesser quality.
//!
//! - Connections are registered once, edge-triggered for both directions, when something is first
//!   armed, and never changed: no `epoll_ctl` per mode switch or blocked send. An edge is
//!   remembered (`readable`) until a receive found the socket empty, armed or not.
//! - Listeners are level-triggered and accept in batches; a pause takes them out of the set.
//! - `send_now` sends at once (a batch saves nothing here); its stop is reported by the next turn,
//!   as the contract says. `close` closes at once; `Closed` comes with the next turn.
//! - `ReceiveMode` makes no difference here.
//!
//! User memory per connection: a 28-byte slot, 4 bytes of free list, 8 while listed.
//!
//! Deliberately absent: unsafe code, level-triggered connections, EPOLLEXCLUSIVE (each shard has
//! its own listener). Threads: the shard's own only. Tested by `driver/tests.rs`.

mod buffers;
pub mod floor;
mod ready;

use crate::driver::{
    AcceptPause, Armed, ArmedSends, Completion, ConnId, Driver, DriverCounters, DriverSizes,
    EventWaker, ReceiveMode, Received, SendStop, Slots, Waker,
};
use buffers::Buffers;
use bytes::Bytes;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown};
use std::collections::VecDeque;
use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// Events taken per turn.
const EVENTS_PER_TURN: usize = 1024;
/// Completions of receives and accepts per turn; those of earlier sends come on top.
const COMPLETIONS_PER_TURN: usize = 1024;

/// Slots that name something else than a connection.
const WAKER_SLOT: u32 = u32::MAX;
const LISTENER_SLOTS: u32 = u32::MAX - 1024;

/// One connection.
struct Conn {
    fd: OwnedFd,
    armed: Armed,
    /// Turn of the last `send_now`, for the rule that there is one per turn.
    sent_turn: u32,
    /// The caller wants bytes.
    wanted: bool,
    /// The socket may have bytes.
    readable: bool,
    /// The peer hung up: read on to the end even after a short read.
    hung_up: bool,
    /// Its end was said.
    ended: bool,
    /// In the list of those to receive from.
    listed: bool,
    /// In the list of those whose armed send used up its share.
    sending: bool,
    registered: bool,
    used: bool,
    shutdown_after: bool,
}

/// See the module.
pub struct EpollDriver {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
    buffers: Buffers,
    conns: Slots<Conn>,
    armed: ArmedSends,
    listeners: Vec<Option<OwnedFd>>,
    pause: AcceptPause,
    waker: Arc<EventWaker>,
    /// Who may have bytes, in the order in which they get a buffer.
    ready: VecDeque<ConnId>,
    /// Armed sends that used up their share of a turn.
    sending: VecDeque<ConnId>,
    /// What the next turn reports first.
    reported: Vec<Completion>,
    turn: u32,
    sizes: DriverSizes,
    counters: DriverCounters,
    /// Like the other driver: it lives and dies on its thread.
    _not_send: PhantomData<*const ()>,
}

impl EpollDriver {
    /// Builds the driver.
    pub fn new(sizes: DriverSizes) -> io::Result<Self> {
        assert!(sizes.connections < LISTENER_SLOTS);
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let waker = EventWaker::new()?;
        let edge = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&epoll, &waker, data(ConnId { slot: WAKER_SLOT, generation: 0 }), edge)?;
        Ok(Self {
            epoll,
            events: Vec::with_capacity(EVENTS_PER_TURN),
            buffers: Buffers::new(sizes.receive_buffers, sizes.receive_buffer_bytes),
            conns: Slots::new(sizes.connections),
            armed: ArmedSends::default(),
            listeners: Vec::new(),
            pause: AcceptPause::default(),
            waker: Arc::new(waker),
            ready: VecDeque::new(),
            sending: VecDeque::new(),
            reported: Vec::new(),
            // Connections start with turn 0 as that of their last send.
            turn: 1,
            sizes,
            counters: DriverCounters::default(),
            _not_send: PhantomData,
        })
    }

    /// Watches a connection from the first time something is armed on it.
    fn register(&mut self, id: ConnId) -> Result<(), Errno> {
        let Some(conn) = self.conns.get_mut(id) else { return Ok(()) };
        conn.used = true;
        if conn.registered {
            return Ok(());
        }
        let flags = epoll::EventFlags::IN
            | epoll::EventFlags::OUT
            | epoll::EventFlags::RDHUP
            | epoll::EventFlags::ET;
        epoll::add(&self.epoll, &conn.fd, data(id), flags)?;
        conn.registered = true;
        Ok(())
    }

    fn watch_listener(&mut self, index: usize) {
        let Some(socket) = &self.listeners[index] else { return };
        let id = ConnId { slot: LISTENER_SLOTS + index as u32, generation: 0 };
        let watched = epoll::add(&self.epoll, socket, data(id), epoll::EventFlags::IN);
        if let Err(errno) = watched
            && errno != Errno::EXIST
        {
            self.pause_accept(errno);
        }
    }

    /// Takes the listeners out of the set, so that the waiting connections do not wake every turn.
    fn pause_accept(&mut self, errno: Errno) {
        for socket in self.listeners.iter().flatten() {
            let _ = epoll::delete(&self.epoll, socket);
        }
        if self.pause.begin() {
            self.counters.accept_pauses += 1;
            let errno = errno.raw_os_error();
            self.reported.push(Completion::AcceptPaused { errno });
        }
    }

    fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        let work = !self.reported.is_empty()
            || !self.sending.is_empty()
            || (!self.ready.is_empty() && self.buffers.free() > 0);
        let sleeps = !work && !timeout.is_zero() && self.waker.may_sleep();
        let timeout = if sleeps { self.pause.limit(timeout) } else { Duration::ZERO };
        // Beyond what the system call takes, sleeping in pieces changes nothing.
        let timeout = timeout.min(Duration::from_secs(3600));
        let timespec = Timespec {
            tv_sec: timeout.as_secs() as i64,
            tv_nsec: i64::from(timeout.subsec_nanos()),
        };
        self.events.clear();
        self.counters.enters += 1;
        let spare = rustix::buffer::spare_capacity(&mut self.events);
        let waited = epoll::wait(&self.epoll, spare, Some(&timespec));
        self.waker.awake();
        match waited {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl Driver for EpollDriver {
    const NAME: &'static str = "epoll";

    fn listen(&mut self, socket: OwnedFd) {
        let _ = rustix::io::ioctl_fionbio(&socket, true);
        assert!(self.listeners.len() < (WAKER_SLOT - LISTENER_SLOTS) as usize);
        self.listeners.push(Some(socket));
        if !self.pause.is_paused() {
            self.watch_listener(self.listeners.len() - 1);
        }
    }

    fn stop_listening(&mut self) {
        for socket in &mut self.listeners {
            *socket = None;
        }
    }

    fn adopt(&mut self, socket: OwnedFd) -> Option<ConnId> {
        self.conns.insert(Conn::new(socket)).ok()
    }

    fn peer(&mut self, conn: ConnId) -> Option<SocketAddr> {
        let fd = &self.conns.get_mut(conn)?.fd;
        SocketAddr::try_from(rustix::net::getpeername(fd).ok()??).ok()
    }

    fn release(&mut self, conn: ConnId) -> Option<OwnedFd> {
        if self.conns.get_mut(conn)?.used {
            return None;
        }
        self.conns.remove(conn).map(|conn| conn.fd)
    }

    fn arm_receive(&mut self, id: ConnId, _mode: ReceiveMode) {
        let registered = self.register(id);
        let Some(conn) = self.conns.get_mut(id) else { return };
        if conn.ended {
            return;
        }
        if let Err(errno) = registered {
            conn.ended = true;
            let errno = Some(errno.raw_os_error());
            self.reported.push(Completion::ReceiveEnded { conn: id, errno });
            return;
        }
        conn.wanted = true;
        self.list(id);
    }

    fn disarm_receive(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.wanted = false;
        }
    }

    fn send_now(&mut self, id: ConnId, bytes: &Bytes, from: u32) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let rest = &bytes[from as usize..];
        if rest.is_empty() {
            return;
        }
        assert!(conn.sent_turn != self.turn, "one send_now per connection and turn");
        assert!(!conn.armed.is_some(), "no send_now while a send_armed is under way");
        conn.sent_turn = self.turn;
        conn.used = true;
        let sent = rustix::net::send(&conn.fd, rest, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
        let (sent, stop) = match sent {
            Ok(sent) if sent == rest.len() => return,
            Ok(sent) => (sent as u32, SendStop::Full),
            Err(Errno::AGAIN | Errno::INTR) => (0, SendStop::Full),
            Err(errno) => (0, SendStop::Gone(errno.raw_os_error())),
        };
        self.reported.push(Completion::SendStopped { conn: id, sent, stop });
    }

    fn send_armed(&mut self, id: ConnId, bytes: Bytes, from: u32) {
        // Watched before the attempt: the edge after a full socket must not be missed.
        let registered = self.register(id);
        let Some(conn) = self.conns.get_mut(id) else { return };
        assert!(!conn.armed.is_some(), "one send_armed at a time");
        assert!((from as usize) < bytes.len(), "send_armed of nothing");
        if let Err(errno) = registered {
            let result = Err(errno.raw_os_error());
            self.reported.push(Completion::SendArmedDone { conn: id, result });
            return;
        }
        conn.armed = self.armed.insert(bytes, from);
        self.send_rest(id);
    }

    fn shutdown_send(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.used = true;
        if conn.armed.is_some() {
            conn.shutdown_after = true;
        } else {
            // ENOTCONN: the peer was faster. Its reset is told by the receive side.
            let _ = rustix::net::shutdown(&conn.fd, Shutdown::Write);
        }
    }

    fn close(&mut self, id: ConnId) {
        // Dropping the descriptor takes it out of the epoll set; what waits for it in a list or in
        // `reported` is stale from here on.
        let Some(conn) = self.conns.remove(id) else { return };
        if conn.armed.is_some() {
            self.armed.remove(conn.armed);
        }
        self.reported.push(Completion::Closed { conn: id });
    }

    fn waker(&self) -> Arc<dyn Waker> {
        self.waker.clone()
    }

    fn turn(&mut self, timeout: Duration, out: &mut Vec<Completion>) -> io::Result<()> {
        if self.pause.due() {
            for index in 0..self.listeners.len() {
                self.watch_listener(index);
            }
        }
        self.turn = self.turn.wrapping_add(1);
        self.wait(timeout)?;
        self.report(out);
        let mut left = COMPLETIONS_PER_TURN;
        self.handle_events(&mut left, out);
        for _ in 0..self.sending.len() {
            let Some(id) = self.sending.pop_front() else { break };
            if let Some(conn) = self.conns.get_mut(id) {
                conn.sending = false;
            }
            self.send_rest(id);
        }
        self.serve_ready(&mut left, out);
        self.report(out);
        if self.waker.take() {
            out.push(Completion::Woken);
        }
        Ok(())
    }

    fn received(&self, bytes: &Received) -> &[u8] {
        self.buffers.bytes(bytes)
    }

    fn recycle(&mut self, bytes: Received) {
        self.buffers.recycle(bytes);
    }

    fn memory(&self) -> Vec<(&'static str, usize)> {
        let lists = (self.ready.capacity() + self.sending.capacity()) * size_of::<ConnId>();
        let reported = self.reported.capacity() * size_of::<Completion>();
        let events = self.events.capacity() * size_of::<epoll::Event>();
        vec![
            ("driver slots", self.conns.bytes()),
            ("driver receive buffers", self.buffers.memory()),
            ("driver queues", events + reported),
            ("driver lists", lists + self.armed.bytes()),
        ]
    }

    fn counters(&self) -> DriverCounters {
        self.counters
    }
}

impl Conn {
    fn new(fd: OwnedFd) -> Self {
        Self {
            fd,
            armed: Armed::NONE,
            sent_turn: 0,
            wanted: false,
            readable: false,
            hung_up: false,
            ended: false,
            listed: false,
            sending: false,
            registered: false,
            used: false,
            shutdown_after: false,
        }
    }
}

fn data(id: ConnId) -> epoll::EventData {
    epoll::EventData::new_u64(u64::from(id.slot) << 32 | u64::from(id.generation))
}
