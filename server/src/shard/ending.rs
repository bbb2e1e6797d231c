//! How connections end: said in the protocol's own words where it has them, half-closed after the
//! last byte, then closed, so that a reset never destroys what was said. And the drain, which ends
//! all of them at a pace.

use super::connection::{End, EndpointId};
use super::http::Response;
use super::notices;
use super::session::Session;
use super::{Command, Shard};
use crate::driver::ConnId;
use bytes::Bytes;
use proto::centrifuge::DisconnectCode;
use proto::envelope::NoticeReason;
use proto::h2::Reason;
use proto::http1::{self, Framing};
use proto::position::Position;
use proto::reason::CloseReason;
use proto::ws;

/// How long a peer has to take our last bytes and to close its side.
const FLUSH_MS: u64 = 5_000;
const LINGER_MS: u64 = 2_000;

/// How often a drain closes some.
const DRAIN_STEP_MS: u64 = 50;

/// What an answer needs to get out before a drain ends.
const ANSWER_MS: u64 = 500;

/// How often the sum of all outboxes is compared with their pool.
const SHED_MS: u64 = 250;

/// A drain under way.
#[derive(Debug, Clone, Copy)]
pub struct Drain {
    until_ms: u64,
    next_ms: u64,
    /// The slot where the next step goes on.
    at: u32,
}

impl Drain {
    /// When the next step is due.
    pub fn next_ms(&self) -> u64 {
        self.next_ms
    }

    /// When whoever waits for an answer must get one: at the end the connections are cut.
    pub fn answer_by_ms(&self) -> u64 {
        self.until_ms.saturating_sub(ANSWER_MS)
    }
}

impl Shard {
    /// Begins to close every connection at a pace over `time_ms`.
    pub fn start_drain(&mut self, time_ms: u64) {
        if self.drain.is_none() {
            self.ready = false;
            let now = self.now.ms;
            self.drain = Some(Drain { until_ms: now + time_ms, next_ms: now, at: 0 });
        }
    }

    /// One step of the drain: as many as it takes to be done in time, in slot order.
    pub(super) fn run_drain(&mut self) {
        let Some(mut drain) = self.drain else { return };
        if self.now.ms < drain.next_ms {
            return;
        }
        drain.next_ms = self.now.ms + DRAIN_STEP_MS;
        let steps = drain.until_ms.saturating_sub(self.now.ms) / DRAIN_STEP_MS + 1;
        let slots = self.connections.slots();
        let mut left = (self.connections.len() as u64).div_ceil(steps);
        let mut left_streams = Vec::new();
        for _ in 0..slots {
            if left == 0 {
                break;
            }
            let slot = drain.at % slots;
            drain.at = slot + 1;
            let Some(connection) = self.connections.slot(slot) else { continue };
            let conn = connection.id;
            if connection.end != End::Open {
                continue;
            }
            self.end_clients(conn, CloseReason::Shutdown);
            let Some(connection) = self.connections.slot(slot) else { continue };
            // A request under way is answered first; at the end of the time it is not waited for.
            let busy = match &mut connection.session {
                Session::Http1(http1) => http1.publish().is_some() || http1.has_work(),
                //= rfc9113#6.8
                // The peer hears which of its requests were seen before the connection ends.
                Session::Http2(http2) => {
                    if http2.leave() {
                        left_streams.extend(http2.publishes());
                        self.dirty.push(slot);
                        left -= 1;
                    }
                    true
                }
                _ => false,
            };
            if busy && steps > 1 {
                continue;
            }
            left = left.saturating_sub(1);
            let position = self.position_queued(conn);
            self.end_with_position(conn, CloseReason::Shutdown, position);
        }
        self.drain = Some(drain);
        self.drain_streams(left_streams);
    }

