//! Server-sent events over HTTP/2, several streams on a connection.
//!
//! The client's half in its smallest form: request heads without compression, windows so large that
//! a stream never waits, and of response heads only the status, which every server sends as the
//! first entry of the static table. The `h2` crate would do all of it right and cost more than the
//! servers that are measured.

use super::sse::Lines;
use super::{Broken, Dialect, Reader};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEAD_BYTES: usize = 9;
/// Larger frames are not asked for.
const FRAME_BYTES_MAX: usize = 16_384;
/// The largest window there is.
const WINDOW: u32 = (1 << 31) - 1;
/// What was received of the connection's window when it is given back.
const GIVE_BACK: u32 = 1 << 20;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 32;

/// `:status: 200` of the static table.
const STATUS_200: u8 = 0x88;

/// The receiving half of a connection.
#[derive(Debug)]
pub struct Streams {
    carry: Vec<u8>,
    /// By stream: 1, 3, 5 and so on.
    lines: Vec<Lines>,
    waiting: usize,
    received: u32,
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// A string without Huffman coding; ours are shorter than 127 bytes.
fn string(out: &mut Vec<u8>, text: &str) {
    out.push(text.len().min(126) as u8);
    out.extend_from_slice(&text.as_bytes()[..text.len().min(126)]);
}

impl Streams {
    /// The state, and what is said first: so many requests for these rooms.
    pub fn open(
        dialect: Dialect,
        rooms: &[u32],
        streams: usize,
        host: &str,
        tls: bool,
    ) -> (Self, Vec<u8>) {
        let mut out = PREFACE.to_vec();
        // No push; windows as large as they can be.
        let mut settings = vec![0, 2, 0, 0, 0, 0, 0, 4];
        settings.extend_from_slice(&WINDOW.to_be_bytes());
        frame(&mut out, SETTINGS, 0, 0, &settings);
        frame(&mut out, WINDOW_UPDATE, 0, 0, &(WINDOW - 65_535).to_be_bytes());
        let mut head = vec![0x82, if tls { 0x87 } else { 0x86 }, 0x04];
        string(&mut head, &dialect.target(rooms, ""));
        head.push(0x01);
        string(&mut head, host);
        head.extend_from_slice(&[0x0f, 0x04]);
        string(&mut head, "text/event-stream");
        for stream in 0..streams as u32 {
            frame(&mut out, HEADERS, END_STREAM | END_HEADERS, 2 * stream + 1, &head);
        }
        let lines = (0..streams).map(|_| Lines::default()).collect();
        (Self { carry: Vec::new(), lines, waiting: streams, received: 0 }, out)
    }

    pub fn feed(&mut self, mut input: &[u8], reader: &mut impl Reader) -> Result<(), Broken> {
        while !self.carry.is_empty() {
            let wanted = match self.carry.len() {
                ..HEAD_BYTES => HEAD_BYTES,
                _ => whole(&self.carry)?,
            };
            let missing = wanted.saturating_sub(self.carry.len()).min(input.len());
            self.carry.extend_from_slice(&input[..missing]);
            input = &input[missing..];
            if self.carry.len() < wanted {
                return Ok(());
            }
            if self.carry.len() == whole(&self.carry)? {
                let carry = std::mem::take(&mut self.carry);
                self.frame(&carry, reader)?;
            }
        }
        while input.len() >= HEAD_BYTES {
            let Some(bytes) = input.get(..whole(input)?) else { break };
            self.frame(bytes, reader)?;
            input = &input[bytes.len()..];
        }
        self.carry.extend_from_slice(input);
        Ok(())
    }

