//! The folder or bucket: put a whole file, read, list, delete; and what errors ask for.
//!
//! Invariants: what [`Store::put_whole`] reported survives a power cut, under a name that never
//! showed a part of it. Where the name is taken, the same content is success (a retry) and other
//! content an error, never overwritten. Every request has a time limit; none is repeated here.
//!
//! Threads: the sink's, which runs `runtime`. Deliberately absent: multipart uploads (a file is
//! some tens of megabytes), waiting, partial reads.

use super::config::{ParquetConfig, Place};
use super::connect::Connector;
use super::encode;
use super::failure::Failure;
use super::layout::{Hour, Range};
use bytes::Bytes;
use futures_util::StreamExt;
use object_store::aws::{AmazonS3Builder, AwsCredential};
use object_store::local::LocalFileSystem;
use object_store::path::Path as Location;
use object_store::prefix::PrefixStore;
use object_store::{
    GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutPayload, RetryConfig,
    StaticCredentialProvider,
};
use std::fs::{self, File};
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// How a file came to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// Written now.
    Written,
    /// Written before, with the same events.
    Found,
}

/// What a round of deleting did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Expired {
    /// Files deleted.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// There is more to delete.
    pub more: bool,
}

/// The folder or bucket; see the module.
#[derive(Debug)]
pub struct Store {
    store: Arc<dyn ObjectStore>,
    /// Of a folder.
    root: Option<PathBuf>,
    /// Of a bucket.
    connector: Option<Connector>,
    name: String,
    request_timeout: Duration,
}

/// Runs a store's requests. Few threads for a disk that hangs: each takes one until it answers.
pub fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build()
}

impl Store {
    /// Prepares the folder (creating it if it is not there) or the client of the bucket; nothing
    /// connects yet. Leftovers of files that a crash interrupted are removed.
    pub fn open(config: &ParquetConfig) -> Result<Self, Failure> {
        let bad = |text: String| Failure::fatal(text, "correct the configuration");
        config.validate().map_err(|e| bad(e.to_string()))?;
        let (name, request_timeout) = (config.location.clone(), config.request_timeout);
        match config.place().map_err(|e| bad(e.to_string()))? {
            Place::Folder(root) => {
                let refused = |e| Failure::of_disk(&format!("cannot open {name}"), &e);
                fs::create_dir_all(&root).map_err(refused)?;
                let root = root.canonicalize().map_err(refused)?;
                sync_above(&root).map_err(refused)?;
                sweep(&root, &config.node).map_err(refused)?;
                let local = LocalFileSystem::new_with_prefix(&root)
                    .map_err(|e| bad(e.to_string()))?
                    .with_fsync(true)
                    .with_automatic_cleanup(true);
                let (store, root) = (Arc::new(local), Some(root));
                Ok(Self { store, root, connector: None, name, request_timeout })
            }
            Place::Bucket { bucket, prefix } => {
                let connector = Connector::new(config).map_err(|e| {
                    Failure::fatal(e, "set `ca_file`, or install the system's certificates")
                })?;
                let s3 = s3_builder(config, &bucket).with_http_connector(connector.clone());
                let s3 = s3.build().map_err(|e| bad(e.to_string()))?;
                let store = Arc::new(PrefixStore::new(s3, prefix));
                let connector = Some(connector);
                Ok(Self { store, root: None, connector, name, request_timeout })
            }
        }
    }

    /// Puts a file, whole or not at all.
    pub async fn put_whole(&self, path: &str, bytes: Bytes) -> Result<Put, Failure> {
        let location = Location::from(path);
        let payload = PutPayload::from_bytes(bytes.clone());
        let put = self.store.put_opts(&location, payload, PutMode::Create.into());
        let put = match self.limited(bytes.len(), put).await? {
            Ok(_) => Put::Written,
            Err(object_store::Error::AlreadyExists { .. }) => {
                self.check_same(path, &bytes).await?;
                Put::Found
            }
            Err(error) => return Err(self.failure(&error)),
        };
        if let Some(root) = self.root.clone() {
            // What an earlier process created may not have been synced by it.
            let path = path.to_owned();
            let synced = tokio::task::spawn_blocking(move || sync_path(&root, &path));
            let synced = self.limited(bytes.len(), synced).await?.map_err(io::Error::other);
            let what = format!("{}: cannot sync a file", self.name);
            synced.flatten().map_err(|e| Failure::of_disk(&what, &e))?;
        }
        Ok(put)
    }

