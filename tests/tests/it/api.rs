//! The server API, with curl over both versions of HTTP, with the Python library `cent`, and with
//! bytes of our own. What it publishes reaches the SDKs in `client`.

use crate::rig::child::{client, curl, run};
use crate::rig::ws::Socket;
use crate::rig::{Cell, Site, until};
use serde_json::{Value, json};
use server::config::Access;

fn call(site: &Site, method: &str, body: &str) -> Value {
    let answer = site.post(&format!("/api/{method}"), "application/json", body);
    assert_eq!(answer.status, 200, "{method} {body}: {}", answer.text());
    answer.json()
}

/// A connected client with a subscription to each channel; its id and its socket.
fn connect(site: &Site, channels: &[&str]) -> (String, Socket) {
    let mut socket = Socket::open(site.address(), "/connection/websocket");
    socket.send_text(r#"{"id":1,"connect":{}}"#);
    let reply: Value = serde_json::from_str(&socket.next_text()).expect("JSON");
    let id = reply["connect"]["client"].as_str().expect("an id").to_owned();
    for channel in channels {
        socket.send_text(&json!({"id": 2, "subscribe": {"channel": channel}}).to_string());
        let reply: Value = serde_json::from_str(&socket.next_text()).expect("JSON");
        assert!(reply.get("subscribe").is_some(), "{reply}");
    }
    (id, socket)
}

cells!(
    curl_calls_over_both_versions,
    cent_calls_every_method,
    clients_of_every_shard_are_counted_and_ended,
    who_is_in_a_channel_is_listed_and_counted,
    a_history_that_is_removed_is_gone_and_positions_go_on,
    a_command_that_cannot_be_carried_out_says_why,
);

fn curl_calls_over_both_versions(cell: Cell) {
    let site = Site::start(cell);
    for (version, channel) in [("--http1.1", "one"), ("--http2-prior-knowledge", "two")] {
        let post = |method: &str, body: Value| -> Value {
            let url = site.url(&format!("/api/{method}"));
            let text =
                curl(&[version, "--header", "X-API-Key: any", "--json", &body.to_string(), &url]);
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text:?}"))
        };
        let publish = json!({"channel": channel, "data": {"n": 1}, "tags": {"a": "b"}});
        let first = post("publish", publish.clone());
        let epoch = first["result"]["epoch"].as_str().expect("an epoch");
        assert_eq!(first, json!({"result": {"offset": 1, "epoch": epoch}}));
        let batch = post(
            "batch",
            json!({"commands": [
                {"publish": publish},
                {"history": {"channel": channel, "limit": 10}},
                {"publish": {"channel": "", "data": 1}},
                {"presence": {"channel": channel}},
                {"broadcast": {"channels": [channel], "data": "x"}},
            ]}),
        );
        let replies = batch["replies"].as_array().expect("replies");
        assert_eq!(replies[0], json!({"publish": {"offset": 2, "epoch": epoch}}));
        let one = |offset: u64| json!({"data": {"n": 1}, "offset": offset, "tags": {"a": "b"}});
        let history = json!({"publications": [one(1), one(2)], "offset": 2, "epoch": epoch});
        assert_eq!(replies[1], json!({ "history": history }));
        assert_eq!(replies[2]["error"]["code"], 107);
        assert_eq!(replies[3]["error"]["code"], 108);
        let response = json!({"responses": [{"result": {"offset": 3, "epoch": epoch}}]});
        assert_eq!(replies[4], json!({ "broadcast": response }));
        assert_eq!(replies.len(), 5);
        assert_eq!(post("batch", json!({"commands": []})), json!({"replies": []}));
        let info = post("info", json!({}));
        assert_eq!(info["result"]["nodes"][0]["name"], "test", "{info}");
    }
}

fn cent_calls_every_method(cell: Cell) {
    let site = Site::with(cell, |config| {
        let mut closed = config.namespaces["default"].clone();
        closed.publish = false;
        config.namespaces.insert("closed".into(), closed.clone());
        (closed.publish, closed.presence) = (true, Access::Token);
        config.namespaces.insert("room".into(), closed);
    });
    run(client("cent_api.py").arg(site.url("/api")));
}

