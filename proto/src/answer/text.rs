//! Pieces of an answer's JSON.

use crate::envelope::write_json_string;
use crate::position::{Epoch, Position};

/// What stands between an index and an offset.
pub(super) fn middle_of(channel: &str, epoch: Epoch) -> Vec<u8> {
    let mut middle = b",\"channel\":".to_vec();
    write_json_string(&mut middle, channel);
    write_position(&mut middle, "position", Position { epoch, offset: 0 });
    // Without the offset and the quote behind it.
    middle.truncate(middle.len().saturating_sub(2));
    middle
}

pub(super) fn write_position(out: &mut Vec<u8>, name: &str, position: Position) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":\"");
    position.write_to(out);
    out.push(b'"');
}

pub(super) fn write_array<T>(
    out: &mut Vec<u8>,
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut Vec<u8>, T),
) {
    out.push(b'[');
    for (at, item) in items.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}
