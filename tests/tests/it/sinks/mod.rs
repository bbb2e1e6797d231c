//! Every acknowledged event is one row in a real ClickHouse, whatever happens on the way.

mod late;
mod parquet;
mod rows;
mod tool;

use crate::rig::Cell;
use crate::rig::clickhouse::ClickHouse;
use crate::rig::process::{Plan, Process};
use crate::rig::until;
use std::path::Path;

/// A server that stores in the ClickHouse at `url`, quickly.
fn plan(folder: &Path, url: &str) -> Plan {
    Plan::new(Cell::URING_2, folder)
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
