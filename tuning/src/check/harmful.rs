//! Advice that is copied from page to page and does harm, or nothing: said, with the reason.
//!
//! Values in force are looked at, and the files that set them at the next start.

use super::{Check, Context, Outcome, Scope};
use crate::action::Action;
use crate::root::Absent;
use crate::text::bytes;

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "advice.in_force",
        looks_at: "settings in force that are known to do harm",
        why: "each is explained where it is found; the list is below the table",
        scope: Scope::Network,
        run: in_force,
    },
    Check {
        id: "advice.in_files",
        looks_at: "`/etc/sysctl.conf` and the folders `sysctl.d`, for the same settings",
        why: "they come back at the next start",
        scope: Scope::Host,
        run: in_files,
    },
];

/// A setting that should not be.
pub struct Harmful {
    /// The key of `sysctl`.
    pub key: &'static str,
    /// Which values, in words.
    pub when: &'static str,
    /// What it does.
    pub why: &'static str,
    /// The value to go back to, where one is right for every machine; `None` also for what people
    /// set on purpose, which is said and never changed.
    pub instead: Option<&'static str>,
    /// True for a harmful value.
    matches: fn(&str) -> bool,
}

fn above(text: &str, bound: u64) -> bool {
    let last = text.split_whitespace().next_back().and_then(|number| number.parse::<u64>().ok());
    last.is_some_and(|number| number > bound)
}

/// The list; the page shows it, too.
pub const HARMFUL: &[Harmful] = &[
    Harmful {
        key: "net.ipv4.tcp_tw_recycle",
        when: "1",
        why: "dropped clients behind the same NAT at random; gone since Linux 4.12, where the line \
              only makes `sysctl -p` fail",
        instead: Some("0"),
        matches: |value| value != "0",
    },
    Harmful {
        key: "net.core.rmem_max",
        when: "over 16 MiB",
        why: "TCP's own sizing does not look at it; it lets every program take that much for one \
              UDP socket. Needed only for a bandwidth-delay product that was computed",
        instead: None,
        matches: |value| above(value, 16 << 20),
    },
    Harmful {
        key: "net.core.wmem_max",
        when: "over 16 MiB",
        why: "as net.core.rmem_max",
        instead: None,
        matches: |value| above(value, 16 << 20),
    },
    Harmful {
        key: "net.core.rmem_default",
        when: "over 1 MiB",
        why: "the first buffer of every socket that is not TCP, wanted or not",
        instead: Some("212992"),
        matches: |value| above(value, 1 << 20),
    },
    Harmful {
        key: "net.core.wmem_default",
        when: "over 1 MiB",
        why: "as net.core.rmem_default",
        instead: Some("212992"),
        matches: |value| above(value, 1 << 20),
    },
    Harmful {
        key: "net.ipv4.tcp_rmem",
        when: "most over 32 MiB",
        why: "a client that sends much while its shard is busy fills it; clients here send little",
        instead: Some("4096 131072 6291456"),
        matches: |value| above(value, 32 << 20),
    },
    Harmful {
        key: "net.ipv4.tcp_wmem",
        when: "most over 32 MiB",
        why: "one slow reader may hold that much of the kernel's memory where \
              `limits.unsent_bytes_max` leaves it to the kernel",
        instead: Some("4096 16384 4194304"),
        matches: |value| above(value, 32 << 20),
    },
    Harmful {
        key: "net.ipv4.tcp_timestamps",
        when: "0",
        why: "without timestamps (1 is the default) a connection made by cookie loses window scaling \
              and SACK, and old segments are told from new ones less well; guides to hardening ask \
              for 0, so it is yours to decide",
        instead: None,
        matches: |value| value == "0",
    },
    Harmful {
        key: "net.ipv4.tcp_sack",
        when: "0",
        why: "one lost packet costs a window of retransmissions (1 is the default); the holes it was \
              switched off for were closed in 2019, so it is yours to decide",
        instead: None,
        matches: |value| value == "0",
    },
    Harmful {
        key: "net.ipv4.tcp_window_scaling",
        when: "0",
        why: "no connection gets further than 64 KiB a round trip",
        instead: Some("1"),
        matches: |value| value == "0",
    },
    Harmful {
        key: "net.ipv4.tcp_abort_on_overflow",
        when: "1",
        why: "a full accept queue resets clients, which come back at once, instead of letting them \
              try again after a second",
        instead: Some("0"),
        matches: |value| value == "1",
    },
    Harmful {
        key: "net.ipv4.tcp_low_latency",
        when: "1",
        why: "does nothing since Linux 4.14",
        instead: Some("0"),
        matches: |value| value == "1",
    },
    Harmful {
        key: "net.ipv4.tcp_max_tw_buckets",
        when: "under 4,096",
        why: "connections end without their time-wait, and a late segment of an old one may reach a \
              new one",
        instead: None,
        matches: |value| value.parse::<u64>().is_ok_and(|number| number < 4_096),
    },
    Harmful {
        key: "vm.overcommit_memory",
        when: "2",
        why: "address space that is reserved and not used counts, so that programs fail with memory \
              free (0 is the default); databases ask for 2 on purpose, so it is yours to decide",
        instead: None,
        matches: |value| value == "2",
    },
];

