//! Who gets in: tokens and API keys over real sockets, on every endpoint.

mod client;
mod key_sets;
mod keys;
mod live;
mod secrets;
mod server_side;
mod streams;
mod subscriptions;
mod tokens;

use crate::rig::{Answer, Cell, Site, Wire};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use server::auth::{Right, Secret, hash_of};
use server::config::{Access, ApiKeyConfig, Config};
use std::time::{SystemTime, UNIX_EPOCH};

/// The secret of the tests' tokens.
const SECRET: &str = "integration-test-secret-0123456789abcdef";

/// Seconds since the epoch.
fn now_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    since.as_secs() as i64
}

/// An HS256 token of these claims.
fn token(claims: &Value) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(&json!({"alg": "HS256"})), encode(claims));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET.as_bytes());
    let mac = ring::hmac::sign(&key, signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.as_ref()))
}

/// The header field of a token or a key.
fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// Field and token of a user.
fn user(name: &str) -> String {
    bearer(&token(&json!({"sub": name, "exp": now_s() + 600})))
}

/// A server that takes tokens, with namespaces that are open, named, closed.
fn guarded(cell: Cell, change: impl FnOnce(&mut Config)) -> Site {
    Site::with(cell, |config| {
        config.auth.hmac_secret = Secret::new(SECRET);
        let mut add = |name: &str, access: Access| {
            let namespace = config.namespaces.entry(name.to_owned()).or_default();
            (namespace.subscribe, namespace.client_publish) = (access, access);
            (namespace.history, namespace.presence) = (access, access);
        };
        add("open", Access::Anonymous);
        add("users", Access::Authenticated);
        add("named", Access::Token);
        add("shut", Access::Nobody);
        change(config);
    })
}

/// The configuration of a service's key.
fn service(name: &str, key: &str, channels: &[&str], allow: &[Right]) -> ApiKeyConfig {
    ApiKeyConfig {
        name: name.to_owned(),
        hash: hash_of(key),
        channels: channels.iter().map(|text| (*text).to_owned()).collect(),
        allow: allow.to_vec(),
        events_per_s: 0,
        bytes_per_s: 0,
        burst_s: 1,
        admin: false,
    }
}

/// A request on a connection of its own.
fn ask(site: &Site, method: &str, path: &str, fields: &str, body: &str) -> Answer {
    let fields = match body {
        "" => fields.to_owned(),
        _ => format!("{fields}Content-Type: text/plain\r\n"),
    };
    site.wire().request(method, path, &fields, body.as_bytes())
}

/// Publishes as a service does.
fn publish(site: &Site, channel: &str, fields: &str) -> Answer {
    ask(site, "POST", &format!("/v1/channels/{channel}/events"), fields, "hello")
}

/// The head of the answer to a subscription over SSE.
fn sse_head(site: &Site, query: &str, fields: &str) -> Answer {
    let mut wire = site.wire();
    wire.send(format!("GET /v1/sse?{query} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n"));
    head_of(&mut wire)
}

/// A head, and the body of anything but a stream.
fn head_of(wire: &mut Wire) -> Answer {
    let mut answer = wire.head();
    if let Ok(length) = answer.header("content-length").parse() {
        answer.body = wire.exactly(length);
    }
    answer
}

/// A WebSocket handshake's answer, and its connection.
fn shake(site: &Site, path: &str, fields: &str) -> (Answer, Wire) {
    let mut wire = site.wire();
    wire.send(format!("{}{fields}\r\n", crate::rig::ws::handshake(path)));
    (head_of(&mut wire), wire)
}