    fn frame(&mut self, bytes: &[u8], reader: &mut impl Reader) -> Result<(), Broken> {
        let (kind, flags, payload) = (bytes[3], bytes[4], &bytes[HEAD_BYTES..]);
        let stream = u32::from_be_bytes([bytes[5] & 0x7f, bytes[6], bytes[7], bytes[8]]);
        let at = (stream / 2) as usize;
        match kind {
            DATA => {
                let data = unpadded(payload, flags, 0)?;
                reader.stream(at);
                self.lines.get_mut(at).ok_or(Broken)?.feed(data, reader)?;
                self.received += payload.len() as u32;
                if self.received > GIVE_BACK {
                    let mut out = Vec::new();
                    frame(&mut out, WINDOW_UPDATE, 0, 0, &self.received.to_be_bytes());
                    reader.send(&out);
                    self.received = 0;
                }
                self.ended(flags & END_STREAM != 0, "a stream ended", reader)
            }
            HEADERS => {
                let skip = if flags & PRIORITY != 0 { 5 } else { 0 };
                let block = unpadded(payload, flags, skip)?;
                // A table size update may stand before it.
                let block = block.iter().find(|byte| **byte & 0xe0 != 0x20);
                self.ended(block != Some(&STATUS_200), "a stream was refused", reader)?;
                self.waiting = self.waiting.saturating_sub(1);
                if self.waiting == 0 {
                    reader.opened();
                }
                Ok(())
            }
            SETTINGS if flags & ACK == 0 => {
                let mut out = Vec::new();
                frame(&mut out, SETTINGS, ACK, 0, &[]);
                reader.send(&out);
                Ok(())
            }
            PING if flags & ACK == 0 => {
                let mut out = Vec::new();
                frame(&mut out, PING, ACK, 0, payload);
                reader.send(&out);
                Ok(())
            }
            RST_STREAM => self.ended(true, "a stream was reset", reader),
            GOAWAY => self.ended(true, "GOAWAY", reader),
            _ => Ok(()),
        }
    }

    fn ended(&self, ended: bool, why: &str, reader: &mut impl Reader) -> Result<(), Broken> {
        if ended {
            reader.closed(why.as_bytes());
            return Err(Broken);
        }
        Ok(())
    }
}

/// Length of the frame at the front, of which the head is there.
fn whole(bytes: &[u8]) -> Result<usize, Broken> {
    let length = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]) as usize;
    if length > FRAME_BYTES_MAX { Err(Broken) } else { Ok(HEAD_BYTES + length) }
}

fn unpadded(payload: &[u8], flags: u8, skip: usize) -> Result<&[u8], Broken> {
    if flags & PADDED == 0 {
        return payload.get(skip..).ok_or(Broken);
    }
    let (padding, rest) = payload.split_first().ok_or(Broken)?;
    let end = rest.len().checked_sub(usize::from(*padding)).ok_or(Broken)?;
    rest.get(skip..end).ok_or(Broken)
}

#[cfg(test)]
mod tests {
    use super::super::tests::Notes;
    use super::*;

    #[test]
    fn streams_are_told_apart_however_the_reads_cut_them() {
        let mut bytes = Vec::new();
        frame(&mut bytes, SETTINGS, 0, 0, &[]);
        frame(&mut bytes, HEADERS, END_HEADERS, 1, &[0x3f, STATUS_200]);
        frame(&mut bytes, HEADERS, END_HEADERS, 3, &[STATUS_200, 0x40]);
        frame(&mut bytes, DATA, 0, 1, b"data: on");
        frame(&mut bytes, DATA, PADDED, 3, b"\x02data: two\n\n..");
        frame(&mut bytes, DATA, 0, 1, b"e\n\n");
        frame(&mut bytes, PING, 0, 0, b"12345678");
        frame(&mut bytes, GOAWAY, 0, 0, &[0; 8]);
        let expected = [
            "send 9",
            "opened",
            "stream 0",
            "stream 1",
            "message two",
            "stream 0",
            "message one",
            "send 17",
            "closed GOAWAY",
        ];
        for size in 1..=bytes.len() {
            let mut notes = Notes::default();
            let (mut streams, said) = Streams::open(Dialect::SseH2, &[0], 2, "h", false);
            assert!(said.starts_with(PREFACE));
            let fed = bytes.chunks(size).try_for_each(|piece| streams.feed(piece, &mut notes));
            assert_eq!((notes.0, fed), (expected.map(str::to_owned).to_vec(), Err(Broken)));
        }
    }

    #[test]
    fn a_refused_stream_closes() {
        let mut bytes = Vec::new();
        frame(&mut bytes, HEADERS, END_HEADERS, 1, &[0x8d]);
        let mut notes = Notes::default();
        let (mut streams, _) = Streams::open(Dialect::SseH2, &[0], 1, "h", false);
        assert_eq!(streams.feed(&bytes, &mut notes), Err(Broken));
        assert_eq!(notes.0, ["closed a stream was refused"]);
    }
}
