//! The stores beside the spool: prepared before the shards run, started with the writer, stopped
//! when everything is synced.
//!
//! Not reaching a store is no reason not to start: events stay in the spool until it takes them. A
//! store that is reached and does not fit (schema, rights, password) is one, because that needs a
//! person, and better now than at night.

use super::BootError;
use crate::config::Config;
use crate::log;
use crate::metrics::SinkSnapshot;
use std::sync::Arc;
use std::time::Duration;
use storage::clickhouse::corrections::{Job, JobStats, JobView};
use storage::clickhouse::{self, Class, ClickHouseConfig, ClickHouseSink, Failure};
use storage::feed::Feed;
use storage::parquet::{self, ParquetSink};
use storage::sink::cursor::Cursor;
use storage::sink::{OnSinkNotice, Progress, SinkHandle, SinkNotice, Source};
use storage::{Pump, RealFiles, Spool, StorageRing};

/// How long a start waits for a store's first answer.
const CHECK_WAIT: Duration = Duration::from_secs(5);
/// How long a stop lets a store take what is there.
const STOP_WAIT: Duration = Duration::from_secs(5);

/// Sinks that are ready to run.
#[derive(Default)]
pub struct Sinks {
    click_house: Option<ClickHouseSink<RealFiles>>,
    parquet: Option<ParquetSink<RealFiles>>,
    /// Not yet waiting for its first run.
    reconcile: Option<(ClickHouseConfig, Duration)>,
    view: SinksView,
}

/// Sinks that run.
#[derive(Default)]
pub struct RunningSinks {
    sinks: Vec<SinkHandle>,
    reconcile: Option<Job>,
}

/// The sinks' figures, for whoever counts.
#[derive(Clone, Default)]
pub struct SinksView {
    feed: Option<Arc<Feed>>,
    sinks: Vec<SinkView>,
    reconcile: Option<JobView>,
}

#[derive(Clone)]
struct SinkView {
    name: &'static str,
    progress: Arc<Progress>,
    /// How long events wait by design, seconds.
    patience_s: u64,
}

impl SinksView {
    /// One entry per sink.
    pub fn read(&self, now_us: i64) -> Vec<SinkSnapshot> {
        let end_seq = self.feed.as_ref().map_or(0, |feed| feed.end_seq());
        let snapshot = |sink: &SinkView| {
            let SinkView { name, progress, patience_s } = sink;
            let stats = progress.stats();
            let confirmed = progress.confirmed();
            let waits_us = stats.oldest_waiting_us.map_or(0, |at| now_us.saturating_sub(at).max(0));
            SinkSnapshot {
                sink: name,
                behind: end_seq.saturating_sub(confirmed),
                lag_ms: (waits_us / 1_000) as u64,
                confirmed,
                durable: progress.durable(),
                patience_s: *patience_s,
                stats,
            }
        };
        self.sinks.iter().map(snapshot).collect()
    }

    /// The figures of reconciliation, where it runs.
    pub fn reconcile(&self) -> Option<JobStats> {
        self.reconcile.as_ref().map(JobView::read)
    }

    /// Bytes of events held in memory for sinks.
    pub fn memory_bytes(&self) -> u64 {
        self.feed.as_ref().map_or(0, |feed| feed.bytes())
    }
}

impl Sinks {
    /// Prepares what the configuration names.
    pub fn open(
        config: &Config,
        files: &RealFiles,
        spool: &mut Spool<RealFiles>,
        ring: &Arc<StorageRing>,
    ) -> Result<Self, BootError> {
        let mut sinks = Self::default();
        let storage = &config.storage;
        let (click_house, parquet) = (storage.clickhouse.is_on(), storage.parquet.is_on());
        if click_house || parquet {
            // What is sealed has mostly left the feed, so the files gain nothing by it.
            let feed = spool.feed(if click_house { storage.feed_bytes_max } else { 0 });
            let source = Source::new(Arc::clone(&feed), spool.reader()).waking(Arc::clone(ring));
            sinks.view.feed = Some(feed);
            if click_house {
                sinks.open_click_house(config, files, source.clone())?;
            }
            if parquet {
                sinks.open_parquet(config, files, source)?;
            }
        }
        Ok(sinks)
    }

