//! What the server itself says inside a stream: where it starts, gaps, recoveries, dropped runs.
//!
//! SSE streams get events named `shardcast.*` (a browser's `onmessage` does not see them), the
//! WebSocket envelope gets a JSON message with the member `shardcast`. Raw WebSocket messages are
//! the data and nothing else, so nothing is said there.

use super::format::Format;
use crate::mesh::Continuity;
use bytes::Bytes;
use proto::channel::ChannelName;
use proto::envelope::NoticeReason;
use proto::position::Position;
use proto::{envelope, sse, ws};

/// How a subscription starts. `before` is the position before the first event that follows;
/// `with_id` puts it in an `id:` line (one channel; several have their cursor instead).
pub fn start(
    channel: &ChannelName,
    before: Position,
    continuity: Continuity,
    format: Format,
    with_id: bool,
) -> Option<Bytes> {
    if !format.carries_notices() {
        return None;
    }
    let mut text = Vec::new();
    let event = match continuity {
        Continuity::Live => {
            if format.is_sse() {
                return with_id.then(|| id_block(before));
            }
            envelope::write_subscribed(&mut text, channel.as_str(), before);
            sse::EVENT_RECOVERED
        }
        Continuity::Recovered => {
            envelope::write_recovered(&mut text, channel.as_str(), None, Some(before));
            sse::EVENT_RECOVERED
        }
        Continuity::Gap(reason) => {
            envelope::write_gap(&mut text, channel.as_str(), reason, None, Some(before));
            sse::EVENT_GAP
        }
    };
    Some(wrap(format, event, with_id.then_some(before), &text))
}

/// A run of events that the `drop_oldest` policy took out, said where it was. Without an id, so
/// that a reconnect right after it can still fetch the run.
pub fn dropped(out: &mut Vec<u8>, channel: &str, first: u64, last: u64, format: Format) {
    let mut text = Vec::new();
    envelope::write_notice(&mut text, channel, NoticeReason::Dropped, Some(first..=last), None);
    out.extend_from_slice(&wrap(format, sse::EVENT_NOTICE, None, &text));
}

/// The last words of an event stream: when to come back, and why it ends.
pub fn last_words(retry_ms: u32, reason: NoticeReason) -> Bytes {
    let mut out = Vec::new();
    sse::write_retry(&mut out, retry_ms);
    write_reason(&mut out, reason);
    out.into()
}

/// Why an event stream ends.
pub fn write_reason(out: &mut Vec<u8>, reason: NoticeReason) {
    let mut text = Vec::new();
    envelope::write_notice(&mut text, "", reason, None, None);
    let written = sse::write_event(out, None, Some(sse::EVENT_NOTICE), &text);
    debug_assert!(written.is_ok(), "our own names are legal");
}

fn wrap(format: Format, event: &str, id: Option<Position>, text: &[u8]) -> Bytes {
    if !format.is_sse() {
        return ws::encode_frame(ws::Opcode::Text, text);
    }
    let (mut out, mut id_text) = (Vec::new(), Vec::new());
    if let Some(id) = id {
        id.write_to(&mut id_text);
    }
    let written = sse::write_event(&mut out, id.map(|_| text_of(&id_text)), Some(event), text);
    debug_assert!(written.is_ok(), "our own names and ids are legal");
    out.into()
}

fn id_block(position: Position) -> Bytes {
    let (mut id, mut out) = (Vec::new(), Vec::new());
    position.write_to(&mut id);
    let written = sse::write_id(&mut out, text_of(&id));
    debug_assert!(written.is_ok(), "a position is legal as an id");
    out.into()
}

fn text_of(ascii: &[u8]) -> &str {
    std::str::from_utf8(ascii).unwrap_or_default()
}
