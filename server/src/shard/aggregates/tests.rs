//! A shard and a store that answers when the test says so.

use super::*;
use crate::config::Config;
use crate::config::namespace::Namespace;
use crate::driver::ConnId;
use crate::mesh::{Mesh, ShardId};
use crate::shard::home::Home;
use crate::shard::{Now, Parts, Settings};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use storage::{Counts, StorageRing, Top};

/// Takes queries as long as it has room, answers nothing by itself.
#[derive(Default)]
struct Held {
    room: Mutex<usize>,
    asked: Mutex<VecDeque<(u64, Query)>>,
    answers: Mutex<VecDeque<(u64, Result<Answer, ReadError>)>>,
}

impl QueryStore for Held {
    fn submit(&self, _: u16, ticket: u64, query: Query) -> Result<(), Busy> {
        let mut asked = self.asked.lock().unwrap();
        if asked.len() >= *self.room.lock().unwrap() {
            return Err(Busy(Box::new(query)));
        }
        asked.push_back((ticket, query));
        Ok(())
    }

    fn next(&self, _: u16) -> Option<(u64, Result<Answer, ReadError>)> {
        self.answers.lock().unwrap().pop_front()
    }
}

struct Bench {
    shard: Shard,
    store: Arc<Held>,
    now: Now,
    said: Vec<(u32, Vec<u8>)>,
}

impl Bench {
    fn new(queries_max: usize) -> Self {
        let limits = Config::default().limits;
        let home = Home::fresh(&limits, 1);
        let namespaces = [("default".to_owned(), Namespace::default())];
        let mut settings = Settings::new(namespaces, limits);
        settings.queries_max = queries_max;
        let store = Arc::new(Held { room: Mutex::new(100), ..Held::default() });
        let parts = Parts {
            id: ShardId(0),
            settings: Arc::new(settings),
            mesh: Mesh::new(1).end(ShardId(0)),
            home,
            ring: Arc::new(StorageRing::new(1, 4, 1 << 20)),
            store: Some(store.clone()),
            seed: 1,
            secrets: Box::new(|| 1),
        };
        let now = Now { ms: 1_000, wall_us: 1_000_000_000_000_000 };
        Self { shard: Shard::new(parts, now), store, now, said: Vec::new() }
    }

    /// One turn in which the connections of these slots send these requests.
    fn turn(&mut self, requests: &[(u32, &str)]) {
        self.shard.begin(self.now);
        for (slot, path) in requests {
            let conn = ConnId { slot: *slot, generation: 1 };
            if self.shard.connections.get(conn).is_none() {
                self.shard.accepted(conn, None);
            }
            let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            self.shard.received(conn, request.as_bytes());
        }
        self.shard.run();
        self.shard.flush();
        let sent = self.shard.sends().iter().map(|send| (send.conn.slot, send.bytes.to_vec()));
        self.said.extend(sent);
        self.shard.take_commands();
    }

    fn turn_at(&mut self, ms: u64) {
        self.now.ms = ms;
        self.turn(&[]);
    }

    fn answer(&self, answer: impl FnOnce(Query) -> Result<Answer, ReadError>) {
        let (ticket, query) = self.store.asked.lock().unwrap().pop_front().expect("a query");
        self.store.answers.lock().unwrap().push_back((ticket, answer(query)));
    }

    fn asked(&self) -> usize {
        self.store.asked.lock().unwrap().len()
    }

    /// Everything said to a slot since the last call.
    fn heard(&mut self, slot: u32) -> String {
        let (own, rest) =
            std::mem::take(&mut self.said).into_iter().partition(|(to, _)| *to == slot);
        self.said = rest;
        let own: Vec<(u32, Vec<u8>)> = own;
        String::from_utf8(own.into_iter().flat_map(|(_, bytes)| bytes).collect()).unwrap()
    }
}

fn counted(total: u64) -> Result<Answer, ReadError> {
    Ok(Answer::Counts(Counts { total, buckets: Vec::new() }))
}

#[test]
fn equal_queries_are_asked_once_and_kept_for_a_second() {
    let mut bench = Bench::new(2);
    bench.turn(&[(0, "/v1/channels/a/counts"), (1, "/v1/channels/a/counts?bucket=60")]);
    assert_eq!(bench.asked(), 1);
    bench.answer(|query| {
        assert!(matches!(query, Query::Aggregate(Aggregate::Counts(_))));
        counted(7)
    });
    bench.turn_at(1_001);
    for slot in [0, 1] {
        let heard = bench.heard(slot);
        assert!(heard.starts_with("HTTP/1.1 200") && heard.contains("\"total\":7"), "{heard}");
        assert!(heard.contains("cache-control: max-age=1"), "{heard}");
    }
    bench.now.ms = 1_900;
    bench.turn(&[(2, "/v1/channels/a/counts"), (3, "/v1/channels/b/counts")]);
    assert!(bench.heard(2).contains("\"total\":7"));
    assert_eq!(bench.asked(), 1, "another channel is another query");
    bench.now.ms = 2_001;
    bench.turn(&[(4, "/v1/channels/a/counts")]);
    assert_eq!((bench.asked(), &*bench.heard(4)), (2, ""));
}

