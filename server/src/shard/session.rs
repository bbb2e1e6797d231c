//! Sessions: what is spoken on a connection, and the loop that gives bytes to it.
//!
//! A connection starts as [`Session::Http1`], which also recognises HTTP/2's preface, and becomes
//! what the first request makes of it. While a session works on bytes it is taken out of its
//! connection, so nothing that it calls may need it: what has to come back to a session (a
//! publish's answer) comes in a later step of the turn.

use super::Shard;
use super::client::ClientSession;
use super::connection::{EndpointId, Subscriber};
use super::session_http1::Http1;
use super::session_http2::Http2;
use super::session_ws::WebSocket;
use super::settings::Settings;
use crate::driver::ConnId;
use proto::reason::CloseReason;

/// What is spoken.
#[derive(Debug, Default)]
pub enum Session {
    /// HTTP/1.1 requests, or the first bytes of a connection.
    Http1(Box<Http1>),
    /// HTTP/2.
    Http2(Box<Http2>),
    /// Frames, after the upgrade.
    WebSocket(WebSocket),
    /// The client protocol.
    Client(Box<ClientSession>),
    /// An event stream over HTTP/1.1: what comes in has no meaning.
    Sse,
    /// The connection ends, or its session is at work: what comes in is thrown away.
    #[default]
    Silent,
}

impl Session {
    /// A new connection's.
    pub fn fresh(settings: &Settings) -> Self {
        Self::Http1(Box::new(Http1::new(settings)))
    }

    /// What it is called in `/debug/connections`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Http1(_) => "http/1.1",
            Self::Http2(_) => "h2",
            Self::WebSocket(_) => "websocket",
            Self::Client(_) => "client",
            Self::Sse => "sse",
            Self::Silent => "closing",
        }
    }

    /// The client protocol, if that is what is spoken.
    pub fn client(&self) -> Option<&ClientSession> {
        match self {
            Self::Client(own) => Some(own),
            _ => None,
        }
    }

    /// Unfinished input it holds: half a head, half a message, what waits behind an answer.
    pub fn partial_bytes(&self) -> usize {
        match self {
            Self::Http1(http1) => http1.partial_bytes(),
            Self::WebSocket(socket) => socket.partial_bytes(),
            Self::Client(own) => own.partial_bytes(),
            Self::Http2(_) | Self::Sse | Self::Silent => 0,
        }
    }

    /// Heap beyond the connection's slot, for the ledger.
    pub fn memory_bytes(&self) -> usize {
        match self {
            Self::Http1(http1) => http1.memory_bytes(),
            Self::Http2(http2) => http2.memory_bytes(),
            Self::WebSocket(socket) => socket.memory_bytes(),
            Self::Client(own) => own.memory_bytes(),
            Self::Sse | Self::Silent => 0,
        }
    }
}

impl Shard {
    /// Gives received plaintext to the connection's session, from one session to the next.
    pub(super) fn process(&mut self, conn: ConnId, mut input: &[u8]) {
        while !input.is_empty() {
            let Some(connection) = self.connections.get(conn) else { return };
            let session = std::mem::take(&mut connection.session);
            let (session, used) = match session {
                Session::Http1(http1) => self.feed_http1(conn, http1, input),
                Session::Http2(http2) => self.feed_http2(conn, http2, input),
                Session::WebSocket(socket) => self.feed_ws(conn, socket, input),
                Session::Client(own) => self.feed_client(conn, own, input),
                Session::Sse => (Session::Sse, input.len()),
                Session::Silent => (Session::Silent, input.len()),
            };
            let Some(connection) = self.connections.get(conn) else { return };
            // An end that was decided meanwhile stands.
            if connection.closing.is_none() {
                connection.session = session;
            }
            input = input.get(used..).unwrap_or_default();
        }
        self.charge_partial(conn);
    }

    /// Charges what a connection's session holds of unfinished input to the shard's pool. Full: the
    /// connection that took it over ends, so that many senders of halves cannot take the memory.
    pub(super) fn charge_partial(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get(conn) else { return };
        let held = connection.session.partial_bytes();
        let before = std::mem::replace(&mut connection.partial_bytes, held as u32) as usize;
        self.partial_bytes = self.partial_bytes + held - before;
        if held > before && self.partial_bytes > self.settings.partial_input_bytes_max {
            self.stats.counters.connections_failed += 1;
            self.end_connection(conn, CloseReason::Overload);
        }
    }

    /// Sets an endpoint's subscriptions.
    pub(super) fn set_subscriber(&mut self, endpoint: EndpointId, subscriber: Subscriber) {
        match endpoint.split() {
            Err(slot) => {
                if let Some(connection) = self.connections.slot(slot) {
                    connection.subscriber = Some(subscriber);
                }
            }
            Ok(index) => {
                if let Some(stream) = self.streams.get_mut(index) {
                    stream.subscriber = Some(subscriber);
                }
            }
        }
    }

    /// An endpoint's subscriptions.
    pub(super) fn subscriber_mut(&mut self, endpoint: EndpointId) -> Option<&mut Subscriber> {
        match endpoint.split() {
            Err(slot) => self.connections.slot(slot)?.subscriber.as_mut(),
            Ok(index) => self.streams.get_mut(index)?.subscriber.as_mut(),
        }
    }

    /// Takes an endpoint's subscriptions away.
    pub(super) fn take_subscriber(&mut self, endpoint: EndpointId) -> Option<Subscriber> {
        match endpoint.split() {
            Err(slot) => self.connections.slot(slot)?.subscriber.take(),
            Ok(index) => self.streams.get_mut(index)?.subscriber.take(),
        }
    }

    /// Bytes that wait for an endpoint.
    pub(super) fn queued_bytes(&mut self, endpoint: EndpointId) -> usize {
        match endpoint.split() {
            Err(slot) => self.connections.slot(slot).map_or(0, |c| c.outbox.queued_bytes()),
            Ok(index) => {
                let Some(stream) = self.streams.get(index) else { return 0 };
                let (conn, key, own) = (stream.conn, stream.key, stream.outbox.queued_bytes());
                let session = self.connections.get(conn).map(|c| &c.session);
                let inside = match session {
                    Some(Session::Http2(http2)) => http2.session.queued_bytes(key),
                    _ => 0,
                };
                own + inside
            }
        }
    }
}
