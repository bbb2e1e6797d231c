//! Commands, one after the other, and those that need no more than an answer.

use super::{Client, PENDING_MAX, Refusal, SessionName};
use crate::auth::{Action, Caller, TokenError};
use crate::mesh;
use crate::shard::Shard;
use crate::shard::connection::{EndpointId, Stamp};
use crate::shard::floods::Flow;
use crate::shard::session_ws::After;
use proto::centrifuge::{
    ClientMessage, Command, Commands, ConnectRequest, ConnectResult, DisconnectCode, ErrorCode,
    Limits, Outcome, PingResult, RPC_SNAPSHOT, RefreshResult, ReplyBody, Request, SubscribeResult,
    UnsubscribeResult,
};
use proto::channel::ChannelName;
use std::borrow::Cow;
use std::sync::Arc;

impl Shard {
    /// Carries out the commands of a frame.
    pub(super) fn on_commands(&mut self, client: &mut Client, frame: &[u8]) -> After {
        let to = client.outlet;
        let mut commands = Commands::new(to.format.encoding(), frame, Limits::DEFAULT);
        while let Some(command) = commands.next() {
            // A pong has to be asked for.
            let counts = match &command {
                Ok(command) => command.request.as_ref().map(|_| command.id),
                Err(error) => match error.outcome() {
                    Outcome::Reply { id, .. } => Some(id),
                    Outcome::Disconnect(_) => None,
                },
            };
            let flood = counts.and_then(|id| self.flood(client, id));
            let after = match (flood, command) {
                (Some(after), _) => after,
                (None, Ok(command)) => self.on_command(client, command),
                (None, Err(error)) => match error.outcome() {
                    Outcome::Reply { id, code } if client.connected => {
                        self.reply_error(to, id, code);
                        After::GoOn
                    }
                    Outcome::Reply { .. } => {
                        self.disconnect(to, DisconnectCode::BadRequest, Some("connect first"))
                    }
                    Outcome::Disconnect(code) => {
                        self.disconnect(to, code, Some(&error.to_string()))
                    }
                },
            };
            match after {
                After::GoOn => {}
                After::Park => {
                    client.held = commands.rest().to_vec();
                    self.charge(client, frame.len() - client.held.len());
                    return After::Park;
                }
                After::Over => return After::Over,
            }
        }
        self.charge(client, frame.len());
        After::GoOn
    }

    /// What was carried out costs by its bytes, too.
    fn charge(&self, client: &mut Client, bytes: usize) {
        let commands_max = self.settings.limits.client_commands_per_s_max;
        client.bucket.bytes(self.now.ms, commands_max, bytes);
    }

    /// Refuses a command that comes too fast.
    fn flood(&mut self, client: &mut Client, id: u32) -> Option<After> {
        let to = client.outlet;
        let (limits, now_ms) = (&self.settings.limits, self.now.ms);
        let counters = &mut self.stats.counters;
        match client.bucket.command(now_ms, limits.client_commands_per_s_max) {
            Flow::Within => {
                let address = self.connections.get(to.at.conn)?.address;
                let commands_max = limits.address_commands_per_s_max;
                if self.settings.addresses.commands(address, now_ms, commands_max) {
                    return None;
                }
                counters.floods_address += 1;
            }
            Flow::Over => counters.floods_commands += 1,
            Flow::Flood => {
                counters.floods_ended += 1;
                let text = Some("too many commands for too long");
                return Some(self.disconnect(to, DisconnectCode::TooManyErrors, text));
            }
        }
        // What follows a `connect` in its frame counts on it.
        if !client.connected {
            return Some(self.disconnect(to, DisconnectCode::TooManyRequests, None));
        }
        // Only what is not to be answered has no number.
        if id != 0 {
            self.reply_error(to, id, ErrorCode::TooManyRequests);
        }
        Some(After::GoOn)
    }

