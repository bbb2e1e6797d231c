//! Documentation that points somewhere: links between pages and paths named in backquotes exist.

use super::{File, Findings};
use crate::run::root;
use std::path::{Component, Path, PathBuf};

/// Runs on every Markdown file.
pub fn check(files: &[File], findings: &mut Findings) {
    for file in files.iter().filter(|file| file.path.ends_with(".md")) {
        for (index, line) in file.text.lines().enumerate() {
            for link in links(line) {
                check_link(file, index + 1, link, findings);
            }
            for path in paths(line) {
                if !root().join(path).exists() {
                    findings.error(&file.path, index + 1, &format!("there is no `{path}`"));
                }
            }
        }
    }
}

fn check_link(file: &File, line: usize, link: &str, findings: &mut Findings) {
    let folder = Path::new(&file.path).parent().unwrap_or(Path::new(""));
    let path = normal(&folder.join(link));
    if root().join(&path).exists() {
        return;
    }
    let message = format!("the link to `{link}` leads nowhere");
    // A picture is taken of a running page, so it may come after the text that shows it.
    if link.ends_with(".png") {
        findings.warn(&file.path, line, &message);
    } else {
        findings.error(&file.path, line, &message);
    }
}

/// Links and pictures to other files of the tree.
fn links(line: &str) -> Vec<&str> {
    let targets = line.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0));
    let inside = targets.filter(|target| !target.contains("://") && !target.starts_with('#'));
    inside.map(|target| target.split('#').next().unwrap_or(target)).collect()
}

/// Folders whose paths are checked where prose names them.
const FOLDERS: &[&str] = &[
    "proto/",
    "server/",
    "storage/",
    "bench/",
    "tuning/",
    "tests/",
    "dashboard/",
    "xtask/",
    "docs/",
];

/// Backquoted paths from the root. Patterns and templates are not paths.
fn paths(line: &str) -> Vec<&str> {
    let quoted = line.split('`').skip(1).step_by(2);
    let ours = quoted.filter(|word| FOLDERS.iter().any(|folder| word.starts_with(folder)));
    let plain = |word: &&str| {
        let letters = |letter: char| letter.is_ascii_alphanumeric() || "/._-".contains(letter);
        word.chars().all(letters) && !word.contains("NNNN")
    };
    ours.filter(plain).collect()
}

/// Resolves `..` without asking the file system.
fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                out.pop();
            }
            Component::CurDir => {}
            part => out.push(part),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_out_of_the_tree_and_within_a_page_are_not_followed() {
        let line = "[a](b.md#part) ![c](../d.png) [e](https://example.org/x) [f](#part)";
        assert_eq!(links(line), ["b.md", "../d.png"]);
    }

    #[test]
    fn paths_are_told_from_patterns_and_other_code() {
        let line = "`server/src/uring` `tests/fuzz/seeds/*` `cargo test` `docs/adr/NNNN-title.md`";
        assert_eq!(paths(line), ["server/src/uring"]);
    }

    #[test]
    fn a_link_is_resolved_from_its_page() {
        assert_eq!(normal(Path::new("docs/guides/../adr/./a.md")), Path::new("docs/adr/a.md"));
    }
}
