//! WebSocket sessions: frames in, publishes and control out (RFC 6455).

use super::Shard;
use super::connection::EndpointId;
use super::http::Response;
use super::session::Session;
use crate::driver::ConnId;
use proto::channel::ChannelName;
use proto::reason::CloseReason;
use proto::ws::{self, Decoder, Limits, Message, Role};

/// State of one WebSocket.
#[derive(Debug)]
pub struct WebSocket {
    decoder: Decoder,
    /// The channel of the URL: what the client publishes to.
    pub channel: ChannelName,
    /// A ping is unanswered since then, milliseconds.
    pub pinged_ms: Option<u64>,
    /// A publish of this client is parked: nothing more is read, so that its messages keep their
    /// order and take no memory.
    pub parked: bool,
    /// What had been received behind the parked message.
    pub leftover: Vec<u8>,
    /// Control frames in the current second, and which second that is.
    control_frames: (u32, u64),
}

impl WebSocket {
    /// A session right after the 101.
    pub fn new(channel: ChannelName, limits: &crate::config::limits::Limits) -> Self {
        let limits = Limits {
            message_bytes_max: limits.message_bytes_max,
            fragments_max: u16::try_from(limits.ws_fragments_max).unwrap_or(u16::MAX),
        };
        Self {
            decoder: Decoder::new(Role::Server, limits),
            channel,
            pinged_ms: None,
            parked: false,
            leftover: Vec::new(),
            control_frames: (0, 0),
        }
    }

    /// Heap held, for the ledger.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>()
    }

    /// What it holds of an unfinished message.
    pub fn partial_bytes(&self) -> usize {
        self.decoder.buffered_bytes() + self.leftover.capacity()
    }

    /// Counts a control frame; `true` when the peer sends too many.
    fn floods(&mut self, now_ms: u64, max: u32) -> bool {
        let second = now_ms / 1_000;
        if self.control_frames.1 != second {
            self.control_frames = (0, second);
        }
        self.control_frames.0 += 1;
        self.control_frames.0 > max
    }
}

impl Shard {
    pub(super) fn feed_ws(
        &mut self,
        conn: ConnId,
        mut socket: Box<WebSocket>,
        input: &[u8],
    ) -> (Session, usize) {
        let mut scratch = std::mem::take(&mut self.plain_ws);
        let mut used = 0;
        // Whatever it is, the peer lives.
        socket.pinged_ms = None;
        while used < input.len() {
            if socket.parked {
                socket.leftover.extend_from_slice(&input[used..]);
                self.stop_receiving(conn);
                break;
            }
            let step = socket.decoder.feed(&input[used..], &mut scratch);
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
            if !self.on_message(conn, &mut socket, message) {
                break;
            }
        }
        scratch.shrink_to(64 << 10);
        self.plain_ws = scratch;
        (Session::WebSocket(socket), input.len())
    }

    /// Handles one message; `false` when the session is over.
    fn on_message(&mut self, conn: ConnId, socket: &mut WebSocket, message: Message<'_>) -> bool {
        let endpoint = EndpointId::connection(conn.slot);
        let control_max = self.settings.limits.ws_control_frames_per_s_max;
        match message {
            Message::Text(text) => self.on_data(conn, socket, true, text.as_bytes()),
            Message::Binary(data) => self.on_data(conn, socket, false, data),
            Message::Ping(_) | Message::Pong(_) if socket.floods(self.now.ms, control_max) => {
                let text = "too many control frames per second";
                self.close_ws(conn, 1008, text, CloseReason::PolicyViolation);
                false
            }
            //= rfc6455#5.5.3
            // A pong repeats the payload of its ping.
            Message::Ping(payload) => {
                let pong = ws::encode_frame(ws::Opcode::Pong, payload);
                self.say(endpoint, pong);
                true
            }
            Message::Pong(_) => true,
            //= rfc6455#5.5.1
            // A close frame is answered with one, typically with the same code.
            Message::Close { code, .. } => {
                self.close_ws(conn, code.unwrap_or(1000), "", CloseReason::Normal);
                false
            }
        }
    }

    fn on_data(&mut self, conn: ConnId, socket: &mut WebSocket, text: bool, data: &[u8]) -> bool {
        if self.settings.namespace(socket.channel.as_str()).client_publish {
            socket.parked = !self.publish_message(conn, socket.channel.clone(), text, data);
            return true;
        }
        self.stats.counters.messages_received += 1;
        let text = "this namespace does not permit publishing from clients";
        self.close_ws(conn, 1008, text, CloseReason::PolicyViolation);
        false
    }

    /// What became of a client's message. Success is the message itself coming back; a refusal
    /// closes the connection, since nothing else could tell the client that it was not taken.
    pub(super) fn answered_message(&mut self, conn: ConnId, response: &Response) {
        if response.status == 202 {
            return;
        }
        if response.status == 503 {
            self.close_ws(conn, 3013, "overload: the message was not taken", CloseReason::Overload);
        } else {
            let text = "the message was not taken";
            self.close_ws(conn, 1008, text, CloseReason::PolicyViolation);
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
