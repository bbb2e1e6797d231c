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

use bytes::Bytes;
use proto::event::{DataKind, Event};
use proto::{envelope, sse, ws};

/// No node.
const NIL: u32 = u32::MAX;

/// How an event is written for a subscriber: a set of independent choices, so that it indexes the
/// per-event cache of encodings directly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Format(u8);

impl Format {
    const SSE: u8 = 1;
    const ENVELOPE: u8 = 2;
    const TYPED: u8 = 4;
    const WITH_ID: u8 = 8;
    /// Number of distinct formats.
    pub const COUNT: usize = 16;

    /// WebSocket messages: the data as it is, or the JSON envelope.
    pub fn web_socket(envelope: bool) -> Self {
        Self(if envelope { Self::ENVELOPE } else { 0 })
    }

    /// SSE events: envelope or data, with or without an `event:` line, with or without an `id:`.
    pub fn sse(envelope: bool, typed: bool, with_id: bool) -> Self {
        let mut bits = Self::SSE;
        bits |= if envelope { Self::ENVELOPE } else { 0 };
        bits |= if typed { Self::TYPED } else { 0 };
        bits |= if with_id { Self::WITH_ID } else { 0 };
        Self(bits)
    }

    /// True for server-sent events.
    pub fn is_sse(self) -> bool {
        self.has(Self::SSE)
    }

    /// True if gaps and notices can be said inside the stream.
    pub fn carries_notices(self) -> bool {
        self.is_sse() || self.has(Self::ENVELOPE)
    }

    fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }

    fn index(self) -> usize {
        usize::from(self.0)
    }

    /// Encodes one event.
    pub fn encode(self, event: &Event) -> Bytes {
        if !self.is_sse() {
            return self.encode_message(event);
        }
        let mut out = Vec::with_capacity(event.data().len() + 96);
        let mut text = Vec::new();
        let data = if self.has(Self::ENVELOPE) {
            envelope::write_envelope(&mut text, event);
            &text[..]
        } else if event.data_kind() == DataKind::Binary {
            // An event stream is text; whoever wants the bytes exactly asks for the envelope.
            envelope::write_base64(&mut text, event.data());
            &text[..]
        } else {
            event.data()
        };
        let mut id = Vec::new();
        if self.has(Self::WITH_ID) {
            event.position().write_to(&mut id);
        }
        let id = std::str::from_utf8(&id).ok().filter(|id| !id.is_empty());
        let kind = (self.has(Self::TYPED) && !event.kind().is_empty()).then(|| event.kind());
        // Types are checked when they are published; one that SSE cannot carry is left out.
        if sse::write_event(&mut out, id, kind, data).is_err() {
            let written = sse::write_event(&mut out, id, None, data);
            debug_assert!(written.is_ok(), "a position is legal as an id");
        }
        out.into()
    }

    fn encode_message(self, event: &Event) -> Bytes {
        if self.has(Self::ENVELOPE) {
            let mut text = Vec::with_capacity(event.size() + 128);
            envelope::write_envelope(&mut text, event);
            return ws::encode_frame(ws::Opcode::Text, &text);
        }
        let opcode = match event.data_kind() {
            DataKind::Json | DataKind::Text => ws::Opcode::Text,
            DataKind::Binary => ws::Opcode::Binary,
        };
        ws::encode_frame(opcode, event.data())
    }
}

/// Which event a frame carries: what a notice names when the frame is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventMark {
    /// The local channel.
    pub channel: u32,
    /// The event's offset.
    pub offset: u64,
}

/// One encoded piece of a stream.
#[derive(Debug, Clone)]
pub struct Frame {
    /// What goes on the wire.
    pub bytes: Bytes,
    /// `None` for control frames, which no policy drops.
    pub mark: Option<EventMark>,
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
}

/// Capacity kept between turns; more is given back, so that one burst does not hold memory.
const KEPT: usize = 4_096;

