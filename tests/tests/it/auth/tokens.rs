//! Tokens over HTTP, SSE and WebSocket: what is refused and how that is said.

use super::*;
use crate::rig::child::curl;
use crate::rig::until;

/// Status and code on every endpoint that a client has.
fn everywhere(site: &Site, channel: &str, fields: &str) -> Vec<(u16, String)> {
    let events = format!("/v1/channels/{channel}/events");
    let last = format!("/v1/channels/{channel}/last");
    let history = format!("/v1/history?channel={channel}");
    let counts = format!("/v1/channels/{channel}/counts");
    let answers = [
        sse_head(site, &format!("channel={channel}"), fields),
        sse_head(site, &format!("channel=open:x&channel={channel}"), fields),
        shake(site, &format!("/v1/channels/{channel}/ws"), fields).0,
        shake(site, &format!("/v1/ws?channel={channel}"), fields).0,
        ask(site, "GET", &events, fields, ""),
        ask(site, "GET", &last, fields, ""),
        ask(site, "GET", &history, fields, ""),
        ask(site, "GET", &counts, fields, ""),
    ];
    let code = |answer: &Answer| if answer.status < 400 { String::new() } else { answer.code() };
    answers.iter().map(|answer| (answer.status, code(answer))).collect()
}

fn all_are(site: &Site, channel: &str, fields: &str, status: u16, code: &str) {
    for (at, found) in everywhere(site, channel, fields).iter().enumerate() {
        assert_eq!(*found, (status, code.to_owned()), "endpoint {at} of {channel}: {fields}");
    }
}

fn none_is_refused(site: &Site, channel: &str, fields: &str) {
    for (at, (status, code)) in everywhere(site, channel, fields).iter().enumerate() {
        // There is nothing to read yet, which is said as ever.
        let fine = *status < 400 || code == "no_event";
        assert!(fine, "endpoint {at} of {channel}: {status} {code}");
    }
}

fn every_endpoint_asks_who_is_there(cell: Cell) {
    let site = guarded(cell, |_| {});
    let ann = user("ann");
    let nobody = user("");
    none_is_refused(&site, "open:c", "");
    none_is_refused(&site, "open:c", &ann);
    all_are(&site, "users:c", "", 401, "unauthenticated");
    none_is_refused(&site, "users:c", &ann);
    all_are(&site, "users:c", &nobody, 403, "forbidden");
    all_are(&site, "named:c", "", 401, "unauthenticated");
    all_are(&site, "named:c", &ann, 403, "forbidden");
    let caps = json!([{"channels": ["named:c"], "allow": ["sub", "hst"]}]);
    let named = bearer(&token(&json!({"sub": "", "caps": caps})));
    none_is_refused(&site, "named:c", &named);
    all_are(&site, "named:d", &named, 403, "forbidden");
    all_are(&site, "shut:c", &ann, 403, "forbidden");
    all_are(&site, "shut:c", "", 403, "forbidden");
    // The defaults, and names that only look like others.
    all_are(&site, "c", "", 401, "unauthenticated");
    none_is_refused(&site, "c", &ann);
    for odd in ["named%3Ac", "NAMED:c", "named:C", "named:c.", "named:%63x", "named::c"] {
        let found = everywhere(&site, odd, "");
        assert!(found.iter().all(|(status, _)| *status == 401), "{odd}: {found:?}");
    }
    // No credentials are needed for what is no secret, nor for a preflight.
    assert_eq!(ask(&site, "GET", "/health/live", "", "").status, 200);
    assert_eq!(
        ask(&site, "GET", "/health/live", "Authorization: Bearer x.y.z\r\n", "").status,
        200
    );
    // A request that is refused says how to do it right, and the connection goes on.
    let mut wire = site.wire();
    let refused = wire.request("GET", "/v1/channels/users:c/last", "", b"");
    assert_eq!(refused.header("www-authenticate"), "Bearer realm=\"shardcast\"");
    assert_eq!(refused.header("cache-control"), "no-store");
    let taken = wire.request("GET", "/v1/channels/users:c/events", &ann, b"");
    assert_eq!(taken.status, 200);
    until("the counters", || {
        let of = |reason: &str| {
            site.metric(&format!("shardcast_auth_refusals_total{{reason=\"{reason}\"}}"))
        };
        of("missing") >= 16.0 && of("forbidden") >= 30.0
    });
}

