//! `shardcast tune`: what the machine needs for a target. All the knowledge is in the crate
//! `tuning`; here it gets what only the server knows: its configuration, its memory budget, its
//! probe of io_uring.

pub mod args;
mod service;

use super::{exit, fail};
use crate::boot::{cores, preflight};
use crate::config::budget::{Budget, Facts};
use crate::config::{self, Config, Loaded};
use crate::driver::DriverSizes;
use crate::uring;
use args::{
    ApplyArgs, CheckArgs, PlanArgs, ProfileCommand, RenderArgs, Rendered, ShowArgs, TargetFlags,
    TuneArgs, TuneCommand, UndoArgs,
};
use std::io::Write;
use tuning::check::{self, Context, Finding, Severity};
use tuning::container::Container;
use tuning::nic::Nics;
use tuning::plan::Plan;
use tuning::profile::{self, Profile, draw};
use tuning::root::Root;
use tuning::target::{Measured, Room, Target, UringProbe};
use tuning::topology::Topology;
use tuning::{Machine, Roots, apply, measure, render, report};

/// What ends a command early: its exit code and what to do.
type Failed = (u8, String);

pub(super) fn run(args: &TuneArgs) -> u8 {
    let done = match &args.command {
        None => check(&args.check),
        Some(TuneCommand::Check(args)) => check(args),
        Some(TuneCommand::Plan(args)) => plan(args),
        Some(TuneCommand::Render(args)) => rendered(args),
        Some(TuneCommand::Apply(args)) => applied(args),
        Some(TuneCommand::Undo(args)) => undone(args),
        Some(TuneCommand::Profile(args)) => match &args.command {
            ProfileCommand::List => print(&Profile::list(), exit::OK),
            ProfileCommand::Show(args) => show(args),
        },
    };
    done.unwrap_or_else(|(code, message)| fail(code, &message))
}

/// Everything that was found.
struct Found {
    loaded: Loaded,
    /// Memory of a pod for the target.
    pod_memory_bytes: Option<u64>,
    target: Target,
    findings: Vec<Finding>,
    container: Container,
}

/// Reads, measures and checks. Changes nothing.
fn look(flags: &TargetFlags) -> Result<Found, Failed> {
    let loaded = config::load(&flags.flags.sources());
    let loaded = loaded.map_err(|error| (exit::CONFIG, error.to_string()))?;
    let mut config = loaded.config.clone();
    let root = Root::system();
    let machine = machine(flags.pid)?;
    if let Some(bytes) = flags.memory {
        config.limits.memory_bytes_max = bytes;
    }
    let profile = match config.profile.as_str() {
        "" => None,
        name => Some(Profile::load(name).map_err(|error| (exit::CONFIG, error))?),
    };
    cores::place(&mut config, &machine).map_err(|error| (exit::CONFIG, error.to_string()))?;
    let facts = Facts::new(&config, &machine);
    let configured = match config.limits.connections_max {
        0 => CONNECTIONS_DEFAULT,
        connections => u64::from(connections),
    };
    let connections = flags.connections.unwrap_or(configured);
    let mut target = preflight::target(&config, connections, facts.shards);
    target.heartbeat_s = flags.heartbeat.unwrap_or(target.heartbeat_s);
    target.lb_timeout_s = flags.lb_timeout;
    target.connects_per_s = flags.connects_per_s.unwrap_or(target.connects_per_s);
    target.process = flags.pid;
    let measured = measured(flags, &config, facts, &target, &root);
    let context = Context::read(&root, &target, &measured, profile.as_ref());
    let mut findings = check::run(&context);
    if !flags.only.is_empty() {
        let asked = |id: &str| flags.only.iter().any(|only| id.starts_with(only.as_str()));
        findings.retain(|finding| asked(finding.id));
        let unknown =
            flags.only.iter().find(|only| !check::checks().any(|c| c.id.starts_with(*only)));
        if let Some(unknown) = unknown {
            let message =
                format!("there is no check `{unknown}`; `shardcast tune check --all` lists them");
            return Err((exit::USAGE, message));
        }
    }
    let container = context.container;
    let pod_memory_bytes = preflight::memory_for(&config, facts.shards, target.connections);
    Ok(Found { loaded, pod_memory_bytes, target, findings, container })
}

