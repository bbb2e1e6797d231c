//! Queries over stored events, and their answers: the boundary between who asks and what stores.
//!
//! Whoever asks sends a [`Query`] and gets an [`Answer`] or a [`ReadError`]; both are plain data,
//! so that another store (a column store beside the spool) can stand behind the same boundary. The
//! embedded store answers in steps: [`Answer::More`] says that it has not seen everything yet, and
//! the caller sends that back as [`Query::More`] when it likes. Between steps nothing is held but
//! what was counted. A store that answers at once never gives `More` and never gets it.
//!
//! Invariants that every store keeps: only synced events count; both ends of a range are
//! inclusive; the order of buckets, types and values is the one documented at each field, so that
//! equal stores give equal answers byte for byte. Deliberately absent: JSON, time limits, caching.
//! Any thread. Tested against brute force in `tests::aggregates`.

use crate::aggregate::{CountsGather, TopGather};
use crate::files::Files;
use crate::read::{Bound, HistoryBlock, HistoryRead, ReadError, Reader};
use crate::walk::{Cursor, Target};
use proto::channel::ChannelName;
use proto::field::Field;
use std::sync::Arc;

/// Most buckets between the ends of a [`CountsQuery`].
pub const BUCKETS_MAX: u64 = 10_000;
/// Longest bucket, in seconds.
pub const BUCKET_S_MAX: u32 = 86_400;
/// Distinct types that an answer names.
pub const TYPES_MAX: usize = 1_000;
/// Most values a [`TopQuery`] may ask for.
pub const TOP_LIMIT_MAX: u32 = 1_000;

/// A question about stored events.
#[derive(Debug)]
pub enum Query {
    /// The next block of a history.
    History(HistoryRead),
    /// The same from the spool, whatever answers the others: what a client missed, which another
    /// store may not have yet.
    Missed(HistoryRead),
    /// Something about many events at once.
    Aggregate(Aggregate),
    /// The rest of what [`Answer::More`] left open.
    More(Unfinished),
}

/// Something about many events at once. Equal ones have equal answers at the same time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Aggregate {
    /// Events per time and type.
    Counts(CountsQuery),
    /// The most frequent values of a field.
    Top(TopQuery),
}

/// How many events a channel has, by time bucket and type.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CountsQuery {
    /// The channel.
    pub channel: ChannelName,
    /// First event time, inclusive, microseconds since the Unix epoch.
    pub from_us: i64,
    /// Last event time, inclusive.
    pub to_us: i64,
    /// Length of a bucket in seconds, 1 to [`BUCKET_S_MAX`].
    pub bucket_s: u32,
    /// Only events of this type (empty: of none).
    pub kind: Option<Box<str>>,
}

/// The most frequent values of a field.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopQuery {
    /// The channel.
    pub channel: ChannelName,
    /// The field; what its values are is said in [`proto::field`].
    pub field: Field,
    /// First event time, inclusive, microseconds since the Unix epoch.
    pub from_us: i64,
    /// Last event time, inclusive.
    pub to_us: i64,
    /// Values wanted, 1 to [`TOP_LIMIT_MAX`].
    pub limit: u32,
}

/// What a store answers.
#[derive(Debug)]
pub enum Answer {
    /// To [`Query::History`] and [`Query::Missed`].
    History(HistoryBlock),
    /// To [`Aggregate::Counts`].
    Counts(Counts),
    /// To [`Aggregate::Top`].
    Top(Top),
    /// Not everything has been seen: send it back as [`Query::More`].
    More(Unfinished),
}

/// The answer to a [`CountsQuery`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counts {
    /// Events that were counted.
    pub total: u64,
    /// The buckets that have events, ascending.
    pub buckets: Vec<Bucket>,
}

/// One bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Its first microsecond since the Unix epoch, a multiple of its length.
    pub start_us: i64,
    /// Events in it.
    pub total: u64,
    /// Events by type (empty: without one), the most frequent first, then by name. Over the whole
    /// answer these are the [`TYPES_MAX`] types that come first in the channel's order.
    pub types: Vec<(Arc<str>, u64)>,
    /// Events of all other types.
    pub other_types: u64,
}

