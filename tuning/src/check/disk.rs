//! The disk of the spool.

use super::{Check, Context, Outcome, Scope, Severity};
use crate::action::Action;
use crate::root::Absent;
use crate::text::bytes;

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "disk.space",
        looks_at: "free space where `data_dir` is, against `spool.bytes_max`",
        why: "on a full disk publishes to stored namespaces get 503",
        scope: Scope::Configuration,
        run: space,
    },
    Check {
        id: "disk.file_system",
        looks_at: "the file system of `data_dir`",
        why: "what is in memory or in a container's layer is gone after a restart, and over a \
              network a sync is slow or untrue",
        scope: Scope::Configuration,
        run: file_system,
    },
    Check {
        id: "disk.scheduler",
        looks_at: "the I/O scheduler of the disk of `data_dir`",
        why: "bfq and kyber order requests at the price of each; the spool writes in order already",
        scope: Scope::Host,
        run: scheduler,
    },
    Check {
        id: "disk.sync",
        looks_at: "time of a 4 KiB write and fdatasync, measured in `data_dir` (`--measure`)",
        why: "publishes with `ack=durable` wait for one",
        scope: Scope::Host,
        run: sync,
    },
];

fn space(context: &Context) -> Result<Outcome, Absent> {
    let most = context.target.spool_bytes_max;
    let most = most.saturating_add(most / 10);
    Ok(match &context.measured.space {
        Ok(space) => {
            let needed = most.saturating_sub(space.spool_bytes);
            let required = format!("{} (spool.bytes_max, and a tenth)", bytes(needed));
            let shown = format!("{} free", bytes(space.free_bytes));
            Outcome::when(space.free_bytes >= needed, Severity::Warning, shown, required)
                .fix("a larger disk, or a smaller spool.bytes_max and spool.retention_bytes")
        }
        Err(why) => Outcome::unknown(why.clone(), format!("{} free", bytes(most))),
    })
}

/// A line of `/proc/self/mountinfo`.
struct Mount {
    /// Such as `254:0`.
    device: String,
    kind: String,
}

/// Where `data_dir` is mounted: the longest mount point above it, the last where several are.
fn mount(context: &Context) -> Result<Mount, Absent> {
    let text = context.root.text("/proc/self/mountinfo")?;
    let folder = &context.target.data_dir;
    if !folder.is_absolute() {
        let why = format!("{} is not absolute, so its disk is not known", folder.display());
        return Err(Absent::Other(why));
    }
    let mut best: Option<(usize, Mount)> = None;
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let (Some(device), Some(point)) = (words.get(2), words.get(4)) else { continue };
        let dash = words.iter().position(|word| *word == "-");
        let Some(kind) = dash.and_then(|dash| words.get(dash + 1)) else { continue };
        let point = unescaped(point);
        if folder.starts_with(&point) && best.as_ref().is_none_or(|(len, _)| point.len() >= *len) {
            let mount = Mount { device: (*device).to_owned(), kind: (*kind).to_owned() };
            best = Some((point.len(), mount));
        }
    }
    let none = || Absent::Other(format!("no mount holds {}", folder.display()));
    best.map(|(_, mount)| mount).ok_or_else(none)
}

/// The kernel writes blanks, tabs, line ends and backslashes in a path as `\040` and so on.
fn unescaped(path: &str) -> String {
    let mut out = String::new();
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        let code = after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code.filter(u8::is_ascii) {
            Some(code) => {
                out.push(char::from(code));
                rest = &after[3..];
            }
            None => {
                out.push('\\');
                rest = after;
            }
        }
    }
    out + rest
}

