//! Takes queries, runs a few at a time, and answers every one once.
//!
//! The queue is bounded: full means [`Busy`]. A query's time runs from when it was taken, so one
//! that has waited its time out is answered without bothering ClickHouse, and a store that hangs
//! holds everybody up for one limit and no longer. Replies run on the pool's thread: they only
//! hand the answer over.

use super::super::client::{Failure, Store};
use super::super::config::ClickHouseConfig;
use super::super::schema::EVENTS;
use super::turn::{Connections, Turn};
use super::{counts, history, top};
use crate::query::{Aggregate, Answer, Query};
use crate::read::ReadError;
use crate::read_pool::{Busy, Reply};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, mpsc, oneshot};

/// Told why a query failed when that is not the query's fault; called on the pool's thread.
pub type OnQueryFailure = Box<dyn Fn(&Failure) + Send>;

/// How much a pool does at once.
#[derive(Debug, Clone, Copy)]
pub struct QueryLimits {
    /// Queries that ClickHouse is asked at once.
    pub running_max: usize,
    /// Queries that may wait for that.
    pub waiting_max: usize,
    /// How long one may take, waiting included.
    pub time: Duration,
}

/// See the module. Dropping it ends what is under way.
#[derive(Debug)]
pub struct QueryPool {
    jobs: mpsc::Sender<Job>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Job {
    query: Query,
    reply: Pending,
    taken: Instant,
}

/// A reply that is called in any case.
struct Pending(Option<Reply>);

impl Pending {
    fn answer(mut self, answer: Result<Answer, ReadError>) {
        if let Some(reply) = self.0.take() {
            reply(answer);
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(reply) = self.0.take() {
            reply(Err(ReadError::Unavailable { what: "the query was given up".to_owned() }));
        }
    }
}

impl QueryPool {
    /// Starts the thread; nothing connects before the first query.
    pub fn start(
        config: &ClickHouseConfig,
        limits: QueryLimits,
        on_failure: OnQueryFailure,
    ) -> std::io::Result<Self> {
        let store = Store::new(config).map_err(std::io::Error::other)?;
        let table = EVENTS.path(config);
        let runtime = super::super::service::runtime()?;
        let (jobs, queue) = mpsc::channel(limits.waiting_max.max(1));
        let (stop, stopped) = oneshot::channel();
        let run = move || {
            let connections = Connections::new(store, on_failure);
            let shared = Rc::new((connections, table));
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, async {
                tokio::select! {
                    _ = stopped => {}
                    () = work(shared, queue, limits) => {}
                }
            });
        };
        let thread = std::thread::Builder::new().name("history-remote".into()).spawn(run)?;
        Ok(Self { jobs, stop: Some(stop), thread: Some(thread) })
    }

    /// Queues one query. If refused, the reply is dropped and never called.
    pub fn submit(&self, query: Query, reply: Reply) -> Result<(), Busy> {
        // A permit first: a job that comes back from the channel would have to be taken apart.
        let Ok(permit) = self.jobs.try_reserve() else { return Err(Busy(Box::new(query))) };
        permit.send(Job { query, reply: Pending(Some(reply)), taken: Instant::now() });
        Ok(())
    }
}

impl Drop for QueryPool {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a panic in a reply was reported by the panic hook
        }
    }
}

async fn work(
    shared: Rc<(Connections, String)>,
    mut queue: mpsc::Receiver<Job>,
    limits: QueryLimits,
) {
    let running = Arc::new(Semaphore::new(limits.running_max.max(1)));
    loop {
        let Ok(permit) = Arc::clone(&running).acquire_owned().await else { return };
        let Some(job) = queue.recv().await else { return };
        let shared = Rc::clone(&shared);
        tokio::task::spawn_local(async move {
            run(&shared, job, limits.time).await;
            drop(permit);
        });
    }
}

async fn run((connections, table): &(Connections, String), job: Job, limit: Duration) {
    let deadline = job.taken + limit;
    let turn = Turn { connections, deadline, limit };
    let Job { query, reply, .. } = job;
    let answer = tokio::time::timeout_at(deadline.into(), answer(&turn, table, query)).await;
    reply.answer(answer.unwrap_or_else(|_| Err(Turn::too_long(limit))));
}

async fn answer(turn: &Turn<'_>, table: &str, query: Query) -> Result<Answer, ReadError> {
    match query {
        Query::History(read) => history::block(turn, table, read).await.map(Answer::History),
        Query::Aggregate(Aggregate::Counts(query)) => {
            counts::counts(turn, table, &query).await.map(Answer::Counts)
        }
        Query::Aggregate(Aggregate::Top(query)) => {
            top::top(turn, table, &query).await.map(Answer::Top)
        }
        Query::Missed(_) | Query::More(_) => {
            let what = "this is another store's query".to_owned();
            Err(ReadError::Unavailable { what })
        }
    }
}
