//! What the server API does to clients.

use super::{Client, ClientSession, Outlet};
use crate::auth::{Caller, Identity};
use crate::mesh::Place;
use crate::shard::Shard;
use crate::shard::api::survey::Who;
use crate::shard::connection::EndpointId;
use proto::centrifuge::{Push, PushBody, Refresh, Unsubscribe, UnsubscribeCode, write_push};
use proto::reason::CloseReason;

impl Client {
    /// It was let in.
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// Whose it is; empty for nobody in particular.
    pub fn user(&self) -> &str {
        self.identity.as_ref().map_or("", |identity| &identity.user)
    }

    fn is(&self, who: &Who) -> bool {
        let id = super::commands::version_4(self.id);
        self.connected
            && who.user.as_deref().is_none_or(|user| user == self.user())
            && who.client.is_none_or(|client| client == id)
            && !who.keep.contains(&id)
    }
}

impl Shard {
    /// The client of an endpoint if it is one of these.
    pub(in crate::shard) fn client_of(&mut self, endpoint: EndpointId, who: &Who) -> Option<Place> {
        let session = match endpoint.split() {
            Err(slot) => {
                let connection = self.connections.slot(slot)?;
                connection.session.client().filter(|_| connection.closing.is_none())
            }
            Ok(index) => self.streams.get(index)?.client.as_deref(),
        };
        let is = |own: &&ClientSession| own.client.is(who);
        session.filter(is).map(|own| own.client.outlet.at)
    }

    /// Ends a client with a code and a reason of somebody's choice.
    pub(in crate::shard) fn disconnect_with(&mut self, at: Place, code: u16, reason: &str) {
        if let Some(to) = self.client_mut(at).map(|client| client.outlet) {
            self.end_client(to, code, reason, CloseReason::PolicyViolation);
        }
    }

    /// Moves the end of a client's connection, `None`: it has none. Without authentication
    /// connections do not end.
    pub(in crate::shard) fn refresh_client(&mut self, at: Place, expires_at_s: Option<i64>) {
        let endpoint = EndpointId::of(at);
        let mut identity = match self.caller_of(endpoint) {
            Caller::Client(identity) => Identity::clone(&identity),
            Caller::Anonymous => Identity::default(),
            Caller::Open | Caller::Service(_) => return,
        };
        identity.expires_at_s = expires_at_s;
        self.set_caller(endpoint, Caller::Client(identity.into()));
        self.look_soon(at.conn);
        let Some(to) = self.client_mut(at).map(|client| client.outlet) else { return };
        let ttl = expires_at_s.map(|at_s| self.refresh_in_s(at_s));
        let body = Refresh { expires: ttl.is_some(), ttl: ttl.unwrap_or_default() };
        let push = Push { channel: "".into(), body: Some(PushBody::Refresh(body)) };
        self.push(to, &push);
    }

    pub(super) fn push(&mut self, to: Outlet, push: &Push<'_>) {
        let message = to.format.message(|out| write_push(out, to.format.encoding(), push));
        self.say(EndpointId::of(to.at), message);
    }

    /// Ends a client's subscription of a channel and tells it. `false` if it has none.
    pub(in crate::shard) fn unsubscribe_client(
        &mut self,
        at: Place,
        channel: &str,
        code: UnsubscribeCode,
    ) -> bool {
        let Some(mut own) = self.take_session(at) else { return false };
        let client = &mut own.client;
        let before = client.subs.len();
        self.client_unsubscribe(client, channel);
        let had = client.subs.len() < before;
        if had {
            let body = PushBody::Unsubscribe(Unsubscribe::from(code));
            let push = Push { channel: channel.into(), body: Some(body) };
            self.push(client.outlet, &push);
        }
        self.put_session(own);
        had
    }
}
