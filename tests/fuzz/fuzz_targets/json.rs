//! JSON envelopes: `serde_json` agrees on what is JSON, a stopped decoder finds the same items,
//! and what was accepted is accepted again when written out.
#![cfg_attr(fuzzing, no_main)]

#[cfg(not(fuzzing))]
fn main() {}

#[cfg(fuzzing)]
#[path = "../shared/events.rs"]
mod events;

#[cfg(fuzzing)]
mod target {
    use super::events::{body, reads_again, show, with};
    use proto::decode::{BodyShape, RejectCode};
    use serde_json::value::RawValue;

    pub fn run(data: &[u8]) {
        let Some((mode, input)) = data.split_first() else { return };
        let channel = (mode % 2 == 0).then_some("c");
        let whole = body(BodyShape::Envelopes, channel, input, false);
        assert_eq!(show(&body(BodyShape::Envelopes, channel, input, true)), show(&whole));
        let codes: Vec<RejectCode> =
            whole.iter().filter_map(|item| item.as_ref().err()).map(|r| r.code).collect();
        match serde_json::from_slice::<&RawValue>(input) {
            Ok(_) => {
                let syntax = [RejectCode::InvalidJson, RejectCode::InvalidUtf8];
                assert!(!codes.iter().any(|code| syntax.contains(code)), "{codes:?}");
            }
            Err(error) => assert!(!codes.is_empty(), "{error}"),
        }
        with(None, |context| {
            whole.iter().flatten().for_each(|event| reads_again(context, event));
        });
    }
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
