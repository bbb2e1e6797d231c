//! Publish requests on the shard that holds the publisher: decode, admit, batch, answer.
//!
//! A request's items are grouped by home shard into batches; a batch takes one of this shard's
//! fixed slots and comes back as one answer. When a lane or the slots are full the request is
//! *parked*: nothing more of its body is read (HTTP/1.1: receiving stops; HTTP/2: credit is not
//! given back) until there is room, or until `publish_wait_s` has passed: then the items not yet
//! handed over are refused as `overloaded`, from the first one's index on. What was accepted stays
//! accepted. The answer goes out once the body has ended and every batch has been answered.
//!
//! Bounded: slots by [`crate::mesh::BATCH_SLOTS`], a batch by events and bytes, a buffered body by
//! `body_bytes_max` (413), NDJSON and Protobuf not at all, since they stream.

mod admission;
mod answering;
mod body;
mod call;
mod expand;
mod stored;
mod stream;
mod table;

use call::Purpose;
pub use table::{PublishId, Publishes};

use admission::{Admission, Building};
use body::{Body, RawRequest, Step, decode_buffered, feed_ndjson, feed_protobuf};
use expand::Expanding;
use stored::Wanted;
use stream::Acks;

use super::Shard;
use super::api::CallSlot;
use super::connection::EndpointId;
use super::http::{Head, Response};
use crate::auth::{Action, Caller};
use crate::driver::ConnId;
use crate::mesh::{AckMode, Place};
use bytes::Bytes;
use proto::answer::PublishAnswer;
use proto::centrifuge::Data;
use proto::channel::ChannelName;
use proto::decode::{self, ContentKind, Context, ProtobufFraming, RejectCode, Rejection};
use proto::h2::StreamKey;
use std::collections::VecDeque;

/// Who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// The request of an HTTP/1.1 connection.
    Http1(ConnId),
    /// A stream of an HTTP/2 connection.
    Http2(ConnId, StreamKey),
    /// A message of a WebSocket client: nobody waits for the answer.
    WebSocket(ConnId),
    /// A command of a client, by its id.
    Client(Place, u32),
    /// A command of a call of the server API.
    Api(CallSlot),
}

/// One request.
#[derive(Debug)]
pub struct Publish {
    /// Who asked: which connection or stream.
    pub asker: Asker,
    /// The body is no events.
    purpose: Option<Purpose>,
    /// Who asked: with which rights.
    pub(super) caller: Caller,
    channel: Option<ChannelName>,
    ack: AckMode,
    body: Body,
    /// Takes the compression off before `body` sees a piece.
    expanding: Option<Box<Expanding>>,
    content_type: String,
    traceparent: String,
    /// Which client publishes, as the attributes of its events; empty if it is none.
    author: String,
    cloudevent: Vec<(String, Vec<u8>)>,
    answer: PublishAnswer,
    batches: Vec<Building>,
    in_flight: u32,
    /// Batches handed over so far.
    handed: u64,
    /// Turns in which it had to make way for others.
    yields: u64,
    /// Input that waits while the request is parked.
    waiting: VecDeque<Bytes>,
    input_ended: bool,
    /// The body was decoded to its end.
    decoded: bool,
    /// No more items are taken: overload, or a body over its limit.
    stopped: Option<Response>,
    parked_ms: Option<u64>,
    /// Body bytes whose HTTP/2 credit is still held back.
    pub unreleased: usize,
    /// Bytes charged to the shard's pool of bodies.
    charged: usize,
    /// What `ack=stored` waits for.
    wanted: Wanted,
    /// Seconds after which another try makes sense, if it is refused for now.
    retry_after_s: u64,
    /// The answer instead, if the store did not confirm in time.
    not_stored: Option<Response>,
    /// Answers while it runs: a stream.
    acks: Option<Box<Acks>>,
    /// When a piece of the body last came, or could be taken again, milliseconds.
    heard_ms: u64,
}

