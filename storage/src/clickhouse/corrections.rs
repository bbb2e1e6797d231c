//! Reconciliation: what arrived too late for the view that counts minutes on the way.
//!
//! The view leaves late events out. A run looks at the minutes that late events belong to, counts
//! them from `events`, and writes per minute, channel and type what is true (`events`, `bytes`) and
//! what the view had counted when it looked (`seen_*`). `events_by_minute` shows the view's count
//! plus the newest correction's difference: so events that arrive after the look are counted too, a
//! newer correction replaces an older one, and a run that finds nothing writes nothing. Running it
//! twice, or on every node, changes nothing.
//!
//! Threads: one of its own, which sleeps for an hour at a time; the command runs it on the
//! caller's. Deliberately absent: a memory of earlier runs. Each looks at everything that came late
//! within [`LOOK_BACK`], so a run that was missed costs nothing.

use super::client::{Class, Failure, Store};
use super::config::ClickHouseConfig;
use super::schema::{CORRECTIONS, EVENTS, EVENTS_PER_MINUTE, MINUTE, quoted};
use crate::sink::Stop;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How far back a run of the job looks for late events, by when they were received.
pub const LOOK_BACK: Duration = Duration::from_secs(25 * 3600);
/// Between a failed run and the next.
const RETRY: Duration = Duration::from_secs(60);

/// What a run found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clickhouse::Row, serde::Deserialize)]
pub struct Found {
    /// Minutes of a channel and type that late events belong to.
    pub minutes: u64,
    /// Events in them.
    pub events: u64,
    /// Those of them whose count was wrong, and is right now.
    pub corrected: u64,
    /// By how many events, in all.
    pub difference: u64,
}

/// Figures of the job.
#[derive(Debug, Clone, Default)]
pub struct JobStats {
    /// Runs that ended well.
    pub runs: u64,
    /// Runs that did not.
    pub failures: u64,
    /// Minutes corrected in all runs.
    pub corrected: u64,
    /// Events by which they were wrong, in all runs.
    pub difference: u64,
    /// What the last run found.
    pub last: Found,
    /// Why the last run failed.
    pub error: Option<String>,
}

/// Which minutes are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Those that late events belong to: what the view cannot know. The job's.
    Late,
    /// All of them: also what was deleted, or sent again after it had been counted.
    All,
}

/// Corrects every minute in scope that has events received in `[from_us, to_us)`, microseconds
/// since the Unix epoch. The version is the time of the run.
pub async fn reconcile(
    store: &Store,
    config: &ClickHouseConfig,
    scope: Scope,
    (from_us, to_us): (i64, i64),
    version: u64,
) -> Result<Found, Failure> {
    let compared = compared(config, scope);
    let look = format!(
        "SELECT count() AS minutes, sum(is_events) AS events, countIf(is_events != shown) AS corrected, \
         toUInt64(sum(abs(toInt64(is_events) - toInt64(shown)))) AS difference FROM ({compared})"
    );
    let bound = |sql: &str| store.query(sql).param("from", from_us).param("to", to_us);
    let found = store.rows::<Found>(bound(&look)).await?.into_iter().next().unwrap_or_default();
    if found.corrected > 0 {
        let correct = format!(
            "INSERT INTO {} (minute, channel, type, events, bytes, seen_events, seen_bytes, \
             version) SELECT minute, channel, type, is_events, is_bytes, seen_events, seen_bytes, \
             {{version:UInt64}} FROM ({compared}) WHERE is_events != shown",
            CORRECTIONS.path(config)
        );
        store.run(bound(&correct).param("version", version)).await?;
    }
    Ok(found)
}

