//! Deadlines: one wheel entry per connection, looked at lazily.
//!
//! Activity costs nothing: it only stores a time. When the entry fires, what the connection waits
//! for is compared with that time, and the entry is set to the next moment that can matter.

use super::Shard;
use super::client::Beat;
use super::connection::{End, EndpointId, Stamp};
use super::outbox::SendState;
use super::session::Session;
use super::session_http1::WaitsFor;
use super::wheel::TICK_MS;
use crate::config::Limits;
use crate::driver::ConnId;
use proto::reason::CloseReason;
use proto::{sse, ws};

/// A connection or stream whose peer has taken nothing for so many heartbeats is closed.
const STALLED_HEARTBEATS: u64 = 4;

/// What a fired timer leads to.
enum Due {
    /// Look again then.
    Later(u64),
    /// Close for a reason.
    End(CloseReason),
    /// Close at once.
    CloseNow,
    /// Say something, then look again.
    Ping(u64),
}

impl Shard {
    pub(super) fn run_timers(&mut self) {
        let mut due = std::mem::take(&mut self.due);
        self.wheel.advance(self.now.ms, &mut due);
        for slot in due.drain(..) {
            let Some(conn) = self.connections.slot(slot).map(|connection| connection.id) else {
                continue;
            };
            if self.expire(conn) {
                continue;
            }
            self.beat_clients(conn);
            match self.due(conn) {
                Due::Later(at) => self.schedule_look(conn, at),
                Due::End(reason) => {
                    self.time_out(conn, reason);
                }
                Due::CloseNow => self.close_now(conn),
                Due::Ping(next) => {
                    self.schedule_look(conn, next);
                    self.heartbeat(conn);
                }
            }
        }
        self.due = due;
    }

    /// A subscriber's first look: the entry made at accept may be far later.
    pub(super) fn schedule_heartbeat(&mut self, conn: ConnId) {
        let beat_ms = u64::from(self.settings.limits.heartbeat_s) * 1_000;
        self.schedule_look(conn, self.now.ms + beat_ms);
    }

    /// What a client may take until it has connected, between two pings, and to answer one.
    pub(super) fn client_spans_ms(&self) -> [u64; 3] {
        let limits = &self.settings.limits;
        [limits.head_timeout_s, limits.heartbeat_s, limits.pong_timeout_s]
            .map(|span_s| u64::from(span_s) * 1_000)
    }

    /// When the first client on the streams of a connection is due.
    pub(super) fn first_client_ms(&mut self, conn: ConnId) -> Option<u64> {
        let (now_ms, [connect_ms, beat_ms, pong_ms]) = (self.now.ms, self.client_spans_ms());
        let clients = self.clients_of(conn).into_iter().filter(|at| at.stream != 0);
        let due_ms = |at| {
            let client = &self.session_mut(at)?.client;
            Some(client.due(now_ms, connect_ms, beat_ms, pong_ms).at_ms(now_ms))
        };
        clients.filter_map(due_ms).min()
    }

    /// Pings the clients on the streams of a connection, and ends those that do not answer.
    fn beat_clients(&mut self, conn: ConnId) {
        let (now_ms, [connect_ms, beat_ms, pong_ms]) = (self.now.ms, self.client_spans_ms());
        for at in self.clients_of(conn).into_iter().filter(|at| at.stream != 0) {
            let Some(own) = self.session_mut(at) else { continue };
            let endpoint = EndpointId::of(at);
            match own.client.due(now_ms, connect_ms, beat_ms, pong_ms) {
                Beat::Later(_) => {}
                Beat::Stale => self.end_endpoint(endpoint, CloseReason::Timeout),
                Beat::NoPong => self.end_endpoint(endpoint, CloseReason::NoPong),
                Beat::Ping => {
                    let ping = own.client.ping(now_ms);
                    self.say(endpoint, ping);
                }
            }
        }
    }

    /// An HTTP/2 connection's first look.
    pub(super) fn schedule_http2(&mut self, conn: ConnId) {
        let look_ms = http2_look_ms(&self.settings.limits);
        self.schedule_look(conn, self.now.ms + look_ms);
    }

