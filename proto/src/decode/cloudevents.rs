//! CloudEvents 1.0: the JSON format, its batch, and the HTTP binary mode.
//!
//! How attributes become an event: `id`, `source`, `type` and `time` are the event's own;
//! `datacontenttype` is its content type; the extensions `partitionkey`, `traceparent` and
//! `channel` are its key, trace context and channel, and `class` its class if it names one of ours.
//! `subject`, `dataschema` and every other extension are kept as members of
//! [`crate::event::Event::attributes`], with their types where the format has types.
//!
//! Required: `specversion` 1.0, `id`, `source`, `type`, none of them empty. Without data the event
//! is empty. Deliberately absent: other event formats, checks of URIs.

use super::content::{is_json, is_text};
use super::json::{ItemText, both_data, name_of};
use super::reject::quoted;
use super::scan::{Fault, Raw, Scanner};
use super::{Context, RejectCode, Rejection, finish, has_control, resolve_channel, utf8};
use crate::envelope::write_json_string;
use crate::event::{Class, DataKind, Draft, Unplaced};
use crate::rfc3339::parse_rfc3339;
use percent_encoding::percent_decode;
use smallvec::SmallVec;
use std::borrow::Cow;

/// The most extension attributes of one event.
const EXTENSIONS_MAX: usize = 64;

/// Whether a request is a CloudEvent in binary mode: it has one of the required attributes as a
/// header. (All of them are required; one is enough to be told by name which are missing.)
pub fn has_cloudevent_headers<'a>(names: impl IntoIterator<Item = &'a str>) -> bool {
    let required = ["ce-specversion", "ce-id", "ce-source", "ce-type"];
    names.into_iter().any(|name| required.iter().any(|r| name.eq_ignore_ascii_case(r)))
}

/// The attributes that mean something to us, and the others as a JSON object in the making.
#[derive(Debug, Default)]
struct Attributes<'a> {
    specversion: Option<Cow<'a, str>>,
    id: Option<Cow<'a, str>>,
    source: Option<Cow<'a, str>>,
    kind: Option<Cow<'a, str>>,
    time: Option<Cow<'a, str>>,
    content_type: Option<Cow<'a, str>>,
    key: Option<Cow<'a, str>>,
    traceparent: Option<Cow<'a, str>>,
    channel: Option<Cow<'a, str>>,
    class: Option<Class>,
    /// Names that went into `kept`, to find a second one.
    names: SmallVec<[Cow<'a, str>; 8]>,
    kept: Vec<u8>,
}

impl<'a> Attributes<'a> {
    fn slot(&mut self, name: &str) -> Option<&mut Option<Cow<'a, str>>> {
        Some(match name {
            "specversion" => &mut self.specversion,
            "id" => &mut self.id,
            "source" => &mut self.source,
            "type" => &mut self.kind,
            "time" => &mut self.time,
            "datacontenttype" => &mut self.content_type,
            "partitionkey" => &mut self.key,
            "traceparent" => &mut self.traceparent,
            "channel" => &mut self.channel,
            _ => return None,
        })
    }

    /// Takes a string attribute.
    fn set(&mut self, name: Cow<'a, str>, value: Cow<'a, str>) -> Result<(), Rejection> {
        if has_control(&value) {
            return Err(Rejection::field(&name, "has a control character"));
        }
        if let Some(slot) = self.slot(&name) {
            return match slot.replace(value) {
                None => Ok(()),
                Some(_) => Err(duplicate(&name)),
            };
        }
        if matches!(&*name, "subject" | "dataschema") && value.is_empty() {
            return Err(Rejection::field(&name, "must not be empty"));
        }
        if name == "class"
            && let Some(class) = Class::parse(&value)
        {
            return match self.class.replace(class) {
                None => Ok(()),
                Some(_) => Err(duplicate(&name)),
            };
        }
        self.keep(name)?;
        write_json_string(&mut self.kept, &value);
        Ok(())
    }

    /// Takes an extension that is not a string, as its JSON text.
    fn set_literal(&mut self, name: Cow<'a, str>, json: &str) -> Result<(), Rejection> {
        if self.slot(&name).is_some() || matches!(&*name, "subject" | "dataschema") {
            return Err(Rejection::field(&name, "must be a string"));
        }
        self.keep(name)?;
        self.kept.extend_from_slice(json.as_bytes());
        Ok(())
    }

    /// Begins a member of the kept object.
    fn keep(&mut self, name: Cow<'a, str>) -> Result<(), Rejection> {
        if self.names.contains(&name) {
            return Err(duplicate(&name));
        }
        if self.names.len() == EXTENSIONS_MAX {
            let detail = format!("more than {EXTENSIONS_MAX} extension attributes");
            return Err(Rejection::new(RejectCode::FieldTooLong, detail));
        }
        self.kept.push(if self.kept.is_empty() { b'{' } else { b',' });
        write_json_string(&mut self.kept, &name);
        self.kept.push(b':');
        self.names.push(name);
        Ok(())
    }

    fn content_type(&self) -> &str {
        self.content_type.as_deref().unwrap_or_default()
    }

    fn build(
        mut self,
        context: &mut Context<'_>,
        data_kind: DataKind,
        data: &[u8],
    ) -> Result<Unplaced, Rejection> {
        let required = [
            ("specversion", &self.specversion),
            ("id", &self.id),
            ("source", &self.source),
            ("type", &self.kind),
        ];
        for (name, value) in required {
            if value.as_deref().unwrap_or_default().is_empty() {
                let detail = format!("the CloudEvents attribute `{name}` is missing or empty");
                return Err(Rejection::new(RejectCode::MissingAttribute, detail));
            }
        }
        if self.specversion.as_deref() != Some("1.0") {
            return Err(Rejection::field("specversion", "must be `1.0`"));
        }
        let time_us = match self.time.as_deref() {
            None => None,
            Some(time) => match parse_rfc3339(time) {
                None => return Err(Rejection::field("time", "must be RFC 3339 text")),
                time_us => time_us,
            },
        };
        if !self.kept.is_empty() {
            self.kept.push(b'}');
        }
        let draft = Draft {
            channel: resolve_channel(context.channel, self.channel.as_deref().unwrap_or_default())?,
            id: self.id.as_deref().unwrap_or_default(),
            id_generated: false,
            kind: self.kind.as_deref().unwrap_or_default(),
            source: self.source.as_deref().unwrap_or_default(),
            key: self.key.as_deref().unwrap_or_default(),
            content_type: self.content_type.as_deref().unwrap_or_default(),
            traceparent: self.traceparent.as_deref().unwrap_or_default(),
            attributes: utf8(&self.kept).unwrap_or_default(),
            time_us,
            of_client: false,
            class: self.class.unwrap_or_default(),
            data_kind,
            data,
        };
        finish(context, draft)
    }
}