/// Per minute in scope: what is true, what the view counted, what is shown.
fn compared(config: &ClickHouseConfig, scope: Scope) -> String {
    let (events, minutes) = (EVENTS.path(config), EVENTS_PER_MINUTE.path(config));
    let shown = format!("{}.`events_by_minute`", quoted(&config.database));
    let late = if scope == Scope::Late { "late AND " } else { "" };
    let mut keys = format!(
        "SELECT {MINUTE} AS minute, channel, type FROM {events} WHERE {late}received >= \
         fromUnixTimestamp64Micro({{from:Int64}}, 'UTC') AND received < \
         fromUnixTimestamp64Micro({{to:Int64}}, 'UTC')"
    );
    if scope == Scope::All {
        // What was counted and is there no more has no event to find it by.
        keys += &format!(
            " UNION ALL SELECT minute, channel, type FROM {minutes} WHERE \
             minute >= toDateTime(fromUnixTimestamp64Micro({{from:Int64}}, 'UTC'), 'UTC') AND \
             minute < toDateTime(fromUnixTimestamp64Micro({{to:Int64}}, 'UTC'), 'UTC')"
        );
    }
    // The channels alone, too: they are what the primary key can use.
    let of_scope = format!(
        "channel IN (SELECT channel FROM ({keys})) AND \
         (minute, channel, type) IN (SELECT minute, channel, type FROM ({keys}))"
    );
    format!(
        "SELECT minute, channel, type, sum(e) AS is_events, sum(b) AS is_bytes, sum(se) AS seen_events, \
         sum(sb) AS seen_bytes, sum(w) AS shown FROM (\
         SELECT {MINUTE} AS minute, channel, type, 1 AS e, length(payload) AS b, 0 AS se, 0 AS sb, \
         0 AS w FROM {events} WHERE {of_scope} \
         UNION ALL SELECT minute, channel, type, 0, 0, n, y, 0 FROM (\
         SELECT minute, channel, type, events AS n, bytes AS y FROM {minutes}) WHERE {of_scope} \
         UNION ALL SELECT minute, channel, type, 0, 0, 0, 0, toUInt64(n) FROM (\
         SELECT minute, channel, type, events AS n FROM {shown}) WHERE {of_scope}) \
         GROUP BY minute, channel, type"
    )
}

/// The job that runs it from time to time.
#[derive(Debug)]
pub struct Job {
    stop: Arc<Stop>,
    stats: Arc<Mutex<JobStats>>,
    thread: JoinHandle<()>,
}

/// Reads a job's figures.
#[derive(Debug, Clone, Default)]
pub struct JobView(Arc<Mutex<JobStats>>);

impl JobView {
    /// As of the last run.
    pub fn read(&self) -> JobStats {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Job {
    /// Starts the job; its first run is after `every`. A failure is tried again and told.
    pub fn start(
        config: ClickHouseConfig,
        every: Duration,
        on_failure: impl Fn(&Failure) + Send + 'static,
    ) -> std::io::Result<Self> {
        let store = Store::new(&config).map_err(std::io::Error::other)?;
        let (stop, stats) = (Arc::<Stop>::default(), Arc::<Mutex<JobStats>>::default());
        let (asked, kept) = (Arc::clone(&stop), Arc::clone(&stats));
        let runtime = super::service::runtime()?;
        let run = move || {
            let mut wait = every;
            loop {
                asked.sleep(wait);
                if asked.is_asked() {
                    return;
                }
                let done = runtime.block_on(async {
                    tokio::select! {
                        done = reconcile_lately(&store, &config) => done,
                        () = asked.until_due() => Err(Failure::new(Class::Busy, "stopped")),
                    }
                });
                wait = every;
                if let Err(failure) = &done {
                    wait = RETRY.min(every);
                    on_failure(failure);
                }
                note(&kept, done);
            }
        };
        let thread = std::thread::Builder::new().name("reconcile".into()).spawn(run)?;
        Ok(Self { stop, stats, thread })
    }

    /// Its figures.
    pub fn view(&self) -> JobView {
        JobView(Arc::clone(&self.stats))
    }

    /// Stops it, in the middle of a run if need be: nothing is half done.
    pub fn stop(self) {
        self.stop.ask(Duration::ZERO);
        let _ = self.thread.join(); // a panic was reported by the panic hook
    }
}

/// What the job and, without a range, the command look at.
pub async fn reconcile_lately(store: &Store, config: &ClickHouseConfig) -> Result<Found, Failure> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let us = |time: Duration| time.as_micros() as i64;
    // Clocks differ: a minute ahead is still lately.
    let range = (us(now.saturating_sub(LOOK_BACK)), us(now + Duration::from_secs(60)));
    reconcile(store, config, Scope::Late, range, now.as_micros() as u64).await
}

fn note(stats: &Mutex<JobStats>, done: Result<Found, Failure>) {
    let mut stats = stats.lock().unwrap_or_else(PoisonError::into_inner);
    match done {
        Ok(found) => {
            stats.runs += 1;
            stats.corrected += found.corrected;
            stats.difference += found.difference;
            stats.last = found;
            stats.error = None;
        }
        Err(failure) => {
            stats.failures += 1;
            stats.error = Some(failure.text);
        }
    }
}
