use super::*;
use crate::config::budget::{Budget, Facts};
use crate::config::layers::FlagValue;
use std::collections::BTreeMap;
use toml::Value;

fn sources(environment: &[(&str, &str)], sets: &[&str]) -> Sources {
    Sources {
        environment: environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        sets: sets.iter().map(|set| (*set).to_owned()).collect(),
        ..Sources::default()
    }
}

fn with_file(text: &str) -> (tempfile::TempDir, Sources) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shardcast.toml");
    std::fs::write(&path, text).unwrap();
    (dir, Sources { file: Some(path), ..Sources::default() })
}

fn origin_of<'a>(loaded: &'a Loaded, path: &str) -> &'a Origin {
    &loaded.values.iter().find(|(own, ..)| own == path).unwrap().2
}

#[test]
fn the_embedded_defaults_are_the_defaults_in_code_and_every_field_is_documented() {
    let config = Config::default();
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.namespaces, BTreeMap::from([("default".into(), Namespace::default())]));
    let loaded = load(&Sources::default()).unwrap();
    assert_eq!(loaded.config, config);

    // Serialised from the types, so a field that the file lacks would show up here.
    let table = toml::Table::try_from(&config).unwrap();
    let mut leaves = BTreeMap::new();
    schema::flatten(&table, "", &mut leaves);
    let paths: Vec<_> = leaves.keys().cloned().collect();
    let mut documented: Vec<_> = schema::FIELDS.iter().map(|field| field.path.clone()).collect();
    documented.sort();
    assert_eq!(documented, paths);
    for field in schema::FIELDS.iter() {
        assert_eq!(leaves[&field.path], field.default);
        assert!(field.doc.ends_with(['.', ')']), "{}: {:?}", field.path, field.doc);
    }
}

#[test]
fn later_layers_win_and_each_value_knows_where_it_came_from() {
    let (dir, mut sources) = with_file(
        "engine = \"epoll\"\nshards = 1\n[limits]\nheaders_max = 20\nkeep_alive_s = 5\n\
         head_timeout_s = 7\n",
    );
    let path = dir.path().join("shardcast.toml");
    sources.environment = vec![
        ("SHARDCAST_LIMITS__HEADERS_MAX".into(), "30".into()),
        ("SHARDCAST_LIMITS__KEEP_ALIVE_S".into(), "6".into()),
        ("SHARDCAST_LISTEN".into(), "127.0.0.1:1, [::1]:2".into()),
        ("UNRELATED".into(), "x".into()),
    ];
    sources.sets = vec!["limits.headers_max=4_0".into(), "shards=2".into()];
    sources.flags = vec![FlagValue { flag: "--shards", path: "shards", value: Value::Integer(3) }];
    let loaded = load(&sources).unwrap();

    assert_eq!(loaded.config.engine, Engine::Epoll);
    assert_eq!(loaded.config.limits.head_timeout_s, 7);
    assert_eq!(loaded.config.limits.keep_alive_s, 6);
    assert_eq!(loaded.config.limits.headers_max, 40);
    assert_eq!(loaded.config.shards, 3);
    let listen: Vec<_> = loaded.config.listen.iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["127.0.0.1:1", "[::1]:2"]);

    assert_eq!(*origin_of(&loaded, "engine"), Origin::File { path: path.clone(), line: 1 });
    assert_eq!(*origin_of(&loaded, "limits.head_timeout_s"), Origin::File { path, line: 6 });
    let variable = Origin::Environment("SHARDCAST_LIMITS__KEEP_ALIVE_S".into());
    assert_eq!(*origin_of(&loaded, "limits.keep_alive_s"), variable);
    assert_eq!(*origin_of(&loaded, "limits.headers_max"), Origin::Set);
    assert_eq!(*origin_of(&loaded, "shards"), Origin::Flag("--shards"));
    assert_eq!(*origin_of(&loaded, "limits.channels_max"), Origin::Default);
}

#[test]
fn a_profile_is_above_the_defaults_and_below_everything_else() {
    for name in tuning::profile::Profile::names() {
        let sets = vec![format!("profile={name}")];
        let loaded = load(&Sources { sets, ..Sources::default() }).unwrap();
        assert_eq!(loaded.config.profile, name);
        let budget = Budget::derive(
            &loaded.config,
            Facts { shards: 4, descriptors: 100_000, memory_bytes: 8 << 30 },
        );
        assert!(budget.unwrap().connections_max > 1_000, "{name}");
    }
    let (_dir, mut sources) =
        with_file("profile = \"edge\"\n[limits]\noutbox_bytes_max = 999_999\n");
    sources.environment = vec![("SHARDCAST_PROFILE".into(), "ingest-heavy".into())];
    let loaded = load(&sources).unwrap();
    let profile = Origin::Profile("ingest-heavy".into());
    assert_eq!(*origin_of(&loaded, "limits.receive_buffers_max"), profile);
    assert_eq!(loaded.config.limits.receive_buffers_max, 1_024);
    assert_eq!(loaded.config.limits.outbox_bytes_max, 999_999);
    assert_eq!(loaded.config.limits.unsent_bytes_max, Config::default().limits.unsent_bytes_max);
}