    fn open_click_house(
        &mut self,
        config: &Config,
        files: &RealFiles,
        source: Source<RealFiles>,
    ) -> Result<(), BootError> {
        let click_house = &config.storage.clickhouse;
        let remedy = "check `[storage.clickhouse]` (`shardcast config` shows where it was set)";
        let refuse = |message: String| BootError::new(message, remedy);
        let settings = click_house.sink_config().map_err(refuse)?;
        settings.validate().map_err(|e| refuse(e.to_string()))?; // now with the password
        let cursor = Cursor::load(files, clickhouse::NAME).map_err(|e| refuse(e.to_string()))?;
        let every = Duration::from_secs(u64::from(click_house.reconcile_s));
        self.reconcile = (!every.is_zero()).then(|| (settings.clone(), every));
        let mut sink = ClickHouseSink::new(settings, files.clone(), source, cursor, notices())
            .map_err(refuse)?;
        if let Err(failure) = sink.check(CHECK_WAIT) {
            if failure.class == Class::Stuck {
                return Err(refuse(format!("ClickHouse cannot be used: {failure}")));
            }
            log::warn(
                "ClickHouse is not reached yet; events wait in the spool",
                &[("error", &failure.text)],
            );
        }
        self.add(clickhouse::NAME, sink.progress(), 0);
        self.click_house = Some(sink);
        Ok(())
    }

    fn open_parquet(
        &mut self,
        config: &Config,
        files: &RealFiles,
        source: Source<RealFiles>,
    ) -> Result<(), BootError> {
        let settings = &config.storage.parquet;
        let remedy = "check `[storage.parquet]` (`shardcast config` shows where it was set)";
        let refuse = |message: String| BootError::new(message, remedy);
        let cursor = Cursor::load(files, parquet::NAME).map_err(|e| refuse(e.to_string()))?;
        let sink_config = settings.sink_config().map_err(refuse)?;
        let target = &sink_config.location;
        if let Some(wrong) = cursor.as_ref().and_then(|c| c.other_target(parquet::NAME, target)) {
            return Err(refuse(wrong));
        }
        let sink = ParquetSink::new(sink_config, files.clone(), source, cursor, notices());
        match sink.check(CHECK_WAIT) {
            Ok(()) => {}
            Err(failure @ parquet::Failure::Fatal { .. }) => {
                return Err(refuse(format!("Parquet files cannot be written: {failure}")));
            }
            Err(failure) => log::warn(
                "the place for Parquet files is not reached yet; events wait in the spool",
                &[("error", &failure)],
            ),
        }
        self.add(parquet::NAME, sink.progress(), u64::from(settings.seal_s));
        self.parquet = Some(sink);
        Ok(())
    }

    fn add(&mut self, name: &'static str, progress: Arc<Progress>, patience_s: u64) {
        self.view.sinks.push(SinkView { name, progress, patience_s });
    }

    /// The writer follows them from its first round on.
    pub fn join(&self, pump: &mut Pump<RealFiles>) {
        for sink in &self.view.sinks {
            pump.add_sink(Arc::clone(&sink.progress));
        }
        if let Some(sink) = &self.click_house {
            pump.set_primary(sink.progress());
        }
    }

    /// Starts their threads; gives what counts them, too.
    pub fn start(self) -> std::io::Result<(RunningSinks, SinksView)> {
        let click_house = self.click_house.map(ClickHouseSink::start).transpose()?;
        let parquet = self.parquet.map(ParquetSink::start).transpose()?;
        let sinks = click_house.into_iter().chain(parquet).collect();
        let job = self.reconcile.map(|(config, every)| Job::start(config, every, not_reconciled));
        let job = job.transpose()?;
        let view = SinksView { reconcile: job.as_ref().map(Job::view), ..self.view };
        Ok((RunningSinks { sinks, reconcile: job }, view))
    }
}

impl RunningSinks {
    /// Lets them send what is synced, for a while, and waits for their end.
    pub fn stop(self) {
        if let Some(job) = self.reconcile {
            job.stop();
        }
        self.sinks.iter().for_each(|sink| sink.stop(STOP_WAIT));
        for sink in self.sinks {
            if !sink.join() {
                log::error("a sink panicked; the message is above", &[]);
            }
        }
    }
}

fn not_reconciled(failure: &Failure) {
    log::warn("minutes could not be reconciled; trying again", &[("error", &failure.text)]);
}

fn notices() -> OnSinkNotice {
    Box::new(|sink: &'static str, notice: SinkNotice| {
        let text = notice.to_string();
        match notice {
            SinkNotice::Stuck { .. } => log::error(&text, &[("sink", &sink)]),
            _ if notice.is_good() => log::info(&text, &[("sink", &sink)]),
            _ => log::warn(&text, &[("sink", &sink)]),
        }
    })
}
