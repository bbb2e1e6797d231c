//! What a publish costs at its home shard, and how well the ledger matches the process.
//!
//! `cargo run --release -p server --example home_cost` prints nanoseconds per publish of 300-byte
//! events with ids (building the event apart), on hot and on many channels, with the windows full,
//! and the ledger beside the growth of the resident set.

use proto::event::{Draft, Unplaced};
use server::config::limits::Limits;
use server::config::namespace::Namespace;
use server::shard::home::{Home, HomeConfig, Moment, Orderer, PageLimit, Since};
use server::shard::wheel::Wheel;

/// Events built, then published: as many as come in one request.
const BATCH: usize = 1_000;

fn main() {
    for (name, channels, batches) in [
        ("1 channel", 1, 2_000),
        ("100 channels", 100, 2_000),
        ("100,000 channels", 100_000, 2_000),
    ] {
        publishes(name, channels, batches);
    }
    timers();
}

fn publishes(name: &str, channels: usize, batches: usize) {
    let before = resident_bytes();
    let mut home = Home::new(HomeConfig {
        channels_max: 1_000_000,
        history_bytes_max: 256 << 20,
        dedupe_bytes_max: 128 << 20,
        dedupe_ids_max: 100_000,
        dedupe_age_ms: 600_000,
        idle_forget_ms: 600_000,
        ..HomeConfig::fresh(&Limits::default(), 0x5eed)
    });
    home.finish_restore();
    let namespace = Namespace::default();
    let names: Vec<String> = (0..channels).map(|n| format!("orders:{n}")).collect();
    let data = "x".repeat(160);
    let (mut build_ns, mut publish_ns) = (0, 0);
    let mut serial = 0_u64;
    let mut state = 1_u64;
    for batch in 0..batches {
        let start = Cpu::now();
        let events: Vec<Unplaced> = (0..BATCH)
            .map(|_| {
                serial += 1;
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let channel = &names[(state >> 33) as usize % channels];
                let id = format!("01890a5d-ac96-774b-bcce-{serial:012x}");
                let draft = Draft { channel, id: &id, source: "shop/eu", ..Draft::default() };
                Draft { kind: "order", data: data.as_bytes(), ..draft }.build().expect("legal")
            })
            .collect();
        build_ns += start.elapsed();
        let at = Moment { now_ms: batch as u64, wall_us: batch as i64 * 1_000 };
        let start = Cpu::now();
        for event in events {
            drop(home.publish(at, event, &namespace, serial));
        }
        publish_ns += start.elapsed();
    }
    let count = (BATCH * batches) as u64;
    let memory = home.memory();
    let ledger = memory.history_bytes + memory.dedupe_bytes + memory.channels_bytes;
    let grown = resident_bytes() - before;
    println!(
        "{name}: publish {} ns; build {} ns; {memory:?}; ledger {} KiB, resident grew {} KiB",
        publish_ns / count,
        build_ns / count,
        ledger >> 10,
        grown >> 10,
    );
    let index = home.find(&names[0]).expect("published to");
    let start = Cpu::now();
    let limit = PageLimit { events_max: 100, bytes_max: 1 << 20 };
    for _ in 0..10_000 {
        std::hint::black_box(home.resume(index, Since::Beginning, limit));
    }
    println!("  resume of up to 100 events: {} ns", start.elapsed() / 10_000);
}

fn timers() {
    const TIMERS: u32 = 100_000;
    let mut wheel = Wheel::new(0);
    let mut due = Vec::new();
    let start = Cpu::now();
    for key in 0..TIMERS {
        wheel.schedule(key, u64::from(key % 25_000));
    }
    let scheduled = start.elapsed() / u64::from(TIMERS);
    let start = Cpu::now();
    let mut fired = 0;
    for now_ms in (0..250_000).step_by(10) {
        due.clear();
        wheel.advance(now_ms, &mut due);
        fired += due.len();
        due.iter().for_each(|key| wheel.schedule(*key, now_ms + 25_000));
    }
    println!(
        "wheel: schedule {scheduled} ns, advance and schedule again {} ns, {} bytes",
        start.elapsed() / fired as u64,
        wheel.memory()
    );
}

/// CPU time of this thread, so that a busy machine does not show in the figures.
struct Cpu(u64);

impl Cpu {
    fn now() -> Self {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Self(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
    }

    fn elapsed(&self) -> u64 {
        Self::now().0 - self.0
    }
}

/// The resident set, from /proc.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4_096
}
