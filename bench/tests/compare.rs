//! The benchmark as a person runs it, tiny: our server, the bare loop and axum, all built here.
//!
//! It needs the server's program beside the benchmark's own, as `cargo build --workspace` leaves
//! it; without it there is nothing to compare, which is said.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use tuning::capacity::{Calibration, Server, example, plan};

const COST: &str = "server CPU per delivery";
const RATE: &str = "events per CPU-second";
const NOTHING_WRONG: &str = "lost 0, out of order 0, doubled 0, closed 0";

/// The benchmark, if the server's program is there.
fn bench() -> Option<Command> {
    let bench = PathBuf::from(env!("CARGO_BIN_EXE_bench"));
    let server = bench.with_file_name("shardcast");
    if !server.exists() {
        eprintln!("not compared: there is no {}; build the workspace first", server.display());
        return None;
    }
    let mut command = Command::new(bench);
    // One core: a machine may have no second.
    command.args(["--server-core", "0", "--client-core", "0", "--engine", "epoll"]);
    Some(command)
}

/// What a scenario wrote.
struct Found {
    outcome: Value,
    folder: tempfile::TempDir,
}

/// Runs a scenario with two rounds.
fn found(words: &[&str]) -> Option<Found> {
    let folder = tempfile::tempdir().unwrap();
    let output =
        bench()?.args(words).args(["--pairs", "2", "--out"]).arg(folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{words:?}: {said}");
    let json = std::fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.path());
    let json = json.filter(|path| path.extension().is_some_and(|it| it == "json"));
    let json: Vec<PathBuf> = json.collect();
    assert_eq!(json.len(), 1, "{said}");
    let outcome = serde_json::from_slice(&std::fs::read(&json[0]).unwrap()).unwrap();
    Some(Found { outcome, folder })
}

impl Found {
    fn page(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("README.md")).unwrap()
    }

    /// All samples of a measure, by side.
    fn samples(&self, measure: &str) -> Vec<Vec<f64>> {
        let measures = self.outcome["measures"].as_array().unwrap();
        let of = measures.iter().find(|it| it["name"] == measure);
        let of = of.unwrap_or_else(|| panic!("no {measure}: {:#}", self.outcome));
        serde_json::from_value(of["samples"].clone()).unwrap()
    }

    /// These sides and no others were measured in both rounds, and are on the page.
    fn check(&self, measure: &str, sides: &[&str]) {
        let found = self.outcome["sides"].as_array().unwrap();
        let names: Vec<&str> = found.iter().map(|side| side["name"].as_str().unwrap()).collect();
        assert_eq!(names, sides, "{:#}", self.outcome);
        let samples = self.samples(measure);
        assert_eq!(samples.len(), sides.len());
        for samples in samples {
            assert_eq!(samples.len(), 2, "one a round");
            assert!(samples.iter().all(|it| *it > 0.0), "{samples:?}");
        }
        let page = self.page();
        assert!(sides.iter().all(|side| page.contains(&format!("| {side} |"))), "{page}");
    }

    fn check_integrity(&self, expected: &[&str]) {
        let sides = self.outcome["sides"].as_array().unwrap();
        let said: Vec<&str> = sides.iter().map(|it| it["integrity"].as_str().unwrap()).collect();
        assert_eq!(said, expected);
    }

    /// Everything but the JSON is made again from it.
    fn check_report(&self) {
        let folder: &Path = self.folder.path();
        let is_made = |path: &Path| path.extension().is_some_and(|it| it != "json");
        let files = || std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
        let made: Vec<PathBuf> = files().filter(|path| is_made(path)).collect();
        let before: Vec<String> =
            made.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
        assert!(made.len() > 1, "a page and a plot: {made:?}");
        made.iter().for_each(|path| std::fs::remove_file(path).unwrap());
        let status = bench().unwrap().arg("report").arg(folder).status().unwrap();
        assert!(status.success());
        for (path, before) in made.iter().zip(before) {
            assert_eq!(std::fs::read_to_string(path).unwrap(), before, "{}", path.display());
        }
    }
}

#[test]
fn no_side_loses_or_doubles_a_message_of_the_load_generator() {
    let words = ["broadcast", "--connections", "20", "--rounds", "3", "--peers", "axum-batched"];
    let Some(found) = found(&words) else { return };
    found.check(COST, &["shardcast", "bare loop", "axum-batched"]);
    found.check_integrity(&[NOTHING_WRONG; 3]);
}

