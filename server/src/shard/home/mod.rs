//! The home shard of its channels: order, identity, history and resume.
//!
//! Every channel has one home shard (by the hash of its name). Here its events get their
//! positions, repeated ids are recognised, the recent past is kept, and a client that comes back
//! is told the truth about what it missed. Who does this is an interface, [`Orderer`]: [`Home`] is
//! the one that a single node uses.
//!
//! Invariants:
//! - a position never names two events: offsets rise by one under an epoch, an epoch is (lineage,
//!   incarnation), a lineage is never used again after an unclean stop, and an incarnation never
//!   within a lineage ([`HomeConfig::incarnation_first`] is the caller's part of that);
//! - `recovered` is said only when every offset in between was found;
//! - history, ids and channels stay within their budgets at every return, see [`Home::memory`].
//!
//! What full means: *history* over its bytes: the channel with (about) the most bytes loses its
//! oldest events, and later resumes into them are told `expired`. *Ids* over their bytes: the
//! channel with (about) the most ids forgets its oldest, and a late repeat of that id is a new
//! event. *Channels* over their count: idle ones are forgotten; if that does not help, a new
//! channel is refused. All are counted, see [`HomeCounters`].
//!
//! Deliberately absent: I/O, a clock, threads, logging; admission and permissions (before), fan-out
//! and storage (after). Lives on its shard's thread. Tested against a naive model under seeded
//! scripts of publishes, crashes and resumes (`tests.rs`); `examples/home_cost.rs` measures it.

mod channel;
mod dedupe;
mod directory;
mod history;
mod keys;
mod ranks;
mod restore;
#[cfg(test)]
mod tests;
mod types;
mod upkeep;

pub use directory::ChannelIndex;
pub use history::Room;
pub use restore::Restored;
pub use types::{
    Duplicate, Expiry, GapReason, HomeConfig, HomeCounters, HomeMemory, Moment, Outcome, Page,
    PageLimit, Placed, Published, Refusal, Resumed, Since,
};

use crate::config::namespace::Namespace;
use channel::{Channel, Lineages};
use dedupe::{Ids, Seen};
use directory::Directory;
use keys::Keys;
use proto::channel::ChannelName;
use proto::event::{Event, Unplaced};
use proto::position::Position;
use ranks::Ranks;

/// Who orders channels, recognises repeats and keeps history. [`Home`] does it in memory for one
/// node. An orderer that has to ask elsewhere (a stream shared by several nodes) implements the
/// same reads over what it has fetched, and adds to [`Published`] the case "asked, the answer
/// comes later"; nothing outside this module counts offsets.
pub trait Orderer {
    /// Finds a channel without creating it.
    fn find(&self, name: &str) -> Option<ChannelIndex>;

    /// Finds or creates a channel. `name` has been validated.
    fn open(
        &mut self,
        now_ms: u64,
        name: &str,
        namespace: &Namespace,
    ) -> Result<ChannelIndex, Refusal>;

    /// Finds or creates a channel and notes that a shard (below 64) has subscribers of it: from
    /// here on it is named in [`Placed::interest`], and the channel is not forgotten.
    fn subscribe(
        &mut self,
        now_ms: u64,
        name: &str,
        shard: u8,
        namespace: &Namespace,
    ) -> Result<ChannelIndex, Refusal>;

    /// The shard's last subscriber of the channel has gone.
    fn unsubscribe(&mut self, now_ms: u64, channel: ChannelIndex, shard: u8);

    /// The shards that have subscribers, as bits. Zero for a stale index.
    fn interest(&self, channel: ChannelIndex) -> u64;

    /// Orders an event, or recognises it as a repeat. `store_seq` is the caller's number for the
    /// event on its way to the spool; a repeat answers with the original's.
    fn publish(
        &mut self,
        at: Moment,
        event: Unplaced,
        namespace: &Namespace,
        store_seq: u64,
    ) -> Result<Published, Refusal>;

    /// The same for a channel that was opened just before, as for all events of a batch but the
    /// first. `room` is for the images of this batch and channel alone. `Err` gives the event back:
    /// the channel was forgotten meanwhile, open it again.
    fn publish_in(
        &mut self,
        at: Moment,
        channel: ChannelIndex,
        event: Unplaced,
        room: &mut Room,
        store_seq: u64,
    ) -> Result<Published, Unplaced>;

