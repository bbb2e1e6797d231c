//! What the server refuses, how it says so and that it recovers: connections, descriptors, a
//! second server; what operators see; and how it stops.

use crate::rig::child::{Watch, client, clients, output};
use crate::rig::http::{get_from, sum_of};
use crate::rig::process::Plan;
use crate::rig::sse::Stream;
use crate::rig::ws::Socket;
use crate::rig::{Cell, Process, Site, Wire, until};
use serde_json::{Value, json};
use server::config::Engine;
use std::io::Write;
use std::process::{Command, Stdio};

fn connections_over_the_cap_are_refused_and_places_come_back(cell: Cell) {
    let site = Site::with(cell, |config| config.limits.connections_max = 20);
    let mut held = Vec::new();
    let mut refused = 0;
    for _ in 0..60 {
        let mut wire = site.wire();
        let answer = wire.get("/health/live");
        match answer.status {
            200 => held.push(wire),
            503 => {
                assert_eq!(answer.code(), "too_many_connections");
                assert_eq!(wire.rest(), b"");
                refused += 1;
            }
            _ => panic!("{answer:?}"),
        }
    }
    assert!(held.len() <= 20 && held.len() + refused == 60, "{} held", held.len());
    assert_eq!(held.len(), 20, "every place is used, whichever shard it is on");
    assert_eq!(site.metric("realtime_connection_capacity"), 20.0);
    // Those inside are served as before.
    for wire in &mut held {
        assert_eq!(wire.get("/health/live").status, 200);
    }
    drop(held);
    until("places to come back", || site.get("/health/live").status == 200);
}

fn out_of_descriptors_it_waits_without_spinning_and_recovers(cell: Cell) {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Process::start(cell, folder.path());
    // No new descriptor may be opened from here on; the admin connection stands already.
    let mut admin = Wire::connect(server.admin);
    let mut metric = |name: &str| sum_of(&admin.get("/metrics").text(), name);
    let open = metric("process_open_fds") as u64;
    let prlimit = |limit: u64| {
        let (pid, limit) = (server.id().to_string(), format!("--nofile={limit}:"));
        let set = output(Command::new("prlimit").args(["--pid", &pid, &limit]));
        assert!(set.status.success(), "{set:?}");
    };
    let mut kept = Socket::open(server.address, "/v1/channels/kept/ws");
    prlimit(open + 5);
    let waiting: Vec<Wire> = (0..50).map(|_| server.wire()).collect();
    let pauses = "shardcast_driver_events_total{event=\"accept_pauses\"}";
    if cell.engine == Engine::Epoll {
        until("accepting to pause", || metric(pauses) > 0.0);
    } else {
        // io_uring notes the limit when an accept is armed, so this one knows the old limit.
        until("everybody to be accepted", || metric("realtime_active_connections") >= 51.0);
    }
    let before = metric("shardcast_turns_total");
    for round in 0..200 {
        kept.send_text(&round.to_string());
        assert_eq!(kept.next_text(), round.to_string());
    }
    let turns = metric("shardcast_turns_total") - before;
    assert!(turns < 5_000.0, "{turns} turns for 200 messages: it spins");
    let durable = "POST /v1/channels/kept/events?ack=durable HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi";
    prlimit(4_096);
    for mut wire in waiting {
        wire.send(durable);
        assert_eq!(wire.answer().status, 202);
    }
}

fn channels_have_their_limits(cell: Cell) {
    let site = Site::with(cell, |config| config.limits.channels_max = 20);
    let channels: String = (0..17).map(|n| format!("channel=c{n}&")).collect();
    let answer = site.get(&format!("/v1/sse?{}", channels.trim_end_matches('&')));
    assert_eq!((answer.status, answer.code()), (400, "bad_parameter".to_owned()));
    let mut statuses = Vec::new();
    for channel in 0..60 {
        let answer = site.post(&format!("/v1/channels/n{channel}/events"), "text/plain", "x");
        if answer.status != 202 {
            let told = answer.json();
            assert_eq!(
                (answer.status, &told["rejections"][0]["code"]),
                (503, &json!("overloaded"))
            );
        }
        statuses.push(answer.status);
    }
    let accepted = statuses.iter().filter(|status| **status == 202).count();
    assert!((1..=20).contains(&accepted), "{accepted} channels of 20");
    assert_eq!(statuses[0], 202);
}

