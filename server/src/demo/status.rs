//! What the page is told about the demo itself: `demo:status` when it changes, `demo:stats` every
//! second.

use super::clients::report::{PeerReport, Report};
use serde::Serialize;

/// What the supervisor is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The clients connect for the first time.
    Starting,
    /// All is well; the button may be pressed.
    Running,
    /// The server is dead.
    Killed,
    /// The new one serves; clients come back.
    Resuming,
}

/// The state of the demo.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    pub phase: Phase,
    /// Of the server.
    pub pid: u32,
    pub clients: u32,
    /// Times the server was killed, by the button or otherwise.
    pub kills: u32,
    /// Clients that are back, of those that were cut.
    pub resumed: u32,
    pub of: u32,
    /// The last few.
    pub verdicts: Vec<Verdict>,
    pub feeds: FeedNotes,
}

/// What each feed has to say about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FeedNotes {
    pub system: String,
    pub orders: String,
}

/// The outcome of a kill. Everything in it was counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    pub kill: u32,
    pub resumed: u32,
    pub of: u32,
    pub lost: u64,
    pub doubled: u64,
    pub gaps: u64,
    pub acknowledged: u64,
    pub missing: u64,
    pub stored_twice: u64,
    pub listening_ms: u64,
    pub resumed_ms: u64,
    /// False if time ran out first.
    pub finished: bool,
}

impl Verdict {
    /// For the terminal, in the page's words.
    pub fn line(&self) -> String {
        let Self { kill, resumed, of, lost, doubled, missing, stored_twice, .. } = self;
        let stored = match (missing, stored_twice) {
            (0, 0) => "acknowledged = stored".to_owned(),
            _ => format!("{missing} acknowledged events missing, {stored_twice} stored twice"),
        };
        let late = if self.finished { "" } else { " (time ran out)" };
        format!(
            "kill {kill}: resumed {resumed} of {of}, lost {lost}, doubled {doubled}, {stored}{late}"
        )
    }
}

/// The figures of a second.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stats {
    pub connections: u64,
    pub connection_bytes: Option<u64>,
    pub resident_bytes: u64,
    pub deliveries_per_s: u64,
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    pub lost: u64,
    pub doubled: u64,
    pub engine: String,
    pub shards: u32,
    pub outbox_bytes_max: u64,
    pub slow_bytes_per_s: u32,
    pub fast: Peer,
    pub slow: Peer,
}

/// One of the two clients that are compared.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Peer {
    pub connected: bool,
    pub queued_bytes: u64,
    pub queued_events: u64,
    /// Dropped for it by the server since it connected, and named to it.
    pub dropped_events: u64,
    /// Events between the newest acknowledged one and the last one it has.
    pub behind: u64,
    pub latency_ms: Option<f64>,
    pub cuts: u64,
}

impl Peer {
    /// From its own report, and what the server says of its connection.
    pub fn new(report: &PeerReport, top: u64, queue: Queue) -> Self {
        Self {
            connected: report.connected,
            queued_bytes: queue.bytes,
            queued_events: queue.events,
            dropped_events: queue.dropped,
            behind: top.saturating_sub(report.offset),
            latency_ms: report.latency_us.map(milliseconds),
            cuts: report.totals.cuts,
        }
    }
}

/// What waits on the server for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Queue {
    pub bytes: u64,
    pub events: u64,
    pub dropped: u64,
}

/// Microseconds as milliseconds with two digits behind the point.
pub fn milliseconds(us: u64) -> f64 {
    (us as f64 / 10.0).round() / 100.0
}

/// Deliveries per second between two reports.
pub fn deliveries_per_s(earlier: &Report, now: &Report, seconds: f64) -> u64 {
    let delivered = now.totals.delivered.saturating_sub(earlier.totals.delivered);
    (delivered as f64 / seconds.max(0.001)).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_never_hides_a_loss() {
        let clean = Verdict {
            kill: 2,
            resumed: 5_000,
            of: 5_000,
            lost: 0,
            doubled: 0,
            gaps: 0,
            acknowledged: 900,
            missing: 0,
            stored_twice: 0,
            listening_ms: 300,
            resumed_ms: 2_000,
            finished: true,
        };
        let line = "kill 2: resumed 5000 of 5000, lost 0, doubled 0, acknowledged = stored";
        assert_eq!(clean.line(), line);
        let missing = Verdict { missing: 1, finished: false, ..clean };
        assert!(
            missing
                .line()
                .ends_with("1 acknowledged events missing, 0 stored twice (time ran out)")
        );
    }
}
