//! WebSocket: any bytes at any split give the same messages and error, in both roles, with and
//! without permessage-deflate, and what is buffered follows what was received. What is compressed
//! expands to what it was, whatever the inflater did before.
#![cfg_attr(fuzzing, no_main)]

#[cfg(not(fuzzing))]
fn main() {}

#[cfg(fuzzing)]
mod target {
    use proto::ws::deflate::{Deflater, Inflater, Window};
    use proto::ws::{Decoder, FrameError, Limits, Message, Opcode, Role, write_close, write_frame};

    const MAX: u32 = 1000;
    const LIMITS: Limits = Limits { message_bytes_max: 1000, fragments_max: 16, deflate: false };

    /// The messages, written again as unmasked frames, and how the stream ended.
    fn decode(
        role: Role,
        deflate: bool,
        pieces: &[&[u8]],
        inflater: &mut Inflater,
    ) -> (Vec<u8>, Option<FrameError>) {
        let mut decoder = Decoder::new(role, Limits { deflate, ..LIMITS });
        let (mut scratch, mut frames) = (Vec::new(), Vec::new());
        for piece in pieces {
            let mut rest = *piece;
            while !rest.is_empty() {
                let step = decoder.feed_inflating(rest, &mut scratch, inflater);
                let (taken, message) = match step {
                    Ok(step) => step,
                    Err(error) => return (frames, Some(error)),
                };
                assert!(taken > 0 && (message.is_some() || taken == rest.len()));
                assert!(decoder.buffered_bytes() <= 2500);
                assert!(!decoder.is_idle() || decoder.buffered_bytes() == 0);
                rest = &rest[taken..];
                match message {
                    Some(Message::Text(text)) => {
                        write_frame(&mut frames, Opcode::Text, text.as_bytes());
                    }
                    Some(Message::Binary(data)) => write_frame(&mut frames, Opcode::Binary, data),
                    Some(Message::Ping(data)) => write_frame(&mut frames, Opcode::Ping, data),
                    Some(Message::Pong(data)) => write_frame(&mut frames, Opcode::Pong, data),
                    Some(Message::Close { code, reason }) => {
                        write_close(&mut frames, code.unwrap_or(1005), reason, None);
                    }
                    None => {}
                }
            }
        }
        (frames, None)
    }

    pub fn run(data: &[u8]) {
        let Some((split, input)) = data.split_first() else { return };
        let mut inflater = Inflater::default();
        for (role, deflate) in [
            (Role::Server, false),
            (Role::Server, true),
            (Role::Client, false),
            (Role::Client, true),
        ] {
            let whole = decode(role, deflate, &[input], &mut inflater);
            let bytes: Vec<_> = input.chunks(1).collect();
            assert_eq!(decode(role, deflate, &bytes, &mut inflater), whole);
            let pieces: Vec<_> = input.chunks(2 + usize::from(*split)).collect();
            assert_eq!(decode(role, deflate, &pieces, &mut Inflater::default()), whole);
            // What we would send for what we understood is understood the same.
            let (frames, _) = &whole;
            let again = decode(Role::Client, deflate, &[frames], &mut inflater);
            assert_eq!(again, (frames.clone(), None));
        }
        let mut message = input.to_vec();
        if inflater.inflate(&mut message, MAX).is_ok() {
            assert!(message.len() <= MAX as usize);
        }
        let window = Window::ALL[usize::from(*split) % 3];
        if let Some(compressed) = Deflater::default().compress(window, input) {
            let mut message = compressed.to_vec();
            let expected =
                if input.len() > MAX as usize { Err(FrameError::MessageTooBig) } else { Ok(()) };
            assert_eq!(inflater.inflate(&mut message, MAX), expected);
            assert!(expected.is_err() || message == input);
        }
    }
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
