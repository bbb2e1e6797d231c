//! The memory and descriptor budget: a pure function from limits and machine facts to sizes.
//!
//! Every holder of memory has a line, and the lines add up to at most the memory planned with;
//! that is asserted, so a new holder without room for it does not start. Pools (outboxes,
//! histories, ...) get a fixed share each, in 32nds, bounded by their own limit; what is left
//! after all pools is divided by what one connection costs, and that is how many there may be.
//! Descriptors are the other bound.
//!
//! Not planned: socket buffers that the kernel fills for slow readers (`net.ipv4.tcp_mem` bounds
//! them for the whole machine) and the page cache; the quarter of the machine that the default
//! leaves alone is for them.

use super::ledger::{self, HOLDERS, Holder};
use super::namespace::Namespace;
use super::{Config, Limits, ReadFrom, Storage};
use crate::mesh::SHARDS_MAX;
use serde::Serialize;
use std::fmt;
use storage::BLOCK_BYTES_MAX;
use tuning::Machine;

/// What the budget is derived from, besides the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Shards that will run.
    pub shards: u32,
    /// Descriptors the process may open (the soft limit, after it was raised).
    pub descriptors: u64,
    /// Memory of the machine, or of the cgroup if that is less.
    pub memory_bytes: u64,
}

impl Facts {
    /// The facts of this machine under this configuration. A machine that hides its memory is
    /// taken for a small one.
    pub fn new(config: &Config, machine: &Machine) -> Self {
        let shards = match config.shards {
            0 => machine.shards().min(SHARDS_MAX) as u32,
            shards => shards,
        };
        Self {
            shards,
            descriptors: machine.nofile.soft,
            memory_bytes: machine.memory_bytes().unwrap_or(MEMORY_UNKNOWN_BYTES),
        }
    }
}

/// One holder's part: `count` times `bytes_each`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Line {
    /// The holder, as in the ledger.
    pub name: &'static str,
    /// How many.
    pub count: u64,
    /// Bytes of one.
    pub bytes_each: u64,
}

impl Line {
    /// The product.
    pub fn bytes(&self) -> u64 {
        self.count * self.bytes_each
    }
}

/// What set the cap on connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CapReason {
    /// `limits.connections_max`.
    Configured,
    /// The descriptor limit.
    Descriptors,
    /// The memory budget.
    Memory,
}

/// The sizes one shard is built with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardBudget {
    /// Slots for connections; the first shard's, which may have one more than the last.
    pub connections_max: u32,
    /// Shared receive buffers, a power of two.
    pub receive_buffers: u16,
    /// Bytes in each receive buffer.
    pub receive_buffer_bytes: u32,
    /// Submission queue entries (uring), a power of two.
    pub sq_entries: u32,
    /// Completion queue entries (uring), a power of two.
    pub cq_entries: u32,
    /// Bytes of heads and frames that are not complete yet, over all connections.
    pub partial_input_bytes: u64,
    /// Bytes that all outboxes together may reference.
    pub outbox_bytes: u64,
    /// Bytes of shared frames and flat runs on their way out.
    pub frame_bytes: u64,
    /// Channels at home here or subscribed to from here.
    pub channels_max: u32,
    /// Bytes of histories.
    pub history_bytes: u64,
    /// Bytes of dedupe windows.
    pub dedupe_bytes: u64,
    /// Bytes of the members of channels; 0 where no namespace has any.
    pub presence_bytes: u64,
    /// Bytes of events in each lane to another shard (one for publishes, one for deliveries).
    pub lane_bytes: u64,
    /// Batches of publishes that may wait for their acknowledgement.
    pub ack_slots: u32,
    /// Bytes of events on their way to the spool.
    pub storage_ring_bytes: u64,
    /// HTTP/2 connections.
    pub h2_connections_max: u32,
    /// Bytes of one of them when every stream it may have has been open at once.
    pub h2_session_bytes: u64,
    /// Bytes of request bodies that are being received.
    pub body_bytes: u64,
    /// Counts and tops over stored events that may be under way at once.
    pub queries_max: u32,
    /// Bytes of one recovery from the spool.
    pub recovery_bytes: u64,
}

