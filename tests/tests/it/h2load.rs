//! nghttp2's load generator: every request of thousands is answered with success.

use crate::rig::child::run;
use crate::rig::{Cell, Site, until};
use std::fs;
use std::process::Command;

fn thousands_of_requests_succeed(cell: Cell) {
    let site = Site::start(cell);
    let body = site.folder().join("body");
    fs::write(&body, "{\"data\":{\"n\":1}}\n".repeat(10)).expect("a file");
    let body = body.display().to_string();
    let publish = ["-d", &body, "-H", "content-type: application/x-ndjson"];
    let check = |arguments: &[&str], path: &str, requests: u32| {
        let url = site.url(path);
        let requests_text = requests.to_string();
        let mut command = Command::new("h2load");
        command.args(["-n", &requests_text, "-t", "1"]).args(arguments).arg(&url);
        let told = run(&mut command);
        let line = told.lines().find(|line| line.starts_with("requests:")).expect("a summary");
        let expected = format!("{requests} succeeded, 0 failed, 0 errored, 0 timeout");
        assert!(line.contains(&expected), "{path}: {line}");
        let codes = told.lines().find(|line| line.starts_with("status codes:")).expect("codes");
        assert!(codes.contains(&format!("{requests} 2xx")), "{path}: {codes}");
    };
    check(&["-c", "10", "-m", "100"], "/health/live", 20_000);
    check(&["-c", "50", "-m", "1", "--h1"], "/health/live", 5_000);
    check(&[&["-c", "4", "-m", "50"], &publish[..]].concat(), "/v1/channels/h/events", 5_000);
    check(
        &[&["-c", "4", "-m", "20", "--h1"], &publish[..]].concat(),
        "/v1/channels/h/events",
        2_000,
    );
    let durable = "/v1/channels/d/events?ack=durable";
    check(&[&["-c", "2", "-m", "50"], &publish[..]].concat(), durable, 1_000);
    check(&["-c", "4", "-m", "20"], "/v1/channels/h/last", 2_000);
    let top = site.get("/v1/channels/h/last").json()["offset"].clone();
    assert_eq!(top, 70_000, "every event of every request has its offset");
    until("the connections to be gone", || site.metric("realtime_active_connections") == 0.0);
}

fn many_streams_on_few_connections_get_every_event(cell: Cell) {
    // h2load ends when the server ends the streams.
    let site = Site::start(cell);
    let url = site.url("/v1/sse?channel=many");
    let load = std::thread::spawn(move || {
        run(Command::new("h2load").args(["-n", "200", "-c", "2", "-m", "100", &url]))
    });
    site.wait_for_subscriptions(200);
    let before = site.metric("realtime_messages_sent_total");
    site.publish("many", "hello");
    until("everybody to have it", || site.metric("realtime_messages_sent_total") >= before + 200.0);
    site.stop();
    let told = load.join().expect("h2load ends");
    assert!(told.contains("status codes: 200 2xx"), "{told}");
}

cells!(many_streams_on_few_connections_get_every_event, thousands_of_requests_succeed);
