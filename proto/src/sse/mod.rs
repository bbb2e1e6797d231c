//! Server-sent events (WHATWG HTML, section 9.2): the writer, and the parser that `tail`, `bench`
//! and the tests use.
//!
//! Invariant of the writer: no text that a publisher chose can end a line, start a field or fire
//! a browser's own handler. Data is split at CR, LF and CRLF into `data:` lines, ids and types
//! with a line break or NUL are refused, and the types `error` and `open` get a prefix.
//!
//! Deliberately absent: HTTP framing, positions, coalescing; also escaping of data: text that
//! must survive byte for byte goes as JSON (`?format=envelope`).
//! Tested: against the parser at every split of the bytes, see `tests.rs`; fuzzed by `tests/fuzz`
//! `sse`.

mod parser;
mod writer;

#[cfg(test)]
mod tests;

pub use parser::{Event, ParseError, Parser};
pub use writer::{
    HEARTBEAT, SseError, wire_type, write_comment, write_data, write_event, write_heartbeat,
    write_id, write_retry,
};

/// What our own event types start with; published types must not.
pub const RESERVED_PREFIX: &str = "shardcast.";

/// Events were missed and cannot be sent; the data says which.
pub const EVENT_GAP: &str = "shardcast.gap";

/// Everything that was missed follows, or has been sent.
pub const EVENT_RECOVERED: &str = "shardcast.recovered";

/// Something the client should know: a run was dropped, the server drains.
pub const EVENT_NOTICE: &str = "shardcast.notice";

/// Is the type one that only the server may send?
pub fn is_reserved(kind: &str) -> bool {
    kind.starts_with(RESERVED_PREFIX)
}
