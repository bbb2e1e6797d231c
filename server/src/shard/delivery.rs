//! Subscribing and delivering: what happens between a deliver lane and the outboxes.
//!
//! Lane order is position order. A subscription joins at its home shard, gets its history in pages
//! over the deliver lane, and is live from the page that reached the top: nothing can fall between,
//! because later events follow on the same lane. A live subscription holds its next offset, so a
//! repeat is skipped and a hole is found at once; the connection is then closed with a resumable
//! reason, never left with a silent gap.

use super::Shard;
use super::channels::{Entry, Phase};
use super::client::Joined;
use super::connection::{CursorState, EndpointId, Subscriber, SubscriptionKey};
use super::fanout::together;
use super::format::Format;
use super::frames::{Mark, Stretch};
use super::http::SubscribeRequest;
use super::notices;
use crate::mesh::{
    Ask, Continuity, Deliver, GapReason, Place, ShardId, Since, SubscriptionToken, home_of,
};
use bytes::Bytes;
use proto::channel::ChannelName;
use proto::event::Event;
use proto::position::Position;
use proto::reason::CloseReason;

/// Frames that one turn gathers before it flushes, over all endpoints. Many events for many
/// subscribers would otherwise be held as a product where their runs differ or their sockets are
/// full.
const GATHERED_MAX: usize = 256 << 10;

/// Bytes one turn encodes before it flushes: many resumes at once each want their own page.
const ENCODED_MAX: usize = 16 << 20;

impl Shard {
    /// Adds the subscriptions of a request to an endpoint and asks for what they need.
    pub(super) fn subscribe(&mut self, endpoint: EndpointId, request: SubscribeRequest) {
        let has_cursor = request.several && request.format.is_sse();
        let cursor = has_cursor.then(|| CursorState {
            channels_hash: request.channels_hash,
            since: request.since.as_slice().into(),
        });
        self.set_subscriber(endpoint, Subscriber::new(request.format, request.several, cursor));
        for (index, (name, since)) in request.channels.into_iter().zip(request.since).enumerate() {
            let format = request.format;
            let joined = self.join(endpoint, index as u16, &name, since, format);
            if let Some((channel, top, continuity)) = joined {
                self.say_start(endpoint, channel, top, continuity, format);
            }
        }
    }

    /// Adds one subscription to an endpoint and asks its home shard for what it needs. Where it
    /// stands if that is known here: at the channel's newest event, with nothing missing.
    pub(super) fn join(
        &mut self,
        endpoint: EndpointId,
        index: u16,
        name: &ChannelName,
        since: Since,
        format: Format,
    ) -> Option<(u32, Position, Continuity)> {
        let namespace = self.settings.namespace_of(name.as_str());
        let (channel, _) = self.local.enter(name, namespace);
        let top = self.local.peek(channel).and_then(|channel| channel.top);
        let attach = top.filter(|top| match since {
            Since::Now => true,
            Since::After(position) => position == *top,
            Since::Offset(offset) => offset == top.offset,
            Since::NewestAfter(position) => position == *top,
            Since::Unknown | Since::Newest => false,
        });
        let phase = if attach.is_some() { Phase::Live } else { Phase::Joining };
        let next = attach.map_or(0, |top| top.offset + 1);
        let at = self.local.add(channel, Entry::new(endpoint, index, format, phase, next));
        if let Some(subscriber) = self.subscriber_mut(endpoint) {
            subscriber.push(SubscriptionKey { channel, at });
        }
        let Some(top) = attach else {
            let token = self.token(endpoint, index)?;
            let bytes_max = self.page_bytes();
            self.ask(Ask::Join { channel: name.clone(), token, since, bytes_max });
            return None;
        };
        let continuity = if since == Since::Now { Continuity::Live } else { Continuity::Recovered };
        Some((channel, top, continuity))
    }

