//! Any command and any reply that the types can say and a client may send.

use super::api::*;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use std::borrow::Cow;

type Text = Cow<'static, str>;

fn text() -> impl Strategy<Value = Text> + Clone {
    prop_oneof![
        3 => "[a-z:]{0,6}".prop_map(Cow::Owned),
        1 => ".{0,12}".prop_map(Cow::Owned),
        // Over the one-byte length of Protobuf.
        1 => Just(Cow::Owned("ü\n\"\\".repeat(40))),
    ]
}

fn channel() -> impl Strategy<Value = Text> + Clone {
    "[!-~]{1,20}".prop_map(Cow::Owned)
}

/// JSON on one line, so that it is the same after writing.
fn data() -> impl Strategy<Value = Data<'static>> + Clone {
    prop_oneof![
        Just(Data::None),
        Just(Data::Json(b"null")),
        Just(Data::Json(br#"{"a":[1,2.5e3,"\u00e9\n"],"b":{}}"#)),
        Just(Data::Json(b"\"text\"")),
        Just(Data::Json(&[b'1'; 300])),
    ]
}

fn map<T>(
    key: impl Strategy<Value = Text>,
    value: impl Strategy<Value = T>,
) -> impl Strategy<Value = Vec<(Text, T)>>
where
    T: std::fmt::Debug,
{
    btree_map(key, value, 0..4).prop_map(|map| map.into_iter().collect())
}

fn number() -> impl Strategy<Value = u64> + Clone {
    prop_oneof![Just(0), 1_u64..300, any::<u64>()]
}

fn filter() -> impl Strategy<Value = FilterNode> + Clone {
    let value = || "[a-z0-9ü.]{1,6}".prop_map(String::into_boxed_str);
    let values = || vec(".{0,4}".prop_map(String::into_boxed_str), 1..4).prop_map(Vec::into);
    let compare = proptest::sample::select(vec![
        Compare::Equal,
        Compare::NotEqual,
        Compare::StartsWith,
        Compare::EndsWith,
        Compare::Contains,
        Compare::Greater,
        Compare::GreaterOrEqual,
        Compare::Less,
        Compare::LessOrEqual,
    ]);
    let test = prop_oneof![
        Just(FilterTest::Exists),
        Just(FilterTest::NotExists),
        values().prop_map(FilterTest::In),
        values().prop_map(FilterTest::NotIn),
        (compare, value()).prop_map(|(compare, value)| FilterTest::Is(compare, value)),
    ];
    let leaf = (value(), test).prop_map(|(key, test)| FilterNode::Leaf { key, test });
    leaf.prop_recursive(4, 16, 3, |node| {
        let nodes = || vec(node.clone(), 1..4).prop_map(Vec::into);
        prop_oneof![
            nodes().prop_map(FilterNode::And),
            nodes().prop_map(FilterNode::Or),
            node.prop_map(|node| FilterNode::Not(Box::new(node))),
        ]
    })
}

fn subscribe(
    channel: impl Strategy<Value = Text> + Clone,
) -> impl Strategy<Value = SubscribeRequest<'static>> {
    let texts = (channel, text(), text(), text());
    let flags = any::<[bool; 4]>();
    (texts, flags, number(), data(), proptest::option::of(filter()), any::<i64>()).prop_map(
        |((channel, token, epoch, delta), flags, offset, data, tf, flag)| {
            let [recover, positioned, recoverable, join_leave] = flags;
            SubscribeRequest {
                channel,
                token,
                recover,
                epoch,
                offset,
                data,
                positioned,
                recoverable,
                join_leave,
                delta,
                tf,
                flag,
            }
        },
    )
}

fn connect() -> impl Strategy<Value = ConnectRequest<'static>> {
    let subs = map(channel(), subscribe(Just(Cow::Borrowed(""))));
    (text(), data(), subs, text(), text(), map(text(), text()), any::<i64>()).prop_map(
        |(token, data, subs, name, version, headers, flag)| ConnectRequest {
            token,
            data,
            subs,
            name,
            version,
            headers,
            flag,
        },
    )
}

fn request() -> impl Strategy<Value = Request<'static>> {
    let position = (number(), text()).prop_map(|(offset, epoch)| StreamPosition { offset, epoch });
    let history = (channel(), any::<i32>(), proptest::option::of(position), any::<bool>());
    let some_data = data().prop_filter("publishes have data", |data| !data.is_none());
    prop_oneof![
        connect().prop_map(Request::Connect),
        subscribe(channel()).prop_map(Request::Subscribe),
        channel().prop_map(|channel| Request::Unsubscribe(UnsubscribeRequest { channel })),
        (channel(), some_data)
            .prop_map(|(channel, data)| Request::Publish(PublishRequest { channel, data })),
        channel().prop_map(|channel| Request::Presence(PresenceRequest { channel })),
        channel().prop_map(|channel| Request::PresenceStats(PresenceStatsRequest { channel })),
        history.prop_map(|(channel, limit, since, reverse)| {
            Request::History(HistoryRequest { channel, limit, since, reverse })
        }),
        Just(Request::Ping(PingRequest {})),
        data().prop_map(|data| Request::Send(SendRequest { data })),
        (data(), text()).prop_map(|(data, method)| Request::Rpc(RpcRequest { data, method })),
        text().prop_map(|token| Request::Refresh(RefreshRequest { token })),
        (prop_oneof![channel(), Just(Cow::Borrowed(""))], text()).prop_map(|(channel, token)| {
            Request::SubRefresh(SubRefreshRequest { channel, token })
        }),
    ]
}