/// The whole plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// What it was derived from.
    pub facts: Facts,
    /// Memory planned with.
    pub memory_bytes: u64,
    /// Connections over all shards.
    pub connections_max: u32,
    /// What set that.
    pub cap_reason: CapReason,
    /// Descriptors kept back for everything that is not a client.
    pub descriptors_reserved: u64,
    /// Sizes of each shard.
    pub shard: ShardBudget,
    /// Memory of each shard, every holder named.
    pub shard_lines: Vec<Line>,
    /// Memory that the process has once.
    pub process_lines: Vec<Line>,
}

/// The limits do not fit into the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetError {
    /// What does not fit.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for BudgetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.message, self.remedy)
    }
}

impl std::error::Error for BudgetError {}

impl Budget {
    /// Derives the plan.
    pub fn derive(config: &Config, facts: Facts) -> Result<Self, BudgetError> {
        assert!(facts.shards > 0, "a server has at least one shard");
        let limits = &config.limits;
        let memory_bytes = match limits.memory_bytes_max {
            0 => facts.memory_bytes / 4 * 3,
            bytes => bytes,
        };
        let process_lines = process_lines(&config.storage);
        let process_bytes: u64 = process_lines.iter().map(Line::bytes).sum();
        let shard_memory = memory_bytes.saturating_sub(process_bytes) / u64::from(facts.shards);

        let mut shard = pools(limits, shard_memory, facts.shards);
        if !config.namespaces.values().any(Namespace::has_members) {
            shard.presence_bytes = 0;
        }
        let per_connection = connection_lines(config, 1).iter().map(Line::bytes).sum::<u64>();
        let pooled = pool_lines(&shard, facts.shards).iter().map(Line::bytes).sum::<u64>();
        let by_memory = shard_memory.saturating_sub(pooled) / per_connection;
        if by_memory < CONNECTIONS_MIN {
            return Err(too_small(memory_bytes, process_bytes, pooled, facts.shards));
        }
        let (descriptors_reserved, by_descriptors) = descriptors(config, facts)?;

        let memory_total = by_memory.saturating_mul(u64::from(facts.shards));
        let (mut cap, mut cap_reason) = (memory_total, CapReason::Memory);
        if by_descriptors < cap {
            (cap, cap_reason) = (by_descriptors, CapReason::Descriptors);
        }
        if limits.connections_max != 0 && u64::from(limits.connections_max) <= cap {
            (cap, cap_reason) = (u64::from(limits.connections_max), CapReason::Configured);
        }
        let cap = u32::try_from(cap.min(CONNECTIONS_MAX)).unwrap_or(u32::MAX);
        // Every shard takes as many.
        shard.connections_max = (cap / facts.shards).max(1);
        let connections_max = shard.connections_max * facts.shards;

        let mut shard_lines = connection_lines(config, u64::from(shard.connections_max));
        shard_lines.extend(pool_lines(&shard, facts.shards));
        let order = |line: &Line| HOLDERS.iter().position(|row| row.name == line.name);
        shard_lines.sort_by_key(order);
        let budget = Self {
            facts,
            memory_bytes,
            connections_max,
            cap_reason,
            descriptors_reserved,
            shard,
            shard_lines,
            process_lines,
        };
        assert!(budget.total_bytes() <= memory_bytes, "the lines exceed the memory: {budget:?}");
        Ok(budget)
    }

    /// Bytes of one shard.
    pub fn shard_bytes(&self) -> u64 {
        self.shard_lines.iter().map(Line::bytes).sum()
    }

    /// Bytes of everything.
    pub fn total_bytes(&self) -> u64 {
        let process: u64 = self.process_lines.iter().map(Line::bytes).sum();
        process + self.shard_bytes() * u64::from(self.facts.shards)
    }
}

