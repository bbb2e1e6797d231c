use super::*;
use proptest::prelude::*;

/// Feeds `pieces` and gives the first request with the bytes taken in all, or the error.
fn feed(limits: Limits, pieces: &[&[u8]]) -> Result<Option<(Request, usize)>, HeadError> {
    let mut parser = RequestParser::new(limits);
    let mut consumed = 0;
    for piece in pieces {
        let (taken, request) = parser.feed(piece)?;
        consumed += taken;
        if let Some(request) = request {
            assert!(parser.is_idle() && parser.buffered_bytes() == 0);
            return Ok(Some((request, consumed)));
        }
        assert_eq!(taken, piece.len(), "without a request everything is taken");
        assert!(parser.buffered_bytes() <= 2 * usize::from(limits.head_bytes_max));
    }
    Ok(None)
}

/// The outcome for the whole input, after checking that every split of it in two and every byte
/// alone give the same.
fn check_with(limits: Limits, input: &[u8]) -> Result<Option<(Request, usize)>, HeadError> {
    let whole = feed(limits, &[input]);
    for split in 1..input.len() {
        let (a, b) = input.split_at(split);
        assert_eq!(feed(limits, &[a, b]), whole, "split at {split}: {:?}", show(input));
    }
    let bytes: Vec<_> = input.chunks(1).collect();
    assert_eq!(feed(limits, &bytes), whole, "byte by byte: {:?}", show(input));
    whole
}

