//! What flags change of a plan's inputs. A flag that is not given changes nothing.

use super::args::{CapacityArgs, Protocol};
use super::{Failed, exit, read};
use tuning::capacity::{self, Calibration, Inputs, Load, Prices, Reserve, Server, Transport, Wire};

pub(super) fn change(args: &CapacityArgs, inputs: &mut Inputs) -> Result<(), Failed> {
    server(args, &mut inputs.server)?;
    load(args, &mut inputs.load);
    wire(args, &mut inputs.wire);
    reserve(args, &mut inputs.reserve);
    prices(args, &mut inputs.prices)?;
    inputs.managed.extend(args.managed.iter().cloned());
    inputs.pod_memory_bytes = args.pod_memory.or(inputs.pod_memory_bytes);
    Ok(())
}

/// Puts in what was given.
fn put<const N: usize>(values: [(&mut f64, Option<f64>); N]) {
    for (to, given) in values {
        *to = given.unwrap_or(*to);
    }
}

fn load(args: &CapacityArgs, load: &mut Load) {
    put([
        (&mut load.users, args.users),
        (&mut load.rooms_per_user, args.rooms_per_user),
        (&mut load.users_per_room, args.users_per_room),
        (&mut load.messages_per_user_min, args.messages_per_user_min),
        (&mut load.events_per_s, args.events_per_s),
        (&mut load.message_bytes, args.message_bytes),
        (&mut load.session_min, args.session_min),
        (&mut load.active_min, args.active_min),
    ]);
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
}

fn wire(args: &CapacityArgs, wire: &mut Wire) {
    put([
        (&mut wire.delta, args.delta),
        (&mut wire.deflate, args.deflate),
        (&mut wire.deflate_bytes_min, args.deflate_bytes_min),
        (&mut wire.heartbeat_s, args.heartbeat_s),
        (&mut wire.batch_ms, args.batch_ms),
    ]);
    wire.tls &= !args.no_tls;
    if let Some(protocol) = args.protocol {
        wire.transport = match protocol {
            Protocol::Ws => Transport::Ws,
            Protocol::Sse => Transport::Sse,
        };
    }
}

fn reserve(args: &CapacityArgs, reserve: &mut Reserve) {
    put([(&mut reserve.peak, args.peak), (&mut reserve.headroom_percent, args.headroom)]);
    reserve.peak_hours = args.peak_hours.or(reserve.peak_hours);
    reserve.n_minus_1 |= args.n_minus_1;
}

fn prices(args: &CapacityArgs, prices: &mut Prices) -> Result<(), Failed> {
    prices.server_hour = args.price_server_hour.or(prices.server_hour);
    prices.per_gb = args.price_gb.or(prices.per_gb);
    if let Some(currency) = &args.currency {
        if currency.chars().count() > 8 || currency.chars().any(char::is_control) {
            let message = "--currency: give a sign or a short name, such as $ or EUR";
            return Err((exit::USAGE, message.to_owned()));
        }
        prices.currency.clone_from(currency);
    }
    Ok(())
}

fn server(args: &CapacityArgs, server: &mut Server) -> Result<(), Failed> {
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
    let rates_given = args.server_in.is_some() || args.server_out.is_some();
    if rates_given && server.costs.is_some() && !server.name.ends_with(RATES_GIVEN) {
        server.name.push_str(RATES_GIVEN);
    }
    server.cores = args.server_cores.unwrap_or(server.cores);
    Ok(())
}

/// Said of a server whose rates are not reckoned from CPU.
const RATES_GIVEN: &str = ", rates as given";
