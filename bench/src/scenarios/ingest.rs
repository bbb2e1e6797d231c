//! What an ingested event costs the whole server process, threads of the spool included, with the
//! spool on: over HTTP/2, one event per request, and NDJSON of 1,000 events per request.
//!
//! Events are lines of 300 bytes over several channels, without ids (the server makes them) unless
//! asked for. The figure is events per CPU-second, so it does not depend on who was saturated; wall
//! time stands beside it. Both acknowledgements are run in turns on one server: they are the sides.

use super::{Common, Meter, Used};
use crate::http2::{self, Answers, Load};
use crate::machine;
use crate::process::cpu_by_thread;
use crate::results::goals::{Against, Goal};
use crate::results::text::count;
use crate::results::{OURS, Outcome, SideInfo};
use crate::server_child::ServerChild;
use anyhow::{Context, Result};
use bytes::Bytes;
use clap::Args;
use std::sync::Arc;

/// The measure that is compared.
pub const RATE: &str = "events per CPU-second";
/// The same of time that passed.
pub const WALL: &str = "events per second";
/// Of NDJSON in events of [`EVENT_BYTES`]; the aim is a million.
pub const BATCH_GOAL: f64 = 700_000.0;
/// Bytes of a batch's event.
pub const EVENT_BYTES: usize = 300;

const DURABLE: &str = "shardcast durable";

/// Acknowledgements, and the sides that wait for them.
const ACKS: [(&str, &str); 2] = [(OURS, "accepted"), (DURABLE, "durable")];

/// Flags of one event per request.
#[derive(Debug, Clone, Args)]
pub struct SingleArgs {
    /// Requests in each block.
    #[arg(long, default_value_t = 40_000)]
    requests: u64,
    /// Requests under way at a time.
    #[arg(long, default_value_t = 100)]
    streams: usize,
}

/// Flags of batches.
#[derive(Debug, Clone, Args)]
pub struct BatchArgs {
    /// Requests in each block.
    #[arg(long, default_value_t = 300)]
    requests: u64,
    /// Events per request.
    #[arg(long, default_value_t = 1_000)]
    events: usize,
    /// Bytes of an event's line.
    #[arg(long, default_value_t = EVENT_BYTES)]
    event_bytes: usize,
    /// Requests under way at a time.
    #[arg(long, default_value_t = 8)]
    streams: usize,
    /// Channels that the events go to in turn.
    #[arg(long, default_value_t = 16)]
    channels: usize,
    /// Each event has an id of its own, so that the dedupe window is at work.
    #[arg(long)]
    ids: bool,
}

impl SingleArgs {
    /// For `all`.
    pub fn sized() -> Self {
        Self { requests: 40_000, streams: 100 }
    }
}

impl BatchArgs {
    /// For `all`.
    pub fn sized() -> Self {
        Self::of(300, 1_000)
    }

    /// So many requests of so many events, the rest as by default.
    pub fn of(requests: u64, events: usize) -> Self {
        Self { requests, events, event_bytes: EVENT_BYTES, streams: 8, channels: 16, ids: false }
    }
}

/// Runs one event per request.
pub fn single(common: &Common, args: &SingleArgs) -> Result<()> {
    let requests = if common.quick { args.requests.min(500) } else { args.requests };
    let mut outcome = Outcome::new(
        "ingest-single",
        format!("ingest: one event of 200 bytes per request, {} streams", args.streams),
        "HTTP/2 over one connection, spool on, CPU of the whole server process.",
        machine::look(common),
    );
    measure(common, &mut outcome, |ack, _| single_load(ack, requests, args.streams))?;
    outcome.notes.push("what others need for the same requests: `bench ingest-peers`".to_owned());
    super::publish(common, &outcome)
}

/// Runs batches.
pub fn batch(common: &Common, args: &BatchArgs) -> Result<()> {
    let requests = if common.quick { args.requests.min(5) } else { args.requests };
    let args = &BatchArgs { requests, ..args.clone() };
    let mut outcome = Outcome::new(
        if args.ids { "ingest-batch-ids" } else { "ingest-batch" },
        format!(
            "ingest: NDJSON of {} events of {} bytes {}, {} channels",
            count(args.events as u64),
            args.event_bytes,
            if args.ids { "with ids" } else { "without ids" },
            args.channels
        ),
        "HTTP/2 over one connection, spool on, CPU of the whole server process.",
        machine::look(common),
    );
    measure(common, &mut outcome, |ack, block| batch_load(args, ack, block))?;
    if args.event_bytes == EVENT_BYTES {
        outcome.goals.push(Goal::at_least(RATE, Against::Itself, BATCH_GOAL));
    }
    super::publish(common, &outcome)
}

/// Requests of one event each.
pub fn single_load(ack: &str, requests: u64, streams: usize) -> Load {
    let body = format!("{{\"type\":\"order\",\"data\":{}}}", data(200));
    Load {
        path: format!("/v1/channels/orders/events?ack={ack}"),
        content_type: "application/json",
        bodies: Arc::new(vec![Bytes::from(body)]),
        requests,
        streams,
        events_each: 1,
    }
}