fn show(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

fn check(input: &[u8]) -> Result<Request, HeadError> {
    check_with(Limits::default(), input)
        .map(|parsed| parsed.unwrap_or_else(|| panic!("incomplete: {}", show(input))).0)
}

fn ok(input: &str) -> Request {
    check(input.as_bytes()).unwrap_or_else(|e| panic!("{}: {e}", show(input.as_bytes())))
}

fn refused(input: &[u8]) -> HeadError {
    match check(input) {
        Err(error) => error,
        Ok(_) => panic!("taken: {}", show(input)),
    }
}

#[test]
fn a_head_is_read_the_same_at_every_split() {
    let head = "POST /v1/events?ack=durable HTTP/1.1\r\nHost: a.example:8000\r\n\
                Content-TYPE: application/json\r\nContent-Length: 2\r\nEmpty:\r\nX:  a b \t\r\n\r\n";
    let (request, consumed) =
        check_with(Limits::default(), format!("{head}{{}}GET").as_bytes()).unwrap().unwrap();
    assert_eq!(consumed, head.len(), "the body and the next request stay with the caller");
    assert_eq!(request.method(), "POST");
    assert_eq!(request.target(), "/v1/events?ack=durable");
    assert_eq!((request.path(), request.query()), ("/v1/events", Some("ack=durable")));
    assert_eq!(request.host(), "a.example:8000");
    assert_eq!(request.header("content-type"), Some(&b"application/json"[..]));
    assert_eq!(request.header("CONTENT-Type"), Some(&b"application/json"[..]));
    assert_eq!(request.header_str("empty"), Some(""));
    assert_eq!(request.header_str("x"), Some("a b"));
    assert_eq!(request.header("y"), None);
    assert_eq!(request.body, Body::Length(2));
    assert!(request.keep_alive && !request.expect_continue && !request.upgrade_websocket);
    let names: Vec<_> = request.fields().iter().map(|(name, _)| name.to_owned()).collect();
    assert_eq!(names, ["host", "content-type", "content-length", "empty", "x"]);
}

#[test]
fn pipelined_requests_come_out_one_by_one() {
    let input = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\nGET /3";
    for piece in [1, 2, 3, 7, input.len()] {
        let mut parser = RequestParser::new(Limits::default());
        let mut paths = Vec::new();
        for bytes in input.chunks(piece) {
            let mut rest = bytes;
            while !rest.is_empty() {
                let (taken, request) = parser.feed(rest).unwrap();
                rest = &rest[taken..];
                paths.extend(request.map(|request| request.path().to_owned()));
            }
        }
        assert_eq!(paths, ["/1", "/2"]);
        assert!(!parser.is_idle());
    }
}

#[test]
fn smuggling_shapes_are_refused_with_their_reason() {
    use HeadError::*;
    let post =
        |fields: &str| refused(format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes());
    for (fields, expected) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", LengthAndChunked),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", LengthAndChunked),
        ("Transfer-Encoding: gzip\r\nContent-Length: 0\r\n", LengthAndChunked),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", ContentLengthRepeated),
        ("Content-Length: 5\r\nContent-Length: 05\r\n", ContentLengthRepeated),
        ("Content-Length: 5\r\nContent-Length: x\r\n", ContentLengthRepeated),
        ("Content-Length: 5, 5\r\n", ContentLengthInvalid),
        ("Content-Length: +5\r\n", ContentLengthInvalid),
        ("Content-Length: -5\r\n", ContentLengthInvalid),
        ("Content-Length: 0x5\r\n", ContentLengthInvalid),
        ("Content-Length: 5 5\r\n", ContentLengthInvalid),
        ("Content-Length: 5.0\r\n", ContentLengthInvalid),
        ("Content-Length:\r\n", ContentLengthInvalid),
        ("Content-Length: 18446744073709551616\r\n", ContentLengthInvalid),
        ("Content-Length: \u{665}\r\n", ContentLengthInvalid),
        ("Transfer-Encoding: identity\r\n", TransferEncodingInvalid),
        ("Transfer-Encoding: xchunked\r\n", TransferEncodingInvalid),
        ("Transfer-Encoding: \"chunked\"\r\n", TransferEncodingInvalid),
        ("Transfer-Encoding: chunked, gzip\r\n", TransferEncodingInvalid),
        ("Transfer-Encoding: chunked, chunked\r\n", TransferEncodingInvalid),
        ("Transfer-Encoding: chunked,\r\n", TransferEncodingInvalid),
        ("Transfer-Encoding: , chunked\r\n", TransferEncodingInvalid),
        ("Transfer-Encoding: chunked;q=1\r\n", TransferEncodingInvalid),
        ("Transfer-Encoding:\r\n", TransferEncodingInvalid),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", TransferEncodingInvalid),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", TransferEncodingInvalid),
        ("Transfer-Encoding: gzip, chunked\r\n", TransferEncodingUnsupported),
        ("Transfer-Encoding: \x0bchunked\r\n", FieldValue),
        ("Transfer-Encoding : chunked\r\n", FieldName),
        ("Transfer-Encoding\t: chunked\r\n", FieldName),
        ("Transfer-Encoding\x0b: chunked\r\n", FieldName),
        ("Transfer-Encoding:\r\n chunked\r\n", FieldName),
        ("X: a\r\n folded\r\n", FieldName),
        ("X: a\r\n\tfolded\r\n", FieldName),
        (" X: a\r\n", FieldName),
        ("X\r\n", FieldName),
        (": a\r\n", FieldName),
        ("X Y: a\r\n", FieldName),
        ("X: a\nY: b\r\n", BareLf),
        ("X: a\n\r\n", BareLf),
        ("X: a\rY: b\r\n", FieldValue),
        ("X: a\r\r\n", FieldValue),
        ("X: \0\r\n", FieldValue),
        ("X: \x7f\r\n", FieldValue),
        ("X: \x1b[31m\r\n", FieldValue),
        ("Expect: 100-continue, x\r\n", Expectation),
        ("Expect: nonsense\r\n", Expectation),
    ] {
        assert_eq!(post(fields), expected, "{fields:?}");
    }
    assert_eq!(
        refused(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        TransferEncodingInHttp10
    );
}

