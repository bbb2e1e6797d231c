//! What can be typed. Each scenario has its own flags; `all` runs them one after the other.

use crate::engines::EngineArgs;
use crate::floor::FloorArgs;
use crate::ingest_peers::PeerArgs;
use crate::peers::axum_server::AxumArgs;
use crate::scenarios::{
    Common, broadcast, calibrate, clients, connects, engines, idle, ingest, ingest_peers, latency,
    resume, saturation, shards, size, stalled,
};
use crate::swarm::SwarmArgs;
use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use std::path::{Path, PathBuf};

/// Measure the server: memory per connection, CPU per delivery and per ingested event, latency.
#[derive(Debug, Parser)]
#[command(name = "bench", arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    pub common: Common,
    /// Measure what one of each operation costs here, in two minutes, for
    /// `shardcast capacity --measured FILE` and `cost.calibration`.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "calibration.json",
          conflicts_with_all = ["peers", "out"])]
    pub calibrate: Option<PathBuf>,
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The scenarios, and the children they start.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// N idle WebSocket subscribers: memory of the process and of the kernel for each.
    Idle(idle::IdleArgs),
    /// One message to N subscribers at a time, in turns with the bare send loop and other servers.
    Broadcast(broadcast::BroadcastArgs),
    /// Eight messages at a time, in turns with the same.
    Burst(broadcast::BroadcastArgs),
    /// Always 16 messages on their way to N subscribers: what batching is worth.
    Saturation(saturation::SaturationArgs),
    /// The same over rooms of fifty, every user in two of them.
    Chat(saturation::ChatArgs),
    /// The client protocol's encodings beside the plain WebSocket.
    Clients(clients::ClientsArgs),
    /// Clients that connect and subscribe, as fast as they can.
    Connects(connects::ConnectsArgs),
    /// HTTP/2, one event per request, many streams at once.
    IngestSingle(ingest::SingleArgs),
    /// HTTP/2, one event per request, in turns with servers that only answer 202.
    IngestPeers(ingest_peers::PeersArgs),
    /// HTTP/2, NDJSON of 1,000 events per request, both acknowledgements, spool on.
    IngestBatch(ingest::BatchArgs),
    /// Messages at a fixed rate, whatever the server does; latency from the intended time.
    Latency(latency::LatencyArgs),
    /// A share of the clients never reads: memory stays within the budget, drops are counted.
    Stalled(stalled::StalledArgs),
    /// One shard against two at the same load.
    Shards(shards::ShardsArgs),
    /// One message at a time to 1,000 to 60,000 subscribers: does the ratio to the bare loop hold?
    Size(size::SizeArgs),
    /// N clients are drained, resume on a new process, and count what they got.
    Resume(resume::ResumeArgs),
    /// The server beside other runtimes under the same protocol core.
    Engines(engines::EnginesArgs),
    /// Everything above.
    All,
    /// Make Markdown and plots again from the JSON that `--out` wrote.
    Report(ReportArgs),
    /// Used by the scenarios: the clients.
    #[command(hide = true)]
    Swarm(SwarmArgs),
    /// Used by the scenarios: the bare send loop.
    #[command(hide = true)]
    Floor(FloorArgs),
    /// Used by the scenarios: axum as a peer.
    #[command(hide = true)]
    Axum(AxumArgs),
    /// Used by the scenarios: another runtime.
    #[command(hide = true)]
    Engine(EngineArgs),
    /// Used by the scenarios: a server that only answers 202.
    #[command(hide = true)]
    IngestPeer(PeerArgs),
}

/// Flags of `report`.
#[derive(Debug, Clone, Args)]
pub struct ReportArgs {
    /// The folder.
    folder: PathBuf,
}

