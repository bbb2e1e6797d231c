//! Looks at the server every ten seconds for [`CostWatch`], and says what it finds. On the control
//! thread; reads the shards' snapshots, never asks a shard.

use super::ShardHandle;
use crate::config::ledger::Holder;
use crate::log;
use crate::metrics::cost::{CostWatch, LiveCost, Sample};
use crate::metrics::process::ProcessStats;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// The watch, shared by who looks and who shows.
#[derive(Clone)]
pub struct SharedWatch(Arc<Mutex<CostWatch>>);

impl SharedWatch {
    /// Shares it.
    pub fn new(watch: CostWatch) -> Self {
        Self(Arc::new(Mutex::new(watch)))
    }

    /// The latest figures.
    pub fn live(&self) -> LiveCost {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).live()
    }

    fn observe(&self, sample: Sample) {
        let warnings = self.0.lock().unwrap_or_else(PoisonError::into_inner).observe(sample);
        for it in warnings {
            let percent = (it.drift * 100.0).round();
            log::warn(
                "the calibrated model does not fit this server any more; calibrate again with its \
                 version and machine, or look for what changed",
                &[
                    ("figure", &it.figure),
                    ("drift_percent", &percent),
                    ("measured", &it.measured),
                    ("model", &it.predicted),
                ],
            );
        }
    }
}

/// Looks until the runtime ends.
pub(super) async fn look(watch: SharedWatch, shards: Vec<ShardHandle>) {
    let start = Instant::now();
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        watch.observe(sample(start.elapsed().as_secs_f64(), &shards));
    }
}

fn sample(at_s: f64, shards: &[ShardHandle]) -> Sample {
    let mut sample = Sample { at_s, cpu_s: ProcessStats::read().cpu_seconds, ..Sample::default() };
    for shard in shards {
        let it = shard.snapshot.read();
        sample.connections += it.gauges.connections;
        sample.connection_bytes +=
            it.ledger.get(Holder::Connections) + it.ledger.get(Holder::TlsSessions);
        sample.messages += it.counters.messages_sent;
        sample.sends += it.counters.sends;
        sample.ingested += it.counters.messages_received;
        sample.accepted += it.counters.connections_established;
        sample.bytes_sent += it.counters.bytes_sent;
    }
    sample
}

/// Six in the watch's window.
const PERIOD: Duration = Duration::from_secs(10);
