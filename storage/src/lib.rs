//! Durable storage: the ring that takes events from the shards, the spool that keeps them, and the
//! reads and aggregates that make the spool the embedded store.
//!
//! Data flows one way: `ring` (bounded, batches) -> `spool` (group commit, fdatasync) -> segments
//! on disk; what comes back is a number per shard, "synced up to batch n", and a state. Everything
//! that decides is pure and generic over [`files::Files`], so that the same code runs on a real
//! disk and, with [`sim_files::SimFiles`], in the simulated world with power cuts, full disks and
//! failing syncs.
//!
//! Out of the spool flow the sinks ([`sink`]): [`clickhouse`] inserts rows, [`parquet`] writes
//! files.
//!
//! Threads: one writer (`writer`), a few readers (`read_pool`); shards touch only [`ring`].
//! Deliberately absent: clocks in `spool` (time is an argument), logging ([`notice`] is handed
//! up), knowledge of namespaces, histories or subscribers.
#![forbid(unsafe_code)]
#![warn(missing_docs)]
// Some helpers are the sinks' alone.
#![cfg_attr(not(feature = "sinks"), allow(dead_code))]

pub mod aggregate;
mod catalog;
mod channels;
pub mod checkpoint;
pub mod clickhouse;
pub mod error;
pub mod feed;
pub mod files;
pub mod format;
pub mod index;
pub mod inspect;
pub mod meta;
pub mod notice;
pub mod parquet;
mod parts;
pub mod query;
pub mod read;
pub mod read_pool;
pub mod real_files;
mod recover;
mod retention;
pub mod ring;
mod round;
pub mod scan;
mod segment;
pub mod sim_files;
pub mod sink;
pub mod spool;
mod stored;
#[cfg(feature = "sinks")]
pub mod verify;
mod walk;
pub mod writer;

#[cfg(test)]
mod tests;

pub use error::OpenError;
pub use notice::Notice;
pub use query::{Aggregate, Answer, Bucket, Counts, CountsQuery, Query, Top, TopQuery, Unfinished};
pub use read::{BLOCK_BYTES_MAX, Bound, HistoryBlock, HistoryRead, ReadError, Reader};
pub use read_pool::{Busy, ReadPool};
pub use real_files::RealFiles;
pub use recover::{Opened, Recovered, RecoveredChannel, open};
pub use ring::{StorageRing, StorageState, StoreBatch};
pub use spool::{Ack, Options, Retention, Spool};
pub use writer::{Notify, OnNotice, Pump, StopReport, StorageHandle, WriterStats};
