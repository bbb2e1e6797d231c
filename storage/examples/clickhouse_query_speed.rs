//! What queries cost when ClickHouse answers them: `clickhouse_query_speed [URL] [million rows]`.
//!
//! Fills a database of its own (`shardcast_speed`, dropped first; with 0 rows it is left as it is)
//! with an hour of events in ten channels and asks about the last five minutes of one of them, as a
//! server does. Prints medians.

use anyhow::{Result, anyhow, bail};
use proto::channel::ChannelName;
use proto::field::Field;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};
use storage::clickhouse::schema::{EVENTS, statements};
use storage::clickhouse::{ClickHouseConfig, QueryLimits, QueryPool, Store};
use storage::{Aggregate, Answer, Bound, CountsQuery, HistoryRead, Query, TopQuery};

const HOUR_US: i64 = 3_600_000_000;
const BEGAN_US: i64 = 1_767_225_600_000_000; // 2026-01-01
const ROUNDS: usize = 15;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or_else(|| "http://127.0.0.1:8123".into());
    let millions: u64 = arguments.next().map_or(Ok(10), |text| text.parse())?;
    let config = ClickHouseConfig {
        urls: vec![url],
        database: "shardcast_speed".into(),
        delete_after_days: 0,
        insert_timeout: Duration::from_secs(600),
        ..ClickHouseConfig::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if millions > 0 {
        runtime.block_on(fill(&config, millions))?;
    }
    let time = Duration::from_secs(60);
    let limits = QueryLimits { running_max: 8, waiting_max: 256, time };
    let pool = QueryPool::start(&config, limits, Box::new(|failure| println!("{failure}")))?;
    let channel = ChannelName::new("orders:3").map_err(|e| anyhow!("{e}"))?;
    let to_us = BEGAN_US + HOUR_US;
    let from_us = to_us - 300_000_000;
    let range = (Bound::TimeUs(from_us), Bound::TimeUs(to_us));
    let history = |from, to, limit| HistoryRead::new(channel.clone(), None, from, to, limit);
    let ask = |name: &str, query: &dyn Fn() -> Query| ask(&pool, name, query);
    ask("history, five minutes, first 1,000", &|| {
        Query::History(history(range.0, range.1, 1_000))
    })?;
    ask("history, offsets 500,000 and on, 1,000", &|| {
        Query::History(history(Bound::Offset(500_000), Bound::Open, 1_000))
    })?;
    for bucket_s in [1, 60] {
        ask(&format!("counts, five minutes, bucket {bucket_s} s"), &|| {
            let channel = channel.clone();
            let counts = CountsQuery { channel, from_us, to_us, bucket_s, kind: None };
            Query::Aggregate(Aggregate::Counts(counts))
        })?;
    }
    for (field, from_us) in [
        ("type", from_us),
        ("key", from_us),
        ("data.sku", from_us),
        ("data.amount", from_us),
        ("data.customer", from_us),
        ("data.sku", BEGAN_US),
        ("id", BEGAN_US),
    ] {
        let minutes = (to_us - from_us) / 60_000_000;
        let parsed = Field::parse(field)?;
        ask(&format!("top, {minutes} minutes, {field}"), &|| {
            let (channel, field) = (channel.clone(), parsed.clone());
            let top = TopQuery { channel, field, from_us, to_us, limit: 10 };
            Query::Aggregate(Aggregate::Top(top))
        })?;
    }
    whole(&pool, history(Bound::Open, Bound::Open, 100_000))
}

async fn fill(config: &ClickHouseConfig, millions: u64) -> Result<()> {
    let store = Store::new(config).map_err(|e| anyhow!(e))?;
    store.execute("DROP DATABASE IF EXISTS shardcast_speed SYNC").await?;
    for statement in statements(config) {
        store.execute(&statement).await?;
    }
    let (began, rows) = (Instant::now(), millions * 1_000_000);
    for first in (0..rows).step_by(1_000_000) {
        // A tenth of a percent is late, as it goes.
        let sql = format!(
            "INSERT INTO {} SELECT lower(hex(sipHash128(number))) AS id, \
             concat('orders:', toString(number % 10)) AS channel, 4294967297 AS epoch, \
             intDiv(number, 10) + 1 AS offset, concat('order.', toString(number % 7)) AS type, \
             'shop' AS source, concat('k', toString(number % 1009)) AS key, \
             fromUnixTimestamp64Micro(toInt64(received_us - if(number % 1000 = 0, 60000000, 0)), 'UTC') AS ts, \
             fromUnixTimestamp64Micro(received_us, 'UTC') AS received, '' AS content_type, \
             'json' AS kind, 'normal' AS class, '' AS traceparent, '' AS attributes, false AS late, \
             concat('{{\"order\":', toString(number), ',\"sku\":\"sku-', toString(number % 997), \
             '\",\"amount\":', toString(number % 5000 / 100), ',\"currency\":\"EUR\",\"customer\":\"', \
             lower(hex(sipHash64(number % 300000))), '\",\"note\":\"', repeat('x', 70), '\"}}') AS payload \
             FROM (SELECT number, toInt64({BEGAN_US} + intDiv(number * {HOUR_US}, {rows})) AS received_us \
             FROM numbers({first}, 1000000))",
            EVENTS.path(config)
        );
        store.execute(&sql).await?;
    }
    println!("{millions} million rows in {:?}", began.elapsed());
    Ok(())
}

fn once(pool: &QueryPool, query: Query) -> Result<Answer> {
    let (sender, receiver) = sync_channel(1);
    let reply = Box::new(move |answer| {
        let _ = sender.send(answer);
    });
    pool.submit(query, reply)?;
    Ok(receiver.recv()??)
}

fn ask(pool: &QueryPool, name: &str, query: &dyn Fn() -> Query) -> Result<()> {
    let mut times = Vec::new();
    let mut found = String::new();
    for _ in 0..ROUNDS {
        let began = Instant::now();
        found = match once(pool, query())? {
            Answer::History(block) => format!("{} events in the first block", block.events.len()),
            Answer::Counts(counts) => format!("{} events", counts.total),
            Answer::Top(top) => format!("{} events, exact: {}", top.total, top.exact),
            Answer::More(_) => bail!("it never says so"),
        };
        times.push(began.elapsed());
    }
    times.sort_unstable();
    println!("{name}: median {:.1?}, worst {:.1?}; {found}", times[ROUNDS / 2], times[ROUNDS - 1]);
    Ok(())
}

/// A whole read, block by block.
fn whole(pool: &QueryPool, read: HistoryRead) -> Result<()> {
    let (began, mut events, mut blocks) = (Instant::now(), 0, 0);
    let mut next = Some(read);
    while let Some(read) = next.take() {
        let Answer::History(block) = once(pool, Query::History(read))? else {
            bail!("another answer")
        };
        events += block.events.len();
        blocks += 1;
        next = block.next;
    }
    println!(
        "history, a channel's first {events} events: {:.1?} in {blocks} blocks",
        began.elapsed()
    );
    Ok(())
}
