//! The files that a plan can ask to be written, and no others.
//!
//! An undo file is data from a disk: were every file of the kernel accepted from it, a record for
//! `kernel.core_pattern` would run a program as root. So each path that a check plans is named here
//! once more, by hand, and a check that plans another one is refused until it is. Tested against
//! what the checks ask for on every machine of the tests.

use crate::action::sysctl_path;
use crate::check::harmful_restored;

/// What checks set by `sysctl`, besides what `advice.in_force` puts right.
const SYSCTLS: &[&str] = &[
    "fs.file-max",
    "fs.nr_open",
    "kernel.io_uring_disabled",
    "net.core.rps_sock_flow_entries",
    "net.core.somaxconn",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_mem",
    "net.ipv4.tcp_syncookies",
    "net.netfilter.nf_conntrack_buckets",
    "net.netfilter.nf_conntrack_max",
    "vm.swappiness",
];

/// Other files: `#` is a decimal number, `*` a name, within one part of the path.
const PATTERNS: &[&str] = &[
    "/proc/irq/#/smp_affinity_list",
    "/sys/class/net/*/queues/rx-#/rps_cpus",
    "/sys/class/net/*/queues/rx-#/rps_flow_cnt",
    "/sys/class/net/*/queues/tx-#/xps_cpus",
    // A partition's disk is the folder above it, once its link is followed.
    "/sys/dev/block/#:#/../queue/scheduler",
    "/sys/dev/block/#:#/queue/scheduler",
    "/sys/devices/system/clocksource/clocksource0/current_clocksource",
    "/sys/devices/system/cpu/cpu#/cpufreq/scaling_governor",
    // Undo files of before the table's size was set by `sysctl` name it.
    "/sys/module/nf_conntrack/parameters/hashsize",
];

/// Whether a plan could ask for this file.
pub(super) fn is_ours(path: &str) -> bool {
    let mut keys = SYSCTLS.iter().copied().chain(harmful_restored());
    keys.any(|key| sysctl_path(key) == path) || PATTERNS.iter().any(|known| fits(path, known))
}

fn fits(path: &str, pattern: &str) -> bool {
    let (parts, known) = (path.split('/'), pattern.split('/'));
    parts.clone().count() == known.clone().count()
        && parts.zip(known).all(|(part, known)| match known {
            "*" => !matches!(part, "" | "." | ".."),
            known => part_fits(part, known),
        })
}

/// Without the digits that stand where `#` stands, nothing but the pattern is left.
fn part_fits(mut part: &str, known: &str) -> bool {
    let mut words = known.split('#');
    let first = words.next().unwrap_or_default();
    let Some(rest) = part.strip_prefix(first) else { return false };
    part = rest;
    for word in words {
        let after = part.trim_start_matches(|c: char| c.is_ascii_digit());
        let Some(rest) = after.strip_prefix(word).filter(|_| after.len() < part.len()) else {
            return false;
        };
        part = rest;
    }
    part.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_plan_can_ask_for_is_ours_and_nothing_else() {
        for path in [
            "/proc/irq/35/smp_affinity_list",
            "/proc/sys/net/core/somaxconn",
            "/proc/sys/net/ipv4/tcp_wmem",
            "/sys/class/net/enp1s0.100/queues/rx-10/rps_cpus",
            "/sys/class/net/eth0/queues/tx-0/xps_cpus",
            "/sys/dev/block/254:0/queue/scheduler",
            "/sys/dev/block/8:1/../queue/scheduler",
            "/sys/devices/system/cpu/cpu127/cpufreq/scaling_governor",
            "/sys/module/nf_conntrack/parameters/hashsize",
        ] {
            assert!(is_ours(path), "{path}");
        }
        for path in [
            "",
            "/etc/passwd",
            "/proc/1/oom_score_adj",
            "/proc/irq//smp_affinity_list",
            "/proc/irq/3x/smp_affinity_list",
            "/proc/irq/default_smp_affinity",
            "/proc/sys/../../etc/x",
            "/proc/sys/kernel/core_pattern",
            "/proc/sys/kernel/modprobe",
            "/proc/sys/net/core/../core/somaxconn",
            "/proc/sys/net/core/somaxconn/",
            "/proc/sys/net/ipv4/conf/all/rp_filter",
            "/proc/sys/net/ipv4/tcp_timestamps",
            "/proc/sys/vm/overcommit_memory",
            "/sys/class/net/../queues/rx-0/rps_cpus",
            "/sys/class/net/eth0/device/queues/rx-0/rps_cpus",
            "/sys/class/net/eth0/queues/rx-/rps_cpus",
            "/sys/dev/block/8:/queue/scheduler",
            "/sys/dev/block/8:1/../../queue/scheduler",
            "/sys/kernel/uevent_helper",
            "/sys/module/nf_conntrack/parameters/hashsize2",
            "/sys/power/state",
            "proc/sys/net/core/somaxconn",
        ] {
            assert!(!is_ours(path), "{path}");
        }
    }
}
