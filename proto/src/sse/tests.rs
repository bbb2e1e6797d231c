use super::*;
use proptest::prelude::*;

fn parse(pieces: &[&[u8]]) -> (Vec<Event>, Parser) {
    let mut parser = Parser::new(1 << 20);
    let mut events = Vec::new();
    for piece in pieces {
        parser.feed(piece, &mut events).unwrap();
    }
    (events, parser)
}

/// Events, last id, retry and comments of a stream, after checking that every split agrees.
fn read(input: &[u8]) -> (Vec<Event>, String, Option<u64>, u64) {
    let summary = |(events, parser): (Vec<Event>, Parser)| {
        (events, parser.last_event_id().to_owned(), parser.retry_ms(), parser.comments())
    };
    let whole = summary(parse(&[input]));
    for split in (1..input.len()).take(300) {
        let (a, b) = input.split_at(split);
        assert_eq!(summary(parse(&[a, b])), whole, "split at {split}: {}", input.escape_ascii());
    }
    let bytes: Vec<_> = input.chunks(1).collect();
    assert_eq!(summary(parse(&bytes)), whole, "byte by byte: {}", input.escape_ascii());
    whole
}

fn event(id: &str, event: &str, data: &str) -> Event {
    Event { id: id.into(), event: event.into(), data: data.into() }
}

#[test]
fn streams_are_interpreted_as_the_standard_says() {
    let check = |input: &str, expected: &[Event]| {
        assert_eq!(read(input.as_bytes()).0, expected, "{input:?}");
    };
    let message = |data: &str| event("", "message", data);
    // The examples of WHATWG HTML section 9.2.6.
    check("data: YHOO\ndata: +2\ndata: 10\n\n", &[message("YHOO\n+2\n10")]);
    check(
        ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n",
        &[event("1", "message", "first event"), message("second event")],
    );
    check("data\n\ndata\ndata\n\ndata:", &[message(""), message("\n")]);
    check("data:test\n\ndata: test\n\n", &[message("test"), message("test")]);
    // Line ends, in any mixture.
    check("data: a\r\ndata: b\rdata: c\n\r\n", &[message("a\nb\nc")]);
    check("data: a\r\rdata: b\r\r\n", &[message("a"), message("b")]);
    check("data: a\r\n\r\n\r\ndata: b\n\n", &[message("a"), message("b")]);
    // One byte-order mark.
    check("\u{feff}data: a\n\n", &[message("a")]);
    check("\u{feff}\u{feff}data: a\n\n", &[]);
    check("\n\u{feff}data: a\n\n", &[]);
    check("data: \u{feff}a\n\n", &[message("\u{feff}a")]);
    // Fields.
    check("event: add\ndata: 1\n\ndata: 2\n\n", &[event("", "add", "1"), message("2")]);
    check("event: add\n\ndata: 2\n\n", &[message("2")]);
    check("event: a\nevent: b\ndata: 1\n\n", &[event("", "b", "1")]);
    check(
        "id: 1\ndata: a\n\ndata: b\n\n",
        &[event("1", "message", "a"), event("1", "message", "b")],
    );
    check(
        "id: 1\ndata: a\n\nid: x\0y\ndata: b\n\n",
        &[event("1", "message", "a"), event("1", "message", "b")],
    );
    check("Data: a\ndata : b\n data: c\nx: y\n\n", &[]);
    check("data: a:b: c\n\n", &[message("a:b: c")]);
    check("data: a", &[]);
    check("data: a\n", &[]);
}

#[test]
fn ids_retries_and_comments_count_without_events() {
    assert_eq!(read(b"id: 7\n\n"), (vec![], "7".into(), None, 0));
    assert_eq!(
        read(b"id: 7\n"),
        (vec![], "".into(), None, 0),
        "an unfinished block does not count"
    );
    assert_eq!(read(b"retry: 1500\n\n").2, Some(1500));
    assert_eq!(read(b"retry: 1500\nretry: 1s\nretry: -1\nretry:\nretry: 1.5\n\n").2, Some(1500));
    assert_eq!(read(b"retry: 99999999999999999999\n\n").2, None);
    assert_eq!(read(b":\n\n: a\n:b\n\n").3, 3);
    assert_eq!(read(b"data: \xff\xc3\n\n").0, [event("", "message", "\u{fffd}\u{fffd}")]);
}

