//! Tokens that expire while what they opened is live, and what a client may publish meanwhile.

use super::*;
use crate::rig::sse::Stream;
use crate::rig::ws::Socket;
use crate::rig::{http::metric, until};

/// Opens a WebSocket with header fields.
fn socket(site: &Site, path: &str, fields: &str) -> Socket {
    let (head, wire) = shake(site, path, fields);
    assert_eq!(head.status, 101, "{head:?}");
    Socket { wire }
}

/// A token that expires soon, far enough away that connecting is done before.
fn brief(claims: Value) -> String {
    let mut claims = claims;
    claims["sub"] = json!("ann");
    claims["exp"] = json!(now_s() + 3);
    token(&claims)
}

fn a_live_connection_ends_resumably_when_its_token_expires(cell: Cell) {
    let site = guarded(cell, |config| {
        config.auth.clock_skew_s = 0;
        config.auth.token_in_url = true;
        // The timer that finds it is not the heartbeat's.
        config.limits.heartbeat_s = 3_600;
        config.limits.keep_alive_s = 3_600;
        config.limits.pong_timeout_s = 300;
        config.limits.body_idle_timeout_s = 3_600;
    });
    let long = user("ann");
    let mut stays = socket(&site, "/v1/channels/users:c/ws", &long);
    let never = json!({"sub": "ann", "exp": now_s() + 3, "expire_at": 0});
    let mut stays_too = socket(&site, "/v1/channels/users:c/ws", &bearer(&token(&never)));
    let ends = socket(&site, "/v1/channels/users:c/ws?format=envelope", &bearer(&brief(json!({}))));
    let mut sse =
        Stream::open(site.address(), &format!("channel=users:c&token={}", brief(json!({}))), "");
    // Over HTTP/2 the stream ends and the connection stays.
    let url = site.url("/v1/sse?channel=users:c");
    let field = format!("Authorization: Bearer {}", brief(json!({})));
    let arguments = ["--http2-prior-knowledge", "--no-buffer", "--header", &field, &url];
    let text = crate::rig::child::curl(&arguments);
    assert!(text.contains("event: shardcast.notice") && text.contains("expired"), "{text}");
    let (code, reason) = ends.closed();
    assert_eq!(code, 3005, "{reason}");
    assert!(reason.starts_with("expired"), "{reason}");
    let mut last = None;
    while let Some(event) = sse.next() {
        last = Some(event);
    }
    let last = last.expect("last words");
    assert_eq!(last.kind, "shardcast.notice");
    assert!(last.data.contains("expired"), "{last:?}");
    assert!(sse.retry_ms.is_some());
    // The others are still there.
    assert_eq!(publish(&site, "users:c", &long).status, 202);
    assert_eq!((stays.next_text(), stays_too.next_text()), ("hello".into(), "hello".into()));
    until("the count of closes", || {
        metric(site.admin(), "shardcast_closes_total{reason=\"expired\"}") >= 3.0
    });
}

fn a_client_publishes_over_its_socket_only_what_its_token_permits(cell: Cell) {
    let site = guarded(cell, |_| {});
    let caps = json!([{"channels": ["users:w", "named:w"], "allow": ["sub", "pub"]},
        {"channels": ["named:r"], "allow": ["sub"]}]);
    let ann = bearer(&token(&json!({"sub": "ann", "caps": caps})));
    let mut writer = socket(&site, "/v1/channels/named:w/ws", &ann);
    writer.send_text("mine");
    assert_eq!(writer.next_text(), "mine");
    let mut reader = socket(&site, "/v1/channels/named:r/ws", &ann);
    reader.send_text("not mine");
    assert_eq!(reader.closed().0, 1008);
    // One socket of several channels: each message by itself.
    let mut several = socket(&site, "/v1/ws?channel=named:w&channel=named:r", &ann);
    several.send_text(r#"{"channel":"named:w","data":"fine"}"#);
    loop {
        if several.next_text().contains("\"fine\"") {
            break;
        }
    }
    several.send_text(r#"{"channel":"named:r","data":"not fine"}"#);
    assert_eq!(several.closed().0, 1008);
    // Who shows nothing, where everybody may.
    let mut nobody = socket(&site, "/v1/channels/open:w/ws", "");
    nobody.send_text("hello");
    assert_eq!(nobody.next_text(), "hello");
    assert!(writer.next_text().contains("fine"));
}

fn a_channel_of_users_is_theirs_alone(cell: Cell) {
    let site = guarded(cell, |config| {
        config.namespaces.entry("users".to_owned()).or_default().user_channels = true;
    });
    let (ann, bob, eve) = (user("ann"), user("bob"), user("eve"));
    for fields in [&ann, &bob] {
        assert_eq!(sse_head(&site, "channel=users:chat%23ann,bob", fields).status, 200);
    }
    assert_eq!(sse_head(&site, "channel=users:chat%23ann,bob", &eve).status, 403);
    assert_eq!(sse_head(&site, "channel=users:chat%23ann,bob", "").status, 401);
    let path = "/v1/channels/users:chat%23ann/events";
    assert_eq!(ask(&site, "GET", path, &eve, "").status, 403);
    assert_eq!(ask(&site, "POST", path, &eve, "x").status, 403);
    assert_eq!(ask(&site, "POST", path, &ann, "x").status, 202);
}

cells!(
    a_live_connection_ends_resumably_when_its_token_expires,
    a_client_publishes_over_its_socket_only_what_its_token_permits,
    a_channel_of_users_is_theirs_alone,
);
