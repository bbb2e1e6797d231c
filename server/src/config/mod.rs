//! The typed configuration.
//!
//! `default.toml` is embedded and is the single source of default values and of the words that
//! explain them; the reference page is generated from it. [`layers`] puts file, environment,
//! `--set` and flags on top, keeps where each value came from and refuses what it does not know;
//! [`validate`] refuses values that make no sense together; [`budget`] turns limits and the
//! machine's facts into sizes.
//!
//! Deliberately absent: global state (a `Config` is passed by value), reading the environment
//! anywhere else, live reload.

mod auth;
pub mod budget;
mod cost;
pub mod layers;
pub mod ledger;
pub mod limits;
pub mod namespace;
pub mod reference;
pub mod schema;
mod storage;
mod validate;

pub use auth::{ApiKeyConfig, AuthConfig, is_private};
pub use cost::{Cost, Price};
pub use layers::{ConfigError, Loaded, Origin, Sources, load};
pub use limits::Limits;
pub use namespace::{Access, Deliver, Namespace, OutboxPolicy, RecoveryMode};
pub use storage::{ClickHouse, Parquet, ReadFrom, Storage};

use crate::auth::Secret;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Everything a server is started with. Each field is explained in `default.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[serde(deserialize_with = "addresses")]
    pub listen: Vec<SocketAddr>,
    #[serde(deserialize_with = "address")]
    pub admin_listen: SocketAddr,
    pub admin_token: Secret,
    pub admin_token_file: PathBuf,
    pub api_keys: Vec<ApiKeyConfig>,
    pub auth: AuthConfig,
    pub data_dir: PathBuf,
    pub shards: u32,
    pub profile: String,
    pub engine: Engine,
    pub server_name: String,
    pub allow_anonymous: bool,
    pub share_port: bool,
    pub allowed_origins: Vec<String>,
    pub shared_addresses: Vec<String>,
    pub drain_time_s: u32,
    pub tls: Tls,
    pub log: Log,
    pub limits: Limits,
    pub spool: Spool,
    pub storage: Storage,
    pub sse: Sse,
    pub cost: Cost,
    /// Always has `default`.
    pub namespaces: BTreeMap<String, Namespace>,
}

/// Which driver runs the sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// io_uring if a ring can be built and probed, otherwise epoll.
    Auto,
    /// io_uring or no start.
    Uring,
    /// epoll.
    Epoll,
}

/// Certificate and key; both or neither.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Tls {
    /// True when the listener speaks TLS.
    pub fn is_on(&self) -> bool {
        !self.cert.as_os_str().is_empty()
    }
}

/// How log lines look and which are written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    pub format: LogFormat,
    pub level: LogLevel,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

/// The severity of a log line, most severe first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// A person must look.
    Error,
    /// A person should look, some day.
    Warn,
    /// What an operator wants to have seen.
    Info,
    /// For developers.
    Debug,
}

/// The store on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spool {
    pub segment_bytes: u64,
    pub retention_age_s: u64,
    pub retention_bytes: u64,
    pub bytes_max: u64,
    pub checkpoint_bytes: u64,
    pub recover_bytes_max: u64,
}

/// What event streams are told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sse {
    pub retry_ms_min: u32,
    pub retry_ms_max: u32,
    pub channels_max: u16,
}

impl Default for Config {
    fn default() -> Self {
        schema::defaults()
            .try_into()
            .expect("the embedded default.toml has every field; a test parses it")
    }
}

impl Config {
    /// The namespace that a channel of namespace `name` obeys.
    pub fn namespace(&self, name: &str) -> &Namespace {
        self.namespaces
            .get(name)
            .or_else(|| self.namespaces.get("default"))
            .expect("the namespace `default` is in the embedded defaults and cannot be removed")
    }

    /// True if callers have to say who they are: a key for tokens or one of services is configured.
    pub fn authenticates(&self) -> bool {
        self.auth.has_keys() || !self.api_keys.is_empty()
    }

    /// What callers are checked with, for the log.
    pub fn auth_kinds(&self) -> &'static str {
        match (self.auth.has_keys(), !self.api_keys.is_empty()) {
            (true, true) => "tokens,keys",
            (true, false) => "tokens",
            (false, true) => "keys",
            (false, false) => "off",
        }
    }

    /// The value of the label `server`: as configured, or the host's name.
    pub fn server_label(&self) -> String {
        if !self.server_name.is_empty() {
            return self.server_name.clone();
        }
        rustix::system::uname().nodename().to_string_lossy().into_owned()
    }
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_address(&text).map_err(serde::de::Error::custom)
}

fn addresses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SocketAddr>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| parse_address(text).map_err(serde::de::Error::custom)).collect()
}

/// `ip:port`, `[ipv6]:port` or `localhost:port`. Other names are not resolved: what a name means
/// may change between a check and a bind.
fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let text = text.trim();
    let numeric = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    numeric.parse().map_err(|_| {
        let remedy = if text.parse::<std::net::Ipv6Addr>().is_ok() {
            format!("write `[{text}]:8000`")
        } else if text.starts_with(':') {
            format!("write `127.0.0.1{text}` for this machine, `0.0.0.0{text}` for all interfaces")
        } else if text.parse::<std::net::Ipv4Addr>().is_ok() {
            format!("add a port: `{text}:8000`")
        } else {
            "write an IP address and a port, such as `127.0.0.1:8000` or `[::1]:8000`".to_owned()
        };
        format!("`{text}` is not an address with a port; {remedy}")
    })
}

/// A path for messages: a relative one counts from the working directory, which they do not show.
pub fn whole(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

#[cfg(test)]
mod tests;
