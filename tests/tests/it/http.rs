//! Publishing and reading over HTTP, by curl over both versions and on bare sockets.

use crate::rig::child::curl;
use crate::rig::{Answer, Cell, Site, Wire};
use serde_json::{Value, json};
use std::fs;

/// Over which version curl speaks.
const VERSIONS: [&str; 2] = ["--http1.1", "--http2-prior-knowledge"];

/// Runs curl so that the status is known too.
fn curl_status(arguments: &[&str]) -> (u16, String) {
    let text = curl(&[arguments, &["--write-out", "\n%{http_code}"]].concat());
    let (body, status) = text.rsplit_once('\n').expect("a status line");
    (status.parse().expect("a status"), body.to_owned())
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text:?}"))
}

fn curl_publishes_and_reads_over_both_versions(cell: Cell) {
    let site = Site::start(cell);
    for (round, version) in VERSIONS.into_iter().enumerate() {
        let channel = format!("orders{round}");
        let events = site.url(&format!("/v1/channels/{channel}/events"));
        let ndjson = "{\"data\":{\"n\":1},\"id\":\"a\"}\n{\"data\":2}\n";
        let (status, body) = curl_status(&[
            version,
            "--data-binary",
            ndjson,
            "--header",
            "Content-Type: application/x-ndjson",
            &format!("{events}?ack=durable"),
        ]);
        let answer = json_of(&body);
        assert_eq!((status, &answer["accepted"]), (202, &json!(2)), "{body}");
        let first = answer["positions"][0]["position"].as_str().expect("a position").to_owned();

        let (status, body) = curl_status(&[version, &format!("{events}?since={first}")]);
        let answer = json_of(&body);
        assert_eq!((status, &answer["events"][0]["data"]), (200, &json!(2)), "{body}");
        assert_eq!(answer["events"].as_array().map(Vec::len), Some(1));

        let last = site.url(&format!("/v1/channels/{channel}/last"));
        let head = curl(&[version, "--head", &last]);
        let tag = head
            .lines()
            .find_map(|line| line.to_lowercase().strip_prefix("etag: ").map(str::to_owned));
        let tag = tag.unwrap_or_else(|| panic!("no ETag in {head}"));
        let matches = format!("If-None-Match: {}", tag.trim());
        let (status, body) = curl_status(&[version, "--header", &matches, &last]);
        assert_eq!((status, &body[..]), (304, ""));
        site.publish(&channel, "three");
        let (status, body) = curl_status(&[version, "--header", &matches, &last]);
        assert_eq!((status, &json_of(&body)["data"]), (200, &json!("three")));

        let history = site.url(&format!("/v1/history?channel={channel}&from=2&limit=10"));
        let stored = |body: &str| json_of(body)["events"].as_array().expect("events").len();
        crate::rig::until("the store to have both", || stored(&curl(&[version, &history])) == 2);
    }
}

fn polling_answers_304_until_something_is_new(cell: Cell) {
    let site = Site::start(cell);
    let position = site.publish("c", "one");
    let path = format!("/v1/channels/c/events?since={position}");
    let mut wire = site.wire();
    let nothing = wire.get(&path);
    assert_eq!((nothing.status, nothing.json()["events"].clone()), (200, json!([])));
    let tag = nothing.header("etag").to_owned();
    assert_eq!(tag, format!("\"{position}\""));
    for given in [tag.clone(), format!("W/{tag}"), format!("\"x\", {tag}"), "*".to_owned()] {
        let answer = wire.request("GET", &path, &format!("If-None-Match: {given}\r\n"), b"");
        assert_eq!((answer.status, answer.header("etag")), (304, &tag[..]), "{given}");
    }
    site.publish("c", "two");
    let answer = wire.request("GET", &path, &format!("If-None-Match: {tag}\r\n"), b"");
    assert_eq!((answer.status, answer.json()["events"][0]["data"].clone()), (200, json!("two")));
    assert_eq!(answer.json()["position"], answer.header("etag").trim_matches('"'));
    // Unknown and unreadable positions are told, never refused.
    for (since, gap) in [("nonsense", "malformed"), ("ffffffffffffffff:1", "unknown")] {
        let answer = wire.get(&format!("/v1/channels/c/events?since={since}"));
        assert_eq!((answer.status, answer.json()["gap"].clone()), (200, json!(gap)), "{since}");
        assert_eq!(answer.json()["events"].as_array().map(Vec::len), Some(2));
    }
}

