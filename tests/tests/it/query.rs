//! Counts and tops over stored events, by curl over both versions and on bare sockets.

use crate::rig::child::curl;
use crate::rig::{Cell, Site, until};
use serde_json::{Value, json};
use server::config::Access;

const RANGE: &str = "from=2026-01-01T07:00:00Z&to=2026-01-01T08:00:00Z";

/// Publishes lines of NDJSON and waits until they are on disk.
fn publish(site: &Site, channel: &str, lines: &str) {
    let path = format!("/v1/channels/{channel}/events?ack=durable");
    let answer = site.post(&path, "application/x-ndjson", lines);
    assert_eq!((answer.status, &answer.json()["rejected"]), (202, &json!(0)), "{answer:?}");
}

/// A cached answer may be a second old: asks until it is the expected one.
fn settles(site: &Site, path: &str, expected: &Value) {
    let mut last = Value::Null;
    until(&format!("{path} to give {expected}"), || {
        last = site.get(path).json();
        last == *expected
    });
}

fn orders(site: &Site) {
    publish(
        site,
        "orders",
        concat!(
            r#"{"data":{"sku":"é","n":1.0},"type":"order","time":"2026-01-01T07:00:00Z"}"#,
            "\n",
            r#"{"data":{"sku":"\u00e9","n":1},"type":"order","time":"2026-01-01T07:00:59.999999Z"}"#,
            "\n",
            r#"{"data":{"sku":["x"],"n":10e-1},"time":"2026-01-01T07:00:30Z"}"#,
            "\n",
            r#"{"data":"hi","content_type":"text/plain","type":"note","time":"2026-01-01T07:58:00Z"}"#,
            "\n",
            r#"{"data_base64":"/w==","type":"order","time":"2026-01-01T08:00:00Z"}"#,
            "\n",
            r#"{"data":{"sku":"late"},"type":"order","time":"2026-01-01T08:00:00.000001Z"}"#,
            "\n",
        ),
    );
}

fn counts_and_tops_are_the_same_over_both_versions(cell: Cell) {
    let site = Site::start(cell);
    orders(&site);
    let counts = json!({
        "channel": "orders",
        "from": "2026-01-01T07:00:00.000000Z",
        "to": "2026-01-01T08:00:00.000000Z",
        "bucket": 60,
        "total": 5,
        "buckets": [
            {"time": "2026-01-01T07:00:00Z", "total": 3, "types": {"order": 2, "": 1}},
            {"time": "2026-01-01T07:58:00Z", "total": 1, "types": {"note": 1}},
            {"time": "2026-01-01T08:00:00Z", "total": 1, "types": {"order": 1}},
        ],
    });
    let path = format!("/v1/channels/orders/counts?{RANGE}");
    settles(&site, &path, &counts);
    let top = format!("/v1/channels/orders/top?{RANGE}&field=");
    let mut text = Vec::new();
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        text.push(curl(&[version, &site.url(&path)]));
        text.push(curl(&[version, &site.url(&format!("{top}data.sku"))]));
        text.push(curl(&[version, &site.url(&format!("{top}data.n"))]));
        text.push(curl(&[version, &site.url(&format!("{top}type&limit=1"))]));
    }
    assert_eq!(text[..4], text[4..]);
    assert_eq!(serde_json::from_str::<Value>(&text[0]).expect("JSON"), counts);
    let values = |text: &str| {
        let top: Value = serde_json::from_str(text).expect("JSON");
        assert_eq!((&top["total"], &top["exact"]), (&json!(5), &json!(true)), "{text}");
        (top["missing"].clone(), top["values"].clone())
    };
    assert_eq!(values(&text[1]), (json!(3), json!([{"value": "é", "count": 2}])));
    assert_eq!(values(&text[2]), (json!(2), json!([{"value": "1", "count": 3}])));
    assert_eq!(values(&text[3]), (json!(1), json!([{"value": "order", "count": 3}])));
}

