//! How many connections a pod's memory holds.

use super::inputs::Inputs;
use super::plan::Plan;
use super::server::Server;
use serde::{Deserialize, Serialize};

/// A pod filled with connections.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pod {
    /// The limit of its cgroup.
    pub memory_bytes: f64,
    /// Taken without any connection.
    pub base_bytes: f64,
    /// Of the process, for a connection and its further rooms.
    pub user_bytes: f64,
    /// Of the kernel, for its socket; it counts against the cgroup, too.
    pub kernel_bytes: f64,
    /// Of the process, for TLS.
    pub tls_bytes: f64,
    /// What headroom divides by.
    pub headroom: f64,
    /// Connections that fit, rounded down.
    pub connections: u64,
    /// What a server with default limits allows itself there, if the caller knows: it keeps most of
    /// its memory for outboxes, histories and the like.
    pub allowed: Option<u64>,
}

/// What is said of a pod alone, where nothing was said of a load.
#[derive(Debug, Serialize)]
pub struct PodPlan<'a> {
    /// The pod.
    pub pod: Option<&'a Pod>,
    /// Rooms of a user, whose bytes are in it.
    pub rooms_per_user: f64,
    /// Over TLS.
    pub tls: bool,
    /// The server that runs in it.
    pub server: &'a Server,
}

impl<'a> PodPlan<'a> {
    /// The parts of a plan that are about its pod.
    pub fn of(plan: &'a Plan) -> Self {
        let Inputs { load, wire, server, .. } = &plan.inputs;
        let (rooms_per_user, tls) = (load.rooms_per_user, wire.tls);
        Self { pod: plan.pod.as_ref(), rooms_per_user, tls, server }
    }
}

/// Fills the pod.
pub(super) fn pod(inputs: &Inputs, memory_bytes: f64) -> Pod {
    let bytes = inputs.server.bytes;
    let user_bytes = bytes.user + further_rooms(inputs) * bytes.channel;
    let tls_bytes = if inputs.wire.tls { bytes.tls } else { 0.0 };
    let each = (user_bytes + bytes.kernel + tls_bytes).max(1.0);
    let headroom = inputs.reserve.headroom();
    let fit = (memory_bytes - bytes.base) / each / headroom;
    Pod {
        memory_bytes,
        base_bytes: bytes.base,
        user_bytes,
        kernel_bytes: bytes.kernel,
        tls_bytes,
        headroom,
        connections: fit.floor().max(0.0) as u64,
        allowed: None,
    }
}

/// Rooms of a user beyond the one that a connection's bytes contain.
pub(super) fn further_rooms(inputs: &Inputs) -> f64 {
    (inputs.load.rooms_per_user - 1.0).max(0.0)
}
