//! The home side: what this shard does for the channels whose home it is.
//!
//! It takes publish batches and asks off the lanes, lets [`super::home`] order and answer, hands
//! stored events to the storage ring in one batch, sends one message per interested shard, and
//! answers the ingress shard when its mode says so. A batch is taken only while the storage ring
//! and every deliver lane have room for it, so nothing here ever waits with work half done.
//!
//! Waiting for the disk: `ack=durable` answers and `deliver = durable` events wait in two queues
//! ordered by store sequence and are released when the spool says that it synced so far. Both are
//! bounded: answers by the batch slots of all shards, events by [`AWAITING_BYTES_MAX`]. When
//! storing has failed for good nothing is synced any more: who waits for it is told so.

use super::Shard;
use super::home::{
    ChannelIndex, Home, Moment, Orderer, Outcome as Resume, PageLimit, Published, Refusal, Room,
    Since as From,
};
use crate::config::namespace::{Deliver as DeliverMode, Namespace};
use crate::mesh::{
    AckMode, Answer, Ask, BATCH_BYTES_MAX, BATCH_EVENTS_MAX, Continuity, Deliver, GapReason,
    HomeRefusal, Outcome, PAGE_BYTES_MAX, PublishBatch, Select, ShardId, Since, SubscriptionToken,
};
use crate::metrics::DropReason;
use proto::channel::ChannelName;
use proto::event::{Event, Unplaced};
use proto::position::{Epoch, Position};
use std::collections::{BTreeMap, VecDeque};
use storage::{StorageState, StoreBatch};

/// Events that wait for their sync before they are delivered, in bytes; beyond it no publish is
/// taken until the disk has caught up.
const AWAITING_BYTES_MAX: usize = 16 << 20;

/// Events after which no further publish batch of a peer is taken in a turn, so that a turn stays
/// short: sixteen full batches, or every small one that a lane holds.
const EVENTS_PER_TURN: usize = 16 * BATCH_EVENTS_MAX;

/// Bytes of events after which what was gathered for the spool is handed over.
const GATHERED_BYTES_MAX: usize = BATCH_BYTES_MAX;

/// Work units of one call of `expire`, ten times a second: a million channels are looked at in less
/// than a minute.
const EXPIRE_WORK: u32 = 2_048;

/// What waits for the disk.
pub struct HomeSide {
    /// The number of the next store batch; sequences start at 1.
    next_seq: u64,
    /// By the sequence they wait for: a duplicate may wait for an earlier one than its neighbours.
    answers: BTreeMap<u64, Vec<WaitingAnswer>>,
    deliveries: VecDeque<(u64, Waiting)>,
    awaiting_bytes: usize,
    /// Events of this turn for the spool, under `next_seq`.
    gathered: Vec<Event>,
    gathered_bytes: usize,
    /// Scratch of a batch.
    placing: Vec<Placing>,
    /// Where the round over the peers starts next turn.
    turn_peer: usize,
    expire_at_ms: u64,
    /// Somebody waits for what this turn brought to be synced.
    hurry: bool,
    /// What is stored has found no room since then: the disk is slow, or hangs.
    stuck_since_ms: Option<u64>,
}

/// The answer to a batch, given once what it says is synced.
struct WaitingAnswer {
    to: ShardId,
    answer: Answer,
    /// Items of namespaces that store nothing: they wait only for their neighbours.
    unstored: Vec<usize>,
}

/// Events of one store batch that are delivered once synced.
struct Waiting {
    events: Vec<(Event, ChannelIndex)>,
    bytes: usize,
}

/// A channel of the batch that is being placed.
struct Placing {
    /// Index of its namespace.
    namespace: u16,
    /// Where it stands, once its first event has opened it.
    index: Option<ChannelIndex>,
    room: Room,
}

/// Orders one event of a batch; its channel is opened once for all of them.
fn place(
    home: &mut Home,
    at: Moment,
    name: &str,
    namespace: &Namespace,
    placing: &mut Placing,
    mut event: Unplaced,
    seq: u64,
) -> Result<Published, Refusal> {
    loop {
        let index = match placing.index {
            Some(index) => index,
            None => *placing.index.insert(home.open(at.now_ms, name, namespace)?),
        };
        match home.publish_in(at, index, event, &mut placing.room, seq) {
            Ok(published) => return Ok(published),
            // Another channel of the batch has pushed it out.
            Err(back) => (event, placing.index) = (back, None),
        }
    }
}

