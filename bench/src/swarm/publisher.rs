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
    /// `None` before it is needed, and after the server closed it for having been idle.
    link: Option<Link>,
    parser: ResponseParser,
    body: Option<BodyReader>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
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
    route: Route,
    host: String,
}

impl Publishers {
    /// Nobody is connected yet.
    pub fn new(dialect: Dialect, route: Route) -> Self {
        let publisher = |_| Publisher {
            link: None,
            parser: ResponseParser::new(Limits::default()),
            body: None,
            state: State::Closed,
        };
        let all = (0..CONNECTIONS).map(publisher).collect();
        let host = route.target.to_string();
        Self { all, waiting: VecDeque::new(), dialect, route, host }
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
        if let Some(free) = self.all.iter_mut().find(|it| it.state == State::Free) {
            return free.next(&mut self.waiting, epoll).context(PUBLISHING);
        }
        if let Some(at) = self.all.iter().position(|it| it.state == State::Closed) {
            let link = Link::open(&self.route, TOKENS + at as u64, epoll, false)?;
            let publisher = &mut self.all[at];
            (publisher.link, publisher.state) = (Some(link), State::Connecting);
        }
        Ok(())
    }

    /// Handles a readiness.
    pub fn ready(&mut self, token: u64, epoll: &OwnedFd, buffer: &mut [u8]) -> Result<()> {
        let publisher = &mut self.all[(token - TOKENS) as usize];
        match publisher.state {
            State::Closed => return Ok(()),
            State::Connecting => {
                let link = publisher.link.as_mut().context("it is connecting")?;
                link.connected(epoll).context(PUBLISHING)?;
                publisher.state = State::Free;
            }
            State::Free | State::Busy => {
                let was_free = publisher.state == State::Free;
                match publisher.receive(buffer) {
                    // Servers close what was idle for long; with a request on its way it is an
                    // error.
                    Err(error) if was_free && error.is::<Gone>() => {
                        (publisher.link, publisher.state) = (None, State::Closed);
                        publisher.parser = ResponseParser::new(Limits::default());
                        return Ok(());
                    }
                    received => received.context(PUBLISHING)?,
                }
            }
        }
        publisher.next(&mut self.waiting, epoll).context(PUBLISHING)
    }
}

const PUBLISHING: &str = "publishing over HTTP";

impl Publisher {
    fn next(&mut self, waiting: &mut VecDeque<Vec<u8>>, epoll: &OwnedFd) -> Result<(), Gone> {
        let Some(link) = &mut self.link else { return Ok(()) };
        link.flush()?;
        if self.state == State::Free
            && let Some(request) = waiting.pop_front()
        {
            link.send(&request)?;
            self.state = State::Busy;
        }
        link.settle(epoll)
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Result<()> {
        let Self { link: Some(link), parser, body, state } = self else { return Ok(()) };
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

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{Timespec, epoll};
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    /// Handles what happens until nothing is busy and nothing waits, or for five seconds.
    fn serve_until(
        publishers: &mut Publishers,
        epoll: &OwnedFd,
        done: impl Fn(&Publishers) -> bool,
    ) {
        let mut events = Vec::with_capacity(16);
        let wait = Timespec { tv_sec: 5, tv_nsec: 0 };
        while !done(publishers) {
            events.clear();
            let spare = rustix::buffer::spare_capacity(&mut events);
            assert!(epoll::wait(epoll, spare, Some(&wait)).unwrap() > 0, "nothing happens");
            for event in &events {
                let token = { event.data }.u64();
                publishers.ready(token, epoll, &mut [0; 4_096]).unwrap();
            }
        }
    }

    /// Answers one request.
    fn answer(stream: &mut TcpStream) {
        let mut request = [0; 4_096];
        let read = stream.read(&mut request).unwrap();
        assert!(String::from_utf8_lossy(&request[..read]).ends_with("\r\n\r\nhello"));
        stream.write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok").unwrap();
    }

    #[test]
    fn a_server_that_closes_what_was_idle_stops_nobody_from_publishing() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let route = Route { target: listener.local_addr().unwrap(), tls: None };
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let mut publishers = Publishers::new(Dialect::Sse, route);
        for _ in 0..2 {
            publishers.publish(&epoll, 0, b"hello").unwrap();
            let server = listener.try_clone().unwrap();
            let server = std::thread::spawn(move || answer(&mut server.accept().unwrap().0));
            let at = |wanted| move |all: &Publishers| all.all[0].state == wanted;
            serve_until(&mut publishers, &epoll, at(State::Busy));
            serve_until(&mut publishers, &epoll, at(State::Free));
            assert!(publishers.waiting.is_empty());
            server.join().unwrap();
            serve_until(&mut publishers, &epoll, at(State::Closed));
        }
    }
}
