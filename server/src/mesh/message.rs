//! What travels on the lanes. Plain data only: everything here crosses threads.

use super::{Member, Presence, ShardId};
use crate::driver::ConnId;
use crate::shard::api::survey::{Survey, Tally};
use crate::shard::client::{Emulated, SessionName};
use bytes::Bytes;
use proto::channel::ChannelName;
pub use proto::envelope::GapReason;
use proto::event::{Event, Unplaced};
use proto::position::{Epoch, Position};
use std::sync::Arc;

/// Most events in one publish batch.
pub const BATCH_EVENTS_MAX: usize = 256;
/// Bytes after which a publish batch is closed; one event of any legal size still fits alone.
pub const BATCH_BYTES_MAX: usize = 64 << 10;
/// Bytes of history in one page of a resume; one event of any legal size still fits alone.
pub const PAGE_BYTES_MAX: usize = 256 << 10;

/// When a publisher wants its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AckMode {
    /// Ordered in memory.
    #[default]
    Accepted,
    /// Synced in the spool.
    Durable,
    /// Confirmed by the primary store.
    Stored,
}

/// Events of one request for channels of one home shard, in the order of the body.
#[derive(Debug)]
pub struct PublishBatch {
    /// The ingress shard's slot; comes back in the answer.
    pub slot: u32,
    /// When to answer.
    pub ack: AckMode,
    /// The events.
    pub items: Vec<Unplaced>,
    /// Their channels.
    pub channels: BatchChannels,
}

/// The distinct channels of a batch and, per item, which it is. They travel to the home shard and
/// come back with the answer, so that a name is checked, hashed and copied once for each batch.
#[derive(Debug, Default)]
pub struct BatchChannels {
    channels: Vec<BatchChannel>,
    of: Vec<u16>,
}

/// One of them.
#[derive(Debug)]
pub struct BatchChannel {
    /// Its name.
    pub name: ChannelName,
    /// Items of the batch that go to it.
    pub items: u32,
    /// Bytes of their images.
    pub bytes: usize,
}

impl BatchChannels {
    /// Every channel, in the order of their first items.
    pub fn all(&self) -> &[BatchChannel] {
        &self.channels
    }

    /// Per item of the batch, an index into [`Self::all`].
    pub fn of(&self) -> &[u16] {
        &self.of
    }

    /// True if the channel at an index has this name.
    pub fn is(&self, index: u16, name: &[u8]) -> bool {
        let known = self.channels.get(usize::from(index));
        known.is_some_and(|known| known.name.as_str().as_bytes() == name)
    }

    /// The index of a channel, which is added if it is new. `name` is legal.
    pub fn enter(&mut self, name: &str) -> u16 {
        let found = self.channels.iter().position(|known| known.name.as_str() == name);
        let index = found.unwrap_or_else(|| {
            let name = ChannelName::new(name).expect("decoders check the name");
            self.channels.push(BatchChannel { name, items: 0, bytes: 0 });
            self.channels.len() - 1
        });
        u16::try_from(index).expect("a batch has at most 256 items")
    }

    /// The next item of the batch goes to the channel at this index.
    pub fn push(&mut self, index: u16, bytes: usize) {
        let channel = &mut self.channels[usize::from(index)];
        channel.items += 1;
        channel.bytes += bytes;
        self.of.push(index);
    }
}

/// Why the home shard refused one event of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HomeRefusal {
    /// The limit on channels is reached.
    ChannelsFull,
    /// The spool cannot take events now (disk full, failed sync).
    StorageFull,
    /// It has a position, but storing failed before it was synced.
    NotSynced,
}

/// What became of one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It has this position now.
    Placed(Position),
    /// An earlier event with the same id has this position.
    Duplicate(Position),
    /// It was not taken.
    Refused(HomeRefusal),
}

/// The answer to one publish batch.
#[derive(Debug)]
pub struct Answer {
    /// The slot of the batch.
    pub slot: u32,
    /// One per item, in order.
    pub outcomes: Vec<Outcome>,
    /// The channels of the batch.
    pub channels: BatchChannels,
    /// The store batch of this home shard that `ack=stored` waits for; 0: what earlier runs left.
    pub store_seq: Option<u64>,
}

/// Names an endpoint on its shard: a connection, or a stream on it. Stale names are ignored there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The connection.
    pub conn: ConnId,
    /// The HTTP/2 stream (see `shard::streams`), or 0.
    pub stream: u64,
}

impl Place {
    /// A connection's own.
    pub fn connection(conn: ConnId) -> Self {
        Self { conn, stream: 0 }
    }
}

/// Names a subscription on its shard. Stale names are ignored there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SubscriptionToken {
    /// The connection.
    pub conn: ConnId,
    /// The HTTP/2 stream (see `shard::streams`), or 0.
    pub stream: u64,
    /// Which of the endpoint's channels.
    pub index: u16,
}

impl SubscriptionToken {
    /// Whose it is.
    pub fn place(self) -> Place {
        Place { conn: self.conn, stream: self.stream }
    }
}

/// Where a subscriber wants to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// Live events only.
    Now,
    /// After this position.
    After(Position),
    /// After this offset, under whatever epoch the channel has.
    Offset(u64),
    /// A value that is not a position: a gap `unknown`, then everything retained.
    Unknown,
    /// The newest event, if it is retained, and live from there.
    Newest,
    /// The same, unless that is at this position: then nothing is missing.
    NewestAfter(Position),
}

