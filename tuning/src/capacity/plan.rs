//! What a plan says. Everything is kept as it was computed, so that JSON has the whole of it.

use super::compare::{Compared, Discount};
use super::effects::{Effect, Growth};
use super::inputs::Inputs;
use super::pod::Pod;
use serde::{Deserialize, Serialize};

/// How many servers, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Servers to run, the spare one included.
    pub servers: u64,
    /// Of them, so many may be down.
    pub spare: u64,
    /// The dimension that wants most.
    pub limiting: String,
    /// Each thing that servers run out of.
    pub dimensions: Vec<Dimension>,
    /// Messages and bytes.
    pub traffic: Traffic,
    /// Memory of all connections.
    pub memory: Memory,
    /// What it costs, where prices were given.
    pub cost: Option<Cost>,
    /// What one change alone would do.
    pub effects: Vec<Effect>,
    /// Discounts that others report, applied to this cost.
    pub discounts: Vec<Discount>,
    /// Managed services, at the prices given.
    pub managed: Vec<Compared>,
    /// The same load with fewer and more users.
    pub growth: Vec<Growth>,
    /// Connections in a pod, where its memory was given.
    pub pod: Option<Pod>,
    /// What a reader must know to judge the figures.
    pub notes: Vec<String>,
    /// What it was made from.
    pub inputs: Inputs,
}

/// A thing that servers run out of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dimension {
    /// Its name.
    pub name: String,
    /// Servers' worth at average rates.
    pub average: f64,
    /// The same at the peak.
    pub peak: f64,
    /// The same with headroom: the sum of the terms.
    pub ratio: f64,
    /// The ratio rounded up.
    pub servers: u64,
    /// How full the planned servers are at the peak, in this.
    pub used_at_peak: f64,
    /// The parts of the sum.
    pub terms: Vec<Term>,
}

/// A product.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Term {
    /// What it is of.
    pub name: String,
    /// In the order in which they are multiplied.
    pub factors: Vec<Factor>,
    /// Their product.
    pub ratio: f64,
}

/// A factor of a product.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Factor {
    /// What it is.
    pub name: String,
    /// Whether it is multiplied or divided by.
    pub op: Op,
    /// Its value.
    pub value: f64,
    /// Where it belongs.
    pub stage: Stage,
}

/// What is done with a factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// Multiplied by.
    Times,
    /// Divided by.
    Over,
}

/// In which column a factor shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// The load on average.
    Average,
    /// The peak.
    Peak,
    /// The headroom.
    Headroom,
}

impl Factor {
    /// A product so far, and this factor.
    pub fn apply(&self, product: f64) -> f64 {
        match self.op {
            Op::Times => product * self.value,
            Op::Over => product / self.value,
        }
    }
}

impl Term {
    /// The product of the factors up to a stage.
    pub fn up_to(&self, stage: Stage) -> f64 {
        let factors = self.factors.iter().filter(|factor| factor.stage <= stage);
        factors.fold(1.0, |product, factor| factor.apply(product))
    }
}

/// Messages and bytes, on average over the day unless it says peak.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Traffic {
    /// Connections open at the busiest moment.
    pub connections: f64,
    /// Rooms.
    pub rooms: f64,
    /// Receivers of a message.
    pub recipients: f64,
    /// Messages and events published, a second.
    pub in_per_s: f64,
    /// Messages delivered, a second.
    pub out_per_s: f64,
    /// Heartbeats, a second.
    pub heartbeats_per_s: f64,
    /// Clients that connect, a second.
    pub connects_per_s: f64,
    /// Clients that come back at once when a server fails.
    pub cut_by_one_server: f64,
    /// Messages in one send.
    pub batch: f64,
    /// A delivered message on the wire.
    pub message: Vec<WirePart>,
    /// The sum of those.
    pub message_bytes_on_link: f64,
    /// Payload alone, bits a second.
    pub payload_bits_per_s: f64,
    /// Everything that is sent, bits a second.
    pub out_bits_per_s: f64,
    /// The same at the peak.
    pub out_bits_per_s_peak: f64,
    /// Everything that is received, bits a second.
    pub in_bits_per_s: f64,
    /// Payload alone in 30 days.
    pub payload_bytes_month: f64,
    /// What a provider counts in 30 days: without Ethernet.
    pub billed_bytes_month: f64,
}

/// A part of a message on the wire.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WirePart {
    /// What it is.
    pub name: String,
    /// On average for a message.
    pub bytes: f64,
}

/// Memory over all servers, at the busiest moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// Of the processes, for connections and rooms.
    pub user_bytes: f64,
    /// Of the kernel, for sockets.
    pub kernel_bytes: f64,
    /// Of the processes, without any connection.
    pub base_bytes: f64,
    /// Everything, for each connection.
    pub bytes_per_connection: f64,
}

/// What 30 days cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// All servers, all the time.
    pub servers: f64,
    /// Bytes to clients.
    pub transfer: f64,
    /// Both.
    pub total: f64,
    /// For each connection.
    pub per_connection: f64,
    /// For a million messages delivered.
    pub per_million_messages: f64,
    /// With servers that follow the peak.
    pub elastic: Option<Elastic>,
}

/// A fleet that follows the peak.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Elastic {
    /// Rates outside of the peak, of the average.
    pub rest: f64,
    /// Servers outside of the peak.
    pub servers_rest: u64,
    /// The servers' cost then.
    pub servers: f64,
}
