//! A few threads that do the reading, never the writer and never a shard.
//!
//! The queue is bounded: full means [`Busy`], and the caller answers 503 or tries again with its
//! next turn. One job is one step of a query (bounded, see `read`), so that one long query takes
//! turns with all others. Replies run on the reading thread: they only hand the answer over.

use crate::files::Files;
use crate::query::{Answer, Query};
use crate::read::{ReadError, Reader};
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// The queue is full; the query comes back, with whatever it has counted already.
#[derive(Debug, thiserror::Error)]
#[error("too many queries are waiting; try again")]
pub struct Busy(pub Box<Query>);

/// Takes the answer of a step.
pub type Reply = Box<dyn FnOnce(Result<Answer, ReadError>) + Send>;

type Job = (Query, Reply);

/// See the module. Dropping it finishes what is queued.
#[derive(Debug)]
pub struct ReadPool {
    jobs: Option<SyncSender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl ReadPool {
    /// Starts `threads` threads with a queue of `waiting_max` steps.
    pub fn start<F: Files>(
        reader: &Reader<F>,
        threads: usize,
        waiting_max: usize,
    ) -> io::Result<Self> {
        let (jobs, queue) = sync_channel(waiting_max.max(1));
        let queue = Arc::new(Mutex::new(queue));
        let spawn = |i| {
            let (reader, queue) = (reader.clone(), queue.clone());
            let name = format!("history-{i}");
            std::thread::Builder::new().name(name).spawn(move || work(&reader, &queue))
        };
        let threads = (0..threads.max(1)).map(spawn).collect::<io::Result<_>>()?;
        Ok(Self { jobs: Some(jobs), threads })
    }

    /// Queues one step. If refused, the reply is dropped and never called.
    pub fn submit(&self, query: Query, reply: Reply) -> Result<(), Busy> {
        let Some(jobs) = &self.jobs else { return Err(Busy(Box::new(query))) };
        jobs.try_send((query, reply)).map_err(|error| {
            let (TrySendError::Full((query, _)) | TrySendError::Disconnected((query, _))) = error;
            Busy(Box::new(query))
        })
    }
}

impl Drop for ReadPool {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join(); // a panic in a reply was reported by the panic hook
        }
    }
}

fn work<F: Files>(reader: &Reader<F>, queue: &Mutex<Receiver<Job>>) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((query, reply)) = job else { return };
        reply(reader.answer(query));
    }
}
