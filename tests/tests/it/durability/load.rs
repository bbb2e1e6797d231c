//! Publishers that repeat what was not acknowledged, followers that resume, and the ledger that
//! compares what everybody was told.

use crate::rig::{Process, until};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// Two channels, so that two shards are homes.
pub const CHANNELS: [&str; 2] = ["log:a", "log:b"];
const BATCH: usize = 10;

/// What all threads share.
#[derive(Default)]
struct Shared {
    target: Mutex<Option<SocketAddr>>,
    stop: AtomicBool,
    /// The power is off: what is said from now on was never said.
    dark: AtomicBool,
    refused: AtomicUsize,
    ledger: Mutex<Ledger>,
}

/// What was said, by channel and position.
#[derive(Default)]
struct Ledger {
    /// The id of the event that a position was ever seen to name.
    named: BTreeMap<(String, String), String>,
    /// Where each acknowledged id is.
    acknowledged: BTreeMap<(String, String), String>,
}

impl Ledger {
    fn name(&mut self, channel: &str, position: &str, id: &str) {
        let key = (channel.to_owned(), position.to_owned());
        let known = self.named.entry(key).or_insert_with(|| id.to_owned());
        assert_eq!(known, id, "{channel}: {position} names two events");
    }
}

/// Publishers and followers on threads of their own.
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    pub fn start() -> Self {
        Self::with_acks(["durable", "durable"])
    }

    /// Two publishers for each channel, each with its `ack`.
    pub fn with_acks(acks: [&'static str; 2]) -> Self {
        let shared = Arc::new(Shared::default());
        let mut threads = Vec::new();
        for channel in CHANNELS {
            for (publisher, ack) in acks.into_iter().enumerate() {
                let shared = Arc::clone(&shared);
                let publish = move || publish(&shared, channel, publisher, ack);
                threads.push(std::thread::spawn(publish));
            }
            let shared = Arc::clone(&shared);
            threads.push(std::thread::spawn(move || follow(&shared, channel)));
        }
        Self { shared, threads }
    }

    /// Where everybody connects from now on; `None` while there is no server.
    pub fn aim(&self, server: Option<&Process>) {
        self.shared.refused.store(0, SeqCst);
        if server.is_some() {
            self.shared.dark.store(false, SeqCst);
        }
        *self.shared.target.lock().expect("no poison") = server.map(|server| server.address);
    }

    pub fn acknowledged(&self) -> usize {
        assert!(!self.threads.iter().any(JoinHandle::is_finished), "a client found a fault");
        self.shared.ledger.lock().expect("no poison").acknowledged.len()
    }

    /// The power is cut at this moment. Nobody would hear an acknowledgement that comes later, and
    /// a sync that the cut overtakes may still claim success: they do not count.
    pub fn cut(&self) {
        let _ledger = self.shared.ledger.lock().expect("no poison");
        self.shared.dark.store(true, SeqCst);
    }

    /// Durable publishes that were answered with a refusal.
    pub fn refused_since_aim(&self) -> usize {
        self.shared.refused.load(SeqCst)
    }

    /// Lets every publisher be acknowledged and every follower catch up, then compares with what
    /// is stored.
    pub fn finish(self, server: &Process) {
        let goal = self.acknowledged() + 100;
        until("the last acknowledgements", || self.acknowledged() >= goal);
        self.shared.stop.store(true, SeqCst);
        for thread in self.threads {
            thread.join().expect("a client found a fault");
        }
        let mut ledger = self.shared.ledger.lock().expect("no poison");
        for channel in CHANNELS {
            let stored = history(server, channel);
            for (index, event) in stored.iter().enumerate() {
                assert_eq!(event["offset"], Value::from(index + 1), "{channel}: a hole");
                ledger.name(channel, &position_of(event), text(event, "id"));
            }
            let mut ids: Vec<&str> = stored.iter().map(|event| text(event, "id")).collect();
            ids.sort_unstable();
            assert!(ids.windows(2).all(|pair| pair[0] != pair[1]), "{channel}: an id twice");
            for ((of, id), position) in &ledger.acknowledged {
                if of == channel {
                    let at: usize = position[17..].parse().expect("an offset");
                    let found =
                        stored.get(at - 1).map(|event| (text(event, "id"), position_of(event)));
                    assert_eq!(found, Some((&id[..], position.clone())), "{channel}: acknowledged");
                }
            }
        }
    }
}

/// Everything stored of a channel, page by page.
pub fn history(server: &Process, channel: &str) -> Vec<Value> {
    let mut events = Vec::new();
    loop {
        let path = format!("/v1/history?channel={channel}&from={}&limit=100000", events.len() + 1);
        let answer = server.get(&path);
        assert_eq!(answer.status, 200, "{answer:?}");
        let page = answer.json()["events"].as_array().expect("events").clone();
        if page.is_empty() {
            return events;
        }
        events.extend(page);
    }
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_else(|| panic!("no {member} in {value}"))
}

