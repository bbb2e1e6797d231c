//! HTTP/1.1 sessions: one request at a time, in order, pipelining allowed (RFC 9112).
//!
//! While a request is answered nothing after it is read: what arrived already waits in `leftover`,
//! bounded by what one turn may receive, and receiving stops. A request that breaks the protocol is
//! answered once and the connection ends, since where the next one starts is not known.

mod answers;
mod upgrade;

use super::Command;
use super::Shard;
use super::connection::EndpointId;
use super::http::origin::CorsOrigin;
use super::http::{Head, Headers, Response, Route, route};
use super::publish::{Asker, PublishId};
use super::session::Session;
use super::settings::Settings;
use crate::driver::{ConnId, ReceiveMode};
use crate::mesh::Place;
use proto::http1::{
    self, Body, BodyReader, Fields, HeadError, Limits, Request, RequestParser, Sniff, Sniffer,
};
use proto::reason::CloseReason;

/// Where a session stands.
#[derive(Debug)]
enum Phase {
    /// Between requests or inside a head.
    Head,
    /// A body flows into a publish.
    Body { reader: BodyReader, publish: PublishId },
    /// A body nobody wants flows away; the answer is out.
    Discard { reader: BodyReader },
    /// The request is complete, its answer is not.
    Answering,
}

/// State of an HTTP/1.1 connection.
#[derive(Debug)]
pub struct Http1 {
    sniffer: Option<Sniffer>,
    parser: RequestParser,
    phase: Phase,
    keep_alive: bool,
    /// The request was HEAD: the answer has no body.
    head_only: bool,
    /// The client understands chunks (HTTP/1.1).
    chunks: bool,
    cors: CorsOrigin,
    publish: Option<PublishId>,
    leftover: Vec<u8>,
    /// When the current head, body or pause began, milliseconds.
    pub since_ms: u64,
    /// Requests so far.
    pub requests: u32,
}

impl Http1 {
    /// A session of a new connection.
    pub fn new(settings: &Settings) -> Self {
        let limits = Limits {
            head_bytes_max: u16::try_from(settings.limits.head_bytes_max).unwrap_or(u16::MAX),
            headers_max: settings.limits.headers_max,
            ..Limits::default()
        };
        Self {
            sniffer: Some(Sniffer::default()),
            parser: RequestParser::new(limits),
            phase: Phase::Head,
            keep_alive: true,
            head_only: false,
            chunks: true,
            cors: None,
            publish: None,
            leftover: Vec::new(),
            since_ms: 0,
            requests: 0,
        }
    }

    /// Heap held, for the ledger.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>()
    }

    /// What it holds of an unfinished head, and of what waits behind an answer.
    pub fn partial_bytes(&self) -> usize {
        self.leftover.capacity() + self.parser.buffered_bytes()
    }

    /// The publish under way, if any.
    pub fn publish(&self) -> Option<PublishId> {
        self.publish
    }

    /// True while an answer is due for what has been received, whatever else comes.
    pub fn has_work(&self) -> bool {
        !self.leftover.is_empty() || self.waits_for() == WaitsFor::Us
    }

    /// What the deadline is about.
    pub fn waits_for(&self) -> WaitsFor {
        match self.phase {
            Phase::Head if self.requests > 0 && self.parser.is_idle() => WaitsFor::NextRequest,
            Phase::Head => WaitsFor::Head,
            Phase::Body { .. } | Phase::Discard { .. } => WaitsFor::Body,
            Phase::Answering => WaitsFor::Us,
        }
    }
}

/// What an HTTP/1.1 connection is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitsFor {
    /// The end of a request head.
    Head,
    /// The start of another request.
    NextRequest,
    /// More of a body.
    Body,
    /// Our answer.
    Us,
}

impl Headers for Fields {
    fn get(&self, name: &str) -> Option<&[u8]> {
        Fields::get(self, name)
    }

    fn each(&self, visit: &mut dyn FnMut(&str, &[u8])) {
        for (name, value) in self.iter() {
            visit(&name.to_ascii_lowercase(), value);
        }
    }
}