impl HomeSide {
    /// Nothing waits.
    pub fn new() -> Self {
        Self {
            next_seq: 1,
            answers: BTreeMap::new(),
            deliveries: VecDeque::new(),
            awaiting_bytes: 0,
            gathered: Vec::new(),
            gathered_bytes: 0,
            placing: Vec::new(),
            turn_peer: 0,
            expire_at_ms: 0,
            hurry: false,
            stuck_since_ms: None,
        }
    }

    /// True if the spool has synced something that is waited for, or never will.
    pub fn has_releases(&self, synced: u64, state: StorageState) -> bool {
        let due = |seq: &u64| *seq <= synced || state == StorageState::Failed;
        self.answers.first_key_value().is_some_and(|(seq, _)| due(seq))
            || self.deliveries.front().is_some_and(|(seq, _)| due(seq))
    }

    /// Bytes held, for the ledger.
    pub fn memory_bytes(&self) -> usize {
        self.awaiting_bytes + self.answers.len() * size_of::<(u64, WaitingAnswer)>()
    }
}

/// One turn's deliveries, gathered per interested shard.
#[derive(Default)]
struct FanOut {
    per_shard: Vec<Vec<Event>>,
}

impl FanOut {
    fn add(&mut self, event: &Event, mut interest: u64) {
        while interest != 0 {
            let shard = interest.trailing_zeros() as usize;
            interest &= interest - 1;
            if self.per_shard.len() <= shard {
                self.per_shard.resize_with(shard + 1, Vec::new);
            }
            self.per_shard[shard].push(event.clone());
        }
    }
}

impl Shard {
    /// True if something waits on a lane and could be taken now.
    pub(super) fn lanes_have_work(&self) -> bool {
        let storage = self.storage_state();
        self.mesh.has_other_input() || (self.mesh.has_input() && self.home_has_room(storage))
    }

    /// True if a batch may be taken. What storage refuses needs no room there.
    fn home_has_room(&self, storage: StorageState) -> bool {
        let stored = self.storage_has_room();
        self.mesh.deliver_room_min() > 0 && (stored || storage != StorageState::Accepting)
    }

    /// Counts what keeps a shard's batches waiting, if there are any.
    fn count_full(&mut self, from: ShardId) {
        if !self.mesh.has_publish(from) {
            return;
        }
        let counters = &mut self.stats.counters;
        match self.mesh.deliver_room_min() {
            0 => counters.deliver_lane_full += 1,
            _ => counters.storage_ring_full += 1,
        }
    }

    fn storage_has_room(&self) -> bool {
        self.ring.room(self.id.0) && self.homeside.awaiting_bytes < AWAITING_BYTES_MAX
    }

    /// Whether events can be stored. A disk that hangs counts as full once it has kept publishers
    /// waiting as long as they may: they hear it, and what is not stored goes on.
    fn storage_state(&self) -> StorageState {
        let wait_ms = u64::from(self.settings.limits.publish_wait_s) * 1_000;
        match self.ring.state() {
            StorageState::Accepting
                if self.homeside.stuck_since_ms.is_some_and(|at| self.now.ms >= at + wait_ms) =>
            {
                StorageState::DiskFull
            }
            state => state,
        }
    }

    /// Asks and publishes of all shards, a bounded number of each.
    pub(super) fn run_home(&mut self) {
        let (room, now_ms) = (self.storage_has_room(), self.now.ms);
        let stuck = &mut self.homeside.stuck_since_ms;
        *stuck = if room { None } else { stuck.or(Some(now_ms)) };
        let peers = self.mesh.shards();
        let start = self.homeside.turn_peer % peers;
        self.homeside.turn_peer = start + 1;
        for at in 0..peers {
            let from = ShardId(((start + at) % peers) as u16);
            // Asks first. Each sends at most one message to a shard, be it the asker or all that
            // are interested.
            for _ in 0..self.mesh.deliver_room_min() {
                let Some(ask) = self.mesh.next_ask(from) else { break };
                self.on_ask(from, ask);
            }
            let mut events = 0;
            while events < EVENTS_PER_TURN {
                // Read once for each batch: it may change at any time.
                let storage = self.storage_state();
                if !self.home_has_room(storage) {
                    self.count_full(from);
                    break;
                }
                let Some(batch) = self.mesh.next_publish(from) else { break };
                events += batch.items.len();
                self.on_batch(from, batch, storage);
                if self.homeside.gathered_bytes >= GATHERED_BYTES_MAX {
                    self.hand_to_storage();
                }
            }
        }
        self.hand_to_storage();
        if std::mem::take(&mut self.homeside.hurry) {
            self.ring.hurry();
        }
        if self.now.ms >= self.homeside.expire_at_ms {
            self.homeside.expire_at_ms = self.now.ms + 100;
            self.home.expire(self.now.ms, EXPIRE_WORK);
        }
    }

