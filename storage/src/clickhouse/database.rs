//! What the sink asks of a database apart from inserts: that it fits, and whether it has an event.

use super::client::{Class, Failure, Store};
use super::config::ClickHouseConfig;
use super::schema::{self, EVENTS, Found, SchemaError};
use proto::event::Event;

#[derive(clickhouse::Row, serde::Deserialize)]
struct ColumnRow {
    table: String,
    name: String,
    r#type: String,
}

#[derive(clickhouse::Row, serde::Deserialize)]
struct TableRow {
    name: String,
    comment: String,
    create_table_query: String,
}

/// Creates what is missing, upgrades what is older, refuses what does not fit, before it changes
/// anything.
pub(crate) async fn migrate(store: &Store, config: &ClickHouseConfig) -> Result<(), Failure> {
    let stuck = |error: SchemaError| Failure::new(Class::Stuck, error.to_string());
    schema::upgrade(config, &found(store, config).await?).map_err(stuck)?;
    for statement in schema::creations(config) {
        store.execute(&statement).await?;
    }
    let upgrade = schema::upgrade(config, &found(store, config).await?).map_err(stuck)?;
    for statement in upgrade.into_iter().chain(schema::views(config)) {
        store.execute(&statement).await?;
    }
    Ok(())
}

/// What the database holds.
async fn found(store: &Store, config: &ClickHouseConfig) -> Result<Found, Failure> {
    let columns = "SELECT table, name, type FROM system.columns WHERE database = {db:String}";
    let columns = store.query(columns).param("db", &config.database);
    let tables =
        "SELECT name, comment, create_table_query FROM system.tables WHERE database = {db:String}";
    let tables = store.query(tables).param("db", &config.database);
    let mut found = Found::default();
    for row in store.rows::<ColumnRow>(columns).await? {
        found.columns.push((row.table, row.name, row.r#type));
    }
    let events = EVENTS.rows_name(config);
    for row in store.rows::<TableRow>(tables).await? {
        if row.name == events {
            found.comment = row.comment;
        }
        found.created.push((row.name, row.create_table_query));
    }
    Ok(found)
}

/// True if the event is in the table: then so is the range that begins with it.
pub(crate) async fn contains(
    store: &Store,
    config: &ClickHouseConfig,
    event: &Event,
) -> Result<bool, Failure> {
    let sql = format!(
        "SELECT count() FROM {} WHERE channel = {{channel:String}} AND epoch = {{epoch:UInt64}} \
         AND offset = {{offset:UInt64}} AND received = \
         fromUnixTimestamp64Micro({{received:Int64}}, 'UTC')",
        EVENTS.path(config)
    );
    let position = event.position();
    let query = store
        .query(&sql)
        .param("channel", event.channel())
        .param("epoch", position.epoch.0)
        .param("offset", position.offset)
        .param("received", event.accepted_us()); // one partition, and not all of them
    let counts: Vec<u64> = store.rows(query).await?;
    Ok(counts.first().is_some_and(|count| *count > 0))
}
