//! What can be typed after `shardcast tune`.

use crate::cli::args::ConfigFlags;
use crate::mesh::SHARDS_MAX;
use clap::{Args, Subcommand, ValueEnum, value_parser};
use std::path::PathBuf;

/// Check, plan and change what the machine needs to carry so many connections. Without a subcommand
/// it checks, and changes nothing.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct TuneArgs {
    #[command(subcommand)]
    pub command: Option<TuneCommand>,
    #[command(flatten)]
    pub check: CheckArgs,
}

/// What can be done.
#[derive(Debug, Clone, Subcommand)]
pub enum TuneCommand {
    Check(CheckArgs),
    Plan(PlanArgs),
    Render(RenderArgs),
    Apply(ApplyArgs),
    Undo(UndoArgs),
    Profile(ProfileArgs),
}

/// What the machine should carry. What is not given comes from the configuration.
#[derive(Debug, Clone, Default, Args)]
pub struct TargetFlags {
    #[command(flatten)]
    pub flags: ConfigFlags,
    /// Clients connected at once. [default: limits.connections_max, or 100000]
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..=CLIENTS_MAX))]
    pub connections: Option<u64>,
    /// Memory the server may plan with, such as 32G. [default: limits.memory_bytes_max, or three
    /// quarters of what is there]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub memory: Option<u64>,
    /// Seconds between heartbeats. [default: limits.heartbeat_s]
    #[arg(long, value_name = "S", value_parser = value_parser!(u32).range(1..=3_600))]
    pub heartbeat: Option<u32>,
    /// Idle time-out of the load balancer in front, in seconds.
    #[arg(long, value_name = "S", value_parser = value_parser!(u32).range(1..=YEAR_S))]
    pub lb_timeout: Option<u32>,
    /// Clients that come back in a second after all were cut. [default: all within 20 s]
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..=CLIENTS_MAX))]
    pub connects_per_s: Option<u64>,
    /// Only these checks, by id or by how it begins; repeat it for several: --only tcp
    #[arg(long, value_name = "ID")]
    pub only: Vec<String>,
    /// Look at the limits of a running server instead of this shell's.
    #[arg(long, value_name = "PID")]
    pub pid: Option<u32>,
    /// Write and sync a small file 33 times in the data directory, to know how long that takes.
    #[arg(long)]
    pub measure: bool,
}

/// As many as `limits.connections_max` can say.
const CLIENTS_MAX: u64 = u32::MAX as u64;
/// A longer time-out is none.
const YEAR_S: i64 = 365 * 86_400;

fn size(text: &str) -> Result<u64, String> {
    tuning::text::parse_bytes(text).ok_or_else(|| "say 32G, 512M or a number of bytes".to_owned())
}

/// Compare the machine with a target: each check with what is there, what is required and from
/// which numbers, why it matters and what to do. Changes nothing.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = CHECK_EXAMPLES)]
pub struct CheckArgs {
    #[command(flatten)]
    pub target: TargetFlags,
    /// For other programs: an object with `worst` and `findings`.
    #[arg(long)]
    pub json: bool,
    /// Show what is as it should be, too.
    #[arg(long)]
    pub all: bool,
    /// Count what could not be found out as a warning.
    #[arg(long)]
    pub strict: bool,
}

/// Print every change that `apply` would make, with the value that is there now. Changes nothing.
#[derive(Debug, Clone, Args)]
pub struct PlanArgs {
    #[command(flatten)]
    pub target: TargetFlags,
}

/// Print a file to review and install: what the target requires, for good.
#[derive(Debug, Clone, Args)]
#[command(after_help = RENDER_EXAMPLES)]
pub struct RenderArgs {
    /// Which file.
    #[arg(value_enum)]
    pub what: Rendered,
    #[command(flatten)]
    pub target: TargetFlags,
}

