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

/// What is known of tracking.
enum Tracking {
    /// The kernel does not do it.
    NotLoaded,
    /// The table of this network namespace is the one that fills.
    Here,
    /// This is a network namespace of its own, in which nothing is tracked; packets came through
    /// the host's, which may track them.
    Elsewhere,
}

fn tracking(context: &Context) -> Result<Tracking, Absent> {
    let root = context.root;
    let path = format!("{FOLDER}/nf_conntrack_max");
    let own = root.optional(root.text("/proc/sys/net/ipv4/tcp_mem"), "/proc/sys/net/ipv4");
    // The kernel shows this one in the first network namespace only.
    let inside = context.container.is_some() || own == Ok(None);
    match root.text(&path) {
        Ok(_) if !inside => Ok(Tracking::Here),
        Ok(_) => match root.number::<u64>(&format!("{FOLDER}/nf_conntrack_count"))? {
            0 => Ok(Tracking::Elsewhere),
            _ => Ok(Tracking::Here),
        },
        Err(Absent::Missing { .. }) => {
            // A folder that is hidden says nothing, and inside only the list of modules does.
            let hidden = || Absent::Other("what the host tracks is not seen here".to_owned());
            match inside {
                true => match root.optional(root.list("/sys/module/nf_conntrack"), "/sys/module") {
                    Ok(None) => Ok(Tracking::NotLoaded),
                    _ => Err(hidden()),
                },
                false => match root.optional(root.list(FOLDER), "/proc/sys/net")? {
                    Some(names) if names.is_empty() => Err(Absent::Missing { path }),
                    _ => Ok(Tracking::NotLoaded),
                },
            }
        }
        Err(absent) => Err(absent),
    }
}

/// Twice the clients: after a restart the old entries stay while the new ones come.
fn needed(context: &Context) -> u64 {
    context.target.connections.saturating_mul(2).saturating_add(ENTRIES_OF_OTHERS)
}

fn max(context: &Context) -> Result<Outcome, Absent> {
    let tracking = tracking(context)?;
    if matches!(tracking, Tracking::NotLoaded) {
        return Ok(Outcome::ok("nf_conntrack is not loaded", "nothing"));
    }
    let max: u64 = context.root.number(&format!("{FOLDER}/nf_conntrack_max"))?;
    let tracked: u64 = context.root.number(&format!("{FOLDER}/nf_conntrack_count"))?;
    let needed = needed(context);
    let required = format!(
        "{} (twice {} clients, whose old entries stay for a while, and {})",
        count(needed),
        count(context.target.connections),
        count(ENTRIES_OF_OTHERS)
    );
    let (now, severity) = match (tracking, tracked) {
        (Tracking::Elsewhere, _) => {
            ("what the host tracks is not seen here".to_owned(), Severity::Unknown)
        }
        (_, 0) => ("nothing tracked now".to_owned(), Severity::Info),
        (_, tracked) if max < context.target.connections => {
            (format!("{} tracked now", count(tracked)), Severity::Fatal)
        }
        (_, tracked) => (format!("{} tracked now", count(tracked)), Severity::Warning),
    };
    let shown = format!("{}, {now}", count(max));
    let value = power_of_two(needed);
    Ok(Outcome::when(max >= needed, severity, shown, required)
        // No rule is given in a line: what leaves a port untracked without cutting off its clients
        // is four rules in two tables, and wrong behind NAT.
        .fix(format!("sysctl -w net.netfilter.nf_conntrack_max={value}; {UNTRACKED}"))
        .act(Action::at_least("net.netfilter.nf_conntrack_max", value, max)))
}

fn buckets(context: &Context) -> Result<Outcome, Absent> {
    let tracking = tracking(context)?;
    if matches!(tracking, Tracking::NotLoaded) {
        return Ok(Outcome::ok("nf_conntrack is not loaded", "nothing"));
    }
    let buckets: u64 = context.root.number(&format!("{FOLDER}/nf_conntrack_buckets"))?;
    let tracked: u64 = context.root.number(&format!("{FOLDER}/nf_conntrack_count"))?;
    let needed = needed(context).div_ceil(ENTRIES_PER_BUCKET);
    let required = format!("{} ({ENTRIES_PER_BUCKET} entries a bucket)", count(needed));
    let severity = match (tracking, tracked) {
        (Tracking::Elsewhere, _) => Severity::Unknown,
        (_, 0) => Severity::Info,
        _ => Severity::Warning,
    };
    let value = power_of_two(needed);
    let key = "net.netfilter.nf_conntrack_buckets";
    Ok(Outcome::when(buckets >= needed, severity, count(buckets), required)
        .fix(format!("sysctl -w {key}={value}"))
        .act(Action::at_least(key, value, buckets)))
}

const ENTRIES_OF_OTHERS: u64 = 16_384;
/// The kernel's own ratio before 5.15; newer kernels have one.
const ENTRIES_PER_BUCKET: u64 = 4;
