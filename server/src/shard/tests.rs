//! A shard without sockets, and lanes that the test fills: what turns take, copy and keep.

use super::*;
use crate::config::limits::Limits;
use crate::config::namespace::{Namespace, OutboxPolicy};
use crate::mesh::{self, Continuity, Deliver, Mesh, PublishBatch, home_of};
use proto::event::{Draft, Event};
use proto::position::{Epoch, Position};
use std::collections::{BTreeMap, HashSet};

struct Bed {
    shard: Shard,
    now: Now,
    /// The other ends of the lanes, by shard.
    ends: Vec<MeshEnd>,
    /// Everything sent to a slot.
    heard: BTreeMap<u32, Vec<u8>>,
    armed: Vec<(ConnId, Bytes)>,
}

impl Bed {
    fn new(shards: u16, set: impl FnOnce(&mut Settings)) -> Self {
        let dropping =
            Namespace { outbox_policy: OutboxPolicy::DropOldest, ..Namespace::default() };
        let namespaces = [("default", Namespace::default()), ("drop", dropping)];
        let namespaces = namespaces.map(|(name, namespace)| (name.to_owned(), namespace));
        let limits = Limits::default();
        let home = Home::fresh(&limits, 1);
        let mut settings = Settings::new(namespaces, limits);
        set(&mut settings);
        let mesh = Mesh::new(usize::from(shards));
        let parts = Parts {
            id: ShardId(0),
            settings: Arc::new(settings),
            mesh: mesh.end(ShardId(0)),
            home,
            ring: Arc::new(StorageRing::new(shards, 4, 1 << 20)),
            store: None,
            seed: 1,
            secrets: Box::new(|| 1),
        };
        let now = Now { ms: 1_000, wall_us: 1_000_000_000_000_000 };
        let mut shard = Shard::new(parts, now);
        shard.set_ready(true);
        let ends = (0..shards).map(|shard| mesh.end(ShardId(shard))).collect();
        Self { shard, now, ends, heard: BTreeMap::new(), armed: Vec::new() }
    }

    fn conn(slot: u32) -> ConnId {
        ConnId { slot, generation: 0 }
    }

    /// A turn in which nothing comes; every send is taken whole.
    fn turn(&mut self) {
        self.shard.begin(self.now);
        self.shard.run();
        self.shard.flush();
        for command in self.shard.take_commands() {
            if let Command::SendArmed(conn, bytes) = command {
                self.armed.push((conn, bytes));
            }
        }
        for send in self.shard.sends() {
            self.heard.entry(send.conn.slot).or_default().extend_from_slice(&send.bytes);
        }
    }

    /// A connection asks for this and gets its answer.
    fn open(&mut self, slot: u32, path: &str) {
        let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let fields = if path.contains("/sse") { "" } else { upgrade };
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
        self.shard.begin(self.now);
        self.shard.accepted(Self::conn(slot), None);
        self.shard.received(Self::conn(slot), request.as_bytes());
        for _ in 0..4 {
            self.turn();
            self.answer_joins();
        }
        let heard = String::from_utf8_lossy(&self.heard.remove(&slot).unwrap()).into_owned();
        assert!(heard.starts_with("HTTP/1.1 101") || heard.starts_with("HTTP/1.1 200"), "{heard}");
    }

    /// What the other shards say to joins: live from the beginning.
    fn answer_joins(&mut self) {
        for end in &mut self.ends[1..] {
            while let Some(ask) = end.next_ask(ShardId(0)) {
                let Ask::Join { channel, token, .. } = ask else { continue };
                let top = Position { epoch: Epoch(1), offset: 0 };
                let (continuity, events, more) = (Continuity::Live, Vec::new(), false);
                let joined = Deliver::Joined { channel, token, top, continuity, events, more };
                end.deliver(ShardId(0), joined);
            }
        }
    }

    /// Puts events on the lane of their home shard.
    fn deliver(&mut self, events: Vec<Event>) {
        let home = home_of(events[0].channel(), self.ends.len());
        self.ends[home.index()].deliver(ShardId(0), Deliver::Events(events));
    }
}

fn event(channel: &str, offset: u64, data: &[u8]) -> Event {
    let draft = Draft { channel, data, ..Draft::default() };
    draft.build().unwrap().place(Position { epoch: Epoch(1), offset }, 0)
}

