//! API keys: who publishes what, how fast; and the admin listener's token.

use super::*;
use crate::rig::{http::get_from, until};

fn services_publish_with_a_key_and_only_where_it_permits(cell: Cell) {
    let site = guarded(cell, |config| {
        config.api_keys = vec![
            service("orders", "key-of-orders", &["orders:*", "named:*"], &[Right::Publish]),
            service("reader", "key-of-reader", &["*"], &[Right::Subscribe, Right::History]),
        ];
    });
    let key = bearer("key-of-orders");
    for fields in [
        key.clone(),
        "X-API-Key: key-of-orders\r\n".to_owned(),
        "Authorization: apikey key-of-orders\r\n".to_owned(),
    ] {
        let taken = publish(&site, "orders:eu", &fields);
        assert_eq!(taken.status, 202, "{fields}: {taken:?}");
        assert_eq!(publish(&site, "named:x", &fields).status, 202);
        let refused = publish(&site, "other", &fields);
        assert_eq!((refused.status, refused.code()), (403, "forbidden".to_owned()));
        assert!(refused.text().contains("`channels`"), "{refused:?}");
    }
    let refused = publish(&site, "orders:eu", "");
    assert_eq!((refused.status, refused.code()), (401, "unauthenticated".to_owned()));
    assert!(refused.header("www-authenticate").starts_with("Bearer"));
    let reader = bearer("key-of-reader");
    let refused = publish(&site, "orders:eu", &reader);
    assert_eq!(refused.status, 403);
    assert!(refused.json()["error"]["message"].as_str().expect("words").contains("`allow` lacks"));
    let last = ask(&site, "GET", "/v1/channels/orders:eu/last", &reader, "");
    assert_eq!((last.status, last.json()["data"].clone()), (200, json!("hello")));
    assert_eq!(ask(&site, "GET", "/v1/channels/orders:eu/last", &key, "").status, 403);
    assert_eq!(sse_head(&site, "channel=orders:eu", &reader).status, 200);
    // A body with several channels: each event by itself.
    let body = "{\"channel\":\"orders:a\",\"data\":1}\n{\"channel\":\"b\",\"data\":2}\n";
    let ndjson = |fields: &str| {
        let fields = format!("{fields}Content-Type: application/x-ndjson\r\n");
        site.wire().request("POST", "/v1/events", &fields, body.as_bytes())
    };
    let mixed = ndjson(&key).json();
    assert_eq!((&mixed["accepted"], &mixed["rejected"]), (&json!(1), &json!(1)), "{mixed}");
    assert_eq!(mixed["rejections"][0]["code"], json!("forbidden"));
    // Some namespace is open, so each event is looked at.
    assert_eq!(ndjson("").status, 403);
    // A client publishes where its token lets it, over HTTP as over WebSocket.
    let caps = json!([{"channels": ["named:c"], "allow": ["pub", "sub"]}]);
    let ann = bearer(&token(&json!({"sub": "ann", "caps": caps})));
    assert_eq!(publish(&site, "named:c", &ann).status, 202);
    assert_eq!(publish(&site, "named:d", &ann).status, 403);
    assert_eq!(publish(&site, "users:d", &ann).status, 202);
    assert_eq!(publish(&site, "open:d", "").status, 202);
    assert_eq!(publish(&site, "shut:d", &ann).status, 403);
}