#[test]
fn a_query_that_takes_too_long_is_told_to_narrow_its_range() {
    let mut bench = Bench::new(1);
    bench.turn(&[(0, "/v1/channels/a/counts"), (1, "/v1/channels/b/top?field=key")]);
    assert_eq!(bench.asked(), 1, "the second waits");
    assert_eq!(bench.shard.deadline_ms(), Some(6_000));
    bench.turn_at(5_999);
    assert_eq!(bench.heard(0), "");
    bench.turn_at(6_000);
    for slot in [0, 1] {
        let heard = bench.heard(slot);
        assert!(heard.starts_with("HTTP/1.1 503"), "{heard}");
        assert!(heard.contains("query_too_long") && heard.contains("narrow `from`"), "{heard}");
        assert!(heard.contains("retry-after: 1"), "{heard}");
    }
    // The store still holds the first: a new one must not begin beside it.
    bench.turn(&[(2, "/v1/channels/c/counts")]);
    assert_eq!(bench.asked(), 1);
    bench.answer(|_| counted(1));
    bench.turn_at(6_001);
    assert_eq!(bench.asked(), 1, "now it may");
    assert_eq!(bench.heard(0), "", "answered already");
}

#[test]
fn a_store_without_room_is_asked_again_soon() {
    let mut bench = Bench::new(2);
    *bench.store.room.lock().unwrap() = 0;
    bench.turn(&[(0, "/v1/channels/a/counts"), (1, "/v1/history?channel=a")]);
    assert_eq!(bench.shard.deadline_ms(), Some(1_005));
    *bench.store.room.lock().unwrap() = 5;
    bench.turn_at(1_005);
    assert_eq!(bench.asked(), 2);
    bench.answer(|_| counted(3));
    bench.turn_at(1_006);
    assert!(bench.heard(0).contains("\"total\":3"));
}

#[test]
fn a_query_nobody_waits_for_is_forgotten_when_its_step_comes_back() {
    let mut bench = Bench::new(1);
    bench.turn(&[(0, "/v1/channels/a/counts")]);
    bench.shard.closed(ConnId { slot: 0, generation: 1 });
    bench.turn(&[(1, "/v1/channels/b/counts")]);
    assert_eq!((bench.asked(), bench.shard.aggregates.runs.len()), (1, 2));
    bench.answer(|_| counted(1));
    bench.turn(&[]);
    assert_eq!((bench.asked(), bench.shard.aggregates.runs.len()), (1, 1));
}

#[test]
fn what_the_store_refuses_is_told_by_what_to_do_next() {
    let mut bench = Bench::new(9);
    let mut check = |outcome: Result<Answer, ReadError>, status: &str, code: &str| {
        bench.turn(&[(0, "/v1/channels/a/counts")]);
        bench.answer(|_| outcome);
        bench.turn(&[]);
        let heard = bench.heard(0);
        assert!(heard.contains(status) && heard.contains(code), "{heard}");
    };
    check(Err(ReadError::TooLarge { remedy: "x" }), "HTTP/1.1 400", "query_too_large");
    check(Err(ReadError::Unavailable { what: "x".into() }), "HTTP/1.1 503", "store_unavailable");
    check(Err(ReadError::Expired), "HTTP/1.1 500", "store_unreadable");
    let top = Top { total: 0, missing: 0, exact: true, values: Vec::new() };
    check(Ok(Answer::Top(top)), "HTTP/1.1 500", "something else");
}

#[test]
fn more_different_queries_than_may_wait_are_refused() {
    let mut bench = Bench::new(1);
    for i in 0..RUNS_MAX as u32 {
        bench.turn(&[(i, &format!("/v1/channels/c{i}/counts"))]);
    }
    bench.turn(&[(100, "/v1/channels/d/counts"), (101, "/v1/channels/c5/counts")]);
    assert!(bench.heard(100).starts_with("HTTP/1.1 503"));
    assert_eq!(bench.heard(101), "", "an equal one is there to join");
    assert_eq!(bench.asked(), 1);
}

#[test]
fn a_long_answer_leaves_piece_by_piece() {
    let mut bench = Bench::new(1);
    bench.turn(&[(0, "/v1/channels/a/top?field=key&limit=1000")]);
    let values: Vec<(Box<str>, u64)> =
        (0..1_000).map(|i| (format!("{i:01000}").into(), 1)).collect();
    let top = Top { total: 1_000, missing: 0, exact: true, values };
    bench.answer(|_| Ok(Answer::Top(top)));
    let mut largest = 0;
    let mut whole = String::new();
    for _ in 0..20 {
        bench.turn(&[]);
        let heard = bench.heard(0);
        largest = largest.max(heard.len());
        whole += &heard;
    }
    assert!(largest <= PIECE_BYTES + 1_000, "{largest}");
    assert!(whole.contains("transfer-encoding: chunked") && whole.ends_with("]}\r\n0\r\n\r\n"));
    assert!(whole.contains("cache-control: max-age=1") && whole.len() > 1_000_000);
    // From the cache it leaves the same way.
    bench.turn(&[(0, "/v1/channels/a/top?field=key&limit=1000")]);
    bench.turn(&[]);
    assert!(bench.heard(0).contains("transfer-encoding: chunked"));
    assert_eq!(bench.asked(), 0);
}