/// Starts a server that must refuse to start; gives its words.
fn refusal(plan: &Plan) -> String {
    let output = output(&mut plan.command());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "it ended with {}: {text}", output.status);
    text
}

fn a_second_server_is_refused_unless_it_may_share(cell: Cell) {
    let (first, second) = (tempfile::tempdir().expect("1"), tempfile::tempdir().expect("2"));
    let server = Plan::new(cell, first.path()).flag(&["--share-port"]).start();
    let text = refusal(&Plan::new(cell, first.path()));
    assert!(text.contains("data") && text.contains("another"), "{text}");
    let listen = server.address.to_string();
    let text = refusal(&Plan::new(cell, second.path()).flag(&["--listen", &listen]));
    assert!(text.contains("--share-port"), "{text}");
    let waits = text.find("waiting for it to get free").expect("it says that it waits");
    assert!(waits < text.find("--share-port").expect("and what to do"), "{text}");
    let admin = server.admin.to_string();
    let text = refusal(&Plan::new(cell, second.path()).flag(&["--admin-listen", &admin]));
    assert!(text.contains("--admin-listen"), "{text}");
    let shared = Plan::new(cell, second.path()).flag(&["--listen", &listen, "--share-port"]);
    let shared = shared.start();
    assert_eq!(shared.address, server.address);
    assert_eq!(shared.get("/health/live").status, 200);
}

fn what_is_unsafe_or_unknown_does_not_start(cell: Cell) {
    let folder = tempfile::tempdir().expect("a folder");
    let plan = || Plan::new(cell, folder.path());
    let text = refusal(&plan().flag(&["--listen", "0.0.0.0:0"]));
    assert!(text.contains("--allow-anonymous"), "{text}");
    let text = refusal(&plan().flag(&["--admin-listen", "0.0.0.0:0"]));
    assert!(text.contains("admin"), "{text}");
    let text = refusal(&plan().set("limits.head_bites_max=1"));
    assert!(text.contains("head_bites_max") && text.contains("head_bytes_max"), "{text}");
    let text = refusal(&plan().set("limits.message_bytes_max=0"));
    assert!(text.contains("limits.message_bytes_max"), "{text}");
    let text = refusal(&plan().flag(&["--tls-cert", "/nowhere.pem", "--tls-key", "/nowhere.pem"]));
    assert!(text.contains("/nowhere.pem"), "{text}");
    // A path that counts from a folder says from which.
    let here = std::env::current_dir().expect("a folder").join("nowhere.secret");
    let text = refusal(&plan().set("auth.hmac_secret_file=nowhere.secret"));
    assert!(text.contains(&*here.to_string_lossy()), "{text}");
    let open = plan().flag(&["--listen", "0.0.0.0:0", "--allow-anonymous"]).start();
    let address = format!("127.0.0.1:{}", open.address.port()).parse().expect("an address");
    assert_eq!(Wire::connect(address).get("/health/live").status, 200);
}

