//! What a shard tells about itself: counters, gauges, the ledger, and who is slow and why.
//!
//! Built about once a second and on demand; walking all connections costs what it costs there, not
//! on the paths that count.

use super::connection::{Connection, EndpointId};
use super::outbox::SendState;
use super::session::Session;
use super::{ConnectionReport, Shard};
use crate::config::ledger::Holder;

use crate::driver::ConnId;
use crate::mesh::Mesh;
use crate::metrics::ShardSnapshot;

/// Channels named in a connection's report.
const CHANNELS_SHOWN: usize = 4;

impl Shard {
    /// Everything that is counted, with gauges and ledger as they are now. `driver` is what the
    /// driver holds: receive buffers, rings, slots.
    pub fn snapshot(
        &mut self,
        engine: &'static str,
        driver: &[(&'static str, usize)],
    ) -> ShardSnapshot {
        let mut snapshot = self.stats;
        snapshot.engine = engine;
        let gauges = &mut snapshot.gauges;
        let mut sessions = 0;
        let mut h2 = 0;
        let mut tls = 0;
        let mut outboxes = 0;
        let mut overhead = 0;
        for connection in self.connections.iter() {
            match &connection.session {
                Session::Http1(_) => gauges.connections_http1 += 1,
                Session::Http2(_) => gauges.connections_http2 += 1,
                Session::WebSocket(_) => gauges.connections_websocket += 1,
                Session::Client(_) => gauges.connections_client += 1,
                Session::Sse => gauges.connections_sse += 1,
                Session::Silent => {}
            }
            match &connection.session {
                Session::Http2(http2) => h2 += http2.memory_bytes(),
                session => sessions += session.memory_bytes(),
            }
            gauges.connections_blocked += u64::from(connection.outbox.state == SendState::Blocked);
            outboxes += connection.outbox.queued_bytes();
            overhead += connection.outbox.backlog.as_ref().map_or(0, |b| b.memory_bytes());
            tls += connection.tls.as_ref().map_or(0, |tls| tls.session.memory_bytes());
            sessions += connection.subscriber.as_ref().map_or(0, |s| s.memory_bytes());
        }
        for stream in self.streams.iter() {
            outboxes += stream.outbox.queued_bytes();
        }
        // What a clean stop writes down, so that the next run gives none of these out again.
        let used = u32::try_from(self.home.incarnation_next().saturating_sub(1));
        self.ring.incarnation_used(used.unwrap_or(u32::MAX));
        let home = self.home.memory();
        gauges.connections = self.connections.len() as u64;
        gauges.queue_depth = self.mesh.depth() as u64;
        gauges.subscriptions = self.local.subscriptions() as u64;
        gauges.channels = home.channels as u64;
        gauges.publishes_parked = self.publishes.parked_len() as u64;
        gauges.outbox_bytes = outboxes as u64;
        let ledger = &mut snapshot.ledger;
        let connections = self.connections.memory_bytes()
            + self.streams.memory_bytes()
            + self.callers_bytes()
            + sessions
            + self.wheel.memory();
        ledger.set(Holder::Connections, connections as u64);
        ledger.set(Holder::Outboxes, (outboxes + overhead) as u64);
        let turn = self.frames.memory_bytes()
            + self.copied_bytes
            + self.sends.capacity() * size_of::<super::Send>()
            + (self.dirty.capacity() + self.again.capacity()) * size_of::<u32>();
        ledger.set(Holder::Frames, turn as u64);
        ledger.set(Holder::Channels, home.channels_bytes + self.local.memory_bytes() as u64);
        ledger.set(Holder::Presence, self.members.memory_bytes() as u64);
        ledger.set(Holder::Histories, home.history_bytes);
        ledger.set(Holder::Dedupe, home.dedupe_bytes);
        ledger.set(Holder::Lanes, Mesh::lane_bytes_per_shard(self.mesh.shards()) as u64);
        ledger.set(Holder::Acks, self.homeside.memory_bytes() as u64);
        ledger.set(Holder::StorageRing, self.ring.unsynced_bytes() / self.mesh.shards() as u64);
        ledger.set(Holder::H2Sessions, h2 as u64);
        ledger.set(Holder::TlsSessions, tls as u64);
        ledger.set(Holder::Bodies, self.publishes.memory_bytes() as u64);
        ledger.set(Holder::Queries, self.aggregates.memory_bytes() as u64);
        ledger.set(Holder::Recoveries, self.recoveries.memory_bytes() as u64);
        let compression = self.frames.coders.memory_bytes() + self.inflater.memory_bytes();
        ledger.set(Holder::Compression, compression as u64);
        ledger.set(Holder::PartialInput, self.partial_bytes as u64);
        for (name, bytes) in driver {
            let holder = match *name {
                "driver receive buffers" => Holder::ReceiveBuffers,
                "driver queues" => Holder::Rings,
                _ => Holder::Connections,
            };
            ledger.set(holder, ledger.get(holder) + *bytes as u64);
        }
        snapshot
    }

    /// The connections that hold most, at most `limit`, with the reason in words; the peer's
    /// address is the driver's to add.
    pub fn report_connections(&mut self, limit: usize) -> Vec<(ConnId, ConnectionReport)> {
        let mut held: Vec<(usize, u32)> = self
            .connections
            .iter()
            .map(|connection| (connection.outbox.queued_bytes(), connection.id.slot))
            .collect();
        let top = limit.min(held.len());
        if top < held.len() {
            held.select_nth_unstable_by(top, |a, b| b.cmp(a));
            held.truncate(top);
        }
        held.sort_unstable_by(|a, b| b.cmp(a));
        held.into_iter().filter_map(|(_, slot)| self.report(slot)).collect()
    }

    fn report(&mut self, slot: u32) -> Option<(ConnId, ConnectionReport)> {
        let endpoint = EndpointId::connection(slot);
        let keys: Vec<u32> = self
            .subscriber_mut(endpoint)
            .map(|subscriber| subscriber.keys().iter().map(|key| key.channel).collect())
            .unwrap_or_default();
        let shown = keys.iter().take(CHANNELS_SHOWN);
        let channels = shown
            .filter_map(|channel| self.local.peek(*channel))
            .map(|channel| channel.name.to_string())
            .collect();
        let now = self.now.ms;
        let connection = self.connections.slot(slot)?;
        let backlog = connection.outbox.backlog.as_ref();
        let report = ConnectionReport {
            id: format!("{}.{}", connection.id.slot, connection.id.generation),
            peer: None,
            protocol: connection.session.name(),
            channels,
            queued_bytes: connection.outbox.queued_bytes() as u64,
            queued_events: backlog.map_or(0, |backlog| backlog.events() as u64),
            blocked_ms: backlog.map(|backlog| now.saturating_sub(backlog.since_ms)),
            age_ms: now.saturating_sub(connection.accepted.ms()),
            silent_ms: now.saturating_sub(connection.heard.ms()),
            sent_bytes: connection.sent_bytes,
            dropped_events: u64::from(connection.dropped_events),
            why: why(connection),
        };
        Some((connection.id, report))
    }
}

fn why(connection: &Connection) -> &'static str {
    match (&connection.closing, connection.outbox.state) {
        (Some(_), _) => "closing: its last bytes are on their way",
        (None, SendState::Blocked) => {
            "its socket is full: the client reads more slowly than we send"
        }
        (None, SendState::Idle) => "keeps up: nothing waits for it",
    }
}
