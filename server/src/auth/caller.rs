//! Who asks: nobody in particular, a client with a token, a service with a key.

use super::api_key::ApiKey;
use super::claims::Overrides;
use super::permission::Action;
use crate::pattern::Pattern;
use bytes::Bytes;
use proto::channel::ChannelName;
use std::sync::Arc;

/// Who asks. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub enum Caller {
    /// No authentication is configured: anybody.
    Open,
    /// Authentication is configured and this one showed nothing.
    #[default]
    Anonymous,
    /// A client with a token.
    Client(Arc<Identity>),
    /// A service with an API key.
    Service(Arc<ApiKey>),
}

impl Caller {
    /// When the caller stops being who it is, in Unix seconds.
    pub fn expires_at_s(&self) -> Option<i64> {
        match self {
            Self::Client(identity) => identity.expires_at_s,
            Self::Open | Self::Anonymous | Self::Service(_) => None,
        }
    }

    /// The user's id; empty for nobody in particular.
    pub fn user(&self) -> &str {
        match self {
            Self::Client(identity) => &identity.user,
            Self::Open | Self::Anonymous | Self::Service(_) => "",
        }
    }
}

/// What a connection token says.
#[derive(Debug, Clone, Default)]
pub struct Identity {
    /// `sub`: the user's id, empty for nobody in particular.
    pub user: Box<str>,
    /// When the connection expires, in Unix seconds with the clock skew added: `expire_at`, or else
    /// `exp`. `None`: never.
    pub expires_at_s: Option<i64>,
    /// `info` (JSON) or `b64info` (any bytes): shown to others in presence and publications.
    pub info: Option<Bytes>,
    /// `meta` (JSON): for the server's side only, never shown to a client.
    pub meta: Option<Bytes>,
    /// `jti`.
    pub token_id: Option<Box<str>>,
    /// `channels` and `subs`: what the server subscribes the client to.
    pub subscriptions: Box<[ServerSubscription]>,
    /// `caps`.
    pub(super) capabilities: Box<[Capability]>,
}

/// One channel that the server subscribes a client to.
#[derive(Debug, Clone)]
pub struct ServerSubscription {
    /// The channel.
    pub channel: ChannelName,
    /// Channel info of the client, as [`Identity::info`].
    pub info: Option<Bytes>,
    /// Data for the client in the push that tells it of the subscription.
    pub data: Option<Bytes>,
    /// Options that differ from the namespace's.
    pub overrides: Overrides,
}

/// Some actions in some channels.
#[derive(Debug, Clone)]
pub(super) struct Capability {
    pub(super) channels: Box<[Pattern]>,
    pub(super) actions: Box<[Action]>,
}

impl Identity {
    /// True if the token itself grants the action in the channel.
    pub(super) fn grants(&self, channel: &str, action: Action) -> bool {
        let action = action.right();
        let capable = self.capabilities.iter().any(|capability| {
            capability.actions.contains(&action)
                && capability.channels.iter().any(|pattern| pattern.matches(channel))
        });
        capable
            || action == Action::Subscribe
                && self.subscriptions.iter().any(|own| own.channel.as_str() == channel)
    }

    /// Heap held, for the ledger.
    pub fn memory_bytes(&self) -> usize {
        let bytes = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let subscriptions = self.subscriptions.iter().map(|own| {
            size_of::<ServerSubscription>()
                + own.channel.as_str().len()
                + bytes(&own.info)
                + bytes(&own.data)
        });
        size_of::<Self>()
            + self.user.len()
            + self.token_id.as_ref().map_or(0, |id| id.len())
            + bytes(&self.info)
            + bytes(&self.meta)
            + subscriptions.sum::<usize>()
            + self.capabilities.iter().map(Capability::memory_bytes).sum::<usize>()
    }
}

impl Capability {
    fn memory_bytes(&self) -> usize {
        let patterns =
            self.channels.iter().map(|pattern| size_of::<Pattern>() + pattern.memory_bytes());
        size_of::<Self>() + patterns.sum::<usize>() + self.actions.len()
    }
}

/// What a subscription token says: this user may subscribe to this channel.
#[derive(Debug, Clone)]
pub struct SubscriptionGrant {
    /// The channel.
    pub channel: ChannelName,
    /// When the subscription expires, in Unix seconds with the clock skew added: `expire_at`, or
    /// else `exp`. `None`: never.
    pub expires_at_s: Option<i64>,
    /// Channel info of the client, as [`Identity::info`].
    pub info: Option<Bytes>,
    /// Options that differ from the namespace's.
    pub overrides: Overrides,
}
