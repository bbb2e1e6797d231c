//! What a user sets for the ClickHouse sink, checked before anything connects.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// `storage.clickhouse` of the configuration.
#[derive(Clone)]
pub struct ClickHouseConfig {
    /// HTTP endpoints, tried in this order. They must be one table: replicas, or ways to the same
    /// server, because each server remembers its own tokens.
    pub urls: Vec<String>,
    /// The database; created if it is not there.
    pub database: String,
    /// The user; empty: the server's default user.
    pub user: String,
    /// Its password; never in logs, errors or `Debug`.
    pub password: String,
    /// A PEM file of certificate authorities for `https`; `None`: the system's.
    pub ca_file: Option<PathBuf>,
    /// The cluster for `ON CLUSTER`; empty: one server, plain MergeTree tables.
    pub cluster: String,
    /// Most rows of an insert.
    pub batch_rows: usize,
    /// Most bytes of events in an insert, unless one event alone is larger.
    pub batch_bytes: u64,
    /// How long the first event of an insert waits for more.
    pub batch_age: Duration,
    /// How long an insert may take.
    pub insert_timeout: Duration,
    /// `channel`, `type` and `source` as LowCardinality: right below some ten thousand channels.
    pub low_cardinality: bool,
    /// Days after which rows are deleted; 0: never.
    pub delete_after_days: u32,
    /// Days after which rows move to `cold_volume`; 0: never.
    pub cold_after_days: u32,
    /// The volume for old rows, of `storage_policy`.
    pub cold_volume: String,
    /// The storage policy of the tables; empty: the server's default.
    pub storage_policy: String,
}

impl Default for ClickHouseConfig {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            database: "shardcast".to_owned(),
            user: String::new(),
            password: String::new(),
            ca_file: None,
            cluster: String::new(),
            batch_rows: 100_000,
            batch_bytes: 32 << 20,
            batch_age: Duration::from_millis(500),
            insert_timeout: Duration::from_secs(60),
            low_cardinality: true,
            delete_after_days: 90,
            cold_after_days: 0,
            cold_volume: String::new(),
            storage_policy: String::new(),
        }
    }
}

impl fmt::Debug for ClickHouseConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the password.
        f.debug_struct("ClickHouseConfig")
            .field("urls", &self.urls)
            .field("database", &self.database)
            .field("user", &self.user)
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

/// A value that cannot work; says which and what would.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("storage.clickhouse.{key}: {what}")]
pub struct ConfigError {
    /// The key below `storage.clickhouse`.
    pub key: &'static str,
    /// What is wrong and what to write instead.
    pub what: String,
}

fn wrong(key: &'static str, what: impl Into<String>) -> ConfigError {
    ConfigError { key, what: what.into() }
}

impl ClickHouseConfig {
    /// Splits the value of `url`: one endpoint, or several between commas.
    pub fn endpoints(urls: &str) -> Vec<String> {
        urls.split(',').map(str::trim).filter(|url| !url.is_empty()).map(str::to_owned).collect()
    }

    /// Checks what can be checked without connecting.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.urls.is_empty() {
            return Err(wrong("url", "is empty; write one such as http://127.0.0.1:8123"));
        }
        self.urls.iter().try_for_each(|url| check_url(url))?;
        identifier("database", &self.database)?;
        if !is_header(&self.user) {
            return Err(wrong("user", format!("`{}` {HEADER_ONLY}", self.user.escape_default())));
        }
        if !is_header(&self.password) {
            return Err(wrong("password_file", format!("its password {HEADER_ONLY}")));
        }
        for (key, value) in [("cold_volume", &self.cold_volume), ("cluster", &self.cluster)] {
            if !value.is_empty() {
                identifier(key, value)?;
            }
        }
        if !self.storage_policy.is_empty() {
            identifier("storage_policy", &self.storage_policy)?;
        }
        if self.cold_after_days > 0
            && (self.cold_volume.is_empty() || self.storage_policy.is_empty())
        {
            let what = "needs `cold_volume` and a `storage_policy` that has that volume";
            return Err(wrong("cold_after_days", what));
        }
        if self.cold_after_days > 0
            && self.delete_after_days > 0
            && self.cold_after_days >= self.delete_after_days
        {
            return Err(wrong("cold_after_days", "must be less than `delete_after_days`"));
        }
        if self.batch_rows == 0 || self.batch_bytes == 0 {
            return Err(wrong("batch_rows", "and `batch_bytes` must be at least 1"));
        }
        Ok(())
    }
}

fn check_url(url: &str) -> Result<(), ConfigError> {
    let rest =
        url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")).ok_or_else(|| {
            wrong("url", format!("`{}` must begin with http:// or https://", safe(url)))
        })?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        let what = "must not hold a user or password (they would show in logs); write `user` and \
                    `password_file`";
        return Err(wrong("url", what));
    }
    let after = rest.get(authority.len()..).unwrap_or_default();
    if authority.is_empty() || !(after.is_empty() || after == "/") {
        let what = format!("`{}` must be only a scheme, a host and a port", safe(url));
        return Err(wrong("url", what));
    }
    Ok(())
}

/// Users and passwords travel in HTTP headers.
fn is_header(text: &str) -> bool {
    text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

const HEADER_ONLY: &str = "must consist of printable ASCII characters, as HTTP headers do";

/// A URL for messages: without what may be a password.
fn safe(url: &str) -> &str {
    url.split('@').next_back().unwrap_or_default()
}

/// Names of ours end up in SQL as quoted identifiers; this keeps them boring.
fn identifier(key: &'static str, name: &str) -> Result<(), ConfigError> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'{' | b'}');
    if name.is_empty() || name.len() > 64 || !name.bytes().all(legal) {
        let what = format!("`{name}` must be 1 to 64 letters, digits, `_` or `-`");
        return Err(wrong(key, what));
    }
    Ok(())
}
