//! Sessions of the client protocol (Centrifugo's, `proto::centrifuge`): commands in, replies and
//! pushes out.
//!
//! A client's subscriptions come and go on one connection; each is a subscription like any other,
//! so ordering, history, resume and budgets are the channel's. What the protocol adds is here: the
//! command that waits for a join's answer, recovery inside the answer, ping and pong.
//!
//! Invariants: `connect` comes first and once; a subscription of [`Client::subs`] has the number of
//! one of the connection's subscriptions; commands of one client are taken in order, and while a
//! publish is parked the rest of its frame waits here and nothing more is read.
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
mod filter;
mod presence;
mod publish;
mod reads;
mod remote;
mod subscriptions;
mod tokens;

pub(super) use commands::uuid_bits;
pub use filter::TagsFilter;
pub(super) use presence::membership;
pub use subscriptions::Joined;
pub(super) use subscriptions::{publication, with_delta};

use super::Shard;
use super::connection::{EndpointId, Stamp};
use super::format::Format;
use super::session::Session;
use super::session_ws::{After, WebSocket};
use crate::auth::Overrides;
use crate::driver::ConnId;
use crate::mesh::Identity;
use bytes::Bytes;
use proto::centrifuge::{
    DisconnectCode, Encoding, ErrorCode, ErrorReply, Reply, ReplyBody, write_reply,
};
use proto::reason::CloseReason;
use proto::ws;
use proto::ws::deflate::Window;
use std::sync::Arc;

/// Publishes and reads of one client whose answers are on their way; more get `too many requests`.
const PENDING_MAX: u16 = 1_024;

/// A WebSocket that speaks the protocol.
#[derive(Debug)]
pub struct ClientSocket {
    /// Frames.
    pub socket: WebSocket,
    /// What is in them.
    pub client: Client,
}

/// One client.
#[derive(Debug)]
pub struct Client {
    encoding: Encoding,
    /// How its pushes are compressed.
    window: Option<Window>,
    /// `connect` was answered.
    connected: bool,
    /// A ping is not answered yet.
    pong_due: bool,
    /// When the last ping went out.
    pinged: Stamp,
    /// A random UUID.
    id: u128,
    /// Its user; `None` if anonymous.
    identity: Option<Arc<Identity>>,
    subs: Vec<Sub>,
    /// Commands whose answers are on their way.
    pending: u16,
    /// The rest of a frame, behind a publish that is parked.
    held: Vec<u8>,
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
    /// What its token shows to others, until they have been told that it is there.
    info: Option<Arc<[u8]>>,
    /// What its token changes of the namespace's options.
    overrides: Overrides,
}

impl Sub {
    fn expires_at_s(&self) -> Option<i64> {
        self.extra.as_ref()?.expires_at_s
    }
}

impl Extra {
    /// In a box, if there is anything of it.
    fn boxed(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.filter.as_ref().map_or(0, TagsFilter::memory_bytes)
    }
}

impl Client {
    /// A client whose connection has just begun.
    pub fn new(encoding: Encoding, window: Option<Window>, id: u128, now_ms: u64) -> Self {
        Self {
            encoding,
            window,
            connected: false,
            pong_due: false,
            pinged: Stamp::at(now_ms),
            id,
            identity: None,
            subs: Vec::new(),
            pending: 0,
            held: Vec::new(),
        }
    }

    /// How its events are written.
    pub fn format(&self) -> Format {
        let format = Format::client(self.encoding);
        self.window.map_or(format, |window| format.deflated(window))
    }

    /// What it holds of a frame that it could not finish.
    pub fn partial_bytes(&self) -> usize {
        self.held.capacity()
    }

    /// Heap beyond its own bytes, for the ledger.
    pub fn memory_bytes(&self) -> usize {
        let extras = self.subs.iter().filter_map(|sub| sub.extra.as_deref());
        self.subs.capacity() * size_of::<Sub>() + extras.map(Extra::memory_bytes).sum::<usize>()
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
        if self.pong_due && now_ms >= pinged_ms + pong_ms {
            Beat::NoPong
        } else if now_ms >= pinged_ms + beat_ms {
            Beat::Ping
        } else if self.pong_due {
            Beat::Later(pinged_ms + pong_ms.min(beat_ms))
        } else {
            Beat::Later(pinged_ms + beat_ms)
        }
    }

