//! The NATS protocol: lines and payloads in a stream that WebSocket frames cut anywhere.

use super::{Broken, Reader, control, frames, room_name};
use crate::swarm::frames::Frames;
use proto::ws::Opcode;

/// A line longer than this is a broken stream.
const LINE_BYTES_MAX: usize = 64 << 10;

/// Appends a publish.
pub fn publish(out: &mut Vec<u8>, room: u32, payload: &[u8]) {
    let mut command = format!("PUB r.{} {}\r\n", room_name(room), payload.len()).into_bytes();
    command.extend_from_slice(payload);
    command.extend_from_slice(b"\r\n");
    frames::write(out, Opcode::Binary, &command);
}

/// The receiving half.
#[derive(Debug, Default)]
pub struct Stream {
    frames: Frames,
    lines: Lines,
}

/// What a frame left of an unfinished line or payload.
#[derive(Debug, Default)]
struct Lines {
    carry: Vec<u8>,
    opened: bool,
}

impl Stream {
    pub fn feed(
        &mut self,
        rooms: &[u32],
        input: &[u8],
        reader: &mut impl Reader,
    ) -> Result<(), Broken> {
        let Self { frames, lines } = self;
        frames.feed(input, |opcode, payload| match opcode {
            frames::TEXT | frames::BINARY | frames::CONTINUATION => {
                lines.feed(rooms, payload, reader)
            }
            _ => control(opcode, payload, reader),
        })
    }
}

impl Lines {
    fn feed(
        &mut self,
        rooms: &[u32],
        input: &[u8],
        reader: &mut impl Reader,
    ) -> Result<(), Broken> {
        if self.carry.is_empty() {
            let used = self.run(rooms, input, reader)?;
            self.carry.extend_from_slice(&input[used..]);
            return Ok(());
        }
        let mut carry = std::mem::take(&mut self.carry);
        carry.extend_from_slice(input);
        let used = self.run(rooms, &carry, reader)?;
        self.carry.extend_from_slice(&carry[used..]);
        Ok(())
    }

    /// Handles what is whole; how many bytes that was.
    fn run(
        &mut self,
        rooms: &[u32],
        input: &[u8],
        reader: &mut impl Reader,
    ) -> Result<usize, Broken> {
        let mut at = 0;
        loop {
            let rest = &input[at..];
            let Some(end) = memchr::memchr(b'\n', rest) else {
                return if rest.len() > LINE_BYTES_MAX { Err(Broken) } else { Ok(at) };
            };
            let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
            if line.starts_with(b"MSG ") {
                let bytes = line.rsplit(|byte| *byte == b' ').next().and_then(decimal);
                let bytes = bytes.ok_or(Broken)?;
                let Some(payload) = rest.get(end + 1..end + 1 + bytes + 2) else { return Ok(at) };
                reader.message(&payload[..bytes]);
                at += end + 1 + bytes + 2;
                continue;
            }
            at += end + 1;
            self.line(rooms, line, reader)?;
        }
    }

    fn line(&mut self, rooms: &[u32], line: &[u8], reader: &mut impl Reader) -> Result<(), Broken> {
        if line.starts_with(b"INFO ") && !self.opened {
            let mut hello = "CONNECT {\"verbose\":false,\"pedantic\":false,\"echo\":true,\
                             \"lang\":\"bench\",\"version\":\"0\",\"protocol\":1}\r\n"
                .to_owned();
            for (at, room) in rooms.iter().enumerate() {
                hello.push_str(&format!("SUB r.{} {}\r\n", room_name(*room), at + 1));
            }
            hello.push_str("PING\r\n");
            reader.reply(Opcode::Binary, hello.as_bytes());
        } else if line == b"PING" {
            reader.reply(Opcode::Binary, b"PONG\r\n");
        } else if line == b"PONG" && !self.opened {
            self.opened = true;
            reader.opened();
        } else if line.starts_with(b"-ERR") {
            reader.closed(line);
            return Err(Broken);
        }
        Ok(())
    }
}

fn decimal(digits: &[u8]) -> Option<usize> {
    let value: usize = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (value <= LINE_BYTES_MAX).then_some(value)
}
