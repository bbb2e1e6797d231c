//! WebSocket frames as servers send them: found in the received bytes, not copied.
//!
//! `proto::ws::Decoder` checks everything a peer may do wrong and copies each message; a load
//! generator must cost less than what it measures, so this looks at the head and hands on the
//! payload. Only a frame that a read cut in two is put together in a buffer. Masked frames and
//! reserved bits are errors; continuations are handed on as they are.

/// Frames larger than this are a broken stream.
const FRAME_BYTES_MAX: usize = 64 << 20;

pub const CONTINUATION: u8 = 0;
pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
/// Beside the opcode of a compressed message, where compression was negotiated.
pub const COMPRESSED: u8 = 0x40;

/// The stream is not WebSocket as a server speaks it, or the reader gave up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken;

/// What a read left of an unfinished frame.
#[derive(Debug, Default)]
pub struct Frames {
    carry: Vec<u8>,
    /// Messages may be compressed.
    compressed: bool,
}

/// Head and whole length of the frame at the front, as soon as they can be told.
fn measure(bytes: &[u8], compressed: bool) -> Result<Option<(usize, usize)>, Broken> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    let reserved = if compressed { 0x70 & !COMPRESSED } else { 0x70 };
    if first & reserved != 0 || second & 0x80 != 0 {
        return Err(Broken);
    }
    let (head, payload) = match second {
        126 => match rest {
            [a, b, ..] => (4, usize::from(*a) << 8 | usize::from(*b)),
            _ => return Ok(None),
        },
        127 => match rest.first_chunk::<8>() {
            Some(length) => (10, u64::from_be_bytes(*length) as usize),
            None => return Ok(None),
        },
        short => (2, usize::from(*short)),
    };
    if payload > FRAME_BYTES_MAX {
        return Err(Broken);
    }
    Ok(Some((head, head + payload)))
}

impl Frames {
    /// Of a connection that has negotiated compression.
    pub fn compressed() -> Self {
        Self { carry: Vec::new(), compressed: true }
    }

    /// Hands on each frame's opcode and payload.
    pub fn feed(
        &mut self,
        mut input: &[u8],
        mut each: impl FnMut(u8, &[u8]) -> Result<(), Broken>,
    ) -> Result<(), Broken> {
        while !self.carry.is_empty() {
            let (head, whole) = match measure(&self.carry, self.compressed)? {
                Some(sizes) => sizes,
                // The head itself is cut: one byte more at a time.
                None => (0, self.carry.len() + 1),
            };
            let missing = whole.saturating_sub(self.carry.len()).min(input.len());
            self.carry.extend_from_slice(&input[..missing]);
            input = &input[missing..];
            if self.carry.len() < whole {
                return Ok(());
            }
            if head > 0 {
                each(self.carry[0] & (COMPRESSED | 0x0f), &self.carry[head..whole])?;
                self.carry.clear();
                if self.carry.capacity() > 4_096 {
                    self.carry = Vec::new();
                }
            } else if missing == 0 {
                return Ok(());
            }
        }
        while let Some((head, whole)) = measure(input, self.compressed)? {
            let Some(frame) = input.get(..whole) else { break };
            each(frame[0] & (COMPRESSED | 0x0f), &frame[head..])?;
            input = &input[whole..];
        }
        self.carry.extend_from_slice(input);
        Ok(())
    }
}

/// Appends a frame as a client must send it.
pub fn write(out: &mut Vec<u8>, opcode: proto::ws::Opcode, payload: &[u8]) {
    let mask = Some([0x5a, 0xc3, 0x17, 0x88]);
    proto::ws::write_frame_with(out, opcode, true, mask, payload);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::ws::Opcode;

    fn stream() -> (Vec<u8>, Vec<(u8, usize)>) {
        let mut bytes = Vec::new();
        let mut expected = Vec::new();
        for (opcode, number, len) in [
            (Opcode::Text, TEXT, 0),
            (Opcode::Text, TEXT, 125),
            (Opcode::Ping, PING, 4),
            (Opcode::Binary, BINARY, 126),
            (Opcode::Text, TEXT, 70_000),
            (Opcode::Text, TEXT, 128),
        ] {
            proto::ws::write_frame_with(&mut bytes, opcode, true, None, &vec![number; len]);
            expected.push((number, len));
        }
        (bytes, expected)
    }

    #[test]
    fn frames_are_found_however_the_reads_cut_them() {
        let (bytes, expected) = stream();
        for size in [1, 2, 3, 7, 129, 4_096, bytes.len()] {
            let (mut frames, mut found) = (Frames::default(), Vec::new());
            for piece in bytes.chunks(size) {
                let outcome = frames.feed(piece, |opcode, payload| {
                    assert!(payload.iter().all(|byte| *byte == opcode));
                    found.push((opcode, payload.len()));
                    Ok(())
                });
                assert_eq!(outcome, Ok(()));
            }
            assert_eq!(found, expected, "pieces of {size} bytes");
        }
    }

    #[test]
    fn what_no_server_sends_is_an_error() {
        let refused = |bytes: &[u8]| Frames::default().feed(bytes, |_, _| Ok(()));
        assert_eq!(refused(&[0x81, 0x80, 1, 2, 3, 4]), Err(Broken), "masked");
        assert_eq!(refused(&[0xc1, 0x00]), Err(Broken), "compressed");
        assert_eq!(refused(&[0x82, 127, 1, 0, 0, 0, 0, 0, 0, 0]), Err(Broken), "endless");
    }
}
