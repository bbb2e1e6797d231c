//! The members of the channels at home here: which clients of the client protocol are in them.
//!
//! A client is known by its shard and place there, so that it leaves even where nothing else is
//! left of it. Invariants: a client is in a channel at most once; a channel is here exactly while
//! it has a member; `bytes` and `users` follow from the members.
//!
//! Bounded: members of one channel, and bytes of all of them. Over either bound a client is not
//! listed and nobody hears that it joined; so it does not leave, either. Deliberately absent: who
//! is told (`presence`). Lives on its shard's thread.

use crate::mesh::{Member, Place, Presence, ShardId};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use proto::channel::ChannelName;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A member's place in the tree (half full at worst), in the list that is given out, and its user's
/// place in the count; its texts are on top.
const MEMBER_BYTES: usize = 256;

/// A channel without its members.
const CHANNEL_BYTES: usize = 256;

/// What an answer says of a member beside its texts: its id twice, and the names of the fields.
const ANSWER_BYTES: usize = 144;

/// Whose member it is.
pub type MemberKey = (ShardId, Place);

/// What became of a client that entered.
#[derive(Debug, PartialEq, Eq)]
pub enum Entered {
    /// It is listed.
    New,
    /// It was there already.
    Known,
    /// It is not listed: the channel, or the table, is full.
    Full,
}

/// See the module.
pub struct Members {
    channels: HashMap<ChannelName, Channel, FixedState>,
    members_max: usize,
    bytes_max: usize,
    bytes: usize,
}

#[derive(Default)]
struct Channel {
    /// In a fixed order, so that the same questions get the same answers.
    members: BTreeMap<MemberKey, Member>,
    /// How many of them are in lists and counts; the others are only told of.
    listed_count: u32,
    /// Listed members by user.
    users: BTreeMap<Box<str>, u32>,
    /// What an answer with all of them takes, about.
    answer_bytes: usize,
    /// What was given out, until somebody comes or goes.
    listed: Option<Arc<[Member]>>,
}

impl Members {
    /// No channel has members; `seed` keys the hash, since clients choose the names.
    pub fn new(seed: u64, members_max: u32, bytes_max: usize) -> Self {
        let channels = HashMap::with_hasher(FixedState::with_seed(seed));
        Self { channels, members_max: members_max as usize, bytes_max, bytes: 0 }
    }

    /// A client is in a channel from now on, or is shown with other texts if it was before.
    pub fn enter(&mut self, channel: &ChannelName, key: MemberKey, member: Member) -> Entered {
        let known = self.channels.get(channel);
        if let Some(held) = known.and_then(|channel| channel.members.get(&key)) {
            let shown = held.shown;
            self.replace(channel, key, Member { shown, ..member });
            return Entered::Known;
        }
        let more = known.map_or(CHANNEL_BYTES, |_| 0) + member_bytes(&member);
        let members = known.map_or(0, |channel| channel.members.len());
        if members >= self.members_max || self.bytes + more > self.bytes_max {
            return Entered::Full;
        }
        self.bytes += more;
        let channel = self.channels.entry(channel.clone()).or_default();
        if member.shown.listed {
            channel.list(&member);
        }
        channel.members.insert(key, member);
        Entered::New
    }

    /// Shows a member with other texts; with the old ones if there is no room.
    fn replace(&mut self, name: &ChannelName, key: MemberKey, member: Member) {
        let Some(channel) = self.channels.get_mut(name) else { return };
        let Some(held) = channel.members.get_mut(&key) else { return };
        let bytes = self.bytes - member_bytes(held) + member_bytes(&member);
        if *held == member || bytes > self.bytes_max {
            return;
        }
        self.bytes = bytes;
        let listed = member.shown.listed;
        let old = std::mem::replace(held, member.clone());
        if listed {
            channel.unlist(&old);
            channel.list(&member);
        }
    }

    /// A client is not in a channel any more. What it was, if it was listed.
    pub fn exit(&mut self, name: &ChannelName, key: MemberKey) -> Option<Member> {
        let channel = self.channels.get_mut(name)?;
        let member = channel.members.remove(&key)?;
        if member.shown.listed {
            channel.unlist(&member);
        }
        self.bytes -= member_bytes(&member);
        if channel.members.is_empty() {
            self.bytes -= CHANNEL_BYTES;
            self.channels.remove(name);
            if self.channels.len() * 4 < self.channels.capacity() {
                self.channels.shrink_to(self.channels.len() * 2);
            }
        }
        Some(member)
    }

