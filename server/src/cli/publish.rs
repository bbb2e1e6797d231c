//! `shardcast publish`: lines in, one NDJSON request out, its answer printed.
//!
//! Lines are read on a thread of their own, so that a pause in the input can end the request: the
//! server's answer then comes while it is of use, and an idle body runs into no time-out. A line
//! that is not what it should be is refused by its number and its neighbours still go out.

use super::args::PublishArgs;
use super::client::{Connection, Server, authorization, encode};
use super::{exit, fail};
use crate::log::printable;
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel};
use std::time::Duration;

pub(super) fn run(args: &PublishArgs) -> u8 {
    let server = match Server::new(args.url.as_deref()) {
        Ok(server) => server,
        Err(message) => return fail(exit::USAGE, &message),
    };
    let lines = match args.messages.as_slice() {
        [] => {
            if io::stdin().is_terminal() {
                eprintln!("shardcast: reading messages from the terminal, one a line; Ctrl-D ends");
            }
            lines_of(io::stdin())
        }
        messages => {
            let (sender, lines) = sync_channel(messages.len());
            for message in messages {
                // The channel holds them all, so this never waits.
                let _ = sender.send(Ok(message.as_bytes().to_vec()));
            }
            lines
        }
    };
    let mut publisher = Publisher::new(args, server);
    match publisher.run(&lines, &mut io::stdout().lock()) {
        Ok(()) if publisher.failed => exit::UNAVAILABLE,
        Ok(()) if publisher.refused > 0 => exit::SOME_REFUSED,
        Ok(()) => exit::OK,
        Err(message) => fail(exit::UNAVAILABLE, &message),
    }
}

type Line = io::Result<Vec<u8>>;

/// Reads lines on a thread, a bounded number ahead.
fn lines_of(input: impl Read + Send + 'static) -> Receiver<Line> {
    let (sender, lines) = sync_channel(LINES_AHEAD);
    std::thread::spawn(move || {
        let mut input = io::BufReader::with_capacity(64 << 10, input);
        loop {
            let mut line = Vec::new();
            let result = (&mut input).take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut line);
            let line = match result {
                Ok(0) => return,
                Ok(_) if line.len() as u64 > LINE_BYTES_MAX => {
                    let message = format!("a line is longer than {LINE_BYTES_MAX} bytes");
                    Err(io::Error::other(message))
                }
                Ok(_) => {
                    let end = line.len() - usize::from(line.ends_with(b"\n"));
                    let end = end - usize::from(line[..end].ends_with(b"\r"));
                    line.truncate(end);
                    Ok(line)
                }
                Err(error) => Err(error),
            };
            let ended = line.is_err();
            if sender.send(line).is_err() || ended {
                return;
            }
        }
    });
    lines
}

struct Publisher<'a> {
    args: &'a PublishArgs,
    server: Server,
    /// Lines taken so far.
    line: u64,
    /// Items refused, here or there.
    refused: u64,
    /// A request was refused as a whole.
    failed: bool,
    /// Reading failed in the middle of a request.
    input_error: Option<String>,
    /// A pause in the input that ends a request.
    pause: Duration,
}

impl<'a> Publisher<'a> {
    fn new(args: &'a PublishArgs, server: Server) -> Self {
        Self { args, server, line: 0, refused: 0, failed: false, input_error: None, pause: PAUSE }
    }
}

