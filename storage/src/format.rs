//! The segment format, version 1: header, records, marks. Pure: bytes in, bytes out.
//!
//! A segment is a 64-byte header and then records `length u32, crc u32, body`, little endian. The
//! CRC32C covers the length and the body. Length zero (the preallocated tail) ends the segment.
//! A body is an event image (its first byte is the image's version, never 0) or a *mark* (first
//! byte 0). Every round of group commit starts with a mark; a round is written only after the one
//! before it was synced, so **a mark proves that everything before it was synced**. That is what
//! tells a torn tail (nothing proves that the damaged place was ever durable) from damage to
//! synced data (a later mark does). The salt in header and marks is random and never leaves the
//! data directory: no publisher can put a valid mark into an event.
//!
//! docs/internals/spool-format.md describes the same for people; `tests/golden/v1` keeps files
//! that must be read for ever. Deliberately absent: I/O (see `scan`) and compression.

use crc32c::{crc32c, crc32c_append};

/// The version this code writes.
pub const VERSION: u32 = 1;
/// Bytes of the segment header.
pub const HEADER_BYTES: u64 = 64;
/// Bytes before a record's body: its length and its checksum.
pub const RECORD_HEADER_BYTES: u64 = 8;
/// Bytes of a whole mark record.
pub const MARK_BYTES: u64 = RECORD_HEADER_BYTES + MARK_BODY_BYTES as u64;
/// The name under which the next segment is prepared.
pub const NEXT_NAME: &str = "next.tmp";

const MAGIC: &[u8; 8] = b"SHCSEG\r\n";
const MARK_BODY_BYTES: usize = 32;
const MARK_MAGIC: &[u8; 8] = b"\0SHCMARK";

/// What a segment says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The run lineage that wrote it.
    pub lineage: u32,
    /// The sequence number of its first event; also its name.
    pub first_seq: u64,
    /// When it was begun, microseconds since the Unix epoch.
    pub created_us: i64,
    /// Random; binds marks to this file.
    pub salt: u64,
}

/// Why a header was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Fewer bytes than a header.
    #[error("the file is shorter than a segment header")]
    Short,
    /// Only zeros: begun, never written.
    #[error("the header was never written")]
    Blank,
    /// Another kind of file.
    #[error("the file is not a segment")]
    Magic,
    /// A later format.
    #[error("segment format version {0} is newer than this server reads (1); run the newer server")]
    Version(u32),
    /// Damaged.
    #[error("the header's checksum does not match")]
    Checksum,
}

impl Header {
    /// The header's bytes.
    pub fn encode(&self) -> [u8; HEADER_BYTES as usize] {
        let mut bytes = [0; HEADER_BYTES as usize];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.lineage.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first_seq.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.created_us.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.salt.to_le_bytes());
        let crc = crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a header.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let bytes = bytes.get(..HEADER_BYTES as usize).ok_or(HeaderError::Short)?;
        if bytes.iter().all(|b| *b == 0) {
            return Err(HeaderError::Blank);
        }
        if !bytes.starts_with(MAGIC) {
            return Err(HeaderError::Magic);
        }
        if u32_at(bytes, 60) != crc32c(&bytes[..60]) {
            return Err(HeaderError::Checksum);
        }
        if u32_at(bytes, 8) != VERSION {
            return Err(HeaderError::Version(u32_at(bytes, 8)));
        }
        Ok(Self {
            lineage: u32_at(bytes, 12),
            first_seq: u64_at(bytes, 16),
            created_us: u64_at(bytes, 24) as i64,
            salt: u64_at(bytes, 32),
        })
    }
}

/// The start of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The segment's salt.
    pub salt: u64,
    /// The file offset of the mark record itself: everything before it was synced.
    pub at: u64,
    /// The sequence number of the next event.
    pub seq: u64,
}

impl Mark {
    /// The whole mark record.
    pub fn encode(&self) -> [u8; MARK_BYTES as usize] {
        let mut record = [0; MARK_BYTES as usize];
        let (head, body) = record.split_at_mut(RECORD_HEADER_BYTES as usize);
        body[..8].copy_from_slice(MARK_MAGIC);
        body[8..16].copy_from_slice(&self.salt.to_le_bytes());
        body[16..24].copy_from_slice(&self.at.to_le_bytes());
        body[24..].copy_from_slice(&self.seq.to_le_bytes());
        head[..4].copy_from_slice(&(body.len() as u32).to_le_bytes());
        head[4..].copy_from_slice(&record_crc(body).to_le_bytes());
        record
    }