/// What a request made of its session.
enum Next {
    /// Go on with this session.
    Stay,
    /// It is another one now.
    Become(Session),
}

impl Shard {
    pub(super) fn feed_http1(
        &mut self,
        conn: ConnId,
        mut http1: Box<Http1>,
        input: &[u8],
    ) -> (Session, usize) {
        if let Some(sniffer) = &mut http1.sniffer {
            let held_back = sniffer.held_back();
            match sniffer.feed(input) {
                Sniff::NeedMore => return (Session::Http1(http1), input.len()),
                Sniff::Http2 => return (self.become_http2(conn, held_back), 0),
                Sniff::Http1 => {
                    http1.sniffer = None;
                    if !held_back.is_empty() {
                        // It is a head that begins like the preface; the parser gets it whole.
                        let mut whole = held_back.to_vec();
                        whole.extend_from_slice(input);
                        let (session, used) = self.feed_http1(conn, http1, &whole);
                        return (session, used.saturating_sub(held_back.len()));
                    }
                }
            }
        }
        if !http1.leftover.is_empty() {
            // What the driver had on its way when receiving stopped comes after what waits.
            http1.leftover.extend_from_slice(input);
            return (Session::Http1(http1), input.len());
        }
        let mut used = 0;
        while used < input.len() {
            //= rfc9112#9.6
            // Nothing is processed after a request or an answer that said `close`.
            if self.connections.get(conn).is_none_or(|connection| connection.closing.is_some()) {
                return (Session::Silent, input.len());
            }
            let rest = &input[used..];
            match &mut http1.phase {
                Phase::Head => match self.feed_head(conn, &mut http1, rest) {
                    Ok((taken, None)) => used += taken,
                    Ok((taken, Some(request))) => {
                        used += taken;
                        if let Next::Become(session) = self.on_request(conn, &mut http1, &request) {
                            return (session, used);
                        }
                    }
                    Err(error) => {
                        let (status, text) = error.answer();
                        self.refuse_http1(
                            conn,
                            &mut http1,
                            Response::error(status, "bad_request", &text),
                        );
                        return (Session::Http1(http1), input.len());
                    }
                },
                Phase::Body { reader, publish } => match reader.feed(rest) {
                    Ok(chunk) => {
                        let publish = *publish;
                        used += chunk.consumed;
                        let finished = chunk.finished;
                        let goes_on =
                            chunk.data.is_empty() || self.feed_publish(publish, chunk.data);
                        if finished {
                            http1.phase = Phase::Answering;
                            self.end_publish_input(publish);
                        } else if !goes_on {
                            self.stop_receiving(conn);
                            http1.leftover.extend_from_slice(&input[used..]);
                            return (Session::Http1(http1), input.len());
                        }
                    }
                    Err(error) => {
                        let (status, text) = error.answer();
                        self.refuse_http1(
                            conn,
                            &mut http1,
                            Response::error(status, "bad_body", &text),
                        );
                        return (Session::Http1(http1), input.len());
                    }
                },
                Phase::Discard { reader } => match reader.feed(rest) {
                    Ok(chunk) => {
                        used += chunk.consumed;
                        if chunk.finished {
                            http1.phase = Phase::Head;
                        }
                    }
                    Err(_) => {
                        self.end_connection(conn, CloseReason::ProtocolError);
                        return (Session::Http1(http1), input.len());
                    }
                },
                Phase::Answering => {
                    self.stop_receiving(conn);
                    http1.leftover.extend_from_slice(rest);
                    used = input.len();
                }
            }
        }
        (Session::Http1(http1), used)
    }

    /// Feeds the parser. A head that begins and does not end starts its own deadline: an idle
    /// connection's is far later.
    fn feed_head(
        &mut self,
        conn: ConnId,
        http1: &mut Http1,
        input: &[u8],
    ) -> Result<(usize, Option<Request>), HeadError> {
        let begins = http1.parser.is_idle();
        let step = http1.parser.feed(input)?;
        if begins && step.1.is_none() {
            http1.since_ms = self.now.ms;
            let timeout_ms = u64::from(self.settings.limits.head_timeout_s) * 1_000;
            self.wheel.schedule(conn.slot, self.now.ms + timeout_ms);
        }
        Ok(step)
    }

