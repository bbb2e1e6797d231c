//! Inputs that make no sense are refused before anything is computed, each with the flag that gave
//! it and what it may be. NaN and infinities lie outside every range, and the ranges are such that
//! no product of them overflows.

use super::inputs::Inputs;
use super::number::plain;
use std::fmt;

/// An input that cannot be planned with.
#[derive(Debug, Clone, PartialEq)]
pub struct InputError {
    /// The flag that gives it.
    pub flag: &'static str,
    /// What is wrong, and what to do.
    pub message: String,
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.flag, self.message)
    }
}

impl std::error::Error for InputError {}

impl InputError {
    pub(super) fn new(flag: &'static str, message: impl Into<String>) -> Self {
        Self { flag, message: message.into() }
    }
}

/// Checks everything; the first problem in the order of the flags.
pub(super) fn check(inputs: &Inputs) -> Result<(), InputError> {
    let Inputs { load, wire, server, reserve, prices, managed, pod_memory_bytes } = inputs;
    range("--users", load.users, 1.0, 1e12)?;
    range("--rooms-per-user", load.rooms_per_user, 0.001, 1e6)?;
    range("--users-per-room", load.users_per_room, 1.0, 1e12)?;
    range("--messages-per-user-min", load.messages_per_user_min, 0.0, 1e9)?;
    range("--events-per-s", load.events_per_s, 0.0, 1e12)?;
    range("--message-bytes", load.message_bytes, 1.0, 1e9)?;
    range("--session-min", load.session_min, 0.01, 1e6)?;
    range("--active-min", load.active_min, 0.0, 1e6)?;
    optional("--idle-timeout-min", load.idle_timeout_min, 0.1, 1e6)?;
    range("--delta", wire.delta, 0.001, 1.0)?;
    range("--deflate", wire.deflate, 0.001, 1.0)?;
    range("--deflate-bytes-min", wire.deflate_bytes_min, 0.0, 1e9)?;
    range("--heartbeat-s", wire.heartbeat_s, 1.0, 1e6)?;
    range("--batch-ms", wire.batch_ms, 0.0, 60_000.0)?;
    optional("--server-connections", server.connections, 1.0, 1e12)?;
    optional("--server-in", server.in_per_s, 0.001, 1e15)?;
    optional("--server-out", server.out_per_s, 0.001, 1e15)?;
    optional("--server-gbps", server.link_gbps, 1e-6, 1e6)?;
    optional("--server-memory", server.memory_bytes, 1.0, 1e18)?;
    range("--server-cores", server.cores, 0.01, 1e6)?;
    range("bytes of a connection", server.bytes.user, 0.0, 1e9)?;
    range("kernel bytes of a connection", server.bytes.kernel, 0.0, 1e9)?;
    range("TLS bytes of a connection", server.bytes.tls, 0.0, 1e9)?;
    range("bytes of a channel", server.bytes.channel, 0.0, 1e9)?;
    range("bytes of the process", server.bytes.base, 0.0, 1e15)?;
    if let Some(admitted) = server.admitted {
        // A server that holds nobody does not start.
        range("--server-memory", admitted.plain, 1.0, 1e12)?;
        range("--server-memory", admitted.tls, 1.0, 1e12)?;
    }
    optional("bytes of the messages measured", server.costs_message_bytes, 1.0, 1e9)?;
    for costs in server.costs.iter().chain(&server.tls_costs) {
        costs.check().map_err(|problem| InputError::new("--measured", problem))?;
    }
    range("--peak", reserve.peak, 1.0, 1_000.0)?;
    optional("--peak-hours", reserve.peak_hours, 0.01, 23.99)?;
    range("--headroom", reserve.headroom_percent, 0.0, 1_000.0)?;
    optional("--price-server-hour", prices.server_hour, 0.0, 1e6)?;
    optional("--price-gb", prices.per_gb, 0.0, 1e6)?;
    optional("--pod-memory", *pod_memory_bytes, 1.0, 1e18)?;
    managed.iter().try_for_each(|service| service.check())?;
    together(inputs)
}

/// Values that are possible by themselves only.
fn together(inputs: &Inputs) -> Result<(), InputError> {
    let Inputs { load, server, reserve, .. } = inputs;
    if load.skip_sender && load.users_per_room < 2.0 {
        let message = "a room of one has no receivers when the sender is skipped; give at least 2";
        return Err(InputError::new("--users-per-room", message));
    }
    if load.users_per_room > load.users * load.rooms_per_user {
        let message = format!(
            "{} users in a room are more than {} users in {} rooms each can fill",
            plain(load.users_per_room),
            plain(load.users),
            plain(load.rooms_per_user)
        );
        return Err(InputError::new("--users-per-room", message));
    }
    if load.active_min > load.session_min {
        let message = format!(
            "a user cannot be active for {} of {} minutes; lower it, or raise --session-min",
            plain(load.active_min),
            plain(load.session_min)
        );
        return Err(InputError::new("--active-min", message));
    }
    if reserve.headroom_percent > 0.0 && reserve.headroom_percent < 1.0 {
        let message = format!(
            "it is in percent: {} would be less than a hundredth; write {} for {} times the peak",
            plain(reserve.headroom_percent),
            plain(reserve.headroom_percent * 100.0),
            plain(1.0 + reserve.headroom_percent)
        );
        return Err(InputError::new("--headroom", message));
    }
    if let Some(hours) = reserve.peak_hours.filter(|hours| hours * reserve.peak > 24.0) {
        let message = format!(
            "{} hours at {} times the average are more than the whole day's {} hours of average; \
             lower one of --peak and --peak-hours",
            plain(hours),
            plain(reserve.peak),
            24
        );
        return Err(InputError::new("--peak-hours", message));
    }
    let small = server.memory_bytes.filter(|bytes| *bytes <= server.bytes.base);
    if let Some(bytes) = small.or(inputs.pod_memory_bytes.filter(|it| *it <= server.bytes.base)) {
        let flag = if small.is_some() { "--server-memory" } else { "--pod-memory" };
        let message = format!(
            "{} bytes are not more than the {} that a server takes without any connection",
            plain(bytes),
            plain(server.bytes.base)
        );
        return Err(InputError::new(flag, message));
    }
    Ok(())
}

pub(super) fn range(
    flag: &'static str,
    value: f64,
    least: f64,
    most: f64,
) -> Result<(), InputError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    let message = format!("{} is not from {} to {}", plain(value), plain(least), plain(most));
    Err(InputError::new(flag, message))
}

fn optional(
    flag: &'static str,
    value: Option<f64>,
    least: f64,
    most: f64,
) -> Result<(), InputError> {
    value.map_or(Ok(()), |value| range(flag, value, least, most))
}
