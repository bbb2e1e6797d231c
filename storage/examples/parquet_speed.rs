//! What an event costs on the way into a Parquet file: `cargo run --release -p storage --example
//! parquet_speed [events] [file to write]`.
//!
//! Events of about 300 bytes with a JSON payload of about 200 bytes of varying content, over 1,000
//! channels, in the order in which a spool would hold them. Prints nanoseconds of CPU per event
//! and bytes per event, for writing and for reading back.

use proto::event::{DataKind, Draft, Event};
use proto::position::{Epoch, Position};
use std::time::Duration;
use storage::parquet::encode::{encode, tally};
use storage::parquet::layout::Range;

const CHANNELS: u64 = 1_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let count: u64 = arguments.next().map_or(Ok(400_000), |text| text.parse())?;
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let events: Vec<Event> = (0..count).map(|seq| event(seq, &mut random)).collect();
    let image_bytes: usize = events.iter().map(Event::size).sum();
    let payload_bytes: usize = events.iter().map(|event| event.data().len()).sum();
    println!(
        "{count} events, images of {} B, payloads of {} B",
        image_bytes as u64 / count,
        payload_bytes as u64 / count
    );
    let range = Range { node: "node-1".into(), first_seq: 1, end_seq: 1 + count };
    let began = cpu_time();
    let file = encode(&range, &events)?;
    let encoded = cpu_time();
    let (bytes, cpu) = (file.len() as u64, encoded - began);
    println!(
        "  write: {} ns of CPU per event ({:.0} events per CPU second), {:.1} B per event",
        cpu.as_nanos() as u64 / count,
        count as f64 / cpu.as_secs_f64(),
        bytes as f64 / count as f64
    );
    if let Some(path) = arguments.next() {
        std::fs::write(path, &file)?;
    }
    let began = cpu_time();
    let (_, hours) = tally(file.into())?;
    let rows: u64 = hours.values().map(|tally| tally.rows).sum();
    println!("  read and checksum: {} ns per event", (cpu_time() - began).as_nanos() as u64 / rows);
    Ok(())
}

/// An order of a shop, as services send them.
fn event(seq: u64, random: &mut Random) -> Event {
    let number = random.next();
    let channel = format!("orders:shop-{:04}", random.next() % CHANNELS);
    let id = format!("{:016x}{:08x}", random.next(), seq as u32);
    let state = ["placed", "paid", "packed", "sent", "returned"][(number % 5) as usize];
    let data = format!(
        r#"{{"order":"{:012x}","customer":{},"state":"{state}","total":{}.{:02},"currency":"EUR","items":[{{"sku":"A{:06}","count":{}}},{{"sku":"B{:06}","count":{}}}],"note":"{:016x}","at":{}}}"#,
        number >> 16,
        number % 1_000_000,
        random.next() % 900,
        number % 100,
        random.next() % 1_000_000,
        number % 7,
        random.next() % 1_000_000,
        number % 3,
        random.next(),
        1_790_000_000_000 + seq,
    );
    let accepted_us = 1_790_000_000_000_000 + seq as i64 * 20;
    let draft = Draft {
        channel: &channel,
        id: &id,
        kind: "order.changed",
        source: "/shop/backend",
        time_us: Some(accepted_us - (number % 50_000) as i64),
        data_kind: DataKind::Json,
        data: data.as_bytes(),
        ..Draft::default()
    };
    let position = Position { epoch: Epoch::new(7, 1), offset: 1 + seq / CHANNELS };
    draft.build().expect("the draft is valid").place(position, accepted_us)
}

fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
