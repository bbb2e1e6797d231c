//! io_uring: whether it may be used, and whether it works.

use super::{Check, Context, Outcome, Scope, Severity};
use crate::action::Action;
use crate::parse;
use crate::root::Absent;
use crate::target::{EngineWanted, UringProbe};
use crate::text::bytes;

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "uring.works",
        looks_at: "a ring of the server's size, built and used with every feature the server needs",
        why: "without io_uring the server runs on epoll, which costs more CPU per delivery; with \
              `engine = \"uring\"` it does not start",
        scope: Scope::Process,
        run: works,
    },
    Check {
        id: "uring.disabled",
        looks_at: "`kernel.io_uring_disabled`",
        why: "1 allows io_uring to one group and to CAP_SYS_ADMIN only, 2 to nobody",
        scope: Scope::Host,
        run: disabled,
    },
    Check {
        id: "uring.seccomp",
        looks_at: "whether system calls are filtered (`Seccomp` in `/proc/self/status`)",
        why: "Docker's default profile refuses io_uring since 25.0, and systemd's \
              `SystemCallFilter=` may",
        scope: Scope::Process,
        run: seccomp,
    },
    Check {
        id: "uring.memlock",
        looks_at: "locked memory (`RLIMIT_MEMLOCK`) and the kernel's version",
        why: "before Linux 5.12 and again since 6.14 rings count as locked memory, over all programs \
              of the user; without room for every shard's the server runs on epoll",
        scope: Scope::Process,
        run: memlock,
    },
    Check {
        id: "uring.kernel",
        looks_at: "the kernel's version",
        why: "the driver's ring flags came with Linux 6.1; older kernels get epoll",
        scope: Scope::Host,
        run: kernel,
    },
];

/// How bad it is to be without.
fn severity(context: &Context) -> Severity {
    match context.target.engine {
        EngineWanted::Uring => Severity::Fatal,
        EngineWanted::Auto => Severity::Warning,
        EngineWanted::Epoll => Severity::Info,
    }
}

fn works(context: &Context) -> Result<Outcome, Absent> {
    let required = match context.target.engine {
        EngineWanted::Uring => "a working ring (engine = uring)",
        EngineWanted::Auto => "a working ring (engine = auto falls back to epoll)",
        EngineWanted::Epoll => "nothing (engine = epoll)",
    };
    if let Some(pid) = context.target.process {
        // A ring that is built here says nothing about another process.
        return Ok(match rings(context, pid)? {
            0 => Outcome::unknown(
                format!("not tried for process {pid}, which has no ring open"),
                required,
            ),
            rings => Outcome::ok(format!("works: rings open in process {pid}: {rings}"), required),
        });
    }
    Ok(match &context.measured.uring {
        UringProbe::Works => Outcome::ok("works", required),
        UringProbe::Unavailable { cause, remedy } => {
            Outcome::new(severity(context), cause.clone(), required).fix(remedy.clone())
        }
        UringProbe::NotTried(why) => Outcome::unknown(why.clone(), required),
    })
}

/// Rings that a process has open, among its first descriptors: they are there before clients are.
fn rings(context: &Context, pid: u32) -> Result<usize, Absent> {
    let links = (0..FIRST_DESCRIPTORS)
        .filter_map(|fd| context.root.link_name(&format!("/proc/{pid}/fd/{fd}")));
    let (mut rings, mut any) = (0, false);
    for link in links {
        any = true;
        rings += usize::from(link == "anon_inode:[io_uring]");
    }
    let hidden = || Absent::Other(format!("the open files of process {pid} are not shown to us"));
    any.then_some(rings).ok_or_else(hidden)
}

/// More than a server of the most shards has before its first client.
const FIRST_DESCRIPTORS: u32 = 2_048;

fn disabled(context: &Context) -> Result<Outcome, Absent> {
    let path = "/proc/sys/kernel/io_uring_disabled";
    let current = context.root.optional(context.root.number::<u32>(path), "/proc/sys/kernel")?;
    let Some(current) = current else {
        return Ok(Outcome::ok("this kernel has no such switch", "0"));
    };
    let outcome = Outcome::when(current == 0, severity(context), current.to_string(), "0");
    let fix = match current {
        1 => {
            "run `sysctl kernel.io_uring_disabled=0`, or put the process's group into \
             kernel.io_uring_group; with CAP_SYS_ADMIN, as for root, it works as it is"
        }
        _ => "run `sysctl kernel.io_uring_disabled=0`",
    };
    // Somebody switched it off, maybe with good reason: only who insists on it has it switched on.
    let wanted = context.target.engine == EngineWanted::Uring;
    let outcome = outcome.fix(fix);
    Ok(if wanted { outcome.act(Action::sysctl("kernel.io_uring_disabled", 0)) } else { outcome })
}