/// Requests of NDJSON.
pub fn batch_load(args: &BatchArgs, ack: &str, block: usize) -> Load {
    // With ids every body is used once, or all but the first would be duplicates.
    let bodies = if args.ids { args.requests as usize } else { 1 };
    let bodies = (0..bodies).map(|body| ndjson(args, &format!("{ack}{block}-{body}")));
    Load {
        path: format!("/v1/events?ack={ack}"),
        content_type: "application/x-ndjson",
        bodies: Arc::new(bodies.collect()),
        requests: args.requests,
        streams: args.streams,
        events_each: args.events as u64,
    }
}

/// Blocks of both acknowledgements in turns, on one server.
fn measure(
    common: &Common,
    outcome: &mut Outcome,
    make: impl Fn(&str, usize) -> Load,
) -> Result<()> {
    // The load comes from this process.
    machine::on_core(common.client_core, || {
        let scratch = common.scratch()?;
        let server = ServerChild::start(common, &scratch.path().join("data"), &[])?;
        let warm = make(ACKS[0].1, usize::MAX);
        let warm = Load { requests: warm.requests.div_ceil(10), ..warm };
        http2::send(server.address, &warm).with_context(|| server.log_tail())?;
        let mut used = [Used::default(); 2];
        let mut sums = [Answers::default(); 2];
        let threads = Threads::start(server.pid());
        for round in 0..common.rounds(11) {
            for turn in 0..ACKS.len() {
                let at = (round + turn) % ACKS.len();
                let load = make(ACKS[at].1, round);
                let meter = Meter::start(server.pid(), std::process::id());
                let sent = http2::send(server.address, &load);
                let answers = sent.with_context(|| server.log_tail())?;
                let took = meter.stop();
                record(outcome, at, answers.accepted, took);
                used[at].add(took);
                sums[at].add(answers);
            }
        }
        outcome.compare(&[RATE]);
        for (at, (name, ack)) in ACKS.into_iter().enumerate() {
            outcome.sides.push(SideInfo {
                name: name.to_owned(),
                version: version(common, &format!("ack={ack}")),
                integrity: sums[at].integrity(),
                saturation: used[at].saturation(),
            });
        }
        outcome.notes.push(format!("CPU of both sides by thread: {}", threads.shares()));
        Ok(())
    })
}

/// What a block gave.
pub fn record(outcome: &mut Outcome, at: usize, events: u64, took: Used) {
    let rate = |ns: u64| events as f64 * 1e9 / ns.max(1) as f64;
    outcome.record(at, RATE, "1/s", 0, rate(took.server_ns));
    outcome.record(at, WALL, "1/s", 0, rate(took.wall_ns));
}

/// What our server is, and how it is asked.
pub fn version(common: &Common, how: &str) -> String {
    format!("{}, engine {}, {how}", common.server_version(), common.engine.name())
}

/// Which threads of a process do the work.
#[derive(Debug)]
pub struct Threads {
    pid: u32,
    before: Vec<(String, u64)>,
}

impl Threads {
    /// From now on.
    pub fn start(pid: u32) -> Self {
        Self { pid, before: cpu_by_thread(pid) }
    }

    /// The share of each thread name, those below one percent left out.
    pub fn shares(&self) -> String {
        let used = cpu_by_thread(self.pid).into_iter().map(|(name, ns)| {
            let before = self.before.iter().find(|(known, _)| *known == name);
            (name, ns.saturating_sub(before.map_or(0, |(_, ns)| *ns)))
        });
        let used: Vec<(String, u64)> = used.collect();
        let all = used.iter().map(|(_, ns)| ns).sum::<u64>().max(1);
        let shares = used.iter().map(|(name, ns)| (name, ns * 100 / all));
        let said = shares.filter(|(_, percent)| *percent > 0);
        let said: Vec<String> = said.map(|(name, percent)| format!("{name} {percent} %")).collect();
        said.join(", ")
    }
}

/// JSON of about so many bytes that looks like an event.
fn data(bytes: usize) -> String {
    let mut text = String::from(
        "{\"order\":184467,\"customer\":\"c-20931\",\"total\":129.90,\"currency\":\"EUR\",\
         \"items\":[{\"sku\":\"A-17\",\"count\":2},{\"sku\":\"B-4\",\"count\":1}],\"note\":\"",
    );
    let rest = bytes.saturating_sub(text.len() + 2);
    text.extend(
        std::iter::repeat_n("lorem ipsum ", rest.div_ceil(12)).flat_map(str::chars).take(rest),
    );
    text.push_str("\"}");
    text
}

fn ndjson(args: &BatchArgs, name: &str) -> Bytes {
    let mut body = String::new();
    for event in 0..args.events {
        let mut head =
            format!("{{\"channel\":\"orders-{:03}\",\"type\":\"order\",", event % args.channels);
        if args.ids {
            head.push_str(&format!("\"id\":\"{name}-{event}\","));
        }
        head.push_str("\"data\":");
        let rest = args.event_bytes.saturating_sub(head.len() + 2);
        body.push_str(&head);
        body.push_str(&data(rest));
        body.push_str("}\n");
    }
    Bytes::from(body)
}
