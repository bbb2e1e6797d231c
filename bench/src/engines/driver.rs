//! The server's I/O seam on a runtime: what the shard orders becomes tasks, what tasks find becomes
//! completions.
//!
//! A turn enters the runtime once: it starts what was ordered, waits until this turn's sends are
//! done (or [`ATTEMPT`] is over), then for something to happen. So sends are batched as far as the
//! runtime batches them, and the reactor above sees the same turns as with our own drivers.
//!
//! Deliberately absent: fairness between receivers beyond one buffer at a time, the peer's address
//! (only the control plane asks for it), giving a connection to another shard (there is none).

use super::connection::{Event, World};
use super::runtime::Runtime;
use bytes::Bytes;
use server::driver::{
    Completion, ConnId, Driver, DriverCounters, DriverSizes, ReceiveMode, Received, Waker,
};
use std::cell::Cell;
use std::future::poll_fn;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// How long a turn waits for its sends. One that takes longer found the socket full.
const ATTEMPT: Duration = Duration::from_millis(1);
/// After a failed accept.
const BACK_OFF: Duration = Duration::from_millis(100);

/// What was ordered since the last turn. Tasks can be started and woken inside the runtime only.
enum Order {
    Listen(TcpListener),
    Listened,
    Wakes(TcpStream),
    Arm(ConnId, bool),
    Recycled(ConnId),
    SendNow(ConnId, Bytes),
    SendArmed(ConnId, Bytes),
    ShutdownSend(ConnId),
    Close(ConnId),
}

/// See the module.
pub struct RuntimeDriver<R: Runtime> {
    runtime: R,
    world: Rc<World<R>>,
    orders: Vec<Order>,
    attempted: Vec<ConnId>,
    held: Vec<Option<(ConnId, Vec<u8>)>>,
    held_free: Vec<u16>,
    waker: Arc<StreamWaker>,
    connections_max: u32,
    spare_max: usize,
    listeners: usize,
    counters: Rc<Cell<DriverCounters>>,
}

/// Writes a byte to a socket that the runtime reads.
struct StreamWaker(TcpStream);

impl Waker for StreamWaker {
    fn wake(&self) {
        // Full: enough wakes are on their way.
        let _ = (&self.0).write(b"w");
    }
}

impl<R: Runtime> RuntimeDriver<R> {
    /// A driver for this thread.
    pub fn new(sizes: DriverSizes) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let sender = TcpStream::connect(listener.local_addr()?)?;
        let (receiver, _) = listener.accept()?;
        sender.set_nonblocking(true)?;
        sender.set_nodelay(true)?;
        Ok(Self {
            runtime: R::new()?,
            world: Rc::new(World::new()),
            orders: vec![Order::Wakes(receiver)],
            attempted: Vec::new(),
            held: Vec::new(),
            held_free: Vec::new(),
            waker: Arc::new(StreamWaker(sender)),
            connections_max: sizes.connections,
            spare_max: usize::from(sizes.receive_buffers),
            listeners: 0,
            counters: Rc::default(),
        })
    }

    fn hold(&mut self, conn: ConnId, bytes: Vec<u8>) -> Received {
        let len = bytes.len() as u32;
        let buffer = self.held_free.pop().unwrap_or_else(|| {
            self.held.push(None);
            (self.held.len() - 1) as u16
        });
        self.held[usize::from(buffer)] = Some((conn, bytes));
        Received { buffer, len }
    }

    fn report(&mut self, out: &mut Vec<Completion>) {
        let room = usize::from(u16::MAX) - (self.held.len() - self.held_free.len());
        let mut events = std::mem::take(&mut *self.world.events.borrow_mut());
        // More than there are names for stays for the next turn, with all that came after it.
        let rest = events.split_off(events.len().min(room));
        for event in events {
            out.push(match event {
                Event::Said(completion) => completion,
                Event::Bytes(conn, bytes) => {
                    let bytes = self.hold(conn, bytes);
                    Completion::Received { conn, bytes }
                }
            });
        }
        self.world.events.replace(rest);
    }
}

