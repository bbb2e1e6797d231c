//! Percent-decoding of path segments and query strings, strict: a `%` without two hexadecimal
//! digits is an error to be answered with 400, and so is text that is not UTF-8.
//!
//! Deliberately absent: normalisation of `.` and `..`; whoever maps paths to files refuses them.

use percent_encoding::percent_decode;
use std::borrow::Cow;

/// Why a path segment or a query could not be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A `%` that is not followed by two hexadecimal digits.
    #[error("a percent sign in the URL is not followed by two hexadecimal digits")]
    Percent,
    /// The decoded bytes are not UTF-8.
    #[error("a percent-encoded part of the URL is not UTF-8")]
    Utf8,
}

/// The decoded segments of a path: what stands between its slashes, so `/a/b` has two. An encoded
/// slash stays inside its segment.
pub fn path_segments(path: &str) -> impl Iterator<Item = Result<Cow<'_, str>, DecodeError>> {
    path.strip_prefix('/').unwrap_or(path).split('/').map(decode_segment)
}

/// Decodes one path segment.
pub fn decode_segment(segment: &str) -> Result<Cow<'_, str>, DecodeError> {
    if !segment.contains('%') {
        return Ok(Cow::Borrowed(segment));
    }
    check_percent(segment)?;
    percent_decode(segment.as_bytes()).decode_utf8().map_err(|_| DecodeError::Utf8)
}

/// The decoded `(key, value)` pairs of a query, in order, as forms encode them: `+` is a space.
/// A pair without `=` has an empty value; empty pairs are left out.
pub fn query_pairs(query: &str) -> QueryPairs<'_> {
    QueryPairs { rest: query }
}

/// See [`query_pairs`].
#[derive(Debug, Clone)]
pub struct QueryPairs<'a> {
    rest: &'a str,
}

impl<'a> Iterator for QueryPairs<'a> {
    type Item = Result<(Cow<'a, str>, Cow<'a, str>), DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let (pair, rest) = self.rest.split_once('&').unwrap_or((self.rest, ""));
            self.rest = rest;
            if pair.is_empty() {
                continue;
            }
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            return Some(
                decode_form(key).and_then(|key| decode_form(value).map(|value| (key, value))),
            );
        }
        None
    }
}

fn decode_form(part: &str) -> Result<Cow<'_, str>, DecodeError> {
    if !part.contains('+') {
        return decode_segment(part);
    }
    decode_segment(&part.replace('+', " ")).map(|part| Cow::Owned(part.into_owned()))
}

fn check_percent(text: &str) -> Result<(), DecodeError> {
    let bytes = text.as_bytes();
    let is_hex = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
    if memchr::memchr_iter(b'%', bytes).all(|at| is_hex(at + 1) && is_hex(at + 2)) {
        Ok(())
    } else {
        Err(DecodeError::Percent)
    }
}
