//! What the errors of a folder or bucket ask for.
//!
//! Sorted by what the sink does next; what is unknown is tried again: waiting never loses an event.
//! No text holds a secret, because none is part of a URL or of a message of the store.

use super::connect::Answer;
use std::error::Error as _;
use std::io;
use std::time::Duration;

/// What to do about a failure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Not reached, or not able: wait.
    #[error("{text}")]
    Retry {
        /// How long at least, if the store said so.
        after: Option<Duration>,
        /// One line, bounded.
        text: String,
    },
    /// A person must look: rights, names, another server's files.
    #[error("{text}; {remedy}")]
    Fatal {
        /// One line, bounded.
        text: String,
        /// What to do.
        remedy: &'static str,
    },
}

/// Longest error text kept, in bytes.
const TEXT_BYTES_MAX: usize = 600;
const CONDITIONAL: &str = "the store must support `If-None-Match: *` for writing";
const RIGHTS: &str = "check the access key, its secret and its rights (put, get, list, delete)";

impl Failure {
    pub(super) fn retry(text: String) -> Self {
        Self::Retry { after: None, text: one_line(&text) }
    }

    pub(super) fn fatal(text: String, remedy: &'static str) -> Self {
        Self::Fatal { text: one_line(&text), remedy }
    }

    /// Sorts an error. `last` is what a bucket answered; `None`: it is a folder.
    pub(super) fn of(name: &str, error: &object_store::Error, last: Option<Answer>) -> Self {
        use object_store::Error;
        let mut text = format!("{name}: {error}");
        let mut source = error.source();
        while let Some(cause) = source {
            if last.is_none()
                && let Some(error) = cause.downcast_ref::<io::Error>()
            {
                return Self::of_disk(&text, error);
            }
            let said = cause.to_string();
            if !text.contains(&said) {
                text = format!("{text}: {said}");
            }
            source = cause.source();
        }
        let answer = last.unwrap_or_default();
        match (error, answer.status) {
            // Listing does not sort its errors.
            (Error::PermissionDenied { .. } | Error::Unauthenticated { .. }, _)
            | (_, 401 | 403) => Self::fatal(text, RIGHTS),
            (Error::NotFound { .. }, _) | (_, 404) => Self::fatal(
                text,
                "the bucket (when reading: the file) must be there; correct `location`",
            ),
            (Error::NotImplemented { .. } | Error::NotSupported { .. }, _) | (_, 501) => {
                Self::fatal(text, CONDITIONAL)
            }
            (_, 301 | 307) => Self::fatal(text, "correct `region` or `endpoint`"),
            (_, 400) if text.contains("AuthorizationHeaderMalformed") => {
                Self::fatal(text, "correct `region`")
            }
            _ => Self::Retry { after: answer.retry_after, text: one_line(&text) },
        }
    }

    /// Sorts an error of the operating system.
    pub(super) fn of_disk(what: &str, error: &io::Error) -> Self {
        let said = error.to_string();
        let text = if what.contains(&said) { what.to_owned() } else { format!("{what}: {said}") };
        match error.kind() {
            io::ErrorKind::PermissionDenied => {
                Self::fatal(text, "the server's user must be able to write there, with hard links")
            }
            io::ErrorKind::ReadOnlyFilesystem => Self::fatal(text, "mount it for writing"),
            io::ErrorKind::Unsupported => Self::fatal(text, "the file system must know hard links"),
            io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
                Self::fatal(text, "name a folder")
            }
            _ => Self::retry(text),
        }
    }
}

fn one_line(text: &str) -> String {
    let mut line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    line.truncate(line.floor_char_boundary(TEXT_BYTES_MAX));
    line
}