fn duplicate(name: &str) -> Rejection {
    let detail = format!("{} appears twice", quoted(name.as_bytes()));
    Rejection::new(RejectCode::DuplicateMember, detail)
}

//= cloudevents#attribute-naming-convention
/// Lower-case ASCII letters and digits.
fn check_name(name: &str) -> Result<(), Rejection> {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    if !name.is_empty() && name.bytes().all(legal) {
        return Ok(());
    }
    Err(Rejection::field(name, "is no attribute name; use a-z and 0-9"))
}

/// Decodes the CloudEvent at the cursor; the errors are those of `json::item`.
pub(super) fn json_event(
    context: &mut Context<'_>,
    scanner: &mut Scanner<'_>,
) -> Result<Result<Unplaced, Rejection>, Fault> {
    let start = scanner.at();
    let mut members = SmallVec::<[(Raw, Raw); 16]>::new();
    let mut count = 0;
    scanner.object(|_, name, value| {
        count += 1;
        if count <= MEMBERS_MAX {
            members.push((name, value));
        }
    })?;
    let bytes = scanner.bytes().get(start..scanner.at()).unwrap_or_default();
    let Some(text) = utf8(bytes) else {
        return Ok(Err(Rejection::new(RejectCode::InvalidUtf8, "the event is not UTF-8")));
    };
    if count > MEMBERS_MAX {
        let detail = format!("the event has more than {MEMBERS_MAX} members");
        return Ok(Err(Rejection::new(RejectCode::FieldTooLong, detail)));
    }
    Ok(from_members(context, scanner.bytes(), &members, ItemText { text, start }))
}

/// Extensions, and every attribute that has a place of its own.
const MEMBERS_MAX: usize = EXTENSIONS_MAX + 16;

fn from_members(
    context: &mut Context<'_>,
    bytes: &[u8],
    members: &[(Raw, Raw)],
    item: ItemText<'_>,
) -> Result<Unplaced, Rejection> {
    let mut attributes = Attributes::default();
    let (mut data, mut data_base64) = (Raw::default(), Raw::default());
    for &(name, value) in members {
        let name = match name_of(bytes, name) {
            Cow::Borrowed(name) => String::from_utf8_lossy(name),
            Cow::Owned(name) => Cow::Owned(String::from_utf8(name).unwrap_or_default()),
        };
        let payload = match &*name {
            "data" => &mut data,
            "data_base64" => &mut data_base64,
            _ => {
                check_name(&name)?;
                attribute(&mut attributes, name, value, item)?;
                continue;
            }
        };
        if !payload.is_absent() {
            return Err(duplicate(&name));
        }
        *payload = value;
    }
    if item.is_set(data_base64) {
        if !data.is_absent() {
            return Err(both_data());
        }
        let binary = item.base64(context, data_base64)?;
        return attributes.build(context, DataKind::Binary, &binary);
    }
    //= cloudevents-json#3.1.2
    // Data under a type that is not JSON is a string that stands for its characters.
    if data.is_absent() {
        return attributes.build(context, DataKind::Text, b"");
    }
    if attributes.content_type().is_empty() || is_json(attributes.content_type()) {
        return attributes.build(context, DataKind::Json, item.raw(data).as_bytes());
    }
    if !item.raw(data).starts_with('"') {
        let what = "must be a string, because `datacontenttype` is not JSON";
        return Err(Rejection::field("data", what));
    }
    let text = item.string(data, "data")?;
    attributes.build(context, DataKind::Text, text.as_bytes())
}

