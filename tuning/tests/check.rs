//! Checks on machines made of files, and on this one.

mod common;

use common::Tree;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use tuning::check::{self, Context, Finding, Severity, checks};
use tuning::plan::{Plan, Step};
use tuning::profile::{Profile, draw};
use tuning::root::Root;
use tuning::target::{Measured, Room, Space, SyncTime, Target, UringProbe};
use tuning::topology::Topology;
use tuning::{Machine, Roots, report};

/// What each machine is asked to carry, and what was measured there.
fn asked(name: &str) -> (Target, Measured, Option<Profile>) {
    let mut measured = Measured::nothing("not measured");
    measured.uring = UringProbe::Works;
    let target = match name {
        "metal" => {
            measured.connections_by_memory = Room::Clients(1_500_000);
            measured.space = Ok(Space { free_bytes: 900 << 30, spool_bytes: 0 });
            measured.sync = Ok(SyncTime { tries: 33, median_ms: 0.04, worst_ms: 0.3 });
            let mut target = Target::new(1_000_000, 56);
            target.lb_timeout_s = Some(20);
            target.data_dir = PathBuf::from("/var/lib/shardcast");
            return (target, measured, Profile::named("large"));
        }
        "cloud" => {
            measured.connections_by_memory = Room::Clients(400_000);
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
    check("container", "cores.quota", Info);
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
            let absent = !root.path("/etc").is_symlink() && finding.id == "advice.in_files";
            let known = finding.id == "net.heartbeat" || absent;
            assert!(known || finding.severity == Severity::Unknown, "{finding:?}");
            assert!(!finding.current.is_empty());
        }
        assert_eq!(Plan::of(&findings, &root), Plan::default());
    }
}

/// A machine on which all is well, with one file taken away or made unreadable: what depended on it
/// is unknown then, with the reason, and never as it should be.
#[test]
fn what_cannot_be_seen_is_unknown_and_never_fine() {
    let check = |machine: &str, path: &str, id: &str, hide: bool| {
        let tree = Tree::named(machine);
        let root = tree.root();
        let (mut target, mut measured, profile) = asked(machine);
        target.connections = 1_000;
        measured.ethtool = tree.ethtool();
        let look = || check::run(&Context::read(&root, &target, &measured, profile.as_ref()));
        let before = of(&look(), id).clone();
        assert_eq!(before.severity, Severity::Ok, "{machine}: {before:?}");
        let real = root.path(path);
        match real.is_dir() {
            true => std::fs::remove_dir_all(&real).unwrap(),
            false => std::fs::remove_file(&real).unwrap(),
        }
        if hide {
            std::os::unix::fs::symlink(real.file_name().unwrap(), &real).unwrap();
        }
        let after = of(&look(), id).clone();
        assert_eq!(after.severity, Severity::Unknown, "{machine} without {path}: {after:?}");
        let name = path.rsplit('/').next().unwrap();
        assert!(after.current.contains(name), "{path}: {after:?}");
    };
    let cpu = "/sys/devices/system/cpu";
    for hide in [false, true] {
        check("cloud", &format!("{cpu}/present"), "cpu.offline", hide);
        check("cloud", &format!("{cpu}/isolated"), "cpu.isolation", hide);
        let siblings = format!("{cpu}/cpu3/topology/thread_siblings_list");
        check("cloud", &siblings, "cores.siblings", hide);
        check("cloud", "/sys/devices/system/node", "cores.numa", hide);
        check("cloud", "/sys/devices/system/node/node0/cpulist", "cores.numa", hide);
        check("cloud", &format!("{cpu}/cpu5"), "cores.hybrid", hide);
        check("cloud", &format!("{cpu}/cpu5"), "cpu.governor", hide);
        check("cloud", "/sys/class/net/eth0/queues/tx-0", "nic.xps", true);
        check("cloud", "/proc/1/comm", "nic.irqbalance", hide);
        check("metal", "/sys/dev/block/259:5/queue/rotational", "disk.scheduler", hide);
        check("metal", "/proc/sys/net/netfilter/nf_conntrack_count", "conntrack.max", hide);
    }
    // Missing these, a kernel is without the feature; unreadable, nobody knows.
    check("single", "/proc/cmdline", "cpu.isolation", false);
    check("metal", "/proc/sys/kernel/io_uring_disabled", "uring.disabled", true);
    let quota = "/sys/fs/cgroup/cpu,cpuacct/user.slice/cpu.cfs_quota_us";
    check("single", quota, "cores.quota", true);
    for path in ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup"] {
        check("container", path, "memory.cgroup", true);
    }
    check("cloud", "/proc/self/cgroup", "memory.planned", true);
    check("cloud", "/sys/class/net/eth0/device", "nic.xps", true);
    check("cloud", "/sys/class/net/eth0/queues", "nic.xps", true);
    check("cloud", "/proc/interrupts", "nic.xps", true);
    check("cloud", "/sys/kernel/mm/transparent_hugepage/enabled", "memory.huge_pages", true);
    check("cloud", "/proc/sys/net/core/rmem_max", "advice.in_force", true);
    let cloud = Tree::named("cloud");
    std::os::unix::fs::symlink("cpu_atom", cloud.root().path("/sys/devices/cpu_atom")).unwrap();
    assert_eq!(of(&look(&cloud, 7, None), "cores.hybrid").severity, Severity::Unknown);
}

