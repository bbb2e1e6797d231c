//! Tokens, good and bad.

use super::*;

/// What becomes of a connection token.
fn connect(token: &str) -> Result<Identity, TokenError> {
    verifier().connect(token, NOW_S)
}

fn refused(token: &str) -> TokenError {
    connect(token).map(|identity| panic!("taken as {identity:?}: {token}")).unwrap_err()
}

fn is_malformed(error: TokenError) -> bool {
    matches!(error, TokenError::Malformed(_))
}

const HEADER: &str = r#"{"alg":"HS256"}"#;

#[test]
fn a_good_token_says_who_it_is() {
    let identity = identity(json!({
        "sub": "ann", "exp": NOW_S + 60, "nbf": NOW_S, "iat": NOW_S - 1, "jti": "t1", "aud": ["x"],
        "iss": "y", "info": {"name": "Ann"}, "meta": {"secret": 1}, "unknown": [[]],
        "channels": ["news", "orders:eu"],
        "subs": {"orders:eu": {"info": {"a": 1}, "b64data": "AAE=", "override":
            {"presence": {"value": true}, "force_recovery": {"value": false}}}},
    }));
    assert_eq!((&*identity.user, identity.expires_at_s), ("ann", Some(NOW_S + 60)));
    assert_eq!(identity.info.as_deref(), Some(&br#"{"name":"Ann"}"#[..]));
    assert_eq!(identity.meta.as_deref(), Some(&br#"{"secret":1}"#[..]));
    assert_eq!(identity.token_id.as_deref(), Some("t1"));
    let [orders, news] = &*identity.subscriptions else { panic!("{identity:?}") };
    assert_eq!((orders.channel.as_str(), news.channel.as_str()), ("orders:eu", "news"));
    assert_eq!(orders.info.as_deref(), Some(&br#"{"a":1}"#[..]));
    assert_eq!(orders.data.as_deref(), Some(&[0, 1][..]));
    let overrides = orders.overrides;
    assert_eq!((overrides.presence, overrides.force_recovery), (Some(true), Some(false)));
    assert_eq!(overrides.join_leave, None);
    let nobody = super::identity(json!({"sub": ""}));
    assert_eq!((&*nobody.user, nobody.expires_at_s, nobody.info), ("", None, None));
    let binary = super::identity(json!({"sub": "", "b64info": "/w=="})).info;
    assert_eq!(binary.as_deref(), Some(&[0xff][..]));
}

#[test]
fn what_is_no_token_is_refused_before_a_key_is_looked_at() {
    let long = token(&json!({"sub": "x".repeat(10_000)}));
    assert_eq!(refused(&long), TokenError::TooLarge);
    assert_eq!(refused(&"a".repeat(8_193)), TokenError::TooLarge);
    let good = token(&json!({"sub": "ann"}));
    let [header, payload, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!() };
    let cases = [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        "a.b.c".to_owned(),
        "hello".to_owned(),
        format!("{header}.{payload}"),
        format!("{header}.{payload}.{signature}.{signature}"),
        format!("{header}.{payload}.{signature}="),
        format!("{header}=.{payload}.{signature}"),
        format!(" {good}"),
        format!("{good}\n"),
        format!("{header}.{payload}.***"),
        format!("!!!.{payload}.{signature}"),
        token_of("not json", r#"{"sub":""}"#),
        token_of("[]", r#"{"sub":""}"#),
        token_of("{}", r#"{"sub":""}"#),
        token_of(r#"{"alg":null}"#, r#"{"sub":""}"#),
        token_of(r#"{"alg":["HS256"]}"#, r#"{"sub":""}"#),
        token_of(r#"{"alg":"HS256","alg":"HS256"}"#, r#"{"sub":""}"#),
        token_of(r#"{"alg":"HS256","crit":["b64"],"b64":false}"#, r#"{"sub":""}"#),
        token_of(r#"{"alg":"HS256","kid":7}"#, r#"{"sub":""}"#),
        token_of(&format!(r#"{{"alg":"HS256","kid":"{}"}}"#, "k".repeat(257)), r#"{"sub":""}"#),
    ];
    for case in cases {
        assert!(is_malformed(refused(&case)), "{case:?}: {:?}", refused(&case));
    }
}

#[test]
fn an_algorithm_is_never_the_tokens_choice() {
    let payload = URL_SAFE_NO_PAD.encode(r#"{"sub":"ann"}"#);
    for name in ["none", "None", "NONE", "", "HS256 ", "hs256", "PS256", "ES512", "A128KW"] {
        let header = URL_SAFE_NO_PAD.encode(json!({ "alg": name }).to_string());
        for signature in ["", "AAAA"] {
            let token = format!("{header}.{payload}.{signature}");
            assert_eq!(refused(&token), TokenError::Algorithm, "{name}");
        }
    }
    // A good HS256 signature under another name is none.
    for name in ["HS384", "HS512"] {
        let claimed = token_of(&json!({ "alg": name }).to_string(), r#"{"sub":"ann"}"#);
        assert_eq!(refused(&claimed), TokenError::Signature, "{name}");
    }
    for name in ["RS256", "ES256", "ES384", "EdDSA", "Ed25519"] {
        let claimed = token_of(&json!({ "alg": name }).to_string(), r#"{"sub":"ann"}"#);
        assert_eq!(refused(&claimed), TokenError::Algorithm, "{name}");
    }
    // One that is configured away is gone.
    let rules = Rules { algorithms: AlgorithmSet::of(&[Algorithm::Hs512]), ..Rules::default() };
    let error = verifier_with(rules).connect(&token(&json!({"sub": ""})), NOW_S).unwrap_err();
    assert_eq!(error, TokenError::Algorithm);
}

#[test]
fn a_public_key_is_never_a_secret() {
    let made = openssl();
    let pem = made["public"]["rsa"].as_str().unwrap();
    let verifier =
        Verifier::new(Rules::default(), vec![Key::public_pem(pem.as_bytes()).unwrap()], None);
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","kid":"rsa"}"#),
        URL_SAFE_NO_PAD.encode(r#"{"sub":"mallory"}"#)
    );
    // The public key as the secret, in each form that a careless server may have it in.
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = base64::engine::general_purpose::STANDARD.decode(&body).unwrap();
    for secret in [pem.as_bytes(), pem.trim_end().as_bytes(), body.as_bytes(), &der] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let mac = URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes()).as_ref());
        let error = verifier.connect(&format!("{signed}.{mac}"), NOW_S).unwrap_err();
        assert!(matches!(error, TokenError::Algorithm | TokenError::UnknownKey), "{error:?}");
    }
    assert_eq!(Key::secret(pem).unwrap_err(), KeyError::SecretIsPem);
}

#[test]
fn a_changed_bit_is_found_wherever_it_is() {
    let good = token(&json!({"sub": "ann", "exp": NOW_S + 60}));
    assert!(connect(&good).is_ok());
    for at in 0..good.len() {
        let mut changed = good.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        if changed != good {
            refused(&changed);
        }
    }
    let other = Verifier::new(
        Rules::default(),
        vec![Key::secret("another secret that is long enough, too").unwrap()],
        None,
    );
    assert_eq!(other.connect(&good, NOW_S).unwrap_err(), TokenError::Signature);
}

#[test]
fn claims_of_the_wrong_kind_or_twice_are_refused_and_unknown_ones_are_not() {
    let cases = [
        "",
        "null",
        "[]",
        "{",
        r#"{"sub":"a"}x"#,
        r#"{"sub":7}"#,
        r#"{"sub":"a","exp":"tomorrow"}"#,
        r#"{"sub":"a","exp":true}"#,
        r#"{"sub":"a","exp":1e999}"#,
        r#"{"sub":"a","nbf":{}}"#,
        r#"{"sub":"a","iat":"x"}"#,
        r#"{"sub":"a","aud":7}"#,
        r#"{"sub":"a","aud":["x",7]}"#,
        r#"{"sub":"a","channels":"news"}"#,
        r#"{"sub":"a","channels":["with space"]}"#,
        r#"{"sub":"a","channels":[""]}"#,
        r#"{"sub":"a","subs":[]}"#,
        r#"{"sub":"a","subs":{"x":{},"x":{}}}"#,
        r#"{"sub":"a","subs":{"x":7}}"#,
        r#"{"sub":"a","caps":{}}"#,
        r#"{"sub":"a","caps":[{"channels":["x"],"allow":["sub","fly"]}]}"#,
        r#"{"sub":"a","caps":[{"channels":["x"],"match":"regex","allow":["sub"]}]}"#,
        r#"{"sub":"a","b64info":"*"}"#,
        r#"{"sub":"a","sub":"b"}"#,
        r#"{"sub":"a","exp":4102444800,"exp":1}"#,
        r#"{"sub":"a","expire_at":1,"expire_at":0}"#,
    ];
    for claims in cases {
        let error = refused(&token_of(HEADER, claims));
        assert!(is_malformed(error), "{claims}: {error:?}");
    }
    for claims in [r#"{}"#, r#"{"sub":null}"#, r#"{"exp":4102444800}"#] {
        assert_eq!(refused(&token_of(HEADER, claims)), TokenError::NoSubject, "{claims}");
    }
    let deep = format!(r#"{{"sub":"a","x":{}{}}}"#, "[".repeat(3_000), "]".repeat(3_000));
    // Deeper than anybody means it: taken or refused, never a stack that runs out.
    let _ = connect(&token_of(HEADER, &deep));
    assert!(connect(&token_of(HEADER, r#"{"sub":"a","x":1,"x":2,"info":null}"#)).is_ok());
    let many: Vec<String> = (0..257).map(|n| format!("c{n}")).collect();
    assert!(is_malformed(refused(&token(&json!({"sub": "a", "channels": many})))));
}

#[test]
fn times_are_compared_with_the_clock_and_its_skew() {
    let rules = Rules { clock_skew_s: 10, ..Rules::default() };
    let verifier = verifier_with(rules);
    let check = |claims: Value| {
        let mut claims = claims;
        claims["sub"] = json!("a");
        verifier.connect(&token(&claims), NOW_S).map(|identity| identity.expires_at_s)
    };
    assert_eq!(check(json!({"exp": NOW_S - 9})), Ok(Some(NOW_S + 1)));
    assert_eq!(check(json!({"exp": NOW_S - 10})), Err(TokenError::Expired));
    assert_eq!(check(json!({"exp": 0})), Err(TokenError::Expired));
    assert_eq!(check(json!({"exp": -5})), Err(TokenError::Expired));
    assert_eq!(check(json!({"exp": -1e300})), Err(TokenError::Expired));
    assert_eq!(check(json!({"exp": NOW_S as f64 + 0.9})), Ok(Some(NOW_S + 10)));
    assert_eq!(check(json!({"exp": u64::MAX})), Ok(Some(253_402_300_809)));
    assert_eq!(check(json!({"nbf": NOW_S + 10})), Ok(None));
    assert_eq!(check(json!({"nbf": NOW_S + 11})), Err(TokenError::NotYetValid));
    // The connection's end is `expire_at` where that is said, 0 for never; `exp` is still checked.
    let exp = NOW_S + 60;
    assert_eq!(check(json!({"exp": exp, "expire_at": NOW_S + 5})), Ok(Some(NOW_S + 15)));
    assert_eq!(check(json!({"exp": exp, "expire_at": 0})), Ok(None));
    assert_eq!(check(json!({"exp": exp, "expire_at": NOW_S - 10})), Err(TokenError::Expired));
    assert_eq!(check(json!({"exp": 1, "expire_at": 0})), Err(TokenError::Expired));
}

#[test]
fn audience_and_issuer_count_where_they_are_configured() {
    let rules = Rules {
        audience: vec!["shardcast".to_owned(), "other".to_owned()],
        issuer: "https://id.example".to_owned(),
        ..Rules::default()
    };
    let verifier = verifier_with(rules);
    let check = |aud: Value, iss: Value| {
        let claims = json!({"sub": "a", "aud": aud, "iss": iss});
        verifier.connect(&token(&claims), NOW_S).map(|_| ())
    };
    let iss = || json!("https://id.example");
    assert_eq!(check(json!("shardcast"), iss()), Ok(()));
    assert_eq!(check(json!(["x", "other"]), iss()), Ok(()));
    for aud in [json!("Shardcast"), json!([]), json!(null), json!("shardcast2")] {
        assert_eq!(check(aud.clone(), iss()), Err(TokenError::Audience), "{aud}");
    }
    for iss in [json!("https://id.example/"), json!(null), json!("")] {
        assert_eq!(check(json!("other"), iss.clone()), Err(TokenError::Issuer), "{iss}");
    }
}

#[test]
fn a_subscription_token_is_for_one_user_and_one_channel() {
    let verifier = verifier();
    let subscribe = |claims: Value, channel: Option<&str>| {
        verifier.subscribe(&token(&claims), NOW_S, "ann", channel)
    };
    let good = json!({
        "sub": "ann", "channel": "orders:eu", "exp": NOW_S + 5, "info": [1],
        "override": {"force_push_join_leave": {"value": true}},
    });
    for channel in [None, Some("orders:eu")] {
        let grant = subscribe(good.clone(), channel).unwrap();
        assert_eq!((grant.channel.as_str(), grant.expires_at_s), ("orders:eu", Some(NOW_S + 5)));
        assert_eq!(grant.info.as_deref(), Some(&b"[1]"[..]));
        assert_eq!(grant.overrides.force_push_join_leave, Some(true));
    }
    let error = |claims: Value, channel| subscribe(claims, channel).unwrap_err();
    assert_eq!(error(good.clone(), Some("orders:EU")), TokenError::Channel);
    assert_eq!(error(json!({"sub": "bob", "channel": "c"}), None), TokenError::User);
    assert_eq!(error(json!({"channel": "c"}), None), TokenError::NoSubject);
    assert_eq!(error(json!({"sub": "ann"}), Some("c")), TokenError::WrongKind);
    let expired = json!({"sub": "ann", "channel": "c", "exp": 5});
    assert_eq!(error(expired, None), TokenError::Expired);
    // Neither kind stands in for the other.
    assert_eq!(refused(&token(&good)), TokenError::WrongKind);
}

#[test]
fn an_error_says_what_each_protocol_needs_and_nothing_of_the_token() {
    let all = [
        TokenError::TooLarge,
        TokenError::Malformed("x"),
        TokenError::Algorithm,
        TokenError::UnknownKey,
        TokenError::Signature,
        TokenError::NotYetValid,
        TokenError::Audience,
        TokenError::Issuer,
        TokenError::NoSubject,
        TokenError::WrongKind,
        TokenError::User,
        TokenError::Channel,
    ];
    for error in all {
        assert_eq!((error.error_code(), error.http_status()), (101, 401), "{error:?}");
        let code = error.close_reason().map(|reason| reason.row().ws_code);
        assert_eq!(code, Some(3500), "{error:?}");
    }
    let expired = TokenError::Expired;
    assert_eq!((expired.error_code(), expired.http_status()), (109, 401));
    assert_eq!(expired.close_reason(), None);
    let pending = TokenError::KeysPending;
    assert!(pending.is_temporary() && pending.http_status() == 503);
    let canary = token(&json!({"sub": "canary-subject", "exp": 1}));
    let shown = format!("{:?} {}", refused(&canary), refused(&canary));
    assert!(!shown.contains("canary") && !shown.contains(canary.split('.').nth(1).unwrap()));
}
