//! A feed's way into the server: events wait in order until they are acknowledged as durable, and
//! are sent again with the same ids until then. So a kill loses none of them and doubles none.
//!
//! Bounded: at most [`PENDING_MAX`] events wait. A feed that replays pauses when it is full; one
//! that measures drops its oldest, which were never acknowledged, and counts them.

use super::acked::Acked;
use super::http::Http;
use serde::Deserialize;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

/// Events that wait, at most: minutes of metrics, a minute of orders.
pub const PENDING_MAX: usize = 4_000;
/// Events of one request.
const BATCH_MAX: usize = 500;

/// An event that waits for its acknowledgement.
#[derive(Debug)]
struct Pending {
    id: String,
    channel: &'static str,
    /// As it goes out, with its newline.
    line: String,
}

/// One feed's events.
pub struct Publisher {
    http: Http,
    pending: VecDeque<Pending>,
    /// How many wait, for the supervisor.
    waiting: Arc<AtomicUsize>,
    acked: Arc<Mutex<Acked>>,
    /// Makes ids unique among runs of the demo over the same data.
    run: String,
    sequence: u64,
    /// Events that found no room.
    dropped: u64,
}

#[derive(Deserialize)]
struct Outcome {
    #[serde(default)]
    positions: Vec<Taken>,
    #[serde(default)]
    rejections: Vec<Refused>,
}

#[derive(Deserialize)]
struct Taken {
    index: usize,
    position: String,
}

#[derive(Deserialize)]
struct Refused {
    index: usize,
    code: String,
    #[serde(default)]
    detail: String,
}

impl Publisher {
    /// A publisher without events.
    pub fn new(server: SocketAddr, run: &str, acked: &Arc<Mutex<Acked>>) -> Self {
        Self {
            http: Http::new(server),
            pending: VecDeque::new(),
            waiting: Arc::new(AtomicUsize::new(0)),
            acked: Arc::clone(acked),
            run: run.to_owned(),
            sequence: 0,
            dropped: 0,
        }
    }

    /// How many events wait, from now on.
    pub fn waiting(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.waiting)
    }

    /// No more room.
    pub fn is_full(&self) -> bool {
        self.pending.len() >= PENDING_MAX
    }

    /// Queues an event; `data` is JSON. Without room the oldest goes.
    pub fn push(&mut self, channel: &'static str, kind: &str, data: &str) {
        if self.is_full() {
            self.pending.pop_front();
            self.dropped += 1;
        }
        self.sequence += 1;
        let id = format!("{}-{}", self.run, self.sequence);
        let head = format!(r#"{{"id":"{id}","channel":"{channel}","type":"{kind}""#);
        let line = format!("{head},\"source\":\"shardcast-demo\",\"data\":{data}}}\n");
        self.pending.push_back(Pending { id, channel, line });
        self.waiting.store(self.pending.len(), Relaxed);
    }

    /// Sends what waits, until nothing does. An error leaves the rest for the next time.
    pub fn flush(&mut self) -> Result<(), String> {
        while !self.pending.is_empty() {
            let batch = self.pending.iter().take(BATCH_MAX);
            let body: String = batch.map(|event| event.line.as_str()).collect();
            let target = "/v1/events?ack=durable";
            let answer = self.http.post(target, "application/x-ndjson", body.as_bytes())?;
            let outcome: Outcome = serde_json::from_str(&answer.body)
                .map_err(|_| format!("publish: {} {}", answer.status, answer.body))?;
            let settled = self.settle(outcome);
            self.waiting.store(self.pending.len(), Relaxed);
            if settled == 0 {
                return Err(format!("nothing was taken: {} {}", answer.status, answer.body));
            }
        }
        Ok(())
    }

    /// Takes out what was acknowledged, and what never will be; gives how many.
    fn settle(&mut self, outcome: Outcome) -> usize {
        let mut done = vec![false; self.pending.len()];
        for taken in outcome.positions {
            let offset = taken.position.rsplit(':').next().and_then(|text| text.parse().ok());
            let (Some(event), Some(offset)) = (self.pending.get(taken.index), offset) else {
                continue;
            };
            super::lock(&self.acked).add(event.channel, event.id.clone(), offset);
            done[taken.index] = true;
        }
        for refused in outcome.rejections {
            // Full or failing is temporary; anything else is a fault of ours that must not block.
            let temporary =
                matches!(refused.code.as_str(), "overloaded" | "unavailable" | "rate_limited");
            if !temporary && let Some(done) = done.get_mut(refused.index) {
                *done = true;
                let fields: [crate::log::Field; 2] =
                    [("code", &refused.code), ("detail", &refused.detail)];
                crate::log::error("the server refused an event of the demo", &fields);
            }
        }
        let settled = done.iter().filter(|done| **done).count();
        let mut done = done.into_iter();
        self.pending.retain(|_| !done.next().unwrap_or(false));
        settled
    }

    /// Events that found no room, since the start.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publisher(events: usize) -> Publisher {
        let server = "127.0.0.1:1".parse().unwrap();
        let mut publisher = Publisher::new(server, "r", &Arc::default());
        (0..events).for_each(|_| publisher.push("a:b", "test", "{}"));
        publisher
    }

    fn settle(publisher: &mut Publisher, answer: &str) -> usize {
        publisher.settle(serde_json::from_str(answer).unwrap())
    }

    fn ids(publisher: &Publisher) -> Vec<&str> {
        publisher.pending.iter().map(|event| event.id.as_str()).collect()
    }

    #[test]
    fn only_what_was_acknowledged_stops_waiting() {
        let mut publisher = publisher(4);
        let answer = r#"{"accepted":2,"positions":[
            {"index":0,"channel":"a:b","position":"0000000100000001:1","duplicate":false},
            {"index":2,"channel":"a:b","position":"0000000100000001:2","duplicate":true}],
            "rejections":[{"index":3,"code":"overloaded","detail":"later"}],"stopped_at":3}"#;
        assert_eq!(settle(&mut publisher, answer), 2);
        assert_eq!(ids(&publisher), ["r-2", "r-4"]);
        assert_eq!(publisher.acked.lock().unwrap().tops()["a:b"], 2);
        assert_eq!(settle(&mut publisher, "{}"), 0);
        assert_eq!(ids(&publisher), ["r-2", "r-4"]);
    }

    #[test]
    fn an_event_that_is_refused_for_good_does_not_block_the_others() {
        let mut publisher = publisher(2);
        let answer = r#"{"rejections":[{"index":0,"code":"missing_data"}]}"#;
        assert_eq!(settle(&mut publisher, answer), 1);
        assert_eq!(ids(&publisher), ["r-2"]);
    }

    #[test]
    fn a_server_that_is_away_leaves_everything_waiting_up_to_the_limit() {
        let mut publisher = publisher(PENDING_MAX + 3);
        assert!(publisher.flush().is_err());
        assert_eq!(publisher.waiting().load(Relaxed), PENDING_MAX);
        assert_eq!(publisher.dropped(), 3);
        assert_eq!(ids(&publisher)[0], "r-4");
    }

    #[test]
    fn a_line_is_one_line_of_json() {
        let publisher = publisher(1);
        let line = &publisher.pending[0].line;
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(value["id"], "r-1");
        assert_eq!(line.find('\n'), Some(line.len() - 1));
    }
}
