//! Compressed bodies on their way to their decoder.
//!
//! A piece is expanded into one scratch buffer of the shard and decoded from there, so what it
//! expands to meets the limits of a plain body while it does: 413 for a buffered one, the line's
//! limit in NDJSON. A bomb costs its sender's turn and nobody else's: a shard expands
//! [`EXPAND_BYTES_PER_TURN`] a turn over all requests; who has more is parked and goes on in the
//! next one, first in first out. The decoder's state, a zstd window above all, is charged to the
//! pool of bodies; without room there the request is refused.

use super::{Publish, PublishId};
use crate::shard::Shard;
use crate::shard::http::{Head, Response};
use bytes::Bytes;
use proto::decode::{CODINGS, Coding, ExpandError, Expander, GZIP_BYTES, RejectCode, Rejection};

/// About two milliseconds of decoding.
pub(super) const EXPAND_BYTES_PER_TURN: usize = 1 << 20;

/// One step: it stays in the second-level cache until it is decoded.
const SCRATCH_BYTES: usize = 32 << 10;

/// What a step costs at least: a body of empty gzip members is work too.
const STEP_BYTES_MIN: usize = 1 << 10;

/// Compressed bytes of a buffered body beyond its limit when expanded: headers, and blocks that
/// were not worth compressing.
const OVERHEAD_BYTES_MAX: u64 = 64 << 10;

/// The decompression of one body.
#[derive(Debug)]
pub(super) struct Expanding {
    expander: Expander,
    /// Expanded and not decoded yet: less than the scratch buffer.
    rest: Bytes,
    /// Compressed bytes so far.
    taken: u64,
    finished: bool,
}

impl Expanding {
    /// True once the body has been expanded to its end.
    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    pub(super) fn held_bytes(&self) -> usize {
        size_of::<Self>() + self.expander.memory_bytes() + self.rest.len()
    }
}

/// The compression that a request names.
pub(super) fn coding_of(head: &Head<'_>) -> Result<Option<Coding>, Response> {
    if head.headers.get("content-encoding").is_none() {
        return Ok(None);
    }
    let mut values = Vec::new();
    head.headers.each(&mut |name, value| {
        if name == "content-encoding" {
            values.push(value.to_vec());
        }
    });
    //= rfc9110#15.5.16
    // The refusal says what would have been taken.
    Coding::of(values.iter().map(Vec::as_slice)).map_err(|error| {
        Response::error(415, "unsupported_encoding", &error.to_string())
            .with("accept-encoding", CODINGS)
    })
}

impl Shard {
    /// A decoder for a compressed body, if the pool of bodies has room for the least it needs.
    pub(super) fn start_expanding(&self, coding: Coding) -> Result<Box<Expanding>, Response> {
        let expander = (self.body_room() >= GZIP_BYTES).then(|| Expander::new(coding)).flatten();
        let Some(expander) = expander else { return Err(no_room()) };
        Ok(Box::new(Expanding { expander, rest: Bytes::new(), taken: 0, finished: false }))
    }

    /// Room in the pool of bodies; an empty pool takes one of any size.
    fn body_room(&self) -> usize {
        match self.publishes.charged {
            0 => usize::MAX,
            charged => self.settings.body_pool_bytes.saturating_sub(charged),
        }
    }

    /// True if a request has to wait for the next turn; then there will be one.
    pub(super) fn must_yield(&mut self, id: PublishId) -> bool {
        let spent = self.publishes.expand_left == 0;
        let must = spent && self.publishes.get(id).is_some_and(|p| p.expanding.is_some());
        self.publishes.yielded |= must;
        must
    }

    /// Gives a request a piece of its body as it was sent; returns how much of it was used.
    pub(super) fn take_piece(&mut self, id: PublishId, input: &[u8]) -> usize {
        match self.publishes.get(id) {
            None => input.len(),
            Some(publish) if publish.expanding.is_none() => self.decode_publish(id, input),
            Some(_) => {
                let mut scratch = std::mem::take(&mut self.publishes.scratch);
                scratch.resize(SCRATCH_BYTES, 0);
                let used = self.expand(id, input, &mut scratch);
                self.publishes.scratch = scratch;
                used
            }
        }
    }

