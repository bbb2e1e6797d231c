//! Reads over HTTP: the newest event, the events after a position, and stored history.
//!
//! Polling answers come from the home shard's memory over the deliver lane and are small. History
//! answers come from the store in blocks: the next block is asked for only when the last
//! one has left this shard, so a slow client holds one block and nobody else waits for it.

use super::Shard;
use super::aggregates::failure_of;
use super::api::CallSlot;
use super::connection::EndpointId;
use super::http::Response;
use super::http::route::{self, Bound, HistoryRequest, Route};
use super::publish::Asker;
use super::store::QueryStore;
use crate::auth::Caller;
use crate::driver::ConnId;
use crate::mesh::{Ask, Continuity, GapReason, Place, Select, Since, SubscriptionToken};
use proto::channel::ChannelName;
use proto::envelope::{self, NoticeReason};
use proto::event::Event;
use proto::position::Position;
use std::collections::BTreeMap;
use storage::{Answer, Busy, Query};

/// Polling requests and history reads that may be under way at once on one shard.
pub(super) const READS_MAX: usize = 4_096;

/// A request that waits for events.
#[derive(Debug)]
struct Waiting {
    asker: Asker,
    /// `If-None-Match`.
    tag: Option<String>,
    last: bool,
    /// Only the channel's position is wanted.
    bare: bool,
}

/// A history answer under way.
#[derive(Debug)]
struct HistoryAnswer {
    asker: Asker,
    /// Head and opening bracket are out.
    started: bool,
    /// At least one event is out.
    any: bool,
    /// The read ends at a bound: its position is the last event given, not the channel's newest.
    bounded: bool,
    /// The last event given.
    last: Option<Position>,
    /// The next step, while the client's outbox drains.
    next: Option<storage::HistoryRead>,
}

/// All reads of a shard.
#[derive(Debug, Default)]
pub struct Reads {
    waiting: BTreeMap<u64, Waiting>,
    /// Subscriptions that want the newest event of their channel once more.
    newest: BTreeMap<u64, SubscriptionToken>,
    history: BTreeMap<u64, HistoryAnswer>,
    ticket: u64,
    /// The store had no room: ask again soon, nobody else says when.
    pub(super) refused: bool,
}

impl Reads {
    pub(super) fn next_ticket(&mut self) -> u64 {
        self.ticket += 1;
        self.ticket
    }

    /// True if no more polling requests are taken.
    pub(super) fn is_full(&self) -> bool {
        !self.has_room_for(1)
    }

    /// True if so many more are taken.
    pub(super) fn has_room_for(&self, count: usize) -> bool {
        self.waiting.len() + self.newest.len() + count <= READS_MAX
    }

    /// A subscription that wants the newest event once more.
    pub(super) fn wait_for_newest(&mut self, token: SubscriptionToken) -> u64 {
        let ticket = self.next_ticket();
        self.newest.insert(ticket, token);
        ticket
    }

    /// A polling request of a client; `bare` if only the channel's position is wanted.
    pub(super) fn wait(&mut self, asker: Asker, bare: bool) -> u64 {
        let ticket = self.next_ticket();
        self.waiting.insert(ticket, Waiting { asker, tag: None, last: false, bare });
        ticket
    }

    /// Who waits for the answer to a ticket of [`Self::wait`], once.
    pub(super) fn take_client(&mut self, ticket: u64) -> Option<(Place, u32)> {
        match self.waiting.remove(&ticket)?.asker {
            Asker::Client(at, id) => Some((at, id)),
            _ => None,
        }
    }

    /// The command of a call that waits for the answer to a ticket of [`Self::wait`], once.
    pub(super) fn take_call(&mut self, ticket: u64) -> Option<CallSlot> {
        let Asker::Api(slot) = self.waiting.get(&ticket)?.asker else { return None };
        self.waiting.remove(&ticket);
        Some(slot)
    }

    /// True if a step waits for its client or for a free reader.
    pub fn has_steps(&self) -> bool {
        self.history.values().any(|answer| answer.next.is_some())
    }
}

impl Shard {
    /// Starts a polling request.
    pub(super) fn start_read(
        &mut self,
        asker: Asker,
        channel: ChannelName,
        since: Since,
        last: bool,
        limit: u32,
        tag: Option<String>,
    ) {
        let full = self.reads.is_full();
        let ticket = self.reads.next_ticket();
        self.reads.waiting.insert(ticket, Waiting { asker, tag, last, bare: false });
        if full {
            let text = "too many reads are waiting; try again";
            self.deferred.push((ticket, Response::error(503, "busy", text)));
        } else {
            let (select, limit) = if last { (Select::Newest, 1) } else { (Select::Oldest, limit) };
            self.ask(Ask::Read { channel, ticket, since, select, limit });
        }
    }

