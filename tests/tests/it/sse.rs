//! Event streams: what browsers' libraries make of them, resume, and readers that stall.

use crate::rig::child::{Watch, client};
use crate::rig::process::Plan;
use crate::rig::sse::Stream;
use crate::rig::{Cell, Site, Wire, until};
use serde_json::{Value, json};
use server::config::OutboxPolicy;
use std::process::Command;

/// The libraries of `sse.mjs`.
const LIBRARIES: [&str; 2] = ["eventsource", "undici"];

fn event_source(library: &str, url: &str, types: &[&str]) -> Watch {
    Watch::start(client("sse.mjs").args([library, url]).args(types))
}

/// Skips to the next event.
fn next_event(watch: &mut Watch) -> Value {
    loop {
        let line = watch.json();
        if line["happened"] == "event" {
            return line;
        }
    }
}

fn event_source_gets_everything_as_messages(cell: Cell) {
    let site = Site::start(cell);
    for library in LIBRARIES {
        let channel = format!("plain-{library}");
        let mut watch =
            event_source(library, &site.url(&format!("/v1/sse?channel={channel}")), &[]);
        assert_eq!(watch.json(), json!({"happened": "open"}));
        site.wait_for_subscriptions(1);
        let path = format!("/v1/channels/{channel}/events");
        for (content_type, body, data) in [
            ("text/plain", "hello", "hello"),
            ("text/plain", "two\nlines", "two\nlines"),
            ("text/plain", " leading space", " leading space"),
            ("text/plain", "", ""),
            ("application/json", r#"{"type":"order","data":{"n": 1}}"#, r#"{"n": 1}"#),
            ("application/json", r#"{"type":"error","data":"x"}"#, r#""x""#),
            ("application/octet-stream", "bytes", "Ynl0ZXM="),
        ] {
            let answer = site.post(&path, content_type, body).json();
            let event = next_event(&mut watch);
            assert_eq!(
                (&event["type"], &event["data"]),
                (&json!("message"), &json!(data)),
                "{body:?}"
            );
            assert_eq!(event["id"], answer["positions"][0]["position"]);
        }
    }
}

fn types_reach_their_listeners_and_never_the_browsers_own(cell: Cell) {
    let site = Site::start(cell);
    for library in LIBRARIES {
        let channel = format!("typed-{library}");
        let url = site.url(&format!("/v1/sse?channel={channel}&event=type"));
        let mut watch = event_source(library, &url, &["order", "type:error", "type:open"]);
        assert_eq!(watch.json(), json!({"happened": "open"}));
        until("the subscription", || site.metric("shardcast_subscriptions") >= 1.0);
        for (kind, arrives) in
            [("order", "order"), ("error", "type:error"), ("open", "type:open"), ("", "message")]
        {
            let body = json!({"type": kind, "data": kind});
            let answer = site.post(
                &format!("/v1/channels/{channel}/events"),
                "application/json",
                body.to_string(),
            );
            assert_eq!(answer.status, 202, "{answer:?}");
            let line = watch.json();
            assert_eq!((&line["happened"], &line["type"]), (&json!("event"), &json!(arrives)));
        }
    }
}

fn an_event_source_resumes_where_a_restart_cut_it(cell: Cell) {
    let folder = tempfile::tempdir().expect("a folder");
    let plan = |listen: &str| {
        let plan = Plan::new(cell, folder.path()).flag(&["--listen", listen]);
        plan.set("sse.retry_ms_min=50").set("sse.retry_ms_max=100")
    };
    let mut server = plan("127.0.0.1:0").start();
    let listen = server.address.to_string();
    let publish = |server: &crate::rig::Process, channel: &str, data: &str| {
        let path = format!("/v1/channels/{channel}/events?ack=durable");
        assert_eq!(server.post(&path, "text/plain", data).status, 202);
    };
    let one = server.url("/v1/sse?channel=a");
    let both = server.url("/v1/sse?channel=a&channel=b");
    let mut single: Vec<_> =
        LIBRARIES.iter().map(|library| event_source(library, &one, &["shardcast.gap"])).collect();
    // npm `eventsource` 4 passes over an id without data, which the HTML standard has and browsers
    // and undici do; so it cannot resume several channels.
    let mut several = [event_source("undici", &both, &["shardcast.gap"])];
    until("the subscriptions", || server.metric("shardcast_subscriptions") >= 4.0);
    for round in 0..3 {
        let (first, second) = (format!("first {round}"), format!("second {round}"));
        publish(&server, "a", &first);
        publish(&server, "b", &second);
        for watch in &mut single {
            assert_eq!(next_event(watch)["data"], json!(first));
        }
        for watch in &mut several {
            let mut data = Vec::new();
            // Only the last flush may come twice after a cut.
            while data.len() < 2 {
                let event = next_event(watch);
                assert_eq!(event["type"], "message", "{event}");
                let envelope: Value =
                    serde_json::from_str(event["data"].as_str().expect("text")).expect("JSON");
                let text = envelope["data"].as_str().expect("text").to_owned();
                let repeated = round > 0 && text.ends_with(&(round - 1).to_string());
                if !repeated {
                    data.push(text);
                }
            }
            data.sort();
            assert_eq!(data, [first.clone(), second.clone()]);
        }
        if round == 2 {
            return;
        }
        // A clean stop and a kill: the streams end, something is published, they come back.
        if round == 0 {
            server.terminate();
            assert_eq!(server.wait().code(), Some(0), "{}", server.log());
        } else {
            server.kill();
        }
        server = plan(&listen).start();
    }
}

fn curl_shows_a_stream_as_it_comes(cell: Cell) {
    let site = Site::start(cell);
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let channel = format!("curl{}", version.len());
        until("no subscription", || site.metric("shardcast_subscriptions") == 0.0);
        let url = site.url(&format!("/v1/sse?channel={channel}"));
        let mut watch = Watch::start(Command::new("curl").args(["-sN", "-i", version, &url]));
        assert!(watch.line().contains(" 200"));
        let mut headers = Vec::new();
        loop {
            match watch.line().trim() {
                "" => break,
                line => headers.push(line.to_lowercase()),
            }
        }
        for header in [
            "content-type: text/event-stream",
            "cache-control: no-cache, no-transform",
            "x-accel-buffering: no",
        ] {
            assert!(headers.iter().any(|line| line == header), "{header}: {headers:?}");
        }
        site.wait_for_subscriptions(1);
        let position = site.publish(&channel, "hello");
        let retry = watch.line();
        let retry_ms: u32 =
            retry.strip_prefix("retry: ").expect("a retry first").parse().expect("ms");
        assert!((1_000..=5_000).contains(&retry_ms));
        let mut lines = Vec::new();
        while lines.last().is_none_or(|line| line != "data: hello") {
            lines.push(watch.line());
        }
        assert!(lines.contains(&format!("id: {position}")), "{lines:?}");
    }
}

fn a_cut_stream_resumes_exactly_or_says_what_is_missing(cell: Cell) {
    let site = Site::with(cell, |config| {
        let namespace = config.namespaces.get_mut("default").expect("default");
        namespace.history_size = 10;
    });
    let positions: Vec<String> = (1..=30).map(|n| site.publish("r", &n.to_string())).collect();
    let check = |since: &str, first: &str, data: &[u32]| {
        for (query, last_id) in [
            (format!("channel=r&since={since}"), ""),
            ("channel=r&since=0000000000000000:1".to_owned(), since),
        ] {
            let mut stream = Stream::open(site.address(), &query, last_id);
            let start = stream.next().expect("an event");
            assert_eq!(
                start.kind,
                first.split(' ').next().unwrap_or_default(),
                "{since}: {start:?}"
            );
            let told: Value = serde_json::from_str(&start.data).expect("JSON");
            let reason = first.split(' ').nth(1).map_or(Value::Null, |reason| json!(reason));
            assert_eq!(told["reason"], reason, "{since}");
            for number in data {
                assert_eq!(stream.next().expect("an event").data, number.to_string(), "{since}");
            }
        }
    };
    let all: Vec<u32> = (21..=30).collect();
    check(&positions[29], "shardcast.recovered", &[]);
    check(&positions[27], "shardcast.recovered", &[29, 30]);
    check(&positions[19], "shardcast.recovered", &all);
    check(&positions[18], "shardcast.gap expired", &all);
    check(&positions[29].replace(":30", ":31"), "shardcast.gap unknown", &all);
    check("fedcba9876543210:3", "shardcast.gap unknown", &all);
    check("nonsense", "shardcast.gap malformed", &all);
    check("mdeadbeef,-,-", "shardcast.gap malformed", &all);
}

fn a_cursor_over_several_channels_skips_nothing(cell: Cell) {
    let site = Site::start(cell);
    let query = "channel=x&channel=y&channel=z";
    let mut stream = Stream::open(site.address(), query, "");
    let mut last_id = stream.wait_for_id();
    let mut next = [1_u64; 3];
    for round in 0..30_u64 {
        let channel = ["x", "y", "z"][(round * 7 % 3) as usize];
        site.publish(channel, &round.to_string());
        if round % 5 == 4 {
            // Cut it and come back with what the browser would have kept.
            stream = Stream::open(site.address(), query, &last_id);
        }
        if round % 2 == 1 || round % 5 == 4 {
            let total: u64 = round + 1;
            while next.iter().map(|n| n - 1).sum::<u64>() < total {
                let event = stream.next().expect("an event");
                if event.kind == "shardcast.recovered" {
                    continue;
                }
                assert_eq!(event.kind, "", "{event:?}");
                let envelope: Value = serde_json::from_str(&event.data).expect("JSON");
                let at = match envelope["channel"].as_str() {
                    Some("x") => 0,
                    Some("y") => 1,
                    _ => 2,
                };
                let offset = envelope["offset"].as_u64().expect("an offset");
                assert!(offset <= next[at], "{envelope} came before {}", next[at]);
                next[at] = next[at].max(offset + 1);
            }
            last_id = stream.last_id.clone();
        }
    }
    // A cursor of other channels is a gap on each, never a wrong resume.
    let mut stream = Stream::open(site.address(), "channel=x&channel=z", &last_id);
    let mut gaps = Vec::new();
    while gaps.len() < 2 {
        let event = stream.next().expect("an event");
        if event.kind == "shardcast.gap" {
            let gap: Value = serde_json::from_str(&event.data).expect("JSON");
            gaps.push(gap["channel"].as_str().expect("a channel").to_owned());
        }
    }
    gaps.sort();
    assert_eq!(gaps, ["x", "z"]);
}

fn envelopes_make_any_payload_exact(cell: Cell) {
    let site = Site::start(cell);
    let mut stream = Stream::open(site.address(), "channel=e&format=envelope", "");
    site.wait_for_subscriptions(1);
    site.publish("e", "cr\r\nand\rlf\n");
    let envelope = stream.next_published().expect("an event");
    let envelope: Value = serde_json::from_str(&envelope.data).expect("JSON");
    assert_eq!(envelope["data"], json!("cr\r\nand\rlf\n"));
    site.post("/v1/channels/e/events", "image/png", [0, 255, 13, 10]);
    let envelope = stream.next_published().expect("an event");
    let envelope: Value = serde_json::from_str(&envelope.data).expect("JSON");
    assert_eq!(
        (&envelope["data_base64"], &envelope["content_type"]),
        (&json!("AP8NCg=="), &json!("image/png"))
    );
    // Without an envelope, text comes with LF.
    let mut stream = Stream::open(site.address(), "channel=e2", "");
    site.wait_for_subscriptions(2);
    site.publish("e2", "cr\r\nand\rlf\nend");
    assert_eq!(stream.next_published().expect("an event").data, "cr\nand\nlf\nend");
}

fn idle_streams_are_kept_open_with_comments(cell: Cell) {
    let site = Site::with(cell, |config| config.limits.heartbeat_s = 1);
    let mut wire = site.wire();
    wire.send("GET /v1/sse?channel=idle HTTP/1.1\r\nHost: localhost\r\n\r\n");
    wire.head();
    for _ in 0..2 {
        wire.through(b"\n:");
    }
}

/// A server with small outboxes, one reader that stalls and one that does not.
fn stalled(cell: Cell, policy: OutboxPolicy) -> (Site, Stream, Stream) {
    let site = Site::with(cell, |config| {
        config.limits.outbox_bytes_max = 64 << 10;
        let namespace = config.namespaces.get_mut("default").expect("default");
        namespace.outbox_policy = policy;
        namespace.history_size = 100_000;
    });
    let slow = Stream::over(Wire::connect_narrow(site.address()), "channel=s", "");
    let fast = Stream::open(site.address(), "channel=s", "");
    site.wait_for_subscriptions(2);
    (site, slow, fast)
}

/// Publishes and reads with the fast reader until the metric shows that the slow one was dealt
/// with.
fn publish_until(site: &Site, fast: &mut Stream, metric: &str) -> u64 {
    let body = format!("{{\"data\":\"{}\"}}\n", "x".repeat(8_000)).repeat(20);
    let mut offset = 0;
    until(metric, || {
        let answer = site.post("/v1/channels/s/events", "application/x-ndjson", &body);
        assert_eq!(answer.status, 202, "{answer:?}");
        for _ in 0..20 {
            offset += 1;
            assert_eq!(offset_of(&fast.next_published().expect("an event").id), offset);
        }
        site.metric(metric) > 0.0
    });
    offset
}

fn offset_of(position: &str) -> u64 {
    position.rsplit_once(':').and_then(|(_, offset)| offset.parse().ok()).expect("a position")
}

fn a_stalled_reader_is_closed_and_resumes_and_nobody_else_notices(cell: Cell) {
    let (site, mut slow, mut fast) = stalled(cell, OutboxPolicy::Disconnect);
    let published = publish_until(&site, &mut fast, "shardcast_closes_total{reason=\"slow\"}");
    let mut read = 0;
    // The last event may be cut in the middle: a browser drops it.
    while let Some(event) = slow.next() {
        read += 1;
        assert_eq!(offset_of(&event.id), read);
    }
    assert!(read < published, "it cannot have got all {published}");
    // The id of a cut event may have been read already, so the browser's rule is used here.
    let mut again = Stream::open(site.address(), "channel=s", &position(&fast, read).to_string());
    assert_eq!(again.next().expect("an event").kind, "shardcast.recovered");
    for offset in read + 1..=published {
        assert_eq!(offset_of(&again.next().expect("an event").id), offset);
    }
}

/// A position of the same channel at another offset.
fn position(stream: &Stream, offset: u64) -> String {
    let (epoch, _) = stream.last_id.split_once(':').expect("a position");
    format!("{epoch}:{offset}")
}

fn a_stalled_reader_that_may_lose_is_told_what_it_lost(cell: Cell) {
    let (site, mut slow, mut fast) = stalled(cell, OutboxPolicy::DropOldest);
    let published =
        publish_until(&site, &mut fast, "shardcast_drops_total{reason=\"drop_oldest\"}");
    let (mut next, mut notices) = (1, 0);
    while next <= published {
        let event = slow.next().expect("the stream goes on");
        if event.kind == "shardcast.notice" {
            let notice: Value = serde_json::from_str(&event.data).expect("JSON");
            assert_eq!((&notice["reason"], &notice["channel"]), (&json!("dropped"), &json!("s")));
            assert_eq!(notice["from"], json!(next), "{notice}");
            next = notice["to"].as_u64().expect("an offset") + 1;
            assert!(
                offset_of(&event.id) < next,
                "a reconnect right after it must still fetch the run"
            );
            notices += 1;
        } else {
            assert_eq!(offset_of(&event.id), next);
            next += 1;
        }
    }
    assert!(notices > 0);
    site.publish("s", "still there");
    assert_eq!(slow.next().expect("an event").data, "still there");
}

fn many_stalled_readers_cost_a_bounded_amount(cell: Cell) {
    let folder = tempfile::tempdir().expect("a folder");
    let plan = Plan::new(cell, folder.path()).set("namespaces.default.history_size=10");
    let plan = plan.set("limits.outbox_bytes_max=65536");
    let server = plan.set("namespaces.default.outbox_policy=drop_oldest").start();
    let mut slow: Vec<Stream> = (0..200)
        .map(|_| Stream::over(Wire::connect_narrow(server.address), "channel=s", ""))
        .collect();
    until("the subscriptions", || server.metric("shardcast_subscriptions") >= 200.0);
    let body = format!("{{\"data\":\"{}\"}}\n", "x".repeat(8_000)).repeat(100);
    let publish = |rounds: usize| {
        for _ in 0..rounds {
            let answer = server.post("/v1/channels/s/events", "application/x-ndjson", &body);
            assert_eq!(answer.status, 202, "{answer:?}");
        }
    };
    publish(20);
    until("the policy to work", || {
        server.metric("shardcast_drops_total{reason=\"drop_oldest\"}") > 200.0
    });
    let before = server.resident_bytes();
    publish(80);
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(
        grown < 32 << 20,
        "64 MB published to stalled readers grew the server by {grown} bytes"
    );
    // The budget of each, and what the turn that filled its socket had in one send.
    let waiting = server.metric("shardcast_outbox_bytes");
    let turn = body.len() as f64;
    assert!(waiting <= 200.0 * (65_536.0 + turn), "{waiting} bytes wait");
    drop(slow.drain(..));
    until("the readers to be gone", || server.metric("shardcast_subscriptions") == 0.0);
    assert_eq!(server.metric("shardcast_outbox_bytes"), 0.0);
}

cells!(
    a_cursor_over_several_channels_skips_nothing,
    a_cut_stream_resumes_exactly_or_says_what_is_missing,
    a_stalled_reader_is_closed_and_resumes_and_nobody_else_notices,
    a_stalled_reader_that_may_lose_is_told_what_it_lost,
    an_event_source_resumes_where_a_restart_cut_it,
    curl_shows_a_stream_as_it_comes,
    envelopes_make_any_payload_exact,
    event_source_gets_everything_as_messages,
    idle_streams_are_kept_open_with_comments,
    many_stalled_readers_cost_a_bounded_amount,
    types_reach_their_listeners_and_never_the_browsers_own,
);
