CREATE DATABASE IF NOT EXISTS `shardcast`;

CREATE TABLE IF NOT EXISTS `shardcast`.`events` (
    `id` String CODEC(ZSTD(1)),
    `channel` LowCardinality(String),
    `epoch` UInt64 CODEC(ZSTD(1)),
    `offset` UInt64 CODEC(Delta, ZSTD(1)),
    `type` LowCardinality(String),
    `source` LowCardinality(String),
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
ENGINE = MergeTree()
PARTITION BY toDate(received)
ORDER BY (channel, ts)
TTL toDateTime(received) + INTERVAL 90 DAY DELETE
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'shardcast schema 1';

CREATE TABLE IF NOT EXISTS `shardcast`.`dead_letters` (
    `id` String CODEC(ZSTD(1)),
    `channel` LowCardinality(String),
    `epoch` UInt64 CODEC(ZSTD(1)),
    `offset` UInt64 CODEC(Delta, ZSTD(1)),
    `type` LowCardinality(String),
    `source` LowCardinality(String),
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
ENGINE = MergeTree()
PARTITION BY toDate(received)
ORDER BY (channel, ts)
TTL toDateTime(received) + INTERVAL 90 DAY DELETE
SETTINGS non_replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS `shardcast`.`events_per_minute` (
    `day` Date,
    `minute` DateTime('UTC'),
    `channel` LowCardinality(String),
    `type` LowCardinality(String),
    `events` SimpleAggregateFunction(sum, UInt64),
    `bytes` SimpleAggregateFunction(sum, UInt64)
)
ENGINE = AggregatingMergeTree()
PARTITION BY day
ORDER BY (channel, minute, type, day)
TTL day + INTERVAL 90 DAY DELETE
SETTINGS non_replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS `shardcast`.`minute_corrections` (
    `minute` DateTime('UTC'),
    `channel` LowCardinality(String),
    `type` LowCardinality(String),
    `events` UInt64,
    `bytes` UInt64,
    `seen_events` UInt64,
    `seen_bytes` UInt64,
    `version` UInt64
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (channel, minute, type)
TTL toDateTime(intDiv(version, 1000000)) + INTERVAL 90 DAY DELETE
SETTINGS non_replicated_deduplication_window = 10000;

CREATE MATERIALIZED VIEW IF NOT EXISTS `shardcast`.`events_per_minute_view` TO `shardcast`.`events_per_minute` AS
SELECT toDate(received) AS day,
    toStartOfMinute(toDateTime(least(greatest(ts, toDateTime64('1970-01-01 00:00:00', 6, 'UTC')), toDateTime64('2106-01-01 00:00:00', 6, 'UTC')), 'UTC')) AS minute,
    channel, type, count() AS events, sum(length(payload)) AS bytes
FROM `shardcast`.`events`
WHERE NOT late
GROUP BY day, minute, channel, type;

CREATE VIEW IF NOT EXISTS `shardcast`.`events_late` AS
SELECT * FROM `shardcast`.`events` WHERE late;

CREATE VIEW IF NOT EXISTS `shardcast`.`events_by_minute` AS
SELECT minute, channel, type, sum(n) AS events, sum(b) AS bytes
FROM (
    SELECT minute, channel, type, toInt64(events) AS n, toInt64(bytes) AS b FROM `shardcast`.`events_per_minute`
    UNION ALL
    SELECT minute, channel, type, toInt64(events) - toInt64(seen_events) AS n,
        toInt64(bytes) - toInt64(seen_bytes) AS b FROM `shardcast`.`minute_corrections` FINAL
)
GROUP BY minute, channel, type
HAVING events > 0;
