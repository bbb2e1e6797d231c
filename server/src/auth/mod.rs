//! Who is asking, and what they may do.
//!
//! Clients show a JSON Web Token with Centrifugo's claims, services show an API key. Both become a
//! [`Caller`], and [`allows`] is the one place that says what a caller may do in a channel.
//! [`Verifier`] checks tokens, [`ApiKeys`] finds keys; both are shared by all shards and built once
//! from the configuration, except that the keys of a JWKS are replaced while the server runs.
//!
//! Invariants: nothing of a token is believed, and its claims are not even parsed, before its
//! signature fits a key whose kind fits the algorithm; `none` does not exist here. No error, debug
//! output or log line repeats a token, a key or a part of one: errors are plain enums, and what
//! holds a secret is a [`Secret`].
//!
//! Deliberately absent: files, sockets and clocks (boot reads key files, `control::jwks` fetches
//! key sets, callers give the time), sessions and cookies, encrypted tokens. Lives on the shards'
//! threads. Tested by tables, by tokens that openssl and other libraries made, and by fuzzing.

mod algorithm;
mod api_key;
mod caller;
mod claims;
mod der;
mod error;
mod jwks;
mod key;
mod permission;
mod secret;
mod verifier;

pub use algorithm::{Algorithm, AlgorithmSet};
pub use api_key::{ApiKey, ApiKeys, KeyDraft, Right, Rights, hash_of, is_same};
pub use caller::{Caller, Identity, ServerSubscription, SubscriptionGrant};
pub use claims::Overrides;
pub use error::TokenError;
pub use jwks::{JWKS_BYTES_MAX, JWKS_KEYS_MAX, parse_jwks};
pub use key::{Key, KeyError, SECRET_BYTES_MIN};
pub use permission::{Action, Denied, allows, allows_subscription};
pub use secret::Secret;
pub use verifier::{Feed, Rules, Verifier};

/// Authentication as one server has it; a server without any has no `Auth`.
#[derive(Debug, Default)]
pub struct Auth {
    /// Checks tokens, if keys for them are configured.
    pub verifier: Option<Verifier>,
    /// Keys of services.
    pub keys: ApiKeys,
    /// A token may stand in the URL.
    pub token_in_url: bool,
}

#[cfg(test)]
mod tests;
