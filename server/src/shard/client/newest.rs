//! The RPC `snapshot`: the newest event of channels that a client subscribes to, once more, for one
//! whose page was in the background. The call is answered at once; the events follow as
//! publications of their channels, in order with what else comes there, and count in the outbox
//! like those.

use super::{Client, Refusal};
use crate::mesh::{Ask, Select, Since, SubscriptionToken};
use crate::shard::Shard;
use crate::shard::channels::Phase;
use crate::shard::session_ws::After;
use proto::centrifuge::{Data, ErrorCode, ReplyBody, RpcResult, SnapshotRequest};
use proto::event::Event;

impl Shard {
    pub(super) fn client_snapshot(
        &mut self,
        client: &mut Client,
        id: u32,
        data: Data<'_>,
    ) -> Result<After, Refusal> {
        let channels_max = usize::from(self.settings.limits.channels_per_connection_max);
        let request =
            SnapshotRequest::parse(data, channels_max).map_err(|_| ErrorCode::BadRequest)?;
        let mut numbers = Vec::new();
        for channel in &request.channels {
            let at = self.client_sub(client, channel).ok_or(ErrorCode::PermissionDenied)?;
            numbers.push(client.subs[at].number);
        }
        if request.channels.is_empty() {
            numbers.extend(client.subs.iter().map(|sub| sub.number));
        }
        if !self.reads.has_room_for(numbers.len()) {
            return Err(ErrorCode::TooManyRequests.into());
        }
        self.reply(client.outlet, id, ReplyBody::Rpc(RpcResult::default()));
        for index in numbers {
            let at = client.outlet.at;
            let token = SubscriptionToken { conn: at.conn, stream: at.stream, index };
            let Some((_, key)) = self.key_of(token) else { continue };
            let Some(channel) = self.local.peek(key.channel) else { continue };
            let channel = channel.name.clone();
            let ticket = self.reads.wait_for_newest(token);
            let (since, select) = (Since::Now, Select::Newest);
            self.ask(Ask::Read { channel, ticket, since, select, limit: 1 });
        }
        Ok(After::GoOn)
    }

    /// The home shard's answer: the newest event, if there is one in memory.
    pub(in crate::shard) fn answered_newest(&mut self, token: SubscriptionToken, events: &[Event]) {
        let Some((endpoint, key)) = self.key_of(token) else { return };
        let Some(channel) = self.local.peek(key.channel) else { return };
        let Some(entry) = channel.entries.get(key.at as usize).copied() else { return };
        // One that is not live yet is about to get it.
        if entry.phase() != Phase::Live || events.iter().any(|it| it.offset() >= entry.next) {
            return;
        }
        let passing = self.passing(endpoint, token.index, events);
        let events = passing.as_deref().unwrap_or(events);
        if events.is_empty() {
            return;
        }
        let format = entry.format.unfiltered().based(false).uncompressed();
        let stretch = self.frames.encode(format, events, None, key.channel);
        self.gather(endpoint, stretch);
        self.stats.counters.messages_sent += events.len() as u64;
    }
}
