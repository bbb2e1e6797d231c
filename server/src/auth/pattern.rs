//! Which channels a key or a token is for.

/// A channel's name, in which `*` stands for any characters, also none and also a colon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: Box<str>,
    wild: bool,
}

impl Pattern {
    /// A pattern with wildcards.
    pub fn wildcard(text: &str) -> Self {
        Self { text: text.into(), wild: text.contains('*') }
    }

    /// Exactly one channel, whatever characters its name has.
    pub fn exact(text: &str) -> Self {
        Self { text: text.into(), wild: false }
    }

    /// Bytes of its text.
    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    /// True if it is about this channel. At most the product of both lengths in steps, and names
    /// have at most 255 bytes.
    pub fn matches(&self, channel: &str) -> bool {
        if !self.wild {
            return *self.text == *channel;
        }
        let (pattern, name) = (self.text.as_bytes(), channel.as_bytes());
        let (mut p, mut n) = (0, 0);
        // Where to go on if what follows the last star does not fit: one character later.
        let mut retry: Option<(usize, usize)> = None;
        while n < name.len() {
            if pattern.get(p) == Some(&b'*') {
                retry = Some((p + 1, n));
                p += 1;
            } else if pattern.get(p) == Some(&name[n]) {
                p += 1;
                n += 1;
            } else if let Some((after_star, at)) = retry {
                p = after_star;
                n = at + 1;
                retry = Some((after_star, n));
            } else {
                return false;
            }
        }
        pattern[p..].iter().all(|byte| *byte == b'*')
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
}