fn clients_of_every_shard_are_counted_and_ended(cell: Cell) {
    let site = Site::start(cell);
    let mut clients: Vec<(String, Socket)> =
        (0..16).map(|_| connect(&site, &["news", "news:b", "other"])).collect();
    let plain = Socket::open(site.address(), "/v1/channels/news/ws");
    site.wait_for_subscriptions(49);
    let counts = call(&site, "channels", r#"{"pattern":"news*"}"#);
    let expected = json!({"news": {"num_clients": 17}, "news:b": {"num_clients": 16}});
    assert_eq!(counts, json!({"result": {"channels": expected}}));
    let all = call(&site, "channels", "{}");
    assert_eq!(all["result"]["channels"]["other"]["num_clients"], 16, "{all}");
    let node = |site: &Site| call(site, "info", "")["result"]["nodes"][0].clone();
    let (clients_of, channels_of) = (node(&site)["num_clients"].clone(), node(&site));
    assert_eq!((clients_of, &channels_of["num_channels"]), (json!(17), &json!(3)));
    assert_eq!(channels_of["num_subs"], 49);

    // One subscription of one client.
    let (id, socket) = &mut clients[3];
    let body = json!({"client": id, "channel": "news"});
    assert_eq!(call(&site, "unsubscribe", &body.to_string()), json!({"result": {}}));
    let push: Value = serde_json::from_str(&socket.next_text()).expect("JSON");
    let unsubscribe = json!({"code": 2000, "reason": "server unsubscribe"});
    assert_eq!(push, json!({"push": {"channel": "news", "unsubscribe": unsubscribe}}));
    let publish = |channel: &str| json!({"channel": channel, "data": 1}).to_string();
    call(&site, "publish", &publish("news"));
    call(&site, "publish", &publish("other"));
    let push: Value = serde_json::from_str(&socket.next_text()).expect("JSON");
    assert_eq!(push["push"]["channel"], "other", "it was not sent what it left");

    // Each client by itself, in the middle and at both ends.
    for (at, how, code, reason) in [
        (15, json!({}), 3503, "force disconnect"),
        (7, json!({"code": 4200, "reason": "see you"}), 4200, "see you"),
        (0, json!({"code": 3005}), 3005, "connection expired"),
    ] {
        let (id, mut socket) = clients.remove(at);
        let body = json!({"user": "", "client": id, "disconnect": how});
        assert_eq!(call(&site, "disconnect", &body.to_string()), json!({"result": {}}));
        let closed = loop {
            let frame = socket.next();
            if frame.opcode == 8 {
                break frame.close();
            }
        };
        assert_eq!(closed, (code, reason.to_owned()));
    }
    until("thirteen to be left", || node(&site)["num_clients"] == json!(14));
    drop((clients, plain));
    until("nobody to be left", || node(&site)["num_clients"] == json!(0));
    until("no channel to be left", || node(&site)["num_channels"] == json!(0));
}

fn who_is_in_a_channel_is_listed_and_counted(cell: Cell) {
    let site = Site::with(cell, |config| {
        let mut room = config.namespaces["default"].clone();
        room.presence = Access::Token;
        config.namespaces.insert("room".into(), room);
    });
    let ask = |method: &str| call(&site, method, r#"{"channel":"room:a"}"#)["result"].clone();
    assert_eq!(ask("presence"), json!({"presence": {}}));
    assert_eq!(ask("presence_stats"), json!({"num_clients": 0, "num_users": 0}));
    let clients: Vec<(String, Socket)> = (0..5).map(|_| connect(&site, &["room:a"])).collect();
    until("all to be counted", || ask("presence_stats")["num_clients"] == json!(5));
    assert_eq!(ask("presence_stats")["num_users"], json!(1));
    let listed = ask("presence");
    let listed = listed["presence"].as_object().expect("a map");
    assert_eq!(listed.len(), 5);
    for (id, _) in &clients {
        assert_eq!(listed[id], json!({"client": id, "user": ""}));
    }
    drop(clients);
    until("nobody to be listed", || ask("presence") == json!({"presence": {}}));
}

fn a_history_that_is_removed_is_gone_and_positions_go_on(cell: Cell) {
    let site = Site::start(cell);
    let publish = |n: u64| {
        let answer = call(&site, "publish", &json!({"channel": "a", "data": n}).to_string());
        answer["result"]["offset"].as_u64().expect("an offset")
    };
    assert_eq!((1..=3).map(publish).collect::<Vec<_>>(), [1, 2, 3]);
    let (_, mut live) = connect(&site, &["a"]);
    let history = || call(&site, "history", r#"{"channel":"a","limit":10}"#)["result"].clone();
    let before = history();
    assert_eq!(before["publications"].as_array().map(Vec::len), Some(3));
    assert_eq!(call(&site, "history_remove", r#"{"channel":"a"}"#), json!({"result": {}}));
    let after = history();
    assert_eq!(after["publications"], json!([]));
    assert_eq!((&after["offset"], &after["epoch"]), (&json!(3), &before["epoch"]));
    assert_eq!(publish(4), 4);
    let push: Value = serde_json::from_str(&live.next_text()).expect("JSON");
    assert_eq!(push["push"]["pub"]["offset"], json!(4), "who is there misses nothing");
    assert_eq!(history()["publications"], json!([{"data": 4, "offset": 4}]));
    let since = |offset: u64| {
        let since = json!({"offset": offset, "epoch": before["epoch"]});
        let body = json!({"channel": "a", "limit": 10, "since": since}).to_string();
        call(&site, "history", &body)
    };
    assert_eq!(since(2)["error"]["code"], json!(112));
    assert_eq!(since(3)["result"]["publications"], json!([{"data": 4, "offset": 4}]));
    // Of a channel that is not there.
    assert_eq!(call(&site, "history_remove", r#"{"channel":"none"}"#), json!({"result": {}}));
}

fn a_command_that_cannot_be_carried_out_says_why(cell: Cell) {
    let site = Site::with(cell, |config| config.limits.message_bytes_max = 2_000);
    let long = json!({"channel": "a", "data": "x".repeat(3_000)}).to_string();
    let deep = format!("{{\"channel\":\"a\",\"data\":{}1{}}}", "[".repeat(500), "]".repeat(500));
    let tags = json!({"channel": "a", "data": 1, "tags": {"t": "x".repeat(20_000)}}).to_string();
    let cases: &[(&str, &str, u32, &str)] = &[
        ("publish", "", 107, "JSON object"),
        ("publish", "{", 107, "publish"),
        ("publish", "nonsense", 107, "JSON object"),
        ("publish", "[]", 107, "JSON object"),
        ("publish", "{}", 107, "channel"),
        ("publish", r#"{"channel":"a"}"#, 107, "data"),
        ("publish", r#"{"channel":"a","data":1,"dta":2}"#, 107, "dta"),
        ("publish", r#"{"channel":"a","data":1} x"#, 107, "trailing"),
        ("publish", r#"{"channel":"a b","data":1}"#, 107, "channel"),
        ("publish", r#"{"channel":"a","b64data":"?"}"#, 107, "base64"),
        ("publish", r#"{"channel":"a","data":1,"tags":{"a":1}}"#, 107, "string"),
        ("publish", r#"{"channel":"a","data":1,"idempotency_key":"a\nb"}"#, 107, "id"),
        ("publish", &tags, 107, "attributes"),
        ("publish", &deep, 107, "deep"),
        ("publish", &long, 106, "2000"),
        ("publish", r#"{"channel":"a","data":1,"skip_history":true}"#, 108, "skip_history"),
        ("broadcast", r#"{"channel":"a","data":1}"#, 107, "channels"),
        ("batch", r#"{"commands":{}}"#, 107, "batch"),
        ("batch", r#"{"commands":[{"what":{}}]}"#, 104, "what"),
        ("history", "{}", 107, "channel"),
        ("history", r#"{"channel":"a","limit":"x"}"#, 107, "column 26"),
        ("history", r#"{"channel":"a","limit":1,"since":{"epoch":"_"}}"#, 112, "since"),
        ("channels", r#"{"pattern":"[a]"}"#, 107, "pattern"),
        ("disconnect", "{}", 107, "user"),
        ("disconnect", r#"{"client":"x"}"#, 107, "UUID"),
        ("disconnect", r#"{"user":"u","disconnect":{"code":1000,"reason":"x"}}"#, 107, "3000"),
        ("disconnect", r#"{"user":"u","disconnect":{"code":3500,"reason":"30"}}"#, 107, "JSON"),
        ("disconnect", r#"{"user":"u","session":"s"}"#, 108, "session"),
        ("unsubscribe", r#"{"user":"u"}"#, 107, "channel"),
        ("presence", r#"{"channel":"a"}"#, 108, "presence"),
        ("presence_stats", r#"{"channel":"a"}"#, 108, "presence"),
        ("presence", "{}", 107, "channel"),
        ("presence_stats", r#"{"channel":"a","user":"b"}"#, 107, "user"),
        ("subscribe", "{}", 107, "channel"),
        ("subscribe", r#"{"channel":"a"}"#, 107, "user"),
        ("refresh", "{}", 108, "authentication"),
        ("history_remove", "{}", 107, "channel"),
        ("history_remove", r#"{"channel":"a b"}"#, 107, "channel"),
    ];
    for (method, body, code, word) in cases {
        let answer = call(&site, method, body);
        let error = &answer["error"];
        let message = error["message"].as_str().unwrap_or_default();
        assert_eq!(error["code"], json!(code), "{method} {body}: {answer}");
        assert!(message.contains(word), "{method} {body}: {message}");
        assert_eq!(answer.as_object().map(serde_json::Map::len), Some(1));
    }
    assert_eq!(call(&site, "history", r#"{"channel":"a"}"#)["result"]["offset"], 0);

    let wrong = |method: &str, path: &str, headers: &str, status: u16| {
        let answer = site.wire().request(method, path, headers, b"{}");
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        answer
    };
    let unknown = wrong("POST", "/api/dance", "", 404);
    assert!(unknown.text().contains("publish, broadcast"), "{}", unknown.text());
    wrong("POST", "/api/", "", 404);
    wrong("POST", "/api/publish/x", "", 404);
    assert_eq!(wrong("PUT", "/api/publish", "", 405).header("allow"), "POST");
    wrong("POST", "/api/publish", "Content-Encoding: gzip\r\n", 415);
    wrong("POST", "/api/publish", "Origin: https://evil.example\r\n", 403);
}

#[test]
fn a_body_over_its_limit_is_refused_and_broadcasts_are_bounded_by_what_they_make() {
    let site = Site::with(Cell::URING_2, |config| config.limits.body_bytes_max = 40_000);
    let long = json!({"channel": "a", "data": "x".repeat(40_000)}).to_string();
    assert_eq!(site.post("/api/publish", "application/json", &long).status, 413);
    let url = site.url("/api/publish");
    let body = site.folder().join("body");
    std::fs::write(&body, &long).expect("a file");
    let file = format!("@{}", body.display());
    let answer = curl(&["--http2-prior-knowledge", "--data-binary", &file, &url]);
    assert!(answer.contains("body_too_large"), "{answer}");
    let many: Vec<String> = (0..20).map(|n| format!("c{n}")).collect();
    let broadcast = |bytes: usize| {
        let body = json!({"channels": many, "data": "x".repeat(bytes)}).to_string();
        call(&site, "broadcast", &body)
    };
    assert_eq!(broadcast(2_000)["error"]["code"], 106);
    let taken = broadcast(1_000);
    let responses = taken["result"]["responses"].as_array().expect("responses");
    assert!(responses.len() == 20 && responses.iter().all(|r| r["result"]["offset"] == 1));
}

#[test]
fn a_batch_takes_its_commands_in_order_and_a_gone_asker_changes_nothing() {
    let site = Site::start(Cell::EPOLL_2);
    let commands: Vec<Value> = (0..500)
        .flat_map(|n| {
            let publish = json!({"publish": {"channel": "a", "data": n}});
            [publish, json!({"history": {"channel": "a", "limit": 1, "reverse": true}})]
        })
        .collect();
    let got = call(&site, "batch", &json!({ "commands": commands }).to_string());
    let replies = got["replies"].as_array().expect("replies");
    for (n, pair) in replies.chunks(2).enumerate() {
        assert_eq!(pair[0]["publish"]["offset"], json!(n + 1), "{pair:?}");
        assert_eq!(pair[1]["history"]["publications"][0]["data"], json!(n), "{pair:?}");
    }
    // Asked and gone before the answer.
    let commands: Vec<Value> =
        (0..500).map(|n| json!({"publish": {"channel": "b", "data": n}})).collect();
    let body = json!({ "commands": commands }).to_string();
    let mut wire = site.wire();
    let head = "POST /api/batch HTTP/1.1\r\nHost: localhost\r\n";
    wire.send(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()));
    drop(wire);
    until("all of it to be there", || {
        call(&site, "history", r#"{"channel":"b"}"#)["result"]["offset"] == json!(500)
    });
}
