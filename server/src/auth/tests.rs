//! Tables: tokens good and bad, keys, permissions. Tokens are made by a few lines here with `ring`,
//! and, so that two errors cannot cancel each other out, by the openssl program (`openssl.json`).

mod keys;
mod permissions;
mod tokens;

use super::*;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::{Value, json};

pub(super) const SECRET: &str = "an-utterly-secret-secret-of-36-bytes";
pub(super) const NOW_S: i64 = 1_800_000_000;

/// A token of any header and claims, which may be nonsense, signed with HS256.
pub(super) fn token_of(header: &str, claims: &str) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let signature = hmac::sign(&key, signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
}

pub(super) fn token(claims: &Value) -> String {
    token_of(r#"{"alg":"HS256","typ":"JWT"}"#, &claims.to_string())
}

pub(super) fn verifier_with(rules: Rules) -> Verifier {
    Verifier::new(rules, vec![Key::secret(SECRET).unwrap()], None)
}

pub(super) fn verifier() -> Verifier {
    verifier_with(Rules::default())
}

/// The identity of these claims.
pub(super) fn identity(claims: Value) -> Identity {
    verifier().connect(&token(&claims), NOW_S).unwrap()
}

pub(super) fn openssl() -> Value {
    serde_json::from_str(include_str!("tests/openssl.json")).unwrap()
}
