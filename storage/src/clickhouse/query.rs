//! Queries over stored events, answered by ClickHouse: the same answers as the embedded store's.
//!
//! What an answer says is fixed by [`crate::query`]; here is how the rows of `events` give it.
//! `pool` takes queries and limits them; `turn` sends statements; `history`, `counts` and `top`
//! are the three kinds. Invariants:
//! - No value that a client gave is ever part of a statement's text: channel, type, the names of a
//!   path, times and limits are server-side parameters (`{channel:String}`).
//! - Every statement has a time limit on both sides, a memory limit, a limit on its result, and
//!   `readonly = 1`: it cannot write, whatever the user's rights are.
//! - What ClickHouse would write differently (numbers) or cannot read (half a surrogate pair,
//!   numbers beyond 64 bits) is brought here and read by [`proto::field`], as the embedded store
//!   does.
//!
//! The order of a channel is that of incarnation and offset: incarnations are only ever given
//! upwards, and offsets go on where the last run ended. So two data directories that were given the
//! same database are read as one channel each, mixed.
//!
//! Threads: one, with a small tokio runtime. Deliberately absent: JSON, caching, who may ask, and
//! the minutes of `events_per_minute`, which late events join only after reconciliation. Tested
//! against a real engine, side by side with the embedded store, in the integration tests
//! (`query_clickhouse`).

mod counts;
mod history;
mod pool;
mod top;
mod turn;

pub use pool::{OnQueryFailure, QueryLimits, QueryPool};

use proto::channel::ChannelName;
use turn::Statement;

/// The order of events in a channel, as a tuple.
const ORDER: &str = "(bitAnd(epoch, 4294967295), offset, epoch)";

/// `ts` between `from` and `to`. Compared as a `DateTime64`, so that the primary key helps; times
/// before 1900 and after 2299 have no text there but compare as they should.
const IN_TIME: &str = "ts >= fromUnixTimestamp64Micro({from:Int64}, 'UTC') AND \
                       ts <= fromUnixTimestamp64Micro({to:Int64}, 'UTC')";

/// A statement about a channel between two times, with the parameters of [`IN_TIME`].
fn in_range(sql: String, channel: &ChannelName, (from_us, to_us): (i64, i64)) -> Statement {
    Statement::new(sql)
        .text("channel", channel.as_str())
        .signed("from", from_us)
        .signed("to", to_us)
}
