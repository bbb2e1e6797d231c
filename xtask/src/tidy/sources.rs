//! The shape of a Rust file: how long, how wide, how it opens, what is left lying about.

use super::text::has_word;
use super::{File, Findings};

/// More lines than this are a warning: a file is one noun.
const LINES_GOOD: usize = 600;
/// More lines than this are an error.
const LINES_MAX: usize = 1_000;
const COLUMNS_MAX: usize = 100;

/// Runs on every Rust file, and looks for traces of one machine in every file.
pub fn check(files: &[File], findings: &mut Findings) {
    for file in files {
        check_machine_paths(file, findings);
        if file.views.is_some() {
            check_size(file, findings);
            check_opening(file, findings);
            check_leftovers(file, findings);
        }
    }
}

fn check_size(file: &File, findings: &mut Findings) {
    let lines = file.text.lines().count();
    // A test file is a list of cases; its length says nothing about how hard it is to follow.
    if !file.is_test() && lines > LINES_MAX {
        let message = format!("{lines} lines; split what is over {LINES_MAX}");
        findings.error(&file.path, 0, &message);
    } else if !file.is_test() && lines > LINES_GOOD {
        findings.warn(&file.path, 0, &format!("{lines} lines; aim at fewer than 400"));
    }
    check_width(file, findings);
}

/// The letters of a literal do not count: it is data, and rustfmt does not wrap it either.
fn check_width(file: &File, findings: &mut Findings) {
    let Some(views) = &file.views else { return };
    let strings = views.strings.lines().chain(std::iter::repeat(""));
    for ((index, line), literals) in file.text.lines().enumerate().zip(strings) {
        let columns = line.chars().count();
        let data = literals.chars().filter(|letter| !letter.is_whitespace()).count();
        if columns - data > COLUMNS_MAX {
            let message = format!("{columns} columns; wrap at {COLUMNS_MAX}");
            findings.error(&file.path, index + 1, &message);
        }
    }
}

fn check_opening(file: &File, findings: &mut Findings) {
    if !file.is_test() && !file.text.starts_with("//!") {
        let message = "opens without `//!`: say what it is for, its invariants, what is absent";
        findings.error(&file.path, 1, message);
    }
}

/// Markers of unfinished work, spelt so that this file does not hold them.
const MARKERS: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")];
const MACROS: &[&str] = &["todo!", "unimplemented!", "dbg!"];

fn check_leftovers(file: &File, findings: &mut Findings) {
    let Some(views) = &file.views else { return };
    for (index, line) in views.comments.lines().enumerate() {
        for marker in MARKERS.iter().filter(|marker| has_word(line, marker)) {
            findings.error(
                &file.path,
                index + 1,
                &format!("`{marker}`: finish it, or say why not"),
            );
        }
    }
    for (index, line) in views.code.lines().enumerate() {
        for name in MACROS.iter().filter(|name| line.contains(*name)) {
            findings.error(&file.path, index + 1, &format!("`{name}` is left"));
        }
    }
}

/// Folders that exist on somebody's machine only.
const MACHINE_PATHS: &[&str] =
    &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/fa", "rm"), concat!("/ho", "me/")];

fn check_machine_paths(file: &File, findings: &mut Findings) {
    for (index, line) in file.text.lines().enumerate() {
        for path in MACHINE_PATHS {
            let own = |at: usize| line[..at].chars().next_back().is_none_or(starts_a_path);
            if line.match_indices(path).any(|(at, _)| own(at)) {
                findings.error(
                    &file.path,
                    index + 1,
                    &format!("`{path}` exists on one machine only"),
                );
            }
        }
    }
}

/// A path of the machine is not one that goes on from a word, as in a URL.
fn starts_a_path(before: char) -> bool {
    !before.is_alphanumeric() && !matches!(before, '.' | '-' | '_' | '}' | ')')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(path: &str, text: &str) -> usize {
        let mut findings = Findings::default();
        check(&[File::new(path, text)], &mut findings);
        findings.errors.len()
    }

    #[test]
    fn leftovers_are_found_where_they_are_meant() {
        let check = |body: &str, expected: usize| {
            assert_eq!(errors("a/src/b.rs", &format!("//! Words.\n{body}\n")), expected, "{body}");
        };
        check("fn f() {}", 0);
        check(&format!("// {} later", MARKERS[1]), 1);
        check(&format!("const A: &str = \"{}\";", MARKERS[2]), 0);
        check("dbg!(a);", 1);
        check("f(\"dbg!(a)\");", 0);
        check(&format!("// see {}shared", MACHINE_PATHS[0]), 1);
        check(&format!("// see example.org{}shared", MACHINE_PATHS[0]), 0);
    }

    #[test]
    fn what_sticks_out_is_said_unless_it_is_data() {
        let check = |line: &str, expected: usize| {
            let mut findings = Findings::default();
            check_width(&File::new("a/src/b.rs", line), &mut findings);
            assert_eq!(findings.errors.len(), expected, "{line}");
        };
        check(&format!("// {}", "x".repeat(97)), 0);
        check(&format!("// {}", "x".repeat(98)), 1);
        check(&format!("f({})", "x".repeat(98)), 1);
        check(&format!("f(\"{}\");", "x".repeat(98)), 0);
    }

    #[test]
    fn a_file_says_what_it_is_unless_it_is_tests() {
        assert_eq!(errors("a/src/b.rs", "fn f() {}\n"), 1);
        assert_eq!(errors("a/src/tests.rs", "fn f() {}\n"), 0);
        assert_eq!(errors("a/src/b/tests/peer.rs", "fn f() {}\n"), 0);
    }

    #[test]
    fn a_long_file_is_an_error_and_a_long_test_is_not() {
        let long = format!("//! Words.\n{}", "\n".repeat(LINES_MAX));
        assert_eq!(errors("a/src/b.rs", &long), 1);
        assert_eq!(errors("a/src/b/tests.rs", &long), 0);
    }
}
