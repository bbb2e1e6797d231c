//! The ring itself: pushing, entering and reaping, with everything the kernel may answer.
//!
//! - Every [`Ring::enter`] asks for events: with DEFER_TASKRUN a completion is only posted while
//!   its owner is inside an enter with GETEVENTS, and a bare `submit()` does not always ask
//!   (tokio-rs/io-uring #263).
//! - A full submission queue is submitted in between; completions are moved to the ring's own
//!   queues as soon as they are seen, so nothing is lost while the caller is still pushing.
//! - EBUSY is flow control (completions overflowed): reap and go on. Overflowed completions stay in
//!   the kernel (NODROP) until an enter flushes them; an enter here ends with none left, because
//!   the failures of this turn's sends may be among them.
//! - The queues are bounded by what can be in flight: one completion per submitted operation, per
//!   provided buffer and per descriptor.

use super::token;
use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, squeue};
use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// Enters in a row that may make no progress (allocation failures) before the ring counts as dead.
const FRUITLESS_ENTERS_MAX: u32 = 1_000;

/// Since Linux 6.13 one enter runs 20 pieces of deferred work (IO_LOCAL_TW_DEFAULT_MAX), however
/// many wait, and says by a flag that there are more. Going on until this many completions are
/// there keeps turns large under load, which is where coalescing comes from.
const REAPED_ENOUGH: usize = 1024;

/// A completion, copied out of the shared queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Completed {
    pub(super) token: u64,
    pub(super) result: i32,
    pub(super) flags: u32,
}

/// See the module.
pub(super) struct Ring {
    uring: IoUring,
    /// Index under which the ring's own descriptor is registered: saves the lookup per enter.
    registered: Option<u32>,
    /// What was reaped and not processed yet.
    pub(super) reaped: VecDeque<Completed>,
    /// Send attempts that fell short; apart, because a turn must report all of them.
    pub(super) stopped: Vec<Completed>,
    failure: Option<io::Error>,
    shared_bytes: usize,
    pub(super) enters: u64,
    pub(super) completions: u64,
    pub(super) overflows: u64,
}

