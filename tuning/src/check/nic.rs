//! Network interfaces: whether packets arrive where shards run, without being dropped on the way.

use super::{Check, Context, Outcome, Scope, Severity};
use crate::action::{Action, sysctl_path};
use crate::nic::Nic;
use crate::parse;
use crate::root::Absent;
use crate::text::count;
use crate::topology::show;

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "nic.queues",
        looks_at: "receive queues of each interface against shards",
        why: "one queue is one CPU that handles all packets, and that CPU is some shard's",
        scope: Scope::Host,
        run: queues,
    },
    Check {
        id: "nic.rps",
        looks_at: "receive packet steering (`rps_cpus`, `rps_flow_cnt`, `rps_sock_flow_entries`)",
        why: "with fewer queues than shards the kernel can spread packets itself; with enough \
              queues doing it again only costs",
        scope: Scope::Host,
        run: rps,
    },
    Check {
        id: "nic.xps",
        looks_at: "transmit packet steering (`xps_cpus`) of interfaces with several queues",
        why: "a shard then sends through the queue whose interrupts come back to its own CPU",
        scope: Scope::Host,
        run: xps,
    },
    Check {
        id: "nic.irq_affinity",
        looks_at: "where each queue's interrupts arrive, against the profile's map",
        why: "interrupts of all queues on one CPU, or on the other node, undo what queues are for",
        scope: Scope::Host,
        run: irq_affinity,
    },
    Check {
        id: "nic.irqbalance",
        looks_at: "whether irqbalance or tuned runs",
        why: "both move interrupts later, so that what was set here does not last",
        scope: Scope::Host,
        run: irqbalance,
    },
    Check {
        id: "nic.rings",
        looks_at: "ring sizes (`ethtool -g`) and packets missed (`rx_missed_errors`)",
        why: "every client answers a broadcast at once; a ring that is too small drops those answers",
        scope: Scope::Host,
        run: rings,
    },
    Check {
        id: "nic.offloads",
        looks_at: "segmentation, receive and checksum offloads (`ethtool -k`)",
        why: "without them the CPU cuts and sums every packet",
        scope: Scope::Host,
        run: offloads,
    },
    Check {
        id: "nic.rss",
        looks_at: "the indirection table of receive side scaling (`ethtool -x`)",
        why: "queues that are not in it get nothing",
        scope: Scope::Host,
        run: rss,
    },
];

/// The interfaces that matter, or what to say where there are none.
fn nics<'a>(context: &'a Context) -> Result<Result<&'a [Nic], Outcome>, Absent> {
    let nics = context.nics.as_ref().map_err(Clone::clone)?;
    if !nics.real.is_empty() {
        return Ok(Ok(&nics.real));
    }
    let names = nics.virtual_names.join(", ");
    Ok(Err(match nics.virtual_names.is_empty() {
        true => Outcome::info("only the loopback is up", "an interface"),
        false => Outcome::info(format!("{names}: virtual, its queues are the host's"), "-")
            .fix("run `shardcast tune check` on the host, too"),
    }))
}

/// The same text for each interface, or the first that is worse.
macro_rules! each {
    ($context:expr, $one:expr) => {{
        let nics = match nics($context)? {
            Ok(nics) => nics,
            Err(outcome) => return Ok(outcome),
        };
        let mut all: Vec<Outcome> = Vec::new();
        for nic in nics {
            all.push($one(nic)?);
        }
        Ok(merged(all))
    }};
}

/// The outcomes of several interfaces as one: as bad as the worst, with the actions of all.
fn merged(all: Vec<Outcome>) -> Outcome {
    let worst = all.iter().map(|outcome| outcome.severity).max().unwrap_or(Severity::Ok);
    let join = |part: fn(&Outcome) -> &String| {
        let mut parts: Vec<&str> = Vec::new();
        for text in all.iter().map(part).filter(|text| !text.is_empty()) {
            if !parts.contains(&text.as_str()) {
                parts.push(text);
            }
        }
        parts.join("; ")
    };
    let fix = join(|outcome| &outcome.fix);
    let actions = all.iter().flat_map(|outcome| outcome.actions.clone()).collect();
    let outcome = Outcome::new(worst, join(|o| &o.current), join(|o| &o.required));
    Outcome { fix, actions, ..outcome }
}

