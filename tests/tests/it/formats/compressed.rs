//! `Content-Encoding: gzip` and `zstd`: what arrives, and what a body costs that is not what it
//! says.

use crate::rig::child::{client, curl, run};
use crate::rig::{Cell, Process, Site};
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

const NDJSON: &str = "application/x-ndjson";

/// gzip's own program.
fn gzip(data: &[u8]) -> Vec<u8> {
    let mut child = Command::new("gzip")
        .args(["-9", "--stdout", "--no-name"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("gzip is installed");
    let mut input = child.stdin.take().expect("piped");
    let data = data.to_vec();
    let writer = std::thread::spawn(move || input.write_all(&data).expect("gzip reads"));
    let output = child.wait_with_output().expect("gzip ends");
    writer.join().expect("written");
    output.stdout
}

fn zstd(data: &[u8]) -> Vec<u8> {
    zstd::encode_all(data, 3).expect("memory suffices")
}

fn both(data: &[u8]) -> [(&'static str, Vec<u8>); 2] {
    [("gzip", gzip(data)), ("zstd", zstd(data))]
}

fn headers(content_type: &str, coding: &str) -> String {
    format!("Content-Type: {content_type}\r\nContent-Encoding: {coding}\r\n")
}

/// Status and answer.
fn post(site: &Site, path: &str, content_type: &str, coding: &str, body: &[u8]) -> (u16, Value) {
    let answer = site.wire().request("POST", path, &headers(content_type, coding), body);
    (answer.status, answer.json())
}

fn data_of(site: &Site, channel: &str) -> Vec<Value> {
    let events = site.get(&format!("/v1/channels/{channel}/events")).json();
    events["events"].as_array().expect("events").iter().map(|e| e["data"].clone()).collect()
}

fn every_type_of_body_may_be_compressed(cell: Cell) {
    let site = Site::start(cell);
    let cloudevent = json!({"specversion": "1.0", "id": "1", "source": "/s", "type": "t",
                            "data": "ce"});
    for (content_type, body, expected) in [
        (NDJSON, "{\"data\":1}\n{\"data\":2}\n".to_owned(), vec![json!(1), json!(2)]),
        ("application/json", "[{\"data\":3},{\"data\":4}]".to_owned(), vec![json!(3), json!(4)]),
        ("text/plain", "hello".to_owned(), vec![json!("hello")]),
        ("application/cloudevents+json", cloudevent.to_string(), vec![json!("ce")]),
    ] {
        for (coding, compressed) in both(body.as_bytes()) {
            for version in ["--http1.1", "--http2-prior-knowledge"] {
                let channel = format!("c{coding}{}{}", version.len(), content_type.len());
                let file = site.folder().join(&channel);
                fs::write(&file, &compressed).expect("a file");
                let told = curl(&[
                    version,
                    "--header",
                    &format!("Content-Type: {content_type}"),
                    "--header",
                    &format!("Content-Encoding: {coding}"),
                    "--data-binary",
                    &format!("@{}", file.display()),
                    &site.url(&format!("/v1/channels/{channel}/events")),
                ]);
                let answer: Value = serde_json::from_str(&told).expect("an answer");
                assert_eq!(answer["accepted"], expected.len(), "{channel}: {told}");
                assert_eq!(data_of(&site, &channel), expected, "{channel}");
            }
        }
    }
}

/// Two members, three frames, one byte at a time: what comes is decoded as it comes.
fn members_and_frames_in_a_row_are_one_body(cell: Cell) {
    let site = Site::start(cell);
    for (coding, first) in both(b"{\"data\":1}\n{\"da") {
        let mut body = first;
        body.extend(if coding == "gzip" { gzip(b"ta\":2}\n") } else { zstd(b"ta\":2}\n") });
        let path = format!("/v1/channels/{coding}/events");
        let mut wire = site.wire();
        wire.send(format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\n{}Transfer-Encoding: chunked\r\n\r\n",
            headers(NDJSON, coding)
        ));
        for byte in &body {
            wire.send([b'1', b'\r', b'\n', *byte, b'\r', b'\n']);
        }
        wire.send("0\r\n\r\n");
        let answer = wire.answer();
        assert_eq!((answer.status, &answer.json()["accepted"]), (202, &json!(2)), "{answer:?}");
        assert_eq!(data_of(&site, coding), [json!(1), json!(2)]);
        // The connection is as good as new.
        assert_eq!(wire.get("/health/live").status, 200);
    }
}

fn a_broken_body_keeps_what_came_before(cell: Cell) {
    let site = Site::start(cell);
    let lines: String = (0..20_000).map(|n| format!("{{\"data\":{n}}}\n")).collect();
    for (coding, whole) in both(lines.as_bytes()) {
        let cut = &whole[..whole.len() - whole.len() / 4];
        let garbage = [&whole[..], b"behind the end"].concat();
        for (name, body) in [("cut", cut), ("garbage", &garbage)] {
            let channel = format!("{coding}{name}");
            let path = format!("/v1/channels/{channel}/events");
            let (status, answer) = post(&site, &path, NDJSON, coding, body);
            let accepted = answer["accepted"].as_u64().expect("a count");
            assert!(status == 202 && accepted > 0, "{channel}: {status} {answer}");
            assert_eq!(answer["stopped_at"], accepted, "{channel}");
            let reason = &answer["rejections"][0];
            assert_eq!(reason["code"], "invalid_encoding", "{channel}: {reason}");
            let last = site.get(&format!("/v1/channels/{channel}/last")).json();
            assert_eq!((&last["offset"], &last["data"]), (&json!(accepted), &json!(accepted - 1)));
        }
        // Where nothing can stand, nothing does.
        for body in [&b"no such thing"[..], b"", &whole[..12]] {
            let (status, answer) = post(&site, "/v1/channels/none/events", NDJSON, coding, body);
            assert_eq!((status, &answer["error"]["code"]), (400, &json!("invalid_encoding")));
            let json = "application/json";
            let (status, answer) = post(&site, "/v1/channels/none/events", json, coding, body);
            assert_eq!((status, &answer["error"]["code"]), (400, &json!("invalid_encoding")));
        }
        assert_eq!(site.get("/v1/channels/none/last").status, 404);
    }
}

fn other_codings_are_refused_with_the_list(cell: Cell) {
    let site = Site::start(cell);
    let check = |headers: &str, expected: u16| {
        let headers = format!("Content-Type: text/plain\r\n{headers}");
        let answer = site.wire().request("POST", "/v1/channels/e/events", &headers, b"x");
        assert_eq!(answer.status, expected, "{headers}: {answer:?}");
        if expected == 415 {
            assert_eq!(answer.code(), "unsupported_encoding");
            assert_eq!(answer.header("accept-encoding"), "gzip, zstd");
            assert!(answer.text().contains("gzip"), "{answer:?}");
        }
    };
    check("Content-Encoding: br\r\n", 415);
    check("Content-Encoding: deflate\r\n", 415);
    check("Content-Encoding: gzip, zstd\r\n", 415);
    check("Content-Encoding: gzip\r\nContent-Encoding: gzip\r\n", 415);
    check("Content-Encoding: identity\r\n", 202);
    check("Content-Encoding: gzip\r\n", 400);
}

/// What a body expands to meets its limit while it expands, and costs its sender alone.
fn a_bomb_is_stopped_at_the_limit_of_its_kind(cell: Cell) {
    let site = Site::with(cell, |config| config.limits.body_bytes_max = 1 << 20);
    let zeros = vec![b' '; 16 << 20];
    let lines: std::collections::BTreeMap<_, _> = both(&vec![b'x'; 16 << 20]).into();
    for (coding, bomb) in both(&zeros) {
        assert!(bomb.len() < zeros.len() / 500, "{coding}");
        for content_type in ["application/json", "application/octet-stream"] {
            let (status, answer) =
                post(&site, "/v1/channels/b/events", content_type, coding, &bomb);
            assert_eq!((status, &answer["error"]["code"]), (413, &json!("body_too_large")));
        }
        // A line without end is one item that is too long, and nothing of it is kept.
        let (status, answer) = post(&site, "/v1/channels/b/events", NDJSON, coding, &lines[coding]);
        assert_eq!((status, &answer["rejected"]), (413, &json!(1)), "{answer}");
        assert_eq!(answer["rejections"][0]["code"], "too_large");
    }
    assert_eq!(site.get("/v1/channels/b/last").status, 404);
}

/// The server's own process, so that what it holds can be measured.
fn many_bombs_at_once_cost_no_memory(cell: Cell) {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Process::start(cell, folder.path());
    let bombs = both(&vec![b' '; 32 << 20]);
    let send = |count: usize| {
        let wires: Vec<_> = (0..count)
            .map(|at| {
                let (coding, bomb) = &bombs[at % 2];
                let mut wire = server.wire();
                let length = format!("Content-Length: {}\r\n\r\n", bomb.len());
                let head = "POST /v1/channels/b/events HTTP/1.1\r\nHost: localhost\r\n";
                wire.send([head, &headers(NDJSON, coding), &length].concat());
                wire.send(bomb);
                wire
            })
            .collect();
        for mut wire in wires {
            // A line of 32 MiB is too long; with many at once the pool of bodies may be full.
            let answer = wire.answer();
            assert!(matches!(answer.status, 413 | 503), "{answer:?}");
        }
    };
    send(2);
    let before = server.resident_bytes();
    send(16);
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 48 << 20, "16 bombs of 32 MiB grew the server by {grown} bytes");
}

fn undici_compresses_what_it_sends(cell: Cell) {
    let site = Site::start(cell);
    let told = run(client("publish_gzip.mjs").args([&site.url(""), "undici"]));
    assert!(told.contains("5000 accepted"), "{told}");
    let told = run(client("publish_gzip.py").arg(site.url("")));
    assert!(told.contains("5000 accepted"), "{told}");
    for channel in ["undici", "aiohttp"] {
        let last = site.get(&format!("/v1/channels/{channel}/last")).json();
        assert_eq!((&last["offset"], &last["data"]), (&json!(5_000), &json!({"n": 4_999})));
    }
}

cells!(
    a_bomb_is_stopped_at_the_limit_of_its_kind,
    a_broken_body_keeps_what_came_before,
    every_type_of_body_may_be_compressed,
    many_bombs_at_once_cost_no_memory,
    members_and_frames_in_a_row_are_one_body,
    other_codings_are_refused_with_the_list,
    undici_compresses_what_it_sends,
);
