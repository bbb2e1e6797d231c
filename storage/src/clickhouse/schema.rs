//! The tables: what is created, how older ones are upgraded, what is refused.
//!
//! Everything is declared once, as [`Table`]s; the statements for one server and for a cluster come
//! from the same declaration. A table that lacks a column of ours gets it; one whose column has
//! another type is refused by name, because guessing would lose data. Columns that users added are
//! left alone (they need a default). Partitions and retention go by `received`, our own clock:
//! times that clients send would scatter them. Pure; `service` runs it.

use super::config::ClickHouseConfig;
use std::fmt::Write;

/// The version in the comment of `events`; a server refuses a database of a later one.
pub const VERSION: u32 = 1;
const COMMENT: &str = "shardcast schema ";
/// Tokens a table remembers. At two inserts a second 83 minutes; a restart repeats one batch.
const DEDUPLICATION_WINDOW: u32 = 10_000;
/// The same for replicated tables, in time: a week of outage between a send and its repetition.
const DEDUPLICATION_WINDOW_S: u32 = 604_800;

/// The minute of an event, in UTC. A `DateTime` reaches from 1970 to 2106 and wraps beyond, so
/// times that clients make up are held at its ends; they could be counted in today otherwise.
pub(crate) const MINUTE: &str = "toStartOfMinute(toDateTime(least(greatest(ts, \
     toDateTime64('1970-01-01 00:00:00', 6, 'UTC')), \
     toDateTime64('2106-01-01 00:00:00', 6, 'UTC')), 'UTC'))";

/// A column of ours.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// Its type, and codec if any; `{low}` becomes `LowCardinality(String)` or `String`.
    definition: &'static str,
}

const fn column(name: &'static str, definition: &'static str) -> Column {
    Column { name, definition }
}

/// Of `events`, and of `dead_letters` before its own.
pub const EVENT_COLUMNS: &[Column] = &[
    column("id", "String CODEC(ZSTD(1))"),
    column("channel", "{low}"),
    column("epoch", "UInt64 CODEC(ZSTD(1))"),
    column("offset", "UInt64 CODEC(Delta, ZSTD(1))"),
    column("type", "{low}"),
    column("source", "{low}"),
    column("key", "String CODEC(ZSTD(1))"),
    column("ts", "DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1))"),
    column("received", "DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1))"),
    column("content_type", "LowCardinality(String)"),
    column("kind", "LowCardinality(String)"),
    column("class", "LowCardinality(String)"),
    column("traceparent", "String CODEC(ZSTD(1))"),
    column("attributes", "String CODEC(ZSTD(1))"),
    column("late", "Bool"),
    column("payload", "String CODEC(ZSTD(1))"),
];

const DEAD_COLUMNS: &[Column] = &[
    column("reason", "String CODEC(ZSTD(1))"),
    column("failed", "DateTime64(6, 'UTC') DEFAULT now64(6)"),
];

const MINUTE_COLUMNS: &[Column] = &[
    column("day", "Date"),
    column("minute", "DateTime('UTC')"),
    column("channel", "{low}"),
    column("type", "{low}"),
    column("events", "SimpleAggregateFunction(sum, UInt64)"),
    column("bytes", "SimpleAggregateFunction(sum, UInt64)"),
];

const CORRECTION_COLUMNS: &[Column] = &[
    column("minute", "DateTime('UTC')"),
    column("channel", "{low}"),
    column("type", "{low}"),
    column("events", "UInt64"),
    column("bytes", "UInt64"),
    column("seen_events", "UInt64"),
    column("seen_bytes", "UInt64"),
    column("version", "UInt64"),
];

/// A table of ours.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// Its name; in a cluster that of the Distributed table, and `NAME_local` holds the rows.
    pub name: &'static str,
    columns: &'static [Column],
    more_columns: &'static [Column],
    index: &'static str,
    engine: &'static str,
    engine_argument: &'static str,
    partition: &'static str,
    order: &'static str,
    /// The column retention goes by.
    age: &'static str,
    /// Old rows may move to the cold volume.
    cools: bool,
}

