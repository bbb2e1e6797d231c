//! The field lines of a head: owned bytes and 16-bit spans into them.
//!
//! Names are lower-cased once when parsed, so that lookups and HTTP/2 agree on their form.

use super::HeadError;
use smallvec::{SmallVec, smallvec};

/// A range of a head's bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Span {
    start: u16,
    end: u16,
}

impl Span {
    pub(super) fn new(start: usize, end: usize) -> Self {
        // Heads are at most 64 KiB - 1 (`Limits::head_bytes_max`).
        let short = |at: usize| u16::try_from(at).unwrap_or(u16::MAX);
        Self { start: short(start), end: short(end) }
    }

    pub(super) fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(usize::from(self.start)..usize::from(self.end)).unwrap_or_default()
    }

    /// For spans known to be ASCII.
    pub(super) fn text(self, bytes: &[u8]) -> &str {
        std::str::from_utf8(self.of(bytes)).unwrap_or_default()
    }

    pub(super) fn is_empty(self) -> bool {
        self.start >= self.end
    }
}

/// A head's bytes and the field lines in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fields {
    pub(super) bytes: Vec<u8>,
    lines: Vec<(Span, Span)>,
}

impl Fields {
    /// Parses the field lines of `head`, which starts at `from` and ends with the blank line.
    pub(super) fn parse(head: Vec<u8>, from: usize, max: u16) -> Result<Self, HeadError> {
        let lines = parse_lines(&head, from, max)?;
        let mut bytes = head;
        for (name, _) in &lines {
            if let Some(name) = bytes.get_mut(usize::from(name.start)..usize::from(name.end)) {
                name.make_ascii_lowercase();
            }
        }
        Ok(Self { bytes, lines })
    }

    /// Every field line in order: lower-case name, value without surrounding white space.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.lines.iter().map(|(name, value)| (name.text(&self.bytes), value.of(&self.bytes)))
    }

    /// The values of every line of that name, in order. The name's case does not matter.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.iter().filter(move |line| line.0.eq_ignore_ascii_case(name)).map(|line| line.1)
    }

    pub(super) fn spans(&self, name: &'static str) -> impl Iterator<Item = Span> {
        let named = move |line: &&(Span, Span)| line.0.of(&self.bytes) == name.as_bytes();
        self.lines.iter().filter(named).map(|line| line.1)
    }

    /// The first value of that name.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.all(name).next()
    }

    /// The first value of that name, if it is UTF-8.
    pub fn get_str(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Is the token a member of the comma-separated lists of that name? Case does not matter.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.all(name).any(|value| has_token(value, token))
    }

    /// Bytes of heap held.
    pub fn heap_bytes(&self) -> usize {
        self.bytes.capacity() + self.lines.capacity() * size_of::<(Span, Span)>()
    }
}

fn parse_lines(head: &[u8], from: usize, max: u16) -> Result<Vec<(Span, Span)>, HeadError> {
    let block = head.get(from..).unwrap_or_default();
    let count = memchr::memchr_iter(b'\n', block).count().saturating_sub(1);
    if count > usize::from(max) {
        return Err(HeadError::TooManyHeaders { max });
    }
    let mut parsed: SmallVec<[httparse::Header<'_>; 24]> = smallvec![httparse::EMPTY_HEADER; count];
    // httparse refuses what RFC 9112 section 5 tells servers to refuse: space before the colon,
    // folded lines, control characters. Bare LF it would take: the scanner refused that before.
    let status = httparse::parse_headers(block, &mut parsed).map_err(field_error)?;
    let httparse::Status::Complete((_, parsed)) = status else {
        return Err(HeadError::FieldName); // the scanner found the end, so this is not reached
    };
    let base = head.as_ptr().addr();
    let span = |part: &[u8]| {
        let start = part.as_ptr().addr().saturating_sub(base);
        if part.is_empty() { Span::default() } else { Span::new(start, start + part.len()) }
    };
    Ok(parsed.iter().map(|line| (span(line.name.as_bytes()), span(line.value))).collect())
}

fn field_error(error: httparse::Error) -> HeadError {
    match error {
        httparse::Error::HeaderValue | httparse::Error::NewLine => HeadError::FieldValue,
        _ => HeadError::FieldName,
    }
}

/// The members of a comma-separated list, trimmed, empty ones left out (RFC 9110 section 5.6.1).
pub fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(trim_ows).filter(|token| !token.is_empty())
}

/// Is the token a member of the comma-separated list? Case does not matter.
pub fn has_token(value: &[u8], token: &str) -> bool {
    tokens(value).any(|member| member.eq_ignore_ascii_case(token.as_bytes()))
}

fn trim_ows(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}
