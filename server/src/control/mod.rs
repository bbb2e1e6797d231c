//! The admin listener: metrics, debugging, drain, health. A different program in the same process.
//!
//! It has one thread with a tokio runtime of its own, and touches the data plane only through
//! three things: snapshot slots that shards fill, [`ControlPort`]s that shards empty, and the
//! [`Operator`] that boot implements. A shard never waits for it, and it never waits for a shard
//! longer than [`REPLY_TIMEOUT`].
//!
//! Everything a client can do here is bounded: connections, head and body size, time to send a
//! head, time for a request, life of a connection. On loopback the Host must be a loopback name,
//! so that a page whose name was rebound to 127.0.0.1 reads nothing, and no foreign origin is
//! answered at all. Where a token is configured, and beyond loopback one must be, everything but
//! `/health/live` and `/health/ready` needs it ([`AdminAccess`]).
//!
//! Deliberately absent: TLS, HTTP/2.
//! Tested through real sockets; time-outs under tokio's paused clock.

mod cost;
pub mod key_set;
mod listener;
pub mod port;
pub mod readiness;
mod routes;
mod storage;

pub use cost::SharedWatch;
pub use listener::{AdminServer, bind};
pub use port::{ControlCommand, ControlPort, DrainOrder, Reply};
pub use readiness::{Readiness, State};

use crate::auth::{Auth, Secret};
use crate::config::Config;
use crate::config::budget::Budget;
use crate::metrics::{ShardSnapshot, SnapshotSlot, StorageSnapshot};
use std::sync::Arc;
use std::time::Duration;

/// What boot does when the admin listener asks.
pub trait Operator: Send + Sync + 'static {
    /// Starts draining; false if it was under way already (a new rate still takes effect).
    fn drain(&self, order: DrainOrder) -> bool;
}

/// The storage side, as the admin listener sees it.
pub trait StorageView: Send + Sync + 'static {
    /// Its figures now.
    fn read(&self) -> StorageSnapshot;
}

/// One shard, as the admin listener sees it.
#[derive(Clone)]
pub struct ShardHandle {
    /// Filled by the shard about once a second.
    pub snapshot: Arc<SnapshotSlot<ShardSnapshot>>,
    /// Emptied by the shard every turn.
    pub port: Arc<ControlPort>,
}

/// What opens the admin listener; nothing is needed if neither is configured.
#[derive(Debug, Clone, Default)]
pub struct AdminAccess {
    /// The configured token.
    pub token: Option<Secret>,
    /// Has the API keys, some of which may be an administrator's.
    pub auth: Option<Arc<Auth>>,
    /// Other machines reach the listener.
    pub is_remote: bool,
}

impl AdminAccess {
    /// True if a request needs a token. A key that is an administrator's on the public listener
    /// does not lock out who is on this machine: only the token does.
    pub fn is_closed(&self) -> bool {
        let has_admin = || self.auth.as_ref().is_some_and(|auth| auth.keys.has_admin());
        self.token.is_some() || self.is_remote && has_admin()
    }

    /// True if this one opens it. Compared by hashes, so that the time says nothing about it.
    pub fn opens(&self, shown: &str) -> bool {
        let own = |token: &Secret| crate::auth::is_same(token.reveal(), shown);
        let key = |auth: &Arc<Auth>| auth.keys.find(shown).is_some_and(|key| key.is_admin());
        self.token.as_ref().is_some_and(own) || self.auth.as_ref().is_some_and(key)
    }
}

/// Everything the admin listener answers from.
#[derive(Clone)]
pub struct Context {
    /// Who may ask.
    pub admin: AdminAccess,
    /// The configuration.
    pub config: Arc<Config>,
    /// The plan that the ledger is compared with.
    pub budget: Arc<Budget>,
    /// In order of their ids.
    pub shards: Vec<ShardHandle>,
    /// What the storage thread counts.
    pub storage: Arc<dyn StorageView>,
    /// Shared with the shards, which answer `/health/*` too.
    pub readiness: Arc<Readiness>,
    /// What things cost at the moment.
    pub cost: SharedWatch,
    /// Carries out what was asked.
    pub operator: Arc<dyn Operator>,
}

/// How long a question to a shard may take. A shard in a very long turn is missing from the answer,
/// by name.
pub const REPLY_TIMEOUT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
