//! What `bench --calibrate` measured on a machine, as the file keeps it.
//!
//! A delivery costs `send_us` for each send to a socket and `message_us` for each message in it:
//! two figures, because messages that wait for the same connection leave in one send. The file is
//! JSON; one that is cut, of another program or with figures that cannot be is refused with what to
//! do, and nothing in it is believed without being checked.

use super::number::plain;
use super::server::Bytes;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The first field of a file: what it is and in which version.
pub const FORMAT: &str = "shardcast calibration 1";

/// A calibrated machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// [`FORMAT`].
    pub format: String,
    /// The processor.
    pub machine: String,
    /// The kernel.
    pub kernel: String,
    /// Of the server.
    pub version: String,
    /// `uring` or `epoll`.
    pub engine: String,
    /// Cores of the machine.
    pub cores: u32,
    /// Memory of the machine.
    pub memory_bytes: f64,
    /// The clients' half of TCP ran on another core, as over a network.
    pub apart: bool,
    /// Connections it was measured with.
    pub connections: u32,
    /// Bytes of a message.
    pub message_bytes: u32,
    /// Tiny sizes: shows that everything runs; the figures mean nothing.
    pub quick: bool,
    /// When, as seconds since 1970.
    pub unix_s: u64,
    /// What is cheap and what is dear.
    pub costs: Costs,
    /// The same over TLS.
    pub tls_costs: Option<Costs>,
    /// Memory.
    pub bytes: Bytes,
    /// What the server's own ledger has for a connection: less than `bytes.user`, which is what the
    /// process grew by, and comparable with a server that runs.
    pub ledger_bytes: f64,
    /// The same with TLS.
    pub tls_ledger_bytes: f64,
    /// Of the CPU above, what the server's own threads used; the rest was the kernel's thread for
    /// soft interrupts, which no figure of a process contains.
    pub process_share: f64,
    /// Median and quartiles of every figure.
    pub spread: Vec<Spread>,
}

/// CPU of one server for one of each, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Costs {
    /// A send to a socket.
    pub send_us: f64,
    /// A message in it.
    pub message_us: f64,
    /// A published event.
    pub ingest_us: f64,
    /// A client that connects and subscribes.
    pub accept_us: f64,
    /// A heartbeat and its answer.
    pub heartbeat_us: f64,
}

/// How a figure spread over the rounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spread {
    /// Which figure.
    pub name: String,
    /// Its unit.
    pub unit: String,
    /// Half of the rounds gave less.
    pub median: f64,
    /// A quarter gave less.
    pub low: f64,
    /// A quarter gave more.
    pub high: f64,
    /// Rounds.
    pub rounds: u32,
}

/// A file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CalibrationError(String);

impl fmt::Display for CalibrationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CalibrationError {}

impl Calibration {
    /// Reads a file's text.
    pub fn parse(text: &str) -> Result<Self, CalibrationError> {
        let again = "make one with `shardcast bench --calibrate calibration.json`";
        let value: serde_json::Value = serde_json::from_str(text)
            .map_err(|error| CalibrationError(format!("it is not JSON ({error}); {again}")))?;
        match value.get("format").and_then(|format| format.as_str()) {
            Some(FORMAT) => {}
            Some(other) => {
                let other: String = other.chars().take(60).collect();
                let message = format!("it is `{other}` and not `{FORMAT}`; {again}");
                return Err(CalibrationError(message));
            }
            None => {
                let message = format!("it is not a calibration (no `format`); {again}");
                return Err(CalibrationError(message));
            }
        }
        let found: Self = serde_json::from_value(value)
            .map_err(|error| CalibrationError(format!("{error}; {again}")))?;
        found.check().map_err(|problem| CalibrationError(format!("{problem}; {again}")))?;
        Ok(found)
    }

    /// As the file's text.
    pub fn to_json(&self) -> String {
        // A struct of numbers and texts has no way to fail.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// Refuses what cannot be. Made once more before a file is written: a machine too busy to
    /// measure must not leave a file behind.
    pub fn check(&self) -> Result<(), String> {
        self.costs.check()?;
        if let Some(costs) = &self.tls_costs {
            costs.check().map_err(|problem| format!("over TLS: {problem}"))?;
        }
        let Bytes { user, kernel, tls, channel, base } = self.bytes;
        for (name, value, most) in [
            ("bytes.user", user, 1e9),
            ("bytes.kernel", kernel, 1e9),
            ("bytes.tls", tls, 1e9),
            ("bytes.channel", channel, 1e9),
            ("bytes.base", base, 1e15),
            ("ledger_bytes", self.ledger_bytes, 1e9),
            ("tls_ledger_bytes", self.tls_ledger_bytes, 1e9),
            ("memory_bytes", self.memory_bytes, 1e18),
        ] {
            within(name, value, 0.0, most)?;
        }
        within("bytes.user + bytes.kernel", user + kernel, 1.0, 1e9)?;
        within("cores", f64::from(self.cores), 1.0, 1e6)?;
        within("process_share", self.process_share, 0.01, 1.0)
    }
}

impl Costs {
    /// Refuses what cannot be.
    pub(super) fn check(&self) -> Result<(), String> {
        let Self { send_us, message_us, ingest_us, accept_us, heartbeat_us } = *self;
        for (name, value) in [
            ("send_us", send_us),
            ("message_us", message_us),
            ("ingest_us", ingest_us),
            ("accept_us", accept_us),
            ("heartbeat_us", heartbeat_us),
        ] {
            within(name, value, 0.0, 1e7)?;
        }
        within("send_us + message_us", send_us + message_us, 1e-4, 1e7)?;
        within("ingest_us", ingest_us, 1e-4, 1e7)?;
        within("accept_us", accept_us, 1e-4, 1e7)
    }
}

fn within(name: &str, value: f64, least: f64, most: f64) -> Result<(), String> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(format!("{name} is {} and must be from {} to {}", value, plain(least), plain(most)))
}
