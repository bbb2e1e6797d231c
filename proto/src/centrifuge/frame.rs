//! Frames: what one WebSocket message, one POST body or one piece of a stream holds.
//!
//! In JSON a frame is one or more objects with line breaks between them; in Protobuf each message
//! stands behind its length. The readers give them in order. After something that cannot be read
//! they end: where the next message would begin is not known, and the connection closes anyway.
//!
//! The writers append one message each, as a piece that can stand anywhere in a frame: in JSON
//! without a line break of its own, [`Encoding::separator`] goes between two of them.

use super::fault::{DecodeError, Fault};
use super::json::{JsonSink, JsonSource};
use super::push::{Author, ClientInfo, Publication, Push};
use super::reply::{Reply, ReplyBody};
use super::request::{Command, EmulationRequest};
use super::value::{Field, Message, Sink};
use super::wire::{ProtobufSink, ProtobufSource};
use super::{Encoding, Limits};
use crate::protobuf::{Prefix, Reader, Wire};

/// The commands of one frame.
#[derive(Debug, Clone)]
pub struct Commands<'a> {
    pieces: Pieces<'a>,
    limits: Limits,
}

impl<'a> Commands<'a> {
    /// Starts at the beginning of a frame.
    pub fn new(encoding: Encoding, frame: &'a [u8], limits: Limits) -> Self {
        Self { pieces: Pieces::new(encoding, frame), limits }
    }

    /// The bytes of the commands not given yet: a frame like the whole one, or nothing.
    pub fn rest(&self) -> &'a [u8] {
        match &self.pieces.rest {
            Rest::Json { text, at } => {
                text.get(*at..).unwrap_or_default().trim_ascii_start().as_bytes()
            }
            Rest::Protobuf(reader) => reader.rest(),
            Rest::NotUtf8 | Rest::Done => b"",
        }
    }
}

impl<'a> Iterator for Commands<'a> {
    type Item = Result<Command<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let piece = match self.pieces.next(self.limits.commands_max)? {
            Ok(piece) => piece,
            Err(fault) => return Some(Err(DecodeError { id: 0, fault })),
        };
        let command = match piece {
            Piece::Json(source) => Command::read(source, &self.limits),
            Piece::Protobuf(source) => Command::read(source, &self.limits),
        };
        Some(command.map_err(|(id, fault)| self.pieces.failed(id, fault)))
    }
}

impl std::iter::FusedIterator for Commands<'_> {}

/// The replies of one frame, for those who play the client.
#[derive(Debug, Clone)]
pub struct Replies<'a> {
    pieces: Pieces<'a>,
    limits: Limits,
}

impl<'a> Replies<'a> {
    /// Starts at the beginning of a frame.
    pub fn new(encoding: Encoding, frame: &'a [u8], limits: Limits) -> Self {
        Self { pieces: Pieces::new(encoding, frame), limits }
    }
}

impl<'a> Iterator for Replies<'a> {
    type Item = Result<Reply<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let piece = match self.pieces.next(usize::MAX)? {
            Ok(piece) => piece,
            Err(fault) => return Some(Err(DecodeError { id: 0, fault })),
        };
        let mut budget = self.limits.budget();
        let reply = match piece {
            Piece::Json(source) => Reply::read(source, &mut budget),
            Piece::Protobuf(source) => Reply::read(source, &mut budget),
        };
        Some(reply.map_err(|(id, fault)| self.pieces.failed(id, fault)))
    }
}

impl std::iter::FusedIterator for Replies<'_> {}

/// Reads the body of `POST /emulation`: one message, in Protobuf without a length before it.
pub fn read_emulation<'a>(
    encoding: Encoding,
    body: &'a [u8],
    limits: &Limits,
) -> Result<EmulationRequest<'a>, DecodeError> {
    let request = match encoding {
        Encoding::Json => Pieces::new(encoding, body).only().and_then(|piece| match piece {
            Piece::Json(source) => EmulationRequest::read(source, limits),
            Piece::Protobuf(source) => EmulationRequest::read(source, limits),
        }),
        Encoding::Protobuf => EmulationRequest::read(ProtobufSource(Wire::Bytes(body)), limits),
    };
    request.map_err(|fault| DecodeError { id: 0, fault })
}

