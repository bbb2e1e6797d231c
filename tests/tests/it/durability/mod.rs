//! What was acknowledged durable is there once, positions never name two events, and whoever
//! resumes gets exactly what was missed or is told: through kill -9, power cuts and full disks.

mod full;
pub mod load;

use crate::rig::disk::Disk;
use crate::rig::process::Plan;
use crate::rig::{Cell, until};
use load::Load;

/// Kills the server again and again under ingest.
fn a_killed_server_keeps_every_promise(cell: Cell) {
    let folder = tempfile::tempdir().expect("a folder");
    let plan = Plan::new(cell, folder.path()).set("spool.segment_bytes=1048576");
    let plan = plan.set("limits.message_bytes_max=100000").set("spool.checkpoint_bytes=1048576");
    let load = Load::start();
    for round in 0..ROUNDS {
        let server = plan.start();
        load.aim(Some(&server));
        let goal = load.acknowledged() + 300;
        until(&format!("acknowledgements in round {round}"), || load.acknowledged() >= goal);
        if round % 3 == 2 {
            // A clean stop between the others: the epoch stays, and so must everything else.
            server.terminate();
            let mut server = server;
            assert_eq!(server.wait().code(), Some(0), "{}", server.log());
        } else {
            server.kill();
        }
        load.aim(None);
    }
    let server = plan.start();
    load.aim(Some(&server));
    load.finish(&server);
}

/// Cuts the power of the disk again and again under ingest.
fn a_power_cut_loses_nothing_that_was_acknowledged(cell: Cell) {
    let disk = Disk::new(256);
    let plan = Plan::new(cell, disk.beside()).data_dir(&disk.path().join("data"));
    let plan = plan.set("spool.segment_bytes=1048576").set("limits.message_bytes_max=100000");
    let load = Load::start();
    for round in 0..3 {
        let server = plan.start();
        load.aim(Some(&server));
        let goal = load.acknowledged() + 200;
        until(&format!("acknowledgements in round {round}"), || load.acknowledged() >= goal);
        load.cut();
        disk.cut_power();
        // The process lives on without its disk, and must stop promising.
        until("durable publishes to be refused", || load.refused_since_aim() > 0);
        until("the server to be not ready", || server.get("/health/ready").status == 503);
        assert_eq!(server.get("/health/live").status, 200);
        load.aim(None);
        server.kill();
        disk.restore_power();
    }
    let server = plan.start();
    load.aim(Some(&server));
    load.finish(&server);
}

const ROUNDS: usize = 12;

cells!(a_killed_server_keeps_every_promise, a_power_cut_loses_nothing_that_was_acknowledged);
