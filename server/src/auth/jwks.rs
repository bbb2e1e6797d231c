//! Key sets (RFC 7517): a JSON document to keys.
//!
//! A set often has keys for other purposes, so what cannot be used is left out and counted, never
//! an error. Secrets (`oct`) are left out too: a secret in a document that is served is none.

use super::algorithm::{Algorithm, AlgorithmSet};
use super::key::{Key, KeyError};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::value::RawValue;

/// The largest document.
pub const JWKS_BYTES_MAX: usize = 256 << 10;
/// The most keys that are taken from one.
pub const JWKS_KEYS_MAX: usize = 100;

#[derive(Deserialize)]
struct Set<'a> {
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Entry {
    kty: String,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// The usable keys of a set, and how many others it has. The error says what is wrong with it.
pub fn parse_jwks(
    document: &[u8],
    algorithms: AlgorithmSet,
) -> Result<(Vec<Key>, usize), &'static str> {
    if document.len() > JWKS_BYTES_MAX {
        return Err("the key set is larger than 256 KiB");
    }
    let set: Set<'_> = serde_json::from_slice(document)
        .map_err(|_| "it is not a key set: a JSON object with a list `keys`")?;
    let mut keys = Vec::new();
    for entry in &set.keys {
        if keys.len() == JWKS_KEYS_MAX {
            return Err("the key set has more than 100 usable keys");
        }
        let key = serde_json::from_str::<Entry>(entry.get()).ok();
        keys.extend(key.and_then(|entry| key_of(&entry, algorithms).ok()));
    }
    if keys.is_empty() {
        return Err("it has no key for signatures of `auth.algorithms`");
    }
    let others = set.keys.len() - keys.len();
    Ok((keys, others))
}

fn key_of(entry: &Entry, algorithms: AlgorithmSet) -> Result<Key, KeyError> {
    let signs = entry.purpose.as_deref().is_none_or(|purpose| purpose == "sig")
        && entry.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
    if !signs || entry.kid.as_ref().is_some_and(|kid| kid.len() > super::claims::KID_BYTES_MAX) {
        return Err(KeyError::UnknownKind);
    }
    let bytes = |text: &Option<String>| {
        let text = text.as_deref().ok_or(KeyError::Length)?;
        URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|_| KeyError::Length)
    };
    let point = || Ok([&[4], &bytes(&entry.x)?[..], &bytes(&entry.y)?[..]].concat());
    let key = match (entry.kty.as_str(), entry.crv.as_deref()) {
        ("RSA", _) => Key::rsa(&bytes(&entry.n)?, &bytes(&entry.e)?),
        ("EC", Some("P-256")) => Key::p256(&point()?),
        ("EC", Some("P-384")) => Key::p384(&point()?),
        ("OKP", Some("Ed25519")) => Key::ed25519(&bytes(&entry.x)?),
        _ => Err(KeyError::UnknownKind),
    }?;
    let own = match entry.alg.as_deref() {
        Some(name) => AlgorithmSet::of(&[Algorithm::parse(name).ok_or(KeyError::Algorithm)?]),
        None => AlgorithmSet::ALL,
    };
    Ok(key.only(own.and(algorithms))?.named(entry.kid.as_deref()))
}