/// Pool sizes: a share of the shard's memory each, bounded by the pool's own limit.
fn pools(limits: &Limits, memory: u64, shards: u32) -> ShardBudget {
    let share = |parts: u64| memory / 32 * parts;
    let split = |bytes: u64| bytes / u64::from(shards);
    let fits = |bytes: u64, each: u64| u32::try_from(bytes / each).unwrap_or(u32::MAX);
    let lanes = u64::from(shards) * 2;
    ShardBudget {
        connections_max: 0,
        receive_buffers: receive_buffers(share(1), limits.receive_buffers_max),
        receive_buffer_bytes: RECEIVE_BUFFER_BYTES,
        sq_entries: SQ_ENTRIES,
        cq_entries: CQ_ENTRIES,
        partial_input_bytes: share(1).min(64 << 20),
        outbox_bytes: share(6).max(u64::from(limits.outbox_bytes_max)),
        frame_bytes: share(1).min(256 << 20),
        channels_max: limits.channels_max.div_ceil(shards).min(fits(share(3), CHANNEL_BYTES)),
        history_bytes: split(limits.history_bytes_max).min(share(6)),
        dedupe_bytes: split(limits.dedupe_bytes_max).min(share(3)),
        presence_bytes: split(limits.presence_bytes_max).min(share(1)),
        lane_bytes: (share(1) / lanes).clamp(LANE_BYTES_MIN, LANE_BYTES_MAX),
        ack_slots: ACK_SLOTS,
        storage_ring_bytes: share(1).clamp(1 << 20, 64 << 20),
        h2_connections_max: limits
            .h2_connections_max
            .div_ceil(shards)
            .min(fits(share(2), h2_session_bytes(limits))),
        h2_session_bytes: h2_session_bytes(limits),
        // At least one body of the largest legal size, or such a request could never be served.
        body_bytes: share(1).clamp(u64::from(limits.body_bytes_max), 1 << 30),
        queries_max: (share(1) / QUERY_BYTES).clamp(1, QUERIES_MAX) as u32,
        // The block that goes beyond the bound is in memory before that is seen.
        recovery_bytes: u64::from(limits.recovery_bytes_max) + BLOCK_BYTES_MAX as u64,
    }
}

/// An HTTP/2 connection at its largest: its stream tables grow and never shrink.
fn h2_session_bytes(limits: &Limits) -> u64 {
    let streams = u64::from(limits.h2_streams_max) * proto::h2::STREAM_IN_H2_BYTES as u64;
    proto::h2::IDLE_BYTES as u64 + streams
}

/// A power of two that fits.
fn receive_buffers(bytes: u64, most: u16) -> u16 {
    let most = u64::from(most).max(RECEIVE_BUFFERS_MIN);
    let count = (bytes / u64::from(RECEIVE_BUFFER_BYTES)).clamp(RECEIVE_BUFFERS_MIN, most);
    1 << count.ilog2()
}

/// What is paid per connection.
fn connection_lines(config: &Config, connections: u64) -> Vec<Line> {
    let mut lines = vec![
        line(Holder::Connections, connections, CONNECTION_BYTES),
        line(Holder::KernelSockets, connections, KERNEL_SOCKET_BYTES),
    ];
    if config.tls.is_on() {
        lines.push(line(Holder::TlsSessions, connections, TLS_SESSION_BYTES));
    }
    lines
}

/// What is paid whether anybody connects or not, at most.
fn pool_lines(shard: &ShardBudget, shards: u32) -> Vec<Line> {
    let ring_bytes = u64::from(shard.sq_entries) * 64 + u64::from(shard.cq_entries) * 16;
    vec![
        line(Holder::Rings, 1, ring_bytes),
        line(
            Holder::ReceiveBuffers,
            u64::from(shard.receive_buffers),
            u64::from(shard.receive_buffer_bytes),
        ),
        line(Holder::PartialInput, 1, shard.partial_input_bytes),
        line(Holder::Outboxes, 1, shard.outbox_bytes),
        line(Holder::Frames, 1, shard.frame_bytes),
        line(Holder::Channels, u64::from(shard.channels_max), CHANNEL_BYTES),
        line(Holder::Histories, 1, shard.history_bytes),
        line(Holder::Dedupe, 1, shard.dedupe_bytes),
        line(Holder::Presence, 1, shard.presence_bytes),
        line(Holder::Lanes, u64::from(shards) * 2, shard.lane_bytes),
        line(Holder::Acks, u64::from(shard.ack_slots), ACK_SLOT_BYTES),
        line(Holder::StorageRing, 1, shard.storage_ring_bytes),
        line(Holder::H2Sessions, u64::from(shard.h2_connections_max), shard.h2_session_bytes),
        line(Holder::Bodies, 1, shard.body_bytes),
        line(Holder::Queries, u64::from(shard.queries_max), QUERY_BYTES),
        line(Holder::Recoveries, RECOVERIES_MAX, shard.recovery_bytes),
        line(Holder::Compression, 1, COMPRESSION_BYTES),
        line(Holder::Baseline, 1, BASELINE_BYTES),
    ]
}