/// Any command that is legal: only `send` and pongs go without an id.
pub fn command() -> impl Strategy<Value = Command<'static>> {
    prop_oneof![
        1 => Just(Command::default()),
        9 => (1_u32.., request()).prop_map(|(id, request)| {
            let id = if matches!(request, Request::Send(_)) { id % 2 } else { id };
            Command { id, request: Some(request) }
        }),
    ]
}

fn info() -> impl Strategy<Value = ClientInfo<'static>> {
    (text(), text(), data(), data()).prop_map(|(user, client, conn_info, chan_info)| ClientInfo {
        user,
        client,
        conn_info,
        chan_info,
    })
}

fn publication() -> impl Strategy<Value = Publication<'static>> {
    let info = proptest::option::of(info());
    let tags = map(text(), text());
    (data(), info, number(), tags, any::<bool>(), any::<i64>(), text()).prop_map(
        |(data, info, offset, tags, delta, time, channel)| Publication {
            data,
            info,
            offset,
            tags,
            delta,
            time,
            channel,
        },
    )
}

fn subscribe_result() -> impl Strategy<Value = SubscribeResult<'static>> {
    let publications = vec(publication(), 0..4);
    (any::<[bool; 6]>(), any::<u32>(), text(), publications, number(), data()).prop_map(
        |(flags, ttl, epoch, publications, offset, data)| {
            let [expires, recoverable, recovered, positioned, was_recovering, delta] = flags;
            SubscribeResult {
                expires,
                ttl,
                recoverable,
                epoch,
                publications,
                recovered,
                offset,
                positioned,
                data,
                was_recovering,
                delta,
            }
        },
    )
}

fn connect_result() -> impl Strategy<Value = ConnectResult<'static>> {
    let texts = (text(), text(), text(), text());
    let numbers = (any::<u32>(), any::<u32>(), any::<i64>());
    let subs = map(text(), subscribe_result());
    (texts, any::<[bool; 2]>(), numbers, data(), subs).prop_map(
        |((client, version, session, node), [expires, pong], (ttl, ping, time), data, subs)| {
            ConnectResult {
                client,
                version,
                expires,
                ttl,
                data,
                subs,
                ping,
                pong,
                session,
                node,
                time,
            }
        },
    )
}

fn push_body() -> impl Strategy<Value = PushBody<'static>> {
    let position = (any::<[bool; 2]>(), text(), number(), data());
    prop_oneof![
        publication().prop_map(PushBody::Publication),
        proptest::option::of(info()).prop_map(|info| PushBody::Join(Join { info })),
        proptest::option::of(info()).prop_map(|info| PushBody::Leave(Leave { info })),
        (any::<u32>(), text())
            .prop_map(|(code, reason)| PushBody::Unsubscribe(Unsubscribe { code, reason })),
        data().prop_map(|data| PushBody::Message(MessagePush { data })),
        position.prop_map(|([recoverable, positioned], epoch, offset, data)| {
            PushBody::Subscribe(Subscribe { recoverable, epoch, offset, positioned, data })
        }),
        connect_result().prop_map(PushBody::Connect),
        (any::<u32>(), text(), any::<bool>()).prop_map(|(code, reason, reconnect)| {
            PushBody::Disconnect(Disconnect { code, reason, reconnect })
        }),
        (any::<bool>(), any::<u32>())
            .prop_map(|(expires, ttl)| PushBody::Refresh(Refresh { expires, ttl })),
    ]
}

/// Any push.
pub fn push() -> impl Strategy<Value = Push<'static>> {
    (text(), push_body()).prop_map(|(channel, body)| Push { channel, body: Some(body) })
}

fn body() -> impl Strategy<Value = ReplyBody<'static>> {
    let history = (vec(publication(), 0..4), text(), number());
    let expiry = (any::<bool>(), any::<u32>());
    let error = (any::<u32>(), text(), any::<bool>());
    prop_oneof![
        error.prop_map(|(code, message, temporary)| {
            ReplyBody::Error(ErrorReply { code, message, temporary })
        }),
        push().prop_map(ReplyBody::Push),
        connect_result().prop_map(ReplyBody::Connect),
        subscribe_result().prop_map(ReplyBody::Subscribe),
        Just(ReplyBody::Unsubscribe(UnsubscribeResult {})),
        Just(ReplyBody::Publish(PublishResult {})),
        map(text(), info()).prop_map(|presence| ReplyBody::Presence(PresenceResult { presence })),
        any::<[u32; 2]>().prop_map(|[num_clients, num_users]| {
            ReplyBody::PresenceStats(PresenceStatsResult { num_clients, num_users })
        }),
        history.prop_map(|(publications, epoch, offset)| {
            ReplyBody::History(HistoryResult { publications, epoch, offset })
        }),
        Just(ReplyBody::Ping(PingResult {})),
        data().prop_map(|data| ReplyBody::Rpc(RpcResult { data })),
        (text(), text(), expiry).prop_map(|(client, version, (expires, ttl))| {
            ReplyBody::Refresh(RefreshResult { client, version, expires, ttl })
        }),
        expiry.prop_map(|(expires, ttl)| {
            ReplyBody::SubRefresh(SubRefreshResult { expires, ttl })
        }),
    ]
}

/// Any reply.
pub fn reply() -> impl Strategy<Value = Reply<'static>> {
    prop_oneof![
        1 => Just(Reply::default()),
        9 => (any::<u32>(), body()).prop_map(|(id, body)| Reply { id, body: Some(body) }),
    ]
}