fn pipelined_requests_are_answered_in_order_on_one_connection(cell: Cell) {
    let site = Site::start(cell);
    let mut wire = site.wire();
    let mut input = Vec::new();
    for round in 0..20 {
        let body = format!("m{round}");
        let head = "POST /v1/channels/p/events?ack=durable HTTP/1.1\r\nHost: localhost\r\n\
                    Content-Type: text/plain\r\n";
        input.extend(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes());
        input.extend(b"GET /v1/channels/p/last HTTP/1.1\r\nHost: localhost\r\n\r\n");
    }
    wire.send(&input);
    for round in 0..20 {
        assert_eq!(wire.answer().status, 202);
        let answer = wire.answer();
        assert_eq!(
            (answer.status, answer.json()["data"].clone()),
            (200, json!(format!("m{round}")))
        );
    }
}

fn a_client_that_expects_100_gets_it_before_it_sends_a_body(cell: Cell) {
    let site = Site::start(cell);
    let mut wire = site.wire();
    let head = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n\
             Content-Length: 2\r\nExpect: 100-continue\r\n\r\n"
        )
    };
    wire.send(head("/v1/channels/e/events"));
    assert_eq!(wire.head().status, 100);
    wire.send("hi");
    assert_eq!(wire.answer().status, 202);
    // A refusal comes instead of the 100, and the body need not be sent.
    wire.send(head("/v1/nothing"));
    assert_eq!(wire.answer().status, 404);
    assert_eq!(wire.rest(), b"");
}

fn head_answers_without_a_body_and_keeps_the_connection(cell: Cell) {
    let site = Site::start(cell);
    site.publish("h", "data");
    let mut wire = site.wire();
    for path in ["/v1/channels/h/last", "/v1/channels/h/events", "/health/live", "/v1/none"] {
        let head = wire.request("HEAD", path, "", b"");
        let get = wire.get(path);
        assert_eq!((head.status, head.header("etag")), (get.status, get.header("etag")), "{path}");
        assert_eq!(head.header("content-length"), get.body.len().to_string(), "{path}");
    }
    let head = wire.request("HEAD", "/v1/history?channel=h", "", b"");
    assert_eq!((head.status, wire.get("/health/live").status), (200, 200));
}

/// Sends a request line with extra header lines; checks the status and the error code.
fn check(site: &Site, request: &str, headers: &str, status: u16, code: &str) -> Answer {
    let (method, path) = request.split_once(' ').expect("method and path");
    let answer = site.wire().request(method, path, headers, b"");
    assert_eq!((answer.status, &answer.code()[..]), (status, code), "{request} {headers:?}");
    answer
}