/// What is asked of a machine by somebody who did not say.
const CONNECTIONS_DEFAULT: u64 = 100_000;

fn measured(
    flags: &TargetFlags,
    config: &Config,
    facts: Facts,
    target: &Target,
    root: &Root,
) -> Measured {
    let sync = match flags.measure {
        true => measure::sync_time(&target.data_dir),
        false => Err("not measured; --measure does".to_owned()),
    };
    Measured {
        uring: match flags.pid {
            None => probe_uring(config, facts),
            Some(pid) => UringProbe::NotTried(format!("not tried for process {pid}")),
        },
        connections_by_memory: preflight::connections_by_memory(config, facts)
            .map_or_else(Room::NoStart, Room::Clients),
        ethtool: Nics::read(root).map(|nics| measure::ethtool(&nics)).unwrap_or_default(),
        space: measure::space(&target.data_dir),
        sync,
    }
}

/// What this shell may use, or another process.
fn machine(pid: Option<u32>) -> Result<Machine, Failed> {
    let Some(pid) = pid else { return Ok(Machine::read()) };
    let root = Root::system();
    root.text(&format!("/proc/{pid}/status"))
        .map_err(|absent| (exit::USAGE, format!("--pid: {absent}; is it still running?")))?;
    Ok(Machine::read_from(&Roots::below(&root).of(Some(pid))))
}

/// Builds and uses a ring of a size that this shell's descriptor limit allows: the limit itself has
/// its own check.
fn probe_uring(config: &Config, facts: Facts) -> UringProbe {
    let budget = match Budget::derive(config, facts) {
        Ok(budget) => budget,
        Err(error) => return UringProbe::NotTried(format!("no budget for a ring: {error}")),
    };
    let sizes = DriverSizes {
        connections: budget.shard.connections_max.min(PROBE_CONNECTIONS_MAX),
        receive_buffers: budget.shard.receive_buffers,
        receive_buffer_bytes: budget.shard.receive_buffer_bytes,
        receive_bytes_per_turn: budget.shard.receive_buffer_bytes * 4,
    };
    match uring::probe(&sizes) {
        Ok(()) => UringProbe::Works,
        Err(unavailable) => {
            UringProbe::Unavailable { cause: unavailable.cause, remedy: unavailable.remedy }
        }
    }
}

const PROBE_CONNECTIONS_MAX: u32 = 256;

fn check(args: &CheckArgs) -> Result<u8, Failed> {
    let found = look(&args.target)?;
    let text = match args.json {
        true => report::json(&found.target, found.container, &found.findings),
        false => report::table(&found.target, found.container, &found.findings, args.all),
    };
    print(&text, code(check::worst(&found.findings), args.strict))
}

/// The exit code of a severity.
fn code(worst: Severity, strict: bool) -> u8 {
    match worst {
        Severity::Fatal => TARGET_NOT_MET,
        Severity::Warning => WARNINGS,
        Severity::Unknown if strict => WARNINGS,
        Severity::Unknown | Severity::Info | Severity::Ok => exit::OK,
    }
}

const WARNINGS: u8 = 1;
const TARGET_NOT_MET: u8 = 2;

fn plan(args: &PlanArgs) -> Result<u8, Failed> {
    let found = look(&args.target)?;
    print(&Plan::of(&found.findings, &Root::system()).text(), exit::OK)
}

