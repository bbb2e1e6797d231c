//! What queries cost: `cargo run --release -p storage --example query_speed [events] [channels]`.
//!
//! Stores events of 300 bytes (2 million; a thousand a second of event time, over 10 channels) in a
//! temporary directory and times what the guides promise: the last five minutes of a channel, its
//! counts per minute, the top values of a field; then the same over everything. Each is run five
//! times and the median is printed, elapsed and CPU, on one thread and with a warm page cache.

use proto::channel::ChannelName;
use proto::event::{DataKind, Draft, Event};
use proto::field::Field;
use proto::position::{Epoch, Position};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};
use storage::{
    Aggregate, Answer, Bound, CountsQuery, HistoryRead, Options, Reader, RealFiles, StoreBatch,
    TopQuery, open,
};

const EVENTS_PER_S: u64 = 1_000;
const BATCH: u64 = 1_000;
const ROUNDS: usize = 5;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let count: u64 = arguments.next().map_or(Ok(2_000_000), |text| text.parse())?;
    let channels: u64 = arguments.next().map_or(Ok(10), |text| text.parse())?;
    let directory = tempfile::tempdir()?;
    let mut opened = open(RealFiles::open(directory.path())?, Options::default(), 0, &mut |_| {})?;
    let (lineage, mut acked, mut bytes) = (opened.recovered.current_lineage, Vec::new(), 0);
    let (began, cpu) = (Instant::now(), cpu_time());
    for seq in 0..count / BATCH {
        let number = |i| event(lineage, seq * BATCH + i, channels);
        let events: Vec<Event> = (0..BATCH).map(number).collect::<Result<_, _>>()?;
        bytes += events.iter().map(Event::size).sum::<usize>();
        opened.spool.append(0, StoreBatch { seq: seq + 1, events });
        opened.spool.sync(0, &mut acked);
        opened.spool.maintain(0);
    }
    println!(
        "stored {count} events of {} bytes over {channels} channels in {:.1} s ({:.1} s of CPU)",
        bytes as u64 / count,
        began.elapsed().as_secs_f64(),
        (cpu_time() - cpu).as_secs_f64()
    );
    let reader = opened.spool.reader();
    let channel = ChannelName::new("orders:0")?;
    let to_us = time_us(count);
    for (span, from_us) in [("last 5 minutes", to_us - 300_000_000), ("everything", 0)] {
        println!("{span}:");
        time("history", || history(&reader, &channel, from_us, to_us))?;
        let channel = channel.clone();
        let counts =
            CountsQuery { channel: channel.clone(), from_us, to_us, bucket_s: 60, kind: None };
        time("counts per minute", || aggregate(&reader, Aggregate::Counts(counts.clone())))?;
        for field in ["type", "data.item.sku", "id"] {
            let (channel, field) = (channel.clone(), Field::parse(field)?);
            let name = format!("top of {}", field.as_str());
            let top = TopQuery { channel, field, from_us, to_us, limit: 10 };
            time(&name, || aggregate(&reader, Aggregate::Top(top.clone())))?;
        }
    }
    Ok(())
}

/// Runs it a few times; prints the medians and the events it was about.
fn time(name: &str, mut run: impl FnMut() -> Result<u64, Failure>) -> Result<(), Failure> {
    let (mut elapsed, mut used, mut events) = (Vec::new(), Vec::new(), 0);
    for _ in 0..ROUNDS {
        let (began, cpu) = (Instant::now(), cpu_time());
        events = run()?;
        elapsed.push(began.elapsed());
        used.push(cpu_time() - cpu);
    }
    elapsed.sort_unstable();
    used.sort_unstable();
    let ms = |times: &[Duration]| times[ROUNDS / 2].as_secs_f64() * 1_000.0;
    println!("  {name:20} {:8.1} ms, {:8.1} ms of CPU, {events} events", ms(&elapsed), ms(&used));
    Ok(())
}

fn history(
    reader: &Reader<RealFiles>,
    channel: &ChannelName,
    from_us: i64,
    to_us: i64,
) -> Result<u64, Failure> {
    let (from, to) = (Bound::TimeUs(from_us), Bound::TimeUs(to_us));
    let read = HistoryRead::new(channel.clone(), None, from, to, u32::MAX);
    let mut found = 0;
    reader.history(read, &mut |events| {
        found += events.len() as u64;
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

fn aggregate(reader: &Reader<RealFiles>, query: Aggregate) -> Result<u64, Failure> {
    match reader.answer_whole(query)? {
        Answer::Counts(counts) => Ok(counts.total),
        Answer::Top(top) => Ok(top.total),
        other => Err(format!("another answer: {other:?}").into()),
    }
}

fn time_us(number: u64) -> i64 {
    (number * 1_000_000 / EVENTS_PER_S) as i64
}

fn event(lineage: u32, number: u64, channels: u64) -> Result<Event, Failure> {
    // A cheap scatter: skewed values that repeat no pattern of the channels.
    let scatter = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let kinds = ["order.placed", "order.paid", "order.shipped", ""];
    let data = format!(
        "{{\"note\":\"{:0>137}\",\"item\":{{\"count\":{},\"sku\":\"sku-{}\"}},\"price\":12.5}}",
        number,
        scatter % 7,
        (scatter % 1_000) * (scatter / 1_000 % 1_000) / 1_000
    );
    let draft = Draft {
        channel: &format!("orders:{}", number / 10 % channels),
        id: &format!("{number:032}"),
        kind: kinds[scatter as usize % kinds.len()],
        data_kind: DataKind::Json,
        data: data.as_bytes(),
        time_us: Some(time_us(number)),
        ..Draft::default()
    };
    let position = Position { epoch: Epoch::new(lineage, 1), offset: number + 1 };
    Ok(draft.build()?.place(position, time_us(number)))
}

/// CPU time of this thread, user and system.
fn cpu_time() -> Duration {
    let path = format!("/proc/self/task/{}/schedstat", rustix::thread::gettid().as_raw_nonzero());
    let text = std::fs::read_to_string(path).unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0))
}