fn wrong_requests_are_told_what_is_wrong(cell: Cell) {
    let site = Site::start(cell);
    let check = |request, status, code| check(&site, request, "", status, code);
    let allow = check("GET /v1/events", 405, "method_not_allowed");
    assert_eq!(allow.header("allow"), "POST");
    let allow = check("DELETE /v1/channels/a/events", 405, "method_not_allowed");
    assert!(allow.header("allow").contains("GET"), "{allow:?}");
    assert!(allow.header("allow").contains("POST"), "{allow:?}");
    check("POST /v1/sse?channel=a", 405, "method_not_allowed");
    check("POST /v1/history?channel=a", 405, "method_not_allowed");
    check("PUT /health/live", 405, "method_not_allowed");
    check("GET /v1/sse", 400, "bad_parameter");
    check("GET /v1/sse?channel=a&color=red", 400, "unknown_parameter");
    check("GET /v1/sse?channel=a&format=xml", 400, "bad_parameter");
    check("GET /v1/sse?channel=a%20b", 400, "invalid_channel");
    check("GET /v1/sse?channel=%zz", 400, "bad_query");
    check("GET /v1/channels/a/ws?since=1", 400, "bad_parameter");
    check("GET /v1/channels/%ff/last", 400, "invalid_channel");
    check("GET /v1/channels/a/last?limit=1", 400, "unknown_parameter");
    check("GET /v1/history", 400, "bad_parameter");
    check("GET /v1/history?channel=a&from=soon", 400, "bad_parameter");
    check("GET /v1/history?channel=a&limit=0", 400, "bad_parameter");
    check("GET /v1/history?channel=a&limit=100001", 400, "bad_parameter");
    check("POST /v1/events?ack=maybe", 400, "bad_parameter");
    check("GET /v1/channels/a/nothing", 404, "not_found");
    let nothing = check("GET /v1", 404, "not_found").text();
    for place in ["/v1/sse", "/connection/websocket", "/emulation", "/api/{method}"] {
        assert!(nothing.contains(place), "{nothing}");
    }
    assert_eq!(
        check("GET /nothing.js", 404, "not_found").text(),
        nothing.replace("/v1;", "/nothing.js;")
    );
    for path in ["/metrics", "/debug/memory", "/admin/storage", "/health/storage"] {
        let request = format!("GET {path}");
        let elsewhere = self::check(&site, &request, "", 404, "not_found").text();
        assert!(elsewhere.contains("admin listener"), "{elsewhere}");
    }
}

fn bodies_that_cannot_be_read_are_refused_with_their_reason(cell: Cell) {
    let site = Site::with(cell, |config| {
        config.limits.message_bytes_max = 10_000;
        config.limits.body_bytes_max = 20_000;
    });
    let check = |path: &str, content_type: &str, body: &str, status: u16, code: &str| {
        let answer = site.post(path, content_type, body);
        let shown = answer.text();
        assert!(answer.status == status && shown.contains(code), "{body:.60}: {answer:?}");
    };
    let long = "x".repeat(10_001);
    check("/v1/channels/a/events", "text/plain", &long, 413, "too_large");
    check("/v1/channels/a/events", "text/plain", &long.repeat(2), 413, "body_too_large");
    check("/v1/channels/a/events", "application/json", &" ".repeat(20_001), 413, "body_too_large");
    check("/v1/events", "text/plain", "x", 415, "unsupported_media_type");
    check("/v1/events", "", "x", 415, "unsupported_media_type");
    check("/v1/events", "application/json", "{", 400, "invalid_json");
    check("/v1/events", "application/json", "{\"data\":1}", 400, "missing_channel");
    check("/v1/channels/a/events", "application/json", "{\"dato\":1}", 400, "unknown_member");
    check("/v1/channels/a/events", "application/json", "{\"dato\":1}", 400, "dato");
    check("/v1/channels/a/events", "application/json", "{}", 400, "missing_data");
    let other = "{\"channel\":\"b\",\"data\":1}";
    check("/v1/channels/a/events", "application/json", other, 400, "channel_mismatch");
    let reserved = "{\"type\":\"shardcast.gap\",\"data\":1}";
    check("/v1/channels/a/events", "application/json", reserved, 400, "reserved_type");
    // The same over HTTP/2.
    let url = site.url("/v1/channels/a/events");
    let (status, body) = curl_status(&[
        "--http2-prior-knowledge",
        "--data-binary",
        &long.repeat(2),
        "-H",
        "Content-Type: text/plain",
        &url,
    ]);
    assert_eq!(status, 413, "{body}");
    // Nothing of it disturbed anybody.
    assert_eq!(site.get("/v1/channels/a/last").status, 404);
}

