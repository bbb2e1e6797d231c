//! A blocking HTTP/1.1 client over one socket, as much as `publish`, `tail` and the demo need. The
//! parsing is `proto::http1`'s.
//!
//! Deliberately absent: TLS, redirects, pooling, proxies.

use proto::http1::{BodyReader, Limits, Response, ResponseBody, ResponseParser};
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Where the server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    /// Host and port, as the Host field says them.
    pub(crate) authority: String,
}

impl Server {
    /// From `--url`, `SHARDCAST_URL` or the default.
    pub(crate) fn new(url: Option<&str>) -> Result<Self, String> {
        let from_environment = std::env::var("SHARDCAST_URL").ok();
        Self::parse(url.or(from_environment.as_deref()).unwrap_or(URL_DEFAULT))
    }

    fn parse(url: &str) -> Result<Self, String> {
        let refuse = |why: &str| {
            Err(format!("`{url}` is not a server's address: {why}; write `{URL_DEFAULT}`"))
        };
        if url.starts_with("https://") {
            return refuse("this client speaks no TLS (curl does; or listen on loopback without)");
        }
        let Some(rest) = url.strip_prefix("http://") else {
            return refuse("it does not start with http://");
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.is_empty() || authority.contains(['/', '?', '#', '@', ' ']) {
            return refuse("it is more than scheme, host and port");
        }
        let bare_host = match authority.rsplit_once(']') {
            Some((_, port)) => port.is_empty(),
            None => !authority.contains(':'),
        };
        let port = if bare_host { ":80" } else { "" };
        Ok(Self { authority: format!("{authority}{port}") })
    }

    /// Connects. The error says what to do.
    pub(crate) fn connect(&self) -> Result<Connection, String> {
        let explain = |error: io::Error| {
            let remedy = match error.kind() {
                io::ErrorKind::ConnectionRefused => "; is `shardcast serve` running there?",
                _ => "",
            };
            format!("cannot connect to {}: {error}{remedy}", self.authority)
        };
        let addresses = self.authority.to_socket_addrs().map_err(explain)?;
        let mut last = io::Error::other("the name has no address");
        for address in addresses {
            match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
                Ok(stream) => return Connection::new(stream).map_err(explain),
                Err(error) => last = error,
            }
        }
        Err(explain(last))
    }
}

/// The header field that shows the token or API key in `SHARDCAST_TOKEN`, with its line end; empty
/// without one. In the environment because others see what is on a command line.
pub(crate) fn authorization() -> String {
    std::env::var("SHARDCAST_TOKEN").map(|token| bearer(token.trim())).unwrap_or_default()
}

/// The field for a token. What could end the line is never sent.
pub(crate) fn bearer(token: &str) -> String {
    let legal = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    if legal { format!("Authorization: Bearer {token}\r\n") } else { String::new() }
}

/// One connection, from request to answer.
pub(crate) struct Connection {
    stream: TcpStream,
    /// Received and not consumed.
    input: Vec<u8>,
    parser: ResponseParser,
    body: Option<Body>,
}

enum Body {
    Framed(BodyReader),
    UntilClose,
}

impl Connection {
    fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(READ_TIMEOUT))?;
        stream.set_write_timeout(Some(READ_TIMEOUT))?;
        let parser = ResponseParser::new(Limits::default());
        Ok(Self { stream, input: Vec::new(), parser, body: None })
    }

    /// Sends bytes.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Reads the head of the final answer.
    pub(crate) fn read_head(&mut self) -> io::Result<Response> {
        loop {
            let input = std::mem::take(&mut self.input);
            let (consumed, response) = self.parser.feed(&input).map_err(io::Error::other)?;
            self.input = input[consumed..].to_vec();
            match response {
                // 100 and 103 come before the answer.
                Some(response) if response.status < 200 => continue,
                Some(response) => {
                    self.body = Some(match response.body {
                        ResponseBody::Framed(body) => Body::Framed(BodyReader::new(body)),
                        ResponseBody::UntilClose => Body::UntilClose,
                    });
                    return Ok(response);
                }
                None => self.fill()?,
            }
        }
    }

    /// Reads the next piece of the body; `None` at its end.
    pub(crate) fn read_body(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let ended = match &self.body {
                None => true,
                Some(Body::Framed(reader)) => reader.is_finished(),
                Some(Body::UntilClose) => false,
            };
            if ended {
                return Ok(None);
            }
            let input = std::mem::take(&mut self.input);
            match &mut self.body {
                Some(Body::Framed(reader)) => {
                    let chunk = reader.feed(&input).map_err(io::Error::other)?;
                    let data = chunk.data.to_vec();
                    self.input = input[chunk.consumed..].to_vec();
                    if !data.is_empty() {
                        return Ok(Some(data));
                    }
                    if !reader.is_finished() {
                        self.fill()?;
                    }
                }
                _ if !input.is_empty() => return Ok(Some(input)),
                _ => match self.fill() {
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                    result => result?,
                },
            }
        }
    }

    /// Reads a whole body of an answer that is not a stream; more than `bytes_max` is cut off.
    pub(crate) fn read_text(&mut self, bytes_max: usize) -> io::Result<String> {
        let mut bytes = Vec::new();
        while let Some(piece) = self.read_body()? {
            bytes.extend_from_slice(&piece);
            if bytes.len() > bytes_max {
                bytes.truncate(bytes_max);
                break;
            }
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 << 10];
        let count = loop {
            match self.stream.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        if count == 0 {
            let message = "the server closed the connection";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
        }
        self.input.extend_from_slice(&buffer[..count]);
        Ok(())
    }
}

/// Percent-encodes a path segment or a query value.
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' => {
                out.push(char::from(byte));
            }
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

const URL_DEFAULT: &str = "http://127.0.0.1:8000";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longer than the longest default heartbeat (25 s) and its grace: silence beyond it means that the
/// peer is gone.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_or_refused_with_an_example() {
        let check = |url: &str, expected: Option<&str>| {
            let parsed = Server::parse(url);
            match expected {
                Some(authority) => assert_eq!(parsed.unwrap().authority, authority, "{url}"),
                None => assert!(parsed.unwrap_err().contains("http://127.0.0.1:8000"), "{url}"),
            }
        };
        check("http://127.0.0.1:8000", Some("127.0.0.1:8000"));
        check("http://localhost:8000/", Some("localhost:8000"));
        check("http://[::1]:8000", Some("[::1]:8000"));
        check("http://[::1]", Some("[::1]:80"));
        check("http://example.com", Some("example.com:80"));
        check("https://example.com", None);
        check("localhost:8000", None);
        check("http://", None);
        check("http://a:1/v1", None);
        check("http://user@a:1", None);
    }

    #[test]
    fn names_cannot_leave_their_place_in_the_target() {
        assert_eq!(encode("orders:eu"), "orders:eu");
        assert_eq!(encode("a/b?c&d#e f%\r\n"), "a%2Fb%3Fc%26d%23e%20f%25%0D%0A");
        assert_eq!(encode("grün"), "gr%C3%BCn");
    }
}
