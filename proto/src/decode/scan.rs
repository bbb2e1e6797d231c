//! The JSON scanner: complete RFC 8259 syntax in one pass, no tree, no allocation, no recursion.
//!
//! It answers "is this a value, and where does it end", and hands the members of one object to a
//! visitor as ranges. Nesting is a bit stack in a `u128`, so depth costs no memory and cannot
//! overflow a thread's stack. It works on bytes: whether an item is UTF-8 is checked once over the
//! whole item afterwards (strings end at ASCII bytes, so that order loses nothing).
//!
//! Deliberately absent: values (one scalar at a path is `pick`'s). Numbers keep the text they came
//! with, strings are unescaped by `serde_json` in the rare case that they have escapes. That is
//! also the second opinion in the tests and in the fuzz target.

/// How deep `data` may nest. An envelope inside the array of a history answer adds three levels,
/// and 127 is where `serde_json` and others give up: whatever we accept, clients can read.
pub(super) const DEPTH_MAX: u32 = 124;

/// A range of the scanned bytes holding one JSON value. `end == 0` means absent.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Raw {
    pub start: usize,
    pub end: usize,
    /// A string that has at least one backslash.
    pub escaped: bool,
}

impl Raw {
    pub fn is_absent(self) -> bool {
        self.end == 0
    }

    /// The bytes; a string's include its quotes.
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// A string's bytes between the quotes, escapes as they stand.
    pub fn inner(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.start + 1..self.end.saturating_sub(1)).unwrap_or_default()
    }
}

/// Why the scan cannot go on: what follows has no meaning any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    pub at: usize,
    pub what: &'static str,
    pub too_deep: bool,
}

#[derive(Debug)]
pub(crate) struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    pub fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub fn at(&self) -> usize {
        self.at
    }

    pub fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Skips one byte if it is this one.
    pub fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    pub fn skip_space(&mut self) {
        self.at = after_space(self.bytes, self.at);
    }

    pub fn fault<T>(&self, what: &'static str) -> Result<T, Fault> {
        fault(self.at, what)
    }

    /// Nothing but white space may follow.
    pub fn end(&mut self) -> Result<(), Fault> {
        self.skip_space();
        if self.at == self.bytes.len() { Ok(()) } else { self.fault("text after the value") }
    }

    /// Scans the object at the cursor and shows each member. Members are shown in order, and
    /// duplicates and unknown names too: judging them is the visitor's business.
    pub fn object(&mut self, mut visit: impl FnMut(&'a [u8], Raw, Raw)) -> Result<(), Fault> {
        if !self.eat(b'{') {
            return self.fault("expected `{`");
        }
        self.skip_space();
        if self.eat(b'}') {
            return Ok(());
        }
        loop {
            let name = self.key()?;
            let value = self.value()?;
            visit(self.bytes, name, value);
            self.skip_space();
            if self.eat(b'}') {
                return Ok(());
            }
            if !self.eat(b',') {
                return self.fault("expected `,` or `}`");
            }
            self.skip_space();
        }
    }

    /// Scans the array at the cursor and shows each item.
    pub fn array(&mut self, mut visit: impl FnMut(Raw)) -> Result<(), Fault> {
        if !self.eat(b'[') {
            return self.fault("expected `[`");
        }
        self.skip_space();
        if self.eat(b']') {
            return Ok(());
        }
        loop {
            visit(self.value()?);
            self.skip_space();
            if self.eat(b']') {
                return Ok(());
            }
            if !self.eat(b',') {
                return self.fault("expected `,` or `]`");
            }
            self.skip_space();
        }
    }

    /// Goes to the value of the object's first member of that name; false if the cursor is not at
    /// an object or the object has no such member. Nothing behind the member is looked at.
    pub fn enter(&mut self, name: &str) -> Result<bool, Fault> {
        if !self.eat(b'{') {
            return Ok(false);
        }
        self.skip_space();
        if self.peek() == Some(b'}') {
            return Ok(false);
        }
        loop {
            let key = self.key()?;
            let found = if key.escaped {
                serde_json::from_slice::<String>(key.of(self.bytes)).is_ok_and(|key| key == name)
            } else {
                key.inner(self.bytes) == name.as_bytes()
            };
            if found {
                return Ok(true);
            }
            self.value()?;
            self.skip_space();
            if !self.eat(b',') {
                return Ok(false);
            }
            self.skip_space();
        }
    }

    /// Scans the value at the cursor, of any kind.
    pub fn value(&mut self) -> Result<Raw, Fault> {
        let start = self.at;
        let (end, escaped) = value_end(self.bytes, start)?;
        self.at = end;
        Ok(Raw { start, end, escaped })
    }

    /// A member's name and its colon, up to the value.
    fn key(&mut self) -> Result<Raw, Fault> {
        let start = self.at;
        let (end, escaped) = match self.peek() {
            Some(b'"') => string_end(self.bytes, start)?,
            _ => return fault(start, "expected a member name in quotes"),
        };
        self.at = after_colon(self.bytes, end)?;
        Ok(Raw { start, end, escaped })
    }
}

