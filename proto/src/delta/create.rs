//! Base and target to delta.
//!
//! The ends that both have in common are found by comparing. For what is between them every fourth
//! position of the base is put into a hash table by its next eight bytes, and each position of the
//! target looks there for a run to copy; Fossil's own sixteen bytes at every sixteenth position
//! would miss most of what is equal between two JSON documents of a few hundred bytes.

use super::{checksum, digits_in, write_number};

/// Candidates looked at per position of the target.
pub const PROBES_MAX: usize = 8;

/// Bytes that are hashed together: the shortest run that is found.
const WINDOW: usize = 8;

/// Distance between hashed positions of the base: a common run of `WINDOW + STEP - 1` is found.
const STEP: usize = 4;

/// Entries of the hash table at most; a base of more than 256 KiB has longer chains.
const HEADS_MAX: usize = 1 << 16;

/// Entries kept between two creations: a base of 64 KiB's. Larger ones give theirs back.
const KEPT: usize = 1 << 14;

/// Creates deltas, one after the other, in memory that it keeps.
#[derive(Debug)]
pub struct Differ {
    bytes_max: u32,
    /// The first hashed position with a hash, plus one; zero for none. In steps.
    heads: Vec<u32>,
    /// The next position after each one with the same hash, likewise.
    chain: Vec<u32>,
    out: Vec<u8>,
}

/// A run that both have.
#[derive(Debug, Clone, Copy)]
struct Match {
    base_at: usize,
    target_at: usize,
    count: usize,
}

impl Differ {
    /// Without memory yet. Bases and targets longer than `bytes_max` get no delta.
    pub fn new(bytes_max: u32) -> Self {
        Self { bytes_max, heads: Vec::new(), chain: Vec::new(), out: Vec::new() }
    }

    /// The delta from `base` to `target`, valid until the next creation. `None` if it would not be
    /// shorter than the target, or if either is too long.
    pub fn create(&mut self, base: &[u8], target: &[u8]) -> Option<&[u8]> {
        self.run::<false>(base, target)?;
        Some(&self.out)
    }

    /// As [`Self::create`], for text: the delta is text, too.
    pub fn create_text(&mut self, base: &str, target: &str) -> Option<&str> {
        self.run::<true>(base.as_bytes(), target.as_bytes())?;
        let text = simdutf8::basic::from_utf8(&self.out);
        debug_assert!(text.is_ok(), "a run was cut inside a character");
        text.ok()
    }

    /// Bytes held between creations, for a ledger.
    pub fn memory_bytes(&self) -> usize {
        (self.heads.capacity() + self.chain.capacity()) * size_of::<u32>() + self.out.capacity()
    }

    fn run<const TEXT: bool>(&mut self, base: &[u8], target: &[u8]) -> Option<()> {
        let longest = base.len().max(target.len());
        if u32::try_from(longest).map_or(true, |longest| longest > self.bytes_max) {
            return None;
        }
        let length = u32::try_from(target.len()).ok()?;
        let made = self.build::<TEXT>(base, target, length);
        self.heads.clear();
        self.heads.shrink_to(KEPT);
        self.chain.clear();
        self.chain.shrink_to(KEPT);
        made
    }

    fn build<const TEXT: bool>(&mut self, base: &[u8], target: &[u8], length: u32) -> Option<()> {
        self.out.clear();
        self.out.shrink_to(KEPT * 8);
        let sum = checksum(target);
        // What is always written; what comes between must leave the delta shorter than the target.
        let fixed = digits_in(length) + digits_in(sum) + 2;
        let room = target.len().checked_sub(fixed as usize + 1)?;
        write_number(&mut self.out, length);
        self.out.push(b'\n');
        let limit = self.out.len() + room;

        let prefix = common_prefix::<TEXT>(base, target);
        let suffix = common_suffix::<TEXT>(base, target, prefix);
        let middle_end = target.len() - suffix;
        let mut writer = Writer { out: &mut self.out, target, done: 0, limit };
        writer.take(Match { base_at: 0, target_at: 0, count: prefix })?;
        if middle_end - writer.done >= WINDOW {
            index(base, &mut self.heads, &mut self.chain);
            let found = Finder { base, target, heads: &self.heads, chain: &self.chain };
            found.run::<TEXT>(middle_end, &mut writer)?;
        }
        let base_at = base.len() - suffix;
        writer.take(Match { base_at, target_at: middle_end, count: suffix })?;
        writer.insert_to(target.len())?;
        write_number(&mut self.out, sum);
        self.out.push(b';');
        debug_assert!(self.out.len() < target.len());
        Some(())
    }
}