impl Publish {
    /// A request of which nothing has been read yet.
    fn new(asker: Asker, body: Body, now_ms: u64) -> Self {
        Self {
            asker,
            purpose: None,
            caller: Caller::Anonymous,
            channel: None,
            ack: AckMode::Accepted,
            body,
            expanding: None,
            content_type: String::new(),
            traceparent: String::new(),
            author: String::new(),
            cloudevent: Vec::new(),
            answer: PublishAnswer::new(),
            batches: Vec::new(),
            in_flight: 0,
            handed: 0,
            yields: 0,
            waiting: VecDeque::new(),
            input_ended: false,
            decoded: false,
            stopped: None,
            parked_ms: None,
            unreleased: 0,
            charged: 0,
            wanted: Wanted::default(),
            retry_after_s: 1,
            not_stored: None,
            acks: None,
            heard_ms: now_ms,
        }
    }

    /// True if its peer owes it more of its body and has sent nothing for `span_ms`.
    pub fn is_stalled(&self, now_ms: u64, span_ms: u64) -> bool {
        let idle = self.acks.is_some() && !self.body.is_inside();
        let waits =
            !self.input_ended && self.stopped.is_none() && self.parked_ms.is_none() && !idle;
        waits && now_ms >= self.heard_ms + span_ms
    }
}

impl Shard {
    /// Opens a request. `Err` is a complete answer that needs no body.
    pub(super) fn open_publish(
        &mut self,
        asker: Asker,
        head: &Head<'_>,
        caller: Option<Caller>,
        channel: Option<ChannelName>,
        ack: AckMode,
        stream: bool,
    ) -> Result<PublishId, Response> {
        if self.drain.is_some() {
            return Err(Response::error(503, "draining", "the server drains; publish elsewhere"));
        }
        let coding = expand::coding_of(head)?;
        let content_type = head.text("content-type");
        let mut names = Vec::new();
        head.headers.each(&mut |name, _| {
            if name.starts_with("ce-") {
                names.push(name.to_owned());
            }
        });
        let has_cloudevent = decode::has_cloudevent_headers(names.iter().map(String::as_str));
        let kind = ContentKind::of(content_type, has_cloudevent, channel.is_some())
            .map_err(|error| Response::error(415, "unsupported_media_type", &error.to_string()))?;
        let acks = stream.then(|| stream::acks_of(asker, kind)).transpose()?;
        let mut cloudevent = Vec::new();
        if kind == ContentKind::CloudEventBinary {
            head.headers
                .each(&mut |name, value| cloudevent.push((name.to_owned(), value.to_vec())));
        }
        let announced = head.text("content-length").and_then(|length| length.parse::<u64>().ok());
        let body_bytes_max = self.settings.limits.body_bytes_max;
        // Over HTTP/2 an answer before the body's end resets the stream, and some clients then drop
        // the answer: there the limit is found when the bytes are there.
        if !matches!(kind, ContentKind::Ndjson | ContentKind::Protobuf)
            && coding.is_none()
            && matches!(asker, Asker::Http1(_))
            && announced.is_some_and(|length| length > u64::from(body_bytes_max))
        {
            return Err(too_large(body_bytes_max));
        }
        let expanding = coding.map(|coding| self.start_expanding(coding)).transpose()?;
        let framing = if stream { ProtobufFraming::Delimited } else { ProtobufFraming::Batch };
        let body = Body::new(kind, framing);
        let mut publish = Publish::new(asker, body, self.now.ms);
        publish.caller = caller.unwrap_or_default();
        publish.channel = channel;
        publish.ack = ack;
        if matches!(kind, ContentKind::Raw | ContentKind::CloudEventBinary) {
            // Of the others it has said all that it says.
            publish.content_type = content_type.unwrap_or_default().to_owned();
        }
        publish.traceparent = head.text("traceparent").unwrap_or_default().to_owned();
        publish.cloudevent = cloudevent;
        publish.expanding = expanding;
        if let Some(acks) = acks {
            publish.answer = PublishAnswer::sums();
            publish.acks = Some(Box::new(acks));
        }
        Ok(self.publishes.insert(publish))
    }