// What follows are plain functions from a place to the place after it. They are inlined into
// `value_end`, whose cursor then lives in a register: through `&mut self` it lived in memory.

/// The end of the value at `at`, and whether it is a string with escapes.
fn value_end(bytes: &[u8], mut at: usize) -> Result<(usize, bool), Fault> {
    // One bit a level, the innermost lowest: 1 is an object.
    let mut stack = 0_u128;
    let mut depth = 0;
    let mut escaped = false;
    loop {
        match bytes.get(at) {
            Some(b'"') => (at, escaped) = string_end(bytes, at)?,
            Some(open @ (b'{' | b'[')) => {
                if depth == DEPTH_MAX {
                    return Err(Fault { at, what: "nested too deep", too_deep: true });
                }
                let is_object = *open == b'{';
                at = after_space(bytes, at + 1);
                if bytes.get(at) != Some(if is_object { &b'}' } else { &b']' }) {
                    stack = stack << 1 | u128::from(is_object);
                    depth += 1;
                    if is_object {
                        at = after_key(bytes, at)?;
                    }
                    continue;
                }
                at += 1;
            }
            Some(b'-' | b'0'..=b'9') => at = number_end(bytes, at)?,
            Some(b't') => at = literal_end(bytes, at, b"true")?,
            Some(b'f') => at = literal_end(bytes, at, b"false")?,
            Some(b'n') => at = literal_end(bytes, at, b"null")?,
            Some(_) => return fault(at, "expected a value"),
            None => return fault(at, "ended where a value was expected"),
        }
        // A value is complete: close what ends here, or go on with the next one.
        loop {
            if depth == 0 {
                return Ok((at, escaped));
            }
            at = after_space(bytes, at);
            let in_object = stack & 1 == 1;
            match bytes.get(at) {
                Some(b',') => {
                    at = after_space(bytes, at + 1);
                    if in_object {
                        at = after_key(bytes, at)?;
                    }
                    break;
                }
                Some(b'}') if in_object => {}
                Some(b']') if !in_object => {}
                Some(_) if in_object => return fault(at, "expected `,` or `}`"),
                Some(_) => return fault(at, "expected `,` or `]`"),
                None => return fault(at, "ended inside an object or array"),
            }
            at += 1;
            stack >>= 1;
            depth -= 1;
        }
    }
}

#[cold]
fn fault<T>(at: usize, what: &'static str) -> Result<T, Fault> {
    Err(Fault { at, what, too_deep: false })
}

#[inline(always)]
fn after_space(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\n' | b'\r') = bytes.get(at) {
        at += 1;
    }
    at
}

/// Past a member's name and its colon.
#[inline(always)]
fn after_key(bytes: &[u8], at: usize) -> Result<usize, Fault> {
    if bytes.get(at) != Some(&b'"') {
        return fault(at, "expected a member name in quotes");
    }
    let (end, _) = string_end(bytes, at)?;
    after_colon(bytes, end)
}

