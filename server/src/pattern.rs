//! Which channels a key, a token or a call is for: names with wildcards.

/// The longest glob, in bytes.
const GLOB_BYTES_MAX: usize = 512;

/// One piece of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Byte(u8),
    /// Any one byte.
    One,
    /// Any bytes, also none and also a colon.
    Any,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Box<[Piece]>);

impl Pattern {
    /// Exactly one channel, whatever characters its name has.
    pub fn exact(text: &str) -> Self {
        Self(text.bytes().map(Piece::Byte).collect())
    }

    /// `*` is any run of characters; everything else is itself.
    pub fn wildcard(text: &str) -> Self {
        let piece = |byte| if byte == b'*' { Piece::Any } else { Piece::Byte(byte) };
        Self(text.bytes().map(piece).collect())
    }

    /// `*` is any run of characters, `?` is one, `\` makes what follows stand for itself; the empty
    /// one is every name. Brackets and braces mean something elsewhere, so that they must be
    /// written with a `\`. `Err` says what is wrong.
    pub fn glob(text: &str) -> Result<Self, &'static str> {
        if text.len() > GLOB_BYTES_MAX {
            return Err("longer than 512 bytes");
        }
        if text.is_empty() {
            return Ok(Self([Piece::Any].into()));
        }
        let mut pieces = Vec::with_capacity(text.len());
        let mut bytes = text.bytes();
        while let Some(byte) = bytes.next() {
            pieces.push(match byte {
                b'*' => Piece::Any,
                b'?' => Piece::One,
                b'\\' => Piece::Byte(bytes.next().ok_or("nothing follows the `\\` at its end")?),
                b'[' | b']' | b'{' | b'}' => {
                    return Err("use `*` and `?`; brackets and braces need a `\\` before them");
                }
                byte => Piece::Byte(byte),
            });
        }
        Ok(Self(pieces.into()))
    }

    /// Heap held, for the ledger.
    pub fn memory_bytes(&self) -> usize {
        size_of_val(&*self.0)
    }

    /// Whether a name is one of these. Takes at most the product of both lengths in
    /// steps, and names have at most 255 bytes.
    pub fn matches(&self, name: &str) -> bool {
        let (pieces, name) = (&self.0, name.as_bytes());
        let (mut at, mut from) = (0, 0);
        // Where the last run began, and how much of the name it has taken.
        let mut run: Option<(usize, usize)> = None;
        while from < name.len() {
            match pieces.get(at) {
                Some(Piece::Any) => {
                    run = Some((at, from));
                    at += 1;
                    continue;
                }
                Some(Piece::One) => {
                    (at, from) = (at + 1, from + 1);
                    continue;
                }
                Some(Piece::Byte(byte)) if name.get(from) == Some(byte) => {
                    (at, from) = (at + 1, from + 1);
                    continue;
                }
                _ => {}
            }
            let Some((begin, taken)) = run else { return false };
            run = Some((begin, taken + 1));
            (at, from) = (begin + 1, taken + 1);
        }
        pieces.iter().skip(at).all(|piece| *piece == Piece::Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_characters_and_everything_else_is_itself() {
        let yes = [
            ("*", "orders:eu"),
            ("orders:*", "orders:"),
            ("orders:*", "orders:eu"),
            ("orders:*:eu", "orders:a:b:eu"),
            ("*eu", "orders:eu"),
            ("a*b*c", "aXbYbc"),
            ("**", "x"),
            ("orders", "orders"),
        ];
        for (pattern, channel) in yes {
            assert!(Pattern::wildcard(pattern).matches(channel), "{pattern} {channel}");
        }
        let no = [
            ("orders:*", "orders"),
            ("orders:*", "Orders:eu"),
            ("orders:*", "xorders:eu"),
            ("orders", "orders:eu"),
            ("orders", "order"),
            ("a*b*c", "aXbYb"),
            ("", "a"),
            ("*eu", "orders:eu2"),
        ];
        for (pattern, channel) in no {
            assert!(!Pattern::wildcard(pattern).matches(channel), "{pattern} {channel}");
        }
        assert!(Pattern::exact("a*").matches("a*") && !Pattern::exact("a*").matches("ab"));
    }

    #[test]
    fn a_hostile_pattern_ends_soon() {
        let pattern = Pattern::wildcard(&format!("{}b", "*a".repeat(120)));
        assert!(!pattern.matches(&"a".repeat(255)));
        assert!(pattern.matches(&format!("{}b", "a".repeat(254))));
    }

    #[test]
    fn globs_match_what_they_say() {
        let check = |pattern: &str, name: &str, expected: bool| {
            let parsed = Pattern::glob(pattern).expect("legal");
            assert_eq!(parsed.matches(name), expected, "{pattern} {name}");
        };
        check("", "a:b", true);
        check("*", "a", true);
        check("a", "a", true);
        check("a", "ab", false);
        check("ab", "a", false);
        check("a*", "a", true);
        check("a:*", "a:b:c", true);
        check("a:*", "b:a:", false);
        check("*:c", "a:b:c", true);
        check("*b*", "abc", true);
        check("a*b*c", "aXbXbXc", true);
        check("a*b*c", "aXcXb", false);
        check("?", "a", true);
        check("?", "ab", false);
        check("a?*", "a", false);
        check("**a", "bba", true);
        check(r"\*", "*", true);
        check(r"\*", "a", false);
        check(r"a\[1\]", "a[1]", true);
        let evil = format!("{}b", "*a".repeat(200));
        check(&evil, &"a".repeat(255), false);
    }

    #[test]
    fn what_means_something_elsewhere_is_refused() {
        for pattern in ["[a]", "{a,b}", "a]", r"a\", &"a".repeat(513)] {
            assert!(Pattern::glob(pattern).is_err(), "{pattern}");
        }
    }
}
