//! What can be typed, and the texts that teach it.

pub use super::capacity::CapacityArgs;
use super::reference::Page;
pub use super::tune::args::TuneArgs;
use crate::auth::Right;
use crate::config::Sources;
use crate::config::layers::FlagValue;
use crate::demo::clients::ClientsArgs;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;
use toml::Value;

/// Real-time events from services to screens: publish over HTTP, follow over WebSocket or SSE,
/// resume without loss.
#[derive(Debug, Parser)]
#[command(name = "shardcast", version, arg_required_else_help = true, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    Serve(ServeArgs),
    Demo(DemoArgs),
    Publish(PublishArgs),
    Tail(TailArgs),
    Config(ConfigArgs),
    Key(KeyArgs),
    Storage(StorageArgs),
    Tune(Box<TuneArgs>),
    Capacity(Box<CapacityArgs>),
    Bench(BenchArgs),
    #[command(hide = true)]
    DemoClients(ClientsArgs),
    #[command(hide = true)]
    DemoServer(DemoServerArgs),
}

/// Flags that make a configuration; shared by every subcommand that needs one.
#[derive(Debug, Clone, Default, Args)]
pub struct ConfigFlags {
    /// TOML file; SHARDCAST_CONFIG names one too. `shardcast config` prints one to start from.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Any key of the configuration, as often as needed: --set limits.headers_max=50
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Address for clients and services; repeat it for several. [default: 127.0.0.1:8000]
    #[arg(long, value_name = "IP:PORT")]
    pub listen: Vec<String>,
    /// Address for metrics, debugging and drain. [default: 127.0.0.1:9000]
    #[arg(long, value_name = "IP:PORT")]
    pub admin_listen: Option<String>,
    /// Folder of the spool; one server at a time. [default: ./shardcast-data]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// Shard threads; 0 takes one per core this process may use. [default: 0]
    #[arg(long, value_name = "N")]
    pub shards: Option<u32>,
    /// Core profile: small, standard, large, edge, ingest-heavy, or a TOML file. It maps threads to
    /// cores and sizes pools. [default: none]
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// I/O engine: auto, uring or epoll. [default: auto]
    #[arg(long, value_name = "ENGINE")]
    pub engine: Option<String>,
    /// PEM certificate chain; turns TLS on, together with --tls-key.
    #[arg(long, value_name = "FILE")]
    pub tls_cert: Option<String>,
    /// PEM private key of --tls-cert.
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<String>,
    /// Serve addresses other than loopback without authentication: anybody who reaches the port
    /// may publish and subscribe as the namespaces permit.
    #[arg(long)]
    pub allow_anonymous: bool,
    /// Share the port with other server processes on purpose.
    #[arg(long)]
    pub share_port: bool,
}

impl ConfigFlags {
    /// The sources of a configuration: these flags over the process's environment.
    pub fn sources(&self) -> Sources {
        let environment = Sources::process_environment();
        let named = environment.iter().find(|(name, _)| name == "SHARDCAST_CONFIG");
        let file = self.config.clone().or_else(|| named.map(|(_, path)| path.into()));
        Sources { file, sets: self.set.clone(), flags: self.flag_values(), environment }
    }

    fn flag_values(&self) -> Vec<FlagValue> {
        let mut flags = Vec::new();
        let mut put = |flag, path, value: Option<Value>| {
            flags.extend(value.map(|value| FlagValue { flag, path, value }));
        };
        let text = |value: &Option<String>| value.clone().map(Value::String);
        let on = |value: bool| value.then_some(Value::Boolean(true));
        let listen = (!self.listen.is_empty()).then(|| Value::from(self.listen.clone()));
        put("--listen", "listen", listen);
        put("--admin-listen", "admin_listen", text(&self.admin_listen));
        put("--data-dir", "data_dir", text(&self.data_dir));
        put("--shards", "shards", self.shards.map(|count| Value::Integer(count.into())));
        put("--profile", "profile", text(&self.profile));
        put("--engine", "engine", text(&self.engine));
        put("--tls-cert", "tls.cert", text(&self.tls_cert));
        put("--tls-key", "tls.key", text(&self.tls_key));
        put("--allow-anonymous", "allow_anonymous", on(self.allow_anonymous));
        put("--share-port", "share_port", on(self.share_port));
        flags
    }
}

