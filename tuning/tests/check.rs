//! Checks on machines made of files, and on this one.

mod common;

use common::Tree;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::LazyLock;
use tuning::check::{self, Context, Finding, Severity, checks};
use tuning::plan::{Plan, Step};
use tuning::profile::{Profile, draw};
use tuning::root::Root;
use tuning::target::{Measured, Space, SyncTime, Target, UringProbe};
use tuning::topology::Topology;
use tuning::{Machine, Roots, report};

/// What each machine is asked to carry, and what was measured there.
fn asked(name: &str) -> (Target, Measured, Option<Profile>) {
    let mut measured = Measured::nothing("not measured");
    measured.uring = UringProbe::Works;
    let target = match name {
        "metal" => {
            measured.connections_by_memory = Ok(1_500_000);
            measured.space = Ok(Space { free_bytes: 900 << 30, spool_bytes: 0 });
            measured.sync = Ok(SyncTime { tries: 33, median_ms: 0.04, worst_ms: 0.3 });
            let mut target = Target::new(1_000_000, 56);
            target.lb_timeout_s = Some(20);
            target.data_dir = PathBuf::from("/var/lib/shardcast");
            return (target, measured, Profile::named("large"));
        }
        "cloud" => {
            measured.connections_by_memory = Ok(400_000);
            measured.space = Ok(Space { free_bytes: 5 << 30, spool_bytes: 1 << 30 });
            measured.sync = Ok(SyncTime { tries: 33, median_ms: 14.0, worst_ms: 80.0 });
            let mut target = Target::new(200_000, 7);
            target.lb_timeout_s = Some(60);
            target.data_dir = PathBuf::from("/var/lib/shardcast");
            return (target, measured, None);
        }
        "container" => {
            measured.uring = UringProbe::Unavailable {
                cause: "setting up a ring failed: Operation not permitted".to_owned(),
                remedy: "allow the system calls of io_uring".to_owned(),
            };
            let mut target = Target::new(50_000, 3);
            target.data_dir = PathBuf::from("/tmp/shardcast");
            target.memory_planned_bytes = Some(4 << 30);
            target
        }
        "laptop" => Target::new(20_000, 18),
        "single" => {
            let mut target = Target::new(10_000, 1);
            target.data_dir = PathBuf::from("/srv/shardcast");
            target
        }
        other => panic!("nothing is asked of {other}"),
    };
    let profile = if name == "laptop" { "edge" } else { "small" };
    (target, measured, Profile::named(profile))
}

const MACHINES: [&str; 5] = ["metal", "cloud", "container", "laptop", "single"];

/// Everything that is said about a machine. Each is made of files once.
fn said(name: &str) -> &'static (String, Vec<Finding>) {
    static SAID: LazyLock<BTreeMap<&'static str, (String, Vec<Finding>)>> =
        LazyLock::new(|| MACHINES.into_iter().map(|name| (name, say(name))).collect());
    &SAID[name]
}

fn say(name: &str) -> (String, Vec<Finding>) {
    let tree = Tree::named(name);
    let root = tree.root();
    let (target, mut measured, profile) = asked(name);
    measured.ethtool = tree.ethtool();
    let context = Context::read(&root, &target, &measured, profile.as_ref());
    let findings = check::run(&context);
    let mut text = report::table(&target, context.container, &findings, true);
    text.push_str("\n--- plan\n");
    text.push_str(&Plan::of(&findings, &root).text());
    text.push_str("\n--- map\n");
    let map = context.map.as_ref().unwrap();
    text.push_str(&draw(map, context.topology.as_ref().unwrap(), context.nics.as_ref().ok()));
    // Where the tree is differs from run to run; nothing of it may show.
    assert!(!text.contains(root.path("/").to_str().unwrap()), "{text}");
    (text, findings)
}

#[test]
fn each_machine_gets_the_report_that_was_agreed_on() {
    for name in MACHINES {
        let (text, _) = said(name);
        compare(name, text);
    }
}

