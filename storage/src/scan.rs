//! Walking a segment's records in bounded memory, and the judgement where the walk ends.
//!
//! A [`Scanner`] reads in chunks and yields records in file order until something is not a record.
//! It never guesses: what the end means is decided by [`judge_tail`] (last segment) or by the
//! number of records expected (sealed segments), both described in [`crate::format`].

use crate::files::{FileIo, read_full};
use crate::format::{MARK_BYTES, Mark, RECORD_HEADER_BYTES, record_crc, u32_at};
use std::io;

/// One step of a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// An event image, from its record's first byte to the byte after it; see [`Scanner::body`].
    Event {
        /// Where the record begins.
        at: u64,
        /// Where it ends.
        end: u64,
    },
    /// A mark.
    Mark(Mark),
    /// No further record.
    End {
        /// Where the walk stopped: the end of the last good record.
        at: u64,
        /// What stands there.
        found: Found,
    },
}

/// What stands where a walk stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// The limit of the walk, exactly.
    Limit,
    /// Length zero.
    Zero,
    /// Something else; the text says what.
    Bad(&'static str),
}

/// Reads records one after the other.
#[derive(Debug)]
pub struct Scanner<'f, T> {
    file: &'f T,
    limit: u64,
    /// Only its first `filled` bytes were read; the rest is room for more.
    buffer: Vec<u8>,
    filled: usize,
    /// File offset of the buffer's first byte.
    base: u64,
    /// Next unread byte in the buffer.
    next: usize,
    body: std::ops::Range<usize>,
}

/// Bytes read at once: large enough that the system call does not count, small enough for a cache.
const CHUNK_BYTES: usize = 256 * 1024;

impl<'f, T: FileIo> Scanner<'f, T> {
    /// Walks from file offset `from`, which must be the start of a record, up to `limit`.
    pub fn new(file: &'f T, from: u64, limit: u64) -> Self {
        Self { file, limit, buffer: Vec::new(), filled: 0, base: from, next: 0, body: 0..0 }
    }

    /// The body of the record that `step` returned last.
    pub fn body(&self) -> &[u8] {
        self.buffer.get(self.body.clone()).unwrap_or_default()
    }

    /// The next record. After `End` it returns `End` again.
    pub fn step(&mut self) -> io::Result<Step> {
        let at = self.base + self.next as u64;
        let left = self.limit.saturating_sub(at);
        if left == 0 {
            return Ok(Step::End { at, found: Found::Limit });
        }
        let head = RECORD_HEADER_BYTES as usize;
        let have = self.fill(head.min(left as usize))?;
        if have < head {
            let zero = self.buffer[self.next..self.next + have].iter().all(|b| *b == 0);
            let found = if zero { Found::Zero } else { Found::Bad("a record header is cut") };
            return Ok(Step::End { at, found });
        }
        let len = u32_at(&self.buffer, self.next) as usize;
        let crc = u32_at(&self.buffer, self.next + 4);
        if len == 0 {
            // A non-zero checksum behind a zero length is judged with the rest of the tail.
            return Ok(Step::End { at, found: Found::Zero });
        }
        if len as u64 > left - head as u64 || self.fill(head + len)? < head + len {
            let found = Found::Bad("a record is longer than the file");
            return Ok(Step::End { at, found });
        }
        let body = self.next + head..self.next + head + len;
        let bytes = &self.buffer[body.clone()];
        if record_crc(bytes) != crc {
            return Ok(Step::End { at, found: Found::Bad("a record's checksum does not match") });
        }
        let mark = Mark::decode(bytes);
        if mark.is_none() && bytes[0] == 0 {
            return Ok(Step::End { at, found: Found::Bad("a record is of an unknown kind") });
        }
        if mark.is_some_and(|mark| mark.at != at) {
            return Ok(Step::End { at, found: Found::Bad("a mark stands in the wrong place") });
        }
        self.next = body.end;
        self.body = body;
        Ok(mark.map_or(Step::Event { at, end: self.base + self.next as u64 }, Step::Mark))
    }

    /// Makes `need` bytes available from `next` on; returns how many there are (fewer at the end).
    fn fill(&mut self, need: usize) -> io::Result<usize> {
        let have = self.filled - self.next;
        if have >= need {
            return Ok(need);
        }
        self.buffer.copy_within(self.next..self.filled, 0);
        self.base += self.next as u64;
        self.next = 0;
        let room = (self.limit - self.base).min(need.max(CHUNK_BYTES) as u64) as usize;
        if self.buffer.len() < room {
            self.buffer.resize(room, 0);
        }
        let at = self.base + have as u64;
        self.filled = have + read_full(self.file, &mut self.buffer[have..room], at)?;
        Ok(need.min(self.filled))
    }
}

/// What the bytes after the last good record of the *last* segment are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// Nothing but preallocated zeros.
    Clean,
    /// Bytes that were never synced: the start of a round that a crash cut.
    Torn,
    /// A later mark proves that the damaged place had been synced.
    Damaged(Mark),
}

/// Judges the rest of the last segment, from `at` (where the walk stopped) to the end of the file.
pub fn judge_tail<T: FileIo>(file: &T, at: u64, file_len: u64, salt: u64) -> io::Result<Tail> {
    let mut window = Vec::new();
    let mut base = at;
    let mut clean = true;
    // Chunks overlap by one mark, so that none hides on a boundary.
    while base < file_len {
        let len = (file_len - base).min(CHUNK_BYTES as u64 + MARK_BYTES) as usize;
        window.resize(len, 0);
        let read = read_full(file, &mut window, base)?;
        window.truncate(read);
        clean &= window.iter().all(|b| *b == 0);
        if !clean && let Some(mark) = Mark::find(&window, base, salt, at) {
            return Ok(Tail::Damaged(mark));
        }
        if read < len || base + len as u64 == file_len {
            break;
        }
        base += CHUNK_BYTES as u64;
    }
    Ok(if clean { Tail::Clean } else { Tail::Torn })
}
