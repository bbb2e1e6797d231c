//! Clients over HTTP/2, with `h2`'s own client: publishes and an event stream on one connection.

use super::net::Read;
use super::oracle::Verdict;
use super::pipe::Pipe;
use super::request::Request;
use super::stream::EventStream;
use super::wire::{Scene, Wire, escape};
use bytes::Bytes;
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use proto::position::Position;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// Publishes under way on one connection.
const ASKED_MAX: usize = 4;

/// See the module.
#[derive(Default)]
pub struct Http2Client {
    link: Option<Link>,
    again: VecDeque<Request>,
    channels: Vec<String>,
    resume: Option<String>,
    not_before_ms: u64,
}

struct Link {
    wire: Wire,
    pipe: Pipe,
    connection: Connection<Pipe, Bytes>,
    send: SendRequest<Bytes>,
    asked: Vec<Asked>,
    events: Option<Events>,
}

/// A publish whose answer has not come.
struct Asked {
    request: Request,
    body: Bytes,
    sender: Option<SendStream<Bytes>>,
    answer: Answer,
}

/// An event stream that was asked for.
struct Events {
    answer: Answer,
    stream: EventStream,
    /// Times in a thousand it takes what has come.
    eagerness: u64,
}

/// An answer as far as it has come.
struct Answer {
    head: ResponseFuture,
    status: u16,
    body: Option<RecvStream>,
    bytes: Vec<u8>,
}

fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

impl Answer {
    fn new(head: ResponseFuture) -> Self {
        Self { head, status: 0, body: None, bytes: Vec::new() }
    }

    /// Takes what has come; `true` when it is complete, an error when it broke off.
    fn poll(&mut self) -> Result<bool, h2::Error> {
        if self.body.is_none() {
            match Pin::new(&mut self.head).poll(&mut context()) {
                Poll::Ready(response) => {
                    let (head, body) = response?.into_parts();
                    self.status = head.status.as_u16();
                    self.body = Some(body);
                }
                Poll::Pending => return Ok(false),
            }
        }
        let Some(body) = &mut self.body else { return Ok(false) };
        loop {
            match body.poll_data(&mut context()) {
                Poll::Ready(Some(piece)) => {
                    let piece = piece?;
                    self.bytes.extend_from_slice(&piece);
                    body.flow_control().release_capacity(piece.len())?;
                }
                Poll::Ready(None) => return Ok(true),
                Poll::Pending => return Ok(false),
            }
        }
    }
}

impl Http2Client {
    /// Draws one.
    pub fn draw(scene: &mut Scene<'_>) -> Self {
        let mut channels = scene.channels.to_vec();
        scene.chance.shuffle(&mut channels);
        channels.truncate(scene.chance.range(1, 4) as usize);
        Self { channels, ..Self::default() }
    }

    /// True if no publish is under way.
    pub fn is_idle(&self) -> bool {
        self.again.is_empty() && self.link.as_ref().is_none_or(|link| link.asked.is_empty())
    }

    /// Where its event stream stands.
    pub fn standing(&self) -> Vec<(&str, Option<Position>)> {
        let events = self.link.as_ref().and_then(|link| link.events.as_ref());
        match events {
            Some(events) => {
                events.stream.tracks().iter().map(|track| (&track.channel[..], track.at)).collect()
            }
            None => self.channels.iter().map(|name| (&name[..], None)).collect(),
        }
    }

    /// Its turn.
    pub fn step(&mut self, scene: &mut Scene<'_>) -> Verdict {
        if self.link.is_none() {
            if scene.now_ms < self.not_before_ms {
                return Ok(());
            }
            self.not_before_ms = scene.now_ms + scene.chance.size(400);
            self.link = Wire::connect(scene).and_then(Link::new);
        }
        let Some(link) = &mut self.link else { return Ok(()) };
        link.wire.write(scene.net, scene.chance);
        match link.wire.read(scene.net, scene.chance) {
            Read::Bytes(bytes) => link.pipe.push(&bytes),
            Read::Nothing => {}
            Read::End | Read::Reset => {
                self.lose(scene);
                return Ok(());
            }
        }
        self.ask(scene);
        let Some(link) = &mut self.link else { return Ok(()) };
        let over = Pin::new(&mut link.connection).poll(&mut context()).is_ready();
        let out = link.pipe.take();
        link.wire.say(&out);
        self.take_answers(scene)?;
        self.take_events(scene)?;
        if over {
            self.lose(scene);
        }
        Ok(())
    }

