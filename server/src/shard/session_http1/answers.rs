//! Answers over HTTP/1.1: whole ones, streamed ones, and those that end the connection.

use super::{Http1, Phase, sse_response};
use crate::driver::{ConnId, ReceiveMode};
use crate::mesh::Place;
use crate::shard::connection::EndpointId;
use crate::shard::http::Response;
use crate::shard::http::origin;
use crate::shard::session::Session;
use crate::shard::{Command, Shard};
use proto::http1::{self, Framing};
use proto::reason::CloseReason;
use proto::sse;

impl Shard {
    pub(in crate::shard) fn write_sse_head(&mut self, conn: ConnId, http1: &Http1) {
        let mut response = sse_response();
        origin::add_cors(&mut response, &http1.cors);
        let mut out = Vec::with_capacity(256);
        let fields: Vec<(&str, &str)> =
            response.headers.iter().map(|(name, value)| (*name, &**value)).collect();
        let written = http1::write_head(&mut out, 200, &fields, Framing::UntilClose, false);
        debug_assert!(written.is_ok(), "our own fields are legal");
        self.stats.answered(200);
        let retry_ms = self.retry_ms();
        sse::write_retry(&mut out, retry_ms);
        self.say(EndpointId::connection(conn.slot), out);
    }

    /// Makes the answer a stream that ends with the connection; gives its place.
    pub(in crate::shard) fn stream_http1(
        &mut self,
        conn: ConnId,
        mut response: Response,
    ) -> Option<Place> {
        let connection = self.connections.get(conn)?;
        let Session::Http1(http1) = &connection.session else { return None };
        origin::add_cors(&mut response, &http1.cors);
        let fields: Vec<(&str, &str)> =
            response.headers.iter().map(|(name, value)| (*name, &**value)).collect();
        let mut out = Vec::with_capacity(256);
        let written = http1::write_head(&mut out, 200, &fields, Framing::UntilClose, false);
        debug_assert!(written.is_ok(), "our own fields are legal");
        // What came behind the request has no meaning any more.
        connection.session = Session::Silent;
        let busy = std::mem::take(&mut connection.chatty);
        if (std::mem::take(&mut connection.receive_paused) || busy) && !connection.peer_done {
            self.commands.push(Command::Arm(conn, ReceiveMode::Poll));
        }
        self.stats.answered(200);
        self.say(EndpointId::connection(conn.slot), out);
        Some(Place::connection(conn))
    }

    /// Answers what breaks the protocol and ends the connection.
    pub(in crate::shard) fn refuse_http1(
        &mut self,
        conn: ConnId,
        http1: &mut Http1,
        response: Response,
    ) {
        self.stats.counters.connections_failed += 1;
        http1.keep_alive = false;
        if let Some(publish) = http1.publish
            && self.break_publish(publish, response.clone())
        {
            // The answer says what was taken before the body broke.
            http1.phase = Phase::Answering;
            return;
        }
        self.write_http1(conn, http1, response);
    }

    /// Writes a complete answer; ends the connection if nothing may follow.
    pub(in crate::shard) fn write_http1(
        &mut self,
        conn: ConnId,
        http1: &mut Http1,
        mut response: Response,
    ) {
        origin::add_cors(&mut response, &http1.cors);
        let framing = match response.status {
            204 | 304 => Framing::None,
            _ => Framing::Length(response.body.len() as u64),
        };
        let fields: Vec<(&str, &str)> =
            response.headers.iter().map(|(name, value)| (*name, &**value)).collect();
        let mut out = Vec::with_capacity(256 + response.body.len().min(4_096));
        let status = response.status;
        let written = http1::write_head(&mut out, status, &fields, framing, http1.keep_alive);
        if written.is_err() {
            // A field from outside that cannot be sent: say nothing rather than split a response.
            self.end_connection(conn, CloseReason::Internal);
            return;
        }
        self.stats.answered(status);
        let endpoint = EndpointId::connection(conn.slot);
        let with_body = !http1.head_only && framing != Framing::None;
        if with_body && response.body.len() <= 4_096 {
            out.extend_from_slice(&response.body);
            self.say(endpoint, out);
        } else {
            self.say(endpoint, out);
            if with_body {
                self.say(endpoint, response.body);
            }
        }
        http1.publish = None;
        http1.since_ms = self.now.ms;
        let keep_alive_ms = u64::from(self.settings.limits.keep_alive_s) * 1_000;
        self.wheel.schedule(conn.slot, self.now.ms + keep_alive_ms);
        if !http1.keep_alive {
            self.finish_connection(conn, CloseReason::Normal, None);
        }
    }