    /// The home shard's answer to a polling request.
    pub(super) fn on_read(
        &mut self,
        ticket: u64,
        top: Option<Position>,
        continuity: Continuity,
        events: &[Event],
        more: bool,
    ) {
        if let Some(token) = self.reads.newest.remove(&ticket) {
            return self.answered_newest(token, events);
        }
        let Some(waiting) = self.reads.waiting.remove(&ticket) else { return };
        let shown = if waiting.bare { &[] } else { events };
        match waiting.asker {
            Asker::Client(at, id) => {
                return self.answered_history(at, id, top, continuity, shown);
            }
            Asker::Api(slot) => return self.answered_call_history(slot, top, continuity, shown),
            Asker::Http1(_) | Asker::Http2(..) | Asker::WebSocket(_) => {}
        }
        let response = if waiting.last {
            last_response(events.first(), waiting.tag.as_deref())
        } else {
            events_response(top, continuity, events, more, waiting.tag.as_deref())
        };
        self.answer(waiting.asker, response);
    }

    pub(super) fn answer(&mut self, asker: Asker, response: Response) {
        match asker {
            Asker::Http1(conn) => self.answer_http1(conn, response, false),
            Asker::Http2(conn, stream) => self.answer_http2(conn, stream, response),
            Asker::WebSocket(_) | Asker::Client(..) | Asker::Api(_) => {}
        }
    }

    /// Whether there are stored events to be read.
    pub(super) fn may_read_store(&self) -> Result<(), Response> {
        if self.store.is_none() {
            let text = "this server keeps no store; start it with a data directory";
            return Err(Response::error(404, "no_store", text));
        }
        Ok(())
    }

    /// Starts a read of stored history.
    pub(super) fn start_history(
        &mut self,
        asker: Asker,
        request: HistoryRequest,
    ) -> Result<(), Response> {
        self.may_read_store()?;
        if self.reads.history.len() >= READS_MAX {
            let text = "too many reads are waiting; try again";
            return Err(Response::error(503, "busy", text));
        }
        let HistoryRequest { channel, from, to, limit } = request;
        let bound = |bound: Option<Bound>| match bound {
            None => storage::Bound::Open,
            Some(Bound::Offset(offset)) => storage::Bound::Offset(offset),
            Some(Bound::TimeUs(time_us)) => storage::Bound::TimeUs(time_us),
        };
        let step = storage::HistoryRead::new(channel, None, bound(from), bound(to), limit);
        let ticket = self.reads.next_ticket();
        let answer = HistoryAnswer {
            asker,
            started: false,
            any: false,
            bounded: to.is_some(),
            last: None,
            next: Some(step),
        };
        self.reads.history.insert(ticket, answer);
        Ok(())
    }

    /// Sends steps to the readers and blocks to the clients.
    pub(super) fn run_history(&mut self) {
        for (ticket, response) in std::mem::take(&mut self.deferred) {
            if let Some(waiting) = self.reads.waiting.remove(&ticket) {
                self.answer(waiting.asker, response);
            }
        }
        let Some(store) = self.store.clone() else { return };
        while let Some((ticket, answer)) = store.next(self.id.0) {
            match answer {
                answer if self.aggregates.knows(ticket) => self.on_aggregate(ticket, answer),
                answer if self.recoveries.knows(ticket) => {
                    self.on_missed(ticket, super::client::block(answer));
                }
                Ok(Answer::History(block)) => self.on_block(ticket, Ok(block)),
                Err(error) => self.on_block(ticket, Err(error)),
                Ok(_) => {} // of a run that is forgotten
            }
        }
        self.reads.refused = false;
        self.run_aggregates(&*store);
        self.run_recoveries(&*store);
        if self.reads.has_steps() {
            self.run_history_steps(&*store);
        }
    }

    fn run_history_steps(&mut self, store: &dyn QueryStore) {
        let ready: Vec<u64> =
            self.reads.history.iter().filter(|(_, a)| a.next.is_some()).map(|(t, _)| *t).collect();
        for ticket in ready {
            let Some(asker) = self.reads.history.get(&ticket).map(|answer| answer.asker) else {
                continue;
            };
            if self.waits_for(asker) > 0 {
                continue;
            }
            let Some(answer) = self.reads.history.get_mut(&ticket) else { continue };
            let Some(step) = answer.next.take() else { continue };
            if let Err(Busy(query)) = store.submit(self.id.0, ticket, Query::History(step)) {
                if let Query::History(step) = *query {
                    answer.next = Some(step);
                }
                self.reads.refused = true;
                return;
            }
        }
    }

