//! From `[auth]`, `[[api_keys]]` and `admin_token` to what checks them: the files are read here.

use super::BootError;
use crate::auth::{ApiKeys, Auth, Feed, Key, Rules, SECRET_BYTES_MIN, Secret, Verifier};
use crate::config::{Config, whole};
use crate::log;
use std::path::Path;
use std::sync::Arc;

/// What callers are checked with.
pub(super) struct Authentication {
    /// `None` if nothing is configured.
    pub(super) auth: Option<Arc<Auth>>,
    /// Where the keys of a key set go, if there is one.
    pub(super) feed: Option<Arc<Feed>>,
    pub(super) admin_token: Option<Secret>,
}

/// Reads what the configuration names.
pub(super) fn authentication(config: &Config) -> Result<Authentication, BootError> {
    let admin_token = admin_token(config)?;
    if !config.authenticates() {
        return Ok(Authentication { auth: None, feed: None, admin_token });
    }
    let own = &config.auth;
    let feed = (!own.jwks.is_empty()).then(|| Arc::new(Feed::default()));
    let rules = Rules {
        algorithms: own.algorithm_set(),
        audience: own.audience.clone(),
        issuer: own.issuer.clone(),
        clock_skew_s: own.clock_skew_s,
        token_bytes_max: own.token_bytes_max as usize,
    };
    let fixed = fixed_keys(config)?;
    let verifier = own.has_keys().then(|| Verifier::new(rules, fixed, feed.clone()));
    let mut keys = Vec::new();
    for key in &config.api_keys {
        keys.push(key.key().ok_or_else(|| {
            let message = format!("api_keys: the hash of `{}` is no SHA-256", key.name);
            BootError::new(message, "`shardcast key` prints a key and its hash")
        })?);
    }
    let keys = ApiKeys::new(keys);
    let auth = Some(Arc::new(Auth { verifier, keys, token_in_url: own.token_in_url }));
    Ok(Authentication { auth, feed, admin_token })
}

/// Says once that anybody may come in, where that is not only this machine.
pub(super) fn warn_if_open(config: &Config) {
    let remote = config.listen.iter().find(|address| !address.ip().to_canonical().is_loopback());
    if let Some(address) = remote
        && !config.authenticates()
    {
        log::warn(
            "no authentication: whoever reaches this address may publish and subscribe; set a key in \
             `auth` or `api_keys`",
            &[("address", address)],
        );
    }
}

fn fixed_keys(config: &Config) -> Result<Vec<Key>, BootError> {
    let own = &config.auth;
    let algorithms = own.algorithm_set();
    let mut keys = Vec::new();
    let mut add = |what: &str, key: Result<Key, crate::auth::KeyError>| {
        let key = key.and_then(|key| key.only(algorithms));
        keys.push(key.map_err(|error| BootError::new(format!("{what}: {error}"), GUIDE))?);
        Ok(())
    };
    if !own.hmac_secret.is_empty() {
        add("auth.hmac_secret", Key::secret(own.hmac_secret.reveal()))?;
    }
    if !own.hmac_secret_file.as_os_str().is_empty() {
        let what = format!("auth.hmac_secret_file {}", whole(&own.hmac_secret_file));
        let text = read_text(&what, &own.hmac_secret_file)?;
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty()).peekable();
        if lines.peek().is_none() {
            return Err(BootError::new(format!("{what}: it is empty"), GUIDE));
        }
        for line in lines {
            add(&what, Key::secret(line))?;
        }
    }
    for path in &own.public_key_files {
        let what = format!("auth.public_key_files {}", whole(path));
        let pem = read(&what, path)?;
        add(&what, Key::public_pem(&pem))?;
    }
    Ok(keys)
}

fn admin_token(config: &Config) -> Result<Option<Secret>, BootError> {
    if !config.admin_token.is_empty() {
        return Ok(Some(config.admin_token.clone()));
    }
    let path = &config.admin_token_file;
    if path.as_os_str().is_empty() {
        return Ok(None);
    }
    let what = format!("admin_token_file {}", whole(path));
    let token = read_text(&what, path)?.trim().to_owned();
    if token.len() < SECRET_BYTES_MIN {
        let message = format!("{what}: a token needs at least {SECRET_BYTES_MIN} characters");
        return Err(BootError::new(message, "make one with `openssl rand -hex 32`"));
    }
    Ok(Some(Secret::new(token)))
}

fn read(what: &str, path: &Path) -> Result<Vec<u8>, BootError> {
    std::fs::read(path).map_err(|error| BootError::new(format!("{what}: {error}"), GUIDE))
}

fn read_text(what: &str, path: &Path) -> Result<String, BootError> {
    // Not with the bytes in the error.
    let text = String::from_utf8(read(what, path)?);
    text.map_err(|_| BootError::new(format!("{what}: it is not text"), GUIDE))
}

const GUIDE: &str = "see docs/guides/authentication.md for how to make it";