fn a_rate_stops_a_service_with_429_and_says_when_to_come_back(cell: Cell) {
    let site = guarded(cell, |config| {
        let mut slow = service("slow", "key-of-slow", &["*"], &[Right::Publish]);
        (slow.events_per_s, slow.burst_s) = (10, 2);
        let mut small = service("small", "key-of-small", &["*"], &[Right::Publish]);
        (small.bytes_per_s, small.burst_s) = (1_000, 60);
        config.api_keys = vec![slow, small];
    });
    let body: String = (0..100).map(|n| format!("{{\"data\":{n}}}\n")).collect();
    let fields = format!("{}Content-Type: application/x-ndjson\r\n", bearer("key-of-slow"));
    let answer = site.wire().request("POST", "/v1/channels/r/events", &fields, body.as_bytes());
    assert_eq!(answer.status, 202, "{answer:?}");
    let said = answer.json();
    let taken = said["accepted"].as_u64().expect("a number");
    assert!((20..100).contains(&taken), "{said}");
    assert_eq!((&said["stopped_at"], &said["rejected"]), (&json!(taken), &json!(1)));
    assert_eq!(said["rejected_by_code"], json!({"rate_limited": 1}));
    // What was taken is what is there, in order and without holes.
    let answer = ask(&site, "GET", "/v1/channels/r/events", &user("ann"), "");
    assert_eq!(answer.json()["events"].as_array().map(Vec::len), Some(taken as usize));
    // One that fits the burst passes whatever its size; the next has to wait for about a minute.
    let big = "x".repeat(100_000);
    let small = bearer("key-of-small");
    assert_eq!(ask(&site, "POST", "/v1/channels/r/events", &small, &big).status, 202);
    let refused = publish(&site, "r", &small);
    assert_eq!(refused.status, 429, "{refused:?}");
    let wait_s: u64 = refused.header("retry-after").parse().expect("seconds");
    assert!((10..=60).contains(&wait_s), "{wait_s}");
    until("the counter", || site.metric("shardcast_auth_refusals_total{reason=\"rate\"}") >= 2.0);
}

fn the_admin_listener_opens_to_its_token_and_to_admin_keys(cell: Cell) {
    let admin_token = "admin-token-0123456789abcdef-0123456789";
    let site = guarded(cell, |config| {
        config.admin_token = Secret::new(admin_token);
        let admin = service("root", "key-of-root", &[], &[]);
        config.api_keys = vec![
            ApiKeyConfig { admin: true, ..admin },
            service("plain", "key-of-plain", &["*"], &[Right::Publish]),
        ];
    });
    let get = |path: &str, fields: &str| {
        let fields = format!("{fields}Connection: close\r\n");
        Wire::connect(site.admin()).request("GET", path, &fields, b"").status
    };
    for path in ["/", "/metrics", "/debug/connections", "/admin/storage", "/health/storage", "/x"] {
        assert_eq!(get(path, ""), 401, "{path}");
        assert_eq!(get(path, &bearer("key-of-plain")), 401, "{path}");
        assert_eq!(get(path, &user("ann")), 401, "{path}");
        assert_eq!(get(path, &bearer(&admin_token[1..])), 401, "{path}");
        for opens in [admin_token, "key-of-root"] {
            assert!(matches!(get(path, &bearer(opens)), 200 | 404), "{path} {opens}");
        }
    }
    let drain = Wire::connect(site.admin()).request("POST", "/admin/drain", "", b"");
    assert_eq!(drain.status, 401);
    assert_eq!(get_from(site.admin(), "/health/live").status, 200);
    assert_eq!(get_from(site.admin(), "/health/ready").status, 200);
}

fn an_admin_key_closes_only_a_listener_that_others_reach(cell: Cell) {
    for (listen, status) in [("127.0.0.1:0", 200), ("0.0.0.0:0", 401)] {
        let site = guarded(cell, |config| {
            let admin = service("root", "key-of-root", &[], &[]);
            config.api_keys = vec![ApiKeyConfig { admin: true, ..admin }];
            config.admin_listen = listen.parse().expect("an address");
        });
        let get = |fields: &str| {
            let fields = format!("{fields}Connection: close\r\n");
            Wire::connect(site.admin()).request("GET", "/metrics", &fields, b"").status
        };
        assert_eq!(get(""), status, "{listen}");
        assert_eq!(get(&bearer("key-of-root")), 200, "{listen}");
    }
}

