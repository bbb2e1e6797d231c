//! Corpora of events and of questions about them.

use super::{compare, encoded, plan, publish, remote, settle};
use crate::rig::clickhouse::ClickHouse;
use serde_json::{Value, json};

const ALL: &str = "from=0000-01-01T00:00:00Z&to=9999-12-31T23:59:59.999999Z";

fn line(event: &Value) -> String {
    format!("{event}\n")
}

/// Events whose payloads are JSON texts as given, in one channel.
fn raw_lines(channel: &str, payloads: &[String]) -> String {
    let line = |(i, data): (usize, &String)| {
        let (minute, second) = (i / 60 % 60, i % 60);
        format!(
            "{{\"channel\":\"{channel}\",\"id\":\"{i}\",\
             \"time\":\"2026-03-04T05:{minute:02}:{second:02}Z\",\"data\":{data}}}\n"
        )
    };
    payloads.iter().enumerate().map(line).collect()
}

#[test]
fn histories_are_byte_for_byte_the_same() {
    let store = ClickHouse::start();
    let folder = tempfile::tempdir().expect("a folder");
    let write = plan(folder.path(), &store.url());
    let server = write.start();
    let mut lines = String::new();
    for i in 0..3_000 {
        // Times go up, and every tenth is late by an hour.
        let (hour, minute, second) = (if i % 10 == 0 { 6 } else { 7 }, i / 60 % 60, i % 60);
        let mut event = json!({
            "channel": "orders", "type": format!("t{}", i % 3), "key": format!("k{}", i % 7),
            "time": format!("2026-01-01T{hour:02}:{minute:02}:{second:02}.{i:06}Z"),
            "data": {"n": i, "pad": "x".repeat(i % 500)},
        });
        if i % 4 == 0 {
            event["id"] = json!(format!("id-{i}"));
        }
        lines += &line(&event);
    }
    publish(&server, "/v1/events?ack=durable", "application/x-ndjson", lines);
    let odd = [
        json!({"channel": "odd", "time": "0001-01-01T00:00:00Z", "data": null, "class": "critical"}),
        json!({"channel": "odd", "time": "0000-01-01T00:00:00Z", "data": 1}),
        json!({"channel": "odd", "time": "9999-12-31T23:59:59.999999Z", "data": "", "source": "s\"\\'"}),
        json!({"channel": "odd", "time": "1969-12-31T23:59:59.999999Z", "data": "grün \u{1F600} \u{0} \u{7f}\r\n"}),
        json!({"channel": "odd", "time": "1899-12-31T23:59:59Z", "data": "t", "content_type": "text/plain"}),
        json!({"channel": "odd", "time": "2300-01-01T00:00:00Z", "data_base64": "AP8KCQ==", "class": "sheddable"}),
        json!({"channel": "odd", "type": "t\\N'`", "key": "{x:String}", "data": {"big": "y".repeat(600_000)}}),
        json!({"channel": "odd", "id": "a'b\\", "data": [1.0, 1e3]}),
        json!({"channel": "odd", "data": "z".repeat(300_000), "content_type": "text/plain; charset=utf-8"}),
        json!({"channel": "odd", "data": "after"}),
    ];
    let odd: String = odd.iter().map(line).collect();
    publish(&server, "/v1/events?ack=durable", "application/x-ndjson", odd);
    publish(&server, "/v1/channels/odd/events?ack=durable", "image/png", [0_u8, 255, 10, 9, 39]);
    publish(&server, "/v1/channels/odd/events?ack=durable", "text/plain", "grün\u{0}\t\\N");
    let event = concat!(
        r#"{"specversion":"1.0","id":"ce","source":"/s","type":"t","shardcastx":"é","more":true,"#,
        r#""traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01","data":{"a":1}}"#
    );
    publish(&server, "/v1/channels/odd/events?ack=durable", "application/cloudevents+json", event);
    settle(server);
    // A later run of the same channel: killed, so that the lineage changes too.
    let server = write.start();
    publish(&server, "/v1/channels/orders/events?ack=stored", "text/plain", "second run");
    server.kill();
    let server = write.start();
    publish(&server, "/v1/channels/orders/events?ack=stored", "text/plain", "third run");
    settle(server);
    let history = |rest: &str| format!("/v1/history?channel={rest}");
    let paths = [
        history("orders"),
        history("orders&limit=1"),
        history("orders&limit=100000"),
        history("orders&limit=999"),
        history("orders&limit=1000"),
        history("orders&limit=1001"),
        history("orders&limit=3002"),
        history("orders&from=17&to=17"),
        history("orders&from=1000&to=2500&limit=100000"),
        history("orders&from=2990"),
        history("orders&to=3"),
        history("orders&from=5000"),
        history("orders&from=0&to=18446744073709551615&limit=5"),
        history("orders&from=18446744073709551615&to=18446744073709551615"),
        history("orders&from=200&to=100"),
        history("orders&from=2026-01-01T06:00:00Z&to=2026-01-01T06:59:59.999999Z&limit=100000"),
        history("orders&from=2026-01-01T07:10:00Z&to=2026-01-01T07:20:00Z&limit=100000"),
        history("orders&from=2026-01-01T07:10:00Z&limit=100000"),
        history("orders&to=2026-01-01T07:10:00Z&limit=100000"),
        history("orders&from=100&to=2026-01-01T07:10:00Z&limit=100000"),
        history("orders&from=2026-01-01T07:10:00Z&to=2000&limit=77"),
        history("odd"),
        history("odd&limit=7"),
        history("odd&from=7&to=9"),
        history(&format!("odd&{ALL}")),
        history("odd&from=0001-01-01T00:00:00Z&to=0001-01-01T00:00:00Z"),
        history("odd&from=9999-12-31T23:59:59.999999Z&to=9999-12-31T23:59:59.999999Z"),
        history("odd&from=1800-01-01T00:00:00Z&to=1970-01-01T00:00:00Z"),
        history("none"),
        history("order"),
    ];
    let answers = compare(folder.path(), &store, &paths);
    let events = |at: usize| -> usize {
        let (_, body) = answers[at].split_once(' ').expect("a status");
        let body: Value = serde_json::from_str(body).expect("JSON");
        body["events"].as_array().map_or(0, Vec::len)
    };
    assert_eq!((events(2), events(8), events(15)), (3_002, 1_501, 300));
    assert_eq!((events(21), events(24)), (13, 13));
}

