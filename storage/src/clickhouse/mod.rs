//! The ClickHouse sink: every event of the spool becomes one row of `events`, exactly once.
//!
//! Exactly once comes from three things together: the plan of a batch (range, token, every split)
//! is synced in the cursor file before it is sent; a retry sends identical rows under the same
//! `insert_deduplication_token`, also from the next process; and the tables, the targets of the
//! view included, remember the last ten thousand tokens. `async_insert` is pinned off, or an
//! answer would not mean that the rows are kept.
//!
//! - [`config`]: endpoints, batches, retention; [`schema`]: what is created, upgraded, checked;
//!   `encode`: events to Native blocks; `client`: requests and what their errors mean;
//!   `database`: whether it fits; `service`: the loop; [`corrections`]: late events and the
//!   minutes they belong to; [`query`]: the way back, on a thread and connections of its own.
//!
//! Threads: one of the sink's own with a small tokio runtime, since the client is asynchronous.
//! Deliberately absent: Buffer tables (they lose rows), waiting for replicas other than by the
//! user's own quorum settings. Tested in `tests` against the SQL it writes, and in the integration
//! tests against a real engine.

#[cfg(feature = "sinks")]
pub(crate) mod client;
pub mod config;
#[cfg(feature = "sinks")]
pub mod corrections;
#[cfg(feature = "sinks")]
pub(crate) mod database;
#[cfg(feature = "sinks")]
pub mod dead;
#[cfg(feature = "sinks")]
pub(crate) mod encode;
#[cfg(feature = "sinks")]
pub mod query;
#[cfg(feature = "sinks")]
pub mod replay;
#[cfg(feature = "sinks")]
pub mod schema;
#[cfg(feature = "sinks")]
pub(crate) mod service;

#[cfg(all(test, feature = "sinks"))]
mod tests;

#[cfg(feature = "sinks")]
pub use client::{Class, Failure, Store};
pub use config::{ClickHouseConfig, ConfigError};
#[cfg(feature = "sinks")]
pub use query::{OnQueryFailure, QueryLimits, QueryPool};
#[cfg(feature = "sinks")]
pub use service::ClickHouseSink;

/// The sink's name: of its cursor file, in metrics, in `ack=stored`'s documentation.
pub const NAME: &str = "clickhouse";
