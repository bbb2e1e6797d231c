//! From a configuration to a running server, and back.
//!
//! Start: facts and budget, data directory, listeners, histories rebuilt, one thread per shard,
//! the storage writer and its readers, the admin listener; ready last. Stop: shards drain, then the
//! writer syncs what they left, then the report. A shard that dies takes the process with it, but
//! the others drain first (exit code 70).
//!
//! Used by `main`, `bench` and `tests` alike. Lives on the caller's thread.

mod auth;
pub mod cores;
pub mod preflight;
mod reads;
pub mod restore;
mod secrets;
mod shards;
mod sinks;
mod store;

use crate::config::budget::{Budget, Facts};
use crate::config::{Config, whole};
use crate::control::key_set::KeySetReader;
use crate::control::{self, AdminAccess, ControlCommand, ControlPort, SharedWatch};
use crate::control::{AdminServer, Context, DrainOrder, Operator, Readiness, ShardHandle, State};
use crate::driver::DriverSizes;
use crate::driver::engine::{self, Engine, EngineChoice};
use crate::log;
use crate::metrics::cost::CostWatch;
use crate::metrics::{ShardSnapshot, SnapshotSlot};
use crate::reactor::listeners::{self, Held};
use crate::reactor::{Clock, Ended, Shared};
use crate::shard::floods::Addresses;
use crate::shard::http::origin::OriginRules;
use crate::shard::{Page, Settings};
use crate::uring::UringUnavailable;
use proto::tls::TlsConfig;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use tuning::capacity::Calibration;

use auth::Authentication;
pub use store::{RING_BATCHES, Store, spool_options};

/// Why the server did not start, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootError {
    /// What went wrong.
    pub message: String,
    /// What to do next.
    pub remedy: String,
}

impl BootError {
    fn new(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { message: message.into(), remedy: remedy.into() }
    }
}

impl std::fmt::Display for BootError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\n{}", self.message, self.remedy)
    }
}

impl std::error::Error for BootError {}

/// The entry.
pub struct Server;

/// A server that runs.
pub struct Running {
    addresses: Vec<SocketAddr>,
    engine: Engine,
    /// What callers are checked with, for the log.
    auth: &'static str,
    threads: Vec<JoinHandle<Option<Ended>>>,
    drainer: Arc<Drainer>,
    store: Store,
    admin: Option<AdminServer>,
    /// Reads the key set again and again while it is there.
    key_set: Option<KeySetReader>,
}

/// How a server ended.
#[derive(Debug)]
pub struct Report {
    /// Connections that were cut because the drain time was over.
    pub remaining: usize,
    /// Shards that died.
    pub dead_shards: usize,
    /// What the storage said.
    pub storage: storage::StopReport,
}

impl Report {
    /// 0, or 70 after a fault of ours.
    pub fn exit_code(&self) -> u8 {
        if self.dead_shards > 0 || self.storage.error.is_some() { 70 } else { 0 }
    }
}

/// Starts drains, from whichever side they are asked.
struct Drainer {
    ports: Vec<Arc<ControlPort>>,
    shared: Arc<Shared>,
}

impl Operator for Drainer {
    fn drain(&self, order: DrainOrder) -> bool {
        // The process ends when the last shard has nothing left.
        self.shared.stopping.store(true, Ordering::Release);
        let began = self.shared.readiness.advance(State::Draining);
        if began {
            let held = self.shared.loads.iter().map(|load| load.load(Ordering::Relaxed));
            log::info("draining", &[("connections", &held.sum::<u32>())]);
        }
        for port in &self.ports {
            // A drain order has its own place in the port: it always fits.
            let _ = port.send(ControlCommand::Drain(order));
        }
        began
    }
}

impl Server {
    /// Starts a server. It serves when this returns.
    pub fn start(config: Config) -> Result<Running, BootError> {
        Self::start_with(config, Page::new())
    }

