//! NDJSON: one envelope per line, a body of any length in bounded memory.
//!
//! Whole lines are decoded where they were received; only the line that a buffer ends in is
//! spilled, up to the message limit and [`ENVELOPE_BYTES_MAX`]. A longer line is rejected once and
//! skipped to its end without being kept. Lines end with LF or CRLF, the last one may end with the
//! body; blank lines are nothing.

use super::{Context, ENVELOPE_BYTES_MAX, Item, RejectCode, Rejection, decode_envelope};
use std::ops::ControlFlow;

/// How far a call of [`NdjsonDecoder::feed`] came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fed {
    /// Bytes of the input that are done with. Feed the rest again after a stop.
    pub consumed: usize,
    /// The sink broke off: it has taken its last item and wants no more now.
    pub stopped: bool,
}

/// The decoder of one body.
#[derive(Debug, Default)]
pub struct NdjsonDecoder {
    /// The beginning of a line whose end has not arrived.
    spill: Vec<u8>,
    /// The line is over the limit and rejected; only its end is still of interest.
    skipping: bool,
    index: u64,
}

/// A spill buffer larger than this is given back after its line.
const SPILL_BYTES_KEPT: usize = 16 * 1024;

impl NdjsonDecoder {
    /// A decoder at the beginning of a body.
    pub fn new() -> Self {
        Self::default()
    }

    /// Items seen so far, the rejected ones too.
    pub fn items(&self) -> u64 {
        self.index
    }

    /// Bytes held for an unfinished line, for the ledger.
    pub fn spilled_bytes(&self) -> usize {
        self.spill.capacity()
    }

    /// True if a line has begun and not ended.
    pub fn is_inside(&self) -> bool {
        self.skipping || !self.spill.is_empty()
    }

    /// Decodes what has arrived. Unless the sink breaks, all of the input is consumed.
    pub fn feed(
        &mut self,
        context: &mut Context<'_>,
        input: &[u8],
        mut sink: impl FnMut(Item) -> ControlFlow<()>,
    ) -> Fed {
        let mut consumed = 0;
        loop {
            let rest = input.get(consumed..).unwrap_or_default();
            let Some(len) = memchr::memchr(b'\n', rest) else {
                let stopped = self.keep(context, rest, &mut sink).is_break();
                return Fed { consumed: input.len(), stopped };
            };
            consumed += len + 1;
            let line = rest.get(..len).unwrap_or_default();
            if self.line(context, line, &mut sink).is_break() {
                return Fed { consumed, stopped: true };
            }
        }
    }

    /// The body has ended: decodes a last line without an end. The sink's answer has no meaning.
    pub fn finish(
        &mut self,
        context: &mut Context<'_>,
        mut sink: impl FnMut(Item) -> ControlFlow<()>,
    ) {
        let _ = self.line(context, b"", &mut sink);
    }

    /// A line has ended with these bytes.
    fn line(
        &mut self,
        context: &mut Context<'_>,
        tail: &[u8],
        sink: &mut impl FnMut(Item) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        if std::mem::take(&mut self.skipping) {
            return ControlFlow::Continue(());
        }
        if self.spill.is_empty() {
            return self.item(context, tail, sink);
        }
        let flow = self.keep(context, tail, sink);
        if std::mem::take(&mut self.skipping) {
            return flow;
        }
        let mut spill = std::mem::take(&mut self.spill);
        let flow = self.item(context, &spill, sink);
        if spill.capacity() <= SPILL_BYTES_KEPT {
            spill.clear();
            self.spill = spill;
        }
        flow
    }

    /// Spills a part of a line, or rejects the line if it is over the limit.
    fn keep(
        &mut self,
        context: &Context<'_>,
        part: &[u8],
        sink: &mut impl FnMut(Item) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        if self.skipping {
            return ControlFlow::Continue(());
        }
        if self.spill.len() + part.len() <= line_bytes_max(context) {
            self.spill.extend_from_slice(part);
            return ControlFlow::Continue(());
        }
        self.skipping = true;
        self.spill = Vec::new();
        self.put(Err(line_too_large(context)), sink)
    }

    fn item(
        &mut self,
        context: &mut Context<'_>,
        line: &[u8],
        sink: &mut impl FnMut(Item) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        // The length comes first, so that a line fares alike however it was cut on the way.
        if line.len() > line_bytes_max(context) {
            return self.put(Err(line_too_large(context)), sink);
        }
        if line.iter().all(|b| matches!(b, b' ' | b'\t' | b'\r')) {
            return ControlFlow::Continue(());
        }
        let result = decode_envelope(context, line);
        self.put(result, sink)
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

/// Base64 makes four bytes of three.
fn line_bytes_max(context: &Context<'_>) -> usize {
    context
        .data_bytes_max
        .saturating_add(context.data_bytes_max / 3)
        .saturating_add(ENVELOPE_BYTES_MAX)
}

fn line_too_large(context: &Context<'_>) -> Rejection {
    let bytes_max = line_bytes_max(context);
    Rejection::new(RejectCode::TooLarge, format!("the line is longer than {bytes_max} bytes"))
}
