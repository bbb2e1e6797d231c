//! What answers queries over stored events, as a shard sees it.
//!
//! The boundary is typed and has two calls: a [`Query`] goes out with a ticket, an [`Answer`] or an
//! error comes back with the ticket. Behind it stand the reader threads of the embedded store, or
//! ClickHouse. What a store must keep to:
//! - Neither call blocks: both run on the shard's thread.
//! - Every query that was taken is answered once, however long it takes; a store that cannot
//!   reach its data answers `Unavailable`. The shard keeps the time limits and forgets who asked,
//!   but it counts the query as under way until its answer has come.
//! - When an answer is there the shard is woken, and `next` gives it.
//! - A history is answered block by block: `HistoryBlock::next` is the query for the next one, and
//!   `HistoryRead::rest` makes one for a store that goes on by position.
//! - An aggregate may be answered with `Answer::More` and is then asked for the rest, so that a
//!   store of few threads can take turns; a store that has it at once never does that.
//! - Which answer belongs to which query, and in what order its parts stand, is said in
//!   [`storage::query`]. JSON, caching and who may ask are the shard's business.
//!
//! Threads: shared by all shards. Tested through `reads` and `aggregates`, with the readers of the
//! real store and, in the simulated world, with none.

use storage::{Answer, Busy, Query, ReadError};

/// See the module.
pub trait QueryStore: Send + Sync {
    /// Takes a query, or gives it back when there is no room for it now.
    fn submit(&self, shard: u16, ticket: u64, query: Query) -> Result<(), Busy>;
    /// The next answer for a shard.
    fn next(&self, shard: u16) -> Option<(u64, Result<Answer, ReadError>)>;
}
