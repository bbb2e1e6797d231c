//! Recovery from the spool: what a client missed that its channel's memory does not hold any more.
//!
//! A join that comes back as `expired` is not answered yet. The subscription stays joining, which
//! keeps live events from it, while the readers of the spool give the events between the client's
//! position and what the home shard still has. Then the join is asked again, from the last event
//! read: if memory goes on from there, everything has been found, in order, and the answer carries
//! it whole; if memory has moved on meanwhile, the next part is read. Lane order does the rest:
//! what comes behind the answer to the last join is live and nothing is in both.
//!
//! Invariants: `recovered` is said only when every offset in between was read; an answer never
//! carries a part. Offsets have no holes, so how much is missing is known before anything is read.
//!
//! Bounded: events and bytes of one recovery by `recovery_events_max` and `recovery_bytes_max`
//! (beyond them the client is told that it is not recovered), recoveries under way by
//! [`RUNNING_MAX`], those that wait by [`WAITING_MAX`] (beyond it: too many requests, try again),
//! and both by [`TIME_MS`], since SDKs wait five seconds for an answer.
//!
//! Deliberately absent: the same for the plain protocol, which says `expired` and has history for
//! it. Threads: the shard's. Tested by `tests/tests/it/recovery.rs` and in the simulated world.

use super::subscriptions::Joined;
use crate::auth::{Action, allows};
use crate::config::budget::RECOVERIES_MAX as RUNNING_MAX;
use crate::config::limits::Limits;
use crate::config::namespace::RecoveryMode;
use crate::mesh::{Ask, Continuity, GapReason, Since, SubscriptionToken};
use crate::shard::Shard;
use crate::shard::connection::EndpointId;
use crate::shard::store::QueryStore;
use proto::channel::ChannelName;
use proto::event::Event;
use proto::position::Position;
use std::collections::VecDeque;
use storage::{Answer, Bound, Busy, HistoryBlock, HistoryRead, Query, ReadError};

/// Recoveries that may wait for one of those under way to end.
const WAITING_MAX: usize = 4_096;
/// How long one may take, waiting included.
const TIME_MS: u64 = 3_000;
/// Before the home shard is asked again when the spool had nothing new: events reach it with the
/// next sync.
const PAUSE_MS: u64 = 10;

/// See the module.
#[derive(Debug, Default)]
pub struct Recoveries {
    running: Vec<Recovery>,
    waiting: VecDeque<Recovery>,
}

/// What one client misses in one channel.
#[derive(Debug)]
struct Recovery {
    token: SubscriptionToken,
    channel: ChannelName,
    /// What the client has, with what was read.
    at: Position,
    /// What was read.
    events: Vec<Event>,
    bytes: usize,
    until_ms: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    /// To be read next.
    Ready(HistoryRead),
    /// With a reader, under this ticket.
    Reading(u64),
    /// The home shard is asked again then.
    Pausing(u64),
    /// The home shard was asked again.
    Joining,
    /// The home shard was asked where the channel stands: not everything is to be had.
    Lost,
}

impl Recoveries {
    /// True if an answer is for one of them.
    pub fn knows(&self, ticket: u64) -> bool {
        self.running.iter().any(|it| matches!(it.state, State::Reading(own) if own == ticket))
    }

    /// When to look at them next.
    pub fn deadline_ms(&self) -> Option<u64> {
        let pause = |it: &Recovery| match it.state {
            State::Pausing(at_ms) => at_ms,
            _ => it.until_ms,
        };
        let waiting = self.waiting.front().map(|it| it.until_ms);
        self.running.iter().map(pause).chain(waiting).min()
    }

    /// Bytes held, for the ledger.
    pub fn memory_bytes(&self) -> usize {
        let held: usize = self.running.iter().map(|it| it.bytes).sum();
        held + (self.running.capacity() + self.waiting.capacity()) * size_of::<Recovery>()
    }

    fn take(&mut self, token: SubscriptionToken) -> Option<Recovery> {
        let asked = |it: &Recovery| it.token == token && it.has_asked();
        let at = self.running.iter().position(asked)?;
        Some(self.running.swap_remove(at))
    }
}

impl Recovery {
    fn has_asked(&self) -> bool {
        matches!(self.state, State::Joining | State::Lost)
    }

    /// The read of what is missing up to the first event that memory has; `None` if that is more
    /// than an answer may carry.
    fn read(&self, first: u64, limits: &Limits) -> Option<HistoryRead> {
        let missing = first.checked_sub(self.at.offset + 1)?;
        let all = self.events.len() as u64 + missing;
        if all > u64::from(limits.recovery_events_max) || self.is_too_large(limits) {
            return None;
        }
        let incarnation = Some(self.at.epoch.incarnation());
        let from = Bound::Offset(self.at.offset + 1);
        let limit = u32::try_from(missing).unwrap_or(u32::MAX);
        Some(HistoryRead::new(self.channel.clone(), incarnation, from, Bound::Open, limit))
    }

