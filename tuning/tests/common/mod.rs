//! Trees of files that stand for machines, each written as one text.
//!
//! A line `=== PATH` starts a file, the lines up to the next one are its content. `{0..63}` in a
//! path makes a file for each number, and `{i}`, `{i+64}`, `{i-64}` in path or content are that
//! number. `=== PATH -> TARGET` is a link, `=== PATH !unreadable` something that reading fails on
//! for root, too. Lines before the first `===` are a comment. Below `/measured` are outputs of
//! `ethtool`.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};
use tuning::parse;
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
            // Every file of the kernel ends with a line's end, also one that says nothing.
            let content = format!("{}\n", content.strip_suffix('\n').unwrap_or(content));
            fs::write(&path, content).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        }
    }
}

/// Writes into a file of a tree as the kernel does into its own: masks as wide as they were, lists
/// in its manner, some numbers rounded, of a choice the brackets moved.
#[allow(dead_code, reason = "each test program has this module, and one needs this")]
pub fn kernel(path: &Path, value: &str) -> io::Result<()> {
    let shown = fs::read_to_string(path)?;
    let shown = shown.trim_end();
    let value = match path.file_name().and_then(|name| name.to_str()).unwrap_or_default() {
        "rps_cpus" | "xps_cpus" => {
            let mut digits = value.chars().filter(|c| *c != ',').collect::<Vec<_>>();
            let mut wide: Vec<char> = Vec::new();
            for was in shown.chars().rev() {
                wide.push(if was == ',' { ',' } else { digits.pop().unwrap_or('0') });
            }
            assert!(digits.is_empty(), "{value} is wider than {shown}");
            wide.into_iter().rev().collect()
        }
        "smp_affinity_list" | "ip_local_reserved_ports" => {
            parse::show_cpu_list(&parse::cpu_list(value).ok_or(io::ErrorKind::InvalidInput)?)
        }
        "rps_flow_cnt" | "rps_sock_flow_entries" => match value.parse::<u64>() {
            Ok(number) if number > 0 => number.next_power_of_two().to_string(),
            _ => value.to_owned(),
        },
        _ if shown.contains('[') => {
            let plain = |word: &str| word.trim_matches(['[', ']']).to_owned();
            let words = shown.split_whitespace().map(plain);
            let words = words.map(|word| if word == value { format!("[{word}]") } else { word });
            words.collect::<Vec<_>>().join(" ")
        }
        "tcp_mem" | "tcp_rmem" | "tcp_wmem" => {
            value.split_whitespace().collect::<Vec<_>>().join("\t")
        }
        _ => value.to_owned(),
    };
    fs::write(path, format!("{value}\n"))
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
