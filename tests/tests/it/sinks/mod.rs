//! Every acknowledged event is one row in a real ClickHouse, whatever happens on the way.

mod answers;
mod backlog;
mod cursor;
mod disk;
mod killed;
mod late;
mod parquet;
mod poison;
mod refused;
mod rows;
mod tool;
mod waiting;
mod ways;

use crate::durability::load::{CHANNELS, history};
use crate::rig::Cell;
use crate::rig::clickhouse::ClickHouse;
use crate::rig::process::{Plan, Process};
use crate::rig::until;
use std::path::Path;

/// A server that stores in the ClickHouse at `url`, quickly.
fn plan(folder: &Path, url: &str) -> Plan {
    plan_of(Cell::URING_2, folder, url)
}

/// The same in another cell: what is behind the shards is tested in one cell each, in turns.
fn plan_of(cell: Cell, folder: &Path, url: &str) -> Plan {
    Plan::new(cell, folder)
        .set(&format!("storage.clickhouse.url={url}"))
        .set("storage.clickhouse.batch_ms=50")
}

/// One value out of the database.
fn value(store: &ClickHouse, sql: &str) -> String {
    let answer = store.query(sql);
    answer.unwrap_or_else(|error| panic!("{sql}: {error}")).trim_end().to_owned()
}

/// Waits until the store has everything that is in the spool.
fn settled(server: &Process) {
    until("the store to have everything", || {
        let status = server.get_admin("/admin/storage").json();
        status["sinks"][0]["behind"] == 0
    });
}

/// The store has each event of the spool in one row that says the same, and nothing else; and its
/// minutes count what is not late.
fn same_as_history(server: &Process, store: &ClickHouse, channels: &[&str]) {
    settled(server);
    let mut kept: Vec<String> = Vec::new();
    for channel in channels {
        for event in history(server, channel) {
            let text = |member: &str| event[member].as_str().expect("a text").to_owned();
            let (epoch, id) = (text("epoch"), text("id"));
            kept.push(format!("{channel}\t{epoch}:{}\t{id}\t{}", event["offset"], event["data"]));
        }
    }
    let rows = "SELECT channel || '\t' || leftPad(lower(hex(epoch)), 16, '0') || ':' || toString(offset) || '\t' || id \
                || '\t' || payload FROM shardcast.events FORMAT TSVRaw";
    let rows = value(store, rows);
    let mut stored: Vec<&str> = rows.lines().collect();
    kept.sort_unstable();
    stored.sort_unstable();
    let twice: Vec<_> = stored.windows(2).filter(|pair| pair[0] == pair[1]).take(3).collect();
    assert!(twice.is_empty(), "stored twice: {twice:#?}");
    let other = kept.iter().zip(&stored).find(|(kept, stored)| kept != stored);
    assert_eq!(other, None, "in the spool, and in the store");
    assert_eq!(stored.len(), kept.len());
    let ids = "SELECT count() - uniqExact(channel, id) FROM shardcast.events";
    assert_eq!(value(store, ids), "0", "an id twice");
    assert_eq!(
        value(store, "SELECT sum(events) FROM shardcast.events_by_minute"),
        value(store, "SELECT countIf(NOT late) FROM shardcast.events"),
        "the minutes count what is there"
    );
}

/// Publishes events `range` to a channel, each with its number as id; they are synced.
fn publish(server: &Process, channel: &str, range: std::ops::Range<usize>) {
    let count = range.len();
    let lines: String = range.map(|n| format!("{{\"id\":\"{n}\",\"data\":{n}}}\n")).collect();
    let path = format!("/v1/channels/{channel}/events?ack=durable");
    let answer = server.post(&path, "application/x-ndjson", lines);
    assert_eq!((answer.status, &answer.json()["accepted"]), (202, &count.into()), "{answer:?}");
}

/// Waits until the sink has looked at the schema and sends: what it asks for next is an insert.
fn connected(server: &Process) {
    until("the sink to be healthy", || sink(server)["health"] == "healthy");
}

/// What the sink says about itself.
fn sink(server: &Process) -> serde_json::Value {
    server.get_admin("/admin/storage").json()["sinks"][0].clone()
}
