//! Through the boundary: batches in, acknowledgements, positions and events out; disks that fail.

mod aggregates;
mod damage;
mod faults;
mod golden;
mod reads;
mod real;
mod sinks;
mod spool;

use crate::files::Files;
use crate::ring::{StorageState, StoreBatch};
use crate::spool::{Ack, Options, Retention, Spool};
use crate::{Notice, OpenError, Opened, Recovered, open};
use proto::event::{Draft, Event};
use proto::position::{Epoch, Position};

/// An event whose payload is its identity plus filler.
pub(crate) fn event(channel: &str, lineage: u32, offset: u64, data_bytes: usize) -> Event {
    event_at(channel, Epoch::new(lineage, 1), offset, offset as i64 * 1_000, data_bytes)
}

pub(crate) fn event_at(
    channel: &str,
    epoch: Epoch,
    offset: u64,
    time_us: i64,
    data_bytes: usize,
) -> Event {
    let id = format!("{epoch}-{offset}");
    let data = vec![b'x'; data_bytes];
    let kind = proto::event::DataKind::Text;
    let draft = Draft { channel, id: &id, data: &data, data_kind: kind, ..Draft::default() };
    let draft = Draft { time_us: Some(time_us), ..draft };
    draft.build().unwrap().place(Position { epoch, offset }, time_us)
}

/// Small segments, so that everything rolls.
pub(crate) fn small() -> Options {
    Options {
        segment_bytes: 4_096,
        round_bytes_max: 2_000,
        checkpoint_bytes: 6_000,
        channels_max: 1_000,
        seal_age_s: None,
        retention: Retention { age_s: None, bytes: u64::MAX / 4, hard_bytes_max: u64::MAX / 4 },
    }
}

pub(crate) fn reopen<F: Files>(files: &F, options: Options) -> (Spool<F>, Recovered, Vec<Notice>) {
    let mut notices = Vec::new();
    let opened = open(files.clone(), options, 0, &mut |notice| notices.push(notice));
    let Opened { spool, recovered } = opened.unwrap();
    (spool, recovered, notices)
}

pub(crate) fn refusal<F: Files>(files: &F, options: Options) -> OpenError {
    match open(files.clone(), options, 0, &mut |_| {}) {
        Ok(_) => panic!("opened although it must be refused"),
        Err(e) => e,
    }
}

/// Appends one batch and runs rounds until nothing is left or it halts.
pub(crate) fn store<F: Files>(
    spool: &mut Spool<F>,
    seq: u64,
    events: Vec<Event>,
    now_us: i64,
) -> (Vec<Ack>, StorageState) {
    spool.append(0, StoreBatch { seq, events });
    drain(spool, now_us)
}

pub(crate) fn drain<F: Files>(spool: &mut Spool<F>, now_us: i64) -> (Vec<Ack>, StorageState) {
    let mut acked = Vec::new();
    loop {
        spool.sync(now_us, &mut acked);
        let state = spool.maintain(now_us);
        if !spool.has_work() || spool.is_blocked() || state == StorageState::Failed {
            return (acked, state);
        }
    }
}

pub(crate) fn replayed<F: Files>(spool: &Spool<F>) -> Vec<Event> {
    let mut events = Vec::new();
    spool.replay_tail(u64::MAX, &mut |event| events.push(event)).unwrap();
    events
}
