//! How far a sink is, kept beside the spool so that a restart sends the same rows again.
//!
//! Before anything is sent, its *plan* is synced here: which events (a range of sequence numbers),
//! under which token, and later every split of that range. A store that remembers tokens then drops
//! whatever a retry repeats, also when the retry comes from the next process: the plan is replayed
//! exactly, and a range that was split never goes back to its whole token.
//!
//! Invariants: the plan is a row of adjoining ranges that begins at `confirmed`; the file is
//! replaced whole; a damaged file is refused, never guessed (a wrong cursor means lost or doubled
//! events). The checksum over the events' images in each range guards against a spool that was
//! restored from a backup under the same numbers. Deliberately absent: what a range becomes in the
//! store (see each sink's `encode`).

use crate::files::{self, Files, read_small};
use crate::meta::{seal, unseal};
use proto::event::Event;
use std::fmt::Write;
use std::io;

/// What a sink remembers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// Random, made once: tokens of different directories never meet.
    pub id: u64,
    /// Which store it is about: a database, a folder. Empty: not said.
    pub target: String,
    /// Everything before this number is in the store.
    pub confirmed: u64,
    /// What is being sent, in order.
    pub plan: Vec<Planned>,
}

/// A range that goes to the store under one token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// The first event.
    pub from: u64,
    /// After the last event.
    pub end: u64,
    /// Over the images of its events.
    pub crc: u32,
    /// A single event that the store rejected, and why: it goes to the dead letters.
    pub dead: Option<String>,
}

/// Why a cursor cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CursorError {
    /// The operating system refused.
    #[error("cannot read {name} in {dir}: {source}; the server's user must own the directory")]
    Io {
        /// The file.
        name: String,
        /// The directory.
        dir: String,
        /// The reason.
        source: io::Error,
    },
    /// Its checksum or content is wrong.
    #[error(
        "{dir}/{name} is damaged: it says what the store already has. Restore it from a backup; \
         or remove it, and everything in the spool is sent again (events whose token the store has \
         forgotten are then there twice: `shardcast storage verify` shows them)"
    )]
    Damaged {
        /// The file.
        name: String,
        /// The directory.
        dir: String,
    },
    /// Written by a later version.
    #[error("{dir}/{name} was written by a newer version of the server; run that version")]
    Newer {
        /// The file.
        name: String,
        /// The directory.
        dir: String,
    },
}

const TITLE: &str = "shardcast sink cursor 1";
/// Longest cursor read: a plan of a hundred thousand single events, each with a reason.
const BYTES_MAX: u64 = 64 << 20;
/// Longest reason kept with a dead letter, in bytes.
pub const REASON_BYTES_MAX: usize = 512;

/// The name of a sink's cursor file.
pub fn file_name(sink: &str) -> String {
    format!("{sink}.cursor")
}

/// The checksum of a range.
pub fn checksum(events: &[Event]) -> u32 {
    events.iter().fold(0, |crc, event| crc32c::crc32c_append(crc, event.as_bytes()))
}

impl Cursor {
    /// For a sink that is new to this spool and begins at `seq`.
    pub fn new(id: u64, seq: u64) -> Self {
        Self { id, target: String::new(), confirmed: seq, plan: Vec::new() }
    }

    /// Says which store it is about.
    pub fn aimed_at(self, target: &str) -> Self {
        Self { target: one_line(target), ..self }
    }

    /// What to say if it is about another store: a sink would take what that one has for what this
    /// one has.
    pub fn other_target(&self, sink: &str, target: &str) -> Option<String> {
        if self.target.is_empty() || self.target == one_line(target) {
            return None;
        }
        let (name, old) = (file_name(sink), &self.target);
        Some(format!(
            "{name} in the data directory says how far `{old}` is, and the configuration names \
             `{target}`. To fill that one with everything in the spool, remove {name}; to go on with \
             the other, name it again"
        ))
    }

