//! Why things are dropped: the reasons of `shardcast_drops_total`, each with what becomes of what
//! was dropped. Every one is counted somewhere, or `cargo xtask tidy` says so.

/// Why something was dropped. The label of `shardcast_drops_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DropReason {
    DropOldest,
    Slow,
    PeerGone,
    HoleFound,
    ShutdownUnsent,
    Overloaded,
    StorageFull,
    Invalid,
    PresenceFull,
}

/// How one reason is said.
#[derive(Debug, Clone, Copy)]
pub struct DropRow {
    /// The reason.
    pub reason: DropReason,
    /// The label value.
    pub name: &'static str,
    /// What was dropped, and whether it is recovered or final.
    pub help: &'static str,
}

/// Every reason, in the order of the enum.
pub const DROP_REASONS: [DropRow; 9] = [
    drop_row(
        DropReason::DropOldest,
        "drop_oldest",
        "events taken out of a slow subscriber's outbox; it got a notice with the range and can \
         fetch them by reconnecting while history lasts",
    ),
    drop_row(
        DropReason::Slow,
        "slow",
        "events that waited for a subscriber closed as slow; recovered when it resumes",
    ),
    drop_row(
        DropReason::PeerGone,
        "peer_gone",
        "connections that went away while bytes were on their way; recovered when they resume",
    ),
    drop_row(
        DropReason::HoleFound,
        "hole_found",
        "subscriptions closed because continuity could not be proved; recovered when they resume",
    ),
    drop_row(
        DropReason::ShutdownUnsent,
        "shutdown_unsent",
        "connections that still had bytes to get when the drain time was over; recovered when they \
         resume",
    ),
    drop_row(
        DropReason::Overloaded,
        "overloaded",
        "publishes refused because a lane stayed full; the publisher was told which and retries",
    ),
    drop_row(
        DropReason::StorageFull,
        "storage_full",
        "publishes refused because the spool cannot store; the publisher was told and retries",
    ),
    drop_row(
        DropReason::Invalid,
        "invalid",
        "publishes refused as invalid or not allowed; final, the publisher was told why",
    ),
    drop_row(
        DropReason::PresenceFull,
        "presence_full",
        "clients subscribed but not listed as members, since the channel or the table is full; final \
         until they subscribe again",
    ),
];

const fn drop_row(reason: DropReason, name: &'static str, help: &'static str) -> DropRow {
    DropRow { reason, name, help }
}
