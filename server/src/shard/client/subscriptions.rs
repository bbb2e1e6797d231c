//! Subscribing and recovering. The answer to `subscribe` waits for the home shard's answer to the
//! join and carries what was missed; what does not fit in it follows as pushes, in order.

use super::start::NewSub;
use super::tokens::channel_info;
use super::{ByServer, Client, Extra, Outlet, Refusal, Sub, TagsFilter};
use crate::mesh::{Continuity, SubscriptionToken};
use crate::shard::Shard;
use crate::shard::connection::EndpointId;
use crate::shard::session_ws::After;
use bytes::Bytes;
use proto::centrifuge::{
    Data, DisconnectCode, Encoding, ErrorCode, Publication, ReplyBody, SubscribeOptions,
    SubscribeRequest, SubscribeResult, read_author, tags,
};
use proto::channel::ChannelName;
use proto::event::{DataKind, Event};
use proto::position::Position;

/// The only delta format there is.
const FOSSIL: &str = "fossil";

/// Bit of a subscribe's flags: answer an error instead of `recovered: false`.
const REJECT_UNRECOVERED: i64 = 2;

/// What a join found.
#[derive(Clone, Copy)]
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
        client: &mut Client,
        id: u32,
        request: &SubscribeRequest<'_>,
    ) -> Result<After, Refusal> {
        let endpoint = client.endpoint();
        let name = ChannelName::new(&request.channel).map_err(|_| ErrorCode::BadRequest)?;
        if self.client_sub(client, name.as_str()).is_some() {
            return Err(ErrorCode::AlreadySubscribed.into());
        }
        if self.has_no_room(client, 1) {
            return Err(ErrorCode::LimitExceeded.into());
        }
        let grant = self.client_may_subscribe(client, &name, &request.token)?;
        if self.drain.is_some() {
            return Err(Refusal::Disconnect(DisconnectCode::Shutdown));
        }
        if self.overloaded {
            return Err(ErrorCode::TooManyRequests.into());
        }
        let options = SubscribeOptions::parse(request.data).map_err(|_| ErrorCode::BadRequest)?;
        let overrides = grant.as_ref().map(|grant| grant.overrides).unwrap_or_default();
        let start = self.start_of(&name, request, overrides, options.snapshot);
        let strict = request.flag & REJECT_UNRECOVERED != 0;
        let may_fail = start.recover.is_some() && strict;
        let filter = request.tf.clone().map(TagsFilter::new);
        let new = NewSub {
            channel: &name,
            command: id,
            strict,
            // They exclude each other: a delta leads from the event before, which may be left out.
            delta: filter.is_none() && request.delta == FOSSIL,
            extra: Extra {
                filter,
                expires_at_s: grant.as_ref().and_then(|grant| grant.expires_at_s),
                info: channel_info(grant.as_ref().and_then(|grant| grant.info.as_deref())),
                overrides,
                ..Extra::default()
            },
        };
        let Some((number, attached)) = self.start_sub(client, new, start) else {
            return Ok(After::Over);
        };
        if self.pushes_membership(&name, overrides, request.join_leave) {
            self.watch(endpoint, number);
        }
        if attached.is_some() || !may_fail {
            let member = self.member_of(client, number, &name);
            self.enter(client.outlet.at, number, member);
        }
        if let Some((_, top, continuity)) = attached {
            // At the newest event already: nothing is missing and nothing has to be asked.
            let joined = Joined { top, continuity, events: &[], more: false };
            let to = client.outlet;
            let token = SubscriptionToken { conn: to.at.conn, stream: to.at.stream, index: number };
            if let Some(answer) = client.sub_mut(number).map(Sub::answer) {
                self.say_subscribed(to, token, &answer, &joined);
            }
        }
        Ok(After::GoOn)
    }

    pub(super) fn client_unsubscribe(&mut self, client: &mut Client, channel: &str) {
        let Some(at) = self.client_sub(client, channel) else { return };
        let sub = client.subs.swap_remove(at);
        if sub.command != 0 {
            // It was not answered yet, and is waited for.
            self.reply_error(client.outlet, sub.command, ErrorCode::NotAvailable);
        }
        self.unsubscribe_one(client.endpoint(), sub.number);
    }

    /// Where a client's subscription of a channel stands.
    pub(super) fn client_sub(&mut self, client: &Client, channel: &str) -> Option<usize> {
        let index = self.local.find(channel)?;
        let subscriber = self.subscriber_mut(client.endpoint())?;
        let is = |sub: &Sub| subscriber.key_mut(sub.number).is_some_and(|key| key.channel == index);
        client.subs.iter().position(is)
    }

    /// The home shard's answer to a client's join.
    pub(in crate::shard) fn client_joined(
        &mut self,
        token: SubscriptionToken,
        joined: &Joined<'_>,
    ) {
        let Some((endpoint, key)) = self.key_of(token) else { return };
        let (mut missed, page) = (Vec::new(), joined.events.as_ptr());
        let Some(joined) = self.recovered(token, joined, &mut missed) else { return };
        self.count_resume(joined.continuity);
        // Memory holds what came in its page, and not what was read elsewhere.
        let in_memory = std::ptr::eq(joined.events.as_ptr(), page);
        if self.holds_joined(token, key, &joined, in_memory) {
            return;
        }
        // After a gap the client begins with what comes now: the protocol has it load the state
        // itself.
        let gap = matches!(joined.continuity, Continuity::Gap(_));
        let newest = joined.events.last().filter(|_| !gap);
        let last = newest.map_or(joined.top.offset, Event::offset);
        let more = joined.more && !gap;
        if self.move_on(key, last, more, newest).is_none() {
            return;
        }
        if more {
            self.catching_up.push(token);
        }
        let passing = self.passing(endpoint, token.index, joined.events);
        let Some(client) = self.client_mut(token.place()) else { return };
        let (to, sub) = (client.outlet, client.sub_mut(token.index));
        let Some(answer) = sub.map(Sub::answer) else { return };
        let continuity = answer.continuity(&joined);
        if answer.recover.is_some() && answer.strict && continuity != Continuity::Recovered {
            client.subs.retain(|sub| sub.number != token.index);
            self.unsubscribe_one(endpoint, token.index);
            self.reply_error(to, answer.id, ErrorCode::UnrecoverablePosition);
            return;
        }
        let events = match passing.as_deref() {
            _ if gap => &[],
            Some(passing) => passing,
            None => joined.events,
        };
        let joined = Joined { events, continuity, ..joined };
        self.say_subscribed(to, token, &answer, &joined);
        // The others have entered behind their join.
        if answer.strict {
            self.enter_late(token.place(), token.index);
        }
    }

    pub(super) fn say_subscribed(
        &mut self,
        to: Outlet,
        token: SubscriptionToken,
        answer: &Answer,
        joined: &Joined<'_>,
    ) {
        if let Some(server) = &answer.server {
            return self.push_subscribed(to, token, answer, server, joined);
        }
        let (delta, events, encoding) = (answer.delta, joined.events, to.format.encoding());
        // The first one is whole, each of the others leads on from the one before.
        let deltas: Vec<Option<Bytes>> = std::iter::once(None)
            .chain(events.windows(2).map(|pair| {
                let coders = &mut self.frames.coders;
                delta.then(|| coders.delta(&pair[0], &pair[1], encoding)).flatten()
            }))
            .collect();
        let publications = events.iter().zip(&deltas).map(|(event, change)| {
            let mut publication = publication(event);
            if delta {
                with_delta(&mut publication, change.as_deref(), encoding);
            }
            publication
        });
        let publications = publications.collect();
        let result = SubscribeResult { publications, ..self.subscribe_result(answer, joined) };
        self.count_resumed(events.len());
        self.reply(to, answer.id, ReplyBody::Subscribe(result));
    }

    /// What a client is told of a subscription, without publications.
    pub(super) fn subscribe_result(
        &self,
        answer: &Answer,
        joined: &Joined<'_>,
    ) -> SubscribeResult<'static> {
        let ttl = answer.expires_at_s.map(|at_s| self.refresh_in_s(at_s));
        let recovered =
            answer.recover.is_some() && matches!(joined.continuity, Continuity::Recovered);
        let positioned = SubscribeResult {
            epoch: joined.top.epoch.to_string().into(),
            offset: match answer.recover {
                // The client counts on from what it has, publication by publication.
                Some(offset) if recovered => offset,
                _ => joined.top.offset,
            },
            positioned: true,
            ..SubscribeResult::default()
        };
        SubscribeResult {
            expires: ttl.is_some(),
            ttl: ttl.unwrap_or_default(),
            recoverable: answer.recoverable,
            recovered,
            was_recovering: answer.recover.is_some(),
            delta: answer.delta,
            ..if answer.positioned { positioned } else { SubscribeResult::default() }
        }
    }

    /// The home shard has no room for the channel.
    pub(in crate::shard) fn client_join_refused(&mut self, token: SubscriptionToken) {
        let Some(client) = self.client_mut(token.place()) else { return };
        let to = client.outlet;
        let Some(at) = client.subs.iter().position(|sub| sub.number == token.index) else { return };
        let sub = client.subs.swap_remove(at);
        let connecting = client.connecting.is_some();
        self.unsubscribe_one(EndpointId::of(to.at), sub.number);
        if connecting {
            self.disconnect(to, DisconnectCode::TooManyRequests, None);
        } else if !sub.is_by_server() {
            self.reply_error(to, sub.command, ErrorCode::TooManyRequests);
        }
    }
}

