//! Who is in a channel, as it travels between shards: what presence, joins and leaves say.

use std::sync::Arc;

/// What a connection's token says of its user.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// The user; empty if anonymous.
    pub user: Box<str>,
    /// JSON to show to others, or empty.
    pub info: Box<[u8]>,
}

/// In what a member shows up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shown {
    /// In lists and counts.
    pub listed: bool,
    /// In joins and leaves.
    pub told: bool,
}

impl Shown {
    /// Nowhere: it is no member.
    pub fn is_nowhere(self) -> bool {
        !self.listed && !self.told
    }
}

/// One client of the client protocol in one channel.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Member {
    /// The connection's id, a UUID.
    pub client: [u8; 16],
    /// Its user; `None` if anonymous.
    pub identity: Option<Arc<Identity>>,
    /// JSON that the subscription's token brings for others to see.
    pub channel_info: Option<Arc<[u8]>>,
    /// The namespace's word, or the token's.
    pub shown: Shown,
}

impl Member {
    /// The user; empty if anonymous.
    pub fn user(&self) -> &str {
        self.identity.as_ref().map_or("", |identity| &identity.user)
    }

    /// The connection's info, JSON or empty.
    pub fn connection_info(&self) -> &[u8] {
        self.identity.as_ref().map_or(&[], |identity| &identity.info)
    }

    /// The subscription's info, JSON or empty.
    pub fn channel_info(&self) -> &[u8] {
        self.channel_info.as_deref().unwrap_or_default()
    }

    /// Bytes of all that is said of it beside its id.
    pub fn text_bytes(&self) -> usize {
        self.user().len() + self.connection_info().len() + self.channel_info().len()
    }
}

/// The answer to a question for a channel's members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// All who are listed.
    Members(Arc<[Member]>),
    /// They do not fit in one answer.
    TooMany,
    /// How many are listed.
    Counts {
        /// Connections.
        clients: u32,
        /// Different users; all the anonymous are one.
        users: u32,
    },
}
