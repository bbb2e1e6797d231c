//! Patterns of channel names: `*` is any run of characters, `?` is one, `\` makes what follows
//! stand for itself. Brackets and braces mean something elsewhere, so that they must be written
//! with a `\`.

/// The longest pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 512;

/// One piece of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Byte(u8),
    One,
    Any,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Vec<Piece>);

impl Pattern {
    /// Reads a pattern; the empty one is every name. `Err` says what is wrong.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > PATTERN_BYTES_MAX {
            return Err("longer than 512 bytes");
        }
        if text.is_empty() {
            return Ok(Self(vec![Piece::Any]));
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
        pieces.dedup_by(|one, next| *one == Piece::Any && *next == Piece::Any);
        Ok(Self(pieces))
    }

    /// Whether a name is one of these. Takes at most name times pattern steps.
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
    fn patterns_match_what_they_say() {
        let check = |pattern: &str, name: &str, expected: bool| {
            let parsed = Pattern::parse(pattern).expect("legal");
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
            assert!(Pattern::parse(pattern).is_err(), "{pattern}");
        }
    }
}
