//! Streams of events that are answered while they run: `POST /v1/events/stream`.
//!
//! The request's items gather in a *round*. A round is closed when all of its items were handed
//! over, and the next one begins; when its batches have been answered (and the store has it, under
//! `ack=stored`) its line goes out, in the order of the rounds. While a closed round is under way
//! the open one gathers, so the lines pace themselves: one for each item when items are rare, one
//! for hundreds under load.
//!
//! Full means back-pressure: with [`ROUNDS_MAX`] rounds under way, or [`LINES_BYTES_MAX`] of lines
//! that the peer has not taken, nothing more is decoded, and what arrives keeps its flow-control
//! credit. That alone is no overload; a full lane for `publish_wait_s` is, as ever: a line names
//! the first item that was not taken, and the stream ends. A drain stops reading, answers what was
//! read, and says so. An idle stream is nobody's business, since the connection's pings watch it;
//! only an item that began and does not arrive is timed out.

use super::stored::Wanted;
use super::{Asker, Publish, PublishId};
use crate::driver::ConnId;
use crate::mesh::AckMode;
use crate::shard::Shard;
use crate::shard::http::Response;
use bytes::Bytes;
use proto::answer::{AnswerFormat, PublishAnswer, StreamEnd, Totals};
use proto::decode::ContentKind;
use proto::h2::StreamKey;
use std::collections::VecDeque;

/// Rounds that wait for their answers.
const ROUNDS_MAX: usize = 16;

/// A round with so many items is closed even while another one is under way.
const ROUND_ITEMS: u64 = 1_000;

/// Lines that wait for the peer.
const LINES_BYTES_MAX: usize = 64 << 10;

/// How long the end of a request is waited for after its last line.
const LINGER_MS: u64 = 5_000;

/// A stream that has said all, and whose request is still open.
#[derive(Debug)]
pub(super) struct Lingering {
    pub(super) due_ms: u64,
    conn: ConnId,
    stream: StreamKey,
}

/// What a stream has answered, and what waits for its answer.
#[derive(Debug)]
pub(super) struct Acks {
    format: AnswerFormat,
    /// Oldest first.
    closed: VecDeque<Round>,
    /// Counts rounds; this is the open one, whose answer is the request's.
    round: u64,
    /// Items of closed rounds: all before this index.
    upto: u64,
    totals: Totals,
    draining: bool,
    /// The last round is closed: what was decoded beyond a stop is no item any more.
    sealed: bool,
    /// In [`super::Publishes::held_back`].
    held: bool,
}

/// Items that are answered with one line.
#[derive(Debug)]
struct Round {
    answer: PublishAnswer,
    in_flight: u32,
    wanted: Wanted,
    upto: u64,
}

impl Acks {
    pub(super) fn new(format: AnswerFormat) -> Self {
        Self {
            format,
            closed: VecDeque::new(),
            round: 0,
            upto: 0,
            totals: Totals::default(),
            draining: false,
            sealed: false,
            held: false,
        }
    }

    /// What names the open round in a batch.
    pub(super) fn round(&self) -> u64 {
        self.round
    }
}

/// How a stream over this connection and of this type is answered.
pub(super) fn acks_of(asker: Asker, kind: ContentKind) -> Result<Acks, Response> {
    if !matches!(asker, Asker::Http2(..)) {
        let text = "streams are answered while they run, which takes HTTP/2; over HTTP/1.1 post \
                    NDJSON to /v1/events, which is answered at its end";
        return Err(Response::error(501, "http2_required", text));
    }
    match kind {
        ContentKind::Ndjson => Ok(Acks::new(AnswerFormat::Json)),
        ContentKind::Protobuf => Ok(Acks::new(AnswerFormat::Protobuf)),
        _ => {
            let text = "a stream is application/x-ndjson, or application/x-protobuf with a length \
                        before each Event";
            Err(Response::error(415, "unsupported_media_type", text))
        }
    }
}

