//! History for clients, from the home shard's memory.

use super::subscriptions::publication;
use super::{Client, Refusal};
use crate::auth::Action;
use crate::mesh::{Ask, Continuity, Place, Select, Since};
use crate::shard::Shard;
use crate::shard::connection::EndpointId;
use crate::shard::http::route::READ_LIMIT_MAX;
use crate::shard::publish::Asker;
use crate::shard::session_ws::After;
use proto::centrifuge::{ErrorCode, HistoryRequest, HistoryResult, ReplyBody};
use proto::channel::ChannelName;
use proto::event::Event;
use proto::position::{Epoch, Position};

impl Shard {
    pub(super) fn client_history(
        &mut self,
        client: &mut Client,
        id: u32,
        request: &HistoryRequest<'_>,
    ) -> Result<After, Refusal> {
        let channel = ChannelName::new(&request.channel).map_err(|_| ErrorCode::BadRequest)?;
        self.client_may(client, &channel, Action::History)?;
        if self.reads.is_full() {
            return Err(ErrorCode::TooManyRequests.into());
        }
        let since = match &request.since {
            None => Since::Now,
            Some(since) if since.epoch.is_empty() => Since::Offset(since.offset),
            Some(since) => {
                let epoch: Epoch =
                    since.epoch.parse().map_err(|_| ErrorCode::UnrecoverablePosition)?;
                Since::After(Position { epoch, offset: since.offset })
            }
        };
        Self::pend(client)?;
        // Below 0: all there is, within what one answer may hold.
        let limit =
            u32::try_from(request.limit).map_or(READ_LIMIT_MAX, |it| it.clamp(1, READ_LIMIT_MAX));
        let select = if request.reverse { Select::Newest } else { Select::Oldest };
        let ticket = self.reads.wait(Asker::Client(client.outlet.at, id), request.limit == 0);
        self.ask(Ask::Read { channel, ticket, since, select, limit });
        Ok(After::GoOn)
    }

    /// The home shard's answer to a client's history.
    pub(in crate::shard) fn answered_history(
        &mut self,
        at: Place,
        id: u32,
        top: Option<Position>,
        continuity: Continuity,
        events: &[Event],
    ) {
        let Some(client) = self.client_mut(at) else { return };
        client.pending -= 1;
        let to = client.outlet;
        // Pages are long and quickly asked for: whoever does not take them gets no more.
        let budget = self.settings.limits.outbox_bytes_max as usize;
        if self.queued_bytes(EndpointId::of(at)) > budget {
            return self.reply_error(to, id, ErrorCode::TooManyRequests);
        }
        if matches!(continuity, Continuity::Gap(_)) {
            return self.reply_error(to, id, ErrorCode::UnrecoverablePosition);
        }
        let result = HistoryResult {
            publications: events.iter().map(publication).collect(),
            epoch: top.map(|top| top.epoch.to_string()).unwrap_or_default().into(),
            offset: top.map_or(0, |top| top.offset),
        };
        self.reply(to, id, ReplyBody::History(result));
    }
}
