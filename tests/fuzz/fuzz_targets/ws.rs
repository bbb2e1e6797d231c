//! WebSocket: any bytes at any split give the same messages and error, in both roles, and what is
//! buffered follows what was received.
#![cfg_attr(fuzzing, no_main)]

#[cfg(not(fuzzing))]
fn main() {}

#[cfg(fuzzing)]
mod target {
    use proto::ws::{Decoder, FrameError, Limits, Message, Opcode, Role, write_close, write_frame};

    const LIMITS: Limits = Limits { message_bytes_max: 1000, fragments_max: 16 };

    /// The messages, written again as unmasked frames, and how the stream ended.
    fn decode(role: Role, pieces: &[&[u8]]) -> (Vec<u8>, Option<FrameError>) {
        let mut decoder = Decoder::new(role, LIMITS);
        let (mut scratch, mut frames) = (Vec::new(), Vec::new());
        for piece in pieces {
            let mut rest = *piece;
            while !rest.is_empty() {
                let (taken, message) = match decoder.feed(rest, &mut scratch) {
                    Ok(step) => step,
                    Err(error) => return (frames, Some(error)),
                };
                assert!(taken > 0 && (message.is_some() || taken == rest.len()));
                assert!(decoder.buffered_bytes() <= 2200);
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
        for role in [Role::Server, Role::Client] {
            let whole = decode(role, &[input]);
            let bytes: Vec<_> = input.chunks(1).collect();
            assert_eq!(decode(role, &bytes), whole);
            let pieces: Vec<_> = input.chunks(2 + usize::from(*split)).collect();
            assert_eq!(decode(role, &pieces), whole);
            // What we would send for what we understood is understood the same.
            let (frames, _) = &whole;
            assert_eq!(decode(Role::Client, &[frames]), (frames.clone(), None));
        }
    }
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
