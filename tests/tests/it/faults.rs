//! What the machine does to a shard: its system calls fail, and the process ends in order.

use crate::rig::process::{Plan, Process};
use crate::rig::ws::Socket;
use crate::rig::{Cell, until};
use std::process::{Child, Command, Stdio};

/// Makes the calls with which a shard waits fail from now on, as a broken ring would.
fn break_driver(server: &Process, shard: u32) -> Child {
    let tasks = format!("/proc/{}/task", server.id());
    let task = std::fs::read_dir(tasks).expect("it runs").flatten().find(|task| {
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        name.trim() == format!("shard-{shard}")
    });
    let task = task.expect("a thread for each shard").file_name();
    let mut strace = Command::new("strace");
    strace.args(["-q", "-o", "/dev/null", "-p"]).arg(task);
    strace.args(["-e", "inject=io_uring_enter,epoll_wait,epoll_pwait:error=ENXIO"]);
    strace.stdin(Stdio::null()).spawn().expect("strace, which `cargo xtask test` installs")
}

fn a_dead_shard_ends_the_process_in_order(cell: Cell) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Process::start(cell, folder.path());
    let mut sockets: Vec<_> =
        (0..32).map(|_| Socket::open(server.address, "/v1/channels/f/ws")).collect();
    until("the subscriptions", || server.metric("shardcast_subscriptions") >= 32.0);
    let answer = server.post("/v1/channels/f/events?ack=durable", "text/plain", "kept");
    assert_eq!(answer.status, 202, "{answer:?}");
    for socket in &mut sockets {
        assert_eq!(socket.next_text(), "kept");
    }
    let mut strace = break_driver(&server, 0);
    assert_eq!(server.wait().code(), Some(70), "{}", server.log());
    strace.wait().expect("a child of ours");
    let log = server.log();
    assert!(log.contains("a shard died") && log.contains("No such device"), "{log}");
    // Who was on another shard hears why; the others see the end of their connection.
    let told = sockets.into_iter().filter_map(|mut socket| {
        let rest = socket.wire.rest();
        (rest.first() == Some(&0x88)).then(|| String::from_utf8_lossy(&rest[4..]).into_owned())
    });
    let told: Vec<String> = told.collect();
    assert_eq!(told.is_empty(), cell.shards == 1, "{told:?}");
    assert!(told.iter().all(|reason| reason.starts_with("shutdown; position=")), "{told:?}");
    // What was acknowledged is there.
    let server = Plan::new(cell, folder.path()).start();
    let stored = server.get("/v1/history?channel=f&from=1").json();
    assert_eq!(stored["events"][0]["data"], "kept", "{stored}");
}

cells!(a_dead_shard_ends_the_process_in_order);
