//! Memory: enough of it, and none that goes missing.

use super::{Check, Context, Outcome, Scope, Severity};
use crate::action::Action;
use crate::root::Absent;
use crate::target::Room;
use crate::text::{bytes, count};

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "memory.connections",
        looks_at: "how many clients the server's memory budget has room for (`config --limits`)",
        why: "the server refuses clients above it; pools and what each client takes are in the budget",
        scope: Scope::Host,
        run: connections,
    },
    Check {
        id: "memory.planned",
        looks_at: "`limits.memory_bytes_max` against the machine and its cgroup",
        why: "planning with more than there is ends in the kernel killing the server under load",
        scope: Scope::Configuration,
        run: planned,
    },
    Check {
        id: "memory.cgroup",
        looks_at: "the limit of the cgroup (version 1 or 2, `memory.high` included)",
        why: "sockets and page cache count against it, too; at `memory.high` the server is slowed \
              down, at `memory.max` it is killed",
        scope: Scope::Process,
        run: cgroup,
    },
    Check {
        id: "memory.swap",
        looks_at: "swap in use and `vm.swappiness`",
        why: "a shard that waits for a page to come back from disk lets all of its clients wait",
        scope: Scope::Host,
        run: swap,
    },
    Check {
        id: "memory.huge_pages",
        looks_at: "`/sys/kernel/mm/transparent_hugepage/enabled`",
        why: "the server asks for none of them (they doubled its memory); with `always` other \
              programs get them unasked, and the kernel spends CPU on making them",
        scope: Scope::Host,
        run: huge_pages,
    },
];

fn connections(context: &Context) -> Result<Outcome, Absent> {
    let needed = context.target.connections;
    let required = format!("{} clients", count(needed));
    let fix = "more memory, fewer shards (each has its pools), or smaller pools: `shardcast config \
               --limits` shows what each takes";
    Ok(match &context.measured.connections_by_memory {
        Room::Clients(room) => {
            Outcome::when(*room >= needed, Severity::Fatal, count(*room), required).fix(fix)
        }
        Room::NoStart(why) => {
            let shown = format!("the server does not start: {why}");
            Outcome::new(Severity::Fatal, shown, required).fix(fix)
        }
        Room::NotTried(why) => Outcome::unknown(why.clone(), required),
    })
}

fn planned(context: &Context) -> Result<Outcome, Absent> {
    let there = context.memory_bytes()?;
    let Some(planned) = context.target.memory_planned_bytes else {
        context.cgroup_read()?;
        return Ok(Outcome::ok("three quarters of what is there", bytes(there)));
    };
    let required = format!("at most {}, which is there", bytes(there));
    if planned <= there {
        context.cgroup_read()?;
    }
    Ok(Outcome::when(planned <= there, Severity::Fatal, bytes(planned), required).fix(format!(
        "limits.memory_bytes_max = {} or less (three quarters), or 0 to derive it",
        there / 4 * 3
    )))
}

fn cgroup(context: &Context) -> Result<Outcome, Absent> {
    context.cgroup_read()?;
    let Some(limit) = context.machine.memory_limit_bytes else {
        context.cgroup_seen()?;
        return Ok(Outcome::ok("no limit", "none, or known to the server"));
    };
    let required = "known to the server, which plans with three quarters of it";
    Ok(Outcome::ok(bytes(limit), required))
}

fn swap(context: &Context) -> Result<Outcome, Absent> {
    let text = context.root.text("/proc/swaps")?;
    let mut devices = text.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    let Some(first) = devices.next() else {
        return Ok(Outcome::ok("no swap", "none, or vm.swappiness at most 10"));
    };
    let swappiness: u64 = context.root.number("/proc/sys/vm/swappiness")?;
    let shown = format!("{first}, vm.swappiness = {swappiness}");
    let required = format!("none, or vm.swappiness at most {SWAPPINESS_MAX}");
    Ok(Outcome::when(swappiness <= SWAPPINESS_MAX, Severity::Warning, shown, required)
        .fix("sysctl -w vm.swappiness=1, or MemorySwapMax=0 in the systemd unit")
        .act(Action::sysctl("vm.swappiness", swappiness.min(1))))
}

/// Above it the kernel swaps out memory that is merely idle, such as that of quiet connections.
const SWAPPINESS_MAX: u64 = 10;

fn huge_pages(context: &Context) -> Result<Outcome, Absent> {
    let path = "/sys/kernel/mm/transparent_hugepage/enabled";
    let chosen = context.root.optional(context.root.chosen(path), "/sys/kernel/mm")?;
    let Some(chosen) = chosen else {
        return Ok(Outcome::ok("this kernel has none", "madvise or never"));
    };
    let met = chosen == "madvise" || chosen == "never";
    Ok(Outcome::when(met, Severity::Info, chosen, "madvise or never")
        .fix(format!("echo madvise > {path}, if the machine is the server's alone")))
}