    /// Keeps all outboxes together within their pool: over it the fullest are closed as slow,
    /// fullest first, and nobody new may subscribe. The sum counts shared frames once per
    /// reference, so the memory held is less.
    pub(super) fn run_shedding(&mut self) {
        if self.now.ms < self.shed_at_ms {
            return;
        }
        self.shed_at_ms = self.now.ms + SHED_MS;
        let open = self.connections.iter().filter(|connection| connection.end == End::Open);
        let own = open.map(|connection| {
            (connection.outbox.queued_bytes(), EndpointId::connection(connection.id.slot))
        });
        let mut held: Vec<(usize, EndpointId)> = own.filter(|(bytes, _)| *bytes > 0).collect();
        let streams: Vec<EndpointId> = self.streams.indices().map(EndpointId::stream).collect();
        held.extend(streams.into_iter().map(|stream| (self.queued_bytes(stream), stream)));
        let mut total: usize = held.iter().map(|(bytes, _)| bytes).sum();
        let pool = self.settings.outbox_pool_bytes;
        self.overloaded = total > pool;
        if !self.overloaded {
            return;
        }
        held.sort_unstable_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
        for (bytes, endpoint) in held {
            if total <= pool {
                break;
            }
            total -= bytes;
            match endpoint.split() {
                Ok(index) => self.close_slow_stream(index),
                Err(slot) => {
                    if let Some(conn) = self.connections.slot(slot).map(|connection| connection.id)
                    {
                        self.close_slow(conn);
                    }
                }
            }
        }
    }

    /// Ends an endpoint: its connection, or only its HTTP/2 stream.
    pub(super) fn end_endpoint(&mut self, endpoint: EndpointId, reason: CloseReason) {
        match endpoint.split() {
            Ok(index) if self.is_client(endpoint) => {
                let code = DisconnectCode::from_reason(reason);
                let format = self.subscriber_mut(endpoint).map(|own| own.format);
                let words = format.map(|format| format.last_words(code.code(), code.text()));
                self.end_http2_stream_with(index, words.unwrap_or_default());
                self.stats.closed(reason);
            }
            Ok(index) => self.end_http2_stream(index),
            Err(slot) => {
                if let Some(conn) = self.connections.slot(slot).map(|connection| connection.id) {
                    let position = self.position_queued(conn);
                    self.end_with_position(conn, reason, position);
                }
            }
        }
    }

    /// True for a client of the client protocol.
    pub(super) fn is_client(&mut self, endpoint: EndpointId) -> bool {
        self.subscriber_mut(endpoint).is_some_and(|own| own.format.is_client())
    }

    /// Ends a connection in its protocol's words.
    pub(super) fn end_connection(&mut self, conn: ConnId, reason: CloseReason) {
        self.end_with_position(conn, reason, None);
    }

    pub(super) fn end_with_position(
        &mut self,
        conn: ConnId,
        reason: CloseReason,
        position: Option<Position>,
    ) {
        self.end_clients(conn, reason);
        let Some(connection) = self.connections.get(conn) else { return };
        if connection.closing.is_some() {
            return;
        }
        let row = reason.row();
        let last = match &mut connection.session {
            Session::WebSocket(_) => {
                let text = match position {
                    Some(position) => format!("{}; position={position}", row.name),
                    None => row.name.to_owned(),
                };
                Some(ws::close_frame(row.ws_code, &text))
            }
            Session::Client(own) => {
                let code = DisconnectCode::from_reason(reason);
                Some(own.client.format().last_words(code.code(), code.text()))
            }
            Session::Http2(http2) if reason == CloseReason::Shutdown => {
                http2.leave();
                http2.session.poll(self.now.ms);
                http2.session.take_output()
            }
            Session::Http2(http2) => {
                let code = match reason {
                    CloseReason::ProtocolError => Reason::PROTOCOL_ERROR,
                    CloseReason::Overload => Reason::ENHANCE_YOUR_CALM,
                    _ => Reason::NO_ERROR,
                };
                http2.session.abort(code);
                http2.session.poll(self.now.ms);
                http2.session.take_output()
            }
            // An event stream says when to come back and ends; the browser resumes by itself.
            Session::Sse if matches!(reason, CloseReason::Shutdown | CloseReason::Expired) => {
                let why = match reason {
                    CloseReason::Expired => NoticeReason::Expired,
                    _ => NoticeReason::Shutdown,
                };
                let retry_ms = self.retry_ms();
                Some(notices::last_words(retry_ms, why))
            }
            Session::Http1(_) | Session::Sse | Session::Silent => None,
        };
        self.finish_connection(conn, reason, last);
    }

