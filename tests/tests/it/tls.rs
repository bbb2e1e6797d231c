//! HTTPS and WSS with a certificate made for the test.

use crate::rig::child::{client, curl, run};
use crate::rig::{Cell, Site, until};
use serde_json::{Value, json};
use server::config::{Config, Tls};
use std::fs;
use std::path::Path;

/// Writes a certificate and its key; gives their paths.
pub fn certificate(folder: &Path) -> Tls {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a pair");
    let tls = Tls { cert: folder.join("cert.pem"), key: folder.join("key.pem") };
    fs::write(&tls.cert, made.cert.pem()).expect("a file");
    fs::write(&tls.key, made.signing_key.serialize_pem()).expect("a file");
    tls
}

/// A server with TLS, and the folder with its certificate.
fn secure(cell: Cell, change: impl FnOnce(&mut Config)) -> (Site, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let tls = certificate(folder.path());
    let site = Site::with(cell, |config| {
        config.tls = tls;
        change(config);
    });
    (site, folder)
}

/// curl that trusts the certificate and connects by its name.
fn trusted(site: &Site, folder: &Path, arguments: &[&str], path: &str) -> String {
    let cert = folder.join("cert.pem").display().to_string();
    let url = format!("https://localhost:{}{path}", site.address().port());
    let resolve = format!("localhost:{}:127.0.0.1", site.address().port());
    let fixed = ["--cacert", &cert, "--resolve", &resolve];
    curl(&[&fixed, arguments, &[&url]].concat())
}

fn curl_negotiates_both_versions_and_publishes(cell: Cell) {
    let (site, folder) = secure(cell, |_| {});
    for (offered, spoken) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let version = ["--write-out", "\n%{http_version}", offered];
        let body = ["--data-binary", "hello", "--header", "Content-Type: text/plain"];
        let arguments = [&version[..], &body[..]].concat();
        let text = trusted(&site, folder.path(), &arguments, "/v1/channels/s/events?ack=durable");
        let (answer, version) = text.rsplit_once('\n').expect("a version");
        let answer: Value = serde_json::from_str(answer).expect("JSON");
        assert_eq!((&answer["accepted"], version), (&json!(1), spoken));
    }
    // Large bodies pass in both directions.
    let file = folder.path().join("body");
    let line = format!("{{\"data\":\"{}\"}}\n", "y".repeat(1_000));
    fs::write(&file, line.repeat(2_000)).expect("a file");
    let body = format!("@{}", file.display());
    for offered in ["--http1.1", "--http2"] {
        let arguments =
            [offered, "--data-binary", &body, "--header", "Content-Type: application/x-ndjson"];
        let path = format!("/v1/channels/big{offered}/events?ack=durable");
        let answer = trusted(&site, folder.path(), &arguments, &path);
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!(answer["accepted"], json!(2_000));
        let path = format!("/v1/history?channel=big{offered}&limit=100000");
        let stored: Value =
            serde_json::from_str(&trusted(&site, folder.path(), &[offered], &path)).expect("JSON");
        assert_eq!(stored["events"].as_array().map(Vec::len), Some(2_000));
    }
}

fn secure_web_sockets_echo(cell: Cell) {
    let (site, _folder) = secure(cell, |_| {});
    let script = json!([
        ["text", "hello"],
        ["expect_text", "hello"],
        ["ping", "p"],
        ["fill_binary", 1_000_000],
        ["expect_fill_binary", 1_000_000],
        ["close", 1000],
        ["expect_close", [1000, ""]],
    ]);
    let url = format!("wss://{}/v1/channels/s/ws", site.address());
    run(client("ws.mjs").arg(url).arg(script.to_string()));
}

fn what_is_no_handshake_ends_and_disturbs_nobody(cell: Cell) {
    let (site, folder) = secure(cell, |config| config.limits.head_timeout_s = 1);
    for input in [
        &b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\xff\xff",
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
        b"\0\0\0\0\0\0\0\0",
        b"\x16",
        b"",
    ] {
        let mut wire = site.wire();
        wire.send(input);
        wire.rest();
    }
    assert!(trusted(&site, folder.path(), &[], "/health/live").contains("live"));
    // Half handshakes in numbers end by their deadline.
    let halves: Vec<_> = (0..100)
        .map(|_| {
            let mut wire = site.wire();
            wire.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");
            wire
        })
        .collect();
    for mut wire in halves {
        wire.rest();
    }
    until("the connections to be gone", || site.metric("realtime_active_connections") == 0.0);
}

fn a_secure_stream_carries_events_over_both_versions(cell: Cell) {
    let (site, folder) = secure(cell, |_| {});
    let cert = folder.path().join("cert.pem").display().to_string();
    let port = site.address().port();
    for offered in ["--http1.1", "--http2"] {
        let channel = format!("stream{offered}");
        until("no subscription", || site.metric("shardcast_subscriptions") == 0.0);
        let mut watch = crate::rig::child::Watch::start(std::process::Command::new("curl").args([
            "-sN",
            offered,
            "--cacert",
            &cert,
            "--resolve",
            &format!("localhost:{port}:127.0.0.1"),
            &format!("https://localhost:{port}/v1/sse?channel={channel}"),
        ]));
        site.wait_for_subscriptions(1);
        let path = format!("/v1/channels/{channel}/events");
        let body = ["--data-binary", "hello", "--header", "Content-Type: text/plain"];
        trusted(&site, folder.path(), &body, &path);
        while watch.line() != "data: hello" {}
    }
}

cells!(
    a_secure_stream_carries_events_over_both_versions,
    curl_negotiates_both_versions_and_publishes,
    secure_web_sockets_echo,
    what_is_no_handshake_ends_and_disturbs_nobody,
);
