//! The JSON that clients get: events in their envelope, and the control messages between them.
//!
//! An event: `{"channel","epoch","offset","id","type","source","time","key","class","content_type",
//! "traceparent","attributes","data"}` in this order, empty fields left out. `epoch` is 16 hex
//! digits, `time` RFC 3339 in UTC with six digits; `epoch:offset` is the event's position. JSON
//! data stands as it was sent, text is a JSON string, binary data is base64 in `data_base64`
//! instead.
//!
//! A control message is told from an event by its first member, `shardcast`, and has no `data`:
//! `{"shardcast":"gap"|"recovered"|"notice","channel","reason","from","to","position"}`. `from` and
//! `to` are the first and the last offset of the run it speaks of, `position` is where the stream
//! stands: the next event is the one after it. Members that mean nothing are left out. The same
//! text is a WebSocket message and the data of the SSE events `shardcast.gap` and so on.
//!
//! Texts are appended to the caller's buffer; each is one JSON object without a line break of ours
//! (JSON data may have its own between tokens). Strings are escaped so that no control character
//! reaches a client, a log or an SSE line. Deliberately absent: framing (see `ws`, `sse`).

use crate::decode::scan::plain_end;
use crate::event::{DataKind, Event};
use crate::position::Position;
use crate::rfc3339::write_rfc3339;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::ops::RangeInclusive;

/// Appends an event's envelope.
pub fn write_envelope(out: &mut Vec<u8>, event: &Event) {
    // Names, digits and punctuation take under 300 bytes; escapes and base64 may still grow it.
    out.reserve(event.size() + 300);
    out.extend_from_slice(b"{\"channel\":");
    write_json_string(out, event.channel());
    out.extend_from_slice(b",\"epoch\":\"");
    write_hex(out, event.position().epoch.0);
    out.extend_from_slice(b"\",\"offset\":");
    write_number(out, event.offset());
    member(out, "id", event.id());
    member(out, "type", event.kind());
    member(out, "source", event.source());
    out.extend_from_slice(b",\"time\":\"");
    write_rfc3339(out, event.time_us());
    out.push(b'"');
    member(out, "key", event.key());
    member(out, "class", event.class().as_str());
    member(out, "content_type", event.content_type());
    member(out, "traceparent", event.traceparent());
    if !event.attributes().is_empty() {
        out.extend_from_slice(b",\"attributes\":");
        out.extend_from_slice(event.attributes().as_bytes());
    }
    write_data(out, event);
    out.push(b'}');
}

fn write_data(out: &mut Vec<u8>, event: &Event) {
    let data = event.data();
    let text = match event.data_kind() {
        DataKind::Json if data.is_empty() => {
            // No decoder lets this pass; a stored image might, and must not break the object.
            out.extend_from_slice(b",\"data\":null");
            return;
        }
        DataKind::Json => {
            out.extend_from_slice(b",\"data\":");
            out.extend_from_slice(data);
            return;
        }
        DataKind::Text => std::str::from_utf8(data).ok(),
        DataKind::Binary => None,
    };
    if let Some(text) = text {
        out.extend_from_slice(b",\"data\":");
        write_json_string(out, text);
        return;
    }
    out.extend_from_slice(b",\"data_base64\":\"");
    write_base64(out, data);
    out.push(b'"');
}

/// Why a subscriber cannot be given everything after the position it came with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GapReason {
    /// It had seen events that an unclean stop lost: they were never acknowledged durable.
    RolledBack,
    /// Its position was never given, or belongs to another data directory.
    Unknown,
    /// Its position is older than the history.
    Expired,
    /// Its position is not one (`since=` or `Last-Event-ID` could not be read).
    Malformed,
}

impl GapReason {
    /// Every reason.
    pub const ALL: [Self; 4] = [Self::RolledBack, Self::Unknown, Self::Expired, Self::Malformed];

    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RolledBack => "rolled_back",
            Self::Unknown => "unknown",
            Self::Expired => "expired",
            Self::Malformed => "malformed",
        }
    }
}

/// What a notice is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NoticeReason {
    /// Events were dropped here because the client reads too slowly; it can still fetch them.
    Dropped,
    /// The server is about to close the connection for a drain.
    Shutdown,
    /// The server sheds load.
    Overload,
    /// The token that opened the stream has expired.
    Expired,
    /// The key that signed the token is being fetched.
    KeysPending,
}

impl NoticeReason {
    /// Every reason.
    pub const ALL: [Self; 5] =
        [Self::Dropped, Self::Shutdown, Self::Overload, Self::Expired, Self::KeysPending];

    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dropped => "dropped",
            Self::Shutdown => "shutdown",
            Self::Overload => "overload",
            Self::Expired => "expired",
            Self::KeysPending => "keys_pending",
        }
    }
}

