//! What one of each operation costs on this machine, for `shardcast capacity --measured` and for
//! the server's own comparison of its live figures with the model.
//!
//! Plain, then over TLS, each with a server of its own: memory while clients connect, CPU of
//! heartbeats while they idle, of deliveries one message at a time and with 16 on their way, of
//! connecting and leaving; last, of published events. From the two kinds of delivery come two
//! costs, of a send and of a message in it, by how many messages the server's own counters say each
//! send had. Every figure is the median of the rounds.
//!
//! Addresses are loopback ones: the clients' half of TCP runs on the server's core and is in the
//! CPU figures, unless `--apart` is given, so they err on the dear side. Kernel memory is that of
//! both ends, halved. Events over TLS are not measured and cost as much as plain ones.

use super::ingest::single_load;
use super::lineup::{Lineup, Setting, Side, Who};
use super::{Common, Meter, Used};
use crate::http2;
use crate::machine::{self, kernel_bytes};
use crate::process::{cpu_ns, rss_bytes};
use crate::results::stats;
use crate::server_child::ServerChild;
use crate::swarm::MESSAGE_BYTES;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::time::{Duration, Instant};
use tuning::capacity::{Bytes, Calibration, Costs, FORMAT, Spread};

/// Often enough that a few seconds show what they cost: every three, since the server looks at a
/// connection again only when its answer would be overdue.
const HEARTBEAT: &[&str] = &["limits.heartbeat_s=2", "limits.pong_timeout_s=3"];
/// Messages on their way when sends are shared.
const DEPTH: u64 = 16;

/// Sizes of a run.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    users: usize,
    rounds: usize,
    /// Deliveries of a block.
    deliveries: u64,
    /// Seconds of idling in a round: several heartbeats.
    idle_s: u64,
    settle: Duration,
}

impl Sizes {
    fn of(common: &Common, tls: bool) -> Self {
        let rounds = common.rounds(7);
        if common.quick {
            let settle = Duration::from_millis(100);
            return Self { users: 120, rounds, deliveries: 2_400, idle_s: 4, settle };
        }
        // A handshake costs the clients' core milliseconds.
        let users = if tls { 2_000 } else { 5_000 };
        let settle = Duration::from_secs(1);
        Self { users, rounds, deliveries: 60_000, idle_s: 9, settle }
    }
}

/// Samples of every figure, and what was used while they were taken.
#[derive(Debug, Default)]
struct Found {
    samples: Vec<(String, &'static str, Vec<f64>)>,
    used: Used,
}

impl Found {
    fn add(&mut self, name: &str, unit: &'static str, value: f64) {
        match self.samples.iter_mut().find(|(known, ..)| known == name) {
            Some((.., samples)) => samples.push(value),
            None => self.samples.push((name.to_owned(), unit, vec![value])),
        }
    }

    fn median(&self, name: &str) -> Result<f64> {
        let found = self.samples.iter().find(|(known, ..)| known == name);
        let spread = found.and_then(|(.., samples)| stats::Spread::of(samples));
        Ok(spread.with_context(|| format!("nothing was measured for {name}"))?.median)
    }

