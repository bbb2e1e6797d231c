//! `shardcast capacity` as a person runs it: the page's examples as they stand there, what it says
//! to nonsense, and a server that shows its live costs beside a calibration.

use crate::rig::child::{output, run};
use crate::rig::ws::Socket;
use crate::rig::{Cell, Site, until};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_shardcast-under-test"))
}

fn planned(line: &str) -> Value {
    let said = run(program().arg("capacity").args(line.split_whitespace()).arg("--json"));
    serde_json::from_str(&said).expect("JSON")
}

#[test]
fn the_example_has_the_corrected_answers() {
    for (more, servers, limit) in [
        ("", 50, "messages out"),
        ("--peak 1 --headroom 0", 17, "messages out"),
        ("--peak 1", 25, "messages out"),
        ("--n-1", 51, "messages out"),
        ("--server-out 500000", 15, "connections"),
        ("--skip-sender", 49, "messages out"),
    ] {
        let plan = planned(&format!("--example chat-1m {more}"));
        assert_eq!(plan["servers"], servers, "{more}");
        assert_eq!(plan["limiting"], limit, "{more}");
    }
}

/// What the server's own budget refuses is not planned.
#[test]
fn no_server_is_planned_with_more_connections_than_serve_admits() {
    let budget = |plan: &Value| {
        let dimensions = plan["dimensions"].as_array().expect("dimensions");
        let found = dimensions.iter().find(|it| it["name"] == "memory budget").expect("it is one");
        found["terms"][0]["factors"][1]["value"].as_f64().expect("a number")
    };
    let small = planned("--profile small --users 250k --messages-per-user-min 0.01");
    assert!(small["servers"].as_u64() > Some(1), "{}", small["servers"]);
    assert_eq!(small["limiting"], "memory budget");
    // The same figure as for a pod, which is what a server derives there.
    let pod = planned("--pod-memory 4Gi --server-cores 2");
    assert_eq!(Some(budget(&small)), pod["pod"]["allowed"].as_f64());
    let million = planned("--users 1M --messages-per-user-min 0.01 --peak 1 --headroom 0");
    assert_eq!(million["servers"], 2);
    assert!(budget(&million) > 500_000.0 && budget(&million) < 1e6);
    // With other memory it is another one, from a file, too.
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("plan.json");
    fs::write(&file, million.to_string()).expect("written");
    let more = planned(&format!("--from {} --server-memory 64Gi", file.display()));
    assert!(budget(&more) > 2.0 * budget(&million));
    assert_eq!(more["servers"], 1);
}

#[test]
fn rates_of_a_server_leave_the_rest_of_it_as_it_is() {
    let names = |line: &str| -> Vec<String> {
        let plan = planned(line);
        let dimensions = plan["dimensions"].as_array().expect("dimensions");
        dimensions.iter().map(|it| it["name"].as_str().expect("a name").to_owned()).collect()
    };
    let plain = names("--users 1M");
    for flag in ["--server-in 1M", "--server-out 1M", "--server-connections 1M"] {
        let given = names(&format!("--users 1M {flag}"));
        assert!(plain.iter().all(|name| given.contains(name)), "{flag}: {given:?}");
    }
}

#[test]
fn a_pod_alone_is_no_plan_for_servers() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("pod.html");
    let pod = planned(&format!("--pod-memory 2G --html {}", file.display()));
    assert!(pod["pod"]["connections"].as_u64() > Some(10_000), "{pod}");
    assert!(pod.get("servers").is_none() && pod.get("dimensions").is_none(), "{pod}");
    let page = fs::read_to_string(file).expect("made");
    assert!(page.contains("connections</h1>") && !page.contains("1 server"), "{page}");
    let whole = planned("--pod-memory 2G --users 100");
    assert_eq!(whole["servers"], 1);
}

/// The fenced blocks of the page: language and text, in order.
fn blocks() -> Vec<(String, String)> {
    let page = fs::read_to_string(repository().join("docs/operating/capacity.md")).expect("there");
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(language) = line.strip_prefix("```") else { continue };
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        blocks.push((language.to_owned(), block.join("\n")));
    }
    blocks
}

#[test]
fn every_example_of_the_page_runs_and_says_what_the_page_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let own = folder.path().join("bin");
    fs::create_dir(&own).expect("made");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_shardcast-under-test"), own.join("shardcast"))
        .expect("linked");
    let path = format!("{}:{}", own.display(), std::env::var("PATH").unwrap_or_default());
    let mut said = String::new();
    let mut ran = 0;
    for (language, text) in blocks() {
        match language.as_str() {
            "sh" => {
                let mut sh = Command::new("sh");
                sh.args(["-e", "-c", &text]).current_dir(folder.path()).env("PATH", &path);
                said = run(&mut sh);
                ran += 1;
            }
            "text" if !text.contains("bench --calibrate") => {
                for line in text.lines() {
                    assert!(said.lines().any(|it| it == line), "not said: {line}\n{said}");
                }
            }
            _ => {}
        }
    }
    assert!(ran >= 6, "only {ran} examples were found");
    assert!(fs::read_to_string(folder.path().join("plan.html")).expect("made").contains("<svg"));
}

#[test]
fn a_plan_is_read_again_and_gives_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("plan.json");
    let line = "--users 123456 --message-bytes 777 --peak 3.3 --headroom 41 --price-server-hour 0.37 \
                --managed x,messages=0.3 --delta 0.7 --batch-ms 12.5";
    let plan = planned(line);
    fs::write(&file, plan.to_string()).expect("written");
    assert_eq!(planned(&format!("--from {}", file.display())), plan);
    let more = planned(&format!("--from {} --users 2M", file.display()));
    assert!(more["servers"].as_u64() > plan["servers"].as_u64());
}