/// The spool forgets a channel only when it has been idle for long, so its next life is put into
/// the table as the sink would.
#[test]
fn a_channel_that_came_back_goes_on_behind_what_it_was() {
    let store = ClickHouse::start();
    let folder = tempfile::tempdir().expect("a folder");
    let server = remote(folder.path(), &store.url()).start();
    let lines: String = (0..1_300).map(|i| line(&json!({"channel": "a", "data": i}))).collect();
    publish(&server, "/v1/events?ack=stored", "application/x-ndjson", lines);
    let again = "INSERT INTO shardcast.events SELECT * REPLACE (epoch + 1 AS epoch, \
                 ts - INTERVAL 1 DAY AS ts) FROM shardcast.events WHERE offset <= 900";
    store.query(again).expect("another life");
    // Half of the new life is under another lineage, lower than the first.
    let killed = "INSERT INTO shardcast.events SELECT * REPLACE (bitAnd(epoch, 4294967295) + 1 AS \
                  epoch, offset + 900 AS offset) FROM (SELECT * FROM shardcast.events WHERE \
                  offset <= 400 AND epoch = (SELECT min(epoch) FROM shardcast.events))";
    store.query(killed).expect("a third run");
    let all = server.get("/v1/history?channel=a&limit=100000").json();
    let events = all["events"].as_array().expect("events");
    let place = |event: &Value| {
        let epoch = u64::from_str_radix(event["epoch"].as_str().expect("text"), 16).expect("hex");
        (epoch as u32, event["offset"].as_u64().expect("a number"))
    };
    let places: Vec<_> = events.iter().map(place).collect();
    let first = places[0].0;
    let expected = (1..=1_300).map(|offset| (first, offset));
    let expected = expected.chain((1..=1_300).map(|offset| (first + 1, offset)));
    assert!(places.iter().copied().eq(expected), "{} events", places.len());
    let last = &events[2_599];
    let position = format!("{}:{}", last["epoch"].as_str().expect("text"), last["offset"]);
    assert_eq!(all["position"], position);
    let both = server.get("/v1/history?channel=a&from=899&to=901").json();
    assert_eq!(both["events"].as_array().map(Vec::len), Some(6), "offsets match in both lives");
    let old = server.get("/v1/history?channel=a&from=1300").json();
    assert_eq!(old["position"], position);
    settle(server);
}