    /// The members of a channel, unless an answer with all of them would have more bytes.
    pub fn list(&mut self, channel: &ChannelName, bytes_max: usize) -> Presence {
        let Some(channel) = self.channels.get_mut(channel) else {
            return Presence::Members(Arc::default());
        };
        if channel.answer_bytes > bytes_max {
            return Presence::TooMany;
        }
        let members = &channel.members;
        let listed = channel.listed.get_or_insert_with(|| {
            members.values().filter(|member| member.shown.listed).cloned().collect()
        });
        Presence::Members(Arc::clone(listed))
    }

    /// How many members a channel has.
    pub fn counts(&self, channel: &ChannelName) -> Presence {
        let (clients, users) = self
            .channels
            .get(channel)
            .map_or((0, 0), |channel| (channel.listed_count, channel.users.len()));
        Presence::Counts { clients, users: users as u32 }
    }

    /// Bytes held, for the ledger.
    pub fn memory_bytes(&self) -> usize {
        self.bytes
    }
}

impl Channel {
    fn list(&mut self, member: &Member) {
        self.listed = None;
        self.listed_count += 1;
        self.answer_bytes += ANSWER_BYTES + member.text_bytes();
        match self.users.get_mut(member.user()) {
            Some(count) => *count += 1,
            None => {
                self.users.insert(member.user().into(), 1);
            }
        }
    }

    fn unlist(&mut self, member: &Member) {
        self.listed = None;
        self.listed_count -= 1;
        self.answer_bytes -= ANSWER_BYTES + member.text_bytes();
        if let Some(count) = self.users.get_mut(member.user()) {
            *count -= 1;
            if *count == 0 {
                self.users.remove(member.user());
            }
        }
    }
}

