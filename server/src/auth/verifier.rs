//! Tokens against keys and rules.
//!
//! The order is the point: size, shape, algorithm, key, signature, and only then claims. A key set
//! from elsewhere (JWKS) is replaced as a whole through [`Feed`]; a token that names a key which is
//! not there yet asks for a new set and is refused for the moment ([`TokenError::KeysPending`])
//! until a set that was asked for later lacks the key, too.

use super::algorithm::AlgorithmSet;
use super::caller::{Capability, Identity, ServerSubscription, SubscriptionGrant};
use super::claims::{self, CapabilityClaims, Claims, Overrides, Parts};
use super::error::TokenError;
use super::key::Key;
use super::permission::Action;
use crate::pattern::Pattern;
use proto::channel::ChannelName;
use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

/// Keys tried for one token: those that its algorithm and name leave.
const KEYS_TRIED_MAX: usize = 8;
/// Names of keys that are being looked for; the oldest is forgotten.
const WANTED_MAX: usize = 64;

/// What a token must be besides well signed.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The algorithms that are taken.
    pub algorithms: AlgorithmSet,
    /// One of them must be in `aud`; empty takes any.
    pub audience: Vec<String>,
    /// What `iss` must be; empty takes any.
    pub issuer: String,
    /// How far the clocks may be apart, seconds.
    pub clock_skew_s: u32,
    /// The longest token.
    pub token_bytes_max: usize,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            algorithms: AlgorithmSet::ALL,
            audience: Vec::new(),
            issuer: String::new(),
            clock_skew_s: 0,
            token_bytes_max: 8 << 10,
        }
    }
}

/// Checks tokens. Shared by all shards.
#[derive(Debug)]
pub struct Verifier {
    rules: Rules,
    /// Keys of the configuration.
    fixed: Vec<Key>,
    feed: Option<Arc<Feed>>,
}

/// Keys that are replaced while the server runs. A reader holds the lock for a copy of a pointer.
pub struct Feed {
    keys: RwLock<Arc<[Key]>>,
    /// Rounds of fetching that have begun, and the beginning of the last that succeeded.
    begun: AtomicU64,
    loaded: AtomicU64,
    /// Hashes of names that were not found, and how many rounds had begun then.
    wanted: Mutex<VecDeque<(u64, u64)>>,
    hasher: RandomState,
    ask: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed").field("keys", &self.keys().len()).finish_non_exhaustive()
    }
}

impl Default for Feed {
    fn default() -> Self {
        Self {
            keys: RwLock::new(Arc::new([])),
            begun: AtomicU64::new(0),
            loaded: AtomicU64::new(0),
            wanted: Mutex::default(),
            hasher: RandomState::new(),
            ask: OnceLock::new(),
        }
    }
}

impl Feed {
    /// What to call when a new set is wanted. It must not block.
    pub fn on_wanted(&self, ask: impl Fn() + Send + Sync + 'static) {
        let _ = self.ask.set(Box::new(ask));
    }

    /// A round of fetching begins; gives its number.
    pub fn begin(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// A round has brought a set, which replaces the one before. A round that brought none is not
    /// told: the keys stay.
    pub fn load(&self, round: u64, keys: Vec<Key>) {
        let names = keys.iter().filter_map(Key::kid);
        let found: Vec<u64> = names.map(|kid| self.hasher.hash_one(kid)).collect();
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.retain(|(hash, _)| !found.contains(hash));
        drop(wanted);
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys.into();
        self.loaded.fetch_max(round, Ordering::AcqRel);
    }

    /// The keys now.
    pub fn keys(&self) -> Arc<[Key]> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// A name that no key has: true if that is certain, otherwise a new set has been asked for.
    fn lacks(&self, kid: &str) -> bool {
        let hash = self.hasher.hash_one(kid);
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = wanted.iter().position(|(other, _)| *other == hash) {
            if self.loaded.load(Ordering::Acquire) > wanted[at].1 {
                // Whoever asks next may be luckier.
                wanted.remove(at);
                return true;
            }
        } else {
            if wanted.len() == WANTED_MAX {
                wanted.pop_front();
            }
            wanted.push_back((hash, self.begun.load(Ordering::Acquire)));
        }
        drop(wanted);
        if let Some(ask) = self.ask.get() {
            ask();
        }
        false
    }
}

impl Verifier {
    /// Keys of the configuration, and those that come later.
    pub fn new(rules: Rules, fixed: Vec<Key>, feed: Option<Arc<Feed>>) -> Self {
        Self { rules, fixed, feed }
    }