fn queue_folder(nic: &Nic, kind: &str, index: usize) -> String {
    format!("/sys/class/net/{}/queues/{kind}-{index}", nic.name)
}

/// The CPU for the interrupts of queue `index`.
fn irq_cpu(context: &Context, index: usize) -> Result<u32, Absent> {
    let map = context.map.as_ref().map_err(Clone::clone)?;
    let none = || Absent::Other("no CPU is known for interrupts".to_owned());
    map.irqs.iter().cycle().nth(index % map.irqs.len().max(1)).copied().ok_or_else(none)
}

/// How many queues of a kind; every interface has one of each, so none is not an answer.
fn queue_count(nic: &Nic, queues: usize) -> Result<usize, Absent> {
    let missing = || Absent::Missing { path: format!("/sys/class/net/{}/queues", nic.name) };
    (queues != 0).then_some(queues).ok_or_else(missing)
}

fn queues(context: &Context) -> Result<Outcome, Absent> {
    let shards = context.target.shards as usize;
    let irqs = context.map.as_ref().map_err(Clone::clone)?.irqs.len();
    let wanted = shards.min(irqs).max(1);
    each!(context, |nic: &Nic| {
        queue_count(nic, nic.rx_queues)?;
        let shown = format!("{}: {} ({})", nic.name, nic.rx_queues, driver(nic));
        let fix = match nic.rx_queues {
            1 => "one queue is what the machine offers: nic.rps spreads its packets; clouds give more \
                  queues to larger machines"
                .to_owned(),
            _ => format!("ethtool -L {} combined {wanted}", nic.name),
        };
        let severity = if nic.rx_queues == 1 { Severity::Info } else { Severity::Warning };
        let required = format!("{wanted} (shards, or CPUs for interrupts)");
        Ok(Outcome::when(nic.rx_queues >= wanted, severity, shown, required).fix(fix))
    })
}

fn driver(nic: &Nic) -> &str {
    nic.driver.as_deref().unwrap_or("driver not told")
}

fn rps(context: &Context) -> Result<Outcome, Absent> {
    let shards = context.shard_cpus()?;
    let map = context.map.as_ref().map_err(Clone::clone)?;
    // Interrupts on CPUs of their own are there to keep packets off the shards' CPUs.
    let apart = map.irqs.iter().all(|cpu| !shards.contains(cpu));
    each!(context, |nic: &Nic| {
        let queues = queue_count(nic, nic.rx_queues)?;
        let wanted = if apart { map.irqs.len() } else { shards.len() };
        let enough = queues >= wanted || wanted == 1;
        let mut on: Vec<u32> = Vec::new();
        for index in 0..queues {
            let path = format!("{}/rps_cpus", queue_folder(nic, "rx", index));
            let text = context.root.text(&path)?;
            let odd = || Absent::Odd { path: path.clone(), text: text.clone() };
            on.extend(parse::mask_cpus(&text).ok_or_else(odd)?);
        }
        on.sort_unstable();
        on.dedup();
        let shown = match on.as_slice() {
            [] => format!("{}: off", nic.name),
            on => format!("{}: CPU {}", nic.name, show(on)),
        };
        if enough { Ok(rps_off(nic, &on, shown)) } else { rps_on(context, nic, &on, shown) }
    })
}

fn rps_off(nic: &Nic, on: &[u32], shown: String) -> Outcome {
    let outcome = Outcome::when(on.is_empty(), Severity::Warning, shown, "off: the queues suffice")
        .fix(for_each_queue(nic, "echo 0 > $q/rps_cpus"));
    let off = |index| Action::file(format!("{}/rps_cpus", queue_folder(nic, "rx", index)), "0");
    (0..nic.rx_queues).map(off).fold(outcome, Outcome::act)
}

/// A command for each receive queue: a shell refuses to write to several files at once.
fn for_each_queue(nic: &Nic, command: &str) -> String {
    format!("for q in /sys/class/net/{}/queues/rx-*; do {command}; done", nic.name)
}

