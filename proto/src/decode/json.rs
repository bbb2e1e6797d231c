//! Envelopes: JSON objects whose members are the event's fields.
//!
//! `data` is required (any value, `null` too) and kept byte for byte as it was sent; `data_base64`
//! stands for binary data instead, and a string is text if `content_type` says so. Optional
//! members: `id`, `channel`, `type`, `source`, `key`, `content_type`, `traceparent` (strings),
//! `time` (RFC 3339 text, or an integer: milliseconds since the Unix epoch), `class` (`critical`,
//! `normal`, `sheddable`), `attributes` (an object).
//! Each of them may be `null` or an empty string, which means absent. Any other member, and any
//! member twice, refuses the item by name.
//!
//! One pass of our own scanner over the item finds the members and proves that all of it is JSON;
//! UTF-8 is checked once over the whole item. A 310-byte line (channel, type, id, 220 bytes of
//! data) takes 335 ns to an [`Unplaced`], allocation and copy included, against 545 ns through
//! `serde_json` with borrowed strings and `RawValue`; both on a busy 2-core virtual EPYC
//! (`cargo run -p proto --release --example decode_speed`).

use super::content::is_text;
use super::reject::quoted;
use super::scan::{Fault, Raw, Scanner};
use super::{Context, Item, RejectCode, Rejection, cloudevents, finish, resolve_channel, utf8};
use crate::event::{Class, DataKind, Draft, Unplaced};
use crate::rfc3339;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::borrow::Cow;
use std::ops::ControlFlow;

/// What a buffered body must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyShape {
    /// An envelope or an array of envelopes; the first byte tells.
    Envelopes,
    /// One CloudEvent.
    CloudEvent,
    /// An array of CloudEvents.
    CloudEventBatch,
}

/// How far [`BodyDecoder::decode`] came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The body is decoded.
    Done,
    /// The sink broke off. Call again with the same body to go on.
    Stopped,
}

/// The decoder of one buffered body of JSON.
#[derive(Debug)]
pub struct BodyDecoder {
    shape: BodyShape,
    state: State,
    at: usize,
    index: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    /// An item of an array must come.
    Item,
    /// A comma or the array's end must come.
    AfterItem,
    Done,
}

impl BodyDecoder {
    /// A decoder at the beginning of a body.
    pub fn new(shape: BodyShape) -> Self {
        Self { shape, state: State::Start, at: 0, index: 0 }
    }

    /// Decodes the whole body, or on from where the sink broke off. A syntax error in an array
    /// ends it with one rejection, at the index that could not be read.
    pub fn decode(
        &mut self,
        context: &mut Context<'_>,
        body: &[u8],
        mut sink: impl FnMut(Item) -> ControlFlow<()>,
    ) -> Progress {
        while self.state != State::Done {
            let mut scanner = Scanner::new(body, self.at);
            let result = match self.step(context, &mut scanner) {
                Ok(None) => {
                    self.at = scanner.at();
                    continue;
                }
                Ok(Some(result)) => result,
                Err(fault) => {
                    self.state = State::Done;
                    Err(syntax(fault))
                }
            };
            self.at = scanner.at();
            let index = self.index;
            self.index += 1;
            let item = Item { index, result: result.map_err(|rejection| rejection.at(index)) };
            if sink(item).is_break() {
                return Progress::Stopped;
            }
        }
        Progress::Done
    }

    /// One step of the array's grammar. `Some` is an item.
    fn step(
        &mut self,
        context: &mut Context<'_>,
        scanner: &mut Scanner<'_>,
    ) -> Result<Option<Result<Unplaced, Rejection>>, Fault> {
        scanner.skip_space();
        match self.state {
            State::Start => return self.start(context, scanner),
            State::Item => {
                let item = item(self.shape, context, scanner)?;
                self.state = State::AfterItem;
                return Ok(Some(item));
            }
            State::AfterItem if scanner.eat(b',') => self.state = State::Item,
            State::AfterItem if scanner.eat(b']') => {
                scanner.end()?;
                self.state = State::Done;
            }
            State::AfterItem => return scanner.fault("expected `,` or `]` after an item"),
            State::Done => {}
        }
        Ok(None)
    }

    fn start(
        &mut self,
        context: &mut Context<'_>,
        scanner: &mut Scanner<'_>,
    ) -> Result<Option<Result<Unplaced, Rejection>>, Fault> {
        match (self.shape, scanner.peek()) {
            (_, None) => return scanner.fault("the body is empty"),
            (BodyShape::Envelopes | BodyShape::CloudEventBatch, Some(b'[')) => {
                scanner.eat(b'[');
                scanner.skip_space();
                self.state = State::Item;
                if scanner.eat(b']') {
                    scanner.end()?;
                    self.state = State::Done;
                }
                return Ok(None);
            }
            (BodyShape::CloudEventBatch, _) => return scanner.fault("expected an array"),
            (BodyShape::Envelopes | BodyShape::CloudEvent, _) => {}
        }
        // The whole body is one item: what follows it spoils it.
        let item = item(self.shape, context, scanner)?;
        scanner.end()?;
        self.state = State::Done;
        Ok(Some(item))
    }
}

