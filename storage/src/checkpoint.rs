//! The checkpoint: what a scan of the segments up to a place would find, so that a start reads
//! only what came after it.
//!
//! Written whole to a temporary file, synced, renamed. Only synced events are in it. A damaged
//! checkpoint is never trusted in part: the start then scans every segment and says so.

use crate::channels::{ChannelState, Channels, TOPS_MAX};
use crate::format::{u32_at, u64_at};
use crc32c::crc32c;
use proto::channel::ChannelName;

/// Name of the file.
pub const NAME: &str = "CHECKPOINT";
/// Longest checkpoint read: ten million channels with long names.
pub const BYTES_MAX: u64 = 4 << 30;

const MAGIC: &[u8; 8] = b"SHCCKP\r\n";
const VERSION: u32 = 1;
const HEAD_BYTES: usize = 16;
const FIXED_BYTES: usize = 24;

/// What is in the file.
#[derive(Debug, Default)]
pub struct Checkpoint {
    /// The lineage that wrote it.
    pub lineage: u32,
    /// The highest incarnation in use, stored or not.
    pub incarnation_max: u32,
    /// The sequence number of the first event that is not in it: the scan goes on in the segment
    /// that holds it.
    pub next_seq: u64,
    pub(crate) channels: Channels,
}

/// Encodes; returns the bytes and their checksum (which `CLEAN` repeats).
pub(crate) fn encode(lineage: u32, next_seq: u64, channels: &Channels) -> (Vec<u8>, u32) {
    let mut out = Vec::with_capacity(HEAD_BYTES + FIXED_BYTES + channels.len() * 48);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&lineage.to_le_bytes());
    out.extend_from_slice(&channels.incarnation_max.to_le_bytes());
    for word in [next_seq, channels.len() as u64] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    for (name, state) in channels.iter() {
        let name = name.as_str().as_bytes();
        out.push(name.len() as u8);
        out.extend_from_slice(name);
        out.extend_from_slice(&state.incarnation.to_le_bytes());
        out.extend_from_slice(&state.last_seq.to_le_bytes());
        out.push((state.old_tops.len() + 1) as u8);
        for (lineage, offset) in state.tops() {
            out.extend_from_slice(&lineage.to_le_bytes());
            out.extend_from_slice(&offset.to_le_bytes());
        }
    }
    let crc = crc32c(&out[HEAD_BYTES..]);
    out[12..16].copy_from_slice(&crc.to_le_bytes());
    (out, crc)
}

impl Checkpoint {
    /// Reads a checkpoint and its checksum; `None` if it is damaged or of another version.
    pub fn decode(bytes: &[u8]) -> Option<(Self, u32)> {
        let head = bytes.get(..HEAD_BYTES)?;
        if !head.starts_with(MAGIC) || u32_at(head, 8) != VERSION {
            return None;
        }
        let body = bytes.get(HEAD_BYTES..)?;
        let crc = crc32c(body);
        if crc != u32_at(head, 12) || body.len() < FIXED_BYTES {
            return None;
        }
        let mut checkpoint = Self {
            lineage: u32_at(body, 0),
            incarnation_max: u32_at(body, 4),
            next_seq: u64_at(body, 8),
            channels: Channels::default(),
        };
        let mut rest = body.get(FIXED_BYTES..)?;
        for _ in 0..u64_at(body, 16) {
            let (name, state, after) = take_channel(rest)?;
            checkpoint.channels.restore(name, state);
            rest = after;
        }
        let incarnation_max = &mut checkpoint.channels.incarnation_max;
        *incarnation_max = checkpoint.incarnation_max.max(*incarnation_max);
        rest.is_empty().then_some((checkpoint, crc))
    }
}

fn take_channel(bytes: &[u8]) -> Option<(ChannelName, ChannelState, &[u8])> {
    let (len, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(*len))?;
    let name = ChannelName::new(std::str::from_utf8(name).ok()?).ok()?;
    let (fixed, rest) = rest.split_at_checked(13)?;
    let count = usize::from(*fixed.last()?);
    if count == 0 || count > TOPS_MAX + 1 {
        return None;
    }
    let (tops, rest) = rest.split_at_checked(count * 12)?;
    let mut old_tops: Vec<(u32, u64)> =
        (0..count).map(|i| (u32_at(tops, i * 12), u64_at(tops, i * 12 + 4))).collect();
    let (lineage, last_offset) = old_tops.pop()?;
    old_tops.shrink_to_fit();
    let state = ChannelState {
        incarnation: u32_at(fixed, 0),
        last_seq: u64_at(fixed, 4),
        last_offset,
        lineage,
        old_tops,
    };
    Some((name, state, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::position::{Epoch, Position};

    #[test]
    fn a_checkpoint_reads_back_and_every_damaged_byte_is_noticed() {
        let mut channels = Channels::default();
        for (seq, (name, lineage)) in [("a", 1), ("b:c", 1), ("a", 2)].into_iter().enumerate() {
            let position = Position { epoch: Epoch::new(lineage, 4), offset: seq as u64 + 1 };
            channels.apply(name, position, seq as u64, 100);
        }
        channels.incarnation_max = 9;
        let (bytes, crc) = encode(2, 3, &channels);
        let (read, read_crc) = Checkpoint::decode(&bytes).unwrap();
        assert_eq!(crc, read_crc);
        assert_eq!((read.lineage, read.incarnation_max, read.next_seq), (2, 9, 3));
        let all = |channels: &Channels| {
            let mut all: Vec<_> =
                channels.iter().map(|(name, state)| (name.clone(), state.clone())).collect();
            all.sort_by(|a, b| a.0.cmp(&b.0));
            all
        };
        assert_eq!(all(&read.channels), all(&channels));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert!(Checkpoint::decode(&damaged).is_none(), "byte {at}");
            assert!(Checkpoint::decode(&bytes[..at]).is_none(), "cut {at}");
        }
    }
}