/// What the answer to a subscribe needs of it.
#[derive(Debug)]
pub(super) struct Answer {
    id: u32,
    pub(super) recover: Option<u64>,
    strict: bool,
    delta: bool,
    expires_at_s: Option<i64>,
    recoverable: bool,
    positioned: bool,
    /// The server made it.
    pub(super) server: Option<ByServer>,
}

impl Answer {
    /// How the client goes on. The newest event, where all else was not asked for, is as good as
    /// all that was missed.
    pub(super) fn continuity(&self, joined: &Joined<'_>) -> Continuity {
        match joined.continuity {
            Continuity::Live if !joined.events.is_empty() => Continuity::Recovered,
            continuity => continuity,
        }
    }
}

impl Sub {
    /// Its command is answered now.
    pub(super) fn answer(&mut self) -> Answer {
        let expires_at_s = self.expires_at_s();
        let extra = self.extra.as_deref_mut();
        let (recoverable, positioned, server) = extra.map_or((true, true, None), |extra| {
            let server = extra.server.as_mut().map(std::mem::take);
            (!extra.unrecoverable, !extra.unpositioned, server)
        });
        Answer {
            id: std::mem::take(&mut self.command),
            recover: self.recover.take(),
            strict: self.strict,
            delta: self.delta,
            expires_at_s,
            recoverable,
            positioned,
            server,
        }
    }
}

/// An event as the answer to a subscribe or a history holds it.
pub(in crate::shard) fn publication(event: &Event) -> Publication<'_> {
    Publication {
        data: Data::of(event),
        offset: event.offset(),
        info: if event.is_of_client() { read_author(event.attributes()) } else { None },
        tags: tags(event.attributes()),
        ..Publication::default()
    }
}

/// Puts a delta into a publication of a subscription that takes them. In JSON its data is a string
/// in any case: the whole text, or the delta's.
pub(in crate::shard) fn with_delta<'a>(
    publication: &mut Publication<'a>,
    delta: Option<&'a [u8]>,
    encoding: Encoding,
) {
    publication.delta = delta.is_some();
    publication.data = match (delta, encoding) {
        (Some(delta), Encoding::Json) => Data::new(DataKind::Text, delta),
        (Some(delta), Encoding::Protobuf) => Data::Binary(delta),
        (None, Encoding::Json) => publication.data.as_text().unwrap_or(publication.data),
        (None, Encoding::Protobuf) => publication.data,
    };
}
