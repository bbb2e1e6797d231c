//! Clients that do nothing useful: half a request, garbage, silence. They must disturb nobody.

use super::net::Read;
use super::wire::{Scene, Wire};

const WORDS: [&[u8]; 6] = [
    b"",
    b"GET /v1/ss",
    b"POST /v1/events HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-ndjson\r\n\
      content-length: 100000\r\n\r\n{\"channel\":\"nobody\",",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
    b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
    STORED[0],
];

/// Questions about stored events. They are told apart by the time, so that the chances of a seed
/// fall as they did when there was only the first.
const STORED: [&[u8]; 3] = [
    b"GET /v1/history?channel=c0&limit=100000 HTTP/1.1\r\nhost: localhost\r\n\r\n",
    b"GET /v1/channels/c0/counts?bucket=1 HTTP/1.1\r\nhost: localhost\r\n\r\n",
    b"GET /v1/channels/c0/top?field=id&from=1970-01-01T00:00:00Z HTTP/1.1\r\nhost: localhost\r\n\r\n",
];

/// See the module.
#[derive(Debug, Default)]
pub struct Lurker {
    wire: Option<Wire>,
    until_ms: u64,
}

impl Lurker {
    /// Its turn.
    pub fn step(&mut self, scene: &mut Scene<'_>) {
        let Some(wire) = &mut self.wire else {
            if !scene.calm && scene.now_ms >= self.until_ms {
                self.wire = Wire::connect(scene);
                self.until_ms = scene.now_ms + scene.chance.size(40_000);
                let mut words = scene.chance.pick(&WORDS);
                if words == STORED[0] {
                    words = STORED[scene.now_ms as usize % STORED.len()];
                }
                if let Some(wire) = &mut self.wire {
                    wire.say(words);
                }
            }
            return;
        };
        wire.write(scene.net, scene.chance);
        let over = match wire.read(scene.net, scene.chance) {
            Read::Bytes(_) | Read::Nothing => scene.now_ms >= self.until_ms || scene.calm,
            Read::End | Read::Reset => true,
        };
        if over && let Some(wire) = self.wire.take() {
            wire.close(scene.net);
        }
    }
}