#[test]
fn broken_request_lines_are_refused_with_their_reason() {
    use HeadError::*;
    for (line, expected) in [
        (&b"GET /\r\n"[..], RequestLine),
        (b"GET  / HTTP/1.1\r\n", RequestLine),
        (b"GET /  HTTP/1.1\r\n", RequestLine),
        (b"GET / HTTP/1.1 \r\n", RequestLine),
        (b"GET / http/1.1\r\n", RequestLine),
        (b"GET / HTTP/1.\r\n", RequestLine),
        (b"GET / HTTP/11\r\n", RequestLine),
        (b"GET / HTTP/1.1x\r\n", RequestLine),
        (b"GET / HTTP/01.1\r\n", RequestLine),
        (b"GET\t/ HTTP/1.1\r\n", Method),
        (b"GET /\tHTTP/1.1\r\n", RequestLine),
        (b"GET /a b HTTP/1.1\r\n", RequestLine),
        (b"GET / HTTP/2.0\r\n", Version),
        (b"GET / HTTP/0.9\r\n", Version),
        (b"PRI * HTTP/2.0\r\n", Version),
        (b" GET / HTTP/1.1\r\n", Method),
        (b"G\xc3\x89T / HTTP/1.1\r\n", Method),
        (b"GET: / HTTP/1.1\r\n", Method),
        (b"\x16\x03\x01\x02\x00\x01\r\n", TlsOnPlainPort),
        (b"\x00GET / HTTP/1.1\r\n", Method),
        (b"\rGET / HTTP/1.1\r\n", Method),
        (b"GET / HTTP/1.1\n", BareLf),
        (b"\nGET / HTTP/1.1\r\n", Method),
        (b"\r\n\r\n\r\nGET / HTTP/1.1\r\n", EmptyLines),
        (b"ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG / HTTP/1.1\r\n", MethodTooLong),
        (b"GET a HTTP/1.1\r\n", Target),
        (b"GET * HTTP/1.1\r\n", Target),
        (b"GET /# HTTP/1.1\r\n", Target),
        (b"GET /?a#b HTTP/1.1\r\n", Target),
        (b"GET /<script> HTTP/1.1\r\n", Target),
        (b"GET /\\..\\ HTTP/1.1\r\n", Target),
        (b"GET /\xc3\xa9 HTTP/1.1\r\n", Target),
        (b"GET /\x7f HTTP/1.1\r\n", Target),
        (b"GET /\x00 HTTP/1.1\r\n", Target),
        (b"GET a.example:80 HTTP/1.1\r\n", Target),
        (b"GET ftp://a/ HTTP/1.1\r\n", Target),
        (b"GET http:///a HTTP/1.1\r\n", Target),
        (b"GET http://u@a/ HTTP/1.1\r\n", Target),
        (b"GET http://a:b/ HTTP/1.1\r\n", Target),
        (b"CONNECT / HTTP/1.1\r\n", Target),
        (b"CONNECT http://a/ HTTP/1.1\r\n", Target),
    ] {
        let input = [line, b"Host: a\r\n\r\n"].concat();
        assert_eq!(refused(&input), expected, "{}", show(line));
    }
}

#[test]
fn what_cannot_become_a_request_is_refused_with_its_first_bytes() {
    for (bytes, expected) in [
        (&b"\x16"[..], HeadError::TlsOnPlainPort),
        (b"{\"id\"", HeadError::Method),
        (b"\x81\x85", HeadError::Method),
        (b"GE\x00", HeadError::Method),
        (&[b'A'; 40], HeadError::MethodTooLong),
    ] {
        assert_eq!(check_with(Limits::default(), bytes), Err(expected));
    }
}