/// Compares with the file in `golden/`; with `BLESS=1` writes it, for a person to read.
fn compare(name: &str, text: &str) {
    let path = format!("{}/tests/golden/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
        return;
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = golden.lines().zip(text.lines()).find(|(golden, now)| golden != now);
    assert!(
        golden == text,
        "{path} differs: {differs:?}; run with BLESS=1 and read what changed\n{text}"
    );
}

/// The finding of a check on a machine.
fn finding(name: &str, id: &str) -> Finding {
    let (_, findings) = said(name);
    findings.iter().find(|finding| finding.id == id).unwrap().clone()
}

#[test]
fn what_is_wrong_with_each_machine_is_found() {
    let check = |name: &str, id: &str, severity: Severity| {
        let finding = finding(name, id);
        assert_eq!(finding.severity, severity, "{name}: {finding:?}");
    };
    use Severity::{Fatal, Info, Ok, Unknown, Warning};
    check("metal", "files.nofile_hard", Fatal);
    check("metal", "conntrack.max", Fatal);
    check("metal", "net.heartbeat", Fatal);
    check("metal", "nic.irqbalance", Warning);
    check("metal", "nic.rings", Warning);
    check("metal", "nic.offloads", Warning);
    check("metal", "nic.rss", Warning);
    check("metal", "cpu.governor", Warning);
    check("metal", "advice.in_force", Warning);
    check("metal", "advice.in_files", Warning);
    check("metal", "net.port_range", Warning);
    check("metal", "memory.huge_pages", Info);
    check("metal", "disk.scheduler", Ok);
    check("metal", "cores.siblings", Ok);
    check("cloud", "files.nofile_hard", Ok);
    check("cloud", "uring.memlock", Warning);
    check("cloud", "nic.rps", Warning);
    check("cloud", "nic.irq_affinity", Warning);
    check("cloud", "conntrack.max", Fatal);
    check("cloud", "net.heartbeat", Ok);
    check("cloud", "disk.space", Warning);
    check("cloud", "disk.sync", Warning);
    check("container", "uring.works", Warning);
    check("container", "uring.seccomp", Warning);
    check("container", "memory.planned", Fatal);
    check("container", "cores.quota", Warning);
    check("container", "tcp.mem", Unknown);
    check("container", "disk.file_system", Warning);
    check("container", "memory.connections", Unknown);
    check("laptop", "uring.disabled", Warning);
    check("laptop", "cores.hybrid", Warning);
    check("laptop", "cpu.clock", Warning);
    check("laptop", "cpu.offline", Info);
    check("laptop", "nic.xps", Ok);
    check("single", "uring.kernel", Warning);
    check("single", "uring.memlock", Warning);
    check("single", "files.nr_open", Fatal);
    check("single", "tcp.mem", Warning);
    check("single", "tcp.rmem", Unknown);
    check("single", "disk.scheduler", Warning);
    check("single", "advice.in_force", Warning);
}

/// A machine of four cores with two threads each, siblings next to each other.
const SIBLINGS: &str = "=== /proc/self/status
Cpus_allowed_list:\t0-7
=== /sys/devices/system/cpu/online
0-7
=== /sys/devices/system/cpu/cpu{0..1}/topology/thread_siblings_list
0-1
=== /sys/devices/system/cpu/cpu{2..3}/topology/thread_siblings_list
2-3
=== /sys/devices/system/cpu/cpu{4..5}/topology/thread_siblings_list
4-5
=== /sys/devices/system/cpu/cpu{6..7}/topology/thread_siblings_list
6-7
";

/// A machine given as its text, for so many shards.
fn look(tree: &Tree, shards: u32, profile: Option<&Profile>) -> Vec<Finding> {
    let (root, target) = (tree.root(), Target::new(10_000, shards));
    check::run(&Context::read(&root, &target, &Measured::nothing("not measured"), profile))
}

/// The finding of a check.
fn of<'a>(findings: &'a [Finding], id: &str) -> &'a Finding {
    findings.iter().find(|finding| finding.id == id).unwrap()
}

