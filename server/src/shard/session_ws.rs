//! WebSocket sessions: frames in, publishes and control out (RFC 6455).

use super::Shard;
use super::connection::{EndpointId, Stamp};
use super::session::Session;
use crate::auth::Action;
use crate::driver::ConnId;
use proto::channel::ChannelName;
use proto::reason::CloseReason;
use proto::ws::{self, Decoder, Limits, Message, Role};

/// State of one WebSocket: 16 bytes, and no heap between messages. The channel that its client
/// publishes to is the one it is subscribed to.
#[derive(Debug, Default)]
pub struct WebSocket {
    /// What an unfinished or waiting message needs.
    unfinished: Option<Box<Unfinished>>,
    /// A ping is unanswered since then.
    pub pinged: Option<Stamp>,
    /// Control frames in the current second, and which second that is (its low bits: a count that
    /// goes on after exactly 32,768 seconds does no harm); the highest bit of the latter says that
    /// messages may be compressed.
    control_frames: (u16, u16),
}

/// In `WebSocket::control_frames`.
const DEFLATE: u16 = 1 << 15;

const _: () = assert!(size_of::<WebSocket>() <= 16, "a quiet WebSocket must stay cheap");

/// Half a message, or what waits behind a parked one.
#[derive(Debug)]
struct Unfinished {
    decoder: Decoder,
    /// A publish of this client is parked: nothing more is read, so that its messages keep their
    /// order and take no memory.
    parked: bool,
    /// What had been received behind the parked message.
    leftover: Vec<u8>,
}

impl Unfinished {
    fn new(limits: &crate::config::limits::Limits, deflate: bool) -> Self {
        let limits = Limits {
            message_bytes_max: limits.message_bytes_max,
            fragments_max: u16::try_from(limits.ws_fragments_max).unwrap_or(u16::MAX),
            deflate,
        };
        let decoder = Decoder::new(Role::Server, limits);
        Self { decoder, parked: false, leftover: Vec::new() }
    }

    fn is_needed(&self) -> bool {
        self.parked || !self.leftover.is_empty() || !self.decoder.is_idle()
    }
}

impl WebSocket {
    /// At its start. `deflate`: permessage-deflate was agreed on.
    pub fn new(deflate: bool) -> Self {
        Self { control_frames: (0, if deflate { DEFLATE } else { 0 }), ..Self::default() }
    }

    fn deflate(&self) -> bool {
        self.control_frames.1 & DEFLATE != 0
    }

    /// Heap held beyond the connection's slot, for the ledger; what is unfinished is counted apart.
    pub fn memory_bytes(&self) -> usize {
        self.unfinished.as_ref().map_or(0, |_| size_of::<Unfinished>())
    }

    /// What it holds of an unfinished message.
    pub fn partial_bytes(&self) -> usize {
        let held = |unfinished: &Unfinished| {
            unfinished.decoder.buffered_bytes() + unfinished.leftover.capacity()
        };
        self.unfinished.as_deref().map_or(0, held)
    }

    /// Nothing more is read until [`Self::unpark`].
    pub fn park(&mut self, limits: &crate::config::limits::Limits) {
        let deflate = self.deflate();
        let fresh = || Box::new(Unfinished::new(limits, deflate));
        let unfinished = self.unfinished.get_or_insert_with(fresh);
        unfinished.parked = true;
    }

    /// The parked message has gone on its way.
    pub fn unpark(&mut self) {
        if let Some(unfinished) = &mut self.unfinished {
            unfinished.parked = false;
        }
    }

    /// True while nothing more is read.
    pub fn is_parked(&self) -> bool {
        self.unfinished.as_ref().is_some_and(|unfinished| unfinished.parked)
    }

    /// Takes what was received behind a parked message.
    pub fn take_leftover(&mut self) -> Vec<u8> {
        let Some(unfinished) = &mut self.unfinished else { return Vec::new() };
        let leftover = std::mem::take(&mut unfinished.leftover);
        if !unfinished.is_needed() {
            self.unfinished = None;
        }
        leftover
    }

    /// Counts a control frame; `true` when the peer sends too many.
    fn floods(&mut self, now_ms: u64, max: u32) -> bool {
        let second = (now_ms / 1_000) as u16 & !DEFLATE | self.control_frames.1 & DEFLATE;
        if self.control_frames.1 != second {
            self.control_frames = (0, second);
        }
        self.control_frames.0 = self.control_frames.0.saturating_add(1);
        // The count stands still at its highest: a limit beyond that is that.
        u32::from(self.control_frames.0) > max.min(u32::from(u16::MAX) - 1)
    }
}

/// What follows a message.
pub(super) enum After {
    /// The next one.
    GoOn,
    /// Nothing, until it has found room.
    Park,
    /// Nothing: the session is over.
    Over,
}

impl Shard {
    pub(super) fn feed_ws(
        &mut self,
        conn: ConnId,
        mut socket: WebSocket,
        input: &[u8],
    ) -> (Session, usize) {
        let used = self.feed_frames(conn, &mut socket, input, |shard, text, data| {
            shard.on_data(conn, text, data)
        });
        (Session::WebSocket(socket), used)
    }