fn a_bad_line_does_not_lose_its_neighbours(cell: Cell) {
    let site = Site::start(cell);
    let body = "{\"data\":0}\nnot json\n{\"data\":1}\n{\"nope\":1,\"data\":1}\n\n{\"data\":2}";
    let answer = site.post("/v1/channels/n/events", "application/x-ndjson", body).json();
    assert_eq!((&answer["accepted"], &answer["rejected"]), (&json!(3), &json!(2)), "{answer}");
    let refused: Vec<_> = answer["rejections"]
        .as_array()
        .expect("rejections")
        .iter()
        .map(|r| (r["index"].clone(), r["code"].clone()))
        .collect();
    assert_eq!(refused, [(json!(1), json!("invalid_json")), (json!(3), json!("unknown_member"))]);
    let events = site.get("/v1/channels/n/events").json();
    let data: Vec<_> =
        events["events"].as_array().expect("events").iter().map(|e| e["data"].clone()).collect();
    assert_eq!(data, [json!(0), json!(1), json!(2)]);
}

fn cloudevents_arrive_in_every_mode(cell: Cell) {
    let site = Site::start(cell);
    let event = |id: &str| {
        json!({"specversion": "1.0", "id": id, "source": "/shop", "type": "order",
               "comexampleextension": "x", "data": {"n": id}})
    };
    let structured =
        site.post("/v1/channels/ce/events", "application/cloudevents+json", event("1").to_string());
    assert_eq!(structured.status, 202, "{structured:?}");
    let batch = json!([event("2"), event("3")]).to_string();
    let batch = site.post(
        "/v1/channels/ce/events",
        "application/cloudevents-batch+json; charset=utf-8",
        batch,
    );
    assert_eq!((batch.status, batch.json()["accepted"].clone()), (202, json!(2)), "{batch:?}");
    let binary = site.wire().request(
        "POST",
        "/v1/channels/ce/events",
        "ce-specversion: 1.0\r\nce-id: 4\r\nce-source: /shop\r\nce-type: order\r\n\
         ce-comexampleextension: a%20b\r\nContent-Type: application/json\r\n",
        b"{\"n\":\"4\"}",
    );
    assert_eq!(binary.status, 202, "{binary:?}");
    let events = site.get("/v1/channels/ce/events").json();
    let events = events["events"].as_array().expect("events");
    for (index, event) in events.iter().enumerate() {
        let id = (index + 1).to_string();
        assert_eq!((&event["id"], &event["data"]["n"]), (&json!(id), &json!(id)), "{event}");
        assert_eq!((&event["type"], &event["source"]), (&json!("order"), &json!("/shop")));
    }
    assert_eq!(events.len(), 4);
    assert_eq!(events[3]["attributes"]["comexampleextension"], json!("a b"));
}

fn a_repeated_id_answers_with_the_first_position(cell: Cell) {
    let site = Site::start(cell);
    let publish = |ack: &str| {
        let path = format!("/v1/channels/d/events?ack={ack}");
        site.post(&path, "application/json", "{\"id\":\"one\",\"source\":\"s\",\"data\":1}").json()
    };
    let first = publish("accepted");
    let again = publish("durable");
    assert_eq!(first["positions"][0]["position"], again["positions"][0]["position"]);
    assert_eq!((&first["duplicates"], &again["duplicates"]), (&json!(0), &json!(1)));
    assert_eq!(
        site.get("/v1/channels/d/events").json()["events"].as_array().map(Vec::len),
        Some(1)
    );
}

