//! Payloads: `data` and `info` fields, which each encoding carries in its own way.
//!
//! In Protobuf they are bytes. In JSON they are *embedded JSON*, and a message ends at a line
//! break, so:
//! - JSON stands as it was published, except that line breaks between its tokens become spaces
//!   (inside strings JSON has none);
//! - text is a JSON string;
//! - binary data is base64 (RFC 4648 section 4) in a JSON string, since the protocol knows no other
//!   way to bring it to a JSON client.
//!
//! On a subscription with delta compression every publication's `data` is a JSON string in JSON:
//! the full text, or the delta's text ([`Data::as_text`]).

use crate::envelope::{write_base64, write_json_string};
use crate::event::{DataKind, EventView};

/// A payload, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Data<'a> {
    /// No payload. What was sent as empty bytes in Protobuf is none too.
    #[default]
    None,
    /// One JSON text. Whoever builds it answers for that; the decoder checks it.
    Json(&'a [u8]),
    /// Text that is a JSON string in JSON.
    Text(&'a str),
    /// Bytes: base64 in JSON. What came in Protobuf is this, whatever it means.
    Binary(&'a [u8]),
}

impl<'a> Data<'a> {
    /// An event's payload.
    pub fn of(event: impl Into<EventView<'a>>) -> Self {
        let event = event.into();
        Self::new(event.data_kind(), event.data())
    }

    /// A payload of this kind. JSON that is empty and text that is not UTF-8 occur in no event;
    /// they would be nothing, and bytes.
    pub fn new(kind: DataKind, bytes: &'a [u8]) -> Self {
        match kind {
            DataKind::Json if bytes.is_empty() => Self::None,
            DataKind::Json => Self::Json(bytes),
            DataKind::Text => std::str::from_utf8(bytes).map_or(Self::Binary(bytes), Self::Text),
            DataKind::Binary => Self::Binary(bytes),
        }
    }

    /// The same for subscriptions with delta compression: JSON becomes text. `None` if it is not
    /// UTF-8.
    pub fn as_text(self) -> Option<Self> {
        match self {
            Self::Json(bytes) => std::str::from_utf8(bytes).ok().map(Data::Text),
            other => Some(other),
        }
    }

    /// The bytes; a JSON client's stand as JSON.
    pub const fn bytes(self) -> &'a [u8] {
        match self {
            Self::None => b"",
            Self::Json(bytes) | Self::Binary(bytes) => bytes,
            Self::Text(text) => text.as_bytes(),
        }
    }

    /// True if there is nothing to send.
    pub const fn is_none(self) -> bool {
        matches!(self, Self::None)
    }

    /// Appends the JSON value.
    pub(super) fn write_json(self, out: &mut Vec<u8>) {
        match self {
            Self::None => out.extend_from_slice(b"null"),
            Self::Json(bytes) => write_one_line(out, bytes),
            Self::Text(text) => write_json_string(out, text),
            Self::Binary(bytes) => {
                out.push(b'"');
                write_base64(out, bytes);
                out.push(b'"');
            }
        }
    }
}

/// Appends JSON without line feeds: outside strings they are white space, inside there are none.
fn write_one_line(out: &mut Vec<u8>, mut json: &[u8]) {
    out.reserve(json.len());
    while let Some(at) = memchr::memchr(b'\n', json) {
        let (line, rest) = json.split_at_checked(at).unwrap_or_default();
        out.extend_from_slice(line);
        out.push(b' ');
        json = rest.get(1..).unwrap_or_default();
    }
    out.extend_from_slice(json);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_form_in_json_on_one_line() {
        let check = |data: Data<'_>, expected: &str| {
            let mut out = Vec::new();
            data.write_json(&mut out);
            assert_eq!(std::str::from_utf8(&out).unwrap(), expected, "{data:?}");
        };
        check(Data::new(DataKind::Json, b"{\"a\":\n[1,\r\n2\n]}"), "{\"a\": [1,\r 2 ]}");
        check(Data::new(DataKind::Json, b""), "null");
        check(Data::new(DataKind::Text, b"a\n\"b\""), r#""a\n\"b\"""#);
        check(Data::new(DataKind::Text, b""), "\"\"");
        check(Data::new(DataKind::Binary, b"\xff\0"), "\"/wA=\"");
        check(Data::new(DataKind::Text, b"\xff"), "\"/w==\"");
        check(Data::Json(b"{\"a\": \n1}").as_text().unwrap(), r#""{\"a\": \n1}""#);
        assert_eq!(Data::Json(b"\"\xff\"").as_text(), None);
    }
}
