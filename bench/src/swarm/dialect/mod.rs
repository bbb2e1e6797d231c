//! How each server is spoken to: where to connect, what to say first, how a message looks.
//!
//! A [`Dialect`] writes requests and publishes; a [`Parser`] is the receiving half of one
//! connection after the HTTP head. Every parser hands payloads to a [`Reader`], which counts.

mod centrifuge;
pub mod h2;
mod nats;
mod socketio;
mod sse;

use super::frames::{self, Broken, Frames};
use clap::ValueEnum;
use proto::centrifuge::Encoding;
use proto::http1::{BodyReader, Response, ResponseBody};
use proto::ws::Opcode;

/// Who is spoken to, and over what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Dialect {
    /// Shardcast's plain WebSocket: a message is the data.
    Shardcast,
    /// Shardcast's WebSocket with envelopes, which a cut connection resumes.
    Envelope,
    /// Shardcast's WebSocket of several channels, in envelopes.
    Rooms,
    /// A WebSocket that sends what the publisher sent, rooms in the query.
    Plain,
    /// engine.io 4 and socket.io 5 over WebSocket.
    SocketIo,
    /// The NATS text protocol in binary WebSocket frames.
    Nats,
    /// Nchan's WebSocket: one location that publishes and subscribes.
    Nchan,
    /// Centrifugo's client protocol in JSON.
    Centrifugo,
    /// The same in Protobuf.
    CentrifugoProtobuf,
    /// The same in JSON, compressed.
    CentrifugoDeflate,
    /// Shardcast's server-sent events.
    ShardcastSse,
    /// Server-sent events, rooms in the query, published with POST to `/pub`.
    Sse,
    /// Nchan's server-sent events.
    NchanSse,
    /// Shardcast's server-sent events over HTTP/2.
    ShardcastSseH2,
    /// Server-sent events over HTTP/2, rooms in the query, published to `/pub` over HTTP/1.1.
    SseH2,
    /// No protocol: so many bytes are a message, sent when a control connection says so.
    Raw,
}

/// What a parser hands on.
pub trait Reader {
    /// The payload of a message.
    fn message(&mut self, payload: &[u8]);
    /// A word of the server's own about the subscription.
    fn notice(&mut self, text: &str);
    /// Subscribed: from now on messages come.
    fn opened(&mut self);
    /// What follows belongs to that stream of the connection.
    fn stream(&mut self, at: usize);
    /// To be sent back as it is.
    fn send(&mut self, bytes: &[u8]);
    /// To be sent back in a frame.
    fn reply(&mut self, opcode: Opcode, payload: &[u8]);
    /// The server closes.
    fn closed(&mut self, why: &[u8]);
}

/// The channel of a room.
pub fn room_name(room: u32) -> String {
    format!("{room:08x}")
}

fn joined(rooms: &[u32], before: &str, between: &str) -> String {
    let names: Vec<String> =
        rooms.iter().map(|room| format!("{before}{}", room_name(*room))).collect();
    names.join(between)
}

impl Dialect {
    /// As the flag names it.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |it| it.get_name().to_owned())
    }

    /// Published over HTTP, since subscribers cannot send.
    pub fn is_sse(self) -> bool {
        matches!(self, Self::ShardcastSse | Self::Sse | Self::NchanSse) || self.is_h2()
    }

    /// Several streams on a connection.
    pub fn is_h2(self) -> bool {
        matches!(self, Self::ShardcastSseH2 | Self::SseH2)
    }

    /// How many rooms one connection can follow.
    pub fn rooms_max(self) -> usize {
        match self {
            Self::Shardcast | Self::Envelope | Self::Nchan | Self::NchanSse => 1,
            _ => 2,
        }
    }

    /// Where to connect for these rooms.
    pub fn target(self, rooms: &[u32], position: &str) -> String {
        match self {
            Self::Shardcast => format!("/v1/channels/{}/ws", joined(rooms, "", "")),
            Self::Envelope if position.is_empty() => {
                format!("/v1/channels/{}/ws?format=envelope", joined(rooms, "", ""))
            }
            Self::Envelope => {
                let room = joined(rooms, "", "");
                format!("/v1/channels/{room}/ws?format=envelope&since={position}")
            }
            Self::Rooms => format!("/v1/ws?{}", joined(rooms, "channel=", "&")),
            Self::Plain => format!("/ws?rooms={}", joined(rooms, "", ",")),
            Self::SocketIo => {
                format!("/socket.io/?EIO=4&transport=websocket&rooms={}", joined(rooms, "", ","))
            }
            Self::Nats | Self::Raw => "/".to_owned(),
            Self::Nchan => format!("/pubsub/{}", joined(rooms, "", "")),
            Self::Centrifugo | Self::CentrifugoDeflate => "/connection/websocket".to_owned(),
            Self::CentrifugoProtobuf => "/connection/websocket?cf_protocol=protobuf".to_owned(),
            Self::ShardcastSse | Self::ShardcastSseH2 => {
                format!("/v1/sse?{}", joined(rooms, "channel=", "&"))
            }
            Self::Sse | Self::SseH2 => format!("/sse?rooms={}", joined(rooms, "", ",")),
            Self::NchanSse => format!("/sub/{}", joined(rooms, "", "")),
        }
    }

    /// Where a message is posted.
    pub fn publish_target(self, room: u32) -> String {
        match self {
            Self::ShardcastSse | Self::ShardcastSseH2 => {
                format!("/v1/channels/{}/events", room_name(room))
            }
            Self::NchanSse => format!("/pub/{}", room_name(room)),
            _ => "/pub".to_owned(),
        }
    }

    /// Said once the WebSocket is there, before the server speaks.
    pub fn greeting(self, rooms: &[u32]) -> Option<Vec<u8>> {
        Some(centrifuge::greeting(self.encoding()?, rooms))
    }

    /// Of Centrifugo's client protocol.
    fn encoding(self) -> Option<Encoding> {
        match self {
            Self::Centrifugo | Self::CentrifugoDeflate => Some(Encoding::Json),
            Self::CentrifugoProtobuf => Some(Encoding::Protobuf),
            _ => None,
        }
    }

    /// Headers of the handshake beyond what every one has.
    pub fn headers(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::CentrifugoDeflate => &[("sec-websocket-extensions", "permessage-deflate")],
            _ => &[],
        }
    }

    /// Appends a publish over a subscriber's own connection.
    pub fn publish(self, out: &mut Vec<u8>, room: u32, payload: &[u8]) {
        if let Some(encoding) = self.encoding() {
            return centrifuge::publish(out, encoding, room, payload);
        }
        match self {
            Self::SocketIo => socketio::publish(out, payload),
            Self::Nats => nats::publish(out, room, payload),
            Self::Rooms => {
                let (name, data) = (room_name(room), String::from_utf8_lossy(payload));
                let event = format!("{{\"channel\":\"{name}\",\"data\":\"{data}\"}}");
                frames::write(out, Opcode::Text, event.as_bytes());
            }
            _ => frames::write(out, Opcode::Text, payload),
        }
    }
}

