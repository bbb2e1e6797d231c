//! Requests of the supervisor to its server: one at a time over a connection that is kept.
//!
//! Every error means the same here: the server is away, ask again later. What may be asked again
//! without harm is the caller's knowledge.

use crate::cli::client::{Connection, Server};
use std::fmt::Write;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body, as text.
    pub body: String,
}

/// A client of one address.
pub struct Http {
    server: Server,
    connection: Option<Connection>,
}

impl Http {
    /// A client that connects when first asked.
    pub fn new(address: std::net::SocketAddr) -> Self {
        Self { server: Server { authority: address.to_string() }, connection: None }
    }

    /// Gets something.
    pub fn get(&mut self, target: &str) -> Result<Answer, String> {
        self.ask("GET", target, None)
    }

    /// Posts something.
    pub fn post(&mut self, target: &str, kind: &str, body: &[u8]) -> Result<Answer, String> {
        self.ask("POST", target, Some((kind, body)))
    }

    fn ask(
        &mut self,
        method: &str,
        target: &str,
        body: Option<(&str, &[u8])>,
    ) -> Result<Answer, String> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.server.connect()?,
        };
        let mut request =
            format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n", self.server.authority);
        if let Some((kind, body)) = body {
            let length = body.len();
            let _ = write!(request, "Content-Type: {kind}\r\nContent-Length: {length}\r\n");
        }
        request += "\r\n";
        let mut request = request.into_bytes();
        request.extend_from_slice(body.map_or(&[], |(_, body)| body));
        let mut run = || {
            connection.send(&request)?;
            let head = connection.read_head()?;
            Ok((head.status, head.keep_alive, connection.read_text(ANSWER_BYTES_MAX)?))
        };
        let outcome: std::io::Result<_> = run();
        let (status, keep_alive, body) = outcome.map_err(|error| error.to_string())?;
        if keep_alive && body.len() < ANSWER_BYTES_MAX {
            self.connection = Some(connection);
        }
        Ok(Answer { status, body })
    }
}

/// The largest history that is looked up: 100,000 events of a few hundred bytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;