    /// The spool has synced the channel's events up to `offset`: under `deliver = durable` they
    /// may now be seen.
    fn mark_synced(&mut self, channel: ChannelIndex, offset: u64);

    /// Where a new subscriber starts. `None` for a stale index.
    fn resume(&self, channel: ChannelIndex, since: Since, limit: PageLimit) -> Option<Resumed>;

    /// Visible events after an offset: the further pages of a resume, and polling. `None` for a
    /// stale index.
    fn history_after(&self, channel: ChannelIndex, after: u64, limit: PageLimit) -> Option<Page>;

    /// The newest visible events that are retained, of those below an offset, the newest first.
    fn newest(&self, channel: ChannelIndex, below: u64, limit: PageLimit) -> Vec<Event>;

    /// Forgets the events of a channel that are retained. Its positions go on; a resume into what
    /// was forgotten is told `expired`.
    fn forget_history(&mut self, channel: ChannelIndex);

    /// The position of the newest visible event, retained or not, under the current epoch: where
    /// a new subscriber stands. `None` for a stale index.
    fn top(&self, channel: ChannelIndex) -> Option<Position>;

    /// Drops what has aged and forgets idle channels, going round from where the last call
    /// stopped. `work_max` bounds the channels looked at plus the events and ids dropped.
    fn expire(&mut self, now_ms: u64, work_max: u32) -> Expiry;
}

/// See the module.
pub struct Home {
    config: HomeConfig,
    lineages: Lineages,
    incarnation_next: u64,
    keys: Keys,
    directory: Directory,
    ids: Ids,
    /// Bytes of history by channel slot.
    history_ranks: Ranks,
    /// Remembered ids by channel slot.
    ids_ranks: Ranks,
    /// The slot at which the next [`Orderer::expire`] goes on.
    sweep_at: u32,
    tops_bytes: usize,
    restored: bool,
    /// Channels that some shard has subscribers of.
    subscribed: usize,
    counters: HomeCounters,
}

/// Channels looked at to make room for one more.
const MAKE_ROOM_WORK_MAX: u32 = 64;

/// Aged events and ids that one publish drops from its own channel: more than the one it adds, so
/// that a busy channel keeps up by itself.
const AGED_PER_PUBLISH_MAX: u32 = 4;

impl Home {
    /// An empty home. Call [`Home::finish_restore`] before the first publish, after the
    /// `restore_*` calls if there is anything to restore.
    pub fn new(config: HomeConfig) -> Self {
        assert!(config.incarnation_stride > 0, "incarnations must advance");
        assert!(
            !config.lineages_old.contains(&config.lineage),
            "a lineage is never used again after an unclean stop"
        );
        let lineages = Lineages { current: config.lineage, old: config.lineages_old.clone() };
        Self {
            lineages,
            incarnation_next: u64::from(config.incarnation_first),
            keys: Keys::new(config.seed),
            directory: Directory::new(),
            ids: Ids::new(config.dedupe_bytes_max),
            history_ranks: Ranks::new(),
            ids_ranks: Ranks::new(),
            sweep_at: 0,
            tops_bytes: 0,
            restored: false,
            subscribed: 0,
            counters: HomeCounters::default(),
            config,
        }
    }

    /// The first incarnation that this home has not given. What a clean stop writes down (the
    /// highest over all shards), so that the next run of the same lineage starts above it.
    pub fn incarnation_next(&self) -> u64 {
        self.incarnation_next
    }

    /// The run lineage that its positions are under.
    pub fn lineage(&self) -> u32 {
        self.config.lineage
    }

    /// Channels that anybody subscribes.
    pub fn channels_subscribed(&self) -> usize {
        self.subscribed
    }

    /// Bytes held, for the ledger.
    pub fn memory(&self) -> HomeMemory {
        HomeMemory {
            history_bytes: self.history_ranks.total(),
            dedupe_bytes: self.ids.memory() as u64,
            channels_bytes: (self.directory.memory()
                + self.tops_bytes
                + self.history_ranks.memory()
                + self.ids_ranks.memory()) as u64,
            channels: self.directory.len(),
        }
    }