    fn on_command(&mut self, client: &mut Client, command: Command<'_>) -> After {
        let Command { id, request } = command;
        let to = client.outlet;
        let Some(request) = request else {
            if let Some(left) = client.pongs_due.checked_sub(1) {
                client.pongs_due = left;
                return After::GoOn;
            }
            return self.disconnect(to, DisconnectCode::BadRequest, Some("a pong without a ping"));
        };
        if client.connected == matches!(request, Request::Connect(_)) {
            let detail = if client.connected { "connected already" } else { "connect first" };
            return self.disconnect(to, DisconnectCode::BadRequest, Some(detail));
        }
        let carried_out = match request {
            Request::Connect(request) => self.client_connect(client, id, &request),
            Request::Subscribe(request) => self.client_subscribe(client, id, &request),
            Request::Unsubscribe(request) => {
                self.client_unsubscribe(client, &request.channel);
                let body = ReplyBody::Unsubscribe(UnsubscribeResult::default());
                self.reply(client.outlet, id, body);
                Ok(After::GoOn)
            }
            Request::Publish(request) => self.client_publish(client, id, &request),
            Request::History(request) => self.client_history(client, id, &request),
            Request::Ping(_) => {
                self.reply(client.outlet, id, ReplyBody::Ping(PingResult::default()));
                Ok(After::GoOn)
            }
            // Nothing acts on these yet; what is no message of ours is the application's.
            Request::Send(request) => {
                let _ = ClientMessage::parse(request.data);
                Ok(After::GoOn)
            }
            Request::Rpc(request) if request.method == RPC_SNAPSHOT => {
                self.client_snapshot(client, id, request.data)
            }
            Request::Rpc(_) => Err(ErrorCode::MethodNotFound.into()),
            Request::Presence(request) => self.client_presence(client, id, &request.channel, false),
            Request::PresenceStats(request) => {
                self.client_presence(client, id, &request.channel, true)
            }
            Request::Refresh(request) => self.client_refresh(client, id, &request.token),
            Request::SubRefresh(request) => self.client_sub_refresh(client, id, &request),
        };
        match carried_out {
            Ok(after) => after,
            Err(Refusal::Reply(code)) => {
                self.reply_error(to, id, code);
                After::GoOn
            }
            Err(Refusal::Disconnect(code)) => self.disconnect(to, code, None),
            Err(Refusal::Token(error)) => {
                self.disconnect(to, DisconnectCode::InvalidToken, Some(&error.to_string()))
            }
        }
    }

    fn client_connect(
        &mut self,
        client: &mut Client,
        id: u32,
        request: &ConnectRequest<'_>,
    ) -> Result<After, Refusal> {
        self.client_show(client.endpoint(), &request.token)?;
        client.identity = self.shown_to_others(client.endpoint());
        if let Caller::Client(own) = self.caller_of(client.endpoint())
            && !own.subscriptions.is_empty()
        {
            return self.connect_with_subs(client, id, &own.subscriptions, request);
        }
        self.say_connected(client, id, Vec::new());
        Ok(After::GoOn)
    }

    /// Answers a `connect`.
    pub(super) fn say_connected(
        &mut self,
        client: &mut Client,
        id: u32,
        subs: Vec<(Cow<'_, str>, SubscribeResult<'_>)>,
    ) {
        client.connected = true;
        client.pinged = Stamp::at(self.now.ms);
        self.schedule_beat(client.outlet.at);
        let expires_at_s = self.caller_of(client.endpoint()).expires_at_s();
        let ttl = expires_at_s.map(|at_s| self.refresh_in_s(at_s));
        let name = uuid(client.id);
        let session = client.is_named().then(|| SessionName {
            shard: self.id,
            endpoint: client.endpoint(),
            secret: client.secret,
        });
        let node = session.map_or("", |_| &self.settings.run_name).to_owned();
        let session = session.map(|name| name.to_string()).unwrap_or_default();
        let result = ConnectResult {
            session: session.into(),
            node: node.into(),
            expires: ttl.is_some(),
            ttl: ttl.unwrap_or_default(),
            client: name.as_str().into(),
            version: env!("CARGO_PKG_VERSION").into(),
            subs,
            ping: self.settings.limits.heartbeat_s,
            pong: true,
            ..ConnectResult::default()
        };
        self.reply(client.outlet, id, ReplyBody::Connect(result));
    }