fn operators_see_what_they_need_and_pages_do_not(cell: Cell) {
    let site = Site::start(cell);
    let _socket = Socket::open(site.address(), "/v1/channels/seen/ws");
    site.wait_for_subscriptions(1);
    for path in ["/", "/metrics", "/debug/memory", "/debug/connections", "/health/ready"] {
        assert_eq!(site.admin_get(path).status, 200, "{path}");
        // Nothing of it is on the listener for clients.
        let outside = site.get(path);
        assert!(
            outside.status == 404 || path == "/" || path == "/health/ready",
            "{path}: {outside:?}"
        );
    }
    let memory = site.admin_get("/debug/memory").json();
    assert!(memory["process_resident_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{memory}");
    let connections = site.admin_get("/debug/connections").text();
    assert!(connections.contains("websocket"), "{connections}");
    let check = |request: &str, status: u16| {
        let mut wire = Wire::connect(site.admin());
        wire.send(request);
        assert_eq!(wire.answer().status, status, "{request}");
    };
    check("GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n", 404);
    check("GET /admin/drain HTTP/1.1\r\nHost: localhost\r\n\r\n", 405);
    check("GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421);
    check("GET /metrics HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\n\r\n", 403);
    let body = "{\"speed\":1}";
    let post = "POST /admin/drain HTTP/1.1\r\nHost: localhost\r\nContent-Length:";
    check(&format!("{post} {}\r\n\r\n{body}", body.len()), 400);
    check("GET /metrics HTTP/1.1\r\n\r\n", 400);
    assert_eq!(site.get("/health/ready").status, 200, "nothing of this started a drain");
}

fn what_happens_is_counted(cell: Cell) {
    let site = Site::start(cell);
    let mut sockets: Vec<Socket> =
        (0..2).map(|_| Socket::open(site.address(), "/v1/channels/c/ws?format=envelope")).collect();
    site.wait_for_subscriptions(2);
    let lines = "{\"data\":1}\nno json\n{\"data\":2}\n";
    assert_eq!(site.post("/v1/channels/c/events", "application/x-ndjson", lines).status, 202);
    assert_eq!(site.post("/v1/channels/c/events", "application/json", "{").status, 400);
    assert_eq!(site.get("/v1/nowhere").status, 404);
    for socket in &mut sockets {
        while !socket.next_text().contains("\"data\":2") {}
    }
    let position = site.publish("c", "x");
    let (epoch, _) = position.split_once(':').expect("a position");
    let path = format!("/v1/channels/c/ws?format=envelope&since={epoch}:1");
    let mut resumed = Socket::open(site.address(), &path);
    while !resumed.next_text().contains("\"x\"") {}
    for (series, least) in [
        ("shardcast_answers_total{class=\"2xx\"}", 2.0),
        ("shardcast_answers_total{class=\"4xx\"}", 2.0),
        ("shardcast_drops_total{reason=\"invalid\"}", 2.0),
        ("shardcast_resumed_events_total", 2.0),
        ("shardcast_frames_encoded_total", 3.0),
    ] {
        until(series, || site.metric(series) >= least);
    }
}

fn prometheus_reads_the_exposition(cell: Cell) {
    let site = Site::start(cell);
    let mut socket = Socket::open(site.address(), "/v1/channels/m/ws");
    site.wait_for_subscriptions(1);
    for _ in 0..10 {
        site.publish("m", "x");
        socket.next_text();
    }
    // Each shard publishes its own in its own time: one may have received what another sent.
    for counter in ["realtime_messages_sent_total", "realtime_messages_received_total"] {
        until(counter, || site.metric(counter) >= 10.0);
    }
    let mut python = client("metrics.py")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python3");
    let exposition = site.admin_get("/metrics").body;
    python.stdin.take().expect("piped").write_all(&exposition).expect("written");
    let parsed = python.wait_with_output().expect("parsed");
    assert!(parsed.status.success(), "{parsed:?}");
    let families: Value = serde_json::from_slice(&parsed.stdout).expect("JSON");
    let of = |name: &str, kind: &str| {
        let family = &families[name];
        assert_eq!(family["type"], json!(kind), "{name}: {family}");
        let samples = family["samples"].as_array().expect("samples").clone();
        for sample in &samples {
            assert_eq!(sample[1]["server"], json!("test"), "{name}");
        }
        samples
    };
    let sum = |samples: &[Value], name: &str| -> f64 {
        samples.iter().filter(|s| s[0] == name).filter_map(|s| s[2].as_f64()).sum()
    };
    assert_eq!(
        sum(&of("realtime_active_connections", "gauge"), "realtime_active_connections"),
        1.0
    );
    assert!(
        sum(&of("realtime_messages_received", "counter"), "realtime_messages_received_total")
            >= 10.0
    );
    assert!(sum(&of("realtime_messages_sent", "counter"), "realtime_messages_sent_total") >= 10.0);
    let latency = of("realtime_message_delivery_latency_ms", "histogram");
    let bounds: Vec<String> =
        latency.iter().filter_map(|s| s[1]["le"].as_str()).map(str::to_owned).collect();
    let expected = ["1", "5", "10", "25", "50", "100", "250", "500", "1000", "+Inf"];
    for bound in expected {
        let float = format!("{bound}.0");
        assert!(bounds.iter().any(|b| *b == bound || *b == float), "{bound}: {bounds:?}");
    }
    assert!(sum(&latency, "realtime_message_delivery_latency_ms_count") >= 10.0);
    assert!(sum(&of("process_open_fds", "gauge"), "process_open_fds") > 0.0);
}

fn the_ledger_adds_up_to_the_resident_set(cell: Cell) {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Process::start(cell, folder.path());
    let check = |when: &str| {
        let before = server.metric("shardcast_driver_events_total{event=\"enters\"");
        until("fresh snapshots", || {
            server.metric("shardcast_driver_events_total{event=\"enters\"") > before + 2.0
        });
        // What was freed a moment ago the allocator gives back a little later.
        until(&format!("the ledger to add up with {when}"), || {
            let memory = get_from(server.admin, "/debug/memory").json();
            let bytes =
                |member: &str| memory[member].as_i64().unwrap_or_else(|| panic!("{memory}"));
            let resident = bytes("process_resident_bytes");
            let unaccounted = bytes("unaccounted_bytes");
            // Stacks, the admin listener, what the allocator keeps: a part, and a bit for each
            // shard.
            let adds_up = unaccounted.abs() < resident / 4 + (i64::from(cell.shards) << 20);
            if !adds_up {
                eprintln!("{when}: {unaccounted} of {resident}; {memory:#}");
            }
            adds_up
        });
    };
    check("at rest");
    let sockets: Vec<_> = (0..2_000)
        .map(|at| Socket::open(server.address, &format!("/v1/channels/l{}/ws", at % 100)))
        .collect();
    until("the subscriptions", || server.metric("shardcast_subscriptions") >= 2_000.0);
    check("2,000 subscribers");
    let item = |at: usize| format!("{{\"id\":\"{at}\",\"data\":\"{}\"}}\n", "x".repeat(300));
    let body: String = (0..1_000).map(item).collect();
    for channel in 0..40 {
        let path = format!("/v1/channels/kept{channel}/events?ack=durable");
        let answer = server.post(&path, "application/x-ndjson", &body);
        assert_eq!(answer.status, 202, "{answer:?}");
    }
    check("40,000 events with ids");
    drop(sockets);
    until("their end", || server.metric("shardcast_subscriptions") == 0.0);
    check("without them");
}

fn a_reader_that_stopped_costs_the_kernel_little(cell: Cell) {
    let site = Site::with(cell, |config| config.limits.outbox_bytes_max = 64 << 20);
    let mut socket = Socket::open(site.address(), "/v1/channels/s/ws");
    site.wait_for_subscriptions(1);
    let line = format!("{{\"data\":\"{}\"}}\n", "x".repeat(10_000));
    // More than the reader's side of the kernel takes, until the socket is full.
    until("the reader to block", || {
        let answer = site.post("/v1/channels/s/events", "application/x-ndjson", line.repeat(50));
        assert_eq!(answer.status, 202, "{answer:?}");
        site.metric("shardcast_connections_blocked") >= 1.0
    });
    let held = send_queue(site.address().port(), socket.wire.port());
    assert!((1..512 << 10).contains(&held), "{held} bytes wait in the kernel");
    socket.send_text("still heard");
}

/// Bytes in the kernel's send queue from one local port to another.
fn send_queue(from: u16, to: u16) -> u64 {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("a table");
    let row = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut rows = row.filter(|row| {
        row[1].ends_with(&format!(":{from:04X}")) && row[2].ends_with(&format!(":{to:04X}"))
    });
    let row = rows.next().expect("the connection");
    let (queued, _) = row[4].split_once(':').expect("two queues");
    u64::from_str_radix(queued, 16).expect("hexadecimal")
}

fn a_drain_sends_500_clients_away_with_their_position(cell: Cell) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Plan::new(cell, folder.path()).set("drain_time_s=2").start();
    let mut sockets: Vec<_> =
        (0..500).map(|_| Socket::open(server.address, "/v1/channels/d/ws")).collect();
    let mut streams: Vec<_> =
        (0..20).map(|_| Stream::open(server.address, "channel=d", "")).collect();
    until("the subscriptions", || server.metric("shardcast_subscriptions") >= 520.0);
    let answer = server.post("/v1/channels/d/events", "text/plain", "last words").json();
    let position = answer["positions"][0]["position"].as_str().expect("a position").to_owned();
    for socket in &mut sockets {
        assert_eq!(socket.next_text(), "last words");
    }
    server.terminate();
    for socket in sockets {
        assert_eq!(socket.closed(), (3001, format!("shutdown; position={position}")));
    }
    for stream in &mut streams {
        assert!(stream.retry_ms.is_none());
        while stream.next().is_some() {}
        assert_eq!(stream.last_id, position);
        assert!(stream.retry_ms.is_some());
    }
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    // And the position is good on the next server.
    let server = Plan::new(cell, folder.path()).start();
    let path = format!("/v1/channels/d/ws?format=envelope&since={position}");
    let mut socket = Socket::open(server.address, &path);
    assert!(socket.next_text().contains("\"recovered\""));
}

fn a_drain_answers_what_is_in_flight(cell: Cell) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Plan::new(cell, folder.path()).set("drain_time_s=20").start();
    let line = format!("{{\"data\":\"{}\"}}\n", "x".repeat(1_000));
    for _ in 0..20 {
        let path = "/v1/channels/h/events?ack=durable";
        let answer = server.post(path, "application/x-ndjson", line.repeat(1_000));
        assert_eq!(answer.status, 202, "{answer:?}");
    }
    // A body of which half has come, over both versions, and a long answer that is read slowly.
    let mut half = server.wire();
    half.send(
        "POST /v1/channels/half/events?ack=durable HTTP/1.1\r\nHost: localhost\r\n\
         Content-Type: text/plain\r\nContent-Length: 4\r\n\r\nab",
    );
    let url = server.url("/v1/channels/half/events?ack=durable");
    let mut streamed = Command::new("curl");
    streamed.args(["-sS", "--http2-prior-knowledge", "-X", "POST", "-T", "-", &url]);
    streamed.args(["-H", "Content-Type: text/plain", "--max-time", "60", "-w", " %{http_code}"]);
    let piped = || Stdio::piped();
    let mut streamed = streamed.stdin(piped()).stdout(piped()).spawn().expect("curl");
    let mut body = streamed.stdin.take().expect("piped");
    body.write_all(b"cd").expect("curl reads");
    body.flush().expect("curl reads");
    let mut slow = Wire::connect_narrow(server.address);
    slow.send("GET /v1/history?channel=h&limit=100000 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(slow.head().status, 200);
    until("the requests", || server.metric("shardcast_requests_total") >= 23.0);
    server.terminate();
    until("the drain to begin", || server.log().contains("draining"));
    // A shard without connections stays as long as the others need it: each goes on turning.
    for shard in 0..cell.shards {
        let turns = format!("shardcast_driver_events_total{{event=\"enters\",shard=\"{shard}\"}}");
        let before = server.metric(&turns);
        until("the shard to turn", || server.metric(&turns) >= before + 20.0);
    }
    half.send("cd");
    let answer = half.answer();
    assert_eq!((answer.status, answer.json()["accepted"].clone()), (202, json!(1)));
    body.write_all(b"ef").expect("curl reads");
    drop(body);
    let told = streamed.wait_with_output().expect("curl ends");
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains("\"accepted\":1") && told.ends_with(" 202"), "{told}");
    let mut history = Vec::new();
    loop {
        let size = String::from_utf8(slow.through(b"\r\n")).expect("a chunk size");
        let size = usize::from_str_radix(size.trim_end(), 16).expect("a chunk size");
        history.extend(slow.exactly(size));
        slow.exactly(2);
        if size == 0 {
            break;
        }
    }
    let history: Value = serde_json::from_slice(&history).expect("JSON");
    assert_eq!(history["events"].as_array().map(Vec::len), Some(20_000));
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
}

