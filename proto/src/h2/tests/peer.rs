//! Correctness against `h2`'s own client.

use super::client::*;
use super::*;
use std::collections::HashMap;

/// Answers every request with its body, releasing as it comes.
#[derive(Default)]
struct Echo {
    bodies: HashMap<StreamKey, Vec<u8>>,
    closed: Vec<Option<H2Error>>,
    resets: usize,
    pongs: usize,
}

impl Echo {
    fn handle(&mut self, session: &mut H2Session, event: H2Event) {
        match event {
            H2Event::Request { stream, head, end_stream } => {
                assert_eq!(head.uri.path(), "/x");
                self.bodies.insert(stream, Vec::new());
                if end_stream {
                    self.answer(session, stream);
                }
            }
            H2Event::Data { stream, bytes } => {
                assert!(!bytes.is_empty());
                assert_eq!(session.release(stream, bytes.len()), bytes.len());
                self.bodies.get_mut(&stream).unwrap().extend_from_slice(&bytes);
            }
            H2Event::End { stream } => self.answer(session, stream),
            H2Event::Reset { .. } => self.resets += 1,
            H2Event::Pong => self.pongs += 1,
            H2Event::Closed { error } => self.closed.push(error),
        }
    }

    fn answer(&mut self, session: &mut H2Session, stream: StreamKey) {
        let body = self.bodies.remove(&stream).unwrap();
        session.respond(stream, ok(), body.is_empty()).unwrap();
        if !body.is_empty() {
            session.send_data(stream, Bytes::from(body), true).unwrap();
        }
    }
}

/// Sends `body` with trailers and checks that it comes back.
fn check_echo(pair: &mut Pair, body: &[u8]) {
    let mut echo = Echo::default();
    let (mut answer, mut send) = pair.request("POST", false);
    send.send_data(Bytes::copy_from_slice(body), false).unwrap();
    let mut trailers = http::HeaderMap::new();
    trailers.insert("checksum", http::HeaderValue::from_static("1"));
    send.send_trailers(trailers).unwrap();
    pair.run(|session, event| echo.handle(session, event));
    let answer = response(&mut answer).expect("the head is here").unwrap();
    let (mut body_in, mut got) = (answer.into_body(), Vec::new());
    while !read_body(&mut body_in, &mut got, true).unwrap() {
        pair.run(|session, event| echo.handle(session, event));
    }
    assert_eq!(got, body);
    assert_eq!(echo.resets, 0);
    assert_eq!(pair.server.stream_count(), 0);
    assert_eq!(pair.server.queued_bytes_total(), 0);
}

#[test]
fn a_body_with_trailers_comes_back_however_the_bytes_are_cut() {
    let body: Vec<u8> = (0..3_000u32).map(|i| i as u8).collect();
    for cut in [1, 2, 3, 7, 8, 9, 10, 23, 24, 25, 100, 1_000, usize::MAX] {
        let mut pair = Pair::with(H2Limits::default(), cut, Default::default());
        check_echo(&mut pair, &body);
        check_echo(&mut pair, b"again");
    }
}

#[test]
fn every_split_of_a_conversation_gives_the_same_events() {
    let wire = recorded_conversation();
    let whole = script(&[&wire]);
    assert!(whole.ends_with("end;closed None;"), "{whole}");
    for cut in 0..wire.len() {
        assert_eq!(script(&[&wire[..cut], &wire[cut..]]), whole, "cut at {cut}");
    }
}

/// What a client sends for two requests, the second one with a body.
fn recorded_conversation() -> Vec<u8> {
    let pipe = Pipe::new(usize::MAX);
    let mut handshake = Box::pin(::h2::client::handshake(pipe.clone()));
    let Poll::Ready(Ok((mut send, mut client))) = handshake.as_mut().poll(&mut cx()) else {
        panic!("the client writes its preface without waiting");
    };
    let request = |method| http::Request::builder().method(method).uri("http://a/x").body(());
    let _get = send.send_request(request("GET").unwrap(), true).unwrap();
    assert!(send.poll_ready(&mut cx()).is_ready());
    let (_post, mut body) = send.send_request(request("POST").unwrap(), false).unwrap();
    body.send_data(Bytes::from_static(b"hello"), true).unwrap();
    let _ = Pin::new(&mut client).poll(&mut cx());
    pipe.take_output().unwrap().to_vec()
}

