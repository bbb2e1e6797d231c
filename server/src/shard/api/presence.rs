//! `presence` and `presence_stats`: who is in a channel, as clients see it.

use super::request::{self, OfChannel};
use super::{CallSlot, Fault, Method};
use crate::auth::Action;
use crate::config::namespace::Access;
use crate::mesh::{Ask, Presence};
use crate::shard::Shard;
use crate::shard::client::info;
use crate::shard::publish::Asker;
use proto::centrifuge::{ClientInfo, ErrorCode};
use proto::channel::ChannelName;
use proto::envelope::write_json_string;

impl Shard {
    pub(super) fn call_presence(
        &mut self,
        slot: CallSlot,
        method: Method,
        body: &[u8],
    ) -> Result<(), Fault> {
        let request: OfChannel<'_> = request::parse(method, body)?;
        let channel = ChannelName::new(&request.channel).map_err(|e| Fault::bad(e.to_string()))?;
        if self.settings.namespace(channel.as_str()).presence == Access::Nobody {
            let name = self.settings.namespace_name(channel.as_str());
            let message = format!("`{name}` has no `presence`; set it to whom it is for");
            return Err(Fault::new(ErrorCode::NotAvailable, message));
        }
        self.call_may(slot, &channel, Action::Presence)?;
        if self.reads.is_full() {
            return Err(Fault::busy());
        }
        let ticket = self.reads.wait(Asker::Api(slot), false);
        self.ask(Ask::Presence { channel, ticket, counts: method == Method::PresenceStats });
        Ok(())
    }

    /// The home shard's answer.
    pub(in crate::shard) fn answered_call_presence(&mut self, slot: CallSlot, answer: &Presence) {
        let mut out = Vec::new();
        match answer {
            Presence::TooMany => {
                let message = "a list of all of them is too long; `presence_stats` counts them";
                return self.reply_call(slot, Err(Fault::new(ErrorCode::LimitExceeded, message)));
            }
            Presence::Counts { clients, users } => {
                let text = format!("{{\"num_clients\":{clients},\"num_users\":{users}}}");
                out.extend_from_slice(text.as_bytes());
            }
            Presence::Members(members) => {
                out.extend_from_slice(b"{\"presence\":{");
                for (at, member) in members.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    write_member(&mut out, &info(member));
                }
                out.extend_from_slice(b"}}");
            }
        }
        self.reply_call(slot, Ok(out));
    }
}

fn write_member(out: &mut Vec<u8>, info: &ClientInfo<'_>) {
    write_json_string(out, &info.client);
    out.extend_from_slice(b":{\"client\":");
    write_json_string(out, &info.client);
    out.extend_from_slice(b",\"user\":");
    write_json_string(out, &info.user);
    for (name, data) in [("conn_info", info.conn_info), ("chan_info", info.chan_info)] {
        if !data.is_none() {
            out.extend_from_slice(format!(",\"{name}\":").as_bytes());
            out.extend_from_slice(data.bytes());
        }
    }
    out.push(b'}');
}
