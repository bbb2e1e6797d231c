//! Subscriptions that the server makes: those of a connection's token, which the answer to its
//! `connect` tells, and those of the server API, told in a push.
//!
//! A connect waits until every join is answered, and the client is sent nothing before: whoever was
//! answered earlier is held as if it were catching up, and goes on from there behind the answer. A
//! client that names one of these subscriptions when it connects again recovers it like its own.
//!
//! Where a channel keeps no history and an event comes in between, there is nothing to catch up
//! from: the connection is closed as any is that falls behind, and comes back.
//!
//! Bounded: subscriptions as ever, and what the answer carries by one page of history, or what was
//! read from the spool for one channel if that is more. What memory holds of the rest follows it;
//! a channel of which it does not hold all is not recovered.

use super::start::NewSub;
use super::subscriptions::{Answer, publication};
use super::tokens::channel_info;
use super::{ByServer, Client, Extra, Joined, Outlet, Refusal, Sub};
use crate::auth::{Action, Overrides, ServerSubscription};
use crate::mesh::{Continuity, GapReason, Place, SubscriptionToken};
use crate::shard::Shard;
use crate::shard::channels::Phase;
use crate::shard::client::commands::is_json;
use crate::shard::connection::SubscriptionKey;
use crate::shard::session_ws::After;
use bytes::Bytes;
use proto::centrifuge::{
    ConnectRequest, Data, DisconnectCode, ErrorCode, Push, PushBody, Subscribe, SubscribeRequest,
    SubscribeResult,
};
use proto::channel::ChannelName;
use proto::event::Event;
use proto::position::Position;

/// A connect that waits for the subscriptions of its token.
#[derive(Debug)]
pub(super) struct Connecting {
    /// The command to answer.
    command: u32,
    /// Joins that are not answered yet.
    missing: usize,
    found: Vec<Found>,
    /// Bytes of their events.
    bytes: usize,
}

impl Connecting {
    /// Bytes of the events that its answer carries so far.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// A subscription whose join is answered.
#[derive(Debug)]
struct Found {
    channel: ChannelName,
    number: u16,
    answer: Answer,
    top: Position,
    continuity: Continuity,
    events: Vec<Event>,
    /// It goes on with a page.
    catches_up: bool,
}

impl Connecting {
    pub(super) fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.found.capacity() * size_of::<Found>() + self.bytes
    }
}

/// A subscription that the server API makes.
#[derive(Debug)]
pub struct Order {
    /// The channel.
    pub channel: ChannelName,
    /// What others are shown of the client there.
    pub info: Option<Bytes>,
    /// What the client is told.
    pub data: Option<Bytes>,
    /// When it ends, in Unix seconds.
    pub expires_at_s: Option<i64>,
    /// Where it goes on from: epoch and offset.
    pub since: Option<(String, u64)>,
    /// Options that differ from the namespace's.
    pub overrides: Overrides,
}

impl Shard {
    /// Answers a connect when the subscriptions of its token are answered.
    pub(super) fn connect_with_subs(
        &mut self,
        client: &mut Client,
        command: u32,
        own: &[ServerSubscription],
        request: &ConnectRequest<'_>,
    ) -> Result<After, Refusal> {
        if self.has_no_room(client, own.len()) {
            return Err(Refusal::Disconnect(DisconnectCode::ChannelLimit));
        }
        for subscription in own {
            self.client_may(client, &subscription.channel, Action::Subscribe)?;
        }
        if self.drain.is_some() {
            return Err(Refusal::Disconnect(DisconnectCode::Shutdown));
        }
        if self.overloaded {
            return Err(ErrorCode::TooManyRequests.into());
        }
        let found = Vec::with_capacity(own.len());
        let mut connecting = Box::new(Connecting { command, missing: 0, found, bytes: 0 });
        for ServerSubscription { channel, info, data, overrides } in own {
            let known = request.subs.iter().find(|(name, _)| *name == channel.as_str());
            let known = known.map(|(_, known)| known.clone()).unwrap_or_default();
            let order = Order {
                channel: channel.clone(),
                info: info.clone(),
                data: data.clone(),
                expires_at_s: None,
                since: None,
                overrides: *overrides,
            };
            let Some((number, attached)) = self.start_ordered(client, &order, &known) else {
                return Ok(After::Over);
            };
            let Some((_, top, continuity)) = attached else {
                connecting.missing += 1;
                continue;
            };
            let Some(answer) = client.sub_mut(number).map(Sub::answer) else { continue };
            let (channel, events) = (channel.clone(), Vec::new());
            let catches_up = false;
            let found = Found { channel, number, answer, top, continuity, events, catches_up };
            connecting.found.push(found);
        }
        if connecting.missing == 0 {
            self.finish_connect(client, *connecting);
            return Ok(After::GoOn);
        }
        let endpoint = client.endpoint();
        for found in &mut connecting.found {
            found.catches_up = true;
            if let Some(entry) = self.entry_of(endpoint, found.number) {
                entry.set_phase(Phase::CatchingUp);
            }
        }
        client.connecting = Some(connecting);
        Ok(After::Park)
    }

