//! What one server can do: as given, by a profile, or as measured.

use super::calibration::{Calibration, Costs};
use serde::{Deserialize, Serialize};
use std::sync::LazyLock;

/// One server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Where its figures come from.
    pub name: String,
    /// Connections it may hold.
    pub connections: Option<f64>,
    /// Messages it takes in a second, where that is known and not computed.
    pub in_per_s: Option<f64>,
    /// Messages it delivers in a second, likewise.
    pub out_per_s: Option<f64>,
    /// Cores that carry the load.
    pub cores: f64,
    /// What one of each costs in CPU, where that is known.
    pub costs: Option<Costs>,
    /// The same over TLS.
    pub tls_costs: Option<Costs>,
    /// Its network, each way.
    pub link_gbps: Option<f64>,
    /// Its memory.
    pub memory_bytes: Option<f64>,
    /// What its memory goes to.
    pub bytes: Bytes,
    /// Connections that the memory budget of `serve` has room for, where the memory is known.
    #[serde(default)]
    pub admitted: Option<Admitted>,
    /// Bytes of the messages that the costs were measured with.
    #[serde(default)]
    pub costs_message_bytes: Option<f64>,
}

/// Connections that the memory budget of a server has room for: it keeps most of its memory for
/// outboxes, histories and the like, and takes no more. The caller knows the budget.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admitted {
    /// Without TLS.
    pub plain: f64,
    /// With it.
    pub tls: f64,
}

/// Memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bytes {
    /// Of the process, for a connection with its first subscription.
    pub user: f64,
    /// Of the kernel, for its socket.
    pub kernel: f64,
    /// Of the process, for TLS on it.
    pub tls: f64,
    /// Of the process, for a room that has a subscriber on the server.
    pub channel: f64,
    /// Of the process, without any connection.
    pub base: f64,
}

/// A kind of machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Profile {
    /// Its name.
    pub name: &'static str,
    /// Its cores.
    pub cores: f64,
    /// Its memory.
    pub memory_bytes: f64,
    /// Its network.
    pub link_gbps: f64,
    /// What it is for.
    pub help: &'static str,
}

const GIB: f64 = 1_073_741_824.0;

/// The profiles. What one of each operation costs is the reference calibration's in all of them.
pub const PROFILES: [Profile; 5] = [
    row("small", 2.0, 4.0, 1.0, "a small virtual machine"),
    row("standard", 8.0, 16.0, 10.0, "the usual machine"),
    row("large", 32.0, 64.0, 25.0, "many connections on few machines"),
    row("edge", 4.0, 8.0, 5.0, "near the clients, many of them"),
    row("ingest-heavy", 16.0, 64.0, 10.0, "much comes in, little goes out"),
];

const fn row(
    name: &'static str,
    cores: f64,
    gib: f64,
    link_gbps: f64,
    help: &'static str,
) -> Profile {
    Profile { name, cores, memory_bytes: gib * GIB, link_gbps, help }
}

/// The profile of that name.
pub fn profile(name: &str) -> Option<&'static Profile> {
    PROFILES.iter().find(|profile| profile.name == name)
}

/// Measured on the machine of docs/internals/benchmarks.md with `bench --calibrate`.
static REFERENCE: LazyLock<Calibration> = LazyLock::new(|| {
    Calibration::parse(include_str!("reference.json"))
        .expect("the embedded calibration is one; a test parses it")
});

impl Server {
    /// Nothing is known but what is given later.
    pub fn given() -> Self {
        Self {
            name: "as given".to_owned(),
            connections: None,
            in_per_s: None,
            out_per_s: None,
            cores: 1.0,
            costs: None,
            tls_costs: None,
            link_gbps: None,
            memory_bytes: None,
            bytes: REFERENCE.bytes,
            admitted: None,
            costs_message_bytes: None,
        }
    }

    /// A machine of a profile with the costs of the reference calibration.
    pub fn of_profile(profile: &Profile) -> Self {
        Self {
            name: format!("profile {}", profile.name),
            connections: Some(DESCRIPTORS),
            cores: profile.cores,
            costs: Some(REFERENCE.costs),
            tls_costs: REFERENCE.tls_costs,
            costs_message_bytes: Some(f64::from(REFERENCE.message_bytes)),
            link_gbps: Some(profile.link_gbps),
            memory_bytes: Some(profile.memory_bytes),
            ..Self::given()
        }
    }

    /// The machine that was calibrated. Its network is not known.
    pub fn measured(found: &Calibration) -> Self {
        Self {
            name: format!("measured on {}", found.machine),
            connections: Some(DESCRIPTORS),
            in_per_s: None,
            out_per_s: None,
            cores: f64::from(found.cores),
            costs: Some(found.costs),
            tls_costs: found.tls_costs,
            link_gbps: None,
            memory_bytes: Some(found.memory_bytes),
            bytes: found.bytes,
            admitted: None,
            costs_message_bytes: Some(f64::from(found.message_bytes)),
        }
    }

    /// Connections that its budget has room for.
    pub(super) fn admits(&self, tls: bool) -> Option<f64> {
        self.admitted.map(|it| if tls { it.tls } else { it.plain })
    }

    /// The costs that apply.
    pub(super) fn costs(&self, tls: bool) -> Option<Costs> {
        if tls { self.tls_costs.or(self.costs) } else { self.costs }
    }

    /// Bytes of a connection, its rooms left out.
    pub(super) fn connection_bytes(&self, tls: bool) -> f64 {
        let tls = if tls { self.bytes.tls } else { 0.0 };
        self.bytes.user + self.bytes.kernel + tls
    }
}

/// Descriptors of a process unless somebody raised `fs.nr_open`.
const DESCRIPTORS: f64 = 1_048_576.0;
