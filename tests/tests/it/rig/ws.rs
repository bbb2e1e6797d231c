//! WebSocket frames on a bare socket: masked, unmasked or broken, as the test says.

use super::http::Wire;
use std::net::SocketAddr;

/// The handshake's example key (RFC 6455 section 1.3) and its answer.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The request of a handshake, complete but for the blank line.
pub fn handshake(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n"
    )
}

/// A frame from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub opcode: u8,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn text(&self) -> String {
        assert_eq!(self.opcode, 1, "{self:?}");
        String::from_utf8(self.payload.clone()).expect("text is UTF-8")
    }

    /// Code and reason of a close frame.
    pub fn close(&self) -> (u16, String) {
        assert_eq!(self.opcode, 8, "{self:?}");
        let (code, reason) = self.payload.split_at(2);
        let code = u16::from_be_bytes([code[0], code[1]]);
        (code, String::from_utf8(reason.to_vec()).expect("a reason is UTF-8"))
    }
}

/// A WebSocket on a bare socket.
pub struct Socket {
    pub wire: Wire,
}

impl Socket {
    /// Connects and shakes hands.
    pub fn open(address: SocketAddr, path: &str) -> Self {
        let mut wire = Wire::connect(address);
        wire.send(format!("{}\r\n", handshake(path)));
        let head = wire.head();
        assert_eq!(head.status, 101, "{head:?}");
        assert_eq!(head.header("sec-websocket-accept"), ACCEPT);
        Self { wire }
    }

    /// Sends one masked frame; `first` is FIN, the reserved bits and the opcode.
    pub fn send(&mut self, first: u8, payload: &[u8]) {
        self.wire.send(frame(first, payload));
    }

    pub fn send_text(&mut self, text: &str) {
        self.send(0x81, text.as_bytes());
    }

    /// The next frame.
    pub fn next(&mut self) -> Frame {
        let (first, payload) = self.next_raw();
        assert_eq!(first & 0xf0, 0x80, "one whole frame without extensions: {first:x}");
        Frame { opcode: first & 0xf, payload }
    }

    /// The next frame's first byte and its payload as it is.
    pub fn next_raw(&mut self) -> (u8, Vec<u8>) {
        let head = self.wire.exactly(2);
        assert_eq!(head[1] & 0x80, 0, "a server does not mask");
        let length = match head[1] {
            126 => u64::from_be_bytes(
                [&[0; 6], &self.wire.exactly(2)[..]].concat()[..].try_into().expect("8"),
            ),
            127 => u64::from_be_bytes(self.wire.exactly(8)[..].try_into().expect("8")),
            short => u64::from(short),
        };
        (head[0], self.wire.exactly(length as usize))
    }

    /// The next text message.
    pub fn next_text(&mut self) -> String {
        self.next().text()
    }

    /// Reads up to the close frame, gives its code and reason, and sees the connection end.
    pub fn closed(mut self) -> (u16, String) {
        loop {
            let frame = self.next();
            if frame.opcode == 8 {
                self.wire.rest();
                return frame.close();
            }
        }
    }
}

/// A masked frame with a minimal length.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = frame_head(first, payload.len() as u64);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    out
}

/// The head of a masked frame, with its mask.
pub fn frame_head(first: u8, length: u64) -> Vec<u8> {
    let mut out = vec![first];
    match length {
        0..=125 => out.push(0x80 | length as u8),
        126..=0xffff => {
            out.push(0x80 | 126);
            out.extend((length as u16).to_be_bytes());
        }
        _ => {
            out.push(0x80 | 127);
            out.extend(length.to_be_bytes());
        }
    }
    out.extend(MASK);
    out
}

pub const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
