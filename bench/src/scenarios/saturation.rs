//! What a delivery costs when messages come faster than they could be sent one by one: always the
//! same number of messages is on its way to everybody, a new one for each that is complete, the
//! same number for every server. Servers that write several frames at once win here.
//!
//! The chat shape is the same load over many small rooms: fifty users in each, every user in two of
//! them, the sender among the receivers. Our plain WebSocket carries one channel a connection, so
//! our users have two connections there, which is said beside the figures.

use super::Common;
use super::broadcast::{COST, usual};
use super::lineup::{Block, Lineup, Setting, Side, Who};
use crate::peers::{Peer, Wire};
use crate::results::Outcome;
use crate::results::goals::{Against, Goal};
use crate::results::text::count;
use anyhow::Result;
use clap::Args;

/// Users of a room, and rooms of a user.
const PER_ROOM: usize = 50;
const PER_USER: usize = 2;

/// Flags.
#[derive(Debug, Clone, Args)]
pub struct SaturationArgs {
    /// Subscribers of the channel.
    #[arg(long, default_value_t = 1_000, value_parser = super::positive::<usize>)]
    connections: usize,
    /// Messages that are on their way at any time.
    #[arg(long, default_value_t = 16, value_parser = super::positive::<u64>)]
    outstanding: u64,
    /// Messages in each block. [default: as many as make some 200,000 deliveries]
    #[arg(long)]
    messages: Option<u64>,
    /// What carries the messages.
    #[arg(long, value_enum, default_value_t = Wire::Ws)]
    wire: Wire,
    /// Over TLS.
    #[arg(long)]
    tls: bool,
}

/// Flags of the chat shape.
#[derive(Debug, Clone, Args)]
pub struct ChatArgs {
    /// Users; 50 of them share a room, and each is in two.
    #[arg(long, default_value_t = 2_000, value_parser = super::positive::<usize>)]
    users: usize,
    /// Messages that are on their way at any time, over all rooms.
    #[arg(long, default_value_t = 16, value_parser = super::positive::<u64>)]
    outstanding: u64,
    /// Messages in each block. [default: as many as make some 200,000 deliveries]
    #[arg(long)]
    messages: Option<u64>,
    /// Over TLS.
    #[arg(long)]
    tls: bool,
}

impl SaturationArgs {
    /// For `all`.
    pub fn sized(connections: usize) -> Self {
        let wire = Wire::Ws;
        Self { connections, outstanding: 16, messages: None, wire, tls: false }
    }
}

impl ChatArgs {
    /// For `all`.
    pub fn sized() -> Self {
        Self { users: 2_000, outstanding: 16, messages: None, tls: false }
    }
}

/// Everybody in one room.
pub fn run(common: &Common, args: &SaturationArgs) -> Result<()> {
    let connections = if common.quick { args.connections.min(200) } else { args.connections };
    let depth = args.outstanding.max(1);
    let setting =
        Setting { wire: args.wire, tls: args.tls, burst: depth, ..Setting::room(connections) };
    let mut all = vec![Who::Ours, Who::Bare];
    all.extend(common.peers(usual(args.wire))?.into_iter().map(Who::Peer));
    let tls = if args.tls { ", TLS" } else { "" };
    let mut outcome = Outcome::new(
        &format!(
            "saturation-{}-{connections}{}",
            args.wire.slug(),
            if args.tls { "-tls" } else { "" }
        ),
        format!(
            "saturation: {depth} messages on their way to {} subscribers, {}{tls}",
            count(connections as u64),
            args.wire.name()
        ),
        "Messages of 128 bytes; a new one goes out whenever one has been read by everybody.",
        crate::machine::look(common),
    );
    outcome.notes.push(format!(
        "the bare loop sends {depth} messages in one piece to each connection, round by round: the \
         least that the kernel can be asked to do"
    ));
    let messages = messages(common, args.messages, connections, depth);
    measure(common, &setting, &all, depth, messages, &mut outcome)?;
    if connections >= 15_000 {
        let uws = Against::Side(Peer::Uws.name().to_owned());
        outcome.goals.push(Goal::at_most(COST, uws, 0.85));
    } else {
        outcome.goals.push(Goal::at_most(COST, Against::BestPeer, 0.90));
    }
    super::publish(common, &outcome)
}

