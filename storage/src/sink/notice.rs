//! What a sink wants people to know; never at a rate that a publisher or the store controls.

use std::fmt;

/// Takes notices, on the sink's thread.
pub type OnSinkNotice = Box<dyn FnMut(&'static str, SinkNotice) + Send>;

/// Something worth a line in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SinkNotice {
    /// The store is reached and its schema fits.
    Connected {
        /// Where.
        store: String,
        /// Events that wait for it.
        behind: u64,
    },
    /// The store takes nothing; said once, until it does again.
    Unavailable {
        /// The reason.
        error: String,
    },
    /// The same, and waiting alone will not help.
    Stuck {
        /// The reason.
        error: String,
    },
    /// The store takes events again.
    Healed {
        /// Events that wait for it.
        behind: u64,
    },
    /// Retention had removed events before this sink was told to store them.
    Missed {
        /// How many.
        events: u64,
    },
    /// Rows that the store rejects are kept as dead letters; said at most once a minute.
    DeadLetters {
        /// How many since the sink began.
        total: u64,
        /// The reason of the newest.
        reason: String,
    },
    /// The store has the rows, but something of the user's behind its table failed; said at most
    /// once a minute.
    ViewFailed {
        /// The reason.
        error: String,
    },
    /// Files that are too old could not be deleted; tried again in an hour.
    NotExpired {
        /// The reason.
        error: String,
    },
    /// The cursor file could not be written; nothing is sent until it can.
    CursorNotSaved {
        /// The reason.
        error: String,
    },
}

impl SinkNotice {
    /// True if nobody needs to act.
    pub fn is_good(&self) -> bool {
        matches!(self, Self::Connected { .. } | Self::Healed { .. })
    }
}

impl fmt::Display for SinkNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected { store, behind } => {
                write!(f, "connected to {store}, {behind} events to send")
            }
            Self::Unavailable { error } => write!(
                f,
                "the store takes nothing: {error}. Events stay in the spool and are sent when it \
                 does"
            ),
            Self::Stuck { error } => write!(
                f,
                "the store takes nothing, and waiting will not help: {error}. Events stay in the \
                 spool until this is put right"
            ),
            Self::Healed { behind } => {
                write!(f, "the store takes events again, {behind} events to send")
            }
            Self::Missed { events } => write!(
                f,
                "{events} events had left the spool before this store was configured; it will not \
                 have them"
            ),
            Self::DeadLetters { total, reason } => write!(
                f,
                "the store rejects some events; they are kept as dead letters ({total} so far, see \
                 `shardcast storage status`): {reason}"
            ),
            Self::ViewFailed { error } => write!(
                f,
                "the store has the events, but a view behind their table failed and may lack \
                 them: {error}. Repair or drop that view"
            ),
            Self::NotExpired { error } => {
                write!(f, "cannot delete files that are too old: {error}. Trying again in an hour")
            }
            Self::CursorNotSaved { error } => write!(
                f,
                "cannot write the cursor into the data directory: {error}. Nothing is sent until \
                 that works"
            ),
        }
    }
}