const FLOWS: &str = "net.core.rps_sock_flow_entries";

fn rps_on(context: &Context, nic: &Nic, on: &[u32], shown: String) -> Result<Outcome, Absent> {
    let mut shards = context.shard_cpus()?.to_vec();
    shards.sort_unstable();
    shards.dedup();
    let mask = parse::cpu_mask(&shards);
    let clients = context.target.connections.min(FLOWS_MAX);
    let entries = clients.next_power_of_two().clamp(FLOWS_MIN, FLOWS_MAX);
    // The kernel rounds both up to powers of two.
    let each = entries.div_ceil(nic.rx_queues as u64).next_power_of_two();
    let table: u64 = context.root.number(&sysctl_path(FLOWS))?;
    let mut flows = Vec::new();
    for index in 0..nic.rx_queues {
        let path = format!("{}/rps_flow_cnt", queue_folder(nic, "rx", index));
        flows.push(context.root.number::<u64>(&path)?);
    }
    let least = flows.iter().min().copied().unwrap_or(0);
    let met = shards.iter().all(|cpu| on.contains(cpu)) && least >= each && table >= entries;
    let shown = format!("{shown}, {} flows a queue, {} in all", count(least), count(table));
    let required = format!(
        "{}: CPU {} ({} queues for {} shards), {} flows a queue, {} in all",
        nic.name,
        show(&shards),
        nic.rx_queues,
        context.target.shards,
        count(each),
        count(entries)
    );
    let loops =
        for_each_queue(nic, &format!("echo {each} > $q/rps_flow_cnt; echo {mask} > $q/rps_cpus"));
    let entries = entries.max(table);
    let outcome = Outcome::when(met, Severity::Warning, shown, required)
        .fix(format!("sysctl -w {FLOWS}={entries}; {loops}"))
        .act(Action::sysctl(FLOWS, entries));
    Ok(flows.iter().enumerate().fold(outcome, |outcome, (index, flows)| {
        let folder = queue_folder(nic, "rx", index);
        outcome
            .act(Action::file(format!("{folder}/rps_flow_cnt"), each.max(*flows)))
            .act(Action::file(format!("{folder}/rps_cpus"), &mask))
    }))
}

/// Flows in the table of RFS: one a client, at most what Seastar and the kernel's documentation
/// have.
const FLOWS_MIN: u64 = 1_024;
const FLOWS_MAX: u64 = 32_768;

fn xps(context: &Context) -> Result<Outcome, Absent> {
    let shards = context.shard_cpus()?;
    each!(context, |nic: &Nic| {
        let queues = queue_count(nic, nic.tx_queues)?;
        if queues == 1 {
            return Ok(Outcome::ok(format!("{}: one queue", nic.name), "nothing"));
        }
        let mut set = 0;
        for index in 0..queues {
            let folder = queue_folder(nic, "tx", index);
            let path = format!("{folder}/xps_cpus");
            // Reading it is refused (ENOENT, EOPNOTSUPP) by drivers without the feature.
            let Some(text) = context.root.optional(context.root.text(&path), &folder)? else {
                return Ok(Outcome::ok(format!("{}: not offered", nic.name), "nothing"));
            };
            let odd = || Absent::Odd { path: path.clone(), text: text.clone() };
            set += usize::from(!parse::mask_cpus(&text).ok_or_else(odd)?.is_empty());
        }
        let shown = format!("{}: {set} of {queues} queues", nic.name);
        let outcome = Outcome::when(
            set == queues,
            Severity::Warning,
            shown,
            "every queue has its CPUs",
        )
        .fix(format!("`shardcast tune render script` spreads the shards' CPUs over {}", nic.name));
        let queue = |index: usize| {
            let mask = parse::cpu_mask(&cpus_of_queue(shards, index, queues));
            Action::file(format!("{}/xps_cpus", queue_folder(nic, "tx", index)), mask)
        };
        Ok(if outcome.severity == Severity::Ok {
            outcome
        } else {
            (0..queues).map(queue).fold(outcome, Outcome::act)
        })
    })
}

