//! Positions: where an event stands in its channel, and the cursor over several channels.
//!
//! Offsets per channel are 1, 2, 3 ... without holes under one [`Epoch`]. *A position never names
//! two events.* Clients treat the text forms as opaque; parsing them accepts exactly what we print.

use std::fmt;
use std::str::FromStr;

/// The lineage of a data directory (upper half: random, new after every unclean stop) and the
/// incarnation of the channel under it (lower half: a re-created channel gets a new one).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(pub u64);

impl Epoch {
    /// Joins the two halves.
    pub const fn new(lineage: u32, incarnation: u32) -> Self {
        Self((lineage as u64) << 32 | incarnation as u64)
    }

    /// The run lineage.
    pub const fn lineage(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The channel's incarnation.
    pub const fn incarnation(self) -> u32 {
        self.0 as u32
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Epoch {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() != 16 || !text.bytes().all(hex) {
            return Err(PositionError);
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| PositionError)
    }
}

/// A place in one channel: the last event seen. Offset 0 is "before the first event".
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// Which run and incarnation counted the offset.
    pub epoch: Epoch,
    /// 1 for the first event.
    pub offset: u64,
}

/// The longest text of a [`Position`], in bytes: 16 hex digits, a colon, 20 decimal digits.
pub const POSITION_BYTES_MAX: usize = 37;

/// The text was not written by us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a position; expected `<epoch>:<offset>` as the server sent it")]
pub struct PositionError;

impl Position {
    /// Appends the text form without going through `fmt` (it is on the path of every frame).
    pub fn write_to(self, out: &mut Vec<u8>) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        for nibble in (0..16).rev() {
            let digit = (self.epoch.0 >> (nibble * 4)) & 0xf;
            out.push(HEX.get(digit as usize).copied().unwrap_or(b'0'));
        }
        out.push(b':');
        out.extend_from_slice(itoa::Buffer::new().format(self.offset).as_bytes());
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.offset)
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Position {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        let (epoch, offset) = text.split_once(':').ok_or(PositionError)?;
        let epoch = epoch.parse()?;
        let digits = !offset.is_empty() && offset.bytes().all(|b| b.is_ascii_digit());
        if !digits || (offset.len() > 1 && offset.starts_with('0')) {
            return Err(PositionError);
        }
        Ok(Self { epoch, offset: offset.parse().map_err(|_| PositionError)? })
    }
}

/// The positions of several channels, in the order in which the request named them: what one SSE
/// `id:` line carries when a stream has more than one channel. The text is
/// `m<hash of the channel list>,<position>,<position>,...`; the hash makes a cursor of another
/// list recognisable, so that it becomes a gap and never a wrong resume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// FNV-1a over the channel names, each ended by a zero byte.
    pub channels_hash: u32,
    /// One per channel; `None` where the channel's position is not known yet (`-` in the text).
    pub positions: Vec<Option<Position>>,
}

impl Cursor {
    /// The hash that binds a cursor to its list of channels.
    pub fn hash_channels<'a>(names: impl IntoIterator<Item = &'a str>) -> u32 {
        let mut hash = 0x811c_9dc5_u32;
        for name in names {
            for byte in name.bytes().chain([0]) {
                hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
            }
        }
        hash
    }

    /// Appends the text form.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("m{:08x}", self.channels_hash).as_bytes());
        for position in &self.positions {
            out.push(b',');
            match position {
                Some(position) => position.write_to(out),
                None => out.push(b'-'),
            }
        }
    }
}

impl FromStr for Cursor {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        let mut parts = text.split(',');
        let head = parts.next().and_then(|head| head.strip_prefix('m')).ok_or(PositionError)?;
        if head.len() != 8 {
            return Err(PositionError);
        }
        let channels_hash = u32::from_str_radix(head, 16).map_err(|_| PositionError)?;
        let positions = parts
            .map(|part| match part {
                "-" => Ok(None),
                part => part.parse().map(Some),
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self { channels_hash, positions })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_reads_back_and_nothing_else_reads() {
        let position = Position { epoch: Epoch::new(0xdead_beef, 7), offset: 42 };
        let mut text = Vec::new();
        position.write_to(&mut text);
        assert_eq!(text, b"deadbeef00000007:42");
        assert_eq!(position.to_string().as_bytes(), text);
        assert_eq!("deadbeef00000007:42".parse(), Ok(position));
        for bad in ["", ":", "x:1", "deadbeef00000007", "deadbeef00000007:", "DEADBEEF00000007:1"] {
            assert_eq!(bad.parse::<Position>(), Err(PositionError), "{bad}");
        }
        for bad in
            ["deadbeef00000007:01", "deadbeef00000007:+1", "deadbeef00000007:99999999999999999999"]
        {
            assert_eq!(bad.parse::<Position>(), Err(PositionError), "{bad}");
        }
    }

    #[test]
    fn a_cursor_is_bound_to_its_channels() {
        let cursor = Cursor {
            channels_hash: Cursor::hash_channels(["a", "b"]),
            positions: vec![Some(Position { epoch: Epoch(1), offset: 2 }), None],
        };
        let mut text = Vec::new();
        cursor.write_to(&mut text);
        assert_eq!(std::str::from_utf8(&text).unwrap().parse(), Ok(cursor.clone()));
        assert_ne!(cursor.channels_hash, Cursor::hash_channels(["b", "a"]));
        assert_ne!(Cursor::hash_channels(["ab"]), Cursor::hash_channels(["a", "b"]));
    }
}
