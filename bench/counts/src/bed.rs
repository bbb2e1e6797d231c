//! A shard without sockets: bytes go in by hand, and what it would send comes out.

use bytes::Bytes;
use server::config::limits::Limits;
use server::config::namespace::Namespace;
use server::driver::ConnId;
use server::mesh::{Mesh, ShardId};
use server::shard::home::Home;
use server::shard::{Command, Now, Parts, Settings, Shard};
use std::sync::Arc;
use storage::StorageRing;

/// Batches that the ring takes: nobody empties it, and no program publishes so many times.
const RING_BATCHES: usize = 4_096;
/// Fixed: counts must not depend on it.
const SEED: u64 = 0x5eed;

/// See the module.
pub struct Bed {
    shard: Shard,
    now: Now,
    connections: u32,
}

impl Bed {
    /// A shard as a server with default settings has it.
    pub fn new() -> Self {
        let limits = Limits::default();
        let home = Home::fresh(&limits, SEED);
        let now = Now { ms: 1_000, wall_us: 1_700_000_000_000_000 };
        let parts = Parts {
            id: ShardId(0),
            settings: Arc::new(Settings::new([("default".into(), Namespace::default())], limits)),
            mesh: Mesh::new(1).end(ShardId(0)),
            home,
            ring: Arc::new(StorageRing::new(1, RING_BATCHES, 1 << 30)),
            store: None,
            seed: SEED,
            secrets: Box::new(|| 1),
        };
        let mut shard = Shard::new(parts, now);
        shard.set_ready(true);
        Self { shard, now, connections: 0 }
    }

    /// A connection that has said `bytes` and been answered; the answer.
    pub fn open(&mut self, bytes: &[u8]) -> (ConnId, Vec<u8>) {
        let conn = ConnId { slot: self.connections, generation: 0 };
        self.connections += 1;
        self.shard.begin(self.now);
        self.shard.accepted(conn, None);
        self.shard.received(conn, bytes);
        let mut answer = Vec::new();
        self.settle(|sent, bytes| {
            if sent == conn {
                answer.extend_from_slice(bytes);
            }
        });
        (conn, answer)
    }

    /// A subscription; the head of its answer is checked.
    pub fn subscribe(&mut self, path: &str) -> ConnId {
        let (fields, expected) = if path.starts_with("/v1/sse") {
            ("Accept: text/event-stream\r\n\r\n", "HTTP/1.1 200 ")
        } else {
            (UPGRADE, "HTTP/1.1 101 ")
        };
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{fields}");
        let (conn, answer) = self.open(request.as_bytes());
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with(expected), "{answer}");
        conn
    }

    /// Lets time pass.
    pub fn advance(&mut self, ms: u64) {
        self.now.ms += ms;
        self.now.wall_us += ms as i64 * 1_000;
    }

    /// When the shard wants to run at the latest, from now, milliseconds.
    pub fn wait_ms(&self) -> Option<u64> {
        self.shard.deadline_ms().map(|at| at.saturating_sub(self.now.ms))
    }

    /// One turn as the reactor runs it: what connections said in, what they are sent out. Turns go
    /// on until the shard has nothing left to do.
    pub fn turn(&mut self, said: &[(ConnId, &[u8])], mut sent: impl FnMut(ConnId, &Bytes)) {
        self.shard.begin(self.now);
        for (conn, bytes) in said {
            self.shard.received(*conn, bytes);
        }
        self.settle(&mut sent);
    }

    fn settle(&mut self, mut sent: impl FnMut(ConnId, &Bytes)) {
        loop {
            self.shard.run();
            self.shard.flush();
            let commands = self.shard.take_commands();
            for command in &commands {
                assert!(
                    matches!(command, Command::Arm(..)),
                    "a connection was not served as usual: {command:?}"
                );
            }
            self.shard.return_commands(commands);
            for send in self.shard.sends() {
                sent(send.conn, &send.bytes);
            }
            self.shard.take_wakes();
            if !self.shard.has_work() {
                return;
            }
            self.shard.begin(self.now);
        }
    }
}

const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A client's frame, masked as clients must.
pub fn client_frame(opcode: proto::ws::Opcode, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    proto::ws::write_frame_with(&mut frame, opcode, true, Some([7, 77, 177, 17]), payload);
    frame
}
