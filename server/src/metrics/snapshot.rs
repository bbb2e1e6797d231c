//! What a shard counts, and the slot through which the control thread sees it.
//!
//! A shard owns its [`ShardSnapshot`] and increments fields; it never reads them back. Adding a
//! measurement is one line below and one row in the catalogue.

use super::catalogue::{CONNECTION_SECONDS, DELIVERY_MS, DELIVERY_SECONDS, FANOUT, Scale};
use super::drops::{DROP_REASONS, DropReason};
use crate::config::ledger::Ledger;
use crate::driver::DriverCounters;
use proto::reason::{CloseReason, REASONS};
use std::sync::{Mutex, PoisonError, TryLockError};
#[cfg(feature = "program")]
use storage::clickhouse::corrections::JobStats;
use storage::sink::SinkStats;

/// Where one field shows up: its family and the labels that tell it from its siblings.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The family's name in the catalogue.
    pub family: &'static str,
    /// Label names and values.
    pub labels: &'static [(&'static str, &'static str)],
}

/// Declares a struct of `u64` fields together with where each of them is exported.
macro_rules! measured {
    ($(#[$meta:meta])* $name:ident {
        $($field:ident = $family:literal [$($label:literal = $value:literal),*];)*
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct $name { $(#[allow(missing_docs)] pub $field: u64,)* }

        impl $name {
            /// Where each field is exported, in order.
            pub const ROWS: &'static [Row] =
                &[$(Row { family: $family, labels: &[$(($label, $value)),*] }),*];

            /// The fields in the order of `ROWS`.
            pub fn values(&self) -> Vec<u64> {
                vec![$(self.$field),*]
            }

            /// Adds another's fields to this one's.
            pub fn add(&mut self, other: &Self) {
                $(self.$field += other.$field;)*
            }
        }
    };
}

measured! {
    /// What only grows.
    Counters {
        connections_established = "realtime_connections_total" ["status" = "established"];
        connections_closed = "realtime_connections_total" ["status" = "closed"];
        connections_rejected = "realtime_connections_total" ["status" = "rejected"];
        connections_failed = "realtime_connections_total" ["status" = "error"];
        messages_received = "realtime_messages_received_total" [];
        messages_sent = "realtime_messages_sent_total" [];
        delivery_errors_slow = "realtime_delivery_errors_total" ["error_type" = "slow"];
        delivery_errors_lost = "realtime_delivery_errors_total" ["error_type" = "connection_lost"];
        delivery_errors_dropped = "realtime_delivery_errors_total" ["error_type" = "dropped"];
        bytes_received = "shardcast_bytes_total" ["direction" = "received"];
        bytes_sent = "shardcast_bytes_total" ["direction" = "sent"];
        requests_http1 = "shardcast_requests_total" ["protocol" = "http1"];
        requests_http2 = "shardcast_requests_total" ["protocol" = "http2"];
        answers_2xx = "shardcast_answers_total" ["class" = "2xx"];
        answers_3xx = "shardcast_answers_total" ["class" = "3xx"];
        answers_4xx = "shardcast_answers_total" ["class" = "4xx"];
        answers_5xx = "shardcast_answers_total" ["class" = "5xx"];
        publishes_accepted = "shardcast_publishes_total" ["outcome" = "accepted"];
        publishes_duplicate = "shardcast_publishes_total" ["outcome" = "duplicate"];
        publishes_rejected = "shardcast_publishes_total" ["outcome" = "rejected"];
        publishes_overloaded = "shardcast_publishes_total" ["outcome" = "overloaded"];
        publishes_parked = "shardcast_publishes_parked_total" [];
        publish_lane_full = "shardcast_lane_full_total" ["lane" = "publish"];
        deliver_lane_full = "shardcast_lane_full_total" ["lane" = "deliver"];
        storage_ring_full = "shardcast_lane_full_total" ["lane" = "storage"];
        resumes_recovered = "shardcast_resumes_total" ["outcome" = "recovered"];
        gaps_rolled_back = "shardcast_resumes_total" ["outcome" = "rolled_back"];
        gaps_unknown = "shardcast_resumes_total" ["outcome" = "unknown"];
        gaps_expired = "shardcast_resumes_total" ["outcome" = "expired"];
        recoveries_found = "shardcast_recoveries_total" ["outcome" = "recovered"];
        recoveries_lost = "shardcast_recoveries_total" ["outcome" = "lost"];
        recoveries_refused = "shardcast_recoveries_total" ["outcome" = "refused"];
        resumed_events = "shardcast_resumed_events_total" [];
        tls_errors = "shardcast_tls_errors_total" [];
        frames_encoded = "shardcast_frames_encoded_total" [];
        flat_runs = "shardcast_flat_runs_total" [];
        deflate_in = "shardcast_compression_bytes_total" ["method" = "deflate", "side" = "in"];
        deflate_out = "shardcast_compression_bytes_total" ["method" = "deflate", "side" = "out"];
        delta_in = "shardcast_compression_bytes_total" ["method" = "delta", "side" = "in"];
        delta_out = "shardcast_compression_bytes_total" ["method" = "delta", "side" = "out"];
        sends = "shardcast_sends_total" [];
        sends_blocked = "shardcast_sends_blocked_total" [];
        turns = "shardcast_turns_total" [];
        connections_handed_on = "shardcast_connections_handed_on_total" [];
        floods_commands = "shardcast_floods_total" ["reason" = "commands"];
        floods_ended = "shardcast_floods_total" ["reason" = "commands_ended"];
        floods_address = "shardcast_floods_total" ["reason" = "address_commands"];
        floods_connects = "shardcast_floods_total" ["reason" = "address_connects"];
        floods_control = "shardcast_floods_total" ["reason" = "control_frames"];
        auth_missing = "shardcast_auth_refusals_total" ["reason" = "missing"];
        auth_invalid = "shardcast_auth_refusals_total" ["reason" = "invalid"];
        auth_expired = "shardcast_auth_refusals_total" ["reason" = "expired"];
        auth_pending = "shardcast_auth_refusals_total" ["reason" = "keys_pending"];
        auth_forbidden = "shardcast_auth_refusals_total" ["reason" = "forbidden"];
        auth_rate = "shardcast_auth_refusals_total" ["reason" = "rate"];
        emulations_taken = "shardcast_emulation_requests_total" ["outcome" = "taken"];
        emulations_gone = "shardcast_emulation_requests_total" ["outcome" = "gone"];
        emulations_elsewhere = "shardcast_emulation_requests_total" ["outcome" = "unknown_node"];
        emulations_full = "shardcast_emulation_requests_total" ["outcome" = "full"];
        emulations_invalid = "shardcast_emulation_requests_total" ["outcome" = "invalid"];
    }
}

measured! {
    /// What is so at the moment.
    Gauges {
        connections = "realtime_active_connections" [];
        queue_depth = "realtime_message_queue_depth" [];
        connections_http1 = "shardcast_connections" ["protocol" = "http1"];
        connections_http2 = "shardcast_connections" ["protocol" = "http2"];
        connections_websocket = "shardcast_connections" ["protocol" = "websocket"];
        connections_client = "shardcast_connections" ["protocol" = "client"];
        connections_sse = "shardcast_connections" ["protocol" = "sse"];
        connections_blocked = "shardcast_connections_blocked" [];
        subscriptions = "shardcast_subscriptions" [];
        channels = "shardcast_channels" [];
        publishes_parked = "shardcast_publishes_waiting" [];
        outbox_bytes = "shardcast_outbox_bytes" [];
    }
}

measured! {
    /// What the storage thread counts.
    StorageCounters {
        events_appended = "shardcast_spool_events_total" [];
        bytes_appended = "shardcast_spool_written_bytes_total" [];
        syncs = "shardcast_spool_syncs_total" ["result" = "ok"];
        syncs_failed = "shardcast_spool_syncs_total" ["result" = "error"];
        segments_deleted = "shardcast_spool_segments_deleted_total" [];
    }
}

measured! {
    /// What is so at the moment in the storage thread.
    StorageGauges {
        lag_bytes = "shardcast_spool_lag_bytes" [];
        memory_bytes = "shardcast_spool_memory_bytes" [];
        feed_bytes = "shardcast_sink_feed_bytes" [];
        bytes = "shardcast_spool_bytes" [];
        segments = "shardcast_spool_segments" [];
        refusing = "shardcast_spool_refusing" [];
    }
}

/// Counts by bucket. Values are whole ticks, so that a shard adds integers only; the scale says
/// how many ticks make the unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Histogram {
    scale: &'static Scale,
    counts: [u64; BUCKETS_MAX],
    sum: u64,
}

impl Histogram {
    /// An empty one.
    pub const fn new(scale: &'static Scale) -> Self {
        assert!(
            scale.bounds.len() < BUCKETS_MAX,
            "the last bucket is for what is above all bounds"
        );
        Self { scale, counts: [0; BUCKETS_MAX], sum: 0 }
    }

    /// Counts one value.
    pub fn observe(&mut self, ticks: u64) {
        self.observe_many(ticks, 1);
    }

    /// Counts the same value several times.
    pub fn observe_many(&mut self, ticks: u64, times: u64) {
        // `le` is inclusive: a value equal to a bound belongs to that bound's bucket.
        let above = |bound: &&u64| ticks > **bound;
        let bucket = self.scale.bounds.iter().take_while(above).count();
        self.counts[bucket] += times;
        self.sum = self.sum.saturating_add(ticks.saturating_mul(times));
    }

    /// Adds another's counts.
    pub fn add(&mut self, other: &Self) {
        debug_assert!(std::ptr::eq(self.scale, other.scale), "only like can be added to like");
        for (own, other) in self.counts.iter_mut().zip(other.counts) {
            *own += other;
        }
        self.sum = self.sum.saturating_add(other.sum);
    }

    /// The scale.
    pub fn scale(&self) -> &'static Scale {
        self.scale
    }

    /// How many values were at most each bound, and last how many there were.
    pub fn cumulative(&self) -> Vec<u64> {
        let buckets = &self.counts[..=self.scale.bounds.len()];
        buckets
            .iter()
            .scan(0, |total, count| {
                *total += count;
                Some(*total)
            })
            .collect()
    }

    /// The sum of all values, in the unit.
    pub fn sum(&self) -> f64 {
        self.sum as f64 / self.scale.ticks_per_unit as f64
    }
}

/// Room for the longest list of bounds and the bucket above it.
const BUCKETS_MAX: usize = 20;

/// Everything one shard tells about itself.
#[derive(Debug, Clone, Copy)]
pub struct ShardSnapshot {
    /// `uring` or `epoll`; empty until the shard runs.
    pub engine: &'static str,
    /// What only grows.
    pub counters: Counters,
    /// What is so at the moment.
    pub gauges: Gauges,
    /// How long connections lived, in milliseconds.
    pub connection_duration: Histogram,
    /// From receipt to the send to the last recipient on this shard, in microseconds.
    pub delivery_latency_ms: Histogram,
    /// The same values in finer buckets and in the unit Prometheus prefers.
    pub delivery_latency_s: Histogram,
    /// Recipients of one event on this shard.
    pub fanout: Histogram,
    /// Drops by reason.
    drops: [u64; DROP_REASONS.len()],
    /// Closed connections by reason, in the order of `proto::reason::REASONS`.
    closes: [u64; REASONS.len()],
    /// What the driver counts.
    pub driver: DriverCounters,
    /// Bytes by holder.
    pub ledger: Ledger,
}

impl Default for ShardSnapshot {
    fn default() -> Self {
        Self {
            engine: "",
            counters: Counters::default(),
            gauges: Gauges::default(),
            connection_duration: Histogram::new(&CONNECTION_SECONDS),
            delivery_latency_ms: Histogram::new(&DELIVERY_MS),
            delivery_latency_s: Histogram::new(&DELIVERY_SECONDS),
            fanout: Histogram::new(&FANOUT),
            drops: [0; DROP_REASONS.len()],
            closes: [0; REASONS.len()],
            driver: DriverCounters::default(),
            ledger: Ledger::default(),
        }
    }
}

impl ShardSnapshot {
    /// Counts a delivery to all of this shard's recipients, with its latency.
    pub fn delivered(&mut self, latency_us: u64, recipients: u64) {
        self.delivery_latency_ms.observe(latency_us);
        self.delivery_latency_s.observe(latency_us);
        self.fanout.observe(recipients);
    }

    /// Counts drops.
    pub fn dropped(&mut self, reason: DropReason, count: u64) {
        self.drops[reason as usize] += count;
        let counters = &mut self.counters;
        match reason {
            DropReason::Slow => counters.delivery_errors_slow += count,
            DropReason::PeerGone => counters.delivery_errors_lost += count,
            DropReason::DropOldest => counters.delivery_errors_dropped += count,
            _ => {}
        }
    }

    /// Counts an answer over HTTP.
    pub fn answered(&mut self, status: u16) {
        let counters = &mut self.counters;
        match status / 100 {
            2 => counters.answers_2xx += 1,
            3 => counters.answers_3xx += 1,
            4 => counters.answers_4xx += 1,
            5 => counters.answers_5xx += 1,
            // 101 is no answer: what follows is.
            _ => {}
        }
    }

    /// Drops for one reason.
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize]
    }

    /// Counts a connection that the server closed.
    pub fn closed(&mut self, reason: CloseReason) {
        if let Some(index) = REASONS.iter().position(|row| row.reason == reason) {
            self.closes[index] += 1;
        }
    }

    /// Closes for one reason.
    pub fn closes(&self, reason: CloseReason) -> u64 {
        let index = REASONS.iter().position(|row| row.reason == reason);
        index.map_or(0, |index| self.closes[index])
    }
}