fn file_system(context: &Context) -> Result<Outcome, Absent> {
    let kind = mount(context)?.kind;
    let required = "a local disk: ext4, xfs, btrfs, zfs, f2fs";
    Ok(match kind.as_str() {
        "ext2" | "ext3" | "ext4" | "xfs" | "btrfs" | "zfs" | "f2fs" => Outcome::ok(kind, required),
        "tmpfs" | "ramfs" => Outcome::warning(kind, required)
            .fix("--data-dir on a disk: in memory nothing survives a restart"),
        "overlay" | "aufs" => Outcome::warning(kind, required)
            .fix("a volume at data_dir: a container's layer goes with the container"),
        "nfs" | "nfs4" | "cifs" | "smb3" | "9p" | "ceph" | "glusterfs" => {
            Outcome::warning(kind, required)
                .fix("--data-dir on a local disk; copies elsewhere are what the stores are for")
        }
        _ => Outcome::info(kind, required).fix("nothing is known of it; see disk.sync"),
    })
}

fn scheduler(context: &Context) -> Result<Outcome, Absent> {
    let Mount { device, kind } = mount(context)?;
    if device.starts_with("0:") {
        return Ok(match kind.as_str() {
            "tmpfs" | "ramfs" | "nfs" | "nfs4" | "cifs" | "smb3" | "9p" | "ceph" => {
                Outcome::ok(format!("no disk here ({kind})"), "nothing")
            }
            // btrfs, zfs, overlay and the like spread over disks, or lie on another file system.
            _ => Outcome::unknown(
                format!("{kind} does not say which disks it is on"),
                "none or mq-deadline",
            ),
        });
    }
    // A partition has no queue of its own; the disk is the folder above it.
    let folder = format!("/sys/dev/block/{device}");
    let queue = [format!("{folder}/queue"), format!("{folder}/../queue")]
        .into_iter()
        .find(|queue| context.root.exists(queue));
    let Some(queue) = queue else {
        return Err(Absent::Missing { path: format!("{folder}/queue") });
    };
    let path = format!("{queue}/scheduler");
    let chosen = context.root.chosen(&path)?;
    let spins = context.root.number::<u32>(&format!("{queue}/rotational"))? == 1;
    let (wanted, required) = match spins {
        true => ("mq-deadline", "mq-deadline (it spins, or says so)"),
        false => ("none", "none or mq-deadline"),
    };
    let met = chosen == "mq-deadline" || (chosen == "none" && !spins);
    // A hypervisor's disk often says that it spins, and `none` is right there.
    let severity = if chosen == "none" { Severity::Info } else { Severity::Warning };
    let outcome = Outcome::when(met, severity, chosen, required);
    let outcome = outcome.fix(format!("echo {wanted} > {path}"));
    let offered = context.root.text(&path)?;
    let there = offered.split_whitespace().any(|word| word.trim_matches(['[', ']']) == wanted);
    Ok(if there && outcome.severity == Severity::Warning {
        outcome.act(Action::file(path, wanted))
    } else {
        outcome
    })
}

fn sync(context: &Context) -> Result<Outcome, Absent> {
    let required = format!("median at most {SYNC_MS_MAX} ms");
    Ok(match &context.measured.sync {
        Ok(time) => {
            let shown = format!(
                "median {:.1} ms, slowest {:.1} ms of {}",
                time.median_ms, time.worst_ms, time.tries
            );
            Outcome::when(time.median_ms <= SYNC_MS_MAX, Severity::Warning, shown, required).fix(
                "a faster disk (one with power-loss protection syncs in well under 1 ms), or \
                 publish with ack=accepted",
            )
        }
        Err(why) => Outcome::unknown(why.clone(), required),
    })
}

/// A disk that spins does it in about ten.
const SYNC_MS_MAX: f64 = 10.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_as_the_kernel_escapes_them() {
        let check = |text: &str, path: &str| assert_eq!(unescaped(text), path, "{text}");
        check("/plain", "/plain");
        check("/a\\040b\\011c\\012d\\134040", "/a b\tc\nd\\040");
        check("/short\\04", "/short\\04");
        check("/odd\\999é\\", "/odd\\999é\\");
        check("/é\\040é", "/é é");
    }
}
