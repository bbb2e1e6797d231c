//! One run of the server process: shards on simulated drivers, the spool's pump, the reader.
//!
//! Built as `server::boot` builds it, from the same configuration, with the same restore; only
//! threads, sockets and the clock are replaced. Dropping a host is `kill -9`.

use super::chance::Chance;
use super::driver::SimDriver;
use super::net::{Net, SocketId};
use super::options::Options;
use server::boot::{self, RING_BATCHES};
use server::config::Config;
use server::config::budget::{Budget, Facts};
use server::config::ledger::Holder;
use server::mesh::{Mesh, ShardId};
use server::shard::{Now, Page, Parts, QueryStore, Shard};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use storage::sim_files::SimFiles;
use storage::{
    Answer, Busy, Pump, Query, ReadError, Reader, Recovered, StopReport, StorageRing, StorageState,
};

/// The longest sleep of a shard, as in the reactor.
const SLEEP_MAX_MS: u64 = 500;
/// Slots beyond the cap, as in `boot`.
const REFUSAL_SLOTS: usize = 16;

/// The readers: steps wait until the world lets one go.
#[derive(Default)]
pub struct SimReads {
    steps: Mutex<VecDeque<(u16, u64, Query)>>,
    answers: Mutex<Vec<VecDeque<Answered>>>,
}

type Answered = (u64, Result<Answer, ReadError>);

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl QueryStore for SimReads {
    fn submit(&self, shard: u16, ticket: u64, query: Query) -> Result<(), Busy> {
        let mut steps = lock(&self.steps);
        if steps.len() >= 4 {
            return Err(Busy(Box::new(query)));
        }
        steps.push_back((shard, ticket, query));
        Ok(())
    }

    fn next(&self, shard: u16) -> Option<Answered> {
        lock(&self.answers).get_mut(usize::from(shard))?.pop_front()
    }
}

/// See the module.
pub struct Host {
    shards: Vec<Shard>,
    drivers: Vec<SimDriver>,
    slept_since: Vec<u64>,
    ring: Arc<StorageRing>,
    pump: Pump<SimFiles>,
    reader: Reader<SimFiles>,
    reads: Arc<SimReads>,
    /// Shards that the storage side woke, as bits.
    notified: Arc<AtomicU64>,
    /// What `open` found.
    pub recovered: Recovered,
    budget: Budget,
    outbox_bytes_max: u64,
    drain_until_ms: Option<u64>,
}

/// The configuration of a run.
pub fn config(options: &Options) -> Config {
    let mut config = Config::default();
    options.apply(&mut config);
    config
}

impl Host {
    /// Boots on a data directory, as `boot` does.
    pub fn boot(
        options: &Options,
        shards: u32,
        files: SimFiles,
        now: Now,
        chance: &mut Chance,
    ) -> Result<Self, String> {
        let config = config(options);
        let facts = Facts { shards, descriptors: 65_536, memory_bytes: 4 << 30 };
        let budget = Budget::derive(&config, facts).map_err(|error| error.message)?;
        let settings = boot::settings(&config, &budget, Page::new());
        let mut settings = settings.map_err(|error| error.to_string())?;
        settings.outbox_pool_bytes = options.pool_bytes;
        settings.frame_bytes_max = options.frame_bytes;
        let settings = Arc::new(settings);
        let mut spool_options = boot::spool_options(&config, &budget);
        spool_options.round_bytes_max = options.round_bytes_max;
        let opened = storage::open(files, spool_options, now.wall_us, &mut |_| {});
        let opened = opened.map_err(|error| error.to_string())?;
        let (spool, recovered) = (opened.spool, opened.recovered);
        let seed = chance.any();
        let homes =
            boot::restore::homes(&config, &budget, &settings, &spool, &recovered, seed, now)?;
        let unsynced_max = options.ring_bytes.unwrap_or(budget.shard.storage_ring_bytes);
        let unsynced_max = unsynced_max * u64::from(shards);
        let ring = Arc::new(StorageRing::new(shards as u16, RING_BATCHES, unsynced_max));
        let notified = Arc::new(AtomicU64::new(0));
        let wakes = Arc::clone(&notified);
        let notify = Arc::new(move |shard: u16| {
            wakes.fetch_or(1 << shard, Ordering::Relaxed);
        });
        let reader = spool.reader();
        let pump = Pump::new(spool, Arc::clone(&ring), notify, Box::new(|_| {}));
        let reads = Arc::new(SimReads::default());
        lock(&reads.answers).resize_with(shards as usize, VecDeque::new);
        let mesh = Mesh::new(shards as usize);
        let part = |(index, home)| {
            let id = ShardId(index as u16);
            Parts {
                id,
                settings: Arc::clone(&settings),
                mesh: mesh.end(id),
                home,
                ring: Arc::clone(&ring),
                store: Some(reads.clone() as Arc<dyn QueryStore>),
                seed: seed.wrapping_add(index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15),
                secrets: {
                    let mut next = u128::from(seed) << 64;
                    Box::new(move || {
                        next += 1;
                        next
                    })
                },
            }
        };
        let shards: Vec<Shard> =
            homes.into_iter().enumerate().map(part).map(|parts| Shard::new(parts, now)).collect();
        let slots = budget.shard.connections_max as usize + REFUSAL_SLOTS;
        Ok(Self {
            drivers: shards.iter().map(|_| SimDriver::new(slots, options.completions)).collect(),
            slept_since: vec![now.ms; shards.len()],
            shards,
            ring,
            pump,
            reader,
            reads,
            notified,
            recovered,
            outbox_bytes_max: u64::from(config.limits.outbox_bytes_max),
            budget,
            drain_until_ms: None,
        })
    }

