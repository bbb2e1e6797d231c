//! `history`: from the home shard's memory, as clients get it; and `history_remove`, which empties
//! that. What is stored stays stored, and positions go on.

use super::request::{self, History, OfChannel};
use super::{CallSlot, Fault, Method};
use crate::auth::{Action, allows};
use crate::mesh::{Ask, Continuity, Select, Since};
use crate::shard::Shard;
use crate::shard::access::denial;
use crate::shard::client::publication;
use crate::shard::http::route::READ_LIMIT_MAX;
use crate::shard::publish::Asker;
use proto::centrifuge::{ErrorCode, write_publication};
use proto::channel::ChannelName;
use proto::event::Event;
use proto::position::{Epoch, Position};

impl Shard {
    /// Whether a call may do something in a channel.
    pub(super) fn call_may(
        &mut self,
        slot: CallSlot,
        channel: &ChannelName,
        action: Action,
    ) -> Result<(), Fault> {
        let namespace = self.settings.namespace(channel.as_str());
        let caller = self.calls.caller(slot);
        allows(&caller, namespace, channel.as_str(), action).map_err(|denied| {
            let name = self.settings.namespace_name(channel.as_str());
            self.stats.counters.auth_forbidden += 1;
            Fault::new(ErrorCode::PermissionDenied, denial(denied, name, action))
        })
    }

    pub(super) fn call_history(&mut self, slot: CallSlot, body: &[u8]) -> Result<(), Fault> {
        let request: History<'_> = request::parse(Method::History, body)?;
        let channel = ChannelName::new(&request.channel).map_err(|e| Fault::bad(e.to_string()))?;
        self.call_may(slot, &channel, Action::History)?;
        if self.reads.is_full() {
            return Err(Fault::busy());
        }
        let since = match &request.since {
            None => Since::Now,
            Some(since) if since.epoch.is_empty() => Since::Offset(since.offset),
            Some(since) => {
                let epoch: Epoch = since.epoch.parse().map_err(|_| unrecoverable())?;
                Since::After(Position { epoch, offset: since.offset })
            }
        };
        let limit = request.limit.unwrap_or(0);
        // Below 0: all there is, within what one answer may hold.
        let most = u32::try_from(limit).map_or(READ_LIMIT_MAX, |it| it.clamp(1, READ_LIMIT_MAX));
        let reverse = request.reverse.unwrap_or(false);
        let select = if reverse { Select::Newest } else { Select::Oldest };
        let ticket = self.reads.wait(Asker::Api(slot), limit == 0);
        self.ask(Ask::Read { channel, ticket, since, select, limit: most });
        Ok(())
    }

    pub(super) fn call_history_remove(&mut self, slot: CallSlot, body: &[u8]) -> Result<(), Fault> {
        let request: OfChannel<'_> = request::parse(Method::HistoryRemove, body)?;
        let channel = ChannelName::new(&request.channel).map_err(|e| Fault::bad(e.to_string()))?;
        if self.reads.is_full() {
            return Err(Fault::busy());
        }
        let ticket = self.reads.wait(Asker::Api(slot), true);
        self.ask(Ask::Forget { channel, ticket });
        Ok(())
    }

    /// The home shard's answer.
    pub(in crate::shard) fn answered_call_history(
        &mut self,
        slot: CallSlot,
        top: Option<Position>,
        continuity: Continuity,
        events: &[Event],
    ) {
        if self.calls.command(slot).is_some_and(|it| it.method == Method::HistoryRemove) {
            return self.reply_call(slot, Ok(b"{}".to_vec()));
        }
        if matches!(continuity, Continuity::Gap(_)) {
            return self.reply_call(slot, Err(unrecoverable()));
        }
        let mut out = Vec::with_capacity(64 + events.iter().map(Event::size).sum::<usize>());
        out.extend_from_slice(b"{\"publications\":[");
        for (at, event) in events.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            write_publication(&mut out, &publication(event));
        }
        let epoch = top.map(|top| top.epoch.to_string()).unwrap_or_default();
        let offset = top.map_or(0, |top| top.offset);
        out.extend_from_slice(format!("],\"offset\":{offset},\"epoch\":\"{epoch}\"}}").as_bytes());
        self.reply_call(slot, Ok(out));
    }
}

fn unrecoverable() -> Fault {
    let message = "nothing in memory goes on from `since`: begin without it, or read the store";
    Fault::new(ErrorCode::UnrecoverablePosition, message)
}