#[test]
fn every_host_that_is_not_one_name_is_refused() {
    use HeadError::*;
    let get = |fields: &str| check(format!("GET / HTTP/1.1\r\n{fields}\r\n").as_bytes());
    assert_eq!(get("").err(), Some(HostMissing));
    assert_eq!(get("Host: a\r\nHost: a\r\n").err(), Some(HostRepeated));
    assert_eq!(get("Host: a\r\nhOST: b\r\n").err(), Some(HostRepeated));
    let bad = [
        "",
        "a b",
        "a/b",
        "a@b",
        "a:b",
        "a:1:2",
        "a:65536",
        "a:-1",
        "a:+1",
        ":80",
        "[::1",
        "::1",
        "[::1]x",
        "[::g]",
        "[::1%25eth0]",
        "a\\b",
        "http://a",
        "%",
        "%4",
        "%zz",
        "é",
        "a?b",
        "a#b",
        "a\"b",
    ];
    for host in bad {
        assert_eq!(get(&format!("Host: {host}\r\n")).err(), Some(HostInvalid), "{host}");
    }
    for host in ["a", "a:80", "a:", "127.0.0.1:8000", "[::1]:8000", "[::1]", "a_b.c-d~", "%41"] {
        assert_eq!(get(&format!("Host: {host}\r\n")).unwrap().host(), host);
    }
    assert_eq!(ok("GET / HTTP/1.0\r\n\r\n").host(), "");
    assert_eq!(check(b"GET / HTTP/1.0\r\nHost: a b\r\n\r\n").err(), Some(HostInvalid));
}

#[test]
fn every_form_of_target_names_its_parts() {
    let check = |line: &str, expected: (&str, &str, Option<&str>)| {
        let request = ok(&format!("{line} HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert_eq!((request.host(), request.path(), request.query()), expected, "{line}");
    };
    check("GET /", ("h", "/", None));
    check("GET /a/b?", ("h", "/a/b", Some("")));
    check("GET /a?b?c=/", ("h", "/a", Some("b?c=/")));
    check("GET //evil/", ("h", "//evil/", None));
    check("GET /%zz|[x]?{", ("h", "/%zz|[x]", Some("{")));
    check("GET http://A.example:80/x?y", ("A.example:80", "/x", Some("y")));
    check("GET HTTPS://a", ("a", "/", None));
    check("GET http://a?q", ("a", "/", Some("q")));
    check("GET http://[::1]:1/", ("[::1]:1", "/", None));
    check("OPTIONS *", ("h", "*", None));
    check("CONNECT a:443", ("a:443", "/", None));
}

#[test]
fn what_follows_from_a_head_is_derived_from_all_its_lines() {
    let get = |version: &str, fields: &str| {
        ok(&format!("GET / HTTP/{version}\r\nHost: a\r\n{fields}\r\n"))
    };
    for (version, fields, expected) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: Upgrade, CLOSE\r\n", false),
        ("1.1", "Connection: keep-alive\r\nConnection: close\r\n", false),
        ("1.1", "Connection: closed\r\n", true),
        ("1.9", "", true),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
    ] {
        assert_eq!(get(version, fields).keep_alive, expected, "{version} {fields:?}");
    }
    for (version, fields, expected) in [
        ("1.1", "Upgrade: websocket\r\nConnection: Upgrade\r\n", true),
        ("1.1", "Upgrade: h2c, WebSocket\r\nConnection: keep-alive,upgrade\r\n", true),
        ("1.1", "Upgrade: websocket\r\n", false),
        ("1.1", "Connection: Upgrade\r\n", false),
        ("1.0", "Upgrade: websocket\r\nConnection: Upgrade\r\n", false),
    ] {
        assert_eq!(get(version, fields).upgrade_websocket, expected, "{version} {fields:?}");
    }
    assert!(get("1.1", "Expect: 100-Continue\r\n").expect_continue);
    assert!(!get("1.0", "Expect: 100-continue\r\n").expect_continue);
    assert_eq!(get("1.1", "Transfer-Encoding: Chunked\r\n").body, Body::Chunked);
    assert_eq!(get("1.1", "Content-Length: 007\r\n").body, Body::Length(7));
    assert_eq!(get("1.1", "Content-Length: 7\r\nContent-Length: 7\r\n").body, Body::Length(7));
    assert_eq!(get("1.1", "Content-Length: 18446744073709551615\r\n").body, Body::Length(u64::MAX));
    assert_eq!(get("1.1", "Content_Length: 7\r\n").body, Body::None);
    assert_eq!(get("1.0", "").stream_framing(), Framing::UntilClose);
    assert_eq!(get("1.1", "").stream_framing(), Framing::Chunked);
}

#[test]
fn each_limit_is_named_and_holds_to_the_byte() {
    let limits = Limits { head_bytes_max: 300, target_bytes_max: 40, headers_max: 3 };
    let head = |target: usize, fields: &str| {
        format!("GET /{} HTTP/1.1\r\nHost: a\r\n{fields}\r\n", "a".repeat(target - 1))
    };
    let check = |input: &str| check_with(limits, input.as_bytes()).map(|r| r.map(|r| r.1));
    let fits = head(40, "");
    assert_eq!(check(&fits), Ok(Some(fits.len())));
    assert_eq!(check(&head(41, "")), Err(HeadError::TargetTooLong { bytes_max: 40 }));
    assert_eq!(check(&head(290, "")), Err(HeadError::TargetTooLong { bytes_max: 40 }));
    assert_eq!(check(&"A /".repeat(200)), Err(HeadError::TargetTooLong { bytes_max: 40 }));
    let empty = head(1, "X: \r\n").len();
    let filled = |bytes: usize| head(1, &format!("X: {}\r\n", "x".repeat(bytes - empty)));
    assert_eq!(check(&filled(300)), Ok(Some(300)));
    assert_eq!(check(&filled(301)), Err(HeadError::HeadTooLarge { bytes_max: 300 }));
    assert_eq!(check(&filled(2000)), Err(HeadError::HeadTooLarge { bytes_max: 300 }));
    assert_eq!(check(&head(1, "A:\r\nB:\r\n")).unwrap(), Some(head(1, "A:\r\nB:\r\n").len()));
    assert_eq!(check(&head(1, "A:\r\nB:\r\nC:\r\n")), Err(HeadError::TooManyHeaders { max: 3 }));
    assert_eq!(
        HeadError::TooManyHeaders { max: 3 }.answer(),
        (431, "the request has more than 3 header fields".to_owned())
    );
}

/// Reads a body in pieces: what was read, how much was consumed, and whether it ended.
fn read_body(body: Body, pieces: &[&[u8]]) -> Result<(Vec<u8>, usize, bool), BodyError> {
    let mut reader = BodyReader::new(body);
    let (mut data, mut consumed) = (Vec::new(), 0);
    for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() && !reader.is_finished() {
            let chunk = reader.feed(rest)?;
            assert!(chunk.consumed > 0, "a call with input makes progress");
            assert_eq!(chunk.finished, reader.is_finished());
            data.extend_from_slice(chunk.data);
            consumed += chunk.consumed;
            rest = &rest[chunk.consumed..];
        }
    }
    Ok((data, consumed, reader.is_finished()))
}

