//! A drain and a new process: N clients follow a channel, the server is told to stop (SIGTERM) and
//! sends them away at its pace, a new process takes over the data directory, and everybody resumes
//! where it was, while a publisher goes on and repeats what was not answered, under the same id.
//! Counted: messages that a client never got, or got twice, and clients that did not come back.
//!
//! A round is one such restart, with a data directory and clients of its own.

use super::{Common, Meter, Used};
use crate::histogram::Quantiles;
use crate::machine::{self, now_ns};
use crate::results::goals::{Against, Goal};
use crate::results::text::count;
use crate::results::{OURS, Outcome, SideInfo};
use crate::server_child::{ServerChild, free_address};
use crate::swarm::{Label, MESSAGE_BYTES, SwarmHandle, Tally, UNTRACKED, room_name};
use anyhow::{Context, Result, bail};
use clap::Args;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// From the cut, or from when the new process was ready where that came later.
const READY_P99: &str = "recovered, p99";
const WRONG: &str = "messages lost or doubled, gaps admitted";
const GONE: &str = "clients that did not come back";
/// Of [`READY_P99`].
const GOAL_S: f64 = 3.0;

/// Flags.
#[derive(Debug, Clone, Args)]
pub struct ResumeArgs {
    /// Clients.
    #[arg(long, default_value_t = 15_000, value_parser = super::positive::<usize>)]
    connections: usize,
    /// Messages per second.
    #[arg(long, default_value_t = 4)]
    rate: u64,
    /// Seconds over which the old process sends its clients away.
    #[arg(long, default_value_t = 6)]
    drain_s: u32,
}

impl ResumeArgs {
    /// For `all`.
    pub fn sized() -> Self {
        Self { connections: 15_000, rate: 4, drain_s: 6 }
    }
}

/// What a round gave.
struct Round {
    tally: Tally,
    used: Used,
    published: u64,
    /// Until the old process had ended, and from there until the new one was ready.
    drained_ns: u64,
    started_ns: u64,
    exit_code: Option<i32>,
}

/// Runs the scenario.
pub fn run(common: &Common, args: &ResumeArgs) -> Result<()> {
    let quick = ResumeArgs { connections: args.connections.min(200), rate: 10, drain_s: 1 };
    let args = if common.quick { &quick } else { args };
    let n = args.connections as u64;
    let mut outcome = Outcome::new(
        "resume",
        format!("resume: {} clients over a drain", count(n)),
        "The server is stopped, a new process takes over its data directory, and every client \
         resumes where it was, while messages are published; from the cut, or from when the new \
         process was ready where that came later, to the server's word that nothing is missing.",
        machine::look(common),
    );
    let scratch = common.scratch()?;
    let (mut tally, mut used, mut published) = (Tally::default(), Used::default(), 0);
    for round in 0..common.rounds(1) {
        let it = restart(common, args, &scratch.path().join(format!("data-{round}")))?;
        record(&mut outcome, &it, n);
        if it.exit_code != Some(0) {
            let code = it.exit_code;
            outcome.notes.push(format!("the drained process ended with exit code {code:?}"));
        }
        tally.add(&it.tally);
        used.add(it.used);
        published += it.published;
    }
    outcome.sides.push(SideInfo {
        name: OURS.to_owned(),
        version: super::ingest::version(common, "format=envelope"),
        integrity: format!(
            "{}, gaps {}; {} messages, {} deliveries, {} cuts, {} clients never caught up",
            tally.integrity(),
            tally.gaps,
            count(published),
            count(tally.received),
            count(tally.cuts),
            tally.behind
        ),
        saturation: format!("once the new process was ready: {}", used.saturation()),
    });
    outcome.goals.push(Goal::at_most(READY_P99, Against::Itself, GOAL_S));
    outcome.goals.push(Goal::at_most(WRONG, Against::Itself, 0.0));
    outcome.goals.push(Goal::at_most(GONE, Against::Itself, 0.0));
    super::publish(common, &outcome)
}

