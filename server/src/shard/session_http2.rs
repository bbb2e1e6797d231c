//! HTTP/2 sessions (RFC 9113): many requests at once, each a publish, an event stream or a read.
//!
//! Body bytes are taken out of the session at once and their credit is given back when the items
//! have been handed to their home shards; a parked publish keeps it, and that is the publisher's
//! back-pressure. Event streams are endpoints of their own: what their windows do not take waits in
//! their own outboxes under the namespace's policy.

mod answers;

use super::Shard;
use super::connection::EndpointId;
use super::doing::ByStream;
use super::http::origin::{self, CorsOrigin};
use super::http::{Head, Response, Route, SubscribeRequest, route};
use super::notices;
use super::publish::{Asker, PublishId};
use super::session::Session;
use super::session_http1::sse_response;
use super::streams::Stream;
use super::timers::http2_look_ms;
use crate::auth::Caller;
use crate::driver::{ConnId, ReceiveMode};
use crate::shard::Command;
use ::http::header;
use bytes::Bytes;
use proto::h2::{H2Event, H2Limits, H2Session, Reason, StreamKey};
use proto::reason::CloseReason;
use proto::sse;
use std::borrow::Cow;

/// What a stream of a session is doing.
#[derive(Debug)]
enum Doing {
    /// A body flows into a publish.
    Publish { publish: PublishId, cors: CorsOrigin },
    /// An event stream: its index among the shard's streams.
    Sse { index: u32 },
    /// All is said, and the request is still open: its end is waited for a moment.
    Ending,
    /// A request whose answer comes later.
    Waiting { cors: CorsOrigin, head_only: bool },
}

/// State of an HTTP/2 connection.
#[derive(Debug)]
pub struct Http2 {
    /// The protocol machine.
    pub session: H2Session,
    streams: ByStream<Doing>,
    /// A ping is unanswered since then, milliseconds.
    pub pinged_ms: Option<u64>,
    /// When a stream last began or was seen open, milliseconds: a peer that only answers pings, or
    /// never ends a head, is idle.
    pub active_ms: u64,
    /// GOAWAY was said.
    leaving: bool,
}

impl Http2 {
    /// Heap held, for the ledger.
    pub fn memory_bytes(&self) -> usize {
        self.session.memory_bytes() + self.streams.memory_bytes()
    }

    /// Event streams of this connection, by index.
    pub fn sse_indices(&self) -> impl Iterator<Item = u32> + '_ {
        self.streams.iter().filter_map(|(_, doing)| match doing {
            Doing::Sse { index } => Some(*index),
            _ => None,
        })
    }

    /// Publishes under way.
    pub fn publishes(&self) -> impl Iterator<Item = PublishId> + '_ {
        self.streams.iter().filter_map(|(_, doing)| match doing {
            Doing::Publish { publish, .. } => Some(*publish),
            _ => None,
        })
    }

    /// True while an answer is due that ends, or waits for the peer's windows: anything but event
    /// streams.
    pub fn is_busy(&self) -> bool {
        let is_answer = |doing: Option<&Doing>| !matches!(doing, Some(Doing::Sse { .. }));
        self.streams.iter().any(|(_, doing)| is_answer(Some(doing)))
            || self.session.backlogs().any(|(stream, _)| is_answer(self.streams.get(&stream)))
    }

    /// Ends a response that has said everything.
    fn end_stream(&mut self, stream: StreamKey) {
        let _ = self.session.send_data(stream, Bytes::new(), true);
        self.streams.remove(&stream);
    }

    /// Ends every event stream in order, so that a browser reconnects and resumes.
    fn end_streams(&mut self) {
        for (stream, doing) in self.streams.iter() {
            // What still waits on a stream is lost to it either way: it resumes from its last id.
            if matches!(doing, Doing::Sse { .. }) {
                let _ = self.session.send_data(stream, Bytes::new(), true);
            }
        }
    }

    /// Begins the end: event streams end now, what is asked is answered, and the session closes by
    /// itself. `false` if it had begun already.
    pub fn leave(&mut self) -> bool {
        let begins = !std::mem::replace(&mut self.leaving, true);
        if begins {
            self.end_streams();
            self.session.goaway();
        }
        begins
    }

    /// True if no request is under way and no answer waits for the peer.
    pub fn is_idle(&self) -> bool {
        self.streams.is_empty() && self.session.queued_bytes_total() == 0
    }
}

