//! `shardcast tail`: an EventSource in the terminal.
//!
//! Reconnects with a jittered, growing delay and resumes with `Last-Event-ID`, so that a restart of
//! the server shows as a note and not as a hole. What is printed can neither steer the terminal nor
//! forge a line: control characters are escaped.

use super::args::TailArgs;
use super::client::{Server, authorization, encode};
use super::{exit, fail};
use crate::log::printable;
use proto::sse;
use serde_json::Value;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::time::Duration;

pub(super) fn run(args: &TailArgs) -> u8 {
    let server = match Server::new(args.url.as_deref()) {
        Ok(server) => server,
        Err(message) => return fail(exit::USAGE, &message),
    };
    let mut tail = Tail::new(args, server);
    loop {
        match tail.follow(&mut io::stdout().lock()) {
            End::Done => return exit::OK,
            End::Refused(message) => return fail(exit::UNAVAILABLE, &message),
            // The first attempt decides whether anything is there at all.
            End::Cut(message) if !tail.connected => return fail(exit::UNAVAILABLE, &message),
            End::Cut(message) => {
                let delay = tail.delay();
                eprintln!("shardcast: {message}; again in {:.1} s", delay.as_secs_f64());
                std::thread::sleep(delay);
            }
        }
    }
}

/// How a connection ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// As many events as were asked for, or nobody reads the output any more.
    Done,
    /// The server said no; asking again would not help.
    Refused(String),
    /// Reconnecting helps.
    Cut(String),
}

struct Tail<'a> {
    args: &'a TailArgs,
    server: Server,
    last_event_id: String,
    connected: bool,
    /// Connections in a row that brought nothing.
    failures: u32,
    retry_ms: u64,
    left: Option<u64>,
}

impl<'a> Tail<'a> {
    fn new(args: &'a TailArgs, server: Server) -> Self {
        Self {
            args,
            server,
            last_event_id: String::new(),
            connected: false,
            failures: 0,
            retry_ms: RETRY_MS,
            left: args.count,
        }
    }

    /// One connection, to its end.
    fn follow(&mut self, out: &mut impl Write) -> End {
        self.failures += 1;
        if self.left == Some(0) {
            return End::Done;
        }
        let mut connection = match self.server.connect() {
            Ok(connection) => connection,
            Err(message) => return End::Cut(message),
        };
        let head = match connection
            .send(self.request().as_bytes())
            .and_then(|()| connection.read_head())
        {
            Ok(head) => head,
            Err(error) => return End::Cut(error.to_string()),
        };
        if head.status != 200 {
            let text = connection.read_text(ERROR_BYTES_MAX).unwrap_or_default();
            let message = format!("the server answered {}: {}", head.status, printable(&text));
            let temporary = head.status >= 500 || head.status == 429;
            return if temporary { End::Cut(message) } else { End::Refused(message) };
        }
        self.connected = true;
        let mut parser = sse::Parser::new(EVENT_BYTES_MAX);
        let mut events = Vec::new();
        let end = loop {
            let piece = match connection.read_body() {
                Ok(Some(piece)) => piece,
                Ok(None) => break End::Cut("the server ended the stream".to_owned()),
                Err(error) => break End::Cut(error.to_string()),
            };
            if let Err(error) = parser.feed(&piece, &mut events) {
                break End::Refused(error.to_string());
            }
            if !parser.last_event_id().is_empty() {
                self.last_event_id = parser.last_event_id().to_owned();
            }
            if let Some(end) = self.print(&mut events, out) {
                break end;
            }
        };
        self.retry_ms = parser.retry_ms().unwrap_or(self.retry_ms);
        end
    }

    fn request(&self) -> String {
        let channels: Vec<_> =
            self.args.channels.iter().map(|name| format!("channel={}", encode(name))).collect();
        let since = match &self.args.since {
            Some(since) if self.last_event_id.is_empty() => format!("&since={}", encode(since)),
            _ => String::new(),
        };
        // It came from the server and goes back as it was, unless it could end the line.
        let resume = match printable(&self.last_event_id) {
            id if id.is_empty() => String::new(),
            id => format!("Last-Event-ID: {id}\r\n"),
        };
        format!(
            "GET /v1/sse?{}&format=envelope{since} HTTP/1.1\r\nHost: {}\r\n\
             Accept: text/event-stream\r\nUser-Agent: shardcast/{}\r\n{}{resume}\r\n",
            channels.join("&"),
            self.server.authority,
            env!("CARGO_PKG_VERSION"),
            authorization(),
        )
    }

    /// Prints what arrived; `Some` when there is nothing more to do.
    fn print(&mut self, events: &mut Vec<sse::Event>, out: &mut impl Write) -> Option<End> {
        for event in events.drain(..) {
            self.failures = 0;
            let ours = event.event.starts_with(sse::RESERVED_PREFIX);
            let line = match self.args.json {
                true => printable(&event.data),
                false if ours => control_line(&event.data),
                false => event_line(&event.data),
            };
            if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
                return Some(End::Done);
            }
            if let (Some(left), false) = (&mut self.left, ours) {
                *left -= 1;
                if *left == 0 {
                    return Some(End::Done);
                }
            }
        }
        None
    }

    /// Between half of a growing delay and the whole of it, so that many do not come at once.
    fn delay(&self) -> Duration {
        let doubled = self.retry_ms.saturating_mul(1 << self.failures.saturating_sub(1).min(10));
        let most = doubled.clamp(RETRY_MS_MIN, RETRY_MS_MAX);
        let random = RandomState::new().hash_one(self.failures) % (most / 2 + 1);
        Duration::from_millis(most / 2 + random)
    }
}

/// An event for people: time of day, channel, type, data.
fn event_line(data: &str) -> String {
    let Ok(event) = serde_json::from_str::<Value>(data) else { return printable(data) };
    let text = |key: &str| event[key].as_str().unwrap_or_default();
    // RFC 3339 in UTC: the part between the `T` and the microseconds' last three digits.
    let time = text("time").get(11..23).unwrap_or("            ");
    let payload = match (&event["data"], event.get("data_base64")) {
        (_, Some(Value::String(base64))) => format!("base64 {base64}"),
        (Value::String(text), _) => text.clone(),
        (value, _) => value.to_string(),
    };
    let kind = match text("type") {
        "" => "-",
        kind => kind,
    };
    printable(&format!("{time}  {}  {kind}  {payload}", text("channel")))
}

/// A gap, a recovery or a notice for people.
fn control_line(data: &str) -> String {
    let Ok(control) = serde_json::from_str::<Value>(data) else { return printable(data) };
    let text = |key: &str| control[key].as_str().unwrap_or_default();
    let mut line = format!("-- {}", text("shardcast"));
    if !text("channel").is_empty() {
        line += &format!(" {}", text("channel"));
    }
    if !text("reason").is_empty() {
        line += &format!(": {}", text("reason"));
    }
    if let (Some(from), Some(to)) = (control["from"].as_u64(), control["to"].as_u64()) {
        line += &format!(" (offsets {from} to {to})");
    }
    printable(&line)
}

const RETRY_MS: u64 = 1_000;
const RETRY_MS_MIN: u64 = 100;
const RETRY_MS_MAX: u64 = 20_000;
/// The largest legal message, escaped and enveloped, fits.
const EVENT_BYTES_MAX: usize = 1 << 30;
const ERROR_BYTES_MAX: usize = 16 << 10;

#[cfg(test)]
mod tests;
