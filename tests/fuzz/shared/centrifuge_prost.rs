//! The second opinion on Centrifugo's client protocol in Protobuf: its messages as `prost` derives
//! them, and ours turned into them. Written by hand from centrifugal/protocol `client.proto`.
//!
//! Whoever includes this has the codec in scope as `api`.
#![allow(dead_code, reason = "each target uses its part")]

use super::api::{self, Data, FilterNode, FilterTest, PushBody, ReplyBody};
use std::borrow::Cow;
use std::collections::BTreeMap;

macro_rules! message {
    ($($name:ident { $(#[prost($($attribute:tt)*)] $field:ident: $kind:ty,)* })*) => {$(
        #[derive(Clone, PartialEq, prost::Message)]
        pub struct $name { $(#[prost($($attribute)*)] pub $field: $kind,)* }
    )*};
}

message! {
    Command {
        #[prost(uint32, tag = "1")] id: u32,
        #[prost(message, optional, tag = "4")] connect: Option<ConnectRequest>,
        #[prost(message, optional, tag = "5")] subscribe: Option<SubscribeRequest>,
        #[prost(message, optional, tag = "6")] unsubscribe: Option<ChannelRequest>,
        #[prost(message, optional, tag = "7")] publish: Option<PublishRequest>,
        #[prost(message, optional, tag = "8")] presence: Option<ChannelRequest>,
        #[prost(message, optional, tag = "9")] presence_stats: Option<ChannelRequest>,
        #[prost(message, optional, tag = "10")] history: Option<HistoryRequest>,
        #[prost(message, optional, tag = "11")] ping: Option<Empty>,
        #[prost(message, optional, tag = "12")] send: Option<DataOnly>,
        #[prost(message, optional, tag = "13")] rpc: Option<RpcRequest>,
        #[prost(message, optional, tag = "14")] refresh: Option<RefreshRequest>,
        #[prost(message, optional, tag = "15")] sub_refresh: Option<SubRefreshRequest>,
    }
    ConnectRequest {
        #[prost(string, tag = "1")] token: String,
        #[prost(bytes = "vec", tag = "2")] data: Vec<u8>,
        #[prost(btree_map = "string, message", tag = "3")] subs: BTreeMap<String, SubscribeRequest>,
        #[prost(string, tag = "4")] name: String,
        #[prost(string, tag = "5")] version: String,
        #[prost(btree_map = "string, string", tag = "6")] headers: BTreeMap<String, String>,
        #[prost(int64, tag = "7")] flag: i64,
    }
    SubscribeRequest {
        #[prost(string, tag = "1")] channel: String,
        #[prost(string, tag = "2")] token: String,
        #[prost(bool, tag = "3")] recover: bool,
        #[prost(string, tag = "6")] epoch: String,
        #[prost(uint64, tag = "7")] offset: u64,
        #[prost(bytes = "vec", tag = "8")] data: Vec<u8>,
        #[prost(bool, tag = "9")] positioned: bool,
        #[prost(bool, tag = "10")] recoverable: bool,
        #[prost(bool, tag = "11")] join_leave: bool,
        #[prost(string, tag = "12")] delta: String,
        #[prost(message, optional, tag = "13")] tf: Option<Filter>,
        #[prost(int64, tag = "14")] flag: i64,
    }
    Filter {
        #[prost(string, tag = "1")] op: String,
        #[prost(string, tag = "2")] key: String,
        #[prost(string, tag = "3")] cmp: String,
        #[prost(string, tag = "4")] val: String,
        #[prost(string, repeated, tag = "5")] vals: Vec<String>,
        #[prost(message, repeated, tag = "6")] nodes: Vec<Filter>,
    }
    ChannelRequest { #[prost(string, tag = "1")] channel: String, }
    PublishRequest {
        #[prost(string, tag = "1")] channel: String,
        #[prost(bytes = "vec", tag = "2")] data: Vec<u8>,
    }
    HistoryRequest {
        #[prost(string, tag = "1")] channel: String,
        #[prost(int32, tag = "7")] limit: i32,
        #[prost(message, optional, tag = "8")] since: Option<StreamPosition>,
        #[prost(bool, tag = "9")] reverse: bool,
    }
    StreamPosition {
        #[prost(uint64, tag = "1")] offset: u64,
        #[prost(string, tag = "2")] epoch: String,
    }
    Empty {}
    DataOnly { #[prost(bytes = "vec", tag = "1")] data: Vec<u8>, }
    RpcRequest {
        #[prost(bytes = "vec", tag = "1")] data: Vec<u8>,
        #[prost(string, tag = "2")] method: String,
    }
    RefreshRequest { #[prost(string, tag = "1")] token: String, }
    SubRefreshRequest {
        #[prost(string, tag = "1")] channel: String,
        #[prost(string, tag = "2")] token: String,
    }

    Reply {
        #[prost(uint32, tag = "1")] id: u32,
        #[prost(message, optional, tag = "2")] error: Option<Error>,
        #[prost(message, optional, tag = "4")] push: Option<Push>,
        #[prost(message, optional, tag = "5")] connect: Option<ConnectResult>,
        #[prost(message, optional, tag = "6")] subscribe: Option<SubscribeResult>,
        #[prost(message, optional, tag = "7")] unsubscribe: Option<Empty>,
        #[prost(message, optional, tag = "8")] publish: Option<Empty>,
        #[prost(message, optional, tag = "9")] presence: Option<PresenceResult>,
        #[prost(message, optional, tag = "10")] presence_stats: Option<PresenceStatsResult>,
        #[prost(message, optional, tag = "11")] history: Option<HistoryResult>,
        #[prost(message, optional, tag = "12")] ping: Option<Empty>,
        #[prost(message, optional, tag = "13")] rpc: Option<DataOnly>,
        #[prost(message, optional, tag = "14")] refresh: Option<RefreshResult>,
        #[prost(message, optional, tag = "15")] sub_refresh: Option<Expiry>,
    }
    Error {
        #[prost(uint32, tag = "1")] code: u32,
        #[prost(string, tag = "2")] message: String,
        #[prost(bool, tag = "3")] temporary: bool,
    }
    Push {
        #[prost(string, tag = "2")] channel: String,
        #[prost(message, optional, tag = "4")] publication: Option<Publication>,
        #[prost(message, optional, tag = "5")] join: Option<Joined>,
        #[prost(message, optional, tag = "6")] leave: Option<Joined>,
        #[prost(message, optional, tag = "7")] unsubscribe: Option<Unsubscribe>,
        #[prost(message, optional, tag = "8")] message: Option<DataOnly>,
        #[prost(message, optional, tag = "9")] subscribe: Option<Subscribe>,
        #[prost(message, optional, tag = "10")] connect: Option<ConnectResult>,
        #[prost(message, optional, tag = "11")] disconnect: Option<Disconnect>,
        #[prost(message, optional, tag = "12")] refresh: Option<Expiry>,
    }
    Publication {
        #[prost(bytes = "vec", tag = "4")] data: Vec<u8>,
        #[prost(message, optional, tag = "5")] info: Option<ClientInfo>,
        #[prost(uint64, tag = "6")] offset: u64,
        #[prost(btree_map = "string, string", tag = "7")] tags: BTreeMap<String, String>,
        #[prost(bool, tag = "8")] delta: bool,
        #[prost(int64, tag = "9")] time: i64,
        #[prost(string, tag = "10")] channel: String,
    }
    ClientInfo {
        #[prost(string, tag = "1")] user: String,
        #[prost(string, tag = "2")] client: String,
        #[prost(bytes = "vec", tag = "3")] conn_info: Vec<u8>,
        #[prost(bytes = "vec", tag = "4")] chan_info: Vec<u8>,
    }
    Joined { #[prost(message, optional, tag = "1")] info: Option<ClientInfo>, }
    Unsubscribe {
        #[prost(uint32, tag = "2")] code: u32,
        #[prost(string, tag = "3")] reason: String,
    }
    Subscribe {
        #[prost(bool, tag = "1")] recoverable: bool,
        #[prost(string, tag = "4")] epoch: String,
        #[prost(uint64, tag = "5")] offset: u64,
        #[prost(bool, tag = "6")] positioned: bool,
        #[prost(bytes = "vec", tag = "7")] data: Vec<u8>,
    }
    Disconnect {
        #[prost(uint32, tag = "1")] code: u32,
        #[prost(string, tag = "2")] reason: String,
        #[prost(bool, tag = "3")] reconnect: bool,
    }
    ConnectResult {
        #[prost(string, tag = "1")] client: String,
        #[prost(string, tag = "2")] version: String,
        #[prost(bool, tag = "3")] expires: bool,
        #[prost(uint32, tag = "4")] ttl: u32,
        #[prost(bytes = "vec", tag = "5")] data: Vec<u8>,
        #[prost(btree_map = "string, message", tag = "6")] subs: BTreeMap<String, SubscribeResult>,
        #[prost(uint32, tag = "7")] ping: u32,
        #[prost(bool, tag = "8")] pong: bool,
        #[prost(string, tag = "9")] session: String,
        #[prost(string, tag = "10")] node: String,
        #[prost(int64, tag = "11")] time: i64,
    }
    SubscribeResult {
        #[prost(bool, tag = "1")] expires: bool,
        #[prost(uint32, tag = "2")] ttl: u32,
        #[prost(bool, tag = "3")] recoverable: bool,
        #[prost(string, tag = "6")] epoch: String,
        #[prost(message, repeated, tag = "7")] publications: Vec<Publication>,
        #[prost(bool, tag = "8")] recovered: bool,
        #[prost(uint64, tag = "9")] offset: u64,
        #[prost(bool, tag = "10")] positioned: bool,
        #[prost(bytes = "vec", tag = "11")] data: Vec<u8>,
        #[prost(bool, tag = "12")] was_recovering: bool,
        #[prost(bool, tag = "13")] delta: bool,
    }
    PresenceResult {
        #[prost(btree_map = "string, message", tag = "1")] presence: BTreeMap<String, ClientInfo>,
    }
    PresenceStatsResult {
        #[prost(uint32, tag = "1")] num_clients: u32,
        #[prost(uint32, tag = "2")] num_users: u32,
    }
    HistoryResult {
        #[prost(message, repeated, tag = "1")] publications: Vec<Publication>,
        #[prost(string, tag = "2")] epoch: String,
        #[prost(uint64, tag = "3")] offset: u64,
    }
    RefreshResult {
        #[prost(string, tag = "1")] client: String,
        #[prost(string, tag = "2")] version: String,
        #[prost(bool, tag = "3")] expires: bool,
        #[prost(uint32, tag = "4")] ttl: u32,
    }
    Expiry {
        #[prost(bool, tag = "1")] expires: bool,
        #[prost(uint32, tag = "2")] ttl: u32,
    }
}

impl Command {
    /// How many methods the command has; ours takes one.
    pub fn methods(&self) -> usize {
        [
            self.connect.is_some(),
            self.subscribe.is_some(),
            self.unsubscribe.is_some(),
            self.publish.is_some(),
            self.presence.is_some(),
            self.presence_stats.is_some(),
            self.history.is_some(),
            self.ping.is_some(),
            self.send.is_some(),
            self.rpc.is_some(),
            self.refresh.is_some(),
            self.sub_refresh.is_some(),
        ]
        .into_iter()
        .filter(|there| *there)
        .count()
    }

    /// Takes away what a filter's nodes carry without a meaning.
    pub fn without_idle_fields(mut self) -> Self {
        let subs = self.connect.iter_mut().flat_map(|connect| connect.subs.values_mut());
        let filters = subs.chain(&mut self.subscribe).filter_map(|subscribe| subscribe.tf.as_mut());
        filters.for_each(Filter::clean);
        self
    }
}

impl Filter {
    fn clean(&mut self) {
        if self.op.is_empty() {
            self.nodes.clear();
        } else {
            *self = Self {
                op: std::mem::take(&mut self.op),
                nodes: std::mem::take(&mut self.nodes),
                ..Self::default()
            };
            self.nodes.iter_mut().for_each(Self::clean);
        }
    }
}

fn bytes(data: Data<'_>) -> Vec<u8> {
    data.bytes().to_vec()
}

fn map<T, U>(entries: Vec<(Cow<'_, str>, T)>, turn: impl Fn(T) -> U) -> BTreeMap<String, U> {
    entries.into_iter().map(|(key, value)| (key.into(), turn(value))).collect()
}

fn all<T, U: From<T>>(items: Vec<T>) -> Vec<U> {
    items.into_iter().map(U::from).collect()
}

fn some<T, U: From<T>>(value: Option<T>) -> Option<U> {
    value.map(U::from)
}

/// Field by field; what is not simply the same says how it is turned.
macro_rules! from {
    ($($ours:ty => $theirs:ident { $($field:ident $(($turn:expr))?),* })*) => {$(
        impl From<$ours> for $theirs {
            fn from(ours: $ours) -> Self {
                let _ = &ours;
                Self { $($field: from!(@turn ours.$field $(, $turn)?),)* }
            }
        }
    )*};
    (@turn $value:expr) => { $value.into() };
    (@turn $value:expr, $turn:expr) => { $turn($value) };
}

from! {
    api::ConnectRequest<'_> => ConnectRequest {
        token, data(bytes), subs(|subs| map(subs, Into::into)), name, version,
        headers(|headers| map(headers, Into::into)), flag
    }
    api::SubscribeRequest<'_> => SubscribeRequest {
        channel, token, recover, epoch, offset, data(bytes), positioned, recoverable, join_leave,
        delta, tf(some), flag
    }
    api::UnsubscribeRequest<'_> => ChannelRequest { channel }
    api::PublishRequest<'_> => PublishRequest { channel, data(bytes) }
    api::PresenceRequest<'_> => ChannelRequest { channel }
    api::PresenceStatsRequest<'_> => ChannelRequest { channel }
    api::HistoryRequest<'_> => HistoryRequest { channel, limit, since(some), reverse }
    api::StreamPosition<'_> => StreamPosition { offset, epoch }
    api::PingRequest => Empty {}
    api::SendRequest<'_> => DataOnly { data(bytes) }
    api::RpcRequest<'_> => RpcRequest { data(bytes), method }
    api::RefreshRequest<'_> => RefreshRequest { token }
    api::SubRefreshRequest<'_> => SubRefreshRequest { channel, token }
    api::ErrorReply<'_> => Error { code, message, temporary }
    api::Publication<'_> => Publication {
        data(bytes), info(some), offset, tags(|tags| map(tags, Into::into)), delta, time, channel
    }
    api::ClientInfo<'_> => ClientInfo { user, client, conn_info(bytes), chan_info(bytes) }
    api::Join<'_> => Joined { info(some) }
    api::Leave<'_> => Joined { info(some) }
    api::Unsubscribe<'_> => Unsubscribe { code, reason }
    api::MessagePush<'_> => DataOnly { data(bytes) }
    api::Subscribe<'_> => Subscribe { recoverable, epoch, offset, positioned, data(bytes) }
    api::Disconnect<'_> => Disconnect { code, reason, reconnect }
    api::Refresh => Expiry { expires, ttl }
    api::ConnectResult<'_> => ConnectResult {
        client, version, expires, ttl, data(bytes), subs(|subs| map(subs, Into::into)), ping, pong,
        session, node, time
    }
    api::SubscribeResult<'_> => SubscribeResult {
        expires, ttl, recoverable, epoch, publications(all), recovered, offset, positioned,
        data(bytes), was_recovering, delta
    }
    api::UnsubscribeResult => Empty {}
    api::PublishResult => Empty {}
    api::PingResult => Empty {}
    api::PresenceResult<'_> => PresenceResult { presence(|users| map(users, Into::into)) }
    api::PresenceStatsResult => PresenceStatsResult { num_clients, num_users }
    api::HistoryResult<'_> => HistoryResult { publications(all), epoch, offset }
    api::RpcResult<'_> => DataOnly { data(bytes) }
    api::RefreshResult<'_> => RefreshResult { client, version, expires, ttl }
    api::SubRefreshResult => Expiry { expires, ttl }
}

impl From<FilterNode> for Filter {
    fn from(node: FilterNode) -> Self {
        let inner = |op: &str, nodes: Box<[FilterNode]>| Self {
            op: op.into(),
            nodes: all(nodes.into()),
            ..Self::default()
        };
        match node {
            FilterNode::And(nodes) => inner("and", nodes),
            FilterNode::Or(nodes) => inner("or", nodes),
            FilterNode::Not(node) => inner("not", Box::new([*node])),
            FilterNode::Leaf { key, test } => {
                let (cmp, val, vals) = match test {
                    FilterTest::Exists => ("ex", None, None),
                    FilterTest::NotExists => ("nex", None, None),
                    FilterTest::In(values) => ("in", None, Some(values)),
                    FilterTest::NotIn(values) => ("nin", None, Some(values)),
                    FilterTest::Is(compare, value) => (compare_name(compare), Some(value), None),
                };
                Self {
                    key: key.into(),
                    cmp: cmp.into(),
                    val: val.unwrap_or_default().into(),
                    vals: all(vals.unwrap_or_default().into()),
                    ..Self::default()
                }
            }
        }
    }
}

fn compare_name(compare: api::Compare) -> &'static str {
    match compare {
        api::Compare::Equal => "eq",
        api::Compare::NotEqual => "neq",
        api::Compare::StartsWith => "sw",
        api::Compare::EndsWith => "ew",
        api::Compare::Contains => "ct",
        api::Compare::Greater => "gt",
        api::Compare::GreaterOrEqual => "gte",
        api::Compare::Less => "lt",
        api::Compare::LessOrEqual => "lte",
    }
}

/// The variants of a choice, each into its field.
macro_rules! set {
    ($whole:ident, $choice:expr, $kind:ident { $($variant:ident $field:ident,)* }) => {
        match $choice {
            $(Some($kind::$variant(inner)) => $whole.$field = Some(inner.into()),)*
            None => {}
        }
    };
}

impl From<api::Command<'_>> for Command {
    fn from(ours: api::Command<'_>) -> Self {
        use api::Request;
        let mut command = Self { id: ours.id, ..Self::default() };
        set!(command, ours.request, Request {
            Connect connect,
            Subscribe subscribe,
            Unsubscribe unsubscribe,
            Publish publish,
            Presence presence,
            PresenceStats presence_stats,
            History history,
            Ping ping,
            Send send,
            Rpc rpc,
            Refresh refresh,
            SubRefresh sub_refresh,
        });
        command
    }
}

impl From<api::Reply<'_>> for Reply {
    fn from(ours: api::Reply<'_>) -> Self {
        let mut reply = Self { id: ours.id, ..Self::default() };
        set!(reply, ours.body, ReplyBody {
            Error error,
            Push push,
            Connect connect,
            Subscribe subscribe,
            Unsubscribe unsubscribe,
            Publish publish,
            Presence presence,
            PresenceStats presence_stats,
            History history,
            Ping ping,
            Rpc rpc,
            Refresh refresh,
            SubRefresh sub_refresh,
        });
        reply
    }
}

impl From<api::Push<'_>> for Push {
    fn from(ours: api::Push<'_>) -> Self {
        let mut push = Self { channel: ours.channel.into(), ..Self::default() };
        set!(push, ours.body, PushBody {
            Publication publication,
            Join join,
            Leave leave,
            Unsubscribe unsubscribe,
            Message message,
            Subscribe subscribe,
            Connect connect,
            Disconnect disconnect,
            Refresh refresh,
        });
        push
    }
}