fn the_admin_listener_can_begin_a_drain(cell: Cell) {
    let site = Site::start(cell);
    let mut socket = Socket::open(site.address(), "/v1/channels/d/ws");
    socket.send_text("x");
    assert_eq!(socket.next_text(), "x");
    let mut admin = Wire::connect(site.admin());
    let answer = admin.post("/admin/drain", "application/json", b"{\"rate\":1000}");
    assert_eq!((answer.status, answer.json()["draining"].clone()), (202, json!(true)));
    assert_eq!(admin.post("/admin/drain", "application/json", b"").status, 200);
    assert_eq!(socket.closed().0, 3001);
    assert_eq!(admin.get("/health/ready").status, 503);
}

#[test]
fn without_io_uring_it_runs_on_epoll_and_says_why() {
    const EPERM: i32 = 1;
    const ENOMEM: i32 = 12;
    const ENOSYS: i32 = 38;
    for errno in [EPERM, ENOMEM, ENOSYS] {
        let folder = tempfile::tempdir().expect("a folder");
        let script = clients().join("without_io_uring.py").display().to_string();
        let wrapper = ["python3", &script, &errno.to_string()];
        let plan = |engine| {
            let plan = Plan::new(Cell::URING_1, folder.path());
            plan.wrapper(&wrapper).flag(&["--engine", engine])
        };
        let server = plan("auto").start();
        let mut socket = Socket::open(server.address, "/v1/channels/e/ws");
        socket.send_text("hello");
        assert_eq!(socket.next_text(), "hello");
        let log = server.log();
        assert!(log.contains("io_uring is not available; running on epoll"), "{log}");
        assert!(log.contains("remedy="), "{log}");
        assert_eq!(server.metric("shardcast_info{engine=\"epoll\"}"), 1.0);
        drop(server);
        let text = refusal(&plan("uring"));
        assert!(text.contains("--engine auto"), "{text}");
    }
}

