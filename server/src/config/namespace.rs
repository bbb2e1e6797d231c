//! What a namespace allows and promises. A channel belongs to the namespace before its first
//! colon, or to `default`.

use serde::{Deserialize, Serialize};

/// What happens when a subscriber's outbox is over its budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutboxPolicy {
    /// Close with a resumable reason.
    #[default]
    Disconnect,
    /// Drop the oldest waiting events and put a notice where they were. Raw WebSocket cannot carry
    /// a notice and is closed instead.
    DropOldest,
}

/// When subscribers see an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deliver {
    /// As soon as it is ordered.
    #[default]
    Live,
    /// Only once it is synced in the spool.
    Durable,
}

/// What a client of the client protocol gets when it comes back, or first comes with a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecoveryMode {
    /// All that it missed.
    #[default]
    Stream,
    /// The newest event.
    Cache,
    /// Nothing: it goes on with what comes, and a hole in that is still found.
    Off,
}

/// Whom a namespace permits something. Without authentication everything but `nobody` is anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Nobody.
    Nobody,
    /// Clients whose token names the channel, and services whose key does.
    Token,
    /// Those, and every client whose token names a user.
    Authenticated,
    /// Everybody.
    Anonymous,
}

/// One namespace. Every field has a default, so that a configuration names only what differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Namespace {
    /// Most events a channel keeps in memory for resume.
    pub history_size: u32,
    /// Longest time an event stays in that history, in seconds.
    pub history_age_s: u32,
    /// Events may be published with requests, as services do.
    pub publish: bool,
    /// Which clients may publish.
    pub client_publish: Access,
    /// Which clients may subscribe.
    pub subscribe: Access,
    /// Which clients may read history and stored events.
    pub history: Access,
    /// Which clients of the client protocol may ask who is in a channel they subscribe to.
    pub presence: Access,
    /// A channel's name may end in `#` and the users that it is for.
    pub user_channels: bool,
    /// Clients of the client protocol that ask for it are told who comes and goes.
    pub join_leave: bool,
    /// They are told without having asked.
    pub force_push_join_leave: bool,
    /// See [`RecoveryMode`].
    pub recovery_mode: RecoveryMode,
    /// See [`OutboxPolicy`].
    pub outbox_policy: OutboxPolicy,
    /// See [`Deliver`].
    pub deliver: Deliver,
    /// Events go to the spool (and so survive a restart).
    pub store: bool,
}

impl Namespace {
    /// True if the clients in its channels are known there.
    pub fn has_members(&self) -> bool {
        self.presence != Access::Nobody || self.join_leave
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self {
            history_size: 1_000,
            history_age_s: 600,
            publish: true,
            client_publish: Access::Token,
            subscribe: Access::Authenticated,
            history: Access::Authenticated,
            presence: Access::Nobody,
            user_channels: false,
            join_leave: false,
            force_push_join_leave: false,
            recovery_mode: RecoveryMode::Stream,
            outbox_policy: OutboxPolicy::Disconnect,
            deliver: Deliver::Live,
            store: true,
        }
    }
}