fn process_lines(storage: &Storage) -> Vec<Line> {
    let once = |name, count, bytes_each| Line { name, count, bytes_each };
    let mut lines = vec![
        once(ledger::PROGRAM, 1, 16 << 20),
        once(ledger::SPOOL_WRITER, 2, 4 << 20),
        once(ledger::SPOOL_READERS, u64::from(SPOOL_READERS), 1 << 20),
        once(ledger::CONTROL, 1, 8 << 20),
    ];
    let click_house = &storage.clickhouse;
    if click_house.is_on() {
        // A batch being sent, and what is on its way to the socket.
        let batch = click_house.batch_bytes + (8 << 20);
        lines.push(once(ledger::SINKS, 1, storage.feed_bytes_max + batch));
    }
    let parquet = &storage.parquet;
    if parquet.is_on() {
        // The events of a file, each an allocation of its own; the file; columns being written.
        // Measured: 266 MB for 128 MiB of images of 270 bytes, which is 160 MiB as counted.
        lines.push(once(ledger::PARQUET, 1, parquet.file_bytes * 2 + (32 << 20)));
    }
    if storage.read == ReadFrom::ClickHouse {
        lines.push(once(ledger::STORE_QUERIES, u64::from(STORE_QUERIES), STORE_QUERY_BYTES));
    }
    lines
}

/// Descriptors that a server of so many shards keeps back for everything that is not a client.
pub fn descriptors_reserved(config: &Config, shards: u32) -> u64 {
    let listeners = config.listen.len() as u64;
    STANDARD_FDS
        + SPOOL_FDS
        + u64::from(SPOOL_READERS) * 2
        + u64::from(STORE_QUERIES)
        + ADMIN_FDS
        + u64::from(shards) * (SHARD_FDS + listeners)
}

/// Descriptors kept back, and how many are left for connections.
fn descriptors(config: &Config, facts: Facts) -> Result<(u64, u64), BudgetError> {
    let reserved = descriptors_reserved(config, facts.shards);
    let left = facts.descriptors.saturating_sub(reserved);
    if left < CONNECTIONS_MIN {
        return Err(BudgetError {
            message: format!(
                "the process may open {} descriptors and needs {reserved} for itself",
                facts.descriptors
            ),
            remedy: "raise the limit (`ulimit -n 65536`, LimitNOFILE= in systemd, --ulimit nofile \
                     in Docker), or run fewer shards"
                .to_owned(),
        });
    }
    Ok((reserved, left))
}

fn too_small(memory: u64, process: u64, pooled: u64, shards: u32) -> BudgetError {
    let needed = process + (pooled + CONNECTIONS_MIN * 8_192) * u64::from(shards);
    BudgetError {
        message: format!(
            "{memory} bytes of memory are too few for {shards} shards with these limits, which \
             need about {needed}"
        ),
        remedy: "run fewer shards (--shards), lower limits.body_bytes_max, \
                 limits.outbox_bytes_max or storage.parquet.file_bytes, or give more memory \
                 (limits.memory_bytes_max, or the cgroup's limit)"
            .to_owned(),
    }
}

fn line(holder: Holder, count: u64, bytes_each: u64) -> Line {
    Line { name: holder.row().name, count, bytes_each }
}

impl fmt::Display for Budget {
    /// What `shardcast config --limits` prints.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Facts { shards, descriptors, memory_bytes } = self.facts;
        let (total, most) = (self.total_bytes(), self.memory_bytes);
        writeln!(
            f,
            "Memory, in bytes: {shards} shards hold at most {total} of {most} planned with"
        )?;
        writeln!(f, "(the machine or its cgroup has {memory_bytes})\n")?;
        let row = |f: &mut fmt::Formatter<'_>, line: &Line| {
            let Line { name, count, bytes_each } = line;
            writeln!(f, "  {name:<18}{count:>10} x {bytes_each:>12} = {:>14}", line.bytes())
        };
        writeln!(f, "each shard:")?;
        for line in &self.shard_lines {
            row(f, line)?;
        }
        writeln!(f, "  {:<44}= {:>14}\n\nonce:", "sum", self.shard_bytes())?;
        for line in &self.process_lines {
            row(f, line)?;
        }
        writeln!(f, "\n{:<46}= {:>14}\n", "total", self.total_bytes())?;
        let reserved = self.descriptors_reserved;
        writeln!(f, "Connections: {} over all shards", self.connections_max)?;
        writeln!(f, "  descriptors: {descriptors}, of which {reserved} are kept back")?;
        let why = match self.cap_reason {
            CapReason::Configured => "limits.connections_max",
            CapReason::Descriptors => "the descriptor limit (raise it with `ulimit -n`)",
            CapReason::Memory => "the memory budget",
        };
        writeln!(f, "  the cap is set by {why}")
    }
}