/// Run a server: events in over HTTP/1.1 and HTTP/2, out live over WebSocket and SSE, kept on disk.
///
/// Without flags it serves this machine only, on http://127.0.0.1:8000, with one shard per core,
/// and keeps events in ./shardcast-data. SIGTERM or Ctrl-C drains: clients are sent away at a pace
/// (drain_time_s), what is in flight is answered, the spool is synced. A second one stops at once.
#[derive(Debug, Clone, Args)]
#[command(after_help = SERVE_EXAMPLES)]
pub struct ServeArgs {
    #[command(flatten)]
    pub flags: ConfigFlags,
}

/// See it work: a server, thousands of WebSocket clients and two live feeds on this machine, and a
/// page with a button that kills the server, to show that nobody loses anything.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// Open the page in a browser.
    #[arg(long)]
    pub open: bool,
    /// WebSocket clients to connect.
    #[arg(long, value_name = "N", default_value_t = 5_000)]
    pub clients: u32,
    /// Address for the page and the clients; loopback only.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8000")]
    pub listen: String,
    /// Address for metrics and debugging; loopback only.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:9000")]
    pub admin_listen: String,
    /// Shard threads; 0 takes one per core this process may use.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub shards: u32,
    /// I/O engine: auto, uring or epoll.
    #[arg(long, value_name = "ENGINE", default_value = "auto")]
    pub engine: String,
    /// Folder of the demo's spool. [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Store the events in ClickHouse too, in its database `shardcast_demo`, such as
    /// clickhouse=http://127.0.0.1:8123. `cargo xtask clickhouse` starts one.
    #[arg(long, value_name = "clickhouse=URL")]
    pub store: Option<String>,
}

/// Become `serve`, and stop when the parent process does (started by `demo`).
#[derive(Debug, Clone, Args)]
pub struct DemoServerArgs {
    /// The command line to become.
    #[arg(last = true, required = true)]
    pub arguments: Vec<OsString>,
}

/// Publish events: the messages given, or one per line of standard input, in one stream.
///
/// A line is text as it is; with --json it is a JSON value; with --ndjson it is a whole event with
/// `data` and optionally id, type, source, time, key, class. Each answer is printed as JSON: how
/// many were accepted, at which positions, and which were refused and why.
#[derive(Debug, Clone, Args)]
#[command(after_help = PUBLISH_EXAMPLES)]
pub struct PublishArgs {
    /// Where to publish, such as `orders` or `orders:eu` (namespace:name).
    pub channel: String,
    /// Messages; without any, standard input is read line by line.
    pub messages: Vec<String>,
    /// The server; SHARDCAST_URL names one too. [default: http://127.0.0.1:8000]
    #[arg(long)]
    pub url: Option<String>,
    /// Each message is a JSON value and arrives as such.
    #[arg(long, conflicts_with = "ndjson")]
    pub json: bool,
    /// Each line is a whole event: {"id":"1","type":"order","data":{...}}
    #[arg(long)]
    pub ndjson: bool,
    /// The event type of every message.
    #[arg(long = "type", value_name = "TYPE", conflicts_with = "ndjson")]
    pub kind: Option<String>,
    /// When the server answers: as soon as events are ordered, or once they are on disk.
    #[arg(long, value_enum, default_value_t = Ack::Accepted)]
    pub ack: Ack,
    /// Print nothing but errors.
    #[arg(long, short)]
    pub quiet: bool,
}

/// What an acknowledgement means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Ack {
    /// Ordered, in memory.
    Accepted,
    /// Synced to disk.
    Durable,
    /// Confirmed by the store beside the spool.
    Stored,
}

impl Ack {
    /// As the query says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Durable => "durable",
            Self::Stored => "stored",
        }
    }
}

/// Follow channels in the terminal. Reconnects by itself and goes on where it was cut off; if
/// something is gone for good, it says so.
#[derive(Debug, Clone, Args)]
#[command(after_help = TAIL_EXAMPLES)]
pub struct TailArgs {
    /// Channels to follow.
    #[arg(required = true, value_name = "CHANNEL")]
    pub channels: Vec<String>,
    /// Start after this position: as `publish` gave it, or EPOCH:OFFSET of an earlier --json line.
    #[arg(long, value_name = "POSITION")]
    pub since: Option<String>,
    /// The server; SHARDCAST_URL names one too. [default: http://127.0.0.1:8000]
    #[arg(long)]
    pub url: Option<String>,
    /// Print each event as one line of JSON, with channel, epoch, offset, type, time and data.
    #[arg(long)]
    pub json: bool,
    /// End after this many events.
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
}

