//! MessagePack bodies against what an event then says, and against `rmpv`.

use super::*;
use crate::decode::IdSource;
use crate::event::Event;
use crate::position::{Epoch, Position};
use proptest::prelude::*;
use rmpv::Value;
use serde_json::Value as Json;

const DATA_BYTES_MAX: usize = 1000;

fn decode(channel: Option<&str>, body: &[u8], stop: bool) -> Vec<Result<Event, Rejection>> {
    let mut ids = IdSource::new([1, 2]);
    let mut context = Context {
        channel,
        traceparent: "",
        author: "",
        data_bytes_max: DATA_BYTES_MAX,
        ids: &mut ids,
    };
    let mut items = Vec::new();
    let mut decoder = MsgpackDecoder::new();
    while let Progress::Stopped = decoder.decode(&mut context, body, |item| {
        assert_eq!(item.index, items.len() as u64);
        let place = |item: Unplaced| item.place(Position { epoch: Epoch(1), offset: 1 }, 5);
        items.push(item.result.map(place));
        if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }) {}
    items
}

fn bytes(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    rmpv::encode::write_value(&mut out, value).unwrap();
    out
}

fn map(members: &[(&str, Value)]) -> Value {
    Value::Map(members.iter().map(|(name, value)| ((*name).into(), value.clone())).collect())
}

/// One item under channel `c`: its data as text, or code and detail.
fn one(members: &[(&str, Value)]) -> Result<Event, String> {
    let items = decode(Some("c"), &bytes(&map(members)), false);
    let [item] = &items[..] else { panic!("{items:?}") };
    item.clone().map_err(|r| format!("{}: {}", r.code.as_str(), r.detail))
}

fn data_of(value: Value) -> Result<String, String> {
    one(&[("data", value)]).map(|event| {
        assert_eq!(event.data_kind(), DataKind::Json);
        String::from_utf8(event.data().to_vec()).unwrap()
    })
}

