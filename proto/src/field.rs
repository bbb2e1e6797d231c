//! A field of events that a query names: `type`, `source`, `key`, `id`, or `data.` and a path into
//! a JSON payload.
//!
//! What a value is, so that every store gives the same ones:
//! - A header field is its text; an empty one is no value.
//! - A path goes through members of objects, by their unescaped names; of members with the same
//!   name the first counts. Text and binary payloads, arrays on the way, objects, arrays and `null`
//!   at the end are no value.
//! - A string is its contents, unescaped. `true` and `false` are those words.
//! - A number written as an integer that fits 64 bits (signed or unsigned) is its digits. Any other
//!   is the shortest decimal that reads back as the same double, written as ECMAScript does but
//!   without `+` in the exponent: `1.50` and `15e-1` are `1.5`, `1e2` is `100`, `1e21` is `1e21`.
//!   A zero is `0`. Beyond the range of a double there is no value.
//! - A value longer than [`VALUE_BYTES_MAX`] is no value.
//!
//! Deliberately absent: array indexes, names with dots, whole objects. Any thread.

use crate::decode::pick::scalar;
use crate::event::{DataKind, EventView};
use std::borrow::Cow;

/// The longest field, in bytes.
pub const FIELD_BYTES_MAX: usize = 256;
/// The most names in a path.
pub const FIELD_DEPTH_MAX: usize = 16;
/// The longest value, in bytes; longer ones count as missing.
pub const VALUE_BYTES_MAX: usize = 1024;

/// Which part of an event a [`Field`] is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FieldKind {
    /// The type.
    Type,
    /// The source.
    Source,
    /// The key.
    Key,
    /// The id.
    Id,
    /// The payload.
    Data,
}

/// Why a text is not a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// Not one of the known names.
    #[error("use `type`, `source`, `key`, `id`, or `data.` and a path such as `data.item.sku`")]
    Unknown,
    /// Two dots in a row, or a dot at the end.
    #[error("the path has an empty name; put one dot between two names")]
    EmptyName,
    /// See [`FIELD_BYTES_MAX`].
    #[error("the field is longer than 256 bytes")]
    TooLong,
    /// See [`FIELD_DEPTH_MAX`].
    #[error("the path has more than 16 names")]
    TooDeep,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Field {
    kind: FieldKind,
    text: Box<str>,
}

impl Field {
    /// Reads a field as queries write it.
    pub fn parse(text: &str) -> Result<Self, FieldError> {
        if text.len() > FIELD_BYTES_MAX {
            return Err(FieldError::TooLong);
        }
        let kind = match text {
            "type" => FieldKind::Type,
            "source" => FieldKind::Source,
            "key" => FieldKind::Key,
            "id" => FieldKind::Id,
            _ => {
                let path = text.strip_prefix(DATA).ok_or(FieldError::Unknown)?;
                if path.split('.').any(str::is_empty) {
                    return Err(FieldError::EmptyName);
                }
                if path.split('.').count() > FIELD_DEPTH_MAX {
                    return Err(FieldError::TooDeep);
                }
                FieldKind::Data
            }
        };
        Ok(Self { kind, text: text.into() })
    }

    /// The field as queries write it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Which part of an event it is in.
    pub fn kind(&self) -> FieldKind {
        self.kind
    }

    /// The names of the path into the payload; none for a header field.
    pub fn path(&self) -> impl Iterator<Item = &str> {
        let path = self.text.strip_prefix(DATA).filter(|_| self.kind == FieldKind::Data);
        path.into_iter().flat_map(|path| path.split('.'))
    }

    /// The value of a JSON payload; `None` if it has none, or if the field is not in payloads.
    pub fn json_value<'j>(&self, payload: &'j [u8]) -> Option<Cow<'j, str>> {
        let value = (self.kind == FieldKind::Data).then(|| scalar(payload, self.path()))?;
        value.filter(|value| value.len() <= VALUE_BYTES_MAX)
    }

    /// The value of an event; `None` if it has none.
    pub fn value<'e>(&self, event: EventView<'e>) -> Option<Cow<'e, str>> {
        let text = |text: &'e str| (!text.is_empty()).then_some(Cow::Borrowed(text));
        let value = match self.kind {
            FieldKind::Type => text(event.kind()),
            FieldKind::Source => text(event.source()),
            FieldKind::Key => text(event.key()),
            FieldKind::Id => text(event.id()),
            FieldKind::Data if event.data_kind() == DataKind::Json => {
                return self.json_value(event.data());
            }
            FieldKind::Data => None,
        };
        value.filter(|value| value.len() <= VALUE_BYTES_MAX)
    }
}

