//! The Protobuf wire format: a borrowing reader and writers for single fields.
//!
//! For the few messages that this crate reads and writes by hand, so that `bytes` and `string`
//! fields stay slices of the buffer they came in. The reader keeps a slice and nothing else:
//! it allocates nothing and cannot be made to do more work than the bytes are long.
//!
//! Taken: any varint of up to ten bytes and 64 bits, padded with zero groups or not, as the
//! specification asks of a parser (encoding guide, protobuf.dev/programming-guides/encoding).
//! Refused: longer or larger varints, field number 0 and those over 29 bits, lengths beyond the
//! message, and groups (deprecated since proto2; no message here ever had one).
//!
//! Deliberately absent: descriptors, packed lists, field meaning (see `centrifuge`). Tested here
//! and against `prost` as the second opinion, by tables and by fuzzing.

/// What stops a reader: nothing behind it has a meaning any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum WireError {
    /// A varint, a fixed field or a length-delimited field is longer than what is there.
    #[error("Protobuf ends inside a field")]
    Truncated,
    /// A varint of more than ten bytes or 64 bits.
    #[error("Protobuf varint over 64 bits")]
    Varint,
    /// Field number 0, or over 29 bits.
    #[error("Protobuf field number out of range")]
    FieldNumber,
    /// A group, or one of the two wire types that do not exist.
    #[error("Protobuf wire type is a group or unknown")]
    WireType,
}

/// One field's value as it stands on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire<'a> {
    /// Every integer, `bool` and enumeration.
    Varint(u64),
    /// `fixed64`, `sfixed64`, `double`.
    Fixed64(u64),
    /// `string`, `bytes`, embedded messages, packed lists.
    Bytes(&'a [u8]),
    /// `fixed32`, `sfixed32`, `float`.
    Fixed32(u32),
}

/// Reads the fields of one message, or the length-prefixed messages of a stream.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What was not read yet.
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next field with its number; `None` at the end of the message.
    pub fn field(&mut self) -> Result<Option<(u32, Wire<'a>)>, WireError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let number = key >> 3;
        if number == 0 || number > u64::from(FIELD_NUMBER_MAX) {
            return Err(WireError::FieldNumber);
        }
        let value = match key & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Fixed64(u64::from_le_bytes(self.chunk()?)),
            2 => Wire::Bytes(self.prefixed()?),
            5 => Wire::Fixed32(u32::from_le_bytes(self.chunk()?)),
            _ => return Err(WireError::WireType),
        };
        Ok(Some((number as u32, value)))
    }

    /// The next length-prefixed message; `None` at the end.
    pub fn message(&mut self) -> Result<Option<&'a [u8]>, WireError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        self.prefixed().map(Some)
    }

    /// One varint.
    pub fn varint(&mut self) -> Result<u64, WireError> {
        let (value, rest) = split_varint(self.rest)?.ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(value)
    }

    fn prefixed(&mut self) -> Result<&'a [u8], WireError> {
        let len = self.varint()?;
        let len = usize::try_from(len).map_err(|_| WireError::Truncated)?;
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(bytes)
    }

    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (chunk, rest) = self.rest.split_first_chunk().ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(*chunk)
    }
}

/// A varint at the start of `bytes` and what follows it; `None` if more bytes are needed to tell,
/// which a stream has to wait for.
pub fn split_varint(bytes: &[u8]) -> Result<Option<(u64, &[u8])>, WireError> {
    let mut value = 0_u64;
    for (at, byte) in bytes.iter().enumerate().take(VARINT_BYTES_MAX) {
        let low = u64::from(byte & 0x7f);
        // The tenth byte holds the 64th bit and nothing else.
        if at == VARINT_BYTES_MAX - 1 && *byte > 1 {
            return Err(WireError::Varint);
        }
        value |= low << (at * 7);
        if *byte < 0x80 {
            return Ok(Some((value, bytes.get(at + 1..).unwrap_or_default())));
        }
    }
    Ok(None)
}

/// Appends a varint in as few bytes as it needs.
pub fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The bytes that [`write_varint`] takes for a value.
pub const fn varint_bytes(value: u64) -> usize {
    (70 - (value | 1).leading_zeros() as usize) / 7
}

/// Appends a varint field: every integer, `bool` and enumeration. Signed numbers of the types
/// `int32` and `int64` are given as the two's complement of 64 bits.
pub fn write_varint_field(out: &mut Vec<u8>, number: u32, value: u64) {
    write_varint(out, u64::from(number) << 3);
    write_varint(out, value);
}

