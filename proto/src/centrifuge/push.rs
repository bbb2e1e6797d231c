//! What the server sends without having been asked: pushes.
//!
//! A publication does not depend on who receives it, so its push is written once for all
//! subscribers of a channel.

use super::codes::{DisconnectCode, UnsubscribeCode};
use super::data::Data;
use super::fault::Fault;
use super::macros::{choices, messages};
use super::reply::ConnectResult;
use super::value::{Budget, Field, Message, Sink, Source, Value};
use std::borrow::Cow;

/// What happened, and in which channel.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Push<'a> {
    /// The channel; empty if it is about the connection.
    pub channel: Cow<'a, str>,
    /// What happened. `None` only where a newer server sent something unknown.
    pub body: Option<PushBody<'a>>,
}

choices! {
    /// What happened.
    'a PushBody {
        /// Somebody published.
        4 "pub" Publication(Publication<'a>),
        /// Somebody subscribed.
        5 "join" Join(Join<'a>),
        /// Somebody left.
        6 "leave" Leave(Leave<'a>),
        /// The server ended a subscription.
        7 "unsubscribe" Unsubscribe(Unsubscribe<'a>),
        /// A message to this connection; see [`super::Notice`].
        8 "message" Message(MessagePush<'a>),
        /// The server subscribed this connection.
        9 "subscribe" Subscribe(Subscribe<'a>),
        /// The start of a unidirectional stream.
        10 "connect" Connect(ConnectResult<'a>),
        /// The end of a stream that has no close frame.
        11 "disconnect" Disconnect(Disconnect<'a>),
        /// The connection's expiry has changed.
        12 "refresh" Refresh(Refresh),
    }
}

messages! {
    /// One publication.
    'a Publication<'a> {
        /// The payload: a delta if `delta` says so.
        4 data: Data<'a>,
        /// Who published, if it was a client.
        5 info: Option<ClientInfo<'a>>,
        /// The offset, if the channel has a history.
        6 offset: u64,
        /// The tags.
        7 tags: Vec<(Cow<'a, str>, Cow<'a, str>)>,
        /// The payload is a delta against the publication before.
        8 delta: bool,
        /// When, in milliseconds since the Unix epoch.
        9 time: i64,
        /// The channel, where it is another than the push's.
        10 channel: Cow<'a, str>,
    }

    /// One connection.
    'a ClientInfo<'a> {
        /// The user; empty if anonymous.
        1 user: Cow<'a, str>,
        /// The connection's id.
        2 client: Cow<'a, str>,
        /// What the connection's token says of the user.
        3 conn_info: Data<'a>,
        /// What the subscription's token says of the user.
        4 chan_info: Data<'a>,
    }

    /// Who published, as the attributes of a client's event hold it.
    'a Author<'a> {
        /// Who.
        1 info: Option<ClientInfo<'a>>,
    }

    /// Somebody subscribed.
    'a Join<'a> {
        /// Who.
        1 info: Option<ClientInfo<'a>>,
    }

    /// Somebody left.
    'a Leave<'a> {
        /// Who.
        1 info: Option<ClientInfo<'a>>,
    }

    /// The server ended a subscription.
    'a Unsubscribe<'a> {
        /// See [`UnsubscribeCode`].
        2 code: u32,
        /// In words.
        3 reason: Cow<'a, str>,
    }

    /// A message to one connection.
    'a MessagePush<'a> {
        /// The message.
        1 data: Data<'a>,
    }

    /// The server subscribed this connection.
    'a Subscribe<'a> {
        /// The subscription can be recovered.
        1 recoverable: bool,
        /// The epoch of the position.
        4 epoch: Cow<'a, str>,
        /// The offset of the position.
        5 offset: u64,
        /// The position is checked.
        6 positioned: bool,
        /// The application's own.
        7 data: Data<'a>,
    }

    /// The end of a stream that has no close frame.
    'a Disconnect<'a> {
        /// See [`DisconnectCode`].
        1 code: u32,
        /// In words.
        2 reason: Cow<'a, str>,
        /// Only old clients look here; the code says it.
        3 reconnect: bool,
    }

    /// The connection's expiry has changed.
    'a Refresh {
        /// It expires.
        1 expires: bool,
        /// In so many seconds.
        2 ttl: u32,
    }
}

impl From<UnsubscribeCode> for Unsubscribe<'_> {
    fn from(code: UnsubscribeCode) -> Self {
        Self { code: code.code().into(), reason: Cow::Borrowed(code.text()) }
    }
}

impl From<DisconnectCode> for Disconnect<'_> {
    fn from(code: DisconnectCode) -> Self {
        let reason = Cow::Borrowed(code.text());
        Self { code: code.code().into(), reason, reconnect: !code.is_terminal() }
    }
}

impl<'a> Message<'a> for Push<'a> {
    fn number_of(name: &str) -> Option<u32> {
        if name == "channel" { Some(2) } else { PushBody::number_of(name) }
    }

    fn merge_field(
        &mut self,
        number: u32,
        value: impl Source<'a>,
        budget: &mut Budget,
    ) -> Result<(), Fault> {
        match number {
            2 if value.is_null() => Ok(()),
            2 => self.channel.merge(value, budget).map_err(|fault| fault.at("channel")),
            _ => PushBody::merge_field(&mut self.body, number, value, budget),
        }
    }

    fn write_fields(&self, sink: &mut impl Sink) {
        self.channel.write(sink, Field { number: 2, name: "channel" });
        if let Some(body) = &self.body {
            body.write(sink);
        }
    }

    fn guess(&self) -> usize {
        self.channel.len() + self.body.as_ref().map_or(0, PushBody::guess)
    }
}
