//! Whole HTTP/1.1 messages, for the fixtures that stand where a database or an object store stands.
//!
//! Unlike [`super::Wire`], nothing here panics when the other side goes away: that is what the
//! fixtures are for. A message keeps its bytes as they were on the wire, to be passed on.

use super::{Answer, CAP};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// The start line and the headers, with the empty line that ends them.
pub struct Head(String);

impl Head {
    /// Reads one; `None` if the connection ends instead.
    pub fn read(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut text = String::new();
        while !text.ends_with("\r\n\r\n") {
            if from.read_line(&mut text)? == 0 {
                return if text.is_empty() { Ok(None) } else { Err(cut()) };
            }
        }
        Ok(Some(Self(text)))
    }

    /// The start line's words.
    pub fn start(&self) -> impl Iterator<Item = &str> {
        self.0.lines().next().unwrap_or_default().split(' ')
    }

    /// A header's value in lower case, or the empty text.
    pub fn header(&self, name: &str) -> String {
        let found = self.headers().into_iter().find(|(own, _)| own == name);
        found.map_or_else(String::new, |(_, value)| value.to_ascii_lowercase())
    }

    /// Every header, names in lower case.
    pub fn headers(&self) -> Vec<(String, String)> {
        let pairs = self.0.lines().skip(1).filter_map(|line| line.split_once(':'));
        pairs.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect()
    }

    pub fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    fn has_length(&self) -> bool {
        self.is_chunked() || !self.header("content-length").is_empty()
    }

    fn is_chunked(&self) -> bool {
        self.header("transfer-encoding").contains("chunked")
    }
}

/// A body, as it was sent and as it is meant.
#[derive(Default)]
pub struct Body {
    pub wire: Vec<u8>,
    pub content: Vec<u8>,
}

impl Body {
    /// The body of a request.
    pub fn of_request(head: &Head, from: &mut impl BufRead) -> io::Result<Self> {
        if head.has_length() { Self::read(head, from) } else { Ok(Self::default()) }
    }

    /// The body of an answer to such a request.
    pub fn of_answer(head: &Head, method: &str, from: &mut impl BufRead) -> io::Result<Self> {
        let status = head.start().nth(1).unwrap_or_default();
        if method == "HEAD" || matches!(status, "204" | "304") {
            return Ok(Self::default());
        }
        Self::read(head, from)
    }

    fn read(head: &Head, from: &mut impl BufRead) -> io::Result<Self> {
        let mut body = Self::default();
        if head.is_chunked() {
            while body.chunk(from)? > 0 {}
            return Ok(body);
        }
        if head.has_length() {
            let length = head.header("content-length").parse().map_err(io::Error::other)?;
            from.take(length).read_to_end(&mut body.wire)?;
            if (body.wire.len() as u64) < length {
                return Err(cut());
            }
        } else {
            from.read_to_end(&mut body.wire)?;
        }
        body.content.clone_from(&body.wire);
        Ok(body)
    }

    /// Reads a chunk with its line ends; gives its size.
    fn chunk(&mut self, from: &mut impl BufRead) -> io::Result<usize> {
        let mut line = String::new();
        from.read_line(&mut line)?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(digits, 16).map_err(|_| cut())?;
        let mut content = vec![0; size + 2];
        from.read_exact(&mut content)?;
        self.wire.extend_from_slice(line.as_bytes());
        self.wire.extend_from_slice(&content);
        self.content.extend_from_slice(&content[..size]);
        Ok(size)
    }
}

/// One request on a connection of its own.
pub fn exchange(
    address: SocketAddr,
    (method, path): (&str, &str),
    headers: &str,
    body: &[u8],
) -> io::Result<Answer> {
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Length: {length}\r\n{headers}\r\n"
    );
    let (head, body) = send(address, method, &[head.as_bytes(), body])?;
    let status = head.start().nth(1).and_then(|status| status.parse().ok()).ok_or_else(cut)?;
    Ok(Answer { status, headers: head.headers(), body: body.content })
}

/// Sends bytes that are a request and reads the answer.
pub fn send(address: SocketAddr, method: &str, pieces: &[&[u8]]) -> io::Result<(Head, Body)> {
    let mut stream = TcpStream::connect_timeout(&address, CAP)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(CAP))?;
    stream.set_write_timeout(Some(CAP))?;
    // Who refuses a request may answer before it has read all of it.
    let sent = pieces.iter().try_for_each(|piece| stream.write_all(piece));
    let mut from = BufReader::new(stream);
    let Some(head) = Head::read(&mut from)? else {
        return Err(sent.err().unwrap_or_else(cut));
    };
    let body = Body::of_answer(&head, method, &mut from)?;
    Ok((head, body))
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended inside a message")
}