/// Kernels without a feature have no file for it; that is an answer.
#[test]
fn a_kernel_without_a_feature_is_no_riddle() {
    let ok = |name: &str, id: &str| {
        let finding = finding(name, id);
        assert_eq!(finding.severity, Severity::Ok, "{name}: {finding:?}");
    };
    ok("cloud", "cores.hybrid");
    ok("cloud", "cpu.isolation");
    ok("single", "cpu.isolation");
    ok("single", "cores.numa");
    ok("single", "cores.siblings");
    ok("single", "uring.disabled");
    ok("single", "conntrack.max");
}

#[test]
fn files_of_sysctl_that_cannot_be_read_are_said() {
    let base = "=== /proc/sys/net/core/somaxconn\n128\n";
    let none = Tree::of(base);
    assert_eq!(of(&look(&none, 1, None), "advice.in_files").severity, Severity::Ok);
    for path in ["/etc/sysctl.d/10-x.conf", "/etc/sysctl.conf", "/usr/local/lib/sysctl.d"] {
        let tree = Tree::of(&format!("{base}=== {path} !unreadable\n"));
        let found = look(&tree, 1, None);
        let finding = of(&found, "advice.in_files");
        assert_eq!(finding.severity, Severity::Unknown, "{finding:?}");
        assert!(finding.current.contains(path), "{finding:?}");
    }
    let local = "=== /usr/local/lib/sysctl.d/a.conf\nnet.ipv4.tcp_sack=0\n";
    let tree = Tree::of(&format!("{base}{local}=== /etc/sysctl.conf !unreadable\n"));
    let found = look(&tree, 1, None);
    let finding = of(&found, "advice.in_files");
    assert_eq!(finding.severity, Severity::Warning);
    assert!(finding.current.contains("/usr/local/lib/sysctl.d/a.conf:1"), "{finding:?}");
    assert!(finding.current.contains("/etc/sysctl.conf cannot be read"), "{finding:?}");
}

/// In a network namespace of its own the count is the namespace's, and the table that fills is the
/// host's.
#[test]
fn what_another_namespace_tracks_is_not_guessed() {
    let folder = "/proc/sys/net/netfilter";
    let tracking = |max: u64, tracked: u64, more: &str| {
        let tree = Tree::of(&format!(
            "=== {folder}/nf_conntrack_max\n{max}\n=== {folder}/nf_conntrack_count\n{tracked}\n\
             === {folder}/nf_conntrack_buckets\n1024\n\
             === /proc/sys/net/ipv4/tcp_syncookies\n1\n{more}"
        ));
        let found = look(&tree, 1, None);
        (of(&found, "conntrack.max").severity, of(&found, "conntrack.buckets").severity)
    };
    let first = "=== /proc/sys/net/ipv4/tcp_mem\n1 2 3\n";
    use Severity::{Fatal, Info, Ok, Unknown, Warning};
    assert_eq!(tracking(4_096, 0, first), (Info, Info));
    assert_eq!(tracking(4_096, 9, first), (Fatal, Warning));
    assert_eq!(tracking(4_096, 0, ""), (Unknown, Unknown));
    assert_eq!(tracking(4_096, 9, ""), (Fatal, Warning));
    assert_eq!(tracking(1 << 20, 0, ""), (Ok, Unknown));
    // Where nothing is shown, only the list of modules says that nobody tracks.
    let inside = "=== /proc/sys/net/ipv4/tcp_syncookies\n1\n";
    let hidden = "=== /proc/sys/net/netfilter !unreadable\n=== /proc/sys/net/ipv4/tcp_mem\n1 2 3\n";
    for (more, severity) in [
        ("", Unknown),
        ("=== /sys/module/nf_conntrack/parameters/hashsize\n1\n", Unknown),
        ("=== /sys/module/ext4/refcnt\n1\n", Ok),
        (hidden, Unknown),
    ] {
        let found = look(&Tree::of(&format!("{inside}{more}")), 1, None);
        let finding = of(&found, "conntrack.max");
        assert_eq!(finding.severity, severity, "{more}: {finding:?}");
    }
}