/// How a store beside the spool fares.
#[derive(Debug, Clone)]
pub struct SinkSnapshot {
    /// Its name.
    pub sink: &'static str,
    /// Events it has not confirmed.
    pub behind: u64,
    /// Age of the oldest of them, milliseconds.
    pub lag_ms: u64,
    /// Everything before this sequence number is confirmed.
    pub confirmed: u64,
    /// The same, as its cursor file says.
    pub durable: u64,
    /// How long an event waits for it although nothing is wrong, seconds.
    pub patience_s: u64,
    /// What it counts.
    pub stats: SinkStats,
}

/// What the storage thread tells about itself.
#[derive(Debug, Clone, Default)]
pub struct StorageSnapshot {
    /// What only grows.
    pub counters: StorageCounters,
    /// What is so at the moment.
    pub gauges: StorageGauges,
    /// The stores beside the spool.
    pub sinks: Vec<SinkSnapshot>,
    /// Corrections of minutes, where they are made.
    #[cfg(feature = "program")]
    pub reconcile: Option<JobStats>,
    /// Why the spool takes no events, if it does not.
    pub refusal: Option<&'static str>,
}

/// A shared place for the latest snapshot. The writer never waits: if a reader is copying just
/// now, this second's snapshot is skipped and the next one says everything (counters only grow).
#[derive(Debug, Default)]
pub struct SnapshotSlot<T>(Mutex<T>);