    fn spread(&self) -> Vec<Spread> {
        let rows = self.samples.iter().filter_map(|(name, unit, samples)| {
            let found = stats::Spread::of(samples)?;
            Some(Spread {
                name: name.clone(),
                unit: (*unit).to_owned(),
                median: found.median,
                low: found.low,
                high: found.high,
                rounds: found.count as u32,
            })
        });
        rows.collect()
    }
}

/// Measures and writes the file.
pub fn run(common: &Common, file: &Path) -> Result<()> {
    // Known before minutes are spent.
    let mut found = Found::default();
    let plain = connected(common, false, &mut found)?;
    let tls = connected(common, true, &mut found)?;
    ingest(common, &mut found)?;
    let machine = machine::look(common);
    let user = found.median("user memory of a connection")?;
    let with_tls = found.median("TLS: user memory of a connection")?;
    let all = found.used.server_ns.max(1) as f64;
    let ingest_us = found.median("CPU of a published event")?;
    let calibration = Calibration {
        format: FORMAT.to_owned(),
        machine: machine.model,
        kernel: machine.kernel,
        version: machine.version,
        engine: machine.engine,
        cores: machine.cores as u32,
        memory_bytes: (machine.memory_mib * 1_048_576) as f64,
        apart: common.apart,
        connections: Sizes::of(common, false).users as u32,
        message_bytes: MESSAGE_BYTES as u32,
        quick: common.quick,
        unix_s: machine.unix_s,
        costs: Costs { ingest_us, ..plain },
        tls_costs: Some(Costs { ingest_us, ..tls }),
        bytes: Bytes {
            user,
            kernel: found.median("kernel memory of a connection")?,
            tls: (with_tls - user).max(0.0),
            channel: server::config::budget::CHANNEL_BYTES as f64,
            base: found.median("memory without connections")?,
        },
        ledger_bytes: found.median("ledger of a connection")?,
        tls_ledger_bytes: found.median("TLS: ledger of a connection")?,
        process_share: 1.0 - found.used.softirq_ns as f64 / all,
        spread: found.spread(),
    };
    if let Err(problem) = calibration.check() {
        bail!("{problem}: the machine is too busy, or the sizes too small, to measure; try again");
    }
    print(&calibration);
    std::fs::write(file, calibration.to_json())
        .with_context(|| format!("cannot write {}", file.display()))?;
    println!("wrote {}; try: shardcast capacity --users 200k --measured {0}", file.display());
    Ok(())
}

/// Everything about connections; events are left at nothing.
fn connected(common: &Common, tls: bool, found: &mut Found) -> Result<Costs> {
    let sizes = Sizes::of(common, tls);
    let setting = Setting { tls, ours: HEARTBEAT, ..Setting::room(sizes.users) };
    let name = |what: &str| if tls { format!("TLS: {what}") } else { what.to_owned() };
    let mut lineup = Lineup::empty(common, &setting)?;
    let memory = lineup.join(common, &setting, Who::Ours, |side| grow(side, &sizes))?;
    let memory = memory.context("our own side did not start")?;
    let side = lineup.sides.first_mut().context("our own side did not start")?;
    if !tls {
        found.add("memory without connections", "B", memory.base);
        found.add("kernel memory of a connection", "B", memory.kernel);
    }
    found.add(&name("user memory of a connection"), "B", memory.user);
    found.add(&name("ledger of a connection"), "B", ledger(side, sizes.users)?);
    for _ in 0..sizes.rounds.min(3) {
        let before = side.tally.replies;
        let used = meter(side, |side| side.ask_all(&format!("hold {}", sizes.idle_s)))?;
        let beats = side.tally.replies - before;
        if beats < sizes.users as u64 {
            bail!("{beats} heartbeats of {} users were answered", sizes.users);
        }
        let own_ns = memory.idle_ns_per_s * sizes.idle_s as f64;
        let heartbeat_us = (used.server_ns as f64 - own_ns).max(0.0) / beats as f64 / 1e3;
        found.add(&name("CPU of a heartbeat"), "us", heartbeat_us);
        found.used.add(used);
    }
    let (send_us, message_us) = deliveries(side, &sizes, &name, found)?;
    found.add(&name("CPU of a send"), "us", send_us);
    found.add(&name("CPU of a message in a send"), "us", message_us);
    side.swarm().ask("leave")?;
    let wait = Duration::from_millis(if common.quick { 200 } else { 500 });
    for _ in 0..sizes.rounds {
        std::thread::sleep(wait);
        // With its end: whoever comes, goes.
        let used = meter(side, |side| {
            side.swarm().ask("connect")?;
            side.swarm().ask("leave")?;
            std::thread::sleep(wait);
            Ok(())
        })?;
        let accept_us = used.server_ns as f64 / sizes.users as f64 / 1e3;
        found.add(&name("CPU of a connect and its end"), "us", accept_us);
        found.used.add(used);
    }
    if !side.tally.integrity().starts_with("lost 0, out of order 0, doubled 0") {
        bail!("messages were lost: {}", side.tally.integrity());
    }
    Ok(Costs {
        send_us,
        message_us,
        ingest_us: 0.0,
        accept_us: found.median(&name("CPU of a connect and its end"))?,
        heartbeat_us: found.median(&name("CPU of a heartbeat"))?,
    })
}

/// What growing showed.
#[derive(Debug, Clone, Copy)]
struct Memory {
    base: f64,
    user: f64,
    kernel: f64,
    /// CPU of the server when nobody is there.
    idle_ns_per_s: f64,
}

fn grow(side: &mut Side, sizes: &Sizes) -> Result<Memory> {
    let (pid, users) = (side.pid(), sizes.users);
    std::thread::sleep(sizes.settle);
    // What a start leaves to be done fades; what stays is the least of a few looks.
    let idle_ns_per_s = (0..5).map(|_| idle(pid, sizes.settle)).fold(f64::INFINITY, f64::min);
    let (base, kernel) = (rss_bytes(pid) as f64, kernel_bytes() as f64);
    side.connect(users)?;
    std::thread::sleep(sizes.settle);
    // The whole growth: buffers that are touched for the first time are in it, on the dear side.
    Ok(Memory {
        base,
        user: (rss_bytes(pid) as f64 - base).max(0.0) / users as f64,
        kernel: (kernel_bytes() as f64 - kernel).max(0.0) / users as f64 / 2.0,
        idle_ns_per_s,
    })
}

/// CPU of a process in a second, over a while in which nobody asks anything of it.
fn idle(pid: u32, span: Duration) -> f64 {
    let (start, before) = (Instant::now(), cpu_ns(pid));
    std::thread::sleep(span);
    (cpu_ns(pid) - before) as f64 / start.elapsed().as_secs_f64()
}

/// What a send costs, and what a message in it.
fn deliveries(
    side: &mut Side,
    sizes: &Sizes,
    name: &dyn Fn(&str) -> String,
    found: &mut Found,
) -> Result<(f64, f64)> {
    let rounds = (sizes.deliveries / sizes.users as u64).max(2);
    let messages = (sizes.deliveries * 3 / sizes.users as u64).max(4 * DEPTH);
    let mut kinds = Vec::new();
    for (what, order) in [
        ("CPU of a delivery, one at a time", format!("rounds {rounds} 1")),
        ("CPU of a delivery, 16 on their way", format!("outstanding {DEPTH} {messages}")),
    ] {
        // The first touches memory for the first time.
        side.swarm().ask(&order)?;
        let before = counted(side)?;
        for _ in 0..sizes.rounds {
            let block = side.block(&order)?;
            found.add(&name(what), "us", block.cost_us());
            found.used.add(block.used);
        }
        let after = counted(side)?;
        let each = (after.1 - before.1) / (after.0 - before.0).max(1.0);
        kinds.push((found.median(&name(what))?, each.max(1.0)));
    }
    let [(one_us, one), (many_us, many)] = kinds[..] else { bail!("two kinds of delivery") };
    found.add(&name("messages in a send, 16 on their way"), "", many);
    let fewer_sends = 1.0 / one - 1.0 / many;
    if fewer_sends < 0.05 {
        // Nothing was gathered, so nothing can be told apart.
        return Ok((one_us * one, 0.0));
    }
    // Two equations: a delivery is its part of a send, and itself. None of it is negative.
    let send_us = ((one_us - many_us) / fewer_sends).clamp(0.0, one_us * one);
    Ok((send_us, (one_us - send_us / one).max(0.0)))
}

/// Sends, and messages in them, so far. A shard shows its counters once a second.
fn counted(side: &Side) -> Result<(f64, f64)> {
    std::thread::sleep(Duration::from_millis(2_500));
    let text = metrics(side)?;
    let of = |family: &str| sum(&text, family, "");
    Ok((of("shardcast_sends_total{"), of("realtime_messages_sent_total{")))
}

/// What the server itself says that a connection holds.
fn ledger(side: &Side, users: usize) -> Result<f64> {
    std::thread::sleep(Duration::from_millis(1_500));
    let text = metrics(side)?;
    let of = |holder: &str| sum(&text, "shardcast_memory_bytes{", &format!("\"{holder}\""));
    Ok((of("connections") + of("tls_sessions")) / users as f64)
}

fn metrics(side: &Side) -> Result<String> {
    side.ours().context("our own side")?.get("/metrics")
}

/// Over the series of a family that have a label.
fn sum(text: &str, family: &str, label: &str) -> f64 {
    let lines = text.lines().filter(|line| line.starts_with(family) && line.contains(label));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

fn meter(side: &mut Side, work: impl FnOnce(&mut Side) -> Result<()>) -> Result<Used> {
    let (server, client) = (side.pid(), side.swarm().pid());
    let meter = Meter::start(server, client);
    work(side)?;
    Ok(meter.stop())
}

/// One event a request, as services send them that do not batch.
fn ingest(common: &Common, found: &mut Found) -> Result<()> {
    let requests = if common.quick { 500 } else { 20_000 };
    machine::on_core(common.client_core, || {
        let scratch = common.scratch()?;
        let server = ServerChild::start(common, &scratch.path().join("data"), &[])?;
        let load = single_load("accepted", requests, 100);
        http2::send(server.address, &load).with_context(|| server.log_tail())?;
        for _ in 0..Sizes::of(common, false).rounds {
            let meter = Meter::start(server.pid(), std::process::id());
            let sent = http2::send(server.address, &load);
            let answers = sent.with_context(|| server.log_tail())?;
            let used = meter.stop();
            if answers.accepted != requests {
                bail!("{} of {requests} events were accepted", answers.accepted);
            }
            let event_us = used.server_ns as f64 / requests as f64 / 1e3;
            found.add("CPU of a published event", "us", event_us);
            found.used.add(used);
        }
        Ok(())
    })
}

fn print(found: &Calibration) {
    println!("\n{:<44}{:>12}{:>26}", "figure", "median", "quartiles");
    for row in &found.spread {
        let digits = if row.unit == "B" { 0 } else { 3 };
        println!(
            "{:<44}{:>9.digits$} {:<2}{:>12.digits$} to {:.digits$} ({})",
            row.name, row.median, row.unit, row.low, row.high, row.rounds
        );
    }
    println!("of the CPU {:.1} % is the server's own threads", found.process_share * 100.0);
}
