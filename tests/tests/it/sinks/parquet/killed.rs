//! Kills, lost answers and power cuts under ingest: every event is in one file in the end.

use super::{Place, files_below, health, publish, s3_plan, same_as_history, settled, sink};
use crate::durability::load::Load;
use crate::rig::disk::Disk;
use crate::rig::fault_proxy::{FaultProxy, Mode};
use crate::rig::until;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const CHANNELS: [&str; 2] = ["log:a", "log:b"];

fn killed_six_times(place: &Place) {
    let folder = tempfile::tempdir().expect("a folder");
    let plan = place.plan(folder.path()).set("spool.segment_bytes=1048576");
    let plan =
        plan.set("limits.message_bytes_max=100000").set("storage.parquet.file_bytes=1048576");
    let load = Load::start();
    for round in 0..6 {
        let server = plan.start();
        load.aim(Some(&server));
        // At another point each time: before the first file, while one is written, after some.
        if round % 2 == 1 {
            until("a file", || sink(&server)["batches"].as_u64() > Some(round / 2));
        }
        let goal = load.acknowledged() + 200 + round as usize * 370 % 600;
        until("acknowledgements", || load.acknowledged() >= goal);
        server.kill();
        load.aim(None);
    }
    let server = plan.start();
    load.aim(Some(&server));
    load.finish(&server);
    settled(&server);
    same_as_history(&server, &place.rows("pyarrow"), &CHANNELS);
}

#[test]
fn a_server_killed_six_times_has_everything_in_a_folder_once() {
    let folder = tempfile::tempdir().expect("a folder");
    killed_six_times(&Place::Folder(folder.path().join("cold")));
}

#[test]
fn a_server_killed_six_times_has_everything_in_a_bucket_once() {
    killed_six_times(&Place::bucket());
}

#[test]
fn a_put_whose_answer_is_lost_is_found_by_the_next_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = Place::bucket();
    let Place::Bucket(store) = &place else { unreachable!() };
    let proxy = FaultProxy::start(store.address());
    let plan = s3_plan(folder.path(), &proxy.url());
    let server = plan.start();
    health(&server, "healthy");
    proxy.set(Mode::DropAnswer);
    publish(&server, "a", 0..100);
    health(&server, "retrying");
    assert_eq!(store.list("cold", "").len(), 1, "it is there, and nobody heard of it");
    server.kill();
    proxy.set(Mode::Pass);
    let server = plan.start();
    publish(&server, "a", 100..200);
    settled(&server);
    same_as_history(&server, &place.rows("pyarrow"), &["a"]);
}

/// The files below a folder that are in place, with what they hold.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = files_below(folder).into_iter();
    let files = files.map(|path| (path.to_str().expect("UTF-8").to_owned(), path));
    let whole = files.filter(|(name, _)| name.ends_with(".parquet"));
    whole.map(|(name, path)| (name, fs::read(path).expect("a file"))).collect()
}

/// Where a file's events end, as its name says.
fn end_seq(name: &str) -> u64 {
    let end = name.trim_end_matches(".parquet").rsplit('-').next();
    end.expect("a number").parse().expect("a number")
}

#[test]
fn a_power_cut_leaves_every_confirmed_file_whole() {
    let disk = Disk::new(256);
    let cold = disk.path().join("cold");
    let place = Place::Folder(cold.clone());
    let plan = place.plan(disk.beside()).data_dir(&disk.path().join("data"));
    let plan = plan.set("spool.segment_bytes=1048576").set("limits.message_bytes_max=100000");
    let load = Load::start();
    for round in 0..3 {
        let server = plan.start();
        load.aim(Some(&server));
        let goal = load.acknowledged() + 200;
        until("acknowledgements", || load.acknowledged() >= goal);
        until("files", || sink(&server)["batches"].as_u64() > Some(round));
        let (mut confirmed, mut before) = (0, BTreeMap::new());
        until("a confirmed file", || {
            // Confirmed is what was confirmed before anybody looked for the files.
            confirmed = sink(&server)["confirmed_seq"].as_u64().expect("a number");
            before = contents(&cold);
            before.keys().any(|name| end_seq(name) <= confirmed)
        });
        load.cut();
        disk.cut_power();
        until("durable publishes to be refused", || load.refused_since_aim() > 0);
        load.aim(None);
        server.kill();
        disk.restore_power();
        let after = contents(&cold);
        let mut kept = 0;
        for (name, content) in &before {
            if end_seq(name) <= confirmed {
                assert!(after.get(name) == Some(content), "{name} was confirmed");
                kept += 1;
            }
        }
        assert!(kept > 0, "{:?}", before.keys());
        place.rows("pyarrow"); // every file under its name is whole
    }
    let server = plan.start();
    load.aim(Some(&server));
    load.finish(&server);
    settled(&server);
    same_as_history(&server, &place.rows("pyarrow"), &CHANNELS);
}
