//! `[storage]`: the stores beside the spool, as users write them and as the sinks want them.

use ::storage::clickhouse::ClickHouseConfig;
use ::storage::parquet::ParquetConfig;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The stores beside the spool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storage {
    pub read: ReadFrom,
    pub feed_bytes_max: u64,
    pub lag_s_max: u32,
    pub clickhouse: ClickHouse,
    pub parquet: Parquet,
}

/// Where stored events are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReadFrom {
    /// The spool.
    Embedded,
    /// ClickHouse.
    ClickHouse,
}

/// The sink into ClickHouse.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClickHouse {
    pub url: String,
    pub database: String,
    pub user: String,
    pub password_file: PathBuf,
    pub ca_file: PathBuf,
    pub cluster: String,
    pub batch_rows: u32,
    pub batch_bytes: u64,
    pub batch_ms: u32,
    pub insert_timeout_s: u32,
    pub low_cardinality: bool,
    pub delete_after_days: u32,
    pub cold_after_days: u32,
    pub reconcile_s: u32,
    pub cold_volume: String,
    pub storage_policy: String,
}

impl ClickHouse {
    /// True if there is an endpoint.
    pub fn is_on(&self) -> bool {
        !self.url.is_empty()
    }

    /// As the sink wants it; the password is read from its file.
    pub fn sink_config(&self) -> Result<ClickHouseConfig, String> {
        Ok(ClickHouseConfig {
            password: read_secret("storage.clickhouse.password_file", &self.password_file)?,
            ca_file: given(&self.ca_file),
            ..self.sink_config_without_secrets()
        })
    }

    pub(super) fn sink_config_without_secrets(&self) -> ClickHouseConfig {
        ClickHouseConfig {
            urls: ClickHouseConfig::endpoints(&self.url),
            database: self.database.clone(),
            user: self.user.clone(),
            cluster: self.cluster.clone(),
            batch_rows: self.batch_rows as usize,
            batch_bytes: self.batch_bytes,
            batch_age: Duration::from_millis(u64::from(self.batch_ms)),
            insert_timeout: Duration::from_secs(u64::from(self.insert_timeout_s)),
            low_cardinality: self.low_cardinality,
            delete_after_days: self.delete_after_days,
            cold_after_days: self.cold_after_days,
            cold_volume: self.cold_volume.clone(),
            storage_policy: self.storage_policy.clone(),
            ..ClickHouseConfig::default()
        }
    }
}

/// The sink into Parquet files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parquet {
    pub location: String,
    pub endpoint: String,
    pub region: String,
    pub access_key: String,
    pub secret_key_file: PathBuf,
    pub ca_file: PathBuf,
    pub allow_http: bool,
    pub file_bytes: u64,
    pub retention_days: u32,
    pub seal_s: u32,
    pub request_timeout_s: u32,
}

impl Parquet {
    /// True if there is a place for files.
    pub fn is_on(&self) -> bool {
        !self.location.is_empty()
    }

    /// As the sink wants it; the secret is read from its file.
    pub fn sink_config(&self) -> Result<ParquetConfig, String> {
        Ok(ParquetConfig {
            access_key: self.access_key.clone(),
            secret_key: read_secret("storage.parquet.secret_key_file", &self.secret_key_file)?,
            ..self.sink_config_without_secrets()
        })
    }

    pub(super) fn sink_config_without_secrets(&self) -> ParquetConfig {
        let age_s = u64::from(self.retention_days) * 86_400;
        ParquetConfig {
            location: self.location.clone(),
            endpoint: self.endpoint.clone(),
            region: self.region.clone(),
            ca_file: given(&self.ca_file),
            allow_http: self.allow_http,
            file_bytes: self.file_bytes,
            seal_age_s: u64::from(self.seal_s),
            retention_age_s: (age_s > 0).then_some(age_s),
            request_timeout: Duration::from_secs(u64::from(self.request_timeout_s)),
            ..ParquetConfig::default()
        }
    }
}

fn given(path: &Path) -> Option<PathBuf> {
    (!path.as_os_str().is_empty()).then(|| path.to_owned())
}

/// The one line of a file; empty: there is no file.
fn read_secret(key: &str, file: &Path) -> Result<String, String> {
    if file.as_os_str().is_empty() {
        return Ok(String::new());
    }
    let path = super::whole(file);
    let text =
        std::fs::read_to_string(file).map_err(|e| format!("{key}: cannot read {path}: {e}"))?;
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.is_empty() || secret.contains('\n') {
        return Err(format!("{key}: {path} must hold the secret on one line"));
    }
    Ok(secret.to_owned())
}
