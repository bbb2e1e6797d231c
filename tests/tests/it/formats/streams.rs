//! Streams of events that are answered while they run.

use crate::rig::child::{Watch, client, curl, run};
use crate::rig::h2::{
    Connection, DATA, END_HEADERS, END_STREAM, HEADERS, WINDOW_UPDATE, block, frame,
};
use crate::rig::{Cell, Site, until};
use serde_json::{Value, json};
use std::fs;

const NDJSON: &str = "Content-Type: application/x-ndjson";

fn lines(text: &str) -> Vec<Value> {
    let line = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line:?}"));
    text.lines().map(line).collect()
}

fn node(site: &Site, channel: &str, format: &str, mode: &str, query: &str) -> Value {
    let url = site.url("");
    let told = run(client("publish_stream.mjs").args([&url, channel, format, mode, query]));
    serde_json::from_str(told.lines().last().unwrap_or_default()).expect("the last answer")
}

fn events_are_answered_while_the_request_goes_on(cell: Cell) {
    let site = Site::start(cell);
    for format in ["ndjson", "protobuf"] {
        for (mode, count) in [("talk", 100), ("bulk", 20_000)] {
            for query in ["", "?ack=durable"] {
                let channel = format!("{format}{mode}{}", query.len());
                let last = node(&site, &channel, format, mode, query);
                assert_eq!((&last["end"], &last["upto"]), (&json!("complete"), &json!(count)));
                let last = site.get(&format!("/v1/channels/{channel}/last")).json();
                assert_eq!(
                    (&last["offset"], &last["data"]),
                    (&json!(count), &json!({"n": count - 1})),
                    "{channel}"
                );
            }
        }
    }
}

fn every_line_says_what_became_of_its_items(cell: Cell) {
    let site = Site::start(cell);
    let file = site.folder().join("body");
    let items = [
        r#"{"channel":"a","data":1,"id":"x"}"#,
        r#"{"channel":"b","dta":2}"#,
        "",
        r#"{"channel":"b","data":3}"#,
        r#"{"channel":"a","data":1,"id":"x"}"#,
        "no json",
    ];
    fs::write(&file, items.join("\n")).expect("a file");
    let body = format!("@{}", file.display());
    let url = site.url("/v1/events/stream");
    let told = curl(&["--http2-prior-knowledge", "-H", NDJSON, "--data-binary", &body, &url]);
    let lines = lines(&told);
    let (last, lines) = lines.split_last().expect("a last line");
    let end = json!({"end": "complete", "upto": 5, "accepted": 3, "rejected": 2, "duplicates": 1});
    assert_eq!(last, &end);
    let sum = |name: &str| lines.iter().filter_map(|line| line[name].as_u64()).sum::<u64>();
    assert_eq!((sum("accepted"), sum("rejected"), sum("duplicates")), (3, 2, 1), "{told}");
    let refused = lines.iter().filter_map(|line| line["rejections"].as_array()).flatten();
    let refused: Vec<_> = refused.map(|r| (r["index"].clone(), r["code"].clone())).collect();
    assert_eq!(refused, [(json!(1), json!("unknown_member")), (json!(4), json!("invalid_json"))]);
    let uptos: Vec<_> = lines.iter().filter_map(|line| line["upto"].as_u64()).collect();
    assert!(uptos.is_sorted() && uptos.last() == Some(&5), "{told}");

    // Compressed, and cut: what came stands, and the end says why.
    let many: String = (0..50_000).map(|n| format!("{{\"data\":{n}}}\n")).collect();
    let whole = zstd::encode_all(many.as_bytes(), 3).expect("memory suffices");
    let coding = ["-H", "Content-Encoding: zstd"];
    for (body, end) in [(&whole[..], "complete"), (&whole[..whole.len() - 5], "broken")] {
        fs::write(&file, body).expect("a file");
        let body = format!("@{}", file.display());
        let url = site.url(&format!("/v1/channels/{end}/stream"));
        let arguments = ["--http2-prior-knowledge", "-H", NDJSON, "--data-binary", &body, &url];
        let told = curl(&[&arguments[..], &coding].concat());
        let lines = self::lines(&told);
        let last = lines.last().expect("a last line");
        assert_eq!(last["end"], end, "{told}");
        let stored = site.get(&format!("/v1/channels/{end}/last")).json();
        assert_eq!(last["upto"], stored["offset"], "{told}");
    }
    // A frame of Protobuf that cannot be read ends the stream at its place.
    fs::write(&file, [&[3, 0x6a, 1, b'x', 3, 0x6a, 1, b'y'][..], &[0xff; 11]].concat())
        .expect("a file");
    let protobuf = "Content-Type: application/x-protobuf";
    let out = site.folder().join("out").display().to_string();
    let url = site.url("/v1/channels/p/stream");
    let body = format!("@{}", file.display());
    let arguments = ["--http2-prior-knowledge", "-H", protobuf, "--data-binary", &body, "-o", &out];
    curl(&[&arguments[..], &[&url]].concat());
    let told = fs::read(&out).expect("an answer");
    let text = String::from_utf8_lossy(&told);
    assert!(text.contains("invalid_protobuf") && text.contains("broken"), "{text:?}");
    assert_eq!(site.get("/v1/channels/p/last").json()["offset"], 2);
}