/// The CPUs that send through queue `index`: each shard has one queue, and where there are more
/// queues than shards several queues have the same CPU, among which the kernel spreads connections.
fn cpus_of_queue(shards: &[u32], index: usize, queues: usize) -> Vec<u32> {
    if queues <= shards.len() {
        return shards.iter().skip(index).step_by(queues).copied().collect();
    }
    shards.iter().cycle().nth(index % shards.len().max(1)).copied().into_iter().collect()
}

fn irq_affinity(context: &Context) -> Result<Outcome, Absent> {
    each!(context, |nic: &Nic| {
        if nic.irqs.is_empty() {
            let required = format!("{}: a CPU for each queue", nic.name);
            return Ok(Outcome::unknown(
                format!("{}: its interrupts are not told", nic.name),
                required,
            ));
        }
        let mut wrong = Vec::new();
        let mut actions = Vec::new();
        for (index, irq) in nic.irqs.iter().enumerate() {
            let wanted = irq_cpu(context, queue_of(&irq.name).unwrap_or(index))?;
            let current = irq.cpus.clone()?;
            if current != [wanted] {
                wrong.push(format!("{} on {}", irq.number, show(&current)));
            }
            let path = format!("/proc/irq/{}/smp_affinity_list", irq.number);
            actions.push(Action::file(path, wanted));
        }
        let map = context.map.as_ref().map_err(Clone::clone)?;
        let of = format!("{}: {} of {} elsewhere", nic.name, wrong.len(), nic.irqs.len());
        let few = wrong.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
        let shown = if wrong.is_empty() { of } else { format!("{of} ({few}{})", more(&wrong)) };
        let required = format!("queue by queue on CPU {}", show(&map.irqs));
        // With one queue and one CPU to serve it there is little to gain.
        let severity = if nic.rx_queues > 1 { Severity::Warning } else { Severity::Info };
        let outcome = Outcome::when(wrong.is_empty(), severity, shown, required)
            .fix("`shardcast tune apply`, or `shardcast tune render script`");
        Ok(actions.into_iter().fold(outcome, Outcome::act))
    })
}

fn more(wrong: &[String]) -> &'static str {
    if wrong.len() > 3 { ", ..." } else { "" }
}

/// The queue in a name such as `eth0-TxRx-3`, `mlx5_comp3@pci:...`, `virtio3-input.0`.
fn queue_of(name: &str) -> Option<usize> {
    let name = name.split('@').next().unwrap_or(name);
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    // Without a separator the number may be the device's.
    let own = stem.ends_with(['-', '.', '_']) || stem.ends_with("comp");
    name[stem.len()..].parse().ok().filter(|_| own)
}

fn irqbalance(context: &Context) -> Result<Outcome, Absent> {
    let mut running = Vec::new();
    for pid in context.root.list("/proc")?.iter().filter(|name| name.parse::<u32>().is_ok()) {
        if let Ok(name) = context.root.text(&format!("/proc/{pid}/comm"))
            && ["irqbalance", "tuned"].contains(&name.as_str())
        {
            running.push(name);
        }
    }
    running.sort();
    running.dedup();
    // With `hidepid` the processes of others are not in the list.
    if running.is_empty() {
        context.root.text("/proc/1/comm")?;
    }
    if context.container.is_some() && running.is_empty() {
        return Ok(Outcome::unknown("a container does not see the host's processes", "neither"));
    }
    let shown = if running.is_empty() { "neither".to_owned() } else { running.join(", ") };
    let fix = match running.first().map(String::as_str) {
        Some("irqbalance") => {
            "systemctl disable --now irqbalance, or IRQBALANCE_BANNED_CPULIST= with the CPUs of shards \
             and interrupts in /etc/default/irqbalance"
        }
        _ => "tuned-adm off, or a profile of tuned that leaves interrupts and these sysctls alone",
    };
    Ok(Outcome::when(running.is_empty(), Severity::Warning, shown, "neither").fix(fix))
}

