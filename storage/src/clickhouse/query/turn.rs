//! One query's turn at ClickHouse: statements out, rows in, until its deadline.
//!
//! An endpoint that is not reached is left for the next one, as long as no row was taken. What went
//! wrong in full is for the log; a client is told what it can do. Deliberately absent: waiting for
//! a store that is away, since whoever asks wants to know now.

use super::super::client::{Class, Failure, Store};
use crate::read::ReadError;
use clickhouse::query::Query;
use clickhouse::{RowOwned, RowRead};
use std::cell::RefCell;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// Memory that one statement may take in ClickHouse.
const MEMORY_BYTES_MAX: u64 = 2 << 30;
/// Longest result of a statement: a block of history or the groups of an aggregate. It is
/// held back in ClickHouse until it is whole, so that a failure is one and never half an answer.
const RESULT_BYTES_MAX: u64 = 1 << 30;
/// Most rows of a result.
const RESULT_ROWS_MAX: u64 = 2_000_000;

/// A statement, its parameters, and settings beyond those that all have.
#[derive(Debug, Clone)]
pub(super) struct Statement {
    sql: String,
    parameters: Vec<(String, Value)>,
    settings: Vec<(&'static str, &'static str)>,
}

#[derive(Debug, Clone)]
enum Value {
    Text(String),
    Signed(i64),
    Unsigned(u64),
}

impl Statement {
    /// The text may name parameters: `{name:Type}`. It holds nothing that came from a client.
    pub(super) fn new(sql: String) -> Self {
        Self { sql, parameters: Vec::new(), settings: Vec::new() }
    }

    pub(super) fn text(mut self, name: impl Into<String>, value: &str) -> Self {
        self.parameters.push((name.into(), Value::Text(value.to_owned())));
        self
    }

    pub(super) fn signed(mut self, name: &str, value: i64) -> Self {
        self.parameters.push((name.to_owned(), Value::Signed(value)));
        self
    }

    pub(super) fn unsigned(mut self, name: &str, value: u64) -> Self {
        self.parameters.push((name.to_owned(), Value::Unsigned(value)));
        self
    }

    pub(super) fn setting(mut self, name: &'static str, value: &'static str) -> Self {
        self.settings.push((name, value));
        self
    }

    fn query(&self, store: &Store, left: Duration) -> Query {
        let mut query = store.query(&self.sql);
        for (name, value) in &self.parameters {
            query = match value {
                Value::Text(text) => query.param(name, text),
                Value::Signed(number) => query.param(name, number),
                Value::Unsigned(number) => query.param(name, number),
            };
        }
        for (name, value) in &self.settings {
            query = query.with_setting(*name, *value);
        }
        query
            .with_setting("readonly", "1")
            .with_setting("max_execution_time", left.as_secs_f64().ceil().max(1.0).to_string())
            .with_setting("timeout_overflow_mode", "throw")
            .with_setting("max_memory_usage", MEMORY_BYTES_MAX.to_string())
            .with_setting("max_result_rows", RESULT_ROWS_MAX.to_string())
            .with_setting("max_result_bytes", RESULT_BYTES_MAX.to_string())
            .with_setting("result_overflow_mode", "throw")
            .with_setting("cancel_http_readonly_queries_on_client_close", "1")
            .with_setting("wait_end_of_query", "1")
    }
}

/// The connections, shared by all turns of the thread.
pub(super) struct Connections {
    store: RefCell<Store>,
    on_failure: Box<dyn Fn(&Failure)>,
}

impl Connections {
    pub(super) fn new(store: Store, on_failure: Box<dyn Fn(&Failure)>) -> Self {
        Self { store: RefCell::new(store), on_failure }
    }
}

/// See the module.
pub(super) struct Turn<'a> {
    pub(super) connections: &'a Connections,
    pub(super) deadline: Instant,
    /// The limit that the deadline came from.
    pub(super) limit: Duration,
}

impl Turn<'_> {
    /// What a client is told when the deadline has come.
    pub(super) fn too_long(limit: Duration) -> ReadError {
        ReadError::TooLong { seconds: limit.as_secs() }
    }

    /// All rows of a statement.
    pub(super) async fn rows<T: RowOwned + RowRead>(
        &self,
        statement: Statement,
    ) -> Result<Vec<T>, ReadError> {
        let mut rows = Vec::new();
        let take = |row| {
            rows.push(row);
            ControlFlow::Continue(())
        };
        self.each(statement, take).await?;
        Ok(rows)
    }

    /// Row after row, until one is enough.
    pub(super) async fn each<T: RowOwned + RowRead>(
        &self,
        statement: Statement,
        mut take: impl FnMut(T) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let endpoints = self.connections.store.borrow().endpoints();
        let mut tried = 1;
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Self::too_long(self.limit));
            }
            let (query, url) = {
                let store = self.connections.store.borrow();
                (statement.query(&store, left), store.url().to_owned())
            };
            let mut taken = false;
            let done = fetch(query, &mut taken, &mut take).await;
            let Err(error) = done else { return Ok(()) };
            let failure = Failure::of(&error, &url);
            if failure.class == Class::Unavailable && !taken && failure.code.is_none() {
                let mut store = self.connections.store.borrow_mut();
                // Another turn may have left the endpoint already.
                if store.url() == url {
                    store.rotate();
                }
                if tried < endpoints {
                    tried += 1;
                    continue;
                }
            }
            return Err(self.error(&failure));
        }
    }

    /// What a failure means to whoever asked.
    fn error(&self, failure: &Failure) -> ReadError {
        match failure.code {
            // TIMEOUT_EXCEEDED, TOO_SLOW
            Some(159 | 160) => return Self::too_long(self.limit),
            // TOO_MANY_ROWS, TOO_MANY_BYTES, TOO_MANY_ROWS_OR_BYTES; MEMORY_LIMIT_EXCEEDED, unless
            // it is that of the whole server
            Some(158 | 307 | 396) => return TOO_LARGE,
            Some(241) if !failure.text.contains("(total)") => return TOO_LARGE,
            _ => (self.connections.on_failure)(failure),
        }
        let what = match failure.code {
            Some(code) => {
                format!("ClickHouse refused with error {code}; the server's log says more")
            }
            None => "ClickHouse is not reached".to_owned(),
        };
        ReadError::Unavailable { what }
    }
}

const TOO_LARGE: ReadError = ReadError::TooLarge { remedy: "use a shorter range" };

async fn fetch<T: RowOwned + RowRead>(
    query: Query,
    taken: &mut bool,
    take: &mut impl FnMut(T) -> ControlFlow<()>,
) -> Result<(), clickhouse::error::Error> {
    let mut cursor = query.fetch::<T>()?;
    while let Some(row) = cursor.next().await? {
        *taken = true;
        if take(row).is_break() {
            break;
        }
    }
    Ok(())
}
