//! A connection on a runtime: a task that reads, and one that lives while something is sent.
//!
//! Tasks say what happened into [`World`]; the driver's turn waits for that. A send that is not
//! done when the turn's time for attempts is over is *late*: the shard hears that the socket is
//! full, and its `send_armed` takes over what is under way already.

use super::runtime::{CHATTY_BYTES, Runtime};
use bytes::Bytes;
use server::driver::{Completion, ConnId, SendStop};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Poll, Waker};

/// What happened.
pub enum Event {
    /// As it is reported.
    Said(Completion),
    /// Bytes that have not got a place among the handed up ones yet.
    Bytes(ConnId, Vec<u8>),
}

/// A place for a connection.
struct Slot<R: Runtime> {
    /// Counts the connections that had it.
    generation: u32,
    connection: Option<Rc<Connection<R>>>,
}

/// What the driver and its tasks share.
pub struct World<R: Runtime> {
    /// Since the last turn, in order.
    pub events: RefCell<Vec<Event>>,
    /// Places for connections.
    slots: RefCell<Vec<Slot<R>>>,
    /// Slots without a connection.
    free: RefCell<Vec<u32>>,
    /// Attempts to send that are not done.
    pub attempts: Cell<usize>,
    /// Read buffers that nobody uses.
    pub spare: RefCell<Vec<Vec<u8>>>,
    /// No more accepting.
    pub stopped: Cell<bool>,
    /// Who waits for that.
    pub acceptors: RefCell<Vec<Waker>>,
    turn: Cell<Option<Waker>>,
}

impl<R: Runtime> World<R> {
    /// Nobody there.
    pub fn new() -> Self {
        Self {
            events: RefCell::default(),
            slots: RefCell::default(),
            free: RefCell::default(),
            attempts: Cell::new(0),
            spare: RefCell::default(),
            stopped: Cell::new(false),
            acceptors: RefCell::default(),
            turn: Cell::new(None),
        }
    }

    /// For the next report.
    pub fn say(&self, event: Event) {
        self.events.borrow_mut().push(event);
        self.wake_turn();
    }

    /// A read buffer.
    fn buffer(&self, chatty: bool) -> Vec<u8> {
        if chatty && R::READ_BYTES < CHATTY_BYTES {
            return Vec::with_capacity(CHATTY_BYTES);
        }
        let spare = self.spare.borrow_mut().pop();
        spare.unwrap_or_else(|| Vec::with_capacity(R::READ_BYTES))
    }

    fn wake_turn(&self) {
        if let Some(waker) = self.turn.take() {
            waker.wake();
        }
    }