/// Every event, one row each.
pub const EVENTS: Table = Table {
    name: "events",
    columns: EVENT_COLUMNS,
    more_columns: &[],
    index: "INDEX offsets offset TYPE minmax GRANULARITY 1",
    engine: "MergeTree",
    engine_argument: "",
    partition: "toDate(received)",
    order: "(channel, ts)",
    age: "received",
    cools: true,
};

/// Events that the store rejected.
pub const DEAD_LETTERS: Table = Table {
    name: "dead_letters",
    columns: EVENT_COLUMNS,
    more_columns: DEAD_COLUMNS,
    index: "",
    engine: "MergeTree",
    engine_argument: "",
    partition: "toDate(received)",
    order: "(channel, ts)",
    age: "received",
    cools: false,
};

/// Events per minute, channel and type, late ones excepted. The day is that of `received`.
pub const EVENTS_PER_MINUTE: Table = Table {
    name: "events_per_minute",
    columns: MINUTE_COLUMNS,
    more_columns: &[],
    index: "",
    engine: "AggregatingMergeTree",
    engine_argument: "",
    partition: "day",
    order: "(channel, minute, type, day)",
    age: "day",
    cools: false,
};

/// What reconciliation found; see [`super::corrections`].
pub const CORRECTIONS: Table = Table {
    name: "minute_corrections",
    columns: CORRECTION_COLUMNS,
    more_columns: &[],
    index: "",
    engine: "ReplacingMergeTree",
    engine_argument: "version",
    partition: "",
    order: "(channel, minute, type)",
    // When it was made: every event it counts was received before.
    age: "intDiv(version, 1000000)",
    cools: false,
};

/// In the order of creation.
pub const TABLES: [Table; 4] = [EVENTS, DEAD_LETTERS, EVENTS_PER_MINUTE, CORRECTIONS];

/// Quotes an identifier.
pub(crate) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}

impl Table {
    /// `database`.`name`.
    pub fn path(&self, config: &ClickHouseConfig) -> String {
        format!("{}.{}", quoted(&config.database), quoted(self.name))
    }

    /// The name of the table that holds the rows.
    pub fn rows_name(&self, config: &ClickHouseConfig) -> String {
        let local = if config.cluster.is_empty() { "" } else { "_local" };
        format!("{}{local}", self.name)
    }

    fn rows_path(&self, config: &ClickHouseConfig) -> String {
        format!("{}.{}", quoted(&config.database), quoted(&self.rows_name(config)))
    }

    /// Every column of ours.
    pub fn columns(&self) -> impl Iterator<Item = &'static Column> {
        self.columns.iter().chain(self.more_columns)
    }

    fn create(&self, config: &ClickHouseConfig) -> String {
        let mut sql =
            format!("CREATE TABLE IF NOT EXISTS {}{}", self.rows_path(config), on(config));
        sql.push_str(" (\n");
        for (i, column) in self.columns().enumerate() {
            let comma = if i == 0 { "" } else { ",\n" };
            let _ = write!(sql, "{comma}    {}", column.definition(config));
        }
        if !self.index.is_empty() {
            let _ = write!(sql, ",\n    {}", self.index);
        }
        let _ = write!(sql, "\n)\nENGINE = {}", self.engine(config));
        if !self.partition.is_empty() {
            let _ = write!(sql, "\nPARTITION BY {}", self.partition);
        }
        let _ = write!(sql, "\nORDER BY {}", self.order);
        sql.push_str(&self.ttl(config));
        let _ = write!(sql, "\nSETTINGS {}", self.settings(config));
        if self.name == EVENTS.name {
            let _ = write!(sql, "\nCOMMENT '{COMMENT}{VERSION}'");
        }
        sql
    }

    fn engine(&self, config: &ClickHouseConfig) -> String {
        let argument = self.engine_argument;
        if config.cluster.is_empty() {
            return format!("{}({argument})", self.engine);
        }
        let comma = if argument.is_empty() { "" } else { ", " };
        let name = self.rows_name(config);
        format!(
            "Replicated{}('/clickhouse/tables/{{shard}}/{}/{name}', '{{replica}}'{comma}{argument})",
            self.engine, config.database
        )
    }

    fn ttl(&self, config: &ClickHouseConfig) -> String {
        let mut rules = Vec::new();
        let age =
            if self.age == "day" { "day".to_owned() } else { format!("toDateTime({})", self.age) };
        if self.cools && config.cold_after_days > 0 {
            let (days, volume) = (config.cold_after_days, &config.cold_volume);
            rules.push(format!("{age} + INTERVAL {days} DAY TO VOLUME '{volume}'"));
        }
        if !self.age.is_empty() && config.delete_after_days > 0 {
            rules.push(format!("{age} + INTERVAL {} DAY DELETE", config.delete_after_days));
        }
        if rules.is_empty() { String::new() } else { format!("\nTTL {}", rules.join(", ")) }
    }

    fn settings(&self, config: &ClickHouseConfig) -> String {
        let mut settings = if config.cluster.is_empty() {
            format!("non_replicated_deduplication_window = {DEDUPLICATION_WINDOW}")
        } else {
            format!(
                "replicated_deduplication_window = {DEDUPLICATION_WINDOW}, \
                 replicated_deduplication_window_seconds = {DEDUPLICATION_WINDOW_S}"
            )
        };
        if self.cools && !config.storage_policy.is_empty() {
            let _ = write!(settings, ", storage_policy = '{}'", config.storage_policy);
        }
        settings
    }

    /// The table over all shards of a cluster.
    fn create_distributed(&self, config: &ClickHouseConfig) -> String {
        format!(
            "CREATE TABLE IF NOT EXISTS {}{} AS {}\nENGINE = Distributed('{}', '{}', '{}', \
             cityHash64(channel))",
            self.path(config),
            on(config),
            self.rows_path(config),
            config.cluster,
            config.database,
            self.rows_name(config),
        )
    }
}

