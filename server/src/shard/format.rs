//! How an event is written for a subscriber.
//!
//! Each event is encoded at most once for each format that somebody listens in (`frames`), so what
//! differs between two subscribers of one format must not be in the bytes. Deliberately absent:
//! what the server says itself inside a stream (`notices`). Tested through the wire.

use super::client::{publication, with_delta};
use super::coders::Coders;
use bytes::Bytes;
use proto::centrifuge::{Disconnect, Encoding, Push, PushBody, is_terminal, write_push};
use proto::event::{DataKind, Event};
use proto::ws::deflate::Window;
use proto::{envelope, sse, ws};

/// See the module: a set of independent choices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Format(u8);

impl Format {
    const SSE: u8 = 1;
    const ENVELOPE: u8 = 2;
    const TYPED: u8 = 4;
    const WITH_ID: u8 = 8;
    const CLIENT: u8 = 16;
    /// How WebSocket messages are compressed: not at all, or with one of three windows.
    const WINDOW: u8 = 3 << Self::WINDOW_SHIFT;
    const WINDOW_SHIFT: u8 = 5;
    // Of the client protocol; what the same bits mean elsewhere has no meaning there.
    const PROTOBUF: u8 = 1;
    const DELTA: u8 = 2;
    const BASED: u8 = 4;
    const FILTERED: u8 = 8;
    /// Pushes stand in a stream, not in messages: `WINDOW` says how, and nothing is compressed.
    const STREAM: u8 = 1 << 7;
    const EVENTS: u8 = 1 << Self::WINDOW_SHIFT;

    /// WebSocket messages: the data as it is, or the JSON envelope.
    pub fn web_socket(envelope: bool) -> Self {
        Self(if envelope { Self::ENVELOPE } else { 0 })
    }

    /// The same WebSocket messages, compressed where that makes them shorter.
    pub fn deflated(self, window: Window) -> Self {
        debug_assert!(!self.is_sse() && !self.is_stream(), "a stream has no compressed form");
        Self(self.uncompressed().0 | (window as u8 + 1) << Self::WINDOW_SHIFT)
    }

    /// The same without compression, which every client takes: for what is encoded for one
    /// subscriber alone, as pages of history are. A reconnect of all of them would otherwise
    /// compress each page once per subscriber.
    pub fn uncompressed(self) -> Self {
        if self.is_stream() { self } else { Self(self.0 & !Self::WINDOW) }
    }

    fn window(self) -> Option<Window> {
        if self.is_stream() {
            return None;
        }
        let number = (self.0 & Self::WINDOW) >> Self::WINDOW_SHIFT;
        Window::ALL.get(usize::from(number).checked_sub(1)?).copied()
    }

    /// SSE events: envelope or data, with or without an `event:` line, with or without an `id:`.
    pub fn sse(envelope: bool, typed: bool, with_id: bool) -> Self {
        let mut bits = Self::SSE;
        bits |= if envelope { Self::ENVELOPE } else { 0 };
        bits |= if typed { Self::TYPED } else { 0 };
        bits |= if with_id { Self::WITH_ID } else { 0 };
        Self(bits)
    }

    /// Pushes of the client protocol, each in a WebSocket message of its own.
    pub fn client(encoding: Encoding) -> Self {
        let bits = if encoding == Encoding::Protobuf { Self::PROTOBUF } else { 0 };
        Self(Self::CLIENT | bits)
    }

    /// Pushes of the client protocol in a stream: JSON, each on a line of its own, or Protobuf,
    /// each behind its length.
    pub fn client_lines(encoding: Encoding) -> Self {
        Self(Self::client(encoding).0 | Self::STREAM)
    }

    /// Pushes of the client protocol in JSON, each in a server-sent event of its own.
    pub fn client_events() -> Self {
        Self(Self::client_lines(Encoding::Json).0 | Self::EVENTS)
    }

    /// True if a client's pushes stand in a stream, and its commands come in requests beside it.
    pub fn is_stream(self) -> bool {
        self.is_client() && self.has(Self::STREAM)
    }

