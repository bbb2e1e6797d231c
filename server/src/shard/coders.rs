//! What makes frames shorter: compression of WebSocket messages and deltas between publications.
//!
//! One for each shard, so that a connection holds nothing for it. A delta is created once for an
//! event, whatever the number of formats that carry it. Deliberately absent: who gets which
//! (`format`, `delivery`).

use bytes::Bytes;
use proto::centrifuge::Encoding;
use proto::delta::Differ;
use proto::event::{DataKind, Event};
use proto::ws;
use proto::ws::deflate::{Deflater, Window};

/// See the module.
#[derive(Debug)]
pub struct Coders {
    deflater: Deflater,
    /// Shorter messages go as they are.
    deflate_bytes_min: usize,
    differ: Differ,
    /// The newest delta: of which event, whether as text, and what came of it.
    newest: Option<(Event, bool, Option<Bytes>)>,
    /// What they did since it was taken.
    pub done: Done,
}

/// Bytes that went in and came out, for the counters. What does not get shorter comes out as it
/// went in.
#[derive(Debug, Clone, Copy, Default)]
pub struct Done {
    pub deflate_in: u64,
    pub deflate_out: u64,
    pub delta_in: u64,
    pub delta_out: u64,
}

impl Default for Coders {
    fn default() -> Self {
        Self::new(0, 0)
    }
}

impl Coders {
    /// WebSocket messages shorter than `deflate_bytes_min` are not compressed, payloads longer than
    /// `delta_bytes_max` get no delta.
    pub fn new(deflate_bytes_min: u32, delta_bytes_max: u32) -> Self {
        Self {
            deflater: Deflater::default(),
            deflate_bytes_min: deflate_bytes_min as usize,
            differ: Differ::new(delta_bytes_max),
            newest: None,
            done: Done::default(),
        }
    }

    /// A frame for clients with that window, if they have one: compressed if that is shorter.
    pub(super) fn encode_frame(
        &mut self,
        window: Option<Window>,
        opcode: ws::Opcode,
        data: &[u8],
    ) -> Bytes {
        let Some(window) = window.filter(|_| data.len() >= self.deflate_bytes_min) else {
            return ws::encode_frame(opcode, data);
        };
        let compressed = self.deflater.encode_frame(window, opcode, data);
        self.done.deflate_in += data.len() as u64;
        self.done.deflate_out += compressed.as_ref().map_or(data.len(), Bytes::len) as u64;
        compressed.unwrap_or_else(|| ws::encode_frame(opcode, data))
    }

    /// What leads from the event before to this one; `None` if it is not shorter, or if the
    /// encoding has no place for it.
    pub(super) fn delta(
        &mut self,
        base: &Event,
        event: &Event,
        encoding: Encoding,
    ) -> Option<Bytes> {
        let text = encoding == Encoding::Json;
        if text && [base, event].iter().any(|it| it.data_kind() == DataKind::Binary) {
            return None; // base64, which a delta would not lead to
        }
        if let Some((newest, was_text, delta)) = &self.newest
            && *was_text == text
            && newest.as_bytes().as_ptr() == event.as_bytes().as_ptr()
        {
            return delta.clone();
        }
        let delta = if text {
            let (base, target) = (utf8(base)?, utf8(event)?);
            self.differ.create_text(base, target).map(str::as_bytes)
        } else {
            self.differ.create(base.data(), event.data())
        };
        let delta = delta.map(Bytes::copy_from_slice);
        self.done.delta_in += event.data().len() as u64;
        self.done.delta_out += delta.as_ref().map_or(event.data().len(), Bytes::len) as u64;
        self.newest = Some((event.clone(), text, delta.clone()));
        delta
    }

    /// Bytes held, for the ledger.
    pub fn memory_bytes(&self) -> usize {
        self.deflater.memory_bytes() + self.differ.memory_bytes()
    }
}

fn utf8(event: &Event) -> Option<&str> {
    std::str::from_utf8(event.data()).ok()
}