/// Appends a gap: offsets were or may have been missed. `lost` is the run if it is known,
/// `position` where the stream goes on from.
pub fn write_gap(
    out: &mut Vec<u8>,
    channel: &str,
    reason: GapReason,
    lost: Option<RangeInclusive<u64>>,
    position: Option<Position>,
) {
    write_control(out, "gap", channel, Some(reason.as_str()), lost, position);
}

/// Appends the proof that a resume was whole: every offset of `replayed` follows (`None`: nothing
/// was missed). `position` is the last of them.
pub fn write_recovered(
    out: &mut Vec<u8>,
    channel: &str,
    replayed: Option<RangeInclusive<u64>>,
    position: Option<Position>,
) {
    write_control(out, "recovered", channel, None, replayed, position);
}

/// Appends the start of a subscription that asked for no resume: `position` is where it stands, so
/// that a client cut off before its first event can come back to it.
pub fn write_subscribed(out: &mut Vec<u8>, channel: &str, position: Position) {
    write_control(out, "subscribed", channel, None, None, Some(position));
}

/// Appends bytes as base64 text (RFC 4648 section 4).
pub fn write_base64(out: &mut Vec<u8>, data: &[u8]) {
    let at = out.len();
    out.resize(at + data.len().div_ceil(3) * 4, b'=');
    let written = STANDARD.encode_slice(data, out.get_mut(at..).unwrap_or_default());
    debug_assert_eq!(written.ok(), Some(out.len() - at));
}

/// Appends a notice. For [`NoticeReason::Dropped`], `run` holds the offsets that are missing at
/// this place. An empty `channel` speaks of the whole connection.
pub fn write_notice(
    out: &mut Vec<u8>,
    channel: &str,
    reason: NoticeReason,
    run: Option<RangeInclusive<u64>>,
    position: Option<Position>,
) {
    write_control(out, "notice", channel, Some(reason.as_str()), run, position);
}

fn write_control(
    out: &mut Vec<u8>,
    name: &str,
    channel: &str,
    reason: Option<&str>,
    run: Option<RangeInclusive<u64>>,
    position: Option<Position>,
) {
    out.extend_from_slice(b"{\"shardcast\":");
    write_json_string(out, name);
    member(out, "channel", channel);
    member(out, "reason", reason.unwrap_or_default());
    if let Some(run) = run {
        out.extend_from_slice(b",\"from\":");
        write_number(out, *run.start());
        out.extend_from_slice(b",\"to\":");
        write_number(out, *run.end());
    }
    if let Some(position) = position {
        out.extend_from_slice(b",\"position\":\"");
        position.write_to(out);
        out.push(b'"');
    }
    out.push(b'}');
}

/// `,"name":"value"`, or nothing for an empty value.
fn member(out: &mut Vec<u8>, name: &str, value: &str) {
    if !value.is_empty() {
        out.extend_from_slice(b",\"");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
        write_json_string(out, value);
    }
}

pub(crate) fn write_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn write_hex(out: &mut Vec<u8>, number: u64) {
    for nibble in (0..16).rev() {
        out.push(hex_digit((number >> (nibble * 4)) as u8));
    }
}

fn hex_digit(nibble: u8) -> u8 {
    match nibble & 0xf {
        digit @ 0..=9 => b'0' + digit,
        letter => b'a' + letter - 10,
    }
}