/// Writes copies and what is between them.
struct Writer<'a> {
    out: &'a mut Vec<u8>,
    target: &'a [u8],
    /// Bytes of the target that are written.
    done: usize,
    /// The length of `out` beyond which the delta is not worth it.
    limit: usize,
}

impl Writer<'_> {
    /// Copies a run, and inserts what comes before it, if that is shorter than inserting it all.
    fn take(&mut self, run: Match) -> Option<()> {
        if !self.is_worth(run) {
            return Some(());
        }
        self.insert_to(run.target_at)?;
        write_number(self.out, number(run.count));
        self.out.push(b'@');
        write_number(self.out, number(run.base_at));
        self.out.push(b',');
        self.done += run.count;
        self.check()
    }

    /// A copy saves its run, and costs its numbers and perhaps the head of one more insertion.
    fn is_worth(&self, run: Match) -> bool {
        let literal = run.target_at - self.done;
        let head = if literal == 0 { 0 } else { digits_in(number(literal)) + 1 };
        let cost = digits_in(number(run.count)) + digits_in(number(run.base_at)) + 2 + head;
        run.count > cost as usize
    }

    fn insert_to(&mut self, end: usize) -> Option<()> {
        let run = self.target.get(self.done..end)?;
        if run.is_empty() {
            return Some(());
        }
        if self.out.len() + run.len() > self.limit {
            return None;
        }
        write_number(self.out, number(run.len()));
        self.out.push(b':');
        self.out.extend_from_slice(run);
        self.done = end;
        self.check()
    }

    fn check(&self) -> Option<()> {
        (self.out.len() <= self.limit).then_some(())
    }
}

/// Looks for runs of the target in the indexed base.
struct Finder<'a> {
    base: &'a [u8],
    target: &'a [u8],
    heads: &'a [u32],
    chain: &'a [u32],
}

impl Finder<'_> {
    fn run<const TEXT: bool>(&self, end: usize, writer: &mut Writer<'_>) -> Option<()> {
        let mut at = writer.done;
        while at + WINDOW <= end {
            let best = self.best::<TEXT>(at, end, writer);
            match best {
                Some(run) => {
                    writer.take(run)?;
                    at = writer.done;
                }
                None => at += 1,
            }
        }
        Some(())
    }

    /// The longest run through `at`, if it is worth a copy.
    fn best<const TEXT: bool>(&self, at: usize, end: usize, writer: &Writer<'_>) -> Option<Match> {
        let window = self.target.get(at..)?.first_chunk::<WINDOW>()?;
        let mut entry = *self.heads.get(slot(window, self.heads.len()))?;
        let mut best: Option<Match> = None;
        for _ in 0..PROBES_MAX {
            let Some(step) = (entry as usize).checked_sub(1) else { break };
            let base_at = step * STEP;
            let run = self.extend::<TEXT>(base_at, at, end, writer.done);
            if run.count > best.map_or(0, |best| best.count) && writer.is_worth(run) {
                best = Some(run);
            }
            entry = self.chain.get(step).copied().unwrap_or(0);
        }
        best
    }

    /// The run around two positions, back to what is written already and on to `end`.
    fn extend<const TEXT: bool>(
        &self,
        base_at: usize,
        at: usize,
        end: usize,
        done: usize,
    ) -> Match {
        let base = self.base.split_at_checked(base_at).unwrap_or_default();
        let before = self.target.get(done..at).unwrap_or_default();
        let after = self.target.get(at..end).unwrap_or_default();
        let back = common_back(base.0, before);
        let ahead = common_ahead(base.1, after);
        let (mut from, mut to) = (at - back, at + ahead);
        if TEXT {
            // Both are text and equal here, so what begins and ends between characters of the
            // target does so in the base.
            while from < to && !is_boundary(self.target, from) {
                from += 1;
            }
            while from < to && !is_boundary(self.target, to) {
                to -= 1;
            }
        }
        Match { base_at: base_at + from - at, target_at: from, count: to - from }
    }
}

