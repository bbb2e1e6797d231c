//! Why a data directory could not be opened, each with what to do next.

use std::io;

/// The server must not start on this directory as it is.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process holds the lock.
    #[error(
        "the data directory {dir} is in use by another server{holder}; stop that one, or give this \
         one its own --data-dir"
    )]
    Locked {
        /// The directory.
        dir: String,
        /// " (process n)" where known.
        holder: String,
    },
    /// The operating system refused.
    #[error("cannot {what} {file} in the data directory {dir}: {source}{}", hint(source))]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        file: String,
        /// The directory.
        dir: String,
        /// The reason.
        source: io::Error,
    },
    /// Bytes that had been synced are not what was written.
    #[error("{dir}/{file} is damaged at byte {at}: {what}. {remedy}")]
    Damaged {
        /// The directory.
        dir: String,
        /// The file.
        file: String,
        /// The file offset of the damage.
        at: u64,
        /// What is wrong there.
        what: String,
        /// What to do.
        remedy: String,
    },
    /// Written by a later version.
    #[error(
        "{dir}/{file} was written by a newer version of the server; run that version, or give this \
         one its own --data-dir"
    )]
    Newer {
        /// The directory.
        dir: String,
        /// The file.
        file: String,
    },
    /// The checkpoint knows of synced events that no segment holds.
    #[error(
        "{dir} has lost events that were synced: they reach to number {found}, the checkpoint knows \
         of {expected}. Restore the missing segments from a backup; or, to go on without those \
         events, move CHECKPOINT and CLEAN out of the directory"
    )]
    Lost {
        /// The directory.
        dir: String,
        /// The sequence number after the last event found.
        found: u64,
        /// The sequence number the checkpoint expects.
        expected: u64,
    },
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; free some space there",
        io::ErrorKind::PermissionDenied => "; the server's user must own the directory",
        io::ErrorKind::ReadOnlyFilesystem => "; mount it writable, or choose another --data-dir",
        _ => "; check the disk (its errors are in `dmesg`)",
    }
}

/// What to do about damage in the last segment.
pub(crate) fn remedy_last(dir: &str, file: &str, at: u64) -> String {
    format!(
        "The disk changed or lost data that it had confirmed: check it. Then restore the file from \
         a backup; or, to go on with the events before the damage, run `truncate -s {at} \
         {dir}/{file}` and move CHECKPOINT and CLEAN out of the directory"
    )
}

/// What to do about damage in an earlier segment.
pub(crate) fn remedy_sealed(file: &str) -> String {
    format!(
        "The disk changed or lost data that it had confirmed: check it. Then restore the file from \
         a backup; or, to go on with the events after this segment, move {file}, every older \
         segment and CHECKPOINT and CLEAN out of the directory"
    )
}
