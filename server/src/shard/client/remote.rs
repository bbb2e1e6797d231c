//! What the server API does to clients.

use super::{Client, opcode};
use crate::driver::ConnId;
use crate::shard::Shard;
use crate::shard::api::survey::Who;
use crate::shard::connection::EndpointId;
use crate::shard::session::Session;
use proto::centrifuge::{Push, PushBody, Unsubscribe, UnsubscribeCode, write_push};
use proto::reason::CloseReason;
use proto::ws;

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
    /// The client in a slot if it is one of these.
    pub(in crate::shard) fn client_of(&mut self, slot: u32, who: &Who) -> Option<ConnId> {
        let connection = self.connections.slot(slot)?;
        match &connection.session {
            Session::Client(own) if connection.closing.is_none() && own.client.is(who) => {
                Some(connection.id)
            }
            _ => None,
        }
    }

    /// Ends a client with a code and a reason of somebody's choice.
    pub(in crate::shard) fn disconnect_with(&mut self, conn: ConnId, code: u16, reason: &str) {
        self.close_ws(conn, code, reason, CloseReason::PolicyViolation);
    }

    /// Ends a client's subscription of a channel and tells it. `false` if it has none.
    pub(in crate::shard) fn unsubscribe_client(
        &mut self,
        conn: ConnId,
        channel: &str,
        code: UnsubscribeCode,
    ) -> bool {
        let endpoint = EndpointId::connection(conn.slot);
        let Some(connection) = self.connections.get(conn) else { return false };
        let mut own = match std::mem::take(&mut connection.session) {
            Session::Client(own) => own,
            other => {
                connection.session = other;
                return false;
            }
        };
        let client = &mut own.client;
        let before = client.subs.len();
        self.client_unsubscribe(conn, client, channel);
        let had = client.subs.len() < before;
        if had {
            let body = PushBody::Unsubscribe(Unsubscribe::from(code));
            let push = Push { channel: channel.into(), body: Some(body) };
            let mut out = Vec::new();
            write_push(&mut out, client.encoding, &push);
            let frame = ws::encode_frame(opcode(client.encoding), &out);
            self.say(endpoint, frame);
        }
        if let Some(connection) = self.connections.get(conn) {
            connection.session = Session::Client(own);
        }
        had
    }
}
