//! Bodies into items: one step of whichever decoder the content type chose.

use super::admission::Admission;
use proto::decode::{
    self, BodyDecoder, BodyShape, ContentKind, Context, Item, NdjsonDecoder, Progress,
};
use std::ops::ControlFlow;

pub(super) fn decoder_of(kind: ContentKind) -> Option<BodyDecoder> {
    let shape = match kind {
        ContentKind::Json => BodyShape::Envelopes,
        ContentKind::CloudEventStructured => BodyShape::CloudEvent,
        ContentKind::CloudEventBatch => BodyShape::CloudEventBatch,
        ContentKind::Ndjson | ContentKind::CloudEventBinary | ContentKind::Raw => return None,
    };
    Some(BodyDecoder::new(shape))
}

/// How far a body was decoded.
pub(super) enum Step {
    Used {
        bytes: usize,
        parked: bool,
        decoded: bool,
    },
    /// Over the limit of one body.
    TooLarge,
    /// Over the pool of all bodies.
    NoRoom,
}

/// What the one-event kinds need of the request.
pub(super) struct RawRequest<'a> {
    pub(super) kind: ContentKind,
    pub(super) content_type: &'a str,
    pub(super) headers: &'a [(String, Vec<u8>)],
}

pub(super) fn feed_ndjson(
    decoder: &mut NdjsonDecoder,
    context: &mut Context<'_>,
    admission: &mut Admission<'_>,
    input: &[u8],
    ended: bool,
) -> Step {
    let fed = decoder.feed(context, input, |item| admission.item(item));
    let mut parked = fed.stopped;
    let finished = ended && fed.consumed == input.len() && !parked;
    if finished {
        // The last line's answer has no meaning for the decoder; a full lane shows right after.
        decoder.finish(context, |item| {
            parked |= admission.item(item).is_break();
            ControlFlow::Continue(())
        });
    }
    Step::Used { bytes: fed.consumed, parked, decoded: finished }
}

/// Decodes a complete body; `true` when the request has to be parked.
pub(super) fn decode_buffered(
    request: &RawRequest<'_>,
    decoder: &mut Option<BodyDecoder>,
    body: &mut Vec<u8>,
    done: &mut bool,
    context: &mut Context<'_>,
    admission: &mut Admission<'_>,
) -> bool {
    let parked = match decoder {
        Some(decoder) => {
            let progress = decoder.decode(context, body, |item| admission.item(item));
            *done = progress == Progress::Done;
            progress == Progress::Stopped
        }
        None => {
            *done = true;
            let content_type = Some(request.content_type).filter(|text| !text.is_empty());
            let result = if request.kind == ContentKind::CloudEventBinary {
                let headers = request.headers.iter().map(|(name, value)| (&name[..], &value[..]));
                decode::decode_cloudevent_binary(context, headers, content_type, body)
            } else {
                decode::decode_raw(context, content_type, body)
            };
            admission.item(Item { index: 0, result }).is_break()
        }
    };
    if *done {
        *body = Vec::new();
    }
    parked
}
