//! Tops: values grouped in ClickHouse, made canonical and merged here.
//!
//! Header fields are grouped as they are. Of a path ClickHouse gives the JSON text of the value,
//! grouped: `1.0` and `1.00` may still be two, and become one here. What its parser does not take
//! (half a surrogate pair anywhere, an integer beyond 64 bits, a number beyond a double, nesting
//! over a thousand) comes as a whole payload, and is looked at here. So every value is what the
//! embedded store says it is.
//!
//! More distinct values than are tracked: ClickHouse is asked for the frequent ones with bounded
//! memory (`approx_top_k`, Space-Saving), and what it gives minus its error is a lower bound.

use super::turn::{Statement, Turn};
use super::{IN_TIME, in_range};
use crate::aggregate::TopGather;
use crate::query::{Top, TopQuery};
use crate::read::ReadError;
use bytes::Bytes;
use proto::field::{Field, FieldKind, VALUE_BYTES_MAX, json_scalar};
use std::borrow::Cow;
use std::ops::ControlFlow;

/// Stands for a payload that ClickHouse could not read. Not JSON, so never a value.
const UNREAD: &str = "?";
/// Distinct texts that ClickHouse groups; it gives up far above what is tracked here, because
/// several texts can be one number.
const GROUPS_MAX: &str = "1000000";

#[derive(clickhouse::Row, serde::Deserialize)]
struct Group {
    value: String,
    /// False: of a payload that is not JSON.
    is_json: bool,
    events: u64,
}

#[derive(clickhouse::Row, serde::Deserialize)]
struct Frequent {
    total: u64,
    missing: u64,
    /// Value, and how often it occurs at least.
    values: Vec<(String, u64)>,
}

#[derive(clickhouse::Row, serde::Deserialize)]
struct Payload {
    payload: Bytes,
}

pub(super) async fn top(turn: &Turn<'_>, table: &str, query: &TopQuery) -> Result<Top, ReadError> {
    match exact(turn, table, query).await {
        Ok(Some(top)) => Ok(top),
        // Too many to be exact about.
        Ok(None) | Err(ReadError::TooLarge { .. }) => frequent(turn, table, query).await,
        Err(error) => Err(error),
    }
}

