//! From findings to changes: what, in which order, and what it replaces.
//!
//! Only requirements that are not met are changed. A change to a file carries the value that was
//! there when the plan was made, so that `apply` can see if somebody else was faster.

use crate::action::Action;
use crate::check::{Finding, Severity};
use crate::root::Root;
use std::fmt::Write;

/// One change, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The check that asks for it.
    pub id: &'static str,
    pub action: Action,
    /// What is there now; `None` for what is not a file, or cannot be read.
    pub before: Option<String>,
    /// True in a container for what belongs to the host.
    pub only_on_host: bool,
}

/// Everything that would be changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    pub steps: Vec<Step>,
    /// What only a person can do: check and advice.
    pub by_hand: Vec<(&'static str, String)>,
}

impl Plan {
    /// The changes that these findings ask for.
    pub fn of(findings: &[Finding], root: &Root) -> Self {
        let mut plan = Self::default();
        for finding in findings.iter().filter(|finding| finding.severity >= Severity::Warning) {
            let ours: Vec<&Action> =
                finding.actions.iter().filter(|action| action.path().is_some()).collect();
            // A unit's line is written by `render`; it is a person who installs it.
            if ours.is_empty() {
                plan.by_hand.push((finding.id, finding.fix.clone()));
            }
            for action in ours {
                plan.add(finding, action, root);
            }
        }
        plan
    }

    fn add(&mut self, finding: &Finding, action: &Action, root: &Root) {
        let path = action.path();
        let before = path.as_deref().and_then(|path| root.text(path).ok());
        let same = matches!((&before, action.value()), (Some(before), Some(value))
            if same_value(before, value));
        let known = self.steps.iter().any(|step| step.action.path() == path);
        if !same && !known {
            let (id, action) = (finding.id, action.clone());
            let only_on_host = finding.only_on_host;
            self.steps.push(Step { id, action, before, only_on_host });
        }
    }

    /// What `plan` prints.
    pub fn text(&self) -> String {
        let mut out = String::new();
        if self.steps.is_empty() && self.by_hand.is_empty() {
            return "nothing to change\n".to_owned();
        }
        let mut last = "";
        for step in &self.steps {
            if step.id != last {
                let place = if step.only_on_host { "  (on the host)" } else { "" };
                let _ = writeln!(out, "{}{place}", step.id);
                last = step.id;
            }
            let _ = writeln!(out, "    {}", step.line());
        }
        if !self.by_hand.is_empty() {
            out.push_str(if self.steps.is_empty() { "" } else { "\n" });
            out.push_str("by hand, or by a file of `shardcast tune render`:\n");
        }
        for (id, fix) in &self.by_hand {
            let _ = writeln!(out, "    {id}: {fix}");
        }
        out
    }
}

impl Step {
    /// Such as `net.core.somaxconn: 128 -> 4096`.
    pub fn line(&self) -> String {
        let name = match &self.action {
            Action::Sysctl { key, .. } => key.clone(),
            other => other.path().unwrap_or_default(),
        };
        let before = self.before.as_deref().map_or("(not readable)".to_owned(), plain);
        let before = if before.is_empty() { "(empty)" } else { &before };
        format!("{name}: {before} -> {}", self.action.value().unwrap_or_default())
    }
}

/// White space as single blanks.
fn plain(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether a file of the kernel that shows `shown` has the value `value`: white space, brackets
/// round a choice and leading zeros of a mask are the kernel's manner of speaking.
pub fn same_value(shown: &str, value: &str) -> bool {
    let (shown, value) = (plain(shown), plain(value));
    if shown == value || crate::parse::chosen(&shown) == Some(&value) {
        return true;
    }
    let mask = |text: &str| {
        let digits: String = text.split(',').collect();
        let hex = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_hexdigit());
        hex.then(|| digits.trim_start_matches('0').to_owned())
    };
    // Decimal numbers have no leading zeros, so they are only the same if they are equal.
    mask(&shown).is_some_and(|shown| Some(shown) == mask(&value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_compared_as_the_kernel_means_them() {
        let check = |shown: &str, value: &str, same: bool| {
            assert_eq!(same_value(shown, value), same, "{shown:?} {value:?}");
        };
        check("4096", "4096", true);
        check("4096\t131072\t6291456", "4096 131072 6291456", true);
        check("none [mq-deadline] kyber bfq", "mq-deadline", true);
        check("none [mq-deadline] kyber bfq", "none", false);
        check("00000000,0000000f", "f", true);
        check("0", "0", true);
        check("10", "100", false);
        check("0-3", "0-1", false);
        check("", "0", false);
    }
}
