//! What the files say, to everybody who reads them.

use super::{Place, files_below, plan, publish, s3, settled, sink};
use crate::rig::clickhouse::ClickHouse;
use crate::rig::process::Process;
use crate::rig::until;
use crate::sinks::value;
use serde_json::{Value, json};
use std::fs;

/// As the readers in `tests/clients` print a row, but for the file.
const ROW: &str = "id, channel, epoch, offset, type, source, key, toUnixTimestamp64Micro(ts) AS ts, \
                   toUnixTimestamp64Micro(received) AS received, content_type, kind, class, \
                   traceparent, attributes, late, lower(hex(payload)) AS payload";

/// Publishes events that use every column.
fn publish_odd_ones(server: &Process) {
    let lines = concat!(
        r#"{"channel":"orders:eu","id":"a1","type":"order","source":"shop","key":"k","#,
        r#""time":"2026-11-22T07:00:00.123456Z","data":{"n":1,"grün":"✓"}}"#,
        "\n",
        r#"{"channel":"orders:eu","id":"a2","time":"0001-01-01T00:00:00Z","data":null}"#,
        "\n",
        r#"{"channel":"orders:eu","id":"a3","time":"9999-12-31T23:59:59Z","data":""}"#,
        "\n",
    );
    let path = "/v1/events?ack=durable";
    assert_eq!(server.post(path, "application/x-ndjson", lines).status, 202);
    let path = "/v1/channels/raw/events?ack=durable";
    assert_eq!(server.post(path, "image/png", [0_u8, 255, 9, 10]).status, 202);
    let event = r#"{"specversion":"1.0","id":"c1","source":"/s","type":"t","traceparent":
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","extra":"x","data":[1]}"#;
    let path = "/v1/channels/cloud/events?ack=durable";
    assert_eq!(server.post(path, "application/cloudevents+json", event).status, 202);
}

fn sorted(rows: impl IntoIterator<Item = Value>) -> Vec<Value> {
    let mut rows: Vec<Value> = rows.into_iter().collect();
    rows.iter_mut().for_each(|row| drop(row.as_object_mut().expect("a row").remove("file")));
    rows.sort_by_key(|row| row["id"].to_string());
    rows
}

fn by_clickhouse(store: &ClickHouse, from: &str) -> Vec<Value> {
    let sql = format!(
        "SELECT {ROW} FROM {from} SETTINGS output_format_json_quote_64bit_integers = 0 \
         FORMAT JSONEachRow"
    );
    sorted(value(store, &sql).lines().map(|line| serde_json::from_str(line).expect("JSON")))
}

/// What must be in the columns of those events; the two that the server gave an id are left out.
fn check_odd_ones(rows: &[Value]) {
    assert_eq!(rows.len(), 5, "{rows:#?}");
    let row = |id: &str| rows.iter().find(|row| row["id"] == id).unwrap_or_else(|| panic!("{id}"));
    let is = |id: &str, column: &str, expected: Value| {
        assert_eq!(row(id)[column], expected, "{column} of {}", row(id));
    };
    for (column, expected) in [
        ("channel", json!("orders:eu")),
        ("offset", json!(1)),
        ("type", json!("order")),
        ("source", json!("shop")),
        ("key", json!("k")),
        ("ts", json!(1_795_330_800_123_456_i64)),
        ("kind", json!("json")),
        ("class", json!("normal")),
    ] {
        is("a1", column, expected);
    }
    let data = "{\"n\":1,\"grün\":\"✓\"}".bytes().map(|byte| format!("{byte:02x}"));
    is("a1", "payload", json!(data.collect::<String>()));
    is("a2", "ts", json!(-62_135_596_800_000_000_i64));
    is("a2", "late", json!(true));
    is("a3", "ts", json!(253_402_300_799_000_000_i64));
    is("a3", "late", json!(false));
    is("c1", "source", json!("/s"));
    is("c1", "traceparent", json!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
    let binary = rows.iter().find(|row| row["channel"] == "raw").expect("the picture");
    assert_eq!(binary["payload"], "00ff090a");
    assert_eq!((&binary["kind"], &binary["content_type"]), (&json!("binary"), &json!("image/png")));
}

#[test]
fn pyarrow_duckdb_and_clickhouse_find_every_value_in_a_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = Place::Folder(folder.path().join("cold"));
    let server = place.plan(folder.path()).start();
    publish_odd_ones(&server);
    settled(&server);
    let rows = sorted(place.rows("pyarrow"));
    check_odd_ones(&rows);
    assert_eq!(sorted(place.rows("duckdb")), rows);
    let store = ClickHouse::start();
    let from = format!("file('{}/cold/**/*.parquet')", folder.path().display());
    assert_eq!(by_clickhouse(&store, &from), rows);
    assert_eq!(server.metric("shardcast_sink_events_total"), 5.0);
    assert_eq!(server.metric("shardcast_sink_healthy"), 1.0);
    let health = server.get_admin("/health/storage");
    assert_eq!(health.status, 200, "{}", health.text());
}

