//! Carrying out orders: each publishes in its own rhythm and waits for what comes of it.

use super::{Connection, Label, MESSAGE_BYTES, Swarm, UNTRACKED, order};
use crate::machine::now_ns;
use anyhow::{Result, bail};

/// How long a message may take before what is missing counts as lost.
const TIMEOUT_NS: u64 = 30_000_000_000;
/// The same after the last message of an open loop.
const TAIL_NS: u64 = 15_000_000_000;
/// So long after the last message nobody else is to get it.
const QUIET_NS: u64 = 500_000_000;

impl Swarm {
    /// Does what a line says and answers.
    pub(super) fn carry_out(&mut self, line: &str) -> Result<()> {
        let mut words = line.split(' ');
        let name = words.next().unwrap_or_default();
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok());
        let start = now_ns();
        match (name, number(), number()) {
            ("rounds", Some(rounds), Some(burst)) => self.rounds(rounds, burst)?,
            ("outstanding", Some(depth), Some(messages)) => self.outstanding(depth, messages)?,
            ("rate", Some(per_s), Some(seconds)) => self.rate(per_s, seconds)?,
            ("hold", Some(seconds), _) => {
                while now_ns() - start < seconds * 1_000_000_000 {
                    self.pump(100_000_000)?;
                }
            }
            ("watch", _, _) => {
                self.watching = true;
                return order::say(&order::Ready { connections: self.open, wall_ns: 0 });
            }
            ("until", Some(last), ready_ns) => self.until(last, ready_ns.unwrap_or(0))?,
            ("scout", Some(processes), _) => self.scout(processes as usize)?,
            ("leave", _, _) => {
                self.connections.iter_mut().for_each(Connection::reset);
                self.open = 0;
            }
            ("connect", _, _) => drop(self.connect_all()?),
            _ => bail!("no such order: {line}"),
        }
        if self.book.tally.wall_ns == 0 {
            self.book.tally.wall_ns = now_ns() - start;
        }
        let mut tally = self.book.close();
        tally.open = self.open as u64;
        order::say(&tally)
    }

    /// Waits until everybody has everything; false if it takes too long or a connection is closed.
    fn settle(&mut self, timeout_ns: u64) -> Result<bool> {
        let start = now_ns();
        while self.book.tally.received < self.book.tally.expected {
            self.pump(100_000_000)?;
            if self.book.tally.closed > 0 || now_ns() - start > timeout_ns {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Publishes, waits until everybody has it, and again.
    fn rounds(&mut self, rounds: u64, burst: u64) -> Result<()> {
        let start = now_ns();
        for _ in 0..rounds {
            self.publish(burst, now_ns())?;
            if !self.settle(TIMEOUT_NS)? {
                break;
            }
        }
        self.book.tally.wall_ns = now_ns() - start;
        Ok(())
    }

    /// Publishes as many messages as became complete, so that always the same number is on its way.
    fn outstanding(&mut self, depth: u64, messages: u64) -> Result<()> {
        let start = now_ns();
        self.book.completed = 0;
        let mut sent = depth.min(messages);
        self.publish(sent, start)?;
        let mut progress_ns = start;
        while self.book.completed < messages && self.book.tally.closed == 0 {
            let before = self.book.tally.received;
            self.pump(100_000_000)?;
            let now = now_ns();
            if self.book.tally.received > before {
                progress_ns = now;
            } else if now - progress_ns > TIMEOUT_NS {
                break;
            }
            let more = (self.book.completed + depth).min(messages).saturating_sub(sent);
            if more > 0 {
                self.publish(more, now)?;
                sent += more;
            }
        }
        self.book.tally.wall_ns = now_ns() - start;
        Ok(())
    }

    /// Publishes at a fixed rate, whatever comes back; latency counts from the intended time.
    fn rate(&mut self, per_s: u64, seconds: u64) -> Result<()> {
        let start = now_ns();
        for message in 0..per_s * seconds {
            let due = start + message * 1_000_000_000 / per_s.max(1);
            loop {
                let now = now_ns();
                if now >= due {
                    break;
                }
                self.pump(due - now)?;
            }
            self.publish(1, due)?;
            self.pump(0)?;
        }
        self.book.tally.wall_ns = now_ns() - start;
        self.settle(TAIL_NS)?;
        Ok(())
    }

    /// Finds a connection to every process behind a shared port: what one publishes, those of the
    /// same process read. Before any other message; a second connection to one process would make
    /// every message come twice, which is counted.
    fn scout(&mut self, processes: usize) -> Result<()> {
        let room = self.rooms.at(0);
        let mut payload = [0; MESSAGE_BYTES];
        Label { number: 0, id: UNTRACKED, room }.write(&mut payload);
        while let Some(head) = self.connections.iter().position(|it| it.next[0] == 0) {
            if self.heads.len() == processes {
                bail!(
                    "{processes} publishers do not reach every connection; is the machine too busy?"
                );
            }
            self.heads.push(head);
            self.frames.clear();
            self.plan.dialect.publish(&mut self.frames, room, &payload);
            self.send(head)?;
            self.quiet()?;
        }
        self.next[0] = 1;
        self.book.tally.expected = self.connections.len() as u64;
        Ok(())
    }

    /// Serves until no message has come for a while.
    fn quiet(&mut self) -> Result<()> {
        let (mut received, mut since_ns) = (self.book.tally.received, now_ns());
        while now_ns() - since_ns < QUIET_NS {
            self.pump(100_000_000)?;
            if self.book.tally.received > received {
                (received, since_ns) = (self.book.tally.received, now_ns());
            }
        }
        Ok(())
    }

    /// Serves until everybody has had the message of that number.
    fn until(&mut self, last: u64, ready_ns: u64) -> Result<()> {
        self.book.ready_ns = ready_ns;
        let start = now_ns();
        let waits = |connection: &Connection| connection.next[0] <= last;
        while self.connections.iter().any(waits) && now_ns() - start < 2 * TIMEOUT_NS {
            self.pump(50_000_000)?;
        }
        // What would be doubled comes right behind.
        self.quiet()?;
        self.book.tally.expected = (last + 1) * self.connections.len() as u64;
        self.book.tally.behind = self.connections.iter().filter(|c| waits(c)).count() as u64;
        Ok(())
    }
}
