//! The supervisor's voice: the status when it changes, the figures every second, as events of the
//! server it supervises. While that is away nothing is said; the newest is said when it is back.

use super::clients::report::Report;
use super::http::Http;
use super::server::OUTBOX_BYTES_MAX;
use super::status::{Peer, Queue, Stats, deliveries_per_s, milliseconds};
use super::{SLOW_BYTES_PER_S, Shared, lock};
use serde::Serialize;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What the admin listener says, as far as it is needed.
#[derive(Debug, Clone, PartialEq, Default)]
struct Scrape {
    /// Connections that are open.
    pub connections: u64,
    /// Resident set of the server.
    pub resident_bytes: u64,
    /// What the server's ledger counts for connections: their state, and what waits for them.
    pub ledger_bytes: u64,
    /// The engine.
    pub engine: String,
    /// How many shards.
    pub shards: u32,
}

/// Speaks until the process ends.
pub fn speak(shared: &Arc<Shared>, server: SocketAddr, admin: SocketAddr) {
    let (mut server, mut admin) = (Http::new(server), Http::new(admin));
    let (mut said, mut said_at) = (0, Instant::now());
    let (mut earlier, mut figures_at) = (Report::default(), Instant::now());
    loop {
        std::thread::sleep(TICK);
        let (version, status) = shared.status();
        let due = version != said || said_at.elapsed() >= REPEAT;
        if due && post(&mut server, "demo:status", &status) {
            (said, said_at) = (version, Instant::now());
        }
        let elapsed = figures_at.elapsed();
        if elapsed < SECOND {
            continue;
        }
        figures_at = Instant::now();
        let report = lock(&shared.report).clone();
        let rate = deliveries_per_s(&earlier, &report, elapsed.as_secs_f64());
        earlier = report.clone();
        if let Ok(stats) = figures(shared, &mut admin, &report, rate) {
            post(&mut server, "demo:stats", &stats);
        }
    }
}

fn figures(shared: &Shared, admin: &mut Http, report: &Report, rate: u64) -> Result<Stats, String> {
    let scrape = scrape(admin)?;
    let connections = admin.get("/debug/connections?limit=100")?.body;
    let connections: Value = serde_json::from_str(&connections).map_err(|e| e.to_string())?;
    let tops = lock(&shared.acked).tops();
    let channel = &report.fast.channel;
    let top = tops.get(channel.as_str()).copied().unwrap_or(0);
    let peer = |report| Peer::new(report, top, queue_of(&connections, report.address.as_deref()));
    Ok(Stats {
        connections: scrape.connections,
        connection_bytes: scrape.ledger_bytes.checked_div(scrape.connections),
        resident_bytes: scrape.resident_bytes,
        deliveries_per_s: rate,
        p50_ms: report.latency.p50_us.map(milliseconds),
        p99_ms: report.latency.p99_us.map(milliseconds),
        lost: report.totals.lost,
        doubled: report.totals.doubled,
        engine: scrape.engine,
        shards: scrape.shards,
        outbox_bytes_max: OUTBOX_BYTES_MAX,
        slow_bytes_per_s: SLOW_BYTES_PER_S,
        fast: peer(&report.fast),
        slow: peer(&report.slow),
    })
}

/// Asks the admin listener.
fn scrape(admin: &mut Http) -> Result<Scrape, String> {
    Ok(parse_metrics(&admin.get("/metrics")?.body))
}

fn parse_metrics(text: &str) -> Scrape {
    let mut scrape = Scrape::default();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let value = value.parse::<f64>().unwrap_or(0.0) as u64;
        match name {
            "realtime_active_connections" => scrape.connections = value,
            "process_resident_memory_bytes" => scrape.resident_bytes = value,
            "shardcast_memory_bytes" if OF_CONNECTIONS.contains(&label(labels, "holder")) => {
                scrape.ledger_bytes += value;
            }
            "shardcast_info" => {
                scrape.engine = label(labels, "engine").to_owned();
                scrape.shards += 1;
            }
            _ => {}
        }
    }
    scrape
}

fn label<'a>(labels: &'a str, name: &str) -> &'a str {
    let mut rest = labels;
    while let Some((key, after)) = rest.split_once("=\"") {
        let Some((value, next)) = after.split_once('"') else { break };
        if key.trim_start_matches(',') == name {
            return value;
        }
        rest = next;
    }
    ""
}

fn queue_of(connections: &Value, address: Option<&str>) -> Queue {
    let all = connections["connections"].as_array().map(Vec::as_slice).unwrap_or_default();
    let own = all.iter().find(|entry| entry["peer"].as_str() == address && address.is_some());
    // The list has the slowest first: who is not in it has nothing waiting.
    let number = |name: &str| own.and_then(|entry| entry[name].as_u64()).unwrap_or(0);
    Queue {
        bytes: number("queued_bytes"),
        events: number("queued_events"),
        dropped: number("dropped_events"),
    }
}

#[derive(Serialize)]
struct Dated<'a, T> {
    t: f64,
    #[serde(flatten)]
    what: &'a T,
}

fn post<T: Serialize>(http: &mut Http, channel: &str, what: &T) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let data = Dated { t: now.as_millis() as f64, what };
    let body = json!({ "type": "demo", "data": data }).to_string();
    let target = format!("/v1/channels/{channel}/events");
    http.post(&target, "application/json", body.as_bytes()).is_ok_and(|answer| answer.status == 202)
}

/// Holders in user memory that grow with connections.
const OF_CONNECTIONS: [&str; 4] = ["connections", "outboxes", "frames", "partial_input"];
const TICK: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);
/// A page that comes late finds the status among the newest events.
const REPEAT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_read_as_they_are_exposed() {
        let text = "# HELP realtime_active_connections x\n\
            realtime_active_connections{server=\"a\"} 5003\n\
            process_resident_memory_bytes{server=\"a\"} 3e7\n\
            shardcast_memory_bytes{server=\"a\",holder=\"connections\",shard=\"0\"} 1000\n\
            shardcast_memory_bytes{server=\"a\",holder=\"outboxes\",shard=\"1\"} 20\n\
            shardcast_memory_bytes{server=\"a\",holder=\"receive_buffers\",shard=\"1\"} 9\n\
            shardcast_info{server=\"a\",version=\"0\",engine=\"uring\",shard=\"0\"} 1\n\
            shardcast_info{server=\"a\",version=\"0\",engine=\"uring\",shard=\"1\"} 1\n";
        let expected = Scrape {
            connections: 5_003,
            resident_bytes: 30_000_000,
            ledger_bytes: 1_020,
            engine: "uring".to_owned(),
            shards: 2,
        };
        assert_eq!(parse_metrics(text), expected);
        assert_eq!(parse_metrics("nonsense\n{\n"), Scrape::default());
    }

    #[test]
    fn a_connection_is_known_by_its_address() {
        let list = json!({ "connections": [
            { "peer": "127.0.0.2:5", "queued_bytes": 7, "queued_events": 2, "dropped_events": 1 },
            { "peer": null, "queued_bytes": 9 },
        ]});
        let slow = Queue { bytes: 7, events: 2, dropped: 1 };
        assert_eq!(queue_of(&list, Some("127.0.0.2:5")), slow);
        assert_eq!(queue_of(&list, Some("127.0.0.2:6")), Queue::default());
        assert_eq!(queue_of(&list, None), Queue::default());
        assert_eq!(queue_of(&json!({}), Some("x")), Queue::default());
    }
}