#[test]
fn pyarrow_and_clickhouse_find_every_value_in_a_bucket() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = Place::bucket();
    let server = place.plan(folder.path()).start();
    publish_odd_ones(&server);
    settled(&server);
    let rows = sorted(place.rows("pyarrow"));
    check_odd_ones(&rows);
    let Place::Bucket(bucket) = &place else { unreachable!() };
    let store = ClickHouse::start();
    let (url, key, secret) = (bucket.url(), s3::ACCESS_KEY, s3::SECRET_KEY);
    let from = format!("s3('{url}/cold/events/**/*.parquet', '{key}', '{secret}', 'Parquet')");
    assert_eq!(by_clickhouse(&store, &from), rows);
}

#[test]
fn whoever_grows_up_gets_the_rows_that_the_other_sink_wrote() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = ClickHouse::start();
    let place = Place::Folder(folder.path().join("cold"));
    let plan = place.plan(folder.path()).set(&format!("storage.clickhouse.url={}", store.url()));
    let server = plan.set("storage.clickhouse.batch_ms=50").start();
    publish_odd_ones(&server);
    (0..5).for_each(|n| publish(&server, "many", n * 1_000..n * 1_000 + 1_000));
    settled(&server);
    until("both to have everything", || {
        let status = server.get_admin("/admin/storage").json();
        status["sinks"].as_array().is_some_and(|all| all.iter().all(|sink| sink["behind"] == 0))
    });
    for statement in [
        "CREATE TABLE shardcast.before AS shardcast.events",
        "INSERT INTO shardcast.before SELECT * FROM shardcast.events",
        "TRUNCATE TABLE shardcast.events",
    ] {
        store.query(statement).expect(statement);
    }
    let cold = folder.path().join("cold");
    let grow = format!(
        "INSERT INTO shardcast.events SELECT * FROM file('{}/**/*.parquet')",
        cold.display()
    );
    store.query(&grow).expect("it fits as it is");
    assert_eq!(value(&store, "SELECT count() FROM shardcast.events"), "5005");
    for (one, other) in [("before", "events"), ("events", "before")] {
        let sql = format!("SELECT * FROM shardcast.{one} EXCEPT SELECT * FROM shardcast.{other}");
        assert_eq!(value(&store, &sql), "", "in {one} and not in {other}");
    }
}

#[test]
fn only_what_is_older_than_retention_goes() {
    let folder = tempfile::tempdir().expect("a folder");
    let cold = folder.path().join("cold");
    let old = cold.join("day=2020-01-01/hour=00");
    fs::create_dir_all(&old).expect("a folder");
    let of_another = "other-00000000000000000001-00000000000000000002.parquet";
    fs::write(old.join(of_another), "old").expect("a file");
    fs::write(old.join("notes.txt"), "mine").expect("a file");
    let plan = plan(folder.path(), cold.to_str().expect("UTF-8"));
    let server = plan.set("storage.parquet.retention_days=1").start();
    publish(&server, "a", 0..3);
    settled(&server);
    until("the old file to go", || server.metric("shardcast_sink_expired_files_total") == 1.0);
    let files = files_below(&cold);
    assert_eq!(files[0], old.join("notes.txt"), "what is not ours stays");
    assert_eq!(files.len(), 2, "{files:?}");
    assert_eq!(Place::Folder(cold).rows("pyarrow").len(), 3);
    assert_eq!(sink(&server)["expired"], 1);
}
