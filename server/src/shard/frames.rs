//! The turn's frames: each event encoded at most once per wire format, each run of frames that
//! several connections gathered flattened at most once.
//!
//! During a turn a connection gathers references (node indices into [`TurnFrames`]), not bytes; the
//! events that a channel got together are one reference, however many they are. At the flush a run
//! of one frame is sent as it is, a longer run as one flat buffer. Subscribers of
//! one channel gather the same run one after the other, so remembering the last flat run is enough
//! to share it between all of them: the comparison costs a few nanoseconds, the copy it saves is
//! the whole fan-out. Measured: one flat send of 8 frames costs a seventh of 8 sends.
//!
//! Lives and dies within one turn of one shard. Deliberately absent: who gets what (`delivery`).

use super::coders::Coders;
use super::format::Format;
use bytes::Bytes;
use proto::event::Event;
use smallvec::SmallVec;

/// No node.
const NIL: u32 = u32::MAX;

/// What a frame means to its stream: what a notice names when it is dropped, and where the client
/// stands behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Nothing that moves the client; no policy drops it.
    Control,
    /// The word on how the subscription of a local channel starts; no policy drops it.
    Start {
        /// The local channel.
        channel: u32,
        /// The offset before the first event that follows.
        offset: u64,
    },
    /// An event.
    Event {
        /// The local channel.
        channel: u32,
        /// The event's offset.
        offset: u64,
    },
}

impl Mark {
    /// True for what a policy may drop.
    #[inline]
    pub fn is_event(self) -> bool {
        matches!(self, Self::Event { .. })
    }
}

/// One encoded piece of a stream.
#[derive(Debug, Clone)]
pub struct Frame {
    /// What goes on the wire.
    pub bytes: Bytes,
    /// See [`Mark`].
    pub mark: Mark,
}

/// Frames that stand one behind the other in the turn's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// The first one's index.
    pub first: u32,
    /// How many; at least 1.
    pub count: u32,
}

impl Stretch {
    /// What remains after the first so many, of which there are more.
    #[inline]
    pub fn after(self, skipped: u32) -> Self {
        debug_assert!(skipped < self.count);
        Self { first: self.first + skipped, count: self.count - skipped }
    }
}

/// The frames one endpoint gathered this turn: a list in the turn's nodes.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    head: u32,
    tail: u32,
}

impl Default for Run {
    fn default() -> Self {
        Self { head: NIL, tail: NIL }
    }
}

impl Run {
    /// True if nothing was gathered.
    pub fn is_empty(self) -> bool {
        self.head == NIL
    }
}

#[derive(Debug, Clone, Copy)]
struct Node {
    stretch: Stretch,
    next: u32,
}

/// Every frame of the current turn.
#[derive(Debug, Default)]
pub struct TurnFrames {
    frames: Vec<Frame>,
    nodes: Vec<Node>,
    /// The last run that was flattened, by its frames, and the result.
    flat_key: Vec<Stretch>,
    flat: Bytes,
    /// Scratch for the comparison.
    key: Vec<Stretch>,
    /// Bytes of all frames of the turn.
    bytes: usize,
    /// Frames of all runs of the turn, each as often as it is in one.
    gathered: usize,
    /// See [`Coders`].
    pub coders: Coders,
    /// Bytes that this turn's sends hold beside the frames: flat runs, and what was made for one
    /// connection alone.
    copied: usize,
    /// What was made this turn.
    pub made: Made,
}

/// What a turn made, for the counters.
#[derive(Debug, Clone, Copy, Default)]
pub struct Made {
    /// Frames that were encoded.
    pub frames: u64,
    /// Runs that were joined.
    pub flat_runs: u64,
}

/// Capacity kept between turns; more is given back, so that one burst does not hold memory.
const KEPT: usize = 4_096;

impl TurnFrames {
    /// Without frames.
    pub fn new(coders: Coders) -> Self {
        Self { coders, ..Self::default() }
    }

    /// Adds a frame and returns it, to be given to any number of runs.
    pub fn add(&mut self, bytes: Bytes, mark: Mark) -> Stretch {
        self.bytes += bytes.len();
        self.frames.push(Frame { bytes, mark });
        Stretch { first: (self.frames.len() - 1) as u32, count: 1 }
    }

    /// Encodes events that follow each other in a channel; `before` is the one before them.
    pub fn encode(
        &mut self,
        format: Format,
        events: &[Event],
        before: Option<&Event>,
        channel: u32,
    ) -> Stretch {
        let Self { frames, coders, bytes: sum, .. } = self;
        let first = frames.len() as u32;
        format.encode_all(events, before, coders, |event, bytes| {
            *sum += bytes.len();
            let mark = Mark::Event { channel, offset: event.offset() };
            frames.push(Frame { bytes, mark });
        });
        self.made.frames += events.len() as u64;
        Stretch { first, count: events.len() as u32 }
    }

