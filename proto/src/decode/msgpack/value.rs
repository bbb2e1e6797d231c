//! MessagePack values: a reader of tokens, and their JSON.
//!
//! Every token is a number or a slice of the body. A value that announces more than there is, is a
//! fault before anything is done for it, since the least value takes a byte.
//!
//! What has a JSON form: `nil`, booleans, integers (up to 64 bits, digit by digit), floats that are
//! finite (as the shortest text of the double that they are), strings, arrays, and maps whose keys
//! are strings. Refused, with the reason: NaN and infinities, other keys, binary and extension
//! types inside of other values, nesting deeper than JSON data may.

use super::super::scan::DEPTH_MAX;
use super::super::{RejectCode, Rejection, utf8};
use crate::envelope::{write_json_string, write_number};
use smallvec::SmallVec;

/// Why the bytes have no meaning from here on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault {
    pub at: usize,
    pub what: &'static str,
}

/// A scalar, or the head of an array or map.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Token<'a> {
    Nil,
    Bool(bool),
    Unsigned(u64),
    /// Below zero, or written as a signed integer.
    Signed(i64),
    /// A float of either width.
    Float(f64),
    /// Not checked for UTF-8.
    Str(&'a [u8]),
    Bin(&'a [u8]),
    Ext(i8, &'a [u8]),
    /// So many values follow.
    Array(u32),
    /// So many pairs follow.
    Map(u32),
}

/// A cursor over a body.
#[derive(Debug, Clone)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub fn at(&self) -> usize {
        self.at
    }

    pub fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    pub fn fault<T>(&self, what: &'static str) -> Result<T, Fault> {
        Err(Fault { at: self.at, what })
    }

    /// Nothing may follow.
    pub fn end(&self) -> Result<(), Fault> {
        if self.is_at_end() { Ok(()) } else { self.fault("bytes after the value") }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        let end = self.at.checked_add(count);
        match end.and_then(|end| self.bytes.get(self.at..end)) {
            Some(taken) => {
                self.at += count;
                Ok(taken)
            }
            None => self.fault("ended inside a value"),
        }
    }

    /// A big-endian number of up to eight bytes.
    fn number(&mut self, bytes: usize) -> Result<u64, Fault> {
        Ok(self.take(bytes)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// A length or count of up to four bytes.
    fn count(&mut self, bytes: usize) -> Result<u32, Fault> {
        Ok(self.number(bytes)? as u32)
    }

    fn run(&mut self, length_bytes: usize) -> Result<&'a [u8], Fault> {
        let length = self.count(length_bytes)?;
        self.take(length as usize)
    }

    fn ext(&mut self, length: u32) -> Result<Token<'a>, Fault> {
        let kind = self.number(1)? as u8 as i8;
        Ok(Token::Ext(kind, self.take(length as usize)?))
    }

    /// The next token.
    pub fn token(&mut self) -> Result<Token<'a>, Fault> {
        let start = self.at;
        let first = self.number(1)? as u8;
        Ok(match first {
            0x00..=0x7f => Token::Unsigned(u64::from(first)),
            0x80..=0x8f => Token::Map(u32::from(first & 0x0f)),
            0x90..=0x9f => Token::Array(u32::from(first & 0x0f)),
            0xa0..=0xbf => Token::Str(self.take(usize::from(first & 0x1f))?),
            0xc0 => Token::Nil,
            0xc1 => return Err(Fault { at: start, what: "0xc1 is no type" }),
            0xc2 | 0xc3 => Token::Bool(first == 0xc3),
            0xc4..=0xc6 => Token::Bin(self.run(1 << (first - 0xc4))?),
            0xc7..=0xc9 => {
                let length = self.count(1 << (first - 0xc7))?;
                self.ext(length)?
            }
            0xca => Token::Float(f64::from(f32::from_bits(self.number(4)? as u32))),
            0xcb => Token::Float(f64::from_bits(self.number(8)?)),
            0xcc..=0xcf => Token::Unsigned(self.number(1 << (first - 0xcc))?),
            0xd0 => Token::Signed(i64::from(self.number(1)? as u8 as i8)),
            0xd1 => Token::Signed(i64::from(self.number(2)? as u16 as i16)),
            0xd2 => Token::Signed(i64::from(self.number(4)? as u32 as i32)),
            0xd3 => Token::Signed(self.number(8)? as i64),
            0xd4..=0xd8 => self.ext(1 << (first - 0xd4))?,
            0xd9..=0xdb => Token::Str(self.run(1 << (first - 0xd9))?),
            0xdc | 0xdd => Token::Array(self.count(2 << (first - 0xdc))?),
            0xde | 0xdf => Token::Map(self.count(2 << (first - 0xde))?),
            0xe0..=0xff => Token::Signed(i64::from(first as i8)),
        })
    }

    /// Passes over one value with everything in it, however deep: what is open is one number.
    pub fn skip(&mut self) -> Result<(), Fault> {
        let mut left = 1_u64;
        while left > 0 {
            let start = self.at;
            left -= 1;
            left += match self.token()? {
                Token::Array(count) => u64::from(count),
                Token::Map(count) => u64::from(count) * 2,
                _ => continue,
            };
            if left > (self.bytes.len() - self.at) as u64 {
                return Err(Fault {
                    at: start,
                    what: "announces more values than there are bytes",
                });
            }
        }
        Ok(())
    }
}

