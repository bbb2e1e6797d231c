//! What a seed draws: how large the world is, what goes wrong in it and how often.
//!
//! Swarm: each run has some faults often, some seldom and some not at all, because a world in which
//! everything goes wrong never gets far enough for the rare things.

use super::chance::Chance;
use server::config::Config;
use server::config::namespace::{Access, Deliver, Namespace, OutboxPolicy};
use std::fmt;

/// See the module. Rates are times in a thousand faults, or in a hundred thousand steps.
#[derive(Debug, Clone)]
pub struct Options {
    pub ticks: u64,
    pub shards_max: u64,
    pub publishers: u64,
    pub publishers_h2: u64,
    pub subscribers: u64,
    pub lurkers: u64,
    pub channels: u64,
    /// Faults of any kind in a hundred thousand steps.
    pub faults: u64,
    pub cuts: u64,
    pub stalls: u64,
    pub kills: u64,
    pub power_cuts: u64,
    pub restarts: u64,
    pub disk_full: u64,
    pub sync_fails: u64,
    pub sync_dead: u64,
    pub wall_jumps: u64,
    pub short_writes: u64,
    pub down_cap: u64,
    pub event_bytes: u64,
    pub round_bytes_max: usize,
    pub ring_bytes: Option<u64>,
    pub segment_bytes: u64,
    pub outbox_bytes: u32,
    /// All outboxes of a shard together.
    pub pool_bytes: usize,
    pub history_small: u32,
    pub history_age_s: u32,
    pub history_bytes: u64,
    pub dedupe_ids: u32,
    pub connections_max: u32,
    pub heartbeat_s: u32,
    pub publish_wait_s: u32,
    pub slow_steps: u64,
    pub policies: [OutboxPolicy; 4],
    pub completions: Completions,
    /// What one turn of a shard copies for its sends.
    pub frame_bytes: usize,
    /// Clients of the client protocol.
    pub clients: u64,
    /// What one of them may get from the spool, in events.
    pub recovery_events: u32,
}

/// What the ring does beside what it must. Off in half the worlds, which run as they did before
/// there was any of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Completions {
    /// Completions of a turn come in any order, also those of one connection.
    pub reordered: bool,
    /// Sends in a thousand that take less than there is room for.
    pub short_sends: u64,
    /// Operations in a thousand that the kernel gives up.
    pub cancelled: u64,
}

impl Completions {
    fn draw(chance: &mut Chance) -> Self {
        if chance.per_mille(500) {
            return Self::default();
        }
        Self {
            reordered: chance.per_mille(700),
            short_sends: chance.pick(&[0, 5, 50, 500]),
            cancelled: chance.pick(&[0, 1, 10]),
        }
    }
}

impl Options {
    /// Draws a world.
    pub fn draw(chance: &mut Chance, ticks: u64) -> Self {
        let policy = |chance: &mut Chance| {
            chance.pick(&[OutboxPolicy::Disconnect, OutboxPolicy::DropOldest])
        };
        // Off in half the worlds.
        let rate = |chance: &mut Chance, max: u64| chance.range(0, 2) * chance.range(1, max + 1);
        Self {
            ticks,
            shards_max: chance.range(1, 5),
            publishers: chance.range(1, 4),
            publishers_h2: chance.range(0, 3),
            subscribers: chance.range(3, 14),
            lurkers: chance.range(0, 3),
            channels: chance.range(1, 4),
            faults: chance.pick(&[0, 200, 600, 2_000]),
            cuts: rate(chance, 1_000),
            stalls: rate(chance, 1_000),
            kills: rate(chance, 100),
            power_cuts: rate(chance, 100),
            restarts: rate(chance, 60),
            disk_full: rate(chance, 200),
            sync_fails: rate(chance, 100),
            sync_dead: rate(chance, 20),
            wall_jumps: rate(chance, 50),
            short_writes: chance.pick(&[0, 0, 4]),
            down_cap: chance.pick(&[400, 2_000, 16_000, 200_000]),
            event_bytes: chance.pick(&[40, 400, 4_000]),
            round_bytes_max: chance.pick(&[300, 8_000, 1 << 20]),
            ring_bytes: chance.pick(&[None, None, Some(2_000), Some(50_000)]),
            segment_bytes: chance.pick(&[4 << 10, 64 << 10, 256 << 10]),
            outbox_bytes: chance.pick(&[2_000, 20_000, 1 << 20]),
            pool_bytes: chance.pick(&[1 << 30, 1 << 30, 6_000]),
            history_small: chance.pick(&[0, 1, 5, 40]),
            history_age_s: chance.pick(&[3_600, 3_600, 5]),
            history_bytes: chance.pick(&[64 << 20, 64 << 20, 64 << 10]),
            dedupe_ids: chance.pick(&[100_000, 100_000, 10]),
            connections_max: chance.pick(&[1_000, 1_000, 24]),
            heartbeat_s: chance.pick(&[2, 10, 25]),
            publish_wait_s: chance.pick(&[1, 5]),
            slow_steps: chance.pick(&[0, 0, 300]),
            policies: [policy(chance), policy(chance), policy(chance), policy(chance)],
            // Last, so that what stands above is drawn as before.
            completions: Completions::draw(chance),
            frame_bytes: chance.pick(&[1 << 30, 1 << 30, 1_000]),
            clients: chance.range(0, 6),
            recovery_events: chance.pick(&[10_000, 10_000, 200, 0]),
        }
    }

