//! One event per HTTP/2 request, ours in turns with servers that only answer 202, and (with
//! `--against`) in turns with another build of ours; also NDJSON batches against another build.
//!
//! A round is one block of each side, so a pair is two blocks that ran a moment apart; what is
//! reported is the median of the pairs' ratios and their quartiles. `ack=accepted`, spool on.

use super::ingest::{self, BatchArgs};
use super::{Common, Meter, Used};
use crate::http2::{self, Load};
use crate::ingest_peers::{Answer, Kind, Peer};
use crate::machine;
use crate::process;
use crate::report::{Report, count, median, range};
use crate::results::stats::{Spread, ratios};
use crate::server_child::ServerChild;
use anyhow::{Context, Result};
use clap::Args;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Flags.
#[derive(Debug, Clone, Args)]
pub struct PeersArgs {
    /// Requests in each block.
    #[arg(long, default_value_t = 20_000)]
    requests: u64,
    /// Requests under way at a time.
    #[arg(long, default_value_t = 100)]
    streams: usize,
    /// Blocks of each side; a claim needs at least 11.
    #[arg(long, default_value_t = 12)]
    blocks: usize,
    /// Who else, of h2, axum and nginx; `--others=` for nobody.
    #[arg(long, value_delimiter = ',', value_parser = parse_peer, default_value = "h2,axum,nginx")]
    others: Vec<Option<Kind>>,
    /// nginx's program.
    #[arg(long, default_value = "nginx")]
    nginx: PathBuf,
    /// Another build of our server, in turns with this one.
    #[arg(long)]
    against: Option<PathBuf>,
    /// Measure NDJSON batches of so many events instead; peers that only answer are left out.
    #[arg(long)]
    batch: Option<usize>,
}

fn parse_peer(name: &str) -> Result<Option<Kind>, String> {
    if name.is_empty() {
        return Ok(None);
    }
    <Kind as clap::ValueEnum>::from_str(name, false).map(Some)
}

impl PeersArgs {
    /// For `all`.
    pub fn sized(quick: bool) -> Self {
        let (requests, pairs) = if quick { (500, 2) } else { (20_000, 12) };
        let others = vec![Some(Kind::H2), Some(Kind::Axum)];
        let (nginx, against, batch) = (PathBuf::from("nginx"), None, None);
        Self { requests, streams: 100, blocks: pairs, others, nginx, against, batch }
    }

    fn load(&self) -> Load {
        let Some(events) = self.batch else {
            return ingest::single_load("accepted", self.requests, self.streams);
        };
        let args = BatchArgs::of(self.requests.div_ceil(events as u64), events);
        ingest::batch_load(&args, "accepted", 0)
    }
}

/// Something that answers requests, and what it has cost.
struct Side {
    name: String,
    pid: u32,
    address: SocketAddr,
    rates: Vec<f64>,
    used: Used,
    threads: Vec<(String, u64)>,
    /// Kept for its end.
    _keep: Box<dyn std::any::Any>,
}

impl Side {
    fn new(name: String, pid: u32, address: SocketAddr, keep: Box<dyn std::any::Any>) -> Self {
        let (rates, used, threads) = (Vec::new(), Used::default(), Vec::new());
        Self { name, pid, address, rates, used, threads, _keep: keep }
    }

    fn of_ours(common: &Common, name: &str, scratch: &Path, data: &str) -> Result<Self> {
        let server = ServerChild::start(common, &scratch.join(data), &[])?;
        Ok(Self::new(name.to_owned(), server.pid(), server.address, Box::new(server)))
    }

    fn block(&mut self, load: &Load) -> Result<()> {
        let meter = Meter::start(self.pid, std::process::id());
        let answers = http2::send(self.address, load).with_context(|| self.name.clone())?;
        let took = meter.stop();
        // A peer says what it was told to say, so its requests are counted, not its events.
        let each = load.events_each;
        self.rates.push((answers.requests * each) as f64 * 1e9 / took.server_ns as f64);
        self.used.add(took);
        Ok(())
    }
}

/// Runs the scenario.
pub fn run(common: &Common, args: &PeersArgs) -> Result<()> {
    machine::pin(common.client_core)?;
    let scratch = common.scratch()?;
    let load = args.load();
    let what = match args.batch {
        Some(events) => format!("NDJSON of {events} events of 300 bytes"),
        None => "one event of 200 bytes per request".to_owned(),
    };
    let mut report =
        Report::new(&format!("ingest over HTTP/2, {what}, {} streams, in turns", load.streams));
    let mut sides = vec![Side::of_ours(common, "shardcast", scratch.path(), "data")?];
    if let Some(other) = &args.against {
        let common = Common { server: Some(other.clone()), ..common.clone() };
        let name = format!("{}", other.display());
        sides.push(Side::of_ours(&common, &name, scratch.path(), "other")?);
    }
    let kinds = args.others.iter().flatten().filter(|_| args.batch.is_none());
    for kind in kinds {
        let (fields, body) = http2::ask(sides[0].address, &load)?;
        let answer = Answer { fields, body };
        let core = common.server_core;
        let peer = Peer::start(core, *kind, &args.nginx, scratch.path(), &answer)?;
        sides.push(Side::new(kind.name().into(), peer.pid(), peer.address(), Box::new(peer)));
    }
    let warm = Load { requests: load.requests.div_ceil(10), ..load.clone() };
    for side in &mut sides {
        http2::send(side.address, &warm).with_context(|| side.name.clone())?;
        side.threads = process::cpu_by_thread(side.pid);
    }
    for round in 0..args.blocks {
        // Every side goes first in some rounds: what one leaves behind (dirty pages, say) meets
        // all the others alike.
        for at in 0..sides.len() {
            let at = (round + at) % sides.len();
            sides[at].block(&load)?;
        }
    }
    report.row("engine", common.engine.name(), "");
    for (at, side) in sides.iter().enumerate() {
        report.row(
            &side.name,
            count(median(&side.rates) as u64),
            format!("a CPU-second, {}", range(&side.rates, 0)),
        );
        if at > 0
            && let Some(spread) = Spread::of(&ratios(&sides[0].rates, &side.rates))
        {
            let Spread { median, low, high, count } = spread;
            let remark = format!("IQR {low:.3}-{high:.3}, {count} pairs");
            report.row("  ours to it", format!("{median:.3}"), remark);
        }
        report.row("  saturated", "", side.used.saturation());
        report.row("  threads", "", shares(side));
    }
    report.print();
    Ok(())
}

/// Which thread did the work.
fn shares(side: &Side) -> String {
    let mut shares = String::new();
    for (name, ns) in process::cpu_by_thread(side.pid) {
        let before = side.threads.iter().find(|(known, _)| *known == name).map_or(0, |t| t.1);
        let percent = ns.saturating_sub(before) * 100 / side.used.server_ns.max(1);
        if percent > 0 {
            shares.push_str(&format!("{name} {percent} %  "));
        }
    }
    shares
}
