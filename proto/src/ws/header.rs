//! Frame headers: parsed from a prefix, so that an offence is reported with the byte that commits
//! it and not when the header is complete.

use super::{CONTROL_BYTES_MAX, FrameError, Opcode, Role};

/// Two bytes, eight of length, four of key.
pub(super) const HEADER_BYTES_MAX: usize = 14;

/// With permessage-deflate: the message is compressed.
const RSV1: u8 = 0x40;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) fin: bool,
    pub(super) opcode: Opcode,
    /// RSV1: the first frame of a compressed message.
    pub(super) compressed: bool,
    pub(super) payload_bytes: u64,
    /// Zero if the frame is not masked.
    pub(super) key: [u8; 4],
    /// Bytes of the header itself.
    pub(super) len: usize,
}

/// What a frame is checked against.
#[derive(Debug, Clone, Copy)]
pub(super) struct Context {
    pub(super) role: Role,
    /// A fragmented message is open.
    pub(super) message_open: bool,
    /// Frames that the open message may still have.
    pub(super) fragments_left: u16,
    /// Bytes that the open message, or a new one, may still grow by.
    pub(super) room: u64,
    /// permessage-deflate was negotiated.
    pub(super) deflate: bool,
    /// Bytes that a compressed message may have beyond `room`: what does not shrink grows a little.
    pub(super) extra_room: u64,
}

/// Parses and checks a header. `None`: it is not complete, and nothing in it is wrong so far.
pub(super) fn parse(bytes: &[u8], context: &Context) -> Result<Option<Header>, FrameError> {
    let Some(first) = bytes.first() else { return Ok(None) };
    let (fin, opcode) = parse_first(*first, context)?;
    let compressed = first & RSV1 != 0;
    let Some(second) = bytes.get(1) else { return Ok(None) };
    let masked = second & 0x80 != 0;
    //= rfc6455#5.1
    // A server closes on an unmasked frame, a client on a masked one.
    if masked != (context.role == Role::Server) {
        return Err(FrameError::Masking);
    }
    let short = second & 0x7f;
    //= rfc6455#5.5
    // Control frames carry at most 125 bytes.
    if opcode.is_control() && usize::from(short) > CONTROL_BYTES_MAX {
        return Err(FrameError::ControlTooLong);
    }
    let Some((payload_bytes, length_bytes)) = parse_length(short, bytes)? else { return Ok(None) };
    if opcode == Opcode::Close && payload_bytes == 1 {
        return Err(FrameError::CloseTooShort);
    }
    let room = context.room + if compressed { context.extra_room } else { 0 };
    if !opcode.is_control() && payload_bytes > room {
        return Err(FrameError::MessageTooBig);
    }
    let key_at = 2 + length_bytes;
    let (key, len) = if masked {
        let Some(key) = bytes.get(key_at..).and_then(<[u8]>::first_chunk) else { return Ok(None) };
        (*key, key_at + 4)
    } else {
        ([0; 4], key_at)
    };
    Ok(Some(Header { fin, opcode, compressed, payload_bytes, key, len }))
}

fn parse_first(first: u8, context: &Context) -> Result<(bool, Opcode), FrameError> {
    //= rfc6455#5.2
    // Reserved bits and opcodes fail the connection unless an extension gives them a meaning.
    //= rfc7692#6.1
    // RSV1 marks the first frame of a compressed message, and no other.
    let begins_message = matches!(first & 0xf, 1 | 2);
    if first & 0x30 != 0 || first & RSV1 != 0 && !(context.deflate && begins_message) {
        return Err(FrameError::ReservedBit);
    }
    let fin = first & 0x80 != 0;
    let opcode = Opcode::from_bits(first).ok_or(FrameError::ReservedOpcode)?;
    //= rfc6455#5.4
    // Control frames are not fragmented; fragments of two messages are not interleaved.
    match opcode {
        Opcode::Close | Opcode::Ping | Opcode::Pong if !fin => Err(FrameError::ControlFragmented),
        Opcode::Continuation if !context.message_open => Err(FrameError::NothingToContinue),
        Opcode::Text | Opcode::Binary if context.message_open => Err(FrameError::MessageOpen),
        Opcode::Continuation if context.fragments_left == 0 => Err(FrameError::TooManyFragments),
        _ => Ok((fin, opcode)),
    }
}

/// The payload length and how many extended bytes it took.
fn parse_length(short: u8, bytes: &[u8]) -> Result<Option<(u64, usize)>, FrameError> {
    let extended = bytes.get(2..).unwrap_or_default();
    let (length, taken, least) = match short {
        126 => match extended.first_chunk() {
            Some(length) => (u64::from(u16::from_be_bytes(*length)), 2, 126),
            None => return Ok(None),
        },
        127 => match extended.first_chunk() {
            Some(length) => (u64::from_be_bytes(*length), 8, 1 << 16),
            None => return Ok(None),
        },
        _ => (u64::from(short), 0, 0),
    };
    //= rfc6455#5.2
    // The minimal number of bytes must be used, and the most significant bit must be 0.
    if length < least || length >> 63 != 0 {
        return Err(FrameError::LengthEncoding);
    }
    Ok(Some((length, taken)))
}