    fn on_batch(&mut self, from: ShardId, batch: PublishBatch, storage: StorageState) {
        let PublishBatch { slot, ack, items, channels } = batch;
        let at = Moment { now_ms: self.now.ms, wall_us: self.now.wall_us };
        let seq = self.homeside.next_seq;
        let storable = storage == StorageState::Accepting;
        let mut placing = std::mem::take(&mut self.homeside.placing);
        placing.extend(channels.all().iter().map(|channel| Placing {
            namespace: self.settings.namespace_of(channel.name.as_str()),
            index: None,
            room: Room::of(channel.items, channel.bytes),
        }));
        let mut outcomes = Vec::with_capacity(items.len());
        let mut fan_out = FanOut::default();
        let mut waiting = Waiting { events: Vec::new(), bytes: 0 };
        let mut wait_for = 0;
        let mut any_stored = false;
        let mut unstored = Vec::new();
        for (unplaced, channel) in items.into_iter().zip(channels.of()) {
            let channel = usize::from(*channel);
            let namespace = self.settings.namespace_at(placing[channel].namespace);
            if namespace.store && !storable {
                self.stats.dropped(DropReason::StorageFull, 1);
                outcomes.push(Outcome::Refused(HomeRefusal::StorageFull));
                continue;
            }
            let name = channels.all()[channel].name.as_str();
            let published =
                place(&mut self.home, at, name, namespace, &mut placing[channel], unplaced, seq);
            let (placed, store_seq) = match published {
                Ok(Published::Placed(placed)) => (placed, seq),
                Ok(Published::Duplicate(duplicate)) => {
                    self.stats.counters.publishes_duplicate += 1;
                    wait_for = wait_for.max(duplicate.store_seq);
                    any_stored |= namespace.store;
                    if !namespace.store {
                        unstored.push(outcomes.len());
                    }
                    outcomes.push(Outcome::Duplicate(duplicate.position));
                    continue;
                }
                Err(refusal) => {
                    debug_assert!(!matches!(refusal, Refusal::Name(_)), "names were checked");
                    outcomes.push(Outcome::Refused(HomeRefusal::ChannelsFull));
                    continue;
                }
            };
            self.stats.counters.publishes_accepted += 1;
            if !namespace.store {
                unstored.push(outcomes.len());
            }
            outcomes.push(Outcome::Placed(placed.event.position()));
            let durable = namespace.deliver == DeliverMode::Durable && namespace.store;
            if durable {
                waiting.bytes += placed.event.size();
                waiting.events.push((placed.event.clone(), placed.channel));
            } else {
                fan_out.add(&placed.event, placed.interest);
            }
            if namespace.store {
                any_stored = true;
                wait_for = wait_for.max(store_seq);
                self.homeside.gathered_bytes += placed.event.size();
                self.homeside.gathered.push(placed.event);
            }
        }
        placing.clear();
        self.homeside.placing = placing;
        self.send_fan_out(fan_out);
        let durable_delivery = !waiting.events.is_empty();
        if durable_delivery {
            self.homeside.awaiting_bytes += waiting.bytes;
            self.homeside.deliveries.push_back((seq, waiting));
        }
        self.homeside.hurry |= any_stored && (ack != AckMode::Accepted || durable_delivery);
        let store_seq = (ack == AckMode::Stored && any_stored).then_some(wait_for);
        let answer = Answer { slot, outcomes, channels, store_seq };
        if ack == AckMode::Durable && wait_for > self.ring.synced_seq(self.id.0) {
            let waiting = WaitingAnswer { to: from, answer, unstored };
            self.homeside.answers.entry(wait_for).or_default().push(waiting);
        } else {
            self.mesh.answer(from, answer);
        }
    }

    /// Hands over what the batches of this turn gathered, as one store batch: with one event in a
    /// request that is one look at the lane, one wake-up and one acknowledgement for all of them.
    /// It has room: that was looked at before the newest batch was taken, and nothing was handed
    /// over since.
    fn hand_to_storage(&mut self) {
        if self.homeside.gathered.is_empty() {
            return;
        }
        let seq = self.homeside.next_seq;
        self.homeside.next_seq += 1;
        self.homeside.gathered_bytes = 0;
        let events = std::mem::take(&mut self.homeside.gathered);
        self.homeside.gathered.reserve(events.len());
        let pushed = self.ring.push(self.id.0, StoreBatch { seq, events });
        assert!(pushed.is_ok(), "storage ring overran: room was not checked");
    }

