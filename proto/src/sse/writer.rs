//! Events to bytes.

/// A comment: keeps proxies and half-open detection content, fires nothing.
pub const HEARTBEAT: &[u8] = b":\n\n";

/// Why an event could not be written. The output is left as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SseError {
    /// An id with CR, LF or NUL: a browser would drop or misread it.
    #[error("an event id contains a line break or NUL")]
    Id,
    /// A type with CR, LF or NUL.
    #[error("an event type contains a line break or NUL")]
    EventType,
}

/// Appends one event. `data` is UTF-8 text; CR and CRLF in it arrive as LF. Without `id` the
/// browser keeps its last one; without `event`, or with an empty one, `onmessage` gets it.
pub fn write_event(
    out: &mut Vec<u8>,
    id: Option<&str>,
    event: Option<&str>,
    data: &[u8],
) -> Result<(), SseError> {
    if id.is_some_and(breaks_line) {
        return Err(SseError::Id);
    }
    let event = event.filter(|event| !event.is_empty());
    if event.is_some_and(breaks_line) {
        return Err(SseError::EventType);
    }
    if let Some(id) = id {
        write_line(out, b"id: ", id.as_bytes());
    }
    if let Some(event) = event {
        write_line(out, b"event: ", wire_type(event).as_bytes());
    }
    write_data(out, data);
    out.push(b'\n');
    Ok(())
}

/// Appends the `data:` lines of an event, without the blank line that ends it.
pub fn write_data(out: &mut Vec<u8>, data: &[u8]) {
    // The space after the colon is always there, because a reader removes one if there is one.
    let mut rest = data;
    while let Some(end) = memchr::memchr2(b'\r', b'\n', rest) {
        let (line, tail) = rest.split_at_checked(end).unwrap_or((rest, b""));
        write_line(out, b"data: ", line);
        rest = tail.strip_prefix(b"\r\n").or_else(|| tail.get(1..)).unwrap_or_default();
    }
    write_line(out, b"data: ", rest);
}

/// Appends a block that only moves the client's last event id; it fires nothing.
pub fn write_id(out: &mut Vec<u8>, id: &str) -> Result<(), SseError> {
    if breaks_line(id) {
        return Err(SseError::Id);
    }
    write_line(out, b"id: ", id.as_bytes());
    out.push(b'\n');
    Ok(())
}

/// Appends how long the client is to wait before it reconnects.
pub fn write_retry(out: &mut Vec<u8>, retry_ms: u32) {
    write_line(out, b"retry: ", itoa::Buffer::new().format(retry_ms).as_bytes());
    out.push(b'\n');
}

/// Appends [`HEARTBEAT`].
pub fn write_heartbeat(out: &mut Vec<u8>) {
    out.extend_from_slice(HEARTBEAT);
}

/// Appends a comment for people who read the stream; each line becomes one.
pub fn write_comment(out: &mut Vec<u8>, text: &str) {
    for line in text.split(['\r', '\n']) {
        write_line(out, b": ", line.as_bytes());
    }
    out.push(b'\n');
}

/// The type as it goes over the wire: `error` and `open` would fire an EventSource's own handlers,
/// as if the connection had failed or opened.
pub fn wire_type(kind: &str) -> &str {
    match kind {
        "error" => "type:error",
        "open" => "type:open",
        other => other,
    }
}

fn write_line(out: &mut Vec<u8>, field: &[u8], value: &[u8]) {
    out.extend_from_slice(field);
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn breaks_line(text: &str) -> bool {
    text.bytes().any(|b| matches!(b, b'\r' | b'\n' | 0))
}