/// `None`: there are more values than are tracked.
async fn exact(turn: &Turn<'_>, table: &str, query: &TopQuery) -> Result<Option<Top>, ReadError> {
    let field = &query.field;
    let in_data = field.kind() == FieldKind::Data;
    let (value, is_json) = match in_data {
        true => (short_json_of(field), "kind = 'json'"),
        false => (value_of(field), "true"),
    };
    let sql = format!(
        "SELECT {value} AS value, toBool({is_json}) AS is_json, count() AS events FROM {table} \
         WHERE {} GROUP BY value, is_json",
        conditions()
    );
    let statement = statement(sql, query)
        .setting("max_rows_to_group_by", GROUPS_MAX)
        .setting("group_by_overflow_mode", "throw");
    let mut gathered = TopGather::new(query);
    // Without the member, or not read: asking which costs as much again, so only if need be.
    let mut without = 0;
    let take = |group: Group| {
        if in_data && group.is_json && group.value.is_empty() {
            without += group.events;
        } else {
            let value = canonical(field, &group.value).filter(|_| group.is_json);
            gathered.add(value.as_deref(), group.events);
        }
        if gathered.fits() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    turn.each(statement, take).await?;
    if without > 0 && gathered.fits() {
        let read = read_payloads(turn, table, query, &mut gathered).await?;
        gathered.add(None, without.saturating_sub(read));
    }
    Ok(gathered.fits().then(|| gathered.finish()))
}

async fn frequent(turn: &Turn<'_>, table: &str, query: &TopQuery) -> Result<Top, ReadError> {
    let sql = format!(
        "SELECT countIf(value != '{UNREAD}' OR {known}) AS total, countIf(value = '') AS missing, \
         arrayMap(found -> (found.1, minus(found.2, found.3)::UInt64), \
         approx_top_kIf(4000, 65536)(value, value != '' AND (value != '{UNREAD}' OR {known}))) AS values \
         FROM (SELECT {} AS value FROM {table} WHERE {})",
        value_of(&query.field),
        conditions(),
        known = query.field.kind() != FieldKind::Data,
    );
    let mut rows = turn.rows::<Frequent>(statement(sql, query)).await?;
    let mut gathered = TopGather::new(query);
    if let Some(row) = rows.pop() {
        let mut named = 0;
        for (value, events) in row.values.iter().filter(|(_, events)| *events > 0) {
            gathered.add(canonical(&query.field, value).as_deref(), *events);
            named += events;
        }
        gathered.add(None, row.missing);
        gathered.add_rare(row.total.saturating_sub(row.missing + named));
        if query.field.kind() == FieldKind::Data {
            read_payloads(turn, table, query, &mut gathered).await?;
        }
    }
    Ok(gathered.finish())
}

/// Counts the payloads that ClickHouse cannot read; gives their number.
async fn read_payloads(
    turn: &Turn<'_>,
    table: &str,
    query: &TopQuery,
    gathered: &mut TopGather,
) -> Result<u64, ReadError> {
    let sql = format!(
        "SELECT payload FROM {table} WHERE {} AND kind = 'json' AND NOT isValidJSON(payload)",
        conditions()
    );
    let mut read = 0;
    let take = |row: Payload| {
        read += 1;
        gathered.count_value(query.field.json_value(&row.payload));
        ControlFlow::Continue(())
    };
    turn.each(statement(sql, query), take).await?;
    Ok(read)
}

/// A group's text as a value; `None`: missing.
fn canonical<'a>(field: &Field, text: &'a str) -> Option<Cow<'a, str>> {
    let value = match field.kind() {
        FieldKind::Data => json_scalar(text.as_bytes()),
        _ => (!text.is_empty()).then_some(Cow::Borrowed(text)),
    };
    value.filter(|value| value.len() <= VALUE_BYTES_MAX)
}

/// The expression of a value: empty where it is missing.
fn value_of(field: &Field) -> String {
    let column = match field.kind() {
        FieldKind::Type => "type",
        FieldKind::Source => "source",
        FieldKind::Key => "key",
        FieldKind::Id => "id",
        FieldKind::Data => return json_value_of(field),
    };
    format!("CAST({column} AS String)")
}

/// The JSON text at a path, empty if there is none or the payload is not read. A name of a path is
/// a text, so it is a member's name and never an index.
fn json_of(field: &Field) -> String {
    format!("JSONExtractRaw(payload{})", names(field))
}

fn names(field: &Field) -> String {
    field.path().enumerate().map(|(i, _)| format!(", {{p{i}:String}}")).collect()
}

/// The same without what is no value in any case, so that groups stay small: with every byte
/// escaped a value is six times as long.
fn short_json_of(field: &Field) -> String {
    let (json, longest) = (json_of(field), VALUE_BYTES_MAX * 6 + 2);
    format!(
        "if(substring({json}, 1, 1) IN ('{{', '[') OR length({json}) > {longest}, 'null', {json})"
    )
}

/// The same with everything that is missing empty, and [`UNREAD`]. Takes twice as long.
fn json_value_of(field: &Field) -> String {
    let (json, names, quoted) = (json_of(field), names(field), VALUE_BYTES_MAX + 2);
    format!(
        "multiIf(kind != 'json', '', {json} = '', if(isValidJSON(payload), '', '{UNREAD}'), \
         substring({json}, 1, 1) IN ('{{', '[', 'n'), '', \
         length({json}) > {quoted} AND length(JSONExtractString(payload{names})) > {VALUE_BYTES_MAX}, \
         '', {json})"
    )
}

fn conditions() -> String {
    format!("channel = {{channel:String}} AND {IN_TIME}")
}

fn statement(sql: String, query: &TopQuery) -> Statement {
    let mut statement = in_range(sql, &query.channel, (query.from_us, query.to_us));
    for (i, name) in query.field.path().enumerate() {
        statement = statement.text(format!("p{i}"), name);
    }
    statement
}