/// The answer to a [`TopQuery`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Top {
    /// Events in the range.
    pub total: u64,
    /// Those of them that have no value.
    pub missing: u64,
    /// False: there were more distinct values than are tracked. Counts are then lower bounds, and
    /// rare values may be left out.
    pub exact: bool,
    /// The most frequent values, by count descending, then by value (bytes) ascending.
    pub values: Vec<(Box<str>, u64)>,
}

/// An aggregate that has not seen everything. Only the embedded store makes and understands it.
#[derive(Debug)]
pub struct Unfinished(Box<State>);

#[derive(Debug)]
struct State {
    query: Aggregate,
    cursor: Option<Cursor>,
    gather: Gather,
    /// How often retention has overtaken it.
    restarts: u8,
}

#[derive(Debug)]
enum Gather {
    Counts(CountsGather),
    Top(TopGather),
}

/// Retention removes a segment in minutes, a walk takes seconds: more than this is no accident.
const RESTARTS_MAX: u8 = 3;

impl Aggregate {
    /// The channel it is about.
    pub fn channel(&self) -> &ChannelName {
        match self {
            Self::Counts(query) => &query.channel,
            Self::Top(query) => &query.channel,
        }
    }

    /// First and last event time, both inclusive.
    pub fn range_us(&self) -> (i64, i64) {
        match self {
            Self::Counts(query) => (query.from_us, query.to_us),
            Self::Top(query) => (query.from_us, query.to_us),
        }
    }
}

impl Unfinished {
    fn new(query: Aggregate, restarts: u8) -> Self {
        let gather = match &query {
            Aggregate::Counts(counts) => Gather::Counts(CountsGather::new(counts)),
            Aggregate::Top(top) => Gather::Top(TopGather::new(top)),
        };
        Self(Box::new(State { query, cursor: None, gather, restarts }))
    }

    /// What it holds, about; at most [`crate::aggregate::VALUES_BYTES_MAX`] or
    /// [`crate::aggregate::ANSWER_BYTES_MAX`].
    pub fn memory_bytes(&self) -> usize {
        match &self.0.gather {
            Gather::Counts(gather) => gather.memory_bytes(),
            Gather::Top(gather) => gather.memory_bytes(),
        }
    }
}

impl<F: Files> Reader<F> {
    /// One step of any query.
    pub fn answer(&self, query: Query) -> Result<Answer, ReadError> {
        match query {
            Query::History(read) | Query::Missed(read) => self.step(read).map(Answer::History),
            Query::Aggregate(query) => self.aggregate(Unfinished::new(query, 0)),
            Query::More(rest) => self.aggregate(rest),
        }
    }

    /// All steps of an aggregate, for callers that may take their time.
    pub fn answer_whole(&self, query: Aggregate) -> Result<Answer, ReadError> {
        let mut answer = self.answer(Query::Aggregate(query))?;
        while let Answer::More(rest) = answer {
            answer = self.answer(Query::More(rest))?;
        }
        Ok(answer)
    }

    fn aggregate(&self, rest: Unfinished) -> Result<Answer, ReadError> {
        let mut state = rest.0;
        let (from_us, to_us) = state.query.range_us();
        let target = Target {
            channel: state.query.channel(),
            incarnation: None,
            from: Bound::TimeUs(from_us),
            to: Bound::TimeUs(to_us),
        };
        let walked = match &mut state.gather {
            Gather::Counts(gather) => self.walk(target, state.cursor, gather),
            Gather::Top(gather) => self.walk(target, state.cursor, gather),
        };
        match walked {
            Ok(None) => match state.gather {
                Gather::Counts(gather) => gather.finish().map(Answer::Counts),
                Gather::Top(gather) => Ok(Answer::Top(gather.finish())),
            },
            Ok(cursor) => {
                state.cursor = cursor;
                Ok(Answer::More(Unfinished(state)))
            }
            // What was counted is partly gone and what comes next is missing: count again, of what
            // there is now.
            Err(ReadError::Expired) if state.restarts < RESTARTS_MAX => {
                Ok(Answer::More(Unfinished::new(state.query, state.restarts + 1)))
            }
            Err(error) => Err(error),
        }
    }
}
