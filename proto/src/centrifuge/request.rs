//! What clients send: a command is an id and one request (centrifugal/protocol `client.proto`).
//!
//! Left out, and skipped like any unknown field: map subscriptions and shared polls (`type`,
//! `phase`, `track`, `cursor` ...), dictionary compression, profiles, and the keys of publishes.
//! All of them are negotiated, so no SDK misses them.

use super::Limits;
use super::data::Data;
use super::fault::Fault;
use super::filter::FilterNode;
use super::macros::{choices, messages};
use super::value::{Field, Message, Sink, Source, Value};
use crate::channel;
use std::borrow::Cow;

/// One command.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Command<'a> {
    /// Repeated in the reply; 0 for a pong and for `send`, which have none.
    pub id: u32,
    /// `None` is a pong: the empty command that answers the server's ping.
    pub request: Option<Request<'a>>,
}

choices! {
    /// What a command asks for.
    'a Request {
        /// The first command of every connection.
        4 "connect" Connect(ConnectRequest<'a>),
        /// Start receiving a channel.
        5 "subscribe" Subscribe(SubscribeRequest<'a>),
        /// Stop receiving a channel.
        6 "unsubscribe" Unsubscribe(UnsubscribeRequest<'a>),
        /// Publish into a channel.
        7 "publish" Publish(PublishRequest<'a>),
        /// Who is in a channel.
        8 "presence" Presence(PresenceRequest<'a>),
        /// How many are in a channel.
        9 "presence_stats" PresenceStats(PresenceStatsRequest<'a>),
        /// Publications of the past.
        10 "history" History(HistoryRequest<'a>),
        /// Is the server there? SDKs answer pings instead of sending them.
        11 "ping" Ping(PingRequest),
        /// A message to the server that gets no reply.
        12 "send" Send(SendRequest<'a>),
        /// A call of the server.
        13 "rpc" Rpc(RpcRequest<'a>),
        /// A new token for the connection.
        14 "refresh" Refresh(RefreshRequest<'a>),
        /// A new token for a subscription.
        15 "sub_refresh" SubRefresh(SubRefreshRequest<'a>),
    }
}

messages! {
    /// The first command of every connection.
    'a ConnectRequest<'a> {
        /// A JWT, or empty.
        1 token: Cow<'a, str>,
        /// The application's own.
        2 data: Data<'a>,
        /// Positions of server-side subscriptions, by channel; their `channel` is empty.
        3 subs: Vec<(Cow<'a, str>, SubscribeRequest<'a>)>,
        /// The SDK's name.
        4 name: Cow<'a, str>,
        /// The SDK's version.
        5 version: Cow<'a, str>,
        /// HTTP headers that a browser cannot set itself.
        6 headers: Vec<(Cow<'a, str>, Cow<'a, str>)>,
        /// Bits of what the client can do.
        7 flag: i64,
    }

    /// Start receiving a channel.
    'a SubscribeRequest<'a> {
        /// The channel.
        1 channel: Cow<'a, str>,
        /// A subscription JWT, or empty.
        2 token: Cow<'a, str>,
        /// Recover from `epoch` and `offset`. An empty epoch asks for what there is.
        3 recover: bool,
        /// The epoch of the position.
        6 epoch: Cow<'a, str>,
        /// The last offset seen.
        7 offset: u64,
        /// Options, see [`super::SubscribeOptions`].
        8 data: Data<'a>,
        /// The position is to be checked while subscribed.
        9 positioned: bool,
        /// The subscription is to be recoverable.
        10 recoverable: bool,
        /// Joins and leaves are wanted.
        11 join_leave: bool,
        /// The delta format wanted: `fossil`, or empty.
        12 delta: Cow<'a, str>,
        /// Only publications that pass are wanted.
        13 tf: Option<FilterNode>,
        /// Bits: 1 offers channel compaction, 2 rejects what cannot be recovered.
        14 flag: i64,
    }

    /// Stop receiving a channel.
    'a UnsubscribeRequest<'a> {
        /// The channel.
        1 channel: Cow<'a, str>,
    }

    /// Publish into a channel.
    'a PublishRequest<'a> {
        /// The channel.
        1 channel: Cow<'a, str>,
        /// The payload.
        2 data: Data<'a>,
    }

    /// Who is in a channel.
    'a PresenceRequest<'a> {
        /// The channel.
        1 channel: Cow<'a, str>,
    }

    /// How many are in a channel.
    'a PresenceStatsRequest<'a> {
        /// The channel.
        1 channel: Cow<'a, str>,
    }

    /// A place in a channel.
    'a StreamPosition<'a> {
        /// The offset.
        1 offset: u64,
        /// The epoch.
        2 epoch: Cow<'a, str>,
    }

    /// Publications of the past.
    'a HistoryRequest<'a> {
        /// The channel.
        1 channel: Cow<'a, str>,
        /// How many: 0 only asks for the top position, below 0 is without a limit of its own.
        7 limit: i32,
        /// After this place, or before it in reverse.
        8 since: Option<StreamPosition<'a>>,
        /// The newest first.
        9 reverse: bool,
    }

    /// Is the server there?
    'a PingRequest {}

    /// A message to the server; see [`super::ClientMessage`].
    'a SendRequest<'a> {
        /// The message.
        1 data: Data<'a>,
    }

    /// A call of the server.
    'a RpcRequest<'a> {
        /// The argument.
        1 data: Data<'a>,
        /// The method's name.
        2 method: Cow<'a, str>,
    }

    /// A new token for the connection.
    'a RefreshRequest<'a> {
        /// A JWT.
        1 token: Cow<'a, str>,
    }

    /// A new token for a subscription.
    'a SubRefreshRequest<'a> {
        /// The channel. centrifuge-python leaves it out: the token's claim names it then.
        1 channel: Cow<'a, str>,
        /// A subscription JWT.
        2 token: Cow<'a, str>,
    }

    /// A command sent beside an SSE or HTTP stream, to `POST /emulation`.
    'a EmulationRequest<'a> {
        /// [`super::ConnectResult::node`].
        1 node: Cow<'a, str>,
        /// [`super::ConnectResult::session`].
        2 session: Cow<'a, str>,
        /// A frame of commands; in JSON a string that holds it.
        3 data: Cow<'a, [u8]>,
    }
}

impl<'a> Command<'a> {
    /// Reads a command; the error comes with the id, as far as there is one.
    pub(super) fn read(source: impl Source<'a>, limits: &Limits) -> Result<Self, (u32, Fault)> {
        let mut command = Self::default();
        let mut budget = limits.budget();
        // Content that cannot be used is answered to the id, which may come behind it.
        let mut held = None;
        let read = source.fields(Self::number_of, |number, value| match number {
            1 if value.is_null() => Ok(()),
            1 => command.id.merge(value, &mut budget).map_err(|fault| fault.at("id")),
            _ if held.is_some() => Ok(()),
            _ => match Request::merge_field(&mut command.request, number, value, &mut budget) {
                Err(fault) if fault.is_content() => {
                    held = Some(fault);
                    Ok(())
                }
                other => other,
            },
        });
        let id = command.id;
        read.map_err(|fault| (id, fault))?;
        match (held, &command.request) {
            (Some(fault), _) => Err((id, fault)),
            (None, None) if id == 0 => Ok(command),
            (None, None) => Err((id, Fault::UnknownMethod)),
            (None, Some(Request::Send(_))) => Ok(command),
            (None, Some(_)) if id == 0 => Err((id, Fault::MissingId)),
            (None, Some(request)) => match request.check(limits) {
                Ok(()) => Ok(command),
                Err(fault) => Err((id, fault)),
            },
        }
    }

    fn number_of(name: &str) -> Option<u32> {
        if name == "id" { Some(1) } else { Request::number_of(name) }
    }

    /// Writes the fields of a command.
    pub(super) fn write_fields(&self, sink: &mut impl Sink) {
        self.id.write(sink, Field { number: 1, name: "id" });
        if let Some(request) = &self.request {
            request.write(sink);
        }
    }
}

impl Request<'_> {
    /// The channel that the request is about; empty if it is about none, or leaves it to a token.
    pub fn channel(&self) -> &str {
        match self {
            Self::Subscribe(request) => &request.channel,
            Self::Unsubscribe(request) => &request.channel,
            Self::Publish(request) => &request.channel,
            Self::Presence(request) => &request.channel,
            Self::PresenceStats(request) => &request.channel,
            Self::History(request) => &request.channel,
            Self::SubRefresh(request) => &request.channel,
            Self::Connect(_) | Self::Ping(_) | Self::Send(_) | Self::Rpc(_) | Self::Refresh(_) => {
                ""
            }
        }
    }

    /// What can be told without knowing the connection: names are legal, strings are bounded.
    fn check(&self, limits: &Limits) -> Result<(), Fault> {
        let text = |name, text: &str| limited(name, text, limits.text_bytes_max);
        let token = |name, text: &str| limited(name, text, limits.token_bytes_max);
        match self {
            Self::Connect(request) => {
                token("token", &request.token)?;
                text("name", &request.name)?;
                text("version", &request.version)?;
                for (name, value) in &request.headers {
                    text("headers", name)?;
                    token("headers", value)?;
                }
                for (channel, subscribe) in &request.subs {
                    channel::validate(channel.as_bytes())?;
                    subscribe.check(limits)?;
                }
                return Ok(());
            }
            Self::Subscribe(request) => request.check(limits)?,
            Self::History(request) => {
                text("epoch", request.since.as_ref().map_or("", |since| &since.epoch))?;
            }
            Self::Publish(request) if request.data.is_none() => return Err(Fault::MissingData),
            Self::Refresh(request) => return token("token", &request.token),
            Self::SubRefresh(request) => {
                token("token", &request.token)?;
                if request.channel.is_empty() {
                    return Ok(());
                }
            }
            Self::Rpc(request) => return text("method", &request.method),
            Self::Ping(_) | Self::Send(_) => return Ok(()),
            _ => {}
        }
        channel::validate(self.channel().as_bytes())?;
        Ok(())
    }
}

impl SubscribeRequest<'_> {
    fn check(&self, limits: &Limits) -> Result<(), Fault> {
        limited("token", &self.token, limits.token_bytes_max)?;
        limited("epoch", &self.epoch, limits.text_bytes_max)?;
        limited("delta", &self.delta, limits.text_bytes_max)
    }
}

fn limited(name: &'static str, text: &str, bytes_max: usize) -> Result<(), Fault> {
    if text.len() > bytes_max { Err(Fault::TooLong(name)) } else { Ok(()) }
}

impl<'a> EmulationRequest<'a> {
    pub(super) fn read(source: impl Source<'a>, limits: &Limits) -> Result<Self, Fault> {
        let mut request = Self::default();
        request.merge(source, &mut limits.budget())?;
        limited("node", &request.node, limits.text_bytes_max)?;
        limited("session", &request.session, limits.text_bytes_max)?;
        Ok(request)
    }
}
