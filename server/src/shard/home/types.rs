//! What goes into and comes out of the home shard.

use super::directory::ChannelIndex;
use crate::config::limits::Limits;
use proto::channel::ChannelNameError;
pub use proto::envelope::GapReason;
use proto::event::Event;
use proto::position::Position;

/// How a [`super::Home`] is set up. Budgets are this shard's part of the server's limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HomeConfig {
    /// The data directory's run lineage: new after every unclean stop, kept after a clean one.
    pub lineage: u32,
    /// The lineages before it, in order of time.
    pub lineages_old: Vec<u32>,
    /// The first incarnation this home gives. Within one lineage no incarnation may be given
    /// twice, by any shard: after a clean stop start above what all shards had reached
    /// ([`super::Home::incarnation_next`]), plus this shard's number.
    pub incarnation_first: u32,
    /// The distance to the next one: the number of shards, or more.
    pub incarnation_stride: u32,
    /// Channels remembered at once.
    pub channels_max: u32,
    /// Bytes of history: images, their overhead and the queues.
    pub history_bytes_max: u64,
    /// Bytes of remembered ids. Below about 5 KiB nothing is remembered.
    pub dedupe_bytes_max: u64,
    /// Ids remembered per channel.
    pub dedupe_ids_max: u32,
    /// How long an id is remembered.
    pub dedupe_age_ms: u64,
    /// How long an empty channel without subscribers is remembered.
    pub idle_forget_ms: u64,
    /// Secret: keys the hashes of names and ids.
    pub seed: u64,
}

/// How long an empty channel without subscribers is remembered.
const IDLE_FORGET_MS: u64 = 60_000;

impl HomeConfig {
    /// For the only shard of a server that has never run before, with a small server's part of the
    /// memory.
    pub fn fresh(limits: &Limits, seed: u64) -> Self {
        Self {
            lineage: 1,
            lineages_old: Vec::new(),
            incarnation_first: 1,
            incarnation_stride: 1,
            channels_max: 10_000,
            history_bytes_max: 64 << 20,
            dedupe_bytes_max: 64 << 20,
            dedupe_ids_max: limits.dedupe_ids_max,
            dedupe_age_ms: u64::from(limits.dedupe_age_s) * 1_000,
            idle_forget_ms: IDLE_FORGET_MS,
            seed,
        }
    }
}

/// A moment on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Monotonic milliseconds: all ages are differences of these.
    pub now_ms: u64,
    /// Microseconds since the Unix epoch: only written into events, and compared at restore.
    pub wall_us: i64,
}

/// What became of a publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// It has a position.
    Placed(Placed),
    /// Its id was seen before.
    Duplicate(Duplicate),
}

/// An ordered event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The event, ready for frames and the spool.
    pub event: Event,
    /// Its channel.
    pub channel: ChannelIndex,
    /// Shards with subscribers, as bits.
    pub interest: u64,
}

/// The original of a repeated event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Duplicate {
    /// Its channel.
    pub channel: ChannelIndex,
    /// The original's position.
    pub position: Position,
    /// The original's number on its way to the spool, for `ack=durable` to wait for; 0 if it was
    /// read back from the spool, so is synced.
    pub store_seq: u64,
}

/// Why a channel was not created. Everything but `Name` is the server's limit, not the caller's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The shard remembers as many channels as it may.
    #[error("this shard already holds {0} channels; raise `limits.channels_max` or use fewer")]
    ChannelsFull(u32),
    /// 2^32 channels were created in this lineage; reusing a number could name two events.
    #[error("this data directory's run has created 2^32 channels; restart the server")]
    IncarnationsExhausted,
    /// The name is not legal.
    #[error(transparent)]
    Name(#[from] ChannelNameError),
}

/// Where a subscriber wants to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// With what comes next.
    Now,
    /// With everything retained, without a claim that it is everything.
    Beginning,
    /// After this position.
    After(Position),
}

/// What a subscriber is told about continuity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// No continuity was asked for.
    Live,
    /// Nothing between the position and the top is missing.
    Recovered,
    /// Something may be missing; everything retained follows.
    Gap(GapReason),
}

/// The answer to a resume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resumed {
    /// Where the subscriber stands after `events` and all further pages: live delivery goes on
    /// with the next offset.
    pub top: Position,
    /// See [`Outcome`].
    pub outcome: Outcome,
    /// The first page of events, in order.
    pub events: Vec<Event>,
    /// More pages: [`super::Orderer::history_after`] this offset.
    pub next: Option<u64>,
}

/// Events after an offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// In order.
    pub events: Vec<Event>,
    /// More pages: ask again after this offset.
    pub next: Option<u64>,
    /// No visible event between the asked offset and the first one here is missing. False once
    /// events were dropped between two pages: a gap to be told.
    pub contiguous: bool,
}

/// Bounds one answer. At least one event is given whatever its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageLimit {
    /// Events in one page.
    pub events_max: usize,
    /// Bytes of event images in one page.
    pub bytes_max: usize,
}

/// What one call of [`super::Orderer::expire`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Expiry {
    /// Events dropped by age.
    pub events: u32,
    /// Ids dropped by age.
    pub ids: u32,
    /// Channels forgotten.
    pub channels: u32,
    /// Every channel was looked at in this call.
    pub complete: bool,
}

/// Bytes a home holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HomeMemory {
    /// Histories: images, their overhead and the queues.
    pub history_bytes: u64,
    /// Remembered ids, at their high-water mark.
    pub dedupe_bytes: u64,
    /// Channel state, names, tables.
    pub channels_bytes: u64,
    /// Channels remembered.
    pub channels: usize,
}

/// What a home did, by reason. Drops from history and windows are final here; stored events are
/// still in the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HomeCounters {
    /// Events that got a position.
    pub placed: u64,
    /// Publishes recognised as repeats.
    pub duplicates: u64,
    /// Channels created, restored ones not counted.
    pub channels_created: u64,
    /// Channels read back at start.
    pub channels_restored: u64,
    /// Channels forgotten after idling.
    pub channels_forgotten: u64,
    /// Channels that began anew because their namespace is no longer stored.
    pub channels_renewed: u64,
    /// New channels refused: too many.
    pub refused_channels_full: u64,
    /// New channels refused: no incarnation left.
    pub refused_incarnations: u64,
    /// Events that left a history because it holds as many as its namespace allows.
    pub history_dropped_size: u64,
    /// ... because of their age.
    pub history_dropped_age: u64,
    /// ... because the shard's bytes were used up.
    pub history_dropped_budget: u64,
    /// Ids forgotten because the window is full.
    pub ids_dropped_size: u64,
    /// ... because of their age.
    pub ids_dropped_age: u64,
    /// ... because the shard's bytes were used up.
    pub ids_dropped_budget: u64,
    /// Events at restore that belonged to a forgotten incarnation or were read twice.
    pub restored_stale: u64,
    /// Events at restore whose channel did not fit or is no longer stored.
    pub restored_refused: u64,
}
