//! Shard threads: pinned, one per allowed core, each with its own driver.

use super::BootError;
use super::store::Store;
use crate::control::{ControlPort, State};
use crate::driver::engine::Engine;
use crate::driver::{Driver, DriverSizes};
use crate::epoll::EpollDriver;
use crate::log;
use crate::mesh::{Mesh, ShardId};
use crate::metrics::{ShardSnapshot, SnapshotSlot};
use crate::reactor::{Clock, Ended, Reactor, Shared};
use crate::shard::home::Home;
use crate::shard::{Parts, Settings, Shard};
use crate::uring::UringDriver;
use std::os::fd::OwnedFd;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

/// What every shard thread is made of.
pub struct Spawn<'a> {
    pub engine: Engine,
    pub sizes: DriverSizes,
    pub settings: &'a Arc<Settings>,
    pub shared: &'a Arc<Shared>,
    pub store: &'a Store,
    pub clock: Clock,
    pub cores: Vec<usize>,
    pub drain_time_ms: u64,
}

/// One thread's part.
struct Seat {
    parts: Parts,
    listeners: Vec<OwnedFd>,
    core: Option<usize>,
    port: Arc<ControlPort>,
    slot: Arc<SnapshotSlot<ShardSnapshot>>,
    shared: Arc<Shared>,
    sizes: DriverSizes,
    clock: Clock,
    drain_time_ms: u64,
}

impl Spawn<'_> {
    /// Starts every thread; returns when each of them accepts.
    pub fn all(
        &self,
        homes: Vec<Home>,
        bound: Vec<Vec<OwnedFd>>,
        ports: &[Arc<ControlPort>],
        slots: &[Arc<SnapshotSlot<ShardSnapshot>>],
    ) -> Result<Vec<JoinHandle<Option<Ended>>>, BootError> {
        let shards = homes.len();
        let mesh = Mesh::new(shards);
        let mut per_shard: Vec<Vec<OwnedFd>> = (0..shards).map(|_| Vec::new()).collect();
        for sockets in bound {
            for (shard, socket) in per_shard.iter_mut().zip(sockets) {
                shard.push(socket);
            }
        }
        let (started, starts) = std::sync::mpsc::channel();
        let mut threads = Vec::new();
        let seats = homes.into_iter().zip(per_shard).enumerate();
        for (index, (home, listeners)) in seats {
            let id = ShardId(index as u16);
            let seat = Seat {
                parts: Parts {
                    id,
                    settings: Arc::clone(self.settings),
                    mesh: mesh.end(id),
                    home,
                    ring: Arc::clone(&self.store.ring),
                    store: Some(self.store.reads.clone()),
                    seed: self.store.seed.wrapping_add(index as u64).wrapping_mul(SPREAD),
                    secrets: super::secrets::source(),
                },
                listeners,
                core: self.cores.get(index % self.cores.len().max(1)).copied(),
                port: Arc::clone(&ports[index]),
                slot: Arc::clone(&slots[index]),
                shared: Arc::clone(self.shared),
                sizes: self.sizes,
                clock: self.clock,
                drain_time_ms: self.drain_time_ms,
            };
            let (engine, started) = (self.engine, started.clone());
            let thread = std::thread::Builder::new().name(format!("shard-{index}"));
            let thread =
                thread.spawn(move || guarded(engine, seat, &started)).map_err(|error| {
                    BootError::new(format!("cannot start a thread: {error}"), "raise `ulimit -u`")
                })?;
            threads.push(thread);
        }
        drop(started);
        for _ in 0..shards {
            if let Ok(Err(error)) | Err(error) =
                starts.recv().map_err(|_| "a shard ended while it started".to_owned())
            {
                self.shared.stopping.store(true, Ordering::Release);
                self.shared.readiness.advance(State::ShardFailed);
                self.shared.wake_all();
                let remedy = "see the log above; --engine epoll and fewer --shards need less";
                return Err(BootError::new(format!("a shard could not start: {error}"), remedy));
            }
        }
        Ok(threads)
    }
}

/// An odd constant that makes neighbouring seeds differ in every bit (2^64 / golden ratio).
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

type Started = std::sync::mpsc::Sender<Result<(), String>>;

/// A dead shard is a dead process, gracefully: the others drain, then the process ends with 70.
fn guarded(engine: Engine, seat: Seat, started: &Started) -> Option<Ended> {
    let shared = Arc::clone(&seat.shared);
    let id = seat.parts.id;
    let run = AssertUnwindSafe(|| match engine {
        Engine::Uring => {
            let driver = UringDriver::new(seat.sizes)
                .map_err(|error| format!("{}; {}", error.cause, error.remedy))?;
            run(driver, seat, started)
        }
        Engine::Epoll => {
            let driver = EpollDriver::new(seat.sizes).map_err(|error| error.to_string())?;
            run(driver, seat, started)
        }
    });
    let failure = match std::panic::catch_unwind(run) {
        Ok(Ok(ended)) => return Some(ended),
        Ok(Err(error)) => error,
        Err(_) => "it panicked; the message is above".to_owned(),
    };
    let _ = started.send(Err(failure.clone()));
    log::error("a shard died; the others drain", &[("shard", &id.0), ("cause", &failure)]);
    shared.stopping.store(true, Ordering::Release);
    shared.all_done(id, true);
    shared.readiness.advance(State::ShardFailed);
    shared.wake_all();
    None
}

fn run<D: Driver>(driver: D, seat: Seat, started: &Started) -> Result<Ended, String> {
    if let Some(core) = seat.core {
        let mut set = rustix::thread::CpuSet::new();
        set.set(core);
        if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
            log::warn("a shard could not be pinned", &[("core", &core), ("error", &error)]);
        }
    }
    let shard = Shard::new(seat.parts, seat.clock.now());
    let mut reactor = Reactor::new(
        driver,
        shard,
        seat.clock,
        seat.shared,
        seat.port,
        seat.slot,
        seat.drain_time_ms,
    );
    reactor.listen(seat.listeners);
    let _ = started.send(Ok(()));
    reactor.run().map_err(|error| format!("the driver failed: {error}"))
}
