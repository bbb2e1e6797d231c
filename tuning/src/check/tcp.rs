//! TCP: queues of connections that come, and memory of those that are there.

use super::{Check, Context, Outcome, Scope, Severity};
use crate::action::Action;
use crate::root::Absent;
use crate::target::LISTEN_BACKLOG;
use crate::text::{bytes, count};

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "tcp.somaxconn",
        looks_at: "`net.core.somaxconn`, which bounds what the server asks of `listen`",
        why: "clients that come back all at once wait here until their shard accepts them; beyond \
              it the kernel drops them and they wait for a retransmission",
        scope: Scope::Network,
        run: somaxconn,
    },
    Check {
        id: "tcp.syncookies",
        looks_at: "`net.ipv4.tcp_syncookies`",
        why: "with cookies a full queue of half-open connections costs nothing but options; without \
              them clients are refused",
        scope: Scope::Network,
        run: syncookies,
    },
    Check {
        id: "tcp.syn_backlog",
        looks_at: "`net.ipv4.tcp_max_syn_backlog`",
        why: "bounds half-open connections, but only while `tcp_syncookies` is 0",
        scope: Scope::Network,
        run: syn_backlog,
    },
    Check {
        id: "tcp.mem",
        looks_at: "`net.ipv4.tcp_mem`, in pages: the second figure is where the kernel starts to save",
        why: "what slow readers have not read yet waits in the kernel; above the third figure it \
              drops packets that come and holds up sends of every connection",
        scope: Scope::Host,
        run: tcp_mem,
    },
    Check {
        id: "tcp.rmem",
        looks_at: "`net.ipv4.tcp_rmem`: least, first and most bytes of a receive buffer",
        why: "the least is given to every connection even when memory is short, so that times the \
              clients it must fit into `tcp_mem`",
        scope: Scope::Network,
        run: tcp_rmem,
    },
    Check {
        id: "tcp.wmem",
        looks_at: "`net.ipv4.tcp_wmem`: least, first and most bytes of a send buffer",
        why: "as `tcp_rmem`; what waits for one slow reader is bounded by `limits.unsent_bytes_max`, \
              not by the most",
        scope: Scope::Network,
        run: tcp_wmem,
    },
];

fn somaxconn(context: &Context) -> Result<Outcome, Absent> {
    let current: u64 = context.root.number("/proc/sys/net/core/somaxconn")?;
    let target = context.target;
    let shards = u64::from(target.shards);
    let stalled = target.connects_per_s.saturating_mul(STALL_MS).div_ceil(1_000 * shards.max(1));
    let waiting = stalled.saturating_mul(UNEVEN);
    let needed = waiting.clamp(BACKLOG_MIN, u64::from(LISTEN_BACKLOG));
    let value = needed.next_power_of_two().min(u64::from(LISTEN_BACKLOG));
    let required = format!(
        "{} ({} clients a second, {shards} listeners, one second, uneven)",
        count(needed),
        count(target.connects_per_s)
    );
    let effective = current.min(u64::from(LISTEN_BACKLOG));
    let shown = format!("{} (effective backlog {})", count(current), count(effective));
    Ok(Outcome::when(effective >= needed, Severity::Warning, shown, required)
        .fix(format!("sysctl -w net.core.somaxconn={value}, then restart the server"))
        .act(Action::at_least("net.core.somaxconn", value, current)))
}

/// How long a shard may be busy while clients queue up.
const STALL_MS: u64 = 1_000;
/// The kernel spreads by hash, not evenly.
const UNEVEN: u64 = 2;
/// Fewer is not worth a thought.
const BACKLOG_MIN: u64 = 1_024;
fn syncookies(context: &Context) -> Result<Outcome, Absent> {
    let current: u32 = context.root.number("/proc/sys/net/ipv4/tcp_syncookies")?;
    // 2 sends cookies to everybody, which is for tests.
    let required = "1: cookies when the queue is full";
    Ok(Outcome::when(current == 1, Severity::Warning, current.to_string(), required)
        .fix("sysctl -w net.ipv4.tcp_syncookies=1")
        .act(Action::sysctl("net.ipv4.tcp_syncookies", 1)))
}

fn syn_backlog(context: &Context) -> Result<Outcome, Absent> {
    let current: u64 = context.root.number("/proc/sys/net/ipv4/tcp_max_syn_backlog")?;
    // A kernel without cookies has no such file.
    let cookies = context.root.number::<u32>("/proc/sys/net/ipv4/tcp_syncookies");
    if context.root.optional(cookies, "/proc/sys/net/ipv4")?.is_some_and(|cookies| cookies != 0) {
        return Ok(Outcome::ok(count(current), "none: with tcp_syncookies it does not count"));
    }
    let needed = (context.target.connects_per_s.saturating_mul(STALL_MS) / 1_000).max(BACKLOG_MIN);
    let required = format!("{} while tcp_syncookies is 0", count(needed));
    Ok(Outcome::when(current >= needed, Severity::Warning, count(current), required)
        .fix("sysctl -w net.ipv4.tcp_syncookies=1 (better than a longer queue)"))
}

