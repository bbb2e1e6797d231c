//! Sessions of the client protocol (Centrifugo's, `proto::centrifuge`): commands in, replies and
//! pushes out.
//!
//! A client's subscriptions come and go on one connection; each is a subscription like any other,
//! so ordering, history, resume and budgets are the channel's. What the protocol adds is here: the
//! command that waits for a join's answer, recovery inside the answer, ping and pong.
//!
//! Invariants: `connect` comes first and once; a subscription of [`Client::subs`] has the number of
//! one of the connection's subscriptions; commands of one client are taken in order, and while a
//! publish is parked or a connect waits for the subscriptions of its token, the rest of its frame
//! waits here and nothing more is read.
//!
//! A client speaks over a WebSocket, or is *emulated*: a stream of HTTP carries what it gets, and
//! its commands come in requests beside that (`emulation`). Nothing else here knows the difference
//! but where a message is framed ([`Format`]) and how a client ends.
//!
//! Bounded: subscriptions by `channels_per_connection_max`, a frame by `message_bytes_max`, and
//! commands that wait for an answer by [`PENDING_MAX`].
//!
//! Deliberately absent: encodings (`format` for publications, `proto` for all else), the socket
//! (`session_ws`), who may do what (`access`).
//!
//! Threads: the shard's. Tested over real sockets by `tests/tests/it/client.rs`, with the SDKs, and
//! in the simulated world.

mod commands;
mod emulation;
mod filter;
mod name;
mod newest;
mod presence;
mod publish;
mod reads;
mod recovery;
mod remote;
mod server_side;
mod start;
mod subscriptions;
mod tokens;

pub(super) use commands::uuid_bits;
pub(super) use emulation::brings_token;
pub use emulation::{Emulated, Emulations};
pub use filter::TagsFilter;
pub use name::SessionName;
pub(super) use presence::{info, membership};
pub use recovery::Recoveries;
pub(super) use recovery::block;
pub use server_side::Order;
pub use subscriptions::Joined;
pub(super) use subscriptions::{publication, with_delta};

use super::Shard;
use super::connection::{EndpointId, Stamp};
use super::floods::Bucket;
use super::format::Format;
use super::session::Session;
use super::session_ws::{After, WebSocket};
use crate::auth::{Overrides, TokenError};
use crate::driver::ConnId;
use crate::mesh::{Identity, Place};
use bytes::Bytes;
use name::Secret;
use proto::centrifuge::{DisconnectCode, ErrorCode, ErrorReply, Reply, ReplyBody, write_reply};
use proto::reason::CloseReason;
use proto::ws::CLOSE_REASON_BYTES_MAX;
use server_side::Connecting;
use smallvec::SmallVec;
use std::sync::Arc;

/// Publishes and reads of one client whose answers are on their way; more get `too many requests`.
const PENDING_MAX: u16 = 1_024;

/// A session of the protocol.
#[derive(Debug)]
pub struct ClientSession {
    /// Frames. Over a stream there are none, and only its being parked has a meaning.
    pub socket: WebSocket,
    /// What is in them.
    pub client: Client,
}

impl ClientSession {
    /// Unfinished input.
    pub fn partial_bytes(&self) -> usize {
        self.socket.partial_bytes() + self.client.held.capacity()
    }

    /// Its bytes and heap beyond them, for the ledger; what is unfinished is counted apart.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.socket.memory_bytes() + self.client.memory_bytes()
    }
}

/// Where what is said to a client goes, and how it is written.
#[derive(Debug, Clone, Copy)]
pub struct Outlet {
    at: Place,
    format: Format,
}

/// One client.
#[derive(Debug)]
pub struct Client {
    outlet: Outlet,
    /// `connect` was answered.
    connected: bool,
    /// Pings that are not answered yet: with a short heartbeat several.
    pongs_due: u16,
    /// When the last ping went out.
    pinged: Stamp,
    /// A random UUID.
    id: u128,
    /// Opens an emulated client's session.
    secret: Secret,
    /// Its user; `None` if anonymous.
    identity: Option<Arc<Identity>>,
    subs: Vec<Sub>,
    /// What its commands may still cost.
    bucket: Bucket,
    /// Commands whose answers are on their way.
    pending: u16,
    /// The rest of a frame, behind a publish that is parked or a connect that waits.
    held: Vec<u8>,
    /// Its `connect` waits for the subscriptions of its token.
    connecting: Option<Box<Connecting>>,
}

