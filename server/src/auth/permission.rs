//! What a caller may do in a channel: the namespace's word, then what the token or key grants.

use super::caller::{Caller, SubscriptionGrant};
use crate::config::namespace::{Access, Namespace};

/// What somebody wants to do in a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Follow it live, with what a resume needs of its history.
    Subscribe,
    /// Publish over a client's connection.
    Publish,
    /// Publish with a request, as services do.
    PublishRequest,
    /// Read its history and its stored events, and count them.
    History,
    /// See who follows it.
    Presence,
}

impl Action {
    /// What tokens and keys call it: publishing is one right.
    pub(super) fn right(self) -> Self {
        if self == Self::PublishRequest { Self::Publish } else { self }
    }

    /// What `allow` of an API key calls it.
    pub fn right_name(self) -> &'static str {
        match self {
            Self::Subscribe => "subscribe",
            Self::Publish | Self::PublishRequest => "publish",
            Self::History => "history",
            Self::Presence => "presence",
        }
    }

    /// For sentences: "does not permit ...".
    pub fn name(self) -> &'static str {
        match self {
            Self::Subscribe => "subscribing",
            Self::Publish | Self::PublishRequest => "publishing",
            Self::History => "reading history",
            Self::Presence => "seeing who is present",
        }
    }
}

/// Why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// The namespace permits it to nobody.
    Closed,
    /// Somebody with a token or a key might.
    Unauthenticated,
    /// This one may not: neither its token nor the namespace permits it.
    NotGranted,
    /// The service's key does not have this right.
    NotInAllow,
    /// The service's key is for other channels.
    NotInChannels,
}

impl Denied {
    /// The HTTP status.
    pub fn http_status(self) -> u16 {
        if self == Self::Unauthenticated { 401 } else { 403 }
    }

    /// The error code of Centrifugo's client protocol.
    pub fn error_code(self) -> u32 {
        103
    }
}

/// Whether a caller may do something in a channel of a namespace. The same answer whether the
/// channel exists or not.
pub fn allows(
    caller: &Caller,
    namespace: &Namespace,
    channel: &str,
    action: Action,
) -> Result<(), Denied> {
    if action == Action::PublishRequest && !namespace.publish {
        return Err(Denied::Closed);
    }
    let access = match action {
        Action::Subscribe => namespace.subscribe,
        Action::Publish | Action::PublishRequest => namespace.client_publish,
        Action::History => namespace.history,
        Action::Presence => namespace.presence,
    };
    match caller {
        // The namespace's word on services is `publish`.
        Caller::Service(key) if action == Action::PublishRequest => key.grants(channel, action),
        Caller::Open if action == Action::PublishRequest => Ok(()),
        _ if access == Access::Nobody => Err(Denied::Closed),
        Caller::Open => Ok(()),
        Caller::Service(key) => key.grants(channel, action),
        Caller::Anonymous | Caller::Client(_) => {
            client_allows(caller, namespace, access, channel, action)
        }
    }
}

/// The same for a subscription that comes with a token of its own.
pub fn allows_subscription(
    caller: &Caller,
    namespace: &Namespace,
    channel: &str,
    grant: Option<&SubscriptionGrant>,
) -> Result<(), Denied> {
    match (allows(caller, namespace, channel, Action::Subscribe), grant) {
        // It stands in for the right, not for what the namespace or the channel's name forbids.
        (Err(denied), Some(grant))
            if denied != Denied::Closed
                && grant.channel.as_str() == channel
                && is_for(caller, namespace, channel) =>
        {
            Ok(())
        }
        (result, _) => result,
    }
}

fn client_allows(
    caller: &Caller,
    namespace: &Namespace,
    access: Access,
    channel: &str,
    action: Action,
) -> Result<(), Denied> {
    let refusal = match caller {
        Caller::Anonymous => Denied::Unauthenticated,
        _ => Denied::NotGranted,
    };
    if !is_for(caller, namespace, channel) {
        return Err(refusal);
    }
    let (user, granted) = match caller {
        Caller::Client(identity) => (!identity.user.is_empty(), identity.grants(channel, action)),
        _ => (false, false),
    };
    // Who stands in the channel's name needs no other permission to follow it.
    let named = action == Action::Subscribe && users_of(namespace, channel).is_some();
    let allowed = match access {
        Access::Anonymous => true,
        Access::Authenticated => user || granted,
        Access::Token => granted || named,
        Access::Nobody => false,
    };
    if allowed { Ok(()) } else { Err(refusal) }
}

/// True unless the channel is limited to users of which the caller is none.
fn is_for(caller: &Caller, namespace: &Namespace, channel: &str) -> bool {
    let user = caller.user();
    users_of(namespace, channel)
        .is_none_or(|users| !user.is_empty() && users.split(',').any(|listed| listed == user))
}

/// The users in a channel's name, after its last `#`, where the namespace gives that a meaning.
fn users_of<'a>(namespace: &Namespace, channel: &'a str) -> Option<&'a str> {
    if !namespace.user_channels {
        return None;
    }
    channel.rsplit_once('#').map(|(_, users)| users)
}
