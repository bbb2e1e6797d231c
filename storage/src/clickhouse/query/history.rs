//! History: blocks of events in the order of the channel, the next one by the last position.
//!
//! The table is ordered by time and a channel by incarnation and offset, so a block is found in two
//! looks: which keys come next (small columns), then the rows between the first and the last of
//! them, which times and offsets narrow to a few granules. Offsets have few holes: after the first
//! block the next keys are looked for right behind the last one, and in the whole range only when
//! too few are there. Between blocks nothing is held.
//!
//! An event is rebuilt from its columns. Two flags of its image have none: whether its id and its
//! time were the publisher's. No answer shows them.

use super::super::encode::kind_name;
use super::ORDER;
use super::turn::{Statement, Turn};
use crate::read::{BLOCK_BYTES_MAX, Bound, HistoryBlock, HistoryRead, ReadError};
use bytes::Bytes;
use proto::event::{Class, DataKind, Draft, Event};
use proto::position::{Epoch, Position};

/// Most events of a block. At 250 bytes each they fill one.
const BLOCK_ROWS: u64 = 1_000;

/// Where an event is.
#[derive(Debug, Clone, Copy, clickhouse::Row, serde::Deserialize)]
struct Key {
    epoch: u64,
    offset: u64,
    time_us: i64,
    /// Zero where it was not asked for.
    bytes: u64,
}

#[derive(clickhouse::Row, serde::Deserialize)]
struct Place {
    epoch: u64,
    offset: u64,
}

#[derive(clickhouse::Row, serde::Deserialize)]
struct Row {
    id: String,
    epoch: u64,
    offset: u64,
    r#type: String,
    source: String,
    key: String,
    time_us: i64,
    received_us: i64,
    content_type: String,
    kind: String,
    class: String,
    traceparent: String,
    attributes: String,
    payload: Bytes,
}

/// The next block of a read.
pub(super) async fn block(
    turn: &Turn<'_>,
    table: &str,
    read: HistoryRead,
) -> Result<HistoryBlock, ReadError> {
    let wanted = u64::from(read.limit()).min(BLOCK_ROWS);
    let mut keys = match read.passed() {
        Some(passed) => turn.rows(keys(table, &read, wanted, Some(passed))).await?,
        None => Vec::new(),
    };
    // All that there is in the range.
    let mut all = false;
    if (keys.len() as u64) < wanted.div_ceil(4) {
        keys = turn.rows(self::keys(table, &read, wanted, None)).await?;
        all = (keys.len() as u64) < wanted;
        if !keys.is_empty() {
            keys = turn.rows(sizes(table, &read, Span::of(&keys), wanted)).await?;
        }
    }
    let found = keys.len();
    let mut bytes = 0;
    let fits = keys.iter().take_while(|key| {
        let fits = bytes < BLOCK_BYTES_MAX as u64;
        bytes += key.bytes;
        fits
    });
    let fits = fits.count();
    keys.truncate(fits);
    let mut events = Vec::new();
    if !keys.is_empty() {
        let statement = rows(table, &read, Span::of(&keys), keys.len() as u64);
        for row in turn.rows::<Row>(statement).await? {
            events.push(event(read.channel().as_str(), &row)?);
        }
    }
    finish(turn, table, read, events, all && fits == found).await
}

async fn finish(
    turn: &Turn<'_>,
    table: &str,
    read: HistoryRead,
    events: Vec<Event>,
    all: bool,
) -> Result<HistoryBlock, ReadError> {
    let given = events.len() as u32;
    let last = events.last().map(Event::position);
    if let Some(last) = last.filter(|_| !all || read.limit() == given) {
        let next = (read.limit() > given).then(|| read.rest(last, given));
        return Ok(HistoryBlock { events, next, newest: Some(last) });
    }
    // The whole range was passed, and with an open end whatever is behind it.
    let newest = match read.range().1 {
        Bound::Open => newest(turn, table, &read).await?,
        Bound::Offset(_) | Bound::TimeUs(_) => None,
    };
    let newest = newest
        .into_iter()
        .chain(last.or(read.passed()))
        .max_by_key(|position| (position.epoch.incarnation(), position.offset, position.epoch));
    Ok(HistoryBlock { events, next: None, newest })
}

