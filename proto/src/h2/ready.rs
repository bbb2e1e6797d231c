//! Which streams have something to do: the wakers handed to `h2` push here.
//!
//! One poll of a session therefore costs what is ready, not what is open. `Waker` demands `Send`
//! and `Sync`, so the list is behind a mutex although everything runs on one thread; it is never
//! contended.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

/// The list, and itself the waker of the connection.
#[derive(Debug, Default)]
pub(super) struct ReadyList {
    slots: Mutex<Vec<u32>>,
    connection: AtomicBool,
}

impl ReadyList {
    fn slots(&self) -> MutexGuard<'_, Vec<u32>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn wake_connection(&self) {
        self.connection.store(true, Ordering::Relaxed);
    }

    /// True once after the connection was woken.
    pub(super) fn take_connection(&self) -> bool {
        self.connection.swap(false, Ordering::Relaxed)
    }

    /// True if the connection or a stream was woken.
    pub(super) fn has_any(&self) -> bool {
        self.connection.load(Ordering::Relaxed) || !self.slots().is_empty()
    }

    /// Swaps the woken slots with the empty `into`, so that both keep their capacity.
    pub(super) fn take_slots(&self, into: &mut Vec<u32>) {
        into.clear();
        std::mem::swap(&mut *self.slots(), into);
    }
}

impl Wake for ReadyList {
    fn wake(self: Arc<Self>) {
        self.wake_connection();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_connection();
    }
}

/// The waker of one slot. It outlives the streams in the slot: a late wake of an earlier stream
/// costs one idle poll and nothing else.
#[derive(Debug)]
pub(super) struct SlotWaker {
    state: Arc<SlotState>,
    waker: Waker,
}

#[derive(Debug)]
struct SlotState {
    slot: u32,
    listed: AtomicBool,
    list: Arc<ReadyList>,
}

impl SlotWaker {
    pub(super) fn new(slot: u32, list: &Arc<ReadyList>) -> Self {
        let state =
            Arc::new(SlotState { slot, listed: AtomicBool::new(false), list: Arc::clone(list) });
        Self { waker: Waker::from(Arc::clone(&state)), state }
    }

    pub(super) fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Must be called when the slot was taken from the list, before its stream is polled.
    pub(super) fn rearm(&self) {
        self.state.listed.store(false, Ordering::Relaxed);
    }
}

impl Wake for SlotState {
    fn wake(self: Arc<Self>) {
        Self::wake_by_ref(&self);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.listed.swap(true, Ordering::Relaxed) {
            self.list.slots().push(self.slot);
        }
    }
}