fn a_bucket_and_a_type_narrow_a_count(cell: Cell) {
    let site = Site::start(cell);
    orders(&site);
    let path = format!("/v1/channels/orders/counts?{RANGE}&bucket=3600&type=order");
    let buckets = json!([
        {"time": "2026-01-01T07:00:00Z", "total": 2, "types": {"order": 2}},
        {"time": "2026-01-01T08:00:00Z", "total": 1, "types": {"order": 1}},
    ]);
    until("the counts", || site.get(&path).json()["buckets"] == buckets);
    let none = site.get(&format!("/v1/channels/orders/counts?{RANGE}&type=")).json();
    assert_eq!(none["buckets"][0]["types"], json!({"": 1}), "{none}");
    let other = site.get(&format!("/v1/channels/order/counts?{RANGE}")).json();
    assert_eq!((&other["total"], &other["buckets"]), (&json!(0), &json!([])));
}

fn the_last_five_minutes_are_the_default_and_hold_what_was_just_stored(cell: Cell) {
    let site = Site::start(cell);
    publish(&site, "now", "{\"data\":1,\"key\":\"k\"}\n{\"data\":2}\n");
    let path = "/v1/channels/now/top?field=key";
    until("both events", || site.get(path).json()["total"] == json!(2));
    let top = site.get(path);
    assert_eq!(top.json()["values"], json!([{"value": "k", "count": 1}]));
    assert_eq!(
        (top.json()["missing"].clone(), top.header("cache-control")),
        (json!(1), "max-age=1")
    );
    until("both counted", || site.get("/v1/channels/now/counts").json()["total"] == json!(2));
    publish(&site, "now", "{\"data\":3,\"time\":\"2020-01-01T00:00:00Z\"}\n");
    let all = "/v1/channels/now/top?field=key&from=2000-01-01T00:00:00Z";
    until("the old one too", || site.get(all).json()["total"] == json!(3));
    until("a fresh answer", || site.get(path).json()["total"] == json!(2));
}

fn heads_have_no_body_and_foreign_pages_no_access(cell: Cell) {
    let site = Site::with(cell, |config| {
        config.allowed_origins = vec!["https://app.example".to_owned()];
    });
    orders(&site);
    let mut wire = site.wire();
    for path in ["/v1/channels/orders/counts?bucket=1", "/v1/channels/orders/top?field=id"] {
        let path = format!("{path}&{RANGE}");
        let head = wire.request("HEAD", &path, "", b"");
        let get = wire.get(&path);
        assert_eq!((head.status, get.status), (200, 200), "{path}");
        assert_eq!(head.header("content-type"), "application/json");
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            assert!(curl(&[version, "--head", &site.url(&path)]).contains("200"), "{path}");
        }
        let asked = wire.request("GET", &path, "Origin: https://app.example\r\n", b"");
        assert_eq!(asked.header("access-control-allow-origin"), "https://app.example");
        let foreign = site.wire().request("GET", &path, "Origin: https://evil.example\r\n", b"");
        assert_eq!(foreign.status, 403);
    }
    let history = site.url("/v1/history?channel=orders");
    assert!(curl(&["--http2-prior-knowledge", "--head", &history]).contains("200"));
}

fn wrong_and_forbidden_queries_are_told_why(cell: Cell) {
    let site = Site::with(cell, |config| {
        let mut closed = config.namespaces["default"].clone();
        closed.history = Access::Nobody;
        let mut fleeting = config.namespaces["default"].clone();
        fleeting.store = false;
        config.namespaces.insert("closed".to_owned(), closed);
        config.namespaces.insert("fleeting".to_owned(), fleeting);
    });
    let check = |path: &str, status: u16, code: &str| {
        let answer = site.get(&format!("/v1/channels/{path}"));
        assert_eq!((answer.status, &*answer.code()), (status, code), "{path}");
    };
    check("a/counts?from=17", 400, "bad_parameter");
    check("a/counts?bucket=0", 400, "bad_parameter");
    check("a/counts?bucket=1&from=2020-01-01T00:00:00Z", 400, "bad_parameter");
    check("a/counts?limit=3", 400, "unknown_parameter");
    check("a/counts?type=%zz", 400, "bad_query");
    check("a/top", 400, "bad_parameter");
    check("a/top?field=data", 400, "bad_parameter");
    check("a/top?field=type&limit=0", 400, "bad_parameter");
    check("%ff/counts", 400, "invalid_channel");
    check("closed:a/counts", 403, "forbidden");
    check("closed:a/top?field=type", 403, "forbidden");
    let post = site.post("/v1/channels/a/counts", "text/plain", "x");
    assert_eq!((post.status, post.header("allow")), (405, "GET, HEAD"));
    // Nothing of it is stored: an empty answer, as history gives one.
    let path = "/v1/channels/fleeting:a/events";
    assert_eq!(site.post(path, "text/plain", "x").status, 202);
    let answer = site.get("/v1/channels/fleeting:a/counts");
    assert_eq!((answer.status, answer.json()["total"].clone()), (200, json!(0)));
}