/// Puts every fourth position of the base into the table, the last one first: where a window
/// repeats, the earliest, from which the longest runs go on, is looked at first.
fn index(base: &[u8], heads: &mut Vec<u32>, chain: &mut Vec<u32>) {
    let slots = (base.len() / STEP).next_power_of_two().clamp(16, HEADS_MAX);
    heads.resize(slots, 0);
    let windows = base.windows(WINDOW).step_by(STEP);
    chain.resize(windows.len(), 0);
    for ((step, window), next) in windows.enumerate().zip(chain.iter_mut()).rev() {
        let Some(window) = window.first_chunk() else { continue };
        let Some(head) = heads.get_mut(slot(window, slots)) else { continue };
        *next = *head;
        *head = number(step + 1);
    }
}

/// The place of a window in a table whose length is a power of two.
fn slot(window: &[u8; WINDOW], slots: usize) -> usize {
    // Fibonacci hashing: the high bits of the product depend on every byte.
    let product = u64::from_le_bytes(*window).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (product >> (64 - slots.ilog2())) as usize
}

fn common_prefix<const TEXT: bool>(base: &[u8], target: &[u8]) -> usize {
    let mut count = common_ahead(base, target);
    while TEXT && count > 0 && !is_boundary(target, count) {
        count -= 1;
    }
    count
}

/// The common end, as far as it leaves the prefix alone in both.
fn common_suffix<const TEXT: bool>(base: &[u8], target: &[u8], prefix: usize) -> usize {
    let base = base.get(prefix..).unwrap_or_default();
    let rest = target.get(prefix..).unwrap_or_default();
    let mut count = common_back(base, rest);
    while TEXT && count > 0 && !is_boundary(target, target.len() - count) {
        count -= 1;
    }
    count
}

/// Bytes that two slices begin with alike.
fn common_ahead(a: &[u8], b: &[u8]) -> usize {
    let mut count = 0;
    let words = a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0);
    for (x, y) in words {
        let differs = u64::from_le_bytes(*x) ^ u64::from_le_bytes(*y);
        if differs != 0 {
            return count + differs.trailing_zeros() as usize / 8;
        }
        count += 8;
    }
    let tails = a.iter().skip(count).zip(b.iter().skip(count));
    count + tails.take_while(|(x, y)| x == y).count()
}

/// Bytes that two slices end with alike.
fn common_back(a: &[u8], b: &[u8]) -> usize {
    let mut count = 0;
    let words = a.as_rchunks::<8>().1.iter().rev().zip(b.as_rchunks::<8>().1.iter().rev());
    for (x, y) in words {
        let differs = u64::from_be_bytes(*x) ^ u64::from_be_bytes(*y);
        if differs != 0 {
            return count + differs.trailing_zeros() as usize / 8;
        }
        count += 8;
    }
    let tails = a.iter().rev().skip(count).zip(b.iter().rev().skip(count));
    count + tails.take_while(|(x, y)| x == y).count()
}

/// True if no character of UTF-8 text goes on at `at`.
fn is_boundary(text: &[u8], at: usize) -> bool {
    text.get(at).is_none_or(|byte| byte & 0xc0 != 0x80)
}

/// Lengths are checked at the start: they have 32 bits.
fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
