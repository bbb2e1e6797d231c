//! MessagePack and Protobuf bodies, by their reference libraries.

use crate::rig::{Cell, Site};
use proto::protobuf::{write_bytes_field, write_varint_field};
use rmpv::Value as Pack;
use serde_json::json;

fn packed(value: &Pack) -> Vec<u8> {
    let mut out = Vec::new();
    rmpv::encode::write_value(&mut out, value).expect("memory suffices");
    out
}

fn map(members: &[(&str, Pack)]) -> Pack {
    Pack::Map(members.iter().map(|(name, value)| ((*name).into(), value.clone())).collect())
}

fn messagepack_arrives_as_json_and_binary_as_binary(cell: Cell) {
    let site = Site::start(cell);
    let data =
        map(&[("price", Pack::F64(1.5)), ("bids", Pack::Array(vec![1.into(), (-2).into()]))]);
    let batch = Pack::Array(vec![
        map(&[("data", data), ("id", "1".into()), ("type", "t".into())]),
        map(&[("data", Pack::Binary(vec![0, 255]))]),
        map(&[("data", Pack::F64(f64::NAN))]),
        map(&[("data", "text".into()), ("content_type", "text/plain".into())]),
    ]);
    for content_type in ["application/msgpack", "application/vnd.msgpack", "application/x-msgpack"]
    {
        let channel = format!("m{}", content_type.len());
        let path = format!("/v1/channels/{channel}/events");
        let answer = site.post(&path, content_type, packed(&batch));
        let told = answer.json();
        assert_eq!((answer.status, &told["accepted"]), (202, &json!(3)), "{told}");
        assert_eq!(told["rejections"][0]["index"], 2);
        assert_eq!(told["rejections"][0]["code"], "invalid_field");
        let events = site.get(&path).json()["events"].clone();
        assert_eq!(events[0]["data"], json!({"price": 1.5, "bids": [1, -2]}));
        assert_eq!((&events[0]["id"], &events[0]["type"]), (&json!("1"), &json!("t")));
        assert_eq!(events[1]["data_base64"], "AP8=");
        assert_eq!(events[2]["data"], "text");
    }
    // One item, its channel in it; and what is no MessagePack at all.
    let one = packed(&map(&[("channel", "one".into()), ("data", 7.into())]));
    let answer = site.post("/v1/events", "application/msgpack", &one);
    assert_eq!(answer.status, 202, "{answer:?}");
    assert_eq!(site.get("/v1/channels/one/last").json()["data"], 7);
    for broken in [&one[..one.len() - 1], &[0xc1], b"", &[0xdd, 255, 255, 255, 255]] {
        let answer = site.post("/v1/events", "application/msgpack", broken);
        let told = answer.json();
        assert_eq!((answer.status, &told["rejected"]), (400, &json!(1)), "{broken:x?} {told}");
        assert_eq!(told["rejections"][0]["code"], "invalid_msgpack");
    }
}

fn event(fields: &[(u32, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    fields.iter().for_each(|(number, bytes)| write_bytes_field(&mut out, *number, bytes));
    out
}

fn batch(events: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    for event in events {
        write_bytes_field(&mut out, 1, event);
    }
    out
}

fn protobuf_events_stream_through_any_size_of_batch(cell: Cell) {
    let site = Site::start(cell);
    let mut first = event(&[(1, b"p"), (2, b"1"), (3, b"t"), (12, b"{\"n\": 1}")]);
    write_varint_field(&mut first, 5, 1_000_000);
    write_varint_field(&mut first, 7, 2);
    let events = [
        first,
        event(&[(11, &[0, 255])]),
        event(&[(2, b"none")]),
        event(&[(13, "tëxt".as_bytes())]),
    ];
    let path = "/v1/channels/p/events";
    let answer = site.post(path, "application/x-protobuf", batch(&events));
    let told = answer.json();
    assert_eq!((answer.status, &told["accepted"]), (202, &json!(3)), "{told}");
    assert_eq!(told["rejections"][0]["code"], "missing_data");
    let stored = site.get(path).json()["events"].clone();
    assert_eq!((&stored[0]["data"], &stored[0]["class"]), (&json!({"n": 1}), &json!("critical")));
    assert_eq!(stored[0]["time"], "1970-01-01T00:00:01.000000Z");
    assert_eq!((&stored[1]["data_base64"], &stored[2]["data"]), (&json!("AP8="), &json!("tëxt")));

    // Far over the limit of a buffered body: it streams.
    let many: Vec<Vec<u8>> =
        (0..150_000).map(|n| event(&[(13, &[b'x'; 150]), (6, n.to_string().as_bytes())])).collect();
    let body = batch(&many);
    assert!(body.len() > 20 << 20);
    let answer = site.post("/v1/channels/many/events", "application/protobuf", body);
    assert_eq!((answer.status, &answer.json()["accepted"]), (202, &json!(150_000)));

    let whole = batch(&[event(&[(1, b"q"), (13, b"x")])]);
    for broken in [&whole[..whole.len() - 1], &[0x0a, 0xff], &[0x08, 1], &[0xff; 20]] {
        let answer = site.post("/v1/events", "application/x-protobuf", broken);
        let told = answer.json();
        assert_eq!((answer.status, &told["rejected"]), (400, &json!(1)), "{broken:x?} {told}");
        assert_eq!(told["rejections"][0]["code"], "invalid_protobuf");
    }
}

cells!(
    messagepack_arrives_as_json_and_binary_as_binary,
    protobuf_events_stream_through_any_size_of_batch,
);
