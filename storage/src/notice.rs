//! What the storage wants people to know. It never logs: notices are handed up, and their text is
//! fit for a log line. None is produced at a rate that a publisher controls.

use std::fmt;

/// Something worth a line in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// `META` was unreadable; old lineages were taken from the segments.
    MetaDamaged,
    /// The checkpoint was unreadable: every segment is scanned.
    CheckpointDamaged,
    /// Progress of a scan.
    Scanning {
        /// The segment being scanned, from 1.
        segment: usize,
        /// How many there are.
        segments: usize,
        /// Bytes of this one.
        bytes: u64,
    },
    /// The last run did not stop cleanly.
    Unclean,
    /// Bytes after the last whole record were cut off; they had never been synced.
    TornTail {
        /// The segment.
        file: String,
        /// Where it was cut.
        at: u64,
        /// Why.
        what: &'static str,
    },
    /// A sync or write failed; the un-synced events go to a new segment.
    Rewriting {
        /// The segment given up.
        file: String,
        /// The reason.
        error: String,
    },
    /// Nothing can be stored until a restart.
    Failed {
        /// The reason.
        error: String,
    },
    /// No room for events.
    Full {
        /// The reason.
        error: String,
    },
    /// There is room again.
    Healed,
    /// A checkpoint could not be written; the next start reads more.
    CheckpointFailed {
        /// The reason.
        error: String,
    },
    /// An old segment could not be removed.
    RemoveFailed {
        /// The segment.
        file: String,
        /// The reason.
        error: String,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MetaDamaged => write!(
                f,
                "META in the data directory is damaged; positions of runs whose segments are gone \
                 will answer with a gap"
            ),
            Self::CheckpointDamaged => {
                write!(f, "CHECKPOINT in the data directory is damaged; scanning every segment")
            }
            Self::Scanning { segment, segments, bytes } => {
                write!(f, "scanning segment {segment} of {segments} ({bytes} bytes)")
            }
            Self::Unclean => write!(f, "the last run did not stop cleanly; recovering"),
            Self::TornTail { file, at, what } => write!(
                f,
                "{file}: {what} at byte {at}; cut there (the bytes after it were never confirmed)"
            ),
            Self::Rewriting { file, error } => write!(
                f,
                "{file}: {error}; writing the unconfirmed events to a new segment. Check the disk"
            ),
            Self::Failed { error } => write!(
                f,
                "storing has failed for good: {error}. Publishes are refused; check the disk, then \
                 restart the server"
            ),
            Self::Full { error } => {
                write!(f, "no room for events: {error}. Publishes are refused until there is")
            }
            Self::Healed => write!(f, "there is room for events again"),
            Self::CheckpointFailed { error } => {
                write!(f, "cannot write the checkpoint: {error}; the next start will take longer")
            }
            Self::RemoveFailed { file, error } => {
                write!(f, "cannot remove {file}, which is past retention: {error}")
            }
        }
    }
}
