//! Descriptors: one per client, limited in three places.

use super::{Check, Context, Outcome, Scope, Severity};
use crate::action::Action;
use crate::parse;
use crate::root::Absent;
use crate::text::{count, power_of_two};

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "files.nofile_hard",
        looks_at: "hard limit of open files of the process (or of the one given by `--pid`)",
        why: "every client is a descriptor; the server raises its soft limit to the hard one and \
              serves no more clients than that",
        scope: Scope::Process,
        run: nofile_hard,
    },
    Check {
        id: "files.nofile_soft",
        looks_at: "soft limit of open files",
        why: "a low soft limit is raised by the server at start, but not by load generators and \
              other programs of the same user",
        scope: Scope::Process,
        run: nofile_soft,
    },
    Check {
        id: "files.nr_open",
        looks_at: "`fs.nr_open`",
        why: "nobody, root included, may set a limit of open files above it",
        scope: Scope::Host,
        run: nr_open,
    },
    Check {
        id: "files.file_max",
        looks_at: "`fs.file-max` and how many are open",
        why: "the whole machine's limit; reaching it fails accepts of every process",
        scope: Scope::Host,
        run: file_max,
    },
];

fn limits(context: &Context) -> Result<(u64, u64), Absent> {
    let path = format!("{}/limits", context.target.process_dir());
    let text = context.root.text(&path)?;
    let odd = || Absent::Odd { path, text: "no line `Max open files`".to_owned() };
    parse::nofile(&text).ok_or_else(odd)
}

fn needed(context: &Context) -> (u64, String) {
    let target = context.target;
    let needed = target.descriptors();
    let sum = format!(
        "{} ({} clients + {} of the server)",
        count(needed),
        count(target.connections),
        count(target.descriptors_reserved)
    );
    (needed, sum)
}

fn nofile_hard(context: &Context) -> Result<Outcome, Absent> {
    let (_, hard) = limits(context)?;
    let (needed, required) = needed(context);
    let limit = context.target.descriptors_limit();
    let outcome = Outcome::when(hard >= needed, Severity::Fatal, count(hard), required);
    Ok(outcome
        .fix(format!(
            "LimitNOFILE={limit} in the systemd unit, --ulimit nofile={limit} in Docker, `ulimit -n \
             {limit}` in a shell; /etc/security/limits.d does not apply to systemd services"
        ))
        .act(Action::Service { key: "LimitNOFILE".to_owned(), value: limit.to_string() }))
}

fn nofile_soft(context: &Context) -> Result<Outcome, Absent> {
    let (soft, hard) = limits(context)?;
    let (needed, required) = needed(context);
    let outcome = Outcome::when(soft >= needed, Severity::Info, count(soft), required);
    Ok(outcome.fix(if hard >= needed {
        "nothing to do: the server raises it to the hard limit itself"
    } else {
        "raise the hard limit (files.nofile_hard); the server raises the soft one itself"
    }))
}

fn nr_open(context: &Context) -> Result<Outcome, Absent> {
    let current: u64 = context.root.number("/proc/sys/fs/nr_open")?;
    let needed = context.target.descriptors_limit();
    let value = power_of_two(needed).clamp(1 << 20, NR_OPEN_MAX.max(current));
    let required = format!("{} (the limit that files.nofile_hard asks for)", count(needed));
    if needed > NR_OPEN_MAX {
        let shown =
            format!("{}; no kernel allows more than {}", count(current), count(NR_OPEN_MAX));
        return Ok(Outcome::new(Severity::Fatal, shown, required)
            .fix("more servers with fewer clients each: `shardcast capacity` says how many"));
    }
    Ok(Outcome::when(current >= needed, Severity::Fatal, count(current), required)
        .fix(format!("sysctl -w fs.nr_open={value}"))
        .act(Action::at_least("fs.nr_open", value, current)))
}

/// The kernel's own bound, 2^31 less a word of bits: it refuses a larger `fs.nr_open`.
const NR_OPEN_MAX: u64 = (1 << 31) - 64;

fn file_max(context: &Context) -> Result<Outcome, Absent> {
    let max: u64 = context.root.number("/proc/sys/fs/file-max")?;
    let open = context.root.numbers::<3>("/proc/sys/fs/file-nr").map(|[open, ..]| open)?;
    let needed = context.target.descriptors().saturating_add(open).saturating_add(FILES_OF_OTHERS);
    let required = format!(
        "{} (the target, {} open now, {} to spare)",
        count(needed),
        count(open),
        count(FILES_OF_OTHERS)
    );
    let value = power_of_two(needed);
    Ok(Outcome::when(max >= needed, Severity::Fatal, count(max), required)
        .fix(format!("sysctl -w fs.file-max={value}"))
        .act(Action::at_least("fs.file-max", value, max)))
}

/// What the rest of a machine may want besides.
const FILES_OF_OTHERS: u64 = 8_192;