#[inline(always)]
fn after_colon(bytes: &[u8], at: usize) -> Result<usize, Fault> {
    let at = after_space(bytes, at);
    if bytes.get(at) != Some(&b':') {
        return fault(at, "expected `:` after a member name");
    }
    Ok(after_space(bytes, at + 1))
}

/// The end of the string whose opening quote is at `at`, and whether it has escapes.
#[inline(always)]
fn string_end(bytes: &[u8], at: usize) -> Result<(usize, bool), Fault> {
    let end = plain_end(bytes, at + 1);
    if bytes.get(end) == Some(&b'"') {
        return Ok((end + 1, false));
    }
    rare_string_end(bytes, end).map(|end| (end, true))
}

/// The rest of a string from its first backslash, or what is wrong with it.
#[cold]
fn rare_string_end(bytes: &[u8], mut at: usize) -> Result<usize, Fault> {
    loop {
        match bytes.get(at) {
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') => at = escape_end(bytes, at + 1)?,
            Some(_) => return fault(at, "control character in a string"),
            None => return fault(at, "ended inside a string"),
        }
        at = plain_end(bytes, at);
    }
}

fn escape_end(bytes: &[u8], at: usize) -> Result<usize, Fault> {
    match bytes.get(at) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 1),
        Some(b'u') => {
            let digits = bytes.get(at + 1..).and_then(|rest| rest.first_chunk::<4>());
            if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
                return fault(at, "expected four hex digits after `\\u`");
            }
            Ok(at + 5)
        }
        _ => fault(at, "unknown escape in a string"),
    }
}

//= rfc8259#6
/// An optional minus, no leading zeros, digits on both sides of the point.
#[inline(always)]
fn number_end(bytes: &[u8], mut at: usize) -> Result<usize, Fault> {
    at += usize::from(bytes.get(at) == Some(&b'-'));
    at = match bytes.get(at) {
        Some(b'0') => at + 1,
        _ => digits_end(bytes, at)?,
    };
    if bytes.get(at) == Some(&b'.') {
        at = digits_end(bytes, at + 1)?;
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        at += 1;
        at += usize::from(matches!(bytes.get(at), Some(b'+' | b'-')));
        at = digits_end(bytes, at)?;
    }
    Ok(at)
}

#[inline(always)]
fn digits_end(bytes: &[u8], mut at: usize) -> Result<usize, Fault> {
    let start = at;
    while bytes.get(at).is_some_and(u8::is_ascii_digit) {
        at += 1;
    }
    if at == start { fault(at, "expected a digit") } else { Ok(at) }
}

#[inline(always)]
fn literal_end(bytes: &[u8], at: usize, word: &'static [u8]) -> Result<usize, Fault> {
    if bytes.get(at..).is_some_and(|rest| rest.starts_with(word)) {
        return Ok(at + word.len());
    }
    fault(at, "expected `true`, `false` or `null`")
}

/// Where the run of plain string bytes from `at` ends: at a quote, a backslash, a control
/// character or the end of the bytes. Eight bytes at a time: a borrow can only make bytes *above*
/// a real hit look like hits, so the lowest one is exact. Sixteen as vector compares were slower
/// by 75 ns an item: most names and values end within the first eight.
#[inline]
pub(crate) fn plain_end(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*chunk);
        let equals = |byte: u8| {
            let difference = word ^ (ONES * u64::from(byte));
            difference.wrapping_sub(ONES) & !difference
        };
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        let hits = (equals(b'"') | equals(b'\\') | control) & HIGHS;
        if hits != 0 {
            return at + hits.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let tail = bytes.get(at..).unwrap_or_default();
    at + tail.iter().position(|b| is_special(*b)).unwrap_or(tail.len())
}

