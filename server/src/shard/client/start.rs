//! How a subscription starts: from where, with which of the protocol's promises.
//!
//! The namespace says what a client gets that comes back (`recovery_mode`), its token may take that
//! away. In cache mode the newest event stands for all that was missed; a client that holds it gets
//! nothing.

use super::{Client, Extra, Sub};
use crate::auth::Overrides;
use crate::config::namespace::RecoveryMode;
use crate::mesh::{Continuity, Since};
use crate::shard::Shard;
use proto::centrifuge::SubscribeRequest;
use proto::channel::ChannelName;
use proto::position::{Epoch, Position};

/// Where a subscription starts.
pub(super) struct Start {
    pub(super) since: Since,
    /// The offset that the client wants to go on from.
    pub(super) recover: Option<u64>,
    unrecoverable: bool,
    unpositioned: bool,
}

/// A subscription about to begin.
pub(super) struct NewSub<'a> {
    pub(super) channel: &'a ChannelName,
    /// The command to answer; 0 for none.
    pub(super) command: u32,
    pub(super) strict: bool,
    pub(super) delta: bool,
    pub(super) extra: Extra,
}

/// One that stands at the channel's newest event already: its channel, and where.
pub(super) type Attached = Option<(u32, Position, Continuity)>;

impl Shard {
    /// Where a subscription starts. `snapshot`: one that recovers nothing wants the newest event.
    pub(super) fn start_of(
        &self,
        channel: &ChannelName,
        request: &SubscribeRequest<'_>,
        overrides: Overrides,
        snapshot: bool,
    ) -> Start {
        let mode = self.settings.namespace(channel.as_str()).recovery_mode;
        let forced = overrides.force_recovery.unwrap_or(true) || request.recoverable;
        let recoverable = mode != RecoveryMode::Off && forced;
        let positioned =
            recoverable || overrides.force_positioning.unwrap_or(true) || request.positioned;
        let recover = request.recover && recoverable;
        let asked = if recover { since(request) } else { Since::Now };
        let since = match asked {
            Since::Now if snapshot => Since::Newest,
            Since::Now => Since::Now,
            Since::After(position) if mode == RecoveryMode::Cache => Since::NewestAfter(position),
            _ if mode == RecoveryMode::Cache => Since::Newest,
            since => since,
        };
        Start {
            since,
            recover: recover.then_some(request.offset),
            unrecoverable: !recoverable,
            unpositioned: !positioned,
        }
    }

    /// Adds a subscription to a client and asks for what it needs. `None`: its connection is gone.
    pub(super) fn start_sub(
        &mut self,
        client: &mut Client,
        new: NewSub<'_>,
        start: Start,
    ) -> Option<(u16, Attached)> {
        let endpoint = client.endpoint();
        let number = self.subscriber_mut(endpoint)?.claim();
        let mut format = client.format();
        if new.delta {
            format = format.delta();
        } else if new.extra.filter.is_some() {
            format = format.filtered();
        }
        let Start { since, recover, unrecoverable, unpositioned } = start;
        let extra = Extra { unrecoverable, unpositioned, ..new.extra };
        if extra.expires_at_s.is_some() {
            self.look_soon(client.outlet.at.conn);
        }
        client.subs.push(Sub {
            number,
            recover,
            strict: new.strict,
            command: new.command,
            delta: new.delta,
            extra: extra.boxed(),
        });
        Some((number, self.join(endpoint, number, new.channel, since, format)))
    }
}

/// Where a client wants to go on. Any epoch will do where none is said; one that is not ours never
/// recovers.
fn since(request: &SubscribeRequest<'_>) -> Since {
    if request.epoch.is_empty() {
        return Since::Offset(request.offset);
    }
    request
        .epoch
        .parse::<Epoch>()
        .map_or(Since::Unknown, |epoch| Since::After(Position { epoch, offset: request.offset }))
}