    /// Takes what is on the deliver lanes, up to what one turn may gather; the rest follows in the
    /// next turn, before anything else, and then the lane behind the one that filled the turn has
    /// its go: a home shard that always has more must not keep out the others. Events that follow
    /// each other on a lane are delivered together, whoever published them.
    pub(super) fn run_deliveries(&mut self) {
        if let Some((events, at)) = self.undelivered.take() {
            self.deliver_events(events, at);
        }
        if self.undelivered.is_none()
            && let Some(message) = self.postponed.take()
        {
            self.on_deliver(message);
        }
        let mut events: Vec<Event> = Vec::new();
        let (peers, start) = (self.mesh.shards(), self.deliver_peer);
        for at in 0..peers {
            if self.turn_is_full(0) {
                break;
            }
            let from = ShardId(((start + at) % peers) as u16);
            self.deliver_peer = (start + at + 1) % peers;
            let mut bytes = 0;
            while !self.turn_is_full(bytes) {
                match self.mesh.next_deliver(from) {
                    Some(Deliver::Events(more)) => {
                        bytes += more.iter().map(Event::size).sum::<usize>();
                        if events.is_empty() {
                            events = more;
                        } else {
                            events.extend(more);
                        }
                    }
                    other => {
                        // Lane order is position order, for what is not an event, too.
                        self.deliver_events(std::mem::take(&mut events), 0);
                        bytes = 0;
                        let Some(message) = other else { break };
                        if self.undelivered.is_some() {
                            self.postponed = Some(message);
                            break;
                        }
                        self.on_deliver(message);
                    }
                }
            }
            self.deliver_events(std::mem::take(&mut events), 0);
        }
    }

    /// True if nothing more may be taken off a lane in this turn, with so many bytes taken already.
    fn turn_is_full(&self, bytes: usize) -> bool {
        self.undelivered.is_some()
            || self.frames.bytes() + bytes >= ENCODED_MAX
            || self.frames.gathered() >= GATHERED_MAX
    }

    fn on_deliver(&mut self, message: Deliver) {
        match message {
            Deliver::Events(events) => self.deliver_events(events, 0),
            Deliver::Joined { channel, token, top, continuity, events, more } => {
                let Some(index) = self.local.find(channel.as_str()) else { return };
                self.on_joined(index, token, top, continuity, &events, more);
            }
            Deliver::Page { channel, token, found, top, events, more } => {
                let Some(index) = self.local.find(channel.as_str()) else { return };
                if found {
                    self.on_page(index, token, top, &events, more);
                } else if let Some(endpoint) = self.endpoint_of(token) {
                    // It read too slowly: what it needed next is no longer retained. On its next
                    // resume it gets the explicit gap.
                    self.end_endpoint(endpoint, CloseReason::Slow);
                }
            }
            Deliver::Read { ticket, top, continuity, events, more } => {
                self.on_read(ticket, top, continuity, &events, more);
            }
            Deliver::Tally { ticket, tally } => self.on_tally(ticket, *tally),
            Deliver::JoinRefused { channel: _, token } => {
                let Some((endpoint, key)) = self.key_of(token) else { return };
                let entry =
                    self.local.peek(key.channel).and_then(|c| c.entries.get(key.at as usize));
                if entry.is_some_and(|entry| entry.format.is_client()) {
                    self.client_join_refused(token);
                } else {
                    self.end_endpoint(endpoint, CloseReason::Overload);
                }
            }
            Deliver::Membership { channel, joined, member } => {
                self.on_membership(&channel, joined, &member);
            }
            Deliver::Presence { ticket, presence } => self.answered_presence(ticket, &presence),
            Deliver::Emulated { ticket, outcome } => self.on_emulated(ticket, outcome),
        }
    }

