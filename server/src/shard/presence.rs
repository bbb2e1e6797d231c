//! Presence: who is in a channel, and telling those who watch that somebody came or went.
//!
//! A client is a member from its subscribe on, in namespaces with `presence` or `join_leave`, or
//! where its token says so. Its
//! shard tells the channel's home on the lane of the join, right behind it, and tells it again when
//! the subscription ends, however it ends: `leave` is the one place where subscriptions end, and a
//! flag in the channel's list says that the home knows of this one. The home keeps the members
//! (`members`) and tells all interested shards; each writes a push once for each way of writing.
//!
//! Only the client protocol has members: other subscribers have no name to be shown by, and no way
//! to be told. Tested over real sockets by `tests/tests/it/presence.rs`.

use super::Shard;
use super::channels::{Entry, Phase};
use super::client::membership;
use super::connection::{EndpointId, SubscriptionKey};
use super::format::Format;
use super::frames::{Mark, Stretch};
use super::home::Orderer;
use super::members::Entered;
use crate::mesh::{Ask, Deliver, Member, Place, Presence, ShardId};
use crate::metrics::DropReason;
use proto::centrifuge::write_push;
use proto::channel::ChannelName;
use smallvec::SmallVec;

impl Shard {
    /// A client's subscription gets joins and leaves.
    pub(super) fn watch(&mut self, endpoint: EndpointId, number: u16) {
        if let Some(entry) = self.entry_of(endpoint, number) {
            entry.set_watches();
        }
    }

    /// A client's subscription makes it a member of the channel, if it is not one yet.
    pub(super) fn enter(&mut self, at: Place, number: u16, member: Member) {
        let Some(key) = self.subscription_key(EndpointId::of(at), number) else { return };
        let Some(channel) = self.local.get(key.channel) else { return };
        let Some(entry) = channel.entries.get_mut(key.at as usize) else { return };
        if entry.is_member() || member.shown.is_nowhere() {
            return;
        }
        entry.set_member();
        let channel = channel.name.clone();
        self.ask(Ask::Enter { channel, at, member });
    }

    /// A member is shown with other texts from now on.
    pub(super) fn show_again(&mut self, at: Place, number: u16, member: Member) {
        let Some(key) = self.subscription_key(EndpointId::of(at), number) else { return };
        let Some(channel) = self.local.peek(key.channel) else { return };
        let channel = channel.name.clone();
        self.ask(Ask::Enter { channel, at, member });
    }

    /// A subscription is about to end.
    pub(super) fn exit(&mut self, endpoint: EndpointId, key: SubscriptionKey) {
        let Some(channel) = self.local.peek(key.channel) else { return };
        if !channel.entries.get(key.at as usize).is_some_and(Entry::is_member) {
            return;
        }
        let channel = channel.name.clone();
        if let Some(at) = self.place_of(endpoint) {
            self.ask(Ask::Exit { channel, at });
        }
    }

    fn subscription_key(&mut self, endpoint: EndpointId, number: u16) -> Option<SubscriptionKey> {
        self.subscriber_mut(endpoint)?.key_mut(number).copied()
    }

    pub(super) fn entry_of(&mut self, endpoint: EndpointId, number: u16) -> Option<&mut Entry> {
        let key = self.subscription_key(endpoint, number)?;
        self.local.get(key.channel)?.entries.get_mut(key.at as usize)
    }

    /// At home: a client is in a channel.
    pub(super) fn on_enter(
        &mut self,
        from: ShardId,
        channel: &ChannelName,
        at: Place,
        member: Member,
    ) {
        if self.home.find(channel.as_str()).is_none() {
            // Its join was refused.
            return;
        }
        match self.members.enter(channel, (from, at), member.clone()) {
            Entered::New => self.announce(channel, true, &member),
            Entered::Known => {}
            Entered::Full => self.stats.dropped(DropReason::PresenceFull, 1),
        }
    }

    /// At home: a client is not in a channel any more.
    pub(super) fn on_exit(&mut self, from: ShardId, channel: &ChannelName, at: Place) {
        if let Some(member) = self.members.exit(channel, (from, at)) {
            self.announce(channel, false, &member);
        }
    }

    /// At home: tells every interested shard, once each.
    fn announce(&mut self, channel: &ChannelName, joined: bool, member: &Member) {
        if !member.shown.told {
            return;
        }
        let found = self.home.find(channel.as_str());
        let mut interest = found.map_or(0, |index| self.home.interest(index));
        while interest != 0 {
            let shard = ShardId(interest.trailing_zeros() as u16);
            interest &= interest - 1;
            let (channel, member) = (channel.clone(), member.clone());
            self.mesh.deliver(shard, Deliver::Membership { channel, joined, member });
        }
    }

    /// At home: who is in a channel, or how many.
    pub(super) fn presence(&mut self, channel: &ChannelName, counts: bool) -> Presence {
        if counts {
            return self.members.counts(channel);
        }
        self.members.list(channel, self.settings.limits.message_bytes_max as usize)
    }

    /// Somebody came or went: one push for those who watch, written once for each way of writing.
    pub(super) fn on_membership(&mut self, channel: &ChannelName, joined: bool, member: &Member) {
        let Some(index) = self.local.find(channel.as_str()) else { return };
        let count = self.local.peek(index).map_or(0, |local| local.entries.len());
        let mut pushes: SmallVec<[(Format, Stretch); 2]> = SmallVec::new();
        for at in 0..count {
            let entries = self.local.peek(index).map_or(&[][..], |local| &local.entries);
            // One that still joins has not heard that it is subscribed.
            let Some(Entry { endpoint, format, .. }) = entries
                .get(at)
                .copied()
                .filter(|entry| entry.watches() && entry.phase() != Phase::Joining)
            else {
                continue;
            };
            let format = format.of_message();
            let known = pushes.iter().find(|(known, _)| *known == format);
            let push = match known {
                Some((_, push)) => *push,
                None => {
                    let push = membership(channel, joined, member);
                    let frame = format.message(|out| write_push(out, format.encoding(), &push));
                    let push = self.frames.add(frame, Mark::Control);
                    pushes.push((format, push));
                    push
                }
            };
            self.gather(endpoint, push);
        }
    }
}