fn a_thousand_askers_and_changing_queries_are_all_answered(cell: Cell) {
    let site = Site::start(cell);
    orders(&site);
    until("the orders", || {
        let path = format!("/v1/channels/orders/counts?{RANGE}&bucket=7");
        site.get(&path).json()["total"] == json!(5)
    });
    let mut wires: Vec<_> = (0..20).map(|_| site.wire()).collect();
    for (at, wire) in wires.iter_mut().enumerate() {
        let mut input = String::new();
        for round in 0..50 {
            // Half of them all the same, half of them each its own.
            let bucket = if round % 2 == 0 { 60 } else { at * 50 + round + 1 };
            let path = format!("/v1/channels/orders/counts?{RANGE}&bucket={bucket}");
            input += &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        }
        wire.send(input);
    }
    for wire in &mut wires {
        for _ in 0..50 {
            let answer = wire.answer();
            assert_eq!((answer.status, answer.json()["total"].clone()), (200, json!(5)));
        }
    }
}

fn a_long_answer_comes_whole_to_a_slow_reader_over_both_versions(cell: Cell) {
    let site = Site::start(cell);
    let line = |i: usize| format!("{{\"data\":{{\"v\":\"{i:0900}\"}}}}\n");
    publish(&site, "long", &(0..1_000).map(line).collect::<String>());
    let path = "/v1/channels/long/top?field=data.v&limit=1000";
    let values = |text: &str| {
        let top: Value = serde_json::from_str(text).expect("JSON");
        top["values"].as_array().map(Vec::len)
    };
    until("all of them", || values(&site.get(path).text()) == Some(1_000));
    for version in ["--http1.1", "--http2-prior-knowledge", "--http1.0"] {
        let text = curl(&[version, "--limit-rate", "4M", &site.url(path)]);
        assert_eq!(values(&text), Some(1_000), "{version}");
        assert!(curl(&[version, "--head", &site.url(path)]).contains("200"), "{version}");
    }
}

cells!(
    a_long_history_is_whole_however_small_the_outbox,
    a_bucket_and_a_type_narrow_a_count,
    a_long_answer_comes_whole_to_a_slow_reader_over_both_versions,
    a_thousand_askers_and_changing_queries_are_all_answered,
    counts_and_tops_are_the_same_over_both_versions,
    heads_have_no_body_and_foreign_pages_no_access,
    the_last_five_minutes_are_the_default_and_hold_what_was_just_stored,
    wrong_and_forbidden_queries_are_told_why,
);

fn a_long_history_is_whole_however_small_the_outbox(cell: Cell) {
    let site = Site::with(cell, |config| {
        config.limits.message_bytes_max = 8 << 10;
        config.limits.outbox_bytes_max = 32 << 10;
    });
    // As JSON six times as long as in the store.
    let line = format!("{}\n", serde_json::json!({"data": "\u{1}".repeat(500)}));
    let body = line.repeat(1_000);
    let answer = site.post("/v1/channels/a/events?ack=durable", "application/x-ndjson", body);
    assert_eq!(answer.status, 202, "{}", answer.text());
    let answer = site.get("/v1/history?channel=a&limit=1000");
    assert_eq!(answer.json()["events"].as_array().map(Vec::len), Some(1_000));
}
