//! `[auth]` and `[[api_keys]]` as users write them, and what is wrong with them.

use super::Config;
use crate::auth::{Algorithm, AlgorithmSet, ApiKey, KeyDraft, Right, SECRET_BYTES_MIN, Secret};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::path::PathBuf;

/// How tokens are checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthConfig {
    pub hmac_secret: Secret,
    pub hmac_secret_file: PathBuf,
    pub public_key_files: Vec<PathBuf>,
    pub jwks: String,
    pub jwks_refresh_s: u32,
    pub jwks_ca_file: PathBuf,
    pub jwks_allow_private: bool,
    pub algorithms: Vec<String>,
    pub audience: Vec<String>,
    pub issuer: String,
    pub clock_skew_s: u32,
    pub token_bytes_max: u32,
    pub token_in_url: bool,
}

impl AuthConfig {
    /// True if there is something to check a token with.
    pub fn has_keys(&self) -> bool {
        !self.hmac_secret.is_empty()
            || !self.hmac_secret_file.as_os_str().is_empty()
            || !self.public_key_files.is_empty()
            || !self.jwks.is_empty()
    }

    /// The algorithms that are taken. What is not one is refused by validation.
    pub fn algorithm_set(&self) -> AlgorithmSet {
        if self.algorithms.is_empty() {
            return AlgorithmSet::ALL;
        }
        let known: Vec<_> =
            self.algorithms.iter().filter_map(|name| Algorithm::parse(name)).collect();
        AlgorithmSet::of(&known)
    }

    /// True if the key set is fetched and not read.
    pub fn jwks_is_url(&self) -> bool {
        self.jwks.contains("://")
    }
}

/// The key of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKeyConfig {
    pub name: String,
    pub hash: String,
    #[serde(default = "all_channels")]
    pub channels: Vec<String>,
    #[serde(default = "publish_only")]
    pub allow: Vec<Right>,
    #[serde(default)]
    pub events_per_s: u64,
    #[serde(default)]
    pub bytes_per_s: u64,
    #[serde(default = "one")]
    pub burst_s: u32,
    #[serde(default)]
    pub admin: bool,
}

impl ApiKeyConfig {
    /// The key itself; `None` if the hash is none.
    pub fn key(&self) -> Option<ApiKey> {
        ApiKey::new(&KeyDraft {
            name: &self.name,
            hash: &self.hash,
            channels: &self.channels,
            rights: self.allow.iter().copied().collect(),
            admin: self.admin,
            events_per_s: self.events_per_s,
            bytes_per_s: self.bytes_per_s,
            burst_s: self.burst_s,
        })
    }
}

fn all_channels() -> Vec<String> {
    vec!["*".to_owned()]
}

fn publish_only() -> Vec<Right> {
    vec![Right::Publish]
}

fn one() -> u32 {
    1
}

/// What is wrong: the key's path, and what to do.
pub(super) fn problems(config: &Config) -> Vec<(String, String)> {
    let mut found = Vec::new();
    tokens(&config.auth, &mut found);
    api_keys(&config.api_keys, &mut found);
    let token = &config.admin_token;
    if !token.is_empty() && token.reveal().len() < SECRET_BYTES_MIN {
        let message = "a token needs at least 32 characters; make one with `openssl rand -hex 32`";
        found.push(("admin_token".to_owned(), message.to_owned()));
    }
    if !token.is_empty() && !config.admin_token_file.as_os_str().is_empty() {
        let message = "`admin_token` is set too; keep one of them";
        found.push(("admin_token_file".to_owned(), message.to_owned()));
    }
    found
}