/// Without a profile the server takes the CPUs in order; where that is bad, a profile is advised.
#[test]
fn without_a_profile_shards_are_where_the_server_puts_them() {
    let tree = Tree::of(SIBLINGS);
    let found = look(&tree, 2, None);
    assert_eq!(of(&found, "cores.shards").current, "2 CPUs (0-1)");
    let siblings = of(&found, "cores.siblings");
    assert_eq!(siblings.current, "2 shards on 1 cores");
    assert_eq!(siblings.severity, Severity::Warning);
    assert!(siblings.fix.contains("--profile large"), "{siblings:?}");
    // What is advised is right.
    let found = look(&tree, 2, Profile::named("large").as_ref());
    assert_eq!(of(&found, "cores.siblings").severity, Severity::Ok);
    // More shards than cores share them, whatever one does.
    assert_eq!(of(&look(&tree, 8, None), "cores.siblings").severity, Severity::Info);
    // A narrower affinity is the server's, too.
    let narrow = Tree::of(&SIBLINGS.replace("\t0-7", "\t3,5-6"));
    assert_eq!(of(&look(&narrow, 2, None), "cores.shards").current, "2 CPUs (3,5)");
    let four = look(&narrow, 4, None);
    assert_eq!(of(&four, "cores.shards").current, "3 CPUs (3,5-6)");
    assert_eq!(of(&four, "cores.shards").severity, Severity::Warning);
}

#[test]
fn what_belongs_to_the_host_is_said_in_a_container_only() {
    for name in MACHINES {
        let (_, findings) = said(name);
        let host = findings.iter().any(|finding| finding.only_on_host);
        assert_eq!(host, name == "container", "{name}");
    }
}

#[test]
fn a_machine_that_hides_everything_is_unknown_and_nothing_is_planned() {
    let empty = Tree::of("");
    let hidden = Tree::of("=== /proc !unreadable\n=== /sys !unreadable\n=== /etc !unreadable\n");
    for tree in [empty, hidden] {
        let root = tree.root();
        let target = Target::new(100_000, 4);
        let measured = Measured::nothing("not measured");
        let findings = check::run(&Context::read(&root, &target, &measured, None));
        for finding in &findings {
            // What does not depend on the machine, or is fine in its absence.
            let known = ["net.heartbeat", "advice.in_files"].contains(&finding.id);
            assert!(known || finding.severity == Severity::Unknown, "{finding:?}");
            assert!(!finding.current.is_empty());
        }
        assert_eq!(Plan::of(&findings, &root), Plan::default());
    }
}

#[test]
fn files_that_say_nonsense_are_unknown_and_never_a_panic() {
    let nonsense = ["", "\n", "-1", "99999999999999999999999", "\u{0}\u{1}", "a b c d", "[", "0-"];
    for text in nonsense {
        let cloud = std::fs::read_to_string(format!(
            "{}/tests/fixtures/cloud.tree",
            env!("CARGO_MANIFEST_DIR")
        ))
        .unwrap();
        let broken: String = cloud
            .split_inclusive('\n')
            .map(|line| if line.starts_with("===") { line.to_owned() } else { format!("{text}\n") })
            .collect();
        let tree = Tree::of(&broken);
        let root = tree.root();
        let (target, mut measured, profile) = asked("cloud");
        measured.ethtool = tree.ethtool();
        let context = Context::read(&root, &target, &measured, profile.as_ref());
        assert_eq!(check::run(&context).len(), checks().count());
    }
}

