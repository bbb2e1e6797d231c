//! Requests to ClickHouse, and what their errors ask for.
//!
//! Errors are sorted by what the sink does next ([`Class`]), by ClickHouse's own error codes. What
//! is unknown is tried again: waiting never loses an event. No error text holds a password, because
//! none is ever part of a URL or a statement.

use super::config::ClickHouseConfig;
use crate::sink::tls;
use bytes::Bytes;
use clickhouse::error::Error;
use clickhouse::query::Query;
use clickhouse::{Client, Compression};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use std::time::Duration;

/// What to do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Not reached, or not able: wait, then try the next endpoint.
    Unavailable,
    /// The table takes nothing now (too many parts, read-only): wait.
    Busy,
    /// Too much at once: split.
    TooLarge,
    /// It will not take these rows: isolate, then dead letters.
    Rejected,
    /// A person must look: rights, password, schema.
    Stuck,
    /// Not known to us: wait; if it stays, isolate.
    Unknown,
}

/// A request that failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    /// What to do.
    pub class: Class,
    /// ClickHouse's error code.
    pub code: Option<u32>,
    /// One line, bounded.
    pub text: String,
}

/// Longest error text kept, in bytes.
const TEXT_BYTES_MAX: usize = 600;

impl Failure {
    /// A failure that did not come from ClickHouse.
    pub fn new(class: Class, text: impl Into<String>) -> Self {
        Self { class, code: None, text: text.into() }
    }

    /// True if the server had no memory left for anybody.
    pub(crate) fn is_of_the_server(&self) -> bool {
        self.code == Some(241) && self.text.to_lowercase().contains("(total)")
    }

    pub(crate) fn of(error: &Error, url: &str) -> Self {
        let said = error.to_string();
        let mut text = one_line(&said);
        let code = error_code(&said);
        let class = match (error, code) {
            (Error::BadResponse(said), Some(code)) => classify(code, said),
            (Error::BadResponse(_) | Error::Network(_) | Error::TimedOut, _) => Class::Unavailable,
            _ => Class::Unknown,
        };
        if class == Class::Unavailable {
            // The cause is behind "client error (Connect)".
            let mut source = std::error::Error::source(error);
            while let Some(cause) = source {
                text = one_line(&format!("{said}: {cause}"));
                source = cause.source();
            }
            text = format!("{url}: {text}");
        }
        Self { class, code, text }
    }
}

fn one_line(text: &str) -> String {
    let mut line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    line.truncate(line.floor_char_boundary(TEXT_BYTES_MAX));
    line
}

/// `Code: 252. DB::Exception: ...`
fn error_code(text: &str) -> Option<u32> {
    let rest = text.split_once("Code: ")?.1;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    rest.get(..digits)?.parse().ok()
}

/// ClickHouse's `ErrorCodes.cpp`, as far as an insert can meet them.
fn classify(code: u32, said: &str) -> Class {
    match code {
        // TOO_MANY_PARTS is two things: a table that cannot keep up with merging, and an insert
        // over too many partitions.
        252 if said.contains("single INSERT") => Class::TooLarge,
        // TOO_MANY_PARTS, TABLE_IS_READ_ONLY, TOO_FEW_LIVE_REPLICAS, UNKNOWN_STATUS_OF_INSERT,
        // UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE, NOT_ENOUGH_SPACE, TOO_MANY_SIMULTANEOUS_QUERIES,
        // QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING
        252 | 242 | 285 | 319 | 286 | 243 | 202 | 216 => Class::Busy,
        // SOCKET_TIMEOUT, NETWORK_ERROR, TIMEOUT_EXCEEDED, NO_ZOOKEEPER,
        // ALL_CONNECTION_TRIES_FAILED, CANNOT_SCHEDULE_TASK, SERVER_OVERLOADED, ABORTED,
        // KEEPER_EXCEPTION
        209 | 210 | 159 | 225 | 279 | 439 | 745 | 236 | 999 => Class::Unavailable,
        // MEMORY_LIMIT_EXCEEDED, TOO_MANY_ROWS, TOO_MANY_BYTES, TOO_LARGE_ARRAY_SIZE,
        // TOO_MANY_ROWS_OR_BYTES
        241 | 158 | 307 | 128 | 396 => Class::TooLarge,
        // VIOLATED_CONSTRAINT, CANNOT_PARSE_TEXT .. CANNOT_READ_ALL_DATA, CANNOT_PARSE_DATETIME,
        // CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN, TOO_LARGE_STRING_SIZE, INCORRECT_DATA,
        // VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE, DECIMAL_OVERFLOW, FUNCTION_THROW_IF_VALUE_IS_NON_ZERO
        469 | 6 | 25..=27 | 33 | 38 | 41 | 349 | 131 | 117 | 321 | 407 | 395 => Class::Rejected,
        // NOT_FOUND_COLUMN_IN_BLOCK, NO_SUCH_COLUMN_IN_TABLE, TYPE_MISMATCH, UNKNOWN_TABLE,
        // UNKNOWN_DATABASE, READONLY, UNKNOWN_USER, WRONG_PASSWORD, REQUIRED_PASSWORD,
        // ACCESS_DENIED, AUTHENTICATION_FAILED, UNKNOWN_SETTING, QUOTA_EXCEEDED, UNKNOWN_CLUSTER
        10 | 16 | 53 | 60 | 81 | 164 | 192..=194 | 497 | 516 | 115 | 201 | 701 => Class::Stuck,
        _ => Class::Unknown,
    }
}