/// Events as text, with the pieces of a body joined.
fn script(parts: &[&[u8]]) -> String {
    let mut session = H2Session::new(H2Limits::default());
    let (mut text, mut body) = (String::new(), Vec::new());
    for part in parts {
        session.feed(0, part);
        session.poll(0);
        for event in events(&mut session) {
            if let H2Event::Data { stream, bytes } = &event {
                body.extend_from_slice(bytes);
                session.release(*stream, bytes.len());
                continue;
            }
            text += &match event {
                H2Event::Request { head, end_stream, .. } => {
                    format!("{} {end_stream};", head.method)
                }
                H2Event::End { stream } => {
                    session.respond(stream, ok(), true).unwrap();
                    format!("{};end;", String::from_utf8_lossy(&body))
                }
                other => format!("{other:?}"),
            };
        }
    }
    session.abort(Reason::NO_ERROR);
    session.poll(0);
    text += &format!("closed {:?};", closed(&events(&mut session)).unwrap().and(None::<()>));
    text
}

#[test]
fn a_publisher_stalls_within_its_windows_when_nothing_is_released() {
    let (stream_window, connection_window) = (100_000, 250_000);
    let limits = H2Limits {
        stream_window_bytes: stream_window,
        connection_window_bytes: connection_window,
        ..H2Limits::default()
    };
    let mut pair = Pair::new(limits);
    pair.run(|_, _| {});
    let body = vec![7u8; 1 << 20];
    let mut sends = Vec::new();
    for _ in 0..4 {
        let (answer, mut send) = pair.request("POST", false);
        send.send_data(Bytes::copy_from_slice(&body), true).unwrap();
        sends.push((answer, send));
    }
    let mut got: HashMap<StreamKey, usize> = HashMap::new();
    let mut ended = 0;
    pair.run(|_, event| match event {
        H2Event::Data { stream, bytes } => *got.entry(stream).or_default() += bytes.len(),
        H2Event::End { .. } => ended += 1,
        _ => {}
    });
    assert_eq!(ended, 0);
    assert!(got.values().all(|n| *n <= stream_window as usize), "{got:?}");
    assert_eq!(got.values().sum::<usize>(), connection_window as usize);
    // Released, everything comes.
    for (stream, n) in got.clone() {
        assert_eq!(pair.server.release(stream, n + 1), n, "no more than is outstanding");
    }
    let mut rest = 0;
    pair.run(|session, event| match event {
        H2Event::Data { stream, bytes } => {
            rest += session.release(stream, bytes.len());
        }
        H2Event::End { stream } => {
            ended += 1;
            session.respond(stream, ok(), true).unwrap();
        }
        _ => {}
    });
    assert_eq!(ended, 4);
    assert_eq!(rest + connection_window as usize, 4 * body.len());
}

#[test]
fn a_thousand_streams_at_once_are_served() {
    let mut pair = Pair::new(H2Limits::default());
    pair.run(|_, _| {});
    let mut answers = Vec::new();
    for i in 0..1_000u32 {
        let (answer, mut send) = pair.request("POST", false);
        send.send_data(Bytes::from(i.to_string()), true).unwrap();
        answers.push((answer, send));
    }
    let mut echo = Echo::default();
    pair.run(|session, event| echo.handle(session, event));
    for (i, (answer, _)) in answers.iter_mut().enumerate() {
        let mut body = response(answer).unwrap().unwrap().into_body();
        let mut got = Vec::new();
        assert!(read_body(&mut body, &mut got, true).unwrap());
        assert_eq!(got, i.to_string().into_bytes());
    }
    assert_eq!(pair.server.stream_count(), 0);
    let held = pair.server.memory_bytes();
    assert!((1 << 20..2 << 20).contains(&held), "h2 keeps its tables: {held}");
}

#[test]
fn ten_thousand_requests_in_turn_leave_nothing_behind() {
    let mut pair = Pair::new(H2Limits::default());
    let mut echo = Echo::default();
    let one = |pair: &mut Pair, echo: &mut Echo| {
        let (mut answer, mut send) = pair.request("POST", false);
        send.send_data(Bytes::from_static(b"x"), true).unwrap();
        pair.run(|session, event| echo.handle(session, event));
        assert!(response(&mut answer).unwrap().is_ok());
    };
    one(&mut pair, &mut echo);
    let before = pair.server.memory_bytes();
    for _ in 0..10_000 {
        one(&mut pair, &mut echo);
    }
    assert_eq!(pair.server.memory_bytes(), before);
    assert_eq!((pair.server.stream_count(), echo.bodies.len(), echo.resets), (0, 0, 0));
}