    /// Bytes that an asker has not taken yet.
    pub(super) fn waits_for(&mut self, asker: Asker) -> usize {
        match asker {
            Asker::Http1(conn) => self.queued_bytes(EndpointId::connection(conn.slot)),
            Asker::Http2(conn, stream) => self.queued_on_stream(conn, stream),
            Asker::WebSocket(_) | Asker::Client(..) | Asker::Api(_) => 0,
        }
    }

    fn on_block(&mut self, ticket: u64, block: Result<storage::HistoryBlock, storage::ReadError>) {
        let Some(mut answer) = self.reads.history.remove(&ticket) else { return };
        let block = match block {
            Ok(block) => block,
            Err(error) if !answer.started => {
                self.answer(answer.asker, failure_of(Some(error)));
                return;
            }
            // Half an answer is out: a broken end is how HTTP says that the rest is missing.
            Err(_) => return self.break_answer(answer.asker),
        };
        let mut text = Vec::with_capacity(4_096);
        if !answer.started {
            answer.started = true;
            text.extend_from_slice(b"{\"events\":[");
            self.start_stream(answer.asker, Response::json(200, ""));
        }
        for event in &block.events {
            if std::mem::replace(&mut answer.any, true) {
                text.push(b',');
            }
            envelope::write_envelope(&mut text, event);
        }
        let last = block.next.is_none();
        if last {
            text.extend_from_slice(b"],\"position\":");
            answer.last = block.events.last().map(Event::position).or(answer.last);
            match if answer.bounded { answer.last } else { block.newest } {
                Some(position) => {
                    text.push(b'"');
                    position.write_to(&mut text);
                    text.push(b'"');
                }
                None => text.extend_from_slice(b"null"),
            }
            text.push(b'}');
        }
        self.stream_piece(answer.asker, text, last);
        answer.last = block.events.last().map(Event::position).or(answer.last);
        answer.next = block.next;
        if !last {
            self.reads.history.insert(ticket, answer);
        }
    }

    /// Makes an answer a stream for a client; gives its place.
    pub(super) fn answer_with_stream(&mut self, asker: Asker, response: Response) -> Option<Place> {
        match asker {
            Asker::Http1(conn) => self.stream_http1(conn, response),
            Asker::Http2(conn, stream) => self.stream_http2(conn, stream, response),
            Asker::WebSocket(_) | Asker::Client(..) | Asker::Api(_) => None,
        }
    }

    pub(super) fn start_stream(&mut self, asker: Asker, response: Response) {
        match asker {
            Asker::Http1(conn) => self.start_chunked(conn, response),
            Asker::Http2(conn, stream) => self.start_stream_http2(conn, stream, response),
            Asker::WebSocket(_) | Asker::Client(..) | Asker::Api(_) => {}
        }
    }

    pub(super) fn stream_piece(&mut self, asker: Asker, text: Vec<u8>, last: bool) {
        match asker {
            Asker::Http1(conn) => self.chunk_http1(conn, &text, last),
            Asker::Http2(conn, stream) => self.piece_http2(conn, stream, text.into(), last),
            Asker::WebSocket(_) | Asker::Client(..) | Asker::Api(_) => {}
        }
    }

    fn break_answer(&mut self, asker: Asker) {
        match asker {
            Asker::Http1(conn) => self.close_now(conn),
            Asker::Http2(conn, stream) => self.reset_http2(conn, stream),
            Asker::WebSocket(_) | Asker::Client(..) | Asker::Api(_) => {}
        }
    }

    /// Forgets the reads of a connection that ends; a step under way comes back to nobody.
    pub(super) fn cancel_reads(&mut self, conn: ConnId) {
        let of = |asker: &Asker| match asker {
            Asker::Http1(own) | Asker::Http2(own, _) | Asker::WebSocket(own) => *own == conn,
            Asker::Client(own, _) => own.conn == conn,
            // A call is carried out to its end, whoever waits for it.
            Asker::Api(_) => false,
        };
        if !self.reads.waiting.is_empty() {
            self.reads.waiting.retain(|_, waiting| !of(&waiting.asker));
        }
        if !self.reads.history.is_empty() {
            self.reads.history.retain(|_, answer| !of(&answer.asker));
        }
        self.aggregates.cancel(of);
    }