    /// What a connection token says, at a time in Unix seconds.
    pub fn connect(&self, token: &str, now_s: i64) -> Result<Identity, TokenError> {
        let payload = self.payload(token)?;
        let claims = self.claims(&payload, now_s)?;
        if claims.channel.is_some() {
            return Err(TokenError::WrongKind);
        }
        let expires_at_s = self.expiry(&claims, now_s)?;
        let info = claims::raw_or_base64(claims.info, claims.b64info.as_deref())?;
        let meta = claims::raw_or_base64(claims.meta, None)?;
        let capabilities = claims.caps.as_deref().unwrap_or_default();
        let capabilities = capabilities.iter().map(capability).collect::<Result<_, _>>()?;
        let subscriptions = subscriptions(&claims)?;
        Ok(Identity {
            user: claims.sub.unwrap_or_default().into(),
            expires_at_s,
            info,
            meta,
            token_id: claims.jti.map(Into::into),
            subscriptions,
            capabilities,
        })
    }

    /// What a subscription token says. It must be for the connection's `user`, and for `channel`
    /// where the request names one.
    pub fn subscribe(
        &self,
        token: &str,
        now_s: i64,
        user: &str,
        channel: Option<&str>,
    ) -> Result<SubscriptionGrant, TokenError> {
        let payload = self.payload(token)?;
        let claims = self.claims(&payload, now_s)?;
        let name = claims.channel.as_deref().ok_or(TokenError::WrongKind)?;
        let name = channel_name(name)?;
        if claims.sub.as_deref() != Some(user) {
            return Err(TokenError::User);
        }
        if channel.is_some_and(|channel| channel != name.as_str()) {
            return Err(TokenError::Channel);
        }
        Ok(SubscriptionGrant {
            channel: name,
            expires_at_s: self.expiry(&claims, now_s)?,
            info: claims::raw_or_base64(claims.info, claims.b64info.as_deref())?,
            overrides: claims.overrides.unwrap_or_default(),
        })
    }

    /// The payload of a token whose signature is good.
    fn payload(&self, token: &str) -> Result<Vec<u8>, TokenError> {
        if token.len() > self.rules.token_bytes_max {
            return Err(TokenError::TooLarge);
        }
        let parts = claims::split(token)?;
        if !self.rules.algorithms.has(parts.algorithm) {
            return Err(TokenError::Algorithm);
        }
        self.check_signature(&parts)?;
        claims::decode(parts.payload)
    }

    fn check_signature(&self, parts: &Parts<'_>) -> Result<(), TokenError> {
        let fed = self.feed.as_ref().map(|feed| feed.keys());
        let keys = || self.fixed.iter().chain(fed.as_deref().unwrap_or_default());
        let kid = parts.kid.as_deref();
        // A key without a name is for every token, a token without one for every key.
        let fits = |key: &&Key| kid.is_none() || key.kid().is_none() || key.kid() == kid;
        let mut tried = 0;
        for key in keys().filter(fits).filter(|key| key.takes(parts.algorithm)) {
            if key.verifies(parts.algorithm, parts.signed, &parts.signature) {
                return Ok(());
            }
            tried += 1;
            if tried == KEYS_TRIED_MAX {
                break;
            }
        }
        let named = kid.is_some_and(|kid| keys().any(|key| key.kid() == Some(kid)));
        // There are no secrets in a key set.
        let feed = self.feed.as_ref().filter(|_| !AlgorithmSet::HMAC.has(parts.algorithm));
        Err(match (kid, feed) {
            _ if named && tried == 0 => TokenError::Algorithm,
            _ if named => TokenError::Signature,
            (Some(kid), Some(feed)) if !feed.lacks(kid) => TokenError::KeysPending,
            (Some(_), _) if tried == 0 => TokenError::UnknownKey,
            (None, Some(feed)) if feed.loaded.load(Ordering::Acquire) == 0 => {
                TokenError::KeysPending
            }
            _ if tried == 0 => TokenError::Algorithm,
            _ => TokenError::Signature,
        })
    }

