//! The thread of a sink: started, asked to stop, waited for.
//!
//! A panic ends the sink and nothing else: events stay in the spool, and the sink says that it is
//! stuck, so that a person comes before the spool is full.

use super::{Health, Progress, Stop};
use std::any::Any;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// A running sink.
#[derive(Debug)]
pub struct SinkHandle {
    stop: Arc<Stop>,
    thread: JoinHandle<bool>,
}

impl SinkHandle {
    /// Runs a sink on a thread of its own.
    pub(crate) fn start(
        name: &str,
        stop: Arc<Stop>,
        progress: Arc<Progress>,
        run: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        let body = move || {
            let ended = std::panic::catch_unwind(AssertUnwindSafe(run));
            if let Err(panic) = &ended {
                let error = format!(
                    "its thread panicked ({}); restart the server, which goes on where the cursor \
                     file says, and report this",
                    message(&**panic)
                );
                progress.update(|stats| {
                    stats.health = Health::Stuck;
                    stats.error = Some(error);
                });
            }
            ended.is_ok()
        };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(body)?;
        Ok(Self { stop, thread })
    }

    /// Asks it to send what is there, at most for `within`.
    pub fn stop(&self, within: Duration) {
        self.stop.ask(within);
    }

    /// Waits for its end. `false`: it panicked.
    pub fn join(self) -> bool {
        self.thread.join().unwrap_or(false)
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_that_panics_is_stuck_and_says_so() {
        let progress = Arc::new(Progress::new(7));
        let run = || panic!("row {} is odd", 3);
        let handle = SinkHandle::start("x", Arc::default(), Arc::clone(&progress), run).unwrap();
        assert!(!handle.join());
        let stats = progress.stats();
        assert_eq!((stats.health, progress.durable()), (Health::Stuck, 7));
        assert!(stats.error.unwrap().contains("row 3 is odd"));
        let handle = SinkHandle::start("x", Arc::default(), progress, || ()).unwrap();
        assert!(handle.join());
    }
}