#[test]
fn nonsense_is_refused_with_what_to_do_and_never_panics() {
    let folder = tempfile::tempdir().expect("a folder");
    let reference = repository().join("tuning/src/capacity/reference.json");
    let good = fs::read_to_string(&reference).expect("there");
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).expect("written");
        path.display().to_string()
    };
    let cut = file("cut.json", &good.as_bytes()[..good.len() / 2]);
    let other = file("other.json", b"{\"a\": 1}");
    let binary = file("binary.json", &[0xff, 0xfe, 0]);
    let huge = file("huge.json", &vec![b' '; (1 << 20) + 1]);
    let empty = file("empty.json", b"");
    let here = folder.path().display().to_string();
    for (line, expected) in [
        ("--json".to_owned(), "how many users"),
        ("--users 0".to_owned(), "--users: 0 is not from 1"),
        ("--users -3".to_owned(), "--users: -3 is not from 1"),
        ("--users nan".to_owned(), "not a number"),
        ("--users 1e400".to_owned(), "too large"),
        ("--users 1e300".to_owned(), "--users: 1e300 is not from 1"),
        ("--users 10 --peak 0".to_owned(), "--peak: 0 is not from 1"),
        ("--users 10 --headroom 0.5".to_owned(), "in percent"),
        ("--users 10 --users-per-room 11".to_owned(), "--users-per-room"),
        ("--users 10 --peak-hours 13".to_owned(), "--peak-hours"),
        ("--users 10 --server-memory 1".to_owned(), "--server-memory"),
        ("--users 10 --server-memory lots".to_owned(), "not an amount of memory"),
        ("--users 10 --server-memory 100M".to_owned(), "would not start there"),
        (
            "--users 1e12 --users-per-room 1e12 --messages-per-user-min 1e9 --message-bytes 1e9 --n-1"
                .to_owned(),
            "more than can be counted",
        ),
        ("--pod-memory 1M".to_owned(), "--pod-memory"),
        ("--users 10 --profile huge".to_owned(), "there are small, standard"),
        ("--example other".to_owned(), "there is chat-1m"),
        ("--users 10 --managed x".to_owned(), "has no price"),
        ("--users 10 --measured /nowhere".to_owned(), "No such file"),
        (format!("--users 10 --measured {here}"), "not a file"),
        (format!("--users 10 --measured {huge}"), "not a file"),
        (format!("--users 10 --measured {empty}"), "not JSON"),
        (format!("--users 10 --measured {cut}"), "not JSON"),
        (format!("--users 10 --measured {binary}"), "not text"),
        (format!("--users 10 --measured {other}"), "bench --calibrate"),
        (format!("--from {other}"), "--json` makes such a file"),
        (format!("--from {}", reference.display()), "--json` makes such a file"),
        ("--users 10 --html /nowhere/plan.html".to_owned(), "cannot write"),
    ] {
        let out = output(program().arg("capacity").args(line.split_whitespace()));
        let error = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(64), "{line}: {error}");
        assert!(error.contains(expected), "{line}: {error}");
        assert!(!error.contains("panicked"), "{line}: {error}");
    }
}

#[test]
fn a_benchmark_that_was_not_built_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let alone = folder.path().join("shardcast");
    fs::copy(env!("CARGO_BIN_EXE_shardcast-under-test"), &alone).expect("copied");
    let out = output(Command::new(&alone).args(["bench", "--calibrate"]));
    assert_eq!(out.status.code(), Some(69));
    assert!(String::from_utf8_lossy(&out.stderr).contains("cargo build --release -p bench"));
}

fn a_server_says_what_its_connections_cost(cell: Cell) {
    let reference = repository().join("tuning/src/capacity/reference.json");
    let site = Site::with(cell, |config| {
        config.cost.server_hour = 0.5_f64.try_into().expect("a price");
        config.cost.calibration = reference;
    });
    let _subscriber = Socket::open(site.address(), "/v1/channels/orders/ws");
    // One connection carries the whole server: 720 hours at 0.5. Looks are ten seconds apart.
    until("the server's price is on its only connection", || {
        (site.metric("realtime_cost_per_connection") - 360.0).abs() < 1e-6
    });
    assert!(site.metric("shardcast_connection_memory_bytes") > 100.0);
    let drift = site.metric("shardcast_model_drift_ratio{figure=\"connection_bytes\"");
    assert_eq!(drift, 0.0, "one connection says nothing about the model");
}

#[test]
fn live_cost_on_io_uring() {
    a_server_says_what_its_connections_cost(Cell::URING_2);
}

#[test]
fn live_cost_on_epoll() {
    a_server_says_what_its_connections_cost(Cell::EPOLL_1);
}

#[test]
fn a_server_does_not_start_on_a_calibration_that_is_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("calibration.json");
    fs::write(&file, "{}").expect("written");
    for name in [file.display().to_string(), "/nowhere/calibration.json".to_owned()] {
        let mut serve = program();
        serve.args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
        serve.arg("--data-dir").arg(folder.path().join("data"));
        let out = output(serve.arg("--set").arg(format!("cost.calibration={name}")));
        let error = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(78), "{error}");
        assert!(error.contains(&name) && error.contains("cost.calibration"), "{error}");
    }
}