    fn send_fan_out(&mut self, fan_out: FanOut) {
        for (shard, events) in fan_out.per_shard.into_iter().enumerate() {
            if !events.is_empty() {
                self.mesh.deliver(ShardId(shard as u16), Deliver::Events(events));
            }
        }
    }

    /// Releases what waited for the disk.
    pub(super) fn run_acks(&mut self) {
        // In this order: what was synced before storing failed is not refused.
        let failed = self.ring.state() == StorageState::Failed;
        let synced = self.ring.synced_seq(self.id.0);
        while self.homeside.deliveries.front().is_some_and(|(seq, _)| *seq <= synced) {
            if self.mesh.deliver_room_min() == 0 {
                break;
            }
            let Some((_, waiting)) = self.homeside.deliveries.pop_front() else { break };
            self.homeside.awaiting_bytes -= waiting.bytes;
            let mut fan_out = FanOut::default();
            for (event, channel) in &waiting.events {
                self.home.mark_synced(*channel, event.offset());
                fan_out.add(event, self.home.interest(*channel));
            }
            self.send_fan_out(fan_out);
        }
        while let Some(entry) = self.homeside.answers.first_entry() {
            if *entry.key() > synced {
                break;
            }
            for waiting in entry.remove() {
                self.mesh.answer(waiting.to, waiting.answer);
            }
        }
        if failed {
            self.fail_waiting(synced);
        }
    }

    /// Nothing is synced any more: what waited for it is not delivered, and its publishers hear it.
    fn fail_waiting(&mut self, synced: u64) {
        let first = self.homeside.deliveries.partition_point(|(seq, _)| *seq <= synced);
        for (_, waiting) in self.homeside.deliveries.drain(first..) {
            self.stats.dropped(DropReason::StorageFull, waiting.events.len() as u64);
            self.homeside.awaiting_bytes -= waiting.bytes;
        }
        for (_, answers) in std::mem::take(&mut self.homeside.answers) {
            for WaitingAnswer { to, mut answer, unstored } in answers {
                for (index, outcome) in answer.outcomes.iter_mut().enumerate() {
                    let placed = matches!(outcome, Outcome::Placed(_) | Outcome::Duplicate(_));
                    if placed && !unstored.contains(&index) {
                        *outcome = Outcome::Refused(HomeRefusal::NotSynced);
                    }
                }
                self.mesh.answer(to, answer);
            }
        }
    }

    fn on_ask(&mut self, from: ShardId, ask: Ask) {
        match ask {
            Ask::Join { channel, token, since, bytes_max } => {
                self.on_join(from, channel, token, since, bytes_max);
            }
            Ask::Page { channel, token, epoch, after, bytes_max } => {
                let message = self.page(channel, token, epoch, after, bytes_max);
                self.mesh.deliver(from, message);
            }
            Ask::Leave { channel } => {
                if let Some(index) = self.home.find(channel.as_str()) {
                    self.home.unsubscribe(self.now.ms, index, from.0 as u8);
                }
            }
            Ask::Read { channel, ticket, since, select, limit } => {
                let message = self.read(&channel, ticket, since, select, limit);
                self.mesh.deliver(from, message);
            }
            Ask::Enter { channel, at, member } => self.on_enter(from, &channel, at, member),
            Ask::Exit { channel, at } => self.on_exit(from, &channel, at),
            Ask::Presence { channel, ticket, counts } => {
                let presence = self.presence(&channel, counts);
                self.mesh.deliver(from, Deliver::Presence { ticket, presence });
            }
            Ask::Forget { channel, ticket } => {
                let index = self.home.find(channel.as_str());
                if let Some(index) = index {
                    self.home.forget_history(index);
                }
                let top = index.and_then(|index| self.home.top(index));
                let (continuity, events) = (Continuity::Live, Vec::new());
                self.mesh
                    .deliver(from, Deliver::Read { ticket, top, continuity, events, more: false });
            }
            Ask::Survey { ticket, survey } => self.on_survey(from, ticket, survey),
            Ask::Emulate { ticket, name, commands } => {
                self.on_emulate(from, ticket, &name, &commands);
            }
        }
    }

