//! What the machine should carry, and what only the server or a measurement can say about it.
//!
//! Every requirement of `check` is computed from a [`Target`]; nothing in `check` is a constant of
//! the kind "set this to 65535". What cannot be read from a file comes in as [`Measured`], taken
//! before the checks run, so that the checks are functions of data: `tuning` needs no unsafe code
//! to probe io_uring, and tests put in what they like.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// What is asked of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Clients connected at once.
    pub connections: u64,
    /// Shard threads.
    pub shards: u32,
    /// Memory that the server may plan with, if somebody said so.
    pub memory_planned_bytes: Option<u64>,
    /// Seconds between two heartbeats to an idle client.
    pub heartbeat_s: u32,
    /// Seconds after which the load balancer in front closes an idle connection.
    pub lb_timeout_s: Option<u32>,
    /// Clients that come back in a second after everybody was cut.
    pub connects_per_s: u64,
    /// Which I/O engine is wanted.
    pub engine: EngineWanted,
    /// Bytes the kernel may hold unsent for one client.
    pub unsent_bytes_max: u64,
    /// Bytes of the spool at most, and where it is.
    pub spool_bytes_max: u64,
    /// The folder of the spool.
    pub data_dir: PathBuf,
    /// Ports the server listens on.
    pub listen_ports: Vec<u16>,
    /// Descriptors the server keeps for itself.
    pub descriptors_reserved: u64,
    /// Bytes of one shard's ring, where the kernel counts rings as locked memory.
    pub ring_bytes: u64,
    /// What the kernel counts `tcp_mem` in.
    pub page_bytes: u64,
    /// Whose limits are looked at: a running server's, or this process's own.
    pub process: Option<u32>,
}

/// The I/O engine that the configuration asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineWanted {
    /// io_uring if it can be had.
    Auto,
    /// io_uring or no start.
    Uring,
    /// epoll.
    Epoll,
}

impl Target {
    /// A target of so many connections and shards, with the server's own defaults for the rest.
    pub fn new(connections: u64, shards: u32) -> Self {
        Self {
            connections,
            shards: shards.max(1),
            memory_planned_bytes: None,
            heartbeat_s: 25,
            lb_timeout_s: None,
            connects_per_s: Self::storm(connections),
            engine: EngineWanted::Auto,
            unsent_bytes_max: 128 << 10,
            spool_bytes_max: 10 << 30,
            data_dir: PathBuf::from("./shardcast-data"),
            listen_ports: vec![8000, 9000],
            descriptors_reserved: 168 + u64::from(shards) * 9,
            ring_bytes: 1_184 << 10,
            page_bytes: 4_096,
            process: None,
        }
    }

    /// The rate at which everybody comes back after a cut: client libraries wait up to about 20
    /// seconds, at random (centrifuge-js: 0.5 to 20 s).
    pub fn storm(connections: u64) -> u64 {
        connections.div_ceil(RECONNECT_SPREAD_S).max(100)
    }

    /// Descriptors the server opens at the target.
    pub fn descriptors(&self) -> u64 {
        self.connections.saturating_add(self.descriptors_reserved)
    }

    /// The descriptor limit to ask for, rounded up: a few clients more are no new unit file.
    pub fn descriptors_limit(&self) -> u64 {
        self.descriptors().div_ceil(10_000).saturating_mul(10_000)
    }

    /// The folder under `/proc` of the process whose limits count.
    pub(crate) fn process_dir(&self) -> String {
        self.process.map_or_else(|| "/proc/self".to_owned(), |pid| format!("/proc/{pid}"))
    }
}

/// Pending connections that the server asks the kernel to keep; it clamps this to
/// `net.core.somaxconn`.
pub const LISTEN_BACKLOG: u16 = 65_535;

/// Seconds over which clients come back.
const RECONNECT_SPREAD_S: u64 = 20;

/// What no file says. Each is either known or has the reason why not.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// Whether a ring with the server's features works here.
    pub uring: UringProbe,
    /// How many connections the memory budget of the server has room for.
    pub connections_by_memory: Room,
    /// What `ethtool` printed, by its arguments, such as `-g eth0`.
    pub ethtool: BTreeMap<String, Result<String, String>>,
    /// The file system of the spool.
    pub space: Result<Space, String>,
    /// How long a sync of a small write takes there.
    pub sync: Result<SyncTime, String>,
}

impl Measured {
    /// Nothing was tried, for this reason.
    pub fn nothing(why: &str) -> Self {
        let why = || why.to_owned();
        Self {
            uring: UringProbe::NotTried(why()),
            connections_by_memory: Room::NotTried(why()),
            ethtool: BTreeMap::new(),
            space: Err(why()),
            sync: Err(why()),
        }
    }
}

/// What the server's memory budget makes of the memory there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Room {
    /// It has room for so many clients.
    Clients(u64),
    /// No budget can be derived from it: the server would not start.
    NoStart(String),
    /// Nobody tried.
    NotTried(String),
}

/// What became of an attempt to build a ring and use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UringProbe {
    /// It works, with every feature that the server needs.
    Works,
    /// It does not; the server runs on epoll.
    Unavailable { cause: String, remedy: String },
    /// Nobody tried.
    NotTried(String),
}

/// Room on a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Free for this user.
    pub free_bytes: u64,
    /// Used by the spool already, which it may go on using.
    pub spool_bytes: u64,
}

/// Times of a write and fdatasync.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SyncTime {
    /// How many were tried.
    pub tries: u32,
    /// The one in the middle, in milliseconds.
    pub median_ms: f64,
    /// The slowest.
    pub worst_ms: f64,
}
