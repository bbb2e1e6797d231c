//! Every stored event is in exactly one Parquet file, in a folder and in a bucket, whatever happens
//! on the way; and others read it.

mod faults;
mod files;
mod killed;
mod refused;

use crate::durability::load::history;
use crate::rig::child::{client, run};
use crate::rig::process::{Plan, Process};
use crate::rig::s3::{self, S3};
use crate::rig::{Cell, until};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// Where the files go.
enum Place {
    Folder(PathBuf),
    Bucket(S3),
}

impl Place {
    fn bucket() -> Self {
        let store = S3::start();
        store.create_bucket("cold");
        Self::Bucket(store)
    }

    /// A server that writes there, quickly.
    fn plan(&self, folder: &Path) -> Plan {
        match self {
            Self::Folder(path) => plan(folder, path.to_str().expect("UTF-8")),
            Self::Bucket(store) => s3_plan(folder, &store.url()),
        }
    }

    /// Every row, as one of the readers in `tests/clients` finds it.
    fn rows(&self, reader: &str) -> Vec<Value> {
        let mut command = client("parquet_read.py");
        command.arg(reader);
        match self {
            Self::Folder(path) => command.arg(path),
            Self::Bucket(store) => {
                command.args([BUCKET, &store.url(), s3::REGION, s3::ACCESS_KEY, s3::SECRET_KEY])
            }
        };
        let lines = run(&mut command);
        lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

const BUCKET: &str = "s3://cold/events";

fn plan(folder: &Path, location: &str) -> Plan {
    Plan::new(Cell::URING_2, folder)
        .set(&format!("storage.parquet.location={location}"))
        .set("storage.parquet.seal_s=1")
}

fn s3_plan(folder: &Path, endpoint: &str) -> Plan {
    let secret = folder.join("secret");
    fs::write(&secret, format!("{}\n", s3::SECRET_KEY)).expect("a file");
    plan(folder, BUCKET)
        .set(&format!("storage.parquet.endpoint={endpoint}"))
        .set(&format!("storage.parquet.region={}", s3::REGION))
        .set(&format!("storage.parquet.access_key={}", s3::ACCESS_KEY))
        .set(&format!("storage.parquet.secret_key_file={}", secret.display()))
        .set("storage.parquet.allow_http=true")
}

/// What the server says of the sink.
fn sink(server: &Process) -> Value {
    let status = server.get_admin("/admin/storage").json();
    let sinks = status["sinks"].as_array().expect("sinks");
    sinks.iter().find(|sink| sink["sink"] == "parquet").expect("the sink").clone()
}

/// Waits until everything that is in the spool is in files, and the cursor says so.
fn settled(server: &Process) {
    until("everything to be in files", || {
        let sink = sink(server);
        sink["behind"] == 0 && sink["cursor_seq"] == sink["confirmed_seq"]
    });
}

/// Waits until the sink is in a state; gives its error.
fn health(server: &Process, wanted: &str) -> String {
    until(&format!("the sink to be {wanted}"), || sink(server)["health"] == wanted);
    sink(server)["error"].as_str().unwrap_or_default().to_owned()
}

/// Publishes so many events to a channel, each with a number as id; they are synced.
fn publish(server: &Process, channel: &str, numbers: std::ops::Range<usize>) {
    let count = numbers.len();
    let lines: String = numbers.map(|n| format!("{{\"id\":\"{n}\",\"data\":{n}}}\n")).collect();
    let path = format!("/v1/channels/{channel}/events?ack=durable");
    let answer = server.post(&path, "application/x-ndjson", lines);
    assert_eq!((answer.status, &answer.json()["accepted"]), (202, &count.into()), "{answer:?}");
}

/// The files have each event of the spool in one row that says the same, and nothing else; each
/// file's rows belong to its hour.
fn same_as_history(server: &Process, rows: &[Value], channels: &[&str]) {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let mut kept = Vec::new();
    for channel in channels {
        for event in history(server, channel) {
            let (epoch, id) = (text(&event["epoch"]), text(&event["id"]));
            kept.push(format!("{channel} {epoch}:{} {id} {}", event["offset"], event["data"]));
        }
    }
    let mut stored: Vec<String> = rows
        .iter()
        .map(|row| {
            let (channel, id) = (text(&row["channel"]), text(&row["id"]));
            let epoch = row["epoch"].as_u64().expect("a number");
            let data = String::from_utf8(bytes(&text(&row["payload"]))).expect("UTF-8");
            format!("{channel} {epoch:016x}:{} {id} {data}", row["offset"])
        })
        .collect();
    kept.sort_unstable();
    stored.sort_unstable();
    let twice: Vec<_> = stored.windows(2).filter(|pair| pair[0] == pair[1]).take(3).collect();
    assert!(twice.is_empty(), "in the files twice: {twice:#?}");
    let other = kept.iter().zip(&stored).find(|(kept, stored)| kept != stored);
    assert_eq!(other, None, "in the spool, and in the files");
    assert_eq!(stored.len(), kept.len());
    for row in rows {
        let hours = row["received"].as_i64().expect("a number").div_euclid(3_600_000_000);
        let hour = format!("/hour={:02}/", hours % 24);
        assert!(text(&row["file"]).contains(&hour), "{row} in {hour}");
    }
}

/// What was written as hex.
fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("hex"));
    digits.map(|pair| u8::from_str_radix(pair, 16).expect("hex")).collect()
}

/// The paths of all files below a folder.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}