    /// The turn waits for something, or for a time to be over.
    pub async fn until(&self, timeout: impl Future<Output = ()>, is: impl Fn(&Self) -> bool) {
        let mut timeout = pin!(timeout);
        poll_fn(|context| {
            if is(self) || timeout.as_mut().poll(context).is_ready() {
                return Poll::Ready(());
            }
            self.turn.set(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// A live connection.
    pub fn get(&self, id: ConnId) -> Option<Rc<Connection<R>>> {
        let slots = self.slots.borrow();
        let slot = slots.get(id.slot as usize).filter(|slot| slot.generation == id.generation)?;
        slot.connection.as_ref().filter(|connection| !connection.closing.get()).cloned()
    }

    /// A new connection; `None`: every slot is taken.
    pub fn open(&self, reader: R::Reader, writer: R::Writer, max: u32) -> Option<ConnId> {
        let mut slots = self.slots.borrow_mut();
        let slot = match self.free.borrow_mut().pop() {
            Some(slot) => slot,
            None if slots.len() < max as usize => {
                slots.push(Slot { generation: 0, connection: None });
                (slots.len() - 1) as u32
            }
            None => return None,
        };
        let place = &mut slots[slot as usize];
        let id = ConnId { slot, generation: place.generation };
        place.connection = Some(Rc::new(Connection {
            id,
            reader: RefCell::new(Some(reader)),
            writer: RefCell::new(Some(writer)),
            sending: Cell::new(Sending::Idle),
            armed: Cell::new(false),
            chatty: Cell::new(false),
            handed_up: Cell::new(false),
            shut: Cell::new(false),
            closing: Cell::new(false),
            tasks: Cell::new(0),
            wakers: [Cell::new(None), Cell::new(None)],
        }));
        Some(id)
    }
}

/// Where a connection's sending stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sending {
    Idle,
    /// A `send_now` of this turn.
    Attempt,
    /// It was reported as stopped; `send_armed` comes.
    Late,
    /// It ended before `send_armed` came.
    LateDone(Result<(), i32>),
    Armed,
}

/// Which of the two tasks.
#[derive(Debug, Clone, Copy)]
enum Side {
    Reader,
    Writer,
}

/// See the module.
pub struct Connection<R: Runtime> {
    id: ConnId,
    reader: RefCell<Option<R::Reader>>,
    writer: RefCell<Option<R::Writer>>,
    sending: Cell<Sending>,
    armed: Cell<bool>,
    /// Its last read filled a quiet connection's buffer.
    chatty: Cell<bool>,
    /// The driver's caller has bytes of it.
    handed_up: Cell<bool>,
    shut: Cell<bool>,
    closing: Cell<bool>,
    tasks: Cell<u8>,
    wakers: [Cell<Option<Waker>>; 2],
}

impl<R: Runtime> Connection<R> {
    /// Starts or stops handing bytes up.
    pub fn arm(self: Rc<Self>, world: &Rc<World<R>>, armed: bool) {
        self.armed.set(armed);
        if let Some(reader) = self.reader.take() {
            self.tasks.set(self.tasks.get() + 1);
            R::spawn(self.read(Rc::clone(world), reader));
        } else {
            self.wake(Side::Reader);
        }
    }

    /// What it had handed up is done with.
    pub fn recycled(&self) {
        self.handed_up.set(false);
        self.wake(Side::Reader);
    }

    async fn read(self: Rc<Self>, world: Rc<World<R>>, mut reader: R::Reader) {
        while self.until(|c| c.armed.get() && !c.handed_up.get()).await {
            let take = || world.buffer(self.chatty.get());
            let mut read = pin!(R::read(&mut reader, take));
            let read = self.unless_closed(Side::Reader, read.as_mut()).await;
            let Some((result, buffer)) = read else { break };
            // Back-pressure that came meanwhile: kept until it is over.
            if !self.until(|c| c.armed.get()).await {
                break;
            }
            let errno = match result {
                Ok(0) => None,
                Ok(count) => {
                    self.chatty.set(count >= R::READ_BYTES);
                    self.handed_up.set(true);
                    world.say(Event::Bytes(self.id, buffer));
                    continue;
                }
                Err(error) => Some(errno(&error)),
            };
            world.say(Event::Said(Completion::ReceiveEnded { conn: self.id, errno }));
            break;
        }
        drop(reader);
        self.leave(&world);
    }

    /// Tries to send; says nothing unless it falls short.
    pub fn send_now(self: Rc<Self>, world: &Rc<World<R>>, bytes: Bytes) {
        let tried = self.writer.borrow().as_ref().and_then(|w| R::try_write(w, &bytes));
        let Some(tried) = tried else {
            world.attempts.set(world.attempts.get() + 1);
            return self.send(world, bytes, Sending::Attempt);
        };
        let (sent, stop) = match tried {
            Ok(sent) if sent == bytes.len() => return,
            Ok(sent) => (sent as u32, SendStop::Full),
            Err(error) => (0, SendStop::Gone(errno(&error))),
        };
        world.say(Event::Said(Completion::SendStopped { conn: self.id, sent, stop }));
    }

    /// The time for attempts is over.
    pub fn end_attempt(&self, world: &World<R>) {
        if self.sending.get() == Sending::Attempt {
            self.sending.set(Sending::Late);
            world.attempts.set(world.attempts.get() - 1);
            let stop = SendStop::Full;
            world.say(Event::Said(Completion::SendStopped { conn: self.id, sent: 0, stop }));
        }
    }

    /// Sends however long it takes, or goes on with a late attempt at the same bytes.
    pub fn send_armed(self: Rc<Self>, world: &Rc<World<R>>, bytes: Bytes) {
        match self.sending.get() {
            Sending::Late => self.sending.set(Sending::Armed),
            Sending::LateDone(result) => {
                self.sending.set(Sending::Idle);
                world.say(Event::Said(Completion::SendArmedDone { conn: self.id, result }));
            }
            _ => self.send(world, bytes, Sending::Armed),
        }
    }

    fn send(self: Rc<Self>, world: &Rc<World<R>>, bytes: Bytes, sending: Sending) {
        let Some(mut writer) = self.writer.take() else { return };
        self.sending.set(sending);
        self.tasks.set(self.tasks.get() + 1);
        let world = Rc::clone(world);
        R::spawn(async move {
            let written = {
                let mut write = pin!(R::write_all(&mut writer, bytes));
                self.unless_closed(Side::Writer, write.as_mut()).await
            };
            self.sent(&world, written.map(|written| written.map_err(|error| errno(&error))));
            if self.shut.get() && !self.closing.get() {
                R::shutdown(&mut writer).await;
            }
            self.writer.replace(Some(writer));
            self.leave(&world);
        });
    }

    /// `None`: closed meanwhile.
    fn sent(&self, world: &World<R>, result: Option<Result<(), i32>>) {
        let conn = self.id;
        let before = self.sending.replace(Sending::Idle);
        if before == Sending::Attempt {
            world.attempts.set(world.attempts.get() - 1);
            if world.attempts.get() == 0 {
                world.wake_turn();
            }
        }
        let Some(result) = result else { return };
        match (before, result) {
            (Sending::Attempt, Err(errno)) => {
                let stop = SendStop::Gone(errno);
                world.say(Event::Said(Completion::SendStopped { conn, sent: 0, stop }));
            }
            (Sending::Late, result) => self.sending.set(Sending::LateDone(result)),
            (Sending::Armed, result) => {
                world.say(Event::Said(Completion::SendArmedDone { conn, result }));
            }
            _ => {}
        }
    }

    /// Half-closes after what is under way.
    pub fn shutdown_send(self: Rc<Self>, world: &Rc<World<R>>) {
        self.shut.set(true);
        let Some(mut writer) = self.writer.take() else { return };
        self.tasks.set(self.tasks.get() + 1);
        let world = Rc::clone(world);
        R::spawn(async move {
            R::shutdown(&mut writer).await;
            self.writer.replace(Some(writer));
            self.leave(&world);
        });
    }

    /// Ends both tasks; the last one says so.
    pub fn close(&self, world: &World<R>) {
        self.closing.set(true);
        self.tasks.set(self.tasks.get() + 1);
        if let Some(writer) = &*self.writer.borrow() {
            R::abort(writer);
        }
        self.wake(Side::Reader);
        self.wake(Side::Writer);
        self.leave(world);
    }

    /// A task is over.
    fn leave(&self, world: &World<R>) {
        self.tasks.set(self.tasks.get() - 1);
        if !self.closing.get() || self.tasks.get() > 0 {
            // Its own reader may still wait in the kernel.
            if self.closing.get()
                && let Some(writer) = &*self.writer.borrow()
            {
                R::abort(writer);
            }
            return;
        }
        drop((self.reader.take(), self.writer.take()));
        let mut slots = world.slots.borrow_mut();
        let place = &mut slots[self.id.slot as usize];
        place.generation += 1;
        place.connection = None;
        world.free.borrow_mut().push(self.id.slot);
        world.say(Event::Said(Completion::Closed { conn: self.id }));
    }

    fn wake(&self, side: Side) {
        if let Some(waker) = self.wakers[side as usize].take() {
            waker.wake();
        }
    }

    /// The reader waits for leave to read; `false`: closed.
    async fn until(&self, is: impl Fn(&Self) -> bool) -> bool {
        poll_fn(|context| {
            if self.closing.get() {
                return Poll::Ready(false);
            }
            if is(self) {
                return Poll::Ready(true);
            }
            self.wakers[Side::Reader as usize].set(Some(context.waker().clone()));
            Poll::Pending
        })
        .await
    }

    /// An operation, unless the connection is closed meanwhile. By reference: what an asynchronous
    /// function is given by value takes its place in the task twice.
    async fn unless_closed<T>(
        &self,
        side: Side,
        mut operation: Pin<&mut impl Future<Output = T>>,
    ) -> Option<T> {
        poll_fn(|context| {
            if self.closing.get() {
                return Poll::Ready(None);
            }
            if let Poll::Ready(done) = operation.as_mut().poll(context) {
                return Poll::Ready(Some(done));
            }
            self.wakers[side as usize].set(Some(context.waker().clone()));
            Poll::Pending
        })
        .await
    }
}

/// EIO where a runtime has lost the number.
fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(rustix::io::Errno::IO.raw_os_error())
}
