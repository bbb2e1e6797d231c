//! The texts that SDKs were written against: the session of the protocol's description, and the
//! forms of everything that is easily got wrong.

use super::api::*;
use super::{command, commands, json, replies, text, written};
use std::borrow::Cow;

const JSON: Encoding = Encoding::Json;

fn reply_text(id: u32, body: ReplyBody<'_>) -> String {
    text(|out| write_reply(out, JSON, &Reply { id, body: Some(body) }))
}

fn push_text(channel: &str, body: PushBody<'_>) -> String {
    text(|out| {
        write_push(out, JSON, &Push { channel: Cow::Borrowed(channel), body: Some(body) });
    })
}

/// The reply is written so, and reads back as it was.
fn check_reply(id: u32, body: ReplyBody<'_>, expected: &str) {
    assert_eq!(reply_text(id, body.clone()), expected);
    assert_eq!(replies(JSON, expected.as_bytes()), [Ok(Reply { id, body: Some(body) })]);
}

#[test]
fn a_whole_session() {
    let first = concat!(
        r#"{"id":1,"connect":{"token":"<jwt>","name":"js"}}"#,
        "\n",
        r#"{"id":2,"subscribe":{"channel":"m:orders","recover":true,"epoch":"abcd","offset":7}}"#,
    );
    let connect = ConnectRequest {
        token: Cow::Borrowed("<jwt>"),
        name: Cow::Borrowed("js"),
        ..ConnectRequest::default()
    };
    let subscribe = SubscribeRequest {
        channel: Cow::Borrowed("m:orders"),
        recover: true,
        epoch: Cow::Borrowed("abcd"),
        offset: 7,
        ..SubscribeRequest::default()
    };
    let sent = [
        Command { id: 1, request: Some(Request::Connect(connect)) },
        Command { id: 2, request: Some(Request::Subscribe(subscribe)) },
    ];
    assert_eq!(commands(JSON, first.as_bytes()), sent.clone().map(Ok));

    check_reply(
        1,
        ReplyBody::Connect(ConnectResult {
            client: Cow::Borrowed("9f"),
            version: Cow::Borrowed("0.1"),
            ping: 25,
            pong: true,
            expires: true,
            ttl: 600,
            ..ConnectResult::default()
        }),
        concat!(
            r#"{"id":1,"connect":{"client":"9f","version":"0.1","expires":true,"ttl":600,"#,
            r#""ping":25,"pong":true}}"#
        ),
    );
    let missed =
        Publication { data: Data::Json(br#"{"v":1}"#), offset: 8, ..Publication::default() };
    check_reply(
        2,
        ReplyBody::Subscribe(SubscribeResult {
            recoverable: true,
            positioned: true,
            epoch: Cow::Borrowed("abcd"),
            offset: 7,
            publications: vec![missed],
            recovered: true,
            was_recovering: true,
            ..SubscribeResult::default()
        }),
        concat!(
            r#"{"id":2,"subscribe":{"recoverable":true,"epoch":"abcd","#,
            r#""publications":[{"data":{"v":1},"offset":8}],"recovered":true,"offset":7,"#,
            r#""positioned":true,"was_recovering":true}}"#
        ),
    );
    let live = Publication { data: Data::Json(br#"{"v":2}"#), offset: 9, ..Publication::default() };
    assert_eq!(
        push_text("m:orders", PushBody::Publication(live)),
        r#"{"push":{"channel":"m:orders","pub":{"data":{"v":2},"offset":9}}}"#
    );
    assert_eq!(text(|out| write_reply(out, JSON, &Reply::default())), "{}");
    assert_eq!(json("{}"), Ok(Command::default()));
    let refresh = RefreshRequest { token: Cow::Borrowed("<new jwt>") };
    assert_eq!(
        json(r#"{"id":3,"refresh":{"token":"<new jwt>"}}"#),
        Ok(Command { id: 3, request: Some(Request::Refresh(refresh)) })
    );
    check_reply(
        3,
        ReplyBody::Refresh(RefreshResult {
            client: Cow::Borrowed("9f"),
            version: Cow::Borrowed("0.1"),
            expires: true,
            ttl: 600,
        }),
        r#"{"id":3,"refresh":{"client":"9f","version":"0.1","expires":true,"ttl":600}}"#,
    );
    assert_eq!(
        (DisconnectCode::Shutdown.code(), DisconnectCode::Shutdown.text()),
        (3001, "shutdown")
    );
}

#[test]
fn an_empty_result_is_there_and_an_error_has_its_message() {
    let expected = r#"{"id":2,"subscribe":{}}"#;
    check_reply(2, ReplyBody::Subscribe(SubscribeResult::default()), expected);
    check_reply(3, ReplyBody::Publish(PublishResult {}), r#"{"id":3,"publish":{}}"#);
    check_reply(4, ReplyBody::Presence(PresenceResult::default()), r#"{"id":4,"presence":{}}"#);
    check_reply(
        5,
        ReplyBody::Error(ErrorCode::TooManyRequests.into()),
        r#"{"id":5,"error":{"code":111,"message":"too many requests","temporary":true}}"#,
    );
    check_reply(
        6,
        ReplyBody::Error(ErrorCode::BadRequest.into()),
        r#"{"id":6,"error":{"code":107,"message":"bad request"}}"#,
    );
    check_reply(7, ReplyBody::Error(ErrorReply::default()), r#"{"id":7,"error":{"message":""}}"#);
}

#[test]
fn pushes_have_their_names() {
    let check = |channel, body, expected: &str| assert_eq!(push_text(channel, body), expected);
    let info = || {
        Some(ClientInfo {
            user: Cow::Borrowed("u"),
            client: Cow::Borrowed("9f"),
            conn_info: Data::Json(b"{\"n\":\n1}"),
            ..ClientInfo::default()
        })
    };
    check(
        "c",
        PushBody::Join(Join { info: info() }),
        r#"{"push":{"channel":"c","join":{"info":{"user":"u","client":"9f","conn_info":{"n": 1}}}}}"#,
    );
    check(
        "c",
        PushBody::Leave(Leave { info: Some(ClientInfo::default()) }),
        r#"{"push":{"channel":"c","leave":{"info":{}}}}"#,
    );
    check(
        "c",
        PushBody::Unsubscribe(UnsubscribeCode::InsufficientState.into()),
        r#"{"push":{"channel":"c","unsubscribe":{"code":2500,"reason":"insufficient state"}}}"#,
    );
    check(
        "",
        PushBody::Disconnect(DisconnectCode::Shutdown.into()),
        r#"{"push":{"disconnect":{"code":3001,"reason":"shutdown","reconnect":true}}}"#,
    );
    check(
        "",
        PushBody::Disconnect(DisconnectCode::Idle.into()),
        r#"{"push":{"disconnect":{"code":4501,"reason":"idle"}}}"#,
    );
    let mut notice = Vec::new();
    Notice::from(NoticeKind::Idle { close_in_s: 30 }).write(&mut notice);
    check(
        "",
        PushBody::Message(MessagePush { data: Data::Json(&notice) }),
        r#"{"push":{"message":{"data":{"notice":"idle","close_in_s":30}}}}"#,
    );
    check(
        "c",
        PushBody::Subscribe(Subscribe { offset: 3, ..Subscribe::default() }),
        r#"{"push":{"channel":"c","subscribe":{"offset":3}}}"#,
    );
    check(
        "",
        PushBody::Refresh(Refresh { expires: true, ttl: 60 }),
        r#"{"push":{"refresh":{"expires":true,"ttl":60}}}"#,
    );
    check("", PushBody::Connect(ConnectResult::default()), r#"{"push":{"connect":{}}}"#);
}

#[test]
fn a_publication_carries_every_kind_of_data_and_all_of_its_fields() {
    let check = |publication: Publication<'_>, expected: &str| {
        let expected = format!(r#"{{"push":{{"channel":"c","pub":{expected}}}}}"#);
        assert_eq!(push_text("c", PushBody::Publication(publication)), expected);
    };
    let of = |data| Publication { data, ..Publication::default() };
    check(of(Data::Json(b"[1,\n2]")), r#"{"data":[1, 2]}"#);
    check(of(Data::Text("a\n\"b\"")), r#"{"data":"a\n\"b\""}"#);
    check(of(Data::Text("")), r#"{"data":""}"#);
    check(of(Data::Binary(b"\xff\x00")), r#"{"data":"/wA="}"#);
    check(of(Data::None), "{}");
    // With deltas, full messages are strings too.
    let full = Data::Json(b"{\"v\":\n1}").as_text().unwrap();
    check(of(full), r#"{"data":"{\"v\":\n1}"}"#);
    let delta = Publication { delta: true, offset: 2, ..of(Data::Text("8\n8@0,2;")) };
    check(delta, r#"{"data":"8\n8@0,2;","offset":2,"delta":true}"#);
    let entry = |key, value| (Cow::Borrowed(key), Cow::Borrowed(value));
    check(
        Publication {
            info: Some(ClientInfo::default()),
            offset: u64::MAX,
            tags: vec![entry("", "x"), entry("k\"", "")],
            time: -5,
            channel: Cow::Borrowed("d"),
            ..of(Data::Json(b"null"))
        },
        concat!(
            r#"{"data":null,"info":{},"offset":18446744073709551615,"tags":{"":"x","k\"":""},"#,
            r#""time":-5,"channel":"d"}"#
        ),
    );
}

#[test]
fn protobuf_is_what_protoc_would_write() {
    let publication =
        Publication { data: Data::Json(b"{}"), offset: 300, ..Publication::default() };
    let body = Some(PushBody::Publication(publication));
    let push = Push { channel: Cow::Borrowed("c"), body };
    let expected = [
        14, // the reply's length
        0x22, 12, // push
        0x12, 1, b'c', // channel
        0x22, 7, // pub
        0x22, 2, b'{', b'}', // data
        0x30, 0xac, 2, // offset
    ];
    assert_eq!(written(|out| write_push(out, Encoding::Protobuf, &push)), expected);
    let empty = Reply { id: 2, body: Some(ReplyBody::Subscribe(SubscribeResult::default())) };
    let bytes = written(|out| write_reply(out, Encoding::Protobuf, &empty));
    assert_eq!(bytes, [4, 0x08, 2, 0x32, 0]);
    let ping = written(|out| write_reply(out, Encoding::Protobuf, &Reply::default()));
    assert_eq!(ping, Encoding::Protobuf.ping());
    assert_eq!(command(Encoding::Protobuf, &[0]), Ok(Command::default()));
    assert_eq!(text(|out| write_reply(out, JSON, &Reply::default())).as_bytes(), JSON.ping());
}

#[test]
fn what_the_sdks_really_send() {
    let check = |text: &str, id: u32, request: Request<'_>| {
        assert_eq!(json(text), Ok(Command { id, request: Some(request) }), "{text}");
    };
    // centrifuge-python leaves out the channel.
    check(
        r#"{"id":9,"sub_refresh":{"token":"t"}}"#,
        9,
        Request::SubRefresh(SubRefreshRequest {
            token: Cow::Borrowed("t"),
            ..SubRefreshRequest::default()
        }),
    );
    // centrifuge-js starts in cache mode from nothing: recover without epoch and offset.
    check(
        r#"{"id":2,"subscribe":{"channel":"c","recover":true}}"#,
        2,
        Request::Subscribe(SubscribeRequest {
            channel: Cow::Borrowed("c"),
            recover: true,
            ..SubscribeRequest::default()
        }),
    );
    let history = |since| {
        Request::History(HistoryRequest {
            channel: Cow::Borrowed("c"),
            limit: -1,
            since,
            ..HistoryRequest::default()
        })
    };
    check(
        r#"{"id":4,"history":{"channel":"c","limit":-1,"since":{}}}"#,
        4,
        history(Some(StreamPosition::default())),
    );
    check(r#"{"id":4,"history":{"channel":"c","limit":-1,"since":null}}"#, 4, history(None));
    check(
        r#"{"send":{"data":{"credit":100}}}"#,
        0,
        Request::Send(SendRequest { data: Data::Json(br#"{"credit":100}"#) }),
    );
    // Go and JavaScript write nulls where they have nothing; for a payload null is a value.
    let publish = PublishRequest { channel: Cow::Borrowed("c"), data: Data::Json(b"null") };
    check(
        r#"{"id":5,"rpc":null,"publish":{"channel":"c","data":null,"type":null}}"#,
        5,
        Request::Publish(publish),
    );
    // Escapes in names and values, members of newer SDKs, and white space.
    check(
        " { \"i\\u0064\" : 6 , \"new\" : [{}] , \"unsubscribe\" : { \"channel\" : \"\\u0063\" } } \r\n\n",
        6,
        Request::Unsubscribe(UnsubscribeRequest { channel: Cow::Borrowed("c") }),
    );
}

#[test]
fn what_is_given_twice_has_one_meaning() {
    let read = json(concat!(
        r#"{"id":1,"connect":{"token":"a","token":"b","subs":{"y":{},"x":{"offset":1}},"#,
        r#""headers":{"k":"1","k":"2"}},"id":2,"connect":{"name":"n","token":null,"#,
        r#""subs":{"x":{"epoch":"e"}}}}"#
    ));
    let entry = |key, request| (Cow::Borrowed(key), request);
    let position = SubscribeRequest { epoch: Cow::Borrowed("e"), ..SubscribeRequest::default() };
    let expected = ConnectRequest {
        token: Cow::Borrowed("b"),
        name: Cow::Borrowed("n"),
        headers: vec![(Cow::Borrowed("k"), Cow::Borrowed("2"))],
        subs: vec![entry("x", position), entry("y", SubscribeRequest::default())],
        ..ConnectRequest::default()
    };
    assert_eq!(read, Ok(Command { id: 2, request: Some(Request::Connect(expected)) }));
}

#[test]
fn emulation_carries_a_frame() {
    let body = br#"{"node":"n1","session":"s1","data":"{}\n{\"id\":1,\"ping\":{}}"}"#;
    let request = read_emulation(JSON, body, &Limits::DEFAULT).unwrap();
    assert_eq!((&*request.node, &*request.session), ("n1", "s1"));
    assert_eq!(commands(JSON, &request.data).len(), 2);
    let body = [&[0x0a, 1, b'n', 0x12, 1, b's', 0x1a, 2][..], &[0, 0]].concat();
    let request = read_emulation(Encoding::Protobuf, &body, &Limits::DEFAULT).unwrap();
    assert_eq!(commands(Encoding::Protobuf, &request.data).len(), 2);
    let two = read_emulation(JSON, b"{}\n{}", &Limits::DEFAULT);
    assert_eq!(two.unwrap_err().fault, Fault::TooManyCommands);
    assert!(read_emulation(JSON, b"", &Limits::DEFAULT).is_err());
    assert!(read_emulation(JSON, b"{\"data\":{}}", &Limits::DEFAULT).is_err());
}

#[test]
fn subprotocols_name_their_encoding() {
    for encoding in [JSON, Encoding::Protobuf] {
        assert_eq!(Encoding::from_subprotocol(encoding.subprotocol()), Some(encoding));
    }
    assert_eq!(Encoding::from_subprotocol("centrifuge"), None);
}
