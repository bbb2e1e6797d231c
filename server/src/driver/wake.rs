//! The waker both drivers share: an eventfd behind two flags.
//!
//! A waker that finds the shard awake must not pay a system call, and a wake between the shard's
//! last look at its lanes and its sleep must not be lost. So `wake` always leaves `pending` behind,
//! and the shard looks at `pending` again after it announced its sleep. All accesses are SeqCst:
//! either the waker sees `sleeping`, or the shard sees `pending`.
//!
//! An eventfd also between two rings, not MSG_RING: threads without a ring wake a shard in the same
//! way, the driver does not have to know whom it wakes, and only a sleeping shard costs anything.
//!
//! Threads: `wake` from any, the rest from the shard's own.

use super::Waker;
use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// See the module.
#[derive(Debug)]
pub(crate) struct EventWaker {
    eventfd: OwnedFd,
    sleeping: AtomicBool,
    pending: AtomicBool,
}

impl EventWaker {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            eventfd: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            sleeping: AtomicBool::new(false),
            pending: AtomicBool::new(false),
        })
    }

    /// Announces that the shard goes to sleep. False: somebody woke it since the last
    /// [`Self::take`], it must not wait.
    pub(crate) fn may_sleep(&self) -> bool {
        self.sleeping.store(true, SeqCst);
        !self.pending.load(SeqCst)
    }

    /// The shard is up again.
    pub(crate) fn awake(&self) {
        self.sleeping.store(false, SeqCst);
    }

    /// Whether there was a wake since the last call. Whatever its caller pushed before waking is
    /// visible to the shard afterwards.
    pub(crate) fn take(&self) -> bool {
        // The plain load keeps the common case free of a locked instruction.
        self.pending.load(SeqCst) && self.pending.swap(false, SeqCst)
    }
}

impl Waker for EventWaker {
    fn wake(&self) {
        // An earlier wake that the shard has not taken yet serves this one too: it either saw the
        // shard asleep and writes, or the shard sees `pending` before it sleeps.
        if self.pending.swap(true, SeqCst) {
            return;
        }
        if self.sleeping.load(SeqCst) {
            // Nobody reads the counter (both drivers watch for edges), so it only grows; the write
            // could fail after 2^64 of them.
            let written = rustix::io::write(&self.eventfd, &1u64.to_ne_bytes());
            debug_assert!(written.is_ok(), "eventfd write: {written:?}");
        }
    }
}

impl AsFd for EventWaker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wake_before_the_sleep_forbids_it_and_is_taken_once() {
        let waker = EventWaker::new().unwrap();
        waker.wake();
        assert!(!waker.may_sleep());
        waker.awake();
        assert!(waker.take());
        assert!(!waker.take());
        assert!(waker.may_sleep());
    }

    #[test]
    fn only_a_sleeping_shard_costs_a_write() {
        let waker = EventWaker::new().unwrap();
        let mut count = [0u8; 8];
        waker.wake();
        assert!(rustix::io::read(&waker.eventfd, &mut count).is_err(), "awake: no write");
        assert!(waker.take());
        assert!(waker.may_sleep());
        waker.wake();
        waker.wake();
        rustix::io::read(&waker.eventfd, &mut count).unwrap();
        assert_eq!(u64::from_ne_bytes(count), 1, "the second wake rides on the first");
    }
}
