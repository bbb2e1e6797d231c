//! How the service is started: what was asked for, in the words of a unit or of a pod.
//!
//! The server knows its configuration and says here which values somebody gave, and where; the
//! defaults are not repeated. Files are named from the root, since a service runs in `/`, and none
//! where the service cannot see it.

use std::path::Path;

/// A program and the values it is started with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Service {
    /// Where the program is now.
    pub program: String,
    /// Values that were given, as variables of the environment.
    pub settings: Vec<Setting>,
    /// Arguments of `serve` for values that no variable can say.
    pub arguments: Vec<String>,
    /// Arguments of `tune` that say what is asked of the machine.
    pub target: Vec<String>,
    /// Variables that were given and are secret: not written down.
    pub secrets: Vec<String>,
}

/// A value that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its variable, such as `SHARDCAST_LISTEN`.
    pub name: String,
    /// What it is set to; files and folders from the root.
    pub value: String,
    /// What the value is.
    pub kind: Kind,
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Itself.
    Text,
    /// A file that anybody may read.
    File,
    /// A file that only its owner should read.
    SecretFile,
    /// A folder that the server writes to.
    Folder,
}

/// The variable of the folder of the spool: a unit has its own.
pub const DATA_DIR: &str = "SHARDCAST_DATA_DIR";

impl Service {
    /// The value of a variable, if it was given.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.settings.iter().find(|setting| setting.name == name).map(|it| it.value.as_str())
    }
}

/// True for what `ProtectHome=yes` and `PrivateTmp=yes` hide from a service.
pub(super) fn is_hidden(path: &str) -> bool {
    HIDDEN.iter().any(|folder| Path::new(path).starts_with(folder))
}

const HIDDEN: &[&str] = &["/home", "/root", "/run/user", "/tmp", "/var/tmp"];

/// The last part of a path.
pub(super) fn file_name(path: &str) -> &str {
    Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or("file")
}
