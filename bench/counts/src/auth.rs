//! What a connect costs before there is a session: a token to an identity.

use crate::measured;
use server::auth::{Key, Rules, Verifier};
use std::hint::black_box;

const RUNS: u64 = 1_000;

/// A token as a backend makes them: a user, times, an issuer, two channels, something about the
/// user. Signed by openssl over `SECRET` once, so that nothing here can agree with itself by
/// mistake.
const TOKEN: &str = include_str!("auth/token.txt");
const SECRET: &str = "counts-secret-0123456789abcdef-0123";

/// HS256, the whole way: shape, signature, claims.
pub fn hs256() -> u64 {
    let rules = Rules {
        audience: vec!["shardcast".to_owned()],
        issuer: "https://id.example.org".to_owned(),
        ..Rules::default()
    };
    let key = Key::secret(SECRET).expect("a long secret");
    let verifier = Verifier::new(rules, vec![key], None);
    for _ in 0..RUNS {
        let identity = measured(|| verifier.connect(black_box(TOKEN.trim_ascii()), 1_800_000_000));
        let identity = identity.expect("a good token");
        assert_eq!((&*identity.user, identity.subscriptions.len()), ("user-4711", 2));
    }
    RUNS
}
