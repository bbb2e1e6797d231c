//! `shardcast storage verify`: do the stores hold the same events?
//!
//! Per hour of `received`, the number of events and a checksum over every column of every event.
//! The spool is compared as far back as it reaches, and each store as far as its cursor says it
//! has come: what is on its way is not missing.

use super::{ClickHouse, Failed, broken, cursor, exit, grouped, range, spool};
use crate::cli::args::VerifyArgs;
use crate::config::Config;
use serde_json::{Value, json};
use std::ops::ControlFlow;
use storage::files::read_small;
use storage::meta::{META_BYTES_MAX, META_NAME, decode_meta};
use storage::parquet::layout::Hour;
use storage::parquet::schema::{Row, Tally};
use storage::verify::{self, Tallies};
use storage::{RealFiles, clickhouse, inspect, parquet};

/// Shards hand over their events a little out of order, so the last moments before a cursor are
/// left out.
const SLACK_US: i64 = 5_000_000;

/// Two stores over a span of time.
struct Comparison {
    stores: [&'static str; 2],
    window: (i64, i64),
    tallies: [Tallies; 2],
}

pub(super) fn run(args: &VerifyArgs, config: &Config) -> Result<u8, Failed> {
    let day_ago = range::now_us() - 86_400_000_000;
    let (from, to) = (args.range.from.as_deref(), args.range.to.as_deref());
    let window = range::parse(from, to, day_ago)?;
    let files = spool(config)?;
    let mut comparisons = Vec::new();
    let mut broken_side = None;
    if let Some(click_house) = ClickHouse::open(config)? {
        let window = clip(&files, window, clickhouse::NAME)?;
        let spool = tally_spool(&files, window)?;
        let (store, settings) = (&click_house.store, &click_house.config);
        let lineages = lineages(&files)?;
        let rows = verify::click_house(store, settings, window, &lineages);
        let rows = click_house.wait(rows)?;
        comparisons.push(Comparison {
            stores: ["spool", "clickhouse"],
            window,
            tallies: [spool, rows],
        });
    }
    if config.storage.parquet.is_on() {
        match with_parquet(&files, config, window) {
            Ok(comparison) => comparisons.push(comparison),
            Err((code, message)) => broken_side = Some((code, format!("parquet: {message}"))),
        }
    }
    if comparisons.is_empty() && broken_side.is_none() {
        let message = "there is nothing to compare: no store beside the spool is configured";
        return Err((exit::CONFIG, message.to_owned()));
    }
    let differ = comparisons.iter().map(|c| differences(c).len()).sum::<usize>();
    if args.json {
        println!("{:#}", comparisons.iter().map(as_json).collect::<Value>());
    } else {
        comparisons.iter().for_each(print);
        println!("{}", verdict(&comparisons, differ));
    }
    match broken_side {
        Some(broken) => Err(broken),
        None if differ > 0 => Ok(exit::SOME_REFUSED),
        None => Ok(exit::OK),
    }
}

/// The files are read here, as whoever opens the folder would.
fn with_parquet(
    files: &RealFiles,
    config: &Config,
    window: (i64, i64),
) -> Result<Comparison, Failed> {
    let window = clip(files, window, parquet::NAME)?;
    let spool = tally_spool(files, window)?;
    let settings = config.storage.parquet.sink_config().map_err(|e| (exit::CONFIG, e))?;
    let store = parquet::client::Store::open(&settings);
    let store = store.map_err(|failure| (exit::CONFIG, failure.to_string()))?;
    let runtime = parquet::client::runtime().map_err(|e| (exit::INTERNAL, e.to_string()))?;
    let node = cursor(files, parquet::NAME)?.map_or(0, |cursor| cursor.id);
    let node = format!("{node:016x}");
    let mut read = 0_u64;
    let mut each = |_: &str| {
        read += 1;
        eprint!("\r{} files read", grouped(read));
    };
    let rows = verify::parquet(&store, &node, window, &mut each);
    let rows = runtime.block_on(rows).map_err(|error| (exit::UNAVAILABLE, error))?;
    eprintln!();
    Ok(Comparison { stores: ["spool", "parquet"], window, tallies: [spool, rows] })
}

/// The runs that wrote the spool.
fn lineages(files: &RealFiles) -> Result<Vec<u32>, Failed> {
    let meta = read_small(files, META_NAME, META_BYTES_MAX);
    let lineages = meta.ok().and_then(|bytes| decode_meta(&bytes).ok());
    lineages.ok_or_else(|| {
        let message = "META in the data directory cannot be read: it names the runs that wrote it";
        (exit::CONFIG, message.to_owned())
    })
}

/// From where the spool begins to where the sink has come.
fn clip(files: &RealFiles, (from, to): (i64, i64), sink: &str) -> Result<(i64, i64), Failed> {
    let at = |seq| inspect::event_from(files, seq).map_err(|error| broken(&error));
    let from = match at(0)? {
        // Retention has removed what was before: some of that was received a little later.
        Some((seq, event)) if seq > 1 => from.max(event.accepted_us() + SLACK_US),
        _ => from,
    };
    let confirmed = cursor(files, sink)?.map_or(0, |cursor| cursor.confirmed);
    let to = at(confirmed)?.map_or(to, |(_, waits)| to.min(waits.accepted_us() - SLACK_US));
    Ok((from, to.max(from)))
}

fn tally_spool(files: &RealFiles, window: (i64, i64)) -> Result<Tallies, Failed> {
    let mut tallies = Tallies::new();
    inspect::events(files, window, &mut |_, event| {
        tallies.entry(Hour::of(event.accepted_us())).or_default().add(&Row::of(&event));
        ControlFlow::Continue(())
    })
    .map_err(|error| broken(&error))?;
    Ok(tallies)
}

/// What came of it, and what helps.
fn verdict(comparisons: &[Comparison], differ: usize) -> String {
    if differ == 0 {
        return "no differences (dead letters count as there)".to_owned();
    }
    let mut text = format!("{differ} hours differ.");
    for comparison in comparisons {
        let other = comparison.stores[1];
        for (_, one, two) in differences(comparison) {
            let help = match (other, one.rows > two.rows) {
                (clickhouse::NAME, true) => {
                    "`shardcast storage replay --from` sends what is missing"
                }
                (_, true) => {
                    "what files lack is in the spool (`shardcast storage export`); removing \
                     parquet.cursor while the server is stopped writes the whole spool again, under \
                     other names"
                }
                (_, false) => {
                    "what is there twice or changed is left to you: (channel, epoch, offset) names \
                     an event"
                }
            };
            if !text.contains(help) {
                text += &format!("\n{other}: {help}");
            }
        }
    }
    text
}

fn differences(comparison: &Comparison) -> Vec<(Hour, Tally, Tally)> {
    verify::differences(&comparison.tallies[0], &comparison.tallies[1])
}

fn print(comparison: &Comparison) {
    let ([one, other], (from, to)) = (comparison.stores, comparison.window);
    println!("{one} and {other}, received from {} to {}", range::shown(from), range::shown(to));
    println!("  {:<14} {:>14} {:>14}", "hour", one, other);
    let wrong = differences(comparison);
    let hours = comparison.tallies[0].keys().chain(comparison.tallies[1].keys());
    let hours: std::collections::BTreeSet<Hour> = hours.copied().collect();
    for hour in hours {
        let rows = |store: usize| {
            comparison.tallies[store].get(&hour).map_or(0, |tally: &Tally| tally.rows)
        };
        let verdict = match wrong.iter().find(|(at, ..)| *at == hour) {
            None => "equal",
            Some((_, one, other)) if one.rows == other.rows => "DIFFERENT CONTENT",
            Some((_, one, other)) if one.rows > other.rows => "MISSING",
            Some(_) => "TOO MANY",
        };
        let shown = range::shown(hour.begin_us());
        let hour = shown.get(..13).unwrap_or(&shown);
        println!("  {hour:<14} {:>14} {:>14}  {verdict}", grouped(rows(0)), grouped(rows(1)));
    }
}

fn as_json(comparison: &Comparison) -> Value {
    let ([one, other], (from, to)) = (comparison.stores, comparison.window);
    let rows = |tallies: &Tallies| tallies.values().map(|tally| tally.rows).sum::<u64>();
    let tally =
        |tally: Tally| json!({ "rows": tally.rows, "checksum": tally.checksum.to_string() });
    let wrong = differences(comparison).into_iter().map(|(hour, a, b)| {
        json!({ "hour": range::shown(hour.begin_us()), one: tally(a), other: tally(b) })
    });
    json!({
        "stores": comparison.stores,
        "from": range::shown(from),
        "to": range::shown(to),
        "rows": [rows(&comparison.tallies[0]), rows(&comparison.tallies[1])],
        "differences": wrong.collect::<Vec<_>>(),
    })
}
