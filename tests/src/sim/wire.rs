//! What every client has: a socket, what it still has to say, and answers read off the wire.

use super::chance::Chance;
use super::host::Host;
use super::net::{CAP_USUAL, Net, Read, SocketId};
use super::options::Options;
use super::oracle::Oracle;
use super::trace::Trace;
use proto::http1::{BodyReader, Limits, Response, ResponseBody, ResponseParser};

/// What a client sees of the world when it is its turn.
pub struct Scene<'a> {
    pub now_ms: u64,
    pub net: &'a mut Net,
    pub host: Option<&'a mut Host>,
    pub oracle: &'a mut Oracle,
    pub chance: &'a mut Chance,
    pub trace: &'a mut Trace,
    pub options: &'a Options,
    pub channels: &'a [String],
    /// Nothing goes wrong any more, and nobody starts anything new.
    pub calm: bool,
}

/// A client's end of a connection.
#[derive(Debug)]
pub struct Wire {
    pub socket: SocketId,
    out: Vec<u8>,
}

impl Wire {
    /// Connects, if a server listens.
    pub fn connect(scene: &mut Scene<'_>) -> Option<Self> {
        let host = scene.host.as_deref_mut()?;
        let (mut up_cap, mut down_cap) = (CAP_USUAL, CAP_USUAL);
        if !scene.calm {
            up_cap = scene.chance.size(64 << 10).max(64) as usize;
            down_cap = scene.chance.range(1, scene.options.down_cap + 1).max(64) as usize;
        }
        let socket = scene.net.open(up_cap, down_cap);
        if !host.connect(socket, scene.chance) {
            scene.net.cut(socket, 0);
            scene.net.client_close(socket);
            return None;
        }
        Some(Self { socket, out: Vec::new() })
    }

    /// Queues bytes.
    pub fn say(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Bytes that were not written yet.
    pub fn unsaid(&self) -> usize {
        self.out.len()
    }

    /// Writes some of what is queued.
    pub fn write(&mut self, net: &mut Net, chance: &mut Chance) {
        while !self.out.is_empty() {
            let count = chance.size(self.out.len() as u64) as usize;
            let taken = net.client_write(self.socket, &self.out[..count]);
            self.out.drain(..taken);
            if taken < count || chance.per_mille(300) {
                return;
            }
        }
    }

    /// Reads some bytes.
    pub fn read(&mut self, net: &mut Net, chance: &mut Chance) -> Read {
        net.client_read(self.socket, chance.size(32 << 10) as usize)
    }

    /// Closes.
    pub fn close(self, net: &mut Net) {
        net.client_close(self.socket);
    }
}

/// Reads HTTP/1.1 answers.
#[derive(Debug)]
pub struct Answers {
    parser: ResponseParser,
    current: Option<(Response, Option<BodyReader>)>,
    body: Vec<u8>,
}

/// What came of some bytes.
#[derive(Debug)]
pub enum Answered {
    /// A whole answer.
    Whole(Response, Vec<u8>),
    /// A head whose body ends with the connection, or that switches protocols: the rest is a
    /// stream.
    Stream(u16),
}

impl Default for Answers {
    fn default() -> Self {
        let parser = ResponseParser::new(Limits::default());
        Self { parser, current: None, body: Vec::new() }
    }
}

impl Answers {
    /// Takes bytes up to the end of one answer; says how many.
    pub fn feed(&mut self, input: &[u8]) -> Result<(usize, Option<Answered>), String> {
        let mut used = 0;
        while used < input.len() || self.is_whole() {
            let Some((_, body)) = &mut self.current else {
                let (taken, head) = self.parser.feed(&input[used..]).map_err(|e| e.to_string())?;
                used += taken;
                let Some(head) = head else { continue };
                match head.body {
                    _ if head.status == 100 => {}
                    ResponseBody::UntilClose => {
                        return Ok((used, Some(Answered::Stream(head.status))));
                    }
                    _ if head.status == 101 => {
                        return Ok((used, Some(Answered::Stream(head.status))));
                    }
                    ResponseBody::Framed(body) => {
                        self.current = Some((head, Some(BodyReader::new(body))));
                    }
                }
                continue;
            };
            if let Some(reader) = body {
                let chunk = reader.feed(&input[used..]).map_err(|e| e.to_string())?;
                used += chunk.consumed;
                self.body.extend_from_slice(chunk.data);
                if chunk.finished {
                    *body = None;
                }
            }
            if self.is_whole()
                && let Some((head, _)) = self.current.take()
            {
                return Ok((used, Some(Answered::Whole(head, std::mem::take(&mut self.body)))));
            }
        }
        Ok((used, None))
    }

    fn is_whole(&self) -> bool {
        self.current.as_ref().is_some_and(|(_, body)| body.is_none_or(|body| body.is_finished()))
    }
}

/// Writes a request head.
pub fn head(method: &str, target: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut text = format!("{method} {target} HTTP/1.1\r\nhost: localhost\r\n");
    for (name, value) in fields {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    text.into_bytes()
}

/// Percent-encodes what a query or a path segment cannot hold as it is.
pub fn escape(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