#[inline]
fn is_special(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    fn scan(text: &[u8]) -> Result<(), Fault> {
        let mut scanner = Scanner::new(text, 0);
        scanner.skip_space();
        scanner.value()?;
        scanner.end()
    }

    fn agrees(text: &[u8]) {
        let other = serde_json::from_slice::<Box<RawValue>>(text);
        let utf8 = std::str::from_utf8(text).is_ok();
        assert_eq!(
            scan(text).is_ok() && utf8,
            other.is_ok(),
            "{:?}: {:?} {other:?}",
            String::from_utf8_lossy(text),
            scan(text)
        );
    }

    #[test]
    fn every_corner_of_the_grammar_agrees_with_serde_json() {
        for text in [
            "",
            " ",
            "null",
            "nul",
            "nulll",
            "true",
            "false",
            "tru",
            "\"\"",
            "\"",
            "\"a",
            "\"\\\"",
            "\"\\\\\"",
            "\"\\u00e9\"",
            "\"\\u00e\"",
            "\"\\ud800\"",
            "\"\\x\"",
            "\"\t\"",
            "\"\u{7f}\"",
            "\"\u{1f}\"",
            "\"é\"",
            "0",
            "-0",
            "-",
            "01",
            "1.",
            ".1",
            "1.0",
            "1e",
            "1e+",
            "1e+1",
            "1E-10",
            "1.5e3",
            "+1",
            "1e999",
            "NaN",
            "Infinity",
            "[]",
            "[",
            "]",
            "[1]",
            "[1,]",
            "[,1]",
            "[1 2]",
            "[1,2]",
            "{}",
            "{",
            "}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1}",
            "{\"a\":1,}",
            "{,}",
            "{a:1}",
            "{\"a\":1 \"b\":2}",
            "{\"a\":1,\"b\":[{}]}",
            "[}",
            "{]",
            "[{]}",
            "{\"a\":[}]",
            "{1:2}",
            " [ 1 , { \"a\" : [ ] } ] ",
            "[1]x",
            "1 1",
            "\u{feff}1",
            "'a'",
            "/**/1",
            "[1,2",
            "{\"a\":1",
            "\"0123456\\",
            "\"01234567\u{1}\"",
            "\"0123456789012345678901234567890123456789\"",
        ] {
            agrees(text.as_bytes());
        }
        agrees(b"\"\xff\"");
        agrees(b"\"\xc0\xaf\"");
    }

    #[test]
    fn nesting_is_cut_at_the_limit_without_using_the_stack() {
        let nested = |depth: usize, open: &str, close: &str| {
            format!("{}1{}", open.repeat(depth), close.repeat(depth))
        };
        let limit = DEPTH_MAX as usize;
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            assert_eq!(scan(nested(limit, open, close).as_bytes()), Ok(()));
            assert!(scan(nested(limit + 1, open, close).as_bytes()).unwrap_err().too_deep);
            assert!(scan(nested(1_000_000, open, close).as_bytes()).unwrap_err().too_deep);
        }
    }

    #[test]
    fn a_string_ends_at_the_first_special_byte_wherever_it_stands() {
        for special in [b'"', b'\\', 0, 0x1f, b'\n'] {
            for at in 0..40 {
                for other in [b'a', 0x20, 0x21, 0x23, 0x5b, 0x5d, 0x7f, 0x80, 0xa2, 0xdc, 0xff] {
                    let mut bytes = vec![other; 40];
                    bytes[at] = special;
                    assert_eq!(plain_end(&bytes, 0), at, "{special:#x} after {other:#x}");
                    assert_eq!(plain_end(&bytes, at / 2), at);
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn any_text_of_json_letters_agrees_with_serde_json(
            text in proptest::collection::vec(
                proptest::sample::select(&b"{}[]:,\"\\ \n0123-+.eEtrufalsn/b\xc3\xa9\x01"[..]), 0..24)
        ) {
            agrees(&text);
        }

        #[test]
        fn damaged_json_agrees_with_serde_json(at in 0_usize..60, byte: u8) {
            let mut text = br#" {"a":[1,-2.5e+3,"x\u00e9\n",true,null,{"b":{}}],"c":"\"" } "#.to_vec();
            if let Some(place) = text.get_mut(at) {
                *place = byte;
            }
            agrees(&text);
        }
    }
}