    fn on_request(&mut self, conn: ConnId, http1: &mut Http1, request: &Request) -> Next {
        http1.requests += 1;
        self.stats.counters.requests_http1 += 1;
        http1.since_ms = self.now.ms;
        http1.keep_alive = request.keep_alive && self.drain.is_none();
        http1.head_only = request.method() == "HEAD";
        http1.chunks = request.version_minor > 0;
        http1.cors = None;
        let secure = self.connections.get(conn).is_some_and(|c| c.tls.is_some());
        let head = Head {
            method: request.method(),
            path: request.path(),
            query: request.query().unwrap_or_default(),
            host: Some(request.host()).filter(|host| !host.is_empty()),
            secure,
            headers: request.fields(),
        };
        let found = self.settings.origins.check(&head).and_then(|cors| {
            http1.cors = cors;
            route::route(&head, usize::from(self.settings.sse_channels_max))
        });
        //= rfc9112#6.3
        // A body belongs to its request: where none is taken, none may be left for the parser.
        let takes_body = |route: &Route| {
            route.has_body() && !matches!(route, Route::Stream { commands: Some(_), .. })
        };
        let unwanted = found.as_ref().is_ok_and(|route| !takes_body(route))
            && !BodyReader::new(request.body).is_finished();
        if unwanted {
            let text = "this resource takes no body; send the request without one";
            let response = Response::error(400, "unexpected_body", text);
            return self.respond_http1(conn, http1, request, response);
        }
        match found.and_then(|route| self.admit(&head, route)) {
            Err(response) => return self.respond_http1(conn, http1, request, response),
            Ok((route, caller)) if route.has_body() => {
                match self.open(Asker::Http1(conn), &head, route, caller) {
                    Err(response) => return self.respond_http1(conn, http1, request, response),
                    Ok(publish) => self.start_body(conn, http1, request, publish),
                }
            }
            Ok((Route::WebSocket(subscribe), caller)) => {
                return self.upgrade(conn, http1, request, subscribe, caller);
            }
            Ok((Route::Client(encoding), caller)) => {
                return self.upgrade_client(conn, http1, request, encoding, caller);
            }
            Ok((Route::Sse(subscribe), caller)) => {
                return self.start_sse(conn, http1, subscribe, caller);
            }
            Ok((Route::Read { channel, since, last, limit }, _)) => {
                let tag = request.header_str("if-none-match").map(str::to_owned);
                http1.phase = Phase::Answering;
                self.start_read(Asker::Http1(conn), channel, since, last, limit, tag);
            }
            Ok((Route::History(history), _)) => {
                http1.phase = Phase::Answering;
                if let Err(response) = self.start_history(Asker::Http1(conn), history) {
                    self.respond_http1(conn, http1, request, response);
                }
            }
            Ok((Route::Aggregate(request_of), _)) => {
                http1.phase = Phase::Answering;
                if let Some(response) = self.start_aggregate(Asker::Http1(conn), request_of) {
                    self.respond_http1(conn, http1, request, response);
                }
            }
            Ok((route, _)) => {
                let response = self.simple(&route);
                self.respond_http1(conn, http1, request, response);
            }
        }
        Next::Stay
    }

    /// Answers at once; a body that still comes is thrown away if it is short, otherwise the
    /// connection ends.
    fn respond_http1(
        &mut self,
        conn: ConnId,
        http1: &mut Http1,
        request: &Request,
        response: Response,
    ) -> Next {
        let short = match request.body {
            Body::None => true,
            Body::Length(bytes) => bytes <= u64::from(self.settings.limits.message_bytes_max),
            Body::Chunked => false,
        };
        // A client that waits for `100 Continue` may or may not send its body now.
        http1.keep_alive &= short && !request.expect_continue;
        http1.phase = if request.body == Body::None {
            Phase::Head
        } else {
            Phase::Discard { reader: BodyReader::new(request.body) }
        };
        self.write_http1(conn, http1, response);
        Next::Stay
    }

