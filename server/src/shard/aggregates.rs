//! Counts and tops over stored events: who waits for which, how long, and what is known already.
//!
//! Equal queries are one run, however many ask. A run is asked of the store step by step; between
//! two steps the shard holds what was counted so far. At most `queries_max` runs have begun and
//! hold something, others wait in their order; a run that takes longer than `limits.query_time_s`,
//! waiting included, is answered with 503. A long answer leaves in pieces, the next one when the
//! last one has left.
//!
//! Invariants: a run whose askers are gone is kept until the step under way has come back, so that
//! no more than `queries_max` ever hold memory. Deliberately absent: what is counted (see
//! `storage::query`), JSON (see `http::aggregate`). On the shard's thread. Tested here with a
//! store that answers on demand, and over both engines in `tests/tests/it/query.rs`.

mod cache;

use super::Shard;
use super::http::Response;
use super::http::aggregate::{AggregateRequest, counts_json, top_json};
use super::publish::Asker;
use super::reads::READS_MAX;
use super::store::QueryStore;
use bytes::Bytes;
use cache::Cache;
use std::collections::BTreeMap;
use storage::{Aggregate, Answer, Busy, Query, ReadError, Unfinished};

/// Different queries that may be under way or wait on one shard.
const RUNS_MAX: usize = 64;
/// Answers up to this length leave in one piece.
const PIECE_BYTES: usize = 128 << 10;

/// All counts and tops of a shard.
#[derive(Debug, Default)]
pub struct Aggregates {
    /// By ticket: in the order in which they came.
    runs: BTreeMap<u64, Run>,
    cache: Cache,
    /// The rests of long answers.
    sending: Vec<(Asker, Bytes, bool)>,
}

#[derive(Debug)]
struct Run {
    query: Aggregate,
    askers: Vec<Asker>,
    state: State,
    /// What it held when it was last seen.
    held_bytes: usize,
    deadline_ms: u64,
}

#[derive(Debug)]
enum State {
    /// Not begun.
    Waiting,
    /// The store looks.
    UnderWay,
    /// The store wants to be asked again.
    Ready(Unfinished),
}

impl Aggregates {
    /// True if the ticket is one of a run.
    pub fn knows(&self, ticket: u64) -> bool {
        self.runs.contains_key(&ticket)
    }

    /// When the first run has taken too long, milliseconds.
    pub fn deadline_ms(&self) -> Option<u64> {
        let asked = self.runs.values().filter(|run| !run.askers.is_empty());
        asked.map(|run| run.deadline_ms).min()
    }

    /// Heap held, for the ledger.
    pub fn memory_bytes(&self) -> usize {
        let runs: usize = self.runs.values().map(|run| run.held_bytes).sum();
        let sending: usize = self.sending.iter().map(|(_, rest, _)| rest.len()).sum();
        runs + sending + self.cache.memory_bytes()
    }

    /// Forgets those who are gone.
    pub fn cancel(&mut self, gone: impl Fn(&Asker) -> bool) {
        for run in self.runs.values_mut() {
            run.askers.retain(|asker| !gone(asker));
        }
        self.runs.retain(|_, run| !run.is_over());
        self.sending.retain(|(asker, ..)| !gone(asker));
    }

    fn askers(&self) -> usize {
        self.runs.values().map(|run| run.askers.len()).sum::<usize>() + self.sending.len()
    }

    /// The run of an equal query that came before.
    fn joinable(&mut self, query: &Aggregate, now_ms: u64) -> Option<&mut Run> {
        self.runs.values_mut().find(|run| run.query == *query && now_ms < run.deadline_ms)
    }

    /// What to ask of the store next.
    fn next_query(&mut self, begun_max: usize) -> Option<(u64, &mut Run, Query)> {
        let begun = |run: &&Run| !matches!(run.state, State::Waiting);
        let may_begin = self.runs.values().filter(begun).count() < begun_max;
        let (ticket, run) = self.runs.iter_mut().find(|(_, run)| match run.state {
            State::Waiting => may_begin,
            State::UnderWay => false,
            State::Ready(_) => true,
        })?;
        let query = match std::mem::replace(&mut run.state, State::UnderWay) {
            State::Ready(rest) => Query::More(rest),
            State::Waiting | State::UnderWay => Query::Aggregate(run.query.clone()),
        };
        Some((*ticket, run, query))
    }
}

impl Run {
    /// Nobody waits for it, and nothing of it is at the store.
    fn is_over(&self) -> bool {
        self.askers.is_empty() && !matches!(self.state, State::UnderWay)
    }
}

