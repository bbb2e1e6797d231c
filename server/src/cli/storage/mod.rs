//! `shardcast storage`: how far the stores are, whether they hold the same, and sending again what
//! one lacks.
//!
//! `status` asks the running server; the others read the spool's files beside it, without its lock,
//! and the stores themselves, with the server's own configuration. Nothing here writes into the
//! data directory.

mod export;
mod range;
mod replay;
mod status;
mod verify;

use super::args::{StorageArgs, StorageCommand};
use super::{exit, fail};
use crate::config::{self, Config};
use storage::clickhouse::{ClickHouseConfig, Store};
use storage::sink::cursor::Cursor;
use storage::{RealFiles, clickhouse};

/// What ends a command early: its exit code and what to do.
type Failed = (u8, String);

pub(super) fn run(args: &StorageArgs) -> u8 {
    let flags = match &args.command {
        StorageCommand::Status(args) => &args.flags,
        StorageCommand::Verify(args) => &args.flags,
        StorageCommand::Replay(args) => &args.flags,
        StorageCommand::Export(args) => &args.flags,
        StorageCommand::Reconcile(args) => &args.flags,
    };
    let config = match config::load(&flags.sources()) {
        Ok(loaded) => loaded.config,
        Err(error) => return fail(exit::CONFIG, &error.to_string()),
    };
    let done = match &args.command {
        StorageCommand::Status(args) => status::run(args, &config),
        StorageCommand::Verify(args) => verify::run(args, &config),
        StorageCommand::Replay(args) => replay::run(args, &config),
        StorageCommand::Export(args) => export::run(args, &config),
        StorageCommand::Reconcile(args) => replay::reconcile(args, &config),
    };
    done.unwrap_or_else(|(code, message)| fail(code, &message))
}

/// A connection to the configured ClickHouse.
struct ClickHouse {
    runtime: tokio::runtime::Runtime,
    config: ClickHouseConfig,
    store: Store,
}

impl ClickHouse {
    /// `None`: none is configured.
    fn open(config: &Config) -> Result<Option<Self>, Failed> {
        let click_house = &config.storage.clickhouse;
        if !click_house.is_on() {
            return Ok(None);
        }
        let refused = |message| (exit::CONFIG, message);
        let config = click_house.sink_config().map_err(refused)?;
        let store = Store::new(&config).map_err(refused)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| (exit::INTERNAL, e.to_string()))?;
        Ok(Some(Self { runtime, config, store }))
    }

    /// The same, where it is needed.
    fn needed(config: &Config) -> Result<Self, Failed> {
        let remedy = "no ClickHouse is configured; say which server's stores are meant, with its \
                      --config or --set storage.clickhouse.url=http://127.0.0.1:8123";
        Self::open(config)?.ok_or_else(|| (exit::CONFIG, remedy.to_owned()))
    }

    /// Waits for an answer.
    fn wait<T>(
        &self,
        work: impl Future<Output = Result<T, clickhouse::Failure>>,
    ) -> Result<T, Failed> {
        let done = self.runtime.block_on(work);
        done.map_err(|failure| (exit::UNAVAILABLE, format!("ClickHouse: {failure}")))
    }
}

/// The spool's folder. It must be there: nothing is created for a tool.
fn spool(config: &Config) -> Result<RealFiles, Failed> {
    let dir = &config.data_dir;
    if !dir.is_dir() {
        let message =
            format!("there is no data directory {}; name it with --data-dir", dir.display());
        return Err((exit::CONFIG, message));
    }
    RealFiles::open(dir).map_err(|error| {
        (exit::CONFIG, format!("cannot use the data directory {}: {error}", dir.display()))
    })
}

/// The cursor of a sink, as its file says.
fn cursor(files: &RealFiles, sink: &str) -> Result<Option<Cursor>, Failed> {
    Cursor::load(files, sink).map_err(|error| (exit::CONFIG, error.to_string()))
}

fn broken(error: &storage::ReadError) -> Failed {
    (exit::INTERNAL, format!("the spool cannot be read: {error}"))
}

/// A number with its thousands apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
