//! `shardcast capacity`: how many servers a load needs, what that costs, and why.
//!
//! The model is [`tuning::capacity`]; here flags and files become its inputs and its plan is shown.
//! Flags change what an example, a file or the defaults say, and nothing else is read. Tested as a
//! program in `tests/tests/it`.

mod args;
mod change;

pub use args::CapacityArgs;

use super::{exit, fail};
use crate::boot::preflight::connections_by_memory;
use crate::config::Config;
use crate::config::budget::Facts;
use crate::mesh::SHARDS_MAX;
use std::io::Write;
use std::path::Path;
use tuning::capacity::{self, Admitted, Inputs, Load, Plan, Prices, Reserve, Server, Wire};

/// What ends the command early: its exit code and what to do.
type Failed = (u8, String);

pub(super) fn run(args: &CapacityArgs) -> u8 {
    match planned(args).and_then(|plan| show(args, &plan)) {
        Ok(()) => exit::OK,
        Err((code, message)) => fail(code, &message),
    }
}

fn planned(args: &CapacityArgs) -> Result<Plan, Failed> {
    let mut inputs = base(args)?;
    change::change(args, &mut inputs)?;
    let planned =
        |inputs: &Inputs| capacity::plan(inputs).map_err(|error| (exit::USAGE, error.to_string()));
    inputs.server.admitted = None;
    // Nonsense is refused before it is reckoned with.
    planned(&inputs)?;
    inputs.server.admitted = admitted(&inputs)?;
    let mut plan = planned(&inputs)?;
    if let Some(pod) = &mut plan.pod {
        let admits = admits(&inputs, pod.memory_bytes, inputs.wire.tls);
        // Too little to start with is room for nobody.
        pod.allowed = Some(admits.map_or(0, |connections| connections as u64));
    }
    Ok(plan)
}

/// What flags change.
fn base(args: &CapacityArgs) -> Result<Inputs, Failed> {
    if let Some(name) = &args.example {
        return capacity::example(name).ok_or_else(|| {
            let names = capacity::EXAMPLES.map(|(name, _)| name).join(", ");
            (exit::USAGE, format!("there is no example `{name}`; there is {names}"))
        });
    }
    if let Some(file) = &args.from {
        return from_file(file);
    }
    if args.users.is_none() && args.pod_memory.is_none() {
        let message = "how many users? say --users N, --example chat-1m or --from plan.json; \
                       `shardcast capacity --help` lists what else can be said";
        return Err((exit::USAGE, message.to_owned()));
    }
    let standard = capacity::PROFILES.iter().find(|profile| profile.name == "standard");
    Ok(Inputs {
        load: Load::default(),
        wire: Wire::default(),
        server: standard.map_or_else(Server::given, Server::of_profile),
        reserve: Reserve::default(),
        prices: Prices::default(),
        managed: Vec::new(),
        pod_memory_bytes: None,
    })
}

/// The inputs in what `--json` printed.
fn from_file(file: &Path) -> Result<Inputs, Failed> {
    let text = read(file)?;
    let broken = |error: serde_json::Error| {
        let message = format!(
            "{}: {error}; `shardcast capacity ... --json` makes such a file",
            file.display()
        );
        (exit::USAGE, message)
    };
    let mut value: serde_json::Value = serde_json::from_str(&text).map_err(broken)?;
    let inputs = value.get_mut("inputs").map(serde_json::Value::take).unwrap_or(value);
    serde_json::from_value(inputs).map_err(broken)
}

/// A file of at most a few kilobytes; one that is larger is something else.
fn read(file: &Path) -> Result<String, Failed> {
    let refused = |what: String| (exit::USAGE, format!("{}: {what}", file.display()));
    let known = std::fs::metadata(file).map_err(|error| refused(error.to_string()))?;
    if !known.is_file() || known.len() > FILE_BYTES_MAX {
        return Err(refused(format!("it is not a file of at most {FILE_BYTES_MAX} bytes")));
    }
    let bytes = std::fs::read(file).map_err(|error| refused(error.to_string()))?;
    String::from_utf8(bytes).map_err(|_| refused("it is not text".to_owned()))
}

/// What the memory budget of a server with default limits has room for, a shard for each core, as
/// `tune` and the server itself reckon it.
fn admits(inputs: &Inputs, memory_bytes: f64, tls: bool) -> Result<f64, String> {
    let mut config = Config::default();
    if tls {
        // Only that there is one counts.
        config.tls.cert = "cert.pem".into();
        config.tls.key = "key.pem".into();
    }
    let facts = Facts {
        shards: inputs.server.cores.clamp(1.0, SHARDS_MAX as f64) as u32,
        descriptors: u64::from(u32::MAX),
        memory_bytes: memory_bytes as u64,
    };
    connections_by_memory(&config, facts).map(|connections| connections as f64)
}

/// Both ways, where the server's memory is known: a change of the plan may be one to or from TLS.
fn admitted(inputs: &Inputs) -> Result<Option<Admitted>, Failed> {
    let Some(bytes) = inputs.server.memory_bytes else { return Ok(None) };
    let admits = |tls| {
        admits(inputs, bytes, tls).map_err(|problem| {
            let message =
                format!("--server-memory: `shardcast serve` would not start there: {problem}");
            (exit::USAGE, message)
        })
    };
    Ok(Some(Admitted { plain: admits(false)?, tls: admits(true)? }))
}

fn show(args: &CapacityArgs, plan: &Plan) -> Result<(), Failed> {
    // Nothing was said of a load, so nothing is said of servers for one.
    let only_pod = args.users.is_none() && args.example.is_none() && args.from.is_none();
    if let Some(file) = &args.html {
        std::fs::write(
            file,
            if only_pod { capacity::pod_page(plan) } else { capacity::page(plan) },
        )
        .map_err(|error| (exit::USAGE, format!("cannot write {}: {error}", file.display())))?;
        eprintln!("shardcast: wrote {}", file.display());
    }
    let text = if args.json {
        let json = match only_pod {
            true => serde_json::to_string_pretty(&capacity::PodPlan::of(plan)),
            false => serde_json::to_string_pretty(plan),
        };
        json.map_err(|error| (exit::INTERNAL, error.to_string()))? + "\n"
    } else if only_pod {
        capacity::pod_text(plan)
    } else {
        capacity::text(plan)
    };
    // A reader that closed the pipe has what it wanted.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    Ok(())
}

const FILE_BYTES_MAX: u64 = 1 << 20;