/// User memory of one idle subscribed connection: the promise is at most 1 KiB.
pub const CONNECTION_BYTES: u64 = 1_024;
/// An idle TCP socket in the kernel: 3,752 B of slab measured on 6.18 with epoll (sock, inode,
/// dentry, file, epitem); a multishot poll adds 256 B.
const KERNEL_SOCKET_BYTES: u64 = 4_096;
/// `UnbufferedServerConnection` after the handshake: 3.2 KB measured.
const TLS_SESSION_BYTES: u64 = 4_096;
/// A channel's name, counters and interest, without history and ids.
pub const CHANNEL_BYTES: u64 = 256;
const RECEIVE_BUFFER_BYTES: u32 = 16_384;
/// Fewer, and a burst from a few connections would use them up.
const RECEIVE_BUFFERS_MIN: u64 = 64;
const SQ_ENTRIES: u32 = 4_096;
const CQ_ENTRIES: u32 = 32_768;
const LANE_BYTES_MIN: u64 = 128 << 10;
const LANE_BYTES_MAX: u64 = 8 << 20;
const ACK_SLOTS: u32 = 1_024;
const ACK_SLOT_BYTES: u64 = 1_024;
/// A thread's touched stack and mimalloc's thread-local pages.
const BASELINE_BYTES: u64 = 4 << 20;
/// A count or a top at its largest (what it gathers or its answer, 8 MiB), and its part of the
/// answers that are kept for a second (4 MiB in all).
const QUERY_BYTES: u64 = 12 << 20;
/// A compressor for each of the three windows, and the inflater, with what they keep of a message.
const COMPRESSION_BYTES: u64 = 3 << 19;
/// Recoveries from the spool that may be under way at once on one shard.
pub const RECOVERIES_MAX: u64 = 4;
/// There are two reader threads: more at once only wait for each other.
const QUERIES_MAX: u64 = 4;
const MEMORY_UNKNOWN_BYTES: u64 = 1 << 30;
/// Below this a server is not worth starting.
const CONNECTIONS_MIN: u64 = 16;
/// Slots are 32 bits wide; this leaves room.
const CONNECTIONS_MAX: u64 = 1 << 30;
/// Standard streams, the data directory's lock, and slack for accepting in order to refuse.
const STANDARD_FDS: u64 = 32;
const SPOOL_FDS: u64 = 16;
/// Threads that read history from disk.
pub const SPOOL_READERS: u32 = 4;
/// Queries that a store beside the spool is asked at once, each on a connection of its own.
pub const STORE_QUERIES: u32 = 8;
/// A block of history as rows and as events; what counts and tops gather is in their own line.
const STORE_QUERY_BYTES: u64 = 2 << 20;
/// Connections to the admin listener, and its own descriptors.
const ADMIN_FDS: u64 = 80;
/// Ring or epoll, eventfd, timer, and a descriptor being handed on.
const SHARD_FDS: u64 = 8;

#[cfg(test)]
mod tests {
    use super::super::namespace::Access;
    use super::*;

    const GIB: u64 = 1 << 30;

    fn facts(shards: u32, descriptors: u64, memory_bytes: u64) -> Facts {
        Facts { shards, descriptors, memory_bytes }
    }