fn foreign_pages_and_rebound_names_are_refused(cell: Cell) {
    let site = Site::with(cell, |config| {
        config.allowed_origins = vec!["https://app.example".to_owned()];
    });
    let check = |request: &str, headers: &str, status: u16| {
        let answer = site.wire();
        let mut wire = answer;
        wire.send(format!("{request} HTTP/1.1\r\n{headers}Content-Length: 0\r\n\r\n"));
        let head = wire.head();
        assert_eq!(head.status, status, "{request} {headers:?}");
        head
    };
    for request in ["GET /v1/sse?channel=a", "GET /v1/channels/a/last", "POST /v1/events"] {
        check(request, "Host: evil.example\r\n", 403);
        check(request, "Host: localhost\r\nOrigin: https://evil.example\r\n", 403);
        check(request, "Host: localhost\r\nOrigin: null\r\n", 403);
        check(request, "Host: localhost\r\nOrigin: https://app.example.evil\r\n", 403);
        check(request, "Host: localhost\r\nOrigin: http://app.example\r\n", 403);
    }
    for origin in ["http://localhost:5173", "https://app.example"] {
        let head =
            check("GET /health/live", &format!("Host: localhost\r\nOrigin: {origin}\r\n"), 200);
        assert_eq!(head.header("access-control-allow-origin"), origin);
        assert!(head.header("vary").contains("Origin"), "{head:?}");
        let head = check(
            "OPTIONS /v1/events",
            &format!(
                "Host: localhost\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: POST\r\n"
            ),
            204,
        );
        assert_eq!(head.header("access-control-allow-origin"), origin);
        assert!(head.header("access-control-allow-headers").contains("content-type"), "{head:?}");
    }
    let evil = "Host: localhost\r\nOrigin: https://evil.example\r\nAccess-Control-Request-Method: POST\r\n";
    assert_eq!(check("OPTIONS /v1/events", evil, 403).header("access-control-allow-origin"), "");
}

/// Sends bytes; expects one answer with the status and then the end of the connection.
fn check_refused(site: &Site, input: &str, status: u16) {
    let mut wire = site.wire();
    wire.send(input);
    let answer = wire.answer();
    assert_eq!(answer.status, status, "{input:?}: {answer:?}");
    assert_eq!(answer.header("connection"), "close", "{input:?}");
    assert_eq!(wire.rest(), b"", "{input:?}: nothing that follows may be taken for a request");
}

fn smuggled_requests_get_400_and_the_connection_ends(cell: Cell) {
    let site = Site::start(cell);
    let smuggled = "GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let post =
        "POST /v1/channels/s/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n";
    for lines in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
        "Content-Length: 3\r\nContent-Length: 4\r\n",
        "Content-Length: 3, 4\r\n",
        "Content-Length: +3\r\n",
        "Content-Length: 0x3\r\n",
        "Content-Length: 3 3\r\n",
        "Content-Length: -1\r\n",
        "Content-Length:\r\n",
        "Content-Length: 99999999999999999999999\r\n",
        "Content-Length : 3\r\n",
        " Content-Length: 3\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: identity, chunked, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding:\u{b}chunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "X: a\r\n folded\r\n",
        "X: a\rContent-Length: 3\r\n",
        "X: a\0b\r\n",
        "Host: localhost\r\n",
    ] {
        let mut wire = site.wire();
        wire.send(format!("{post}{lines}\r\n0\r\n\r\n{smuggled}"));
        let answer = wire.answer();
        assert!(matches!(answer.status, 400 | 501), "{lines:?}: {answer:?}");
        assert_eq!(wire.rest(), b"", "{lines:?}: nothing that follows may be taken for a request");
    }
    for bytes in [
        "GET /health/live HTTP/1.1\r\n\r\n",
        "GET /health/live HTTP/1.1\nHost: localhost\n\n",
        "GET  /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /health/live HTTP/1.1\r\nHost: a, b\r\n\r\n",
        "GET /health/live\r\nHost: localhost\r\n\r\n",
        "GET /health live HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "\u{1}\u{2}\u{3}\r\n\r\n",
    ] {
        check_refused(&site, bytes, 400);
    }
    for chunks in [
        "5;\nx\r\nabcde\r\n0\r\n\r\n",
        "g\r\n",
        "5\r\nabcdeX0\r\n\r\n",
        "-1\r\n",
        "FFFFFFFFFFFFFFFFF\r\n",
        "3\nabc\r\n0\r\n\r\n",
    ] {
        check_refused(&site, &format!("{post}Transfer-Encoding: chunked\r\n\r\n{chunks}"), 400);
    }
}