    fn deliver_events(&mut self, events: Vec<Event>, start: usize) {
        let mut at = start;
        while at < events.len() {
            let room = GATHERED_MAX.saturating_sub(self.frames.gathered());
            if room == 0 || self.frames.bytes() >= ENCODED_MAX {
                self.undelivered = Some((events, at));
                return;
            }
            let index = self.local.find(events[at].channel());
            let entries = index.and_then(|index| self.local.peek(index)).map(|c| c.entries.len());
            let end = at + together(&events[at..], room / entries.unwrap_or(0).max(1));
            if let Some(index) = index {
                self.deliver(index, &events[at..end]);
            }
            at = end;
        }
    }

    fn on_joined(
        &mut self,
        index: u32,
        token: SubscriptionToken,
        top: Position,
        continuity: Continuity,
        events: &[Event],
        more: bool,
    ) {
        // An answer to a subscription that has gone says nothing: the channel may have been left
        // and entered again since, and then its own join is still on the way.
        let Some((endpoint, format)) = self.entry_in(index, token, Phase::Joining) else { return };
        if let Some(local) = self.local.get(index) {
            local.top = Some(top);
        }
        if format.is_client() {
            return self.client_joined(token, &Joined { top, continuity, events, more });
        }
        self.count_resume(continuity);
        // What the client holds before the first event of the page: after a gap that is not what
        // it asked for, and an id makes the gap be said once, not on every reconnect.
        let before = match events.first() {
            Some(first) => {
                let first = first.position();
                Position { epoch: first.epoch, offset: first.offset - 1 }
            }
            None => top,
        };
        self.say_start(endpoint, index, before, continuity, format);
        self.push_page(index, token, top, events, more);
    }

    /// Counts events that a subscriber was sent from history.
    pub(super) fn count_resumed(&mut self, events: usize) {
        self.stats.counters.messages_sent += events as u64;
        self.stats.counters.resumed_events += events as u64;
    }

    pub(super) fn count_resume(&mut self, continuity: Continuity) {
        let counters = &mut self.stats.counters;
        match continuity {
            Continuity::Live => {}
            Continuity::Recovered => counters.resumes_recovered += 1,
            Continuity::Gap(GapReason::RolledBack) => counters.gaps_rolled_back += 1,
            Continuity::Gap(GapReason::Expired) => counters.gaps_expired += 1,
            Continuity::Gap(_) => counters.gaps_unknown += 1,
        }
    }

    fn on_page(
        &mut self,
        index: u32,
        token: SubscriptionToken,
        top: Position,
        events: &[Event],
        more: bool,
    ) {
        if self.entry_in(index, token, Phase::CatchingUp).is_some() {
            self.push_page(index, token, top, events, more);
        }
    }

    /// Gives a page of history to one subscription and moves it on.
    fn push_page(
        &mut self,
        index: u32,
        token: SubscriptionToken,
        top: Position,
        events: &[Event],
        more: bool,
    ) {
        let Some((endpoint, key)) = self.key_of(token) else { return };
        let last = events.last().map_or(top.offset, Event::offset);
        assert!(more || last == top.offset, "a last page that does not reach the top");
        let Some(format) = self.move_on(key, last, more, events.last()) else { return };
        if more {
            self.catching_up.push(token);
        }
        let passing = self.passing(endpoint, token.index, events);
        let events = passing.as_deref().unwrap_or(events);
        if !events.is_empty() {
            // What came before is not kept: the first one is whole.
            let format = format.unfiltered().based(false).uncompressed();
            let stretch = self.frames.encode(format, events, None, index);
            self.gather(endpoint, stretch);
        }
        self.count_resumed(events.len());
    }

    /// A subscription has got everything up to an offset; `newest` is the last event of that, if
    /// there was any. Gives its format.
    pub(super) fn move_on(
        &mut self,
        key: SubscriptionKey,
        last: u64,
        more: bool,
        newest: Option<&Event>,
    ) -> Option<Format> {
        let channel = self.local.get(key.channel)?;
        if let Some(event) = newest
            && !more
            && channel.newest.as_ref().is_none_or(|held| held.offset() < event.offset())
        {
            channel.keep(event);
        }
        let entry = channel.entries.get_mut(key.at as usize)?;
        entry.next = last + 1;
        entry.set_phase(if more { Phase::CatchingUp } else { Phase::Live });
        entry.format = entry.format.based(!more && newest.is_some());
        Some(entry.format)
    }

