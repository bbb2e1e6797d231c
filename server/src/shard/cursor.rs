//! The cursor of an event stream with several channels: where a client that is cut off stands.
//!
//! A browser comes back with the last id it saw, so the cursor must never be ahead of what the
//! client was sent, and must never forget what it came with. It is therefore kept up as frames
//! leave for the socket, by their marks, and not worked out from what the channels have gathered:
//! what still waits in a backlog, or is dropped there, moves nothing. A channel whose start was not
//! said yet keeps the position it was asked from; one that came with no position that we know has
//! no cursor before it was told the gap.
//!
//! Long stretches get cursors on their way, so that a client that is cut off again and again (a
//! poor link, or it is closed as slow) makes progress each time. Deliberately absent: streams of
//! one channel, where every event has its own id. Tested here and by the simulated world, which
//! holds every cursor against what stands before it.

use super::channels::LocalChannels;
use super::connection::Subscriber;
use super::frames::Mark;
use crate::mesh::Since;
use proto::position::{Cursor, Position};

/// Bytes a stream sends before its next cursor, for each of its channels: about one part in
/// seventy of it is cursors then.
const SPACING_BYTES: usize = 2 << 10;

/// Writes what an event stream with several channels is sent.
pub struct CursorWriter<'a> {
    subscriber: &'a mut Subscriber,
    local: &'a LocalChannels,
    out: Vec<u8>,
    /// Bytes since the last cursor.
    fresh_bytes: usize,
    /// The client stands elsewhere since the last cursor.
    has_moved: bool,
}

impl<'a> CursorWriter<'a> {
    /// Nothing is written yet.
    pub fn new(subscriber: &'a mut Subscriber, local: &'a LocalChannels) -> Self {
        Self { subscriber, local, out: Vec::new(), fresh_bytes: 0, has_moved: false }
    }

    /// Bytes written so far.
    pub fn bytes(&self) -> usize {
        self.out.len()
    }

    /// Appends a frame, or the word on what was dropped: `mark` says what the client stands at
    /// behind it.
    pub fn push(&mut self, bytes: &[u8], mark: Mark) {
        if self.has_moved && self.fresh_bytes >= SPACING_BYTES * self.subscriber.keys().len().max(1)
        {
            self.write_cursor();
        }
        self.out.extend_from_slice(bytes);
        self.fresh_bytes += bytes.len();
        let (Mark::Start { channel, offset } | Mark::Event { channel, offset }) = mark else {
            return;
        };
        if let Some(epoch) = self.local.peek(channel).and_then(|channel| channel.epoch()) {
            self.subscriber.stand(channel, Position { epoch, offset });
            self.has_moved = true;
        }
    }

    /// Ends with the cursor and gives everything.
    pub fn finish(mut self) -> Vec<u8> {
        if self.has_moved {
            self.write_cursor();
        }
        self.out
    }

    fn write_cursor(&mut self) {
        let Some(state) = self.subscriber.cursor() else { return };
        let mut positions = Vec::with_capacity(state.since.len());
        for since in &state.since {
            positions.push(match since {
                Since::After(position) => Some(*position),
                Since::Now | Since::Newest | Since::NewestAfter(_) => None,
                Since::Unknown | Since::Offset(_) => return,
            });
        }
        let mut id = Vec::new();
        Cursor { channels_hash: state.channels_hash, positions }.write_to(&mut id);
        let id = std::str::from_utf8(&id).unwrap_or_default();
        let written = proto::sse::write_id(&mut self.out, id);
        debug_assert!(written.is_ok(), "a cursor is legal as an id");
        self.fresh_bytes = 0;
        self.has_moved = false;
    }
}

#[cfg(test)]
mod tests {
    use super::super::connection::{CursorState, SubscriptionKey};
    use super::super::format::Format;
    use super::*;
    use proto::channel::ChannelName;
    use proto::position::Epoch;

    const EPOCH: Epoch = Epoch(7 << 32 | 1);

    fn local() -> LocalChannels {
        let mut local = LocalChannels::new(1);
        for name in ["a", "b"] {
            let (index, _) = local.enter(&ChannelName::new(name).unwrap(), 0);
            local.get(index).unwrap().top = Some(Position { epoch: EPOCH, offset: 1_000 });
        }
        local
    }

    fn subscriber(local: &LocalChannels, since: [Since; 2]) -> Subscriber {
        let state = CursorState { channels_hash: 5, since: since.into() };
        let mut own = Subscriber::new(Format::default(), true, Some(state));
        for name in ["a", "b"] {
            own.push(SubscriptionKey { channel: local.find(name).unwrap(), at: 0 });
        }
        own
    }

    /// The cursors that stand in what was written, and where.
    fn cursors(written: &[u8]) -> Vec<(usize, Cursor)> {
        let text = std::str::from_utf8(written).unwrap();
        let found = text.match_indices("id: ");
        found.map(|(at, _)| (at, text[at + 4..].lines().next().unwrap().parse().unwrap())).collect()
    }

    #[test]
    fn a_long_stretch_has_cursors_on_its_way_that_are_never_ahead() {
        let local = local();
        let [a, b] = ["a", "b"].map(|name| local.find(name).unwrap());
        let asked = Position { epoch: EPOCH, offset: 3 };
        let mut subscriber = subscriber(&local, [Since::After(asked); 2]);
        let mut writer = CursorWriter::new(&mut subscriber, &local);
        let frame = [b'.'; 512];
        writer.push(&frame, Mark::Start { channel: a, offset: 3 });
        for offset in 4..=40 {
            writer.push(&frame, Mark::Event { channel: a, offset });
        }
        writer.push(&frame, Mark::Start { channel: b, offset: 9 });
        let written = writer.finish();
        let cursors = cursors(&written);
        assert!(cursors.len() >= 4, "{cursors:?}");
        for (at, cursor) in &cursors[..cursors.len() - 1] {
            let frames = written[..*at].split(|byte| *byte != b'.').map(<[u8]>::len).sum::<usize>();
            let offset = 3 + (frames / frame.len()) as u64 - 1;
            let stands = Position { epoch: EPOCH, offset };
            assert_eq!(cursor.positions, [Some(stands), Some(asked)]);
        }
        let last = [40, 9].map(|offset| Some(Position { epoch: EPOCH, offset }));
        assert_eq!(cursors.last().unwrap().1.positions, last);
    }

    #[test]
    fn nobody_gets_a_cursor_that_hides_a_gap_they_were_not_told() {
        let local = local();
        let [a, b] = ["a", "b"].map(|name| local.find(name).unwrap());
        let mut subscriber = subscriber(&local, [Since::Now, Since::Unknown]);
        let mut writer = CursorWriter::new(&mut subscriber, &local);
        writer.push(b"e", Mark::Event { channel: a, offset: 8 });
        assert_eq!(writer.finish(), b"e");
        let mut writer = CursorWriter::new(&mut subscriber, &local);
        writer.push(b":\n", Mark::Control);
        assert_eq!(writer.finish(), b":\n");
        let mut writer = CursorWriter::new(&mut subscriber, &local);
        writer.push(b"gap", Mark::Start { channel: b, offset: 2 });
        let both = [8, 2].map(|offset| Some(Position { epoch: EPOCH, offset }));
        assert_eq!(cursors(&writer.finish())[0].1.positions, both);
    }
}
