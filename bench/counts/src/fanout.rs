//! Publish, order, encode, outbox, flush: everything between a publisher's bytes and the sends.

use crate::bed::{Bed, client_frame};
use crate::measured;
use proto::ws::Opcode;

/// Raw frames of one channel.
pub const WS: &str = "/v1/channels/c/ws";
/// Envelopes of one channel.
pub const ENVELOPE: &str = "/v1/channels/c/ws?format=envelope";
/// The same channel as server-sent events.
pub const SSE: &str = "/v1/sse?channel=c";

const SUBSCRIBERS: usize = 1_000;
const ROOMS: usize = 50;
const ROOM_TURNS: usize = 50;
const PUBLISHES: usize = 200;
const PAYLOAD_BYTES: usize = 128;

/// One channel with all subscribers, so many turns with so many publishes each.
pub fn channel(path: &str, turns: usize, publishes: usize) -> u64 {
    let mut bed = Bed::new();
    let publisher = bed.subscribe(WS);
    for _ in 0..SUBSCRIBERS {
        bed.subscribe(path);
    }
    let payload = "x".repeat(PAYLOAD_BYTES);
    let said = client_frame(Opcode::Text, payload.as_bytes()).repeat(publishes);
    let least = publishes * payload.len();
    let mut sends = 0;
    for _ in 0..turns {
        bed.advance(1);
        measured(|| {
            bed.turn(&[(publisher, &said)], |_, bytes| {
                assert!(bytes.len() > least);
                sends += 1;
            });
        });
    }
    // The publisher gets its own.
    assert_eq!(sends, turns * (SUBSCRIBERS + 1), "one send per subscriber and turn");
    (sends * publishes) as u64
}

/// A publish to each of many rooms in one request, as a service sends it.
pub fn rooms() -> u64 {
    let mut bed = Bed::new();
    let per_room = SUBSCRIBERS / ROOMS;
    for room in 0..ROOMS {
        for _ in 0..per_room {
            bed.subscribe(&format!("/v1/channels/room{room}/ws"));
        }
    }
    let payload = "x".repeat(PAYLOAD_BYTES);
    let line = |room| format!("{{\"channel\":\"room{room}\",\"data\":\"{payload}\"}}\n");
    let body: String = (0..ROOMS).map(line).collect();
    let request = format!(
        "POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let (publisher, answer) = bed.open(request.as_bytes());
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    let mut sends = 0;
    for _ in 0..ROOM_TURNS {
        bed.advance(1);
        measured(|| {
            bed.turn(&[(publisher, request.as_bytes())], |conn, bytes| {
                assert!(bytes.len() > PAYLOAD_BYTES);
                sends += usize::from(conn != publisher);
            });
        });
    }
    assert_eq!(sends, ROOM_TURNS * SUBSCRIBERS);
    sends as u64
}

/// A publish that nobody but its publisher hears: what does not grow with subscribers.
pub fn publish() -> u64 {
    let mut bed = Bed::new();
    let publisher = bed.subscribe(WS);
    let said = client_frame(Opcode::Text, "x".repeat(PAYLOAD_BYTES).as_bytes());
    let mut sends = 0;
    for _ in 0..PUBLISHES {
        bed.advance(1);
        measured(|| bed.turn(&[(publisher, &said)], |_, _| sends += 1));
    }
    assert_eq!(sends, PUBLISHES);
    sends as u64
}