/// The newest event of the channel.
async fn newest(
    turn: &Turn<'_>,
    table: &str,
    read: &HistoryRead,
) -> Result<Option<Position>, ReadError> {
    let incarnation = incarnation(read);
    let sql = format!(
        "SELECT place.3 AS epoch, place.2 AS offset FROM (SELECT max({ORDER}) AS place, \
         count() AS events FROM {table} WHERE channel = {{channel:String}}{incarnation}) \
         WHERE events > 0"
    );
    let found: Vec<Place> = turn.rows(with_channel(sql, read)).await?;
    let position = |place: &Place| Position { epoch: Epoch(place.epoch), offset: place.offset };
    Ok(found.first().map(position))
}

/// The keys that come next. With a position only those right behind it, and how long they are.
fn keys(table: &str, read: &HistoryRead, wanted: u64, behind: Option<Position>) -> Statement {
    let mut conditions = conditions(read);
    let bytes = match behind {
        // As a plain range of offsets, which the index on them knows.
        Some(_) => {
            conditions.push_str(
                " AND offset >= {passed_offset:UInt64} AND offset <= {window_end:UInt64} \
                 AND bitAnd(epoch, 4294967295) = bitAnd({passed_epoch:UInt64}, 4294967295)",
            );
            SIZE
        }
        None => "toUInt64(0)",
    };
    if read.passed().is_some() {
        conditions.push_str(
            " AND (bitAnd(epoch, 4294967295), offset, epoch) > \
             (bitAnd({passed_epoch:UInt64}, 4294967295), {passed_offset:UInt64}, \
             {passed_epoch:UInt64})",
        );
    }
    let mut statement =
        with_values(key_sql(table, bytes, &conditions), read).unsigned("wanted", wanted);
    if let Some(passed) = behind {
        statement = statement.unsigned("window_end", passed.offset.saturating_add(wanted));
    }
    if let Some(passed) = read.passed() {
        statement = statement
            .unsigned("passed_epoch", passed.epoch.0)
            .unsigned("passed_offset", passed.offset);
    }
    statement
}

/// The same keys with how long they are, now that it is known where to look.
fn sizes(table: &str, read: &HistoryRead, span: Span, wanted: u64) -> Statement {
    let conditions = format!("{} AND {SPAN}", conditions(read));
    span.bind(with_values(key_sql(table, SIZE, &conditions), read)).unsigned("wanted", wanted)
}

fn key_sql(table: &str, bytes: &str, conditions: &str) -> String {
    format!(
        "SELECT epoch, offset, toUnixTimestamp64Micro(ts) AS time_us, {bytes} AS bytes \
         FROM {table} WHERE {conditions} ORDER BY {ORDER} LIMIT {{wanted:UInt64}}"
    )
}

fn rows(table: &str, read: &HistoryRead, span: Span, wanted: u64) -> Statement {
    let conditions = format!("{} AND {SPAN}", conditions(read));
    let sql = format!(
        "SELECT id, epoch, offset, type, source, key, toUnixTimestamp64Micro(ts) AS time_us, \
         toUnixTimestamp64Micro(received) AS received_us, content_type, kind, class, traceparent, \
         attributes, payload FROM {table} WHERE {conditions} ORDER BY {ORDER} \
         LIMIT {{wanted:UInt64}}"
    );
    span.bind(with_values(sql, read)).unsigned("wanted", wanted)
}

/// The channel, the incarnation and the bounds of a read.
fn conditions(read: &HistoryRead) -> String {
    let mut conditions = "channel = {channel:String}".to_owned();
    conditions.push_str(incarnation(read));
    let (from, to) = read.range();
    conditions.push_str(match from {
        Bound::Open => "",
        Bound::Offset(_) => " AND offset >= {from:UInt64}",
        Bound::TimeUs(_) => " AND ts >= fromUnixTimestamp64Micro({from:Int64}, 'UTC')",
    });
    conditions.push_str(match to {
        Bound::Open => "",
        Bound::Offset(_) => " AND offset <= {to:UInt64}",
        Bound::TimeUs(_) => " AND ts <= fromUnixTimestamp64Micro({to:Int64}, 'UTC')",
    });
    conditions
}

fn incarnation(read: &HistoryRead) -> &'static str {
    match read.incarnation() {
        Some(_) => " AND bitAnd(epoch, 4294967295) = {incarnation:UInt64}",
        None => "",
    }
}

