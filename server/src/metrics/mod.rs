//! What is measured, and how it leaves the process.
//!
//! Shards count in plain `u64`s ([`ShardSnapshot`]) and copy them into a shared slot about once a
//! second; the control thread reads the slots when somebody scrapes. So there is no atomic, no
//! label hashing and no allocation where events flow. [`catalogue`] is the one list of families;
//! the reference page and the exposition are both made from it.
//!
//! Counters and gauges go through the `metrics` facade into its Prometheus recorder. Histograms
//! arrive already bucketed, which the facade cannot take (recording bucket midpoints would make up
//! sums), so [`exposition`] writes those families itself in the same text format.
//!
//! Deliberately absent: a global recorder (two servers in one test process would share it), and any
//! call from a shard into this module's rendering.

pub mod catalogue;
pub mod cost;
mod drops;
#[cfg(feature = "program")]
pub mod exposition;
pub mod process;
pub mod snapshot;

pub use catalogue::FAMILIES;
pub use drops::{DROP_REASONS, DropReason};
#[cfg(feature = "program")]
pub use exposition::{Exposition, View};
pub use snapshot::{
    Counters, Gauges, Histogram, ShardSnapshot, SinkSnapshot, SnapshotSlot, StorageCounters,
    StorageGauges, StorageSnapshot,
};