/// What a member is charged. The user's name is here twice: in it and in the count.
fn member_bytes(member: &Member) -> usize {
    MEMBER_BYTES + member.text_bytes() + member.user().len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::ConnId;
    use crate::mesh::{Identity, Shown};

    fn key(slot: u32) -> MemberKey {
        (ShardId(0), Place::connection(ConnId { slot, generation: 1 }))
    }

    fn member(client: u8, user: &str) -> Member {
        let identity = Identity { user: user.into(), info: Box::default() };
        let identity = (!user.is_empty()).then(|| Arc::new(identity));
        let shown = Shown { listed: true, told: true };
        Member { client: [client; 16], identity, channel_info: None, shown }
    }

    fn name(name: &str) -> ChannelName {
        ChannelName::new(name).unwrap()
    }

    fn counts(members: &Members, channel: &str) -> (u32, u32) {
        match members.counts(&name(channel)) {
            Presence::Counts { clients, users } => (clients, users),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn clients_and_users_are_counted_apart_and_everything_is_given_back() {
        let mut members = Members::new(1, 10, 1 << 20);
        let a = name("a");
        for (slot, user) in [(1, "x"), (2, "x"), (3, "y"), (4, ""), (5, "")] {
            assert_eq!(members.enter(&a, key(slot), member(slot as u8, user)), Entered::New);
        }
        assert_eq!(members.enter(&a, key(1), member(1, "x")), Entered::Known);
        assert_eq!(members.enter(&name("b"), key(1), member(1, "x")), Entered::New);
        assert_eq!((counts(&members, "a"), counts(&members, "b")), ((5, 3), (1, 1)));
        assert_eq!(members.exit(&a, key(1)), Some(member(1, "x")));
        assert_eq!(members.exit(&a, key(1)), None);
        assert_eq!(counts(&members, "a"), (4, 3));
        members.exit(&a, key(2));
        assert_eq!(counts(&members, "a"), (3, 2));
        // The slot's next connection is somebody else.
        let next = (ShardId(0), Place::connection(ConnId { slot: 3, generation: 2 }));
        assert_eq!(members.exit(&a, next), None);
        (3..=5).for_each(|slot| drop(members.exit(&a, key(slot)).expect("listed")));
        assert_eq!(counts(&members, "a"), (0, 0));
        members.exit(&name("b"), key(1));
        assert_eq!((members.memory_bytes(), members.channels.len()), (0, 0));
    }

    #[test]
    fn one_that_was_there_is_shown_with_its_new_texts_if_there_is_room() {
        let mut members = Members::new(1, 10, 2 * (CHANNEL_BYTES + MEMBER_BYTES));
        let a = name("a");
        let says = |text: &[u8]| Member { channel_info: Some(text.into()), ..member(1, "x") };
        members.enter(&a, key(1), says(b"1"));
        let hidden = Member { shown: Shown { listed: false, told: false }, ..says(b"[1,2]") };
        assert_eq!(members.enter(&a, key(1), hidden), Entered::Known);
        assert_eq!(members.list(&a, 1 << 20), Presence::Members([says(b"[1,2]")].into()));
        let held = members.memory_bytes();
        assert_eq!(members.enter(&a, key(1), says(&[b'1'; 1 << 20])), Entered::Known);
        assert_eq!(members.memory_bytes(), held);
        assert_eq!(members.exit(&a, key(1)), Some(says(b"[1,2]")));
        assert_eq!((members.memory_bytes(), members.channels.len()), (0, 0));
    }

    #[test]
    fn one_that_is_only_told_of_is_in_no_list_and_no_count() {
        let mut members = Members::new(1, 10, 1 << 20);
        let a = name("a");
        let told = Member { shown: Shown { listed: false, told: true }, ..member(1, "x") };
        assert_eq!(members.enter(&a, key(1), told.clone()), Entered::New);
        assert_eq!(counts(&members, "a"), (0, 0));
        assert_eq!(members.list(&a, 0), Presence::Members(Arc::default()));
        members.enter(&a, key(2), member(2, "x"));
        assert_eq!(counts(&members, "a"), (1, 1));
        assert_eq!(members.exit(&a, key(1)), Some(told));
        assert_eq!(counts(&members, "a"), (1, 1));
        members.exit(&a, key(2));
        assert_eq!((members.memory_bytes(), members.channels.len()), (0, 0));
    }

    #[test]
    fn a_list_is_made_once_until_somebody_comes_or_goes_and_never_longer_than_asked_for() {
        let mut members = Members::new(1, 10, 1 << 20);
        let a = name("a");
        assert_eq!(members.list(&a, 0), Presence::Members(Arc::default()));
        members.enter(&a, key(2), member(2, "x"));
        members.enter(&a, key(1), member(1, ""));
        let list = |members: &mut Members| match members.list(&a, 2 * ANSWER_BYTES + 1) {
            Presence::Members(list) => list,
            other => panic!("{other:?}"),
        };
        let first = list(&mut members);
        assert_eq!(first[..], [member(1, ""), member(2, "x")]);
        assert!(Arc::ptr_eq(&first, &list(&mut members)));
        assert_eq!(members.list(&a, 2 * ANSWER_BYTES), Presence::TooMany);
        members.exit(&a, key(1));
        assert_eq!(list(&mut members)[..], [member(2, "x")]);
    }

    #[test]
    fn over_a_bound_nobody_is_listed_and_room_comes_back() {
        let mut members = Members::new(1, 2, 1 << 20);
        let a = name("a");
        members.enter(&a, key(1), member(1, ""));
        members.enter(&a, key(2), member(2, ""));
        assert_eq!(members.enter(&a, key(3), member(3, "")), Entered::Full);
        assert_eq!(members.enter(&name("b"), key(3), member(3, "")), Entered::New);
        assert_eq!(members.exit(&a, key(3)), None);
        members.exit(&a, key(1));
        assert_eq!(members.enter(&a, key(3), member(3, "")), Entered::New);

        let bytes_max = 2 * (CHANNEL_BYTES + MEMBER_BYTES) + 19;
        let mut members = Members::new(1, 1_000, bytes_max);
        assert_eq!(members.enter(&a, key(1), member(1, "")), Entered::New);
        // A name is charged twice.
        assert_eq!(members.enter(&name("b"), key(1), member(1, "0123456789")), Entered::Full);
        assert_eq!(members.enter(&name("b"), key(1), member(1, "012345678")), Entered::New);
        assert_eq!(members.enter(&a, key(2), member(2, "")), Entered::Full);
        assert!(members.memory_bytes() <= bytes_max);
        members.exit(&name("b"), key(1));
        assert_eq!(members.enter(&a, key(2), member(2, "")), Entered::New);
    }
}
