//! Sending again what the tables lack: events of the spool, and dead letters whose cause is gone.
//!
//! Both look first at what is there, so that running them twice, or beside the sink, sends nothing
//! twice: the sink's own range is behind its cursor, and these are given only what is before it.

use super::client::{Class, Failure, Store};
use super::config::ClickHouseConfig;
use super::encode;
use super::schema::{DEAD_LETTERS, EVENT_COLUMNS, EVENTS, quoted};
use crate::sink::cursor::checksum;
use hashbrown::HashSet;
use proto::event::Event;

/// What a replay did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Rows looked at.
    pub looked: u64,
    /// Rows sent.
    pub sent: u64,
    /// Rows the store still rejects.
    pub rejected: u64,
}

#[derive(clickhouse::Row, serde::Deserialize, PartialEq, Eq, Hash, Clone)]
struct Key {
    channel: String,
    epoch: u64,
    offset: u64,
}

/// Dead letters tried at once; those of a batch that is rejected are tried one by one.
const DEAD_AT_ONCE: u64 = 10_000;

/// Sends those of `events` that are not in the table. They must be behind the sink's cursor.
pub async fn events(
    store: &Store,
    config: &ClickHouseConfig,
    events: &[Event],
) -> Result<Replayed, Failure> {
    let times = events.iter().map(Event::accepted_us);
    let (Some(from), Some(to)) = (times.clone().min(), times.max()) else {
        return Ok(Replayed::default());
    };
    let sql = format!(
        "SELECT channel, epoch, offset FROM {} \
         WHERE received >= fromUnixTimestamp64Micro({{from:Int64}}, 'UTC') \
         AND received <= fromUnixTimestamp64Micro({{to:Int64}}, 'UTC')",
        EVENTS.path(config)
    );
    let query = store.query(&sql).param("from", from).param("to", to);
    let there: HashSet<Key> = store.rows::<Key>(query).await?.into_iter().collect();
    let missing: Vec<Event> = events.iter().filter(|e| !there.contains(&key(e))).cloned().collect();
    let mut replayed = Replayed { looked: events.len() as u64, ..Replayed::default() };
    // A block is one partition, as the sink's are.
    for day in missing.chunk_by(|a, b| super::service::day(a) == super::service::day(b)) {
        send(store, config, day, &mut replayed).await?;
    }
    Ok(replayed)
}

/// Sends what is taken; what is rejected is found by dividing, and counted.
async fn send(
    store: &Store,
    config: &ClickHouseConfig,
    events: &[Event],
    replayed: &mut Replayed,
) -> Result<(), Failure> {
    let mut left = vec![events];
    while let Some(run) = left.pop() {
        let token = format!("replay-{}-{:08x}", run.len(), checksum(run));
        let sent = store.insert(&EVENTS.path(config), &token, encode::native(run, None)).await;
        match sent {
            Ok(()) => replayed.sent += run.len() as u64,
            Err(failure) if matches!(failure.class, Class::Rejected | Class::TooLarge) => {
                if run.len() == 1 {
                    replayed.rejected += 1;
                    continue;
                }
                let (first, second) = run.split_at(run.len() / 2);
                left.extend([second, first]);
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
}

fn key(event: &Event) -> Key {
    let position = event.position();
    Key { channel: event.channel().to_owned(), epoch: position.epoch.0, offset: position.offset }
}

/// Moves the dead letters whose reason contains `reason` into `events`, as far as they are taken
/// now.
pub async fn dead_letters(
    store: &Store,
    config: &ClickHouseConfig,
    reason: &str,
) -> Result<Replayed, Failure> {
    let mut replayed = Replayed::default();
    loop {
        // Those that stay rejected are passed by.
        let skip = replayed.rejected;
        let sql = format!(
            "SELECT channel, epoch, offset FROM {} WHERE position(reason, {{reason:String}}) > 0 \
             ORDER BY received, channel, epoch, offset LIMIT {{count:UInt64}} OFFSET {{skip:UInt64}}",
            DEAD_LETTERS.path(config)
        );
        let query = store.query(&sql).param("reason", reason);
        let query = query.param("count", DEAD_AT_ONCE).param("skip", skip);
        let keys = store.rows::<Key>(query).await?;
        if keys.is_empty() {
            return Ok(replayed);
        }
        replayed.looked += keys.len() as u64;
        match revive(store, config, &keys).await {
            Ok(()) => replayed.sent += keys.len() as u64,
            Err(failure) if failure.class == Class::Rejected => {
                for key in &keys {
                    match revive(store, config, std::slice::from_ref(key)).await {
                        Ok(()) => replayed.sent += 1,
                        Err(failure) if failure.class == Class::Rejected => replayed.rejected += 1,
                        Err(failure) => return Err(failure),
                    }
                }
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// Copies dead letters into `events` unless they are there, then forgets them.
async fn revive(store: &Store, config: &ClickHouseConfig, keys: &[Key]) -> Result<(), Failure> {
    let columns: Vec<String> = EVENT_COLUMNS.iter().map(|column| quoted(column.name)).collect();
    let columns = columns.join(", ");
    let (events, dead) = (EVENTS.path(config), DEAD_LETTERS.path(config));
    let chosen = "(channel, epoch, offset) IN (SELECT k.1, k.2, k.3 FROM (SELECT \
                  arrayJoin(arrayZip({channels:Array(String)}, {epochs:Array(UInt64)}, \
                  {offsets:Array(UInt64)})) AS k))";
    let bound = |sql: &str| {
        let channels: Vec<&str> = keys.iter().map(|key| key.channel.as_str()).collect();
        let epochs: Vec<u64> = keys.iter().map(|key| key.epoch).collect();
        let offsets: Vec<u64> = keys.iter().map(|key| key.offset).collect();
        let query = store.query(sql).param("channels", channels);
        query.param("epochs", epochs).param("offsets", offsets)
    };
    let copy = format!(
        "INSERT INTO {events} ({columns}) SELECT {columns} FROM {dead} WHERE {chosen} \
         AND (channel, epoch, offset) NOT IN (SELECT channel, epoch, offset FROM {events} \
         WHERE {chosen}) SETTINGS async_insert = 0, insert_deduplicate = 0"
    );
    store.run(bound(&copy)).await?;
    let cluster = match config.cluster.as_str() {
        "" => String::new(),
        name => format!(" ON CLUSTER '{name}'"),
    };
    let rows = format!("{}.{}", quoted(&config.database), quoted(&DEAD_LETTERS.rows_name(config)));
    let forget =
        format!("ALTER TABLE {rows}{cluster} DELETE WHERE {chosen} SETTINGS mutations_sync = 2");
    store.run(bound(&forget)).await
}