#[test]
fn an_endless_line_or_event_is_refused() {
    for input in [&b"data: "[..], b"data: aaaa\n", b"id: ", b": "] {
        let mut parser = Parser::new(1000);
        let mut events = Vec::new();
        let endless = [input, &[b'a'; 1000]].concat();
        let result = endless.iter().try_for_each(|b| parser.feed(&[*b], &mut events));
        assert!(result.is_err(), "{}", input.escape_ascii());
    }
    let mut parser = Parser::new(1000);
    let lines = b"data: aaaaaaaaaa\n".repeat(100);
    assert_eq!(parser.feed(&lines, &mut Vec::new()), Err(ParseError { bytes_max: 1000 }));
    let mut parser = Parser::new(1000);
    let events = b"data: aaaaaaaaaa\n\n".repeat(1000);
    assert_eq!(parser.feed(&events, &mut Vec::new()), Ok(()));
}

#[test]
fn events_are_written_to_the_byte() {
    let check = |id, kind, data: &str, expected: &str| {
        let mut out = Vec::new();
        write_event(&mut out, id, kind, data.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    };
    check(None, None, "{}", "data: {}\n\n");
    check(Some("e:1"), None, "a", "id: e:1\ndata: a\n\n");
    check(Some(""), Some("add"), " a", "id: \nevent: add\ndata:  a\n\n");
    check(None, Some(""), "", "data: \n\n");
    check(
        None,
        None,
        "a\nb\r\nc\rd\n\r\n",
        "data: a\ndata: b\ndata: c\ndata: d\ndata: \ndata: \n\n",
    );
    check(None, Some("error"), "", "event: type:error\ndata: \n\n");
    check(None, Some("open"), "", "event: type:open\ndata: \n\n");
    check(None, Some(EVENT_GAP), "", "event: shardcast.gap\ndata: \n\n");
    check(None, Some("errors"), "", "event: errors\ndata: \n\n");
    let mut out = Vec::new();
    write_retry(&mut out, 2500);
    write_heartbeat(&mut out);
    write_id(&mut out, "m1,-").unwrap();
    write_comment(&mut out, "hi\nthere");
    assert_eq!(out, b"retry: 2500\n\n:\n\nid: m1,-\n\n: hi\n: there\n\n");
    assert_eq!(read(&out), (vec![], "m1,-".into(), Some(2500), 3));
}

#[test]
fn no_id_or_type_can_start_another_line() {
    for bad in ["a\nb", "a\rb", "a\0b", "\n", "a\r\ndata: forged"] {
        let mut out = b"before".to_vec();
        assert_eq!(write_event(&mut out, Some(bad), None, b"x"), Err(SseError::Id));
        assert_eq!(write_event(&mut out, Some("1"), Some(bad), b"x"), Err(SseError::EventType));
        assert_eq!(write_id(&mut out, bad), Err(SseError::Id));
        assert_eq!(out, b"before");
    }
}

#[test]
fn only_our_own_types_are_reserved() {
    for ours in [EVENT_GAP, EVENT_RECOVERED, EVENT_NOTICE, "shardcast."] {
        assert!(is_reserved(ours), "{ours}");
    }
    for free in ["shardcast", "Shardcast.gap", "gap", "", "x.shardcast."] {
        assert!(!is_reserved(free), "{free}");
    }
}

proptest! {
    #[test]
    fn what_is_written_reads_back_with_line_ends_as_lf(
        sent in prop::collection::vec((
            prop::option::of("[^\r\n\0]{0,10}"),
            prop::option::of("[^\r\n\0]{0,10}"),
            "([a-z: é\u{feff}\0]|\r|\n|\r\n){0,30}",
        ), 0..6),
    ) {
        let (mut out, mut expected, mut last_id) = (Vec::new(), Vec::new(), String::new());
        for (id, kind, data) in &sent {
            write_event(&mut out, id.as_deref(), kind.as_deref(), data.as_bytes()).unwrap();
            last_id = id.clone().unwrap_or(last_id);
            let kind = kind.as_deref().filter(|kind| !kind.is_empty()).unwrap_or("message");
            let data = data.replace("\r\n", "\n").replace('\r', "\n");
            expected.push(event(&last_id, wire_type(kind), &data));
        }
        prop_assert_eq!(read(&out).0, expected);
    }
}