#[test]
fn a_large_response_waits_for_the_reader_and_not_inside_h2() {
    let mut builder = ::h2::client::Builder::new();
    builder.initial_window_size(1_000).initial_connection_window_size(65_535);
    let mut pair = Pair::with(H2Limits::default(), usize::MAX, builder);
    let (mut answer, _send) = pair.request("GET", true);
    let body: Vec<u8> = (0..300_000u32).map(|i| (i * 7) as u8).collect();
    let mut key = None;
    pair.run(|session, event| {
        if let H2Event::Request { stream, .. } = event {
            key = Some(stream);
            session.respond(stream, ok(), false).unwrap();
            session.send_data(stream, Bytes::from(body.clone()), true).unwrap();
        }
    });
    let key = key.unwrap();
    let left = body.len() - 1_000;
    assert_eq!(pair.server.queued_bytes(key), left);
    assert_eq!(pair.server.queued_bytes_total(), left);
    assert_eq!(pair.server.send_capacity(key), 0);
    let backlog = Backlog { queued_bytes: left, moved_ms: 0 };
    assert_eq!(pair.server.backlog(key), Some(backlog));
    assert_eq!(pair.server.backlogs().collect::<Vec<_>>(), [(key, backlog)]);
    let mut body_in = response(&mut answer).unwrap().unwrap().into_body();
    let mut got = Vec::new();
    while !read_body(&mut body_in, &mut got, true).unwrap() {
        pair.run(|_, _| {});
    }
    assert!(got == body);
    assert_eq!((pair.server.queued_bytes_total(), pair.server.stream_count()), (0, 0));
}

#[test]
fn output_is_bounded_when_nobody_takes_it() {
    let limits = H2Limits { queued_bytes_max: 100 << 20, ..H2Limits::default() };
    let mut builder = ::h2::client::Builder::new();
    builder.initial_window_size(1 << 30).initial_connection_window_size(1 << 30);
    let output_bytes_max = limits.output_bytes_max;
    let mut pair = Pair::with(limits, usize::MAX, builder);
    let mut answers = Vec::new();
    for _ in 0..20 {
        answers.push(pair.request("GET", true));
    }
    let mut keys = Vec::new();
    pair.run(|_, event| {
        if let H2Event::Request { stream, .. } = event {
            keys.push(stream);
        }
    });
    for key in keys {
        pair.server.respond(key, ok(), false).unwrap();
        pair.server.send_data(key, Bytes::from(vec![1; 1 << 20]), true).unwrap();
    }
    for _ in 0..100 {
        pair.server.poll(0);
    }
    assert!(pair.server.output_bytes() <= output_bytes_max + (32 << 10) + 18);
    assert!(pair.server.queued_bytes_total() >= (20 << 20) - output_bytes_max - PUMP_BYTES_MAX);
    assert!(!pair.server.needs_poll(), "nothing can move before the output is taken");
    pair.run(|_, _| {});
    let mut got = Vec::new();
    for (answer, _) in &mut answers {
        let mut body = response(answer).unwrap().unwrap().into_body();
        while !read_body(&mut body, &mut got, true).unwrap() {
            pair.run(|_, _| {});
        }
    }
    assert_eq!(got.len(), 20 << 20);
    assert!(pair.output_bytes_top <= output_bytes_max + (32 << 10) + 18);
}

#[test]
fn a_full_output_stops_reading_and_says_so() {
    let limits = H2Limits {
        output_bytes_max: 100,
        control_frames_per_s_max: 1_000_000,
        ..H2Limits::default()
    };
    let mut session = H2Session::new(limits);
    let mut wire = wire::preface();
    for _ in 0..10_000 {
        wire::frame(&mut wire, wire::PING, 0, 0, &[1; 8]);
    }
    session.feed(0, &wire);
    session.poll(0);
    assert!(!session.wants_input());
    let mut pongs = 0;
    loop {
        assert!(session.output_bytes() <= 100 + (32 << 10));
        let Some(output) = session.take_output() else { break };
        let is_pong = |frame: &wire::Frame| frame.kind == wire::PING && frame.flags == 1;
        pongs += wire::frames(&output).iter().filter(|frame| is_pong(frame)).count();
        session.poll(0);
    }
    assert_eq!(pongs, 10_000);
    assert!(session.wants_input() && !session.needs_poll());
}