fn check_body(body: Body, input: &[u8]) -> Result<(Vec<u8>, usize, bool), BodyError> {
    let whole = read_body(body, &[input]);
    // Every split of a long input says nothing new and takes minutes.
    for split in (1..input.len()).take(200) {
        let (a, b) = input.split_at(split);
        assert_eq!(read_body(body, &[a, b]), whole, "split at {split}: {}", show(input));
    }
    let bytes: Vec<_> = input.chunks(1).collect();
    assert_eq!(read_body(body, &bytes), whole, "byte by byte: {}", show(input));
    whole
}

#[test]
fn a_body_is_the_same_at_every_split_and_ends_where_it_ends() {
    let check = |body, input: &[u8], data: &[u8], left: usize| {
        assert_eq!(
            check_body(body, input),
            Ok((data.to_vec(), input.len() - left, true)),
            "{}",
            show(input)
        );
    };
    check(Body::None, b"GET /", b"", 5);
    check(Body::Length(0), b"GET /", b"", 5);
    check(Body::Length(3), b"abcGET", b"abc", 3);
    check(Body::Chunked, b"0\r\n\r\nGET", b"", 3);
    check(Body::Chunked, b"3\r\nabc\r\n0A\r\n0123456789\r\n000\r\n\r\nGET", b"abc0123456789", 3);
    check(Body::Chunked, b"3;a\r\nabc\r\n0;b=c;d=\"e\\\"\"\r\n\r\n", b"abc", 0);
    check(Body::Chunked, b"1 ; a = b ;c\r\nx\r\n0\r\n\r\n", b"x", 0);
    check(Body::Chunked, b"1\r\nx\r\n0\r\nA: b\r\nC:\r\n\r\nGET", b"x", 3);
}

