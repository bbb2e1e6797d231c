//! A disk that fills up: refused before an offset is given, everything else goes on, and it heals.

use super::load::history;
use crate::rig::disk::Disk;
use crate::rig::process::Plan;
use crate::rig::ws::Socket;
use crate::rig::{Cell, Process, until};
use serde_json::{Value, json};
use std::fs::{self, File};

fn a_full_disk_refuses_before_an_offset_and_heals(cell: Cell) {
    let disk = Disk::new(96);
    let plan = Plan::new(cell, disk.beside()).data_dir(&disk.path().join("data"));
    let plan = plan.set("spool.segment_bytes=2097152").set("namespaces.live.store=false");
    let server = plan.start();
    let filler = disk.path().join("filler");
    let file = File::create(&filler).expect("a file");
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, 64 << 20).expect("room");
    let mut follower = Socket::open(server.address, "/v1/channels/full/ws?format=envelope");
    let start: Value = serde_json::from_str(&follower.next_text()).expect("JSON");
    assert_eq!(start["shardcast"], "subscribed");
    let mut live = Socket::open(server.address, "/v1/channels/live:a/ws");

    let mut accepted = 0;
    until("the disk to be full", || {
        let (taken, status) = publish(&server);
        // It follows live, up to the last event that was accepted.
        for offset in accepted + 1..=accepted + taken {
            let event: Value = serde_json::from_str(&follower.next_text()).expect("JSON");
            assert_eq!(event["offset"], json!(offset));
        }
        accepted += taken;
        status == 503
    });
    assert_eq!(server.get("/health/live").status, 200);
    assert_eq!(server.get("/v1/channels/full/last").json()["offset"], json!(accepted));
    assert_eq!(server.metric("shardcast_spool_refusing"), 1.0);
    assert_eq!(server.post("/v1/channels/live:a/events", "text/plain", "on").status, 202);
    assert_eq!(live.next_text(), "on");
    let resumed = Socket::open(server.address, "/v1/channels/full/ws?format=envelope&since=x");
    drop(resumed);

    fs::remove_file(&filler).expect("the filler goes");
    drop(file);
    until("the server to take events again", || {
        let (taken, status) = publish(&server);
        accepted += taken;
        status == 202
    });
    let durable = server.post("/v1/channels/full/events?ack=durable", "text/plain", "end");
    assert_eq!(durable.status, 202, "{durable:?}");
    accepted += 1;
    let stored = history(&server, "full");
    assert_eq!(stored.len() as u64, accepted, "what was accepted is stored, nothing else");
    for (index, event) in stored.iter().enumerate() {
        assert_eq!(event["offset"], json!(index + 1), "refused publishes took no offset");
    }
    // And after a kill all of it is still there.
    server.kill();
    let server = plan.start();
    assert_eq!(history(&server, "full").len() as u64, accepted);
}

/// The disk neither fails nor goes on: whoever wants it hears so, and what is not stored goes on.
fn a_disk_that_hangs_is_told_and_holds_up_nobody_else(cell: Cell) {
    let disk = Disk::new(256);
    let plan = Plan::new(cell, disk.beside()).data_dir(&disk.path().join("data"));
    let plan = plan.set("limits.publish_wait_s=1").set("namespaces.live.store=false");
    let server = plan.start();
    let frozen = disk.freeze();
    let mut accepted = 0;
    until("storage to be out of room", || {
        let body = format!("{{\"data\":\"{}\"}}\n", "x".repeat(40_000)).repeat(100);
        let answer = server.post("/v1/channels/full/events", "application/x-ndjson", &body);
        accepted += answer.json()["accepted"].as_u64().expect("a count");
        answer.status == 503
    });
    assert_eq!(server.post("/v1/channels/live:a/events", "text/plain", "on").status, 202);
    assert_eq!(server.post("/v1/channels/full/events", "text/plain", "no").status, 503);
    drop(frozen);
    until("the server to take events again", || {
        server.post("/v1/channels/full/events?ack=durable", "text/plain", "end").status == 202
    });
    let top = server.get("/v1/channels/full/last").json()["offset"].clone();
    assert_eq!(top, json!(accepted + 1), "what was refused took no offset");
}

/// Publishes a batch; gives how many were accepted, and the status.
fn publish(server: &Process) -> (u64, u16) {
    let body = format!("{{\"data\":\"{}\"}}\n", "x".repeat(4_000)).repeat(100);
    let answer = server.post("/v1/channels/full/events", "application/x-ndjson", &body);
    let told = answer.json();
    if answer.status == 503 {
        assert_eq!(told["accepted"], json!(0), "{told}");
        assert_eq!(told["rejections"][0]["code"], json!("unavailable"), "{told}");
        assert!(!answer.header("retry-after").is_empty(), "{answer:?}");
    }
    (told["accepted"].as_u64().expect("a count"), answer.status)
}

cells!(
    a_disk_that_hangs_is_told_and_holds_up_nobody_else,
    a_full_disk_refuses_before_an_offset_and_heals,
);
