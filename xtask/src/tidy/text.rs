//! Tells a Rust file's code from its comments and its strings, line by line.

/// The same text three times, each with everything else blanked; line numbers agree.
pub struct Views {
    /// Code, without the contents of strings.
    pub code: String,
    /// What comments say, with their slashes.
    pub comments: String,
    /// What string literals say.
    pub strings: String,
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    Code,
    LineComment,
    /// Block comments nest.
    BlockComment(u32),
    /// The number of `#` that end it; none for an ordinary string.
    Text(Option<usize>),
}

impl Views {
    pub fn of(text: &str) -> Self {
        let letters: Vec<char> = text.chars().collect();
        let mut reader = Reader { letters: &letters, at: 0, views: Self::empty(text.len()) };
        let mut place = Place::Code;
        while reader.at < letters.len() {
            place = reader.step(place);
        }
        reader.views
    }

    fn empty(capacity: usize) -> Self {
        let room = || String::with_capacity(capacity);
        Self { code: room(), comments: room(), strings: room() }
    }
}

struct Reader<'a> {
    letters: &'a [char],
    at: usize,
    views: Views,
}

impl Reader<'_> {
    /// Reads one token's worth and says where the next one is.
    fn step(&mut self, place: Place) -> Place {
        match place {
            Place::Code => self.in_code(),
            Place::LineComment => {
                let end = self.peek(0) == Some('\n');
                self.take(1, if end { Place::Code } else { place });
                if end { Place::Code } else { place }
            }
            Place::BlockComment(depth) if self.starts_with("/*") => {
                self.take(2, place);
                Place::BlockComment(depth + 1)
            }
            Place::BlockComment(depth) if self.starts_with("*/") => {
                self.take(2, place);
                if depth == 1 { Place::Code } else { Place::BlockComment(depth - 1) }
            }
            Place::BlockComment(_) => self.take(1, place),
            Place::Text(None) if self.peek(0) == Some('\\') => self.take(2, place),
            Place::Text(hashes) => self.in_text(hashes),
        }
    }

    fn in_code(&mut self) -> Place {
        if self.starts_with("//") {
            return self.take(2, Place::LineComment);
        }
        if self.starts_with("/*") {
            return self.take(2, Place::BlockComment(1));
        }
        match self.peek(0) {
            Some('"') => {
                self.take(1, Place::Code);
                Place::Text(None)
            }
            Some('r') if !self.inside_word() => self.raw_string_or_code(),
            Some('\'') => self.letter_or_lifetime(),
            _ => self.take(1, Place::Code),
        }
    }

    fn raw_string_or_code(&mut self) -> Place {
        let hashes = (1..).take_while(|ahead| self.peek(*ahead) == Some('#')).count();
        if self.peek(1 + hashes) != Some('"') {
            return self.take(1, Place::Code);
        }
        self.take(2 + hashes, Place::Code);
        Place::Text(Some(hashes))
    }

    /// `'a'` and `'\n'` hold a letter that may be a quote; `'a` is a name.
    fn letter_or_lifetime(&mut self) -> Place {
        let len = match (self.peek(1), self.peek(2)) {
            (Some('\\'), _) => {
                let body =
                    (3..).take_while(|ahead| !matches!(self.peek(*ahead), None | Some('\'')));
                body.count() + 4
            }
            (Some(_), Some('\'')) => 3,
            _ => 1,
        };
        if len > 1 {
            self.take(1, Place::Code);
            self.take(len - 2, Place::Text(None));
        }
        self.take(1, Place::Code)
    }

    fn in_text(&mut self, hashes: Option<usize>) -> Place {
        let place = Place::Text(hashes);
        let count = hashes.unwrap_or(0);
        let closed = (1..=count).all(|ahead| self.peek(ahead) == Some('#'));
        if self.peek(0) == Some('"') && closed {
            return self.take(1 + count, Place::Code);
        }
        self.take(1, place)
    }

    /// Copies letters into the view of `place` and spaces into the others.
    fn take(&mut self, count: usize, place: Place) -> Place {
        for _ in 0..count {
            let Some(letter) = self.peek(0) else { break };
            self.at += 1;
            let blank = if letter == '\n' { '\n' } else { ' ' };
            let own = match place {
                Place::Code => 0,
                Place::LineComment | Place::BlockComment(_) => 1,
                Place::Text(_) => 2,
            };
            let Views { code, comments, strings } = &mut self.views;
            for (index, view) in [code, comments, strings].into_iter().enumerate() {
                view.push(if index == own { letter } else { blank });
            }
        }
        place
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.letters.get(self.at + ahead).copied()
    }

    fn starts_with(&self, text: &str) -> bool {
        text.chars().enumerate().all(|(ahead, letter)| self.peek(ahead) == Some(letter))
    }

    /// True if the letter before belongs to the same word; `b` and `c` may open a raw string.
    fn inside_word(&self) -> bool {
        let before = |back: usize| self.at.checked_sub(back).and_then(|at| self.letters.get(at));
        let word = |letter: &char| letter.is_alphanumeric() || *letter == '_';
        match before(1) {
            Some('b' | 'c') => before(2).is_some_and(word),
            Some(letter) => word(letter),
            None => false,
        }
    }
}

/// True if `word` stands in `line` on its own.
pub fn has_word(line: &str, word: &str) -> bool {
    let part = |letter: char| letter.is_alphanumeric() || letter == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(part) && !after.is_some_and(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_comments_and_strings_are_told_apart() {
        let check = |text: &str, code: &str, comments: &str, strings: &str| {
            let views = Views::of(text);
            let squeezed = |view: &str| view.split_whitespace().collect::<Vec<_>>().join(" ");
            assert_eq!(squeezed(&views.code), code, "code of {text}");
            assert_eq!(squeezed(&views.comments), comments, "comments of {text}");
            assert_eq!(squeezed(&views.strings), strings, "strings of {text}");
            for view in [&views.code, &views.comments, &views.strings] {
                assert_eq!(view.matches('\n').count(), text.matches('\n').count(), "{text}");
            }
        };
        check("let a = 1; // unsafe\nb", "let a = 1; b", "// unsafe", "");
        check("a /* x /* y */ z */ b", "a b", "/* x /* y */ z */", "");
        check(r#"f("unsafe \" // no", b)"#, r#"f(" ", b)"#, "", r#"unsafe \" // no"#);
        check("f(\"a\nb\", c)", "f(\" \", c)", "", "a b");
        check("r#\"say \"hi\" // x\"# + y", "r#\" \"# + y", "", "say \"hi\" // x");
        check(r#"br"a" + for"b""#, r#"br" " + for" ""#, "", "a b");
        check(
            "'\"' 'x' '\\'' '\\u{7f}' &'a str",
            "' ' ' ' ' ' ' ' &'a str",
            "",
            "\" x \\' \\u{7f}",
        );
        check("let 'a: loop { break 'a; }", "let 'a: loop { break 'a; }", "", "");
    }

    #[test]
    fn a_word_is_not_part_of_another() {
        assert!(has_word("unsafe {", "unsafe"));
        assert!(!has_word("#![deny(unsafe_code)]", "unsafe"));
        assert!(!has_word("not_unsafe", "unsafe"));
    }
}