    /// The next ping; the client closes unless one comes in time, whatever else does.
    pub fn ping(&mut self, now_ms: u64) -> Bytes {
        self.pinged = Stamp::at(now_ms);
        self.pong_due = true;
        ws::encode_frame(opcode(self.encoding), self.encoding.ping())
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

/// The kind of frame that carries an encoding.
pub(super) fn opcode(encoding: Encoding) -> ws::Opcode {
    match encoding {
        Encoding::Json => ws::Opcode::Text,
        Encoding::Protobuf => ws::Opcode::Binary,
    }
}

/// Why a command is not carried out.
enum Refusal {
    /// The command is answered with an error.
    Reply(ErrorCode),
    /// The connection ends.
    Disconnect(DisconnectCode),
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
        mut own: Box<ClientSocket>,
        input: &[u8],
    ) -> (Session, usize) {
        let ClientSocket { socket, client } = &mut *own;
        let used = self.feed_frames(conn, socket, input, |shard, _text, frame| {
            shard.on_commands(conn, client, frame)
        });
        (Session::Client(own), used)
    }

    /// Goes on with the rest of a frame whose publish has found room.
    pub(super) fn resume_client(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get(conn) else { return };
        let Session::Client(own) = &mut connection.session else { return };
        let held = std::mem::take(&mut own.client.held);
        if held.is_empty() {
            return;
        }
        let Session::Client(mut own) = std::mem::take(&mut connection.session) else { return };
        if let After::Park = self.on_commands(conn, &mut own.client, &held) {
            let limits = &self.settings.limits;
            own.socket.park(limits);
        }
        if let Some(connection) = self.connections.get(conn)
            && connection.closing.is_none()
        {
            connection.session = Session::Client(own);
        }
    }

    /// The client of an endpoint, unless its session is at work.
    fn client_mut(&mut self, endpoint: EndpointId) -> Option<&mut Client> {
        let slot = endpoint.split().err()?;
        match &mut self.connections.slot(slot)?.session {
            Session::Client(own) => Some(&mut own.client),
            _ => None,
        }
    }

    fn reply(&mut self, conn: ConnId, encoding: Encoding, id: u32, body: ReplyBody<'_>) {
        let mut out = Vec::new();
        write_reply(&mut out, encoding, &Reply { id, body: Some(body) });
        let frame = ws::encode_frame(opcode(encoding), &out);
        self.say(EndpointId::connection(conn.slot), frame);
    }

    fn reply_error(&mut self, conn: ConnId, encoding: Encoding, id: u32, code: ErrorCode) {
        self.reply(conn, encoding, id, ReplyBody::Error(ErrorReply::from(code)));
    }

    /// Ends the connection with one of the protocol's codes.
    fn disconnect(&mut self, conn: ConnId, code: DisconnectCode, detail: Option<&str>) -> After {
        let mut text = detail.map_or(code.text().to_owned(), |it| format!("{}: {it}", code.text()));
        text.truncate(text.floor_char_boundary(ws::CLOSE_REASON_BYTES_MAX));
        let reason = match code {
            DisconnectCode::BadRequest => CloseReason::ProtocolError,
            DisconnectCode::InvalidToken => CloseReason::InvalidToken,
            DisconnectCode::SubscriptionExpired => CloseReason::Expired,
            _ => CloseReason::PolicyViolation,
        };
        self.close_ws(conn, code.code(), &text, reason);
        After::Over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_pinged_at_its_pace_and_ended_when_it_does_not_answer() {
        let (connect, beat, pong) = (10_000, 25_000, 8_000);
        let mut client = Client::new(Encoding::Json, None, 1, 1_000);
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
        client.pong_due = false;
        let next = client.pinged.ms() + beat;
        assert_eq!(client.due(due, connect, beat, pong), Beat::Later(next));
        // A pong that may take longer than the time between two pings.
        client.pong_due = true;
        assert_eq!(client.due(due, connect, pong, beat), Beat::Ping);
    }
}