impl Ring {
    /// Builds a ring with the flags the driver needs (Linux 6.1; NO_SQARRAY from 6.6 if there).
    pub(super) fn new(sq_entries: u32, cq_entries: u32) -> io::Result<Self> {
        let build = |no_sqarray: bool| {
            let mut builder = IoUring::builder();
            builder
                .setup_single_issuer()
                .setup_defer_taskrun()
                .setup_taskrun_flag()
                .setup_submit_all()
                .setup_cqsize(cq_entries);
            if no_sqarray {
                builder.setup_no_sqarray();
            }
            builder.build(sq_entries)
        };
        let mut uring = match build(true) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => build(false)?,
            built => built?,
        };
        // Nothing here is meant to block a kernel worker; should a socket operation ever be
        // punted, a handful of workers is the limit, not hundreds of threads.
        uring.submitter().register_iowq_max_workers(&mut [1, 4])?;
        let registered = register_ring_fd(&uring);
        let sq = uring.submission().capacity();
        let cq = uring.completion().capacity();
        let shared_bytes = sq * size_of::<squeue::Entry>() + cq * size_of::<cqueue::Entry>();
        Ok(Self {
            uring,
            registered,
            reaped: VecDeque::new(),
            stopped: Vec::new(),
            failure: None,
            shared_bytes,
            enters: 0,
            completions: 0,
            overflows: 0,
        })
    }

    pub(super) fn uring(&self) -> &IoUring {
        &self.uring
    }

    /// Queues an operation; when the queue is full, submits it first.
    ///
    /// # Safety
    /// Whatever memory the entry points to stays valid until its terminal completion, or, for an
    /// entry that completes inline without one, until the next [`Self::enter`] has returned.
    pub(super) unsafe fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: this function's own contract.
        if unsafe { self.uring.submission().push(entry) }.is_ok() {
            return;
        }
        self.make_room();
        // SAFETY: as above.
        if unsafe { self.uring.submission().push(entry) }.is_err() && self.failure.is_none() {
            self.failure = Some(io::Error::other("the submission queue does not drain"));
        }
    }

    /// Whether operations wait to be submitted.
    pub(super) fn has_queued(&mut self) -> bool {
        !self.uring.submission().is_empty()
    }

    /// Whether completions wait to be processed.
    pub(super) fn has_reaped(&self) -> bool {
        !self.reaped.is_empty() || !self.stopped.is_empty()
    }

    /// Submits everything queued, waits up to `wait` for a first completion (`None`: does not
    /// wait), and reaps. Returns when nothing is queued, nothing overflowed any more, and all that
    /// is ready, or enough of it, was reaped.
    pub(super) fn enter(&mut self, wait: Option<Duration>) -> io::Result<()> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let mut wait = wait;
        let mut fruitless = 0;
        loop {
            let queued = self.uring.submission().len();
            let result = self.enter_once(queued as u32, wait.take());
            let reaped = self.reap();
            let left = self.uring.submission().len();
            match result {
                Ok(()) => {}
                Err(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN | libc::ENOMEM) => {}
                Err(errno) => return Err(io::Error::from_raw_os_error(errno)),
            }
            let submission = self.uring.submission();
            let overflowed = submission.cq_overflow();
            // Deferred work may end without a completion (a wake-up that found nothing to do) and
            // be due again at once: only as long as it yields something is there a reason to stay.
            let more = submission.taskrun() && reaped > 0 && self.reaped.len() < REAPED_ENOUGH;
            drop(submission);
            if left == 0 && !overflowed && !more {
                return Ok(());
            }
            self.overflows += u64::from(overflowed);
            fruitless = if reaped > 0 || left < queued { 0 } else { fruitless + 1 };
            if fruitless > FRUITLESS_ENTERS_MAX {
                return Err(io::Error::other(format!(
                    "io_uring_enter makes no progress with {left} operations queued: {result:?}"
                )));
            }
        }
    }

    /// Submits in the middle of a turn.
    fn make_room(&mut self) {
        let queued = self.uring.submission().len();
        let result = self.sys_enter(queued as u32, 0, EnterFlags::empty(), None);
        self.reap();
        if result.is_err() || self.uring.submission().is_full() {
            // Completions stand in the way, or memory is short: the patient way.
            if let Err(error) = self.enter(None) {
                self.failure = Some(error);
            }
        }
    }

    fn enter_once(&mut self, queued: u32, wait: Option<Duration>) -> Result<(), i32> {
        match wait {
            Some(timeout) => {
                let timespec = Timespec::new().sec(timeout.as_secs()).nsec(timeout.subsec_nanos());
                let args = SubmitArgs::new().timespec(&timespec);
                let flags = EnterFlags::GETEVENTS | EnterFlags::EXT_ARG;
                self.sys_enter(queued, 1, flags, Some(&args))
            }
            None => {
                let submission = self.uring.submission();
                // The kernel says by a flag whether deferred work or overflowed completions wait:
                // without either, and with nothing to submit, an enter would find nothing.
                if queued == 0 && !submission.taskrun() && !submission.cq_overflow() {
                    return Ok(());
                }
                drop(submission);
                self.sys_enter(queued, 0, EnterFlags::GETEVENTS, None)
            }
        }
    }

    fn sys_enter(
        &mut self,
        to_submit: u32,
        min_complete: u32,
        flags: EnterFlags,
        args: Option<&SubmitArgs<'_, '_>>,
    ) -> Result<(), i32> {
        self.enters += 1;
        let (fd, flags) = match self.registered {
            Some(index) => (index as i32, flags | EnterFlags::REGISTERED_RING),
            None => (self.uring.as_raw_fd(), flags),
        };
        let arg = args.map_or(std::ptr::null(), std::ptr::from_ref);
        let arg_bytes = args.map_or(0, |_| size_of::<SubmitArgs<'_, '_>>());
        // SAFETY: the system call reads `arg_bytes` at `arg`, which lives through the call, and the
        // shared queues, which live as long as `self.uring`. `SubmitArgs` is the kernel's structure
        // and nothing else; the crate passes it by size and address in the same way.
        let result = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                fd,
                to_submit,
                min_complete,
                flags.bits(),
                arg,
                arg_bytes,
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO));
        }
        Ok(())
    }

    fn reap(&mut self) -> usize {
        let completion = self.uring.completion();
        let count = completion.len();
        for entry in completion {
            let completed = Completed {
                token: entry.user_data(),
                result: entry.result(),
                flags: entry.flags(),
            };
            if token::is_send_now(completed.token) {
                self.stopped.push(completed);
            } else {
                self.reaped.push_back(completed);
            }
        }
        self.completions += count as u64;
        count
    }

    /// Gives back what a stampede of completions made the empty queue grow to.
    pub(super) fn shrink(&mut self) {
        if self.reaped.capacity() > 4 * REAPED_ENOUGH {
            self.reaped.shrink_to(REAPED_ENOUGH);
        }
    }

    /// Bytes of the queues shared with the kernel and of our own.
    pub(super) fn bytes(&self) -> usize {
        let own = (self.reaped.capacity() + self.stopped.capacity()) * size_of::<Completed>();
        self.shared_bytes + own
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // A registered descriptor keeps the ring alive until its thread ends.
        if let Some(index) = self.registered {
            let mut update = RingFdUpdate { offset: index, reserved: 0, fd: 0 };
            let _ = register(&self.uring, UNREGISTER_RING_FDS, &mut update);
        }
    }
}

/// `struct io_uring_rsrc_update`.
#[repr(C)]
struct RingFdUpdate {
    offset: u32,
    reserved: u32,
    fd: u64,
}

const REGISTER_RING_FDS: u32 = 20;
const UNREGISTER_RING_FDS: u32 = 21;

/// Registers the ring's descriptor with itself. Done by hand, because the crate remembers the index
/// only in the `Submitter` it was registered through, and that one borrows the ring. Not essential:
/// without it, enters look the descriptor up.
fn register_ring_fd(uring: &IoUring) -> Option<u32> {
    let fd = uring.as_raw_fd() as u64;
    let mut update = RingFdUpdate { offset: u32::MAX, reserved: 0, fd };
    register(uring, REGISTER_RING_FDS, &mut update).ok()?;
    Some(update.offset)
}

fn register(uring: &IoUring, opcode: u32, update: &mut RingFdUpdate) -> io::Result<()> {
    // SAFETY: both opcodes read and write one `io_uring_rsrc_update`, which `update` is.
    let result = unsafe {
        libc::syscall(
            libc::SYS_io_uring_register,
            uring.as_raw_fd(),
            opcode,
            std::ptr::from_mut(update),
            1,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