impl TurnFrames {
    /// Adds a frame and returns it, to be given to any number of runs.
    pub fn add(&mut self, bytes: Bytes, mark: Option<EventMark>) -> Stretch {
        self.bytes += bytes.len();
        self.frames.push(Frame { bytes, mark });
        Stretch { first: (self.frames.len() - 1) as u32, count: 1 }
    }

    /// Encodes events that follow each other in a channel.
    pub fn encode(&mut self, format: Format, events: &[Event], channel: u32) -> Stretch {
        let first = self.frames.len() as u32;
        for event in events {
            let mark = EventMark { channel, offset: event.offset() };
            self.add(format.encode(event), Some(mark));
        }
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

    /// Bytes encoded so far this turn.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The frames of a run, in order.
    pub fn frames(&self, run: Run) -> impl Iterator<Item = &Frame> {
        let mut at = run.head;
        let nodes = std::iter::from_fn(move || {
            let node = self.nodes.get(at as usize)?;
            at = node.next;
            Some(node.stretch)
        });
        nodes.flat_map(|stretch| self.stretch(stretch))
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
        std::mem::swap(&mut self.key, &mut self.flat_key);
        self.flat = flat.into();
        self.flat.clone()
    }

    /// Ends the turn. Runs of this turn are void afterwards.
    pub fn clear(&mut self) {
        self.frames.clear();
        self.nodes.clear();
        self.flat_key.clear();
        (self.bytes, self.gathered) = (0, 0);
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

/// The encodings that were needed so far, of events that follow each other in a channel.
pub struct Encodings([Option<Stretch>; Format::COUNT]);

impl Default for Encodings {
    fn default() -> Self {
        Self([None; Format::COUNT])
    }
}

impl Encodings {
    /// The frames of `events` in `format`, encoded on first use.
    #[inline]
    pub fn frames(
        &mut self,
        format: Format,
        events: &[Event],
        channel: u32,
        frames: &mut TurnFrames,
    ) -> Stretch {
        let slot = &mut self.0[format.index()];
        *slot.get_or_insert_with(|| frames.encode(format, events, channel))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let a = frames.add(Bytes::from_static(b"a"), None);
        let b = frames.add(Bytes::from_static(b"bb"), None);
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
        let parts: Vec<Stretch> = (0..5u8).map(|n| frames.add(vec![n].into(), None)).collect();
        let all = Stretch { first: parts[0].first, count: 5 };
        let (one, many) = (run_of(&mut frames, &[all]), run_of(&mut frames, &parts));
        let late = run_of(&mut frames, &[all.after(3)]);
        assert_eq!(frames.frames(one).count(), 5);
        assert_eq!(frames.gathered(), 5 + 5 + 2, "a stretch counts as many as it has");
        let (one, many) = (frames.flatten(one), frames.flatten(many));
        assert_eq!((&one[..], &many[..]), (&[0, 1, 2, 3, 4][..], &[0, 1, 2, 3, 4][..]));
        assert_eq!(&frames.flatten(late)[..], [3, 4]);
    }

    #[test]
    fn a_frame_sent_alone_is_not_copied() {
        let mut frames = TurnFrames::default();
        let bytes = Bytes::from(vec![1, 2, 3]);
        let at = bytes.as_ptr();
        let frame = frames.add(bytes, None);
        let run = run_of(&mut frames, &[frame]);
        assert_eq!(frames.flatten(run).as_ptr(), at);
    }

    #[test]
    fn an_interleaved_gather_keeps_each_run_in_order() {
        let mut frames = TurnFrames::default();
        let ids: Vec<Stretch> = (0..6u8).map(|n| frames.add(vec![n].into(), None)).collect();
        let (mut odd, mut even) = (Run::default(), Run::default());
        for (n, id) in ids.iter().enumerate() {
            frames.gather(if n % 2 == 0 { &mut even } else { &mut odd }, *id);
        }
        assert_eq!(&frames.flatten(even)[..], [0, 2, 4]);
        assert_eq!(&frames.flatten(odd)[..], [1, 3, 5]);
    }
}
