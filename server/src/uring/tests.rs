//! What only this driver has: its ring's own limits. The rest is in `driver/tests.rs`.

use super::*;
use crate::driver::SendStop;
use crate::driver::engine::{Engine, EngineChoice, choose};
use crate::driver::tests::{Rig, pattern};
use std::io::{Read, Write};
use std::net::TcpStream;

const SIZES: DriverSizes = DriverSizes {
    connections: 512,
    receive_buffers: 64,
    receive_buffer_bytes: 256,
    receive_bytes_per_turn: 4096,
};

/// So many connections that receive, in both modes, over a completion queue that they overflow.
fn receiving(count: usize) -> (Rig<UringDriver>, Vec<TcpStream>, Vec<ConnId>) {
    let mut rig = Rig::new(UringDriver::with_queues(SIZES, 8, 16).unwrap());
    let (clients, conns) = rig.connect_many(count);
    for (index, &conn) in conns.iter().enumerate() {
        let mode = [ReceiveMode::Poll, ReceiveMode::Multishot][index % 2];
        rig.driver.arm_receive(conn, mode);
    }
    rig.turn();
    (rig, clients, conns)
}

#[test]
fn a_tiny_completion_queue_overflows_and_loses_nothing() {
    const COUNT: usize = 200;
    let (mut rig, mut clients, conns) = receiving(COUNT);
    for round in 0..3 {
        for client in &mut clients {
            client.write_all(&pattern(1000, round)).unwrap();
        }
        rig.until("all bytes", |rig| {
            conns.iter().all(|conn| {
                rig.received.get(conn).is_some_and(|all| all.len() == 1000 * (round + 1))
            })
        });
    }
    let wanted: Vec<u8> = (0..3).flat_map(|round| pattern(1000, round)).collect();
    assert!(rig.received.values().all(|all| *all == wanted));
    assert!(rig.driver.counters().cq_overflows > 0, "{:?}", rig.driver.counters());
}

#[test]
fn every_stop_of_a_turn_is_reported_by_the_next_even_from_an_overflow() {
    const COUNT: usize = 100;
    let driver = UringDriver::with_queues(SIZES, 8, 16).unwrap();
    let mut rig = Rig::new(driver);
    let (clients, conns) = rig.connect_many(COUNT);
    // Far more than two socket buffers: nobody reads, so all of them stop.
    let chunk = Bytes::from(pattern(64 << 20, 1));
    for &conn in &conns {
        rig.driver.send_now(conn, &chunk, 0);
    }
    rig.turn_for(Duration::ZERO);
    assert_eq!(rig.stopped.len(), COUNT);
    for &(_, sent, stop) in &rig.stopped {
        assert_eq!(stop, SendStop::Full);
        assert!(sent > 0 && (sent as usize) < chunk.len(), "{sent}");
    }
    assert!(rig.driver.counters().cq_overflows > 0);
    drop(clients);
}

#[test]
fn sends_ends_and_closes_that_overflow_the_queue_are_each_told_once() {
    const COUNT: usize = 150;
    let (mut rig, mut clients, conns) = receiving(COUNT);
    // More than a socket takes, so that every send waits in the kernel until its client reads.
    let chunk = Bytes::from(pattern(8 << 20, 1));
    for &conn in &conns {
        rig.driver.send_armed(conn, chunk.clone(), 0);
    }
    rig.turn_for(Duration::ZERO);
    let blocked = COUNT - rig.done.len();
    assert!(blocked > COUNT / 2, "{blocked}");
    let before = rig.driver.counters().cq_overflows;
    let readers: Vec<_> = clients
        .drain(..)
        .map(|mut client| {
            let chunk = chunk.clone();
            std::thread::spawn(move || {
                let mut part = vec![0; 1 << 16];
                for wanted in chunk.chunks(part.len()) {
                    client.read_exact(&mut part[..wanted.len()]).unwrap();
                    assert!(part[..wanted.len()] == *wanted);
                }
                client
            })
        })
        .collect();
    rig.until("every send", |rig| rig.done.len() == COUNT);
    for reader in readers {
        clients.push(reader.join().unwrap());
    }
    let mut told: Vec<_> = rig.done.drain(..).collect();
    told.sort();
    let mut wanted: Vec<_> = conns.iter().map(|&conn| (conn, Ok(()))).collect();
    wanted.sort();
    assert_eq!(told, wanted);
    assert!(chunk.is_unique(), "every reference came back");
    drop(clients);
    rig.until("every end", |rig| rig.ended.len() == COUNT);
    conns.iter().for_each(|&conn| rig.driver.close(conn));
    rig.until("every close", |rig| rig.closed.len() == COUNT);
    rig.closed.sort();
    let mut wanted = conns;
    wanted.sort();
    assert_eq!(rig.closed, wanted, "each once");
    assert!(rig.driver.counters().cq_overflows > before, "{:?}", rig.driver.counters());
}

#[test]
fn a_refusing_seccomp_profile_leads_to_epoll_with_the_remedy() {
    let refused_with = |errno: i32| {
        // The filter binds the thread that installs it, which ends here.
        let choice = std::thread::spawn(move || {
            refuse_io_uring(errno);
            (choose(EngineChoice::Auto, &SIZES), choose(EngineChoice::Uring, &SIZES))
        });
        let (auto, explicit) = choice.join().unwrap();
        let (engine, why) = auto.unwrap();
        assert_eq!(engine, Engine::Epoll);
        assert_eq!(why.as_ref(), explicit.as_ref().err());
        why.unwrap().to_string()
    };
    let docker = refused_with(libc::EPERM);
    assert!(docker.contains("seccomp profile"), "{docker}");
    let other = refused_with(libc::ENOSYS);
    assert!(other.contains("Linux 6.1"), "{other}");
    let starved = refused_with(libc::ENOMEM);
    assert!(starved.contains("LimitMEMLOCK"), "{starved}");
    assert_eq!(choose(EngineChoice::Auto, &SIZES), Ok((Engine::Uring, None)), "allowed here");
}

/// What Docker's default profile does: `io_uring_setup` fails, everything else is allowed.
fn refuse_io_uring(errno: i32) {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let mut filter = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        libc::sock_filter {
            jf: 1,
            ..statement(
                libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
                libc::SYS_io_uring_setup as u32,
            )
        },
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno as u32),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the kernel copies the program, which lives through the call.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program), 0);
    }
}

#[test]
fn a_slot_stays_small() {
    assert!(size_of::<Option<Conn>>() + size_of::<u32>() <= 44, "{}", size_of::<Conn>());
}
