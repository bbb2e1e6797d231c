//! HTTP/1.1 without I/O: request heads, bodies, response heads, and the small client half that
//! `tail`, `bench` and the tests need.
//!
//! Everything is incremental and gives the same result for every split of the bytes. A connection
//! between two requests holds no buffer: a head that arrives whole is parsed where it lies and
//! copied once into the [`Request`]; only a partial head is kept, up to [`Limits::head_bytes_max`].
//! Bytes after the head stay with the caller, so pipelining is the caller's loop.
//!
//! The parser is strict where leniency is how requests are smuggled (RFC 9112 section 11.2): line
//! ends are CRLF, a message has one framing, field names end at the colon. Where a browser sends
//! more than the URI grammar allows (`[`, `|`, and `{` in a query), it is taken.
//!
//! Deliberately absent: routing, deadlines and body size limits (the shard's), content codings,
//! and trailers' meaning: they are checked, bounded and dropped.
//! Tested: tables of vectors at every split, see `tests.rs`; fuzzed by `tests/fuzz` `http1`.

mod body;
mod client;
mod error;
mod fields;
mod query;
mod request;
mod response;
mod scan;
mod sniff;
mod target;

#[cfg(test)]
mod tests;

pub use body::{BodyChunk, BodyReader, CHUNK_OVERHEAD_BYTES_MAX};
pub use client::{Response, ResponseBody, ResponseError, ResponseParser};
pub use error::{BodyError, HeadError};
pub use fields::{Fields, has_token, tokens};
pub use query::{DecodeError, QueryPairs, decode_segment, path_segments, query_pairs};
pub use request::{Body, Request, RequestParser};
pub use response::{
    FieldError, Framing, reason_phrase, write_chunk, write_chunk_head, write_continue, write_head,
    write_last_chunk,
};
pub(crate) use response::{write_field, write_status_line};
pub use sniff::{HTTP2_PREFACE, Sniff, Sniffer, sniff};
pub use target::valid_host;

/// What a request head may weigh. The types are the hard ceilings: spans into a head are 16 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The whole head, first line and blank line included; beyond it 431.
    pub head_bytes_max: u16,
    /// The request target; beyond it 414.
    pub target_bytes_max: u16,
    /// The number of field lines; beyond it 431.
    pub headers_max: u16,
}

impl Default for Limits {
    /// What nginx and browsers are used to: 16 KiB heads (cookies), 8 KiB targets, 100 fields.
    fn default() -> Self {
        Self { head_bytes_max: 16 * 1024, target_bytes_max: 8 * 1024, headers_max: 100 }
    }
}

/// Is this byte a `tchar` (RFC 9110 section 5.6.2)?
pub(crate) const fn is_tchar(byte: u8) -> bool {
    matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
        || byte.is_ascii_alphanumeric()
}

/// May this byte stand in a field value: visible, space, tab or obs-text (RFC 9110 section 5.5)?
pub(crate) const fn is_field_byte(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}