#[test]
fn a_profile_that_is_not_there_or_sets_what_is_no_key_is_refused() {
    let refused = |name: &str| {
        let sets = vec![format!("profile={name}")];
        load(&Sources { sets, ..Sources::default() }).unwrap_err().to_string()
    };
    assert!(refused("huge").contains("small, standard, large"), "{}", refused("huge"));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("own.toml");
    let own = tuning::profile::Profile::source("edge").unwrap();
    std::fs::write(&path, format!("{own}\"limits.headers_maxx\" = 1\n")).unwrap();
    let error = refused(path.to_str().unwrap());
    assert!(error.contains("limits.headers_maxx") && error.contains("profile edge"), "{error}");
}

#[test]
fn a_namespace_names_only_what_differs_whatever_default_was_changed_to() {
    let (_dir, sources) = with_file(
        "[namespaces.default]\nhistory_size = 5\n[namespaces.orders]\nstore = false\n\
         [namespaces.empty]\n",
    );
    let config = load(&sources).unwrap().config;
    assert_eq!(config.namespace("default").history_size, 5);
    let orders = Namespace { store: false, ..Namespace::default() };
    assert_eq!(*config.namespace("orders"), orders);
    assert_eq!(*config.namespace("empty"), Namespace::default());
    assert_eq!(config.namespace("unheard-of").history_size, 5);

    let set = load(&sources_of_sets(&["namespaces.a-b.deliver=durable"])).unwrap().config;
    assert_eq!(set.namespace("a-b").deliver, Deliver::Durable);
}

fn sources_of_sets(sets: &[&str]) -> Sources {
    sources(&[], sets)
}

#[test]
fn what_is_not_a_key_is_refused_with_its_place_and_the_nearest_key() {
    let check = |sources: &Sources, expected: &[&str]| {
        let error = load(sources).unwrap_err().to_string();
        for part in expected {
            assert!(error.contains(part), "{error:?} lacks {part:?}");
        }
    };
    let (_dir, file) = with_file("shards = 1\n\n[limits]\nheader_max = 5\n[spol]\nx = 1\n");
    check(&file, &["shardcast.toml:4", "`limits.header_max`", "mean `limits.headers_max`"]);
    check(&file, &["shardcast.toml:5", "`spol`"]);
    check(
        &sources(&[("SHARDCAST_ENGIN", "uring")], &[]),
        &["`engin` (SHARDCAST_ENGIN)", "`engine`"],
    );
    check(&sources_of_sets(&["headers_max=5"]), &["--set", "did you mean `limits.headers_max`?"]);
    check(&sources_of_sets(&["namespaces.a.stores=true"]), &["`namespaces.a.store`"]);
    check(&sources_of_sets(&["zzzzzzzzzzzz=1"]), &["`shardcast config` lists every key"]);
    check(&sources_of_sets(&["limits=1"]), &["`limits` is a section"]);
    check(&sources_of_sets(&["listen"]), &["there is no `=`"]);
    let missing = Sources { file: Some("/nonexistent.toml".into()), ..Sources::default() };
    check(&missing, &["/nonexistent.toml", "--config"]);
    let (_dir, broken) = with_file("shards = 1\nlisten = [\n");
    check(&broken, &["shardcast.toml:"]);
}

#[test]
fn a_value_of_the_wrong_kind_is_refused_by_name() {
    let check = |set: &str, expected: &str| {
        let error = load(&sources_of_sets(&[set])).unwrap_err().to_string();
        assert!(error.contains(expected), "{set}: {error:?} lacks {expected:?}");
    };
    check("shards=two", "shards = \"two\" (--set): expected a whole number");
    check("shards=-1", "shards = -1");
    check("shards=65", "shards = 65");
    check("limits.headers_max=70000", "limits.headers_max = 70000");
    check("share_port=yes", "expected true or false");
    check("engine=iouring", "`uring`");
    check("log.level=trace", "`debug`");
    check("listen=:8000", "127.0.0.1:8000");
    check("listen=10.0.0.1", "10.0.0.1:8000");
    check("listen=::1", "[::1]:8000");
    check("listen=example.com:80", "IP address");
    check("namespaces.a.deliver=later", "`durable`");
    let (_dir, file) = with_file("shards = \"2\"\n");
    let error = load(&file).unwrap_err().to_string();
    assert!(error.contains(":1)") && error.contains("expected a whole number"), "{error}");
}