    /// Whether there is room for a subscription now; every refusal is a 503.
    pub(super) fn may_subscribe(&self) -> Result<(), Response> {
        if self.drain.is_some() {
            return Err(Response::error(503, "draining", "the server drains; connect elsewhere"));
        }
        if self.overloaded {
            let text = "too much waits for slow subscribers; try again in a moment";
            return Err(Response::error(503, "overloaded", text));
        }
        Ok(())
    }

    /// Why an event stream cannot be opened now; `None` if it can. It is told so in the stream: a
    /// browser never retries after a 503. Without a caller the key of its token is being fetched.
    pub(super) fn stream_refusal(&self, caller: Option<&Caller>) -> Option<NoticeReason> {
        if caller.is_none() {
            return Some(NoticeReason::KeysPending);
        }
        let refused = self.may_subscribe().is_err();
        let why =
            if self.drain.is_some() { NoticeReason::Shutdown } else { NoticeReason::Overload };
        refused.then_some(why)
    }

    /// Answers that need nothing but the settings.
    pub(super) fn simple(&self, route: &Route) -> Response {
        match route {
            Route::Live => Response::json(200, "{\"status\":\"live\"}"),
            Route::Ready if self.ready && self.drain.is_none() && !self.storage_failed() => {
                Response::json(200, "{\"status\":\"ready\"}")
            }
            Route::Ready => {
                Response::error(503, "not_ready", "starting, draining or not able to store")
            }
            Route::Preflight => super::http::origin::preflight(),
            Route::Page(path) => self.page_file(path),
            _ => Response::error(500, "internal", "this route has its own handler"),
        }
    }

    fn storage_failed(&self) -> bool {
        self.ring.state() == storage::StorageState::Failed
    }

    fn page_file(&self, path: &str) -> Response {
        let name = if path.is_empty() { "index.html" } else { path };
        let Some(file) = self.settings.page.get(name) else {
            return route::not_found(&format!("/{path}"));
        };
        let caching =
            if file.immutable { "public, max-age=31536000, immutable" } else { "no-cache" };
        Response::empty(200)
            .with("content-type", file.content_type)
            .with("cache-control", caching)
            .with("x-content-type-options", "nosniff")
            .with("content-security-policy", "default-src 'self'; style-src 'self' 'unsafe-inline'")
            .body(file.body.clone())
    }

    /// A `retry:` between the configured bounds, so that clients do not come back all at once.
    pub(super) fn retry_ms(&mut self) -> u32 {
        let (min, max) = self.settings.sse_retry_ms;
        let span = u64::from(max.saturating_sub(min)) + 1;
        min + (self.random() % span) as u32
    }
}

fn last_response(event: Option<&Event>, tag: Option<&str>) -> Response {
    let Some(event) = event else {
        return Response::error(404, "no_event", "the channel has no retained event");
    };
    let own = format!("\"{}\"", event.position());
    let response = if matches_tag(tag, &own) {
        Response::empty(304)
    } else {
        let mut text = Vec::with_capacity(event.size() + 128);
        envelope::write_envelope(&mut text, event);
        Response::json(200, text)
    };
    response.with("etag", own).with("cache-control", "no-cache")
}

fn events_response(
    top: Option<Position>,
    continuity: Continuity,
    events: &[Event],
    more: bool,
    tag: Option<&str>,
) -> Response {
    // Where the client goes on from: the last event given, or the top when there was none.
    let position = events.last().map(Event::position).or(top);
    let own = position.map_or("\"none\"".to_owned(), |position| format!("\"{position}\""));
    if matches_tag(tag, &own) && !matches!(continuity, Continuity::Gap(_)) {
        return Response::empty(304).with("etag", own).with("cache-control", "no-cache");
    }
    let mut text = Vec::from(&b"{\"events\":["[..]);
    for (at, event) in events.iter().enumerate() {
        if at > 0 {
            text.push(b',');
        }
        envelope::write_envelope(&mut text, event);
    }
    text.extend_from_slice(b"],\"position\":");
    let written = position.map_or("null".to_owned(), |position| format!("\"{position}\""));
    text.extend_from_slice(written.as_bytes());
    text.extend_from_slice(format!(",\"more\":{more}").as_bytes());
    if let Continuity::Gap(reason) = continuity {
        text.extend_from_slice(format!(",\"gap\":\"{}\"", GapReason::as_str(reason)).as_bytes());
    }
    text.push(b'}');
    Response::json(200, text).with("etag", own).with("cache-control", "no-cache")
}

/// RFC 9110 section 13.1.2: a list of tags, compared weakly, or `*`.
fn matches_tag(given: Option<&str>, own: &str) -> bool {
    given.is_some_and(|list| {
        list.split(',').map(str::trim).any(|tag| tag == "*" || tag.trim_start_matches("W/") == own)
    })
}
