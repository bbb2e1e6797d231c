//! The way from the shards to what answers queries over stored events, and back.
//!
//! `storage.read` says what that is: the reader threads of the spool, or ClickHouse. Both take
//! queries into a bounded queue and answer each once, on a thread of theirs, into a queue of the
//! shard that asked. Such a queue needs no bound of its own: a shard has at most one step of each
//! of its queries under way.

use super::BootError;
use crate::config::budget::STORE_QUERIES;
use crate::config::{Config, ReadFrom};
use crate::log;
use crate::reactor::Shared;
use crate::shard::QueryStore;
use crossbeam_queue::SegQueue;
use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};
use storage::clickhouse::{Failure, OnQueryFailure, QueryLimits, QueryPool};
use storage::{Answer, Busy, Query, ReadError, ReadPool, Reader, RealFiles};

/// Threads that read the embedded store.
const READER_THREADS: usize = 2;
/// Steps that may wait for a reader.
const READS_WAITING_MAX: usize = 256;
/// Between two log lines about queries that ClickHouse did not answer.
const FAILURE_NOTICE: Duration = Duration::from_secs(10);

/// See the module.
pub struct Reads {
    pool: Pool,
    /// Reads what clients missed where the other queries go elsewhere: one store may lag behind
    /// the spool.
    missed: Option<ReadPool>,
    answers: Arc<Vec<SegQueue<Answered>>>,
    shared: Arc<Shared>,
}

type Answered = (u64, Result<Answer, ReadError>);

enum Pool {
    Embedded(ReadPool),
    ClickHouse(QueryPool),
}

impl Reads {
    /// Starts what the configuration names.
    pub fn start(
        config: &Config,
        shards: usize,
        reader: &Reader<RealFiles>,
        shared: &Arc<Shared>,
    ) -> Result<Self, BootError> {
        let thread = |e: std::io::Error| {
            BootError::new(format!("cannot start a thread for queries: {e}"), "raise `ulimit -u`")
        };
        let pool = match config.storage.read {
            ReadFrom::Embedded => Pool::Embedded(
                ReadPool::start(reader, READER_THREADS, READS_WAITING_MAX).map_err(thread)?,
            ),
            ReadFrom::ClickHouse => {
                let remedy = "check `[storage.clickhouse]`, or set `storage.read` to `embedded`";
                let settings = config.storage.clickhouse.sink_config();
                let settings = settings.map_err(|e| BootError::new(e, remedy))?;
                let limits = QueryLimits {
                    running_max: STORE_QUERIES as usize,
                    waiting_max: READS_WAITING_MAX,
                    time: Duration::from_secs(u64::from(config.limits.query_time_s)),
                };
                let pool = QueryPool::start(&settings, limits, notices()).map_err(thread)?;
                Pool::ClickHouse(pool)
            }
        };
        let missed = match &pool {
            Pool::Embedded(_) => None,
            Pool::ClickHouse(_) => {
                Some(ReadPool::start(reader, READER_THREADS, READS_WAITING_MAX).map_err(thread)?)
            }
        };
        let answers = Arc::new((0..shards).map(|_| SegQueue::new()).collect());
        Ok(Self { pool, missed, answers, shared: Arc::clone(shared) })
    }
}

impl QueryStore for Reads {
    fn submit(&self, shard: u16, ticket: u64, query: Query) -> Result<(), Busy> {
        let (answers, shared) = (Arc::clone(&self.answers), Arc::clone(&self.shared));
        let reply = Box::new(move |answer| {
            answers[usize::from(shard)].push((ticket, answer));
            shared.wake(usize::from(shard));
        });
        if let (Query::Missed(_), Some(missed)) = (&query, &self.missed) {
            return missed.submit(query, reply);
        }
        match &self.pool {
            Pool::Embedded(pool) => pool.submit(query, reply),
            Pool::ClickHouse(pool) => pool.submit(query, reply),
        }
    }

    fn next(&self, shard: u16) -> Option<Answered> {
        self.answers[usize::from(shard)].pop()
    }
}

/// Tells the log, not more often than somebody reads it.
fn notices() -> OnQueryFailure {
    let told: Cell<Option<Instant>> = Cell::new(None);
    Box::new(move |failure: &Failure| {
        if told.get().is_none_or(|told| told.elapsed() > FAILURE_NOTICE) {
            told.set(Some(Instant::now()));
            log::warn("ClickHouse did not answer a query", &[("error", &failure.text)]);
        }
    })
}