impl Shard {
    /// Turns a connection into HTTP/2; `held_back` are preface bytes that were consumed already.
    pub(super) fn become_http2(&mut self, conn: ConnId, held_back: &[u8]) -> Session {
        if self.h2_connections >= self.settings.h2_connections_max {
            self.stats.counters.connections_rejected += 1;
            self.end_connection(conn, CloseReason::Overload);
            return Session::Silent;
        }
        self.h2_connections += 1;
        let limits = H2Limits {
            streams_max: self.settings.limits.h2_streams_max,
            head_list_bytes_max: self.settings.limits.head_bytes_max,
            ..H2Limits::default()
        };
        let mut session = H2Session::new(limits);
        session.feed(self.now.ms, held_back);
        if let Some(connection) = self.connections.get(conn) {
            connection.chatty = true;
            self.commands.push(Command::Arm(conn, ReceiveMode::Multishot));
        }
        self.schedule_http2(conn);
        Session::Http2(Box::new(Http2 {
            session,
            streams: ByStream::new(),
            pinged_ms: None,
            active_ms: self.now.ms,
            leaving: false,
        }))
    }

    pub(super) fn feed_http2(
        &mut self,
        conn: ConnId,
        mut http2: Box<Http2>,
        input: &[u8],
    ) -> (Session, usize) {
        http2.pinged_ms = None;
        http2.session.feed(self.now.ms, input);
        self.run_http2(conn, &mut http2);
        if !http2.session.wants_input() {
            // Its output is full: what comes in now would wait unread, without a bound.
            self.stop_receiving(conn);
        }
        (Session::Http2(http2), input.len())
    }

    /// Polls a session and handles its events until nothing moves.
    fn run_http2(&mut self, conn: ConnId, http2: &mut Http2) {
        loop {
            http2.session.poll(self.now.ms);
            let mut moved = false;
            while let Some(event) = http2.session.next_event() {
                moved = true;
                self.on_http2(conn, http2, event);
            }
            if !moved {
                break;
            }
        }
        self.dirty.push(conn.slot);
    }

    fn on_http2(&mut self, conn: ConnId, http2: &mut Http2, event: H2Event) {
        match event {
            H2Event::Request { stream, head, end_stream } => {
                self.on_http2_request(conn, http2, stream, &head, end_stream);
            }
            H2Event::Data { stream, bytes } => self.on_http2_data(http2, stream, &bytes),
            H2Event::End { stream } => match http2.streams.get(&stream) {
                Some(Doing::Publish { publish, .. }) => self.end_publish_input(*publish),
                Some(Doing::Ending) => http2.end_stream(stream),
                _ => {}
            },
            H2Event::Reset { stream, .. } => self.forget_http2_stream(http2, stream),
            H2Event::Pong => {}
            H2Event::Closed { error } => {
                if error.is_some() {
                    self.stats.counters.connections_failed += 1;
                }
                let streams: Vec<StreamKey> = http2.streams.iter().map(|(key, _)| key).collect();
                for stream in streams {
                    self.forget_http2_stream(http2, stream);
                }
                self.http2_over.push(conn);
            }
        }
    }

    fn on_http2_data(&mut self, http2: &mut Http2, stream: StreamKey, bytes: &Bytes) {
        let Some(Doing::Publish { publish, .. }) = http2.streams.get(&stream) else {
            // A body nobody wants: give the credit back and let it flow away.
            http2.session.release(stream, bytes.len());
            return;
        };
        let publish = *publish;
        if self.feed_publish(publish, bytes) {
            http2.session.release(stream, bytes.len());
        } else if let Some(request) = self.publishes.get(publish) {
            request.unreleased += bytes.len();
        }
    }