#[test]
fn this_machine_is_checked_for_real() {
    let root = Root::system();
    let target = Target::new(1_000, 2);
    let mut measured = Measured::nothing("not measured");
    measured.space = tuning::measure::space(&std::env::temp_dir());
    measured.sync = tuning::measure::sync_time(&std::env::temp_dir());
    let context = Context::read(&root, &target, &measured, None);
    let findings = check::run(&context);
    let ids: BTreeSet<&str> = findings.iter().map(|finding| finding.id).collect();
    assert_eq!(ids.len(), checks().count());
    let of = |id: &str| of(&findings, id);
    // These files are on every Linux that runs tests.
    for id in ["files.nofile_hard", "files.nr_open", "files.file_max", "tcp.somaxconn", "tcp.rmem"]
    {
        assert_ne!(of(id).severity, Severity::Unknown, "{:?}", of(id));
    }
    let hard = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let shown: String =
        of("files.nofile_hard").current.chars().filter(char::is_ascii_digit).collect();
    assert_eq!(shown.parse().ok(), hard);
    assert!(of("disk.sync").current.contains("median"), "{:?}", of("disk.sync"));
}

#[test]
fn the_json_has_every_check_with_all_its_parts() {
    let tree = Tree::named("cloud");
    let root = tree.root();
    let (target, measured, _) = asked("cloud");
    let context = Context::read(&root, &target, &measured, None);
    let findings = check::run(&context);
    let text = report::json(&target, context.container, &findings);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["connections"], 200_000);
    assert_eq!(value["worst"], "fatal");
    let rows = value["findings"].as_array().unwrap();
    assert_eq!(rows.len(), checks().count());
    for row in rows {
        for key in ["id", "severity", "current", "required", "why", "fix"] {
            assert!(row[key].is_string(), "{key} of {row}");
        }
    }
}

#[test]
fn ids_are_unique_and_every_check_says_why() {
    let ids: Vec<&str> = checks().map(|check| check.id).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
    for check in checks() {
        assert!(!check.why.is_empty() && !check.looks_at.is_empty(), "{}", check.id);
        assert!(report::page().contains(check.id));
    }
}

/// What is planned is what makes it right: after writing the plan's values into the tree, a second
/// look finds nothing left to write.
#[test]
fn a_plan_meets_the_requirements_it_was_made_for() {
    for name in MACHINES {
        let tree = Tree::named(name);
        let root = tree.root();
        let (target, mut measured, profile) = asked(name);
        measured.ethtool = tree.ethtool();
        let look = || check::run(&Context::read(&root, &target, &measured, profile.as_ref()));
        let plan = Plan::of(&look(), &root);
        for step in &plan.steps {
            let path = root.path(&step.action.path().unwrap());
            // A file that is not there (hidden from a container) stays so.
            if path.exists() {
                std::fs::write(&path, step.action.value().unwrap()).unwrap();
            }
        }
        let left = Plan::of(&look(), &root).steps;
        let left: Vec<_> = left.iter().filter(|step| step.before.is_some()).collect();
        assert!(left.is_empty(), "{name}: {left:?}");
    }
}

/// Whatever a check asks for, `apply` knows the file; `undo` accepts no others.
#[test]
fn every_file_that_a_check_names_is_one_that_apply_writes() {
    let mut seen = BTreeSet::new();
    for name in MACHINES {
        let tree = Tree::named(name);
        let root = tree.root();
        let (_, findings) = said(name);
        for action in findings.iter().flat_map(|finding| finding.actions.clone()) {
            let Some(path) = action.path() else { continue };
            let step = Step { id: "test", action, before: None, only_on_host: false };
            let plan = Plan { steps: vec![step], by_hand: Vec::new() };
            let undo_file = root.path("/no/such/folder/undo.json");
            let outcome = tuning::apply::apply(&root, &plan, &undo_file, true).unwrap();
            assert!(!outcome.text().contains("not a file that is changed here"), "{path}");
            seen.insert(path);
        }
    }
    assert!(seen.len() > 20, "{seen:?}");
}

