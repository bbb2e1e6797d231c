//! Presence for clients: who is in a channel of theirs, how many, and what pushes say of them.

use super::commands::uuid;
use super::{Client, Refusal};
use crate::auth::{Action, Overrides};
use crate::config::namespace::Access;
use crate::mesh::{Ask, Member, Place, Presence, Shown};
use crate::shard::Shard;
use crate::shard::connection::EndpointId;
use crate::shard::publish::Asker;
use crate::shard::session_ws::After;
use proto::centrifuge::{
    ClientInfo, Data, ErrorCode, Join, Leave, PresenceResult, PresenceStatsResult, Push, PushBody,
    ReplyBody, write_author,
};
use proto::channel::ChannelName;
use proto::event::ATTRIBUTES_BYTES_MAX;

impl Shard {
    /// What others see of a client in a channel, and where: the namespace's word, unless the
    /// subscription's token has another.
    pub(super) fn member_of(
        &self,
        client: &mut Client,
        number: u16,
        channel: &ChannelName,
    ) -> Member {
        let namespace = self.settings.namespace(channel.as_str());
        let extra = client.sub_mut(number).and_then(|sub| sub.extra.as_deref_mut());
        let (channel_info, overrides) =
            extra.map(|extra| (extra.info.clone(), extra.overrides)).unwrap_or_default();
        let shown = Shown {
            listed: overrides.presence.unwrap_or(namespace.presence != Access::Nobody),
            told: overrides.join_leave.unwrap_or(namespace.join_leave),
        };
        let (client, identity) = (client.id.to_be_bytes(), client.identity.clone());
        Member { client, identity, channel_info, shown }
    }

    /// A client's subscription that could have failed makes it a member now.
    pub(super) fn enter_late(&mut self, at: Place, number: u16) {
        let endpoint = EndpointId::of(at);
        let key = self.subscriber_mut(endpoint).and_then(|own| own.key_mut(number).copied());
        let Some(channel) = key.and_then(|key| self.local.peek(key.channel)) else { return };
        let channel = channel.name.clone();
        let Some(mut own) = self.take_session(at) else { return };
        let member = self.member_of(&mut own.client, number, &channel);
        self.put_session(own);
        self.enter(at, number, member);
    }

    /// Whether a subscription is told who comes and goes.
    pub(super) fn pushes_membership(
        &self,
        channel: &ChannelName,
        overrides: Overrides,
        wanted: bool,
    ) -> bool {
        let namespace = self.settings.namespace(channel.as_str());
        let told = overrides.join_leave.unwrap_or(namespace.join_leave);
        let forced = overrides.force_push_join_leave.unwrap_or(namespace.force_push_join_leave);
        told && (wanted || forced)
    }

    pub(super) fn client_presence(
        &mut self,
        client: &mut Client,
        id: u32,
        channel: &str,
        counts: bool,
    ) -> Result<After, Refusal> {
        let channel = ChannelName::new(channel).map_err(|_| ErrorCode::BadRequest)?;
        if self.settings.namespace(channel.as_str()).presence == Access::Nobody {
            return Err(ErrorCode::NotAvailable.into());
        }
        self.client_may(client, &channel, Action::Presence)?;
        if self.client_sub(client, channel.as_str()).is_none() {
            return Err(ErrorCode::PermissionDenied.into());
        }
        if self.reads.is_full() {
            return Err(ErrorCode::TooManyRequests.into());
        }
        Self::pend(client)?;
        let ticket = self.reads.wait(Asker::Client(client.outlet.at, id), false);
        self.ask(Ask::Presence { channel, ticket, counts });
        Ok(After::GoOn)
    }

    /// The home shard's answer to a question for a channel's members.
    pub(in crate::shard) fn answered_presence(&mut self, ticket: u64, presence: &Presence) {
        if let Some(slot) = self.reads.take_call(ticket) {
            return self.answered_call_presence(slot, presence);
        }
        let Some((at, id)) = self.reads.take_client(ticket) else { return };
        // Lists are long and quickly asked for: whoever does not take them gets no more.
        let budget = self.settings.limits.outbox_bytes_max as usize;
        let full = self.client_mut(at).is_some() && self.queued_bytes(EndpointId::of(at)) > budget;
        let Some(client) = self.client_mut(at) else { return };
        client.pending -= 1;
        let to = client.outlet;
        let body = match presence {
            Presence::Members(_) if full => ReplyBody::Error(ErrorCode::TooManyRequests.into()),
            Presence::Members(members) => {
                let listed = members.iter().map(|member| (name(member).into(), info(member)));
                ReplyBody::Presence(PresenceResult { presence: listed.collect() })
            }
            Presence::TooMany => ReplyBody::Error(ErrorCode::LimitExceeded.into()),
            Presence::Counts { clients, users } => ReplyBody::PresenceStats(PresenceStatsResult {
                num_clients: *clients,
                num_users: *users,
            }),
        };
        self.reply(to, id, body);
    }
}

/// Which client publishes, as the attributes of its events; without the infos where they are too
/// long for that.
pub(super) fn author(member: &Member) -> String {
    let mut text = Vec::new();
    write_author(&mut text, info(member));
    if text.len() > ATTRIBUTES_BYTES_MAX {
        text.clear();
        let (user, client) = (member.user().into(), name(member).into());
        write_author(&mut text, ClientInfo { user, client, ..ClientInfo::default() });
    }
    String::from_utf8(text).unwrap_or_default()
}

/// The push that says that somebody came or went.
pub(in crate::shard) fn membership<'a>(
    channel: &'a ChannelName,
    joined: bool,
    member: &'a Member,
) -> Push<'a> {
    let info = Some(info(member));
    let body = if joined { PushBody::Join(Join { info }) } else { PushBody::Leave(Leave { info }) };
    Push { channel: channel.as_str().into(), body: Some(body) }
}

pub(in crate::shard) fn info(member: &Member) -> ClientInfo<'_> {
    ClientInfo {
        user: member.user().into(),
        client: name(member).into(),
        conn_info: json(member.connection_info()),
        chan_info: json(member.channel_info()),
    }
}

fn name(member: &Member) -> String {
    uuid(u128::from_be_bytes(member.client))
}

fn json(text: &[u8]) -> Data<'_> {
    if text.is_empty() { Data::None } else { Data::Json(text) }
}
