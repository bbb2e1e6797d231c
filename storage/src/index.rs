//! The index of a segment: for each block of about 1,000 events its byte range, times, offsets and
//! the set of channels in it, so that a read skips what cannot match.
//!
//! The writer builds it as it goes (only of synced events); at seal it becomes a side file
//! `<first_seq>.idx` and leaves memory, except a [`Summary`]. An index is a hint that may be
//! missing: without it the segment is read as one block. It is believed only if its checksum and
//! its segment match. Channel sets hold CRC32Cs of names; a collision costs a useless read.

use crate::format::{u32_at, u64_at};
use crc32c::crc32c;
use hashbrown::HashSet;
use proto::event::Event;
use std::sync::Arc;

/// Events per block, at most.
pub const BLOCK_EVENTS_MAX: u32 = 1_000;
/// Bytes per block, unless one event alone is larger.
pub const BLOCK_BYTES_MAX: u64 = 1 << 20;
/// Channels a [`Summary`] names; a segment with more says "any".
pub const SUMMARY_CHANNELS_MAX: usize = 256;

const MAGIC: &[u8; 8] = b"SHCIDX\r\n";
const VERSION: u32 = 1;
const HEAD_BYTES: usize = 28;
const SUMMARY_FIXED_BYTES: usize = 48;
const BLOCK_FIXED_BYTES: usize = 64;

/// The hash under which indexes know a channel.
pub fn channel_hash(name: &[u8]) -> u32 {
    crc32c(name)
}

/// What one block holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// File offset of the first record.
    pub at: u64,
    /// File offset after the last record.
    pub end: u64,
    /// Sequence number of the first event.
    pub first_seq: u64,
    /// Events.
    pub count: u32,
    /// Smallest and largest event time, microseconds.
    pub time_us: (i64, i64),
    /// Smallest and largest offset, over all channels.
    pub offset: (u64, u64),
    /// Sorted hashes of the channels.
    pub channels: Box<[u32]>,
}

/// What a sealed segment keeps in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Sequence number of the first event.
    pub first_seq: u64,
    /// Events.
    pub count: u64,
    /// File offset after the last record.
    pub end: u64,
    /// Smallest and largest event time, microseconds.
    pub time_us: (i64, i64),
    /// Sorted hashes of the channels; `None` means any.
    pub channels: Option<Box<[u32]>>,
}

/// Collects blocks while a segment is written or scanned.
#[derive(Debug)]
pub struct IndexBuilder {
    first_seq: u64,
    blocks: Vec<Arc<Block>>,
    open: Block,
    open_channels: HashSet<u32>,
    last_hash: Option<u32>,
    all_channels: Option<HashSet<u32>>,
}

impl IndexBuilder {
    /// For a segment whose first event is `first_seq` and whose first record stands at `at`.
    pub fn new(first_seq: u64, at: u64) -> Self {
        Self {
            first_seq,
            blocks: Vec::new(),
            open: empty_block(first_seq, at),
            open_channels: HashSet::new(),
            last_hash: None,
            all_channels: Some(HashSet::new()),
        }
    }

    /// Adds the next event; its record ends at `end`.
    pub fn add(&mut self, event: &Event, end: u64) {
        self.add_raw(
            channel_hash(event.channel().as_bytes()),
            event.time_us(),
            event.offset(),
            end,
        );
    }

    /// The same from parts, for callers that know the channel's hash already.
    pub fn add_raw(&mut self, channel: u32, time_us: i64, offset: u64, end: u64) {
        let open = &mut self.open;
        let full = open.count >= BLOCK_EVENTS_MAX || end - open.at > BLOCK_BYTES_MAX;
        if full && open.count > 0 {
            self.close_block();
        }
        if self.last_hash != Some(channel) {
            self.last_hash = Some(channel);
            self.open_channels.insert(channel);
        }
        let open = &mut self.open;
        open.end = end;
        open.count += 1;
        open.time_us = (open.time_us.0.min(time_us), open.time_us.1.max(time_us));
        open.offset = (open.offset.0.min(offset), open.offset.1.max(offset));
    }

