use super::*;
use std::io::Read;
use std::net::TcpListener;
use std::thread::JoinHandle;

/// A server that answers each connection with a script and gives back the request heads.
fn serve(answers: Vec<String>) -> (Server, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = Server { authority: listener.local_addr().unwrap().to_string() };
    let thread = std::thread::spawn(move || {
        let mut heads = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
            heads.push(String::from_utf8(head).unwrap());
        }
        heads
    });
    (server, thread)
}

fn stream(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n\
         {:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    )
}

fn args(json: bool, count: Option<u64>) -> TailArgs {
    TailArgs {
        channels: vec!["orders".into(), "a&b".into()],
        since: Some("1:2".into()),
        url: None,
        json,
        count,
    }
}

const EVENT: &str = r#"{"channel":"orders","epoch":"0000000100000001","offset":3,"type":"order","time":"2026-01-02T03:04:05.678901Z","data":{"n":1}}"#;

#[test]
fn a_cut_is_resumed_with_the_last_id_and_the_count_ends_it() {
    let (server, thread) = serve(vec![
        stream(&format!("retry: 250\nid: p1\ndata: {EVENT}\n\n")),
        stream(&format!("id: p2\ndata: {EVENT}\n\nid: p3\ndata: {EVENT}\n\n")),
    ]);
    let args = args(false, Some(2));
    let mut tail = Tail::new(&args, server);
    let mut out = Vec::new();
    assert!(matches!(tail.follow(&mut out), End::Cut(_)));
    assert_eq!((tail.retry_ms, tail.failures), (250, 0));
    assert_eq!(tail.follow(&mut out), End::Done);
    let heads = thread.join().unwrap();
    assert!(heads[0].starts_with(
        "GET /v1/sse?channel=orders&channel=a%26b&format=envelope&since=1:2 HTTP/1.1\r\n"
    ));
    assert!(!heads[0].contains("Last-Event-ID"));
    assert!(heads[1].contains("\r\nLast-Event-ID: p1\r\n") && !heads[1].contains("since="));
    let line = "03:04:05.678  orders  order  {\"n\":1}\n";
    assert_eq!(String::from_utf8(out).unwrap(), line.repeat(2));
}

#[test]
fn a_refusal_ends_it_and_an_overload_does_not() {
    let body = r#"{"error":{"code":"forbidden","message":"no"}}"#;
    let answer = |status: u16| {
        format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    let (server, thread) = serve(vec![answer(403), answer(503)]);
    let args = args(false, None);
    let mut tail = Tail::new(&args, server);
    match tail.follow(&mut Vec::new()) {
        End::Refused(message) => assert!(message.contains("403") && message.contains("forbidden")),
        end => panic!("{end:?}"),
    }
    assert!(matches!(tail.follow(&mut Vec::new()), End::Cut(_)));
    thread.join().unwrap();
}

#[test]
fn hostile_data_cannot_steer_the_terminal() {
    let check = |line: String| assert!(!line.contains(char::is_control), "{line:?}");
    let hostile = r#"{"channel":"\u001b[2J","type":"a\nb","data":"x\r\u001b]0;t\u0007"}"#;
    check(event_line(hostile));
    check(event_line("\u{1b}[2J not json"));
    check(control_line(r#"{"shardcast":"gap","channel":"\u001b[2J","reason":"\r"}"#));
}

#[test]
fn gaps_and_payloads_read_well() {
    let gap = r#"{"shardcast":"gap","channel":"o","reason":"expired","from":3,"to":9}"#;
    assert_eq!(control_line(gap), "-- gap o: expired (offsets 3 to 9)");
    let check = |data: &str, end: &str| {
        let line = event_line(&format!(r#"{{"channel":"o","time":"",{data}}}"#));
        assert!(line.ends_with(end), "{line}");
    };
    check(r#""data":"plain text""#, "o  -  plain text");
    check(r#""data":null"#, "o  -  null");
    check(r#""data_base64":"AAE=""#, "o  -  base64 AAE=");
}

#[test]
fn json_lines_pass_through_with_gaps_among_them() {
    let gap = r#"{"shardcast":"gap","channel":"o","reason":"expired"}"#;
    let body = format!("event: shardcast.gap\ndata: {gap}\n\nid: p\ndata: {EVENT}\n\n");
    let (server, thread) = serve(vec![stream(&body)]);
    let args = args(true, Some(1));
    let mut tail = Tail::new(&args, server);
    let mut out = Vec::new();
    assert_eq!(tail.follow(&mut out), End::Done);
    assert_eq!(String::from_utf8(out).unwrap(), format!("{gap}\n{EVENT}\n"));
    thread.join().unwrap();
}

#[test]
fn delays_grow_within_bounds() {
    let args = args(false, None);
    let mut tail = Tail::new(&args, Server { authority: String::new() });
    for (failures, least, most) in [(1, 500, 1_000), (3, 2_000, 4_000), (60, 10_000, 20_000)] {
        tail.failures = failures;
        let delay = tail.delay().as_millis() as u64;
        assert!((least..=most).contains(&delay), "{failures}: {delay}");
    }
}