/// Decodes the item at the cursor. The outer error ends the body, the inner one the item.
fn item(
    shape: BodyShape,
    context: &mut Context<'_>,
    scanner: &mut Scanner<'_>,
) -> Result<Result<Unplaced, Rejection>, Fault> {
    if scanner.peek() != Some(b'{') {
        scanner.value()?;
        let detail = "an item must be an object";
        return Ok(Err(Rejection::new(RejectCode::NotAnObject, detail)));
    }
    match shape {
        BodyShape::Envelopes => envelope(context, scanner),
        BodyShape::CloudEvent | BodyShape::CloudEventBatch => {
            cloudevents::json_event(context, scanner)
        }
    }
}

/// Decodes a text that must be exactly one envelope: a line of NDJSON.
pub fn decode_envelope(context: &mut Context<'_>, text: &[u8]) -> Result<Unplaced, Rejection> {
    let mut scanner = Scanner::new(text, 0);
    scanner.skip_space();
    let item = item(BodyShape::Envelopes, context, &mut scanner);
    let item = item.and_then(|item| scanner.end().map(|()| item));
    item.unwrap_or_else(|fault| Err(syntax(fault)))
}

pub(super) fn syntax(fault: Fault) -> Rejection {
    if fault.too_deep {
        let limit = super::scan::DEPTH_MAX;
        let detail = format!("`data` nests deeper than {limit} levels at byte {}", fault.at);
        return Rejection::new(RejectCode::TooDeep, detail);
    }
    let detail = format!("not JSON at byte {}: {}", fault.at, fault.what);
    Rejection::new(RejectCode::InvalidJson, detail)
}

/// The members of one envelope, as ranges.
#[derive(Debug, Default)]
struct Members {
    id: Raw,
    channel: Raw,
    kind: Raw,
    source: Raw,
    time: Raw,
    key: Raw,
    data: Raw,
    data_base64: Raw,
    class: Raw,
    content_type: Raw,
    traceparent: Raw,
    attributes: Raw,
}

impl Members {
    fn slot(&mut self, name: &[u8]) -> Option<&mut Raw> {
        Some(match name {
            b"id" => &mut self.id,
            b"channel" => &mut self.channel,
            b"type" => &mut self.kind,
            b"source" => &mut self.source,
            b"time" => &mut self.time,
            b"key" => &mut self.key,
            b"data" => &mut self.data,
            b"data_base64" => &mut self.data_base64,
            b"class" => &mut self.class,
            b"content_type" => &mut self.content_type,
            b"traceparent" => &mut self.traceparent,
            b"attributes" => &mut self.attributes,
            _ => return None,
        })
    }
}

fn envelope(
    context: &mut Context<'_>,
    scanner: &mut Scanner<'_>,
) -> Result<Result<Unplaced, Rejection>, Fault> {
    let start = scanner.at();
    let mut members = Members::default();
    let mut refused = None;
    scanner.object(|bytes, name, value| {
        let name = name_of(bytes, name);
        let (code, what) = match members.slot(&name) {
            Some(slot) if slot.is_absent() => {
                *slot = value;
                return;
            }
            Some(_) => (RejectCode::DuplicateMember, "appears twice"),
            None => (RejectCode::UnknownMember, "is not a member of an event"),
        };
        refused.get_or_insert_with(|| Rejection::new(code, format!("{} {what}", quoted(&name))));
    })?;
    let bytes = scanner.bytes().get(start..scanner.at()).unwrap_or_default();
    let Some(text) = utf8(bytes) else {
        return Ok(Err(Rejection::new(RejectCode::InvalidUtf8, "the item is not UTF-8")));
    };
    if let Some(rejection) = refused {
        return Ok(Err(rejection));
    }
    Ok(build(context, &members, ItemText { text, start }))
}

fn build(
    context: &mut Context<'_>,
    members: &Members,
    item: ItemText<'_>,
) -> Result<Unplaced, Rejection> {
    let id = item.string(members.id, "id")?;
    let channel = item.string(members.channel, "channel")?;
    let kind = item.string(members.kind, "type")?;
    let source = item.string(members.source, "source")?;
    let key = item.string(members.key, "key")?;
    let content_type = item.string(members.content_type, "content_type")?;
    let traceparent = item.string(members.traceparent, "traceparent")?;
    let class = item.string(members.class, "class")?;
    let attributes = item.raw(members.attributes);
    if !matches!(attributes.as_bytes().first(), None | Some(b'{' | b'n')) {
        return Err(Rejection::field("attributes", "must be an object"));
    }
    let (text, binary);
    let (data_kind, data) = match (members.data.is_absent(), item.is_set(members.data_base64)) {
        // As an envelope writes text, so it is read.
        (false, false) if is_text(&content_type) && item.raw(members.data).starts_with('"') => {
            text = item.string(members.data, "data")?;
            (DataKind::Text, text.as_bytes())
        }
        (false, false) => (DataKind::Json, item.raw(members.data).as_bytes()),
        (true, true) => {
            binary = item.base64(context, members.data_base64)?;
            (DataKind::Binary, binary.as_slice())
        }
        (false, true) => return Err(both_data()),
        (true, false) => {
            return Err(Rejection::new(
                RejectCode::MissingData,
                "`data` is missing (it may be null; binary data goes into `data_base64`)",
            ));
        }
    };
    let draft = Draft {
        channel: resolve_channel(context.channel, &channel)?,
        id: &id,
        id_generated: false,
        kind: &kind,
        source: &source,
        key: &key,
        content_type: &content_type,
        traceparent: &traceparent,
        attributes: if attributes.starts_with('{') { attributes } else { "" },
        time_us: item.time(members.time)?,
        of_client: false,
        class: parse_class(&class)?,
        data_kind,
        data,
    };
    finish(context, draft)
}

