//! The client's half: response heads, for `tail`, `bench` and the tests.

use super::request::content_length;
use super::scan::Scanner;
use super::{Body, Fields, HeadError, Limits};

/// How a response body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseBody {
    /// As a request body would; read it with [`super::BodyReader`].
    Framed(Body),
    /// With the connection.
    UntilClose,
}

/// A response head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status; 1xx other than 101 are followed by another head.
    pub status: u16,
    /// The field lines.
    pub fields: Fields,
    /// How the body ends. For the answer to HEAD the caller knows better.
    pub body: ResponseBody,
    /// The server will take another request on this connection.
    pub keep_alive: bool,
}

/// Why a response head was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// The first line is not `HTTP/1.1 status reason`.
    #[error("the server did not answer with HTTP/1.1")]
    StatusLine,
    /// The rest of the head.
    #[error("the response head is malformed: {0}")]
    Head(#[from] HeadError),
}

/// Parses response heads one after another.
#[derive(Debug)]
pub struct ResponseParser {
    scanner: Scanner,
    limits: Limits,
}

impl ResponseParser {
    /// A parser at the start of a connection.
    pub fn new(limits: Limits) -> Self {
        Self { scanner: Scanner::default(), limits }
    }

    /// Takes bytes; as [`super::RequestParser::feed`].
    pub fn feed(&mut self, input: &[u8]) -> Result<(usize, Option<Response>), ResponseError> {
        let (consumed, head) = self.scanner.feed(input, &self.limits, |_| Ok(()))?;
        let response = head.map(|head| parse(head, &self.limits)).transpose()?;
        Ok((consumed, response))
    }
}

fn parse(head: Vec<u8>, limits: &Limits) -> Result<Response, ResponseError> {
    let line_len = memchr::memchr(b'\n', &head).ok_or(ResponseError::StatusLine)?;
    let line = head.get(..line_len.saturating_sub(1)).unwrap_or_default();
    let (version, rest) = line.split_at_checked(9).ok_or(ResponseError::StatusLine)?;
    let status = match (version, rest) {
        (b"HTTP/1.0 " | b"HTTP/1.1 ", [a, b, c] | [a, b, c, b' ', ..])
            if [a, b, c].iter().all(|digit| digit.is_ascii_digit()) =>
        {
            [a, b, c].iter().fold(0, |sum, digit| sum * 10 + u16::from(**digit - b'0'))
        }
        _ => return Err(ResponseError::StatusLine),
    };
    let is_11 = version == b"HTTP/1.1 ";
    let fields = Fields::parse(head, line_len + 1, limits.headers_max)?;
    let length = content_length(&fields)?;
    let chunked = fields.has_token("transfer-encoding", "chunked");
    let body = match (status, length) {
        (..200 | 204 | 304, _) => ResponseBody::Framed(Body::None),
        _ if chunked => ResponseBody::Framed(Body::Chunked),
        (_, Some(bytes)) => ResponseBody::Framed(Body::Length(bytes)),
        (_, None) => ResponseBody::UntilClose,
    };
    let keep_alive = body != ResponseBody::UntilClose
        && !fields.has_token("connection", "close")
        && (is_11 || fields.has_token("connection", "keep-alive"));
    Ok(Response { status, fields, body, keep_alive })
}