/// One message of a frame.
enum Piece<'a> {
    Json(JsonSource<'a>),
    Protobuf(ProtobufSource<'a>),
}

/// Splits a frame into its messages.
#[derive(Debug, Clone)]
struct Pieces<'a> {
    rest: Rest<'a>,
    count: usize,
}

#[derive(Debug, Clone)]
enum Rest<'a> {
    Json { text: &'a str, at: usize },
    NotUtf8,
    Protobuf(Reader<'a>),
    Done,
}

impl<'a> Pieces<'a> {
    fn new(encoding: Encoding, frame: &'a [u8]) -> Self {
        let rest = match encoding {
            Encoding::Json => match simdutf8::basic::from_utf8(frame) {
                Ok(text) => Rest::Json { text, at: 0 },
                Err(_) => Rest::NotUtf8,
            },
            Encoding::Protobuf => Rest::Protobuf(Reader::new(frame)),
        };
        Self { rest, count: 0 }
    }

    /// The next message; `count_max` is how many there may be.
    fn next(&mut self, count_max: usize) -> Option<Result<Piece<'a>, Fault>> {
        let piece = match self.split() {
            Ok(Some(_)) if self.count == count_max => Err(Fault::TooManyCommands),
            Ok(None) if self.count == 0 => Err(Fault::Empty),
            Ok(None) => {
                self.rest = Rest::Done;
                return None;
            }
            Ok(Some(piece)) => Ok(piece),
            Err(fault) => Err(fault),
        };
        self.count += 1;
        if piece.is_err() {
            self.rest = Rest::Done;
        }
        Some(piece)
    }

    /// The only message there is.
    fn only(mut self) -> Result<Piece<'a>, Fault> {
        let piece = self.next(1).unwrap_or(Err(Fault::Empty))?;
        match self.next(1) {
            None => Ok(piece),
            Some(more) => more.and(Err(Fault::TooManyCommands)),
        }
    }

    fn split(&mut self) -> Result<Option<Piece<'a>>, Fault> {
        match &mut self.rest {
            Rest::Json { text, at } => {
                let behind = text.get(*at..).unwrap_or_default();
                let start = behind.trim_start_matches([' ', '\t', '\r', '\n']);
                if start.is_empty() {
                    return Ok(None);
                }
                let space = behind.get(..behind.len() - start.len()).unwrap_or_default();
                if self.count > 0 && !space.contains('\n') {
                    return Err(Fault::Separator);
                }
                let (source, end) = JsonSource::object_at(text, *at + space.len())?;
                *at = end;
                Ok(Some(Piece::Json(source)))
            }
            Rest::NotUtf8 => Err(Fault::Utf8),
            Rest::Protobuf(reader) => {
                let message = reader.message()?;
                Ok(message.map(|bytes| Piece::Protobuf(ProtobufSource(Wire::Bytes(bytes)))))
            }
            Rest::Done => Ok(None),
        }
    }

    /// The error of a message; nothing follows one that could not be read.
    fn failed(&mut self, id: u32, fault: Fault) -> DecodeError {
        if !fault.is_content() {
            self.rest = Rest::Done;
        }
        DecodeError { id, fault }
    }
}

/// Appends a command, as a client sends it.
pub fn write_command(out: &mut Vec<u8>, encoding: Encoding, command: &Command<'_>) {
    match encoding {
        Encoding::Json => JsonSink::object(out, |sink| command.write_fields(sink)),
        Encoding::Protobuf => {
            let guess = command.request.as_ref().map_or(0, |request| request.guess());
            prefixed(out, guess, |sink| command.write_fields(sink));
        }
    }
}

