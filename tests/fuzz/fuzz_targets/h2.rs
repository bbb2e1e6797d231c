//! HTTP/2: whatever a peer sends at whatever split, events come in order, nothing grows beyond its
//! limit, and the session ends in a state that accepts nothing more.
#![cfg_attr(fuzzing, no_main)]

#[cfg(not(fuzzing))]
fn main() {}

#[cfg(fuzzing)]
mod target {
    use proto::h2::{H2Event, H2Limits, H2Session, StreamKey};
    use std::collections::HashMap;

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    const GET: &[u8] = &[0x82, 0x86, 0x84, 0x41, 1, b'a'];
    const WINDOW_BYTES: u32 = 70_000;
    const OUTPUT_BYTES_MAX: usize = 2_000;
    const QUEUED_BYTES_MAX: usize = 30_000;

    /// What is known of a stream.
    #[derive(Default)]
    struct Seen {
        body_ended: bool,
        streaming: bool,
    }

    struct App {
        session: H2Session,
        /// What each open stream has done; the checks are here.
        streams: HashMap<StreamKey, Seen>,
        unreleased_bytes: usize,
        closed: bool,
        choice: u8,
    }

    impl App {
        fn turn(&mut self, now_ms: u64, take_output: bool) {
            self.session.poll(now_ms);
            while let Some(event) = self.session.next_event() {
                self.handle(event);
            }
            self.session.poll(now_ms);
            // One write of h2's beyond the limit: its buffer and a frame.
            assert!(self.session.output_bytes() <= OUTPUT_BYTES_MAX + (33 << 10));
            let queued: usize = self.streams.keys().map(|k| self.session.queued_bytes(*k)).sum();
            assert_eq!(queued, self.session.queued_bytes_total());
            assert!(queued <= QUEUED_BYTES_MAX + 20_000);
            if take_output {
                self.session.take_output();
            }
        }

        fn handle(&mut self, event: H2Event) {
            assert!(!self.closed, "closed is the last event");
            match event {
                H2Event::Request { stream, end_stream, .. } => {
                    let seen = Seen { body_ended: end_stream, streaming: false };
                    assert!(self.streams.insert(stream, seen).is_none());
                    if end_stream {
                        self.answer(stream);
                    }
                }
                H2Event::Data { stream, bytes } => {
                    assert!(!self.streams[&stream].body_ended && !bytes.is_empty());
                    if self.choice & 4 == 0 {
                        assert_eq!(self.session.release(stream, bytes.len()), bytes.len());
                    } else {
                        self.unreleased_bytes += bytes.len();
                        assert!(self.session.unreleased_bytes(stream) <= WINDOW_BYTES as usize);
                    }
                }
                H2Event::End { stream } => {
                    let seen = self.streams.get_mut(&stream).unwrap();
                    assert!(!std::mem::replace(&mut seen.body_ended, true));
                    self.answer(stream);
                }
                H2Event::Reset { stream, .. } => {
                    // The caller's own end may cross the peer's.
                    self.streams.remove(&stream);
                }
                H2Event::Pong => {}
                H2Event::Closed { .. } => {
                    self.closed = true;
                    assert!(self.session.is_finished());
                }
            }
        }

        fn answer(&mut self, stream: StreamKey) {
            let head = http::Response::new(());
            match self.choice & 3 {
                0 => {
                    let _ = self.session.respond(stream, head, true);
                    self.streams.remove(&stream);
                }
                1 => {
                    if self.session.respond(stream, head, false).is_ok() {
                        let body = vec![0; 20_000];
                        self.streams.get_mut(&stream).unwrap().streaming = true;
                        if self.session.send_data(stream, body.into(), true).is_err() {
                            self.streams.remove(&stream);
                        }
                    }
                }
                2 => {
                    self.session.reset(stream, proto::h2::Reason::CANCEL);
                    self.streams.remove(&stream);
                }
                _ => {}
            }
        }
    }

    /// Turns bytes into frames that get past the frame layer more often than random bytes do.
    fn frames(mut data: &[u8]) -> Vec<u8> {
        let mut wire = PREFACE.to_vec();
        while let [kind, flags, stream, len, rest @ ..] = data {
            let (payload, rest) = rest.split_at((*len as usize).min(rest.len()));
            let head: &[u8] = if kind % 11 == 1 && flags & 0x80 == 0 { GET } else { &[] };
            let flags = if head.is_empty() { *flags } else { flags & 1 | 4 };
            let len = head.len() + payload.len();
            let stream = match kind % 11 {
                4 | 6 | 7 => 0,
                8 => stream % 8,
                _ => stream % 64,
            };
            wire.extend_from_slice(&[0, 0, len as u8, kind % 11, flags, 0, 0, 0, stream]);
            wire.extend_from_slice(head);
            wire.extend_from_slice(payload);
            data = rest;
            if len > 255 {
                break;
            }
        }
        wire
    }

    pub fn run(data: &[u8]) {
        let [choice, cut, input @ ..] = data else { return };
        let wire = match choice >> 6 {
            0 => input.to_vec(),
            1 => [PREFACE, input].concat(),
            _ => frames(input),
        };
        let session = H2Session::new(H2Limits {
            streams_max: 20,
            connection_window_bytes: WINDOW_BYTES,
            stream_window_bytes: WINDOW_BYTES,
            output_bytes_max: OUTPUT_BYTES_MAX,
            queued_bytes_max: QUEUED_BYTES_MAX,
            ..H2Limits::default()
        });
        let streams = HashMap::new();
        let mut app = App { session, streams, unreleased_bytes: 0, closed: false, choice: *choice };
        app.turn(0, true);
        for (i, part) in wire.chunks(usize::from(*cut) + 1).enumerate() {
            app.session.feed(i as u64, part);
            app.turn(i as u64, choice & 8 == 0 || i % 7 == 0);
            if i == 3 && choice & 16 != 0 {
                app.session.goaway();
            }
            if i == 5 && choice & 32 != 0 {
                app.session.ping();
            }
        }
        assert!(app.unreleased_bytes <= WINDOW_BYTES as usize * (1 + wire.len() / 1_000));
        // The end: of the input, or ours. Either must come to Closed once the output is taken.
        if choice & 1 == 0 {
            app.session.end_input();
        } else {
            app.session.abort(proto::h2::Reason::NO_ERROR);
        }
        for _ in 0..1_000 {
            app.turn(1_000_000, true);
            if app.closed {
                break;
            }
        }
        assert!(app.closed && app.session.is_finished());
        assert_eq!(app.session.stream_count(), 0);
        assert_eq!(app.session.queued_bytes_total(), 0);
    }
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
