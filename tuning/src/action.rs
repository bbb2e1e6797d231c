//! What can be changed on a machine, as data: `plan` shows it, `render` writes it down, `apply`
//! does it, `undo` takes it back.

use serde::{Deserialize, Serialize};

/// A change that would meet a requirement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Action {
    /// A value of `sysctl`.
    Sysctl { key: String, value: String },
    /// A file of the kernel that takes a value and forgets it at the next start.
    File { path: String, value: String },
    /// A line of the service's unit; a running process cannot be given it.
    Service { key: String, value: String },
    /// For a person to do.
    Manual { text: String },
}

impl Action {
    /// Sets a value of `sysctl`.
    pub fn sysctl(key: &str, value: impl ToString) -> Self {
        Self::Sysctl { key: key.to_owned(), value: value.to_string() }
    }

    /// Raises a value of `sysctl`, and never lowers it.
    pub fn at_least(key: &str, value: u64, current: u64) -> Self {
        Self::sysctl(key, value.max(current))
    }

    /// Writes a file of the kernel.
    pub fn file(path: impl Into<String>, value: impl ToString) -> Self {
        Self::File { path: path.into(), value: value.to_string() }
    }

    /// The file that is written, for the two kinds that are files.
    pub fn path(&self) -> Option<String> {
        match self {
            Self::Sysctl { key, .. } => Some(sysctl_path(key)),
            Self::File { path, .. } => Some(path.clone()),
            Self::Service { .. } | Self::Manual { .. } => None,
        }
    }

    /// What is written into it.
    pub fn value(&self) -> Option<&str> {
        match self {
            Self::Sysctl { value, .. } | Self::File { value, .. } => Some(value),
            Self::Service { .. } | Self::Manual { .. } => None,
        }
    }
}

/// Where a key of `sysctl` is.
pub fn sysctl_path(key: &str) -> String {
    format!("/proc/sys/{}", key.replace('.', "/"))
}