impl<R: Runtime> Driver for RuntimeDriver<R> {
    const NAME: &'static str = R::NAME;

    fn listen(&mut self, socket: OwnedFd) {
        self.orders.push(Order::Listen(socket.into()));
    }

    fn stop_listening(&mut self) {
        self.world.stopped.set(true);
        self.orders.push(Order::Listened);
    }

    fn adopt(&mut self, socket: OwnedFd) -> Option<ConnId> {
        let (world, max) = (&self.world, self.connections_max);
        self.runtime.block_on(async {
            let (reader, writer) = R::open(socket.into()).ok()?;
            world.open(reader, writer, max)
        })
    }

    fn peer(&mut self, _conn: ConnId) -> Option<SocketAddr> {
        None
    }

    fn release(&mut self, _conn: ConnId) -> Option<OwnedFd> {
        None
    }

    fn arm_receive(&mut self, conn: ConnId, _mode: ReceiveMode) {
        self.orders.push(Order::Arm(conn, true));
    }

    fn disarm_receive(&mut self, conn: ConnId) {
        self.orders.push(Order::Arm(conn, false));
    }

    fn send_now(&mut self, conn: ConnId, bytes: &Bytes, from: u32) {
        self.orders.push(Order::SendNow(conn, bytes.slice(from as usize..)));
    }

    fn send_armed(&mut self, conn: ConnId, bytes: Bytes, from: u32) {
        self.orders.push(Order::SendArmed(conn, bytes.slice(from as usize..)));
    }

    fn shutdown_send(&mut self, conn: ConnId) {
        self.orders.push(Order::ShutdownSend(conn));
    }

    fn close(&mut self, conn: ConnId) {
        self.orders.push(Order::Close(conn));
    }

    fn waker(&self) -> Arc<dyn Waker> {
        Arc::clone(&self.waker) as Arc<dyn Waker>
    }

    fn turn(&mut self, timeout: Duration, out: &mut Vec<Completion>) -> io::Result<()> {
        let Self { runtime, world, orders, attempted, .. } = self;
        let (max, counters, listeners) =
            (self.connections_max, &self.counters, &mut self.listeners);
        runtime.block_on(async {
            for order in orders.drain(..) {
                if let Order::SendNow(conn, _) = &order {
                    attempted.push(*conn);
                }
                let acceptor = || Acceptor { max, counters: Rc::clone(counters) };
                carry_out(world, order, acceptor, listeners)?;
            }
            if timeout.is_zero() {
                R::pass().await;
            }
            if world.attempts.get() > 0 {
                world.until(R::sleep(ATTEMPT), |world| world.attempts.get() == 0).await;
            }
            for conn in attempted.drain(..) {
                if world.attempts.get() > 0
                    && let Some(connection) = world.get(conn)
                {
                    connection.end_attempt(world);
                }
            }
            if !timeout.is_zero() {
                world.until(R::sleep(timeout), |world| !world.events.borrow().is_empty()).await;
            }
            io::Result::Ok(())
        })?;
        let mut counters = self.counters.get();
        counters.enters += 1;
        counters.completions += self.world.events.borrow().len() as u64;
        self.counters.set(counters);
        self.report(out);
        Ok(())
    }

    fn received(&self, bytes: &Received) -> &[u8] {
        let held = self.held[usize::from(bytes.buffer)].as_ref();
        &held.expect("a buffer is recycled once").1
    }

    fn recycle(&mut self, bytes: Received) {
        let held = self.held[usize::from(bytes.buffer)].take();
        let (conn, mut buffer) = held.expect("a buffer is recycled once");
        self.held_free.push(bytes.buffer);
        buffer.clear();
        let mut spare = self.world.spare.borrow_mut();
        // As many as our own drivers have: what a burst needed beyond that is given back.
        if spare.len() < self.spare_max && buffer.capacity() == R::READ_BYTES {
            spare.push(buffer);
        }
        self.orders.push(Order::Recycled(conn));
    }

