//! The two small text files that say which run wrote the directory: `META` (every lineage, oldest
//! first) and `CLEAN` (present only between a clean stop and the next start).
//!
//! Invariants: a lineage is in `META`, synced, before the first event under it exists; `CLEAN` is
//! gone, synced, before anything else of a new run is written. Both end with a checksum line.
//! A damaged `META` costs nothing but old resumes (segment headers name their lineages too); a
//! damaged `CLEAN` counts as an unclean stop.

use crc32c::crc32c;
use std::fmt::Write;

/// Name of the lineage list.
pub const META_NAME: &str = "META";
/// Name of the marker of a clean stop.
pub const CLEAN_NAME: &str = "CLEAN";
/// Name of the lock file.
pub const LOCK_NAME: &str = "LOCK";
/// Lineages kept; the oldest go first, and their positions then answer as unknown. An unclean
/// stop every hour for five months.
pub const LINEAGES_MAX: usize = 4_096;
/// Longest `META` read.
pub const META_BYTES_MAX: u64 = 1 << 20;

const META_TITLE: &str = "shardcast spool 1";
const CLEAN_TITLE: &str = "shardcast clean stop 1";

/// The lineages, oldest first.
pub fn encode_meta(lineages: &[u32]) -> Vec<u8> {
    let mut text = format!("{META_TITLE}\n");
    for lineage in lineages {
        let _ = writeln!(text, "lineage {lineage:08x}");
    }
    seal(text)
}

/// Why a `META` could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetaError {
    /// Damaged.
    Damaged,
    /// Of a later format.
    Newer,
}

/// Reads the lineages back.
pub fn decode_meta(bytes: &[u8]) -> Result<Vec<u32>, MetaError> {
    let text = unseal(bytes).ok_or(MetaError::Damaged)?;
    let mut lines = text.lines();
    match lines.next() {
        Some(META_TITLE) => {}
        Some(title) if title.starts_with("shardcast spool ") => return Err(MetaError::Newer),
        _ => return Err(MetaError::Damaged),
    }
    let lineage = |line: &str| u32::from_str_radix(line.strip_prefix("lineage ")?, 16).ok();
    lines.map(lineage).collect::<Option<_>>().ok_or(MetaError::Damaged)
}

/// What a clean stop leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clean {
    /// The lineage that goes on.
    pub lineage: u32,
    /// The sequence number the next event gets: everything before it is in the spool.
    pub next_seq: u64,
    /// The checksum of the checkpoint written just before.
    pub checkpoint_crc: u32,
}

impl Clean {
    /// The file's bytes.
    pub fn encode(&self) -> Vec<u8> {
        seal(format!(
            "{CLEAN_TITLE}\nlineage {:08x}\nnext {}\ncheckpoint {:08x}\n",
            self.lineage, self.next_seq, self.checkpoint_crc
        ))
    }

    /// Reads the file back.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let text = unseal(bytes)?;
        let mut lines = text.lines();
        if lines.next()? != CLEAN_TITLE {
            return None;
        }
        let mut value = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
        let hex = |text: &str| u32::from_str_radix(text, 16).ok();
        let lineage = hex(value("lineage")?)?;
        let next_seq = value("next")?.parse().ok()?;
        let checkpoint_crc = hex(value("checkpoint")?)?;
        Some(Self { lineage, next_seq, checkpoint_crc })
    }
}

pub(crate) fn seal(mut text: String) -> Vec<u8> {
    let crc = crc32c(text.as_bytes());
    let _ = writeln!(text, "crc {crc:08x}");
    text.into_bytes()
}

pub(crate) fn unseal(bytes: &[u8]) -> Option<&str> {
    const LAST_LINE_BYTES: usize = "crc 01234567\n".len();
    let (text, last) = bytes.split_at_checked(bytes.len().checked_sub(LAST_LINE_BYTES)?)?;
    let expected = format!("crc {:08x}\n", crc32c(text));
    if last != expected.as_bytes() {
        return None;
    }
    std::str::from_utf8(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_files_read_back_and_every_damaged_byte_is_noticed() {
        let meta = encode_meta(&[1, 0xdead_beef]);
        assert_eq!(decode_meta(&meta), Ok(vec![1, 0xdead_beef]));
        let clean = Clean { lineage: 3, next_seq: 77, checkpoint_crc: 9 };
        assert_eq!(Clean::decode(&clean.encode()), Some(clean));
        for at in 0..meta.len() {
            let mut damaged = meta.clone();
            damaged[at] ^= 1;
            assert_eq!(decode_meta(&damaged), Err(MetaError::Damaged), "byte {at}");
            assert_eq!(decode_meta(&meta[..at]), Err(MetaError::Damaged), "cut {at}");
        }
        let clean = clean.encode();
        for at in 0..clean.len() {
            let mut damaged = clean.clone();
            damaged[at] ^= 1;
            assert_eq!(Clean::decode(&damaged), None, "byte {at}");
            assert_eq!(Clean::decode(&clean[..at]), None, "cut {at}");
        }
        assert_eq!(decode_meta(&seal("shardcast spool 2\n".into())), Err(MetaError::Newer));
    }
}
