//! What home shards answer, and what a request is answered with once all of them have.

use super::body::Body;
use super::call::Purpose;
use super::{Asker, Publish};
use crate::mesh::{Answer, HomeRefusal, Outcome, ShardId};
use crate::metrics::DropReason;
use crate::shard::Shard;
use crate::shard::http::Response;
use bytes::Bytes;
use proto::answer::PublishAnswer;
use proto::decode::{RejectCode, Rejection};

impl Shard {
    /// Takes the answers of home shards.
    pub(in crate::shard) fn run_answers(&mut self) {
        for from in self.mesh.peers() {
            while let Some(answer) = self.mesh.next_answer(from) {
                self.on_answer(from, answer);
            }
        }
        self.run_touched();
    }

    fn on_answer(&mut self, from: ShardId, answer: Answer) {
        let batch = self.publishes.in_flight.get_mut(answer.slot as usize).and_then(Option::take);
        let batch = batch.expect("an answer for a batch slot that is not under way");
        self.publishes.in_flight_free.push(answer.slot);
        assert_eq!(batch.indices.len(), answer.outcomes.len(), "one outcome per item");
        let mut numbers = std::mem::take(&mut self.publishes.numbers);
        numbers.clear();
        numbers.resize(answer.channels.all().len(), None);
        let Some(publish) = self.publishes.get(batch.publish) else { return };
        let (own, wanted) = publish.round_of(batch.round);
        if let Some(seq) = answer.store_seq {
            wanted.add(from, seq);
        }
        let items = batch.indices.iter().zip(answer.channels.of()).zip(&answer.outcomes);
        for ((index, channel), outcome) in items {
            let (position, duplicate) = match outcome {
                Outcome::Placed(position) => (*position, false),
                Outcome::Duplicate(position) => (*position, true),
                Outcome::Refused(refusal) => {
                    own.reject(refused(*refusal).at(*index));
                    continue;
                }
            };
            let channel = usize::from(*channel);
            let name = &answer.channels.all()[channel].name;
            let number = numbers[channel].get_or_insert_with(|| own.number(name));
            own.accept_in(*index, *number, position, duplicate);
        }
        self.publishes.numbers = numbers;
        self.publishes.touched.push(batch.publish);
    }

    /// Answers the requests that have become complete.
    pub(super) fn run_touched(&mut self) {
        while let Some(id) = self.publishes.touched.pop() {
            let Some(publish) = self.publishes.get(id) else { continue };
            if publish.is_stream() {
                self.run_stream(id);
                continue;
            }
            let read = publish.decoded && publish.input_ended && publish.waiting.is_empty();
            let complete = (read || publish.stopped.is_some())
                && publish.in_flight == 0
                && publish.parked_ms.is_none()
                && publish.batches.iter().all(|batch| batch.items.is_empty());
            if !complete || self.waits_for_store(id) {
                continue;
            }
            if let Some(publish) = self.publishes.remove(id) {
                self.answer_publish(publish);
            }
        }
    }

    /// Counts what was refused. What storage refused, its home shard has counted as a drop.
    pub(super) fn count_refusals(&mut self, answer: &PublishAnswer) {
        self.stats.counters.publishes_rejected += answer.rejected();
        for (code, count) in answer.rejected_by_code() {
            match code {
                RejectCode::Unavailable | RejectCode::NotDurable => {}
                RejectCode::Overloaded => self.stats.dropped(DropReason::Overloaded, count),
                _ => self.stats.dropped(DropReason::Invalid, count),
            }
        }
    }

    fn answer_publish(&mut self, mut publish: Box<Publish>) {
        self.count_refusals(&publish.answer);
        match publish.asker {
            Asker::Client(at, id) => return self.answered_client(at, id, &publish.answer),
            Asker::Api(slot) => return self.answered_call_publish(slot, &publish.answer),
            Asker::Http1(_) | Asker::Http2(..) | Asker::WebSocket(_) => {}
        }
        if let (Some(purpose), Body::Buffered { bytes, .. }, None) =
            (publish.purpose, &mut publish.body, &publish.stopped)
        {
            let body = Bytes::from(std::mem::take(bytes));
            let (asker, caller) = (publish.asker, publish.caller);
            return match purpose {
                Purpose::Call(method) => self.start_call(asker, caller, method, body),
                Purpose::Stream(format) => self.start_client(asker, caller, format, Some(&body)),
                Purpose::Refusal(format) => self.start_client(asker, caller, format, None),
                Purpose::Emulation(encoding) => self.start_emulation(asker, encoding, &body),
            };
        }
        let why = publish.answer.first_rejection().map(|rejection| rejection.detail.clone());
        let unread = !publish.input_ended;
        let response = match publish.stopped {
            _ if let Some(response) = publish.not_stored => response,
            Some(response) if publish.answer.accepted() == 0 && !response.body.is_empty() => {
                response
            }
            _ => {
                let status = publish.answer.status();
                let mut body = Vec::with_capacity(publish.answer.json_bytes());
                publish.answer.write_json(&mut body);
                let response = Response::json(status.code, body).with("cache-control", "no-store");
                let later = publish.retry_after_s.to_string();
                if status.retry { response.with("retry-after", later) } else { response }
            }
        };
        match publish.asker {
            Asker::Http1(conn) => self.answer_http1(conn, response, unread),
            Asker::Http2(conn, stream) => self.answer_http2(conn, stream, response),
            Asker::WebSocket(conn) => self.answered_message(conn, response.status, why),
            Asker::Client(..) | Asker::Api(_) => {}
        }
    }
}

fn refused(refusal: HomeRefusal) -> Rejection {
    match refusal {
        HomeRefusal::ChannelsFull => Rejection::new(
            RejectCode::Overloaded,
            "the limit on channels is reached; use fewer channels or raise `limits.channels_max`",
        ),
        HomeRefusal::StorageFull => Rejection::new(
            RejectCode::Unavailable,
            "the spool cannot store now (disk full, hanging, or a failed sync); see the server's log",
        ),
        HomeRefusal::NotSynced => Rejection::new(
            RejectCode::NotDurable,
            "it was ordered, but the spool failed before it was synced: send it again, with its id, \
             once the server is ready",
        ),
    }
}
