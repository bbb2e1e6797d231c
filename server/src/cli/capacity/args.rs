//! What `shardcast capacity` can be told. Every number has a default from the model or the example;
//! a flag that is not given changes nothing.

use clap::{Args, ValueEnum};
use std::path::PathBuf;
use tuning::capacity::{Managed, parse_bytes, parse_number, parse_percent};

/// How many servers a load needs, what limits them, what it costs, and what a change would do:
/// every factor is shown. Servers are as you say, as a profile says, or as measured on a machine.
#[derive(Debug, Clone, Args)]
#[command(arg_required_else_help = true, after_help = EXAMPLES)]
pub struct CapacityArgs {
    /// Start from an example: chat-1m, a chat of a million users.
    #[arg(long, value_name = "NAME", conflicts_with = "from")]
    pub example: Option<String>,
    /// Start from a plan that --json printed.
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
    /// The whole plan as JSON.
    #[arg(long)]
    pub json: bool,
    /// Write the plan with charts as one HTML page, too.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,

    /// Users connected at the busiest moment, one connection each: 1000000, 1e6, 1M.
    #[arg(long, value_name = "N", value_parser = parse_number, allow_negative_numbers = true,
          help_heading = LOAD)]
    pub users: Option<f64>,
    /// Rooms (channels) a user is in. [default: 1]
    #[arg(long, value_name = "N", value_parser = parse_number, allow_negative_numbers = true,
          help_heading = LOAD)]
    pub rooms_per_user: Option<f64>,
    /// Users in a room: who receives a message. [default: 50]
    #[arg(long, value_name = "N", value_parser = parse_number, allow_negative_numbers = true,
          help_heading = LOAD)]
    pub users_per_room: Option<f64>,
    /// Messages a user publishes in a minute, on average over the day. [default: 1]
    #[arg(long, value_name = "N", value_parser = parse_number, allow_negative_numbers = true,
          help_heading = LOAD)]
    pub messages_per_user_min: Option<f64>,
    /// Events that services publish in a second, each to one room. [default: 0]
    #[arg(long, value_name = "N", value_parser = parse_number, allow_negative_numbers = true,
          help_heading = LOAD)]
    pub events_per_s: Option<f64>,
    /// Payload of a message. [default: 200]
    #[arg(long, value_name = "BYTES", value_parser = parse_number, allow_negative_numbers = true,
          help_heading = LOAD)]
    pub message_bytes: Option<f64>,
    /// A sender does not receive its own message.
    #[arg(long, help_heading = LOAD)]
    pub skip_sender: bool,
    /// Minutes a user stays connected if nobody closes the connection. [default: 60]
    #[arg(long, value_name = "MIN", value_parser = parse_number, allow_negative_numbers = true,
          help_heading = LOAD)]
    pub session_min: Option<f64>,
    /// Minutes of it in which the user does something. [default: 12]
    #[arg(long, value_name = "MIN", value_parser = parse_number, allow_negative_numbers = true,
          help_heading = LOAD)]
    pub active_min: Option<f64>,
    /// Close connections of users who did nothing for so many minutes. [default: never]
    #[arg(long, value_name = "MIN", value_parser = parse_number, allow_negative_numbers = true,
          help_heading = LOAD)]
    pub idle_timeout_min: Option<f64>,

    /// How clients are connected. [default: ws]
    #[arg(long, value_enum, help_heading = WIRE)]
    pub protocol: Option<Protocol>,
    /// Without TLS.
    #[arg(long, help_heading = WIRE)]
    pub no_tls: bool,
    /// What is left of a message as a delta: 0.15. [default: 1, no deltas]
    #[arg(long, value_name = "SHARE", value_parser = parse_number, allow_negative_numbers = true,
          help_heading = WIRE)]
    pub delta: Option<f64>,
    /// What permessage-deflate leaves of it: 0.4. [default: 1, not compressed]
    #[arg(long, value_name = "SHARE", value_parser = parse_number, allow_negative_numbers = true,
          help_heading = WIRE)]
    pub deflate: Option<f64>,
    /// Smaller messages are not compressed. [default: 256, as limits.ws_deflate_bytes_min]
    #[arg(long, value_name = "BYTES", value_parser = parse_number, allow_negative_numbers = true,
          help_heading = WIRE)]
    pub deflate_bytes_min: Option<f64>,
    /// Seconds between heartbeats. [default: 25]
    #[arg(long, value_name = "S", value_parser = parse_number, allow_negative_numbers = true,
          help_heading = WIRE)]
    pub heartbeat_s: Option<f64>,
    /// Gather messages for a connection for so long. [default: 0]
    #[arg(long, value_name = "MS", value_parser = parse_number, allow_negative_numbers = true,
          help_heading = WIRE)]
    pub batch_ms: Option<f64>,

    /// A kind of machine: small (2 cores, 4 GiB, 1 Gbit/s), standard (8, 16, 10), large (32, 64,
    /// 25), edge (4, 8, 5), ingest-heavy (16, 64, 10). [default: standard]
    #[arg(long, value_name = "NAME", help_heading = SERVER)]
    pub profile: Option<String>,
    /// A machine as `shardcast bench --calibrate FILE` measured it.
    #[arg(long, value_name = "FILE", conflicts_with = "profile", help_heading = SERVER)]
    pub measured: Option<PathBuf>,
    /// Connections a server may hold.
    #[arg(long, value_name = "N", value_parser = parse_number, allow_negative_numbers = true,
          help_heading = SERVER)]
    pub server_connections: Option<f64>,
    /// Messages a server takes in a second, where you know better than --profile or --measured:
    /// their CPU for it is left out then.
    #[arg(long, value_name = "N", value_parser = parse_number, allow_negative_numbers = true,
          help_heading = SERVER)]
    pub server_in: Option<f64>,
    /// Messages a server delivers in a second, likewise.
    #[arg(long, value_name = "N", value_parser = parse_number, allow_negative_numbers = true,
          help_heading = SERVER)]
    pub server_out: Option<f64>,
    /// Network of a server, each way.
    #[arg(long, value_name = "GBIT", value_parser = parse_number, allow_negative_numbers = true,
          help_heading = SERVER)]
    pub server_gbps: Option<f64>,
    /// Memory of a server: 32G (10^9), 32Gi (2^30).
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, allow_negative_numbers = true,
          help_heading = SERVER)]
    pub server_memory: Option<f64>,
    /// Cores of a server that carry the load.
    #[arg(long, value_name = "N", value_parser = parse_number, allow_negative_numbers = true,
          help_heading = SERVER)]
    pub server_cores: Option<f64>,
    /// Fill a pod of so much memory: 2G, 2Gi.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, allow_negative_numbers = true,
          help_heading = SERVER)]
    pub pod_memory: Option<f64>,

    /// How many times the average the busiest rates are; on rates only. [default: 2]
    #[arg(long, value_name = "TIMES", value_parser = parse_number, allow_negative_numbers = true,
          help_heading = RESERVE)]
    pub peak: Option<f64>,
    /// Hours a day that the peak lasts: what servers that follow it cost.
    #[arg(long, value_name = "H", value_parser = parse_number, allow_negative_numbers = true,
          help_heading = RESERVE)]
    pub peak_hours: Option<f64>,
    /// Percent kept free on top of the peak. [default: 50]
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent, allow_negative_numbers = true,
          help_heading = RESERVE)]
    pub headroom: Option<f64>,
    /// One server more, so that one may be down.
    #[arg(long = "n-1", help_heading = RESERVE)]
    pub n_minus_1: bool,

    /// A server for an hour.
    #[arg(long, value_name = "PRICE", value_parser = parse_number, allow_negative_numbers = true,
          help_heading = PRICES)]
    pub price_server_hour: Option<f64>,
    /// A gigabyte (10^9 bytes) to clients.
    #[arg(long, value_name = "PRICE", value_parser = parse_number, allow_negative_numbers = true,
          help_heading = PRICES)]
    pub price_gb: Option<f64>,
    /// What stands before amounts. [default: $]
    #[arg(long, value_name = "SIGN", help_heading = PRICES)]
    pub currency: Option<String>,
    /// A managed service to compare with, as often as you like, at its prices: of a million
    /// messages, a thousand connections for a month, a gigabyte, and a month.
    #[arg(long, value_name = "NAME,messages=2.5,connections=1,gb=0.1,base=29",
          value_parser = Managed::parse, help_heading = PRICES)]
    pub managed: Vec<Managed>,
}

/// How clients are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// WebSocket.
    Ws,
    /// Server-sent events over HTTP/1.1.
    Sse,
}

const LOAD: &str = "Load";
const WIRE: &str = "Protocol";
const SERVER: &str = "Server";
const RESERVE: &str = "Reserve";
const PRICES: &str = "Prices";

const EXAMPLES: &str = "\
Examples:
  shardcast capacity --example chat-1m                        50 servers, and every factor of it
  shardcast capacity --example chat-1m --peak 1 --headroom 0  17: the load on average
  shardcast capacity --users 200k --message-bytes 500 --n-1   on standard machines
  shardcast capacity --users 200k --price-server-hour 0.4 --price-gb 0.05 --html plan.html
  shardcast capacity --pod-memory 2G                          connections in a pod
  shardcast bench --calibrate here.json
  shardcast capacity --users 200k --measured here.json        as measured on this machine
  shardcast capacity --users 200k --json > plan.json
  shardcast capacity --from plan.json --batch-ms 100          the same with one thing changed

Exit codes: 0 planned, 64 the numbers or files make no sense (and why).";
