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
        why: "1 allows io_uring to one group only, 2 to nobody",
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
        why: "before Linux 5.12 rings counted as locked memory, and a low limit refused them",
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
    Ok(match &context.measured.uring {
        UringProbe::Works => Outcome::ok("works", required),
        UringProbe::Unavailable { cause, remedy } => {
            Outcome::new(severity(context), cause.clone(), required).fix(remedy.clone())
        }
        UringProbe::NotTried(why) => Outcome::unknown(why.clone(), required),
    })
}

fn disabled(context: &Context) -> Result<Outcome, Absent> {
    let path = "/proc/sys/kernel/io_uring_disabled";
    if !context.root.exists(path) && context.root.exists("/proc/sys/kernel/osrelease") {
        return Ok(Outcome::ok("this kernel has no such switch", "0"));
    }
    let current: u32 = context.root.number(path)?;
    let outcome = Outcome::when(current == 0, severity(context), current.to_string(), "0");
    let fix = match current {
        1 => {
            "run `sysctl kernel.io_uring_disabled=0`, or add the process's group to \
              kernel.io_uring_group"
        }
        _ => "run `sysctl kernel.io_uring_disabled=0`",
    };
    let wanted = context.target.engine != EngineWanted::Epoll;
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
    if (kernel.major, kernel.minor) >= (5, 12) {
        let required = "none: since Linux 5.12 rings count against the cgroup's memory";
        return Ok(Outcome::ok(bytes(soft), required));
    }
    let needed = RING_BYTES * u64::from(context.target.shards);
    let required = format!("{} ({} shards)", bytes(needed), context.target.shards);
    Ok(Outcome::when(soft >= needed, severity(context), bytes(soft), required)
        .fix("LimitMEMLOCK=infinity in the systemd unit, --ulimit memlock=-1 in Docker")
        .act(Action::Service { key: "LimitMEMLOCK".to_owned(), value: "infinity".to_owned() }))
}

/// Submission and completion queue of a shard: 4,096 entries of 64 B and 32,768 of 16 B, and their
/// heads.
const RING_BYTES: u64 = 1 << 20;

fn kernel(context: &Context) -> Result<Outcome, Absent> {
    let release = context.root.text("/proc/sys/kernel/osrelease")?;
    let Some(kernel) = context.machine.kernel else {
        return Err(Absent::Odd { path: "/proc/sys/kernel/osrelease".to_owned(), text: release });
    };
    let enough = (kernel.major, kernel.minor) >= (6, 1);
    let fix = "run Linux 6.1 or later (6.1.119, 6.6.86, 6.12.21 or later advised)";
    Ok(Outcome::when(enough, severity(context), release, "6.1 for io_uring").fix(fix))
}
