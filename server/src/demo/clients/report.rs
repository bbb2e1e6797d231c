//! What the process of clients and the supervisor say to each other: one line of JSON each,
//! reports on the child's standard output, orders on its standard input.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where the clients stand; about twice a second.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Report {
    /// Clients that hold a subscription now.
    pub connected: u32,
    /// Since the start.
    pub totals: Totals,
    /// From the making of an event to its receipt, over the last seconds.
    pub latency: Latency,
    /// Since the last [`Order::Round`].
    pub round: Round,
    /// The client that reads as fast as it can.
    pub fast: PeerReport,
    /// The client that does not.
    pub slow: PeerReport,
}

/// What was counted, event by event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Events received.
    pub delivered: u64,
    /// Offsets that a client should have received and never did, announced or not.
    pub lost: u64,
    /// Events that a client received again.
    pub doubled: u64,
    /// Times the server told a client that something is gone.
    pub gaps: u64,
    /// Connections that ended.
    pub cuts: u64,
}

impl Totals {
    /// What came on top of an earlier count.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            delivered: self.delivered - earlier.delivered,
            lost: self.lost - earlier.lost,
            doubled: self.doubled - earlier.doubled,
            gaps: self.gaps - earlier.gaps,
            cuts: self.cuts - earlier.cuts,
        }
    }
}

/// Quantiles in microseconds; none without events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Latency {
    /// The median.
    pub p50_us: Option<u64>,
    /// 99 of 100 are faster.
    pub p99_us: Option<u64>,
}

/// What became of the clients that were there when a round began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Round {
    /// As in the order.
    pub number: u32,
    /// Clients that held a subscription when it began.
    pub of: u32,
    /// Of those: were cut, came back, and the server proved that they missed nothing.
    pub resumed: u32,
    /// Of those: have not received every event that [`Order::Expect`] names; none before that
    /// order came.
    pub behind: Option<u32>,
    /// Counted since it began.
    pub totals: Totals,
}

/// One client by itself.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PeerReport {
    /// It holds a subscription.
    pub connected: bool,
    /// Its own address, by which the server knows it.
    pub address: Option<String>,
    /// Its channel.
    pub channel: String,
    /// The last offset it received.
    pub offset: u64,
    /// Of the newest event it received.
    pub latency_us: Option<u64>,
    /// What it counted.
    pub totals: Totals,
}

/// What the supervisor wants. The end of the input is the order to stop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Begin a round: the server is about to be killed.
    Round(u32),
    /// These offsets exist, by channel: whoever has not received them is behind.
    Expect(BTreeMap<String, u64>),
}