fn with_channel(sql: String, read: &HistoryRead) -> Statement {
    let statement = Statement::new(sql).text("channel", read.channel().as_str());
    match read.incarnation() {
        Some(incarnation) => statement.unsigned("incarnation", u64::from(incarnation)),
        None => statement,
    }
}

fn with_values(sql: String, read: &HistoryRead) -> Statement {
    let mut statement = with_channel(sql, read);
    let (from, to) = read.range();
    for (name, bound) in [("from", from), ("to", to)] {
        statement = match bound {
            Bound::Open => statement,
            Bound::Offset(offset) => statement.unsigned(name, offset),
            Bound::TimeUs(time_us) => statement.signed(name, time_us),
        };
    }
    statement
}

/// What an event takes in memory and on the wire, about.
const SIZE: &str = "toUInt64(length(payload) + length(attributes) + 200)";

/// Between the first and the last key, the times and the offsets of them all.
const SPAN: &str = "(bitAnd(epoch, 4294967295), offset, epoch) >= \
     (bitAnd({first_epoch:UInt64}, 4294967295), {first_offset:UInt64}, {first_epoch:UInt64}) AND \
     (bitAnd(epoch, 4294967295), offset, epoch) <= \
     (bitAnd({last_epoch:UInt64}, 4294967295), {last_offset:UInt64}, {last_epoch:UInt64}) AND \
     offset >= {low:UInt64} AND offset <= {high:UInt64} AND \
     ts >= fromUnixTimestamp64Micro({early:Int64}, 'UTC') AND \
     ts <= fromUnixTimestamp64Micro({late:Int64}, 'UTC')";

/// What keys have in common.
#[derive(Debug, Clone, Copy)]
struct Span {
    first: (u64, u64),
    last: (u64, u64),
    offsets: (u64, u64),
    times_us: (i64, i64),
}

impl Span {
    fn of(keys: &[Key]) -> Self {
        let place = |key: Option<&Key>| key.map_or((0, 0), |key| (key.epoch, key.offset));
        let offsets = keys.iter().map(|key| key.offset);
        let times = keys.iter().map(|key| key.time_us);
        Self {
            first: place(keys.first()),
            last: place(keys.last()),
            offsets: (offsets.clone().min().unwrap_or(0), offsets.max().unwrap_or(0)),
            times_us: (times.clone().min().unwrap_or(0), times.max().unwrap_or(0)),
        }
    }

    fn bind(&self, statement: Statement) -> Statement {
        statement
            .unsigned("first_epoch", self.first.0)
            .unsigned("first_offset", self.first.1)
            .unsigned("last_epoch", self.last.0)
            .unsigned("last_offset", self.last.1)
            .unsigned("low", self.offsets.0)
            .unsigned("high", self.offsets.1)
            .signed("early", self.times_us.0)
            .signed("late", self.times_us.1)
    }
}

fn event(channel: &str, row: &Row) -> Result<Event, ReadError> {
    let place = Position { epoch: Epoch(row.epoch), offset: row.offset };
    let wrong = |what: String| {
        let file = format!("the ClickHouse row of {channel} at {place}");
        ReadError::Damaged { file, at: 0, what }
    };
    let kinds = [DataKind::Json, DataKind::Text, DataKind::Binary];
    let data_kind = kinds.into_iter().find(|kind| kind_name(*kind) == row.kind);
    let data_kind = data_kind.ok_or_else(|| wrong(format!("unknown kind `{}`", row.kind)))?;
    let class = Class::parse(&row.class);
    let class = class.ok_or_else(|| wrong(format!("unknown class `{}`", row.class)))?;
    if data_kind != DataKind::Binary && std::str::from_utf8(&row.payload).is_err() {
        return Err(wrong("its payload is not UTF-8".to_owned()));
    }
    let draft = Draft {
        channel,
        id: &row.id,
        id_generated: false,
        kind: &row.r#type,
        source: &row.source,
        key: &row.key,
        content_type: &row.content_type,
        traceparent: &row.traceparent,
        attributes: &row.attributes,
        time_us: Some(row.time_us),
        of_client: false,
        class,
        data_kind,
        data: &row.payload,
    };
    let unplaced = draft.build().map_err(|error| wrong(error.to_string()))?;
    Ok(unplaced.place(place, row.received_us))
}
