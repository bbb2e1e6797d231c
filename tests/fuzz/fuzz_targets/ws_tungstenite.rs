//! WebSocket, by two implementations: any bytes give the same messages to our decoder and to
//! tungstenite, in both roles, and what one refuses the other refuses at the same message. Where
//! the two are known to differ it is said below, and only there may they.
#![cfg_attr(fuzzing, no_main)]

#[cfg(not(fuzzing))]
fn main() {}

#[cfg(fuzzing)]
mod target {
    use proto::ws::{Decoder, FrameError, Limits, Message, Opcode, Role, write_frame};
    use std::io::{self, Read, Write};
    use tungstenite::protocol::{self, WebSocket, WebSocketConfig};

    const MAX: usize = 1_000;
    /// Registered, so legal with us; not known to tungstenite.
    const BAD_GATEWAY: u16 = 1_014;

    /// What came, as both can say it.
    #[derive(Debug, Clone, PartialEq)]
    enum Heard {
        Text(String),
        Binary(Vec<u8>),
        Ping(Vec<u8>),
        Pong(Vec<u8>),
        Close(Option<(u16, String)>),
    }

    fn ours(role: Role, mut input: &[u8]) -> (Vec<Heard>, Option<FrameError>) {
        let limits =
            Limits { message_bytes_max: MAX as u32, fragments_max: u16::MAX, deflate: false };
        let mut decoder = Decoder::new(role, limits);
        let (mut scratch, mut heard) = (Vec::new(), Vec::new());
        while !input.is_empty() {
            let (taken, message) = match decoder.feed(input, &mut scratch) {
                Ok(step) => step,
                Err(error) => return (heard, Some(error)),
            };
            input = &input[taken..];
            let Some(message) = message else { break };
            heard.push(match message {
                Message::Text(text) => Heard::Text(text.to_owned()),
                Message::Binary(data) => Heard::Binary(data.to_vec()),
                Message::Ping(data) => Heard::Ping(data.to_vec()),
                Message::Pong(data) => Heard::Pong(data.to_vec()),
                Message::Close { code, reason } => {
                    Heard::Close(code.map(|code| (code, reason.to_owned())))
                }
            });
            if matches!(heard.last(), Some(Heard::Close(_))) {
                break;
            }
        }
        (heard, None)
    }

    /// Input that ends; what is written goes nowhere.
    struct Wire<'a>(&'a [u8]);

    impl Read for Wire<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.0.read(into)
        }
    }

    impl Write for Wire<'_> {
        fn write(&mut self, from: &[u8]) -> io::Result<usize> {
            Ok(from.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The same with tungstenite, and whether it refused something; the end of the input is no
    /// refusal.
    fn theirs(role: Role, input: &[u8]) -> (Vec<Heard>, bool) {
        let role = match role {
            Role::Server => protocol::Role::Server,
            Role::Client => protocol::Role::Client,
        };
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX))
            .max_frame_size(Some(MAX))
            .accept_unmasked_frames(false);
        let mut socket = WebSocket::from_raw_socket(Wire(input), role, Some(config));
        let mut heard = Vec::new();
        loop {
            let message = match socket.read() {
                Ok(message) => message,
                Err(
                    tungstenite::Error::Io(_)
                    | tungstenite::Error::Protocol(
                        tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
                    ),
                ) => return (heard, false),
                Err(_) => return (heard, true),
            };
            match message {
                tungstenite::Message::Text(text) => heard.push(Heard::Text(text.to_string())),
                tungstenite::Message::Binary(data) => heard.push(Heard::Binary(data.to_vec())),
                tungstenite::Message::Ping(data) => heard.push(Heard::Ping(data.to_vec())),
                tungstenite::Message::Pong(data) => heard.push(Heard::Pong(data.to_vec())),
                tungstenite::Message::Close(frame) => {
                    let said = |frame: protocol::CloseFrame| {
                        (u16::from(frame.code), frame.reason.to_string())
                    };
                    heard.push(Heard::Close(frame.map(said)));
                    return (heard, false);
                }
                tungstenite::Message::Frame(_) => unreachable!("frames are not read raw"),
            }
        }
    }

    fn compare(role: Role, input: &[u8]) {
        // What both need to make up their minds: the longest legal frame.
        let padded = [input, &[0; MAX + 14]].concat();
        let (own, error) = ours(role, &padded);
        let (other, refused) = theirs(role, &padded);
        let seen = || format!("{role:?}: {own:?} {error:?}, tungstenite {other:?} {refused}");
        let both = own.len().min(other.len());
        if let Some(Heard::Close(Some((BAD_GATEWAY, _)))) = own.last() {
            assert_eq!(own.len(), other.len(), "{}", seen());
            assert_eq!(own[..both - 1], other[..both - 1], "{}", seen());
            return;
        }
        assert_eq!(own[..both], other[..both], "{}", seen());
        assert!(own.len() <= other.len(), "we heard more: {}", seen());
        let more = &other[both..];
        match error {
            // Not looked at by tungstenite; the length of a control frame in more bytes than it
            // needs is too long with us before it is read.
            Some(
                FrameError::LengthEncoding
                | FrameError::TooManyFragments
                | FrameError::ControlTooLong,
            ) => {}
            // Turned into a close of its own, unless the reason is no text either.
            Some(FrameError::CloseCode) => {
                let closed = matches!(more, [Heard::Close(_)]);
                assert!(closed || more.is_empty() && refused, "{}", seen());
            }
            // We refuse text at its first wrong byte, it may hear control frames before the end.
            Some(FrameError::Utf8) => {
                let control = |it: &Heard| !matches!(it, Heard::Text(_) | Heard::Binary(_));
                assert!(more.iter().all(control), "{}", seen());
            }
            Some(_) => assert!(more.is_empty() && refused, "{}", seen()),
            None => assert!(more.is_empty() && !refused, "{}", seen()),
        }
    }

    /// What we write, it reads.
    fn echo(input: &[u8]) {
        let (heard, _) = ours(Role::Server, input);
        let mut frames = Vec::new();
        for message in &heard {
            match message {
                Heard::Text(text) => write_frame(&mut frames, Opcode::Text, text.as_bytes()),
                Heard::Binary(data) => write_frame(&mut frames, Opcode::Binary, data),
                Heard::Ping(data) => write_frame(&mut frames, Opcode::Ping, data),
                Heard::Pong(data) => write_frame(&mut frames, Opcode::Pong, data),
                Heard::Close(_) => break,
            }
        }
        let (read, refused) = theirs(Role::Client, &frames);
        let sent: Vec<_> = heard.into_iter().filter(|it| !matches!(it, Heard::Close(_))).collect();
        assert_eq!((read, refused), (sent, false));
    }

    pub fn run(input: &[u8]) {
        compare(Role::Server, input);
        compare(Role::Client, input);
        echo(input);
    }
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
