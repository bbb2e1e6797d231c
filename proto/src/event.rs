//! The event: one immutable, shared byte string from admission to the disk.
//!
//! An [`Event`] *is* its record image: a fixed header, then the fields, in one allocation that
//! history, lanes, frames and spool share by reference. The payload is copied once, out of the
//! receive buffer into [`Draft::build`]; the home shard then patches position and time of
//! acceptance into the header while it is still the only owner ([`Unplaced::place`]).
//!
//! The image is versioned and read for ever (`VERSION`): the spool writes it as it is, with its
//! own length and checksum around it. Invariant: a value of type `Event` always has lengths that
//! add up and text fields that are UTF-8, whether built here or read back by [`Event::decode`].
//! Deliberately absent: JSON (see `decode`, `envelope`) and files (see `storage`).

mod unplaced;
mod view;

pub use unplaced::{ImageRoom, Unplaced};
pub use view::EventView;

use crate::channel;
use crate::position::{Epoch, Position};
use bytes::Bytes;

/// Layout version, the first byte of every image.
pub const VERSION: u8 = 1;

/// Bytes before the first field.
pub const HEADER_BYTES: usize = 56;

/// The longest id, type, source, key, content type or traceparent, in bytes each.
pub const FIELD_BYTES_MAX: usize = 1024;

/// The longest JSON object of CloudEvents extension attributes, in bytes.
pub const ATTRIBUTES_BYTES_MAX: usize = 16 * 1024;

/// How a payload is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum DataKind {
    /// A JSON text, embedded as it is.
    Json = 0,
    /// UTF-8 text: a JSON string in envelopes.
    Text = 1,
    /// Anything else: base64 in envelopes.
    Binary = 2,
}

/// How much an event matters when the server has to shed load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord)]
#[repr(u8)]
pub enum Class {
    /// Never shed.
    Critical = 0,
    /// The default.
    #[default]
    Normal = 1,
    /// Shed first.
    Sheddable = 2,
}

impl Class {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Normal => "normal",
            Self::Sheddable => "sheddable",
        }
    }

    /// Reads the name on the wire.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Critical, Self::Normal, Self::Sheddable].into_iter().find(|c| c.as_str() == name)
    }
}

/// Why an event could not be built or read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// See [`channel::validate`].
    #[error(transparent)]
    Channel(#[from] channel::ChannelNameError),
    /// A field is longer than [`FIELD_BYTES_MAX`]; the name of the field.
    #[error("`{0}` is longer than 1024 bytes")]
    FieldTooLong(&'static str),
    /// The extension attributes are longer than [`ATTRIBUTES_BYTES_MAX`].
    #[error("extension attributes are longer than 16384 bytes")]
    AttributesTooLong,
    /// The payload does not fit the image (4 GiB).
    #[error("`data` is too long")]
    DataTooLong,
    /// Only when reading back: the image is cut, of another version, or inconsistent.
    #[error("event image is corrupt: {0}")]
    Corrupt(&'static str),
}

/// The fields of an event that is being submitted, borrowed from wherever they were parsed.
#[derive(Debug, Clone, Copy)]
pub struct Draft<'a> {
    /// The channel; checked by [`Draft::build`].
    pub channel: &'a str,
    /// The publisher's id; empty if it gave none ([`Draft::id_generated`] then says so).
    pub id: &'a str,
    /// The id was made by us, so it never takes part in deduplication.
    pub id_generated: bool,
    /// The event's type; empty if none.
    pub kind: &'a str,
    /// The event's source; empty if none. Part of the dedupe key.
    pub source: &'a str,
    /// The key (partition or conflation key); empty if none.
    pub key: &'a str,
    /// The payload's media type; empty means `application/json` for JSON data.
    pub content_type: &'a str,
    /// W3C trace context; empty if none.
    pub traceparent: &'a str,
    /// CloudEvents extension attributes as a JSON object text; empty if none.
    pub attributes: &'a str,
    /// The event's own time, microseconds since the Unix epoch; `None`: time of acceptance.
    pub time_us: Option<i64>,
    /// A client published it, and the attributes say which; publishers cannot say that themselves.
    pub of_client: bool,
    /// See [`Class`].
    pub class: Class,
    /// See [`DataKind`].
    pub data_kind: DataKind,
    /// The payload. Must be UTF-8 unless binary: the decoders guarantee it.
    pub data: &'a [u8],
}

impl Default for Draft<'_> {
    fn default() -> Self {
        Self {
            channel: "",
            id: "",
            id_generated: false,
            kind: "",
            source: "",
            key: "",
            content_type: "",
            traceparent: "",
            attributes: "",
            time_us: None,
            of_client: false,
            class: Class::Normal,
            data_kind: DataKind::Json,
            data: b"",
        }
    }
}