    /// A message from a WebSocket client: one event, the data as it is, or without a channel what
    /// `POST /v1/events` takes as JSON. `false`: it is parked, so nothing more may be read from
    /// that client before it has gone.
    pub(super) fn publish_message(
        &mut self,
        conn: ConnId,
        channel: Option<ChannelName>,
        text: bool,
        data: &[u8],
    ) -> bool {
        let (kind, content_type) = match (&channel, text) {
            (None, _) => (ContentKind::Json, "application/json"),
            (Some(_), true) => (ContentKind::Raw, "text/plain"),
            (Some(_), false) => (ContentKind::Raw, "application/octet-stream"),
        };
        let body = Body::whole(kind, data.to_vec());
        let mut publish = Publish::new(Asker::WebSocket(conn), body, self.now.ms);
        publish.caller = self.caller_of(EndpointId::connection(conn.slot));
        publish.channel = channel;
        publish.content_type = content_type.to_owned();
        let id = self.publishes.insert(publish);
        self.end_publish_input(id);
        self.publishes.get(id).is_none_or(|publish| publish.parked_ms.is_none())
    }

    /// A publish of a client: JSON goes the way of an envelope, so that it is checked in one place
    /// only. `false`: it is parked.
    pub(super) fn publish_of_client(
        &mut self,
        at: Place,
        command: u32,
        channel: ChannelName,
        data: Data<'_>,
        author: String,
    ) -> bool {
        let (kind, content_type, bytes) = match data {
            Data::Json(json) => {
                let mut bytes = Vec::with_capacity(json.len() + 9);
                bytes.extend_from_slice(b"{\"data\":");
                bytes.extend_from_slice(json);
                bytes.push(b'}');
                (ContentKind::Json, "application/json", bytes)
            }
            Data::Text(text) => (ContentKind::Raw, "text/plain", text.as_bytes().to_vec()),
            Data::Binary(_) | Data::None => {
                (ContentKind::Raw, "application/octet-stream", data.bytes().to_vec())
            }
        };
        let body = Body::whole(kind, bytes);
        let mut publish = Publish::new(Asker::Client(at, command), body, self.now.ms);
        publish.caller = self.caller_of(EndpointId::of(at));
        publish.channel = Some(channel);
        publish.content_type = content_type.to_owned();
        publish.author = author;
        let id = self.publishes.insert(publish);
        self.end_publish_input(id);
        self.publishes.get(id).is_none_or(|publish| publish.parked_ms.is_none())
    }

    /// Gives a request a piece of its body. `false`: the request is parked (or stopped) and keeps
    /// what it could not use; send no more until it is resumed.
    pub(super) fn feed_publish(&mut self, id: PublishId, input: &[u8]) -> bool {
        let now_ms = self.now.ms;
        let Some(publish) = self.publishes.get(id) else { return true };
        publish.heard_ms = now_ms;
        if publish.stopped.is_some() {
            return true;
        }
        if publish.parked_ms.is_some() {
            publish.waiting.push_back(Bytes::copy_from_slice(input));
            return false;
        }
        let used = self.take_piece(id, input);
        if used < input.len()
            && let Some(publish) = self.publishes.get(id)
            && publish.stopped.is_none()
        {
            publish.waiting.push_front(Bytes::copy_from_slice(&input[used..]));
        }
        self.publishes.get(id).is_none_or(|publish| publish.parked_ms.is_none())
    }

    /// The body is complete.
    pub(super) fn end_publish_input(&mut self, id: PublishId) {
        let Some(publish) = self.publishes.get(id) else { return };
        publish.input_ended = true;
        // After a stop the decoder holds half a line whose rest was thrown away.
        if publish.parked_ms.is_none() && publish.stopped.is_none() {
            self.take_piece(id, &[]);
        }
        self.publishes.touched.push(id);
    }

    /// The asker is gone, or its body broke: what was handed over stays accepted.
    pub(super) fn drop_publish(&mut self, id: PublishId) {
        self.publishes.remove(id);
    }

    /// The body broke or did not come: what was taken stays taken, and the answer says so. `false`
    /// if the request is gone.
    pub(super) fn break_publish(&mut self, id: PublishId, response: Response) -> bool {
        let Some(publish) = self.publishes.get(id) else { return false };
        if publish.stopped.is_some() {
            return true;
        }
        let index = publish.body.items();
        let detail = "the body ended before this item was complete; send it and all after it again";
        let code = match publish.body {
            Body::Protobuf(_) => RejectCode::InvalidProtobuf,
            _ => RejectCode::InvalidJson,
        };
        publish.answer.stop(Rejection::new(code, detail).at(index));
        publish.stopped = Some(response);
        publish.waiting.clear();
        self.publishes.touched.push(id);
        true
    }