fn tcp_mem(context: &Context) -> Result<Outcome, Absent> {
    let [low, pressure, most] = context.root.numbers::<3>("/proc/sys/net/ipv4/tcp_mem")?;
    let memory = context.machine.memory_total_bytes.map_or_else(|| context.memory_bytes(), Ok)?;
    let target = context.target;
    let pages = |count| pages(context, count);
    let slow = target.connections.div_ceil(SLOW_READERS_OF);
    let wanted = slow.saturating_mul(target.unsent_bytes_max);
    let bound = memory / MEMORY_SHARE_OF;
    let needed = wanted.min(bound);
    let shown = format!(
        "{low} {pressure} {most} ({}, at most {})",
        bytes(pages(pressure)),
        bytes(pages(most))
    );
    let mut required = format!(
        "{} ({} slow readers, 1 in {SLOW_READERS_OF}, {} unsent each)",
        bytes(needed),
        count(slow),
        bytes(target.unsent_bytes_max)
    );
    if wanted > bound {
        required = format!(
            "{} (a quarter of the memory; {} slow readers would want {}: lower \
             limits.unsent_bytes_max)",
            bytes(needed),
            count(slow),
            bytes(wanted)
        );
    }
    if pages(most) > memory {
        let required = format!("at most the memory, {}", bytes(memory));
        let outcome = Outcome::warning(shown, required).fix(
            "remove the setting of net.ipv4.tcp_mem: the kernel's own default follows the memory",
        );
        return Ok(outcome);
    }
    let page = needed.div_ceil(target.page_bytes);
    let value = format!(
        "{} {} {}",
        low.max(page / 4 * 3),
        pressure.max(page),
        most.max(page.saturating_mul(2))
    );
    Ok(Outcome::when(pages(pressure) >= needed, Severity::Warning, shown, required)
        .fix(format!("sysctl -w net.ipv4.tcp_mem='{value}'"))
        .act(Action::sysctl("net.ipv4.tcp_mem", value)))
}

/// Of so many clients one reads slowly.
const SLOW_READERS_OF: u64 = 20;
/// The kernel's socket buffers get at most this part of the memory; the server plans with three
/// quarters.
const MEMORY_SHARE_OF: u64 = 4;
fn pages(context: &Context, count: u64) -> u64 {
    count.saturating_mul(context.target.page_bytes)
}

/// The kernel's own least.
const LEAST_BYTES: u64 = 4_096;

fn tcp_rmem(context: &Context) -> Result<Outcome, Absent> {
    buffer(context, "tcp_rmem", "4096 131072 6291456")
}

fn tcp_wmem(context: &Context) -> Result<Outcome, Absent> {
    buffer(context, "tcp_wmem", "4096 16384 4194304")
}

fn buffer(context: &Context, name: &str, default: &str) -> Result<Outcome, Absent> {
    let [least, first, most] = context.root.numbers::<3>(&format!("/proc/sys/net/ipv4/{name}"))?;
    let shown = format!("{least} {first} {most}");
    let tcp_mem = match context.root.numbers::<3>("/proc/sys/net/ipv4/tcp_mem") {
        // The kernel's own least, which the kernel itself finds room for.
        Err(_) if least <= LEAST_BYTES => {
            let required =
                format!("least at most {} (tcp_mem is the host's, not seen)", bytes(LEAST_BYTES));
            return Ok(Outcome::ok(shown, required));
        }
        Err(absent) => {
            return Ok(Outcome::unknown(format!("{shown}; {absent}"), "least in tcp_mem"));
        }
        Ok(tcp_mem) => tcp_mem,
    };
    let [.., tcp_most] = tcp_mem;
    let clients = context.target.connections.max(1);
    let pages = |count| pages(context, count);
    let room = pages(tcp_most) / clients;
    let required = format!(
        "least at most {} (tcp_mem, {}, over {} clients)",
        bytes(room),
        bytes(pages(tcp_most)),
        count(clients)
    );
    let met = least <= room || least <= LEAST_BYTES;
    Ok(Outcome::when(met, Severity::Warning, shown, required)
        .fix(format!("sysctl -w net.ipv4.{name}='{default}', the kernel's default")))
}
