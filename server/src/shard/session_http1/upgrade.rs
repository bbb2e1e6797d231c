//! Requests that become something else: a WebSocket, a client of the client protocol, an event
//! stream.

use super::{Http1, Next};
use crate::auth::Caller;
use crate::driver::ConnId;
use crate::mesh::Place;
use crate::shard::Shard;
use crate::shard::client::{Client, ClientSession};
use crate::shard::connection::{EndpointId, Subscriber};
use crate::shard::format::Format;
use crate::shard::http::{Response, SubscribeRequest};
use crate::shard::notices;
use crate::shard::session::Session;
use crate::shard::session_ws::WebSocket;
use proto::centrifuge::Encoding;
use proto::http1::Request;
use proto::reason::CloseReason;
use proto::ws;
use proto::ws::deflate::Agreement;

impl Shard {
    pub(super) fn upgrade(
        &mut self,
        conn: ConnId,
        http1: &mut Http1,
        request: &Request,
        mut subscribe: SubscribeRequest,
        caller: Option<Caller>,
    ) -> Next {
        let accept = match handshake(request) {
            Ok(accept) => accept,
            Err(response) => return self.respond_http1(conn, http1, request, response),
        };
        if let Err(response) = self.may_subscribe() {
            return self.respond_http1(conn, http1, request, response);
        }
        let agreed = self.agree_on_deflate(request);
        if let Some(agreed) = agreed {
            subscribe.format = subscribe.format.deflated(agreed.window);
        }
        let extensions = agreed.map(|agreed| ("sec-websocket-extensions", agreed.response()));
        let mut out = Vec::new();
        if accept.write_response(&mut out, None, extensions.as_slice()).is_err() {
            self.end_connection(conn, CloseReason::Internal);
            return Next::Stay;
        }
        let endpoint = EndpointId::connection(conn.slot);
        self.say(endpoint, out);
        self.set_caller(endpoint, caller.unwrap_or_default());
        self.schedule_heartbeat(conn);
        self.subscribe(endpoint, subscribe);
        Next::Become(Session::WebSocket(WebSocket::new(agreed.is_some())))
    }

    /// What a WebSocket handshake offers of permessage-deflate and the configuration permits.
    fn agree_on_deflate(&self, request: &Request) -> Option<Agreement> {
        let offered = self.settings.limits.ws_deflate_bytes_min > 0;
        offered.then(|| ws::deflate::negotiate(request)).flatten()
    }

    /// A WebSocket of the client protocol. What it may do is asked command by command.
    pub(super) fn upgrade_client(
        &mut self,
        conn: ConnId,
        http1: &mut Http1,
        request: &Request,
        encoding: Option<Encoding>,
        caller: Option<Caller>,
    ) -> Next {
        let accept = match handshake(request) {
            Ok(accept) => accept,
            Err(response) => return self.respond_http1(conn, http1, request, response),
        };
        if self.drain.is_some() {
            let text = "the server drains; connect elsewhere";
            let response = Response::error(503, "draining", text);
            return self.respond_http1(conn, http1, request, response);
        }
        let known = [Encoding::Protobuf, Encoding::Json].map(Encoding::subprotocol);
        let offered = ws::handshake::choose_protocol(request, &known);
        let encoding = offered.and_then(Encoding::from_subprotocol).or(encoding);
        let agreed = self.agree_on_deflate(request);
        let extensions = agreed.map(|agreed| ("sec-websocket-extensions", agreed.response()));
        let mut out = Vec::new();
        if accept.write_response(&mut out, offered, extensions.as_slice()).is_err() {
            self.end_connection(conn, CloseReason::Internal);
            return Next::Stay;
        }
        let endpoint = EndpointId::connection(conn.slot);
        self.say(endpoint, out);
        let id = u128::from(self.random()) << 64 | u128::from(self.random());
        let encoding = encoding.unwrap_or(Encoding::Json);
        let format = Format::client(encoding);
        let format = agreed.map_or(format, |agreed| format.deflated(agreed.window));
        let client = Client::new(Place::connection(conn), format, id, self.now.ms);
        self.set_subscriber(endpoint, Subscriber::changing(client.format()));
        self.set_caller(endpoint, caller.unwrap_or_default());
        let connect_ms = u64::from(self.settings.limits.head_timeout_s) * 1_000;
        self.wheel.schedule(conn.slot, self.now.ms + connect_ms);
        let socket = WebSocket::new(agreed.is_some());
        Next::Become(Session::Client(Box::new(ClientSession { socket, client })))
    }

    pub(super) fn start_sse(
        &mut self,
        conn: ConnId,
        http1: &mut Http1,
        subscribe: SubscribeRequest,
        caller: Option<Caller>,
    ) -> Next {
        let endpoint = EndpointId::connection(conn.slot);
        self.write_sse_head(conn, http1);
        if let Some(reason) = self.stream_refusal(caller.as_ref()) {
            let mut words = Vec::new();
            notices::write_reason(&mut words, reason);
            self.finish_connection(conn, CloseReason::Overload, Some(words.into()));
            return Next::Stay;
        }
        self.set_caller(endpoint, caller.unwrap_or_default());
        self.schedule_heartbeat(conn);
        self.subscribe(endpoint, subscribe);
        Next::Become(Session::Sse)
    }
}

/// Checks an upgrade to WebSocket.
fn handshake(request: &Request) -> Result<ws::handshake::Accept, Response> {
    ws::handshake::validate(request).map_err(|error| {
        let mut response = Response::error(error.status(), "bad_handshake", &error.to_string());
        for (name, value) in error.headers() {
            response = response.with(name, *value);
        }
        response
    })
}
