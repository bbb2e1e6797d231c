//! When accepting fails: which failures pass by themselves, and the pause after the others.
//!
//! While paused, connections wait in the kernel's accept queue and, when that is full, in the
//! client's SYN retries: that is the back-pressure we want, so nothing is accepted only to be
//! closed. (A spare descriptor, closed to accept and drop one connection at a time, would answer
//! clients sooner but burn a core under a flood.)

use rustix::io::Errno;
use std::time::{Duration, Instant};

/// Long enough not to burn CPU when descriptors stay short, short against any client's timeout.
const BACK_OFF: Duration = Duration::from_millis(100);

/// What a failed accept means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum AcceptFailure {
    /// This one connection failed; accept(2) says to go on as with EAGAIN.
    Passing,
    /// Descriptors or memory are short, or something unknown is wrong: back off.
    Exhausted,
}

impl AcceptFailure {
    pub(crate) fn of(errno: Errno) -> Self {
        match errno {
            Errno::AGAIN
            | Errno::INTR
            | Errno::CONNABORTED
            | Errno::PROTO
            | Errno::NETDOWN
            | Errno::NOPROTOOPT
            | Errno::HOSTDOWN
            | Errno::NONET
            | Errno::HOSTUNREACH
            | Errno::OPNOTSUPP
            | Errno::NETUNREACH => Self::Passing,
            _ => Self::Exhausted,
        }
    }
}

/// The pause of one driver's accepting.
#[derive(Debug, Default)]
pub(crate) struct AcceptPause {
    retry_at: Option<Instant>,
    said: bool,
}

impl AcceptPause {
    /// Backs off. True: this begins a pause, say so.
    pub(crate) fn begin(&mut self) -> bool {
        self.retry_at.get_or_insert_with(|| Instant::now() + BACK_OFF);
        !std::mem::replace(&mut self.said, true)
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.retry_at.is_some()
    }

    /// True once when the back-off is over: try again.
    pub(crate) fn due(&mut self) -> bool {
        let due = self.retry_at.is_some_and(|at| at <= Instant::now());
        if due {
            self.retry_at = None;
        }
        due
    }

    /// An accept succeeded: the next failure begins a new pause.
    pub(crate) fn succeeded(&mut self) {
        self.said = false;
    }

    /// How long a turn may sleep.
    pub(crate) fn limit(&self, timeout: Duration) -> Duration {
        match self.retry_at {
            Some(at) => timeout.min(at.saturating_duration_since(Instant::now())),
            None => timeout,
        }
    }
}
