//! Writes the golden data directory of the current format: `cargo run -p storage --example golden
//! -- storage/tests/golden/v1`. Run it once per format version; the files are then kept for ever
//! and only read.

use proto::event::{Class, DataKind, Draft, Event};
use proto::position::{Epoch, Position};
use std::fmt::Write;
use storage::{Options, RealFiles, StoreBatch, open};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("name the directory to write")?;
    let files = RealFiles::open(&path)?;
    let options = Options { segment_bytes: 4_096, round_bytes_max: 1_500, ..Options::default() };
    let mut listing = String::new();
    let mut offset = 0;
    // A clean stop, a kill, a clean stop: two lineages, several segments, indexes, a checkpoint.
    for clean in [true, false, true] {
        let mut opened = open(files.clone(), options, 1_700_000_000_000_000, &mut |_| {})?;
        let lineage = opened.recovered.current_lineage;
        for seq in 1..=4 {
            let events: Vec<Event> = (0..8)
                .map(|i| {
                    offset += 1;
                    event(lineage, offset, i)
                })
                .collect();
            for event in &events {
                writeln!(listing, "{}", line(event))?;
            }
            opened.spool.append(0, StoreBatch { seq, events });
        }
        while opened.spool.has_work() {
            opened.spool.sync(1_700_000_000_000_000, &mut Vec::new());
            opened.spool.maintain(1_700_000_000_000_000);
        }
        if clean {
            opened.spool.close(3)?;
        }
    }
    std::fs::write(format!("{path}/expected.txt"), listing)?;
    std::fs::remove_file(format!("{path}/LOCK"))?;
    Ok(())
}

fn event(lineage: u32, offset: u64, i: u64) -> Event {
    let kinds = [DataKind::Json, DataKind::Text, DataKind::Binary];
    let kind = kinds[(offset % 3) as usize];
    let data: Vec<u8> = match kind {
        DataKind::Json => format!("{{\"n\":{offset}}}").into_bytes(),
        DataKind::Text => "grün ".repeat(i as usize * 3).into_bytes(),
        DataKind::Binary => (0..offset as u8).collect(),
    };
    let id = format!("id-{offset}");
    let draft = Draft {
        channel: if i < 6 { "orders:eu" } else { "a" },
        id: &id,
        id_generated: i == 3,
        kind: "order.placed",
        source: "shop",
        key: "k",
        content_type: if kind == DataKind::Text { "text/plain" } else { "" },
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        attributes: r#"{"region":"eu"}"#,
        time_us: i.is_multiple_of(2).then_some(1_600_000_000_000_000 + offset as i64),
        of_client: false,
        class: Class::Critical,
        data_kind: kind,
        data: &data,
    };
    let position = Position { epoch: Epoch::new(lineage, 1 + u32::from(i >= 6)), offset };
    match draft.build() {
        Ok(unplaced) => unplaced.place(position, 1_700_000_000_000_000 + offset as i64),
        Err(e) => unreachable!("{e}"),
    }
}

/// Everything an event says, in one line.
fn line(event: &Event) -> String {
    format!(
        "{} {} {} {} {} {} {} {:?} {} {} {} {:?} {:?} {} {}",
        event.channel(),
        event.position(),
        event.id(),
        event.id_generated(),
        event.kind(),
        event.source(),
        event.key(),
        event.content_type(),
        event.traceparent(),
        event.attributes(),
        event.class().as_str(),
        event.data_kind(),
        String::from_utf8_lossy(event.data()),
        event.time_us(),
        event.accepted_us(),
    )
}
