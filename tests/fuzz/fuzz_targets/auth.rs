//! Tokens, key sets and public keys: any bytes end in an answer. Claims are reached through a good
//! signature made here, since random bytes never get that far; what is taken then obeys the rules,
//! and a token whose signature was not made here never is.
#![cfg_attr(fuzzing, no_main)]

#[cfg(not(fuzzing))]
fn main() {}

#[cfg(fuzzing)]
mod target {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use server::auth::{AlgorithmSet, Key, Rules, Verifier, parse_jwks};
    use server::pattern::Pattern;
    use std::sync::LazyLock;

    const SECRET: &str = "fuzz-secret-0123456789abcdef-0123456";
    const NOW_S: i64 = 1_800_000_000;

    static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
        let rules = Rules { clock_skew_s: 5, ..Rules::default() };
        Verifier::new(rules, vec![Key::secret(SECRET).expect("long")], None)
    });

    fn sign(header: &[u8], claims: &[u8]) -> String {
        let encode = |bytes| URL_SAFE_NO_PAD.encode(bytes);
        let signed = format!("{}.{}", encode(header), encode(claims));
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET.as_bytes());
        let mac = ring::hmac::sign(&key, signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.as_ref()))
    }

    fn claims(claims: &[u8]) {
        let token = sign(br#"{"alg":"HS256"}"#, claims);
        if let Ok(identity) = VERIFIER.connect(&token, NOW_S) {
            assert!(identity.expires_at_s.is_none_or(|at| at > NOW_S));
            assert!(identity.subscriptions.len() <= 256);
            // The other kind of token it is not.
            assert!(VERIFIER.subscribe(&token, NOW_S, &identity.user, None).is_err());
        }
        let _ = VERIFIER.subscribe(&token, NOW_S, "ann", Some("c"));
    }

    pub fn run(data: &[u8]) {
        let Some((kind, rest)) = data.split_first() else { return };
        match kind % 5 {
            0 => {
                if let Ok(token) = std::str::from_utf8(rest) {
                    assert!(VERIFIER.connect(token, NOW_S).is_err(), "nobody signed it");
                }
            }
            1 => claims(rest),
            2 => {
                let token = sign(rest, br#"{"sub":"ann"}"#);
                if let Ok(identity) = VERIFIER.connect(&token, NOW_S) {
                    assert_eq!(&*identity.user, "ann");
                }
            }
            3 => {
                let _ = parse_jwks(rest, AlgorithmSet::ALL);
                let _ = Key::public_pem(rest);
                let pem = base64::engine::general_purpose::STANDARD.encode(rest);
                let pem = format!("-----BEGIN PUBLIC KEY-----\n{pem}\n-----END PUBLIC KEY-----\n");
                let _ = Key::public_pem(pem.as_bytes());
            }
            _ => {
                let text = String::from_utf8_lossy(rest);
                let (pattern, channel) = text.split_once('\n').unwrap_or((&text, ""));
                let (pattern, channel) = (cut(pattern), cut(channel));
                let matches = Pattern::wildcard(pattern).matches(channel);
                assert_eq!(matches, slowly(pattern.as_bytes(), channel.as_bytes()));
            }
        }
    }

    fn cut(text: &str) -> &str {
        &text[..text.floor_char_boundary(10)]
    }

    /// What a star means, said as simply as it can be.
    fn slowly(pattern: &[u8], name: &[u8]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some((b'*', rest)) => (0..=name.len()).any(|at| slowly(rest, &name[at..])),
            Some((byte, rest)) => name.first() == Some(byte) && slowly(rest, &name[1..]),
        }
    }
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
