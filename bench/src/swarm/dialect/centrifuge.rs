//! The client protocol of Centrifugo over WebSocket, in JSON or Protobuf, perhaps compressed.

use super::{Broken, Reader, between, control, room_name};
use crate::swarm::frames::{self, Frames};
use proto::centrifuge::{
    Command, ConnectRequest, Data, Encoding, Limits, PublishRequest, PushBody, Replies, ReplyBody,
    Request, SubscribeRequest, write_command,
};
use proto::ws::Opcode;
use proto::ws::deflate::Inflater;

/// Larger messages do not occur.
const MESSAGE_BYTES_MAX: u32 = 1 << 20;

/// The receiving half.
#[derive(Debug)]
pub struct Stream {
    frames: Frames,
    encoding: Encoding,
    /// Replies until it is connected and subscribed.
    waiting: usize,
    inflater: Inflater,
}

fn opcode(encoding: Encoding) -> Opcode {
    match encoding {
        Encoding::Json => Opcode::Text,
        Encoding::Protobuf => Opcode::Binary,
    }
}

/// Connects and subscribes, ready to recover.
pub fn greeting(encoding: Encoding, rooms: &[u32]) -> Vec<u8> {
    let mut commands = Vec::new();
    let mut add = |id, request| {
        if encoding == Encoding::Json && id > 1 {
            commands.push(b'\n');
        }
        write_command(&mut commands, encoding, &Command { id, request: Some(request) });
    };
    add(1, Request::Connect(ConnectRequest::default()));
    for (room, id) in rooms.iter().zip(2..) {
        let channel = room_name(*room).into();
        let request = SubscribeRequest { channel, recoverable: true, ..Default::default() };
        add(id, Request::Subscribe(request));
    }
    let mut out = Vec::new();
    frames::write(&mut out, opcode(encoding), &commands);
    out
}

/// Appends a publish.
pub fn publish(out: &mut Vec<u8>, encoding: Encoding, room: u32, payload: &[u8]) {
    let mut command = Vec::new();
    let name = room_name(room);
    match encoding {
        Encoding::Json => {
            let data = String::from_utf8_lossy(payload);
            let text =
                format!("{{\"id\":9,\"publish\":{{\"channel\":\"{name}\",\"data\":\"{data}\"}}}}");
            command.extend_from_slice(text.as_bytes());
        }
        Encoding::Protobuf => {
            let request = PublishRequest { channel: name.into(), data: Data::Binary(payload) };
            let request = Some(Request::Publish(request));
            write_command(&mut command, encoding, &Command { id: 9, request });
        }
    }
    frames::write(out, opcode(encoding), &command);
}

impl Stream {
    /// For a connection that follows so many rooms.
    pub fn new(encoding: Encoding, rooms: usize) -> Self {
        let (frames, inflater) = (Frames::compressed(), Inflater::default());
        Self { frames, encoding, waiting: rooms + 1, inflater }
    }

    /// Takes what was received.
    pub fn feed(&mut self, input: &[u8], reader: &mut impl Reader) -> Result<(), Broken> {
        let Self { frames, encoding, waiting, inflater } = self;
        frames.feed(input, |opcode, payload| {
            let mut expanded = Vec::new();
            let payload = if opcode & frames::COMPRESSED == 0 {
                payload
            } else {
                expanded.extend_from_slice(payload);
                inflater.inflate(&mut expanded, MESSAGE_BYTES_MAX).map_err(|_| Broken)?;
                &expanded
            };
            match (opcode & !frames::COMPRESSED, *encoding) {
                (frames::TEXT, Encoding::Json) => {
                    let text = std::str::from_utf8(payload).map_err(|_| Broken)?;
                    text.lines().try_for_each(|line| json(line, waiting, reader))
                }
                (frames::BINARY, Encoding::Protobuf) => protobuf(payload, waiting, reader),
                (other, _) => control(other, payload, reader),
            }
        })
    }
}

fn replied(waiting: &mut usize, reader: &mut impl Reader) {
    if *waiting > 0 {
        *waiting -= 1;
        if *waiting == 0 {
            reader.opened();
        }
    }
}

/// A reply, a push, or `{}`, which is a ping that wants the same back.
fn json(line: &str, waiting: &mut usize, reader: &mut impl Reader) -> Result<(), Broken> {
    if line == "{}" {
        reader.reply(Opcode::Text, b"{}");
    } else if line.contains("\"error\"") {
        reader.closed(line.as_bytes());
        return Err(Broken);
    } else if line.starts_with("{\"push\"") {
        if let Some(data) = between(line, "\"data\":\"", '"') {
            reader.message(data.as_bytes());
        }
    } else {
        replied(waiting, reader);
    }
    Ok(())
}

fn protobuf(payload: &[u8], waiting: &mut usize, reader: &mut impl Reader) -> Result<(), Broken> {
    for reply in Replies::new(Encoding::Protobuf, payload, Limits::DEFAULT) {
        match reply.map_err(|_| Broken)?.body {
            None => reader.reply(Opcode::Binary, Encoding::Protobuf.ping()),
            Some(ReplyBody::Push(push)) => {
                if let Some(PushBody::Publication(publication)) = push.body {
                    reader.message(publication.data.bytes());
                }
            }
            Some(ReplyBody::Error(error)) => {
                reader.closed(error.message.as_bytes());
                return Err(Broken);
            }
            Some(_) => replied(waiting, reader),
        }
    }
    Ok(())
}
