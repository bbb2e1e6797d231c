//! Counts: grouped in ClickHouse, put in order here.
//!
//! Almost always an answer has few types, and one statement gives it. Where there are more than are
//! named, a second one finds those that come first in the channel's order and adds up the rest.

use super::turn::{Statement, Turn};
use super::{IN_TIME, ORDER, in_range};
use crate::aggregate::{ANSWER_BYTES_MAX, CELL_BYTES, CountsGather};
use crate::query::{Counts, CountsQuery, TYPES_MAX};
use crate::read::ReadError;
use std::ops::ControlFlow;

/// Longer answers are refused in any case.
const CELLS_MAX: usize = ANSWER_BYTES_MAX / CELL_BYTES + 1;

#[derive(clickhouse::Row, serde::Deserialize)]
struct Cell {
    bucket_us: i64,
    name: String,
    /// False: all types that have no name in the answer.
    named: bool,
    events: u64,
}

pub(super) async fn counts(
    turn: &Turn<'_>,
    table: &str,
    query: &CountsQuery,
) -> Result<Counts, ReadError> {
    match gather(turn, query, statement(table, query, "true"), true).await {
        Ok(gathered) if !gathered.has_more_types() => return gathered.finish(),
        // With fewer names it may fit.
        Ok(_) | Err(ReadError::TooLarge { .. }) => {}
        Err(error) => return Err(error),
    }
    let conditions = conditions(query);
    let named = format!(
        "kind_name IN (SELECT type FROM {table} WHERE {conditions} GROUP BY type \
         ORDER BY min({ORDER}) LIMIT {TYPES_MAX})"
    );
    gather(turn, query, statement(table, query, &named), false).await?.finish()
}

fn conditions(query: &CountsQuery) -> String {
    let kind = if query.kind.is_some() { " AND type = {kind:String}" } else { "" };
    format!("channel = {{channel:String}} AND {IN_TIME}{kind}")
}

fn statement(table: &str, query: &CountsQuery, named: &str) -> Statement {
    let conditions = conditions(query);
    let sql = format!(
        "SELECT time_us - toInt64(positiveModulo(time_us, {{bucket:Int64}})) AS bucket_us, \
         if(named, CAST(kind_name AS String), '') AS name, toBool({named}) AS named, count() AS events \
         FROM (SELECT toUnixTimestamp64Micro(ts) AS time_us, type AS kind_name FROM {table} \
         WHERE {conditions}) GROUP BY bucket_us, name, named LIMIT {CELLS_MAX}"
    );
    let bucket_us = i64::from(query.bucket_s.max(1)) * 1_000_000;
    let statement = in_range(sql, &query.channel, (query.from_us, query.to_us));
    let statement = statement.signed("bucket", bucket_us);
    match &query.kind {
        Some(kind) => statement.text("kind", kind),
        None => statement,
    }
}

/// What a statement gave.
async fn gather(
    turn: &Turn<'_>,
    query: &CountsQuery,
    statement: Statement,
    only_named: bool,
) -> Result<CountsGather, ReadError> {
    let mut gathered = CountsGather::new(query);
    let mut failed = None;
    let take = |cell: Cell| {
        let name = cell.named.then_some(&*cell.name);
        match gathered.add(cell.bucket_us, name, cell.events) {
            Ok(()) if only_named && gathered.has_more_types() => ControlFlow::Break(()),
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    };
    turn.each(statement, take).await?;
    failed.map_or(Ok(gathered), Err)
}
