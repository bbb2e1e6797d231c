//! Protobuf bodies against what an event then says, and against `prost` with the schema's structs
//! written out by hand.

use super::*;
use crate::decode::IdSource;
use crate::event::{Class, DataKind, Event, Unplaced};
use crate::position::{Epoch, Position};
use proptest::prelude::*;
use prost::Message;
use std::collections::BTreeMap;

const DATA_BYTES_MAX: usize = 1000;

#[derive(Clone, PartialEq, Message)]
struct Batch {
    #[prost(message, repeated, tag = "1")]
    events: Vec<Peer>,
}

#[derive(Clone, PartialEq, Message)]
struct Peer {
    #[prost(string, tag = "1")]
    channel: String,
    #[prost(string, tag = "2")]
    id: String,
    #[prost(string, tag = "3")]
    r#type: String,
    #[prost(string, tag = "4")]
    source: String,
    #[prost(int64, optional, tag = "5")]
    time_us: Option<i64>,
    #[prost(string, tag = "6")]
    key: String,
    #[prost(int32, tag = "7")]
    class: i32,
    #[prost(string, tag = "8")]
    content_type: String,
    #[prost(string, tag = "9")]
    traceparent: String,
    #[prost(btree_map = "string, string", tag = "10")]
    attributes: BTreeMap<String, String>,
    #[prost(oneof = "Data", tags = "11, 12, 13")]
    data: Option<Data>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Data {
    #[prost(bytes = "vec", tag = "11")]
    Binary(Vec<u8>),
    #[prost(string, tag = "12")]
    Json(String),
    #[prost(string, tag = "13")]
    Text(String),
}

type Decoded = Result<Event, Rejection>;

fn with<T>(channel: Option<&str>, run: impl FnOnce(&mut Context<'_>) -> T) -> T {
    let mut ids = IdSource::new([1, 2]);
    run(&mut Context {
        channel,
        traceparent: "",
        author: "",
        data_bytes_max: DATA_BYTES_MAX,
        ids: &mut ids,
    })
}

fn place(item: Unplaced) -> Event {
    item.place(Position { epoch: Epoch(1), offset: 1 }, 5)
}

fn decode(framing: ProtobufFraming, body: &[u8], piece: usize, stop: bool) -> Vec<Decoded> {
    with(Some("c"), |context| {
        let mut decoder = ProtobufDecoder::new(framing);
        let mut items: Vec<Decoded> = Vec::new();
        let mut take = |item: Item| {
            assert_eq!(item.index, items.len() as u64);
            assert!(item.result.as_ref().err().is_none_or(|r| r.index == item.index));
            items.push(item.result.map(place));
            if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        for mut input in body.chunks(piece) {
            loop {
                let fed = decoder.feed(context, input, &mut take);
                input = &input[fed.consumed..];
                assert!(decoder.spilled_bytes() <= 2 * event_bytes_max(context) + 64);
                if !fed.stopped {
                    assert!(input.is_empty());
                    break;
                }
            }
        }
        decoder.finish(&mut take);
        items
    })
}

const BOTH: [ProtobufFraming; 2] = [ProtobufFraming::Batch, ProtobufFraming::Delimited];

fn frame(framing: ProtobufFraming, events: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    for event in events {
        if framing == ProtobufFraming::Batch {
            out.push(0x0a);
        }
        crate::protobuf::write_varint(&mut out, event.len() as u64);
        out.extend_from_slice(event);
    }
    out
}

fn text(value: &str) -> Peer {
    Peer { data: Some(Data::Text(value.to_owned())), ..Peer::default() }
}

fn codes(items: &[Decoded]) -> Vec<Option<RejectCode>> {
    items.iter().map(|item| item.as_ref().err().map(|rejection| rejection.code)).collect()
}

/// One event; the beginning of what is said about it if it is refused.
fn one(event: &[u8]) -> Result<Event, String> {
    let decoded = with(Some("c"), |context| decode_protobuf_event(context, event));
    decoded.map(place).map_err(|r| format!("{}: {}", r.code.as_str(), r.detail))
}

#[test]
fn every_field_arrives_in_the_event() {
    let peer = Peer {
        channel: "c".to_owned(),
        id: "1".to_owned(),
        r#type: "t".to_owned(),
        source: "s".to_owned(),
        time_us: Some(-7),
        key: "k".to_owned(),
        class: 2,
        content_type: "application/x".to_owned(),
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
        attributes: [("a".to_owned(), "\"é".to_owned()), ("b".to_owned(), String::new())].into(),
        data: Some(Data::Json(" {\"x\": 1.0} ".to_owned())),
    };
    let event = one(&peer.encode_to_vec()).unwrap();
    let fields = [event.id(), event.channel(), event.kind(), event.source(), event.key()];
    assert_eq!(fields, ["1", "c", "t", "s", "k"]);
    assert_eq!((event.time_us(), event.class()), (-7, Class::Critical));
    assert_eq!(event.content_type(), "application/x");
    assert!(event.traceparent().starts_with("00-0af"));
    assert_eq!(event.attributes(), r#"{"a":"\"é","b":""}"#);
    assert_eq!((event.data_kind(), event.data()), (DataKind::Json, &b"{\"x\": 1.0}"[..]));
}

#[test]
fn an_event_is_refused_by_the_name_of_what_is_wrong() {
    let check = |event: Vec<u8>, expected: &str| {
        let shown = one(&event).unwrap_err();
        assert!(shown.starts_with(expected), "{shown} is not {expected}");
    };
    let with = |change: fn(&mut Peer)| {
        let mut peer = text("x");
        change(&mut peer);
        peer.encode_to_vec()
    };
    check(Vec::new(), "missing_data");
    check(with(|peer| peer.channel = "d".to_owned()), "channel_mismatch");
    check(with(|peer| peer.class = 9), "invalid_field: `class`");
    check(with(|peer| peer.time_us = Some(i64::MAX)), "invalid_field: `time_us`");
    check(with(|peer| peer.r#type = "shardcast.x".to_owned()), "reserved_type");
    check(with(|peer| peer.id = "x".repeat(1025)), "field_too_long");
    check(with(|peer| peer.data = Some(Data::Binary(vec![0; 1001]))), "too_large");
    check(with(|peer| peer.data = Some(Data::Json("{".to_owned()))), "invalid_json");
    check(with(|peer| peer.data = Some(Data::Json(String::new()))), "invalid_json");
    check(with(|peer| peer.data = Some(Data::Json("[".repeat(200)))), "too_deep");
    check(
        with(|peer| {
            peer.attributes = (0..65).map(|n| (n.to_string(), String::new())).collect();
        }),
        "field_too_long: more than 64",
    );
    check(vec![0x0a, 1, 0xff, 0x6a, 0], "invalid_utf8: `channel`");
    check(vec![0x6a, 1, 0xff], "invalid_utf8: `text`");
    // `channel` as a number, `class` and `time_us` as bytes.
    check(vec![0x08, 1], "invalid_protobuf: `channel`");
    check(vec![0x3a, 1, b'x'], "invalid_protobuf: `class`");
    check(vec![0x2a, 1, b'x'], "invalid_protobuf: `time_us`");
    check(vec![0x6a, 2, b'x'], "invalid_protobuf: not an Event: ");
    check(vec![0x0b], "invalid_protobuf: not an Event: ");
}

#[test]
fn unknown_fields_are_passed_over_and_the_last_of_equal_ones_counts() {
    let mut event = vec![0xa8, 0x06, 5, 0xa1, 0x06, 1, 2, 3, 4, 5, 6, 7, 8];
    event.extend([0xa2, 0x06, 2, b'?', b'?', 0xa5, 0x06, 1, 2, 3, 4]);
    event.extend(Peer { id: "first".to_owned(), ..text("first") }.encode_to_vec());
    event.extend(Peer { id: "last".to_owned(), ..Peer::default() }.encode_to_vec());
    event.extend([0x5a, 1, 0xfe]);
    let event = one(&event).unwrap();
    assert_eq!(
        (event.id(), event.data_kind(), event.data()),
        ("last", DataKind::Binary, &[0xfe][..])
    );
}

#[test]
fn a_bad_event_keeps_its_neighbours_and_a_broken_frame_ends_the_body() {
    use RejectCode::{InvalidProtobuf, MissingData, TooLarge};
    for framing in BOTH {
        let long = Peer { data: Some(Data::Binary(vec![7; 70_000])), ..Peer::default() };
        let good = text("x").encode_to_vec();
        let events = [good.clone(), Vec::new(), vec![0x0b], long.encode_to_vec(), good.clone()];
        let body = frame(framing, &events);
        let expected = [None, Some(MissingData), Some(InvalidProtobuf), Some(TooLarge), None];
        for (piece, stop) in [(1, false), (3, true), (16 << 10, false), (1 << 20, true)] {
            assert_eq!(
                codes(&decode(framing, &body, piece, stop)),
                expected,
                "{framing:?} {piece}"
            );
        }
        let whole = frame(framing, &[good.clone(), good.clone()]);
        for cut in 1..whole.len() {
            let items = codes(&decode(framing, &whole[..cut], 2, false));
            let half = whole.len() / 2;
            let expected = match cut {
                _ if cut == half => vec![None],
                _ if cut < half => vec![Some(InvalidProtobuf)],
                _ => vec![None, Some(InvalidProtobuf)],
            };
            assert_eq!(items, expected, "{framing:?} {cut}");
        }
        // A length that no message may have, and a varint without end.
        for broken in [&[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f][..], &[0xff; 12]] {
            let start = usize::from(framing == ProtobufFraming::Delimited && broken[0] == 0x0a);
            let body = [&whole[..], &broken[start..], &whole].concat();
            let items = codes(&decode(framing, &body, 5, false));
            assert_eq!(items, [None, None, Some(InvalidProtobuf)], "{framing:?} {broken:?}");
        }
    }
}

#[test]
fn a_batch_may_have_fields_of_a_later_schema() {
    let good = frame(ProtobufFraming::Batch, &[text("x").encode_to_vec()]);
    let unknown = [&[0x10, 0x80, 1][..], &[0x19; 9], &[0x25; 5], &[0x2a, 3, 1, 2, 3], &[0x2a, 0]];
    let body = unknown.iter().flat_map(|field| [&good[..], field].concat()).collect::<Vec<_>>();
    for piece in [1, 4, 1000] {
        let items = codes(&decode(ProtobufFraming::Batch, &body, piece, false));
        assert_eq!(items, [None; 5], "{piece}");
    }
    let number = [&good[..], &[0x08, 1]].concat();
    let items = codes(&decode(ProtobufFraming::Batch, &number, 100, false));
    assert_eq!(items, [None, Some(RejectCode::InvalidProtobuf)]);
}

fn any_peer() -> impl Strategy<Value = Peer> {
    let data = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..60).prop_map(Data::Binary),
        prop_oneof![Just("[1, 2]"), Just("\"x\""), Just("{"), Just("null ")]
            .prop_map(|json: &str| Data::Json(json.to_owned())),
        ".{0,40}".prop_map(Data::Text),
    ];
    let short = || "[a-z]{0,8}";
    (
        (short(), short(), short(), short(), prop::option::of(any::<i32>())),
        (0..5_i32, prop::collection::btree_map(".{0,5}", ".{0,5}", 0..4), prop::option::of(data)),
    )
        .prop_map(|((id, kind, source, key, time), (class, attributes, data))| Peer {
            id,
            r#type: kind,
            source,
            key,
            time_us: time.map(i64::from),
            class,
            attributes,
            data,
            ..Peer::default()
        })
}

proptest! {
    #[test]
    fn any_event_says_what_prost_wrote(
        peers in prop::collection::vec(any_peer(), 0..5),
        piece in 1..50_usize,
    ) {
        let body = Batch { events: peers.clone() }.encode_to_vec();
        let items = decode(ProtobufFraming::Batch, &body, piece, piece % 2 == 0);
        let events: Vec<Vec<u8>> = peers.iter().map(Message::encode_to_vec).collect();
        let delimited = frame(ProtobufFraming::Delimited, &events);
        let same = decode(ProtobufFraming::Delimited, &delimited, piece + 1, piece % 2 == 1);
        prop_assert_eq!(codes(&items), codes(&same));
        prop_assert_eq!(items.len(), peers.len());
        for (item, peer) in items.iter().zip(&peers) {
            let Ok(event) = item else { continue };
            let fields = [event.kind(), event.source(), event.key()];
            prop_assert_eq!(fields, [&peer.r#type[..], &peer.source, &peer.key]);
            if !event.id_generated() {
                prop_assert_eq!(event.id(), &peer.id[..]);
            }
            prop_assert_eq!(event.time_us(), peer.time_us.unwrap_or(5));
            let attributes: BTreeMap<String, String> = match event.attributes() {
                "" => BTreeMap::new(),
                text => serde_json::from_str(text).unwrap(),
            };
            prop_assert_eq!(&attributes, &peer.attributes);
            let data = match peer.data.as_ref().unwrap() {
                Data::Binary(bytes) => bytes.clone(),
                Data::Json(json) => json.trim().as_bytes().to_vec(),
                Data::Text(text) => text.as_bytes().to_vec(),
            };
            prop_assert_eq!(event.data(), &data[..]);
        }
    }

    #[test]
    fn what_we_take_prost_reads(peer in any_peer(), at: usize, byte: u8) {
        let mut event = peer.encode_to_vec();
        if !event.is_empty() {
            let at = at % event.len();
            event[at] = byte;
        }
        match (one(&event), Peer::decode(&event[..])) {
            (Ok(ours), Ok(theirs)) => {
                prop_assert_eq!([ours.kind(), ours.source()], [&theirs.r#type[..], &theirs.source]);
            }
            (Ok(_), Err(error)) => prop_assert!(false, "{error}: {event:x?}"),
            // Groups are fields to them and nothing to us.
            (Err(_), _) => {}
        }
    }

    #[test]
    fn no_bytes_panic(body: Vec<u8>, piece in 1..9_usize, stop: bool) {
        for framing in BOTH {
            let items = decode(framing, &body, piece, stop);
            prop_assert_eq!(codes(&items), codes(&decode(framing, &body, 1 << 10, !stop)));
        }
    }
}
