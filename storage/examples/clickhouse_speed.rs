//! What the way into ClickHouse costs us: `clickhouse_speed URL DIRECTORY [events] [a second]`.
//!
//! Events go through the ring, the spool and the sink, as fast as they are taken or at a rate. CPU
//! is that of the storage threads; the server's is not ours to count.

use anyhow::Result;
use proto::event::{DataKind, Draft, Event};
use proto::position::{Epoch, Position};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use storage::clickhouse::{ClickHouseConfig, ClickHouseSink, NAME};
use storage::sink::{Progress, Source, cursor::Cursor};
use storage::{Options, Pump, RealFiles, StorageHandle, StorageRing, StoreBatch, open};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or_else(|| "http://127.0.0.1:8123".into());
    let directory = arguments.next().unwrap_or_else(|| "/tmp/clickhouse_speed".into());
    let count: u64 = arguments.next().map_or(Ok(2_000_000), |text| text.parse())?;
    let rate: u64 = arguments.next().map_or(Ok(0), |text| text.parse())?;
    let files = RealFiles::open(&directory)?;
    let mut opened = open(files.clone(), Options::default(), now_us(), &mut |n| println!("{n}"))?;
    let lineage = opened.recovered.current_lineage;
    let ring = Arc::new(StorageRing::new(1, 256, 64 << 20));
    let feed = opened.spool.feed(64 << 20);
    let source = Source::new(feed, opened.spool.reader()).waking(ring.clone());
    let config = ClickHouseConfig { urls: vec![url], ..ClickHouseConfig::default() };
    let cursor = Cursor::load(&files, NAME)?;
    let notices = Box::new(|sink: &'static str, notice| println!("{sink}: {notice}"));
    let mut sink =
        ClickHouseSink::new(config, files, source, cursor, notices).map_err(anyhow::Error::msg)?;
    sink.check(Duration::from_secs(5))?;
    let progress = sink.progress();
    let base = opened.spool.end_seq();
    let mut pump = Pump::new(opened.spool, ring.clone(), Arc::new(|_| ()), Box::new(|_| {}));
    pump.add_sink(progress.clone());
    pump.set_primary(progress.clone());
    let writer = StorageHandle::start(pump)?;
    let running = sink.start()?;
    let began = Instant::now();
    let watched = progress.clone();
    std::thread::spawn(move || watch(began, base, &watched));
    let mut lags = Vec::new();
    for seq in 1..=count / 1_000 {
        let events = (0..1_000).map(|i| event(lineage, (seq - 1) * 1_000 + i)).collect();
        let mut batch = StoreBatch { seq, events };
        while let Err(back) = ring.push(0, batch) {
            batch = back;
            std::thread::sleep(Duration::from_micros(200));
        }
        if let Some(due_us) = (seq * 1_000_000_000).checked_div(rate) {
            let due = began + Duration::from_micros(due_us);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if let Some(oldest) = progress.stats().oldest_waiting_us {
                lags.push((now_us() - oldest) / 1_000);
            }
        }
    }
    while progress.confirmed() < base + count {
        std::thread::sleep(Duration::from_millis(1));
    }
    let took = began.elapsed();
    println!(
        "{count} events confirmed in {took:?}, {:.0} a second",
        count as f64 / took.as_secs_f64()
    );
    println!("spool: {} ns of CPU an event", cpu_time("storage").as_nanos() as u64 / count);
    println!("sink: {} ns of CPU an event", cpu_time(NAME).as_nanos() as u64 / count);
    lags.sort_unstable();
    if let (Some(p50), Some(p99)) = (lags.get(lags.len() / 2), lags.get(lags.len() * 99 / 100)) {
        println!("oldest waiting: p50 {p50} ms, p99 {p99} ms, worst {} ms", lags[lags.len() - 1]);
    }
    println!("{:#?}", progress.stats());
    running.stop(Duration::from_secs(5));
    running.join();
    println!("{:?}", writer.stop());
    Ok(())
}

/// A line every ten seconds: how many are confirmed, how old the oldest that waits is, and memory.
fn watch(began: Instant, base: u64, progress: &Progress) {
    loop {
        std::thread::sleep(Duration::from_secs(10));
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let rss = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
        let waits = progress.stats().oldest_waiting_us.map_or(0, |at| (now_us() - at) / 1_000);
        let (at, done) = (began.elapsed().as_secs(), progress.confirmed() - base);
        println!("{at:>5} s: {done:>10} confirmed, oldest waits {waits:>7} ms, {rss}");
    }
}

fn event(lineage: u32, number: u64) -> Event {
    let id = format!("{number:032}");
    let data = format!(
        r#"{{"order":{number},"sku":"sku-{}","amount":{}.{:02},"currency":"EUR","customer":"{:016x}","note":"{}"}}"#,
        number % 997,
        number % 1_000,
        number % 100,
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        "x".repeat(70)
    );
    let draft = Draft {
        channel: &format!("orders:{}", number / 10 % 1_000),
        id: &id,
        kind: "order.placed",
        data_kind: DataKind::Json,
        data: data.as_bytes(),
        ..Draft::default()
    };
    let position = Position { epoch: Epoch::new(lineage, 1), offset: number + 1 };
    match draft.build() {
        Ok(unplaced) => unplaced.place(position, now_us()),
        Err(e) => unreachable!("{e}"),
    }
}

fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_micros() as i64
}

/// CPU time, user and system, of the thread with this name.
fn cpu_time(name: &str) -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let named = tasks
        .map(|task| task.path())
        .find(|path| std::fs::read_to_string(path.join("comm")).unwrap_or_default().trim() == name);
    let text = named.and_then(|path| std::fs::read_to_string(path.join("schedstat")).ok());
    let ns = text.and_then(|text| text.split(' ').next()?.parse().ok()).unwrap_or(0);
    Duration::from_nanos(ns)
}