#[test]
fn broken_chunks_are_refused_with_their_reason() {
    use BodyError::*;
    for (input, expected) in [
        (&b"\r\n"[..], ChunkSize),
        (b"x\r\n", ChunkSize),
        (b" 3\r\nabc\r\n", ChunkSize),
        (b"+3\r\nabc\r\n", ChunkSize),
        (b"-3\r\nabc\r\n", ChunkSize),
        (b"0x3\r\nabc\r\n", ChunkSize),
        (b"3_0\r\nabc\r\n", ChunkSize),
        (b"3,3\r\nabc\r\n", ChunkSize),
        (b"3\nabc\r\n", ChunkSize),
        (b";a\r\n", ChunkSize),
        (b"00000000000000003\r\nabc", ChunkSizeTooLong),
        (b"fffffffffffffffff\r\nabc", ChunkSizeTooLong),
        (b"3 \r\nabc\r\n", ChunkExtension),
        (b"3\t\r\nabc\r\n", ChunkExtension),
        (b"3 3\r\nabc\r\n", ChunkExtension),
        (b"3\rabc\r\n", ChunkExtension),
        (b"3\r\r\nabc", ChunkExtension),
        (b"3;\r\nabc\r\n", ChunkExtension),
        (b"3;a\nabc\r\n", ChunkExtension),
        (b"3;a=\r\nabc\r\n", ChunkExtension),
        (b"3;a=b \r\nabc\r\n", ChunkExtension),
        (b"3;a=\"b\r\n\"\r\nabc\r\n", ChunkExtension),
        (b"3;a=\"\0\"\r\nabc\r\n", ChunkExtension),
        (b"3;a\0\r\nabc\r\n", ChunkExtension),
        (b"3\r\nabcd\r\n", ChunkEnd),
        (b"3\r\nabc\n0\r\n\r\n", ChunkEnd),
        (b"3\r\nabc\r0\r\n\r\n", ChunkEnd),
        (b"3\r\nabc0\r\n\r\n", ChunkEnd),
        (b"0\r\n\n", Trailer),
        (b"0\r\n\rX", Trailer),
        (b"0\r\n X: a\r\n", Trailer),
        (b"0\r\nX : a\r\n", Trailer),
        (b"0\r\nX\r\n", Trailer),
        (b"0\r\nX: a\n\r\n", Trailer),
        (b"0\r\nX: a\r\r\n", Trailer),
        (b"0\r\nX: \0\r\n", Trailer),
        (b"0\r\n: a\r\n", Trailer),
    ] {
        assert_eq!(check_body(Body::Chunked, input), Err(expected), "{}", show(input));
    }
}

#[test]
fn chunk_extensions_and_trailers_are_bounded_over_the_whole_body() {
    let chunks = b"1;aaaaaaa\r\nx\r\n".repeat(1200);
    assert_eq!(check_body(Body::Chunked, &chunks), Err(BodyError::Overhead));
    let trailers = [b"0\r\n".to_vec(), b"X: aaaaaa\r\n".repeat(1000)].concat();
    assert_eq!(check_body(Body::Chunked, &trailers), Err(BodyError::Overhead));
    assert_eq!(BodyError::Overhead.status(), 431);
    let largest = b"ffffffffffffffff\r\nabc";
    assert_eq!(check_body(Body::Chunked, largest), Ok((b"abc".to_vec(), 21, false)));
}