impl Shard {
    /// Starts a count or a top. `Some` is an answer that is there at once.
    pub(super) fn start_aggregate(
        &mut self,
        asker: Asker,
        request: AggregateRequest,
    ) -> Option<Response> {
        if let Err(response) = self.may_read_store() {
            return Some(response);
        }
        let query = match request.normalise(self.now.wall_us) {
            Ok(query) => query,
            Err(response) => return Some(response),
        };
        let now_ms = self.now.ms;
        if let Some(body) = self.aggregates.cache.get(&query, now_ms) {
            if body.len() <= PIECE_BYTES {
                return Some(response_of(body));
            }
            self.aggregates.sending.push((asker, body, false));
            return None;
        }
        let busy = || {
            let text = "too many counts are waiting; try again";
            Some(Response::error(503, "busy", text))
        };
        if self.aggregates.askers() >= READS_MAX {
            return busy();
        }
        if let Some(run) = self.aggregates.joinable(&query, now_ms) {
            run.askers.push(asker);
            return None;
        }
        if self.aggregates.runs.len() >= RUNS_MAX {
            return busy();
        }
        let deadline_ms = now_ms + u64::from(self.settings.limits.query_time_s) * 1_000;
        let (askers, state) = (vec![asker], State::Waiting);
        let run = Run { query, askers, state, held_bytes: 0, deadline_ms };
        let ticket = self.reads.next_ticket();
        self.aggregates.runs.insert(ticket, run);
        None
    }

    /// Ends what takes too long, asks the store and sends on what is long.
    pub(super) fn run_aggregates(&mut self, store: &dyn QueryStore) {
        self.aggregates.cache.expire(self.now.ms);
        if self.aggregates.deadline_ms().is_some_and(|deadline_ms| self.now.ms >= deadline_ms) {
            self.end_late();
        }
        let begun_max = self.settings.queries_max;
        while let Some((ticket, run, query)) = self.aggregates.next_query(begun_max) {
            if let Err(Busy(query)) = store.submit(self.id.0, ticket, query) {
                run.state = match *query {
                    Query::More(rest) => State::Ready(rest),
                    _ => State::Waiting,
                };
                self.reads.refused = true;
                break;
            }
        }
        for (asker, rest, begun) in std::mem::take(&mut self.aggregates.sending) {
            self.send_long(asker, rest, begun);
        }
    }

    fn end_late(&mut self) {
        let mut late = Vec::new();
        for run in self.aggregates.runs.values_mut() {
            if self.now.ms >= run.deadline_ms {
                late.append(&mut run.askers);
            }
        }
        self.aggregates.runs.retain(|_, run| !run.is_over());
        let text = format!(
            "this took longer than {} s; narrow `from` and `to`, or see whether the store hangs \
             (`/health/storage` on the admin listener)",
            self.settings.limits.query_time_s
        );
        for asker in late {
            self.answer(asker, Response::error(503, "query_too_long", &text));
        }
    }

    /// A step came back.
    pub(super) fn on_aggregate(&mut self, ticket: u64, outcome: Result<Answer, ReadError>) {
        let Some(mut run) = self.aggregates.runs.remove(&ticket) else { return };
        let body = match (&run.query, outcome) {
            (_, Ok(Answer::More(rest))) => {
                // Without askers there is nobody who would ask for the rest.
                if !run.askers.is_empty() {
                    run.held_bytes = rest.memory_bytes();
                    run.state = State::Ready(rest);
                    self.aggregates.runs.insert(ticket, run);
                }
                return;
            }
            (Aggregate::Counts(query), Ok(Answer::Counts(counts))) => counts_json(query, &counts),
            (Aggregate::Top(query), Ok(Answer::Top(top))) => top_json(query, &top),
            (_, outcome) => {
                let response = failure_of(outcome.err());
                for asker in run.askers {
                    self.answer(asker, response.clone());
                }
                return;
            }
        };
        let body = Bytes::from(body);
        self.aggregates.cache.put(&run.query, body.clone(), self.now.ms);
        for asker in run.askers {
            if body.len() <= PIECE_BYTES {
                self.answer(asker, response_of(body.clone()));
            } else {
                self.aggregates.sending.push((asker, body.clone(), false));
            }
        }
    }

    /// The next piece of a long answer, if the one before has left.
    fn send_long(&mut self, asker: Asker, mut rest: Bytes, begun: bool) {
        if self.waits_for(asker) > 0 {
            self.aggregates.sending.push((asker, rest, begun));
            return;
        }
        if !begun {
            self.start_stream(asker, response_of(Bytes::new()));
        }
        let piece = rest.split_to(rest.len().min(PIECE_BYTES));
        self.stream_piece(asker, piece.into(), rest.is_empty());
        if !rest.is_empty() {
            self.aggregates.sending.push((asker, rest, true));
        }
    }
}

fn response_of(body: Bytes) -> Response {
    Response::json(200, body).with("cache-control", "max-age=1")
}

/// What a store's failure is over HTTP. `None`: an answer of another kind than was asked for.
pub(super) fn failure_of(error: Option<ReadError>) -> Response {
    let text =
        error.as_ref().map_or_else(|| "it answered something else".into(), |e| e.to_string());
    match error {
        Some(ReadError::TooLarge { .. }) => Response::error(400, "query_too_large", &text),
        Some(ReadError::TooLong { .. }) => Response::error(503, "query_too_long", &text),
        Some(ReadError::Unavailable { .. }) => Response::error(503, "store_unavailable", &text),
        _ => {
            let text = format!("the store could not be read: {text}");
            Response::error(500, "store_unreadable", &text)
        }
    }
}

#[cfg(test)]
mod tests;