/// A file that can be rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Rendered {
    /// For /etc/sysctl.d: kernel settings.
    Sysctl,
    /// For /etc/systemd/system: the service.
    Systemd,
    /// For a service that is there already: only limits.
    SystemdDropIn,
    /// For /etc/security/limits.d: sessions of users, not services.
    Limits,
    /// A shell script that checks, writes and checks again.
    Script,
    /// Pod security context, init container and notes.
    Kubernetes,
    /// A seccomp profile for containers, with io_uring and little else.
    Seccomp,
}

/// Change what `plan` says, now and until the next start of the machine; `undo` takes it back.
///
/// What is there is written to the undo file, and that to disk, before anything changes. Each value
/// is read again afterwards. Running it twice changes nothing the second time.
#[derive(Debug, Clone, Args)]
pub struct ApplyArgs {
    #[command(flatten)]
    pub target: TargetFlags,
    #[command(flatten)]
    pub undo: UndoFlags,
}

/// Restore what `apply` changed, where nobody changed it since.
#[derive(Debug, Clone, Args)]
pub struct UndoArgs {
    #[command(flatten)]
    pub undo: UndoFlags,
}

/// Where the way back is, and whether to go.
#[derive(Debug, Clone, Args)]
pub struct UndoFlags {
    /// Say what would be done, and do nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Where the values that were replaced are kept: in a folder that only root, or you, can write
    /// to. Not in the service's own, since `undo` does what the file says.
    #[arg(long, value_name = "FILE", default_value = "/var/lib/shardcast-tune/undo.json")]
    pub undo_file: PathBuf,
}

/// Core profiles: which threads run on which cores.
#[derive(Debug, Clone, Args)]
pub struct ProfileArgs {
    #[command(subcommand)]
    pub command: ProfileCommand,
}

/// What can be done with profiles.
#[derive(Debug, Clone, Subcommand)]
pub enum ProfileCommand {
    /// The profiles there are, a line each.
    List,
    /// Draw where the profile puts each thread on this machine.
    Show(ShowArgs),
}

/// Which profile to show, and how.
#[derive(Debug, Clone, Args)]
pub struct ShowArgs {
    /// Its name, or the path of a TOML file.
    #[arg(default_value = "standard")]
    pub profile: String,
    /// Shards to place. [default: as many as fit]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=SHARDS_MAX as i64))]
    pub shards: Option<u32>,
    /// Print the file itself, to start an own one from.
    #[arg(long, conflicts_with_all = ["shards", "json"])]
    pub source: bool,
    /// For other programs.
    #[arg(long)]
    pub json: bool,
}

const EXAMPLES: &str = "\
Examples:
  shardcast tune                                           check, for what is configured
  shardcast tune check --connections 200000 --shards 8 --memory 32G --lb-timeout 60
  shardcast tune plan --connections 200000                 what would change
  sudo shardcast tune apply --connections 200000           change it, until the next start
  sudo shardcast tune undo                                 take it back
  shardcast tune render sysctl --connections 200000        for good: a file to review
  shardcast tune profile show large                        the map of cores

docs/reference/tuning-checks.md lists every check.";

const CHECK_EXAMPLES: &str = "\
Examples:
  shardcast tune check --connections 200000 --shards 8
  shardcast tune check --config shardcast.toml --lb-timeout 60 --measure
  shardcast tune check --pid $(pidof shardcast)            the limits of the running server
  shardcast tune check --json | jq '.findings[] | select(.severity == \"fatal\")'

Exit codes: 0 nothing to do, 1 warnings, 2 the target cannot be met; 64 the command line makes no
sense, 78 the configuration does not fit.";

const RENDER_EXAMPLES: &str = "\
Examples:
  shardcast tune render sysctl --connections 200000 | sudo tee /etc/sysctl.d/90-shardcast.conf
  shardcast tune render systemd --profile large > shardcast.service
  shardcast tune render script > tune.sh && less tune.sh && sudo sh tune.sh
  shardcast tune render seccomp > shardcast.json
  docker run --security-opt seccomp=shardcast.json --security-opt no-new-privileges ...";
