//! What a plan is made from. Fields that are shares are 1 where they change nothing.

use super::compare::Managed;
use super::server::Server;
use serde::{Deserialize, Serialize};

/// Everything.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inputs {
    /// Who is connected and what is published.
    pub load: Load,
    /// How it travels.
    pub wire: Wire,
    /// What one server can do.
    pub server: Server,
    /// What is kept back.
    pub reserve: Reserve,
    /// What things cost.
    pub prices: Prices,
    /// Services to compare with, at prices that the caller gives.
    pub managed: Vec<Managed>,
    /// Memory of a pod, to be filled with connections.
    pub pod_memory_bytes: Option<f64>,
}

/// Who is connected and what is published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// Users connected at the busiest moment, one connection each.
    pub users: f64,
    /// Rooms that a user is in.
    pub rooms_per_user: f64,
    /// Users in a room.
    pub users_per_room: f64,
    /// Messages that a user publishes in a minute, on average over the day.
    pub messages_per_user_min: f64,
    /// Events that services publish in a second, each to one room, on average over the day.
    pub events_per_s: f64,
    /// Payload of a message.
    pub message_bytes: f64,
    /// A sender does not receive its own message.
    pub skip_sender: bool,
    /// How long a user stays connected if nobody closes the connection, in minutes.
    pub session_min: f64,
    /// How long of it the user does something, in minutes.
    pub active_min: f64,
    /// Connections of users who did nothing for so long are closed.
    pub idle_timeout_min: Option<f64>,
}

impl Load {
    /// The share of the users who hold a connection: with an idle timeout a connection lasts for
    /// the active time and the timeout, and not for the session.
    pub fn connected_share(&self) -> f64 {
        match self.idle_timeout_min {
            Some(timeout) => ((self.active_min + timeout) / self.session_min).min(1.0),
            None => 1.0,
        }
    }

    /// Connections that are open at the busiest moment.
    pub fn connections(&self) -> f64 {
        self.users * self.connected_share()
    }

    /// Rooms there are.
    pub fn rooms(&self) -> f64 {
        self.users * self.rooms_per_user / self.users_per_room
    }

    /// Receivers of a message.
    pub fn recipients(&self) -> f64 {
        let own = if self.skip_sender { 1.0 } else { 0.0 };
        self.users_per_room - own
    }
}

/// How clients are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// WebSocket.
    Ws,
    /// Server-sent events over HTTP/1.1.
    Sse,
}

impl Transport {
    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ws => "WebSocket",
            Self::Sse => "SSE",
        }
    }
}

/// How messages travel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wire {
    /// How clients are connected.
    pub transport: Transport,
    /// Over TLS.
    pub tls: bool,
    /// What is left of a message as a delta; 1 without deltas.
    pub delta: f64,
    /// What is left of it when it is compressed; 1 without.
    pub deflate: f64,
    /// Smaller messages are not compressed (`limits.ws_deflate_bytes_min`).
    pub deflate_bytes_min: f64,
    /// Seconds between two heartbeats.
    pub heartbeat_s: f64,
    /// Messages for one connection are gathered for so long; 0 sends each at once.
    pub batch_ms: f64,
}

/// What is kept back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reserve {
    /// How many times the average the busiest rates are.
    pub peak: f64,
    /// Hours a day that the peak lasts, for the price of a fleet that follows it.
    pub peak_hours: Option<f64>,
    /// Percent on top of the peak.
    pub headroom_percent: f64,
    /// One server more, so that one may be down.
    pub n_minus_1: bool,
}

impl Reserve {
    /// 1.5 for 50 percent.
    pub fn headroom(&self) -> f64 {
        1.0 + self.headroom_percent / 100.0
    }
}

/// What things cost, in one currency.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    /// Stands before amounts.
    pub currency: String,
    /// A server for an hour.
    pub server_hour: Option<f64>,
    /// A gigabyte (10^9 bytes) sent to clients.
    pub per_gb: Option<f64>,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            users: 10_000.0,
            rooms_per_user: 1.0,
            users_per_room: 50.0,
            messages_per_user_min: 1.0,
            events_per_s: 0.0,
            message_bytes: 200.0,
            skip_sender: false,
            session_min: 60.0,
            active_min: 12.0,
            idle_timeout_min: None,
        }
    }
}

impl Default for Wire {
    fn default() -> Self {
        Self {
            transport: Transport::Ws,
            tls: true,
            delta: 1.0,
            deflate: 1.0,
            deflate_bytes_min: 256.0,
            heartbeat_s: 25.0,
            batch_ms: 0.0,
        }
    }
}

impl Default for Reserve {
    fn default() -> Self {
        Self { peak: 2.0, peak_hours: None, headroom_percent: 50.0, n_minus_1: false }
    }
}

impl Default for Prices {
    fn default() -> Self {
        Self { currency: "$".to_owned(), server_hour: None, per_gb: None }
    }
}
