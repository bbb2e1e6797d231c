//! What an event costs on the way to the disk, outside the kernel: `cargo run --release -p storage
//! --example append [events] [batch] [directory]`.
//!
//! Events of 300 bytes in batches (of 1,000) over 100 channels go through a spool on a file seam
//! whose files are nowhere (the cost of our code alone) and then, if a directory is named, through
//! the real thread to a real disk. Prints nanoseconds of CPU per event.

use proto::channel::ChannelName;
use proto::event::{DataKind, Draft, Event};
use proto::position::{Epoch, Position};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};
use storage::files::{FileIo, Files};
use storage::{
    Bound, HistoryRead, Options, Pump, RealFiles, StorageHandle, StorageRing, StoreBatch, open,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let count: u64 = arguments.next().map_or(Ok(1_000_000), |text| text.parse())?;
    let size: u64 = arguments.next().map_or(Ok(1_000), |text| text.parse())?;
    let batches = |lineage| -> Vec<Vec<Event>> {
        let batch = |b| (0..size).map(|i| event(lineage, b * size + i)).collect();
        (0..count / size).map(batch).collect()
    };
    let mut opened = open(Nowhere, Options::default(), 0, &mut |_| {})?;
    let prepared = batches(opened.recovered.current_lineage);
    let image = prepared[0][0].size();
    let (began, cpu) = (Instant::now(), cpu_time(None));
    let mut acked = Vec::new();
    for (events, seq) in prepared.into_iter().zip(1..) {
        opened.spool.append(0, StoreBatch { seq, events });
        opened.spool.sync(0, &mut acked);
        opened.spool.maintain(0);
    }
    let ns = |time: Duration| time.as_nanos() as u64 / count;
    println!("spool alone, {image}-byte images, batches of {size}:");
    println!(
        "  {} ns of CPU per event, {} ns elapsed",
        ns(cpu_time(None) - cpu),
        ns(began.elapsed())
    );

    let Some(directory) = arguments.next() else { return Ok(()) };
    let opened = open(RealFiles::open(&directory)?, Options::default(), 0, &mut |_| {})?;
    let prepared = batches(opened.recovered.current_lineage);
    let ring = Arc::new(StorageRing::new(1, 64, 64 << 20));
    let began = Instant::now();
    let notices = Box::new(|notice| println!("  {notice}"));
    let handle =
        StorageHandle::start(Pump::new(opened.spool, ring.clone(), Arc::new(|_| ()), notices))?;
    for (events, seq) in prepared.into_iter().zip(1..) {
        let mut batch = StoreBatch { seq, events };
        while let Err(back) = ring.push(0, batch) {
            batch = back;
            std::thread::sleep(Duration::from_micros(100));
        }
    }
    while ring.unsynced_bytes() > 0 {
        std::thread::sleep(Duration::from_micros(100));
    }
    let (elapsed, cpu) = (began.elapsed(), cpu_time(Some("storage")));
    let stats = handle.stats();
    println!("thread and disk, {} rounds, longest {} us:", stats.spool.rounds, stats.round_us_max);
    println!("  {} ns of CPU per event (kernel included), {} ns elapsed", ns(cpu), ns(elapsed));
    println!("  {} us of CPU per round", cpu.as_micros() as u64 / stats.spool.rounds.max(1));
    println!("  {:?}", handle.stop());
    let began = Instant::now();
    let opened = open(RealFiles::open(directory)?, Options::default(), 0, &mut |_| {})?;
    println!("opened in {} us", began.elapsed().as_micros());
    let began = Instant::now();
    let replayed = opened.spool.replay_tail(1 << 30, &mut |_| {})?;
    println!("replay: {} ns per event", began.elapsed().as_nanos() as u64 / replayed);
    let (began, channel) = (Instant::now(), ChannelName::new("orders:7")?);
    let mut found = 0;
    let read = HistoryRead::new(channel, None, Bound::Open, Bound::Open, u32::MAX);
    opened.spool.reader().history(read, &mut |events| {
        found += events.len();
        ControlFlow::Continue(())
    })?;
    let took = began.elapsed();
    println!("one channel's {found} events of {replayed}: {} us", took.as_micros());
    Ok(())
}

fn event(lineage: u32, number: u64) -> Event {
    let id = format!("{number:032}");
    let draft = Draft {
        channel: &format!("orders:{}", number / 10 % 100),
        id: &id,
        kind: "order.placed",
        data_kind: DataKind::Json,
        data: &[b'7'; 190],
        ..Draft::default()
    };
    let position = Position { epoch: Epoch::new(lineage, 1), offset: number + 1 };
    match draft.build() {
        Ok(unplaced) => unplaced.place(position, number as i64),
        Err(e) => unreachable!("{e}"),
    }
}

/// CPU time, user and system, of this thread or of the one named.
fn cpu_time(thread: Option<&str>) -> Duration {
    let own = format!("/proc/self/task/{}", rustix::thread::gettid().as_raw_nonzero());
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let named = tasks.map(|task| task.path()).find(|path| {
        let name = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
        thread.is_some_and(|thread| name.trim() == thread)
    });
    let path = named.unwrap_or(own.into());
    let text = std::fs::read_to_string(path.join("schedstat")).unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0))
}

/// Files that take everything and keep nothing.
#[derive(Debug, Clone)]
struct Nowhere;

impl Files for Nowhere {
    type File = Self;
    type Lock = ();

    fn create(&self, _: &str, _: u64) -> std::io::Result<Self> {
        Ok(Self)
    }
    fn open(&self, _: &str) -> std::io::Result<Self> {
        Err(std::io::ErrorKind::NotFound.into())
    }
    fn list(&self) -> std::io::Result<Vec<(String, u64)>> {
        Ok(Vec::new())
    }
    fn remove(&self, _: &str) -> std::io::Result<()> {
        Ok(())
    }
    fn rename(&self, _: &str, _: &str) -> std::io::Result<()> {
        Ok(())
    }
    fn sync_dir(&self) -> std::io::Result<()> {
        Ok(())
    }
    fn lock(&self, _: &str) -> std::io::Result<()> {
        Ok(())
    }
    fn free_bytes(&self) -> std::io::Result<u64> {
        Ok(u64::MAX)
    }
    fn describe(&self) -> String {
        "nowhere".into()
    }
    fn random(&self) -> u64 {
        7
    }
}

impl FileIo for Nowhere {
    fn write_at(&self, bytes: &[u8], _: u64) -> std::io::Result<usize> {
        Ok(bytes.len())
    }
    fn read_at(&self, _: &mut [u8], _: u64) -> std::io::Result<usize> {
        Ok(0)
    }
    fn sync_data(&self) -> std::io::Result<()> {
        Ok(())
    }
    fn set_len(&self, _: u64) -> std::io::Result<()> {
        Ok(())
    }
    fn forget(&self, _: std::ops::Range<u64>) {}
    fn len(&self) -> std::io::Result<u64> {
        Ok(0)
    }
}