    #[test]
    fn lines_never_add_up_to_more_than_the_memory() {
        let mut refused = 0;
        for shards in [1, 2, 3, 8, 64, 256] {
            for memory in [64 << 20, 256 << 20, 512 << 20, GIB, 3 * GIB, 24 * GIB, 1024 * GIB] {
                for (connections, history, outbox, tls) in [
                    (0, 256 << 20, 1 << 20, false),
                    (1, 0, 1 << 10, true),
                    (100_000, 1 << 50, 1 << 30, true),
                ] {
                    let mut config = Config::default();
                    config.limits.connections_max = connections;
                    config.limits.history_bytes_max = history;
                    config.limits.outbox_bytes_max = outbox;
                    config.tls.cert = if tls { "x".into() } else { "".into() };
                    let presence = if tls { Access::Token } else { Access::Nobody };
                    config.namespaces.entry("default".into()).or_default().presence = presence;
                    let Ok(budget) = Budget::derive(&config, facts(shards, 1 << 20, memory)) else {
                        refused += 1;
                        continue;
                    };
                    assert!(budget.total_bytes() <= memory / 4 * 3);
                    assert_eq!(budget.shard.presence_bytes > 0, tls, "planned where it is on");
                    assert_eq!(budget.shard.connections_max * shards, budget.connections_max);
                    assert!(budget.shard.receive_buffers.is_power_of_two());
                    assert!(connections == 0 || budget.connections_max <= connections.max(shards));
                }
            }
        }
        assert!(refused > 0, "64 MiB for 256 shards cannot fit");
    }

    #[test]
    fn the_tightest_of_configuration_descriptors_and_memory_caps_connections() {
        let check = |connections_max, facts, reason, low, high| {
            let mut config = Config::default();
            config.limits.connections_max = connections_max;
            let budget = Budget::derive(&config, facts).unwrap();
            assert_eq!(budget.cap_reason, reason);
            let range = low..=high;
            assert!(range.contains(&budget.connections_max), "{}", budget.connections_max);
        };
        let big = facts(2, 1 << 20, 24 * GIB);
        check(5_000, big, CapReason::Configured, 5_000, 5_000);
        check(0, big, CapReason::Descriptors, 1_000_000, 1 << 20);
        check(0, facts(2, 1_024, 24 * GIB), CapReason::Descriptors, 700, 1_000);
        check(50_000, facts(2, 1_024, 24 * GIB), CapReason::Descriptors, 700, 1_000);
        check(0, facts(1, 1 << 20, 512 << 20), CapReason::Memory, 5_000, 50_000);
    }

    #[test]
    fn every_holder_of_the_ledger_has_a_line() {
        let mut config = Config::default();
        config.tls.cert = "x".into();
        let budget = Budget::derive(&config, facts(2, 20_000, 24 * GIB)).unwrap();
        let lines: Vec<_> = budget.shard_lines.iter().map(|line| line.name).collect();
        let holders: Vec<_> = HOLDERS.iter().map(|row| row.name).collect();
        assert_eq!(lines, holders);
        let text = budget.to_string();
        assert!(holders.iter().all(|name| text.contains(name)), "{text}");
    }

    #[test]
    fn a_store_has_a_line_when_it_is_configured() {
        let mut config = Config::default();
        let planned = |config: &Config| {
            let budget = Budget::derive(config, facts(2, 20_000, 24 * GIB)).unwrap();
            assert!(budget.total_bytes() <= budget.memory_bytes);
            let lines = budget.process_lines.into_iter();
            lines.map(|line| (line.name, line.bytes())).collect::<Vec<_>>()
        };
        let before = planned(&config).len();
        config.storage.clickhouse.url = "http://db:8123".into();
        config.storage.parquet.location = "cold".into();
        let lines = planned(&config);
        assert_eq!(lines.len(), before + 2, "{lines:?}");
        let parquet = lines.iter().find(|(name, _)| *name == ledger::PARQUET).unwrap();
        assert!(parquet.1 > config.storage.parquet.file_bytes);
    }

    #[test]
    fn a_machine_that_is_too_small_is_refused_with_a_remedy() {
        let check = |facts, expected: &str| {
            let error = Budget::derive(&Config::default(), facts).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        };
        check(facts(1, 128, GIB), "ulimit -n");
        check(facts(1, 20_000, 64 << 20), "--shards");
    }

    #[test]
    fn a_body_of_the_largest_legal_size_always_fits() {
        let mut config = Config::default();
        config.limits.body_bytes_max = 64 << 20;
        let budget = Budget::derive(&config, facts(2, 20_000, GIB)).unwrap();
        assert!(budget.shard.body_bytes >= 64 << 20);
    }
}