fn a_bad_token_is_refused_even_where_none_is_needed(cell: Cell) {
    let site = guarded(cell, |_| {});
    let good = token(&json!({"sub": "ann", "exp": now_s() + 600}));
    let expired = token(&json!({"sub": "ann", "exp": now_s() - 60}));
    let early = token(&json!({"sub": "ann", "nbf": now_s() + 60}));
    let (head, _) = good.split_once('.').expect("three parts");
    let none = format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), head);
    let broken = format!("{}x", &good[..good.len() - 1]);
    let table = [
        (bearer(&expired), 401, "token_expired"),
        (bearer(&early), 401, "invalid_token"),
        (bearer(&none), 401, "invalid_token"),
        (bearer(&broken), 401, "invalid_token"),
        (bearer("a.b.c"), 401, "invalid_token"),
        (bearer(&format!("{}.b.c", "a".repeat(9_000))), 401, "invalid_token"),
        (bearer("no-such-key"), 401, "invalid_api_key"),
        ("X-API-Key: no-such-key\r\n".to_owned(), 401, "invalid_api_key"),
        ("Authorization: apikey no-such-key\r\n".to_owned(), 401, "invalid_api_key"),
        ("Authorization: Basic YTpi\r\n".to_owned(), 401, "invalid_credentials"),
        ("Authorization: Bearer\r\n".to_owned(), 401, "invalid_credentials"),
        (format!("{0}{0}", bearer(&good)), 401, "invalid_credentials"),
        (format!("{}X-API-Key: k\r\n", bearer(&good)), 401, "invalid_credentials"),
    ];
    for (fields, status, code) in &table {
        all_are(&site, "open:c", fields, *status, code);
    }
    // A token that was cut is told apart from a key, where keys are; here are none.
    let (cut, _) = good.rsplit_once('.').expect("three parts");
    let said =
        |site: &Site| ask(site, "GET", "/v1/channels/open:c/events", &bearer(cut), "").text();
    assert!(said(&site).contains("not a whole token") && !said(&site).contains("`api_keys`"));
    let with_keys = guarded(cell, |config| {
        config.api_keys = vec![service("a", "key-of-a", &["*"], &[Right::Publish])];
    });
    assert!(
        said(&with_keys).contains("not a whole one") && said(&with_keys).contains("`api_keys`")
    );
    let answer = ask(&site, "GET", "/v1/channels/open:c/events", &bearer(&expired), "");
    let challenge = answer.header("www-authenticate");
    assert_eq!(challenge, "Bearer realm=\"shardcast\", error=\"invalid_token\"");
    // HTTP/2 asks the same.
    let url = site.url("/v1/channels/users:c/events");
    for (token, status) in [(broken.as_str(), "401"), (good.as_str(), "200"), ("zzz", "401")] {
        let field = format!("Authorization: Bearer {token}");
        let http2 = ["--http2-prior-knowledge", "--output", "/dev/null"];
        let said =
            curl(&[&http2[..], &["--write-out", "%{http_code}", "-H", &field, &url]].concat());
        assert_eq!(said, status);
    }
}

fn a_token_in_the_url_is_taken_for_subscriptions_and_only_if_configured(cell: Cell) {
    let ann = token(&json!({"sub": "ann", "exp": now_s() + 600}));
    let closed = guarded(cell, |_| {});
    let query = format!("channel=users:c&token={ann}");
    let refused = sse_head(&closed, &query, "");
    assert_eq!((refused.status, refused.code()), (400, "bad_parameter".to_owned()));
    assert!(refused.text().contains("auth.token_in_url") && !refused.text().contains(&ann[..20]));
    let open = guarded(cell, |config| config.auth.token_in_url = true);
    assert_eq!(sse_head(&open, &query, "").status, 200);
    assert_eq!(shake(&open, &format!("/v1/channels/users:c/ws?token={ann}"), "").0.status, 101);
    assert_eq!(shake(&open, &format!("/v1/ws?{query}"), "").0.status, 101);
    assert_eq!(sse_head(&open, "channel=users:c&token=a.b.c", "").status, 401);
    assert_eq!(sse_head(&open, &format!("{query}&token={ann}"), "").status, 400);
    for path in ["/v1/channels/users:c/events", "/v1/channels/users:c/last"] {
        let answer = ask(&open, "GET", &format!("{path}?token={ann}"), "", "");
        assert_eq!((answer.status, answer.code()), (400, "bad_parameter".to_owned()), "{path}");
    }
    // Without authentication there is nothing that it could be for.
    let without = Site::start(cell);
    assert_eq!(sse_head(&without, &query, "").status, 400);
    assert_eq!(sse_head(&without, "channel=users:c", &user("ann")).status, 200);
}

cells!(
    every_endpoint_asks_who_is_there,
    a_bad_token_is_refused_even_where_none_is_needed,
    a_token_in_the_url_is_taken_for_subscriptions_and_only_if_configured,
);