    /// The events that pass a subscription's filter; `None` if it has none.
    pub(super) fn passing(
        &mut self,
        endpoint: EndpointId,
        number: u16,
        events: &[Event],
    ) -> Option<Vec<Event>> {
        let session = match endpoint.split() {
            Err(slot) => self.connections.slot(slot)?.session.client()?,
            Ok(index) => self.streams.get(index)?.client.as_deref()?,
        };
        let passing = session.client.filter(number)?.passing(events);
        Some(passing.into_iter().map(|at| events[at as usize].clone()).collect())
    }

    /// Asks for the next page of every subscription whose outbox has drained.
    pub(super) fn run_catching_up(&mut self) {
        for at in (0..self.catching_up.len()).rev() {
            let token = self.catching_up[at];
            let Some((endpoint, key)) = self.key_of(token) else {
                self.catching_up.swap_remove(at);
                continue;
            };
            if self.queued_bytes(endpoint) > 0 {
                continue;
            }
            self.catching_up.swap_remove(at);
            let Some(channel) = self.local.peek(key.channel) else { continue };
            let (Some(entry), Some(epoch)) =
                (channel.entries.get(key.at as usize), channel.epoch())
            else {
                continue;
            };
            let (after, channel) = (entry.next - 1, channel.name.clone());
            let bytes_max = self.page_bytes();
            self.ask(Ask::Page { channel, token, epoch, after, bytes_max });
        }
    }

    /// Says how a subscription starts: a gap, a recovery, or just where it stands, so that a client
    /// cut off before its first event can still resume.
    fn say_start(
        &mut self,
        endpoint: EndpointId,
        channel: u32,
        before: Position,
        continuity: Continuity,
        format: Format,
    ) {
        let Some(name) = self.local.peek(channel).map(|channel| channel.name.clone()) else {
            return;
        };
        let several = self.subscriber_mut(endpoint).is_some_and(|subscriber| subscriber.has_cursor);
        let start = notices::start(&name, before, continuity, format, !several);
        // A stream of several channels that starts live says so with its cursor alone.
        if let Some(bytes) = start.or_else(|| several.then(Bytes::new)) {
            let mark = Mark::Start { channel, offset: before.offset };
            let frame = self.frames.add(bytes, mark);
            self.gather(endpoint, frame);
        }
    }

    /// Removes every subscription of an endpoint that ends.
    pub(super) fn unsubscribe(&mut self, endpoint: EndpointId) {
        self.write_notices(endpoint);
        self.callers.remove(&endpoint);
        let Some(mut subscriber) = self.take_subscriber(endpoint) else { return };
        while let Some(key) = subscriber.pop() {
            self.leave(endpoint, &mut subscriber, key);
        }
    }

    /// Takes a subscription, that its subscriber has given up, out of its channel.
    fn leave(&mut self, endpoint: EndpointId, subscriber: &mut Subscriber, key: SubscriptionKey) {
        self.exit(endpoint, key);
        let (moved, gone) = self.local.remove(key.channel, key.at);
        if let Some(moved) = moved {
            let owner = if moved.endpoint == endpoint {
                Some(subscriber)
            } else {
                self.subscriber_mut(moved.endpoint)
            };
            let moved_key = owner.and_then(|owner| owner.key_mut(moved.index));
            if let Some(moved_key) = moved_key {
                moved_key.at = key.at;
            }
        }
        if let Some(channel) = gone {
            self.ask(Ask::Leave { channel });
        }
    }

