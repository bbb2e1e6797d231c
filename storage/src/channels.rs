//! The table of channels: what the spool knows of each one's positions.
//!
//! Updated only with synced events, so that a checkpoint of it is true. A channel whose newest
//! event retention deleted leaves the table; should it come back after a restart it is a new
//! incarnation. Bounded by `channels_max`: beyond it the quietest eighth leaves, with the same
//! meaning. Old lineages per channel are bounded by [`TOPS_MAX`]; positions of forgotten ones
//! answer as unknown.

use crate::round::Run;
use hashbrown::HashMap;
use proto::channel::ChannelName;
use proto::position::Position;

/// Lineages remembered per channel.
pub(crate) const TOPS_MAX: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChannelState {
    pub(crate) incarnation: u32,
    pub(crate) last_offset: u64,
    /// Sequence number of the channel's newest event.
    pub(crate) last_seq: u64,
    /// Lineage of the newest event.
    pub(crate) lineage: u32,
    /// (lineage, last spooled offset) of older ones of this incarnation, oldest first.
    pub(crate) old_tops: Vec<(u32, u64)>,
}

#[derive(Debug, Default)]
pub(crate) struct Channels {
    table: HashMap<ChannelName, ChannelState>,
    pub(crate) incarnation_max: u32,
    /// Channels that left because the table was full.
    pub(crate) evicted: u64,
    /// Events whose offset did not grow; always a bug of the caller, never dropped.
    pub(crate) out_of_order: u64,
}

impl Channels {
    /// Takes note of a synced event.
    pub(crate) fn apply(&mut self, name: &str, position: Position, seq: u64, channels_max: usize) {
        let (lineage, incarnation) = (position.epoch.lineage(), position.epoch.incarnation());
        self.incarnation_max = self.incarnation_max.max(incarnation);
        let Some(state) = self.table.get_mut(name) else {
            return self.insert(name, position, seq, channels_max);
        };
        if state.incarnation != incarnation {
            *state = new_state(position, seq);
            return;
        }
        if position.offset <= state.last_offset {
            self.out_of_order += 1;
        }
        if state.lineage != lineage {
            if state.old_tops.len() == TOPS_MAX {
                state.old_tops.remove(0);
            }
            state.old_tops.push((state.lineage, state.last_offset));
            state.lineage = lineage;
        }
        state.last_offset = position.offset;
        state.last_seq = seq;
    }

    /// Takes note of a run of events of a round that begins with event `first_seq`: as if each had
    /// been applied.
    pub(crate) fn apply_run(&mut self, name: &str, run: &Run, first_seq: u64, channels_max: usize) {
        let position = |offset| Position { epoch: run.epoch, offset };
        let first = position(run.first_offset);
        self.apply(name, first, first_seq + u64::from(run.first), channels_max);
        self.out_of_order += run.out_of_order;
        if let Some(state) = self.table.get_mut(name).filter(|_| run.last > run.first) {
            state.last_offset = run.last_offset;
            state.last_seq = first_seq + u64::from(run.last);
        }
    }

    fn insert(&mut self, name: &str, position: Position, seq: u64, channels_max: usize) {
        if self.table.len() >= channels_max {
            self.evict();
        }
        // Names in an event are valid by its invariant.
        if let Ok(name) = ChannelName::new(name) {
            self.table.insert(name, new_state(position, seq));
        }
    }

    fn evict(&mut self) {
        let mut seqs: Vec<u64> = self.table.values().map(|state| state.last_seq).collect();
        let eighth = seqs.len() / 8;
        let (_, &mut limit, _) = seqs.select_nth_unstable(eighth);
        let before = self.table.len();
        self.table.retain(|_, state| state.last_seq > limit);
        self.evicted += (before - self.table.len()) as u64;
    }

    /// Forgets channels whose newest event is older than `oldest_seq`.
    pub(crate) fn forget_before(&mut self, oldest_seq: u64) {
        self.table.retain(|_, state| state.last_seq >= oldest_seq);
    }

    /// Puts back what a checkpoint held.
    pub(crate) fn restore(&mut self, name: ChannelName, state: ChannelState) {
        self.incarnation_max = self.incarnation_max.max(state.incarnation);
        self.table.insert(name, state);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ChannelName, &ChannelState)> {
        self.table.iter()
    }

    /// Without the old tops: few channels have any.
    pub(crate) fn memory_bytes(&self) -> u64 {
        // A name's allocation has two counters and, typically, a few dozen bytes.
        const NAME_BYTES: usize = 16 + 32;
        let entry = size_of::<(ChannelName, ChannelState)>() + 1;
        (self.table.capacity() * entry + self.table.len() * NAME_BYTES) as u64
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }
}

impl ChannelState {
    /// Every known (lineage, last spooled offset), oldest first, the newest event's last.
    pub(crate) fn tops(&self) -> impl Iterator<Item = (u32, u64)> {
        self.old_tops.iter().copied().chain([(self.lineage, self.last_offset)])
    }
}

fn new_state(position: Position, seq: u64) -> ChannelState {
    ChannelState {
        incarnation: position.epoch.incarnation(),
        last_offset: position.offset,
        last_seq: seq,
        lineage: position.epoch.lineage(),
        old_tops: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::position::Epoch;

    fn at(lineage: u32, incarnation: u32, offset: u64) -> Position {
        Position { epoch: Epoch::new(lineage, incarnation), offset }
    }

    #[test]
    fn a_new_lineage_keeps_the_old_top_and_a_new_incarnation_drops_it() {
        let mut channels = Channels::default();
        for (seq, position) in [at(1, 5, 1), at(1, 5, 2), at(2, 5, 3)].into_iter().enumerate() {
            channels.apply("a", position, seq as u64, 10);
        }
        let tops = |channels: &Channels| channels.table["a"].tops().collect::<Vec<_>>();
        assert_eq!(tops(&channels), [(1, 2), (2, 3)]);
        channels.apply("a", at(2, 6, 1), 3, 10);
        assert_eq!(tops(&channels), [(2, 1)]);
        assert_eq!(channels.incarnation_max, 6);
        for lineage in 10..200 {
            channels.apply("a", at(lineage, 6, u64::from(lineage)), 4, 10);
        }
        assert_eq!(tops(&channels).len(), TOPS_MAX + 1);
    }

    #[test]
    fn a_full_table_lets_the_quietest_go() {
        let mut channels = Channels::default();
        for seq in 0..17 {
            channels.apply(&format!("c{seq}"), at(1, 1, 1), seq, 16);
        }
        assert!(channels.len() <= 16 && channels.evicted > 0);
        assert!(channels.table.get("c0").is_none() && channels.table.get("c16").is_some());
        channels.forget_before(16);
        assert_eq!(channels.len(), 1);
    }
}
