//! Publish bodies into events: which decoder reads a request, and what every decoder shares.
//!
//! - `json`: one envelope, or an array of them, in a buffered body; CloudEvents batches too.
//! - `ndjson`: one envelope per line, streamed in bounded memory.
//! - `cloudevents`: the JSON and HTTP bindings of CloudEvents 1.0.
//! - `msgpack`: one envelope, or an array of them, in a buffered body.
//! - `protobuf`: events of our schema, in a batch or each behind its length, streamed.
//! - `raw`: the body is the data.
//! - `expand`: takes gzip and zstd off before any of these.
//!
//! An item becomes an [`Unplaced`] (its one copy) or a [`Rejection`] with index, code and a detail
//! that names the member or the limit. A bad item never loses its neighbours, except that after a
//! syntax error in an array nothing can be told apart any more: what came before it stays
//! accepted. The caller's sink may break after any item, and decoding goes on from there later.
//!
//! Deliberately absent: permissions, rates and lanes (the caller rejects with the same type),
//! bodies over the HTTP limit (413 before any of this), the clock ([`IdSource`] is given it).

mod cloudevents;
mod content;
mod expand;
mod ids;
mod json;
mod msgpack;
mod ndjson;
pub(crate) mod pick;
mod protobuf;
mod raw;
mod reject;
pub(crate) mod scan;

pub use cloudevents::{decode_cloudevent_binary, has_cloudevent_headers};
pub use content::{ContentError, ContentKind};
pub use expand::{
    CODINGS, Coding, CodingError, ExpandError, Expanded, Expander, GZIP_BYTES, ZSTD_WINDOW_LOG_MAX,
};
pub use ids::{IdSource, UUID_BYTES};
pub use json::{BodyDecoder, BodyShape, Progress, decode_envelope};
pub use msgpack::MsgpackDecoder;
pub use ndjson::{Fed, NdjsonDecoder};
pub use protobuf::{ProtobufDecoder, ProtobufFraming, decode_protobuf_event};
pub use raw::decode_raw;
pub use reject::{DETAIL_BYTES_MAX, RejectCode, Rejection};

use crate::event::{Draft, EventError, Unplaced};

/// Types with this prefix are the server's own events on SSE streams.
pub const RESERVED_TYPE_PREFIX: &str = "shardcast.";

/// What may surround the data in one item: the fields, the attributes and the punctuation, with
/// room for escapes. Beside the data limit it bounds what a line of NDJSON may occupy.
pub const ENVELOPE_BYTES_MAX: usize = 64 * 1024;

/// What the request says about all of its items.
#[derive(Debug)]
pub struct Context<'a> {
    /// The channel that the URL names, already checked. Items may then only repeat it.
    pub channel: Option<&'a str>,
    /// The request's `traceparent` header, or empty. Items without their own get it. A malformed
    /// one is ignored, as W3C Trace Context asks.
    pub traceparent: &'a str,
    /// Which client publishes, as the attributes of its events; empty if it is none. Items have no
    /// attributes of their own then.
    pub author: &'a str,
    /// The longest payload, in bytes.
    pub data_bytes_max: usize,
    /// Ids for items without one.
    pub ids: &'a mut IdSource,
}

/// One decoded item of a request.
#[derive(Debug)]
pub struct Item {
    /// Counts items from 0 in the order of the body; blank lines do not count.
    pub index: u64,
    /// The event, or why it is none. The rejection repeats the index.
    pub result: Result<Unplaced, Rejection>,
}

/// The channel of an item: the URL's, the item's own, or both if they agree.
fn resolve_channel<'a>(url: Option<&'a str>, own: &'a str) -> Result<&'a str, Rejection> {
    match url {
        Some(url) if own.is_empty() || own == url => Ok(url),
        Some(_) => Err(Rejection::new(
            RejectCode::ChannelMismatch,
            "`channel` differs from the channel in the URL",
        )),
        None if own.is_empty() => Err(Rejection::new(
            RejectCode::MissingChannel,
            "`channel` is missing and the URL names none",
        )),
        None => Ok(own),
    }
}

/// The checks that every decoder shares, then the event. An empty id is replaced by a made one.
fn finish(context: &mut Context<'_>, draft: Draft<'_>) -> Result<Unplaced, Rejection> {
    let made;
    // Rebound, because it may borrow from here too.
    let mut draft = draft;
    if draft.data.len() > context.data_bytes_max {
        return Err(Rejection::data_too_large(context.data_bytes_max));
    }
    if draft.kind.starts_with(RESERVED_TYPE_PREFIX) {
        return Err(Rejection::new(
            RejectCode::ReservedType,
            "`type` must not begin with `shardcast.`",
        ));
    }
    for (name, value) in [
        ("id", draft.id),
        ("type", draft.kind),
        ("source", draft.source),
        ("key", draft.key),
        ("content_type", draft.content_type),
    ] {
        if has_control(value) {
            let detail = format!("`{name}` has a control character");
            return Err(Rejection::new(RejectCode::InvalidField, detail));
        }
    }
    if draft.traceparent.is_empty() {
        if !context.traceparent.is_empty() && is_traceparent(context.traceparent) {
            draft.traceparent = context.traceparent;
        }
    } else if !is_traceparent(draft.traceparent) {
        return Err(Rejection::new(
            RejectCode::InvalidField,
            "`traceparent` is not a W3C trace context (00-<32 hex>-<16 hex>-<2 hex>)",
        ));
    }
    if !context.author.is_empty() {
        (draft.attributes, draft.of_client) = (context.author, true);
    }
    if draft.id.is_empty() {
        made = context.ids.next_uuid();
        draft.id = std::str::from_utf8(&made).unwrap_or_default();
        draft.id_generated = true;
    }
    draft.build().map_err(|error| {
        let code = match error {
            EventError::Channel(_) => RejectCode::InvalidChannel,
            EventError::DataTooLong => RejectCode::TooLarge,
            _ => RejectCode::FieldTooLong,
        };
        Rejection::new(code, error.to_string())
    })
}

/// C0, DEL and C1: what CloudEvents forbids in strings, and what could break a log or an SSE line.
fn has_control(text: &str) -> bool {
    // Folded without an early end, so that it vectorises. A C1 character is 0xc2, 0x80..=0x9f.
    let ascii = text.bytes().fold(false, |found, b| found | (b < 0x20) | (b == 0x7f));
    let c1 = || text.as_bytes().windows(2).any(|pair| matches!(pair, [0xc2, 0x80..=0x9f]));
    ascii || (!text.is_ascii() && c1())
}

//= trace-context#3.2
/// Lower-case hex, no zero ids, not version `ff`; later versions may append fields.
fn is_traceparent(text: &str) -> bool {
    let hex = |part: &str, len: usize| {
        part.len() == len && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let id = |part: &str, len| hex(part, len) && part.bytes().any(|b| b != b'0');
    let mut parts = text.splitn(5, '-');
    let mut next = || parts.next().unwrap_or_default();
    let version = next();
    let legal = hex(version, 2) && version != "ff" && id(next(), 32) && id(next(), 16);
    legal && hex(next(), 2) && (version != "00" || parts.next().is_none())
}

/// UTF-8 or not, over a whole item at once.
fn utf8(bytes: &[u8]) -> Option<&str> {
    simdutf8::basic::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests;
