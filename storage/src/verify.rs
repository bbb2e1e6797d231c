//! Comparing stores: per hour of `received`, how many rows and the sum of their checksums.
//!
//! The checksum of a row is XXH64 over its columns as text, which ClickHouse computes by itself
//! ([`checksum_sql`]) and everybody else by [`checksum`]: so nothing has to be sent to be compared,
//! and the order of rows does not matter. Pure, but for the queries of [`click_house`].

use crate::clickhouse::schema::{DEAD_LETTERS, EVENT_COLUMNS, EVENTS, quoted};
use crate::clickhouse::{ClickHouseConfig, Failure, Store};
use crate::parquet::layout::{Hour, Range};
use crate::parquet::schema::{Row, Tally};
use crate::parquet::{self, encode};
use std::collections::BTreeMap;
use std::hash::Hasher;
use std::io::Write;
use twox_hash::XxHash64;

/// Rows and checksums by hour.
pub type Tallies = BTreeMap<Hour, Tally>;

/// The checksum of a row.
pub fn checksum(row: &Row<'_>) -> u64 {
    let mut hasher = XxHash64::with_seed(0);
    let mut numbers = Vec::with_capacity(96);
    let late = u8::from(row.late);
    let Row { epoch, offset, ts, received, .. } = row;
    let _ = write!(numbers, "{epoch}/{offset}/{ts}/{received}/{late}");
    hasher.write(&numbers);
    let texts = [row.id, row.channel, row.r#type, row.source, row.key, row.content_type];
    let more = [row.kind, row.class, row.traceparent, row.attributes];
    for text in texts.into_iter().chain(more).map(str::as_bytes).chain([row.payload]) {
        hasher.write(b"/");
        hasher.write(text);
    }
    hasher.finish()
}

/// The same in SQL, over the columns of `events`.
pub fn checksum_sql() -> &'static str {
    "xxHash64(concat(toString(epoch), '/', toString(offset), '/', \
     toString(toUnixTimestamp64Micro(ts)), '/', toString(toUnixTimestamp64Micro(received)), '/', \
     toString(toUInt8(late)), '/', id, '/', channel, '/', type, '/', source, '/', key, '/', \
     content_type, '/', kind, '/', class, '/', traceparent, '/', attributes, '/', payload))"
}

#[derive(clickhouse::Row, serde::Deserialize)]
struct HourRow {
    hour: i64,
    rows: u64,
    checksum: u64,
}

/// What ClickHouse has of `[from_us, to_us)` by `received`, dead letters included, of the runs with
/// these lineages: other servers may store there, too.
pub async fn click_house(
    store: &Store,
    config: &ClickHouseConfig,
    (from_us, to_us): (i64, i64),
    lineages: &[u32],
) -> Result<Tallies, Failure> {
    let columns = EVENT_COLUMNS.iter().map(|column| quoted(column.name)).collect::<Vec<_>>();
    let columns = columns.join(", ");
    let sql = format!(
        "SELECT intDiv(toUnixTimestamp64Micro(received), 3600000000) AS hour, count() AS rows, \
         sum({}) AS checksum FROM (SELECT {columns} FROM {} UNION ALL SELECT {columns} FROM {}) \
         WHERE received >= fromUnixTimestamp64Micro({{from:Int64}}, 'UTC') \
         AND received < fromUnixTimestamp64Micro({{to:Int64}}, 'UTC') \
         AND bitShiftRight(epoch, 32) IN {{lineages:Array(UInt32)}} GROUP BY hour",
        checksum_sql(),
        EVENTS.path(config),
        DEAD_LETTERS.path(config)
    );
    let query = store.query(&sql).param("from", from_us).param("to", to_us);
    let query = query.param("lineages", lineages);
    let rows = store.rows::<HourRow>(query).await?;
    let tally = |row: HourRow| {
        let hour = Hour::of(row.hour.saturating_mul(3_600_000_000));
        (hour, Tally { rows: row.rows, checksum: row.checksum })
    };
    Ok(rows.into_iter().map(tally).collect())
}

/// What the Parquet files of `node` have of `[from_us, to_us)` by `received`. `each` hears of every
/// file.
pub async fn parquet(
    store: &parquet::client::Store,
    node: &str,
    (from_us, to_us): (i64, i64),
    each: &mut dyn FnMut(&str),
) -> Result<Tallies, String> {
    let mut tallies = Tallies::new();
    let begin = Hour::of(from_us).begin_us();
    for day in store.days().await.map_err(|e| e.to_string())? {
        for hour in store.hours(&day).await.map_err(|e| e.to_string())? {
            if hour.begin_us() < begin || hour.begin_us() >= to_us {
                continue;
            }
            let files = store.files(hour, FILES_MAX).await.map_err(|e| e.to_string())?;
            for (path, _) in files {
                let name = path.rsplit('/').next().unwrap_or_default();
                if Range::parse(name).is_none_or(|range| range.node != node) {
                    continue;
                }
                each(&path);
                let bytes = store.read(&path).await.map_err(|e| e.to_string())?;
                let mut add = |row: Row<'_>| {
                    if (from_us..to_us).contains(&row.received) {
                        tallies.entry(Hour::of(row.received)).or_default().add(&row);
                    }
                };
                encode::read(bytes, &mut add).map_err(|e| format!("{path}: {e}"))?;
            }
        }
    }
    Ok(tallies)
}

/// Files looked at in an hour, at most.
const FILES_MAX: usize = 100_000;

/// The hours in which two stores are not the same, with what each has.
pub fn differences(one: &Tallies, other: &Tallies) -> Vec<(Hour, Tally, Tally)> {
    let hours: std::collections::BTreeSet<Hour> = one.keys().chain(other.keys()).copied().collect();
    let of = |tallies: &Tallies, hour| tallies.get(&hour).copied().unwrap_or_default();
    hours
        .into_iter()
        .map(|hour| (hour, of(one, hour), of(other, hour)))
        .filter(|(_, one, other)| one != other)
        .collect()
}