/// The receiving half of one connection.
#[derive(Debug)]
pub enum Parser {
    Plain(Frames),
    Envelope(Frames),
    SocketIo(Frames),
    Nats(nats::Stream),
    Centrifuge(Box<centrifuge::Stream>),
    Sse(sse::Stream),
    H2(h2::Streams),
}

impl Parser {
    /// For a connection that got this head; `None` if it refuses.
    pub fn new(dialect: Dialect, rooms: usize, response: &Response) -> Option<Self> {
        let frames = Frames::default();
        if let Some(encoding) = dialect.encoding() {
            return Some(Self::Centrifuge(Box::new(centrifuge::Stream::new(encoding, rooms))));
        }
        match dialect {
            Dialect::Envelope | Dialect::Rooms => Some(Self::Envelope(frames)),
            Dialect::SocketIo => Some(Self::SocketIo(frames)),
            Dialect::Nats => Some(Self::Nats(nats::Stream::default())),
            _ if !dialect.is_sse() => Some(Self::Plain(frames)),
            _ if response.status != 200 => None,
            _ => match response.body {
                ResponseBody::Framed(body) => {
                    Some(Self::Sse(sse::Stream::new(Some(BodyReader::new(body)))))
                }
                ResponseBody::UntilClose => Some(Self::Sse(sse::Stream::new(None))),
            },
        }
    }

    /// Messages come without more ado.
    pub fn is_open_at_once(&self) -> bool {
        matches!(self, Self::Plain(_) | Self::Envelope(_) | Self::Sse(_))
    }

    /// Takes what was received.
    pub fn feed(
        &mut self,
        rooms: &[u32],
        input: &[u8],
        reader: &mut impl Reader,
    ) -> Result<(), Broken> {
        match self {
            Self::Plain(frames) => frames.feed(input, |opcode, payload| {
                if matches!(opcode, frames::TEXT | frames::BINARY) {
                    reader.message(payload);
                    return Ok(());
                }
                control(opcode, payload, reader)
            }),
            Self::Envelope(frames) => frames.feed(input, |opcode, payload| {
                if opcode != frames::TEXT {
                    return control(opcode, payload, reader);
                }
                let text = std::str::from_utf8(payload).map_err(|_| Broken)?;
                reader.notice(text);
                if let Some(data) = between(text, "\"data\":\"", '"') {
                    reader.message(data.as_bytes());
                }
                Ok(())
            }),
            Self::SocketIo(frames) => frames.feed(input, |opcode, payload| {
                if opcode != frames::TEXT {
                    return control(opcode, payload, reader);
                }
                socketio::packet(payload, reader)
            }),
            Self::Nats(stream) => stream.feed(rooms, input, reader),
            Self::Centrifuge(stream) => stream.feed(input, reader),
            Self::Sse(stream) => stream.feed(input, reader),
            Self::H2(streams) => streams.feed(input, reader),
        }
    }
}

/// Ping, close, and what is ignored.
fn control(opcode: u8, payload: &[u8], reader: &mut impl Reader) -> Result<(), Broken> {
    match opcode {
        frames::PING => reader.reply(Opcode::Pong, payload),
        frames::CLOSE => {
            reader.closed(payload);
            return Err(Broken);
        }
        _ => {}
    }
    Ok(())
}

/// What stands between two marks.
pub fn between<'a>(text: &'a str, before: &str, after: char) -> Option<&'a str> {
    let start = text.find(before)? + before.len();
    text[start..].split(after).next()
}

#[cfg(test)]
mod tests;
