//! Emulated clients: a stream of HTTP carries what a client gets, and its commands come one request
//! at a time to `POST /emulation`, over whichever connection, shard and version of HTTP.
//!
//! The request of the stream brings the first commands. The answer to `connect` names the session
//! and this run of this server; a command names both. The shard that takes the request sends the
//! commands over its control lane to the shard in the name and answers when that one has taken
//! them. Of one session they are taken in the order in which its shard gets them; behind a parked
//! publish they wait in `Client::held`, as the rest of a frame does.
//!
//! What is answered: 204 once the commands are taken, and also when the session is gone, since its
//! client learns that from the end of its stream; 404 when the commands are for another run or
//! server, which makes an SDK begin anew; 413 over `message_bytes_max`; 429 when too much waits
//! behind a parked publish; 503 when too many requests of this shard are under way. A name that
//! nobody has is answered like that of a session which is gone: it can not be found out by asking.
//!
//! Bounded: requests under way by [`EMULATIONS_MAX`] with their bodies in the pool of all bodies,
//! what waits at a client by `message_bytes_max`, and that of all of them by the pool of unfinished
//! input.
//!
//! Threads: the shard's. Tested over real sockets by `tests/tests/it/emulation.rs`, with the SDK.

use super::name::{Secret, SessionName};
use super::{Client, ClientSession};
use crate::auth::Caller;
use crate::driver::ConnId;
use crate::mesh::{Ask, Deliver, Place, ShardId};
use crate::shard::Shard;
use crate::shard::connection::{EndpointId, Subscriber};
use crate::shard::format::Format;
use crate::shard::http::Response;
use crate::shard::publish::Asker;
use crate::shard::session_ws::{After, WebSocket};
use bytes::Bytes;
use proto::centrifuge::{
    Commands, DecodeError, DisconnectCode, Encoding, Limits, Request, read_emulation,
};
use proto::reason::CloseReason;
use std::collections::BTreeMap;

/// Requests to `POST /emulation` under way at once on one shard.
const EMULATIONS_MAX: usize = 4_096;

/// What became of commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emulated {
    /// They were carried out, or wait for their turn.
    Taken,
    /// Their session is not there any more, or never was.
    Gone,
    /// Too many wait already.
    Full,
}

/// The requests of a shard whose commands are under way.
#[derive(Debug, Default)]
pub struct Emulations {
    waiting: BTreeMap<u64, Waiting>,
    next: u64,
}

#[derive(Debug)]
struct Waiting {
    asker: Asker,
    /// Charged to the pool of bodies.
    bytes: usize,
}

impl Shard {
    /// The body that opens a stream is complete: the client's first commands. `None`: there was a
    /// token in its URL, and must not be. A browser shows no answer but a stream, so it gets one.
    pub(in crate::shard) fn start_client(
        &mut self,
        asker: Asker,
        caller: Caller,
        format: Format,
        commands: Option<&[u8]>,
    ) {
        if self.drain.is_some() {
            let response = Response::error(503, "draining", "the server drains; connect elsewhere");
            return self.answer(asker, response);
        }
        let Some(at) = self.answer_with_stream(asker, stream_response(format)) else { return };
        let endpoint = EndpointId::of(at);
        let id = u128::from(self.random()) << 64 | u128::from(self.random());
        let mut client = Client::new(at, format, id, self.now.ms);
        client.secret = Secret((self.secrets)());
        self.set_subscriber(endpoint, Subscriber::changing(format));
        self.set_caller(endpoint, caller);
        if format.is_events() {
            // Makes an `EventSource` open before the first event.
            self.say(endpoint, Bytes::from_static(b"\r\n"));
        }
        let mut own = Box::new(ClientSession { socket: WebSocket::new(false), client });
        match commands {
            Some(commands) => self.carry_out(&mut own, commands),
            None => {
                let to = own.client.outlet;
                self.disconnect(to, DisconnectCode::InvalidToken, Some(TOKEN_IN_URL));
            }
        }
        self.put_session(own);
        self.charge_client(at);
        if self.session_mut(at).is_some() {
            self.look_soon(at.conn);
            self.end_if_done(at.conn);
        }
    }