#[test]
fn counts_are_byte_for_byte_the_same() {
    let store = ClickHouse::start();
    let folder = tempfile::tempdir().expect("a folder");
    let server = plan(folder.path(), &store.url()).start();
    let mut lines = String::new();
    for i in 0..5_000_u64 {
        let second = i * 7 % 3_600;
        let (minute, second) = (second / 60, second % 60);
        lines += &line(&json!({
            "channel": "c", "type": if i % 11 == 0 { String::new() } else { format!("t{}", i % 5) },
            "time": format!("2026-01-01T07:{minute:02}:{second:02}.{i:06}Z"), "data": i,
        }));
        // More types than are named, the late ones first in time.
        lines += &line(&json!({
            "channel": "many", "type": format!("type {} \"\\'", i % 1_500), "data": i,
            "time": format!("2026-01-01T07:{:02}:00Z", 59 - i / 100),
        }));
    }
    let times = ["0000-01-01T00:00:00Z", "0001-01-01T00:00:01Z", "1969-12-31T23:59:59.5Z"];
    for (i, time) in
        times.iter().chain(&["9999-12-31T23:59:59Z", "2299-12-31T23:59:59Z"]).enumerate()
    {
        lines += &line(
            &json!({"channel": "odd", "type": "x'\\", "id": i.to_string(), "time": time, "data": 1}),
        );
    }
    publish(&server, "/v1/events?ack=durable", "application/x-ndjson", lines);
    settle(server);
    let counts = |channel: &str, rest: &str| format!("/v1/channels/{channel}/counts?{rest}");
    let hour = "from=2026-01-01T07:00:00Z&to=2026-01-01T07:59:59.999999Z";
    let mut paths = Vec::new();
    for bucket in [1, 7, 60, 3_600, 86_400] {
        paths.push(counts("c", &format!("{hour}&bucket={bucket}")));
        paths.push(counts("many", &format!("{hour}&bucket={bucket}")));
        paths.push(counts("c", &format!("{hour}&bucket={bucket}&type=t1")));
        paths.push(counts("c", &format!("{hour}&bucket={bucket}&type=")));
    }
    paths.push(counts(
        "c",
        "from=2026-01-01T07:00:00.000007Z&to=2026-01-01T07:00:00.000007Z&bucket=1",
    ));
    paths.push(counts("c", "from=2026-01-01T07:59:03Z&to=2026-01-01T08:00:00Z"));
    paths.push(counts("many", &format!("{hour}&type=type%201499%20%22%5C%27")));
    paths.push(counts("none", hour));
    let whole = |from: &str, to: &str| counts("odd", &format!("from={from}&to={to}&bucket=86400"));
    paths.push(whole("0000-01-01T00:00:00Z", "0005-01-01T00:00:00Z"));
    paths.push(whole("1969-12-01T00:00:00Z", "1970-01-05T00:00:00Z"));
    paths.push(whole("2299-01-01T00:00:00Z", "2300-01-01T00:00:00Z"));
    paths.push(whole("9999-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"));
    paths.push(counts(
        "odd",
        "from=1969-12-31T23:59:00Z&to=1970-01-01T00:00:00Z&bucket=7&type=x%27%5C",
    ));
    let answers = compare(folder.path(), &store, &paths);
    assert!(answers[1].contains("other_types"), "{}", &answers[1][..300]);
    assert!(answers.iter().all(|answer| answer.starts_with("200 ")));
}

