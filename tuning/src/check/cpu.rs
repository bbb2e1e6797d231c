//! What a CPU does when it is not busy, and where time comes from.

use super::{Check, Context, Outcome, Scope, Severity};
use crate::action::Action;
use crate::root::Absent;
use crate::text::count;
use crate::topology::show;

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "cpu.governor",
        looks_at: "the frequency governor of the shards' CPUs",
        why: "a shard sleeps between turns; a governor that saves power then lets it start slowly",
        scope: Scope::Host,
        run: governor,
    },
    Check {
        id: "cpu.idle_states",
        looks_at: "the deepest idle state that is on, and how long leaving it takes",
        why: "a quiet server answers later by that; under load it does not matter",
        scope: Scope::Host,
        run: idle_states,
    },
    Check {
        id: "cpu.clock",
        looks_at: "the clock source",
        why: "every turn reads the clock; with hpet or acpi_pm that is a system call and a slow one",
        scope: Scope::Host,
        run: clock,
    },
    Check {
        id: "cpu.offline",
        looks_at: "CPUs that are there but switched off",
        why: "a machine may have more to give",
        scope: Scope::Host,
        run: offline,
    },
    Check {
        id: "cpu.isolation",
        looks_at: "`isolcpus` and `nohz_full` against the shards' CPUs",
        why: "CPUs kept from the scheduler help only those that are pinned there, which is shards",
        scope: Scope::Host,
        run: isolation,
    },
];

fn folder(cpu: u32) -> String {
    format!("/sys/devices/system/cpu/cpu{cpu}")
}

fn governor(context: &Context) -> Result<Outcome, Absent> {
    let required = "performance";
    let cpus = context.shard_cpus()?;
    let mut other: Vec<(u32, String)> = Vec::new();
    let mut controlled = false;
    for &cpu in cpus {
        let governor = context.root.text(&format!("{}/cpufreq/scaling_governor", folder(cpu)));
        match context.root.optional(governor, &folder(cpu))? {
            Some(governor) if governor == "performance" => controlled = true,
            Some(governor) => other.push((cpu, governor)),
            None => {}
        }
    }
    if other.is_empty() {
        let shown =
            if controlled { "performance" } else { "not governed here (virtual, or firmware)" };
        return Ok(Outcome::ok(shown, required));
    }
    let which: Vec<u32> = other.iter().map(|(cpu, _)| *cpu).collect();
    let shown = format!("{} on CPU {}", other[0].1, show(&which));
    let outcome = Outcome::warning(shown, required).fix("cpupower frequency-set -g performance");
    let file = |cpu: &u32| {
        Action::file(format!("{}/cpufreq/scaling_governor", folder(*cpu)), "performance")
    };
    Ok(which.iter().map(file).fold(outcome, Outcome::act))
}

fn idle_states(context: &Context) -> Result<Outcome, Absent> {
    let cpu = context.shard_cpus()?.first().copied().unwrap_or(0);
    let states = format!("{}/cpuidle", folder(cpu));
    let Some(names) = context.root.optional(context.root.list(&states), &folder(cpu))? else {
        return Ok(Outcome::ok("none here (virtual, or firmware)", "nothing"));
    };
    let mut deepest: Option<(u64, String)> = None;
    for name in names.iter().filter(|name| name.starts_with("state")) {
        let disable = context.root.number::<u32>(&format!("{states}/{name}/disable"));
        // Old kernels cannot switch one off.
        let off = context.root.optional(disable, &format!("{states}/{name}"))? == Some(1);
        let latency: u64 = context.root.number(&format!("{states}/{name}/latency"))?;
        if !off && deepest.as_ref().is_none_or(|(most, _)| latency > *most) {
            let title = context.root.text(&format!("{states}/{name}/name"));
            deepest = Some((latency, title.unwrap_or_else(|_| name.clone())));
        }
    }
    let required = format!("at most {} us, where latency at rest matters", count(IDLE_US_MAX));
    let Some((latency, title)) = deepest else {
        return Ok(Outcome::ok("no idle states", required));
    };
    let shown = format!("{title}, {} us", count(latency));
    Ok(Outcome::when(latency <= IDLE_US_MAX, Severity::Info, shown, required)
        .fix("cpupower idle-set -D 100, at the price of power; tuned's profile network-latency does it, too"))
}

/// Below it, leaving an idle state does not show in a delivery.
const IDLE_US_MAX: u64 = 200;

/// Read by the kernel's shared page, without a system call.
const FAST: &[&str] = &[
    "tsc",
    "kvm-clock",
    "hyperv_clocksource_tsc_page",
    "arch_sys_counter",
    "riscv_clocksource",
    "timebase",
    "tod",
];
/// What x86 falls back on, and what some hypervisors offer: a system call, and a slow device.
const SLOW: &[&str] =
    &["hpet", "acpi_pm", "pit", "jiffies", "refined-jiffies", "hyperv_clocksource_msr", "xen"];

fn clock(context: &Context) -> Result<Outcome, Absent> {
    let folder = "/sys/devices/system/clocksource/clocksource0";
    let current = context.root.text(&format!("{folder}/current_clocksource"))?;
    let required = "one that is read without a system call: tsc, kvm-clock, arch_sys_counter";
    if FAST.contains(&current.as_str()) {
        return Ok(Outcome::ok(current, required));
    }
    if !SLOW.contains(&current.as_str()) {
        let shown = format!("{current}: whether it takes a system call is not known here");
        return Ok(Outcome::unknown(shown, required));
    }
    let offered = context.root.text(&format!("{folder}/available_clocksource"))?;
    let better = offered.split_whitespace().find(|name| FAST.contains(name));
    let outcome = Outcome::warning(current, required);
    let path = format!("{folder}/current_clocksource");
    Ok(match better {
        Some(better) => outcome
            .fix(format!("echo {better} > {path}; if it goes back, the log of the kernel says why"))
            .act(Action::file(path, better)),
        None => outcome.fix("see the kernel's log for why it does not offer tsc"),
    })
}

fn offline(context: &Context) -> Result<Outcome, Absent> {
    let topology = context.topology.as_ref().map_err(Clone::clone)?;
    topology.known.offline.clone()?;
    let offline = &topology.offline;
    if offline.is_empty() {
        return Ok(Outcome::ok("none", "none"));
    }
    let shown = format!("CPU {}", show(offline));
    Ok(Outcome::info(shown, "none, unless meant so")
        .fix("echo 1 > /sys/devices/system/cpu/cpuN/online; or they are off on purpose (SMT)"))
}

fn isolation(context: &Context) -> Result<Outcome, Absent> {
    let topology = context.topology.as_ref().map_err(Clone::clone)?;
    let shards = context.shard_cpus()?;
    topology.known.isolation.clone()?;
    if topology.isolated.is_empty() && topology.nohz_full.is_empty() {
        return Ok(Outcome::ok("none", "none needed"));
    }
    let shown =
        format!("isolated {}, nohz_full {}", show(&topology.isolated), show(&topology.nohz_full));
    let unused: Vec<u32> =
        topology.isolated.iter().filter(|cpu| !shards.contains(cpu)).copied().collect();
    let required = format!("shards there, if anything is (shards: CPU {})", show(shards));
    Ok(Outcome::when(unused.is_empty(), Severity::Info, shown, required).fix(format!(
        "CPU {} is isolated and no shard is pinned there: taskset or CPUAffinity= with them, or \
         another profile",
        show(&unused)
    )))
}
