//! Protobuf events: `proto/schema/shardcast/v1/events.proto`, as they arrive.
//!
//! Two framings of the same events: an `EventBatch`, and events one behind the other with their
//! lengths before them. A batch's events are delimited fields of it, so both stream: an event that
//! arrived whole is decoded where it was received, one that a buffer ends in is spilled, up to the
//! message limit and [`ENVELOPE_BYTES_MAX`]. A longer one is rejected once and passed over without
//! being kept. Nothing is allocated for a length before the bytes are there.
//!
//! What is wrong inside an event loses none of its neighbours; a fault in the framing ends the body
//! with one rejection. Fields we do not know are passed over, as the format asks; of a field given
//! twice the last counts; a known field of another wire type refuses the event.
//! Deliberately absent: groups, descriptors. Tested against `prost` and fuzzed (`tests/fuzz`,
//! target `protobuf`).

mod event;

pub use event::decode_protobuf_event;

use super::{Context, ENVELOPE_BYTES_MAX, Fed, Item, RejectCode, Rejection};
use crate::protobuf::{FIELD_NUMBER_MAX, VARINT_BYTES_MAX, WireError, split_varint};
use std::ops::ControlFlow;

/// How events stand in a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtobufFraming {
    /// The body is one `EventBatch`.
    Batch,
    /// Each `Event` has its length before it, as a varint.
    Delimited,
}

/// The decoder of one body.
#[derive(Debug)]
pub struct ProtobufDecoder {
    framing: ProtobufFraming,
    state: State,
    /// The beginning of a head or of an event whose end has not arrived.
    spill: Vec<u8>,
    index: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A key and what it needs, or a length.
    Head,
    /// An event of this many bytes.
    Event(usize),
    /// Bytes that nobody wants.
    Skip(u64),
    /// The framing is broken: nothing more can be told apart.
    Broken,
}

/// What a head says comes next.
type Head = State;

/// A key and a number behind it.
const HEAD_BYTES_MAX: usize = 2 * VARINT_BYTES_MAX;

/// The format's own limit of a message.
const LENGTH_MAX: u64 = (1 << 31) - 1;

/// A spill buffer larger than this is given back after its event.
const SPILL_BYTES_KEPT: usize = 16 * 1024;

impl ProtobufDecoder {
    /// A decoder at the beginning of a body.
    pub fn new(framing: ProtobufFraming) -> Self {
        Self { framing, state: State::Head, spill: Vec::new(), index: 0 }
    }

    /// Items seen so far, the rejected ones too.
    pub fn items(&self) -> u64 {
        self.index
    }

    /// Bytes held for an unfinished event, for the ledger.
    pub fn spilled_bytes(&self) -> usize {
        self.spill.capacity()
    }

    /// True if an event has begun and not ended.
    pub fn is_inside(&self) -> bool {
        !self.spill.is_empty() || matches!(self.state, State::Event(_) | State::Skip(_))
    }

    /// True if what follows has no meaning any more: a rejection has said so.
    pub fn is_broken(&self) -> bool {
        self.state == State::Broken
    }

    /// Decodes what has arrived. Unless the sink breaks, all of the input is consumed.
    pub fn feed(
        &mut self,
        context: &mut Context<'_>,
        input: &[u8],
        mut sink: impl FnMut(Item) -> ControlFlow<()>,
    ) -> Fed {
        let mut rest = input;
        loop {
            let flow = match self.state {
                State::Broken => return Fed { consumed: input.len(), stopped: false },
                State::Skip(left) => {
                    let now = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    rest = rest.get(now..).unwrap_or_default();
                    let left = left - now as u64;
                    self.state = if left == 0 { State::Head } else { State::Skip(left) };
                    ControlFlow::Continue(())
                }
                State::Event(length) => {
                    let missing = length - self.spill.len();
                    match rest.split_at_checked(missing) {
                        Some((end, after)) => {
                            rest = after;
                            self.event(context, end, &mut sink)
                        }
                        None => {
                            self.spill.extend_from_slice(rest);
                            rest = &[];
                            ControlFlow::Continue(())
                        }
                    }
                }
                // An empty event has no byte that could wait for more input.
                State::Head if rest.is_empty() => ControlFlow::Continue(()),
                State::Head => self.head(context, &mut rest, &mut sink),
            };
            if flow.is_break() {
                return Fed { consumed: input.len() - rest.len(), stopped: true };
            }
            if rest.is_empty() && self.state != State::Event(0) {
                return Fed { consumed: input.len(), stopped: false };
            }
        }
    }

    /// The body has ended: rejects an event that has not. The sink's answer has no meaning.
    pub fn finish(&mut self, mut sink: impl FnMut(Item) -> ControlFlow<()>) {
        if self.is_inside() {
            let _ = self.broken(WireError::Truncated, &mut sink);
        }
    }