#[test]
fn tops_are_byte_for_byte_the_same() {
    let store = ClickHouse::start();
    let folder = tempfile::tempdir().expect("a folder");
    let server = plan(folder.path(), &store.url()).start();
    let mut payloads: Vec<String> = [
        "1.0",
        "1",
        "1e0",
        "1e3",
        "1000",
        "-0",
        "0",
        "-0.0",
        "0e5",
        "18446744073709551615",
        "18446744073709551616",
        "-9223372036854775808",
        "-9223372036854775809",
        "0.1",
        "1e-1",
        "0.30000000000000004",
        "1e999",
        "-1e999",
        "5e-324",
        "1e-999",
        "1.7976931348623157e308",
        "123456789012345678901234567890",
        "12345678901234567890",
        "12345678901234567890.0",
        "9007199254740993",
        "9007199254740993.0",
        "1e18",
        "1.5e18",
        "1e19",
        "1e20",
        "1e21",
        "1E+21",
        "2.5e-5",
        "0.000001",
        "0.0000001",
        "-1.25e-7",
        "123456.789e3",
        "4.35",
        "1.50",
        "true",
        "false",
        "null",
        "[1]",
        "[]",
        "{}",
        "{\"b\":1}",
        "{\"0\":\"zero\"}",
        "[\"x\",{\"b\":2}]",
        "\"\"",
        "\"x\"",
        "\"1\"",
        "\"true\"",
        "\"null\"",
        "\"?\"",
        r#""\u00e9""#,
        "\"é\"",
        r#""\ud800""#,
        r#""\udc00x""#,
        r#""\ud83d\ude00""#,
        "\"😀\"",
        r#""a\u0000b""#,
        r#""\/ \" \\ \b\f\n\r\t""#,
        "\"\u{7f}\u{80}\"",
        r#""it's {x:String} `""#,
        r#""\\N""#,
        "{\"b\":{\"c\":\"deep\"}}",
        "{\"b\":\"first\",\"b\":\"second\"}",
        "{\"b\":{\"c\":1},\"b\":2}",
    ]
    .iter()
    .map(|value| format!("{{\"a\":{value},\"z\":\"same\"}}"))
    .collect();
    for length in [1_022, 1_023, 1_024, 1_025, 5_000] {
        payloads.push(format!("{{\"a\":\"{}\"}}", "x".repeat(length)));
        payloads.push(format!("{{\"a\":\"{}\"}}", r"\u0001".repeat(length)));
        payloads.push(format!("{{\"a\":\"{}\"}}", "\\\"".repeat(length)));
    }
    let deep = |depth: usize| {
        format!("{{\"deep\":{}1{},\"a\":\"beside\"}}", "[".repeat(depth), "]".repeat(depth))
    };
    payloads.extend([deep(60), deep(120)]);
    payloads.extend(
        [
            r#"{"a":1,"a":2}"#, r#"{"a":null,"a":2}"#, r#"{"\u0061":"escaped name"}"#,
            r#"{"caf\u00e9":"é"}"#, r#"{"0":"number name","a":{"0":"inner","1":{"2":"innermost"}}}"#,
            r#"{"a b":1,"it's":2,"\\":3,"\"":4,"{x:String}":5,"`":6,"\t":7,"\u0000":8,"":9,"-1":10}"#,
            r#"["a"]"#, "\"a\"", "17", "null", " { \"a\" : \"space\" } ", r#"{"b":"\ud800","a":"kept"}"#,
            r#"{"b":1e999,"a":"kept"}"#, r#"{"\ud800":1,"a":"kept"}"#, "{\"A\":1}", "{}",
        ]
        .map(str::to_owned),
    );
    publish(&server, "/v1/events?ack=durable", "application/x-ndjson", raw_lines("top", &payloads));
    let mut lines = String::new();
    for i in 0..2_000_u64 {
        lines += &line(&json!({
            "channel": "top", "type": format!("t{}", i % 1_100), "source": if i % 3 == 0 { "" } else { "s'" },
            "key": format!("k\\{}", i * i % 97), "id": format!("i{i}"), "time": "2026-03-04T06:00:00Z",
            "data": {"a": i as f64 / 8.0, "item": {"sku": format!("sku-{}", i % 13)}},
        }));
    }
    publish(&server, "/v1/events?ack=durable", "application/x-ndjson", lines);
    for kind in ["text/plain", "image/png"] {
        publish(&server, "/v1/channels/top/events?ack=durable", kind, "{\"a\":1}");
    }
    settle(server);
    let names = [
        "type",
        "source",
        "key",
        "id",
        "data.a",
        "data.z",
        "data.a.b",
        "data.a.b.c",
        "data.0",
        "data.a.0",
        "data.a.1.2",
        "data.a.-1",
        "data.-1",
        "data.café",
        "data.a b",
        "data.it's",
        "data.\\",
        "data.\"",
        "data.\t",
        "data.{x:String}",
        "data.`",
        "data.item.sku",
        "data.A",
        "data.none",
        "data.deep",
        "data.\n",
        "data.\u{0}",
        "data.'; DROP TABLE events; --",
        "data.\\'); SELECT 1 --",
        "data.{p0:String}",
        "data.\\N",
        "data.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a",
        "data.😀",
        "data.%",
        "data.?",
        "data.\r",
        "data.\u{1}",
    ];
    let mut paths = Vec::new();
    for name in names {
        for limit in [1, 5, 1_000] {
            let name = encoded(name);
            paths.push(format!("/v1/channels/top/top?field={name}&limit={limit}&{ALL}"));
        }
        let name = encoded(name);
        let first = "from=2026-03-04T05:00:00Z&to=2026-03-04T05:59:59Z";
        paths.push(format!("/v1/channels/top/top?field={name}&{first}&limit=1000"));
    }
    let answers = compare(folder.path(), &store, &paths);
    assert!(answers.iter().all(|answer| answer.starts_with("200 ")), "{answers:?}");
    let at = |name: &str, limit: u32| {
        let path = format!("/v1/channels/top/top?field={}&limit={limit}&{ALL}", encoded(name));
        let at = paths.iter().position(|p| *p == path).expect("asked");
        answers[at].clone()
    };
    assert!(at("data.0", 5).contains(r#"{"value":"number name","count":1}"#));
    assert!(
        at("data.a.0", 5).contains(r#"[{"value":"inner","count":1},{"value":"zero","count":1}]"#)
    );
    assert!(at("data.a", 1_000).contains(r#"{"value":"kept","count":3}"#));
}

/// Names that would be statements if they ever were part of one.
#[test]
fn no_name_is_ever_read_as_sql() {
    let store = ClickHouse::start();
    let folder = tempfile::tempdir().expect("a folder");
    let server = plan(folder.path(), &store.url()).start();
    let hostile = [
        "'",
        "''",
        "\\",
        "\\'",
        "' OR 1=1 --",
        "'; DROP TABLE shardcast.events; --",
        "`",
        "\"",
        "{x:String}",
        "{channel:String}",
        "\\N",
        "é",
        "😀",
        "a\\",
        "%27",
        "?",
        "??",
        "$1",
        ";",
        "/**/",
        "--",
        "\\x27",
    ];
    let mut lines = String::new();
    let mut channels = Vec::new();
    for (i, name) in hostile.iter().enumerate() {
        let channel = format!("c{name}");
        let event = json!({
            "channel": channel, "type": name, "key": name, "id": format!("{i}{name}"),
            "time": "2026-01-01T00:00:00Z", "data": {*name: name},
        });
        if proto::channel::validate(channel.as_bytes()).is_ok() {
            lines += &line(&event);
            channels.push((channel, *name));
        }
        let mut event = event;
        event["channel"] = json!("plain");
        lines += &line(&event);
    }
    publish(&server, "/v1/events?ack=durable", "application/x-ndjson", lines);
    settle(server);
    let mut paths = Vec::new();
    for (channel, _) in &channels {
        let channel = encoded(channel);
        paths.push(format!("/v1/history?channel={channel}"));
        paths.push(
            format!("/v1/channels/{channel}/counts?{ALL}&bucket=86400")
                .replace("0000-", "2025-")
                .replace("9999-", "2026-"),
        );
        paths.push(format!("/v1/channels/{channel}/top?field=type&{ALL}"));
    }
    for name in hostile {
        let name = encoded(name);
        let year = "from=2026-01-01T00:00:00Z&to=2026-12-31T00:00:00Z&bucket=86400";
        paths.push(format!("/v1/channels/plain/counts?{year}&type={name}"));
        paths.push(format!("/v1/channels/plain/top?field=data.{name}&{ALL}"));
    }
    let answers = compare(folder.path(), &store, &paths);
    let found = answers.iter().filter(|answer| answer.starts_with("200 "));
    assert_eq!(found.count(), answers.len(), "{answers:#?}");
    let rows = store.query("SELECT count() FROM shardcast.events").expect("it is still there");
    assert_eq!(rows.trim_end(), (channels.len() + hostile.len()).to_string());
}