    fn close_block(&mut self) {
        let next = empty_block(self.open.first_seq + u64::from(self.open.count), self.open.end);
        let mut block = std::mem::replace(&mut self.open, next);
        let mut channels: Vec<u32> = self.open_channels.drain().collect();
        channels.sort_unstable();
        if let Some(all) = &mut self.all_channels {
            all.extend(&channels);
            if all.len() > SUMMARY_CHANNELS_MAX {
                self.all_channels = None;
            }
        }
        block.channels = channels.into();
        self.last_hash = None;
        self.blocks.push(Arc::new(block));
    }

    /// Blocks that are complete.
    pub fn closed(&self) -> &[Arc<Block>] {
        &self.blocks
    }

    /// Memory held, about.
    pub fn memory_bytes(&self) -> u64 {
        let hashes: usize = self.blocks.iter().map(|block| block.channels.len()).sum();
        (self.blocks.len() * (size_of::<Block>() + 24) + hashes * size_of::<u32>()) as u64
    }

    /// Ends the segment.
    pub fn finish(mut self) -> Index {
        if self.open.count > 0 {
            self.close_block();
        }
        let mut summary = Summary {
            first_seq: self.first_seq,
            count: 0,
            end: self.open.at,
            time_us: (i64::MAX, i64::MIN),
            channels: self.all_channels.map(|all| {
                let mut all: Vec<u32> = all.into_iter().collect();
                all.sort_unstable();
                all.into()
            }),
        };
        for block in &self.blocks {
            summary.count += u64::from(block.count);
            summary.time_us.0 = summary.time_us.0.min(block.time_us.0);
            summary.time_us.1 = summary.time_us.1.max(block.time_us.1);
        }
        Index { summary, blocks: self.blocks }
    }
}

fn empty_block(first_seq: u64, at: u64) -> Block {
    Block {
        at,
        end: at,
        first_seq,
        count: 0,
        time_us: (i64::MAX, i64::MIN),
        offset: (u64::MAX, 0),
        channels: Box::default(),
    }
}

/// A finished index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// What stays in memory.
    pub summary: Summary,
    /// All blocks, in order.
    pub blocks: Vec<Arc<Block>>,
}

impl Index {
    /// The side file: magic, version, then summary and blocks, each with length and checksum.
    pub fn encode(&self) -> Vec<u8> {
        let mut summary = Vec::new();
        let fixed = &self.summary;
        put(&mut summary, &[fixed.first_seq, fixed.count, fixed.end]);
        put(&mut summary, &[fixed.time_us.0 as u64, fixed.time_us.1 as u64]);
        let channels = fixed.channels.as_deref();
        put(&mut summary, &[channels.map_or(u64::MAX, |channels| channels.len() as u64)]);
        put_hashes(&mut summary, channels.unwrap_or_default());
        let mut blocks = Vec::new();
        for block in &self.blocks {
            put(&mut blocks, &[block.at, block.end, block.first_seq, u64::from(block.count)]);
            put(&mut blocks, &[block.time_us.0 as u64, block.time_us.1 as u64]);
            put(&mut blocks, &[block.offset.0, block.offset.1]);
            blocks.extend_from_slice(&(block.channels.len() as u32).to_le_bytes());
            put_hashes(&mut blocks, &block.channels);
        }
        let mut out = Vec::with_capacity(HEAD_BYTES + summary.len() + blocks.len());
        out.extend_from_slice(MAGIC);
        let head = [VERSION, summary.len() as u32, crc32c(&summary), blocks.len() as u32];
        for word in head.into_iter().chain([crc32c(&blocks)]) {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.extend_from_slice(&summary);
        out.extend_from_slice(&blocks);
        out
    }

    /// Reads a side file; `None` if it is damaged, of another version or of another segment.
    pub fn decode(bytes: &[u8], first_seq: u64) -> Option<Self> {
        let summary = Summary::decode(bytes, first_seq)?;
        let head = bytes.get(..HEAD_BYTES)?;
        let from = HEAD_BYTES + u32_at(head, 12) as usize;
        let body = bytes.get(from..)?.get(..u32_at(head, 20) as usize)?;
        if crc32c(body) != u32_at(head, 24) {
            return None;
        }
        let mut blocks = Vec::new();
        let mut rest = body;
        while !rest.is_empty() {
            let fixed = rest.get(..BLOCK_FIXED_BYTES + 4)?;
            let (channels, after) =
                take_hashes(rest.get(fixed.len()..)?, u32_at(fixed, 64) as usize)?;
            blocks.push(Arc::new(Block {
                at: u64_at(fixed, 0),
                end: u64_at(fixed, 8),
                first_seq: u64_at(fixed, 16),
                count: u32::try_from(u64_at(fixed, 24)).ok()?,
                time_us: (u64_at(fixed, 32) as i64, u64_at(fixed, 40) as i64),
                offset: (u64_at(fixed, 48), u64_at(fixed, 56)),
                channels,
            }));
            rest = after;
        }
        Some(Self { summary, blocks })
    }
}

impl Summary {
    /// Bytes at the front of a side file that hold any summary.
    pub const FILE_BYTES_MAX: usize = HEAD_BYTES + SUMMARY_FIXED_BYTES + SUMMARY_CHANNELS_MAX * 4;