    /// The answer to a request that took its time. `unread`: its body was not read to the end.
    pub(in crate::shard) fn answer_http1(
        &mut self,
        conn: ConnId,
        response: Response,
        unread: bool,
    ) {
        let Some(connection) = self.connections.get(conn) else { return };
        let mut http1 = match std::mem::take(&mut connection.session) {
            Session::Http1(http1) => http1,
            other => {
                connection.session = other;
                return;
            }
        };
        // A client that has closed its side still gets an answer to all that it has sent.
        let done = connection.peer_done && http1.leftover.is_empty();
        http1.keep_alive &= !unread && !done;
        http1.phase = Phase::Head;
        self.write_http1(conn, &mut http1, response);
        if let Some(connection) = self.connections.get(conn)
            && connection.closing.is_none()
        {
            connection.session = Session::Http1(http1);
            self.resumable.push(Place::connection(conn));
        }
    }

    /// Half a head or body came and no more: an answer that says so, and the end.
    pub(in crate::shard) fn time_out_http1(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get(conn) else { return };
        let session = std::mem::take(&mut connection.session);
        let Session::Http1(mut http1) = session else {
            connection.session = session;
            return;
        };
        if http1.requests == 0 && http1.parser.is_idle() {
            // Nothing was ever asked: there is nobody to answer.
            self.end_connection(conn, CloseReason::Timeout);
            return;
        }
        let text = "the request did not arrive in time; send head and body without long pauses";
        self.refuse_http1(conn, &mut http1, Response::error(408, "request_timeout", text));
        if let Some(connection) = self.connections.get(conn)
            && connection.closing.is_none()
        {
            self.wheel.schedule(conn.slot, connection.heard.ms() + 60_000);
            connection.session = Session::Http1(http1);
        }
    }

    /// Starts an answer that comes in pieces.
    pub(in crate::shard) fn start_chunked(&mut self, conn: ConnId, mut response: Response) {
        let Some(connection) = self.connections.get(conn) else { return };
        let Session::Http1(http1) = &mut connection.session else { return };
        let framing = if http1.chunks { Framing::Chunked } else { Framing::UntilClose };
        http1.keep_alive &= http1.chunks;
        origin::add_cors(&mut response, &http1.cors);
        let fields: Vec<(&str, &str)> =
            response.headers.iter().map(|(name, value)| (*name, &**value)).collect();
        let mut out = Vec::new();
        let written = http1::write_head(&mut out, 200, &fields, framing, http1.keep_alive);
        debug_assert!(written.is_ok(), "our own fields are legal");
        self.stats.answered(200);
        self.say(EndpointId::connection(conn.slot), out);
    }

    /// A piece of such an answer.
    pub(in crate::shard) fn chunk_http1(&mut self, conn: ConnId, piece: &[u8], last: bool) {
        let Some(connection) = self.connections.get(conn) else { return };
        let Session::Http1(http1) = &mut connection.session else { return };
        let mut out = Vec::with_capacity(piece.len() + 16);
        if !http1.head_only {
            if http1.chunks {
                http1::write_chunk(&mut out, piece);
                if last {
                    http1::write_last_chunk(&mut out);
                }
            } else {
                out.extend_from_slice(piece);
            }
        }
        let ends = last && !http1.keep_alive;
        if last {
            http1.phase = Phase::Head;
            http1.since_ms = self.now.ms;
        }
        self.say(EndpointId::connection(conn.slot), out);
        if ends {
            self.finish_connection(conn, CloseReason::Normal, None);
        } else if last {
            self.resumable.push(Place::connection(conn));
        }
    }
}
