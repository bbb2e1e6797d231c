//! Messages to frames. Everything is sent unfragmented; tests write fragments with
//! [`write_frame_with`].

use super::{CLOSE_REASON_BYTES_MAX, Opcode, is_close_code, mask};
use bytes::Bytes;

/// Two bytes and eight of length: a server frame has no key.
const SERVER_HEAD_BYTES_MAX: usize = 10;

/// The frame ends its message.
const FIN: u8 = 0x80;

/// The message is compressed.
const RSV1: u8 = 0x40;

/// One unmasked frame of exact size, to be shared.
pub fn encode_frame(opcode: Opcode, payload: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(SERVER_HEAD_BYTES_MAX + payload.len());
    write_frame(&mut out, opcode, payload);
    Bytes::from(out)
}

/// Appends one unmasked frame: the server's.
pub fn write_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    write_frame_with(out, opcode, true, None, payload);
}

/// Appends the head of an unmasked frame whose payload is written after it.
pub fn write_frame_head(out: &mut Vec<u8>, opcode: Opcode, payload_bytes: usize) {
    write_head(out, FIN | opcode as u8, false, payload_bytes);
}

/// Appends one frame with every choice open: `mask` is the client's fresh random key, `fin` is
/// false for all but the last fragment.
pub fn write_frame_with(
    out: &mut Vec<u8>,
    opcode: Opcode,
    fin: bool,
    mask: Option<[u8; 4]>,
    payload: &[u8],
) {
    let first = opcode as u8 | if fin { FIN } else { 0 };
    write_head(out, first, mask.is_some(), payload.len());
    match mask {
        Some(key) => {
            out.extend_from_slice(&key);
            mask::append(out, payload, key);
        }
        None => out.extend_from_slice(payload),
    }
}

/// Appends a close frame. The reason is cut at a character boundary so that it fits; a code that
/// must not be on the wire (1005, 1006, ...) is sent as no code at all, without reason.
pub fn write_close(out: &mut Vec<u8>, code: u16, reason: &str, mask: Option<[u8; 4]>) {
    let mut payload = Vec::with_capacity(2 + CLOSE_REASON_BYTES_MAX);
    if is_close_code(code) {
        payload.extend_from_slice(&code.to_be_bytes());
        let fits = reason.floor_char_boundary(CLOSE_REASON_BYTES_MAX);
        payload.extend_from_slice(reason.get(..fits).unwrap_or_default().as_bytes());
    }
    write_frame_with(out, Opcode::Close, true, mask, &payload);
}

/// The server's close frame.
pub fn close_frame(code: u16, reason: &str) -> Bytes {
    let mut out = Vec::with_capacity(4 + reason.len().min(CLOSE_REASON_BYTES_MAX));
    write_close(&mut out, code, reason, None);
    Bytes::from(out)
}

/// One unmasked frame of exact size whose payload is compressed.
pub(super) fn encode_compressed(opcode: Opcode, compressed: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(SERVER_HEAD_BYTES_MAX + compressed.len());
    //= rfc7692#6.1
    // RSV1 on the first frame, here the only one, says that the message is compressed.
    write_head(&mut out, FIN | RSV1 | opcode as u8, false, compressed.len());
    out.extend_from_slice(compressed);
    Bytes::from(out)
}

fn write_head(out: &mut Vec<u8>, first: u8, masked: bool, payload_bytes: usize) {
    let mask_bit = if masked { 0x80 } else { 0 };
    out.push(first);
    match (u8::try_from(payload_bytes), u16::try_from(payload_bytes)) {
        (Ok(short @ 0..126), _) => out.push(short | mask_bit),
        (_, Ok(medium)) => {
            out.push(126 | mask_bit);
            out.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            out.push(127 | mask_bit);
            out.extend_from_slice(&(payload_bytes as u64).to_be_bytes());
        }
    }
}