//= cloudevents-json#2.2
/// `null` means unset; the only other types of an attribute are string, boolean and integer.
fn attribute<'a>(
    attributes: &mut Attributes<'a>,
    name: Cow<'a, str>,
    value: Raw,
    item: ItemText<'a>,
) -> Result<(), Rejection> {
    let json = item.raw(value);
    match json.as_bytes().first() {
        None | Some(b'n') => Ok(()),
        Some(b'"') => {
            let value = item.string(value, &name)?;
            attributes.set(name, value)
        }
        Some(b't' | b'f') => attributes.set_literal(name, json),
        //= cloudevents#type-system
        // An integer has 32 bits and neither fraction nor exponent.
        Some(b'-' | b'0'..=b'9') if json.parse::<i32>().is_ok() => {
            attributes.set_literal(name, json)
        }
        Some(_) => Err(Rejection::field(&name, "must be a string, a boolean or a 32-bit integer")),
    }
}

/// Decodes a CloudEvent in HTTP binary mode: attributes from the request's headers (all of them;
/// those without the prefix `ce-` are passed over), data from the body.
pub fn decode_cloudevent_binary<'a>(
    context: &mut Context<'_>,
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    content_type: Option<&'a str>,
    body: &[u8],
) -> Result<Unplaced, Rejection> {
    let mut attributes = Attributes::default();
    for (header, value) in headers {
        let Some((prefix, name)) = header.split_at_checked(3) else { continue };
        if !prefix.eq_ignore_ascii_case("ce-") {
            continue;
        }
        let name = name.to_ascii_lowercase();
        check_name(&name)?;
        //= cloudevents-http#3.1.1
        // The Content-Type is the attribute; a second one must not be there. The body is the data.
        match name.as_str() {
            "datacontenttype" => {
                return Err(Rejection::field("ce-datacontenttype", "must be sent as Content-Type"));
            }
            "data" => return Err(Rejection::field("ce-data", "must be sent as the body")),
            _ => {}
        }
        let value = header_value(&name, value)?;
        attributes.set(Cow::Owned(name), Cow::Owned(value))?;
    }
    let content_type = content_type.unwrap_or_default().trim_matches([' ', '\t']);
    attributes.content_type = Some(Cow::Borrowed(content_type));
    let (data_kind, data) = body_data(content_type, body)?;
    attributes.build(context, data_kind, data)
}

/// JSON is checked here, as everywhere: an event that says JSON is JSON.
fn body_data<'a>(content_type: &str, body: &'a [u8]) -> Result<(DataKind, &'a [u8]), Rejection> {
    let utf8_only = super::content::charset(content_type)
        .is_none_or(|charset| charset.eq_ignore_ascii_case("utf-8"));
    if body.is_empty() {
        return Ok((DataKind::Text, body));
    }
    if is_json(content_type) && utf8_only {
        let mut scanner = Scanner::new(body, 0);
        scanner.skip_space();
        let value = scanner.value().and_then(|value| scanner.end().map(|()| value));
        let value = value.map_err(super::json::syntax)?;
        return match utf8(value.of(body)) {
            Some(json) => Ok((DataKind::Json, json.as_bytes())),
            None => Err(Rejection::new(RejectCode::InvalidUtf8, "the body is not UTF-8")),
        };
    }
    let is_text = is_text(content_type) && utf8(body).is_some();
    Ok((if is_text { DataKind::Text } else { DataKind::Binary }, body))
}

//= cloudevents-http#3.1.3.2
/// Double quotes are taken off first, then one round of percent-decoding; what is not UTF-8 after
/// that is refused.
fn header_value(name: &str, value: &[u8]) -> Result<String, Rejection> {
    let unquoted = unquote(value);
    let decoded: Vec<u8> = percent_decode(&unquoted).collect();
    String::from_utf8(decoded).map_err(|_| Rejection::field(name, "is not UTF-8"))
}

/// The content of a quoted string, or the value as it is if it is none.
fn unquote(value: &[u8]) -> Cow<'_, [u8]> {
    let value = value.trim_ascii();
    let Some(inner) = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")) else {
        return Cow::Borrowed(value);
    };
    let mut out = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'\\' => out.extend(bytes.next()),
            _ => out.push(byte),
        }
    }
    Cow::Owned(out)
}