    /// A whole file.
    pub async fn read(&self, path: &str) -> Result<Bytes, Failure> {
        let location = Location::from(path);
        let got = self.limited(0, self.store.get_opts(&location, GetOptions::default())).await?;
        let got = got.map_err(|error| self.failure(&error))?;
        let bytes = usize::try_from(got.meta.size).unwrap_or(usize::MAX);
        self.limited(bytes, got.bytes()).await?.map_err(|error| self.failure(&error))
    }

    /// A file of this name is there: does it hold the same events?
    async fn check_same(&self, path: &str, bytes: &Bytes) -> Result<(), Failure> {
        let size = self.limited(0, self.store.head(&Location::from(path))).await?;
        let size = size.map_err(|error| match error {
            // Another put is under way, says S3 with 409: nothing is there yet.
            object_store::Error::NotFound { .. } => {
                Failure::retry(format!("{path} is being written"))
            }
            error => self.failure(&error),
        })?;
        // A later version may have compressed differently, but not by so much.
        let near = size.size <= bytes.len() as u64 * 2 + 65_536;
        if near {
            let found = self.read(path).await?;
            if found == *bytes || same_rows(found, bytes.clone()) {
                return Ok(());
            }
        }
        Err(Failure::fatal(
            format!("{}/{path} is there with other content", self.name),
            "another server writes under the same `node`, or the spool was replaced: choose \
             another `node`, or move the file away",
        ))
    }

    /// The days that have files, oldest first.
    pub async fn days(&self) -> Result<Vec<String>, Failure> {
        let day = |name: &str| Hour::parse(&format!("{name}/hour=00")).map(|_| name.to_owned());
        self.folders(None, day).await
    }

    /// The hours of a day that have files, oldest first.
    pub async fn hours(&self, day: &str) -> Result<Vec<Hour>, Failure> {
        let hour = |name: &str| Hour::parse(&format!("{day}/{name}"));
        self.folders(Some(&Location::from(day)), hour).await
    }

    /// The paths of at most `files_max` files of an hour that we or other nodes wrote, with their
    /// bytes.
    pub async fn files(&self, hour: Hour, files_max: usize) -> Result<Vec<(String, u64)>, Failure> {
        let folder = Location::from(hour.to_string());
        let mut list = self.store.list(Some(&folder));
        self.begin();
        let mut files = Vec::new();
        while files.len() < files_max {
            let Some(found) = self.limited(0, list.next()).await? else { break };
            let found = found.map_err(|error| self.failure(&error))?;
            let depth = found.location.parts_count() == folder.parts_count() + 1;
            if depth && found.location.filename().and_then(Range::parse).is_some() {
                files.push((found.location.to_string(), found.size));
            }
        }
        Ok(files)
    }

    /// Deletes at most `files_max` files of hours that ended more than `age_s` ago, oldest first.
    /// Files that are not named as ours stay.
    pub async fn expire(
        &self,
        now_us: i64,
        age_s: u64,
        files_max: usize,
    ) -> Result<Expired, Failure> {
        let age_us = i64::try_from(age_s).unwrap_or(i64::MAX).saturating_mul(1_000_000);
        let before_us = now_us.saturating_sub(age_us);
        let mut expired = Expired::default();
        for day in self.days().await? {
            let begins = Hour::parse(&format!("{day}/hour=00")).map_or(i64::MAX, Hour::end_us);
            if begins > before_us {
                break;
            }
            let hours = self.hours(&day).await?;
            for hour in hours.into_iter().filter(|hour| hour.end_us() <= before_us) {
                let left = files_max.saturating_sub(expired.files as usize);
                let files = self.files(hour, left + 1).await?;
                for (path, bytes) in files.iter().take(left) {
                    self.delete(path).await?;
                    expired.files += 1;
                    expired.bytes += bytes;
                }
                if files.len() > left {
                    expired.more = true;
                    return Ok(expired);
                }
            }
        }
        Ok(expired)
    }

