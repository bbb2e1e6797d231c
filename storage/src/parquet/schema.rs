//! The columns: the same names, order and meaning as the ClickHouse table.
//!
//! Every column is required: a field that an event does not have is an empty string, as in the
//! event itself. Times are microseconds in UTC. [`Row`] is one event as a reader of the file gets
//! it, and [`Tally`] compares two sets of rows without keeping either.
//!
//! Invariants: a column is never renamed or retyped; a new one comes last and raises
//! [`FORMAT_VERSION`]. Pure. Deliberately absent: nullable columns, nested types (payload and
//! attributes stay JSON texts: the reader chooses how to parse). Tests: `tests`.

use crate::sink::is_late;
use crate::verify::checksum;
use bytes::Bytes;

use parquet::schema::parser::parse_message_type;
use parquet::schema::types::Type;
use proto::event::{DataKind, Event};
use std::sync::{Arc, LazyLock};

/// Written into every file as `shardcast.format`.
pub const FORMAT_VERSION: u32 = 1;

/// The schema of every file.
pub(super) static SCHEMA: LazyLock<Arc<Type>> = LazyLock::new(|| {
    Arc::new(parse_message_type(MESSAGE).expect("the schema is a constant that the tests read"))
});

const MESSAGE: &str = "message event {
    required binary id (STRING);
    required binary channel (STRING);
    required int64 epoch (INTEGER(64,false));
    required int64 offset (INTEGER(64,false));
    required binary type (STRING);
    required binary source (STRING);
    required binary key (STRING);
    required int64 ts (TIMESTAMP(MICROS,true));
    required int64 received (TIMESTAMP(MICROS,true));
    required binary content_type (STRING);
    required binary kind (STRING);
    required binary class (STRING);
    required binary traceparent (STRING);
    required binary attributes (STRING);
    required boolean late;
    required binary payload;
}";

/// Where a column's value comes from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source {
    /// Bytes of the event's image, shared with it.
    Image(fn(&Event) -> &[u8]),
    /// One of a few names.
    Name(fn(&Event) -> &'static str),
    /// A number; an unsigned one keeps its bits.
    Number(fn(&Event) -> i64),
    /// A flag.
    Flag(fn(&Event) -> bool),
}

/// How a column is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Store {
    /// Few different values.
    Dictionary,
    /// Ascending within a channel: differences.
    Delta,
    /// As it is; the compression finds what there is to find.
    Plain,
}

/// One column.
#[derive(Debug)]
pub(super) struct Column {
    pub name: &'static str,
    pub source: Source,
    pub store: Store,
    /// Least and greatest value per row group, so that a query can skip it.
    pub bounds: bool,
}

const fn column(name: &'static str, source: Source, store: Store, bounds: bool) -> Column {
    Column { name, source, store, bounds }
}

/// In the order of the schema.
pub(super) const COLUMNS: [Column; 16] = [
    column("id", Source::Image(|e| e.id().as_bytes()), Store::Plain, false),
    column("channel", Source::Image(|e| e.channel().as_bytes()), Store::Dictionary, true),
    column("epoch", Source::Number(|e| e.position().epoch.0 as i64), Store::Dictionary, true),
    column("offset", Source::Number(|e| e.offset() as i64), Store::Delta, true),
    column("type", Source::Image(|e| e.kind().as_bytes()), Store::Dictionary, false),
    column("source", Source::Image(|e| e.source().as_bytes()), Store::Dictionary, false),
    column("key", Source::Image(|e| e.key().as_bytes()), Store::Dictionary, false),
    column("ts", Source::Number(Event::time_us), Store::Delta, true),
    column("received", Source::Number(Event::accepted_us), Store::Delta, true),
    column(
        "content_type",
        Source::Image(|e| e.content_type().as_bytes()),
        Store::Dictionary,
        false,
    ),
    column("kind", Source::Name(kind_name), Store::Dictionary, false),
    column("class", Source::Name(|e| e.class().as_str()), Store::Dictionary, false),
    column("traceparent", Source::Image(|e| e.traceparent().as_bytes()), Store::Dictionary, false),
    column("attributes", Source::Image(|e| e.attributes().as_bytes()), Store::Dictionary, false),
    column("late", Source::Flag(is_late), Store::Plain, true),
    column("payload", Source::Image(Event::data), Store::Plain, false),
];

impl Source {
    /// The bytes of a text column, without a copy.
    pub fn bytes(self, event: &Event) -> Bytes {
        match self {
            Self::Image(field) => event.as_bytes().slice_ref(field(event)),
            Self::Name(name) => Bytes::from_static(name(event).as_bytes()),
            Self::Number(_) | Self::Flag(_) => Bytes::new(),
        }
    }
}

fn kind_name(event: &Event) -> &'static str {
    match event.data_kind() {
        DataKind::Json => "json",
        DataKind::Text => "text",
        DataKind::Binary => "binary",
    }
}

/// One event as the columns hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is the column of its name")]
pub struct Row<'a> {
    pub id: &'a str,
    pub channel: &'a str,
    pub epoch: u64,
    pub offset: u64,
    pub r#type: &'a str,
    pub source: &'a str,
    pub key: &'a str,
    pub ts: i64,
    pub received: i64,
    pub content_type: &'a str,
    pub kind: &'a str,
    pub class: &'a str,
    pub traceparent: &'a str,
    pub attributes: &'a str,
    pub late: bool,
    pub payload: &'a [u8],
}

impl<'a> Row<'a> {
    /// What the file says of an event.
    pub fn of(event: &'a Event) -> Self {
        Self {
            id: event.id(),
            channel: event.channel(),
            epoch: event.position().epoch.0,
            offset: event.offset(),
            r#type: event.kind(),
            source: event.source(),
            key: event.key(),
            ts: event.time_us(),
            received: event.accepted_us(),
            content_type: event.content_type(),
            kind: kind_name(event),
            class: event.class().as_str(),
            traceparent: event.traceparent(),
            attributes: event.attributes(),
            late: is_late(event),
            payload: event.data(),
        }
    }
}

/// How many rows, and the sum of their checksums: equal for the same rows in any order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Rows.
    pub rows: u64,
    /// Wrapping sum of [`checksum`].
    pub checksum: u64,
}

impl Tally {
    /// Counts a row.
    pub fn add(&mut self, row: &Row<'_>) {
        self.rows += 1;
        self.checksum = self.checksum.wrapping_add(checksum(row));
    }

    /// Counts what another counted.
    pub fn merge(&mut self, other: Self) {
        self.rows += other.rows;
        self.checksum = self.checksum.wrapping_add(other.checksum);
    }
}