impl<T: Copy> SnapshotSlot<T> {
    /// Stores a snapshot; false if a reader was in the way.
    pub fn publish(&self, snapshot: &T) -> bool {
        match self.0.try_lock() {
            Ok(mut slot) => *slot = *snapshot,
            Err(TryLockError::Poisoned(slot)) => *slot.into_inner() = *snapshot,
            Err(TryLockError::WouldBlock) => return false,
        }
        true
    }

    /// The latest snapshot.
    pub fn read(&self) -> T {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_a_bound_belongs_to_that_bound() {
        let mut histogram = Histogram::new(&FANOUT);
        for value in [0, 1, 2, 5, 6, 5_000, 5_001] {
            histogram.observe(value);
        }
        histogram.observe_many(7, 3);
        // Bounds 1 5 10 25 50 100 500 1000 5000, then everything.
        assert_eq!(histogram.cumulative(), [2, 4, 8, 8, 8, 8, 8, 8, 9, 10]);
        assert_eq!(histogram.sum(), f64::from(1 + 2 + 5 + 6 + 5_000 + 5_001 + 21));
    }

    #[test]
    fn a_scale_turns_ticks_into_its_unit() {
        let mut histogram = Histogram::new(&DELIVERY_MS);
        histogram.observe(1_500);
        assert_eq!(histogram.sum(), 1.5);
        assert_eq!(histogram.cumulative()[..2], [0, 1]);
    }

    #[test]
    fn a_writer_never_waits_for_a_reader() {
        let slot = SnapshotSlot::<ShardSnapshot>::default();
        let mut snapshot = ShardSnapshot::default();
        snapshot.counters.turns = 7;
        let reader = slot.0.lock().unwrap();
        assert!(!slot.publish(&snapshot));
        drop(reader);
        assert!(slot.publish(&snapshot));
        assert_eq!(slot.read().counters.turns, 7);
    }

    #[test]
    fn drops_and_closes_are_told_apart() {
        let mut snapshot = ShardSnapshot::default();
        snapshot.dropped(DropReason::DropOldest, 3);
        snapshot.closed(CloseReason::Slow);
        for row in DROP_REASONS {
            let expected = if row.reason == DropReason::DropOldest { 3 } else { 0 };
            assert_eq!(snapshot.drops(row.reason), expected);
        }
        for row in REASONS {
            let expected = u64::from(row.reason == CloseReason::Slow);
            assert_eq!(snapshot.closes(row.reason), expected);
        }
    }
}