#[test]
fn streams_of_one_http2_connection_over_tls_are_not_mixed_up() {
    let words = ["saturation", "--connections", "20", "--messages", "64"];
    let more = ["--wire", "sse-h2", "--tls", "--peers", "none"];
    let Some(found) = found(&[&words[..], &more].concat()) else { return };
    found.check(COST, &["shardcast"]);
    found.check_integrity(&[NOTHING_WRONG]);
}

#[test]
fn single_posts_are_all_accepted_under_both_acknowledgements() {
    let Some(found) = found(&["ingest-single", "--quick"]) else { return };
    found.check(RATE, &["shardcast", "shardcast durable"]);
    found.check_integrity(&["1000 requests answered 202; 1000 events accepted, 0 refused"; 2]);
    found.check_report();
}

#[test]
fn batches_are_all_accepted_and_held_against_their_goal() {
    let Some(found) = found(&["ingest-batch", "--quick", "--ids"]) else { return };
    found.check(RATE, &["shardcast", "shardcast durable"]);
    found.check_integrity(&["10 requests answered 202; 10000 events accepted, 0 refused"; 2]);
    let page = found.page();
    assert!(page.contains("events per CPU-second at least 700000 1/s: "), "{page}");
}

#[test]
fn who_cannot_take_part_in_ingest_is_named_and_the_others_are_compared() {
    let words = ["ingest-peers", "--quick", "--others", "h2,axum,nginx", "--nginx", "/nowhere"];
    let Some(found) = found(&words) else { return };
    found.check(RATE, &["shardcast", "h2", "axum"]);
    let page = found.page();
    assert!(page.contains("**nginx** did not take part: cannot start /nowhere"), "{page}");
    assert!(page.contains("at least 0.75 of h2: "), "{page}");
}

#[test]
fn a_restart_loses_no_message_and_no_client() {
    let Some(found) = found(&["resume", "--quick"]) else { return };
    found.check("recovered, p99", &["shardcast"]);
    assert_eq!(found.samples("messages lost or doubled, gaps admitted"), [[0.0; 2]]);
    assert_eq!(found.samples("clients that did not come back"), [[0.0; 2]]);
    assert!(found.page().contains("recovered, p99 at most 3 s: "), "{}", found.page());
}

#[test]
fn every_engine_carries_the_same_messages() {
    let Some(found) = found(&["engines", "--quick"]) else { return };
    found.check(COST, &["shardcast", "shardcast epoll", "monoio", "tokio-uring", "tokio"]);
    found.check_integrity(&[NOTHING_WRONG; 5]);
}

#[test]
fn a_message_reaches_every_process_behind_a_shared_port_once() {
    let Some(found) = found(&["size", "--quick"]) else { return };
    found.check("server CPU per delivery, 300 subscribers", &["shardcast", "bare loop"]);
    found.check_integrity(&[NOTHING_WRONG; 2]);
    let page = found.page();
    assert!(page.contains("300 subscribers: 2 server processes behind one port"), "{page}");
}

#[test]
fn a_calibration_is_one_that_the_planner_takes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("here.json");
    let Some(mut bench) = bench() else { return };
    let output =
        bench.args(["--quick", "--pairs", "2", "--calibrate"]).arg(&file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found = Calibration::parse(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert!(found.quick, "tiny sizes are marked as such");
    let median = |name: &str| {
        let row = found.spread.iter().find(|row| row.name == name);
        row.unwrap_or_else(|| panic!("no {name}: {:?}", found.spread)).median
    };
    // The counters tell sends from messages: this many were on their way at once.
    let each = median("messages in a send, 16 on their way");
    assert!((1.0..=16.5).contains(&each), "{each}");
    assert_eq!(median("CPU of a published event"), found.costs.ingest_us);
    assert!(found.ledger_bytes > 100.0 && found.tls_ledger_bytes > found.ledger_bytes, "{found:?}");
    let mut inputs = example("chat-1m").unwrap();
    inputs.server = Server::measured(&found);
    assert!(plan(&inputs).unwrap().servers > 0);
}

#[test]
fn a_calibration_and_a_scenario_are_not_mixed_up() {
    let Some(mut bench) = bench() else { return };
    let output = bench.args(["--calibrate", "x.json", "idle"]).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("leave the scenario out"));
}