    /// The home shard's answer to a join that a connect waits for. `false` if none does.
    pub(super) fn holds_joined(
        &mut self,
        token: SubscriptionToken,
        key: SubscriptionKey,
        joined: &Joined<'_>,
        in_memory: bool,
    ) -> bool {
        if self.client_mut(token.place()).is_none_or(|client| client.connecting.is_none()) {
            return false;
        }
        let bytes_max = self.page_bytes() as usize;
        let Some(channel) = self.local.peek(key.channel).map(|channel| channel.name.clone()) else {
            return false;
        };
        let Some(client) = self.client_mut(token.place()) else { return false };
        let Some(answer) = client.sub_mut(token.index).map(Sub::answer) else { return false };
        let Some(connecting) = &mut client.connecting else { return false };
        connecting.missing -= 1;
        let is_last = connecting.missing == 0;
        let bytes: usize = joined.events.iter().map(Event::size).sum();
        // What does not fit in one answer follows it, if it is to be had once more.
        let is_lost = !in_memory && connecting.bytes > 0 && connecting.bytes + bytes > bytes_max;
        let joined = match is_lost {
            true => &Joined { continuity: Continuity::Gap(GapReason::Expired), ..*joined },
            false => joined,
        };
        let gap = matches!(joined.continuity, Continuity::Gap(_));
        let mut events = if gap { Vec::new() } else { joined.events.to_vec() };
        let mut reached =
            joined.events.last().filter(|_| !gap).map_or(joined.top.offset, Event::offset);
        let mut fits = 0;
        for event in &events {
            if in_memory && connecting.bytes + event.size() > bytes_max {
                reached = event.offset() - 1;
                break;
            }
            connecting.bytes += event.size();
            fits += 1;
        }
        let cut = fits < events.len();
        events.truncate(fits);
        let more = joined.more && !gap || cut;
        let continuity = answer.continuity(joined);
        connecting.found.push(Found {
            channel,
            number: token.index,
            answer,
            top: joined.top,
            continuity,
            events,
            catches_up: more || !is_last,
        });
        self.move_on(key, reached, more || !is_last, None);
        if is_last {
            self.finish_connecting(token.place());
        }
        true
    }

    fn finish_connecting(&mut self, at: Place) {
        let Some(mut own) = self.take_session(at) else { return };
        if let Some(connecting) = own.client.connecting.take() {
            own.socket.unpark();
            self.finish_connect(&mut own.client, *connecting);
            self.resumable.push(at);
        }
        self.put_session(own);
    }

    fn finish_connect(&mut self, client: &mut Client, connecting: Connecting) {
        let (endpoint, Place { conn, stream }) = (client.endpoint(), client.outlet.at);
        let mut subs = Vec::with_capacity(connecting.found.len());
        for found in &connecting.found {
            let token = SubscriptionToken { conn, stream, index: found.number };
            if found.catches_up {
                self.catching_up.push(token);
            }
            let overrides = client.sub_mut(found.number).and_then(|sub| sub.extra.as_ref());
            let overrides = overrides.map(|extra| extra.overrides).unwrap_or_default();
            if self.pushes_membership(&found.channel, overrides, false) {
                self.watch(endpoint, found.number);
            }
            let Found { channel, answer, top, continuity, events, .. } = found;
            let joined = Joined { top: *top, continuity: *continuity, events, more: false };
            let result = SubscribeResult {
                publications: events.iter().map(publication).collect(),
                data: answer.server.as_ref().map_or(Data::None, told),
                ..self.subscribe_result(answer, &joined)
            };
            self.count_resumed(events.len());
            subs.push((channel.as_str().into(), result));
        }
        self.say_connected(client, connecting.command, subs);
    }