    /// The same user with a token that expires later.
    fn client_refresh(
        &mut self,
        client: &mut Client,
        id: u32,
        token: &str,
    ) -> Result<After, Refusal> {
        if self.settings.auth.is_none() {
            return Err(ErrorCode::NotAvailable.into());
        }
        let endpoint = client.endpoint();
        let before = self.caller_of(endpoint);
        let ttl = self.client_show(client.endpoint(), token)?;
        if self.caller_of(endpoint).user() != before.user() {
            return Err(Refusal::Disconnect(DisconnectCode::InvalidToken));
        }
        self.schedule_beat(client.outlet.at);
        let name = uuid(client.id);
        let result = RefreshResult {
            client: name.as_str().into(),
            version: env!("CARGO_PKG_VERSION").into(),
            expires: ttl.is_some(),
            ttl: ttl.unwrap_or_default(),
        };
        self.reply(client.outlet, id, ReplyBody::Refresh(result));
        Ok(After::GoOn)
    }

    /// Takes note of who a token says the client is; gives the seconds after which it should bring
    /// a new one. Without a token it stays who it was.
    fn client_show(&mut self, endpoint: EndpointId, token: &str) -> Result<Option<u32>, Refusal> {
        if !token.is_empty() {
            let caller = self.caller_of_token(token).map_err(|error| match error {
                TokenError::Expired => Refusal::Reply(ErrorCode::TokenExpired),
                TokenError::KeysPending => Refusal::Reply(ErrorCode::Internal),
                error => Refusal::Token(error),
            })?;
            self.set_caller(endpoint, caller);
        }
        Ok(self.caller_of(endpoint).expires_at_s().map(|at_s| self.refresh_in_s(at_s)))
    }

    /// The seconds after which a client is to bring a new token: early enough that it is here
    /// before the old one ends.
    pub(super) fn refresh_in_s(&self, expires_at_s: i64) -> u32 {
        let left_s = expires_at_s.saturating_sub(self.wall_s());
        let early_s = left_s - (left_s / 2).min(REFRESH_EARLY_S);
        u32::try_from(early_s.max(1)).unwrap_or(u32::MAX)
    }

    /// What others see of a client whose token names a user.
    fn shown_to_others(&self, endpoint: EndpointId) -> Option<Arc<mesh::Identity>> {
        let Caller::Client(own) = self.caller_of(endpoint) else { return None };
        let info = own.info.as_deref().filter(|info| is_json(info)).unwrap_or_default();
        let anonymous = own.user.is_empty() && info.is_empty();
        let identity = mesh::Identity { user: own.user.clone(), info: info.into() };
        (!anonymous).then(|| Arc::new(identity))
    }

    /// Whether the client may do something in a channel.
    pub(super) fn client_may(
        &mut self,
        client: &Client,
        channel: &ChannelName,
        action: Action,
    ) -> Result<(), Refusal> {
        let caller = self.caller_of(client.endpoint());
        self.may(&caller, channel, action).map_err(|_| ErrorCode::PermissionDenied.into())
    }

    /// Counts a command that is answered later.
    pub(super) fn pend(client: &mut Client) -> Result<(), Refusal> {
        if client.pending >= PENDING_MAX {
            return Err(ErrorCode::TooManyRequests.into());
        }
        client.pending += 1;
        Ok(())
    }
}

/// `b64info` may be anything, and what others are shown is JSON.
pub(super) fn is_json(info: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(info).is_ok()
}

/// Seconds before the end of a token at which a client is to bring the next.
const REFRESH_EARLY_S: i64 = 10;

/// Random bits with the version and the variant of a random UUID.
pub(super) fn version_4(bits: u128) -> u128 {
    (bits & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62)
}

/// The bits of a UUID's text.
pub(in crate::shard) fn uuid_bits(text: &str) -> Option<u128> {
    let dashed = text.len() == 36 && [8, 13, 18, 23].map(|at| text.as_bytes()[at]) == *b"----";
    let digits: String = text.split('-').collect();
    let hex = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if dashed && hex { u128::from_str_radix(&digits, 16).ok() } else { None }
}

/// A random UUID (RFC 9562 section 5.4) from 128 random bits, as text.
pub(super) fn uuid(bits: u128) -> String {
    let hex = format!("{:032x}", version_4(bits));
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_client_is_named_by_a_random_uuid() {
        assert_eq!(super::uuid(0), "00000000-0000-4000-8000-000000000000");
        assert_eq!(super::uuid(u128::MAX), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(super::uuid_bits(&super::uuid(7)), Some(super::version_4(7)));
        for text in
            ["", "7", "00000000000040008000000000000007", "g0000000-0000-4000-8000-000000000000"]
        {
            assert_eq!(super::uuid_bits(text), None, "{text}");
        }
    }
}
