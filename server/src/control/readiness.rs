//! Whether this server wants traffic. One atomic, read by shards and the admin listener alike.

use std::sync::atomic::{AtomicU8, Ordering};

/// The states, in the only order in which they follow each other; a failure is final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum State {
    /// Histories, ids and offsets are being rebuilt.
    Starting,
    /// All is well.
    Ready,
    /// Clients are being sent away.
    Draining,
    /// The spool cannot be trusted any more; only a restart helps.
    StorageFailed,
    /// A shard died; the others drain and the process ends.
    ShardFailed,
}

impl State {
    /// As `/health/ready` says it.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Starting => "starting: histories are being rebuilt",
            Self::Ready => "ready",
            Self::Draining => "draining: no new clients",
            Self::StorageFailed => "the spool failed: look at the disk, then restart",
            Self::ShardFailed => "a shard failed: the process is ending",
        }
    }

    const ALL: [Self; 5] =
        [Self::Starting, Self::Ready, Self::Draining, Self::StorageFailed, Self::ShardFailed];
}

/// The current state. It only moves forward, so that a late "ready" cannot undo a drain.
#[derive(Debug, Default)]
pub struct Readiness(AtomicU8);

impl Readiness {
    /// Moves to a state, unless a later one is reached already; says whether anything changed.
    pub fn advance(&self, state: State) -> bool {
        self.0.fetch_max(state as u8, Ordering::AcqRel) < state as u8
    }

    /// The current state.
    pub fn state(&self) -> State {
        let index = usize::from(self.0.load(Ordering::Acquire));
        State::ALL.get(index).copied().unwrap_or(State::ShardFailed)
    }

    /// `/health/ready` answers 200.
    pub fn is_ready(&self) -> bool {
        self.state() == State::Ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_ready_does_not_undo_a_drain_or_a_failure() {
        let readiness = Readiness::default();
        assert_eq!(readiness.state(), State::Starting);
        assert!(readiness.advance(State::Ready) && readiness.is_ready());
        assert!(readiness.advance(State::Draining));
        assert!(!readiness.advance(State::Ready));
        assert!(!readiness.advance(State::Draining));
        assert_eq!(readiness.state(), State::Draining);
        assert!(readiness.advance(State::StorageFailed) && !readiness.is_ready());
        for (index, state) in State::ALL.iter().enumerate() {
            assert_eq!(*state as usize, index);
        }
    }
}