    /// The kernel gives up nothing any more.
    pub fn cancel_nothing(&mut self) {
        self.drivers.iter_mut().for_each(SimDriver::cancel_nothing);
    }

    /// How many shards run.
    pub fn shard_count(&self) -> usize {
        self.shards.len()
    }

    /// A client connects: the kernel spreads connections over the listeners.
    pub fn connect(&mut self, socket: SocketId, chance: &mut Chance) -> bool {
        if self.drain_until_ms.is_some() {
            return false;
        }
        let at = chance.index(self.drivers.len());
        self.drivers[at].backlog.push_back(socket);
        true
    }

    /// True if the shard has a reason to run a turn.
    pub fn is_due(&self, at: usize, net: &Net, now_ms: u64) -> bool {
        let shard = &self.shards[at];
        let deadline = shard.deadline_ms().unwrap_or(u64::MAX);
        shard.has_work()
            || now_ms >= deadline.min(self.slept_since[at] + SLEEP_MAX_MS)
            || self.notified.load(Ordering::Relaxed) >> at & 1 == 1
            || self.drivers[at].is_ready(net)
    }

    /// One turn of one shard, as the reactor runs it.
    pub fn turn(
        &mut self,
        at: usize,
        now: Now,
        net: &mut Net,
        chance: &mut Chance,
    ) -> Result<(), String> {
        self.notified.fetch_and(!(1 << at), Ordering::Relaxed);
        self.slept_since[at] = now.ms;
        let (shard, driver) = (&mut self.shards[at], &mut self.drivers[at]);
        shard.begin(now);
        driver.feed(shard, net, chance);
        shard.set_ready(true);
        shard.run();
        shard.flush();
        driver.apply(shard, net, chance)?;
        let mut wakes = shard.take_wakes();
        while wakes != 0 {
            self.drivers[wakes.trailing_zeros() as usize].woken = true;
            wakes &= wakes - 1;
        }
        Ok(())
    }

    /// One step of the writer thread: `part` 0 takes, 1 syncs, 2 maintains.
    pub fn pump(&mut self, part: u64, now: Now) -> StorageState {
        match part {
            0 => self.pump.take(),
            1 => {
                self.pump.round(now.wall_us);
            }
            _ => {
                self.pump.maintain(now.wall_us);
            }
        }
        self.ring.state()
    }

    /// One step of one query.
    pub fn read(&mut self) {
        let Some((shard, ticket, query)) = lock(&self.reads.steps).pop_front() else { return };
        let answer = self.reader.answer(query);
        lock(&self.reads.answers)[usize::from(shard)].push_back((ticket, answer));
        self.notified.fetch_or(1 << shard, Ordering::Relaxed);
    }

    /// Everything stored, as a reader sees it.
    pub fn stored(&self, each: &mut dyn FnMut(proto::event::Event)) -> Result<u64, String> {
        self.pump.spool().replay_tail(u64::MAX, each).map_err(|error| error.to_string())
    }

    /// Begins a drain.
    pub fn drain(&mut self, now: Now, time_ms: u64, net: &mut Net) {
        self.drain_until_ms = Some(now.ms + time_ms);
        for (shard, driver) in self.shards.iter_mut().zip(&mut self.drivers) {
            for socket in driver.backlog.drain(..) {
                net.server_close(socket, 0);
            }
            shard.start_drain(time_ms);
            driver.woken = true;
        }
    }

    /// True once a drain has come to its end, as the reactor judges it.
    pub fn is_drained(&self, now_ms: u64) -> bool {
        let Some(until_ms) = self.drain_until_ms else { return false };
        let idle = |shard: &Shard| shard.connection_count() == 0 && !shard.has_work();
        self.shards.iter().all(idle) || now_ms >= until_ms + 3_000
    }

    /// The writer's stop: everything in the ring is synced, then the clean mark.
    pub fn finish(mut self, now: Now) -> StopReport {
        for shard in &mut self.shards {
            // As a shard's loop does when it ends: this is how the writer learns of incarnations.
            shard.snapshot("sim", &[]);
        }
        for _ in 0..10_000 {
            self.pump.take();
            self.pump.round(now.wall_us);
            if self.pump.is_done() || self.ring.state() == StorageState::Failed {
                break;
            }
        }
        self.pump.finish()
    }

    /// Who is slow and why, for a run that does not come to its end.
    pub fn report(&mut self) -> Vec<String> {
        let reports = self.shards.iter_mut().flat_map(|shard| shard.report_connections(20));
        reports.map(|(_, report)| format!("{report:?}")).collect()
    }

    /// Looks whether every bound holds.
    pub fn check_limits(&mut self, event_bytes_max: u64) -> Result<(), String> {
        for (shard, driver) in self.shards.iter_mut().zip(&self.drivers) {
            let snapshot = shard.snapshot("sim", &[]);
            let held = shard.connection_count();
            if held > driver.len() {
                return Err(format!("the shard holds {held} connections, its driver fewer"));
            }
            let within = |holder: Holder, max: u64| {
                let bytes = snapshot.ledger.get(holder);
                if bytes > max {
                    Err(format!("{holder:?}: {bytes} of {max} bytes"))
                } else {
                    Ok(())
                }
            };
            within(Holder::Histories, self.budget.shard.history_bytes)?;
            within(Holder::Dedupe, self.budget.shard.dedupe_bytes)?;
            for (_, report) in shard.report_connections(usize::MAX) {
                // On top of what control frames may take: a page of history, and what one turn
                // gathered, which the driver holds as one piece once a part of it was sent.
                let max = self.outbox_bytes_max * 3 + event_bytes_max * 2 + (256 << 10);
                if report.queued_bytes > max {
                    return Err(format!("{} bytes wait for {}", report.queued_bytes, report.id));
                }
            }
        }
        Ok(())
    }
}
