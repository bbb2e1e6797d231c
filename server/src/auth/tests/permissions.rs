//! Who may do what, as a table; and API keys.

use super::*;
use crate::config::namespace::{Access, Namespace};

const ACCESS: [Access; 4] =
    [Access::Nobody, Access::Token, Access::Authenticated, Access::Anonymous];

fn namespace(access: Access) -> Namespace {
    Namespace {
        subscribe: access,
        client_publish: access,
        history: access,
        presence: access,
        ..Namespace::default()
    }
}

fn client(claims: Value) -> Caller {
    Caller::Client(identity(claims).into())
}

fn service(channels: &[&str], rights: &[Right]) -> Caller {
    let channels: Vec<String> = channels.iter().map(|text| (*text).to_owned()).collect();
    let key = ApiKey::new(&KeyDraft {
        name: "svc",
        hash: &hash_of("key"),
        channels: &channels,
        rights: rights.iter().copied().collect(),
        admin: false,
        events_per_s: 0,
        bytes_per_s: 0,
        burst_s: 1,
    });
    Caller::Service(key.unwrap().into())
}

/// What becomes of one action at each access, from `nobody` to `anonymous`: `+` allowed, `c`
/// closed, `u` unauthenticated, `n` not granted, `a` not in the key's `allow`, `o` in another
/// channel than the key's.
fn row(caller: &Caller, channel: &str, action: Action) -> String {
    let letter = |access| match allows(caller, &namespace(access), channel, action) {
        Ok(()) => '+',
        Err(Denied::Closed) => 'c',
        Err(Denied::Unauthenticated) => 'u',
        Err(Denied::NotGranted) => 'n',
        Err(Denied::NotInAllow) => 'a',
        Err(Denied::NotInChannels) => 'o',
    };
    ACCESS.map(letter).iter().collect()
}

#[test]
fn the_table_of_callers_and_accesses() {
    use Action::{History, Presence, Publish, PublishRequest, Subscribe};
    let all = [Subscribe, Publish, History, Presence];
    let ann = client(json!({"sub": "ann"}));
    let nobody = client(json!({"sub": ""}));
    let lister = client(json!({"sub": "", "channels": ["c"]}));
    let caps = client(json!({"sub": "", "caps": [
        {"channels": ["c", "*"], "allow": ["pub"]},
        {"channels": ["t:*"], "match": "wildcard", "allow": ["sub", "hst"]},
    ]}));
    for action in all {
        assert_eq!(row(&Caller::Open, "c", action), "c+++", "{action:?}");
        assert_eq!(row(&Caller::Anonymous, "c", action), "cuu+", "{action:?}");
        assert_eq!(row(&ann, "c", action), "cn++", "{action:?}");
        assert_eq!(row(&nobody, "c", action), "cnn+", "{action:?}");
    }
    assert_eq!(row(&lister, "c", Subscribe), "c+++");
    assert_eq!(row(&lister, "c", Publish), "cnn+");
    assert_eq!(row(&lister, "cc", Subscribe), "cnn+");
    assert_eq!(row(&caps, "c", Publish), "c+++");
    assert_eq!(row(&caps, "c", Subscribe), "cnn+");
    // Without `match` a star is a name.
    assert_eq!(row(&caps, "d", Publish), "cnn+");
    assert_eq!(row(&caps, "*", Publish), "c+++");
    assert_eq!(row(&caps, "t:eu", Subscribe), "c+++");
    assert_eq!(row(&caps, "t:eu", History), "c+++");
    assert_eq!(row(&caps, "t:eu", Presence), "cnn+");
    assert_eq!(row(&caps, "T:eu", Subscribe), "cnn+");
    // Publishing with a request: anybody without authentication, services by key, clients as ever.
    assert_eq!(row(&Caller::Open, "c", PublishRequest), "++++");
    assert_eq!(row(&Caller::Anonymous, "c", PublishRequest), "cuu+");
    assert_eq!(row(&ann, "c", PublishRequest), "cn++");
    assert_eq!(row(&caps, "c", PublishRequest), "c+++");
    let publisher = service(&["orders:*"], &[Right::Publish]);
    assert_eq!(row(&publisher, "orders:eu", PublishRequest), "++++");
    assert_eq!(row(&publisher, "orders", PublishRequest), "oooo");
    assert_eq!(row(&publisher, "orders:eu", Publish), "c+++");
    assert_eq!(row(&publisher, "orders:eu", Subscribe), "caaa");
    let reader = service(&["*"], &[Right::Subscribe, Right::History]);
    assert_eq!(row(&reader, "x", Subscribe), "c+++");
    assert_eq!(row(&reader, "x", History), "c+++");
    assert_eq!(row(&reader, "x", Presence), "caaa");
    assert_eq!(row(&reader, "x", PublishRequest), "aaaa");
    let closed = Namespace { publish: false, ..namespace(Access::Anonymous) };
    for caller in [Caller::Open, Caller::Anonymous, ann, publisher] {
        let refused = allows(&caller, &closed, "orders:eu", PublishRequest);
        assert_eq!(refused, Err(Denied::Closed), "{caller:?}");
    }
}