fn in_force(context: &Context) -> Result<Outcome, Absent> {
    let required = "none of the settings that do harm";
    context.root.list("/proc/sys/net")?;
    let mut found: Vec<(&Harmful, String)> = Vec::new();
    let mut unseen = Vec::new();
    for harmful in HARMFUL {
        let path = crate::action::sysctl_path(harmful.key);
        // Keys come and go with versions of the kernel, and not all are in every namespace.
        let folder = path.rsplit_once('/').map_or("/proc/sys", |(folder, _)| folder);
        match context.root.optional(context.root.text(&path), folder) {
            Ok(Some(value)) if (harmful.matches)(&value) => found.push((harmful, value)),
            Ok(_) => {}
            Err(absent) => unseen.push(absent.to_string()),
        }
    }
    if found.is_empty() {
        return Ok(none_found(&unseen, required));
    }
    let mut shown: Vec<String> = found
        .iter()
        .map(|(harmful, value)| format!("{} = {}", harmful.key, shown(value)))
        .collect();
    shown.extend(unseen);
    let fixes = found.iter().map(|(harmful, _)| advice(harmful));
    let outcome =
        Outcome::warning(shown.join("; "), required).fix(fixes.collect::<Vec<_>>().join("; "));
    // Only what has one right value everywhere is changed; the others are a person's to decide.
    let actions = found.iter().filter_map(|(harmful, _)| Some((harmful.key, harmful.instead?)));
    Ok(actions.fold(outcome, |outcome, (key, value)| outcome.act(Action::sysctl(key, value))))
}

/// None was found: which is an answer only where everything was seen.
fn none_found(unseen: &[String], required: &str) -> Outcome {
    match unseen {
        [] => Outcome::ok("none", required),
        unseen => Outcome::unknown(unseen.join("; "), required),
    }
}

fn advice(harmful: &Harmful) -> String {
    match harmful.instead {
        Some(value) => format!("{} = {value}: {}", harmful.key, harmful.why),
        None => format!("{}: {}", harmful.key, harmful.why),
    }
}

/// Large single numbers as bytes.
fn shown(value: &str) -> String {
    match value.parse::<u64>() {
        Ok(number) if number >= 1 << 20 => bytes(number),
        _ => value.split_whitespace().collect::<Vec<_>>().join(" "),
    }
}

/// Where `sysctl --system` looks.
const FOLDERS: &[&str] = &[
    "/etc/sysctl.d",
    "/run/sysctl.d",
    "/usr/local/lib/sysctl.d",
    "/usr/lib/sysctl.d",
    "/lib/sysctl.d",
];