    /// Appends frames to a run. Returns true if they are the run's first: the endpoint is dirty
    /// now.
    #[inline]
    pub fn gather(&mut self, run: &mut Run, stretch: Stretch) -> bool {
        debug_assert!(stretch.count > 0);
        self.gathered += stretch.count as usize;
        let node = self.nodes.len() as u32;
        self.nodes.push(Node { stretch, next: NIL });
        if run.head == NIL {
            *run = Run { head: node, tail: node };
            return true;
        }
        self.nodes[run.tail as usize].next = node;
        run.tail = node;
        false
    }

    /// Frames gathered so far this turn, over all endpoints: what a copy of each run would hold.
    pub fn gathered(&self) -> usize {
        self.gathered
    }

    /// Bytes copied so far this turn, see [`Self::count_copy`].
    #[inline]
    pub fn copied(&self) -> usize {
        self.copied
    }

    /// So many bytes were made for one connection alone: encrypted, or with a cursor behind them.
    pub fn count_copy(&mut self, bytes: usize) {
        self.copied += bytes;
    }

    /// True if [`Self::flatten`] would copy nothing for this run.
    pub fn is_flat(&self, run: Run) -> bool {
        let mut stretches = self.stretches(run);
        match (stretches.next(), stretches.next()) {
            (None | Some(Stretch { count: 1, .. }), None) => true,
            _ => self.stretches(run).eq(self.flat_key.iter().copied()),
        }
    }

    /// Bytes encoded so far this turn.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The frames of a run, in order.
    pub fn frames(&self, run: Run) -> impl Iterator<Item = &Frame> {
        self.stretches(run).flat_map(|stretch| self.stretch(stretch))
    }

    fn stretches(&self, run: Run) -> impl Iterator<Item = Stretch> {
        let mut at = run.head;
        std::iter::from_fn(move || {
            let node = self.nodes.get(at as usize)?;
            at = node.next;
            Some(node.stretch)
        })
    }

    fn stretch(&self, stretch: Stretch) -> &[Frame] {
        let first = stretch.first as usize;
        &self.frames[first..first + stretch.count as usize]
    }

    /// The run as one buffer: the frame itself if there is one, else a flat copy that the next
    /// endpoint with the same run shares.
    #[inline]
    pub fn flatten(&mut self, run: Run) -> Bytes {
        let first = self.nodes[run.head as usize];
        if first.next == NIL {
            if first.stretch.count == 1 {
                return self.frames[first.stretch.first as usize].bytes.clone();
            }
            if self.flat_key == [first.stretch] {
                return self.flat.clone();
            }
        }
        self.flatten_new(run)
    }

    fn flatten_new(&mut self, run: Run) -> Bytes {
        self.key.clear();
        let mut at = run.head;
        while at != NIL {
            let node = self.nodes[at as usize];
            self.key.push(node.stretch);
            at = node.next;
        }
        if self.key == self.flat_key {
            return self.flat.clone();
        }
        let frames = || self.key.iter().flat_map(|stretch| self.stretch(*stretch));
        let mut flat = Vec::with_capacity(frames().map(|frame| frame.bytes.len()).sum());
        frames().for_each(|frame| flat.extend_from_slice(&frame.bytes));
        self.copied += flat.len();
        self.made.flat_runs += 1;
        std::mem::swap(&mut self.key, &mut self.flat_key);
        self.flat = flat.into();
        self.flat.clone()
    }

    /// Ends the turn. Runs of this turn are void afterwards.
    pub fn clear(&mut self) {
        self.frames.clear();
        self.nodes.clear();
        self.flat_key.clear();
        (self.bytes, self.gathered, self.copied) = (0, 0, 0);
        self.made = Made::default();
        self.flat = Bytes::new();
        self.frames.shrink_to(KEPT);
        self.nodes.shrink_to(KEPT * 8);
    }

    /// Bytes held between turns, for the ledger.
    pub fn memory_bytes(&self) -> usize {
        self.frames.capacity() * size_of::<Frame>()
            + self.nodes.capacity() * size_of::<Node>()
            + self.flat_key.capacity() * 2 * size_of::<Stretch>()
            + self.flat.len()
    }
}

/// The encodings that were needed so far, of events that follow each other in a channel. Few
/// formats are in use at once, mostly one, so looking through them is cheaper than a table.
#[derive(Default)]
pub struct Encodings(SmallVec<[(Format, Stretch); 4]>);