#[test]
fn every_member_arrives_in_the_event() {
    let event = one(&[
        ("id", "1".into()),
        ("channel", "c".into()),
        ("type", "t".into()),
        ("source", "s".into()),
        ("key", "k".into()),
        ("time", "2026-01-02T03:04:05+01:00".into()),
        ("class", "critical".into()),
        ("content_type", "application/x".into()),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        ("attributes", map(&[("a", 1.into())])),
        ("data", Value::Array(vec![1.into(), Value::Nil])),
    ])
    .unwrap();
    let fields = [event.id(), event.channel(), event.kind(), event.source(), event.key()];
    assert_eq!(fields, ["1", "c", "t", "s", "k"]);
    assert_eq!(event.time_us(), crate::rfc3339::parse_rfc3339("2026-01-02T02:04:05Z").unwrap());
    assert_eq!((event.class().as_str(), event.content_type()), ("critical", "application/x"));
    assert!(event.traceparent().starts_with("00-0af"));
    assert_eq!((event.attributes(), event.data()), (r#"{"a":1}"#, &b"[1,null]"[..]));
}

#[test]
fn data_is_json_unless_it_is_binary_or_says_text() {
    let kind = |members: &[(&str, Value)]| {
        let event = one(members).unwrap();
        (event.data_kind(), event.data().to_vec())
    };
    let text = ("content_type", Value::from("text/plain"));
    let bin = Value::Binary(vec![0, 255]);
    assert_eq!(kind(&[("data", bin.clone())]), (DataKind::Binary, vec![0, 255]));
    assert_eq!(kind(&[("data", bin), text.clone()]), (DataKind::Binary, vec![0, 255]));
    assert_eq!(kind(&[("data", "hi".into())]), (DataKind::Json, b"\"hi\"".to_vec()));
    assert_eq!(kind(&[("data", "hi".into()), text.clone()]), (DataKind::Text, b"hi".to_vec()));
    assert_eq!(kind(&[("data", 1.into()), text]), (DataKind::Json, b"1".to_vec()));
    assert_eq!(kind(&[("data_base64", "AP8=".into())]), (DataKind::Binary, vec![0, 255]));
}

#[test]
fn numbers_keep_their_value() {
    let check = |value: Value, expected: &str| {
        assert_eq!(data_of(value.clone()).as_deref(), Ok(expected), "{value}");
    };
    check(0.into(), "0");
    check(127.into(), "127");
    check((-32).into(), "-32");
    check((-33).into(), "-33");
    check(i64::MIN.into(), "-9223372036854775808");
    check(u64::MAX.into(), "18446744073709551615");
    check(Value::F64(0.1), "0.1");
    check(Value::F64(1e300), "1e+300");
    check(Value::F64(-0.0), "-0.0");
    // A 32-bit float is the double that it is.
    check(Value::F32(0.5), "0.5");
    check(Value::F32(0.1), "0.10000000149011612");
}

#[test]
fn what_has_no_json_form_is_refused_with_its_reason() {
    let check = |value: Value, expected: &str| {
        let shown = data_of(value.clone()).unwrap_err();
        assert!(shown.starts_with("invalid_field: `data`") && shown.contains(expected), "{shown}");
        let inside = data_of(Value::Array(vec![1.into(), value])).unwrap_err();
        assert!(inside.contains(expected), "{inside}");
    };
    check(Value::F64(f64::NAN), "NaN");
    check(Value::F32(f32::NEG_INFINITY), "infinity");
    check(Value::Map(vec![(1.into(), 1.into())]), "map key");
    check(Value::Map(vec![(Value::Nil, 1.into())]), "map key");
    check(Value::Ext(3, vec![1]), "extension type");
    check(Value::Ext(-1, vec![0; 4]), "extension type");
    let inside = data_of(Value::Array(vec![Value::Binary(vec![1])])).unwrap_err();
    assert!(inside.contains("binary inside"), "{inside}");
    let not_text = bytes(&map(&[("data", Value::Nil)]));
    let not_text = [&not_text[..not_text.len() - 1], &[0xa1, 0xff]].concat();
    let items = decode(Some("c"), &not_text, false);
    assert_eq!(items[0].as_ref().unwrap_err().code, RejectCode::InvalidUtf8);
}

#[test]
fn bad_members_are_refused_by_name() {
    let check = |members: &[(&str, Value)], expected: &str| {
        let shown = one(members).unwrap_err();
        assert!(shown.starts_with(expected), "{shown} is not {expected}");
    };
    let data = ("data", Value::from(1));
    check(&[data.clone(), ("dat", 2.into())], "unknown_member: `dat` is not");
    check(&[data.clone(), data.clone()], "duplicate_member: `data` appears twice");
    check(&[data.clone(), ("data_base64", "AA==".into())], "duplicate_member: `data` and");
    check(&[("id", "x".into())], "missing_data");
    check(&[data.clone(), ("id", 1.into())], "invalid_field: `id` must be a string");
    check(&[data.clone(), ("time", "soon".into())], "invalid_field: `time`");
    check(&[data.clone(), ("time", i64::MAX.into())], "invalid_field: `time`");
    check(&[data.clone(), ("class", "x".into())], "invalid_field: `class`");
    check(&[data.clone(), ("attributes", 1.into())], "invalid_field: `attributes` must be a map");
    check(&[data.clone(), ("channel", "d".into())], "channel_mismatch");
    check(&[data.clone(), ("type", "shardcast.x".into())], "reserved_type");
    check(&[("data", "x".repeat(DATA_BYTES_MAX).into())], "too_large");
    check(&[("data", Value::Binary(vec![1; DATA_BYTES_MAX + 1]))], "too_large");
    check(&[("data", Value::Array(vec![Value::Nil; DATA_BYTES_MAX / 4]))], "too_large");
    let named = Value::Map(vec![(1.into(), 1.into())]);
    let items = decode(Some("c"), &bytes(&named), false);
    assert_eq!(items[0].as_ref().unwrap_err().code, RejectCode::InvalidField);
    assert!(one(&[data, ("id", Value::Nil), ("time", Value::Nil), ("key", "".into())]).is_ok());
}

#[test]
fn a_timestamp_is_a_time_in_each_of_its_widths() {
    let time = |ext: Vec<u8>| {
        let event = one(&[("data", 1.into()), ("time", Value::Ext(-1, ext))]);
        event.map(|event| event.time_us())
    };
    assert_eq!(time(vec![0, 0, 0, 7]), Ok(7_000_000));
    let wide = (999_999_999_u64 << 34 | 7).to_be_bytes().to_vec();
    assert_eq!(time(wide), Ok(7_999_999));
    let widest = [&500_000_000_u32.to_be_bytes()[..], &(-1_i64).to_be_bytes()].concat();
    assert_eq!(time(widest), Ok(-500_000));
    for bad in [vec![1; 5], (1_000_000_000_u64 << 34).to_be_bytes().to_vec(), vec![0x7f; 12]] {
        assert!(time(bad).unwrap_err().starts_with("invalid_field: `time`"));
    }
}

#[test]
fn a_bad_item_keeps_its_neighbours_and_broken_bytes_end_the_body() {
    let good = map(&[("data", 1.into())]);
    let deep = (0..125).fold(Value::Nil, |inner, _| Value::Array(vec![inner]));
    let bad = [Value::from(5), map(&[("dat", 1.into())]), map(&[("data", deep)])];
    let batch = [&[good.clone()][..], &bad, std::slice::from_ref(&good)].concat();
    let batch = bytes(&Value::Array(batch));
    let codes = |items: &[Result<Event, Rejection>]| -> Vec<Option<RejectCode>> {
        items.iter().map(|item| item.as_ref().err().map(|r| r.code)).collect()
    };
    use RejectCode::{InvalidMsgpack, NotAnObject, TooDeep, UnknownMember};
    let expected = [None, Some(NotAnObject), Some(UnknownMember), Some(TooDeep), None];
    assert_eq!(codes(&decode(Some("c"), &batch, false)), expected);
    assert_eq!(codes(&decode(Some("c"), &batch, true)), expected);

    let two = bytes(&Value::Array(vec![good.clone(), good.clone()]));
    let check = |body: &[u8], expected: &[Option<RejectCode>]| {
        assert_eq!(codes(&decode(Some("c"), body, false)), expected, "{body:x?}");
    };
    check(&two, &[None, None]);
    check(&two[..two.len() - 1], &[None, Some(InvalidMsgpack)]);
    check(&[&two[..], &[0]].concat(), &[None, None, Some(InvalidMsgpack)]);
    check(&[&bytes(&good)[..], &[0]].concat(), &[Some(InvalidMsgpack)]);
    check(b"", &[Some(InvalidMsgpack)]);
    check(&[0xc1], &[Some(InvalidMsgpack)]);
    check(&[0x90], &[]);
    // A length or a count beyond the body costs nothing.
    for announced in [[0xdd, 255, 255, 255, 255], [0xdf, 255, 255, 255, 255]] {
        check(&announced, &[Some(InvalidMsgpack)]);
        check(&[&[0x81, 0xa4][..], b"data", &announced].concat(), &[Some(InvalidMsgpack)]);
    }
    check(
        &[&[0x81, 0xa4][..], b"data", &[0xc6, 255, 255, 255, 255]].concat(),
        &[Some(InvalidMsgpack)],
    );
}

/// What our JSON must say, read off `rmpv`'s tree; `None` where there is none.
fn json(value: &Value) -> Option<Json> {
    Some(match value {
        Value::Nil => Json::Null,
        Value::Boolean(value) => (*value).into(),
        Value::Integer(value) => match value.as_u64() {
            Some(value) => value.into(),
            None => value.as_i64()?.into(),
        },
        Value::F32(value) => serde_json::Number::from_f64(f64::from(*value))?.into(),
        Value::F64(value) => serde_json::Number::from_f64(*value)?.into(),
        Value::String(text) => text.as_str()?.into(),
        Value::Array(values) => Json::Array(values.iter().map(json).collect::<Option<_>>()?),
        Value::Map(pairs) => {
            let mut object = serde_json::Map::new();
            for (key, value) in pairs {
                object.insert(key.as_str()?.to_owned(), json(value)?);
            }
            Json::Object(object)
        }
        Value::Binary(_) | Value::Ext(..) => return None,
    })
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Nil),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-200_i64..200).prop_map(Value::from),
        any::<u32>().prop_map(|bits| Value::F32(f32::from_bits(bits))),
        any::<u64>().prop_map(|bits| Value::F64(f64::from_bits(bits))),
        ".{0,40}".prop_map(Value::from),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(Value::Binary),
        (any::<i8>(), prop::collection::vec(any::<u8>(), 0..20))
            .prop_map(|(kind, data)| Value::Ext(kind, data)),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        let key = prop_oneof![9 => ".{0,6}".prop_map(Value::from), 1 => inner.clone()];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            prop::collection::vec((key, inner), 0..5).prop_map(Value::Map),
        ]
    })
}