    fn start_body(
        &mut self,
        conn: ConnId,
        http1: &mut Http1,
        request: &Request,
        publish: PublishId,
    ) {
        http1.publish = Some(publish);
        let reader = BodyReader::new(request.body);
        if reader.is_finished() {
            http1.phase = Phase::Answering;
            self.end_publish_input(publish);
            return;
        }
        http1.phase = Phase::Body { reader, publish };
        let timeout_ms = u64::from(self.settings.limits.body_idle_timeout_s) * 1_000;
        self.wheel.schedule(conn.slot, self.now.ms + timeout_ms);
        if request.expect_continue {
            let mut out = Vec::new();
            http1::write_continue(&mut out);
            self.say(EndpointId::connection(conn.slot), out);
        }
        let Some(connection) = self.connections.get(conn) else { return };
        if !connection.chatty {
            connection.chatty = true;
            self.commands.push(Command::Arm(conn, ReceiveMode::Multishot));
        }
    }

    /// The asker of a request that was parked can send again.
    pub(super) fn resume_asker(&mut self, publish: PublishId) {
        let Some(request) = self.publishes.get(publish) else { return };
        match request.asker {
            Asker::Http1(conn) => self.resumable.push(Place::connection(conn)),
            Asker::Http2(conn, stream) => {
                let bytes = std::mem::take(&mut request.unreleased);
                self.release_http2(conn, stream, bytes);
            }
            Asker::WebSocket(conn) => {
                let Some(connection) = self.connections.get(conn) else { return };
                let Session::WebSocket(socket) = &mut connection.session else { return };
                socket.unpark();
                self.resumable.push(Place::connection(conn));
            }
            Asker::Client(at, _) => {
                let Some(own) = self.session_mut(at) else { return };
                own.socket.unpark();
                self.resumable.push(at);
            }
            Asker::Api(_) => {}
        }
    }

    /// Goes on with connections that had more input than they could use.
    pub(super) fn run_resumable(&mut self) {
        for at in std::mem::take(&mut self.resumable) {
            self.resume_client(at);
            let Place { conn, stream: 0 } = at else { continue };
            let Some(connection) = self.connections.get(conn) else { continue };
            let leftover = match &mut connection.session {
                Session::Http1(http1) => std::mem::take(&mut http1.leftover),
                Session::WebSocket(socket) => socket.take_leftover(),
                // Parked again: what came behind waits on.
                Session::Client(own) if own.socket.is_parked() => continue,
                Session::Client(own) => own.socket.take_leftover(),
                _ => continue,
            };
            if !leftover.is_empty() {
                self.process(conn, &leftover);
                self.end_if_done(conn);
            }
            self.resume_receiving(conn);
        }
    }

    /// Ends a connection whose client has closed its side, once nothing of what it sent is left.
    pub(super) fn end_if_done(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get(conn) else { return };
        let has_work = match &connection.session {
            Session::Http1(http1) => http1.has_work(),
            Session::Client(_) => false,
            _ => return,
        };
        if connection.peer_done && !has_work {
            self.finish_connection(conn, CloseReason::Normal, None);
        }
    }

    /// Back-pressure: nothing more is read until `resume_receiving`.
    pub(super) fn stop_receiving(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get(conn) else { return };
        if !connection.receive_paused {
            connection.receive_paused = true;
            self.commands.push(Command::Disarm(conn));
        }
    }

    /// Reads again, unless what was read before still waits.
    pub(super) fn resume_receiving(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get(conn) else { return };
        let stuck =
            matches!(&connection.session, Session::Http1(http1) if !http1.leftover.is_empty());
        if connection.receive_paused && !stuck {
            connection.receive_paused = false;
            let mode = if connection.chatty { ReceiveMode::Multishot } else { ReceiveMode::Poll };
            self.commands.push(Command::Arm(conn, mode));
        }
    }
}

/// The head of every event stream.
pub(super) fn sse_response() -> Response {
    Response::empty(200)
        .with("content-type", "text/event-stream")
        .with("cache-control", "no-cache, no-transform")
        .with("x-accel-buffering", "no")
}
