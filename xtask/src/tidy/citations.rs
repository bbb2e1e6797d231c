//! Protocol rules cited where they are obeyed: `//= rfc6455#5.1`, and a line that says the rule in
//! our words.

use super::{File, Findings};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Where each section is cited.
#[derive(Default)]
pub struct Cited {
    /// Document, section, then the number of citations in code and in tests.
    documents: BTreeMap<String, BTreeMap<String, (u32, u32)>>,
}

/// Reads the citations and reports those that cannot be followed.
pub fn check(files: &[File], findings: &mut Findings) -> Cited {
    let mut cited = Cited::default();
    for file in files {
        let Some(views) = &file.views else { continue };
        let lines: Vec<&str> = views.comments.lines().map(str::trim).collect();
        for (index, line) in lines.iter().enumerate() {
            let Some(citation) = line.strip_prefix("//= ") else { continue };
            let Some((document, section, said)) = parse(citation) else {
                findings.error(&file.path, index + 1, "cite as `//= rfc6455#5.1`");
                continue;
            };
            let around = [index.checked_sub(1), Some(index + 1)];
            let mut beside = around.into_iter().flatten().filter_map(|at| lines.get(at));
            let said = said || beside.any(|line| line.starts_with("//") && line.len() > 3);
            if !said {
                findings.error(&file.path, index + 1, "say the rule in a comment beside it");
            }
            cited.count(document, section, file.is_test());
        }
    }
    cited
}

/// The document, the section, and whether words follow on the same line.
fn parse(citation: &str) -> Option<(&str, &str, bool)> {
    let (place, words) = citation.split_once(' ').unwrap_or((citation, ""));
    let (document, section) = place.split_once('#')?;
    let whole = !document.is_empty() && !section.is_empty();
    whole.then_some((document, section, !words.trim().is_empty()))
}

impl Cited {
    fn count(&mut self, document: &str, section: &str, test: bool) {
        let sections = self.documents.entry(document.to_owned()).or_default();
        let (code, tests) = sections.entry(section.to_owned()).or_default();
        *(if test { tests } else { code }) += 1;
    }

    /// One line for each document.
    pub fn summary(&self) -> String {
        let lines = self.documents.iter().map(|(document, sections)| {
            let (mut code, mut tests) = (0, 0);
            for (in_code, in_tests) in sections.values() {
                code += in_code;
                tests += in_tests;
            }
            format!(
                "{document}: {} sections cited, {code} times in code, {tests} in tests",
                sections.len()
            )
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Every section.
    pub fn sections(&self) -> String {
        let mut out = String::new();
        for (document, sections) in &self.documents {
            for (section, (code, tests)) in sections {
                let _ = writeln!(out, "{document}#{section}: {code} in code, {tests} in tests");
            }
        }
        out + &self.summary()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn citations_are_counted_by_document_and_section() {
        let code =
            "//! A.\n    //= rfc6455#5.1\n    // Clients mask.\nx;\n//= rfc6455#5.2 words here\n";
        let test = "//= rfc6455#5.1\n// Clients mask.\n";
        let files = [File::new("p/src/a.rs", code), File::new("p/src/tests.rs", test)];
        let mut findings = Findings::default();
        let cited = check(&files, &mut findings);
        assert_eq!(findings.errors, [""; 0]);
        assert_eq!(cited.summary(), "rfc6455: 2 sections cited, 2 times in code, 1 in tests");
        assert!(cited.sections().starts_with("rfc6455#5.1: 1 in code, 1 in tests\n"));
    }

    #[test]
    fn a_citation_names_a_section_and_says_the_rule() {
        let check = |text: &str| {
            let mut findings = Findings::default();
            super::check(&[File::new("p/src/a.rs", text)], &mut findings);
            findings.errors.len()
        };
        assert_eq!(check("//= rfc6455\n// Rule.\n"), 1);
        assert_eq!(check("//= #5.1\n// Rule.\n"), 1);
        assert_eq!(check("//= rfc6455#5.1\nlet a = 1;\n"), 1);
        assert_eq!(check("let text = \"//= not a citation\";\n"), 0);
    }
}