    /// Sees to it that a client which is let in is pinged.
    pub(super) fn schedule_beat(&mut self, at: Place) {
        if at.stream == 0 {
            self.schedule_heartbeat(at.conn);
        } else {
            self.look_soon(at.conn);
        }
    }

    /// The body of `POST /emulation` is complete.
    pub(in crate::shard) fn start_emulation(
        &mut self,
        asker: Asker,
        encoding: Encoding,
        body: &Bytes,
    ) {
        if let Err(response) = self.try_emulation(asker, encoding, body) {
            self.answer(asker, response);
        }
    }

    fn try_emulation(
        &mut self,
        asker: Asker,
        encoding: Encoding,
        body: &Bytes,
    ) -> Result<(), Response> {
        let request = read_emulation(encoding, body, &Limits::DEFAULT).map_err(|error| {
            self.stats.counters.emulations_invalid += 1;
            unreadable(&error)
        })?;
        if request.node != self.settings.run_name {
            self.stats.counters.emulations_elsewhere += 1;
            let text = "the session is not of this run of this server; connect again";
            return Err(Response::error(404, "unknown_node", text));
        }
        let name = request.session.parse::<SessionName>().ok();
        let Some(name) = name.filter(|name| name.shard.index() < self.mesh.shards()) else {
            self.stats.counters.emulations_gone += 1;
            return Err(taken());
        };
        if self.emulations.waiting.len() >= EMULATIONS_MAX {
            self.stats.counters.emulations_full += 1;
            let text = "too many commands are under way; try again in a moment";
            return Err(Response::error(503, "busy", text));
        }
        let commands = match request.data {
            std::borrow::Cow::Borrowed(data) => body.slice_ref(data),
            std::borrow::Cow::Owned(data) => data.into(),
        };
        self.emulations.next += 1;
        let ticket = self.emulations.next;
        self.publishes.hold(body.len());
        self.emulations.waiting.insert(ticket, Waiting { asker, bytes: body.len() });
        self.ask_shard(name.shard, Ask::Emulate { ticket, name, commands });
        Ok(())
    }

    /// Another shard, or this one, has commands for a client here.
    pub(in crate::shard) fn on_emulate(
        &mut self,
        from: ShardId,
        ticket: u64,
        name: &SessionName,
        commands: &[u8],
    ) {
        let outcome = self.emulate(name, commands);
        self.mesh.deliver(from, Deliver::Emulated { ticket, outcome });
    }

    fn emulate(&mut self, name: &SessionName, commands: &[u8]) -> Emulated {
        let held_max = self.settings.limits.message_bytes_max as usize;
        let Some(at) = self.place_of(name.endpoint) else { return Emulated::Gone };
        let Some(own) = self.session_mut(at) else { return Emulated::Gone };
        let client = &mut own.client;
        if !client.is_named() || client.secret != name.secret {
            return Emulated::Gone;
        }
        if own.socket.is_parked() || !client.held.is_empty() {
            let separator = client.format().encoding().separator();
            if client.held.len() + separator.len() + commands.len() > held_max {
                return Emulated::Full;
            }
            // One frame like the rest that is held already.
            if !client.held.is_empty() {
                client.held.extend_from_slice(separator);
            }
            client.held.extend_from_slice(commands);
            self.charge_client(at);
            return Emulated::Taken;
        }
        if let Some(mut own) = self.take_session(at) {
            self.carry_out(&mut own, commands);
            self.put_session(own);
            self.charge_client(at);
        }
        Emulated::Taken
    }

    fn carry_out(&mut self, own: &mut ClientSession, commands: &[u8]) {
        if let After::Park = self.on_commands(&mut own.client, commands) {
            own.socket.park(&self.settings.limits);
        }
    }

    /// The answer of the session's shard.
    pub(in crate::shard) fn on_emulated(&mut self, ticket: u64, outcome: Emulated) {
        let Some(Waiting { asker, bytes }) = self.emulations.waiting.remove(&ticket) else {
            return;
        };
        self.publishes.let_go(bytes);
        let counters = &mut self.stats.counters;
        let response = match outcome {
            Emulated::Taken => {
                counters.emulations_taken += 1;
                taken()
            }
            Emulated::Gone => {
                counters.emulations_gone += 1;
                taken()
            }
            Emulated::Full => {
                counters.emulations_full += 1;
                let text = "too many commands of this client wait; send them more slowly";
                Response::error(429, "too_many_commands", text)
            }
        };
        self.answer(asker, response);
    }

