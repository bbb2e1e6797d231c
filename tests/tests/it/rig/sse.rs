//! Reads an event stream as the HTML standard says, in the shortest way.

use super::http::Wire;
use std::net::SocketAddr;

/// One event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    pub kind: String,
    pub data: String,
    /// The last event id when it was dispatched.
    pub id: String,
}

/// A stream and what it remembers.
pub struct Stream {
    wire: Wire,
    pub last_id: String,
    pub retry_ms: Option<u64>,
    pub comments: usize,
}

impl Stream {
    /// Opens a stream; a non-empty `last_id` is sent as Last-Event-ID.
    pub fn open(address: SocketAddr, query: &str, last_id: &str) -> Self {
        Self::over(Wire::connect(address), query, last_id)
    }

    /// The same on a connection that stands.
    pub fn over(mut wire: Wire, query: &str, last_id: &str) -> Self {
        let resume = match last_id {
            "" => String::new(),
            id => format!("Last-Event-ID: {id}\r\n"),
        };
        wire.send(format!("GET /v1/sse?{query} HTTP/1.1\r\nHost: localhost\r\n{resume}\r\n"));
        let head = wire.head();
        assert_eq!(head.status, 200, "{head:?} {:?}", wire.rest());
        assert_eq!(head.header("content-type"), "text/event-stream");
        Self { wire, last_id: last_id.to_owned(), retry_ms: None, comments: 0 }
    }

    /// The next event; `None` at the end of the stream.
    pub fn next(&mut self) -> Option<Event> {
        let mut event = Event::default();
        let mut data: Vec<String> = Vec::new();
        loop {
            let line = self.line()?;
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match name {
                _ if line.is_empty() => {
                    if !data.is_empty() {
                        event.data = data.join("\n");
                        event.id.clone_from(&self.last_id);
                        return Some(event);
                    }
                    event = Event::default();
                }
                "" => self.comments += 1,
                "data" => data.push(value.to_owned()),
                "event" => event.kind = value.to_owned(),
                "id" => self.last_id = value.to_owned(),
                "retry" => self.retry_ms = value.parse().ok(),
                _ => panic!("unknown field in {line:?}"),
            }
        }
    }

    /// The next event that is not one of the server's own.
    pub fn next_published(&mut self) -> Option<Event> {
        loop {
            let event = self.next()?;
            if !event.kind.starts_with("shardcast.") {
                return Some(event);
            }
        }
    }

    fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        loop {
            let byte = self.wire.byte()?;
            if byte == b'\n' {
                return Some(String::from_utf8(line).expect("a stream is UTF-8"));
            }
            line.push(byte);
        }
    }

    /// Reads id blocks and comments until the last event id is known.
    pub fn wait_for_id(&mut self) -> String {
        while self.last_id.is_empty() {
            self.line().expect("an open stream").strip_prefix("id: ").inspect(|id| {
                self.last_id = (*id).to_owned();
            });
        }
        self.last_id.clone()
    }
}