    fn memory(&self) -> Vec<(&'static str, usize)> {
        vec![("spare read buffers", self.world.spare.borrow().len() * R::READ_BYTES)]
    }

    fn counters(&self) -> DriverCounters {
        self.counters.get()
    }
}

fn carry_out<R: Runtime>(
    world: &Rc<World<R>>,
    order: Order,
    acceptor: impl Fn() -> Acceptor,
    listeners: &mut usize,
) -> io::Result<()> {
    match order {
        Order::Listen(socket) => {
            let listener = R::listen(socket)?;
            R::spawn(acceptor().run(Rc::clone(world), listener, *listeners));
            *listeners += 1;
        }
        Order::Listened => world.acceptors.take().into_iter().for_each(|waker| waker.wake()),
        Order::Wakes(socket) => {
            let (reader, writer) = R::open(socket)?;
            R::spawn(hear_wakes(Rc::clone(world), reader, writer));
        }
        Order::Arm(conn, armed) => {
            if let Some(connection) = world.get(conn) {
                connection.arm(world, armed);
            }
        }
        Order::Recycled(conn) => {
            if let Some(connection) = world.get(conn) {
                connection.recycled();
            }
        }
        Order::SendNow(conn, bytes) => {
            if let Some(connection) = world.get(conn) {
                connection.send_now(world, bytes);
            }
        }
        Order::SendArmed(conn, bytes) => {
            if let Some(connection) = world.get(conn) {
                connection.send_armed(world, bytes);
            }
        }
        Order::ShutdownSend(conn) => {
            if let Some(connection) = world.get(conn) {
                connection.shutdown_send(world);
            }
        }
        Order::Close(conn) => {
            if let Some(connection) = world.get(conn) {
                connection.close(world);
            }
        }
    }
    Ok(())
}

/// The writer is kept: without it, some runtimes' halves are no connection any more.
async fn hear_wakes<R: Runtime>(world: Rc<World<R>>, mut reader: R::Reader, _writer: R::Writer) {
    loop {
        let (result, _) = R::read(&mut reader, || Vec::with_capacity(64)).await;
        if !matches!(result, Ok(1..)) {
            return;
        }
        world.say(Event::Said(Completion::Woken));
    }
}

/// What accepting needs.
struct Acceptor {
    max: u32,
    counters: Rc<Cell<DriverCounters>>,
}

impl Acceptor {
    async fn run<R: Runtime>(self, world: Rc<World<R>>, socket: R::Listener, listener: usize) {
        while !world.stopped.get() {
            let accepted = {
                let mut accept = pin!(R::accept(&socket));
                poll_fn(|context| {
                    if world.stopped.get() {
                        return Poll::Ready(None);
                    }
                    if let Poll::Ready(accepted) = accept.as_mut().poll(context) {
                        return Poll::Ready(Some(accepted));
                    }
                    world.acceptors.borrow_mut().push(context.waker().clone());
                    Poll::Pending
                })
                .await
            };
            let (reader, writer, peer) = match accepted {
                None => return,
                Some(Ok(accepted)) => accepted,
                Some(Err(error)) => {
                    self.count(|counters| counters.accept_pauses += 1);
                    let errno = error.raw_os_error().unwrap_or(0);
                    world.say(Event::Said(Completion::AcceptPaused { errno }));
                    R::sleep(BACK_OFF).await;
                    continue;
                }
            };
            world.acceptors.borrow_mut().clear();
            world.say(Event::Said(match world.open(reader, writer, self.max) {
                Some(conn) => Completion::Accepted { conn, listener, peer: Some(peer) },
                None => {
                    self.count(|counters| counters.refused += 1);
                    Completion::Refused
                }
            }));
        }
    }

    fn count(&self, change: impl FnOnce(&mut DriverCounters)) {
        let mut counters = self.counters.get();
        change(&mut counters);
        self.counters.set(counters);
    }
}
