//! Who is compared: our server, the bare send loop, other servers; each with clients of its own,
//! all alive from beginning to end, run in turns.
//!
//! Only the side whose turn it is has work; the others hold their connections and answer
//! heartbeats. In each round every side is run once, and the round after begins with the next side,
//! so that a drift of the machine and whoever ran before fall on all alike.

use super::{Common, Meter, Used};
use crate::child::LineChild;
use crate::floor;
use crate::peers::{Identity, Peer, Program, Wire};
use crate::results::{BARE, OURS, Outcome, SideInfo};
use crate::server_child::{ServerChild, free_address};
use crate::swarm::{Dialect, FRAME_BYTES, SwarmHandle, Tally};
use anyhow::{Context, Result, bail};
use std::net::SocketAddr;

/// Who takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    Ours,
    /// Ours with envelopes, which a cut connection resumes.
    OursEnvelope,
    /// Several channels on a connection.
    OursRooms,
    /// Ours in Centrifugo's client protocol: JSON.
    OursJson,
    /// The same in Protobuf.
    OursProtobuf,
    /// The same in JSON, with permessage-deflate.
    OursDeflate,
    /// Ours with two shards, on both cores.
    OursTwoShards,
    /// The bare send loop of the server's engine.
    Bare,
    Peer(Peer),
}

/// What each side has to carry.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    pub wire: Wire,
    pub tls: bool,
    pub users: usize,
    /// With more than one, every user is in two of them.
    pub rooms: usize,
    pub stalled_percent: usize,
    /// Frames that the bare loop sends in one piece.
    pub burst: u64,
    /// Settings of our server beyond the defaults.
    pub ours: &'static [&'static str],
    /// Where our server listens; `None` for wherever there is room.
    pub address: Option<SocketAddr>,
    /// Number of the first room: clients of several processes have rooms of their own.
    pub first_room: u32,
}

impl Setting {
    /// One room for all over plain WebSocket.
    pub fn room(users: usize) -> Self {
        Self {
            wire: Wire::Ws,
            tls: false,
            users,
            rooms: 1,
            stalled_percent: 0,
            burst: 1,
            ours: &[],
            address: None,
            first_room: 0,
        }
    }
}

#[derive(Debug)]
enum Server {
    Ours(ServerChild),
    Bare(LineChild, floor::Ports),
    Peer(Program),
}

/// One side, running.
#[derive(Debug)]
pub struct Side {
    pub who: Who,
    // Dropped before the server, whose end they would report.
    swarms: Vec<SwarmHandle>,
    server: Server,
    core: usize,
    /// Arguments of its clients.
    arguments: Vec<String>,
    pub used: Used,
    pub tally: Tally,
}

/// What a block gave.
#[derive(Debug, Clone, Copy)]
pub struct Block {
    pub tally: Tally,
    pub used: Used,
}

impl Block {
    /// Microseconds of the server's CPU for each message delivered.
    pub fn cost_us(&self) -> f64 {
        self.used.server_ns as f64 / self.tally.received.max(1) as f64 / 1_000.0
    }
}

impl Who {
    /// As reports name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => OURS,
            Self::OursEnvelope => "shardcast envelope",
            Self::OursRooms => "shardcast rooms",
            Self::OursJson => "shardcast client JSON",
            Self::OursProtobuf => "shardcast client Protobuf",
            Self::OursDeflate => "shardcast client JSON deflate",
            Self::OursTwoShards => "shardcast two shards",
            Self::Bare => BARE,
            Self::Peer(peer) => peer.name(),
        }
    }

    /// How it is spoken to.
    pub fn dialect(self, wire: Wire) -> Result<Dialect> {
        match (self, wire) {
            (Self::Ours | Self::OursTwoShards, Wire::Ws) => Ok(Dialect::Shardcast),
            (Self::Ours, Wire::Sse) => Ok(Dialect::ShardcastSse),
            (Self::Ours, Wire::SseH2) => Ok(Dialect::ShardcastSseH2),
            (Self::OursEnvelope, Wire::Ws) => Ok(Dialect::Envelope),
            (Self::OursRooms, Wire::Ws) => Ok(Dialect::Rooms),
            (Self::OursJson, Wire::Ws) => Ok(Dialect::Centrifugo),
            (Self::OursProtobuf, Wire::Ws) => Ok(Dialect::CentrifugoProtobuf),
            (Self::OursDeflate, Wire::Ws) => Ok(Dialect::CentrifugoDeflate),
            (Self::Bare, _) => Ok(Dialect::Raw),
            (Self::Peer(peer), wire) if peer.dialect(wire).is_some() => {
                peer.dialect(wire).context("it has one")
            }
            _ => bail!("it has no {}", wire.name()),
        }
    }
}

