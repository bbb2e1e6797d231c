//! The Parquet sink: accepted events as columns in a folder or a bucket, for any tool to read.
//!
//! Data flows one way: a *range* of the spool ([`layout`]: where it ends) -> one file per hour of
//! acceptance ([`encode`]: rows to bytes, [`schema`]: the columns) -> put whole ([`client`]: a
//! folder or S3, [`failure`]: what its errors ask for). Small files are merged before they become
//! visible, never afterwards, so a reader of the folder sees no event twice: not while the server
//! runs, not after a crash, because a retry writes the same bytes under the same name.
//!
//! Invariants: a `*.parquet` file is whole and never changes; its name says which part of which
//! spool it holds; the same events give the same bytes.
//!
//! Threads: `layout`, `schema` and `encode` have none; `client` belongs to the sink's thread with
//! a tokio runtime of its own, and so do `planner` (where a range ends now) and `service` (the
//! loop). Deliberately absent: the cursor and the back-off (see [`crate::sink`]), a table catalog
//! (Iceberg, Delta), merging files that are already visible.
//! Tests: `tests`, through the boundary.

#[cfg(feature = "sinks")]
pub mod client;
pub mod config;
#[cfg(feature = "sinks")]
mod connect;
#[cfg(feature = "sinks")]
pub mod encode;
#[cfg(feature = "sinks")]
pub mod failure;
#[cfg(feature = "sinks")]
pub mod layout;
#[cfg(feature = "sinks")]
mod planner;
#[cfg(feature = "sinks")]
pub mod schema;
#[cfg(feature = "sinks")]
mod service;

#[cfg(all(test, feature = "sinks"))]
mod tests;

pub use config::{ConfigError, ParquetConfig};
#[cfg(feature = "sinks")]
pub use failure::Failure;
#[cfg(feature = "sinks")]
pub use service::ParquetSink;

/// The sink's name: of its cursor file, and in metrics.
pub const NAME: &str = "parquet";
