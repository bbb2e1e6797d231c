//! Clients that mean harm: floods, bombs, stalls, climbing paths and text that wants to be code.

use crate::rig::child::curl;
use crate::rig::h2::{self, Connection, block, frame, request};
use crate::rig::process::Plan;
use crate::rig::sse::Stream;
use crate::rig::ws::Socket;
use crate::rig::{Cell, Process, Site, until};
use serde_json::json;

/// A second connection is served whatever the first one did.
fn others_are_served(site: &Site) {
    let mut other = Connection::open(site.address(), &[]);
    other.get(1, "/health/live");
    assert_eq!(other.status(1), 200);
}

/// Sends frames on a connection until the server ends it; gives the code of its GOAWAY.
fn flood(site: &Site, first: &[u8], again: impl Fn(u32) -> Vec<u8>) -> Option<u32> {
    let mut connection = Connection::open(site.address(), &[]);
    connection.wire.send(first);
    for round in 0..20_000 {
        // The server may have ended it, and then takes no more.
        if !connection.wire.try_send(again(round)) {
            break;
        }
    }
    let code = connection.goaway();
    others_are_served(site);
    code
}

fn http2_floods_end_with_goaway_and_disturb_nobody(cell: Cell) {
    let site = Site::start(cell);
    let calm = Some(h2::ENHANCE_YOUR_CALM);
    let get = |stream: u32| {
        let head = request("GET", "/v1/sse?channel=x");
        frame(h2::HEADERS, h2::END_HEADERS | h2::END_STREAM, stream, &head)
    };
    let check = |what: &str, first: &[u8], again: &dyn Fn(u32) -> Vec<u8>| {
        let code = flood(&site, first, again);
        // A connection that the server closes under unread input may lose its last words.
        assert!(code == calm || code.is_none(), "{what}: {code:?}");
    };
    check("rapid reset", b"", &|n| {
        let stream = 2 * n + 1;
        [get(stream), frame(h2::RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
    });
    check("pings", b"", &|_| frame(h2::PING, 0, 0, b"12345678"));
    check("settings", b"", &|_| frame(h2::SETTINGS, 0, 0, b""));
    check("priority", b"", &|_| frame(2, 0, 1, b"\0\0\0\0\0"));
    check("window updates", &get(1), &|_| frame(h2::WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()));
    check("unknown frames", b"", &|_| frame(0xaa, 0, 0, b"x"));
    let post = request("POST", "/v1/channels/f/events");
    let post = frame(h2::HEADERS, h2::END_HEADERS, 1, &post);
    check("empty data", &post, &|_| frame(h2::DATA, 0, 1, b""));
    let head = frame(h2::HEADERS, 0, 1, &request("GET", "/health/live"));
    let more = block(&[("x", "y")]);
    let code = flood(&site, &head, |_| frame(h2::CONTINUATION, 0, 1, &more));
    assert!(code != Some(0), "continuation: {code:?}");
    let code = flood(&site, &head, |_| frame(h2::CONTINUATION, 0, 1, b""));
    assert!(code != Some(0), "empty continuation: {code:?}");
}

fn broken_http2_ends_the_connection(cell: Cell) {
    let site = Site::start(cell);
    let check = |what: &str, input: Vec<u8>| {
        let mut connection = Connection::open(site.address(), &[]);
        connection.wire.send(input);
        let code = connection.goaway();
        assert!(code.is_some_and(|code| code != 0), "{what}: {code:?}");
        others_are_served(&site);
    };
    check("data on stream 0", frame(h2::DATA, 0, 0, b"x"));
    check("headers on stream 0", frame(h2::HEADERS, h2::END_HEADERS, 0, &request("GET", "/")));
    check("an even stream", frame(h2::HEADERS, h2::END_HEADERS, 2, &request("GET", "/")));
    check("a frame too large", frame(h2::DATA, 0, 1, &vec![0; 17_000]));
    check("continuation first", frame(h2::CONTINUATION, h2::END_HEADERS, 1, b""));
    check("window of zero", frame(h2::WINDOW_UPDATE, 0, 0, &0_u32.to_be_bytes()));
    check("window overflow", frame(h2::WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes()));
    check("ping of 7 bytes", frame(h2::PING, 0, 0, b"1234567"));
    check("settings of 5 bytes", frame(h2::SETTINGS, 0, 0, b"12345"));
    check("broken HPACK", frame(h2::HEADERS, h2::END_HEADERS | h2::END_STREAM, 1, &[0xff; 20]));
    check("data on an idle stream", frame(h2::DATA, 0, 5, b"x"));
}

fn half_open_http2_ends_by_its_deadline(cell: Cell) {
    let site = Site::with(cell, |config| {
        config.limits.head_timeout_s = 1;
        config.limits.keep_alive_s = 1;
        config.limits.heartbeat_s = 1;
        config.limits.pong_timeout_s = 1;
    });
    for input in [
        h2::PREFACE[..10].to_vec(),
        h2::PREFACE.to_vec(),
        [h2::PREFACE, &frame(h2::SETTINGS, 0, 0, b"")].concat(),
        [h2::PREFACE, &frame(h2::SETTINGS, 0, 0, b""), &frame(h2::HEADERS, 0, 1, b"")].concat(),
    ] {
        let mut wire = site.wire();
        wire.send(input);
        wire.rest();
    }
    others_are_served(&site);
}

/// Reads an answer's body to the end of its stream; pings are answered.
fn body_of(connection: &mut Connection, stream: u32) -> String {
    let mut body = Vec::new();
    loop {
        let got = connection.next().expect("an answer");
        if got.kind == h2::PING && got.flags & h2::ACK == 0 {
            connection.wire.send(frame(h2::PING, h2::ACK, 0, &got.payload));
        }
        if got.stream == stream && got.kind == h2::DATA {
            body.extend(&got.payload);
            if got.flags & h2::END_STREAM != 0 {
                return String::from_utf8(body).expect("UTF-8");
            }
        }
    }
}

fn an_http2_body_that_stalls_is_answered_while_pings_go_on(cell: Cell) {
    let site = Site::with(cell, |config| {
        config.limits.body_idle_timeout_s = 1;
        config.limits.heartbeat_s = 1;
    });
    let mut connection = Connection::open(site.address(), &[]);
    let path = "/v1/channels/stall/events?ack=durable";
    for (stream, body, answer) in [
        (1, "{\"data\":1", "request_timeout"),
        (3, "{\"data\":1}\n{\"data\":2}\n{\"da", "\"accepted\":2"),
    ] {
        let kind = if stream == 1 { "application/json" } else { "application/x-ndjson" };
        let mut head = request("POST", path);
        head.extend(h2::block(&[("content-type", kind)]));
        connection.wire.send(frame(h2::HEADERS, h2::END_HEADERS, stream, &head));
        connection.wire.send(frame(h2::DATA, 0, stream, body.as_bytes()));
        let told = body_of(&mut connection, stream);
        assert!(told.contains(answer), "{told}");
    }
    connection.get(5, "/health/live");
    assert_eq!(connection.status(5), 200);
}

/// Reads to the end of an answer whose windows open only now.
fn rest_of(connection: &mut Connection, stream: u32) -> usize {
    let more = 1_000_000_u32.to_be_bytes();
    connection.wire.send(frame(h2::WINDOW_UPDATE, 0, stream, &more));
    connection.wire.send(frame(h2::WINDOW_UPDATE, 0, 0, &more));
    body_of(connection, stream).len()
}

fn an_http2_answer_that_waits_for_its_window_is_neither_idle_nor_drained_away(cell: Cell) {
    let folder = tempfile::tempdir().expect("a folder");
    let plan = Plan::new(cell, folder.path()).set("limits.keep_alive_s=1");
    // A window that stays shut for four heartbeats would end the answer.
    let plan = plan.set("limits.heartbeat_s=3").set("drain_time_s=30");
    let mut server = plan.start();
    let data = "x".repeat(300_000);
    assert_eq!(server.post("/v1/channels/big/events", "text/plain", &data).status, 202);
    // Streams may hold a thousand bytes.
    let mut connection = Connection::open(server.address, &[(4, 1_000)]);
    connection.get(1, "/v1/channels/big/last");
    assert_eq!(connection.status(1), 200);
    // The first ping comes when the idle time is over thrice.
    loop {
        let got = connection.next().expect("it stays");
        if got.kind == h2::PING {
            connection.wire.send(frame(h2::PING, h2::ACK, 0, &got.payload));
            break;
        }
    }
    assert!(rest_of(&mut connection, 1) >= 299_000);
    connection.get(3, "/v1/channels/big/last");
    assert_eq!(connection.status(3), 200);
    server.terminate();
    until("the drain to begin", || server.log().contains("draining"));
    assert!(rest_of(&mut connection, 3) >= 299_000);
    // It may have been said before the last of the answer.
    assert!(connection.goaway().is_none_or(|code| code == 0));
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
}

fn an_http2_client_that_half_closes_gets_its_answers(cell: Cell) {
    let site = Site::start(cell);
    for round in 0..5 {
        let mut connection = Connection::open(site.address(), &[]);
        let head = request("POST", "/v1/channels/half/events?ack=durable");
        connection.wire.send(frame(h2::HEADERS, h2::END_HEADERS, 1, &head));
        connection.wire.send(frame(h2::DATA, h2::END_STREAM, 1, b"all of it"));
        connection.wire.finish();
        let told = body_of(&mut connection, 1);
        assert!(told.contains("\"accepted\":1"), "{round}: {told}");
        connection.goaway();
        // Half a body is not waited for.
        let mut connection = Connection::open(site.address(), &[]);
        connection.wire.send(frame(h2::HEADERS, h2::END_HEADERS, 1, &head));
        connection.wire.send(frame(h2::DATA, 0, 1, b"half of"));
        connection.wire.finish();
        let told = body_of(&mut connection, 1);
        assert!(told.contains("request_timeout"), "{round}: {told}");
        connection.goaway();
    }
}

fn http2_that_asks_for_nothing_is_idle_whatever_it_sends(cell: Cell) {
    let site = Site::with(cell, |config| {
        config.limits.keep_alive_s = 1;
        config.limits.heartbeat_s = 1;
    });
    // It answers pings and nothing else.
    let mut connection = Connection::open(site.address(), &[]);
    while let Some(got) = connection.next() {
        if got.kind == h2::PING && got.flags & h2::ACK == 0 {
            connection.wire.try_send(frame(h2::PING, h2::ACK, 0, &got.payload));
        }
    }
    // It never ends its header block.
    let mut connection = Connection::open(site.address(), &[]);
    connection.wire.send(frame(h2::HEADERS, 0, 1, &request("GET", "/health/live")));
    until("the end", || {
        // Slow enough to be no flood.
        std::thread::sleep(std::time::Duration::from_millis(200));
        !connection.wire.try_send(frame(h2::CONTINUATION, 0, 1, b""))
    });
    others_are_served(&site);
}

fn a_window_that_never_opens_costs_a_bounded_amount(cell: Cell) {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Process::start(cell, folder.path());
    let body = format!("{{\"data\":\"{}\"}}\n", "x".repeat(10_000)).repeat(500);
    for _ in 0..4 {
        let answer =
            server.post("/v1/channels/w/events?ack=durable", "application/x-ndjson", &body);
        assert_eq!(answer.status, 202, "{answer:?}");
    }
    let before = server.resident_bytes();
    // Twenty connections ask for 20 MB five hundred times each and read nothing of it.
    let mut held = Vec::new();
    for _ in 0..20 {
        let mut connection = Connection::open(server.address, &[(4, 0)]);
        for stream in 0..500 {
            let path = "/v1/history?channel=w&limit=100000";
            let head = request("GET", path);
            let flags = h2::END_HEADERS | h2::END_STREAM;
            connection.wire.try_send(frame(h2::HEADERS, flags, 2 * stream + 1, &head));
        }
        held.push(connection);
    }
    until("the requests", || {
        server.metric("shardcast_requests_total{protocol=\"http2\"") >= 5_000.0
    });
    let mut other = Connection::open(server.address, &[]);
    other.get(1, "/health/live");
    assert_eq!(other.status(1), 200);
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 512 << 20, "{grown} bytes for 20 connections that read nothing");
    drop(held);
}

fn paths_do_not_climb_out_of_the_page(cell: Cell) {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Process::start(cell, folder.path());
    for path in [
        "/../../../../etc/passwd",
        "/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/..%2f..%2f..%2fetc/passwd",
        "/%2e%2e%5c%2e%2e%5cetc%5cpasswd",
        "/..%5c..%5cetc/passwd",
        "/assets/..%2f..%2f/etc/passwd",
        "/./index.html",
        "//etc/passwd",
        "/etc/passwd%00.html",
        "/index.html%00",
        "/%00",
        "/%252e%252e/etc/passwd",
        "/%c0%ae%c0%ae/etc/passwd",
        "/%ff",
        "/%zz",
        "/assets/",
    ] {
        let answer = server.get(path);
        assert!(matches!(answer.status, 400 | 404), "{path}: {answer:?}");
        assert!(!answer.text().contains("root:"), "{path}");
        let mut connection = Connection::open(server.address, &[]);
        connection.get(1, path);
        let status = connection.status(1);
        assert!(matches!(status, 400 | 404), "{path} over HTTP/2: {status}");
    }
}

fn text_from_outside_stays_text(cell: Cell) {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Plan::new(cell, folder.path()).set("log.level=debug").start();
    // In SSE: data that looks like fields is data.
    let mut stream = Stream::open(server.address, "channel=t&event=type", "");
    until("the subscription", || server.metric("shardcast_subscriptions") >= 1.0);
    let path = "/v1/channels/t/events";
    for data in [
        "a\n\nevent: shardcast.gap\ndata: x\n\n",
        "id: forged\nretry: 1",
        "\r\rdata: x",
        "\u{feff}data",
        ":comment",
        "\0nul\u{1b}[2J",
    ] {
        assert_eq!(server.post(path, "text/plain", data).status, 202, "{data:?}");
        let event = stream.next_published().expect("an event");
        assert_eq!(event.data, data.replace("\r\n", "\n").replace('\r', "\n"), "{data:?}");
        assert_eq!(event.kind, "");
        assert!(event.id.contains(':') && event.id != "forged");
    }
    // In names: refused, whichever member.
    for member in ["type", "id", "source", "key", "channel"] {
        for bad in ["a\nb", "a\rb", "a\0b", "a\u{1b}[2Jb", "a\u{85}b", "a\u{7f}b"] {
            let body = json!({member: bad, "data": 1}).to_string();
            let answer = server.post(path, "application/json", body);
            assert_eq!(answer.status, 400, "{member} {bad:?}: {answer:?}");
            // What is quoted of it cannot steer a terminal.
            assert!(!answer.body.iter().any(|byte| *byte < 0x20), "{answer:?}");
        }
    }
    // In URLs and headers: never in an answer's head, never raw in a log.
    for target in [
        "/v1/sse?channel=a%0d%0aX-Evil:%201",
        "/v1/channels/a%0d%0aX-Evil:%201/last",
        "/v1/sse?%1b%5b2J=1",
        "/v1/%1b%5b31m",
        "/v1/events%0d%0aX-Evil:1",
    ] {
        let answer = server.get(target);
        assert!(matches!(answer.status, 400 | 404 | 405), "{target}: {answer:?}");
        assert_eq!(answer.header("x-evil"), "", "{target}");
        assert!(!answer.body.contains(&0x1b), "{target}: {answer:?}");
    }
    let mut wire = server.wire();
    let origin = "Origin: http://localhost:1\u{b}X-Evil: 1\r\n";
    let answer = wire.request("GET", "/health/live", origin, b"");
    assert!(matches!(answer.status, 400 | 403), "{answer:?}");
    let socket = Socket::open(server.address, "/v1/channels/t/ws");
    drop(socket);
    for line in server.log().lines() {
        assert!(line.starts_with("20"), "a line that no clock began: {line:?}");
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
}

fn a_client_cannot_subscribe_to_everything(cell: Cell) {
    let site = Site::with(cell, |config| config.limits.channels_per_connection_max = 20);
    // One connection, many streams of one channel each.
    let mut connection = Connection::open(site.address(), &[]);
    for index in 0..100 {
        connection.get(2 * index + 1, &format!("/v1/sse?channel=many{index}"));
    }
    let statuses: Vec<u16> = {
        let mut seen = std::collections::BTreeMap::new();
        while seen.len() < 100 {
            let frame = connection.next().expect("an open connection");
            if frame.kind == h2::HEADERS {
                let at = frame.payload.iter().position(|byte| byte & 0xe0 != 0x20).unwrap_or(0);
                let ok = frame.payload.get(at) == Some(&0x88);
                seen.insert(frame.stream, if ok { 200 } else { 0 });
            } else if frame.kind == h2::RST_STREAM {
                seen.entry(frame.stream).or_insert(0);
            }
        }
        seen.into_values().collect()
    };
    let admitted = statuses.iter().filter(|status| **status == 200).count();
    assert_eq!(admitted, 20, "as many channels as one connection may have");
    until("the subscriptions", || site.metric("shardcast_subscriptions") == 20.0);
    // A URL with a hundred thousand of them.
    let query: String = (0..100_000).map(|n| format!("channel=c{n}&")).collect();
    let mut wire = site.wire();
    wire.try_send(format!("GET /v1/sse?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    let status = wire.answer().status;
    assert!(matches!(status, 414 | 431), "{status}");
    assert!(curl(&["--http2-prior-knowledge", &site.url("/health/live")]).contains("live"));
}

fn crafted_keys_do_not_slow_it_down_or_grow_it(cell: Cell) {
    // Many distinct ids and channels: bounded windows, and the same work as for any others.
    let folder = tempfile::tempdir().expect("a folder");
    let plan = Plan::new(cell, folder.path()).set("limits.dedupe_ids_max=1000");
    let server =
        plan.set("limits.channels_max=2000").set("namespaces.default.history_size=2").start();
    let publish = |round: usize| {
        let body: String = (0..5_000)
            .map(|n| format!("{{\"id\":\"{:0>200}\",\"data\":1}}\n", round * 5_000 + n))
            .collect();
        let path = "/v1/channels/ids/events";
        let answer = server.post(path, "application/x-ndjson", body).json();
        assert_eq!(answer["accepted"], json!(5_000), "{answer}");
    };
    (0..10).for_each(publish);
    let before = server.resident_bytes();
    (10..40).for_each(publish);
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "150,000 ids in a window of 1,000 grew the server by {grown} bytes");
}

cells!(
    a_client_cannot_subscribe_to_everything,
    a_window_that_never_opens_costs_a_bounded_amount,
    broken_http2_ends_the_connection,
    crafted_keys_do_not_slow_it_down_or_grow_it,
    half_open_http2_ends_by_its_deadline,
    an_http2_body_that_stalls_is_answered_while_pings_go_on,
    an_http2_answer_that_waits_for_its_window_is_neither_idle_nor_drained_away,
    an_http2_client_that_half_closes_gets_its_answers,
    http2_that_asks_for_nothing_is_idle_whatever_it_sends,
    http2_floods_end_with_goaway_and_disturb_nobody,
    paths_do_not_climb_out_of_the_page,
    text_from_outside_stays_text,
);