    /// Decodes as far as the lanes allow; returns how much of `input` was used.
    fn decode_publish(&mut self, id: PublishId, input: &[u8]) -> usize {
        let Some(mut publish) = self.publishes.take(id) else { return input.len() };
        let acks_full = publish.waits_for_acks();
        let Publish {
            asker,
            purpose,
            caller,
            channel,
            ack,
            body,
            expanding,
            content_type,
            traceparent,
            author,
            cloudevent,
            answer,
            batches,
            in_flight,
            handed,
            waiting,
            input_ended,
            decoded: was_decoded,
            stopped,
            charged,
            acks,
            ..
        } = &mut *publish;
        let pool_left = self.settings.body_pool_bytes.saturating_sub(self.publishes.charged);
        let whole = expanding.as_ref().is_none_or(|own| own.is_finished());
        let ended = *input_ended && waiting.is_empty() && whole;
        let mut context = Context {
            channel: channel.as_ref().map(ChannelName::as_str),
            traceparent,
            author,
            data_bytes_max: self.settings.limits.message_bytes_max as usize,
            ids: &mut self.ids,
        };
        let mut admission = Admission {
            settings: &self.settings,
            mesh: &mut self.mesh,
            in_flight: &mut self.publishes.in_flight,
            in_flight_free: &mut self.publishes.in_flight_free,
            id,
            round: acks.as_ref().map_or(0, |acks| acks.round()),
            ack: *ack,
            caller,
            action: match asker {
                Asker::WebSocket(_) | Asker::Client(..) => Action::Publish,
                Asker::Http1(_) | Asker::Http2(..) | Asker::Api(_) => Action::PublishRequest,
            },
            now_ms: self.now.ms,
            over_ms: None,
            batches,
            under_way: in_flight,
            handed,
            answer,
            recent: &mut self.publishes.recent,
            counters: &mut self.stats.counters,
        };
        let body_bytes_max = match purpose {
            Some(purpose) => purpose.body_bytes_max(&self.settings.limits),
            None => self.settings.limits.body_bytes_max as usize,
        };
        let step = match body {
            // Nothing more is decoded, but what was taken before is still handed over.
            _ if stopped.is_some() => {
                Step::Used { bytes: input.len(), parked: false, decoded: *was_decoded }
            }
            _ if acks_full => Step::Used { bytes: 0, parked: true, decoded: *was_decoded },
            // What is full goes first: a parked request must not grow its batches.
            _ if admission.has_full() && admission.hand_over_all().is_break() => {
                Step::Used { bytes: 0, parked: true, decoded: *was_decoded }
            }
            Body::Ndjson(decoder) => {
                feed_ndjson(decoder, &mut context, &mut admission, input, ended)
            }
            Body::Protobuf(decoder) => {
                feed_protobuf(decoder, &mut context, &mut admission, input, ended)
            }
            Body::Buffered { bytes, kind, decoder, done } => {
                if bytes.len() + input.len() > body_bytes_max {
                    Step::TooLarge
                } else if input.len() > pool_left && !bytes.is_empty() {
                    Step::NoRoom
                } else {
                    bytes.extend_from_slice(input);
                    let request = RawRequest { kind: *kind, content_type, headers: cloudevent };
                    *done |= ended && purpose.is_some();
                    let parked = ended
                        && !*done
                        && decode_buffered(
                            &request,
                            decoder,
                            bytes,
                            done,
                            &mut context,
                            &mut admission,
                        );
                    Step::Used { bytes: input.len(), parked, decoded: *done }
                }
            }
        };
        let held = body.held_bytes() + expanding.as_ref().map_or(0, |own| own.held_bytes());
        self.publishes.charged = self.publishes.charged + held - std::mem::replace(charged, held);
        let used = match step {
            Step::Used { bytes, mut parked, decoded } => {
                parked |= admission.hand_over_all().is_break();
                if let Some(over_ms) = admission.over_ms {
                    // What came before is handed over all the same.
                    publish.retry_after_s = over_ms.div_ceil(1_000).max(1);
                    publish.stopped = Some(Response::empty(429));
                    publish.waiting.clear();
                }
                publish.decoded |= decoded;
                publish.stop_if_broken();
                if parked && publish.parked_ms.is_none() {
                    publish.parked_ms = Some(self.now.ms);
                    self.stats.counters.publishes_parked += 1;
                    self.publishes.parked.push_back(id);
                }
                bytes
            }
            Step::NoRoom => {
                let message = "too many bodies are being received; send this one again";
                publish.stopped = Some(Response::error(503, "overloaded", message));
                publish.waiting.clear();
                input.len()
            }
            Step::TooLarge => {
                publish.stopped = Some(too_large(body_bytes_max as u32));
                publish.waiting.clear();
                input.len()
            }
        };
        self.publishes.touched.push(id);
        self.publishes.put_back(id, publish);
        used
    }