    fn ask(&mut self, scene: &mut Scene<'_>) {
        let Some(link) = &mut self.link else { return };
        for asked in &mut link.asked {
            asked.send(scene);
        }
        if !matches!(link.send.poll_ready(&mut context()), Poll::Ready(Ok(()))) {
            return;
        }
        if link.events.is_none() {
            link.events = open_events(&mut link.send, &self.channels, &self.resume, scene);
            return;
        }
        let rested = scene.now_ms >= self.not_before_ms;
        let new = !scene.calm && rested && scene.chance.per_mille(100);
        if link.asked.len() >= ASKED_MAX || self.again.is_empty() && !new {
            return;
        }
        self.not_before_ms = scene.now_ms + scene.chance.size(200);
        let request = self.again.pop_front().unwrap_or_else(|| Request::draw(scene));
        let (target, content_type, body) = request.write(scene.oracle);
        let head = http::Request::builder().method("POST").uri(format!("http://localhost{target}"));
        let Ok(head) = head.header("content-type", content_type).body(()) else { return };
        if let Ok((answer, sender)) = link.send.send_request(head, false) {
            let (body, sender, answer) = (body.into(), Some(sender), Answer::new(answer));
            link.asked.push(Asked { request, body, sender, answer });
        }
    }

    fn take_answers(&mut self, scene: &mut Scene<'_>) -> Verdict {
        let Some(link) = &mut self.link else { return Ok(()) };
        for at in (0..link.asked.len()).rev() {
            match link.asked[at].answer.poll() {
                Ok(false) => {}
                Ok(true) => {
                    let asked = link.asked.remove(at);
                    let Answer { status, bytes, .. } = asked.answer;
                    asked.request.judge(scene.oracle, status, &bytes)?;
                    let count = asked.request.serials.len();
                    scene.trace.note(scene.now_ms, format_args!("h2 publish {count} -> {status}"));
                }
                Err(_) => {
                    let asked = link.asked.remove(at);
                    if scene.calm {
                        self.again.push_back(asked.request);
                    }
                }
            }
        }
        Ok(())
    }

    fn take_events(&mut self, scene: &mut Scene<'_>) -> Verdict {
        let Some(link) = &mut self.link else { return Ok(()) };
        let Some(events) = &mut link.events else { return Ok(()) };
        if !scene.calm && !scene.chance.per_mille(events.eagerness) {
            return Ok(());
        }
        let ended = events.answer.poll();
        let bytes = std::mem::take(&mut events.answer.bytes);
        if !bytes.is_empty() {
            if events.answer.status != 200 {
                return Err(format!("an event stream answered {}", events.answer.status));
            }
            events.stream.feed(&bytes, scene)?;
            self.resume = events.stream.resume().or(self.resume.take());
        }
        if !matches!(ended, Ok(false)) {
            link.events = None;
        }
        Ok(())
    }

    fn lose(&mut self, scene: &mut Scene<'_>) {
        let Some(link) = self.link.take() else { return };
        link.wire.close(scene.net);
        for asked in link.asked {
            if scene.calm || scene.chance.per_mille(700) {
                self.again.push_back(asked.request);
            }
        }
        self.not_before_ms = scene.now_ms + scene.chance.size(500);
    }
}

impl Link {
    fn new(wire: Wire) -> Option<Self> {
        let pipe = Pipe::default();
        let mut handshake = Box::pin(Builder::new().handshake(pipe.clone()));
        // The preface is written without waiting for anything.
        let Poll::Ready(Ok((send, connection))) = handshake.as_mut().poll(&mut context()) else {
            return None;
        };
        Some(Self { wire, pipe, connection, send, asked: Vec::new(), events: None })
    }
}

impl Asked {
    /// Sends as much of the body as the windows take, in pieces of any size.
    fn send(&mut self, scene: &mut Scene<'_>) {
        let Some(sender) = &mut self.sender else { return };
        sender.reserve_capacity(self.body.len());
        let _ = sender.poll_capacity(&mut context());
        let room = sender.capacity().min(self.body.len());
        let count = if room == 0 { 0 } else { scene.chance.size(room as u64) as usize };
        if count == 0 && !self.body.is_empty() {
            return;
        }
        let piece = self.body.split_to(count);
        let last = self.body.is_empty();
        if sender.send_data(piece, last).is_err() || last {
            self.sender = None;
        }
    }
}

fn open_events(
    send: &mut SendRequest<Bytes>,
    channels: &[String],
    resume: &Option<String>,
    scene: &mut Scene<'_>,
) -> Option<Events> {
    let query: Vec<String> = channels.iter().map(|c| format!("channel={}", escape(c))).collect();
    let uri = format!("http://localhost/v1/sse?{}", query.join("&"));
    let mut head = http::Request::builder().method("GET").uri(uri);
    if let Some(id) = resume {
        head = head.header("last-event-id", id);
    }
    let (answer, _) = send.send_request(head.body(()).ok()?, true).ok()?;
    let stream = EventStream::new(channels, false, resume.as_deref());
    let eagerness = scene.chance.pick(&[1_000, 300, 20]);
    Some(Events { answer: Answer::new(answer), stream, eagerness })
}