impl Server {
    fn start(
        who: Who,
        common: &Common,
        folder: &std::path::Path,
        setting: &Setting,
        identity: Option<&Identity>,
    ) -> Result<Self> {
        match who {
            Who::Ours
            | Who::OursEnvelope
            | Who::OursRooms
            | Who::OursJson
            | Who::OursProtobuf
            | Who::OursDeflate
            | Who::OursTwoShards => {
                let tls = identity.map(|it| {
                    [
                        format!("tls.cert={}", it.cert.display()),
                        format!("tls.key={}", it.key.display()),
                    ]
                });
                let tls = tls.iter().flatten().map(String::as_str);
                let settings: Vec<&str> = tls.chain(setting.ours.iter().copied()).collect();
                let data = folder.join("data");
                let shards = if who == Who::OursTwoShards { 2 } else { 1 };
                let address = setting.address.map_or_else(free_address, Ok)?;
                let server = ServerChild::start_on(common, &data, address, &settings, shards)?;
                Ok(Self::Ours(server))
            }
            Who::Bare if setting.tls => bail!("it has no TLS"),
            Who::Bare if setting.wire == Wire::SseH2 => bail!("it has no streams"),
            Who::Bare => {
                let bytes = FRAME_BYTES * setting.burst as usize;
                let (core, engine) = (common.server_core, common.engine);
                let (child, ports) = floor::start(core, engine, setting.users, bytes)?;
                Ok(Self::Bare(child, ports))
            }
            Who::Peer(peer) => Ok(Self::Peer(peer.start(common, folder, identity)?)),
        }
    }

    fn pid(&self) -> u32 {
        match self {
            Self::Ours(server) => server.pid(),
            Self::Bare(child, _) => child.pid(),
            Self::Peer(program) => program.pid(),
        }
    }

    fn address(&self) -> SocketAddr {
        match self {
            Self::Ours(server) => server.address,
            Self::Bare(_, ports) => SocketAddr::from(([127, 0, 0, 1], ports.port)),
            Self::Peer(program) => program.address,
        }
    }
}

impl Side {
    /// Starts the server, without clients.
    fn start(
        who: Who,
        common: &Common,
        folder: &std::path::Path,
        setting: &Setting,
        identity: Option<&Identity>,
    ) -> Result<Self> {
        let dialect = who.dialect(setting.wire)?;
        let folder = folder.join(who.name().replace(' ', "-"));
        std::fs::create_dir(&folder)?;
        let server = Server::start(who, common, &folder, setting, identity)?;
        let mut arguments = vec![
            format!("--dialect={}", dialect.name()),
            format!("--rooms={}", setting.rooms),
            format!("--first-room={}", setting.first_room),
            format!("--stalled-percent={}", setting.stalled_percent),
        ];
        if setting.tls {
            arguments.push("--tls".to_owned());
        }
        if let Server::Bare(_, ports) = &server {
            arguments.push(format!("--trigger=127.0.0.1:{}", ports.trigger));
        }
        let (core, swarms) = (common.client_core, Vec::new());
        let (used, tally) = (Used::default(), Tally::default());
        Ok(Self { who, server, core, arguments, swarms, used, tally })
    }

    /// Connects more users with a process of clients of their own; returns when all are subscribed.
    pub fn connect(&mut self, users: usize) -> Result<()> {
        let address = self.server.address();
        self.swarms.push(SwarmHandle::start(self.core, address, users, &self.arguments)?);
        Ok(())
    }

    /// Its clients; the first process of them, if there are several.
    pub fn swarm(&mut self) -> &mut SwarmHandle {
        self.swarms.first_mut().expect("its clients are connected when it joins")
    }

    /// Gives an order to all its clients.
    pub fn ask_all(&mut self, order: &str) -> Result<()> {
        for swarm in &mut self.swarms {
            let tally = swarm.ask(order)?;
            self.tally.add(&tally);
        }
        Ok(())
    }

    /// The server's process.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// Our server, for its metrics.
    pub fn ours(&self) -> Option<&ServerChild> {
        match &self.server {
            Server::Ours(server) => Some(server),
            _ => None,
        }
    }

