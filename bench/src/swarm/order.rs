//! What passes between the coordinator and a swarm.
//!
//! `rounds R B`: R times, publish B messages at once and wait until every connection has them.
//! `outstanding K M`: keep K messages on their way, M in all. `rate M S`: M messages a second for S
//! seconds, whatever comes back. `hold S`: serve for S seconds. `watch`: from now on reconnect what
//! is closed, at the position it had. `until N T`: serve until everybody has had message N, where a
//! server was there again at T. `scout P`: find a connection to each of P processes behind one
//! port, to publish over all of them from now on. `leave`: reset every connection. `connect`: open
//! them all again.

use crate::child::LineChild;
use crate::histogram::Quantiles;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::net::SocketAddr;

/// Everybody is connected.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Ready {
    pub connections: usize,
    /// From the first connect to the last subscription.
    #[serde(default)]
    pub wall_ns: u64,
}

/// What came of an order.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Messages that should have come, over all connections.
    pub expected: u64,
    /// Messages that came.
    pub received: u64,
    /// Numbers that were skipped.
    pub skipped: u64,
    /// Numbers that came again, or after a later one.
    pub repeated: u64,
    /// Gaps the server admitted.
    pub gaps: u64,
    /// Connections the server closed.
    pub closed: u64,
    /// Connections that were closed and came back.
    pub cuts: u64,
    /// Connections that never got the last message.
    pub behind: u64,
    /// Connections open at the end.
    pub open: u64,
    /// Payloads that are none of ours.
    pub foreign: u64,
    /// Heartbeats and the like that were answered.
    pub replies: u64,
    /// Messages published.
    pub published: u64,
    /// How long it took.
    pub wall_ns: u64,
    /// From the intended send to the read, of each delivery.
    pub latency: Quantiles,
    /// From the intended send to the read of the last subscriber.
    pub completion: Quantiles,
    /// From a cut to the server's word that nothing is missing.
    pub recovery: Quantiles,
    /// The same from when there was a server to come back to.
    pub recovery_of_ready: Quantiles,
}

impl Tally {
    /// Messages that never came.
    pub fn lost(&self) -> u64 {
        self.expected.saturating_sub(self.received)
    }

    /// Adds another order's counts; latencies are kept apart.
    pub fn add(&mut self, other: &Self) {
        self.expected += other.expected;
        self.received += other.received;
        self.skipped += other.skipped;
        self.repeated += other.repeated;
        self.gaps += other.gaps;
        self.closed += other.closed;
        self.cuts += other.cuts;
        self.behind += other.behind;
        self.foreign += other.foreign;
        self.replies += other.replies;
        self.published += other.published;
        self.wall_ns += other.wall_ns;
    }

    /// One line on what went wrong, or that nothing did.
    pub fn integrity(&self) -> String {
        format!(
            "lost {}, out of order {}, doubled {}, closed {}",
            self.lost(),
            self.skipped,
            self.repeated,
            self.closed
        )
    }
}

/// Writes an answer.
pub fn say(answer: &impl Serialize) -> Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, answer)?;
    writeln!(out)?;
    Ok(out.flush()?)
}

/// The coordinator's end.
#[derive(Debug)]
pub struct SwarmHandle(LineChild);

impl SwarmHandle {
    /// Starts a swarm on a core; returns when every connection is subscribed.
    pub fn start(
        core: usize,
        target: SocketAddr,
        connections: usize,
        more: &[String],
    ) -> Result<Self> {
        let mut arguments = vec![
            "swarm".to_owned(),
            format!("--target={target}"),
            format!("--connections={connections}"),
        ];
        arguments.extend_from_slice(more);
        let mut child = LineChild::start(core, &arguments)?;
        let _: Ready = child.answer()?;
        Ok(Self(child))
    }

    /// Gives an order and waits for what comes of it.
    pub fn ask(&mut self, order: &str) -> Result<Tally> {
        self.0.ask(order)
    }

    /// From now on, what is closed comes back.
    pub fn watch(&mut self) -> Result<()> {
        let _: Ready = self.0.ask("watch")?;
        Ok(())
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.0.pid()
    }
}
