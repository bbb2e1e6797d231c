//! The decoders through their public functions: what is sent, against what an event then says.

use super::*;
use crate::envelope::write_envelope;
use crate::event::{DataKind, Event};
use crate::position::{Epoch, Position};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::ops::ControlFlow;

const DATA_BYTES_MAX: usize = 1000;

fn with<T>(channel: Option<&str>, run: impl FnOnce(&mut Context<'_>) -> T) -> T {
    let mut ids = IdSource::new([1, 2]);
    ids.set_now_ms(1_700_000_000_000);
    run(&mut Context {
        channel,
        traceparent: "",
        author: "",
        data_bytes_max: DATA_BYTES_MAX,
        ids: &mut ids,
    })
}

fn place(unplaced: Unplaced) -> Event {
    unplaced.place(Position { epoch: Epoch(1), offset: 1 }, 5)
}

/// An event as its envelope without position, time, class and made id; a rejection as its code.
fn show(result: Result<Unplaced, Rejection>) -> String {
    let event = match result {
        Ok(unplaced) => place(unplaced),
        Err(rejection) => {
            assert!(!rejection.detail.is_empty() && rejection.detail.len() <= DETAIL_BYTES_MAX);
            assert!(!rejection.detail.bytes().any(|b| b < 0x20), "{}", rejection.detail);
            return format!("{}: {}", rejection.code.as_str(), rejection.detail);
        }
    };
    let mut out = Vec::new();
    write_envelope(&mut out, &event);
    let mut value: Value = serde_json::from_slice(&out).unwrap();
    let members = value.as_object_mut().unwrap();
    members.remove("epoch");
    members.remove("offset");
    if event.time_us() == 5 {
        members.remove("time");
    }
    if event.class() == crate::event::Class::Normal {
        members.remove("class");
    }
    if event.id_generated() {
        members.remove("id");
    }
    value.to_string()
}

fn body(shape: BodyShape, channel: Option<&str>, text: &[u8]) -> Vec<String> {
    with(channel, |context| {
        let mut items = Vec::new();
        let progress = BodyDecoder::new(shape).decode(context, text, |item| {
            assert_eq!(item.index, items.len() as u64);
            assert!(item.result.as_ref().err().is_none_or(|r| r.index == item.index));
            items.push(show(item.result));
            ControlFlow::Continue(())
        });
        assert_eq!(progress, Progress::Done);
        items
    })
}

/// `expected` is the beginning of what is shown, so that details need not be repeated in full.
fn check(channel: Option<&str>, text: &str, expected: &str) {
    let items = body(BodyShape::Envelopes, channel, text.as_bytes());
    assert_eq!(items.len(), 1, "{text}: {items:?}");
    assert!(items[0].starts_with(expected), "{text}\n  gave {}\n  not  {expected}", items[0]);
}

#[test]
fn every_member_of_an_envelope_arrives_in_the_event() {
    check(
        None,
        concat!(
            r#" {"id":"1","channel":"c","type":"t","source":"s","time":"2026-01-02T03:04:05+01:00","#,
            r#""key":"k","class":"critical","content_type":"application/x","#,
            r#""traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","#,
            r#""attributes":{"a":1},"data":[1, 2]} "#
        ),
        concat!(
            r#"{"attributes":{"a":1},"channel":"c","class":"critical","#,
            r#""content_type":"application/x","data":[1,2],"id":"1","key":"k","source":"s","#,
            r#""time":"2026-01-02T02:04:05.000000Z","#,
            r#""traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","type":"t"}"#
        ),
    );
}

#[test]
fn data_is_kept_byte_for_byte() {
    for data in ["null", "1.0", "-0.0e+10", "\"\\u00e9\\/é\"", "{ \"b\" :1,\t\"a\":[ ] }", "1e999"]
    {
        let text = format!("{{\"channel\":\"c\",\"data\": {data} }}");
        let event = place(with(None, |c| decode_envelope(c, text.as_bytes())).unwrap());
        assert_eq!((event.data(), event.data_kind()), (data.as_bytes(), DataKind::Json));
    }
}

#[test]
fn a_string_of_a_text_type_is_text_and_nothing_else_is() {
    let text = "text/plain; charset=utf-8";
    for (content_type, data, kind, stored) in [
        (text, r#""a\n\u00e9""#, DataKind::Text, "a\né"),
        ("Text/HTML", "\"\"", DataKind::Text, ""),
        (text, "[1]", DataKind::Json, "[1]"),
        (text, "null", DataKind::Json, "null"),
        ("text/plain; charset=latin1", "\"a\"", DataKind::Json, "\"a\""),
        ("application/json", "\"a\"", DataKind::Json, "\"a\""),
    ] {
        let item =
            format!("{{\"channel\":\"c\",\"data\":{data},\"content_type\":\"{content_type}\"}}");
        let event = place(with(None, |c| decode_envelope(c, item.as_bytes())).unwrap());
        assert_eq!((event.data(), event.data_kind()), (stored.as_bytes(), kind), "{item}");
        assert_eq!(event.content_type(), content_type);
    }
    let broken = r#"{"channel":"c","content_type":"text/plain","data":"\ud800"}"#;
    check(None, broken, "invalid_field: `data` has an");
}

#[test]
fn null_and_empty_members_are_absent_but_null_data_is_data() {
    let event = r#"{"channel":"c","data":null}"#;
    check(None, r#"{"channel":"c","data":null}"#, event);
    check(
        Some("c"),
        concat!(
            r#"{"id":null,"channel":null,"type":"","source":null,"time":null,"key":"","class":null,"#,
            r#""content_type":null,"traceparent":"","attributes":null,"data_base64":null,"data":null}"#
        ),
        event,
    );
    check(None, r#"{"channel":"c","data_base64":null}"#, "missing_data");
}

#[test]
fn bad_members_are_refused_by_name() {
    let c = Some("c");
    check(c, r#"{"data":1,"dat":2}"#, "unknown_member: `dat` is not");
    check(c, r#"{"data":1,"Data":2}"#, "unknown_member: `Data`");
    check(c, r#"{"data":1,"offset":2}"#, "unknown_member: `offset`");
    check(c, r#"{"data":1,"\u0001\n":2}"#, "unknown_member: `\\u{1}\\n`");
    check(c, r#"{"data":1,"\ud800":2}"#, "unknown_member: `\\ud800`");
    check(c, r#"{"data":1,"data":1}"#, "duplicate_member: `data` appears twice");
    check(c, r#"{"data":1,"dat\u0061":1}"#, "duplicate_member: `data`");
    check(c, r#"{"data":1,"id":null,"id":"x"}"#, "duplicate_member: `id`");
    check(c, r#"{"data":1,"data_base64":"AA=="}"#, "duplicate_member: `data` and `data_base64`");
    check(c, r#"{}"#, "missing_data");
    check(c, r#"{"id":1,"data":1}"#, "invalid_field: `id` must be a string");
    check(c, r#"{"type":{},"data":1}"#, "invalid_field: `type` must be a string");
    check(c, r#"{"key":true,"data":1}"#, "invalid_field: `key` must be a string");
    check(c, r#"{"id":"\ud800","data":1}"#, "invalid_field: `id` has an unpaired surrogate");
    check(c, r#"{"id":"a\nb","data":1}"#, "invalid_field: `id` has a control character");
    check(c, "{\"source\":\"\u{7f}\",\"data\":1}", "invalid_field: `source` has a control");
    check(c, "{\"key\":\"a\u{85}\",\"data\":1}", "invalid_field: `key` has a control");
    check(c, r#"{"type":"a\r\ndata: x","data":1}"#, "invalid_field: `type` has a control");
    check(c, r#"{"class":"urgent","data":1}"#, "invalid_field: `class` must be `critical`");
    check(c, r#"{"attributes":[],"data":1}"#, "invalid_field: `attributes` must be an object");
    check(c, r#"{"traceparent":"00-1","data":1}"#, "invalid_field: `traceparent` is not");
    check(c, r#"{"data_base64":"A","data":null}"#, "duplicate_member");
    check(c, r#"{"data_base64":"A"}"#, "invalid_field: `data_base64` is not standard base64");
    check(c, r#"{"data_base64":"_w=="}"#, "invalid_field: `data_base64`");
    check(c, r#"{"data_base64":5}"#, "invalid_field: `data_base64` must be a string");
    check(c, r#"{"type":"shardcast.gap","data":1}"#, "reserved_type");
    check(c, r#"{"type":"\u0073hardcast.x","data":1}"#, "reserved_type");
    check(c, r#"{"type":"shardcastle","data":1}"#, r#"{"channel":"c","data":1"#);
}

#[test]
fn the_channel_comes_from_the_url_or_the_item_and_both_must_agree() {
    check(Some("c"), r#"{"data":1}"#, r#"{"channel":"c""#);
    check(Some("c"), r#"{"channel":"c","data":1}"#, r#"{"channel":"c""#);
    check(Some("c"), r#"{"channel":"d","data":1}"#, "channel_mismatch");
    check(None, r#"{"channel":"d","data":1}"#, r#"{"channel":"d""#);
    check(None, r#"{"channel":"\u0064","data":1}"#, r#"{"channel":"d""#);
    check(None, r#"{"data":1}"#, "missing_channel");
    check(None, r#"{"channel":"a b","data":1}"#, "invalid_channel");
    check(None, r#"{"channel":"é","data":1}"#, "invalid_channel");
    let long = format!("{{\"channel\":\"{}\",\"data\":1}}", "x".repeat(256));
    check(None, &long, "invalid_channel: channel name is longer than 255");
}

#[test]
fn times_are_text_or_milliseconds() {
    let time = |time: &str, expected: &str| {
        check(Some("c"), &format!("{{\"data\":1,\"time\":{time}}}"), expected);
    };
    let second = r#"{"channel":"c","data":1,"time":"1970-01-01T00:00:01.000000Z"}"#;
    time("1000", second);
    time("\"1970-01-01T00:00:01Z\"", second);
    time("\"1970-01-01T00:00:01\\u005a\"", second);
    time("-1", r#"{"channel":"c","data":1,"time":"1969-12-31T23:59:59.999000Z"}"#);
    for bad in
        ["1.5", "1e3", "true", "{}", "\"now\"", "9223372036854775807", "999999999999999", "[1]"]
    {
        time(bad, "invalid_field: `time` must be");
    }
}

#[test]
fn limits_are_named_and_what_is_just_within_them_passes() {
    let sized = |open: &str, len: usize, close: &str| {
        let text = format!("{{\"channel\":\"c\",{open}{}{close}}}", "x".repeat(len));
        show(with(None, |context| decode_envelope(context, text.as_bytes())))
    };
    assert!(sized("\"data\":\"", 998, "\"").starts_with('{'));
    assert_eq!(sized("\"data\":\"", 999, "\""), "too_large: `data` is longer than 1000 bytes");
    assert!(sized("\"data\":1,\"key\":\"", 1024, "\"").starts_with('{'));
    assert!(sized("\"data\":1,\"key\":\"", 1025, "\"").starts_with("field_too_long: `key`"));
    let attributes = "\"data\":1,\"attributes\":{\"a\":\"";
    assert!(sized(attributes, 16_384 - 8, "\"}").starts_with('{'));
    assert!(sized(attributes, 16_384 - 7, "\"}").starts_with("field_too_long: extension"));
    let base64 = |bytes: usize| {
        let encoded =
            base64::Engine::encode(&base64::engine::general_purpose::STANDARD, vec![0; bytes]);
        sized(&format!("\"data_base64\":\"{encoded}"), 0, "\"")
    };
    assert!(base64(1000).starts_with('{'));
    for over in [1001, 1002, 1003, 1004, 5000] {
        assert_eq!(base64(over), "too_large: `data` is longer than 1000 bytes");
    }
    let deep = format!("{{\"channel\":\"c\",\"data\":{}{}}}", "[".repeat(125), "]".repeat(125));
    check(None, &deep, "too_deep: `data` nests deeper than 124 levels");
}

#[test]
fn a_bad_item_of_an_array_keeps_its_neighbours_and_its_index() {
    let items = body(
        BodyShape::Envelopes,
        Some("c"),
        b" [ {\"data\":1} , 5,{\"data\":2,\"x\":0},[{\"data\":9}],{\"id\":\"\xff\",\"data\":1},{\"data\":3} ] ",
    );
    let starts: Vec<&str> = items.iter().map(|item| &item[..10.min(item.len())]).collect();
    assert_eq!(
        starts,
        ["{\"channel\"", "not_an_obj", "unknown_me", "not_an_obj", "invalid_ut", "{\"channel\""]
    );
}

#[test]
fn a_syntax_error_in_an_array_ends_it_with_one_rejection() {
    let ok = r#"{"channel":"c","data":1}"#;
    let cases: &[(&str, &[&str])] = &[
        ("[]", &[]),
        (" [ ] ", &[]),
        ("[{\"data\":1}", &[ok, "invalid_json: not JSON at byte 11: expected `,` or `]`"]),
        ("[{\"data\":1},", &[ok, "invalid_json"]),
        ("[{\"data\":1},]", &[ok, "invalid_json: not JSON at byte 12: expected a value"]),
        ("[{\"data\":1}{\"data\":1}]", &[ok, "invalid_json"]),
        ("[{\"data\":1}]x", &[ok, "invalid_json: not JSON at byte 12: text after"]),
        ("[{\"data\":1},{\"data\":},{\"data\":1}]", &[ok, "invalid_json"]),
        ("[]]", &["invalid_json"]),
        ("[,]", &["invalid_json"]),
        ("", &["invalid_json: not JSON at byte 0: the body is empty"]),
        ("  ", &["invalid_json"]),
        ("{\"data\":1}{\"data\":1}", &["invalid_json"]),
        ("{\"data\":1}]", &["invalid_json"]),
        ("{\"data\":1", &["invalid_json"]),
        ("5", &["not_an_object"]),
        ("null", &["not_an_object"]),
        ("\u{feff}{}", &["invalid_json"]),
    ];
    for (text, expected) in cases {
        let items = body(BodyShape::Envelopes, Some("c"), text.as_bytes());
        assert_eq!(items.len(), expected.len(), "{text}: {items:?}");
        for (item, expected) in items.iter().zip(*expected) {
            assert!(item.starts_with(expected), "{text}: {item}");
        }
    }
}

#[test]
fn a_decoder_that_was_stopped_goes_on_with_the_next_item() {
    let text = br#"[{"data":1},2,{"data":3},4"#;
    let whole = body(BodyShape::Envelopes, Some("c"), text);
    with(Some("c"), |context| {
        let mut decoder = BodyDecoder::new(BodyShape::Envelopes);
        let mut items = Vec::new();
        for _ in 0..=whole.len() {
            decoder.decode(context, text, |item| {
                items.push(show(item.result));
                ControlFlow::Break(())
            });
        }
        assert_eq!(items, whole);
    });
}

/// Feeds the parts, then ends the body. Restarts after each stop if the sink breaks at each item.
fn lines(parts: &[&[u8]], stop: bool) -> Vec<String> {
    with(Some("c"), |context| {
        let mut decoder = NdjsonDecoder::new();
        let mut items = Vec::new();
        let mut take = |item: Item| {
            assert_eq!(item.index, items.len() as u64);
            items.push(show(item.result));
            if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        for part in parts {
            let mut rest = *part;
            loop {
                let fed = decoder.feed(context, rest, &mut take);
                rest = &rest[fed.consumed..];
                if !fed.stopped {
                    assert!(rest.is_empty());
                    break;
                }
            }
        }
        decoder.finish(context, &mut take);
        decoder.finish(context, &mut take);
        items
    })
}

#[test]
fn a_bad_line_loses_itself_alone() {
    let text = b"{\"data\":1}\r\n\n  \t\r\n{\"data\":\n{\"x\":1}\n\"\xff\"\n{\"id\":\"\xff\"}\n5\n{\"data\":2}";
    let items = lines(&[text], false);
    let starts: Vec<&str> = items.iter().map(|item| &item[..12.min(item.len())]).collect();
    assert_eq!(
        starts,
        [
            "{\"channel\":\"",
            "invalid_json",
            "unknown_memb",
            "not_an_objec",
            "invalid_utf8",
            "not_an_objec",
            "{\"channel\":\""
        ]
    );
}

#[test]
fn every_split_of_a_body_gives_the_same_items() {
    let text: &[u8] =
        b"\n{\"data\":1}\r\n\r\nx\n{\"data\":\"\xc3\xa9\",\"id\":\"a\\n\"} \n [ \n{\"data\":[2]}";
    let whole = lines(&[text], false);
    assert_eq!(whole.len(), 5);
    for first in 0..=text.len() {
        for second in first..=text.len() {
            let parts = [&text[..first], &text[first..second], &text[second..]];
            assert_eq!(lines(&parts, false), whole, "{first} {second}");
            assert_eq!(lines(&parts, true), whole, "{first} {second}");
        }
    }
    let bytes: Vec<&[u8]> = text.chunks(1).collect();
    assert_eq!(lines(&bytes, true), whole);
}

#[test]
fn an_endless_line_is_refused_once_in_bounded_memory() {
    with(Some("c"), |context| {
        let mut decoder = NdjsonDecoder::new();
        let mut codes = Vec::new();
        let mut take = |item: Item| {
            codes.push(item.result.map(|_| ()).map_err(|r| r.code));
            ControlFlow::Continue(())
        };
        for _ in 0..1000 {
            decoder.feed(context, &[b'['; 1000], &mut take);
            assert!(decoder.spilled_bytes() <= 2 * (ENVELOPE_BYTES_MAX + 2 * DATA_BYTES_MAX));
        }
        assert_eq!(decoder.spilled_bytes(), 0);
        decoder.feed(context, b"]\n{\"data\":1}\n", &mut take);
        decoder.finish(context, &mut take);
        assert_eq!(codes, [Err(RejectCode::TooLarge), Ok(())]);
    });
}

#[test]
fn a_line_at_the_limit_fares_alike_however_it_is_cut() {
    let limit = DATA_BYTES_MAX + DATA_BYTES_MAX / 3 + ENVELOPE_BYTES_MAX;
    for len in limit - 1..=limit + 1 {
        for fill in [b' ', b'['] {
            let mut text = vec![fill; len];
            text.extend_from_slice(b"\n{\"data\":1}\n");
            let whole = lines(&[&text], false);
            for cut in [1, len - 1, len, len + 1] {
                for stop in [false, true] {
                    assert_eq!(lines(&[&text[..cut], &text[cut..]], stop), whole, "{len} {cut}");
                }
            }
        }
    }
}

#[test]
fn an_item_without_id_gets_a_made_one_that_never_deduplicates() {
    with(Some("c"), |context| {
        let event = place(decode_envelope(context, br#"{"data":1}"#).unwrap());
        assert_eq!(event.id().len(), UUID_BYTES);
        assert!(event.id_generated() && event.dedupe_key().is_none());
        let event = place(decode_envelope(context, br#"{"data":1,"id":"x"}"#).unwrap());
        assert_eq!(event.dedupe_key(), Some(("x", "")));
    });
}

#[test]
fn the_requests_trace_context_is_the_items_unless_it_has_its_own_or_it_is_malformed() {
    let own = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let header = "00-11111111111111111111111111111111-2222222222222222-00";
    let item = format!("{{\"data\":1,\"traceparent\":\"{own}\"}}");
    let check = |header: &str, item: &str, expected: &str| {
        with(Some("c"), |context| {
            let mut context = Context { traceparent: header, ids: context.ids, ..*context };
            let event = place(decode_envelope(&mut context, item.as_bytes()).unwrap());
            assert_eq!(event.traceparent(), expected);
        });
    };
    check(header, r#"{"data":1}"#, header);
    check(header, &item, own);
    check("nonsense", r#"{"data":1}"#, "");
}

#[test]
fn a_trace_context_is_well_formed_or_nothing() {
    let check = |text: &str, expected| assert_eq!(is_traceparent(text), expected, "{text}");
    let (trace, span) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    check(&format!("00-{trace}-{span}-01"), true);
    check(&format!("cc-{trace}-{span}-01-more"), true);
    check(&format!("00-{trace}-{span}-01-more"), false);
    check(&format!("ff-{trace}-{span}-01"), false);
    check(&format!("00-{trace}-{span}"), false);
    check(&format!("00-{trace}-{}-01", "0".repeat(16)), false);
    check(&format!("00-{}-{span}-01", "0".repeat(32)), false);
    check(&format!("00-{}-{span}-01", trace.to_uppercase()), false);
    check("", false);
}

#[test]
fn a_raw_body_is_text_only_under_a_text_type_in_utf8() {
    let check = |content_type: Option<&str>, data: &[u8], kind: DataKind| {
        let event = place(with(Some("c"), |c| decode_raw(c, content_type, data)).unwrap());
        assert_eq!((event.data(), event.data_kind()), (data, kind), "{content_type:?}");
        assert_eq!(event.content_type(), content_type.unwrap_or_default());
    };
    check(Some("text/plain"), "grün".as_bytes(), DataKind::Text);
    check(Some("Text/HTML; charset=UTF-8"), b"<p>", DataKind::Text);
    check(Some("text/plain"), b"\xff", DataKind::Binary);
    check(Some("text/plain; charset=latin1"), b"gr\xfcn", DataKind::Binary);
    check(Some("image/png"), b"abc", DataKind::Binary);
    check(None, b"abc", DataKind::Binary);
    check(Some("text/plain"), b"", DataKind::Text);
    check(None, b"", DataKind::Binary);
    let too_large = with(Some("c"), |c| decode_raw(c, None, &[0; DATA_BYTES_MAX + 1]));
    assert_eq!(too_large.unwrap_err().code, RejectCode::TooLarge);
    let header = with(Some("c"), |c| decode_raw(c, Some("text/plain\r\nx: y"), b""));
    assert_eq!(header.unwrap_err().code, RejectCode::InvalidField);
}

/// One CloudEvent in JSON with the required attributes and these members.
fn cloudevent(members: &str) -> String {
    let text = format!(
        r#"{{"specversion":"1.0","id":"i","source":"/s","type":"t"{}{members}}}"#,
        if members.is_empty() { "" } else { "," }
    );
    let mut items = body(BodyShape::CloudEvent, Some("c"), text.as_bytes());
    assert_eq!(items.len(), 1, "{text}");
    items.remove(0)
}

#[test]
fn the_examples_of_the_cloudevents_json_format_are_read() {
    let check = |members: &str, expected: Value| {
        let text = format!(
            r#"{{ "specversion" : "1.0", "type" : "com.example.someevent", "source" : "/mycontext",
                "id" : "A234-1234-1234", "time" : "2018-04-05T17:31:00Z",
                "comexampleextension1" : "value", "comexampleothervalue" : 5, {members} }}"#
        );
        let items = body(BodyShape::CloudEvent, Some("c"), text.as_bytes());
        let mut full = json!({
            "channel": "c", "type": "com.example.someevent", "source": "/mycontext",
            "id": "A234-1234-1234", "time": "2018-04-05T17:31:00.000000Z",
            "attributes": { "comexampleextension1": "value", "comexampleothervalue": 5 },
        });
        full.as_object_mut().unwrap().append(&mut expected.as_object().unwrap().clone());
        assert_eq!(items, [full.to_string()]);
    };
    check(
        r#""datacontenttype" : "application/vnd.apache.thrift.binary", "data_base64" : "AAEC/w==""#,
        json!({ "content_type": "application/vnd.apache.thrift.binary", "data_base64": "AAEC/w==" }),
    );
    check(
        r#""unsetextension": null, "datacontenttype": "application/xml", "data" : "<much wow=\"xml\"/>""#,
        json!({ "content_type": "application/xml", "data": "<much wow=\"xml\"/>" }),
    );
    check(
        r#""subject": null, "datacontenttype" : "application/json", "data" : { "appinfoA" : "abc" }"#,
        json!({ "content_type": "application/json", "data": { "appinfoA": "abc" } }),
    );
    check(r#""data" : "I'm just a string""#, json!({ "data": "I'm just a string" }));
}

#[test]
fn attributes_find_their_place_and_extensions_keep_their_types() {
    assert_eq!(
        cloudevent(concat!(
            r#""subject":"a/b","dataschema":"https://x/y","partitionkey":"k","class":"sheddable","#,
            r#""traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","#,
            r#""channel":"c","flag":true,"count":-7,"text":"\u00e9\"","none":null"#
        )),
        concat!(
            r#"{"attributes":{"count":-7,"dataschema":"https://x/y","flag":true,"subject":"a/b","#,
            r#""text":"é\""},"channel":"c","class":"sheddable","data":"","id":"i","key":"k","#,
            r#""source":"/s","#,
            r#""traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","type":"t"}"#
        )
    );
    let gold = cloudevent(r#""class":"gold","data":null"#);
    assert!(gold.starts_with(r#"{"attributes":{"class":"gold"},"channel":"c","data":null"#));
}

#[test]
fn cloudevents_that_break_the_specification_are_refused_by_name() {
    let check = |members: &str, expected: &str| {
        let shown = cloudevent(members);
        assert!(shown.starts_with(expected), "{members}: {shown}");
    };
    check(r#""Upper":"x""#, "invalid_field: `Upper` is no attribute name");
    check(r#""a_b":"x""#, "invalid_field: `a_b` is no attribute name");
    check(r#""":"x""#, "invalid_field: `` is no attribute name");
    check(r#""ext":{}"#, "invalid_field: `ext` must be a string, a boolean or");
    check(r#""ext":[]"#, "invalid_field: `ext`");
    check(r#""ext":1.5"#, "invalid_field: `ext`");
    check(r#""ext":1e3"#, "invalid_field: `ext`");
    check(r#""ext":2147483648"#, "invalid_field: `ext`");
    check(r#""ext":2147483647"#, "{");
    check(r#""ext":"a\u0001""#, "invalid_field: `ext` has a control character");
    check(r#""ext":1,"ext":2"#, "duplicate_member: `ext` appears twice");
    check(r#""id":"j""#, "duplicate_member: `id`");
    check(r#""data":1,"data":1"#, "duplicate_member: `data`");
    check(r#""data":1,"data_base64":"AA==""#, "duplicate_member: `data` and");
    check(r#""data_base64":"A""#, "invalid_field: `data_base64`");
    check(r#""subject":"""#, "invalid_field: `subject` must not be empty");
    check(r#""subject":5"#, "invalid_field: `subject` must be a string");
    check(r#""time":"yesterday""#, "invalid_field: `time` must be RFC 3339");
    check(r#""time":5"#, "invalid_field: `time` must be a string");
    check(r#""channel":"d""#, "channel_mismatch");
    check(r#""datacontenttype":"text/plain","data":5"#, "invalid_field: `data` must be a string");
    check(r#""datacontenttype":"text/plain","data":"\ud800""#, "invalid_field: `data` has an");
    let many: Vec<String> = (0..65).map(|n| format!("\"e{n}\":1")).collect();
    check(&many[..64].join(","), "{");
    check(&many.join(","), "field_too_long: more than 64 extension");
    let attributes = ["specversion", "id", "source", "type"];
    for missing in attributes {
        for value in ["null", "\"\"", ""] {
            let members: Vec<String> = attributes
                .into_iter()
                .filter(|name| *name != missing || !value.is_empty())
                .map(|name| match name {
                    name if name == missing => format!("\"{name}\":{value}"),
                    "specversion" => "\"specversion\":\"1.0\"".to_owned(),
                    name => format!("\"{name}\":\"x\""),
                })
                .collect();
            let text = format!("{{{}}}", members.join(","));
            let items = body(BodyShape::CloudEvent, Some("c"), text.as_bytes());
            let expected =
                format!("missing_attribute: the CloudEvents attribute `{missing}` is missing");
            assert!(items[0].starts_with(&expected), "{text}: {items:?}");
        }
    }
    let old = r#"{"specversion":"0.3","id":"i","source":"s","type":"t"}"#;
    let items = body(BodyShape::CloudEvent, Some("c"), old.as_bytes());
    assert!(items[0].starts_with("invalid_field: `specversion` must be `1.0`"));
}

#[test]
fn a_batch_is_an_array_and_one_event_is_not() {
    let event = r#"{"specversion":"1.0","id":"i","source":"s","type":"t"}"#;
    let batch = format!("[{event},{{}},{event}]");
    let items = body(BodyShape::CloudEventBatch, Some("c"), batch.as_bytes());
    assert_eq!(items.len(), 3);
    assert!(items[1].starts_with("missing_attribute: ") && items[2].starts_with('{'));
    assert_eq!(body(BodyShape::CloudEventBatch, Some("c"), b"[]"), [""; 0]);
    let lone = body(BodyShape::CloudEventBatch, Some("c"), event.as_bytes());
    assert_eq!(lone, ["invalid_json: not JSON at byte 0: expected an array"]);
    let array = body(BodyShape::CloudEvent, Some("c"), batch.as_bytes());
    assert!(array[0].starts_with("not_an_object"));
}

fn binary(headers: &[(&str, &str)], content_type: Option<&str>, data: &[u8]) -> String {
    let required =
        [("ce-specversion", "1.0"), ("ce-id", "i"), ("ce-source", "/s"), ("ce-type", "t")];
    let all = required.iter().chain(headers).map(|(name, value)| (*name, value.as_bytes()));
    with(Some("c"), |context| show(decode_cloudevent_binary(context, all, content_type, data)))
}

#[test]
fn binary_mode_reads_attributes_from_headers_and_data_from_the_body() {
    let check = |headers: &[(&str, &str)], content_type, data: &[u8], expected: &str| {
        let shown = binary(headers, content_type, data);
        assert!(shown.starts_with(expected), "{headers:?}: {shown}");
    };
    check(
        &[
            ("Host", "x"),
            ("CE-Time", "1970-01-01T00:00:01Z"),
            ("ce-subject", "Euro%20%E2%82%AC%20%F0%9F%98%80"),
            ("ce-quoted", "\"a \\\"b\\\" %25\""),
            ("ce-number", "5"),
            ("ce-partitionkey", "k"),
        ],
        Some("application/json; charset=utf-8"),
        b" {\"a\": 1}\n",
        concat!(
            r#"{"attributes":{"number":"5","quoted":"a \"b\" %","subject":"Euro € 😀"},"#,
            r#""channel":"c","content_type":"application/json; charset=utf-8","data":{"a":1},"#,
            r#""id":"i","key":"k","source":"/s","time":"1970-01-01T00:00:01.000000Z","type":"t"}"#
        ),
    );
    check(&[("ce-x", "%C0%A0")], None, b"", "invalid_field: `x` is not UTF-8");
    check(&[("ce-x", "%0a")], None, b"", "invalid_field: `x` has a control character");
    check(&[("ce-x", "100%")], None, b"", r#"{"attributes":{"x":"100%"}"#);
    check(&[("ce-a-b", "x")], None, b"", "invalid_field: `a-b` is no attribute name");
    check(&[("ce-id", "j")], None, b"", "duplicate_member: `id`");
    check(&[("ce-datacontenttype", "a/b")], None, b"", "invalid_field: `ce-datacontenttype`");
    check(&[("ce-data", "x")], None, b"", "invalid_field: `ce-data` must be sent as the body");
    let json = Some("application/vnd.x+json");
    check(&[], json, b"{", "invalid_json");
    check(&[], json, b"\"\xff\"", "invalid_utf8");
    check(&[], json, b"", r#"{"channel":"c","content_type":"application/vnd.x+json","data":"""#);
    check(
        &[],
        Some("text/plain"),
        b"x",
        r#"{"channel":"c","content_type":"text/plain","data":"x""#,
    );
    check(&[], None, b"x", r#"{"channel":"c","data_base64":"eA==""#);
    let missing = with(Some("c"), |context| {
        let headers = [("ce-id", &b"i"[..]), ("ce-source", b"s"), ("ce-specversion", b"1.0")];
        show(decode_cloudevent_binary(context, headers, None, b""))
    });
    assert!(missing.starts_with("missing_attribute: the CloudEvents attribute `type`"));
}

#[test]
fn one_required_header_makes_a_cloudevent() {
    assert!(has_cloudevent_headers(["host", "CE-ID"]));
    assert!(!has_cloudevent_headers(["host", "ce-time", "ce", "content-type"]));
}

/// JSON values as text, with white space between tokens.
fn json_text() -> impl Strategy<Value = String> {
    let space = proptest::sample::select(vec!["", " ", "\t "]);
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|b| b.to_string()),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>().prop_filter("finite", |n| n.is_finite()).prop_map(|n| format!("{n:e}")),
        any::<String>().prop_map(|s| Value::from(s).to_string()),
    ];
    leaf.prop_recursive(4, 32, 4, move |inner| {
        let element = (space.clone(), inner.clone(), space.clone())
            .prop_map(|(before, value, after)| format!("{before}{value}{after}"));
        let member = (any::<String>(), element.clone())
            .prop_map(|(name, value)| format!("{}:{value}", Value::from(name)));
        prop_oneof![
            proptest::collection::vec(element, 0..4).prop_map(|all| format!("[{}]", all.join(","))),
            proptest::collection::vec(member, 0..4)
                .prop_map(|all| format!("{{{}}}", all.join(","))),
        ]
    })
}

proptest! {
    #[test]
    fn what_serde_json_reads_we_keep_exactly(
        data in json_text(),
        id in "[^\\p{Cc}]{0,20}",
        kind in "[a-z\"\\\\é]{0,20}",
    ) {
        let text = format!(
            "{{\"type\":{},\"data\":{data},\"channel\":\"c\",\"id\":{}}}",
            Value::from(kind.as_str()),
            Value::from(id.as_str()),
        );
        let result = with(None, |context| decode_envelope(context, text.as_bytes()));
        if data.len() > DATA_BYTES_MAX {
            prop_assert_eq!(result.unwrap_err().code, RejectCode::TooLarge);
        } else {
            let event = place(result.unwrap());
            prop_assert_eq!(event.data(), data.as_bytes());
            prop_assert_eq!(event.kind(), kind);
            prop_assert!(event.id() == id || (id.is_empty() && event.id_generated()));
        }
    }

    #[test]
    fn damaged_envelopes_are_accepted_only_if_serde_json_reads_them(
        at in 0_usize..90,
        byte: u8,
    ) {
        let mut text = br#"{"channel":"c","type":"a\u00e9","id":"x","data":{"a":[1.5e3,true,"\n"]},"time":1}"#.to_vec();
        if let Some(place) = text.get_mut(at) {
            *place = byte;
        }
        let other = serde_json::from_slice::<Value>(&text);
        match with(None, |context| decode_envelope(context, &text)) {
            Ok(unplaced) => {
                let other = other.unwrap();
                let event = place(unplaced);
                prop_assert_eq!(event.channel(), other["channel"].as_str().unwrap());
                prop_assert_eq!(event.kind(), other["type"].as_str().unwrap_or_default());
                let data: Value = serde_json::from_slice(event.data()).unwrap();
                prop_assert_eq!(&data, &other["data"]);
            }
            Err(rejection) => {
                let syntax = matches!(
                    rejection.code,
                    RejectCode::InvalidJson | RejectCode::InvalidUtf8
                );
                prop_assert_eq!(syntax, other.is_err(), "{:?}", rejection);
            }
        }
    }

    #[test]
    fn no_bytes_panic_any_decoder(bytes: Vec<u8>, prefix in 0_usize..4) {
        let prefix: &[u8] = [&b""[..], b"[", b"{\"data\":", b"[{\"specversion\":"][prefix];
        let text = [prefix, &bytes].concat();
        for shape in [BodyShape::Envelopes, BodyShape::CloudEvent, BodyShape::CloudEventBatch] {
            body(shape, None, &text);
        }
        lines(&[&text], false);
        with(Some("c"), |context| {
            let headers = [("ce-id", &text[..]), ("ce-x", &text)];
            let _ = decode_cloudevent_binary(context, headers, Some("a/json"), &text);
        });
    }
}
