//! One `Event` message into an event.

use super::super::scan::Scanner;
use super::super::{Context, RejectCode, Rejection, finish, json, resolve_channel, utf8};
use crate::envelope::write_json_string;
use crate::event::{Class, DataKind, Draft, Unplaced};
use crate::protobuf::{Reader, Wire};
use crate::rfc3339;
use smallvec::SmallVec;

/// The most attributes of one event.
const ATTRIBUTES_MAX: usize = 64;

/// Name and value.
type Attributes<'a> = SmallVec<[(&'a str, &'a str); 4]>;

/// Decodes one `Event`.
pub fn decode_protobuf_event(
    context: &mut Context<'_>,
    message: &[u8],
) -> Result<Unplaced, Rejection> {
    let mut draft = Draft::default();
    let mut channel = "";
    let mut attributes = Attributes::new();
    let mut data = None;
    let mut reader = Reader::new(message);
    while let Some((number, value)) = reader.field().map_err(malformed)? {
        match number {
            1 => channel = text("channel", value)?,
            2 => draft.id = text("id", value)?,
            3 => draft.kind = text("type", value)?,
            4 => draft.source = text("source", value)?,
            5 => draft.time_us = Some(time(value)?),
            6 => draft.key = text("key", value)?,
            7 => draft.class = class(value)?,
            8 => draft.content_type = text("content_type", value)?,
            9 => draft.traceparent = text("traceparent", value)?,
            10 => attribute(&mut attributes, bytes("attributes", value)?)?,
            11 => data = Some((DataKind::Binary, bytes("binary", value)?)),
            12 => data = Some((DataKind::Json, text("json", value)?.as_bytes())),
            13 => data = Some((DataKind::Text, text("text", value)?.as_bytes())),
            _ => {}
        }
    }
    let Some((data_kind, data)) = data else {
        let detail = "none of `binary`, `json` and `text` is set; one of them may be empty";
        return Err(Rejection::new(RejectCode::MissingData, detail));
    };
    draft.data_kind = data_kind;
    draft.data = if data_kind == DataKind::Json { json_value(data)? } else { data };
    draft.channel = resolve_channel(context.channel, channel)?;
    let object = object(&attributes);
    finish(context, Draft { attributes: &object, ..draft })
}

fn malformed(error: crate::protobuf::WireError) -> Rejection {
    Rejection::new(RejectCode::InvalidProtobuf, format!("not an Event: {error}"))
}

fn wire_type(name: &str) -> Rejection {
    let detail = format!("`{name}` has another wire type than the schema's");
    Rejection::new(RejectCode::InvalidProtobuf, detail)
}

fn bytes<'a>(name: &str, value: Wire<'a>) -> Result<&'a [u8], Rejection> {
    let Wire::Bytes(bytes) = value else { return Err(wire_type(name)) };
    Ok(bytes)
}

fn text<'a>(name: &str, value: Wire<'a>) -> Result<&'a str, Rejection> {
    let not_utf8 = || Rejection::new(RejectCode::InvalidUtf8, format!("`{name}` is not UTF-8"));
    utf8(bytes(name, value)?).ok_or_else(not_utf8)
}

fn time(value: Wire<'_>) -> Result<i64, Rejection> {
    let Wire::Varint(number) = value else { return Err(wire_type("time_us")) };
    let range = rfc3339::TIME_US_MIN..=rfc3339::TIME_US_MAX;
    let time_us = number as i64;
    if range.contains(&time_us) {
        return Ok(time_us);
    }
    Err(Rejection::field("time_us", "must be microseconds since 1970, of a year from 0 to 9999"))
}

fn class(value: Wire<'_>) -> Result<Class, Rejection> {
    match value {
        Wire::Varint(0 | 1) => Ok(Class::Normal),
        Wire::Varint(2) => Ok(Class::Critical),
        Wire::Varint(3) => Ok(Class::Sheddable),
        Wire::Varint(_) => Err(Rejection::field("class", "is a number that the schema has not")),
        _ => Err(wire_type("class")),
    }
}

/// One entry of the map: of a name that comes twice the last value counts.
fn attribute<'a>(attributes: &mut Attributes<'a>, entry: &'a [u8]) -> Result<(), Rejection> {
    let (mut name, mut value) = ("", "");
    let mut reader = Reader::new(entry);
    while let Some((number, wire)) = reader.field().map_err(malformed)? {
        match number {
            1 => name = text("attributes", wire)?,
            2 => value = text("attributes", wire)?,
            _ => {}
        }
    }
    if let Some((_, known)) = attributes.iter_mut().find(|(known, _)| *known == name) {
        *known = value;
        return Ok(());
    }
    if attributes.len() == ATTRIBUTES_MAX {
        let detail = format!("more than {ATTRIBUTES_MAX} attributes");
        return Err(Rejection::new(RejectCode::FieldTooLong, detail));
    }
    attributes.push((name, value));
    Ok(())
}

/// The attributes as every other decoder leaves them.
fn object(attributes: &Attributes<'_>) -> String {
    let mut out = Vec::new();
    for (name, value) in attributes {
        out.push(if out.is_empty() { b'{' } else { b',' });
        write_json_string(&mut out, name);
        out.push(b':');
        write_json_string(&mut out, value);
    }
    if !out.is_empty() {
        out.push(b'}');
    }
    String::from_utf8(out).unwrap_or_default()
}

/// An event that says JSON is JSON, here as everywhere.
fn json_value(text: &[u8]) -> Result<&[u8], Rejection> {
    let mut scanner = Scanner::new(text, 0);
    scanner.skip_space();
    let value = scanner.value().and_then(|value| scanner.end().map(|()| value));
    Ok(value.map_err(json::syntax)?.of(text))
}
