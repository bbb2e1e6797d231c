//! What is counted: deliveries, their order, and when a message has reached its last subscriber.
//!
//! A message carries three numbers in hexadecimal: its number within its room (order, loss and
//! doubling of one connection), its number over all rooms (when it was to be sent, and how many
//! deliveries are missing until it is complete) and the room. The time itself stays here: publisher
//! and subscribers are one process, so a table has it, and nothing is parsed that need not be.

use super::order::Tally;
use crate::histogram::Latencies;
use std::io::Write;

/// Bytes of a message.
pub const MESSAGE_BYTES: usize = 128;

/// A message of nobody's flight: only its order is looked at.
pub const UNTRACKED: u64 = u32::MAX as u64;

/// Messages that may be incomplete at a time.
const FLIGHTS: usize = 1 << 16;

/// What a message says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label {
    /// Number within its room, from 0.
    pub number: u64,
    /// Number over all rooms, or [`UNTRACKED`].
    pub id: u64,
    pub room: u32,
}

impl Label {
    /// The payload: the label, then filling.
    pub fn write(self, payload: &mut [u8; MESSAGE_BYTES]) {
        payload.fill(b'.');
        let mut head = &mut payload[..];
        write!(head, "{:016x}{:016x}{:08x}", self.number, self.id, self.room)
            .expect("a label is shorter than a message");
    }

    /// Reads a payload. Numbers have 32 bits at most: the upper digits are zeros.
    pub fn read(payload: &[u8]) -> Option<Self> {
        let label = payload.get(..40)?;
        let number = hex(&label[8..16])?;
        Some(Self { number, id: hex(&label[24..32])?, room: hex(&label[32..40])? as u32 })
    }
}

/// Eight digits.
fn hex(digits: &[u8]) -> Option<u64> {
    let mut value = 0;
    for digit in digits {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        value = value << 4 | u64::from(digit);
    }
    Some(value)
}

/// A message on its way.
#[derive(Debug, Clone, Copy, Default)]
struct Flight {
    due_ns: u64,
    missing: u32,
}

/// See the module.
#[derive(Debug)]
pub struct Book {
    pub tally: Tally,
    /// When the bytes at hand were read.
    pub now_ns: u64,
    /// Messages that became complete since somebody looked.
    pub completed: u64,
    /// When connections were cut, and when the server said that nothing is missing.
    pub recoveries: Vec<(u64, u64)>,
    /// When there was a server again.
    pub ready_ns: u64,
    deliveries: Latencies,
    completions: Latencies,
    flights: Vec<Flight>,
}

impl Book {
    /// Nothing counted.
    pub fn new() -> Self {
        Self {
            tally: Tally::default(),
            now_ns: 0,
            completed: 0,
            recoveries: Vec::new(),
            ready_ns: 0,
            deliveries: Latencies::new(),
            completions: Latencies::new(),
            flights: vec![Flight::default(); FLIGHTS],
        }
    }

    /// A message is sent to so many, or should have been at that time.
    pub fn depart(&mut self, id: u64, due_ns: u64, members: u32) {
        self.tally.expected += u64::from(members);
        self.flights[id as usize % FLIGHTS] = Flight { due_ns, missing: members };
    }

    /// A connection got a message, and expected another number next.
    pub fn arrive(&mut self, label: Label, next: &mut u64) {
        self.tally.received += 1;
        if label.number == *next {
            *next += 1;
        } else if label.number < *next {
            self.tally.repeated += 1;
        } else {
            self.tally.skipped += label.number - *next;
            *next = label.number + 1;
        }
        if label.id == UNTRACKED {
            return;
        }
        let flight = &mut self.flights[label.id as usize % FLIGHTS];
        let latency_ns = self.now_ns.saturating_sub(flight.due_ns);
        self.deliveries.record(latency_ns);
        flight.missing = flight.missing.saturating_sub(1);
        if flight.missing == 0 {
            self.completions.record(latency_ns);
            self.completed += 1;
        }
    }

    /// What was counted; counting begins again.
    pub fn close(&mut self) -> Tally {
        let mut tally = std::mem::take(&mut self.tally);
        tally.latency = std::mem::replace(&mut self.deliveries, Latencies::new()).quantiles();
        tally.completion = std::mem::replace(&mut self.completions, Latencies::new()).quantiles();
        let (mut cut, mut ready) = (Latencies::new(), Latencies::new());
        for (cut_ns, recovered_ns) in self.recoveries.drain(..) {
            cut.record(recovered_ns.saturating_sub(cut_ns));
            ready.record(recovered_ns.saturating_sub(cut_ns.max(self.ready_ns)));
        }
        (tally.recovery, tally.recovery_of_ready) = (cut.quantiles(), ready.quantiles());
        tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(number: u64, id: u64) -> Label {
        Label { number, id, room: 7 }
    }

    #[test]
    fn a_label_comes_back_as_it_was_and_anything_else_is_none() {
        let mut payload = [0; MESSAGE_BYTES];
        label(0xdead_beef, 77).write(&mut payload);
        assert_eq!(Label::read(&payload), Some(label(0xdead_beef, 77)));
        assert_eq!(Label::read(&payload[..39]), None);
        assert_eq!(Label::read(b"queued messages: 1, last requested: 0 sec. ago"), None);
    }

    #[test]
    fn what_is_skipped_and_what_comes_twice_is_counted() {
        let (mut book, mut next) = (Book::new(), 0);
        for number in [0, 1, 3, 2, 3, 4] {
            book.arrive(label(number, UNTRACKED), &mut next);
        }
        let tally = book.close();
        assert_eq!((tally.received, tally.skipped, tally.repeated, next), (6, 1, 2, 5));
    }

    #[test]
    fn a_message_is_complete_with_its_last_delivery_and_late_from_when_it_was_due() {
        let (mut book, mut nexts) = (Book::new(), [0; 3]);
        book.depart(0, 1_000_000, 3);
        for (at, next) in nexts.iter_mut().enumerate() {
            book.now_ns = 2_000_000 + 1_000_000 * at as u64;
            assert_eq!(book.completed, 0);
            book.arrive(label(0, 0), next);
        }
        assert_eq!(book.completed, 1);
        let tally = book.close();
        assert!((2_900.0..3_100.0).contains(&tally.completion.p50_us), "{tally:?}");
        assert!((1_900.0..2_100.0).contains(&tally.latency.p50_us), "{tally:?}");
    }
}
