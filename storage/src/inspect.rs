//! Reading a spool without its lock: for tools, beside a running server or without one.
//!
//! Segments are walked as they lie. The newest one may be growing and end in half a record: what
//! comes after the last whole one is not there yet. A segment may be removed by retention
//! meanwhile: then it is skipped, and the events begin later. Everything else that is not a record
//! is damage, and said. Nothing is ever written. Any thread.

use crate::files::{FileIo, Files, read_full};
use crate::format::{HEADER_BYTES, Header, parse_name, segment_name};
use crate::read::{ReadError, decode};
use crate::scan::{Found, Scanner, Step};
use crate::walk::damaged;
use proto::event::Event;
use std::io;
use std::ops::ControlFlow;

/// A segment in the directory.
#[derive(Debug, Clone, Copy)]
struct Segment {
    first_seq: u64,
    created_us: i64,
}

/// Shards hand over their events a little out of order, so a segment's events may have been
/// received this much before it was begun, or after the next one was; generous.
const SLACK_US: i64 = 60_000_000;

/// Calls `each` with the number and the event of everything in the spool that was received in
/// `[from_us, to_us)`, in the order of the spool.
pub fn events<F: Files>(
    files: &F,
    (from_us, to_us): (i64, i64),
    each: &mut dyn FnMut(u64, Event) -> ControlFlow<()>,
) -> Result<(), ReadError> {
    let segments = segments(files)?;
    for (index, segment) in segments.iter().enumerate() {
        let next = segments.get(index + 1);
        let over = next.is_some_and(|next| next.created_us < from_us.saturating_sub(SLACK_US));
        if over || segment.created_us > to_us.saturating_add(SLACK_US) {
            continue;
        }
        let mut wanted = |seq: u64, event: Event| {
            if (from_us..to_us).contains(&event.accepted_us()) {
                return each(seq, event);
            }
            ControlFlow::Continue(())
        };
        if walk(files, *segment, next.is_none(), &mut wanted)?.is_break() {
            break;
        }
    }
    Ok(())
}

/// The event `seq`, or the oldest after it that there is, with its number.
pub fn event_from<F: Files>(files: &F, seq: u64) -> Result<Option<(u64, Event)>, ReadError> {
    let segments = segments(files)?;
    let mut found = None;
    for (index, segment) in segments.iter().enumerate() {
        let next = segments.get(index + 1);
        if next.is_some_and(|next| next.first_seq <= seq) {
            continue;
        }
        let mut keep = |at: u64, event: Event| {
            if at < seq {
                return ControlFlow::Continue(());
            }
            found = Some((at, event));
            ControlFlow::Break(())
        };
        if walk(files, *segment, next.is_none(), &mut keep)?.is_break() {
            break;
        }
    }
    Ok(found)
}

/// Segments, oldest first. Those that begin while we look have no header yet, and are left out.
fn segments<F: Files>(files: &F) -> Result<Vec<Segment>, ReadError> {
    let failed = |source| ReadError::Io { file: files.describe(), source };
    let mut segments = Vec::new();
    for (name, _) in files.list().map_err(failed)? {
        let Some(first_seq) = parse_name(&name, "seg") else { continue };
        let io_error = |source| ReadError::Io { file: name.clone(), source };
        let file = match files.open(&name) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(io_error(e)),
        };
        let mut bytes = [0; HEADER_BYTES as usize];
        let read = read_full(&file, &mut bytes, 0).map_err(io_error)?;
        let header = Header::decode(&bytes[..read]).map_err(|error| ReadError::Damaged {
            file: name.clone(),
            at: 0,
            what: error.to_string(),
        })?;
        segments.push(Segment { first_seq, created_us: header.created_us });
    }
    segments.sort_unstable_by_key(|segment| segment.first_seq);
    Ok(segments)
}

fn walk<F: Files>(
    files: &F,
    segment: Segment,
    is_last: bool,
    each: &mut dyn FnMut(u64, Event) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, ReadError> {
    let name = segment_name(segment.first_seq);
    let io_error = |source| ReadError::Io { file: name.clone(), source };
    let file = match files.open(&name) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(ControlFlow::Continue(())),
        Err(e) => return Err(io_error(e)),
    };
    let mut scanner = Scanner::new(&file, HEADER_BYTES, file.len().map_err(io_error)?);
    let mut seq = segment.first_seq;
    loop {
        match scanner.step().map_err(io_error)? {
            Step::Mark(_) => {}
            Step::Event { at, .. } => {
                let event = decode(scanner.body());
                let event = event.map_err(|e| damaged((segment.first_seq, at), &e))?;
                if each(seq, event).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                seq += 1;
            }
            Step::End { at, found: Found::Bad(what) } if !is_last => {
                return Err(ReadError::Damaged { file: name, at, what: what.to_owned() });
            }
            Step::End { .. } => return Ok(ControlFlow::Continue(())),
        }
    }
}
