//! Writes until it is killed and says on stdout what was synced; or checks a directory against
//! what was said: `endure write DIR` prints `lineage offset` lines, `endure check DIR OFFSET`
//! fails unless every event up to OFFSET is there once and in order.

use proto::event::{DataKind, Draft, Event};
use proto::position::{Epoch, Position};
use std::io::Write;
use std::sync::Arc;
use storage::{Options, Pump, RealFiles, StorageHandle, StorageRing, StoreBatch, open};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [mode, directory, rest @ ..] = &arguments[..] else {
        return Err("usage: endure write DIR | endure check DIR OFFSET".into());
    };
    let options = Options { segment_bytes: 1 << 20, ..Options::default() };
    let opened = open(RealFiles::open(directory)?, options, 0, &mut |n| eprintln!("{n}"))?;
    let lineage = opened.recovered.current_lineage;
    let mut offset = opened.recovered.channels.first().map_or(0, |channel| channel.last_offset);
    if mode == "check" {
        let expected: u64 = rest.first().ok_or("which offset?")?.parse()?;
        let mut next = 0;
        opened.spool.replay_tail(u64::MAX, &mut |event| {
            if next > 0 && event.offset() != next {
                eprintln!("offset {} after {}", event.offset(), next - 1);
                std::process::exit(1);
            }
            next = event.offset() + 1;
        })?;
        println!("expected {expected}, found {}", next.max(1) - 1);
        if next <= expected {
            return Err("acknowledged events are lost".into());
        }
        return Ok(());
    }
    let ring = Arc::new(StorageRing::new(1, 64, 16 << 20));
    let main = std::thread::current();
    let notify = Arc::new(move |_| main.unpark());
    let handle = StorageHandle::start(Pump::new(
        opened.spool,
        ring.clone(),
        notify,
        Box::new(|notice| eprintln!("{notice}")),
    ))?;
    let mut tops = std::collections::VecDeque::new();
    let stop_at: u64 = rest.first().map_or(Ok(u64::MAX), |text| text.parse())?;
    let mut said = 0;
    for seq in 1.. {
        let size = 1 + seq * 7 % 60;
        let events: Vec<Event> = (1..=size).map(|i| event(lineage, offset + i)).collect();
        offset += size;
        tops.push_back((seq, offset));
        let mut batch = StoreBatch { seq, events };
        while let Err(back) = ring.push(0, batch) {
            batch = back;
            std::thread::park_timeout(std::time::Duration::from_millis(5));
        }
        let synced = ring.synced_seq(0);
        while tops.front().is_some_and(|(seq, _)| *seq <= synced) {
            said = tops.pop_front().map_or(said, |(_, top)| top);
        }
        writeln!(std::io::stdout(), "{said} {:?}", ring.state())?;
        if offset > stop_at {
            break;
        }
    }
    eprintln!("{:?}", handle.stop());
    Ok(())
}

fn event(lineage: u32, offset: u64) -> Event {
    let id = format!("{offset}");
    let data = vec![b'x'; (offset * 31 % 500) as usize];
    let draft =
        Draft { channel: "a", id: &id, data: &data, data_kind: DataKind::Text, ..Draft::default() };
    let position = Position { epoch: Epoch::new(lineage, 1), offset };
    match draft.build() {
        Ok(unplaced) => unplaced.place(position, 0),
        Err(e) => unreachable!("{e}"),
    }
}
