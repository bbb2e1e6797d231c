//! One event per HTTP/2 request, ours in turns with servers that only answer 202, and (with
//! `--against`) in turns with another build of ours; also NDJSON batches against another build.
//!
//! A round is one block of each side, so a pair is two blocks that ran a moment apart.
//! `ack=accepted`, spool on.

use super::ingest::{self, BATCH_GOAL, BatchArgs, RATE, Threads};
use super::{Common, Meter, Used};
use crate::http2::{self, Answers, Load};
use crate::ingest_peers::{Answer, Kind, Peer};
use crate::machine;
use crate::results::goals::{Against, Goal};
use crate::results::text::count;
use crate::results::{OURS, Outcome, SideInfo};
use crate::server_child::ServerChild;
use anyhow::{Context, Result};
use clap::Args;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Of single posts, to the bare `h2` crate.
const SINGLE_GOAL: f64 = 0.75;

/// Flags.
#[derive(Debug, Clone, Args)]
pub struct PeersArgs {
    /// Requests in each block; with `--batch`, events.
    #[arg(long, default_value_t = 20_000)]
    requests: u64,
    /// Requests under way at a time.
    #[arg(long, default_value_t = 100)]
    streams: usize,
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
    pub fn sized() -> Self {
        let others = vec![Some(Kind::H2), Some(Kind::Axum), Some(Kind::Nginx)];
        let (nginx, against, batch) = (PathBuf::from("nginx"), None, None);
        Self { requests: 20_000, streams: 100, others, nginx, against, batch }
    }

    fn load(&self, quick: bool) -> Load {
        let requests = if quick { self.requests.min(500) } else { self.requests };
        let Some(events) = self.batch else {
            return ingest::single_load("accepted", requests, self.streams);
        };
        let args = BatchArgs::of(requests.div_ceil(events as u64), events);
        ingest::batch_load(&args, "accepted", 0)
    }

    /// Without a result.
    fn outcome(&self, common: &Common, load: &Load) -> Outcome {
        let (name, what) = match self.batch {
            Some(events) => (
                format!("ingest-peers-batch-{events}"),
                format!("NDJSON of {} events of 300 bytes", count(events as u64)),
            ),
            None => ("ingest-peers".to_owned(), "one event of 200 bytes per request".to_owned()),
        };
        let name = if self.against.is_some() { name + "-against" } else { name };
        Outcome::new(
            &name,
            format!("ingest beside others: {what}, {} streams", load.streams),
            "HTTP/2 over one connection; ours with ack=accepted and the spool on. The others read \
             the body, keep nothing and answer the same bytes.",
            machine::look(common),
        )
    }
}

/// Something that answers requests, and what it has cost.
struct Side {
    name: &'static str,
    version: String,
    /// Keeps what it accepts.
    ours: bool,
    pid: u32,
    address: SocketAddr,
    used: Used,
    answers: Answers,
    threads: Threads,
    /// Kept for its end.
    _keep: Box<dyn std::any::Any>,
}

impl Side {
    fn of_ours(common: &Common, name: &'static str, data: &Path) -> Result<Self> {
        let server = ServerChild::start(common, data, &[])?;
        let (pid, address) = (server.pid(), server.address);
        let version = ingest::version(common, "ack=accepted");
        Ok(Self::new(name, version, true, (pid, address), Box::new(server)))
    }

    fn of_peer(kind: Kind, peer: Peer) -> Self {
        let (pid, address) = (peer.pid(), peer.address());
        let version = kind.version().to_owned();
        Self::new(kind.name(), version, false, (pid, address), Box::new(peer))
    }

    fn new(
        name: &'static str,
        version: String,
        ours: bool,
        (pid, address): (u32, SocketAddr),
        keep: Box<dyn std::any::Any>,
    ) -> Self {
        let (used, answers, threads) = (Used::default(), Answers::default(), Threads::start(pid));
        Self { name, version, ours, pid, address, used, answers, threads, _keep: keep }
    }

