//! Rebuilding a home from what the spool kept: channels of a checkpoint, then events in order.
//!
//! Nothing is taken on trust that the events themselves say: last offsets, tops of old lineages
//! and incarnations rise to what is read. Of several incarnations of a channel the highest is the
//! newest, because incarnations are only ever given upwards, also above everything restored.
//! A hole between two events, or between the last event read and the channel's last offset, empties
//! the history before it: a resume is then told `expired` instead of a false `recovered`.

use super::channel::{Channel, Top};
use super::dedupe::Seen;
use super::history::{Held, event_bytes};
use super::{ChannelIndex, Home, HomeConfig, Moment, Refusal, tops_bytes};
use crate::config::limits::Limits;
use crate::config::namespace::Namespace;
use proto::channel::ChannelName;
use proto::event::Event;

/// What became of a restored event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restored {
    /// It is part of the channel (and of its history, within the bounds).
    Kept,
    /// It is of an older incarnation, or not after the last one: nothing to do.
    Stale,
    /// Its channel does not fit, or its namespace is no longer stored.
    Refused,
}

impl Home {
    /// An empty home with nothing to restore: publishing may begin.
    pub fn fresh(limits: &Limits, seed: u64) -> Self {
        let mut home = Self::new(HomeConfig::fresh(limits, seed));
        home.finish_restore();
        home
    }

    /// Restores what a checkpoint says of a channel: its incarnation, its last offset, and for old
    /// lineages the last offset spooled under them. `Ok(None)`: not stored any more, or an older
    /// incarnation than the one that is known.
    pub fn restore_channel(
        &mut self,
        now_ms: u64,
        name: &str,
        incarnation: u32,
        last: u64,
        tops: &[(u32, u64)],
        namespace: &Namespace,
    ) -> Result<Option<ChannelIndex>, Refusal> {
        let Some(index) = self.restore_entry(now_ms, name, incarnation, namespace)? else {
            return Ok(None);
        };
        let Some(channel) = self.directory.get_mut(index) else { return Ok(None) };
        self.tops_bytes -= tops_bytes(channel);
        for &(lineage, last) in tops {
            channel.raise_top(Top { lineage, last }, &self.lineages);
        }
        self.tops_bytes += tops_bytes(channel);
        channel.last = channel.last.max(last);
        Ok(Some(index))
    }

    /// Restores an event. Events of a channel come in order.
    pub fn restore_event(&mut self, at: Moment, event: Event, namespace: &Namespace) -> Restored {
        let epoch = event.position().epoch;
        let entry = self.restore_entry(at.now_ms, event.channel(), epoch.incarnation(), namespace);
        let index = match entry {
            Ok(Some(index)) => index,
            Ok(None) if namespace.store => {
                self.counters.restored_stale += 1;
                return Restored::Stale;
            }
            Ok(None) | Err(_) => {
                self.counters.restored_refused += 1;
                return Restored::Refused;
            }
        };
        let Some(channel) = self.directory.get_mut(index) else { return Restored::Refused };
        let offset = event.offset();
        if channel.history.last().is_some_and(|last| offset <= last) {
            self.counters.restored_stale += 1;
            return Restored::Stale;
        }
        if epoch.lineage() != self.lineages.current {
            self.tops_bytes -= tops_bytes(channel);
            let top = Top { lineage: epoch.lineage(), last: offset };
            channel.raise_top(top, &self.lineages);
            self.tops_bytes += tops_bytes(channel);
        }
        channel.last = channel.last.max(offset);
        if channel.history.last().is_some_and(|last| offset != last + 1) {
            channel.history.clear();
            self.history_ranks.set(index.slot, 0);
        }
        // Ages go on over the restart by the wall clock; one that was set back makes them zero.
        let age_ms = at.wall_us.saturating_sub(event.accepted_us()).max(0) / 1_000;
        let admitted_ms = (at.now_ms as i64).saturating_sub(age_ms);
        let history_age_ms = channel.history_age_ms;
        if let Some((id, source)) = event.dedupe_key()
            && age_ms < self.config.dedupe_age_ms as i64
        {
            let hash = self.keys.id(index, id, source);
            self.remember(index.slot, Seen { hash, offset, store_seq: 0, admitted_ms });
        }
        if age_ms < history_age_ms {
            let held = Held::New(event_bytes(&event));
            self.keep(index.slot, event, admitted_ms, held);
        }
        Restored::Kept
    }

    /// Ends the restore: everything read is visible, and what is not contiguous up to the
    /// channel's last offset is dropped. Publishing may begin.
    pub fn finish_restore(&mut self) {
        for slot in 0..self.directory.slots() {
            let Some(channel) = self.directory.at_mut(slot) else { continue };
            channel.visible = channel.last;
            if channel.history.last().is_some_and(|last| last != channel.last) {
                channel.history.clear();
                self.history_ranks.set(slot, 0);
            }
        }
        self.restored = true;
    }

    /// Finds or creates the channel under this incarnation; `None` if it is an older one.
    fn restore_entry(
        &mut self,
        now_ms: u64,
        name: &str,
        incarnation: u32,
        namespace: &Namespace,
    ) -> Result<Option<ChannelIndex>, Refusal> {
        assert!(!self.restored, "restoring after finish_restore");
        // Whatever becomes of it, this incarnation has been used.
        let stride = u64::from(self.config.incarnation_stride);
        let used = (u64::from(incarnation) + 1).saturating_sub(self.incarnation_next);
        self.incarnation_next += used.div_ceil(stride) * stride;
        if !namespace.store {
            return Ok(None);
        }
        if let Some(index) = self.directory.find(&self.keys, name) {
            let known = self.directory.get(index).map_or(0, |channel| channel.incarnation);
            if known > incarnation {
                return Ok(None);
            }
            if known == incarnation {
                return Ok(Some(index));
            }
            self.forget(index.slot);
        }
        if self.directory.len() >= self.config.channels_max as usize {
            self.counters.refused_channels_full += 1;
            return Err(Refusal::ChannelsFull(self.config.channels_max));
        }
        let name = ChannelName::new(name).map_err(Refusal::Name)?;
        let channel = Channel::new(name, incarnation, now_ms as i64, namespace);
        self.counters.channels_restored += 1;
        Ok(Some(self.directory.insert(&self.keys, channel)))
    }
}
