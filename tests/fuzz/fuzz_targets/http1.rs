//! HTTP/1.1: any bytes at any split give the same requests, bodies and error, and a request that
//! is taken keeps what the rest of the server relies on.
#![cfg_attr(fuzzing, no_main)]

#[cfg(not(fuzzing))]
fn main() {}

#[cfg(fuzzing)]
mod target {
    use proto::http1::{
        BodyError, BodyReader, HeadError, Limits, Request, RequestParser, ResponseParser, Sniff,
        Sniffer, path_segments, query_pairs, sniff, valid_host,
    };

    const LIMITS: Limits = Limits { head_bytes_max: 512, target_bytes_max: 100, headers_max: 8 };

    #[derive(Debug, PartialEq)]
    enum End {
        Open,
        Head(HeadError),
        Body(BodyError),
    }

    /// Reads a whole connection: pipelined requests with their bodies.
    fn read(pieces: &[&[u8]]) -> (Vec<(Request, Vec<u8>)>, End) {
        let mut parser = RequestParser::new(LIMITS);
        let mut body: Option<BodyReader> = None;
        let mut requests: Vec<(Request, Vec<u8>)> = Vec::new();
        for piece in pieces {
            let mut rest = *piece;
            while !rest.is_empty() {
                if let Some(reader) = &mut body {
                    let chunk = match reader.feed(rest) {
                        Ok(chunk) => chunk,
                        Err(error) => return (requests, End::Body(error)),
                    };
                    assert!(chunk.finished || chunk.consumed > 0);
                    requests.last_mut().unwrap().1.extend_from_slice(chunk.data);
                    rest = &rest[chunk.consumed..];
                    if chunk.finished {
                        body = None;
                    }
                    continue;
                }
                match parser.feed(rest) {
                    Ok((taken, request)) => {
                        rest = &rest[taken..];
                        assert!(request.is_some() || rest.is_empty());
                        assert!(parser.buffered_bytes() <= 1024);
                        if let Some(request) = request {
                            assert!(parser.is_idle() && parser.buffered_bytes() == 0);
                            check(&request);
                            let reader = BodyReader::new(request.body);
                            body = Some(reader).filter(|reader| !reader.is_finished());
                            requests.push((request, Vec::new()));
                        }
                    }
                    Err(error) => return (requests, End::Head(error)),
                }
            }
        }
        (requests, End::Open)
    }

    fn check(request: &Request) {
        assert!(!request.method().is_empty());
        assert!(request.path().starts_with('/') || request.path() == "*");
        assert!(request.target().bytes().all(|b| b.is_ascii_graphic()));
        assert!(valid_host(request.host().as_bytes()) || request.version_minor == 0);
        for (name, value) in request.fields().iter() {
            assert!(!name.is_empty() && !name.bytes().any(|b| b.is_ascii_uppercase() || b <= b' '));
            assert!(!value.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)));
        }
        path_segments(request.path()).for_each(drop);
        request.query().into_iter().flat_map(query_pairs).for_each(drop);
    }

    pub fn run(data: &[u8]) {
        let Some((split, input)) = data.split_first() else { return };
        let whole = read(&[input]);
        let bytes: Vec<_> = input.chunks(1).collect();
        assert_eq!(read(&bytes), whole);
        let pieces: Vec<_> = input.chunks(2 + usize::from(*split)).collect();
        assert_eq!(read(&pieces), whole);

        let mut sniffer = Sniffer::default();
        let sniffed = bytes.iter().map(|b| sniffer.feed(b)).find(|s| *s != Sniff::NeedMore);
        assert_eq!(sniffed.unwrap_or(Sniff::NeedMore), sniff(input));
        let _ = ResponseParser::new(LIMITS).feed(input);
    }
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