/// A JSON scalar as a value, see the module; `None`: it is none.
pub fn json_scalar(text: &[u8]) -> Option<Cow<'_, str>> {
    scalar(text, std::iter::empty()).filter(|value| value.len() <= VALUE_BYTES_MAX)
}

const DATA: &str = "data.";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Draft;
    use crate::position::{Epoch, Position};

    fn value(field: &str, draft: &Draft<'_>) -> Option<String> {
        let position = Position { epoch: Epoch::new(1, 1), offset: 1 };
        let event = draft.build().unwrap().place(position, 1);
        let field = Field::parse(field).unwrap();
        field.value(EventView::from(&event)).map(Cow::into_owned)
    }

    #[test]
    fn only_known_names_and_bounded_paths_are_fields() {
        let check = |text: &str| Field::parse(text).map(|field| field.path().count());
        assert_eq!(check("type"), Ok(0));
        assert_eq!(check("data.a"), Ok(1));
        assert_eq!(check("data.ä b.c"), Ok(2));
        assert_eq!(check("data"), Err(FieldError::Unknown));
        assert_eq!(check("data."), Err(FieldError::EmptyName));
        assert_eq!(check("data.a..b"), Err(FieldError::EmptyName));
        assert_eq!(check("data.a."), Err(FieldError::EmptyName));
        assert_eq!(check(""), Err(FieldError::Unknown));
        assert_eq!(check("Type"), Err(FieldError::Unknown));
        assert_eq!(check(&format!("data{}", ".a".repeat(16))), Ok(16));
        assert_eq!(check(&format!("data{}", ".a".repeat(17))), Err(FieldError::TooDeep));
        assert_eq!(check(&format!("data.{}", "a".repeat(252))), Err(FieldError::TooLong));
    }

    #[test]
    fn only_json_payloads_have_paths_and_empty_header_fields_have_no_value() {
        let data = br#"{"a":"x"}"#;
        let of = |data_kind| Draft { channel: "c", kind: "t", data_kind, data, ..Draft::default() };
        assert_eq!(value("data.a", &of(DataKind::Json)).as_deref(), Some("x"));
        assert_eq!(value("data.a", &of(DataKind::Text)), None);
        assert_eq!(value("data.a", &of(DataKind::Binary)), None);
        assert_eq!(value("type", &of(DataKind::Binary)).as_deref(), Some("t"));
        assert_eq!(value("source", &of(DataKind::Json)), None);
    }

    #[test]
    fn a_payload_and_a_scalar_alone_have_the_value_of_the_event() {
        let field = Field::parse("data.a").unwrap();
        for (scalar, value) in [("1.0", Some("1")), (r#""\u00e9""#, Some("é")), ("{}", None)] {
            let payload = format!("{{\"a\":{scalar}}}");
            assert_eq!(json_scalar(scalar.as_bytes()).as_deref(), value);
            assert_eq!(field.json_value(payload.as_bytes()).as_deref(), value);
        }
        assert_eq!(json_scalar(b""), None);
        assert_eq!(Field::parse("key").unwrap().json_value(br#"{"a":1}"#), None);
    }

    #[test]
    fn a_value_over_its_limit_is_no_value() {
        for (bytes, is_value) in [(VALUE_BYTES_MAX, true), (VALUE_BYTES_MAX + 1, false)] {
            let data = format!("{{\"a\":\"{}\"}}", "x".repeat(bytes));
            let draft = Draft { channel: "c", data: data.as_bytes(), ..Draft::default() };
            assert_eq!(value("data.a", &draft).is_some(), is_value);
        }
    }
}
