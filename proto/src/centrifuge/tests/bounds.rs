//! What is refused, how, and what goes on after it.

use super::api::*;
use super::{command, commands, json, written};
use crate::protobuf::{WireError, write_bytes_field, write_prefixed, write_varint_field};
use std::borrow::Cow;

fn fault(text: &str) -> (u32, Fault) {
    let error = json(text).expect_err(text);
    (error.id, error.fault)
}

#[test]
fn what_cannot_be_read_ends_the_frame() {
    let check = |frame: &[u8], expected: Fault| {
        let all = commands(Encoding::Json, frame);
        let error = all.last().unwrap().as_ref().expect_err("an error comes last");
        assert_eq!(error.fault, expected, "{}", String::from_utf8_lossy(frame));
        let bad_request = Outcome::Disconnect(DisconnectCode::BadRequest);
        assert_eq!(error.outcome(), bad_request);
    };
    check(b"", Fault::Empty);
    check(b" \n\r\n\t", Fault::Empty);
    check(b"{\"id\":1\xff}", Fault::Utf8);
    check(b"[]", Fault::NotAnObject);
    check(b"{}\n7\n{}", Fault::NotAnObject);
    check(b"{}{}", Fault::Separator);
    check(b"{} {}", Fault::Separator);
    check(b"{} x\n", Fault::Separator);
    check(b"{}\n{\"id\":", Fault::Json("ended where a value was expected"));
    check(b"{\"id\":01}", Fault::Json("expected `,` or `}`"));
    check(b"{'id':1}", Fault::Json("expected a member name in quotes"));
    check(br#"{"id":"1","ping":{}}"#, Fault::Type("id"));
    check(br#"{"id":1.0,"ping":{}}"#, Fault::Type("id"));
    check(br#"{"id":-1,"ping":{}}"#, Fault::Range("id"));
    check(br#"{"id":4294967296,"ping":{}}"#, Fault::Range("id"));
    check(br#"{"id":1,"ping":[]}"#, Fault::Type("ping"));
    check(br#"{"id":1,"connect":{"token":1}}"#, Fault::Type("token"));
    check(br#"{"id":1,"connect":{"token":"\ud800"}}"#, Fault::Type("token"));
    check(br#"{"id":1,"connect":{"subs":[]}}"#, Fault::Type("subs"));
    check(br#"{"id":1,"connect":{"subs":{"c":1}}}"#, Fault::Type("subs"));
    check(br#"{"id":1,"subscribe":{"channel":"c","recover":1}}"#, Fault::Type("recover"));
    check(br#"{"id":1,"subscribe":{"channel":"c","offset":-1}}"#, Fault::Range("offset"));
    check(br#"{"id":1,"history":{"channel":"c","limit":2147483648}}"#, Fault::Range("limit"));
    check(br#"{"id":1,"subscribe":{"channel":"c","tf":{"vals":"x"}}}"#, Fault::Type("tf"));
    check(br#"{"ping":{}}"#, Fault::MissingId);
    check(&[b"{\"new\":".as_slice(), &[b'['; 200]].concat(), Fault::Json("nested too deep"));
}

#[test]
fn what_cannot_be_used_is_answered_and_the_frame_goes_on() {
    let check = |request: &str, expected: Fault| {
        // The id may come behind; both are the same command.
        let before = format!("{{\"id\":7,{request}}}");
        let behind = format!("{{{request},\"id\":7}}");
        assert_eq!(fault(&before), (7, expected), "{request}");
        assert_eq!(fault(&behind), (7, expected), "{request}");
        let frame = format!("{before}\n{{}}");
        let all = commands(Encoding::Json, frame.as_bytes());
        assert_eq!(all.len(), 2, "{request}");
        let code = match expected {
            Fault::UnknownMethod => ErrorCode::MethodNotFound,
            _ => ErrorCode::BadRequest,
        };
        let outcome = all.first().unwrap().as_ref().unwrap_err().outcome();
        assert_eq!(outcome, Outcome::Reply { id: 7, code }, "{request}");
    };
    let long = "x".repeat(Limits::DEFAULT.text_bytes_max + 1);
    let token = "x".repeat(Limits::DEFAULT.token_bytes_max + 1);
    let channel = |name: &str| crate::channel::validate(name.as_bytes()).unwrap_err().into();
    check("\"dance\":{}", Fault::UnknownMethod);
    check("\"ping\":null", Fault::UnknownMethod);
    check("\"ping\":{},\"rpc\":{}", Fault::TwoMethods);
    check("\"subscribe\":{}", channel(""));
    check("\"unsubscribe\":{\"channel\":\"a b\"}", channel("a b"));
    check("\"presence\":{\"channel\":\"\\u00fc\"}", channel("ü"));
    check(&format!("\"history\":{{\"channel\":\"{}\"}}", &long[..256]), channel(&long[..256]));
    check("\"sub_refresh\":{\"channel\":\" \"}", channel(" "));
    check("\"connect\":{\"subs\":{\"\":{}}}", channel(""));
    check("\"publish\":{\"channel\":\"c\"}", Fault::MissingData);
    check(&format!("\"connect\":{{\"token\":\"{token}\"}}"), Fault::TooLong("token"));
    check(&format!("\"connect\":{{\"name\":\"{long}\"}}"), Fault::TooLong("name"));
    check(&format!("\"connect\":{{\"headers\":{{\"{long}\":\"\"}}}}"), Fault::TooLong("headers"));
    check(&format!("\"rpc\":{{\"method\":\"{long}\"}}"), Fault::TooLong("method"));
    check(&format!("\"refresh\":{{\"token\":\"{token}\"}}"), Fault::TooLong("token"));
    check(
        &format!("\"subscribe\":{{\"channel\":\"c\",\"epoch\":\"{long}\"}}"),
        Fault::TooLong("epoch"),
    );
    let since = format!("\"history\":{{\"channel\":\"c\",\"since\":{{\"epoch\":\"{long}\"}}}}");
    check(&since, Fault::TooLong("epoch"));
    check(
        &format!("\"subscribe\":{{\"channel\":\"c\",\"tf\":{{\"key\":\"{long}\"}}}}"),
        Fault::TooLong("tf"),
    );
}

#[test]
fn maps_lists_and_commands_are_counted() {
    let max = Limits::DEFAULT.entries_max;
    let headers = |count: usize| {
        let entries: Vec<_> = (0..count).map(|at| format!("\"{at}\":\"\"")).collect();
        format!("{{\"id\":1,\"connect\":{{\"headers\":{{{}}}}}}}", entries.join(","))
    };
    assert!(json(&headers(max)).is_ok());
    assert_eq!(fault(&headers(max + 1)), (1, Fault::TooManyEntries));
    let vals = |count: usize| {
        let tf = format!(
            "{{\"key\":\"k\",\"cmp\":\"in\",\"vals\":[{}]}}",
            vec!["\"\""; count].join(",")
        );
        format!("{{\"id\":1,\"subscribe\":{{\"channel\":\"c\",\"tf\":{tf}}}}}")
    };
    assert!(json(&vals(max)).is_ok());
    assert_eq!(fault(&vals(max + 1)), (1, Fault::TooManyEntries));

    let max = Limits::DEFAULT.commands_max;
    for (encoding, piece) in [(Encoding::Json, "{}\n"), (Encoding::Protobuf, "\0")] {
        let (fits, over) = (piece.repeat(max), piece.repeat(max + 5));
        let all = commands(encoding, fits.as_bytes());
        assert!(all.len() == max && all.iter().all(Result::is_ok));
        let all = commands(encoding, over.as_bytes());
        assert_eq!(all.len(), max + 1);
        assert_eq!(all.last().unwrap().as_ref().unwrap_err().fault, Fault::TooManyCommands);
    }
}

#[test]
fn filters_are_bounded_and_checked() {
    let subscribe =
        |tf: &str| format!("{{\"id\":3,\"subscribe\":{{\"channel\":\"c\",\"tf\":{tf}}}}}");
    let check = |tf: &str, expected: FilterError| {
        assert_eq!(fault(&subscribe(tf)), (3, Fault::Filter(expected)), "{tf}");
    };
    let leaf = r#"{"key":"k","cmp":"eq","val":"v"}"#;
    let deep = |depth: usize| {
        let (open, close) = (r#"{"op":"not","nodes":["#, "]}");
        format!("{}{leaf}{}", open.repeat(depth - 1), close.repeat(depth - 1))
    };
    let wide =
        |nodes: usize| format!("{{\"op\":\"or\",\"nodes\":[{}]}}", vec![leaf; nodes - 1].join(","));
    let Limits { filter_depth_max: depth, filter_nodes_max: nodes, .. } = Limits::DEFAULT;
    assert!(json(&subscribe(&deep(depth))).is_ok());
    check(&deep(depth + 1), FilterError::TooDeep);
    assert!(json(&subscribe(&wide(nodes))).is_ok());
    check(&wide(nodes + 1), FilterError::TooManyNodes);
    check(r#"{"op":"xor","nodes":[]}"#, FilterError::Op);
    check(r#"{"op":"and"}"#, FilterError::Nodes);
    check(r#"{"op":"or","nodes":[]}"#, FilterError::Nodes);
    check(r#"{"op":"not","nodes":[]}"#, FilterError::Nodes);
    check(&format!("{{\"op\":\"not\",\"nodes\":[{leaf},{leaf}]}}"), FilterError::Nodes);
    check("{}", FilterError::Compare);
    check(r#"{"key":"k","cmp":"like","val":"v"}"#, FilterError::Compare);
    check(r#"{"cmp":"eq","val":"v"}"#, FilterError::Key);
    check(r#"{"key":"k","cmp":"eq"}"#, FilterError::Values);
    check(r#"{"key":"k","cmp":"gt","vals":["1"]}"#, FilterError::Values);
    check(r#"{"key":"k","cmp":"in","val":"v"}"#, FilterError::Values);
    check(r#"{"key":"k","cmp":"in","vals":[]}"#, FilterError::Values);
    check(r#"{"key":"k","cmp":"ex","val":"v"}"#, FilterError::Values);
    check(&format!("{leaf},\"tf\":{leaf}"), FilterError::Twice);
    assert!(json(&subscribe(r#"{"cmp":"nex"}"#)).is_ok());
    assert!(json(&subscribe("null")).is_ok());
}

fn subscribe_in_protobuf() -> Vec<u8> {
    let tf =
        FilterNode::Leaf { key: "k".into(), test: FilterTest::In(["a".into(), "b".into()].into()) };
    let request = Request::Subscribe(SubscribeRequest {
        channel: Cow::Borrowed("c"),
        offset: 1 << 40,
        flag: -1,
        tf: Some(tf),
        ..SubscribeRequest::default()
    });
    let command = Command { id: 300, request: Some(request) };
    written(|out| write_command(out, Encoding::Protobuf, &command))
}

#[test]
fn no_cut_of_a_frame_is_taken_for_the_whole() {
    let protobuf = subscribe_in_protobuf();
    let json = {
        let command = command(Encoding::Protobuf, &protobuf).unwrap();
        written(|out| write_command(out, Encoding::Json, &command))
    };
    for (encoding, frame) in [(Encoding::Protobuf, protobuf), (Encoding::Json, json)] {
        let whole = command(encoding, &frame).unwrap();
        for cut in 0..frame.len() {
            let error = command(encoding, &frame[..cut]).unwrap_err();
            let bad_request = Outcome::Disconnect(DisconnectCode::BadRequest);
            assert_eq!(error.outcome(), bad_request, "{encoding:?} {cut}");
            // A cut in the second command leaves the first one alone.
            let second = [&frame, encoding.separator(), &frame[..cut]].concat();
            let all = commands(encoding, &second);
            assert_eq!(all.first(), Some(&Ok(whole.clone())), "{encoding:?} {cut}");
            assert_eq!(all.len(), if cut == 0 { 1 } else { 2 }, "{encoding:?} {cut}");
        }
    }
}

#[test]
fn wrong_protobuf_is_told() {
    let check = |expected: Fault, write: &dyn Fn(&mut Vec<u8>)| {
        let frame = written(|out| write_prefixed(out, 0, write));
        let error = command(Encoding::Protobuf, &frame).unwrap_err();
        assert_eq!(error.fault, expected, "{frame:x?}");
    };
    check(Fault::Type("id"), &|out| write_bytes_field(out, 1, b"1"));
    check(Fault::Range("id"), &|out| write_varint_field(out, 1, 1 << 32));
    check(Fault::Type("ping"), &|out| write_varint_field(out, 11, 1));
    check(Fault::Type("channel"), &|out| write_bytes_field(out, 6, &[0x0a, 1, 0xff]));
    check(Fault::Type("channel"), &|out| write_bytes_field(out, 6, &[0x08, 1]));
    check(Fault::Type("data"), &|out| write_bytes_field(out, 12, &[0x08, 1]));
    check(Fault::Range("limit"), &|out| {
        write_bytes_field(out, 10, &[0x38, 0xff, 0xff, 0xff, 0xff, 0x0f])
    });
    check(Fault::Wire(WireError::Truncated), &|out| write_bytes_field(out, 6, &[0x0a, 5, b'c']));
    check(Fault::Wire(WireError::WireType), &|out| write_bytes_field(out, 6, &[0x0b]));
    check(Fault::Wire(WireError::FieldNumber), &|out| out.extend([0, 0]));
    check(Fault::Wire(WireError::Varint), &|out| {
        out.push(0x08);
        out.extend([0x80; 10]);
    });
    check(Fault::MissingId, &|out| write_bytes_field(out, 11, b""));
    assert_eq!(commands(Encoding::Protobuf, &[]).remove(0).unwrap_err().fault, Fault::Empty);
    // Unknown fields of every type are skipped, at every level.
    let unknown = |out: &mut Vec<u8>| {
        out.extend([0x9a, 0x06, 1, b'x']);
        out.extend([0x98, 0x06, 7]);
        out.extend([0x99, 0x06, 1, 2, 3, 4, 5, 6, 7, 8]);
        out.extend([0x9d, 0x06, 1, 2, 3, 4]);
    };
    let frame = written(|out| {
        write_prefixed(out, 0, |out| {
            unknown(out);
            write_varint_field(out, 1, 5);
            let inner = written(|out| {
                unknown(out);
                write_bytes_field(out, 1, b"c");
            });
            write_bytes_field(out, 6, &inner);
            unknown(out);
        });
    });
    let expected = Request::Unsubscribe(UnsubscribeRequest { channel: Cow::Borrowed("c") });
    assert_eq!(command(Encoding::Protobuf, &frame), Ok(Command { id: 5, request: Some(expected) }));
}

#[test]
fn a_command_borrows_from_its_frame() {
    let frame = br#"{"id":1,"subscribe":{"channel":"c","token":"t","data":{"a":1}}}"#.to_vec();
    let read = command(Encoding::Json, &frame).unwrap();
    let Some(Request::Subscribe(request)) = read.request else { panic!("a subscribe") };
    let inside = |part: &[u8]| frame.as_ptr_range().contains(&part.as_ptr());
    assert!(matches!(request.channel, Cow::Borrowed(_)) && inside(request.channel.as_bytes()));
    assert!(matches!(request.token, Cow::Borrowed(_)) && inside(request.data.bytes()));
}