    /// True if they stand in server-sent events.
    pub fn is_events(self) -> bool {
        self.is_stream() && self.has(Self::EVENTS)
    }

    /// The encoding of a client of the client protocol.
    pub fn encoding(self) -> Encoding {
        if self.has(Self::PROTOBUF) { Encoding::Protobuf } else { Encoding::Json }
    }

    /// The same with deltas; the first publication is whole.
    pub fn delta(self) -> Self {
        Self(self.0 | Self::DELTA)
    }

    /// True if publications may be deltas.
    pub fn is_delta(self) -> bool {
        self.is_client() && self.has(Self::DELTA)
    }

    /// The same, once the subscriber holds the publication before the next one, or not any more.
    pub fn based(self, based: bool) -> Self {
        match (self.is_delta(), based) {
            (false, _) => self,
            (true, true) => Self(self.0 | Self::BASED),
            (true, false) => Self(self.0 & !Self::BASED),
        }
    }

    /// The same for a subscriber that gets only what passes its filter.
    pub fn filtered(self) -> Self {
        Self(self.0 | Self::FILTERED)
    }

    /// True if the subscriber has a filter.
    pub fn is_filtered(self) -> bool {
        self.is_client() && self.has(Self::FILTERED)
    }

    /// What it is encoded as: a filter leaves out, it does not change.
    pub fn unfiltered(self) -> Self {
        if self.is_client() { Self(self.0 & !Self::FILTERED) } else { self }
    }

    /// How everything but publications is written for a client.
    pub fn of_message(self) -> Self {
        let carrier = if self.is_stream() { Self::STREAM | Self::WINDOW } else { 0 };
        Self(self.0 & (Self::CLIENT | Self::PROTOBUF | carrier))
    }

    /// One message of the client protocol, uncompressed, as it goes on the wire; `write` appends
    /// it.
    pub fn message(self, write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
        let mut out = Vec::new();
        self.write_message(&mut out, write);
        if self.is_stream() { out.into() } else { ws::encode_frame(self.opcode(), &out) }
    }

    /// The last message to a client, with the code that tells it whether to come back.
    pub fn last_words(self, code: u16, reason: &str) -> Bytes {
        if !self.is_stream() {
            return ws::close_frame(code, reason);
        }
        let body =
            Disconnect { code: code.into(), reason: reason.into(), reconnect: !is_terminal(code) };
        let push = Push { body: Some(PushBody::Disconnect(body)), ..Push::default() };
        self.message(|out| write_push(out, self.encoding(), &push))
    }

    /// Appends a message and what its stream needs around it.
    fn write_message(self, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        if self.is_events() {
            out.extend_from_slice(b"data: ");
        }
        let start = out.len();
        write(out);
        if self.is_events() {
            // Outside of strings, which have it escaped, a CR is white space; here it ends a line.
            out[start..].iter_mut().filter(|byte| **byte == b'\r').for_each(|byte| *byte = b' ');
            out.extend_from_slice(b"\n\n");
        } else if self.is_stream() {
            out.extend_from_slice(self.encoding().separator());
        }
    }

    /// The kind of WebSocket message that carries the encoding.
    fn opcode(self) -> ws::Opcode {
        match self.encoding() {
            Encoding::Json => ws::Opcode::Text,
            Encoding::Protobuf => ws::Opcode::Binary,
        }
    }

    /// What the delta of an event is taken from, among the events before it.
    fn base(self, event: &Event, before: Option<&Event>, first: bool) -> Option<Event> {
        let wanted = self.is_delta() && (self.has(Self::BASED) || !first);
        let next = |base: &&Event| base.offset() + 1 == event.offset();
        before.filter(|_| wanted).filter(next).cloned()
    }

