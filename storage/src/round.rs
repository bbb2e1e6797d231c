//! One round of group commit: the bytes that are written and synced together.
//!
//! The buffer is reused; it begins with room for the mark, which is filled in when the place is
//! known (a round that is rewritten gets another place). Events stay referenced until the sync,
//! because only then do the index and the channel table learn of them.

use crate::format::{MARK_BYTES, Mark, RECORD_HEADER_BYTES, push_record};
use crate::index::channel_hash;
use crate::spool::Ack;
use proto::event::{Event, EventView};
use proto::position::Epoch;

#[derive(Debug, Default)]
pub(crate) struct Round {
    buffer: Vec<u8>,
    /// What the index wants to know of each event, read while its image is at hand.
    pub(crate) notes: Vec<Note>,
    /// What the channel table wants to know, in the order of the runs' first events.
    pub(crate) runs: Vec<Run>,
    /// Guesses which run an event continues, by its channel's hash; checked by name.
    guesses: Vec<u32>,
    pub(crate) events: Vec<Event>,
    /// Batches that end in this round.
    pub(crate) acks: Vec<Ack>,
    /// Bytes already handed to the file.
    pub(crate) written: usize,
    /// The round has already lost one segment under it.
    pub(crate) rewritten: bool,
}

/// One event of a round.
#[derive(Debug)]
pub(crate) struct Note {
    pub(crate) channel_hash: u32,
    pub(crate) time_us: i64,
    pub(crate) offset: u64,
    pub(crate) cost: u64,
}

/// Events of one channel and epoch, in order, with none of another epoch of it between them.
#[derive(Debug)]
pub(crate) struct Run {
    /// Index of its first event in the round.
    pub(crate) first: u32,
    /// Index of its newest event.
    pub(crate) last: u32,
    pub(crate) epoch: Epoch,
    pub(crate) first_offset: u64,
    pub(crate) last_offset: u64,
    /// Events whose offset did not grow over the one before them.
    pub(crate) out_of_order: u64,
}

/// Entries of the table of guesses; a power of two.
const GUESSES: usize = 1 << 10;

/// Capacity kept between rounds; one huge event does not keep its memory for ever.
const BUFFER_KEPT_BYTES: usize = 8 << 20;

impl Round {
    /// Bytes a record of this event takes.
    pub(crate) fn cost(event: &Event) -> u64 {
        RECORD_HEADER_BYTES + event.size() as u64
    }

    pub(crate) fn push(&mut self, event: Event) {
        if self.buffer.is_empty() {
            self.buffer.resize(MARK_BYTES as usize, 0);
        }
        push_record(&mut self.buffer, event.as_bytes());
        self.note(&event);
        self.events.push(event);
    }

    fn note(&mut self, event: &Event) {
        let view = EventView::from(event);
        let (name, position) = (view.channel_bytes(), event.position());
        let channel_hash = channel_hash(name);
        let (time_us, cost) = (event.time_us(), Self::cost(event));
        self.notes.push(Note { channel_hash, time_us, offset: position.offset, cost });
        let at = self.events.len() as u32;
        self.guesses.resize(GUESSES, 0);
        let guess = &mut self.guesses[channel_hash as usize % GUESSES];
        // A hit is the channel's newest run: whenever one begins, the guess moves on to it.
        if let Some(run) = self.runs.get_mut(*guess as usize)
            && run.epoch == position.epoch
            && EventView::from(&self.events[run.first as usize]).channel_bytes() == name
        {
            run.out_of_order += u64::from(position.offset <= run.last_offset);
            (run.last, run.last_offset) = (at, position.offset);
            return;
        }
        *guess = self.runs.len() as u32;
        self.runs.push(Run {
            first: at,
            last: at,
            epoch: position.epoch,
            first_offset: position.offset,
            last_offset: position.offset,
            out_of_order: 0,
        });
    }

    /// Bytes the round takes in a segment, mark included.
    pub(crate) fn bytes(&self) -> u64 {
        (self.buffer.len() as u64).max(MARK_BYTES)
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        let each = self.events.capacity() * size_of::<Event>()
            + self.notes.capacity() * size_of::<Note>()
            + self.runs.capacity() * size_of::<Run>()
            + self.guesses.capacity() * size_of::<u32>();
        (self.buffer.capacity() + each) as u64
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.acks.is_empty()
    }

    /// Fills in the mark: the round goes to this place.
    pub(crate) fn stamp(&mut self, mark: Mark) {
        debug_assert_eq!(self.written, 0);
        self.buffer[..MARK_BYTES as usize].copy_from_slice(&mark.encode());
    }

    /// What is still to be written.
    pub(crate) fn unwritten(&self) -> &[u8] {
        &self.buffer[self.written..]
    }

    pub(crate) fn clear(&mut self) {
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_KEPT_BYTES);
        self.events.clear();
        self.events.shrink_to(BUFFER_KEPT_BYTES / 64);
        self.notes.clear();
        self.notes.shrink_to(BUFFER_KEPT_BYTES / 64);
        self.runs.clear();
        self.runs.shrink_to(BUFFER_KEPT_BYTES / 64);
        self.acks.clear();
        self.written = 0;
        self.rewritten = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channels::Channels;
    use proto::event::Draft;
    use proto::position::Position;
    use std::collections::BTreeMap;

    /// Runs stand for their events: applied, they leave what the events one by one leave, whatever
    /// the order of channels, epochs and offsets.
    #[test]
    fn runs_tell_the_channel_table_what_the_events_one_by_one_tell_it() {
        let mut state = 7_u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        let (mut by_runs, mut by_events) = (Channels::default(), Channels::default());
        let mut seq = 0;
        for _ in 0..200 {
            let mut round = Round::default();
            for _ in 0..random(60) {
                let channel = format!("c{}", random(12));
                let epoch = Epoch::new(1 + random(2) as u32, 1 + random(40) as u32 / 39);
                let position = Position { epoch, offset: 1 + seq / 3 + random(4) };
                let draft = Draft { channel: &channel, ..Draft::default() };
                round.push(draft.build().unwrap().place(position, seq as i64));
            }
            for run in &round.runs {
                let name = round.events[run.first as usize].channel();
                by_runs.apply_run(name, run, seq, 100);
            }
            let mut bytes = MARK_BYTES;
            for (event, note) in round.events.iter().zip(&round.notes) {
                by_events.apply(event.channel(), event.position(), seq, 100);
                seq += 1;
                bytes += note.cost;
                assert_eq!(note.channel_hash, channel_hash(event.channel().as_bytes()));
                assert_eq!((note.time_us, note.offset), (event.time_us(), event.offset()));
            }
            assert_eq!(round.bytes(), bytes);
            let table = |channels: &Channels| -> BTreeMap<_, _> {
                channels.iter().map(|(name, state)| (name.clone(), state.clone())).collect()
            };
            assert_eq!(table(&by_runs), table(&by_events));
            assert_eq!(by_runs.out_of_order, by_events.out_of_order);
            assert_eq!(by_runs.incarnation_max, by_events.incarnation_max);
        }
    }
}