/// `tail` and `publish`, the program's own clients.
fn the_programs_own_clients_work(cell: Cell) {
    let site = Site::start(cell);
    let url = site.url("");
    let program = |words: &[&str]| {
        let mut command = Command::new(crate::rig::process::PROGRAM);
        command.args(words).args(["--url", &url]);
        command
    };
    let mut tail = Watch::start(&mut program(&["tail", "cli"]));
    site.wait_for_subscriptions(1);
    let mut socket = Socket::open(site.address(), "/v1/channels/cli/ws");
    site.wait_for_subscriptions(2);
    let told = crate::rig::child::run(&mut program(&["publish", "cli", "hello", "world"]));
    assert!(told.contains("\"accepted\":2"), "{told}");
    let mut seen = String::new();
    while !seen.contains("world") {
        seen.push_str(&tail.line());
    }
    assert!(seen.contains("hello"), "{seen}");
    assert_eq!([socket.next_text(), socket.next_text()], ["hello", "world"]);
}

cells!(
    a_drain_answers_what_is_in_flight,
    a_drain_sends_500_clients_away_with_their_position,
    a_reader_that_stopped_costs_the_kernel_little,
    a_second_server_is_refused_unless_it_may_share,
    channels_have_their_limits,
    connections_over_the_cap_are_refused_and_places_come_back,
    operators_see_what_they_need_and_pages_do_not,
    out_of_descriptors_it_waits_without_spinning_and_recovers,
    prometheus_reads_the_exposition,
    the_admin_listener_can_begin_a_drain,
    the_ledger_adds_up_to_the_resident_set,
    the_programs_own_clients_work,
    what_happens_is_counted,
    what_is_unsafe_or_unknown_does_not_start,
);