proptest! {
    #[test]
    fn any_value_says_what_rmpv_says(value in any_value()) {
        let body = bytes(&map(&[("data", value.clone())]));
        let items = decode(Some("c"), &body, false);
        prop_assert_eq!(items.len(), 1);
        match (&items[0], json(&value)) {
            (Ok(event), _) if event.data_kind() == DataKind::Binary => {
                prop_assert_eq!(Some(event.data()), value.as_slice());
            }
            (Ok(event), expected) => {
                let ours: Json = serde_json::from_slice(event.data()).unwrap();
                // `serde_json` without its exact mode may be off by one in the last place.
                prop_assert_eq!(text_of(&ours), text_of(&expected.unwrap()));
            }
            (Err(rejection), None) => prop_assert_eq!(rejection.code, RejectCode::InvalidField),
            (Err(rejection), Some(_)) => prop_assert_eq!(rejection.code, RejectCode::TooLarge),
        }
    }

    #[test]
    fn damage_is_found_where_rmpv_finds_it(value in any_value(), at: usize, byte: u8, cut: bool) {
        let mut body = bytes(&map(&[("data", value)]));
        let at = at % body.len();
        if cut { body.truncate(at) } else { body[at] = byte }
        // The byte that is no type is nil to them.
        prop_assume!(!body.contains(&0xc1));
        let mut rest = &body[..];
        let readable = rmpv::decode::read_value(&mut rest).is_ok() && rest.is_empty();
        let items = decode(Some("c"), &body, false);
        let broken = items.iter().flat_map(|item| item.as_ref().err());
        let broken = broken.filter(|r| r.code == RejectCode::InvalidMsgpack).count();
        prop_assert_eq!(broken, usize::from(!readable), "{:x?} {:?}", body, items);
    }

    #[test]
    fn no_bytes_panic(body: Vec<u8>, stop: bool) {
        decode(None, &body, stop);
    }
}

fn text_of(value: &Json) -> String {
    match value {
        Json::Number(number) if number.is_f64() => {
            format!("{:.14e}", number.as_f64().unwrap_or_default())
        }
        Json::Array(values) => format!("[{}]", values.iter().map(text_of).collect::<String>()),
        Json::Object(members) => {
            let each = members.iter().map(|(name, value)| format!("{name:?}{}", text_of(value)));
            format!("{{{}}}", each.collect::<String>())
        }
        other => other.to_string(),
    }
}