/// Fifty in a room.
pub fn chat(common: &Common, args: &ChatArgs) -> Result<()> {
    let users = if common.quick { args.users.min(200) } else { args.users };
    let rooms = (users * PER_USER / PER_ROOM).max(PER_USER);
    let depth = args.outstanding.max(1);
    let setting = Setting { rooms, tls: args.tls, ..Setting::room(users) };
    let mut all = vec![Who::OursRooms, Who::Ours];
    all.extend(common.peers(&chatting())?.into_iter().map(Who::Peer));
    let mut outcome = Outcome::new(
        &format!("chat-{users}"),
        format!("chat: {} users, {rooms} rooms of {PER_ROOM}", count(users as u64)),
        "Every user is in two rooms; messages of 128 bytes go to room after room, each from a \
         member, who gets it, too.",
        crate::machine::look(common),
    );
    outcome.notes.push(
        "`shardcast rooms` has both rooms of a user on one connection, in envelopes; the plain \
         WebSocket carries one channel, so there a user has two connections; deliveries are the same"
            .to_owned(),
    );
    let messages = messages(common, args.messages, PER_ROOM, depth);
    measure(common, &setting, &all, depth, messages, &mut outcome)?;
    let rooms = Who::OursRooms.name();
    outcome.goals.push(Goal::at_most(COST, Against::BestPeer, 0.90).of(rooms));
    super::publish(common, &outcome)
}

/// Those that can be in two rooms over one connection.
fn chatting() -> Vec<Peer> {
    usual(Wire::Ws).iter().copied().filter(|peer| *peer != Peer::Nchan).collect()
}

fn messages(common: &Common, asked: Option<u64>, members: usize, depth: u64) -> u64 {
    let deliveries = if common.quick { 10_000 } else { 200_000 };
    let usual = deliveries / members.max(1) as u64;
    // Beginning and end, where fewer are on their way, must not count for much.
    asked.unwrap_or(usual.clamp(4 * depth, 50_000)).next_multiple_of(depth)
}

fn measure(
    common: &Common,
    setting: &Setting,
    all: &[Who],
    depth: u64,
    messages: u64,
    outcome: &mut Outcome,
) -> Result<()> {
    let mut lineup = Lineup::start(common, setting, all)?;
    for side in &mut lineup.sides {
        turn(side, depth, 4 * depth)?;
    }
    lineup.rounds(common.rounds(11), |at, side| {
        let block = turn(side, depth, messages)?;
        let received = block.tally.received as f64;
        outcome.record(at, COST, "us", 3, block.cost_us());
        let per_s = |ns: u64| received / (ns.max(1) as f64 / 1e9);
        let throughput = per_s(block.tally.wall_ns);
        outcome.record(at, "deliveries per second", "1/s", 0, throughput);
        if side.who != Who::Bare {
            outcome.record(at, "publish to last read, p50", "us", 0, block.tally.completion.p50_us);
        }
        let client = block.used.client_ns as f64 / block.used.wall_ns.max(1) as f64 * 100.0;
        outcome.record(at, "clients' core busy", "%", 0, client);
        Ok(())
    })?;
    outcome.compare(&[COST]);
    lineup.describe(common, outcome);
    Ok(())
}

fn turn(side: &mut Side, depth: u64, messages: u64) -> Result<Block> {
    match side.who {
        Who::Bare => side.block(&format!("rounds {} {depth}", messages / depth)),
        _ => side.block(&format!("outstanding {depth} {messages}")),
    }
}
