//! Subscribing and recovering. The answer to `subscribe` waits for the home shard's answer to the
//! join and carries what was missed; what does not fit in it follows as pushes, in order.

use super::{Client, Refusal, Sub};
use crate::driver::ConnId;
use crate::mesh::{Continuity, Since, SubscriptionToken};
use crate::shard::Shard;
use crate::shard::channels::Phase;
use crate::shard::connection::EndpointId;
use crate::shard::session_ws::After;
use proto::centrifuge::{
    Data, DisconnectCode, Encoding, ErrorCode, Publication, ReplyBody, SubscribeRequest,
    SubscribeResult,
};
use proto::channel::ChannelName;
use proto::event::Event;
use proto::position::{Epoch, Position};

/// Bit of a subscribe's flags: answer an error instead of `recovered: false`.
const REJECT_UNRECOVERED: i64 = 2;

/// What a join found.
pub struct Joined<'a> {
    /// The channel's newest position.
    pub top: Position,
    /// Whether the client's position could be gone on from.
    pub continuity: Continuity,
    /// The first page of history.
    pub events: &'a [Event],
    /// There are more pages.
    pub more: bool,
}

impl Shard {
    pub(super) fn client_subscribe(
        &mut self,
        conn: ConnId,
        client: &mut Client,
        id: u32,
        request: &SubscribeRequest<'_>,
    ) -> Result<After, Refusal> {
        let endpoint = EndpointId::connection(conn.slot);
        let name = ChannelName::new(&request.channel).map_err(|_| ErrorCode::BadRequest)?;
        if self.client_sub(endpoint, client, name.as_str()).is_some() {
            return Err(ErrorCode::AlreadySubscribed.into());
        }
        if client.subs.len() >= usize::from(self.settings.limits.channels_per_connection_max) {
            return Err(ErrorCode::LimitExceeded.into());
        }
        if !self.settings.namespace(name.as_str()).subscribe {
            return Err(ErrorCode::PermissionDenied.into());
        }
        if self.drain.is_some() {
            return Err(Refusal::Disconnect(DisconnectCode::Shutdown));
        }
        if self.overloaded {
            return Err(ErrorCode::TooManyRequests.into());
        }
        let Some(number) = self.subscriber_mut(endpoint).map(|own| own.claim()) else {
            return Ok(After::Over);
        };
        client.subs.push(Sub {
            number,
            recover: request.recover.then_some(request.offset),
            strict: request.flag & REJECT_UNRECOVERED != 0,
            command: id,
        });
        let attached = self.join(endpoint, number, &name, since(request), client.format());
        let namespace = self.settings.namespace(name.as_str());
        if namespace.join_leave && (request.join_leave || namespace.force_push_join_leave) {
            self.watch(endpoint, number);
        }
        let may_fail = request.recover && request.flag & REJECT_UNRECOVERED != 0;
        if attached.is_some() || !may_fail {
            self.enter(conn, number, client.member());
        }
        if let Some((_, top, continuity)) = attached {
            // At the newest event already: nothing is missing and nothing has to be asked.
            let joined = Joined { top, continuity, events: &[], more: false };
            let encoding = client.encoding;
            if let Some((id, recover, _)) = client.sub_mut(number).map(Sub::answer) {
                self.say_subscribed(conn, encoding, id, recover, &joined);
            }
        }
        Ok(After::GoOn)
    }

    pub(super) fn client_unsubscribe(&mut self, conn: ConnId, client: &mut Client, channel: &str) {
        let endpoint = EndpointId::connection(conn.slot);
        let Some(at) = self.client_sub(endpoint, client, channel) else { return };
        let sub = client.subs.swap_remove(at);
        self.unsubscribe_one(endpoint, sub.number);
    }

    /// Where a client's subscription of a channel stands.
    pub(super) fn client_sub(
        &mut self,
        endpoint: EndpointId,
        client: &Client,
        channel: &str,
    ) -> Option<usize> {
        let index = self.local.find(channel)?;
        let subscriber = self.subscriber_mut(endpoint)?;
        let is = |sub: &Sub| subscriber.key_mut(sub.number).is_some_and(|key| key.channel == index);
        client.subs.iter().position(is)
    }