/// A channel whose home is that shard of two.
fn channel_of(home: u16) -> String {
    let names = (0..).map(|at| format!("c{at}"));
    names.into_iter().find(|name| home_of(name, 2) == ShardId(home)).unwrap()
}

#[test]
fn a_home_shard_that_always_has_more_does_not_keep_out_the_others() {
    for flooding in [0, 1] {
        let mut bed = Bed::new(2, |_| {});
        let (flood, calm) = (channel_of(flooding), channel_of(1 - flooding));
        bed.open(0, &format!("/v1/channels/{flood}/ws"));
        bed.open(1, &format!("/v1/channels/{calm}/ws"));
        bed.deliver(vec![event(&calm, 1, b"here")]);
        let (data, mut offset) = (vec![b'x'; 1 << 20], 0);
        let mut turns = 0;
        while !bed.heard.contains_key(&1) {
            // More than one turn encodes is always there.
            while bed.ends[usize::from(flooding)].deliver_room(ShardId(0)) > 216 {
                offset += 1;
                bed.deliver(vec![event(&flood, offset, &data)]);
            }
            bed.turn();
            bed.heard.remove(&0);
            turns += 1;
            assert!(turns < 4, "shard {flooding} keeps out the other");
        }
    }
}

#[test]
fn what_a_turn_copies_is_bounded_and_everybody_gets_everything_in_order() {
    const BYTES: usize = 10_000;
    for path in ["/v1/ws", "/v1/sse"] {
        let mut bed = Bed::new(1, |settings| settings.frame_bytes_max = 100_000);
        let rooms: Vec<String> = (0..8).map(|room| format!("r{room}")).collect();
        let mut pairs = Vec::new();
        for first in 0..8 {
            pairs.extend((first + 1..8).map(|second| (first, second)));
        }
        for (slot, (one, other)) in pairs.iter().enumerate() {
            bed.open(slot as u32, &format!("{path}?channel=r{one}&channel=r{other}"));
        }
        for offset in 1..=3 {
            for room in &rooms {
                let mut data = vec![b'x'; BYTES];
                let label = format!("<{room} {offset}>");
                data[..label.len()].copy_from_slice(label.as_bytes());
                bed.deliver(vec![event(room, offset, &data)]);
            }
        }
        for _ in 0..40 {
            bed.turn();
            let buffers: HashSet<*const u8> =
                bed.shard.sends().iter().map(|send| send.bytes.as_ptr()).collect();
            let each = 6 * (BYTES + BYTES / 10);
            assert!(buffers.len() * each < 100_000 + 2 * each, "{} copies", buffers.len());
        }
        for (slot, (one, other)) in pairs.iter().enumerate() {
            let heard = bed.heard.remove(&(slot as u32)).unwrap();
            let heard = String::from_utf8_lossy(&heard);
            for room in [one, other] {
                let at = |offset| heard.find(&format!("<r{room} {offset}>"));
                assert!(at(1).is_some() && at(1) < at(2) && at(2) < at(3), "{slot}");
            }
            assert_eq!(heard.matches("<r").count(), 6, "{slot}: something came twice");
        }
        assert!(!bed.shard.has_work());
    }
}

/// Blocks a slot's socket, and gives it more than its budget, in events of these channels.
fn overwhelm(bed: &mut Bed, slot: u32, channels: &[&str]) {
    let mut offsets = BTreeMap::new();
    for round in 0..30 {
        for channel in channels {
            let offset = offsets.entry(*channel).or_insert(0);
            *offset += 1;
            bed.deliver(vec![event(channel, *offset, &[b'x'; 1_000])]);
        }
        bed.turn();
        if round == 0 {
            bed.shard.begin(bed.now);
            bed.shard.send_stopped(Bed::conn(slot), 10, SendStop::Full);
        }
    }
}

#[test]
fn with_several_channels_the_strictest_policy_decides() {
    for (channels, closes) in
        [(["a", "drop:a"], true), (["drop:a", "a"], true), (["drop:a", "drop:b"], false)]
    {
        let mut bed = Bed::new(1, |settings| settings.limits.outbox_bytes_max = 20_000);
        bed.open(0, &format!("/v1/ws?channel={}&channel={}", channels[0], channels[1]));
        overwhelm(&mut bed, 0, &channels);
        let connection = bed.shard.connections.slot(0).unwrap();
        let reason = connection.closing;
        assert_eq!(reason, closes.then_some(CloseReason::Slow), "{channels:?}");
        assert_eq!(connection.dropped_events > 0, !closes, "{channels:?}");
    }
}

