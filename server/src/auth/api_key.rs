//! API keys of services: who, in which channels, how fast.
//!
//! The configuration has SHA-256 hashes, so whoever reads it has no key. A key is random and long,
//! which is why a fast hash is enough; it is compared by its hash, with every configured one, in a
//! time that does not depend on what is in them.

use super::key::sha256;
use super::permission::{Action, Denied};
use crate::pattern::Pattern;
use crate::rate::{Over, Rate};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The longest key that is looked at.
const KEY_BYTES_MAX: usize = 512;

/// What a key may be allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "program", derive(clap::ValueEnum))]
#[serde(rename_all = "snake_case")]
pub enum Right {
    Publish,
    Subscribe,
    History,
    Presence,
}

/// Several rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rights(u8);

impl FromIterator<Right> for Rights {
    fn from_iter<I: IntoIterator<Item = Right>>(rights: I) -> Self {
        Self(rights.into_iter().fold(0, |bits, right| bits | 1 << right as u8))
    }
}

impl Rights {
    fn has(self, right: Right) -> bool {
        self.0 & (1 << right as u8) != 0
    }
}

/// One service's key. Its parts are what the configuration says.
pub struct ApiKey {
    name: Box<str>,
    hash: [u8; 32],
    channels: Box<[Pattern]>,
    rights: Rights,
    admin: bool,
    events: Option<Rate>,
    bytes: Option<Rate>,
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiKey").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What a key is made of.
#[derive(Debug, Clone)]
pub struct KeyDraft<'a> {
    /// For logs and errors.
    pub name: &'a str,
    /// SHA-256 of the key, in hexadecimal.
    pub hash: &'a str,
    /// Patterns of channels.
    pub channels: &'a [String],
    /// What it may do there.
    pub rights: Rights,
    /// It opens the admin listener.
    pub admin: bool,
    /// Events and bytes a second; 0 is without a limit.
    pub events_per_s: u64,
    pub bytes_per_s: u64,
    /// Seconds of both that may come at once.
    pub burst_s: u32,
}

impl ApiKey {
    /// `None` if the hash is not 64 hexadecimal digits.
    pub fn new(draft: &KeyDraft<'_>) -> Option<Self> {
        let rate = |per_s: u64| (per_s > 0).then(|| Rate::new(per_s, draft.burst_s.max(1)));
        Some(Self {
            name: draft.name.into(),
            hash: unhex(draft.hash)?,
            channels: draft.channels.iter().map(|text| Pattern::wildcard(text)).collect(),
            rights: draft.rights,
            admin: draft.admin,
            events: rate(draft.events_per_s),
            bytes: rate(draft.bytes_per_s),
        })
    }

    /// What the configuration calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// True if it opens the admin listener.
    pub fn is_admin(&self) -> bool {
        self.admin
    }

    /// Whether it may do this in the channel, and if not, what of it lacks.
    pub(super) fn grants(&self, channel: &str, action: Action) -> Result<(), Denied> {
        let right = match action {
            Action::Publish | Action::PublishRequest => Right::Publish,
            Action::Subscribe => Right::Subscribe,
            Action::History => Right::History,
            Action::Presence => Right::Presence,
        };
        if !self.channels.iter().any(|pattern| pattern.matches(channel)) {
            return Err(Denied::NotInChannels);
        }
        if self.rights.has(right) { Ok(()) } else { Err(Denied::NotInAllow) }
    }

    /// Takes an event of so many bytes from its rates, at a time on the monotonic clock.
    pub fn take(&self, now_ms: u64, bytes: u64) -> Result<(), Over> {
        if let Some(events) = &self.events {
            events.take(now_ms, 1)?;
        }
        let Some(rate) = &self.bytes else { return Ok(()) };
        let taken = rate.take(now_ms, bytes);
        if taken.is_err()
            && let Some(events) = &self.events
        {
            events.give_back(1);
        }
        taken
    }

    /// True if it has a rate at all.
    pub fn is_limited(&self) -> bool {
        self.events.is_some() || self.bytes.is_some()
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct ApiKeys(Vec<Arc<ApiKey>>);

impl ApiKeys {
    /// These.
    pub fn new(keys: Vec<ApiKey>) -> Self {
        Self(keys.into_iter().map(Arc::new).collect())
    }

    /// The key that this is, if it is one.
    pub fn find(&self, key: &str) -> Option<&Arc<ApiKey>> {
        if key.len() > KEY_BYTES_MAX {
            return None;
        }
        let hash = sha256(key.as_bytes());
        // Every one is looked at, so that the time says nothing about which it was.
        let mut found = None;
        for own in &self.0 {
            if same(&own.hash, &hash) {
                found = Some(own);
            }
        }
        found
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True if one opens the admin listener.
    pub fn has_admin(&self) -> bool {
        self.0.iter().any(|key| key.admin)
    }
}

/// The hash of a key, as the configuration has it.
pub fn hash_of(key: &str) -> String {
    use std::fmt::Write;
    sha256(key.as_bytes()).iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Whether two secrets are the same, in a time that depends on neither.
pub fn is_same(one: &str, other: &str) -> bool {
    same(&sha256(one.as_bytes()), &sha256(other.as_bytes()))
}

/// Compares without stopping at the first difference.
fn same(one: &[u8; 32], other: &[u8; 32]) -> bool {
    let difference = one.iter().zip(other).fold(0, |sum, (a, b)| sum | (a ^ b));
    std::hint::black_box(difference) == 0
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(hash)
}