#[test]
fn a_channel_may_be_for_the_users_in_its_name() {
    let check = |caller: &Caller, access, channel: &str, action| {
        let namespace = Namespace { user_channels: true, ..namespace(access) };
        allows(caller, &namespace, channel, action)
    };
    let (ann, bob) = (client(json!({"sub": "ann"})), client(json!({"sub": "bob"})));
    let everything = json!([{"channels": ["*"], "match": "wildcard", "allow": ["sub", "pub"]}]);
    let eve = client(json!({"sub": "eve", "caps": everything}));
    let subscribe = Action::Subscribe;
    for access in [Access::Token, Access::Authenticated, Access::Anonymous] {
        for caller in [&ann, &bob] {
            assert_eq!(check(caller, access, "chat#ann,bob", subscribe), Ok(()), "{access:?}");
        }
        for channel in ["chat#ann,bob", "chat#eve2", "chat#", "chat#eve#ann", "chat#EVE"] {
            let refused = check(&eve, access, channel, subscribe);
            assert_eq!(refused, Err(Denied::NotGranted), "{access:?} {channel}");
        }
        let refused = check(&Caller::Anonymous, access, "chat#ann", subscribe);
        assert_eq!(refused, Err(Denied::Unauthenticated));
        let refused = check(&client(json!({"sub": ""})), access, "chat#", subscribe);
        assert_eq!(refused, Err(Denied::NotGranted));
    }
    assert_eq!(check(&ann, Access::Nobody, "chat#ann", subscribe), Err(Denied::Closed));
    // Being named is leave to follow; to publish it takes what it takes elsewhere.
    assert_eq!(check(&ann, Access::Token, "chat#ann", Action::Publish), Err(Denied::NotGranted));
    let eves = "chat#eve";
    assert_eq!(check(&eve, Access::Token, eves, Action::Publish), Ok(()));
    // Without the option the name is just a name.
    assert_eq!(allows(&ann, &namespace(Access::Anonymous), "chat#bob", subscribe), Ok(()));
    assert_eq!(check(&ann, Access::Authenticated, "chat", subscribe), Ok(()));
}

#[test]
fn a_subscription_token_stands_in_for_the_right_and_for_nothing_else() {
    let verifier = verifier();
    let of = |channel: &str| {
        let token = token(&json!({"sub": "ann", "channel": channel}));
        verifier.subscribe(&token, NOW_S, "ann", None).unwrap()
    };
    let ann = client(json!({"sub": "ann"}));
    let check = |namespace: &Namespace, channel: &str, grant: Option<&SubscriptionGrant>| {
        allows_subscription(&ann, namespace, channel, grant)
    };
    let private = namespace(Access::Token);
    assert_eq!(check(&private, "c", None), Err(Denied::NotGranted));
    assert_eq!(check(&private, "c", Some(&of("c"))), Ok(()));
    assert_eq!(check(&private, "d", Some(&of("c"))), Err(Denied::NotGranted));
    let grant = of("c");
    assert_eq!(check(&namespace(Access::Nobody), "c", Some(&grant)), Err(Denied::Closed));
    let users = Namespace { user_channels: true, ..namespace(Access::Token) };
    assert_eq!(check(&users, "c#bob", Some(&of("c#bob"))), Err(Denied::NotGranted));
}

#[test]
fn a_key_is_found_by_its_hash_and_nothing_near_it() {
    let draft = |name: &'static str, hash: &'static str| KeyDraft {
        name,
        hash,
        channels: &[],
        rights: Rights::default(),
        admin: name == "b",
        events_per_s: 10,
        bytes_per_s: 1_000,
        burst_s: 1,
    };
    // printf %s key-a | openssl dgst -sha256
    const A: &str = "8a68d33b72d94e0ebf7e80e49e90d4b5e3a1d6f4d7a0b0ab3b1d5e3a4f4e2c11";
    let a_hash: &'static str = Box::leak(hash_of("key-a").into_boxed_str());
    let b_hash: &'static str = Box::leak(hash_of("key-b").to_ascii_uppercase().into_boxed_str());
    let keys: Vec<ApiKey> =
        [draft("a", a_hash), draft("b", b_hash)].iter().filter_map(ApiKey::new).collect();
    let keys = ApiKeys::new(keys);
    assert!(keys.has_admin());
    assert_eq!(keys.find("key-a").map(|key| key.name()), Some("a"));
    assert_eq!(keys.find("key-b").map(|key| key.name()), Some("b"));
    for bad in ["", "key-", "key-A", "key-a ", a_hash, &"x".repeat(10_000)] {
        assert!(keys.find(bad).is_none(), "{bad}");
    }
    assert!(ApiKeys::default().find("").is_none());
    for bad in ["", "xyz", &A[1..], &format!("{A}0"), &A.replace('8', "g")] {
        let bad: &'static str = Box::leak(bad.to_owned().into_boxed_str());
        assert!(ApiKey::new(&draft("a", bad)).is_none(), "{bad}");
    }
    // SHA-256 of "abc", from FIPS 180-2.
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(hash_of("abc"), abc);
    let a = keys.find("key-a").unwrap();
    assert!(!format!("{a:?}").contains(&a_hash[..8]));
    // Ten events, or a thousand bytes, whichever comes first; a refused one costs nothing.
    assert_eq!((0..20).filter(|_| a.take(1_000, 1).is_ok()).count(), 10);
    let b = keys.find("key-b").unwrap();
    assert_eq!((0..20).filter(|_| b.take(1_000, 300).is_ok()).count(), 3);
    assert_eq!((0..20).filter(|_| b.take(1_000, 1).is_ok()).count(), 7);
    assert!(is_same("token", "token") && !is_same("token", "tokem"));
}