#[test]
fn head_gets_a_head_and_small_pieces_share_frames() {
    let mut pair = Pair::new(H2Limits::default());
    let (mut head, _) = pair.request("HEAD", true);
    pair.run(|session, event| {
        if let H2Event::Request { stream, .. } = event {
            let response = http::Response::builder().header("content-length", 5).body(()).unwrap();
            session.respond(stream, response, true).unwrap();
        }
    });
    let answer = response(&mut head).unwrap().unwrap();
    assert_eq!(answer.headers()["content-length"], "5");
    assert!(answer.body().is_end_stream());

    let mut session = H2Session::new(H2Limits::default());
    let mut wire = wire::preface();
    wire::frame(&mut wire, wire::HEADERS, wire::END_STREAM | wire::END_HEADERS, 1, wire::GET);
    session.feed(0, &wire);
    session.poll(0);
    let [H2Event::Request { stream, .. }] = events(&mut session)[..] else { panic!() };
    session.respond(stream, ok(), false).unwrap();
    for i in 0..100u8 {
        assert!(session.send_data(stream, Bytes::from(vec![i; 10]), i == 99).is_ok());
    }
    session.poll(0);
    let frames = wire::frames(&session.take_output().unwrap());
    let data: Vec<_> = frames.iter().filter(|frame| frame.kind == wire::DATA).collect();
    assert_eq!(data.len(), 1, "one frame for a hundred small pieces");
    let expected: Vec<u8> = (0..100u8).flat_map(|i| [i; 10]).collect();
    assert_eq!((&data[0].payload, data[0].flags), (&expected, wire::END_STREAM));
}

#[test]
fn a_cancelled_stream_is_told_and_drops_what_was_queued() {
    let mut builder = ::h2::client::Builder::new();
    builder.initial_window_size(0);
    let mut pair = Pair::with(H2Limits::default(), usize::MAX, builder);
    let (answer, mut send) = pair.request("GET", true);
    let mut key = None;
    pair.run(|session, event| {
        if let H2Event::Request { stream, .. } = event {
            key = Some(stream);
            session.respond(stream, ok(), false).unwrap();
            session.send_data(stream, Bytes::from_static(b"never read"), false).unwrap();
        }
    });
    let key = key.unwrap();
    assert_eq!(pair.server.queued_bytes_total(), 10);
    send.send_reset(Reason::CANCEL);
    drop(answer);
    let mut seen = None;
    pair.run(|_, event| {
        if let H2Event::Reset { stream, reason } = event {
            seen = Some((stream, reason));
        }
    });
    assert_eq!(seen, Some((key, Some(Reason::CANCEL))));
    assert_eq!((pair.server.queued_bytes_total(), pair.server.stream_count()), (0, 0));
    assert_eq!(pair.server.send_data(key, Bytes::new(), true), Err(SendError::Gone));
    assert_eq!(pair.server.release(key, 1), 0);
    // The next one in the same slot is not the old one.
    let _next = pair.request("GET", true);
    let mut next = None;
    pair.run(|_, event| {
        if let H2Event::Request { stream, .. } = event {
            next = Some(stream);
        }
    });
    let next = next.unwrap();
    assert_eq!(next.slot, key.slot);
    assert_ne!(next, key);
    assert_eq!(pair.server.respond(key, ok(), true), Err(SendError::Gone));
}

#[test]
fn an_early_answer_ends_the_body_without_an_error_and_frees_the_window() {
    let limits = H2Limits {
        stream_window_bytes: 65_535,
        connection_window_bytes: 65_535,
        ..H2Limits::default()
    };
    let mut pair = Pair::new(limits);
    for _ in 0..10 {
        let (mut answer, mut send) = pair.request("POST", false);
        send.send_data(Bytes::from(vec![1; 60_000]), false).unwrap();
        let mut data_after_answer = 0;
        let mut answered = false;
        pair.run(|session, event| match event {
            H2Event::Request { stream, .. } => {
                let head = http::Response::builder().status(413).body(()).unwrap();
                session.respond(stream, head, true).unwrap();
                answered = true;
            }
            H2Event::Data { .. } | H2Event::End { .. } if answered => data_after_answer += 1,
            H2Event::Reset { .. } => panic!("the caller ended it"),
            _ => {}
        });
        assert_eq!(response(&mut answer).unwrap().unwrap().status(), 413);
        assert_eq!(data_after_answer, 0);
        let Poll::Ready(Ok(reason)) = send.poll_reset(&mut cx()) else { panic!("not reset") };
        assert_eq!(reason, Reason::NO_ERROR);
    }
    // Ten times the connection window went through.
    check_echo(&mut pair, b"still alive");
}

