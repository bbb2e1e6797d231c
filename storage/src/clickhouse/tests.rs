//! The SQL it writes and the errors it sorts; inserts are tested against a real engine, in the
//! integration tests. `UPDATE_SNAPSHOTS=1` rewrites the files in `tests/`: read the difference.

use super::client::{Class, failure_of};
use super::config::ClickHouseConfig;
use super::schema::{Found, SchemaError, statements, upgrade};
use super::service::ClickHouseSink;
use crate::sim_files::SimFiles;
use crate::sink::{Health, OnSinkNotice, Source};
use crate::tests::{event, reopen, small};

fn config() -> ClickHouseConfig {
    let urls = vec!["http://127.0.0.1:8123".to_owned()];
    ClickHouseConfig { urls, ..ClickHouseConfig::default() }
}

fn cluster() -> ClickHouseConfig {
    ClickHouseConfig {
        cluster: "main".into(),
        storage_policy: "tiered".into(),
        cold_volume: "s3".into(),
        cold_after_days: 7,
        low_cardinality: false,
        ..config()
    }
}

fn check_snapshot(name: &str, config: &ClickHouseConfig) {
    let path = format!("{}/src/clickhouse/tests/{name}.sql", env!("CARGO_MANIFEST_DIR"));
    let written = statements(config).join(";\n\n") + ";\n";
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, &written).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert!(written == expected, "{path} is not what is written now; UPDATE_SNAPSHOTS=1 shows it");
}

#[test]
fn the_schema_changes_only_on_purpose() {
    check_snapshot("one_server", &config());
    check_snapshot("cluster", &cluster());
}

/// A database as our own statements leave it, in the words of `system.columns`.
fn found(config: &ClickHouseConfig) -> Found {
    let low = if config.low_cardinality { "LowCardinality(String)" } else { "String" };
    let mut found = Found { comment: "shardcast schema 1".into(), ..Found::default() };
    for table in super::schema::TABLES {
        let columns = table.columns().map(|column| {
            let first = column.types().remove(0);
            let is_low = first == "LowCardinality(String)";
            (column.name.to_owned(), if is_low { low.to_owned() } else { first })
        });
        let mut names = vec![table.rows_name(config)];
        if !config.cluster.is_empty() {
            names.push(table.name.to_owned());
        }
        for (column, kind) in columns {
            for name in &names {
                found.columns.push((name.clone(), column.clone(), kind.clone()));
            }
        }
        let settings = "SETTINGS replicated_deduplication_window = 10000, \
                        non_replicated_deduplication_window = 10000, index_granularity = 8192";
        found.created.push((table.rows_name(config), settings.to_owned()));
    }
    found
}

#[test]
fn a_database_of_this_version_needs_nothing_and_an_older_one_gets_what_it_lacks() {
    for config in [config(), cluster()] {
        assert_eq!(upgrade(&config, &found(&config)), Ok(Vec::new()));
    }
    let mut older = found(&config());
    older.columns.retain(|(table, column, _)| table != "events" || column != "traceparent");
    older.created.iter_mut().for_each(|(_, sql)| *sql = sql.replace("= 10000", "= 0"));
    let statements = upgrade(&config(), &older).unwrap();
    assert_eq!(
        statements[..2],
        [
            "ALTER TABLE `shardcast`.`events` ADD COLUMN IF NOT EXISTS `traceparent` String \
             CODEC(ZSTD(1))",
            "ALTER TABLE `shardcast`.`events` MODIFY SETTING non_replicated_deduplication_window = \
             10000"
        ]
    );
    assert_eq!(statements.len(), 5, "the window of every table: {statements:#?}");
}

#[test]
fn a_foreign_type_or_a_later_version_is_refused_by_name() {
    let mut foreign = found(&config());
    let offset = foreign.columns.iter_mut().find(|(t, c, _)| t == "events" && c == "offset");
    offset.unwrap().2 = "UInt32".into();
    let refused = upgrade(&config(), &foreign).unwrap_err();
    let text = refused.to_string();
    assert!(matches!(refused, SchemaError::Type { .. }));
    assert!(text.contains("shardcast.events has `offset` as UInt32, Shardcast writes UInt64"));
    let newer = Found { comment: "shardcast schema 2".into(), ..found(&config()) };
    assert!(matches!(upgrade(&config(), &newer), Err(SchemaError::Newer { found: 2, .. })));
    let mut own = found(&config());
    own.columns.push(("events".into(), "region".into(), "String".into()));
    assert_eq!(upgrade(&config(), &own), Ok(Vec::new()), "users may add columns");
}