    /// Nothing follows but `last`: detaches the connection, flushes, half-closes, lingers.
    pub(super) fn finish_connection(
        &mut self,
        conn: ConnId,
        reason: CloseReason,
        last: Option<Bytes>,
    ) {
        let Some(connection) = self.connections.get(conn) else { return };
        if connection.closing.is_some() {
            return;
        }
        connection.closing = Some(reason);
        connection.end = End::Flushing;
        self.wheel.schedule(conn.slot, self.now.ms + FLUSH_MS);
        self.detach(conn);
        if let Some(last) = last {
            self.say(EndpointId::connection(conn.slot), last);
        } else if self.connections.get(conn).is_some_and(|c| c.tls.is_some()) {
            self.dirty.push(conn.slot);
        }
        self.flushing.push(conn);
        self.stats.closed(reason);
    }

    /// Half-closes the connections whose last bytes are out.
    pub(super) fn finish_flushed(&mut self) {
        for conn in std::mem::take(&mut self.flushing) {
            let Some(connection) = self.connections.get(conn) else { continue };
            if connection.end != End::Flushing {
                continue;
            }
            if !connection.outbox.run.is_empty() {
                self.flushing.push(conn);
                continue;
            }
            if connection.outbox.backlog.is_some() {
                // `drain_backlog` brings it back.
                continue;
            }
            if connection.peer_done {
                self.close_now(conn);
                continue;
            }
            connection.end = End::Lingering;
            self.wheel.schedule(conn.slot, self.now.ms + LINGER_MS);
            self.commands.push(Command::ShutdownSend(conn));
            if connection.receive_paused {
                connection.receive_paused = false;
                self.commands.push(Command::Arm(conn, crate::driver::ReceiveMode::Poll));
            }
        }
    }

    /// Closes without another word.
    pub(super) fn close_now(&mut self, conn: ConnId) {
        self.detach(conn);
        let Some(connection) = self.connections.get(conn) else { return };
        if connection.end != End::Closed {
            connection.end = End::Closed;
            connection.closing.get_or_insert(CloseReason::Normal);
            connection.outbox.backlog = None;
            self.commands.push(Command::Close(conn));
        }
    }

    /// The peer has closed its sending side.
    pub(super) fn peer_finished(&mut self, conn: ConnId) {
        // A body that was under way over HTTP/2 will not come any more.
        self.time_out_bodies(conn, 0);
        let Some(connection) = self.connections.get(conn) else { return };
        match &mut connection.session {
            // It has sent its requests and waits: it gets its answers, then the end.
            Session::Http1(http1) if http1.has_work() => {}
            Session::Http2(http2) if http2.is_busy() => {}
            Session::Http2(http2) => {
                http2.session.end_input();
                http2.session.poll(self.now.ms);
                self.finish_connection(conn, CloseReason::Normal, None);
            }
            // What is queued for it still goes out: it may have asked and closed in one go.
            _ => self.finish_connection(conn, CloseReason::Normal, None),
        }
    }

    /// Takes subscriptions, requests and streams from a connection that ends.
    pub(super) fn detach(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get(conn) else { return };
        let session = std::mem::take(&mut connection.session);
        self.unsubscribe(EndpointId::connection(conn.slot));
        self.cancel_reads(conn);
        match session {
            Session::Http1(http1) => {
                if let Some(publish) = http1.publish() {
                    self.drop_publish(publish);
                }
            }
            Session::Http2(http2) => {
                self.h2_connections -= 1;
                for publish in http2.publishes() {
                    self.drop_publish(publish);
                }
                let indices: Vec<u32> = http2.sse_indices().collect();
                for index in indices {
                    self.unsubscribe(EndpointId::stream(index));
                    self.drop_stream(index);
                }
            }
            Session::WebSocket(_) | Session::Client(_) | Session::Sse | Session::Silent => {}
        }
    }

    /// A connection above the cap: an answer that says so, and the end.
    pub(super) fn refuse_connection(&mut self, conn: ConnId, response: &Response) {
        if self.connections.get(conn).is_none_or(|connection| connection.tls.is_some()) {
            self.close_now(conn);
            return;
        }
        let fields: Vec<(&str, &str)> =
            response.headers.iter().map(|(name, value)| (*name, &**value)).collect();
        self.stats.answered(response.status);
        let mut out = Vec::new();
        let framing = Framing::Length(response.body.len() as u64);
        let written = http1::write_head(&mut out, response.status, &fields, framing, false);
        debug_assert!(written.is_ok(), "our own fields are legal");
        out.extend_from_slice(&response.body);
        self.finish_connection(conn, CloseReason::Overload, Some(out.into()));
    }
}