    /// Reads a mark's body (the checksum was checked by the caller).
    pub fn decode(body: &[u8]) -> Option<Self> {
        if body.len() != MARK_BODY_BYTES || !body.starts_with(MARK_MAGIC) {
            return None;
        }
        Some(Self { salt: u64_at(body, 8), at: u64_at(body, 16), seq: u64_at(body, 24) })
    }

    /// The first true mark of `salt` in `bytes`, which begin at file offset `base`: one that
    /// stands where it says it stands, and behind file offset `after`.
    pub fn find(bytes: &[u8], base: u64, salt: u64, after: u64) -> Option<Self> {
        let mut from = 0;
        while let Some(found) = bytes
            .get(from..)
            .and_then(|rest| rest.windows(MARK_MAGIC.len()).position(|window| window == MARK_MAGIC))
        {
            let body_at = from + found;
            from = body_at + 1;
            let Some(record_at) = body_at.checked_sub(RECORD_HEADER_BYTES as usize) else {
                continue;
            };
            let Some(body) = bytes.get(body_at..body_at + MARK_BODY_BYTES) else { continue };
            let stored = u32_at(bytes, record_at + 4);
            let Some(mark) = Self::decode(body) else { continue };
            let here = mark.at == base + record_at as u64 && mark.salt == salt && mark.at > after;
            if here && stored == record_crc(body) {
                return Some(mark);
            }
        }
        None
    }
}

/// The checksum of a record: over the length and the body.
pub fn record_crc(body: &[u8]) -> u32 {
    crc32c_append(crc32c(&(body.len() as u32).to_le_bytes()), body)
}

/// Appends a record.
pub fn push_record(out: &mut Vec<u8>, body: &[u8]) {
    debug_assert!(!body.is_empty() && u32::try_from(body.len()).is_ok());
    out.reserve(RECORD_HEADER_BYTES as usize + body.len());
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(&record_crc(body).to_le_bytes());
    out.extend_from_slice(body);
}

/// The name of the segment that begins with event `first_seq`.
pub fn segment_name(first_seq: u64) -> String {
    format!("{first_seq:020}.seg")
}

/// The name of its index.
pub fn index_name(first_seq: u64) -> String {
    format!("{first_seq:020}.idx")
}

/// Reads a name back.
pub fn parse_name(name: &str, extension: &str) -> Option<u64> {
    let digits = name.strip_suffix(extension)?.strip_suffix('.')?;
    let legal = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
    legal.then(|| digits.parse().ok())?
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |b| u32::from_le_bytes(*b))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |b| u64::from_le_bytes(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header { lineage: 7, first_seq: 12, created_us: -3, salt: 99 };

    #[test]
    fn a_header_reads_back_and_every_damaged_byte_is_noticed() {
        let bytes = HEADER.encode();
        assert_eq!(Header::decode(&bytes), Ok(HEADER));
        for at in 0..bytes.len() {
            let mut damaged = bytes;
            damaged[at] ^= 0x40;
            assert!(Header::decode(&damaged).is_err(), "byte {at}");
            assert_eq!(Header::decode(&bytes[..at]), Err(HeaderError::Short));
        }
        assert_eq!(Header::decode(&[0; 64]), Err(HeaderError::Blank));
    }

    #[test]
    fn a_mark_is_found_only_where_it_says_it_stands_and_with_the_salt() {
        let mark = Mark { salt: 5, at: 1000, seq: 3 };
        let mut bytes = b"junk \0SHCMARK junk".to_vec();
        let base = 1000 - bytes.len() as u64;
        bytes.extend_from_slice(&mark.encode());
        bytes.extend_from_slice(b"more");
        assert_eq!(Mark::find(&bytes, base, 5, 0), Some(mark));
        assert_eq!(Mark::find(&bytes, base, 5, 1000), None, "not behind");
        assert_eq!(Mark::find(&bytes, base, 6, 0), None, "another file's salt");
        assert_eq!(Mark::find(&bytes, base + 1, 5, 0), None, "another place");
        let last = bytes.len() - 5;
        bytes[last] ^= 1;
        assert_eq!(Mark::find(&bytes, base, 5, 0), None, "damaged");
    }

    #[test]
    fn names_read_back_and_nothing_else_reads() {
        assert_eq!(segment_name(42), "00000000000000000042.seg");
        assert_eq!(parse_name("00000000000000000042.seg", "seg"), Some(42));
        for bad in ["42.seg", "0000000000000000004x.seg", "00000000000000000042.idx", "next.tmp"] {
            assert_eq!(parse_name(bad, "seg"), None, "{bad}");
        }
        assert_eq!(parse_name("99999999999999999999.seg", "seg"), None);
    }
}