/// Appends a JSON string with its quotes, escaping what RFC 8259 demands and nothing else.
pub fn write_json_string(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    out.push(b'"');
    let mut at = 0;
    loop {
        let end = plain_end(bytes, at);
        out.extend_from_slice(bytes.get(at..end).unwrap_or_default());
        let Some(&byte) = bytes.get(end) else { break };
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                let escape = [b'\\', b'u', b'0', b'0', hex_digit(byte >> 4), hex_digit(byte)];
                out.extend_from_slice(&escape);
            }
        }
        at = end + 1;
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Class, Draft};
    use crate::position::Epoch;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn text_of(draft: &Draft<'_>) -> String {
        let position = Position { epoch: Epoch::new(0xab, 1), offset: 7 };
        let event = draft.build().unwrap().place(position, 1_000_001);
        let mut out = b"before".to_vec();
        write_envelope(&mut out, &event);
        String::from_utf8(out).unwrap().strip_prefix("before").unwrap().to_owned()
    }

    fn full() -> Draft<'static> {
        Draft {
            channel: "orders:eu",
            id: "a\"1",
            kind: "order",
            source: "/shop",
            key: "k",
            content_type: "text/plain",
            traceparent: "00-1-2-01",
            attributes: r#"{"n":1,"s":"x"}"#,
            time_us: Some(-1),
            class: Class::Critical,
            data_kind: DataKind::Text,
            data: "grün\n\u{1}".as_bytes(),
            ..Draft::default()
        }
    }

    #[test]
    fn the_text_of_an_envelope_is_stable() {
        assert_eq!(
            text_of(&full()),
            concat!(
                r#"{"channel":"orders:eu","epoch":"000000ab00000001","offset":7,"id":"a\"1","#,
                r#""type":"order","source":"/shop","time":"1969-12-31T23:59:59.999999Z","key":"k","#,
                r#""class":"critical","content_type":"text/plain","traceparent":"00-1-2-01","#,
                r#""attributes":{"n":1,"s":"x"},"data":"grün\n\u0001"}"#
            )
        );
    }

    #[test]
    fn empty_fields_are_left_out_and_data_is_exact() {
        let check = |data_kind, data: &'static [u8], tail: &str| {
            let draft = Draft { channel: "c", id: "i", data_kind, data, ..Draft::default() };
            let head = concat!(
                r#"{"channel":"c","epoch":"000000ab00000001","offset":7,"id":"i","#,
                r#""time":"1970-01-01T00:00:01.000001Z","class":"normal","#
            );
            assert_eq!(text_of(&draft), format!("{head}{tail}}}"));
        };
        check(DataKind::Json, b"{ \"a\" : 1e999 }", "\"data\":{ \"a\" : 1e999 }");
        check(DataKind::Json, b"", "\"data\":null");
        check(DataKind::Text, b"", "\"data\":\"\"");
        check(DataKind::Binary, b"", "\"data_base64\":\"\"");
        check(DataKind::Binary, b"\xff", "\"data_base64\":\"/w==\"");
        check(DataKind::Binary, b"\xff\x00\x01", "\"data_base64\":\"/wAB\"");
    }

    #[test]
    fn control_messages_are_stable_and_leave_out_what_is_unknown() {
        let check = |write: &dyn Fn(&mut Vec<u8>), expected: &str| {
            let mut out = Vec::new();
            write(&mut out);
            assert_eq!(std::str::from_utf8(&out).unwrap(), expected);
            assert!(serde_json::from_slice::<Value>(&out).is_ok());
        };
        let position = Some(Position { epoch: Epoch(0x1f), offset: 12 });
        check(
            &|out| write_gap(out, "c", GapReason::Expired, Some(8..=12), position),
            concat!(
                r#"{"shardcast":"gap","channel":"c","reason":"expired","from":8,"to":12,"#,
                r#""position":"000000000000001f:12"}"#
            ),
        );
        check(
            &|out| write_gap(out, "c", GapReason::Unknown, None, None),
            r#"{"shardcast":"gap","channel":"c","reason":"unknown"}"#,
        );
        check(
            &|out| write_recovered(out, "c", None, position),
            r#"{"shardcast":"recovered","channel":"c","position":"000000000000001f:12"}"#,
        );
        check(
            &|out| write_notice(out, "c", NoticeReason::Dropped, Some(3..=4), None),
            r#"{"shardcast":"notice","channel":"c","reason":"dropped","from":3,"to":4}"#,
        );
        check(
            &|out| write_notice(out, "", NoticeReason::Shutdown, None, None),
            r#"{"shardcast":"notice","reason":"shutdown"}"#,
        );
    }

    proptest! {
        #[test]
        fn any_fields_read_back_from_the_envelope(
            id in ".{0,40}",
            kind in "\\PC{0,20}",
            text in any::<String>(),
            binary: Vec<u8>,
            is_text: bool,
        ) {
            let draft = Draft {
                channel: "c",
                id: &id,
                kind: &kind,
                data_kind: if is_text { DataKind::Text } else { DataKind::Binary },
                data: if is_text { text.as_bytes() } else { &binary },
                ..Draft::default()
            };
            let written = text_of(&draft);
            let value: Value = serde_json::from_str(&written).unwrap();
            let own = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
            prop_assert_eq!(own("id"), id);
            prop_assert_eq!(own("type"), kind);
            if is_text {
                prop_assert_eq!(&value["data"], &json!(text));
            } else {
                prop_assert_eq!(STANDARD.decode(own("data_base64")).unwrap(), binary);
            }
            prop_assert!(!written.bytes().any(|b| b < 0x20));
        }
    }
}
