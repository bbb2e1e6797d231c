//! The benchmark as a person runs it, tiny: our server, the bare loop and axum, all built here.
//!
//! It needs the server's program beside the benchmark's own, as `cargo build --workspace` leaves
//! it; without it there is nothing to compare, which is said.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

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

/// Runs a scenario and reads what it wrote.
fn outcome(words: &[&str], folder: &Path) -> Option<Value> {
    let output = bench()?.args(words).arg("--out").arg(folder).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{words:?}: {said}");
    let json = std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
    let json = json.filter(|path| path.extension().is_some_and(|it| it == "json"));
    let json: Vec<PathBuf> = json.collect();
    assert_eq!(json.len(), 1, "{said}");
    Some(serde_json::from_slice(&std::fs::read(&json[0]).unwrap()).unwrap())
}

fn check(words: &[&str], sides: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let Some(outcome) = outcome(words, folder.path()) else { return };
    let found = outcome["sides"].as_array().unwrap();
    let names: Vec<&str> = found.iter().map(|side| side["name"].as_str().unwrap()).collect();
    assert_eq!(names, sides, "{outcome:#}");
    for side in found {
        assert_eq!(side["integrity"], "lost 0, out of order 0, doubled 0, closed 0", "{side:#}");
    }
    let cost = &outcome["measures"][0];
    assert_eq!(cost["name"], "server CPU per delivery");
    for samples in cost["samples"].as_array().unwrap() {
        let samples = samples.as_array().unwrap();
        assert_eq!(samples.len(), 2, "one a round");
        assert!(samples.iter().all(|cost| cost.as_f64().unwrap() > 0.0), "{cost:#}");
    }
    let page = std::fs::read_to_string(folder.path().join("README.md")).unwrap();
    assert!(sides.iter().all(|side| page.contains(&format!("| {side} |"))), "{page}");
}

#[test]
fn no_side_loses_or_doubles_a_message_of_the_load_generator() {
    let words = ["broadcast", "--connections", "20", "--pairs", "2", "--rounds", "3"];
    let sides = ["shardcast", "bare loop", "axum-batched"];
    check(&[&words[..], &["--peers", "axum-batched"]].concat(), &sides);
}

#[test]
fn streams_of_one_http2_connection_over_tls_are_not_mixed_up() {
    let words = ["saturation", "--connections", "20", "--pairs", "2", "--messages", "64"];
    let more = ["--wire", "sse-h2", "--tls", "--peers", "none"];
    check(&[&words[..], &more].concat(), &["shardcast"]);
}