impl Column {
    fn definition(&self, config: &ClickHouseConfig) -> String {
        let low = if config.low_cardinality { "LowCardinality(String)" } else { "String" };
        format!("{} {}", quoted(self.name), self.definition.replace("{low}", low))
    }

    /// The types in which the column works; the first is the one we create.
    pub(super) fn types(&self) -> Vec<String> {
        let definition = self.definition;
        let end = [" CODEC", " DEFAULT"].iter().filter_map(|word| definition.find(word)).min();
        match &definition[..end.unwrap_or(definition.len())] {
            "{low}" | "LowCardinality(String)" => {
                vec!["LowCardinality(String)".into(), "String".into()]
            }
            "String" => vec!["String".into(), "LowCardinality(String)".into()],
            one => vec![one.to_owned()],
        }
    }
}

fn on(config: &ClickHouseConfig) -> String {
    if config.cluster.is_empty() {
        return String::new();
    }
    format!(" ON CLUSTER '{}'", config.cluster)
}

/// Everything that creates what is not there, in order. Running it again changes nothing.
pub fn statements(config: &ClickHouseConfig) -> Vec<String> {
    [creations(config), views(config)].concat()
}

/// The database and its tables.
pub fn creations(config: &ClickHouseConfig) -> Vec<String> {
    let database = quoted(&config.database);
    let mut all = vec![format!("CREATE DATABASE IF NOT EXISTS {database}{}", on(config))];
    for table in TABLES {
        all.push(table.create(config));
        if !config.cluster.is_empty() {
            all.push(table.create_distributed(config));
        }
    }
    all
}

/// What reads the tables, which therefore must have all columns.
pub fn views(config: &ClickHouseConfig) -> Vec<String> {
    let database = quoted(&config.database);
    let mut all = Vec::new();
    all.push(format!(
        "CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.`events_per_minute_view`{} TO {} AS\n\
         SELECT toDate(received) AS day,\n    {MINUTE} AS minute,\n    channel, type, \
         count() AS events, sum(length(payload)) AS bytes\nFROM {}\nWHERE NOT late\n\
         GROUP BY day, minute, channel, type",
        on(config),
        EVENTS_PER_MINUTE.rows_path(config),
        EVENTS.rows_path(config),
    ));
    all.push(format!(
        "CREATE VIEW IF NOT EXISTS {database}.`events_late`{} AS\nSELECT * FROM {} WHERE late",
        on(config),
        EVENTS.path(config),
    ));
    // A minute is what the view counted, plus what reconciliation found missing when it looked. So
    // what arrives after the look counts too.
    all.push(format!(
        "CREATE VIEW IF NOT EXISTS {database}.`events_by_minute`{} AS\n\
         SELECT minute, channel, type, sum(n) AS events, sum(b) AS bytes\nFROM (\n    \
         SELECT minute, channel, type, toInt64(events) AS n, toInt64(bytes) AS b FROM {}\n    \
         UNION ALL\n    SELECT minute, channel, type, toInt64(events) - toInt64(seen_events) AS n,\n        \
         toInt64(bytes) - toInt64(seen_bytes) AS b FROM {} FINAL\n)\n\
         GROUP BY minute, channel, type\nHAVING events > 0",
        on(config),
        EVENTS_PER_MINUTE.path(config),
        CORRECTIONS.path(config),
    ));
    all
}

