//! What an ingested event costs the whole server process, threads of the spool included, with the
//! spool on: over HTTP/2, one event per request, and NDJSON of 1,000 events per request.
//!
//! Events are lines of 300 bytes over several channels, without ids (the server makes them) unless
//! asked for. The figure is events per CPU-second, so it does not depend on who was saturated; wall
//! time is printed beside it.

use super::{Common, Meter, Used};
use crate::http2::{self, Answers, Load};
use crate::machine;
use crate::process;
use crate::report::{Report, count, median, range};
use crate::server_child::ServerChild;
use anyhow::{Context, Result};
use bytes::Bytes;
use clap::Args;
use std::sync::Arc;

/// Flags of one event per request.
#[derive(Debug, Clone, Args)]
pub struct SingleArgs {
    /// Requests in each block.
    #[arg(long, default_value_t = 40_000)]
    requests: u64,
    /// Requests under way at a time.
    #[arg(long, default_value_t = 100)]
    streams: usize,
    /// Blocks of each acknowledgement.
    #[arg(long, default_value_t = 3)]
    blocks: usize,
}

/// Flags of batches.
#[derive(Debug, Clone, Args)]
pub struct BatchArgs {
    /// Requests in each block.
    #[arg(long, default_value_t = 600)]
    requests: u64,
    /// Events per request.
    #[arg(long, default_value_t = 1_000)]
    events: usize,
    /// Bytes of an event's line.
    #[arg(long, default_value_t = 300)]
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
    /// Blocks of each acknowledgement.
    #[arg(long, default_value_t = 5)]
    blocks: usize,
}

impl SingleArgs {
    /// For `all`.
    pub fn sized(quick: bool) -> Self {
        let (requests, blocks) = if quick { (500, 1) } else { (40_000, 3) };
        Self { requests, streams: 100, blocks }
    }
}

impl BatchArgs {
    /// For `all`.
    pub fn sized(quick: bool) -> Self {
        let (requests, blocks) = if quick { (5, 1) } else { (600, 5) };
        Self { blocks, ..Self::of(requests, 1_000) }
    }

    /// So many requests of so many events, the rest as by default.
    pub fn of(requests: u64, events: usize) -> Self {
        let (event_bytes, streams, channels, blocks) = (300, 8, 16, 1);
        Self { requests, events, event_bytes, streams, channels, ids: false, blocks }
    }
}

const ACKS: [&str; 2] = ["accepted", "durable"];

/// Runs one event per request.
pub fn single(common: &Common, args: &SingleArgs) -> Result<()> {
    let mut report = Report::new("ingest over HTTP/2, one event per request");
    let make = |ack: &str, _: usize| single_load(ack, args.requests, args.streams);
    measure(common, &mut report, args.blocks, make)?;
    report.print();
    Ok(())
}

/// Runs batches.
pub fn batch(common: &Common, args: &BatchArgs) -> Result<()> {
    let ids = if args.ids { "with ids" } else { "without ids" };
    let mut report = Report::new(&format!(
        "ingest over HTTP/2, NDJSON of {} events of {} bytes {ids}, {} channels",
        count(args.events as u64),
        args.event_bytes,
        args.channels
    ));
    let make = |ack: &str, block: usize| batch_load(args, ack, block);
    measure(common, &mut report, args.blocks, make)?;
    report.print();
    Ok(())
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
    report: &mut Report,
    blocks: usize,
    make: impl Fn(&str, usize) -> Load,
) -> Result<()> {
    machine::pin(common.client_core)?;
    let scratch = common.scratch()?;
    let server = ServerChild::start(common, &scratch.path().join("data"), &[])?;
    let warm = make(ACKS[0], usize::MAX);
    let warm = Load { requests: warm.requests.div_ceil(10), ..warm };
    http2::send(server.address, &warm).with_context(|| server.log_tail())?;
    let mut rates: [Vec<f64>; 2] = Default::default();
    let mut walls: [Vec<f64>; 2] = Default::default();
    let mut used = [Used::default(); 2];
    let mut sums = [Answers::default(); 2];
    let threads_before = process::cpu_by_thread(server.pid());
    for block in 0..blocks {
        for (at, ack) in ACKS.iter().enumerate() {
            let load = make(ack, block);
            let meter = Meter::start(server.pid(), std::process::id());
            let answers = http2::send(server.address, &load).with_context(|| server.log_tail())?;
            let took = meter.stop();
            rates[at].push(answers.accepted as f64 * 1e9 / took.server_ns as f64);
            walls[at].push(answers.accepted as f64 * 1e9 / took.wall_ns as f64);
            used[at].add(took);
            sums[at].accepted += answers.accepted;
            sums[at].rejected += answers.rejected;
        }
    }
    report.row("engine", common.engine.name(), "");
    for (at, ack) in ACKS.iter().enumerate() {
        report.row(
            &format!("events per CPU-second, ack={ack}"),
            count(median(&rates[at]) as u64),
            format!(
                "median of {blocks} blocks, {}; {} a second of wall time; {} accepted, {} refused",
                range(&rates[at], 0),
                count(median(&walls[at]) as u64),
                count(sums[at].accepted),
                sums[at].rejected
            ),
        );
        report.row("  saturated", "", used[at].saturation());
    }
    let mut shares = String::new();
    for (name, ns) in process::cpu_by_thread(server.pid()) {
        let before = threads_before.iter().find(|(known, _)| *known == name).map_or(0, |t| t.1);
        let all = used[0].server_ns + used[1].server_ns;
        let percent = (ns - before) * 100 / all.max(1);
        if percent > 0 {
            shares.push_str(&format!("{name} {percent} %  "));
        }
    }
    report.row("threads", "", shares);
    Ok(())
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
