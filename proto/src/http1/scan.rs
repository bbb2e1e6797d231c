//! Finds the end of a head, over any split of the bytes.
//!
//! Invariant: looks at no byte beyond `Limits::head_bytes_max`, and reports the first offence in
//! order of position, so that the answer does not depend on how the bytes arrived.

use super::{HeadError, Limits};
use std::mem;

/// `method SP` before and `SP HTTP/1.1 CRLF` after the target.
const LINE_BYTES_BESIDE_TARGET: usize = METHOD_BYTES_MAX + 12;

/// The longest registered method has 17 bytes (UPDATEREDIRECTREF).
pub(super) const METHOD_BYTES_MAX: usize = 32;

/// Old clients send one CRLF too much after a body; nobody needs many.
const EMPTY_LINES_MAX: u8 = 2;

/// Checks the bytes at the start of a head, as many as there are yet.
pub(super) type CheckStart = fn(&[u8]) -> Result<(), HeadError>;

/// The scanner and its spill: the bytes of a head that is not complete. Freed when empty.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    spill: Vec<u8>,
    /// Bytes of the current head that were searched for LF already.
    scanned: u16,
    /// The first line is complete.
    line_seen: bool,
    empty_lines: u8,
}

impl Scanner {
    /// Takes bytes. Gives how many were taken and, when it is complete, the head with its blank
    /// line and without empty lines before it.
    pub(super) fn feed(
        &mut self,
        input: &[u8],
        limits: &Limits,
        check_start: CheckStart,
    ) -> Result<(usize, Option<Vec<u8>>), HeadError> {
        let rest = self.skip_empty_lines(input)?;
        let skipped = input.len() - rest.len();
        if rest.is_empty() {
            return Ok((skipped, None));
        }
        if self.spill.is_empty() {
            return Ok(match self.scan(rest, limits, check_start)? {
                Some(end) => {
                    *self = Self::default();
                    (skipped + end, rest.get(..end).map(<[u8]>::to_vec))
                }
                None => {
                    self.spill = rest.to_vec();
                    (input.len(), None)
                }
            });
        }
        let before = self.spill.len();
        let room = usize::from(limits.head_bytes_max).saturating_sub(before);
        let taken = rest.get(..room).unwrap_or(rest);
        self.spill.extend_from_slice(taken);
        let mut head = mem::take(&mut self.spill);
        Ok(match self.scan(&head, limits, check_start)? {
            Some(end) => {
                *self = Self::default();
                head.truncate(end);
                (skipped + end.saturating_sub(before), Some(head))
            }
            None => {
                self.spill = head;
                (skipped + taken.len(), None)
            }
        })
    }

    /// Bytes held for a partial head.
    pub(super) fn buffered_bytes(&self) -> usize {
        self.spill.capacity()
    }

    /// True between two heads.
    pub(super) fn is_idle(&self) -> bool {
        self.spill.is_empty()
    }

    //= rfc9112#2.2
    // A server ignores at least one empty line received before the request line.
    fn skip_empty_lines<'a>(&mut self, input: &'a [u8]) -> Result<&'a [u8], HeadError> {
        let mut rest = input;
        if self.spill == b"\r" && input.first() == Some(&b'\n') {
            self.spill = Vec::new();
            self.scanned = 0;
            self.count_empty_line()?;
            rest = input.get(1..).unwrap_or_default();
        }
        while self.spill.is_empty()
            && let Some(after) = rest.strip_prefix(b"\r\n")
        {
            self.count_empty_line()?;
            rest = after;
        }
        Ok(rest)
    }

    fn count_empty_line(&mut self) -> Result<(), HeadError> {
        self.empty_lines = self.empty_lines.saturating_add(1);
        if self.empty_lines > EMPTY_LINES_MAX { Err(HeadError::EmptyLines) } else { Ok(()) }
    }

    /// Where the head in `buffer` ends, if it does. Searches only what was not searched before.
    fn scan(
        &mut self,
        buffer: &[u8],
        limits: &Limits,
        check_start: CheckStart,
    ) -> Result<Option<usize>, HeadError> {
        let head_max = usize::from(limits.head_bytes_max);
        let line_max = usize::from(limits.target_bytes_max) + LINE_BYTES_BESIDE_TARGET;
        let too_long = HeadError::TargetTooLong { bytes_max: limits.target_bytes_max };
        let window = buffer.get(..head_max).unwrap_or(buffer);
        if window == b"\r" {
            return Ok(None); // perhaps half an empty line
        }
        check_start(window)?;
        let from = usize::from(self.scanned);
        for found in memchr::memchr_iter(b'\n', window.get(from..).unwrap_or_default()) {
            let at = from + found;
            if !self.line_seen && at >= line_max {
                return Err(too_long);
            }
            let line = window.get(..=at).unwrap_or_default();
            //= rfc9112#2.2
            // A recipient may take a bare LF as the end of a line; we do not, since others do not.
            if !line.ends_with(b"\r\n") {
                return Err(HeadError::BareLf);
            }
            if self.line_seen && line.ends_with(b"\r\n\r\n") {
                return Ok(Some(at + 1));
            }
            self.line_seen = true;
        }
        if !self.line_seen && window.len() >= line_max {
            return Err(too_long);
        }
        if window.len() >= head_max {
            return Err(HeadError::HeadTooLarge { bytes_max: limits.head_bytes_max });
        }
        // Below `head_max`, so it fits.
        self.scanned = u16::try_from(window.len()).unwrap_or(u16::MAX);
        Ok(None)
    }
}
