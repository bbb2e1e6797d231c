//! Tokens and keys are in no output: not in the log, not in metrics, not in an answer.

use super::*;
use crate::rig::process::{PROGRAM, Plan};
use crate::rig::ws::Socket;
use std::process::Command;

fn nothing_that_was_shown_is_ever_said(cell: Cell) {
    let folder = tempfile::tempdir().expect("a folder");
    let secret = folder.path().join("secret");
    std::fs::write(&secret, format!("{SECRET}\n")).expect("a file");
    let admin = folder.path().join("admin");
    std::fs::write(&admin, "canary-admin-token-0123456789-0123456789").expect("a file");
    let key = "canary-api-key";
    let keys = format!("api_keys=[{{ name = \"svc\", hash = \"{}\" }}]", hash_of(key));
    let server = Plan::new(cell, folder.path())
        .set(&format!("auth.hmac_secret_file={}", secret.display()))
        .set(&format!("admin_token_file={}", admin.display()))
        .set("auth.token_in_url=true")
        .set("log.level=debug")
        .set(&keys)
        .start();
    let admin = bearer("canary-admin-token-0123456789-0123456789");
    let claims = json!({"sub": "canary-user", "exp": now_s() + 600, "info": {"x": "canary-info"}});
    let good = token(&claims);
    let expired = token(&json!({"sub": "canary-user", "exp": 1}));
    let broken = format!("{}AAAA", &good[..good.len() - 4]);
    let mut said = String::new();
    let mut note = |answer: Answer| said.push_str(&format!("{answer:?}\n"));
    for shown in [good.as_str(), &expired, &broken, "canary.canary.canary", key, "canary-no-key"] {
        for fields in [bearer(shown), format!("X-API-Key: {shown}\r\n")] {
            for (method, path) in
                [("GET", "/v1/channels/c/last"), ("POST", "/v1/channels/c/events"), ("GET", "/x")]
            {
                note(server.wire().request(method, path, &fields, b""));
            }
        }
        for path in ["/v1/sse?channel=c", "/v1/history?channel=c", "/v1/channels/c/ws?x=1"] {
            let mut wire = server.wire();
            let path = format!("{path}&token={shown}");
            wire.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
            note(head_of(&mut wire));
        }
        let basic = format!("Authorization: Basic {shown}\r\n");
        note(server.wire().request("GET", "/v1/channels/c/last", &basic, b""));
        let refused = Wire::connect(server.admin).request("GET", "/metrics", &bearer(shown), b"");
        assert_eq!(refused.status, 401);
        note(refused);
    }
    let mut socket = Socket::open(server.address, &format!("/v1/channels/c/ws?token={good}"));
    for path in ["/metrics", "/debug/connections?limit=1000", "/debug/memory", "/admin/storage"] {
        let answer = Wire::connect(server.admin).request("GET", path, &admin, b"");
        assert_eq!(answer.status, 200);
        note(answer);
    }
    socket.send_text("not permitted");
    let (code, reason) = socket.closed();
    said.push_str(&format!("{code} {reason}"));
    server.terminate();
    let mut server = server;
    server.wait();
    let log = server.log();
    assert!(log.contains("serving"), "{log}");
    let signature = |token: &str| token.rsplit('.').next().expect("three parts").to_owned();
    let payload = good.split('.').nth(1).expect("three parts").to_owned();
    let secrets = ["canary", SECRET, key, &good, &payload, &signature(&good), &signature(&expired)];
    for secret in secrets {
        assert!(!log.contains(secret), "the log has {secret}");
        assert!(!said.contains(secret), "an answer has {secret}: {said}");
    }
}

fn a_server_that_others_reach_says_once_that_it_is_open(cell: Cell) {
    let folder = tempfile::tempdir().expect("a folder");
    let open = Plan::new(cell, folder.path())
        .flag(&["--listen", "0.0.0.0:0", "--allow-anonymous"])
        .start();
    assert_eq!(open.log().matches("no authentication").count(), 1, "{}", open.log());
    drop(open);
    let other = tempfile::tempdir().expect("a folder");
    let secret = other.path().join("secret");
    std::fs::write(&secret, SECRET).expect("a file");
    let set = format!("auth.hmac_secret_file={}", secret.display());
    let guarded = Plan::new(cell, other.path()).set(&set).flag(&["--listen", "0.0.0.0:0"]).start();
    assert!(!guarded.log().contains("no authentication"), "{}", guarded.log());
}

/// What the guide does: a key into a file, a server with that file.
fn a_server_says_what_it_checks_callers_with(cell: Cell) {
    let folder = tempfile::tempdir().expect("a folder");
    let here = folder.path().to_str().expect("text");
    let rights = ["--allow", "publish", "--allow", "history"];
    let mut key = Command::new(PROGRAM);
    let made = key.args(["key", "billing", "--channel", "orders:*"]).args(rights).output();
    let made = made.expect("it starts");
    let file = folder.path().join("shardcast.toml");
    std::fs::write(&file, &made.stdout).expect("a file");
    let key = String::from_utf8(made.stderr).expect("text").lines().next().map(bearer);
    let key = key.expect("a key");
    let plan = || Plan::new(cell, folder.path()).wrapper(&["env", "-C", here]);
    // A file that is not named is not read.
    let open = plan().start();
    let log = open.log();
    assert!(log.contains(" auth=off\n") && log.contains("this file is not read"), "{log}");
    assert!(log.contains(&*file.to_string_lossy()), "{log}");
    open.kill();
    let guarded = plan().flag(&["--config", "shardcast.toml"]).start();
    let log = guarded.log().split_off(log.len());
    assert!(log.contains(" auth=keys\n") && !log.contains("is not read"), "{log}");
    let ask = |method: &str, path: &str, fields: &str| {
        let fields = format!("{fields}Content-Type: text/plain\r\n");
        guarded.wire().request(method, path, &fields, b"hello").status
    };
    assert_eq!(ask("POST", "/v1/channels/orders:eu/events", &key), 202);
    assert_eq!(ask("POST", "/v1/channels/other/events", &key), 403);
    assert_eq!(ask("POST", "/v1/channels/orders:eu/events", ""), 401);
    let last = guarded.wire().request("GET", "/v1/channels/orders:eu/last", &key, b"");
    assert_eq!(last.json()["data"], json!("hello"), "{last:?}");
    drop(guarded);
    let secret = format!("auth.hmac_secret={SECRET}");
    let both = plan().flag(&["--config", "shardcast.toml"]).set(&secret).start();
    assert!(both.log().contains(" auth=tokens,keys\n"), "{}", both.log());
}

cells!(
    nothing_that_was_shown_is_ever_said,
    a_server_that_others_reach_says_once_that_it_is_open,
    a_server_says_what_it_checks_callers_with,
);