    /// Writes it into a configuration.
    pub fn apply(&self, config: &mut Config) {
        let limits = &mut config.limits;
        limits.outbox_bytes_max = self.outbox_bytes;
        limits.history_bytes_max = self.history_bytes;
        limits.dedupe_ids_max = self.dedupe_ids;
        limits.connections_max = self.connections_max;
        limits.heartbeat_s = self.heartbeat_s;
        limits.publish_wait_s = self.publish_wait_s;
        limits.message_bytes_max = 64 << 10;
        limits.recovery_events_max = self.recovery_events;
        // Events here are short; compression is to happen all the same.
        limits.ws_deflate_bytes_min = 20;
        limits.channels_max = 10_000;
        config.drain_time_s = 2;
        config.spool.segment_bytes = self.segment_bytes;
        config.spool.checkpoint_bytes = self.segment_bytes / 2;
        let base = Namespace { history_age_s: self.history_age_s, ..Namespace::default() };
        // Where there is nobody to be listed nothing is planned for it.
        let (presence, join_leave) = match self.clients {
            0 => (Access::Nobody, false),
            _ => (Access::Anonymous, true),
        };
        let [default, dur, mem, tiny] = self.policies;
        let namespaces = [
            ("default", Namespace { outbox_policy: default, presence, join_leave, ..base.clone() }),
            ("dur", Namespace { outbox_policy: dur, deliver: Deliver::Durable, ..base.clone() }),
            ("mem", Namespace { outbox_policy: mem, store: false, ..base.clone() }),
            (
                "tiny",
                Namespace {
                    outbox_policy: tiny,
                    history_size: self.history_small,
                    deliver: if self.history_small == 5 { Deliver::Durable } else { Deliver::Live },
                    ..base
                },
            ),
        ];
        config.namespaces =
            namespaces.into_iter().map(|(name, namespace)| (name.to_owned(), namespace)).collect();
    }

    /// The names of every channel.
    pub fn channel_names(&self) -> Vec<String> {
        let of = |namespace: &'static str| {
            (0..self.channels).map(move |at| match namespace {
                "default" => format!("c{at}"),
                namespace => format!("{namespace}:c{at}"),
            })
        };
        ["default", "dur", "mem", "tiny"].into_iter().flat_map(of).collect()
    }

    /// True if the channel's events go to the spool.
    pub fn is_stored(channel: &str) -> bool {
        !channel.starts_with("mem:")
    }

    /// True if nothing is ever forgotten for its age or for want of memory.
    pub fn remembers_all(&self) -> bool {
        self.history_age_s >= 3_600 && self.history_bytes >= 64 << 20 && self.dedupe_ids >= 100_000
    }

    /// Events of a channel that are retained at least.
    pub fn history_of(&self, channel: &str) -> u64 {
        if channel.starts_with("tiny:") { u64::from(self.history_small) } else { 1_000 }
    }

    /// The outbox policy of a channel.
    pub fn policy_of(&self, channel: &str) -> OutboxPolicy {
        let at = match channel.split_once(':').map(|(namespace, _)| namespace) {
            None => 0,
            Some("dur") => 1,
            Some("mem") => 2,
            Some(_) => 3,
        };
        self.policies[at]
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{self:?}");
        let inner = text.trim_start_matches("Options { ").trim_end_matches(" }");
        f.write_str(inner)
    }
}