    /// Goes on with parked requests, first parked first, and refuses those that waited too long.
    pub(super) fn run_parked(&mut self) {
        self.run_held_back();
        self.run_lingering();
        self.publishes.yielded = false;
        for _ in 0..self.publishes.parked.len() {
            let Some(id) = self.publishes.parked.pop_front() else { break };
            if self.must_yield(id) {
                self.publishes.parked.push_back(id);
                continue;
            }
            let Some(publish) = self.publishes.get(id) else { continue };
            let waited_ms = publish.parked_ms.map_or(0, |since| self.now.ms.saturating_sub(since));
            let (since, moved) = (publish.parked_ms.take(), publish.handed + publish.yields);
            let waits_for_room = !publish.waits_for_acks();
            let wait_ms = u64::from(self.settings.limits.publish_wait_s) * 1_000;
            if waited_ms >= wait_ms && waits_for_room {
                self.overload(id);
                continue;
            }
            self.go_on(id);
            if let Some(publish) = self.publishes.get(id)
                && publish.handed + publish.yields == moved
                && waits_for_room
                && let Some(parked_ms) = &mut publish.parked_ms
            {
                // Parked again without having moved: its clock runs on.
                *parked_ms = since.unwrap_or(*parked_ms);
            }
        }
        self.run_touched();
    }

    /// Feeds what waited.
    fn go_on(&mut self, id: PublishId) {
        loop {
            let Some(publish) = self.publishes.get(id) else { return };
            let next = publish.waiting.pop_front().unwrap_or_default();
            let last = publish.waiting.is_empty();
            let used = self.take_piece(id, &next);
            let Some(publish) = self.publishes.get(id) else { return };
            if used < next.len() && publish.stopped.is_none() {
                publish.waiting.push_front(next.slice(used..));
            }
            if publish.parked_ms.is_some() {
                return;
            }
            if last {
                break;
            }
        }
        if let Some(publish) = self.publishes.get(id) {
            // The peer could not send while the request was parked.
            publish.heard_ms = self.now.ms;
        }
        self.resume_asker(id);
    }

    /// A request that waited too long: everything not handed over is refused, from the first
    /// such item on.
    fn overload(&mut self, id: PublishId) {
        let Some(publish) = self.publishes.get(id) else { return };
        let refused = publish.batches.iter().flat_map(|batch| &batch.indices).copied().min();
        let index = refused.unwrap_or(publish.body.items());
        let detail =
            "the server is full: this item and all after it were not taken; send them again";
        publish.answer.stop(Rejection::new(RejectCode::Overloaded, detail).at(index));
        publish.batches.clear();
        publish.waiting.clear();
        publish.decoded = true;
        publish.stopped = Some(Response::empty(503));
        self.stats.counters.publishes_overloaded += 1;
        self.publishes.touched.push(id);
    }
}

fn too_large(body_bytes_max: u32) -> Response {
    let text = format!(
        "the body is larger than {body_bytes_max} bytes; send NDJSON, which streams, or several \
         requests"
    );
    Response::error(413, "body_too_large", &text)
}