    /// The token of a range: the same for the same events of the same directory, for ever.
    pub fn token(&self, range: &Planned) -> String {
        let kind = if range.dead.is_some() { "dead" } else { "rows" };
        format!("{:016x}-{}-{}-{:08x}-{kind}", self.id, range.from, range.end, range.crc)
    }

    /// Where planning goes on.
    pub fn planned_end(&self) -> u64 {
        self.plan.last().map_or(self.confirmed, |last| last.end)
    }

    /// Puts two ranges in the place of the first one, divided before event `at`.
    pub fn split_first(&mut self, at: u64, crcs: (u32, u32)) {
        let first = self.plan.remove(0);
        assert!(first.from < at && at < first.end, "a split inside the range");
        let range = |from, end, crc| Planned { from, end, crc, dead: None };
        self.plan.insert(0, range(at, first.end, crcs.1));
        self.plan.insert(0, range(first.from, at, crcs.0));
    }

    /// The store has the first range.
    pub fn confirm_first(&mut self) -> Planned {
        let first = self.plan.remove(0);
        debug_assert_eq!(first.from, self.confirmed);
        self.confirmed = first.end;
        first
    }

    /// The first range, a single event, was rejected.
    pub fn condemn_first(&mut self, reason: &str) {
        if let Some(first) = self.plan.first_mut() {
            assert_eq!(first.from + 1, first.end, "only a single event is condemned");
            first.dead = Some(one_line(reason));
        }
    }

    fn encode(&self) -> Vec<u8> {
        let Self { id, target, confirmed, .. } = self;
        let mut text = format!("{TITLE}\nid {id:016x}\ntarget {target}\nconfirmed {confirmed}\n");
        for Planned { from, end, crc, dead } in &self.plan {
            let _ = match dead {
                None => writeln!(text, "range {from} {end} {crc:08x}"),
                Some(reason) => writeln!(text, "dead {from} {end} {crc:08x} {reason}"),
            };
        }
        seal(text)
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut lines = unseal(bytes)?.lines();
        if lines.next()? != TITLE {
            return None;
        }
        let mut value = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
        let id = u64::from_str_radix(value("id")?, 16).ok()?;
        let target = value("target")?.to_owned();
        let confirmed = value("confirmed")?.parse().ok()?;
        let mut cursor = Self { target, ..Self::new(id, confirmed) };
        for line in lines {
            let planned = decode_range(line)?;
            if planned.from != cursor.planned_end() || planned.end <= planned.from {
                return None;
            }
            cursor.plan.push(planned);
        }
        Some(cursor)
    }

    /// Reads the cursor of `sink`; `None`: there is none yet.
    pub fn load<F: Files>(files: &F, sink: &str) -> Result<Option<Self>, CursorError> {
        let (name, dir) = (file_name(sink), files.describe());
        let bytes = match read_small(files, &name, BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(CursorError::Io { name, dir, source }),
        };
        // A whole file only: a damaged title must not send anybody to look for a newer server.
        let title = unseal(&bytes).and_then(|text| text.lines().next()).unwrap_or_default();
        if title.starts_with("shardcast sink cursor ") && title != TITLE {
            return Err(CursorError::Newer { name, dir });
        }
        Self::decode(&bytes).map(Some).ok_or(CursorError::Damaged { name, dir })
    }

    /// Replaces the file; a power cut leaves the old or the new one.
    pub fn save<F: Files>(&self, files: &F, sink: &str) -> io::Result<()> {
        files::replace(files, &file_name(sink), &self.encode())
    }
}

fn decode_range(line: &str) -> Option<Planned> {
    let (kind, rest) = line.split_once(' ')?;
    let mut words = rest.splitn(4, ' ');
    let from = words.next()?.parse().ok()?;
    let end = words.next()?.parse().ok()?;
    let crc = u32::from_str_radix(words.next()?, 16).ok()?;
    let dead = match (kind, words.next()) {
        ("range", None) => None,
        ("dead", Some(reason)) => Some(reason.to_owned()),
        _ => return None,
    };
    Some(Planned { from, end, crc, dead })
}

