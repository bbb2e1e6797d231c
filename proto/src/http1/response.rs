//! Writes response heads and chunks.
//!
//! Invariant: nothing that a caller passes can end a line early; a field that could is refused
//! and the output is left as it was.

use super::{is_field_byte, is_tchar};

/// How a response body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// The status allows no body (1xx, 204, 304): no length is written.
    None,
    /// After that many bytes; also for the answer to HEAD.
    Length(u64),
    /// With the last chunk.
    Chunked,
    /// With the connection: for streams to HTTP/1.0. Implies `connection: close`.
    UntilClose,
}

/// Why a response field was refused. A programmer's error unless the value came from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// The name is not a token.
    #[error("a response header name is not a token")]
    Name,
    /// CR, LF, NUL or another control character in a value.
    #[error("a response header value contains a control character")]
    Value,
    /// A field that `write_head` writes itself.
    #[error("content-length, transfer-encoding and connection are written by the server")]
    Reserved,
}

/// Appends a response head. `Date` is the caller's, if it has a clock.
pub fn write_head(
    out: &mut Vec<u8>,
    status: u16,
    headers: &[(&str, &str)],
    framing: Framing,
    keep_alive: bool,
) -> Result<(), FieldError> {
    let start = out.len();
    write_status_line(out, status);
    for (name, value) in headers {
        let reserved = ["content-length", "transfer-encoding", "connection"];
        let written = if reserved.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            Err(FieldError::Reserved)
        } else {
            write_field(out, name, value)
        };
        if written.is_err() {
            out.truncate(start);
            return written;
        }
    }
    //= rfc9110#8.6
    // No Content-Length and no Transfer-Encoding in 1xx and 204.
    match framing {
        _ if status < 200 || status == 204 => {}
        Framing::None | Framing::UntilClose => {}
        Framing::Length(bytes) => {
            out.extend_from_slice(b"content-length: ");
            out.extend_from_slice(itoa::Buffer::new().format(bytes).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    if status >= 200 {
        // `keep-alive` is the default of HTTP/1.1 and needed by HTTP/1.0; saying it serves both.
        let keep_alive = keep_alive && framing != Framing::UntilClose;
        let connection: &[u8] =
            if keep_alive { b"connection: keep-alive\r\n" } else { b"connection: close\r\n" };
        out.extend_from_slice(connection);
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Appends `100 Continue`, for a client that waits for it.
pub fn write_continue(out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
}

/// Appends one chunk. Nothing for empty data: that would end the body.
pub fn write_chunk(out: &mut Vec<u8>, data: &[u8]) {
    if !data.is_empty() {
        write_chunk_head(out, data.len());
        out.extend_from_slice(data);
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends the head of a chunk whose data is written elsewhere and must be followed by CRLF.
pub fn write_chunk_head(out: &mut Vec<u8>, data_bytes: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = (usize::BITS - data_bytes.leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        out.extend(DIGITS.get(data_bytes >> (place * 4) & 0xf));
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the end of a chunked body.
pub fn write_last_chunk(out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n\r\n");
}

/// Appends `HTTP/1.1 <status> <reason>`.
pub(crate) fn write_status_line(out: &mut Vec<u8>, status: u16) {
    debug_assert!((100..1000).contains(&status), "a status has three digits, got {status}");
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason_phrase(status).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends one field line after checking it.
pub(crate) fn write_field(out: &mut Vec<u8>, name: &str, value: &str) -> Result<(), FieldError> {
    if name.is_empty() || !name.bytes().all(is_tchar) {
        return Err(FieldError::Name);
    }
    if !value.bytes().all(is_field_byte) {
        return Err(FieldError::Value);
    }
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// The phrase for the statuses that this server sends; empty for others, which is legal.
pub const fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        200 => "OK",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        _ => "",
    }
}
