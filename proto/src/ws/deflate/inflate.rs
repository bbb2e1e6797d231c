//! Compressed messages to what they expand to.

use crate::ws::FrameError;
use zlib_rs::{Inflate, InflateFlush, Status};

/// Bytes that are expanded at a time: by so much a message can be over its limit.
pub const CHUNK_BYTES: usize = 16 << 10;

/// The largest window there is, in bits: whatever a client uses is understood.
const WINDOW_BITS: u8 = 15;

/// Streams that one message may consist of. A sender may end its stream inside a message (a block
/// marked as the last); none we know of does so more than once.
const STREAMS_MAX: u32 = 16;

//= rfc7692#7.2.2
// The sender has taken 00 00 ff ff off. What follows them here is an empty last block: if exactly
// that ends the stream, the message ended where a block did.
const CLOSING: &[u8] = b"\x00\x00\xff\xff\x03\x00";

/// Expands messages, one after the other. About 70 KiB from the first one on.
#[derive(Default)]
pub struct Inflater(Option<Box<State>>);

struct State {
    stream: Inflate,
    chunk: [u8; CHUNK_BYTES],
    /// The allocation of the message before.
    spare: Vec<u8>,
}

impl std::fmt::Debug for Inflater {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inflater").field("in_use", &self.0.is_some()).finish()
    }
}

impl Inflater {
    /// Replaces a message by what it expands to, at most `bytes_max` bytes. After an error the
    /// message is worthless.
    pub fn inflate(&mut self, message: &mut Vec<u8>, bytes_max: u32) -> Result<(), FrameError> {
        let state = self.0.get_or_insert_with(|| {
            let stream = Inflate::new(false, WINDOW_BITS);
            Box::new(State { stream, chunk: [0; CHUNK_BYTES], spare: Vec::new() })
        });
        let mut expanded = std::mem::take(&mut state.spare);
        expanded.clear();
        let limit = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        let done = state.expand(message, &mut expanded, limit);
        std::mem::swap(message, &mut expanded);
        expanded.clear();
        expanded.shrink_to(CHUNK_BYTES);
        state.spare = expanded;
        done
    }

    /// Bytes held between messages, for a ledger.
    pub fn memory_bytes(&self) -> usize {
        let held = |state: &State| size_of::<State>() + STREAM_BYTES + state.spare.capacity();
        self.0.as_deref().map_or(0, held)
    }
}

/// What the stream allocates for itself: its tables and a window with room to write ahead.
const STREAM_BYTES: usize = 48 << 10;

impl State {
    fn expand(
        &mut self,
        message: &[u8],
        out: &mut Vec<u8>,
        limit: usize,
    ) -> Result<(), FrameError> {
        //= rfc7692#7.2.3.6
        // An empty message is one byte of zero. Without even that it is understood all the same.
        if message.is_empty() {
            return Ok(());
        }
        self.stream.reset(false);
        let mut rest = message;
        for _ in 0..STREAMS_MAX {
            if !self.run(&mut rest, out, limit)? {
                // All of it is taken and the stream goes on, as it does with every usual sender.
                let mut closing = CLOSING;
                let ended = self.run(&mut closing, out, limit)? && closing.is_empty();
                return if ended { Ok(()) } else { Err(FrameError::Deflate) };
            }
            if rest.is_empty() {
                return Ok(());
            }
            //= rfc7692#7.2.3.4
            // Another stream follows inside the message; it may refer to what came before.
            self.stream.reset(false);
            let window = out.len().saturating_sub(1 << WINDOW_BITS);
            let before = out.get(window..).unwrap_or_default();
            if !before.is_empty() && self.stream.set_dictionary(before).is_err() {
                return Err(FrameError::Deflate);
            }
        }
        Err(FrameError::Deflate)
    }

    /// Expands until the input is taken or the stream has ended, which is `true`.
    fn run(
        &mut self,
        rest: &mut &[u8],
        out: &mut Vec<u8>,
        limit: usize,
    ) -> Result<bool, FrameError> {
        loop {
            let (taken, made) = (self.stream.total_in(), self.stream.total_out());
            let status = self
                .stream
                .decompress(rest, &mut self.chunk, InflateFlush::SyncFlush)
                .map_err(|_| FrameError::Deflate)?;
            let taken = usize::try_from(self.stream.total_in() - taken).unwrap_or(usize::MAX);
            let made = usize::try_from(self.stream.total_out() - made).unwrap_or(usize::MAX);
            *rest = rest.get(taken..).unwrap_or_default();
            let fresh = self.chunk.get(..made).unwrap_or_default();
            if fresh.len() > limit - out.len() {
                return Err(FrameError::MessageTooBig);
            }
            out.extend_from_slice(fresh);
            if status == Status::StreamEnd {
                return Ok(true);
            }
            if made < CHUNK_BYTES && rest.is_empty() {
                return Ok(false);
            }
            if taken == 0 && made == 0 {
                // It neither takes nor gives: no legal stream does that with input and room left.
                return Err(FrameError::Deflate);
            }
        }
    }
}
