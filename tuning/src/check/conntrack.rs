//! Connection tracking: a table that must have room for every client, where it is in use at all.

use super::{Check, Context, Outcome, Scope, Severity};
use crate::action::Action;
use crate::root::Absent;
use crate::text::{count, power_of_two};

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "conntrack.max",
        looks_at: "`net.netfilter.nf_conntrack_max`, if the module is loaded, and how many are tracked",
        why: "where a firewall or Kubernetes tracks connections, a full table drops new ones: \
              `nf_conntrack: table full, dropping packet`",
        scope: Scope::Host,
        run: max,
    },
    Check {
        id: "conntrack.buckets",
        looks_at: "the table's hash size (`nf_conntrack_buckets`)",
        why: "with few buckets every packet walks a long list",
        scope: Scope::Host,
        run: buckets,
    },
];

const UNTRACKED: &str = "on a host that neither translates addresses nor runs kube-proxy, \
                         docs/operating/tuning.md says how to leave the port untracked instead";
const FOLDER: &str = "/proc/sys/net/netfilter";

/// `None` where the kernel does not track.
fn loaded(context: &Context) -> Result<bool, Absent> {
    if context.root.exists(&format!("{FOLDER}/nf_conntrack_max")) {
        return Ok(true);
    }
    // Without the folder above it the kernel's settings are hidden, which says nothing.
    match context.root.list("/proc/sys/net") {
        Ok(_) => Ok(false),
        Err(absent) => Err(absent),
    }
}

/// Twice the clients: after a restart the old entries stay while the new ones come.
fn needed(context: &Context) -> u64 {
    context.target.connections.saturating_mul(2).saturating_add(ENTRIES_OF_OTHERS)
}

fn max(context: &Context) -> Result<Outcome, Absent> {
    if !loaded(context)? {
        return Ok(Outcome::ok("nf_conntrack is not loaded", "nothing"));
    }
    let max: u64 = context.root.number(&format!("{FOLDER}/nf_conntrack_max"))?;
    let tracked: Result<u64, Absent> = context.root.number(&format!("{FOLDER}/nf_conntrack_count"));
    let needed = needed(context);
    let required = format!(
        "{} (twice {} clients, whose old entries stay for a while, and {})",
        count(needed),
        count(context.target.connections),
        count(ENTRIES_OF_OTHERS)
    );
    let (shown, severity) = match tracked {
        Ok(0) => (format!("{}, nothing tracked now", count(max)), Severity::Info),
        Ok(tracked) if max < context.target.connections => {
            (format!("{}, {} tracked now", count(max), count(tracked)), Severity::Fatal)
        }
        Ok(tracked) => {
            (format!("{}, {} tracked now", count(max), count(tracked)), Severity::Warning)
        }
        Err(_) => (count(max), Severity::Warning),
    };
    let value = power_of_two(needed);
    Ok(Outcome::when(max >= needed, severity, shown, required)
        // No rule is given in a line: what leaves a port untracked without cutting off its clients
        // is four rules in two tables, and wrong behind NAT.
        .fix(format!("sysctl -w net.netfilter.nf_conntrack_max={value}; {UNTRACKED}"))
        .act(Action::at_least("net.netfilter.nf_conntrack_max", value, max)))
}

fn buckets(context: &Context) -> Result<Outcome, Absent> {
    if !loaded(context)? {
        return Ok(Outcome::ok("nf_conntrack is not loaded", "nothing"));
    }
    let buckets: u64 = context.root.number(&format!("{FOLDER}/nf_conntrack_buckets"))?;
    let tracked: Result<u64, Absent> = context.root.number(&format!("{FOLDER}/nf_conntrack_count"));
    let needed = needed(context).div_ceil(ENTRIES_PER_BUCKET);
    let required = format!("{} ({ENTRIES_PER_BUCKET} entries a bucket)", count(needed));
    let severity = if tracked == Ok(0) { Severity::Info } else { Severity::Warning };
    let value = power_of_two(needed);
    let key = "net.netfilter.nf_conntrack_buckets";
    Ok(Outcome::when(buckets >= needed, severity, count(buckets), required)
        .fix(format!("sysctl -w {key}={value}"))
        .act(Action::at_least(key, value, buckets)))
}

const ENTRIES_OF_OTHERS: u64 = 16_384;
/// The kernel's own ratio before 5.15; newer kernels have one.
const ENTRIES_PER_BUCKET: u64 = 4;