    /// Decodes frames and answers those that control the connection; `on_data` gets the messages,
    /// and whether they are text.
    pub(super) fn feed_frames(
        &mut self,
        conn: ConnId,
        socket: &mut WebSocket,
        input: &[u8],
        mut on_data: impl FnMut(&mut Self, bool, &[u8]) -> After,
    ) -> usize {
        let mut scratch = std::mem::take(&mut self.plain_ws);
        let mut work = match socket.unfinished.take() {
            Some(unfinished) => *unfinished,
            None => Unfinished::new(&self.settings.limits, socket.deflate()),
        };
        let mut used = 0;
        // Whatever it is, the peer lives.
        socket.pinged = None;
        while used < input.len() {
            if work.parked {
                work.leftover.extend_from_slice(&input[used..]);
                self.stop_receiving(conn);
                break;
            }
            let rest = &input[used..];
            let step = work.decoder.feed_inflating(rest, &mut scratch, &mut self.inflater);
            let (taken, message) = match step {
                Ok(step) => step,
                Err(error) => {
                    let reason = error.reason();
                    self.close_ws(conn, error.close_code(), &error.to_string(), reason);
                    break;
                }
            };
            used += taken;
            let Some(message) = message else { break };
            let after = match message {
                Message::Text(text) => on_data(self, true, text.as_bytes()),
                Message::Binary(data) => on_data(self, false, data),
                control => self.on_control(conn, socket, control),
            };
            match after {
                After::GoOn => {}
                After::Park => work.parked = true,
                After::Over => break,
            }
        }
        if work.is_needed() {
            socket.unfinished = Some(Box::new(work));
        }
        scratch.shrink_to(64 << 10);
        self.plain_ws = scratch;
        input.len()
    }

    /// Handles one control frame.
    fn on_control(&mut self, conn: ConnId, socket: &mut WebSocket, message: Message<'_>) -> After {
        let endpoint = EndpointId::connection(conn.slot);
        let control_max = self.settings.limits.ws_control_frames_per_s_max;
        match message {
            Message::Text(_) | Message::Binary(_) => After::GoOn,
            Message::Ping(_) | Message::Pong(_) if socket.floods(self.now.ms, control_max) => {
                self.stats.counters.floods_control += 1;
                let text = "too many control frames per second";
                self.close_ws(conn, 1008, text, CloseReason::PolicyViolation);
                After::Over
            }
            //= rfc6455#5.5.3
            // A pong repeats the payload of its ping.
            Message::Ping(payload) => {
                let pong = ws::encode_frame(ws::Opcode::Pong, payload);
                self.say(endpoint, pong);
                After::GoOn
            }
            Message::Pong(_) => After::GoOn,
            //= rfc6455#5.5.1
            // A close frame is answered with one, typically with the same code.
            Message::Close { code, .. } => {
                self.close_ws(conn, code.unwrap_or(1000), "", CloseReason::Normal);
                After::Over
            }
        }
    }

    fn on_data(&mut self, conn: ConnId, text: bool, data: &[u8]) -> After {
        // Without its subscription the connection is about to end.
        let Some(channel) = self.channel_of(conn) else { return After::Over };
        if channel.is_none() && (!text || !data.trim_ascii_start().starts_with(b"{")) {
            self.stats.counters.messages_received += 1;
            let code = if text { 1008 } else { 1003 };
            let text = "a message here is one event: a JSON object with `channel` and `data`";
            self.close_ws(conn, code, text, CloseReason::PolicyViolation);
            return After::Over;
        }
        let caller = self.caller_of(EndpointId::connection(conn.slot));
        let allowed = match &channel {
            Some(channel) => self.may(&caller, channel, Action::Publish).is_ok(),
            // Each message names its channel and is looked at by itself.
            None => true,
        };
        if allowed {
            let taken = self.publish_message(conn, channel, text, data);
            return if taken { After::GoOn } else { After::Park };
        }
        self.stats.counters.messages_received += 1;
        let text = "neither the namespace nor the token permits publishing here";
        self.close_ws(conn, 1008, text, CloseReason::PolicyViolation);
        After::Over
    }

    /// The channel of a WebSocket that has one; `Some(None)` for several, whose messages name
    /// theirs.
    fn channel_of(&mut self, conn: ConnId) -> Option<Option<ChannelName>> {
        let subscriber = self.connections.get(conn)?.subscriber.as_ref()?;
        if subscriber.is_of_several() {
            return Some(None);
        }
        let key = *subscriber.keys().first()?;
        self.local.peek(key.channel).map(|channel| Some(channel.name.clone()))
    }

    /// What became of a client's message. Success is the message itself coming back; a refusal
    /// closes the connection, since nothing else could tell the client that it was not taken.
    pub(super) fn answered_message(&mut self, conn: ConnId, status: u16, why: Option<String>) {
        if status == 202 {
            return;
        }
        let mut text = "the message was not taken".to_owned();
        if let Some(why) = why {
            text = format!("{text}: {why}");
        }
        // The reason of a close frame: the frame's 125 bytes without the code.
        text.truncate(text.floor_char_boundary(123));
        if status == 503 {
            self.close_ws(conn, 3013, "overload: the message was not taken", CloseReason::Overload);
        } else {
            self.close_ws(conn, 1008, &text, CloseReason::PolicyViolation);
        }
    }

    /// Sends a close frame and ends the connection after it.
    pub(super) fn close_ws(&mut self, conn: ConnId, code: u16, text: &str, reason: CloseReason) {
        let Some(connection) = self.connections.get(conn) else { return };
        if connection.closing.is_some() {
            return;
        }
        let frame = ws::close_frame(code, text);
        self.finish_connection(conn, reason, Some(frame));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_found_whatever_the_limit_and_forgotten_the_next_second() {
        for (max, frames) in [(1, 2), (100, 101), (1_000_000, 65_535)] {
            let mut socket = WebSocket::new(max == 100);
            assert!((1..frames).all(|_| !socket.floods(5_000, max)), "early at {max}");
            assert!(socket.floods(5_999, max), "never at {max}");
            assert!(!socket.floods(6_000, max), "not forgotten at {max}");
            assert_eq!(socket.deflate(), max == 100, "the count and the bit share a word");
        }
    }
}