/// Which events of a history a polling request wants first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Select {
    /// The oldest ones after its start, in order.
    Oldest,
    /// The newest ones, before its start if it has one, the newest first.
    Newest,
}

/// What a shard asks of a channel's home shard, of every shard, or of a client's.
#[derive(Debug)]
pub enum Ask {
    /// A subscription joins; from now on the shard is interested.
    Join { channel: ChannelName, token: SubscriptionToken, since: Since, bytes_max: u32 },
    /// The next page of a subscription that is catching up.
    Page {
        channel: ChannelName,
        token: SubscriptionToken,
        epoch: Epoch,
        after: u64,
        bytes_max: u32,
    },
    /// The last subscription of the shard left.
    Leave { channel: ChannelName },
    /// A polling request: at most `limit` events, but at least one if there is one.
    Read { channel: ChannelName, ticket: u64, since: Since, select: Select, limit: u32 },
    /// A client is in the channel. Follows its join, so the shard is interested.
    Enter { channel: ChannelName, at: Place, member: Member },
    /// It is not any more.
    Exit { channel: ChannelName, at: Place },
    /// Who is in the channel, or only how many.
    Presence { channel: ChannelName, ticket: u64, counts: bool },
    /// What memory holds of its history is forgotten; answered like a read of nothing.
    Forget { channel: ChannelName, ticket: u64 },
    /// What concerns every shard.
    Survey { ticket: u64, survey: Arc<Survey> },
    /// Commands for a client of that shard.
    Emulate { ticket: u64, name: SessionName, commands: Bytes },
}

impl Ask {
    /// The channel it is about, if it is about one.
    pub fn channel(&self) -> Option<&ChannelName> {
        match self {
            Self::Join { channel, .. }
            | Self::Page { channel, .. }
            | Self::Leave { channel }
            | Self::Read { channel, .. }
            | Self::Enter { channel, .. }
            | Self::Exit { channel, .. }
            | Self::Presence { channel, .. }
            | Self::Forget { channel, .. } => Some(channel),
            Self::Survey { .. } | Self::Emulate { .. } => None,
        }
    }
}

/// How a resume went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Continuity {
    /// Nothing was asked for: live from here.
    Live,
    /// Every event after the asked position was found.
    Recovered,
    /// A gap, then everything retained.
    Gap(GapReason),
}

/// What a home shard sends to an interested shard. Lane order is position order.
#[derive(Debug)]
pub enum Deliver {
    /// New events, in order for each channel.
    Events(Vec<Event>),
    /// The answer to a join.
    Joined {
        channel: ChannelName,
        token: SubscriptionToken,
        /// The channel's newest event when the join was handled (offset 0: none yet).
        top: Position,
        continuity: Continuity,
        /// The first page of history.
        events: Vec<Event>,
        /// True if more pages follow; the last event says where to go on.
        more: bool,
    },
    /// A further page.
    Page {
        channel: ChannelName,
        token: SubscriptionToken,
        /// False if what was asked for is no longer retained: the subscription is closed.
        found: bool,
        top: Position,
        events: Vec<Event>,
        more: bool,
    },
    /// The answer to a polling request.
    Read {
        ticket: u64,
        /// `None`: no such channel.
        top: Option<Position>,
        continuity: Continuity,
        events: Vec<Event>,
        more: bool,
    },
    /// The answer to a survey.
    Tally { ticket: u64, tally: Box<Tally> },
    /// The channel could not be created: the limit on channels is reached.
    JoinRefused { channel: ChannelName, token: SubscriptionToken },
    /// Somebody is in the channel from now on, or is not any more.
    Membership { channel: ChannelName, joined: bool, member: Member },
    /// The answer to a question for the channel's members.
    Presence { ticket: u64, presence: Presence },
    /// What became of commands.
    Emulated { ticket: u64, outcome: Emulated },
}

/// A connection handed from the shard that accepted it to one that holds fewer.
#[derive(Debug)]
pub struct HandOver {
    /// The descriptor; nothing was read from it.
    pub socket: std::os::fd::OwnedFd,
    /// Which listener it came from.
    pub listener: usize,
    /// Who handed it on.
    pub from: ShardId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_of_a_batch_finds_its_channel_again() {
        let mut channels = BatchChannels::default();
        let names: Vec<String> = (0..256).map(|item| format!("c{}", item * 7 % 40)).collect();
        for name in &names {
            let index = channels.enter(name);
            assert!(channels.is(index, name.as_bytes()));
            assert!(!channels.is(index, b"other") && !channels.is(99, name.as_bytes()));
            channels.push(index, name.len());
        }
        let found = channels.of().iter().map(|index| &channels.all()[usize::from(*index)]);
        assert!(found.zip(&names).all(|(found, name)| found.name.as_str() == name));
        assert_eq!(channels.all().len(), 40);
        assert_eq!(channels.all().iter().map(|channel| channel.items).sum::<u32>(), 256);
        let bytes = channels.all().iter().map(|channel| channel.bytes).sum::<usize>();
        assert_eq!(bytes, names.iter().map(String::len).sum::<usize>());
    }
}
