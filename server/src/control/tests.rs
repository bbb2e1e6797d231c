use super::port::DrainOrder;
use super::*;

/// A server that has stored nothing.
struct NoStorage;

impl StorageView for NoStorage {
    fn read(&self) -> StorageSnapshot {
        StorageSnapshot::default()
    }
}
use crate::config::budget::Facts;
use crate::config::ledger::{HOLDERS, Holder};
use crate::driver::Waker;
use crate::metrics::cost::CostWatch;
use crate::shard::ConnectionReport;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Records what was ordered; the first order starts the drain.
#[derive(Default)]
struct Orders(Mutex<Vec<DrainOrder>>);

impl Operator for Orders {
    fn drain(&self, order: DrainOrder) -> bool {
        let mut orders = self.0.lock().unwrap();
        orders.push(order);
        orders.len() == 1
    }
}

struct Rig {
    server: AdminServer,
    context: Context,
    orders: Arc<Orders>,
}

fn context(orders: Arc<Orders>) -> Context {
    let config = Config::default();
    let facts = Facts { shards: 2, descriptors: 20_000, memory_bytes: 8 << 30 };
    let budget = Budget::derive(&config, facts).unwrap();
    let watch = CostWatch::new(config.cost.clone(), None, config.limits.heartbeat_s, false);
    let shard = || ShardHandle { snapshot: Arc::default(), port: Arc::new(ControlPort::default()) };
    Context {
        admin: AdminAccess::default(),
        config: Arc::new(config),
        budget: Arc::new(budget),
        shards: vec![shard(), shard()],
        storage: Arc::new(NoStorage),
        readiness: Arc::default(),
        cost: SharedWatch::new(watch),
        operator: orders,
    }
}

fn rig() -> Rig {
    let orders = Arc::new(Orders::default());
    let context = context(orders.clone());
    let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let server = AdminServer::start(context.clone(), listener).unwrap();
    Rig { server, context, orders }
}

