//! Bodies into items: one step of whichever decoder the content type chose.

use super::admission::Admission;
use proto::decode::{
    self, BodyDecoder, BodyShape, ContentKind, Context, Item, MsgpackDecoder, NdjsonDecoder,
    Progress, ProtobufDecoder, ProtobufFraming,
};
use std::ops::ControlFlow;

/// How the body is read.
#[derive(Debug)]
pub(super) enum Body {
    /// Streams.
    Ndjson(NdjsonDecoder),
    /// Streams.
    Protobuf(ProtobufDecoder),
    /// Buffered whole, then decoded.
    Buffered { bytes: Vec<u8>, kind: ContentKind, decoder: Decoder, done: bool },
}

/// What decodes a buffered body.
#[derive(Debug)]
pub(super) enum Decoder {
    Json(BodyDecoder),
    Msgpack(MsgpackDecoder),
    /// The body is one event.
    One,
}

impl Body {
    /// At the beginning of a body.
    pub(super) fn new(kind: ContentKind, framing: ProtobufFraming) -> Self {
        let json = |shape| Decoder::Json(BodyDecoder::new(shape));
        let decoder = match kind {
            ContentKind::Ndjson => return Self::Ndjson(NdjsonDecoder::new()),
            ContentKind::Protobuf => return Self::Protobuf(ProtobufDecoder::new(framing)),
            ContentKind::Json => json(BodyShape::Envelopes),
            ContentKind::CloudEventStructured => json(BodyShape::CloudEvent),
            ContentKind::CloudEventBatch => json(BodyShape::CloudEventBatch),
            ContentKind::Msgpack => Decoder::Msgpack(MsgpackDecoder::new()),
            ContentKind::CloudEventBinary | ContentKind::Raw => Decoder::One,
        };
        Self::Buffered { bytes: Vec::new(), kind, decoder, done: false }
    }

    /// A body that is there already, of a kind that is buffered.
    pub(super) fn whole(kind: ContentKind, body: Vec<u8>) -> Self {
        let mut own = Self::new(kind, ProtobufFraming::Batch);
        if let Self::Buffered { bytes, .. } = &mut own {
            *bytes = body;
        }
        own
    }

    /// The index of the next item, as far as it is known before the body's end.
    pub(super) fn items(&self) -> u64 {
        match self {
            Self::Ndjson(decoder) => decoder.items(),
            Self::Protobuf(decoder) => decoder.items(),
            Self::Buffered { .. } => 0,
        }
    }

    /// True if it is decoded as it comes, and so has no limit as a whole.
    pub(super) fn streams(&self) -> bool {
        !matches!(self, Self::Buffered { .. })
    }

    /// True if an item has begun and not ended.
    pub(super) fn is_inside(&self) -> bool {
        match self {
            Self::Ndjson(decoder) => decoder.is_inside(),
            Self::Protobuf(decoder) => decoder.is_inside(),
            Self::Buffered { .. } => true,
        }
    }

    /// True if nothing that follows can be read.
    pub(super) fn is_broken(&self) -> bool {
        matches!(self, Self::Protobuf(decoder) if decoder.is_broken())
    }

    /// Bytes held of what is not decoded yet.
    pub(super) fn held_bytes(&self) -> usize {
        match self {
            Self::Ndjson(decoder) => decoder.spilled_bytes(),
            Self::Protobuf(decoder) => decoder.spilled_bytes(),
            Self::Buffered { bytes, .. } => bytes.capacity(),
        }
    }
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

pub(super) fn feed_protobuf(
    decoder: &mut ProtobufDecoder,
    context: &mut Context<'_>,
    admission: &mut Admission<'_>,
    input: &[u8],
    ended: bool,
) -> Step {
    let fed = decoder.feed(context, input, |item| admission.item(item));
    let parked = fed.stopped;
    let finished = ended && fed.consumed == input.len() && !parked;
    if finished {
        // All that can come is the rejection of an event that is not whole.
        decoder.finish(|item| admission.item(item));
    }
    Step::Used { bytes: fed.consumed, parked, decoded: finished }
}

/// Decodes a complete body; `true` when the request has to be parked.
pub(super) fn decode_buffered(
    request: &RawRequest<'_>,
    decoder: &mut Decoder,
    body: &mut Vec<u8>,
    done: &mut bool,
    context: &mut Context<'_>,
    admission: &mut Admission<'_>,
) -> bool {
    let progress = match decoder {
        Decoder::Json(decoder) => decoder.decode(context, body, |item| admission.item(item)),
        Decoder::Msgpack(decoder) => decoder.decode(context, body, |item| admission.item(item)),
        Decoder::One => {
            *done = true;
            let content_type = Some(request.content_type).filter(|text| !text.is_empty());
            let result = if request.kind == ContentKind::CloudEventBinary {
                let headers = request.headers.iter().map(|(name, value)| (&name[..], &value[..]));
                decode::decode_cloudevent_binary(context, headers, content_type, body)
            } else {
                decode::decode_raw(context, content_type, body)
            };
            let flow = admission.item(Item { index: 0, result });
            *body = Vec::new();
            return flow.is_break();
        }
    };
    *done = progress == Progress::Done;
    if *done {
        *body = Vec::new();
    }
    progress == Progress::Stopped
}