#[test]
fn goaway_lets_open_streams_finish_and_then_closes() {
    let mut pair = Pair::new(H2Limits::default());
    let (mut answer, _send) = pair.request("GET", true);
    let mut key = None;
    pair.run(|session, event| {
        if let H2Event::Request { stream, .. } = event {
            key = Some(stream);
            session.respond(stream, ok(), false).unwrap();
        }
    });
    pair.server.goaway();
    pair.server.goaway();
    let mut echo = Echo::default();
    pair.run(|session, event| echo.handle(session, event));
    assert!(echo.closed.is_empty() && !pair.server.is_finished());
    pair.server.send_data(key.unwrap(), Bytes::from_static(b"bye"), true).unwrap();
    pair.run(|session, event| echo.handle(session, event));
    let mut got = Vec::new();
    let mut body = response(&mut answer).unwrap().unwrap().into_body();
    assert!(read_body(&mut body, &mut got, true).unwrap());
    assert_eq!(got, b"bye");
    assert_eq!(echo.closed, [None]);
    assert!(pair.server.is_finished() && !pair.server.needs_poll());
}

#[test]
fn a_ping_is_answered_once_and_finds_out_that_the_peer_lives() {
    let mut pair = Pair::new(H2Limits::default());
    let mut echo = Echo::default();
    assert!(!pair.server.ping(), "nobody to ask before the handshake");
    assert!(!pair.server.is_open());
    pair.run(|session, event| echo.handle(session, event));
    assert!(pair.server.is_open());
    for round in 1..4 {
        assert!(pair.server.ping());
        assert!(!pair.server.ping(), "one is under way");
        pair.run(|session, event| echo.handle(session, event));
        assert_eq!(echo.pongs, round);
    }
    let mut pings = pair.client_pings();
    pings.send_ping(::h2::Ping::opaque()).unwrap();
    pair.run(|session, event| echo.handle(session, event));
    assert!(pings.poll_pong(&mut cx()).is_ready());
    assert_eq!(echo.pongs, 3);
}

#[test]
fn calls_in_the_wrong_order_are_refused_and_harm_nobody() {
    let mut pair = Pair::new(H2Limits::default());
    let (_a, _b) = (pair.request("GET", true), pair.request("GET", true));
    let mut keys = Vec::new();
    pair.run(|_, event| {
        if let H2Event::Request { stream, .. } = event {
            keys.push(stream);
        }
    });
    let [a, b] = keys[..] else { panic!() };
    let server = &mut pair.server;
    let data = || Bytes::from_static(b"x");
    assert_eq!(server.send_data(a, data(), false), Err(SendError::Order));
    server.respond(a, ok(), false).unwrap();
    assert_eq!(server.respond(a, ok(), false), Err(SendError::Order));
    assert_eq!(server.send_data(a, data(), true), Ok(1));
    assert_eq!(server.send_data(a, data(), false), Err(SendError::Order));
    let bad = http::Response::builder().header("connection", "close").body(()).unwrap();
    assert_eq!(server.respond(b, bad, true), Err(SendError::BadHead));
    assert_eq!(server.respond(b, ok(), true), Err(SendError::Gone));
    let never = StreamKey { slot: 9, generation: 9 };
    assert_eq!(server.respond(never, ok(), true), Err(SendError::Gone));
    server.reset(never, Reason::CANCEL);
    check_echo(&mut pair, b"alive");
}

#[test]
fn an_end_of_input_ends_open_streams_and_the_session() {
    for (in_frame, expected) in [(false, None), (true, Some(H2Error::PeerClosed))] {
        let mut session = H2Session::new(H2Limits::default());
        let mut wire = wire::preface();
        wire::frame(&mut wire, wire::HEADERS, wire::END_HEADERS, 1, wire::POST);
        if in_frame {
            wire.extend_from_slice(&[0, 0, 200, 0]);
        }
        session.feed(0, &wire);
        session.poll(0);
        assert!(matches!(events(&mut session)[..], [H2Event::Request { .. }]));
        session.end_input();
        session.poll(0);
        let seen = events(&mut session);
        assert!(matches!(seen[0], H2Event::Reset { .. }), "{seen:?}");
        assert_eq!(closed(&seen), Some(expected), "{seen:?}");
        assert!(session.is_finished());
        session.poll(0);
        session.feed(0, b"more");
        assert!(session.next_event().is_none());
    }
}