    /// The same, with the files of the page at `/`.
    pub fn start_with(mut config: Config, page: Page) -> Result<Running, BootError> {
        let clock = Clock::start();
        let raised = tuning::raise_nofile();
        if let Err(error) = raised {
            log::warn("the descriptor limit could not be raised", &[("error", &error)]);
        }
        let machine = tuning::Machine::read();
        let map = cores::place(&mut config, &machine)?;
        let facts = Facts::new(&config, &machine);
        let budget = Budget::derive(&config, facts)
            .map_err(|error| BootError::new(error.message, error.remedy))?;
        let shards = facts.shards as usize;
        let sizes = DriverSizes {
            connections: budget.shard.connections_max + REFUSAL_SLOTS,
            receive_buffers: budget.shard.receive_buffers,
            receive_buffer_bytes: budget.shard.receive_buffer_bytes,
            receive_bytes_per_turn: budget.shard.receive_buffer_bytes * 4,
        };
        let unlocked = preflight::run(&config, &budget, &sizes)?;
        let engine = choose_engine(&config, &sizes, unlocked)?;
        let bound = bind_all(&config, shards)?;
        let addresses = bound.iter().filter_map(|b| listeners::address_of(&b[0]).ok()).collect();
        let admin = control::bind(config.admin_listen)
            .map_err(|error| BootError::new(error.to_string(), "see `shardcast serve --help`"))?;
        let Authentication { auth, feed, admin_token } = auth::authentication(&config)?;
        let watch = cost_watch(&config)?;
        let mut settings = settings(&config, &budget, page)?;
        settings.auth = auth.clone();
        let settings = Arc::new(settings);
        let at = cores::Pinned::to(cores::others(&config, &map.control));
        let key_set = feed.map(|feed| KeySetReader::start(&config.auth, feed)).transpose();
        let key_set = key_set.map_err(|e| BootError::new(e.0, e.1))?;
        let readiness = Arc::new(Readiness::default());
        let shared = Arc::new(Shared::new(shards, Arc::clone(&readiness)));
        drop(at);
        let at = cores::Pinned::to(cores::others(&config, &map.storage));
        let (store, homes) = Store::open(&config, &budget, &settings, &shared, clock)?;
        drop(at);
        let ports: Vec<_> = (0..shards).map(|_| Arc::new(ControlPort::default())).collect();
        let slots: Vec<_> =
            (0..shards).map(|_| Arc::new(SnapshotSlot::<ShardSnapshot>::default())).collect();
        let drainer = Arc::new(Drainer { ports: ports.clone(), shared: Arc::clone(&shared) });
        let spawn = shards::Spawn {
            engine,
            sizes,
            settings: &settings,
            shared: &shared,
            store: &store,
            clock,
            cores: cores::of_shards(&config, &map),
            drain_time_ms: u64::from(config.drain_time_s) * 1_000,
        };
        let threads = spawn.all(homes, bound, &ports, &slots)?;
        let handles = slots.iter().zip(&ports);
        let handles = handles
            .map(|(slot, port)| ShardHandle { snapshot: Arc::clone(slot), port: Arc::clone(port) });
        auth::warn_if_open(&config);
        let is_remote = !config.admin_listen.ip().to_canonical().is_loopback();
        let control = cores::others(&config, &map.control);
        let auth_kinds = config.auth_kinds();
        let context = Context {
            admin: AdminAccess { token: admin_token, auth, is_remote },
            config: Arc::new(config),
            budget: Arc::new(budget),
            shards: handles.collect(),
            storage: store.view(clock),
            readiness: Arc::clone(&readiness),
            cost: watch,
            operator: drainer.clone(),
        };
        let at = cores::Pinned::to(control);
        let admin = AdminServer::start(context, admin)
            .map_err(|e| BootError::new(format!("admin listener: {e}"), "choose --admin-listen"))?;
        drop(at);
        readiness.advance(State::Ready);
        shared.wake_all();
        let admin = Some(admin);
        let auth = auth_kinds;
        let running = Running { addresses, engine, auth, threads, drainer, store, admin, key_set };
        running.announce();
        Ok(running)
    }
}

impl Running {
    /// Where it listens for clients and publishers.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where the admin listener is.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(AdminServer::address)
    }

    /// Which driver runs.
    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// Begins the drain: from any thread, more than once is harmless.
    pub fn drain_handle(&self) -> impl Fn() + Send + Sync + 'static {
        let drainer = Arc::clone(&self.drainer);
        move || {
            drainer.drain(DrainOrder { rate_per_s: None });
        }
    }

    /// Begins the drain.
    pub fn drain(&self) {
        self.drain_handle()();
    }

    /// Waits for the end: of the drain, or of a shard that died.
    pub fn join(mut self) -> Report {
        let mut report = Report {
            remaining: 0,
            dead_shards: 0,
            storage: storage::StopReport { clean: true, error: None, lost_bytes: 0 },
        };
        for thread in self.threads.drain(..) {
            match thread.join() {
                Ok(Some(ended)) => report.remaining += ended.remaining,
                Ok(None) | Err(_) => report.dead_shards += 1,
            }
        }
        report.storage = self.store.stop();
        drop(self.admin.take());
        drop(self.key_set.take());
        log::info(
            "stopped",
            &[
                ("remaining_connections", &report.remaining),
                ("dead_shards", &report.dead_shards),
                ("clean", &report.storage.clean),
            ],
        );
        report
    }

    fn announce(&self) {
        for address in &self.addresses {
            log::info(
                "serving",
                &[
                    ("address", address),
                    ("engine", &self.engine.name()),
                    ("shards", &self.threads.len()),
                    ("auth", &self.auth),
                ],
            );
        }
        if let Some(address) = self.admin_address() {
            log::info("administration", &[("address", &address)]);
        }
    }
}