    /// What happened since the start.
    pub fn counters(&self) -> HomeCounters {
        self.counters
    }

    /// Finds or creates, and takes over the namespace's settings.
    fn enter(
        &mut self,
        now_ms: u64,
        name: &str,
        namespace: &Namespace,
    ) -> Result<ChannelIndex, Refusal> {
        let Some(index) = self.directory.find(&self.keys, name) else {
            return self.create(now_ms, name, namespace);
        };
        let Some(channel) = self.directory.at_mut(index.slot) else { return Ok(index) };
        if channel.stored && !namespace.store && channel.last > 0 {
            // Offsets that are not spooled from here on would be given a second time after the
            // next start, under the same epoch if that start is clean. So the channel begins anew.
            self.renew(index.slot)?;
        }
        if let Some(channel) = self.directory.at_mut(index.slot) {
            channel.configure(namespace);
        }
        Ok(index)
    }

    /// Gives a channel a new incarnation in place: who subscribes stays, everything else goes.
    fn renew(&mut self, slot: u32) -> Result<(), Refusal> {
        let incarnation = self.incarnate()?;
        let Some(channel) = self.directory.at_mut(slot) else { return Ok(()) };
        self.tops_bytes -= tops_bytes(channel);
        while self.ids.pop(&mut channel.ids) {}
        channel.renew(incarnation);
        self.ids_ranks.set(slot, 0);
        self.history_ranks.set(slot, 0);
        self.counters.channels_renewed += 1;
        Ok(())
    }

    /// The next incarnation.
    fn incarnate(&mut self) -> Result<u32, Refusal> {
        let Ok(incarnation) = u32::try_from(self.incarnation_next) else {
            self.counters.refused_incarnations += 1;
            return Err(Refusal::IncarnationsExhausted);
        };
        self.incarnation_next += u64::from(self.config.incarnation_stride);
        Ok(incarnation)
    }

    fn create(
        &mut self,
        now_ms: u64,
        name: &str,
        namespace: &Namespace,
    ) -> Result<ChannelIndex, Refusal> {
        if self.directory.len() >= self.config.channels_max as usize {
            self.sweep(now_ms as i64, MAKE_ROOM_WORK_MAX, true);
            if self.directory.len() >= self.config.channels_max as usize {
                self.counters.refused_channels_full += 1;
                return Err(Refusal::ChannelsFull(self.config.channels_max));
            }
        }
        let name = ChannelName::new(name).map_err(Refusal::Name)?;
        let incarnation = self.incarnate()?;
        self.counters.channels_created += 1;
        let channel = Channel::new(name, incarnation, now_ms as i64, namespace);
        Ok(self.directory.insert(&self.keys, channel))
    }

    fn forget(&mut self, slot: u32) {
        let Some(mut channel) = self.directory.remove(&self.keys, slot) else { return };
        while self.ids.pop(&mut channel.ids) {}
        self.tops_bytes -= tops_bytes(&channel);
        self.ids_ranks.set(slot, 0);
        self.history_ranks.set(slot, 0);
        self.counters.channels_forgotten += 1;
    }
}

impl Orderer for Home {
    fn find(&self, name: &str) -> Option<ChannelIndex> {
        self.directory.find(&self.keys, name)
    }

    fn open(
        &mut self,
        now_ms: u64,
        name: &str,
        namespace: &Namespace,
    ) -> Result<ChannelIndex, Refusal> {
        assert!(self.restored, "opened before finish_restore");
        self.enter(now_ms, name, namespace)
    }

    fn subscribe(
        &mut self,
        now_ms: u64,
        name: &str,
        shard: u8,
        namespace: &Namespace,
    ) -> Result<ChannelIndex, Refusal> {
        assert!(shard < 64, "interest is a set of 64 shards");
        let index = self.open(now_ms, name, namespace)?;
        if let Some(channel) = self.directory.get_mut(index) {
            self.subscribed += usize::from(channel.interest == 0);
            channel.interest |= 1 << shard;
            channel.touched_ms = now_ms as i64;
        }
        Ok(index)
    }