/// A reason as one bounded line of text.
fn one_line(reason: &str) -> String {
    let mut line: String = reason.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let end = line.floor_char_boundary(REASON_BYTES_MAX);
    line.truncate(end);
    if line.is_empty() { "no reason was given".to_owned() } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim_files::SimFiles;

    fn cursor() -> Cursor {
        let range = |from, end, crc| Planned { from, end, crc, dead: None };
        let plan = vec![range(10, 20, 1), range(20, 21, 2), range(21, 40, 3)];
        Cursor { plan, ..Cursor::new(0xabc, 10).aimed_at("shardcast") }
    }

    #[test]
    fn a_cursor_reads_back_and_every_damaged_byte_is_noticed() {
        let mut cursor = cursor();
        cursor.confirm_first();
        cursor.condemn_first("Code: 469.\nConstraint `x`\tviolated");
        let bytes = cursor.encode();
        assert_eq!(Cursor::decode(&bytes).as_ref(), Some(&cursor));
        assert!(cursor.plan[0].dead.as_deref().unwrap().starts_with("Code: 469. Constraint"));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(Cursor::decode(&damaged), None, "byte {at}");
            assert_eq!(Cursor::decode(&bytes[..at]), None, "cut {at}");
        }
    }

    #[test]
    fn a_split_range_never_has_its_whole_token_again() {
        let mut cursor = cursor();
        let whole = cursor.token(&cursor.plan[0]);
        cursor.split_first(15, (7, 8));
        let tokens: Vec<_> = cursor.plan.iter().map(|range| cursor.token(range)).collect();
        assert!(!tokens.contains(&whole));
        assert_eq!((cursor.plan[0].from, cursor.plan[0].end), (10, 15));
        assert_eq!((cursor.plan[1].from, cursor.plan[1].end), (15, 20));
        assert_eq!(Cursor::decode(&cursor.encode()), Some(cursor.clone()));
        let alive = cursor.token(&cursor.plan[2]);
        cursor.confirm_first();
        cursor.confirm_first();
        cursor.condemn_first("no");
        assert_ne!(cursor.token(&cursor.plan[0]), alive, "dead letters are another insert");
    }

    #[test]
    fn a_cursor_of_another_store_is_not_taken_for_this_ones() {
        assert_eq!(cursor().other_target("x", "shardcast"), None);
        assert_eq!(Cursor::new(1, 2).other_target("x", "any"), None);
        let said = cursor().other_target("x", "other").unwrap();
        assert!(said.contains("`shardcast`") && said.contains("remove x.cursor"), "{said}");
    }

    #[test]
    fn a_plan_with_holes_or_of_a_later_version_is_refused() {
        let mut holes = cursor();
        holes.plan.remove(1);
        assert_eq!(Cursor::decode(&holes.encode()), None);
        let files = SimFiles::new(1);
        assert!(Cursor::load(&files, "x").unwrap().is_none());
        cursor().save(&files, "x").unwrap();
        assert_eq!(Cursor::load(&files, "x").unwrap(), Some(cursor()));
        let newer = "shardcast sink cursor 2\nid 1\n";
        files::replace(&files, "x.cursor", &seal(newer.to_owned())).unwrap();
        assert!(matches!(Cursor::load(&files, "x"), Err(CursorError::Newer { .. })));
        files::replace(&files, "x.cursor", newer.as_bytes()).unwrap();
        assert!(matches!(Cursor::load(&files, "x"), Err(CursorError::Damaged { .. })));
        files::replace(&files, "x.cursor", b"shardcast sink cursor 1\nid 1\n").unwrap();
        assert!(matches!(Cursor::load(&files, "x"), Err(CursorError::Damaged { .. })));
    }
}