    /// One event of any legal size is carried in any case.
    fn is_too_large(&self, limits: &Limits) -> bool {
        // Half of what may wait for a subscriber: live events come behind the answer.
        let bytes_max = limits.recovery_bytes_max.min(limits.outbox_bytes_max / 2) as usize;
        self.bytes > bytes_max && self.events.len() > 1
    }

    /// Takes what was read; `false` if something is missing in it.
    fn gather(&mut self, events: Vec<Event>) -> bool {
        for event in events {
            if event.offset() != self.at.offset + 1 {
                return false;
            }
            self.at = event.position();
            self.bytes += event.size();
            self.events.push(event);
        }
        true
    }
}

impl Shard {
    /// What a client's join found, with what was read before in `missed`. `None`: the answer waits
    /// for the spool.
    pub(super) fn recovered<'a>(
        &mut self,
        token: SubscriptionToken,
        joined: &Joined<'a>,
        missed: &'a mut Vec<Event>,
    ) -> Option<Joined<'a>> {
        let expired = joined.continuity == Continuity::Gap(GapReason::Expired);
        let Some(mut recovery) = self.recoveries.take(token) else {
            let recovery = if expired { self.recovery(token, joined) } else { None };
            let Some(recovery) = recovery else { return Some(*joined) };
            self.start_recovery(recovery);
            return None;
        };
        if matches!(recovery.state, State::Lost) {
            self.stats.counters.recoveries_lost += 1;
            let continuity = Continuity::Gap(GapReason::Expired);
            return Some(Joined { continuity, events: &[], more: false, ..*joined });
        }
        if expired {
            self.read_on(&mut recovery, joined);
            self.recoveries.running.push(recovery);
            return None;
        }
        if joined.continuity == Continuity::Recovered && !self.connect_has_room(&recovery) {
            self.stats.counters.recoveries_lost += 1;
            let continuity = Continuity::Gap(GapReason::Expired);
            return Some(Joined { continuity, events: &[], more: false, ..*joined });
        }
        if joined.continuity == Continuity::Recovered {
            self.stats.counters.recoveries_found += 1;
            *missed = recovery.events;
            missed.extend(joined.events.iter().cloned());
            return Some(Joined { events: missed, ..*joined });
        }
        // The channel began anew meanwhile.
        self.stats.counters.recoveries_lost += 1;
        Some(*joined)
    }

    /// What a subscription misses; `None` if nothing was asked for or the spool cannot have it.
    fn recovery(&mut self, token: SubscriptionToken, joined: &Joined<'_>) -> Option<Recovery> {
        let (_, key) = self.key_of(token)?;
        let channel = self.local.peek(key.channel)?.name.clone();
        let namespace = self.settings.namespace(channel.as_str());
        let wants_all = namespace.store && namespace.recovery_mode == RecoveryMode::Stream;
        self.store.as_ref().filter(|_| wants_all)?;
        // What is further back than memory is the channel's history.
        let caller = self.caller_of(EndpointId::of(token.place()));
        allows(&caller, namespace, channel.as_str(), Action::History).ok()?;
        let client = self.client_mut(token.place())?;
        let offset = client.sub_mut(token.index)?.recover?;
        let mut recovery = Recovery {
            token,
            channel,
            // The home shard knows the position: it is of this incarnation, and no later run took
            // anything of it back.
            at: Position { offset, ..joined.top },
            events: Vec::new(),
            bytes: 0,
            until_ms: self.now.ms + TIME_MS,
            state: State::Lost,
        };
        let first = first_held(joined);
        let Some(read) = recovery.read(first, &self.settings.limits) else {
            self.stats.counters.recoveries_lost += 1;
            return None;
        };
        recovery.state = State::Ready(read);
        Some(recovery)
    }

    /// Whether what was read fits into its answer. That to a `connect` carries several channels;
    /// what goes beyond it follows from memory, which does not hold this.
    fn connect_has_room(&mut self, recovery: &Recovery) -> bool {
        let room = self.page_bytes() as usize;
        let client = self.client_mut(recovery.token.place());
        let connecting = client.and_then(|client| client.connecting.as_ref());
        connecting.is_none_or(|connecting| connecting.bytes() + recovery.bytes <= room)
    }

    fn start_recovery(&mut self, recovery: Recovery) {
        if self.recoveries.running.len() < RUNNING_MAX as usize {
            self.recoveries.running.push(recovery);
        } else if self.recoveries.waiting.len() < WAITING_MAX {
            self.recoveries.waiting.push_back(recovery);
        } else {
            self.refuse_recovery(recovery.token);
        }
    }

    /// It may try again.
    fn refuse_recovery(&mut self, token: SubscriptionToken) {
        self.stats.counters.recoveries_refused += 1;
        self.client_join_refused(token);
    }

    /// Memory does not go on from what was read: reads what is missing between the two.
    fn read_on(&mut self, recovery: &mut Recovery, joined: &Joined<'_>) {
        match recovery.read(first_held(joined), &self.settings.limits) {
            Some(read) => recovery.state = State::Ready(read),
            None => self.lose(recovery),
        }
    }

    /// The client begins with what comes now.
    fn lose(&mut self, recovery: &mut Recovery) {
        (recovery.events, recovery.bytes) = (Vec::new(), 0);
        recovery.state = State::Lost;
        self.join_again(recovery, Since::Now);
    }

    fn join_again(&mut self, recovery: &Recovery, since: Since) {
        let (channel, token) = (recovery.channel.clone(), recovery.token);
        let bytes_max = self.page_bytes();
        self.ask(Ask::Join { channel, token, since, bytes_max });
    }

    /// A reader's answer.
    pub(in crate::shard) fn on_missed(
        &mut self,
        ticket: u64,
        answer: Result<HistoryBlock, ReadError>,
    ) {
        let own = |it: &Recovery| matches!(it.state, State::Reading(own) if own == ticket);
        let Some(at) = self.recoveries.running.iter().position(own) else { return };
        let mut recovery = self.recoveries.running.swap_remove(at);
        if self.key_of(recovery.token).is_none() {
            return;
        }
        let before = recovery.at;
        let block = match answer {
            Ok(block) => block,
            Err(ReadError::Expired) => {
                self.lose(&mut recovery);
                return self.recoveries.running.push(recovery);
            }
            // It is not known to be lost.
            Err(_) => return self.refuse_recovery(recovery.token),
        };
        let whole = recovery.gather(block.events);
        if !whole || recovery.is_too_large(&self.settings.limits) {
            self.lose(&mut recovery);
        } else if let Some(rest) = block.next {
            recovery.state = State::Ready(rest);
        } else if recovery.at == before {
            recovery.state = State::Pausing(self.now.ms + PAUSE_MS);
        } else {
            recovery.state = State::Joining;
            self.join_again(&recovery, Since::After(recovery.at));
        }
        self.recoveries.running.push(recovery);
    }

    /// Gives the readers what is to be read, and ends what takes too long.
    pub(in crate::shard) fn run_recoveries(&mut self, store: &dyn QueryStore) {
        if self.recoveries.running.is_empty() && self.recoveries.waiting.is_empty() {
            return;
        }
        for mut recovery in std::mem::take(&mut self.recoveries.running) {
            // A reader has it until it answers; all others whose client has gone end here.
            let reading = matches!(recovery.state, State::Reading(_));
            if !reading && self.key_of(recovery.token).is_none() {
                continue;
            }
            if self.now.ms >= recovery.until_ms && !reading && !recovery.has_asked() {
                self.lose(&mut recovery);
            }
            self.run_recovery(store, &mut recovery);
            self.recoveries.running.push(recovery);
        }
        while self.recoveries.running.len() < RUNNING_MAX as usize
            || self.recoveries.waiting.front().is_some_and(|it| self.now.ms >= it.until_ms)
        {
            let Some(mut recovery) = self.recoveries.waiting.pop_front() else { break };
            if self.key_of(recovery.token).is_none() {
                continue;
            }
            if self.now.ms >= recovery.until_ms {
                self.refuse_recovery(recovery.token);
                continue;
            }
            self.run_recovery(store, &mut recovery);
            self.recoveries.running.push(recovery);
        }
    }

    fn run_recovery(&mut self, store: &dyn QueryStore, recovery: &mut Recovery) {
        match &recovery.state {
            State::Ready(read) => {
                let ticket = self.reads.next_ticket();
                match store.submit(self.id.0, ticket, Query::Missed(read.clone())) {
                    Ok(()) => recovery.state = State::Reading(ticket),
                    Err(Busy(_)) => self.reads.refused = true,
                }
            }
            State::Pausing(at_ms) if self.now.ms >= *at_ms => {
                recovery.state = State::Joining;
                self.join_again(recovery, Since::After(recovery.at));
            }
            State::Reading(_) | State::Pausing(_) | State::Joining | State::Lost => {}
        }
    }
}

/// The first offset that memory goes on with.
fn first_held(joined: &Joined<'_>) -> u64 {
    joined.events.first().map_or(joined.top.offset + 1, Event::offset)
}

/// A reader's answer, if it is one.
pub(in crate::shard) fn block(
    answer: Result<Answer, ReadError>,
) -> Result<HistoryBlock, ReadError> {
    match answer? {
        Answer::History(block) => Ok(block),
        // No store does that; whoever waits tries again.
        _ => Err(ReadError::Unavailable { what: "another answer than was asked for".to_owned() }),
    }
}