fn tokens(auth: &AuthConfig, found: &mut Vec<(String, String)>) {
    let mut add =
        |key: &str, message: &str| found.push((format!("auth.{key}"), message.to_owned()));
    let secret = &auth.hmac_secret;
    if !secret.is_empty() && secret.reveal().len() < SECRET_BYTES_MIN {
        let message = "a secret needs at least 32 bytes; make one with `openssl rand -hex 32`";
        add("hmac_secret", message);
    }
    for name in &auth.algorithms {
        if Algorithm::parse(name).is_none() {
            let known = Algorithm::ALL.map(Algorithm::name).join(", ");
            add("algorithms", &format!("{name:?} is no algorithm here; there are {known}"));
        }
    }
    if auth.jwks_is_url()
        && let Err(message) = check_url(&auth.jwks, auth.jwks_allow_private)
    {
        add("jwks", message);
    }
    let mut range = |key: &str, value: u32, min: u32, max: u32| {
        if !(min..=max).contains(&value) {
            add(key, &format!("the value must be from {min} to {max}"));
        }
    };
    range("jwks_refresh_s", auth.jwks_refresh_s, 10, 86_400);
    range("clock_skew_s", auth.clock_skew_s, 0, 300);
    range("token_bytes_max", auth.token_bytes_max, 256, 65_536);
}

/// Scheme and, if the host is an address, whether it may be asked at all. Names are looked at again
/// when they have been resolved.
fn check_url(url: &str, allow_private: bool) -> Result<(), &'static str> {
    let uri: http::Uri =
        url.parse().map_err(|_| "it is not a URL; write `https://host/path/jwks.json`")?;
    let Some(host) = uri.host() else { return Err("the URL has no host") };
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err("a URL with a user or password is not taken");
    }
    match uri.scheme_str() {
        Some("https") => {}
        Some("http") if allow_private => {}
        _ => {
            return Err(
                "a key set decides who gets in: use https, or a file, or http to a private \
                        address with `auth.jwks_allow_private`",
            );
        }
    }
    let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    if literal.is_ok_and(|address| !allow_private && is_private(address)) {
        return Err("it is a private address; if that is meant, set `auth.jwks_allow_private`");
    }
    Ok(())
}

/// Addresses that are not of the public internet, as far as they have names in the standard library
/// or are where cloud providers keep credentials.
pub fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            v4.is_loopback()
                || v4.is_private()
                || v4.is_link_local()
                || v4.is_multicast()
                || a == 0
                || a >= 240
                || (a == 100 && (64..128).contains(&b))
        }
        IpAddr::V6(v6) => {
            v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_unique_local()
                || v6.is_unicast_link_local()
                || v6.is_multicast()
        }
    }
}

fn api_keys(keys: &[ApiKeyConfig], found: &mut Vec<(String, String)>) {
    let mut add = |message: String| found.push(("api_keys".to_owned(), message));
    if keys.len() > KEYS_MAX {
        add(format!("there are {} keys; at most {KEYS_MAX} are taken", keys.len()));
    }
    for (index, key) in keys.iter().enumerate() {
        let name = &key.name;
        if name.is_empty() || name.len() > 64 || !name.bytes().all(|b| b.is_ascii_graphic()) {
            add(format!("{name:?} cannot name a key: 1 to 64 printable ASCII characters"));
        }
        if keys[..index].iter().any(|other| other.name == *name || other.hash == key.hash) {
            add(format!("the name or the hash of `{name}` is there twice"));
        }
        if key.key().is_none() {
            add(format!(
                "the hash of `{name}` is not 64 hexadecimal digits; `shardcast key` prints one, as \
                 does `printf %s \"$KEY\" | openssl dgst -sha256`"
            ));
        }
        let pattern_ok = |pattern: &String| {
            (1..=255).contains(&pattern.len()) && pattern.bytes().all(|b| b.is_ascii_graphic())
        };
        if !key.channels.iter().all(pattern_ok) {
            add(format!("`{name}` has a pattern that no channel fits: write such as `orders:*`"));
        }
        if !(1..=3_600).contains(&key.burst_s) {
            add(format!("`burst_s` of `{name}` must be from 1 to 3600"));
        }
    }
}

/// Every request is compared with each of them.
const KEYS_MAX: usize = 1_000;
