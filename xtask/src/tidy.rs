//! `cargo xtask tidy`: what neither rustfmt nor clippy knows about this workspace.
//!
//! Each check is a file: [`layers`] who may use whom, [`sources`] the shape of a Rust file,
//! [`citations`] the protocol rules cited, [`names`] metrics and configuration keys, [`prose`] the
//! documentation. All of it is textual and takes well under a second; [`text`] tells code from
//! comments and strings, so that a word in a sentence is not taken for a keyword.

mod citations;
mod layers;
mod names;
mod prose;
mod sources;
mod text;

use crate::run::{capture, command, root};
use anyhow::{Result, bail};
use std::fs;
use text::Views;

/// A file of the tree.
pub struct File {
    /// From the root, with slashes.
    pub path: String,
    pub text: String,
    /// Present for Rust.
    pub views: Option<Views>,
}

impl File {
    pub fn new(path: &str, text: &str) -> Self {
        let views = path.ends_with(".rs").then(|| Views::of(text));
        Self { path: path.to_owned(), text: text.to_owned(), views }
    }

    /// True if the file holds nothing but tests.
    pub fn is_test(&self) -> bool {
        self.path.starts_with("tests/")
            || self.path.split('/').any(|part| part == "tests" || part == "tests.rs")
    }
}

/// What the checks found.
#[derive(Default)]
pub struct Findings {
    errors: Vec<String>,
    warnings: Vec<String>,
}

impl Findings {
    /// Something that must be changed. `line` counts from 1; 0 is the file as a whole.
    pub fn error(&mut self, path: &str, line: usize, message: &str) {
        self.errors.push(located(path, line, message));
    }

    /// Something that should be changed some day.
    pub fn warn(&mut self, path: &str, line: usize, message: &str) {
        self.warnings.push(located(path, line, message));
    }
}

fn located(path: &str, line: usize, message: &str) -> String {
    match line {
        0 => format!("{path}: {message}"),
        line => format!("{path}:{line}: {message}"),
    }
}

/// Runs every check; with `list_citations`, lists every cited section.
pub fn run(list_citations: bool) -> Result<String> {
    let files = read_tree()?;
    let mut findings = Findings::default();
    layers::check(&files, &mut findings);
    sources::check(&files, &mut findings);
    names::check(&files, &mut findings);
    prose::check(&files, &mut findings);
    let cited = citations::check(&files, &mut findings);
    for warning in &findings.warnings {
        println!("warning: {warning}");
    }
    for error in &findings.errors {
        println!("error: {error}");
    }
    println!("{}", if list_citations { cited.sections() } else { cited.summary() });
    let lines: usize = files.iter().map(|file| file.text.lines().count()).sum();
    let note = format!(
        "{} files, {lines} lines, {} errors, {} warnings",
        files.len(),
        findings.errors.len(),
        findings.warnings.len()
    );
    println!("{note}");
    if !findings.errors.is_empty() {
        bail!("tidy found {} errors", findings.errors.len());
    }
    Ok(note)
}

/// Every text file that git tracks or would add.
fn read_tree() -> Result<Vec<File>> {
    let list = ["ls-files", "--cached", "--others", "--exclude-standard"];
    let mut paths: Vec<String> =
        capture(&mut command("git", &list))?.lines().map(str::to_owned).collect();
    paths.sort();
    paths.dedup();
    let mut files = Vec::new();
    for path in paths {
        // Binary files, and those that git lists but that were just removed.
        let Ok(text) = fs::read_to_string(root().join(&path)) else { continue };
        files.push(File::new(&path, &text));
    }
    Ok(files)
}
