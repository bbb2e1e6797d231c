//! What a shard tells about one of its connections when somebody asks. Plain data.

use serde::Serialize;
use std::net::SocketAddr;

/// One connection, as `/debug/connections` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConnectionReport {
    /// Slot and generation.
    pub id: String,
    /// The peer's address.
    pub peer: Option<SocketAddr>,
    /// `http1`, `http2`, `websocket`, `sse`.
    pub protocol: &'static str,
    /// Channels, or the first few of them.
    pub channels: Vec<String>,
    /// Bytes that wait for the socket.
    pub queued_bytes: u64,
    /// Events that wait for the socket.
    pub queued_events: u64,
    /// How long the socket has been full; absent while it is not.
    pub blocked_ms: Option<u64>,
    /// Age of the connection.
    pub age_ms: u64,
    /// Since the peer was last heard.
    pub silent_ms: u64,
    /// Sent so far.
    pub sent_bytes: u64,
    /// Events dropped under `drop_oldest`.
    pub dropped_events: u64,
    /// Why it is in this list, in words.
    pub why: &'static str,
}
