//! HTTP/2 frames on a bare socket, so that a test can send what no library would.

use super::http::Wire;
use std::net::SocketAddr;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const ACK: u8 = 1;

/// GOAWAY with this code says that the peer asks too much.
pub const ENHANCE_YOUR_CALM: u32 = 11;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// The bytes of a frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut out = vec![length[1], length[2], length[3], kind, flags];
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// A header block in HPACK: literals that are never indexed, without Huffman coding.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0x10);
        for text in [name, value] {
            // A length with a 7-bit prefix (RFC 7541 section 5.1).
            let mut rest = text.len();
            if rest < 127 {
                out.push(rest as u8);
            } else {
                out.push(127);
                rest -= 127;
                while rest >= 128 {
                    out.push((rest % 128 + 128) as u8);
                    rest /= 128;
                }
                out.push(rest as u8);
            }
            out.extend(text.bytes());
        }
    }
    out
}

/// The header block of a request.
pub fn request(method: &str, path: &str) -> Vec<u8> {
    let scheme = [(":scheme", "http"), (":authority", "localhost")];
    block(&[&[(":method", method), (":path", path)][..], &scheme].concat())
}

/// A connection whose settings are exchanged.
pub struct Connection {
    pub wire: Wire,
}

impl Connection {
    /// Connects; the settings are identifiers and values.
    pub fn open(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let mut wire = Wire::connect(address);
        let values = settings
            .iter()
            .flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat());
        let values: Vec<u8> = values.collect();
        wire.send([PREFACE, &frame(SETTINGS, 0, 0, &values)].concat());
        let mut connection = Self { wire };
        let first = connection.next().expect("settings first");
        assert_eq!((first.kind, first.flags), (SETTINGS, 0));
        connection.wire.send(frame(SETTINGS, ACK, 0, b""));
        connection
    }

    /// The next frame; `None` at the end.
    pub fn next(&mut self) -> Option<Frame> {
        let mut head = vec![self.wire.byte()?];
        head.extend(self.wire.exactly(8));
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        let payload = self.wire.exactly(length as usize);
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// Sends a GET.
    pub fn get(&mut self, stream: u32, path: &str) {
        self.wire.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, &request("GET", path)));
    }

    /// Reads to the headers of a stream's answer and gives the status, if HPACK's static table has
    /// it; 0 for another one. Pings are answered.
    pub fn status(&mut self, stream: u32) -> u16 {
        loop {
            let frame = self.next().expect("an answer");
            if frame.kind == PING && frame.flags & ACK == 0 {
                self.wire.send(self::frame(PING, ACK, 0, &frame.payload));
            }
            assert!(frame.kind != GOAWAY, "the connection ended: {frame:?}");
            if frame.stream != stream {
                continue;
            }
            assert_eq!(frame.kind, HEADERS, "{frame:?}");
            // A change of the table's size may come first.
            let at = frame.payload.iter().position(|byte| byte & 0xe0 != 0x20).unwrap_or(0);
            return match frame.payload.get(at) {
                Some(0x88) => 200,
                Some(0x89) => 204,
                Some(0x8c) => 400,
                Some(0x8d) => 404,
                Some(0x8e) => 500,
                _ => 0,
            };
        }
    }

    /// Reads to the end; gives the code of the GOAWAY before it, if there was one.
    pub fn goaway(&mut self) -> Option<u32> {
        let mut code = None;
        while let Some(frame) = self.next() {
            if frame.kind == GOAWAY {
                code = frame.payload[4..8].try_into().ok().map(u32::from_be_bytes);
            }
        }
        code
    }
}
