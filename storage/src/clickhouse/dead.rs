//! Looking at dead letters.

use super::client::{Failure, Store};
use super::config::ClickHouseConfig;
use super::schema::DEAD_LETTERS;

/// Dead letters that were rejected for one reason.
#[derive(Debug, Clone, PartialEq, Eq, clickhouse::Row, serde::Deserialize)]
pub struct DeadLetters {
    /// How many.
    pub events: u64,
    /// ClickHouse's own words, up to the part that names the row.
    pub reason: String,
    /// The id of one of them.
    pub example: String,
    /// And its channel.
    pub channel: String,
}

/// The most frequent reasons, at most 20.
pub async fn summary(
    store: &Store,
    config: &ClickHouseConfig,
) -> Result<Vec<DeadLetters>, Failure> {
    // What follows "at row" or "Expression" differs from row to row.
    let sql = format!(
        "SELECT count() AS events, substring(splitByString(' at row', reason)[1], 1, 300) AS reason, \
         any(id) AS example, any(toString(channel)) AS channel FROM {} GROUP BY reason \
         ORDER BY events DESC, reason LIMIT 20",
        DEAD_LETTERS.path(config)
    );
    store.rows::<DeadLetters>(store.query(&sql)).await
}