/// Appends a reply, or a ping.
pub fn write_reply(out: &mut Vec<u8>, encoding: Encoding, reply: &Reply<'_>) {
    match encoding {
        Encoding::Json => JsonSink::object(out, |sink| reply.write_fields(sink)),
        Encoding::Protobuf => {
            let guess = reply.body.as_ref().map_or(0, ReplyBody::guess);
            prefixed(out, guess, |sink| reply.write_fields(sink));
        }
    }
}

/// Appends a push. It is the same for everybody who gets it.
pub fn write_push(out: &mut Vec<u8>, encoding: Encoding, push: &Push<'_>) {
    fn write(sink: &mut impl Sink, push: &Push<'_>) {
        let field = Field { number: 4, name: "push" };
        sink.message(field, push.guess(), |sink| push.write_fields(sink));
    }
    match encoding {
        Encoding::Json => JsonSink::object(out, |sink| write(sink, push)),
        Encoding::Protobuf => prefixed(out, push.guess(), |sink| write(sink, push)),
    }
}

/// Appends a publication by itself, in JSON, as an answer of the server API holds it.
pub fn write_publication(out: &mut Vec<u8>, publication: &Publication<'_>) {
    JsonSink::object(out, |sink| publication.write_fields(sink));
}

/// Appends who published, as the attributes of a client's event.
pub fn write_author(out: &mut Vec<u8>, info: ClientInfo<'_>) {
    JsonSink::object(out, |sink| Author { info: Some(info) }.write_fields(sink));
}

/// Reads who published from the attributes of a client's event.
pub fn read_author(attributes: &str) -> Option<ClientInfo<'_>> {
    // We wrote it: what it holds was bounded then.
    let limits = Limits { text_bytes_max: usize::MAX, ..Limits::DEFAULT };
    let Piece::Json(source) = Pieces::new(Encoding::Json, attributes.as_bytes()).only().ok()?
    else {
        return None;
    };
    let mut author = Author::default();
    author.merge(source, &mut limits.budget()).ok()?;
    author.info
}

fn prefixed(out: &mut Vec<u8>, guess: usize, write: impl FnOnce(&mut ProtobufSink<'_>)) {
    let prefix = Prefix::open(out, guess);
    write(&mut ProtobufSink::new(out));
    prefix.close(out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::centrifuge::{Data, PingRequest, Request};

    #[test]
    fn who_published_is_read_as_it_was_written() {
        let full = ClientInfo {
            user: "ann \"ü\"".into(),
            client: "c1".into(),
            conn_info: Data::Json(br#"{"name":"A"}"#),
            chan_info: Data::Json(b"[1]"),
        };
        let anonymous = ClientInfo { client: "c2".into(), ..ClientInfo::default() };
        for info in [full, anonymous] {
            let mut text = Vec::new();
            write_author(&mut text, info.clone());
            let text = String::from_utf8(text).unwrap();
            assert_eq!(read_author(&text), Some(info));
            assert!(crate::centrifuge::tags(&text).is_empty(), "it is no tag");
            for cut in (0..text.len()).filter(|at| text.is_char_boundary(*at)) {
                assert_eq!(read_author(&text[..cut]), None, "{cut}");
            }
        }
        assert_eq!(read_author("{}"), None);
    }

    #[test]
    fn the_rest_of_a_frame_is_a_frame_of_the_commands_not_given_yet() {
        for encoding in [Encoding::Json, Encoding::Protobuf] {
            let mut frame = Vec::new();
            for id in 1..=4 {
                if id > 1 {
                    frame.extend_from_slice(encoding.separator());
                }
                let request = Some(Request::Ping(PingRequest::default()));
                write_command(&mut frame, encoding, &Command { id, request });
            }
            let ids = |commands: Commands<'_>| -> Vec<u32> {
                commands.map(|command| command.expect("legal").id).collect()
            };
            let mut commands = Commands::new(encoding, &frame, Limits::DEFAULT);
            for given in 0..4 {
                let rest = Commands::new(encoding, commands.rest(), Limits::DEFAULT);
                assert_eq!(ids(rest), (given + 1..=4).collect::<Vec<u32>>());
                commands.next();
            }
            assert!(commands.rest().is_empty(), "nothing is left, not even white space");
        }
    }
}