/// What a file system spreads over disks, or puts on another one, has no scheduler to look at.
#[test]
fn only_what_has_no_disk_has_no_scheduler() {
    for (kind, severity) in [
        ("tmpfs", Severity::Ok),
        ("nfs4", Severity::Ok),
        ("btrfs", Severity::Unknown),
        ("zfs", Severity::Unknown),
        ("overlay", Severity::Unknown),
    ] {
        let tree = Tree::of(&format!("=== /proc/self/mountinfo\n29 1 0:41 / / rw - {kind} x rw\n"));
        let mut target = Target::new(1_000, 1);
        target.data_dir = PathBuf::from("/data");
        let (root, measured) = (tree.root(), Measured::nothing("not measured"));
        let found = check::run(&Context::read(&root, &target, &measured, None));
        let finding = of(&found, "disk.scheduler");
        assert_eq!(finding.severity, severity, "{finding:?}");
        assert!(finding.current.contains(kind), "{finding:?}");
    }
}

/// A budget from which the server would not start is no riddle either.
#[test]
fn memory_that_the_server_does_not_start_with_is_fatal() {
    let tree = Tree::of("");
    let mut measured = Measured::nothing("not measured");
    measured.connections_by_memory = Room::NoStart("too little".to_owned());
    let (root, target) = (tree.root(), Target::new(10, 1));
    let found = check::run(&Context::read(&root, &target, &measured, None));
    let finding = of(&found, "memory.connections");
    assert_eq!(finding.severity, Severity::Fatal);
    assert!(finding.current.contains("too little") && !finding.fix.is_empty(), "{finding:?}");
}

#[test]
fn a_machine_that_says_impossible_things_is_no_panic() {
    let nic =
        "=== /sys/class/net/eth0/device/vendor\nx\n=== /sys/class/net/eth0/queues/rx-0/rps_cpus\n0
=== /proc/interrupts\n 9: 1 PCI-MSI 0-edge eth0-rx-0\n=== /proc/irq/9/smp_affinity_list\n0\n";
    for profile in [None, Profile::named("large")] {
        let tree = Tree::of(&format!("=== /sys/devices/system/cpu/online\n\n{nic}"));
        let found = look(&tree, 2, profile.as_ref());
        for id in ["cores.shards", "cores.siblings", "nic.irq_affinity"] {
            assert_eq!(of(&found, id).severity, Severity::Unknown, "{:?}", of(&found, id));
        }
        let most = u64::MAX;
        let tree = Tree::of(&format!(
            "{SIBLINGS}=== /sys/devices/cpu/type\n4
=== /sys/devices/system/cpu/cpu{{0..3}}/cpu_capacity\n{most}
=== /sys/devices/system/cpu/cpu{{4..7}}/cpu_capacity\n1024\n"
        ));
        let found = look(&tree, 8, profile.as_ref());
        assert!(of(&found, "cores.hybrid").current.contains("on slow cores"));
    }
}

/// In a network namespace `tcp_mem` is not to be seen; the kernel's own least fits anyway.
#[test]
fn buffers_are_judged_by_what_there_is_to_see() {
    let severity = |rmem: &str, more: &str| {
        let tree = Tree::of(&format!("=== /proc/sys/net/ipv4/tcp_rmem\n{rmem}\n{more}"));
        of(&look(&tree, 1, None), "tcp.rmem").severity
    };
    assert_eq!(severity("4096\t131072\t6291456", ""), Severity::Ok);
    assert_eq!(severity("65536\t131072\t6291456", ""), Severity::Unknown);
    let tcp_mem = "=== /proc/sys/net/ipv4/tcp_mem\n100 200 300\n";
    assert_eq!(severity("65536\t131072\t6291456", tcp_mem), Severity::Warning);
}

