//! A few threads that do the reading, never the writer and never a shard.
//!
//! The queue is bounded: full means [`Busy`], and the caller answers 503 or tries again with its
//! next turn. One job is one step of a read (bounded, see `read`), so that one long read takes
//! turns with all others. Replies run on the reading thread: they only hand the block over.

use crate::files::Files;
use crate::read::{HistoryBlock, HistoryRead, ReadError, Reader};
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// The queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many reads of the history are waiting; try again")]
pub struct Busy;

/// Takes the answer of a step.
pub type Reply = Box<dyn FnOnce(Result<HistoryBlock, ReadError>) + Send>;

type Job = (HistoryRead, Reply);

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

    /// Queues one step. If refused, the reply is dropped and never called: keep a clone of the
    /// read (it is cheap) to try again.
    pub fn submit(&self, read: HistoryRead, reply: Reply) -> Result<(), Busy> {
        let jobs = self.jobs.as_ref().ok_or(Busy)?;
        jobs.try_send((read, reply)).map_err(|_| Busy)
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
        let Ok((read, reply)) = job else { return };
        reply(reader.step(read));
    }
}