/// Appends a `string` or `bytes` field.
pub fn write_bytes_field(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    write_varint(out, u64::from(number) << 3 | 2);
    write_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends what `write` appends behind its length; see [`Prefix::open`].
pub fn write_prefixed(out: &mut Vec<u8>, guess: usize, write: impl FnOnce(&mut Vec<u8>)) {
    let prefix = Prefix::open(out, guess);
    write(out);
    prefix.close(out);
}

/// Room for a length whose message is being written.
#[derive(Debug)]
#[must_use = "the length is written by `close`"]
pub struct Prefix {
    at: usize,
    kept: usize,
}

impl Prefix {
    /// Leaves room for a length. `guess` is about how many bytes will follow: only if its length
    /// takes more or fewer bytes than the real one, the message is moved once.
    pub fn open(out: &mut Vec<u8>, guess: usize) -> Self {
        let (at, kept) = (out.len(), varint_bytes(guess as u64));
        out.resize(at + kept, 0);
        Self { at, kept }
    }

    /// Appends the key of an embedded message and leaves room for its length.
    pub fn open_field(out: &mut Vec<u8>, number: u32, guess: usize) -> Self {
        write_varint(out, u64::from(number) << 3 | 2);
        Self::open(out, guess)
    }

    /// Writes the length of what was appended since.
    pub fn close(self, out: &mut Vec<u8>) {
        let Self { at, kept } = self;
        let len = out.len() - at - kept;
        let needed = varint_bytes(len as u64);
        if needed > kept {
            out.resize(at + needed + len, 0);
        }
        if needed != kept {
            out.copy_within(at + kept..at + kept + len, at + needed);
            out.truncate(at + needed + len);
        }
        let mut rest = len as u64;
        for place in out.iter_mut().skip(at).take(needed) {
            *place = rest as u8 & 0x7f | if rest >= 0x80 { 0x80 } else { 0 };
            rest >>= 7;
        }
    }
}

/// The longest varint.
pub const VARINT_BYTES_MAX: usize = 10;

/// The largest field number: 29 bits.
pub const FIELD_NUMBER_MAX: u32 = (1 << 29) - 1;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_varint_is_at_most_ten_bytes_and_64_bits() {
        let check = |bytes: &[u8], expected: Result<Option<u64>, WireError>| {
            let read = split_varint(bytes).map(|read| read.map(|(value, _)| value));
            assert_eq!(read, expected, "{bytes:x?}");
        };
        check(&[], Ok(None));
        check(&[0], Ok(Some(0)));
        check(&[0x96, 1], Ok(Some(150)));
        check(&[0x80, 0], Ok(Some(0)));
        check(&[0x80; 9], Ok(None));
        check(&[0xff; 10], Err(WireError::Varint));
        check(&[[0xff; 9].as_slice(), &[1]].concat(), Ok(Some(u64::MAX)));
        check(&[[0xff; 9].as_slice(), &[2]].concat(), Err(WireError::Varint));
        check(&[[0x80; 10].as_slice(), &[0]].concat(), Err(WireError::Varint));
    }

    #[test]
    fn what_is_no_field_is_an_error() {
        let check = |bytes: &[u8], expected: WireError| {
            assert_eq!(Reader::new(bytes).field(), Err(expected), "{bytes:x?}");
        };
        check(&[0x08], WireError::Truncated);
        check(&[0x08, 0x80], WireError::Truncated);
        check(&[0x0a, 2, 1], WireError::Truncated);
        check(&[&[0x0a][..], &[0xff; 9], &[1]].concat(), WireError::Truncated);
        check(&[0x09, 1, 2, 3, 4, 5, 6, 7], WireError::Truncated);
        check(&[0x0d, 1, 2, 3], WireError::Truncated);
        check(&[0x00, 1], WireError::FieldNumber);
        check(&[0x80, 0x80, 0x80, 0x80, 0x10, 1], WireError::FieldNumber);
        for wire_type in [3, 4, 6, 7] {
            check(&[0x08 | wire_type, 1], WireError::WireType);
        }
        assert_eq!(Reader::new(&[0x0d, 1, 0, 0, 0]).field(), Ok(Some((1, Wire::Fixed32(1)))));
        assert_eq!(Reader::new(&[]).field(), Ok(None));
    }

    #[test]
    fn every_length_is_written_where_it_belongs() {
        let lengths = [0, 1, 127, 128, 129, 16_383, 16_384, 2_097_152];
        for (len, guess) in lengths.into_iter().flat_map(|len| lengths.map(|guess| (len, guess))) {
            let mut out = b"before".to_vec();
            let prefix = Prefix::open_field(&mut out, 3, guess);
            out.extend((0..len).map(|at| at as u8));
            prefix.close(&mut out);
            let mut reader = Reader::new(&out[6..]);
            let Ok(Some((3, Wire::Bytes(bytes)))) = reader.field() else { panic!("{len}") };
            assert!(bytes.len() == len && bytes.iter().zip(0..).all(|(a, b)| *a == b as u8));
            assert_eq!(reader.field(), Ok(None));
        }
    }

    proptest! {
        #[test]
        fn numbers_read_back(value: u64, shift in 0_u32..64, number in 1..=FIELD_NUMBER_MAX) {
            let value = value >> shift;
            let mut out = Vec::new();
            write_varint(&mut out, value);
            prop_assert_eq!(out.len(), varint_bytes(value));
            prop_assert_eq!(split_varint(&out), Ok(Some((value, [].as_slice()))));
            for cut in 0..out.len() {
                prop_assert_eq!(split_varint(&out[..cut]), Ok(None));
            }
            out.clear();
            write_varint_field(&mut out, number, value);
            write_bytes_field(&mut out, number, b"ab");
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.field(), Ok(Some((number, Wire::Varint(value)))));
            prop_assert_eq!(reader.field(), Ok(Some((number, Wire::Bytes(b"ab")))));
            prop_assert_eq!(reader.rest(), b"");
        }

        #[test]
        fn any_bytes_end(bytes: Vec<u8>) {
            let mut reader = Reader::new(&bytes);
            let mut left = bytes.len() + 1;
            while let Ok(Some(_)) = reader.field() {
                prop_assert!(reader.rest().len() < left);
                left = reader.rest().len();
            }
        }
    }
}
