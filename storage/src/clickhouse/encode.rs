//! Events to one Native block, ClickHouse's columnar format, in chunks.
//!
//! The same events give the same bytes, for ever: whatever a row says comes out of the event's
//! image alone. The crate's own Native writer hands every string of 128 bytes or more to the
//! connection by itself (8 us a row, ADR 0007), so the block is written here and the crate sends
//! it. A block is: number of columns, number of rows, then per column its name, its type and its
//! values; numbers little endian, strings behind their length as a LEB128 number. The server
//! converts `String` to `LowCardinality(String)` by itself.

use crate::sink::is_late;
use bytes::{BufMut, Bytes, BytesMut};
use proto::event::{DataKind, Event};

/// The name of a payload's kind, in the stores.
pub fn kind_name(kind: DataKind) -> &'static str {
    match kind {
        DataKind::Json => "json",
        DataKind::Text => "text",
        DataKind::Binary => "binary",
    }
}

/// One column: its name, its type on the wire, and how a value is written.
struct Column {
    name: &'static str,
    wire_type: &'static str,
    write: fn(&Event, &mut BytesMut),
}

const fn column(
    name: &'static str,
    wire_type: &'static str,
    write: fn(&Event, &mut BytesMut),
) -> Column {
    Column { name, wire_type, write }
}

const TEXT: &str = "String";
const TIME: &str = "DateTime64(6, 'UTC')";

/// Those of `schema`, by name: the order here is nobody's business.
const COLUMNS: [Column; 16] = [
    column("id", TEXT, |event, out| put(out, event.id().as_bytes())),
    column("channel", TEXT, |event, out| put(out, event.channel().as_bytes())),
    column("epoch", "UInt64", |event, out| out.put_u64_le(event.position().epoch.0)),
    column("offset", "UInt64", |event, out| out.put_u64_le(event.offset())),
    column("type", TEXT, |event, out| put(out, event.kind().as_bytes())),
    column("source", TEXT, |event, out| put(out, event.source().as_bytes())),
    column("key", TEXT, |event, out| put(out, event.key().as_bytes())),
    column("ts", TIME, |event, out| out.put_i64_le(event.time_us())),
    column("received", TIME, |event, out| out.put_i64_le(event.accepted_us())),
    column("content_type", TEXT, |event, out| put(out, event.content_type().as_bytes())),
    column("kind", TEXT, |event, out| put(out, kind_name(event.data_kind()).as_bytes())),
    column("class", TEXT, |event, out| put(out, event.class().as_str().as_bytes())),
    column("traceparent", TEXT, |event, out| put(out, event.traceparent().as_bytes())),
    column("attributes", TEXT, |event, out| put(out, event.attributes().as_bytes())),
    column("late", "Bool", |event, out| out.put_u8(u8::from(is_late(event)))),
    column("payload", TEXT, |event, out| put(out, event.data())),
];

/// Bytes of a chunk, about: a connection's write, not a page fault for every row.
const CHUNK_BYTES: usize = 256 * 1024;

/// The block in chunks.
pub struct Chunks<'a> {
    events: &'a [Event],
    /// Of dead letters: one more column.
    reason: Option<&'a str>,
    column: usize,
    row: usize,
    begun: bool,
}

/// Rows of `events`; with a reason, of `dead_letters`. At least one event.
pub fn native<'a>(events: &'a [Event], reason: Option<&'a str>) -> Chunks<'a> {
    assert!(!events.is_empty(), "an empty block ends an insert");
    Chunks { events, reason, column: 0, row: 0, begun: false }
}

impl Chunks<'_> {
    fn columns(&self) -> usize {
        COLUMNS.len() + usize::from(self.reason.is_some())
    }

    fn fill(&mut self, out: &mut BytesMut) {
        let (name, wire_type, write) = match COLUMNS.get(self.column) {
            Some(column) => (column.name, column.wire_type, Some(column.write)),
            None => ("reason", TEXT, None),
        };
        if self.row == 0 {
            put(out, name.as_bytes());
            put(out, wire_type.as_bytes());
        }
        for event in &self.events[self.row..] {
            if out.len() >= CHUNK_BYTES {
                return;
            }
            match write {
                Some(write) => write(event, out),
                None => put(out, self.reason.unwrap_or_default().as_bytes()),
            }
            self.row += 1;
        }
        (self.column, self.row) = (self.column + 1, 0);
    }
}

impl Iterator for Chunks<'_> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut out = BytesMut::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 4);
        if !std::mem::replace(&mut self.begun, true) {
            put_number(&mut out, self.columns());
            put_number(&mut out, self.events.len());
        }
        while self.column < self.columns() && out.len() < CHUNK_BYTES {
            self.fill(&mut out);
        }
        (!out.is_empty()).then(|| out.freeze())
    }
}

fn put(out: &mut BytesMut, text: &[u8]) {
    put_number(out, text.len());
    out.extend_from_slice(text);
}

fn put_number(out: &mut BytesMut, mut number: usize) {
    while number >= 0x80 {
        out.put_u8(number as u8 | 0x80);
        number >>= 7;
    }
    out.put_u8(number as u8);
}
