//! Tokens of single subscriptions: what they grant, how they are refreshed on the live connection,
//! and what happens when they are not.
//!
//! A subscription that expires is ended by a push that makes the SDK subscribe again, with a new
//! token. One that the server made cannot be subscribed by the client, so its connection ends.

use super::commands::is_json;
use super::{Client, Refusal, Sub};
use crate::auth::{SubscriptionGrant, TokenError, allows_subscription};
use crate::driver::ConnId;
use crate::shard::Shard;
use crate::shard::connection::EndpointId;
use crate::shard::session_ws::After;
use proto::centrifuge::{
    DisconnectCode, ErrorCode, ReplyBody, SubRefreshRequest, SubRefreshResult, UnsubscribeCode,
};
use proto::channel::ChannelName;
use std::sync::Arc;

impl Client {
    /// When the first of its subscriptions ends, in Unix seconds.
    pub fn first_expiry_s(&self) -> Option<i64> {
        self.subs.iter().filter_map(Sub::expires_at_s).min()
    }

    /// The subscriptions that have ended.
    fn expired(&self, now_s: i64) -> Vec<u16> {
        let ended = |sub: &&Sub| sub.expires_at_s().is_some_and(|at_s| at_s <= now_s);
        self.subs.iter().filter(ended).map(|sub| sub.number).collect()
    }
}

impl Shard {
    /// Whether a client may subscribe to a channel, and what its token for that says.
    pub(super) fn client_may_subscribe(
        &mut self,
        client: &Client,
        channel: &ChannelName,
        token: &str,
    ) -> Result<Option<SubscriptionGrant>, Refusal> {
        let caller = self.caller_of(client.endpoint());
        let name = channel.as_str();
        let grant = match token {
            "" => None,
            token => self
                .grant_of_token(token, caller.user(), Some(name))
                .map_err(|error| refusal(error, ErrorCode::PermissionDenied.into()))?,
        };
        let namespace = self.settings.namespace(name);
        if allows_subscription(&caller, namespace, name, grant.as_ref()).is_err() {
            self.stats.counters.auth_forbidden += 1;
            return Err(ErrorCode::PermissionDenied.into());
        }
        Ok(grant)
    }

    /// The same subscription with a token that expires later.
    pub(super) fn client_sub_refresh(
        &mut self,
        client: &mut Client,
        id: u32,
        request: &SubRefreshRequest<'_>,
    ) -> Result<After, Refusal> {
        if self.settings.auth.is_none() {
            return Err(ErrorCode::NotAvailable.into());
        }
        if request.token.is_empty() {
            return Err(ErrorCode::BadRequest.into());
        }
        let caller = self.caller_of(client.endpoint());
        // Some SDKs leave it out: the token says it.
        let named = Some(&*request.channel).filter(|channel| !channel.is_empty());
        let grant = self
            .grant_of_token(&request.token, caller.user(), named)
            .map_err(|error| refusal(error, Refusal::Token(error)))?;
        let Some(grant) = grant else { return Err(ErrorCode::NotAvailable.into()) };
        let Some(at) = self.client_sub(client, grant.channel.as_str()) else {
            return Err(ErrorCode::PermissionDenied.into());
        };
        let info = channel_info(grant.info.as_deref());
        let Sub { number, extra, .. } = &mut client.subs[at];
        let number = *number;
        if extra.is_some() || grant.expires_at_s.is_some() || info.is_some() {
            let extra = extra.get_or_insert_default();
            (extra.expires_at_s, extra.info) = (grant.expires_at_s, info);
        }
        // One that still joins is shown once it has.
        if self.entry_of(client.endpoint(), number).is_some_and(|entry| entry.is_member()) {
            let member = self.member_of(client, number, &grant.channel);
            self.show_again(client.outlet.at, number, member);
        }
        self.look_soon(client.outlet.at.conn);
        let ttl = grant.expires_at_s.map(|at_s| self.refresh_in_s(at_s));
        let result = SubRefreshResult { expires: ttl.is_some(), ttl: ttl.unwrap_or_default() };
        self.reply(client.outlet, id, ReplyBody::SubRefresh(result));
        Ok(After::GoOn)
    }

    /// Looks at a connection in the next turn, when its session is back at its place: something of
    /// it may end earlier than it was to be looked at.
    pub(super) fn look_soon(&mut self, conn: ConnId) {
        self.wheel.schedule(conn.slot, self.now.ms);
    }

    /// When the first subscription of a connection ends, in Unix seconds.
    pub(in crate::shard) fn first_sub_expiry_s(&mut self, conn: ConnId) -> Option<i64> {
        let places = self.clients_of(conn);
        places.into_iter().filter_map(|at| self.client_mut(at)?.first_expiry_s()).min()
    }

    /// Ends the subscriptions of a connection that have expired; `true` if that was the
    /// connection itself.
    pub(in crate::shard) fn expire_subs(&mut self, conn: ConnId) -> bool {
        let now_s = self.wall_s();
        for at in self.clients_of(conn) {
            let Some(client) = self.client_mut(at) else { continue };
            let expired = client.expired(now_s);
            let of_server = |sub: &Sub| sub.is_by_server() && expired.contains(&sub.number);
            if client.subs.iter().any(of_server) {
                let to = client.outlet;
                self.disconnect(to, DisconnectCode::SubscriptionExpired, None);
                if at.stream == 0 {
                    return true;
                }
                continue;
            }
            for number in expired {
                let own = self.subscriber_mut(EndpointId::of(at));
                let key = own.and_then(|own| own.key_mut(number).copied());
                let Some(channel) = key.and_then(|key| self.local.peek(key.channel)) else {
                    continue;
                };
                let channel = channel.name.clone();
                self.unsubscribe_client(at, channel.as_str(), UnsubscribeCode::Expired);
            }
        }
        false
    }
}

/// What others are shown of a subscription's token.
pub(super) fn channel_info(info: Option<&[u8]>) -> Option<Arc<[u8]>> {
    info.filter(|info| is_json(info)).map(Into::into)
}

/// A token for somebody else or something else is never sent by mistake, so the connection ends;
/// `invalid` is for tokens that are nobody's.
fn refusal(error: TokenError, invalid: Refusal) -> Refusal {
    match error {
        TokenError::Expired => ErrorCode::TokenExpired.into(),
        TokenError::KeysPending => ErrorCode::Internal.into(),
        TokenError::User | TokenError::Channel => Refusal::Token(error),
        _ => invalid,
    }
}