fn rendered(args: &RenderArgs) -> Result<u8, Failed> {
    let found = look(&args.target)?;
    let service = service::service(&args.target, &found.loaded);
    let of = render::Subject {
        target: &found.target,
        findings: &found.findings,
        service: &service,
        pod_memory_bytes: found.pod_memory_bytes,
    };
    let text = match args.what {
        Rendered::Sysctl => render::sysctl(&of),
        Rendered::Systemd => render::unit(&of),
        Rendered::SystemdDropIn => render::drop_in(&of),
        Rendered::Limits => render::limits(&of),
        Rendered::Script => render::script(&of),
        Rendered::Kubernetes => render::kubernetes(&of),
        Rendered::Seccomp => render::seccomp(),
    };
    print(&text, exit::OK)
}

fn applied(args: &ApplyArgs) -> Result<u8, Failed> {
    let found = look(&args.target)?;
    let root = Root::system();
    let plan = Plan::of(&found.findings, &root);
    let outcome = apply::apply(&root, &plan, &args.undo.undo_file, args.undo.dry_run)
        .map_err(|message| (exit::CONFIG, message))?;
    print(&said(&outcome, args.undo.dry_run), exit::OK)?;
    for (id, fix) in &plan.by_hand {
        println!("by hand   {id}: {fix}");
    }
    if outcome.lines.is_empty() {
        println!("nothing to change here");
    } else if args.undo.dry_run {
        println!("(a dry run: nothing was changed)");
    } else if outcome.changed {
        println!("`shardcast tune undo` takes it back; `shardcast tune render` makes it last");
    } else {
        println!("nothing was changed");
    }
    Ok(if outcome.is_whole() { exit::OK } else { WARNINGS })
}

/// A line for each step; of a dry run, what it would do.
fn said(outcome: &apply::Outcome, dry: bool) -> String {
    let text = outcome.text();
    let line = |line: &str| match line.strip_prefix("done ") {
        Some(rest) if dry => format!("would{rest}\n"),
        _ => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

fn undone(args: &UndoArgs) -> Result<u8, Failed> {
    let outcome = apply::undo(&Root::system(), &args.undo.undo_file, args.undo.dry_run)
        .map_err(|message| (exit::CONFIG, message))?;
    let text = match outcome.lines.is_empty() {
        true => "nothing to undo\n".to_owned(),
        false => said(&outcome, args.undo.dry_run),
    };
    print(&text, if outcome.is_whole() { exit::OK } else { WARNINGS })
}

fn show(args: &ShowArgs) -> Result<u8, Failed> {
    let config_failed = |message| (exit::CONFIG, message);
    if args.source {
        let profile = Profile::source(&args.profile).map(str::to_owned);
        let text = profile.map_or_else(
            || std::fs::read_to_string(&args.profile).map_err(|e| format!("{}: {e}", args.profile)),
            Ok,
        );
        return print(&text.map_err(config_failed)?, exit::OK);
    }
    let profile = Profile::load(&args.profile).map_err(config_failed)?;
    let root = Root::system();
    let (topology, nics) = (Topology::read(&root), Nics::read(&root));
    let map = profile::place(Some(&profile), &topology, &Machine::read(), &nics, args.shards);
    let (map, topology) = map
        .and_then(|map| topology.map(|topology| (map, topology)))
        .map_err(|absent| config_failed(absent.to_string()))?;
    if args.json {
        let text = serde_json::to_string_pretty(&map);
        return print(&(text.map_err(|error| config_failed(error.to_string()))? + "\n"), exit::OK);
    }
    let mut text = format!("{}\n\n{}", profile.summary, draw(&map, &topology, nics.as_ref().ok()));
    if !profile.config.is_empty() {
        text.push_str("\nand these defaults of the configuration:\n");
        for (key, value) in &profile.config {
            text.push_str(&format!("  {key} = {value}\n"));
        }
    }
    print(&text, exit::OK)
}

/// A reader that closed the pipe has what it wanted.
fn print(text: &str, code: u8) -> Result<u8, Failed> {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    Ok(code)
}
