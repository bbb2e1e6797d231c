//! `[storage]`: the stores beside the spool, as users write them and as the sinks want them.

use ::storage::clickhouse::ClickHouseConfig;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// The stores beside the spool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storage {
    pub read: ReadFrom,
    pub feed_bytes_max: u64,
    pub lag_s_max: u32,
    pub clickhouse: ClickHouse,
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
        let password = match self.password_file.as_os_str().is_empty() {
            true => String::new(),
            false => self.read_password()?,
        };
        let ca_file = &self.ca_file;
        Ok(ClickHouseConfig {
            password,
            ca_file: (!ca_file.as_os_str().is_empty()).then(|| ca_file.clone()),
            ..self.sink_config_without_secrets()
        })
    }

    fn read_password(&self) -> Result<String, String> {
        let path = self.password_file.display();
        let text = std::fs::read_to_string(&self.password_file)
            .map_err(|e| format!("storage.clickhouse.password_file: cannot read {path}: {e}"))?;
        let password = text.trim_end_matches(['\r', '\n']);
        if password.is_empty() || password.contains('\n') {
            return Err(format!(
                "storage.clickhouse.password_file: {path} must hold the password on one line"
            ));
        }
        Ok(password.to_owned())
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
