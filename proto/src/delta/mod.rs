//! Fossil deltas: what changed from one payload of a channel to the next.
//!
//! A delta is `<target length>\n`, then `<count>@<offset>,` for bytes copied from the base and
//! `<count>:<bytes>` for bytes inserted, then `<checksum>;`. Numbers are in base 64, most
//! significant digit first; the checksum is the sum of the target's big-endian 32-bit words.
//! Written by [`Differ`], read by [`apply()`]; what either writes, Fossil and the `fossil-delta`
//! JavaScript package (which SDKs carry) read, and the other way round.
//!
//! For JSON a delta travels as a JSON string, so it has to be text: [`Differ::create_text`] begins
//! and ends every copied and every inserted run between characters of base and target.
//!
//! Bounded: base and target up to the limit that [`Differ::new`] was given, a hash table and a
//! chain whose sizes follow the base, at most [`PROBES_MAX`] candidates looked at per position, a
//! delta shorter than its target or none. [`apply()`] ends at its caller's limit.
//!
//! Deliberately absent: when a delta may be sent and to whom (the subscription's), and how the JSON
//! string around it is escaped.
//! Lives on shard threads: one [`Differ`] each, one creation per event. Tested: `tests.rs`, vectors
//! and clients of the JavaScript package; fuzzed by `tests/fuzz` `delta`.

mod apply;
mod create;

#[cfg(test)]
mod tests;

pub use apply::apply;
pub use create::{Differ, PROBES_MAX};

/// Why a delta does not apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum DeltaError {
    /// A digit was expected, or a number has more than 32 bits.
    #[error("a number is missing or has more than 32 bits")]
    Number,
    /// The first number does not end with a line feed.
    #[error("the target length does not end with a line feed")]
    Header,
    /// The target would be longer than the caller permits.
    #[error("the target is over the size limit")]
    TooBig,
    /// Neither `@`, `:` nor `;` follows a number, or a copy does not end with `,`.
    #[error("unknown operator")]
    Operator,
    /// The delta ends before its checksum, or inside an inserted run.
    #[error("the delta is cut short")]
    Truncated,
    /// A copy reaches past the end of the base.
    #[error("a copy reaches past the end of the base")]
    CopyRange,
    /// The target is longer or shorter than the header says.
    #[error("the target is not as long as the delta says")]
    Length,
    /// The checksum is that of another target: another base, or damage.
    #[error("the checksum does not match")]
    Checksum,
    /// Something follows the checksum.
    #[error("something follows the end of the delta")]
    Trailing,
}

/// The digits of base 64 in Fossil's order.
const DIGITS: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~";

/// The value of a digit.
const fn value_of(digit: u8) -> Option<u32> {
    let value = match digit {
        b'0'..=b'9' => digit - b'0',
        b'A'..=b'Z' => digit - b'A' + 10,
        b'_' => 36,
        b'a'..=b'z' => digit - b'a' + 37,
        b'~' => 63,
        _ => return None,
    };
    Some(value as u32)
}

/// Appends a number.
fn write_number(out: &mut Vec<u8>, number: u32) {
    let digits = digits_in(number);
    for place in (0..digits).rev() {
        let digit = number >> (6 * place) & 63;
        out.extend(DIGITS.get(digit as usize));
    }
}

/// How many digits a number has, at least one.
const fn digits_in(number: u32) -> u32 {
    if number == 0 { 1 } else { (37 - number.leading_zeros()) / 6 }
}

/// The sum of the big-endian 32-bit words, the last one filled up with zeros.
fn checksum(bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<4>();
    let sum = words.iter().fold(0_u32, |sum, word| sum.wrapping_add(u32::from_be_bytes(*word)));
    let mut last = [0; 4];
    last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    sum.wrapping_add(u32::from_be_bytes(last))
}