    fn on_http2_request(
        &mut self,
        conn: ConnId,
        http2: &mut Http2,
        stream: StreamKey,
        parts: &::http::request::Parts,
        end_stream: bool,
    ) {
        self.stats.counters.requests_http2 += 1;
        http2.active_ms = self.now.ms;
        let secure = self.connections.get(conn).is_some_and(|c| c.tls.is_some());
        let host_field = parts.headers.get("host").and_then(|host| host.to_str().ok());
        let head = Head {
            method: parts.method.as_str(),
            path: parts.uri.path(),
            query: parts.uri.query().unwrap_or_default(),
            host: parts.uri.authority().map(|a| a.as_str()).or(host_field),
            secure,
            headers: &parts.headers,
        };
        let head_only = parts.method == ::http::Method::HEAD;
        let mut cors = None;
        let found = well_formed(parts).and_then(|()| self.settings.origins.check(&head));
        let found = found.and_then(|origin| {
            cors = origin;
            route::route(&head, usize::from(self.settings.sse_channels_max))
        });
        let asker = Asker::Http2(conn, stream);
        let refused = match found.and_then(|route| self.admit(&head, route)) {
            Err(response) => Some(response),
            Ok((Route::Stream { commands: Some(_), .. }, _)) if !end_stream => {
                let text = "this resource takes no body; send the request without one";
                Some(Response::error(400, "unexpected_body", text))
            }
            Ok((route, caller)) if route.has_body() => {
                let opened = self.open(asker, &head, route, caller);
                match opened {
                    Err(response) => Some(response),
                    Ok(publish) => {
                        self.start_acks(http2, stream, publish, &cors);
                        http2
                            .streams
                            .insert(stream, Doing::Publish { publish, cors: cors.clone() });
                        if end_stream {
                            self.end_publish_input(publish);
                        }
                        None
                    }
                }
            }
            Ok((Route::WebSocket(_) | Route::Client(_), _)) => Some(Response::error(
                400,
                "http1_required",
                "WebSocket is served over HTTP/1.1; over HTTP/2 use /v1/sse or /connection/http_stream",
            )),
            Ok((Route::Sse(subscribe), caller)) => {
                self.start_http2_sse(conn, http2, stream, subscribe, caller, &cors)
            }
            Ok((Route::Read { channel, since, last, limit }, _)) => {
                let tag = head.text("if-none-match").map(str::to_owned);
                http2.streams.insert(stream, Doing::Waiting { cors: cors.clone(), head_only });
                self.start_read(asker, channel, since, last, limit, tag);
                None
            }
            Ok((Route::History(history), _)) => {
                let refused = self.start_history(asker, history).err();
                if refused.is_none() {
                    http2.streams.insert(stream, Doing::Waiting { cors: cors.clone(), head_only });
                }
                refused
            }
            Ok((Route::Aggregate(request), _)) => {
                let response = self.start_aggregate(asker, request);
                if response.is_none() {
                    http2.streams.insert(stream, Doing::Waiting { cors: cors.clone(), head_only });
                }
                response
            }
            Ok((route, _)) => Some(self.simple(&route)),
        };
        if let Some(response) = refused {
            self.stats.answered(response.status);
            respond(http2, stream, response, &cors, head_only);
        }
    }

    fn start_http2_sse(
        &mut self,
        conn: ConnId,
        http2: &mut Http2,
        stream: StreamKey,
        subscribe: SubscribeRequest,
        caller: Option<Caller>,
        cors: &CorsOrigin,
    ) -> Option<Response> {
        let refusal = self.stream_refusal(caller.as_ref());
        let held = self.channels_of(http2);
        let channels_max = usize::from(self.settings.limits.channels_per_connection_max);
        if held + subscribe.channels.len() > channels_max {
            let text = format!("this connection already follows {held} of {channels_max} channels");
            return Some(Response::error(429, "too_many_channels", &text));
        }
        let mut response = sse_response();
        origin::add_cors(&mut response, cors);
        let mut prelude = Vec::new();
        sse::write_retry(&mut prelude, self.retry_ms());
        if let Some(reason) = refusal {
            notices::write_reason(&mut prelude, reason);
        }
        let Some(head) = head_of(&response) else {
            return Some(Response::error(500, "internal", "the response head could not be built"));
        };
        let sent = http2.session.respond(stream, head, false).is_ok()
            && http2.session.send_data(stream, prelude.into(), refusal.is_some()).is_ok();
        self.stats.answered(200);
        if !sent || refusal.is_some() {
            return None;
        }
        let index = self.streams.insert(conn, stream, self.now.ms);
        http2.streams.insert(stream, Doing::Sse { index });
        let endpoint = EndpointId::stream(index);
        self.set_caller(endpoint, caller.unwrap_or_default());
        if let Some(at_ms) = self.expiry_ms(endpoint) {
            // Its session is at work here, so the timer cannot see its streams.
            let look_ms = self.now.ms + http2_look_ms(&self.settings.limits);
            self.wheel.schedule(conn.slot, at_ms.min(look_ms));
        }
        self.subscribe(endpoint, subscribe);
        None
    }

    /// The answer to a request that took its time.
    pub(super) fn answer_http2(&mut self, conn: ConnId, stream: StreamKey, response: Response) {
        let Some(connection) = self.connections.get(conn) else { return };
        let Session::Http2(http2) = &mut connection.session else { return };
        let (cors, head_only) = match http2.streams.remove(&stream) {
            Some(Doing::Publish { cors, .. }) => (cors, false),
            Some(Doing::Waiting { cors, head_only }) => (cors, head_only),
            _ => (None, false),
        };
        self.stats.answered(response.status);
        respond(http2, stream, response, &cors, head_only);
        self.dirty.push(conn.slot);
    }

