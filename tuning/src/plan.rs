//! From findings to changes: what, in which order, and what it replaces.
//!
//! Only requirements that are not met are changed. A change to a file carries the value that was
//! there when the plan was made, so that `apply` can see if somebody else was faster.

use crate::action::Action;
use crate::check::{Finding, Severity};
use crate::parse;
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
        let Some(path) = action.path() else { return };
        let before = root.text(&path).ok();
        let same = matches!((&before, action.value()), (Some(before), Some(value))
            if same_value(&path, before, value));
        let known = self.steps.iter().any(|step| step.action.path().as_ref() == Some(&path));
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

/// How the kernel means what a file says. The same text is another value in another kind of file:
/// `0,32` is two CPUs as a list and CPU 5 and 1 as a mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// CPUs as a hexadecimal mask: leading zeros and the commas between words say nothing.
    Mask,
    /// Numbers as a list: `0-1` and `0,1` are the same.
    List,
    /// Numbers or words, one of which may be the chosen one, in brackets.
    Words,
}

impl Kind {
    /// That of a file, by its name.
    pub(crate) fn of(path: &str) -> Self {
        match path.rsplit('/').next().unwrap_or_default() {
            "rps_cpus" | "xps_cpus" => Self::Mask,
            "smp_affinity_list" | "ip_local_reserved_ports" => Self::List,
            _ => Self::Words,
        }
    }
}

/// Whether the file of the kernel at `path`, which shows `shown`, has the value `value`.
pub fn same_value(path: &str, shown: &str, value: &str) -> bool {
    let (shown, value) = (plain(shown), plain(value));
    let read = match Kind::of(path) {
        _ if shown == value => return true,
        Kind::Words => return parse::chosen(&shown) == Some(&value),
        Kind::Mask => parse::mask_cpus,
        Kind::List => parse::cpu_list,
    };
    let sorted = |text: &str| {
        let mut numbers = read(text)?;
        numbers.sort_unstable();
        numbers.dedup();
        Some(numbers)
    };
    sorted(&shown).is_some_and(|shown| Some(shown) == sorted(&value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_compared_as_the_kernel_means_them() {
        let check = |path: &str, shown: &str, value: &str, same: bool| {
            assert_eq!(same_value(path, shown, value), same, "{path}: {shown:?} {value:?}");
        };
        let (number, disk) = ("/proc/sys/net/core/somaxconn", "/sys/dev/block/8:1/queue/scheduler");
        check(number, "4096", "4096", true);
        check(number, "10", "100", false);
        check(number, "10", "010", false);
        check(number, "", "0", false);
        check("/proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t62914", "4096 131072 62914", true);
        check(disk, "none [mq-deadline] kyber bfq", "mq-deadline", true);
        check(disk, "none [mq-deadline] kyber bfq", "none", false);
        let mask = "/sys/class/net/eth0/queues/rx-0/rps_cpus";
        check(mask, "00000000,0000000f", "f", true);
        check(mask, "00", "0", true);
        check(mask, "12", "1,00000002", false);
        check(mask, "f0", "f", false);
        let list = "/proc/irq/9/smp_affinity_list";
        check(list, "32", "32", true);
        check(list, "0,32", "32", false);
        check(list, "1,2", "12", false);
        check(list, "1-2", "1,2", true);
        check(list, "0-3", "0-1", false);
        check("/proc/sys/net/ipv4/ip_local_reserved_ports", "8000-8001", "8001,8000", true);
    }
}
