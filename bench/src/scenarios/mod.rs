//! What is measured. Each file is one scenario: its flags, what it does, and what its rows mean.

pub mod broadcast;
pub mod calibrate;
pub mod clients;
pub mod connects;
pub mod engines;
pub mod idle;
pub mod ingest;
pub mod ingest_peers;
pub mod latency;
mod lineup;
pub mod resume;
pub mod saturation;
pub mod shards;
pub mod size;
pub mod stalled;

use crate::machine::{self, busy_ns, now_ns};
use crate::peers::Peer;
use crate::process;
use crate::results::Outcome;
use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use std::path::{Path, PathBuf};

/// Flags of every scenario.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// The I/O engine of the server and of the floor.
    #[arg(long, global = true, value_enum, default_value_t = EngineName::Uring)]
    pub engine: EngineName,
    /// The server's program. [default: `shardcast` beside this one]
    #[arg(long, global = true)]
    server: Option<PathBuf>,
    /// The core that the whole server process runs on.
    #[arg(long, global = true, default_value_t = 0)]
    pub server_core: usize,
    /// The core that the clients run on.
    #[arg(long, global = true, default_value_t = 1)]
    pub client_core: usize,
    /// The clients' core does their receiving, as over a network; on the loopback the server's core
    /// does it otherwise, and it is in the server's figures. Changes the machine's settings while
    /// it runs, which needs root.
    #[arg(long, global = true)]
    pub apart: bool,
    /// Folder for data directories: what it lies on is what `durable` waits for.
    #[arg(long, global = true)]
    scratch: Option<PathBuf>,
    /// Other servers to run in turns with ours. [default: those that suit the scenario; `none`]
    #[arg(long, global = true, value_delimiter = ',', value_name = "PEER,...")]
    peers: Option<Vec<String>>,
    /// Rounds; in each, every side is measured once. 11 make a claim.
    #[arg(long, global = true, value_name = "ROUNDS")]
    pairs: Option<usize>,
    /// Tiny sizes: shows that everything runs; the figures mean nothing.
    #[arg(long, global = true)]
    pub quick: bool,
    /// Folder for what was found: JSON with every sample, Markdown, plots.
    #[arg(long, global = true, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Where the peers are installed. [default: `peers` beside this program's folder]
    #[arg(long, global = true, value_name = "DIR")]
    peers_folder: Option<PathBuf>,
    /// Check the arguments and do nothing.
    #[arg(long, global = true, hide = true)]
    pub only_parse: bool,
    /// Centrifugo's program. [default: `centrifugo` on the PATH]
    #[arg(long, global = true, value_name = "FILE")]
    centrifugo: Option<PathBuf>,
}

/// A number of which there must be one at least.
pub fn positive<T: std::str::FromStr + PartialEq + Default>(text: &str) -> Result<T, String> {
    let number = text.parse().map_err(|_| "it is no whole number that fits".to_owned())?;
    if number == T::default() { Err("there must be at least one".to_owned()) } else { Ok(number) }
}

/// An I/O engine of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EngineName {
    Uring,
    Epoll,
}

impl EngineName {
    /// As the server's flag names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uring => "uring",
            Self::Epoll => "epoll",
        }
    }
}

impl Common {
    /// The program to measure.
    pub fn server_program(&self) -> Result<PathBuf> {
        let beside = || Ok(std::env::current_exe()?.with_file_name("shardcast"));
        let program = self.server.clone().map_or_else(beside, Ok::<_, std::io::Error>)?;
        if !program.exists() {
            bail!(
                "there is no {}: build it with `cargo build --release -p server`, or name it with \
                 --server",
                program.display()
            );
        }
        Ok(program)
    }

    /// What our program says about itself.
    pub fn server_version(&self) -> String {
        let program = self.server_program().unwrap_or_default();
        let said = std::process::Command::new(program).arg("--version").output();
        let said = said.map(|output| output.stdout).unwrap_or_default();
        String::from_utf8_lossy(&said).trim().to_owned()
    }

    /// The peers that were asked for, or these.
    pub fn peers(&self, usual: &[Peer]) -> Result<Vec<Peer>> {
        let Some(names) = &self.peers else { return Ok(usual.to_vec()) };
        let names = names.iter().filter(|name| !matches!(name.as_str(), "none" | ""));
        names
            .map(|name| {
                Peer::from_str(name, true).map_err(|_| {
                    let all: Vec<_> = Peer::value_variants().iter().map(|it| it.name()).collect();
                    anyhow::anyhow!("no peer is called `{name}`; there are {}", all.join(", "))
                })
            })
            .collect()
    }