/// Runs what was asked for.
pub fn run(cli: Cli) -> Result<()> {
    let common = &cli.common;
    if common.only_parse {
        return Ok(());
    }
    let Some(command) = &cli.command else {
        let file = cli.calibrate.context("name a scenario, or --calibrate; --help lists them")?;
        return calibrated(common, &file);
    };
    if cli.calibrate.is_some() {
        bail!("--calibrate measures what it needs by itself; leave the scenario out");
    }
    match command {
        Command::Swarm(args) => return crate::swarm::run(args),
        Command::Floor(args) => return crate::floor::run(args),
        Command::Engine(args) => return crate::engines::run(args),
        Command::Report(args) => return crate::results::files::render(&args.folder),
        Command::Axum(args) => return crate::peers::axum_server::run(args),
        Command::IngestPeer(args) => return crate::ingest_peers::run(args),
        _ => {
            // What is started inherits it; not every server raises its own.
            crate::machine::raise_descriptors();
        }
    }
    let _steering =
        common.apart.then(|| crate::steering::Steering::to(common.client_core)).transpose()?;
    crate::machine::print_header(common)?;
    match command {
        Command::Idle(args) => idle::run(common, args),
        Command::Broadcast(args) => broadcast::run(common, args, 1),
        Command::Burst(args) => broadcast::run(common, args, 8),
        Command::IngestSingle(args) => ingest::single(common, args),
        Command::IngestPeers(args) => ingest_peers::run(common, args),
        Command::IngestBatch(args) => ingest::batch(common, args),
        Command::Saturation(args) => saturation::run(common, args),
        Command::Chat(args) => saturation::chat(common, args),
        Command::Clients(args) => clients::run(common, args),
        Command::Connects(args) => connects::run(common, args),
        Command::Latency(args) => latency::run(common, args),
        Command::Stalled(args) => stalled::run(common, args),
        Command::Shards(args) => shards::run(common, args),
        Command::Size(args) => size::run(common, args),
        Command::Resume(args) => resume::run(common, args),
        Command::Engines(args) => engines::run(common, args),
        Command::All => all(common),
        Command::Swarm(_)
        | Command::Floor(_)
        | Command::Engine(_)
        | Command::Axum(_)
        | Command::Report(_)
        | Command::IngestPeer(_) => Ok(()),
    }
}

fn calibrated(common: &Common, file: &Path) -> Result<()> {
    crate::machine::raise_descriptors();
    let _steering =
        common.apart.then(|| crate::steering::Steering::to(common.client_core)).transpose()?;
    crate::machine::print_header(common)?;
    calibrate::run(common, file)
}

fn all(common: &Common) -> Result<()> {
    let quick = common.quick;
    idle::run(common, &idle::IdleArgs::sized())?;
    broadcast::run(common, &broadcast::BroadcastArgs::sized(quick), 1)?;
    broadcast::run(common, &broadcast::BroadcastArgs::sized(quick), 8)?;
    for connections in [1_000, 15_000] {
        saturation::run(common, &saturation::SaturationArgs::sized(connections))?;
    }
    saturation::chat(common, &saturation::ChatArgs::sized())?;
    for together in [1, 8] {
        clients::run(common, &clients::ClientsArgs::sized(together))?;
    }
    connects::run(common, &connects::ConnectsArgs::sized())?;
    ingest::single(common, &ingest::SingleArgs::sized())?;
    ingest::batch(common, &ingest::BatchArgs::sized())?;
    ingest_peers::run(common, &ingest_peers::PeersArgs::sized())?;
    latency::run(common, &latency::LatencyArgs::sized())?;
    stalled::run(common, &stalled::StalledArgs::sized())?;
    shards::run(common, &shards::ShardsArgs::sized())?;
    size::run(common, &size::SizeArgs::sized())?;
    resume::run(common, &resume::ResumeArgs::sized())?;
    engines::run(common, &engines::EnginesArgs::sized())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn no_flag_of_a_scenario_takes_the_name_of_a_common_one() {
        let command = Cli::command();
        command.clone().debug_assert();
        for scenario in command.get_subcommands().filter(|command| !command.is_hide_set()) {
            for own in scenario.get_arguments() {
                let common = command.get_arguments().any(|common| common.get_id() == own.get_id());
                assert!(!common, "{} of {}", own.get_id(), scenario.get_name());
            }
        }
    }
}
