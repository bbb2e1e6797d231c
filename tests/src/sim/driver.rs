//! One shard's driver over the simulated network: the same rules as the real ones, and a check
//! that the shard keeps its side of them.

use super::chance::Chance;
use super::net::{Net, Read, SocketId};
use super::options::Completions;
use bytes::Bytes;
use server::driver::{ConnId, SendStop};
use server::shard::{Command, Shard};
use std::collections::{BTreeMap, VecDeque};

/// Bytes in a receive buffer, and buffers a connection may hand up per turn.
const RECEIVE_BUFFER_BYTES: u64 = 16 << 10;
const RECEIVES_PER_TURN: u64 = 4;

/// ECANCELED.
const CANCELLED: i32 = 125;

/// What can be reported of a connection in a turn.
#[derive(Debug, Clone, Copy)]
enum Part {
    Send,
    Armed,
    Receive,
}

const PARTS: [Part; 3] = [Part::Send, Part::Armed, Part::Receive];

/// A connection of the shard.
#[derive(Debug)]
struct Held {
    generation: u32,
    socket: SocketId,
    receiving: bool,
    /// A disarm came while bytes were in a buffer already: they still come.
    late: bool,
    ended: bool,
    stopped: Option<(u32, SendStop)>,
    armed: Option<(Bytes, usize)>,
    shutdown: bool,
    is_shut: bool,
    closing: bool,
}

/// See the module.
#[derive(Debug)]
pub struct SimDriver {
    held: BTreeMap<u32, Held>,
    generations: Vec<u32>,
    free: Vec<u32>,
    slots_max: usize,
    /// Connections that wait to be accepted.
    pub backlog: VecDeque<SocketId>,
    /// Somebody woke this shard.
    pub woken: bool,
    sockets_refused: u64,
    completions: Completions,
}

impl SimDriver {
    /// A driver with so many slots.
    pub fn new(slots_max: usize, completions: Completions) -> Self {
        Self {
            held: BTreeMap::new(),
            generations: Vec::new(),
            free: Vec::new(),
            slots_max,
            backlog: VecDeque::new(),
            woken: false,
            sockets_refused: 0,
            completions,
        }
    }

    /// Every operation runs to its end from here on.
    pub fn cancel_nothing(&mut self) {
        self.completions.cancelled = 0;
    }

    /// True if a turn would find something.
    pub fn is_ready(&self, net: &Net) -> bool {
        self.woken
            || !self.backlog.is_empty()
            || self.held.values().any(|held| {
                held.closing
                    || held.stopped.is_some()
                    || held.armed.is_some()
                    || held.receiving && !held.ended && net.server_readable(held.socket)
            })
    }

    /// Gives the shard what happened: every stopped send, and of the rest whatever the moment has.
    pub fn feed(&mut self, shard: &mut Shard, net: &mut Net, chance: &mut Chance) {
        self.woken = false;
        while !self.backlog.is_empty() && chance.per_mille(900) {
            self.accept(shard, net, chance);
        }
        let mut slots: Vec<u32> = self.held.keys().copied().collect();
        chance.shuffle(&mut slots);
        let mut parts: Vec<(u32, Part)> =
            slots.into_iter().flat_map(|slot| PARTS.map(|part| (slot, part))).collect();
        if self.completions.reordered {
            chance.shuffle(&mut parts);
        }
        for (slot, part) in parts {
            self.feed_part(slot, part, shard, net, chance);
        }
    }

    fn accept(&mut self, shard: &mut Shard, net: &mut Net, chance: &mut Chance) {
        let Some(socket) = self.backlog.pop_front() else { return };
        if self.held.len() >= self.slots_max {
            self.sockets_refused += 1;
            net.server_close(socket, 0);
            shard.refused();
            return;
        }
        // Which free slot is the driver's affair.
        let slot = if self.free.is_empty() {
            self.generations.push(0);
            (self.generations.len() - 1) as u32
        } else {
            let at = chance.index(self.free.len());
            self.free.swap_remove(at)
        };
        let generation = self.generations[slot as usize];
        let held = Held {
            generation,
            socket,
            receiving: false,
            late: false,
            ended: false,
            stopped: None,
            armed: None,
            shutdown: false,
            is_shut: false,
            closing: false,
        };
        self.held.insert(slot, held);
        shard.accepted(ConnId { slot, generation }, None);
    }

    fn feed_part(
        &mut self,
        slot: u32,
        part: Part,
        shard: &mut Shard,
        net: &mut Net,
        chance: &mut Chance,
    ) {
        let Some(held) = self.held.get_mut(&slot) else { return };
        let conn = ConnId { slot, generation: held.generation };
        if held.closing {
            if matches!(part, Part::Send) && chance.per_mille(700) {
                self.held.remove(&slot);
                self.generations[slot as usize] += 1;
                self.free.push(slot);
                shard.closed(conn);
            }
            return;
        }
        match part {
            Part::Send => {
                if let Some((sent, stop)) = held.stopped.take() {
                    shard.send_stopped(conn, sent, stop);
                }
            }
            Part::Armed => {
                let result = feed_armed(held, self.completions, net, chance);
                if let Some(result) = result {
                    shard.send_armed_done(conn, result);
                }
                if held.shutdown && held.armed.is_none() && !held.is_shut {
                    held.is_shut = true;
                    net.server_end(held.socket);
                }
            }
            Part::Receive => {
                if (held.receiving || held.late) && !held.ended && chance.per_mille(850) {
                    held.late = false;
                    if is(self.completions.cancelled, chance) {
                        held.ended = true;
                        return shard.receive_ended(conn, Some(CANCELLED));
                    }
                    receive(held, conn, shard, net, chance);
                }
            }
        }
    }