    fn unsubscribe(&mut self, now_ms: u64, channel: ChannelIndex, shard: u8) {
        assert!(shard < 64, "interest is a set of 64 shards");
        if let Some(channel) = self.directory.get_mut(channel) {
            let before = channel.interest;
            channel.interest &= !(1 << shard);
            self.subscribed -= usize::from(before != 0 && channel.interest == 0);
            channel.touched_ms = now_ms as i64;
        }
    }

    fn interest(&self, channel: ChannelIndex) -> u64 {
        self.directory.get(channel).map_or(0, |channel| channel.interest)
    }

    fn publish(
        &mut self,
        at: Moment,
        event: Unplaced,
        namespace: &Namespace,
        store_seq: u64,
    ) -> Result<Published, Refusal> {
        let index = self.open(at.now_ms, event.channel(), namespace)?;
        let published = self.publish_in(at, index, event, &mut Room::alone(), store_seq);
        Ok(published.expect("opened above"))
    }

    fn publish_in(
        &mut self,
        at: Moment,
        index: ChannelIndex,
        event: Unplaced,
        room: &mut Room,
        store_seq: u64,
    ) -> Result<Published, Unplaced> {
        let now_ms = at.now_ms as i64;
        if self.directory.get(index).is_none() {
            return Err(event);
        }
        let hash = event.dedupe_key().map(|(id, source)| self.keys.id(index, id, source));
        if let Some(seen) = hash.and_then(|hash| self.original(hash, now_ms)) {
            self.counters.duplicates += 1;
            let channel = self.directory.get(index).expect("looked up above");
            let position = channel.position_of(seen.offset, &self.lineages);
            let duplicate = Duplicate { channel: index, position, store_seq: seen.store_seq };
            return Ok(Published::Duplicate(duplicate));
        }
        self.age(index.slot, now_ms, AGED_PER_PUBLISH_MAX, &mut Expiry::default());
        let channel = self.directory.get_mut(index).expect("looked up above");
        channel.last += 1;
        if !channel.durable {
            channel.visible = channel.last;
        }
        channel.touched_ms = now_ms;
        let (offset, interest) = (channel.last, channel.interest);
        let position = Position { epoch: channel.epoch(&self.lineages), offset };
        let (event, held) = room.place(event, position, at.wall_us);
        self.counters.placed += 1;
        self.keep(index.slot, event.clone(), now_ms, held);
        if let Some(hash) = hash {
            self.remember(index.slot, Seen { hash, offset, store_seq, admitted_ms: now_ms });
        }
        Ok(Published::Placed(Placed { event, channel: index, interest }))
    }

    fn mark_synced(&mut self, channel: ChannelIndex, offset: u64) {
        if let Some(channel) = self.directory.get_mut(channel) {
            channel.visible = channel.visible.max(offset.min(channel.last));
        }
    }

    fn resume(&self, channel: ChannelIndex, since: Since, limit: PageLimit) -> Option<Resumed> {
        Some(self.directory.get(channel)?.resume(since, limit, &self.lineages))
    }

    fn history_after(&self, channel: ChannelIndex, after: u64, limit: PageLimit) -> Option<Page> {
        let channel = self.directory.get(channel)?;
        let (events, next) = channel.history.after(after, channel.visible, limit);
        let contiguous = match events.first() {
            Some(first) => first.offset() == after.saturating_add(1),
            None => after >= channel.visible,
        };
        Some(Page { events, next, contiguous })
    }

    fn newest(&self, channel: ChannelIndex, below: u64, limit: PageLimit) -> Vec<Event> {
        let Some(channel) = self.directory.get(channel) else { return Vec::new() };
        channel.history.newest(below.min(channel.visible.saturating_add(1)), limit)
    }

    fn forget_history(&mut self, index: ChannelIndex) {
        if let Some(channel) = self.directory.get_mut(index) {
            channel.history.clear();
            self.history_ranks.set(index.slot, channel.history.bytes());
        }
    }

    fn top(&self, channel: ChannelIndex) -> Option<Position> {
        let channel = self.directory.get(channel)?;
        Some(Position { epoch: channel.epoch(&self.lineages), offset: channel.visible })
    }

    fn expire(&mut self, now_ms: u64, work_max: u32) -> Expiry {
        self.sweep(now_ms as i64, work_max, false)
    }
}

fn tops_bytes(channel: &Channel) -> usize {
    channel.tops.capacity() * size_of::<channel::Top>()
}
