//! MessagePack: `rmpv` agrees on what is MessagePack, a stopped decoder finds the same items, and
//! what was accepted is accepted again when written as JSON.
#![cfg_attr(fuzzing, no_main)]

#[cfg(not(fuzzing))]
fn main() {}

#[cfg(fuzzing)]
#[path = "../shared/events.rs"]
mod events;

#[cfg(fuzzing)]
mod target {
    use super::events::{Decoded, reads_again, show, take, with};
    use proto::decode::{MsgpackDecoder, Progress, RejectCode};
    use std::ops::ControlFlow;

    fn body(channel: Option<&str>, bytes: &[u8], stop: bool) -> Vec<Decoded> {
        with(channel, |context| {
            let mut decoder = MsgpackDecoder::new();
            let mut items = Vec::new();
            while let Progress::Stopped = decoder.decode(context, bytes, |item| {
                take(&mut items, item);
                if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            }) {}
            items
        })
    }

    pub fn run(data: &[u8]) {
        let Some((mode, input)) = data.split_first() else { return };
        let channel = (mode % 2 == 0).then_some("c");
        let whole = body(channel, input, false);
        assert_eq!(show(&body(channel, input, true)), show(&whole));
        let broken = whole.iter().filter_map(|item| item.as_ref().err());
        let broken = broken.filter(|r| r.code == RejectCode::InvalidMsgpack).count();
        // It takes no nesting beyond its own limit, and allocates what an array announces.
        let mut rest = input;
        let theirs = rmpv::decode::read_value_ref_with_max_depth(&mut rest, 200);
        match theirs {
            // The byte that is no type is nil to them.
            _ if input.contains(&0xc1) => {}
            Ok(_) => assert_eq!(broken, usize::from(!rest.is_empty())),
            Err(rmpv::decode::Error::DepthLimitExceeded) => {}
            Err(error) => assert_eq!(broken, 1, "{error}"),
        }
        with(None, |context| {
            whole.iter().flatten().for_each(|event| reads_again(context, event));
        });
    }
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