    /// Does what the shard wants, and looks whether it may want it.
    pub fn apply(
        &mut self,
        shard: &mut Shard,
        net: &mut Net,
        chance: &mut Chance,
    ) -> Result<(), String> {
        let commands = shard.take_commands();
        for command in &commands {
            self.command(command, net, chance)?;
        }
        shard.return_commands(commands);
        let completions = self.completions;
        let mut sent_to = std::collections::BTreeSet::new();
        for send in shard.sends() {
            let Some(held) = self.find(send.conn) else { continue };
            if !sent_to.insert(send.conn) {
                return Err(format!("two sends to {:?} in one turn", send.conn));
            }
            if held.armed.is_some() || held.stopped.is_some() {
                return Err(format!("a send to {:?} while another is under way", send.conn));
            }
            if held.shutdown {
                return Err(format!("a send to {:?} after its half-close", send.conn));
            }
            let bytes = offered(&send.bytes, completions, chance);
            match net.server_write(held.socket, bytes) {
                Ok(count) if count == send.bytes.len() => {}
                Ok(count) => held.stopped = Some((count as u32, SendStop::Full)),
                Err(errno) => held.stopped = Some((0, SendStop::Gone(errno))),
            }
        }
        Ok(())
    }

    fn command(
        &mut self,
        command: &Command,
        net: &mut Net,
        chance: &mut Chance,
    ) -> Result<(), String> {
        let (Command::Arm(conn, _)
        | Command::Disarm(conn)
        | Command::SendArmed(conn, _)
        | Command::ShutdownSend(conn)
        | Command::Close(conn)) = command;
        let Some(held) = self.find(*conn) else { return Ok(()) };
        match command {
            Command::Arm(..) => held.receiving = true,
            Command::Disarm(_) => {
                held.late = held.receiving && chance.per_mille(300);
                held.receiving = false;
            }
            Command::SendArmed(_, bytes) => {
                if held.armed.is_some() {
                    return Err(format!("two armed sends to {conn:?}"));
                }
                if held.shutdown {
                    return Err(format!("an armed send to {conn:?} after its half-close"));
                }
                held.armed = Some((bytes.clone(), 0));
            }
            Command::ShutdownSend(_) => held.shutdown = true,
            Command::Close(_) => {
                held.closing = true;
                held.armed = None;
                held.stopped = None;
                net.server_close(held.socket, chance.size(1 << 16) as usize);
            }
        }
        Ok(())
    }

    fn find(&mut self, conn: ConnId) -> Option<&mut Held> {
        let held = self.held.get_mut(&conn.slot)?;
        (held.generation == conn.generation && !held.closing).then_some(held)
    }

    /// Connections the driver holds.
    pub fn len(&self) -> usize {
        self.held.len()
    }
}

/// True so many times in a thousand; without a draw where there is nothing to draw.
fn is(per_mille: u64, chance: &mut Chance) -> bool {
    per_mille > 0 && chance.per_mille(per_mille)
}

/// What of the bytes the kernel looks at: sometimes not all, although there is room.
fn offered<'a>(bytes: &'a [u8], completions: Completions, chance: &mut Chance) -> &'a [u8] {
    if is(completions.short_sends, chance) {
        return &bytes[..chance.index(bytes.len().max(1))];
    }
    bytes
}

/// Goes on with a complete send; its result once it has one.
fn feed_armed(
    held: &mut Held,
    completions: Completions,
    net: &mut Net,
    chance: &mut Chance,
) -> Option<Result<(), i32>> {
    let (bytes, at) = held.armed.as_mut()?;
    if is(completions.cancelled, chance) {
        held.armed = None;
        return Some(Err(CANCELLED));
    }
    let rest = offered(&bytes[*at..], completions, chance);
    let result = match net.server_write(held.socket, rest) {
        Ok(count) => {
            *at += count;
            (*at == bytes.len()).then_some(Ok(()))
        }
        Err(errno) => Some(Err(errno)),
    }?;
    if !chance.per_mille(800) {
        return None;
    }
    held.armed = None;
    Some(result)
}

/// Hands up to a few buffers to the shard.
fn receive(held: &mut Held, conn: ConnId, shard: &mut Shard, net: &mut Net, chance: &mut Chance) {
    for _ in 0..RECEIVES_PER_TURN {
        let max = chance.size(RECEIVE_BUFFER_BYTES) as usize;
        match net.server_read(held.socket, max) {
            Read::Bytes(bytes) => shard.received(conn, &bytes),
            Read::Nothing => return,
            Read::End => {
                held.ended = true;
                return shard.receive_ended(conn, None);
            }
            Read::Reset => {
                held.ended = true;
                return shard.receive_ended(conn, Some(super::net::RESET));
            }
        }
        if chance.per_mille(400) {
            return;
        }
    }
}