    async fn delete(&self, path: &str) -> Result<(), Failure> {
        match self.limited(0, self.store.delete(&Location::from(path))).await? {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failure(&error)),
        }
    }

    /// A bucket in memory.
    #[cfg(test)]
    pub(super) fn in_memory() -> Self {
        let store = Arc::new(object_store::memory::InMemory::new());
        let (name, request_timeout) = ("memory".to_owned(), Duration::from_secs(9));
        Self { store, root: None, connector: None, name, request_timeout }
    }

    async fn folders<T: Ord>(
        &self,
        parent: Option<&Location>,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>, Failure> {
        let list = self.limited(0, self.store.list_with_delimiter(parent)).await?;
        let list = list.map_err(|error| self.failure(&error))?;
        let names = list.common_prefixes.iter().filter_map(Location::filename);
        let mut found: Vec<T> = names.filter_map(parse).collect();
        found.sort_unstable();
        Ok(found)
    }

    /// Waits for a request that moves so many bytes.
    async fn limited<T>(
        &self,
        bytes: usize,
        request: impl Future<Output = T>,
    ) -> Result<T, Failure> {
        self.begin();
        let limit = self.request_timeout + Duration::from_secs(bytes as u64 / 1_000_000);
        let late =
            || Failure::retry(format!("{}: no answer within {} s", self.name, limit.as_secs()));
        timeout(limit, request).await.map_err(|_| late())
    }

    fn begin(&self) {
        if let Some(connector) = &self.connector {
            connector.begin();
        }
    }

    fn failure(&self, error: &object_store::Error) -> Failure {
        Failure::of(&self.name, error, self.connector.as_ref().map(Connector::last))
    }
}

fn s3_builder(config: &ParquetConfig, bucket: &str) -> AmazonS3Builder {
    let once = RetryConfig { max_retries: 0, ..RetryConfig::default() };
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(once);
    if !config.endpoint.is_empty() {
        builder = builder.with_endpoint(&config.endpoint);
    }
    if !config.region.is_empty() {
        builder = builder.with_region(&config.region);
    }
    if !config.access_key.is_empty() {
        // As a whole: a session token of the environment belongs to another key.
        let credential = AwsCredential {
            key_id: config.access_key.clone(),
            secret_key: config.secret_key.clone(),
            token: None,
        };
        builder = builder.with_credentials(Arc::new(StaticCredentialProvider::new(credential)));
    }
    if config.allow_http { builder.with_allow_http(true) } else { builder }
}

fn same_rows(found: Bytes, bytes: Bytes) -> bool {
    match (encode::tally(found), encode::tally(bytes)) {
        (Ok(found), Ok(bytes)) => found == bytes,
        _ => false,
    }
}

/// Syncs a file and every folder from it up to `root`.
fn sync_path(root: &Path, path: &str) -> io::Result<()> {
    let mut at = root.join(path);
    while at.starts_with(root) {
        File::open(&at)?.sync_all()?;
        at.pop();
    }
    Ok(())
}

/// Syncs the folders above `root`, any of which may be new. Those we may not open are not ours.
fn sync_above(root: &Path) -> io::Result<()> {
    for folder in root.ancestors().skip(1) {
        match File::open(folder).and_then(|folder| folder.sync_all()) {
            Err(e) if e.kind() != io::ErrorKind::PermissionDenied => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

/// Removes what a crash left of our own unfinished files: `<name>.parquet#<number>`, as
/// `object_store` calls them.
fn sweep(root: &Path, node: &str) -> io::Result<()> {
    for (path, name) in entries(root)? {
        if !name.starts_with("day=") || !path.is_dir() {
            continue;
        }
        for (path, name) in entries(&path)? {
            if !name.starts_with("hour=") || !path.is_dir() {
                continue;
            }
            for (path, name) in entries(&path)? {
                let part = name.split_once('#').and_then(|(name, _)| Range::parse(name));
                if part.is_some_and(|range| range.node == node) {
                    fs::remove_file(path)?;
                }
            }
        }
    }
    Ok(())
}

fn entries(folder: &Path) -> io::Result<Vec<(PathBuf, String)>> {
    let entry = |entry: io::Result<fs::DirEntry>| {
        let entry = entry?;
        Ok((entry.path(), entry.file_name().to_string_lossy().into_owned()))
    };
    fs::read_dir(folder)?.map(entry).collect()
}
