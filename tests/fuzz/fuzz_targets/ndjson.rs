//! NDJSON: any split, with and without stops, gives the items that the lines give one by one, in
//! bounded memory.
#![cfg_attr(fuzzing, no_main)]

#[cfg(not(fuzzing))]
fn main() {}

#[cfg(fuzzing)]
#[path = "../shared/events.rs"]
mod events;

#[cfg(fuzzing)]
mod target {
    use super::events::{DATA_BYTES_MAX, Decoded, reads_again, show, take, with};
    use proto::decode::{ENVELOPE_BYTES_MAX, Item, NdjsonDecoder, decode_envelope};
    use std::ops::ControlFlow;

    fn lines<'a>(pieces: impl Iterator<Item = &'a [u8]>, stop: bool) -> Vec<Decoded> {
        with(Some("c"), |context| {
            let mut decoder = NdjsonDecoder::new();
            let mut items = Vec::new();
            let mut sink = |item| {
                take(&mut items, item);
                if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            for piece in pieces {
                let mut rest = piece;
                loop {
                    let fed = decoder.feed(context, rest, &mut sink);
                    rest = &rest[fed.consumed..];
                    assert!(
                        decoder.spilled_bytes() <= 2 * (ENVELOPE_BYTES_MAX + 2 * DATA_BYTES_MAX)
                    );
                    if !fed.stopped {
                        assert!(rest.is_empty());
                        break;
                    }
                }
            }
            decoder.finish(context, &mut sink);
            assert_eq!(decoder.items(), items.len() as u64);
            items
        })
    }

    /// The plain meaning of the format: each line that is not blank is one envelope.
    fn one_by_one(input: &[u8]) -> Vec<Decoded> {
        with(Some("c"), |context| {
            let mut items = Vec::new();
            for line in input.split(|b| *b == b'\n').map(<[u8]>::trim_ascii) {
                if !line.iter().all(|b| matches!(b, b' ' | b'\t' | b'\r')) {
                    let index = items.len() as u64;
                    let result = decode_envelope(context, line).map_err(|r| r.at(index));
                    take(&mut items, Item { index, result });
                }
            }
            items
        })
    }

    pub fn run(data: &[u8]) {
        let Some((split, input)) = data.split_first() else { return };
        let whole = lines([input].into_iter(), false);
        let shown = show(&whole);
        assert_eq!(show(&lines(input.chunks(1), true)), shown);
        assert_eq!(show(&lines(input.chunks(2 + usize::from(*split)), *split % 2 == 0)), shown);
        let short = input.len() <= ENVELOPE_BYTES_MAX;
        // Form feeds are white space to `trim_ascii` alone, and a trimmed line counts other bytes.
        if short && !input.contains(&0x0c) {
            let codes = |items: &[Decoded]| -> Vec<_> {
                let code =
                    |item: &Decoded| item.as_ref().map(|e| e.data().to_vec()).map_err(|r| r.code);
                items.iter().map(code).collect()
            };
            assert_eq!(codes(&one_by_one(input)), codes(&whole));
        }
        with(None, |context| {
            whole.iter().flatten().for_each(|event| reads_again(context, event));
        });
    }
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