// Header layout, little endian. Each constant is the offset of its field.
// u8: bits 0-1 data kind, 2-3 class, 4 id generated, 5 time given, 6 of a client
const AT_FLAGS: usize = 1;
const AT_CHANNEL_LEN: usize = 2; // u16
const AT_EPOCH: usize = 4; // u64
const AT_OFFSET: usize = 12; // u64
const AT_TIME: usize = 20; // i64
const AT_ACCEPTED: usize = 28; // i64
const AT_LENGTHS: usize = 36; // u16 each: id, kind, source, key, content type, traceparent
const AT_ATTRIBUTES_LEN: usize = 48; // u32
const AT_DATA_LEN: usize = 52; // u32

const ID_GENERATED: u8 = 1 << 4;
const TIME_GIVEN: u8 = 1 << 5;
const OF_CLIENT: u8 = 1 << 6;

impl Draft<'_> {
    /// Checks the limits and copies everything into one image of exact size.
    pub fn build(&self) -> Result<Unplaced, EventError> {
        channel::validate(self.channel.as_bytes())?;
        let fields = [
            ("id", self.id),
            ("type", self.kind),
            ("source", self.source),
            ("key", self.key),
            ("content_type", self.content_type),
            ("traceparent", self.traceparent),
        ];
        let mut total = HEADER_BYTES + self.channel.len();
        for (name, value) in fields {
            if value.len() > FIELD_BYTES_MAX {
                return Err(EventError::FieldTooLong(name));
            }
            total += value.len();
        }
        if self.attributes.len() > ATTRIBUTES_BYTES_MAX {
            return Err(EventError::AttributesTooLong);
        }
        total += self.attributes.len() + self.data.len();
        if u32::try_from(total).is_err() {
            return Err(EventError::DataTooLong);
        }
        let mut image = Vec::with_capacity(total);
        let flags = self.data_kind as u8
            | (self.class as u8) << 2
            | if self.id_generated { ID_GENERATED } else { 0 }
            | if self.time_us.is_some() { TIME_GIVEN } else { 0 }
            | if self.of_client { OF_CLIENT } else { 0 };
        image.extend_from_slice(&[VERSION, flags]);
        image.extend_from_slice(&(self.channel.len() as u16).to_le_bytes());
        image.extend_from_slice(&[0; 16]);
        image.extend_from_slice(&self.time_us.unwrap_or(0).to_le_bytes());
        image.extend_from_slice(&[0; 8]);
        for (_, value) in fields {
            image.extend_from_slice(&(value.len() as u16).to_le_bytes());
        }
        image.extend_from_slice(&(self.attributes.len() as u32).to_le_bytes());
        image.extend_from_slice(&(self.data.len() as u32).to_le_bytes());
        image.extend_from_slice(self.channel.as_bytes());
        for (_, value) in fields {
            image.extend_from_slice(value.as_bytes());
        }
        image.extend_from_slice(self.attributes.as_bytes());
        image.extend_from_slice(self.data);
        debug_assert_eq!(image.len(), total);
        Ok(Unplaced::new(image))
    }
}

/// An accepted event: position, fields and payload in one shared image. `Clone` is a reference.
#[derive(Clone, PartialEq, Eq)]
pub struct Event(Bytes);

impl Event {
    /// Reads an image back (from the spool). Every length is checked and text is UTF-8, so the
    /// accessors cannot fail afterwards.
    pub fn decode(image: Bytes) -> Result<Self, EventError> {
        let spans = check_shape(&image)?;
        let texts = image.get(HEADER_BYTES..spans.data).unwrap_or_default();
        if std::str::from_utf8(texts).is_err() {
            return Err(EventError::Corrupt("a text field is not UTF-8"));
        }
        let event = Self(image);
        channel::validate(event.channel().as_bytes())?;
        if event.data_kind() != DataKind::Binary && std::str::from_utf8(event.data()).is_err() {
            return Err(EventError::Corrupt("text data is not UTF-8"));
        }
        Ok(event)
    }

    /// The image, as the spool stores it.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// The image's size in bytes: what every budget counts for this event.
    pub fn size(&self) -> usize {
        self.0.len()
    }

    /// The channel's name.
    pub fn channel(&self) -> &str {
        text(&self.0, HEADER_BYTES, usize::from(u16_at(&self.0, AT_CHANNEL_LEN)))
    }

    /// Where the event stands in its channel.
    pub fn position(&self) -> Position {
        Position { epoch: Epoch(u64_at(&self.0, AT_EPOCH)), offset: self.offset() }
    }

    /// The offset alone.
    pub fn offset(&self) -> u64 {
        u64_at(&self.0, AT_OFFSET)
    }

    /// The event's time, microseconds since the Unix epoch.
    pub fn time_us(&self) -> i64 {
        u64_at(&self.0, AT_TIME) as i64
    }

    /// When the home shard accepted it, microseconds since the Unix epoch.
    pub fn accepted_us(&self) -> i64 {
        u64_at(&self.0, AT_ACCEPTED) as i64
    }

    /// See [`Class`].
    pub fn class(&self) -> Class {
        match (self.flags() >> 2) & 3 {
            0 => Class::Critical,
            2 => Class::Sheddable,
            _ => Class::Normal,
        }
    }

