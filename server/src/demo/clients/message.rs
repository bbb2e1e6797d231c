//! Envelopes as the clients need them: position and time, parsed once per distinct message.
//!
//! A thousand clients of a channel get the same bytes one after the other, so remembering the last
//! message of a channel saves nearly all of the parsing, and with it most of the CPU time that the
//! clients would otherwise take from the server they measure.

use proto::position::{Epoch, Position};
use serde::Deserialize;

/// A message from the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// An event and when it was made, in microseconds since the epoch.
    Event {
        /// Where it stands.
        position: Position,
        /// When it was made.
        made_us: i64,
    },
    /// A subscription from now on begins after this position.
    Subscribed(Position),
    /// Everything missed follows.
    Recovered,
    /// Something is gone; the stream goes on after this position.
    Gap(Option<Position>),
    /// Anything else.
    Other,
}

/// The last message of each channel.
pub struct Messages {
    last: Vec<(String, Message)>,
}

impl Messages {
    /// For so many channels.
    pub fn new(channels: usize) -> Self {
        Self { last: vec![(String::new(), Message::Other); channels] }
    }

    /// Decodes a message of a channel.
    pub fn decode(&mut self, channel: u16, text: &str) -> Message {
        let (last, message) = &mut self.last[usize::from(channel)];
        if last != text {
            last.clear();
            last.push_str(text);
            *message = parse(text);
        }
        *message
    }
}

#[derive(Deserialize)]
struct Wire<'a> {
    shardcast: Option<&'a str>,
    epoch: Option<&'a str>,
    offset: Option<u64>,
    position: Option<&'a str>,
    data: Option<Data>,
}

#[derive(Deserialize)]
struct Data {
    /// Milliseconds since the epoch, with fractions.
    t: f64,
}

fn parse(text: &str) -> Message {
    let Ok(wire) = serde_json::from_str::<Wire>(text) else { return Message::Other };
    let position = wire.position.and_then(|text| text.parse().ok());
    match (wire.shardcast, wire.epoch, wire.offset) {
        (None, Some(epoch), Some(offset)) => {
            let Ok(epoch) = u64::from_str_radix(epoch, 16) else { return Message::Other };
            let made_us = wire.data.map_or(0, |data| (data.t * 1_000.0) as i64);
            Message::Event { position: Position { epoch: Epoch(epoch), offset }, made_us }
        }
        (Some("subscribed"), ..) => position.map_or(Message::Other, Message::Subscribed),
        (Some("recovered"), ..) => Message::Recovered,
        (Some("gap"), ..) => Message::Gap(position),
        _ => Message::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_what_the_server_says_and_nothing_else() {
        let at = |offset| Position { epoch: Epoch::new(1, 2), offset };
        let check = |text: &str, expected| assert_eq!(parse(text), expected, "{text}");
        check(
            r#"{"channel":"a:b","epoch":"0000000100000002","offset":7,"id":"x","data":{"t":1.5}}"#,
            Message::Event { position: at(7), made_us: 1_500 },
        );
        let position = r#""position":"0000000100000002:9""#;
        check(
            &format!(r#"{{"shardcast":"subscribed","channel":"a:b",{position}}}"#),
            Message::Subscribed(at(9)),
        );
        check(&format!(r#"{{"shardcast":"recovered",{position}}}"#), Message::Recovered);
        check(
            &format!(r#"{{"shardcast":"gap","reason":"expired",{position}}}"#),
            Message::Gap(Some(at(9))),
        );
        check(r#"{"shardcast":"gap","reason":"unknown"}"#, Message::Gap(None));
        check(r#"{"shardcast":"notice","from":1,"to":2}"#, Message::Other);
        check(r#"{"shardcast":"subscribed"}"#, Message::Other);
        check("", Message::Other);
        check("{", Message::Other);
    }

    #[test]
    fn the_same_bytes_on_another_channel_are_another_message() {
        let mut messages = Messages::new(2);
        assert_eq!(messages.decode(0, r#"{"shardcast":"recovered"}"#), Message::Recovered);
        assert_eq!(messages.decode(1, "{}"), Message::Other);
        assert_eq!(messages.decode(0, r#"{"shardcast":"recovered"}"#), Message::Recovered);
    }
}
