//! What every engine has above bytes: sessions, subscribers, outboxes. Sans-IO, one thread.

use bytes::{Bytes, BytesMut};
use proto::http1::{Limits as HeadLimits, RequestParser};
use proto::ws::{self, Decoder, Limits, Message, Opcode, Role};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Poll, Waker};

/// Bytes of a connection's read buffer where the runtime needs one that waits in the kernel: what
/// clients send are short frames.
pub const READ_BYTES: usize = 256;

/// Everybody who listens.
#[derive(Default)]
pub struct Hub {
    subscribers: RefCell<Vec<Rc<Outbox>>>,
}

impl Hub {
    /// One message to everybody: encoded once, a reference each.
    fn publish(&self, text: &str) {
        let frame = ws::encode_frame(Opcode::Text, text.as_bytes());
        for outbox in &*self.subscribers.borrow() {
            outbox.push(frame.clone());
        }
    }
}

/// What one connection has to send.
#[derive(Default)]
pub struct Outbox {
    first: RefCell<Option<Bytes>>,
    more: RefCell<Vec<Bytes>>,
    waker: Cell<Option<Waker>>,
}

impl Outbox {
    fn push(&self, bytes: Bytes) {
        let mut first = self.first.borrow_mut();
        if first.is_none() {
            *first = Some(bytes);
        } else {
            self.more.borrow_mut().push(bytes);
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Everything gathered, in one piece.
    pub async fn next(&self) -> Bytes {
        std::future::poll_fn(|context| {
            let Some(first) = self.first.borrow_mut().take() else {
                self.waker.set(Some(context.waker().clone()));
                return Poll::Pending;
            };
            let more = self.more.take();
            if more.is_empty() {
                return Poll::Ready(first);
            }
            let mut flat = BytesMut::from(&first[..]);
            more.iter().for_each(|bytes| flat.extend_from_slice(bytes));
            Poll::Ready(flat.freeze())
        })
        .await
    }
}

enum State {
    Head(Box<RequestParser>),
    Open(Decoder),
}

/// One connection's protocol state.
pub struct Session {
    hub: Rc<Hub>,
    /// Where its writer takes from.
    pub outbox: Rc<Outbox>,
    state: State,
}

impl Session {
    /// Before the handshake.
    pub fn new(hub: &Rc<Hub>) -> Self {
        Self {
            hub: Rc::clone(hub),
            outbox: Rc::default(),
            state: State::Head(Box::new(RequestParser::new(HeadLimits::default()))),
        }
    }

    /// Takes bytes; `false` when the connection is over.
    pub fn feed(&mut self, mut input: &[u8], scratch: &mut Vec<u8>) -> bool {
        if let State::Head(parser) = &mut self.state {
            let Ok((used, request)) = parser.feed(input) else { return false };
            let Some(request) = request else { return true };
            let Ok(accept) = ws::handshake::validate(&request) else { return false };
            let mut answer = Vec::new();
            if accept.write_response(&mut answer, None, &[]).is_err() {
                return false;
            }
            self.outbox.push(answer.into());
            self.hub.subscribers.borrow_mut().push(Rc::clone(&self.outbox));
            let limits = Limits::default();
            self.state = State::Open(Decoder::new(Role::Server, limits));
            input = &input[used..];
        }
        let State::Open(decoder) = &mut self.state else { return false };
        while !input.is_empty() {
            let Ok((used, message)) = decoder.feed(input, scratch) else { return false };
            input = &input[used..];
            match message {
                Some(Message::Text(text)) => self.hub.publish(text),
                Some(Message::Close { .. }) => return false,
                _ => {}
            }
        }
        true
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let gone = &self.outbox;
        self.hub.subscribers.borrow_mut().retain(|outbox| !Rc::ptr_eq(outbox, gone));
    }
}