/// Print the configuration that would be used: every value, and where it came from.
#[derive(Debug, Clone, Args)]
#[command(after_help = CONFIG_EXAMPLES)]
pub struct ConfigArgs {
    #[command(flatten)]
    pub flags: ConfigFlags,
    /// Print what the limits mean on this machine: memory by holder, and the cap on connections.
    #[arg(long)]
    pub limits: bool,
    /// Print a page of the reference documentation.
    #[arg(long, value_enum, value_name = "PAGE", num_args = 0..=1,
          default_missing_value = "configuration")]
    pub reference: Option<Page>,
}

/// Make an API key for a service: the key itself, which nobody can show again, and the table for
/// the configuration, which has only its hash.
#[derive(Debug, Clone, Args)]
#[command(after_help = KEY_EXAMPLES)]
pub struct KeyArgs {
    /// What the configuration and logs call it.
    pub name: String,
    /// Channels it is for; `*` stands for any characters.
    #[arg(long = "channel", value_name = "PATTERN", default_value = "*")]
    pub channels: Vec<String>,
    /// What it may do there; repeat it for several.
    #[arg(long, value_enum, value_name = "RIGHT", default_value = "publish")]
    pub allow: Vec<Right>,
    /// It opens the admin listener, and what of the server API concerns everybody.
    #[arg(long)]
    pub admin: bool,
}

/// Measure this machine: the benchmark, built beside this program. `--calibrate FILE` writes what
/// `capacity --measured` reads.
#[derive(Debug, Clone, Args)]
#[command(disable_help_flag = true)]
pub struct BenchArgs {
    /// Passed on; `--help` lists what there is.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    pub arguments: Vec<OsString>,
}

/// The stores beside the spool: how far each is, whether they hold the same, and sending again what
/// one lacks.
#[derive(Debug, Clone, Args)]
#[command(after_help = STORAGE_EXAMPLES)]
pub struct StorageArgs {
    #[command(subcommand)]
    pub command: StorageCommand,
}

/// What can be done with the stores.
#[derive(Debug, Clone, Subcommand)]
pub enum StorageCommand {
    Status(StatusArgs),
    Verify(VerifyArgs),
    Replay(ReplayArgs),
    Export(ExportArgs),
    Reconcile(ReconcileArgs),
}

/// A span of time, by when events were received.
#[derive(Debug, Clone, Args)]
pub struct RangeFlags {
    /// Begin: a time such as 2026-11-22T07:00:00Z, or a span before now such as 24h.
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// End, in the same forms. [default: now]
    #[arg(long, value_name = "TIME")]
    pub to: Option<String>,
}

/// How far each store is, what waits for it, and why; dead letters by reason. Asks the running
/// server on its admin address.
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    pub flags: ConfigFlags,
    /// For other programs.
    #[arg(long)]
    pub json: bool,
}

/// Compare the stores hour by hour: how many events, and a checksum over all of their content.
/// Exit code 1 if anything differs.
#[derive(Debug, Clone, Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    pub flags: ConfigFlags,
    #[command(flatten)]
    pub range: RangeFlags,
    /// For other programs.
    #[arg(long)]
    pub json: bool,
}

/// Send to ClickHouse what it lacks: events of the spool in a span of time, or dead letters whose
/// cause is gone. What is there already is not sent; run it as often as you like.
#[derive(Debug, Clone, Args)]
pub struct ReplayArgs {
    #[command(flatten)]
    pub flags: ConfigFlags,
    #[command(flatten)]
    pub range: RangeFlags,
    /// Move dead letters into events instead.
    #[arg(long, conflicts_with_all = ["from", "to"])]
    pub dead_letters: bool,
    /// Only dead letters whose reason contains this.
    #[arg(long, value_name = "TEXT", requires = "dead_letters")]
    pub reason: Option<String>,
}