    fn expand(&mut self, id: PublishId, input: &[u8], scratch: &mut [u8]) -> usize {
        let mut used = 0;
        loop {
            let Some(publish) = self.publishes.get(id) else { return input.len() };
            if publish.stopped.is_some() {
                // What was taken before may still have to be handed over.
                self.decode_publish(id, &[]);
                return input.len();
            }
            let Some(expanding) = &mut publish.expanding else { return input.len() };
            let rest = std::mem::take(&mut expanding.rest);
            if !rest.is_empty() {
                if self.decode_expanded(id, &rest) {
                    return used;
                }
                continue;
            }
            if self.publishes.expand_left == 0 {
                self.yield_turn(id);
                return used;
            }
            let Some(publish) = self.publishes.get(id) else { return input.len() };
            let Some(expanding) = &mut publish.expanding else { return input.len() };
            let step = match expanding.expander.step(&input[used..], scratch) {
                Ok(step) => step,
                Err(error) => {
                    self.stop_expanding(id, error);
                    continue;
                }
            };
            used += step.used;
            expanding.taken += step.used as u64;
            if !self.has_body_room(id) {
                continue;
            }
            let cost = (step.used + step.made).max(STEP_BYTES_MIN);
            self.publishes.expand_left = self.publishes.expand_left.saturating_sub(cost);
            if step.made > 0 {
                if self.decode_expanded(id, &scratch[..step.made]) {
                    return used;
                }
            } else if used == input.len() && self.end_expanding(id) {
                return used;
            }
        }
    }

    /// Decodes what was expanded. `true`: the request is parked and keeps what it could not use.
    fn decode_expanded(&mut self, id: PublishId, expanded: &[u8]) -> bool {
        let used = self.decode_publish(id, expanded);
        let Some(publish) = self.publishes.get(id) else { return false };
        if used < expanded.len()
            && publish.stopped.is_none()
            && let Some(expanding) = &mut publish.expanding
        {
            expanding.rest = Bytes::copy_from_slice(&expanded[used..]);
        }
        publish.parked_ms.is_some()
    }

    /// The turn's share is used up: goes on in the next one.
    fn yield_turn(&mut self, id: PublishId) {
        let now_ms = self.now.ms;
        let Some(publish) = self.publishes.get(id) else { return };
        publish.yields += 1;
        publish.parked_ms = Some(now_ms);
        self.publishes.parked.push_back(id);
        self.publishes.yielded = true;
    }

    /// All that has come is expanded; if the body has ended, so must its compression. `false` if
    /// it has not.
    fn end_expanding(&mut self, id: PublishId) -> bool {
        let Some(publish) = self.publishes.get(id) else { return true };
        let more = !publish.input_ended || !publish.waiting.is_empty();
        let Some(expanding) = &mut publish.expanding else { return true };
        match expanding.expander.finish() {
            _ if more => return true,
            Ok(()) => expanding.finished = true,
            Err(error) => {
                self.stop_expanding(id, error);
                return false;
            }
        }
        self.decode_publish(id, &[]);
        true
    }

    /// The body is not what it says: what was taken before stays taken.
    fn stop_expanding(&mut self, id: PublishId, error: ExpandError) {
        let Some(publish) = self.publishes.get(id) else { return };
        let index = publish.body.items();
        let rejection = Rejection::new(RejectCode::InvalidEncoding, error.to_string());
        publish.answer.stop(rejection.at(index));
        publish.stopped = Some(Response::error(400, "invalid_encoding", &error.to_string()));
        publish.waiting.clear();
        self.publishes.touched.push(id);
    }

    /// Charges what the decoder holds; `false` if there is no room, or the body is over its limit
    /// before it is expanded: then the request is stopped.
    fn has_body_room(&mut self, id: PublishId) -> bool {
        let bytes_max = u64::from(self.settings.limits.body_bytes_max);
        let pool = self.settings.body_pool_bytes;
        let Some(publish) = self.publishes.get(id) else { return false };
        let Some(expanding) = &publish.expanding else { return true };
        let long = expanding.taken > bytes_max + OVERHEAD_BYTES_MAX && !publish.body.streams();
        let held = publish.body.held_bytes() + expanding.held_bytes();
        let before = std::mem::replace(&mut publish.charged, held);
        let others = self.publishes.charged - before;
        self.publishes.charged = others + held;
        let response = if long {
            super::too_large(self.settings.limits.body_bytes_max)
        } else if others > 0 && others + held > pool {
            no_room()
        } else {
            return true;
        };
        if let Some(publish) = self.publishes.get(id) {
            publish.stop_with(response);
        }
        self.publishes.touched.push(id);
        false
    }
}

impl Publish {
    /// Nothing more of the body is taken.
    fn stop_with(&mut self, response: Response) {
        self.stopped = Some(response);
        self.waiting.clear();
        self.expanding = None;
    }
}

fn no_room() -> Response {
    let text = "too many bodies are being received; send this one again";
    Response::error(503, "overloaded", text)
}