/// One restart under way.
fn restart(common: &Common, args: &ResumeArgs, data: &Path) -> Result<Round> {
    let drain = format!("drain_time_s={}", args.drain_s);
    let mut old = ServerChild::start_at(common, data, free_address()?, &[&drain])?;
    let address = old.address;
    let more = ["--dialect=envelope".to_owned()];
    let mut swarm = SwarmHandle::start(common.client_core, address, args.connections, &more)?;
    swarm.watch()?;
    let stop = Arc::new(AtomicBool::new(false));
    let publisher = {
        let (stop, rate) = (Arc::clone(&stop), args.rate);
        std::thread::spawn(move || publish(address, rate, &stop))
    };
    std::thread::sleep(Duration::from_secs(2));
    let begin = now_ns();
    old.terminate()?;
    let exit_code = old.wait()?;
    let drained_ns = now_ns() - begin;
    let new = ServerChild::start_at(common, data, address, &[&drain])?;
    let ready_ns = now_ns();
    let meter = Meter::start(new.pid(), swarm.pid());
    std::thread::sleep(Duration::from_secs(3));
    stop.store(true, Ordering::Relaxed);
    let published = publisher.join().map_err(|_| anyhow::anyhow!("the publisher panicked"))??;
    let tally = swarm.ask(&format!("until {} {ready_ns}", published.saturating_sub(1)))?;
    let (used, started_ns) = (meter.stop(), ready_ns - begin - drained_ns);
    Ok(Round { tally, used, published, drained_ns, started_ns, exit_code })
}

fn record(outcome: &mut Outcome, round: &Round, clients: u64) {
    let Round { tally, drained_ns, started_ns, .. } = round;
    let mut seconds = |name: &str, s: f64| outcome.record(0, name, "s", 2, s);
    // Without a recovery there is no time it took.
    if tally.recovery_of_ready.max_us > 0.0 {
        let Quantiles { p50_us, p99_us, max_us, .. } = tally.recovery_of_ready;
        seconds(READY_P99, p99_us / 1e6);
        seconds("recovered, p50", p50_us / 1e6);
        seconds("recovered, the last", max_us / 1e6);
        seconds("recovered, p99 from the cut alone", tally.recovery.p99_us / 1e6);
    }
    seconds("drain", *drained_ns as f64 / 1e9);
    seconds("start of the new process, until it was ready", *started_ns as f64 / 1e9);
    let wrong = tally.lost() + tally.skipped + tally.repeated + tally.gaps;
    outcome.record(0, WRONG, "messages", 0, wrong as f64);
    let gone = tally.behind.max(clients.saturating_sub(tally.open));
    outcome.record(0, GONE, "clients", 0, gone as f64);
}

/// Publishes numbered messages until told to stop, each until it is answered; how many.
fn publish(address: SocketAddr, rate: u64, stop: &AtomicBool) -> Result<u64> {
    let mut connection: Option<BufReader<TcpStream>> = None;
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let began = now_ns();
        let mut payload = [0; MESSAGE_BYTES];
        Label { number, id: UNTRACKED, room: 0 }.write(&mut payload);
        let data = String::from_utf8_lossy(&payload);
        let body = format!("{{\"id\":\"m{number}\",\"data\":\"{data}\"}}");
        while let Err(error) = post(&mut connection, address, &body) {
            connection = None;
            if now_ns() - began > 60_000_000_000 {
                return Err(error.context("publishing failed for a minute"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        number += 1;
        let spent = Duration::from_nanos(now_ns() - began);
        std::thread::sleep(Duration::from_nanos(1_000_000_000 / rate).saturating_sub(spent));
    }
    Ok(number)
}

fn post(
    connection: &mut Option<BufReader<TcpStream>>,
    address: SocketAddr,
    body: &str,
) -> Result<()> {
    if connection.is_none() {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        *connection = Some(BufReader::new(stream));
    }
    let stream = connection.as_mut().context("just connected")?;
    write!(
        stream.get_mut(),
        "POST /v1/channels/{}/events?ack=durable HTTP/1.1\r\nHost: {address}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        room_name(0),
        body.len()
    )?;
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let accepted = line.contains(" 202 ");
    let mut length = 0;
    loop {
        let mut field = String::new();
        if stream.read_line(&mut field)? == 0 {
            bail!("the server closed the connection");
        }
        if let Some(value) = field.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
        if field == "\r\n" {
            break;
        }
    }
    stream.read_exact(&mut vec![0; length])?;
    if accepted { Ok(()) } else { bail!("not accepted: {}", line.trim()) }
}
