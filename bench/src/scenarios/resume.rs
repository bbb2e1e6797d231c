//! A drain and a new process: N clients follow a channel, the server is told to stop (SIGTERM) and
//! sends them away at its pace, a new process takes over the data directory, and everybody resumes
//! where it was, while a publisher goes on and repeats what was not answered, under the same id.
//! Counted: messages that a client never got, or got twice.

use super::Common;
use crate::histogram::Quantiles;
use crate::machine::now_ns;
use crate::report::{Report, count};
use crate::server_child::{ServerChild, free_address};
use crate::swarm::{Label, MESSAGE_BYTES, SwarmHandle, UNTRACKED, room_name};
use anyhow::{Context, Result, bail};
use clap::Args;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Flags.
#[derive(Debug, Clone, Args)]
pub struct ResumeArgs {
    /// Clients.
    #[arg(long, default_value_t = 15_000)]
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
    pub fn sized(quick: bool) -> Self {
        if quick {
            Self { connections: 200, rate: 10, drain_s: 1 }
        } else {
            Self { connections: 15_000, rate: 4, drain_s: 6 }
        }
    }
}

/// Runs the scenario.
pub fn run(common: &Common, args: &ResumeArgs) -> Result<()> {
    let quick = ResumeArgs::sized(true);
    let args = if common.quick { &quick } else { args };
    let n = args.connections;
    let mut report = Report::new(&format!("resume: {} clients over a drain", count(n as u64)));
    let scratch = common.scratch()?;
    let data = scratch.path().join("data");
    let drain = format!("drain_time_s={}", args.drain_s);
    let mut old = ServerChild::start_at(common, &data, free_address()?, &[&drain])?;
    let address = old.address;
    let more = ["--dialect=envelope".to_owned()];
    let mut swarm = SwarmHandle::start(common.client_core, address, n, &more)?;
    swarm.watch()?;
    let stop = Arc::new(AtomicBool::new(false));
    let publisher = {
        let (stop, rate) = (Arc::clone(&stop), args.rate);
        std::thread::spawn(move || publish(address, rate, &stop))
    };
    std::thread::sleep(Duration::from_secs(2));
    let begin = now_ns();
    old.terminate()?;
    let code = old.wait()?;
    let drained_ns = now_ns() - begin;
    let new = ServerChild::start_at(common, &data, address, &[&drain])?;
    let ready_ns = now_ns();
    let down_ns = ready_ns - begin - drained_ns;
    std::thread::sleep(Duration::from_secs(3));
    stop.store(true, Ordering::Relaxed);
    let published = publisher.join().map_err(|_| anyhow::anyhow!("the publisher panicked"))??;
    let tally = swarm.ask(&format!("until {} {ready_ns}", published.saturating_sub(1)))?;
    report.row("engine", common.engine.name(), "");
    let seconds = |ns: u64| format!("{:.1} s", ns as f64 / 1e9);
    report.row("drain", seconds(drained_ns), format!("exit code {code:?}"));
    report.row("start of the new process", seconds(down_ns), "until it was ready");
    report.row(
        "clients",
        count(tally.open),
        format!("{} cuts, {} never caught up", count(tally.cuts), tally.behind),
    );
    report.row(
        "messages",
        count(published),
        format!(
            "{} deliveries; lost {}, out of order {}, doubled {}, gaps {}",
            count(tally.received),
            tally.lost(),
            tally.skipped,
            tally.repeated,
            tally.gaps
        ),
    );
    let ms = |us: f64| format!("{:.0} ms", us / 1_000.0);
    let (cut, ready) = (tally.recovery, tally.recovery_of_ready);
    let met = if ready.max_us > 0.0 && ready.p99_us < 3e6 { "met" } else { "MISSED" };
    let spread = |it: Quantiles| format!("p50 {}, most {}", ms(it.p50_us), ms(it.max_us));
    report.row(
        "recovered, p99",
        ms(ready.p99_us),
        format!("from the cut, or the new process where that came later; {}", spread(ready)),
    );
    report.row("goal: p99 under 3 s", met, "");
    report.row("the same from the cut alone", ms(cut.p99_us), spread(cut));
    let clean = tally.lost() + tally.repeated + tally.gaps + tally.behind == 0;
    let all = tally.open == n as u64;
    report.row(
        "none lost, none doubled, all back",
        if clean && all { "met" } else { "MISSED" },
        "",
    );
    report.print();
    drop(new);
    Ok(())
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
