//! Server-sent events: any bytes at any split parse to the same events, and any text that is
//! written parses back to itself, with its line ends as LF.
#![cfg_attr(fuzzing, no_main)]

#[cfg(not(fuzzing))]
fn main() {}

#[cfg(fuzzing)]
mod target {
    use proto::sse::{Event, ParseError, Parser, wire_type, write_event};

    fn parse(pieces: &[&[u8]]) -> (Vec<Event>, Result<(), ParseError>, String, Option<u64>) {
        let mut parser = Parser::new(1000);
        let mut events = Vec::new();
        let result = pieces.iter().try_for_each(|piece| parser.feed(piece, &mut events));
        (events, result, parser.last_event_id().to_owned(), parser.retry_ms())
    }

    fn write_and_read(text: &str) {
        let (head, data) = text.split_once('\u{1}').unwrap_or(("", text));
        let (id, kind) = head.split_once('\u{2}').unwrap_or((head, ""));
        let mut out = Vec::new();
        let written = write_event(&mut out, Some(id), Some(kind), data.as_bytes());
        if [id, kind].iter().any(|text| text.contains(['\r', '\n', '\0'])) {
            assert!(written.is_err() && out.is_empty());
            return;
        }
        written.unwrap();
        let mut events = Vec::new();
        Parser::new(usize::MAX).feed(&out, &mut events).unwrap();
        let expected = Event {
            id: id.to_owned(),
            event: wire_type(if kind.is_empty() { "message" } else { kind }).to_owned(),
            data: data.replace("\r\n", "\n").replace('\r', "\n"),
        };
        assert_eq!(events, [expected]);
    }

    pub fn run(data: &[u8]) {
        let Some((split, input)) = data.split_first() else { return };
        let whole = parse(&[input]);
        let bytes: Vec<_> = input.chunks(1).collect();
        assert_eq!(parse(&bytes), whole);
        let pieces: Vec<_> = input.chunks(2 + usize::from(*split)).collect();
        assert_eq!(parse(&pieces), whole);
        if let Ok(text) = std::str::from_utf8(input) {
            write_and_read(text);
        }
    }
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