impl Publish {
    /// True if it is answered while it runs.
    pub(super) fn is_stream(&self) -> bool {
        self.acks.is_some()
    }

    /// The head of a stream's answer.
    pub(in crate::shard) fn stream_response(&self) -> Option<Response> {
        let format = self.acks.as_ref()?.format;
        let response = Response::empty(200).with("content-type", format.stream_type());
        Some(response.with("cache-control", "no-store").with("x-accel-buffering", "no"))
    }

    /// Stops a stream that cannot be read any further: what it is refused with stands there.
    pub(super) fn stop_if_broken(&mut self) {
        if self.acks.is_some() && self.stopped.is_none() && self.body.is_broken() {
            self.stopped = Some(Response::empty(400));
            self.waiting.clear();
        }
    }

    /// True if a stream must not be decoded further before lines have gone out.
    pub(super) fn waits_for_acks(&self) -> bool {
        self.acks.as_ref().is_some_and(|acks| {
            acks.closed.len() >= ROUNDS_MAX && self.body.items() - acks.upto >= ROUND_ITEMS
        })
    }

    /// Where the outcome of a batch belongs.
    pub(super) fn round_of(&mut self, round: u64) -> (&mut PublishAnswer, &mut Wanted) {
        self.in_flight -= 1;
        if let Some(acks) = &mut self.acks {
            let back = (acks.round - round) as usize;
            if let Some(at) = acks.closed.len().checked_sub(back).filter(|_| back > 0) {
                let found = &mut acks.closed[at];
                found.in_flight -= 1;
                return (&mut found.answer, &mut found.wanted);
            }
        }
        (&mut self.answer, &mut self.wanted)
    }

    /// Closes the open round if it is time; `last`: it is, if it has anything to say.
    fn close_round(&mut self, last: bool) {
        let Some(acks) = &mut self.acks else { return };
        let mut upto = self.body.items();
        if let Some(stopped_at) = self.answer.stopped_at() {
            upto = upto.min(stopped_at);
        }
        let items = upto.saturating_sub(acks.upto);
        let handed = self.batches.iter().all(|batch| batch.items.is_empty());
        let due = acks.closed.is_empty() || items >= ROUND_ITEMS && acks.closed.len() < ROUNDS_MAX;
        let says = items > 0 || self.answer.rejected() > 0;
        if acks.sealed || !says || !handed || !(due || last) {
            return;
        }
        acks.sealed = last;
        let before: u32 = acks.closed.iter().map(|round| round.in_flight).sum();
        acks.closed.push_back(Round {
            answer: std::mem::replace(&mut self.answer, PublishAnswer::sums()),
            in_flight: self.in_flight - before,
            wanted: std::mem::take(&mut self.wanted),
            upto,
        });
        acks.round += 1;
        acks.upto = upto;
    }

    /// Why the stream ends, once it does.
    fn stream_end(&self) -> Option<StreamEnd> {
        let acks = self.acks.as_ref()?;
        let Some(stopped) = &self.stopped else {
            let read = self.decoded && self.input_ended && self.waiting.is_empty();
            return read.then_some(StreamEnd::Complete);
        };
        Some(match stopped.status {
            _ if acks.draining => StreamEnd::Draining,
            503 => StreamEnd::Overloaded,
            408 => StreamEnd::Timeout,
            _ => StreamEnd::Broken,
        })
    }
}

impl Shard {
    /// Says what can be said on a stream, and ends it when it is over.
    pub(super) fn run_stream(&mut self, id: PublishId) {
        loop {
            let Some(publish) = self.publishes.get(id) else { return };
            let ack = publish.ack;
            let Asker::Http2(conn, stream) = publish.asker else { return };
            let end = publish.stream_end().filter(|_| publish.parked_ms.is_none());
            publish.close_round(end.is_some());
            let Some(acks) = &mut publish.acks else { return };
            let Some(round) = acks.closed.front_mut() else {
                if let Some(end) = end {
                    self.end_stream(id, end);
                }
                return;
            };
            if round.in_flight > 0 {
                return;
            }
            let mut wanted = std::mem::take(&mut round.wanted);
            if ack == AckMode::Stored {
                match self.look_at_store(id, &mut wanted) {
                    Some(true) => {}
                    Some(false) => {
                        self.end_stream(id, StreamEnd::NotStored);
                        return;
                    }
                    None => {
                        self.put_wanted(id, wanted);
                        return;
                    }
                }
            }
            if self.queued_on_stream(conn, stream) > LINES_BYTES_MAX {
                // Every turn looks again: that of the window that opens, too.
                self.hold_back(id);
                return;
            }
            self.say_line(id, conn, stream);
        }
    }