/// Write events of the spool to standard output as NDJSON, in the order they were stored. Works
/// beside a running server.
#[derive(Debug, Clone, Args)]
pub struct ExportArgs {
    #[command(flatten)]
    pub flags: ConfigFlags,
    #[command(flatten)]
    pub range: RangeFlags,
    /// Only this channel.
    #[arg(long, value_name = "CHANNEL")]
    pub channel: Option<String>,
}

/// Correct the minutes in ClickHouse that events came late for, now and not within the hour.
#[derive(Debug, Clone, Args)]
pub struct ReconcileArgs {
    #[command(flatten)]
    pub flags: ConfigFlags,
    #[command(flatten)]
    pub range: RangeFlags,
}

const EXAMPLES: &str = "\
Try it:
  shardcast tail orders &                         follow a channel
  shardcast publish orders 'hello, world'         publish to it
  curl -N 'localhost:8000/v1/sse?channel=orders'  any SSE or WebSocket client does, too

Exit codes:
  0 all went well    1 not all of it: events refused, stores that differ, warnings of `tune`
  2 the machine cannot meet the target (`tune check`)    64 the command line makes no sense
  69 no server       70 a shard died or another fault of ours
  78 the configuration or the machine does not allow a start

`shardcast COMMAND --help` explains each command.";

const SERVE_EXAMPLES: &str = "\
Examples:
  shardcast serve                                       this machine only, all defaults
  shardcast serve --config shardcast.toml
  shardcast serve --set limits.outbox_bytes_max=65536 --set namespaces.ticks.store=false
  shardcast serve --listen 0.0.0.0:8000 --allow-anonymous     for everybody who reaches the port
  shardcast serve --tls-cert chain.pem --tls-key key.pem

While it runs:
  curl localhost:8000/health/ready      curl localhost:9000/metrics
  curl localhost:9000/debug/connections curl -X POST localhost:9000/admin/drain

`shardcast config --reference` prints every key of the configuration.
Exit codes: 0 drained, 70 a shard died, 78 the configuration or the machine does not allow a start.";

const PUBLISH_EXAMPLES: &str = "\
Examples:
  shardcast publish orders 'hello'                     one text message
  shardcast publish orders --json '{\"total\": 12.5}'    one JSON message
  tail -f access.log | shardcast publish logs          every line, as it is written
  shardcast publish orders --ndjson --ack durable < events.ndjson

SHARDCAST_TOKEN holds an API key or a token, if the server wants one.

Exit codes: 0 all were accepted, 1 some were refused, 69 the server was not reached or took nothing.";

const TAIL_EXAMPLES: &str = "\
Examples:
  shardcast tail orders                        from now on
  shardcast tail orders:eu orders:us           several at once
  shardcast tail orders --json | jq .data      for other programs
  shardcast tail orders --since 1f0c9a7700000001:41

SHARDCAST_TOKEN holds a token or an API key, if the server wants one.";

const KEY_EXAMPLES: &str = "\
Examples:
  shardcast key billing --channel 'orders:*' >> shardcast.toml
  shardcast key reports --allow history --allow subscribe >> shardcast.toml
  shardcast key backend --allow publish --allow history --allow presence --admin >> shardcast.toml

The table goes to standard output, the key to standard error. `shardcast serve --config
shardcast.toml` reads the file.";

const STORAGE_EXAMPLES: &str = "\
Examples, with the configuration that the server has:
  shardcast storage status --config shardcast.toml
  shardcast storage verify --config shardcast.toml --from 7d
  shardcast storage replay --config shardcast.toml --from 2h --to 1h
  shardcast storage replay --config shardcast.toml --dead-letters --reason 'is violated'
  shardcast storage export --data-dir ./shardcast-data --channel orders > orders.ndjson

Exit codes: 0 all is well, 1 stores differ or rows are still rejected, 64 the command line makes no
sense, 69 a store was not reached, 78 the configuration does not fit.";

const CONFIG_EXAMPLES: &str = "\
Examples:
  shardcast config                              all values with their origin, as TOML
  shardcast config --limits                     memory and connections on this machine
  shardcast config --config my.toml --limits    ... with my limits
  shardcast config > shardcast.toml             a file to start from

Environment: SHARDCAST_ and the key in capitals, __ for the dot: SHARDCAST_LIMITS__HEADERS_MAX=50";