/// Of a clock that is not known here nothing is said; a slow one is a warning.
#[test]
fn clocks_of_all_architectures_are_known_or_said_not_to_be() {
    for (name, severity) in [
        ("tsc", Severity::Ok),
        ("arch_sys_counter", Severity::Ok),
        ("riscv_clocksource", Severity::Ok),
        ("timebase", Severity::Ok),
        ("tod", Severity::Ok),
        ("hpet", Severity::Warning),
        ("acpi_pm", Severity::Warning),
        ("some_new_clock", Severity::Unknown),
    ] {
        let folder = "/sys/devices/system/clocksource/clocksource0";
        let tree = Tree::of(&format!(
            "=== {folder}/current_clocksource\n{name}\n=== {folder}/available_clocksource\n{name}\n"
        ));
        let found = look(&tree, 1, None);
        assert_eq!(of(&found, "cpu.clock").severity, severity, "{name}");
    }
}

/// The server rounds a fraction of a core up; that is no fault. More shards than that are.
#[test]
fn a_fraction_of_a_core_is_what_the_server_makes_of_it() {
    let tree = Tree::named("container");
    let quota = |shards| of(&look(&tree, shards, None), "cores.quota").severity;
    assert_eq!((quota(2), quota(3), quota(4)), (Severity::Ok, Severity::Info, Severity::Warning));
}

/// What cannot be had is said, and no value that the kernel refuses is advised.
#[test]
fn what_is_impossible_is_said_to_be() {
    let tree = Tree::named("cloud");
    let root = tree.root();
    let measured = Measured::nothing("not measured");
    let mut target = Target::new(u64::from(u32::MAX), 7);
    target.lb_timeout_s = Some(1);
    let findings = check::run(&Context::read(&root, &target, &measured, None));
    let open = of(&findings, "files.nr_open");
    assert_eq!(open.severity, Severity::Fatal);
    assert!(open.actions.is_empty() && open.fix.contains("more servers"), "{open:?}");
    let heartbeat = of(&findings, "net.heartbeat");
    assert_eq!(heartbeat.severity, Severity::Fatal);
    assert!(!heartbeat.fix.contains("heartbeat_s = "), "{heartbeat:?}");
    assert!(heartbeat.required.contains("not possible"), "{heartbeat:?}");
    // The most that a kernel takes is asked for where the next power of two is more.
    let target = Target::new(2_000_000_000, 7);
    let findings = check::run(&Context::read(&root, &target, &measured, None));
    assert!(of(&findings, "files.nr_open").fix.contains("fs.nr_open=2147483584"));
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

/// Every file of a tree with what it says; links as what they point to.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_symlink() {
            found.insert(path.clone(), path.read_link().unwrap().into_os_string().into_vec());
        } else if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    found
}

