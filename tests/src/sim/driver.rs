//! One shard's driver over the simulated network: the same rules as the real ones, and a check
//! that the shard keeps its side of them.

use super::chance::Chance;
use super::net::{Net, Read, SocketId};
use bytes::Bytes;
use server::driver::{ConnId, SendStop};
use server::shard::{Command, Shard};
use std::collections::{BTreeMap, VecDeque};

/// Bytes in a receive buffer, and buffers a connection may hand up per turn.
const RECEIVE_BUFFER_BYTES: u64 = 16 << 10;
const RECEIVES_PER_TURN: u64 = 4;

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
}

impl SimDriver {
    /// A driver with so many slots.
    pub fn new(slots_max: usize) -> Self {
        Self {
            held: BTreeMap::new(),
            generations: Vec::new(),
            free: Vec::new(),
            slots_max,
            backlog: VecDeque::new(),
            woken: false,
            sockets_refused: 0,
        }
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
        for slot in slots {
            self.feed_one(slot, shard, net, chance);
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
        shard.accepted(ConnId { slot, generation });
    }

    fn feed_one(&mut self, slot: u32, shard: &mut Shard, net: &mut Net, chance: &mut Chance) {
        let Some(held) = self.held.get_mut(&slot) else { return };
        let conn = ConnId { slot, generation: held.generation };
        if held.closing {
            if chance.per_mille(700) {
                self.held.remove(&slot);
                self.generations[slot as usize] += 1;
                self.free.push(slot);
                shard.closed(conn);
            }
            return;
        }
        if let Some((sent, stop)) = held.stopped.take() {
            shard.send_stopped(conn, sent, stop);
        }
        if let Some((bytes, at)) = &mut held.armed {
            let done = match net.server_write(held.socket, &bytes[*at..]) {
                Ok(count) => {
                    *at += count;
                    (*at == bytes.len()).then_some(Ok(()))
                }
                Err(errno) => Some(Err(errno)),
            };
            if let Some(result) = done
                && chance.per_mille(800)
            {
                held.armed = None;
                shard.send_armed_done(conn, result);
            }
        }
        if held.shutdown && held.armed.is_none() && !held.is_shut {
            held.is_shut = true;
            net.server_end(held.socket);
        }
        if (held.receiving || held.late) && !held.ended && chance.per_mille(850) {
            held.late = false;
            receive(held, conn, shard, net, chance);
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
            match net.server_write(held.socket, &send.bytes) {
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
