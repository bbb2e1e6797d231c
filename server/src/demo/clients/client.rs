//! One client as a state machine: bytes in, bytes out, and the proof of what it received.
//!
//! It trusts nothing the server says about completeness: every event's offset is compared with the
//! one that must come next. An offset that is skipped is lost, announced or not; one that comes
//! again is doubled. No socket, no clock: see `run.rs` for both.

use super::message::{Message, Messages};
use super::report::Totals;
use proto::http1::{Limits as HeadLimits, ResponseParser};
use proto::position::Position;
use proto::ws::handshake::{ClientKey, write_request};
use proto::ws::{self, Decoder, Limits, Role};

/// Where a client is in the life of its connection.
enum Phase {
    /// No connection.
    Away,
    /// The request is out.
    Upgrading(Box<(ClientKey, ResponseParser)>),
    /// A WebSocket; subscribed once the server said where the subscription stands.
    Open { subscribed: bool },
}

/// A client of one channel.
pub struct Client {
    phase: Phase,
    decoder: Decoder,
    /// Index of its channel.
    pub channel: u16,
    /// The last event received; the next one must be the one after it. None before the first
    /// subscription ever.
    position: Option<Position>,
    /// What it counted.
    pub totals: Totals,
    round: RoundPart,
}

/// A client's part in a round.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RoundPart {
    /// It was not there when the round began, or is done with it.
    None,
    /// It was there and is still connected.
    Waiting,
    /// It was cut.
    Cut,
    /// It came back and missed nothing.
    Resumed,
    /// It came back and was told of a gap.
    Gapped,
}

/// Why a connection cannot go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut;

/// What receipt of bytes needs of the world around.
pub struct Surroundings<'a> {
    /// Decodes each distinct message once.
    pub messages: &'a mut Messages,
    /// For frames; shared by all clients.
    pub scratch: &'a mut Vec<u8>,
    /// What is to be sent back.
    pub out: &'a mut Vec<u8>,
    /// A fresh masking key.
    pub mask: [u8; 4],
    /// Called with the time each event was made, in microseconds since the epoch.
    pub on_event: &'a mut dyn FnMut(i64),
}

impl Client {
    /// A client that has never been connected.
    pub fn new(channel: u16) -> Self {
        Self {
            phase: Phase::Away,
            decoder: Decoder::new(Role::Client, LIMITS),
            channel,
            position: None,
            totals: Totals::default(),
            round: RoundPart::None,
        }
    }

    /// The connection stands: appends the request.
    pub fn open(&mut self, host: &str, channel: &str, nonce: [u8; 16], out: &mut Vec<u8>) {
        let since = self.position.map(|at| format!("&since={at}")).unwrap_or_default();
        let target = format!("/v1/channels/{channel}/ws?format=envelope{since}");
        let key = write_request(out, host, &target, nonce, &[]).expect("our own names are legal");
        self.decoder = Decoder::new(Role::Client, LIMITS);
        let parser = ResponseParser::new(HeadLimits::default());
        self.phase = Phase::Upgrading(Box::new((key, parser)));
    }

    /// The connection is gone.
    pub fn cut(&mut self) {
        if matches!(self.phase, Phase::Open { .. }) {
            self.totals.cuts += 1;
        }
        self.phase = Phase::Away;
        if self.round == RoundPart::Waiting {
            self.round = RoundPart::Cut;
        }
    }

    /// Takes what arrived.
    pub fn receive(&mut self, mut input: &[u8], around: &mut Surroundings) -> Result<(), Cut> {
        if let Phase::Upgrading(upgrade) = &mut self.phase {
            let (key, parser) = &mut **upgrade;
            let (consumed, response) = parser.feed(input).map_err(|_| Cut)?;
            let Some(response) = response else { return Ok(()) };
            if !key.is_accepted(&response) {
                return Err(Cut);
            }
            self.phase = Phase::Open { subscribed: false };
            input = &input[consumed..];
        }
        while !input.is_empty() {
            let decoded = self.decoder.feed(input, around.scratch).map_err(|_| Cut)?;
            let (consumed, message) = decoded;
            input = &input[consumed..];
            match message {
                Some(ws::Message::Text(text)) => {
                    let message = around.messages.decode(self.channel, text);
                    self.take(message, around.on_event);
                }
                Some(ws::Message::Ping(payload)) => {
                    let (pong, mask) = (ws::Opcode::Pong, Some(around.mask));
                    ws::write_frame_with(around.out, pong, true, mask, payload);
                }
                Some(ws::Message::Close { .. }) => return Err(Cut),
                Some(ws::Message::Binary(_) | ws::Message::Pong(_)) | None => {}
            }
        }
        Ok(())
    }

    fn take(&mut self, message: Message, on_event: &mut dyn FnMut(i64)) {
        match message {
            Message::Event { position, made_us } => {
                self.totals.delivered += 1;
                on_event(made_us);
                self.expect(position);
            }
            Message::Subscribed(position) => {
                self.position.get_or_insert(position);
                self.subscribed();
            }
            Message::Recovered => {
                self.subscribed();
                if self.round == RoundPart::Cut {
                    self.round = RoundPart::Resumed;
                }
            }
            Message::Gap(position) => {
                self.totals.gaps += 1;
                self.subscribed();
                if let Some(position) = position {
                    self.skip_to(position);
                }
                if self.round == RoundPart::Cut {
                    self.round = RoundPart::Gapped;
                }
            }
            Message::Other => {}
        }
    }

    fn subscribed(&mut self) {
        self.phase = Phase::Open { subscribed: true };
    }

    /// An event arrived at a position: is it the next one?
    fn expect(&mut self, at: Position) {
        let Some(last) = self.position else {
            self.position = Some(at);
            return;
        };
        if at.epoch.incarnation() == last.epoch.incarnation() {
            if at.offset <= last.offset {
                self.totals.doubled += 1;
                return;
            }
            self.totals.lost += at.offset - last.offset - 1;
        }
        self.position = Some(at);
    }

    /// The server says that it goes on after this position.
    fn skip_to(&mut self, position: Position) {
        if let Some(last) = self.position
            && position.epoch.incarnation() == last.epoch.incarnation()
        {
            self.totals.lost += position.offset.saturating_sub(last.offset);
        }
        self.position = Some(position);
    }

    /// It holds a subscription.
    pub fn is_subscribed(&self) -> bool {
        matches!(self.phase, Phase::Open { subscribed: true })
    }

    /// The last offset received.
    pub fn offset(&self) -> u64 {
        self.position.map_or(0, |position| position.offset)
    }

    /// A round begins. True if this client takes part: it has been there, and is, or was cut
    /// already by whatever the round is about.
    pub fn begin_round(&mut self) -> bool {
        self.round = match (self.position, self.is_subscribed()) {
            (None, _) => RoundPart::None,
            (Some(_), true) => RoundPart::Waiting,
            (Some(_), false) => RoundPart::Cut,
        };
        self.is_in_round()
    }

    /// It takes part in the round.
    pub fn is_in_round(&self) -> bool {
        self.round != RoundPart::None
    }

    /// It was cut in this round and missed nothing.
    pub fn has_resumed(&self) -> bool {
        self.round == RoundPart::Resumed
    }
}

const LIMITS: Limits = Limits { message_bytes_max: 1 << 20, fragments_max: 16, deflate: false };

#[cfg(test)]
mod tests;
