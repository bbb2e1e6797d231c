//! Keys of every kind, key sets, and their replacement.

use super::*;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap()
}

fn pem(made: &Value, name: &str) -> Key {
    Key::public_pem(text(made, &format!("/public/{name}")).as_bytes()).unwrap()
}

#[test]
fn tokens_of_openssl_are_taken_with_the_key_that_made_them_and_no_other() {
    let made = openssl();
    let key = |name: &str| match name {
        "secret" => Key::secret(text(&made, "/secret")).unwrap(),
        name => pem(&made, name),
    };
    let tokens = made["tokens"].as_array().unwrap();
    assert_eq!(tokens.len(), Algorithm::ALL.len());
    for entry in tokens {
        let (algorithm, own, token) = (text(entry, "/0"), text(entry, "/1"), text(entry, "/2"));
        for name in ["rsa", "p256", "p384", "ed25519", "secret"] {
            let verifier = Verifier::new(Rules::default(), vec![key(name)], None);
            let taken = verifier.connect(token, NOW_S);
            assert_eq!(taken.is_ok(), name == own, "{algorithm} with {name}: {taken:?}");
        }
        // A changed signature of every algorithm.
        let mut changed = token.to_owned();
        let last = if changed.ends_with('A') { 'Q' } else { 'A' };
        let at = changed.len() - 6;
        changed.replace_range(at..=at, &last.to_string());
        let verifier = Verifier::new(Rules::default(), vec![key(own)], None);
        assert_eq!(verifier.connect(&changed, NOW_S).unwrap_err(), TokenError::Signature);
    }
}