    /// Charges what a client holds of commands that wait. A pool that is full ends it.
    pub(super) fn charge_client(&mut self, at: Place) {
        if at.stream == 0 {
            return self.charge_partial(at.conn);
        }
        let held = self.session_mut(at).map_or(0, |own| own.partial_bytes());
        let index = self.streams.find(at.stream);
        let Some(stream) = index.and_then(|index| self.streams.get_mut(index)) else { return };
        let before = std::mem::replace(&mut stream.partial_bytes, held as u32) as usize;
        self.partial_bytes = self.partial_bytes + held - before;
        if held > before && self.partial_bytes > self.settings.partial_input_bytes_max {
            self.stats.counters.connections_failed += 1;
            self.end_endpoint(EndpointId::of(at), CloseReason::Overload);
        }
    }

    /// True if a client's connection may not have so many subscriptions more.
    pub(super) fn has_no_room(&mut self, client: &Client, more: usize) -> bool {
        let at = client.outlet.at;
        let held = if at.stream == 0 { client.subs.len() } else { self.channels_on(at.conn) };
        held + more > usize::from(self.settings.limits.channels_per_connection_max)
    }

    /// Ends every client on the streams of a connection.
    pub(in crate::shard) fn end_clients(&mut self, conn: ConnId, reason: CloseReason) {
        for at in self.clients_of(conn).into_iter().filter(|at| at.stream != 0) {
            self.end_endpoint(EndpointId::of(at), reason);
        }
    }
}

/// What to do instead.
const TOKEN_IN_URL: &str = "it is in the URL and gets into logs; use another transport, or set \
                            auth.token_in_url";

/// The first commands in a URL must not bring a token where tokens are not taken from URLs.
pub(in crate::shard) fn brings_token(commands: &str) -> bool {
    let mut commands = Commands::new(Encoding::Json, commands.as_bytes(), Limits::DEFAULT);
    commands.any(|command| {
        let token = match command.ok().and_then(|command| command.request) {
            Some(Request::Connect(request)) => request.token,
            Some(Request::Subscribe(request)) => request.token,
            Some(Request::Refresh(request)) => request.token,
            Some(Request::SubRefresh(request)) => request.token,
            _ => return false,
        };
        !token.is_empty()
    })
}

fn taken() -> Response {
    Response::empty(204)
}

fn unreadable(error: &DecodeError) -> Response {
    let text = format!("{error}; send `session`, `node` and the commands as `data`");
    Response::error(400, "bad_request", &text)
}

/// The head of a stream; nothing on the way may keep or change it.
fn stream_response(format: Format) -> Response {
    let content_type = match (format.is_events(), format.encoding()) {
        (true, _) => "text/event-stream",
        (false, Encoding::Json) => "application/x-ndjson",
        (false, Encoding::Protobuf) => "application/octet-stream",
    };
    Response::empty(200)
        .with("content-type", content_type)
        .with("cache-control", "no-store, no-transform")
        .with("x-accel-buffering", "no")
        .with("x-content-type-options", "nosniff")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_in_the_first_commands_is_found_wherever_it_stands() {
        for text in [
            r#"{"id":1,"connect":{"token":"t"}}"#,
            "{\"id\":1,\"ping\":{}}\n{\"id\":2,\"connect\":{\"token\":\"t\"}}",
            r#"{"connect":{"token":"\u0074"},"id":1}"#,
            "{\"id\":1,\"connect\":{}}\n{\"id\":2,\"refresh\":{\"token\":\"t\"}}",
            r#"{"id":2,"subscribe":{"channel":"c","token":"t"}}"#,
            r#"{"id":2,"sub_refresh":{"channel":"c","token":"t"}}"#,
        ] {
            assert!(brings_token(text), "{text}");
        }
        for text in ["", "{", r#"{"id":1,"connect":{}}"#, r#"{"id":1,"connect":{"token":""}}"#] {
            assert!(!brings_token(text), "{text}");
        }
    }
}