    /// See [`DataKind`].
    pub fn data_kind(&self) -> DataKind {
        data_kind(&self.0)
    }

    /// True if we made the id.
    pub fn id_generated(&self) -> bool {
        self.flags() & ID_GENERATED != 0
    }

    /// True if a client published it: the attributes say which.
    #[inline]
    pub fn is_of_client(&self) -> bool {
        self.flags() & OF_CLIENT != 0
    }

    /// The id.
    pub fn id(&self) -> &str {
        self.field(0)
    }

    /// The type; empty if none.
    pub fn kind(&self) -> &str {
        self.field(1)
    }

    /// The source; empty if none.
    pub fn source(&self) -> &str {
        self.field(2)
    }

    /// The key; empty if none.
    pub fn key(&self) -> &str {
        self.field(3)
    }

    /// The payload's media type; empty means the default of its [`DataKind`].
    pub fn content_type(&self) -> &str {
        self.field(4)
    }

    /// W3C trace context; empty if none.
    pub fn traceparent(&self) -> &str {
        self.field(5)
    }

    /// CloudEvents extension attributes as a JSON object text; empty if none.
    pub fn attributes(&self) -> &str {
        let spans = Spans::of(&self.0);
        text(&self.0, spans.attributes, spans.data - spans.attributes)
    }

    /// The payload.
    pub fn data(&self) -> &[u8] {
        self.0.get(Spans::of(&self.0).data..).unwrap_or_default()
    }

    /// The payload as a shared reference into the image.
    pub fn data_bytes(&self) -> Bytes {
        self.0.slice(Spans::of(&self.0).data..)
    }

    /// The id and source if the publisher gave an id: with the channel, the dedupe key.
    pub fn dedupe_key(&self) -> Option<(&str, &str)> {
        dedupe_key(&self.0)
    }

    fn flags(&self) -> u8 {
        self.0.get(AT_FLAGS).copied().unwrap_or(0)
    }

    fn field(&self, index: usize) -> &str {
        let (at, len) = field_span(&self.0, index);
        text(&self.0, at, len)
    }
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}#{}", self.channel(), self.position(), self.id())
    }
}

/// Checks everything but the texts: the lengths add up and the flags are known.
fn check_shape(image: &[u8]) -> Result<Spans, EventError> {
    if image.len() < HEADER_BYTES {
        return Err(EventError::Corrupt("shorter than its header"));
    }
    if image.first() != Some(&VERSION) {
        return Err(EventError::Corrupt("unknown version"));
    }
    let flags = image.get(AT_FLAGS).copied().unwrap_or(0);
    if flags & 3 == 3 || (flags >> 2) & 3 == 3 || flags >> 7 != 0 {
        return Err(EventError::Corrupt("unknown flags"));
    }
    let spans = Spans::of(image);
    if spans.end != image.len() {
        return Err(EventError::Corrupt("lengths do not add up"));
    }
    Ok(spans)
}

/// Where the variable parts begin.
struct Spans {
    attributes: usize,
    data: usize,
    end: usize,
}

impl Spans {
    fn of(image: &[u8]) -> Self {
        let (at, len) = field_span(image, 5);
        let attributes = at + len;
        let data = attributes + u32_at(image, AT_ATTRIBUTES_LEN) as usize;
        Self { attributes, data, end: data + u32_at(image, AT_DATA_LEN) as usize }
    }
}

fn field_span(image: &[u8], index: usize) -> (usize, usize) {
    let mut at = HEADER_BYTES + usize::from(u16_at(image, AT_CHANNEL_LEN));
    for before in 0..index {
        at += usize::from(u16_at(image, AT_LENGTHS + before * 2));
    }
    (at, usize::from(u16_at(image, AT_LENGTHS + index * 2)))
}

fn data_kind(image: &[u8]) -> DataKind {
    match image.get(AT_FLAGS).copied().unwrap_or(0) & 3 {
        0 => DataKind::Json,
        1 => DataKind::Text,
        _ => DataKind::Binary,
    }
}

fn dedupe_key(image: &[u8]) -> Option<(&str, &str)> {
    if image.get(AT_FLAGS).copied().unwrap_or(0) & ID_GENERATED != 0 {
        return None;
    }
    let (id_at, id_len) = field_span(image, 0);
    let (source_at, source_len) = field_span(image, 2);
    (id_len > 0).then(|| (text(image, id_at, id_len), text(image, source_at, source_len)))
}

fn text(image: &[u8], at: usize, len: usize) -> &str {
    std::str::from_utf8(image.get(at..at + len).unwrap_or_default()).unwrap_or_default()
}

fn u16_at(image: &[u8], at: usize) -> u16 {
    image.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |b| u16::from_le_bytes(*b))
}

fn u32_at(image: &[u8], at: usize) -> u32 {
    image.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |b| u32::from_le_bytes(*b))
}

fn u64_at(image: &[u8], at: usize) -> u64 {
    image.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |b| u64::from_le_bytes(*b))
}

#[cfg(test)]
mod tests;
