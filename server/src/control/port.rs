//! Questions and orders to a shard: a bounded queue in, a one-shot answer out.
//!
//! Full means that the shard has not turned for a while: the question is refused at once (the
//! admin listener says which shard), nothing waits in line for it. An order that must not be lost
//! (drain) is kept apart from the queue, so that questions cannot crowd it out.

use crate::driver::Waker;
use crate::shard::ConnectionReport;
use crossbeam_queue::ArrayQueue;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use tokio::sync::oneshot;

/// What a shard can be asked.
#[derive(Debug)]
pub enum ControlCommand {
    /// The connections that hold most, at most `limit` of them, in any order.
    Connections {
        /// How many.
        limit: usize,
        /// Where the answer goes.
        reply: Reply<Vec<ConnectionReport>>,
    },
    /// Stop accepting and close the clients that remain, at a pace.
    Drain(DrainOrder),
}

/// How to drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainOrder {
    /// Clients to close per second; `None` spreads them over `drain_time_s`.
    pub rate_per_s: Option<u32>,
}

/// Where an answer goes. Dropping it unanswered tells the asker that there is none.
#[derive(Debug)]
pub struct Reply<T>(oneshot::Sender<T>);

impl<T> Reply<T> {
    /// A reply and the end on which to wait for it.
    pub fn channel() -> (Self, oneshot::Receiver<T>) {
        let (sender, receiver) = oneshot::channel();
        (Self(sender), receiver)
    }

    /// Answers. That nobody waits any more is not an error.
    pub fn send(self, answer: T) {
        let _ = self.0.send(answer);
    }
}

/// The way into one shard.
pub struct ControlPort {
    commands: ArrayQueue<ControlCommand>,
    drain: Mutex<Option<DrainOrder>>,
    waker: OnceLock<Arc<dyn Waker>>,
}

impl Default for ControlPort {
    fn default() -> Self {
        Self {
            commands: ArrayQueue::new(COMMANDS_MAX),
            drain: Mutex::new(None),
            waker: OnceLock::new(),
        }
    }
}

impl ControlPort {
    /// Called once by the shard when its driver stands. What was sent before waits in the queue,
    /// so the shard looks there after this call.
    pub fn attach(&self, waker: Arc<dyn Waker>) {
        let _ = self.waker.set(waker);
    }

    /// Sends a command; gives it back if the queue is full.
    pub fn send(&self, command: ControlCommand) -> Result<(), ControlCommand> {
        match command {
            // The newest order counts: one place for it is enough, and always there.
            ControlCommand::Drain(order) => *self.drain_order() = Some(order),
            command => self.commands.push(command)?,
        }
        if let Some(waker) = self.waker.get() {
            waker.wake();
        }
        Ok(())
    }

    /// Takes the next command; for the shard, every turn.
    pub fn take(&self) -> Option<ControlCommand> {
        if let Some(order) = self.drain_order().take() {
            return Some(ControlCommand::Drain(order));
        }
        self.commands.pop()
    }

    /// Held for a copy only, so neither side waits noticeably.
    fn drain_order(&self) -> std::sync::MutexGuard<'_, Option<DrainOrder>> {
        self.drain.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Questions that may wait for one shard.
pub const COMMANDS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    struct Count(AtomicUsize);

    impl Waker for Count {
        fn wake(&self) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    fn question() -> ControlCommand {
        ControlCommand::Connections { limit: 1, reply: Reply::channel().0 }
    }

    #[test]
    fn a_full_port_refuses_questions_and_still_takes_a_drain() {
        let port = ControlPort::default();
        let waker = Arc::new(Count(AtomicUsize::new(0)));
        port.attach(waker.clone());
        for _ in 0..COMMANDS_MAX {
            assert!(port.send(question()).is_ok());
        }
        assert!(port.send(question()).is_err());
        let order = DrainOrder { rate_per_s: Some(5) };
        assert!(port.send(ControlCommand::Drain(DrainOrder { rate_per_s: None })).is_ok());
        assert!(port.send(ControlCommand::Drain(order)).is_ok());
        assert_eq!(waker.0.load(Relaxed), COMMANDS_MAX + 2);
        assert!(matches!(port.take(), Some(ControlCommand::Drain(taken)) if taken == order));
        assert!(matches!(port.take(), Some(ControlCommand::Connections { .. })));
    }

    #[test]
    fn what_is_sent_before_the_shard_runs_waits_for_it() {
        let port = ControlPort::default();
        assert!(port.send(question()).is_ok());
        port.attach(Arc::new(Count(AtomicUsize::new(0))));
        assert!(port.take().is_some());
        assert!(port.take().is_none());
    }

    #[test]
    fn a_dropped_reply_ends_the_wait() {
        let (reply, mut receiver) = Reply::<u8>::channel();
        drop(reply);
        assert!(receiver.try_recv().is_err());
        let (reply, mut receiver) = Reply::channel();
        reply.send(7);
        assert_eq!(receiver.try_recv(), Ok(7));
    }
}