    /// Reads the summary from the front of a side file.
    pub fn decode(bytes: &[u8], first_seq: u64) -> Option<Self> {
        let head = bytes.get(..HEAD_BYTES)?;
        if !head.starts_with(MAGIC) || u32_at(head, 8) != VERSION {
            return None;
        }
        let body = bytes.get(HEAD_BYTES..)?.get(..u32_at(head, 12) as usize)?;
        if crc32c(body) != u32_at(head, 16) || body.len() < SUMMARY_FIXED_BYTES {
            return None;
        }
        let channels = match u64_at(body, 40) {
            u64::MAX => None,
            count => {
                let count = usize::try_from(count).ok()?;
                Some(take_hashes(body.get(SUMMARY_FIXED_BYTES..)?, count)?.0)
            }
        };
        let summary = Self {
            first_seq: u64_at(body, 0),
            count: u64_at(body, 8),
            end: u64_at(body, 16),
            time_us: (u64_at(body, 24) as i64, u64_at(body, 32) as i64),
            channels,
        };
        (summary.first_seq == first_seq).then_some(summary)
    }
}

fn put(out: &mut Vec<u8>, words: &[u64]) {
    for word in words {
        out.extend_from_slice(&word.to_le_bytes());
    }
}

fn put_hashes(out: &mut Vec<u8>, hashes: &[u32]) {
    for hash in hashes {
        out.extend_from_slice(&hash.to_le_bytes());
    }
}

fn take_hashes(bytes: &[u8], count: usize) -> Option<(Box<[u32]>, &[u8])> {
    let (hashes, rest) = bytes.split_at_checked(count.checked_mul(4)?)?;
    Some(((0..count).map(|i| u32_at(hashes, i * 4)).collect(), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(events: u64, channels: u32) -> Index {
        let mut builder = IndexBuilder::new(10, 64);
        for i in 0..events {
            let channel = (i as u32 % channels) * 7;
            builder.add_raw(channel, i as i64 - 5, i + 1, 64 + (i + 1) * 100);
        }
        builder.finish()
    }

    #[test]
    fn an_index_reads_back_and_damage_makes_it_unreadable() {
        for (events, channels) in [(0, 1), (1, 1), (2_500, 3), (2_500, 700)] {
            let index = build(events, channels);
            assert_eq!(index.summary.count, events);
            assert_eq!(index.blocks.len() as u64, events.div_ceil(1000));
            assert_eq!(index.summary.channels.is_none(), channels > 256);
            let bytes = index.encode();
            assert_eq!(Index::decode(&bytes, 10), Some(index.clone()));
            assert_eq!(Index::decode(&bytes, 11), None, "another segment's");
            let front = &bytes[..bytes.len().min(Summary::FILE_BYTES_MAX)];
            assert_eq!(Summary::decode(front, 10), Some(index.summary));
            for at in (0..bytes.len()).step_by(if bytes.len() > 1000 { 97 } else { 1 }) {
                let mut damaged = bytes.clone();
                damaged[at] ^= 0x20;
                assert_eq!(Index::decode(&damaged, 10), None, "byte {at}");
                assert_eq!(Index::decode(&bytes[..at], 10), None, "cut {at}");
            }
        }
    }

    #[test]
    fn blocks_cover_the_segment_without_holes() {
        let index = build(2_500, 3);
        let (mut at, mut seq) = (64, 10);
        for block in &index.blocks {
            assert_eq!((block.at, block.first_seq), (at, seq));
            (at, seq) = (block.end, seq + u64::from(block.count));
        }
        assert_eq!((at, seq), (index.summary.end, 10 + index.summary.count));
    }
}