/// A subscription of a client.
#[derive(Debug)]
struct Sub {
    /// Its number among the connection's subscriptions.
    number: u16,
    /// The offset asked for, if the client wants to recover.
    recover: Option<u64>,
    /// It wants an error rather than a start from now.
    strict: bool,
    /// The command to answer; 0 once it was.
    command: u32,
    /// Its publications may be deltas.
    delta: bool,
    /// What few subscriptions have.
    extra: Option<Box<Extra>>,
}

/// What few subscriptions have.
#[derive(Debug, Default, PartialEq)]
struct Extra {
    /// It gets only what passes.
    filter: Option<TagsFilter>,
    /// When it ends, in Unix seconds.
    expires_at_s: Option<i64>,
    /// What its token shows to others.
    info: Option<Arc<[u8]>>,
    /// What its token changes of the namespace's options.
    overrides: Overrides,
    /// It cannot be gone on with after a cut.
    unrecoverable: bool,
    /// Its position is none that the client should know.
    unpositioned: bool,
    /// The server made it; with what the client is told of it.
    server: Option<ByServer>,
}

/// What a subscription has that the server made.
#[derive(Debug, Default, PartialEq)]
struct ByServer {
    /// The application's own, for the client.
    data: Option<Bytes>,
}

impl Sub {
    fn expires_at_s(&self) -> Option<i64> {
        self.extra.as_ref()?.expires_at_s
    }

    fn is_by_server(&self) -> bool {
        self.extra.as_ref().is_some_and(|extra| extra.server.is_some())
    }
}

impl Extra {
    /// In a box, if there is anything of it.
    fn boxed(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }

    fn memory_bytes(&self) -> usize {
        let data = self.server.as_ref().and_then(|server| server.data.as_ref());
        size_of::<Self>()
            + self.filter.as_ref().map_or(0, TagsFilter::memory_bytes)
            + data.map_or(0, Bytes::len)
            // Presence may hold the same allocation: counted in both places.
            + self.info.as_ref().map_or(0, |info| info.len())
    }
}

impl Client {
    /// A client whose connection has just begun.
    pub fn new(at: Place, format: Format, id: u128, now_ms: u64) -> Self {
        Self {
            outlet: Outlet { at, format },
            connected: false,
            pongs_due: 0,
            pinged: Stamp::at(now_ms),
            id,
            secret: Secret::default(),
            identity: None,
            subs: Vec::new(),
            bucket: Bucket::default(),
            pending: 0,
            held: Vec::new(),
            connecting: None,
        }
    }

    /// How its events are written.
    pub fn format(&self) -> Format {
        self.outlet.format
    }

    /// True if commands for it come beside its stream, and it has heard under which name.
    fn is_named(&self) -> bool {
        self.connected && self.outlet.format.is_stream()
    }

    /// The endpoint that it is.
    fn endpoint(&self) -> EndpointId {
        EndpointId::of(self.outlet.at)
    }

    /// Heap beyond its own bytes, for the ledger.
    pub fn memory_bytes(&self) -> usize {
        let extras = self.subs.iter().filter_map(|sub| sub.extra.as_deref());
        self.subs.capacity() * size_of::<Sub>()
            + extras.map(Extra::memory_bytes).sum::<usize>()
            + self.connecting.as_ref().map_or(0, |connecting| connecting.memory_bytes())
    }

    /// The filter of a subscription.
    pub fn filter(&self, number: u16) -> Option<&TagsFilter> {
        self.subs.iter().find(|sub| sub.number == number)?.extra.as_ref()?.filter.as_ref()
    }

    /// When to look at it next, and what for.
    pub fn due(&self, now_ms: u64, connect_ms: u64, beat_ms: u64, pong_ms: u64) -> Beat {
        let pinged_ms = self.pinged.ms();
        if !self.connected {
            let until_ms = pinged_ms + connect_ms;
            return if now_ms >= until_ms { Beat::Stale } else { Beat::Later(until_ms) };
        }
        let ping_ms = pinged_ms + beat_ms;
        // The first of those that are not answered yet went out so many heartbeats before the last.
        let before = self.pongs_due.checked_sub(1).map(|more| u64::from(more) * beat_ms);
        let pong_ms = before.map(|before_ms| pinged_ms.saturating_sub(before_ms) + pong_ms);
        if pong_ms.is_some_and(|until_ms| now_ms >= until_ms) {
            Beat::NoPong
        } else if now_ms >= ping_ms {
            Beat::Ping
        } else {
            Beat::Later(pong_ms.map_or(ping_ms, |until_ms| ping_ms.min(until_ms)))
        }
    }