#[test]
fn a_response_is_what_a_client_reads() {
    let mut out = Vec::new();
    let headers = [("Content-Type", "text/event-stream"), ("X", "")];
    write_head(&mut out, 200, &headers, Framing::Chunked, true).unwrap();
    write_chunk(&mut out, b"hello, ");
    write_chunk(&mut out, b"");
    write_chunk(&mut out, &[b'x'; 300]);
    write_last_chunk(&mut out);
    let expected: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX: \r\n\
        transfer-encoding: chunked\r\nconnection: keep-alive\r\n\r\n7\r\nhello, \r\n12c\r\nxxx";
    assert!(out.starts_with(expected), "{}", show(&out));
    for split in 0..out.len() {
        let mut parser = ResponseParser::new(Limits::default());
        let (taken, response) = parser.feed(&out[..split]).unwrap();
        let (response, body_at) = match response {
            Some(response) => (response, taken),
            None => {
                let (taken, response) = parser.feed(&out[split..]).unwrap();
                (response.unwrap(), split + taken)
            }
        };
        assert_eq!((response.status, response.keep_alive), (200, true));
        assert_eq!(response.fields.get_str("content-type"), Some("text/event-stream"));
        let ResponseBody::Framed(body) = response.body else { panic!("framed") };
        let (data, _, finished) = read_body(body, &[&out[body_at..]]).unwrap();
        assert!(finished && data.len() == 307 && data.starts_with(b"hello, xxx"));
    }
}

