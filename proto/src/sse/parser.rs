//! Bytes to events, as an EventSource interprets them.

use std::mem;

/// One dispatched event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The last event id at this point: this event's, or an earlier one's. Empty if none was sent.
    pub id: String,
    /// The type; `message` if none was sent.
    pub event: String,
    /// The data, lines joined by LF.
    pub data: String,
}

/// The stream is over a limit; the parser must not be used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event of the stream is larger than {bytes_max} bytes")]
pub struct ParseError {
    /// What [`Parser::new`] was given.
    pub bytes_max: usize,
}

/// Parses a stream.
#[derive(Debug)]
pub struct Parser {
    bytes_max: usize,
    /// A line that is not complete.
    line: Vec<u8>,
    /// The last byte was CR: an LF that follows belongs to it.
    after_cr: bool,
    /// The byte-order mark was looked for.
    started: bool,
    data: String,
    event: String,
    id: String,
    last_id: String,
    retry_ms: Option<u64>,
    comments: u64,
}

impl Parser {
    /// A parser at the start of a stream that refuses events of more than `bytes_max`.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            line: Vec::new(),
            after_cr: false,
            started: false,
            data: String::new(),
            event: String::new(),
            id: String::new(),
            last_id: String::new(),
            retry_ms: None,
            comments: 0,
        }
    }

    /// Takes bytes and appends the events that they complete. An event without its blank line at
    /// the end of the stream is never dispatched.
    pub fn feed(&mut self, input: &[u8], events: &mut Vec<Event>) -> Result<(), ParseError> {
        let mut rest = input;
        while !rest.is_empty() {
            if mem::take(&mut self.after_cr)
                && let [b'\n', after @ ..] = rest
            {
                rest = after;
                continue;
            }
            let end = memchr::memchr2(b'\r', b'\n', rest);
            let line = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
            if self.line.len() + line.len() + self.data.len() > self.bytes_max {
                return Err(ParseError { bytes_max: self.bytes_max });
            }
            self.line.extend_from_slice(line);
            let Some(end) = end else { return Ok(()) };
            self.after_cr = rest.get(end) == Some(&b'\r');
            rest = rest.get(end + 1..).unwrap_or_default();
            self.end_line(events);
        }
        Ok(())
    }

    /// What a browser would send as `Last-Event-ID` when it reconnects.
    pub fn last_event_id(&self) -> &str {
        &self.last_id
    }

    /// The last `retry:` of the stream.
    pub fn retry_ms(&self) -> Option<u64> {
        self.retry_ms
    }

    /// How many comments were read, heartbeats among them.
    pub fn comments(&self) -> u64 {
        self.comments
    }

    fn end_line(&mut self, events: &mut Vec<Event>) {
        let mut bytes = mem::take(&mut self.line);
        let mut line = bytes.as_slice();
        if !mem::replace(&mut self.started, true) {
            // One byte-order mark at the start of the stream is not part of it.
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        match memchr::memchr(b':', line) {
            _ if line.is_empty() => self.dispatch(events),
            Some(0) => self.comments += 1,
            Some(colon) => {
                let (name, value) = line.split_at_checked(colon).unwrap_or((line, b""));
                let value = value.strip_prefix(b":").unwrap_or(value);
                self.field(name, value.strip_prefix(b" ").unwrap_or(value));
            }
            None => self.field(line, b""),
        }
        bytes.clear();
        self.line = bytes; // keeps the allocation
    }

    fn field(&mut self, name: &[u8], value: &[u8]) {
        let text = String::from_utf8_lossy(value);
        match name {
            b"event" => self.event = text.into_owned(),
            b"data" => {
                self.data.push_str(&text);
                self.data.push('\n');
            }
            b"id" if !value.contains(&0) => self.id = text.into_owned(),
            b"retry" if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
                self.retry_ms = text.parse().ok().or(self.retry_ms);
            }
            _ => {}
        }
    }

    fn dispatch(&mut self, events: &mut Vec<Event>) {
        self.last_id.clone_from(&self.id);
        let event = mem::take(&mut self.event);
        let mut data = mem::take(&mut self.data);
        if data.pop().is_none() {
            return; // no data line: nothing is fired, but the id counts
        }
        let event = if event.is_empty() { "message".to_owned() } else { event };
        events.push(Event { id: self.last_id.clone(), event, data });
    }
}