/// What a database holds.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Table, column, type.
    pub columns: Vec<(String, String, String)>,
    /// The comment of the table with the events.
    pub comment: String,
    /// Table and its `CREATE` text, for its settings.
    pub created: Vec<(String, String)>,
}

/// Why a database cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// A column has a type that our rows do not fit.
    #[error(
        "the ClickHouse table {table} has `{column}` as {found}, Shardcast writes {expected}; \
         rename that table, or name another `storage.clickhouse.database`"
    )]
    Type {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// Its type.
        found: String,
        /// Ours.
        expected: String,
    },
    /// A later version of Shardcast has upgraded it.
    #[error(
        "the ClickHouse database {database} has Shardcast schema {found}, this server knows \
         {VERSION}; run the newer server, or name another `storage.clickhouse.database`"
    )]
    Newer {
        /// The database.
        database: String,
        /// Its version.
        found: u32,
    },
}

/// Compares what is there with what is ours; returns the statements of the upgrade.
pub fn upgrade(config: &ClickHouseConfig, found: &Found) -> Result<Vec<String>, SchemaError> {
    let version = found.comment.strip_prefix(COMMENT).and_then(|text| text.parse().ok());
    if let Some(version) = version.filter(|version| *version > VERSION) {
        return Err(SchemaError::Newer { database: config.database.clone(), found: version });
    }
    let mut statements = Vec::new();
    for table in TABLES {
        let mut names = vec![table.rows_name(config)];
        if !config.cluster.is_empty() {
            names.push(table.name.to_owned());
        }
        for name in &names {
            upgrade_columns(config, &table, name, found, &mut statements)?;
        }
        let rows = table.rows_name(config);
        let created = found.created.iter().find(|(name, _)| *name == rows);
        let window = if config.cluster.is_empty() {
            "non_replicated_deduplication_window"
        } else {
            "replicated_deduplication_window"
        };
        if created.is_some_and(|(_, sql)| setting(sql, window).is_none_or(|n| n < 1_000)) {
            statements.push(format!(
                "ALTER TABLE {}{} MODIFY SETTING {window} = {DEDUPLICATION_WINDOW}",
                table.rows_path(config),
                on(config)
            ));
        }
    }
    Ok(statements)
}

fn upgrade_columns(
    config: &ClickHouseConfig,
    table: &Table,
    name: &str,
    found: &Found,
    statements: &mut Vec<String>,
) -> Result<(), SchemaError> {
    for column in table.columns() {
        let types = column.types();
        let there = found.columns.iter().find(|(t, c, _)| t == name && c == column.name);
        match there {
            None => statements.push(format!(
                "ALTER TABLE {}.{}{} ADD COLUMN IF NOT EXISTS {}",
                quoted(&config.database),
                quoted(name),
                on(config),
                column.definition(config)
            )),
            Some((_, _, found)) if !types.contains(found) => {
                return Err(SchemaError::Type {
                    table: format!("{}.{name}", config.database),
                    column: column.name.to_owned(),
                    found: found.clone(),
                    expected: types.into_iter().next().unwrap_or_default(),
                });
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// A numeric setting in the text of a `CREATE`.
fn setting(sql: &str, name: &str) -> Option<u64> {
    let at = sql.rfind(&format!("{name} = "))?;
    let rest = &sql[at + name.len() + 3..];
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    rest[..digits].parse().ok()
}
