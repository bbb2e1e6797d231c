//! The one table of close reasons: why the server ends a connection, in each protocol's words.
//!
//! Codes 3000-3499 and 4000-4499 invite a client to reconnect, 3500-3999 and 4500-4999 are
//! terminal: the rule that existing SDKs already follow. A reason text is never empty and never
//! valid JSON, because one SDK parses it and another ignores terminal codes without a text. The
//! reference page is generated from this table.

/// Why a connection is closed by the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// Drain or shutdown: come back, somewhere else or in a moment.
    Shutdown,
    /// The outbox is over its budget: the client reads too slowly.
    Slow,
    /// A hole was found in what this connection was sent.
    InsufficientState,
    /// The server is over a memory budget and sheds its newest connections.
    Overload,
    /// A half-open peer: nothing was heard within the time-out.
    NoPong,
    /// A deadline passed: head, body or handshake took too long.
    Timeout,
    /// The bytes break the protocol.
    ProtocolError,
    /// Text that is not UTF-8.
    InvalidUtf8,
    /// A message over the limit.
    MessageTooBig,
    /// The client may not do what it asked.
    PolicyViolation,
    /// The token that opened the connection has expired.
    Expired,
    /// The token is not valid, and a repetition would not be.
    InvalidToken,
    /// The peer closed first, and we answer.
    Normal,
    /// A bug or a dead shard on our side.
    Internal,
}

/// How one reason is said.
#[derive(Debug, Clone, Copy)]
pub struct ReasonRow {
    /// The reason.
    pub reason: CloseReason,
    /// The WebSocket close code (RFC 6455 section 7.4).
    pub ws_code: u16,
    /// The name: metric label, log field and start of the close text.
    pub name: &'static str,
    /// True if the client should reconnect and resume.
    pub resumable: bool,
    /// What a reader of the reference page should know.
    pub help: &'static str,
}

/// Every reason, in the order of the enum.
pub const REASONS: [ReasonRow; 14] = [
    row(CloseReason::Shutdown, 3001, "shutdown", true, "the server drains; reconnect and resume"),
    row(CloseReason::Slow, 3008, "slow", true, "the client read too slowly for its outbox budget"),
    row(
        CloseReason::InsufficientState,
        3010,
        "insufficient state",
        true,
        "continuity could not be proved; reconnect and resume",
    ),
    row(CloseReason::Overload, 3013, "overload", true, "the server sheds load; retry later"),
    row(CloseReason::NoPong, 3012, "no pong", true, "the peer did not answer a ping in time"),
    row(CloseReason::Timeout, 1008, "timeout", true, "a head, body or handshake took too long"),
    row(CloseReason::ProtocolError, 1002, "protocol error", false, "the bytes break the protocol"),
    row(CloseReason::InvalidUtf8, 1007, "invalid utf-8", false, "a text message is not UTF-8"),
    row(CloseReason::MessageTooBig, 1009, "message too big", false, "a message over the limit"),
    row(
        CloseReason::PolicyViolation,
        1008,
        "policy violation",
        false,
        "the namespace or a rate forbids it",
    ),
    row(
        CloseReason::Expired,
        3005,
        "expired",
        true,
        "the token expired; reconnect and resume with a new one",
    ),
    row(
        CloseReason::InvalidToken,
        3500,
        "invalid token",
        false,
        "the token is not valid here; see how it is made",
    ),
    row(CloseReason::Normal, 1000, "normal", false, "the peer closed and the server answered"),
    row(CloseReason::Internal, 1011, "internal", true, "a fault of the server; it has been logged"),
];

const fn row(
    reason: CloseReason,
    ws_code: u16,
    name: &'static str,
    resumable: bool,
    help: &'static str,
) -> ReasonRow {
    ReasonRow { reason, ws_code, name, resumable, help }
}

impl CloseReason {
    /// This reason's row.
    pub fn row(self) -> &'static ReasonRow {
        // The table is total: the test below walks it.
        REASONS.iter().find(|row| row.reason == self).unwrap_or(&REASONS[13])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_row_and_a_safe_text() {
        for row in REASONS {
            assert_eq!(row.reason.row().reason, row.reason);
            assert!(!row.name.is_empty() && row.name.len() <= 40);
            assert!(serde_json::from_str::<serde_json::Value>(row.name).is_err());
        }
    }
}
