//! HTTP/1.1 on a bare socket: what it sends is exactly what the test says, and it reads answers
//! with code that shares nothing with the server.

use super::CAP;
use rustix::net::{AddressFamily, SocketType, socket, sockopt};
use serde_json::Value;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

/// A whole answer.
#[derive(Clone, Default)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// A header's value, or the empty text.
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(own, _)| own == name);
        found.map_or("", |(_, value)| value)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {:?}", self.text()))
    }

    /// The code of an error answer.
    pub fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?} {:?}", self.status, self.headers, self.text())
    }
}

/// One connection.
pub struct Wire {
    pub stream: TcpStream,
    input: Vec<u8>,
    /// How much of `input` has been used.
    at: usize,
}

impl Wire {
    pub fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).expect("the server listens"))
    }

    /// The port at this end.
    pub fn port(&self) -> u16 {
        self.stream.local_addr().expect("it is connected").port()
    }

    /// A connection whose kernel takes hardly anything until the test reads.
    pub fn connect_narrow(address: SocketAddr) -> Self {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        // It has to be set before the handshake announces a window.
        sockopt::set_socket_recv_buffer_size(&socket, 2_048).expect("a small buffer");
        rustix::net::connect(&socket, &address).expect("the server listens");
        Self::over(TcpStream::from(socket))
    }

    fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a TCP socket");
        stream.set_read_timeout(Some(CAP)).expect("a legal time");
        stream.set_write_timeout(Some(CAP)).expect("a legal time");
        Self { stream, input: Vec::new(), at: 0 }
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the server takes what is sent");
    }

    /// Sends bytes to a server that may have closed already.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Sends a request and reads its answer.
    pub fn request(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}");
        if !body.is_empty() || method == "POST" {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        self.send([head.as_bytes(), body].concat());
        self.answer_to(method)
    }

    pub fn get(&mut self, path: &str) -> Answer {
        self.request("GET", path, "", b"")
    }

    pub fn post(&mut self, path: &str, content_type: &str, body: &[u8]) -> Answer {
        self.request("POST", path, &format!("Content-Type: {content_type}\r\n"), body)
    }

    /// Reads one answer to a request that was not HEAD.
    pub fn answer(&mut self) -> Answer {
        self.answer_to("GET")
    }

    fn answer_to(&mut self, method: &str) -> Answer {
        let mut answer = self.head();
        if method == "HEAD" || matches!(answer.status, 100..=199 | 204 | 304) {
            return answer;
        }
        if answer.header("transfer-encoding") == "chunked" {
            answer.body = self.chunked();
        } else if answer.header("content-length").is_empty() {
            answer.body = self.rest();
        } else {
            let count = answer.header("content-length").parse().expect("a length");
            answer.body = self.exactly(count);
        }
        answer
    }

    /// Reads a head, interim ones too.
    pub fn head(&mut self) -> Answer {
        let text = self.through(b"\r\n\r\n");
        let text = String::from_utf8(text).expect("a head is text");
        let mut lines = text.trim_end().split("\r\n");
        let status = lines.next().unwrap_or_default();
        let status = status.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
        let status = status.and_then(|digits| digits.parse().ok());
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(": ").expect("name and value");
            (name.to_ascii_lowercase(), value.to_owned())
        });
        Answer {
            status: status.unwrap_or_else(|| panic!("no status in {text:?}")),
            headers: headers.collect(),
            body: Vec::new(),
        }
    }

    /// Reads until the bytes have passed; gives everything through them.
    pub fn through(&mut self, end: &[u8]) -> Vec<u8> {
        let mut searched = 0;
        loop {
            let pending = &self.input[self.at..];
            let found = pending[searched..].windows(end.len()).position(|window| window == end);
            if let Some(at) = found {
                return self.take(searched + at + end.len());
            }
            searched = pending.len().saturating_sub(end.len() - 1);
            assert!(self.fill() > 0, "closed before {end:?}; got {:?}", self.shown());
        }
    }

    /// The next byte; `None` at the end.
    pub fn byte(&mut self) -> Option<u8> {
        if self.at == self.input.len() && self.fill() == 0 {
            return None;
        }
        self.at += 1;
        self.input.get(self.at - 1).copied()
    }

    /// Reads exactly so many bytes.
    pub fn exactly(&mut self, count: usize) -> Vec<u8> {
        while self.input.len() - self.at < count {
            assert!(self.fill() > 0, "closed before {count} bytes; got {:?}", self.shown());
        }
        self.take(count)
    }

    /// Reads to the end of the connection, which must come. A reset counts as an end.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.fill() > 0 {}
        self.take(self.input.len() - self.at)
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        self.at += count;
        self.input[self.at - count..self.at].to_vec()
    }

    fn chunked(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let line = String::from_utf8(self.through(b"\r\n")).expect("a chunk size is text");
            let size = usize::from_str_radix(line.trim_end(), 16).expect("a chunk size");
            body.extend(self.exactly(size));
            assert_eq!(self.exactly(2), b"\r\n");
            if size == 0 {
                return body;
            }
        }
    }

    /// Nothing more is sent.
    pub fn finish(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("an open connection");
    }

    /// Reads what there is; 0 at the end.
    pub fn fill(&mut self) -> usize {
        let mut buffer = [0; 64 << 10];
        let count = loop {
            match self.stream.read(&mut buffer) {
                Ok(count) => break count,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break 0,
                // A read with a time limit is not restarted by the kernel.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("{error}; got {:?}", self.shown()),
            }
        };
        self.input.drain(..self.at);
        self.at = 0;
        self.input.extend_from_slice(&buffer[..count]);
        count
    }

    fn shown(&self) -> String {
        let pending = &self.input[self.at..];
        String::from_utf8_lossy(&pending[..pending.len().min(2_000)]).into_owned()
    }
}

/// GET on a connection of its own.
pub fn get_from(address: SocketAddr, path: &str) -> Answer {
    Wire::connect(address).get(path)
}

/// The sum of a metric over its series.
pub fn metric(admin: SocketAddr, name: &str) -> f64 {
    sum_of(&get_from(admin, "/metrics").text(), name)
}

/// The sum of the series of a metric, written `name` or `name{label="value"}`.
pub fn sum_of(exposition: &str, series: &str) -> f64 {
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    let labels = labels.trim_end_matches('}');
    let of_name = exposition.lines().filter(|line| {
        let rest = line.strip_prefix(name).unwrap_or_default();
        rest.starts_with('{') && rest.contains(labels)
    });
    of_name.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}