/// A connection to each endpoint; requests go to one until it fails.
pub struct Store {
    endpoints: Vec<(String, Client)>,
    current: usize,
    insert_timeout: Duration,
    cluster: bool,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("url", &self.url()).finish_non_exhaustive()
    }
}

impl Store {
    /// Prepares clients; nothing connects yet. An error is about `ca_file`.
    pub fn new(config: &ClickHouseConfig) -> Result<Self, String> {
        let connector = connector(config)?;
        let endpoint = |url: &String| {
            let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
                .pool_idle_timeout(Duration::from_secs(2)) // less than the server's 3 s
                .build(connector.clone());
            let mut client = Client::with_http_client(http).with_url(url.clone());
            if !config.user.is_empty() {
                client = client.with_user(&config.user).with_password(&config.password);
            }
            (url.clone(), client.with_compression(Compression::None).with_validation(true))
        };
        Ok(Self {
            endpoints: config.urls.iter().map(endpoint).collect(),
            current: 0,
            insert_timeout: config.insert_timeout,
            cluster: !config.cluster.is_empty(),
        })
    }

    /// The endpoint in use.
    pub fn url(&self) -> &str {
        self.endpoints.get(self.current).map_or("", |(url, _)| url)
    }

    /// How many endpoints there are.
    pub fn endpoints(&self) -> usize {
        self.endpoints.len()
    }

    /// Turns to the next endpoint.
    pub fn rotate(&mut self) {
        self.current = (self.current + 1) % self.endpoints.len().max(1);
    }

    fn client(&self) -> &Client {
        &self.endpoints[self.current].1
    }

    /// A statement without rows.
    pub async fn execute(&self, sql: &str) -> Result<(), Failure> {
        self.run(self.query(sql)).await
    }

    /// Runs a statement with parameters.
    pub async fn run(&self, query: Query) -> Result<(), Failure> {
        let done = tokio::time::timeout(self.insert_timeout, query.execute()).await;
        self.result(done)
    }

    /// A query; values go in with `param`, never into the text.
    pub fn query(&self, sql: &str) -> Query {
        self.client().query_raw(sql)
    }

    /// All rows of a query.
    pub async fn rows<T>(&self, query: Query) -> Result<Vec<T>, Failure>
    where
        T: clickhouse::RowOwned + clickhouse::RowRead,
    {
        let rows = tokio::time::timeout(self.insert_timeout, query.fetch_all::<T>()).await;
        self.result(rows)
    }

    /// Inserts a block under a token. Done means: the store has it, once.
    pub async fn insert(
        &self,
        table: &str,
        token: &str,
        chunks: impl Iterator<Item = Bytes>,
    ) -> Result<(), Failure> {
        let mut insert = self
            .client()
            .insert_formatted_with(format!("INSERT INTO {table} FORMAT Native"))
            .with_timeouts(Some(self.insert_timeout), Some(self.insert_timeout))
            .with_setting("async_insert", "0")
            .with_setting("insert_deduplicate", "1")
            .with_setting("insert_deduplication_token", token)
            // While an insert that we gave up still runs, the server refuses its repetition; so it
            // has ended when an answer to the repetition leads to a division.
            .with_setting("query_id", token)
            .with_setting("deduplicate_blocks_in_dependent_materialized_views", "1")
            .with_setting("wait_end_of_query", "1");
        if self.cluster {
            insert = insert.with_setting("distributed_foreground_insert", "1");
        }
        let mut sent = Ok(());
        for chunk in chunks {
            sent = insert.send(chunk).await;
            if sent.is_err() {
                break;
            }
        }
        let done = match sent {
            Ok(()) => insert.end().await,
            Err(error) => Err(error),
        };
        done.map_err(|error| Failure::of(&error, self.url()))
    }

    fn result<T>(
        &self,
        done: Result<Result<T, Error>, tokio::time::error::Elapsed>,
    ) -> Result<T, Failure> {
        match done {
            Ok(done) => done.map_err(|error| Failure::of(&error, self.url())),
            Err(_) => Err(Failure::of(&Error::TimedOut, self.url())),
        }
    }
}

type Connector = hyper_rustls::HttpsConnector<HttpConnector>;

fn connector(config: &ClickHouseConfig) -> Result<Connector, String> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(Duration::from_secs(5)));
    http.set_keepalive(Some(Duration::from_secs(60)));
    let https = config.urls.iter().any(|url| url.starts_with("https://"));
    let ca_file = config.ca_file.as_deref().filter(|_| https);
    let tls = tls::client_config(ca_file, https);
    let tls = tls.map_err(|error| format!("storage.clickhouse.{error}"))?;
    Ok(hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(http))
}

#[cfg(test)]
pub(crate) fn failure_of(text: &str) -> Failure {
    Failure::of(&Error::BadResponse(text.to_owned()), "http://x")
}