    /// Gives its clients an order and measures what that costs.
    pub fn block(&mut self, order: &str) -> Result<Block> {
        let name = self.who.name();
        let server = self.pid();
        let swarm = self.swarm();
        let meter = Meter::start(server, swarm.pid());
        let tally = swarm.ask(order).with_context(|| name)?;
        let used = meter.stop();
        self.used.add(used);
        self.tally.add(&tally);
        Ok(Block { tally, used })
    }
}

/// All sides of a comparison.
#[derive(Debug)]
pub struct Lineup {
    pub sides: Vec<Side>,
    pub skipped: Vec<(String, String)>,
    identity: Option<Identity>,
    // Dropped last: the servers write there.
    folder: tempfile::TempDir,
}

impl Lineup {
    /// Starts everybody who can take part. Our own side must.
    pub fn start(common: &Common, setting: &Setting, all: &[Who]) -> Result<Self> {
        let mut lineup = Self::empty(common, setting)?;
        for who in all {
            lineup.join(common, setting, *who, |side| side.connect(setting.users))?;
        }
        Ok(lineup)
    }

    /// Nobody yet.
    pub fn empty(common: &Common, setting: &Setting) -> Result<Self> {
        let folder = common.scratch()?;
        let identity = if setting.tls { Some(identity(folder.path())?) } else { None };
        Ok(Self { sides: Vec::new(), skipped: Vec::new(), identity, folder })
    }

    /// Starts one more and connects its clients with `connect`; `None` if it cannot take part.
    pub fn join<T>(
        &mut self,
        common: &Common,
        setting: &Setting,
        who: Who,
        connect: impl FnOnce(&mut Side) -> Result<T>,
    ) -> Result<Option<T>> {
        let (folder, identity) = (self.folder.path(), self.identity.as_ref());
        let started = Side::start(who, common, folder, setting, identity)
            .and_then(|mut side| connect(&mut side).map(|connected| (side, connected)));
        match started {
            Ok((side, connected)) => {
                self.sides.push(side);
                Ok(Some(connected))
            }
            Err(error) if who == Who::Ours => Err(error),
            Err(error) => {
                eprintln!("bench: {} is skipped: {error:#}", who.name());
                self.skipped.push((who.name().to_owned(), format!("{error:#}")));
                Ok(None)
            }
        }
    }

    /// Runs every side once a round, beginning with another each time.
    pub fn rounds(
        &mut self,
        rounds: usize,
        mut block: impl FnMut(usize, &mut Side) -> Result<()>,
    ) -> Result<()> {
        let count = self.sides.len();
        for round in 0..rounds {
            for turn in 0..count {
                let at = (round + turn) % count;
                block(at, &mut self.sides[at])?;
            }
        }
        Ok(())
    }

    /// Says who took part and what went wrong.
    pub fn describe(&self, common: &Common, outcome: &mut Outcome) {
        outcome.skipped.extend_from_slice(&self.skipped);
        outcome.sides = self
            .sides
            .iter()
            .map(|side| SideInfo {
                name: side.who.name().to_owned(),
                version: match side.who {
                    Who::Ours => {
                        format!("{}, engine {}", common.server_version(), common.engine.name())
                    }
                    Who::OursEnvelope => "the same, format=envelope".to_owned(),
                    Who::OursRooms => "the same, several channels on a connection".to_owned(),
                    Who::OursJson => "the same, Centrifugo's protocol in JSON".to_owned(),
                    Who::OursProtobuf => "the same, Centrifugo's protocol in Protobuf".to_owned(),
                    Who::OursDeflate => "the same, in JSON with permessage-deflate".to_owned(),
                    Who::OursTwoShards => "the same, two shards on both cores".to_owned(),
                    Who::Bare => format!("one send a connection, engine {}", common.engine.name()),
                    Who::Peer(peer) => peer.version(common),
                },
                integrity: side.tally.integrity(),
                saturation: side.used.saturation(),
            })
            .collect();
    }
}

/// A certificate for this run.
fn identity(folder: &std::path::Path) -> Result<Identity> {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names)?;
    let identity = Identity { cert: folder.join("cert.pem"), key: folder.join("key.pem") };
    std::fs::write(&identity.cert, made.cert.pem())?;
    std::fs::write(&identity.key, made.signing_key.serialize_pem())?;
    Ok(identity)
}