impl Encodings {
    /// The frames of `events` in `format`, encoded on first use.
    #[inline]
    pub fn frames(
        &mut self,
        format: Format,
        events: &[Event],
        before: Option<&Event>,
        channel: u32,
        frames: &mut TurnFrames,
    ) -> Stretch {
        if let Some((_, stretch)) = self.0.iter().find(|(known, _)| *known == format) {
            return *stretch;
        }
        let stretch = frames.encode(format, events, before, channel);
        self.0.push((format, stretch));
        stretch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::event::{DataKind, Draft};
    use proto::position::{Epoch, Position};
    use proto::ws;
    use proto::ws::deflate::Window;

    fn run_of(frames: &mut TurnFrames, parts: &[Stretch]) -> Run {
        let mut run = Run::default();
        for (at, part) in parts.iter().enumerate() {
            assert_eq!(frames.gather(&mut run, *part), at == 0);
        }
        run
    }

    #[test]
    fn equal_runs_share_one_buffer_and_unequal_ones_do_not() {
        let mut frames = TurnFrames::default();
        let a = frames.add(Bytes::from_static(b"a"), Mark::Control);
        let b = frames.add(Bytes::from_static(b"bb"), Mark::Control);
        let first = run_of(&mut frames, &[a, b]);
        let second = run_of(&mut frames, &[a, b]);
        let other = run_of(&mut frames, &[b, a]);
        let (x, y, z) = (frames.flatten(first), frames.flatten(second), frames.flatten(other));
        assert_eq!((&x[..], &z[..]), (&b"abb"[..], &b"bba"[..]));
        assert_eq!(x.as_ptr(), y.as_ptr(), "the second subscriber copied the run again");
    }

    #[test]
    fn frames_that_came_together_are_one_reference_and_flatten_like_single_ones() {
        let mut frames = TurnFrames::default();
        let parts: Vec<Stretch> =
            (0..5u8).map(|n| frames.add(vec![n].into(), Mark::Control)).collect();
        let all = Stretch { first: parts[0].first, count: 5 };
        let (one, many) = (run_of(&mut frames, &[all]), run_of(&mut frames, &parts));
        let late = run_of(&mut frames, &[all.after(3)]);
        assert_eq!(frames.frames(one).count(), 5);
        assert_eq!(frames.gathered(), 5 + 5 + 2, "a stretch counts as many as it has");
        let (one, many) = (frames.flatten(one), frames.flatten(many));
        assert_eq!((&one[..], &many[..]), (&[0, 1, 2, 3, 4][..], &[0, 1, 2, 3, 4][..]));
        assert_eq!(&frames.flatten(late)[..], [3, 4]);
    }

    fn event(data_kind: DataKind, data: &[u8]) -> Event {
        let draft = Draft { channel: "a", data_kind, data, ..Draft::default() };
        draft.build().unwrap().place(Position { epoch: Epoch(1), offset: 1 }, 0)
    }

    #[test]
    fn an_event_is_compressed_once_for_a_window_and_only_where_that_is_shorter() {
        let mut frames = TurnFrames::new(Coders::new(100, 1 << 20));
        let mut encodings = Encodings::default();
        let long = [event(DataKind::Text, &b"abc ".repeat(100))];
        let plain = Format::web_socket(false);
        let mut get = |format: Format, events: &[Event]| {
            let stretch = encodings.frames(format, events, None, 0, &mut frames);
            frames.stretch(stretch)[0].bytes.clone()
        };
        let wide = get(plain.deflated(Window::Full), &long);
        let again = get(plain.deflated(Window::Full), &long);
        assert_eq!(wide.as_ptr(), again.as_ptr(), "the second subscriber compressed it again");
        assert_eq!(wide[0], 0xc1);
        assert!(wide.len() < 50);
        assert_eq!(get(plain.deflated(Window::Small), &long)[0], 0xc1);
        let envelope = Format::web_socket(true).deflated(Window::Medium);
        assert!(envelope.carries_notices());
        assert_eq!(get(envelope, &long)[0], 0xc1);
        for format in [plain, plain.deflated(Window::Full).uncompressed()] {
            assert_eq!(get(format, &long), ws::encode_frame(ws::Opcode::Text, long[0].data()));
        }
        assert_eq!(Format::sse(true, true, true).uncompressed(), Format::sse(true, true, true));
        // Too short, or no shorter for it.
        let noise = (0..150_u32).map(|n| (n.wrapping_mul(0x9e37_79b9) >> 23) as u8).collect();
        for data in [vec![b'a'; 99], noise] {
            let mut coders = Coders::new(100, 1 << 20);
            let event = event(DataKind::Binary, &data);
            let frame = plain.deflated(Window::Full).encode(&event, None, &mut coders);
            assert_eq!(frame, ws::encode_frame(ws::Opcode::Binary, &data));
        }
    }

    #[test]
    fn a_frame_sent_alone_is_not_copied() {
        let mut frames = TurnFrames::default();
        let bytes = Bytes::from(vec![1, 2, 3]);
        let at = bytes.as_ptr();
        let frame = frames.add(bytes, Mark::Control);
        let run = run_of(&mut frames, &[frame]);
        assert_eq!(frames.flatten(run).as_ptr(), at);
    }

    #[test]
    fn an_interleaved_gather_keeps_each_run_in_order() {
        let mut frames = TurnFrames::default();
        let ids: Vec<Stretch> =
            (0..6u8).map(|n| frames.add(vec![n].into(), Mark::Control)).collect();
        let (mut odd, mut even) = (Run::default(), Run::default());
        for (n, id) in ids.iter().enumerate() {
            frames.gather(if n % 2 == 0 { &mut even } else { &mut odd }, *id);
        }
        assert_eq!(&frames.flatten(even)[..], [0, 2, 4]);
        assert_eq!(&frames.flatten(odd)[..], [1, 3, 5]);
    }
}