fn the_body_of_a_request_that_takes_none_is_not_the_next_request(cell: Cell) {
    let site = Site::start(cell);
    let inner = "POST /v1/channels/smug/events HTTP/1.1\r\nHost: localhost\r\n\
                 Content-Type: text/plain\r\nContent-Length: 4\r\n\r\nevil";
    for path in [
        "/v1/channels/m/events",
        "/v1/channels/m/last",
        "/v1/history?channel=m&from=1",
        "/v1/sse?channel=m",
        "/v1/sse?channel=m&format=none",
        "/v1/channels/m/ws",
        "/health/live",
        "/nothing",
    ] {
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n");
        for body in [
            format!("Content-Length: {}\r\n\r\n{inner}", inner.len()),
            format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len()),
        ] {
            let mut wire = site.wire();
            wire.send(format!("{head}{body}"));
            wire.send("GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            let status = wire.answer().status;
            assert!(status != 200 || path == "/health/live", "{path}: {status}");
            let rest = String::from_utf8_lossy(&wire.rest()).into_owned();
            assert!(!rest.contains("accepted"), "{path}: {rest}");
        }
    }
    assert_eq!(site.get("/v1/channels/smug/last").status, 404);
}

fn an_answer_goes_on_after_close_as_long_as_the_peer_takes_it(cell: Cell) {
    let site = Site::start(cell);
    let data = "x".repeat(1_000_000);
    assert_eq!(site.post("/v1/channels/big/events", "text/plain", &data).status, 202);
    let mut wire = Wire::connect_narrow(site.address());
    wire.send("GET /v1/channels/big/last HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    // Longer than a peer that takes nothing is given.
    std::thread::sleep(std::time::Duration::from_secs(7));
    let answer = wire.answer();
    assert!(answer.body.len() > 1_000_000, "{} bytes", answer.body.len());
}

fn oversized_heads_get_431_and_long_targets_414(cell: Cell) {
    let site = Site::start(cell);
    let host = "Host: localhost\r\n";
    let long = "x".repeat(20_000);
    check_refused(&site, &format!("GET /health/live HTTP/1.1\r\n{host}X: {long}\r\n\r\n"), 431);
    let many: String = (0..200).map(|n| format!("X{n}: y\r\n")).collect();
    check_refused(&site, &format!("GET /health/live HTTP/1.1\r\n{host}{many}\r\n"), 431);
    let mut wire = site.wire();
    wire.send(format!("GET /{long} HTTP/1.1\r\n{host}\r\n"));
    let status = wire.answer().status;
    assert!(matches!(status, 414 | 431), "{status}");
    // Over HTTP/2 too, and the next request works.
    let url = site.url("/health/live");
    let header = format!("X-Long: {}", "y".repeat(17_000));
    let output = crate::rig::child::output(std::process::Command::new("curl").args([
        "--silent",
        "--http2-prior-knowledge",
        "--max-time",
        "60",
        "--output",
        "/dev/null",
        "--write-out",
        "%{http_code}",
        "--header",
        &header,
        &url,
    ]));
    let status = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(status == "431" || status == "000", "{status}");
    assert_eq!(site.get("/health/live").status, 200);
}

fn a_head_that_trickles_is_answered_408(cell: Cell) {
    let site = Site::with(cell, |config| {
        config.limits.head_timeout_s = 1;
        config.limits.body_idle_timeout_s = 1;
    });
    // Said nothing: nobody to answer. Said half: an answer. Bytes do not extend the time.
    assert_eq!(site.wire().rest(), b"");
    let mut wire = site.wire();
    wire.send("GET /health/live HTTP/1.1\r\nHost: localhost\r\n");
    let mut trickle = wire.stream.try_clone().expect("a socket");
    let trickling = std::thread::spawn(move || {
        use std::io::Write as _;
        while trickle.write_all(b"X: y\r\n").is_ok() {
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    });
    assert_eq!(wire.answer().status, 408);
    assert_eq!(wire.rest(), b"");
    drop(wire);
    trickling.join().expect("the writer ends when the server has closed");
    let mut wire = site.wire();
    wire.send(
        "POST /v1/channels/b/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nab",
    );
    assert_eq!(wire.answer().status, 408);
    assert_eq!(wire.rest(), b"");
    assert_eq!(site.get("/v1/channels/b/last").status, 404);
}

fn half_closed_clients_get_their_answer(cell: Cell) {
    let site = Site::start(cell);
    let mut wire = site.wire();
    wire.send(
        "POST /v1/channels/f/events?ack=durable HTTP/1.1\r\nHost: localhost\r\n\
         Content-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi",
    );
    wire.finish();
    assert_eq!(wire.answer().status, 202);
    assert_eq!(wire.rest(), b"");
    // Several requests, then the end: each is answered.
    let mut wire = site.wire();
    let get = "GET /v1/channels/f/last HTTP/1.1\r\nHost: localhost\r\n\r\n";
    wire.send(get.repeat(3));
    wire.finish();
    for _ in 0..3 {
        assert_eq!(wire.answer().status, 200);
    }
    assert_eq!(wire.rest(), b"");
    // A body that had to wait for room, then the end.
    let mut wire = site.wire();
    send_stream(&mut wire, 20_000);
    wire.finish();
    assert_eq!(wire.answer().json()["accepted"], json!(20_000));
    assert_eq!(wire.rest(), b"");
}

fn health_answers_on_both_listeners(cell: Cell) {
    let site = Site::start(cell);
    for path in ["/health/live", "/health/ready"] {
        assert_eq!((site.get(path).status, site.admin_get(path).status), (200, 200), "{path}");
    }
}

/// 200,000 events of 100 bytes in chunks of changing size.
fn send_stream(wire: &mut Wire, events: usize) {
    wire.send(
        "POST /v1/channels/big/events HTTP/1.1\r\nHost: localhost\r\n\
         Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    let mut piece = Vec::new();
    for number in 0..events {
        let line = format!("{{\"data\":{{\"n\":{number},\"pad\":\"{:0>70}\"}}}}\n", number);
        piece.extend(line.into_bytes());
        if piece.len() > 1_000 + number % 5_000 || number + 1 == events {
            wire.send(format!("{:x}\r\n", piece.len()));
            wire.send(&piece);
            wire.send("\r\n");
            piece.clear();
        }
    }
    wire.send("0\r\n\r\n");
}

fn a_stream_of_200_000_events_passes_in_bounded_memory(cell: Cell) {
    let folder = tempfile::tempdir().expect("a folder");
    let server = crate::rig::Process::start(cell, folder.path());
    // What the same work costs once: histories, segments, pools.
    let mut wire = server.wire();
    send_stream(&mut wire, 50_000);
    let answer = wire.answer();
    assert_eq!(answer.json()["accepted"], json!(50_000), "{answer:?}");
    let before = server.resident_bytes();
    send_stream(&mut wire, 200_000);
    let answer = wire.answer().json();
    assert_eq!(
        (&answer["accepted"], &answer["rejected"]),
        (&json!(200_000), &json!(0)),
        "{answer}"
    );
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "200,000 events of 100 bytes grew the server by {grown} bytes");
    // A long body by curl, over HTTP/2.
    let file = folder.path().join("body");
    fs::write(&file, "{\"data\":1}\n".repeat(200_000)).expect("a file");
    let body = format!("@{}", file.display());
    let url = server.url("/v1/channels/big2/events");
    let (status, text) = curl_status(&[
        "--http2-prior-knowledge",
        "-H",
        "Content-Type: application/x-ndjson",
        "--data-binary",
        &body,
        &url,
    ]);
    assert_eq!((status, &json_of(&text)["accepted"]), (202, &json!(200_000)), "{text}");
}

fn nothing_is_answered_behind_a_close(cell: Cell) {
    let site = Site::start(cell);
    let mut wire = site.wire();
    wire.send(
        "GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n\
         GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n",
    );
    assert_eq!(wire.answer().status, 200);
    assert_eq!(wire.rest(), b"", "a request behind a close was answered");
}

fn an_answer_made_at_once_survives_the_end_that_came_with_its_request(cell: Cell) {
    let site = Site::start(cell);
    for path in ["/health/live", "/v1/nothing", "/v1/channels/a/last"] {
        for round in 0..10 {
            let mut wire = site.wire();
            wire.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
            wire.finish();
            assert!(wire.answer().status > 0, "{path} in round {round}");
        }
    }
}

fn a_body_over_its_limit_is_never_cut_and_published(cell: Cell) {
    let site = Site::with(cell, |config| config.limits.body_bytes_max = 40_000);
    let mut wire = site.wire();
    let piece = format!("{:x}\r\n{}\r\n", 9_000, "x".repeat(9_000));
    let head = "POST /v1/channels/cut/events HTTP/1.1\r\nHost: localhost\r\n\
                Content-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n";
    wire.send(format!("{head}{}0\r\n\r\n", piece.repeat(6)));
    assert_eq!(wire.answer().status, 413);
    assert_eq!(site.wire().get("/v1/channels/cut/last").status, 404, "a cut body was published");
    let mut wire = site.wire();
    let head = "POST /v1/channels/cut/events HTTP/1.1\r\nHost: localhost\r\n\
                Content-Type: text/plain\r\nContent-Length: 40001\r\n\r\n";
    wire.send(head);
    assert_eq!(wire.answer().status, 413, "the announced length decides");
}

fn a_stream_that_breaks_says_what_was_taken(cell: Cell) {
    let site = Site::start(cell);
    let mut wire = site.wire();
    let lines = "{\"data\":1}\n{\"data\":2}\n{\"da";
    wire.send(format!(
        "POST /v1/channels/broken/events HTTP/1.1\r\nHost: localhost\r\n\
         Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n\
         {:x}\r\n{lines}\r\nzz\r\n",
        lines.len()
    ));
    let answer = wire.answer();
    assert_eq!(answer.status, 202, "{}", answer.text());
    assert_eq!(answer.json()["accepted"], json!(2));
    assert_eq!(answer.json()["stopped_at"], json!(2));
    assert_eq!(wire.rest(), b"");
}

cells!(
    a_bad_line_does_not_lose_its_neighbours,
    a_body_over_its_limit_is_never_cut_and_published,
    a_stream_that_breaks_says_what_was_taken,
    an_answer_made_at_once_survives_the_end_that_came_with_its_request,
    nothing_is_answered_behind_a_close,
    a_client_that_expects_100_gets_it_before_it_sends_a_body,
    a_head_that_trickles_is_answered_408,
    a_repeated_id_answers_with_the_first_position,
    a_stream_of_200_000_events_passes_in_bounded_memory,
    bodies_that_cannot_be_read_are_refused_with_their_reason,
    cloudevents_arrive_in_every_mode,
    curl_publishes_and_reads_over_both_versions,
    foreign_pages_and_rebound_names_are_refused,
    half_closed_clients_get_their_answer,
    head_answers_without_a_body_and_keeps_the_connection,
    health_answers_on_both_listeners,
    oversized_heads_get_431_and_long_targets_414,
    pipelined_requests_are_answered_in_order_on_one_connection,
    polling_answers_304_until_something_is_new,
    smuggled_requests_get_400_and_the_connection_ends,
    the_body_of_a_request_that_takes_none_is_not_the_next_request,
    an_answer_goes_on_after_close_as_long_as_the_peer_takes_it,
    wrong_requests_are_told_what_is_wrong,
);
