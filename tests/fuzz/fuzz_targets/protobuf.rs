//! Protobuf events: any split, with and without stops, gives the same items in bounded memory;
//! what was accepted is accepted again when written as JSON.
#![cfg_attr(fuzzing, no_main)]

#[cfg(not(fuzzing))]
fn main() {}

#[cfg(fuzzing)]
#[path = "../shared/events.rs"]
mod events;

#[cfg(fuzzing)]
mod target {
    use super::events::{DATA_BYTES_MAX, Decoded, reads_again, show, take, with};
    use proto::decode::{ENVELOPE_BYTES_MAX, ProtobufDecoder, ProtobufFraming};
    use proto::event::{DataKind, Event};
    use std::ops::ControlFlow;

    fn body(framing: ProtobufFraming, bytes: &[u8], piece: usize, stop: bool) -> Vec<Decoded> {
        with(Some("c"), |context| {
            let mut decoder = ProtobufDecoder::new(framing);
            let mut items = Vec::new();
            let mut sink = |item| {
                take(&mut items, item);
                if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            for mut rest in bytes.chunks(piece) {
                loop {
                    let fed = decoder.feed(context, rest, &mut sink);
                    rest = &rest[fed.consumed..];
                    let spill_max = 2 * (ENVELOPE_BYTES_MAX + DATA_BYTES_MAX) + 64;
                    assert!(decoder.spilled_bytes() <= spill_max);
                    if !fed.stopped {
                        assert!(rest.is_empty());
                        break;
                    }
                }
            }
            decoder.finish(&mut sink);
            assert_eq!(decoder.items(), items.len() as u64);
            items
        })
    }

    pub fn run(data: &[u8]) {
        let Some((mode, input)) = data.split_first() else { return };
        let framing =
            if mode % 2 == 0 { ProtobufFraming::Batch } else { ProtobufFraming::Delimited };
        let whole = body(framing, input, input.len().max(1), false);
        let shown = show(&whole);
        assert_eq!(show(&body(framing, input, 1, true)), shown);
        assert_eq!(show(&body(framing, input, 2 + usize::from(*mode), *mode % 4 < 2)), shown);
        with(None, |context| {
            // In JSON a string is text only under a type that says so.
            let same = |event: &&Event| event.data_kind() != DataKind::Text;
            whole.iter().flatten().filter(same).for_each(|event| reads_again(context, event));
        });
    }
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
