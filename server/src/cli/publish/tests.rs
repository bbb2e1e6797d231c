use super::super::args::Ack;
use super::*;
use std::net::TcpListener;
use std::thread::JoinHandle;

/// A server that takes one connection per answer: reads to the end of the chunked body, answers,
/// and gives back what it read.
fn serve(answers: Vec<String>) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let mut requests = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            while !request.ends_with(b"0\r\n\r\n") {
                let count = stream.read(&mut buffer).unwrap();
                assert!(count > 0, "the request ended early: {request:?}");
                request.extend_from_slice(&buffer[..count]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
            requests.push(String::from_utf8(request).unwrap());
        }
        requests
    });
    (url, thread)
}

fn answer(status: u16, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}

fn args(url: &str) -> PublishArgs {
    PublishArgs {
        channel: "orders:eu/1".into(),
        messages: Vec::new(),
        url: Some(url.into()),
        json: false,
        ndjson: false,
        kind: None,
        ack: Ack::Durable,
        quiet: false,
    }
}

/// A publisher that a busy machine does not make split its request.
fn patient<'a>(args: &'a PublishArgs, server: Server) -> Publisher<'a> {
    Publisher { pause: Duration::from_secs(60), ..Publisher::new(args, server) }
}

/// Publishes an input; what the server read, what was printed, what was refused, if all failed.
fn publish(
    change: impl FnOnce(&mut PublishArgs),
    input: &'static [u8],
    reply: String,
) -> (String, String, u64, bool) {
    let (url, thread) = serve(vec![reply]);
    let mut args = args(&url);
    change(&mut args);
    let server = Server::new(args.url.as_deref()).unwrap();
    let mut publisher = patient(&args, server);
    let mut out = Vec::new();
    publisher.run(&lines_of(input), &mut out).unwrap();
    let (refused, failed) = (publisher.refused, publisher.failed);
    let request = thread.join().unwrap().remove(0);
    (request, String::from_utf8(out).unwrap(), refused, failed)
}

/// The chunks of a request put together.
fn body(request: &str) -> String {
    let (_, mut rest) = request.split_once("\r\n\r\n").unwrap();
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        body.push_str(&after[..size]);
        rest = &after[size..][2..];
    }
    body
}

/// Text messages as they are sent, escapes included.
fn texts(messages: &[&str]) -> String {
    let items = messages
        .iter()
        .map(|text| format!("{{\"content_type\":\"text/plain\",\"data\":\"{text}\"}}\n"));
    items.collect()
}

const TAKEN: &str = r#"{"accepted":2,"rejected":0}"#;

#[test]
fn lines_become_events_in_one_streamed_request() {
    let (request, out, refused, failed) = publish(|_| (), b"a \"b\"\r\n\nlast", answer(202, TAKEN));
    assert!(request.starts_with("POST /v1/channels/orders:eu%2F1/events?ack=durable HTTP/1.1\r\n"));
    assert!(request.contains("Transfer-Encoding: chunked\r\n"), "{request}");
    assert_eq!(body(&request), texts(&["a \\\"b\\\"", "", "last"]));
    assert_eq!((out.trim_end(), refused, failed), (TAKEN, 0, false));
}

#[test]
fn a_bad_line_is_refused_by_number_and_its_neighbours_go_out() {
    let json = |args: &mut PublishArgs| {
        args.json = true;
        args.kind = Some("t\"x".into());
    };
    let (request, _, refused, _) = publish(json, b"{\"a\":1}\nnope\n\n[2]\n", answer(202, TAKEN));
    let expected = "{\"type\":\"t\\\"x\",\"data\":{\"a\":1}}\n{\"type\":\"t\\\"x\",\"data\":[2]}\n";
    assert_eq!(body(&request), expected);
    assert_eq!(refused, 1);

    let ndjson = |args: &mut PublishArgs| args.ndjson = true;
    let (request, _, refused, _) =
        publish(ndjson, b"{\"data\":1}\n{\n{\"data\":2}", answer(202, TAKEN));
    assert_eq!(body(&request), "{\"data\":1}\n{\"data\":2}\n");
    assert_eq!(refused, 1);

    let (request, _, refused, _) = publish(|_| (), b"\xff\nok\n", answer(202, TAKEN));
    assert_eq!((body(&request), refused), (texts(&["ok"]), 1));
}

#[test]
fn what_the_server_refuses_shows_in_the_outcome() {
    let some = answer(202, r#"{"accepted":1,"rejected":3}"#);
    assert_eq!(publish(|_| (), b"a\n", some).2, 3);
    let stopped = answer(202, r#"{"accepted":1,"rejected":0,"stopped_at":1}"#);
    assert_eq!(publish(|_| (), b"a\nb\n", stopped).2, 1);
    let (_, out, _, failed) = publish(|_| (), b"a\n", answer(503, "busy\u{1b}[2J"));
    assert!(failed);
    assert_eq!(out, "busy\\u001b[2J\n");
}

#[test]
fn input_that_breaks_does_not_lose_what_was_read() {
    struct Broken(bool);
    impl Read for Broken {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            if std::mem::replace(&mut self.0, true) {
                return Err(io::Error::other("the disk is gone"));
            }
            out[..4].copy_from_slice(b"a\nb\n");
            Ok(4)
        }
    }
    let (url, thread) = serve(vec![answer(202, TAKEN)]);
    let args = args(&url);
    let mut publisher = patient(&args, Server::new(args.url.as_deref()).unwrap());
    let error = publisher.run(&lines_of(Broken(false)), &mut Vec::new()).unwrap_err();
    assert!(error.contains("the disk is gone"), "{error}");
    assert_eq!(body(&thread.join().unwrap()[0]), texts(&["a", "b"]));
}

#[test]
fn nobody_listening_is_said_with_a_remedy() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let args = args(&url);
    let server = Server::new(args.url.as_deref()).unwrap();
    let mut publisher = patient(&args, server);
    let error = publisher.run(&lines_of(&b"a\n"[..]), &mut Vec::new()).unwrap_err();
    assert!(error.contains("shardcast serve"), "{error}");
}
