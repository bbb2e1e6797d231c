//! What only this driver has: its ring's own limits. The rest is in `driver/tests.rs`.

use super::*;
use crate::driver::SendStop;
use crate::driver::tests::{Rig, pattern};
use std::io::Write;

const SIZES: DriverSizes = DriverSizes {
    connections: 512,
    receive_buffers: 64,
    receive_buffer_bytes: 256,
    receive_bytes_per_turn: 4096,
};

#[test]
fn a_tiny_completion_queue_overflows_and_loses_nothing() {
    const COUNT: usize = 200;
    let driver = UringDriver::with_queues(SIZES, 8, 16).unwrap();
    let mut rig = Rig::new(driver);
    let (mut clients, conns) = rig.connect_many(COUNT);
    for (index, &conn) in conns.iter().enumerate() {
        let mode = [ReceiveMode::Poll, ReceiveMode::Multishot][index % 2];
        rig.driver.arm_receive(conn, mode);
    }
    rig.turn();
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
fn a_slot_stays_small() {
    assert!(size_of::<Option<Conn>>() + size_of::<u32>() <= 48, "{}", size_of::<Conn>());
}