#[test]
fn every_failure_is_sorted_by_what_is_done_next() {
    let check = |text: &str, class| assert_eq!(failure_of(text).class, class, "{text}");
    check("Code: 252. DB::Exception: Too many parts (3001) in all partitions", Class::Busy);
    check(
        "Code: 252. DB::Exception: Too many partitions for single INSERT block (more than 100)",
        Class::TooLarge,
    );
    check("Code: 241. DB::Exception: Memory limit (total) exceeded", Class::TooLarge);
    check("Code: 469. DB::Exception: Constraint `c` is violated at row 1", Class::Rejected);
    check("Code: 60. DB::Exception: Table shardcast.events does not exist", Class::Stuck);
    check("Code: 516. DB::Exception: default: Authentication failed", Class::Stuck);
    check("Code: 999. Coordination::Exception: Session expired", Class::Unavailable);
    check("Code: 31337. DB::Exception: Something new", Class::Unknown);
    check("Code: 216. DB::Exception: Query with id = a is already running", Class::Busy);
    check("Bad Gateway", Class::Unavailable);
    let of_server = |text: &str| failure_of(text).is_of_the_server();
    assert!(of_server("Code: 241. DB::Exception: Memory limit (total) exceeded"));
    assert!(of_server("Code: 241. DB::Exception: (total) memory limit exceeded: would use 9 GiB"));
    assert!(!of_server("Code: 241. DB::Exception: Query memory limit exceeded: would use 9 GiB"));
}

#[test]
fn what_cannot_connect_is_refused_with_what_to_write() {
    let check = |change: fn(&mut ClickHouseConfig), key: &str| {
        let mut config = config();
        change(&mut config);
        let refused = config.validate().unwrap_err();
        assert_eq!(refused.key, key, "{refused}");
        assert!(!refused.to_string().contains("secret"), "{refused}");
    };
    check(|c| c.urls.clear(), "url");
    check(|c| c.urls = vec!["127.0.0.1:8123".into()], "url");
    check(|c| c.urls = vec!["http://admin:secret@db:8123".into()], "url");
    check(|c| c.urls = vec!["http://db:8123/?database=x".into()], "url");
    check(|c| c.database = "a`; DROP".into(), "database");
    check(|c| c.cold_after_days = 7, "cold_after_days");
    check(|c| c.batch_rows = 0, "batch_rows");
    check(|c| c.user = "gr\u{fc}n".into(), "user");
    check(|c| c.password = "secret\u{1}".into(), "password_file");
    assert_eq!(config().validate(), Ok(()));
    assert_eq!(cluster().validate(), Ok(()));
    let urls = ClickHouseConfig::endpoints("http://a:1, http://b:2 ,");
    assert_eq!(urls, ["http://a:1", "http://b:2"]);
    let secret = ClickHouseConfig { password: "secret".into(), ..config() };
    assert!(!format!("{secret:?}").contains("secret"));
}

#[test]
fn a_block_is_the_same_whenever_it_is_encoded_and_chunks_only_cut_it() {
    let events: Vec<_> = (1..=3_000).map(|offset| event("orders", 1, offset, 300)).collect();
    let whole = |events| super::encode::native(events, None).flatten().collect::<Vec<u8>>();
    let chunks: Vec<_> = super::encode::native(&events, None).collect();
    assert!(chunks.len() > 2 && chunks.iter().all(|chunk| chunk.len() < 300 * 1024));
    assert_eq!(whole(&events), whole(&events));
    // 16 columns, 3,000 rows (LEB128), then the first column's name and type.
    let expected = [16, 0xb8, 0x17, 2, b'i', b'd', 6];
    assert_eq!(whole(&events)[..7], expected);
    let dead = super::encode::native(&events[..1], Some("why")).flatten().collect::<Vec<u8>>();
    assert!(dead.ends_with(b"\x06reason\x06String\x03why") && dead[..2] == [17, 1]);
}

#[test]
fn a_sink_whose_thread_panics_says_so() {
    let (mut spool, _, _) = reopen(&SimFiles::new(8), small());
    let source = Source::new(spool.feed(1_000), spool.reader());
    let urls = vec!["http://127.0.0.1:1".to_owned()];
    let config = ClickHouseConfig { urls, ..ClickHouseConfig::default() };
    // Nobody listens there, and whoever is told so panics.
    let notices: OnSinkNotice = Box::new(|_, _| panic!("on purpose"));
    let sink = ClickHouseSink::new(config, SimFiles::new(9), source, None, notices).unwrap();
    let progress = sink.progress();
    let sink = sink.start().unwrap();
    assert!(!sink.join(), "it panicked");
    let stats = progress.stats();
    assert_eq!(stats.health, Health::Stuck);
    assert!(stats.error.is_some_and(|error| error.contains("panicked")));
}