fn seccomp(context: &Context) -> Result<Outcome, Absent> {
    let path = format!("{}/status", context.target.process_dir());
    let status = context.root.text(&path)?;
    let mode = parse::field(&status, "Seccomp").map(str::to_owned);
    let odd = || Absent::Odd { path, text: "no line `Seccomp`".to_owned() };
    let mode = mode.ok_or_else(odd)?;
    let required =
        "no filter, or one that allows io_uring_setup, io_uring_enter, io_uring_register";
    if let Some(pid) = context.target.process.filter(|_| mode != "0") {
        return Ok(match rings(context, pid) {
            Ok(1..) => Outcome::ok("a filter, and a ring is open", required),
            _ => Outcome::unknown(format!("a filter; not tried for process {pid}"), required),
        });
    }
    Ok(match (mode.as_str(), &context.measured.uring) {
        ("0", _) => Outcome::ok("no filter", required),
        (_, UringProbe::Works) => Outcome::ok("a filter that allows io_uring", required),
        (_, UringProbe::Unavailable { .. }) => Outcome::new(
            severity(context),
            "a filter, and io_uring does not work",
            required,
        )
        .fix(
            "give the container the profile that `shardcast tune render seccomp` prints, or let \
                 the unit's SystemCallFilter= have the three calls",
        ),
        (_, UringProbe::NotTried(_)) => Outcome::unknown("a filter; io_uring not tried", required),
    })
}

fn memlock(context: &Context) -> Result<Outcome, Absent> {
    let path = format!("{}/limits", context.target.process_dir());
    let text = context.root.text(&path)?;
    let odd = || Absent::Odd { path, text: "no line `Max locked memory`".to_owned() };
    let (soft, _) = parse::limit(&text, "Max locked memory").ok_or_else(odd)?;
    let Some(kernel) = context.machine.kernel else {
        return Ok(Outcome::unknown("the kernel's version is not known", "-"));
    };
    // For good, also where this kernel does not need it: the next one may.
    let for_good = Action::Service { key: "LimitMEMLOCK".to_owned(), value: "infinity".to_owned() };
    let counted = !((5, 12)..(6, 14)).contains(&(kernel.major, kernel.minor));
    let outcome = if context.target.engine == EngineWanted::Epoll {
        Outcome::ok(bytes(soft), "none (engine = epoll)")
    } else if !counted {
        Outcome::ok(bytes(soft), "none: this kernel counts rings as memory of the cgroup")
    } else if may_lock(context)? {
        Outcome::ok(format!("{}, and CAP_IPC_LOCK", bytes(soft)), "none with CAP_IPC_LOCK")
    } else {
        let (shards, ring) = (u64::from(context.target.shards), context.target.ring_bytes);
        // The ring that was tried at start is given back a little late.
        let needed = ring.saturating_mul(shards + 1);
        let required = format!(
            "{} (a ring of {} for each of {shards} shards, and one)",
            bytes(needed),
            bytes(ring)
        );
        Outcome::when(soft >= needed, severity(context), bytes(soft), required)
            .fix("LimitMEMLOCK=infinity in the systemd unit, --ulimit memlock=-1 in Docker")
    };
    Ok(outcome.act(for_good))
}

/// Whether the process may lock what it likes. In a user namespace the capability says nothing.
fn may_lock(context: &Context) -> Result<bool, Absent> {
    let folder = context.target.process_dir();
    let status = context.root.text(&format!("{folder}/status"))?;
    let mask = parse::field(&status, "CapEff").and_then(|mask| u64::from_str_radix(mask, 16).ok());
    let odd =
        || Absent::Odd { path: format!("{folder}/status"), text: "no line `CapEff`".to_owned() };
    let able = mask.ok_or_else(odd)? & (1 << CAP_IPC_LOCK) != 0;
    // A kernel without user namespaces has no such file.
    let map = context.root.text(&format!("{folder}/uid_map"));
    let map = context.root.optional(map, &folder)?;
    let own = map.is_some_and(|map| map.split_whitespace().ne(["0", "0", "4294967295"]));
    Ok(able && !own)
}

const CAP_IPC_LOCK: u32 = 14;

fn kernel(context: &Context) -> Result<Outcome, Absent> {
    let release = context.root.text("/proc/sys/kernel/osrelease")?;
    let Some(kernel) = context.machine.kernel else {
        return Err(Absent::Odd { path: "/proc/sys/kernel/osrelease".to_owned(), text: release });
    };
    let enough = (kernel.major, kernel.minor) >= (6, 1);
    let fix = "run Linux 6.1 or later (6.1.119, 6.6.86, 6.12.21 or later advised)";
    Ok(Outcome::when(enough, severity(context), release, "6.1 for io_uring").fix(fix))
}