    /// The claims of a payload, with everything checked that both kinds of token have.
    fn claims<'a>(&self, payload: &'a [u8], now_s: i64) -> Result<Claims<'a>, TokenError> {
        let claims: Claims<'a> = serde_json::from_slice(payload).map_err(|_| {
            TokenError::Malformed("its claims are not JSON, or one is of the wrong type or twice")
        })?;
        let skew_s = i64::from(self.rules.clock_skew_s);
        if claims.exp.is_some_and(|exp| now_s >= exp.0.saturating_add(skew_s)) {
            return Err(TokenError::Expired);
        }
        if claims.nbf.is_some_and(|nbf| now_s.saturating_add(skew_s) < nbf.0) {
            return Err(TokenError::NotYetValid);
        }
        let ours = |aud: &String| self.rules.audience.contains(aud);
        let audience = claims.aud.as_ref();
        if !self.rules.audience.is_empty() && !audience.is_some_and(|aud| aud.0.iter().any(ours)) {
            return Err(TokenError::Audience);
        }
        let issuer = &self.rules.issuer;
        if !issuer.is_empty() && claims.iss.as_ref() != Some(issuer) {
            return Err(TokenError::Issuer);
        }
        if claims.sub.is_none() {
            return Err(TokenError::NoSubject);
        }
        Ok(claims)
    }

    /// When what the token opened ends: `expire_at` if it is there, 0 for never, or else `exp`.
    fn expiry(&self, claims: &Claims<'_>, now_s: i64) -> Result<Option<i64>, TokenError> {
        let until = match claims.expire_at {
            Some(claims::Date(0)) => None,
            Some(at) => Some(at),
            None => claims.exp,
        };
        let skew_s = i64::from(self.rules.clock_skew_s);
        let until = until.map(|at| at.0.saturating_add(skew_s));
        if until.is_some_and(|at| now_s >= at) { Err(TokenError::Expired) } else { Ok(until) }
    }
}

fn channel_name(name: &str) -> Result<ChannelName, TokenError> {
    ChannelName::new(name).map_err(|_| TokenError::Malformed("it names an illegal channel"))
}

/// `subs`, then those of `channels` that are not there already.
fn subscriptions(claims: &Claims<'_>) -> Result<Box<[ServerSubscription]>, TokenError> {
    let mut all: Vec<ServerSubscription> = Vec::new();
    for (name, options) in claims.subs.iter().flat_map(|subs| &subs.0) {
        all.push(ServerSubscription {
            channel: channel_name(name)?,
            info: claims::raw_or_base64(options.info, options.b64info.as_deref())?,
            data: claims::raw_or_base64(options.data, options.b64data.as_deref())?,
            overrides: options.overrides.unwrap_or_default(),
        });
    }
    for name in claims.channels.iter().flatten() {
        if all.len() >= SUBSCRIPTIONS_MAX {
            return Err(TokenError::Malformed("it has more than 256 channels"));
        }
        if !all.iter().any(|own| own.channel.as_str() == name) {
            let (channel, overrides) = (channel_name(name)?, Overrides::default());
            all.push(ServerSubscription { channel, info: None, data: None, overrides });
        }
    }
    Ok(all.into())
}

/// Server-side subscriptions of one token.
const SUBSCRIPTIONS_MAX: usize = 256;

/// An entry of `caps`. What is not understood makes the token invalid, since a right that is read
/// wrongly is worse than none.
fn capability(claims: &CapabilityClaims) -> Result<Capability, TokenError> {
    let pattern: fn(&str) -> Pattern = match claims.matching.as_deref() {
        None | Some("" | "exact") => Pattern::exact,
        Some("wildcard") => Pattern::wildcard,
        Some(_) => return Err(TokenError::Malformed("`caps` has an unknown `match`")),
    };
    let action = |name: &String| match name.as_str() {
        "sub" => Ok(Action::Subscribe),
        "pub" => Ok(Action::Publish),
        "hst" => Ok(Action::History),
        "prs" => Ok(Action::Presence),
        _ => Err(TokenError::Malformed("`caps` allows something that is not sub, pub, hst or prs")),
    };
    Ok(Capability {
        channels: claims.channels.iter().map(|text| pattern(text)).collect(),
        actions: claims.allow.iter().map(action).collect::<Result<_, _>>()?,
    })
}
