//! Publishing over HTTP/1.1 for subscribers that cannot send: a few kept connections, one request
//! at a time on each; what finds none free waits in line.

use super::dialect::Dialect;
use super::link::{Gone, Link, Route};
use anyhow::{Context, Result, bail};
use proto::http1::{BodyReader, Limits, ResponseBody, ResponseParser};
use std::collections::VecDeque;
use std::os::fd::OwnedFd;

/// Readiness of a publisher comes under tokens from here.
pub const TOKENS: u64 = 1 << 40;

/// Connections: as many as messages are outstanding in the usual scenario.
const CONNECTIONS: usize = 16;

#[derive(Debug)]
struct Publisher {
    link: Link,
    parser: ResponseParser,
    body: Option<BodyReader>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Connecting,
    Free,
    Busy,
}

/// See the module.
#[derive(Debug)]
pub struct Publishers {
    all: Vec<Publisher>,
    waiting: VecDeque<Vec<u8>>,
    dialect: Dialect,
    host: String,
}

impl Publishers {
    /// Begins to connect.
    pub fn open(dialect: Dialect, route: &Route, epoll: &OwnedFd) -> Result<Self> {
        let publisher = |at| -> Result<Publisher> {
            let link = Link::open(route, TOKENS + at, epoll, false)?;
            let parser = ResponseParser::new(Limits::default());
            Ok(Publisher { link, parser, body: None, state: State::Connecting })
        };
        let all = (0..CONNECTIONS as u64).map(publisher).collect::<Result<_>>()?;
        Ok(Self { all, waiting: VecDeque::new(), dialect, host: route.target.to_string() })
    }

    /// Sends a message as soon as a connection is free.
    pub fn publish(&mut self, epoll: &OwnedFd, room: u32, payload: &[u8]) -> Result<()> {
        let mut request = format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n",
            self.dialect.publish_target(room),
            self.host,
            payload.len()
        )
        .into_bytes();
        request.extend_from_slice(payload);
        self.waiting.push_back(request);
        match self.all.iter_mut().find(|publisher| publisher.state == State::Free) {
            Some(free) => free.next(&mut self.waiting, epoll).map_err(gone),
            None => Ok(()),
        }
    }

    /// Handles a readiness.
    pub fn ready(&mut self, token: u64, epoll: &OwnedFd, buffer: &mut [u8]) -> Result<()> {
        let publisher = &mut self.all[(token - TOKENS) as usize];
        if publisher.state == State::Connecting {
            publisher.link.connected(epoll).map_err(gone).context("a publisher cannot connect")?;
            publisher.state = State::Free;
        } else {
            publisher.receive(buffer)?;
        }
        publisher.next(&mut self.waiting, epoll).map_err(gone)
    }
}

fn gone(gone: Gone) -> anyhow::Error {
    anyhow::Error::from(gone).context("publishing over HTTP")
}

impl Publisher {
    fn next(&mut self, waiting: &mut VecDeque<Vec<u8>>, epoll: &OwnedFd) -> Result<(), Gone> {
        self.link.flush()?;
        if self.state == State::Free
            && let Some(request) = waiting.pop_front()
        {
            self.link.send(&request)?;
            self.state = State::Busy;
        }
        self.link.settle(epoll)
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Result<()> {
        let Self { link, parser, body, state } = self;
        link.receive(buffer, |_, bytes| {
            let mut rest = bytes;
            while !rest.is_empty() {
                let Some(reader) = body else {
                    let (used, response) = parser.feed(rest)?;
                    rest = &rest[used..];
                    let Some(response) = response else { return Ok(()) };
                    if !(200..300).contains(&response.status) {
                        bail!("a publish was answered with {}", response.status);
                    }
                    let ResponseBody::Framed(framing) = response.body else {
                        bail!("the answer to a publish ends the connection");
                    };
                    let reader = BodyReader::new(framing);
                    if reader.is_finished() {
                        *state = State::Free;
                    } else {
                        *body = Some(reader);
                    }
                    continue;
                };
                let chunk = reader.feed(rest)?;
                rest = &rest[chunk.consumed..];
                if chunk.finished {
                    (*body, *state) = (None, State::Free);
                }
            }
            Ok::<(), anyhow::Error>(())
        })
    }
}
