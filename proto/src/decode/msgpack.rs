//! MessagePack: the JSON envelope's members as a map, or an array of such maps.
//!
//! `data` becomes JSON, so that every subscriber can read it, whatever it speaks; see [`value`] for
//! what has a JSON form. Only `data` that *is* binary (`bin`) stays as it is, and a string is text
//! if `content_type` says so. The other members mean what they mean in JSON, `nil` is absent, and
//! `time` may also be MessagePack's own timestamp. A member that does not exist, and any member
//! twice, refuses the item by name.
//!
//! An item's extent is found first, without recursion and without believing an announced length:
//! everything is a slice of the body or not there. So what is wrong inside an item loses none of
//! its neighbours; only bytes that are no MessagePack end the body. Deliberately absent: streaming
//! (the body is buffered, up to its limit), several values in a row. Tested against `rmpv` and
//! fuzzed (`tests/fuzz`, target `msgpack`).

mod value;

use super::content::is_text;
use super::json::{both_data, decode_base64, parse_class};
use super::reject::quoted;
use super::{Context, Item, Progress, RejectCode, Rejection, finish, resolve_channel, utf8};
use crate::event::{DataKind, Draft, Unplaced};
use crate::rfc3339;
use std::ops::ControlFlow;
use value::{Fault, Reader, Token};

/// The decoder of one buffered body.
#[derive(Debug, Default)]
pub struct MsgpackDecoder {
    at: usize,
    index: u64,
    state: State,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Start,
    /// So many items of an array are still to come.
    Items(u32),
    Done,
}

impl MsgpackDecoder {
    /// A decoder at the beginning of a body.
    pub fn new() -> Self {
        Self::default()
    }

    /// Decodes the whole body, or on from where the sink broke off. What is no MessagePack ends it
    /// with one rejection, at the index that could not be read.
    pub fn decode(
        &mut self,
        context: &mut Context<'_>,
        body: &[u8],
        mut sink: impl FnMut(Item) -> ControlFlow<()>,
    ) -> Progress {
        while self.state != State::Done {
            let mut reader = Reader::new(body, self.at);
            let result = match self.step(context, &mut reader) {
                Ok(None) => {
                    self.at = reader.at();
                    continue;
                }
                Ok(Some(result)) => result,
                Err(fault) => {
                    self.state = State::Done;
                    Err(malformed(fault))
                }
            };
            self.at = reader.at();
            let index = self.index;
            self.index += 1;
            let item = Item { index, result: result.map_err(|rejection| rejection.at(index)) };
            if sink(item).is_break() {
                return Progress::Stopped;
            }
        }
        Progress::Done
    }

    /// One step; `Some` is an item.
    fn step(
        &mut self,
        context: &mut Context<'_>,
        reader: &mut Reader<'_>,
    ) -> Result<Option<Result<Unplaced, Rejection>>, Fault> {
        match self.state {
            State::Start => {
                if reader.is_at_end() {
                    return reader.fault("the body is empty");
                }
                let start = reader.at();
                if let Token::Array(count) = reader.token()? {
                    self.state = State::Items(count);
                    return Ok(None);
                }
                // The whole body is one item: what follows it spoils it.
                *reader = Reader::new(reader.bytes(), start);
                let item = item(context, reader)?;
                reader.end()?;
                self.state = State::Done;
                Ok(Some(item))
            }
            State::Items(0) => {
                reader.end()?;
                self.state = State::Done;
                Ok(None)
            }
            State::Items(left) => {
                let item = item(context, reader)?;
                self.state = State::Items(left - 1);
                Ok(Some(item))
            }
            State::Done => Ok(None),
        }
    }
}

fn malformed(fault: Fault) -> Rejection {
    let detail = format!("not MessagePack at byte {}: {}", fault.at, fault.what);
    Rejection::new(RejectCode::InvalidMsgpack, detail)
}

/// Decodes the item at the cursor. The outer error ends the body, the inner one the item.
fn item(
    context: &mut Context<'_>,
    reader: &mut Reader<'_>,
) -> Result<Result<Unplaced, Rejection>, Fault> {
    let start = reader.at();
    reader.skip()?;
    let mut inside = Reader::new(reader.bytes(), start);
    let Token::Map(count) = inside.token()? else {
        let detail = "an item must be a map";
        return Ok(Err(Rejection::new(RejectCode::NotAnObject, detail)));
    };
    let mut members = Members::default();
    let mut refused = None;
    for _ in 0..count {
        let Token::Str(name) = inside.token()? else {
            let detail = "a member's name is not a string";
            return Ok(Err(Rejection::new(RejectCode::InvalidField, detail)));
        };
        let at = inside.at();
        inside.skip()?;
        let (code, what) = match Members::slot(name).and_then(|slot| members.0.get_mut(slot)) {
            Some(place @ None) => {
                *place = Some(at);
                continue;
            }
            Some(Some(_)) => (RejectCode::DuplicateMember, "appears twice"),
            None => (RejectCode::UnknownMember, "is not a member of an event"),
        };
        refused.get_or_insert_with(|| Rejection::new(code, format!("{} {what}", quoted(name))));
    }
    if let Some(rejection) = refused {
        return Ok(Err(rejection));
    }
    Ok(build(context, &Envelope { bytes: reader.bytes(), members }))
}