    fn on_join(
        &mut self,
        from: ShardId,
        channel: ChannelName,
        token: SubscriptionToken,
        since: Since,
        bytes_max: u32,
    ) {
        let namespace = self.settings.namespace(channel.as_str());
        let name = channel.as_str();
        let message = match self.home.subscribe(self.now.ms, name, from.0 as u8, namespace) {
            Err(_) => Deliver::JoinRefused { channel, token },
            Ok(index) => {
                let limit = page_limit(bytes_max);
                let resumed = self.home.resume(index, self.start(index, since), limit);
                let mut resumed = resumed.expect("the channel was found or created just now");
                // A later run may have another epoch for the position that the client holds.
                let is_held = matches!(since, Since::NewestAfter(_))
                    && resumed.outcome == Resume::Recovered
                    && resumed.events.is_empty();
                let newest = matches!(since, Since::Newest | Since::NewestAfter(_)) && !is_held;
                if newest {
                    let one = PageLimit { events_max: 1, ..limit };
                    resumed.events = self.home.newest(index, u64::MAX, one);
                    resumed.next = None;
                }
                let continuity = match (since, resumed.outcome) {
                    _ if newest => Continuity::Live,
                    (Since::Now, _) => Continuity::Live,
                    (Since::Unknown, _) => Continuity::Gap(GapReason::Malformed),
                    (_, Resume::Gap(reason)) => Continuity::Gap(reason),
                    (_, Resume::Recovered | Resume::Live) => Continuity::Recovered,
                };
                Deliver::Joined {
                    channel,
                    token,
                    top: resumed.top,
                    continuity,
                    events: resumed.events,
                    more: resumed.next.is_some(),
                }
            }
        };
        self.mesh.deliver(from, message);
    }

    fn start(&self, index: ChannelIndex, since: Since) -> From {
        match since {
            Since::Now | Since::Newest => From::Now,
            Since::After(position) | Since::NewestAfter(position) => From::After(position),
            Since::Offset(offset) => match self.home.top(index) {
                Some(Position { epoch, .. }) => From::After(Position { epoch, offset }),
                None => From::Beginning,
            },
            Since::Unknown => From::Beginning,
        }
    }

    fn page(
        &self,
        channel: ChannelName,
        token: SubscriptionToken,
        epoch: Epoch,
        after: u64,
        bytes_max: u32,
    ) -> Deliver {
        let index = self.home.find(channel.as_str());
        let top = index.and_then(|index| self.home.top(index));
        let page =
            index.and_then(|index| self.home.history_after(index, after, page_limit(bytes_max)));
        match (top, page) {
            // The lineage cannot change while we run, and the top may still be of an older one.
            (Some(top), Some(page))
                if page.contiguous && top.epoch.incarnation() == epoch.incarnation() =>
            {
                let more = page.next.is_some();
                Deliver::Page { channel, token, found: true, top, events: page.events, more }
            }
            _ => {
                let top = Position { epoch, offset: after };
                Deliver::Page { channel, token, found: false, top, events: Vec::new(), more: false }
            }
        }
    }

    fn read(
        &self,
        channel: &ChannelName,
        ticket: u64,
        since: Since,
        select: Select,
        limit: u32,
    ) -> Deliver {
        let none = (None, Continuity::Live, Vec::new(), false);
        let answer = self.home.find(channel.as_str()).map_or(none, |index| {
            let top = self.home.top(index);
            let limit = PageLimit { events_max: limit as usize, bytes_max: PAGE_BYTES_MAX };
            if select == Select::Newest {
                let of = |epoch: Epoch| {
                    top.map(|top| top.epoch.incarnation()) == Some(epoch.incarnation())
                };
                let below = match since {
                    Since::After(Position { epoch, .. }) if !of(epoch) => {
                        return (top, Continuity::Gap(GapReason::Unknown), Vec::new(), false);
                    }
                    Since::After(Position { offset, .. }) | Since::Offset(offset) => offset,
                    Since::Now | Since::Newest | Since::NewestAfter(_) | Since::Unknown => u64::MAX,
                };
                return (top, Continuity::Live, self.home.newest(index, below, limit), false);
            }
            let from = match since {
                Since::Now => From::Beginning,
                since => self.start(index, since),
            };
            let Some(resumed) = self.home.resume(index, from, limit) else {
                return (top, Continuity::Live, Vec::new(), false);
            };
            let continuity = match (since, resumed.outcome) {
                (Since::Unknown, _) => Continuity::Gap(GapReason::Malformed),
                (_, Resume::Gap(reason)) => Continuity::Gap(reason),
                (_, Resume::Recovered) => Continuity::Recovered,
                (_, Resume::Live) => Continuity::Live,
            };
            (top, continuity, resumed.events, resumed.next.is_some())
        });
        let (top, continuity, events, more) = answer;
        Deliver::Read { ticket, top, continuity, events, more }
    }
}

fn page_limit(bytes_max: u32) -> PageLimit {
    PageLimit { events_max: usize::MAX, bytes_max: bytes_max as usize }
}
