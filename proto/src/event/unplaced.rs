//! Admitted events on their way to a position: the home shard patches it into the header while it
//! is the only owner.

use super::{
    AT_ACCEPTED, AT_CHANNEL_LEN, AT_EPOCH, AT_FLAGS, AT_OFFSET, AT_TIME, Event, HEADER_BYTES,
    TIME_GIVEN, dedupe_key, text, u16_at,
};
use crate::position::Position;
use bytes::{Bytes, BytesMut};

/// An admitted event that has no position yet. It has exactly one owner.
#[derive(Debug)]
pub struct Unplaced(Vec<u8>);

impl Unplaced {
    /// Of an image whose header lacks position and time of acceptance.
    pub(super) fn new(image: Vec<u8>) -> Self {
        Self(image)
    }

    /// Gives the event its position and freezes it. An event without a time of its own gets
    /// `accepted_us` (microseconds since the Unix epoch) as its time.
    pub fn place(mut self, position: Position, accepted_us: i64) -> Event {
        self.stamp(position, accepted_us);
        Event(Bytes::from(self.0))
    }

    /// The same, with the image beside those of its neighbours.
    pub fn place_in(mut self, room: &mut ImageRoom, position: Position, accepted_us: i64) -> Event {
        self.stamp(position, accepted_us);
        let bytes = self.0.len();
        room.piece_is_new = room.bytes.capacity() < bytes;
        if room.piece_is_new {
            room.piece_bytes = room.left_bytes.min(ImageRoom::PIECE_BYTES).max(bytes);
            room.bytes = BytesMut::with_capacity(room.piece_bytes);
        }
        room.left_bytes = room.left_bytes.saturating_sub(bytes);
        room.bytes.extend_from_slice(&self.0);
        Event(room.bytes.split().freeze())
    }

    fn stamp(&mut self, position: Position, accepted_us: i64) {
        let mut put = |at: usize, bytes: [u8; 8]| {
            if let Some(field) = self.0.get_mut(at..at + 8) {
                field.copy_from_slice(&bytes);
            }
        };
        put(AT_EPOCH, position.epoch.0.to_le_bytes());
        put(AT_OFFSET, position.offset.to_le_bytes());
        put(AT_ACCEPTED, accepted_us.to_le_bytes());
        let flags = self.0.get(AT_FLAGS).copied().unwrap_or(0);
        if flags & TIME_GIVEN == 0
            && let Some(field) = self.0.get_mut(AT_TIME..AT_TIME + 8)
        {
            field.copy_from_slice(&accepted_us.to_le_bytes());
        }
    }

    /// The image's size in bytes.
    pub fn size(&self) -> usize {
        self.0.len()
    }

    /// The channel's name.
    pub fn channel(&self) -> &str {
        text(&self.0, HEADER_BYTES, usize::from(u16_at(&self.0, AT_CHANNEL_LEN)))
    }

    /// The same as bytes, for comparing with a name that is known to be legal.
    pub fn channel_bytes(&self) -> &[u8] {
        let len = usize::from(u16_at(&self.0, AT_CHANNEL_LEN));
        self.0.get(HEADER_BYTES..HEADER_BYTES + len).unwrap_or_default()
    }

    /// The id and source if the publisher gave an id: with the channel, the dedupe key.
    pub fn dedupe_key(&self) -> Option<(&str, &str)> {
        dedupe_key(&self.0)
    }
}

/// Room for the images of several events of one channel, side by side in few allocations. Each
/// lives as long as any image in it: so this is for events that also go together, as those of a
/// batch do in a history that drops its oldest first. Allocating and freeing each image by itself,
/// in memory that no cache held any more, was over a tenth of the process in NDJSON.
///
/// The allocations are pieces of at most [`Self::PIECE_BYTES`] (or one image): whatever part of the
/// planned images never comes because they were duplicates, one that does keeps no more alive.
#[derive(Debug, Default)]
pub struct ImageRoom {
    /// Planned, and not placed yet.
    left_bytes: usize,
    bytes: BytesMut,
    piece_bytes: usize,
    piece_is_new: bool,
}

impl ImageRoom {
    /// Most bytes of one allocation, unless one image alone is larger.
    pub const PIECE_BYTES: usize = 8 << 10;

    /// Room for images of so many bytes together. Allocates nothing before the first one comes.
    pub fn new(planned_bytes: usize) -> Self {
        Self { left_bytes: planned_bytes, ..Self::default() }
    }

    /// The allocation that holds the newest image: its bytes, and whether it was made for it.
    pub fn piece(&self) -> (usize, bool) {
        (self.piece_bytes, self.piece_is_new)
    }
}