    fn due(&mut self, conn: ConnId) -> Due {
        let now = self.now.ms;
        let limits = &self.settings.limits;
        let seconds = |s: u32| u64::from(s) * 1_000;
        let Some(connection) = self.connections.get(conn) else { return Due::CloseNow };
        let beat = seconds(limits.heartbeat_s);
        if connection.end != End::Open {
            // An answer that the peer still takes is finished; anything else took too long, and
            // while the driver closes nothing matters.
            let answering = connection.end == End::Flushing
                && matches!(connection.closing, Some(CloseReason::Normal | CloseReason::Shutdown))
                && now < connection.said.ms() + beat * STALLED_HEARTBEATS;
            return if answering { Due::Later(now + 1_000) } else { Due::CloseNow };
        }
        let after = |since: u64, span: u64, reason: CloseReason| {
            if now >= since + span { Due::End(reason) } else { Due::Later(since + span) }
        };
        let (heard, said) = (connection.heard.ms(), connection.said.ms());
        let blocked = connection.outbox.state == SendState::Blocked;
        if blocked && now >= said + beat * STALLED_HEARTBEATS {
            return Due::End(CloseReason::Slow);
        }
        match &mut connection.session {
            Session::Http1(http1) => match http1.waits_for() {
                // From accept or the last answer, whatever trickles in: slowloris ends here.
                WaitsFor::Head => {
                    let since = http1.since_ms.max(connection.accepted.ms());
                    after(since, seconds(limits.head_timeout_s), CloseReason::Timeout)
                }
                // The answer to the last one is not out yet.
                WaitsFor::NextRequest if blocked => Due::Later(now + 1_000),
                WaitsFor::NextRequest => {
                    let since = http1.since_ms.max(said);
                    after(since, seconds(limits.keep_alive_s), CloseReason::Normal)
                }
                WaitsFor::Body if !connection.receive_paused => {
                    after(heard, seconds(limits.body_idle_timeout_s), CloseReason::Timeout)
                }
                WaitsFor::Body | WaitsFor::Us => Due::Later(now + 1_000),
            },
            Session::WebSocket(socket) => match socket.pinged {
                Some(pinged) => {
                    after(pinged.ms(), seconds(limits.pong_timeout_s), CloseReason::NoPong)
                }
                None if now >= heard + beat => Due::Ping(now + seconds(limits.pong_timeout_s)),
                None => Due::Later(heard + beat),
            },
            Session::Client(own) => {
                let (connect, pong) = (limits.head_timeout_s, limits.pong_timeout_s);
                match own.client.due(now, seconds(connect), beat, seconds(pong)) {
                    Beat::Stale => Due::End(CloseReason::Timeout),
                    Beat::NoPong => Due::End(CloseReason::NoPong),
                    Beat::Ping => Due::Ping(now + beat.min(seconds(pong))),
                    Beat::Later(at) => Due::Later(at),
                }
            }
            Session::Sse if blocked => Due::Later(said + beat * STALLED_HEARTBEATS),
            Session::Sse if now >= said + beat => Due::Ping(now + beat),
            Session::Sse => Due::Later(said + beat),
            Session::Http2(http2) => {
                if !http2.is_idle() {
                    http2.active_ms = now;
                }
                let (idle, pong) = (seconds(limits.keep_alive_s), seconds(limits.pong_timeout_s));
                match http2.pinged_ms {
                    Some(pinged) => after(pinged, pong, CloseReason::NoPong),
                    None if now >= http2.active_ms + idle => Due::End(CloseReason::Normal),
                    None => Due::Ping(now + http2_look_ms(limits)),
                }
            }
            Session::Silent => Due::CloseNow,
        }
    }

    /// A deadline passed. Half a request head gets an answer; the rest is said as ever.
    fn time_out(&mut self, conn: ConnId, reason: CloseReason) {
        let is_http1 = self
            .connections
            .get(conn)
            .is_some_and(|connection| matches!(connection.session, Session::Http1(_)));
        if is_http1 && reason == CloseReason::Timeout {
            self.time_out_http1(conn);
        } else {
            self.end_connection(conn, reason);
        }
    }

    /// A ping, or a comment that keeps proxies from closing an event stream.
    fn heartbeat(&mut self, conn: ConnId) {
        let (now, beat) = (self.now.ms, u64::from(self.settings.limits.heartbeat_s) * 1_000);
        let Some(connection) = self.connections.get(conn) else { return };
        let heard = connection.heard.ms();
        let mut streams = Vec::new();
        let bytes = match &mut connection.session {
            Session::WebSocket(socket) => {
                socket.pinged = Some(Stamp::at(now));
                ws::encode_frame(ws::Opcode::Ping, b"")
            }
            Session::Client(own) => own.client.ping(now),
            Session::Sse => sse::HEARTBEAT.into(),
            Session::Http2(http2) => {
                streams.extend(http2.sse_indices());
                // A stamp may lie a tick ahead: that must not put the ping off by a whole look.
                if now + TICK_MS >= heard + beat && http2.session.ping() {
                    http2.pinged_ms = Some(now);
                }
                self.dirty.push(conn.slot);
                bytes::Bytes::new()
            }
            Session::Http1(_) | Session::Silent => return,
        };
        if !bytes.is_empty() {
            self.say(EndpointId::connection(conn.slot), bytes);
        }
        self.reset_stalled(conn, beat * STALLED_HEARTBEATS);
        self.time_out_bodies(conn, u64::from(self.settings.limits.body_idle_timeout_s) * 1_000);
        for index in streams {
            let stream = self.streams.get(index).filter(|stream| stream.client.is_none());
            let quiet = stream.is_some_and(|stream| now >= stream.said_ms + beat);
            if quiet {
                self.say(EndpointId::stream(index), bytes::Bytes::from_static(sse::HEARTBEAT));
            }
        }
    }
}

/// How often an HTTP/2 connection is looked at: as often as the shortest of what it may wait for,
/// so that everything ends within twice its time.
pub(super) fn http2_look_ms(limits: &Limits) -> u64 {
    let spans = [
        limits.heartbeat_s,
        limits.pong_timeout_s,
        limits.keep_alive_s,
        limits.body_idle_timeout_s,
    ];
    u64::from(spans.into_iter().min().unwrap_or(1)) * 1_000
}
