CREATE DATABASE IF NOT EXISTS `shardcast` ON CLUSTER 'main';

CREATE TABLE IF NOT EXISTS `shardcast`.`events_local` ON CLUSTER 'main' (
    `id` String CODEC(ZSTD(1)),
    `channel` String,
    `epoch` UInt64 CODEC(ZSTD(1)),
    `offset` UInt64 CODEC(Delta, ZSTD(1)),
    `type` String,
    `source` String,
    `key` String CODEC(ZSTD(1)),
    `ts` DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    `received` DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    `content_type` LowCardinality(String),
    `kind` LowCardinality(String),
    `class` LowCardinality(String),
    `traceparent` String CODEC(ZSTD(1)),
    `attributes` String CODEC(ZSTD(1)),
    `late` Bool,
    `payload` String CODEC(ZSTD(1)),
    INDEX offsets offset TYPE minmax GRANULARITY 1
)
ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/shardcast/events_local', '{replica}')
PARTITION BY toDate(received)
ORDER BY (channel, ts)
TTL toDateTime(received) + INTERVAL 7 DAY TO VOLUME 's3', toDateTime(received) + INTERVAL 90 DAY DELETE
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800, storage_policy = 'tiered'
COMMENT 'shardcast schema 1';

CREATE TABLE IF NOT EXISTS `shardcast`.`events` ON CLUSTER 'main' AS `shardcast`.`events_local`
ENGINE = Distributed('main', 'shardcast', 'events_local', cityHash64(channel));

CREATE TABLE IF NOT EXISTS `shardcast`.`dead_letters_local` ON CLUSTER 'main' (
    `id` String CODEC(ZSTD(1)),
    `channel` String,
    `epoch` UInt64 CODEC(ZSTD(1)),
    `offset` UInt64 CODEC(Delta, ZSTD(1)),
    `type` String,
    `source` String,
    `key` String CODEC(ZSTD(1)),
    `ts` DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    `received` DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    `content_type` LowCardinality(String),
    `kind` LowCardinality(String),
    `class` LowCardinality(String),
    `traceparent` String CODEC(ZSTD(1)),
    `attributes` String CODEC(ZSTD(1)),
    `late` Bool,
    `payload` String CODEC(ZSTD(1)),
    `reason` String CODEC(ZSTD(1)),
    `failed` DateTime64(6, 'UTC') DEFAULT now64(6)
)
ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/shardcast/dead_letters_local', '{replica}')
PARTITION BY toDate(received)
ORDER BY (channel, ts)
TTL toDateTime(received) + INTERVAL 90 DAY DELETE
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800;

CREATE TABLE IF NOT EXISTS `shardcast`.`dead_letters` ON CLUSTER 'main' AS `shardcast`.`dead_letters_local`
ENGINE = Distributed('main', 'shardcast', 'dead_letters_local', cityHash64(channel));

CREATE TABLE IF NOT EXISTS `shardcast`.`events_per_minute_local` ON CLUSTER 'main' (
    `day` Date,
    `minute` DateTime('UTC'),
    `channel` String,
    `type` String,
    `events` SimpleAggregateFunction(sum, UInt64),
    `bytes` SimpleAggregateFunction(sum, UInt64)
)
ENGINE = ReplicatedAggregatingMergeTree('/clickhouse/tables/{shard}/shardcast/events_per_minute_local', '{replica}')
PARTITION BY day
ORDER BY (channel, minute, type, day)
TTL day + INTERVAL 90 DAY DELETE
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800;

CREATE TABLE IF NOT EXISTS `shardcast`.`events_per_minute` ON CLUSTER 'main' AS `shardcast`.`events_per_minute_local`
ENGINE = Distributed('main', 'shardcast', 'events_per_minute_local', cityHash64(channel));

CREATE TABLE IF NOT EXISTS `shardcast`.`minute_corrections_local` ON CLUSTER 'main' (
    `minute` DateTime('UTC'),
    `channel` String,
    `type` String,
    `events` UInt64,
    `bytes` UInt64,
    `seen_events` UInt64,
    `seen_bytes` UInt64,
    `version` UInt64
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/shardcast/minute_corrections_local', '{replica}', version)
ORDER BY (channel, minute, type)
TTL toDateTime(intDiv(version, 1000000)) + INTERVAL 90 DAY DELETE
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800;

CREATE TABLE IF NOT EXISTS `shardcast`.`minute_corrections` ON CLUSTER 'main' AS `shardcast`.`minute_corrections_local`
ENGINE = Distributed('main', 'shardcast', 'minute_corrections_local', cityHash64(channel));

CREATE MATERIALIZED VIEW IF NOT EXISTS `shardcast`.`events_per_minute_view` ON CLUSTER 'main' TO `shardcast`.`events_per_minute_local` AS
SELECT toDate(received) AS day,
    toStartOfMinute(toDateTime(least(greatest(ts, toDateTime64('1970-01-01 00:00:00', 6, 'UTC')), toDateTime64('2106-01-01 00:00:00', 6, 'UTC')), 'UTC')) AS minute,
    channel, type, count() AS events, sum(length(payload)) AS bytes
FROM `shardcast`.`events_local`
WHERE NOT late
GROUP BY day, minute, channel, type;

CREATE VIEW IF NOT EXISTS `shardcast`.`events_late` ON CLUSTER 'main' AS
SELECT * FROM `shardcast`.`events` WHERE late;

CREATE VIEW IF NOT EXISTS `shardcast`.`events_by_minute` ON CLUSTER 'main' AS
SELECT minute, channel, type, sum(n) AS events, sum(b) AS bytes
FROM (
    SELECT minute, channel, type, toInt64(events) AS n, toInt64(bytes) AS b FROM `shardcast`.`events_per_minute`
    UNION ALL
    SELECT minute, channel, type, toInt64(events) - toInt64(seen_events) AS n,
        toInt64(bytes) - toInt64(seen_bytes) AS b FROM `shardcast`.`minute_corrections` FINAL
)
GROUP BY minute, channel, type
HAVING events > 0;
