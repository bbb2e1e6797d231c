//! Findings as a table, as JSON, as a line, and the list of checks as a page.

use crate::check::harmful_list;
use crate::check::{Finding, Severity, checks, worst};
use crate::container::Container;
use crate::target::Target;
use crate::text::{bytes, count};
use serde::Serialize;
use std::fmt::Write;

/// What `check --json` prints.
#[derive(Serialize)]
struct Json<'a> {
    connections: u64,
    shards: u32,
    container: Option<&'a str>,
    worst: &'a str,
    findings: &'a [Finding],
}

/// For other programs.
pub fn json(target: &Target, container: Container, findings: &[Finding]) -> String {
    let report = Json {
        connections: target.connections,
        shards: target.shards,
        container: container.is_some().then(|| container.name()),
        worst: worst(findings).name(),
        findings,
    };
    let text = serde_json::to_string_pretty(&report);
    text.unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}")) + "\n"
}

/// For people: what is not as it should be with all there is to say, then the rest in brief.
pub fn table(target: &Target, container: Container, findings: &[Finding], all: bool) -> String {
    let mut out = String::new();
    let shards = target.shards;
    let memory = target.memory_planned_bytes.map(|m| format!(", {} planned", bytes(m)));
    let _ = writeln!(
        out,
        "For {} connections on {shards} shards{}, {} a second after a cut:\n",
        count(target.connections),
        memory.unwrap_or_default(),
        count(target.connects_per_s)
    );
    if container.is_some() {
        let name = container.name();
        let _ = writeln!(out, "In a container ({name}): what says `on the host` is done there.\n");
    }
    let mut shown: Vec<&Finding> =
        findings.iter().filter(|finding| all || finding.severity > Severity::Ok).collect();
    shown.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    for finding in shown {
        write_finding(&mut out, finding);
    }
    out.push_str(&summary(findings));
    out
}

fn write_finding(out: &mut String, finding: &Finding) {
    let name = finding.severity.name().to_ascii_uppercase();
    let _ = writeln!(out, "{name:<8} {}", finding.id);
    let mut row = |title: &str, text: &str| {
        if !text.is_empty() && text != "-" {
            write_wrapped(out, title, text);
        }
    };
    row("current", &finding.current);
    row("required", &finding.required);
    if finding.severity > Severity::Ok {
        row("why", finding.why);
        row(if finding.only_on_host { "on the host" } else { "fix" }, &finding.fix);
    }
    out.push('\n');
}

/// `title  text`, the text wrapped at words.
fn write_wrapped(out: &mut String, title: &str, text: &str) {
    let mut line = format!("    {title:<12}");
    let mut empty = true;
    for word in text.split(' ') {
        if !empty && line.chars().count() + 1 + word.chars().count() > COLUMNS {
            let _ = writeln!(out, "{line}");
            line = " ".repeat(16);
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    let _ = writeln!(out, "{line}");
}

const COLUMNS: usize = 100;

/// How many of each.
pub fn summary(findings: &[Finding]) -> String {
    let of = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    format!(
        "{} checks: {} fatal, {} warnings, {} unknown, {} to know, {} as they should be\n",
        findings.len(),
        of(Severity::Fatal),
        of(Severity::Warning),
        of(Severity::Unknown),
        of(Severity::Info),
        of(Severity::Ok)
    )
}

/// The list of checks, as Markdown.
pub fn page() -> String {
    let mut out = String::from("| check | looks at | why | whose setting |\n|---|---|---|---|\n");
    for check in checks() {
        let (looks_at, why) = (check.looks_at.replace('|', "\\|"), check.why.replace('|', "\\|"));
        let _ = writeln!(out, "| `{}` | {looks_at} | {why} | {} |", check.id, check.scope.name());
    }
    out.push_str("\nSettings that do harm, which `advice.*` look for:\n\n| key | when | why |\n|---|---|---|\n");
    for (key, when, why) in harmful_list() {
        let _ = writeln!(out, "| `{key}` | {when} | {why} |");
    }
    out
}