    /// The home shard's answer to a client's join.
    pub(in crate::shard) fn client_joined(
        &mut self,
        token: SubscriptionToken,
        joined: &Joined<'_>,
    ) {
        let endpoint = EndpointId::connection(token.conn.slot);
        let Some((_, key)) = self.key_of(token) else { return };
        let Some(entry) =
            self.local.get(key.channel).and_then(|c| c.entries.get_mut(key.at as usize))
        else {
            return;
        };
        // After a gap the client begins with what comes now: the protocol has it load the state
        // itself.
        let gap = matches!(joined.continuity, Continuity::Gap(_));
        let last = joined.events.last().filter(|_| !gap).map_or(joined.top.offset, Event::offset);
        entry.next = last + 1;
        let more = joined.more && !gap;
        entry.set_phase(if more { Phase::CatchingUp } else { Phase::Live });
        if more {
            self.catching_up.push(token);
        }
        let Some(client) = self.client_mut(endpoint) else { return };
        let (encoding, sub) = (client.encoding, client.sub_mut(token.index));
        let Some((id, recover, strict)) = sub.map(Sub::answer) else { return };
        if gap && strict {
            client.subs.retain(|sub| sub.number != token.index);
            self.unsubscribe_one(endpoint, token.index);
            self.reply_error(token.conn, encoding, id, ErrorCode::UnrecoverablePosition);
            return;
        }
        let member = client.member();
        self.say_subscribed(token.conn, encoding, id, recover, joined);
        // The others have entered behind their join.
        if strict {
            self.enter(token.conn, token.index, member);
        }
    }

    fn say_subscribed(
        &mut self,
        conn: ConnId,
        encoding: Encoding,
        id: u32,
        recover: Option<u64>,
        joined: &Joined<'_>,
    ) {
        let recovered = recover.is_some() && !matches!(joined.continuity, Continuity::Gap(_));
        let events = if recovered { joined.events } else { &[] };
        let result = SubscribeResult {
            recoverable: true,
            positioned: true,
            epoch: joined.top.epoch.to_string().into(),
            offset: match recover {
                // The client counts on from what it has, publication by publication.
                Some(offset) if recovered => offset,
                _ => joined.top.offset,
            },
            publications: events.iter().map(publication).collect(),
            recovered,
            was_recovering: recover.is_some(),
            ..SubscribeResult::default()
        };
        self.stats.counters.messages_sent += events.len() as u64;
        self.reply(conn, encoding, id, ReplyBody::Subscribe(result));
    }

    /// The home shard has no room for the channel.
    pub(in crate::shard) fn client_join_refused(&mut self, token: SubscriptionToken) {
        let endpoint = EndpointId::connection(token.conn.slot);
        let Some(client) = self.client_mut(endpoint) else { return };
        let encoding = client.encoding;
        let Some(at) = client.subs.iter().position(|sub| sub.number == token.index) else { return };
        let sub = client.subs.swap_remove(at);
        self.unsubscribe_one(endpoint, sub.number);
        self.reply_error(token.conn, encoding, sub.command, ErrorCode::TooManyRequests);
    }
}

impl Sub {
    /// What the answer to its command needs; it is answered now.
    fn answer(&mut self) -> (u32, Option<u64>, bool) {
        (std::mem::take(&mut self.command), self.recover.take(), self.strict)
    }
}

/// Where a subscription starts. Any epoch will do where none is said; one that is not ours never
/// recovers.
fn since(request: &SubscribeRequest<'_>) -> Since {
    if !request.recover {
        return Since::Now;
    }
    if request.epoch.is_empty() {
        return Since::Offset(request.offset);
    }
    request
        .epoch
        .parse::<Epoch>()
        .map_or(Since::Unknown, |epoch| Since::After(Position { epoch, offset: request.offset }))
}

/// An event as the answer to a subscribe or a history holds it.
pub(in crate::shard) fn publication(event: &Event) -> Publication<'_> {
    Publication { data: Data::of(event), offset: event.offset(), ..Publication::default() }
}