    /// The server API subscribes a client. `false`: it has as many channels as it may.
    pub(in crate::shard) fn subscribe_client(&mut self, at: Place, order: &Order) -> bool {
        let Some(mut own) = self.take_session(at) else { return true };
        let room = self.order(&mut own.client, order);
        self.put_session(own);
        room
    }

    fn order(&mut self, client: &mut Client, order: &Order) -> bool {
        if self.client_sub(client, order.channel.as_str()).is_some() {
            return true;
        }
        if self.has_no_room(client, 1) {
            return false;
        }
        let known = match &order.since {
            None => SubscribeRequest::default(),
            Some((epoch, offset)) => SubscribeRequest {
                recover: true,
                epoch: epoch.as_str().into(),
                offset: *offset,
                ..SubscribeRequest::default()
            },
        };
        let Some((number, attached)) = self.start_ordered(client, order, &known) else {
            return true;
        };
        if self.pushes_membership(&order.channel, order.overrides, false) {
            self.watch(client.endpoint(), number);
        }
        if let Some((_, top, continuity)) = attached
            && let Some(answer) = client.sub_mut(number).map(Sub::answer)
        {
            let Place { conn, stream } = client.outlet.at;
            let token = SubscriptionToken { conn, stream, index: number };
            let joined = Joined { top, continuity, events: &[], more: false };
            self.say_subscribed(client.outlet, token, &answer, &joined);
        }
        true
    }

    fn start_ordered(
        &mut self,
        client: &mut Client,
        order: &Order,
        known: &SubscribeRequest<'_>,
    ) -> Option<(u16, super::start::Attached)> {
        let start = self.start_of(&order.channel, known, order.overrides, false);
        let new = NewSub {
            channel: &order.channel,
            command: 0,
            strict: false,
            delta: false,
            extra: Extra {
                expires_at_s: order.expires_at_s,
                info: channel_info(order.info.as_deref()),
                overrides: order.overrides,
                server: Some(ByServer { data: order.data.clone() }),
                ..Extra::default()
            },
        };
        let (number, attached) = self.start_sub(client, new, start)?;
        let member = self.member_of(client, number, &order.channel);
        self.enter(client.outlet.at, number, member);
        Some((number, attached))
    }

    /// Tells a client that the server has subscribed it, and what it missed there.
    pub(super) fn push_subscribed(
        &mut self,
        to: Outlet,
        token: SubscriptionToken,
        answer: &Answer,
        server: &ByServer,
        joined: &Joined<'_>,
    ) {
        let Some((endpoint, key)) = self.key_of(token) else { return };
        let Some(channel) = self.local.peek(key.channel) else { return };
        let format = channel.entries.get(key.at as usize).map(|entry| entry.format);
        let (Some(format), channel) = (format, channel.name.clone()) else { return };
        let SubscribeResult { recoverable, epoch, offset, positioned, .. } =
            self.subscribe_result(answer, joined);
        let body = Subscribe { recoverable, epoch, offset, positioned, data: told(server) };
        let body = Some(PushBody::Subscribe(body));
        let push = Push { channel: channel.as_str().into(), body };
        self.push(to, &push);
        if !joined.events.is_empty() {
            let format = format.unfiltered().based(false).uncompressed();
            let stretch = self.frames.encode(format, joined.events, None, key.channel);
            self.gather(endpoint, stretch);
            self.count_resumed(joined.events.len());
        }
    }
}

/// The application's own, as JSON if it is.
fn told(server: &ByServer) -> Data<'_> {
    match server.data.as_deref() {
        None => Data::None,
        Some(data) if is_json(data) => Data::Json(data),
        Some(data) => Data::Binary(data),
    }
}