#[test]
fn who_reads_slowly_and_is_sent_away_gets_what_waits_and_the_last_word() {
    let mut bed = Bed::new(1, |settings| settings.limits.outbox_bytes_max = 10_000);
    bed.open(0, "/v1/channels/a/ws");
    bed.deliver(vec![event("a", 1, &[b'x'; 1_000])]);
    bed.turn();
    bed.shard.begin(bed.now);
    bed.shard.send_stopped(Bed::conn(0), 1_004, SendStop::Full);
    let room = |bed: &mut Bed| {
        let outbox = &bed.shard.connections.slot(0).unwrap().outbox;
        10_000 - outbox.backlog.as_ref().unwrap().bytes()
    };
    bed.turn();
    bed.heard.clear();
    // As much as may wait, to the byte.
    let mut offset = 1;
    while room(&mut bed) > 1_004 {
        offset += 1;
        bed.deliver(vec![event("a", offset, &[b'y'; 1_000])]);
        bed.turn();
    }
    offset += 1;
    let last = vec![b'z'; room(&mut bed) - 4];
    bed.deliver(vec![event("a", offset, &last)]);
    bed.turn();
    assert_eq!(room(&mut bed), 0);
    bed.shard.start_drain(10);
    bed.now.ms += 1_000;
    bed.turn();
    // Now it reads.
    while let Some((conn, bytes)) = bed.armed.pop() {
        bed.heard.entry(conn.slot).or_default().extend_from_slice(&bytes);
        bed.shard.begin(bed.now);
        bed.shard.send_armed_done(conn, Ok(()));
        bed.turn();
    }
    let heard = bed.heard.remove(&0).unwrap();
    assert!(heard.ends_with(format!("position={}:{offset}", Epoch(1)).as_bytes()), "the last word");
}

/// An HTTP/2 frame with the bits that end a request's head.
fn h2_frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

#[test]
fn streams_that_are_not_read_count_against_the_pool_of_all_outboxes() {
    let mut bed = Bed::new(2, |settings| settings.outbox_pool_bytes = 50_000);
    let channel = channel_of(1);
    let (path, host) = (format!("/v1/sse?channel={channel}"), "localhost");
    // A window of nothing, then one event stream.
    let window = h2_frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]);
    let path = [&[0x04, path.len() as u8], path.as_bytes()].concat();
    let host = [&[0x01, host.len() as u8], host.as_bytes()].concat();
    let head = h2_frame(1, 5, 1, &[&[0x82, 0x86][..], &path, &host].concat());
    let input = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &window[..], &head].concat();
    bed.shard.begin(bed.now);
    bed.shard.accepted(Bed::conn(0), None);
    bed.shard.received(Bed::conn(0), &input);
    for _ in 0..4 {
        bed.turn();
        bed.answer_joins();
    }
    bed.heard.clear();
    for offset in 1..=10 {
        // Far below what one outbox may hold.
        bed.deliver(vec![event(&channel, offset, &[b'x'; 10_000])]);
        bed.now.ms += 300;
        bed.turn();
    }
    bed.turn();
    assert!(bed.shard.stats.drops(DropReason::Slow) > 0, "nothing was thrown away");
    assert_eq!(bed.shard.streams.iter().count(), 0, "the stream lives");
    let reset = h2_frame(3, 0, 1, &8_u32.to_be_bytes());
    assert!(bed.heard[&0].windows(reset.len()).any(|bytes| bytes == reset), "it hears nothing");
}

#[test]
fn a_query_of_a_thousand_channels_is_refused_at_the_first_too_many() {
    let names: Vec<String> = (0..17).map(|at| format!("channel=c{at}")).collect();
    for path in ["/v1/ws", "/v1/sse"] {
        let mut bed = Bed::new(1, |_| {});
        let request =
            format!("GET {path}?{}&channel=%20 HTTP/1.1\r\nHost: x\r\n\r\n", names.join("&"));
        bed.shard.begin(bed.now);
        bed.shard.accepted(Bed::conn(0), None);
        bed.shard.received(Bed::conn(0), request.as_bytes());
        bed.turn();
        let heard = String::from_utf8_lossy(&bed.heard[&0]).into_owned();
        assert!(heard.starts_with("HTTP/1.1 400") && heard.contains("more than 16"), "{heard}");
    }
}