fn a_browser_may_send_its_token_across_origins_that_are_listed(cell: Cell) {
    let site = guarded(cell, |config| {
        config.allowed_origins = vec!["https://*.example.com".to_owned()];
    });
    let preflight = |origin: &str| {
        let fields = format!(
            "Origin: {origin}\r\nAccess-Control-Request-Method: GET\r\n\
             Access-Control-Request-Headers: authorization\r\n"
        );
        site.wire().request("OPTIONS", "/v1/sse?channel=users:c", &fields, b"")
    };
    let answer = preflight("https://app.example.com");
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("access-control-allow-origin"), "https://app.example.com");
    assert!(answer.header("access-control-allow-headers").contains("authorization"));
    assert_eq!(answer.header("access-control-allow-credentials"), "");
    assert_eq!(answer.header("vary"), "Origin");
    for origin in ["https://example.com", "https://app.example.com.evil.io", "null"] {
        assert_eq!(preflight(origin).status, 403, "{origin}");
    }
    let of_a_file = preflight("null").text();
    assert!(of_a_file.contains("http.server") && !of_a_file.contains("allowed_origins"));
    let fields = format!("Origin: https://app.example.com\r\n{}", user("ann"));
    let head = sse_head(&site, "channel=users:c", &fields);
    assert_eq!(head.status, 200);
    assert_eq!(head.header("access-control-allow-origin"), "https://app.example.com");
    // A refusal can be read by the page, too.
    let refused = sse_head(&site, "channel=users:c", "Origin: https://app.example.com\r\n");
    assert_eq!(refused.status, 401);
    assert_eq!(refused.header("access-control-allow-origin"), "https://app.example.com");
    let (head, _) = shake(&site, "/v1/channels/open:c/ws", "Origin: https://evil.io\r\n");
    assert_eq!(head.status, 403);
    // Who has to show a token may ask under any name, as behind a proxy.
    let request = "GET /v1/channels/open:c/events HTTP/1.1\r\nHost: shard.example.com\r\n\r\n";
    let mut wire = site.wire();
    wire.send(request);
    assert_eq!(wire.answer().status, 200);
}

fn the_server_api_opens_to_keys_and_what_is_everybodys_to_admin_keys(cell: Cell) {
    let site = guarded(cell, |config| {
        let both = [Right::Publish, Right::History];
        let root = service("root", "key-of-root", &["*"], &both);
        config.api_keys = vec![
            service("orders", "key-of-orders", &["orders:*"], &both),
            service("writer", "key-of-writer", &["*"], &[Right::Publish]),
            ApiKeyConfig { admin: true, ..root },
        ];
    });
    let call = |method: &str, fields: &str, body: &Value| {
        let fields = format!("{fields}Content-Type: application/json\r\n");
        let path = format!("/api/{method}");
        site.wire().request("POST", &path, &fields, body.to_string().as_bytes())
    };
    let code = |answer: &Answer| answer.json()["error"]["code"].clone();
    let ours = json!({"channel": "orders:eu", "data": 1});
    let other = json!({"channel": "other", "data": 1});
    assert_eq!(call("publish", "", &ours).status, 401);
    assert_eq!(call("publish", &user("ann"), &ours).status, 403);
    assert_eq!(call("info", "X-API-Key: nobodys\r\n", &json!({})).status, 401);
    let (key, root) = ("X-API-Key: key-of-orders\r\n", "X-API-Key: key-of-root\r\n");
    assert!(call("publish", key, &ours).json()["result"].is_object());
    assert_eq!(code(&call("publish", key, &other)), json!(103));
    let history = |channel: &str| json!({"channel": channel, "limit": 10});
    assert!(call("history", key, &history("orders:eu")).json()["result"].is_object());
    assert_eq!(code(&call("history", key, &history("other"))), json!(103));
    let refused = call("history", "X-API-Key: key-of-writer\r\n", &history("orders:eu"));
    assert_eq!(code(&refused), json!(103));
    let said = refused.json()["error"]["message"].clone();
    assert_eq!(
        said,
        json!("this API key does not permit reading history: its `allow` lacks \"history\"")
    );
    let batch = json!({"commands": [{"publish": ours}, {"publish": other}, {"channels": {}}]});
    let replies = call("batch", key, &batch).json()["replies"].clone();
    assert!(replies[0]["publish"].is_object(), "{replies}");
    assert_eq!(replies[1]["error"]["code"], json!(103));
    assert_eq!(replies[2]["error"]["code"], json!(103));
    for method in ["info", "channels", "disconnect"] {
        let body = if method == "disconnect" { json!({"user": "ann"}) } else { json!({}) };
        assert_eq!(code(&call(method, key, &body)), json!(103), "{method}");
        assert!(call(method, root, &body).json()["result"].is_object(), "{method}");
    }
}

cells!(
    the_server_api_opens_to_keys_and_what_is_everybodys_to_admin_keys,
    services_publish_with_a_key_and_only_where_it_permits,
    a_rate_stops_a_service_with_429_and_says_when_to_come_back,
    an_admin_key_closes_only_a_listener_that_others_reach,
    the_admin_listener_opens_to_its_token_and_to_admin_keys,
    a_browser_may_send_its_token_across_origins_that_are_listed,
);
