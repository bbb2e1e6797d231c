//! Idle connections: timers fire, pings go out, pongs come back, nothing else happens.

use crate::bed::{Bed, client_frame};
use crate::measured;
use proto::ws::Opcode;

const CONNECTIONS: usize = 1_000;
const ROUNDS: usize = 4;

/// Every connection is pinged and answers, a few times.
pub fn run() -> u64 {
    let mut bed = Bed::new();
    for _ in 0..CONNECTIONS {
        bed.subscribe("/v1/channels/c/ws");
        // They came one after the other, so their timers do not all fall into one tick.
        bed.advance(3);
    }
    let pong = client_frame(Opcode::Pong, b"");
    let mut beats = 0;
    while beats < CONNECTIONS * ROUNDS {
        let wait_ms = bed.wait_ms().expect("a heartbeat is always ahead");
        bed.advance(wait_ms.max(1));
        measured(|| {
            let mut pinged = Vec::new();
            bed.turn(&[], |conn, bytes| {
                assert!(bytes[0] == 0x89, "a ping: {bytes:?}");
                pinged.push(conn);
            });
            let said: Vec<_> = pinged.iter().map(|conn| (*conn, pong.as_slice())).collect();
            bed.turn(&said, |_, bytes| panic!("nothing answers a pong: {bytes:?}"));
            beats += pinged.len();
        });
    }
    beats as u64
}