/// What live figures are compared with: the calibration, if one is configured, must be one.
fn cost_watch(config: &Config) -> Result<SharedWatch, BootError> {
    let file = &config.cost.calibration;
    let calibration = if file.as_os_str().is_empty() {
        None
    } else {
        let refused = |problem: String| {
            let message = format!("cost.calibration {}: {problem}", whole(file));
            BootError::new(message, "or leave cost.calibration empty to compare nothing")
        };
        let text = std::fs::read_to_string(file).map_err(|error| refused(error.to_string()))?;
        Some(Calibration::parse(&text).map_err(|error| refused(error.to_string()))?)
    };
    let (heartbeat_s, tls) = (config.limits.heartbeat_s, config.tls.is_on());
    let watch = CostWatch::new(config.cost.clone(), calibration, heartbeat_s, tls);
    Ok(SharedWatch::new(watch))
}

/// Slots beyond the cap, so that a connection above it gets an answer and not a reset.
const REFUSAL_SLOTS: u32 = 16;

/// `unlocked` says why the shards could not all have a ring, although one can be built.
fn choose_engine(
    config: &Config,
    sizes: &DriverSizes,
    unlocked: Option<UringUnavailable>,
) -> Result<Engine, BootError> {
    let choice = match config.engine {
        crate::config::Engine::Auto => EngineChoice::Auto,
        crate::config::Engine::Uring => EngineChoice::Uring,
        crate::config::Engine::Epoll => EngineChoice::Epoll,
    };
    let chosen = match (choice, unlocked) {
        (EngineChoice::Epoll, _) | (_, None) => engine::choose(choice, sizes),
        (EngineChoice::Auto, Some(why)) => Ok((Engine::Epoll, Some(why))),
        (EngineChoice::Uring, Some(why)) => Err(why),
    };
    match chosen {
        Ok((engine, None)) => Ok(engine),
        Ok((engine, Some(unavailable))) => {
            log::warn(
                "io_uring is not available; running on epoll",
                &[("cause", &unavailable.cause), ("remedy", &unavailable.remedy)],
            );
            Ok(engine)
        }
        Err(unavailable) => Err(BootError::new(
            format!("io_uring is not available: {}", unavailable.cause),
            format!("{}, or start with --engine auto", unavailable.remedy),
        )),
    }
}

/// Per address, one socket for each shard.
fn bind_all(config: &Config, shards: usize) -> Result<Vec<Vec<OwnedFd>>, BootError> {
    let limits = &config.limits;
    let held = Held { bytes: limits.send_buffer_bytes, unsent_bytes: limits.unsent_bytes_max };
    let bind = |address: &SocketAddr| {
        listeners::bind(*address, shards, config.share_port, held).map_err(|error| {
            let remedy = match error.kind() {
                std::io::ErrorKind::AddrInUse => {
                    "another process listens there: stop it, choose another address with --listen, \
                     or start both with --share-port if they should share it on purpose"
                }
                std::io::ErrorKind::PermissionDenied => {
                    "ports below 1024 need CAP_NET_BIND_SERVICE; choose another with --listen"
                }
                _ => "choose another address with --listen",
            };
            BootError::new(format!("cannot listen on {address}: {error}"), remedy)
        })
    };
    config.listen.iter().map(bind).collect()
}

/// What the shards need of the configuration.
pub fn settings(config: &Config, budget: &Budget, page: Page) -> Result<Settings, BootError> {
    let namespaces = config.namespaces.iter().map(|(name, n)| (name.clone(), n.clone()));
    let mut settings = Settings::new(namespaces, config.limits.clone());
    settings.connections_max = budget.shard.connections_max;
    settings.h2_connections_max = budget.shard.h2_connections_max;
    settings.partial_input_bytes_max = budget.shard.partial_input_bytes as usize;
    settings.outbox_pool_bytes = budget.shard.outbox_bytes as usize;
    settings.frame_bytes_max = budget.shard.frame_bytes as usize;
    settings.body_pool_bytes = budget.shard.body_bytes as usize;
    settings.presence_pool_bytes = budget.shard.presence_bytes as usize;
    settings.addresses = Addresses::new(&config.shared_addresses);
    settings.queries_max = budget.shard.queries_max as usize;
    settings.origins = OriginRules {
        allowed: config.allowed_origins.iter().map(|origin| origin.to_ascii_lowercase()).collect(),
        // Who has to show a token may ask under any name, such as a proxy's.
        loopback_only: config.listen.iter().all(|address| address.ip().is_loopback())
            && !config.authenticates(),
    };
    settings.sse_channels_max = config.sse.channels_max;
    settings.sse_retry_ms = (config.sse.retry_ms_min, config.sse.retry_ms_max);
    settings.page = page;
    settings.node_name = config.server_label();
    settings.run_name = format!("{:016x}", secrets::random()? as u64);
    if config.tls.is_on() {
        let read = |path: &std::path::Path| {
            std::fs::read(path).map_err(|error| {
                let message = format!("cannot read {}: {error}", whole(path));
                BootError::new(message, "check --tls-cert and --tls-key")
            })
        };
        let (cert, key) = (read(&config.tls.cert)?, read(&config.tls.key)?);
        let tls = TlsConfig::from_pem(&cert, &key)
            .map_err(|error| BootError::new(error.to_string(), "check --tls-cert and --tls-key"))?;
        settings.tls = Some(tls);
    }
    Ok(settings)
}