    /// Reads a head; one that is cut waits in the spill.
    fn head(
        &mut self,
        context: &Context<'_>,
        rest: &mut &[u8],
        sink: &mut impl FnMut(Item) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let kept = self.spill.len();
        let parsed = if kept == 0 {
            head(self.framing, rest)
        } else {
            let more = rest.len().min(HEAD_BYTES_MAX.saturating_sub(kept));
            self.spill.extend_from_slice(rest.get(..more).unwrap_or_default());
            head(self.framing, &self.spill)
        };
        match parsed {
            Ok(Some((next, used))) => {
                *rest = rest.get(used.saturating_sub(kept)..).unwrap_or_default();
                self.spill.clear();
                self.state = next;
                match next {
                    State::Event(length) if length > event_bytes_max(context) => {
                        self.state = State::Skip(length as u64);
                        self.put(Err(too_large(context)), sink)
                    }
                    _ => ControlFlow::Continue(()),
                }
            }
            Ok(None) => {
                if kept == 0 {
                    self.spill.extend_from_slice(rest);
                }
                *rest = &[];
                ControlFlow::Continue(())
            }
            Err(error) => self.broken(error, sink),
        }
    }

    /// An event has ended with these bytes.
    fn event(
        &mut self,
        context: &mut Context<'_>,
        end: &[u8],
        sink: &mut impl FnMut(Item) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        self.state = State::Head;
        if self.spill.is_empty() {
            let result = decode_protobuf_event(context, end);
            return self.put(result, sink);
        }
        let mut spill = std::mem::take(&mut self.spill);
        spill.extend_from_slice(end);
        let result = decode_protobuf_event(context, &spill);
        if spill.capacity() <= SPILL_BYTES_KEPT {
            spill.clear();
            self.spill = spill;
        }
        self.put(result, sink)
    }

    fn broken(
        &mut self,
        error: WireError,
        sink: &mut impl FnMut(Item) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        self.state = State::Broken;
        self.spill = Vec::new();
        let what = match self.framing {
            ProtobufFraming::Batch => "the body is no EventBatch",
            ProtobufFraming::Delimited => "the body is no sequence of lengths and Events",
        };
        let detail = format!("{what}: {error}; nothing from here on can be read");
        self.put(Err(Rejection::new(RejectCode::InvalidProtobuf, detail)), sink)
    }

    fn put(
        &mut self,
        result: Result<crate::event::Unplaced, Rejection>,
        sink: &mut impl FnMut(Item) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let index = self.index;
        self.index += 1;
        sink(Item { index, result: result.map_err(|rejection| rejection.at(index)) })
    }
}

/// Reads a head: what it says and how many bytes it has; `None` if it has not arrived.
fn head(framing: ProtobufFraming, bytes: &[u8]) -> Result<Option<(Head, usize)>, WireError> {
    let Some((first, rest)) = split_varint(bytes)? else { return Ok(None) };
    let used = |rest: &[u8]| bytes.len() - rest.len();
    if framing == ProtobufFraming::Delimited {
        return Ok(Some((State::Event(length(first)?), used(rest))));
    }
    let number = first >> 3;
    if number == 0 || number > u64::from(FIELD_NUMBER_MAX) {
        return Err(WireError::FieldNumber);
    }
    Ok(match (first & 7, number) {
        (2, _) => split_varint(rest)?
            .map(|(len, rest)| {
                let len = length(len)?;
                let next = if number == EVENTS { State::Event(len) } else { skip(len as u64) };
                Ok((next, used(rest)))
            })
            .transpose()?,
        (_, EVENTS) => return Err(WireError::WireType),
        (0, _) => split_varint(rest)?.map(|(_, rest)| (State::Head, used(rest))),
        (1, _) => Some((skip(8), used(rest))),
        (5, _) => Some((skip(4), used(rest))),
        _ => return Err(WireError::WireType),
    })
}

fn skip(bytes: u64) -> State {
    if bytes == 0 { State::Head } else { State::Skip(bytes) }
}

fn length(number: u64) -> Result<usize, WireError> {
    if number > LENGTH_MAX { Err(WireError::Truncated) } else { Ok(number as usize) }
}

/// `EventBatch.events`.
const EVENTS: u64 = 1;

fn event_bytes_max(context: &Context<'_>) -> usize {
    context.data_bytes_max.saturating_add(ENVELOPE_BYTES_MAX)
}

fn too_large(context: &Context<'_>) -> Rejection {
    let bytes_max = event_bytes_max(context);
    Rejection::new(RejectCode::TooLarge, format!("the event is longer than {bytes_max} bytes"))
}

#[cfg(test)]
mod tests;