/// Numbers that no machine can have are answered, not a panic.
#[test]
fn no_target_is_too_large_to_be_checked() {
    for name in MACHINES {
        let tree = Tree::named(name);
        let root = tree.root();
        for extreme in [0, 1, u64::from(u32::MAX), u64::MAX / 2 + 1, u64::MAX] {
            let (mut target, mut measured, profile) = asked(name);
            measured.ethtool = tree.ethtool();
            let seconds = u32::try_from(extreme).unwrap_or(u32::MAX);
            target.connections = extreme;
            target.connects_per_s = extreme;
            target.heartbeat_s = seconds;
            target.unsent_bytes_max = extreme;
            target.spool_bytes_max = extreme;
            target.descriptors_reserved = extreme;
            target.ring_bytes = extreme;
            target.memory_planned_bytes = Some(extreme);
            for timeout in [0, u32::MAX] {
                target.lb_timeout_s = Some(timeout);
                let findings =
                    check::run(&Context::read(&root, &target, &measured, profile.as_ref()));
                assert_eq!(findings.len(), checks().count());
                let of = tuning::render::Subject {
                    target: &target,
                    findings: &findings,
                    profile: "",
                    program: "shardcast",
                };
                assert!(tuning::render::unit(&of).contains("LimitNOFILE="));
                assert!(!tuning::render::kubernetes(&of).is_empty());
            }
        }
    }
}

/// More clients never make a finding better.
#[test]
fn more_connections_are_never_easier() {
    let tree = Tree::named("cloud");
    let root = tree.root();
    let measured = Measured::nothing("not measured");
    let look = |connections: u64| {
        let target = Target::new(connections, 7);
        check::run(&Context::read(&root, &target, &measured, None))
    };
    let few = ProptestConfig::with_cases(24);
    proptest!(few, |(one in 1_u64..500_000, other in 1_u64..500_000)| {
        for (small, large) in look(one.min(other)).iter().zip(look(one.max(other))) {
            prop_assert!(small.severity <= large.severity, "{small:?} {large:?}");
        }
    });
}

/// Whatever is asked, every shard has a CPU, nothing is placed on a CPU that is not there or not
/// ours, and what is kept free is free.
#[test]
fn a_map_places_every_thread() {
    let trees = MACHINES.map(Tree::named);
    let places: Vec<_> = trees
        .iter()
        .map(|tree| {
            let machine = Machine::read_from(&Roots::below(&tree.root()));
            (Topology::read(&tree.root()).unwrap(), machine)
        })
        .collect();
    let profiles: Vec<Profile> = Profile::names().filter_map(Profile::named).collect();
    proptest!(|(
        machine in 0..places.len(),
        profile in 0..profiles.len(),
        shards in prop::option::of(1_u32..200),
        node in prop::option::of(0_u32..3),
        allowed in prop::collection::btree_set(0_u32..140, 0..20),
        quota in prop::option::of(0.1_f64..300.0),
    )| {
        let (topology, own) = &places[machine];
        let mut own = own.clone();
        own.cpu_quota_cores = quota;
        if !allowed.is_empty() {
            own.cores_allowed = allowed.into_iter().collect();
        }
        let map = profiles[profile].place_shards(topology, &own, node, shards);
        let there: Vec<u32> = topology.cpus.iter().map(|cpu| cpu.id).collect();
        let ours = |cpu: &u32| own.cores_allowed.contains(cpu);
        prop_assert_eq!(shards.is_none_or(|shards| map.shards.len() == shards as usize), true);
        for cpus in [&map.shards, &map.irqs, &map.control, &map.storage] {
            prop_assert!(!cpus.is_empty());
            prop_assert!(cpus.iter().all(|cpu| there.contains(cpu)), "{cpus:?}");
            prop_assert!(cpus.iter().all(ours) || !there.iter().any(ours), "{cpus:?}");
        }
        prop_assert!(map.free.iter().all(|cpu| !map.shards.contains(cpu)), "{map:?}");
    });
}
