//! `shardcast capacity`: how many servers a load needs, what that costs, and why.
//!
//! The model is [`tuning::capacity`]; here flags and files become its inputs and its plan is shown.
//! Flags change what an example, a file or the defaults say, and nothing else is read. Tested as a
//! program in `tests/tests/it`.

mod args;

pub use args::CapacityArgs;

use super::{exit, fail};
use crate::config::Config;
use crate::config::budget::{Budget, Facts};
use args::Protocol;
use std::io::Write;
use std::path::Path;
use tuning::capacity::{
    self, Calibration, Inputs, Load, Plan, Prices, Reserve, Server, Transport, Wire,
};

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
    change(args, &mut inputs)?;
    let mut plan = capacity::plan(&inputs).map_err(|error| (exit::USAGE, error.to_string()))?;
    if let Some(pod) = &mut plan.pod {
        pod.allowed = allowed(&inputs, pod.memory_bytes);
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
        // Who says what a server can do means that, and not a profile.
        server: if args.server_in.is_some() || args.server_out.is_some() {
            Server::given()
        } else {
            standard.map_or_else(Server::given, Server::of_profile)
        },
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

fn change(args: &CapacityArgs, inputs: &mut Inputs) -> Result<(), Failed> {
    change_server(args, &mut inputs.server)?;
    let load = &mut inputs.load;
    for (to, from) in [
        (&mut load.users, args.users),
        (&mut load.rooms_per_user, args.rooms_per_user),
        (&mut load.users_per_room, args.users_per_room),
        (&mut load.messages_per_user_min, args.messages_per_user_min),
        (&mut load.events_per_s, args.events_per_s),
        (&mut load.message_bytes, args.message_bytes),
        (&mut load.session_min, args.session_min),
        (&mut load.active_min, args.active_min),
        (&mut inputs.wire.delta, args.delta),
        (&mut inputs.wire.deflate, args.deflate),
        (&mut inputs.wire.deflate_bytes_min, args.deflate_bytes_min),
        (&mut inputs.wire.heartbeat_s, args.heartbeat_s),
        (&mut inputs.wire.batch_ms, args.batch_ms),
        (&mut inputs.reserve.peak, args.peak),
        (&mut inputs.reserve.headroom_percent, args.headroom),
    ] {
        *to = from.unwrap_or(*to);
    }
    // Fewer users than fill a usual room are all in one.
    let filled = load.users * load.rooms_per_user;
    if args.users_per_room.is_none() && load.users_per_room > filled && filled >= 1.0 {
        load.users_per_room = filled;
    }
    // The same for a session shorter than the usual activity.
    if args.active_min.is_none() {
        load.active_min = load.active_min.min(load.session_min);
    }
    load.skip_sender |= args.skip_sender;
    load.idle_timeout_min = args.idle_timeout_min.or(load.idle_timeout_min);
    inputs.reserve.peak_hours = args.peak_hours.or(inputs.reserve.peak_hours);
    inputs.reserve.n_minus_1 |= args.n_minus_1;
    inputs.wire.tls &= !args.no_tls;
    if let Some(protocol) = args.protocol {
        inputs.wire.transport = match protocol {
            Protocol::Ws => Transport::Ws,
            Protocol::Sse => Transport::Sse,
        };
    }
    let prices = &mut inputs.prices;
    prices.server_hour = args.price_server_hour.or(prices.server_hour);
    prices.per_gb = args.price_gb.or(prices.per_gb);
    if let Some(currency) = &args.currency {
        if currency.chars().count() > 8 || currency.chars().any(char::is_control) {
            let message = "--currency: give a sign or a short name, such as $ or EUR";
            return Err((exit::USAGE, message.to_owned()));
        }
        prices.currency.clone_from(currency);
    }
    inputs.managed.extend(args.managed.iter().cloned());
    inputs.pod_memory_bytes = args.pod_memory.or(inputs.pod_memory_bytes);
    Ok(())
}

fn change_server(args: &CapacityArgs, server: &mut Server) -> Result<(), Failed> {
    if let Some(name) = &args.profile {
        let profile = capacity::profile(name).ok_or_else(|| {
            let names = capacity::PROFILES.map(|profile| profile.name).join(", ");
            (exit::USAGE, format!("there is no profile `{name}`; there are {names}"))
        })?;
        *server = Server::of_profile(profile);
    }
    if let Some(file) = &args.measured {
        let text = read(file)?;
        let found = Calibration::parse(&text)
            .map_err(|error| (exit::USAGE, format!("{}: {error}", file.display())))?;
        if found.quick {
            eprintln!(
                "shardcast: {} was made with --quick: its figures mean nothing",
                file.display()
            );
        }
        *server = Server::measured(&found);
    }
    for (to, from) in [
        (&mut server.connections, args.server_connections),
        (&mut server.in_per_s, args.server_in),
        (&mut server.out_per_s, args.server_out),
        (&mut server.link_gbps, args.server_gbps),
        (&mut server.memory_bytes, args.server_memory),
    ] {
        *to = from.or(*to);
    }
    server.cores = args.server_cores.unwrap_or(server.cores);
    Ok(())
}

/// What a server with default limits allows itself in so much memory, a shard for each core.
fn allowed(inputs: &Inputs, memory_bytes: f64) -> Option<u64> {
    let mut config = Config::default();
    if inputs.wire.tls {
        // Only that there is one counts.
        config.tls.cert = "cert.pem".into();
        config.tls.key = "key.pem".into();
    }
    let facts = Facts {
        shards: inputs.server.cores.clamp(1.0, 64.0) as u32,
        descriptors: inputs.server.connections.unwrap_or(1e6).clamp(1.0, 1e9) as u64,
        memory_bytes: memory_bytes as u64,
    };
    Budget::derive(&config, facts).ok().map(|budget| u64::from(budget.connections_max))
}

fn show(args: &CapacityArgs, plan: &Plan) -> Result<(), Failed> {
    if let Some(file) = &args.html {
        std::fs::write(file, capacity::page(plan))
            .map_err(|error| (exit::USAGE, format!("cannot write {}: {error}", file.display())))?;
        eprintln!("shardcast: wrote {}", file.display());
    }
    let text = if args.json {
        let json = serde_json::to_string_pretty(plan);
        json.map_err(|error| (exit::INTERNAL, error.to_string()))? + "\n"
    } else if args.users.is_none() && args.example.is_none() && args.from.is_none() {
        // Nothing was said of a load.
        capacity::pod_text(plan)
    } else {
        capacity::text(plan)
    };
    // A reader that closed the pipe has what it wanted.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    Ok(())
}

const FILE_BYTES_MAX: u64 = 1 << 20;
