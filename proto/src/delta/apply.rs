//! Base and delta to target.

use super::{DeltaError, checksum, value_of};

/// Applies a delta. `bytes_max` bounds the target; nothing is reserved on the delta's word alone.
pub fn apply(base: &[u8], delta: &[u8], bytes_max: u32) -> Result<Vec<u8>, DeltaError> {
    let mut rest = delta;
    let length = take_number(&mut rest)?;
    if take_byte(&mut rest)? != b'\n' {
        return Err(DeltaError::Header);
    }
    if length > bytes_max {
        return Err(DeltaError::TooBig);
    }
    let length = length as usize;
    let mut target = Vec::with_capacity(length.min(base.len() + delta.len()));
    loop {
        let number = take_number(&mut rest)?;
        let operator = take_byte(&mut rest)?;
        let run = match operator {
            b'@' => take_copy(&mut rest, base, number as usize)?,
            b':' => rest.split_off(..number as usize).ok_or(DeltaError::Truncated)?,
            b';' => {
                check_end(&target, length, number, rest)?;
                return Ok(target);
            }
            _ => return Err(DeltaError::Operator),
        };
        if run.len() > length - target.len() {
            return Err(DeltaError::Length);
        }
        target.extend_from_slice(run);
    }
}

fn check_end(target: &[u8], length: usize, sum: u32, rest: &[u8]) -> Result<(), DeltaError> {
    if target.len() != length {
        return Err(DeltaError::Length);
    }
    if sum != checksum(target) {
        return Err(DeltaError::Checksum);
    }
    if rest.is_empty() { Ok(()) } else { Err(DeltaError::Trailing) }
}

/// The rest of `<count>@<offset>,` and what it names.
fn take_copy<'b>(rest: &mut &[u8], base: &'b [u8], count: usize) -> Result<&'b [u8], DeltaError> {
    let offset = take_number(rest)? as usize;
    if take_byte(rest)? != b',' {
        return Err(DeltaError::Operator);
    }
    let tail = base.get(offset..).ok_or(DeltaError::CopyRange)?;
    tail.get(..count).ok_or(DeltaError::CopyRange)
}

fn take_byte(rest: &mut &[u8]) -> Result<u8, DeltaError> {
    rest.split_off_first().copied().ok_or(DeltaError::Truncated)
}

/// A number ends at the first byte that is no digit. There is always one behind it.
fn take_number(rest: &mut &[u8]) -> Result<u32, DeltaError> {
    let mut number = None;
    loop {
        let Some(byte) = rest.first() else { return Err(DeltaError::Truncated) };
        let Some(value) = value_of(*byte) else { return number.ok_or(DeltaError::Number) };
        let high = number.unwrap_or(0_u32);
        if high >> 26 != 0 {
            return Err(DeltaError::Number);
        }
        number = Some(high << 6 | value);
        take_byte(rest)?;
    }
}
