//! Why one item of a publish was not taken: a stable code for programs, a sentence for people.

use std::fmt::Write as _;

/// The longest detail, in bytes.
pub const DETAIL_BYTES_MAX: usize = 200;

/// How much of a name that the publisher sent is repeated in a detail, in characters.
const QUOTE_CHARS_MAX: usize = 48;

/// What kind of refusal it is. The names on the wire are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum RejectCode {
    /// The text is not JSON.
    InvalidJson,
    /// The text is not UTF-8.
    InvalidUtf8,
    /// The data nests deeper than the limit.
    TooDeep,
    /// An item is JSON, but not an object.
    NotAnObject,
    /// An envelope has a member that does not exist.
    UnknownMember,
    /// An item says the same thing twice.
    DuplicateMember,
    /// An envelope has neither `data` nor `data_base64`.
    MissingData,
    /// Neither the URL nor the item names a channel.
    MissingChannel,
    /// A CloudEvent lacks a required attribute.
    MissingAttribute,
    /// The channel's name is not legal.
    InvalidChannel,
    /// The item's channel is another one than the URL's.
    ChannelMismatch,
    /// A member has the wrong type or content.
    InvalidField,
    /// The type is the server's own.
    ReservedType,
    /// A member other than the data is over its limit.
    FieldTooLong,
    /// The data, or the line it came in, is over the message limit.
    TooLarge,
    /// The namespace does not permit the publish.
    Forbidden,
    /// The publisher is over its rate.
    RateLimited,
    /// The server is full: this item and all after it were not taken.
    Overloaded,
    /// The server cannot store (disk full, failed sync): not taken.
    Unavailable,
    /// Asked to be durable, ordered and perhaps seen by subscribers, but never synced.
    NotDurable,
    /// The bytes are not what the `Content-Encoding` says: nothing after them can be read.
    InvalidEncoding,
    /// The bytes are not MessagePack.
    InvalidMsgpack,
    /// The bytes are not Protobuf, or not of the schema's types.
    InvalidProtobuf,
}

impl RejectCode {
    /// Every code, in the order of the enum.
    pub const ALL: [Self; 23] = [
        Self::InvalidJson,
        Self::InvalidUtf8,
        Self::TooDeep,
        Self::NotAnObject,
        Self::UnknownMember,
        Self::DuplicateMember,
        Self::MissingData,
        Self::MissingChannel,
        Self::MissingAttribute,
        Self::InvalidChannel,
        Self::ChannelMismatch,
        Self::InvalidField,
        Self::ReservedType,
        Self::FieldTooLong,
        Self::TooLarge,
        Self::Forbidden,
        Self::RateLimited,
        Self::Overloaded,
        Self::Unavailable,
        Self::NotDurable,
        Self::InvalidEncoding,
        Self::InvalidMsgpack,
        Self::InvalidProtobuf,
    ];

    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidJson => "invalid_json",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::TooDeep => "too_deep",
            Self::NotAnObject => "not_an_object",
            Self::UnknownMember => "unknown_member",
            Self::DuplicateMember => "duplicate_member",
            Self::MissingData => "missing_data",
            Self::MissingChannel => "missing_channel",
            Self::MissingAttribute => "missing_attribute",
            Self::InvalidChannel => "invalid_channel",
            Self::ChannelMismatch => "channel_mismatch",
            Self::InvalidField => "invalid_field",
            Self::ReservedType => "reserved_type",
            Self::FieldTooLong => "field_too_long",
            Self::TooLarge => "too_large",
            Self::Forbidden => "forbidden",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::Unavailable => "unavailable",
            Self::NotDurable => "not_durable",
            Self::InvalidEncoding => "invalid_encoding",
            Self::InvalidMsgpack => "invalid_msgpack",
            Self::InvalidProtobuf => "invalid_protobuf",
        }
    }

    /// The status of a request in which everything was refused for this reason.
    pub const fn status(self) -> u16 {
        match self {
            Self::Forbidden => 403,
            Self::TooLarge => 413,
            Self::RateLimited => 429,
            Self::Overloaded | Self::Unavailable | Self::NotDurable => 503,
            _ => 400,
        }
    }
}

/// One item that was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The item's index.
    pub index: u64,
    /// For programs.
    pub code: RejectCode,
    /// For people: names the member or the limit; at most [`DETAIL_BYTES_MAX`] bytes.
    pub detail: String,
}

impl Rejection {
    /// A rejection of item 0; see [`Rejection::at`]. A long detail is cut.
    pub fn new(code: RejectCode, detail: impl Into<String>) -> Self {
        let mut detail = detail.into();
        detail.truncate(detail.floor_char_boundary(DETAIL_BYTES_MAX));
        Self { index: 0, code, detail }
    }

    /// The same for the item with this index.
    #[must_use]
    pub fn at(mut self, index: u64) -> Self {
        self.index = index;
        self
    }

    /// The data is over the limit.
    pub(super) fn data_too_large(bytes_max: usize) -> Self {
        Self::new(RejectCode::TooLarge, format!("`data` is longer than {bytes_max} bytes"))
    }

    /// One field is wrong; `what` goes on after the field's name.
    pub(super) fn field(name: &str, what: &str) -> Self {
        Self::new(RejectCode::InvalidField, format!("{} {what}", quoted(name.as_bytes())))
    }
}

/// A name that the publisher sent, for showing: cut, and with nothing in it that could steer a
/// terminal or a log.
pub(super) fn quoted(name: &[u8]) -> String {
    let mut out = String::from("`");
    // Cut before decoding: a name may be as long as the body. No character has over 4 bytes.
    let head = name.get(..QUOTE_CHARS_MAX * 4).unwrap_or(name);
    let text = String::from_utf8_lossy(head);
    for (count, c) in text.chars().enumerate() {
        if count == QUOTE_CHARS_MAX || out.len() > 2 * QUOTE_CHARS_MAX {
            out.push('…');
            break;
        }
        if c.is_control() {
            let _ = write!(out, "{}", c.escape_default());
        } else {
            out.push(c);
        }
    }
    out.push('`');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_are_bounded_and_carry_no_control_characters() {
        let check = |name: &[u8], expected: &str| assert_eq!(quoted(name), expected);
        check(b"id", "`id`");
        check(b"a\nb\x1b", "`a\\nb\\u{1b}`");
        check(b"\xff", "`\u{fffd}`");
        check(&[b'x'; 4000], &format!("`{}…`", "x".repeat(48)));
        let long = Rejection::new(RejectCode::InvalidField, "é".repeat(500));
        assert_eq!(long.detail.len(), DETAIL_BYTES_MAX);
    }

    #[test]
    fn the_list_of_codes_is_whole_and_names_are_distinct() {
        for (at, code) in RejectCode::ALL.into_iter().enumerate() {
            assert_eq!(code as usize, at);
            let same = RejectCode::ALL.iter().filter(|c| c.as_str() == code.as_str());
            assert_eq!(same.count(), 1);
        }
    }
}