/// What a client hears as lines behind the head of its stream.
fn lines(heard: &[u8]) -> Vec<serde_json::Value> {
    let text = String::from_utf8_lossy(heard);
    let body = text.split_once("\r\n\r\n").expect("a head").1;
    body.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Takes the batches that wait for the other shard and answers them; gives their data.
fn take_batches(bed: &mut Bed) -> Vec<String> {
    let mut taken = Vec::new();
    while let Some(batch) = bed.ends[1].next_publish(ShardId(0)) {
        let PublishBatch { slot, items, channels, .. } = batch;
        let position = Position { epoch: Epoch(1), offset: 1 };
        let outcomes = vec![mesh::Outcome::Placed(position); items.len()];
        let events = items.into_iter().map(|item| item.place(position, 0));
        taken.extend(events.map(|event| String::from_utf8_lossy(event.data()).into_owned()));
        bed.ends[1].answer(ShardId(0), mesh::Answer { slot, outcomes, channels, store_seq: None });
    }
    taken
}

#[test]
fn a_flood_of_commands_beside_a_stream_is_bounded_and_what_was_taken_keeps_its_order() {
    let mut bed = Bed::new(2, |settings| settings.limits.message_bytes_max = 16_000);
    let post = |path: &str, body: &str| {
        let length = body.len();
        format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}")
    };
    let connect = post("/connection/http_stream", "{\"id\":1,\"connect\":{}}");
    bed.shard.begin(bed.now);
    for (slot, request) in [(0, connect.as_str()), (1, "")] {
        bed.shard.accepted(Bed::conn(slot), None);
        bed.shard.received(Bed::conn(slot), request.as_bytes());
    }
    bed.turn();
    let connected = lines(&bed.heard[&0]).remove(0)["connect"].clone();
    let channel = channel_of(1);
    let padding = "x".repeat(2_000);
    let (mut statuses, mut n) = (Vec::new(), 0);
    while !statuses.ends_with(&[429, 429, 429]) {
        n += 1;
        assert!(n < 1_000, "nothing is refused");
        let data = format!("{n}:{padding}");
        let publish =
            serde_json::json!({"id": n + 1, "publish": {"channel": channel, "data": data}});
        let body = serde_json::json!({
            "session": connected["session"], "node": connected["node"],
            "data": publish.to_string(),
        });
        bed.heard.remove(&1);
        bed.shard.begin(bed.now);
        bed.shard.received(Bed::conn(1), post("/emulation", &body.to_string()).as_bytes());
        bed.turn();
        bed.turn();
        let heard = String::from_utf8_lossy(&bed.heard[&1]).into_owned();
        statuses.push(heard["HTTP/1.1 ".len()..][..3].parse::<u16>().expect("a status"));
        assert!(bed.shard.partial_bytes <= 32_000, "{} bytes wait", bed.shard.partial_bytes);
    }
    let refused = statuses.iter().filter(|status| **status == 429).count();
    let count = n - refused;
    assert!(bed.shard.partial_bytes > 8_000 && count > 64, "{count} taken");
    assert_eq!(bed.shard.stats.counters.emulations_full, refused as u64);
    // There is room again.
    let mut taken = Vec::new();
    for _ in 0..20 {
        taken.extend(take_batches(&mut bed));
        bed.turn();
    }
    let of = |data: &String| data.trim_start_matches('"').split(':').next().unwrap().to_owned();
    let taken: Vec<String> = taken.iter().map(of).collect();
    let expected: Vec<String> = (1..=count).map(|n| n.to_string()).collect();
    assert_eq!(taken, expected);
    let answered = lines(&bed.heard[&0]);
    let ids: Vec<u64> = answered[1..].iter().filter_map(|reply| reply["id"].as_u64()).collect();
    assert_eq!(ids.len(), count, "each is answered");
    assert!(answered[1..].iter().all(|reply| reply["publish"].is_object()));
    assert_eq!(bed.shard.partial_bytes, 0, "what waited is given back");
}
