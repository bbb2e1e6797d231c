//! socket.io 5 in engine.io 4: a digit for the engine's packet, another for socket.io's.

use super::{Broken, Reader, frames};
use proto::ws::Opcode;

/// A message event: `42["m","..."]`.
const EVENT: &[u8] = b"42[\"m\",\"";

/// Appends a publish.
pub fn publish(out: &mut Vec<u8>, payload: &[u8]) {
    let mut packet = EVENT.to_vec();
    packet.extend_from_slice(payload);
    packet.extend_from_slice(b"\"]");
    frames::write(out, Opcode::Text, &packet);
}

/// Reads a packet.
pub fn packet(packet: &[u8], reader: &mut impl Reader) -> Result<(), Broken> {
    if let Some(payload) = packet.strip_prefix(EVENT).and_then(|rest| rest.strip_suffix(b"\"]")) {
        reader.message(payload);
        return Ok(());
    }
    match packet {
        // The engine is open: connect to the main namespace.
        [b'0', ..] => reader.reply(Opcode::Text, b"40"),
        [b'4', b'0', ..] => reader.opened(),
        [b'2', ..] => reader.reply(Opcode::Text, b"3"),
        [b'1', ..] | [b'4', b'1' | b'4', ..] => {
            reader.closed(packet);
            return Err(Broken);
        }
        _ => {}
    }
    Ok(())
}