impl Rig {
    /// Sends bytes, reads to the end: status and body.
    fn raw(&self, request: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.server.address()).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap_or("0").parse().unwrap();
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (status, body.to_owned())
    }

    fn request(&self, line: &str, headers: &str, body: &str) -> (u16, String) {
        self.raw(&format!(
            "{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    }

    fn json(&self, line: &str, body: &str) -> (u16, Value) {
        let (status, body) = self.request(line, "", body);
        (status, serde_json::from_str(&body).unwrap_or_else(|_| panic!("{line}: {body}")))
    }
}

#[test]
fn metrics_come_from_the_snapshots() {
    let rig = rig();
    let mut snapshot = ShardSnapshot::default();
    snapshot.gauges.connections = 3;
    rig.context.shards[0].snapshot.publish(&snapshot);
    rig.context.shards[1].snapshot.publish(&snapshot);
    let (status, text) = rig.request("GET /metrics", "", "");
    assert_eq!(status, 200);
    let line = text.lines().find(|line| line.starts_with("realtime_active_connections"));
    assert!(line.unwrap().ends_with(" 6"), "{line:?}");
    assert!(text.contains("shardcast_ready{"));
}

#[test]
fn readiness_is_said_and_liveness_does_not_depend_on_it() {
    let rig = rig();
    let check = |state, status, reason: &str| {
        rig.context.readiness.advance(state);
        let (got, body) = rig.json("GET /health/ready", "");
        assert_eq!(got, status, "{state:?}");
        assert!(body["status"].as_str().unwrap().starts_with(reason), "{body}");
        assert_eq!(rig.json("GET /health/live", "").0, 200);
    };
    check(State::Starting, 503, "starting");
    check(State::Ready, 200, "ready");
    check(State::Draining, 503, "draining");
    check(State::StorageFailed, 503, "the spool failed");
}

#[test]
fn memory_shows_every_holder_beside_its_plan_and_what_is_not_accounted_for() {
    let rig = rig();
    let mut snapshot = ShardSnapshot::default();
    snapshot.ledger.set(Holder::Outboxes, 1_000);
    snapshot.ledger.set(Holder::KernelSockets, 7);
    rig.context.shards[1].snapshot.publish(&snapshot);
    let (status, body) = rig.json("GET /debug/memory", "");
    assert_eq!(status, 200);
    for row in HOLDERS {
        let holder = &body["shards"][1]["holders"][row.name];
        assert!(holder["planned_bytes"].is_u64(), "{}: {holder}", row.name);
    }
    assert_eq!(body["shards"][1]["holders"]["outboxes"]["bytes"], 1_000);
    let bytes = |pointer: &str| body.pointer(pointer).and_then(Value::as_i64).unwrap();
    let once = bytes("/process/program/bytes") + bytes("/process/spool_writer/bytes");
    assert!(bytes("/process/program/bytes") > 0);
    assert_eq!(bytes("/ledger_bytes"), once + 1_000);
    assert_eq!(
        bytes("/unaccounted_bytes"),
        bytes("/process_resident_bytes") - bytes("/ledger_bytes")
    );
}

fn report(queued_bytes: u64) -> ConnectionReport {
    ConnectionReport {
        id: "1.2".into(),
        peer: Some("127.0.0.1:5".parse().unwrap()),
        protocol: "websocket",
        channels: vec!["a".into()],
        queued_bytes,
        queued_events: 1,
        blocked_ms: Some(5),
        age_ms: 9,
        silent_ms: 3,
        sent_bytes: 2,
        dropped_events: 0,
        why: "the socket is full",
    }
}

/// Stands for a shard: answers when it is woken.
struct Answering(Mutex<Option<Arc<ControlPort>>>, u64);

impl Waker for Answering {
    fn wake(&self) {
        let port = self.0.lock().unwrap().clone().unwrap();
        while let Some(ControlCommand::Connections { limit, reply }) = port.take() {
            reply.send((0..limit as u64).map(|n| report(self.1 + n)).collect());
        }
    }
}

#[test]
fn the_slowest_connections_of_all_shards_come_first_and_a_silent_shard_is_named() {
    let rig = rig();
    let port = rig.context.shards[0].port.clone();
    port.attach(Arc::new(Answering(Mutex::new(Some(port.clone())), 100)));
    // Shard 1 has room for no more questions and never turns.
    while rig.context.shards[1]
        .port
        .send(ControlCommand::Connections { limit: 1, reply: Reply::channel().0 })
        .is_ok()
    {}
    let (status, body) = rig.json("GET /debug/connections?limit=2", "");
    assert_eq!(status, 200);
    let queued: Vec<_> =
        body["connections"].as_array().unwrap().iter().map(|c| &c["queued_bytes"]).collect();
    assert_eq!(queued, [101, 100]);
    assert_eq!(body["connections"][0]["shard"], 0);
    assert_eq!(body["connections"][0]["why"], "the socket is full");
    assert_eq!(body["shards_without_answer"], serde_json::json!([1]));
}

#[test]
fn a_shard_that_drops_the_question_is_named_at_once() {
    let rig = rig();
    struct Dropping(Mutex<Option<Arc<ControlPort>>>);
    impl Waker for Dropping {
        fn wake(&self) {
            drop(self.0.lock().unwrap().clone().unwrap().take());
        }
    }
    for shard in &rig.context.shards {
        shard.port.attach(Arc::new(Dropping(Mutex::new(Some(shard.port.clone())))));
    }
    let (status, body) = rig.json("GET /debug/connections", "");
    assert_eq!((status, &body["shards_without_answer"]), (200, &serde_json::json!([0, 1])));
}

#[test]
fn a_drain_is_ordered_with_its_rate_and_says_what_remains() {
    let rig = rig();
    let mut snapshot = ShardSnapshot::default();
    snapshot.gauges.connections = 40;
    rig.context.shards[0].snapshot.publish(&snapshot);
    let (status, body) = rig.json("POST /admin/drain", "{\"rate\": 500}");
    assert_eq!((status, &body["remaining"], &body["started"]), (202, &40.into(), &true.into()));
    let (status, body) = rig.json("POST /admin/drain", "");
    assert_eq!((status, &body["started"]), (200, &false.into()));
    let orders = rig.orders.0.lock().unwrap();
    let rates: Vec<_> = orders.iter().map(|order| order.rate_per_s).collect();
    assert_eq!(rates, [Some(500), None]);
}

#[test]
fn bad_requests_get_a_json_error_that_names_the_fault_and_order_nothing() {
    let rig = rig();
    let check = |line: &str, body: &str, status: u16, message: &str| {
        let (got, answer) = rig.json(line, body);
        assert_eq!(got, status, "{line} {body}: {answer}");
        let text = answer["error"]["message"].as_str().unwrap();
        assert!(text.contains(message), "{line} {body}: {text:?} lacks {message:?}");
    };
    check("GET /nothing", "", 404, "/nothing");
    check("GET /metrics/", "", 404, "/metrics/");
    check("POST /metrics", "", 405, "POST");
    check("GET /admin/drain", "", 405, "GET");
    check("GET /debug/connections?limit=0", "", 400, "`limit`");
    check("GET /debug/connections?limit=x", "", 400, "limit");
    check("GET /debug/connections?top=1", "", 400, "top");
    check("POST /admin/drain", "{\"rate\":0}", 400, "`rate`");
    check("POST /admin/drain", "{\"speed\":1}", 400, "speed");
    check("POST /admin/drain", "{\"rate\":-1}", 400, "rate");
    check("POST /admin/drain", "nonsense", 400, "rate");
    check("POST /admin/drain", &"x".repeat(20_000), 413, "length limit");
    assert!(rig.orders.0.lock().unwrap().is_empty());
}

#[test]
fn other_names_and_origins_get_nothing() {
    let rig = rig();
    let check = |headers: &str, expected: u16| {
        let request = format!("POST /admin/drain HTTP/1.1\r\nConnection: close\r\n{headers}\r\n");
        let (status, body) = rig.raw(&request);
        assert_eq!(status, expected, "{headers:?}: {body}");
    };
    check("Host: evil.example\r\n", 421);
    check("Host: evil.example:9000\r\n", 421);
    check("Host: 127.0.0.1.evil.example\r\n", 421);
    check("", 400);
    check("Host: localhost\r\nHost: evil.example\r\n", 400);
    check("Host: localhost\r\nOrigin: https://evil.example\r\n", 403);
    check("Host: localhost\r\nOrigin: null\r\n", 403);
    assert!(rig.orders.0.lock().unwrap().is_empty());
    check("Host: 127.0.0.1:9000\r\nOrigin: http://localhost:5173\r\n", 202);
    check("Host: [::1]\r\n", 200);
    // The request target may carry a name too.
    let request =
        "GET http://evil.example/metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_eq!(rig.raw(request).0, 421);
}

#[test]
fn an_oversized_head_is_refused() {
    let rig = rig();
    assert_eq!(rig.request("GET /metrics", &format!("X: {}\r\n", "x".repeat(20_000)), "").0, 431);
    assert_eq!(rig.request("GET /metrics", &"X: y\r\n".repeat(100), "").0, 431);
}

#[test]
fn a_taken_address_is_an_error_with_a_remedy() {
    let rig = rig();
    let error = bind(rig.server.address()).unwrap_err().to_string();
    assert!(error.contains("--admin-listen"), "{error}");
}

/// A connection over a pipe under the paused clock: what the server sent until it closed, and how
/// many virtual seconds that took.
async fn until_closed(sent: &str) -> (String, u64) {
    let router = routes::router(context(Arc::new(Orders::default())));
    let (mut client, server) = tokio::io::duplex(64 << 10);
    let start = tokio::time::Instant::now();
    let serving = tokio::spawn(listener::serve(server, router));
    client.write_all(sent.as_bytes()).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    let elapsed = start.elapsed().as_secs();
    serving.await.unwrap();
    (answer, elapsed)
}

#[tokio::test(start_paused = true)]
async fn slowloris_is_cut_off_at_every_stage() {
    let head = listener::HEAD_TIMEOUT.as_secs();
    let (_, elapsed) = until_closed("").await;
    assert_eq!(elapsed, head, "nothing sent");
    let (_, elapsed) = until_closed("GET /metrics HTTP/1.1\r\nHost: loc").await;
    assert_eq!(elapsed, head, "half a head");
    let (answer, elapsed) =
        until_closed("POST /admin/drain HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
            .await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(elapsed <= routes::REQUEST_TIMEOUT.as_secs() + head, "half a body: {elapsed} s");
    let (answer, elapsed) =
        until_closed("GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(elapsed, head, "idle after an answer");
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_reads_nothing_is_cut_off() {
    let router = routes::router(context(Arc::new(Orders::default())));
    // So small that the answer never fits.
    let (mut client, server) = tokio::io::duplex(128);
    let start = tokio::time::Instant::now();
    let serving = tokio::spawn(listener::serve(server, router));
    client.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    serving.await.unwrap();
    let life = listener::CONNECTION_LIFE + listener::CONNECTION_GRACE;
    assert_eq!(start.elapsed().as_secs(), life.as_secs());
}
