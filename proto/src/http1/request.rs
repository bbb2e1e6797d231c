//! The request head: parsing it, and deciding what follows from it.

use super::fields::Span;
use super::scan::{METHOD_BYTES_MAX, Scanner};
use super::target::{Target, valid_host};
use super::{Fields, Framing, HeadError, Limits, is_tchar};

/// How the body of a request ends (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Body {
    /// There is none.
    #[default]
    None,
    /// After that many bytes; may be 0.
    Length(u64),
    /// With the last chunk.
    Chunked,
}

/// A request head, owned: two allocations whatever the number of fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    fields: Fields,
    method: Span,
    target: Target,
    host: Span,
    /// The minor version: 0, or 1 for everything newer.
    pub version_minor: u8,
    /// The connection can take another request after this one.
    pub keep_alive: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub expect_continue: bool,
    /// `Connection` and `Upgrade` ask for WebSocket; see `ws::handshake` for the rest.
    pub upgrade_websocket: bool,
    /// How the body ends.
    pub body: Body,
}

impl Request {
    /// The method as sent; methods are case-sensitive.
    pub fn method(&self) -> &str {
        self.method.text(&self.fields.bytes)
    }

    /// The target as sent, in whatever form.
    pub fn target(&self) -> &str {
        self.target.whole.text(&self.fields.bytes)
    }

    /// The path, still percent-encoded; starts with a slash, except for `OPTIONS *`.
    pub fn path(&self) -> &str {
        if self.target.path.is_empty() { "/" } else { self.target.path.text(&self.fields.bytes) }
    }

    /// What follows the question mark, still encoded; `None` without a question mark.
    pub fn query(&self) -> Option<&str> {
        self.target.query.map(|query| query.text(&self.fields.bytes))
    }

    /// The authority that was asked: of the target if it is absolute, otherwise Host. Empty only
    /// in HTTP/1.0.
    pub fn host(&self) -> &str {
        self.target.authority.unwrap_or(self.host).text(&self.fields.bytes)
    }

    /// The first value of a field; the name's case does not matter.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.fields.get(name)
    }

    /// The first value of a field, if it is UTF-8.
    pub fn header_str(&self, name: &str) -> Option<&str> {
        self.fields.get_str(name)
    }

    /// All fields.
    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    /// How a response of unknown length is to be framed for this client: HTTP/1.0 knows no chunks.
    pub fn stream_framing(&self) -> Framing {
        if self.version_minor == 0 { Framing::UntilClose } else { Framing::Chunked }
    }

    /// Bytes of heap held.
    pub fn heap_bytes(&self) -> usize {
        self.fields.heap_bytes()
    }

    /// Parses a whole head.
    fn parse(head: Vec<u8>, limits: &Limits) -> Result<Self, HeadError> {
        let line = RequestLine::parse(&head, limits)?;
        let fields = Fields::parse(head, line.fields_at, limits.headers_max)?;
        let mut request = Self {
            fields,
            method: line.method,
            target: line.target,
            host: Span::default(),
            version_minor: line.version_minor,
            keep_alive: false,
            expect_continue: false,
            upgrade_websocket: false,
            body: Body::None,
        };
        request.host = request.find_host()?;
        request.body = request.find_body()?;
        request.expect_continue = request.find_expectation()?;
        let is_11 = request.version_minor >= 1;
        let connection = |token| request.fields.has_token("connection", token);
        //= rfc9112#9.3
        // `close` wins; otherwise 1.1 persists and 1.0 only if it says so.
        let keep_alive = !connection("close") && (is_11 || connection("keep-alive"));
        //= rfc9110#7.8
        // Upgrade counts only if Connection names it, and not in 1.0.
        let upgrade_websocket =
            is_11 && connection("upgrade") && request.fields.has_token("upgrade", "websocket");
        request.keep_alive = keep_alive;
        request.upgrade_websocket = upgrade_websocket;
        Ok(request)
    }

    //= rfc9112#3.2
    // 400 for a 1.1 request without Host, and for any with two or an invalid one.
    fn find_host(&self) -> Result<Span, HeadError> {
        let mut hosts = self.fields.spans("host");
        match (hosts.next(), hosts.next()) {
            (_, Some(_)) => Err(HeadError::HostRepeated),
            (None, None) if self.version_minor >= 1 => Err(HeadError::HostMissing),
            (None, None) => Ok(Span::default()),
            (Some(host), None) if valid_host(host.of(&self.fields.bytes)) => Ok(host),
            (Some(_), None) => Err(HeadError::HostInvalid),
        }
    }

    //= rfc9112#6.3
    // One framing only: a message that has two may be an attempt to smuggle, and is refused.
    fn find_body(&self) -> Result<Body, HeadError> {
        let length = content_length(&self.fields)?;
        let mut codings = self.fields.all("transfer-encoding");
        let Some(coding) = codings.next() else {
            return Ok(length.map_or(Body::None, Body::Length));
        };
        //= rfc9112#6.1
        // Transfer-Encoding in a 1.0 message means that its framing is faulty.
        if self.version_minor == 0 {
            return Err(HeadError::TransferEncodingInHttp10);
        }
        if length.is_some() {
            return Err(HeadError::LengthAndChunked);
        }
        if codings.next().is_some() {
            return Err(HeadError::TransferEncodingInvalid);
        }
        if coding.eq_ignore_ascii_case(b"chunked") {
            return Ok(Body::Chunked);
        }
        //= rfc9112#6.1
        // A coding that the server does not understand is answered with 501.
        let mut members = coding.split(|b| *b == b',').map(<[u8]>::trim_ascii);
        let last_is_chunked =
            members.next_back().is_some_and(|last| last.eq_ignore_ascii_case(b"chunked"));
        let others_are_known = members.all(|member| {
            [&b"gzip"[..], b"x-gzip", b"deflate", b"compress", b"x-compress"]
                .iter()
                .any(|known| member.eq_ignore_ascii_case(known))
        });
        Err(if last_is_chunked && others_are_known {
            HeadError::TransferEncodingUnsupported
        } else {
            HeadError::TransferEncodingInvalid
        })
    }

    //= rfc9110#10.1.1
    // Only 100-continue is defined, 1.0 ignores it; anything else is answered with 417.
    fn find_expectation(&self) -> Result<bool, HeadError> {
        if self.version_minor == 0 {
            return Ok(false);
        }
        let mut expected = false;
        for value in self.fields.all("expect") {
            if !value.eq_ignore_ascii_case(b"100-continue") {
                return Err(HeadError::Expectation);
            }
            expected = true;
        }
        Ok(expected)
    }
}