    /// Events that were answered, and what that took.
    fn block(&mut self, load: &Load) -> Result<(u64, Used)> {
        let meter = Meter::start(self.pid, std::process::id());
        let answers = http2::send(self.address, load).with_context(|| self.name)?;
        let took = meter.stop();
        self.used.add(took);
        self.answers.add(answers);
        // A peer says what it was told to say, so its requests are counted, not its events.
        Ok((answers.requests * load.events_each, took))
    }

    fn info(&self) -> SideInfo {
        SideInfo {
            name: self.name.to_owned(),
            version: self.version.clone(),
            integrity: if self.ours {
                self.answers.integrity()
            } else {
                format!("{} requests answered 202, nothing kept", self.answers.requests)
            },
            saturation: self.used.saturation(),
        }
    }
}

/// Runs the scenario.
pub fn run(common: &Common, args: &PeersArgs) -> Result<()> {
    let load = args.load(common.quick);
    let mut outcome = args.outcome(common, &load);
    let scratch = common.scratch()?;
    // The load comes from this process.
    machine::on_core(common.client_core, || {
        let mut sides = start(common, args, scratch.path(), &load, &mut outcome)?;
        compare(common, &mut sides, &load, &mut outcome)
    })?;
    outcome.compare(&[RATE]);
    match args.batch {
        None => {
            let h2 = Against::Side(Kind::H2.name().to_owned());
            outcome.goals.push(Goal::at_least(RATE, h2, SINGLE_GOAL));
        }
        Some(_) => outcome.goals.push(Goal::at_least(RATE, Against::Itself, BATCH_GOAL)),
    }
    super::publish(common, &outcome)
}

/// Starts everybody who can take part. Our own sides must.
fn start(
    common: &Common,
    args: &PeersArgs,
    scratch: &Path,
    load: &Load,
    outcome: &mut Outcome,
) -> Result<Vec<Side>> {
    let mut sides = vec![Side::of_ours(common, OURS, &scratch.join("data"))?];
    if let Some(other) = &args.against {
        let common = Common { server: Some(other.clone()), ..common.clone() };
        let mut side = Side::of_ours(&common, "shardcast, other", &scratch.join("other"))?;
        side.version.push_str(&format!(", {}", other.display()));
        sides.push(side);
    }
    for kind in args.others.iter().flatten().filter(|_| args.batch.is_none()) {
        let (fields, body) = http2::ask(sides[0].address, load)?;
        let answer = Answer { fields, body };
        match Peer::start(common.server_core, *kind, &args.nginx, scratch, &answer) {
            Ok(peer) => sides.push(Side::of_peer(*kind, peer)),
            Err(error) => {
                eprintln!("bench: {} is skipped: {error:#}", kind.name());
                outcome.skipped.push((kind.name().to_owned(), format!("{error:#}")));
            }
        }
    }
    Ok(sides)
}

fn compare(common: &Common, sides: &mut [Side], load: &Load, outcome: &mut Outcome) -> Result<()> {
    let warm = Load { requests: load.requests.div_ceil(10), ..load.clone() };
    for side in sides.iter_mut() {
        http2::send(side.address, &warm).with_context(|| side.name)?;
        side.threads = Threads::start(side.pid);
    }
    for round in 0..common.rounds(11) {
        // Every side goes first in some rounds: what one leaves behind (dirty pages, say) meets
        // all the others alike.
        for turn in 0..sides.len() {
            let at = (round + turn) % sides.len();
            let (events, took) = sides[at].block(load)?;
            ingest::record(outcome, at, events, took);
        }
    }
    outcome.sides = sides.iter().map(Side::info).collect();
    for side in sides.iter().filter(|side| side.ours) {
        outcome.notes.push(format!("{}: CPU by thread: {}", side.name, side.threads.shares()));
    }
    Ok(())
}