/// What is planned is what makes it right, with however many shards and whichever profile: after
/// `apply` what was planned is as it should be, a second `apply` has nothing to do, and `undo`
/// brings back every byte.
#[test]
fn what_is_applied_meets_what_was_required_and_is_undone() {
    let profiles = [None, Profile::named("large")];
    let cases =
        MACHINES.iter().flat_map(|name| profiles.iter().map(move |profile| (*name, profile)));
    for (name, profile) in cases {
        let tree = Tree::named(name);
        let state = tempfile::tempdir().unwrap();
        let undo_file = state.path().join("own/undo.json");
        let root = tree.root();
        let first = files(&root.path("/"));
        for shards in [1, 3, 8, 64] {
            let (mut target, mut measured, _) = asked(name);
            target.shards = shards;
            measured.ethtool = tree.ethtool();
            let look = || check::run(&Context::read(&root, &target, &measured, profile.as_ref()));
            let case = format!("{name}, {:?}, {shards} shards", profile.as_ref().map(|p| &p.name));
            let plan = Plan::of(&look(), &root);
            let outcome =
                tuning::apply::apply_by(&root, &plan, &undo_file, false, &common::kernel).unwrap();
            assert!(outcome.is_whole(), "{case}: {outcome:?}");
            let after = look();
            for step in &plan.steps {
                let finding = of(&after, step.id);
                // A setting that only a person may decide on stays in the same line.
                let key = match &step.action {
                    tuning::action::Action::Sysctl { key, .. } => key.as_str(),
                    _ => "",
                };
                let met = finding.severity == Severity::Ok
                    || step.id == "advice.in_force" && !finding.current.contains(key);
                assert!(met, "{case}: {finding:?}");
            }
            assert_eq!(Plan::of(&after, &root).steps, [], "{case}");
            let again =
                tuning::apply::apply_by(&root, &plan, &undo_file, false, &common::kernel).unwrap();
            assert!(!again.changed && again.is_whole(), "{case}: {again:?}");
        }
        // One `undo` takes back what all of them did.
        let undone = tuning::apply::undo_by(&root, &undo_file, false, &common::kernel).unwrap();
        assert!(undone.is_whole(), "{name}: {undone:?}");
        assert!(!undo_file.exists());
        for (path, now) in files(&root.path("/")) {
            let (now, before) = (String::from_utf8_lossy(&now), &first[&path]);
            assert_eq!(now, String::from_utf8_lossy(before), "{name}: {}", path.display());
        }
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

/// A list of CPUs is no mask: an interrupt on CPU 0 and 60 is not one on CPU 60 alone.
#[test]
fn an_interrupt_on_several_cpus_is_moved_to_its_own() {
    let tree = Tree::named("metal");
    let root = tree.root();
    std::fs::write(root.path("/proc/irq/201/smp_affinity_list"), "0,60\n").unwrap();
    std::fs::write(root.path("/proc/irq/202/smp_affinity_list"), "61\n").unwrap();
    let (target, measured, profile) = asked("metal");
    let findings = check::run(&Context::read(&root, &target, &measured, profile.as_ref()));
    assert!(of(&findings, "nic.irq_affinity").current.contains("3 of 4 elsewhere (201 on 0,60"));
    let lines = Plan::of(&findings, &root).text();
    assert!(lines.contains("/proc/irq/201/smp_affinity_list: 0,60 -> 60\n"), "{lines}");
    assert!(!lines.contains("/proc/irq/202/"), "{lines}");
}

/// Packets are steered to shards' CPUs and on to the one that reads them; one without the other is
/// said, and what is there already is never made less.
#[test]
fn receive_steering_is_whole_or_said() {
    let tree = Tree::named("cloud");
    let root = tree.root();
    let put = |path: &str, text: &str| std::fs::write(root.path(path), text).unwrap();
    let (target, measured, _) = asked("cloud");
    let look = || check::run(&Context::read(&root, &target, &measured, None));
    let queue = |index: u32, name: &str, text: &str| {
        put(&format!("/sys/class/net/eth0/queues/rx-{index}/{name}"), text);
    };
    for index in 0..2 {
        queue(index, "rps_cpus", "ff\n");
    }
    put("/proc/sys/net/core/rps_sock_flow_entries", "65536\n");
    let findings = look();
    let rps = of(&findings, "nic.rps");
    assert_eq!(rps.severity, Severity::Warning, "{rps:?}");
    assert_eq!(rps.current, "eth0: CPU 0-7, 0 flows a queue, 65,536 in all");
    let plan = Plan::of(&findings, &root).text();
    assert!(!plan.contains("rps_sock_flow_entries"), "{plan}");
    assert!(plan.contains("rx-1/rps_flow_cnt: 0 -> 16384\n"), "{plan}");
    queue(0, "rps_flow_cnt", "16384\n");
    queue(1, "rps_flow_cnt", "32768\n");
    assert_eq!(of(&look(), "nic.rps").severity, Severity::Ok);
    queue(1, "rps_flow_cnt", "8192\n");
    let plan = Plan::of(&look(), &root).text();
    assert!(plan.contains("rx-1/rps_flow_cnt: 8192 -> 16384\n"), "{plan}");
    assert!(!plan.contains("rx-0/rps_flow_cnt"), "{plan}");
}

/// The kernel rounds to powers of two, so that is what is asked for.
#[test]
fn flows_are_powers_of_two_with_any_number_of_queues() {
    for queues in 1..=12 {
        let tree = Tree::of(&format!(
            "{SIBLINGS}=== /sys/class/net/eth0/device/vendor
x
=== /sys/class/net/eth0/queues/rx-{{1..{queues}}}/rps_cpus
0
=== /sys/class/net/eth0/queues/rx-{{1..{queues}}}/rps_flow_cnt
0
=== /proc/sys/net/core/rps_sock_flow_entries
0
"
        ));
        let root = tree.root();
        // The kernel counts from zero.
        for index in 0..queues {
            let folder = root.path("/sys/class/net/eth0/queues");
            std::fs::rename(
                folder.join(format!("rx-{}", index + 1)),
                folder.join(format!("rx-{index}")),
            )
            .unwrap();
        }
        let findings = look(&tree, 16, None);
        let steps = Plan::of(&findings, &root).steps;
        let flows = steps.iter().filter(|step| step.line().contains("flow"));
        let values: Vec<u64> =
            flows.map(|step| step.action.value().unwrap().parse().unwrap()).collect();
        assert_eq!(values.len(), queues + 1, "{:?}", of(&findings, "nic.rps"));
        assert!(values.iter().all(|value| value.is_power_of_two()), "{queues}: {values:?}");
    }
}

/// What is to be typed works where several files are meant: a shell refuses to write to several at
/// once.
#[test]
fn advice_for_several_queues_can_be_typed() {
    let tree = Tree::named("cloud");
    let root = tree.root();
    let (target, measured, _) = asked("cloud");
    let findings = check::run(&Context::read(&root, &target, &measured, None));
    let fix = &of(&findings, "nic.rps").fix;
    let (_, command) = fix.split_once("; ").unwrap();
    let inside = root.path("/sys/class");
    let command = command.replace("/sys/class", inside.to_str().unwrap());
    let typed = std::process::Command::new("bash").args(["-euc", &command]).status().unwrap();
    assert!(typed.success(), "{command}");
    for queue in ["rx-0", "rx-1"] {
        let folder = format!("/sys/class/net/eth0/queues/{queue}");
        assert_eq!(root.text(&format!("{folder}/rps_cpus")).as_deref(), Ok("7f"));
        assert_eq!(root.text(&format!("{folder}/rps_flow_cnt")).as_deref(), Ok("16384"));
    }
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
                    service: &Default::default(),
                    pod_memory_bytes: None,
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

/// With `--pid` nothing of this process is said of the other one.
#[test]
fn another_process_is_looked_at_and_not_this_one() {
    let text = |fds: &str, seccomp: u32, cgroup: &str, net: u32| {
        format!(
            "
=== /proc/self/status
Cpus_allowed_list:	0-3
Seccomp:	0
=== /proc/self/cgroup
0::/
=== /proc/self/ns/net -> net:[1]
=== /proc/77/status
Cpus_allowed_list:	0
Seccomp:	{seccomp}
=== /proc/77/cgroup
0::{cgroup}
=== /proc/77/ns/net -> net:[{net}]
=== /proc/77/fd/0 -> /dev/null
{fds}
=== /proc/meminfo
MemTotal: 8388608 kB
=== /proc/sys/net/core/somaxconn
65535
=== /sys/fs/cgroup/a/memory.max
1073741824
=== /sys/fs/cgroup/a/cpu.max
50000 100000
=== /sys/devices/system/cpu/online
0-3
"
        )
    };
    let ring = "=== /proc/77/fd/9 -> anon_inode:[io_uring]";
    let look = |tree: &str, process: Option<u32>| {
        let tree = Tree::of(tree);
        let (root, mut target) = (tree.root(), Target::new(1_000, 1));
        target.process = process;
        let mut measured = Measured::nothing("not measured");
        // As this process would find it.
        measured.uring = UringProbe::Works;
        check::run(&Context::read(&root, &target, &measured, None))
    };
    let says = |findings: &[Finding], id: &str, severity: Severity, words: &str| {
        let found = findings.iter().find(|finding| finding.id == id).unwrap();
        assert_eq!(found.severity, severity, "{found:?}");
        assert!(found.current.contains(words), "{found:?}");
    };
    let own = look(&text("", 2, "/a", 1), None);
    says(&own, "uring.works", Severity::Ok, "works");
    says(&own, "memory.cgroup", Severity::Ok, "no limit");

    let other = look(&text("", 2, "/a", 1), Some(77));
    says(&other, "uring.works", Severity::Unknown, "not tried for process 77");
    says(&other, "uring.seccomp", Severity::Unknown, "not tried for process 77");
    says(&other, "memory.cgroup", Severity::Ok, "1.0 GiB");
    says(&other, "cores.quota", Severity::Info, "0.5 cores");
    says(&other, "tcp.somaxconn", Severity::Ok, "65,535");

    // What it has open needs no trial; a cgroup and a network that are not seen say nothing.
    let other = look(&text(ring, 2, "/../a", 2), Some(77));
    says(&other, "uring.works", Severity::Ok, "rings open in process 77: 1");
    says(&other, "uring.seccomp", Severity::Ok, "a ring is open");
    says(&other, "memory.cgroup", Severity::Unknown, "not seen from here");
    says(&other, "cores.quota", Severity::Unknown, "not seen from here");
    says(&other, "tcp.somaxconn", Severity::Unknown, "network namespace of its own");
    let other = look(&text("", 0, "/a", 1), Some(77));
    says(&other, "uring.seccomp", Severity::Ok, "no filter");
}
