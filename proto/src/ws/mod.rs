//! WebSocket (RFC 6455) without I/O: the handshake, a decoder for both roles and an encoder.
//!
//! The decoder reads the caller's receive buffer. A whole frame is unmasked straight into the
//! caller's scratch and nothing is kept; only an unfinished message, control frame or head is
//! stored, as far as its bytes have arrived, and freed with the message. So a quiet connection
//! costs `size_of::<Decoder>()`, at most 64 bytes.
//!
//! Server frames are not masked, so one encoded frame serves every subscriber.
//!
//! Of extensions there is permessage-deflate, see [`deflate`]; other reserved bits are errors.
//!
//! Deliberately absent: rates of control frames and deadlines (the shard's), and randomness:
//! whoever plays the client passes the masking key.
//! Tested: tables at every split of the bytes and against tungstenite as the other side, see
//! `tests.rs`; fuzzed by `tests/fuzz` `ws`, and beside tungstenite by `ws_tungstenite`.

mod decoder;
pub mod deflate;
mod encoder;
pub mod handshake;
mod header;
mod mask;

#[cfg(test)]
mod tests;

pub use decoder::{Decoder, Limits, Message};
pub use encoder::{
    close_frame, encode_frame, write_close, write_frame, write_frame_head, write_frame_with,
};

use crate::reason::CloseReason;

/// Which end of the connection this machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Receives masked frames.
    Server,
    /// Receives unmasked frames.
    Client,
}

/// The opcodes of RFC 6455 section 5.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// More of a fragmented message.
    Continuation = 0,
    /// UTF-8 text.
    Text = 1,
    /// Bytes.
    Binary = 2,
    /// The closing handshake.
    Close = 8,
    /// Must be answered with the same payload.
    Ping = 9,
    /// The answer, or an unsolicited sign of life.
    Pong = 10,
}

impl Opcode {
    /// The opcode in the low four bits; `None` for the reserved ones.
    const fn from_bits(bits: u8) -> Option<Self> {
        match bits & 0xf {
            0 => Some(Self::Continuation),
            1 => Some(Self::Text),
            2 => Some(Self::Binary),
            8 => Some(Self::Close),
            9 => Some(Self::Ping),
            10 => Some(Self::Pong),
            _ => None,
        }
    }

    /// Close, ping and pong: short, never fragmented, allowed between fragments.
    pub const fn is_control(self) -> bool {
        self as u8 & 8 != 0
    }
}

/// The longest payload of a control frame (RFC 6455 section 5.5).
pub const CONTROL_BYTES_MAX: usize = 125;

/// The longest close reason: a control payload less the two bytes of the code.
pub const CLOSE_REASON_BYTES_MAX: usize = CONTROL_BYTES_MAX - 2;

/// What the peer did wrong. The connection is failed with [`FrameError::close_code`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum FrameError {
    /// RSV2 or RSV3 is set, or RSV1 where no compressed message begins or none was negotiated.
    #[error("reserved bit set without an extension")]
    ReservedBit,
    /// Opcodes 3-7 and 11-15.
    #[error("reserved opcode")]
    ReservedOpcode,
    /// A client frame without mask, or a server frame with one.
    #[error("frame masking does not fit the role")]
    Masking,
    /// A control frame without FIN.
    #[error("fragmented control frame")]
    ControlFragmented,
    /// A control frame of more than [`CONTROL_BYTES_MAX`] bytes.
    #[error("control frame longer than 125 bytes")]
    ControlTooLong,
    /// A continuation when no message is open.
    #[error("continuation without a message")]
    NothingToContinue,
    /// A new message when one is open.
    #[error("new message inside a fragmented one")]
    MessageOpen,
    /// A length in more bytes than it needs, or over 63 bits.
    #[error("frame length not minimal or over 63 bits")]
    LengthEncoding,
    /// A close payload of one byte.
    #[error("close payload of one byte")]
    CloseTooShort,
    /// A code that must not be sent.
    #[error("illegal close code")]
    CloseCode,
    /// Text or a close reason that is not UTF-8.
    #[error("text is not UTF-8")]
    Utf8,
    /// A compressed message that is no deflate stream, or ends inside a block.
    #[error("compressed message is damaged")]
    Deflate,
    /// A message over [`Limits::message_bytes_max`], known from its frame heads or as it expands.
    #[error("message over the size limit")]
    MessageTooBig,
    /// A message in more frames than [`Limits::fragments_max`].
    #[error("message in too many fragments")]
    TooManyFragments,
}

impl FrameError {
    /// The close code (RFC 6455 section 7.4.1).
    pub const fn close_code(self) -> u16 {
        match self {
            Self::ReservedBit
            | Self::ReservedOpcode
            | Self::Masking
            | Self::ControlFragmented
            | Self::ControlTooLong
            | Self::NothingToContinue
            | Self::MessageOpen
            | Self::LengthEncoding
            | Self::CloseTooShort
            | Self::CloseCode
            | Self::Deflate => 1002,
            Self::Utf8 => 1007,
            Self::MessageTooBig => 1009,
            Self::TooManyFragments => 1008,
        }
    }

    /// The row of the table of close reasons.
    pub const fn reason(self) -> CloseReason {
        match self.close_code() {
            1007 => CloseReason::InvalidUtf8,
            1008 => CloseReason::PolicyViolation,
            1009 => CloseReason::MessageTooBig,
            _ => CloseReason::ProtocolError,
        }
    }
}

//= rfc6455#7.4.2
// 1004-1006 and 1015 never appear on the wire, 1016-2999 are reserved for the protocol, below
// 1000 and from 5000 nothing is defined. 1012-1014 are registered with IANA.
/// May a close frame carry this code?
pub const fn is_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}