    fn put_wanted(&mut self, id: PublishId, wanted: Wanted) {
        let acks = self.publishes.get(id).and_then(|publish| publish.acks.as_mut());
        if let Some(round) = acks.and_then(|acks| acks.closed.front_mut()) {
            round.wanted = wanted;
        }
    }

    fn say_line(&mut self, id: PublishId, conn: ConnId, stream: StreamKey) {
        let Some(publish) = self.publishes.get(id) else { return };
        let Some(acks) = &mut publish.acks else { return };
        let Some(Round { answer, upto, .. }) = acks.closed.pop_front() else { return };
        acks.totals.add(&answer, upto);
        let mut line = Vec::with_capacity(256);
        answer.write_line(&mut line, upto, acks.format);
        self.count_refusals(&answer);
        self.piece_http2(conn, stream, line.into(), false);
    }

    /// The last line.
    fn end_stream(&mut self, id: PublishId, end: StreamEnd) {
        let Some(publish) = self.publishes.remove(id) else { return };
        let (Asker::Http2(conn, stream), Some(acks)) = (publish.asker, publish.acks) else {
            return;
        };
        let mut line = Vec::new();
        acks.totals.write(&mut line, end, acks.format);
        if publish.input_ended {
            self.piece_http2(conn, stream, Bytes::from(line), true);
            return;
        }
        self.last_piece_http2(conn, stream, Bytes::from(line));
        // What was held back while it was parked: its peer must be able to come to its end.
        self.release_http2(conn, stream, publish.unreleased);
        let patience_ms = self.now.ms + LINGER_MS;
        let due_ms = self.drain.map_or(patience_ms, |drain| patience_ms.min(drain.answer_by_ms()));
        self.publishes.lingering.push_back(Lingering { due_ms, conn, stream });
    }

    /// Ends the streams whose peers have not ended their requests.
    pub(super) fn run_lingering(&mut self) {
        while let Some(first) = self.publishes.lingering.front() {
            if self.now.ms < first.due_ms {
                return;
            }
            let Lingering { conn, stream, .. } = *first;
            self.publishes.lingering.pop_front();
            self.stop_lingering(conn, stream);
        }
    }

    fn hold_back(&mut self, id: PublishId) {
        let acks = self.publishes.get(id).and_then(|publish| publish.acks.as_mut());
        if let Some(acks) = acks
            && !std::mem::replace(&mut acks.held, true)
        {
            self.publishes.held_back.push(id);
        }
    }

    /// Looks again at the streams whose peer did not take its lines.
    pub(super) fn run_held_back(&mut self) {
        for id in std::mem::take(&mut self.publishes.held_back) {
            if let Some(acks) = self.publishes.get(id).and_then(|publish| publish.acks.as_mut()) {
                acks.held = false;
                self.publishes.touched.push(id);
            }
        }
    }

    /// Reads no more of a connection's streams: what was read is answered, and they end.
    pub(in crate::shard) fn drain_streams(&mut self, ids: Vec<PublishId>) {
        for id in ids {
            let Some(publish) = self.publishes.get(id) else { continue };
            let Some(acks) = &mut publish.acks else { continue };
            acks.draining = true;
            if publish.stopped.is_none() {
                publish.stopped = Some(Response::empty(503));
                publish.waiting.clear();
            }
            self.publishes.touched.push(id);
        }
    }
}
