//! Publishing over HTTP/2, one event a request: the frames are written by hand, so that no client
//! is needed and the same bytes come every time.

use crate::bed::Bed;
use crate::measured;

const REQUESTS: u32 = 200;
const BODY: &[u8] = b"{\"channel\":\"c\",\"type\":\"order\",\"data\":{\"order_id\":7919,\
    \"items\":[{\"sku\":\"A-1001\",\"quantity\":2,\"price\":19.95}],\"total\":39.9,\
    \"currency\":\"EUR\",\"paid\":true,\"note\":null}}";

/// One request a turn on one connection; nobody subscribes.
pub fn publish() -> u64 {
    let mut bed = Bed::new();
    let mut preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    frame(&mut preface, SETTINGS, 0, 0, b"");
    let (client, answer) = bed.open(&preface);
    assert_eq!(answer.get(3), Some(&SETTINGS), "{answer:?}");
    let mut acknowledgement = Vec::new();
    frame(&mut acknowledgement, SETTINGS, ACK, 0, b"");
    bed.turn(&[(client, &acknowledgement)], |_, _| {});
    let mut accepted = 0;
    for request in 0..REQUESTS {
        let stream = 2 * request + 1;
        let mut said = Vec::new();
        frame(&mut said, HEADERS, END_HEADERS, stream, &head());
        frame(&mut said, DATA, END_STREAM, stream, BODY);
        bed.advance(1);
        measured(|| {
            bed.turn(&[(client, &said)], |_, bytes| {
                accepted += answers(bytes);
            });
        });
    }
    assert_eq!(accepted, REQUESTS);
    u64::from(REQUESTS)
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// HPACK: `:method: POST` and `:scheme: http` of the static table, the rest as plain literals that
/// nobody has to remember (RFC 7541, section 6.2.2).
fn head() -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    let mut literal = |index: &[u8], value: &str| {
        block.extend_from_slice(index);
        block.push(value.len() as u8);
        block.extend_from_slice(value.as_bytes());
    };
    literal(&[0x04], "/v1/events");
    literal(&[0x01], "localhost");
    // 31, content-type: 15 in the prefix and 16 behind it.
    literal(&[0x0f, 0x10], "application/json");
    block
}

/// Answers in a run of frames: heads whose first field is `:status`, 202 as a literal with the
/// name of the static table.
fn answers(mut bytes: &[u8]) -> u32 {
    let mut found = 0;
    while let [a, b, c, kind, _, _, _, _, _, rest @ ..] = bytes {
        let len = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        if *kind == HEADERS {
            found += 1;
            // The first is sent in full, the others by their place in the dynamic table.
            assert!(matches!(rest.first(), Some(0x48 | 0xbe..=0xff)), "{:?}", &rest[..len]);
        }
        bytes = &rest[len..];
    }
    found
}