    /// Gives credit back.
    pub(super) fn release_http2(&mut self, conn: ConnId, stream: StreamKey, bytes: usize) {
        let Some(connection) = self.connections.get(conn) else { return };
        let Session::Http2(http2) = &mut connection.session else { return };
        http2.session.release(stream, bytes);
        self.dirty.push(conn.slot);
    }

    /// Whatever a stream was doing is over.
    fn forget_http2_stream(&mut self, http2: &mut Http2, stream: StreamKey) {
        let doing = http2.streams.remove(&stream);
        self.forget(doing);
    }

    fn forget(&mut self, doing: Option<Doing>) {
        match doing {
            Some(Doing::Publish { publish, .. }) => self.drop_publish(publish),
            Some(Doing::Sse { index }) => {
                self.unsubscribe(EndpointId::stream(index));
                self.drop_stream(index);
            }
            Some(Doing::Ending | Doing::Waiting { .. }) | None => {}
        }
    }

    /// Ends one event stream from our side, so that the browser reconnects and resumes.
    pub(super) fn end_http2_stream(&mut self, index: u32) {
        self.end_http2_stream_with(index, Bytes::new());
    }

    /// The same with last words, unless others still wait to be read.
    pub(super) fn end_http2_stream_with(&mut self, index: u32, last: Bytes) {
        self.unsubscribe(EndpointId::stream(index));
        let Some(stream) = self.drop_stream(index) else { return };
        // What it gathered in this turn comes before them.
        let mut last = last;
        if !stream.outbox.run.is_empty() && stream.outbox.backlog.is_none() {
            let gathered = self.frames.flatten(stream.outbox.run);
            last = [&gathered[..], &last[..]].concat().into();
        }
        let Some(connection) = self.connections.get(stream.conn) else { return };
        let Session::Http2(http2) = &mut connection.session else { return };
        http2.streams.remove(&stream.key);
        if http2.session.queued_bytes(stream.key) == 0 {
            let _ = http2.session.send_data(stream.key, last, true);
        } else {
            http2.session.reset(stream.key, Reason::CANCEL);
        }
        self.dirty.push(stream.conn.slot);
    }

    /// Channels that the streams of a session follow.
    fn channels_of(&self, http2: &Http2) -> usize {
        let subscriber = |index| self.streams.get(index)?.subscriber.as_ref();
        let channels = http2.sse_indices().filter_map(subscriber);
        channels.map(|subscriber| subscriber.keys().len()).sum()
    }

    /// Channels that the streams of a connection follow.
    pub(super) fn channels_on(&mut self, conn: ConnId) -> usize {
        let indices = self.http2(conn).map(|http2| http2.sse_indices().collect::<Vec<u32>>());
        let subscriber = |index| self.streams.get(index)?.subscriber.as_ref();
        let channels = indices.unwrap_or_default().into_iter().filter_map(subscriber);
        channels.map(|subscriber| subscriber.keys().len()).sum()
    }

    /// Forgets a stream and gives back what it was charged.
    pub(super) fn drop_stream(&mut self, index: u32) -> Option<Box<Stream>> {
        let stream = self.streams.remove(index)?;
        self.partial_bytes -= stream.partial_bytes as usize;
        Some(stream)
    }

    /// Bytes that wait on a stream.
    pub(super) fn queued_on_stream(&mut self, conn: ConnId, stream: StreamKey) -> usize {
        match self.http2(conn) {
            Some(http2) => http2.session.queued_bytes(stream),
            None => 0,
        }
    }

    fn http2(&mut self, conn: ConnId) -> Option<&mut Http2> {
        match &mut self.connections.get(conn)?.session {
            Session::Http2(http2) => Some(http2),
            _ => None,
        }
    }

    /// Lets a session move and takes what it has to say; events it finds are handled.
    pub(super) fn pump_http2(&mut self, conn: ConnId) -> Option<Bytes> {
        let connection = self.connections.get(conn)?;
        let mut http2 = match std::mem::take(&mut connection.session) {
            Session::Http2(http2) => http2,
            other => {
                connection.session = other;
                return None;
            }
        };
        if http2.session.needs_poll() {
            self.run_http2(conn, &mut http2);
        }
        let output = http2.session.take_output();
        if http2.session.wants_input() {
            self.resume_receiving(conn);
        }
        if let Some(connection) = self.connections.get(conn)
            && connection.closing.is_none()
        {
            let over =
                connection.peer_done && !http2.is_busy() && http2.session.output_bytes() == 0;
            connection.session = Session::Http2(http2);
            if over {
                self.http2_over.push(conn);
            }
        }
        output
    }

