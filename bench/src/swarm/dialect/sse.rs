//! Server-sent events in a response body, chunked or until the connection ends.

use super::{Broken, Reader, between};
use proto::http1::BodyReader;

/// A line longer than this is a broken stream.
const LINE_BYTES_MAX: usize = 1 << 20;

/// The receiving half.
#[derive(Debug)]
pub struct Stream {
    body: Option<BodyReader>,
    lines: Lines,
}

/// Lines of the stream; what a read left of an unfinished one.
#[derive(Debug, Default)]
pub struct Lines {
    carry: Vec<u8>,
}

impl Stream {
    /// Without a body's framing everything is the body.
    pub fn new(body: Option<BodyReader>) -> Self {
        Self { body, lines: Lines::default() }
    }

    pub fn feed(&mut self, mut input: &[u8], reader: &mut impl Reader) -> Result<(), Broken> {
        let Some(body) = &mut self.body else { return self.lines.feed(input, reader) };
        while !input.is_empty() {
            let chunk = body.feed(input).map_err(|_| Broken)?;
            self.lines.feed(chunk.data, reader)?;
            if chunk.finished {
                reader.closed(b"the stream ended");
                return Err(Broken);
            }
            input = &input[chunk.consumed..];
        }
        Ok(())
    }
}

impl Lines {
    /// Takes a piece of the stream.
    pub fn feed(&mut self, mut input: &[u8], reader: &mut impl Reader) -> Result<(), Broken> {
        while let Some(end) = memchr::memchr(b'\n', input) {
            if self.carry.is_empty() {
                line(&input[..end], reader);
            } else {
                self.carry.extend_from_slice(&input[..end]);
                line(&self.carry, reader);
                self.carry.clear();
            }
            input = &input[end + 1..];
        }
        self.carry.extend_from_slice(input);
        if self.carry.len() > LINE_BYTES_MAX { Err(Broken) } else { Ok(()) }
    }
}

fn line(line: &[u8], reader: &mut impl Reader) {
    let Some(data) = line.strip_prefix(b"data:") else { return };
    let data = data.strip_prefix(b" ").unwrap_or(data);
    match data {
        // An envelope, as our streams of several channels have it.
        [b'{', ..] => {
            let text = std::str::from_utf8(data).unwrap_or_default();
            if let Some(data) = between(text, "\"data\":\"", '"') {
                reader.message(data.as_bytes());
            }
        }
        _ => reader.message(data.strip_suffix(b"\r").unwrap_or(data)),
    }
}
