//! `history`: from the home shard's memory, as clients get it.

use super::request::{self, History};
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
    pub(super) fn call_history(&mut self, slot: CallSlot, body: &[u8]) -> Result<(), Fault> {
        let request: History<'_> = request::parse(Method::History, body)?;
        let channel = ChannelName::new(&request.channel).map_err(|e| Fault::bad(e.to_string()))?;
        let namespace = self.settings.namespace(channel.as_str());
        let caller = self.calls.caller(slot);
        if let Err(denied) = allows(&caller, namespace, channel.as_str(), Action::History) {
            let name = self.settings.namespace_name(channel.as_str());
            let message = denial(denied, name, Action::History);
            self.stats.counters.auth_forbidden += 1;
            return Err(Fault::new(ErrorCode::PermissionDenied, message));
        }
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

    /// The home shard's answer.
    pub(in crate::shard) fn answered_call_history(
        &mut self,
        slot: CallSlot,
        top: Option<Position>,
        continuity: Continuity,
        events: &[Event],
    ) {
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