/// What `ethtool` said, or why it said nothing.
fn ethtool<'a>(context: &'a Context, flag: &str, nic: &Nic) -> Result<&'a str, Absent> {
    match context.measured.ethtool.get(&format!("{flag} {}", nic.name)) {
        Some(Ok(text)) => Ok(text),
        Some(Err(why)) => Err(Absent::Other(why.clone())),
        None => Err(Absent::Other("ethtool was not run".to_owned())),
    }
}

fn rings(context: &Context) -> Result<Outcome, Absent> {
    each!(context, |nic: &Nic| {
        let missed: u64 = context
            .root
            .number(&format!("/sys/class/net/{}/statistics/rx_missed_errors", nic.name))?;
        let text = ethtool(context, "-g", nic)?;
        let sizes: Vec<u64> =
            text.lines().filter_map(|line| line.strip_prefix("RX:")?.trim().parse().ok()).collect();
        let &[most, now] = sizes.as_slice() else {
            return Err(Absent::Other(format!("ethtool -g {} is not understood", nic.name)));
        };
        let shown = format!("{}: {now} of {most}, {} packets missed", nic.name, count(missed));
        let required = "nothing missed, or the largest ring";
        let met = missed == 0 || now >= most;
        Ok(Outcome::when(met, Severity::Warning, shown, required)
            .fix(format!("ethtool -G {} rx {most}", nic.name))
            .act(Action::Manual { text: format!("ethtool -G {} rx {most}", nic.name) }))
    })
}

fn offloads(context: &Context) -> Result<Outcome, Absent> {
    const WANTED: [(&str, &str); 4] = [
        ("tcp-segmentation-offload", "tso"),
        ("generic-segmentation-offload", "gso"),
        ("generic-receive-offload", "gro"),
        ("tx-checksumming", "tx"),
    ];
    each!(context, |nic: &Nic| {
        let text = ethtool(context, "-k", nic)?;
        // `off [fixed]` is what the hardware cannot do, and nobody can switch on.
        let off = |name: &str| {
            parse::field(text, name)
                .is_some_and(|state| state == "off" || state == "off [requested on]")
        };
        let missing: Vec<&(&str, &str)> = WANTED.iter().filter(|(name, _)| off(name)).collect();
        let names: Vec<&str> = missing.iter().map(|(name, _)| *name).collect();
        let switches: String = missing.iter().map(|(_, short)| format!(" {short} on")).collect();
        let shown = match names.as_slice() {
            [] => format!("{}: on", nic.name),
            off => format!("{}: {} off", nic.name, off.join(", ")),
        };
        let command = format!("ethtool -K {}{switches}", nic.name);
        Ok(Outcome::when(missing.is_empty(), Severity::Warning, shown, "on, where offered")
            .fix(command.clone())
            .act(Action::Manual { text: command }))
    })
}

fn rss(context: &Context) -> Result<Outcome, Absent> {
    each!(context, |nic: &Nic| {
        if queue_count(nic, nic.rx_queues)? == 1 {
            return Ok(Outcome::ok(format!("{}: one queue", nic.name), "nothing"));
        }
        let text = ethtool(context, "-x", nic)?;
        let mut used: Vec<u32> = text
            .lines()
            .take_while(|line| !line.starts_with("RSS hash key"))
            .filter_map(|line| line.trim().split_once(':'))
            .filter(|(index, _)| index.parse::<u32>().is_ok())
            .flat_map(|(_, queues)| {
                queues.split_whitespace().filter_map(|queue| queue.parse().ok())
            })
            .collect();
        used.sort_unstable();
        used.dedup();
        if used.is_empty() {
            return Err(Absent::Other(format!("ethtool -x {} shows no table", nic.name)));
        }
        let shown = format!("{}: {} of {} queues get packets", nic.name, used.len(), nic.rx_queues);
        let command = format!("ethtool -X {} equal {}", nic.name, nic.rx_queues);
        let met = used.len() == nic.rx_queues;
        Ok(Outcome::when(met, Severity::Warning, shown, "every queue")
            .fix(command.clone())
            .act(Action::Manual { text: command }))
    })
}