/// Where the value of each member begins.
#[derive(Debug, Default)]
struct Members([Option<usize>; NAMES.len()]);

const NAMES: [&str; 12] = [
    "id",
    "channel",
    "type",
    "source",
    "key",
    "content_type",
    "traceparent",
    "class",
    "time",
    "attributes",
    "data",
    "data_base64",
];

impl Members {
    fn slot(name: &[u8]) -> Option<usize> {
        NAMES.iter().position(|own| own.as_bytes() == name)
    }
}

/// The members of one item.
struct Envelope<'a> {
    bytes: &'a [u8],
    members: Members,
}

impl<'a> Envelope<'a> {
    /// A reader at a member's value; `None` if it is absent or `nil`.
    fn value(&self, name: &str) -> Option<Reader<'a>> {
        let reader = self.present(name)?;
        (reader.clone().token() != Ok(Token::Nil)).then_some(reader)
    }

    /// The same, where `nil` is a value.
    fn present(&self, name: &str) -> Option<Reader<'a>> {
        let slot = Members::slot(name.as_bytes())?;
        let at = self.members.0.get(slot).copied().flatten()?;
        Some(Reader::new(self.bytes, at))
    }

    /// A string member; empty if absent.
    fn string(&self, name: &str) -> Result<&'a str, Rejection> {
        match self.value(name).map(|mut reader| reader.token()) {
            None => Ok(""),
            Some(Ok(Token::Str(text))) => utf8(text).ok_or_else(|| not_utf8(name)),
            Some(_) => Err(Rejection::field(name, "must be a string")),
        }
    }

    fn attributes(&self, bytes_max: usize) -> Result<Vec<u8>, Rejection> {
        let Some(reader) = self.value("attributes") else { return Ok(Vec::new()) };
        if !matches!(reader.clone().token(), Ok(Token::Map(_))) {
            return Err(Rejection::field("attributes", "must be a map"));
        }
        value::to_json(reader, "attributes", bytes_max)
    }

    /// Text as in JSON, an integer of milliseconds, or a timestamp.
    fn time(&self) -> Result<Option<i64>, Rejection> {
        let time_us = match self.value("time").map(|mut reader| reader.token()) {
            None | Some(Ok(Token::Str(b""))) => return Ok(None),
            Some(Ok(Token::Str(text))) => utf8(text).and_then(rfc3339::parse_rfc3339),
            Some(Ok(Token::Unsigned(ms))) => {
                i64::try_from(ms).ok().and_then(|n| n.checked_mul(1000))
            }
            Some(Ok(Token::Signed(ms))) => ms.checked_mul(1000),
            Some(Ok(Token::Ext(-1, timestamp))) => value::timestamp_us(timestamp),
            Some(_) => None,
        };
        let range = rfc3339::TIME_US_MIN..=rfc3339::TIME_US_MAX;
        match time_us.filter(|time_us| range.contains(time_us)) {
            Some(time_us) => Ok(Some(time_us)),
            None => Err(Rejection::field(
                "time",
                "must be RFC 3339 text, an integer of milliseconds since 1970, or a timestamp",
            )),
        }
    }
}

fn not_utf8(name: &str) -> Rejection {
    Rejection::new(RejectCode::InvalidUtf8, format!("`{name}` is not UTF-8"))
}

fn build(context: &mut Context<'_>, item: &Envelope<'_>) -> Result<Unplaced, Rejection> {
    let content_type = item.string("content_type")?;
    let attributes = item.attributes(crate::event::ATTRIBUTES_BYTES_MAX)?;
    let made;
    let data = item.present("data");
    let (data_kind, data) = match (data, item.value("data_base64")) {
        (Some(reader), None) => match reader.clone().token() {
            Ok(Token::Bin(binary)) => (DataKind::Binary, binary),
            Ok(Token::Str(text)) if is_text(content_type) => {
                utf8(text).ok_or_else(|| not_utf8("data"))?;
                (DataKind::Text, text)
            }
            _ => {
                made = value::to_json(reader, "data", context.data_bytes_max)?;
                (DataKind::Json, made.as_slice())
            }
        },
        (None, Some(_)) => {
            made = decode_base64(context, item.string("data_base64")?)?;
            (DataKind::Binary, made.as_slice())
        }
        (Some(_), Some(_)) => return Err(both_data()),
        (None, None) => {
            let detail = "`data` is missing (it may be nil, and binary data may be a `bin`)";
            return Err(Rejection::new(RejectCode::MissingData, detail));
        }
    };
    let draft = Draft {
        channel: resolve_channel(context.channel, item.string("channel")?)?,
        id: item.string("id")?,
        id_generated: false,
        kind: item.string("type")?,
        source: item.string("source")?,
        key: item.string("key")?,
        content_type,
        traceparent: item.string("traceparent")?,
        attributes: utf8(&attributes).unwrap_or_default(),
        time_us: item.time()?,
        of_client: false,
        class: parse_class(item.string("class")?)?,
        data_kind,
        data,
    };
    finish(context, draft)
}

#[cfg(test)]
mod tests;