/// An array or map that is being written.
struct Level {
    left: u32,
    is_map: bool,
}

/// Writes the value at the cursor as JSON, at most `bytes_max` of it. The value must have been
/// passed over before.
pub(super) fn to_json(
    mut reader: Reader<'_>,
    name: &str,
    bytes_max: usize,
) -> Result<Vec<u8>, Rejection> {
    let mut out = Vec::new();
    let mut levels = SmallVec::<[Level; 16]>::new();
    let cut = |_| Rejection::new(RejectCode::InvalidMsgpack, "ended inside a value");
    loop {
        let token = reader.token().map_err(cut)?;
        let (open, close, left, is_map) = match token {
            Token::Array(count) => (b'[', b']', count, false),
            Token::Map(count) => (b'{', b'}', count, true),
            _ => (0, 0, 0, false),
        };
        if open == 0 {
            scalar(&mut out, token, name, bytes_max)?;
        } else {
            if levels.len() == DEPTH_MAX as usize {
                let detail = format!("`{name}` nests deeper than {DEPTH_MAX} levels");
                return Err(Rejection::new(RejectCode::TooDeep, detail));
            }
            out.push(open);
            if left > 0 {
                levels.push(Level { left, is_map });
                if is_map {
                    key(&mut out, reader.token().map_err(cut)?, name, bytes_max)?;
                }
                continue;
            }
            out.push(close);
        }
        // A value is complete: close what ends here, or go on with the next one.
        loop {
            if out.len() > bytes_max {
                return Err(too_large(name, bytes_max));
            }
            let Some(level) = levels.last_mut() else { return Ok(out) };
            level.left -= 1;
            if level.left > 0 {
                out.push(b',');
                if level.is_map {
                    key(&mut out, reader.token().map_err(cut)?, name, bytes_max)?;
                }
                break;
            }
            out.push(if level.is_map { b'}' } else { b']' });
            levels.pop();
        }
    }
}

fn too_large(name: &str, bytes_max: usize) -> Rejection {
    let code = if name == "data" { RejectCode::TooLarge } else { RejectCode::FieldTooLong };
    Rejection::new(code, format!("`{name}` is longer than {bytes_max} bytes as JSON"))
}

fn key(out: &mut Vec<u8>, token: Token<'_>, name: &str, bytes_max: usize) -> Result<(), Rejection> {
    if !matches!(token, Token::Str(_)) {
        return Err(Rejection::field(name, "has a map key that is not a string"));
    }
    scalar(out, token, name, bytes_max)?;
    out.push(b':');
    Ok(())
}

fn scalar(
    out: &mut Vec<u8>,
    token: Token<'_>,
    name: &str,
    bytes_max: usize,
) -> Result<(), Rejection> {
    match token {
        Token::Nil => out.extend_from_slice(b"null"),
        Token::Bool(true) => out.extend_from_slice(b"true"),
        Token::Bool(false) => out.extend_from_slice(b"false"),
        Token::Unsigned(number) => write_number(out, number),
        Token::Signed(number) => {
            if number < 0 {
                out.push(b'-');
            }
            write_number(out, number.unsigned_abs());
        }
        Token::Float(number) if number.is_finite() => {
            // Into memory it cannot fail.
            let _ = serde_json::to_writer(&mut *out, &number);
        }
        Token::Float(_) => {
            return Err(Rejection::field(name, "has a NaN or an infinity, which JSON has not"));
        }
        Token::Str(text) => {
            if out.len() + text.len() > bytes_max {
                return Err(too_large(name, bytes_max));
            }
            let Some(text) = utf8(text) else {
                let detail = format!("`{name}` has a string that is not UTF-8");
                return Err(Rejection::new(RejectCode::InvalidUtf8, detail));
            };
            write_json_string(out, text);
        }
        Token::Bin(_) => {
            let what = "has binary inside of another value, which JSON has not; send `data` as one \
                        `bin`, or base64 text";
            return Err(Rejection::field(name, what));
        }
        Token::Ext(..) | Token::Array(_) | Token::Map(_) => {
            return Err(Rejection::field(name, "has an extension type, which JSON has not"));
        }
    }
    Ok(())
}

/// The extension type -1 in its three widths; `None` if it is none, or out of range.
pub(super) fn timestamp_us(bytes: &[u8]) -> Option<i64> {
    let (seconds, nanos) = match bytes.len() {
        4 => (i64::from(u32::from_be_bytes(bytes.try_into().ok()?)), 0),
        8 => {
            let both = u64::from_be_bytes(bytes.try_into().ok()?);
            ((both & 0x3_ffff_ffff) as i64, both >> 34)
        }
        12 => {
            let (nanos, seconds) = bytes.split_first_chunk::<4>()?;
            (i64::from_be_bytes(seconds.try_into().ok()?), u64::from(u32::from_be_bytes(*nanos)))
        }
        _ => return None,
    };
    if nanos >= 1_000_000_000 {
        return None;
    }
    seconds.checked_mul(1_000_000)?.checked_add((nanos / 1_000) as i64)
}