pub(super) fn both_data() -> Rejection {
    Rejection::new(RejectCode::DuplicateMember, "`data` and `data_base64` exclude each other")
}

/// `data_base64`: the standard alphabet with padding.
pub(super) fn decode_base64(context: &Context<'_>, text: &str) -> Result<Vec<u8>, Rejection> {
    // Checked before decoding, so that refused data costs no memory.
    if text.len() / 4 * 3 > context.data_bytes_max.saturating_add(3) {
        return Err(Rejection::data_too_large(context.data_bytes_max));
    }
    let bad = |_| Rejection::field("data_base64", "is not standard base64 with padding");
    STANDARD.decode(text.as_bytes()).map_err(bad)
}

pub(super) fn parse_class(class: &str) -> Result<Class, Rejection> {
    if class.is_empty() {
        return Ok(Class::default());
    }
    let unknown = || Rejection::field("class", "must be `critical`, `normal` or `sheddable`");
    Class::parse(class).ok_or_else(unknown)
}

/// A member's name without its escapes. A name that has no meaning (a lone surrogate) stays as it
/// is written: it can only be unknown.
pub(super) fn name_of(bytes: &[u8], name: Raw) -> Cow<'_, [u8]> {
    if !name.escaped {
        return Cow::Borrowed(name.inner(bytes));
    }
    match serde_json::from_slice::<String>(name.of(bytes)) {
        Ok(name) => Cow::Owned(name.into_bytes()),
        Err(_) => Cow::Borrowed(name.inner(bytes)),
    }
}

/// An item's text, proved UTF-8, in the coordinates of the body it was found in.
#[derive(Debug, Clone, Copy)]
pub(super) struct ItemText<'a> {
    pub text: &'a str,
    pub start: usize,
}

impl<'a> ItemText<'a> {
    /// A value as it is written; empty if absent.
    pub fn raw(self, raw: Raw) -> &'a str {
        let range = raw.start.wrapping_sub(self.start)..raw.end.wrapping_sub(self.start);
        if raw.is_absent() { "" } else { self.text.get(range).unwrap_or_default() }
    }

    /// Present and not `null`.
    pub fn is_set(self, raw: Raw) -> bool {
        !matches!(self.raw(raw).as_bytes().first(), None | Some(b'n'))
    }

    /// A string member; empty if absent or `null`.
    pub fn string(self, raw: Raw, name: &str) -> Result<Cow<'a, str>, Rejection> {
        let text = self.raw(raw);
        match text.as_bytes().first() {
            None | Some(b'n') => Ok(Cow::Borrowed("")),
            Some(b'"') if !raw.escaped => {
                Ok(Cow::Borrowed(text.get(1..text.len() - 1).unwrap_or_default()))
            }
            Some(b'"') => serde_json::from_str(text)
                .map(Cow::Owned)
                .map_err(|_| Rejection::field(name, "has an unpaired surrogate")),
            Some(_) => Err(Rejection::field(name, "must be a string")),
        }
    }

    /// See [`decode_base64`].
    pub fn base64(self, context: &Context<'_>, raw: Raw) -> Result<Vec<u8>, Rejection> {
        decode_base64(context, &self.string(raw, "data_base64")?)
    }

    /// RFC 3339 text or an integer of milliseconds.
    fn time(self, raw: Raw) -> Result<Option<i64>, Rejection> {
        let text = self.raw(raw);
        let time_us = match text.as_bytes().first() {
            None | Some(b'n') => return Ok(None),
            Some(b'"') => {
                let text = self.string(raw, "time")?;
                if text.is_empty() {
                    return Ok(None);
                }
                rfc3339::parse_rfc3339(&text)
            }
            Some(_) => text.parse::<i64>().ok().and_then(|ms| ms.checked_mul(1000)),
        };
        let range = rfc3339::TIME_US_MIN..=rfc3339::TIME_US_MAX;
        match time_us.filter(|time_us| range.contains(time_us)) {
            Some(time_us) => Ok(Some(time_us)),
            None => Err(Rejection::field(
                "time",
                "must be RFC 3339 text or an integer of milliseconds since 1970",
            )),
        }
    }
}