#[test]
fn a_key_set_gives_the_same_keys_and_leaves_out_what_is_for_something_else() {
    let made = openssl();
    let document = made["jwks"].to_string();
    let (keys, others) = parse_jwks(document.as_bytes(), AlgorithmSet::ALL).unwrap();
    let names: Vec<_> = keys.iter().map(|key| key.kid().unwrap().to_owned()).collect();
    assert_eq!(names, ["rsa", "p256", "p384", "ed25519"]);
    assert_eq!(others, 6);
    let feed = Arc::new(Feed::default());
    let verifier = Verifier::new(Rules::default(), Vec::new(), Some(Arc::clone(&feed)));
    feed.load(feed.begin(), keys);
    for entry in made["tokens"].as_array().unwrap() {
        let taken = verifier.connect(text(entry, "/2"), NOW_S);
        assert_eq!(taken.is_ok(), text(entry, "/1") != "secret", "{entry}: {taken:?}");
    }
    let only = AlgorithmSet::of(&[Algorithm::Es384]);
    let (keys, _) = parse_jwks(document.as_bytes(), only).unwrap();
    assert_eq!(keys.len(), 1);
    for bad in ["", "[]", "{}", r#"{"keys":7}"#, r#"{"keys":[]}"#, r#"{"keys":[{"kty":"oct"}]}"#] {
        assert!(parse_jwks(bad.as_bytes(), AlgorithmSet::ALL).is_err(), "{bad}");
    }
    let huge = format!(r#"{{"keys":[],"x":"{}"}}"#, "x".repeat(JWKS_BYTES_MAX));
    assert!(parse_jwks(huge.as_bytes(), AlgorithmSet::ALL).is_err());
    let entry = made["jwks"]["keys"][3].to_string();
    let many = format!(r#"{{"keys":[{}]}}"#, vec![entry; JWKS_KEYS_MAX + 1].join(","));
    assert!(parse_jwks(many.as_bytes(), AlgorithmSet::ALL).is_err());
}

#[test]
fn what_is_no_public_key_says_what_to_do() {
    let made = openssl();
    let of = |name: &str| {
        let pem = text(&made, &format!("/refused/{name}"));
        Key::public_pem(pem.as_bytes()).unwrap_err()
    };
    assert_eq!(of("private"), KeyError::PrivateKey);
    assert_eq!(of("certificate"), KeyError::Certificate);
    assert_eq!(of("rsa1024"), KeyError::RsaSize);
    for nothing in ["", "hello", "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n"] {
        assert_eq!(Key::public_pem(nothing.as_bytes()).unwrap_err(), KeyError::NoPublicKey);
    }
    assert_eq!(Key::secret("short").unwrap_err(), KeyError::SecretTooShort);
    assert_eq!(Key::rsa(&[0xff; 256], &[1]).unwrap_err(), KeyError::RsaSize);
    assert_eq!(Key::rsa(&[0xff; 256], &[]).unwrap_err(), KeyError::RsaSize);
    assert_eq!(Key::rsa(&[0xff; 1_025], &[1, 0, 1]).unwrap_err(), KeyError::RsaSize);
    assert_eq!(Key::p256(&[4; 64]).unwrap_err(), KeyError::Length);
    assert_eq!(Key::p384(&[2; 97]).unwrap_err(), KeyError::Length);
    assert_eq!(Key::ed25519(&[0; 31]).unwrap_err(), KeyError::Length);
    let shown = format!("{:?}", Key::secret(SECRET).unwrap().named(Some("k")));
    assert!(shown.contains("secret") && !shown.contains(SECRET), "{shown}");
}

/// A key pair under a name.
struct Pair(Ed25519KeyPair, &'static str);

impl Pair {
    fn new(kid: &'static str) -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self(Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap(), kid)
    }

    fn key(&self) -> Key {
        Key::ed25519(self.0.public_key().as_ref()).unwrap().named(Some(self.1))
    }

    fn token(&self) -> String {
        let header = json!({"alg": "EdDSA", "kid": self.1}).to_string();
        let header = URL_SAFE_NO_PAD.encode(header);
        let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(r#"{"sub":"ann"}"#));
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(self.0.sign(signed.as_bytes())))
    }
}

#[test]
fn a_set_is_replaced_as_a_whole_and_a_name_that_it_lacks_is_looked_for_once_more() {
    let (old, new, never) = (Pair::new("old"), Pair::new("new"), Pair::new("never"));
    let feed = Arc::new(Feed::default());
    let asked = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&asked);
    feed.on_wanted(move || {
        counter.fetch_add(1, Ordering::Relaxed);
    });
    let verifier = Verifier::new(Rules::default(), Vec::new(), Some(Arc::clone(&feed)));
    let check = |pair: &Pair| verifier.connect(&pair.token(), NOW_S).map(|_| ());
    // Nothing has been read yet: that is not the client's fault.
    assert_eq!(check(&old), Err(TokenError::KeysPending));
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    feed.load(feed.begin(), vec![old.key()]);
    assert_eq!(check(&old), Ok(()));
    // A round that began before the name was first seen proves nothing.
    let round = feed.begin();
    assert_eq!(check(&new), Err(TokenError::KeysPending));
    feed.load(round, vec![old.key()]);
    assert_eq!(check(&new), Err(TokenError::KeysPending));
    feed.load(feed.begin(), vec![old.key(), new.key()]);
    assert_eq!((check(&old), check(&new)), (Ok(()), Ok(())));
    // One that began later does.
    assert_eq!(check(&never), Err(TokenError::KeysPending));
    // A round that fails is not told, and changes nothing.
    feed.begin();
    assert_eq!(check(&never), Err(TokenError::KeysPending));
    feed.load(feed.begin(), vec![new.key()]);
    assert_eq!(check(&never), Err(TokenError::UnknownKey));
    assert_eq!(check(&old), Err(TokenError::KeysPending));
    assert_eq!(check(&new), Ok(()));
    // Names without end take no memory without end, and the known key goes on.
    for n in 0..10_000 {
        let header =
            URL_SAFE_NO_PAD.encode(json!({"alg": "EdDSA", "kid": n.to_string()}).to_string());
        let _ = verifier.connect(&format!("{header}.e30.AAAA"), NOW_S);
    }
    assert_eq!(check(&new), Ok(()));
}

#[test]
fn a_name_picks_the_key_and_a_wrong_name_does_not_help() {
    let (one, two) = (Pair::new("one"), Pair::new("two"));
    let swapped = Key::ed25519(one.0.public_key().as_ref()).unwrap().named(Some("two"));
    let verifier = Verifier::new(Rules::default(), vec![swapped, two.key()], None);
    assert_eq!(verifier.connect(&one.token(), NOW_S).unwrap_err(), TokenError::UnknownKey);
    assert!(verifier.connect(&two.token(), NOW_S).is_ok());
    // A key without a name is for every token.
    let nameless = Key::ed25519(one.0.public_key().as_ref()).unwrap();
    let verifier = Verifier::new(Rules::default(), vec![nameless], None);
    assert!(verifier.connect(&one.token(), NOW_S).is_ok());
    // Several secrets, so that they can change: a token may be signed with any of them.
    let secrets = vec![Key::secret(&"x".repeat(40)).unwrap(), Key::secret(SECRET).unwrap()];
    let verifier = Verifier::new(Rules::default(), secrets, None);
    assert!(verifier.connect(&token(&json!({"sub": ""})), NOW_S).is_ok());
}
