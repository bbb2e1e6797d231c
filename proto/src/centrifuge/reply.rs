//! What the server answers: replies repeat a command's id; a push is a reply without one.
//!
//! A reply carries its result even if that is empty, and an error always has its message: SDKs
//! look there.

use super::codes::ErrorCode;
use super::data::Data;
use super::fault::Fault;
use super::macros::{choices, messages};
use super::push::{ClientInfo, Publication, Push};
use super::value::{Budget, Field, Message, Sink, Source, Value};
use std::borrow::Cow;

/// One reply.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reply<'a> {
    /// The command's id; 0 for a push and a ping.
    pub id: u32,
    /// `None` is the server's ping: the empty reply.
    pub body: Option<ReplyBody<'a>>,
}

choices! {
    /// What a reply carries.
    'a ReplyBody {
        /// The command failed.
        2 "error" Error(ErrorReply<'a>),
        /// No answer to a command.
        4 "push" Push(Push<'a>),
        /// The answer to `connect`.
        5 "connect" Connect(ConnectResult<'a>),
        /// The answer to `subscribe`.
        6 "subscribe" Subscribe(SubscribeResult<'a>),
        /// The answer to `unsubscribe`.
        7 "unsubscribe" Unsubscribe(UnsubscribeResult),
        /// The answer to `publish`.
        8 "publish" Publish(PublishResult),
        /// The answer to `presence`.
        9 "presence" Presence(PresenceResult<'a>),
        /// The answer to `presence_stats`.
        10 "presence_stats" PresenceStats(PresenceStatsResult),
        /// The answer to `history`.
        11 "history" History(HistoryResult<'a>),
        /// The answer to `ping`.
        12 "ping" Ping(PingResult),
        /// The answer to `rpc`.
        13 "rpc" Rpc(RpcResult<'a>),
        /// The answer to `refresh`.
        14 "refresh" Refresh(RefreshResult<'a>),
        /// The answer to `sub_refresh`.
        15 "sub_refresh" SubRefresh(SubRefreshResult),
    }
}

messages! {
    /// The answer to `connect`.
    'a ConnectResult<'a> {
        /// The connection's id; always there.
        1 client: Cow<'a, str>,
        /// The server's version.
        2 version: Cow<'a, str>,
        /// The connection expires.
        3 expires: bool,
        /// In so many seconds; always there if it expires.
        4 ttl: u32,
        /// The application's own.
        5 data: Data<'a>,
        /// Server-side subscriptions by channel.
        6 subs: Vec<(Cow<'a, str>, SubscribeResult<'a>)>,
        /// Seconds between the server's pings.
        7 ping: u32,
        /// Pings are to be answered.
        8 pong: bool,
        /// What commands beside a stream have to name.
        9 session: Cow<'a, str>,
        /// What commands beside a stream have to name.
        10 node: Cow<'a, str>,
        /// The server's clock, in milliseconds since the Unix epoch.
        11 time: i64,
    }

    /// The answer to `subscribe`.
    'a SubscribeResult<'a> {
        /// The subscription expires.
        1 expires: bool,
        /// In so many seconds; always there if it expires.
        2 ttl: u32,
        /// The subscription can be recovered.
        3 recoverable: bool,
        /// The channel's epoch.
        6 epoch: Cow<'a, str>,
        /// What was missed, oldest first.
        7 publications: Vec<Publication<'a>>,
        /// Nothing is missing between the request's position and now.
        8 recovered: bool,
        /// The request's offset if it recovered, so that the client counts on from there with every
        /// publication; otherwise the channel's top.
        9 offset: u64,
        /// The position is checked.
        10 positioned: bool,
        /// The application's own.
        11 data: Data<'a>,
        /// The request wanted to recover.
        12 was_recovering: bool,
        /// Publications may be deltas; in JSON, `data` is always a string then.
        13 delta: bool,
    }

    /// The answer to `unsubscribe`.
    'a UnsubscribeResult {}

    /// The answer to `publish`.
    'a PublishResult {}

    /// The answer to `presence`.
    'a PresenceResult<'a> {
        /// Who is there, by connection.
        1 presence: Vec<(Cow<'a, str>, ClientInfo<'a>)>,
    }

    /// The answer to `presence_stats`.
    'a PresenceStatsResult {
        /// Connections.
        1 num_clients: u32,
        /// Different users.
        2 num_users: u32,
    }

    /// The answer to `history`.
    'a HistoryResult<'a> {
        /// In the order asked for.
        1 publications: Vec<Publication<'a>>,
        /// The channel's epoch.
        2 epoch: Cow<'a, str>,
        /// The channel's top.
        3 offset: u64,
    }

    /// The answer to `ping`.
    'a PingResult {}

    /// The answer to `rpc`.
    'a RpcResult<'a> {
        /// The result.
        1 data: Data<'a>,
    }

    /// The answer to `refresh`.
    'a RefreshResult<'a> {
        /// The connection's id.
        1 client: Cow<'a, str>,
        /// The server's version.
        2 version: Cow<'a, str>,
        /// The connection expires.
        3 expires: bool,
        /// In so many seconds.
        4 ttl: u32,
    }

    /// The answer to `sub_refresh`.
    'a SubRefreshResult {
        /// The subscription expires.
        1 expires: bool,
        /// In so many seconds.
        2 ttl: u32,
    }
}

/// Why a command failed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ErrorReply<'a> {
    /// See [`ErrorCode`].
    pub code: u32,
    /// In words; written even if it is empty.
    pub message: Cow<'a, str>,
    /// The SDK tries again by itself.
    pub temporary: bool,
}

impl From<ErrorCode> for ErrorReply<'_> {
    fn from(code: ErrorCode) -> Self {
        let message = Cow::Borrowed(code.text());
        Self { code: code.code().into(), message, temporary: code.is_temporary() }
    }
}

impl<'a> Message<'a> for ErrorReply<'a> {
    fn number_of(name: &str) -> Option<u32> {
        match name {
            "code" => Some(1),
            "message" => Some(2),
            "temporary" => Some(3),
            _ => None,
        }
    }

    fn merge_field(
        &mut self,
        number: u32,
        value: impl Source<'a>,
        budget: &mut Budget,
    ) -> Result<(), Fault> {
        match number {
            _ if value.is_null() => Ok(()),
            1 => self.code.merge(value, budget),
            2 => self.message.merge(value, budget),
            3 => self.temporary.merge(value, budget),
            _ => Ok(()),
        }
    }

    fn write_fields(&self, sink: &mut impl Sink) {
        self.code.write(sink, Field { number: 1, name: "code" });
        sink.text(Field { number: 2, name: "message" }, &self.message);
        self.temporary.write(sink, Field { number: 3, name: "temporary" });
    }

    fn guess(&self) -> usize {
        self.message.len()
    }
}

impl<'a> Reply<'a> {
    /// Reads a reply, as a client does.
    pub(super) fn read(source: impl Source<'a>, budget: &mut Budget) -> Result<Self, (u32, Fault)> {
        let mut reply = Self::default();
        let read = source.fields(Self::number_of, |number, value| match number {
            1 if value.is_null() => Ok(()),
            1 => reply.id.merge(value, budget).map_err(|fault| fault.at("id")),
            _ => ReplyBody::merge_field(&mut reply.body, number, value, budget),
        });
        match read {
            Ok(()) => Ok(reply),
            Err(fault) => Err((reply.id, fault)),
        }
    }

    fn number_of(name: &str) -> Option<u32> {
        if name == "id" { Some(1) } else { ReplyBody::number_of(name) }
    }

    /// Writes the fields of a reply.
    pub(super) fn write_fields(&self, sink: &mut impl Sink) {
        self.id.write(sink, Field { number: 1, name: "id" });
        if let Some(body) = &self.body {
            body.write(sink);
        }
    }
}