    /// Resets the streams whose peer has taken nothing for `span_ms`: a window that stays shut
    /// holds our memory and says nothing.
    pub(super) fn reset_stalled(&mut self, conn: ConnId, span_ms: u64) {
        let now = self.now.ms;
        let Some(http2) = self.http2(conn) else { return };
        let stalled: Vec<StreamKey> = http2
            .session
            .backlogs()
            .filter(|(_, backlog)| now >= backlog.moved_ms + span_ms)
            .map(|(stream, _)| stream)
            .collect();
        for stream in stalled {
            let Some(http2) = self.http2(conn) else { return };
            http2.session.reset(stream, Reason::CANCEL);
            let doing = http2.streams.remove(&stream);
            self.forget(doing);
            self.stats.closed(CloseReason::Slow);
            self.dirty.push(conn.slot);
        }
    }

    /// Answers the publishes of a connection whose bodies have stalled, as HTTP/1.1's are: what was
    /// taken is said, the rest of the body is not waited for.
    pub(super) fn time_out_bodies(&mut self, conn: ConnId, span_ms: u64) {
        let now = self.now.ms;
        let Some(http2) = self.http2(conn) else { return };
        let under_way: Vec<PublishId> = http2.publishes().collect();
        for id in under_way {
            let stalled = self.publishes.get(id).is_some_and(|p| p.is_stalled(now, span_ms));
            if stalled {
                let text = "the request did not arrive in time; send its body without long pauses";
                self.break_publish(id, Response::error(408, "request_timeout", text));
            }
        }
    }

    /// Moves on the connections whose session has ended.
    pub(super) fn run_http2_over(&mut self) {
        for conn in std::mem::take(&mut self.http2_over) {
            //= rfc9113#5.4.1
            // Its last words say what was wrong.
            let last = self.http2(conn).and_then(|http2| http2.session.take_output());
            self.finish_connection(conn, CloseReason::Normal, last);
        }
    }
}

/// What `h2` lets pass: two names for the host, and space around a value.
//= rfc9113#8.2.1
//= rfc9113#8.3.1
fn well_formed(parts: &::http::request::Parts) -> Result<(), Response> {
    let bad = |text: &str| Err(Response::error(400, "bad_request", text));
    let host = parts.headers.get("host").map(|host| host.as_bytes());
    let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    if host.zip(authority).is_some_and(|(host, own)| !host.eq_ignore_ascii_case(own)) {
        return bad("`host` and `:authority` name different hosts; send one of them");
    }
    let space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let padded = parts.headers.values().map(|value| value.as_bytes());
    if padded.into_iter().any(|value| space(value.first()) || space(value.last())) {
        return bad("a field's value begins or ends with a space");
    }
    Ok(())
}

fn respond(
    http2: &mut Http2,
    stream: StreamKey,
    mut response: Response,
    cors: &CorsOrigin,
    head_only: bool,
) {
    origin::add_cors(&mut response, cors);
    let Some(mut head) = head_of(&response) else { return };
    if !matches!(response.status, 204 | 304) {
        head.headers_mut().insert(header::CONTENT_LENGTH, response.body.len().into());
    }
    let empty = response.body.is_empty() || head_only;
    // A stream that is gone meanwhile needs no answer.
    if http2.session.respond(stream, head, empty).is_ok() && !empty {
        let _ = http2.session.send_data(stream, response.body, true);
    }
}

fn head_of(response: &Response) -> Option<::http::Response<()>> {
    let mut head = ::http::Response::new(());
    *head.status_mut() = ::http::StatusCode::from_u16(response.status).ok()?;
    let fields = head.headers_mut();
    for (name, value) in &response.headers {
        let name = match *name {
            "content-type" => header::CONTENT_TYPE,
            "cache-control" => header::CACHE_CONTROL,
            other => ::http::HeaderName::from_bytes(other.as_bytes()).ok()?,
        };
        let value = match value {
            Cow::Borrowed(value) => ::http::HeaderValue::from_static(value),
            Cow::Owned(value) => ::http::HeaderValue::from_str(value).ok()?,
        };
        fields.append(name, value);
    }
    Some(head)
}
