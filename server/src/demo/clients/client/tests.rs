//! The client against bytes as the server sends them: what is counted must be what happened.

use super::*;
use proto::http1::{Limits as RequestLimits, RequestParser};
use proto::ws::handshake;

/// Plays the server for one client.
struct Rig {
    client: Client,
    messages: Messages,
    seen: Vec<i64>,
}

impl Rig {
    fn new() -> Self {
        Self { client: Client::new(0), messages: Messages::new(1), seen: Vec::new() }
    }

    /// Connects and gives the target of the request.
    fn connect(&mut self) -> String {
        let mut request = Vec::new();
        self.client.open("127.0.0.1:8000", "orders:all", [7; 16], &mut request);
        let mut parser = RequestParser::new(RequestLimits::default());
        let (_, head) = parser.feed(&request).unwrap();
        let head = head.unwrap();
        let mut answer = Vec::new();
        handshake::validate(&head).unwrap().write_response(&mut answer, None, &[]).unwrap();
        assert_eq!(self.receive(&answer), Ok(Vec::new()));
        String::from_utf8(request).unwrap().split(' ').nth(1).unwrap().to_owned()
    }

    fn receive(&mut self, bytes: &[u8]) -> Result<Vec<u8>, Cut> {
        let mut out = Vec::new();
        let seen = &mut self.seen;
        let mut around = Surroundings {
            messages: &mut self.messages,
            scratch: &mut Vec::new(),
            out: &mut out,
            mask: [1, 2, 3, 4],
            on_event: &mut |made_us| seen.push(made_us),
        };
        self.client.receive(bytes, &mut around).map(|()| out)
    }

    fn say(&mut self, text: &str) {
        let frame = ws::encode_frame(ws::Opcode::Text, text.as_bytes());
        self.receive(&frame).unwrap();
    }

    /// Events of an epoch.
    fn events(&mut self, epoch: u64, offsets: impl IntoIterator<Item = u64>) {
        for offset in offsets {
            let position = format!(r#""epoch":"{epoch:016x}","offset":{offset}"#);
            self.say(&format!(r#"{{"channel":"a",{position},"data":{{"t":{offset}}}}}"#));
        }
    }

    fn control(&mut self, name: &str, epoch: u64, offset: u64) {
        let position = format!(r#""position":"{epoch:016x}:{offset}""#);
        self.say(&format!(r#"{{"shardcast":"{name}","channel":"a",{position}}}"#));
    }

    /// Lost, doubled, gaps.
    fn counts(&self) -> (u64, u64, u64) {
        let Totals { lost, doubled, gaps, .. } = self.client.totals;
        (lost, doubled, gaps)
    }
}

const FIRST: u64 = 1 << 32 | 1;
/// After an unclean stop: another lineage, the same incarnation.
const SECOND: u64 = 2 << 32 | 1;

#[test]
fn a_clean_resume_across_a_kill_loses_and_doubles_nothing() {
    let mut rig = Rig::new();
    assert_eq!(rig.connect(), "/v1/channels/orders:all/ws?format=envelope");
    assert!(!rig.client.is_subscribed());
    rig.control("subscribed", FIRST, 4);
    rig.events(FIRST, 5..=8);
    assert!(rig.client.begin_round());
    rig.client.cut();
    assert!(!rig.client.is_subscribed() && !rig.client.has_resumed());
    let target = rig.connect();
    assert_eq!(target, format!("/v1/channels/orders:all/ws?format=envelope&since={FIRST:016x}:8"));
    rig.control("recovered", SECOND, 8);
    assert!(rig.client.has_resumed());
    rig.events(FIRST, 9..=9);
    rig.events(SECOND, 10..=12);
    assert_eq!(rig.counts(), (0, 0, 0));
    assert_eq!(rig.client.totals.delivered, 8);
    assert_eq!(rig.client.totals.cuts, 1);
    assert_eq!(rig.seen, (5..=12).map(|ms| ms * 1_000).collect::<Vec<_>>());
}

#[test]
fn the_first_missed_event_counts_even_before_anything_was_received() {
    let mut rig = Rig::new();
    rig.connect();
    rig.control("subscribed", FIRST, 4);
    rig.events(FIRST, 6..=6);
    assert_eq!(rig.counts(), (1, 0, 0));
}

#[test]
fn what_the_server_skips_or_repeats_is_counted_whatever_it_claims() {
    let check = |resumed: &[u64], expected| {
        let mut rig = Rig::new();
        rig.connect();
        rig.control("subscribed", FIRST, 0);
        rig.events(FIRST, 1..=5);
        rig.client.cut();
        rig.connect();
        rig.control("recovered", SECOND, 5);
        rig.events(SECOND, resumed.iter().copied());
        assert_eq!(rig.counts(), expected, "{resumed:?}");
    };
    check(&[6, 7, 8], (0, 0, 0));
    check(&[7, 8], (1, 0, 0));
    check(&[9], (3, 0, 0));
    check(&[5, 6, 7], (0, 1, 0));
    check(&[1, 2, 3, 6, 6], (0, 4, 0));
}

#[test]
fn a_gap_is_a_loss_that_was_announced_and_not_a_resume() {
    let mut rig = Rig::new();
    rig.connect();
    rig.control("subscribed", FIRST, 0);
    rig.events(FIRST, 1..=5);
    assert!(rig.client.begin_round());
    rig.client.cut();
    rig.connect();
    rig.control("gap", SECOND, 9);
    rig.events(SECOND, 10..=11);
    assert_eq!(rig.counts(), (4, 0, 1));
    assert!(rig.client.is_subscribed() && rig.client.is_in_round() && !rig.client.has_resumed());
}

#[test]
fn a_channel_that_was_recreated_counts_from_its_own_start() {
    let mut rig = Rig::new();
    rig.connect();
    rig.control("subscribed", FIRST, 0);
    rig.events(FIRST, 1..=5);
    rig.client.cut();
    rig.connect();
    rig.control("gap", SECOND + 1, 0);
    rig.events(SECOND + 1, 1..=2);
    assert_eq!(rig.counts(), (0, 0, 1));
    assert_eq!(rig.client.offset(), 2);
}

#[test]
fn pings_are_answered_masked_and_a_close_or_garbage_ends_the_connection() {
    let mut rig = Rig::new();
    rig.connect();
    let pong = rig.receive(&ws::encode_frame(ws::Opcode::Ping, b"hi")).unwrap();
    assert_eq!(pong, [0x8a, 0x82, 1, 2, 3, 4, b'h' ^ 1, b'i' ^ 2]);
    assert_eq!(rig.receive(&ws::close_frame(1012, "bye")), Err(Cut));
    let mut rig = Rig::new();
    rig.connect();
    assert_eq!(rig.receive(&[0xff; 16]), Err(Cut));
    let mut rig = Rig::new();
    rig.client.open("h", "c", [0; 16], &mut Vec::new());
    assert_eq!(rig.receive(b"HTTP/1.1 503 Service Unavailable\r\n\r\n"), Err(Cut));
}

#[test]
fn only_a_client_that_was_there_takes_part_in_the_round() {
    let mut rig = Rig::new();
    assert!(!rig.client.begin_round());
    rig.connect();
    rig.control("subscribed", FIRST, 0);
    rig.client.cut();
    assert!(!rig.client.is_in_round());
    // The server died by itself: the round is said after the cut.
    assert!(rig.client.begin_round());
    assert!(!rig.client.has_resumed());
    rig.connect();
    rig.control("recovered", FIRST, 0);
    assert!(rig.client.has_resumed());
}