    /// The next ping; the client closes unless one comes in time, whatever else does.
    pub fn ping(&mut self, now_ms: u64) -> Bytes {
        self.pinged = Stamp::at(now_ms);
        self.pongs_due = self.pongs_due.saturating_add(1);
        let format = self.outlet.format;
        format.message(|out| out.extend_from_slice(format.encoding().ping()))
    }

    fn sub_mut(&mut self, number: u16) -> Option<&mut Sub> {
        self.subs.iter_mut().find(|sub| sub.number == number)
    }
}

/// What a client's timer leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    /// Nothing before then.
    Later(u64),
    /// It did not connect in time.
    Stale,
    /// It did not answer.
    NoPong,
    /// It is to be pinged.
    Ping,
}

impl Beat {
    /// When there is something to do.
    pub fn at_ms(self, now_ms: u64) -> u64 {
        if let Self::Later(at_ms) = self { at_ms } else { now_ms }
    }
}

/// Why a command is not carried out.
enum Refusal {
    /// The command is answered with an error.
    Reply(ErrorCode),
    /// The connection ends.
    Disconnect(DisconnectCode),
    /// The connection ends, and is told what is wrong with its token.
    Token(TokenError),
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Self::Reply(code)
    }
}

impl Shard {
    /// Gives what came in to a client's decoder.
    pub(super) fn feed_client(
        &mut self,
        conn: ConnId,
        mut own: Box<ClientSession>,
        input: &[u8],
    ) -> (Session, usize) {
        let ClientSession { socket, client } = &mut *own;
        if client.format().is_stream() {
            // What comes behind the request has no meaning.
            return (Session::Client(own), input.len());
        }
        let used = self.feed_frames(conn, socket, input, |shard, _text, frame| {
            shard.on_commands(client, frame)
        });
        (Session::Client(own), used)
    }

    /// Goes on with the rest of a frame whose publish has found room.
    pub(super) fn resume_client(&mut self, at: Place) {
        let Some(own) = self.session_mut(at) else { return };
        let held = std::mem::take(&mut own.client.held);
        if held.is_empty() {
            return;
        }
        let Some(mut own) = self.take_session(at) else { return };
        if let After::Park = self.on_commands(&mut own.client, &held) {
            let limits = &self.settings.limits;
            own.socket.park(limits);
        }
        self.put_session(own);
        self.charge_client(at);
    }

    /// Where the clients of a connection are: itself, or on its streams. Asked whenever a timer
    /// fires, and mostly there are none.
    #[inline]
    pub(super) fn clients_of(&mut self, conn: ConnId) -> SmallVec<[Place; 1]> {
        match self.connections.get(conn).map(|connection| &connection.session) {
            Some(Session::Client(_)) => SmallVec::from_elem(Place::connection(conn), 1),
            Some(Session::Http2(_)) => self.clients_on_streams(conn),
            _ => SmallVec::new(),
        }
    }

    fn clients_on_streams(&mut self, conn: ConnId) -> SmallVec<[Place; 1]> {
        let Some(connection) = self.connections.get(conn) else { return SmallVec::new() };
        let Session::Http2(http2) = &connection.session else { return SmallVec::new() };
        let streams = http2.sse_indices().filter_map(|index| {
            let stream = self.streams.get(index)?;
            stream.client.is_some().then(|| stream.place(index))
        });
        streams.collect()
    }

    /// The session at a place, unless it is at work.
    pub(super) fn session_mut(&mut self, at: Place) -> Option<&mut Box<ClientSession>> {
        if at.stream != 0 {
            let index = self.streams.find(at.stream)?;
            return self.streams.get_mut(index)?.client.as_mut();
        }
        match &mut self.connections.get(at.conn)?.session {
            Session::Client(own) => Some(own),
            _ => None,
        }
    }

    /// Takes a session out for work that needs the shard.
    pub(super) fn take_session(&mut self, at: Place) -> Option<Box<ClientSession>> {
        self.session_mut(at)?;
        if at.stream != 0 {
            let index = self.streams.find(at.stream)?;
            return self.streams.get_mut(index)?.client.take();
        }
        match std::mem::take(&mut self.connections.get(at.conn)?.session) {
            Session::Client(own) => Some(own),
            _ => None,
        }
    }

    /// Puts it back, unless it has ended meanwhile.
    pub(super) fn put_session(&mut self, own: Box<ClientSession>) {
        let at = own.client.outlet.at;
        if at.stream != 0 {
            let stream = self.streams.find(at.stream).and_then(|it| self.streams.get_mut(it));
            if let Some(stream) = stream {
                stream.client = Some(own);
            }
        } else if let Some(connection) = self.connections.get(at.conn)
            && connection.closing.is_none()
        {
            connection.session = Session::Client(own);
        }
    }

