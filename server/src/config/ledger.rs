//! Who holds memory: the one list of names that the budget plans with and the run-time ledger
//! reports with, so that plan and fact can be laid side by side.

/// A holder of memory in a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Holder {
    Connections,
    KernelSockets,
    Rings,
    ReceiveBuffers,
    PartialInput,
    Outboxes,
    Frames,
    Channels,
    Histories,
    Dedupe,
    Presence,
    Lanes,
    Acks,
    StorageRing,
    H2Sessions,
    TlsSessions,
    Bodies,
    Queries,
    Recoveries,
    Compression,
    Baseline,
}

/// What a holder is called and what it holds.
#[derive(Debug, Clone, Copy)]
pub struct HolderRow {
    /// The holder.
    pub holder: Holder,
    /// Metric label and JSON key.
    pub name: &'static str,
    /// Part of the process's resident set; kernel memory is not, but counts against a cgroup.
    pub resident: bool,
    /// What it is.
    pub help: &'static str,
}

/// Every holder, in the order of the enum.
pub const HOLDERS: [HolderRow; 21] = [
    row(Holder::Connections, "connections", true, "connection, session and subscription state"),
    row(Holder::KernelSockets, "kernel_sockets", false, "sockets in the kernel, buffers empty"),
    row(Holder::Rings, "rings", true, "io_uring submission and completion queues"),
    row(Holder::ReceiveBuffers, "receive_buffers", true, "buffers the kernel receives into"),
    row(Holder::PartialInput, "partial_input", true, "heads and frames that are not complete yet"),
    row(Holder::Outboxes, "outboxes", true, "events that wait for slow subscribers"),
    row(Holder::Frames, "frames", true, "shared frames and flat runs on their way out"),
    row(Holder::Channels, "channels", true, "channel state and interest"),
    row(Holder::Histories, "histories", true, "events kept for resume"),
    row(Holder::Dedupe, "dedupe", true, "ids remembered to recognise duplicates"),
    row(Holder::Presence, "presence", true, "members of channels: who is in them"),
    row(Holder::Lanes, "lanes", true, "batches between this shard and the others"),
    row(Holder::Acks, "acks", true, "batch slots of publishes that wait for acknowledgement"),
    row(Holder::StorageRing, "storage_ring", true, "events on their way to the spool"),
    row(Holder::H2Sessions, "h2_sessions", true, "HTTP/2 connection state"),
    row(Holder::TlsSessions, "tls_sessions", true, "TLS connection state and ciphertext"),
    row(Holder::Bodies, "bodies", true, "request bodies that are being received"),
    row(Holder::Queries, "queries", true, "counts and tops under way, and answers kept a second"),
    row(Holder::Recoveries, "recoveries", true, "events read back for clients that missed them"),
    row(Holder::Compression, "compression", true, "compressors and the inflater of WebSockets"),
    row(Holder::Baseline, "baseline", true, "the shard's thread, stack and allocator slack"),
];

const fn row(holder: Holder, name: &'static str, resident: bool, help: &'static str) -> HolderRow {
    HolderRow { holder, name, resident, help }
}

/// Holders that exist once, beside the shards. The kernel counts the first, the spool the second.
pub const PROGRAM: &str = "program";
pub const SPOOL_WRITER: &str = "spool_writer";
pub const SPOOL_READERS: &str = "spool_readers";
pub const CONTROL: &str = "control";
/// Answers of a store beside the spool on their way to the shards.
pub const STORE_QUERIES: &str = "store_queries";
/// Events in memory for stores beside the spool, and batches on their way to them.
pub const SINKS: &str = "sinks";
/// Events that are being written into a Parquet file, and the file.
pub const PARQUET: &str = "parquet";

impl Holder {
    /// This holder's row.
    pub fn row(self) -> &'static HolderRow {
        &HOLDERS[self as usize]
    }
}

/// Bytes held by each holder of one shard, as counted at run time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ledger([u64; HOLDERS.len()]);

impl Ledger {
    /// Sets what a holder holds.
    pub fn set(&mut self, holder: Holder, bytes: u64) {
        self.0[holder as usize] = bytes;
    }

    /// What a holder holds.
    pub fn get(&self, holder: Holder) -> u64 {
        self.0[holder as usize]
    }

    /// Everything that is part of the resident set.
    pub fn resident_bytes(&self) -> u64 {
        HOLDERS.iter().filter(|row| row.resident).map(|row| self.get(row.holder)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_holder_has_its_own_row_and_kernel_memory_is_not_resident() {
        let mut ledger = Ledger::default();
        for (index, row) in HOLDERS.iter().enumerate() {
            assert_eq!(row.holder as usize, index);
            assert_eq!(HOLDERS.iter().filter(|other| other.name == row.name).count(), 1);
            ledger.set(row.holder, 1 << index);
        }
        let kernel = ledger.get(Holder::KernelSockets);
        assert_eq!(ledger.resident_bytes() + kernel, (1 << HOLDERS.len()) - 1);
    }
}