/// The value of Content-Length, however often the same one is repeated.
pub(super) fn content_length(fields: &Fields) -> Result<Option<u64>, HeadError> {
    let mut values = fields.all("content-length");
    let Some(first) = values.next() else { return Ok(None) };
    // `u64::from_str` takes a plus sign; digits are checked first for that.
    let length = Some(first)
        .filter(|value| value.iter().all(u8::is_ascii_digit))
        .and_then(|value| std::str::from_utf8(value).ok())
        .and_then(|value| value.parse().ok())
        .ok_or(HeadError::ContentLengthInvalid)?;
    if values.all(|value| value == first) {
        Ok(Some(length))
    } else {
        Err(HeadError::ContentLengthRepeated)
    }
}

struct RequestLine {
    method: Span,
    target: Target,
    version_minor: u8,
    fields_at: usize,
}

impl RequestLine {
    //= rfc9112#3
    // method SP request-target SP HTTP-version CRLF, single spaces.
    fn parse(head: &[u8], limits: &Limits) -> Result<Self, HeadError> {
        let line_len = memchr::memchr(b'\n', head).ok_or(HeadError::RequestLine)?;
        let line = head.get(..line_len.saturating_sub(1)).unwrap_or_default();
        let mut parts = line.split(|b| *b == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(HeadError::RequestLine);
        };
        if target.len() > usize::from(limits.target_bytes_max) {
            return Err(HeadError::TargetTooLong { bytes_max: limits.target_bytes_max });
        }
        let version_minor = match version {
            b"HTTP/1.0" => 0,
            //= rfc9110#2.5
            // A higher minor version is processed as the highest we know.
            [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1'..=b'9'] => 1,
            [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
                if major.is_ascii_digit() && minor.is_ascii_digit() =>
            {
                return Err(HeadError::Version);
            }
            _ => return Err(HeadError::RequestLine),
        };
        Ok(Self {
            method: Span::new(0, method.len()),
            target: Target::parse(method, target, method.len() + 1)?,
            version_minor,
            fields_at: line_len + 1,
        })
    }
}

/// Checks the method as soon as its bytes are there, so that what is not HTTP is refused at once
/// and not at the time-out.
fn check_start(start: &[u8]) -> Result<(), HeadError> {
    const TLS_HANDSHAKE: u8 = 22;
    if start.first() == Some(&TLS_HANDSHAKE) {
        return Err(HeadError::TlsOnPlainPort);
    }
    for (at, byte) in start.iter().enumerate() {
        match byte {
            b' ' if at > 0 => return Ok(()),
            _ if !is_tchar(*byte) => return Err(HeadError::Method),
            _ if at >= METHOD_BYTES_MAX => return Err(HeadError::MethodTooLong),
            _ => {}
        }
    }
    Ok(())
}

/// Parses request heads one after another. Holds bytes only while a head is incomplete.
#[derive(Debug)]
pub struct RequestParser {
    scanner: Scanner,
    limits: Limits,
}

impl RequestParser {
    /// A parser at the start of a connection.
    pub fn new(limits: Limits) -> Self {
        Self { scanner: Scanner::default(), limits }
    }

    /// Takes bytes. Gives how many were taken and the request if its head is complete; what was
    /// not taken belongs to its body or to the next request. Without a request everything was
    /// taken. After an error the parser must not be used again.
    pub fn feed(&mut self, input: &[u8]) -> Result<(usize, Option<Request>), HeadError> {
        let (consumed, head) = self.scanner.feed(input, &self.limits, check_start)?;
        let request = head.map(|head| Request::parse(head, &self.limits)).transpose()?;
        Ok((consumed, request))
    }

    /// True if nothing of a next request has arrived: the connection may be closed quietly.
    pub fn is_idle(&self) -> bool {
        self.scanner.is_idle()
    }

    /// Bytes of heap held for a partial head.
    pub fn buffered_bytes(&self) -> usize {
        self.scanner.buffered_bytes()
    }
}
