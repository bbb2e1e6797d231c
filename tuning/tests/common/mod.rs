//! Trees of files that stand for machines, each written as one text.
//!
//! A line `=== PATH` starts a file, the lines up to the next one are its content. `{0..63}` in a
//! path makes a file for each number, and `{i}`, `{i+64}`, `{i-64}` in path or content are that
//! number. `=== PATH -> TARGET` is a link, `=== PATH !unreadable` something that reading fails on
//! for root, too. Lines before the first `===` are a comment. Below `/measured` are outputs of
//! `ethtool`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use tuning::root::Root;

/// A machine made of files, gone when dropped.
pub struct Tree {
    dir: tempfile::TempDir,
}

impl Tree {
    /// The fixture by this name.
    pub fn named(name: &str) -> Self {
        let path = format!("{}/tests/fixtures/{name}.tree", env!("CARGO_MANIFEST_DIR"));
        Self::of(&fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}")))
    }

    /// A fixture given as its text.
    pub fn of(text: &str) -> Self {
        let tree = Self { dir: tempfile::tempdir().unwrap() };
        for part in format!("\n{text}").split("\n=== ").skip(1) {
            let (head, content) = part.split_once('\n').unwrap_or((part, ""));
            tree.add(head.trim(), content);
        }
        tree
    }

    pub fn root(&self) -> Root {
        Root::at(self.dir.path())
    }

    /// What `ethtool` prints there.
    pub fn ethtool(&self) -> BTreeMap<String, Result<String, String>> {
        let Ok(entries) = fs::read_dir(self.dir.path().join("measured")) else {
            return BTreeMap::new();
        };
        let text = |entry: fs::DirEntry| {
            let name = entry.file_name().into_string().unwrap();
            (name, Ok(fs::read_to_string(entry.path()).unwrap()))
        };
        entries.flatten().map(text).collect()
    }

    fn add(&self, head: &str, content: &str) {
        let Some((before, rest)) = head.split_once('{').filter(|(_, rest)| rest.contains(".."))
        else {
            return self.write(head, content);
        };
        let (range, after) = rest.split_once('}').unwrap();
        let (first, last) = range.split_once("..").unwrap();
        for number in first.parse::<i64>().unwrap()..=last.parse().unwrap() {
            let head = format!("{before}{number}{}", filled(after, number));
            self.write(&head, &filled(content, number));
        }
    }

    fn write(&self, head: &str, content: &str) {
        let (path, link) = match head.split_once(" -> ") {
            Some((path, target)) => (path, Some(target)),
            None => (head.trim_end_matches(" !unreadable"), None),
        };
        let path = self.dir.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if let Some(target) = link {
            std::os::unix::fs::symlink(target, &path).unwrap();
        } else if head.ends_with(" !unreadable") {
            // A link to itself: there, but not to be read.
            std::os::unix::fs::symlink(Path::new(path.file_name().unwrap()), &path).unwrap();
        } else {
            fs::write(&path, content).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        }
    }
}

/// Puts the number in the place of `{i}`, `{i+1}`, `{i-1}`.
fn filled(text: &str, number: i64) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{i") {
        let (offset, after) = after.split_once('}').unwrap();
        let offset: i64 = if offset.is_empty() { 0 } else { offset.parse().unwrap() };
        out.push_str(before);
        out.push_str(&(number + offset).to_string());
        rest = after;
    }
    out.push_str(rest);
    out
}