    /// How many rounds, if the scenario wants so many.
    pub fn rounds(&self, usual: usize) -> usize {
        self.pairs.unwrap_or(if self.quick { 2 } else { usual }).max(1)
    }

    /// Where the peers are installed.
    pub fn peers_folder(&self) -> Result<PathBuf> {
        if let Some(folder) = &self.peers_folder {
            return Ok(folder.clone());
        }
        let program = std::env::current_exe()?;
        let target = program.parent().and_then(Path::parent);
        Ok(target.map_or_else(|| PathBuf::from("peers"), |target| target.join("peers")))
    }

    /// Centrifugo's program, if there is one.
    pub fn centrifugo(&self) -> Option<PathBuf> {
        self.centrifugo.clone().or_else(|| crate::peers::on_path("centrifugo"))
    }

    /// An empty folder that is removed when dropped.
    pub fn scratch(&self) -> Result<tempfile::TempDir> {
        let parent = self.scratch.clone().unwrap_or_else(std::env::temp_dir);
        Ok(tempfile::Builder::new().prefix("shardcast-bench-").tempdir_in(parent)?)
    }
}

/// Prints what was found, and writes it where it was asked for.
pub fn publish(common: &Common, outcome: &Outcome) -> Result<()> {
    let mut outcome = outcome.clone();
    if common.quick && !outcome.goals.is_empty() {
        let note = "--quick is too short for its figures to say whether a goal is met";
        outcome.notes.push(note.to_owned());
    }
    if common.apart {
        outcome.name.push_str("-apart");
        outcome.title.push_str("; received on the clients' core");
    }
    let outcome = &outcome;
    crate::results::text::print(outcome);
    match &common.out {
        Some(folder) => crate::results::files::write(folder, outcome),
        None => Ok(()),
    }
}

/// What processes used over a stretch of time.
#[derive(Debug)]
pub struct Meter {
    server: u32,
    client: u32,
    /// Cores that the server may use and the clients may not.
    cores: Vec<usize>,
    start: Used,
}

/// What a [`Meter`] found.
#[derive(Debug, Clone, Copy, Default)]
pub struct Used {
    /// CPU of the server: its process, and the kernel's soft-interrupt threads of its cores.
    pub server_ns: u64,
    /// The part of it that those threads used.
    pub softirq_ns: u64,
    /// CPU of the clients' process.
    pub client_ns: u64,
    /// Time passed.
    pub wall_ns: u64,
    /// CPU used by everything else on the machine.
    pub others_ns: u64,
}

impl Meter {
    /// Starts measuring.
    pub fn start(server: u32, client: u32) -> Self {
        let clients = machine::cores_of(client);
        let mut cores = machine::cores_of(server);
        cores.retain(|core| !clients.contains(core));
        let mut meter = Self { server, client, cores, start: Used::default() };
        meter.start = meter.read();
        meter
    }

    /// All since the processes began; the others are not told apart yet.
    fn read(&self) -> Used {
        let softirq_ns = self.cores.iter().map(|core| process::softirq_ns(*core)).sum();
        Used {
            server_ns: process::cpu_ns(self.server) + softirq_ns,
            softirq_ns,
            client_ns: process::cpu_ns(self.client),
            wall_ns: now_ns(),
            others_ns: busy_ns(),
        }
    }

    /// Ends measuring.
    pub fn stop(self) -> Used {
        let (start, end) = (self.start, self.read());
        let server_ns = end.server_ns.saturating_sub(start.server_ns);
        let client_ns = end.client_ns.saturating_sub(start.client_ns);
        let busy_ns = end.others_ns.saturating_sub(start.others_ns);
        Used {
            server_ns,
            softirq_ns: end.softirq_ns.saturating_sub(start.softirq_ns),
            client_ns,
            wall_ns: end.wall_ns - start.wall_ns,
            others_ns: busy_ns.saturating_sub(server_ns + client_ns),
        }
    }
}

impl Used {
    /// Sums two stretches.
    pub fn add(&mut self, other: Self) {
        self.server_ns += other.server_ns;
        self.softirq_ns += other.softirq_ns;
        self.client_ns += other.client_ns;
        self.wall_ns += other.wall_ns;
        self.others_ns += other.others_ns;
    }

    /// Who was saturated, in words.
    pub fn saturation(&self) -> String {
        let percent = |ns: u64| ns * 100 / self.wall_ns.max(1);
        format!(
            "server {} % of its core ({} % in the kernel's softirq thread), clients {} % of theirs, \
             everybody else on the machine {} %",
            percent(self.server_ns),
            percent(self.softirq_ns),
            percent(self.client_ns),
            percent(self.others_ns)
        )
    }
}
