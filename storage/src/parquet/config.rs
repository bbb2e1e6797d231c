//! What a user sets for the Parquet sink, checked before anything is opened.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// `storage.parquet` of the configuration.
#[derive(Clone)]
pub struct ParquetConfig {
    /// A folder, or `s3://bucket/prefix`.
    pub location: String,
    /// The first part of every file name: different for each server that writes there, and the
    /// same after a restart.
    pub node: String,
    /// Bytes of events in a file, each counted with 64 more, before they are compressed to about a
    /// fifth. Less than twice as much is held in memory while it is written.
    pub file_bytes: u64,
    /// How long the first event of a file waits for more, in seconds; a file also ends with its
    /// hour.
    pub seal_age_s: u64,
    /// How old an hour may become before its files are deleted; `None`: never. It counts for all
    /// files below `location`: where servers share it, the shortest wins.
    pub retention_age_s: Option<u64>,
    /// How long one request may take, and a second more for each megabyte.
    pub request_timeout: Duration,
    /// The S3 endpoint; empty: the environment's (`AWS_ENDPOINT_URL_S3`), or AWS itself.
    pub endpoint: String,
    /// The S3 region; empty: the environment's (`AWS_REGION`), or us-east-1.
    pub region: String,
    /// The S3 access key; empty: the environment's, or the identity of the machine.
    pub access_key: String,
    /// Its secret; never in logs, errors or `Debug`.
    pub secret_key: String,
    /// A PEM file of certificate authorities for S3; `None`: the system's.
    pub ca_file: Option<PathBuf>,
    /// S3 without TLS, for tests and for stores on the same machine.
    pub allow_http: bool,
}

impl Default for ParquetConfig {
    fn default() -> Self {
        Self {
            location: String::new(),
            node: "shardcast".to_owned(),
            file_bytes: 128 << 20,
            seal_age_s: 3_600,
            retention_age_s: None,
            request_timeout: Duration::from_secs(30),
            endpoint: String::new(),
            region: String::new(),
            access_key: String::new(),
            secret_key: String::new(),
            ca_file: None,
            allow_http: false,
        }
    }
}

impl fmt::Debug for ParquetConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the secret.
        f.debug_struct("ParquetConfig")
            .field("location", &self.location)
            .field("node", &self.node)
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}

/// Where the files go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A folder of this machine.
    Folder(PathBuf),
    /// A bucket, and the path in it without slashes around.
    Bucket {
        /// Its name.
        bucket: String,
        /// May be empty.
        prefix: String,
    },
}

/// A value that cannot work; says which and what would.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("storage.parquet.{key}: {what}")]
pub struct ConfigError {
    /// The key below `storage.parquet`.
    pub key: &'static str,
    /// What is wrong and what to write instead.
    pub what: String,
}

fn wrong(key: &'static str, what: impl Into<String>) -> ConfigError {
    ConfigError { key, what: what.into() }
}

/// The least that makes sense: a file has a fixed cost of some kilobytes and, on S3, of money.
const FILE_BYTES_MIN: u64 = 1 << 20;
/// Rows of a file are held in memory; a row group is bounded by rows, not by bytes.
const FILE_BYTES_MAX: u64 = 4 << 30;

impl ParquetConfig {
    /// Checks what can be checked without opening anything.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
        let node = self.node.as_bytes();
        if node.is_empty() || node.len() > 64 || !node.iter().all(|b| legal(*b)) {
            return Err(wrong("node", "must be 1 to 64 letters, digits, `_`, `-` or `.`"));
        }
        if node.starts_with(b".") || node.starts_with(b"_") {
            let what = "must not begin with `.` or `_`: readers skip such files";
            return Err(wrong("node", what));
        }
        if !(FILE_BYTES_MIN..=FILE_BYTES_MAX).contains(&self.file_bytes) {
            return Err(wrong("file_bytes", "must be between 1 MiB and 4 GiB"));
        }
        if self.seal_age_s == 0 {
            return Err(wrong("seal_age_s", "must be at least 1"));
        }
        if self.request_timeout.is_zero() {
            return Err(wrong("request_timeout", "must be at least 1 s"));
        }
        if self.retention_age_s == Some(0) {
            return Err(wrong("retention_age_s", "must be at least 1; leave it out to keep all"));
        }
        if self.access_key.is_empty() != self.secret_key.is_empty() {
            return Err(wrong("access_key", "and `secret_key` must be given together or not"));
        }
        self.check_endpoint()?;
        self.place().map(|_| ())
    }

    /// Where the files go.
    pub fn place(&self) -> Result<Place, ConfigError> {
        let Some(rest) = self.location.strip_prefix("s3://") else {
            return match self.location.split_once("://") {
                Some((scheme, _)) => {
                    let what = format!("`{scheme}://` is not known; write a folder or s3://bucket");
                    Err(wrong("location", what))
                }
                None if self.location.is_empty() => {
                    Err(wrong("location", "is empty; write a folder or s3://bucket/prefix"))
                }
                None => Ok(Place::Folder(PathBuf::from(&self.location))),
            };
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_matches('/');
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        if bucket.len() < 3 || bucket.len() > 63 || !bucket.bytes().all(legal) {
            let what = "must be s3://bucket/prefix; the name of a bucket has 3 to 63 letters, \
                        digits, `-` or `.`";
            return Err(wrong("location", what));
        }
        let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['?', '#']);
        if !prefix.is_empty() && !prefix.split('/').all(plain) {
            return Err(wrong("location", "has an empty or odd part in its path"));
        }
        Ok(Place::Bucket { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }

    fn check_endpoint(&self) -> Result<(), ConfigError> {
        if self.endpoint.is_empty() {
            return Ok(());
        }
        let https = self.endpoint.strip_prefix("https://");
        let http = self.endpoint.strip_prefix("http://");
        if http.is_some() && !self.allow_http {
            let what = "is without TLS: write https://, or set `allow_http` on purpose";
            return Err(wrong("endpoint", what));
        }
        let Some(rest) = https.or(http) else {
            return Err(wrong("endpoint", "must begin with https://"));
        };
        if rest.is_empty() || rest.contains('@') {
            let what = "must be a host and a port; keys go into `access_key` and `secret_key`";
            return Err(wrong("endpoint", what));
        }
        Ok(())
    }
}
