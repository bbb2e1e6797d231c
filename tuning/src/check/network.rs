//! Ports and time-outs: much is believed of them, little is true of a server.

use super::{Check, Context, Outcome, Scope, Severity};
use crate::action::Action;
use crate::parse;
use crate::root::Absent;
use crate::text::count;

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "net.port_range",
        looks_at: "`net.ipv4.ip_local_port_range` and the ports reserved from it",
        why: "it does not limit clients that connect to us: each has its own address and port. It \
              is for connections that we open; widened down to a port that we listen on, one of \
              those may take that port first",
        scope: Scope::Network,
        run: port_range,
    },
    Check {
        id: "net.heartbeat",
        looks_at: "`limits.heartbeat_s` against the idle time-out of what is in front (`--lb-timeout`)",
        why: "a load balancer closes connections it believes idle; two heartbeats must fit, so that \
              one may be late",
        scope: Scope::Configuration,
        run: heartbeat,
    },
    Check {
        id: "net.keepalive",
        looks_at: "`net.ipv4.tcp_keepalive_time`",
        why: "none of ours: heartbeats find dead clients earlier, and the server does not ask for \
              TCP keepalive",
        scope: Scope::Network,
        run: keepalive,
    },
];

fn port_range(context: &Context) -> Result<Outcome, Absent> {
    let [first, last] = context.root.numbers::<2>("/proc/sys/net/ipv4/ip_local_port_range")?;
    let path = "/proc/sys/net/ipv4/ip_local_reserved_ports";
    // Kernels before 2.6.35 have no such file.
    let reserved = context.root.optional(context.root.cpus(path), "/proc/sys/net/ipv4")?;
    let kept = reserved.unwrap_or_default();
    let ports = &context.target.listen_ports;
    let taken: Vec<u32> = ports
        .iter()
        .filter(|port| (first..=last).contains(&u64::from(**port)))
        .filter(|port| !kept.contains(&u32::from(**port)))
        .copied()
        .map(u32::from)
        .collect();
    let shown = format!("{first} {last}");
    if taken.is_empty() {
        return Ok(Outcome::ok(shown, "outside of the ports we listen on; does not limit clients"));
    }
    let list = taken.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    // As the kernel will write it.
    let all = parse::show_cpu_list(&[kept, taken].concat());
    let required = format!("without {list}, where we listen");
    Ok(Outcome::warning(shown, required)
        .fix(format!("sysctl -w net.ipv4.ip_local_reserved_ports={all}"))
        .act(Action::sysctl("net.ipv4.ip_local_reserved_ports", all)))
}

fn heartbeat(context: &Context) -> Result<Outcome, Absent> {
    let heartbeat = u64::from(context.target.heartbeat_s);
    let shown = format!("{heartbeat} s");
    let Some(timeout) = context.target.lb_timeout_s else {
        let required = "less than half of the load balancer's time-out (not given)";
        return Ok(Outcome::info(shown, required).fix(
            "say --lb-timeout; usual ones: nginx proxy_read_timeout 60 s, AWS ALB 60 s, HAProxy \
             timeout tunnel, Google Cloud's backend timeout 30 s (the whole time of a WebSocket)",
        ));
    };
    let timeout = u64::from(timeout);
    if timeout < 2 {
        let required = format!("not possible with a time-out of {timeout} s");
        return Ok(Outcome::new(Severity::Fatal, shown, required).fix(
            "a longer idle time-out of the load balancer: heartbeats are whole seconds, and two \
             must fit into it",
        ));
    }
    let required = format!("at most {} s (half of the load balancer's {timeout} s)", timeout / 2);
    let severity = if heartbeat >= timeout { Severity::Fatal } else { Severity::Warning };
    Ok(Outcome::when(heartbeat * 2 <= timeout, severity, shown, required).fix(format!(
        "limits.heartbeat_s = {}, or a longer idle time-out of the load balancer",
        (timeout * 2 / 5).max(1)
    )))
}

fn keepalive(context: &Context) -> Result<Outcome, Absent> {
    let seconds: u64 = context.root.number("/proc/sys/net/ipv4/tcp_keepalive_time")?;
    let required = format!("nothing: heartbeats every {} s do it", context.target.heartbeat_s);
    Ok(Outcome::ok(format!("{} s", count(seconds)), required))
}