    /// Ends one subscription of an endpoint whose subscriptions come and go. `false`: it is gone.
    pub(super) fn unsubscribe_one(&mut self, endpoint: EndpointId, number: u16) -> bool {
        let Some(mut subscriber) = self.take_subscriber(endpoint) else { return false };
        let key = subscriber.remove(number);
        if let Some(key) = key {
            self.leave(endpoint, &mut subscriber, key);
        }
        self.set_subscriber(endpoint, subscriber);
        key.is_some()
    }

    /// Sends an ask to the channel's home shard, or keeps it until the lane has room. What is kept
    /// is bounded by the number of subscriptions, polling requests, questions for members, calls
    /// and emulation requests.
    pub(super) fn ask(&mut self, ask: Ask) {
        let home = |channel: &ChannelName| home_of(channel.as_str(), self.mesh.shards());
        let to = ask.channel().map_or(self.id, home);
        self.ask_shard(to, ask);
    }

    /// The same to a shard of the caller's choice.
    pub(super) fn ask_shard(&mut self, to: ShardId, ask: Ask) {
        if self.asks.is_empty() {
            if let Err(ask) = self.mesh.ask(to, ask) {
                self.asks.push_back((to, ask));
            }
        } else {
            self.asks.push_back((to, ask));
        }
    }

    /// Tries again what found no room.
    pub(super) fn run_asks(&mut self) {
        while let Some((to, ask)) = self.asks.pop_front() {
            if let Err(ask) = self.mesh.ask(to, ask) {
                self.asks.push_front((to, ask));
                return;
            }
        }
    }

    pub(super) fn page_bytes(&self) -> u32 {
        (self.settings.limits.outbox_bytes_max / 2).min(crate::mesh::PAGE_BYTES_MAX as u32)
    }

    fn token(&mut self, endpoint: EndpointId, index: u16) -> Option<SubscriptionToken> {
        let Place { conn, stream } = self.place_of(endpoint)?;
        Some(SubscriptionToken { conn, stream, index })
    }

    /// The endpoint and key a token names, unless they are gone.
    pub(super) fn key_of(
        &mut self,
        token: SubscriptionToken,
    ) -> Option<(EndpointId, SubscriptionKey)> {
        let endpoint = self.endpoint_of(token)?;
        let subscriber = self.subscriber_mut(endpoint)?;
        let key = *subscriber.key_mut(token.index)?;
        Some((endpoint, key))
    }

    fn entry_in(
        &mut self,
        index: u32,
        token: SubscriptionToken,
        phase: Phase,
    ) -> Option<(EndpointId, Format)> {
        let (endpoint, key) = self.key_of(token)?;
        if key.channel != index {
            return None;
        }
        let entry = self.local.peek(index)?.entries.get(key.at as usize)?;
        (entry.phase() == phase).then_some((endpoint, entry.format))
    }

    /// Appends a frame to an endpoint's run.
    pub(super) fn gather(&mut self, endpoint: EndpointId, frame: Stretch) {
        match endpoint.split() {
            Err(slot) => {
                if let Some(connection) = self.connections.slot(slot)
                    && self.frames.gather(&mut connection.outbox.run, frame)
                {
                    self.dirty.push(slot);
                }
            }
            Ok(index) => {
                if let Some(stream) = self.streams.get_mut(index)
                    && self.frames.gather(&mut stream.outbox.run, frame)
                {
                    self.dirty_streams.push(index);
                }
            }
        }
    }

    /// What names an endpoint beyond the turn.
    pub(super) fn place_of(&mut self, endpoint: EndpointId) -> Option<Place> {
        match endpoint.split() {
            Err(slot) => Some(Place::connection(self.connections.slot(slot)?.id)),
            Ok(index) => self.streams.get(index).map(|stream| stream.place(index)),
        }
    }

    /// The endpoint a token names.
    fn endpoint_of(&mut self, token: SubscriptionToken) -> Option<EndpointId> {
        self.connections.get(token.conn)?;
        if token.stream == 0 {
            return Some(EndpointId::connection(token.conn.slot));
        }
        self.streams.find(token.stream).map(EndpointId::stream)
    }
}