fn position_of(event: &Value) -> String {
    format!("{}:{}", text(event, "epoch"), event["offset"])
}

/// Sends batches of events with ids; a batch without an answer is sent again, as it was.
fn publish(shared: &Shared, channel: &str, publisher: usize, ack: &str) {
    let mut batch = 0;
    while !shared.stop.load(SeqCst) {
        let Some(address) = *shared.target.lock().expect("no poison") else {
            std::thread::sleep(Duration::from_millis(2));
            continue;
        };
        let id = |item: usize| format!("{publisher}-{batch}-{item}");
        let body: String = (0..BATCH)
            .map(|item| format!("{{\"id\":\"{}\",\"data\":\"{:0>300}\"}}\n", id(item), batch))
            .collect();
        let (status, answer) = match exchange(address, channel, ack, &body) {
            Ok(answered) => answered,
            Err(error) => {
                let hung = error.kind() == io::ErrorKind::WouldBlock;
                assert!(!hung, "{channel}: a publish was never answered");
                std::thread::sleep(Duration::from_millis(2));
                continue;
            }
        };
        let mut ledger = shared.ledger.lock().expect("no poison");
        let dark = shared.dark.load(SeqCst);
        for item in answer["positions"].as_array().into_iter().flatten() {
            let id = id(item["index"].as_u64().expect("an index") as usize);
            let position = text(item, "position");
            ledger.name(channel, position, &id);
            if dark {
                continue;
            }
            let before = ledger.acknowledged.insert((channel.to_owned(), id), position.to_owned());
            assert!(
                before.is_none_or(|before| before == position),
                "acknowledged elsewhere before"
            );
        }
        if status == 202 && answer["accepted"] == BATCH {
            batch += 1;
        } else {
            assert!(matches!(status, 202 | 503), "{status}: {answer}");
            shared.refused.fetch_add(1, SeqCst);
            drop(ledger);
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// One request and its whole answer, or an error if the server went away meanwhile.
fn exchange(address: SocketAddr, channel: &str, ack: &str, body: &str) -> io::Result<(u16, Value)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let request = format!(
        "POST /v1/channels/{channel}/events?ack={ack} HTTP/1.1\r\nHost: localhost\r\n\
         Connection: close\r\nContent-Type: application/x-ndjson\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = head.get(9..12).and_then(|status| status.parse().ok());
    let status = status.ok_or(io::ErrorKind::InvalidData)?;
    Ok((status, serde_json::from_str(body)?))
}

/// Follows a channel over WebSocket, from server to server.
fn follow(shared: &Shared, channel: &str) {
    let mut last: Option<String> = None;
    while !shared.stop.load(SeqCst) {
        let Some(address) = *shared.target.lock().expect("no poison") else {
            std::thread::sleep(Duration::from_millis(2));
            continue;
        };
        let since = last.as_ref().map_or(String::new(), |last| format!("&since={last}"));
        let url = format!("ws://{address}/v1/channels/{channel}/ws?format=envelope{since}");
        let Ok(stream) = TcpStream::connect(address) else { continue };
        if stream.set_read_timeout(Some(Duration::from_millis(200))).is_err() {
            continue;
        }
        let Ok((mut socket, _)) = tungstenite::client(url, stream) else { continue };
        // The offset that must come next, once it is known.
        let mut next: Option<u64> = None;
        loop {
            let message = match socket.read() {
                Ok(message) => message,
                Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    if shared.stop.load(SeqCst) {
                        return;
                    }
                    continue;
                }
                Err(_) => break,
            };
            let tungstenite::Message::Text(message) = message else { continue };
            let event: Value = serde_json::from_str(&message).expect("JSON");
            if let Some(told) = event["shardcast"].as_str() {
                let position = text(&event, "position").to_owned();
                let offset = offset_of(&position);
                match (told, &last) {
                    ("subscribed", None) | ("gap", Some(_)) => {}
                    ("recovered", Some(last)) => {
                        assert_eq!(offset, offset_of(last), "{channel}: resumed elsewhere");
                    }
                    _ => panic!("{channel}: {event} after {last:?}"),
                }
                next = Some(offset + 1);
                last = Some(position);
                continue;
            }
            let position = position_of(&event);
            assert_eq!(Some(offset_of(&position)), next, "{channel}: a hole or a repeat: {event}");
            next = next.map(|next| next + 1);
            shared.ledger.lock().expect("no poison").name(channel, &position, text(&event, "id"));
            last = Some(position);
        }
    }
}

fn offset_of(position: &str) -> u64 {
    position[17..].parse().expect("an offset")
}