    /// The client at a place, unless its session is at work.
    fn client_mut(&mut self, at: Place) -> Option<&mut Client> {
        self.session_mut(at).map(|own| &mut own.client)
    }

    fn reply(&mut self, to: Outlet, id: u32, body: ReplyBody<'_>) {
        let reply = Reply { id, body: Some(body) };
        let message = to.format.message(|out| write_reply(out, to.format.encoding(), &reply));
        self.say(EndpointId::of(to.at), message);
    }

    fn reply_error(&mut self, to: Outlet, id: u32, code: ErrorCode) {
        self.reply(to, id, ReplyBody::Error(ErrorReply::from(code)));
    }

    /// Ends a client with one of the protocol's codes.
    fn disconnect(&mut self, to: Outlet, code: DisconnectCode, detail: Option<&str>) -> After {
        let mut text = detail.map_or(code.text().to_owned(), |it| format!("{}: {it}", code.text()));
        text.truncate(text.floor_char_boundary(CLOSE_REASON_BYTES_MAX));
        let reason = match code {
            DisconnectCode::BadRequest => CloseReason::ProtocolError,
            DisconnectCode::InvalidToken => CloseReason::InvalidToken,
            DisconnectCode::SubscriptionExpired => CloseReason::Expired,
            DisconnectCode::TooManyRequests => CloseReason::Overload,
            DisconnectCode::Shutdown => CloseReason::Shutdown,
            _ => CloseReason::PolicyViolation,
        };
        self.end_client(to, code.code(), &text, reason);
        After::Over
    }

    /// Ends a client with a code and a reason: its connection, or only its stream.
    fn end_client(&mut self, to: Outlet, code: u16, text: &str, reason: CloseReason) {
        let words = to.format.last_words(code, text);
        match EndpointId::of(to.at).split() {
            Err(_) => self.finish_connection(to.at.conn, reason, Some(words)),
            Ok(index) if self.streams.find(to.at.stream).is_some() => {
                self.end_http2_stream_with(index, words);
                self.stats.closed(reason);
            }
            Ok(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::centrifuge::Encoding;

    #[test]
    fn a_client_is_pinged_at_its_pace_and_ended_when_it_does_not_answer() {
        let (connect, beat, pong) = (10_000, 25_000, 8_000);
        let at = Place::connection(ConnId { slot: 0, generation: 0 });
        let mut client = Client::new(at, Format::client(Encoding::Json), 1, 1_000);
        let stale = client.pinged.ms() + connect;
        assert_eq!(client.due(1_000, connect, beat, pong), Beat::Later(stale));
        assert_eq!(client.due(stale, connect, beat, pong), Beat::Stale);
        client.connected = true;
        let first = client.pinged.ms() + beat;
        assert_eq!(client.due(1_000, connect, beat, pong), Beat::Later(first));
        assert_eq!(client.due(first, connect, beat, pong), Beat::Ping);
        client.ping(first);
        let due = client.pinged.ms() + pong;
        assert_eq!(client.due(first, connect, beat, pong), Beat::Later(due));
        assert_eq!(client.due(due, connect, beat, pong), Beat::NoPong);
        client.pongs_due = 0;
        let next = client.pinged.ms() + beat;
        assert_eq!(client.due(due, connect, beat, pong), Beat::Later(next));
        // A pong that may take longer than the time between two pings.
        client.pongs_due = 1;
        assert_eq!(client.due(due, connect, pong, beat), Beat::Ping);
    }

    #[test]
    fn pings_go_on_while_a_pong_is_late_and_each_may_be_answered() {
        let (connect, beat, pong) = (10_000, 2_000, 7_000);
        let at = Place::connection(ConnId { slot: 0, generation: 0 });
        let mut client = Client::new(at, Format::client(Encoding::Json), 1, 1_000);
        client.connected = true;
        for _ in 0..4 {
            let next = client.pinged.ms() + beat;
            assert_eq!(client.due(next, connect, beat, pong), Beat::Ping);
            client.ping(next);
        }
        let last = client.pinged.ms();
        // The first of the four went out three heartbeats ago.
        let until = last - 3 * beat + pong;
        assert_eq!(client.due(last, connect, beat, pong), Beat::Later(until));
        assert_eq!(client.due(until, connect, beat, pong), Beat::NoPong);
        // It is answered: the next one is waited for.
        client.pongs_due -= 1;
        assert_eq!(client.due(until, connect, beat, pong), Beat::Later(last + beat));
    }
}