#[test]
fn values_that_make_no_sense_are_refused_with_limit_and_remedy() {
    let check = |sets: &[&str], expected: &[&str]| {
        let error = load(&sources_of_sets(sets)).unwrap_err().to_string();
        for part in expected {
            assert!(error.contains(part), "{sets:?}: {error:?} lacks {part:?}");
        }
    };
    check(&["listen=0.0.0.0:8000"], &["listen = ", "--allow-anonymous", "0.0.0.0:8000"]);
    check(&["listen=[2001:db8::1]:8000"], &["--allow-anonymous"]);
    check(&["listen="], &["1 to 16 addresses"]);
    check(&["listen=127.0.0.1:1,127.0.0.1:1"], &["twice"]);
    check(&["admin_listen=192.168.1.1:9000"], &["admin_token_file", "openssl rand -hex 32"]);
    check(&["admin_token=short"], &["admin_token = (not shown)", "at least 32"]);
    let long = format!("admin_token={}", "x".repeat(32));
    check(&[&long, "admin_token_file=a"], &["keep one of them"]);
    check(&["auth.hmac_secret=short-canary"], &["at least 32 bytes", "openssl rand"]);
    check(&["auth.algorithms=HS256,none"], &["\"none\" is no algorithm", "EdDSA"]);
    check(&["auth.jwks=http://a.example/jwks"], &["use https"]);
    check(&["auth.jwks=https://10.0.0.1/jwks"], &["auth.jwks_allow_private"]);
    check(&["auth.jwks=https://[::1]/jwks"], &["auth.jwks_allow_private"]);
    check(&["auth.jwks=https://user@a.example/jwks"], &["user or password"]);
    check(&["auth.jwks_refresh_s=1"], &["from 10 to 86400"]);
    check(&["auth.clock_skew_s=301"], &["from 0 to 300"]);
    check(&["auth.token_bytes_max=100000"], &["from 256 to 65536"]);
    check(&["namespaces.a.subscribe=everybody"], &["`nobody`", "`anonymous`"]);
    let key = |rest: &str| format!("api_keys=[{{ name = \"a\", {rest} }}]");
    let hash = format!("hash = \"{}\"", "0".repeat(64));
    check(&[&key("hash = \"abc\"")], &["not 64 hexadecimal digits", "shardcast key"]);
    check(&[&key(&format!("{hash}, allow = [\"fly\"]"))], &["`publish`"]);
    check(&[&key(&format!("{hash}, burst_s = 0"))], &["from 1 to 3600"]);
    check(&[&key(&format!("{hash}, channels = [\"\"]"))], &["no channel fits"]);
    check(&[&key(&format!("{hash}, chanels = []"))], &["chanels"]);
    let twice = format!("api_keys=[{{ name = \"a\", {hash} }}, {{ name = \"b\", {hash} }}]");
    check(&[&twice], &["is there twice"]);
    check(&["admin_listen=127.0.0.1:8000"], &["`listen` has this port too"]);
    check(&["tls.cert=a.pem"], &["tls.key", "--tls-key"]);
    check(&["tls.key=a.pem"], &["tls.cert", "--tls-cert"]);
    check(&["allowed_origins=*"], &["\"*\" is not an origin"]);
    check(&["allowed_origins=null"], &["is not an origin"]);
    check(&["allowed_origins=https://a.example/path"], &["without a path"]);
    check(&["allowed_origins=https://*.com"], &["is not an origin"]);
    check(&["allowed_origins=https://a.*.example.com"], &["is not an origin"]);
    check(&["limits.head_timeout_s=0"], &["limits.head_timeout_s = 0 (--set)", "from 1 to 300"]);
    check(&["limits.message_bytes_max=33554432"], &["at most 16777216", "limits.body_bytes_max"]);
    check(&["spool.retention_bytes=99999999999"], &["`spool.bytes_max`"]);
    check(&["sse.retry_ms_min=9999"], &["sse.retry_ms_max"]);
    check(&["namespaces.a.deliver=durable", "namespaces.a.store=false"], &["never become durable"]);
    check(&["namespaces.default.history_size=1000001"], &["at most 1000000"]);
    let parquet = |sets: &[&str], expected: &[&str]| {
        let sets: Vec<_> = sets.iter().map(|set| format!("storage.parquet.{set}")).collect();
        check(&sets.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    };
    parquet(&["location=ftp://a"], &["storage.parquet.location = ", "s3://bucket"]);
    parquet(&["location=s3://a"], &["3 to 63 letters"]);
    parquet(&["location=a", "seal_s=0"], &["seal_s = 0 (--set)", "from 1 to 86400"]);
    parquet(&["file_bytes=1000"], &["from 1048576 to"]);
    parquet(&["location=s3://abc", "endpoint=http://a"], &["endpoint = ", "`allow_http`"]);
    parquet(&["location=s3://abc", "access_key=a"], &["storage.parquet.secret_key_file = "]);
    parquet(&["location=s3://abc", "secret_key_file=a"], &["storage.parquet.access_key = "]);
    // All at once, so that a person does not fix them one start at a time.
    check(&["shards=1000", "drain_time_s=100000"], &["shards = 1000", "drain_time_s = 100000"]);
}

#[test]
fn what_safety_forbids_can_be_asked_for() {
    let check = |sets: &[&str]| assert!(load(&sources_of_sets(sets)).is_ok(), "{sets:?}");
    check(&["listen=0.0.0.0:8000,[::]:8000", "allow_anonymous=true"]);
    check(&["admin_listen=0.0.0.0:9000", "admin_token_file=token"]);
    let secret = format!("auth.hmac_secret={}", "x".repeat(32));
    check(&["listen=0.0.0.0:8000", &secret]);
    let admin =
        format!("api_keys=[{{ name = \"a\", hash = \"{}\", admin = true }}]", "0".repeat(64));
    check(&["listen=0.0.0.0:8000", "admin_listen=0.0.0.0:9000", &admin]);
    check(&["auth.jwks=http://127.0.0.1/jwks", "auth.jwks_allow_private=true"]);
    check(&["auth.jwks=https://id.example/jwks", "auth.algorithms=RS256,EdDSA"]);
    check(&["allowed_origins=https://*.example.com,https://*.example.com:8443"]);
    check(&["listen=127.0.0.2:0,[::1]:0,localhost:0", "admin_listen=localhost:0"]);
    check(&["listen=[\"[::1]:0\", \"127.0.0.1:0\"]"]);
    check(&["allowed_origins=https://app.example.com,http://localhost:5173"]);
    check(&["limits.message_bytes_max=16777216"]);
}

#[test]
fn variables_that_kubernetes_sets_for_a_service_are_not_ours() {
    let names = ["SHARDCAST_SERVICE_HOST", "SHARDCAST_PORT", "SHARDCAST_PORT_8000_TCP_ADDR"];
    let environment: Vec<_> = names.iter().map(|name| (*name, "tcp://10.0.0.1")).collect();
    assert_eq!(load(&sources(&environment, &[])).unwrap().config, Config::default());
}

#[test]
fn the_printed_configuration_is_a_file_that_means_the_same() {
    let loaded = load(&sources_of_sets(&["namespaces.x.store=false", "shards=2"])).unwrap();
    let text = reference::effective(&loaded);
    assert!(text.contains("# --set") && text.contains("# default"), "{text}");
    let (_dir, again) = with_file(&text);
    assert_eq!(load(&again).unwrap().config, loaded.config);
}

#[test]
fn secrets_are_in_no_output_and_in_no_error() {
    let environment = [
        ("SHARDCAST_AUTH__HMAC_SECRET", "canary-canary-canary-canary-canary-canary"),
        ("SHARDCAST_ADMIN_TOKEN", "canary-canary-canary-canary-canary-canary"),
    ];
    let loaded = load(&sources(&environment, &[])).unwrap();
    let json = serde_json::to_string(&loaded.config).unwrap();
    let text = reference::effective(&loaded);
    let shown = format!("{loaded:?} {loaded:#?} {text} {json}");
    assert!(!shown.contains("canary"), "{shown}");
    assert!(text.contains("# hmac_secret is set") && text.contains("# admin_token is set"));
    assert!(loaded.config.auth.hmac_secret.reveal().starts_with("canary"));
    for bad in [("SHARDCAST_AUTH__HMAC_SECRET", "canary"), ("SHARDCAST_ADMIN_TOKEN", "canary")] {
        let error = load(&sources(&[bad], &[])).unwrap_err();
        let shown = format!("{error:?} {error}");
        assert!(!shown.contains("canary"), "{shown}");
    }
}

#[test]
fn the_reference_page_names_every_key() {
    let page = reference::page();
    for field in schema::FIELDS.iter() {
        let key = field.path.replace("namespaces.default", "namespaces.NAME");
        assert!(page.contains(&format!("| `{key}` |")), "{key}");
    }
}

#[test]
fn the_guide_names_the_defaults_of_who_may_what() {
    let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/guides/authentication.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let (_, section) = guide.split_once("\n## What is open to whom\n").unwrap();
    let rows = section.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    let rows: Vec<Vec<&str>> = rows
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.split('|').map(|cell| cell.trim().trim_matches('`')).collect())
        .collect();
    let keys = ["subscribe", "history", "client_publish", "presence", "publish"];
    assert_eq!(rows.iter().map(|row| row[1]).collect::<Vec<_>>(), keys);
    for row in rows {
        let path = format!("namespaces.default.{}", row[1]);
        let field = schema::FIELDS.iter().find(|field| field.path == path).unwrap();
        assert_eq!(row[2], field.default.to_string().trim_matches('"'), "{path}");
    }
}