impl Publisher<'_> {
    fn run(&mut self, lines: &Receiver<Line>, out: &mut impl Write) -> Result<(), String> {
        while let Some(first) = self.next_item(lines)? {
            let answer = self.request(first, lines)?;
            if !self.args.quiet {
                // Whoever closed the pipe wants no more answers, but still the events published.
                let _ = writeln!(out, "{}", printable(answer.trim_end()));
                let _ = out.flush();
            }
            if let Some(message) = self.input_error.take() {
                return Err(message);
            }
        }
        Ok(())
    }

    /// Waits for the next line that can be sent.
    fn next_item(&mut self, lines: &Receiver<Line>) -> Result<Option<Vec<u8>>, String> {
        while let Ok(line) = lines.recv() {
            if let Some(item) = self.item(line)? {
                return Ok(Some(item));
            }
        }
        Ok(None)
    }

    /// One request: until the input pauses or ends.
    fn request(&mut self, first: Vec<u8>, lines: &Receiver<Line>) -> Result<String, String> {
        let mut connection = self.server.connect()?;
        let head = format!(
            "POST /v1/channels/{}/events?ack={} HTTP/1.1\r\nHost: {}\r\n\
             Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\
             User-Agent: shardcast/{}\r\n{}Connection: close\r\n\r\n",
            encode(&self.args.channel),
            self.args.ack.name(),
            self.server.authority,
            env!("CARGO_PKG_VERSION"),
            authorization(),
        );
        let mut sent = connection.send(head.as_bytes());
        let mut buffer = first;
        while sent.is_ok() {
            let line = match lines.try_recv() {
                Err(TryRecvError::Empty) => {
                    // Nothing more at hand: what there is goes out now.
                    sent = send_chunk(&mut connection, &mut buffer);
                    match lines.recv_timeout(self.pause) {
                        Ok(line) => line,
                        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
                    }
                }
                Err(TryRecvError::Disconnected) => break,
                Ok(line) => line,
            };
            match self.item(line) {
                Ok(item) => buffer.extend(item.unwrap_or_default()),
                // The input is broken, what was read of it is not: this request still ends well.
                Err(message) => {
                    self.input_error = Some(message);
                    break;
                }
            }
            if buffer.len() >= CHUNK_BYTES && sent.is_ok() {
                sent = send_chunk(&mut connection, &mut buffer);
            }
        }
        let sent = sent
            .and_then(|()| send_chunk(&mut connection, &mut buffer))
            .and_then(|()| connection.send(b"0\r\n\r\n"));
        // A server that refuses a request may answer and close while it is being sent.
        let answer = connection
            .read_head()
            .and_then(|head| Ok((head.status, connection.read_text(ANSWER_BYTES_MAX)?)));
        match (sent, answer) {
            (_, Ok((status, text))) => Ok(self.judge(status, text)),
            (Err(error), Err(_)) => Err(format!("the server stopped reading: {error}")),
            (Ok(()), Err(error)) => Err(format!("no answer: {error}; events may be published")),
        }
    }

    fn judge(&mut self, status: u16, text: String) -> String {
        let answer: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        self.refused += answer["rejected"].as_u64().unwrap_or(0);
        // The server stopped part of the way: what came after was not taken.
        let stopped = answer.get("stopped_at").is_some_and(|at| !at.is_null());
        self.refused += u64::from(stopped);
        if !(200..300).contains(&status) {
            self.failed = true;
            eprintln!("shardcast: the server refused the request with status {status}");
        }
        text
    }

    /// A line as an item of the request, or `None` for one that was refused or is empty JSON.
    fn item(&mut self, line: Line) -> Result<Option<Vec<u8>>, String> {
        let line = line.map_err(|error| format!("cannot read the messages: {error}"))?;
        self.line += 1;
        if self.args.ndjson || self.args.json {
            if line.trim_ascii().is_empty() {
                return Ok(None);
            }
            let json: Result<&serde_json::value::RawValue, _> = serde_json::from_slice(&line);
            if let Err(error) = json {
                return Ok(self.refuse(&format!("it is not JSON: {error}")));
            }
            if self.args.ndjson {
                return Ok(Some([line.as_slice(), b"\n"].concat()));
            }
            return Ok(Some(self.envelope("", &line)));
        }
        match std::str::from_utf8(&line) {
            Ok(text) => {
                let text = serde_json::json!(text).to_string();
                Ok(Some(self.envelope("\"content_type\":\"text/plain\",", text.as_bytes())))
            }
            Err(_) => Ok(self.refuse("it is not UTF-8")),
        }
    }

    /// An item with this data; `members` are written as they are, each with a comma behind it.
    fn envelope(&self, members: &str, data: &[u8]) -> Vec<u8> {
        let kind = self.args.kind.as_ref();
        let kind = kind.map(|kind| format!("\"type\":{},", serde_json::json!(kind)));
        let head = format!("{{{}{members}\"data\":", kind.unwrap_or_default());
        [head.as_bytes(), data, b"}\n"].concat()
    }

    fn refuse(&mut self, why: &str) -> Option<Vec<u8>> {
        self.refused += 1;
        eprintln!("shardcast: message {} was not sent: {why}", self.line);
        None
    }
}

fn send_chunk(connection: &mut Connection, data: &mut Vec<u8>) -> io::Result<()> {
    if data.is_empty() {
        return Ok(());
    }
    let mut chunk = format!("{:x}\r\n", data.len()).into_bytes();
    chunk.append(data);
    chunk.extend_from_slice(b"\r\n");
    connection.send(&chunk)
}

const LINES_AHEAD: usize = 4_096;
const LINE_BYTES_MAX: u64 = 256 << 20;
const CHUNK_BYTES: usize = 64 << 10;
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Long enough for a program that writes line by line, short enough for a person who waits.
const PAUSE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests;