fn a_drain_ends_a_stream_behind_its_last_answer(cell: Cell) {
    let site = Site::start(cell);
    let url = site.url("");
    let streams = ["ndjson", "protobuf"].map(|format| {
        let mut stream =
            Watch::start(client("publish_stream.mjs").args([&url, "d", format, "wait"]));
        assert_eq!(stream.line(), "waiting");
        stream
    });
    let draining = std::thread::spawn(move || site.stop());
    for mut stream in streams {
        let last = stream.json();
        assert_eq!((&last["end"], &last["upto"]), (&json!("draining"), &json!(3)), "{last}");
    }
    assert_eq!(draining.join().expect("it ends").dead_shards, 0);
}

/// With no time to wait for room, the first full lane is an overload.
fn an_overload_names_the_first_item_that_was_not_taken(cell: Cell) {
    let site = Site::with(cell, |config| config.limits.publish_wait_s = 0);
    let file = site.folder().join("body");
    fs::write(&file, "{\"data\":1}\n".repeat(200_000)).expect("a file");
    let body = format!("@{}", file.display());
    let url = site.url("/v1/channels/o/stream");
    let told = curl(&["--http2-prior-knowledge", "-H", NDJSON, "--data-binary", &body, &url]);
    let lines = lines(&told);
    let [.., refused, last] = &lines[..] else { panic!("{told}") };
    let upto = last["upto"].as_u64().expect("an index");
    assert_eq!((&last["end"], &refused["stopped_at"]), (&json!("overloaded"), &json!(upto)));
    let first = &refused["rejections"][0];
    assert_eq!((&first["index"], &first["code"]), (&json!(upto), &json!("overloaded")));
    let stored = site.get("/v1/channels/o/last").json()["offset"].as_u64();
    assert_eq!((last["accepted"].as_u64(), stored), (Some(upto), Some(upto)), "{last}");
    assert!((1..200_000).contains(&upto), "{upto}");
}

/// A peer that takes no answers gets no further; when it does, none is missing.
fn who_reads_no_answers_is_not_read_either(cell: Cell) {
    const COUNT: usize = 40_000;
    let site = Site::start(cell);
    // SETTINGS_INITIAL_WINDOW_SIZE: the answer may not even begin.
    let mut connection = Connection::open(site.address(), &[(4, 0)]);
    let fields = [
        (":method", "POST"),
        (":path", "/v1/channels/w/stream"),
        (":scheme", "http"),
        (":authority", "localhost"),
        ("content-type", "application/x-ndjson"),
    ];
    connection.wire.send(frame(HEADERS, END_HEADERS, 1, &block(&fields)));
    // A frame for each event: a line for each, as far as they do not gather.
    let pieces: Vec<u8> = (0..COUNT).flat_map(|_| frame(DATA, 0, 1, b"{\"data\":1}\n")).collect();
    for piece in pieces.chunks(20 * 200) {
        connection.wire.send(piece);
        // Time for a line, so that they do not all gather in one.
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let taken = || site.get("/v1/channels/w/last").json()["offset"].as_u64().unwrap_or(0);
    let mut before = 0;
    until("the stream to stand still", || {
        std::thread::sleep(std::time::Duration::from_millis(200));
        let now = taken();
        let still = now > 0 && now == before;
        before = now;
        still
    });
    connection.wire.send(frame(WINDOW_UPDATE, 0, 1, &(64_u32 << 20).to_be_bytes()));
    connection.wire.send(frame(WINDOW_UPDATE, 0, 0, &(64_u32 << 20).to_be_bytes()));
    connection.wire.send(frame(DATA, END_STREAM, 1, b""));
    let mut told = Vec::new();
    loop {
        let frame = connection.next().expect("an answer");
        if frame.kind == DATA && frame.stream == 1 {
            told.extend_from_slice(&frame.payload);
            if frame.flags & END_STREAM != 0 {
                break;
            }
        }
    }
    let lines = lines(&String::from_utf8(told).expect("text"));
    let last = lines.last().expect("a last line");
    assert_eq!((&last["end"], &last["accepted"]), (&json!("complete"), &json!(COUNT)));
    let sum: u64 = lines
        .iter()
        .filter(|l| l.get("end").is_none())
        .filter_map(|l| l["accepted"].as_u64())
        .sum();
    assert_eq!(sum, COUNT as u64);
}

fn a_stream_is_ndjson_or_protobuf_over_http2(cell: Cell) {
    let site = Site::start(cell);
    let path = "/v1/events/stream";
    let answer = site.post(path, "application/x-ndjson", "{\"channel\":\"a\",\"data\":1}\n");
    assert_eq!((answer.status, &answer.code()[..]), (501, "http2_required"), "{answer:?}");
    let answer = site.get(path);
    assert_eq!((answer.status, answer.header("allow")), (405, "POST"));
    let told = curl(&[
        "--http2-prior-knowledge",
        "-H",
        "Content-Type: application/json",
        "-X",
        "POST",
        &site.url(path),
    ]);
    assert_eq!(lines(&told)[0]["error"]["code"], "unsupported_media_type");
    assert_eq!(site.get("/v1/channels/a/last").status, 404);
}

cells!(
    a_drain_ends_a_stream_behind_its_last_answer,
    a_stream_is_ndjson_or_protobuf_over_http2,
    an_overload_names_the_first_item_that_was_not_taken,
    events_are_answered_while_the_request_goes_on,
    every_line_says_what_became_of_its_items,
    who_reads_no_answers_is_not_read_either,
);