    /// Encodes events that follow each other; `before` is the one before them, if it is known.
    pub fn encode_all(
        self,
        events: &[Event],
        before: Option<&Event>,
        coders: &mut Coders,
        mut each: impl FnMut(&Event, Bytes),
    ) {
        let mut last = before;
        for (at, event) in events.iter().enumerate() {
            let base = self.base(event, last, at == 0);
            each(event, self.encode(event, base.as_ref(), coders));
            last = Some(event);
        }
    }

    /// True for the client protocol.
    pub fn is_client(self) -> bool {
        self.has(Self::CLIENT)
    }

    /// True for server-sent events.
    pub fn is_sse(self) -> bool {
        self.has(Self::SSE) && !self.is_client()
    }

    /// True if gaps and notices can be said inside the stream.
    pub fn carries_notices(self) -> bool {
        self.is_sse() || (self.has(Self::ENVELOPE) && !self.is_client())
    }

    fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }

    /// Encodes one event.
    pub fn encode(self, event: &Event, base: Option<&Event>, coders: &mut Coders) -> Bytes {
        if self.is_client() {
            return self.encode_push(event, base, coders);
        }
        if !self.is_sse() {
            return self.encode_message(event, coders);
        }
        let mut out = Vec::with_capacity(event.data().len() + 96);
        let mut text = Vec::new();
        let data = if self.has(Self::ENVELOPE) {
            envelope::write_envelope(&mut text, event);
            &text[..]
        } else if event.data_kind() == DataKind::Binary {
            // An event stream is text; whoever wants the bytes exactly asks for the envelope.
            envelope::write_base64(&mut text, event.data());
            &text[..]
        } else {
            event.data()
        };
        let mut id = Vec::new();
        if self.has(Self::WITH_ID) {
            event.position().write_to(&mut id);
        }
        let id = std::str::from_utf8(&id).ok().filter(|id| !id.is_empty());
        let kind = (self.has(Self::TYPED) && !event.kind().is_empty()).then(|| event.kind());
        // Types are checked when they are published; one that SSE cannot carry is left out.
        if sse::write_event(&mut out, id, kind, data).is_err() {
            let written = sse::write_event(&mut out, id, None, data);
            debug_assert!(written.is_ok(), "a position is legal as an id");
        }
        out.into()
    }

    /// The same bytes for every subscriber of the channel.
    fn encode_push(self, event: &Event, base: Option<&Event>, coders: &mut Coders) -> Bytes {
        let encoding = self.encoding();
        let mut publication = publication(event);
        let delta = base.and_then(|base| coders.delta(base, event, encoding));
        if self.is_delta() {
            with_delta(&mut publication, delta.as_deref(), encoding);
        }
        let body = PushBody::Publication(publication);
        let push = Push { channel: event.channel().into(), body: Some(body) };
        let mut text = Vec::with_capacity(event.size() + 96);
        self.write_message(&mut text, |out| write_push(out, encoding, &push));
        if self.is_stream() {
            return text.into();
        }
        coders.encode_frame(self.window(), self.opcode(), &text)
    }

    fn encode_message(self, event: &Event, coders: &mut Coders) -> Bytes {
        if self.has(Self::ENVELOPE) {
            let mut text = Vec::with_capacity(event.size() + 128);
            envelope::write_envelope(&mut text, event);
            return coders.encode_frame(self.window(), ws::Opcode::Text, &text);
        }
        let opcode = match event.data_kind() {
            DataKind::Json | DataKind::Text => ws::Opcode::Text,
            DataKind::Binary => ws::Opcode::Binary,
        };
        coders.encode_frame(self.window(), opcode, event.data())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_client_protocol_knows_leaves_other_formats_as_they_are() {
        for format in [Format::sse(true, true, true), Format::sse(false, true, false)] {
            assert_eq!((format.based(true), format.based(false)), (format, format));
            assert_eq!((format.unfiltered(), format.is_delta()), (format, false));
        }
        let client = Format::client(Encoding::Json);
        assert_eq!(client.based(true), client, "without deltas there is no base");
        assert_ne!(client.delta().based(true), client.delta());
        assert_eq!(client.delta().based(true).based(false), client.delta());
    }
}