#[test]
fn response_framing_fits_status_and_client() {
    let check = |status, framing, keep_alive, expected: &str| {
        let mut out = Vec::new();
        write_head(&mut out, status, &[], framing, keep_alive).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    };
    check(
        202,
        Framing::Length(0),
        false,
        "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
    );
    check(
        204,
        Framing::Length(0),
        true,
        "HTTP/1.1 204 No Content\r\nconnection: keep-alive\r\n\r\n",
    );
    check(304, Framing::None, true, "HTTP/1.1 304 Not Modified\r\nconnection: keep-alive\r\n\r\n");
    check(200, Framing::UntilClose, true, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n");
    check(299, Framing::None, true, "HTTP/1.1 299 \r\nconnection: keep-alive\r\n\r\n");
    let mut out = Vec::new();
    write_continue(&mut out);
    let (_, response) = ResponseParser::new(Limits::default()).feed(&out).unwrap();
    assert_eq!(response.unwrap().status, 100);
}

#[test]
fn no_response_field_can_start_another_line() {
    for (name, value, expected) in [
        ("x", "a\r\nset-cookie: b", FieldError::Value),
        ("x", "a\nb", FieldError::Value),
        ("x", "a\rb", FieldError::Value),
        ("x", "a\0b", FieldError::Value),
        ("x", "a\x1b[0m", FieldError::Value),
        ("x: y\r\nz", "a", FieldError::Name),
        ("", "a", FieldError::Name),
        ("x ", "a", FieldError::Name),
        ("Content-Length", "5", FieldError::Reserved),
        ("transfer-encoding", "chunked", FieldError::Reserved),
        ("connection", "close", FieldError::Reserved),
    ] {
        let mut out = b"before".to_vec();
        let headers = [("ok", "fine"), (name, value)];
        let result = write_head(&mut out, 200, &headers, Framing::Length(0), true);
        assert_eq!((result, &out[..]), (Err(expected), &b"before"[..]), "{name:?}: {value:?}");
    }
}

#[test]
fn chunk_heads_are_minimal_hexadecimal() {
    for bytes in [1, 9, 10, 15, 16, 255, 256, 4095, 65_536, usize::MAX] {
        let mut out = Vec::new();
        write_chunk_head(&mut out, bytes);
        assert_eq!(String::from_utf8(out).unwrap(), format!("{bytes:x}\r\n"));
    }
}

#[test]
fn the_preface_is_told_from_http1_at_every_split() {
    let check = |input: &[u8], expected: Sniff| {
        assert_eq!(sniff(input), expected, "{}", show(input));
        for piece in 1..=input.len() {
            let mut sniffer = Sniffer::default();
            let mut seen = 0;
            let answer = input.chunks(piece).map(|bytes| {
                assert_eq!(sniffer.held_back(), &input[..seen]);
                seen += bytes.len();
                sniffer.feed(bytes)
            });
            let answer = answer.into_iter().find(|answer| *answer != Sniff::NeedMore);
            assert_eq!(answer.unwrap_or(Sniff::NeedMore), expected);
        }
    };
    check(HTTP2_PREFACE, Sniff::Http2);
    check(&[&HTTP2_PREFACE[..], b"\0\0\0"].concat(), Sniff::Http2);
    check(&HTTP2_PREFACE[..23], Sniff::NeedMore);
    check(b"P", Sniff::NeedMore);
    check(b"POST / HTTP/1.1\r\n", Sniff::Http1);
    check(b"GET / HTTP/1.1\r\n", Sniff::Http1);
    check(b"PRI * HTTP/2.0\r\n\r\nSX", Sniff::Http1);
    check(b"\x16\x03\x01", Sniff::Http1);
}

#[test]
fn queries_and_paths_are_decoded_strictly() {
    let pairs = |query| {
        query_pairs(query).map(|pair| pair.map(|(k, v)| format!("{k}={v}"))).collect::<Vec<_>>()
    };
    let owned = |text: &str| Ok(text.to_owned());
    assert_eq!(pairs("channel=a&channel=b%3Ac"), [owned("channel=a"), owned("channel=b:c")]);
    assert_eq!(pairs("&&a&=b&c=d=e&"), [owned("a="), owned("=b"), owned("c=d=e")]);
    assert_eq!(pairs("a+b=c%2Bd+"), [owned("a b=c+d ")]);
    assert_eq!(pairs("%C3%A9=%00"), [owned("é=\0")]);
    assert_eq!(pairs("a=%zz&b=1"), [Err(DecodeError::Percent), owned("b=1")]);
    assert_eq!(pairs("a=%&%4=1&+%=x"), vec![Err(DecodeError::Percent); 3]);
    assert_eq!(pairs("a=%ff&%c3=1"), vec![Err(DecodeError::Utf8); 2]);
    assert_eq!(pairs(""), []);
    let path = |path| path_segments(path).collect::<Result<Vec<_>, _>>();
    assert_eq!(path("/v1/channels/a%2Fb+c/ws").unwrap(), ["v1", "channels", "a/b+c", "ws"]);
    assert_eq!(path("/").unwrap(), [""]);
    assert_eq!(path("/a//%2e%2e").unwrap(), ["a", "", ".."]);
    assert_eq!(path("/%").err(), Some(DecodeError::Percent));
    assert_eq!(path("/%+1").err(), Some(DecodeError::Percent));
    assert_eq!(path("/%80").err(), Some(DecodeError::Utf8));
}

proptest! {
    /// Pieces that heads are made of, in any order, cut anywhere.
    #[test]
    fn any_head_at_any_split_gives_the_same(
        parts in prop::collection::vec(prop::sample::select(vec![
            "GET", "POST", " ", "/", "/a?b", "HTTP/1.1", "HTTP/1.0", "\r\n", "\r", "\n", "Host: a",
            "Content-Length: 3", "Transfer-Encoding: chunked", ":", "X: \u{80}", "\t", "GET / HTTP/1.1\r\n",
        ]), 0..24),
        cuts in prop::collection::vec(0usize..200, 0..6),
    ) {
        let input = parts.concat().into_bytes();
        let limits = Limits { head_bytes_max: 120, target_bytes_max: 20, headers_max: 4 };
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(input.len())).collect();
        cuts.sort_unstable();
        let mut pieces = Vec::new();
        let mut from = 0;
        for cut in cuts.into_iter().chain([input.len()]) {
            pieces.push(&input[from..cut]);
            from = cut;
        }
        prop_assert_eq!(feed(limits, &pieces), feed(limits, &[&input]));
    }

    #[test]
    fn any_chunking_reads_back(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8),
    ) {
        let mut wire = Vec::new();
        chunks.iter().for_each(|chunk| write_chunk(&mut wire, chunk));
        write_last_chunk(&mut wire);
        let read = check_body(Body::Chunked, &wire);
        prop_assert_eq!(read, Ok((chunks.concat(), wire.len(), true)));
    }
}