fn in_files(context: &Context) -> Result<Outcome, Absent> {
    let required = "none of the settings that do harm";
    let mut files = vec!["/etc/sysctl.conf".to_owned()];
    let mut unseen = Vec::new();
    for folder in FOLDERS {
        match context.root.list(folder) {
            Ok(names) => {
                let names = names.iter().filter(|name| name.ends_with(".conf"));
                files.extend(names.map(|name| format!("{folder}/{name}")));
            }
            Err(Absent::Missing { .. }) => {}
            Err(absent) => unseen.push(absent.to_string()),
        }
    }
    let (mut found, mut fixes, mut seen) = (Vec::new(), Vec::new(), Vec::new());
    for file in files {
        let text = match context.root.text(&file) {
            Ok(text) => text,
            Err(Absent::Missing { .. }) => continue,
            Err(absent) => {
                unseen.push(absent.to_string());
                continue;
            }
        };
        // Where `/lib` is a link, or a file of one folder a link to another's, once is enough.
        let real = context.root.path(&file).canonicalize().unwrap_or_default();
        if seen.contains(&real) {
            continue;
        }
        seen.push(real);
        for (index, line) in text.lines().enumerate() {
            let Some((key, value)) = setting(line) else { continue };
            for harmful in HARMFUL.iter().filter(|h| h.key == key && (h.matches)(&value)) {
                found.push(format!("{file}:{}: {key} = {value}", index + 1));
                fixes.push(format!("take the line out: {}", harmful.why));
            }
        }
    }
    if found.is_empty() && context.container.is_some() {
        unseen.push("these are the container's files; those of the host are not seen".to_owned());
    }
    if found.is_empty() {
        return Ok(none_found(&unseen, required));
    }
    found.extend(unseen);
    fixes.dedup();
    // Somebody else's files: never changed by us.
    Ok(Outcome::warning(found.join("; "), required).fix(fixes.join("; ")))
}

/// A line of a sysctl file as key and value; keys may be written with slashes, and a leading `-`
/// forgives errors.
fn setting(line: &str) -> Option<(String, String)> {
    let line = line.trim().trim_start_matches('-');
    if line.starts_with(['#', ';']) {
        return None;
    }
    let (key, value) = line.split_once('=')?;
    let words: Vec<&str> = value.split_whitespace().collect();
    Some((key.trim().replace('/', "."), words.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_sysctl_files_read_as_sysctl_reads_them() {
        let check = |line: &str, expected: Option<(&str, &str)>| {
            let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
            assert_eq!(setting(line), expected, "{line}");
        };
        check("net.ipv4.tcp_sack = 0", Some(("net.ipv4.tcp_sack", "0")));
        check("-net/ipv4/tcp_rmem=1  2\t3", Some(("net.ipv4.tcp_rmem", "1 2 3")));
        check("# net.ipv4.tcp_sack = 0", None);
        check("; x = 1", None);
        check("nonsense", None);
    }

    #[test]
    fn what_people_set_on_purpose_is_never_changed() {
        for key in ["vm.overcommit_memory", "net.ipv4.tcp_timestamps", "net.ipv4.tcp_sack"] {
            let harmful = HARMFUL.iter().find(|harmful| harmful.key == key).unwrap();
            assert_eq!(harmful.instead, None, "{key}");
            assert!(harmful.why.contains("yours to decide"), "{key}");
        }
        let wide = HARMFUL.iter().any(|harmful| {
            harmful.key == "net.ipv4.tcp_wmem" && (harmful.matches)("4096 65536 134217728")
        });
        assert!(wide);
    }

    #[test]
    fn the_kernels_own_defaults_do_no_harm() {
        let defaults = [
            ("net.core.rmem_max", "212992"),
            ("net.core.rmem_max", "4194304"),
            ("net.ipv4.tcp_rmem", "4096\t131072\t6291456"),
            ("net.ipv4.tcp_rmem", "4096\t131072\t33554432"),
            ("net.ipv4.tcp_timestamps", "1"),
            ("net.ipv4.tcp_max_tw_buckets", "131072"),
            ("vm.overcommit_memory", "0"),
        ];
        for (key, value) in defaults {
            let hit = HARMFUL.iter().any(|h| h.key == key && (h.matches)(value));
            assert!(!hit, "{key} = {value}");
        }
    }
}
